"""Predictors side by side on simulated planets that none of them has seen, and how far below the limit they are; last
line JSON.

    python benchmarks/predictors.py [--planets 300] [--bank 20000] [--stress 0] [--raw 0] [--seed 1] [--workers 2]
                                    [--network laptop] [--without] [--only NAME,NAME]

`--planets`: test planets in distribution, as many out of it, and as many to choose factors of sigma on; features by the
light-curve path. `--bank`: spectra that the oracle knows, of each distribution. `--stress N`: N test planets in worlds
that differ from the default in one kind of noise or drift. `--raw N`: N full-size planets as raw frames through 00 and
01 as well (about 25 s each). `--network`: weights by name, a file of them (see train_network.py), or none.
`--without`: what each part of gaussian is worth. `--only`: of the predictors below, gaussian among them; without flat,
oracle and floor fits take a third of the time. Spectra and fits are kept in `--folder`, and a run that was cut goes on
from there.

Planets are fitted twice, as in a run: the fit's priors are learned, without labels, from the first fits.

flat: one depth a planet. transit: the fit alone. gaussian: with the spectral prior. bank: the same, its prior learned
from the spectra that the network knows too. neural: the network, from there. oracle: the simulator's own priors. floor:
the oracle, had it known orbit, limb and drift, so that white noise is all there is.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np
import pandas as pd
from fitted_planets import (
    STRESSES,
    Fitted,
    Setting,
    fit_twice,
    fitted,
    flat_fit,
    open_pool,
    packed,
    side_by_side,
    tell,
    unpacked,
)
from oracle import Widths, infer, learn_shapes
from scipy.special import ndtri
from train_network import TRAIN

from spectramind_nb.core.contracts import read_npz
from spectramind_nb.core.files import network_file
from spectramind_nb.core.metric import BIN_WEIGHTS, DEFAULT_REFERENCE, bin_scores, score, summary
from spectramind_nb.detector.extraction import extract_planet
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.network.weights import read_network
from spectramind_nb.pipeline.predictors import join, predict_neural
from spectramind_nb.prior.flat import fixed_sigma
from spectramind_nb.prior.learning import learn_prior
from spectramind_nb.prior.sharpening import sharpen
from spectramind_nb.prior.spectral_prior import SpectralPrior
from spectramind_nb.simulator.data_sets import FRAME_COUNTS, draw_planets, simulate_dataset
from spectramind_nb.simulator.light_curves import simulate_features
from spectramind_nb.simulator.population import SimulatedPlanet, physics, planet_stream
from spectramind_nb.transits.fit_priors import FitOptions
from spectramind_nb.uncertainty.gaussian import predict_gaussian
from spectramind_nb.uncertainty.sigma_factors import (
    PARTS,
    Fits,
    Predicted,
    SigmaFactors,
    learn_factors,
    log_factors,
    parts_of,
    parts_of_errors,
    sigma_of,
)

λ_FACTORS = 0.02
FITS = {
    "flat": "flat",
    "transit": "plain",
    "guessed": "plain",
    "gaussian": "plain",
    "bank": "plain",
    "neural": "plain",
    "oracle": "simulator",
    "floor": "floor",
}
YARDSTICKS = {"flat", "oracle", "floor"}  # fitted in their own way, beside the plain one
WITHOUT = ("no learned factors", "one kind", "no low rank", "no other chemistry", "white for GP", "no star table")
FITS |= dict.fromkeys(WITHOUT, "plain")
WIDTHS = (Widths(1.0, 1.0), Widths(0.5, 0.7), Widths(0.3, 1.0), Widths(0.3, 0.7))
Z_NAMES = {"fgs1": "z_fgs", "airs_mean": "z_mean", "airs_shape": "z_shape"}


@dataclass(frozen=True)
class Files:
    """Files of the same planets: with first fits and the yardsticks', and with second fits."""

    first: Sequence[Path]
    second: Sequence[Path]

    def of(self, name: str) -> Sequence[Path]:
        """Files with the fits that a predictor takes."""
        return self.second if FITS[name] == "plain" and name != "guessed" else self.first


@dataclass(frozen=True)
class Answers:
    """What a predictor says of several planets, before factors."""

    predicted: Predicted
    seconds: float  # a planet
    members: np.ndarray  # effective sample size of the oracle, else 0, (P,)


def answer(name: str, fits: Fits, learned: Any) -> tuple[Predicted, np.ndarray]:
    """Predictions of one predictor, from what it has learned, and effective sample sizes."""
    nothing = np.zeros(len(fits.depth))
    if isinstance(learned, SpectralPrior):
        return predict_gaussian(learned, fits), nothing
    if name == "neural":
        return predict_neural(learned, fits), nothing
    if name in ("flat", "transit"):
        return parts_of(fits, fits.depth, fits.covariance), nothing
    stars: list[Any] = fits.stars.to_dict("records")
    widths = np.zeros(len(stars)) if fits.line_shape is None else fits.line_shape
    planets = zip(fits.depth, fits.covariance, widths.tolist(), stars, strict=True)
    found = [infer(learned[0], *sharpen(*planet[:3]), planet[3], learned[1]) for planet in planets]
    mean, covariance = (np.array([getattr(one, part) for one in found]) for part in ("mean", "covariance"))
    return parts_of(fits, mean, covariance), np.array([one.members for one in found])


def answer_part(path: Path, name: str, learned: Any) -> tuple[Predicted, np.ndarray, float]:
    """Of the planets of one file; also the seconds in all, those of their fits included."""
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files if key.startswith((FITS[name], "number", "stars"))}
    start = time.perf_counter()
    found = answer(name, unpacked(FITS[name], arrays), learned)
    return *found, time.perf_counter() - start + float(arrays[f"{FITS[name]}_seconds"].sum())


def answer_all(pool: ProcessPoolExecutor, paths: Sequence[Path], name: str, learned: Any, what: str) -> Answers:
    """Of the planets of all files."""
    found = side_by_side(pool, f"parts of {what}, {name}", answer_part, [(path, name, learned) for path in paths])
    parts, members, seconds = zip(*found, strict=True)
    count = sum(len(part.mu) for part in parts)
    return Answers(join(parts, np.arange(count)), sum(seconds) / count, np.concatenate(members))


def truth_of(paths: Sequence[Path]) -> np.ndarray:
    """True spectra of the planets of all files, (P, 283)."""
    return np.concatenate([np.load(path)["truth"] for path in paths])


def choose_widths(pool: ProcessPoolExecutor, paths: Sequence[Path], shapes: Any) -> Widths:
    """The widths whose oracle scores best on calibration planets."""
    truth, scores = truth_of(paths), []
    for widths in WIDTHS:
        found = answer_all(pool, paths, "oracle", (shapes, widths), "choosing widths").predicted
        scores.append(score(truth, found.mu, sigma_of(found, SigmaFactors())))
    print("oracle's scores by width:", *(f"{w.shape}, {w.star}: {s:.4f};" for w, s in zip(WIDTHS, scores, strict=True)))
    return WIDTHS[int(np.argmax(scores))]


@dataclass(frozen=True)
class Judged:
    """A predictor's final word on some planets, and how it compares with the truth."""

    truth: np.ndarray
    mu: np.ndarray
    sigma: np.ndarray
    z: dict[str, np.ndarray]  # of each of `PARTS`
    seconds: float

    @property
    def figures(self) -> dict[str, float]:
        """Score, and standard deviations of z."""
        spread = {name: float(self.z[part].std()) for part, name in Z_NAMES.items()}
        return {"score": score(self.truth, self.mu, self.sigma), **spread}


def judged(truth: np.ndarray, answers: Answers, factors: SigmaFactors | float) -> Judged:
    """With factors on sigma, or, for flat, with one sigma."""
    found, error = answers.predicted, truth - answers.predicted.mu
    errors = dict(zip(PARTS, (error[:, 0], *parts_of_errors(error)), strict=True))
    if isinstance(factors, float):
        z = {part: value / factors for part, value in errors.items()}
        return Judged(truth, found.mu, np.full_like(found.mu, factors), z, answers.seconds)
    variances = dict(zip(PARTS, (found.fgs1_variance, found.mean_variance, found.shape_variance), strict=True))
    logs = dict(zip(PARTS, log_factors(found, factors).T, strict=True))
    z = {p: (errors[p].T / np.sqrt(np.maximum(variances[p].T, 1e-16)) / np.exp(logs[p])).T for p in PARTS}
    return Judged(truth, found.mu, sigma_of(found, factors), z, answers.seconds)


def gain(name: str, seen: Judged, other: Judged, seed: int) -> dict[str, float]:
    """Print and return by how much one predictor scores more than another on the same planets, and by what."""
    rng, count = np.random.default_rng(seed), len(seen.truth)
    scores = [planet_score(seen.truth, mu, sigma) for mu, sigma in ((other.mu, other.sigma), (seen.mu, other.sigma))]
    steps = np.diff([*scores, planet_score(seen.truth, seen.mu, seen.sigma)], axis=0)
    drawn = [steps.sum(axis=0)[rng.integers(count, size=count)].mean() for _ in range(2000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    total, by_mu, by_sigma = steps.sum(axis=0).mean(), *steps.mean(axis=1)
    print(f"{name}: {total:+.4f} [{low:+.4f}, {high:+.4f}]; by mu {by_mu:+.4f}, by sigma {by_sigma:+.4f}")
    figures = {"gain": total, "low": low, "high": high, "by_mu": by_mu, "by_sigma": by_sigma}
    return {key: float(value) for key, value in figures.items()}


def planet_score(truth: np.ndarray, mu: np.ndarray, sigma: np.ndarray) -> np.ndarray:  # (P,)
    """Each planet's part of the score, before it is clipped."""
    return np.average(bin_scores(truth, mu, sigma, DEFAULT_REFERENCE), axis=1, weights=BIN_WEIGHTS)


def interval(seen: Judged, seed: int) -> tuple[float, float]:
    """95% of the score over planets drawn with replacement."""
    rng, count = np.random.default_rng(seed), len(seen.truth)
    drawn = [rng.integers(count, size=count) for _ in range(400)]
    low, high = np.percentile([score(seen.truth[k], seen.mu[k], seen.sigma[k]) for k in drawn], [2.5, 97.5])
    return float(low), float(high)


HEAD = (
    f"{'':34}{'score':29}{'error, RMS (median), ppm':42}{'sd of z':17}{'in 68%':17}{'in 90%':17}seconds\n"
    f"{'predictor':24}{'planets':10}{'[95%]':20}{'/oracle':9}{'FGS1':14}{'AIRS mean':14}{'AIRS shape':14}"
    f"{'FGS1 mean shape':17}{'FGS1 mean shape':17}{'FGS1 mean shape':17}a planet"
)


def row(name: str, seen: Judged, best: float | None, seed: int) -> None:
    """One line of the table."""
    found, (low, high) = summary(seen.truth, seen.mu, seen.sigma), interval(seen, seed)
    share = f"{found['score'] / best:.3f}" if best else ""
    both = [f"{found[f'{part}_ppm']:.1f} ({found[f'{part}_median_ppm']:.1f})" for part in PARTS]
    errors = "".join(f"{text:14}" for text in both)
    spread = " ".join(f"{seen.figures[z]:.2f}" for z in Z_NAMES.values())
    limits = [ndtri(0.5 + level / 2) for level in (0.68, 0.90)]
    inside = [" ".join(f"{np.mean(np.abs(seen.z[part]) < limit):.2f}" for part in PARTS) for limit in limits]
    scores = f"{found['score']:.4f} [{low:.3f}, {high:.3f}]"
    print(f"{name:22}{len(seen.truth):<10}{scores:22}{share:7}{errors}", end="")
    print(f"{spread:17}{inside[0]:17}{inside[1]:17}{seen.seconds:.3f}")


@dataclass(frozen=True)
class Learned:
    """All that was learned from training spectra, banks and calibration planets."""

    by_name: dict[str, Any]
    ood_bank: Any  # the oracle's shapes out of distribution
    factors: dict[str, SigmaFactors | float]

    def of(self, name: str, ood: bool) -> Any:
        """What `answer` needs; oracle and floor know the distribution that planets are from."""
        known = self.by_name[name]
        return (self.ood_bank, known[1]) if ood and name in ("oracle", "floor") else known


def poorer_priors(spectra: np.ndarray, stars: pd.DataFrame, prior: SpectralPrior) -> dict[str, SpectralPrior]:
    """Priors that lack a part, by the names in `WITHOUT`. The kind for other chemistry has a low rank of its own, so
    that no low rank means neither.
    """
    with patch("spectramind_nb.prior.learning.matern52", lambda um, length_um: np.eye(len(um))):
        white = learn_prior(spectra, stars)
    known = learn_prior(spectra, stars, chemistry=0.0)
    shapeless = learn_prior(spectra, stars, rank=0, chemistry=0.0)
    priors = (prior, learn_prior(spectra, stars, kinds=1), shapeless, known, white, learn_prior(spectra))
    return dict(zip(WITHOUT, priors, strict=True))


def learn_oracle(
    pool: ProcessPoolExecutor, setting: Setting, spectra: int, paths: Sequence[Path]
) -> tuple[tuple[Any, Widths], Any]:
    """The oracle's shapes and widths, and its shapes out of distribution."""
    banks = [setting.bank(kind, spectra) for kind in ("bank", "ood_bank")]
    jobs = [(bank, min(max(spectra // 200, 8), 120)) for bank in banks]
    shapes, ood = side_by_side(pool, "banks", learn_shapes, jobs)
    return (shapes, choose_widths(pool, paths, shapes)), ood


def learn(
    pool: ProcessPoolExecutor,
    setting: Setting,
    planets: int,
    spectra: int,
    network: Path | None,
    without: bool,
    names: Sequence[str],
) -> Learned:
    """Learn from training spectra and banks, then choose widths and factors on calibration planets."""
    train, yardsticks = setting.bank("train", TRAIN), bool(YARDSTICKS & {*names})
    stars = pd.DataFrame([train.planet(number).system.row() for number in range(TRAIN)])
    prior, ood = learn_prior(train.spectrum, stars), None
    files = Files(*fit_twice(pool, setting, "calib", planets, prior, yardsticks=yardsticks))
    truth = truth_of(files.first)
    by_name: dict[str, Any] = {"flat": None, "transit": None, "gaussian": prior}
    if {"oracle", "floor"} & {*names}:
        known, ood = learn_oracle(pool, setting, spectra, files.first[:25])
        by_name |= {"oracle": known, "floor": known}
    if network:
        by_name["neural"] = read_network(network)
        by_name["bank"] = by_name["neural"].prior
    by_name = {name: known for name, known in by_name.items() if name in names}
    if without:
        by_name |= poorer_priors(train.spectrum, stars, prior)
    factors: dict[str, SigmaFactors | float] = dict.fromkeys(("transit", WITHOUT[0]), SigmaFactors())
    for name in (name for name in FITS if name in by_name and name not in factors):
        found = answer_all(pool, files.of(name), name, by_name[name], "calib").predicted
        sigma = partial(learn_factors, truth, found, DEFAULT_REFERENCE, λ_FACTORS)
        factors[name] = fixed_sigma(truth, found.mu) if name == "flat" else sigma()
    return Learned(by_name, ood, factors)


def compare(pool: ProcessPoolExecutor, files: Files, learned: Learned, ood: bool, seed: int) -> dict[str, Any]:
    """The table of one split; its part of the JSON."""
    truth, split = truth_of(files.first), "ood" if ood else "test"
    names = [name for name in FITS if name in learned.by_name]
    found = {name: answer_all(pool, files.of(name), name, learned.of(name, ood), split) for name in names}
    seen = {name: judged(truth, answers, learned.factors[name]) for name, answers in found.items()}
    scores = {name: one.figures["score"] for name, one in seen.items()}
    print(f"\n{'out of' if ood else 'in'} distribution\n{HEAD}")
    for name, one in seen.items():
        row(name, one, scores.get("oracle"), seed)
    if "oracle" in found:
        low, middle = np.percentile(found["oracle"].members, [5, 50])
        print(f"oracle rests on {middle:.0f} members of its bank (median; 5%: {low:.1f})")
    figures = {**scores, "seconds_per_planet": seen["gaussian"].seconds, **_spread(seen["gaussian"])}
    if {"neural", "bank"} <= {*seen}:
        figures["neural_gain"] = gain("neural over bank", seen["neural"], seen["bank"], seed)
    if {"neural", "oracle"} <= {*seen}:
        figures["neural_of_oracle"] = scores["neural"] / scores["oracle"]
    parts = [name for name in WITHOUT if name in seen]
    costs = {name: gain(f"{name}, over gaussian", seen[name], seen["gaussian"], seed) for name in parts}
    return {key: value for key, value in figures.items() if key not in parts} | ({"without": costs} if parts else {})


def _spread(seen: Judged) -> dict[str, float]:
    return {name: value for name, value in seen.figures.items() if name != "score"}


def stress_table(
    pool: ProcessPoolExecutor, setting: Setting, planets: int, learned: Learned
) -> dict[str, dict[str, Any]]:
    """Predictors under what the fit was not made for, on the same planets; their figures, gaussian's first."""
    seen: dict[str, dict[str, Judged]] = {}
    names = [name for name in ("gaussian", "bank", "neural") if name in learned.by_name]
    for stress in STRESSES:
        files = Files(*fit_twice(pool, setting, "test", planets, learned.by_name["gaussian"], STRESSES[stress]))
        truth, under = truth_of(files.first)[:planets], stress or "as simulated"
        found = {name: answer_all(pool, files.of(name), name, learned.by_name[name], under) for name in names}
        seen[under] = {name: judged(truth, answers, learned.factors[name]) for name, answers in found.items()}
    for name in names:
        print(f"\n{name} under what the fit was not made for\n{HEAD}")
        for under, by_name in seen.items():
            row(under, by_name[name], None, setting.seed)
    figures: dict[str, dict[str, Any]] = {under: by_name["gaussian"].figures for under, by_name in seen.items()}
    for under, by_name in seen.items() if {"bank", "neural"} <= {*names} else ():
        figures[under]["neural"] = by_name["neural"].figures
        named = f"neural over bank, {under}"
        figures[under]["neural_gain"] = gain(named, by_name["neural"], by_name["bank"], setting.seed)
    return figures


def fit_raw(
    root: Path, folder: Path, seed: int, number: int, label: int, planet: SimulatedPlanet
) -> dict[str, list[Fitted]]:
    """Flat and plain fit of a planet by raw frames and by light curves."""
    extract_planet(("test", label), RawFolder(root), folder)
    kinds, star = ("fgs1_white", "airs_bins"), planet.system.row()
    frames = {kind: read_npz(folder / f"{kind}_{label}.npz", kind) for kind in kinds}
    curves = simulate_features(planet_stream(seed, "test", number, 3), planet, FRAME_COUNTS["full"])
    options = FitOptions()
    return {way: [flat_fit(f, star), fitted(f, star, options)] for way, f in (("frames", frames), ("curves", curves))}


def raw_table(pool: ProcessPoolExecutor, setting: Setting, count: int, learned: Learned) -> dict[str, float]:
    """Frames against light curves on the same planets."""
    planets = draw_planets(setting.seed, "test", count, progress=tell)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "raw"
        simulate_dataset(root, 0, count, setting.seed, "full", workers=setting.workers, progress=tell)
        jobs = [(root, Path(folder), setting.seed, n, *planet) for n, planet in enumerate(planets.items())]
        fits = side_by_side(pool, "planets by frames and by curves", fit_raw, jobs)
    truth = np.array([planet.spectrum for planet in planets.values()])
    about = {"number": np.array([*planets]), "stars": json.dumps([planet.system.row() for planet in planets.values()])}
    scores = {}
    print(f"\nraw frames and light curves, the same planets\n{HEAD}")
    for name in (name for name in ("flat", "transit", "gaussian") if name in learned.by_name):
        mus = {}
        for way in ("frames", "curves"):
            own = [one[way][name != "flat"] for one in fits]
            found, _ = answer(name, unpacked(name, about | packed(name, own)), learned.by_name[name])
            seconds = float(np.mean([one.seconds for one in own]))
            seen = judged(truth, Answers(found, seconds, np.zeros(count)), learned.factors[name])
            row(f"{name}, {way}", seen, None, setting.seed)
            mus[way], scores[f"{name}_{way}"] = found.mu, seen.figures["score"]
        apart = 1e6 * (mus["frames"] - mus["curves"])
        parts = {"FGS1": apart[:, 0], "AIRS mean": apart[:, 1:].mean(axis=1)}
        told = (f"{part} {x.mean():.1f}, rms {np.sqrt(np.mean(x**2)):.1f} ppm" for part, x in parts.items())
        print("    depth of frames minus that of curves, mean:", "; ".join(told))
    return scores


def rounded(figures: Any) -> Any:
    """All numbers to four decimals."""
    return {k: rounded(v) for k, v in figures.items()} if isinstance(figures, dict) else round(figures, 4)


def main() -> None:
    """Print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options = {"planets": 300, "bank": 20000, "stress": 0, "raw": 0, "seed": 1, "workers": 2}
    for option, default in options.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--network", default="laptop")
    parser.add_argument("--without", action="store_true")
    every = [name for name in FITS if name not in WITHOUT]
    parser.add_argument("--only", default=",".join(every))
    args = parser.parse_args()
    names = args.only.split(",")
    if "gaussian" not in names or not {*names} <= {*every}:
        parser.error(f"--only {args.only}: take gaussian, and any others of {', '.join(every)}")
    network = None if args.network == "none" else network_file(args.network)
    setting = Setting(args.folder, args.seed, args.workers)
    args.folder.mkdir(parents=True, exist_ok=True)
    with open_pool(args.workers) as pool:
        learned = learn(pool, setting, args.planets, args.bank, network, args.without, names)
        print(physics(), *(f"factors of {name}: {learned.factors[name]}" for name in learned.factors), sep="\n")
        known, yardsticks = learned.by_name["gaussian"], bool(YARDSTICKS & {*names})
        fits = partial(fit_twice, pool, setting, planets=args.planets, prior=known, yardsticks=yardsticks)
        figures = compare(pool, Files(*fits("test")), learned, False, args.seed)
        figures["ood"] = compare(pool, Files(*fits("ood")), learned, True, args.seed)
        if args.stress:
            stressed = min(args.stress, args.planets)
            figures["stress"] = stress_table(pool, setting, stressed, learned)
        if args.raw:
            figures["raw"] = raw_table(pool, setting, args.raw, learned)
    print(json.dumps(rounded(figures)))


if __name__ == "__main__":
    main()
