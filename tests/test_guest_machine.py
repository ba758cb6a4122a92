"""Commands on machines with full disks, closed streams, odd settings of Python, and folders of somebody else."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_chain import COMMAND, enter_work_folder, refused, spectramind

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
    (home / "command.py").write_text(code)
    line = words.replace("spectramind", f"{sys.executable} command.py")
    how = {"cwd": home, "env": {**os.environ, "PYTHONPATH": str(ROOT), **env}}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=120, **how)


# Streams

FULL = "error: standard output: file: No space left on device. Fix: free space, then run again\n"


@LINUX
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        ("spectramind validate s.csv 2>/dev/full", 0, ""),
        ("spectramind validate none.csv 2>/dev/full", 2, ""),
        ("spectramind no-such-command 2>/dev/full", 2, ""),
        ("spectramind validate s.csv >/dev/full", 2, FULL),
        ("spectramind --help >/dev/full", 2, FULL),
        ("spectramind --version >/dev/full", 2, FULL),
        ("spectramind validate s.csv <&- >&- 2>&-", 0, ""),
        ("spectramind validate none.csv <&- >&- 2>&-", 2, ""),
        ("spectramind --version <&- >&- 2>&-", 0, ""),
    ],
)
def test_a_stream_that_takes_nothing_does_not_change_how_a_command_ends(
    home: Path, words: str, code: int, err: str, unbuffered: str
) -> None:
    submission(home / "s.csv")
    done = shell(home, words, PYTHONUNBUFFERED=unbuffered)
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
