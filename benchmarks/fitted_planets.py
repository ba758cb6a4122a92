"""Simulated planets and their fits, kept on disk part by part."""

import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spectramind_nb.core.errors import UserError
from spectramind_nb.core.files import atomic_path
from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.core.metric import DEFAULT_REFERENCE
from spectramind_nb.core.versions import VERSIONS
from spectramind_nb.network.fit_evidence import FIT_FIGURES, fit_figures
from spectramind_nb.pipeline.provenance import code_hash
from spectramind_nb.prior.flat import flat_depth
from spectramind_nb.prior.sharpening import MOST_PLANETS, learn_line_shape, width_evidence
from spectramind_nb.prior.spectral_prior import SpectralPrior
from spectramind_nb.simulator import light_curves
from spectramind_nb.simulator.bank import Bank, make_bank, read_bank
from spectramind_nb.simulator.data_sets import FRAME_COUNTS
from spectramind_nb.simulator.population import PlanetSpectrum, SimulatedPlanet, observe, planet_stream
from spectramind_nb.simulator.world_parts import (
    GainDrifts,
    ImageMotion,
    Jumps,
    Optics,
    PlanetKinds,
    RedNoise,
    StarLimbs,
)
from spectramind_nb.simulator.worlds import DEFAULT_WORLD, World
from spectramind_nb.transits.drift_hypotheses import drift_hypotheses
from spectramind_nb.transits.fit import fit_planet
from spectramind_nb.transits.fit_file import check_channels, white_light
from spectramind_nb.transits.fit_priors import LIMB_PRIORS, FitOptions, LearnedPriors
from spectramind_nb.transits.fit_report import Fit
from spectramind_nb.transits.learned_priors import Evidence, learn_fit_priors
from spectramind_nb.transits.light_curve import Orbit, transit
from spectramind_nb.transits.model import Block, blocks_of
from spectramind_nb.transits.systematics import CELLS, MEMORIES_MIN, RED_RMS
from spectramind_nb.uncertainty.sigma_factors import Fits

Features = dict[str, dict[str, np.ndarray]]
KINDS = ("train", "calib", "test", "ood", "bank", "ood_bank")
PART = 20  # planets fitted, and saved, at a time
LAW_ERROR = {"fgs1": 0.05, "airs": 0.02}  # of u1 and u2 where the law is another one
U3_SPREAD = {"fgs1": 1.2, "airs": 0.5}  # of u3 where the law is not quadratic


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

    def bank(self, kind: str, count: int, kinds: PlanetKinds = DEFAULT_WORLD.planets) -> Bank:
        """The first `count` spectra of one kind; made where no such bank is kept yet, a larger one included."""
        chemistry = replace(kinds, depth=1.0, amplitude=1.0, flat_share=0.0)  # these act on observed planets
        label = kind if chemistry == DEFAULT_WORLD.planets else f"{kind}-{mark_of(asdict(chemistry))}"
        kept = sorted(self.folder.glob(f"{label}_{self.seed}_{VERSIONS['simulator']}_*.npz"))
        large = [path for path in kept if int(path.stem.rsplit("_", 1)[1]) >= count]
        path = large[0] if large else self.folder / f"{label}_{self.seed}_{VERSIONS['simulator']}_{count:06d}.npz"
        if not large:
            seed, ood, world = self.seed_of(kind), kind.startswith("ood"), World(planets=chemistry)
            told = partial(tell, f"{label} spectra")
            make_bank(path, count, seed, ood, None, self.workers, told, quick=True, world=world)
        bank = read_bank(path)
        return replace(bank, parameters=bank.parameters[:count], spectrum=bank.spectrum[:count])


# Worlds that the fit was not made for.

STRESSES: dict[str, World] = {
    "": DEFAULT_WORLD,
    "drift one order higher": World(drift=GainDrifts(order=6)),
    "drift two orders higher": World(drift=GainDrifts(order=7)),
    "drift of full rank": World(drift=GainDrifts(form="full rank")),
    "correlated noise": World(red_noise=RedNoise(rms=4e-5)),
    "baseline step": World(jumps=Jumps(number=1)),
    "jitter and width": World(pointing=ImageMotion(jitter=2)),
    "image 15% wider": World(optics=Optics(image_width=1.15)),
}
STRESSES = {name: replace(world, name=name or "default") for name, world in STRESSES.items()}


def simulated(
    seed: int, number: int, drawn: PlanetSpectrum, ood: bool, world: World = DEFAULT_WORLD
) -> tuple[SimulatedPlanet, Features]:
    """A planet as it is seen in a world, and its features."""
    planet = observe(planet_stream(seed, "bank", number, 1), drawn, world)
    rng = planet_stream(seed, "bank", number, 3)
    return planet, light_curves.simulate_features(rng, planet, FRAME_COUNTS["full"], ood=ood, world=world)


def mark_of(record: object) -> str:
    """Eight digits that stand for a JSON object."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:8]


# Fits.


GUIDE = ("time", "flux", "model", "drift", "centroid row", "centroid column", "jitter row", "jitter column")


@dataclass(frozen=True)
class Curves:
    """What a network sees of a planet beside depths: FGS1's first visit as `GUIDE`, and the star's brightness."""

    guide: np.ndarray  # (T, 8)
    baseline: np.ndarray  # log10 of the flux out of transit, electrons a step, (283,)


@dataclass(frozen=True)
class Fitted:
    """Depths of one planet, their covariance as the transit fit gives it, the time it took, and curves where kept.

    `shared` and `evidence` are what a second fit starts from, and what it learns its priors from.
    """

    depth: np.ndarray
    noise_variance: np.ndarray
    nuisance: np.ndarray
    quality: dict[str, float]
    seconds: float
    curves: Curves | None = None
    shared: dict[str, float] | None = None
    evidence: Evidence | None = None
    figures: np.ndarray | None = None  # as a network takes them


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


def fitted(
    features: Features,
    star: Mapping[str, float],
    options: FitOptions,
    near: tuple[np.ndarray, Mapping[str, float]] | None = None,
) -> Fitted:
    """The transit fit; as in a run, the population's mean and spread for a planet that can't be fitted."""
    start = time.perf_counter()
    try:
        blocks = blocks_of(features)
        fit = fit_planet(blocks, star, options, near)
        check_channels(fit, 0)
    except (ArithmeticError, ValueError, np.linalg.LinAlgError, UserError) as error:
        print(f"a planet was not fitted: {error!r}", file=sys.stderr)
        flat, wide = np.full(N_BINS, DEFAULT_REFERENCE.mean), np.full((N_BINS, 1), DEFAULT_REFERENCE.std)
        return Fitted(flat, 1e-4 * wide[:, 0] ** 2, wide, {}, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    nuisance, curves = slim(fit.nuisance, fit.noise_variance), curves_of(features, blocks, fit)
    own = (fit.depth, fit.noise_variance, nuisance, fit.quality, seconds, curves, fit.shared, fit.evidence)
    return Fitted(*own, fit_figures(record_of(fit)))


def record_of(fit: Fit) -> dict[str, Any]:
    """The record of a fit, as the fit file holds it."""
    record = {"quality": fit.quality, "shared": fit.shared, "shared_std": fit.shared_std}
    return record | ({"evidence": fit.evidence.record()} if fit.evidence else {})


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
    most, none = max(fit.nuisance.shape[1] for fit in fits), np.full(len(FIT_FIGURES), np.nan, np.float32)
    nuisance = [np.pad(fit.nuisance, ((0, 0), (0, most - fit.nuisance.shape[1]))) for fit in fits]
    return {
        f"{name}_depth": np.array([fit.depth for fit in fits]),
        f"{name}_noise": np.array([fit.noise_variance for fit in fits]),
        f"{name}_nuisance": np.array(nuisance, np.float32),
        f"{name}_quality": np.array(json.dumps([fit.quality for fit in fits])),
        f"{name}_seconds": np.array([fit.seconds for fit in fits]),
        f"{name}_figures": np.array([none if fit.figures is None else fit.figures for fit in fits]),
    }


def unpacked(name: str, arrays: Mapping[str, np.ndarray]) -> Fits:
    """The same as chapter 06 reads them."""
    nuisance = arrays[f"{name}_nuisance"].astype(float)
    covariance = nuisance @ nuisance.transpose(0, 2, 1)
    covariance[:, range(N_BINS), range(N_BINS)] += arrays[f"{name}_noise"]
    stars, quality = (pd.DataFrame(json.loads(str(arrays[key]))) for key in ("stars", f"{name}_quality"))
    width = float(arrays[key]) if (key := f"{name}_line_shape") in arrays else 0.0
    widths, depth, figures = np.full(len(covariance), width), arrays[f"{name}_depth"], arrays[f"{name}_figures"]
    return Fits(arrays["number"], depth, covariance, stars, quality, line_shape=widths, figures=figures)


def fit_part(
    path: Path, seed: int, drawn: Mapping[int, PlanetSpectrum], ood: bool, world: World, yardsticks: bool
) -> None:
    """Fit some planets of a bank in the plain way, and as the yardsticks do where asked to; write the file `path`."""
    found: dict[str, list[Fitted]] = {name: [] for name in ("flat", "plain", "simulator", "floor")}
    truth = []
    for number, one in drawn.items():
        planet, features = simulated(seed, number, one, ood, world)
        star = planet.system.row()
        truth.append(planet.spectrum)
        found["plain"].append(fitted(features, star, FitOptions()))
        if yardsticks:
            found["flat"].append(flat_fit(features, star))
            found["simulator"].append(fitted(features, known_star(star, world), known_options(world)))
            if world == DEFAULT_WORLD:
                found["floor"].append(floor_fit(planet_stream(seed, "bank", number, 4), planet, features))
    arrays = {
        "number": np.array(list(drawn), np.int64),
        "stars": np.array(json.dumps([one.system.row() for one in drawn.values()])),
        "truth": np.array(truth),
        "simulator_line_shape": np.array(world.optics.line_shape),
        "first": np.array(json.dumps([[fit.shared, fit.evidence and fit.evidence.record()] for fit in found["plain"]])),
    }
    for name in (name for name, fits in found.items() if fits):
        arrays |= packed(name, found[name])
    save(path, arrays | packed_curves(found["plain"]))


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file of arrays, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


# Fits with priors that were learned without labels, as a run makes them.


def learn_from(paths: Sequence[Path], prior: SpectralPrior) -> LearnedPriors | None:
    """The fit's priors, learned from the light curves of the planets of files that `fit_part` wrote."""
    seen, widths = [], []
    for path in paths:
        with np.load(path) as arrays:
            stars, first = (json.loads(str(arrays[name])) for name in ("stars", "first"))
            fits = unpacked("plain", arrays)
        seen += [(Evidence.from_record(record), star) for (_, record), star in zip(first, stars, strict=True) if record]
        if len(widths) < MOST_PLANETS:
            planets = zip(fits.depth, fits.covariance, stars, strict=True)
            widths += [width_evidence(prior, *planet) for planet in planets]
    if not seen:
        return None
    learned = learn_fit_priors(*map(list, zip(*seen, strict=True)), FitOptions())
    return learned and replace(learned, line_shape=learn_line_shape(widths))


def fit_part_again(
    before: Path,
    path: Path,
    seed: int,
    drawn: Mapping[int, PlanetSpectrum],
    kind: str,
    world: World,
    learned: LearnedPriors,
) -> None:
    """Fit the planets of a file again, with learned priors; write the file `path`."""
    with np.load(before) as kept:
        arrays = {name: kept[name] for name in ("number", "stars", "truth")}
        starts = list(zip(kept["plain_depth"], json.loads(str(kept["first"])), strict=True))
    fits = []
    for (number, one), (depth, (shared, _)) in zip(drawn.items(), starts, strict=True):
        planet, features = simulated(seed, number, one, kind.startswith("ood"), world)
        near = (depth, shared) if shared else None
        fits.append(fitted(features, planet.system.row(), FitOptions(learned=learned), near))
    arrays |= packed("plain", fits) | packed_curves(fits)
    save(path, arrays | {"plain_line_shape": np.array(learned.line_shape)})


def fit_again(
    pool: ProcessPoolExecutor,
    setting: Setting,
    kind: str,
    bank: Bank,
    world: World,
    paths: Sequence[Path],
    learned: LearnedPriors | None,
) -> list[Path]:
    """Files with second fits of the planets in `paths`, by `fit_kind`; the same files where nothing was learned."""
    if learned is None:
        return [*paths]
    mark, jobs = mark_of(asdict(learned)), []
    for before in paths:
        with np.load(before) as arrays:
            drawn = {int(number): bank.planet(int(number)) for number in arrays["number"]}
        path = before.with_name(f"{before.stem}_learned-{mark}.npz")
        jobs.append((before, path, setting.seed_of(kind), drawn, kind, world, learned))
    missing = [job for job in jobs if not job[1].exists()]
    side_by_side(pool, f"parts of {PART} second fits, {kind}, {world.name}", fit_part_again, missing)
    return [job[1] for job in jobs]


def second_fits(
    pool: ProcessPoolExecutor,
    setting: Setting,
    kind: str,
    world: World,
    paths: Sequence[Path],
    prior: SpectralPrior,
    unlabelled: int = -1,
) -> list[Path]:
    """Files with fits whose priors were learned from the first `unlabelled` planets of `paths`; -1: from all."""
    if not unlabelled:
        return [*paths]
    counts = np.cumsum([len(np.load(path)["number"]) for path in paths])
    used = [p for p, before in zip(paths, [0, *counts], strict=False) if unlabelled < 0 or before < unlabelled]
    bank = setting.bank(kind, int(counts[-1]), world.planets)
    (learned,) = side_by_side(pool, f"priors, {world.name}", learn_from, [(used, prior)])
    return fit_again(pool, setting, kind, bank, world, paths, learned)


def fit_twice(
    pool: ProcessPoolExecutor,
    setting: Setting,
    kind: str,
    planets: int,
    prior: SpectralPrior,
    world: World = DEFAULT_WORLD,
    yardsticks: bool = False,
    unlabelled: int = -1,
) -> tuple[list[Path], list[Path]]:
    """Files with first fits of planets, and with second ones, as a run makes them.

    The priors of the second are learned from the first `unlabelled` planets; -1: from all.
    """
    paths = fit_kind(pool, setting, kind, setting.bank(kind, planets, world.planets), planets, world, yardsticks)
    return paths, second_fits(pool, setting, kind, world, paths, prior, unlabelled)


# What an oracle is given of a world.


def known_star(star: Mapping[str, float], world: World) -> dict[str, float]:
    """A row of the star table without the world's offsets."""
    faster, tilt = world.orbit.speed_offset, world.orbit.inclination_offset_deg
    return {**star, "sma": star["sma"] * (1 + faster), "i": min(star["i"] + tilt, 90.0)}


def known_options(world: World) -> FitOptions:
    """The fit's options with the world's scatters of orbits, limb darkening, drift, and whether noise is red."""
    orbit, (least, most) = world.orbit, world.drift.rms
    sizes = tuple(np.geomspace(least, most, 3))
    known = FitOptions(
        sma_scatter=max(orbit.speed_scatter, 1e-3),
        inclination_scatter_deg=max(orbit.inclination_scatter_deg, 0.02),
        drift_sizes=sizes,
        time_decays=(0.5,),
        wavelength_decays=(0.5,),
        polynomial_sizes=(),
    )
    if world.drift.form == "rank one":
        known = replace(known, polynomial_sizes=sizes, polynomial_odds=0.9)
    elif world.drift.rms == DEFAULT_WORLD.drift.rms:
        known = replace(known, drift_sizes=(2e-4, 4e-4, 8e-4))
    noise = tuple(known_noise(world.red_noise).tolist())
    jumps = float(1 - np.exp(-world.jumps.number - world.jumps.tilts))
    return replace(
        known,
        learned=LearnedPriors(
            planets=0,
            sma_offset=0.0,
            sma_scatter=known.sma_scatter,
            inclination_scatter_deg=known.inclination_scatter_deg,
            limb=known_limb(world.limb),
            fgs1_drift=tuple(drift_hypotheses(False, known).odds.tolist()),
            airs_drift=tuple(drift_hypotheses(True, known).odds.tolist()),
            fgs1_noise=noise,
            airs_noise=noise,
            jump_share=(jumps, jumps),
        ),
    )


def known_noise(red: RedNoise) -> np.ndarray:
    """Probabilities of the memories and sizes of red noise, as `CELLS`: of those nearest to the world's."""
    probability = np.full(len(CELLS), 1e-3 / len(CELLS))
    away = np.abs(np.log(np.array(MEMORIES_MIN)[:, None] / red.minutes)) + np.abs(np.log(RED_RMS / max(red.rms, 1e-9)))
    probability[1 + int(np.argmin(away)) if red.rms else 0] += 1 - 1e-3
    return probability


def known_limb(stars: StarLimbs) -> tuple[tuple[float, float, float], ...]:
    """Priors of the fit's quadratic limb darkening with the world's offsets, scatter and dependence on temperature."""
    rows = []
    for name, (mean, slope, std) in LIMB_PRIORS.items():
        offset = {"u1": stars.u1_offset, "u2": stars.u2_offset}.get(name[5:], 0.0)
        along = name[5:] not in ("u1", "u2")
        wide = 1.0 if along else max(stars.scatter, 0.05)
        other = 0.0 if stars.law == "quadratic" or along else LAW_ERROR[name[:4]]
        if name.endswith("u3"):
            wide, other = (0.05, 0.0) if stars.law == "quadratic" else (0.0, U3_SPREAD[name[:4]])
        rows.append((mean + offset, slope * stars.temperature, float(np.hypot(wide * std, other))))
    return tuple(rows)


@lru_cache(maxsize=1)
def simulator_code() -> str:
    """Hash of the simulator: worlds other than the default have no version of their own."""
    return code_hash("import spectramind_nb.simulator.light_curves\n")[:12]


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
    world: World = DEFAULT_WORLD,
    yardsticks: bool = False,
) -> list[Path]:
    """Files with the fits of the first `planets` of a bank; those not kept yet are made."""
    folder = setting.folder / f"fits_{setting.seed}_{VERSIONS['simulator']}_{made_by()}"
    folder.mkdir(parents=True, exist_ok=True)
    jobs, label = [], "yardsticks" if yardsticks else "plain"
    if world != DEFAULT_WORLD:
        label += f"-{mark_of([world.record(), simulator_code()])}"
    for start in range(0, planets, PART):
        span = range(start, min(start + PART, planets))
        path = folder / f"{kind}_{label}_{span.start:05d}_{span.stop:05d}.npz"
        drawn = {number: bank.planet(number) for number in span}
        jobs.append((path, setting.seed_of(kind), drawn, kind.startswith("ood"), world, yardsticks))
    missing = [job for job in jobs if not job[0].exists()]
    side_by_side(pool, f"parts of {PART} fits, {kind}, {world.name}", fit_part, missing)
    return [job[0] for job in jobs]
