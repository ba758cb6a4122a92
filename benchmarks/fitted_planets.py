"""Simulated planets and their fits, kept on disk part by part; planets with noise that the fit was not told of."""

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from spectramind_nb.core.files import atomic_path
from spectramind_nb.core.instrument import AIRS, N_BINS, Channel, airs_column_wavelengths
from spectramind_nb.core.metric import DEFAULT_REFERENCE
from spectramind_nb.core.versions import VERSIONS
from spectramind_nb.pipeline.provenance import code_hash
from spectramind_nb.prior.flat import flat_depth
from spectramind_nb.simulator import light_curves
from spectramind_nb.simulator.bank import Bank, make_bank, read_bank
from spectramind_nb.simulator.data_sets import FRAME_COUNTS
from spectramind_nb.simulator.frames import airs_profile, fgs1_image, image_modes
from spectramind_nb.simulator.population import SimulatedPlanet, World, observe, planet_stream
from spectramind_nb.transits.fit import fit_planet
from spectramind_nb.transits.fit_file import white_light
from spectramind_nb.transits.fit_report import Fit
from spectramind_nb.transits.light_curve import Orbit, transit
from spectramind_nb.transits.model import Block, FitOptions, blocks_of
from spectramind_nb.uncertainty.sigma_factors import Fits

Features = dict[str, dict[str, np.ndarray]]
KINDS = ("train", "calib", "test", "ood", "bank", "ood_bank")
PART = 20  # planets fitted, and saved, at a time
WIDER, USUAL_MODES = 1.15, light_curves.profile_modes  # the star's image, where the stress is that


def tell(what: str, done: int, total: int) -> None:
    """Progress on the terminal."""
    print(f"\r{what} {done}/{total}   ", end="" if done < total else "\n", file=sys.stderr, flush=True)


def side_by_side(
    pool: ProcessPoolExecutor, what: str, task: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]
) -> list[Any]:
    """`task(*job)` for all jobs, with progress; what waits is cancelled where one fails."""
    futures = [pool.submit(task, *job) for job in jobs]
    try:
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            tell(what, done, len(jobs))
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    return [future.result() for future in futures]


def open_pool(workers: int) -> ProcessPoolExecutor:
    """Processes of one thread each."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


@dataclass(frozen=True)
class Setting:
    """Where a benchmark's planets come from, and where its results are kept."""

    folder: Path
    seed: int
    workers: int

    def seed_of(self, kind: str) -> int:
        """Seed of one kind of planets; no two kinds of any two settings share one."""
        return 100 * self.seed + 1 + KINDS.index(kind)

    def bank(self, kind: str, count: int) -> Bank:
        """The first `count` worlds of one kind; made where no such bank is kept yet, a larger one included."""
        kept = sorted(self.folder.glob(f"{kind}_{self.seed}_{VERSIONS['simulator']}_*.npz"))
        large = [path for path in kept if int(path.stem.rsplit("_", 1)[1]) >= count]
        path = large[0] if large else self.folder / f"{kind}_{self.seed}_{VERSIONS['simulator']}_{count:06d}.npz"
        if not large:
            told = partial(tell, f"{kind} spectra")
            make_bank(path, count, self.seed_of(kind), kind.startswith("ood"), None, self.workers, told, quick=True)
        bank = read_bank(path)
        return replace(bank, parameters=bank.parameters[:count], spectrum=bank.spectrum[:count])


# What the fit was not told of.


def add_drift(rng: np.random.Generator, curves: np.ndarray, drift: np.ndarray) -> None:
    """Multiply light curves by a gain drift of the given form, with an rms as the simulator draws it."""
    curves *= 1 + drift / drift.std() * np.exp(rng.uniform(np.log(139e-6), np.log(482e-6)))


def more_drift(rng: np.random.Generator, features: Features, order: int) -> None:
    """Gain drift of polynomials up to `order` in time and place, as large as the simulator's."""
    for curves, bins in ((features["fgs1_white"]["flux"][:, None], 1), (features["airs_bins"]["flux"][:, 1:], 282)):
        terms = rng.uniform(-1, 1, (order + 1, order + 1 if bins > 1 else 1))
        times, places = (np.linspace(-1, 1, count) for count in (len(curves), bins))
        add_drift(rng, curves, np.vander(times, len(terms), True) @ terms @ np.vander(places, terms.shape[1], True).T)


def exosim_drift(rng: np.random.Generator, features: Features) -> None:
    """Apply gain drift of ExoSim 2's form, f(time) g(column), as large as the simulator's."""
    for curves, bins in ((features["fgs1_white"]["flux"][:, None], 1), (features["airs_bins"]["flux"][:, 1:], 282)):
        time, place = (np.vander(np.linspace(0, 1, count), 6) @ rng.uniform(-1, 1, 6) for count in (len(curves), bins))
        add_drift(rng, curves, np.outer(time - time.mean(), place if bins > 1 else np.ones(1)))


def red_noise(rng: np.random.Generator, features: Features) -> None:
    """Noise common to both channels: 40 ppm a step of 72 s, remembered for 20 minutes."""
    white, bins = features["fgs1_white"], features["airs_bins"]
    memory, series = np.exp(-0.02 * 3), 40e-6 * rng.normal(size=len(bins["time"]))
    for k in range(1, len(series)):
        series[k] = memory * series[k - 1] + np.sqrt(1 - memory**2) * series[k]
    fine, coarse = (part["time"] + 100.0 * part["visit"] for part in (white, bins))
    bins["flux"][:, 1:] *= 1 + series[:, None]
    white["flux"] *= 1 + np.interp(fine, coarse, series)


def baseline_step(rng: np.random.Generator, features: Features) -> None:
    """A jump by 200 ppm in each channel, at a random time."""
    for part in (features["fgs1_white"], features["airs_bins"]):
        part["flux"].T[...] *= 1 + 2e-4 * (part["time"] > rng.uniform(0.5, 7))


STRESSES: dict[str, Callable[[np.random.Generator, Features], None] | None] = {
    "": None,
    "drift one order higher": partial(more_drift, order=6),
    "drift two orders higher": partial(more_drift, order=7),
    "drift of ExoSim 2's form": exosim_drift,
    "correlated noise": red_noise,
    "baseline step": baseline_step,
    "jitter and width": None,
    "image 15% wider": None,
}


@lru_cache(maxsize=2)
def wider_modes(channel: Channel) -> tuple[np.ndarray, np.ndarray]:
    """As `profile_modes`, where sums are still weighed by the usual image, and a wider one moves."""

    def image(row: float, column: float, stretch: float) -> np.ndarray:
        wide = WIDER * (1 + stretch) - 1
        return airs_profile(airs_column_wavelengths(), row, wide) if channel == AIRS else fgs1_image(row, column, wide)

    modes = image_modes(image).T.reshape(-1, channel.rows, channel.columns)
    return USUAL_MODES(channel)[0], modes[[1, 3, 6]]  # of `MODES`


@contextmanager
def changed_simulator(stress: str) -> Iterator[None]:
    """The simulator without its own drift, with other jitter, or with another image, where the stress is that."""
    changes: dict[str, Any] = {}
    if "drift" in stress:
        changes["draw_gain_drift"] = lambda rng, terms: np.zeros((6, terms))
    if "wider" in stress:
        changes["profile_modes"] = wider_modes
    if "jitter" in stress:
        changes["JITTER_PX"] = {name: (2 * row, 2 * column) for name, (row, column) in light_curves.JITTER_PX.items()}
        changes["JITTER_WIDTH"] = 3 * light_curves.JITTER_WIDTH
    if not changes:
        yield
        return
    with patch.multiple(light_curves, **changes):
        yield


def simulated(seed: int, number: int, world: World, ood: bool, stress: str) -> tuple[SimulatedPlanet, Features]:
    """A planet as it is seen, and its features."""
    planet = observe(planet_stream(seed, "bank", number, 1), world)
    with changed_simulator(stress):
        rng = planet_stream(seed, "bank", number, 3)
        features = light_curves.simulate_features(rng, planet, FRAME_COUNTS["full"], ood=ood)
    if disturb := STRESSES[stress]:
        disturb(planet_stream(seed, "bank", number, 5), features)
    return planet, features


# Fits.


GUIDE = ("time", "flux", "model", "drift", "centroid row", "centroid column", "jitter row", "jitter column")


@dataclass(frozen=True)
class Curves:
    """What a network sees of a planet beside depths: FGS1's first visit as `GUIDE`, and the star's brightness."""

    guide: np.ndarray  # (T, 8)
    baseline: np.ndarray  # log10 of the flux out of transit, electrons a step, (283,)


@dataclass(frozen=True)
class Fitted:
    """Depths of one planet, their covariance as the transit fit gives it, the time it took, and curves where kept."""

    depth: np.ndarray
    noise_variance: np.ndarray
    nuisance: np.ndarray
    quality: dict[str, float]
    seconds: float
    curves: Curves | None = None


def baseline_of(bins: Mapping[str, np.ndarray]) -> np.ndarray:  # (283,)
    """log10 of the median flux of each bin."""
    return np.log10(np.nanmedian(np.where(bins["flux"] > 0, bins["flux"], np.nan), axis=0)).astype(np.float32)


def curves_of(features: Features, blocks: Sequence[Block], fit: Fit) -> Curves:
    """Curves of the first visit."""
    white, light = features["fgs1_white"], white_light(blocks, fit)
    seen, fitted = white["visit"] == 0, (light["visit"] == 0) & (light["channel"] == 0)
    parts = [white["time"][seen], *(light[f"white_{name}"][fitted] for name in GUIDE[1:4])]
    guide = np.column_stack([*parts, white["centroid"][seen], white["jitter"][seen]])
    return Curves(guide.astype(np.float32), baseline_of(features["airs_bins"]))


def fitted(features: Features, star: Mapping[str, float], options: FitOptions) -> Fitted:
    """The transit fit; as in a run, the population's mean and spread for a planet that can't be fitted."""
    start = time.perf_counter()
    try:
        blocks = blocks_of(features)
        fit = fit_planet(blocks, star, options)
    except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
        print(f"a planet was not fitted: {error!r}", file=sys.stderr)
        flat, wide = np.full(N_BINS, DEFAULT_REFERENCE.mean), np.full((N_BINS, 1), DEFAULT_REFERENCE.std)
        return Fitted(flat, 1e-4 * wide[:, 0] ** 2, wide, {}, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    nuisance, curves = slim(fit.nuisance, fit.noise_variance), curves_of(features, blocks, fit)
    return Fitted(fit.depth, fit.noise_variance, nuisance, fit.quality, seconds, curves)


def slim(nuisance: np.ndarray, noise_variance: np.ndarray) -> np.ndarray:
    """The same covariance to a part in 10,000 of the noise, in fewer columns."""
    root = np.sqrt(noise_variance)[:, None]
    directions, size, _ = np.linalg.svd(nuisance / root, full_matrices=False)
    return root * directions[:, size > 0.01] * size[size > 0.01]


def flat_fit(features: Features, star: Mapping[str, float]) -> Fitted:
    """The depth of `flat`, in all bins."""
    start = time.perf_counter()
    depth, none = np.full(N_BINS, flat_depth(features["airs_bins"], star)), np.zeros((N_BINS, 1))
    return Fitted(depth, none[:, 0], none, {}, time.perf_counter() - start)


def white_noise(planet: SimulatedPlanet, features: Features) -> np.ndarray:  # (283,)
    """Variance of the depths, were orbit, limb, star and drift known: that of white noise."""
    information = np.zeros(N_BINS)
    for kind, bins in (("fgs1_white", slice(1)), ("airs_bins", slice(1, None))):
        part = features[kind]
        flux, variance = (part[name].reshape(len(part["time"]), -1) for name in ("flux", "variance"))
        used = bins if flux.shape[1] > 1 else slice(None)
        for visit, its in enumerate(planet.orbits):
            seen = part["visit"] == visit
            relative = variance[seen, used] / np.median(flux[seen, used], axis=0) ** 2
            t0 = its.t0_h + (planet.fgs1_delay_h[visit] if kind == "fgs1_white" else 0.0)
            orbit = Orbit(t0, 24 * its.period_d, its.sma, its.impact)
            slope = transit(part["time"][seen], orbit, planet.spectrum[bins], *planet.limb[bins].T).depth
            information[bins] += (slope**2 / relative).sum(axis=0)
    return 1 / information


def floor_fit(rng: np.random.Generator, planet: SimulatedPlanet, features: Features) -> Fitted:
    """Depths with white noise alone."""
    variance = white_noise(planet, features)
    depth = planet.spectrum + np.sqrt(variance) * rng.normal(size=N_BINS)
    return Fitted(depth, variance, np.zeros((N_BINS, 1)), {}, 0.0)


def packed_curves(fits: Sequence[Fitted]) -> dict[str, np.ndarray]:
    """Curves of fits as arrays of a file; nan where a planet was not fitted."""
    kept = [fit.curves for fit in fits if fit.curves]
    if not kept:
        return {}
    none = Curves(*(np.full_like(values, np.nan) for values in vars(kept[0]).values()))
    return {name: np.array([vars(fit.curves or none)[name] for fit in fits]) for name in vars(none)}


def packed(name: str, fits: Sequence[Fitted]) -> dict[str, np.ndarray]:
    """Fits as arrays of a file."""
    most = max(fit.nuisance.shape[1] for fit in fits)
    nuisance = [np.pad(fit.nuisance, ((0, 0), (0, most - fit.nuisance.shape[1]))) for fit in fits]
    return {
        f"{name}_depth": np.array([fit.depth for fit in fits]),
        f"{name}_noise": np.array([fit.noise_variance for fit in fits]),
        f"{name}_nuisance": np.array(nuisance, np.float32),
        f"{name}_quality": np.array(json.dumps([fit.quality for fit in fits])),
        f"{name}_seconds": np.array([fit.seconds for fit in fits]),
    }


def unpacked(name: str, arrays: Mapping[str, np.ndarray]) -> Fits:
    """The same as chapter 06 reads them."""
    nuisance = arrays[f"{name}_nuisance"].astype(float)
    covariance = nuisance @ nuisance.transpose(0, 2, 1)
    covariance[:, range(N_BINS), range(N_BINS)] += arrays[f"{name}_noise"]
    stars, quality = (pd.DataFrame(json.loads(str(arrays[key]))) for key in ("stars", f"{name}_quality"))
    return Fits(arrays["number"], arrays[f"{name}_depth"], covariance, stars, quality)


def fit_part(path: Path, seed: int, worlds: Mapping[int, World], ood: bool, stress: str, yardsticks: bool) -> None:
    """Fit some planets of a bank in the plain way, and as the yardsticks do where asked to; write the file `path`."""
    found: dict[str, list[Fitted]] = {name: [] for name in ("flat", "plain", "simulator", "floor")}
    for number, world in worlds.items():
        planet, features = simulated(seed, number, world, ood, stress)
        star = planet.system.row()
        found["plain"].append(fitted(features, star, FitOptions()))
        if yardsticks:
            found["flat"].append(flat_fit(features, star))
            found["simulator"].append(fitted(features, star, FitOptions.of_simulator()))
            found["floor"].append(floor_fit(planet_stream(seed, "bank", number, 4), planet, features))
    arrays = {
        "number": np.array(list(worlds), np.int64),
        "stars": np.array(json.dumps([world.system.row() for world in worlds.values()])),
        "truth": np.array([world.spectrum for world in worlds.values()]),
    }
    for name in (name for name, fits in found.items() if fits):
        arrays |= packed(name, found[name])
    arrays |= packed_curves(found["plain"])
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def made_by() -> str:
    """Hash of all that a fit depends on but for the simulator: the fit, the yardstick and this file."""
    fit = "import spectramind_nb.chapters.transit\nimport spectramind_nb.prior.flat\n"
    return code_hash(fit + Path(__file__).read_text(encoding="utf-8"))[:12]


def fit_kind(
    pool: ProcessPoolExecutor,
    setting: Setting,
    kind: str,
    bank: Bank,
    planets: int,
    stress: str = "",
    yardsticks: bool = False,
) -> list[Path]:
    """Files with the fits of the first `planets` of a bank; those not kept yet are made."""
    folder = setting.folder / f"fits_{setting.seed}_{VERSIONS['simulator']}_{made_by()}"
    folder.mkdir(parents=True, exist_ok=True)
    jobs, label = [], stress.replace(" ", "_") or ("yardsticks" if yardsticks else "plain")
    for start in range(0, planets, PART):
        span = range(start, min(start + PART, planets))
        path = folder / f"{kind}_{label}_{span.start:05d}_{span.stop:05d}.npz"
        worlds = {number: bank.world(number) for number in span}
        jobs.append((path, setting.seed_of(kind), worlds, kind.startswith("ood"), stress, yardsticks))
    missing = [job for job in jobs if not job[0].exists()]
    side_by_side(pool, f"parts of {PART} fits, {kind} {stress}", fit_part, missing)
    return [job[0] for job in jobs]
