"""The light-curve path: exact transits, and the same light curves as frames give through the whole pipeline."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spectramind_nb.core.contracts import check_arrays, read_npz
from spectramind_nb.core.instrument import AIRS, FGS1, VISIT_HOURS, Channel
from spectramind_nb.core.metric import bin_scores
from spectramind_nb.detector.extraction import extract_planet
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.prior.flat import fixed_sigma, flat_depth, predict_flat, white_depth
from spectramind_nb.simulator import data_sets, detector
from spectramind_nb.simulator import frames as simulator_frames
from spectramind_nb.simulator import light_curves as simulator_light_curves
from spectramind_nb.simulator.data_sets import FRAME_COUNTS, draw_planets, simulate_dataset
from spectramind_nb.simulator.disturbances import Disturbances
from spectramind_nb.simulator.light_curves import (
    GAUSS_POINTS,
    GAUSS_WEIGHTS,
    simulate_features,
    step_times,
    step_transit,
)
from spectramind_nb.simulator.population import (
    PlanetSpectrum,
    SimulatedOrbit,
    SimulatedPlanet,
    draw_system,
    observe,
    transit_flux,
)
from spectramind_nb.simulator.world_parts import DetectorFaults, Foregrounds, GainDrifts, ImageMotion
from spectramind_nb.simulator.worlds import DEFAULT_WORLD


def planet_of(spectrum: np.ndarray, seed: int = 0, visits: int = 1) -> SimulatedPlanet:
    """A planet with a chosen spectrum and number of visits."""
    rng = np.random.default_rng(seed)
    drawn = PlanetSpectrum(draw_system(rng), {}, spectrum)
    return next(planet for planet in iter(lambda: observe(rng, drawn), None) if len(planet.orbits) == visits)


@pytest.mark.parametrize("impact", [0.0, 0.5, 0.85, 0.95, 1.05])
@pytest.mark.parametrize("spread", [1e-5, 3e-4, 8e-3])
def test_interpolated_transits_are_exact(impact: float, spread: float) -> None:
    rng = np.random.default_rng(1)
    depth = 0.012 + spread * rng.uniform(-0.5, 0.5, 282)
    limb = np.column_stack([rng.uniform(0.08, 0.16, 282), rng.uniform(0.04, 0.17, 282)])
    orbit = SimulatedOrbit(3.6, 4.0, 9.0, float(np.degrees(np.arccos(impact / 9.0))))
    steps = step_times(FRAME_COUNTS["full"], AIRS, 375)
    hours = (steps.hours[:, None] + GAUSS_POINTS * steps.spread_h).ravel()
    exact = np.einsum("tpb,p->tb", transit_flux(hours, orbit, depth, limb).reshape(-1, 3, 282), GAUSS_WEIGHTS)
    assert np.abs(step_transit(orbit, steps, depth, limb) - exact).max() < 1e-7


@pytest.mark.parametrize(("channel", "most"), [(AIRS, 375), (FGS1, 1125), (AIRS, 5625)])
def test_steps_average_their_pairs(channel: Channel, most: int) -> None:
    steps, frames = step_times(FRAME_COUNTS["full"], channel, most), FRAME_COUNTS["full"]
    orbit, depth, limb = (
        SimulatedOrbit(3.6, 4.0, 9.0, 88.0),
        np.array([0.012, 0.0125]),
        np.array([[0.1, 0.1], [0.12, 0.1]]),
    )
    count = frames.pairs(channel) // steps.length
    assert len(steps.hours) == count <= most and steps.hours[-1] < VISIT_HOURS
    offsets = (np.arange(steps.length) - (steps.length - 1) / 2) * frames.cycle_s(channel) / 3600
    every = transit_flux((steps.hours[:, None] + offsets).ravel(), orbit, depth, limb)
    mean = every.reshape(count, steps.length, 2).mean(axis=1)
    assert np.abs(step_transit(orbit, steps, depth, limb) - mean).max() < 4e-6


def test_features_keep_their_contract() -> None:
    planet = planet_of(np.full(283, 0.01), visits=2)
    features = simulate_features(np.random.default_rng(0), planet, FRAME_COUNTS["full"])
    for kind, arrays in features.items():
        check_arrays("here", kind, arrays)
        assert set(arrays["visit"]) == {0, 1}
    assert len(features["fgs1_white"]["time"]) == 2 * 1125 and features["airs_bins"]["flux"].shape == (750, 283)


@pytest.fixture
def same_weather(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both paths meet the same pixels, drift, wander, sky and flicker; no frame is lost."""

    def drift(rng: np.random.Generator, chromatic: bool, drift: GainDrifts) -> np.ndarray:
        terms = 6 if chromatic else 1
        return 3e-4 * np.random.default_rng(terms).uniform(-1, 1, (6, terms))

    def wander(rng: np.random.Generator, pairs: int, channel: Channel, pointing: ImageMotion) -> np.ndarray:
        time = np.linspace(-1, 1, pairs)
        return np.column_stack([0.02 * time, -0.015 * time**2, 0.001 * time**3])

    def pixels(rng: np.random.Generator, channel: Channel, ood: bool = False) -> detector.PixelMaps:
        return drawn(np.random.default_rng(0), channel, ood)

    drawn = detector.draw_pixels

    def foreground(rng: np.random.Generator, channel: Channel, light: Foregrounds) -> float:
        return 0.2 if channel == AIRS else 3.0

    same: dict[str, object] = {"draw_pixels": pixels, "draw_gain_drift": drift, "draw_wander": wander}
    for name, value in (same | {"draw_foreground": foreground}).items():
        of_frames = detector if name == "draw_pixels" else simulator_frames
        for module in (of_frames, simulator_light_curves):
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(simulator_frames, "draw_flux_jitter", lambda rng, channel: 1e-3)
    no_bad_pair = replace(DEFAULT_WORLD, faults=DetectorFaults(bad_last=0.0))
    monkeypatch.setattr(data_sets, "QUIET", Disturbances(no_bad_pair))


@pytest.mark.usefixtures("same_weather")
def test_frames_and_light_curves_agree(tmp_path: Path) -> None:
    simulate_dataset(tmp_path / "raw", 1, 0, seed=5, frames="demo")
    ((label, planet),) = draw_planets(5, "train", 1).items()
    extract_planet(("train", label), RawFolder(tmp_path / "raw"), tmp_path)
    ours = simulate_features(np.random.default_rng(1), planet, FRAME_COUNTS["demo"])
    theirs = {kind: read_npz(tmp_path / f"{kind}_{label}.npz", kind) for kind in ours}
    for kind, bins in (("airs_bins", slice(1, None)), ("fgs1_white", slice(None))):
        (a, b), (a_noise, b_noise) = (
            [each[kind][name].astype(float).reshape(len(each[kind]["time"]), -1)[:, bins] for each in (ours, theirs)]
            for name in ("flux", "variance")
        )
        assert np.allclose(ours[kind]["time"], theirs[kind]["time"], atol=1e-9)
        assert np.median(a / b) == pytest.approx(1, abs=0.04)  # the halo in the sky rows counts as sky
        assert np.median(a_noise / b_noise) == pytest.approx(1, abs=0.08)  # and so of its noise
        level = (a.mean(axis=0), b.mean(axis=0))
        noise = np.sqrt(a_noise / level[0] ** 2 + b_noise / level[1] ** 2)
        pairs = 1 if kind == "airs_bins" else 2  # of the step
        shared = 1e-3 * np.sqrt(2 * (0.1 / (4.5 if kind == "airs_bins" else 0.1)) / pairs)  # flicker of both
        z = (a / level[0] - b / level[1]) / np.hypot(noise, shared)
        assert z.std() == pytest.approx(1, abs=0.05)  # depth, drift and scatter
        slow = z[: len(z) // 25 * 25].reshape(-1, 25, z.shape[1]).mean(axis=1)
        assert np.sqrt(np.mean(slow**2)) * 5 == pytest.approx(1, abs=0.1)  # nothing slow is left
        if kind == "airs_bins":
            inside = planet.orbits[0].separation(ours[kind]["time"]) < 0.7
            offset = z[inside].mean(axis=0) * np.sqrt(inside.sum())
            assert offset.std() == pytest.approx(1, abs=0.3) and abs(offset.mean()) < 1
            for each in (a, b):
                change = np.diff(each / np.median(each, axis=0), axis=0)
                assert abs(np.corrcoef(change.T)[np.triu_indices(282, 1)].mean()) < 0.02
    for name in ("jitter", "centroid"):
        mine, other = (each["fgs1_white"][name] for each in (ours, theirs))
        assert np.allclose(mine.mean(axis=0), other.mean(axis=0), rtol=0.08 if name == "jitter" else 0, atol=0.03)
        assert np.allclose(mine.std(axis=0), other.std(axis=0), rtol=0.15)


def test_variance_is_the_scatter() -> None:
    planet = planet_of(np.full(283, 1e-6), seed=3)
    bins = simulate_features(np.random.default_rng(2), planet, FRAME_COUNTS["full"])["airs_bins"]
    change = np.diff(bins["flux"][:-1].astype(float), axis=0)[:, 1:]
    ratio = np.sqrt(np.mean(change**2, axis=0) / (2 * bins["variance"][0, 1:]))
    assert np.median(ratio) == pytest.approx(1, abs=0.02)


def test_out_of_distribution_detectors_are_noisier() -> None:
    planet = planet_of(np.full(283, 0.01))

    def variance(seed: int, ood: bool) -> float:
        features = simulate_features(np.random.default_rng(seed), planet, FRAME_COUNTS["tiny"], ood=ood)
        return float(features["airs_bins"]["variance"].mean())

    plain, odd = (np.mean([variance(seed, ood) for seed in range(8)]) for ood in (False, True))
    assert odd > plain


STAR = {"P": 4.0, "sma": 9.0, "i": 88.0}


@pytest.mark.parametrize(("depth", "drift"), [(0.01, 0.0), (0.004, 1e-4), (0.05, -2e-4)])
def test_a_transit_on_a_line_is_found(depth: float, drift: float) -> None:
    hours = np.linspace(0, 7.5, 375)
    orbit = SimulatedOrbit(3.43, STAR["P"], STAR["sma"], STAR["i"])
    light = transit_flux(hours, orbit, np.array([depth]), np.array([[0.12, 0.10]]))[:, 0] * (1 + drift * hours)
    assert white_depth(hours, np.outer(light, [1e5, 3e5]), STAR) == pytest.approx(depth, rel=0.01)


def test_flat_predictor() -> None:
    planet = planet_of(np.full(283, 0.012), seed=1)
    features = simulate_features(np.random.default_rng(4), planet, FRAME_COUNTS["full"])["airs_bins"]
    assert flat_depth(features, planet.system.row()) == pytest.approx(0.012, rel=0.05)
    mu, sigma = predict_flat([features], [planet.system.row()], 5e-4)
    assert mu.shape == (1, 283) and np.ptp(mu) == 0 and (sigma == 5e-4).all()
    truth = np.random.default_rng(0).normal(0.012, 3e-4, (40, 283))
    best = fixed_sigma(truth, np.full_like(truth, 0.012))
    assert best == pytest.approx(3e-4, rel=0.05)
    assert np.mean(bin_scores(truth, np.full_like(truth, 0.012), np.full_like(truth, best))) > 0
