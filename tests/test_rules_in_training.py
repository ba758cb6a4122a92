"""Rules in training: they join the likelihood, cost nothing without weight, and are kept where labels break them."""

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_network import OPTIONS, PLAIN, SCALING, SMALL, made_up, network

from spectramind_nb.core.errors import UserError
from spectramind_nb.core.files import run_folder
from spectramind_nb.network.model import SpectralNetwork, place_of
from spectramind_nb.network.trainer import (
    Supervised,
    TrainingData,
    mean_loss,
    rule_arguments,
    train_network,
    training_data,
)
from spectramind_nb.pipeline.config import compose
from spectramind_nb.pipeline.network_training import rule_words, rules_of
from spectramind_nb.rules.auditor import verdicts
from spectramind_nb.rules.losses import SPECIFICATION, RuleLoss, rule_losses

SPEC = {
    "smoothness": 0.2,
    "nonneg": 0.05,
    "coherence": 0.1,
    "seam": 0.05,
    "ratios": 0.05,
    "quantile_monotonicity": 0.02,
}


def mistaken(epoch: int, planets: int = 96) -> TrainingData:
    """Spectra with an FGS1 that no planet has, ten amplitudes too shallow."""
    start, truth = made_up(planets, seed=10 + epoch)
    truth[:, 0] = truth[:, 1:13].mean(axis=1) - 10 * truth[:, 1:].std(axis=1)
    return training_data(start, truth, SCALING)


def slopes(loss: torch.Tensor, of: SpectralNetwork) -> torch.Tensor:
    found = torch.autograd.grad(loss, [*of.parameters()], retain_graph=True, allow_unused=True)
    pairs = zip(found, of.parameters(), strict=True)
    return torch.cat([(torch.zeros_like(p) if f is None else f).double().flatten() for f, p in pairs])


def test_rules_get_the_spectrum_as_it_is_and_its_temperature() -> None:
    start, truth = made_up()
    known = {"Ts": np.array([6000.0, np.nan]), "Mp": np.ones(2), "Rs": np.ones(2), "sma": np.array([8.0, 8.0])}
    start = replace(start, place=np.resize(place_of(known, np.full(2, 0.01)), start.place.shape))
    data, made = training_data(start, truth, SCALING), network(stirred=0.05)
    given = rule_arguments(made, made(data.inputs), data)
    expected = start.combined.mean + made(data.inputs).shift.detach().double().numpy()
    assert given["mu"].dtype == torch.float64 and np.array_equal(given["mu"].detach(), expected)
    assert np.allclose(given["kelvin"][::2], 1500) and given["kelvin"][1::2].isnan().all()
    assert given["quantiles"] is None


@pytest.mark.parametrize("head", ["heteroscedastic", "flow", "quantile"])
def test_the_slope_is_that_of_the_likelihood_and_the_rules(head: str) -> None:
    made, data = network(replace(SMALL, head=head), stirred=0.05).train(), mistaken(0, 8)
    both, plain = Supervised(made, 0.01, 10.0, RuleLoss(SPECIFICATION)).train(), Supervised(made, 0.01, 10.0).train()
    answer, quantiles = made(data.inputs), None
    if head == "quantile":
        quantiles = (answer.unbent[0] + data.base).detach()[..., None] + answer.unbent[1].detach()[
            ..., None
        ] * answer.quantiles
    given = {"kelvin": data.kelvin, "sigma": answer.sigma, "quantiles": quantiles}
    losses = rule_losses(data.base + answer.shift, both.rules.table, **given)
    rules = sum(SPEC[name] * each.mean() for name, each in losses.items())
    assert rules > 0 and both(data).item() == pytest.approx(plain(data).item() + rules.item(), rel=1e-5)
    ours, likelihood, theirs = (slopes(loss, made) for loss in (both(data), plain(data), rules))
    assert theirs.norm() > 1e-3 * likelihood.norm()
    assert torch.allclose(ours, likelihood + theirs, rtol=1e-4, atol=1e-5 * float(ours.abs().max()))
    assert both.eval()(data).item() == plain.eval()(data).item()  # it is the likelihood that decides


def test_the_order_of_percentiles_is_their_heads_alone() -> None:
    made, data = network(replace(SMALL, head="quantile")).train(), mistaken(0, 8)
    with torch.no_grad():
        made.quantile.move.bias.copy_(torch.tensor([2.0, 0.0, -2.0]))  # crossed
    loss = RuleLoss({"λ_qm": 1.0})(**rule_arguments(made, made(data.inputs), data))
    assert loss.item() > 0.1
    loss.backward()
    assert {name.split(".")[0] for name, p in made.named_parameters() if p.grad is not None and p.grad.any()} == {
        "quantile"
    }


@pytest.mark.slow
def test_rules_without_weight_change_nothing() -> None:
    data, found = mistaken(90), []
    for rules in (None, RuleLoss({}), RuleLoss(dict.fromkeys(SPECIFICATION, 0.0))):
        made = network(replace(PLAIN, dropout=0.2))
        progress = train_network(made, mistaken, 96, data, OPTIONS, objective=Supervised(made, 0.01, 10.0, rules))
        found.append((progress, made.state_dict()))
    made = network(replace(PLAIN, dropout=0.2))
    found.append((train_network(made, mistaken, 96, data, OPTIONS), made.state_dict()))
    for progress, state in found[1:]:
        assert progress == found[0][0] and all(map(torch.equal, state.values(), found[0][1].values()))


def taught(rules: RuleLoss | None, options=OPTIONS, checkpoint: Path | None = None) -> SpectralNetwork:
    made = network(PLAIN)
    objective = Supervised(made, 0.0, np.inf, rules)
    train_network(made, mistaken, 96, mistaken(90), options, checkpoint, objective=objective)
    return made


@pytest.mark.slow
def test_a_rule_is_kept_where_labels_break_it() -> None:
    data, far = mistaken(91), []
    for rules in (None, RuleLoss({"λ_seam": 1.0})):
        made = taught(rules, replace(OPTIONS, epochs=12, lr=2e-2))
        with torch.no_grad():
            mu = (data.base + made.eval()(data.inputs).shift).numpy()
        far.append(verdicts(mu, rules=("seam",))["seam"])
    assert verdicts((data.base + data.error).numpy(), rules=("seam",))["seam"].broken.any(axis=1).all()
    assert far[1].score.mean() < 0.2 * far[0].score.mean()
    assert far[1].broken.any(axis=1).mean() < 0.5 * far[0].broken.any(axis=1).mean()


def test_a_checkpoint_is_of_its_rules(tmp_path: Path) -> None:
    path, short = tmp_path / "checkpoint.pt", replace(OPTIONS, epochs=1)
    taught(RuleLoss({"λ_seam": 1.0}), short, path)
    taught(RuleLoss({"λ_seam": 1.0, "λ_sm": 0.0}), short, path)
    for other in (None, RuleLoss({"λ_seam": 0.5}), RuleLoss({"λ_seam": 1.0}, "literal")):
        with pytest.raises(UserError, match="another network or plan"):
            taught(other, short, path)


def test_half_precision_leaves_rules_their_own() -> None:
    """Second differences of 1e-2 +- 1e-6 would be noise in half precision."""
    made, data = network(PLAIN).train(), mistaken(0, 8)
    rules = RuleLoss({"λ_sm": 1.0, "λ_coh": 1.0, "λ_seam": 1.0})
    answer = made(data.inputs)
    plain = rules(**rule_arguments(made, answer, data))
    with torch.autocast("cpu", torch.bfloat16):
        half = rules(**rule_arguments(made, answer, data))
        loss = Supervised(made, 0.01, 10.0, rules).train()(data)
    assert half.dtype == torch.float64 and half.item() == plain.item() > 0
    assert loss.item() == pytest.approx(Supervised(made, 0.01, 10.0, rules).train()(data).item(), rel=0.1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], {"smoothness": 0.1, "seam": 0.3}),
        (["+loss.λ_sm=0.2"], {"smoothness": 0.2, "seam": 0.3}),
        (["loss.λ_seam=0.0", "train.epochs=2"], {"smoothness": 0.1}),
        (["loss=spec"], SPEC),
        (["loss=spec", "loss.λ_sm=0.0"], {name: each for name, each in SPEC.items() if name != "smoothness"}),
        (["loss=default"], {}),
    ],
)
def test_words_come_after_the_runs_own_rules(tmp_path: Path, given: Sequence[str], expected: dict[str, float]) -> None:
    path = run_folder(tmp_path, "outputs/rules") / "rules.json"
    path.parent.mkdir(parents=True)
    weights = dict.fromkeys(SPECIFICATION, 0.0) | {"λ_sm": 0.1, "λ_seam": 0.3}
    path.write_text(json.dumps({"weights": weights, "form": "literal"}))
    found = rules_of(compose([*rule_words(tmp_path, given), *given]).loss)
    assert found.weights == expected
    assert found.form == ("excess" if any(word.startswith("loss=") for word in given) else "literal")


def test_a_run_that_has_no_rules_yet_has_none(tmp_path: Path) -> None:
    assert rule_words(tmp_path, []) == [] and rules_of(compose([]).loss).weights == {}
    assert rules_of(compose(["+loss.λ_sm=0.2"]).loss).weights == {"smoothness": 0.2}
    with pytest.raises(UserError, match=r"loss\.λ_x is not the weight of a rule"):
        rules_of({"λ_x": 0.2, "form": "excess"})


def test_loss_of_data_is_the_mean_over_batches() -> None:
    made, data = network(stirred=0.05), mistaken(0, 20)
    objective = Supervised(copy.deepcopy(made), 0.01, 10.0, RuleLoss(SPECIFICATION))
    cpu = torch.device("cpu")
    assert mean_loss(objective, data, cpu, batch=7) == pytest.approx(mean_loss(objective, data, cpu), rel=1e-5)
