"""Build spectramind_nb/data/chemistry.npz: shapes of spectra of any chemistry that the opacity table allows.

    python tools/build_chemistry.py spectramind_nb/data/chemistry.npz [--spectra 5000] [--kinds 16] [--seed 77]

Every molecule of the table has a mixing ratio between 1e-9 and 3e-3, evenly in its logarithm and independent of the
others. Temperatures are .5 to 1.5 times the equilibrium temperature; clouds lie at any pressure. Radii, masses, stars
and hazes are those of the simulator's population. The spectral prior adds these shapes for planets whose chemistry
differs from that of the training planets (nbs/prior/learning.ipynb). Two minutes on two cores.
"""

import argparse
import json
import os
import sys
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np

from spectramind_nb.core.files import atomic_path
from spectramind_nb.core.lifetime import process_pool
from spectramind_nb.core.opacity import opacity_table
from spectramind_nb.prior.learning import kinds_of, learn_shapes, normalised_shapes
from spectramind_nb.simulator.atmosphere import ATMOSPHERE_LAYERS, Atmosphere, guillot_profile, reference_spectrum
from spectramind_nb.simulator.population import (
    SOLAR_RADIUS_M,
    draw_radius,
    draw_system,
    equilibrium_temperature,
    within_population,
)

LOG_MIXING = (-9.0, -2.5)
PART, RANK = 100, 8


def draw_atmosphere(rng: np.random.Generator, equilibrium_K: float) -> Atmosphere:
    """An atmosphere of any chemistry."""
    kelvin = equilibrium_K * rng.uniform(0.5, 1.5)
    profile = guillot_profile(kelvin, np.exp(rng.normal(np.log(0.4), 0.4)), 10 ** rng.uniform(-3.5, -2.5))
    mixing = {name: np.full(ATMOSPHERE_LAYERS, 10 ** rng.uniform(*LOG_MIXING)) for name in opacity_table().molecules}
    cloud, haze_um, haze = 10 ** rng.uniform(-4.4, 1.0), 10 ** rng.uniform(-1.7, -1.0), 10 ** rng.uniform(7.0, 10.5)
    return Atmosphere(np.clip(profile, 300, 3000), mixing, cloud, haze_um, haze, {"temperature_K": kelvin})


def draw_spectrum(rng: np.random.Generator) -> np.ndarray:  # (283,)
    """A spectrum whose mean and features have the sizes of the population's."""
    while True:
        system = draw_system(rng)
        atmosphere = draw_atmosphere(rng, equilibrium_temperature(system))
        radius = draw_radius(rng, system, atmosphere)
        spectrum = reference_spectrum(atmosphere, system.Mp, radius, system.Rs * SOLAR_RADIUS_M)
        if within_population(spectrum):
            return spectrum


def draw_part(seed: int, part: int) -> np.ndarray:  # (PART, 283)
    """Spectra of one part, with random numbers of their own."""
    rng = np.random.default_rng([seed, part])
    return np.array([draw_spectrum(rng) for _ in range(PART)])


def main() -> None:
    """Draw, learn and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for option, default in {"spectra": 5000, "kinds": 16, "seed": 77, "workers": 2}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    a = parser.parse_args()
    with process_pool(a.workers) as pool:
        parts = []
        for found in pool.map(draw_part, [a.seed] * (a.spectra // PART), range(a.spectra // PART)):
            parts.append(found)
            print(f"\rspectra {PART * len(parts)}/{a.spectra}", end="", file=sys.stderr, flush=True)
    shapes = normalised_shapes(np.concatenate(parts))[2]
    kind = kinds_of(shapes, a.kinds)
    centres, components, rest_variance, _ = learn_shapes(shapes, kind, RANK)
    made = {"spectra": a.spectra, "seed": a.seed, "log_mixing": LOG_MIXING, "molecules": opacity_table().molecules}
    arrays = {"shares": np.bincount(kind) / len(kind), "centres": centres, "components": components}
    arrays |= {"rest_variance": rest_variance}
    with atomic_path(a.out) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream, made=json.dumps(made), **{name: np.float32(array) for name, array in arrays.items()}
        )
    print(f"\n{len(centres)} kinds, {a.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
