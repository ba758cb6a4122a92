"""Compare fits with and without a prior of ExoSim 2's form for the gain drift, on drifts of that form and of another.

    python benchmarks/drift.py [--planets 40] [--seed 21] [--workers 2]

Fits simulated planets with and without `FitOptions.polynomial_sizes`. For FGS1 and the AIRS mean it prints the mean
absolute error and the median stated error (ppm), and z, the root mean square of error over stated error.
"""

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
from fitted_planets import STRESSES, side_by_side, simulated

from spectramind_nb.simulator.population import draw_planet_spectrum, planet_stream
from spectramind_nb.transits.fit import fit_planet
from spectramind_nb.transits.fit_priors import FitOptions
from spectramind_nb.transits.model import blocks_of

WITH = FitOptions()
HYPOTHESES = {"with": WITH, "without": replace(WITH, polynomial_sizes=())}
FORMS = ("drift of ExoSim 2's form", "")


def errors(seed: int, number: int, stress: str) -> list[list[float]]:
    """Fit one planet under each set of hypotheses; error and stated error of FGS1 and of the AIRS mean, in ppm."""
    drawn = draw_planet_spectrum(planet_stream(seed, "bank", number, 0))
    planet, features = simulated(seed, number, drawn, False, STRESSES[stress])
    rows = []
    for options in HYPOTHESES.values():
        fit = fit_planet(blocks_of(features), planet.system.row(), options)
        covariance = fit.covariance
        weight = 1 / fit.noise_variance[1:]
        weight /= weight.sum()
        apart = fit.depth - planet.spectrum
        stated = np.sqrt([covariance[0, 0], weight @ covariance[1:, 1:] @ weight])
        rows.append((1e6 * np.array([apart[0], weight @ apart[1:], *stated])).tolist())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("planets", 40), ("seed", 21), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    figures: dict[str, dict[str, list[float]]] = {}
    heads = ("FGS1: |error|", "stated", "z", "AIRS: |error|", "stated", "z")
    print(f"{'drift':26}{'hypothesis':12}" + "".join(f"{head:>15}" for head in heads))
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn")) as pool:
        for stress in FORMS:
            jobs = [(args.seed, number, stress) for number in range(args.planets)]
            rows = np.array(side_by_side(pool, "planets", errors, jobs))  # planets, hypotheses, 4
            for number, name in enumerate(HYPOTHESES):
                error, stated = rows[:, number, :2], rows[:, number, 2:]
                z = np.sqrt(np.mean((error / stated) ** 2, axis=0))
                columns = [np.abs(error).mean(axis=0), np.median(stated, axis=0), z]
                table = np.array(columns).T.round(2).tolist()  # of FGS1 and of AIRS
                form = stress or "full rank, as simulated"
                figures.setdefault(form, {})[name] = [value for part in table for value in part]
                print(f"{form:26}{name:12}" + "".join(f"{value:15.2f}" for value in figures[form][name]))
    print(json.dumps({"drift": figures}))


if __name__ == "__main__":
    main()
