"""Measure how much predictors trained in the default world gain from labelled planets of another; last line JSON.

    python benchmarks/adaptation.py [--labelled 200] [--planets 100] [--only NAME,NAME] [--network laptop] [--seed 1]
                                    [--workers 2]

Prior, network and factors of sigma as they are shipped come from simulated worlds. Then each of them learns from
`--labelled` planets of a judgement world, which no method was developed on, and is judged on `--planets` others of it.
Factors are learned out of fold where the network has learned from the same planets. Each row adds to `as shipped`:

factors: factors of sigma. prior: the spectral prior of `gaussian`, learned from the labelled spectra, with factors.
tuned: the network trained on from its weights, as `train=finetune` does it, with factors.

Planets are fitted twice, as in a run. Fits are kept in `--folder`, and a run that was cut goes on from there.
"""

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np
from fitted_planets import Setting, fit_twice, open_pool, unpacked
from predictors import Answers, Judged, gain, judged, rounded, truth_of, λ_FACTORS
from worlds import judgement_worlds, package_prior

from spectramind_nb.core.files import network_file
from spectramind_nb.core.metric import DEFAULT_REFERENCE
from spectramind_nb.network.fine_tuning import Material, fine_tune, some_planets
from spectramind_nb.network.mamba import FGS1_CHANNELS
from spectramind_nb.network.model import network_start
from spectramind_nb.network.trainer import TrainOptions
from spectramind_nb.network.weights import Weights, read_network
from spectramind_nb.pipeline.learned import factors_of
from spectramind_nb.pipeline.predictors import join, predict_neural
from spectramind_nb.prior.learning import learn_prior
from spectramind_nb.simulator.worlds import World
from spectramind_nb.uncertainty.gaussian import predict_gaussian
from spectramind_nb.uncertainty.sigma_factors import Fits, Predicted, SigmaFactors, learn_factors, take_planets

Predictor = Callable[[Fits], Predicted]
TUNING = TrainOptions(epochs=4, batch=64, lr=3e-4)  # as configs/train/shipped.yaml


@dataclass(frozen=True)
class Planets:
    """Hold fitted planets with their true spectra."""

    fits: Fits
    truth: np.ndarray  # (P, 283)
    noise_variance: np.ndarray  # (P, 283)
    nuisance: np.ndarray  # (P, 283, K)


def read_planets(paths: Sequence[Path]) -> Planets:
    """Read all planets of files that `fit_twice` wrote."""
    parts = []
    for path in paths:
        with np.load(path) as archive:
            parts.append({name: archive[name] for name in archive.files})
    most = max(part["plain_nuisance"].shape[2] for part in parts)
    for part in parts:
        part["plain_nuisance"] = np.pad(n := part["plain_nuisance"], ((0, 0), (0, 0), (0, most - n.shape[2])))
    names = ("number", "plain_depth", "plain_noise", "plain_nuisance", "plain_figures")
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in names}
    for name in ("stars", "plain_quality"):
        arrays[name] = np.array(json.dumps([row for part in parts for row in json.loads(str(part[name]))]))
    arrays["plain_line_shape"] = parts[0]["plain_line_shape"]
    fits = unpacked("plain", arrays)
    return Planets(fits, truth_of(paths), arrays["plain_noise"], arrays["plain_nuisance"])


def learned_prior(labelled: Planets, chosen: np.ndarray) -> Predictor:
    """Learn a spectral prior from some of the labelled spectra; return `gaussian` with it."""
    return partial(predict_gaussian, learn_prior(labelled.truth[chosen], labelled.fits.stars[chosen]))


def tuned_network(weights: Weights, labelled: Planets, chosen: np.ndarray) -> Predictor:
    """Fine-tune the network on some of the labelled planets; return `neural` with it."""
    no_curves = np.full((len(labelled.truth), 1, len(FGS1_CHANNELS)), np.nan)
    start = network_start(weights.prior, labelled.fits)
    material = Material(start, labelled.truth, no_curves, labelled.noise_variance, labelled.nuisance)
    return partial(predict_neural, fine_tune(some_planets(material, chosen), weights, TUNING))


def out_of_fold(labelled: Planets, learn: Callable[[Planets, np.ndarray], Predictor]) -> Predicted:
    """Predict each half of the labelled planets by a predictor that has learned from the other half."""
    even = np.arange(len(labelled.truth)) % 2 == 0
    parts = [learn(labelled, ~half)(take_planets(labelled.fits, half)) for half in (even, ~even)]
    return join(parts, np.argsort(np.concatenate([np.flatnonzero(half) for half in (even, ~even)])))


def in_world(labelled: Planets, test: Planets, weights: Weights) -> dict[str, dict[str, Judged]]:
    """Judge `gaussian` and `neural` as shipped, and after each has learned from labelled planets."""
    everyone, found = np.ones(len(labelled.truth), bool), dict[str, dict[str, Judged]]()
    predictors: dict[str, tuple[Predictor, str, Callable[[Planets, np.ndarray], Predictor]]] = {
        "gaussian": (partial(predict_gaussian, weights.prior), "prior", learned_prior),
        "neural": (partial(predict_neural, weights), "tuned", partial(tuned_network, weights)),
    }
    for name, (shipped, further, learn) in predictors.items():
        own, answers = shipped(labelled.fits), Answers(shipped(test.fits), 0.0, np.zeros(len(test.truth)))
        adapted = replace(answers, predicted=learn(labelled, everyone)(test.fits))
        found[name] = {
            "as shipped": judged(test.truth, answers, factors_of(json.loads(weights.about["factors"])[name])),
            "factors": judged(test.truth, answers, factors_by(labelled, own)),
            further: judged(test.truth, adapted, factors_by(labelled, out_of_fold(labelled, learn))),
        }
    return found


def factors_by(labelled: Planets, predicted: Predicted) -> SigmaFactors:
    """Learn factors of sigma from labelled planets."""
    return learn_factors(labelled.truth, predicted, DEFAULT_REFERENCE, λ_FACTORS)


def figures_of(seen: Mapping[str, Mapping[str, Judged]]) -> dict[str, dict[str, dict[str, float]]]:
    """Print and return the score of each row, z, and what the row gains over `as shipped`."""
    return {
        name: {row: one.figures | gain(f"  {name}, {row}", one, rows["as shipped"], 1) for row, one in rows.items()}
        for name, rows in seen.items()
    }


def fitted_in(pool: ProcessPoolExecutor, setting: Setting, world: World, kind: str, count: int) -> Planets:
    """Fit planets of a world as a run does."""
    yardsticks = kind == "test"  # with those, the files are the ones of benchmarks/worlds.py
    return read_planets(fit_twice(pool, setting, kind, count, package_prior(), world, yardsticks)[1])


def main() -> None:
    """Print the gains in each world, and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in {"labelled": 200, "planets": 100, "seed": 1, "workers": 2}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--only", default=",".join(judgement_worlds()))
    parser.add_argument("--network", default="laptop")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"))
    a = parser.parse_args()
    weights, setting = read_network(network_file(a.network)), Setting(a.folder, a.seed, a.workers)
    found = {}
    with open_pool(a.workers) as pool:
        for name in a.only.split(","):
            world = judgement_worlds()[name]
            labelled = fitted_in(pool, setting, world, "calib", a.labelled)
            print(name)
            found[name] = figures_of(in_world(labelled, fitted_in(pool, setting, world, "test", a.planets), weights))
    print(json.dumps(rounded(found)))


if __name__ == "__main__":
    main()
