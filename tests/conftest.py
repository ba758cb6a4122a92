"""What several test modules share: one tiny simulated data set, and small examples for property tests."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: small matrices are slower on several threads

import shutil
from pathlib import Path

import pytest
from hypothesis import settings
from notebooks import NBS

from spectramind_nb.lib.raw import RawFolder
from spectramind_nb.lib.simulator import simulate_dataset

settings.register_profile("small", max_examples=20, deadline=None, database=None, derandomize=True)
settings.load_profile("small")


# begun first, or one worker ends alone
SLOW = ("test_chapters.py", "test_dashboard.py", "test_dvc.py", "test_library_chapters.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW))


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book away from the checkout, so that its runs are left nowhere."""
    return Path(shutil.copytree(NBS, tmp_path_factory.mktemp("book") / "nbs"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> RawFolder:
    """Raw data of one training planet and two test planets; the second test planet has two visits. Never to be
    changed: tests that spoil files work on a copy.
    """
    root = tmp_path_factory.mktemp("tiny") / "raw"
    simulate_dataset(root, planets=1, test_planets=2, seed=13, frames="tiny", workers=2)
    return RawFolder(root)
