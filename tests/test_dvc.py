"""`dvc repro` from a clean clone: raw frames to dashboard, and nothing to do the second time."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from spectramind_nb.core.contracts import read_submission
from spectramind_nb.pipeline.provenance import imported_modules
from spectramind_nb.pipeline.stages import find_manifests

ROOT = Path(__file__).parents[1]
LEAST = """
simulate: {planets: 12, test_planets: 1, frames: tiny, seed: 1337}
settings: features.folds=6 diag.skip_heavy_diag=true
training: train.epochs=1 train.pairs=64
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git knows, in a repository of their own, with the least that the chain accepts as parameters."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    home = tmp_path_factory.mktemp("dvc") / "clone"
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, home / name)
    for compiled in (ROOT / "spectramind_nb").rglob("*.nb[ci]"):  # by numba, for files of the same time and size
        copy = home / compiled.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy2(compiled, copy)
    (home / "params.yaml").write_text(LEAST)
    subprocess.run(["git", "init", "--quiet"], cwd=home, check=True)
    return home


def run(home: Path, *words: str) -> str:
    """What a command says, with the clone's package in place of the installed one."""
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "PYTHONPATH": str(home), "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-m", *words], cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_clone_reproduces_everything_once(clone: Path) -> None:
    first = run(clone, "dvc", "repro")
    assert "Running stage 'simulate'" in first and "Running stage 'diagnose'" in first
    assert len(read_submission(clone / "outputs/submission.csv").mu) == 1
    assert [*clone.glob("data/calibrated/airs_*.npz")] and len([*clone.glob("data/features/fgs1_white_*.npz")]) == 13
    assert (clone / "outputs/checkpoints/network.safetensors").is_file() and "held out" in first
    assert "<html" in (clone / "outputs/diagnostics/v1.html").read_text(encoding="utf-8")[:1000]
    assert json.loads((clone / "outputs/expectation.json").read_text())["planets"] == 12
    numbers = [name[:2] for name in find_manifests(clone / "outputs/run")]
    assert numbers == [f"{number:02d}" for number in range(10)]
    seconds = {name: manifest["finished"] for name, manifest in find_manifests(clone / "outputs/run").items()}

    again = run(clone, "dvc", "repro")
    assert "Running stage" not in again and again.count("didn't change, skipping") == 7

    book = clone / "nbs/01_features.ipynb"
    book.write_text(book.read_text(encoding="utf-8") + "\n", encoding="utf-8")  # a change that changes no result
    assert "Running stage 'features'" in run(clone, "dvc", "repro", "--single-item", "features")
    assert seconds == {name: manifest["finished"] for name, manifest in find_manifests(clone / "outputs/run").items()}


def test_raw_frames_depend_on_all_that_simulates_them() -> None:
    """And on nothing else: they are simulated anew, not resumed."""
    found, queue = set[str](), ["spectramind_nb.simulator.data_sets"]
    while queue:
        name = queue.pop()
        path = ROOT / f"{name.replace('.', '/')}.py"
        if path.is_file() and name not in found:
            found.add(name)
            queue += imported_modules(path.read_text(encoding="utf-8"), name.rpartition(".")[0])
    wanted = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["simulate"]["deps"]
    assert {name.replace(".", "/") + ".py" for name in found} == {name for name in wanted if name.endswith(".py")}


def test_stages_are_the_specifications() -> None:
    """Its five stages in order, each with its command and its outs."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    expected = {
        "calibrate": ("spectramind run", "data/calibrated"),
        "features": ("spectramind run", "data/features"),
        "train": ("spectramind train --phase supervised", "outputs/checkpoints"),
        "predict": ("spectramind predict", "outputs/submission.csv"),
        "diagnose": ("spectramind diagnose dashboard", "outputs/diagnostics/v1.html"),
    }
    assert [name for name in stages if name in expected] == [*expected]
    made = ["data/raw"]
    for name, (command, out) in expected.items():
        assert command in stages[name]["cmd"] and out in stages[name]["outs"], name
        assert made[-1] in stages[name]["deps"], f"{name} depends on {made[-1]}"
        made.append(out)
    assert "data/features" in stages["predict"]["deps"]
