"""Light that does not dim with the star is told from the star's wings, and does not change depths."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d
from test_features import observe, profile_of
from test_variance import expose, generator

from spectramind_nb.core.instrument import AIRS, AIRS_COLUMNS, FGS1, Channel, airs_column_wavelengths
from spectramind_nb.detector import photometry
from spectramind_nb.detector.corrections import CdsPairs, Options
from spectramind_nb.detector.extraction import extract_visit
from spectramind_nb.detector.foreground import BackgroundLight, Foreground, background_light, separate_foreground
from spectramind_nb.detector.photometry import LightProfile, Summed, background_sums
from spectramind_nb.simulator.frames import airs_profile, airs_star, fgs1_image
from spectramind_nb.simulator.world_parts import Optics

LIGHT = 4.5 * airs_star(5900.0, 1.0)
WINGS = airs_profile(airs_column_wavelengths())[[0, 1, 2, 3, 28, 29, 30, 31]].mean(axis=0) * LIGHT
PLACE = np.linspace(-1, 1, AIRS.columns)


def subtracted(
    sky: np.ndarray, level: np.ndarray, near: np.ndarray, foreground: np.ndarray, count: float
) -> np.ndarray:
    """Subtract from sums over `count` background pixels (columns, pairs) what `background_light` finds, per pixel."""
    nothing, mean = np.zeros(0), level / count
    sums = Summed(level, level, mean, sky, level, nothing, nothing, None, nothing, nothing, np.ones(level.shape))
    rest = np.zeros(len(level))
    seen = BackgroundLight(rest, rest, rest, rest, rest, np.full(len(level), count))
    return background_light(sums, seen, near, Foreground(foreground, np.zeros((len(level), 1))))


def of_pairs(pairs: CdsPairs, profile: LightProfile, channel: Channel) -> tuple[np.ndarray, np.ndarray]:
    """Sum the background pixels, (columns, pairs)."""
    return tuple(np.atleast_2d(part.T) for part in background_sums(pairs, profile, channel))  # type: ignore[return-value]


def test_slow_variations_of_the_background_are_followed() -> None:
    profile, course = profile_of(FGS1, 0.0), np.linspace(0.5, 1.5, 9)
    sky, level = of_pairs(observe(profile, np.zeros(9), 2, masked=0.1, sky=course), profile, FGS1)
    level_of_one = profile.background[0, 0]
    found = subtracted(sky, level, np.ones(9), np.array([level_of_one]), level.mean() / level_of_one)[0]
    assert found / level_of_one == pytest.approx(course * level[0] / level.mean(), abs=0.08)


def test_each_column_has_its_own_variation_of_the_background() -> None:
    profile, steady = profile_of(AIRS, 2e4), np.ones(40)
    dims = np.where(np.arange(AIRS.columns) < 178, 1.0, 0.5)  # of the background at the end of the visit
    seen = observe(profile, 2e4 * steady, 5)
    dimmed = 1 + np.linspace(0, 1, 40)[:, None] * (dims - 1)
    frames = seen.frames + (dimmed[:, None, :] - 1) * profile.background
    sky, level = of_pairs(replace(seen, frames=frames), profile, AIRS)
    course = subtracted(sky, level, steady, profile.background[0], 8.0).T / profile.background[0]
    far = [*range(140), *range(220, AIRS.columns)]
    assert (course - dimmed)[:, far].mean(axis=0) == pytest.approx(0, abs=0.04)  # five standard deviations
    assert course[-1, :140].mean() == pytest.approx(1, abs=0.02)
    assert course[-1, 220:].mean() == pytest.approx(0.5, abs=0.02)


def test_a_steady_background_has_the_noise_of_three_numbers() -> None:
    pairs, noise, rng = 400, 0.05, np.random.default_rng(3)
    level, even = np.ones((AIRS.columns, pairs)), np.ones(AIRS.columns)
    noisy = [level + noise * rng.normal(size=level.shape) for _ in range(30)]
    found = np.array([subtracted(sky, level, np.ones(pairs), even, 1.0) for sky in noisy])
    variance = np.square(found[:, 31:-31] - 1).mean()
    assert variance == pytest.approx(noise**2 * 3 / (61 * pairs), rel=0.2)


def test_a_transit_keeps_its_corners_in_the_background() -> None:
    pairs, depth = 2000, 0.015
    dip = 1 - depth * np.clip((0.45 - np.abs(np.linspace(-1, 1, pairs))) / 0.05, 0, 1)
    wings, foreground = np.linspace(60, 20, AIRS.columns), np.linspace(2, 3, pairs)  # e- in the background pixels
    sky = wings[:, None] * dip + foreground
    level = np.repeat(np.median(sky, axis=1)[:, None], pairs, axis=1)
    found = subtracted(sky, level, dip / dip.mean(), np.full(AIRS.columns, 2.5), 1.0)
    inside = slice(40, -40)
    assert np.abs(found / sky - 1)[inside, inside].max() < 0.02 * depth
    assert np.abs(uniform_filter1d(sky, pairs // 22, axis=1) / sky - 1)[inside, inside].max() > 0.2 * depth


def background(foreground: np.ndarray, depth: float, seed: int = 0) -> BackgroundLight:
    """What the edge rows of AIRS show in a visit of full size with a transit of this depth."""
    rng, count = np.random.default_rng(seed), np.full(AIRS.columns, 8.0)
    noise, information = np.full(AIRS.columns, 50 / 5625), np.full(AIRS.columns, 5625 * 0.08 * depth**2 / 50)
    wings = WINGS + rng.normal(size=AIRS.columns) / np.sqrt(np.maximum(information, 1e-9))
    level = WINGS + foreground + rng.normal(0, np.sqrt(noise))
    return BackgroundLight(level, noise, wings, information, LIGHT, count)


SHAPES = {
    "none": 0 * PLACE,
    "weak": 0.9 + 0 * PLACE,
    "strong": 22.0 + 0 * PLACE,
    "rising": 22 + 6.6 * PLACE,
    "as the star": 9 * uniform_filter1d(LIGHT, 61, mode="nearest") / LIGHT.mean(),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [0.0, 0.006, 0.015])
def test_the_foreground_is_found_whatever_its_shape(shape: str, depth: float) -> None:
    foreground = SHAPES[shape]
    fits = [separate_foreground(background(foreground, depth, seed), AIRS) for seed in range(5)]
    error = np.mean([fit.level for fit in fits], axis=0) - foreground
    dilution = (10 * error / LIGHT)[AIRS_COLUMNS]
    bound = 1e-3 if depth else 3e-3  # without a transit only the spectrum tells
    assert np.abs(np.array([part.mean() for part in np.array_split(dilution, 8)])).max() < bound
    followed = (10 * foreground / LIGHT)[AIRS_COLUMNS]  # if all of the background followed the star
    assert not depth or followed.max() < 1e-3 or np.abs(dilution).max() < 0.3 * followed.max()


def test_columns_with_a_bad_pixel_do_not_count() -> None:
    seen = background(SHAPES["weak"], 0.01)
    level, count = seen.level.copy(), seen.count.copy()
    level[[60, 200, 300]] += 80.0
    count[[70, 210]] = 0
    level[[70, 210]] = 0
    information = np.where(count > 0, seen.information, 0)
    spoilt = separate_foreground(replace(seen, level=level, count=count, information=information), AIRS)
    clean = separate_foreground(seen, AIRS)
    assert (np.abs(spoilt.level - clean.level) < clean.sigma)[AIRS_COLUMNS].all()


@pytest.mark.parametrize(("channel", "rate", "depth", "pairs"), [(AIRS, 25.0, 0.08, 300), (FGS1, 2000.0, 0.08, 1500)])
def test_a_foreground_leaves_the_depth_alone(channel: Channel, rate: float, depth: float, pairs: int) -> None:
    inside = np.abs(np.linspace(-1, 1, pairs)) < 0.5
    if channel is AIRS:
        star = airs_profile(airs_column_wavelengths()) * LIGHT / 4.5
    else:
        star = 2e6 * fgs1_image(0.0, 0.0, 0.0)
    frames = star * (1 - depth * inside)[:, None, None] + rate
    curves = extract_visit(expose(generator(4), channel, frames, pairs), 1, Options())
    flux = curves.flux if channel is FGS1 else curves.flux[:, 40:120].sum(axis=1)
    found = 1 - np.nanmean(flux[inside]) / np.nanmean(flux[~inside])
    assert found == pytest.approx(depth, rel=0.012)
    assert curves.log["foreground_e_s"] == pytest.approx(rate, rel=0.05)
    assert curves.log["foreground_error_e_s"] < 0.03 * rate
    assert curves.log["dilution_error"] < 0.01
    assert curves.dilution is not None
    errors = np.sqrt((curves.dilution.errors**2).sum(axis=1))
    assert np.median(errors[AIRS_COLUMNS if channel is AIRS else slice(None)]) == curves.log["dilution_error"]
    off = curves.dilution.per_electron * (curves.dilution.foreground.level - rate * channel.exposure_s)
    assert (np.abs(off) < 4 * errors).all()


@pytest.mark.parametrize("rate", [0.0, 5.0])
def test_a_transit_feigns_no_motion(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wings dim with the star, which must not be taken for a narrower image: the depth would change."""
    pairs, depth = 600, 0.03
    inside = np.abs(np.linspace(-1, 1, pairs)) < 0.5
    wings = Optics(wings=(1.0, 1.0))
    star = airs_profile(airs_column_wavelengths(), optics=wings) * LIGHT / 4.5
    visit = expose(generator(6), AIRS, star * (1 - depth * inside)[:, None, None] + rate, pairs)

    def width_and_depth() -> tuple[float, float]:
        curves = extract_visit(visit, 1, Options())
        flux, width = np.nansum(curves.flux[:, 40:320], axis=1), curves.moves[:, 2]
        level, dip = (np.mean(flux[part]) for part in (~inside, inside))
        return float(width[inside].mean() - width[~inside].mean()), float(1 - dip / level)

    width, found = width_and_depth()
    monkeypatch.setattr(photometry, "apparent_motion", lambda *_: np.zeros(2))
    width_before, before = width_and_depth()
    assert abs(width) < 0.2 * abs(width_before) and abs(found / depth - 1) < 2e-3  # three standard deviations
    assert abs(before - found) > 1e-3 * depth
