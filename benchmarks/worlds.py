"""Predictors side by side in the named worlds, for development, and in eight that no one tunes to; last line JSON.

    python benchmarks/worlds.py [--planets 100] [--only NAME,NAME] [--raw 0] [--unlabelled -1] [--bank 2000]
                                [--calib 100] [--network laptop] [--seed 1] [--workers 2]

Prior, network and factors of sigma come from the world `default`: `--calib` planets there choose the factors; the
network's second part has also learned in other worlds (benchmarks/train_evidence.py), but in none for judgement. Then
`--planets` test planets are observed in each world, the same ones as far as the world's chemistry allows, by the
light-curve path. `--raw N`: also N full-size planets of each world as raw frames through 00 and 01. `--only`: some
worlds. Spectra and fits are kept in `--folder`, and a run that was cut goes on from there.

As in a run, planets are fitted twice: the fit's priors are learned, without labels, from first fits of `--unlabelled`
of the same planets (-1: all; 0: planets are fitted once, with the guessed priors).

flat: one depth a planet, and one sigma, from the other half of the world's planets. transit: the fit alone.
gaussian: with the spectral prior. guessed: the same from first fits. neural: the network, from there. oracle: knows the
world. Its spectral prior is `--bank` spectra of the world's own chemistry; its fit knows the offsets and scatters of
orbits, the offset, scatter and temperature dependence of limb darkening, form and range of the gain drift, the line
shape, and whether noise is red; its factors of sigma come from the other half of the world's planets. It does not know
the law of limb darkening (its priors are wider where that is not quadratic), nor where jumps, spots and dilution act:
with those it is no upper limit.

z: standard deviation of error over stated error, of `gaussian` (and of `neural`, in the JSON line). bias: mean error of
the AIRS mean by `gaussian`, in ppm.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np
import pandas as pd
from fitted_planets import Fitted, Setting, fit_twice, fitted, flat_fit, open_pool, packed, side_by_side, tell, unpacked
from oracle import Widths, learn_shapes
from predictors import Answers, Files, Judged, answer, answer_all, judged, rounded, truth_of, λ_FACTORS
from train_network import TRAIN

from spectramind_nb.core.contracts import read_npz
from spectramind_nb.core.errors import UserError
from spectramind_nb.core.files import network_file
from spectramind_nb.core.metric import DEFAULT_REFERENCE, score
from spectramind_nb.detector.extraction import extract_planet
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.network.weights import read_network
from spectramind_nb.prior.flat import fixed_sigma
from spectramind_nb.prior.learning import learn_prior
from spectramind_nb.prior.spectral_prior import SpectralPrior, prior_of_weights
from spectramind_nb.simulator.bank import Bank
from spectramind_nb.simulator.data_sets import draw_planets, simulate_dataset
from spectramind_nb.simulator.population import SimulatedPlanet, changed_spectrum, planet_stream
from spectramind_nb.simulator.worlds import DEFAULT_WORLD, NAMED_WORLDS, World, find_world, read_world
from spectramind_nb.transits.fit_priors import FitOptions
from spectramind_nb.uncertainty.sigma_factors import SigmaFactors, learn_factors

JUDGEMENT = Path(__file__).parent / "judgement_worlds"
NAMES = ("flat", "transit", "guessed", "gaussian", "neural")
WIDTHS = Widths(0.5, 0.7)  # of the oracle's prior, chosen by benchmarks/predictors.py


def judgement_worlds() -> dict[str, World]:
    """Worlds that only this benchmark may use, by name."""
    return {path.stem: read_world(path) for path in sorted(JUDGEMENT.glob("*.yaml"))}


def package_prior() -> SpectralPrior:
    """The spectral prior of the package's weights, by which a line shape is learned."""
    return prior_of_weights(network_file("laptop"))


@dataclass(frozen=True)
class Known:
    """What predictors have learned in the world `default`."""

    by_name: dict[str, Any]
    factors: dict[str, SigmaFactors | float]
    unlabelled: int  # planets from which the priors of a world's fits are learned; -1 for all


def learn_in_default(
    pool: ProcessPoolExecutor, setting: Setting, calib: int, network: Path | None, unlabelled: int
) -> Known:
    """Prior, network and factors of sigma."""
    train = setting.bank("train", TRAIN)
    files = Files(*fit_twice(pool, setting, "calib", calib, package_prior(), DEFAULT_WORLD, True, unlabelled))
    stars = pd.DataFrame([train.planet(number).system.row() for number in range(TRAIN)])
    prior = learn_prior(train.spectrum, stars)
    by_name: dict[str, Any] = {"flat": None, "transit": None, "guessed": prior, "gaussian": prior}
    if network:
        by_name["neural"] = read_network(network)
    factors: dict[str, SigmaFactors | float] = {"transit": SigmaFactors()}
    truth = truth_of(files.first)
    for name in (name for name in by_name if name not in factors):
        found = answer_all(pool, files.of(name), name, by_name[name], "calib").predicted
        sigma = partial(learn_factors, truth, found, DEFAULT_REFERENCE, λ_FACTORS)
        factors[name] = fixed_sigma(truth, found.mu) if name == "flat" else sigma()
    return Known(by_name, factors, unlabelled)


def bank_of(setting: Setting, world: World, count: int) -> Bank:
    """Spectra of a world's chemistry and population, for the oracle."""
    bank = setting.bank("bank", count, world.planets)
    streams = [planet_stream(setting.seed, "bank", number, 6) for number in range(count)]
    changed = [changed_spectrum(rng, one, world.planets) for rng, one in zip(streams, bank.spectrum, strict=True)]
    return replace(bank, spectrum=np.array(changed))


def judge_flat(pool: ProcessPoolExecutor, paths: Sequence[Path], name: str) -> Judged:
    """One depth a planet; its sigma is the best one of every other planet of the world."""
    answers, truth = answer_all(pool, paths, "flat", None, name), truth_of(paths)
    halves, sigma = np.arange(len(truth)) % 2 == 0, np.empty_like(truth)
    for half in (halves, ~halves):
        sigma[half] = fixed_sigma(truth[~half], answers.predicted.mu[~half])
    return Judged(truth, answers.predicted.mu, sigma, {}, answers.seconds)


def judge_oracle(
    pool: ProcessPoolExecutor, setting: Setting, world: World, paths: Sequence[Path], spectra: int
) -> Judged:
    """The oracle, its factors learned on every other planet."""
    bank = bank_of(setting, world, spectra)
    (shapes,) = side_by_side(pool, "banks", learn_shapes, [(bank, min(max(spectra // 200, 8), 120))])
    answers, truth = answer_all(pool, paths, "oracle", (shapes, WIDTHS), world.name), truth_of(paths)
    halves = np.arange(len(truth)) % 2 == 0
    found, sigma = answers.predicted, np.empty_like(truth)
    z: dict[str, np.ndarray] = {}
    for half in (halves, ~halves):
        factors = learn_factors(truth[~half], chosen(found, ~half), DEFAULT_REFERENCE, λ_FACTORS)
        seen = judged(truth[half], Answers(chosen(found, half), 0.0, np.zeros(half.sum())), factors)
        sigma[half] = seen.sigma
        for part, value in seen.z.items():
            z.setdefault(part, np.empty((len(truth), *value.shape[1:])))[half] = value
    return Judged(truth, found.mu, sigma, z, answers.seconds)


def chosen(found: Any, some: np.ndarray) -> Any:
    """Some planets of predictions."""
    rows = {name: value if value is None else value[some] for name, value in vars(found).items()}
    return type(found)(**rows)


def figures_of(seen: dict[str, Judged]) -> dict[str, float]:
    """Scores of all predictors; z and bias of gaussian, z of neural."""
    plain = seen["gaussian"]
    bias = (plain.mu - plain.truth)[:, 1:].mean(axis=1)
    figures = {name: score(one.truth, one.mu, one.sigma) for name, one in seen.items()}
    z = {name: value for name, value in plain.figures.items() if name != "score"}
    if "neural" in seen:
        z |= {f"neural_{name}": value for name, value in seen["neural"].figures.items() if name != "score"}
    return {**figures, **z, "bias_ppm": 1e6 * float(bias.mean())}


def in_world(
    pool: ProcessPoolExecutor, setting: Setting, world: World, known: Known, planets: int, spectra: int
) -> dict[str, float]:
    """Figures of all predictors in a world, by light curves."""
    files = Files(*fit_twice(pool, setting, "test", planets, package_prior(), world, True, known.unlabelled))
    truth, seen = truth_of(files.first), {"flat": judge_flat(pool, files.first, world.name)}
    for name, learned in ((name, learned) for name, learned in known.by_name.items() if name != "flat"):
        found = answer_all(pool, files.of(name), name, learned, world.name)
        seen[name] = judged(truth, found, known.factors[name])
    if spectra:
        seen["oracle"] = judge_oracle(pool, setting, world, files.first, spectra)
    return figures_of(seen)


def fit_frames(root: Path, folder: Path, label: int, planet: SimulatedPlanet) -> dict[str, Fitted]:
    """Flat and plain fit of a planet's raw frames."""
    extract_planet(("test", label), RawFolder(root), folder)
    frames = {kind: read_npz(folder / f"{kind}_{label}.npz", kind) for kind in ("fgs1_white", "airs_bins")}
    star = planet.system.row()
    return {"flat": flat_fit(frames, star), "plain": fitted(frames, star, FitOptions())}


def by_frames(pool: ProcessPoolExecutor, setting: Setting, world: World, known: Known, count: int) -> dict[str, float]:
    """Figures of all predictors but the oracle in a world, by raw frames."""
    planets = draw_planets(setting.seed, "test", count, world=world)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "raw"
        simulate_dataset(root, 0, count, setting.seed, "full", workers=setting.workers, progress=tell, world=world)
        jobs = [(root, Path(folder), label, planet) for label, planet in planets.items()]
        fits = side_by_side(pool, f"planets by frames, {world.name}", fit_frames, jobs)
    truth = np.array([planet.spectrum for planet in planets.values()])
    about = {"number": np.array([*planets]), "stars": json.dumps([planet.system.row() for planet in planets.values()])}
    seen = {}
    for name, learned in known.by_name.items():
        kind = "flat" if name == "flat" else "plain"  # these planets are fitted once
        arrays = about | packed(kind, [fit[kind] for fit in fits])
        found, members = answer(name, unpacked(kind, arrays), learned)
        seen[name] = judged(truth, Answers(found, 0.0, members), known.factors[name])
    return figures_of(seen)


def row(name: str, figures: dict[str, float]) -> None:
    """One line of the table."""
    scores = "".join(f"{figures.get(key, np.nan):>9.3f}" for key in (*NAMES, "oracle"))
    z = "".join(f"{figures[key]:>8.2f}" for key in ("z_fgs", "z_mean", "z_shape"))
    print(f"{name:20}{scores}{z}{figures['bias_ppm']:>9.1f}", flush=True)


def head(title: str) -> None:
    """The head of a table."""
    names = "".join(f"{key:>9}" for key in (*NAMES, "oracle"))
    print(f"\n{title:20}{names}{'z FGS1':>8}{'z mean':>8}{'z shape':>8}{'bias':>9}", flush=True)


def main() -> None:
    """Print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"planets": 100, "raw": 0, "unlabelled": -1, "bank": 2000, "calib": 100, "seed": 1, "workers": 2}
    for option, default in sizes.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--only", default="", help="names of worlds, or files; default: all")
    parser.add_argument("--network", default="laptop")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"))
    args = parser.parse_args()
    if args.planets < 2 or args.calib < 2:
        parser.error("--planets and --calib: take 2 or more")
    groups = {"development": dict(NAMED_WORLDS), "judgement": judgement_worlds()}
    every = {name: world for group in groups.values() for name, world in group.items()}
    if args.only:
        try:
            groups = {"chosen": {n: every[n] if n in every else find_world(n) for n in args.only.split(",")}}
        except UserError as error:
            parser.error(str(error))
    args.folder.mkdir(parents=True, exist_ok=True)
    setting, network = Setting(args.folder, args.seed, args.workers), None
    if args.network != "none":
        network = network_file(args.network)
    figures: dict[str, dict[str, Any]] = {}
    with open_pool(args.workers) as pool:
        known = learn_in_default(pool, setting, args.calib, network, args.unlabelled)
        for group, worlds in groups.items():
            head(group)
            for name, world in worlds.items():
                figures[name] = in_world(pool, setting, world, known, args.planets, args.bank)
                row(name, figures[name])
                if args.raw:
                    figures[name]["raw"] = by_frames(pool, setting, world, known, args.raw)
                    row("  by frames", figures[name]["raw"])
    print(json.dumps({"worlds": rounded(figures)}))


if __name__ == "__main__":
    main()
