"""A network that learns from a run: it is told nothing of the planets it predicts, and comes out no worse."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_predict import write_fitted_run
from typer.testing import CliRunner

from spectramind_nb.adaptation import (
    Material,
    Teaching,
    adapt,
    fresh_weights,
    own_planets,
    redesigned,
    some_planets,
    teaching_of,
)
from spectramind_nb.curriculum import Progress, Supervised, TrainOptions, mean_loss
from spectramind_nb.lib import cli
from spectramind_nb.lib.config import compose
from spectramind_nb.lib.contracts import UserError, network_file, run_folder
from spectramind_nb.lib.raw import RawFolder
from spectramind_nb.network import NetworkOptions, SpectralNetwork, Weights, answer, read_network
from spectramind_nb.rules import RuleLoss
from spectramind_nb.training import (
    labelled_planets,
    material_of,
    read_fits,
    read_folds,
    read_learned,
    read_out_of_fold,
    start_of,
    train_run,
)

SHORT = TrainOptions(epochs=2, batch=16, lr=1e-3)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 16 labelled planets as 02_transit leaves it, and its raw folder."""
    found = tmp_path_factory.mktemp("home")
    write_fitted_run(found / "run", found / "raw")
    return found


@pytest.fixture(scope="module")
def before() -> Weights:
    return read_network(network_file("laptop"))


@pytest.fixture(scope="module")
def material(home: Path, before: Weights) -> Material:
    """What the network is taught with by these planets."""
    planets, truth = labelled_planets(home / "run", RawFolder(home / "raw"))
    return material_of(home / "run", planets, start_of(before.prior, read_fits(home / "run", planets)), truth)


def test_planets_that_are_held_out_get_no_worse(material: Material, before: Weights) -> None:
    assert material.guide.shape == (16, 128, 9) and np.isfinite(material.guide).all()
    after = adapt(material, before, SHORT, ("mae", "supervised"), pairs=64)
    held_out = some_planets(material, np.arange(16) % 5 == 0)
    losses = [
        mean_loss(
            Supervised(w.network, SHORT.aux_weight, SHORT.worst), own_planets(held_out, w.scaling), torch.device("cpu")
        )
        for w in (before, after)
    ]
    assert losses[1] <= losses[0] + 1e-6
    fresh = fresh_weights(material, before.prior, NetworkOptions(8, 1, airs_width=16, airs_layers=1, hidden=16))
    wild = adapt(material, fresh, TrainOptions(epochs=1, batch=8, lr=1.0), pairs=64)
    assert all(map(torch.equal, wild.network.state_dict().values(), fresh.network.state_dict().values()))
    for few, phases, message in ((5, ("supervised",), "5 labelled planets"), (16, ("rest",), "phase rest is unknown")):
        with pytest.raises(UserError, match=f"{message}.*Fix: "):
            adapt(some_planets(material, np.arange(16) < few), before, SHORT, phases, pairs=64)


def test_what_fits_is_taken_into_another_design(material: Material, before: Weights) -> None:
    same = redesigned(before, {"head": "heteroscedastic"})
    assert all(map(torch.equal, same.network.state_dict().values(), before.network.state_dict().values()))
    own = before.network.state_dict()
    for kind, silent in (("cross_attend", False), ("gated", True)):
        other = redesigned(before, {"fusion": kind}).network
        assert other.options.fusion == kind and not other.training
        kept = {name for name, value in other.state_dict().items() if name in own and torch.equal(value, own[name])}
        assert {name for name in own if name.startswith(("guide.", "airs."))} <= kept
        inputs = own_planets(material, before.scaling).inputs
        assert all(bool((found.shift == 0).all()) == silent for found in answer(other, inputs))


def test_a_lesson_goes_on_where_it_was_cut(material: Material, before: Weights, tmp_path: Path) -> None:
    lesson = partial(adapt, material, before, SHORT, ("contrastive", "supervised"), 64)
    whole, seen = lesson(), list[str]()

    def cut(phase: str, progress: Progress, _: float) -> None:
        seen.append(f"{phase} {progress.epoch}")
        if seen[-1] == "pairs 1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lesson(cut, checkpoints=tmp_path)
    again = lesson(cut, checkpoints=tmp_path)
    assert seen == ["contrastive 1", "contrastive 2", "pairs 1", "pairs 2", "planets 1", "planets 2"]
    assert all(map(torch.equal, whole.network.state_dict().values(), again.network.state_dict().values()))


def test_settings_become_a_lesson() -> None:
    cfg = compose(
        ["model=spec", "train=mae", "train.optim.lr=1e-3", "train.grad_accum=2", "model.decoder_mu.aux_loss=false"]
    )
    found = teaching_of(cfg.train, cfg.model, 3)
    assert (found.start, found.phases, found.options.seed) == ("finetune", ["mae"], 3)
    assert (found.options.lr, found.options.accumulate, found.options.aux_weight) == (1e-3, 2, 0)
    assert (found.design.head, found.design.sigma_min, found.design.airs_width) == ("flow", 1e-4, 192)
    assert set(found.changes) >= {"head", "sigma_min", "hidden"} and "scales" not in found.changes
    assert teaching_of({}, {}).changes == {} and teaching_of({}, {}).start == "shipped"
    with pytest.raises(UserError, match=r"has its own fusion\. Fix: train=finetune"):
        teaching_of({}, {"fusion": {"type": "gated"}})
    with pytest.raises(UserError, match=r"Fix: take keys that spectramind config show has"):
        teaching_of({"epoch": 3}, {})


def test_a_planets_own_label_does_not_teach_its_network(home: Path, tmp_path: Path) -> None:
    run, raw = home / "run", RawFolder(home / "raw")
    teaching = Teaching(
        "fresh", pairs=64, options=TrainOptions(epochs=1, lr=3e-4), design=NetworkOptions(airs_width=24, airs_layers=2)
    )
    table = pd.read_csv(home / "raw/train.csv")
    found = []
    for factor in (1.0, 1.1):
        changed = table.copy()
        changed.iloc[7, 1:] *= factor * np.where(np.arange(283) % 2, 1.01, 1.0) if factor > 1 else 1.0
        (tmp_path / "raw").mkdir(exist_ok=True)
        changed.to_csv(tmp_path / "raw/train.csv", index=False)
        figures = train_run(run, tmp_path / "raw", "", 3, 0.02, teaching=teaching)
        assert [*figures.index] == ["transit", "gaussian", "neural"]
        found.append(read_out_of_fold(run))
    before, after = (one.mu["neural"] for one in found if one is not None)
    folds = read_folds(run, np.array(labelled_planets(run, raw)[0]))
    with_7 = folds == folds[7]
    assert np.array_equal(before[with_7], after[with_7]) and not np.array_equal(before[~with_7], after[~with_7])
    assert read_learned(run).weights == "laptop, fresh"
    assert asdict(read_network(run_folder(run, "outputs/checkpoints") / "network.safetensors").network.options)
    with pytest.raises(UserError, match=r"train.start: some is unknown\. Fix: one of shipped"):
        train_run(run, home / "raw", "", 3, 0.02, teaching=Teaching("some"))


def test_the_command_writes_weights_that_say_where_they_come_from(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taught_by: list[dict[str, float]] = []

    def supervised(network: SpectralNetwork, aux_weight: float, worst: float, rules: RuleLoss) -> Supervised:
        taught_by.append(rules.weights)
        return Supervised(network, aux_weight, worst, rules)

    monkeypatch.setattr("spectramind_nb.adaptation.Supervised", supervised)
    words = ["train", "--run", str(home / "run"), "--raw", str(home / "raw"), "--phase", "contrastive,supervised"]
    settings = ["train.epochs=1", "train.pairs=64", "+loss.λ_sm=0.2"]
    done = CliRunner().invoke(cli.app, [*words, "--out", "mine.safetensors", *settings], prog_name="spectramind")
    assert done.exit_code == 0, done.output
    assert "contrastive 1/1: learned" in done.stdout and "weights           mine.safetensors" in done.stdout
    about = read_network("mine.safetensors").about
    planets, _ = labelled_planets(home / "run", RawFolder(home / "raw"))
    assert json.loads(about["planets"]) == sorted(planets) and about["phases"] == "contrastive, supervised"
    assert [json.loads(about["rules"])] == taught_by == [{"smoothness": 0.2}]
    with pytest.raises(UserError, match=r"learned from 16 planets of this very run\. Fix: .*train=finetune"):
        train_run(home / "run", home / "raw", "", 3, 0.02, "mine.safetensors")
    again = CliRunner().invoke(cli.app, [*words, "--network", "no.safetensors"], prog_name="spectramind")
    assert again.exit_code == 2 and "no such weights" in again.stderr
