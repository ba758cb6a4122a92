"""Runs a notebook from top to bottom in a fresh kernel."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from spectramind_nb.lib.warm_kernels import warm_kernels

NBS = Path(__file__).parents[1] / "nbs"


def execute(path: Path) -> nbformat.NotebookNode:
    """The executed notebook; it has written nothing to stderr."""
    book = nbformat.read(path, as_version=4)
    with warm_kernels():
        NotebookClient(book, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    stderr = [
        output.text for cell in book.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    ]
    assert not stderr, stderr
    return book
