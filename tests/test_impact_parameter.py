"""The prior of the impact parameter, against draws."""

import numpy as np
import pytest

from spectramind_nb.transits.impact_parameter import impact_posterior, with_impact_prior

CASES = {  # mean and standard deviation of b by the table, what is seen of its square, and the error of that
    "edge-on": (0.0, 0.1, 0.01, 0.01),
    "near edge-on": (0.05, 0.07, 0.0, 0.02),
    "seen at the other side": (0.1, 0.1, 0.04, 0.02),
    "little is seen": (0.2, 0.1, 0.1, 0.5),
    "far from edge-on": (0.6, 0.05, 0.38, 0.02),
    "the table is precise": (0.3, 0.005, 0.1, 0.02),
    "far from the table": (0.1, 0.08, 0.16, 0.03),
    "below zero": (0.05, 0.1, -0.04, 0.02),
}


def gaussian_of(middle: float, spread: float, seen: float, error: float) -> tuple[tuple[float, float], ...]:
    """Posterior and prior of the square, both Gaussian, as a fit has them."""
    prior = middle**2 + spread**2, 4 * middle**2 * spread**2 + 2 * spread**4
    precision = 1 / prior[1] + 1 / error**2
    return ((prior[0] / prior[1] + seen / error**2) / precision, 1 / precision), prior


@pytest.mark.parametrize("case", CASES)
def test_the_grid_agrees_with_draws(case: str) -> None:
    middle, spread, seen, error = CASES[case]
    draws = np.abs(middle + spread * np.random.default_rng(1).normal(size=2_000_000))
    weight = np.exp(-0.5 * ((draws**2 - seen) / error) ** 2)
    gaussian, prior = gaussian_of(middle, spread, seen, error)
    b, probability = impact_posterior(gaussian, prior, (middle, spread))
    for power in (1, 2, 4):
        assert probability @ b**power == pytest.approx(np.average(draws**power, weights=weight), rel=0.02)
    assert probability.sum() == pytest.approx(1) and (np.diff(b) > 0).all()


def test_the_sign_of_the_impact_parameter_does_not_matter() -> None:
    gaussian, prior = gaussian_of(0.1, 0.1, 0.04, 0.02)
    one, other = (impact_posterior(gaussian, prior, (sign * 0.1, 0.1)) for sign in (1, -1))
    assert np.array_equal(one[0], other[0]) and np.allclose(one[1], other[1])


def test_other_parameters_follow() -> None:
    """Against draws of both parameters: a Gaussian where b^2 has one, weighed by the ratio of the priors."""
    rng, table = np.random.default_rng(2), (0.05, 0.1)
    gaussian, prior = gaussian_of(*table, 0.02, 0.015)
    covariance = np.array([[gaussian[1], 0.6 * gaussian[1] ** 0.5], [0.6 * gaussian[1] ** 0.5, 1.0]])
    draws = rng.multivariate_normal([gaussian[0], 1.0], covariance, 2_000_000)
    draws = draws[draws[:, 0] > 0]
    b = np.sqrt(draws[:, 0])
    folded = sum(np.exp(-0.5 * ((b - sign * table[0]) / table[1]) ** 2) for sign in (1, -1)) / b
    weight = folded / np.exp(-0.5 * (draws[:, 0] - prior[0]) ** 2 / prior[1])
    mean, narrower = with_impact_prior(np.array([gaussian[0], 1.0]), covariance, 0, prior, table)
    assert np.allclose(mean, np.average(draws, axis=0, weights=weight), rtol=0.02)
    assert np.allclose(narrower, np.cov(draws.T, aweights=weight), rtol=0.04)


@pytest.mark.parametrize(("variance", "prior", "spread"), [(0.0, 0.01, 0.1), (0.01, 0.0, 0.1), (0.01, 0.01, 0.0)])
def test_a_fixed_impact_parameter_changes_nothing(variance: float, prior: float, spread: float) -> None:
    mean, covariance = np.array([0.1, 2.0]), np.array([[variance, 0.0], [0.0, 1.0]])
    found = with_impact_prior(mean, covariance, 0, (0.1, prior), (0.3, spread))
    assert found[0] is mean and found[1] is covariance
