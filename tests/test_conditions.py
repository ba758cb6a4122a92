"""Each setting acts somewhere: where it can't, it is refused with the mode in which it acts."""

import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_chain import spectramind
from omegaconf import DictConfig, OmegaConf

from spectramind_nb.pipeline import network_training
from spectramind_nb.pipeline.conditions import CONDITIONS, Condition, check_effect, condition_of, idle_setting
from spectramind_nb.pipeline.config import CHOICES, REPEATED, ConfigError, compose, flatten
from spectramind_nb.pipeline.network_training import rules_of, training_plan
from spectramind_nb.pipeline.ranges import RANGES, in_range
from spectramind_nb.rules.losses import SPECIFICATION, WEIGHT_NAMES, RuleLoss
from spectramind_nb.rules.planted import PLANTED, plant
from spectramind_nb.rules.rule_table import read_rules

ROOT = Path(__file__).parents[1]
LEAVES = [
    key for key, value in flatten(compose()).items() if not isinstance(value, dict) and not key.startswith(REPEATED)
]
LISTS = {
    "train.phases": ["mae", "supervised"],
    "model.airs_gnn.edge_features": ["seam"],
    "model.airs_gnn.without": ["seam"],
    "model.decoder_mu.scales": [32, 283],
    "data.planets": [7],
    "calibration.keep_planets": [7],
    "diag.fft.lines_mhz": [3.0],
    "features.annulus_px": [10.0, 15.0],
}


def other(key: str, value: Any) -> Any:
    """Another value that is allowed."""
    if key in CHOICES:
        return next((each for each in reversed(CHOICES[key]) if each != value), None)
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return LISTS[key]
    if isinstance(value, str):
        return "elsewhere"
    return value + 1 if isinstance(value, int) else value * 1.01 + 1e-3


@cache
def usual(*words: str) -> dict[str, Any]:
    return flatten(compose(words))


def flipped(settings: dict[str, Any], key: str) -> dict[str, Any] | None:
    """Settings with another value of one of them; None where there is one value alone."""
    value = other(key, settings[key])
    if key in RANGES and isinstance(value, (int, float)):
        assert in_range(value, RANGES[key]), key
    return None if value is None else {**settings, key: value}


def test_no_setting_is_changed_in_vain() -> None:
    """In the default mode a setting acts or is refused; in the mode that the refusal names it acts."""
    refused = []
    for key in LEAVES:
        settings = flipped(usual(), key)
        if settings is None or not (error := idle_setting(key, settings)):
            continue
        refused.append(key)
        assert re.search(rf"^configuration: {re.escape(key)}: has no effect: it acts only .+ Fix: ", str(error))
        used: list[Condition] = []
        while (found := condition_of(key, settings)) is not None:
            assert found not in used, (key, found)
            used.append(found)
            settings = flipped(usual(*dict.fromkeys(word for one in used for word in one.mode)), key) or {}
    assert {key.split(".")[0] for key in refused} >= {"loss", "model", "train", "features", "chain", "calib", "data"}
    assert not [key for key in refused if key.startswith(("transit.", "calibration.", "simulate.", "seed"))]


def test_every_condition_keeps_some_setting_from_acting_and_names_real_ones() -> None:
    for one in CONDITIONS:
        assert all(any(fnmatchcase(key, pattern) for key in LEAVES) for pattern in one.keys), one.keys
        assert one.acts(usual(*one.mode)) or one.where.startswith("below"), one
    off = {"data.raw": "x", "data.network": "none", "calibration.keep": 0}
    idle = usual() | off | {"calib.corel.enabled": False, "calib.ood.enabled": False}
    for key in ("simulate.planets", "diag.umap.min_dist", "submission.batch_predict", "calibration.keep_steps"):
        assert condition_of(key, idle), key
    assert condition_of("calib.corel.alpha", idle) and condition_of("calib.ood.widening", idle)


def plan_of(cfg: DictConfig) -> tuple[object, ...]:
    """All that a training is made of: its options, the network's design, the rules' weights and form."""
    plan = training_plan(cfg.train, cfg.model, int(cfg.seed), rules_of(cfg.loss))
    rules = rules_of(cfg.loss)
    return (plan.start, plan.phases, plan.pairs, plan.options, plan.design, rules.weights, rules.form)


def test_what_acts_in_a_training_changes_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting of the training, of the network and of the rules that is not refused changes what is made of it."""
    plain = compose()
    monkeypatch.setattr(network_training, "compose", plain.copy)
    base = compose(["train=finetune", "loss=spec", "model.head_sigma.type=quantile", "train.epochs=1000"])
    before, settings = plan_of(base), flatten(base)
    for key in (key for key in LEAVES if key.startswith(("train.", "model.", "loss."))):
        found = flipped(settings, key)
        if found is not None and not idle_setting(key, found):
            cfg = base.copy()
            OmegaConf.update(cfg, key, found[key])
            assert plan_of(cfg) != before or key == "model.head_sigma.quantiles", key


@pytest.mark.parametrize("name", sorted(SPECIFICATION))
def test_each_weight_of_a_rule_changes_the_loss_of_spectra_that_break_it(name: str) -> None:
    rule = next(one for one in PLANTED if one.partition(":")[0] == WEIGHT_NAMES[name])
    mu, sigma = np.tile(read_rules().example, (2, 1)), np.full((2, 283), 2e-5)
    broken = plant(rule, mu, sigma, 5.0, np.random.default_rng(1))
    assert len(broken.mu)
    quantiles = None if broken.quantiles is None else torch.from_numpy(broken.quantiles)
    mu_broken, errors = torch.from_numpy(broken.mu), torch.full(broken.mu.shape, 2e-5, dtype=torch.float64)
    losses = [
        float(RuleLoss({name: weight}, "excess")(mu_broken, sigma=errors, quantiles=quantiles)) for weight in (0.5, 1.0)
    ]
    assert losses[1] == pytest.approx(2 * losses[0]) and losses[0] > 0


def said(*words: str, **how: Any) -> str:
    try:
        return check_effect(compose(words, files=how.get("files", ())), words, **how)
    except ConfigError as error:
        return str(error)


def test_a_value_that_changes_nothing_is_no_fault_and_a_section_is_judged_as_a_whole() -> None:
    assert said("loss.λ_sm=0.0") == said("calib.corel.alpha=0.1") == said("train=shipped") == ""
    assert said("loss=spec", "train=fresh") == said("model=spec", "train=fresh") == "" == said("profile=spec")
    assert "acts only in a supervised training" in said("loss=spec") and "is trained" in said("model=spec")
    assert "leave out the raw data" in said("simulate.planets=3", "data.raw=x")
    assert "with a network" in said("train=finetune", "data.network=none")
    assert "a smaller number" in said("train=finetune", "train.sched.warmup_steps=500")
    assert said("train=finetune", "train.sched.warmup_steps=5") == ""


def test_idle_settings_of_a_file_are_named_in_a_warning(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("loss: {lambda_sm: 0.2}\nfeatures: {folds: 4, aperture_px: 8}\n")
    found = said(files=[str(tmp_path / "mine.yaml")])
    assert "loss.λ_sm: has no effect" in found and "aperture_px" in found and "folds" not in found
    assert said(files=["overrides/kaggle_fast"]) == ""


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("run", "+loss.λ_sm=5", "loss.λ_seam=50"), "loss.λ_sm: has no effect: it acts only in a supervised training"),
        (("run", "model.fusion.type=gated"), "it acts only where a network is trained. Fix: add train=finetune"),
        (("run", "--raw", "raw", "simulate.planets=3"), "it acts only where raw data are simulated"),
        (("run", "calib.temp.tau_init=2"), "it acts only where no temperature is learned"),
    ],
)
def test_a_run_is_refused_before_it_begins(
    words: tuple[str, ...], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = spectramind(*words)
    assert result.exit_code == 2 and problem in result.stderr and len(result.stderr.splitlines()) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and path.name != "runs"]


def test_the_docs_list_every_condition() -> None:
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    table = text.partition("| setting | acts only |")[2].partition("\n\n")[0]
    for one in CONDITIONS:
        (row,) = (line for line in table.splitlines() if f"| {one.where}" in line and f"`{one.keys[0]}`" in line)
        assert all(f"`{key}`" in row for key in one.keys), one.keys
