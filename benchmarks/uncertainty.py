"""Do error bars hold? Coverage, widths and score before and after calibration, in distribution and out of it; last line
JSON.

    python benchmarks/uncertainty.py [--planets 2000] [--judgement 100] [--network laptop] [--seed 1] [--workers 2]

Calibration (temperature, conformal quantiles) is learned on the network's predictions of `--planets` calibration
planets; it is judged on as many test planets in distribution and out of it, from which no step has learned. The
widening of planets unlike all training spectra (`calib.ood.widening`) was chosen by the first table, on 400 planets of
another bank. `--judgement`: so many planets of each judgement world, too, with what was learned in the world `default`.
Intervals are bootstraps over planets. Fits are those of predictors.py.

Last come how well candidates of the OOD score tell test planets in and out of distribution apart (area under the curve;
distances are Mahalanobis', from the calibration planets), and the criteria, each ok or FAILED.
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np
import torch
from fitted_planets import Setting, fit_twice, open_pool, side_by_side, unpacked
from predictors import planet_score, truth_of
from scipy.linalg import cho_factor, cho_solve
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from worlds import judgement_worlds

from spectramind_nb.core.files import network_file
from spectramind_nb.network.model import network_inputs, network_start, run_network
from spectramind_nb.network.weights import read_network
from spectramind_nb.pipeline.learned import factors_of
from spectramind_nb.pipeline.predictors import join, predict_both
from spectramind_nb.simulator.worlds import DEFAULT_WORLD, World
from spectramind_nb.uncertainty.calibration import (
    CalibOptions,
    Calibration,
    coverage_groups,
    coverage_table,
    learn_calibration,
)
from spectramind_nb.uncertainty.corel import normal_quantile
from spectramind_nb.uncertainty.sigma_factors import Fits, Predicted, sigma_of

WIDENINGS = (0.0, 0.05, 0.1, 0.15, 0.3)
OTHERS = 400  # planets out of distribution, of another bank


@dataclass(frozen=True)
class Seen:
    """Predictions of some planets, and the truth."""

    truth: np.ndarray  # (P, 283)
    mu: np.ndarray
    sigma: np.ndarray
    unknown: np.ndarray  # (P,)
    inputs: np.ndarray  # of the network, of a planet and all its bins, (P, I)
    latent: np.ndarray  # of the network, (P, H)
    misfit: np.ndarray  # chi-square of the fit's residuals from the prediction, a bin, (P,)

    @property
    def error(self) -> np.ndarray:
        """Truth less prediction, (P, 283)."""
        return self.truth - self.mu


def misfit(fits: Fits, mu: np.ndarray) -> np.ndarray:
    """Chi-square a bin of fitted depths about spectra mu (P, 283), (P,)."""
    residual = fits.depth - mu
    pairs = zip(residual, fits.covariance, strict=True)
    return np.array([r @ cho_solve(cho_factor(c), r) for r, c in pairs]) / mu.shape[1]


def predict_part(path: Path, network: Path) -> tuple[list[Predicted], list[np.ndarray]]:
    """Return, for the planets of a file, the Gaussian and the network's predictions, and the inputs, latent and misfit
    of `Seen`.
    """
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name.startswith(("plain", "number", "stars"))}
    weights, fits = read_network(network), unpacked("plain", arrays)
    both = predict_both(weights, fits)
    inputs = network_inputs(network_start(weights.prior, fits), weights.scaling)
    given = torch.cat([inputs.planet, inputs.nodes.flatten(1)], dim=1).numpy()
    latent = torch.cat([one.fused for one in run_network(weights.network, inputs)]).numpy()
    return [both["gaussian"], both["neural"]], [given, latent, misfit(fits, both["gaussian"].mu)]


def see(
    pool: ProcessPoolExecutor, setting: Setting, kind: str, planets: int, network: Path, world: World = DEFAULT_WORLD
) -> dict[str, Seen]:
    """Predictions of so many planets of a bank, by predictor."""
    weights = read_network(network)
    _, paths = fit_twice(pool, setting, kind, planets, weights.prior, world)
    parts = side_by_side(pool, f"predictions, {kind}", predict_part, [(path, network) for path in paths])
    truth, factors = truth_of(paths), json.loads(weights.about["factors"])
    seen = {}
    both, others = zip(*parts, strict=True)
    others = [np.concatenate(part) for part in zip(*others, strict=True)]
    for name, own in zip(("gaussian", "neural"), zip(*both, strict=True), strict=True):
        found = join(own, np.arange(len(truth)))
        seen[name] = Seen(truth, found.mu, sigma_of(found, factors_of(factors[name])), found.unknown, *others)
    return seen


def interval(values: np.ndarray, seed: int = 0) -> str:
    """95% of the mean of planets' values (P,), by a bootstrap."""
    rng = np.random.default_rng(seed)
    low, high = np.percentile(
        [values[rng.integers(len(values), size=len(values))].mean() for _ in range(2000)], [2.5, 97.5]
    )
    return f"[{low:.4f}, {high:.4f}]"


def scores(seen: Seen, sigma: np.ndarray) -> np.ndarray:
    """Each planet's score, (P,)."""
    return planet_score(seen.truth, seen.mu, sigma)


def other_widenings(calib: Seen, strange: Seen) -> None:
    """Print what other widenings do."""
    print(f"{'widening':10}{'score in':10}{'width in':10}{'score out':11}{'in 90% out':12}")
    for widening in WIDENINGS:
        own = learn_calibration(calib.error, calib.sigma, calib.unknown, CalibOptions(widening=widening))
        after = [own.sigma(seen.sigma, seen.unknown) for seen in (calib, strange)]
        inside = np.mean(np.abs(strange.error) <= own.half_width(strange.sigma, strange.unknown))
        width = after[0].mean() / calib.sigma.mean()
        told = [scores(seen, sigma).mean() for seen, sigma in zip((calib, strange), after, strict=True)]
        print(f"{widening:<10}{told[0]:<10.4f}{width:<10.3f}{told[1]:<11.4f}{inside:<12.3f}")


def compare(name: str, seen: Seen, own: Calibration) -> dict[str, float]:
    """The table of one split; its figures."""
    steps = {
        "as predicted": Calibration(),
        "wider where unknown": Calibration(widening=own.widening),
        "temperature": replace(own, quantiles=None),
        "COREL": own,
    }
    first, limit = scores(seen, seen.sigma), normal_quantile(own.alpha)
    print(f"\n{name}, {len(seen.truth)} planets")
    print(f"{'':22}{'score':9}{'gain':28}{'width':9}{'in 90%':26}{'FGS1':8}worst band")
    for label, step in steps.items():
        sigma = step.sigma(seen.sigma, seen.unknown)
        inside, gain = np.abs(seen.error) <= limit * sigma, scores(seen, sigma) - first
        share, worst = inside.mean(axis=1), worst_band(seen, inside)
        print(f"{label:22}{scores(seen, sigma).mean():<9.4f}{gain.mean():+.4f} {interval(gain):21}", end="")
        print(f"{sigma.mean() / seen.sigma.mean():<9.3f}{share.mean():.3f} {interval(share):20}", end="")
        print(f"{inside[:, 0].mean():<8.3f}{worst[0]} {worst[1]:.3f}")
    sigma = own.sigma(seen.sigma, seen.unknown)
    held = np.abs(seen.error) <= own.half_width(seen.sigma, seen.unknown)
    worst = worst_band(seen, held)
    print(
        f"conformal intervals   {held.mean():.3f} {interval(held.mean(axis=1))}, worst band {worst[0]} {worst[1]:.3f}"
    )
    table = coverage_table(seen.mu, {"share": held}, seen.sigma)
    for row in table[~table["group"].str.startswith("bin ")].itertuples():
        print(f"    {row.group:24}{row.share:.3f} [{row.share_low:.3f}, {row.share_high:.3f}]")
    return {
        "coverage90": float(held.mean()),
        "worst_band": worst[1],
        "before": float(first.mean()),
        "after": float(scores(seen, sigma).mean()),
        "width": float(sigma.mean() / seen.sigma.mean()),
    }


def elsewhere(seen: Mapping[str, Seen], own: Calibration) -> dict[str, float]:
    """The table of other worlds; figures of all their planets together."""
    print(f"\n{'world':16}{'score':9}{'gain by calibration':28}{'in 90%':26}width")
    gains, shares = [], []
    for name, one in seen.items():
        sigma, first = own.sigma(one.sigma, one.unknown), scores(one, one.sigma)
        held = np.abs(one.error) <= own.half_width(one.sigma, one.unknown)
        gains.append(scores(one, sigma) - first)
        shares.append(held.mean(axis=1))
        print(f"{name:16}{first.mean():<9.4f}{gains[-1].mean():+.4f} {interval(gains[-1]):21}", end="")
        print(f"{shares[-1].mean():.3f} {interval(shares[-1]):20}{sigma.mean() / one.sigma.mean():.3f}")
    gain, share = np.concatenate(gains), np.concatenate(shares)
    print(f"{'all':25}{gain.mean():+.4f} {interval(gain):21}{share.mean():.3f} {interval(share)}")
    return {"coverage90_judgement": float(share.mean()), "gain_judgement": float(gain.mean())}


def worst_band(seen: Seen, inside: np.ndarray) -> tuple[str, float]:
    """The molecule whose bands hold the fewest truths, and their share."""
    bands = {
        name[5:]: bins for name, (_, bins) in coverage_groups(seen.mu, seen.sigma).items() if name.startswith("band ")
    }
    return min(((name, float(inside[:, bins].mean())) for name, bins in bands.items()), key=lambda found: found[1])


def mahalanobis(known: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Squared distances (P,) of points (P, K) from known ones, by their shrunk covariance; columns that never change
    are left out.
    """
    mean, spread = known.mean(axis=0), known.std(axis=0)
    kept = spread > 1e-6 * spread.max()
    scaled = [((points - mean) / np.where(kept, spread, 1.0))[:, kept] for points in (known, *others)]
    law = LedoitWolf().fit(scaled[0])
    return [law.mahalanobis(points) for points in scaled[1:]]


def tell_apart(calib: Seen, test: Seen, strange: Seen) -> dict[str, float]:
    """Area under the curve of each candidate of the OOD score, in against out of distribution; printed."""
    candidates = {
        "the prior's `unknown`": [test.unknown, strange.unknown],
        "distance of the network's inputs": mahalanobis(calib.inputs, test.inputs, strange.inputs),
        "distance of its latents": mahalanobis(calib.latent, test.latent, strange.latent),
        "chi-square of the residuals": [test.misfit, strange.misfit],
    }
    label = np.repeat([0, 1], [len(test.truth), len(strange.truth)])
    areas = {name: float(roc_auc_score(label, np.concatenate(pair))) for name, pair in candidates.items()}
    print("\narea under the curve, in against out of distribution")
    print(*(f"    {name:36}{area:.3f}" for name, area in areas.items()), sep="\n")
    return areas


def judge_criteria(figures: dict[str, float]) -> None:
    """Print each criterion, and whether it holds."""
    f = figures
    gain, gain_ood = f["score_after"] - f["score_before"], f["score_ood_after"] - f["score_ood_before"]
    criteria = {
        f"90% intervals in distribution hold {f['coverage90']:.4f} (.88 to .92)": abs(f["coverage90"] - 0.9) <= 0.02,
        f"worst molecule band in distribution holds {f['worst_band']:.4f} (at least .85)": f["worst_band"] >= 0.85,
        f"90% intervals out of distribution hold {f['coverage90_ood']:.4f} (at least .85)": f["coverage90_ood"] >= 0.85,
        f"bars in distribution are {f['width_in_distribution']:.4f} as wide (at most 1.02)": (
            f["width_in_distribution"] <= 1.02
        ),
        f"score in distribution changes by {gain:+.4f} (at least -.002)": gain >= -0.002,
        f"score out of distribution changes by {gain_ood:+.4f} (above 0)": gain_ood > 0,
    }
    if "gain_judgement" in f:
        inside, gain = f["coverage90_judgement"], f["gain_judgement"]
        criteria[f"90% intervals in judgement worlds hold {inside:.4f} (.87 to .93)"] = 0.87 <= inside <= 0.93
        criteria[f"score in judgement worlds changes by {gain:+.4f} (not below 0)"] = gain >= 0
    print("", *(f"{'ok    ' if good else 'FAILED'}  {what}" for what, good in criteria.items()), sep="\n")


def main(words: Sequence[str] | None = None) -> None:
    """Print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in {"planets": 2000, "judgement": 100, "seed": 1, "workers": 2}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--network", default="laptop")
    a = parser.parse_args(words)
    setting, network = Setting(a.folder, a.seed, a.workers), network_file(a.network)
    with open_pool(a.workers) as pool:
        calib, test, ood = (see(pool, setting, kind, a.planets, network) for kind in ("calib", "test", "ood"))
        strange = see(pool, setting, "ood_bank", min(OTHERS, a.planets), network)
        worlds = judgement_worlds() if a.judgement else {}
        others = {
            name: see(pool, setting, "test", a.judgement, network, world)["neural"] for name, world in worlds.items()
        }
    other_widenings(calib["neural"], strange["neural"])
    learned = {n: learn_calibration(x.error, x.sigma, x.unknown, CalibOptions()) for n, x in calib.items()}
    own = learned["neural"]
    assert own.quantiles is not None
    print(f"tau {own.tau:.4f}, quantiles {own.quantiles.min():.3f} to {own.quantiles.max():.3f}")
    found, strange_found = (
        compare(name, each["neural"], own) for name, each in (("in distribution", test), ("out of distribution", ood))
    )
    for name, each in (("in", test), ("out of", ood)):
        after = {n: scores(x, learned[n].sigma(x.sigma, x.unknown)) for n, x in each.items()}
        gain = after["neural"] - after["gaussian"]
        print(f"neural over gaussian, both calibrated, {name} distribution: {gain.mean():+.4f} {interval(gain)}")
    figures = {
        "coverage90": found["coverage90"],
        "coverage90_ood": strange_found["coverage90"],
        "worst_band": found["worst_band"],
        "score_before": found["before"],
        "score_after": found["after"],
        "score_ood_before": strange_found["before"],
        "score_ood_after": strange_found["after"],
        "width_in_distribution": found["width"],
    }
    figures["auc_unknown"] = tell_apart(calib["neural"], test["neural"], ood["neural"])["the prior's `unknown`"]
    if others:
        figures |= elsewhere(others, own)
    judge_criteria(figures)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
