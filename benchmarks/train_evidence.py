"""Train the network that corrects predictions by figures of their fits, and add it to weights; last line JSON.

    python benchmarks/train_evidence.py --out FILE [--network laptop] [--worlds 390] [--planets 40] [--seed 7]
                                        [--calib 600] [--folds 7] [--learn-from all]

It learns from fits of simulated planets of many worlds. Each world has `--planets` planets, fitted as a run fits them:
once with the guessed priors, and again with priors learned from these planets without labels. A quarter of the worlds
are the default one, a quarter the named worlds in turn, half are drawn at random (by seeds from 900,000, apart from
those of the judgement worlds). In four worlds of five spectra are of the default world's chemistry, in the fifth of any
chemistry. Left out are light that dilutes a transit and spots beside its path: no light curve shows them, so a network
could only learn to distrust every planet.

The gain is measured on worlds that were left out (`--folds`), in nats a bin, over the same weights with one factor for
each part of sigma. The factors of sigma for raw data without labels are learned anew, on `--calib` planets. Fits are
kept in `--folder`, and a run that was cut goes on from there.

`--learn-from default` trains on the default world alone, `one-chemistry` without planets of any chemistry: what the
other worlds are worth shows `worlds.py --network FILE`.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np
import torch
from fitted_planets import (
    Fitted,
    Setting,
    fit_twice,
    fitted,
    made_by,
    mark_of,
    open_pool,
    packed,
    save,
    side_by_side,
    simulator_code,
    unpacked,
)
from torch import Tensor
from train_network import factors_of

from spectramind_nb.core.files import network_file
from spectramind_nb.network.fit_evidence import EvidenceNetwork, start_figures
from spectramind_nb.network.model import network_start, stds_of
from spectramind_nb.network.trainer import WEIGHT
from spectramind_nb.network.weights import Weights, read_network, write_network
from spectramind_nb.prior.sharpening import learn_line_shape, width_evidence
from spectramind_nb.prior.spectral_prior import SpectralPrior
from spectramind_nb.simulator import light_curves
from spectramind_nb.simulator.data_sets import FRAME_COUNTS
from spectramind_nb.simulator.population import PlanetSpectrum, draw_any_planet_spectrum, observe, planet_stream
from spectramind_nb.simulator.worlds import DEFAULT_WORLD, NAMED_WORLDS, World, draw_hyperparameters
from spectramind_nb.transits.fit_priors import FitOptions
from spectramind_nb.transits.learned_priors import learn_fit_priors
from spectramind_nb.uncertainty.sigma_factors import PARTS_WEIGHT

FIRST_SEED = 900_000  # of drawn worlds
NAMED = [name for name in NAMED_WORLDS if name not in ("default", "worn-detector", "foreground", "hostile")]
WIDTHS_FROM = 14  # planets of a world, whose line shape is learned
PPM = 1e-6
WORST = 10.0  # nats a bin: no planet counts more


def training_world(number: int) -> World:
    """The world with this number."""
    if number % 4 == 0:
        return DEFAULT_WORLD
    world = (
        NAMED_WORLDS[NAMED[number // 4 % len(NAMED)]] if number % 4 == 1 else draw_hyperparameters(FIRST_SEED + number)
    )
    kinds = replace(world.planets, free_share=DEFAULT_WORLD.planets.free_share, other_gases_share=0.0)
    kinds = replace(kinds, isothermal=False, clear_share=DEFAULT_WORLD.planets.clear_share)
    dilution, star = replace(world.dilution, level=0.0), replace(world.star, spot_fraction=0.0)
    return replace(world, planets=kinds, dilution=dilution, star=star)


def any_chemistry(number: int) -> bool:
    """Whether the planets of this world have any chemistry, not that of the default world."""
    return number % 5 == 4


LEARN_FROM = {
    "all": lambda number: True,
    "default": lambda number: number % 4 == 0 and not any_chemistry(number),
    "one-chemistry": lambda number: not any_chemistry(number),
}


def fit_world(path: Path, seed: int, number: int, drawn: Mapping[int, PlanetSpectrum], prior: SpectralPrior) -> None:
    """Observe and fit planets in a world; write the file `path`."""
    world, seen = training_world(number), []
    for k, one in drawn.items():
        stream = (seed, "bank", 1000 * number + k % 1000)
        spectrum = draw_any_planet_spectrum(planet_stream(*stream, 7)) if any_chemistry(number) else one
        planet = observe(planet_stream(*stream, 1), spectrum, world)
        rng = planet_stream(*stream, 3)
        features = light_curves.simulate_features(rng, planet, FRAME_COUNTS["full"], ood=False, world=world)
        first = fitted(features, planet.system.row(), FitOptions())
        if first.evidence:
            seen.append((k, planet, features, first))
    stars, evidence = (
        [planet.system.row() for _, planet, *_ in seen],
        [one for *_, first in seen if (one := first.evidence)],
    )
    options = FitOptions(learned=learn_fit_priors(evidence, stars, FitOptions()))
    found: list[Fitted] = []
    for _, planet, features, first in seen:
        found.append(fitted(features, planet.system.row(), options, (first.depth, first.shared or {})))
    arrays = {
        "number": np.array([k for k, *_ in seen]),
        "truth": np.array([planet.spectrum for _, planet, *_ in seen]),
        "stars": np.array(json.dumps(stars)),
        **packed("plain", found),
    }
    fits = unpacked("plain", arrays)
    planets = [*zip(fits.depth, fits.covariance, stars, strict=True)][:WIDTHS_FROM]
    width = learn_line_shape([width_evidence(prior, *planet) for planet in planets])
    save(path, arrays | {"plain_line_shape": np.array(width)})


@dataclass(frozen=True)
class Examples:
    """Planets to learn from: figures of their fits, and the Gaussian prediction's parts and errors, in ppm."""

    figures: Tensor  # (P, F)
    error: Tensor  # (P, 283)
    std: Tensor  # (P, 283)
    mean_std: Tensor  # (P,)
    cross: Tensor  # (P, 282)

    def take(self, chosen: Any) -> "Examples":
        """Some of the planets."""
        return Examples(*(value[chosen] for value in vars(self).values()))


def examples_of(path: Path, prior: SpectralPrior) -> Examples:
    """The fitted planets of a file."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    fits = unpacked("plain", arrays)
    start = network_start(prior, fits)
    std, mean_std = stds_of(start.combined)
    error = (arrays["truth"] - start.combined.mean) / PPM
    figures = np.concatenate([fits.figures, start_figures(start)], axis=1)
    parts = (figures, error, std / PPM, mean_std / PPM, start.combined.cross / PPM**2)
    known = np.isfinite(fits.figures).all(axis=1)  # a few fail in their second fit; a run gives them no prediction
    return Examples(*(torch.from_numpy(np.asarray(part, np.float32)[known]) for part in parts))


def losses(data: Examples, shift: Tensor, log: Tensor) -> Tensor:  # (M, P)
    """Negative log likelihood of corrected predictions over that of the given ones, in nats a bin, for M members."""
    before, sure = (negative_log(data, torch.zeros_like(shift), torch.zeros_like(log), sure) for sure in (False, True))
    after = negative_log(data, shift, log, False)
    return (after - sure).clamp_max(WORST) - (before - sure).clamp_max(WORST)


def negative_log(data: Examples, shift: Tensor, log: Tensor, sure: bool) -> Tensor:
    """Negative log likelihood of errors; with `sure`, its expectation if error bars are right."""
    fgs1, mean, shape = log.exp().unbind(-1)
    own, level = shape[..., None] * data.std[:, 1:], mean * data.mean_std
    airs = own**2 + level[..., None] ** 2 + 2 * (mean * shape)[..., None] * data.cross
    sigma = torch.cat([(fgs1 * data.std[:, 0])[..., None], airs.clamp_min(1e-4).sqrt()], dim=-1)
    moved = (shift[..., 1] * data.mean_std)[..., None].expand(*shift.shape[:-1], data.cross.shape[1])
    error = data.error - torch.cat([(shift[..., 0] * data.std[:, 0])[..., None], moved], dim=-1)
    square = torch.ones_like(sigma) if sure else (error / sigma) ** 2
    return (sigma.log() + 0.5 * square) @ WEIGHT


def losses_of_parts(data: Examples, shift: Tensor, log: Tensor) -> Tensor:  # (M, P)
    """Negative log likelihoods of AIRS mean and AIRS shape by themselves over those of the given prediction, in nats.

    Both are added up, for M members. Bins show only the sum of both variances: what one part lacks hides in the other.
    """
    error = data.error[:, 1:].mean(dim=1)
    shape = (((data.error[:, 1:] - error[:, None]) / data.std[:, 1:].clamp_min(1e-4)) ** 2).mean(dim=1)

    def nats(shift: Tensor, log: Tensor) -> Tensor:
        mean = ((error - shift[..., 1] * data.mean_std) / data.mean_std) ** 2
        squares = torch.stack([mean, shape.expand_as(mean)], dim=-1)
        return (log[..., 1:] + 0.5 * squares * torch.exp(-2 * log[..., 1:])).sum(dim=-1) - 1  # 1: error bars are right

    before = nats(torch.zeros_like(shift), torch.zeros_like(log))
    return nats(shift, log).clamp_max(WORST) - before.clamp_max(WORST)


def best_factors(data: Examples) -> Tensor:  # (3,)
    """Logarithms of the factors of sigma that are best for all planets alike."""
    log = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.LBFGS([log], max_iter=50)

    def cost() -> float:
        optimiser.zero_grad()
        loss = losses(data, torch.zeros(1, len(data.error), 2), log.expand(1, len(data.error), 3)).mean()
        loss.backward()
        return float(loss)

    optimiser.step(cost)
    return log.detach()


def train(data: Examples, seed: int, epochs: int = 45, batch: int = 64, noise: float = 0.15) -> EvidenceNetwork:
    """A network that has learned from planets; `noise` on the figures keeps it from learning worlds by heart."""
    torch.manual_seed(seed)
    network, count = EvidenceNetwork(data.figures.shape[1]), len(data.error)
    network.mean[:], network.std[:] = data.figures.mean(dim=0), data.figures.std(dim=0) + 1e-3
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=epochs * (count // batch) + 1)
    for _ in range(epochs):
        for part in torch.randperm(count)[: count // batch * batch].split(batch):
            some = data.take(part)
            corrections = network.train().each(some.figures, noise)
            loss = (losses(some, *corrections) + PARTS_WEIGHT * losses_of_parts(some, *corrections)).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return network.eval()


def judge(parts: Sequence[Examples], folds: int, seed: int) -> np.ndarray:  # (W,)
    """Gain of each world over constant factors, by networks that have not seen it."""
    gains, numbers = np.zeros(len(parts)), range(len(parts))
    for fold in range(folds):
        network = train(joined([parts[k] for k in numbers if k % folds != fold]), seed)
        constant = best_factors(joined([parts[k] for k in numbers if k % folds != fold]))
        for k in numbers[fold::folds]:
            none = torch.zeros(1, len(parts[k].error), 2)
            with torch.inference_mode():
                before = losses(parts[k], none, constant.expand(1, len(parts[k].error), 3))
                gains[k] = float((before - losses(parts[k], *(x[None] for x in network(parts[k].figures)))).mean())
        print(f"fold {fold + 1} of {folds} done", file=sys.stderr, flush=True)
    return gains


def joined(parts: Sequence[Examples]) -> Examples:
    """Several sets of planets in one."""
    return Examples(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def calibrated(weights: Weights, setting: Setting, count: int) -> str:
    """JSON of the factors of sigma for runs without labels."""
    with open_pool(setting.workers) as pool:
        _, paths = fit_twice(pool, replace(setting, seed=1), "calib", count, weights.prior)
    return factors_of(weights, paths)


def main() -> None:
    """Train, and print what was gained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    for option, default in {"worlds": 390, "planets": 40, "seed": 7, "calib": 600, "folds": 7, "workers": 2}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--network", default="laptop")
    parser.add_argument("--learn-from", choices=LEARN_FROM, default="all")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"))
    a = parser.parse_args()
    weights, setting = read_network(network_file(a.network)), Setting(a.folder, a.seed, a.workers)
    bank, folder = setting.bank("bank", a.worlds * a.planets), a.folder / f"worlds_{made_by()}_{simulator_code()}"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    numbers = [number for number in range(a.worlds) if LEARN_FROM[a.learn_from](number)]
    for number in numbers:
        path = folder / f"{number:05d}_{mark_of([training_world(number).record(), a.planets, a.seed])}.npz"
        span = range(number * a.planets, (number + 1) * a.planets)
        jobs.append((path, setting.seed_of("bank"), number, {k: bank.planet(k) for k in span}, weights.prior))
    with open_pool(a.workers) as pool:
        side_by_side(pool, f"worlds of {a.planets} planets", fit_world, [job for job in jobs if not job[0].exists()])
        parts = side_by_side(pool, "predictions", examples_of, [(job[0], weights.prior) for job in jobs])
    gains = judge(parts, a.folds, a.seed)
    found = {"planets": sum(len(part.error) for part in parts), "gain": float(gains.mean())}
    found |= {"error": float(gains.std() / len(gains) ** 0.5), "worst_world": float(gains.min())}
    foreign, usual = (np.array([*map(kind, numbers)]) for kind in (any_chemistry, LEARN_FROM["default"]))
    found["default_world"] = float(gains[usual].mean())
    if foreign.any():
        found["any_chemistry"] = float(gains[foreign].mean())
    found = {name: round(value, 4) for name, value in found.items()}
    made = replace(weights, evidence=train(joined(parts), a.seed))
    about = {**made.about, "factors": calibrated(made, setting, a.calib), "evidence": json.dumps(found)}
    write_network(a.out, replace(made, about=about))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
