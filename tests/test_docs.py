"""Docs: the checker finds what is planted, and what each page promises to hold is there."""

import re
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from spectramind_nb.core.contracts import read_npz, write_npz
from spectramind_nb.core.errors import ContractError, UserError
from spectramind_nb.core.files import run_folder
from spectramind_nb.pipeline.stages import find_stages, finished

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import adopt_features
import check_docs

GOOD = """# A page

## What it *says*

[here](#what-it-says) [there](other.md#top) $[a](b)$ `[c](d)`

![two lines](a.png)
"""


@pytest.fixture
def book(tmp_path: Path) -> Callable[[str], list[str]]:
    """The faults of a folder of docs whose one page holds a text."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/other.md").write_text("# Top\n")
    (tmp_path / "docs/a.png").write_bytes(b"")
    (tmp_path / "README.md").write_text("")

    def faults(text: str) -> list[str]:
        (tmp_path / "docs/page.md").write_text(text)
        return check_docs.faults(tmp_path)

    return faults


def test_the_docs_are_whole() -> None:
    assert check_docs.faults() == []


@pytest.mark.parametrize(
    "text, said",
    [
        (GOOD, None),
        ("[x](gone.md)", "link to gone.md, which is not there"),
        ("[x](other.md#bottom)", "link to other.md#bottom, which has no such heading"),
        ("[x](#nowhere)", "link to #nowhere, which has no such heading"),
        ("![](a.png)", "picture a.png has no alt text"),
        ('<img src="a.png">', "picture a.png has no alt text"),
        ("[x][y]\n\n[y]: gone.md", "link to gone.md, which is not there"),
        ("[x](https://example.org/gone)", None),
    ],
)
def test_planted_faults_are_found(book: Callable[[str], list[str]], text: str, said: str | None) -> None:
    assert book(text) == ([f"docs/page.md: {said}"] if said else [])


def test_an_index_lists_its_folder(book: Callable[[str], list[str]], tmp_path: Path) -> None:
    (tmp_path / "docs/adr").mkdir()
    (tmp_path / "docs/adr/0001-first.md").write_text("# 1. First\n")
    (tmp_path / "docs/adr/README.md").write_text("# Decisions\n")
    assert book(GOOD) == ["docs/adr/README.md: 0001-first.md is not listed"]


def test_a_public_name_says_what_it_is(book: Callable[[str], list[str]], tmp_path: Path) -> None:
    (tmp_path / "spectramind_nb").mkdir()
    (tmp_path / "spectramind_nb/x.py").write_text("def said():\n    '''It is.'''\n\n\ndef unsaid(): ...\n")
    assert book(GOOD) == ["spectramind_nb/x.py:5: unsaid has no docstring"]


def test_decisions_are_numbered_without_gaps() -> None:
    found = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    numbers = [int(path.name[:4]) for path in found]
    assert numbers == list(range(1, len(found) + 1))
    assert all(path.read_text().startswith(f"# {n}. ") for path, n in zip(found, numbers, strict=True))


def test_citation_agrees_with_the_package() -> None:
    parser = ConfigParser(delimiters=["="], interpolation=None)
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    facts, cited = parser["DEFAULT"], yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(cited)  # what the format demands
    assert cited["cff-version"] == "1.2.0" and all(set(who) <= {"name", "website"} for who in cited["authors"])
    assert [who["name"] for who in cited["authors"]] == [facts["author"]]
    for key in ("version", "license"):
        assert cited[key] == facts[key]
    assert cited["abstract"] == facts["description"] and cited["keywords"] == facts["keywords"].split()


def test_fragments_become_a_changelog() -> None:
    """Every file in changes/ is read by towncrier, which passes over what it can't place."""
    draft = subprocess.run(
        [Path(sys.executable).with_name("towncrier"), "build", "--draft", "--version", "9.9.9"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert draft.returncode == 0, draft.stderr
    for path in (ROOT / "changes").glob("*.md"):
        if path.name != "template.md":
            assert re.fullmatch(r"[a-z0-9_-]+\.(added|changed|fixed|removed)\.md", path.name)
            assert path.read_text().strip() in draft.stdout


def adoptable(folder: Path, planets: list[int]) -> tuple[Path, Path]:
    """Light curves of some planets, one step each, and the tables that go with them."""
    features, raw = folder / "features", folder / "tables"
    raw.mkdir()
    axes = {"time": np.zeros(1), "visit": np.zeros(1, np.int8)}
    one, bins, two = (np.ones(shape, np.float32) for shape in [(1,), (1, 283), (1, 2)])
    for planet in planets:
        write_npz(features / f"airs_bins_{planet}.npz", "airs_bins", flux=bins, variance=bins, **axes)
        write_npz(
            features / f"fgs1_white_{planet}.npz",
            "fgs1_white",
            flux=one,
            variance=one,
            centroid=two,
            jitter=two,
            **axes,
        )
    stars = pd.DataFrame({"planet_id": planets, "sma": 10.0, "i": 89.0, "P": 4.0})
    stars[:-1].to_csv(raw / "train_star_info.csv", index=False)
    stars[-1:].to_csv(raw / "test_star_info.csv", index=False)
    return features, raw


def test_light_curves_are_adopted_as_finished_stages(tmp_path: Path) -> None:
    features, raw = adoptable(tmp_path, [7, 11, 13])
    adopt_features.main(features, raw, tmp_path / "run")
    stages = find_stages(tmp_path / "run")
    assert [finished(stage) for stage in stages[:3]] == [True, True, False]
    for planet in (7, 11, 13):
        for kind in ("airs_bins", "fgs1_white"):
            adopted = read_npz(run_folder(tmp_path / "run", "data/features") / f"{kind}_{planet}.npz", kind)
            given = read_npz(features / f"{kind}_{planet}.npz", kind)
            assert adopted.keys() == given.keys()
            assert all(np.array_equal(adopted[name], given[name]) for name in given)


def test_files_with_the_specifications_keys_are_completed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Flux, time, centroid and jitter only, and float64: the variance is that of the noise, not of transit or drift."""
    features, raw = adoptable(tmp_path, [7, 11])
    rng, hours = np.random.default_rng(0), np.linspace(0, 7, 400)
    drift = 1 + 0.05 * hours - 0.01 * (np.abs(hours - 3.5) < 1.2)
    noise = np.geomspace(1e-4, 1e-2, 283)
    flux = 1e4 * (drift[:, None] + noise * rng.normal(size=(400, 283)))
    flux[5, 3] = np.nan
    two = np.zeros((400, 2))
    np.savez(features / "airs_bins_7.npz", flux=flux, time=hours)
    np.savez(features / "fgs1_white_7.npz", flux=flux[:, 100], time=hours, centroid=two, jitter=two)
    adopt_features.main(features, raw, tmp_path / "run")
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["no variance in 2 files: estimated from the scatter", "no visit in 2 files: taken as one visit"]
    there = run_folder(tmp_path / "run", "data/features")
    bins, white = (read_npz(there / f"{kind}_7.npz", kind) for kind in ("airs_bins", "fgs1_white"))
    ratio = bins["variance"][0] / (1e4 * noise) ** 2
    assert abs(np.median(ratio) - 1) < 0.05 and ratio.min() > 0.6 and ratio.max() < 1.6
    assert np.array_equal(np.isnan(bins["variance"]), np.isnan(flux)) and not bins["visit"].any()
    assert np.array_equal(white["variance"], bins["variance"][:, 100])

    for problem, kept in {
        "time: doesn't rise, and there is no visit": {"flux": flux, "time": hours[::-1]},
        "variance: is missing, and flux has no scatter": {"flux": np.ones((400, 283)), "time": hours},
        "time: missing or unknown": {"flux": flux},
        "flux: missing or unknown": {"time": hours},
    }.items():
        np.savez(features / "airs_bins_7.npz", **kept)
        with pytest.raises(ContractError, match=rf"airs_bins_7\.npz: .*{problem}"):
            adopt_features.main(features, raw, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_cant_be_adopted_is_named(tmp_path: Path) -> None:
    features, raw = adoptable(tmp_path, [7, 11])
    (raw / "test_star_info.csv").unlink()
    with pytest.raises(UserError, match="planet 11 is in none"):
        adopt_features.main(features, raw, tmp_path / "run")
    (features / "fgs1_white_7.npz").unlink()
    with pytest.raises(ContractError, match=r"fgs1_white_7\.npz: file: is missing"):
        adopt_features.main(features, raw, tmp_path / "run")
    assert not (tmp_path / "run").exists()
