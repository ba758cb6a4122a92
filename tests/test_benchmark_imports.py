"""Every name that a benchmark or a tool imports exists; they are run too rarely for a missing one to be noticed."""

import ast
import importlib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for folder in ("benchmarks", "tools") for path in (ROOT / folder).glob("*.py"))


def defined(path: Path) -> set[str]:
    """Names that a script's own statements define or import."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {one.asname or one.name for one in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_every_imported_name_exists(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        names = {one.name for one in node.names}
        if (own := path.with_name(f"{node.module}.py")).is_file():
            missing = names - defined(own)
        elif node.module.startswith("spectramind_nb"):
            module = importlib.import_module(node.module)
            missing = {name for name in names if not hasattr(module, name)}
            missing = {name for name in missing if not find_spec(f"{node.module}.{name}")}
        else:
            continue
        assert not missing, f"{path.name}: {node.module} has no {', '.join(sorted(missing))}"
