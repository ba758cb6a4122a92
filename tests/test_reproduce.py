"""A whole run again gives the same bytes; what differs is named; what acceptance asks for is found and read."""

import base64
import gzip
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from fake_chain import spectramind
from typer.testing import Result

from spectramind_nb.core.contracts import Submission, read_submission, write_submission
from spectramind_nb.core.files import write_json
from spectramind_nb.operations import reproduce
from spectramind_nb.operations.acceptance import REQUIRED, finding_lines, look_at
from spectramind_nb.operations.reproduce import SUBMISSION_IN_RUN, SUMMARY, read_recorded, submission_line
from spectramind_nb.pipeline.provenance import (
    append_line,
    event_schema,
    make_event,
    raw_fingerprint,
    read_events,
    sha256,
)

NO_LOCK = shutil.ignore_patterns(".lock")


def link(source: Path, target: Path) -> Path:
    """A copy to spoil: hard links, so a file is replaced, never written into."""
    return Path(shutil.copytree(source, target, copy_function=os.link, ignore=NO_LOCK))


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


@pytest.fixture(scope="module")
def home(example_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to work in, with the example's run in it and the events of the call that made it."""
    runs = tmp_path_factory.mktemp("home") / "runs"
    link(example_run, runs / "example")
    shutil.copy(example_run.parent / "events.jsonl", runs)
    shutil.copy(example_run.parent / "v50_debug_log.md", runs)
    return runs.parent


@pytest.fixture(scope="module")
def again(home: Path) -> tuple[Path, Result]:
    """The run that was made from the record of the first, and what was said."""
    words = ("reproduce", str(home / "runs/example"), "--out", str(home / "runs/again"))
    return home / "runs/again", spectramind(*words)


@pytest.fixture
def pair(home: Path, again: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both runs to spoil, in `old` and `made`; the command now takes `made` for what the chain makes."""
    link(home / "runs/example", tmp_path / "old")
    link(again[0], tmp_path / "made")
    monkeypatch.setattr(reproduce, "run_chain", lambda cfg, out, **how: link(tmp_path / "made", Path(out)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_runs_of_one_configuration_give_the_same_bytes(home: Path, again: tuple[Path, Result]) -> None:
    folder, said = again
    assert said.exit_code == 0, said.output
    assert (folder / SUBMISSION_IN_RUN).read_bytes() == (home / "runs/example" / SUBMISSION_IN_RUN).read_bytes()
    assert (folder / "raw/truth.csv").read_bytes() == (home / "runs/example/raw/truth.csv").read_bytes()
    assert "submission        identical bytes" in said.stdout and "verdict           the same" in said.stdout
    assert "not as then" not in said.stdout and "differs" not in said.stdout
    alike = [line for line in said.stdout.splitlines() if line.startswith("alike ")]
    assert 3 <= len(alike) <= 5 and all("but for" in line for line in alike)
    event = read_events(home / "runs/events.jsonl")[-1]
    first = read_events(home / "runs/events.jsonl")[0]
    assert (event["cmd"], event["status"], event["cfg_hash"]) == ("reproduce", "ok", first["cfg_hash"])


def test_what_was_changed_or_differs_is_named(pair: Path) -> None:
    replace(pair / "old/07_uncertainty/artifacts/temperature.json", b"{}")
    replace(pair / "made/06_training/artifacts/predictors.json", b"{}")
    (pair / "made/05_symbolic/artifacts/rules.json").unlink()
    found = read_submission(pair / "made" / SUBMISSION_IN_RUN)
    mu = found.mu + 0.5 * found.sigma * (np.arange(283) == 100)
    (pair / "made" / SUBMISSION_IN_RUN).unlink()
    write_submission(pair / "made" / SUBMISSION_IN_RUN, Submission(found.planet_id, mu, found.sigma * 1.1))
    result = spectramind("reproduce", "old")
    assert result.exit_code == 4, result.output
    lines = result.stdout.splitlines()
    assert "changed           07_uncertainty/artifacts/temperature.json: no longer what the run wrote" in lines
    assert "differs           06_training/artifacts/predictors.json" in lines
    assert "missing           05_symbolic/artifacts/rules.json: in one of the two runs" in lines
    assert "submission        differs: mu by 0.5 sigma at most, sigma by 0.1 of itself" in lines
    assert lines[-1] == "verdict           not the same" and (pair / "old-again").is_dir()
    assert read_events(pair / "events.jsonl")[-1]["status"] == "warn"


def test_a_difference_inside_what_may_differ_is_seen(pair: Path) -> None:
    path = pair / "made/09_submission/artifacts/report.json"
    found = json.loads(path.read_text())
    replace(path, json.dumps({**found, "predictor": "another"}).encode())
    assert "differs           09_submission/artifacts/report.json" in spectramind("reproduce", "old").stdout


def test_other_versions_are_said_first(pair: Path) -> None:
    summary = json.loads((pair / "old" / SUMMARY).read_text())
    summary["env"]["numpy"], summary["git_sha"], summary["cfg_hash"] = "1.0", "0123456789ab", "0123abcd"
    (pair / "old" / SUMMARY).unlink()
    write_json(pair / "old" / SUMMARY, summary)
    lines = spectramind("reproduce", "old").stdout.splitlines()
    assert lines[0] == f"not as then       numpy: 1.0, now {np.__version__}"
    assert [line.split()[3] for line in lines[1:3]] == ["commit:", "settings:"]


def test_raw_data_that_were_given_are_used_again(pair: Path) -> None:
    recorded = read_recorded(pair / "old")
    recorded.cfg.data.raw = str(pair / "old/raw")
    for manifest in recorded.manifests.values():
        manifest["inputs"]["raw"] = raw_fingerprint(pair / "old/raw")
    assert not any("raw data" in line for line in reproduce.changes_since(recorded))
    os.utime(pair / "old/raw/train.csv", (1, 1))
    assert any("raw data" in line for line in reproduce.changes_since(recorded))


def test_another_person_says_where_the_data_are(pair: Path) -> None:
    cfg = (pair / "old/config.yaml").read_text()
    foreign = cfg.replace('  raw: ""', "  raw: there/raw").replace("  raw: ''", "  raw: there/raw")
    replace(pair / "old/config.yaml", foreign.replace("weights: ''", "weights: there/run").encode())
    words = ["reproduce", "old"]
    for name, place in (("raw", "old/raw"), ("weights", "made")):
        refused = spectramind(*words)
        assert refused.exit_code == 2 and f"is missing. Fix: --{name} says where it is here" in refused.stderr
        words += [f"--{name}", place]
    refused = spectramind(*words, "--network", "no.safetensors")
    assert refused.exit_code == 2 and "no.safetensors: file: is missing. Fix: --network" in refused.stderr
    assert "verdict           the same" in spectramind(*words).stdout
    assert "settings" not in spectramind(*words, "--out", "third", "--network", "laptop").stdout


def test_stages_whose_code_is_another_are_named(pair: Path) -> None:
    path = pair / "old/05_symbolic/manifest.json"
    replace(path, json.dumps({**json.loads(path.read_text()), "code": "0", "notebook": "0"}).encode())
    summary = json.loads((pair / "old" / SUMMARY).read_text())
    replace(pair / "old" / SUMMARY, json.dumps({**summary, "git_sha": "0123456789ab", "dirty": True}).encode())
    said = [line for line in spectramind("reproduce", "old").stdout.splitlines() if line.startswith("not as then")]
    assert said[-1] == "not as then       05_symbolic: notebook, code"
    assert said[0].startswith("not as then       commit: 0123456789ab, changed, now ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "nowhere/config.yaml: file: is missing"),
        (("old", "--out", "made"), "made holds a finished run"),
        (("old", "--out", "old"), "old holds a finished run"),
    ],
)
def test_what_cannot_be_reproduced_is_one_line(words: tuple[str, ...], said: str, pair: Path) -> None:
    result = spectramind("reproduce", *words)
    assert result.exit_code == 2 and said in result.stderr and "Fix: " in result.stderr
    (pair / "old" / SUMMARY).unlink()
    assert "no summary of a run" in spectramind("reproduce", "old").stderr


def test_submissions_of_other_planets_are_no_match(tmp_path: Path) -> None:
    for name, planet in (("a", 7), ("b", 8)):
        write_submission(
            tmp_path / name, Submission(np.array([planet]), np.full((1, 283), 0.01), np.full((1, 283), 1e-3))
        )
    assert submission_line(tmp_path / "a", tmp_path / "b") == "differs: other planets"


# Acceptance


@pytest.fixture(scope="module")
def accepted(home: Path) -> Path:
    """The example's run with everything that the specification asks for."""
    run, before = home / "runs/example", Path.cwd()
    os.chdir(home)
    append_line(home / "runs/events.jsonl", json.dumps(make_event("selftest", "ok", 0.0)))
    submission = run / SUBMISSION_IN_RUN
    commands = (
        ("diagnose", "dashboard", "--run", "runs/example", "--planets", "1"),
        ("submit", "bundle", "--submission", str(submission), "--out-zip", "outputs/bundle.zip"),
    )
    for words in commands:
        said = spectramind(*words)
        assert said.exit_code == 0, said.output
    os.chdir(before)
    return home


def test_everything_that_is_asked_for_is_found(accepted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(accepted)
    result = spectramind("check-artifacts", "--run", "runs/example")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == len(REQUIRED) and [line[0] for line in lines] == [str(one.phase) for one in REQUIRED]
    assert "outputs/bundle.zip (4 planets" in result.stdout and "outputs/diagnostics/v1.html" in result.stdout


def test_every_event_is_to_the_schema(accepted: Path) -> None:
    events = read_events(accepted / "runs/events.jsonl")
    assert {"run", "selftest", "dashboard", "submit"} <= {event["cmd"] for event in events}
    for event in events:
        jsonschema.Draft202012Validator(event_schema()).validate(event)


def write_page(path: Path, run: str) -> None:
    """A dashboard in outline."""
    data = base64.b64encode(gzip.compress(json.dumps({"data": {"run": run}}).encode())).decode()
    path.write_text(f'<script data-path="api/overview">{data}</script>')


def write_bundle(path: Path, run: str, planets: list[int]) -> None:
    """A bundle in outline."""
    shape = (len(planets), 283)
    write_submission(
        path.with_suffix(".csv"), Submission(np.array(planets), np.full(shape, 0.01), np.full(shape, 1e-3))
    )
    files = {"submission.csv": sha256(path.with_suffix(".csv"))}
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_suffix(".csv"), "submission.csv")
        archive.writestr("manifest.json", json.dumps({"files": files, "run_id": run}))


def test_what_is_another_runs_is_not_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_json(tmp_path / f"runs/{name}/00_calibration/artifacts/plan.json", {"planets": {"test": [1, 2]}})
        (tmp_path / f"runs/{name}/config.yaml").write_text(
            "profile: demo\ndata: {raw: mine}\ndiag: {html: {out: page.html}}"
        )

    def wrote(cmd: str, path: str, run: str) -> None:
        event = make_event(cmd, "ok", 0.0, run_id=run, artifacts=[path])
        append_line(tmp_path / "runs/events.jsonl", json.dumps(event))

    def said(run: str) -> list[str]:
        wanted = [one for one in REQUIRED if one.artifact in ("diagnostics HTML", "submission.zip")]
        return [found.path or found.said for found in (look_at(tmp_path / "runs" / run, one) for one in wanted)]

    write_page(tmp_path / "page.html", "b")
    write_bundle(tmp_path / "b.zip", "b", [1, 2, 3])
    wrote("dashboard", "page.html", "b")
    wrote("submit", "b.zip", "b")
    assert said("b") == ["page.html", "b.zip"]
    page, zipped = said("a")
    assert "page.html: file: is of run b, not of a" in page and "is missing" in zipped
    wrote("submit", "b.zip", "a")  # and written over since
    assert "b.zip: file: is of run b, not of a" in said("a")[1]
    write_bundle(tmp_path / "a.zip", "a", [1])
    wrote("submit", "a.zip", "a")
    assert "a.zip: file: lacks 1 of the run's test planets" in said("a")[1]


def rows_less(path: Path) -> None:
    replace(path, b"\n".join(path.read_bytes().splitlines()[:-1]))


SPOIL: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "events.jsonl": ("events.jsonl", lambda p: replace(p, b'{"ts": "now"}\n'), "breaks the schema in"),
    "features/": (
        "example/01_features/artifacts/features/airs_bins_{planet}.npz",
        lambda p: replace(p, b"PK"),
        "can't",
    ),
    "calibrated/": ("example/00_calibration/artifacts/calibrated", shutil.rmtree, "is missing"),
    "violation JSON": (
        "example/09_submission/artifacts/constraint_violation_log.json",
        lambda p: replace(p, b'[{"planet_id": 7, "violations": {"seam": {}}}]'),
        "planet 7: lacks coherence",
    ),
    "q_i.csv": ("example/07_uncertainty/artifacts/q_i.csv", rows_less, "lacks 283 quantiles"),
    "coverage plots": (
        "example/07_uncertainty/artifacts/z_histograms.png",
        lambda p: replace(p, b"PK"),
        "is no PNG image",
    ),
    "diagnostics HTML": ("../outputs/diagnostics/v1.html", lambda p: replace(p, b"<html>"), "is not a dashboard"),
    "timing CSV": ("example/timing.csv", lambda p: replace(p, b"stage\nx\n"), "has no times"),
    "submission.zip": ("../outputs/bundle.zip", lambda p: replace(p, b"PK"), "is not a bundle"),
}


@pytest.mark.parametrize("artifact", SPOIL)
def test_what_is_damaged_is_named(
    artifact: str, accepted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(accepted, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    name, spoil, said = SPOIL[artifact]
    runs = tmp_path / "home/runs"
    planet = next((runs / "example/01_features/artifacts/features").glob("airs_bins_*")).stem.split("_")[-1]
    spoil(runs / name.format(planet=planet))
    required = next(one for one in REQUIRED if one.artifact == artifact)
    found = look_at(runs / "example", required)
    assert not found.path and said in found.said, found
    if required.command == "{make}":
        assert finding_lines([found], runs / "example")[-1].strip() == "spectramind diagnose prepare --run runs/example"


def test_what_is_missing_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/x").mkdir(parents=True)
    result = spectramind("check-artifacts", "--run", "runs/x")
    assert result.exit_code == 2 and result.stderr.startswith(
        "error: check-artifacts: v50_debug_log.md, events.jsonl, "
    )
    lines = result.stdout.splitlines()
    assert len(lines) == 2 * len(REQUIRED) and sum("MISSING" in line for line in lines) == len(REQUIRED)
    assert any(line.strip() == "spectramind run --run-dir runs/x" for line in lines)
    (tmp_path / "runs/x/config.yaml").write_text("profile: example")
    assert "runs/x and the options that it was begun with" in spectramind("check-artifacts", "--run", "runs/x").stdout
    assert "is missing" in spectramind("check-artifacts", "--run", "nowhere").stderr
