"""How fast raw frames become light curves, and how close they come to what physics allows; last line JSON.

    python benchmarks/calibration.py [--raw DIR] [--repeats 3] [--peer PYTHON] [--threads 1] [--seed 5]
    python benchmarks/calibration.py --accuracy 100 [--workers 2] [--seed 5]

The first times one full-size planet of one visit, linearity, jitter, cosmic rays and variances on: from the raw files
to both feature files written. The read floor decodes its two signal files and does nothing else. `--peer` names the
Python of an environment with ariel-data-preprocessing 1.5, which is timed on the same planet:

    python -m venv peer
    peer/bin/pip install --no-deps ariel-data-preprocessing==1.5
    peer/bin/pip install "pandas<3" numpy scipy astropy h5py pyarrow

(its other requirements serve parts that are not run here). The second exposes full-size test visits with every
systematic error that the simulator knows, about 10 s each on one core, and compares scatter and transit depth with the
truth.
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
for threads in THREAD_VARIABLES:
    os.environ.setdefault(threads, "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spectramind_nb.core.instrument import ADC_GAIN, ADC_OFFSET, AIRS, AIRS_COLUMNS, CHANNELS, FGS1, Channel
from spectramind_nb.detector.corrections import Options, Visit
from spectramind_nb.detector.extraction import (
    LightCurves,
    extract_planet,
    extract_visit,
    in_steps,
    signal_paths,
    without_gaps,
)
from spectramind_nb.detector.raw import Adc, RawFolder
from spectramind_nb.detector.signal_files import open_signal, pixel_histories
from spectramind_nb.simulator.data_sets import FRAME_COUNTS, frame_hours, simulate_dataset, visit_transit
from spectramind_nb.simulator.detector import ground_calibration
from spectramind_nb.simulator.disturbances import draw_disturbances
from spectramind_nb.simulator.frames import Exposure, expose, prepare_exposure
from spectramind_nb.simulator.population import draw_planet, planet_stream
from spectramind_nb.simulator.worlds import DEFAULT_WORLD, World

Who = tuple[str, int]  # split and planet


def tell(what: str, done: int, total: int) -> None:
    """Progress on the terminal."""
    print(f"\r{what} {done}/{total}   ", end="" if done < total else "\n", file=sys.stderr, flush=True)


def fresh(workers: int) -> ProcessPoolExecutor:
    """Processes that have done nothing yet, and owe their memory to nobody."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def alone(function: Callable[..., Any], *args: Any) -> Any:
    """The function's result, from a process of its own."""
    with fresh(1) as pool:
        return pool.submit(function, *args).result()


def simulate_one(out: Path, seed: int) -> None:
    """A full-size training planet of one visit, with the first seed from `seed` on that draws one."""
    one_visit = (s for s in count(seed) if len(draw_planet(planet_stream(s, "train", 0, 1)).orbits) == 1)
    simulate_dataset(out, 1, 0, next(one_visit), "full", workers=1, progress=tell)


def signals(who: Who, raw: RawFolder) -> list[tuple[Path, Channel]]:
    """Signal files of a planet of one visit."""
    return list(zip(signal_paths(who, raw), CHANNELS.values(), strict=True))


def full_planet(raw: RawFolder) -> Who:
    """The first full-size planet of one visit."""
    for who in ((split, planet) for split in ("train", "test") for planet in raw.planets_on_disk(split)):
        if raw.visits(*who) == [0] and all(open_signal(p, c).pairs == c.full_pairs for p, c in signals(who, raw)):
            return who
    raise SystemExit(f"{raw.root}: no full-size planet of one visit. Fix: another folder, or leave --raw out")


def decode(who: Who, raw: RawFolder, threads: int) -> None:
    """The read floor: each file decoded as a whole, into memory that is touched for the first time."""
    for path in signal_paths(who, raw):
        pq.read_table(path, memory_map=True, use_threads=threads > 1)


def decode_blocks(who: Who, raw: RawFolder) -> None:
    """A stricter floor: the files decoded as the pipeline does, in blocks whose memory is used again."""
    for path, channel in signals(who, raw):
        deque(pixel_histories(open_signal(path, channel)), maxlen=0)


def clock(task: Callable[[], Any]) -> float:
    """Seconds a task takes."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def time_planet(raw: RawFolder, who: Who, threads: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of both floors and of ours, in turns; the first of each is the warm-up."""
    pa.set_cpu_count(threads)
    with tempfile.TemporaryDirectory() as out:
        tasks = {
            "read floor, each file as a whole": partial(decode, who, raw, threads),
            "ours, raw files to feature files": partial(extract_planet, who, raw, Path(out)),
            "block floor, files in our blocks": partial(decode_blocks, who, raw),
        }
        found: dict[str, list[float]] = {name: [] for name in tasks}
        for number in range(repeats + 1):
            for name, task in tasks.items():
                found[name].append(clock(task))
            tell("rounds (the first warms up: compilation, page cache, memory)", number + 1, repeats + 1)
    return found


def peak_memory(raw: RawFolder, who: Who) -> float:
    """Most memory this process ever held, MB, once it has extracted the planet."""
    with tempfile.TemporaryDirectory() as out:
        extract_planet(who, raw, Path(out))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


PEER = """
import json, sys, time
from ariel_data_preprocessing.data_preprocessing import DataProcessor
seconds = []
for _ in range(int(sys.argv[3])):
    processor = DataProcessor(
        input_data_path=sys.argv[1], output_data_path=sys.argv[2], mode="test", n_cpus=1, n_planets=1,
        adc_conversion=True, masking=True, linearity_correction=True, dark_subtraction=True, cds_subtraction=True,
        flat_field_correction=True, downsample_fgs=True, smoothing_windows=[10])
    start = time.perf_counter()
    processor.run()
    seconds.append(time.perf_counter() - start)
    open(processor.output_filepath).close()
print(json.dumps(seconds))
"""


def time_peer(python: str, raw: RawFolder, who: Who, repeats: int) -> list[float]:
    """Seconds of the peer's `run()`, one worker, for a folder that links to this planet alone."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        (data / "test").mkdir(parents=True)
        (data / "test" / str(who[1])).symlink_to(raw.planet_folder(*who).resolve())
        for name in ("axis_info.parquet", "adc_info.csv"):
            (data / name).symlink_to((raw.root / name).resolve())
        print(f"peer, {repeats} times, about half a minute each", file=sys.stderr, flush=True)
        command = [python, "-c", PEER, str(data), str(Path(folder) / "out"), str(repeats)]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600 * repeats)
    return json.loads(ran.stdout.splitlines()[-1])


def timing(raw: RawFolder, threads: int, repeats: int, peer: str | None) -> dict[str, float | None]:
    """Print the first part's table; returns its figures."""
    os.environ.update({name: str(threads) for name in THREAD_VARIABLES})  # of the processes that follow
    who = full_planet(raw)
    found = alone(time_planet, raw, who, threads, repeats)
    memory = alone(peak_memory, raw, who)
    print(f"planet {who[1]}, both channels; threads: {threads}, workers: 1; median and range of {repeats}, in seconds")
    for name, (warm, *seconds) in found.items():
        print(f"{name}   {np.median(seconds):7.3f} ({min(seconds):.3f} to {max(seconds):.3f}), warm-up {warm:.3f}")
    floor, ours, block = (float(np.median(seconds[1:])) for seconds in found.values())
    print(f"ours over the read floor {ours / floor:.2f}, over the block floor {ours / block:.2f}; peak {memory:.0f} MB")
    theirs = None
    if peer:
        others = time_peer(peer, raw, who, repeats)
        theirs = float(np.median(others))
        print(f"ariel-data-preprocessing 1.5       {theirs:7.3f} ({min(others):.3f} to {max(others):.3f})")
    else:
        print("peer not timed: --peer names no environment of its own")
    return {
        "read_floor_s": floor,
        "ours_s": ours,
        "ratio_to_floor": ours / floor,
        "peer_s": theirs,
        "times_faster_than_peer": theirs and theirs / ours,
        "peak_rss_mb": memory,
        "block_floor_s": block,
        "ratio_to_block_floor": ours / block,
    }


STEP_PAIRS = {"FGS1": 50, "AIRS-CH0": 5}  # 20 s and 24 s
BASELINES = {"flat": 0, "cubic": 3}  # degree in time; the star's slow wander is a cubic


@dataclass(frozen=True)
class Looked:
    """One channel of a visit: the truth and what was extracted."""

    exposure: Exposure
    transit: np.ndarray  # relative flux, (pairs, columns)
    depth: float  # mean over the channel's bins
    curves: LightCurves


def look(seed: int, number: int, channel: Channel, world: World = DEFAULT_WORLD) -> Looked:
    """First visit of test planet `number`, exposed in memory, the same as `simulate_dataset` writes it."""
    planet, full = draw_planet(planet_stream(seed, "test", number, 1), world=world), FRAME_COUNTS["full"]
    events = draw_disturbances(planet_stream(seed, "test", number, 2, 0, len(CHANNELS)), world, planet, 0)
    rng = planet_stream(seed, "test", number, 2, 0, list(CHANNELS).index(channel.name))
    hours = frame_hours(full, channel).reshape(-1, 2).mean(axis=1)
    transit = visit_transit(planet, 0, channel, hours, events)
    exposure = prepare_exposure(rng, channel, transit, planet.system.Ts, planet.brightness, events=events)
    calibration = ground_calibration(rng, exposure.detector)
    by_pixel, done = np.empty((channel.pixels, 2 * len(hours)), np.uint16), 0
    for adu in expose(rng, exposure, 500):
        frames = adu.reshape(-1, channel.pixels)
        by_pixel[:, done : done + len(frames)] = frames.T
        done += len(frames)
    signal = by_pixel.T.reshape(len(hours), 2, channel.rows, channel.columns)
    visit = Visit(channel, signal, hours, calibration, Adc(ADC_GAIN, ADC_OFFSET))
    curves = extract_visit(visit, STEP_PAIRS[channel.name], Options())
    depth = planet.spectrum[:1] if channel is FGS1 else planet.spectrum[1:]
    return Looked(exposure, transit, float(depth.mean()), curves)


def best_scatter(exposure: Exposure) -> tuple[np.ndarray, np.ndarray]:
    """Mean light of a pair (e-) in each column, and its relative scatter with optimal weights where photon and read
    noise are all there is.
    """
    detector, channel = exposure.detector, exposure.detector.channel
    shape, axis = detector.dark.shape, 0 if channel is AIRS else None
    image = exposure.modes[len(exposure.modes) // 2, :, 0].reshape(shape)  # flat included
    image = image * exposure.light.mean(axis=0) * channel.exposure_s
    dark_sky = exposure.background.reshape(shape) * channel.exposure_s
    variance = (image + dark_sky + 2 * detector.read**2) / detector.response**2
    light = image / detector.response
    total = np.atleast_1d(light.sum(axis=axis))
    share = light / total
    return total, 1 / np.sqrt(np.atleast_1d((share**2 * ~detector.dead / variance).sum(axis=axis))) / total


def step_scatter(relative: np.ndarray) -> np.ndarray:
    """Of successive steps, from their differences."""
    return np.diff(relative, axis=0).std(axis=0) / np.sqrt(2) / relative.mean(axis=0)


def depth_error(flux: np.ndarray, variance: np.ndarray, shape: np.ndarray, degree: int) -> tuple[float, float]:
    """Relative error s - 1 of the depth, and its sigma by the variances, for F0 (1 - s shape) fitted to all finite
    pairs; F0 is a polynomial of time.
    """
    fine, time_x = np.isfinite(flux), np.linspace(-1, 1, len(flux))
    design = np.column_stack([np.vander(time_x, degree + 1, True) * (1 - shape)[:, None], -shape])[fine]
    weight = 1 / np.sqrt(variance[fine])
    design *= weight[:, None]
    covariance = np.linalg.inv(design.T @ design)
    found = covariance @ (design.T @ (flux[fine] * weight))
    return found[-1] / found[0], float(np.sqrt(covariance[-1, -1])) / found[0]


def depth_errors(name: str, depth: float, *curve: np.ndarray) -> dict[str, float]:
    """Errors of the depth and their sigmas, ppm of the star's light, with each of `BASELINES`."""
    figures = {}
    for baseline, degree in BASELINES.items():
        error, sigma = depth_error(*curve, degree)
        figures |= {f"{name}_error_{baseline}": 1e6 * depth * error, f"{name}_sigma_{baseline}": 1e6 * depth * sigma}
    return figures


def fgs1_visit(seed: int, number: int) -> dict[str, float]:
    """Scatter over the limit and depth error of FGS1."""
    seen, length = look(seed, number, FGS1), STEP_PAIRS["FGS1"]
    curves, used = seen.curves, len(seen.curves.flux)
    light, transit = seen.exposure.light[:used, 0], seen.transit[:used, 0]
    scatter = step_scatter(without_gaps(curves, length)[0] / in_steps(light, length)) * np.sqrt(length)
    limit = best_scatter(seen.exposure)[1][0]
    flicker = seen.exposure.jitter[3] * np.sqrt(0.1 / FGS1.exposure_s)
    drift = light / transit
    return {
        "fgs1_scatter": float(scatter / np.hypot(limit, flicker)),
        "fgs1_scatter_plain": float(scatter / limit),
        **depth_errors("fgs1", seen.depth, curves.flux / drift, curves.variance / drift**2, 1 - transit),
    }


def airs_visit(seed: int, number: int) -> dict[str, float]:
    """Scatter over the limit of the bins, and depth error of their sum."""
    seen, length = look(seed, number, AIRS), STEP_PAIRS["AIRS-CH0"]
    kept = slice(len(seen.curves.flux)), AIRS_COLUMNS
    flux, variance = seen.curves.flux[kept], seen.curves.variance[kept]
    light, transit = seen.exposure.light[kept], seen.transit[kept]
    star, limit = (array[AIRS_COLUMNS] for array in best_scatter(seen.exposure))
    ratio = step_scatter(in_steps(flux / light, length)) * np.sqrt(length) / limit
    drift = light / transit
    white, noise = (flux / drift).sum(axis=1), (variance / drift**2).sum(axis=1)
    return {
        "airs_scatter": float(np.median(ratio)),
        "airs_scatter_mean": float(ratio.mean()),
        **depth_errors("airs", seen.depth, white, noise, (1 - transit) @ star / star.sum()),
    }


def one_visit(seed: int, number: int) -> dict[str, float]:
    """All figures of a visit; one channel in memory at a time."""
    return {**fgs1_visit(seed, number), **airs_visit(seed, number)}


def scatter_figures(found: dict[str, np.ndarray]) -> dict[str, float]:
    """Print scatter over its limit; returns medians over visits, and means."""
    print(f"{'noise of steps over photon and read noise, optimal weights':58} median   mean     5%    95%")
    for name, what in (
        ("fgs1_scatter", "FGS1, 20 s, star's flicker part of the limit (<= 1.03)"),
        ("fgs1_scatter_plain", "FGS1, 20 s, star's flicker counted as noise"),
        ("airs_scatter", "AIRS, 24 s, median of bins (<= 1.05)"),
        ("airs_scatter_mean", "AIRS, 24 s, mean of bins"),
    ):
        low, middle, high = np.percentile(found[name], [5, 50, 95])
        print(f"{what:58} {middle:.4f} {found[name].mean():.4f} {low:.4f} {high:.4f}")
    figures = {name: float(np.median(found[name])) for name in found if "scatter" in name}
    return figures | {f"{name}_over_visits": float(found[name].mean()) for name in ("fgs1_scatter", "airs_scatter")}


def depth_figures(found: dict[str, np.ndarray]) -> dict[str, float]:
    """Print the mean error of the depth, its standard error, what the pipeline's sigmas make of it; returns them."""
    print(
        f"{'depth less true depth, ppm (mean within 3 SE, SE <= 5)':58}   mean     SE mean/SE  SE by sigma  rms of pull"
    )
    figures = {}
    for name, baseline in product(("fgs1", "airs"), BASELINES):
        error, sigma = found[f"{name}_error_{baseline}"], found[f"{name}_sigma_{baseline}"]
        mean, standard = error.mean(), error.std(ddof=1) / np.sqrt(len(error))
        expected, pull = np.sqrt(np.mean(sigma**2) / len(error)), np.sqrt(np.mean((error / sigma) ** 2))
        what = f"{name.upper()}, {baseline} baseline"
        print(f"{what:58} {mean:6.2f} {standard:6.2f} {mean / standard:7.2f} {expected:12.2f} {pull:12.2f}")
        about = {"ppm": mean, "se_ppm": standard, "over_se": mean / standard, "se_by_sigma_ppm": expected, "pull": pull}
        figures |= {f"{name}_bias_{baseline}_{key}": float(value) for key, value in about.items()}
    return figures


def accuracy(visits: int, seed: int, workers: int) -> dict[str, float]:
    """Print the second part's tables; returns their figures."""
    with fresh(workers) as pool:
        futures = [pool.submit(one_visit, seed, number) for number in range(visits)]
        for done, _ in enumerate(as_completed(futures), start=1):
            tell("visits", done, visits)
        rows = [future.result() for future in futures]
    found = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    print(f"{visits} test visits of the simulator, seed {seed}, true gain drift divided out")
    return {"visits": visits, **scatter_figures(found), **depth_figures(found)}


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, help="raw folder with a full-size planet; simulated without it")
    parser.add_argument("--peer", help="Python of the peer's environment")
    options = (("--repeats", 3), ("--threads", 1), ("--accuracy", 0), ("--workers", 2), ("--seed", 5))
    for option, default in options:
        parser.add_argument(option, type=int, default=default)
    args = parser.parse_args()
    if args.accuracy:
        figures = accuracy(args.accuracy, args.seed, args.workers)
    else:
        with tempfile.TemporaryDirectory() as folder:
            root = args.raw or Path(folder) / "raw"
            if not args.raw:
                alone(simulate_one, root, args.seed)
            figures = timing(RawFolder(root), args.threads, args.repeats, args.peer)
    print(json.dumps({name: value and round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
