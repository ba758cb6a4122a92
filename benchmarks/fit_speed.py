"""CPU time of the transit fit, compared with the package at an earlier commit; last line JSON.

    python benchmarks/fit_speed.py [--planets 12] [--rounds 3] [--reference 912c694] [--seed 1] [--folder FOLDER]

Fits planets of the default world twice, as a run does: first with the usual priors, then with priors learned from all
first fits and from the first fit's result on. The working tree and the reference take turns, planet by planet, in a
process of one thread each, so that other work on the machine slows both alike. The second fits of both have the same
priors and the same start, those of the working tree.

The table states CPU-seconds a planet (medians over planets and rounds) and the median ratio to the reference. The
differences are the largest of all planets and bins: of depths in ppm of the star's light, of 1-sigma error bars in per
cent.
"""

import argparse
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from spectramind_nb.transits.fit import fit_planet
from spectramind_nb.transits.fit_priors import FitOptions
from spectramind_nb.transits.learned_priors import Evidence, learn_fit_priors
from spectramind_nb.transits.model import blocks_of

ROOT = Path(__file__).parents[1]
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}
LEAST_PLANETS = 8  # from which priors are learned
Planet = tuple[dict[str, dict[str, np.ndarray]], dict[str, float]]  # features and star


class Timed(NamedTuple):
    """A fit and the CPU time that it took."""

    depth: np.ndarray  # (283,)
    error: np.ndarray  # (283,)
    shared: dict[str, float]
    evidence: dict[str, Any] | None
    seconds: float


def serve() -> None:
    """Fit what standard input asks for, until it ends; write a tuple as `Timed` has it for each fit."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed
    while True:
        try:
            features, star, learned, near = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        options = FitOptions.from_record({"learned": learned} if learned else {})
        blocks, start = blocks_of(features), time.process_time()
        fit = fit_planet(blocks, star, options, near)
        seconds = time.process_time() - start
        error = np.sqrt(fit.noise_variance + (fit.nuisance**2).sum(axis=1))
        evidence = fit.evidence.record() if fit.evidence else None
        pickle.dump((fit.depth, error, fit.shared, evidence, seconds), results)
        results.flush()


class Fitter:
    """A process that fits planets with the package in a folder."""

    def __init__(self, package: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": str(package)},
        )

    def fit(self, planet: Planet, learned: dict[str, Any] | None = None, near: tuple[Any, ...] | None = None) -> Timed:
        """Fit a planet, with the record of learned priors and from an earlier fit on where there are any."""
        assert self.process.stdin and self.process.stdout
        pickle.dump((*planet, learned, near), self.process.stdin)
        self.process.stdin.flush()
        try:
            return Timed(*pickle.load(self.process.stdout))
        except EOFError:
            raise SystemExit("a fitting process ended early; its error is above") from None

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def export(commit: str, folder: Path) -> None:
    """Write the package at a commit to a folder."""
    command = ["git", "-C", str(ROOT), "archive", commit, "spectramind_nb"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"--reference {commit}: this repository has no such commit with a package "
            f"({done.stderr.decode().strip()}); name one of `git log`, or get old ones by `git fetch --unshallow`"
        )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def simulated_planets(folder: Path, seed: int, count: int) -> list[Planet]:
    """Features and stars of test planets of the default world."""
    from fitted_planets import Setting, simulated  # not at the top: the reference may lack what it imports

    setting = Setting(folder, seed, 1)
    bank, stream = setting.bank("test", count), setting.seed_of("test")
    pairs = (simulated(stream, number, bank.planet(number), False) for number in range(count))
    return [(features, planet.system.row()) for planet, features in pairs]


def in_turns(fitters: list[Fitter], rounds: int, jobs: list[tuple[Any, ...]]) -> list[list[list[Timed]]]:
    """Fits by each round, job and fitter; the fitters take turns in going first."""
    fits = []
    for turn in range(rounds):
        row = []
        for number, job in enumerate(jobs):
            order = (0, 1) if (turn + number) % 2 else (1, 0)
            made = {k: fitters[k].fit(*job) for k in order}
            row.append([made[0], made[1]])
        fits.append(row)
    return fits


def figures(fits: list[list[list[Timed]]]) -> dict[str, float]:
    """CPU-seconds, their ratio, and the largest differences from the reference."""
    seconds = np.array([[[one.seconds for one in pair] for pair in row] for row in fits]).reshape(-1, 2)
    pairs = [pair for row in fits for pair in row]
    return {
        "seconds": float(np.median(seconds[:, 0])),
        "reference_seconds": float(np.median(seconds[:, 1])),
        "ratio": float(np.median(seconds[:, 0] / seconds[:, 1])),
        "depth_difference_ppm": max(1e6 * float(np.abs(new.depth - old.depth).max()) for new, old in pairs),
        "error_difference_percent": max(100 * float(np.abs(new.error / old.error - 1).max()) for new, old in pairs),
    }


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("--planets", 12), ("--rounds", 3), ("--seed", 1)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--reference", default="912c694", help="commit to compare with")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"), help="where spectra are kept")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve()
    if args.planets < LEAST_PLANETS:
        parser.error(f"--planets {args.planets}: priors are learned from {LEAST_PLANETS} planets or more")
    with TemporaryDirectory() as folder:
        export(args.reference, Path(folder))
        planets = simulated_planets(args.folder, args.seed, args.planets)
        fitters = [Fitter(ROOT), Fitter(Path(folder))]
        in_turns(fitters, 1, [(planets[0],)])  # which compiles
        first = in_turns(fitters, args.rounds, [(planet,) for planet in planets])
        fits = [new for new, _ in first[0]]
        evidence = [Evidence.from_record(fit.evidence) for fit in fits if fit.evidence]
        stars = [star for fit, (_, star) in zip(fits, planets, strict=True) if fit.evidence]
        learned = learn_fit_priors(evidence, stars, FitOptions())
        record = asdict(learned) if learned else None
        jobs = [(planet, record, (fit.depth, fit.shared)) for fit, planet in zip(fits, planets, strict=True)]
        second = in_turns(fitters, args.rounds, jobs)
        for fitter in fitters:
            fitter.close()
    table = {"first": figures(first), "second": figures(second)}
    print(f"{'fit':8}" + "".join(f"{name:>26}" for name in table["first"]))
    for name, row in table.items():
        print(f"{name:8}" + "".join(f"{value:26.4g}" for value in row.values()))
    print(json.dumps({name: {key: float(f"{value:.4g}") for key, value in row.items()} for name, row in table.items()}))


if __name__ == "__main__":
    main()
