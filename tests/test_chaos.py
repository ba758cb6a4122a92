"""Random kills of a run and of a prediction: the same command then gives the same bytes, and no process is left.

`python tests/test_chaos.py 30` prints the table for 30 kills, two thirds of them of runs.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import pytest
from fake_chain import start, write_raw, write_stage

from spectramind_nb.pipeline.provenance import damaged_artifact
from spectramind_nb.pipeline.stages import find_manifests

STAGES = ("00_calibration", "01_features", "02_transit")
SIGNALS = ("SIGTERM", "SIGKILL", "SIGINT")
LIGHT = """
from spectramind_nb.pipeline import warm_kernels
warm_kernels.PRELOADED = ("spectramind_nb.core.lifetime", "matplotlib", "ipykernel.kernelapp")
"""
# Two workers write a file each ten times; files that are there are kept, as planets are.
WORK = """import time
from functools import partial
from pathlib import Path
from spectramind_nb.core.lifetime import process_pool
from spectramind_nb.pipeline.provenance import append_line
folder = Path(run_dir) / STAGE / "artifacts"
with process_pool(2) as pool:
    for k in range(10):
        paths = [folder / f"{k}_{j}.txt" for j in range(2)]
        todo = [path for path in paths if not path.is_file()]
        list(pool.map(partial(append_line, line=f"{STAGE} {k}"), todo))
        time.sleep(0.05)"""
JOIN = """texts = [path.read_text() for path in sorted(Path(run_dir).glob("*/artifacts/*_*.txt"))]
(Path(run_dir) / "submission.csv").write_text("".join(texts))"""


@dataclass(frozen=True)
class Kill:
    """Record of one kill: target, time, how the command ended, and what the same command made then."""

    command: str
    victim: str
    signal: str
    after_s: float
    code: int
    left: int  # processes that live 5 s after the command
    lost: int  # files of finished stages that are missing or damaged
    again: int  # exit code of the same command
    same: bool  # whether the submission has the same bytes as that of an undisturbed command


def marked(mark: str) -> dict[int, str]:
    """Living processes that have inherited an environment variable: their command lines, by their ids."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            ended = (path / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if not ended and mark.encode() in (path / "environ").read_bytes():
                found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
    return found


def parent(pid: int) -> int:
    """The process that started another."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def victims(kind: str, command: int, mark: str) -> list[int]:
    """Processes of a kind: the command, a kernel (which the fork server has started), or a worker of a kernel."""
    living = marked(mark)
    with suppress(OSError):
        if kind == "kernel":
            servers = {pid for pid, line in living.items() if "multiprocessing.forkserver" in line}
            return [pid for pid in servers if parent(pid) in servers]
        if kind == "worker":
            return [pid for pid, line in living.items() if "spawn_main" in line]
    return [command] if kind == "command" else []


@contextmanager
def command(home: Path, words: tuple[str, ...], mark: str) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "SPECTRAMIND_MARK": mark}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with start(
        home / "nbs", *words, before=LIGHT, cwd=home, env=environment, start_new_session=True, **quiet
    ) as process:
        yield process


def one_kill(home: Path, words: tuple[str, ...], plan: tuple[str, str, float], result: Path, good: bytes) -> Kill:
    """Start a command, kill a process of it (kind, signal, seconds) and start it again."""
    victim, blow, after = plan
    mark, begun = uuid.uuid4().hex, time.monotonic()
    with command(home, words, mark) as process:
        pids: list[int] = []
        while process.poll() is None and (time.monotonic() - begun < after or not pids):
            pids = victims(victim, process.pid, mark)
            time.sleep(0.02)
        after = time.monotonic() - begun
        for pid in pids[:1]:
            with suppress(OSError):
                os.kill(pid, getattr(signal, blow))
        code = process.wait(300)
        ends = time.monotonic() + 5
        while marked(mark) and time.monotonic() < ends:
            time.sleep(0.1)
        left = len(marked(mark))
    known = {name: found["artifacts"] for name, found in find_manifests(home / "runs/mine").items()}
    lost = sum(bool(damaged_artifact(home / "runs/mine" / name, artifacts)) for name, artifacts in known.items())
    with command(home, words, mark) as process:
        again = process.wait(300)
    return Kill(
        words[0],
        victim,
        blow,
        round(after, 1),
        code,
        left,
        lost,
        again,
        result.is_file() and result.read_bytes() == good,
    )


def a_run(home: Path) -> tuple[tuple[str, ...], Path]:
    """A chain of three stages with workers: its command and its submission."""
    write_raw(home / "mine")
    for stage in STAGES:
        write_stage(home / "nbs", stage, f"STAGE = {stage!r}", WORK, *([JOIN] if stage == STAGES[-1] else []))
    return ("run", "--raw", "mine"), home / "runs/mine/submission.csv"


def a_prediction(home: Path) -> tuple[tuple[str, ...], Path]:
    """A prediction of two simulated planets: its command and its submission."""
    from spectramind_nb.pipeline.predict import shipped_run
    from spectramind_nb.simulator.data_sets import simulate_dataset

    if not (home / "raw").is_dir():
        simulate_dataset(home / "raw", planets=1, test_planets=2, seed=13, frames="tiny", workers=2)
        shipped_run(home / "learned")
    return (
        "predict",
        "--raw",
        "raw",
        "--run",
        "learned",
        "--out-csv",
        "out/submission.csv",
    ), home / "out/submission.csv"


def chaos(folder: Path, runs: int, predictions: int, seed: int = 0) -> Iterator[Kill]:
    """Kill runs and predictions at random."""
    import shutil

    rng = random.Random(seed)
    for make, made, count in ((a_run, "runs", runs), (a_prediction, "out", predictions)):
        home = folder / made
        home.mkdir()
        words, result = make(home)
        kinds = ("command", "kernel", "worker") if make is a_run else ("command",)
        begun = time.monotonic()
        with command(home, words, uuid.uuid4().hex) as process:
            assert process.wait(600) == 0
        seconds, good = time.monotonic() - begun, result.read_bytes()
        for k in range(count):
            shutil.rmtree(home / made)
            blow, victim = SIGNALS[k % 3], kinds[(k + k // 3) % len(kinds)]  # all pairs in nine kills
            yield one_kill(home, words, (victim, blow, rng.uniform(0.1, 0.9) * seconds), result, good)


HEAD = [field.name for field in fields(Kill)]


def line(values: list[object]) -> str:
    """One line of the table."""
    return "".join(f"{value!s:>10}" for value in values)


def sound(kill: Kill) -> bool:
    """Test that no process was left, no file was lost, and the same command made the same bytes."""
    return (kill.left, kill.lost, kill.again, kill.same) == (0, 0, 0, True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_whatever_is_killed_the_same_command_makes_the_same(tmp_path: Path) -> None:
    kills = [*chaos(tmp_path, runs=5, predictions=3)]
    assert all(map(sound, kills)), "\n".join(map(line, [HEAD, *map(astuple, kills)]))  # type: ignore[arg-type]


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if sys.argv[1:] else 30
    with tempfile.TemporaryDirectory() as scratch:
        print(line(HEAD), flush=True)  # type: ignore[arg-type]
        faults = 0
        for kill in chaos(Path(scratch), wanted - wanted // 3, wanted // 3, seed=int(time.time())):
            print(line([*astuple(kill)]), flush=True)
            faults += not sound(kill)
    sys.exit(f"{faults} of {wanted} kills left something behind" if faults else 0)
