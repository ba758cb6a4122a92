"""The specification's quick start, word for word; only the demo is smaller, and training is shorter."""

import os
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from spectramind_nb.cli import app as cli
from spectramind_nb.core.contracts import read_submission
from spectramind_nb.network.weights import read_network
from spectramind_nb.operations import selftest_deep
from spectramind_nb.pipeline import chain, config
from spectramind_nb.pipeline.provenance import read_events

QUICK_START = """\
spectramind --version
spectramind selftest --deep
spectramind train --phase mae
spectramind train --phase supervised +loss.λ_sm=0.2 +model.fusion.type=cross-attend
spectramind predict --out-csv outputs/submission.csv
spectramind calibrate-temp
spectramind calibrate-corel
spectramind submit bundle --submission outputs/submission.csv --out-zip outputs/submission_bundle.zip
spectramind diagnose dashboard --html outputs/diagnostics/v1.html
"""


def say(line: str) -> Result:
    result = CliRunner().invoke(cli.app, line.split()[1:], prog_name="spectramind")
    assert result.exit_code == 0, f"{line}\n{result.output}"
    return result


@pytest.fixture(scope="module")
def home(example_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the quick start was typed, from nothing."""
    home, run_chain, shipped = tmp_path_factory.mktemp("home"), chain.run_chain, config.CONFIGS
    short = Path(shutil.copytree(shipped, home / "configs"))
    shipped = (short / "train/shipped.yaml").read_text().replace("epochs: 4", "epochs: 1").replace("4000", "64")
    (short / "train/shipped.yaml").write_text(shipped)
    taken = shutil.ignore_patterns(".lock")

    def smaller(cfg: Any, run: str | Path, **how: Any) -> Any:
        """The chain; for the demo's raw frames and fits those of the example."""
        if not Path(run).exists():
            shutil.copytree(example_run, run, copy_function=os.link, ignore=taken)
            return [SimpleNamespace(manifest={"duration_s": 0.0})]
        return run_chain(cfg, run, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(config, "CONFIGS", short)
        for module in (chain, selftest_deep):
            patch.setattr(module, "run_chain", smaller)
        said = [say(line).stdout for line in QUICK_START.splitlines()]
    (home / "said.txt").write_text("\n".join(said), encoding="utf-8")
    return home


def test_every_command_leaves_what_it_promises(home: Path) -> None:
    assert len(read_submission(home / "outputs/submission.csv").mu) == 4
    with zipfile.ZipFile(home / "outputs/submission_bundle.zip") as archive:
        assert {"submission.csv", "manifest.json", "runtime.csv"} <= {*archive.namelist()}
        assert archive.read("submission.csv") == (home / "outputs/submission.csv").read_bytes()
    assert (home / "outputs/diagnostics/v1.html").stat().st_size > 400_000
    events = [event["cmd"] for event in read_events(home / "runs/events.jsonl")]
    words = [line.split()[1] for line in QUICK_START.splitlines()[1:]]
    assert events == [*words[:-1], "dashboard"]


def test_each_training_is_kept_or_says_why_not(home: Path) -> None:
    """A file of weights holds what was learned; a training without a gain on held-out planets leaves none."""
    said = (home / "said.txt").read_text(encoding="utf-8")
    assert "runs/demo has not come to 05_symbolic: this is done first" in said
    begun = [line.split()[-1] for line in said.splitlines() if line.startswith("begins with")]
    ends = ("kept              nothing", "weights           ")  # how train ends: undone, or with a file
    verdicts = [line.startswith(ends[1]) for line in said.splitlines() if line.startswith(ends)]
    assert len(verdicts) == 2 and begun[0] == "laptop"
    assert begun[1] == ("network.safetensors" if verdicts[0] else "laptop")
    kept = [phase for phase, verdict in zip(("mae", "supervised"), verdicts, strict=True) if verdict]
    assert (home / "network.safetensors").exists() == bool(kept)
    if kept:
        weights = read_network(home / "network.safetensors")
        assert weights.about["phases"] == kept[-1]
        assert (weights.network.options.fusion == "cross_attend") == ("supervised" in kept)
    assert not list(home.glob("*.checkpoints"))
