"""What is learned from labels: the prior and its posterior, the factors on sigma, the temperature, and the score."""

from dataclasses import replace

import numpy as np
import pytest

from spectramind_nb.lib.contracts import ContractError
from spectramind_nb.lib.instrument import N_BINS
from spectramind_nb.lib.metric import DEFAULT_REFERENCE, Reference, coverage, reference_of, score
from spectramind_nb.lib.simulator_atmosphere import reference_spectrum
from spectramind_nb.lib.simulator_sky import draw_world, planet_stream
from spectramind_nb.lib.spectral_prior import SpectralPrior, combine, learn_prior, read_prior, write_prior
from spectramind_nb.training import (
    Fits,
    Predicted,
    SigmaFactors,
    cross_fitted_sigma,
    learn_factors,
    out_of_fold_predictions,
    parts_of,
    predict_gaussian,
    sigma_of,
)
from spectramind_nb.uncertainty import temperature, temperature_interval

SPECTRA = np.array([draw_world(planet_stream(5, "train", k), model=reference_spectrum).spectrum for k in range(150)])
NOISE = np.diag(np.concatenate([[1e-4], np.linspace(3e-4, 1.5e-3, N_BINS - 1)]) ** 2) + 6e-5**2


@pytest.fixture(scope="module")
def prior() -> SpectralPrior:
    return learn_prior(SPECTRA[:100])


def noisy(spectra: np.ndarray, seed: int) -> Fits:
    """What a transit fit would make of spectra: correlated noise, and the true covariance."""
    noise = np.random.default_rng(seed).normal(size=spectra.shape) @ np.linalg.cholesky(NOISE).T
    return Fits(np.arange(len(spectra)) * 7, spectra + noise, np.tile(NOISE, (len(spectra), 1, 1)))


# --- The prior ---------------------------------------------------------------------------------------------------


def by_precision(
    prior: SpectralPrior, depth: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Posterior mean, covariance and log evidence in the textbook's form, amplitude by amplitude."""
    unit = 1e-4  # keeps the inverses well scaled
    offset, noise = (depth - prior.mean_depth) / unit, covariance / unit**2
    means, covariances, logs = [], [], []
    for amplitude, weight in zip(prior.amplitudes, prior.amplitude_weights, strict=True):
        before = prior.covariance(amplitude) / unit**2
        precision = np.linalg.inv(before) + np.linalg.inv(noise)
        covariances.append(np.linalg.inv(precision))
        means.append(covariances[-1] @ np.linalg.solve(noise, offset))
        total = before + noise
        logs.append(np.log(weight) - 0.5 * (np.linalg.slogdet(total)[1] + offset @ np.linalg.solve(total, offset)))
    weights = np.exp(logs - np.logaddexp.reduce(logs))
    mean = weights @ np.array(means)
    spread = np.array(means) - mean
    mixed = np.tensordot(weights, np.array(covariances), 1) + (spread.T * weights) @ spread
    return prior.mean_depth + unit * mean, unit**2 * mixed, float(np.logaddexp.reduce(logs))


def test_combination_is_that_of_the_dense_formula(prior: SpectralPrior) -> None:
    few = replace(
        prior, amplitudes=prior.amplitudes[[4, 7, 10]], amplitude_weights=np.array([0.2, 0.5, 0.3])
    )  # a small amplitude makes the textbook's inverse of the prior inaccurate
    for depth in noisy(SPECTRA[100:102], 1).depth:
        found = combine(few, depth, NOISE)
        mean, covariance, _ = by_precision(few, depth, NOISE)
        assert np.allclose(found.mean, mean, rtol=0, atol=1e-9)
        assert np.allclose(found.covariance, covariance, rtol=1e-4, atol=1e-4 * np.diag(covariance).min())


def test_evidence_is_that_of_the_dense_formula(prior: SpectralPrior) -> None:
    first, second = noisy(SPECTRA[100:102], 2).depth
    for k in (4, 10):
        alone = replace(prior, amplitudes=prior.amplitudes[[k]], amplitude_weights=np.ones(1))
        ours = combine(alone, first, NOISE).log_evidence - combine(alone, second, NOISE).log_evidence
        theirs = by_precision(alone, first, NOISE)[2] - by_precision(alone, second, NOISE)[2]
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)


def test_perfect_data_is_kept_and_useless_data_gives_the_prior(prior: SpectralPrior) -> None:
    truth = SPECTRA[120]
    sharp = combine(prior, truth, np.eye(N_BINS) * 1e-9**2)
    assert np.allclose(sharp.mean, truth, atol=1e-8) and np.sqrt(np.diag(sharp.covariance)).max() < 1.1e-9
    blind = combine(prior, truth, np.eye(N_BINS) * 10.0**2)
    assert np.allclose(blind.mean, prior.mean_depth, atol=1e-4)
    assert np.sqrt(blind.covariance[5, 5]) == pytest.approx(prior.std_depth, rel=0.02)


def test_posterior_of_held_out_spectra_is_honest_and_better(prior: SpectralPrior) -> None:
    held_out = SPECTRA[100:]
    fits = noisy(held_out, 3)
    predicted = predict_gaussian(prior, fits)
    pull = (held_out - predicted.mu) / sigma_of(predicted, SigmaFactors())
    assert 0.85 < np.sqrt(np.mean(pull[:, 1:] ** 2)) < 1.15
    assert 0.7 < np.sqrt(np.mean(pull[:, 0] ** 2)) < 1.3
    before, after = (np.median(np.abs(mu - held_out)[:, 1:]) for mu in (fits.depth, predicted.mu))
    assert after < 0.25 * before


def test_too_few_spectra_are_refused() -> None:
    learn_prior(SPECTRA[:10])
    with pytest.raises(ContractError, match=r"train\.csv: planet_id: 9 labelled planets are too few.*Fix: .*--weights"):
        learn_prior(SPECTRA[:9])


def test_a_prior_comes_back_from_its_file(prior: SpectralPrior, tmp_path) -> None:
    found = read_prior(write_prior(tmp_path / "prior.npz", prior))
    assert all(np.array_equal(value, getattr(found, name)) for name, value in vars(prior).items())
    path = tmp_path / "prior.npz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ContractError, match=r"prior\.npz: .*\. Fix: "):
        read_prior(path)


# --- Factors and folds -------------------------------------------------------------------------------------------


def wishart(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random covariances with all three parts, (count, 283, 283)."""
    shared = rng.normal(size=(count, N_BINS, 3)) * 1e-4 + rng.uniform(1e-4, 3e-4, (count, 1, 1))
    return shared @ shared.transpose(0, 2, 1) + np.eye(N_BINS) * 2e-4**2


def test_without_factors_sigma_is_the_covariances() -> None:
    covariance = wishart(np.random.default_rng(0), 5)
    predicted = parts_of(np.arange(5), np.zeros((5, N_BINS)), covariance)
    diagonal = np.diagonal(covariance, axis1=1, axis2=2)
    assert np.allclose(sigma_of(predicted, SigmaFactors()) ** 2, diagonal, rtol=1e-10)
    tripled = sigma_of(predicted, SigmaFactors(3, 3, 3))
    assert np.allclose(tripled**2, 9 * diagonal, rtol=1e-10)
    louder = sigma_of(predicted, SigmaFactors(fgs1=2.0))
    assert np.allclose(louder[:, 0] ** 2, 4 * diagonal[:, 0]) and np.allclose(louder[:, 1:] ** 2, diagonal[:, 1:])


PLANTED = SigmaFactors(fgs1=1.6, airs_mean=0.6, airs_shape=2.2)


def miscalibrated(count: int, planted: SigmaFactors) -> tuple[np.ndarray, Predicted]:
    """True spectra, and predictions whose errors are larger than they say by `planted`, part by part."""
    rng = np.random.default_rng(1)
    truth = SPECTRA[rng.integers(len(SPECTRA), size=count)]
    fgs1, mean, shape = rng.uniform(5e-5, 2e-4, (3, count))
    error = rng.normal(size=(count, N_BINS)) * planted.airs_shape * shape[:, None]
    error[:, 1:] += rng.normal(size=(count, 1)) * planted.airs_mean * 3 * mean[:, None]
    error[:, 0] = rng.normal(size=count) * planted.fgs1 * fgs1
    airs = np.ones((count, N_BINS - 1))
    parts = (fgs1**2, (3 * mean) ** 2, airs * shape[:, None] ** 2, 0 * airs)
    return truth, Predicted(np.arange(count), truth + error, *parts)


def test_factors_find_a_planted_miscalibration() -> None:
    truth, predicted = miscalibrated(600, PLANTED)
    found = learn_factors(truth, predicted, reference_of(truth), 0.02)
    assert found.fgs1 == pytest.approx(PLANTED.fgs1, rel=0.1)
    assert found.airs_mean == pytest.approx(PLANTED.airs_mean, rel=0.15)
    assert found.airs_shape == pytest.approx(PLANTED.airs_shape, rel=0.05)
    best = score(truth, predicted.mu, sigma_of(predicted, found), reference_of(truth))
    assert best > score(truth, predicted.mu, sigma_of(predicted, SigmaFactors()), reference_of(truth)) + 0.01


def test_few_planets_hold_the_factors_near_one() -> None:
    truth, predicted = miscalibrated(12, PLANTED)
    free, bound = (learn_factors(truth, predicted, DEFAULT_REFERENCE, strength) for strength in (0.0, 100.0))
    assert np.abs(np.log(list(vars(bound).values()))).max() < 0.1 < np.abs(np.log(list(vars(free).values()))).max()


def test_a_planets_own_label_does_not_reach_its_prediction() -> None:
    truth, fits = SPECTRA[:18], noisy(SPECTRA[:18], 4)
    folds = np.arange(18) % 3
    changed = truth.copy()
    changed[7] *= np.linspace(1.5, 0.5, N_BINS)
    before, after = (out_of_fold_predictions(fits, labels, folds, 5) for labels in (truth, changed))
    assert np.array_equal(before.planet, fits.planet) and np.array_equal(after.planet, fits.planet)
    with_7 = folds == folds[7]
    for name, array in vars(before).items():
        assert np.array_equal(array[with_7], getattr(after, name)[with_7]), name
    assert (before.mu[~with_7] != after.mu[~with_7]).any(axis=1).all()
    sigmas = [cross_fitted_sigma(labels, before, folds, DEFAULT_REFERENCE, 0.02) for labels in (truth, changed)]
    assert np.array_equal(sigmas[0][with_7], sigmas[1][with_7])
    assert (sigmas[0][~with_7] != sigmas[1][~with_7]).any()


@pytest.mark.parametrize("planted", [0.6, 1.0, 2.5])
def test_temperature_finds_a_planted_one(planted: float) -> None:
    z = planted * np.random.default_rng(2).normal(size=(800, N_BINS))
    assert temperature(z) == pytest.approx(planted, rel=0.03)
    low, high = temperature_interval(z)
    assert low < planted < high and high - low < 0.1 * planted


# --- The score ---------------------------------------------------------------------------------------------------


def by_hand(truth: np.ndarray, mu: np.ndarray, sigma: np.ndarray, reference: Reference) -> float:
    """The challenge's score, as its description reads."""

    def log_density(x: float, mean: float, std: float) -> float:
        std = max(std, 1e-15)
        return -0.5 * (np.log(2 * np.pi) + np.log(std**2) + ((x - mean) / std) ** 2)

    total = weights = 0.0
    for i in range(len(truth)):
        for j in range(N_BINS):
            weight, sigma_true = (57.846, 1e-6) if j == 0 else (1.0, 1e-5)
            y = truth[i, j]
            floor = log_density(y, reference.mean, reference.std)
            ideal = log_density(y, y, sigma_true)
            total += weight * (log_density(y, mu[i, j], sigma[i, j]) - floor) / (ideal - floor)
            weights += weight
    return min(max(total / weights, 0.0), 1.0)


@pytest.mark.parametrize("size", [2e-5, 3e-4, 5e-3])
def test_score_is_that_of_a_plain_loop(size: float) -> None:
    rng, truth = np.random.default_rng(3), SPECTRA[:4]
    sigma = size * rng.lognormal(0, 0.3, truth.shape)
    mu = truth + sigma * rng.normal(size=truth.shape)
    for reference in (DEFAULT_REFERENCE, reference_of(SPECTRA)):
        found = score(truth, mu, sigma, reference)
        assert 0 < found < 1 and found == pytest.approx(by_hand(truth, mu, sigma, reference), rel=1e-9)


@pytest.mark.parametrize(
    ("ppm", "known"), [(30, 0.749), (50, 0.682), (100, 0.591), (200, 0.500), (500, 0.379), (1000, 0.288)]
)
def test_score_of_perfect_error_bars(ppm: float, known: float) -> None:
    rng, some = np.random.default_rng(1), 5000
    common, deep = rng.lognormal(np.log(0.0104), 0.3, some), rng.lognormal(np.log(0.027), 0.5, some)
    planets = np.where(rng.random(some) < 0.8, common, deep)
    depths = np.repeat(planets[(planets > 0.0037) & (planets < 0.083), None], N_BINS, axis=1)  # as the challenge's
    sign = np.where(np.arange(N_BINS) % 2, 1, -1)  # an error of one sigma everywhere: the mean of z^2 is 1
    sigma = np.full(depths.shape, ppm * 1e-6)
    assert score(depths, depths + sign * sigma, sigma) == pytest.approx(known, abs=0.003)


def test_score_is_clipped_once_at_the_end_and_sigma_has_a_floor() -> None:
    truth = SPECTRA[:2]
    assert score(truth, truth + 0.01, np.full(truth.shape, 1e-6)) == 0
    assert score(truth, truth, np.full(truth.shape, 1e-9)) == 1
    one_bad = truth.copy()
    one_bad[0, 5] += 1.0
    narrow = np.full(truth.shape, 1e-4)
    assert score(truth, one_bad, narrow) == 0 < score(truth, truth, narrow)  # no bin is clipped on its own
    reference, zero = Reference(0.0147, 0.0107), np.zeros(truth.shape)
    assert score(truth, truth, zero, reference) == by_hand(truth, truth, zero, reference) == 1


def test_coverage_counts_what_is_inside() -> None:
    z = np.random.default_rng(5).normal(size=(2000, N_BINS))
    for level in (0.5, 0.68, 0.9):
        assert coverage(z, np.zeros_like(z), np.ones_like(z), level) == pytest.approx(level, abs=0.01)
