"""The compiled pass against what it replaces: plain formulas over whole frames in double precision."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_calibration import ADC, BENT
from test_variance import calibration_set, expose, generator

from spectramind_nb.core.errors import ContractError
from spectramind_nb.core.instrument import AIRS, AIRS_COLUMNS, CHANNELS, FGS1, Channel
from spectramind_nb.detector.airs_motion import column_pictures, picture_products, remove_motion
from spectramind_nb.detector.corrections import CdsPairs, Options, Visit, calibrate_pairs, sample_pairs, typical_pair
from spectramind_nb.detector.extraction import extract_visit
from spectramind_nb.detector.foreground import background_light, measure_background, relative_light, separate_foreground
from spectramind_nb.detector.photometry import (
    PSF,
    LightProfile,
    Photometry,
    Summed,
    background_sums,
    decorrelate,
    light_sums,
    make_profile,
    plan_sums,
    star_moves,
    sum_series,
)
from spectramind_nb.detector.raw import CalibrationSet
from spectramind_nb.detector.signal_files import open_signal, pixel_histories
from spectramind_nb.detector.streaming import (
    BLOCK_PAIRS,
    FULL_SCALE,
    PixelSeries,
    lost_values,
    read_series,
    weighted_sums,
)

PAIRS = {"FGS1": 500, "AIRS-CH0": 130}


def assert_close(found: np.ndarray, wanted: np.ndarray, rtol: float = 0, atol: float = 0, **how: object) -> None:
    """Assert that two arrays are close, all values at once: `pytest.approx` compares them one by one in Python."""
    np.testing.assert_allclose(found, wanted, rtol, atol, **{"equal_nan": False, **how})


# The whole chain


def scene(channel: Channel, pairs: int) -> np.ndarray:  # e-/s, (pairs, rows, columns)
    """A trembling star (FGS1) or its spectrum (AIRS) on a faint background."""
    row, column = np.mgrid[: channel.rows, : channel.columns]
    if channel is AIRS:
        spectrum = 3e4 * np.exp(-(((column[0] - 150) / 90) ** 2)) + 1300
        return np.tile(spectrum * np.exp(-((row - 15.6) ** 2) / 6) / np.sqrt(6 * np.pi) + 6, (pairs, 1, 1))
    shift = generator(1).normal(0, 0.1, (2, pairs, 1, 1))
    return 8.7e4 * np.exp(-((row - 15.5 - shift[0]) ** 2 + (column - 15.2 - shift[1]) ** 2) / 8) + 40


@cache
def damaged_visit(name: str) -> Visit:
    """A visit with dead, hot, cold and incalculable pixels, saturated pairs and cosmic rays, on the star and beside."""
    channel, pairs = CHANNELS[name], PAIRS[name]
    visit = expose(generator(2), channel, scene(channel, pairs), pairs)
    maps, signal = visit.calibration, visit.signal
    maps.dead[[14, 2, 17], [17, 25, 300 % channel.columns]] = True
    maps.dark[[13, 16, 1], [14, 60 % channel.columns, 3]] = 12.0
    maps.flat[[18, 5], [13, 20]] = 0.3
    maps.linear_corr[:, 15, 18] = np.nan
    for first, count in ((0, 1), (7, 1), (8, 2), (40, 5), (pairs - 1, 1)):
        signal[first : first + count, 1, 16, 15] = FULL_SCALE
    signal[20:23, :, 14, 40 % channel.columns] = FULL_SCALE
    signal[50, 1, 0:4, 1] = FULL_SCALE  # in the background
    rng = generator(3)
    where = [rng.integers(0, size, 60) for size in (pairs - 8, channel.rows, channel.columns)]
    hit = where[0], 1, where[1], where[2]
    signal[hit] = np.minimum(signal[hit] + np.geomspace(100, 20_000, 60), 65_000)  # some too faint to be noticed
    return visit


def sampled(visit: Visit) -> Visit:
    return replace(visit, signal=visit.signal[sample_pairs(len(visit.signal))])


@cache
def plain_sums(name: str, options: Options, photometry: Photometry) -> tuple[Summed, LightProfile, np.ndarray]:
    """All pairs calibrated frame by frame and summed in double precision; and which values took no part."""
    visit, every = damaged_visit(name), slice(None)
    typical = typical_pair(visit, options)
    profile = make_profile(calibrate_pairs(sampled(visit), every, typical, options), visit.channel, photometry)
    pairs = calibrate_pairs(visit, every, typical, options)
    pairs = replace(pairs, frames=pairs.frames.astype(float))
    light, variance, background = (np.atleast_2d(part.T) for part in light_sums(pairs, profile))
    sky, level = (np.atleast_2d(part.T) for part in background_sums(pairs, profile, visit.channel))
    even = replace(profile, background=np.ones_like(profile.background))
    reach = np.atleast_2d(light_sums(pairs, even)[2].T)
    lost = pairs.mask.sum(axis=0).ravel()
    lost_in_pair = (pairs.mask & ~pairs.mask.all(axis=0)).sum(axis=(1, 2))
    if visit.channel is AIRS:
        moves, covariance = dense_motion(pairs, profile, typical.signal / visit.calibration.flat)
        products = picture_products(profile.star, profile.variance, ~pairs.mask.all(axis=0))
    else:
        moves, covariance, products = star_moves(pairs, profile), np.zeros((2, 2)), None
    summed = Summed(light, variance, background, sky, level, moves, covariance, products, lost, lost_in_pair, reach)
    return summed, profile, pairs.mask


def dense_motion(pairs: CdsPairs, profile: LightProfile, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit the light of all 356 columns, the shift and the width of the image at once, with a dense matrix."""
    usable = ~pairs.mask.all(axis=0)
    weight = np.where(usable, 1 / profile.variance, 0)
    star = np.where(usable, profile.star, 0)
    light = np.where(usable, weight * star * (expected - profile.background), 0).sum(axis=0) / (weight * star**2).sum(
        axis=0
    )
    column = np.tile(np.arange(star.shape[1]), len(star))
    design = np.zeros((star.size, star.shape[1] + 2))
    design[np.arange(star.size), column] = star.ravel()
    design[:, -2:] = np.where(usable, light * column_pictures(profile.star), 0).reshape(2, -1).T
    normal = design.T @ (weight.ravel()[:, None] * design)
    apart = np.where(pairs.mask, 0, np.nan_to_num(pairs.frames - expected)).reshape(len(pairs.mask), -1)
    solution = np.linalg.solve(normal, design.T @ (weight.ravel()[:, None] * apart.T))
    moves = np.column_stack([solution[-2], np.zeros(len(apart)), solution[-1]])
    return moves, np.linalg.inv(normal)[-2:, -2:]


def fast_sums(visit: Visit, options: Options, profile: LightProfile) -> Summed:
    """The same by the compiled pass."""
    pairs = len(visit.signal)
    histories = enumerate(np.ascontiguousarray(visit.signal.reshape(2 * pairs, -1).T))
    how = (sample_pairs(pairs), options.linearity, options.persistence_pairs)
    series = read_series(histories, pairs, visit.channel, visit.adc, visit.calibration, *how)
    assert np.array_equal(series.sample, sampled(visit).signal)
    return sum_series(series, plan_sums(sampled(visit), typical_pair(visit, options), profile, options), pairs)


every_way = [
    pytest.mark.parametrize("linearity", [True, False], ids=["bent", "straight"]),
    pytest.mark.parametrize("mask_hot", [False, True], ids=["hot in", "hot out"]),
    pytest.mark.parametrize(
        ("name", "photometry"),
        [("FGS1", PSF), ("FGS1", Photometry("aperture")), ("AIRS-CH0", PSF)],
        ids=["FGS1 psf", "FGS1 aperture", "AIRS"],
    ),
]


def in_every_way(test: Callable) -> Callable:
    for mark in every_way:
        test = mark(test)
    return test


@in_every_way
def test_sums_are_those_of_whole_frames(name: str, photometry: Photometry, mask_hot: bool, linearity: bool) -> None:
    visit, options = damaged_visit(name), Options(linearity, mask_hot)
    plain, profile, mask = plain_sums(name, options, photometry)
    fast = fast_sums(visit, options, profile)
    never = mask.all(axis=0)
    assert 20 < (mask & ~never).any(axis=(1, 2)).sum() < len(mask)  # some pairs lack values, the others none
    columns = AIRS_COLUMNS if name == AIRS.name else slice(None)
    light = plain.light[columns]
    assert_close(fast.light[columns], light, rtol=1e-6)
    for part in ("variance", "background", "reach"):  # also the denominators of pairs that lack values
        wanted, found = getattr(plain, part), getattr(fast, part)
        assert_close(found, wanted, rtol=1e-6, err_msg=part)
    assert np.ptp(plain.variance, axis=1).max() > 1e-4 * plain.variance.mean()
    assert_close(fast.expected_background, plain.expected_background, rtol=1e-6)
    share = plain.background.mean() / plain.expected_background.mean()  # of the background pixels' sum in the light
    assert_close(
        share * fast.measured_background, share * plain.measured_background, rtol=1e-6, atol=1e-6 * light.min()
    )
    assert_close(fast.moves, plain.moves, atol=1e-6)
    assert_close(fast.moves_covariance, plain.moves_covariance, rtol=1e-6)
    assert np.array_equal(fast.lost, np.where(never.ravel(), 0, plain.lost))
    assert np.array_equal(fast.lost_in_pair, plain.lost_in_pair)


@in_every_way
def test_light_curves_are_those_of_whole_frames(
    name: str, photometry: Photometry, mask_hot: bool, linearity: bool
) -> None:
    visit, options = damaged_visit(name), Options(linearity, mask_hot)
    plain, profile, _ = plain_sums(name, options, photometry)
    plan = plan_sums(sampled(visit), typical_pair(visit, options), profile, options)
    near = relative_light(plain.light)
    seen = measure_background(plain, plan, near)
    foreground = separate_foreground(seen, visit.channel)
    flux, variance = (plain.light - background_light(plain, seen, near, foreground)).T, plain.variance.T
    curves = extract_visit(visit, 1, options, photometry)
    if name == FGS1.name:
        assert_close(curves.moves, plain.moves, atol=1e-6)
        flux, variance = decorrelate(flux[:, 0], plain.moves)[:, None], variance[:, :1]
    else:
        moves, response = plain.moves[:, [0, 2]], plain.products.response
        flux = remove_motion(flux, variance, moves, plain.moves_covariance, response)
    found = [array.reshape(flux.shape) for array in (curves.flux, curves.variance)]
    columns = AIRS_COLUMNS if name == AIRS.name else slice(None)
    wanted = flux[:, columns] / np.nanmean(flux[:, columns], axis=0)
    assert np.isfinite(wanted).mean() > 0.97
    assert_close(found[0][:, columns] / np.nanmean(flux[:, columns], axis=0), wanted, atol=1e-6, equal_nan=True)
    assert_close(found[1], variance, rtol=1e-6)


# Each kernel


@given(data=st.data(), pixels=st.integers(1, 7), pairs=st.integers(1, 9), kinds=st.integers(1, 3))
def test_weighted_sums_are_those_of_a_loop(data: st.DataObject, pixels: int, pairs: int, kinds: int) -> None:
    number = st.floats(-1000, 1000, width=32)
    charge = data.draw(arrays(np.float32, (pixels, pairs), elements=number | st.just(np.nan)))
    expected = data.draw(arrays(np.float32, pixels, elements=number | st.just(np.nan)))
    limit = data.draw(arrays(np.float32, pixels, elements=st.sampled_from([-1, 0, 500, 3000])))
    weights = data.draw(arrays(np.float32, (pixels, kinds), elements=number | st.just(0)))
    group = data.draw(arrays(np.int64, pixels, elements=st.integers(0, 2)))
    wanted, size, lost = np.zeros((3, kinds, pairs)), np.zeros((3, kinds, pairs)), np.zeros(pixels, int)
    left_out = []
    for pixel in range(pixels):
        for pair in range(pairs if limit[pixel] >= 0 else 0):
            apart = charge[pixel, pair] - expected[pixel]
            if abs(apart) <= limit[pixel]:
                wanted[group[pixel], :, pair] += weights[pixel].astype(float) * apart
                size[group[pixel], :, pair] += np.abs(weights[pixel].astype(float) * apart)
            else:
                lost[pixel] += 1
                left_out.append((pixel, pair))
    sums, count = weighted_sums(charge, expected, limit, weights, group, 3)
    assert sums.shape == wanted.shape and (np.abs(sums - wanted) <= 1e-6 * size + 1e-30).all()
    assert np.array_equal(count, lost)
    series = PixelSeries(charge, count, count, np.empty(0))
    assert [*zip(*lost_values(series, expected, limit, count, pairs), strict=True)] == left_out


def test_long_visits_are_summed_block_by_block() -> None:
    rng, pairs = np.random.default_rng(4), 2 * BLOCK_PAIRS + 11
    charge = rng.normal(100, 10, (5, pairs)).astype(np.float32)
    expected, limit = np.full(5, 100, np.float32), np.full(5, 25, np.float32)
    weights, group = rng.random((5, 2)).astype(np.float32), np.array([1, 0, 1, 0, 1])
    sums, lost = weighted_sums(charge, expected, limit, weights, group, 2)
    kept = np.where(np.abs(charge - 100) <= 25, charge - 100, 0).astype(float)
    for number in (0, 1):
        mine = group == number
        assert_close(sums[number], weights[mine].astype(float).T @ kept[mine], rtol=1e-6, atol=1e-5)
    assert np.array_equal(lost, (np.abs(charge - 100) > 25).sum(axis=1)) and (lost > 50).all()


TINY = Channel("FGS1", 8, 9, FGS1.read_times_s, FGS1.cycle_s, 100)  # more pixels than are read at once
SIZE = (TINY.rows, TINY.columns)


def tiny_visit(pairs: int = 12) -> np.ndarray:  # ADU, uint16, (2 pairs, pixels)
    adu = np.random.default_rng(5).integers(500, 60_000, (2 * pairs, TINY.pixels)).astype(np.uint16)
    adu[[3, 8, 9, 12, 23], [0, 1, 1, 1, 70]] = FULL_SCALE  # pairs 1; 4 and 6; 11
    return adu


def series_of(histories: object, pairs: int, linearity: bool = True, persistence: int = 1) -> PixelSeries:
    how = (sample_pairs(pairs, 4), linearity, persistence)
    return read_series(histories, pairs, TINY, ADC, tiny_maps(), *how)


@cache
def tiny_maps() -> CalibrationSet:
    maps = calibration_set(generator(6), TINY, BENT)
    return replace(maps, dark=generator(7).uniform(0, 30, SIZE))


@pytest.mark.parametrize("linearity", [True, False])
@pytest.mark.parametrize("persistence", [0, 1, 3])
def test_charge_of_pixels_and_what_saturation_leaves(persistence: int, linearity: bool) -> None:
    adu, maps = tiny_visit(), tiny_maps()
    series = series_of(enumerate(np.ascontiguousarray(adu.T)), 12, linearity, persistence)
    electrons = adu.reshape(12, 2, *SIZE) / ADC.gain + ADC.offset
    if linearity:
        electrons = np.polynomial.polynomial.polyval(electrons, maps.linear_corr, tensor=False)
    charge = electrons[:, 1] - electrons[:, 0] - maps.dark * TINY.exposure_s
    full = (adu.reshape(12, 2, -1) == FULL_SCALE).any(axis=1).T
    after = np.zeros_like(full)
    for late in range(1, persistence + 1):
        after[:, late:] |= full[:, :-late]
    after &= ~full
    assert np.array_equal(np.isnan(series.charge), full | after)
    assert np.array_equal(series.saturated, full.sum(axis=1)) and series.saturated.sum() == 4
    assert np.array_equal(series.persistent, after.sum(axis=1))
    assert series.persistent[1] == {0: 0, 1: 2, 3: 4}[persistence]  # pairs 5, 7 (and 8, 9) after 4 and 6
    wanted = charge.reshape(12, -1).T
    good = ~np.isnan(series.charge)
    assert_close(series.charge[good], wanted[good], rtol=1e-6, atol=0.05)  # reads of 150,000 e- in float32
    assert np.array_equal(series.sample, adu.reshape(12, 2, *SIZE)[::3])


# Files


def write_signal(path: Path, adu: np.ndarray, one_column: bool, missing: bool = False) -> Path:
    """Frames as rows, or as one long column; in several row groups; the last value may be missing."""
    columns = [adu.ravel()] if one_column else adu.T
    holes = [np.arange(len(column)) == len(column) - 1 if missing else None for column in columns]
    table = pa.table(
        [pa.array(column, mask=hole) for column, hole in zip(columns, holes, strict=True)],
        names=[f"column_{k}" for k in range(len(columns))],
    )
    pq.write_table(table, path, row_group_size=len(table) // 3 + 1)
    return path


def test_both_layouts_of_a_file_give_the_same_series(tmp_path: Path) -> None:
    adu = tiny_visit()
    memory = series_of(enumerate(np.ascontiguousarray(adu.T)), 12)
    memory = replace(memory, charge=memory.charge.copy())  # the next visit takes its place
    for one_column in (False, True):
        signal = open_signal(write_signal(tmp_path / f"{one_column}.parquet", adu, one_column), TINY)
        series = series_of(pixel_histories(signal), signal.pairs)
        for name in ("charge", "saturated", "persistent", "sample"):
            assert np.array_equal(getattr(series, name), getattr(memory, name), equal_nan=True), name


@pytest.mark.parametrize("one_column", [False, True], ids=["a frame a row", "one column"])
def test_a_missing_value_is_named(tmp_path: Path, one_column: bool) -> None:
    path = write_signal(tmp_path / "FGS1_signal_0.parquet", tiny_visit(), one_column, missing=True)
    with pytest.raises(ContractError, match=r"FGS1_signal_0\.parquet.*column_0.*missing"):
        for _ in pixel_histories(open_signal(path, TINY)):
            pass
