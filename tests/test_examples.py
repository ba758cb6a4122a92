"""The examples of every notebook hold: its cells run in this process, and what they assert is true."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from notebooks import LONG, NBS, faults, name_of, run_examples

NOTEBOOKS = sorted(path.relative_to(NBS) for path in NBS.rglob("*.ipynb") if name_of(path) not in LONG | {"index"})


@pytest.fixture(autouse=True)
def no_figures_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.mark.parametrize("name", NOTEBOOKS, ids=lambda path: path.with_suffix("").as_posix())
def test_examples_hold(name: Path, copied: Path) -> None:
    run_examples(copied / name)


def test_a_false_example_is_found(tmp_path: Path) -> None:
    book = nbformat.read(NBS / "core/metric.ipynb", as_version=4)
    book.cells.append(nbformat.v4.new_code_cell("assert SIGMA_FLOOR > 1"))
    nbformat.write(book, tmp_path / "wrong.ipynb")
    with pytest.raises(AssertionError):
        run_examples(tmp_path / "wrong.ipynb")


def blank() -> str:
    """A white PNG, in base64."""
    stream = io.BytesIO()
    plt.imsave(stream, np.ones((20, 20, 3)))
    return base64.b64encode(stream.getvalue()).decode()


def test_other_outputs_and_blank_pictures_are_found() -> None:
    book = nbformat.read(NBS / "figures/picture.ipynb", as_version=4)
    (cell,) = (cell for cell in book.cells if any("image/png" in o.get("data", {}) for o in cell.get("outputs", [])))
    assert not faults(book, book)
    for outputs, said in (([], "shows []"), ([{**cell.outputs[0], "data": {"image/png": blank()}}], "a blank picture")):
        other = [{**each, "outputs": outputs} if each.id == cell.id else each for each in book.cells]
        (fault,) = faults(nbformat.from_dict({**book, "cells": other}), book)
        assert said in fault
