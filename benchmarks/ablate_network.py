"""What the parts of the network are worth: each variant learns for the same short while and is judged on the same
pairs; last line JSON.

    python benchmarks/ablate_network.py [--epochs 3] [--pairs 8000] [--network laptop] [--only NAME,NAME]

Variants of the shipped weights go on from them, without a part or with another; what they lack is new. `Mamba on`
learns from the training planets' own errors with their light curves, `own errors` from the same without light curves.
`mae first` and `no mae` start from nothing, the first with its encoder pretrained. Spectra and noise are those that
train_network.py holds out; the figure is nats a bin over the Gaussian predictor, with its standard error over pairs.
"""

import argparse
import copy
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
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


def variant(weights: Weights, changes: Mapping[str, Any]) -> SpectralNetwork:
    """The shipped network with changes; what fits of its weights is kept."""
    torch.manual_seed(0)
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


def judged(network: SpectralNetwork, data: TrainingData) -> tuple[float, float]:
    """Mean loss over the Gaussian predictor, nats a bin, and its standard error."""
    every = losses_of(network, data)
    return float(every.mean()), float(every.std() / len(every) ** 0.5)


def without_fgs1(data: TrainingData) -> TrainingData:
    """The same, light curves unknown."""
    return data._replace(inputs=data.inputs._replace(fgs1=data.inputs.fgs1[:, :1] * torch.nan))


def learned(name: str, weights: Weights, data: Data, a: argparse.Namespace) -> tuple[SpectralNetwork, TrainingData]:
    """A variant after its training, and what it is judged on."""
    options = TrainOptions(epochs=a.epochs, lr=2e-4, seed=1)
    draws = lambda epoch: learning(data.drawing, weights.scaling, 700_000 + epoch, a.pairs, 0.4)  # noqa: E731
    if name in OWN:
        network, curves = copy.deepcopy(weights.network), name == "Mamba on"
        own, judge = ((d if curves else without_fgs1(d)) for d in (data.own, data.own_held_out))
        train(network, lambda _: own, len(own.error), judge, replace(options, epochs=2 * a.epochs, batch=32))
        return network, judge
    if name in NEW:
        torch.manual_seed(0)
        network, fast = network_of(NetworkOptions(fgs1_layers=0, airs_width=24, airs_layers=2), weights.scaling), 1e-3
        if name == "mae first":
            how = replace(options, lr=3e-3)
            train(network, draws, a.pairs, data.held_out, how, objective=MaskedAutoencoder(network))
        train(network, draws, a.pairs, data.held_out, replace(options, lr=fast))
        return network, data.held_out
    network = variant(weights, CHANGES[name])
    train(network, draws, a.pairs, data.held_out, options)
    return network, data.held_out


def main() -> None:
    """Print a line for each variant, and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in {"epochs": 3, "pairs": 8000}.items():
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
    before = {
        "pairs": judged(weights.network, data.held_out),
        "planets": judged(weights.network, without_fgs1(parts[1])),
    }
    for what, (mean, error) in before.items():
        print(f"{'before, ' + what:22} {mean:+.4f} +- {error:.4f}")
    found = {}
    for name in a.only.split(","):
        network, judge = learned(name, weights, data, a)
        mean, error = judged(network, judge)
        found[name] = round(mean, 4)
        print(f"{name:22} {mean:+.4f} +- {error:.4f}", flush=True)
        print(f"{name} done", file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
