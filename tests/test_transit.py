"""The transit model against batman, and the fit against planets whose depths we chose."""

from dataclasses import replace
from functools import cache

import batman
import numpy as np
import pytest

from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.transits.fit import converge, fit_planet, starts
from spectramind_nb.transits.fit_priors import FitOptions
from spectramind_nb.transits.fit_problem import equations
from spectramind_nb.transits.fit_report import Fit
from spectramind_nb.transits.light_curve import Orbit, separation, transit
from spectramind_nb.transits.limb_darkening import limb_series, root_coefficients
from spectramind_nb.transits.model import Block, blocks_of, make_block
from spectramind_nb.transits.normal_equations import posterior
from spectramind_nb.transits.systematics import airs_coordinate

PERIOD_H, SMA = 24 * 5.2, 10.5


def by_batman(hours: np.ndarray, orbit: Orbit, radius: float, limb: tuple[float, float]) -> np.ndarray:
    """The same light curve by another code."""
    parameters = batman.TransitParams()
    parameters.t0, parameters.per, parameters.rp, parameters.a = orbit.t0_h, orbit.period_h, radius, orbit.sma
    parameters.inc, parameters.ecc, parameters.w = float(np.degrees(np.arccos(orbit.b / orbit.sma))), 0.0, 90.0
    parameters.u, parameters.limb_dark = list(limb), "quadratic"
    return batman.TransitModel(parameters, hours).light_curve(parameters)


@pytest.mark.parametrize("limb", [(0.0, 0.0), (0.12, 0.10), (0.55, 0.22)])
@pytest.mark.parametrize("radius", [0.06, 0.12, 0.28])
@pytest.mark.parametrize("b", [0.0, 0.3, 0.7, 0.9, 1.0, 1.12])
def test_light_curve_is_batmans(b: float, radius: float, limb: tuple[float, float]) -> None:
    orbit = Orbit(3.71, PERIOD_H, SMA, b)
    hours = np.linspace(0, 7.5, 1001)
    found = transit(hours, orbit, np.array([radius**2]), np.array(limb[:1]), np.array(limb[1:])).flux[:, 0]
    assert np.abs(found - by_batman(hours, orbit, radius, limb)).max() < 1e-7
    assert found[[0, -1]] == pytest.approx(1, abs=1e-14) and (found.min() < 1 - 1e-9) == (b < 1 + radius)


@pytest.mark.parametrize("contact", [1.1, 0.9, 0.1])  # first, second, and the planet's limb over the star's centre
def test_light_curve_at_its_contact_points(contact: float) -> None:
    orbit, limb = Orbit(3.71, PERIOD_H, SMA, 0.05), (0.4, 0.15)
    phase = np.arcsin(np.sqrt((contact**2 - orbit.b**2) / (orbit.sma**2 - orbit.b**2)))
    hours = orbit.t0_h + orbit.period_h / (2 * np.pi) * (phase + np.array([-1e-5, -1e-9, 0, 1e-9, 1e-5]))
    assert separation(hours, orbit)[0][2] == pytest.approx(contact, abs=1e-12)
    curve = transit(hours, orbit, np.array([0.01]), np.array(limb[:1]), np.array(limb[1:]))
    theirs = by_batman(hours, orbit, 0.1, limb)
    theirs[2] = theirs[[1, 3]].mean()  # batman jumps by 58 ppm where the planet's limb is on the star's centre
    assert np.abs(curve.flux[:, 0] - theirs).max() < 1e-7
    assert all(np.isfinite(part).all() for part in (curve.depth, curve.orbit, curve.u1, curve.u2))


def test_no_transit_behind_the_star() -> None:
    orbit = Orbit(3.71, PERIOD_H, SMA, 0.2)
    behind = orbit.t0_h + orbit.period_h / 2 + np.linspace(-2, 2, 9)
    assert (transit(behind, orbit, np.array([0.01]), np.array([0.1]), np.array([0.1])).flux == 1).all()


STEPS = {"FGS1": (7.5 / 1125, (0.42, 0.14), 2e-7), "AIRS": (7.5 / 375, (0.12, 0.10), 1.6e-6)}  # hours, limb, error


@pytest.mark.parametrize("channel", STEPS)
@pytest.mark.parametrize("radius", [0.06, 0.12, 0.28])
@pytest.mark.parametrize("b", [0.0, 0.7, 1.0])
def test_the_fits_own_light_curve_is_batmans(b: float, radius: float, channel: str) -> None:
    """Averaged over steps by three points: to .06 ppm, but for steps with a contact in them, 24 s or 72 s long."""
    step_h, limb, at_contacts = STEPS[channel]
    hours, coefficients = (
        np.arange(step_h / 2, 7.5, step_h),
        root_coefficients(*(np.array([u]) for u in (*limb, 0.0)))[0],
    )
    within = hours[:, None] + step_h * ((np.arange(100) + 0.5) / 100 - 0.5)
    for begun in np.arange(6) / 6:  # where in its step a contact lies
        orbit = Orbit(3.71 + begun * step_h, PERIOD_H, SMA, b)
        found = limb_series(hours, orbit, radius**2, step_h).flux @ coefficients[0]
        off = np.abs(found - by_batman(within.ravel(), orbit, radius, limb).reshape(within.shape).mean(axis=1))
        z, _ = separation(within.ravel(), orbit)
        sides = [z.reshape(within.shape) < contact for contact in (1 - radius, 1 + radius)]
        contact = np.logical_or.reduce([side.any(axis=1) & ~side.all(axis=1) for side in sides])
        assert off.max() < at_contacts and off[~contact].max() < 6e-8


# --- The fit -----------------------------------------------------------------------------------------------------

NOISE = np.concatenate([[2e-4], np.linspace(1e-3, 5e-3, N_BINS - 1)])  # of a point, FGS1 and AIRS bins


def star(b: float, sma: float = SMA) -> dict[str, float]:
    return {"sma": sma, "i": float(np.degrees(np.arccos(min(b, sma) / sma))), "P": PERIOD_H / 24}


def spectrum(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.008, 0.02) + 2e-4 * np.sin(np.linspace(0, 7, N_BINS) + rng.uniform(0, 6))
    return depth + np.where(np.arange(N_BINS) == 0, 3e-4, 0)


def observe(
    depth: np.ndarray, b: float, seed: int, visit: int = 0, t0: float | None = None, sma: float = SMA
) -> list[Block]:
    """Light curves of a visit: transit, drift and white noise; a visit starts a time of its own before transit."""
    rng, blocks = np.random.default_rng([seed, visit]), []
    usual, x = rng.uniform(3.2, 4.3), airs_coordinate()
    t0 = usual if t0 is None else t0
    for bins, steps, u1, u2 in (
        (slice(0, 1), 300, np.array([0.42]), np.array([0.14])),
        (slice(1, N_BINS), 100, 0.12 - 0.015 * x, 0.10 - 0.012 * x),
    ):
        hours = (np.arange(steps) + 0.5) * 7.5 / steps
        drift = 2e-4 * np.polynomial.chebyshev.chebval(2 * hours / 7.5 - 1, [0, *rng.uniform(-1, 1, 3)])
        flux = transit(hours, Orbit(t0, PERIOD_H, sma, b), depth[bins], u1, u2).flux * (1 + drift)[:, None]
        flux = flux + rng.normal(size=flux.shape) * NOISE[bins]
        blocks.append(make_block(visit, bins, hours, flux, np.broadcast_to(NOISE[bins] ** 2, flux.shape)))
    return blocks


@cache
def fitted(seed: int) -> tuple[Fit, np.ndarray, list[Block]]:
    b = (0.1, 0.3, 0.45, 0.6)[seed % 4]
    depth = spectrum(seed)
    blocks = observe(depth, b, seed)
    return fit_planet(blocks, star(b)), depth, blocks


def error_of_mean(fit: Fit) -> float:
    """Standard error of the AIRS mean."""
    return float(np.sqrt(fit.covariance[1:, 1:].mean()))


def test_depths_are_unbiased_and_their_errors_true() -> None:
    pulls = []
    for seed in range(4):
        fit, depth, _ = fitted(seed)
        error = fit.depth - depth
        pulls.append(error / np.sqrt(np.diag(fit.covariance)))
        assert abs(error[1:].mean()) < 3 * error_of_mean(fit)
        assert np.abs(fit.depth / depth - 1)[0] < 0.1
    airs = np.array(pulls)[:, 1:]
    assert 0.9 < airs.std() < 1.1 and np.abs(np.array(pulls)[:, 0]).max() < 3


def test_noise_is_estimated_from_residuals() -> None:
    fit, _, blocks = fitted(0)
    boasting = [replace(block, variance=block.variance / 4) for block in blocks]
    again = fit_planet(boasting, star(0.1))
    assert again.quality["airs_noise_scale"] == pytest.approx(4 * fit.quality["airs_noise_scale"], rel=0.02)
    assert np.allclose(again.noise_variance[1:], fit.noise_variance[1:], rtol=0.05)


def test_gaps_are_neither_outliers_nor_hours_observed() -> None:
    fit, _, blocks = fitted(0)
    lost = [block.time_h > 6.5 for block in blocks]  # after the transit
    fluxes = [np.where(gone[:, None], np.nan, block.flux) for gone, block in zip(lost, blocks, strict=True)]
    gappy = [
        make_block(block.visit, block.bins, block.time_h, flux, np.broadcast_to(block.variance, flux.shape))
        for block, flux in zip(blocks, fluxes, strict=True)
    ]
    with_gap = fit_planet(gappy, star(0.1)).quality
    assert with_gap["clipped_fraction"] == pytest.approx(fit.quality["clipped_fraction"], abs=0.002)
    assert with_gap["airs_noise_scale"] == pytest.approx(fit.quality["airs_noise_scale"], rel=0.02)
    assert with_gap["transit_h"] == pytest.approx(fit.quality["transit_h"], abs=0.08)
    assert with_gap["transit_h"] + with_gap["baseline_h"] == pytest.approx(6.5, abs=0.08)
    assert fit.quality["transit_h"] + fit.quality["baseline_h"] == pytest.approx(7.5)


def test_covariance_is_diagonal_and_low_rank() -> None:
    fit, _, _ = fitted(1)
    assert (fit.noise_variance > 0).all() and np.linalg.eigvalsh(fit.covariance).min() > 0
    rank = np.linalg.matrix_rank(fit.covariance - np.diag(fit.noise_variance), tol=1e-15)
    assert 0 < rank <= fit.nuisance.shape[1] < N_BINS
    correlation = fit.covariance[1:, 1:].mean() / np.diag(fit.covariance)[1:].mean()
    assert correlation > 1 / N_BINS  # bins share what they share: orbit, limb and drift


def test_two_visits_know_more_than_one() -> None:
    fit, depth, blocks = fitted(2)
    both = fit_planet([*blocks, *observe(depth, 0.45, 2, visit=1)], star(0.45))
    assert np.allclose(both.noise_variance, fit.noise_variance / 2, rtol=0.15)
    assert error_of_mean(both) < 0.9 * error_of_mean(fit)
    assert abs((both.depth - depth)[1:].mean()) < 3 * error_of_mean(both)
    assert abs(both.shared["t0_h[0]"] - both.shared["t0_h[1]"]) > 0.01  # each visit has its own mid-transit time


def test_a_fit_never_stands_at_a_negative_squared_impact_parameter() -> None:
    """The model has no such orbit, so slopes taken there would lead away; seen for central transits and wide priors."""
    depth = spectrum(3)
    seen, table = observe(depth, 0.0, 3), {**star(0.0), "i_err": 1.0}
    problem, state, *_ = converge(seen, table, FitOptions())
    place = problem.layout.place["b2"]
    assert state.shared[place] >= 0
    target, covariance = posterior(equations(problem, state).reduced, problem.mean, state.std)
    assert target[place] < 0 and covariance[place, place] > 0  # the bound is what held it
    fit = fit_planet(seen, table)
    assert abs((fit.depth - depth)[1:].mean()) < 3.5 * error_of_mean(fit)
    assert abs(fit.shared["sma"] - SMA) < 3.5 * fit.shared_std["sma"]


def test_a_second_fit_starts_from_the_first() -> None:
    """A fit from an earlier one's depths and parameters ends where a fit from nothing ends, in fewer steps."""
    fit, _, blocks = fitted(1)
    again = fit_planet(blocks, star(0.3), near=(fit.depth, fit.shared))
    sigma = np.sqrt(np.diag(fit.covariance))
    assert np.abs((again.depth - fit.depth) / sigma).max() < 0.1
    assert np.allclose(np.sqrt(np.diag(again.covariance)), sigma, rtol=0.05)
    assert again.quality["steps"] < fit.quality["steps"]


def uncertain(blocks: list[Block], fgs1: float, airs: np.ndarray) -> list[Block]:
    """The same light curves with relative errors of depths by the foregrounds of both channels."""
    return [replace(b, dilution=airs[:, None] if b.is_airs else np.array([[fgs1]])) for b in blocks]


def test_an_uncertain_foreground_adds_its_dilution_to_the_covariance() -> None:
    fit, _, blocks = fitted(1)
    error = np.append(0.01, np.geomspace(2e-3, 0.02, N_BINS - 1))
    again = fit_planet(uncertain(blocks, error[0], error[1:]), star(0.3))
    expected = fit.depth * error
    expected = np.outer(expected, expected)
    expected[0, 1:] = expected[1:, 0] = 0  # the foregrounds of two channels are independent
    assert np.allclose(again.covariance - fit.covariance, expected, rtol=0.02, atol=2e-3 * expected.max())
    assert np.allclose(again.depth, fit.depth, rtol=2e-3)
    growth = np.sqrt(np.diag(again.covariance)) / np.sqrt(np.diag(fit.covariance) + np.diag(expected))
    assert growth == pytest.approx(1, abs=2e-3)


def test_a_foreground_without_error_changes_no_bit() -> None:
    fit, _, blocks = fitted(0)
    again = fit_planet(uncertain(blocks, 0.0, np.zeros(N_BINS - 1)), star(0.1))
    assert np.array_equal(again.depth, fit.depth) and np.array_equal(again.covariance, fit.covariance)
    assert again.shared == fit.shared


def test_the_foreground_of_each_visit_explains_a_difference_between_visits() -> None:
    fit, depth, blocks = fitted(2)
    white = float(depth[1:].mean())
    diluted = observe(np.append(depth[0], 0.94 * depth[1:]), 0.45, 2, visit=1)
    plain = fit_planet([*blocks, *diluted], star(0.45))
    error = np.full(N_BINS - 1, 0.06)
    known = [*blocks, *uncertain(diluted, 0.0, error)]
    again = fit_planet(known, star(0.45))
    assert abs((again.depth - fit.depth)[1:].mean()) < 0.5 * abs((plain.depth - fit.depth)[1:].mean())
    sound = fit_planet([*blocks, *observe(depth, 0.45, 2, visit=1)], star(0.45))
    assert error_of_mean(sound) < error_of_mean(again) < 0.06 * white
    both = fit_planet(uncertain(known, 0.0, error), star(0.45))
    least = 0.06 * white / np.sqrt(2)  # each visit's foreground is as uncertain, and they are independent
    assert error_of_mean(both) == pytest.approx(float(np.hypot(least, error_of_mean(sound))), rel=0.1)


def test_features_hand_the_dilution_of_each_visit_to_the_fit() -> None:
    flux, hours, visit = np.ones((6, N_BINS), np.float32), np.tile(np.arange(3.0), 2), np.repeat([0, 1], 3)
    dilution = np.arange(2 * N_BINS * 3, dtype=np.float32).reshape(2, N_BINS, 3)
    bins = {"flux": flux, "variance": flux, "time": hours, "visit": visit}
    white = bins | {"flux": flux[:, 0], "variance": flux[:, 0]}
    blocks = blocks_of({"fgs1_white": white, "airs_bins": bins | {"dilution": dilution}})
    for block in blocks:
        assert np.array_equal(block.dilution, dilution[block.visit, block.bins])  # type: ignore[arg-type]
    assert all(block.dilution is None for block in blocks_of({"fgs1_white": white, "airs_bins": bins}))


def test_a_bad_last_frame_is_clipped() -> None:
    fit, _, blocks = fitted(3)
    spoilt = []
    for block in blocks:
        flux = block.flux.copy()
        flux[-1] *= 0.97
        spoilt.append(replace(block, flux=flux))
    again = fit_planet(spoilt, star(0.6))
    assert again.quality["clipped_fraction"] > fit.quality["clipped_fraction"]
    shift = (again.depth - fit.depth) / np.sqrt(np.diag(fit.covariance))
    assert np.abs(shift).max() < 1 and abs(shift.mean()) < 0.2
    assert np.allclose(again.noise_variance, fit.noise_variance, rtol=0.05)


def test_errors_are_right_without_a_visible_transit() -> None:
    blocks = observe(np.full(N_BINS, 1e-8), 0.3, 5)
    fit = fit_planet(blocks, star(0.3))
    sigma = np.sqrt(np.diag(fit.covariance))
    assert (fit.depth / sigma).std() == pytest.approx(1, abs=0.15)
    usual = np.sqrt(np.diag(fitted(0)[0].covariance))
    assert ((sigma > 0.5 * usual) & (sigma < 2 * usual)).all()


def test_an_orbit_that_misses_the_star_means_very_wide_errors() -> None:
    fit = fit_planet(observe(np.full(N_BINS, 1e-8), 1.3, 6), star(1.3))
    sigma = np.sqrt(np.diag(fit.covariance))
    usual = np.sqrt(np.diag(fitted(0)[0].covariance))
    assert np.isfinite(fit.depth).all() and (sigma > 3 * usual).all()


@pytest.mark.parametrize("b", [0.95, 1.05])
def test_grazing_planets_have_wide_and_true_errors(b: float) -> None:
    depth = spectrum(7)
    fit = fit_planet(observe(depth, b, 7), star(b))
    sigma = np.sqrt(np.diag(fit.covariance))
    assert error_of_mean(fit) > 3 * error_of_mean(fitted(0)[0])
    assert abs((fit.depth - depth)[1:].mean()) < 3 * error_of_mean(fit)
    assert np.isfinite(fit.depth).all() and (np.abs(fit.depth - depth) < 3 * sigma).mean() > 0.95


@pytest.mark.parametrize(
    ("t0", "sma", "wider"),
    [(0.4, SMA, 1.2), (7.0, SMA, 1.2), (3.7, 5.0, 5.0)],
    ids=["no ingress", "no egress", "longer than the visit"],
)
def test_incomplete_transits_have_wide_and_true_errors(t0: float, sma: float, wider: float) -> None:
    pulls = []
    for seed in (8, 9):
        depth = spectrum(seed)
        fit = fit_planet(observe(depth, 0.3, seed, t0=t0, sma=sma), star(0.3, sma))
        assert error_of_mean(fit) > wider * error_of_mean(fitted(1)[0])
        error, sigma = fit.depth - depth, np.sqrt(np.diag(fit.covariance))
        pulls.append([error[0] / sigma[0], error[1:].mean() / error_of_mean(fit)])
        assert np.isfinite(fit.depth).all() and (np.abs(error) < 3 * sigma).mean() > 0.95
    assert np.abs(pulls).max() < 3


@pytest.mark.parametrize(
    ("b", "table_b", "factor"),
    [(0.1, 0.7, 1), (0.1, 0.85, 1), (0.75, 0.1, 1), (0.1, 0.1, 2), (0.1, 0.1, 1.35), (0.1, 0.1, 0.75), (0.1, 0.1, 0.6)],
)
def test_an_orbit_far_from_the_star_table_is_found(b: float, table_b: float, factor: float) -> None:
    """The transit is much longer or shorter than the table says; its true length is in the light curves."""
    for seed in (10, 11):
        depth = spectrum(seed)
        fit = fit_planet(observe(depth, b, seed), star(table_b, SMA * factor))
        assert abs((fit.depth - depth)[1:].mean()) < 4 * error_of_mean(fit)
        assert error_of_mean(fit) < 5 * error_of_mean(fitted(0)[0]) and fit.quality["red_noise"] < 1


def test_an_orbit_near_the_star_table_has_no_other_start() -> None:
    for seed in range(4):
        b = (0.1, 0.3, 0.45, 0.6)[seed]
        assert len(starts(observe(spectrum(seed), b, seed), star(b + 0.05))) == 1
