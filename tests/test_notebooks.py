"""Every notebook runs from top to bottom in a fresh kernel, on its own small data, without a warning."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NBS = Path(__file__).parents[1] / "nbs"
LIBRARY = sorted((NBS / "lib").glob("*.ipynb"))
CHAPTERS = sorted(NBS.glob("[0-9][0-9]*.ipynb"), reverse=True)  # the last first: it has to make all that it needs


def execute(path: Path) -> nbformat.NotebookNode:
    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    return book


def assert_quiet(book: nbformat.NotebookNode) -> None:
    stderr = [
        output.text for cell in book.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    ]
    assert not stderr, stderr


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book away from the checkout, so that its runs are left nowhere."""
    return Path(shutil.copytree(NBS, tmp_path_factory.mktemp("book") / "nbs"))


@pytest.mark.parametrize("name", [path.stem for path in LIBRARY])
def test_library_chapter_runs(name: str, copied: Path) -> None:
    assert_quiet(execute(copied / "lib" / f"{name}.ipynb"))


@pytest.mark.parametrize("name", [path.stem for path in CHAPTERS])
def test_chapter_runs_alone_and_shows_pictures(name: str, copied: Path) -> None:
    book = execute(copied / f"{name}.ipynb")
    assert_quiet(book)
    pictures = [o for cell in book.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert pictures, "a chapter shows what it did"
