"""Fixed small inputs and what the package makes of them: the outputs that version numbers stand for.

Run: python tests/golden.py NAME ...   records outputs again, after their version, or one that they follow, was raised.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from spectramind_nb.core.contracts import read_npz
from spectramind_nb.core.files import network_file
from spectramind_nb.core.instrument import CHANNELS, N_AIRS_BINS, N_BINS
from spectramind_nb.core.metric import DEFAULT_REFERENCE
from spectramind_nb.core.versions import VERSIONS
from spectramind_nb.detector.extraction import extract_planet
from spectramind_nb.detector.raw import RawFolder, choose_planets
from spectramind_nb.detector.signal_files import read_signal
from spectramind_nb.network.mamba import fgs1_inputs
from spectramind_nb.network.model import (
    NetworkOptions,
    Start,
    learn_scaling,
    network_of,
    place_of,
    raw_inputs,
    wavelength_inputs,
)
from spectramind_nb.network.weights import Weights, read_network, reference_output
from spectramind_nb.prior.learning import learn_prior
from spectramind_nb.prior.posterior import Combined, combine, combine_many
from spectramind_nb.prior.wavelength_graph import spectral_graph
from spectramind_nb.simulator.data_sets import FRAME_COUNTS, simulate_dataset
from spectramind_nb.simulator.light_curves import simulate_features
from spectramind_nb.simulator.population import SimulatedPlanet, draw_planet, planet_stream
from spectramind_nb.transits.fit import fit_planet
from spectramind_nb.transits.fit_priors import FitOptions
from spectramind_nb.transits.model import blocks_of
from spectramind_nb.uncertainty.calibration import CalibOptions, learn_calibration
from spectramind_nb.uncertainty.sigma_factors import Predicted, fit_factors

FOLDER = Path(__file__).parent / "golden"
# A version's outputs are made from data that other versions stand for: these change with them.
FOLLOWS = {
    "features": ("simulator",),
    "fit": ("simulator",),
    "network": ("prior",),
    "weights": ("inputs", "edges", "network", "prior"),
}
Arrays = dict[str, np.ndarray]


def thinned(array: np.ndarray, most: int = 400) -> np.ndarray:
    """At most so many values of an array, evenly spaced, then its mean and mean square."""
    flat = np.asarray(array, float).ravel()
    return np.concatenate([flat[:: max(1, len(flat) // most)], [flat.mean(), (flat**2).mean()]])


@cache
def planet() -> SimulatedPlanet:
    return draw_planet(planet_stream(11, "train", 0))


@cache
def light_curves() -> dict[str, Arrays]:
    return simulate_features(np.random.default_rng(11), planet(), FRAME_COUNTS["full"])


@cache
def tiny_raw() -> RawFolder:
    folder = tempfile.TemporaryDirectory()
    tiny_raw.folder = folder  # type: ignore[attr-defined]  # lives as long as the process
    root = Path(folder.name) / "raw"
    simulate_dataset(root, planets=1, test_planets=0, seed=13, frames="tiny", workers=1)
    return RawFolder(root)


def of_simulator() -> Arrays:
    raw = tiny_raw()
    folder = raw.root / "train" / str(choose_planets(raw, "train")[0])
    frames = {
        name: np.asarray(read_signal(folder / f"{name}_signal_0.parquet", channel)[:4], float)
        for name, channel in CHANNELS.items()
    }
    curves = {f"{kind} {name}": array for kind, part in light_curves().items() for name, array in part.items()}
    own = planet()
    return (
        {"spectrum": own.spectrum, "limb": own.limb, "system": np.array([*own.system.row().values()])} | curves | frames
    )


def of_features() -> Arrays:
    raw = tiny_raw()
    (label,) = choose_planets(raw, "train")
    with tempfile.TemporaryDirectory() as folder:
        extract_planet(("train", label), raw, Path(folder))
        kinds = {kind: read_npz(Path(folder) / f"{kind}_{label}.npz", kind) for kind in ("fgs1_white", "airs_bins")}
    return {f"{kind} {name}": array for kind, part in kinds.items() for name, array in part.items()}


def of_fit() -> Arrays:
    fit = fit_planet(blocks_of(light_curves()), planet().system.row(), FitOptions())
    shared = np.array([fit.shared[name] for name in sorted(fit.shared)])
    covariance = fit.nuisance @ fit.nuisance.T
    return {"depth": fit.depth, "noise": fit.noise_variance, "shared": shared, "covariance": covariance}


@cache
def spectra() -> np.ndarray:
    """Sixty smooth spectra with two bands of varied strength."""
    rng, place = np.random.default_rng(5), np.linspace(-1, 1, N_BINS)
    bands = np.exp(-((place - np.array([[-0.2], [0.6]])) ** 2) / 0.02)
    strength = 1e-4 * rng.lognormal(0, 0.4, (60, 1)) * rng.dirichlet([2, 2], 60)
    level = 0.012 + 0.002 * rng.normal(size=(60, 1))
    return level + strength @ bands + 2e-6 * np.cumsum(rng.normal(size=(60, N_BINS)), axis=1)


def of_prior() -> Arrays:
    prior, noise = learn_prior(spectra()[10:]), np.diag(np.full(N_BINS, 1e-9))
    posterior = combine(prior, spectra()[0] + 3e-5 * np.cos(np.arange(N_BINS)), noise)
    many = combine_many(prior, spectra()[:3], noise, np.nan)
    return {
        "mean": posterior.mean,
        "covariance": posterior.covariance,
        **{f"many {k}": v for k, v in vars(many).items()},
    }


def start() -> Start:
    rng, ones = np.random.default_rng(3), np.ones(4)
    each = np.ones((4, N_AIRS_BINS))
    kinds = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4], [0.5, 0.5, 0.0]])
    cross = 1e-10 * np.sin(np.arange(4 * N_AIRS_BINS)).reshape(4, -1)
    combined = Combined(spectra()[:4], 4e-9 * ones, 1e-9 * ones, 2e-9 * each, cross, -900 * ones, kinds, kinds[:, 2])
    depth = spectra()[:4] + 1e-4 * rng.normal(size=(4, N_BINS))
    star = {"Ts": 5500 + 100 * np.arange(4), "Mp": 1 + np.arange(4), "Rs": ones, "sma": 8 + np.arange(4)}
    log_scale = np.array([-9.0, -8.5, np.nan, -9.2])
    return Start(
        depth, np.full(depth.shape, 1e-8), 2e-9 * ones, combined, log_scale, place_of(star, depth[:, 1:].mean(1))
    )


def of_inputs() -> Arrays:
    made = start()
    scaling = learn_scaling(made, spectra()[:4])
    planets, nodes = raw_inputs(made, scaling.unit, np.abs(scaling.directions))
    time, rng = np.linspace(0, 7.5, 200), np.random.default_rng(4)
    dip = 1 - 0.01 * (np.abs(time - 3.7) < 1)
    pointing = {"centroid": rng.normal(size=(200, 2)), "jitter": rng.random((200, 2))}
    white = {"visit": np.zeros(200, int), "time": time, "flux": 1e6 * dip, "variance": 1e6 * dip, **pointing}
    drift = 1e-4 * time
    channel = {"visit": np.zeros(200, int), "channel": np.zeros(200, int), "white_drift": drift}
    fitted = {
        **channel,
        "white_model": dip * (1 + drift),
        "white_flux": dip * (1 + drift) + 1e-5 * rng.normal(size=200),
    }
    fixed = {"fixed": wavelength_inputs(), "light curve": fgs1_inputs(white, fitted, 0)}
    return {"planets": planets, "nodes": nodes} | fixed


def of_edges() -> Arrays:
    graph = spectral_graph()
    ends = {"source": graph.topology.source, "target": graph.topology.target}
    return {**ends, "features": graph.features, "count": np.array([len(graph.kind)])}


def of_network() -> Arrays:
    """A small network whose parameters are given by a formula, with the light curve as an input."""
    prior = learn_prior(spectra()[10:])
    combined = combine_many(prior, spectra()[:4], np.diag(np.full(N_BINS, 1e-9)), -9.0)
    learned = learn_scaling(replace(start(), combined=combined), spectra()[:4])
    scaling = replace(learned, directions=np.abs(learned.directions))  # their signs are arbitrary
    options = NetworkOptions(fgs1_width=8, fgs1_layers=1, airs_width=16, airs_layers=1, airs_heads=2, hidden=24)
    network = network_of(options, scaling).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            wave = torch.sin(1.7 * torch.arange(parameter.numel(), dtype=torch.float32))
            parameter.copy_(0.1 * wave.reshape(parameter.shape))
    return {"output": reference_output(Weights(network, scaling, prior, {"fgs1": "input"}))}


def of_weights() -> Arrays:
    weights = read_network(network_file("laptop"))
    assert weights.evidence is not None
    figures = weights.evidence.mean + weights.evidence.std * torch.sin(
        torch.arange(3.0)[:, None] + weights.evidence.mean
    )
    with torch.inference_mode():
        shift, log = (part.numpy() for part in weights.evidence.eval()(figures))
    return {"output": reference_output(weights), "evidence": np.concatenate([shift, log], axis=1)}


def of_uncertainty() -> Arrays:
    rng = np.random.default_rng(6)
    sigma, unknown = np.full((40, N_BINS), 3e-5), np.linspace(0, 0.9, 40)
    error = sigma * (rng.normal(size=sigma.shape) + rng.normal(size=(40, 1)))
    learned = learn_calibration(error, sigma, unknown, CalibOptions(widening=0.15))
    truth, ones = 0.0147 + error, np.ones(40)
    parts = (1e-9 * ones, 2e-9 * ones, np.full((40, N_AIRS_BINS), 1e-9), np.zeros((40, N_AIRS_BINS)))
    predicted = Predicted(np.arange(40), np.full(sigma.shape, 0.0147), *parts, unknown, pd.DataFrame(index=range(40)))
    factors = fit_factors(truth, predicted, DEFAULT_REFERENCE, 0.1, {})
    return {
        "sigma": learned.sigma(sigma, unknown),
        "half width": learned.half_width(sigma, unknown),
        "factors": np.array([factors.fgs1, factors.airs_mean, factors.airs_shape]),
    }


RECIPES: dict[str, Callable[[], Arrays]] = {
    "simulator": of_simulator,
    "features": of_features,
    "fit": of_fit,
    "prior": of_prior,
    "inputs": of_inputs,
    "edges": of_edges,
    "network": of_network,
    "uncertainty": of_uncertainty,
    "weights": of_weights,
}


def versions_of(name: str) -> dict[str, int]:
    """The version that an output stands for, and those that it follows."""
    return {each: VERSIONS[each] for each in (name, *FOLLOWS.get(name, ()))}


def outputs(name: str) -> Arrays:
    return {key: thinned(array) for key, array in RECIPES[name]().items()}


def recorded(name: str) -> tuple[dict[str, int], Arrays]:
    """Versions and outputs as they were recorded."""
    with np.load(FOLDER / f"{name}.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    return json.loads(str(arrays.pop("versions"))), arrays


def record(name: str) -> None:
    """Write outputs; refused where none of their versions was raised since they were recorded."""
    if (FOLDER / f"{name}.npz").is_file() and recorded(name)[0] == versions_of(name):
        raise SystemExit(f"{name}: recorded for {versions_of(name)} already: raise {name.upper()}_VERSION first")
    np.savez_compressed(FOLDER / f"{name}.npz", versions=np.array(json.dumps(versions_of(name))), **outputs(name))


if __name__ == "__main__":
    for chosen in sys.argv[1:]:
        record(chosen)
