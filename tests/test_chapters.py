"""Whole notebooks in fresh kernels, without a warning; they show what is committed, and no picture is blank.

Those of which the fast set has run every cell (test_examples.py) are left out.
"""

import shutil
from pathlib import Path

import nbformat
import pytest
from notebooks import NBS, execute, faults, is_covered, name_of

pytestmark = pytest.mark.slow

STAGES = sorted(NBS.glob("[0-9][0-9]_*.ipynb"))  # the chain runs these, so the example's run has them executed
OTHERS = sorted(path for path in NBS.glob("*/*.ipynb") if not is_covered(path))


@pytest.fixture(scope="module")
def book(copied: Path, example_run: Path) -> Path:
    """The book with the run that its chapters look for."""
    shutil.copytree(example_run, copied.parent / "runs" / "example")
    return copied


@pytest.mark.parametrize("name", [path.stem for path in STAGES])
def test_a_stage_shows_what_is_committed(name: str, example_run: Path) -> None:
    executed = nbformat.read(example_run / name / "notebook.ipynb", as_version=4)
    executed.cells = [cell for cell in executed.cells if "\nexplore(" not in cell.source]  # depends on an earlier run
    assert not faults(executed, nbformat.read(NBS / f"{name}.ipynb", as_version=4))


@pytest.mark.parametrize("name", [name_of(path) for path in OTHERS if "ensure_upstream" not in path.read_text()])
def test_a_notebook_shows_what_is_committed(name: str, copied: Path) -> None:
    assert not faults(execute(copied / f"{name}.ipynb"), nbformat.read(NBS / f"{name}.ipynb", as_version=4))


@pytest.mark.parametrize("name", [name_of(path) for path in OTHERS if "ensure_upstream" in path.read_text()])
def test_a_notebook_that_reads_a_run_shows_what_is_committed(name: str, book: Path) -> None:
    assert not faults(execute(book / f"{name}.ipynb"), nbformat.read(NBS / f"{name}.ipynb", as_version=4))
