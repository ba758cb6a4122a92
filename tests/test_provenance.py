"""Hashes, events, summaries."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectramind_nb.pipeline import provenance
from spectramind_nb.pipeline.provenance import (
    COMMANDS,
    append_line,
    code_hash,
    damaged_artifact,
    digest,
    event_faults,
    event_schema,
    git_sha,
    hash_artifacts,
    imported_modules,
    make_event,
    raw_fingerprint,
    read_events,
    write_summary,
    write_timing,
)

LEAF = st.integers() | st.text() | st.booleans()
PLAIN = st.recursive(LEAF, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(st.dictionaries(st.text(), PLAIN))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


def test_artifacts_verify_until_a_byte_changes(tmp_path: Path) -> None:
    file = tmp_path / "artifacts/deep/n.txt"
    file.parent.mkdir(parents=True)
    file.write_text("123")
    known = hash_artifacts(tmp_path)
    assert list(known) == ["artifacts/deep/n.txt"] and not damaged_artifact(tmp_path, known)
    file.write_text("124")
    assert damaged_artifact(tmp_path, known) == "artifacts/deep/n.txt"
    assert not damaged_artifact(tmp_path, known, content=False)
    file.unlink()
    assert damaged_artifact(tmp_path, known, content=False)


def test_the_fingerprint_sees_names_sizes_times_and_chosen_planets_only(tmp_path: Path) -> None:
    for planet in (1, 2):
        (tmp_path / f"train/{planet}").mkdir(parents=True)
        (tmp_path / f"train/{planet}/a").write_text("x")
    seen = {raw_fingerprint(tmp_path)}
    only_one = raw_fingerprint(tmp_path, [1])
    os.utime(tmp_path / "train/2/a", (1, 1))
    seen.add(raw_fingerprint(tmp_path))
    (tmp_path / "train/2/a").rename(tmp_path / "train/2/b")
    seen.add(raw_fingerprint(tmp_path))
    assert len(seen) == 3 and only_one == raw_fingerprint(tmp_path, [1])
    (tmp_path / "train.csv").write_text("x")
    assert only_one != raw_fingerprint(tmp_path, [1])


def test_the_code_hash_follows_imports_but_not_what_sits_on_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "spectramind_nb"
    (package / "pipeline").mkdir(parents=True)
    (package / "a.py").write_text("from .pipeline.b import x\nfrom .pipeline import chain")
    (package / "pipeline/b.py").write_text("x = 1")
    (package / "pipeline/chain.py").write_text("")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    source = "%matplotlib inline\nfrom spectramind_nb.a import y\nimport numpy"
    before = code_hash(source)
    (package / "pipeline/chain.py").write_text("z = 1")
    assert code_hash(source) == before
    (package / "pipeline/b.py").write_text("x = 2")
    assert code_hash(source) != before


def test_imports_are_found_in_all_their_spellings() -> None:
    absolute = "import spectramind_nb.chapters.transit as t\nfrom spectramind_nb.core import metric"
    relative = "from . import features\nfrom .core.x import y"
    found = imported_modules(f"{absolute}\n{relative}")
    assert {f"spectramind_nb.{name}" for name in ("chapters.transit", "core.metric", "features", "core.x")} <= found


@pytest.mark.parametrize("cmd", COMMANDS)
def test_every_command_has_a_good_event(cmd: str) -> None:
    event = make_event(
        cmd, "ok", time.time(), run_id="demo", args={"k": 1}, cfg_hash="0123abcd", seed=1337, artifacts=[Path("a")]
    )
    assert not event_faults(json.loads(json.dumps(event)))
    jsonschema.Draft202012Validator(event_schema()).validate(event)
    assert set(event["env"]) == {"cuda", "driver", "torch", "device"} and event["args"] == {"k": "1"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("cmd", "fly"), ("cfg_hash", "123"), ("git_sha", "unknown"), ("status", "good"), ("seed", "1"), ("ts", "now")],
)
def test_a_field_off_the_schema_is_found(field: str, value: str) -> None:
    event = make_event("run", "ok", time.time())
    assert event_faults({**event, field: value}) == [field]
    (fault,) = jsonschema.Draft202012Validator(event_schema()).iter_errors({**event, field: value})
    assert list(fault.path) == [field]
    with pytest.raises(ValueError, match="cmd"):
        make_event("fly", "ok", time.time())


def _write(path: Path, writer: int) -> None:
    for k in range(50):
        append_line(path, json.dumps({"writer": writer, "k": k, "text": "λ" * 500}, ensure_ascii=False))


@pytest.mark.slow
def test_concurrent_processes_tear_no_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    context = multiprocessing.get_context("forkserver")
    writers = [context.Process(target=_write, args=(path, k)) for k in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = read_events(path)
    assert len(found) == 200 and all([e["k"] for e in found if e["writer"] == w] == list(range(50)) for w in range(4))


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"a": 1}\n{"a": \n{"a": 2}\n')
    assert [event["a"] for event in read_events(tmp_path / "events.jsonl")] == [1, 2]


def test_outside_a_checkout_the_commit_is_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    git_sha.cache_clear()
    assert git_sha() == "0000000"
    git_sha.cache_clear()


@pytest.mark.parametrize(("changes", "dirty"), [("", False), (" M nbs/a.ipynb", True)])
def test_the_summary_says_whether_the_checkout_was_as_committed(
    changes: str, dirty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_git", lambda *words: changes)
    monkeypatch.setattr(provenance, "git_sha", lambda: "0123456")
    assert json.loads(write_summary(tmp_path, "0123abcd", 5, []).read_text())["dirty"] is dirty
    monkeypatch.setattr(provenance, "git_sha", lambda: provenance.NO_SHA)
    assert "dirty" not in json.loads(write_summary(tmp_path, "0123abcd", 5, []).read_text())


def test_a_run_without_a_summary_has_only_its_name(tmp_path: Path) -> None:
    assert provenance.run_identity(tmp_path / "mine") == {"run_id": "mine"}
    write_summary(tmp_path, "0123abcd", 5, [])
    known = {"run_id": tmp_path.name, "cfg_hash": "0123abcd", "seed": 5, "git_sha": git_sha()}
    assert provenance.run_identity(tmp_path) == known
    (tmp_path / provenance.SUMMARY).write_text("{")
    assert provenance.run_identity(tmp_path) == {"run_id": tmp_path.name}


def test_the_summary_gathers_the_stages_hashes(tmp_path: Path) -> None:
    manifest = {"stage": "00_x", "artifacts": {"artifacts/a": {"bytes": 1, "sha256": "ff"}}}
    found = json.loads(write_summary(tmp_path, "0123abcd", 5, [manifest]).read_text())
    assert found["artifacts"] == {"00_x": {"artifacts/a": "ff"}} and found["seeds"] == {"run": 5}
    assert {"git_sha", "cfg_hash", "env"} <= set(found)


def test_the_timing_projects_the_challenges_planets(tmp_path: Path) -> None:
    manifests = [{"stage": "00_x", "duration_s": 20.0}, {"stage": "01_y", "duration_s": 10.0}]
    (tmp_path / "00_calibration/artifacts").mkdir(parents=True)
    (tmp_path / "00_calibration/artifacts/plan.json").write_text('{"planets": {"train": [1, 2], "test": [3]}}')
    lines = write_timing(tmp_path, manifests).read_text().splitlines()
    assert lines[1] == "00_x,20.00,3,6.667,2.037" and lines[-1] == "all,30.00,3,10.000,3.056"
