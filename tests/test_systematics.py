"""What the instrument adds: found where it is, not found where it isn't."""

import numpy as np
import pytest

from spectramind_nb.lib.systematics import (
    drift_priors,
    find_step,
    noise_colour,
    noise_directions,
    not_negative,
    own_drift_covariance,
)

STEPS = 400
CURVES = np.vander(np.linspace(-1, 1, STEPS), 6)


def residual(series: np.ndarray) -> np.ndarray:
    """What a fit of CURVES leaves."""
    return series - CURVES @ np.linalg.lstsq(CURVES, series, rcond=None)[0]


def test_priors_of_the_drift_fall_off() -> None:
    family = drift_priors((1e-4, 2e-4), (0.5,), (0.3, 0.6))
    assert family.shape == (4, 8, 7) and (np.diff(family, axis=1) < 0).all() and (np.diff(family, axis=2) < 0).all()
    assert drift_priors((1e-4,), (0.5, 1.0), ()).shape == (2, 8, 1)


def test_jumps_are_believed_where_they_are() -> None:
    rng = np.random.default_rng(0)
    quiet = [find_step(residual(rng.normal(size=STEPS)), CURVES, 1.0).any() for _ in range(200)]
    assert np.mean(quiet) < 0.05
    for place in (100, 170, 320):
        jump = find_step(residual(rng.normal(size=STEPS) + 2.5 * (np.arange(STEPS) >= place)), CURVES, 1.0)
        assert jump[-1] == pytest.approx(2.5, abs=0.8) and abs(int(np.argmax(jump != 0)) - place) <= 6


def test_colours_are_told_apart() -> None:
    rng = np.random.default_rng(1)
    white = [noise_colour(rng.normal(size=STEPS), 1.0) for _ in range(40)]
    assert np.mean([colour.red for colour in white]) < 0.05 and np.mean([c.white for c in white]) < 1.1
    flicker = [noise_colour(1.5 * rng.normal(size=STEPS), 1.0).white for _ in range(40)]
    assert np.mean(flicker) == pytest.approx(1.5**2, rel=0.1)
    reds = []
    for _ in range(40):
        walk = np.zeros(STEPS)
        for k in range(1, STEPS):
            walk[k] = 0.9 * walk[k - 1] + np.sqrt(1 - 0.9**2) * rng.normal()
        reds.append(noise_colour(rng.normal(size=STEPS) + 1.5 * walk, 1.0))
    tails = [colour.red * (1 - colour.memory**2) for colour in reds]  # far above the frequency where it flattens
    assert np.median(tails) == pytest.approx(1.5**2 * (1 - 0.9**2), rel=0.3)
    assert np.median([colour.red for colour in reds]) > 20 * np.median([colour.red for colour in white])


def test_noise_directions_hold_all_that_noise_does_to_a_fit() -> None:
    covariance = noise_colour(np.random.default_rng(2).normal(size=STEPS) * 2, 1.0).covariance(STEPS, 1.0)
    directions, std = noise_directions(CURVES, covariance, 10)
    found = (directions * std**2) @ directions.T
    assert np.allclose(CURVES.T @ found @ CURVES, CURVES.T @ covariance @ CURVES)
    assert (std[6:] == 0).all() and (np.diff(std) <= 0).all()


@pytest.mark.parametrize("heavy", [False, True])
def test_own_drift_is_as_large_as_it_is(heavy: bool) -> None:
    rng, true = np.random.default_rng(3), np.array([[4.0, 1.5], [1.5, 1.0]])
    scale = np.where(rng.random(600) < 0.1, 10.0, 1.0) if heavy else np.ones(600)
    drifts = rng.multivariate_normal(np.zeros(2), true, 600) * scale[:, None]
    ones = np.tile(np.eye(2), (600, 1, 1))
    noisy = drifts + rng.normal(size=drifts.shape)
    found = own_drift_covariance(ones, noisy, np.zeros(2), ones, np.arange(2), steps=60)
    assert np.median(found[scale == 1, 0, 0]) == pytest.approx(4.0, rel=0.35)
    assert not heavy or np.median(found[scale > 1, 0, 0]) > 5 * np.median(found[scale == 1, 0, 0])


@pytest.mark.parametrize("mean", [-2.0, 0.1, 3.0])
def test_what_is_not_negative(mean: float) -> None:
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    draws = np.random.default_rng(4).multivariate_normal([mean, 1.0], covariance, 1_000_000)
    kept = draws[draws[:, 0] >= 0]
    ours = not_negative(np.array([mean, 1.0]), covariance, 0)
    assert np.allclose(ours[0], kept.mean(axis=0), atol=0.03) and np.allclose(ours[1], np.cov(kept.T), atol=0.05)
