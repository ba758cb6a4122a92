"""Keep the figures of the documentation equal to docs/metrics.yaml, and no older than the code that they measure.

    python tools/metrics.py render    write the tables of docs/benchmarks.md
    python tools/metrics.py check     print a line for each disagreement and exit with 1 if there is one

docs/metrics.yaml says at its top what a metric holds.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date as Date
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from spectramind_nb.core.versions import VERSIONS

ROOT = Path(__file__).parents[1]
DATA, PAGE = "docs/metrics.yaml", "docs/benchmarks.md"
BLOCK = re.compile(r"<!-- metrics: (?P<table>\S+) -->\n(?P<body>.*?)<!-- end -->", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])[+-]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))")


class MetricsError(ValueError):
    """docs/metrics.yaml can't be read as tables of metrics."""


@dataclass(frozen=True)
class Metric:
    """One row of a table: a figure, or one for each column, and what it measures."""

    name: str
    value: str | list[str]
    label: str = ""  # without one, the metric is in no table
    wanted: str = ""
    verdict: str = ""
    date: Date | None = None
    command: str = ""
    versions: dict[str, int] | None = None
    stale: str = ""
    quoted_in: list[dict[str, str]] = field(default_factory=list)

    @property
    def values(self) -> list[str]:
        return self.value if isinstance(self.value, list) else [self.value]


@dataclass(frozen=True)
class Table:
    """Metrics that are shown together, in a row each."""

    name: str
    columns: list[str]
    metrics: list[Metric]

    @property
    def rows(self) -> list[Metric]:
        return [metric for metric in self.metrics if metric.label]


def entries(root: Path) -> list[dict[str, Any]]:
    """Return the entries of docs/metrics.yaml: tables, and versions that give the same figures."""
    return list(yaml.safe_load((root / DATA).read_text(encoding="utf-8")))


def same_versions(root: Path) -> dict[str, tuple[int, ...]]:
    """Return the versions of a part of the code that give the same figures, by the part's name."""
    found = {}
    for entry in entries(root):
        if "same" in entry:
            if not (entry.get("because") and len(entry.get("versions", ())) > 1):
                raise MetricsError(f"{DATA}: same {entry['same']}: state two versions or more, and `because`")
            found[entry["same"]] = tuple(entry["versions"])
    return found


def read_tables(root: Path) -> list[Table]:
    """Return the tables of docs/metrics.yaml; a metric inherits its table's command, date and versions."""
    tables = []
    for entry in entries(root):
        if "same" in entry:
            continue
        inherited = {key: entry[key] for key in ("command", "date", "versions") if key in entry}
        try:
            metrics = [Metric(**{**inherited, **metric}) for metric in entry["metrics"]]
            tables.append(Table(entry["table"], entry["columns"], metrics))
        except (KeyError, TypeError) as error:
            raise MetricsError(f"{DATA}: table {entry.get('table')}: {error}") from error
    return tables


def render_table(table: Table) -> str:
    """Return a table as Markdown: its commands, its rows, and a note for each reason why rows are outdated."""
    commands = dict.fromkeys(metric.command for metric in table.metrics)
    extra = [name for name in ("wanted", "verdict") if any(getattr(row, name) for row in table.rows)]
    reasons = list(dict.fromkeys(row.stale for row in table.rows if row.stale))
    headings = [*table.columns, "date", *extra]
    rows = [headings, ["---"] * len(headings)]
    for row in table.rows:
        note = f" (note {reasons.index(row.stale) + 1})" if row.stale else ""
        rows.append([row.label, *map(str, row.values), f"{row.date}{note}", *(getattr(row, name) for name in extra)])
    parts = ["```console\n" + "".join(f"$ {command}\n" for command in commands) + "```"]
    parts += ["\n".join("| " + " | ".join(cells) + " |" for cells in rows)]
    parts += [f"Note {number}: outdated; {reason}." for number, reason in enumerate(reasons, 1)]
    return "\n" + "\n\n".join(parts) + "\n\n"


def render_page(text: str, tables: list[Table]) -> str:
    """Return the page with all blocks that name a table rendered anew."""
    rendered = {table.name: render_table(table) for table in tables}

    def block(match: re.Match[str]) -> str:
        body = rendered.get(match["table"], match["body"])
        return f"<!-- metrics: {match['table']} -->\n{body}<!-- end -->"

    return BLOCK.sub(block, text)


def numbers_in(text: str) -> list[Decimal]:
    """Return the numbers of a text as written, those inside of names such as FGS1 left out."""
    return [Decimal(number.replace(",", "")) for number in NUMBER.findall(text)]


def is_figure(number: Decimal, figures: list[Decimal]) -> bool:
    """Return whether a number is one of the figures, at most rounded to fewer digits."""
    half_a_digit = Decimal(5).scaleb(int(number.as_tuple().exponent) - 1)
    return any(abs(number - figure) <= half_a_digit for figure in figures)


def metric_faults(metric: Metric, versions: Mapping[str, int], same: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Yield what is incomplete or outdated in one metric; `same` are versions that give the same figures."""
    if not all(isinstance(value, str) and value for value in metric.values):
        yield f"{metric.name}: value must be text; write it in quotes"
    if not isinstance(metric.date, Date):
        yield f"{metric.name}: date is missing; write it as YYYY-MM-DD"
    if not metric.command:
        yield f"{metric.name}: command is missing"
    if metric.versions is None:
        yield f"{metric.name}: versions are missing; write {{}} if the figure depends on none"
    for name, recorded in (metric.versions or {}).items():
        if name not in versions:
            yield f"{metric.name}: unknown version {name}; there are {', '.join(versions)}"
        elif (
            recorded != versions[name] and not metric.stale and not {recorded, versions[name]} <= {*same.get(name, ())}
        ):
            yield (
                f"{metric.name}: outdated, measured with {name} {recorded}, this code has {name} {versions[name]}; "
                f"run `{metric.command}` and update value, date and versions"
            )


def quote_faults(metric: Metric, root: Path) -> Iterator[str]:
    """Yield phrases that are missing from their file, or that state other figures than the metric."""
    if not metric.label and not metric.quoted_in:
        yield f"{metric.name}: is shown nowhere; give it a label or quoted_in"
    figures = [number for value in metric.values for number in numbers_in(str(value))]
    for quote in metric.quoted_in:
        file, phrase, path = quote["file"], quote["text"], root / quote["file"]
        text = " ".join(path.read_text(encoding="utf-8").split()) if path.exists() else ""
        numbers = numbers_in(phrase)
        if not re.search(rf"(?<![\w.]){re.escape(' '.join(phrase.split()))}(?!\w|\.\d)", text):
            yield f"{metric.name}: {file} does not contain the phrase {phrase!r}"
        if not numbers:
            yield f"{metric.name}: the phrase {phrase!r} for {file} holds no figure"
        for number in numbers:
            if not is_figure(number, figures):
                yield f"{metric.name}: the phrase {phrase!r} for {file} holds {number}, the value is {metric.value}"


def page_faults(tables: list[Table], root: Path) -> Iterator[str]:
    """Yield tables that have no place in docs/benchmarks.md, or differ there from the data."""
    blocks = [(match["table"], match["body"]) for match in BLOCK.finditer((root / PAGE).read_text(encoding="utf-8"))]
    rendered = {table.name: render_table(table) for table in tables}
    for name, body in blocks:
        if name not in rendered:
            yield f"{PAGE}: table {name} is not in {DATA}"
        elif body != rendered[name]:
            yield f"{PAGE}: table {name} differs from {DATA}; run python tools/metrics.py render"
    for name in rendered.keys() - dict(blocks).keys():
        yield f"{PAGE}: has no place `<!-- metrics: {name} -->` … `<!-- end -->` for table {name}"


def faults(root: Path = ROOT, versions: Mapping[str, int] = VERSIONS) -> list[str]:
    """Return every disagreement between the figures, the pages and the code, a line each."""
    tables = read_tables(root)
    metrics = [metric for table in tables for metric in table.metrics]
    names = Counter([table.name for table in tables] + [metric.name for metric in metrics])
    found = [f"{name}: the name is used {count} times" for name, count in names.items() if count > 1]
    for table in tables:
        for row in table.rows:
            if len(row.values) != len(table.columns) - 1:
                found.append(f"{row.name}: {len(row.values)} values for {len(table.columns) - 1} columns")
    same = same_versions(root)
    for metric in metrics:
        found += [*metric_faults(metric, versions, same), *quote_faults(metric, root)]
    return [*found, *page_faults(tables, root)]


def render(root: Path = ROOT) -> None:
    """Write the tables of docs/benchmarks.md."""
    page = root / PAGE
    page.write_text(render_page(page.read_text(encoding="utf-8"), read_tables(root)), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Run a subcommand and return its exit status."""
    if arguments not in (["render"], ["check"]):
        print("usage: python tools/metrics.py render | check", file=sys.stderr)
        return 2
    try:
        if arguments == ["render"]:
            render()
            return 0
        found = faults()
    except MetricsError as error:
        found = [str(error)]
    print("\n".join(found) or f"{DATA}: the pages agree with it, and every outdated figure is marked as such")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
