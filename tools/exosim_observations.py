"""Make raw observations with ExoSim 2 in the layout of the challenge: a data set whose frames are not by our simulator.

    python3.12 -m venv exo && exo/bin/pip install exosim setuptools -e '.[demo]'
    exo/bin/python tools/exosim_observations.py [runs/exosim] [--planets 20] [--seed 26]

Planets, their spectra, orbits and limb darkening, and the pixel maps of the detectors are drawn by
`spectramind_nb.simulator`, world `default`. ExoSim 2 (Mugnai et al. 2025) makes the frames from them: star and zodiacal
light through the optics, image, pointing jitter, transit smoothed by the line shape, dark current, shot noise, cosmic
rays, reset noise, dead pixels, non-linearity, read noise, gain drift, digits. A planet whose files exist is kept.

A visit has 150 AIRS and 1,800 FGS1 exposures of the real length, one after the other: 720 s. Orbits are 37.5 times as
fast, and the written time axis is stretched by the same factor to 7.5 h. `CONVERTED` names all that had to be changed.
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spectramind_nb.core.errors import UserError
from spectramind_nb.core.instrument import (
    ADC_GAIN,
    ADC_OFFSET,
    AIRS,
    CHANNELS,
    FGS1,
    FGS1_BAND_UM,
    SATURATION_E,
    VISIT_HOURS,
    Channel,
    airs_column_wavelengths,
    wavelengths,
)
from spectramind_nb.simulator.data_sets import (
    FrameCount,
    claim_folder,
    draw_planets,
    write_axes,
    write_calibration,
    write_signal,
    write_tables,
)
from spectramind_nb.simulator.detector import Detector, draw_detector, ground_calibration
from spectramind_nb.simulator.frames import JITTER_PX, REFERENCE_STAR_K, airs_star, fgs1_star
from spectramind_nb.simulator.population import SimulatedOrbit, SimulatedPlanet, physics, planet_stream
from spectramind_nb.simulator.worlds import DEFAULT_WORLD

FRAMES = FrameCount(airs_pairs=150, fgs1_pairs=1800)
SECONDS = FRAMES.airs_pairs * AIRS.cycle_s  # that ExoSim observes
FASTER = VISIT_HOURS * 3600 / SECONDS
CONVERTED = {
    "time": f"{SECONDS:.0f} s are observed and written as {VISIT_HOURS} h; orbits are {FASTER} times as fast",
    "middle of an exposure": "t0 of each channel is moved so that a pair lies where the time axis puts it",
    "columns": "AIRS is simulated with rising wavelength and written with falling wavelength",
    "linear_corr": "ExoSim wants the inverse polynomial: it is fitted to each pixel's correction",
    "spectrum": "(Rp/Rs)^2 becomes Rp/Rs, constant over FGS1's band and outside AIRS's bins",
    "throughput": "is set so that the reference star gives the measured light of the challenge's planets",
    "f-numbers, plate scales": "are set by the measured width of the images and the measured jitter",
}

# Numbers for ExoSim. Sources: ExoSim's example files (*), and what public frames of the challenge show (^).

PIXEL_UM = 18.0  # *
OVERSAMPLING = 4  # *
AREA_M2 = 0.63  # Ariel's collecting area
SOLID_ANGLE = 6.7e-19  # (R/D)^2 of the reference star; of 1.2 solar radii at 33 pc
F_NUMBER = {"FGS1": 73.0, "AIRS-CH0": 21.0}  # ^ the brightest pixel of FGS1 holds 10%, two rows of AIRS 44 to 64%
ARCSEC_A_PIXEL = 0.1  # of FGS1; only its ratio to the jitter matters
ZODIACAL_FACTOR = 2.5  # *
RESET_NOISE_E = 10.0  # *
RAYS_CM2_S, RAYS_THAT_SATURATE = 5.0, 0.03  # *
DRIFT_RANGE = (6e-4, 3e-3)  # ^ max - min; most visits then have an rms in time of 140 to 480 ppm
DRIFT_ORDER = 5  # *


def planck(um: np.ndarray | float, kelvin: float) -> np.ndarray:  # photons/s/m2/um/sr
    """Compute the photon radiance of a black body."""
    return np.asarray(5.9958492e26 / np.asarray(um) ** 4 / np.expm1(14387.8 / (np.asarray(um) * kelvin)))


def throughput(channel: Channel) -> tuple[np.ndarray, np.ndarray]:  # um, share of the light
    """Return the throughput, by wavelength, at which the reference star gives the light of our simulator's star."""
    if channel is FGS1:
        low, high = FGS1_BAND_UM
        um = np.array([low - 0.1, low - 0.001, *np.linspace(low, high, 41), high + 0.001, high + 0.1])
        inside = (um >= low) & (um <= high)
        band = np.linspace(low, high, 2001)
        rate = planck(band, REFERENCE_STAR_K).mean() * (high - low)
        return um, inside * fgs1_star(REFERENCE_STAR_K, 1.0) / (rate * np.pi * SOLID_ANGLE * AREA_M2)
    um = airs_column_wavelengths()[::-1]
    density = airs_star(REFERENCE_STAR_K, 1.0)[::-1] / np.gradient(um)  # e-/s/um
    return um, density / (planck(um, REFERENCE_STAR_K) * np.pi * SOLID_ANGLE * AREA_M2)


def star_radius_over_distance(temperature_K: float, brightness: float) -> float:
    """Return R/D of a star that is `brightness` times as bright at 1.2 um as the reference star."""
    ratio = planck(1.2, REFERENCE_STAR_K) / planck(1.2, temperature_K)
    return float(np.sqrt(brightness * SOLID_ANGLE * ratio))


def inverse_linearity(linear_corr: np.ndarray, most_e: float = 1.3e5) -> np.ndarray:  # (5, rows, columns)
    """Fit the polynomial from true to measured charge, powers 1 to 5, whose inverse is `linear_corr`.

    `linear_corr` is (6, rows, columns), ascending, from measured to true electrons. Its constant is left out: it
    cancels in the difference of two reads. The error is below 1e-4 of the charge.
    """
    measured = most_e * (1 - np.cos(np.linspace(0, np.pi, 40)[1:])) / 2
    coefficients = linear_corr.reshape(6, -1)[1:]
    true = np.einsum("kp,tk->pt", coefficients, measured[:, None] ** np.arange(1, 6)) / most_e
    design = true[:, :, None] ** np.arange(1, 6) / measured[:, None] * most_e  # errors relative to the charge
    normal, right = design.transpose(0, 2, 1) @ design, design.sum(axis=1)
    fitted = np.linalg.solve(normal, right[:, :, None])[:, :, 0] * most_e ** (1.0 - np.arange(1, 6))
    return fitted.T.reshape(5, *linear_corr.shape[1:])


def planet_table(planet: SimulatedPlanet) -> np.ndarray:  # wavelength, Rp/Rs, u1, u2: (285, 4)
    """Tabulate a planet by wavelength: FGS1's values on both sides of its band, those of AIRS beyond its last bins."""
    bins = wavelengths()
    um = np.concatenate([[0.4, 1.2], [1.3], bins[1:], [4.5]])
    at = np.concatenate([[0, 0, 1], np.arange(1, len(bins)), [len(bins) - 1]])
    return np.column_stack([um, np.sqrt(planet.spectrum[at]), planet.limb[at]])


def observed_orbit(orbit: SimulatedOrbit, channel: Channel) -> dict[str, float]:
    """Return mid-transit (s) and period (s) of the compressed observation.

    The time axis states .15 s after the reset for every pair. ExoSim takes the light of a pair at the middle of its
    charge, for AIRS at 2.35 s.
    """
    middle = sum(channel.read_times_s) / 2
    return {"t0": (3600 * orbit.t0_h - 0.15) / FASTER + middle, "period": 86400 * orbit.period_d / FASTER}


def simulated_maps(detector: Detector) -> dict[str, np.ndarray]:
    """Return a detector's maps as ExoSim reads them, wavelength rising."""
    maps = {
        "dc_map_filename": detector.dark,
        "dp_map_filename": detector.dead,
        "qe_map_filename": detector.response[None],
        "pnl_filename": inverse_linearity(detector.linear_corr),
        "read_noise_filename": detector.read,
    }
    return {name: turned(array, detector.channel) for name, array in maps.items()}


def turned(frames: np.ndarray, channel: Channel) -> np.ndarray:
    """Reverse the columns of AIRS."""
    return np.ascontiguousarray(frames[..., ::-1]) if channel is AIRS else frames


def raw_reads(reads: np.ndarray, channel: Channel) -> np.ndarray:  # uint16, (pairs, 2, pixels)
    """Turn ExoSim's reads (2 * pairs, rows, columns) into pairs as the signal files hold them."""
    wanted = (2 * FRAMES.pairs(channel), channel.rows, channel.columns)
    if reads.shape != wanted or reads.dtype != np.uint16:
        raise UserError(
            f"ExoSim gave reads of {channel.name} as {reads.dtype} {reads.shape}, expected uint16 {wanted}. "
            "Fix: use ExoSim 2.2"
        )
    return turned(reads, channel).reshape(-1, 2, channel.pixels)


def options(planet: SimulatedPlanet, detector: Detector, folder: Path) -> dict[str, Any]:
    """Return ExoSim's options for one channel of a visit; write the files that they name into `folder`."""
    from astropy import units as u

    channel = detector.channel
    files = {}
    for name, array in simulated_maps(detector).items():
        files[name] = str(folder / f"{name}.npy")
        np.save(files[name], array)
    table = planet_table(planet)
    for name, head, columns in (("rp", "wavelength,rp/rs", [0, 1]), ("ldc", "wavelength,ldc1,ldc2", [0, 2, 3])):
        files[name] = str(folder / f"{name}.csv")
        np.savetxt(files[name], table[:, columns], delimiter=",", header=head, comments="", fmt="%.9g")
    um, _ = throughput(channel)
    ratio = star_radius_over_distance(planet.system.Ts, planet.brightness)
    orbit, place = planet.orbits[0], {"ra": 330.8 * u.deg, "dec": 18.9 * u.deg}
    transit = {name: value * u.s for name, value in observed_orbit(orbit, channel).items()}
    transit |= {"signal_task": "EstimatePlanetarySignal", "sma": orbit.sma, "inc": orbit.inclination_deg * u.deg}
    transit |= {"w": 0 * u.deg, "ecc": 0.0, "rp": files.pop("rp"), "limb_darkening": "quadratic"}
    transit |= {"limb_darkening_coefficients": files.pop("ldc")}
    star = {"value": "star", "source_target": True, "source_type": "planck", "T": planet.system.Ts * u.K}
    star |= {"R": planet.system.Rs * u.R_sun, "M": planet.system.Ms * u.M_sun, "z": 0.0, "planet": transit, **place}
    star["D"] = (star["R"] / ratio).to(u.pc)
    zodi = {"opticalElement": {"value": "zodiacal", "zodiacal_factor": ZODIACAL_FACTOR}}
    mirror = optics("M1", um, np.ones_like(um))
    telescope = {"Atel": AREA_M2 * u.m**2, "optical_path": {"opticalElement": mirror}}
    rows, columns = (value * ARCSEC_A_PIXEL * u.arcsec for value in JITTER_PX["FGS1"])
    return {
        "wl_grid": {"wl_min": um[0] * u.um, "wl_max": um[-1] * u.um, "logbin_resolution": 6000},
        "time_grid": {"start_time": 0 * u.hour, "end_time": (SECONDS * u.s).to(u.hour)},
        "pointing": place,
        "jitter": {"jitter_task": "EstimatePointingJitter", "spatial": rows, "spectral": columns, "slicing": True}
        | {"frequency_resolution": 10 * u.Hz},
        "sky": {"source": star, "foregrounds": zodi},
        "payload": {"Telescope": telescope, "channel": channel_options(channel, files)},
    }


def optics(name: str, um: np.ndarray, share: np.ndarray) -> dict[str, Any]:
    """Return an optical element at 70 K that lets a share of the light pass."""
    from astropy import units as u
    from astropy.table import QTable

    table = QTable({"Wavelength": um * u.um, "Efficiency": share, "Emissivity": np.full_like(um, 0.03)})
    keys = {"wavelength_key": "Wavelength", "efficiency_key": "Efficiency", "emissivity_key": "Emissivity"}
    return {"value": name, "task_model": "LoadOpticalElement", "temperature": 70 * u.K, "data": table, **keys}


def channel_options(channel: Channel, maps: dict[str, str]) -> dict[str, Any]:
    """Return ExoSim's options for a channel with the maps of its pixels."""
    from astropy import units as u
    from astropy.table import QTable

    um, share = throughput(channel)
    scale = ARCSEC_A_PIXEL * JITTER_PX["FGS1"][0] / JITTER_PX[channel.name][0] / PIXEL_UM
    steps = [round(10 * seconds) for seconds in (*channel.read_times_s, channel.cycle_s)]  # of .1 s
    made: dict[str, Any] = {
        "value": channel.name,
        "type": "photometer" if channel is FGS1 else "spectrometer",
        "wl_min": um[0] * u.um,
        "wl_max": um[-1] * u.um,
        "optical_path": {"opticalElement": optics("filter", um, share)},
        "Fnum_x": F_NUMBER[channel.name],
        "Fnum_y": F_NUMBER[channel.name],
        "psf": {"shape": "Airy", "nzero": 8 if channel is FGS1 else 4},
        "qe": {"responsivity_task": "LoadResponsivity"},
        "readout": {"readout_frequency": 10 * u.Hz, "n_NRDs_per_group": 1, "n_groups": 2, "n_sim_clocks_Ground": 0}
        | {"n_sim_clocks_first_NDR": steps[0], "n_sim_clocks_groups": steps[1] - steps[0]}
        | {"n_sim_clocks_Reset": steps[2] - steps[1], "n_exposures": FRAMES.pairs(channel)},
    }
    made["qe"]["data"] = QTable({"Wavelength": um * u.um, channel.name: np.ones_like(um)})
    if channel is AIRS:
        place = (PIXEL_UM * (np.arange(channel.columns) + 0.5)) * u.um
        solution = QTable({"Wavelength": um * u.um, "x": place, "y": 0 * place})
        made["wl_solution"] = {"wl_solution_task": "LoadWavelengthSolution", "data": solution}
    made["detector"] = {
        **{"plate_scale": scale * u.arcsec / u.um, "delta_pix": PIXEL_UM * u.um, "oversampling": OVERSAMPLING},
        **{"spatial_pix": channel.rows, "spectral_pix": channel.columns},
        **{"irf_task": "CreateIntrapixelResponseFunction", "diffusion_length": 1.7 * u.um},
        **{"intra_pix_distance": 0 * u.um, "convolution_method": "fftconvolve", "ils_task": "LoadILS"},
        **{"add_background_to_se": False, "add_foregrounds_to_se": True, "qe_map_task": "LoadQeMapNumpy"},
        **{"well_depth": SATURATION_E * u.ct, "f_well_depth": 1.0, "dark_current": True},
        **{"dc_task": "AddDarkCurrentMapNumpy", "shot_noise": True, "cosmic_rays": True},
        **{"cosmic_rays_rate": RAYS_CM2_S * u.ct / u.cm**2 / u.s, "saturation_rate": RAYS_THAT_SATURATE},
        **{"cosmic_rays_randomise": True, "ktc_offset": True, "ktc_sigma": RESET_NOISE_E * u.ct},
        **{"dead_pixels": True, "dp_map_task": "ApplyDeadPixelMapNumpy", "pixel_non_linearity": True},
        **{"pnl_map_task": "LoadPixelsNonLinearityMapNumpy", "saturation": True, "read_noise": True},
        **{"read_noise_task": "AddReadNoiseMapNumpy", "gain_drift": True, "ADC": True, "ADC_num_bit": 16},
        **{"gain_drift_amplitude_range_min": DRIFT_RANGE[0], "gain_drift_amplitude_range_max": DRIFT_RANGE[1]},
        **{f"gain_coeff_order_{axis}": DRIFT_ORDER for axis in "tw"},
        **{f"gain_coeff_{axis}_{end}": size for axis in "tw" for end, size in (("min", -1.0), ("max", 1.0))},
        **{"ADC_gain": ADC_GAIN, "ADC_offset": ADC_OFFSET, "ADC_round_method": "floor"},
        **maps,
    }
    return made


def observe_channel(chosen: dict[str, Any], folder: Path, channel: Channel, seeds: tuple[int, int]) -> np.ndarray:
    """Run ExoSim's three recipes on one channel and return its reads; `seeds` are of the jitter and of the rest."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    import h5py
    from exosim import recipes
    from exosim.log import set_log_level
    from exosim.utils import RunConfig

    set_log_level("ERROR")
    RunConfig.n_job = 1  # its transit task shares one batman object between threads
    RunConfig.chunk_size = 64  # MB; with one chunk a visit, no transit is applied to the wrong chunk
    plane, exposures, reads = (str(folder / f"{name}.h5") for name in ("plane", "exposures", "reads"))
    recipes.CreateFocalPlane(chosen, plane)
    RunConfig.random_seed = seeds[0]
    recipes.CreateSubExposures(plane, exposures, chosen)
    RunConfig.random_seed = seeds[1]
    recipes.CreateNDRs(exposures, reads, chosen)
    with h5py.File(reads, "r") as file:
        return raw_reads(file[f"channels/{channel.name}/NDRs/data"][()], channel)


def write_observation(out: Path, planet: SimulatedPlanet, seed: int, number: int) -> None:
    """Make one visit of a planet and write its twelve files."""
    jitter_seed = int(planet_stream(seed, "train", number, 8).integers(2**31))
    for k, channel in enumerate(CHANNELS.values()):
        signal = out / f"{channel.name}_signal_0.parquet"  # written last
        if signal.exists():
            continue
        rng = planet_stream(seed, "train", number, 9, k)
        detector = draw_detector(rng, channel)
        with tempfile.TemporaryDirectory() as folder:
            chosen = options(planet, detector, Path(folder))
            pairs = observe_channel(chosen, Path(folder), channel, (jitter_seed, int(rng.integers(2**31))))
        write_calibration(out / f"{channel.name}_calibration_0", ground_calibration(rng, detector))
        write_signal(signal, channel, len(pairs), [pairs])


def exosim_version() -> str:
    """Return ExoSim's version; raise `UserError` where it is missing."""
    try:
        import exosim
    except ImportError as error:
        raise UserError(
            f"ExoSim 2 is missing ({error}). Fix: make an environment of its own with Python 3.12 or newer, "
            "then `pip install exosim setuptools -e '.[demo]'` there"
        ) from error
    return str(exosim.__version__)


def make(out: Path, count: int, seed: int) -> None:
    """Make a data set of `count` planets, all in the folder `train`."""
    version = exosim_version()
    drawn = {
        label: replace(planet, orbits=planet.orbits[:1], fgs1_delay_h=(0.0,))
        for label, planet in draw_planets(seed, "train", count).items()
    }
    planets: dict[str, dict[int, SimulatedPlanet]] = {"train": drawn, "test": {}}
    request = {**physics(), "frames_by": f"ExoSim {version}", "seed": seed, "planets": count}
    claim_folder(out, request | {"converted": CONVERTED, "world": DEFAULT_WORLD.record()}, planets)
    write_axes(out, FRAMES)
    write_tables(out, planets)
    for number, (label, planet) in enumerate(drawn.items()):
        folder, start = out / "train" / str(label), (time.process_time(), time.perf_counter())
        write_observation(folder, planet, seed, number)
        used, waited = time.process_time() - start[0], time.perf_counter() - start[1]
        print(
            f"planet {number + 1}/{count}: {used:.0f} s of processor time in {waited:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def main() -> None:
    """Read the arguments and make the data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=Path("runs/exosim"))
    parser.add_argument("--planets", type=int, default=20)
    parser.add_argument("--seed", type=int, default=26)
    args = parser.parse_args()
    if args.planets < 1 or args.seed < 0:
        parser.error("--planets: take 1 or more; --seed: take 0 or more")
    try:
        make(args.out, args.planets, args.seed)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
