"""Calibration of sigma: conformal quantiles, what they promise, and submissions that remember their calibration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectramind_nb.core.errors import UserError
from spectramind_nb.core.files import network_file
from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.network.weights import read_network
from spectramind_nb.pipeline.learned import OutOfFold
from spectramind_nb.pipeline.sigma_calibration import cross_fitted
from spectramind_nb.prior.learning import log_cross_sections
from spectramind_nb.prior.posterior import combine_many
from spectramind_nb.uncertainty.calibration import (
    CalibOptions,
    Calibration,
    coverage_table,
    histograms,
    learn_calibration,
    steps_of,
)
from spectramind_nb.uncertainty.corel import (
    conformal_level,
    gaussian_factors,
    neighbours,
    normal_quantile,
    pooled_quantiles,
    share_inside,
    split_quantiles,
)


def made_up(planets: int, seed: int, wide: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors with tails, common in part to a planet; their sigmas, and OOD scores."""
    rng = np.random.default_rng(seed)
    sigma, unknown = 10 ** rng.uniform(-5, -4, (planets, 1)) * np.ones(N_BINS), rng.random(planets)
    pulls = (rng.standard_t(6, (planets, N_BINS)) + rng.standard_t(6, (planets, 1))) / np.sqrt(2)
    return wide * pulls * sigma, sigma, unknown


# --- Conformal quantiles -----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.sampled_from([0.05, 0.1, 0.32]), st.integers(0, 1000))
def test_the_rank_is_the_conformal_one(planets: int, alpha: float, seed: int) -> None:
    scores = np.random.default_rng(seed).random((planets, 3))
    rank = next((k for k in range(planets + 1) if k >= (planets + 1) * (1 - alpha) - 1e-9), planets + 1)
    expected = np.sort(scores, axis=0)[rank - 1] if rank <= planets else np.full(3, np.inf)
    assert np.array_equal(split_quantiles(scores, alpha), expected)


def test_the_plain_form_is_what_crepes_gives() -> None:
    crepes = pytest.importorskip("crepes", reason="crepes, of the extra dev, is not installed")
    error, sigma, _ = made_up(101, 1)
    for number in (0, 1, 100, 282):
        theirs = crepes.ConformalRegressor().fit(residuals=error[:, number], sigmas=sigma[:, number])
        low, high = theirs.predict_int(y_hat=np.zeros(1), sigmas=np.ones(1), confidence=0.9)[0]
        ours = split_quantiles(np.abs(error / sigma), 0.1)[number]
        assert (-low, high) == pytest.approx((ours, ours), rel=1e-9)


def test_neighbours_are_mutual_and_fgs1_stands_alone() -> None:
    sets = [set(pool.tolist()) for pool in neighbours()]
    assert len(sets) == N_BINS and sets[0] == {0} and min(map(len, sets[1:])) >= 5
    assert all(k in own and all(k in sets[other] for other in own) for k, own in enumerate(sets))


def test_pooling_scatters_less_and_promises_the_same() -> None:
    new, own, _ = made_up(4000, 99)
    exact, scatter, shares = np.quantile(np.abs(new / own), 0.9, axis=0), np.zeros(2), np.zeros(2)
    for seed in range(1, 13):
        error, sigma, _ = made_up(60, seed)
        for k, form in enumerate((split_quantiles, pooled_quantiles)):
            found = form(np.abs(error / sigma), 0.1)
            scatter[k] += np.std(np.log(found / exact)[1:]) / 12
            shares[k] += np.mean(np.abs(new / own) <= found) / 12
    assert scatter[1] < 0.6 * scatter[0]
    assert np.all(np.abs(shares - 55 / 61) < 3 * np.sqrt(0.09 / 61 / 12))  # rank 55 of 61, by 12 times 60 planets


def test_too_few_planets_promise_nothing_and_leave_sigma_alone() -> None:
    assert conformal_level(8, 0.1) > 1 >= conformal_level(9, 0.1)
    for form in (split_quantiles, pooled_quantiles):
        assert np.isinf(form(np.ones((8, N_BINS)), 0.1)).all()
    assert np.array_equal(gaussian_factors(np.full(3, np.inf), 8, 0.1), np.ones(3))


@given(st.floats(0.3, 10), st.integers(0, 5000), st.sampled_from([0.05, 0.1, 0.32]))
def test_a_gaussian_keeps_its_sigma(scale: float, planets: int, alpha: float) -> None:
    same = gaussian_factors(np.full(4, normal_quantile(alpha)), planets, alpha)
    assert np.allclose(same, 1)
    factor = float(gaussian_factors(np.array([scale * normal_quantile(alpha)]), planets, alpha)[0])
    assert min(scale, 1) - 1e-9 <= factor <= max(scale, 1) + 1e-9


def test_the_share_inside_knows_how_little_it_knows() -> None:
    rng = np.random.default_rng(3)
    held = []
    for _ in range(300):
        share, low, high = share_inside(rng.random((40, 1)) < 0.9)
        assert low <= share <= high
        held.append(low <= 0.9 <= high)
    assert np.mean(held) >= 0.93
    assert share_inside(np.ones((5, 3), bool)) == (1.0, pytest.approx(0.025 ** (1 / 5)), 1.0)
    assert np.isnan(share_inside(np.ones((0, 3), bool))[0])


# --- All steps ---------------------------------------------------------------------------------------------------


def out_of_fold(planets: int, wide: float) -> OutOfFold:
    error, sigma, unknown = made_up(planets, 5, wide)
    fold = (np.arange(planets) % 5).astype(np.int8)
    names = ("gaussian",)
    parts = ({name: value for name in names} for value in (0.01 + 0 * error, sigma, unknown))
    return OutOfFold(np.arange(planets), fold, 0.01 + error, *parts)


@pytest.mark.parametrize("wide", [0.5, 1.0, 2.0])
def test_sigmas_that_are_wrong_are_set_right(wide: float) -> None:
    error, sigma, unknown = made_up(1500, 6, wide)
    own = learn_calibration(error, sigma, unknown, CalibOptions())
    assert own.tau == pytest.approx(wide * np.sqrt(1.5) / 1.025, rel=0.05)  # t of 6: variance 1.5; bars wider by .025
    new, theirs, score = made_up(1500, 7, wide)
    assert share_inside(np.abs(new) <= own.half_width(theirs, score))[0] == pytest.approx(0.9, abs=0.015)
    inside = np.abs(new) <= normal_quantile(0.1) * own.sigma(theirs, score)
    assert share_inside(inside)[0] == pytest.approx(0.9, abs=0.015)


def test_bars_widen_with_the_ood_score_alone() -> None:
    sigma, plain = np.full((3, N_BINS), 1e-4), Calibration(widening=0.15)
    assert np.allclose(plain.sigma(sigma, np.array([0, 0.5, 1]))[:, 0], [1e-4, 1.075e-4, 1.15e-4])
    assert np.allclose(plain.half_width(sigma, np.zeros(3)), normal_quantile(0.1) * sigma)


def test_strange_spectra_score_higher_and_get_wider_bars() -> None:
    """Spectra of the shipped prior's kinds, and the same with bands of a gas that no training planet shows."""
    prior, rng = read_network(network_file("laptop")).prior, np.random.default_rng(4)
    kind, amplitude, noise = int(np.argmax(prior.shares)), 1e-4, np.eye(N_BINS) * 2e-5**2
    mean, covariance = prior.gaussian(kind, amplitude)
    ordinary = mean + rng.multivariate_normal(np.zeros(N_BINS), covariance, size=12)
    names, k = log_cross_sections()
    bands = np.maximum(k[:, names.index("HCN")] - k[:, names.index("HCN")].max() + 1, 0)
    seen = np.vstack([ordinary, ordinary + 1.5 * amplitude * (bands - bands.mean()) / bands.std()]) + 2e-5 * rng.normal(
        size=(24, N_BINS)
    )
    score = combine_many(prior, seen, noise, np.nan).unknown
    assert score[12:].mean() > score[:12].mean() + 0.3
    wider = Calibration(widening=0.15).sigma(np.ones((24, N_BINS)), score)[:, 0]
    assert np.allclose(wider, 1 + 0.15 * score) and wider[12:].mean() > wider[:12].mean()


def test_a_fold_is_calibrated_by_the_others() -> None:
    found = out_of_fold(60, 1.0)
    before = cross_fitted(found, "gaussian", CalibOptions())[0]
    changed = out_of_fold(60, 1.0)
    own = changed.fold == 2
    changed.truth[own] += 1.0
    after = cross_fitted(changed, "gaussian", CalibOptions())[0]
    assert np.array_equal(before[own], after[own]) and not np.allclose(before[~own], after[~own])


def test_the_tables_count_everything_once() -> None:
    found = out_of_fold(90, 1.0)
    wrong = found.truth - found.mu["gaussian"]
    table = coverage_table(found.mu["gaussian"] + wrong, {"a": np.abs(wrong) < found.sigma["gaussian"]}, np.abs(wrong))
    table = table.set_index("group")
    every = np.mean(np.abs(wrong) < found.sigma["gaussian"])
    assert table.loc["all", "a"] == pytest.approx(every)
    bins = table[table.index.str.startswith("bin ")]
    assert len(bins) == N_BINS and bins["a"].mean() == pytest.approx(every)
    assert table.loc[["depth low", "depth middle", "depth high"], "planets"].sum() == 90
    assert (table["a_low"] <= table["a"]).all() and (table["a"] <= table["a_high"]).all()
    counts = histograms(wrong / found.sigma["gaussian"], wrong).groupby("quantity")[["before", "after"]].sum()
    assert (counts == wrong.size).all(axis=None)


@pytest.mark.parametrize(("part", "value"), [("temp", -1.0), ("corel", 0.0), ("corel", 1.5), ("ood", -0.1)])
def test_settings_that_cannot_be_are_refused(part: str, value: float) -> None:
    given_parts = {
        "temp": {"enabled": True, "tau_init": 1.0},
        "corel": {"enabled": True, "alpha": 0.1},
        "ood": {"enabled": True, "widening": 0.15},
    }
    given_parts[part][{"temp": "tau_init", "corel": "alpha", "ood": "widening"}[part]] = value
    with pytest.raises(UserError, match=r"calib: .*Fix: "):
        steps_of(**given_parts)
