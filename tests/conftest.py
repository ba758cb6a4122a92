"""What several test modules share: one tiny simulated data set, and small examples for property tests."""

import os

# Before numpy: every core has its own worker, and small work is slower on several threads.
for threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

from spectramind_nb.pipeline.warm_kernels import skip_slow_imports

skip_slow_imports()  # before nbformat

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings
from notebooks import NBS
from numba.core.event import TimingListener, install_listener
from typer.testing import CliRunner

from spectramind_nb.cli import app as cli
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.pipeline.chain import run_lock
from spectramind_nb.simulator.data_sets import simulate_dataset

settings.register_profile("small", max_examples=20, deadline=None, database=None, derandomize=True)
settings.load_profile("small")


# What these fixtures make takes minutes, so whatever asks for them is of the slow set.
SLOW_FIXTURES = {"example_run": "e2e", "kaggle_root": "e2e", "clone": "e2e", "browser": "browser"}
# Begun first, or one worker ends alone: while one makes the example's run, the other does what needs none.
LONG_FILES = (
    *("test_chapters.py", "test_dvc.py", "test_runbooks.py", "test_kaggle.py", "test_dashboard.py"),
    *("test_reproduce.py", "test_quick_start.py", "test_examples.py", "test_chain.py", "test_predict.py"),
)
MOST_SECONDS = 10.0  # of processor time that a test of the fast set may take


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in SLOW_FIXTURES.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
            item.add_marker(SLOW_FIXTURES[fixture])
    items.sort(key=lambda item: LONG_FILES.index(item.path.name) if item.path.name in LONG_FILES else len(LONG_FILES))


def processor_seconds() -> float:
    """Processor time of this process and of those that it has waited for, which other work does not lengthen."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test of the fast set that takes too long; what numba compiles, once for all tests, is not counted."""
    begun, compiling = processor_seconds(), TimingListener()
    with install_listener("numba:compile", compiling):
        outcome = yield
    seconds = processor_seconds() - begun - (compiling.duration if compiling.done else 0.0)
    if seconds > MOST_SECONDS and not item.get_closest_marker("slow"):
        pytest.fail(f"took {seconds:.1f} s of processor time: make it smaller, or mark it slow", pytrace=False)
    return outcome


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is made once, for all workers."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"


@pytest.fixture(scope="session")
def example_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of profile `example`, by the command, with the events beside it: made once, for all workers. Never to
    be changed: tests work on a copy.
    """
    shared = shared_folder(tmp_path_factory)
    run = shared / "runs" / "example"
    with run_lock(shared / "lock", wait=True):
        if not (run / "run_hash_summary_v50.json").is_file():
            words = ["run", "--profile", "example", "--run-dir", str(run)]
            said = CliRunner().invoke(cli.app, words, prog_name="spectramind")
            assert said.exit_code == 0, said.output
    return run


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book away from the checkout, so that its runs are left nowhere."""
    return Path(shutil.copytree(NBS, tmp_path_factory.mktemp("book") / "nbs"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> RawFolder:
    """Raw data of one training planet and two test planets; the second test planet has two visits. Never to be
    changed: tests that spoil files work on a copy.
    """
    root = shared_folder(tmp_path_factory) / "tiny"
    with run_lock(root.with_name("tiny-lock"), wait=True):
        if not root.is_dir():
            making = root.with_name("tiny-making")
            simulate_dataset(making, planets=1, test_planets=2, seed=13, frames="tiny", workers=2)
            making.rename(root)
    return RawFolder(root)
