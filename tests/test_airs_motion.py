"""AIRS light curves of an image that moves and changes its width from pair to pair."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from spectramind_nb.core.instrument import ADC_GAIN, ADC_OFFSET, AIRS, AIRS_COLUMNS
from spectramind_nb.detector import extraction
from spectramind_nb.detector.corrections import Options, Visit
from spectramind_nb.detector.extraction import LightCurves, extract_visit
from spectramind_nb.detector.raw import Adc
from spectramind_nb.simulator.data_sets import FrameCount, frame_hours
from spectramind_nb.simulator.detector import ground_calibration
from spectramind_nb.simulator.frames import expose, prepare_exposure

PAIRS = 400
PER_PAIR = np.sqrt(0.1 / AIRS.exposure_s)  # rms in a pair over that in 0.1 s


@cache
def moving_visit(width: float, row: float, depth: float = 0.0) -> Visit:
    """Simulate a visit whose image changes by `row` (pixel) and `width` (relative), rms from pair to pair."""
    rng = np.random.default_rng(5)
    transit = np.ones((PAIRS, AIRS.columns))
    transit[150:250] -= depth
    exposure = prepare_exposure(rng, AIRS, transit, 5887.0, 1.0)
    jitter = np.array([row / PER_PAIR, 0.0, width / PER_PAIR, 0.0])
    exposure = replace(exposure, jitter=jitter, light=transit, wander=0 * exposure.wander, bad_last_pair=False)
    signal = np.concatenate(list(expose(rng, exposure, 128))).reshape(-1, 2, AIRS.rows, AIRS.columns)
    hours = frame_hours(FrameCount(PAIRS, PAIRS), AIRS).reshape(-1, 2).mean(axis=1)
    return Visit(AIRS, signal, hours, ground_calibration(rng, exposure.detector), Adc(ADC_GAIN, ADC_OFFSET))


def common_noise(curves: LightCurves) -> float:
    """Compute the variance of the white light in excess of the bins' own noise, as a ratio."""
    flux, variance = curves.flux[:, AIRS_COLUMNS], np.median(curves.variance[:, AIRS_COLUMNS], axis=0)
    level = np.median(flux, axis=0)
    weight = level**2 / variance
    steps = np.diff(flux / level @ weight / weight.sum())
    return float(np.median(steps**2) / 0.4549 / 2 * weight.sum() - 1)


def test_width_changes_do_not_become_common_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    visit = moving_visit(width=0.005, row=0.013)
    assert common_noise(extract_visit(visit, 1, Options())) < 0.25  # 400 pairs tell it to 0.1
    monkeypatch.setattr(extraction, "remove_motion", lambda flux, *_: flux)
    assert common_noise(extract_visit(visit, 1, Options())) > 1.5


def test_a_quiet_image_costs_no_photons(monkeypatch: pytest.MonkeyPatch) -> None:
    visit = moving_visit(width=0.0, row=0.0)
    with_correction = common_noise(extract_visit(visit, 1, Options()))
    monkeypatch.setattr(extraction, "remove_motion", lambda flux, *_: flux)
    assert with_correction - common_noise(extract_visit(visit, 1, Options())) < 0.02


def test_a_transit_keeps_its_depth() -> None:
    curves = extract_visit(moving_visit(width=0.005, row=0.013, depth=0.01), 1, Options())
    white = curves.flux[:, AIRS_COLUMNS].sum(axis=1)
    outside = np.median(np.concatenate([white[:150], white[250:]]))
    assert 1 - white[150:250].mean() / outside == pytest.approx(0.01, abs=1.5e-4)


def test_one_wild_frame_spoils_only_itself() -> None:
    visit = moving_visit(width=0.005, row=0.013)
    damaged = replace(visit, signal=visit.signal.copy())
    damaged.signal[200, 1] = np.roll(damaged.signal[200, 1], 3, axis=0)
    clean, hurt = (extract_visit(one, 1, Options()).flux[:, AIRS_COLUMNS] for one in (visit, damaged))
    others = np.arange(PAIRS) != 200
    change = hurt.sum(axis=1)[others] / clean.sum(axis=1)[others] - 1
    assert np.abs(change).max() < 2e-4
