"""How faithful the simulator is, and how fast: one row for each figure known of the real data, last line JSON.

    python benchmarks/simulator.py [--spectra 1500] [--seed 1]

Real figures are those of the Ariel Data Challenge 2025's public data; planets and populations are named in each row.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np

from spectramind_nb.core.instrument import (
    ADC_GAIN,
    ADC_OFFSET,
    AIRS,
    AIRS_COLUMNS,
    FGS1,
    SATURATION_E,
    Channel,
    wavelengths,
)
from spectramind_nb.core.metric import score
from spectramind_nb.detector.corrections import Options, Visit
from spectramind_nb.detector.extraction import extract_visit
from spectramind_nb.detector.raw import Adc
from spectramind_nb.simulator.bank import Bank, make_bank, read_bank
from spectramind_nb.simulator.data_sets import FRAME_COUNTS
from spectramind_nb.simulator.detector import draw_detector, ground_calibration
from spectramind_nb.simulator.frames import JITTER_PX, Exposure, airs_profile, draw_wander, expose, prepare_exposure
from spectramind_nb.simulator.gain_drift import draw_gain_drift
from spectramind_nb.simulator.light_curves import extraction, simulate_features, step_times
from spectramind_nb.simulator.line_shape import smoothing_of_bins
from spectramind_nb.simulator.population import SimulatedOrbit, draw_limb_darkening, draw_system, observe, planet_stream
from spectramind_nb.simulator.worlds import DEFAULT_WORLD, World


@dataclass(frozen=True)
class Row:
    """One figure: within 10% of the real value, within a range that was seen, or not beyond a bound."""

    what: str
    real: str
    simulated: float
    low: float
    high: float

    @property
    def within(self) -> bool:
        """Whether it holds."""
        return self.low <= self.simulated <= self.high

    def __str__(self) -> str:
        middle = (self.low + self.high) / 2
        ratio = f"{self.simulated / middle:6.2f}" if np.isfinite(middle) and middle else "     -"
        return f"{self.what:78} {self.real:>18} {self.simulated:12.5g} {ratio} {'' if self.within else '  <--'}"


def near(what: str, real: float, simulated: float, rounded: float = 0.0) -> Row:
    """Within 10% of the real value, which is known to `rounded`."""
    slack = 0.1 * abs(real) + rounded
    return Row(what, f"{real:g}", float(simulated), real - slack, real + slack)


def between(what: str, low: float, high: float, simulated: float) -> Row:
    """Within the spread that was seen."""
    return Row(what, f"{low:g} to {high:g}", float(simulated), low, high)


def at_least(what: str, bound: float, simulated: float) -> Row:
    """Not below the real minimum."""
    return Row(what, f">= {bound:g}", float(simulated), bound, np.inf)


def at_most(what: str, bound: float, simulated: float) -> Row:
    """Not above the real maximum."""
    return Row(what, f"<= {bound:g}", float(simulated), -np.inf, bound)


TYPICAL_DEPTH = 0.12**2  # with which the table's T14 were computed
TABLE = {  # minimum, 5%, median, 95%, maximum of train_star_info.csv; None: not known
    "Rs": (0.6538, None, 1.231, None, 2.887),
    "Ms": (0.599, None, 1.097, None, 1.818),
    "Ts": (4236, 4823, 5887, 6521, 6979),
    "Mp": (0.049, 0.19, 0.936, 5.95, 24.7),
    "P": (2.78, None, 5.20, None, 7.614),
    "sma": (4.23, None, 10.54, None, 20.95),
    "i": (85.57, None, 88.51, None, 90),
}


LIMB_DARKENING = (
    ("FGS1", slice(1), ((0.28, 0.40, 0.58), (0.06, 0.15, 0.22))),
    ("AIRS", slice(1, None), ((0.08, 0.12, 0.16), (0.04, 0.10, 0.17))),
)


def population_rows(bank: Bank, seed: int) -> Iterator[Row]:
    """Stars, planets and orbits; depths and spectra."""
    rng = np.random.default_rng(seed)
    systems = [draw_system(rng) for _ in range(20_000)]
    for name, (least, low, median, high, most) in TABLE.items():
        values = np.array([getattr(system, name) for system in systems])
        yield at_least(f"population: {name}, minimum", least, values.min())
        for share, real in ((5, low), (50, median), (95, high)):
            if real is not None:
                yield near(f"population: {name}, {share}%", real, np.percentile(values, share))
        yield at_most(f"population: {name}, maximum", most, values.max())
    planets = [observe(rng, bank.planet(number)) for number in range(len(bank.spectrum))]
    kepler = np.array([s.sma * s.Rs / (4.2076 * (s.Ms * s.P**2) ** (1 / 3)) for s in systems])
    for share, real in ((1, 0.86), (50, 1.002), (99, 1.19)):
        yield near(f"population: sma over Kepler's, {share}%", real, np.percentile(kepler, share))
    impact = np.array([s.sma * np.cos(np.radians(s.i)) for s in systems])
    for share, real in ((50, 0.27), (95, 0.66)):
        yield near(f"population: impact parameter, {share}%", real, np.percentile(impact, share))
    yield at_most("population: impact parameter, 5%", 0.01, np.percentile(impact, 5))
    yield at_most("population: impact parameter, maximum", 1.12, impact.max())
    duration = np.array([SimulatedOrbit(3.75, x.P, x.sma, x.i).duration_h(TYPICAL_DEPTH) for x in systems])
    for share, real in ((1, 1.8), (50, 3.87), (99, 6.9)):
        yield near(f"population: T14 (h), {share}%", real, np.percentile(duration, share))
    middle = np.array([orbit.t0_h for p in planets for orbit in p.orbits])
    yield at_least("population: t0 (h), minimum", 3.0, middle.min())
    yield near("population: t0 (h), mean of uniform 3.0 to 4.5", 3.75, middle.mean())
    yield at_most("population: t0 (h), maximum", 4.5, middle.max())
    delay = np.abs([delay for p in planets for delay in p.fgs1_delay_h])
    yield at_most("population: |t0 of FGS1 - t0 of AIRS| (h), 90%", 0.002, np.percentile(delay, 90))
    yield at_most("population: |t0 of FGS1 - t0 of AIRS| (h), maximum", 0.015, delay.max())
    visits = np.array([len(observe(rng, bank.planet(0)).orbits) for _ in range(20_000)])
    yield near("population: share of planets with two visits", 0.10, np.mean(visits == 2))
    yield from spectrum_rows(bank.spectrum)
    limb = np.array([draw_limb_darkening(rng, system.Ts) for system in systems[:2000]])
    for label, bins, bounds in LIMB_DARKENING:
        for column, name, (least, typical, most) in zip((0, 1), ("u1", "u2"), bounds, strict=True):
            values, what = limb[:, bins, column].mean(axis=1), f"population: limb darkening of {label}, {name}"
            yield at_least(f"{what}, minimum", least, values.min())
            yield near(f"{what}, mean", typical, values.mean())
            yield at_most(f"{what}, maximum", most, values.max())


def spectrum_rows(spectra: np.ndarray) -> Iterator[Row]:
    """Depths, their spread within a planet, FGS1 against AIRS, the mean shape."""
    airs = spectra[:, 1:]
    mean, spread = airs.mean(axis=1), airs.std(axis=1)
    yield near("depths: mean over planets and bins", 0.0147, spectra.mean())
    yield near("depths: standard deviation over planets and bins", 0.0107, spectra.std())
    for ppm, real in ((30, 0.749), (50, 0.682), (100, 0.591), (200, 0.500), (500, 0.379), (1000, 0.288)):
        sigma, sign = np.full_like(spectra, ppm * 1e-6), np.where(np.arange(spectra.shape[1]) % 2, 1, -1)
        found = score(spectra, spectra + sign * sigma, sigma)  # errors of one sigma: the mean of z^2 is 1
        yield near(f"depths: score of perfect error bars of {ppm} ppm", real, found)
    yield at_least("depths: AIRS mean, minimum", 0.0037, mean.min())
    yield at_most("depths: AIRS mean, maximum", 0.083, mean.max())
    yield between("depths: share of planets with .005 to .02 (mostly)", 0.5, 1, np.mean((mean > 0.005) & (mean < 0.02)))
    yield at_least("spectral sd within a planet, minimum", 1e-7, spread.min())
    typical = np.mean((spread > 2e-5) & (spread < 3e-4))
    yield between("spectral sd within a planet, share with 2e-5 to 3e-4 (typical)", 0.5, 1, typical)
    yield near("spectral sd within a planet, median", 60e-6, np.median(spread))
    yield between("spectral sd within a planet, share beyond 2000 ppm (a few)", 0.001, 0.05, np.mean(spread > 2e-3))
    yield at_most("spectral sd within a planet, maximum", 8e-3, spread.max())
    seam = np.abs(spectra[:, 0] - mean)
    yield between("|FGS1 - AIRS mean|, median", 1e-5, 1e-3, np.median(seam))
    yield between("|FGS1 - AIRS mean|, 90%", 1e-5, 1.1e-3, np.percentile(seam, 90))
    yield between("|FGS1 - AIRS mean|, maximum (outliers of 1e-2)", 5e-3, 1.1e-2, seam.max())
    power = np.linalg.svd(spectra - spectra.mean(axis=0), compute_uv=False) ** 2
    yield between("share of variance in the first principal component", 0.9970, 0.9988, power[0] / power.sum())
    um, shape = wavelengths()[1:], (airs - mean[:, None]).mean(axis=0)
    smooth = np.convolve(shape, np.ones(9) / 9, "same")
    blue, bump, red = um < 2.5, (um > 2.6) & (um < 2.95), (um > 3.0) & (um < 3.6)
    yield near("mean shape: minimum (um)", 2.1, um[blue][np.argmin(smooth[blue])])
    yield between("mean shape: place of the bump (um)", 2.69, 2.9, um[bump][np.argmax(smooth[bump])])
    yield near("mean shape: place of the peak (um)", 3.15, um[red][np.argmax(smooth[red])])
    q, beside = np.abs(um - 3.32) < 0.02, (np.abs(um - 3.32) > 0.03) & (np.abs(um - 3.32) < 0.07)
    branch = 1e6 * (shape[q].max() - np.median(shape[beside]))
    yield between("mean shape: CH4's Q branch at 3.32 um over its surroundings (ppm)", 20, 500, branch)
    decline = 1e6 * (smooth[np.argmin(np.abs(um - 3.85))] - smooth[red].max())
    yield at_most("mean shape: 3.85 um minus the peak (ppm), a decline", 0, decline)


STAR_A = {"name": "342072318", "Ts": 4797.6, "brightness": 1.0, "flicker": 4.2e-3}
STAR_B = {"name": "244787369", "Ts": 5744.7, "brightness": 0.965, "flicker": 1e-4}


def looked_at(star: dict, channel: Channel, pairs: int, seed: int) -> tuple[Exposure, Visit]:
    """`pairs` pairs of a star without a planet, as the simulator exposes them and as the pipeline reads them."""
    rng = np.random.default_rng(seed)
    columns = channel.columns if channel == AIRS else 1
    exposure = prepare_exposure(rng, channel, np.ones((pairs, columns)), star["Ts"], star["brightness"])
    exposure.light[:] = 1.0  # no drift either
    exposure.wander[:] = 0.0
    if channel == FGS1:
        exposure.jitter[3] = star["flicker"]
    object.__setattr__(exposure, "bad_last_pair", False)
    adu = np.concatenate(list(expose(rng, exposure, 1000))).reshape(pairs, 2, channel.rows, channel.columns)
    hours = np.arange(pairs) * channel.cycle_s / 3600
    return exposure, Visit(channel, adu, hours, ground_calibration(rng, exposure.detector), Adc(ADC_GAIN, ADC_OFFSET))


def star_image(visit: Visit) -> np.ndarray:
    """Mean light of a pair, e-, corrected as the organisers do, dead pixels filled with their neighbours'."""
    reads = visit.signal / ADC_GAIN + ADC_OFFSET
    linear = np.polynomial.polynomial.polyval
    corr = visit.calibration.linear_corr
    corrected = [np.mean([linear(read, corr, tensor=False) for read in reads[:, k]], axis=0) for k in (0, 1)]
    image = (corrected[1] - corrected[0] - visit.calibration.dark * visit.channel.exposure_s) / visit.calibration.flat
    for row, column in np.argwhere(visit.calibration.dead):
        patch = image[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        alive = ~visit.calibration.dead[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        image[row, column] = np.median(patch[alive])
    return image


def airs_rows(seed: int) -> Iterator[Row]:
    """Light, profile and noise of AIRS."""
    um = wavelengths()
    _, visit = looked_at(STAR_A, AIRS, 40, seed)
    image, name = star_image(visit), f"AIRS, planet {STAR_A['name']}"
    yield near(f"{name}: light in all (Me-/s)", 3.9, image.sum() / AIRS.exposure_s / 1e6)
    bins = image.sum(axis=0)[AIRS_COLUMNS][::-1]
    for at, real in ((2.1, 1.5e5), (3.9, 6e3)):
        around = np.abs(um[1:] - at) < 0.012
        yield near(f"{name}: bin at {at} um (e- in 4.5 s)", real, np.mean(bins[around]))
    yield near(f"{name}: brightest pixel (ke-)", 61, image.max() / 1e3)
    profile = image[:, AIRS_COLUMNS]
    for rows, red, blue in ((2, 44, 64), (4, 73, 84), (8, 89, 95), (16, 97, 99)):
        shares = [100 * np.sort(column)[::-1][:rows].sum() / column.sum() for column in profile.T[20:260:10]]
        yield near(f"{name}: brightest {rows} rows (%), red end", red, np.mean(shares[:4]))
        yield near(f"{name}: brightest {rows} rows (%), blue end", blue, np.mean(shares[-4:]))
    weights = np.clip(profile, 0, None).sum(axis=1)[8:24]
    yield near(f"{name}: centre row", 15.6, np.average(np.arange(8, 24), weights=weights))
    edges = profile[[0, 1, 2, -3, -2, -1]].mean(axis=0)
    for share, real in ((10, 21), (90, 84)):
        yield near(f"{name}: edge rows (e-/pixel in 4.5 s), {share}% of columns", real, np.percentile(edges, share))
    _, visit = looked_at(STAR_B, AIRS, 4500, seed + 1)
    name, bins = (
        f"AIRS, planet {STAR_B['name']}",
        star_image(replace(visit, signal=visit.signal[:300])).sum(axis=0)[AIRS_COLUMNS][::-1] / AIRS.exposure_s,
    )
    lights = (1.95, 18.2), (2.04, 28.8), (2.38, 17.8), (2.77, 11.7), (3.12, 6.4), (3.45, 4.7), (3.73, 3.2), (3.9, 0.9)
    for at, real in lights:
        yield near(f"{name}: bin at {at} um (ke-/s)", real, bins[np.abs(um[1:] - at) < 0.008].mean() / 1e3)
    yield from airs_noise_rows(name, visit)


def airs_noise_rows(name: str, visit: Visit) -> Iterator[Row]:
    """Scatter of steps of 24 s, and what it does to a depth."""
    curves = extract_visit(visit, 5, Options())
    flux = curves.flux[:, AIRS_COLUMNS][:, ::-1].reshape(-1, 5, 282).mean(axis=1)
    level = flux.mean(axis=0)
    relative = flux / level
    scatter = 1e6 * np.diff(relative, axis=0).std(axis=0) / np.sqrt(2)
    photon = 1e6 / np.sqrt(5 * level)
    yield near(f"{name}: noise of a bin in 24 s (ppm), 5% of bins", 1390, np.percentile(scatter, 5))
    yield near(f"{name}: noise of a bin in 24 s (ppm), half of the bins below", 2700, np.percentile(scatter, 50))
    yield near(f"{name}: noise of the reddest bin in 24 s (ppm)", 8700, scatter[-4:].mean())
    yield near(f"{name}: noise over photon noise, median of bins", 1.10, np.median(scatter / photon))
    white = flux.sum(axis=1) / flux.sum(axis=1).mean()
    yield near(f"{name}: white noise in 24 s (ppm)", 134, 1e6 * np.diff(white).std() / np.sqrt(2))
    change = np.diff(relative, axis=0)
    correlation = np.corrcoef(change.T)[np.triu_indices(282, 20)].mean()
    yield between(f"{name}: correlation of the noise between bins (none)", -0.02, 0.02, correlation)
    smooth = np.convolve(scatter, np.ones(5) / 5, "valid")
    error, white_error = to_depth(smooth, 24), to_depth(1e6 * np.diff(white).std() / np.sqrt(2), 24)
    yield near(f"{name}: statistical depth error of a bin (ppm), lowest", 83, error.min())
    yield near(f"{name}: statistical depth error of a bin (ppm), median", 183, np.median(error))
    yield at_most(f"{name}: statistical depth error of a bin (ppm), highest", 654, error.max())
    yield near(f"{name}: statistical depth error of AIRS white (ppm)", 8.7, white_error)


def to_depth(scatter: np.ndarray | float, step_s: float) -> np.ndarray:
    """Error of the difference between 2.4 h in transit and 5.1 h out of it, from the scatter of steps."""
    return np.asarray(scatter) * np.sqrt(step_s / 3600 * (1 / 2.4 + 1 / 5.1))


def fgs1_rows(seed: int) -> Iterator[Row]:
    """Light, image, pointing and noise of FGS1."""
    _, visit = looked_at(STAR_A, FGS1, 3000, seed)
    some = Visit(FGS1, visit.signal[:300], visit.time_h[:300], visit.calibration, visit.adc)
    image, name = star_image(some), f"FGS1, planet {STAR_A['name']}"
    yield near(f"{name}: light (e- in .1 s)", 2.2e5, image.sum())
    yield near(f"{name}: brightest pixel (% of the light)", 9.8, 100 * image.max() / image.sum())
    for box, real in ((4, 0.728), (6, 0.856), (8, 0.906), (10, 0.933), (12, 0.949), (16, 0.969)):
        corners = range(16 - box // 2 - 2, 16 - box // 2 + 3)
        sums = [image[r : r + box, c : c + box].sum() for r in corners for c in corners]
        yield near(f"{name}: light in the best box of {box} pixels", real, max(sums) / image.sum())
    signal = (visit.signal[:, 1].astype(float) - visit.signal[:, 0]) / ADC_GAIN
    faint = (signal.mean(axis=0) > 35) & (signal.mean(axis=0) < 45) & ~visit.calibration.dead
    yield near(f"{name}: variance of a pair in pixels near 40 e- (e-2)", 422, np.median(signal.var(axis=0)[faint]))
    total = signal.sum(axis=(1, 2))
    yield near(f"{name}: flux of a frame, standard deviation (ppm)", 5456, 1e6 * total.std() / total.mean())
    yield near(f"{name}: photon noise of a frame (ppm)", 2126, 1e6 / np.sqrt(image.sum()))
    inner = slice(8, 24)
    rows, columns = np.mgrid[inner, inner]
    core = signal[:, inner, inner]
    for label, grid, real in (("x", columns, 0.096), ("y", rows, 0.121)):
        centroid = (core * grid).sum(axis=(1, 2)) / core.sum(axis=(1, 2))
        noise = np.sqrt((core.mean(axis=0) * (grid - centroid.mean()) ** 2).sum()) / core.sum(axis=(1, 2)).mean()
        yield near(f"{name}: centroid rms in {label} (pixel in .1 s)", real, np.sqrt(centroid.var() - noise**2))
    _, visit = looked_at(STAR_B, FGS1, 6000, seed + 1)
    name = f"FGS1, planet {STAR_B['name']}"
    signal = (visit.signal[:, 1].astype(float) - visit.signal[:, 0]) / ADC_GAIN
    dead = visit.calibration.dead
    total = np.where(dead, 0, signal / np.where(dead, 1, visit.calibration.flat)).sum(axis=(1, 2))
    yield between(f"{name}: light (e- in .1 s)", 2.2e5, 3.1e5, total.mean())
    binned = total.reshape(-1, 50).mean(axis=1)
    yield near(f"{name}: plain sum in 20 s (ppm)", 416, 1e6 * np.diff(binned).std() / np.sqrt(2) / binned.mean())
    best = extract_visit(visit, 50, Options()).flux.reshape(-1, 50)
    kept = np.nanmean(best, axis=1)
    yield near(f"{name}: best weights in 20 s (ppm)", 294, 1e6 * np.diff(kept).std() / np.sqrt(2) / kept.mean())
    yield near(f"{name}: photon noise in 20 s (ppm)", 273, 1e6 / np.sqrt(50 * total.mean()))
    scatter = 1e6 * np.diff(kept).std() / np.sqrt(2) / kept.mean()
    yield near(f"{name}: statistical depth error (ppm)", 17, to_depth(scatter, 20))


def detector_rows(seed: int) -> Iterator[Row]:
    """Pixels: read noise, dark, flat, non-linearity, pointing, drift."""
    rng = np.random.default_rng(seed)
    levels = np.array([10, 20, 30, 50, 60, 80, 100]) * 1e3
    bends = {"AIRS-CH0": (0.10, 0.41, 0.88, 2.24, 3.07, 4.95, 7.0), "FGS1": (0.08, 0.32, 0.68, 1.7, 2.4, 3.9, 5.5)}
    for channel, hot, dead, darkest in ((AIRS, 0.7, 0.11, 12.0), (FGS1, 1.1, 0.29, 12.0)):
        name = channel.name
        found = [draw_detector(rng, channel) for _ in range(60)]
        maps = {key: np.stack([getattr(d, key) for d in found]) for key in ("read", "dark", "dead", "response")}
        yield near(f"{name}: read noise of a read, median (e-)", 13.3, np.median(maps["read"]))
        yield at_most(f"{name}: read noise of a read, maximum (e-)", 150, maps["read"].max())
        yield between(f"{name}: dark current, median (e-/s)", 0.0063 * 0.98, 0.007, np.median(maps["dark"]))
        yield at_most(f"{name}: dark current, maximum (e-/s)", darkest, maps["dark"].max())
        yield near(f"{name}: hot pixels (%)", hot, 100 * np.mean(maps["dark"] > 0.0118))
        yield near(f"{name}: dead pixels (%)", dead, 100 * maps["dead"].mean())
        alive = maps["response"][~maps["dead"]]
        yield near(f"{name}: flat, mean", 1.014, alive.mean())
        yield near(f"{name}: flat, standard deviation (%)", 1.2, 100 * alive.std())
        corr = np.stack([d.linear_corr for d in found[:10]])
        powers = levels[:, None] ** np.arange(6)
        drawn = np.einsum("lk,dkrc->ldrc", powers, corr).reshape(len(levels), -1)
        for level, real, ours in zip(levels, bends[name], 100 * (np.median(drawn, axis=1) / levels - 1), strict=True):
            yield near(f"{name}: non-linearity correction at {level / 1e3:.0f} ke- (%)", real, ours, rounded=0.005)
        yield near(f"{name}: scatter of the linear coefficient (%)", 0.5, 100 * corr[:, 1].std())
    yield near("both detectors: saturation of the 16-bit converter (ke-)", 149, SATURATION_E / 1e3)
    across = JITTER_PX["AIRS-CH0"][0] * np.sqrt(0.1 / 4.5)
    yield near("AIRS: pointing across the dispersion, rms in 4.5 s (pixel)", 0.013, across)
    drift = [1e6 * drift_rms(draw_gain_drift(rng, chromatic=True)) for _ in range(300)]
    yield at_least("AIRS: gain drift in 7.5 h, rms (ppm), minimum", 139, min(drift))
    yield near("AIRS: gain drift in 7.5 h, rms (ppm), mean of five planets", 298, np.mean(drift))
    yield at_most("AIRS: gain drift in 7.5 h, rms (ppm), maximum", 482, max(drift))


MEASURED_SINGULAR = (35.6, 17.5, 16.6, 15.8)  # of planet 244787369: time (5 Legendre terms) x wavelength, whitened
NOISE_SINGULAR = (18.3, 17.4, 16.7, 16.1)  # of noise alone


def measured_rows(bank: Bank, seed: int) -> Iterator[Row]:
    """The default world: orbits, drift, edge rows, movement along the spectrum, line shape.

    Sources: orbits of four planets in the test files of jcottaar/ariel2 (CC BY 4.0), and light curves and frames of
    planets 244787369 and 342072318, Ariel Data Challenge 2025 public data; the line shape's loss in true spectra is of
    ExoSim 2's kernel. Four planets give ranges, not distributions: the rows ask that the simulator covers them.
    """
    rng, name = np.random.default_rng(seed), "default world"
    planets = [observe(rng, bank.planet(number), DEFAULT_WORLD) for number in range(len(bank.spectrum))]
    speed = np.array([p.orbits[0].sma / p.system.sma for p in planets])
    yield between(f"{name}: transit speed over the table's, median of planets", 1.010, 1.016, np.median(speed))
    yield between(f"{name}: the same, scatter (%)", 0.2, 0.4, 100 * speed.std())
    impact = [p.orbits[0].impact - p.system.sma * np.cos(np.radians(p.system.i)) for p in planets]
    real = np.array([-0.002, 0.03, -0.094, 0.155])
    rms = float(np.sqrt(np.mean(real**2)))
    yield between(f"{name}: impact parameter less the table's, rms", 0.5 * rms, 1.6 * rms, np.std(impact))
    values = np.median([drift_values(rng, DEFAULT_WORLD) for _ in range(150)], axis=0)
    yield near(f"{name}: drift's second singular value over that of noise", 17.5 / 17.4, values[1] / NOISE_SINGULAR[1])
    quotient = [drift_values(rng, DEFAULT_WORLD)[0] / NOISE_SINGULAR[0] for _ in range(150)]
    reached = np.mean(np.array(quotient) > MEASURED_SINGULAR[0] / NOISE_SINGULAR[0])
    yield between(f"{name}: share of visits whose first value exceeds the real one", 0.05, 0.95, reached)
    profile = airs_profile(np.array([2.1, 3.8]), optics=DEFAULT_WORLD.optics)
    edges = profile[[0, 1, 2, -3, -2, -1]].mean(axis=0)
    for um, real_share, share in zip((2.1, 3.8), (6.3e-4, 1.2e-3), edges, strict=True):
        yield near(f"{name}: light of a column in a pixel of the edge rows, {um} um", real_share, share)
    drawn = [draw_wander(rng, 101, AIRS, DEFAULT_WORLD.pointing)[:, 1] for _ in range(300)]
    slopes = [2 * np.polyfit(np.linspace(-1, 1, 101), one, 1)[0] for one in drawn]
    yield between(f"{name}: linear movement along the spectrum in a visit (pixel), rms", 0.0005, 0.002, np.std(slopes))
    loss = [
        smoothing_of_bins(p, DEFAULT_WORLD.optics.line_shape) @ p.spectrum[1:] - p.spectrum[1:] for p in planets[:300]
    ]
    low, high = np.percentile(1e6 * np.std(loss, axis=1), [5, 95])
    yield at_most(f"{name}: loss by the line shape (ppm), 5% of planets; true spectra lose 5 to 9", 5, low)
    yield at_least(f"{name}: loss by the line shape (ppm), 95% of planets", 9, high)


def drift_values(rng: np.random.Generator, world: World) -> np.ndarray:  # (4,)
    """Singular values of the drift of AIRS with noise: Legendre terms 1 to 5 in time by bins, over their noise."""
    seen = extraction(rng, AIRS, STAR_B["Ts"], STAR_B["brightness"], False)
    steps, outside = step_times(FRAME_COUNTS["full"], AIRS, 375), 250  # steps in all, and out of transit
    noise = np.sqrt(seen.variance / steps.length) / seen.flux / np.sqrt(outside)  # of a term of unit rms
    time = np.linspace(-1, 1, len(steps.hours))
    coefficients = draw_gain_drift(rng, True, world.drift)
    drift = np.polynomial.polynomial.polygrid2d(time, seen.place, coefficients)
    terms = np.polynomial.legendre.legvander(time, 5)
    fitted = np.linalg.lstsq(terms, drift, rcond=None)[0][1:] * terms[:, 1:].std(axis=0)[:, None]
    whitened = fitted / noise + rng.normal(size=fitted.shape)
    return np.linalg.svd(whitened, compute_uv=False)[:4]


def drift_rms(coefficients: np.ndarray) -> float:
    """Of the drift over time and wavelength."""
    time, place = (np.vander(np.linspace(-1, 1, count), 6, True) for count in (101, 51))
    return float((time @ coefficients @ place.T).std())


SIMULATE = """
import resource, sys, time
from pathlib import Path
from spectramind_nb.simulator.data_sets import simulate_dataset
out, seed = Path(sys.argv[1]), int(sys.argv[2])
simulate_dataset(out.with_name("warm"), 1, 0, seed, "tiny")
start = time.perf_counter()
simulate_dataset(out, 2, 0, seed, "full", workers=2)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def visit_figures(seed: int) -> dict[str, float]:
    """Seconds, memory and bytes of full-size visits on two cores: two planets of one visit, one a worker."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "raw"
        ran = subprocess.run(
            [sys.executable, "-c", SIMULATE, str(out), str(seed)], capture_output=True, text=True, check=True
        )
        seconds, memory = map(float, ran.stdout.split())
        signals = {name: list(out.rglob(f"{name}_signal_*.parquet")) for name in ("AIRS-CH0", "FGS1")}
        sizes = {name: [path.stat().st_size for path in paths] for name, paths in signals.items()}
    visits = len(sizes["FGS1"])
    return {
        "seconds_per_planet": seconds / visits,
        "peak_rss_mb": memory,
        "airs_bytes": float(np.mean(sizes["AIRS-CH0"])),
        "fgs1_bytes": float(np.mean(sizes["FGS1"])),
    }


def light_curve_rate(bank: Bank, count: int = 200) -> float:
    """Planets a second on one core, all visits and both channels."""
    rng = planet_stream(0, "bank", 0, 1)
    planets = [observe(rng, bank.planet(number)) for number in range(count)]
    simulate_features(rng, planets[0], FRAME_COUNTS["full"])
    start = time.perf_counter()
    for planet in planets:
        simulate_features(rng, planet, FRAME_COUNTS["full"])
    return count / (time.perf_counter() - start)


def main() -> None:
    """Print all rows and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spectra", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    visit = visit_figures(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        tell = lambda done, total: print(f"\r{done}/{total} spectra", end="", file=sys.stderr)  # noqa: E731
        make_bank(Path(folder) / "bank.npz", args.spectra, args.seed, progress=tell)
        print(f"\n{(time.perf_counter() - start) / args.spectra * 1e3:.0f} ms a spectrum on two cores", file=sys.stderr)
        bank = read_bank(Path(folder) / "bank.npz")
    rate = light_curve_rate(bank)
    rows = [*population_rows(bank, args.seed), *airs_rows(args.seed), *fgs1_rows(args.seed), *detector_rows(args.seed)]
    rows += measured_rows(bank, args.seed)
    rows.append(near("file: AIRS signal of a full-size visit (MB)", 122, visit["airs_bytes"] / 1e6))
    rows.append(near("file: FGS1 signal of a full-size visit (MB)", 111, visit["fgs1_bytes"] / 1e6))
    print(f"{'figure':78} {'real':>18} {'simulated':>12} {'ratio':>6}")
    print(*rows, sep="\n")
    figures = {
        "rows": len(rows),
        "within": sum(row.within for row in rows),
        "seconds_per_planet": round(visit["seconds_per_planet"], 1),
        "peak_rss_mb": round(visit["peak_rss_mb"]),
        "bytes_per_visit": round(visit["airs_bytes"] + visit["fgs1_bytes"]),
        "light_curves_per_second": round(rate, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
