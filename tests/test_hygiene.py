"""The habits that keep a book of notebooks readable, as budgets that a change can break."""

import ast
import re
import subprocess
import sys
from configparser import ConfigParser
from functools import cache
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NBS = ROOT / "nbs"
STAGES = sorted(NBS.glob("[0-9][0-9]_*.ipynb"))
CHAPTERS = sorted(NBS.glob("[0-9][0-9]*.ipynb"))  # a letter, as in 01a, marks a chapter that is no stage
LIBRARY = sorted((NBS / "lib").glob("*.ipynb"))
BOOK = [*CHAPTERS, *LIBRARY]
MODULES = [path for path in (ROOT / "spectramind_nb").rglob("*.py") if path.name != "_modidx.py"]

MOST_CELL_LINES = 60  # an exported cell is one idea
MEDIAN_CELL_LINES = 32
MOST_MODULE_LINES = 520
LEAST_PROSE = 0.25  # share of cells that are markdown
MOST_OUTPUT_BYTES = 250_000  # a notebook
MOST_PICTURES = 6
# The library's own top: these may run chapters.
ON_TOP = {"chain", "cli", "selftest_deep"}
ON_TOP |= {f"cli_{name}" for name in ("checks", "diagnose", "experiments", "kaggle", "predict")}

per_notebook = pytest.mark.parametrize("path", BOOK, ids=lambda path: path.stem)


@cache
def cells(path: Path) -> list[nbformat.NotebookNode]:
    return nbformat.read(path, as_version=4).cells


def exported(path: Path) -> list[str]:
    return [c.source for c in cells(path) if c.cell_type == "code" and re.search(r"^#\| *export", c.source, re.M)]


def outputs(path: Path) -> list[nbformat.NotebookNode]:
    return [output for cell in cells(path) for output in cell.get("outputs", [])]


@per_notebook
def test_exported_cells_are_short(path: Path) -> None:
    lengths = sorted(len(source.strip().splitlines()) for source in exported(path))
    assert lengths[-1] <= MOST_CELL_LINES
    assert lengths[len(lengths) // 2] <= MEDIAN_CELL_LINES


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_MODULE_LINES


@per_notebook
def test_a_chapter_explains_itself(path: Path) -> None:
    prose = [cell for cell in cells(path) if cell.cell_type == "markdown"]
    assert len(prose) >= LEAST_PROSE * len(cells(path))
    assert re.match(r"# .+\n> .+", prose[0].source), "a chapter begins with '# Title' and '> one line'"


@per_notebook
def test_outputs_are_small_and_clean(path: Path) -> None:
    assert sum(
        len(nbformat.v4.writes(nbformat.v4.new_notebook(cells=[c]))) for c in cells(path) if c.get("outputs")
    ) <= (MOST_OUTPUT_BYTES + 100_000)
    assert sum(len(str(output)) for output in outputs(path)) <= MOST_OUTPUT_BYTES
    assert sum("image/png" in output.get("data", {}) for output in outputs(path)) <= MOST_PICTURES
    assert not [o for o in outputs(path) if o.output_type == "error" or o.get("name") == "stderr"]


@per_notebook
def test_no_path_of_a_machine(path: Path) -> None:
    everything = [cell.source for cell in cells(path)] + [
        str(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in outputs(path)
    ]
    machine = re.compile(r"(?<![\w.])/(?:home|root|Users|tmp|mnt|work)/\w+|[A-Z]:\\\\")
    found = [match[0] for text in everything for match in machine.finditer(text)]
    assert not found


@per_notebook
def test_tags(path: Path) -> None:
    tagged = [cell for cell in cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == (1 if path in STAGES else 0)
    assert all(set(cell.metadata) <= {"tags"} for cell in cells(path)), "nbdev-clean keeps tags and nothing else"
    assert all(cell.get("execution_count") is None for cell in cells(path))


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_explores_before_it_defines(path: Path) -> None:
    code = [cell.source for cell in cells(path) if cell.cell_type == "code"]
    first = next(number for number, source in enumerate(code) if re.search(r"^explore\(", source, re.M))
    assert first <= 3
    assert any(re.search(r"^def explore\(", source, re.M) for source in exported(path))


def imports(path: Path) -> set[str]:
    """Modules that a Python file imports, relative imports resolved."""
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            found.add(".".join(filter(None, [base, node.module])))
    return found


def chapter_number(module: str) -> str | None:
    """The number of the chapter that a module was exported from, 01a before 01; None for the library."""
    names = {
        re.search(r"#\| *default_exp +(\S+)", "\n".join(c.source for c in cells(path)))[1]: path for path in CHAPTERS
    }  # type: ignore[index]
    path = names.get(module.removeprefix("spectramind_nb."))
    return path.stem.split("_")[0].ljust(3, "~") if path else None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_run_one_way(path: Path) -> None:
    mine = chapter_number(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in imports(path):
        assert module.split(".")[0] not in {"nbdev", "fastcore"}, "exported code needs neither"
        number = chapter_number(module)
        if number is not None and not (mine is None and path.stem in ON_TOP):
            assert mine is not None and number < mine, f"{path.stem} imports the later chapter {module}"


SHIPPED_WEIGHTS = ("spectramind_nb/data/laptop.safetensors",)


def test_no_large_file_in_git() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert not [
        name
        for name in listed.stdout.splitlines()
        if (ROOT / name).is_file() and (ROOT / name).stat().st_size > (10e6 if name in SHIPPED_WEIGHTS else 1e6)
    ]


def settings() -> dict[str, str]:
    parser = ConfigParser(delimiters=["="], interpolation=None)
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(parser["DEFAULT"])


def test_each_package_fact_has_one_home() -> None:
    """settings.ini is that home; where a tool insists on a copy, the copy is equal."""
    facts = settings()
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "[project]" not in pyproject
    assert f'lib_path = "{facts["lib_name"]}"' in pyproject
    assert f'packages = ["{facts["lib_name"]}"]' in pyproject
    assert f'target-version = "py{facts["min_python"].replace(".", "")}"' in pyproject
    init = (ROOT / facts["lib_name"] / "__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{facts["version"]}"' in init
    workflow = (ROOT / ".github/workflows/test.yaml").read_text(encoding="utf-8")
    first, last = (int(facts[key].split(".")[1]) for key in ("min_python", "max_python"))
    matrix = ", ".join(f'"3.{minor}"' for minor in range(first, last + 1))
    assert f"python: [{matrix}]" in workflow


def test_ci_and_github_share_one_list_of_gates() -> None:
    workflow = (ROOT / ".github/workflows/test.yaml").read_text(encoding="utf-8")
    assert "bash .ci/gates" in workflow and "bash .ci/run" in workflow
    for tool in ("ruff", "mypy", "pytest", "nbdev"):
        assert tool not in workflow, "a gate belongs into .ci/gates"


def test_cleaning_keeps_papermill_tags(tmp_path: Path) -> None:
    """nbdev-clean with this project's settings: counts go, tags stay."""
    book = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["parameters"], "collapsed": True}, execution_count=3)
        ]
    )
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8")
    nbformat.write(book, tmp_path / "x.ipynb")
    clean = Path(sys.executable).with_name("nbdev-clean")
    subprocess.run([str(clean), "--fname", "x.ipynb"], cwd=tmp_path, check=True)
    cell = nbformat.read(tmp_path / "x.ipynb", as_version=4).cells[0]
    assert cell.metadata == {"tags": ["parameters"]} and cell.execution_count is None
