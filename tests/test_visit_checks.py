"""Calibration files, axes and visits of another instrument, unit, order or star."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spectramind_nb.core.errors import ContractError, UserError
from spectramind_nb.core.instrument import FGS1, N_BINS
from spectramind_nb.detector.extraction import Recipe, Steps, extract_planet
from spectramind_nb.detector.raw import RawFolder, read_calibration
from spectramind_nb.detector.time_axis import check_axes
from spectramind_nb.detector.visit_checks import check_seams, check_together
from spectramind_nb.pipeline.selection import check_planet
from spectramind_nb.simulator.data_sets import FRAME_COUNTS, draw_planets
from spectramind_nb.simulator.light_curves import simulate_features
from spectramind_nb.transits.fit_file import check_channels, fit_sound_bins
from spectramind_nb.transits.fit_priors import FitOptions
from spectramind_nb.transits.fit_report import Fit
from spectramind_nb.transits.model import blocks_of

AIRS_SET, FGS1_SET = "AIRS-CH0_calibration_0", "FGS1_calibration_0"


@pytest.fixture
def copy(tiny: RawFolder, tmp_path: Path) -> RawFolder:
    """The training planet, whole as yet."""
    root = tmp_path / "raw"
    shutil.copytree(tiny.root / "train", root / "train", copy_function=os.link)
    for path in tiny.root.iterdir():
        if path.is_file():
            shutil.copy(path, root)
    return RawFolder(root)


def planet_of(raw: RawFolder) -> int:
    return raw.planets_on_disk("train")[0]


def rewrite(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    read, write = (
        (pd.read_csv, pd.DataFrame.to_csv) if path.suffix == ".csv" else (pd.read_parquet, pd.DataFrame.to_parquet)
    )
    table = change(read(path))
    path.unlink()
    write(table, path, index=False)


def one_pixel(value: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table.iloc[15, 20] = value
        return table

    return change


def one_column(value: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.assign(**{table.columns[20]: value})


def dead_column(table: pd.DataFrame) -> pd.DataFrame:
    table.iloc[:, 100] = True
    return table


CALIBRATION: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "flat in percent": (f"{AIRS_SET}/flat", lambda t: 100 * t, "has a median of 101.*; it looks like percent"),
    "negative flat": (f"{FGS1_SET}/flat", lambda t: -t, "has a median of -1.01"),
    "a column of the flat": (f"{FGS1_SET}/flat", one_column(1e6), "live pixels are outside 0.2 to 5 times the median"),
    "dark an hour": (f"{AIRS_SET}/dark", lambda t: 3600 * t, "it looks like e-/hour"),
    "no read noise": (f"{AIRS_SET}/read", lambda t: 0 * t, "has a median of 0"),
    "read noise is the dark": (f"{FGS1_SET}/read", lambda t: 0 * t + 0.0065, "has a median of 0.0065"),
    "linearity in falling order": (f"{AIRS_SET}/linear_corr", lambda t: t[::-1], "live pixels turn 10000 e- into less"),
    "no linearity": (f"{FGS1_SET}/linear_corr", lambda t: 0 * t, "live pixels turn 10000 e- into less"),
    "a dead column": (f"{AIRS_SET}/dead", dead_column, "every pixel of column 100 is dead"),
}


@pytest.mark.parametrize("case", CALIBRATION)
def test_calibration_files_that_no_detector_has_are_refused(case: str, copy: RawFolder) -> None:
    name, change, said = CALIBRATION[case]
    planet = planet_of(copy)
    assert len(check_planet(("train", planet), copy)) == 2
    rewrite(copy.planet_folder("train", planet) / f"{name}.parquet", change)
    with pytest.raises(ContractError, match=f"{name}.parquet: .*{said}.*Fix: ") as caught:
        check_planet(("train", planet), copy)
    assert "\n" not in str(caught.value)


IMPOSSIBLE = [("flat", 1e6), ("read", -3.0), ("read", 1e30), ("dark", 1e30), ("dark", -1e30), ("linear_corr", 1e5)]


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE)
def test_single_impossible_pixels_are_left_out_as_dead(name: str, value: float, copy: RawFolder) -> None:
    folder = copy.planet_folder("train", planet_of(copy)) / FGS1_SET
    before = read_calibration(folder, FGS1).dead
    rewrite(folder / f"{name}.parquet", one_pixel(value))
    after = read_calibration(folder, FGS1).dead
    assert not before[15, 20] and np.argwhere(after != before).tolist() == [[15, 20]]


@pytest.mark.parametrize("name", ["flat", "dark", "linear_corr", "dead"])
def test_columns_and_rows_of_calibration_files_are_ordered_by_number(name: str, copy: RawFolder) -> None:
    folder = copy.planet_folder("train", planet_of(copy)) / FGS1_SET
    before = vars(read_calibration(folder, FGS1))
    as_text = pd.read_parquet(folder / f"{name}.parquet").sort_index(axis=1)
    assert as_text.columns[2] == "column_10"
    order = np.random.default_rng(0).permutation(len(as_text))
    rewrite(folder / f"{name}.parquet", lambda _: as_text.assign(__index_level_0__=as_text.index).iloc[order])
    after = vars(read_calibration(folder, FGS1))
    assert all(np.array_equal(after[part], before[part]) for part in before)
    rewrite(folder / f"{name}.parquet", lambda table: table.rename(columns={"column_10": "column_40"}))
    with pytest.raises(ContractError, match=rf"{name}\.parquet: column_10: column is missing. Fix: "):
        read_calibration(folder, FGS1)


def column(name: str, change: Callable[[pd.Series], pd.Series]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.assign(**{name: change(table[name])})


def reverse(values: pd.Series) -> pd.Series:
    known = values.dropna()
    return pd.Series(known.to_numpy()[::-1], known.index)


AIRS_TIME, AIRS_UM, AIRS_SECONDS = "AIRS-CH0-axis0-h", "AIRS-CH0-axis2-um", "AIRS-CH0-integration_time"
AXES: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "times of one channel": (
        "axis_info.parquet",
        column("FGS1-axis0-h", lambda t: t / 2),
        "at different times: 1.39e-05",
    ),
    "an offset": ("axis_info.parquet", column(AIRS_TIME, lambda t: t + 0.5), "were observed at different times"),
    "a gap": ("axis_info.parquet", column(AIRS_TIME, lambda t: t + 2.0 * (t > 3)), "has a gap of 2.06 hours after"),
    "columns reversed": ("axis_info.parquet", column(AIRS_UM, reverse), "wavelengths in reverse order"),
    "nanometres": ("axis_info.parquet", column(AIRS_UM, lambda um: 1e3 * um), "the instrument's wavelengths in nm"),
    "another spectrograph": ("axis_info.parquet", column(AIRS_UM, lambda um: um + 0.1), "not the instrument's"),
    "reads exchanged": (
        "axis_info.parquet",
        column(AIRS_SECONDS, lambda s: s.shift(1, fill_value=4.5)),
        "alternates between 4.5 and 0.1 s, not 0.1 and 4.5 s, as if first and second reads were exchanged",
    ),
    "milliseconds": ("axis_info.parquet", column(AIRS_SECONDS, lambda s: 1e3 * s), "between 100 and 4500 s"),
    "bins reversed": (
        "wavelengths.csv",
        lambda t: pd.DataFrame(t.to_numpy()[:, ::-1], columns=t.columns),
        "holds the instrument's wavelengths in reverse order",
    ),
    "bins in nm": ("wavelengths.csv", lambda t: 1e3 * t, "holds the instrument's wavelengths in nm"),
    "fewer bins": ("wavelengths.csv", lambda t: t.iloc[:, :100], "holds 100 wavelengths from 0.7 to 2.753 um, not"),
}


@pytest.mark.parametrize("case", AXES)
def test_axes_of_other_data_are_refused(case: str, copy: RawFolder) -> None:
    name, change, said = AXES[case]
    check_axes(copy)
    rewrite(copy.root / name, change)
    with pytest.raises(ContractError, match=f"{name}: .*{said}.*Fix: "):
        check_axes(copy)


def extract(raw: RawFolder, out: Path) -> list[dict]:
    return extract_planet(("train", planet_of(raw)), raw, out, Recipe(Steps(60, 60)))


def test_a_visit_that_stands_twice_is_refused(copy: RawFolder, tmp_path: Path) -> None:
    folder = copy.planet_folder("train", planet_of(copy))
    for path in [*folder.iterdir()]:
        link = folder / path.name.replace("_0", "_1")
        shutil.copytree(path, link) if path.is_dir() else os.link(path, link)
    with pytest.raises(ContractError, match=r"FGS1_signal_1\.parquet: frames: repeats frames of visit 0\. Fix"):
        extract(copy, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def flip_columns(table: pd.DataFrame) -> pd.DataFrame:
    turned = table.to_numpy().reshape(-1, 32, 356)[:, :, ::-1]
    return pd.DataFrame(turned.reshape(len(table), -1), columns=table.columns)


def test_detector_columns_in_reverse_order_are_refused(copy: RawFolder, tmp_path: Path) -> None:
    planet = planet_of(copy)
    assert {row["channel"] for row in extract(copy, tmp_path)} == {"FGS1", "AIRS-CH0"}
    rewrite(copy.planet_folder("train", planet) / "AIRS-CH0_signal_0.parquet", flip_columns)
    with pytest.raises(ContractError, match=r"AIRS-CH0_signal_0\.parquet: columns: light .* as if the bins were in"):
        extract(copy, tmp_path)


def change_frames(change: Callable[[np.ndarray], None], begin: float, end: float) -> Callable:
    """Change the AIRS frames, (frames, rows, columns), of a part of a visit."""

    def spoil(table: pd.DataFrame) -> pd.DataFrame:
        frames = table.to_numpy().reshape(-1, 32, 356).copy()
        change(frames[slice(*(int(len(frames) * share) // 2 * 2 for share in (begin, end)))])
        return pd.DataFrame(frames.reshape(len(table), -1), columns=table.columns)

    return spoil


def displace(rows: int, columns: int) -> Callable[[np.ndarray], None]:
    def change(frames: np.ndarray) -> None:
        frames[:] = np.roll(frames, (rows, columns), (1, 2))

    return change


def set_bit(frames: np.ndarray) -> None:
    frames[:, :, 150:154] |= 1024


def cut_off(frames: np.ndarray) -> None:
    np.minimum(frames, 6 * int(np.percentile(frames, 99.9)) // 10, out=frames)


PLACE = "pixels are displaced by"
FRAMES = {
    "columns": (displace(0, 3), 0.5, 1.0, rf"in 50% of the pairs looked at, {PLACE} \+3 columns against the flat"),
    "one column": (displace(0, -1), 0.3, 0.6, rf"in \d\d% of the pairs looked at, {PLACE} -1 column against the flat"),
    "a row": (displace(1, 0), 0.0, 1.0, rf"in 100% of the pairs looked at, {PLACE} \+1 row against the flat"),
    "a stuck bit": (set_bit, 0.5, 1.0, r"the light of [1-4] of 282 detector columns changes by \d+% beside that of"),
    "cut off": (cut_off, 0.0, 1.0, r"no reading is above \d+ ADU, which \d+ readings of \d+ pairs have, as if cut off"),
}


@pytest.mark.parametrize("case", FRAMES)
def test_frames_that_are_displaced_or_changed_are_refused(case: str, copy: RawFolder, tmp_path: Path) -> None:
    change, begin, end, said = FRAMES[case]
    path = copy.planet_folder("train", planet_of(copy)) / "AIRS-CH0_signal_0.parquet"
    rewrite(path, change_frames(change, begin, end))
    with pytest.raises(ContractError, match=rf"AIRS-CH0_signal_0\.parquet: frames: {said}.*\. Fix: "):
        extract(copy, tmp_path)


def visit_of(depth: float, steps: int = 375) -> np.ndarray:  # e-, (steps,)
    """Light of a star during a transit of four hours, with ingresses of ten minutes."""
    hours = np.linspace(0, 7.5, steps)
    dip = np.clip((np.abs(hours - 3.7) - 2.0) / (1 / 6), -1, 0)
    return 1e6 * (1 + depth * dip + 1e-4 * np.random.default_rng(2).normal(size=steps))


@pytest.mark.parametrize("depth", [0.0, 0.003, 0.03])
def test_a_transit_is_no_seam(depth: float) -> None:
    check_seams(Path("a"), visit_of(depth))
    check_seams(Path("a"), np.repeat(visit_of(depth), 20))


@pytest.mark.parametrize("depth", [0.003, 0.03])
def test_parts_of_a_visit_in_another_order_are_refused(depth: float) -> None:
    first, second, third = np.split(visit_of(depth), 3)
    with pytest.raises(ContractError, match=r"a: frames: the star's light changes by [+-]\d.\d\d% within a step after"):
        check_seams(Path("a"), np.concatenate([third, second, first]))


def test_frames_of_another_star_are_refused() -> None:
    """Spliced-in frames show a star with another spectrum, or with the same spectrum but brighter."""
    bins = visit_of(0.01)[:, None] * np.linspace(1, 0.1, 100) / 55
    later = np.arange(375)[:, None] > 300
    check_seams(Path("a"), bins)
    with pytest.raises(ContractError, match=r"spectrum at the end differs from that at the beginning by 2\.\d%"):
        check_seams(Path("a"), np.where(later, bins * np.linspace(0.95, 1.05, 100), bins))
    with pytest.raises(ContractError, match=r"light changes by \+5\.\d\d% within a step after 80% of the visit"):
        check_seams(Path("a"), np.where(later, 1.05 * bins, bins))


def in_order(flux: np.ndarray) -> np.ndarray:
    return flux


def halves(flux: np.ndarray) -> np.ndarray:
    return np.roll(flux, 200, axis=0)


def two_stretches(flux: np.ndarray) -> np.ndarray:
    return np.concatenate([flux[:60], flux[200:300], flux[60:200], flux[300:]])


@pytest.mark.parametrize("change", [halves, two_stretches, in_order])
@pytest.mark.parametrize("late", ["FGS1", "AIRS"])
def test_channels_whose_light_changes_at_different_times_are_refused(change: Callable, late: str) -> None:
    (planet,) = draw_planets(404, "train", 1).values()
    flux = simulate_features(np.random.default_rng(1), planet, FRAME_COUNTS["demo"])["airs_bins"]["flux"][:375]
    columns = slice(0, 1) if late == "FGS1" else slice(1, None)
    flux[:, columns] = change(flux[:, columns])
    if change is in_order:
        check_together(Path("a"), flux)
        return
    with pytest.raises(ContractError, match=r"a: frames: FGS1's light changes when AIRS's does not, by \d\.\d\d times"):
        check_together(Path("a"), flux)


def test_a_bin_with_a_depth_unlike_its_neighbours_is_left_out() -> None:
    (planet,) = draw_planets(404, "train", 1).values()
    features = simulate_features(np.random.default_rng(1), planet, FRAME_COUNTS["demo"])
    star, flux = planet.system.row(), features["airs_bins"]["flux"]
    clean = fit_sound_bins(7, blocks_of(features), star, FitOptions())[1]
    assert not len(clean.dead_bins)
    flux[:, 200] = flux[:, 200].mean() * (flux[:, 1] / flux[:, 1].mean()) ** 50  # a column whose response isn't linear
    blocks, fit = fit_sound_bins(7, blocks_of(features), star, FitOptions())
    assert fit.dead_bins.tolist() == [200] and all(block.missing[:, 199].all() for block in blocks[1::2])
    others = np.arange(N_BINS) != 200
    assert (np.abs(fit.depth - clean.depth) < 0.5 * np.sqrt(clean.noise_variance))[others].all()
    flux[:, 100:220:6] = flux[:, [200]]
    with pytest.raises(UserError, match=r"planet 7: \d\d bins show depths far from those of their neighbours: 100, "):
        fit_sound_bins(7, blocks_of(features), star, FitOptions())


def test_depths_that_one_planet_can_not_have_are_refused() -> None:
    depth, variance = np.full(N_BINS, 0.012), np.full(N_BINS, 1e-7)
    fit = Fit(depth, variance, np.full((N_BINS, 1), 1e-4), {}, {}, json.loads("{}"), [], [])
    check_channels(fit, 7)
    depth[0] = 0.014  # the difference of some planets
    check_channels(fit, 7)
    depth[0] = 0.003
    with pytest.raises(UserError, match=r"planet 7: FGS1 shows a depth of 0\.0030 and AIRS of 0\.0120\. Fix: check"):
        check_channels(fit, 7)
    variance[0] = 0.004**2
    check_channels(fit, 7)
    depth[:], variance[0] = 0.00615, 0.00042**2
    depth[0] = 0.00359  # a planet of another chemistry, whose true depths are 42% apart
    check_channels(fit, 7)
    depth[0] = 0.0015
    with pytest.raises(UserError, match=r"FGS1 shows a depth of 0\.0015 and AIRS of 0\.006"):
        check_channels(fit, 7)
    depth[0], variance[0] = 0.0038, 1e-8
    depth[1:] = 0.0069
    with pytest.raises(UserError, match=r"FGS1 shows a depth of 0\.0038 and AIRS of 0\.0069"):
        check_channels(fit, 7)
    depth[1:] = np.linspace(0.0050, 0.0088, N_BINS - 1)  # the bins of AIRS differ as much
    check_channels(fit, 7)


@pytest.mark.parametrize(
    ("depth", "error", "seen"),
    [
        (76e-6, 30e-6, False),
        (-1e-3, 1e-4, False),
        (650e-6, 1e-4, False),
        (750e-6, 1e-4, True),
        (0.0143, 0.005, True),  # a transit longer than its visit: uncertain, but not absent
    ],
)
def test_a_planet_without_a_transit_is_refused(depth: float, error: float, seen: bool) -> None:
    level = np.full((N_BINS, 1), error)  # what all bins share
    fit = Fit(np.full(N_BINS, depth), np.full(N_BINS, 1e-12), level, {}, {}, json.loads("{}"), [], [])
    if seen:
        check_channels(fit, 7)
        return
    with pytest.raises(UserError, match=r"7: no transit is seen \(AIRS shows a depth of .* \+- 0\.000\d+\)\. Fix"):
        check_channels(fit, 7)


@pytest.mark.parametrize(
    ("figure", "usual", "odd", "words"),
    [
        ("impact", 1.1, 1.29, r"only grazes the star's edge \(impact parameter 1\.29\).*Fix: check P"),
        ("red_noise", 15.0, 77.0, r"the light curves don't follow its transit .*77 times.*Fix: check P"),
    ],
)
def test_a_fit_that_its_quality_speaks_against_is_refused(figure: str, usual: float, odd: float, words: str) -> None:
    quality = {figure: usual}
    depth, level = np.full(N_BINS, 0.012), np.full((N_BINS, 1), 1e-4)
    fit = Fit(depth, np.full(N_BINS, 1e-7), level, {}, {}, quality, [], [])
    check_channels(fit, 7)
    quality[figure] = odd
    with pytest.raises(UserError, match=f"planet 7: {words}"):
        check_channels(fit, 7)
