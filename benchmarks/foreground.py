"""How far a constant foreground changes depths, on full-size visits with known truth; last line JSON.

    python benchmarks/foreground.py [--visits 40] [--workers 2] [--seed 77] [--airs 0,0.2,1.75,5] [--fgs1 0,20,100]

Exposes each visit anew from the same seed for every foreground (e-/s a pixel), extracts its light curves, and fits
depths with the true gain drift divided out and a baseline that is a cubic in time. The table states, for AIRS, the
mean error of the depth (ppm, mean over bins with its standard error over visits), the largest mean error of nine
groups of bins (per cent of the depth, with its standard error), the same two less those at the first foreground of
the list, which cancels drift and wander but not photon noise, and the scatter of the mean depth over visits. FGS1
has one bin. `fitted` is the mean of what the calibration takes for the foreground.
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
    world = World(name="foreground", foreground=Foregrounds(airs_e_s=level, fgs1_e_s=level))
    seen = look(seed, number, channel, world)
    used = len(seen.curves.flux)
    columns = AIRS_COLUMNS if channel is AIRS else slice(None)
    transit, light = (part[:used, columns] for part in (seen.transit, seen.exposure.light))
    flux, variance = (part.reshape(used, -1)[:, columns] for part in (seen.curves.flux, seen.curves.variance))
    drift = light / transit
    curves = [part.T for part in (flux / drift, variance / drift**2, 1 - transit)]
    found = np.array([depth_error(*curve, BASELINE) for curve in zip(*curves, strict=True)])
    depth = (1 - transit).max(axis=0)
    return {"error": found[:, 0] * depth, "sigma": found[:, 1] * depth, "depth": depth, "log": seen.curves.log}


def of_groups(row: dict[str, np.ndarray]) -> np.ndarray:
    """Errors of the groups of AIRS bins over their depths, weighted as white noise asks."""
    um = airs_column_wavelengths()[AIRS_COLUMNS]
    number, weight = np.searchsorted(GROUP_EDGES_UM, um, side="right") - 1, row["sigma"] ** -2.0
    top, bottom = (np.bincount(number, weight * row[name]) for name in ("error", "depth"))
    return top / bottom


def summary(rows: list[dict[str, np.ndarray]], first: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Means over visits, absolute and less those of the first foreground."""
    mean = 1e6 * np.array([row["error"].mean() for row in rows])
    apart = mean - 1e6 * np.array([row["error"].mean() for row in first])
    groups = 100 * np.array([of_groups(row) if len(row["error"]) > 1 else row["error"] / row["depth"] for row in rows])
    start = 100 * np.array([of_groups(row) if len(row["error"]) > 1 else row["error"] / row["depth"] for row in first])
    root = np.sqrt(len(rows))
    worst = int(np.argmax(np.abs(groups.mean(axis=0))))
    return {
        "bias_ppm": mean.mean(),
        "bias_se_ppm": mean.std(ddof=1) / root,
        "worst_group_percent": groups.mean(axis=0)[worst],
        "worst_group_se_percent": groups.std(axis=0, ddof=1)[worst] / root,
        "change_ppm": apart.mean(),
        "change_worst_percent": max((groups - start).mean(axis=0), key=abs),
        "scatter_ppm": mean.std(ddof=1),
        "fitted_e_s": float(np.mean([row["log"].get("foreground_e_s", np.nan) for row in rows])),
    }


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
            table = {name: round(float(value), 4) for name, value in summary(rows[at], rows[: args.visits]).items()}
            figures.setdefault(channel.name, {})[str(level)] = table
            if not start:
                print(f"{channel.name:9}" + "".join(f"{name:>24}" for name in table))
            print(f"{level:9g}" + "".join(f"{value:24.3f}" for value in table.values()))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
