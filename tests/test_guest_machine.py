"""Commands on machines with full disks, closed streams, odd settings of Python, and folders of somebody else."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_chain import COMMAND, enter_work_folder, refused, spectramind, write_stage

from spectramind_nb.core.contracts import Submission, write_submission
from spectramind_nb.core.lifetime import run_lock

ROOT = Path(__file__).parents[1]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="has no /dev/full")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with notebooks and a raw folder."""
    return enter_work_folder(tmp_path, monkeypatch)


def submission(path: Path) -> Path:
    mu = 0.01 + 1e-3 * np.arange(3)[:, None] + np.random.default_rng(0).normal(0, 1e-5, (3, 283))
    return write_submission(path, Submission(np.arange(3), mu, np.full(mu.shape, 1e-4)))


def shell(home: Path, words: str, before: str = "", **env: str) -> "subprocess.CompletedProcess[str]":
    """Call the command from a shell; `spectramind` in `words` stands for it."""
    code = COMMAND.format(notebooks=str(home / "nbs"), before=before)
    line = words.replace("spectramind", f'{sys.executable} -c "$SPECTRAMIND_COMMAND"')
    own = {"PYTHONPATH": str(ROOT), "SPECTRAMIND_COMMAND": code, **env}
    how = {"cwd": home, "env": {**os.environ, **own}}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=120, **how)


# Streams

FULL = "error: standard output: file: No space left on device. Fix: free space, then run again\n"


@LINUX
@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        ("spectramind validate s.csv 2>/dev/full", 0, ""),
        ("spectramind validate none.csv 2>/dev/full", 2, ""),
        ("spectramind no-such-command 2>/dev/full", 2, ""),
        ("spectramind validate s.csv >/dev/full", 2, FULL),
        ("spectramind --help >/dev/full", 2, FULL),
        ("spectramind --version >/dev/full", 2, FULL),
        ("PYTHONUNBUFFERED=1 spectramind --version >/dev/full", 2, FULL),
        ("PYTHONUNBUFFERED=1 spectramind validate s.csv >/dev/full", 2, FULL),
        ("spectramind validate s.csv <&- >&- 2>&-", 0, ""),
        ("spectramind validate none.csv <&- >&- 2>&-", 2, ""),
        ("spectramind --version <&- >&- 2>&-", 0, ""),
    ],
)
def test_a_stream_that_takes_nothing_does_not_change_how_a_command_ends(
    home: Path, words: str, code: int, err: str
) -> None:
    submission(home / "s.csv")
    done = shell(home, words, PYTHONUNBUFFERED="")
    assert (done.returncode, done.stderr) == (code, err)


@LINUX
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["--help", "--version", "validate s.csv"])
def test_a_reader_that_has_ended_is_named_by_the_exit_code_alone(home: Path, words: str, unbuffered: str) -> None:
    submission(home / "s.csv")
    done = shell(home, f"spectramind {words} | true; exit ${{PIPESTATUS[0]}}", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (141, "")


@LINUX
@pytest.mark.parametrize("streams", ["2>/dev/full", "<&- >&- 2>&-"])
def test_a_run_needs_no_terminal(home: Path, streams: str) -> None:
    done = shell(home, f"spectramind run --raw mine {streams}")
    assert done.returncode == 0, done.stderr
    assert (home / "runs/mine/01_features/manifest.json").is_file()


# Start

LARGE = ("torch", "sklearn", "scipy.stats", "scipy.optimize", "numba", "papermill", "matplotlib")


@pytest.mark.parametrize("words", ["validate s.csv", "score --submission s.csv --truth t.csv", "worlds list"])
def test_a_light_command_loads_no_large_library(home: Path, words: str) -> None:
    submission(home / "s.csv")
    truth = pd.read_csv(home / "s.csv").filter(regex=r"planet_id|^wl_")
    truth.to_csv(home / "t.csv", index=False)
    before = "import atexit\natexit.register(lambda: print([name for name in {large} if name in sys.modules]))"
    done = shell(home, f"spectramind {words}", before=before.format(large=LARGE))
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("module", ["dashboard.page", "dashboard.server", "operations.acceptance", "pipeline.chain"])
def test_a_module_that_only_reads_results_does_not_load_torch(module: str) -> None:
    code = f"import sys, spectramind_nb.{module}\nprint([name for name in ('torch', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Two commands, two users


def test_a_prediction_from_a_run_at_work_says_to_wait(home: Path) -> None:
    assert spectramind("run", "--raw", "mine").exit_code == 0
    words = ("predict", "--run", "runs/mine", "--raw", "mine", "--out-csv", "s.csv")
    with run_lock(home / "runs/mine"):
        line = refused(spectramind(*words))
    wait = "and has not finished 07_uncertainty. Fix: wait until the run has ended, then repeat the command"
    assert line == f"error: runs/mine: process {os.getpid()} is still at work there, {wait}"
    line = refused(spectramind(*words))
    assert line.endswith(
        "runs/mine: 07_uncertainty is not finished. Fix: spectramind run --run-dir runs/mine --raw mine"
    )
    line = refused(spectramind("kaggle", "pack", "--run", "runs/mine", "--out", "kp"))
    assert "07_uncertainty is not finished" in line and not (home / "kp").exists()
    (home / "runs/mine/01_features/manifest.json").rename(home / "runs/mine/01_features/begun.json")  # as when killed
    assert "runs/mine: 01_features is not finished" in refused(spectramind("train", "--run", "runs/mine"))


def test_a_run_folder_of_somebody_else_is_only_read(home: Path) -> None:
    """`run` says what can't be written; a command that only reads goes on without its log."""
    assert spectramind("run", "--raw", "mine").exit_code == 0
    bounds = "setpriv --bounding-set=-dac_override,-dac_read_search" if os.getuid() == 0 else ""
    if bounds and not shutil.which("setpriv"):
        pytest.skip("root may write everywhere")
    for path in (*(home / "runs").rglob("*"), home / "runs"):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        done = shell(home, f"{bounds} spectramind run --raw mine")
        assert done.returncode == 2 and "runs/mine: folder: can't be written (Permission denied). Fix: " in done.stderr
        done = shell(home, f"{bounds} spectramind bench --run runs/mine")
        assert done.returncode == 0 and "01_features" in done.stdout, done.stderr
    finally:
        for path in (home / "runs", *(home / "runs").rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)


# Disks


def test_a_notebook_that_a_full_disk_cuts_short_is_removed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(source: str, target: str, *more: Any, **options: Any) -> None:
        Path(target).write_text(Path(source).read_text()[:200])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr("papermill.execute_notebook", execute)
        done = spectramind("run", "--raw", "mine")
    problem = "notebook.ipynb: file: can't be written (No space left on device). Fix: free space, then run again"
    assert done.exit_code == 2 and problem in done.stderr
    assert not (home / "runs/mine/01_features/notebook.ipynb").exists()
    assert spectramind("run", "--raw", "mine").exit_code == 0


# Settings of Python

PRINTS = """print('hello')
import matplotlib.pyplot
matplotlib.rcParams["backend"] = "TkAgg"
"""
PLOTS = """import matplotlib
assert "inline" in matplotlib.get_backend(), matplotlib.get_backend()
from matplotlib import pyplot as plt
plt.plot([1, 2])
from spectramind_nb.core.lifetime import process_pool
with process_pool(1) as pool:
    assert list(pool.map(abs, [-3])) == [3]"""


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("stages", [1, 3], ids=["cold", "warm"])
@pytest.mark.parametrize(
    "env",
    [
        {"MPLBACKEND": "TkAgg"},
        {"PYTHONWARNINGS": "error"},
        {"PYTHONOPTIMIZE": "2"},
        {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONSTARTUP": "/nowhere.py", "LANG": "C", "LC_ALL": "C"},
        {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere", "XDG_CONFIG_HOME": "/proc/nowhere"},
    ],
    ids=lambda env: next(iter(env)),
)
def test_a_run_does_not_depend_on_settings_of_python(home: Path, env: dict[str, str], stages: int) -> None:
    """Each with a `sitecustomize` that prints and chooses a backend with windows."""
    for name in ("01_features", "02_transit", "06_training")[:stages]:
        write_stage(home / "nbs", name, PLOTS)
    (home / "site").mkdir()
    (home / "site/sitecustomize.py").write_text(PRINTS)
    done = shell(home, "spectramind run --raw mine", PYTHONPATH=f"{home / 'site'}:{ROOT}", **env)
    assert done.returncode == 0, done.stdout + done.stderr
