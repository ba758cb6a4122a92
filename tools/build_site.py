"""Builds the site: every chapter, how-to and decision, and the API read off the code. Output: _docs/.

Pages are staged into _proc/ (nbdev's processors; Markdown from outside nbs/ beside them; links as the site needs them),
then rendered by Quarto where it is installed, else by smalldocs. No code is run: chapters show the outputs they hold.

Run: python tools/build_site.py
"""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import yaml
from check_docs import ROOT, base, definitions, faults, modules, outside, pages, prose
from nbdev.serve import proc_nbs

STAGE, SITE = ROOT / "_proc", ROOT / "_docs"
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\[\]]*\]|!\[[^\]]*\]\([^)]*\))*)\]\(([^()\s]+)\)")
PICTURE = re.compile(r"(!\[[^\]]*\])\(([^()\s]+)\)")


def place(page: Path) -> Path:
    """Where a file of the repository stands in the site: nbs/ is its root, a folder's README its index."""
    page = page.relative_to("nbs") if page.parts[:1] == ("nbs",) else page
    return page.with_name("index.md") if page.name == "README.md" else page


def way(start: Path, end: Path) -> str:
    """A relative link from one page of the site to another."""
    up = len(start.parent.parts)
    return "../" * up + end.as_posix()


def relinked(text: str, page: Path) -> str:
    """A page's Markdown with links for the site; a link to what is no page there becomes its text."""
    known = set(pages())

    def target(written: str) -> str | None:
        name, _, anchor = written.partition("#")
        there = Path(*(ROOT / base(page) / name).resolve().relative_to(ROOT).parts)
        there = there / "README.md" if there / "README.md" in known else there
        if there not in known and there.suffix != ".png":
            return None
        return way(place(page), place(there)) + (f"#{anchor.lower()}" if anchor else "")

    def link(match: re.Match[str]) -> str:
        if outside(match[2]) or match[2].startswith("#"):
            return match[0]
        found = target(match[2])
        return f"[{match[1]}]({found})" if found else match[1]

    def picture(match: re.Match[str]) -> str:
        return match[0] if outside(match[2]) else f"{match[1]}({target(match[2])})"

    return PICTURE.sub(picture, LINK.sub(link, text))


def described(cells: list[dict]) -> None:
    """Give each picture among outputs the alt text that a reader has: its section, and the prose before it."""
    section, said = "", ""
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for line in source.splitlines():
                if heading := re.match(r"#+ (.+)", line):
                    section, said = heading[1], ""
                elif line.strip():
                    said = line.strip()
        elif any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            plain = re.sub(r"[`*\[\]]|\([^()]*\.ipynb\)", "", f"Figure: {section}. {said}")[:300]
            cell["source"] = f"#| fig-alt: {json.dumps(plain, ensure_ascii=False)}\n{source}"


def stage_notebook(page: Path) -> None:
    """Mend a processed notebook's links, describe its pictures, drop empty cells, make its title front matter.

    nbdev's own front matter would drop what follows the title in the same cell, and the chapter's number.
    """
    path = STAGE / place(page)
    book = json.loads(path.read_text(encoding="utf-8"))
    kept = [c for c in book["cells"] if c["cell_type"] != "code" or "".join(c["source"]).strip()]
    for cell in kept:
        if cell["cell_type"] == "markdown":
            text = re.sub(r"\A# .+\n(?:> .+\n?)?", "", "".join(cell["source"]))
            cell["source"] = relinked(text, page)
    described(kept)
    number, named = page.stem.partition("_")[0], title(page)
    named = named if named.startswith(number) or not number[0].isdigit() else f"{number} {named}"
    front = yaml.safe_dump({"title": named, "description": LINK.sub(r"\1", tagline(page))}, allow_unicode=True)
    kept.insert(0, {"cell_type": "raw", "metadata": {}, "source": f"---\n{front}---"})
    path.write_text(json.dumps({**book, "cells": kept}, ensure_ascii=False), encoding="utf-8")


def skeleton(node: ast.AST, lines: list[str]) -> str:
    """A class's or function's source without bodies: signature, docstring, fields and their comments, methods."""
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    has_doc = ast.get_docstring(node) is not None
    end = node.body[0].end_lineno if has_doc else node.body[0].lineno - 1
    parts = ["\n".join(lines[first:end])]
    if isinstance(node, ast.ClassDef):
        for inner in node.body[has_doc:]:
            if isinstance(inner, ast.AnnAssign | ast.Assign):
                parts.append("\n".join(lines[inner.lineno - 1 : inner.end_lineno]))
            elif inner in definitions(node):
                parts.append(skeleton(inner, lines))
    return "\n".join(parts)


def api_page(module: Path, chapter: Path) -> str:
    """A module's page: what it is, where it is explained, every public name with its docstring and units."""
    text = (ROOT / module).read_text(encoding="utf-8")
    name = ".".join(module.with_suffix("").parts)
    head = f"# {name}\n\nFrom [{title(chapter)}]({way(Path('api') / name, place(chapter))}).\n"
    lines, public = text.splitlines(), definitions(ast.parse(text))
    return "\n".join([head, *(f"## {n.name}\n\n```python\n{skeleton(n, lines)}\n```\n" for n in public)])


def title(page: Path) -> str:
    """A page's first heading."""
    return next(line[2:].strip() for line in prose(ROOT / page).splitlines() if line.startswith("# "))


def tagline(page: Path) -> str:
    """The one line under a chapter's title."""
    return next((line[2:].strip() for line in prose(ROOT / page).splitlines() if line.startswith("> ")), "")


def chapters() -> Iterator[tuple[Path, Path]]:
    """Each exported module and the notebook that it comes from."""
    for module in modules():
        made = re.search(r"File to edit: \S*?nbs/(\S+\.ipynb)", (ROOT / module).read_text(encoding="utf-8"))
        if made:
            yield module, Path("nbs") / made[1]


def stage_api() -> None:
    """A page for each module, and one that lists them."""
    rows = ["# API", "", "Every module's public names, read off the code.", "", "| module | what |", "|---|---|"]
    (STAGE / "api").mkdir(exist_ok=True)
    for module, chapter in chapters():
        name = ".".join(module.with_suffix("").parts)
        (STAGE / "api" / f"{name}.md").write_text(api_page(module, chapter), encoding="utf-8")
        said = LINK.sub(r"\1", tagline(chapter))
        rows.append(f"| [{name}]({name}.md) | {said} |")
    (STAGE / "api" / "index.md").write_text("\n".join(rows) + "\n", encoding="utf-8")


def facts() -> dict:
    """The site's title and description, from where package facts live."""
    parser = ConfigParser(delimiters=["="], interpolation=None)
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return {"website": {"title": title(Path("nbs/index.ipynb")), "description": parser["DEFAULT"]["description"]}}


def listed(contents: object) -> Iterator[str]:
    """The pages and globs of a sidebar, sections within sections."""
    if isinstance(contents, str):
        yield contents
    elif isinstance(contents, dict):
        yield from filter(None, [contents.get("href")])
        yield from listed(contents.get("contents", []))
    else:
        for entry in contents:  # type: ignore[attr-defined]
            yield from listed(entry)


def sidebar_faults() -> list[str]:
    """Pages that the sidebar lacks, and entries of it that are no page."""
    sidebar = yaml.safe_load((ROOT / "nbs/sidebar.yml").read_text(encoding="utf-8"))["website"]["sidebar"]
    entries, places = list(listed(sidebar)), [place(page).as_posix() for page in pages()] + ["api/index.md"]

    def fits(name: str, entry: str) -> bool:
        return fnmatch(name, entry) and name.count("/") == entry.count("/")

    return [
        *(f"nbs/sidebar.yml: {p} is not listed" for p in places if not any(fits(p, entry) for entry in entries)),
        *(f"nbs/sidebar.yml: {e} is not there" for e in entries if "*" not in e and e not in places),
    ]


def stage() -> None:
    """The whole site's sources in _proc/."""
    shutil.rmtree(STAGE, ignore_errors=True)
    proc_nbs(str(ROOT / "nbs"), n_workers=0)
    for page in pages():
        if page.suffix == ".ipynb":
            stage_notebook(page)
        else:
            there = STAGE / place(page)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_text(relinked((ROOT / page).read_text(encoding="utf-8"), page), encoding="utf-8")
    shutil.copytree(ROOT / "docs/images", STAGE / "docs/images", dirs_exist_ok=True)
    stage_api()
    (STAGE / "nbdev.yml").write_text(yaml.safe_dump(facts(), allow_unicode=True), encoding="utf-8")


def render() -> int:
    """The site in _docs/, by Quarto or else by smalldocs; the renderer's exit status, 0 where neither is installed."""
    if quarto := shutil.which("quarto"):
        command = [quarto, "render", str(STAGE), "--no-execute"]
    elif find_spec("smalldocs"):
        command = [sys.executable, "-m", "smalldocs.cli", "render", "--quiet", "--strict", str(STAGE)]
    else:
        print(f"not rendered: neither Quarto nor smalldocs is installed. The pages are in {STAGE.name}/")
        return 0
    status = subprocess.run(command).returncode
    if status == 0:
        shutil.rmtree(SITE, ignore_errors=True)
        shutil.move(STAGE / "_site", SITE)
        print(f"{len(list(SITE.rglob('*.html')))} pages in {SITE.name}/")
    return status


if __name__ == "__main__":
    if found := faults() + sidebar_faults():
        raise SystemExit("\n".join(found))
    stage()
    sys.exit(render())
