"""From frames to light curves: unbiased sums with a true variance, pointing, folds, order of the bins."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectramind_nb.chapters.features import group_folds
from spectramind_nb.core.instrument import AIRS, AIRS_COLUMNS, FGS1, Channel, airs_column_wavelengths, wavelengths
from spectramind_nb.detector.corrections import CdsPairs, fill_masked
from spectramind_nb.detector.extraction import LightCurves, bin_features, white_features
from spectramind_nb.detector.photometry import (
    LightProfile,
    decorrelate,
    light_sums,
    make_profile,
    star_centre,
    star_moves,
)

READ_VARIANCE, BACKGROUND = 366.0, 30.0  # e-^2 and e- a pair


def profile_of(channel: Channel, light: float) -> LightProfile:
    """A star of `light` e- a pair (in each column of AIRS), on an even background."""
    row, column = np.mgrid[: channel.rows, : channel.columns]
    across = (row - 15.6) ** 2 if channel is AIRS else (row - 15.2) ** 2 + (column - 16.1) ** 2
    star = np.exp(-across / (2 * 1.7**2))
    axis = (0,) if channel is AIRS else (0, 1)
    star /= star.sum(axis=axis, keepdims=True)
    variance = light * star + BACKGROUND + READ_VARIANCE
    return LightProfile(star, variance, np.full(star.shape, BACKGROUND), axis, star / variance)


def observe(
    profile: LightProfile, light: np.ndarray, seed: int, masked: float = 0.0, sky: float | np.ndarray = 1.0
) -> CdsPairs:
    """Noisy pairs of a star of `light` e-, one value a pair, with a share of pixels masked at random."""
    rng = np.random.default_rng(seed)
    shape = (len(light), *profile.star.shape)
    mean = np.asarray(light)[:, None, None] * profile.star + np.reshape(sky, (-1, 1, 1)) * profile.background
    frames = mean + rng.normal(size=shape) * np.sqrt(profile.variance)
    mask = rng.random(shape) < masked
    frames[mask] = np.nan
    read = np.where(mask, np.nan, READ_VARIANCE).astype(np.float32)
    poisson = np.where(mask, np.nan, profile.variance - READ_VARIANCE).astype(np.float32)
    return CdsPairs(frames.astype(np.float32), poisson, read, np.zeros(shape, np.uint8), mask)


@pytest.mark.parametrize("masked", [0.0, 0.1])
@pytest.mark.parametrize(("channel", "light", "pairs"), [(AIRS, 2e4, 120), (AIRS, 300.0, 120), (FGS1, 2e5, 6000)])
def test_sums_are_unbiased_and_their_variance_is_true(
    channel: Channel, light: float, pairs: int, masked: float
) -> None:
    profile = profile_of(channel, light)
    pulls = []
    for seed in range(0, pairs, 1000):
        seen = observe(profile, np.full(min(pairs, 1000), light), seed, masked)
        total, variance, background = light_sums(seen, profile)
        pulls.append((total - background - light) / np.sqrt(variance))
    pull = np.concatenate(pulls).ravel()
    assert pull.std() == pytest.approx(1, abs=0.02)
    assert abs(pull.mean()) < 4 / np.sqrt(pull.size)


def test_optimal_sums_beat_plain_sums() -> None:
    profile = profile_of(AIRS, 300.0)
    _, variance, _ = light_sums(observe(profile, np.full(3, 300.0), 0), profile)
    plain = profile.variance.sum(axis=0)
    assert (variance < 0.5 * plain).all()


def test_profile_and_background_are_found() -> None:
    truth = profile_of(AIRS, 2e4)
    found = make_profile(observe(truth, np.full(60, 2e4), 1, masked=0.05), AIRS)
    assert np.allclose(found.star, truth.star, atol=0.002) and np.allclose(found.star.sum(axis=0), 1)
    assert np.allclose(found.background, BACKGROUND, atol=2.5)
    assert np.allclose(found.variance, truth.variance, rtol=1e-5)


def test_holes_take_their_neighbours_light() -> None:
    image = np.array([[1.0, np.nan, 3.0, np.nan, np.nan], [np.nan, 4.0, 4.0, 4.0, np.nan]])
    assert fill_masked(image).tolist() == [[1, 2, 3, 3, 3], [4, 4, 4, 4, 4]]
    assert np.isnan(image).sum() == 5  # the original is left alone


@given(row=st.floats(-0.3, 0.3), column=st.floats(-0.3, 0.3), light=st.floats(5e4, 5e5))
def test_shift_of_the_star_is_found(row: float, column: float, light: float) -> None:
    still = profile_of(FGS1, light)
    rows, columns = np.indices(still.star.shape)
    spot = np.exp(-((rows - 15.2 - row) ** 2 + (columns - 16.1 - column) ** 2) / (2 * 1.7**2))
    frames = (light * spot / spot.sum() + BACKGROUND)[None].astype(np.float32)
    pairs = CdsPairs(frames, frames, 0 * frames, np.zeros(frames.shape, np.uint8), np.zeros(frames.shape, bool))
    assert star_moves(pairs, still)[0, :2] == pytest.approx([row, column], abs=0.02)
    assert star_centre(spot) == pytest.approx([15.2 + row, 16.1 + column], abs=1e-3)


def test_wobble_and_cosmic_rays_go_and_the_transit_stays() -> None:
    rng = np.random.default_rng(3)
    pairs, depth, noise = 4000, 0.01, 0.002
    hours = np.linspace(0, 7.5, pairs)
    inside = np.clip((1.6 - np.abs(hours - 3.75)) / 0.2, 0, 1)
    shift = rng.normal(0, 0.11, (pairs, 2)) + np.outer(hours, [0.01, -0.01])  # jitter, and a slow drift
    light = 2e5 * (1 - depth * inside) * (1 + rng.normal(0, noise, pairs))
    wobbly = light * (1 + 0.03 * shift[:, 0] - 0.02 * shift[:, 1] + 0.04 * shift[:, 0] ** 2)
    wobbly[[500, 2000]] *= [1.1, 0.8]
    width = rng.normal(0, 0.001, pairs)
    flux = decorrelate(wobbly * (1 + 0.5 * width), np.column_stack([shift, width]))
    assert set(np.flatnonzero(np.isnan(flux))) >= {500, 2000} and np.isnan(flux).sum() <= 4

    def depth_of(curve: np.ndarray) -> tuple[float, float]:
        use = np.isfinite(curve)
        design = np.stack([np.ones(pairs), hours, inside], axis=1)[use]
        fit, residual, *_ = np.linalg.lstsq(design, curve[use] / np.nanmedian(curve), rcond=None)
        return -fit[2], float(np.sqrt(residual[0] / use.sum()))

    found, scatter = depth_of(flux)
    assert depth_of(wobbly)[1] > 1.5 * scatter and scatter == pytest.approx(noise, rel=0.05)
    assert found == pytest.approx(depth, abs=3 * noise * np.sqrt(4 / pairs) + 0.01 * depth)


@given(count=st.integers(1, 40), folds=st.integers(2, 8), seed=st.integers(0, 99))
def test_folds_are_a_partition(count: int, folds: int, seed: int) -> None:
    planets = [int(p) for p in np.random.default_rng(seed).permutation(10_000)[:count]]
    found = group_folds(planets, folds, seed)
    sizes = Counter(found.values())
    assert sorted(found) == sorted(planets) and set(found.values()) <= set(range(folds))
    assert max(sizes.values()) - min(sizes.get(fold, 0) for fold in range(folds)) <= 1
    assert group_folds(planets[::-1], folds, seed) == found  # whatever the order of the planets


def test_other_seeds_draw_other_folds() -> None:
    assert group_folds(range(30), 5, 0) != group_folds(range(30), 5, 1)


def curves(channel: Channel, pairs: int, flux: np.ndarray) -> LightCurves:
    hours = (np.arange(pairs) + 0.5) * 7.5 / pairs
    return LightCurves(hours, flux, np.full(flux.shape, 8.0), np.zeros((pairs, 3)), np.array([15.2, 16.1]), {})


def test_283_bins_in_rising_wavelength() -> None:
    airs = curves(AIRS, 20, np.tile(np.arange(AIRS.columns, dtype=float), (20, 1)))
    found = bin_features(airs, curves(FGS1, 80, np.full(80, -1.0)), 4, visit=1)
    assert found["flux"].shape == (5, 283) and (found["flux"][:, 0] == -1).all() and (found["visit"] == 1).all()
    marker = found["flux"][0, 1:].astype(int)
    assert sorted(marker) == list(range(AIRS_COLUMNS.start, AIRS_COLUMNS.stop))
    assert np.allclose(airs_column_wavelengths()[marker], wavelengths()[1:], atol=1e-12)
    assert (np.diff(wavelengths()) > 0).all()
    assert np.allclose(found["variance"][:, 1:], 8 / 4) and np.allclose(found["variance"][:, 0], 8 / 16)


def test_steps_leave_out_lost_pairs() -> None:
    flux = np.arange(12.0)
    flux[[1, 8, 9, 10, 11]] = np.nan
    found = white_features(curves(FGS1, 12, flux), 4, visit=0)
    assert found["flux"] == pytest.approx([5 / 3, 5.5, 5.5])  # a step without any pair takes its neighbour's
    assert found["variance"] == pytest.approx([8 / 3, 2, np.inf])  # and counts for nothing
