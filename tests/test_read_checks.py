"""Damaged reads: found, put in their places or left out as gaps, counted; and never found in sound data."""

import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spectramind_nb.chapters.calibration import Keep, calibrate_run
from spectramind_nb.chapters.features import extract_run
from spectramind_nb.core.errors import ContractError
from spectramind_nb.core.instrument import AIRS, CHANNELS, Channel
from spectramind_nb.detector.corrections import Options, Visit, read_visit, step_edges, visit_paths
from spectramind_nb.detector.extraction import (
    LightCurves,
    Steps,
    bin_features,
    extract_checked,
    white_features,
    without_gaps,
)
from spectramind_nb.detector.photometry import PSF
from spectramind_nb.detector.raw import Adc, CalibrationSet, RawFolder, ignored_files, read_adc, read_calibration
from spectramind_nb.detector.read_checks import check_reads, is_central, sampled_pixels
from spectramind_nb.detector.signal_files import open_signal, read_frames, read_signal
from spectramind_nb.detector.time_axis import read_frame_times, read_pair_times
from spectramind_nb.pipeline.planets import Workers, read_failures
from spectramind_nb.simulator.data_sets import simulate_dataset
from spectramind_nb.transits.fit import fit_planet
from spectramind_nb.transits.model import blocks_of

spec = importlib.util.spec_from_file_location("damage", Path(__file__).parents[1] / "benchmarks" / "damage.py")
assert spec and spec.loader
damage = importlib.util.module_from_spec(spec)
spec.loader.exec_module(damage)

REAL = Path(__file__).parents[2] / "shared" / "real_sample"
Frames = np.ndarray  # ADU, uint16, (frames, rows, columns)


@dataclass(frozen=True)
class Recorded:
    """One channel of the first visit of a planet."""

    raw: RawFolder
    channel: Channel
    frames: Frames
    calibration: CalibrationSet
    adc: Adc


def record(raw: RawFolder, planet: int, channel: Channel) -> Recorded:
    """Read one channel of a planet's first visit."""
    path, folder = visit_paths(raw, "train", planet, raw.visits("train", planet)[0], channel)
    frames = read_frames(open_signal(path, channel)).reshape(-1, channel.rows, channel.columns)
    return Recorded(raw, channel, frames, read_calibration(folder, channel), read_adc(raw, channel, planet))


def light_curves(one: Recorded, frames: Frames, options: Options | None = None) -> tuple[LightCurves, int]:
    """Extract light curves from frames as `extract_files` does; also return the number of pairs in a step."""
    channel, flat = one.channel, frames.reshape(len(frames), -1)
    pixels, times = sampled_pixels(channel, one.calibration.dead), len(read_frame_times(one.raw, channel))
    reads = np.ascontiguousarray(flat[:, pixels].T)
    checks = check_reads(reads, is_central(channel)[pixels], channel, one.adc, times, Path(channel.name))
    pairs = len(checks.left_out)
    length = int(step_edges(pairs, Steps().airs if channel is AIRS else Steps().fgs1)[1])
    hours = read_pair_times(one.raw, channel, pairs)
    visit = Visit(channel, np.empty((0, 2, channel.rows, channel.columns), np.uint16), hours, one.calibration, one.adc)
    histories = enumerate(np.ascontiguousarray(flat.T))
    return extract_checked(histories, checks, visit, length, options or Options(), PSF), length


def depths(curves: Mapping[str, tuple[LightCurves, int]], star: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Fit a planet; depth and standard deviation of FGS1 and of the mean over AIRS bins."""
    fgs1, airs = curves["FGS1"], curves["AIRS-CH0"]
    white, bins = white_features(*fgs1, 0), bin_features(airs[0], fgs1[0], airs[1], 0)
    fit = fit_planet(blocks_of({"fgs1_white": white, "airs_bins": bins}), star)
    covariance = np.diag(fit.noise_variance) + fit.nuisance @ fit.nuisance.T
    weights = {"FGS1": np.eye(283)[0], "AIRS": np.append(0, np.full(282, 1 / 282))}
    return {name: (float(w @ fit.depth), float(np.sqrt(w @ covariance @ w))) for name, w in weights.items()}


@cache
def recorded(root: Path, name: str):
    """A channel of the training planet, and its light curves."""
    raw = RawFolder(root)
    one = record(raw, raw.planets_on_disk("train")[0], CHANNELS[name])
    return one, light_curves(one, one.frames)[0]


def relative(curves: LightCurves) -> np.ndarray:  # (pairs,)
    """White light over its median."""
    columns = slice(39, 321) if curves.flux.ndim > 1 else slice(None)
    white = curves.flux.reshape(len(curves.flux), -1)[:, columns].sum(axis=1)
    return white / np.nanmedian(white)


def lost_pairs(root: Path, name: str, change: Callable[[Frames], Frames]) -> tuple[list[int], LightCurves]:
    """Pairs that are NaN after a change and not before; all others must hold their light."""
    one, clean = recorded(root, name)
    curves, _ = light_curves(one, change(one.frames.copy()))
    before, after = relative(clean), relative(curves)
    both = np.isfinite(before[: len(after)]) & np.isfinite(after)
    assert after[both] == pytest.approx(before[: len(after)][both], abs=3e-3)
    return np.flatnonzero(np.isnan(after) & np.isfinite(before[: len(after)])).tolist(), curves


# What happens to pairs 50 to 56: value of the frames from one of the reads on, or of some rows, and so on.
BLOCK = slice(100, 114)


def put(change: Callable[[Frames], Frames], frames: slice = BLOCK) -> Callable[[Frames], Frames]:
    """Replace some frames by what `change` makes of them."""

    def changed(every: Frames) -> Frames:
        every[frames] = change(every[frames].copy())
        return every

    return changed


def rows(first: int, count: int, value: int) -> Callable[[Frames], Frames]:
    """Fill some rows of frames."""

    def changed(frames: Frames) -> Frames:
        frames[:, first : first + count] = value
        return frames

    return changed


def frozen(every: Frames) -> Frames:
    every[BLOCK] = every[BLOCK.start - 1]
    return every


def lost_word(frames: Frames) -> Frames:
    flat = frames.reshape(len(frames), -1)
    flat[:, 300:] = np.roll(flat[:, 300:], 1, axis=1)
    return flat.reshape(frames.shape)


DAMAGES: dict[str, Callable[[Frames], Frames]] = {
    "empty": put(lambda frames: 0 * frames),
    "first reads empty": put(lambda frames: 0 * frames, slice(100, 114, 2)),
    "second reads empty": put(lambda frames: 0 * frames, slice(101, 114, 2)),
    "a few rows empty": put(rows(14, 2, 0)),
    "half of the frames empty": put(rows(0, 16, 0)),
    "full scale": put(lambda frames: 0 * frames + 65535),
    "half at full scale": put(rows(16, 16, 65535)),
    "frozen": frozen,
    "shifted by a row": put(lambda frames: np.roll(frames, 1, axis=1)),
    "shifted by a column": put(lambda frames: np.roll(frames, -1, axis=2)),
    "shifted by five columns": put(lambda frames: np.roll(frames, 5, axis=2)),
    "a lost word": put(lost_word),
    "half of the light": put(lambda frames: frames // 2 + 218),
    "noise": put(lambda frames: np.random.default_rng(0).integers(1, 65535, frames.shape).astype(np.uint16)),
}


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_pairs_are_left_out_and_no_others(tiny: RawFolder, name: str, case: str) -> None:
    lost, curves = lost_pairs(tiny.root, name, DAMAGES[case])
    assert set(range(50, 57)) <= {*lost} <= set(range(50, 58))  # the pair after a saturated one may be persistent
    assert curves.log["pairs_left_out"] >= 7


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("place", [0, 77, -2])
def test_single_pairs_anywhere_are_left_out(tiny: RawFolder, name: str, place: int) -> None:
    one, _ = recorded(tiny.root, name)
    first = 2 * place if place >= 0 else len(one.frames) - 4
    lost, _ = lost_pairs(tiny.root, name, put(lambda frames: 0 * frames, slice(first, first + 2)))
    assert lost == [first // 2]


@pytest.mark.parametrize("name", CHANNELS)
def test_sound_pairs_are_kept(tiny: RawFolder, name: str) -> None:
    for split in ("train", "test"):
        for planet in tiny.planets_on_disk(split):
            for number in tiny.visits(split, planet):
                visit = read_visit(tiny, split, planet, number, CHANNELS[name])
                last = len(visit.signal) - 1  # the shutter may close early
                assert visit.signal[:last].any(axis=(1, 2, 3)).all()


@pytest.mark.skipif(not REAL.is_dir(), reason="no real sample of the challenge on this machine")
@pytest.mark.parametrize("name", CHANNELS)
def test_real_pairs_are_kept(name: str) -> None:
    real = record(RawFolder(REAL), 342072318, CHANNELS[name])
    curves, _ = light_curves(real, real.frames)
    assert curves.log["pairs_left_out"] == 0 and np.isfinite(curves.flux).all()


# --- Frames in their places ---


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("place", [0, 1, 100, 101])
def test_a_lost_frame_leaves_a_gap_and_later_frames_keep_their_times(tiny: RawFolder, name: str, place: int) -> None:
    lost, curves = lost_pairs(tiny.root, name, lambda frames: np.delete(frames, place, axis=0))
    assert lost == [place // 2] and curves.log["reads_missing"] == 1


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("count", [3, 9])
def test_an_odd_number_of_lost_frames_leaves_a_gap_of_their_size(tiny: RawFolder, name: str, count: int) -> None:
    lost, _ = lost_pairs(tiny.root, name, lambda frames: np.delete(frames, range(100, 100 + count), axis=0))
    assert lost == list(range(50, 50 + count // 2 + 1))


@pytest.mark.parametrize("name", CHANNELS)
def test_two_frames_lost_at_two_places(tiny: RawFolder, name: str) -> None:
    lost, _ = lost_pairs(tiny.root, name, lambda frames: np.delete(frames, [60, 161], axis=0))
    assert lost == [30, 80]


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("count", [1, 2])
def test_frames_that_stand_twice_are_used_once(tiny: RawFolder, name: str, count: int) -> None:
    def doubled(frames: Frames) -> Frames:
        return np.insert(frames, 100 + count, frames[100 : 100 + count], axis=0)

    lost, curves = lost_pairs(tiny.root, name, doubled)
    assert lost == [] and curves.log["reads_doubled"] == count


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("pairs", [slice(50, 51), slice(50, 65), slice(None)], ids=["one", "some", "all"])
def test_exchanged_reads_are_exchanged_back(tiny: RawFolder, name: str, pairs: slice) -> None:
    def exchanged(frames: Frames) -> Frames:
        both = frames.reshape(-1, 2, *frames.shape[1:])
        both[pairs] = both[pairs, ::-1].copy()
        return frames

    lost, curves = lost_pairs(tiny.root, name, exchanged)
    assert lost == [] and curves.log["pairs_exchanged"] == len(range(len(relative(curves)))[pairs])


@pytest.mark.parametrize("name", CHANNELS)
def test_too_much_damage_fails_with_the_reason(tiny: RawFolder, name: str) -> None:
    one, _ = recorded(tiny.root, name)
    frames = one.frames.copy()
    frames[: len(frames) // 3] = 0
    with pytest.raises(ContractError, match=r"frames: \d+ of \d+ pairs of reads are damaged: \d+ pairs lost"):
        light_curves(one, frames)
    with pytest.raises(ContractError, match=r"times the charge of the first|are damaged"):
        light_curves(one, np.repeat(one.frames[1::2], 2, axis=0))


def stuck(row: slice, column: slice) -> Callable[[Frames], Frames]:
    """Repeat the readings that some pixels have in the first pair."""

    def changed(frames: Frames) -> Frames:
        for kind in (0, 1):
            frames[kind::2, row, column] = frames[kind, row, column]
        return frames

    return changed


@pytest.mark.parametrize(("name", "first"), [("FGS1", 9), ("AIRS-CH0", 100)])
def test_stuck_pixels_are_left_out(tiny: RawFolder, name: str, first: int) -> None:
    one, clean = recorded(tiny.root, name)
    row, column = slice(10, 20), slice(first, first + 1)
    lost, curves = lost_pairs(tiny.root, name, stuck(row, column))
    assert lost == [] and clean.log["pixels_stuck"] == 0
    assert curves.log["pixels_stuck"] == (~one.calibration.dead[row, column]).sum() > 3


def image_added(share: float) -> Callable[[Frames], Frames]:
    """Add a share of the usual image to all second reads."""

    def changed(frames: Frames) -> Frames:
        image = np.median(frames[1::2], axis=0) - np.median(frames[0::2], axis=0)
        frames[1::2] = np.clip(frames[1::2] + share * image, 0, 65_534).astype(np.uint16)
        return frames

    return changed


def without_charge(frames: Frames) -> Frames:
    noise = np.random.default_rng(0).normal(437, 6, frames[0::2].shape)
    frames[0::2] = noise.astype(np.uint16)
    return frames


def first_reads_alike(frames: Frames) -> Frames:
    frames[0::2] = frames[0]
    return frames


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (stuck(slice(14, 15), slice(None)), "the pixels of row 14 give the same readings in all"),
        (stuck(slice(None), slice(20, 21)), "the pixels of column 20 give the same readings in all"),
        (first_reads_alike, "live pixels give the same readings in all"),
        (image_added(-0.05), "of the charge of the second, not"),
        (image_added(0.05), "of the charge of the second, not"),
        (image_added(-0.2), "of the charge of the second, not"),
        (image_added(0.2), "of the charge of the second, not"),
        (without_charge, "of the charge of the second, not"),
    ],
)
def test_a_fault_that_all_frames_share_is_found(
    tiny: RawFolder, name: str, change: Callable[[Frames], Frames], message: str
) -> None:
    one, _ = recorded(tiny.root, name)
    with pytest.raises(ContractError, match=message):
        light_curves(one, change(one.frames.copy()))


@pytest.mark.parametrize("name", CHANNELS)
def test_a_linearity_correction_of_another_detector_is_refused(tiny: RawFolder, name: str) -> None:
    one, clean = recorded(tiny.root, name)
    assert abs(clean.log["charge_ratio"] - 1) < {"FGS1": 0.002, "AIRS-CH0": 0.01}[name]
    other = one.calibration.linear_corr.copy()
    other[2:] *= -3
    with pytest.raises(ContractError, match=r"check that the frames are as read out, linear_corr\.parquet"):
        light_curves(replace(one, calibration=replace(one.calibration, linear_corr=other)), one.frames)


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("share", [0.5, 0.75, 0.9, 0.97])
def test_readings_cut_off_at_any_level_are_refused(tiny: RawFolder, name: str, share: float) -> None:
    one, _ = recorded(tiny.root, name)
    usual = np.sort(np.median(one.frames[1::2], axis=0)[~one.calibration.dead])
    level = int(share * usual[-5])
    with pytest.raises(
        ContractError, match=f"no reading is above {level} ADU|of the charge of|the charge of the first"
    ):
        light_curves(one, np.minimum(one.frames, level).astype(np.uint16))


def test_without_linearity_correction_no_ratio_is_checked(tiny: RawFolder) -> None:
    one, _ = recorded(tiny.root, "FGS1")
    other = one.calibration.linear_corr.copy()
    other[2:] *= -3
    changed = replace(one, calibration=replace(one.calibration, linear_corr=other))
    curves, _ = light_curves(changed, changed.frames, Options(linearity=False))
    assert "charge_ratio" not in curves.log and curves.log["pixels_stuck"] == 0


def test_a_constant_lift_of_all_fgs1_readings_changes_nothing(tiny: RawFolder) -> None:
    lost, curves = lost_pairs(tiny.root, "FGS1", lambda frames: np.minimum(frames + 300, 65_534).astype(np.uint16))
    assert lost == [] and abs(curves.log["charge_ratio"] - 1) < 0.002


# --- Depths ---


def test_gaps_have_no_weight_in_the_fit(tiny: RawFolder) -> None:
    star = tiny.star_info("train").iloc[0].dropna().to_dict()
    (_, clean_fgs1), (airs, clean_airs) = (recorded(tiny.root, name) for name in CHANNELS)
    spoilt = airs.frames.copy()
    spoilt[118:132] = 0  # near mid-transit
    curves = light_curves(airs, spoilt)
    clean = depths({"FGS1": (clean_fgs1, 1), "AIRS-CH0": (clean_airs, 1)}, star)
    found = depths({"FGS1": (clean_fgs1, 1), "AIRS-CH0": curves}, star)
    assert abs(found["AIRS"][0] - clean["AIRS"][0]) < clean["AIRS"][1]
    assert 0.7 < found["AIRS"][1] / clean["AIRS"][1] < 1.6  # the noise is estimated from 125 steps
    bins = bin_features(curves[0], clean_fgs1, 1, 0)
    assert np.flatnonzero(np.isinf(bins["variance"][:, 5])).tolist() == list(range(59, 66))


def test_steps_of_several_pairs_average_those_that_are_left() -> None:
    flux = np.arange(12.0)[:, None] + np.array([0.0, 100.0])
    flux[[1, 8, 9, 10, 11]] = np.nan
    curves = LightCurves(np.arange(12.0), flux, np.ones((12, 2)), np.zeros((12, 3)), np.zeros(2))
    steps, variance = without_gaps(curves, 4)
    assert steps[:, 0] == pytest.approx([5 / 3, 5.5, 5.5]) and steps[:, 1] == pytest.approx(steps[:, 0] + 100)
    assert variance[:, 0].tolist() == [1 / 3, 1 / 4, np.inf]


# --- Files ---


@pytest.fixture
def copy(tiny: RawFolder, tmp_path: Path) -> RawFolder:
    """The tiny data set, made of links that may be replaced."""
    shutil.copytree(tiny.root, tmp_path / "raw", copy_function=os.link)
    return RawFolder(tmp_path / "raw")


def change_signal(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    changed = change(pq.read_table(path))
    path.unlink()
    pq.write_table(changed, path)


def features(raw: RawFolder, run: Path, planets: list[int]) -> list[dict]:
    """Run the stages 00 and 01 on some planets; the calibration log."""
    calibrate_run(run, raw.root, planets, Options(), Keep(0), Workers(1))
    return extract_run(run, raw.root, Steps(125, 500), PSF, 2, 1, Workers(1))


def test_a_planet_with_a_lost_frame_is_put_right_in_a_run(copy: RawFolder, tmp_path: Path) -> None:
    (odd,) = copy.planets_on_disk("train")
    path = copy.root / f"train/{odd}/FGS1_signal_0.parquet"
    change_signal(path, lambda t: t.take([*range(301), *range(302, len(t))]))
    log = {row["channel"]: row for row in features(copy, tmp_path / "run", [odd])}
    assert log["FGS1"]["reads_missing"] == 1 and log["FGS1"]["pairs_left_out"] >= 1


def test_a_damaged_planet_does_not_stop_the_others(copy: RawFolder, tmp_path: Path) -> None:
    (good,), bad = copy.planets_on_disk("train"), copy.planets_on_disk("test")[0]
    path = copy.root / f"test/{bad}/FGS1_signal_0.parquet"
    change_signal(path, lambda t: pa.concat_tables([t[:600], t[:400]]))
    log = features(copy, tmp_path / "run", [good, bad])
    assert {row["planet"] for row in log} == {good} and "200 pairs frozen" in read_failures(tmp_path / "run")[bad]


def test_files_with_other_names_are_ignored_and_named(copy: RawFolder) -> None:
    (planet,) = copy.planets_on_disk("train")
    folder = copy.planet_folder("train", planet)
    strays = [
        "AIRS-CH0_signal_0 (1).parquet",
        "._FGS1_signal_0.parquet",
        "FGS1_signal_0.parquet.tmp",
        ".ipynb_checkpoints",
    ]
    for name in strays[:3]:
        (folder / name).write_bytes(b"rubbish")
    (folder / strays[3]).mkdir()
    assert copy.visits("train", planet) == [0] and ignored_files(copy, "train", planet) == sorted(strays)


COLUMNS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a word among the columns": (
        lambda t: t.rename_columns(["time", *t.column_names[1:]]),
        r"time: is no column of a pixel",
    ),
    "a number twice": (
        lambda t: t.rename_columns(["column_01", *t.column_names[1:]]),
        r"column_0?1: number 1 stands twice|column_0: column is missing",
    ),
    "a number left out": (
        lambda t: t.rename_columns([*t.column_names[:-1], "column_1024"]),
        r"column_1023: column is missing",
    ),
    "two prefixes": (lambda t: t.rename_columns([*t.column_names[:-1], "pixel_1023"]), r"pixel_1023: begins with"),
    "integers of 64 bits": (
        lambda t: t.set_column(7, "column_7", t["column_7"].cast(pa.int64())),
        r"column_7: is int64, not uint16",
    ),
    "whole numbers as floats": (
        lambda t: t.set_column(9, "column_9", t["column_9"].cast(pa.float64())),
        r"column_9: is double, not uint16",
    ),
    "row numbers twice": (
        lambda t: t.append_column("__index_level_0__", pa.array([0, *range(len(t) - 1)])),
        r"__index_level_0__: a row number stands twice",
    ),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_odd_columns_are_refused_by_name(copy: RawFolder, case: str) -> None:
    (planet,) = copy.planets_on_disk("train")
    path = copy.planet_folder("train", planet) / "FGS1_signal_0.parquet"
    change, wanted = COLUMNS[case]
    change_signal(path, change)
    with pytest.raises(ContractError, match=rf"FGS1_signal_0\.parquet: {wanted}"):
        read_signal(path, CHANNELS["FGS1"])


@pytest.mark.parametrize("prefix", ["column_", "", "p"])
def test_columns_and_rows_are_ordered_by_number(copy: RawFolder, prefix: str) -> None:
    (planet,) = copy.planets_on_disk("train")
    path = copy.planet_folder("train", planet) / "FGS1_signal_0.parquet"
    before = read_signal(path, CHANNELS["FGS1"])
    order = np.random.default_rng(0).permutation(len(before) * 2)

    def mixed(t: pa.Table) -> pa.Table:
        t = t.rename_columns([f"{prefix}{k}" for k in range(1024)])
        t = t.select(sorted(t.column_names)).take(order)
        return t.append_column("__index_level_0__", pa.array(order))

    change_signal(path, mixed)
    assert np.array_equal(read_signal(path, CHANNELS["FGS1"]), before)
    assert np.array_equal(read_signal(path, CHANNELS["FGS1"], most=3), before[:3])
    assert open_signal(path, CHANNELS["FGS1"]).pairs == len(before)


# --- Random damages ---


@pytest.mark.slow
def test_random_damage_gives_no_confident_wrong_depth(tmp_path: Path) -> None:
    simulate_dataset(tmp_path, planets=8, test_planets=0, seed=31, frames="demo", workers=2)
    found = damage.run_cases(tmp_path, 8, range(40), seed=2)
    bad = [(number, one) for number, one in enumerate(found) if one.result in ("wrong", "traceback")]
    assert not bad, damage.table(found) + "\n" + "\n".join(map(str, bad))
    assert Counter(one.result for one in found)["right"] >= 20
