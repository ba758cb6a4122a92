"""Every library chapter runs from top to bottom in a fresh kernel, without a warning."""

from pathlib import Path

import pytest
from notebooks import NBS, execute


@pytest.mark.parametrize("name", sorted(path.stem for path in (NBS / "lib").glob("*.ipynb")))
def test_library_chapter_runs(name: str, copied: Path) -> None:
    execute(copied / "lib" / f"{name}.ipynb")
