"""What to expect and what a setting is worth: intervals that hold, and an ablation that reuses, resumes and goes on."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fake_chain import spectramind, write_raw, write_stage

from spectramind_nb.cli.experiments import choices, plan, touched, variants
from spectramind_nb.core.errors import ContractError
from spectramind_nb.core.files import run_folder, write_json
from spectramind_nb.core.metric import reference_of, score
from spectramind_nb.operations.expected_score import (
    Judged,
    difference,
    expectation,
    interval,
    leaderboards,
    score_out_of_fold,
)
from spectramind_nb.pipeline import stages
from spectramind_nb.pipeline.chain import run_chain
from spectramind_nb.pipeline.config import ConfigError, compose
from spectramind_nb.pipeline.learned import OutOfFold, write_out_of_fold
from spectramind_nb.uncertainty.calibration import CalibOptions

PLANETS = 30


def out_of_fold(count: int, spread: float, stated: float = 1e-4, seed: int = 0) -> OutOfFold:
    """Planets whose errors have a standard deviation `spread` ((Rp/Rs)^2), where the predictor says `stated`."""
    rng = np.random.default_rng(seed)
    truth = 0.0147 + 0.005 * rng.standard_normal((count, 1)) + 1e-5 * rng.standard_normal((count, 283))
    mu = {"gaussian": truth + spread * rng.standard_normal((count, 283))}
    parts = ({"gaussian": np.full((count, 283), stated)}, {"gaussian": np.zeros(count)})
    return OutOfFold(np.arange(count), (np.arange(count) % 5).astype(np.int8), truth, mu, *parts)


def scores(rng: np.random.Generator, count: int) -> np.ndarray:
    """Scores of planets with a long tail of bad ones."""
    return 0.7 - rng.exponential(0.12, count)


@pytest.mark.parametrize(("known", "hidden"), [(20, 1100), (40, 1100), (300, 50)])
@pytest.mark.slow
def test_nine_of_ten_leaderboards_are_inside(known: int, hidden: int) -> None:
    rng, inside = np.random.default_rng(3), []
    for _ in range(300):
        low, high = interval(leaderboards(scores(rng, known), hidden, 300), known)
        inside.append(low <= scores(rng, hidden).mean() <= high)
    assert 0.85 <= np.mean(inside) <= 0.95


def test_the_interval_knows_both_draws() -> None:
    judged = Judged("neural", np.arange(200), {"all": scores(np.random.default_rng(0), 200)})
    few, many = (expectation(judged, hidden) for hidden in (10, 10_000))
    assert np.ptp(few.interval) > 3 * np.ptp(many.interval)
    assert np.ptp(many.interval) == pytest.approx(2 * 1.645 * many.known_std, rel=0.1)
    assert judged.scores["all"][few.worst].max() <= np.sort(judged.scores["all"])[9]


def test_nothing_is_judged_on_what_it_was_fitted_to() -> None:
    """Stated error bars are half of the true ones: calibration mends that, out of fold."""
    found = out_of_fold(200, 2e-4)
    judged = score_out_of_fold(found, "gaussian", CalibOptions(corel=False))
    ideal = score(found.truth, found.mu["gaussian"], np.full((200, 283), 2e-4), reference_of(found.truth))
    assert ideal - 0.01 < judged.scores["all"].mean() < ideal
    before = score(found.truth, found.mu["gaussian"], found.sigma["gaussian"], reference_of(found.truth))
    assert judged.scores["all"].mean() > before + 0.05
    assert judged.scores["all"].mean() == pytest.approx(
        0.17 * judged.scores["fgs1"].mean() + 0.83 * judged.scores["airs"].mean(), abs=1e-3
    )


def test_pairs_tell_more_than_scores() -> None:
    rng = np.random.default_rng(1)
    base = Judged("a", np.arange(40), {"all": scores(rng, 40)})
    gain = Judged("b", np.arange(10, 60), {"all": np.append(base.scores["all"][10:], scores(rng, 20)) + 0.01})
    found = difference(gain, base)
    assert found.planets == 30 and found.interval == pytest.approx((0.01, 0.01)) and found.mean == pytest.approx(0.01)
    with pytest.raises(ContractError, match="1 in common"):
        difference(gain, Judged("c", np.array([59]), base.scores))


def test_a_grid_is_written_as_hydra_writes_sweeps() -> None:
    assert choices("training.phases=[mae,supervised],[mae]") == [
        "training.phases=[mae,supervised]",
        "training.phases=[mae]",
    ]
    assert variants(["training.λ_factors=0.1,0.2", "seed=1,2"], ["a=1 b='2 3'"]) == [
        ["training.λ_factors=0.1", "seed=1"],
        ["training.λ_factors=0.1", "seed=2"],
        ["training.λ_factors=0.2", "seed=1"],
        ["training.λ_factors=0.2", "seed=2"],
        ["a=1", "b=2 3"],
    ]


@pytest.mark.slow
def test_an_override_touches_its_section() -> None:
    assert touched(["loss=default"], "demo").keys() >= {"loss.λ_sm", "loss.λ_qm"}  # though they are the default's
    assert {key.split(".")[0] for key in touched(["train=finetune"], "demo")} == {"train"}
    assert touched(["seed=1"], "demo") == {"seed": 1}
    for words in (["simulate.planets=3"], ["profile=laptop"], ["data.raw=x"], ["~calib.temp"], ["+training.more=1"]):
        with pytest.raises(ConfigError, match=r"vary|unknown key"):
            touched(words, "demo")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A finished run of two small notebooks: what 06 leaves depends on its rank, and rank 13 fails."""
    home = tmp_path_factory.mktemp("house")
    for rank, spread in ((8, 2e-4), (4, 3e-4)):
        write_out_of_fold(home / f"{rank}", out_of_fold(PLANETS, spread))
        write_json(
            run_folder(home / f"{rank}", "outputs/checkpoints") / "predictors.json",
            {"chosen": "gaussian", "factors": {"gaussian": {}}},
        )
    source, target = f"f'{home}/{{rank}}/06_training'", "Path(run_dir) / '06_training'"
    copy = f"import shutil\nshutil.copytree({source}, {target}, dirs_exist_ok=True)"
    write_stage(home / "nbs", "06_training", copy)
    write_stage(home / "nbs", "07_uncertainty")
    write_raw(home / "raw")
    run_chain(compose([f"data.raw='{home / 'raw'}'"]), home / "run", notebooks=home / "nbs")
    return SimpleNamespace(home=home, run=home / "run")


def test_a_variant_has_the_runs_settings_but_for_its_own(house: SimpleNamespace) -> None:
    """Sections that chapter 06 is told of follow `train` and `model`, though the run saved them as they were."""
    base, fresh = plan(house.run, [["train=finetune", "model.fusion.type=gated"]])
    assert base.cfg.training.train.start == base.cfg.train.start != fresh.cfg.train.start
    assert fresh.cfg.training.train.start == fresh.cfg.train.start
    assert fresh.cfg.training.model.fusion.type == "gated" and fresh.cfg.transit == base.cfg.transit


def test_expect_says_it_in_a_line(house: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = spectramind("estimate-score", str(house.run), "--planets", "500")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("expected score .") and f"(from {PLANETS} planets out of fold)" in result.stdout
    assert "test planets unlike the training planets" in result.stdout and "simulated" not in result.stdout
    found = json.loads(spectramind("estimate-score", str(house.run), "--json").stdout)
    assert found["interval"][0] < found["score"] < found["interval"][1] and found["test_planets"] == 1100
    bare = Path(shutil.copytree(house.run, tmp_path / "bare"))
    for path in bare.rglob("out_of_fold.npz"):
        path.unlink()
    refused = spectramind("estimate-score", str(bare))
    assert refused.exit_code == 2 and "labels: are missing" in refused.stderr and "Fix: " in refused.stderr


@pytest.mark.slow
def test_ablate_reuses_goes_on_and_resumes(house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(house.home)
    monkeypatch.setattr(stages, "notebooks_folder", lambda: house.home / "nbs")
    before = {path: path.read_bytes() for path in house.run.rglob("*") if path.is_file() and path.name != ".lock"}
    words = (
        "ablate",
        "--run",
        "run",
        "training.rank=4,13",
        "--list",
        "calib.temp.enabled=false calib.corel.enabled=false",
    )
    result = spectramind(*words)
    assert result.exit_code == 3, result.output
    assert "left out: training.rank=13: FileNotFoundError" in result.stderr and "Traceback" not in result.output
    table = pd.read_csv(house.home / "run-ablate/ablation.csv").set_index("variant")
    assert list(table.index) == [
        "base",
        "training.rank=4",
        "training.rank=13",
        "calib.temp.enabled=false calib.corel.enabled=false",
    ]
    worse = table.loc["training.rank=4"]
    assert worse["high"] < 0 and worse["low"] < worse["difference"] == pytest.approx(
        worse["score"] - table.loc["base", "score"]
    )
    assert table["problem"].notna().tolist() == [False, False, True, False]
    assert result.stdout.count("run  06_training") == 2 and result.stdout.count("run  07_uncertainty") == 2
    assert result.stdout.count("skip 06_training") == 2  # the base's, and where only calib changed
    assert before == {path: path.read_bytes() for path in before}
    again = spectramind(*words)
    assert again.exit_code == 3 and again.stdout.count("run  06_training") == 1  # what failed is tried again
    assert pd.read_csv(house.home / "run-ablate/ablation.csv").set_index("variant").equals(table)


@pytest.mark.slow
def test_an_ablation_that_can_not_be_is_refused_before_it_runs(
    house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(house.home)
    for words, said in (
        (("training.rank=8",), "nothing differs from the run"),
        (("training.rnk=4,8",), "did you mean 'training.rank'"),
        (("simulate.planets=4",), "changes the planets"),
        (("--run", "nowhere", "training.rank=4"), "name the folder of a run"),
    ):
        result = spectramind("ablate", *(() if "--run" in words else ("--run", "run")), *words)
        assert result.exit_code == 2 and said in result.stderr, result.output
