"""Optional packages: a command that needs one names it in one line, and all others work without."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from spectramind_nb.core.errors import UserError
from spectramind_nb.core.extras import EXTRAS, MissingExtra, install_command, missing_packages, needs_extra
from spectramind_nb.core.files import network_file
from spectramind_nb.dashboard.panels import embedding, overlays
from spectramind_nb.dashboard.run_reader import Absent, Run
from spectramind_nb.network.decoders import ResidualFlow
from spectramind_nb.network.latents import Positions, write_latents
from spectramind_nb.network.maps import umap_map
from spectramind_nb.network.selective_scan import selective_scan, sine_wave
from spectramind_nb.network.weights import export_network, read_network
from spectramind_nb.operations import selftest_deep
from spectramind_nb.operations.selftest import run_checks
from spectramind_nb.pipeline.planets import Workers, map_planets
from spectramind_nb.pipeline.stages import stage_inputs

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ("jupyterlab", "jupytext", "nbdev", "fastcore", "execnb")
MODULES = {name: (*modules,) for name, modules in EXTRAS.items()} | {"notebooks": NOTEBOOKS}
EVERY = [module for modules in MODULES.values() for module in modules]
WITHOUT = "import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"  # None there: an import of it fails
MAIN = "from spectramind_nb.cli.app import main; main()"
Patch = pytest.MonkeyPatch


def block(monkeypatch: Patch, *modules: str) -> None:
    """Let imports of these modules fail, whether they were imported before or not."""
    for name in [*modules, *(name for name in sys.modules if name.startswith(tuple(f"{one}." for one in modules)))]:
        monkeypatch.setitem(sys.modules, name, None)


def python(code: str, *words: str, blocked: list[str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own that can't import the `blocked` modules."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WITHOUT.format(blocked=blocked) + code, *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)


def listed(name: str) -> list[Requirement]:
    """Requirements of a list in settings.ini."""
    parser = ConfigParser(delimiters=["="], interpolation=None)
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return [Requirement(line) for line in parser["DEFAULT"][name].strip().splitlines()]


def test_the_table_of_extras_is_that_of_the_installation() -> None:
    parser = ConfigParser(delimiters=["="], interpolation=None)
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    assert {*parser["DEFAULT"]["extras"].split()} == {*MODULES}
    for extra, modules in EXTRAS.items():
        assert {*modules.values()} == {one.name for one in listed(f"{extra}_requirements")}
    names = [one.name for key in ("", *(f"{extra}_" for extra in MODULES)) for one in listed(f"{key}requirements")]
    assert len(names) == len({*names}), "a package has one place"


def test_setup_gives_dev_every_extra_that_is_tested() -> None:
    code = "import setuptools; setuptools.setup = lambda **facts: print(facts['extras_require']); import setup"
    extras = ast.literal_eval(python(code, blocked=[]).stdout)
    assert {*extras} == {*MODULES, "all", "dev"}
    for extra in MODULES.keys() - {"gpu"}:
        assert {*extras[extra]} <= {*extras["all"]} <= {*extras["dev"]}
    assert not {*extras["gpu"]} & {*extras["all"]}, "it is compiled against CUDA"


IMPORT_ALL = """
import importlib, pkgutil, spectramind_nb
from spectramind_nb.core.errors import UserError
for module in pkgutil.walk_packages(spectramind_nb.__path__, "spectramind_nb."):
    try:
        importlib.import_module(module.name)
    except UserError as error:
        print(module.name, error, sep="\\t")
"""


@pytest.mark.slow
def test_all_but_simulator_and_server_is_imported_without_any_extra() -> None:
    done = python(IMPORT_ALL, blocked=EVERY)
    assert done.returncode == 0, done.stderr
    refused = dict(line.removeprefix("spectramind_nb.").split("\t") for line in done.stdout.splitlines())
    hints = {name.partition(".")[0]: text.rpartition(" Fix: ")[2] for name, text in refused.items()}
    assert hints == {"simulator": install_command("demo"), "dashboard": install_command("dashboard")}
    assert [name for name in refused if name.startswith("dashboard")] == ["dashboard.server"]


@pytest.mark.parametrize(
    ("words", "extra", "said"),
    [
        (["--help"], "", ""),
        (["simulate", "--out", "new"], "demo", "The simulator needs taurex, which is not installed."),
        (["simulate", "spectra", "--out", "new.npz"], "demo", "The simulator needs taurex, which is not installed."),
        (["run", "--run-dir", "runs/new"], "demo", "The simulator needs taurex, which is not installed."),
        (["diagnose", "serve"], "dashboard", "spectramind diagnose serve needs uvicorn, which is not installed."),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_command_that_needs_an_extra_names_it(tmp_path: Path, words: list[str], extra: str, said: str) -> None:
    done = python(MAIN, *words, blocked=EVERY, folder=tmp_path)
    assert (done.returncode, done.stderr) == (
        (2, f"error: {said} Fix: {install_command(extra)}\n") if extra else (0, "")
    )
    assert not [path.name for path in tmp_path.rglob("*") if path.name in ("raw", "simulation.json", "new.npz")]


def same(number: tuple[str, int]) -> int:
    return number[1]


OPTIONS: dict[str, tuple[str, Callable[[], object]]] = {
    "umap": ("explain", lambda: umap_map(np.random.default_rng(1).normal(size=(8, 3)))),
    "zuko": ("explain", lambda: ResidualFlow(8)),
    "onnx": ("export", lambda: export_network(read_network(network_file("laptop")), "no.onnx", "onnx")),
    "distributed": ("dask", lambda: map_planets(same, [("train", 1)], Workers(1, "dask", "tcp://127.0.0.1:9"), "x")),
    "mamba_ssm": ("gpu", lambda: selective_scan(*map(torch.tensor, [1.0] * 5), engine="mamba_ssm")),
}


@pytest.mark.parametrize("module", OPTIONS)
def test_an_option_that_needs_an_extra_names_it(monkeypatch: Patch, module: str) -> None:
    extra, use = OPTIONS[module]
    block(monkeypatch, module)
    with pytest.raises(MissingExtra) as caught:
        use()
    assert str(caught.value).endswith(f"which is not installed. Fix: {install_command(extra)}")
    assert f" needs {EXTRAS[extra][module]}, " in str(caught.value)


def test_a_package_that_is_broken_is_not_called_missing() -> None:
    said = r"needs shap, which can't be imported \(no library\)\. Fix: pip install"
    with pytest.raises(MissingExtra, match=said), needs_extra("explain", "This"):
        raise ImportError("no library", name="shap.plots")


def test_attention_is_checked_without_the_library_and_a_check_that_lacks_one_is_no_failure(monkeypatch: Patch) -> None:
    block(monkeypatch, "torch_geometric")
    check = selftest_deep.graph_attention()
    assert check.state == "ok" and "from the plain form by compiled" in check.seen

    def lacks() -> selftest_deep.Check:
        raise MissingExtra("The simulator", "taurex", "demo")

    (told,) = run_checks({"tiny chain": lacks}, print)
    assert (told.state, told.fix) == ("warn", install_command("demo"))


def test_diagnostics_are_made_once_their_packages_are_there(monkeypatch: Patch) -> None:
    heavy, light = {"skip_heavy_diag": False}, {"skip_heavy_diag": True}
    assert stage_inputs([], heavy) == {} and not missing_packages("explain")
    block(monkeypatch, "shap")
    assert missing_packages("explain") == ["shap"]
    assert stage_inputs([], heavy) == {"packages not installed": "shap"} and stage_inputs([], light) == {}
    block(monkeypatch, "zuko")
    assert stage_inputs([], heavy) == {"packages not installed": "shap, zuko"}


def test_panels_say_what_to_install(monkeypatch: Patch, tmp_path: Path) -> None:
    run, planets = Run(tmp_path / "run"), np.arange(6)
    folder = run.folder / "08_diagnostics/artifacts"
    folder.mkdir(parents=True)
    latent, tsne = sine_wave(6, 4).numpy(), sine_wave(6, 2).numpy()
    far = np.full(6, 0.5, np.float32)
    write_latents(folder, Positions(planets, planets < 4, latent, latent, np.zeros((0, 2), np.float32), tsne, far, far))
    install = f"{install_command('explain')}, then spectramind diagnose prepare --run "
    assert [*embedding(run).maps] == ["t-SNE"] and f"UMAP needs umap-learn: {install}" in embedding(run).of
    with pytest.raises(Absent) as caught:
        overlays(run)
    assert caught.value.command.startswith("spectramind diagnose prepare")
    block(monkeypatch, "shap")
    with pytest.raises(UserError, match="SHAP values need shap, which is not installed") as caught:
        overlays(run)
    assert caught.value.command.startswith(install)
