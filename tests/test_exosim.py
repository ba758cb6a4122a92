"""Conversions between our planets and maps and what ExoSim 2 reads and writes; ExoSim itself is not needed."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from spectramind_nb.core.errors import UserError
from spectramind_nb.core.instrument import AIRS, CHANNELS, FGS1, airs_column_wavelengths, wavelengths
from spectramind_nb.detector.raw import read_calibration
from spectramind_nb.simulator.data_sets import FrameCount, frame_hours, visit_files
from spectramind_nb.simulator.detector import draw_detector
from spectramind_nb.simulator.frames import airs_star, fgs1_star
from spectramind_nb.simulator.population import SimulatedOrbit, SimulatedPlanet, System

pytestmark = pytest.mark.slow

FILE = Path(__file__).parents[1] / "tools/exosim_observations.py"
spec = importlib.util.spec_from_file_location("exosim_observations", FILE)
assert spec and spec.loader
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture
def planet() -> SimulatedPlanet:
    system = System(Rs=1.2, Ms=1.1, Ts=5500.0, Mp=1.0, e=0.0, P=4.0, sma=10.0, i=89.0)
    spectrum = 0.01 + 1e-4 * np.sin(np.arange(283))
    limb = np.column_stack([np.linspace(0.4, 0.1, 283), np.linspace(0.2, 0.1, 283)])
    return SimulatedPlanet(system, {}, spectrum, limb, 0.8, (SimulatedOrbit(3.7, 4.0, 10.1, 89.1),), (0.0,))


@pytest.mark.parametrize("channel", CHANNELS.values(), ids=list(CHANNELS))
def test_the_correction_undoes_the_non_linearity_that_exosim_applies(channel: tool.Channel) -> None:
    corr = draw_detector(np.random.default_rng(1), channel).linear_corr
    to_measured = tool.inverse_linearity(corr)
    for true in (500.0, 2e4, 6e4, 1.2e5):
        measured = sum(part * true ** (k + 1) for k, part in enumerate(to_measured))
        corrected = sum(part * measured**k for k, part in enumerate(corr)) - corr[0]
        assert np.abs(corrected / true - 1).max() < 1e-4
    assert np.median(measured / true) < 0.96  # and the correction is not a small one


@pytest.mark.parametrize("kelvin", [4500.0, 6500.0])
def test_a_star_gives_the_light_of_our_simulator_through_the_throughput(kelvin: float) -> None:
    solid_angle = np.pi * tool.star_radius_over_distance(kelvin, 1.3) ** 2
    um, share = tool.throughput(AIRS)
    rate = tool.planck(um, kelvin) * solid_angle * tool.AREA_M2 * share * np.gradient(um)
    np.testing.assert_allclose(rate[::-1], airs_star(kelvin, 1.3), rtol=1e-5)
    um, share = tool.throughput(FGS1)
    rate = np.trapezoid(tool.planck(um, kelvin) * solid_angle * tool.AREA_M2 * share, um)
    assert rate == pytest.approx(fgs1_star(kelvin, 1.3), rel=0.02)  # our simulator takes the band's middle alone


def test_planck_is_the_photon_radiance_of_a_black_body() -> None:
    um = np.geomspace(0.02, 3000, 20000)
    assert np.trapezoid(tool.planck(um, 5000.0) * np.pi, um) == pytest.approx(1.5205e15 * 5000**3, rel=1e-3)


@pytest.mark.parametrize("channel", CHANNELS.values(), ids=list(CHANNELS))
def test_every_pair_has_the_orbits_phase_of_its_place_on_the_time_axis(channel: tool.Channel) -> None:
    orbit = SimulatedOrbit(3.7, 4.0, 10.0, 89.0)
    compressed = tool.observed_orbit(orbit, channel)
    written_h = frame_hours(tool.FRAMES, channel).reshape(-1, 2).mean(axis=1)
    observed_s = np.arange(tool.FRAMES.pairs(channel)) * channel.cycle_s + sum(channel.read_times_s) / 2
    phase = (observed_s - compressed["t0"]) / compressed["period"]
    np.testing.assert_allclose(phase, (written_h - 3.7) / (24 * 4.0), atol=1e-12)


def test_spectrum_and_limb_darkening_are_those_of_the_bins(planet: SimulatedPlanet) -> None:
    table = tool.planet_table(planet)
    bins = np.array([np.interp(wavelengths(), table[:, 0], column) for column in table[:, 1:].T])
    np.testing.assert_allclose(bins[0] ** 2, planet.spectrum, rtol=1e-12)
    np.testing.assert_allclose(bins[1:].T, planet.limb, rtol=1e-12)
    ends = np.interp([0.6, 0.8, 1.7, 4.07], table[:, 0], table[:, 1])
    np.testing.assert_allclose(ends**2, planet.spectrum[[0, 0, 1, -1]])


def test_reads_are_written_in_the_challenges_layout(
    tmp_path: Path, planet: SimulatedPlanet, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {}

    def fake(options: dict, folder: Path, channel: tool.Channel, seeds: tuple[int, int]) -> np.ndarray:
        chosen[channel.name] = options, {path.stem: np.load(path) for path in folder.glob("*.npy")}
        reads = np.zeros((2 * tool.FRAMES.pairs(channel), channel.rows, channel.columns), np.uint16)
        reads[3, 5, :] = np.arange(channel.columns)  # the second read of the second pair
        return tool.raw_reads(reads, channel)

    monkeypatch.setattr(tool, "FRAMES", FrameCount(airs_pairs=3, fgs1_pairs=4))
    monkeypatch.setattr(tool, "observe_channel", fake)
    tool.write_observation(tmp_path, planet, seed=1, number=0)
    assert all(path.exists() for path in visit_files(tmp_path, 0))
    for channel in CHANNELS.values():
        table = pq.read_table(tmp_path / f"{channel.name}_signal_0.parquet")
        frames = np.stack([column.to_numpy() for column in table.columns], axis=1)
        assert frames.dtype == np.uint16
        line = np.arange(channel.columns)
        wanted = line[::-1] if channel is AIRS else line
        np.testing.assert_array_equal(frames[3].reshape(channel.rows, -1)[5], wanted)
        options, maps = chosen[channel.name]
        kept = read_calibration(tmp_path / f"{channel.name}_calibration_0", channel)
        simulated = maps["dp_map_filename"]
        np.testing.assert_array_equal(kept.dead, simulated[:, ::-1] if channel is AIRS else simulated)
        assert options["payload"]["channel"]["readout"]["n_exposures"] == tool.FRAMES.pairs(channel)
    solution = chosen["AIRS-CH0"][0]["payload"]["channel"]["wl_solution"]["data"]
    np.testing.assert_allclose(solution["Wavelength"].value[::-1], airs_column_wavelengths())


def test_a_missing_exosim_and_unknown_reads_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "exosim", None)
    with pytest.raises(UserError, match=r"ExoSim 2 is missing .*pip install exosim"):
        tool.exosim_version()
    with pytest.raises(UserError, match=r"reads of FGS1 as uint32 \(2, 32, 32\), expected uint16 \(3600, 32, 32\)"):
        tool.raw_reads(np.zeros((2, 32, 32), np.uint32), FGS1)
