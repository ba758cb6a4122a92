"""What Kaggle is sent, and a rehearsal of what happens there: its folders, no network, a fresh environment."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from typer.testing import CliRunner, Result

from spectramind_nb.cli import app as cli
from spectramind_nb.core.contracts import Submission, read_submission
from spectramind_nb.core.metric import DEFAULT_REFERENCE
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.network.fine_tuning import usable_device
from spectramind_nb.operations import kaggle_pack
from spectramind_nb.pipeline.predict import population
from spectramind_nb.simulator.data_sets import simulate_dataset

KAGGLE = Path(__file__).parents[1] / "kaggle"
KERNELS = sorted(KAGGLE.glob("*/kernel-metadata.json"))
# Another interpreter, with the versions of Kaggle's image; by default the one that runs the tests.
PYTHON = os.environ.get("SPECTRAMIND_KAGGLE_PYTHON", sys.executable)
LEFT_OUT = (
    "spectramind|hydra|antlr4|torch_geometric|xxhash|zuko|exoplanet|taurex|acepython|fastapi|uvicorn|nbdev|fastcore"
)
DROPPED = ("PYTHONPATH", "PIP_FIND_LINKS", "KAGGLE_IS_COMPETITION_RERUN")
BARE = {key: value for key, value in os.environ.items() if key not in DROPPED}
REFUSE = """
import socket
plain = socket.socket.connect
def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError("the network is refused in this rehearsal")
    return plain(self, address)
socket.socket.connect = connect
"""


def invoke(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["kaggle", "pack", *words], prog_name="spectramind")


def asked(code: str, python: str = PYTHON) -> str:
    words = [python, "-I", "-c", code]  # isolated: not from the folder that the tests run in
    return subprocess.run(words, env=BARE, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def kaggle_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kaggle's folders: the competition with 14 training and 3 hidden planets, and the data set."""
    kaggle_root = tmp_path_factory.mktemp("kaggle")
    version = asked("import sys; print('%d.%d' % sys.version_info[:2])")
    result = invoke("--out", str(kaggle_root / "input/spectramind-v50"), "--python", version)
    if "pip could not get it" in result.stderr:
        pytest.skip("no package index can be reached")
    assert result.exit_code == 0, result.output
    raw = kaggle_root / "input/competitions/ariel-data-challenge-2025"
    simulate_dataset(raw, planets=14, test_planets=3, seed=5, frames="tiny", workers=2)
    (raw / "truth.csv").unlink()
    return kaggle_root


@pytest.fixture(scope="module")
def away(kaggle_root: Path) -> Path:
    """A fresh environment: the packages of Kaggle's image as far as they are here, none of what is sent, no network."""
    home = kaggle_root / "venv"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(home)], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    farm = kaggle_root / "image"
    farm.mkdir()
    for path in Path(asked("import sysconfig; print(sysconfig.get_paths()['purelib'])")).iterdir():
        if path.suffix != ".pth" and not re.match(f"_*({LEFT_OUT})", path.name):
            (farm / path.name).symlink_to(path)
    (site / "image.pth").write_text(f"{farm}\n")
    (site / "sitecustomize.py").write_text(REFUSE)
    return home


def execute(
    away: Path, kaggle_root: Path, name: str, rerun: bool = False, bin_: Path | None = None, **parameters: object
) -> Path:
    """Execute a notebook as Kaggle would, with its commands in `bin_`; the executed one."""
    env = BARE | {"PATH": f"{bin_ or away / 'bin'}:{os.defpath}", "HOME": str(kaggle_root)}
    env |= {"KAGGLE_IS_COMPETITION_RERUN": "1"} if rerun else {}
    working, out = kaggle_root / "working", kaggle_root / f"{name}.ipynb"
    shutil.rmtree(working, ignore_errors=True)
    working.mkdir()
    given = [word for key, value in ({"kaggle": kaggle_root} | parameters).items() for word in ("-p", key, str(value))]
    words = [away / "bin/python", "-m", "papermill", KAGGLE / name / f"{name}.ipynb", out, "-k", "python3", *given]
    done = subprocess.run([*map(str, words)], cwd=working, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def fitted(away: Path, kaggle_root: Path) -> Path:
    """What the notebook fit has left, attached."""
    execute(away, kaggle_root, "fit", workers=2)
    working = kaggle_root / "working"
    assert [path.name for path in working.iterdir()] == ["run"]
    return Path(shutil.move(working / "run", kaggle_root / "input/spectramind-v50-fit/run"))


def test_fit_leaves_a_small_run_that_knows_its_training_planets(fitted: Path, away: Path) -> None:
    code = "import hydra, zuko, exoplanet_core, spectramind_nb as s; print(zuko.__file__, s.__file__)"
    assert all(str(away) in place for place in asked(code, str(away / "bin/python")).split())
    assert sum(path.stat().st_size for path in fitted.rglob("*") if path.is_file()) < 10e6
    plan = json.loads((fitted / "00_calibration/artifacts/plan.json").read_text())
    assert len(plan["planets"]["train"]) == 14 and plan["planets"]["test"] == []
    learned = json.loads((fitted / "06_training/artifacts/predictors.json").read_text())
    assert {*learned["factors"]} == {"gaussian", "neural"}
    assert json.loads((fitted / "07_uncertainty/artifacts/temperature.json").read_text())


def test_submit_predicts_the_hidden_planets_and_names_the_one_that_fails(
    fitted: Path, away: Path, kaggle_root: Path
) -> None:
    raw = RawFolder(kaggle_root / "input/competitions/ariel-data-challenge-2025")
    hidden = raw.planets_on_disk("test")
    (raw.root / f"test/{hidden[1]}/AIRS-CH0_signal_0.parquet").write_bytes(b"spoilt")
    execute(away, kaggle_root, "submit", rerun=True, workers=2)
    found, reference = read_submission(kaggle_root / "working/submission.csv"), population(fitted)
    assert found.planet_id.tolist() == hidden
    lost = (found.mu == reference.mean).all(axis=1)
    assert lost.tolist() == [False, True, False] and np.all(found.sigma[1] == reference.std)
    assert np.all(np.median(found.sigma[[0, 2]], axis=1) < 0.2 * np.median(reference.std))  # those are measured
    assert f"left out: planet {hidden[1]}" in (kaggle_root / "working/v50_debug_log.md").read_text()
    assert (kaggle_root / "working/runtime.csv").is_file()


def said(book: Path) -> str:
    outputs = [output for cell in nbformat.read(book, 4).cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


def hidden_by_the_population(kaggle_root: Path) -> bool:
    """Whether the submission names every hidden planet, by the mean and spread of the challenge's training spectra."""
    found: Submission = read_submission(kaggle_root / "working/submission.csv")
    known = (found.mu == DEFAULT_REFERENCE.mean).all() and (found.sigma == DEFAULT_REFERENCE.std).all()
    hidden = RawFolder(kaggle_root / "input/competitions/ariel-data-challenge-2025").planets_on_disk("test")
    return bool(known) and found.planet_id.tolist() == hidden


def test_a_look_without_time_and_without_fit_still_leaves_a_valid_submission(
    away: Path, fitted: Path, kaggle_root: Path
) -> None:
    aside = fitted.parent.rename(kaggle_root / "aside")
    try:
        text = said(execute(away, kaggle_root, "submit", commit_hours=0))
    finally:
        aside.rename(fitted.parent)
    assert hidden_by_the_population(kaggle_root)
    assert "a look 3 planets" in text and "spectramind-v50/run" in text and "WRONG" not in text
    assert "was not reached in time" in text and "OK " in text


def command(folder: Path, script: str) -> Path:
    """A command `spectramind` of our own, whose words go to a file beside it; its folder."""
    folder.mkdir()
    path = folder / "spectramind"
    path.write_text(f'#!/bin/sh\necho "$*" >> {folder}/words\n{script}\n')
    path.chmod(0o755)
    return folder


def test_a_command_that_hangs_is_killed_and_one_that_fails_replaced(
    away: Path, fitted: Path, kaggle_root: Path
) -> None:
    """*Fit*'s run fails, the data set's hangs; the second call of that one leaves rubbish behind."""
    script = """
case "$*" in
    validate*) exit 0;;
    *kaggle_fast*) echo "planet_id,wl_1" > $7; exit 3;;
esac
[ $(wc -l < {words}) = 1 ] && exit 2
sleep 600""".format(words=kaggle_root / "hangs/words")
    bin_ = command(kaggle_root / "hangs", script)
    text = said(execute(away, kaggle_root, "submit", rerun=True, bin_=bin_, budget_hours=0, grace_hours=0.001))
    assert hidden_by_the_population(kaggle_root)
    words = [line.split() for line in (bin_ / "words").read_text().splitlines()]
    assert [line[0] for line in words] == ["predict"] * 3 + ["validate"]
    assert words[2][-6:] == ["--workers", "1", "-c", "overrides/kaggle_fast.yaml", "--budget-hours", "0"]
    for what in (
        f"with {fitted} ended with code 2",
        "was killed",
        "submission.csv can't be read",
        "some rows were none",
    ):
        assert "WRONG: " in text and what in text


def test_where_nothing_installs_there_is_a_submission(away: Path, kaggle_root: Path, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input/competitions").symlink_to(kaggle_root / "input/competitions")
    text = said(execute(away, tmp_path, "submit", rerun=True, bin_=tmp_path))
    assert hidden_by_the_population(tmp_path) and "not attached: send it again" in text


def test_training_that_takes_too_long_leaves_the_shipped_network(away: Path, fitted: Path, kaggle_root: Path) -> None:
    bin_ = command(kaggle_root / "slow", f'case "$*" in *finetune) sleep 600;; esac\ncp -r {fitted} $5')
    text = said(execute(away, kaggle_root, "fit", bin_=bin_, train="finetune", hours=0.001))
    assert "train=finetune ended with code -9: the network stays as it was sent" in text
    left = {path.relative_to(kaggle_root / "working/run"): path for path in (kaggle_root / "working/run").rglob("*.*")}
    assert left and all(path.read_bytes() == (fitted / name).read_bytes() for name, path in left.items())


def test_a_gpu_counts_if_an_operation_on_it_comes_out_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that torch was not built for is seen, and fails at the first operation."""

    class Card:
        device = torch.device("cuda")
        result: torch.Tensor | None = None

        def __matmul__(self, _: object) -> torch.Tensor:
            if self.result is None:
                raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
            return self.result

    card = Card()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", lambda *size, device: card)
    for card.result, expected in ((None, "cpu"), (torch.zeros(1), "cpu"), (torch.full((8, 8), 8.0), "cuda")):
        assert usable_device() == expected


# What nobody lists, but what is there because of what is listed.
BESIDE = {"threadpoolctl", "typer", "rich", "papermill", "ipykernel", "matplotlib", "seaborn", "astropy", "safetensors"}
BESIDE |= {"packaging", "pydantic"}


def test_every_requirement_is_in_the_image_or_sent() -> None:
    settings = ConfigParser()
    settings.read(KAGGLE.parent / "settings.ini")
    listed = [
        line
        for extra in ("", "explain_", "network_")
        for line in settings["DEFAULT"][f"{extra}requirements"].strip().splitlines()
    ]
    wanted = {one.name: one for one in map(Requirement, listed)}
    del wanted["torch-geometric"]  # predictions and training do without
    lines = (KAGGLE.parent / "docker/kaggle-constraints.txt").read_text().splitlines()
    image = {one.name: one for one in map(Requirement, (line for line in lines if line[0] != "#"))}
    homes = [{*image} - {"omegaconf"}, {*kaggle_pack.LACKING}, BESIDE]
    assert sorted(wanted) == sorted(name for home in homes for name in home), "each in exactly one of them"
    for name in {*wanted} & {*image}:
        (version,) = (one.version.replace(".*", ".0") for one in image[name].specifier)
        assert wanted[name].specifier.contains(version), f"{name} {version} is what Kaggle has"


def test_every_file_of_the_data_set_has_its_checksum(kaggle_root: Path) -> None:
    folder = kaggle_root / "input/spectramind-v50"
    sums = dict(line.split("  ")[::-1] for line in (folder / "checksums.txt").read_text().splitlines())
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {*sums} == there - {"checksums.txt", "dataset-metadata.json"}
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == known for name, known in sums.items())
    names = [path.name.split("-")[0] for path in folder.glob("*.whl")]
    wanted = ["spectramind_nb", "hydra_core", "zuko", "exoplanet_core"]
    assert sorted(names) == sorted([*wanted, "antlr4_python3_runtime"])


def test_a_wheel_made_of_an_installation_is_the_one_it_was_installed_from(
    away: Path, fitted: Path, kaggle_root: Path
) -> None:
    code = (
        "import pathlib\nfrom spectramind_nb.operations.kaggle_pack import own_wheel\nprint(own_wheel(pathlib.Path()))"
    )
    done = subprocess.run([away / "bin/python", "-c", code], cwd=kaggle_root, env=BARE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made, (sent,) = (
        kaggle_root / done.stdout.strip(),
        (kaggle_root / "input/spectramind-v50").glob("spectramind_nb-*.whl"),
    )
    contents = [{i.filename: i.CRC for i in zipfile.ZipFile(path).infolist()} for path in (made, sent)]
    record = next(name for name in contents[0] if name.endswith("RECORD"))
    assert all(content.pop(record) for content in contents) and contents[0] == contents[1]


def test_the_folder_of_another_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("...")
    result = invoke("--out", "mine")
    assert result.exit_code == 2 and "mine: folder: holds something else. Fix: name a new folder" in result.stderr
    result = invoke("--out", "new", "--run", "nowhere")
    assert result.exit_code == 2 and "plan.json: file: is missing. Fix:" in result.stderr
    monkeypatch.setattr(kaggle_pack, "own_wheel", lambda out: out / "spectramind_nb-1-py3-none-any.whl")
    monkeypatch.setattr(kaggle_pack, "wheel_requirements", lambda wheel: ["zuko"])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    result = invoke("--out", "new", "--python", "3.12")
    assert result.exit_code == 2 and "zuko for Python 3.12: pip could not get it" in result.stderr
    assert "Fix: run it where pip reaches a package index" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "runs"]


def test_metadata_keep_the_rules(kaggle_root: Path) -> None:
    """Kaggle's: read off its documentation and its command's source."""
    about = json.loads((KAGGLE / "dataset-metadata.json").read_text())
    assert about == kaggle_pack.dataset_metadata()
    assert 6 <= len(about["title"]) <= 50 and 20 <= len(about["subtitle"]) <= 80 and len(about["licenses"]) == 1
    owner, slug = about["id"].split("/")
    assert 3 <= len(slug) <= 50
    for path in KERNELS:
        kernel = json.loads(path.read_text())
        name = kernel["id"].split("/")[1]
        assert kernel["id"].startswith(f"{owner}/") and name == kernel["title"].lower().replace(" ", "-")
        assert (path.parent / kernel["code_file"]).is_file() and len(kernel["title"]) >= 5
        assert (kernel["language"], kernel["kernel_type"]) == ("python", "notebook")
        assert kernel["enable_internet"] is False and kernel["is_private"] is True
        assert kernel["competition_sources"] == ["ariel-data-challenge-2025"]
        assert kernel["dataset_sources"] == [about["id"]]
        assert kernel["enable_gpu"] == bool(kernel["machine_shape"])
    fit, submit = (json.loads(path.read_text()) for path in KERNELS)
    assert submit["kernel_sources"] == [fit["id"]] and fit["kernel_sources"] == []


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.parent.name)
def test_notebooks_are_clean(path: Path) -> None:
    book = nbformat.read(next(path.parent.glob("*.ipynb")), as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert [cell.metadata.get("tags") for cell in code].count(["parameters"]) == 1
    assert len(code) <= 2 * sum(cell.cell_type == "markdown" for cell in book.cells)
