"""Figures: the checker finds each kind of planted disagreement, and the repository has none."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spectramind_nb.core.versions import VERSIONS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import metrics

DATA = """
- table: speed
  command: python benchmarks/speed.py
  date: 2026-11-26
  versions: {fit: 1}
  columns: [method, seconds, planets]
  metrics:
    - name: speed.plain
      label: plain
      value: ["1.25 [1.1, 1.4]", "1,000"]
      wanted: below 2
      verdict: met
      quoted_in: [{file: page.md, text: "takes 1.25 s for 1,000 planets"}]
    - {name: speed.fast, label: fast, value: [".5", "-"], versions: {fit: 1, prior: 2}}
"""
PAGE = "# Speed\n\n<!-- metrics: speed -->\n<!-- end -->\n\nProse stays.\n"
QUOTE = "A fit in FGS1\ntakes 1.25 s for 1,000 planets.\n"
Book = Callable[..., list[str]]


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """The faults of a small folder of docs, rendered, after a text in one of its files was replaced."""
    (tmp_path / "docs").mkdir()
    for name, text in {metrics.DATA: DATA, metrics.PAGE: PAGE, "page.md": QUOTE}.items():
        (tmp_path / name).write_text(text)
    metrics.render(tmp_path)

    def faults(file: str = "page.md", old: str = "", new: str = "", **versions: int) -> list[str]:
        text = (tmp_path / file).read_text()
        assert old in text
        (tmp_path / file).write_text(text.replace(old, new, 1) if old else text)
        return metrics.faults(tmp_path, {"fit": 1, "prior": 2} | versions)

    return faults


def test_the_repository_has_no_faults() -> None:
    assert metrics.faults() == []


SAME = "- same: fit\n  versions: [1, 2]\n  because: depths are equal to 1 ppm\n"


def test_a_version_may_stand_for_another_for_a_reason(book: Book) -> None:
    assert "fit 1, this code has fit 2" in book(fit=2)[0]
    assert book(metrics.DATA, DATA, SAME + DATA, fit=2) == []
    assert "fit 1, this code has fit 3" in book(fit=3)[0]
    with pytest.raises(metrics.MetricsError, match="same fit: state two versions or more, and `because`"):
        book(metrics.DATA, "  because: depths are equal to 1 ppm\n", "")


def test_rendering_writes_the_table_and_leaves_prose_alone(book: Book, tmp_path: Path) -> None:
    assert book() == []
    text = (tmp_path / metrics.PAGE).read_text()
    assert "| plain | 1.25 [1.1, 1.4] | 1,000 | 2026-11-26 | below 2 | met |" in text
    assert text.startswith("# Speed\n") and text.endswith("\n\nProse stays.\n")
    metrics.render(tmp_path)
    assert (tmp_path / metrics.PAGE).read_text() == text


@pytest.mark.parametrize(
    "file, old, new, expected",
    [
        (metrics.PAGE, "| 1.25 ", "| 1.26 ", "docs/benchmarks.md: table speed differs"),
        (metrics.PAGE, "<!-- metrics: speed -->", "", "has no place `<!-- metrics: speed -->`"),
        (metrics.PAGE, "metrics: speed", "metrics: sped", "table sped is not in docs/metrics.yaml"),
        ("page.md", "1.25", "1.35", "speed.plain: page.md does not contain the phrase"),
        ("page.md", "planets", "planets_of_another_bank", "speed.plain: page.md does not contain the phrase"),
        (metrics.DATA, "takes 1.25 s", "takes 1.35 s", "holds 1.35, the value is"),
        (metrics.DATA, "takes 1.25 s for 1,000 planets", "A fit in FGS1", "holds no figure"),
        (metrics.DATA, "{fit: 1}", "{fitt: 1}", "speed.plain: unknown version fitt; there are fit, prior"),
        (metrics.DATA, "speed.fast", "speed.plain", "speed.plain: the name is used 2 times"),
        (metrics.DATA, "  command: python benchmarks/speed.py\n", "", "speed.fast: command is missing"),
        (metrics.DATA, "  date: 2026-11-26\n", "", "speed.fast: date is missing"),
        (metrics.DATA, "  versions: {fit: 1}\n", "", "speed.plain: versions are missing"),
        (metrics.DATA, '[".5", "-"]', '[".5"]', "speed.fast: 1 values for 2 columns"),
        (metrics.DATA, '[".5", "-"]', '[.5, "-"]', "speed.fast: value must be text"),
        (metrics.DATA, "label: fast, ", "", "speed.fast: is shown nowhere"),
    ],
)
def test_planted_faults_are_found(book: Book, file: str, old: str, new: str, expected: str) -> None:
    faults = book(file, old, new)
    assert any(expected in fault for fault in faults), faults


def test_a_raised_version_outdates_its_figures_alone(book: Book) -> None:
    assert book(prior=3) == [
        "speed.fast: outdated, measured with prior 2, this code has prior 3; "
        "run `python benchmarks/speed.py` and update value, date and versions"
    ]


def test_an_outdated_figure_is_kept_with_a_reason_below_its_table(book: Book, tmp_path: Path) -> None:
    book(metrics.DATA, "label: fast,", "label: fast, stale: measured before the change,")
    metrics.render(tmp_path)
    assert book(prior=3) == []
    text = (tmp_path / metrics.PAGE).read_text()
    assert "| fast | .5 | - | 2026-11-26 (note 1) |" in text and "Note 1: outdated; measured before the change." in text


def test_a_misspelt_key_is_named(book: Book) -> None:
    with pytest.raises(metrics.MetricsError, match=r"docs/metrics\.yaml: table speed: .*wnated"):
        book(metrics.DATA, "wanted", "wnated")


@pytest.mark.parametrize(
    "phrase, same",
    [("z 1.5", True), ("z 1.6", False), ("1.496", False), ("1.49", True), ("-.007", True), ("-.006", False)],
)
def test_a_phrase_may_round_a_figure(phrase: str, same: bool) -> None:
    figures = metrics.numbers_in("FGS1 1.50, 1.49 [-.0066, +2]")
    assert [metrics.is_figure(number, figures) for number in metrics.numbers_in(phrase)] == [same]


def test_numbers_are_read_as_written() -> None:
    text = "FGS1: .906 [.898, .914], -.5 to +2, 1,100 planets in 37, 24, 18 ppm of H2O, b²"
    assert [str(number) for number in metrics.numbers_in(text)] == [
        *("0.906", "0.898", "0.914", "-0.5", "2", "1100", "37", "24", "18")
    ]


def test_the_command_ends_with_1_where_a_version_was_raised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = VERSIONS["fit"]
    monkeypatch.setitem(VERSIONS, "fit", now + 1)
    assert metrics.main(["check"]) == 1
    wanted = rf"worlds\.default: outdated, measured with fit \d+, this code has fit {now + 1};"
    assert re.search(wanted, capsys.readouterr().out)
    assert metrics.main([]) == 2
