"""Budgets for the notebooks and modules: lengths, prose, outputs, imports; each stands just above the present state."""

import ast
import re
import subprocess
from collections.abc import Iterable
from configparser import ConfigParser
from functools import cache
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NBS = ROOT / "nbs"
STAGES = sorted(NBS.glob("[0-9][0-9]_*.ipynb"))
BOOK = [*STAGES, *sorted(NBS.glob("*/*.ipynb"))]
MODULES = [path for path in (ROOT / "spectramind_nb").rglob("*.py") if path.name != "_modidx.py"]

# Ratchets: these may only go down (LEAST_PROSE only up). `test_every_budget_is_tight` fails as soon as one is loose.
MOST_CELL_LINES = 40  # of an exported cell
MOST_IMPORT_LINES = 56  # of one that only imports
MEDIAN_CELL_LINES = 32  # of a notebook's exported cells
LONG_CELL, MOST_LONG_CELLS = 25, 168  # lines; exported cells of all notebooks that are longer
MOST_MODULE_LINES = 400
MOST_RETIRED_WORDS = 0  # in notebooks and docs
MOST_VAGUE_DOCSTRINGS = 0
LEAST_EXAMPLES = 0.65  # assertions in notebooks for each exported function
LEAST_PROSE = 0.26  # share of a notebook's cells that are markdown
MOST_OUTPUT_BYTES = 250_000  # a notebook
MOST_PICTURES = 5  # a notebook
MOST_FILE_BYTES = {  # in git; MOST_OTHER_FILE_BYTES holds for every other file
    "spectramind_nb/data/laptop.safetensors": 2_500_000,
    "spectramind_nb/data/retrieval.safetensors": 750_000,
}
MOST_OTHER_FILE_BYTES = 650_000

per_notebook = pytest.mark.parametrize("path", BOOK, ids=lambda path: path.stem)


@cache
def cells(path: Path) -> list[nbformat.NotebookNode]:
    return nbformat.read(path, as_version=4).cells


def exported(path: Path) -> list[str]:
    return [c.source for c in cells(path) if c.cell_type == "code" and re.search(r"^#\| *export", c.source, re.M)]


def outputs(path: Path) -> list[nbformat.NotebookNode]:
    return [output for cell in cells(path) for output in cell.get("outputs", [])]


def is_import_list(source: str) -> bool:
    """Whether a cell only imports: it has no parts to be split by."""
    return all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(source).body)


def cell_lengths(path: Path, of_imports: bool = False) -> list[int]:
    """Lines of a notebook's exported cells that define something, or of those that only import."""
    sources = [source for source in exported(path) if is_import_list(source) is of_imports]
    return [len(source.strip().splitlines()) for source in sources]


def median_cell(path: Path) -> int:
    lengths = sorted(cell_lengths(path) + cell_lengths(path, of_imports=True))
    return lengths[len(lengths) // 2]


def long_cells() -> list[int]:
    return [length for path in BOOK for length in cell_lengths(path) if length > LONG_CELL]


def module_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def prose_share(path: Path) -> float:
    return sum(cell.cell_type == "markdown" for cell in cells(path)) / len(cells(path))


def output_bytes(path: Path) -> int:
    return sum(len(str(output)) for output in outputs(path))


def pictures(path: Path) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(path))


@per_notebook
def test_exported_cells_are_short(path: Path) -> None:
    assert max(cell_lengths(path), default=0) <= MOST_CELL_LINES
    assert max(cell_lengths(path, of_imports=True), default=0) <= MOST_IMPORT_LINES
    assert median_cell(path) <= MEDIAN_CELL_LINES


def test_long_cells_become_fewer() -> None:
    count = len(long_cells())
    assert count <= MOST_LONG_CELLS, f"{count} exported cells have more than {LONG_CELL} lines: split the new ones"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_are_short(path: Path) -> None:
    assert module_lines(path) <= MOST_MODULE_LINES


def largest_values() -> dict[str, int]:
    """The present values of what the budgets limit."""
    return {
        "MOST_CELL_LINES": max(length for path in BOOK for length in cell_lengths(path)),
        "MOST_IMPORT_LINES": max(length for path in BOOK for length in cell_lengths(path, of_imports=True)),
        "MEDIAN_CELL_LINES": max(map(median_cell, BOOK)),
        "MOST_LONG_CELLS": len(long_cells()),
        "MOST_MODULE_LINES": max(map(module_lines, MODULES)),
        "MOST_RETIRED_WORDS": sum(retired_words().values()),
        "MOST_VAGUE_DOCSTRINGS": len(vague_docstrings()),
        "MOST_OUTPUT_BYTES": max(map(output_bytes, BOOK)),
        "MOST_PICTURES": max(map(pictures, BOOK)),
    }


def test_every_budget_is_tight() -> None:
    """A budget far above the largest value can't fail: whoever shortens that value lowers the budget too."""
    loose = {name: value for name, value in largest_values().items() if value < 0.8 * globals()[name]}
    assert not loose, f"lower these budgets to the values beside them: {loose}"
    assert min(map(prose_share, BOOK)) < 1.2 * LEAST_PROSE, "raise LEAST_PROSE"


@per_notebook
def test_a_chapter_explains_itself(path: Path) -> None:
    assert prose_share(path) >= LEAST_PROSE
    assert re.match(r"# .+\n> .+", cells(path)[0].source), "a chapter begins with '# Title' and '> one line'"


@per_notebook
def test_outputs_are_small_and_clean(path: Path) -> None:
    assert output_bytes(path) <= MOST_OUTPUT_BYTES
    assert pictures(path) <= MOST_PICTURES
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
def test_only_stages_have_one_cell_of_parameters(path: Path) -> None:
    tagged = [cell for cell in cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == (1 if path in STAGES else 0)


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


# A module imports from its own layer and from those before it; among chapters, from lower numbers.
LAYERS = (
    *("core", "detector", "transits", "prior", "rules", "uncertainty", "network", "simulator", "retrieval", "figures"),
    *("pipeline", "chapters", "dashboard", "operations", "cli"),
)


def layer(module: str) -> tuple[int, str]:
    """The position of a module's sub-package in LAYERS; of a chapter its number beside it."""
    package, _, name = module.removeprefix("spectramind_nb.").partition(".")
    number = next((path.stem for path in STAGES if path.stem[3:] == name), "") if package == "chapters" else ""
    return LAYERS.index(package), number


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_run_one_way(path: Path) -> None:
    mine = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    modules = {module for module in imports(path) if module.split(".")[0] in {"nbdev", "fastcore", "spectramind_nb"}}
    assert not modules & {"nbdev", "fastcore"}, "exported code needs neither"
    for module in (module for module in modules if "." in module):
        assert layer(module) <= layer(mine), f"{mine} imports {module}, which is above it"


def public_names() -> dict[str, set[str]]:
    """The modules that define each public class, function or constant of the package."""
    homes: dict[str, set[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)]
            for name in [getattr(node, "name", ""), *names]:
                if name and not name.startswith("_"):
                    homes.setdefault(name, set()).add(path.relative_to(ROOT).with_suffix("").as_posix())
    return homes


def test_no_two_public_things_share_a_name() -> None:
    """But for what each chapter has: its STAGE, and a function to explore it."""
    shared = {name: homes for name, homes in public_names().items() if len(homes) > 1}
    assert {name: homes for name, homes in shared.items() if name not in {"STAGE", "explore"}} == {}


@pytest.mark.parametrize("name", ["spectral_prior.npz", "predictors.json", "network.safetensors", "out_of_fold.npz"])
def test_a_file_that_a_run_learns_is_named_once(name: str) -> None:
    homes = [path.name for path in MODULES if f'"{name}"' in path.read_text(encoding="utf-8")]
    assert homes == ["files.py"], f"take the constant of core/files for {name}"


RETIRED = re.compile(
    r"(?<!dvc )\b(pulls?(?! request)|hang together|hears?|heard|lessons?|taught|teach|teaches|classroom|closed form|"
    r"strangers?|believed?|fails? alone|listen(?:s|ed|ing)? to|foretells?|told)\b",
    re.IGNORECASE,
)
OPENINGS = re.compile(
    r"(The same|Of |Those|Shapes|What |As |And |All |It |Its |Whether|How |Where |Which |Likewise|That |One )"
)


def retired_words() -> dict[str, int]:
    """How often notebooks and docs use words that docs/glossary.md has better ones for."""
    texts = {path: "\n".join(cell.source for cell in cells(path)) for path in BOOK}
    texts |= {path: path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")}
    found = {path.relative_to(ROOT).as_posix(): len(RETIRED.findall(text)) for path, text in texts.items()}
    return {name: count for name, count in found.items() if count}


def test_retired_words_become_fewer() -> None:
    found = retired_words()
    assert sum(found.values()) <= MOST_RETIRED_WORDS, f"see docs/glossary.md: {found}"


def vague_docstrings() -> list[str]:
    """Public docstrings whose first words make no sense away from the code."""
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                found += [f"{path.stem}.{node.name}"] if OPENINGS.match(ast.get_docstring(node) or "") else []
    return found


def test_vague_docstrings_become_fewer() -> None:
    found = vague_docstrings()
    assert len(found) <= MOST_VAGUE_DOCSTRINGS, f"begin with a verb: {', '.join(found)}"


def examples(book: Iterable[Path] = BOOK) -> tuple[int, int]:
    """Count the functions and classes that notebooks export, and the assertions in the cells beside them."""
    functions = sum(
        len(re.findall(r"^(?:def|class) [a-zA-Z]", source, re.M)) for path in book for source in exported(path)
    )
    beside = [
        c.source for path in book for c in cells(path) if c.cell_type == "code" and not c.source.startswith("#| export")
    ]
    return functions, sum(len(re.findall(r"^\s*assert\b|pytest\.raises", source, re.M)) for source in beside)


def test_asserted_examples_become_more() -> None:
    functions, checks = examples()
    assert checks / functions >= LEAST_EXAMPLES, f"{checks} checks for {functions} exported functions"


def test_no_large_file_in_git() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    sizes = {name: (ROOT / name).stat().st_size for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    assert set(MOST_FILE_BYTES) <= set(sizes)
    assert not [name for name, size in sizes.items() if size > MOST_FILE_BYTES.get(name, MOST_OTHER_FILE_BYTES)]


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


def print_counts() -> None:
    """Print asserted examples of each sub-package, and present values beside their budgets."""
    for folder in sorted({path.parent for path in BOOK}):
        functions, checks = examples([path for path in BOOK if path.parent == folder])
        name = "chapters" if folder == NBS else folder.name
        print(f"{name:<14}{checks:>5} asserted examples of{functions:>5} functions and classes")
    functions, checks = examples()
    print(f"asserted examples a public function: {checks / functions:.2f}, at least {LEAST_EXAMPLES}")
    for budget, value in largest_values().items():
        print(f"{budget.lower().replace('_', ' '):<24}{value:>8}, at most {globals()[budget]}")


if __name__ == "__main__":
    print_counts()


def code_of(cell: nbformat.NotebookNode) -> ast.Module:
    return ast.parse(re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.MULTILINE))


def loaded(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}


@per_notebook
def test_examples_use_only_what_cells_above_define(path: Path) -> None:
    """Functions that an example calls, and those that these call, are defined above it: a fresh kernel runs it."""
    place, body = dict[str, int](), dict[str, set[str]]()
    code = [(k, code_of(cell), cell.source) for k, cell in enumerate(cells(path)) if cell.cell_type == "code"]
    for k, tree, source in code:
        for node in tree.body if re.search(r"^#\| *export", source, re.M) else ():
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                place[node.name], body[node.name] = k, loaded(node)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} - loaded(node)
                place = dict.fromkeys(targets, k) | place
    imported, early = set[str](), set[str]()
    for k, tree, source in code:
        imported |= {
            name.asname or name.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for name in n.names
        }
        if not re.search(r"^#\| *export", source, re.M):
            names, found = loaded(tree) - imported, set[str]()
            while names:
                found |= names
                names = set().union(*(body.get(name, set()) for name in names)) - found - imported
            early |= {name for name in found if place.get(name, k) > k}
    assert not early, f"defined below an example that uses them: {sorted(early)}"
