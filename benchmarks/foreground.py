"""How far a constant foreground changes depths, on full-size visits with known truth; last line JSON.

    python benchmarks/foreground.py [--visits 40] [--workers 2] [--seed 77] [--airs 0,0.2,1.75,5] [--fgs1 0,20,100]

Exposes each visit anew from the same seed for every foreground (e-/s a pixel) and extracts its light curves. Depths are
judged in two ways:

- Fitted, with the true gain drift divided out and a baseline that is a cubic in time. Photon noise is part of their
  errors: a group of red bins has several per cent of its depth in one visit.
- By the dilution alone: what the error of the foreground that the calibration takes does to the depth, without noise.

The table states, for AIRS, the mean error of the depth (ppm, mean over bins weighted as white noise asks, with its
standard error over visits), the largest error of nine groups of bins in its standard errors, and the scatter of the
mean depth over visits; the mean dilution in ppm, and the largest of the nine groups in per cent of the depth, each with
its standard error; and the root mean square of dilutions over their stated errors. FGS1 has one bin. `fitted` is the
mean of what the calibration takes for the foreground.
"""

import argparse
import json
from concurrent.futures import as_completed
from itertools import product

import numpy as np
from calibration import depth_error, fresh, look, tell

from spectramind_nb.core.instrument import AIRS, AIRS_COLUMNS, CHANNELS, FGS1, airs_column_wavelengths
from spectramind_nb.simulator.world_parts import Foregrounds
from spectramind_nb.simulator.worlds import World

GROUP_EDGES_UM = (1.95, 2.05, 2.3, 2.6, 2.9, 3.2, 3.5, 3.7, 3.8, 3.91)
BASELINE = 3  # degree in time


def visit_errors(seed: int, number: int, name: str, foreground: float) -> dict[str, np.ndarray]:
    """Errors of a visit's depths (fraction of the star's light), their sigmas and the depths, by detector column."""
    channel, level = CHANNELS[name], (foreground, foreground)
    world = World(name="foreground", foreground=Foregrounds(airs_e_s=level, fgs1_e_s=level, strong_share=0.0))
    seen = look(seed, number, channel, world)
    used = len(seen.curves.flux)
    columns = AIRS_COLUMNS if channel is AIRS else slice(None)
    transit, light = (part[:used, columns] for part in (seen.transit, seen.exposure.light))
    flux, variance = (part.reshape(used, -1)[:, columns] for part in (seen.curves.flux, seen.curves.variance))
    drift = light / transit
    curves = [part.T for part in (flux / drift, variance / drift**2, 1 - transit)]
    found = np.array([depth_error(*curve, BASELINE) for curve in zip(*curves, strict=True)])
    depth, dilution = (1 - transit).max(axis=0), seen.curves.dilution
    assert dilution is not None
    off = dilution.foreground.level - foreground * channel.exposure_s
    return {
        "error": found[:, 0] * depth,
        "sigma": found[:, 1] * depth,
        "depth": depth,
        "dilution": (dilution.per_electron * off)[columns] * depth,
        "dilution_error": np.sqrt((dilution.errors[columns] ** 2).sum(axis=1)) * depth,
        "fitted": np.array([seen.curves.log["foreground_e_s"]]),
    }


def of_groups(row: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Errors of the groups of bins over their depths, per cent, weighted as white noise asks; FGS1 is one group."""
    weight, number = row["sigma"] ** -2.0, np.zeros(len(row["depth"]), int)
    if len(number) > 1:
        number = np.searchsorted(GROUP_EDGES_UM, airs_column_wavelengths()[AIRS_COLUMNS], side="right") - 1
    top, bottom = (np.bincount(number, weight * row[key]) for key in (name, "depth"))
    return 100 * top / bottom


def mean_error(row: dict[str, np.ndarray], name: str) -> float:
    """Error of the mean depth over bins, ppm, weighted as white noise asks."""
    return 1e6 * float(np.average(row[name], weights=row["sigma"] ** -2.0))


def summary(rows: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Means over visits with their standard errors."""
    figures, root = {}, np.sqrt(len(rows))
    for name, key in (("bias", "error"), ("dilution", "dilution")):
        mean = np.array([mean_error(row, key) for row in rows])
        groups = np.array([of_groups(row, key) for row in rows])
        size, spread = groups.mean(axis=0), groups.std(axis=0, ddof=1) / root
        figures |= {f"{name}_ppm": mean.mean(), f"{name}_se_ppm": mean.std(ddof=1) / root}
        if key == "error":
            figures |= {"worst_group_se": max(size / spread, key=abs), "scatter_ppm": mean.std(ddof=1)}
        else:
            worst = int(np.argmax(np.abs(size)))
            figures |= {"dilution_worst_percent": size[worst], "dilution_worst_se_percent": spread[worst]}
    z = np.array([row["dilution"] / row["dilution_error"] for row in rows])
    return figures | {"dilution_z": np.sqrt((z**2).mean()), "fitted_e_s": np.mean([row["fitted"] for row in rows])}


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("--visits", 40), ("--workers", 2), ("--seed", 77)):
        parser.add_argument(option, type=int, default=default)
    for option, levels in (("--airs", "0,0.2,1.75,5"), ("--fgs1", "0,20,100")):
        parser.add_argument(option, default=levels, help="foregrounds, e-/s a pixel; empty for none")
    args = parser.parse_args()
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for channel, text in ((AIRS, args.airs), (FGS1, args.fgs1)):
        levels = [float(level) for level in text.split(",") if level]
        jobs = list(product(levels, range(args.visits)))
        with fresh(args.workers) as pool:
            futures = [pool.submit(visit_errors, args.seed, n, channel.name, level) for level, n in jobs]
            for done, _ in enumerate(as_completed(futures), start=1):
                tell(f"{channel.name} visits", done, len(jobs))
            rows = [future.result() for future in futures]
        for start, level in enumerate(levels):
            at = slice(start * args.visits, (start + 1) * args.visits)
            table = {name: round(float(value), 4) for name, value in summary(rows[at]).items()}
            figures.setdefault(channel.name, {})[str(level)] = table
            if not start:
                print(f"{channel.name:9}" + "".join(f"{name:>26}" for name in table))
            print(f"{level:9g}" + "".join(f"{value:26.3f}" for value in table.values()))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
