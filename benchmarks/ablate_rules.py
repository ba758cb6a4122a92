"""What the physics rules are worth in training: the same training with other weights of the rules; last line JSON.

    python benchmarks/ablate_rules.py [--network laptop] [--seeds 1] [--epochs 2] [--pairs 6000] [--planets 400]
                                      [--only NAME,NAME]

Every variant goes on from the same weights, by the same pairs in the same order, with the same random numbers; `another
order` has no rules either, and shows how much of a difference is chance. With `--seeds N` all of them are trained N
times, each time by other pairs; gains are means over these trainings, and the error of a mean is that over pairs.
`specification`: all rules at the specification's weights; a rule's name: that one alone, at that weight; `tenth` and
`equal`: each rule weighed so that its gradient in a batch has a tenth of the likelihood's norm, or as much, on the
average over batches; with a rule's name (`tenth seam`) that one alone. A rule that no batch breaks has no gradient;
its line says so.

Judged on pairs of spectra and noise that train_network.py holds out, and on fitted planets out of distribution
(`--planets`, those of kind ood_bank). Loss: nats a bin over the Gaussian predictor on pairs, and what a variant gains
over no rules, with its standard error over pairs; on planets the same of the score. Shares that break a rule: by the
auditor, with the error bars as predicted, and (`beyond`) with anything beyond a bound.
"""

import argparse
import copy
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablate_network import losses_of
from fitted_planets import Setting, fit_twice, open_pool, unpacked
from train_network import SPECTRA, TRAIN, Drawing, learning, noise_of, some

from spectramind_nb.core.files import network_file
from spectramind_nb.core.metric import DEFAULT_REFERENCE
from spectramind_nb.network.examples import spectra_of
from spectramind_nb.network.model import SpectralNetwork, place_of, run_network
from spectramind_nb.network.trainer import Supervised, TrainingData, TrainOptions, rule_arguments, select_rows
from spectramind_nb.network.trainer import train_network as train
from spectramind_nb.network.weights import Weights, read_network
from spectramind_nb.pipeline.learned import factors_of
from spectramind_nb.pipeline.predictors import predict_neural
from spectramind_nb.rules.auditor import verdicts
from spectramind_nb.rules.losses import SPECIFICATION, WEIGHT_NAMES, RuleLoss
from spectramind_nb.rules.statuses import RULES
from spectramind_nb.uncertainty.sigma_factors import Fits, log_factors, planet_scores, sigma_of

BATCHES = 24  # by which gradients are compared
NONE, AGAIN = "no rules", "another order"


@dataclass(frozen=True)
class Planets:
    """Fitted planets to judge on."""

    truth: np.ndarray
    fits: list[Fits]


@dataclass(frozen=True)
class Judged:
    """What a network says, and how good it is."""

    pairs: np.ndarray  # loss over the Gaussian predictor, (P,)
    planets: np.ndarray  # score, (Q,)
    broken: dict[str, dict[str, float]]  # share of spectra by set, and rule


def planets_of(paths: list[Path]) -> Planets:
    """Fitted planets from their files."""
    truth, fits = [], []
    for path in paths:
        with np.load(path) as archive:
            known = {k: archive[k] for k in archive.files if k.startswith(("plain", "number", "star", "truth"))}
        truth.append(known.pop("truth"))
        fits.append(unpacked("plain", known))
    return Planets(np.concatenate(truth), fits)


def shares(mu: np.ndarray, sigma: np.ndarray | None, kelvin: np.ndarray) -> dict[str, float]:
    """Share of spectra that break each rule, and any."""
    broken = dict.fromkeys((*RULES, "any"), np.zeros(len(mu), bool))
    for name, verdict in verdicts(mu, sigma, None, kelvin).items():
        for rule in (name.partition(":")[0], "any"):
            broken[rule] = broken[rule] | verdict.broken.any(axis=1)
    return {rule: round(float(each.mean()), 4) for rule, each in broken.items()}


def judge(weights: Weights, network: SpectralNetwork, pairs: TrainingData, planets: Planets) -> Judged:
    """Judge a network on both."""
    losses, said = losses_of(network, pairs), run_network(network, pairs.inputs)
    mu = (pairs.base + torch.cat([one.shift for one in said])).numpy()
    sigma = torch.cat([one.sigma for one in said]).double().numpy()
    factors = factors_of(json.loads(weights.about["factors"])["neural"])
    scores, ood_mu, ood_sigma = [], [], []
    for k, fits in enumerate(planets.fits):
        found = predict_neural(replace(weights, network=network), fits)
        truth = planets.truth[k * len(found.mu) : (k + 1) * len(found.mu)]
        scores.append(planet_scores(truth, found, log_factors(found, factors), DEFAULT_REFERENCE)[0])
        ood_mu.append(found.mu)
        ood_sigma.append(sigma_of(found, factors))
    places = [place_of(fits.stars, fits.depth[:, 1:].mean(axis=1)) for fits in planets.fits]
    kelvin = np.exp(np.concatenate(places)[:, 0])
    sets = {
        "pairs": (mu, sigma, pairs.kelvin.numpy()),
        "planets": (np.concatenate(ood_mu), np.concatenate(ood_sigma), kelvin),
    }
    broken = {name: shares(*each) for name, each in sets.items()}
    broken |= {f"{name}, beyond": shares(mu, None, kelvin) for name, (mu, _, kelvin) in sets.items()}
    return Judged(losses.numpy(), np.concatenate(scores), broken)


def balance(network: SpectralNetwork, data: TrainingData) -> dict[str, float]:
    """Of each rule, the weight that gives its gradient the likelihood's norm; rules that are nowhere broken are left
    out.
    """
    network = copy.deepcopy(network).train()
    options, device = TrainOptions(), torch.device("cpu")
    plain, squares = Supervised(network, options.aux_weight, options.worst), dict.fromkeys(("", *WEIGHT_NAMES), 0.0)
    singly = {name: RuleLoss({name: 1.0}) for name in WEIGHT_NAMES}
    for k in range(min(BATCHES, len(data.error) // options.batch)):
        part = select_rows(data, slice(k * options.batch, (k + 1) * options.batch), device)
        given = rule_arguments(network, network(part.inputs), part)
        for name in squares:
            loss = singly[name](**given) if name else plain(part)
            slopes = (
                torch.autograd.grad(loss, network.parameters(), retain_graph=True, allow_unused=True)
                if (loss.requires_grad)
                else ()
            )
            squares[name] += sum(float(slope.square().sum()) for slope in slopes if slope is not None)
    found = {name: (squares[""] / each) ** 0.5 for name, each in squares.items() if name and each > 0}
    return {name: float(f"{weight:.2g}") for name, weight in found.items()}


def variants_of(equal: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Weights of the rules, by the variant's name."""
    out: dict[str, dict[str, float]] = {NONE: {}, AGAIN: {}, "specification": SPECIFICATION}
    out |= {WEIGHT_NAMES[name]: {name: weight} for name, weight in SPECIFICATION.items() if name in equal}
    for what, factor in (("tenth", 0.1), ("equal", 1.0)):
        out[what] = {name: float(f"{factor * weight:.2g}") for name, weight in equal.items()}
        out |= {f"{what} {WEIGHT_NAMES[name]}": {name: out[what][name]} for name in equal}
    return out


def mean_of(judged: Sequence[Judged]) -> Judged:
    """The mean of several trainings."""
    broken = {
        name: {rule: float(np.mean([one.broken[name][rule] for one in judged])) for rule in rules}
        for name, rules in judged[0].broken.items()
    }
    pairs, planets = (np.mean([getattr(one, part) for one in judged], axis=0) for part in ("pairs", "planets"))
    return Judged(pairs, planets, broken)


def told(name: str, found: Judged, plain: Judged) -> dict[str, Any]:
    """Print a variant's line; its record."""
    line, record = f"{name:28} {found.pairs.mean():+.4f}", {"loss": round(float(found.pairs.mean()), 4)}
    for what, gained in (("pairs", plain.pairs - found.pairs), ("planets", found.planets - plain.planets)):
        error = float(gained.std() / len(gained) ** 0.5)
        line += f"  {gained.mean():+.5f} +- {error:.5f}"
        record |= {f"gain_{what}": round(float(gained.mean()), 5), f"error_{what}": round(error, 5)}
    for each in found.broken.values():
        line += f"  {100 * each['any']:5.1f}%"
    print(line, flush=True)
    return record | {"broken": found.broken}


def main() -> None:
    """Print a line for each variant, and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"seeds": 1, "epochs": 2, "pairs": 6000, "held-out": 4000, "planets": 400, "workers": 1}
    for option, default in sizes.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--network", default="laptop")
    parser.add_argument("--only", default="")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"))
    a = parser.parse_args()
    weights, setting = read_network(network_file(a.network)), Setting(a.folder, 1, a.workers)
    with open_pool(a.workers) as pool:
        noise = noise_of(fit_twice(pool, setting, "train", TRAIN, weights.prior)[1])
        _, paths = fit_twice(pool, setting, "ood_bank", a.planets, weights.prior)
    planets, spectra = planets_of(paths), spectra_of(setting.bank("bank", SPECTRA))
    tenth, half = np.arange(len(noise.level)) % 10 == 0, SPECTRA // 2
    drawing = Drawing(some(spectra, slice(half)), some(noise, ~tenth), weights.prior, 1)
    unseen = Drawing(some(spectra, slice(half, None)), some(noise, tenth), weights.prior, 1001)
    held_out = learning(unseen, weights.scaling, 0, a.held_out, 0.0)
    draws = [
        [learning(drawing, weights.scaling, 710_000 + 1000 * seed + epoch, a.pairs, 0.4) for epoch in range(a.epochs)]
        for seed in range(a.seeds)
    ]
    variants = variants_of(balance(weights.network, draws[0][0]))
    chosen = [name for name in variants if not a.only or name in (NONE, *a.only.split(","))]
    if unknown := {*filter(None, a.only.split(","))} - {*variants, *RULES}:
        parser.error(f"--only {min(unknown)}: no such variant; there are {', '.join(variants)}")
    print(f"{'':28} {'loss':>7}  {'gain, pairs':>20}  {'gain, planets':>20}  broken by pairs, planets; beyond: both")
    plain, found = judge(weights, weights.network, held_out, planets), {}
    told("before", plain, plain)
    for rule in (rule for rule in RULES if rule not in variants):
        print(f"{rule:28} no gradient in {BATCHES} batches: as {NONE}")
    truth = {"planets": shares(planets.truth, None, np.full(len(planets.truth), np.nan))}
    every: dict[str, list[Judged]] = {}
    for name in chosen:
        every[name] = []
        for seed, pairs in enumerate(draws):
            network, rules = copy.deepcopy(weights.network), RuleLoss(variants[name])
            options = TrainOptions(epochs=a.epochs, lr=2e-4, seed=2 * seed + (2 if name == AGAIN else 1))
            objective = Supervised(network, options.aux_weight, options.worst, rules)
            train(network, pairs.__getitem__, a.pairs, held_out, options, objective=objective)
            every[name].append(judge(weights, network, held_out, planets))
            print(f"{name}, training {seed + 1} of {a.seeds} done", file=sys.stderr)
        found[name] = {"weights": variants[name], **told(name, mean_of(every[name]), mean_of(every[NONE]))}
        pairs_of_seeds = zip(every[name], every[NONE], strict=True)
        found[name]["gains"] = [
            [round(float(x.mean()), 5) for x in (none.pairs - one.pairs, one.planets - none.planets)]
            for one, none in pairs_of_seeds
        ]
    print(json.dumps({"truth": truth, **found}, ensure_ascii=False))


if __name__ == "__main__":
    main()
