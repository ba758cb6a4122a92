"""`spectramind extract`: the estimate, what it leaves, planets left out, and where it goes on after a cut."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_cli import spectramind

from spectramind_nb.chapters import features
from spectramind_nb.chapters.calibration import Keep, calibrate_run
from spectramind_nb.chapters.features import estimate_work, extract_run
from spectramind_nb.core.contracts import read_npz
from spectramind_nb.core.errors import UserError
from spectramind_nb.core.files import run_folder
from spectramind_nb.detector.corrections import FLAGS, Options
from spectramind_nb.detector.extraction import Recipe, Steps
from spectramind_nb.detector.photometry import Photometry
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.pipeline.planets import Workers
from spectramind_nb.pipeline.provenance import read_events

STEPS = Steps(50, 50)


@pytest.fixture
def raw(tiny: RawFolder, tmp_path: Path) -> RawFolder:
    """Links to the tiny data set, whose files may be replaced."""
    shutil.copytree(tiny.root, tmp_path / "raw", copy_function=os.link)
    return RawFolder(tmp_path / "raw")


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.slow
def test_the_command_leaves_features_and_names_who_was_left_out(
    raw: RawFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad, good = raw.planets_on_disk("test")
    truncate(raw.planet_folder("test", bad) / "FGS1_signal_0.parquet")
    words = ("extract", "--raw", "raw", "--out", "runs/a", "features.airs_steps=50", "calibration.keep_steps=10")
    words += ("chain.executor=processes",)  # which know a chapter's functions by their module alone
    result = spectramind(*words)
    assert result.exit_code == 3, result.output
    assert f"left out: planet {bad}: " in result.stderr and "truncated" in result.stderr
    assert "3 planets, " in result.stdout and "(2 planets)" in result.stdout
    folder = run_folder(tmp_path / "runs/a", "data/features")
    (train,) = raw.planets_on_disk("train")
    assert {path.name for path in folder.glob("airs_bins_*")} == {f"airs_bins_{p}.npz" for p in (train, good)}
    assert read_npz(folder / f"airs_bins_{train}.npz", "airs_bins")["flux"].shape == (41, 283)
    assert read_events(tmp_path / "runs/events.jsonl")[-1]["status"] == "warn"
    again = spectramind(*words)
    assert again.exit_code == 3 and "skip 01_features: unchanged" in again.stdout
    manifest = (tmp_path / "runs/a/01_features/manifest.json").read_text()
    for name in ("adc_gain", "linearity_median_ppm", "mask_fraction", "flat_cross_hatch", "throughput"):
        assert name in manifest


@pytest.mark.slow
def test_kept_frames_hold_the_variance_of_each_source(raw: RawFolder, tmp_path: Path) -> None:
    (planet,) = raw.planets_on_disk("train")
    last = raw.planets_on_disk("test")[-1]
    calibrate_run(tmp_path / "run", raw.root, [], Options(), Keep(0, [planet, last], 10, interpolate=True), Workers(2))
    folder = run_folder(tmp_path / "run", "data/calibrated")
    assert len(list(folder.iterdir())) == 4
    for kind in ("airs", "fgs1"):
        kept = read_npz(folder / f"{kind}_{planet}.npz", kind)
        parts = {name: kept[f"variance_{name}"] for name in ("poisson", "read", "dark", "flat", "linearity")}
        assert np.allclose(kept["variance"], parts["poisson"] + parts["read"]) and 5 < len(kept["frames"]) <= 10
        assert not kept["mask"].any() and ((kept["flags"] & FLAGS["dead"]) > 0).any()
        assert all((part >= 0).all() and np.isfinite(part).all() for part in parts.values())


@pytest.mark.slow
def test_a_cut_stage_goes_on_at_the_planet_it_had_reached(
    raw: RawFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, done = tmp_path / "run", []
    calibrate_run(run, raw.root, [], Options(), Keep(0), Workers(1))
    extract = features.extract_planet

    def until_the_second(who: tuple[str, int], raw: RawFolder, out: Path, recipe: Recipe) -> list[dict]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(who)
        return extract(who, raw, out, recipe)

    monkeypatch.setattr(features, "extract_planet", until_the_second)
    with pytest.raises(KeyboardInterrupt):
        extract_run(run, raw.root, STEPS, Photometry(), 5, 0, Workers(1))
    first = [*done]
    monkeypatch.setattr(features, "extract_planet", lambda who, *how: done.append(who) or extract(who, *how))
    log = extract_run(run, raw.root, STEPS, Photometry(), 5, 0, Workers(1))
    assert len(done) == 3 and {*done} - {*first} == {done[-1]}
    assert {(row["split"], row["planet"]) for row in log} == {*done}
    extract_run(run, raw.root, STEPS, Photometry("aperture"), 5, 0, Workers(1))  # other features: all once more
    assert len(done) == 6


def test_the_estimate_grows_with_planets_and_workers(raw: RawFolder) -> None:
    one, all_of_them = estimate_work(raw.root, raw.planets_on_disk("train"), 1), estimate_work(raw.root, [], 2)
    assert (one.planets, all_of_them.planets) == (1, 3)
    assert one.raw_bytes < all_of_them.raw_bytes and one.memory_bytes < all_of_them.memory_bytes
    assert one.seconds > 0 and "1 planet, " in one.lines(1)[0]
    with pytest.raises(UserError, match="planet 7 is missing"):
        estimate_work(raw.root, [7], 1)
