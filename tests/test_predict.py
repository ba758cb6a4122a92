"""From raw frames to a submission without labels: by the stages, by `predict`, in a bare process, and in failure."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from typer.testing import CliRunner

from spectramind_nb.chapters.calibration import Keep, calibrate_run
from spectramind_nb.chapters.features import extract_run, group_folds
from spectramind_nb.chapters.submission import submit_run, write_bundle
from spectramind_nb.chapters.training import train_run
from spectramind_nb.chapters.transit import fit_run
from spectramind_nb.cli import app as cli
from spectramind_nb.core.contracts import WAVELENGTH_COLUMNS, read_submission, read_table, write_npz
from spectramind_nb.core.errors import ContractError, UserError
from spectramind_nb.core.extras import EXTRAS
from spectramind_nb.core.files import LEARNED, network_file, run_folder
from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.core.metric import DEFAULT_REFERENCE, reference_of
from spectramind_nb.core.versions import VERSIONS
from spectramind_nb.dashboard.planet_panels import spectrum
from spectramind_nb.dashboard.planet_table import submitted_planets
from spectramind_nb.dashboard.run_reader import Run
from spectramind_nb.detector.corrections import Options
from spectramind_nb.detector.extraction import Steps
from spectramind_nb.detector.photometry import Photometry
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.network.fine_tuning import TrainingPlan
from spectramind_nb.network.model import network_of
from spectramind_nb.network.weights import read_network, write_network
from spectramind_nb.pipeline import predict as predict_planets
from spectramind_nb.pipeline.config import compose, read_settings
from spectramind_nb.pipeline.integrity import INTEGRITY
from spectramind_nb.pipeline.learned import read_learned, read_out_of_fold
from spectramind_nb.pipeline.planets import Workers
from spectramind_nb.pipeline.predict import copy_learned, predict, predict_fits
from spectramind_nb.pipeline.prediction import (
    fill_failed,
    join_predictions,
    prediction_path,
    quantiles_of_submission,
    read_prediction,
    recalibrate,
    why_stale,
    write_prediction,
)
from spectramind_nb.pipeline.predictors import read_fits
from spectramind_nb.pipeline.provenance import git_sha, read_events, sha256, write_summary
from spectramind_nb.pipeline.selection import read_plan
from spectramind_nb.pipeline.sigma_calibration import CALIBRATION_FILES, calibrate_sigmas, read_sigma_calibration
from spectramind_nb.rules.auditor import LOG, MAPS, summarise_audit, write_audit
from spectramind_nb.simulator.data_sets import draw_planets
from spectramind_nb.transits.fit_file import read_fit
from spectramind_nb.transits.fit_priors import FitOptions
from spectramind_nb.uncertainty.calibration import CalibOptions, steps_of
from spectramind_nb.uncertainty.corel import gaussian_factors
from spectramind_nb.uncertainty.sigma_factors import take_planets

STEPS, FIT = Steps(airs=60, fgs1=120), FitOptions()


def write_fitted_run(run: Path, raw: Path) -> None:
    """A run with 16 labelled planets as stages 00 to 02 leave it: plan, folds and (invented) fits."""
    planets = draw_planets(9, "train", 16)
    rng, noise = np.random.default_rng(0), np.concatenate([[2e-4], np.full(N_BINS - 1, 1e-3)])
    raw.mkdir()
    table = pd.DataFrame([planet.spectrum for planet in planets.values()], columns=list(WAVELENGTH_COLUMNS))
    table.insert(0, "planet_id", list(planets))
    table.to_csv(raw / "train.csv", index=False)
    for path, content in {
        run / "00_calibration/artifacts/plan.json": {
            "planets": {"train": list(planets), "test": []},
            "options": asdict(Options()),
        },
        run_folder(run, "data/splits") / "groupkfold.json": {"fold_of_planet": group_folds(list(planets), 4, 0)},
    }.items():
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    for label, planet in planets.items():
        nuisance = np.full((N_BINS, 1), 8e-5)
        error = rng.normal(size=N_BINS) * noise + nuisance[:, 0] * rng.normal()
        time, dip = np.linspace(0, 7.5, 128), 0.01 * (np.abs(np.arange(128) - 64) < 30)
        white = {"time": time, "white_flux": 1 - dip + 1e-4 * rng.normal(size=128), "white_model": 1 - dip}
        white |= {"white_drift": np.zeros(128), **{name: np.zeros(128, np.int8) for name in ("visit", "channel")}}
        curves = {name: rng.normal(size=(128, 2)).astype(np.float32) for name in ("centroid", "jitter")}
        curves |= {name: np.ones(128, np.float32) for name in ("flux", "variance")}
        folder = run_folder(run, "data/features")
        write_npz(folder / f"fgs1_white_{label}.npz", "fgs1_white", **curves, time=time, visit=np.zeros(128, np.int8))
        write_npz(
            run_folder(run, "outputs/fits") / f"transit_{label}.npz",
            "transit",
            depth=planet.spectrum + error,
            noise_variance=noise**2,
            nuisance=nuisance,
            parameters=np.array("{}"),
            **white,
        )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned from labels."""
    home = tmp_path_factory.mktemp("weights")
    write_fitted_run(home / "run", home / "raw")
    figures = train_run(home / "run", home / "raw", "", 3, 0.02)
    assert figures.loc["gaussian", "airs_shape_ppm"] < 0.5 * figures.loc["transit", "airs_shape_ppm"]
    calibrate_sigmas(home / "run", "", CalibOptions())
    return home / "run"


@pytest.fixture(scope="module")
def unlabelled(tiny: RawFolder, tmp_path_factory: pytest.TempPathFactory) -> RawFolder:
    """Two test planets, nothing else: the second has two visits."""
    root = tmp_path_factory.mktemp("unlabelled") / "raw"
    shutil.copytree(tiny.root / "test", root / "test", copy_function=os.link)
    for name in ("test_star_info.csv", "axis_info.parquet", "adc_info.csv"):
        os.link(tiny.root / name, root / name)
    return RawFolder(root)


@pytest.fixture(scope="module")
def run(unlabelled: RawFolder, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the unlabelled planets with the earlier run's weights, stage by stage."""
    run, raw = tmp_path_factory.mktemp("run"), unlabelled.root
    calibrate_run(run, raw, [], Options(), Keep(0), Workers(2))
    extract_run(run, raw, STEPS, Photometry(), 5, 0, Workers(2))
    fit_run(run, raw, FIT, Workers(2))
    assert train_run(run, raw, str(weights), 3, 0.02).empty
    calibrate_sigmas(run, str(weights), CalibOptions())
    submit_run(run, raw, "challenge")
    return run


def test_labels_leave_everything_a_prediction_needs(weights: Path) -> None:
    found, learned = read_out_of_fold(weights), read_learned(weights)
    assert found is not None and [*found.mu] == ["transit", "gaussian", "neural"]
    assert len(set(found.planet)) == 16 and set(found.fold) == {0, 1, 2, 3}
    z = (found.truth - found.mu["transit"]) / found.sigma["transit"]
    assert z[:, 1:].std() == pytest.approx(1, abs=0.05)
    figures = found.figures(reference_of(found.truth))["score"]
    assert learned.chosen == figures.idxmax() and {*learned.factors} == {"gaussian", "neural"}
    for name, factors in learned.factors.items():
        assert all(0.05 <= factor <= 20 for factor in (factors.fgs1, factors.airs_mean, factors.airs_shape))
        own = read_sigma_calibration(weights, name)
        assert 0.3 < own.tau < 3 and own.planets == 16 and own.quantiles is not None


@pytest.mark.e2e
def test_a_run_without_labels_takes_over_what_was_learned(run: Path, weights: Path) -> None:
    names = [f"06_training/artifacts/{name}" for name in LEARNED]
    for name in (*names, *(f"07_uncertainty/artifacts/{name}" for name in CALIBRATION_FILES)):
        assert (run / name).read_bytes() == (weights / name).read_bytes()


def test_what_is_submitted_is_audited(run: Path) -> None:
    outputs = run_folder(run, "outputs")
    records, report = (json.loads((outputs / name).read_text()) for name in (LOG, "report.json"))
    assert [record["planet_id"] for record in records] == read_submission(outputs / "submission.csv").planet_id.tolist()
    counts = {rule: told["violated"] for rule, told in summarise_audit(records).items()}
    assert report["rules_violated"] == counts and (outputs / MAPS).is_file()


def test_a_bundle_packs_the_integrity_report(run: Path, unlabelled: RawFolder, tmp_path: Path) -> None:
    path = run_folder(run, "outputs") / INTEGRITY
    with zipfile.ZipFile(write_bundle(path.with_name("submission.csv"), tmp_path / "a.zip")) as archive:
        assert archive.read(INTEGRITY) == path.read_bytes()
        assert INTEGRITY in json.loads(archive.read("manifest.json"))["files"]
    first, second = json.loads(path.read_text(encoding="utf-8"))
    assert [each["channels"]["FGS1"]["visits"] for each in (first, second)] == [1, 2]
    for each in (first, second):
        assert each["failed"] is None and each["split"] == "test"
        assert all(value is not None for channel in each["channels"].values() for value in channel.values())
        star = unlabelled.star_info("test", [each["planet"]]).loc[each["planet"]]
        assert each["orbit"]["sma"]["table"] == pytest.approx(star["sma"])


def test_a_bundle_leaves_out_the_reports_of_another_submission(later: tuple[Path, Path]) -> None:
    out, _ = later
    out.with_name("runtime.csv").write_text("planet,seconds\n1,2\n")
    own = [int(planet) for planet in read_submission(out).planet_id]
    for planets, split in (([], "test"), ([1], "test"), (own, "train"), (own, "test")):
        out.with_name(INTEGRITY).write_text(json.dumps([{"planet": planet, "split": split} for planet in planets]))
        with zipfile.ZipFile(write_bundle(out, out.with_name("a.zip"))) as archive:
            found = [name for name in archive.namelist() if name in (INTEGRITY, "runtime.csv")]
        assert found == ([INTEGRITY, "runtime.csv"] if (planets, split) == (own, "test") else [])


def test_without_labels_or_an_earlier_run_the_shipped_weights_speak(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "00_calibration", tmp_path / "00_calibration")
    assert train_run(tmp_path, tmp_path / "nowhere", "", 3, 0.02).empty
    assert calibrate_sigmas(tmp_path, "", CalibOptions())["tau"] == {"gaussian": 1.0, "neural": 1.0}
    fits = read_fits(run, read_plan(run)[0]["test"])
    found = predict_fits(fits, tmp_path)
    assert found.chosen == "neural" and read_learned(tmp_path).weights == "laptop"
    assert all(np.isfinite(found.mu[name]).all() and (found.sigma[name] > 0).all() for name in found.mu)


@pytest.fixture
def later(run: Path, weights: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A submission that was predicted by a run, and that run, free to be calibrated again."""
    home, out = tmp_path / "runs/mine", tmp_path / "out.csv"
    shutil.copytree(weights, home)
    fits = read_fits(run, read_plan(run)[0]["test"])
    write_prediction(out, predict_fits(fits, home), home, "challenge")
    return out, home


def test_a_later_calibration_makes_a_submission_stale_until_it_is_written_again(later: tuple[Path, Path]) -> None:
    out, home = later
    before = read_submission(out)
    assert why_stale(out) == ""
    with zipfile.ZipFile(write_bundle(out, out.with_name("a.zip"))) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert archive.namelist() == ["out.csv", LOG, "manifest.json"] and manifest["planets"] == len(before.mu)
        assert manifest["files"]["out.csv"] == sha256(out)
    calibrate_sigmas(home, "", CalibOptions(corel=False, widening=0.5))
    with pytest.raises(ContractError, match=r"is older than its run's calibration\. Fix: spectramind calibrate-temp"):
        write_bundle(out, out.with_name("b.zip"))
    assert not out.with_name("b.zip").exists()
    recalibrate(out)
    after, (plain, _) = read_submission(out), read_prediction(out)
    own = read_sigma_calibration(home, plain.chosen)
    assert own.quantiles is None and np.array_equal(after.mu, before.mu)
    scale = own.tau * (1 + 0.5 * plain.unknown[plain.chosen])
    assert np.allclose(after.sigma, plain.sigma[plain.chosen] * scale[:, None]) and why_stale(out) == ""
    out.write_text(out.read_text().replace("0.0", "0.1", 1))
    assert why_stale(out) == "was changed after it was written"


def test_a_bundle_holds_its_own_audit_and_leads_back_to_its_run(later: tuple[Path, Path]) -> None:
    out, home = later
    write_audit(out.parent, np.array([5]), np.full((1, N_BINS), 0.01))  # of another submission beside this one
    write_summary(home, "0123abcd", 5, [])
    words = ("submit", "bundle", "--submission", str(out), "--out-zip", str(out.with_name("a.zip")))
    result = CliRunner().invoke(cli.app, [*words], prog_name="spectramind")
    assert result.exit_code == 0, result.output
    with zipfile.ZipFile(out.with_name("a.zip")) as archive:
        records, manifest = (json.loads(archive.read(name)) for name in (LOG, "manifest.json"))
        page = archive.read("diagnostics.html").decode()
    assert 'data-path="api/overview"' in page and manifest["files"].keys() >= {"diagnostics.html", LOG}
    assert [record["planet_id"] for record in records] == read_submission(out).planet_id.tolist()
    (event,) = read_events(home.parent / "events.jsonl")
    for told in (manifest, event):
        assert (told["run_id"], told["cfg_hash"], told["seed"]) == ("mine", "0123abcd", 5)
    assert manifest["git_sha"] == event["git_sha"] == git_sha() and event["cmd"] == "submit"


def test_the_audit_of_a_bundle_knows_the_stars_of_its_run(run: Path, unlabelled: RawFolder, tmp_path: Path) -> None:
    home = Path(shutil.copytree(run, tmp_path / "run"))
    source, told = run_folder(home, "outputs") / "submission.csv", []
    nine_digits = {"parse_float": lambda text: float(f"{float(text):.9g}")}  # a file's depths are rounded
    for raw in ("", str(unlabelled.root)):
        (home / "config.yaml").write_text(f"profile: demo\ndata: {{raw: '{raw}'}}")
        with zipfile.ZipFile(write_bundle(source, tmp_path / "a.zip")) as archive:
            told.append(json.loads(archive.read(LOG), **nine_digits))
    assert told[1] == json.loads(source.with_name(LOG).read_text(), **nine_digits) != told[0]


@pytest.mark.parametrize("crossed", [False, True])
def test_quantiles_travel_to_submission_audit_and_dashboard(
    later: tuple[Path, Path], run: Path, tmp_path: Path, crossed: bool
) -> None:
    """Of a network with the head `quantile`: scaled as sigma is, and judged by the auditor wherever it looks."""
    out, home = later
    plain = read_network(network_file("laptop"))
    network = network_of(replace(plain.network.options, head="quantile"), plain.scaling)
    network.load_state_dict(plain.network.state_dict(), strict=False)
    if crossed:
        with torch.no_grad():
            network.quantile.move.bias[0] = 2.0  # q10 above q50, in every bin
    write_network(tmp_path / "q.safetensors", replace(plain, network=network))
    fits = read_fits(run, read_plan(run)[0]["test"])
    found = predict_fits(fits, home, network=str(tmp_path / "q.safetensors"))
    assert predict_fits(fits, home).percentiles is None and found.percentiles.shape == (*found.mu["neural"].shape, 3)
    parts = [
        predict_fits(take_planets(fits, fits.planet == k), home, network=str(tmp_path / "q.safetensors"))
        for k in fits.planet
    ]
    assert np.allclose(join_predictions(parts).percentiles, found.percentiles, atol=1e-4)
    filled = fill_failed(found, [*found.planet.tolist(), 99], DEFAULT_REFERENCE)
    after = write_prediction(out, filled, home, "challenge")
    q, written = quantiles_of_submission(out), read_submission(out)
    assert np.allclose(q, after.quantiles) and np.allclose(q[-1, :, 2] - q[-1, :, 0], 2 * 1.2815516 * written.sigma[-1])
    if not crossed:  # untrained: a Gaussian's
        assert np.allclose(q[..., 1], written.mu, rtol=1e-4)
        assert np.allclose(q[..., 2] - q[..., 0], 2 * 1.2815516 * written.sigma, rtol=1e-3)
    assert CliRunner().invoke(cli.app, ["audit", "--submission", str(out)]).exit_code == 0
    with zipfile.ZipFile(write_bundle(out, out.with_name("a.zip"))) as archive:
        logs = [json.loads(archive.read(LOG)), json.loads(out.with_name(LOG).read_text())]
    for records in logs:
        counts = [record["violations"]["quantile_monotonicity"]["count"] for record in records]
        assert counts == [N_BINS * crossed] * len(found.planet) + [0]
    shown = submitted_planets(Run(home), *(read_prediction(out)[0], np.ones((len(written.mu), N_BINS))))
    ppm = np.array(spectrum(Run(home), shown, 0).quantiles_ppm)
    assert np.allclose(ppm, 1e6 * q[0].T, rtol=1e-3)
    out.write_text(out.read_text() + "\n")
    assert quantiles_of_submission(out) is None  # another submission than was predicted


def test_what_holds_nine_tenths_is_no_sigma(later: tuple[Path, Path]) -> None:
    out, home = later
    with np.load(prediction_path(out)) as memory:
        width, made = memory["half_width"], json.loads(str(memory["made"]))
    prediction, _ = read_prediction(out)
    own, sigma = read_sigma_calibration(home, prediction.chosen), read_submission(out).sigma
    assert own.quantiles is not None and made["alpha"] == 0.1
    assert np.allclose(width / sigma, own.quantiles / gaussian_factors(own.quantiles, 16, 0.1))
    assert np.median(width / sigma) > 1.4


def test_planets_that_failed_keep_the_populations_spread(later: tuple[Path, Path]) -> None:
    out, home = later
    prediction, _ = read_prediction(out)
    filled = fill_failed(prediction, [*prediction.planet.tolist(), 99], DEFAULT_REFERENCE)
    after = write_prediction(out, filled, home, "challenge")
    assert after.failed.tolist() == [False] * len(prediction.planet) + [True]
    assert np.all(after.submission.sigma[-1] == DEFAULT_REFERENCE.std)
    recalibrate(out)
    assert np.all(read_submission(out).sigma[-1] == DEFAULT_REFERENCE.std)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("calibrate-temp",), {"calib.temp.enabled": True}),
        (("calibrate-corel", "--alpha", "0.2"), {"calib.corel.enabled": True, "calib.corel.alpha": 0.2}),
    ],
)
def test_calibrating_runs_the_last_stages_and_writes_the_submission_again(
    later: tuple[Path, Path], words: tuple[str, ...], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, home = later
    OmegaConf.save(compose(["calib.temp.enabled=false", "calib.corel.enabled=false"]), home / "config.yaml")
    for stage in ("00_calibration", *(path.name for path in home.glob("0[1-6]_*")), "06_training", "09_submission"):
        (home / stage).mkdir(exist_ok=True)
        (home / stage / "manifest.json").write_text('{"status": "ok", "artifacts": {}}')
    seen = []

    def chain(cfg: Any, folder: Path, **how: Any) -> None:
        seen.append({key: OmegaConf.select(cfg, key) for key in expected} | {k: how[k] for k in ("first", "last")})
        calibrate_sigmas(folder, "", steps_of(cfg.calib.temp, cfg.calib.corel, cfg.calib.ood))

    monkeypatch.setattr("spectramind_nb.pipeline.chain.run_chain", chain)
    calibrate_sigmas(home, "", CalibOptions(temp=False, corel=False))
    assert why_stale(out)
    result = CliRunner().invoke(cli.app, [*words, "--submission", str(out)], prog_name="spectramind")
    assert result.exit_code == 0, result.output
    assert seen == [expected | {"first": "07_uncertainty", "last": "09_submission"}]
    assert why_stale(out) == "" and "temperature" in result.output and "(16 planets)" in result.output
    assert "written again, medians in ppm: sigma" in result.output
    assert re.search(r"coverage +\d0% by sigma: all [01]\.\d\d -> [01]\.\d\d, FGS1 .*H2O", result.output)
    twice = CliRunner().invoke(cli.app, [*words, "--submission", str(out)], prog_name="spectramind")
    assert "(already calibrated, unchanged)" in twice.output
    seen.pop()
    bundled = ["submit", "bundle", "--submission", str(out), "--out-zip", str(out.with_suffix(".zip"))]
    assert CliRunner().invoke(cli.app, bundled, prog_name="spectramind").exit_code == 0
    out.with_suffix(".prediction.npz").unlink()
    result = CliRunner().invoke(cli.app, [*words, "--submission", str(out)], prog_name="spectramind")
    assert result.exit_code == 2 and "out.prediction.npz: file: is missing. Fix:" in result.stderr


@pytest.fixture(scope="module")
def taught(weights: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of 16 labelled planets whose labels lie off what any prior expects, after `spectramind train` on it; and
    what the command said.
    """
    home = Path(shutil.copytree(weights.parent, tmp_path_factory.mktemp("taught") / "home"))
    for name in ("01_features/artifacts/splits/groupkfold.json", "02_transit/artifacts/options.json"):
        record = json.loads((run / name).read_text())
        known = json.loads((home / "run" / name).read_text()) if (home / "run" / name).is_file() else {}
        (home / "run" / name).write_text(json.dumps(record | known))
    table = pd.read_csv(home / "raw/train.csv")
    table.iloc[:, 1:] *= 1.05
    table.to_csv(home / "raw/train.csv", index=False)
    OmegaConf.save(compose([f"data.raw='{home / 'raw'}'"]), home / "run/config.yaml")
    manifest = {"status": "ok", "artifacts": {}, "versions": VERSIONS}
    (home / "run/02_transit/manifest.json").write_text(json.dumps(manifest))
    words = ["train", "--run", str(home / "run"), "--out", str(home / "mine.safetensors"), "train.epochs=2"]
    words += ["train.pairs=128", "train.batch=16", "train.optim.lr=2e-2", "+model.fusion.type=cross-attend"]
    done = CliRunner().invoke(cli.app, words, prog_name="spectramind")
    assert done.exit_code == 0, done.output
    return home, done.output


@pytest.mark.slow
def test_what_train_learned_reaches_the_submission(
    taught: tuple[Path, str], unlabelled: RawFolder, tmp_path: Path
) -> None:
    home, said = taught
    assert "predicts with these weights from now on" in said and "undone" not in said.split("planets  ")[-1]
    losses = re.findall(r"(in sample|held out)  +loss (\S+) -> (\S+) \((\d+) planets\)", said)
    assert [(name, count) for name, _, _, count in losses] == [("in sample", "12"), ("held out", "4")]
    assert all(float(after) < float(before) for _, before, after, _ in losses)
    run = Path(shutil.copytree(home / "run", tmp_path / "run"))
    remembered = read_settings(run / "config.yaml").data.network
    assert read_network(remembered).network.options.fusion == "cross_attend"

    def submission(network: str, *words: str) -> np.ndarray:
        train_run(run, home / "raw", "", 3, 0.02, network, "neural")
        calibrate_sigmas(run, "", CalibOptions())
        call = ["predict", "--run", str(run), "--raw", str(unlabelled.root), "--out-csv", str(tmp_path / "out.csv")]
        done = CliRunner().invoke(cli.app, [*call, "--work", str(tmp_path / "fits"), "--keep", *words])
        assert done.exit_code == 0, done.output
        return read_submission(tmp_path / "out.csv").mu

    untaught, after = submission("laptop"), submission(remembered)
    assert np.median(np.abs(after / untaught - 1)) > 1e-4
    weights = read_network(remembered)
    with torch.no_grad():
        weights.network.mu.offsets.bias[1] += 1  # of the AIRS mean
    write_network(tmp_path / "other.safetensors", weights)
    other = submission(str(tmp_path / "other.safetensors"))
    assert (other[:, 1:] > after[:, 1:]).all()
    assert np.array_equal(submission("laptop", "--network", str(tmp_path / "other.safetensors")), other)


@pytest.mark.slow
def test_planets_that_a_network_has_learned_from_do_not_judge_it(taught: tuple[Path, str], tmp_path: Path) -> None:
    home, _ = taught
    run, trained = Path(shutil.copytree(home / "run", tmp_path / "run")), home / "mine.safetensors"
    found = []
    for network in ("laptop", str(trained)):
        train_run(run, home / "raw", "", 3, 0.02, network)
        found.append(read_out_of_fold(run))
    laptop, own = (one.mu["neural"] for one in found if one is not None)
    assert (np.abs(laptop - own).max(axis=1) > 1e-6).tolist() == [k % 5 == 0 for k in range(16)]
    before = sorted((path, path.read_bytes()) for path in (run / "06_training").rglob("*") if path.is_file())
    for start in ("finetune", "shipped"):
        about = read_network(trained)
        told = {name: value for name, value in about.about.items() if start == "finetune" or name != "held_out"}
        write_network(tmp_path / "known.safetensors", replace(about, about=told))
        with pytest.raises(UserError, match=r"has learned from 16 planets of this very run\. Fix: "):
            train_run(run, home / "raw", "", 3, 0.02, str(tmp_path / "known.safetensors"), training=TrainingPlan(start))
    assert before == sorted((path, path.read_bytes()) for path in (run / "06_training").rglob("*") if path.is_file())


def test_a_training_without_gain_is_undone_and_says_why(taught: tuple[Path, str], tmp_path: Path) -> None:
    home, _ = taught
    run = Path(shutil.copytree(home / "run", tmp_path / "run"))
    before = read_settings(run / "config.yaml").data.network
    words = ["train", "--run", str(run), "--out", str(tmp_path / "mine.safetensors"), "train.epochs=1"]
    words += ["train.pairs=64", "train.batch=16", "train.optim.lr=1e-12", "+model.fusion.type=gated"]
    done = CliRunner().invoke(cli.app, words, prog_name="spectramind")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "mine.safetensors").exists()
    assert "kept              nothing" in done.stdout and "predicts as before" in done.stdout
    assert re.search(r"warning: the training was undone: the loss of the 4 held-out planets did not fall", done.stderr)
    assert read_settings(run / "config.yaml").data.network == before
    assert read_events(tmp_path / "events.jsonl")[-1]["status"] == "warn"


@pytest.mark.slow
def test_the_choice_of_a_predictor_is_the_users(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights.parent, tmp_path / "home")
    run, raw = tmp_path / "home/run", tmp_path / "home/raw"
    for network, predictor, message in (
        ("", "neural", "predictor: neural is none of gaussian"),
        (str(tmp_path / "no.safetensors"), "auto", "no such weights"),
    ):
        with pytest.raises(UserError, match=f"{message}.*Fix:"):
            train_run(run, raw, "", 3, 0.02, network, predictor)
    assert [*train_run(run, raw, "", 3, 0.02, "").index] == ["transit", "gaussian"]
    train_run(run, raw, "", 3, 0.02, predictor="gaussian")
    assert read_learned(run).chosen == "gaussian"


def test_the_submission_is_near_the_truth(run: Path, tiny: RawFolder) -> None:
    found = read_submission(run_folder(run, "outputs") / "submission.csv")
    truth = read_table(tiny.root / "truth.csv", WAVELENGTH_COLUMNS).loc[found.planet_id].to_numpy()
    assert np.abs(found.mu / truth - 1).max() < 0.2
    fits = np.array([read_fit(run, planet)["depth"] for planet in found.planet_id])
    assert np.abs(found.mu - truth)[:, 1:].mean() < 0.5 * np.abs(fits - truth)[:, 1:].mean()


def test_both_visits_are_used(run: Path, unlabelled: RawFolder) -> None:
    visits = {planet: len(unlabelled.visits("test", planet)) for planet in unlabelled.planets_on_disk("test")}
    assert sorted(visits.values()) == [1, 2]
    for planet, count in visits.items():
        fit = read_fit(run, planet)
        assert len(set(fit["visit"])) == count
        shared = json.loads(str(fit["parameters"]))["shared"]
        assert sum(name.startswith("t0_h") for name in shared) == count


BARE = """
import sys
BLOCKED = {blocked!r}
class Block:
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in BLOCKED) or name.startswith(
            "spectramind_nb.simulator.data_sets"
        ):
            raise ModuleNotFoundError(f"{{name}} is not there", name=name)
sys.meta_path.insert(0, Block())
for name in BLOCKED:
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{{name}} was not blocked")
from pathlib import Path
from spectramind_nb.pipeline.predict import predict
predict(*map(Path, {paths!r}))
"""
EXTRA = tuple(module for modules in EXTRAS.values() for module in modules)
SIMULATION = ("spectramind_nb.simulator.data_sets", "batman")
DISPLAY = ("papermill", "nbclient", "jupyterlab", "dvc", "seaborn", "nbdev", "fastcore")


@pytest.mark.slow
def test_predict_without_any_extra_and_what_only_simulation_and_display_need(
    run: Path, unlabelled: RawFolder, tmp_path: Path
) -> None:
    out = tmp_path / "new folder" / "out.csv"
    code = BARE.format(blocked=EXTRA + SIMULATION + DISPLAY, paths=[str(unlabelled.root), str(run), str(out)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    ours, chains = read_submission(out), read_submission(run_folder(run, "outputs") / "submission.csv")
    assert np.array_equal(ours.planet_id, chains.planet_id)
    assert np.allclose(ours.mu, chains.mu, rtol=1e-5) and np.allclose(ours.sigma, chains.sigma, rtol=1e-5)
    written = {"integrity.json", "out.csv", "out.prediction.npz", "runtime.csv"}
    assert {path.name for path in out.parent.iterdir()} == written
    times = pd.read_csv(out.with_name("runtime.csv")).set_index("step")
    assert [*times.index] == ["features", "fit", "predict", "write", "all"] and (times["seconds_per_planet"] > 0).all()
    assert times.loc["all", "hours_1100_planets_4_cores"] == pytest.approx(times.iloc[:-1, -1].sum(), abs=1e-4)


def test_one_planet_is_predicted_as_among_all(run: Path, unlabelled: RawFolder, tmp_path: Path) -> None:
    (planet,) = (p for p in unlabelled.planets_on_disk("test") if len(unlabelled.visits("test", p)) == 1)
    predict(unlabelled.root, run, tmp_path / "one.csv", [planet], spelling="specification")
    one, every = read_submission(tmp_path / "one.csv"), read_submission(run_folder(run, "outputs") / "submission.csv")
    row = every.planet_id == planet
    assert one.planet_id.tolist() == [planet] and "mu_0" in (tmp_path / "one.csv").read_text()
    assert np.allclose(one.mu, every.mu[row], rtol=1e-5) and np.allclose(one.sigma, every.sigma[row], rtol=1e-5)
    (record,) = json.loads((tmp_path / "integrity.json").read_text())
    known = {each["planet"]: each for each in json.loads((run_folder(run, "outputs") / "integrity.json").read_text())}
    assert record["channels"] == known[planet]["channels"] and record["dead_bins"] == known[planet]["dead_bins"]
    assert record["orbit"]["sma"]["fit"] == pytest.approx(known[planet]["orbit"]["sma"]["fit"], rel=1e-5)


def test_what_cannot_be_predicted_leaves_nothing(run: Path, tiny: RawFolder, tmp_path: Path) -> None:
    out, train = tmp_path / "out.csv", tiny.planets_on_disk("train")
    for wanted, message in ((train, f"planet {train[0]} is missing"), ([12345], "planet 12345 is missing")):
        with pytest.raises(UserError, match=rf"{message}.*Fix:"):
            predict(tiny.root, run, out, wanted)
    (tmp_path / "bare").mkdir()
    with pytest.raises(ContractError, match=r"planet folder: no planet found.*Fix:"):
        predict(tmp_path / "bare", run, out)
    with pytest.raises(ContractError, match=r"plan\.json: file: is missing.*Fix:"):
        predict(tiny.root, tmp_path / "no run", out)
    assert not out.exists()


@pytest.mark.slow
def test_a_late_failure_keeps_the_old_submission(
    run: Path, unlabelled: RawFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, planet = tmp_path / "out.csv", unlabelled.planets_on_disk("test")[0]
    out.write_text("an older submission")

    def full(table: pd.DataFrame, path: Path, **how: object) -> None:
        Path(path).write_text("planet_id,wl_1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(ContractError, match=r"out\.csv: file: can't be written \(No space left on device\)\. Fix:"):
        predict(unlabelled.root, run, out, [planet])
    assert out.read_text() == "an older submission"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.work"]


@pytest.mark.slow
def test_a_prediction_that_was_cut_goes_on(
    run: Path, unlabelled: RawFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = unlabelled.planets_on_disk("test")
    raw, out, begun = tmp_path / "raw", tmp_path / "out.csv", []
    shutil.copytree(unlabelled.root, raw, copy_function=os.link)
    extract = predict_planets.extract_planet

    def cut(who: tuple[str, int], *words: Any) -> Any:
        if begun and who[1] not in begun and len(begun) < 2:
            begun.append(who[1])
            raise KeyboardInterrupt
        begun.append(who[1])
        return extract(who, *words)

    monkeypatch.setattr(predict_planets, "extract_planet", cut)
    with pytest.raises(KeyboardInterrupt):
        predict(raw, run, out, workers=1)
    assert begun == [first, second] and not out.exists()
    assert predict(raw, run, out, workers=1, keep=True) == {} and begun == [first, second, second]
    bytes_, whole = out.read_bytes(), read_submission(run_folder(run, "outputs") / "submission.csv")
    assert np.allclose(read_submission(out).mu, whole.mu, rtol=1e-5)
    assert predict(raw, run, out, keep=True) == {} and len(begun) == 3 and out.read_bytes() == bytes_
    (path,) = (raw / "test" / str(first)).glob("FGS1_signal_0.parquet")
    path.unlink()
    path.write_bytes(b"no parquet")
    assert "FGS1_signal_0.parquet" in predict(raw, run, out)[first]
    found = read_submission(out)
    reference = predict_planets.population(run)
    assert np.all(found.sigma[0] == reference.std) and np.array_equal(found.mu[1], read_submission(out).mu[1])
    assert len(begun) == 3 and out.with_suffix(".work").is_dir(), "what is done stays for the day the file is mended"


@pytest.mark.slow
def test_planets_are_divided_over_calls(
    run: Path, unlabelled: RawFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, out = tmp_path / "fits", tmp_path / "submission.csv"
    for planet in unlabelled.planets_on_disk("test"):
        predict(unlabelled.root, run, tmp_path / f"{planet}.csv", [planet], work_dir=work, keep=True)
        assert read_submission(tmp_path / f"{planet}.csv").planet_id.tolist() == [planet]
    monkeypatch.setattr(predict_planets, "extract_planet", lambda *words: pytest.fail("a planet is done again"))
    assert predict(unlabelled.root, run, out, work_dir=work) == {} and not work.exists()
    found, whole = read_submission(out), read_submission(run_folder(run, "outputs") / "submission.csv")
    assert np.array_equal(found.planet_id, whole.planet_id) and np.allclose(found.mu, whole.mu, rtol=1e-5)
    assert predict_planets.runtime_line(out).startswith("from 2 predicted, starting included: at most ")


def test_when_time_runs_out_every_planet_has_a_row(run: Path, unlabelled: RawFolder, tmp_path: Path) -> None:
    out, planets = tmp_path / "outputs/out.csv", unlabelled.planets_on_disk("test")
    words = ("predict", "--raw", str(unlabelled.root), "--run", str(run), "--out-csv", str(out), "--budget-hours", "0")
    result = CliRunner().invoke(cli.app, [*words], prog_name="spectramind")
    assert result.exit_code == 3, result.output
    log = (run.parent / "v50_debug_log.md").read_text()
    assert all(f"left out: planet {planet}: was not reached in time. Fix:" in log for planet in planets)
    found, reference = read_submission(out), predict_planets.population(run)
    assert found.planet_id.tolist() == planets and np.all(found.mu == reference.mean)
    assert np.all(found.sigma == reference.std)
    report = json.loads(out.with_name("integrity.json").read_text())
    assert [record["planet"] for record in report] == planets
    assert all(record["failed"].startswith("was not reached in time") for record in report)


def test_a_planet_that_spoils_its_batch_does_not_stop_the_others(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = read_plan(run)[0]["test"]
    shutil.copytree(run / "02_transit", tmp_path / "02_transit")
    plain = predict_planets.predict_fits

    def spoilt(fits: Any, *words: Any) -> Any:
        found = plain(fits, *words)
        found.mu["neural"][fits.planet == bad] = np.nan
        return found

    monkeypatch.setattr(predict_planets, "predict_fits", spoilt)
    found, failures = predict_planets.predict_some([good, bad], tmp_path, run, 64)
    assert [one.planet.tolist() for one in found] == [[good]]
    assert [one.planet for one in failures] == [bad] and "not finite. Fix: check" in failures[0].problem


def test_a_few_megabytes_of_a_run_predict_the_same(run: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"plan\.json: file: is missing.*Fix:"):
        copy_learned(tmp_path / "nothing", tmp_path / "copy")
    copy_learned(run, tmp_path / "copy")
    assert sum(path.stat().st_size for path in (tmp_path / "copy").rglob("*") if path.is_file()) < 5e6
    fits = read_fits(run, read_plan(run)[0]["test"])
    runs = (run, tmp_path / "copy")
    both = [write_prediction(tmp_path / "a.csv", predict_fits(fits, one), one, "challenge") for one in runs]
    assert all(np.array_equal(both[0].sigma[name], both[1].sigma[name]) for name in both[0].sigma)
