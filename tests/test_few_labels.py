"""Runs with few labels or none: folds, labels without frames, and the package's own weights."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_chain import spectramind
from hypothesis import given
from hypothesis import strategies as st
from test_predict import write_fitted_run

from spectramind_nb.chapters.features import group_folds
from spectramind_nb.chapters.training import train_run
from spectramind_nb.core.contracts import WAVELENGTH_COLUMNS, read_submission
from spectramind_nb.core.errors import ContractError
from spectramind_nb.core.files import network_file, run_folder, write_json
from spectramind_nb.detector.extraction import Recipe
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.network.weights import read_network
from spectramind_nb.pipeline.frame_counts import frames_note, median_pairs, use_package_factors
from spectramind_nb.pipeline.learned import read_learned, read_out_of_fold
from spectramind_nb.pipeline.predictors import (
    adapted_folds,
    further_spectra,
    out_of_fold_predictions,
    planets_needed,
    read_fits,
)
from spectramind_nb.pipeline.sigma_calibration import calibrate_sigmas, read_sigma_calibration
from spectramind_nb.prior.learning import MIN_SPECTRA
from spectramind_nb.prior.spectral_prior import read_prior
from spectramind_nb.transits.fit_priors import FitOptions
from spectramind_nb.uncertainty.calibration import CalibOptions


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of 16 labelled planets, fitted, and its raw tables. Never to be changed."""
    home = tmp_path_factory.mktemp("fitted")
    write_fitted_run(home / "run", home / "raw")
    return home


@pytest.fixture
def home(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "home"))


def change_labels(home: Path, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    """Change the labels; None removes the file."""
    path = home / "raw/train.csv"
    changed = change(pd.read_csv(path))
    path.unlink()
    if changed is not None:
        changed.to_csv(path, index=False)


def train(home: Path, network: str = "") -> dict:
    """Run stage 06; what it tells of the labels."""
    train_run(home / "run", home / "raw", "", 3, 0.02, network)
    return json.loads((run_folder(home / "run", "outputs/checkpoints") / "labels.json").read_text())


@given(count=st.integers(1, 60), folds=st.integers(2, 9), further=st.integers(0, 20), seed=st.integers(0, 5))
def test_every_fold_leaves_enough_to_learn_from(count: int, folds: int, further: int, seed: int) -> None:
    drawn = np.array([*group_folds(range(count), folds, seed).values()])
    adapted = adapted_folds(drawn, further)
    if count < planets_needed(further):
        assert adapted is None
        return
    assert adapted is not None and len(adapted) == count and len(np.unique(adapted)) > 1
    assert count - np.bincount(adapted).max() + further >= MIN_SPECTRA
    if count - np.bincount(drawn).max() >= planets_needed(further) - 1:
        assert np.array_equal(adapted, drawn)


@pytest.mark.parametrize(("count", "folds"), [(12, 6), (11, 11)])
def test_folds_adapt_to_the_number_of_labelled_planets(home: Path, count: int, folds: int) -> None:
    change_labels(home, lambda table: table.iloc[:count])
    planets = pd.read_csv(home / "raw/train.csv")["planet_id"].tolist()
    path = run_folder(home / "run", "data/splits") / "groupkfold.json"
    write_json(path, {"fold_of_planet": group_folds(planets, 5, 0)})
    told = train(home)
    assert (told["planets"], told["folds"]) == (count, folds)
    assert f"{count} labelled planets: {folds} folds" in told["notes"][0]
    found = read_out_of_fold(home / "run")
    assert found is not None and len(found.planet) == count and len(np.unique(found.fold)) == folds
    assert calibrate_sigmas(home / "run", "", CalibOptions())["planets"] == count


STAR_ROWS = pd.DataFrame({"planet_id": [1], "Rs": 1.0, "Ms": 1.0, "Ts": 5800.0, "Mp": 1.0, "e": 0.0, "P": 4.0})
FEW: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame | None], str]] = {
    "no train.csv": (lambda table: None, "no planet has frames and a label: "),
    "a header without rows": (lambda table: table[:0], "no planet has frames and a label: "),
    "rows of stars": (lambda table: STAR_ROWS.assign(sma=8.0, i=89.0), "no planet has frames and a label: "),
    "one labelled planet": (
        lambda table: table.iloc[:1],
        "1 labelled planet is too few to learn from, which takes 11: ",
    ),
    "ten": (lambda table: table[:10], "10 labelled planets are too few to learn from, which takes 11: "),
}


@pytest.mark.parametrize("case", FEW)
def test_too_few_labels_leave_the_packages_own(home: Path, case: str) -> None:
    change, said = FEW[case]
    change_labels(home, change)
    told = train(home, "laptop")
    assert told["notes"] == [f"{said}prior, network and error-bar factors are the package's own"]
    assert read_learned(home / "run").weights == "laptop" and read_out_of_fold(home / "run") is None
    assert calibrate_sigmas(home / "run", "", CalibOptions())["tau"] == {"gaussian": 1.0, "neural": 1.0}


def test_labels_without_frames_join_the_prior(home: Path) -> None:
    raw, run = home / "raw", home / "run"
    change_labels(home, lambda table: table)
    table = pd.read_csv(raw / "train.csv")
    first, last = table.iloc[:6], table.iloc[6:]  # the first have frames
    plan = run / "00_calibration/artifacts/plan.json"
    record = json.loads(plan.read_text())
    write_json(plan, record | {"planets": {"train": first["planet_id"].tolist(), "test": []}})
    for planet in first["planet_id"]:
        (raw / "train" / str(planet)).mkdir(parents=True)
    (raw / "test" / str(last["planet_id"].iloc[0])).mkdir(parents=True)  # whose label would be the answer
    told = train(home)
    assert (told["planets"], told["further"]) == (6, 9)
    assert "9 labelled spectra without frames join the prior" in told["notes"]
    learned_from = pd.concat([first, last.iloc[1:]])[list(WAVELENGTH_COLUMNS)[1:]].to_numpy().mean()
    prior = read_prior(run_folder(run, "outputs/checkpoints") / "spectral_prior.npz")
    assert prior.mean_depth == pytest.approx(learned_from, rel=1e-9)


def test_a_label_does_not_reach_its_own_prediction_beside_further_spectra(home: Path) -> None:
    table = pd.read_csv(home / "raw/train.csv")
    planets, truth = table["planet_id"].tolist()[:8], table[list(WAVELENGTH_COLUMNS)].to_numpy()
    for planet in planets:
        (home / "raw/train" / str(planet)).mkdir(parents=True)
    further = further_spectra(RawFolder(home / "raw"))
    assert np.array_equal(further.truth, truth[8:])
    fits, folds = read_fits(home / "run", planets), np.arange(8) % 4
    before = out_of_fold_predictions(fits, truth[:8], folds, 3, further).mu
    spoilt = truth[:8].copy()
    spoilt[folds == 2] *= 1.5
    after = out_of_fold_predictions(fits, spoilt, folds, 3, further).mu
    assert np.array_equal(before[folds == 2], after[folds == 2])
    assert not np.allclose(before[folds == 1], after[folds == 1], rtol=1e-6)


def test_invalid_labels_without_frames_are_left_out_and_named(home: Path) -> None:
    table = pd.read_csv(home / "raw/train.csv")
    foreign = table.iloc[:2].assign(planet_id=[90001, 90002])
    foreign[list(WAVELENGTH_COLUMNS)] *= 1e6  # ppm
    pd.concat([table, foreign]).to_csv(home / "raw/train.csv", index=False)
    told = train(home)
    assert told["further"] == 0 and told["planets"] == 16
    assert "2 labelled spectra without frames are left out" in told["notes"][0] and "ppm" in told["notes"][0]


@pytest.mark.slow
def test_a_run_without_labels_comes_to_a_submission(tiny: RawFolder, tmp_path: Path) -> None:
    raw, run = tmp_path / "raw", tmp_path / "run"
    shutil.copytree(tiny.root, raw, copy_function=os.link)
    labels = pd.read_csv(raw / "train.csv")
    (raw / "train.csv").unlink()
    labels.iloc[:0].to_csv(raw / "train.csv", index=False)
    words = ["run", "--raw", str(raw), "--run-dir", str(run), "diag.skip_heavy_diag=true"]
    done = spectramind(*words)
    assert done.exit_code == 0, done.output
    assert "no planet has frames and a label: prior, network and error-bar factors are the package's own" in done.output
    submission = run_folder(run, "outputs") / "submission.csv"
    assert len(read_submission(submission).mu) == 2
    for change, said in ((labels, "1 labelled planet is too few"), (None, "no planet has frames and a label")):
        (raw / "train.csv").unlink()
        if change is not None:
            change.to_csv(raw / "train.csv", index=False)
        done = spectramind(*words, "--from", "04_decoders")
        assert done.exit_code == 0 and said in done.output, done.output
        assert len(read_submission(submission).mu) == 2


@pytest.fixture(scope="module")
def trained(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned, as far as a prediction needs it."""
    run = tmp_path_factory.mktemp("trained") / "run"
    shutil.copytree(fitted / "run", run)
    train_run(run, fitted / "raw", "", 3, 0.02, "laptop", "neural")
    calibrate_sigmas(run, "", CalibOptions())
    write_json(run_folder(run, "data/splits") / "groupkfold.json", {"recipe": asdict(Recipe()), "fold_of_planet": {}})
    write_json(run / "02_transit/artifacts/options.json", asdict(FitOptions()))
    return run


def learned_from(run: Path, pairs: dict[str, float]) -> Path:
    """Let a run have learned from visits of so many pairs; its record."""
    path = run_folder(run, "outputs/checkpoints") / "predictors.json"
    write_json(path, json.loads(path.read_text()) | {"pairs": pairs})
    return path


def test_factors_are_the_packages_where_frames_differ(trained: Path, tiny: RawFolder, tmp_path: Path) -> None:
    run, planets = Path(shutil.copytree(trained, tmp_path / "run")), tiny.planets_on_disk("test")
    assert [median_pairs(tiny, planets, name) for name in ("FGS1", "AIRS-CH0")] == [500, 125]
    for ratio, differs in ((1.0, False), (1.2, False), (0.8, False), (0.1, True), (6.0, True)):
        path = learned_from(run, {"FGS1": 500 * ratio, "AIRS-CH0": 125 * ratio})
        assert ("FGS1: visits have 500 pairs of reads" in frames_note(run, tiny, planets)) == differs
    use_package_factors(run)
    shipped = json.loads(read_network(network_file("laptop")).about["factors"])
    assert json.loads(path.read_text())["factors"] == shipped
    assert read_sigma_calibration(run, "neural").tau == 1.0 and read_out_of_fold(run) is not None
    assert frames_note(run, tiny, planets) == ""


@pytest.mark.slow
def test_predict_says_that_frames_differ(trained: Path, tiny: RawFolder, tmp_path: Path) -> None:
    run, out = Path(shutil.copytree(trained, tmp_path / "run")), tmp_path / "out.csv"
    learned_from(run, {"FGS1": 67500.0})
    done = spectramind("predict", "--raw", str(tiny.root), "--run", str(run), "--out-csv", str(out))
    assert done.exit_code == 0 and "warning: FGS1: visits have 500 pairs" in done.output, done.output
    shipped = json.loads(read_network(network_file("laptop")).about["factors"])
    record = run_folder(out.with_suffix(".learned"), "outputs/checkpoints") / "predictors.json"
    assert json.loads(record.read_text())["factors"] == shipped


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda depths: np.roll(depths, 1, axis=0), "as if planet_id were shuffled"),
        (lambda depths: np.hstack([depths[:, :1], depths[:, :0:-1]]), "wl_2 to wl_283 run backwards"),
    ],
    ids=["shuffled", "backwards"],
)
def test_labels_that_contradict_the_fits_are_refused(
    spoil: Callable[[np.ndarray], np.ndarray], said: str, tmp_path: Path
) -> None:
    run, raw = tmp_path / "run", tmp_path / "raw"
    write_fitted_run(run, raw)
    labels = pd.read_csv(raw / "train.csv", index_col="planet_id")
    pd.DataFrame(spoil(labels.to_numpy()), labels.index, labels.columns).to_csv(raw / "train.csv")
    with pytest.raises(ContractError, match=rf"train\.csv: labels: .*{said}.*Fix: give each planet its own row"):
        train_run(run, raw, "", 3, 0.02, network="")
    assert not [*(run / "06_training").rglob("*")]
