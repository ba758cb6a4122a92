"""The self-test: a planted fault for each check, named with its fix; benchmarks of a checkout."""

import importlib.metadata
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_chain import spectramind, write_stage
from jupyter_client.kernelspec import KernelSpecManager
from safetensors import safe_open
from safetensors.torch import save_file

from spectramind_nb.core import lifetime
from spectramind_nb.core.errors import UserError
from spectramind_nb.core.files import network_file
from spectramind_nb.network import graph_attention, selective_scan
from spectramind_nb.operations import selftest, selftest_deep
from spectramind_nb.operations.selftest import (
    FAST_CHECKS,
    Check,
    check_line,
    data_files,
    judged,
    passed,
    read_checksums,
    run_checks,
)
from spectramind_nb.operations.selftest_deep import DEEP
from spectramind_nb.pipeline.provenance import PACKAGE, event_faults, read_events, sha256

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: Patch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one(check: Callable[[], Check]) -> Check:
    return run_checks({"it": check}, lambda told: None)[0]


def test_this_installation_is_sound(home: Path) -> None:
    result = spectramind("selftest")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if line[:4] in ("ok  ", "warn", "FAIL")]
    assert [line[6:24].strip() for line in lines] == list(FAST_CHECKS) and "0 failed" in result.stdout
    (event,) = read_events(home / "runs/events.jsonl")
    assert not event_faults(event) and (event["cmd"], event["status"]) == ("selftest", "ok")


def test_what_fails_is_named_with_its_fix_and_the_rest_goes_on(monkeypatch: Patch) -> None:
    def stumbles() -> Check:
        raise UserError("a.csv: Rs: is NaN. Fix: mend it")

    plan = {"a": lambda: 1 / 0, "b": stumbles, "c": lambda: passed("c", "fine")}
    monkeypatch.setattr(selftest, "FAST_CHECKS", plan)
    result = spectramind("selftest")
    assert result.exit_code == 2 and result.stderr.startswith("error: selftest: a, b failed. Fix: ")
    assert "ZeroDivisionError" in result.stdout and "Fix: mend it" in result.stdout
    assert "ok    c" in result.stdout and "1 ok, 0 to note, 2 failed" in result.stdout


def test_a_line_names_three_faults_and_counts_the_rest() -> None:
    line = check_line(judged("x", ["a", "b", "c", "d", "e"], "", "pip"))
    assert line.startswith("FAIL  x") and "a; b; c, and 2 more" in line and line.endswith("Fix: pip")


# A fault for each of the fast checks


def damaged_data(patch: Patch, home: Path) -> None:
    data = Path(shutil.copytree(PACKAGE / "data", home / "package" / "data"))
    (data / "rules.npz").write_bytes(b"PK")
    (data / "opacity.npz").unlink()
    patch.setitem(FAST_CHECKS, "data files", lambda: data_files(data))


def changed_file(patch: Patch, home: Path) -> None:
    (home / PACKAGE.name).mkdir()
    (home / PACKAGE.name / "x.py").write_text("changed")

    class Listed(SimpleNamespace):
        parts, hash = (PACKAGE.name, "x.py"), SimpleNamespace(value="abc")

        def __str__(self) -> str:
            return "spectramind_nb/x.py"

        def locate(self) -> Path:
            return home / PACKAGE.name / "x.py"

    patch.setattr(selftest, "PACKAGE", home / PACKAGE.name)
    patch.setattr(selftest, "distribution", lambda name: SimpleNamespace(files=[Listed()], version="0.1.0"))


def other_parameters(patch: Patch, home: Path) -> None:
    write_stage(home / "nbs", "01_features", extra="unheard_of = 1")
    patch.setitem(FAST_CHECKS, "configuration", lambda: selftest.configuration(home / "nbs"))


def other_environments_kernel(patch: Patch, home: Path) -> None:
    other = home / "bin" / "python"
    other.parent.mkdir()
    other.symlink_to(sys.executable)
    patch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: SimpleNamespace(argv=[str(other)]))


def absolute_nowhere(patch: Patch, home: Path) -> None:
    patch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: SimpleNamespace(argv=["/no/python"]))


def not_writable(patch: Patch, home: Path) -> None:
    (home / "runs").write_text("a regular file")


def no_version(name: str) -> str:
    if name == "numpy":
        raise importlib.metadata.PackageNotFoundError
    return "0.0.1" if name == "pandas" else importlib.metadata.version(name)


FAULTS: dict[str, tuple[str, Callable[[Patch, Path], Any], str, str]] = {
    "old python": ("python", lambda p, h: p.setattr(sys, "version_info", (3, 9, 1)), "FAIL", "3.9.1, not >=3.10"),
    "new python": ("python", lambda p, h: p.setattr(sys, "version_info", (3, 99, 0)), "warn", "newer than what"),
    "libraries": ("libraries", lambda p, h: p.setattr(selftest, "version", no_version), "FAIL", "numpy is missing"),
    "package": ("package files", changed_file, "FAIL", "spectramind_nb/x.py was changed"),
    "data": ("data files", damaged_data, "FAIL", "opacity.npz is missing; rules.npz is damaged; dashboard"),
    "configuration": ("configuration", other_parameters, "FAIL", "features.unheard_of: is missing"),
    "no notebooks": (
        "configuration",
        lambda p, h: p.setattr(selftest, "find_stages", lambda *a: []),
        "FAIL",
        "no numb",
    ),
    "schemas": ("schemas", lambda p, h: p.setattr(selftest, "read_npz", lambda *a: {"flux": 0}), "FAIL", "Error"),
    "little memory": ("memory", lambda p, h: p.setattr(selftest, "free_memory", lambda: 3e9), "warn", "3.0 GB free"),
    "no memory": ("memory", lambda p, h: p.setattr(selftest, "free_memory", lambda: 1e9), "FAIL", "1.0 GB free"),
    "full disk": ("disk", lambda p, h: p.setattr(selftest, "disk_free", lambda folder: 1e8), "FAIL", "0.1 GB free for"),
    "read only": ("run folder", not_writable, "FAIL", "FileExistsError"),
    "no kernel": ("kernel", absolute_nowhere, "warn", "Jupyter's python3 starts /no/python, which is not"),
    "other kernel": ("kernel", other_environments_kernel, "warn", "another environment's"),
    "no browser": (
        "browser",
        lambda p, h: p.setattr(selftest.shutil, "which", lambda name: None),
        "warn",
        "none found",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str, home: Path, monkeypatch: Patch) -> None:
    name, plant, state, seen = FAULTS[fault]
    plant(monkeypatch, home)
    found = one(FAST_CHECKS[name])
    assert (found.state, bool(found.fix)) == (state, True) and seen in found.seen, found


def test_checksums_are_those_of_the_files() -> None:
    known = read_checksums()
    assert known == {name: sha256(PACKAGE / "data" / name) for name in known}
    shipped = {path.name for path in (PACKAGE / "data").iterdir() if path.suffix in (".npz", ".safetensors")}
    assert shipped == set(known), "sha256sum *.safetensors *.npz > CHECKSUMS"


# The deep ones


LONG_CHECKS = {"exports": [pytest.mark.slow]}  # two exports of a network and their comparison


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LONG_CHECKS.get(name, [])) for name in DEEP if name != "tiny chain"]
)
def test_deep_checks_pass_here(name: str) -> None:
    found = one(DEEP[name])
    assert found.state == "ok" or (name, found.state) == ("1100 planets", "warn"), found


def other_weights(patch: Patch, home: Path) -> None:
    source = network_file("laptop")
    with safe_open(source, "pt") as archive:
        arrays, about = {name: archive.get_tensor(name) for name in archive.keys()}, archive.metadata()  # noqa: SIM118
    del about["checksum"]  # as in files of earlier versions
    name = next(name for name in arrays if name.startswith("network.mu") and name.endswith("weight"))
    save_file(arrays | {name: 1.1 * arrays[name]}, home / "w.safetensors", about)
    patch.setattr(selftest_deep, "network_file", lambda name: home / "w.safetensors")


def nan_in_sigma(patch: Patch, home: Path) -> None:
    patch.setattr(selftest_deep, "network_output", lambda weights: (selftest_deep.RECORDED_OUTPUT[0], float("nan")))


def wrong_scan(patch: Patch, home: Path) -> None:
    right = selective_scan.scan_compiled
    patch.setattr(selective_scan, "scan_compiled", lambda *inputs: 1.001 * right(*inputs))


def nan_in_attention(patch: Patch, home: Path) -> None:
    right = graph_attention.attend_compiled

    def attend(*inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        y, share = right(*inputs)
        return y, share.masked_fill(torch.arange(share.shape[1])[:, None] == 5, torch.nan)

    patch.setattr(graph_attention, "attend_compiled", attend)


def broken_gpu(patch: Patch, home: Path) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "get_device_name", lambda: "P100")

    def differences(device: str) -> dict[str, dict[str, float]]:
        raise RuntimeError(f"no kernel image is available for execution on the device {device}\nmore")

    patch.setattr(selftest_deep, "scan_engine_differences", differences)


def wrong_gpu(patch: Patch, home: Path) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "get_device_name", lambda: "P100")
    patch.setattr(torch.nn.Module, "to", lambda self, device: self)
    patch.setattr(selftest_deep, "scan_engine_differences", lambda device: {"doubling": {"y": 0.0, "to u": 0.02}})


# Which check, the fault, and what the check says of it.
DEEP_FAULTS: dict[str, tuple[str, Callable[[Patch, Path], Any], str]] = {
    "scan": ("selective scan", wrong_scan, "compiled differs from the loop by 1.0e-03"),
    "attention": ("graph attention", nan_in_attention, "compiled differs from torch-geometric by nan"),
    "weights": ("weights", other_weights, f"not {selftest_deep.RECORDED_OUTPUT[0]}"),
    "sigma": ("weights", nan_in_sigma, "nan ppm"),
    "metric": (
        "metric",
        lambda p, h: p.setattr(selftest_deep, "score", lambda *a: 0.5),
        "truth: 0.500000, not 1.000000",
    ),
    "broken gpu": ("gpu", broken_gpu, "P100 is there, but fails at work (no kernel image"),
    "wrong gpu": ("gpu", wrong_gpu, "P100: scan off by 2.0e-02, network by 0.0e+00"),
    "memory": ("1100 planets", lambda p, h: p.setattr(selftest_deep, "free_memory", lambda: 1e9), "need 1.4 GB of"),
}


@pytest.mark.parametrize("fault", DEEP_FAULTS)
def test_a_fault_in_the_depth_is_seen(fault: str, home: Path, monkeypatch: Patch) -> None:
    name, plant, seen = DEEP_FAULTS[fault]
    plant(monkeypatch, home)
    found = one(DEEP[name])
    assert found.state == ("warn" if name == "1100 planets" else "FAIL") and found.fix and seen in found.seen, found


def test_the_tiny_chain_ends_with_a_submission_of_its_planets(example_run: Path, monkeypatch: Patch) -> None:
    """On a run that is there, instead of one that takes minutes."""
    seen = []

    def chain(cfg: Any, folder: Path, **how: Any) -> list[Any]:
        seen.append(cfg)
        shutil.copytree(example_run, folder, copy_function=shutil.copy)
        return [SimpleNamespace(manifest={"duration_s": 2.0})]

    monkeypatch.setattr(selftest_deep, "run_chain", chain)
    found = one(selftest_deep.tiny_chain)
    assert found.state == "ok" and "4 planets" in found.seen, found
    assert seen[0].simulate.frames == "tiny" and seen[0].simulate.planets < 14
    monkeypatch.setattr(selftest_deep, "choose_planets", lambda *a: [1, 2])
    assert "planet_id" in one(selftest_deep.tiny_chain).seen


# Benchmarks


def test_bench_lists_runs_and_hands_on(home: Path, monkeypatch: Patch, capfd: pytest.CaptureFixture[str]) -> None:
    listed = spectramind("bench").stdout
    assert "scan   " in listed and "turns" not in listed and "How fast the selective scan is" in listed
    assert "did you mean 'scan'" in spectramind("bench", "scam").stderr
    assert spectramind("bench", "scan", "--help").exit_code == 0  # typer's own

    class Ran(SimpleNamespace):
        returncode = 0

    seen: list[list[str]] = []
    monkeypatch.setattr(lifetime, "run_bound", lambda words, **how: seen.append(words) or Ran())
    assert spectramind("bench", "scan", "--batch", "2").exit_code == 0
    assert seen[-1][1].endswith("benchmarks/scan.py") and seen[-1][2:] == ["--batch", "2"]
    monkeypatch.setattr(Ran, "returncode", 3)
    assert "ended with exit code 3" in spectramind("bench", "scan").stderr


def test_bench_tells_what_a_run_took(home: Path) -> None:
    assert "runs/x: folder: is missing" in spectramind("bench", "--run", "runs/x").stderr
    (home / "runs/x").mkdir(parents=True)
    assert "timing.csv: file: is missing" in spectramind("bench", "--run", "runs/x").stderr
    (home / "runs/x/timing.csv").write_text("stage,seconds\n01_features,20.10\n")
    assert "01_features                      20.10" in spectramind("bench", "--run", "runs/x").stdout
