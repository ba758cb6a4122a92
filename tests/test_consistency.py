"""The consistency checker finds what it is there to find, and names file, line and fix."""

import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from spectramind_nb.lib import config, contracts, provenance

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import pipeline_consistency_checker as checker

PLANTED = {
    "spectramind_nb/configs/config_v50.yaml": [
        r"transit.knob: is missing, 02_transit.ipynb declares the parameter knob. Fix: add knob",
        r"features.newest: 01_features.ipynb has no such parameter. Fix: ",
        r"chain.patience_s is read by nothing",
        r"the specification's calib.corel.alpha is missing",
    ],
    "spectramind_nb/lib/planted.py": [
        r":1: schema latent is not in contracts.SCHEMAS. Fix: did you mean 'latents'",
        r":2: features.fold is no setting. Fix: did you mean 'features.folds'",
    ],
    "spectramind_nb/lib/contracts.py": ["schema spare is used by nothing"],
    "spectramind_nb/lib/provenance.py": ["there is no command teleport", "events have no command inject"],
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
        r"07a_corel.ipynb isn't listed",
    ],
    "nbs/03b_graph.ipynb": ["spectramind has no command grph"],
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


@pytest.fixture
def spoiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project with one fault of each kind in it."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
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
    monkeypatch.setattr(config, "_known", lru_cache(config._known.__wrapped__))  # its answers are the checkout's
    change("nbs/02_transit.ipynb", '"clip_sigma = ', '"knob = 3\\n", "clip_sigma = ')
    change("spectramind_nb/configs/config_v50.yaml", "\nfeatures:\n", "\nfeatures:\n  newest: 1\n")
    change("spectramind_nb/configs/config_v50.yaml", "\nchain:\n", "\nchain:\n  patience_s: 1\n")
    (alpha,) = [path for path in configs.rglob("*.yaml") if "alpha: 0.1" in path.read_text(encoding="utf-8")]
    change(str(alpha.relative_to(tmp_path)), ", alpha: 0.1", "")
    (tmp_path / "spectramind_nb/lib/planted.py").write_text("read_npz(path, 'latent')\nkey = 'features.fold'\n")
    monkeypatch.setitem(contracts.SCHEMAS, "spare", {})
    commands = tuple(name for name in provenance.COMMANDS if name != "inject")
    monkeypatch.setattr(provenance, "COMMANDS", (*commands, "teleport"))
    change("params.yaml", "planets:", "planetss:")
    change("dvc.yaml", "simulate.planets", "simulate.planet")
    change("dvc.yaml", "--raw data/raw --run-dir outputs/run --to 07", "--rawest data/raw --to 07")
    change("dvc.yaml", "nbs/02_transit.ipynb", "unknown.py")
    change("README.md", "(nbs/07a_corel.ipynb)", "(nbs/07_uncertainty.ipynb)")
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8") + MORE, encoding="utf-8")
    change("nbs/03b_graph.ipynb", '"source": [\n    "# ', '"source": [\n    "`spectramind grph --x`\\n",\n    "# ')
    change(".github/workflows/test.yaml", "bash .ci/gates", "bash .ci/gates nonsense && spectramind selfdestruct")
    return tmp_path


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


def test_partial_commands_are_no_faults() -> None:
    assert checker.command_fault(["score"], partial=True) == "" != checker.command_fault(["score"])
    assert checker.command_fault(["run", "--raw", "x", "+loss.λ_sm=0.2", "--help"]) == ""
    assert [*checker.commands_in("(cd x && empty/bin/spectramind run a=1) | tee b  # spectramind c")] == [
        ["run", "a=1"]
    ]
