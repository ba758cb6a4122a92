"""Build spectramind_nb/data/chemistry.npz: shapes of spectra of any chemistry that the opacity table allows.

    python tools/build_chemistry.py spectramind_nb/data/chemistry.npz [--spectra 20000] [--kinds 64] [--seed 77]

Every molecule of the table has a mixing ratio between 1e-9 and 3e-3, evenly in its logarithm and independent of the
others. Temperatures are .5 to 1.5 times the equilibrium temperature; clouds lie at any pressure. Radii, masses, stars
and hazes are those of the simulator's population. The spectral prior adds these shapes for planets whose chemistry
differs from that of the training planets (nbs/prior/learning.ipynb). Ten minutes on two cores.
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
from spectramind_nb.simulator.atmosphere import ANY_LOG_MIXING
from spectramind_nb.simulator.population import draw_any_planet_spectrum

PART, RANK = 100, 8
KIND_RANK = 10  # principal components for clustering


def draw_part(seed: int, part: int) -> np.ndarray:  # (PART, 283)
    """Spectra of one part, with random numbers of their own."""
    rng = np.random.default_rng([seed, part])
    return np.array([draw_any_planet_spectrum(rng).spectrum for _ in range(PART)])


def main() -> None:
    """Draw, learn and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for option, default in {"spectra": 20000, "kinds": 64, "seed": 77, "workers": 2}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    a = parser.parse_args()
    with process_pool(a.workers) as pool:
        parts = []
        for found in pool.map(draw_part, [a.seed] * (a.spectra // PART), range(a.spectra // PART)):
            parts.append(found)
            print(f"\rspectra {PART * len(parts)}/{a.spectra}", end="", file=sys.stderr, flush=True)
    shapes = normalised_shapes(np.concatenate(parts))[2]
    kind = kinds_of(shapes, a.kinds, KIND_RANK)
    centres, components, rest_variance, _ = learn_shapes(shapes, kind, RANK)
    made = {"spectra": a.spectra, "seed": a.seed, "log_mixing": ANY_LOG_MIXING, "molecules": opacity_table().molecules}
    arrays = {"shares": np.bincount(kind) / len(kind), "centres": centres, "rest_variance": rest_variance}
    arrays = {name: np.float32(array) for name, array in arrays.items()}
    arrays["components"] = np.float16(components)  # to a thousandth, for a small file
    with atomic_path(a.out) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, made=json.dumps(made), **arrays)
    print(f"\n{len(centres)} kinds, {a.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
