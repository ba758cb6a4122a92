"""Odd words, settings and variables: what can be read counts, the rest is refused in one line before anything runs."""

import errno
import inspect
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from fake_chain import enter_work_folder, refused, spectramind, write_raw, write_stage
from matplotlib.figure import Figure

from spectramind_nb.chapters import features
from spectramind_nb.cli import app as cli
from spectramind_nb.cli.calls import PATH_OPTIONS, THREADS, failed_lines, prepare_process
from spectramind_nb.cli.predict import _alone as alone
from spectramind_nb.core.errors import ContractError, UserError, WriteError, os_fix
from spectramind_nb.core.files import run_folder, write_json, write_serialised
from spectramind_nb.core.lifetime import WORKERS, usable_cores
from spectramind_nb.detector.extraction import Recipe
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.figures.latents import plot_map
from spectramind_nb.figures.picture import Picture
from spectramind_nb.network.fine_tuning import PHASES
from spectramind_nb.network.latents import Positions, write_latents
from spectramind_nb.pipeline.config import compose
from spectramind_nb.pipeline.earlier_results import keep_settings
from spectramind_nb.pipeline.planets import Failure, Workers, map_planets
from spectramind_nb.pipeline.ranges import ITEMS
from spectramind_nb.pipeline.stages import declared_parameters
from spectramind_nb.prior.wavelength_graph import EDGE_FEATURES, spectral_edges

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with notebooks and a raw folder."""
    return enter_work_folder(tmp_path, monkeypatch)


# Settings


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("features.annulus_px=[15,10]", "features.annulus_px: [15, 10] is no annulus"),
        ("features.annulus_px=[5]", "features.annulus_px: [5] is no annulus"),
        ("data.planets=[1,[2]]", "data.planets: [2] is no number"),
        ("diag.fft.lines_mhz=[true]", "diag.fft.lines_mhz: True is no number"),
        ("model.airs_gnn.heads=5", "model.airs_gnn.heads: 5 does not divide model.airs_gnn.d_model"),
        ("model.airs_gnn.without=[H2]", "model.airs_gnn.without: 'H2' is unknown. Fix: known are lambda, seam,"),
        ("train.phases=[]", "train.phases: [] holds no phase"),
        ("train.phases=[mea]", "train.phases: 'mea' is unknown"),
        ("data.raw='${nope}'", "Interpolation key 'nope' not found"),
        ("features.photometry='a\nb'", "features.photometry: 'a b' is unknown"),
    ],
)
def test_settings_that_cannot_be_are_one_line_before_anything_runs(home: Path, word: str, said: str) -> None:
    assert said in refused(spectramind("run", "--raw", "mine", word))
    assert not (home / "runs/mine").exists()


def test_known_items_of_lists_are_those_of_the_network() -> None:
    assert ITEMS["train.phases"] == PHASES and ITEMS["model.airs_gnn.edge_features"] == EDGE_FEATURES
    assert {*ITEMS["model.airs_gnn.without"]} == {*spectral_edges(), "molecules"}


def test_a_path_from_another_setting_is_text() -> None:
    assert compose(["data.raw='${seed}'"]).data.raw == "1337"


@pytest.mark.parametrize("text", [",", "²", "1,x"])
def test_planet_ids_that_are_none_do_not_mean_all(text: str) -> None:
    assert "is no planet id" in refused(spectramind("run", "--raw", "mine", "--planets", text))


# Variables


def test_numbers_of_threads_that_are_none_are_left_to_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict(zip(THREADS, ("0", "many", "4,2", "3"), strict=True))
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for name in ("MPLBACKEND", "MATPLOTLIBRC"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # is put back after the test
    prepare_process()
    assert {name: os.environ.get(name) for name in THREADS} == dict(zip(THREADS, (None, None, "4,2", "3"), strict=True))


@pytest.mark.parametrize("odd", ["many", "", "-3", "1e3"])
def test_a_number_of_workers_that_is_none_is_left_out(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKERS, raising=False)
    cores = usable_cores()
    monkeypatch.setenv(WORKERS, odd)
    assert usable_cores() == cores


# Faults of the machine


def test_a_full_disk_ends_the_stage_and_not_a_planet(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the run would end well without the planet, and the same command would not make it up."""
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))

    def work(who: tuple[str, int]) -> int:
        if who[1] == 2:
            write_json(home / "2.json", 1)
        return who[1]

    with pytest.raises(UserError, match=r"2\.json: file: can't be written \(No space left\). Fix: free space"):
        map_planets(work, [("test", 1), ("test", 2), ("test", 3)], Workers(1), "planets")


def test_a_shortage_while_reading_is_the_machines_and_a_lost_file_the_planets(home: Path) -> None:
    def work(who: tuple[str, int]) -> int:
        cause = OSError(who[1], os.strerror(who[1]), "a.parquet")
        if who[0] == "wrapped":
            raise ContractError("a.parquet", "file", "can't be read", "copy it again") from cause
        raise cause

    for kind in ("plain", "wrapped"):
        with pytest.raises(UserError, match=r"a\.parquet: file: can't be read|ulimit -n 4096"):
            map_planets(work, [(kind, errno.EMFILE), (kind, errno.ENOENT)], Workers(1), "planets")
    done = map_planets(lambda who: work(who) if who[1] else 0, [("test", 0), ("test", errno.EIO)], Workers(1), "")
    assert done.results == [0] and [one.planet for one in done.failures] == [errno.EIO]


def test_a_failed_planet_is_one_line() -> None:
    assert Failure("test", 7, "a\nb").problem == "a\nb"
    assert failed_lines({7: "two\nlines"}) == ["left out: planet 7: two lines"]


def test_a_planet_whose_files_a_crash_emptied_is_extracted_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its note, which can't be read, makes it fail in every later run."""
    for name, value in (("extract_planet", ["again"]), ("read_ahead", None), ("signal_paths", [])):
        monkeypatch.setattr(features, name, lambda *_, value=value: value)
    note, files = home / "log_7.json", [home / f"{kind}_7.npz" for kind in ("fgs1_white", "airs_bins")]

    def extracted() -> list[Any]:
        return features.extract_once(("test", 7), RawFolder(home), home, Recipe(), "work", {})

    for path in files:
        path.write_bytes(b"arrays")
    note.write_text(json.dumps({"work": "work", "log": ["before"]}))
    assert extracted() == ["before"]
    for path, content in ((note, b"\0" * 9), (note, b""), (note, b"[]"), (files[0], b"")):
        note.write_text(json.dumps({"work": "work", "log": ["before"]}))
        path.write_bytes(content)
        assert extracted() == ["again"]
        files[0].write_bytes(b"arrays")


# Folders, files and paths


def path_options() -> set[str]:
    """All options of all commands that take a path."""
    found: set[str] = set()

    def walk(app: typer.Typer) -> None:
        for command in app.registered_commands:
            for parameter in inspect.signature(command.callback, eval_str=True).parameters.values():  # type: ignore[arg-type]
                if "Path" in str(parameter.annotation):
                    for about in getattr(parameter.annotation, "__metadata__", ()):
                        found.update(name for name in getattr(about, "param_decls", None) or () if "-" in name)
        for group in app.registered_groups:
            walk(group.typer_instance)  # type: ignore[arg-type]

    walk(cli.app)
    return found


def test_an_empty_path_is_refused_and_not_this_folder(home: Path) -> None:
    """So an unset variable of a script, `--run-dir "$RUN"`, does not put a run among the user's files."""
    before = sorted(home.rglob("*"))
    assert path_options() <= PATH_OPTIONS
    for words in (["--run-dir", ""], ["--run-dir="], ["--raw", "mine", "--run-dir", ""], ["-c", ""]):
        done = spectramind("run", *words)
        assert done.exit_code == 2 and "the path is empty" in done.stderr
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    "words",
    [
        ["--raw", "nowhere"],
        ["--raw", "mine", "--weights", "no"],
        ["--raw", "mine", "--planets", "99"],
        ["--raw", "mine", "--network", "n"],
    ],
)
def test_a_refused_run_leaves_no_folder(home: Path, words: list[str]) -> None:
    refused(spectramind("run", *words, "--run-dir", "runs/new"))
    assert not (home / "runs/new").exists()
    (home / "old").mkdir()
    refused(spectramind("run", *words, "--run-dir", "old"))
    assert (home / "old").is_dir()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("validate", "d"), "d: file: is a folder, not a file"),
        (("restamp", "d"), "d: file: is a folder, not a file"),
        (("export", "--network", "d"), "d: file: is a folder, not a file"),
        (("fit", "--light-curves", "d"), "d: file: is a folder, not a file"),
        (("run", "--raw", "f"), "f: folder: is a file, not a folder"),
        (("predict", "--run", "f"), "f: folder: is a file, not a folder"),
        (("validate", "l"), "l: file: is a link to nothing"),
        (("validate", "/dev/null"), "/dev/null: file: is no regular file"),
        (("worlds", "draw", "--out", "f/w.yaml"), "f/w.yaml: file: can't be written"),
    ],
)
def test_a_path_to_another_thing_is_named_as_what_it_is(home: Path, words: tuple[str, ...], said: str) -> None:
    (home / "d").mkdir()
    (home / "f").write_text("x")
    (home / "l").symlink_to("nothing")
    assert said in refused(spectramind(*words))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"features:\n\tfolds: 3\n", r"c.yaml: can't be read (line 2: found character '\t' that cannot start"),
        (b"features: {folds: 3}\nfeatures: {folds: 4}\n", "c.yaml: can't be read (line 2: found duplicate key"),
        ("features: {folds: 3}".encode("utf-16"), "c.yaml: can't be read ('utf-8' codec"),
        (b"data: {raw: '${nope}'}\n", "c.yaml: Interpolation key 'nope' not found"),
        (b"seed: 1\n---\nseed: 2\n", "c.yaml: can't be read (line 2: but found another document"),
    ],
)
def test_a_file_of_settings_that_cannot_be_read_says_where(home: Path, text: bytes, said: str) -> None:
    (home / "c.yaml").write_bytes(text)
    assert said in refused(spectramind("config", "show", "-c", "c.yaml"))


@pytest.mark.parametrize("text", [b"\xef\xbb\xbffeatures:\n  folds: 3\n", b"features:\r\n  folds: 3\r\n"])
def test_settings_of_other_editors_are_read(home: Path, text: bytes) -> None:
    (home / "c.yaml").write_bytes(text)
    assert compose(files=["c.yaml"]).features.folds == 3
    assert "no such file" in refused(spectramind("config", "show", "-c", "."))


# Streams


def test_a_reader_that_has_ended_ends_the_command_quietly(home: Path) -> None:
    code = "import sys, time\nfrom spectramind_nb.cli import app\nsys.stdin.read()\napp.main()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, "worlds", "list"], **pipes) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == "" and process.wait(30) == 141


def test_closed_streams_take_no_number_of_a_file(home: Path) -> None:
    """Else a library that writes to number 1 or 2 writes into an artifact."""
    code = """import os
for number in range(3):
    os.close(number)
import sys
sys.stdin = sys.stdout = sys.stderr = None
from spectramind_nb.cli.calls import prepare_process
prepare_process()
with open("seen", "w") as file:
    print("x", file=sys.stdout)
    os.write(2, b"warning of a library")
    file.write(f"{file.fileno() > 2} {sys.stdout.isatty()}")
"""
    subprocess.run([sys.executable, "-c", code], cwd=home, check=True)
    assert (home / "seen").read_text() == "True False"


def test_a_folder_that_was_removed_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "gone").mkdir()
    with monkeypatch.context() as moved:
        moved.chdir(home / "gone")
        (home / "gone").rmdir()
        done = subprocess.run(
            [sys.executable, "-m", "spectramind_nb.cli.app", "run"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 2 and done.stderr == (
        "error: the working directory has been removed. Fix: cd to one that exists\n"
    )


def test_an_interrupt_while_modules_are_read_is_one_word() -> None:
    code = """import sys
class Interrupted:
    def find_spec(self, name, *rest):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from spectramind_nb.cli.start import start
start()"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_the_installed_command_is_the_entry_point() -> None:
    assert "console_scripts = spectramind=spectramind_nb.cli.start:start" in (ROOT / "settings.ini").read_text()


# Chapters that papermill or Jupyter run directly

CHAPTERS = [path for path in sorted((ROOT / "nbs").glob("0*.ipynb")) if "raw_dir" in declared_parameters(path)]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_reads_the_raw_data_of_the_run_that_it_is_given(
    home: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `-p run_dir runs/mine` alone; before, it read those of another run, `../runs/example`."""
    run = home / "run"
    run.mkdir()
    (run / "config.yaml").write_text(f"profile: demo\ndata: {{raw: {home / 'mine'}, network: none}}\n")
    known = declared_parameters(path) | {"run_dir": str(run)}
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    (first,) = [text for text in cells if "ensure_upstream(" in text and "#| export" not in text]
    monkeypatch.setattr("spectramind_nb.pipeline.chain.ensure_upstream", lambda stage, run_dir: run_dir)
    exec(re.sub(r"^explore\(.*", "", first, flags=re.MULTILINE), known)
    assert known["raw_dir"] == home / "mine"
    exec(re.sub(r"^explore\(.*", "", first, flags=re.MULTILINE), known | {"raw_dir": "given"})


# Settings of a run on a full disk


def test_earlier_settings_come_back_on_a_full_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "config.yaml"
    path.write_text("before")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(KeyError), keep_settings(path, compose(), lambda: False):
        assert "profile: demo" in path.read_text()
        for name in ("write_bytes", "write_text"):
            monkeypatch.setattr(Path, name, full)
        raise KeyError
    monkeypatch.undo()
    assert path.read_text() == "before"
    with keep_settings(path, compose(), lambda: False):
        pass
    assert "profile: demo" in path.read_text() and not (home / ".config.earlier.yaml").exists()


@pytest.mark.parametrize(("number", "fix"), [(errno.EACCES, "permission"), (errno.EFBIG, "ulimit -f")])
def test_permissions_and_limits_have_their_own_fix(number: int, fix: str) -> None:
    assert fix in os_fix(OSError(number, os.strerror(number)))


@pytest.mark.parametrize("name", ["größe a'b", "{x}", "{seed}", "-x"])
def test_folders_may_have_any_name(home: Path, name: str) -> None:
    """Papermill takes `{seed}` in a path for a parameter, and would write to another folder."""
    write_raw(home / name)
    done = spectramind("run", f"--raw=./{name}")
    assert done.exit_code == 0, done.stderr
    assert (home / "runs" / name / "01_features/artifacts/sum.txt").is_file()
    assert "skip 01_features" in spectramind("run", f"--raw=./{name}").output


# Few planets


def test_a_map_of_no_points_is_an_empty_picture() -> None:
    """Fewer than five planets have no map; the last cells of chapter 08 show what there is."""
    none = np.empty((0, 2))
    ax = plot_map(Figure().subplots(), none, np.zeros(3), "distance", ringed=np.ones(3, bool))
    assert [text.get_text() for text in ax.texts] == ["no map was made"]


@pytest.mark.parametrize("names", [(), ("latents.npz",)])
def test_the_last_figure_of_chapter_08_shows_what_there_is(
    home: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without maps and SHAP values (three planets, or no `explain` packages), the stage failed in this cell."""
    cells = json.loads((ROOT / "nbs/08_diagnostics.ipynb").read_text(encoding="utf-8"))["cells"]
    (last,) = [text for cell in cells if "import plot_map" in (text := "".join(cell["source"]))]
    folder = run_folder(home, "outputs/diagnostics")
    folder.mkdir(parents=True)
    for name in names:
        flags, empty, some = np.ones(3, bool), np.empty((0, 2), np.float32), np.zeros((3, 4), np.float32)
        shown = Positions(np.arange(3), flags, some, some, empty, empty, some[:, 0], some[:, 1])
        write_latents(folder, shown)
        assert (folder / name).is_file()
    known: dict[str, Any] = {"run_dir": home, "skip_heavy_diag": False, "run_folder": run_folder, "Picture": Picture}
    exec(last, known)
    assert ("no maps" in str(known["figure"])) is not bool(names)


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (errno.ENOSPC, 2, "error: No space left on device: 'x'. Fix: free space, then run again"),
        (errno.EROFS, 2, "error: Read-only file system: 'x'. Fix: choose a writable folder"),
        (errno.ENOENT, 1, "error: FileNotFoundError: [Errno 2]"),
    ],
)
def test_a_full_disk_that_a_library_meets_in_a_stage_is_named(home: Path, number: int, code: int, said: str) -> None:
    write_stage(home / "nbs", "01_features", f"import os\nraise OSError({number}, os.strerror({number}), 'x')")
    done = spectramind("run", "--raw", "mine")
    assert done.exit_code == code and said in done.stderr, done.stderr


def test_files_of_pytorch_on_a_full_disk_are_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own writer fails with `unexpected pos 768 vs 662`, and for TorchScript aborts the process."""
    example = partial(torch.save, {"a": torch.ones(3)})
    assert torch.load(write_serialised(home / "whole", example))["a"].tolist() == [1, 1, 1]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WriteError, match=r"part: file: can't be written \(No space left on device\)|free space"):
        write_serialised(home / "part", example)
    assert not (home / "part").exists()


def test_pytorch_writes_no_file_itself() -> None:
    text = "".join(path.read_text() for path in (ROOT / "spectramind_nb").rglob("*.py"))
    assert not re.findall(r"(?:torch|jit)\.save\(|check_trace=False\)\.save", text)


def test_two_predictions_of_one_submission_take_turns(home: Path) -> None:
    out, work = home / "submission.csv", home / "submission.work"
    with alone(out, None):
        with (
            pytest.raises(UserError, match=r"process \d+ is running there\. Fix: wait for it, or .* --out-csv"),
            alone(out, None),
        ):
            pass
        with alone(out, home / "shared"), alone(home / "other.csv", None):
            pass
        (work / "planets").mkdir()
    assert work.is_dir(), "finished planets are kept"
    with alone(home / "new.csv", None):
        pass
    assert sorted(path.name for path in home.glob("*.work")) == ["submission.work"]
