"""What the parts of the network are worth: each variant learns for the same short while and is judged on the same
pairs; last line JSON.

    python benchmarks/ablate_network.py [--epochs 2] [--pairs 6000] [--seeds 3] [--network laptop] [--only NAME,NAME]

Variants of the shipped weights go on from them, without a part or with another; what they lack is new. `Mamba on`
learns from the training planets' own errors with their light curves, `own errors` from the same without light curves.
`mae first` and `no mae` start from nothing, the first with its encoder pretrained. Spectra and noise are those that
train_network.py holds out. The figures are nats a bin over the Gaussian predictor, and over the reference, which is
`as shipped`, `own errors` or `no mae` after the same training. The latter have two errors: over seeds, each of which
has its own examples, their order and new weights, and over the planets or examples that variants are judged on.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fitted_planets import Setting, fit_twice, open_pool, unpacked
from train_network import SPECTRA, TRAIN, Drawing, learning, noise_of, some

from spectramind_nb.core.files import network_file
from spectramind_nb.network.examples import spectra_of
from spectramind_nb.network.mamba import fgs1_inputs
from spectramind_nb.network.model import Inputs, NetworkOptions, SpectralNetwork, network_of, network_start
from spectramind_nb.network.pretraining import MaskedAutoencoder
from spectramind_nb.network.trainer import (
    TrainingData,
    TrainOptions,
    gaussian_losses,
    likelihood_loss,
    select_rows,
    training_data,
)
from spectramind_nb.network.trainer import train_network as train
from spectramind_nb.network.weights import Weights, read_network

CHANGES: Mapping[str, dict[str, Any]] = {
    "as shipped": {},
    "graph off": {"airs_layers": 0},
    "no lambda edges": {"without": ("lambda",)},
    "no molecule edges": {"without": ("molecules",)},
    "no seam edge": {"without": ("seam",)},
    "fusion gated": {"fusion": "gated"},
    "fusion cross_attend": {"fusion": "cross_attend"},
    "head flow": {"head": "flow"},
    "head quantile": {"head": "quantile"},
    "log sigma": {"log_sigma": True},
}
OWN, NEW = ("own errors", "Mamba on"), ("no mae", "mae first")
REFERENCES = {name: group[0] for group in ((*CHANGES,), OWN, NEW) for name in group}


@dataclass(frozen=True)
class Data:
    """What all variants learn from and are judged on."""

    drawing: Drawing
    held_out: TrainingData
    own: TrainingData  # planets with their own errors and light curves
    own_held_out: TrainingData


def own_planets(weights: Weights, paths: list[Path]) -> TrainingData:
    """Fitted planets with their own errors, and FGS1's light curve of the first visit."""
    parts = []
    for path in paths:
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
        start = network_start(weights.prior, unpacked("plain", arrays))
        fgs1 = [as_channels(curves) for curves in arrays["guide"]]
        parts.append(training_data(start, arrays["truth"], weights.scaling, np.array(fgs1)))
    inputs = Inputs(*(torch.cat(each) for each in zip(*(part.inputs for part in parts), strict=True)))
    return TrainingData(inputs, *(torch.cat(each) for each in zip(*(part[1:] for part in parts), strict=True)))


def as_channels(curves: np.ndarray) -> np.ndarray:
    """Light curves as kept with the fits to what the encoder sees."""
    time, flux, model, drift = curves.T[:4]
    zeros = np.zeros(len(time))
    white = {"time": time, "visit": zeros, "centroid": curves[:, 4:6], "jitter": curves[:, 6:8]}
    fit = {"visit": zeros, "channel": zeros, "white_flux": flux, "white_model": model, "white_drift": drift}
    return fgs1_inputs(white, fit, 0)


def variant(weights: Weights, changes: Mapping[str, Any], seed: int) -> SpectralNetwork:
    """The shipped network with changes; what fits of its weights is kept."""
    torch.manual_seed(seed)
    made = network_of(replace(weights.network.options, **changes), weights.scaling)
    mine, theirs = made.state_dict(), weights.network.state_dict()
    kept = {name: value for name, value in theirs.items() if name in mine and mine[name].shape == value.shape}
    made.load_state_dict(kept, strict=False)
    return made


def losses_of(network: SpectralNetwork, data: TrainingData) -> torch.Tensor:  # (P,)
    """Losses over the Gaussian predictor, nats a bin."""
    network.eval()
    losses = []
    with torch.inference_mode():
        for k in range(0, len(data.error), 128):
            part = select_rows(data, slice(k, k + 128), torch.device("cpu"))
            expected, before = gaussian_losses(part.inputs, part.error)
            loss = likelihood_loss(network, network(part.inputs), part.error)
            losses.append((loss - expected).clamp_max(10) - (before - expected).clamp_max(10))
    return torch.cat(losses)


def mean_of(values: torch.Tensor) -> tuple[float, float]:
    """Mean and its standard error, 0 where there is one value alone."""
    return float(values.mean()), float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0


def without_fgs1(data: TrainingData) -> TrainingData:
    """The same, light curves unknown."""
    return data._replace(inputs=data.inputs._replace(fgs1=data.inputs.fgs1[:, :1] * torch.nan))


def learned(
    name: str, weights: Weights, data: Data, seed: int, draws: Callable[[int], TrainingData], a: argparse.Namespace
) -> torch.Tensor:  # (P,)
    """Losses of a variant after its training."""
    options = TrainOptions(epochs=a.epochs, lr=2e-4, seed=seed)
    if name in OWN:
        network, curves = copy.deepcopy(weights.network), name == "Mamba on"
        own, judge = ((d if curves else without_fgs1(d)) for d in (data.own, data.own_held_out))
        train(network, lambda _: own, len(own.error), judge, replace(options, epochs=2 * a.epochs, batch=32))
        return losses_of(network, judge)
    if name in NEW:
        torch.manual_seed(seed)
        network, fast = network_of(NetworkOptions(fgs1_layers=0, airs_width=24, airs_layers=2), weights.scaling), 1e-3
        if name == "mae first":
            how = replace(options, lr=3e-3)
            train(network, draws, a.pairs, data.held_out, how, objective=MaskedAutoencoder(network))
        train(network, draws, a.pairs, data.held_out, replace(options, lr=fast))
    else:
        network = variant(weights, CHANGES[name], seed)
        train(network, draws, a.pairs, data.held_out, options)
    return losses_of(network, data.held_out)


def losses_of_seeds(
    names: Sequence[str], weights: Weights, data: Data, a: argparse.Namespace
) -> dict[str, torch.Tensor]:
    """Losses of each variant for each seed, (seeds, P)."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    for seed in range(1, a.seeds + 1):

        @cache
        def draws(epoch: int, first: int = 700_000 + 1000 * seed) -> TrainingData:
            return learning(data.drawing, weights.scaling, first + epoch, a.pairs, 0.4)

        for name in names:
            found[name].append(learned(name, weights, data, seed, draws, a))
            print(
                f"seed {seed} of {a.seeds}, {name}: {float(found[name][-1].mean()):+.4f}", file=sys.stderr, flush=True
            )
    return {name: torch.stack(losses) for name, losses in found.items()}


def main() -> None:
    """Print a line for each variant, and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in {"epochs": 2, "pairs": 6000, "seeds": 3}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--network", default="laptop")
    parser.add_argument("--only", default=",".join((*CHANGES, *OWN, *NEW)))
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"))
    a = parser.parse_args()
    weights, setting = read_network(network_file(a.network)), Setting(a.folder, 1, 2)
    with open_pool(2) as pool:
        _, paths = fit_twice(pool, setting, "train", TRAIN, weights.prior)
    noise, spectra = noise_of(paths), spectra_of(setting.bank("bank", SPECTRA))
    tenth, half = np.arange(len(noise.level)) % 10 == 0, SPECTRA // 2
    drawing = Drawing(some(spectra, slice(half)), some(noise, ~tenth), weights.prior, 1)
    unseen = Drawing(some(spectra, slice(half, None)), some(noise, tenth), weights.prior, 1001)
    own = own_planets(weights, paths)
    parts = [select_rows(own, torch.from_numpy(k), torch.device("cpu")) for k in (~tenth, tenth)]
    data = Data(drawing, learning(unseen, weights.scaling, 0, 4000, 0.0), *parts)
    before = {"pairs": data.held_out, "planets": without_fgs1(parts[1])}
    for what, judge in before.items():
        mean, error = mean_of(losses_of(weights.network, judge))
        print(f"{'before, ' + what:18} {mean:+.4f} +- {error:.4f}")
    losses = losses_of_seeds(a.only.split(","), weights, data, a)
    found = {}
    for name, of_seeds in losses.items():
        mean, error = mean_of(of_seeds.mean(dim=0))
        print(f"{name:18} {mean:+.4f} +- {error:.4f}", end="")
        found[name] = {"nats": round(mean, 4)}
        if (reference := REFERENCES[name]) in losses and name != reference:
            change = of_seeds - losses[reference]
            (mean, error), (_, of_planets) = mean_of(change.mean(dim=1)), mean_of(change.mean(dim=0))
            print(f"   over {reference}: {mean:+.5f} +- {error:.5f} (planets +- {of_planets:.5f})", end="")
            values = {"change": mean, "error": error, "error_of_planets": of_planets}
            found[name] |= {what: round(value, 5) for what, value in values.items()}
        print(flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
