"""Priors of the fit that are learned from planets: from light curves to a second fit."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.signal import lfilter

from spectramind_nb.simulator.data_sets import FRAME_COUNTS
from spectramind_nb.simulator.light_curves import simulate_features
from spectramind_nb.simulator.population import draw_planet, planet_stream
from spectramind_nb.transits.drift_hypotheses import drift_hypotheses
from spectramind_nb.transits.fit import fit_planet
from spectramind_nb.transits.fit_priors import LIMB_PRIORS, FitOptions, LearnedPriors, limb_priors, orbit_priors
from spectramind_nb.transits.learned_priors import (
    LEAST_PLANETS,
    Evidence,
    learn_channel_odds,
    learn_fit_priors,
    learn_shares,
)
from spectramind_nb.transits.model import blocks_of
from spectramind_nb.transits.systematics import CELLS, JUMP_SHARE, MEMORIES_MIN, RED_RMS, noise_colour, red_power

STAR = {"sma": 10.0, "i": 88.0, "Ts": 5400.0, "P": 5.0}


def learned(**changes: object) -> LearnedPriors:
    """Priors that equal the guesses, but for `changes`."""
    odds = {name: tuple(drift_hypotheses(name == "airs", FitOptions()).odds.tolist()) for name in ("fgs1", "airs")}
    guess = LearnedPriors(
        planets=9,
        sma_offset=0.0,
        sma_scatter=0.015,
        inclination_scatter_deg=0.35,
        limb=tuple(LIMB_PRIORS.values()),
        fgs1_drift=odds["fgs1"],
        airs_drift=odds["airs"],
        fgs1_noise=tuple(CELLS.tolist()),
        airs_noise=tuple(CELLS.tolist()),
        jump_share=(JUMP_SHARE, JUMP_SHARE),
    )
    return replace(guess, **changes)


def test_learned_priors_that_equal_the_guesses_change_nothing() -> None:
    rng = planet_stream(5, "train", 0)
    planet = draw_planet(rng)
    blocks = blocks_of(simulate_features(rng, planet, FRAME_COUNTS["demo"]))
    guessed, again = (
        fit_planet(blocks, planet.system.row(), options) for options in (FitOptions(), FitOptions(learned=learned()))
    )
    assert np.array_equal(guessed.depth, again.depth) and guessed.shared == again.shared


def test_learned_offsets_and_widths_reach_the_priors() -> None:
    options = FitOptions(learned=learned(sma_offset=0.013, sma_scatter=0.003, inclination_scatter_deg=0.8))
    assert orbit_priors(STAR, options)["sma"] == pytest.approx((10.13, 0.03))
    assert orbit_priors(STAR, options)["b2"][1] > 2 * orbit_priors(STAR, FitOptions())["b2"][1]
    stated = orbit_priors({**STAR, "sma_err": 0.5}, options)["sma"]
    assert stated == pytest.approx((10.13, 0.5))  # a table's own error is kept
    limb = tuple((mean + 0.1, slope, 2 * scatter) for mean, slope, scatter in LIMB_PRIORS.values())
    for name, (mean, std) in limb_priors(5400.0, learned=learned(limb=limb)).items():
        assert (mean - 0.1, std / 2) == pytest.approx(limb_priors(5400.0)[name])


def test_options_with_learned_priors_survive_a_file() -> None:
    options = FitOptions(learned=learned(sma_offset=0.01))
    assert FitOptions.from_record(json.loads(json.dumps(asdict(options)))) == options


def test_a_light_curves_evidence_does_not_depend_on_the_priors() -> None:
    """The second fit, with other priors, says the same of orbit and limb darkening as the first."""
    rng = planet_stream(5, "train", 1)
    planet = draw_planet(rng)
    star = planet.system.row()
    blocks = blocks_of(simulate_features(rng, planet, FRAME_COUNTS["demo"]))
    first = fit_planet(blocks, star, FitOptions())
    wide = FitOptions(learned=learned(sma_scatter=0.03, inclination_scatter_deg=0.6))
    second = fit_planet(blocks, star, wide, near=(first.depth, first.shared))
    assert first.evidence and second.evidence
    peaks = [
        np.linalg.solve(part.precision + np.eye(10), part.information) for part in (first.evidence, second.evidence)
    ]
    errors = 1 / np.sqrt(np.diag(first.evidence.precision))
    assert np.abs((peaks[0] - peaks[1]) / errors)[0] < 0.5  # a/Rs
    assert np.allclose(np.diag(second.evidence.precision), np.diag(first.evidence.precision), rtol=0.3)


def test_evidence_survives_a_file() -> None:
    drift = {"fgs1": np.zeros((2, 3)), "airs": -np.ones((2, 5))}
    noise, jump = ({name: np.ones(shape) for name in drift} for shape in ((2, len(CELLS)), (2,)))
    evidence = Evidence(np.eye(10), np.arange(10.0), drift, noise, jump)
    again = Evidence.from_record(json.loads(json.dumps(evidence.record())))
    assert np.array_equal(again.precision, evidence.precision) and np.array_equal(again.information, np.arange(10.0))
    assert all(np.array_equal(again.drift[channel], drift[channel]) for channel in drift)


def test_a_wrong_row_of_the_table_widens_no_other_planets_prior() -> None:
    """One table row of thirty is off by a third; the learned scatter stays that of the others."""
    rng, evidence, stars = np.random.default_rng(2), [], []
    limb = [mean for mean, _, _ in LIMB_PRIORS.values()]
    odds = {name: np.zeros((1, len(drift_hypotheses(name == "airs", FitOptions()).odds))) for name in ("fgs1", "airs")}
    for number in range(30):
        true = np.array([10 * (1 + 0.005 * rng.normal()), (10 * np.cos(np.radians(88.0))) ** 2, *limb])
        true[0] *= 4 / 3 if number == 7 else 1
        precision = np.diag([0.02**-2.0, 1e6, *[1e4] * 8])
        evidence.append(Evidence(precision, precision @ true, odds, *silent(1)))
        stars.append({"sma": 10.0, "i": 88.0, "Ts": 5890.0})
    found = learn_fit_priors(evidence, stars, FitOptions())
    assert found and abs(found.sma_offset) < 0.004 and 0.003 < found.sma_scatter < 0.02
    assert learn_fit_priors(evidence[: LEAST_PLANETS - 1], stars[: LEAST_PLANETS - 1], FitOptions()) is None


def silent(visits: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Evidence of noise and of jumps that favours nothing."""
    channels = ("fgs1", "airs")
    return {c: np.zeros((visits, len(CELLS))) for c in channels}, {c: np.zeros(visits) for c in channels}


def test_many_weak_signs_of_one_red_noise_make_it_sure() -> None:
    """In single visits red noise of 37 ppm is uncertain; forty visits give its power at 15 cycles a visit."""
    rng, step_min, white, turn = np.random.default_rng(3), 1.2, 1e-4, np.array([2 * np.pi * 15 / 400])
    memory, size = np.exp(-step_min / 10), 3.7e-5
    logs, single = [], []
    for _ in range(40):
        red = lfilter([np.sqrt(1 - memory**2)], [1, -memory], rng.normal(size=600))[200:] * size
        colour = noise_colour(red + white * rng.normal(size=400), white**2, step_min)
        logs.append(colour.log_cells)
        single.append(colour.red * red_power(colour.memory, turn)[0])
    share, true = learn_shares(np.array(logs), CELLS), size**2 * red_power(memory, turn)[0]
    of_cells = np.outer(red_power(np.exp(-step_min / np.array(MEMORIES_MIN)), turn), RED_RMS**2).ravel()
    near = (of_cells > true / 2) & (of_cells < 2 * true)
    assert share[0] < 0.4 and share[1:][near].sum() > 0.5
    assert np.median(single) < 0.7 * true  # one visit alone says little


def test_without_red_noise_none_is_learned() -> None:
    rng = np.random.default_rng(4)
    logs = [noise_colour(1e-4 * rng.normal(size=400), 1e-8).log_cells for _ in range(40)]
    assert learn_shares(np.array(logs), CELLS)[0] > 0.8


def test_the_odds_of_jumps_are_learned() -> None:
    sure, none = np.full(30, 8.0), np.full(10, -0.5)
    for log_jump, least, most in ((np.append(sure, none), 0.6, 0.85), (np.full(40, -0.5), 0.0, 0.15)):
        odds = {n: np.zeros((40, len(drift_hypotheses(n == "airs", FitOptions()).odds))) for n in ("fgs1", "airs")}
        parts = [
            Evidence(
                np.eye(10),
                np.zeros(10),
                {n: logs[k : k + 1] for n, logs in odds.items()},
                silent(1)[0],
                dict.fromkeys(odds, log_jump[k : k + 1]),
            )
            for k in range(40)
        ]
        share = learn_channel_odds("airs", parts, FitOptions())[2]
        assert least <= share <= most
