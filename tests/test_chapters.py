"""Every chapter runs from top to bottom in a fresh kernel, on its own small data, without a warning."""

from pathlib import Path

import pytest
from notebooks import NBS, execute

CHAPTERS = sorted(NBS.glob("[0-9][0-9]*.ipynb"), reverse=True)  # the last first: it has to make all that it needs


@pytest.mark.parametrize("name", [path.stem for path in CHAPTERS])
def test_chapter_runs_alone_and_shows_pictures(name: str, copied: Path) -> None:
    book = execute(copied / f"{name}.ipynb")
    pictures = [o for cell in book.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert pictures, "a chapter shows what it did"
