"""Train the network on simulated planets, and keep its weights; progress on the terminal, last line JSON.

    python benchmarks/train_network.py --out runs/benchmark/network.safetensors [--epochs 20] [--pairs 20000] [--seed 1]

Spectra: the first half of the bank of `--spectra`; the other half is held out. Noise: the fits of the training planets,
of which every tenth is held out. The closed form that it starts from has learned the same half of the bank. A run that
was cut goes on from its last epoch.
"""

import argparse
import json
import os
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np
import pandas as pd
import torch
from fitted_planets import Setting, fit_kind, open_pool

from spectramind_nb.curriculum import Learning, Progress, TrainOptions, train_network
from spectramind_nb.lib.simulator_bank import Bank
from spectramind_nb.lib.simulator_sky import physics
from spectramind_nb.lib.spectral_prior import SpectralPrior, learn_prior, log_scale
from spectramind_nb.network import NetworkOptions, Scaling, inputs_of, learn_scaling, network_of, write_network
from spectramind_nb.pairs import SPOILED, Noise, Pairs, Spectra, joined, pairs_of, spectra_of

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

    def pairs(self, epoch: int, count: int, spoiled: float) -> Pairs:
        """`count` pairs, with the noise of some fits, other ones each epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        fits = rng.permutation(len(self.noise.level))[: -(-count // EACH)]
        sizes = [len(part) for part in np.array_split(np.arange(count), len(fits))]
        drawn = zip(fits, sizes, strict=True)
        return joined([pairs_of(rng, self.spectra, self.noise, self.prior, fit, size, spoiled) for fit, size in drawn])


def learning(drawing: Drawing, scaling: Scaling, epoch: int, count: int, spoiled: float) -> Learning:
    """Pairs as the network takes them."""
    pairs = drawing.pairs(epoch, count, spoiled)
    inputs, error = inputs_of(pairs.start, scaling), pairs.truth - pairs.start.combined.mean
    return Learning(inputs, torch.from_numpy(error).float())


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
    """The closed form's prior, of the bank's first half."""
    stars = pd.DataFrame(dict(zip(bank.names, bank.parameters.T, strict=True)))
    return learn_prior(bank.spectrum[:half], stars[:half])


def main() -> None:
    """Train, and print what was gained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    for option, default in {
        "epochs": 20,
        "pairs": 20000,
        "spectra": SPECTRA,
        "seed": 1,
        "width": 24,
        "layers": 2,
    }.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--spoiled", type=float, default=SPOILED)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"))
    a = parser.parse_args()
    setting = Setting(a.folder, a.seed, 2)
    with open_pool(2) as pool:
        noise = noise_of(fit_kind(pool, setting, "train", setting.bank("train", TRAIN), TRAIN))
    bank, half = setting.bank("bank", a.spectra), a.spectra // 2
    spectra, prior = spectra_of(bank), half_prior(bank, half)
    tenth = np.arange(len(noise.level)) % 10 == 0
    drawing = Drawing(some(spectra, slice(half)), some(noise, ~tenth), prior, a.seed)
    unseen = Drawing(some(spectra, slice(half, None)), some(noise, tenth), prior, a.seed + 1000)
    first = drawing.pairs(10_000, 4000, 0.0)
    scaling = learn_scaling(first.start, first.truth)
    torch.manual_seed(a.seed)
    network = network_of(NetworkOptions(guide_layers=0, airs_width=a.width, airs_layers=a.layers), scaling)
    options = TrainOptions(epochs=a.epochs, seed=a.seed)

    def tell(progress: Progress, seconds: float) -> None:
        left = seconds / len(progress.loss) * (a.epochs - progress.epoch)
        found = f"learned {progress.loss[-1]:.4f}, held out {progress.held_out[-1]:.4f}"
        print(f"epoch {progress.epoch}/{a.epochs}: {found}, {left:.0f} s left", file=sys.stderr, flush=True)

    coming: dict[int, Future[Learning]] = {}
    with ProcessPoolExecutor(1) as pool:

        def source(epoch: int) -> Learning:
            for k in (epoch, epoch + 1):  # the next epoch's pairs are drawn meanwhile
                coming.setdefault(k, pool.submit(learning, drawing, scaling, k, a.pairs, a.spoiled))
            return coming.pop(epoch).result()

        held_out = learning(unseen, scaling, 0, 4000, 0.0)
        checkpoint = a.out.with_suffix(".checkpoint")
        progress = train_network(network, source, a.pairs, held_out, options, checkpoint, tell)
    about = {"seed": a.seed, "epochs": progress.best, "pairs": a.pairs, **physics()}
    write_network(a.out, network, scaling, {name: str(value) for name, value in about.items()})
    checkpoint.unlink()
    print(json.dumps({"held_out": round(min(progress.held_out), 4), "best_epoch": progress.best}))


if __name__ == "__main__":
    main()
