"""The consistency checker finds what it is there to find, and names file, line and fix."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from spectramind_nb.core import contracts
from spectramind_nb.pipeline import config, provenance

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import pipeline_consistency_checker as checker

PLANTED = {
    "spectramind_nb/configs/config_v50.yaml": [
        r"transit.knob: is missing, 02_transit.ipynb declares the parameter knob. Fix: add knob",
        r"features.newest: 01_features.ipynb has no such parameter. Fix: ",
        r"chain.patience is read by nothing",
        r"model.fusion.width is read by nothing",
        r"the specification's calib.corel.alpha is missing",
    ],
    "spectramind_nb/core/planted.py": [
        r":1: schema latent is not in contracts.SCHEMAS. Fix: did you mean 'latents'",
        r":2: features.fold is no setting. Fix: did you mean 'features.folds'",
    ],
    "spectramind_nb/core/contracts.py": ["schema spare is used by nothing"],
    "spectramind_nb/pipeline/provenance.py": ["there is no command teleport", "events have no command inject"],
    "dvc.yaml": [
        r"stage simulate: simulate.planet is not in params.yaml",
        r"stage train: spectramind run: No such option: --rawest",
        r"stage train: unknown.py is missing",
        r"nbs/02_transit.ipynb is no stage's dependency",
    ],
    "README.md": [
        r"spectramind has no command predct. Fix: did you mean 'predict'",
        r"spectramind score: Missing option '--truth'",
        r"transit.clip: unknown key. Fix: did you mean 'transit.clip_sigma'",
        r"features.fols is no setting",
        r"the link docs/nowhere.md leads nowhere",
        r"benchmarks/nowhere.py is missing",
    ],
    "docs/chapters.md": [
        r"nbs/uncertainty/corel.ipynb isn't listed. Fix: add a row for it",
        r"nbs/core/metric.ipynb isn't listed. Fix: add a row for it",
    ],
    "docs/specification.md": [
        r"Attention exported: no test proves it. Fix: name one as",
        r"Edge features.*: there is no test tests/test_graph.py::test_edges_are. Fix: did you mean",
        r"Output \(B, D\): no file is named",
        r"mamba-ssm: the difference has no reason. Fix: link to adr/0020",
        r"AMP in the encoder: 'fine' says not how it is met",
        r"the row has 3 cells. Fix: give item, where, test and how",
        r"the link ../nbs/core/metrics.ipynb leads nowhere",
    ],
    "nbs/network/graph.ipynb": ["spectramind has no command grph"],
    "kaggle/submit/submit.ipynb": [r"spectramind predict: No such option: --budgets"],
    ".github/workflows/test.yaml": ["there is no gate nonsense", "spectramind has no command selfdestruct"],
}
MORE = """
```console
$ spectramind predct --raw a   # a comment
what a command answers
$ python benchmarks/nowhere.py
```
```sh
spectramind score \\
    --submission a.csv
spectramind run transit.clip=3 | tee log
```
`spectramind score` and `features.fols`, and [more](docs/nowhere.md).
"""


def forget() -> None:
    """Forget what was read of a configuration that is another now."""
    for function in (*vars(config).values(), checker.setting_fault):
        if hasattr(function, "cache_clear"):
            function.cache_clear()


def spoil_rows(page: Path) -> None:
    """One fault of each kind in the table of the specification's items."""
    lines = page.read_text(encoding="utf-8").splitlines()

    def change(item: str, pattern: str, new: str) -> None:
        (number,) = (k for k, line in enumerate(lines) if line.startswith(f"| {item} |"))
        assert re.search(pattern, lines[number]), item
        lines[number] = re.sub(pattern, new, lines[number])

    change("Attention exported", r"`tests/.*`", "by eye")
    change("Edge features: Δλ, molecules of both ends, seam", "test_edges_are_what_they_are_called", "test_edges_are")
    change("Output (B, D)", r"\[.*?\]\(.*?\)", "somewhere")
    change("mamba-ssm", r"\[ADR 20\]\(.*?\), ", "")
    change("AMP in the encoder", "as written", "fine")
    change("TorchScript-safe", r" \| as written", "")
    change("FGS1 weighs as much as 58 AIRS bins", "core/metric.ipynb", "core/metrics.ipynb")
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def spoiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the project with one fault of each kind in it."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in (name for name in listed.stdout.splitlines() if (ROOT / name).is_file()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)

    def change(name: str, old: str, new: str) -> None:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert old in text, old
        (tmp_path / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    configs = tmp_path / "spectramind_nb/configs"
    monkeypatch.setattr(config, "CONFIGS", configs)
    forget()
    change("nbs/02_transit.ipynb", '"clip_sigma = ', '"knob = 3\\n", "clip_sigma = ')
    change("spectramind_nb/configs/config_v50.yaml", "\nfeatures:\n", "\nfeatures:\n  newest: 1\n")
    change("spectramind_nb/configs/config_v50.yaml", "\nchain:\n", "\nchain:\n  patience: 3\n")
    change("spectramind_nb/configs/model/fusion.yaml", "\n  hidden:", "\n  width: 3\n  hidden:")
    change("spectramind_nb/configs/calib/corel.yaml", ", alpha: 0.1", "")
    (tmp_path / "spectramind_nb/core/planted.py").write_text("read_npz(path, 'latent')\nkey = 'features.fold'\n")
    monkeypatch.setitem(contracts.SCHEMAS, "spare", {})
    commands = tuple(name for name in provenance.COMMANDS if name != "inject")
    monkeypatch.setattr(provenance, "COMMANDS", (*commands, "teleport"))
    change("params.yaml", "planets:", "planetss:")
    change("dvc.yaml", "simulate.planets", "simulate.planet")
    change("dvc.yaml", "--raw data/raw --run-dir outputs/run --to 09", "--rawest data/raw --to 09")
    change("dvc.yaml", "nbs/02_transit.ipynb", "unknown.py")
    change("docs/chapters.md", "(../nbs/uncertainty/corel.ipynb)", "(../nbs/07_uncertainty.ipynb)")
    change("docs/chapters.md", "(../nbs/core/metric.ipynb)", "(../nbs/detector/raw.ipynb)")
    spoil_rows(tmp_path / "docs/specification.md")
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8") + MORE, encoding="utf-8")
    change("nbs/network/graph.ipynb", '"source": [\n    "# ', '"source": [\n    "`spectramind grph --x`\\n",\n    "# ')
    change("kaggle/submit/submit.ipynb", "--budget-hours", "--budgets")
    change(".github/workflows/test.yaml", "bash .ci/gates", "bash .ci/gates nonsense && spectramind selfdestruct")
    yield tmp_path
    forget()


@pytest.mark.slow
def test_each_planted_fault_is_found_with_its_place_and_its_mending(spoiled: Path) -> None:
    found = [
        f"{fault.path.relative_to(spoiled)}:{fault.line}: {fault.what}. Fix: {fault.fix}"
        for fault in checker.faults(spoiled)
    ]
    for name, wanted in PLANTED.items():
        for words in wanted:
            assert [line for line in found if line.startswith(f"{name}:") and re.search(words, line)], (name, words)
    lines = (spoiled / "README.md").read_text(encoding="utf-8").splitlines()
    for line in (line for line in found if "predct" in line or "nowhere.md" in line):
        number = int(line.split(":")[1])
        assert ("predct" in lines[number - 1]) or ("nowhere.md" in lines[number - 1])
    assert not [line for line in found if "what a command answers" in line or "partial" in line]


def test_every_item_of_the_specification_has_a_test(tmp_path: Path) -> None:
    assert [*checker.check_specification(ROOT)] == []
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("golden", "__pycache__"))
    page = Path(shutil.copy2(ROOT / "docs/specification.md", tmp_path / "docs"))
    spoil_rows(page)
    found = [f"{fault.what}. Fix: {fault.fix}" for fault in checker.check_specification(tmp_path)]
    wanted = [words for words in PLANTED["docs/specification.md"] if "leads nowhere" not in words]
    assert len(found) == len(wanted)
    for words in wanted:
        assert [line for line in found if re.search(words, line)], words


def test_partial_commands_are_no_faults() -> None:
    assert checker.command_fault(["score"], partial=True) == "" != checker.command_fault(["score"])
    assert checker.command_fault(["run", "--raw", "x", "+loss.λ_sm=0.2", "--help"]) == ""
    assert [*checker.commands_in("(cd x && empty/bin/spectramind run a=1) | tee b  # spectramind c")] == [
        ["run", "a=1"]
    ]


FACTS = ConfigParser(delimiters=["="], interpolation=None)
FACTS.read(ROOT / "settings.ini", encoding="utf-8")


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").glob("*.yaml")), ids=lambda path: path.stem)
def test_workflows_parse_and_use_pythons_that_we_support(path: Path) -> None:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    supported = SpecifierSet(f">={FACTS['DEFAULT']['min_python']},<={FACTS['DEFAULT']['max_python']}")
    for job in jobs.values():
        assert {*([job["needs"]] if "needs" in job else [])} <= {*jobs}
        assert job["steps"] and all(("uses" in step) != ("run" in step) for step in job["steps"])
        chosen = [step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
        assert all(supported.contains(version) for version in chosen if "matrix" not in version)


def test_the_pull_request_goes_through_the_specifications_sequence() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yaml").read_text(encoding="utf-8"))["jobs"]
    assert {"selftest", "gates", "smoke", "consistency"} <= {*jobs}
    order = ["selftest", "gates", "smoke", "consistency"]
    assert [jobs[name].get("needs") for name in order] == [None, *order[:-1]]
    steps = [step.get("run", "") for step in jobs["smoke"]["steps"]]
    assert "spectramind check-artifacts --run runs/smoke" in steps
    release = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text(encoding="utf-8"))["jobs"]["release"]
    commands = [step.get("run", "").split(" -")[0] for step in release["steps"]]
    assert commands.index("spectramind check-artifacts") < commands.index('gh release create "$GITHUB_REF_NAME" dist/*')
    left = str(jobs["smoke"]["steps"][-1]["with"]["path"])
    assert "outputs/" in left and "events.jsonl" in left and "notebook.ipynb" in left


def test_the_image_is_built_from_files_that_are_there() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert {word for word, _ in steps} <= {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
    wanted = {name for word, rest in steps if word == "COPY" for name in rest.split()[:-1]}
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert wanted and all((ROOT / name).exists() and f"!{name.split('/')[0]}" in sent for name in wanted)
    package = {
        "setup.py",
        "settings.ini",
        "pyproject.toml",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
        "nbs",
        "spectramind_nb",
    }
    assert package <= wanted
    users = [rest for word, rest in steps if word == "USER"]
    assert users and users[-1] != "root" and json.loads(steps[-2][1]) == ["spectramind"]


def test_kaggles_versions_are_versions_that_we_support() -> None:
    text = (ROOT / "docker/kaggle-constraints.txt").read_text(encoding="utf-8")
    held = {one.name: one for one in map(Requirement, (line for line in text.splitlines() if line[0] != "#"))}
    lists = [FACTS["DEFAULT"][name] for name in ("requirements", "explain_requirements")]
    ours = {one.name: one for text in lists for one in map(Requirement, text.strip().splitlines())}
    for name in held.keys() & ours.keys():
        (kept,) = held[name].specifier
        versions = [kept.version.replace("*", str(patch)) for patch in range(10)]
        assert any(ours[name].specifier.contains(version) for version in versions), name
    assert held.keys() - ours.keys() == {"omegaconf"}  # hydra's
