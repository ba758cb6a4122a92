"""Does the transit fit find what was put in, and is it as sure as it may be? Simulated planets; last line JSON.

    python benchmarks/recovery.py [--planets 1000] [--mcmc 5] [--seed 1] [--workers 2] [--exact 0] [--world default]

First pulls, (estimate - truth) / standard deviation, of depths, times and limb darkening of planets of the light-curve
path, a quarter of a second each: wanted are means of 0 +- .1 and standard deviations of 1 +- .1. The rank of the truth
in the posterior is to be uniform (simulation-based calibration), of all of these and of a/Rs, the squared impact
parameter and the inclination, which are bounded. The fit's priors are a little wider than the simulator's scatters;
with `--exact 1` those of orbits and drifts are the same. In another `--world` the fit is given that world's offsets and
scatters, as the oracle of benchmarks/worlds.py is.

Then the posterior of a few planets by Markov chains, some minutes each, against the fit's Gaussian. Noise and priors
are held as the fit ended with; ten parameters of transit and limb are sampled, and at each place all others (depths,
levels, drift, common noise) are integrated out, the model being linearised anew. Moments of depths are those of the
conditional Gaussians' mixture, so that the effective sample size is that of the chain: samples over the longest
autocorrelation time of the ten parameters and of the depths' conditional means. The integral holds a volume, the
product over 283 bins of how well each depth is known; a peak knows nothing of it. `volume held` weighs it away: what
is left is curvature and the shape of the prior of b2.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import emcee
import numpy as np
from fitted_planets import Setting, known_options, known_star, open_pool, side_by_side, simulated
from numpy.polynomial import legendre
from scipy.stats import chisquare, norm

from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.simulator.line_shape import smoothing_of_bins
from spectramind_nb.simulator.population import PlanetSpectrum, SimulatedPlanet, planet_stream
from spectramind_nb.simulator.worlds import DEFAULT_WORLD, World, find_world
from spectramind_nb.transits.fit import averaged, converge, impact_priors, weigh_drifts
from spectramind_nb.transits.fit_priors import SOLAR_K, FitOptions, limb_priors
from spectramind_nb.transits.fit_problem import Equations, FitProblem, State, equations, local_prior
from spectramind_nb.transits.fit_report import report
from spectramind_nb.transits.impact_parameter import impact_posterior, with_impact_prior
from spectramind_nb.transits.model import blocks_of
from spectramind_nb.transits.normal_equations import posterior
from spectramind_nb.transits.systematics import airs_coordinate

LIMB = tuple(limb_priors(SOLAR_K))
RANKED = ("fgs1_depth", "airs_depth_mean", "t0_h", "fgs1_u1", "airs_u1")  # of the first visit


def true_values(planet: SimulatedPlanet) -> dict[str, float]:
    """Shared parameters that the simulator drew, as the fit has them: a quadratic law, linear over wavelength."""
    orbit, line = planet.orbits[0], np.column_stack([np.ones(N_BINS - 1), airs_coordinate()])
    airs, *_ = np.linalg.lstsq(line, planet.limb[1:], rcond=None)
    value = {"sma": orbit.sma, "b2": orbit.impact**2}
    value |= dict(zip(LIMB, (*planet.limb[0], *airs.T.ravel(), 0.0, 0.0), strict=True))
    for visit, (orbit, delay_h) in enumerate(zip(planet.orbits, planet.fgs1_delay_h, strict=True)):
        value |= {f"t0_h[{visit}]": orbit.t0_h, f"fgs1_delay_h[{visit}]": delay_h}
    return value


@dataclass(frozen=True)
class Recovered:
    """What a planet's fit made of the truth."""

    pulls: dict[str, np.ndarray]  # one or more of each kind
    ranks: dict[str, float]  # 0 to 1
    hard: bool  # less than an hour of baseline, or grazing
    edge_on: bool  # by the star table: a world with `beyond_90: clip` piles b2 up at 0 there
    visits: int
    impact: float  # fitted
    truth: dict[str, float]


def draw_ranks(
    mean: np.ndarray,
    covariance: np.ndarray,
    prior: tuple[float, float],
    table: tuple[float, float],
    truth: dict[str, float],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Shares of draws from the posterior below the truth, of a/Rs, b2 and the inclination that follows from both.

    `mean` (2,) and `covariance` (2, 2) are those of the fit's Gaussian; `prior` and `table` as `with_impact_prior`.
    """
    slope = covariance[0, 1] / covariance[1, 1]
    b, probability = impact_posterior((float(mean[1]), float(covariance[1, 1])), prior, table)
    b2 = rng.choice(b**2, 999, p=probability)
    rest = np.sqrt(covariance[0, 0] - slope * covariance[0, 1])
    sma = mean[0] + slope * (b2 - mean[1]) + rest * rng.normal(size=999)
    below = {"sma": sma < truth["sma"], "b2": b2 < truth["b2"]}
    below["i"] = np.sqrt(b2) / sma > np.sqrt(truth["b2"]) / truth["sma"]  # cos i falls as i grows
    return {name: float(np.mean(values)) for name, values in below.items()}


def given(planet: SimulatedPlanet, exact: int, world: World) -> tuple[dict[str, float], FitOptions]:
    """The star table's row and the options with which a planet is fitted."""
    if world == DEFAULT_WORLD and not exact:
        return planet.system.row(), FitOptions()
    return known_star(planet.system.row(), world), known_options(world)


def recover(seed: int, number: int, drawn: PlanetSpectrum, exact: int, world: World) -> Recovered:
    """Fit a planet and compare; depths with those that the line shape leaves in the light curves."""
    planet, features = simulated(seed, number, drawn, False, world)
    truth, visits, depths = true_values(planet), len(planet.orbits), planet.spectrum.copy()
    if width := world.optics.line_shape:
        depths[1:] = smoothing_of_bins(planet, width) @ depths[1:]
    star, options = given(planet, exact, world)
    problem, state, now, *_ = converge(blocks_of(features), star, options)
    mean, wide = averaged(problem, now.reduced, *weigh_drifts(problem, now.reduced, state.std))
    place = problem.layout.place
    prior, table = impact_priors(problem, state, star)
    fit = report(problem, state, now, *with_impact_prior(mean, wide, place["b2"], prior, table), {})
    two = [place["sma"], place["b2"]]
    error, covariance = fit.depth - depths, fit.covariance
    pull = {name: (fit.shared[name] - value) / fit.shared_std[name] for name, value in truth.items()}
    pulls = {name: np.array([pull[f"{name}[{v}]"] for v in range(visits)]) for name in ("t0_h", "fgs1_delay_h")}
    pulls["fgs1_depth"] = error[:1] / np.sqrt(covariance[0, 0])
    pulls["airs_depth_mean"] = error[1:].mean(keepdims=True) / np.sqrt(covariance[1:, 1:].mean())
    pulls["airs_depth_bins"] = error[1:] / np.sqrt(np.diag(covariance)[1:])
    pulls |= {name: np.array([pull[name]]) for name in (*LIMB, "sma", "b2")}
    rng = planet_stream(seed, "bank", number, 9)
    ranks = draw_ranks(mean[two], wide[np.ix_(two, two)], prior, table, truth, rng)
    ranks |= {name: float(norm.cdf(-pulls[name][0])) for name in RANKED}
    impact = fit.quality["impact"]
    hard = bool(fit.quality["baseline_h"] < 1 or impact > 1 - np.sqrt(fit.depth[1:].mean().clip(0)))
    return Recovered(pulls, ranks, hard, star["i"] > 89.75, visits, impact, truth)


def pull_figures(pulls: Sequence[np.ndarray], rng: np.random.Generator) -> dict[str, float]:
    """Mean and standard deviation of all pulls, their standard errors by drawing planets, and the robust deviation."""
    sums = np.array([[len(p), p.sum(), (p**2).sum()] for p in pulls])
    drawn = np.array([sums[rng.integers(len(sums), size=len(sums))].sum(axis=0) for _ in range(500)])
    count, total, squares = np.vstack([sums.sum(axis=0), drawn]).T
    mean, std = total / count, np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0))
    robust = 1.4826 * np.median(np.abs(np.concatenate(pulls)))
    return {"mean": mean[0], "mean_se": mean[1:].std(), "sd": std[0], "sd_se": std[1:].std(), "robust_sd": robust}


def print_pulls(title: str, rows: Sequence[Recovered], rng: np.random.Generator) -> dict[str, float]:
    """Print a table of pulls; returns its figures."""
    print(f"\n{title}: {len(rows)} planets\n{'pull':16}   mean +- SE       sd +- SE      by median  wanted")
    figures: dict[str, float] = {}
    for name in rows[0].pulls if rows else ():
        found = pull_figures([row.pulls[name] for row in rows], rng)
        fine = "yes" if abs(found["mean"]) <= 0.1 and abs(found["sd"] - 1) <= 0.1 else "NO"
        fine = "-" if name in ("sma", "b2") or "slope" in name or "u3" in name else fine
        middle, spread = (f"{found[key]:6.3f} +- {found[f'{key}_se']:.3f}" for key in ("mean", "sd"))
        print(f"{name:16} {middle}  {spread}  {found['robust_sd']:.3f}      {fine}")
        figures |= {f"{name}_{key}": float(value) for key, value in found.items()}
    return figures


def print_ranks(title: str, rows: Sequence[Recovered]) -> dict[str, float]:
    """Print histograms of ranks; returns p values of their uniformity."""
    print(f"\n{title}: ranks of the truth, {len(rows)} planets")
    figures = {}
    for name in rows[0].ranks if rows else ():
        counts, _ = np.histogram([row.ranks[name] for row in rows], 10, (0, 1))
        chi2, p = chisquare(counts)
        print(f"{name:16} {' '.join(f'{count:4}' for count in counts)}   chi^2 {chi2:.1f} of 9, p {p:.4f}")
        figures[f"{name}_rank_p"] = float(p)
    return figures


def recovery(rows: Sequence[Recovered], seed: int) -> dict[str, float]:
    """Print the tables of the first part; returns their figures."""
    rng, hard, easy = np.random.default_rng(seed), [r for r in rows if r.hard], [r for r in rows if not r.hard]
    figures = {"planets": float(len(rows)), "hard_planets": float(len(hard))}
    titles = ("All", "Baseline of an hour, not grazing", "Baseline below an hour, or grazing")
    for prefix, title, part in zip(("", "easy_", "hard_"), titles, (rows, easy, hard), strict=True):
        found = print_pulls(title, part, rng) | print_ranks(title, part)
        figures |= {f"{prefix}{key}": value for key, value in found.items()}
    found = print_ranks("Not edge-on by the star table (i < 89.75)", [row for row in rows if not row.edge_on])
    figures |= {f"inclined_{key}": value for key, value in found.items()}
    for name in ("airs_u1_slope", "airs_u2_slope"):
        scatter = float(np.std([row.truth[name] for row in rows]))
        print(f"true {name}: scatter {scatter:.5f} over planets, by clipping alone; the fit's prior has .003")
    return figures


def components() -> np.ndarray:  # (5, 283)
    """FGS1 depth, mean of AIRS, and coefficients of the first three Legendre polynomials over AIRS wavelengths."""
    rows = np.zeros((5, N_BINS))
    rows[0, 0], rows[1, 1:] = 1, 1 / (N_BINS - 1)
    rows[2:, 1:] = np.linalg.pinv(legendre.legvander(airs_coordinate(), 3))[1:]
    return rows


COMPONENTS = ("fgs1", "airs_mean", "legendre_1", "legendre_2", "legendre_3")
SAMPLED = ("sma", "b2", *LIMB, "t0_h[0]", "fgs1_delay_h[0]")
NAMES = (*COMPONENTS, *SAMPLED)
WALKERS, BURN, CHUNK, MOST_STEPS = 40, 40, 200, 3000


def depth_moments(now: Equations, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # (5,)
    """Means and variances of `components`, from the Gaussian of the shared parameters."""
    rows, reduced = components(), now.reduced
    gain = rows @ reduced.gain[:, 0]
    variance = rows**2 @ reduced.inverse[:, 0, 0] + np.einsum("ks,st,kt->k", gain, covariance, gain)
    return rows @ reduced.local(mean)[:, 0], variance


class Exact:
    """The posterior at given values of `SAMPLED`, all other parameters integrated out."""

    def __init__(self, problem: FitProblem, state: State, now: Equations, star: dict[str, float]) -> None:
        """Take the fit's last state, and the row of the star table."""
        self.problem, self.state, self.reduced = problem, state, now.reduced
        self.prior, self.table = impact_priors(problem, state, star)
        self.places = np.array([problem.layout.place[name] for name in SAMPLED])
        self.b2, self.sma = SAMPLED.index("b2"), SAMPLED.index("sma")
        self.centre, self.covariance = posterior(now.reduced, problem.mean, state.std)
        within = self.covariance[np.ix_(self.places, self.places)]
        self.follow = np.linalg.solve(within, self.covariance[self.places])  # (10, S)

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density, up to a constant, conditional means and variances of `components`, log volume of bins, (11,).

        Slopes are taken where the fit's Gaussian expects the other parameters; a second round changes the log by .001.
        """
        if theta[self.b2] <= 0 or not 2 < theta[self.sma] < 40:
            return -np.inf, np.zeros(2 * len(COMPONENTS) + 1)
        mean, std = self.problem.mean.copy(), self.state.std.copy()
        apart = (theta - mean[self.places]) / std[self.places]
        apart[self.b2] = 0.0  # its prior is that of b
        mean[self.places], std[self.places] = theta, 0
        shared = self.centre + (theta - self.centre[self.places]) @ self.follow
        shared[self.places] = theta
        state = replace(self.state, shared=shared, local=self.reduced.local(shared), std=std)
        problem = replace(self.problem, mean=mean)
        now = equations(problem, state)
        best, covariance = posterior(now.reduced, mean, std)
        bins = -float(np.linalg.slogdet(now.reduced.inverse)[1].sum())  # log determinant of their precision
        shape = float(np.linalg.slogdet(np.eye(len(std)) + std[:, None] * now.reduced.precision * std)[1])
        cost = least_cost(problem, state, now, best) + bins + shape + float(apart @ apart) + self.impact_cost(theta)
        return -0.5 * cost, np.concatenate([*depth_moments(now, best, covariance), [bins]])

    def impact_cost(self, theta: np.ndarray) -> float:
        """-2 x log prior density of b2, up to a constant, where b is Gaussian and its sign is not seen."""
        b, (middle, spread) = np.sqrt(theta[self.b2]), self.table
        return float(2 * np.log(b) - 2 * np.logaddexp(*(-0.5 * ((b - s * middle) / spread) ** 2 for s in (1, -1))))


def least_cost(problem: FitProblem, state: State, now: Equations, best: np.ndarray) -> float:
    """Cost of data and priors at the best shared parameters, by the slopes at the state."""
    prior_mean, precision = local_prior(problem, state)
    pull = now.normal.local_gradient + np.einsum("blm,bm->bl", precision, prior_mean - state.local)
    free = state.std > 0
    shared_pull = now.normal.shared_gradient[free] + (problem.mean - state.shared)[free] / state.std[free] ** 2
    gain = np.sum(pull * (now.reduced.local(best) - state.local)) + shared_pull @ (best - state.shared)[free]
    return now.normal.cost - float(gain)


def independent(old: np.ndarray, rng: Any, freedom: float = 6.0, width: float = 1.1) -> tuple[np.ndarray, np.ndarray]:
    """New places (K, d) by Student's distribution, whatever the old ones, and log q(old) - log q(new)."""
    count, size = old.shape
    new = rng.standard_normal((count, size)) * width / np.sqrt(rng.chisquare(freedom, (count, 1)) / freedom)

    def log_q(places: np.ndarray) -> np.ndarray:
        return -0.5 * (freedom + size) * np.log1p((places**2).sum(axis=1) / (freedom * width**2))

    return new, log_q(old) - log_q(new)


def sample(exact: Exact, mean: np.ndarray, factor: np.ndarray, wanted: int, seed: int) -> tuple[np.ndarray, float]:
    """Samples (n, 21): means of `components`, parameters, variances, log volume; and how many are independent."""

    def log_density(white: np.ndarray) -> tuple[float, np.ndarray]:
        return exact(mean + factor @ white)

    moves = [(emcee.moves.MHMove(independent), 0.7), (emcee.moves.StretchMove(), 0.3)]
    blobs = [("told", float, (2 * len(COMPONENTS) + 1,))]
    sampler = emcee.EnsembleSampler(WALKERS, len(mean), log_density, moves=moves, blobs_dtype=blobs)
    sampler.random_state = np.random.RandomState(seed).get_state()
    start = 1.2 * np.random.default_rng(seed).normal(size=(WALKERS, len(mean)))
    start *= np.array([[1.0 if np.isfinite(log_density(white)[0]) else 0.1] for white in start])
    sampler.run_mcmc(start, BURN)
    sampler.reset()
    effective = 0.0
    while sampler.iteration < MOST_STEPS and effective < wanted:
        sampler.run_mcmc(None, CHUNK)
        means, rest = np.split(sampler.get_blobs()["told"], [len(COMPONENTS)], axis=2)
        both = np.concatenate([means, mean + sampler.get_chain() @ factor.T, rest], axis=2)
        times = emcee.autocorr.integrated_time(both[..., : len(NAMES)], quiet=True)
        effective = both[..., 0].size / float(np.max(times))
    return both.reshape(-1, both.shape[2]), effective


def moments(samples: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of `NAMES`."""
    mean, squares = (np.average(samples[:, : len(NAMES)] ** k, axis=0, weights=weights) for k in (1, 2))
    inner = np.average(samples[:, len(NAMES) : -1], axis=0, weights=weights)
    return mean, np.sqrt(squares - mean**2 + np.append(inner, np.zeros(len(SAMPLED))))


def compare(seed: int, number: int, drawn: PlanetSpectrum, wanted: int, world: World) -> tuple[np.ndarray, float]:
    """Columns of `chains`, (15, 5), for the fit under its likeliest prior of the drift; effective samples."""
    planet, features = simulated(seed, number, drawn, False, world)
    star, options = given(planet, 0, world)
    problem, state, now, *_ = converge(blocks_of(features), star, options)
    exact, b2 = Exact(problem, state, now, star), problem.layout.place["b2"]
    mean, covariance = with_impact_prior(exact.centre, exact.covariance, b2, exact.prior, exact.table)
    centre, within = mean[exact.places], covariance[np.ix_(exact.places, exact.places)]
    samples, effective = sample(exact, centre, np.linalg.cholesky(within), wanted, seed)
    depths, variance = depth_moments(now, mean, covariance)
    ours, std = np.append(depths, centre), np.sqrt(np.append(variance, np.diag(within)))
    columns, volume = [], samples[:, -1]
    for weights in (None, np.exp((volume - volume.mean()) / 2)):
        theirs, spread = moments(samples, weights)
        columns += [(ours - theirs) / spread, std / spread]
    error = samples[:, : len(NAMES)].std(axis=0) / moments(samples)[1] / effective**0.5
    return np.column_stack([columns[0], error, *columns[1:]]), effective


def chosen(rows: Sequence[Recovered], count: int) -> list[int]:
    """Planets of one visit, neither short of baseline nor grazing, from small to large impact parameters."""
    usable = [number for number, row in enumerate(rows) if row.visits == 1 and not row.hard]
    ordered = sorted(usable, key=lambda number: rows[number].impact)
    return [ordered[int((k + 0.5) / count * len(ordered))] for k in range(count)]


def chains(
    found: Sequence[tuple[np.ndarray, float]], numbers: Sequence[int], rows: Sequence[Recovered]
) -> dict[str, float]:
    """Print the second part's tables; returns their figures."""
    print("\nFit less chain in sd +- the chain's error, ratio of sd; the same with the volume held; wanted 5%")
    for number, (table, effective) in zip(numbers, found, strict=True):
        print(f"planet {number}, b {rows[number].impact:.2f}: {effective:.0f} effective samples")
        for name, row in zip(NAMES, table, strict=True):
            print(f"  {name:16} {row[0]:7.3f} +- {row[1]:.3f}  {row[2]:.3f}   {row[3]:7.3f}  {row[4]:.3f}")
    worst = np.max([np.abs(table - [0, 0, 1, 0, 1]) for table, _ in found], axis=0)
    figures = {"mcmc_planets": float(len(found)), "mcmc_least_effective": min(effective for _, effective in found)}
    for name, row in zip(COMPONENTS, worst[: len(COMPONENTS)], strict=True):
        keys = ("apart", "", "sd_off", "held_apart", "held_sd_off")
        figures |= {f"mcmc_{name}_{key}": float(value) for key, value in zip(keys, row, strict=True) if key}
    return figures


def main() -> None:
    """Print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options = (("planets", 1000), ("mcmc", 5), ("seed", 1), ("workers", 2), ("effective", 5000), ("exact", 0))
    for option, default in options:
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--world", type=find_world, default=DEFAULT_WORLD)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"), help="where spectra are kept")
    args = parser.parse_args()
    setting = Setting(args.folder, args.seed, args.workers)
    bank, seed = setting.bank("test", args.planets, args.world.planets), setting.seed_of("test")
    with open_pool(args.workers) as pool:
        jobs = [(seed, number, bank.planet(number), args.exact, args.world) for number in range(args.planets)]
        rows = side_by_side(pool, "planets", recover, jobs)
        figures = recovery(rows, seed)
        if args.mcmc:
            numbers = chosen(rows, args.mcmc)
            jobs = [(seed, number, bank.planet(number), args.effective, args.world) for number in numbers]
            figures |= chains(side_by_side(pool, "chains", compare, jobs), numbers, rows)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
