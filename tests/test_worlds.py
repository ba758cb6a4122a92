"""Worlds: files, errors, and the size of each effect in light curves and in frames."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spectramind_nb.core.errors import ContractError, UserError
from spectramind_nb.core.instrument import AIRS, AIRS_COLUMNS, FGS1, Channel, airs_column_wavelengths, wavelengths
from spectramind_nb.simulator import light_curves
from spectramind_nb.simulator.data_sets import FRAME_COUNTS, simulate_dataset, visit_transit
from spectramind_nb.simulator.detector import LINEAR_CORR, ground_calibration, wrong_calibration
from spectramind_nb.simulator.disturbances import QUIET, Disturbances, draw_disturbances, spot_contrast
from spectramind_nb.simulator.frames import Exposure, airs_profile, expose, measured_charge, prepare_exposure
from spectramind_nb.simulator.light_curves import (
    GAUSS_POINTS,
    GAUSS_WEIGHTS,
    Extraction,
    detector_light,
    detector_parts,
    extraction,
    simulate_features,
    step_times,
    systematics,
    visit_curves,
)
from spectramind_nb.simulator.line_shape import nearest_bins, smoothing_of_bins
from spectramind_nb.simulator.population import (
    PlanetSpectrum,
    SimulatedPlanet,
    System,
    draw_planet,
    draw_system,
    observe,
    planet_stream,
)
from spectramind_nb.simulator.world_parts import (
    DetectorFaults,
    DilutingLight,
    Excess,
    Foregrounds,
    GainDrifts,
    ImageMotion,
    Jumps,
    Optics,
    PlanetKinds,
    RedNoise,
    StarLimbs,
    StarSurface,
    WorldPart,
)
from spectramind_nb.simulator.worlds import (
    DEFAULT_WORLD,
    NAMED_WORLDS,
    World,
    differing_fields,
    draw_hyperparameters,
    find_world,
    read_world,
    world_of,
    write_world,
)

FULL, TINY = FRAME_COUNTS["full"], FRAME_COUNTS["tiny"]
SYSTEM = System(1.2, 1.1, 5887.0, 1.0, 0.0, 5.2, 10.5, 88.5)
QUIET_SPECTRUM = PlanetSpectrum(SYSTEM, {}, np.linspace(0.0100, 0.0104, 283))


def planet_in(world: World = DEFAULT_WORLD, seed: int = 1) -> SimulatedPlanet:
    """A planet with a plain spectrum, seen once."""
    rng = np.random.default_rng(seed)
    return next(p for p in iter(lambda: observe(rng, QUIET_SPECTRUM, world), None) if len(p.orbits) == 1)


def world(**parts: WorldPart) -> World:
    return World(name="test", **parts)  # type: ignore[arg-type]


# Files.


@pytest.mark.parametrize("name", NAMED_WORLDS)
def test_a_world_survives_its_file(name: str, tmp_path: Path) -> None:
    for suffix in ("yaml", "json"):
        path = tmp_path / f"w.{suffix}"
        write_world(path, NAMED_WORLDS[name])
        if suffix == "json":
            path.write_text(json.dumps(NAMED_WORLDS[name].record()))
        assert read_world(path) == find_world(str(path)) == NAMED_WORLDS[name]


def test_a_file_may_leave_out_what_is_default(tmp_path: Path) -> None:
    path = tmp_path / "few.yaml"
    path.write_text("red_noise: {rms: 4e-5}\n")
    assert differing_fields(read_world(path)) == {"red_noise.rms": 4e-5} and read_world(path).name == "few"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("red_nose: {rms: 1}", "red_nose: is unknown. Fix: did you mean red_noise?"),
        ("red_noise: {rsm: 1}", "red_noise.rsm: is unknown. Fix: did you mean rms?"),
        ("red_noise: 3", "red_noise: is 3, not a group of fields"),
        ("red_noise:", "red_noise: is None, not a group of fields"),
        ("red_noise: {rms: much}", "red_noise.rms: is 'much'. Fix: a number from 0 to 0.01"),
        ("red_noise: {rms: -1e-5}", "red_noise.rms: is -1e-05. Fix: a number from 0 to 0.01"),
        ("red_noise: {rms: .nan}", "red_noise.rms: is nan. Fix: a number from 0 to 0.01"),
        ("red_noise: {rms: .inf}", "red_noise.rms: is inf"),
        ("red_noise: {rms: true}", "red_noise.rms: is True"),
        ("red_noise: {rms: }", "red_noise.rms: is None"),
        ("red_noise: {rms: [1e-5]}", "red_noise.rms: is [1e-05]"),
        ("red_noise: {chromatic: 1}", "red_noise.chromatic: is 1. Fix: true or false"),
        ("drift: {form: rank 1}", "drift.form: is 'rank 1'. Fix: one of rank one, full rank, none"),
        ("drift: {order: 2.5}", "drift.order: is 2.5. Fix: a whole number from 1 to 8"),
        ("drift: {rms: 1e-4}", "drift.rms: is 0.0001. Fix: two rising numbers"),
        ("drift: {rms: [3e-4, 1e-4]}", "drift.rms: is [0.0003, 0.0001]. Fix: two rising numbers"),
        ("foreground: {airs_e_s: [1, 2, 3]}", "foreground.airs_e_s: is [1, 2, 3]. Fix: two rising numbers"),
        ("name: 3", "name: is 3. Fix: write a word"),
        ("- 1", "is not a group of fields"),
        ("jumps: {number: 1\n", "file: is not YAML"),
        ("jumps: {number: 1}\njumps: {number: 2}\n", "file: is not YAML"),
        ("", "file: can't be read (it is empty)"),
    ],
)
def test_a_bad_file_is_refused_by_field(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ContractError) as refused:
        read_world(path)
    assert str(refused.value).startswith(f"{path}: ") and said in str(refused.value) and ". Fix: " in str(refused.value)


def test_an_unknown_world_is_refused() -> None:
    with pytest.raises(ContractError, match="did you mean red-noise"):
        find_world("rednoise")
    with pytest.raises(ContractError, match="is missing"):
        find_world("nowhere.yaml")


def test_judgement_worlds_are_those_of_their_seeds() -> None:
    folder = Path(__file__).parents[1] / "benchmarks/judgement_worlds"
    drawn = {path.stem: read_world(path) for path in folder.glob("*.yaml")}
    assert len(drawn) == 8 and len(set(drawn.values())) == 8
    for k in range(1, 9):
        assert drawn[f"judgement-{k}"] == draw_hyperparameters(26000 + k, f"judgement-{k}")


def test_every_field_changes_something_in_a_drawn_or_named_world() -> None:
    """No field is left at its default in all of them, but for those named here."""
    ways = [*NAMED_WORLDS.values(), *(draw_hyperparameters(seed) for seed in range(20))]
    moved = {key for each in ways for key in differing_fields(each)}
    every = {f"{p}.{key}" for p, part in DEFAULT_WORLD.record().items() if p != "name" for key in part}
    assert every - moved == {
        *("orbit.inclination_offset_deg", "star.crossing_share", "star.spot_contrast_K", "star.flare_size"),
        *("star.flare_minutes", "planets.depth", "foreground.fgs1_e_s", "foreground.strong_factor"),
        *("dilution.scatter", "drift.order", "jumps.size", "jumps.tilt_px"),
    }


# Planets.


def test_orbits_differ_from_the_table_as_stated() -> None:
    rng = np.random.default_rng(0)
    seen = [observe(rng, QUIET_SPECTRUM).orbits[0] for _ in range(3000)]
    speed = np.array([orbit.sma / orbit.period_d for orbit in seen]) / (SYSTEM.sma / SYSTEM.P)
    tilt = np.array([orbit.inclination_deg for orbit in seen]) - SYSTEM.i
    assert speed.mean() == pytest.approx(1.013, abs=3e-4) and speed.std() == pytest.approx(0.003, rel=0.06)
    assert tilt.std() == pytest.approx(0.35, rel=0.06)
    high = PlanetSpectrum(replace(SYSTEM, i=90.0), {}, QUIET_SPECTRUM.spectrum)
    share = np.mean([observe(rng, high).orbits[0].inclination_deg == 90 for _ in range(300)])
    assert share == 0, "mirrored, not clipped"


def test_limb_darkening_moves_and_scatters_as_stated() -> None:
    rng = np.random.default_rng(0)
    stars = StarLimbs(u1_offset=0.05, scatter=3, temperature=0)
    plain, other = (
        np.array([observe(rng, QUIET_SPECTRUM, w).limb for _ in range(800)]) for w in (DEFAULT_WORLD, world(limb=stars))
    )
    assert (other - plain.mean(axis=0)).mean(axis=0)[0, 0] == pytest.approx(0.05, abs=0.01)
    assert other[:, 0, 0].std() / plain[:, 0, 0].std() == pytest.approx(3, rel=0.1)
    law = observe(rng, QUIET_SPECTRUM, world(limb=StarLimbs(law="4-parameter")))
    assert law.limb.shape == (283, 4) and law.law == "4-parameter"


def test_spectra_and_chemistry_change_as_stated() -> None:
    half = observe(np.random.default_rng(0), QUIET_SPECTRUM, world(planets=PlanetKinds(amplitude=0.5, depth=1.2)))
    mean = QUIET_SPECTRUM.spectrum[1:].mean()
    assert half.spectrum[1:].mean() == pytest.approx(1.2 * mean)
    assert np.ptp(half.spectrum) == pytest.approx(0.5 * np.ptp(QUIET_SPECTRUM.spectrum))
    flat = [
        observe(np.random.default_rng(k), QUIET_SPECTRUM, world(planets=PlanetKinds(flat_share=0.3)))
        for k in range(300)
    ]
    share = np.mean([np.ptp(p.spectrum) < 0.1 * np.ptp(QUIET_SPECTRUM.spectrum) for p in flat])
    assert share == pytest.approx(0.3, abs=0.08)


def test_other_gases_are_there_in_their_share() -> None:
    from spectramind_nb.simulator.atmosphere import draw_atmosphere

    kinds = PlanetKinds(other_gases_share=0.5, isothermal=True, free_share=1.0)
    drawn = [draw_atmosphere(np.random.default_rng(k), 1200, 1.0, False, kinds) for k in range(200)]
    assert np.mean([bool({"O3", "HCN"} & set(air.mixing)) for air in drawn]) == pytest.approx(0.5, abs=0.1)
    assert all(np.ptp(air.temperature_K) == 0 for air in drawn)


# Light curves. The noise is left out: each effect is compared with its stated size.


def light_of(some: World, channel: Channel = AIRS, seed: int = 3) -> np.ndarray:
    """Relative light of one visit with a transit, as both paths compute it: in the bins, (T, B)."""
    planet = planet_in(some)
    events = draw_disturbances(np.random.default_rng(seed), some, planet, 0)
    hours = step_times(FULL, channel, 375).hours
    light = visit_transit(planet, 0, channel, hours, events)
    return light[:, AIRS_COLUMNS][:, ::-1] if channel == AIRS else light


def no_systematics(*words: Any) -> tuple[np.ndarray, np.ndarray]:
    """No drift and no movement, in place of `systematics`."""
    _, _, steps, seen, _ = words
    return np.ones((len(steps.hours), len(seen.flux))), np.zeros((len(steps.hours), 2))


@pytest.mark.parametrize("name", [name for name in NAMED_WORLDS if name not in ("default", "worn-detector")])
@pytest.mark.parametrize("channel", [AIRS, FGS1])
def test_both_paths_see_the_same_light(name: str, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames and light curves of a visit: the same transit, events and line shape, each computed in its own way."""
    some = NAMED_WORLDS[name]
    planet = planet_in(some)
    events = draw_disturbances(np.random.default_rng(3), some, planet, 0)
    monkeypatch.setattr(light_curves, "systematics", no_systematics)
    steps, flux, variance, _ = visit_curves(np.random.default_rng(4), planet, 0, FULL, channel, 125, False, events)
    seen = extraction(np.random.default_rng(4), channel, SYSTEM.Ts, planet.brightness, False, some)
    hours = (steps.hours[:, None] + GAUSS_POINTS * steps.spread_h).ravel()
    every = visit_transit(planet, 0, channel, hours, events)
    frames = np.einsum("tpb,p->tb", every.reshape(len(steps.hours), 3, -1), GAUSS_WEIGHTS)
    frames = frames[:, AIRS_COLUMNS][:, ::-1] if channel == AIRS else frames
    excess = (some.excess.noise_scale**2 - 1) / seen.flux / steps.length
    z = (flux / seen.flux - frames) / np.sqrt(variance / seen.flux**2 + excess)
    assert z.std() == pytest.approx(1, abs=0.03 if channel == AIRS else 0.2)
    assert abs(z.mean()) < 4 / np.sqrt(z.size) and np.abs(z.mean(axis=0)).max() < 4.5 / np.sqrt(len(z))


def test_events_that_do_not_occur_change_nothing() -> None:
    planet = planet_in()
    plain, stated = (
        simulate_features(np.random.default_rng(2), planet, FULL, world=w)
        for w in (DEFAULT_WORLD, replace(DEFAULT_WORLD, name="another name"))
    )
    for kind, arrays in plain.items():
        for name, array in arrays.items():
            assert np.array_equal(array, stated[kind][name]), name


def test_drift_has_the_stated_form_and_size() -> None:
    seen = extraction(np.random.default_rng(0), AIRS, SYSTEM.Ts, 1.0, False)
    steps = step_times(FULL, AIRS, 375)
    still = ImageMotion(jitter=0, wander_px=0, along_spectrum_px=0, focus=0)
    for drift, rank in (
        (GainDrifts(form="rank one", rms=(3e-4, 3e-4)), 1),
        (GainDrifts(form="full rank", rms=(3e-4, 3e-4)), 6),
    ):
        events = replace(QUIET, world=world(drift=drift, pointing=still))
        gain = np.stack([systematics(np.random.default_rng(k), AIRS, steps, seen, events)[0] for k in range(20)])
        slow = (gain - gain.mean(axis=1, keepdims=True)).reshape(20, 25, 15, 282).mean(axis=2)
        values = np.linalg.svd(slow - slow.mean(axis=2, keepdims=True), compute_uv=False)
        assert (np.median(values[:, 1] / values[:, 0]) > 0.15) == (rank > 1)
        if rank == 1:
            assert np.median(gain.std(axis=(1, 2))) == pytest.approx(3e-4, rel=0.15)


def test_a_ramp_decays_from_the_stated_size() -> None:
    first = []
    for seed in range(200):
        light = light_of(world(drift=GainDrifts(ramp=1e-3, ramp_hours=0.8)), seed=seed)
        first.append(light[0, 0] / light[-1, 0] - 1)
    assert np.std(first) == pytest.approx(1e-3, rel=0.15)


def test_red_noise_is_shared_or_chromatic_as_stated() -> None:
    for chromatic in (False, True):
        some = world(red_noise=RedNoise(rms=4e-5, minutes=20, chromatic=chromatic))
        quiet = light_of(world(red_noise=RedNoise(rms=0, minutes=20)))
        apart = np.concatenate([light_of(some, seed=k) / quiet - 1 for k in range(30)])
        assert apart.std() == pytest.approx(4e-5, rel=0.06)
        assert np.corrcoef(apart[:, 0], apart[:, -1])[0, 1] == pytest.approx(0.0 if chromatic else 1.0, abs=0.25)


def test_dilution_makes_transits_shallower_by_its_level() -> None:
    some = world(dilution=DilutingLight(level=0.02, scatter=0, gradient=0.5))
    bins = light_of(some) / light_of(some)[0]
    depth, plain = 1 - bins.min(axis=0), 1 - light_of(DEFAULT_WORLD).min(axis=0)
    assert plain[0] / depth[0] - 1 == pytest.approx(0.01, rel=0.01)
    assert plain[-1] / depth[-1] - 1 == pytest.approx(0.03, rel=0.01)


def test_spots_deepen_the_transit_and_crossings_fill_it() -> None:
    plain = 1 - light_of(DEFAULT_WORLD).min(axis=0)
    hidden = 1 - light_of(world(star=StarSurface(spot_fraction=0.05))).min(axis=0)
    contrast = spot_contrast(wavelengths()[1:], SYSTEM.Ts, 600)
    assert np.allclose(hidden / plain, 1 / (1 - 0.05 * contrast), rtol=1e-9)
    crossed = light_of(world(star=StarSurface(crossings=3, crossing_share=0.3))) - light_of(DEFAULT_WORLD)
    assert 0.5 < crossed.max(axis=0)[0] / (0.3 * contrast[0] * 0.01) < 3.1 and crossed.min() > -1e-12


def test_flares_have_their_number_size_and_colour() -> None:
    some = world(star=StarSurface(flares=1, flare_size=1e-3, flare_minutes=20))
    blue, red = (
        np.array(
            [(light_of(some, channel, seed) - light_of(DEFAULT_WORLD, channel, seed))[:, -1] for seed in range(60)]
        )
        for channel in (FGS1, AIRS)
    )
    peaks = blue.max(axis=1)
    assert np.mean(peaks > 0) == pytest.approx(1 - np.exp(-1), abs=0.17)
    assert peaks[peaks > 0].mean() == pytest.approx(1.3e-3, rel=0.4)
    assert 0.2 < red.max() / peaks.max() < 0.6


def test_white_noise_exceeds_the_stated_variance_by_its_scale() -> None:
    planet = planet_in()
    ratio = {}
    for scale in (1.0, 1.5):
        some = world(excess=Excess(noise_scale=scale), drift=GainDrifts(form="none"))
        bins = simulate_features(np.random.default_rng(2), planet, FULL, world=some)["airs_bins"]
        flux, variance = (bins[name][:, 1:].astype(float) for name in ("flux", "variance"))
        photon = flux.mean(axis=0) / step_times(FULL, AIRS, 375).length
        ratio[scale] = (np.var(np.diff(flux[:100], axis=0), axis=0) / 2 - variance.mean(axis=0)) / photon
    assert np.median(ratio[1.0]) == pytest.approx(0, abs=0.05) and np.median(ratio[1.5]) == pytest.approx(
        1.25, abs=0.08
    )


def test_movement_and_tilts_have_their_sizes() -> None:
    seen = extraction(np.random.default_rng(0), AIRS, SYSTEM.Ts, 1.0, False)
    steps, planet = step_times(FULL, AIRS, 375), planet_in()
    moved = ImageMotion(jitter=0, wander_px=0.06, along_spectrum_px=0.001, focus=0)
    shifts = np.stack(
        [
            systematics(np.random.default_rng(k), AIRS, steps, seen, replace(QUIET, world=world(pointing=moved)))[1]
            for k in range(60)
        ]
    )
    assert np.ptp(shifts, axis=1).mean(axis=0) == pytest.approx([0.06 * 1.45, 0.001 * 1.45], rel=0.25)
    tilted = world(jumps=Jumps(tilts=1, tilt_px=0.1), pointing=replace(moved, wander_px=0, along_spectrum_px=0))
    ends = []
    for k in range(300):
        events = draw_disturbances(np.random.default_rng(k), tilted, planet, 0)
        ends.append(systematics(np.random.default_rng(k), AIRS, steps, seen, events)[1][-1])
    assert np.std(ends, axis=0) == pytest.approx([0.1, 0.1], rel=0.2)


def test_line_shape_smooths_and_keeps_a_flat_transit() -> None:
    planet = planet_in()
    weights = smoothing_of_bins(planet, 1.0)
    assert np.allclose(weights.sum(axis=1), 1) and weights.min() >= 0
    wave = 1e-4 * np.sin(2 * np.pi * np.arange(282) / np.array([[4], [40]]))
    kept = (wave @ weights.T).std(axis=1) / wave.std(axis=1)
    assert kept[0] < 0.35 and kept[1] > 0.8
    assert np.array_equal(nearest_bins()[AIRS_COLUMNS][::-1], np.arange(1, 283))


def test_wings_of_the_image_are_those_of_real_edge_rows() -> None:
    profile = airs_profile(np.array([2.1, 3.8]), optics=DEFAULT_WORLD.optics)
    edges = profile[[0, 1, 2, -3, -2, -1]].mean(axis=0)
    assert edges == pytest.approx([6.3e-4, 1.2e-3], rel=0.05)
    assert np.allclose(profile.sum(axis=0), 1, atol=2e-3)


# Frames.


def test_frames_have_the_world_of_their_record(tmp_path: Path) -> None:
    simulate_dataset(tmp_path / "raw", 1, 0, seed=3, frames="tiny", world=NAMED_WORLDS["full-rank"])
    record = json.loads((tmp_path / "raw/simulation.json").read_text())
    assert world_of(record["world"]) == NAMED_WORLDS["full-rank"]
    with pytest.raises(UserError, match=r"another simulation \(world is .*full-rank"):
        simulate_dataset(tmp_path / "raw", 1, 0, seed=3, frames="tiny")
    truth = record["truth"]["train"]
    assert all(planet["limb_darkening"]["law"] == "quadratic" for planet in truth.values())


def test_frames_take_the_foreground_the_image_and_the_noise_of_the_world() -> None:
    level = Foregrounds(airs_e_s=(5.0, 5.0), strong_share=0)
    some = world(
        foreground=level, optics=Optics(image_width=1.3), excess=Excess(noise_scale=2), drift=GainDrifts(form="none")
    )
    exposures = [
        prepare_exposure(
            np.random.default_rng(0), AIRS, np.ones((200, 356)), SYSTEM.Ts, 1.0, events=replace(QUIET, world=w)
        )
        for w in (DEFAULT_WORLD, some)
    ]
    plain, other = (e.background - e.detector.dark.ravel() for e in exposures)
    assert np.median(other / exposures[1].detector.response.ravel()) == pytest.approx(5.0) and plain.max() < 0.5
    peak = [e.modes[0, :, 0].reshape(32, 356)[:, 180] for e in exposures]
    assert peak[1].max() < 0.85 * peak[0].max() and peak[1].sum() == pytest.approx(peak[0].sum(), rel=0.03)
    star = exposures[1].modes[0, :, 0].reshape(32, 356).sum(axis=0)[180] * AIRS.exposure_s
    assert exposures[1].light[:, 180].std() == pytest.approx(np.sqrt(3 / star), rel=0.15)


def test_strong_foregrounds_come_in_their_share() -> None:
    from spectramind_nb.simulator.frames import draw_foreground

    light, rng = Foregrounds(airs_e_s=(0.1, 0.3), strong_share=0.2, strong_factor=20), np.random.default_rng(0)
    levels = np.array([draw_foreground(rng, AIRS, light) for _ in range(2000)])
    assert np.mean(levels > 0.6) == pytest.approx(0.2, abs=0.04)


def test_planets_are_the_same_in_all_worlds_of_one_chemistry() -> None:
    plain, other = (
        draw_planet(planet_stream(0, "train", 5), world=w) for w in (DEFAULT_WORLD, NAMED_WORLDS["full-rank"])
    )
    assert plain.system == other.system and np.array_equal(plain.spectrum, other.spectrum)
    assert plain.orbits[0].t0_h == other.orbits[0].t0_h and draw_system(np.random.default_rng(0)) is not None
    assert len(airs_column_wavelengths()) == 356 and TINY.airs_pairs < FULL.airs_pairs


# Faults of the detector.


def worn(**faults: float) -> Disturbances:
    """Events of a visit in a world whose detector has `faults` only."""
    return draw_disturbances(np.random.default_rng(3), world(faults=DetectorFaults(**faults)), planet_in(), 0)


def exposed(events: Disturbances, pairs: int = 5) -> tuple[Exposure, np.ndarray]:
    """A visit of AIRS without a transit: the exposure, and the light of each pair in ADU, (pairs,)."""
    rng, light = np.random.default_rng(1), np.ones((pairs, 356))
    exposure = prepare_exposure(rng, AIRS, light, SYSTEM.Ts, 1.0, events=events)
    exposure.light[:] = 1.0
    adu = np.concatenate(list(expose(np.random.default_rng(2), exposure, 2))).astype(float)
    return exposure, (adu[:, 1] - adu[:, 0]).sum(axis=1)


def test_charge_persists_into_the_next_pair() -> None:
    (_, plain), (_, held) = (exposed(worn(persistence=share, bad_last=0.0)) for share in (0.0, 0.02))
    assert held[0] == pytest.approx(plain[0], rel=1e-3)
    assert held[1:].mean() == pytest.approx(1.02 * plain[1:].mean(), rel=1.5e-3)


def test_first_and_last_pairs_are_bad_in_their_share() -> None:
    exposure, light = exposed(worn(bad_first=1.0, bad_last=1.0))
    assert exposure.bad_first_pair and exposure.bad_last_pair
    assert light[[0, -1]] == pytest.approx(light[2] / 2, rel=0.02) and light[1] == pytest.approx(light[2], rel=0.01)
    assert not exposed(worn(bad_last=0.0))[0].bad_last_pair


def test_cosmic_rays_come_more_often() -> None:
    assert exposed(worn(rays=5.0))[0].ray_rate == pytest.approx(5 * exposed(worn())[0].ray_rate)


def test_calibration_files_are_wrong_as_stated() -> None:
    detector = exposed(worn())[0].detector
    right = ground_calibration(np.random.default_rng(0), detector)
    wrong = wrong_calibration(right, 0.2, 0.5)
    assert np.allclose(wrong.linear_corr[2:], 1.2 * right.linear_corr[2:]) and np.allclose(wrong.dark, 1.5 * right.dark)
    assert np.array_equal(wrong.linear_corr[:2], right.linear_corr[:2]) and np.array_equal(wrong.flat, right.flat)
    assert wrong_calibration(right, 0.0, 0.0) is right


@pytest.mark.parametrize("charge", [1e4, 3e4, 6e4])
def test_a_wrong_curvature_changes_contrasts_alike_in_both_paths(charge: float) -> None:
    """A pixel's own reads, corrected by a wrong polynomial, against the formula of the light curves."""
    corr = np.array(LINEAR_CORR[AIRS.name])
    wrong = corr * np.array([1, 1, *[1.2] * 4])
    lights = [np.polynomial.polynomial.polyval(measured_charge(q, corr), wrong) for q in (charge, 0.99 * charge)]
    contrast = (lights[0] - lights[1]) / lights[0]
    one = np.ones((1, 1))
    bent, _ = detector_parts(AIRS, one, charge * one, 0 * one)
    assert contrast / 0.01 - 1 == pytest.approx(0.2 * bent[0], rel=0.05)
    events = Disturbances(world(faults=DetectorFaults(nonlinearity=0.2)), faults={AIRS.name: np.array([0.2, 0.0, 0.0])})
    seen = Extraction(*[np.zeros(1)] * 5, bent, np.zeros(1))
    light = detector_light(events, AIRS, np.array([[1.0], [0.99]]), seen, 1)
    assert light[0, 0] - light[1, 0] == pytest.approx(0.01 * (1 + 0.2 * bent[0]))


def test_a_wrong_dark_map_and_persistence_change_light_curves() -> None:
    some = world(faults=DetectorFaults(dark=0.5, persistence=0.03))
    events = Disturbances(some, faults={FGS1.name: np.array([0.0, 0.5, 0.0])})
    seen = Extraction(*[np.zeros(1)] * 5, np.zeros(1), np.array([1e-3]))
    light = detector_light(events, FGS1, np.ones((4, 1)), seen, 3)[:, 0]
    assert light[1:] == pytest.approx(1 - 5e-4) and light[0] == pytest.approx((1 - 5e-4) * (1 - 0.01))
