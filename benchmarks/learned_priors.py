"""Compare fits with guessed priors and with priors that the fit learns from the same planets, in named worlds.

    python benchmarks/learned_priors.py [--planets 40] [--seed 21] [--workers 2] [--worlds default,full-rank]

No label is used. For FGS1 and the AIRS mean it prints the medians of absolute and of stated error (ppm), and z, the
root mean square of error over stated error; then the processor seconds of a fit. The row `smooth` has guessed
priors without the drifts of ExoSim 2's form. The last line is JSON.
"""

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from fitted_planets import Features, side_by_side, simulated

from spectramind_nb.simulator.population import SimulatedPlanet, draw_planet_spectrum, planet_stream
from spectramind_nb.simulator.worlds import NAMED_WORLDS
from spectramind_nb.transits.fit import fit_planet
from spectramind_nb.transits.fit_priors import FitOptions
from spectramind_nb.transits.fit_report import Fit
from spectramind_nb.transits.learned_priors import Evidence, learn_fit_priors
from spectramind_nb.transits.model import blocks_of

HEADS = ("FGS1: error", "stated", "z", "AIRS: error", "stated", "z", "seconds")
GUESSED = FitOptions()
First = tuple[list[float], list[float], Evidence, dict[str, float], tuple[np.ndarray, dict[str, float]]]


def seen_in(seed: int, number: int, world: str) -> tuple[SimulatedPlanet, Features]:
    """A planet of a world and its features."""
    drawn = draw_planet_spectrum(planet_stream(seed, "bank", number, 0))
    return simulated(seed, number, drawn, False, NAMED_WORLDS[world])


def figures_of(fit: Fit, truth: np.ndarray, seconds: float) -> list[float]:
    """Error and stated error of FGS1 and of the AIRS mean, in ppm, and the time that the fit took."""
    weight = 1 / fit.noise_variance[1:]
    weight /= weight.sum()
    apart, covariance = fit.depth - truth, fit.covariance
    stated = np.sqrt([covariance[0, 0], weight @ covariance[1:, 1:] @ weight])
    return [*(1e6 * np.array([apart[0], weight @ apart[1:], *stated])).tolist(), seconds]


def first(seed: int, number: int, world: str) -> First:
    """Fit a planet with smooth drifts alone, and with all guessed priors; what the second says of the priors."""
    planet, features = seen_in(seed, number, world)
    blocks, star, rows = blocks_of(features), planet.system.row(), []
    for options in (replace(GUESSED, polynomial_sizes=()), GUESSED):
        begun = time.process_time()
        fit = fit_planet(blocks, star, options)
        rows.append(figures_of(fit, planet.spectrum, time.process_time() - begun))
    assert fit.evidence is not None
    return rows[0], rows[1], fit.evidence, star, (fit.depth, fit.shared)


def second(seed: int, number: int, world: str, options: FitOptions, near: Any) -> list[float]:
    """Fit a planet again with learned priors."""
    planet, features = seen_in(seed, number, world)
    blocks, begun = blocks_of(features), time.process_time()
    fit = fit_planet(blocks, planet.system.row(), options, near)
    return figures_of(fit, planet.spectrum, time.process_time() - begun)


def summary(rows: list[list[float]]) -> list[float]:
    """One row of the table."""
    values = np.array(rows)
    error, stated = values[:, :2], values[:, 2:4]
    z = np.sqrt(np.mean((error / stated) ** 2, axis=0))
    columns = [
        np.median(np.abs(error), axis=0),
        np.median(stated, axis=0),
        z,
    ]  # grazing planets have no say in a median
    return [*np.array(columns).T.ravel().round(2).tolist(), round(float(values[:, 4].mean()), 2)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("planets", 40), ("seed", 21), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--worlds", default="default,full-rank")
    args = parser.parse_args()
    figures: dict[str, Any] = {}
    print(f"{'world':12}{'priors':12}" + "".join(f"{head:>15}" for head in HEADS))
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn")) as pool:
        for world in args.worlds.split(","):
            jobs = [(args.seed, number, world) for number in range(args.planets)]
            found = side_by_side(pool, f"{world}: guessed priors", first, jobs)
            learned = learn_fit_priors([one[2] for one in found], [one[3] for one in found], GUESSED)
            options = replace(GUESSED, learned=learned)
            again = [(*job, options, one[4]) for job, one in zip(jobs, found, strict=True)]
            rows = {"smooth": [one[0] for one in found], "guessed": [one[1] for one in found]}
            rows["learned"] = side_by_side(pool, f"{world}: learned priors", second, again)
            figures[world] = {name: summary(part) for name, part in rows.items()}
            for name, values in figures[world].items():
                print(f"{world:12}{name:12}" + "".join(f"{value:15.2f}" for value in values))
            if learned:
                known = ("sma_offset", "sma_scatter", "inclination_scatter_deg")
                figures[world]["priors"] = {name: round(asdict(learned)[name], 4) for name in known}
                print(f"{'':12}{figures[world]['priors']}")
    print(json.dumps({"learned_priors": figures}))


if __name__ == "__main__":
    main()
