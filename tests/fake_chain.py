"""A chain of small notebooks, and a raw folder with nothing in it, for the tests of chain and command line."""

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from spectramind_nb.cli import app as cli
from spectramind_nb.pipeline import stages
from spectramind_nb.pipeline.config import compose, section

WRITE = "from pathlib import Path\n(Path(run_dir) / {stage!r} / 'artifacts' / 'sum.txt').write_text(str({sum}))"


@functools.cache
def own_section(stage: str) -> dict[str, Any]:
    return section(compose(), stage)


def write_stage(
    notebooks: Path, stage: str, *cells: str, common: tuple[str, ...] = ("run_dir",), extra: str = ""
) -> Path:
    """A notebook that declares its section's parameters and writes one artifact, then runs `cells`."""
    own = own_section(stage)
    lines = [*(f"{name} = ''" for name in common), *(f"{name} = {value!r}" for name, value in own.items()), extra]
    total = " + ".join(["1", *(f"len(str({name}))" for name in own)])
    sources = ["\n".join(lines), WRITE.format(stage=stage, sum=total), *cells]
    blank = {"cell_type": "code", "outputs": [], "execution_count": None}
    written = [{**blank, "id": f"c{k}", "metadata": {}, "source": text} for k, text in enumerate(sources)]
    written[0]["metadata"] = {"tags": ["parameters"]}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebooks.mkdir(parents=True, exist_ok=True)
    path = notebooks / f"{stage}.ipynb"
    path.write_text(json.dumps({"cells": written, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return path


def write_raw(folder: Path) -> Path:
    """A raw folder in outline: one table, two planets."""
    for planet in (7, 8):
        (folder / "test" / str(planet)).mkdir(parents=True, exist_ok=True)
        (folder / "test" / str(planet) / "FGS1_signal_0.parquet").write_text("…")
    (folder / "adc_info.csv").write_text("x\n1\n")
    return folder


def spectramind(*words: str) -> Result:
    """Call the command in this process."""
    return CliRunner().invoke(cli.app, list(words), prog_name="spectramind")


def enter_work_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that holds one notebook, which is all that the chain has, and a raw folder."""
    monkeypatch.chdir(folder)
    write_stage(folder / "nbs", "01_features")
    write_raw(folder / "mine")
    monkeypatch.setattr(stages, "notebooks_folder", lambda: folder / "nbs")
    return folder


COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes programs in the background ignore it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this
from pathlib import Path
from spectramind_nb.cli import app as cli
from spectramind_nb.pipeline import stages
stages.notebooks_folder = lambda: Path({notebooks!r})
{before}
cli.main()
"""


@contextmanager
def start(notebooks: Path, *words: str, before: str = "", **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """The `spectramind` command as a process of its own, on the notebooks in a folder; killed where it did not end."""
    code = COMMAND.format(notebooks=str(notebooks), before=before)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, *words], **{**pipes, **options}) as process:
        try:
            yield process
        finally:
            process.kill()


def refused(result: Result) -> str:
    """The one line on stderr of a call that was refused."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and "Fix: " in line
    return line
