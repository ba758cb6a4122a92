"""A network that learns from a run: it is told nothing of the planets it predicts, and comes out no worse."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_predict import write_fitted_run
from typer.testing import CliRunner

from spectramind_nb.adaptation import adapt, fresh_weights, own_planets, some_planets
from spectramind_nb.curriculum import Supervised, TrainOptions, mean_loss
from spectramind_nb.lib import cli
from spectramind_nb.lib.contracts import UserError, network_file, run_folder
from spectramind_nb.lib.raw import RawFolder
from spectramind_nb.network import NetworkOptions, SpectralNetwork, read_network
from spectramind_nb.rules import RuleLoss
from spectramind_nb.training import (
    Teaching,
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


def test_planets_that_are_held_out_get_no_worse(home: Path) -> None:
    planets, truth = labelled_planets(home / "run", RawFolder(home / "raw"))
    before, fits = read_network(network_file("laptop")), read_fits(home / "run", planets)
    material = material_of(home / "run", planets, start_of(before.prior, fits), truth)
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


def test_a_planets_own_label_does_not_teach_its_network(home: Path, tmp_path: Path) -> None:
    run, raw = home / "run", RawFolder(home / "raw")
    teaching = Teaching("fresh", epochs=1, pairs=64)
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
    with pytest.raises(UserError, match=r"train: some is unknown\. Fix: one of shipped"):
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
    settings = ["training.epochs=1", "training.pairs=64", "+loss.λ_sm=0.2"]
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
