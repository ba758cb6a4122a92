"""The lock file has a version of every requirement, for every Python, and the devcontainer installs these."""

import json
import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FACTS = ConfigParser(delimiters=["="], interpolation=None)
FACTS.read(ROOT / "settings.ini", encoding="utf-8")
LISTS = ("requirements", "dev_requirements", *(f"{name}_requirements" for name in FACTS["DEFAULT"]["extras"].split()))
PYTHONS = range(*(int(FACTS["DEFAULT"][name].split(".")[1]) + k for k, name in enumerate(("min_python", "max_python"))))


def requirements() -> list[Requirement]:
    """Requirements of the package and of its extras, but for those that need a GPU."""
    lines = (FACTS["DEFAULT"][name].strip().splitlines() for name in LISTS if name != "gpu_requirements")
    return [Requirement(line) for own in lines for line in own]


def pins() -> list[Requirement]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("minor", PYTHONS)
def test_every_requirement_has_one_version_in_its_range(minor: int) -> None:
    python = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.9", "sys_platform": "linux"}
    locked: dict[str, list[str]] = {}
    for pin in pins():
        (exact,) = pin.specifier
        assert exact.operator == "==" and not pin.url
        if pin.marker is None or pin.marker.evaluate(python):
            locked.setdefault(pin.name, []).append(exact.version)
    assert not {name: versions for name, versions in locked.items() if len(versions) > 1}
    for wanted in requirements():
        if wanted.marker is None or wanted.marker.evaluate(python):
            (version,) = locked.get(wanted.name, ["none"])
            assert version != "none", f"requirements.lock lacks {wanted.name}: CONTRIBUTING says how to make it again"
            assert wanted.specifier.contains(version), f"{wanted.name} {version} is not {wanted.specifier}"


def test_the_lock_names_no_place_and_its_command_is_the_documented_one() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|\B/\w|--index|--find-links|@ ", text)
    command = next(line.removeprefix("#").strip() for line in text.splitlines() if "uv pip compile" in line)
    assert command.startswith("uv pip compile") and command in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_devcontainer_installs_locked_versions_on_a_supported_python() -> None:
    facts = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert "pip install -c requirements.lock -e '.[dev]'" in facts["postCreateCommand"]
    (minor,) = re.fullmatch(r"python:3\.(\d+)-\w+", facts["image"]).groups()  # type: ignore[union-attr]
    assert int(minor) in PYTHONS
