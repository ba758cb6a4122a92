"""Every chapter runs from top to bottom in a fresh kernel, on its own small data, without a warning."""

import shutil
from pathlib import Path

import pytest
from notebooks import NBS, execute

CHAPTERS = sorted(NBS.glob("[0-9][0-9]*.ipynb"), reverse=True)  # the last first: what it needs is as the run left it


@pytest.fixture(scope="module")
def book(copied: Path, example_run: Path) -> Path:
    """The book with the run that its chapters look for; each writes its own stage of it again."""
    shutil.copytree(example_run, copied.parent / "runs" / "example")
    return copied


@pytest.mark.parametrize("name", [path.stem for path in CHAPTERS])
def test_chapter_runs_alone_and_shows_pictures(name: str, book: Path) -> None:
    executed = execute(book / f"{name}.ipynb")
    pictures = [o for cell in executed.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert pictures, "a chapter shows what it did"
