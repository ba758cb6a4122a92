"""Predictors side by side on simulated planets that none of them has seen; last line JSON.

    python benchmarks/predictors.py [--planets 200] [--seed 1] [--raw 0] [--workers 2]

`--planets`: test planets of the light-curve path, and as many to choose sigma on. `--raw N`: besides, N full-size test
planets as raw frames through 00 and 01 (about 25 s each).
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np

from spectramind_nb.features import extract_planet
from spectramind_nb.lib.contracts import read_npz
from spectramind_nb.lib.flat_predictor import fixed_sigma, predict_flat
from spectramind_nb.lib.metric import score, summary
from spectramind_nb.lib.planets import Workers, map_planets
from spectramind_nb.lib.raw import RawFolder
from spectramind_nb.lib.simulator import FRAME_COUNTS, draw_planets, simulate_dataset
from spectramind_nb.lib.simulator_light_curves import simulate_features
from spectramind_nb.lib.simulator_sky import Planet, physics, planet_stream

Features = list[Mapping[str, np.ndarray]]


def tell(what: str, done: int, total: int) -> None:
    """Progress on the terminal."""
    print(f"\r{what} {done}/{total}   ", end="" if done < total else "\n", file=sys.stderr, flush=True)


def by_light_curves(planets: dict[int, Planet], seed: int, split: str) -> Features:
    """`airs_bins` of planets by the light-curve path, full-size visits."""
    streams = (planet_stream(seed, split, number, 3) for number in range(len(planets)))
    return [
        simulate_features(rng, planet, FRAME_COUNTS["full"])["airs_bins"]
        for rng, planet in zip(streams, planets.values(), strict=True)
    ]


def by_frames(planets: dict[int, Planet], seed: int, workers: int) -> Features:
    """`airs_bins` of the same test planets by way of full-size raw frames, 00 and 01."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "raw"
        simulate_dataset(root, 0, len(planets), seed, "full", workers=workers, progress=tell)

        def extract(who: tuple[str, int]) -> Mapping[str, np.ndarray]:
            extract_planet(who, RawFolder(root), Path(folder))
            return read_npz(Path(folder) / f"airs_bins_{who[1]}.npz", "airs_bins")

        return map_planets(
            extract, [("test", label) for label in planets], Workers(workers), "planets extracted"
        ).results


def interval(truth: np.ndarray, mu: np.ndarray, sigma: np.ndarray, seed: int) -> tuple[float, float]:
    """95% of the score over planets drawn with replacement."""
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(len(truth), size=len(truth)) for _ in range(400)]
    low, high = np.percentile([score(truth[k], mu[k], sigma[k]) for k in drawn], [2.5, 97.5])
    return float(low), float(high)


def report(name: str, truth: np.ndarray, mu: np.ndarray, sigma: np.ndarray, seconds: float, seed: int) -> float:
    """One row of the table; returns the score."""
    found, (low, high) = summary(truth, mu, sigma), interval(truth, mu, sigma, seed)
    parts = ("fgs1", "airs_mean", "airs_shape")
    errors = "  ".join(f"{found[f'{part}_ppm']:6.0f} ({found[f'{part}_median_ppm']:.0f})" for part in parts)
    print(f"{name:22} {len(truth):5}  {found['score']:.3f} [{low:.3f}, {high:.3f}]  {errors}  {seconds:.4f}")
    return found["score"]


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("--planets", 200), ("--seed", 1), ("--raw", 0), ("--workers", 2)):
        parser.add_argument(option, type=int, default=default)
    args = parser.parse_args()
    chosen, test = (draw_planets(args.seed, split, args.planets, progress=tell) for split in ("train", "test"))
    truth, known = (np.array([planet.spectrum for planet in group.values()]) for group in (test, chosen))
    learned, features = by_light_curves(chosen, args.seed, "train"), by_light_curves(test, args.seed, "test")
    stars, known_stars = ([planet.system.row() for planet in group.values()] for group in (test, chosen))
    sigma = fixed_sigma(known, predict_flat(learned, known_stars, 1e-3)[0])
    print(f"{physics()}, sigma of flat {1e6 * sigma:.0f} ppm")
    print("predictor              planets  score [95%]      FGS1, AIRS mean, AIRS shape: RMS (median) ppm  s/planet")
    start = time.perf_counter()
    flat = predict_flat(features, stars, sigma)
    seconds = (time.perf_counter() - start) / len(features)
    figures = {"flat": report("flat, light curves", truth, *flat, seconds, args.seed)}
    if args.raw:
        few = dict(list(test.items())[: args.raw])
        raw = predict_flat(by_frames(few, args.seed, args.workers), stars[: args.raw], sigma)
        figures["flat_raw"] = report("flat, raw frames", truth[: args.raw], *raw, seconds, args.seed)
        same = [part[: args.raw] for part in (truth, *flat)]
        figures["flat_same_planets"] = report("flat, same, curves", *same, seconds, args.seed)
        apart = 1e6 * (raw[0] - flat[0][: args.raw])[:, 0]
        print(f"depth of frames minus that of light curves: mean {apart.mean():.0f}, rms {apart.std():.0f} ppm")
    print(json.dumps({**{name: round(value, 4) for name, value in figures.items()}, "seconds_per_planet": seconds}))


if __name__ == "__main__":
    main()
