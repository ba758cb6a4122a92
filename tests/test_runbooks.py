"""Every command of the page of runbooks, typed in order on a copy of the example run, changes what the page says, and
so does each setting that its text names.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from fake_chain import spectramind

from spectramind_nb.core.contracts import read_submission
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.pipeline import config
from spectramind_nb.pipeline.config import read_settings
from spectramind_nb.pipeline.prediction import why_stale
from spectramind_nb.pipeline.selection import read_plan
from spectramind_nb.rules.auditor import LOG

PAGE = Path(__file__).parents[1] / "docs/how-to/runbooks.md"
COMMANDS = [line.partition("#")[0].split() for line in re.findall(r"^ *\$ spectramind (.+)$", PAGE.read_text(), re.M)]
SERVED: list[str] = []


def planets_of(home: Path, words: list[str]) -> list[int]:
    chosen = (
        words[words.index("--planets") + 1].split(",") if "--planets" in words else read_plan(home / "RUN")[0]["test"]
    )
    return sorted(int(planet) for planet in chosen)


def predicted(home: Path, words: list[str], said: str) -> None:
    out = home / words[words.index("--out-csv") + 1]
    assert sorted(read_submission(out).planet_id.tolist()) == planets_of(home, words) and why_stale(out) == ""
    assert "--work" not in words or [*(home / words[words.index("--work") + 1]).rglob("*")]


def trained(home: Path, words: list[str], said: str) -> None:
    kept = (home / words[words.index("--out") + 1]).is_file()
    assert kept == ("kept              nothing" not in said) and "held out" in said


def calibrated(home: Path, words: list[str], said: str) -> None:
    assert why_stale(home / "submission.csv") == "" and "coverage " in said and "submission " in said
    record = json.loads((home / "RUN/07_uncertainty/artifacts/temperature.json").read_text())
    assert record["corel"] or words[0] != "calibrate-corel"


def audited(home: Path, words: list[str], said: str) -> None:
    records = json.loads((home / LOG).read_text())
    assert [one["planet_id"] for one in records] == read_submission(home / "submission.csv").planet_id.tolist()


def diagnosed(home: Path, words: list[str], said: str) -> None:
    if words[1] == "serve":
        assert SERVED and SERVED[-1] == (words[words.index("--host") + 1] if "--host" in words else "127.0.0.1")
    elif words[1] == "dashboard":
        assert "<html" in (home / "outputs/diagnostics/v1.html").read_text(encoding="utf-8")[:1000]
        assert SERVED[-1].endswith("v1.html")
    else:
        assert (home / "RUN/08_diagnostics/manifest.json").is_file() and "dashboard --run" in said


def faster(home: Path, words: list[str], said: str) -> None:
    settings = read_settings(home / "RUN/config.yaml")
    assert settings.diag.skip_heavy_diag and settings.submission.batch_predict == 2048


CHECKS: dict[str, Callable[[Path, list[str], str], None]] = {
    "predict": predicted,
    "train": trained,
    "calibrate-temp": calibrated,
    "calibrate-corel": calibrated,
    "audit": audited,
    "diagnose": diagnosed,
    "run": faster,
}


def typed(words: list[str], planets: list[int]) -> list[str]:
    """The words of a command of the page, with this run's raw data, and its planets in place of the page's."""
    halves = {"34983,1873185": planets[::2], "34984,1873186": planets[1::2]}
    named = {"RAW": "RUN/raw", "RAW/test_star_info.csv": "RUN/raw/test_star_info.csv"}
    named |= {text: ",".join(map(str, ids)) for text, ids in halves.items()}
    return [named.get(word, word) for word in words]


def test_every_command_changes_what_the_page_says(
    example_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(example_run, tmp_path / "RUN", ignore=shutil.ignore_patterns(".lock"))
    short = Path(shutil.copytree(config.CONFIGS, tmp_path / "configs"))
    for path in short.glob("train/*.yaml"):
        text = re.sub(r"^epochs: \d+", "epochs: 1", path.read_text(), flags=re.M)
        path.write_text(re.sub(r"^pairs: \d+", "pairs: 32", text, flags=re.M))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "CONFIGS", short)
    monkeypatch.setattr(uvicorn.Server, "run", lambda _, sockets: SERVED.append(sockets[0].getsockname()[0]))
    monkeypatch.setattr("webbrowser.open", SERVED.append)
    first = ["predict", "--run", "RUN", "--raw", "RUN/raw", "--out-csv", "submission.csv"]
    assert spectramind(*first).exit_code == 0
    assert {words[0] for words in COMMANDS} == {*CHECKS}
    for words in COMMANDS:
        now = typed(words, read_plan(Path("RUN"))[0]["test"])
        done = spectramind(*now)
        assert done.exit_code == 0, f"{' '.join(now)}\n{done.output}"
        print(*now, done.output, sep="\n", file=sys.stderr)
        CHECKS[words[0]](tmp_path, now, done.output)


SETTINGS = {  # named within the text: what each changes, with the last stage that it is tried to
    "calibration.keep_planets=[ID]": "00_calibration",
    "features.photometry=aperture": "01_features",
    "features.photometry=aperture features.aperture_px=8": "01_features",
    "transit.clip_sigma=4": "02_transit",
}


def results(run: Path, stage: str) -> dict[str, list[bytes]]:
    """The arrays of each file that a stage wrote."""
    found = {}
    for path in (run / stage / "artifacts").rglob("*.npz"):
        with np.load(path) as arrays:
            found[path.name] = [arrays[name].tobytes() for name in sorted(arrays.files)]
    return found


@pytest.mark.slow
@pytest.mark.e2e
def test_settings_within_the_text_change_what_it_says(tiny: RawFolder, tmp_path: Path) -> None:
    text, run = PAGE.read_text(encoding="utf-8"), tmp_path / "run"
    words = ["run", "--raw", str(tiny.root), "--run-dir", str(run)]
    assert spectramind(*words, "--to", "02_transit").exit_code == 0
    before = {stage: results(run, stage) for stage in SETTINGS.values()}
    kept = {name.split("_")[1] for name in before["00_calibration"]}
    other = next(name for name in map("{}.npz".format, tiny.planets_on_disk("test")) if name not in kept)
    for settings, stage in SETTINGS.items():
        assert re.search(rf"[` ]{re.escape(settings)}[` ]", text), settings
        done = spectramind(*words, "--to", stage, *settings.replace("ID", other.removesuffix(".npz")).split())
        assert done.exit_code == 0, done.output
        now = results(run, stage)
        if "keep_planets" in settings:
            assert f"airs_{other}" in now.keys() - before[stage].keys(), [*now]
        else:
            assert now.keys() == before[stage].keys() and now != before[stage], settings
        before[stage] = now
