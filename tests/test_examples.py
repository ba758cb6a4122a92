"""The examples of every notebook hold: its cells run in this process, and what they assert is true."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib import pyplot
from notebooks import NBS, run_examples

NOTEBOOKS = sorted(path.relative_to(NBS) for path in NBS.rglob("*.ipynb") if path.stem != "index")


@pytest.fixture(autouse=True)
def no_figures_left() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.mark.parametrize("name", NOTEBOOKS, ids=lambda path: path.with_suffix("").as_posix())
def test_examples_hold(name: Path, copied: Path) -> None:
    run_examples(copied / name)


def test_a_false_example_is_found(tmp_path: Path) -> None:
    text = (NBS / "lib/metric.ipynb").read_text(encoding="utf-8")
    assert "SIGMA_FLOOR" in text
    wrong = text.replace('"cells": [', '"cells": [{"cell_type": "code", "execution_count": null, "id": "false", ', 1)
    wrong = wrong.replace(
        '"id": "false", ', '"id": "false", "metadata": {}, "outputs": [], "source": ["assert 1 > 2"]}, ', 1
    )
    (tmp_path / "wrong.ipynb").write_text(wrong, encoding="utf-8")
    with pytest.raises(AssertionError):
        run_examples(tmp_path / "wrong.ipynb")
