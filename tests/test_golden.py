"""Numbers keep their meaning: a version's recorded outputs come out again, and moving code changes no identity."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest

from spectramind_nb.core.errors import ContractError
from spectramind_nb.core.versions import HASHES, VERSIONS, check_versions, version_facts, versions_in

PACKAGE = Path(__file__).parents[1] / "spectramind_nb"


def differences(name: str) -> list[str]:
    """Outputs that are missing, new or differ from the recorded ones by more than 1e-6 of their size."""
    before, after = golden.recorded(name)[1], golden.outputs(name)
    faults = [f"{key} is missing or new" for key in sorted(before.keys() ^ after.keys())]
    for key in sorted(before.keys() & after.keys()):
        size = 1e-6 * (np.abs(before[key]) + np.sqrt(np.nanmean(before[key] ** 2)))
        same = before[key].shape == after[key].shape
        if not same or not np.all((np.abs(after[key] - before[key]) <= size) | (np.isnan(after[key] + before[key]))):
            faults.append(key)
    return faults


@pytest.mark.parametrize("name", golden.RECIPES)
def test_recorded_outputs_come_out_again(name: str) -> None:
    assert golden.recorded(name)[0] == golden.versions_of(name), f"record again: python tests/golden.py {name}"
    assert differences(name) == [], (
        f"raise {name.upper()}_VERSION in nbs/core/versions.ipynb and run python tests/golden.py {name}, "
        "or restore the numbers"
    )


def test_each_version_has_a_recorded_output() -> None:
    assert set(golden.RECIPES) == set(VERSIONS) == {path.stem for path in golden.FOLDER.glob("*.npz")}


def test_a_small_change_of_the_numbers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = golden.of_edges()
    wrong = edges | {"features": edges["features"] * (1 + 1e-5)}
    monkeypatch.setitem(golden.RECIPES, "edges", lambda: wrong)
    assert differences("edges") == ["features"]


def test_an_output_is_not_recorded_twice_for_one_version() -> None:
    with pytest.raises(SystemExit, match="raise EDGES_VERSION first"):
        golden.record("edges")


def test_hashes_of_earlier_files_stand_for_versions() -> None:
    assert versions_in({"simulator": "spectramind-simulator 2.0", "physics": "d0c753a860e71d93"}) == {"simulator": 2}
    assert all(name in VERSIONS for versions in HASHES.values() for name in versions)
    assert versions_in({"inputs_version": "3", "schema": "01e28f6b6e6dda09"})["inputs"] == 3, "an integer wins"


def test_a_refused_file_names_both_versions_and_the_way_out() -> None:
    check_versions("w", version_facts(["fit", "prior"]), ["fit", "prior"], "train again")
    with pytest.raises(ContractError, match=rf"w: version: .*fit 9, this code has fit {VERSIONS['fit']}. Fix: train"):
        check_versions("w", version_facts(["prior"]) | {"fit_version": "9"}, ["fit", "prior"], "train again")
    with pytest.raises(ContractError, match="prior 0"):
        check_versions("w", {}, ["prior"], "train again")


LOADS = """
from spectramind_nb.core.files import network_file
from spectramind_nb.pipeline.provenance import code_hash
from spectramind_nb.simulator.population import physics
from spectramind_nb.network.weights import read_network
seed = read_network(network_file("laptop")).about["seed"]
identity = seed, physics(), code_hash("import spectramind_nb.network.weights")
"""


@pytest.mark.slow
def test_moving_and_documenting_code_changes_no_identity(tmp_path: Path) -> None:
    """A copy with other docstrings, one module under another name, loads the shipped weights and hashes the same."""
    for path in PACKAGE.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = tmp_path / "spectramind_nb" / path.relative_to(PACKAGE)
            target.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes()
            if path.suffix == ".py":
                text = re.sub(r"\bspectral_prior import", "prior_elsewhere import", content.decode())
                content = re.sub(r'^(\s+)"""[A-Z]', r'\1"""Rewritten. \g<0>', text, flags=re.MULTILINE).encode()
                content = re.sub(rb'"""Rewritten\. \s+"""', b'"""Rewritten. ', content)
            target.write_bytes(content)
    moved = tmp_path / "spectramind_nb/prior/spectral_prior.py"
    moved.rename(moved.with_name("prior_elsewhere.py"))
    assert b"Rewritten." in (tmp_path / "spectramind_nb/network/model.py").read_bytes()
    words, environment = (
        [sys.executable, "-c", f"{LOADS}\nprint(identity)"],
        {**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    said = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    here: dict[str, Any] = {}
    exec(LOADS, here)
    assert said == f"{here['identity']}\n"
