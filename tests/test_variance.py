"""Is the propagated variance that of repeated visits? Step by step, at random and from the calibration maps apart.

Repeated: 20,000 simulated pairs and more, without jitter, against the variance the pipeline states for them; and 600
calibration sets, drawn anew with the errors assumed for the maps, against the systematic variance.
"""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_calibration import ADC, BENT

from spectramind_nb.chapters import calibration
from spectramind_nb.chapters.calibration import Keep, kept_visit
from spectramind_nb.core.instrument import AIRS, AIRS_COLUMNS, FGS1, Channel
from spectramind_nb.detector import calibration_log, extraction
from spectramind_nb.detector.corrections import (
    FLAGS,
    CalibrationErrors,
    CdsPairs,
    Options,
    TypicalPair,
    Visit,
    adc_to_electrons,
    average_pairs,
    calibrate_pairs,
    cds_electrons,
    interpolate,
    linearise,
    quantisation_variance,
    systematic_variance,
    typical_pair,
    unusable,
)
from spectramind_nb.detector.extraction import extract_visit
from spectramind_nb.detector.photometry import LightProfile, Photometry, light_sums, light_variance, star_moves
from spectramind_nb.detector.raw import Adc, CalibrationSet

PAIRS, LIGHT_PAIRS = 50_000, 20_000  # of a small detector and of a whole one
READ_NOISE = 13.3  # e- a read
SMALL = Channel("FGS1", 8, 8, FGS1.read_times_s, FGS1.cycle_s, 100)  # each step's own detector, fast to simulate
EVERY = slice(None)


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seed))


def calibration_set(
    rng: np.random.Generator, channel: Channel, bend: tuple[float, ...] = BENT, read_noise: float = READ_NOISE
) -> CalibrationSet:
    """The true maps of a detector."""
    shape = (channel.rows, channel.columns)
    linear_corr = np.tile(np.array(bend)[:, None, None], (1, *shape))
    dark, flat = np.full(shape, 0.0065), rng.uniform(0.7, 1.3, shape)  # a flat that matters
    return CalibrationSet(dark, np.zeros(shape, bool), flat, linear_corr, np.full(shape, read_noise))


def read_out(
    rng: np.random.Generator, charge: np.ndarray, bend: tuple[float, ...], read_noise: float, adc: Adc = ADC
) -> np.ndarray:  # ADU, uint16
    """What the converter makes of whole electrons: the inverse of the linearity polynomial, noise, rounding down."""
    grid = np.linspace(-1000, 149_000, 30_001)
    seen = np.interp(np.arange(charge.max() + 1), np.polynomial.Polynomial(bend)(grid), grid).astype(np.float32)
    measured = seen[charge] + np.float32(read_noise) * rng.standard_normal(charge.shape, np.float32)
    adu = (measured - np.float32(adc.offset)) * np.float32(adc.gain)  # positive, so that the cast rounds down
    return np.clip(adu, 0, 65535, out=adu).astype(np.uint16)


def expose(
    rng: np.random.Generator,
    channel: Channel,
    rate: np.ndarray,  # e-/s on a detector without flat, (rows, columns) or one frame a pair
    pairs: int,
    bend: tuple[float, ...] = BENT,
    read_noise: float = READ_NOISE,
    adc: Adc = ADC,
    photons: bool = True,  # False: the same charge in every pair
) -> Visit:
    """A visit from first principles: charge is never lost between the two reads of a pair."""
    maps = calibration_set(rng, channel, bend, read_noise)
    signal = np.empty((pairs, 2, channel.rows, channel.columns), np.uint16)
    for part in np.array_split(np.arange(pairs), max(1, signal.size // 4_000_000)):  # spares memory
        light = rate[part] if rate.ndim == 3 else np.broadcast_to(rate, (len(part), *rate.shape))
        collected = light * maps.flat + maps.dark
        shares = [collected * seconds for seconds in (channel.read_times_s[0], channel.exposure_s)]
        charge = np.stack([rng.poisson(one) if photons else np.rint(one).astype(int) for one in shares], axis=1)
        signal[part] = read_out(rng, charge.cumsum(axis=1), bend, read_noise, adc)
    return Visit(channel, signal, np.arange(pairs) * channel.cycle_s / 3600, maps, adc)


def rates(least: float, most: float) -> np.ndarray:  # e-/s, (8, 8)
    """From `least` to `most`, in random order."""
    return generator(1).permutation(np.geomspace(least, most, SMALL.pixels)).reshape(8, 8)


def scatter(values: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Standard deviation along the first axis over the stated one."""
    pull = (values - values.mean(axis=0, dtype=float)) / np.sqrt(variance)
    return np.sqrt((pull**2).sum(axis=0) / (len(pull) - 1))


ONE = pytest.approx(np.ones((8, 8)), abs=0.02)  # in every pixel


@cache
def bright_visit() -> tuple[Visit, TypicalPair, CdsPairs]:
    """All noise, up to 100,000 e- in the second read, where the linearity's slope is 1.2."""
    visit = expose(generator(2), SMALL, rates(20, 4e5), PAIRS)
    typical = typical_pair(visit, Options())
    return visit, typical, calibrate_pairs(visit, EVERY, typical, Options())


# The random part, step by step


@pytest.mark.parametrize("gain", [0.4369, 0.9, 2.0])
def test_converter_rounding(gain: float) -> None:
    rng, adc = generator(3), Adc(gain, -1000.0)
    electrons = 2000.3 + READ_NOISE * rng.standard_normal(PAIRS)
    decoded = adc_to_electrons(np.floor((electrons - adc.offset) * gain).astype(np.uint16), adc)
    assert (decoded - electrons).std() / np.sqrt(quantisation_variance(adc)) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("charge", [0, 1000, 10_000, 30_000, 60_000, 100_000])
def test_one_linearised_read_of_a_fixed_charge(charge: int) -> None:
    adu = read_out(generator(4), np.full((PAIRS, 1, 1), charge), BENT, READ_NOISE)
    value, slope = linearise(adc_to_electrons(adu, ADC), np.array(BENT)[:, None, None])
    variance = np.mean(slope**2, dtype=float) * (READ_NOISE**2 + quantisation_variance(ADC))
    assert value.std(dtype=float) / np.sqrt(variance) == pytest.approx(1, abs=0.02)


def test_pair_after_dark_before_flat() -> None:
    visit, typical, _ = bright_visit()
    signal, _ = cds_electrons(visit, EVERY, Options())
    assert scatter(signal, typical.poisson + typical.read) == ONE


def test_flat_fielded_pair() -> None:
    _, _, pairs = bright_visit()
    assert not pairs.mask.any() and np.array_equal(pairs.variance, pairs.poisson + pairs.read)
    assert scatter(pairs.frames, pairs.variance) == ONE


def test_photons_alone() -> None:
    fine = Adc(4.0, -1000.0)  # rounding of 0.07 e-
    visit = expose(generator(5), SMALL, rates(3e3, 6e4), PAIRS, read_noise=0, adc=fine)
    pairs = calibrate_pairs(visit, EVERY, typical_pair(visit, Options()), Options())
    assert scatter(pairs.frames, pairs.poisson) == ONE
    assert (pairs.read < 0.02 * pairs.poisson).all()


def test_reads_alone() -> None:
    visit = expose(generator(6), SMALL, rates(20, 4e5), PAIRS, photons=False)
    pairs = calibrate_pairs(visit, EVERY, typical_pair(visit, Options()), Options())
    assert scatter(pairs.frames, pairs.read) == ONE


@pytest.mark.parametrize("length", [4, 10])
def test_averaged_steps_with_lost_pairs(length: int) -> None:
    visit, typical, _ = bright_visit()
    full = generator(7).random((PAIRS, 8, 8)) < 0.05
    signal = np.where(full[:, None], np.uint16(65535), visit.signal)
    steps = average_pairs(calibrate_pairs(replace(visit, signal=signal), EVERY, typical, Options()), length)
    used = ~steps.mask
    mean = np.nanmean(steps.frames, axis=0, dtype=float)
    pull = ((steps.frames - mean) / np.sqrt(steps.variance))[used]
    assert pull.std() == pytest.approx(1, abs=0.02) and pull.size > 0.99 * used.size
    uneven = steps.variance.max(axis=0, where=used, initial=0) / steps.variance.min(axis=0, where=used, initial=1e9)
    assert (uneven > 1.5).all()  # pairs were indeed lost


HOLES = {
    "inside": (8.0, 9.0, [0, 2, 4, 5, 7], [3, 4, 1, 6, 5]),
    "at the edge": (8.0, 9.0, [1, 3, 6, 7], [0, 7, 0, 7]),
    "on the star's core": (2.0, 4.2, [4, 2], [4, 5]),
}


@pytest.mark.parametrize("where", HOLES)
def test_interpolated_pixels(where: str) -> None:
    width, centre, *holes = HOLES[where]  # of a smooth image, or of a star
    row, column = np.mgrid[:8, :8]
    rate = 8e4 * np.exp(-((column - centre) ** 2 + (row - 4) ** 2) / (2 * width**2))
    visit = expose(generator(8), SMALL, rate, PAIRS)
    dead = np.zeros((8, 8), bool)
    dead[tuple(holes)] = True
    holed = replace(visit, calibration=replace(visit.calibration, dead=dead))
    pairs = calibrate_pairs(holed, EVERY, typical_pair(holed, Options()), Options())
    filled = interpolate(pairs)
    pull = ((filled.frames - rate * SMALL.exposure_s) / np.sqrt(filled.variance))[:, dead]
    assert np.array_equal(filled.flags, pairs.flags) and (filled.flags[:, dead] & FLAGS["dead"]).all()
    assert np.array_equal(filled.frames[:, ~dead], pairs.frames[:, ~dead])  # others aren't touched
    assert np.array_equal(filled.variance[:, ~dead], pairs.variance[:, ~dead])
    assert np.sqrt((pull**2).mean(axis=0)).max() <= 1.05


# The random part of the light


@cache
def fgs1_visit() -> Visit:
    row, column = np.mgrid[:32, :32]
    image = np.exp(-((row - 15.5) ** 2 + (column - 15.2) ** 2) / (2 * 2.0**2))
    visit = expose(generator(9), FGS1, 2.2e6 * image / image.sum() + 40, LIGHT_PAIRS)
    visit.calibration.dead[[14, 3, 20], [17, 20, 5]] = True
    return visit


@pytest.mark.parametrize("kind", ["psf", "aperture"])
@pytest.mark.slow
def test_light_of_fgs1(kind: str) -> None:
    curves = extract_visit(fgs1_visit(), 1, Options(), Photometry(kind))
    assert curves.flux.shape[0] == LIGHT_PAIRS
    assert ((curves.flux - curves.flux.mean()) / np.sqrt(curves.variance)).std() == pytest.approx(1, abs=0.02)


def test_light_of_airs_columns() -> None:
    row, column = np.mgrid[: AIRS.rows, : AIRS.columns]
    width = 1.5 + column / 400
    across = np.exp(-((row - 15.6) ** 2) / (2 * width**2)) / (width * np.sqrt(2 * np.pi))
    spectrum = 3e4 * np.exp(-(((column - 150) / 90) ** 2)) + 1300  # e-/s a column
    visit = expose(generator(10), AIRS, spectrum * across + 6, 120)
    visit.calibration.dead[[14, 3, 16, 20], [60, 100, 150, 290]] = True
    curves = extract_visit(visit, 1, Options())
    flux, variance = curves.flux[:, AIRS_COLUMNS], curves.variance[:, AIRS_COLUMNS]
    assert flux.shape == (120, 282)
    ratio, brightness = scatter(flux, variance), flux.mean(axis=0).argsort()
    for some in (brightness, *np.array_split(brightness, 3)):  # read noise and photons weigh differently
        assert np.sqrt((ratio[some] ** 2).mean()) == pytest.approx(1, abs=0.02)


# The systematic part: the same raw frames, other maps

ERRORS = CalibrationErrors(dark=0.2, dark_e_s=3.0, flat=0.002, linearity=0.01)  # large, against rounding
MAPS = ("dark", "flat", "linearity")


def redrawn(rng: np.random.Generator, maps: CalibrationSet, wrong: tuple[str, ...]) -> CalibrationSet:
    """The maps as another calibration would have found them."""
    found = replace(maps)
    if "dark" in wrong:
        relative, fixed = rng.standard_normal((2, *maps.dark.shape))
        found = replace(found, dark=maps.dark * (1 + ERRORS.dark * relative) + ERRORS.dark_e_s * fixed)
    if "flat" in wrong:
        found = replace(found, flat=maps.flat + ERRORS.flat * rng.standard_normal(maps.flat.shape))
    if "linearity" in wrong:
        error = ERRORS.linearity * rng.standard_normal(maps.linear_corr.shape)
        error[:2] = 0  # the scale is the gain's and the pedestal's affair
        found = replace(found, linear_corr=maps.linear_corr * (1 + error))
    return found


@cache
def repeated(wrong: tuple[str, ...]) -> tuple[np.ndarray, dict[str, np.ndarray], TypicalPair, CalibrationSet]:
    """The typical calibrated pair with 600 sets of maps, (600, 8, 8), and its stated variance."""
    rng = generator(11)
    visit = expose(rng, SMALL, rates(3e4, 4e5), 64)
    dark = rng.permutation(np.geomspace(10, 300, SMALL.pixels)).reshape(8, 8)
    visit = replace(visit, calibration=replace(visit.calibration, dark=dark))
    typical, found = typical_pair(visit, Options()), []
    for _ in range(600):
        maps = redrawn(rng, visit.calibration, wrong)
        other = typical_pair(replace(visit, calibration=maps), Options())
        found.append(other.signal / maps.flat)
    return np.array(found), systematic_variance(visit, typical, Options(), ERRORS), typical, visit.calibration


@pytest.mark.parametrize("wrong", [*((name,) for name in MAPS), MAPS], ids="+".join)
def test_errors_of_the_maps(wrong: tuple[str, ...]) -> None:
    found, stated, _, _ = repeated(wrong)
    ratio = found.std(axis=0, ddof=1) / np.sqrt(sum(stated[name] for name in wrong))
    assert np.median(ratio) == pytest.approx(1, abs=0.1)
    assert ratio.ravel()[[0, 21, 42, 63]] == pytest.approx(np.ones(4), abs=4 / np.sqrt(2 * 600))


@pytest.mark.parametrize("axis", [(0, 1), (0,)], ids=["as FGS1", "as AIRS"])
@pytest.mark.parametrize("wrong", [*((name,) for name in MAPS), MAPS], ids="+".join)
def test_errors_of_the_maps_in_the_light(wrong: tuple[str, ...], axis: tuple[int, ...]) -> None:
    found, stated, typical, maps = repeated(wrong)
    usable = np.ones((8, 8), bool)
    usable[2, 3] = usable[6, 6] = False
    star = np.maximum(typical.signal / maps.flat, 0)
    variance = (typical.poisson + typical.read) / maps.flat**2
    profile = LightProfile(star / star.sum(axis=axis), variance, 0 * star, axis, star / variance)  # held fixed
    masked = np.broadcast_to(~usable, found.shape)
    light, _, _ = light_sums(CdsPairs(found, found, found, masked.astype(np.uint8), masked), profile)
    part = light_variance(profile, np.sum([stated[name] for name in wrong], axis=0), usable)
    assert light.std(axis=0, ddof=1) / np.sqrt(part) == pytest.approx(np.ones_like(part), abs=0.1)


def test_errors_of_the_maps_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    visit = replace(fgs1_visit(), signal=fgs1_visit().signal[:60], time_h=fgs1_visit().time_h[:60])

    def results() -> tuple[dict[str, np.ndarray], extraction.LightCurves]:
        return kept_visit(visit, Options(), Keep(steps=12), 0), extract_visit(visit, 5, Options())

    kept, curves = results()
    for module in (calibration, calibration_log):
        monkeypatch.setattr(module, "systematic_variance", partial(systematic_variance, errors=ERRORS))
    worse, other = results()
    assert np.array_equal(kept["variance"], worse["variance"], equal_nan=True)
    assert np.allclose(kept["variance"], kept["variance_poisson"] + kept["variance_read"], equal_nan=True)
    assert np.array_equal(curves.variance, other.variance)
    for name in MAPS:
        before, after = kept[f"variance_{name}"], worse[f"variance_{name}"]
        assert (after >= 10 * before)[~kept["mask"]].all() and np.nansum(after) > 10 * np.nansum(before)
    assert other.log["noise_systematic_ppm"] > 3 * curves.log["noise_systematic_ppm"]
    assert other.log["noise_read_ppm"] == curves.log["noise_read_ppm"]


# What holds for any frames

OPTIONS = st.builds(Options, st.booleans(), st.booleans(), st.sampled_from([5.0, 20.0]), st.integers(0, 3))
PLACE = st.tuples(st.integers(0, 11), st.integers(0, 7), st.integers(0, 5))  # columns 6 and 7 stay sound
DAMAGE = st.dictionaries(PLACE, st.sampled_from([*FLAGS]), max_size=30)


@cache
def short_visit() -> Visit:
    return expose(generator(12), SMALL, rates(20, 2e5), 12)


WRONG_MAPS = {"dead": ("dead", True), "hot": ("dark", 12.0), "cold": ("flat", 0.2), "nan": ("linear_corr", np.nan)}


def spoilt(damage: dict[tuple[int, int, int], str]) -> Visit:
    """The short visit with damage of each kind of flag; what is wrong with a map is so in all pairs."""
    visit, signal = short_visit(), short_visit().signal.copy()
    maps = {name: getattr(visit.calibration, name).copy() for name in ("dark", "dead", "flat", "linear_corr")}
    for (pair, row, column), what in damage.items():
        if what == "saturated":
            signal[pair, 1, row, column] = 65535
        elif what == "lost":
            signal[pair, 1, row, column] = 0
        elif what in ("cosmic", "persistence"):
            signal[pair, 1, row, column] = 60_000
        else:
            name, value = WRONG_MAPS[what]
            maps[name][..., row, column] = value
    return replace(visit, signal=signal, calibration=replace(visit.calibration, **maps))


@given(damage=DAMAGE, options=OPTIONS)
def test_nan_means_masked_and_no_flag_is_ever_cleared(
    damage: dict[tuple[int, int, int], str], options: Options
) -> None:
    visit = spoilt(damage)
    pairs = calibrate_pairs(visit, EVERY, typical_pair(visit, options), options)
    steps = average_pairs(pairs, 3)
    assert np.array_equal(pairs.mask, unusable(pairs.flags, options))
    for part in (pairs, steps, interpolate(pairs), interpolate(steps)):
        for array in (part.frames, part.poisson, part.read, part.variance):
            assert np.array_equal(np.isnan(array), part.mask)
        assert not (part.variance < 0).any()
    for before, after in ((pairs, steps), (pairs, interpolate(pairs)), (steps, interpolate(steps))):
        width = len(before.flags) // len(after.flags)
        assert not (before.flags & ~np.repeat(after.flags, width, axis=0)).any()
    assert np.array_equal(steps.mask, pairs.mask.reshape(4, 3, 8, 8).all(axis=1))
    assert not interpolate(pairs).mask.any()


NO_COSMIC = Options(linearity=False, cosmic_sigma=1e12)
ADU = arrays(np.uint16, (4, 2, 8, 8), elements=st.integers(1, 30_000))  # a read of 0 is lost


def with_signal(signal: np.ndarray) -> Visit:
    """A detector without dark current whose converter has a gain that float32 knows exactly."""
    maps = replace(short_visit().calibration, dark=np.zeros((8, 8)))
    return Visit(SMALL, signal, np.arange(len(signal)) * 1e-4, maps, Adc(0.5, -1000.0))


def frames_of(signal: np.ndarray) -> np.ndarray:
    visit = with_signal(signal)
    return calibrate_pairs(visit, EVERY, typical_pair(visit, NO_COSMIC), NO_COSMIC).frames


@given(signal=ADU)
def test_negative_differences_are_kept(signal: np.ndarray) -> None:
    electrons = (signal[:, 1].astype(float) - signal[:, 0]) / 0.5
    assert frames_of(signal) == pytest.approx(electrons / short_visit().calibration.flat, rel=1e-6)


@given(one=ADU, other=ADU)
def test_charges_add_up(one: np.ndarray, other: np.ndarray) -> None:
    together = frames_of(one) + frames_of(other)
    assert frames_of(one + other) == pytest.approx(together, rel=1e-6, abs=0.01)
    assert frames_of(2 * one) == pytest.approx(2 * frames_of(one), rel=1e-6)


@given(
    mask=arrays(bool, (3, 8, 8)).filter(lambda mask: (~mask).sum(axis=(1, 2)).min() > 30),
    rubbish=st.sampled_from([np.nan, 0.0, -1e30, 65535.0]),
    axis=st.sampled_from([(0, 1), (0,)]),
)
def test_what_stands_in_masked_pixels_does_not_matter(mask: np.ndarray, rubbish: float, axis: tuple[int, ...]) -> None:
    row, column = np.mgrid[:8, :8]
    star = np.exp(-((row - 3.6) ** 2 + (column - 3.3) ** 2) / 8)
    star /= star.sum(axis=axis, keepdims=True)
    variance = 2e4 * star + 366
    mask = mask & (row != 4)  # every column sees some light
    profile = LightProfile(star, variance, np.full((8, 8), 30.0), axis, star / variance)
    frames = 2e4 * star + 30 + generator(13).normal(0, 19, mask.shape)
    pairs = [
        CdsPairs(np.where(mask, value, frames), frames, frames, mask.astype(np.uint8), mask)
        for value in (np.nan, rubbish)
    ]
    for wanted, found in zip(*(light_sums(each, profile) for each in pairs), strict=True):
        assert np.array_equal(wanted, found)  # also: neither holds NaN
    assert np.array_equal(*(star_moves(each, profile) for each in pairs))


# Another instrument's pipeline


def test_linearity_is_that_of_the_james_webb_pipeline() -> None:
    theirs = pytest.importorskip("stcal.linearity.linearity").linearity_correction
    rng = generator(14)
    coefficients = np.array(BENT)[:, None, None] * rng.uniform(0.8, 1.2, (6, 5, 7))
    electrons = rng.uniform(10, 149_000, (3, 4, 5, 7))
    flags = np.zeros(electrons.shape, np.uint8)
    good = np.zeros((5, 7), np.uint32)
    wanted, _, _ = theirs(
        electrons.copy(), flags, good, coefficients.copy(), good, {"SATURATED": 2, "NO_LIN_CORR": 2**20}
    )
    for dtype in (np.float32, np.float64):
        found, _ = linearise(electrons.astype(dtype), coefficients)
        assert found == pytest.approx(wanted, rel=1e-6), dtype
