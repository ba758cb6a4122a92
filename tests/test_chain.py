"""The chain: what runs, what is skipped, what is refused before it runs, and how failure reads."""

import errno
import json
import os
import re
import shutil
import sys
import time
import types
from pathlib import Path

import pytest
from fake_chain import write_raw, write_stage
from omegaconf import DictConfig, OmegaConf

from spectramind_nb.core.errors import ContractError, UserError
from spectramind_nb.core.progress import PROGRESS_FILE, Show
from spectramind_nb.pipeline import chain
from spectramind_nb.pipeline.chain import StageError, ensure_upstream, run_chain, run_lock
from spectramind_nb.pipeline.config import ConfigError, compose, profiles
from spectramind_nb.pipeline.raw_data import prepare_raw
from spectramind_nb.pipeline.stages import (
    declared_parameters,
    find_stages,
    stage_inputs,
    stage_parameters,
    stage_work,
    why_run,
)

STAGES = ("00_calibration", "01_features")
WORK = ("parameters", "notebook", "code", "versions", "inputs", "package")
FAULT = """#| hide
from spectramind_nb.core.errors import ContractError
raise ContractError('a.csv', 'Rs', 'is NaN', 'mend it')"""
LOOP = """import time
from spectramind_nb.core.progress import progress
for k in progress(range(4), label='planets'):
    time.sleep(0.3)"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two notebooks, a raw folder, and a finished run of them."""
    home = tmp_path_factory.mktemp("house")
    write_stage(home / "nbs", STAGES[0], common=("run_dir", "raw_dir"))
    write_stage(home / "nbs", STAGES[1])
    write_raw(home / "raw")
    run_chain(settings(home), home / "run", notebooks=home / "nbs")
    return home


@pytest.fixture
def copy(house: Path, tmp_path: Path) -> Path:
    """The house, to be spoiled."""
    return Path(shutil.copytree(house, tmp_path / "house", copy_function=shutil.copy2))


KNOWN = """import json, os, sys
ours = [name for name in sys.modules if name.startswith("spectramind_nb.")]
told = [os.getcwd() == str(Path(run_dir) / "00_calibration"), "torch" in sys.modules, ours]
(Path(run_dir) / "told.json").write_text(json.dumps(told))"""


def settings(home: Path, *overrides: str) -> DictConfig:
    return compose([f"data.raw='{home / 'raw'}'", *overrides])


def reasons(home: Path, *overrides: str, **options: object) -> list[str]:
    return [done.why for done in run_chain(settings(home, *overrides), home / "run", notebooks=home / "nbs", **options)]  # type: ignore[arg-type]


def test_a_manifest_says_what_made_the_artifacts(house: Path) -> None:
    manifest = json.loads((house / "run/01_features/manifest.json").read_text())
    assert (
        manifest["status"] == "ok"
        and manifest["parameters"]["folds"] == 5
        and list(manifest["inputs"]) == ["00_calibration"]
    )
    assert manifest["artifacts"]["artifacts/sum.txt"]["bytes"] == len(
        (house / "run/01_features/artifacts/sum.txt").read_text()
    )
    assert {"notebook", "code", "package", "git_sha", "cfg_hash", "seed", "device", "libraries"} <= set(manifest)
    assert manifest["simulated_by"] == {}  # this run has no raw data
    assert {"started", "finished", "duration_s", "peak_bytes"} <= set(manifest)
    assert manifest["peak_bytes"] > 10e6 or not Path("/proc").is_dir()
    assert json.loads((house / "run/run_hash_summary_v50.json").read_text())["artifacts"].keys() == set(STAGES)
    assert sorted(path.name for path in (house / "run/01_features").iterdir()) == [
        "artifacts",
        "manifest.json",
        "notebook.ipynb",
    ]
    assert str(house) not in json.dumps(json.loads((house / "run/01_features/notebook.ipynb").read_text())["metadata"])


def test_nothing_changed_nothing_runs(copy: Path) -> None:
    assert reasons(copy, "chain.workers=1") == ["", ""]  # and neither a new folder nor a worker count is a change


@pytest.mark.slow
def test_a_change_runs_what_depends_on_it(copy: Path) -> None:
    assert reasons(copy, "features.folds=4") == ["", "parameters changed (folds)"]
    (copy / "run/00_calibration/artifacts/sum.txt").write_text("damaged")
    assert reasons(copy, "features.folds=4") == [
        "artifacts/sum.txt is missing or damaged",
        "",
    ]  # the same bytes come out again
    os.utime(copy / "raw/test/7/FGS1_signal_0.parquet", (1, 1))
    assert reasons(copy, "features.folds=4") == ["inputs changed (raw)", ""]
    write_stage(copy / "nbs", STAGES[1], "more = 1")
    assert reasons(copy, "features.folds=4") == ["", "notebook changed"]


def test_prose_and_outputs_are_no_change(copy: Path) -> None:
    path = copy / "nbs/01_features.ipynb"
    book = json.loads(path.read_text())
    book["cells"].insert(0, {"cell_type": "markdown", "id": "m", "metadata": {}, "source": "# Why"})
    path.write_text(json.dumps(book))
    assert reasons(copy) == ["", ""]


def test_from_to_force(copy: Path) -> None:
    assert reasons(copy, first="01", force=True) == ["forced"]
    assert reasons(copy, last="calibration") == [""]
    with pytest.raises(ConfigError, match="comes before"):
        reasons(copy, first="01", last="00")
    with pytest.raises(ConfigError, match=r"did you mean '01_features'\?"):
        reasons(copy, first="featurs")
    shutil.rmtree(copy / "run/00_calibration/artifacts")
    with pytest.raises(UserError, match=r"artifacts of the stage are gone\. Fix: spectramind diagnose prepare --run"):
        reasons(copy, first="01")
    (copy / "run/00_calibration/manifest.json").unlink()
    with pytest.raises(UserError, match="--from 00_calibration"):
        reasons(copy, first="01")


def test_a_run_keeps_the_raw_data_it_was_made_of(copy: Path) -> None:
    with pytest.raises(UserError, match=r"was made of the raw data in .*raw\. Fix: repeat --raw"):
        run_chain(compose(), copy / "run", notebooks=copy / "nbs")
    shutil.rmtree(copy / "raw")
    (copy / "run/raw").mkdir()
    (copy / "run/config.yaml").write_text("data: {raw: ''}")
    marker = copy / "run/simulation.json"
    marker.write_text("{}")
    with pytest.raises(UserError, match=r"simulated with other settings\. Fix: repeat the --profile"):
        run_chain(compose(), copy / "run", notebooks=copy / "nbs", first="01")
    assert marker.read_text() == "{}" and (copy / "run/raw").is_dir()


def test_a_setting_that_its_notebook_does_not_know_is_refused(house: Path, tmp_path: Path) -> None:
    cfg = settings(house)
    OmegaConf.update(cfg, "features.fold", 3, force_add=True)
    with pytest.raises(ConfigError, match=r"01_features.ipynb has no such parameter\. Fix: did you mean 'folds'"):
        run_chain(cfg, tmp_path / "run", notebooks=house / "nbs")


@pytest.mark.slow
def test_what_another_run_left_goes_and_what_this_one_left_stays(copy: Path) -> None:
    folder = copy / "run/01_features"
    (folder / "artifacts/old.txt").write_text("old")
    reasons(copy, "features.folds=4")
    assert not (folder / "artifacts/old.txt").exists()
    manifest = json.loads((folder / "manifest.json").read_text())
    begun = chain.digest({part: manifest[part] for part in WORK})
    (folder / "manifest.json").unlink()  # as a kill half-way leaves it
    (folder / "begun.json").write_text(json.dumps(begun))
    (folder / "artifacts/half.txt").write_text("half")
    (folder / "artifacts/.torn.npz.99.part").write_text("torn")
    assert reasons(copy, "features.folds=4") == ["", "not finished yet"]
    assert sorted(path.name for path in (folder / "artifacts").iterdir()) == ["half.txt", "sum.txt"]


@pytest.mark.parametrize(
    ("overrides", "extra", "words"),
    [
        (["+features.fold=3"], "", "features.fold: unknown key. Fix: did you mean 'features.folds'"),
        (["~features.folds"], "", "features.folds: is missing, 01_features.ipynb declares the parameter folds"),
        ([], "lost = 1", "features.lost: is missing"),
        ([], "folds = '5'", "features.folds: 5 is int, but 01_features.ipynb declares folds = '5'"),
        ([], "seed = 'x'", "seed: 1337 is int"),
        ([], "folds = 2 + three", "parameters cell's line .* is no plain assignment"),
        (["data.planets=[x]"], "", "data.planets: 'x' is no number"),
        (["data.planets=[9]"], "", "planet folder: 9 is in neither"),
        (["data.raw=nowhere"], "", "nowhere: folder: is missing"),
        (["data.weights=nowhere"], "", "holds no finished stage"),
    ],
)
def test_what_can_be_known_before_is_said_before(
    house: Path, tmp_path: Path, overrides: list[str], extra: str, words: str
) -> None:
    write_stage(tmp_path / "nbs", STAGES[0])
    write_stage(tmp_path / "nbs", STAGES[1], extra=extra)
    with pytest.raises(UserError, match=words) as caught:
        run_chain(settings(house, *overrides), tmp_path / "run", notebooks=tmp_path / "nbs")
    assert "\n" not in str(caught.value) and "Fix: " in str(caught.value)
    assert not list((tmp_path / "run").glob("*/notebook.ipynb"))


@pytest.mark.parametrize(
    ("cell", "problem", "by_user"),
    [
        (FAULT, "a.csv: Rs: is NaN. Fix: mend it", True),
        ("{}['key']", "KeyError: 'key'", False),
        ("raise SystemExit", "stopped here without an error", False),
        ("import os; os._exit(1)", "the kernel died", False),
        ("import time; time.sleep(60)", "chain.stage_timeout_s=20", True),
    ],
)
def test_a_failed_stage_says_where_and_what(
    house: Path, tmp_path: Path, cell: str, problem: str, by_user: bool
) -> None:
    write_stage(tmp_path / "nbs", STAGES[1], cell, "after = 1")
    timeout = 2 if "sleep" in cell else 120
    with pytest.raises(StageError, match=re.escape(problem)) as caught:
        run_chain(settings(house, f"chain.stage_timeout_s={timeout}"), tmp_path / "run", notebooks=tmp_path / "nbs")
    first_line = cell.splitlines()[1 if cell == FAULT else 0]
    assert caught.value.by_user == by_user and f"`{first_line}`" in caught.value.cell
    assert (tmp_path / "run/01_features/notebook.ipynb").is_file() and not (
        tmp_path / "run/01_features/manifest.json"
    ).exists()


@pytest.mark.parametrize("victim", ["spectramind_nb.pipeline.chain.write_json", "papermill.execute_notebook"])
def test_a_full_disk_is_one_clear_line(copy: Path, monkeypatch: pytest.MonkeyPatch, victim: str) -> None:
    def full(path: object, *rest: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(victim, full)
    with pytest.raises(ContractError, match=r"can't be written \(No space left on device\). Fix: "):
        reasons(copy, "features.folds=3")
    monkeypatch.undo()
    assert reasons(copy) == ["", ""]  # the result that was to be replaced is there


def files_of(folder: Path) -> dict[str, str]:
    """Every file below a folder with its text, the notebooks' and what an attempt has left apart."""
    found = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name not in ("notebook.ipynb", ".lock")
    )
    return {str(path.relative_to(folder)): path.read_text() for path in found if "unfinished" not in path.parts}


def test_a_stage_that_fails_leaves_the_run_as_it_was(copy: Path) -> None:
    before = files_of(copy / "run")
    write_stage(copy / "nbs", STAGES[0], FAULT, common=("run_dir", "raw_dir"))
    with pytest.raises(StageError, match="mend it") as caught:
        reasons(copy, "calibration.cosmic_sigma=9.0", force=True)
    assert files_of(copy / "run") == before and caught.value.kept
    assert "ContractError" in caught.value.notebook.read_text()
    write_stage(copy / "nbs", STAGES[0], common=("run_dir", "raw_dir"))
    assert reasons(copy) == ["", ""]


def test_a_stage_that_was_killed_is_as_it_was_and_goes_on_when_asked(copy: Path) -> None:
    stage = find_stages(copy / "run", copy / "nbs")[1]
    before, work = files_of(copy / "run"), {"parameters": {"folds": 4}}
    chain._prepare_folder(stage, work, keep=True)
    (stage.folder / "artifacts/half.txt").write_text("half")
    assert not (stage.folder / "manifest.json").exists()
    with run_lock(copy / "run"):
        chain.settle(copy / "run")  # it may still be at work
        assert not (stage.folder / "manifest.json").exists()
    chain.settle(copy / "run")
    assert files_of(copy / "run") == before
    chain._prepare_folder(stage, work, keep=True)
    assert [path.name for path in (stage.folder / "artifacts").iterdir()] == ["half.txt"]
    assert reasons(copy) == ["", ""] and (stage.folder / "artifacts/sum.txt").is_file()


def test_raw_data_stay_until_new_ones_are_simulated(
    house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulator: list[dict[str, object]]
) -> None:
    run = tmp_path / "run"
    prepare_raw(compose(profile="example"), run, Show())
    before = files_of(run)

    def full(out: Path, **options: object) -> None:
        write_raw(out)
        raise OSError(errno.ENOSPC, "No space left on device")

    module = sys.modules["spectramind_nb.simulator.data_sets"]
    working = module.simulate_dataset
    monkeypatch.setattr(module, "simulate_dataset", full)
    with pytest.raises(OSError, match="No space"):
        prepare_raw(compose(["simulate.planets=3"], "example"), run, Show())
    assert files_of(run) == before
    monkeypatch.setattr(module, "simulate_dataset", working)
    prepare_raw(compose(["simulate.planets=3"], "example"), run, Show())
    assert len(simulator) == 2 and files_of(run).keys() == before.keys() and files_of(run) != before


def test_an_unwritable_run_folder_is_one_clear_line(house: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a regular file")
    with pytest.raises(ContractError, match=r"can't be written .*--run-dir"):
        run_chain(settings(house), tmp_path / "file/run", notebooks=house / "nbs")


def test_one_run_at_a_time(copy: Path) -> None:
    with run_lock(copy / "run"), pytest.raises(UserError, match=f"process {os.getpid()} is running there"):
        reasons(copy)
    (copy / "run/.lock").write_text("4194304")  # what a dead process left
    assert reasons(copy) == ["", ""]


def test_a_stage_tells_its_progress(house: Path, tmp_path: Path) -> None:
    write_stage(tmp_path / "nbs", STAGES[1], LOOP)

    class Listen(Show):
        heard: list[tuple[str, int, int]] = []  # noqa: RUF012

        def inner(self, label: str, done: int, total: int) -> None:
            self.heard.append((label, done, total))

    show = Listen()
    run_chain(settings(house), tmp_path / "run", notebooks=tmp_path / "nbs", show=show)
    assert {(label, total) for label, _, total in show.heard} == {("planets", 4)} and len(
        {done for _, done, _ in show.heard}
    ) > 1


def test_weights_are_an_input(house: Path, tmp_path: Path) -> None:
    write_stage(tmp_path / "nbs", STAGES[1], common=("run_dir", "weights_dir"))
    for wanted in (["not finished yet"], [""]):
        outcomes = run_chain(
            settings(house, f"data.weights='{house / 'run'}'"), tmp_path / "run", notebooks=tmp_path / "nbs"
        )
        assert [done.why for done in outcomes] == wanted
    assert set(outcomes[0].manifest["inputs"]) == {"weights"}


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """A simulator that writes a raw folder in outline, and the calls it got."""
    calls: list[dict[str, object]] = []

    def simulate_dataset(out: Path, **options: object) -> None:
        calls.append({key: options[key] for key in ("planets", "test_planets", "seed", "frames", "ood")})
        write_raw(out)

    module = types.ModuleType("simulator")
    module.simulate_dataset = simulate_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spectramind_nb.simulator.data_sets", module)
    return calls


@pytest.mark.slow
def test_raw_data_are_simulated_once_and_again_when_asked_otherwise(
    house: Path, tmp_path: Path, simulator: list[dict[str, object]]
) -> None:
    counts = (compose(profile="example").simulate.planets, 3)
    for overrides in ([], [], ["simulate.planets=3"]):
        cfg = compose(overrides, "example")
        run_chain(cfg, tmp_path / "run", notebooks=house / "nbs", last="00", force=bool(overrides))
    assert simulator == [
        {"planets": n, "test_planets": 4, "seed": 1337, "frames": "tiny", "ood": False} for n in counts
    ]
    (tmp_path / "run/raw/test/7/FGS1_signal_0.parquet").unlink()
    run_chain(compose(["simulate.planets=3"], "example"), tmp_path / "run", notebooks=house / "nbs", last="00")
    assert len(simulator) == 3


def test_raw_files_that_were_not_simulated_here_are_left_alone(
    house: Path, tmp_path: Path, simulator: list[dict[str, object]]
) -> None:
    write_raw(tmp_path / "run/raw")
    with pytest.raises(UserError, match="not simulated here"):
        run_chain(compose(), tmp_path / "run", notebooks=house / "nbs")
    assert not simulator and (tmp_path / "run/raw/test/7").is_dir()


def test_a_reader_gets_the_chapters_before(
    house: Path, tmp_path: Path, simulator: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ensure_upstream("01_features", notebooks=house / "nbs") == Path("runs/example")
    assert (tmp_path / "runs/example/00_calibration/manifest.json").is_file() and not Path(
        "runs/example/01_features"
    ).exists()
    begun = time.monotonic()
    ensure_upstream("01_features", notebooks=house / "nbs")
    assert len(simulator) == 1 and time.monotonic() - begun < 0.5


def test_a_chapter_that_runs_in_another_folder_writes_nothing_outside(
    house: Path, simulator: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `papermill nbs/01_features.ipynb out.ipynb` does it: the default run folder is relative to `nbs`."""
    monkeypatch.chdir(house)
    with pytest.raises(UserError, match=r"leads out of .*Fix: papermill --cwd nbs, or -p run_dir runs/example"):
        ensure_upstream("01_features", "../runs/example", house / "nbs")
    assert not simulator and not (house.parent / "runs").exists()
    monkeypatch.chdir(house / "nbs")
    assert ensure_upstream("01_features", "../runs/example", house / "nbs") == Path("../runs/example")
    assert (house / "runs/example/00_calibration/manifest.json").is_file()


def test_a_reader_inside_a_chain_or_another_run_gets_nothing_made(
    copy: Path, simulator: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ensure_upstream("01_features", copy / "run", copy / "nbs") == copy / "run"
    (copy / "run/00_calibration/manifest.json").unlink()
    with pytest.raises(UserError, match="not finished"):
        ensure_upstream("01_features", copy / "run", copy / "nbs")
    monkeypatch.setenv(PROGRESS_FILE, "progress.json")
    assert ensure_upstream("01_features", copy / "run", copy / "nbs") == copy / "run"
    assert not simulator


@pytest.mark.parametrize("profile", profiles())
def test_the_real_notebooks_agree_with_the_configuration(profile: str) -> None:
    common = chain._common(compose(), Path("run"), Path("raw"))
    for stage in find_stages(Path("run")):
        assert set(stage_parameters(stage, compose(profile=profile), common)) == set(
            declared_parameters(stage.notebook)
        )


@pytest.mark.slow
def test_kaggle_fast_redoes_nothing_before_training(tmp_path: Path) -> None:
    """A finished example run, as far as its manifests go."""
    stages, fast = find_stages(tmp_path), compose(["profile=example"], files=["overrides/kaggle_fast.yaml"])
    common = chain._common(fast, tmp_path, write_raw(tmp_path / "raw"))
    why = {}
    for index, stage in enumerate(stages):
        before, now = (stage_parameters(stage, cfg, common) for cfg in (compose(["profile=example"]), fast))
        inputs = stage_inputs(stages[:index], before)
        stage.folder.mkdir()
        manifest = {"status": "ok", "artifacts": {}, **stage_work(stage, before, inputs)}
        (stage.folder / "manifest.json").write_text(json.dumps(manifest))
        why[stage.name] = why_run(stage, stage_work(stage, now, inputs))
    redone = {name: reason for name, reason in why.items() if reason}
    told = {"08_diagnostics": "skip_heavy_diag", "09_submission": "batch_predict"}
    assert redone == {name: f"parameters changed ({key})" for name, key in told.items()}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.slow
def test_where_many_kernels_come_they_know_the_libraries_but_none_of_our_own(tmp_path: Path, count: int) -> None:
    for stage in (*STAGES, "02_transit")[:count]:
        write_stage(tmp_path / "nbs", stage, *([KNOWN] if stage == STAGES[0] else []))
    write_raw(tmp_path / "raw")
    run_chain(settings(tmp_path), tmp_path / "run", notebooks=tmp_path / "nbs")
    at_home, torch_read, ours = json.loads((tmp_path / "run/told.json").read_text())
    assert at_home and torch_read == (count == 3)
    known = ("pipeline", "pipeline.warm_kernels", "core", "core.errors", "core.lifetime")
    assert {*ours} <= {f"spectramind_nb.{name}" for name in known}
