"""How long 1,100 planets take to predict on 4 cores, from measured parts; last line JSON.

    python benchmarks/runtime.py [--raw DIR] [--run DIR] [--workers 2] [--seed 41] [--planets 3] [--model full]

Simulates full-size test planets until one of them has two visits (or takes those of DIR), and predicts them as
`spectramind predict` does, with what comes with the package or a run of yours: once a planet for warming up, then all
of them. Every planet's seconds are those of one worker while `--workers` are busy. One planet in ten has two visits.

The 4 cores are taken to share features and fits evenly; predicting and writing run on one of them. With a T4 only the
network would run there, and is taken to cost nothing: nothing else has use for it. `hours_cpu4_by_cpu_time` is what
this process's CPU time makes of it, for a machine that others use as well. `--model`: also the time that a network of
that size takes on one core, untrained and with all of FGS1's steps, and its share of 9 hours for 1,100 planets.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np
import pandas as pd

from spectramind_nb.core.files import NETWORK_FILE, run_folder
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.network.mamba import FGS1_CHANNELS
from spectramind_nb.network.model import Inputs, network_inputs, network_of, network_start, options_of, run_network
from spectramind_nb.network.weights import read_network
from spectramind_nb.pipeline.config import compose
from spectramind_nb.pipeline.predict import CORES, predict, runtime_table, shipped_run
from spectramind_nb.pipeline.predictors import read_fits
from spectramind_nb.pipeline.provenance import CHALLENGE_PLANETS
from spectramind_nb.simulator.data_sets import draw_planets, simulate_dataset

TWO_VISITS = 0.1  # share of the challenge's planets
STEPS, BATCH, LIMIT_H = 1125, 16, 9.0  # of FGS1; planets; hours that Kaggle gives


def simulated(folder: Path, planets: int, seed: int, workers: int) -> RawFolder:
    """Full-size test planets, the first seed from `seed` on where one of them, but not all, has two visits."""
    while {len(one.orbits) for one in draw_planets(seed, "test", planets).values()} != {1, 2}:
        seed += 1
    print(f"seed {seed}: simulating {planets} planets", file=sys.stderr)
    simulate_dataset(folder, 0, planets, seed, "full", workers=workers)
    return RawFolder(folder)


def network_seconds(run: Path, work: Path, planets: list[int], model: str = "") -> float:
    """Seconds a planet of the network alone: of the run, or an untrained `model` that uses the FGS1 light curve."""
    weights, fits = read_network(run_folder(run, "outputs/checkpoints") / NETWORK_FILE), read_fits(work, planets)
    network, start = weights.network, network_start(weights.prior, fits)
    if model:
        network = network_of(options_of(compose([f"model={model}"]).model), weights.scaling).eval()
        fgs1 = np.random.default_rng(0).normal(size=(len(planets), STEPS, len(FGS1_CHANNELS))).astype(np.float32)
        inputs = network_inputs(start, weights.scaling, fgs1)
        inputs = Inputs(*(x[np.arange(BATCH) % len(planets)] for x in inputs))
    else:
        inputs = weights.inputs(start, fits.fgs1)
    run_network(network, Inputs(*(x[:1] for x in inputs)))
    begun = time.perf_counter()
    run_network(network, inputs)
    return (time.perf_counter() - begun) / len(inputs.nodes)


def main() -> None:
    """Measure and project."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--planets", type=int, default=3)
    parser.add_argument("--model")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        raw = RawFolder(given.raw) if given.raw else simulated(home / "raw", given.planets, given.seed, given.workers)
        run, planets = given.run or shipped_run(home / "run"), raw.planets_on_disk("test")[: given.planets]
        predict(raw.root, run, home / "warm.csv", planets[:1], given.workers)
        cpu = time.process_time()
        predict(raw.root, run, home / "out.csv", planets, given.workers, keep=True)
        cpu = (time.process_time() - cpu) / len(planets)
        work = home / "out.work"
        records = [json.loads((work / f"planets/{planet}.json").read_text())["seconds"] for planet in planets]
        rows = pd.DataFrame(records).assign(visits=[len(raw.visits("test", planet)) for planet in planets])
        by_visits = rows.groupby("visits")[["features", "fit"]].mean()
        print(by_visits.round(2).to_string())
        shares = np.array([1 - TWO_VISITS, TWO_VISITS]) if {1, 2} <= {*by_visits.index} else np.ones(len(by_visits))
        parts = dict(zip(by_visits, shares @ by_visits.to_numpy(), strict=True))
        serial = pd.read_csv(home / "runtime.csv").set_index("step")["seconds_per_planet"]
        parts |= {step: float(serial[step]) for step in ("predict", "write")}
        network = network_seconds(run, work, planets)
        other = network_seconds(run, work, planets, given.model) if given.model else 0.0
    table = runtime_table(parts, len(planets), given.workers)
    print(table.to_string(index=False))
    hours = float(table["hours_1100_planets_4_cores"].iloc[-1])
    found = {"hours_cpu4": hours, "hours_cpu4_t4": hours - network * CHALLENGE_PLANETS / 3600}
    cpu_hours = cpu * (1 + TWO_VISITS) / rows["visits"].mean() * CHALLENGE_PLANETS / CORES / 3600
    found |= {
        "hours_cpu4_by_cpu_time": cpu_hours,
        "seconds_per_planet": float(table["seconds_per_planet"].iloc[-1]),
        "cpu_seconds_per_planet": cpu,
    }
    if given.model:
        share = other * CHALLENGE_PLANETS / 3600 / LIMIT_H
        found |= {f"{given.model}_seconds_per_planet": other, f"{given.model}_share_of_9_hours": share}
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
