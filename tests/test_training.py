"""What is learned from labels: the prior and its posterior, the factors on sigma, the temperature, and the score."""

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from spectramind_nb.core.errors import ContractError
from spectramind_nb.core.files import run_folder
from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.core.metric import BIN_WEIGHTS, DEFAULT_REFERENCE, Reference, coverage, reference_of, score, summary
from spectramind_nb.pipeline.learned import Learned, read_learned
from spectramind_nb.pipeline.predictors import cross_fitted_sigma, out_of_fold_predictions
from spectramind_nb.prior import learning
from spectramind_nb.prior.learning import learn_prior, normalised_shapes, shapes_of_any_chemistry
from spectramind_nb.prior.posterior import combine, combine_many
from spectramind_nb.prior.spectral_prior import (
    AmplitudeLaw,
    SpectralPrior,
    groups_of,
    log_scale,
    read_prior,
    write_prior,
)
from spectramind_nb.simulator.atmosphere import reference_spectrum
from spectramind_nb.simulator.population import draw_any_planet_spectrum, draw_planet_spectrum, planet_stream
from spectramind_nb.simulator.world_parts import PlanetKinds
from spectramind_nb.uncertainty.calibration import temperature, temperature_interval
from spectramind_nb.uncertainty.gaussian import predict_gaussian
from spectramind_nb.uncertainty.sigma_factors import (
    Fits,
    Measure,
    Predicted,
    SigmaFactors,
    errors_of,
    learn_factors,
    likelihoods_of_parts,
    log_factors,
    parts_of,
    planet_scores,
    sigma_of,
    take_planets,
    variance_of,
)

PLANETS = [draw_planet_spectrum(planet_stream(5, "train", k), model=reference_spectrum) for k in range(150)]
SPECTRA = np.array([planet.spectrum for planet in PLANETS])
STARS = pd.DataFrame([planet.system.row() for planet in PLANETS])
NOISE = np.diag(np.concatenate([[1e-4], np.linspace(3e-4, 1.5e-3, N_BINS - 1)]) ** 2) + 6e-5**2


@pytest.fixture(scope="module")
def prior() -> SpectralPrior:
    return learn_prior(SPECTRA[:100], STARS[:100], kinds=2, chemistry=0.0, unlike=0.0)


def noisy(spectra: np.ndarray, seed: int, stars: pd.DataFrame | None = None) -> Fits:
    """What a transit fit would make of spectra: correlated noise, and the true covariance."""
    rng, count = np.random.default_rng(seed), len(spectra)
    depth = spectra + rng.normal(size=spectra.shape) @ np.linalg.cholesky(NOISE).T
    stars = pd.DataFrame(index=range(count)) if stars is None else stars.reset_index(drop=True)
    quality = pd.DataFrame({"impact": rng.uniform(size=count), "steps": 5.0})
    return Fits(np.arange(count) * 7, depth, np.tile(NOISE, (count, 1, 1)), stars, quality)


def law(prior: SpectralPrior, amplitudes: np.ndarray, weights: np.ndarray) -> SpectralPrior:
    """The prior with these amplitudes (A,) of these weights (K, A) whatever the star."""
    other = AmplitudeLaw(0.0, 0.0, np.zeros(2), np.log(amplitudes), weights)
    return replace(prior, with_star=other, without_star=other)


# --- The prior ---------------------------------------------------------------------------------------------------


def by_precision(
    prior: SpectralPrior, depth: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Posterior mean, covariance and log evidence in the textbook's form, kind by kind and amplitude by amplitude."""
    unit = 1e-4  # keeps the inverses well scaled
    noise = covariance / unit**2
    means, covariances, logs = [], [], []
    for kind, amplitude in np.ndindex(prior.without_star.weights.shape):
        weight = prior.shares[kind] * prior.without_star.weights[kind, amplitude]
        centre, before = prior.gaussian(kind, float(prior.without_star.amplitudes(0.0)[amplitude]))
        before, offset = before / unit**2 + 1e-10 * np.eye(N_BINS), (depth - centre) / unit
        precision = np.linalg.inv(before) + np.linalg.inv(noise)
        covariances.append(np.linalg.inv(precision))
        means.append(centre + unit * covariances[-1] @ np.linalg.solve(noise, offset))
        total = before + noise
        logs.append(np.log(weight) - 0.5 * (np.linalg.slogdet(total)[1] + offset @ np.linalg.solve(total, offset)))
    weights = np.exp(logs - np.logaddexp.reduce(logs))
    mean = weights @ np.array(means)
    spread = np.array(means) - mean
    mixed = unit**2 * np.tensordot(weights, np.array(covariances), 1) + (spread.T * weights) @ spread
    return mean, mixed, float(np.logaddexp.reduce(logs))


def test_combination_is_that_of_the_dense_formula(prior: SpectralPrior) -> None:
    assert len(prior.shares) == 2
    few = law(prior, np.array([2e-5, 6e-5, 2e-4]), np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]))
    for depth in noisy(SPECTRA[100:104], 1).depth:
        found = combine(few, depth, NOISE)
        mean, covariance, _ = by_precision(few, depth, NOISE)
        assert np.allclose(found.mean, mean, rtol=0, atol=2e-9)
        assert np.allclose(found.covariance, covariance, rtol=1e-3, atol=1e-3 * np.diag(covariance).min())


def test_evidence_is_that_of_the_dense_formula(prior: SpectralPrior) -> None:
    first, second = noisy(SPECTRA[100:102], 2).depth
    for amplitude in (3e-5, 2e-4):
        alone = law(prior, np.array([amplitude]), np.ones((2, 1)))
        ours = combine(alone, first, NOISE).log_evidence - combine(alone, second, NOISE).log_evidence
        theirs = by_precision(alone, first, NOISE)[2] - by_precision(alone, second, NOISE)[2]
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)


def test_perfect_data_is_kept_and_useless_data_gives_the_prior(prior: SpectralPrior) -> None:
    truth = SPECTRA[120]
    sharp = combine(prior, truth, np.eye(N_BINS) * 1e-9**2)
    assert np.allclose(sharp.mean, truth, atol=1e-8) and np.sqrt(np.diag(sharp.covariance)).max() < 1.1e-9
    blind = combine(prior, truth, np.eye(N_BINS) * 10.0**2)
    amplitude = prior.without_star.weights @ prior.without_star.amplitudes(0.0)
    assert np.allclose(blind.mean, prior.mean_depth + (prior.shares * amplitude) @ prior.centres, atol=1e-6)
    assert np.sqrt(blind.covariance[5, 5]) == pytest.approx(prior.std_depth, rel=0.02)


def test_a_dead_bin_comes_from_the_prior_alone(prior: SpectralPrior) -> None:
    dead, covariance = 90, NOISE.copy()
    covariance[dead] = covariance[:, dead] = 0.0
    covariance[dead, dead] = 0.1**2  # the fit's own prior, see DEPTH_PRIOR
    (depth,) = noisy(SPECTRA[100:101], 1).depth
    found, whole = [], combine(prior, depth, NOISE)
    for value in (0.0, 0.0147, 0.2):
        depth[dead] = value
        found.append(combine(prior, depth, covariance))
    assert np.ptp([one.mean[dead] for one in found]) < 2e-6
    alive, sigma = (np.sqrt(one.covariance[dead, dead]) for one in (whole, found[1]))
    assert sigma > alive and abs(found[1].mean[dead] - SPECTRA[100, dead]) < 4 * sigma


def rms_standardised_residuals(prior: SpectralPrior, truth: np.ndarray, fits: Fits) -> tuple[float, float]:
    """Of FGS1 and of AIRS."""
    predicted = predict_gaussian(prior, fits)
    pull = (truth - predicted.mu) / sigma_of(predicted, SigmaFactors())
    return float(np.sqrt(np.mean(pull[:, 0] ** 2))), float(np.sqrt(np.mean(pull[:, 1:] ** 2)))


@pytest.mark.parametrize("with_star", [True, False])
@pytest.mark.slow
def test_posterior_of_spectra_drawn_from_the_prior_is_exact(prior: SpectralPrior, with_star: bool) -> None:
    rng, stars = np.random.default_rng(8), STARS if with_star else pd.DataFrame(index=STARS.index)
    drawn = []
    for row in stars.index:
        kind, depth = rng.choice(2, p=prior.shares), SPECTRA[row, 1:].mean()
        known = prior.with_star if with_star else prior.without_star
        scale = float(log_scale(stars.iloc[row], depth)) if with_star else 0.0
        mean, covariance = prior.gaussian(kind, rng.choice(known.amplitudes(scale), p=known.weights[kind]))
        drawn.append(rng.multivariate_normal(mean + depth - prior.mean_depth, covariance - prior.std_depth**2))
    fgs1, airs = rms_standardised_residuals(prior, np.array(drawn), noisy(np.array(drawn), 9, stars))
    assert 0.85 < fgs1 < 1.15 and 0.88 < airs < 1.12


def test_posterior_of_held_out_spectra_is_honest_and_better(prior: SpectralPrior) -> None:
    fits = noisy(SPECTRA[100:], 3, STARS[100:])
    fgs1, airs = rms_standardised_residuals(prior, SPECTRA[100:], fits)
    assert 0.7 < fgs1 < 1.3 and 0.85 < airs < 1.15
    mu = predict_gaussian(prior, fits).mu
    before, after = (np.median(np.abs(depth - SPECTRA[100:])[:, 1:]) for depth in (fits.depth, mu))
    assert after < 0.25 * before


@pytest.mark.parametrize(("count", "kinds"), [(10, 1), (30, 1), (300, 7), (6_000, 8)])
def test_a_prior_is_learned_from_any_number_of_spectra(count: int, kinds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MOST_SPECTRA", 2_000)  # of 6,000 these are drawn
    rng = np.random.default_rng(6)
    row = np.arange(count) % 100  # 6,000 spectra are variations of 100
    mean = SPECTRA[row].mean(axis=1, keepdims=True)
    spectra = mean + (SPECTRA[row] - mean) * np.exp(0.2 * rng.normal(size=(count, 1)))
    found = learn_prior(spectra, STARS.iloc[row])
    groups = groups_of(found).max() + 1  # known kinds, other chemistry, unlike all
    assert 3 <= groups <= kinds + 2 and found.shares.sum() == pytest.approx(1)
    fgs1, airs = rms_standardised_residuals(found, SPECTRA[100:], noisy(SPECTRA[100:], 3, STARS[100:]))
    assert 0.5 < fgs1 < 1.5 and 0.7 < airs < 1.5


def test_kinds_of_any_chemistry_are_normalised_shapes_and_count_as_one_group() -> None:
    broad = shapes_of_any_chemistry()
    count = len(broad["shares"])
    assert np.isclose(broad["shares"].sum(), 1) and broad["centres"].shape == (count, N_BINS)
    assert np.abs(broad["centres"][:, 1:].mean(axis=1)).max() < 1e-5
    spread = (broad["components"][:, 1:] ** 2).sum(axis=2) + broad["rest_variance"][:, None]
    square = broad["shares"] @ (broad["centres"][:, 1:] ** 2 + spread).mean(axis=1)
    assert 0.9 < square < 1.2, "shapes have an rms of 1, of which components and rest hold all"
    prior = learn_prior(SPECTRA[:100], STARS[:100], kinds=2)
    known = len(prior.shares) - count - 1
    assert groups_of(prior).tolist() == [*range(known), *[known] * count, known + 1]
    found = combine(prior, SPECTRA[100], 1e-10 * np.eye(N_BINS), STARS.iloc[100].to_dict())
    assert found.kinds.shape == (known + 2,) and np.isclose(found.kinds.sum(), 1)
    assert np.isclose(found.kinds[known:].sum(), found.unknown)
    assert groups_of(learn_prior(SPECTRA[:100], STARS[:100], kinds=2, chemistry=0.0)).tolist() == [*range(known + 1)]


def test_kinds_of_any_chemistry_explain_what_their_tool_draws() -> None:
    rng, left, broad = np.random.default_rng(3), [], shapes_of_any_chemistry()
    shapes = normalised_shapes(np.array([draw_any_planet_spectrum(rng).spectrum for _ in range(24)]))[2]
    for centre, components in zip(broad["centres"], broad["components"], strict=True):
        directions, size, _ = np.linalg.svd(components[:, :-1], full_matrices=False)
        known = directions[:, size > 1e-6]
        away = shapes - centre
        left.append((away - away @ known @ known.T)[:, 1:].std(axis=1))
    assert np.median(np.min(left, axis=0)) < 0.12, "of a normalised shape, which has an rms of 1"


def test_a_gas_that_no_training_planet_holds_is_found() -> None:
    foreign = [
        draw_planet_spectrum(
            planet_stream(3, "test", n), model=reference_spectrum, kinds=PlanetKinds(other_gases_share=1)
        )
        for n in range(24)
    ]  # with O3, HCN or both
    truth, stars = np.array([one.spectrum for one in foreign]), pd.DataFrame([one.system.row() for one in foreign])
    with_room = learn_prior(SPECTRA[:100], STARS[:100], kinds=2)
    plain = learn_prior(SPECTRA[:100], STARS[:100], kinds=2, chemistry=0.0)
    rough = noisy(truth, 4, stars)
    fits = replace(rough, depth=truth + (rough.depth - truth) / 3, covariance=rough.covariance / 9)
    errors = []
    for each in (with_room, plain):
        error = (predict_gaussian(each, fits).mu - truth)[:, 1:]
        errors.append((error - error.mean(axis=1, keepdims=True)).std())
    assert errors[0] < 0.6 * errors[1]


def test_the_star_predicts_the_amplitude_and_a_shuffled_table_nothing(prior: SpectralPrior) -> None:
    slope = prior.with_star.slope
    assert slope > 0.5 and np.ptp(prior.with_star.residuals) < np.ptp(prior.without_star.residuals)
    shuffled = [learn_prior(SPECTRA, STARS.sample(frac=1, random_state=k)).with_star.slope for k in range(6)]
    assert np.abs(shuffled).mean() < 0.1 * slope


def test_a_star_that_is_not_known_makes_the_prediction_less_sure_not_wrong(prior: SpectralPrior) -> None:
    depth, star = noisy(SPECTRA[100:101], 4).depth[0], STARS.iloc[100].to_dict()
    plain, known = combine(prior, depth, NOISE), combine(prior, depth, NOISE, star)
    assert known.log_evidence != plain.log_evidence
    for bad in ({}, star | {"Mp": np.nan}, star | {"Mp": 0.0}, {"Rs": 1.0}):
        assert np.array_equal(combine(prior, depth, NOISE, bad).mean, plain.mean)
    half = STARS[:100].copy()
    half.iloc[::2] = np.nan
    assert learn_prior(SPECTRA[:100], half).with_star.slope == pytest.approx(prior.with_star.slope, abs=0.5)
    unknown = learn_prior(SPECTRA[:100], STARS[:100] * np.nan)
    assert unknown.with_star.slope == 0 and np.array_equal(unknown.with_star.weights, unknown.without_star.weights)


def test_too_few_spectra_are_refused() -> None:
    learn_prior(SPECTRA[:10])
    with pytest.raises(ContractError, match=r"train\.csv: planet_id: 9 labelled planets are too few.*Fix: .*--weights"):
        learn_prior(SPECTRA[:9])


def test_a_prior_comes_back_from_its_file(prior: SpectralPrior, tmp_path) -> None:
    found = read_prior(write_prior(tmp_path / "prior.npz", prior))
    for name, value in vars(prior).items():
        mine, its = ((vars(v) if isinstance(v, AmplitudeLaw) else {name: v}) for v in (value, getattr(found, name)))
        assert all(np.array_equal(mine[key], its[key]) for key in mine), name
    path = tmp_path / "prior.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    for change in ({"shares": np.ones(3)}, {"centres": arrays["centres"] * np.nan}, {"what": np.ones(1)}):
        np.savez(path, **(arrays | change))
        with pytest.raises(ContractError, match=rf"prior\.npz: arrays: {next(iter(change))} .*\. Fix: "):
            read_prior(path)
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
    predicted = parts_of(noisy(SPECTRA[:5], 0), np.zeros((5, N_BINS)), covariance)
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
    parts = (fgs1**2, (3 * mean) ** 2, airs * shape[:, None] ** 2, 0 * airs, 0 * mean, pd.DataFrame(index=range(count)))
    return truth, Predicted(np.arange(count), truth + error, *parts)


def test_factors_find_a_planted_miscalibration() -> None:
    truth, predicted = miscalibrated(600, PLANTED)
    found = learn_factors(truth, predicted, reference_of(truth), 0.02)
    assert found.fgs1 == pytest.approx(PLANTED.fgs1, rel=0.1)
    assert found.airs_mean == pytest.approx(PLANTED.airs_mean, rel=0.15)
    assert found.airs_shape == pytest.approx(PLANTED.airs_shape, rel=0.05)
    best = score(truth, predicted.mu, sigma_of(predicted, found), reference_of(truth))
    assert best > score(truth, predicted.mu, sigma_of(predicted, SigmaFactors()), reference_of(truth)) + 0.01


def test_each_part_has_its_own_factor_where_the_bins_show_only_the_sum() -> None:
    planted = SigmaFactors(fgs1=1.0, airs_mean=1.5, airs_shape=0.8)
    rng, shape = np.random.default_rng(5), 6e-5
    truth, airs = SPECTRA[rng.integers(len(SPECTRA), size=600)], np.ones((600, N_BINS - 1))
    error = rng.normal(size=(600, N_BINS)) * planted.airs_shape * shape
    error[:, 1:] += rng.normal(size=(600, 1)) * planted.airs_mean * shape
    parts = (airs[:, 0] * shape**2, airs[:, 0] * shape**2, airs * shape**2, 0 * airs, 0 * airs[:, 0])
    predicted = Predicted(np.arange(600), truth + error, *parts, pd.DataFrame(index=range(600)))
    found = learn_factors(truth, predicted, reference_of(truth), 0.02)
    assert found.airs_mean == pytest.approx(planted.airs_mean, rel=0.08)
    assert found.airs_shape == pytest.approx(planted.airs_shape, rel=0.03)


def test_derivatives_of_the_parts_likelihoods_are_their_differences() -> None:
    truth, predicted = miscalibrated(4, PLANTED)
    errors, logs, step = errors_of(truth, predicted, DEFAULT_REFERENCE), np.full((4, 3), 0.2), 1e-5
    _, slopes = likelihoods_of_parts(errors, logs)
    for part, move in enumerate(step * np.eye(3)):
        up, down = (likelihoods_of_parts(errors, logs + sign * move)[0] for sign in (1, -1))
        assert np.allclose((up - down) / (2 * step), slopes[:, part], rtol=1e-5, atol=1e-7)


def test_few_planets_hold_the_factors_near_one() -> None:
    truth, predicted = miscalibrated(12, PLANTED)
    free, bound = (learn_factors(truth, predicted, DEFAULT_REFERENCE, strength) for strength in (0.0, 100.0))
    assert np.abs(log_factors(predicted, bound)).max() < 0.1 < np.abs(log_factors(predicted, free)).max()


def test_factors_narrow_only_error_bars_of_planets_that_are_known() -> None:
    planted = SigmaFactors(fgs1=0.6, airs_mean=1.0, airs_shape=2.2)
    truth, predicted = miscalibrated(600, planted)
    unknown = np.linspace(0, 1, 600)
    logs = log_factors(replace(predicted, unknown=unknown), planted)
    assert np.allclose(logs[:, 0], (1 - unknown) * np.log(0.6)) and np.allclose(logs[:, 2], np.log(2.2))
    strange = np.arange(600) % 2 == 1
    narrow, narrower = (sigma_of(replace(predicted, unknown=1.0 * strange), SigmaFactors(f, f, f)) for f in (0.9, 0.8))
    assert np.array_equal(narrow[strange], narrower[strange]) and (narrow[~strange] > narrower[~strange]).all()
    found = learn_factors(truth, replace(predicted, unknown=1.0 * strange), reference_of(truth), 0.02)
    of_known = learn_factors(truth[~strange], take_planets(predicted, ~strange), reference_of(truth), 0.02)
    assert found.fgs1 == pytest.approx(of_known.fgs1, rel=0.02) and found.fgs1 < 0.7
    assert found.airs_shape == pytest.approx(planted.airs_shape, rel=0.05)


def test_derivatives_of_the_score_are_its_differences() -> None:
    rng = np.random.default_rng(3)
    truth, mu = SPECTRA[:4], SPECTRA[:4] + 2e-4 * rng.normal(size=(4, N_BINS))
    predicted, logs, step = parts_of(noisy(truth, 3), mu, wishart(rng, 4)), 0.3 * rng.normal(size=(4, 3)), 1e-5
    scores, slopes = planet_scores(truth, predicted, logs, DEFAULT_REFERENCE)
    sigma = np.sqrt(variance_of(predicted, logs))
    assert scores.mean() == pytest.approx(by_hand(truth, predicted.mu, sigma, DEFAULT_REFERENCE))
    for part, move in enumerate(step * np.eye(3)):
        up, down = (planet_scores(truth, predicted, logs + sign * move, DEFAULT_REFERENCE)[0] for sign in (1, -1))
        assert np.allclose((up - down) / (2 * step), slopes[:, part], rtol=1e-5, atol=1e-7)


def following(count: int, slope: float) -> tuple[np.ndarray, Predicted]:
    """True spectra, and predictions whose errors are the larger, the larger their impact parameter; another
    measure has nothing to do with it, and a third is a constant.
    """
    truth, predicted = miscalibrated(count, SigmaFactors())
    rng = np.random.default_rng(7)
    quality = pd.DataFrame({"impact": rng.uniform(size=count), "other": rng.normal(size=count), "steps": 5.0})
    grown = np.exp(slope * (quality["impact"].to_numpy() - 0.5))[:, None]
    return truth, replace(predicted, mu=truth + (predicted.mu - truth) * grown, quality=quality)


@pytest.mark.slow
def test_factors_follow_a_measure_of_quality_where_it_tells() -> None:
    truth, predicted = following(400, 2.0)
    found = learn_factors(truth, predicted, reference_of(truth), 0.02)
    assert set(found.quality) == {"impact", "other"}
    impact, other = found.quality["impact"], found.quality["other"]
    for part in ("fgs1", "airs_mean"):
        assert getattr(impact, part) / impact.std == pytest.approx(2.0, rel=0.15) and abs(getattr(other, part)) < 0.1
    unaware = replace(predicted, quality=pd.DataFrame(index=range(400)))
    folds = np.arange(400) % 5
    follows, ignores = (
        score(truth, p.mu, cross_fitted_sigma(truth, p, folds, reference_of(truth), 0.02), reference_of(truth))
        for p in (predicted, unaware)
    )
    assert follows > ignores + 0.005
    strangers = sigma_of(replace(predicted, quality=predicted.quality[["other"]] * np.nan), found)
    assert np.allclose(strangers, sigma_of(predicted, replace(found, quality={})))  # what is not known is average


@pytest.mark.parametrize("count", [8, 40, 400])
def test_factors_follow_no_measure_that_tells_nothing(count: int) -> None:
    truth, predicted = following(count, 0.0)
    assert learn_factors(truth, predicted, reference_of(truth), 0.02).quality == {}


def test_what_was_learned_comes_back_from_its_file(tmp_path) -> None:
    factors = SigmaFactors(1.1, 0.9, 1.3, {"impact": Measure(0.4, 0.2, 0.1, -0.1, 0.3)})
    path = run_folder(tmp_path, "outputs/checkpoints") / "predictors.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"chosen": "gaussian", "factors": {"gaussian": asdict(factors), "neural": {"fgs1": 2.0}}}
    path.write_text(json.dumps(record))
    expected = {"gaussian": factors, "neural": SigmaFactors(fgs1=2.0)}
    assert read_learned(tmp_path) == Learned("gaussian", expected)
    wrong = (record | {"chosen": "flat"}, {"factors": {}}, record | {"factors": {"gaussian": {"fgs2": 1}}}, [])
    for bad in (*map(json.dumps, wrong), '{"chosen'):
        path.write_text(bad)
        with pytest.raises(ContractError, match=r"predictors\.json: file: .*Fix: "):
            read_learned(tmp_path)


@pytest.mark.slow
def test_a_planets_own_label_does_not_reach_its_prediction() -> None:
    truth, fits = SPECTRA[:18], noisy(SPECTRA[:18], 4, STARS[:18])
    folds = np.arange(18) % 3
    changed = truth.copy()
    changed[7] *= np.linspace(1.5, 0.5, N_BINS)
    before, after = (out_of_fold_predictions(fits, labels, folds, 5) for labels in (truth, changed))
    assert np.array_equal(before.planet, fits.planet) and np.array_equal(after.planet, fits.planet)
    with_7 = folds == folds[7]
    assert before.percentiles is None and after.percentiles is None
    for name, array in ((name, array) for name, array in vars(before).items() if array is not None):
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


def test_the_log_likelihood_is_that_of_a_plain_loop() -> None:
    rng, truth = np.random.default_rng(3), SPECTRA[:3]
    sigma = 1e-4 * rng.lognormal(0, 0.3, truth.shape)
    mu = truth + sigma * rng.normal(size=truth.shape)
    total, weight = 0.0, 0.0
    for planet in range(3):
        for number in range(N_BINS):
            one, own = sigma[planet, number], BIN_WEIGHTS[number]
            z = (truth[planet, number] - mu[planet, number]) / one
            total -= own * 0.5 * (np.log(2 * np.pi * one**2) + z**2)
            weight += own
    assert summary(truth, mu, sigma)["gll"] == pytest.approx(total / weight, rel=1e-9)


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


def test_many_spectra_at_once_are_as_one_by_one() -> None:
    prior, rng = learn_prior(SPECTRA, STARS), np.random.default_rng(5)
    depth = SPECTRA[:3] + rng.multivariate_normal(np.zeros(N_BINS), NOISE, 3)
    scale = float(log_scale(STARS.iloc[0], depth[0, 1:].mean()))
    found = combine_many(prior, depth, NOISE, scale)
    for n, own in enumerate(depth):
        star = STARS.iloc[0].to_dict()
        star["Rs"] *= np.exp(scale - log_scale(star, own[1:].mean()))
        one = combine(prior, own, NOISE, star)
        airs = one.covariance[1:, 1:]
        assert np.allclose(found.mean[n], one.mean, rtol=1e-7) and np.allclose(found.kinds[n], one.kinds, atol=1e-6)
        assert found.log_evidence[n] == pytest.approx(one.log_evidence)
        assert found.fgs1_variance[n] == pytest.approx(one.covariance[0, 0], rel=1e-3)
        assert found.mean_variance[n] == pytest.approx(airs.mean(), rel=1e-3)
        with_mean = found.mean_variance[n] + found.cross[n]
        assert np.allclose(with_mean, airs.mean(axis=1), rtol=1e-3)
        assert np.allclose(found.shape_variance[n] + 2 * with_mean - airs.mean(), np.diag(airs), rtol=1e-3)
