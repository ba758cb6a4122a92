"""Runs notebooks: a whole one in a fresh kernel, or its examples in this process."""

import contextlib
import importlib
import io
import os
import re
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from spectramind_nb.lib.warm_kernels import warm_kernels

NBS = Path(__file__).parents[1] / "nbs"


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook, executed from top to bottom in a fresh kernel."""
    book = nbformat.read(path, as_version=4)
    with warm_kernels():
        NotebookClient(book, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    return book


def run_examples(path: Path) -> int:
    """Run the cells of a notebook that are not exported, in this process; returns how many ran.

    The exported module stands in for the exported cells, so that nothing is imported or compiled twice. Cells tagged
    `slow` are left out, and so are a chapter's run and all that follows it: from its call of `ensure_upstream` on.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    module, count, before = None, 0, Path.cwd()
    os.chdir(path.parent)
    try:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "code" or "slow" in cell.metadata.get("tags", []):
                continue
            if named := re.search(r"#\| *default_exp +(\S+)", cell.source):
                module = importlib.import_module(f"spectramind_nb.{named[1]}")
            elif re.search(r"^#\| *export", cell.source, re.MULTILINE):
                names |= {name: value for name, value in vars(module).items() if not name.startswith("__")}
            elif re.search(r"^[^#\n]*\bensure_upstream\(", cell.source, re.MULTILINE):
                break
            else:
                plain = re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.MULTILINE)
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(plain, f"{path.name}, cell {cell.id}", "exec"), names)
                count += 1
    finally:
        os.chdir(before)
    return count
