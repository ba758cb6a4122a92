"""Depths that the spectrometer's line shape has smoothed."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from spectramind_nb.core.airs_image import bin_smoothing
from spectramind_nb.core.files import network_file
from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.prior.posterior import combine, log_evidence_of
from spectramind_nb.prior.sharpening import MOST_NATS, WIDTHS, learn_line_shape, sharpen, width_evidence
from spectramind_nb.prior.spectral_prior import prior_of_weights
from spectramind_nb.simulator.line_shape import smoothing_of_bins
from spectramind_nb.simulator.population import draw_planet, planet_stream
from spectramind_nb.transits.fit_priors import FitOptions, LearnedPriors
from spectramind_nb.uncertainty.gaussian import combine_fits
from spectramind_nb.uncertainty.sigma_factors import Fits, take_planets

PRIOR = prior_of_weights(network_file("laptop"))
PLANETS = [draw_planet(planet_stream(77, "train", number)) for number in range(16)]
TRUTH = np.array([planet.spectrum for planet in PLANETS])
STARS = [planet.system.row() for planet in PLANETS]
LEVEL = 1e-9 * np.ones((N_BINS, N_BINS))  # an error that all bins share


def smoothed_fits(width: float, error: float = 7e-5) -> Fits:
    """Fits of smoothed light curves, as the simulator smooths them: by the light of each planet's star."""
    depth = TRUTH.copy()
    if width:
        depth[:, 1:] = [smoothing_of_bins(p, width) @ p.spectrum[1:] for p in PLANETS]
    covariance = np.tile(error**2 * np.eye(N_BINS) + LEVEL, (len(depth), 1, 1))
    noise = np.random.default_rng(5).multivariate_normal(np.zeros(N_BINS), covariance[0], len(depth))
    quality = pd.DataFrame(index=range(len(depth)))
    return Fits(np.arange(len(depth)), depth + noise, covariance, pd.DataFrame(STARS), quality)


def evidence(fits: Fits) -> list[np.ndarray]:
    return [width_evidence(PRIOR, *planet) for planet in zip(fits.depth, fits.covariance, STARS, strict=True)]


def test_sharp_depths_are_those_that_were_smoothed() -> None:
    smoothed = TRUTH @ bin_smoothing(1.0).T
    depth, covariance = sharpen(smoothed, 1e-10 * np.eye(N_BINS), 1.0)
    assert np.allclose(depth, TRUTH, rtol=0, atol=1e-9)
    assert np.allclose(bin_smoothing(1.0) @ covariance @ bin_smoothing(1.0).T, 1e-10 * np.eye(N_BINS), atol=1e-16)
    same = sharpen(smoothed, LEVEL, 0.0)
    assert same[0] is smoothed and same[1] is LEVEL


def test_levels_and_fgs1_are_not_changed() -> None:
    depth, covariance = sharpen(np.full(N_BINS, 0.01), LEVEL, 1.2)
    assert np.allclose(depth, 0.01, rtol=1e-9) and np.allclose(covariance, LEVEL, rtol=1e-6)
    spike = np.zeros(N_BINS)
    spike[0] = 1e-3
    assert np.array_equal(sharpen(spike, LEVEL, 1.2)[0], spike)


@pytest.mark.parametrize("width", [0.0, 0.4, 1.0])
def test_the_width_is_learned_without_labels(width: float) -> None:
    found = evidence(smoothed_fits(width))
    assert learn_line_shape(found) == pytest.approx(width, abs=0.21 if width else 0.0)
    worst = np.where(np.array(WIDTHS) == width, -1e6, 0.0)  # a planet of which something else is wrong
    assert learn_line_shape([*found, worst]) == learn_line_shape(found)
    assert learn_line_shape([worst] * 2) != width and MOST_NATS < 1e6


def test_predictions_of_smoothed_light_curves_gain_by_the_width() -> None:
    def errors(fits: Fits) -> tuple[float, float]:
        found = combine_fits(PRIOR, fits)
        shape = (found.mean - TRUTH)[:, 1:]
        shape = shape - shape.mean(axis=1, keepdims=True)
        return float(np.sqrt((shape**2).mean())), float(np.sqrt((shape**2 / found.shape_variance).mean()))

    fits = smoothed_fits(1.0)
    before, after = errors(fits), errors(replace(fits, line_shape=np.full(len(TRUTH), 1.0)))
    assert after[0] < 0.85 * before[0]
    assert before[1] > 1.15 > after[1] > 0.8


def test_each_planet_may_have_a_width_of_its_own() -> None:
    fits = smoothed_fits(1.0)
    mixed = replace(fits, line_shape=np.where(np.arange(len(TRUTH)) < 8, 1.0, 0.0))
    found = combine_fits(PRIOR, mixed)
    plain, sharp = combine_fits(PRIOR, fits), combine_fits(PRIOR, replace(fits, line_shape=np.ones(len(TRUTH))))
    assert np.allclose(found.mean[:8], sharp.mean[:8]) and np.allclose(found.mean[8:], plain.mean[8:])
    some = take_planets(mixed, np.arange(len(TRUTH)) >= 8)
    assert some.line_shape is not None and not some.line_shape.any()


def test_evidence_alone_is_that_of_the_posterior() -> None:
    fits = smoothed_fits(0.0)
    whole = combine(PRIOR, fits.depth[2], fits.covariance[2], STARS[2])
    assert log_evidence_of(PRIOR, fits.depth[2], fits.covariance[2], STARS[2]) == pytest.approx(whole.log_evidence)


def test_options_of_earlier_runs_have_no_width() -> None:
    limb = ((0.1, 0.0, 0.1),) * 8
    learned = LearnedPriors(10, 0.0, 0.01, 0.1, limb, (1.0,), (1.0,), (1.0,), (1.0,), (0.1, 0.1), 0.6)
    record = asdict(replace(FitOptions(), learned=learned))
    assert FitOptions.from_record(record) == replace(FitOptions(), learned=learned)
    del record["learned"]["line_shape"]
    found = FitOptions.from_record(record).learned
    assert found is not None and found.line_shape == 0.0
