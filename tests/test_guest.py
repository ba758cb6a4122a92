"""Commands on unusual machines: no process outlives a command, and no setting of the user changes its result."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import types
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
import pytest
from fake_chain import enter_work_folder, refused, spectramind, start, write_raw, write_stage
from omegaconf import OmegaConf

from spectramind_nb.cli.diagnose import allowed_names
from spectramind_nb.core import lifetime
from spectramind_nb.core.errors import ContractError, UserError, os_fix
from spectramind_nb.core.files import atomic_path, expand_word
from spectramind_nb.core.lifetime import WORKERS, WRITERS, lock_file, usable_cores, wait_for_writers
from spectramind_nb.dashboard.panels import log as log_panel
from spectramind_nb.dashboard.run_reader import Run
from spectramind_nb.dashboard.server import make_app
from spectramind_nb.pipeline import provenance
from spectramind_nb.pipeline.chain import run_chain, run_lock
from spectramind_nb.pipeline.config import GROUPS, REPEATED, ConfigError, cfg_hash, compose, flatten
from spectramind_nb.pipeline.provenance import append_line, commit, environment, git_sha, read_log
from spectramind_nb.pipeline.ranges import RANGES
from spectramind_nb.pipeline.stages import raw_of, rerun_settings

ROOT = Path(__file__).parents[1]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with notebooks and a raw folder."""
    return enter_work_folder(tmp_path, monkeypatch)


# Lifetime of processes

# The fork server reads little here, because these tests are about its end.
LIGHT = """
from spectramind_nb.pipeline import warm_kernels
warm_kernels.PRELOADED = ("spectramind_nb.core.lifetime", "matplotlib", "ipykernel.kernelapp")
"""
BUSY = """import os, time
from pathlib import Path
from spectramind_nb.core.lifetime import process_pool
if not (Path(run_dir) / "go").exists():
    pool = process_pool(2)
    futures = [pool.submit(time.sleep, 90) for _ in range(2)]
    while len(pool._processes) < 2:
        time.sleep(0.1)
    time.sleep(1)
    pids = [os.getpid(), *pool._processes]
    (Path(run_dir) / "pids.part").write_text(" ".join(map(str, pids)))
    (Path(run_dir) / "pids.part").rename(Path(run_dir) / "pids")
    [future.result() for future in futures]"""


def marked(mark: str) -> list[int]:
    """Processes that have inherited an environment variable, by their ids."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (
                mark.encode() in (path / "environ").read_bytes()
                and (path / "stat").read_text().rsplit(")")[-1][1] != "Z"
            ):
                found.append(int(path.name))
    return found


def wait_until(holds: Any, seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while not holds() and time.monotonic() < ends:
        time.sleep(0.1)
    return bool(holds())


@contextmanager
def busy_run(home: Path, count: int) -> Iterator[tuple["subprocess.Popen[str]", list[int], str]]:
    """A run whose last stage works in two worker processes: the command, ids of kernel and workers, and its mark."""
    names = ("00_calibration", "01_features", "02_transit")[:count]
    for name in names:
        write_stage(home / "nbs", name, *([BUSY] if name == names[-1] else []))
    if count < 2:
        (home / "nbs/01_features.ipynb").unlink()
    mark = uuid.uuid4().hex
    how = {"cwd": home, "start_new_session": True, "env": {**os.environ, "SPECTRAMIND_MARK": mark}}
    with start(home / "nbs", "run", "--raw", "mine", before=LIGHT, **how) as process:
        pids = home / "runs/mine/pids"
        assert wait_until(lambda: pids.exists() or process.poll() is not None, 240), "the last stage has not begun"
        assert process.poll() is None, process.communicate()
        yield process, [*map(int, pids.read_text().split())], mark


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3], ids=["cold", "warm"])
@pytest.mark.parametrize("blow", ["SIGTERM", "SIGKILL", "SIGINT", "SIGHUP"])
def test_no_process_outlives_a_command(home: Path, blow: str, count: int) -> None:
    with busy_run(home, count) as (process, pids, mark):
        assert len(pids) == 3 and {process.pid, *pids} <= {*marked(mark)}
        process.send_signal(getattr(signal, blow))
        process.wait(60)  # an interrupted command ends its stage first
        assert wait_until(lambda: not marked(mark), 5), [
            Path(f"/proc/{pid}/cmdline").read_text() for pid in marked(mark)
        ]
    (home / "runs/mine/go").touch()
    done = spectramind("run", "--raw", "mine")
    assert done.exit_code == 0, done.output


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize(("victim", "said"), [(0, "the kernel died"), (1, "process died|BrokenProcessPool")])
def test_a_killed_kernel_or_worker_ends_the_command(home: Path, victim: int, said: str) -> None:
    with busy_run(home, 1) as (process, pids, mark):
        os.kill(pids[victim], signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (1, 2) and re.search(said, err), err
        assert wait_until(lambda: not marked(mark), 5)


PARENT = """import sys
from spectramind_nb.core.lifetime import run_bound
run_bound(["sh", "-c", "sleep 60 & echo up; sleep 60"])"""


@LINUX
@pytest.mark.parametrize("blow", ["SIGTERM", "SIGKILL", "SIGINT", "SIGHUP"])
def test_programs_of_a_command_end_with_it(blow: str) -> None:
    mark = uuid.uuid4().hex
    env, quiet = {**os.environ, "SPECTRAMIND_MARK": mark}, {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    resets = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    resets += "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # ignored where the tests run under nohup
    with subprocess.Popen([sys.executable, "-c", resets + PARENT], env=env, text=True, **quiet) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        assert wait_until(lambda: len(marked(mark)) >= 4, 20)  # the command, a shell and its two programs
        process.send_signal(getattr(signal, blow))
        process.wait(10)
        assert wait_until(lambda: not marked(mark), 5), marked(mark)


LATE = """import multiprocessing, os, signal, time
from pathlib import Path
from spectramind_nb.pipeline.warm_kernels import _fork_kernel


def late():
    server = os.getppid()
    Path("begun").touch()
    while os.getppid() == server:  # until the command has ended, and the fork server with it
        time.sleep(0.01)
    _fork_kernel(["kernel", "-f", "kernel.json"], None, dict(os.environ))


if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["spectramind_nb.core.lifetime"])
    context.Process(target=late).start()
    while not Path("begun").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)"""


@LINUX
@pytest.mark.parametrize("words", [["late.py"], ["-m", "spectramind_nb.pipeline.warm_kernels", "-f", "kernel.json"]])
def test_a_kernel_that_starts_when_its_command_has_ended_ends_at_once(home: Path, words: list[str]) -> None:
    (home / "late.py").write_text(LATE)
    mark = uuid.uuid4().hex
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SPECTRAMIND_MARK": mark, "JPY_PARENT_PID": "1"}
    with subprocess.Popen([sys.executable, *words], cwd=home, env=env) as process:
        try:
            assert process.wait(20) == -signal.SIGKILL
            assert wait_until(lambda: not marked(mark), 10), marked(mark)
        finally:
            for pid in marked(mark):
                os.kill(pid, signal.SIGKILL)
    assert not (home / "kernel.json").exists()


INTERRUPTED = """import asyncio, multiprocessing
from spectramind_nb.pipeline import warm_kernels
warm_kernels.PRELOADED = ("spectramind_nb.core.lifetime", "matplotlib", "ipykernel.kernelapp")
with warm_kernels.warm_kernels():
    asyncio.run(warm_kernels.StageKernels(kernel_name="python3").start_kernel())
    assert len(multiprocessing.active_children()) == 1
    raise KeyboardInterrupt"""


@LINUX
def test_a_kernel_that_is_starting_does_not_hold_up_an_interrupted_command(home: Path) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGINT and done.stderr.endswith("KeyboardInterrupt\n"), done.stderr


CALL = """import signal, sys, time
from spectramind_nb.cli.calls import recorded
signal.signal(signal.SIGHUP, signal.SIG_IGN if "nohup" in sys.argv else signal.SIG_DFL)
with recorded("score", truth="truth.csv"):
    print("up", flush=True)
    time.sleep(3 if "nohup" in sys.argv else 60)"""


@pytest.mark.parametrize(("blow", "how"), [("SIGTERM", ""), ("SIGHUP", ""), ("SIGHUP", "nohup")])
def test_a_call_that_a_signal_ends_leaves_its_event(home: Path, blow: str, how: str) -> None:
    """The status of the process is still the signal's; a command under nohup goes on."""
    words = [sys.executable, "-c", CALL, how]
    with subprocess.Popen(words, cwd=home, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.send_signal(getattr(signal, blow))
        assert process.wait(20) == (0 if how else -getattr(signal, blow))
    (line,) = (home / "runs/events.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert (event["cmd"], event["status"]) == ("score", "ok" if how else "fail")
    assert event["args"] == {"truth": "truth.csv"}
    assert (f"ended by {blow}" in (home / "runs/v50_debug_log.md").read_text()) is not bool(how)


def test_a_run_waits_for_those_who_still_write(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "run").mkdir()
    monkeypatch.setattr(lifetime, "wait_for_writers", lambda path: wait_for_writers(path, 0.2))
    with (home / "run/.writers").open("a") as writer:
        assert lock_file(writer, shared=True)
        with pytest.raises(UserError, match="a process of an earlier run still writes there"), run_lock(home / "run"):
            pass
    with run_lock(home / "run"):
        pass


def test_a_stage_holds_the_lock_of_those_who_write(home: Path) -> None:
    held = f"""import os
from spectramind_nb.core.lifetime import lock_file
with open(os.environ["{WRITERS}"], "a") as stream:
    assert not lock_file(stream)"""
    write_stage(home / "nbs", "01_features", held)
    assert spectramind("run", "--raw", "mine").exit_code == 0


# Raw data and profiles


def finished_run(home: Path) -> None:
    write_raw(home / "exp1/raw")
    write_raw(home / "exp2/raw")
    done = spectramind("run", "--raw", "exp1/raw")
    assert done.exit_code == 0, done.output


def test_another_raw_folder_of_the_same_name_is_refused(home: Path) -> None:
    finished_run(home)
    (home / "exp2/raw/adc_info.csv").write_text("x\n2\n")
    before = (home / "runs/raw/01_features/manifest.json").read_bytes()
    for words in (["--raw", "exp2/raw"], ["data.raw=exp2/raw"]):
        line = refused(spectramind("run", *words))
        assert "runs/raw: was made of the raw data in exp1/raw. Fix: repeat --raw exp1/raw" in line
    assert (home / "runs/raw/01_features/manifest.json").read_bytes() == before
    assert spectramind("run", "--raw", "exp2/raw", "--force").exit_code == 0


def test_raw_data_that_gained_a_planet_or_moved_go_on(home: Path) -> None:
    finished_run(home)
    (home / "exp1/raw/test/9").mkdir()
    assert spectramind("run", "--raw", "exp1/raw").exit_code == 0
    (home / "exp1/raw").rename(home / "raw")
    run = {"--run-dir": "runs/raw"}
    write_stage(home / "nbs", "00_calibration", common=("run_dir", "raw_dir"))
    assert spectramind("run", "--raw", "raw", *[w for pair in run.items() for w in pair]).exit_code == 2


def test_a_run_that_lost_planets_is_kept(home: Path) -> None:
    write_stage(home / "nbs", "00_calibration", common=("run_dir", "raw_dir"))
    finished_run(home)
    plan = home / "runs/raw/00_calibration/artifacts/plan.json"
    plan.write_text(json.dumps({"planets": {"train": [], "test": [7, 8]}}))
    (home / "exp1/raw/test/8").rename(home / "8")
    assert "planet 8 of this run is not in exp1/raw" in refused(spectramind("run", "--raw", "exp1/raw"))


def test_a_run_is_not_written_among_its_raw_data(home: Path) -> None:
    (home / "link").symlink_to("mine")
    before = sorted((home / "mine").iterdir())
    for words in (["--raw", "mine", "--run-dir", "mine"], ["--raw", "link", "--run-dir", "mine/"]):
        assert "mine: folder: holds the raw data. Fix: choose another --run-dir" in refused(spectramind("run", *words))
    assert sorted((home / "mine").iterdir()) == before


def test_a_moved_raw_folder_is_known_by_its_files(home: Path) -> None:
    write_stage(home / "nbs", "00_calibration", common=("run_dir", "raw_dir"))
    finished_run(home)
    (home / "exp1/raw").rename(home / "raw")
    done = spectramind("run", "--raw", "raw")
    assert done.exit_code == 0 and "skip 00_calibration" in done.output, done.output


def test_a_later_command_may_start_in_another_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stage(home / "nbs", "00_calibration", common=("run_dir", "raw_dir"))
    finished_run(home)
    run, cfg = home / "runs/raw", rerun_settings(home / "runs/raw", {})[0]
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    assert raw_of("../runs/raw") == raw_of(run) == Path(rerun_settings(run, {})[0].data.raw) == home / "exp1/raw"
    assert cfg_hash(rerun_settings(run, {})[0]) == cfg_hash(cfg)
    for name in ("exp1", "runs"):  # a project that moves as a whole
        (home / name).rename(home / "elsewhere" / name)
    assert raw_of("runs/raw") == home / "elsewhere/exp1/raw"
    monkeypatch.chdir(home)
    moved = home / "elsewhere/runs/raw"
    done = run_chain(rerun_settings(moved, {})[0], moved, notebooks=home / "nbs")
    assert [stage.why for stage in done] == ["", ""]


def test_a_run_away_from_the_command_keeps_an_absolute_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "work").mkdir()
    monkeypatch.chdir(home / "work")
    for raw, run in (("../mine", "run"), (str(home / "mine"), "run2")):
        assert spectramind("run", "--raw", raw, "--run-dir", run).exit_code == 0
    monkeypatch.chdir(home)
    (home / "work").rename(home / "work2")
    assert [raw_of(home / "work2" / run) for run in ("run", "run2")] == [home / "mine"] * 2
    saved = home / "work2/run/config.yaml"
    saved.write_text(re.sub(r"raw: .*", "raw: mine", saved.read_text(), count=1))  # as earlier versions wrote it
    assert raw_of("work2/run") == home / "mine"


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulator that writes a raw folder in outline."""
    module = types.ModuleType("simulator")
    module.simulate_dataset = lambda out, **options: write_raw(out)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spectramind_nb.simulator.data_sets", module)


@pytest.mark.parametrize(
    "words", [["--profile", "example"], ["profile=example"], ["+profile=example"], ["-c", "p.yaml"]]
)
def test_all_spellings_of_a_profile_name_the_same_run(home: Path, words: list[str], simulator: None) -> None:
    (home / "p.yaml").write_text("profile: example\n")
    assert spectramind("run", *words).exit_code == 0
    assert [path.name for path in (home / "runs").iterdir() if path.is_dir()] == ["example"]


def test_finished_raw_data_are_not_simulated_anew_without_force(home: Path, simulator: None) -> None:
    assert spectramind("run").exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in (home / "runs/demo/raw").rglob("*")}
    for words in (["profile=example", "--run-dir", "runs/demo"], ["simulate.planets=3"], ["seed=4"]):
        assert "was simulated with other settings" in refused(spectramind("run", *words))
    assert {path: path.stat().st_mtime_ns for path in (home / "runs/demo/raw").rglob("*")} == before
    assert spectramind("run", "simulate.planets=3", "--force").exit_code == 0


def test_a_run_may_name_the_raw_data_that_it_simulated(home: Path, simulator: None) -> None:
    for words in ([], ["--raw", "runs/demo/raw", "--run-dir", "runs/demo"], ["profile=demo"]):
        assert spectramind("run", *words).exit_code == 0


# What only describes the machine


def program(folder: Path, name: str, text: str, mode: int = 0o755) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(mode)


ODD_PROGRAMS = {
    "no permission": ("#!/bin/sh\necho 1\n", 0o644),
    "no program": ("\x7fELF not really", 0o755),
    "fails": ("#!/bin/sh\nexit 9\n", 0o755),
    "hangs": ("#!/bin/sh\nsleep 600\n", 0o755),
    "hangs behind a child": ("#!/bin/sh\nsleep 600 &\nsleep 600\n", 0o755),
    "prints without end": ("#!/bin/sh\nwhile :; do echo 1, 2; done\n", 0o755),
    "says odd bytes": ("#!/bin/sh\nprintf '\\377\\376'\n", 0o755),
}


@pytest.mark.parametrize("odd", ODD_PROGRAMS)
@pytest.mark.parametrize("name", ["nvidia-smi", "git"])
def test_a_program_that_describes_the_machine_neither_fails_nor_delays(
    home: Path, monkeypatch: pytest.MonkeyPatch, odd: str, name: str
) -> None:
    program(home / "bin", name, *ODD_PROGRAMS[odd])
    monkeypatch.setenv("PATH", f"{home / 'bin'}")
    environment.cache_clear()
    git_sha.cache_clear()
    begun = time.monotonic()
    try:
        seen = {**environment(), **commit()}
    finally:
        environment.cache_clear()
        git_sha.cache_clear()
    assert time.monotonic() - begun < 9
    assert seen["git_sha"] == "0000000" and seen["torch"] != "unknown"
    assert seen["device"] == seen["driver"].replace("none", "cpu") == ("unknown" if name == "nvidia-smi" else "cpu")


def test_a_program_that_hangs_is_asked_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(home / "bin", "git", "#!/bin/sh\necho >> asked\nexec /bin/sleep 600\n")
    monkeypatch.setenv("PATH", f"{home / 'bin'}")
    begun = time.monotonic()
    assert [lifetime.reply_of(["git", "status"], 0.5) for _ in range(20)] == [None] * 20
    assert time.monotonic() - begun < 5 and (home / "asked").read_text() == "\n"


def test_damaged_metadata_of_a_library_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise KeyError("Version")

    monkeypatch.setattr(provenance, "version", version)
    assert {*provenance.library_versions().values()} == {"unknown"}


# Paths


@pytest.mark.parametrize(
    ("word", "expanded"),
    [
        *(("~", "@"), ("~/x", "@/x"), ("--out=~/b.npz", "--out=@/b.npz"), ("--html=~", "--html=@")),
        *(("data.raw=~/x", "data.raw=@/x"), ("+a.b=~/x", "+a.b=@/x"), ("-c~/a.yaml", "-c@/a.yaml")),
        *(("$HOME/x", "@/x"), ("--raw=${HOME}/x", "--raw=@/x"), ("data.raw=$HOME/x", "data.raw=@/x")),
        *(("~features.folds", "~features.folds"), ("--list=a ~/b", "--list=a ~/b"), ("a/~/b", "a/~/b")),
        *(("$NO_SUCH_VARIABLE/x", "$NO_SUCH_VARIABLE/x"), ("~no-such-user-/x", "~no-such-user-/x")),
    ],
)
def test_paths_are_expanded_in_every_word(
    word: str, expanded: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))
    assert expand_word(word) == expanded.replace("@", str(home))


def test_no_option_makes_a_folder_of_that_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    assert spectramind("run", "--raw=~/mine", "--run-dir=~/r").exit_code == 0
    assert spectramind("run", "data.raw='~/mine'", "--run-dir=~/r2").exit_code == 0
    (home / "own.yaml").write_text("data: {raw: ~/mine}\n")
    assert spectramind("run", "-c~/own.yaml").exit_code == 0
    saved = [OmegaConf.load(home / run / "config.yaml").data.raw for run in ("r", "r2", "runs/mine")]
    assert saved == [str(home / "mine")] * 3 and not (home / "~").exists()
    spectramind("validate", "~/nothing.csv")
    spectramind("simulate", "spectra", "--out=~/bank.npz", "--spectra", "0")
    assert not (home / "~").exists()


# Folders that can't be written


READ_ONLY = """
import os, numba
from numba.core import caching

def refuse(self):
    if not self.get_cache_path().startswith({scratch!r}):
        raise PermissionError(13, "Permission denied")
    os.makedirs(self.get_cache_path(), exist_ok=True)

caching._CacheLocator.ensure_cache_path = refuse
from spectramind_nb.detector import streaming
from spectramind_nb.operations.selftest import compiled_code
print(os.environ["NUMBA_CACHE_DIR"])
print(compiled_code())
"""


@pytest.mark.parametrize("given", [None, "/proc/nowhere"])
def test_compiled_code_falls_back_to_a_temporary_cache(home: Path, given: str | None) -> None:
    (home / "tmp").mkdir()
    variables = {**os.environ, "TMPDIR": str(home / "tmp"), **({"NUMBA_CACHE_DIR": given} if given else {})}
    code = READ_ONLY.format(scratch=str(home / "tmp"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False)
    folder, check = done.stdout.splitlines() or ("", done.stderr)
    assert folder.startswith(str(home / "tmp/spectramind-numba-")) and Path(folder).is_dir(), done.stderr
    assert "state='warn'" in check and "kept among the temporary files" in check


def test_an_environment_among_the_temporary_files_is_no_temporary_cache(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spectramind_nb.operations import selftest

    monkeypatch.setenv("TMPDIR", str(home))
    monkeypatch.setattr(selftest, "cache_folder", lambda: home / "venv/core/__pycache__")
    assert selftest.compiled_code().state == "ok"
    monkeypatch.setattr(selftest, "cache_folder", lambda: home / "spectramind-numba-0/core_1")
    assert selftest.compiled_code().state == "warn"


@pytest.mark.slow
def test_a_long_temporary_folder_starts_kernels_as_ever(home: Path) -> None:
    for name in ("00_calibration", "02_transit"):
        write_stage(home / "nbs", name)
    long = home / ("t" * 99)
    long.mkdir()
    with start(home / "nbs", "run", "--raw", "mine", cwd=home, env={**os.environ, "TMPDIR": str(long)}) as process:
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, out + err


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (28, "free space"),
        (13, "choose a writable"),
        (30, "choose a writable"),
        (36, "shorter path"),
        (None, "run again"),
    ],
)
def test_an_error_of_the_system_is_reported_as_what_it_is(home: Path, number: int | None, fix: str) -> None:
    error = OSError(number, os.strerror(number)) if number else OSError("AF_UNIX path too long")
    assert fix in os_fix(error)
    with pytest.raises(ContractError, match=fix), atomic_path(home / "x"):
        raise error


# Settings of Jupyter, IPython and matplotlib


CHECKED = """import sys, matplotlib
from matplotlib import pyplot as plt
assert plt.rcParams["text.usetex"] is False and plt.rcParams["font.family"] == ["sans-serif"], plt.rcParams
assert "inline" in matplotlib.get_backend(), matplotlib.get_backend()
(Path(run_dir) / "python.txt").write_text(sys.executable)
plt.plot([1, 2])"""


def hostile_settings(home: Path) -> dict[str, str]:
    """A user's folders with settings that stop a notebook, each by its variable."""
    (home / "mpl").mkdir()
    rc = "text.usetex: True\nfont.family: No Such Font\nbackend: TkAgg\nno.such.key: 1\n"
    (home / "mpl/matplotlibrc").write_text(rc)
    (home / "matplotlibrc").write_text(rc)
    spec = home / "jupyter/kernels/python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        '{"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}'
    )
    startup = home / "ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("import os; os._exit(3)")
    (startup.parent / "ipython_config.py").write_text("raise SystemExit(4)")
    (startup.parent / "ipython_kernel_config.py").write_text("c.IPKernelApp.exec_lines = ['import os; os._exit(5)']")
    (home / "startup.py").write_text("import os; os._exit(6)")
    return {
        **{"MPLCONFIGDIR": str(home / "mpl"), "MATPLOTLIBRC": str(home / "mpl"), "MPLBACKEND": "foo"},
        **{
            "JUPYTER_PATH": str(home / "jupyter"),
            "JUPYTER_PREFER_ENV_PATH": "0",
            "JUPYTER_DATA_DIR": str(home / "jupyter"),
        },
        **{"IPYTHONDIR": str(home / "ipython"), "PYTHONSTARTUP": str(home / "startup.py")},
        **{"JUPYTER_RUNTIME_DIR": "/proc/nowhere"},
    }


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3], ids=["cold", "warm"])
def test_a_stage_does_not_depend_on_settings_of_the_user(home: Path, count: int) -> None:
    for name in ("01_features", "02_transit", "06_training")[:count]:
        write_stage(home / "nbs", name, CHECKED)
    how = {"cwd": home, "env": {**os.environ, **hostile_settings(home)}}
    with start(home / "nbs", "run", "--raw", "mine", before=LIGHT, **how) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert (home / "runs/mine/python.txt").read_text() == sys.executable
    assert not list((home / "runs/mine").rglob("*.kernel*"))


OWN_MODULES = ("signal", "threading", "subprocess", "queue", "random", "socket", "pickle", "struct")
CHILDREN = """import subprocess
from spectramind_nb.cli.calls import prepare_process
from spectramind_nb.core.lifetime import process_pool, run_bound
if __name__ == "__main__":
    print(run_bound(["echo", "bound"], stdout=subprocess.PIPE).stdout.strip())
    prepare_process()
    with process_pool(1) as pool:
        print(*pool.map(abs, [-3]))"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no PYTHONSAFEPATH")
def test_modules_of_the_working_folder_are_not_read(home: Path) -> None:
    """A user's own `signal.py` or `queue.py` stopped workers, kernels and bound programs."""
    for name in OWN_MODULES:
        (home / f"{name}.py").write_text("raise SystemExit(3)")
    (home / "bin").mkdir()
    (home / "bin/code.py").write_text(CHILDREN)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "bin/code.py"]
    done = subprocess.run(words, cwd=home, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["bound", "3"], done.stderr


# Ranges


def test_every_number_has_a_range() -> None:
    numbers = set()
    for words in ([f"{group}={name}"] for group, names in GROUPS.items() for name in names):
        for key, value in flatten(compose(words)).items():
            values = value if isinstance(value, list) else [value]
            if any(isinstance(each, (int, float)) and not isinstance(each, bool) for each in values):
                numbers.add(key)
    assert {key for key in numbers if not key.startswith(REPEATED)} <= RANGES.keys()


@pytest.mark.parametrize(
    "word",
    [
        *("features.folds=1", "features.folds=-1", "features.folds=0", "+features.folds=1", "features={folds: 0}"),
        *(
            "features.airs_steps=0",
            "features.fgs1_steps=-5",
            "chain.workers=0",
            "chain.workers=-2",
            "transit.clip_sigma=0",
        ),
        *("training.rank=0", "training.rank=400", "calib.corel.alpha=0", "calib.corel.alpha=1.5", "loss.lambda_sm=-1"),
        *("model.fusion.dropout=1", "train.batch=0", "train.optim.lr=nan", "transit.sma_scatter=inf", "seed=-1"),
        *("diag.umap.neighbours=1", "data.planets=[-1]", "submission.batch_predict=0", "diag.fft.lines_mhz=[-3.0]"),
    ],
)
def test_a_number_outside_its_range_is_refused_before_anything_runs(home: Path, word: str) -> None:
    assert "is outside" in refused(spectramind("run", "--raw", "mine", word))
    assert not (home / "runs/mine").exists()


def test_a_number_in_a_file_has_the_same_range(home: Path) -> None:
    (home / "own.yaml").write_text("features: {folds: 1}\n")
    assert "features.folds: 1 is outside [2, 1000]" in refused(spectramind("run", "--raw", "mine", "-c", "own.yaml"))


# Missing modules, damaged text, narrow terminals


def test_without_locks_and_resource_the_reason_is_one_line() -> None:
    code = """import sys
sys.modules["fcntl"] = sys.modules["resource"] = None
from pathlib import Path
from spectramind_nb.cli import app, report
from spectramind_nb.pipeline import chain
print(report.summary_lines(Path("."), 1.0, 5)[-1])
try:
    with chain.run_lock(Path("run")):
        pass
except chain.UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "peak memory       0.00 GB",
        "folders can't be locked on native Windows. Fix: use WSL, Linux or macOS",
    ], done.stderr


def test_a_damaged_line_of_the_log_is_counted(home: Path) -> None:
    assert spectramind("run", "--raw", "mine").exit_code == 0
    path = home / "runs/events.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"\xff\xfe broken\n" + whole + b"\x00\x00\x00\n[1]\n\n" + whole[:40])
    append_line(path, whole.decode().strip())
    events, damaged = read_log(path)
    assert len(events) == 2 and damaged == 4
    rows = log_panel(Run(home / "runs/mine"))
    assert rows[0].args == "4 lines of events.jsonl can't be read" and [row.cmd for row in rows[1:]] == ["run", "run"]


@pytest.mark.parametrize(
    "damage", [b"\xff\xfe\x80", b"\x00" * 40, b'{"a": [1,', b""], ids=["bytes", "nul", "half", "empty"]
)
@pytest.mark.parametrize(
    "name", ["config.yaml", "01_features/manifest.json", "simulation.json", "run_hash_summary_v50.json", "timing.csv"]
)
def test_a_damaged_text_file_of_a_run_is_named_or_made_again(home: Path, name: str, damage: bytes) -> None:
    assert spectramind("run", "--raw", "mine").exit_code == 0
    (home / "runs/mine" / name).write_bytes(damage)
    done = spectramind("run", "--raw", "mine")
    assert done.exit_code == 0 or Path(name).name in refused(done), done.output


DAMAGES = (b"\xff\xfe", b"\x00" * 40, b"", b"[1]", b"null")


@pytest.mark.parametrize("damage", DAMAGES, ids=repr)
def test_a_damaged_note_on_simulated_data_says_how_to_go_on(home: Path, simulator: None, damage: bytes) -> None:
    assert spectramind("run").exit_code == 0
    (home / "runs/demo/simulation.json").write_bytes(damage)
    line = refused(spectramind("run"))
    assert "runs/demo/simulation.json: file: can't be read (" in line
    words = line.partition("Fix: spectramind ")[2].partition(" goes on")[0].split()
    assert spectramind(*words).exit_code == 0


@pytest.mark.parametrize("name", ["manifest.json", "begun.json"])
@pytest.mark.parametrize("damage", [*DAMAGES, b"{}"], ids=repr)
def test_what_a_crash_left_of_a_stage_is_made_again(home: Path, name: str, damage: bytes) -> None:
    assert spectramind("run", "--raw", "mine").exit_code == 0
    (home / "runs/mine/01_features/manifest.json").unlink()
    (home / "runs/mine/01_features" / name).write_bytes(damage)
    done = spectramind("run", "--raw", "mine")
    assert done.exit_code == 0 and "run  01_features: not finished yet" in done.output, done.output


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict"])
@pytest.mark.parametrize("words", [("config", "show", "training"), ("--help",), ("run", "--raw", "no-λ-folder")])
def test_a_terminal_without_greek_gets_replacement_characters(
    home: Path, encoding: str, words: tuple[str, ...]
) -> None:
    odd = {"PYTHONIOENCODING": encoding, "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    how = {"cwd": home, "env": {**os.environ, **odd, "COLUMNS": "12"}, "text": False}
    with start(home / "nbs", *words, **how) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == (2 if "run" in words else 0) and b"UnicodeEncodeError" not in err, err
    assert (b"?_factors" in out) == ("show" in words)


# The dashboard's server


def test_a_server_answers_to_known_names_only(home: Path) -> None:
    from starlette.testclient import TestClient

    assert spectramind("run", "--raw", "mine").exit_code == 0

    def status(host: str, names: tuple[str, ...], root: str = "", path: str = "/") -> int:
        app = make_app(home / "runs/mine", names, root)
        return TestClient(app, base_url=f"http://{host}").get(path).status_code

    strict, _ = allowed_names("127.0.0.1", [])
    assert [status(host, strict) for host in ("localhost", "127.0.0.1", "evil.org")] == [200, 200, 400]
    wide, public = allowed_names("0.0.0.0", [])
    assert public and [status(host, wide) for host in ("node7.cluster", "localhost")] == [200, 200]
    named, public = allowed_names("::", ["hub.example.org:8000", "*.lab.org"])
    assert not public
    assert [status(host, named) for host in ("hub.example.org", "a.lab.org", "evil.org", "localhost")] == [
        200,
        200,
        400,
        200,
    ]
    root = "user/me/proxy/8000/"
    assert [
        status("localhost", strict, root, path) for path in ("/", "/user/me/proxy/8000/api/bands", "/api/bands")
    ] == [200] * 3
    with pytest.raises(ConfigError, match="is no host name"):
        allowed_names("127.0.0.1", ["http://hub"])


def test_a_busy_port_offers_the_next_free_one(home: Path) -> None:
    import socket

    assert spectramind("run", "--raw", "mine").exit_code == 0
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        line = refused(spectramind("diagnose", "serve", "--run", "runs/mine", "--port", str(port)))
    free = int(line.partition("Fix: --port ")[2].split()[0])
    assert port < free <= port + 99
    line = refused(spectramind("diagnose", "serve", "--run", "runs/mine", "--host", "203.0.113.7"))
    assert "--host: 203.0.113.7:8000 is not available" in line


# Kaggle


@pytest.mark.parametrize("name", ["fit", "submit"])
def test_a_kaggle_notebook_says_what_to_attach(home: Path, name: str) -> None:
    book = nbformat.read(ROOT / f"kaggle/{name}/{name}.ipynb", as_version=4)
    cells = [cell.source for cell in book.cells if cell.cell_type == "code"]
    (home / "input/other-data").mkdir(parents=True)
    known: dict[str, Any] = {}
    exec(cells[0].replace('"/kaggle"', repr(str(home))), known)
    known |= {"Path": Path}
    look = next(cell for cell in cells if "places = " in cell)
    with pytest.raises(FileNotFoundError, match=r"input/ariel-data-challenge-2025, .*attached: other-data.*Add Input"):
        exec(look, known)
    if name == "fit":
        install = next(cell for cell in cells if "def found" in cell).partition("!cd")[0]
        with pytest.raises(FileNotFoundError, match=r"No spectramind_nb-.*attached: other-data.*kaggle pack"):
            exec(install, known)
    (home / "input/ariel-data-challenge-2025/test").mkdir(parents=True)  # a part of the competition's data
    part = {"fit": "train", "submit": "sample_submission.csv"}[name]
    with pytest.raises(FileNotFoundError, match=rf"data, with {part}, are in none of .*attached: ariel-data-challenge"):
        exec(look, known)


# The audit of labels


def test_a_thousand_labels_are_audited_in_seconds() -> None:
    import numpy as np

    from spectramind_nb.rules.auditor import audit
    from spectramind_nb.rules.rule_table import read_rules

    spectra = np.tile(read_rules().example, (1000, 1)) * np.random.default_rng(0).uniform(0.5, 1.5, (1000, 1))
    begun = time.process_time()
    assert len(audit(range(1000), spectra, kelvin=np.full(1000, 900.0))) == 1000
    assert time.process_time() - begun < 9


# Start


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_the_command_starts_without_large_libraries(word: str) -> None:
    code = f"""import sys
from spectramind_nb.cli import app
try:
    app.app([{word!r}], prog_name="spectramind")
except SystemExit:
    pass
large = ("torch", "numpy", "pandas", "numba", "hydra", "papermill", "matplotlib")
print([name for name in large if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("given", "cores"), [(None, 3), ("1", 1), ("8", 3)])
def test_threads_are_as_many_as_the_usable_cores(
    given: str | None, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delenv(WORKERS, raising=False)
    if given:
        monkeypatch.setenv(WORKERS, given)
    assert usable_cores() == cores
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delenv(WORKERS, raising=False)
    assert usable_cores() == 64


def test_a_kernel_knows_the_workers_of_its_run(home: Path) -> None:
    write_stage(home / "nbs", "01_features", f"import os\nassert os.environ[{WORKERS!r}] == '1'")
    assert spectramind("run", "--raw", "mine", "--workers", "1").exit_code == 0
    assert WORKERS not in os.environ
