"""The whole product on frames that another simulator made, ExoSim 2; last line JSON.

    python benchmarks/exosim.py [--raw runs/exosim] [--calib 60] [--unlabelled -1] [--network laptop] [--seed 1]
                                [--workers 2] [--folder runs/benchmark]

`tools/exosim_observations.py` makes the data set of `--raw`. Its planets go through 00 (calibration), 01 (light curves)
and the fit. Spectral prior, network and factors of sigma come from the world `default`, as in `worlds.py`: `--calib`
full-size planets there choose the factors. As there, planets are fitted twice: the fit's priors are learned, without
labels, from first fits of `--unlabelled` of the same planets (-1: all; 0: fitted once). `guessed` is gaussian with
first fits.

z: standard deviation of error over stated error. bias: mean error of the AIRS mean, in ppm. Errors: medians, in ppm.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from fitted_planets import Fitted, Setting, fitted, flat_fit, open_pool, packed, side_by_side, tell, unpacked
from predictors import Answers, Judged, answer, interval, judged, rounded
from worlds import Known, learn_in_default

from spectramind_nb.core.contracts import WAVELENGTH_COLUMNS, read_npz
from spectramind_nb.core.errors import UserError
from spectramind_nb.core.files import network_file
from spectramind_nb.core.metric import summary
from spectramind_nb.detector.extraction import extract_planet
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.prior.sharpening import learn_line_shape, width_evidence
from spectramind_nb.prior.spectral_prior import prior_of_weights
from spectramind_nb.transits.fit_priors import FitOptions, LearnedPriors
from spectramind_nb.transits.fit_report import Depths
from spectramind_nb.transits.learned_priors import learn_fit_priors
from spectramind_nb.uncertainty.sigma_factors import PARTS

Star = Mapping[str, float]


def light_curves(root: Path, folder: Path, label: int) -> None:
    """Write the features of a planet's raw frames."""
    extract_planet(("train", label), RawFolder(root), folder)


def features_of(folder: Path, label: int) -> dict[str, dict[str, np.ndarray]]:
    """Features that `light_curves` wrote."""
    return {kind: read_npz(folder / f"{kind}_{label}.npz", kind) for kind in ("fgs1_white", "airs_bins")}


def first_fit(folder: Path, label: int, star: Star) -> dict[str, Fitted]:
    """Flat fit, and plain fit with guessed priors."""
    features = features_of(folder, label)
    return {"flat": flat_fit(features, star), "plain": fitted(features, star, FitOptions())}


def second_fit(folder: Path, label: int, star: Star, before: Fitted, learned: LearnedPriors) -> Fitted:
    """Plain fit with learned priors."""
    near = (before.depth, before.shared) if before.shared else None
    return fitted(features_of(folder, label), star, FitOptions(learned=learned), near)


def fits_of(
    pool: ProcessPoolExecutor, root: Path, stars: Mapping[int, Star], unlabelled: int
) -> tuple[dict[str, list[Fitted]], float]:
    """Flat, first and second fits of all planets, and the width of the line shape, 0 where nothing was learned.

    The second fits are the first where nothing was learned.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        side_by_side(pool, "planets calibrated", light_curves, [(root, folder, label) for label in stars])
        both = side_by_side(pool, "first fits", first_fit, [(folder, *item) for item in stars.items()])
        fits = {kind: [fit[kind] for fit in both] for kind in ("flat", "plain")}
        used = list(zip(fits["plain"], stars.values(), strict=True))[: None if unlabelled < 0 else unlabelled]
        evidence = [(fit.evidence, star) for fit, star in used if fit.evidence]
        fits["again"], width = fits["plain"], 0.0
        if evidence:
            width = line_shape_of(fits["plain"], [*stars.values()])
            learned = learn_fit_priors(*map(list, zip(*evidence, strict=True)), FitOptions())
            jobs = [(folder, *item, fit, learned) for item, fit in zip(stars.items(), fits["plain"], strict=True)]
            fits["again"] = side_by_side(pool, "second fits", second_fit, jobs)
    return fits, width


def line_shape_of(fits: Sequence[Fitted], stars: Sequence[Star]) -> float:
    """The width of the line shape, from first fits."""
    prior, evidence = prior_of_weights(network_file("laptop")), []
    for fit, star in zip(fits, stars, strict=True):
        depths = Depths(fit.depth, fit.noise_variance, fit.nuisance)
        evidence.append(width_evidence(prior, depths.depth, depths.covariance, star))
    return learn_line_shape(evidence)


def judge(
    known: Known, stars: Mapping[int, Star], truth: np.ndarray, fits: dict[str, list[Fitted]], width: float
) -> dict[str, Judged]:
    """Predictions of all predictors beside the truth."""
    about = {"number": np.array([*stars]), "stars": json.dumps([dict(star) for star in stars.values()])}
    about["again_line_shape"] = np.array(width)
    seen = {}
    for name, learned in known.by_name.items():
        kind = name if name == "flat" else "plain" if name == "guessed" else "again"
        found, members = answer(name, unpacked(kind, about | packed(kind, fits[kind])), learned)
        seen[name] = judged(truth, Answers(found, 0.0, members), known.factors[name])
    return seen


def figures_of(seen: Judged, seed: int) -> dict[str, Any]:
    """Score with its interval, z, bias and medians."""
    bias = (seen.mu - seen.truth)[:, 1:].mean(axis=1)
    found, z = summary(seen.truth, seen.mu, seen.sigma), {k: v for k, v in seen.figures.items() if k != "score"}
    medians = {f"{part}_median_ppm": found[f"{part}_median_ppm"] for part in PARTS}
    scores = dict(zip(("score", "low", "high"), (found["score"], *interval(seen, seed)), strict=True))
    return {**scores, **z, "bias_ppm": 1e6 * float(bias.mean()), **medians}


def row(name: str, figures: Mapping[str, float]) -> None:
    """One line of the table."""
    scores = f"{figures['score']:8.3f} [{figures['low']:.3f}, {figures['high']:.3f}]"
    z = "".join(f"{figures[key]:9.2f}" for key in ("z_fgs", "z_mean", "z_shape"))
    errors = "".join(f"{figures[key]:9.1f}" for key in ("bias_ppm", *(f"{part}_median_ppm" for part in PARTS)))
    print(f"{name:10}{scores}{z}{errors}")


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in {"calib": 60, "unlabelled": -1, "seed": 1, "workers": 2}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--network", default="laptop")
    for option, folder in {"raw": "runs/exosim", "folder": "runs/benchmark"}.items():
        parser.add_argument(f"--{option}", type=Path, default=Path(folder))
    args = parser.parse_args()
    if not (args.raw / "train.csv").exists():
        parser.error(f"--raw {args.raw} holds no train.csv. Fix: make it with tools/exosim_observations.py")
    raw = RawFolder(args.raw)
    try:
        labels = [label for label in raw.planets_on_disk("train") if raw.visits("train", label)]
        table, spectra = raw.star_info("train", labels), raw.labels(labels)
    except UserError as error:
        parser.error(str(error))
    if spectra is None or len(labels) < 2:
        parser.error(f"--raw {args.raw}: take 2 or more planets with labels in train.csv")
    stars: dict[int, Star] = {label: table.loc[label].to_dict() for label in labels}
    truth = spectra.loc[labels, list(WAVELENGTH_COLUMNS)].to_numpy()
    args.folder.mkdir(parents=True, exist_ok=True)
    setting = Setting(args.folder, args.seed, args.workers)
    network = None if args.network == "none" else network_file(args.network)
    with open_pool(args.workers) as pool:
        fits, width = fits_of(pool, args.raw, stars, args.unlabelled)
        known = learn_in_default(pool, setting, args.calib, network, args.unlabelled)
    seen = judge(known, stars, truth, fits, width)
    tell("predictors", len(seen), len(seen))
    names = "".join(f"{name:>9}" for name in ("z FGS1", "z mean", "z shape", "bias", "FGS1", "mean", "shape"))
    print(f"width of the line shape: {width:g}\n{len(labels)} planets{'':>15}{names}")
    figures = {name: figures_of(one, args.seed) for name, one in seen.items()}
    for name, one in figures.items():
        row(name, one)
    print(json.dumps({"planets": len(labels), "line_shape": width, **rounded(figures)}))


if __name__ == "__main__":
    main()
