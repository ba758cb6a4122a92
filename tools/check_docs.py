"""Checks what a reader clicks and a screen reader reads, in every notebook and Markdown page: links, anchors, pictures.

- a relative link names a file or folder of this repository, and its `#anchor` a heading of that file;
- every picture in prose has alt text;
- docs/adr/README.md lists every decision;
- every public class and function has a docstring.

Links to other sites are not followed: a check must not fail because a stranger's server does.

Run: python tools/check_docs.py
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

ROOT = Path(__file__).parents[1]
# Pages of the site. README.md is made from nbs/index.ipynb, which stands for it there.
PAGES = (
    "nbs/*.ipynb",
    "nbs/*/*.ipynb",
    "docs/**/*.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "kaggle/*.md",
    "spectramind_nb/data/*.md",
)
PARSER = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin)


def pages(root: Path = ROOT) -> list[Path]:
    """The pages of the site, relative to the repository's root, in order."""
    return sorted({path.relative_to(root) for pattern in PAGES for path in root.glob(pattern)})


def prose(path: Path) -> str:
    """The Markdown of a page: the file itself, or a notebook's markdown cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def base(page: Path) -> Path:
    """The folder that a page's links start from: the index's from the root, where it is the README."""
    return Path() if page == Path("nbs/index.ipynb") else page.parent


def inner(tokens: list[Token]) -> Iterator[Token]:
    """All tokens of parsed Markdown, those inside of others as well."""
    for token in tokens:
        yield token
        yield from inner(token.children or [])


def slug(heading: str) -> str:
    """A heading's anchor as GitHub, Quarto and Jupyter make it, small letters for all three."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings; none for a file that is no page."""
    if path.suffix not in {".md", ".ipynb"}:
        return set()
    tokens = PARSER.parse(prose(path))
    return {
        slug("".join(child.content for child in following.children or []))
        for token, following in pairwise(tokens)
        if token.type == "heading_open"
    }


@dataclass(frozen=True)
class Reference:
    """What a page points at: a link or a picture."""

    target: str  # as written
    alt: str | None  # a picture's alt text; None for a link


def references(text: str) -> Iterator[Reference]:
    """The links and pictures of Markdown, code and maths left out."""
    for token in inner(PARSER.parse(text)):
        if token.type == "link_open":
            yield Reference(str(token.attrs["href"]), None)
        elif token.type == "image":
            yield Reference(str(token.attrs["src"]), token.content.strip())
        elif token.type in {"html_inline", "html_block"}:
            for tag in re.findall(r"<img\b[^>]*>", token.content):
                source, alt = (re.search(rf'\b{name}="([^"]*)"', tag) for name in ("src", "alt"))
                yield Reference(source[1] if source else "", alt[1].strip() if alt else "")


def outside(target: str) -> bool:
    """Whether a link leaves the repository."""
    return bool(re.match(r"[a-z][a-z0-9+.-]*:|//", target))


def page_faults(page: Path, root: Path = ROOT) -> Iterator[str]:
    """What is wrong with the links and pictures of one page, a line each."""
    for reference in references(prose(root / page)):
        if reference.alt == "":
            yield f"{page}: picture {reference.target} has no alt text"
        if outside(reference.target):
            continue
        name, _, anchor = reference.target.partition("#")
        there = root / base(page) / unquote(name) if name else root / page
        if not there.exists():
            yield f"{page}: link to {reference.target}, which is not there"
        elif anchor and unquote(anchor).lower() not in anchors(there):
            yield f"{page}: link to {reference.target}, which has no such heading"


def index_faults(root: Path = ROOT) -> Iterator[str]:
    """Decisions and how-tos that the index of their folder doesn't list."""
    for folder in ("docs/adr", "docs/how-to"):
        index = root / folder / "README.md"
        listed = {r.target for r in references(prose(index))} if index.exists() else set()
        for path in sorted((root / folder).glob("*.md")):
            if path != index and path.name not in listed:
                yield f"{folder}/README.md: {path.name} is not listed"


def definitions(tree: ast.Module | ast.ClassDef) -> list[ast.FunctionDef | ast.ClassDef]:
    """The public classes and functions of a module, or methods of a class."""
    return [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]


def modules(root: Path = ROOT) -> list[Path]:
    """The package's modules that notebooks export, relative to the root."""
    found = (root / "spectramind_nb").rglob("*.py")
    return sorted(path.relative_to(root) for path in found if not path.name.startswith("_"))


def docstring_faults(root: Path = ROOT) -> Iterator[str]:
    """Public classes and functions that say nothing of themselves."""
    for module in modules(root):
        for node in definitions(ast.parse((root / module).read_text(encoding="utf-8"))):
            if not ast.get_docstring(node):
                yield f"{module}:{node.lineno}: {node.name} has no docstring"


def faults(root: Path = ROOT) -> list[str]:
    """Everything that is wrong, a line each."""
    found = [fault for page in [*pages(root), Path("README.md")] for fault in page_faults(page, root)]
    return [*found, *index_faults(root), *docstring_faults(root)]


if __name__ == "__main__":
    found = faults()
    print("\n".join(found) or f"{len(pages())} pages: links, pictures, indexes and docstrings are whole")
    sys.exit(bool(found))
