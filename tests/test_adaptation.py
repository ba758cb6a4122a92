"""A network that learns from a run: it is told nothing of the planets it predicts, and comes out no worse."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_predict import write_fitted_run
from typer.testing import CliRunner

from spectramind_nb.chapters.training import train_run
from spectramind_nb.cli import app as cli
from spectramind_nb.core.errors import UserError
from spectramind_nb.core.files import network_file, run_folder
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.network.fine_tuning import (
    Material,
    TrainingPlan,
    add_light_curves,
    fine_tune,
    fresh_weights,
    material_of,
    own_planets,
    redesigned,
    some_planets,
)
from spectramind_nb.network.model import NetworkOptions, SpectralNetwork, network_start, run_network, stds_of
from spectramind_nb.network.trainer import Progress, Supervised, TrainOptions, mean_loss
from spectramind_nb.network.weights import Weights, read_network
from spectramind_nb.pipeline.config import compose
from spectramind_nb.pipeline.learned import read_learned, read_out_of_fold
from spectramind_nb.pipeline.network_training import memory_line, training_plan
from spectramind_nb.pipeline.predictors import labelled_planets, predict_neural, read_fits, read_folds
from spectramind_nb.rules.losses import RuleLoss
from spectramind_nb.uncertainty.sigma_factors import Fits, take_planets

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
    fits = read_fits(home / "run", planets)
    return material_of(home / "run", fits, network_start(before.prior, fits), truth)


@pytest.mark.slow
def test_planets_that_are_held_out_get_no_worse(material: Material, before: Weights) -> None:
    assert material.fgs1.shape == (16, 128, 9) and np.isfinite(material.fgs1).all()
    after = fine_tune(material, before, SHORT, ("mae", "supervised"), pairs=64)
    held_out = some_planets(material, np.arange(16) % 5 == 0)
    losses = [
        mean_loss(
            Supervised(w.network, SHORT.aux_weight, SHORT.worst),
            own_planets(held_out, w.scaling, w.uses_fgs1),
            torch.device("cpu"),
        )
        for w in (before, after)
    ]
    assert losses[1] <= losses[0] + 1e-6
    fresh = fresh_weights(material, before.prior, NetworkOptions(8, 1, airs_width=16, airs_layers=1, hidden=16))
    wild = fine_tune(material, fresh, TrainOptions(epochs=1, batch=8, lr=1.0), pairs=64)
    assert all(map(torch.equal, wild.network.state_dict().values(), fresh.network.state_dict().values()))
    for few, phases, message in ((5, ("supervised",), "5 planets can't"), (16, ("rest",), "phase rest is unknown")):
        with pytest.raises(UserError, match=f"{message}.*Fix: "):
            fine_tune(some_planets(material, np.arange(16) < few), before, SHORT, phases, pairs=64)


@pytest.mark.slow
def test_only_networks_trained_on_light_curves_use_them(home: Path, material: Material, before: Weights) -> None:
    fits = read_fits(home / "run", labelled_planets(home / "run", RawFolder(home / "raw"))[0])
    assert fits.fgs1 is not None
    stirred = replace(fits, fgs1=fits.fgs1[:, ::-1].copy())

    def mu(weights: Weights, given: Fits) -> np.ndarray:
        return predict_neural(weights, given).mu

    assert not before.uses_fgs1 and np.array_equal(mu(before, fits), mu(before, stirred))
    assert np.array_equal(mu(before, fits), mu(before, replace(fits, fgs1=None)))
    small = NetworkOptions(8, 1, airs_width=16, airs_layers=1, hidden=16, dropout=0.0)
    fresh, std = fresh_weights(material, before.prior, small), stds_of(material.start.combined)[0]
    shifted = replace(material, truth=material.start.combined.mean + 2 * std)  # easily learned
    after = fine_tune(shifted, fresh, TrainOptions(epochs=3, batch=6, lr=2e-2, average=0.5), pairs=60, device="cpu")
    assert after.uses_fgs1 and not np.allclose(mu(after, fits), mu(after, stirred), rtol=1e-7, atol=0)
    held_out = np.arange(16) % 5 == 0
    asked = some_planets(shifted, held_out)
    inputs = after.inputs(asked.start, take_planets(fits, held_out).fgs1)  # as one predicts
    judge = own_planets(asked, after.scaling)._replace(inputs=inputs)
    found = mean_loss(Supervised(after.network, 0.01, 10.0), judge, torch.device("cpu"))
    assert found == pytest.approx(min(json.loads(after.about["curves"])["planets"]["held_out"]), abs=1e-6)
    deaf = replace(after, about={})
    add_light_curves(after.network)
    assert np.allclose(mu(after, fits), mu(deaf, fits), rtol=1e-7, atol=0)  # it begins with what it says of none


def test_memory_beyond_the_gpus_has_a_way_out() -> None:
    full = TrainOptions(batch=64)
    assert memory_line(7e9, full, 16e9) == "memory            about 7.0 GB"
    assert memory_line(28e9, full, 16e9).endswith("the GPU's 16.0 GB. Fix: train.batch=24 train.grad_accum=3")


def test_what_fits_is_taken_into_another_design(material: Material, before: Weights) -> None:
    same = redesigned(before, {"head": "heteroscedastic"})
    assert all(map(torch.equal, same.network.state_dict().values(), before.network.state_dict().values()))
    own = before.network.state_dict()
    for kind in ("cross_attend", "gated"):
        other = redesigned(before, {"fusion": kind}).network
        assert other.options.fusion == kind and not other.training
        kept = {name for name, value in other.state_dict().items() if name in own and torch.equal(value, own[name])}
        assert {name for name in own if name.startswith(("fgs1.", "airs."))} <= kept
        inputs = own_planets(material, before.scaling).inputs
        for found, known in zip(run_network(other, inputs), run_network(before.network, inputs), strict=True):
            assert torch.allclose(found.shift, known.shift, rtol=1e-4, atol=1e-10)  # until it is trained
            assert torch.allclose(found.sigma, known.sigma, rtol=1e-5)
    wider = redesigned(before, {"fusion": "gated", "hidden": 16}).network
    assert all((found.shift == 0).all() for found in run_network(wider, inputs))


@pytest.mark.slow
def test_an_interrupted_training_resumes(material: Material, before: Weights, tmp_path: Path) -> None:
    training = partial(fine_tune, material, before, SHORT, ("contrastive", "supervised"), 64)
    whole, seen = training(), list[str]()

    def cut(phase: str, progress: Progress, _: float) -> None:
        seen.append(f"{phase} {progress.epoch}")
        if seen[-1] == "pairs 1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training(cut, checkpoints=tmp_path)
    again = training(cut, checkpoints=tmp_path)
    assert seen == ["contrastive 1", "contrastive 2", "pairs 1", "pairs 2", "planets 1", "planets 2"]
    assert all(map(torch.equal, whole.network.state_dict().values(), again.network.state_dict().values()))


@pytest.mark.slow
def test_settings_define_a_training() -> None:
    for words, expected in (([], (64, 1)), (["model=full"], (16, 4)), (["model=full", "train.batch=32"], (32, 4))):
        cfg = compose(["train=fresh", *words])
        options = training_plan(cfg.train, cfg.model).options
        assert (options.batch, options.accumulate) == expected
    cfg = compose(
        ["model=spec", "train=mae", "train.optim.lr=1e-3", "train.grad_accum=2", "model.decoder_mu.aux_loss=false"]
    )
    found = training_plan(cfg.train, cfg.model, 3)
    assert (found.start, found.phases, found.options.seed) == ("finetune", ["mae"], 3)
    assert (found.options.lr, found.options.accumulate, found.options.aux_weight) == (1e-3, 2, 0)
    assert (found.design.head, found.design.sigma_min, found.design.airs_width) == ("flow", 1e-4, 192)
    assert set(found.changes) >= {"head", "sigma_min", "hidden"} and "scales" not in found.changes
    assert training_plan({}, {}).changes == {} and training_plan({}, {}).start == "shipped"
    with pytest.raises(UserError, match=r"has its own fusion\. Fix: train=finetune"):
        training_plan({}, {"fusion": {"type": "gated"}})
    with pytest.raises(UserError, match=r"Fix: take keys that spectramind config show has"):
        training_plan({"epoch": 3}, {})


@pytest.mark.slow
def test_a_planets_own_label_does_not_train_its_network(home: Path, tmp_path: Path) -> None:
    run, raw = home / "run", RawFolder(home / "raw")
    training = TrainingPlan(
        "fresh", pairs=64, options=TrainOptions(epochs=1, lr=3e-4), design=NetworkOptions(airs_width=24, airs_layers=2)
    )
    table = pd.read_csv(home / "raw/train.csv")
    found = []
    for factor in (1.0, 1.1):
        changed = table.copy()
        changed.iloc[7, 1:] *= factor * np.where(np.arange(283) % 2, 1.01, 1.0) if factor > 1 else 1.0
        (tmp_path / "raw").mkdir(exist_ok=True)
        changed.to_csv(tmp_path / "raw/train.csv", index=False)
        figures = train_run(run, tmp_path / "raw", "", 3, 0.02, training=training)
        assert [*figures.index] == ["transit", "gaussian", "neural"]
        found.append(read_out_of_fold(run))
    before, after = (one.mu["neural"] for one in found if one is not None)
    folds = read_folds(run, np.array(labelled_planets(run, raw)[0]))
    with_7 = folds == folds[7]
    assert np.array_equal(before[with_7], after[with_7]) and not np.array_equal(before[~with_7], after[~with_7])
    assert read_learned(run).weights == "laptop, fresh" and not (run / "06_training/checkpoints").exists()
    curves = json.loads((run_folder(run, "outputs/checkpoints") / "curves.json").read_text())
    assert len(curves) == 1 + len({*folds}) and {*curves["all"]} == {"pairs", "planets"}
    assert len(curves["all"]["pairs"]["held_out"]) == 1
    network = read_network(run_folder(run, "outputs/checkpoints") / "network.safetensors").network
    assert (network.options.airs_width, network.options.airs_layers) == (24, 2)
    with pytest.raises(UserError, match=r"train.start: some is unknown\. Fix: one of shipped"):
        train_run(run, home / "raw", "", 3, 0.02, training=TrainingPlan("some"))


@pytest.mark.slow
def test_the_command_writes_weights_that_say_where_they_come_from(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taught_by: list[dict[str, float]] = []

    def supervised(network: SpectralNetwork, aux_weight: float, worst: float, rules: RuleLoss) -> Supervised:
        taught_by.append(rules.weights)
        return Supervised(network, aux_weight, worst, rules)

    monkeypatch.setattr("spectramind_nb.network.fine_tuning.Supervised", supervised)
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
        train_run(home / "run", home / "raw", "", 3, 0.02, "mine.safetensors", training=TrainingPlan("finetune"))
    again = CliRunner().invoke(cli.app, [*words, "--network", "no.safetensors"], prog_name="spectramind")
    assert again.exit_code == 2 and "no such weights" in again.stderr


@pytest.mark.slow
def test_without_labels_all_planets_train_the_unsupervised_phases(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "--run", str(home / "run"), "--raw", str(tmp_path), "train.epochs=1", "train.batch=4"]
    out = tmp_path / "mine.safetensors"
    done = CliRunner().invoke(cli.app, [*words, "--phase", "mae,contrastive", "--out", str(out)])
    assert done.exit_code == 0, done.output
    found, before = read_network(out), read_network(network_file("laptop"))
    assert "planets" not in {n for n, x in found.about.items() if x not in ("", "[]")} and not found.uses_fgs1
    pairs = zip(found.network.state_dict().items(), before.network.state_dict().values(), strict=True)
    assert any(name.startswith("fgs1.") and not torch.equal(own, old) for (name, own), old in pairs)
    for extra in (["--phase", "supervised"], ["--phase", "mae", "train=fresh"]):
        failed = CliRunner().invoke(cli.app, [*words, *extra, "--out", str(tmp_path / "no.safetensors")])
        assert failed.exit_code == 2 and "no planet of this run has one" in failed.stderr


@pytest.mark.slow
def test_two_processes_train_like_one(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "--run", str(home / "run"), "--raw", str(home / "raw"), "train=fresh", "train.batch=5"]
    words += [
        "train.epochs=2",
        "train.pairs=40",
        "+loss.λ_seam=0.2",
        "model.airs_gnn.d_model=16",
        "model.fusion.hidden=16",
    ]
    words += [f"model.{part}.dropout=0" for part in ("fgs1_mamba", "airs_gnn", "fusion")]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    command = [*launch, "-m", "--", "spectramind_nb.cli.app", *words, "--out", str(two)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("pairs 2/2") == 1 and done.stdout.count("weights ") == 1
    alone = CliRunner().invoke(cli.app, [*words, "--out", str(one)])
    assert alone.exit_code == 0, alone.output
    curves = [json.loads(read_network(path).about["curves"]) for path in (one, two)]
    for phase in ("pairs", "planets"):
        for part in ("learned", "held_out"):
            assert np.allclose(*(curve[phase][part] for curve in curves), rtol=1e-5, atol=1e-5)
