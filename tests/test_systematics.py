"""What the instrument adds: found where it is, not found where it isn't."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.signal import lfilter

from spectramind_nb.transits.normal_equations import log_evidence
from spectramind_nb.transits.systematics import (
    JUMP_SHARE,
    JUMP_SIZES,
    JUMPS,
    Colour,
    airs_coordinate,
    common_directions,
    drift_priors,
    expected_jumps,
    kept_power,
    noise_colour,
    noise_directions,
    own_drift_covariance,
    polynomial_factors,
)

STEPS = 400
CURVES = np.vander(np.linspace(-1, 1, STEPS), 6)


def residual(series: np.ndarray) -> np.ndarray:
    """What a fit of CURVES leaves."""
    return series - CURVES @ np.linalg.lstsq(CURVES, series, rcond=None)[0]


def test_priors_of_the_drift_fall_off() -> None:
    family = drift_priors((1e-4, 2e-4), (0.5,), (0.3, 0.6))
    in_time, in_wavelength = 0.5 ** np.arange(8), [w ** np.arange(7) for w in (0.3, 0.6)]
    expected = [size * np.outer(in_time, decay) for size in (1e-4, 2e-4) for decay in in_wavelength]
    assert family == pytest.approx(np.array(expected))
    common = drift_priors((1e-4,), (0.5, 1.0), ())
    assert common == pytest.approx(1e-4 * np.array([in_time, np.ones(8)])[..., None])


def exosim_forms(size: float, wavelength: bool) -> np.ndarray:  # (H, k, k)
    """Factors of the covariances of drifts of ExoSim 2's form, one for each direction of the columns."""
    time, places = polynomial_factors(wavelength)
    roots = [size * np.kron(time, place) for place in places]
    return np.array([np.pad(root, ((0, 0), (0, len(root) - root.shape[1]))) for root in roots])


@pytest.mark.parametrize("wavelength", [False, True], ids=["FGS1", "AIRS"])
def test_evidence_tells_drifts_of_exosims_form_from_others(wavelength: bool) -> None:
    """Each form of drift, measured with a tenth of its size in error, is the likelier one where it is the true one."""
    rng = np.random.default_rng(2)
    forms = exosim_forms(4e-4, wavelength)
    soft = drift_priors((2e-4, 4e-4), (0.5, 0.7), (0.5, 0.7) if wavelength else ())
    soft = soft.reshape(len(soft), -1)[:, :, None] * np.eye(forms.shape[1])
    error = 4e-5
    odds = {}
    for name, roots in (("polynomial", forms), ("soft", soft)):
        gained = []
        for number in range(40):
            drift = roots[number % len(roots)] @ rng.normal(size=forms.shape[1])
            measured = drift + error * rng.normal(size=len(drift))
            logs = [
                np.logaddexp.reduce(log_evidence(np.eye(len(drift)) / error**2, measured / error**2, family))
                for family in (forms, soft)
            ]
            gained.append(logs[0] - logs[1])
        odds[name] = np.mean(gained)
    assert odds["polynomial"] > 0.5 and odds["soft"] < -0.5


def test_drift_of_exosims_form_has_its_size_whatever_the_direction() -> None:
    z, rng = np.linspace(-1, 1, 81), np.random.default_rng(3)
    time, place = (np.polynomial.chebyshev.chebvander(at, order) for at, order in ((z, 8), (airs_coordinate(), 6)))
    time, roots = time[:, 1:], exosim_forms(3e-4, wavelength=True)
    assert len(roots) == 2 and not np.allclose(roots[0] @ roots[0].T, roots[1] @ roots[1].T)
    for root in roots:
        draws = [time @ (root @ rng.normal(size=56)).reshape(8, 7) @ place.T for _ in range(1500)]
        varying = np.array(draws) - np.mean(draws, axis=1, keepdims=True)
        assert np.sqrt(np.mean(varying**2)) == pytest.approx(3e-4, rel=0.06)


WHITE = Colour(1.0, 0.0, 0.0)


def test_jumps_are_expected_where_they_are() -> None:
    rng = np.random.default_rng(0)
    quiet = [expected_jumps(residual(rng.normal(size=STEPS)), CURVES, WHITE)[0] for _ in range(200)]
    assert np.sqrt(np.mean(np.square(quiet))) < 0.1
    for place in (100, 170, 320):
        stepped = rng.normal(size=STEPS) + 2.5 * (np.arange(STEPS) >= place)
        jump, factor, log_jump = expected_jumps(residual(stepped), CURVES, WHITE)
        assert log_jump > 10
        assert jump[-1] - jump[0] == pytest.approx(2.5, abs=0.8) and abs(int(np.argmax(jump > 1.25)) - place) <= 6
        assert np.linalg.norm(factor[-1]) == pytest.approx(2.5, abs=0.8)


def test_jumps_make_the_widths_that_they_need() -> None:
    """Of jumps drawn as they are expected, the errors of a dip's depth are as large as stated."""
    rng, z = np.random.default_rng(6), []
    dipped = np.column_stack([np.abs(np.arange(STEPS) - 190) < 70, CURVES[:, 2:]])
    for _ in range(400):
        size = rng.choice([*JUMPS, 0.0], p=[*(JUMP_SHARE * JUMP_SIZES), 1 - JUMP_SHARE]) * rng.normal()
        series = rng.normal(size=STEPS) + size * (np.arange(STEPS) >= rng.integers(STEPS))
        left = series - dipped @ np.linalg.lstsq(dipped, series, rcond=None)[0]
        _, factor, _ = expected_jumps(left, dipped, WHITE)
        directions, std = common_directions(dipped, np.zeros_like, factor, 12)
        design = np.hstack([dipped, directions])
        prior = np.diag(np.concatenate([np.zeros(dipped.shape[1]), 1 / np.maximum(std, 1e-9) ** 2]))
        covariance = np.linalg.inv(design.T @ design + prior)
        z.append((covariance @ design.T @ series)[0] / np.sqrt(covariance[0, 0]))
    assert 0.85 < np.std(z) < 1.15


def test_colours_are_told_apart() -> None:
    rng, unit = np.random.default_rng(1), 1e-4
    white = [noise_colour(unit * rng.normal(size=STEPS), unit**2) for _ in range(40)]
    assert np.mean([c.red for c in white]) < 0.05 * unit**2 and np.mean([c.white for c in white]) < 1.1 * unit**2
    flicker = [noise_colour(1.5 * unit * rng.normal(size=STEPS), unit**2).white for _ in range(40)]
    assert np.mean(flicker) == pytest.approx((1.5 * unit) ** 2, rel=0.1)
    reds = []
    for _ in range(40):
        walk = np.zeros(STEPS)
        for k in range(1, STEPS):
            walk[k] = 0.9 * walk[k - 1] + np.sqrt(1 - 0.9**2) * rng.normal()
        reds.append(noise_colour(unit * (rng.normal(size=STEPS) + 1.5 * walk), unit**2))
    tails = [colour.red * (1 - colour.memory**2) for colour in reds]  # far above the frequency where it flattens
    assert np.median(tails) == pytest.approx((1.5 * unit) ** 2 * (1 - 0.9**2), rel=0.3)
    assert np.median([colour.red for colour in reds]) > 20 * np.median([colour.red for colour in white])


def test_colour_of_what_a_fit_leaves_over() -> None:
    """A fit along slow functions takes their power; told so, the estimate of the white noise stays unbiased."""
    rng, unit = np.random.default_rng(8), 1e-4
    free = np.cos(np.pi * np.outer((np.arange(STEPS) + 0.5) / STEPS, np.arange(60)))
    basis = np.linalg.qr(free)[0]
    corrected, uncorrected = [], []
    for _ in range(60):
        series = unit * rng.normal(size=STEPS)
        left = series - basis @ (basis.T @ series)
        corrected.append(noise_colour(left, None, kept=kept_power(free)).white)
        uncorrected.append(noise_colour(left, None).white)
    assert np.mean(corrected) == pytest.approx(unit**2, rel=0.05) and np.mean(uncorrected) < 0.95 * unit**2


def test_whitened_noise_is_white() -> None:
    rng = np.random.default_rng(9)
    walk = lfilter([np.sqrt(1 - 0.9**2)], [1, -0.9], rng.normal(size=(STEPS + 200, 200)), axis=0)[200:]
    found = Colour(1.0, 2.25, 0.9).whitened(rng.normal(size=(STEPS, 200)) + 1.5 * walk)
    power = (np.abs(np.fft.rfft(found, axis=0)) ** 2).mean(axis=1) / STEPS
    assert np.allclose(power[1:20], 1, atol=0.4) and found.var() == pytest.approx(1, rel=0.05)


def test_noise_directions_hold_all_that_noise_does_to_a_fit() -> None:
    colour = noise_colour(np.random.default_rng(2).normal(size=STEPS) * 2, 1.0)
    colour = replace(colour, red=max(colour.red, 0.5), memory=0.9)
    lags = np.abs(np.subtract.outer(np.arange(STEPS), np.arange(STEPS)))
    covariance = colour.red * 0.9**lags + max(colour.white - 1.0, 0.0) * np.eye(STEPS)
    directions, std = noise_directions(CURVES, partial(colour.covariance_times, known=1.0), 10)
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
