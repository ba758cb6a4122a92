"""From counts to electrons: each step against an independent calculation, the variance against first principles."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spectramind_nb.core.instrument import FGS1
from spectramind_nb.detector.corrections import (
    FLAGS,
    CdsPairs,
    Options,
    Visit,
    adc_to_electrons,
    average_pairs,
    calibrate_pairs,
    calibrate_visit,
    hot_pixels,
    linearise,
    quantisation_variance,
    step_edges,
    typical_pair,
)
from spectramind_nb.detector.extraction import extract_visit
from spectramind_nb.detector.raw import Adc, CalibrationSet

ADC = Adc(0.4369, -1000.0)
STRAIGHT = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
BENT = (0.140, 0.99990, -5.7e-9, 1.179e-11, -6.03e-17, 1.338e-22)  # Ariel Data Challenge 2025 public data: AIRS
SHAPE = (FGS1.rows, FGS1.columns)


def expose(
    rng: np.random.Generator, rate: np.ndarray, pairs: int, bend: tuple[float, ...] = STRAIGHT, read_noise: float = 13.3
) -> Visit:
    """A visit of FGS1 from first principles. `rate` in e-/s, (rows, columns), as the detector collects it.

    Charge is never lost between the reads of a pair; each read adds its own noise, after the charge went through the
    inverse of the linearity polynomial; the converter rounds down.
    """
    early, late = FGS1.read_times_s
    dark, flat = np.full(SHAPE, 0.0065), rng.normal(1.014, 0.012, SHAPE)
    first = rng.poisson((rate + dark) * early, (pairs, *SHAPE))
    charge = np.stack([first, first + rng.poisson((rate + dark) * (late - early), first.shape)], axis=1)
    grid = np.linspace(-1000, 149_000, 3001)
    measured = np.interp(charge, np.polynomial.Polynomial(bend)(grid), grid) + rng.normal(0, read_noise, charge.shape)
    adu = np.clip(np.floor((measured - ADC.offset) * ADC.gain), 0, 65535).astype(np.uint16)
    linear_corr = np.tile(np.array(bend)[:, None, None], (1, *SHAPE))
    calibration = CalibrationSet(dark, np.zeros(SHAPE, bool), flat, linear_corr, np.full(SHAPE, read_noise))
    return Visit(FGS1, adu, np.arange(pairs) * FGS1.cycle_s / 3600, calibration, ADC)


def star(total: float = 2.2e6) -> np.ndarray:  # e-/s, (rows, columns)
    """A round star on a faint background."""
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = np.exp(-((row - 15.5) ** 2 + (column - 15.2) ** 2) / (2 * 2.0**2))
    return total * image / image.sum() + 40


def calibrated(visit: Visit, options: Options) -> CdsPairs:
    return calibrate_pairs(visit, slice(None), typical_pair(visit, options), options)


@pytest.fixture(scope="module")
def visit() -> Visit:
    return expose(np.random.default_rng(0), star(), 60)


@given(adu=arrays(np.uint16, 20), gain=st.floats(0.3, 2), offset=st.floats(-1500, 1500))
def test_converter_there_and_back(adu: np.ndarray, gain: float, offset: float) -> None:
    electrons = adc_to_electrons(adu, Adc(gain, offset))
    assert electrons.dtype == np.float32
    assert np.array_equal(np.rint((electrons.astype(float) - offset) * gain), adu)


@given(gain=st.floats(0.3, 2))
def test_rounding_noise(gain: float) -> None:
    electrons = np.random.default_rng(1).uniform(1000, 5000, 20_000)
    lost = electrons - np.floor(electrons * gain) / gain
    assert lost.var() == pytest.approx(quantisation_variance(Adc(gain, 0.0)), rel=0.03)


@given(
    scale=arrays(np.float64, 6, elements=st.floats(-2, 2)),
    electrons=arrays(np.float64, (4, 2, 3), elements=st.floats(-500, 149_000)),
)
def test_linearity_is_a_polynomial_with_its_slope(scale: np.ndarray, electrons: np.ndarray) -> None:
    coefficients = np.array(BENT) * scale
    value, slope = linearise(electrons.astype(np.float32), np.tile(coefficients[:, None, None], (1, 2, 3)))
    polynomial = np.polynomial.Polynomial(coefficients)
    size = np.polynomial.Polynomial(np.abs(coefficients))
    for found, wanted, bound in ((value, polynomial, size), (slope, polynomial.deriv(), size.deriv())):
        assert (np.abs(found - wanted(electrons)) <= 1e-6 * bound(np.abs(electrons)) + 1e-30).all()


@pytest.mark.parametrize(("bend", "read_noise"), [(STRAIGHT, 13.3), (BENT, 13.3), (BENT, 150.0)])
def test_pulls_of_calibrated_pairs_are_standard(bend: tuple[float, ...], read_noise: float) -> None:
    rng = np.random.default_rng(2)
    rate = rng.permutation(np.geomspace(20, 5e5, FGS1.pixels)).reshape(SHAPE)
    visit = expose(rng, rate, 80, bend, read_noise)
    pairs = calibrated(visit, Options())
    pull = (pairs.frames - rate * FGS1.exposure_s / visit.calibration.flat) / np.sqrt(pairs.variance)
    assert np.isfinite(pull).all() and pull.size > 80_000
    for level in (rate < 200, (rate >= 200) & (rate < 2e4), rate >= 2e4):  # read noise, both, photons
        assert pull[:, level].std() == pytest.approx(1, abs=0.02)
        assert abs(pull[:, level].mean()) < 0.03


def test_negative_signal_is_kept() -> None:
    visit = expose(np.random.default_rng(3), np.zeros(SHAPE), 40)
    pairs = calibrated(visit, Options())
    ties = (visit.signal[:, 0] == visit.signal[:, 1]).mean()  # equal counts: below zero by the dark current
    assert not pairs.mask.any() and (pairs.frames < 0).mean() == pytest.approx(0.5 + ties / 2, abs=0.01)
    assert abs(pairs.frames.mean()) < 4 * np.sqrt(pairs.variance.mean() / pairs.frames.size)


def spoilt(visit: Visit) -> Visit:
    """The visit with one pixel (or one pair of it) of each flag."""
    signal = visit.signal.copy()
    arrays = {name: getattr(visit.calibration, name).copy() for name in ("dark", "dead", "flat", "linear_corr")}
    arrays["flat"][10, 10] = 0.3
    arrays["dead"][4, 4] = True
    arrays["dark"][5, 5] = 12.0
    signal[7, 1, 16, 16] = 65535
    signal[9, 1, 6, 20] += 5000
    arrays["linear_corr"][:, 8, 8] = np.nan
    return replace(visit, signal=signal, calibration=replace(visit.calibration, **arrays))


def test_flags_say_what_is_wrong_and_where(visit: Visit) -> None:
    flags = calibrated(spoilt(visit), Options()).flags
    expected = np.zeros_like(flags)
    expected[:, 4, 4] |= FLAGS["dead"]
    expected[:, 5, 5] |= FLAGS["hot"]
    expected[7, 16, 16] |= FLAGS["saturated"] | FLAGS["cosmic"]
    expected[8, 16, 16] |= FLAGS["persistence"]
    expected[9, 6, 20] |= FLAGS["cosmic"]
    expected[:, 10, 10] |= FLAGS["cold"]
    expected[:, 8, 8] |= FLAGS["nan"]
    assert np.array_equal(flags, expected)


@pytest.mark.parametrize("mask_hot", [False, True])
def test_masked_means_nan_and_nan_means_masked(visit: Visit, mask_hot: bool) -> None:
    pairs = calibrated(spoilt(visit), Options(mask_hot=mask_hot))
    for part in (pairs, average_pairs(pairs, 5), calibrate_visit(spoilt(visit), 12, Options(mask_hot=mask_hot))[0]):
        assert np.array_equal(np.isnan(part.frames), part.mask) and np.array_equal(np.isnan(part.variance), part.mask)
        assert part.mask[:, 4, 4].all() and part.mask[:, 8, 8].all() and part.mask[:, 5, 5].all() == mask_hot
        assert not (part.variance < 0).any()
    averaged = average_pairs(pairs, 5)
    assert pairs.mask[9, 6, 20] and not averaged.mask[1, 6, 20]  # four pairs of five are left
    assert averaged.frames[1, 6, 20] == pytest.approx(pairs.frames[5:9, 6, 20].mean(), rel=1e-5)
    assert averaged.variance[1, 6, 20] == pytest.approx(pairs.variance[5:9, 6, 20].mean() / 4, rel=1e-5)
    assert averaged.variance[0, 6, 20] == pytest.approx(pairs.variance[:5, 6, 20].mean() / 5, rel=1e-5)


def test_hot_pixels_are_those_far_above_the_rest() -> None:
    rng = np.random.default_rng(4)
    dark = rng.normal(0.0065, 0.001, SHAPE)
    where = rng.choice(FGS1.pixels, 10, replace=False)
    dark.ravel()[where] = np.geomspace(0.05, 12, 10)
    plain = np.ones(SHAPE)
    calibration = CalibrationSet(dark, np.zeros(SHAPE, bool), plain, np.ones((6, *SHAPE)), plain)
    assert set(np.flatnonzero(hot_pixels(calibration))) == set(where)
    dead = np.zeros(SHAPE, bool)
    dead.ravel()[where[-1]] = True
    assert not hot_pixels(replace(calibration, dead=dead))[dead].any()


@pytest.mark.parametrize("rubbish", [0, 30_000, 65535])
def test_values_of_dead_pixels_do_not_matter(visit: Visit, rubbish: int) -> None:
    dead = np.zeros(SHAPE, bool)
    dead[15, 14] = dead[3, 20] = True
    one = replace(visit, calibration=replace(visit.calibration, dead=dead))
    signal = visit.signal.copy()
    signal[..., dead] = rubbish
    arrays = {name: getattr(visit.calibration, name).copy() for name in ("dark", "flat", "read", "linear_corr")}
    for array in arrays.values():
        array[..., dead] = np.nan if rubbish else 0
    other = Visit(FGS1, signal, visit.time_h, CalibrationSet(dead=dead, **arrays), ADC)
    found = [extract_visit(each, 10, Options()) for each in (one, other)]
    for name in ("flux", "variance", "moves", "centre"):
        assert np.array_equal(*(getattr(curves, name) for curves in found), equal_nan=True), name
    steps = [calibrate_visit(each, 6, Options())[0] for each in (one, other)]
    assert np.array_equal(steps[0].frames, steps[1].frames, equal_nan=True) and steps[0].mask[:, dead].all()


@pytest.mark.parametrize(("share", "kept"), [(1.0, 60), (0.5, 50), (1.5, 50), (0.95, 60)])
def test_a_bad_last_pair_is_left_out(visit: Visit, share: float, kept: int) -> None:
    signal = visit.signal.copy()
    first, second = signal[-1].astype(float)
    signal[-1, 1] = np.rint(first + share * (second - first))
    curves = extract_visit(replace(visit, signal=signal), 10, Options())
    assert len(curves.flux) == len(curves.time_h) == kept and curves.log["last_pair_bad"] == (kept < 60)


@given(pairs=st.integers(1, 5000), steps=st.integers(1, 400))
def test_steps_are_equal_and_few_and_lose_less_than_one(pairs: int, steps: int) -> None:
    edges = step_edges(pairs, steps)
    lengths = np.diff(edges)
    assert 1 <= len(lengths) <= steps and len(set(lengths)) == 1
    assert edges[0] == 0 and pairs - lengths[0] < edges[-1] <= pairs
