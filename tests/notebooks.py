"""Runs notebooks: a whole one in a fresh kernel, or its examples in this process."""

import base64
import contextlib
import importlib
import io
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import numpy as np
from nbclient import NotebookClient

from spectramind_nb.pipeline.warm_kernels import INLINE, warm_kernels

NBS = Path(__file__).parents[1] / "nbs"
# These train networks or start processes for longer than a fast test may take: whole chapters run in the slow set.
LONG = {
    *("rules/rule_table", "network/trainer", "network/pretraining", "network/fine_tuning", "network/attributions"),
    *("network/latents", "transits/injection", "simulator/data_sets", "simulator/bank", "simulator/frames"),
    *(
        "network/selective_scan",
        "pipeline/chain",
        "operations/selftest",
        "prior/spectral_prior",
        "pipeline/warm_kernels",
    ),
}


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook, executed from top to bottom in a fresh kernel."""
    book = nbformat.read(path, as_version=4)
    variables = {**os.environ, "MPLBACKEND": INLINE}  # a command that a test called may have chosen another
    with warm_kernels():
        NotebookClient(book, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute(env=variables)
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
        for value in names.values():
            if isinstance(value, TemporaryDirectory):
                value.cleanup()
    return count


def name_of(path: Path) -> str:
    """The path of a notebook below nbs/, without its ending."""
    return path.relative_to(NBS).with_suffix("").as_posix()


def is_covered(path: Path) -> bool:
    """Whether `run_examples` runs all of a notebook in the fast set: it is not long, and it uses no run."""
    return name_of(path) not in LONG and not re.search(r"\bensure_upstream\(", path.read_text(encoding="utf-8"))


def is_blank(output: nbformat.NotebookNode) -> bool:
    """Whether a PNG output has one colour."""
    image = plt.imread(io.BytesIO(base64.b64decode(output["data"]["image/png"])))
    return bool(np.ptp(image.reshape(-1, image.shape[-1])[:, :3], axis=0).max() < 0.05)


def faults(executed: nbformat.NotebookNode, committed: nbformat.NotebookNode) -> list[str]:
    """Warnings, blank pictures, and outputs of another kind than the committed ones, of an executed notebook."""
    found = []
    before = {cell.id: cell for cell in committed.cells}
    for cell in (cell for cell in executed.cells if cell.cell_type == "code" and cell.id in before):
        outputs = cell.get("outputs", [])
        found += [f"{cell.id}: stderr: {one['text']}" for one in outputs if one.get("name") == "stderr"]
        pictures = [one for one in outputs if "image/png" in one.get("data", {})]
        found += [f"{cell.id}: a blank picture" for one in pictures if is_blank(one)]
        shown, wanted = (sorted({*map(kind_of, each)}) for each in (outputs, before[cell.id].get("outputs", [])))
        found += [f"{cell.id}: shows {shown}, committed is {wanted}"] if shown != wanted else []
    return found


def kind_of(output: nbformat.NotebookNode) -> str:
    """Printed text, a picture, a table or a value."""
    kinds = ("image/png", "text/html", "text/markdown", "text/plain")
    return next((kind for kind in kinds if kind in output.get("data", {})), output.output_type)
