"""Train the network on simulated planets, and keep its weights; progress on the terminal, last line JSON.

    python benchmarks/train_network.py --out FILE [--alone 60] [--reuse 4] [--epochs 10] [--more 40] [--pairs 20000]
                                        [--seed 1] [--rules λ_sm=.2,λ_coh=.1]

First what is known of the planet as a whole, without the graph, which takes a tenth of the time: `--alone` epochs, each
draw of pairs used `--reuse` times. Then with the graph: `--epochs`, each with pairs of its own. Then `--more` epochs
without it on other pairs; the weights that are kept are the mean of those before and after. Factors of sigma, for
raw data without labels, are learned on `--calib` planets more. `--rules`: weights of the physics rules (chapter 05)
that count beside the likelihood; none by default.

Spectra: the first half of the bank of `--spectra`; the other half is held out. Noise: the fits of the training planets,
of which every tenth is held out. The Gaussian predictor that it starts from has learned the same half of the bank. An
interrupted run resumes from its last epoch.
"""

import argparse
import json
import multiprocessing
import os
import shlex
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np
import pandas as pd
import torch
from fitted_planets import Setting, fit_twice, open_pool, unpacked

from spectramind_nb.core.metric import DEFAULT_REFERENCE
from spectramind_nb.network.examples import Noise, Spectra, TrainingExamples, draw_examples, spectra_of
from spectramind_nb.network.model import NetworkOptions, Scaling, SpectralNetwork, learn_scaling, network_of
from spectramind_nb.network.trainer import (
    Progress,
    Supervised,
    TrainingData,
    TrainOptions,
    mean_loss,
    train_network,
    training_data,
)
from spectramind_nb.network.weights import Weights, write_network
from spectramind_nb.pipeline.predictors import join, predict_neural
from spectramind_nb.prior.learning import learn_prior
from spectramind_nb.prior.spectral_prior import SpectralPrior, log_scale
from spectramind_nb.rules.losses import RuleLoss
from spectramind_nb.simulator.bank import Bank
from spectramind_nb.simulator.population import physics
from spectramind_nb.uncertainty.gaussian import predict_gaussian
from spectramind_nb.uncertainty.sigma_factors import learn_factors

SPECTRA = 40000  # of the bank
TRAIN = 1100  # labelled planets of the challenge
EACH = 100  # pairs with the noise of one fit, in one epoch


@dataclass(frozen=True)
class Drawing:
    """All that pairs are drawn from."""

    spectra: Spectra
    noise: Noise
    prior: SpectralPrior
    seed: int

    def pairs(self, epoch: int, count: int, spoiled: float) -> TrainingExamples:
        """`count` pairs, with the noise of some fits, other ones each epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        return draw_examples(rng, self.spectra, self.noise, self.prior, count, -(-count // EACH), spoiled)


def learning(drawing: Drawing, scaling: Scaling, epoch: int, count: int, spoiled: float) -> TrainingData:
    """TrainingExamples as the network takes them."""
    pairs = drawing.pairs(epoch, count, spoiled)
    return training_data(pairs.start, pairs.truth, scaling)


@dataclass(frozen=True)
class Data:
    """What is learned from, and what is judged on."""

    drawing: Drawing
    scaling: Scaling
    held_out: TrainingData


def noise_of(paths: list[Path]) -> Noise:
    """Noise of the fits in some files."""
    files: list[Any] = [np.load(path) for path in paths]
    most = max(file["plain_nuisance"].shape[2] for file in files)
    wide = [np.pad(n := file["plain_nuisance"], ((0, 0), (0, 0), (0, most - n.shape[2]))) for file in files]
    level = np.concatenate([file["truth"][:, 1:].mean(axis=1) for file in files])
    stars = pd.concat([pd.DataFrame(json.loads(str(file["stars"]))) for file in files], ignore_index=True)
    variance = np.concatenate([file["plain_noise"] for file in files])
    return Noise(variance, np.concatenate(wide).astype(float), level, np.asarray(log_scale(stars, level)))


def some(values: Any, chosen: Any) -> Any:
    """Some rows of each array."""
    return type(values)(**{name: array[chosen] for name, array in vars(values).items()})


def half_prior(bank: Bank, half: int) -> SpectralPrior:
    """The Gaussian predictor's prior, of the bank's first half."""
    stars = pd.DataFrame(dict(zip(bank.names, bank.parameters.T, strict=True)))
    return learn_prior(bank.spectrum[:half], stars[:half])


@dataclass(frozen=True)
class Training:
    """One part of the training: so many layers of the graph, so many epochs, each draw of pairs used so many times."""

    number: int  # no two trainings share a draw
    layers: int
    epochs: int
    reuse: int
    lr: float


def train(a: argparse.Namespace, training: Training, data: Data, before: SpectralNetwork | None) -> SpectralNetwork:
    """A network after this training."""
    torch.manual_seed(a.seed)
    made = network_of(NetworkOptions(airs_width=a.width, airs_layers=training.layers), data.scaling)
    if before is not None:
        made.load_state_dict(before.state_dict(), strict=False)
    coming: dict[int, Future[TrainingData]] = {}
    label = f"training {training.number}, {training.layers} layers, epoch"
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:

        def source(epoch: int) -> TrainingData:
            draw = epoch // training.reuse + 10_000 * training.number
            for k in (draw, draw + 1):  # the next pairs are drawn meanwhile
                if k not in coming:
                    coming[k] = pool.submit(learning, data.drawing, data.scaling, k, a.pairs, a.spoiled)
            for k in [k for k in coming if k < draw]:
                del coming[k]
            return coming[draw].result()

        options = TrainOptions(epochs=training.epochs, seed=a.seed, lr=training.lr)
        objective = Supervised(made, options.aux_weight, options.worst, RuleLoss(a.rules))
        checkpoint = a.out.with_suffix(f".{training.number}.checkpoint")
        tell = partial(tell_progress, label, training.epochs)
        train_network(made, source, a.pairs, data.held_out, options, checkpoint, tell, objective=objective)
    return made


def halfway(before: SpectralNetwork, after: SpectralNetwork) -> SpectralNetwork:
    """The first network, the mean of both where the second has the same parts."""
    state = before.state_dict()
    for name, value in after.state_dict().items():
        state[name].lerp_(value, 0.5)
    return before


def rule_weights(text: str) -> dict[str, float]:
    """Weights of `λ_sm=.2,λ_coh=.1`."""
    return {name: float(value) for name, value in (word.split("=") for word in text.split(",") if word)}


def factors_of(weights: Weights, paths: list[Path]) -> str:
    """JSON of the factors of sigma that calibration planets ask for, with the network and without."""
    parts, truth = [], np.concatenate([np.load(path)["truth"] for path in paths])
    for path in paths:
        with np.load(path) as archive:
            fits = unpacked(
                "plain", {k: archive[k] for k in archive.files if k.startswith(("plain", "number", "star"))}
            )
        parts.append((predict_gaussian(weights.prior, fits), predict_neural(weights, fits)))
    found = {}
    for name, each in zip(("gaussian", "neural"), zip(*parts, strict=True), strict=True):
        predicted = join(each, np.arange(len(truth)))
        found[name] = asdict(learn_factors(truth, predicted, DEFAULT_REFERENCE, 0.02))
    return json.dumps(found)


def tell_progress(what: str, epochs: int, progress: Progress, seconds: float) -> None:
    """A line on the terminal."""
    left = seconds / len(progress.loss) * (epochs - progress.epoch)
    found = f"learned {progress.loss[-1]:.4f}, held out {progress.held_out[-1]:.4f}"
    print(f"{what} {progress.epoch}/{epochs}: {found}, {left:.0f} s left", file=sys.stderr, flush=True)


def main() -> None:
    """Train, and print what was gained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    sizes = {"alone": 60, "reuse": 4, "epochs": 10, "more": 40, "pairs": 20000, "spectra": SPECTRA, "calib": 500}
    for option, default in {**sizes, "seed": 1, "width": 24, "layers": 2}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--spoiled", type=float, default=0.4)
    parser.add_argument("--rules", type=rule_weights, default={})
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"))
    a = parser.parse_args()
    setting = Setting(a.folder, a.seed, 2)
    bank, half = setting.bank("bank", a.spectra), a.spectra // 2
    spectra, prior = spectra_of(bank), half_prior(bank, half)
    with open_pool(2) as pool:
        noise = noise_of(fit_twice(pool, setting, "train", TRAIN, prior)[1])
    tenth = np.arange(len(noise.level)) % 10 == 0
    drawing = Drawing(some(spectra, slice(half)), some(noise, ~tenth), prior, a.seed)
    unseen = Drawing(some(spectra, slice(half, None)), some(noise, tenth), prior, a.seed + 1000)
    first = drawing.pairs(1_000_000, 4000, 0.0)
    scaling = learn_scaling(first.start, first.truth)
    data = Data(drawing, scaling, learning(unseen, scaling, 0, 4000, 0.0))
    made = train(a, Training(0, 0, a.alone, a.reuse, 1e-3), data, None)
    made = train(a, Training(1, a.layers, a.epochs, 1, 5e-4), data, made)
    made = halfway(made, train(a, Training(2, 0, a.more, a.reuse, 5e-4), data, made)) if a.more else made
    gained = mean_loss(Supervised(made, 0.0, np.inf), data.held_out, torch.device("cpu"))
    weights = Weights(made, scaling, prior)
    with open_pool(2) as pool:
        _, calib = fit_twice(pool, setting, "calib", a.calib, prior)
    about = {
        "seed": a.seed,
        "factors": factors_of(weights, calib),
        "pairs": a.pairs * ((a.alone + a.more) // a.reuse + a.epochs),
        "device": "cpu",
        "rules": json.dumps(a.rules, ensure_ascii=False),
        **physics(),
    }
    about |= {"command": f"python benchmarks/{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}"}
    write_network(a.out, replace(weights, about={name: str(value) for name, value in about.items()}))
    for path in a.out.parent.glob(f"{a.out.stem}.*.checkpoint"):
        path.unlink()
    print(json.dumps({"held_out": round(gained, 4)}))


if __name__ == "__main__":
    main()
