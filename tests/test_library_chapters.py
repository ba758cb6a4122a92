"""Whole library notebooks in fresh kernels, as test_chapters.py holds the chapters."""

from pathlib import Path

import nbformat
import pytest
from notebooks import NBS, execute, faults, is_covered

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", sorted(path.stem for path in (NBS / "lib").glob("*.ipynb") if not is_covered(path)))
def test_a_library_notebook_shows_what_is_committed(name: str, copied: Path) -> None:
    path = Path("lib") / f"{name}.ipynb"
    assert not faults(execute(copied / path), nbformat.read(NBS / path, as_version=4))
