"""Damage the raw frames and the star rows of small planets at random, and count confident wrong depths.

    python benchmarks/damage.py --raw runs/demo/raw --cases 200

Each case damages one channel of one training planet: frames are lost, doubled, repeated, emptied, saturated, shifted or
exchanged, or a file ends early. The planet is then extracted and fitted as a run does it. A depth is a confident wrong
number if its error exceeds 5 of its own standard deviations while these are less than 8 times those of the undamaged
planet. The last line is JSON.
"""

import argparse
import json
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from spectramind_nb.core.errors import UserError
from spectramind_nb.core.instrument import AIRS, CHANNELS, Channel
from spectramind_nb.detector.corrections import Options, Visit, step_edges, visit_paths
from spectramind_nb.detector.extraction import LightCurves, Steps, bin_features, extract_checked, white_features
from spectramind_nb.detector.photometry import PSF
from spectramind_nb.detector.raw import Adc, CalibrationSet, RawFolder, read_adc, read_calibration
from spectramind_nb.detector.read_checks import check_reads, is_central, sampled_pixels
from spectramind_nb.detector.signal_files import open_signal, read_frames
from spectramind_nb.detector.time_axis import read_frame_times, read_pair_times
from spectramind_nb.transits.fit import fit_planet
from spectramind_nb.transits.model import blocks_of

CONFIDENT_SIGMA, WIDENED = 5.0, 8.0  # of its own sigma; times the clean sigma
Frames = np.ndarray  # ADU, uint16, (frames, rows, columns)


@dataclass(frozen=True)
class Recorded:
    """One channel of the first visit of a planet."""

    raw: RawFolder
    channel: Channel
    frames: Frames
    calibration: CalibrationSet
    adc: Adc


def record(raw: RawFolder, planet: int, channel: Channel) -> Recorded:
    """Read one channel of a planet's first visit."""
    path, folder = visit_paths(raw, "train", planet, raw.visits("train", planet)[0], channel)
    frames = read_frames(open_signal(path, channel)).reshape(-1, channel.rows, channel.columns)
    return Recorded(raw, channel, frames, read_calibration(folder, channel), read_adc(raw, channel, planet))


def light_curves(one: Recorded, frames: Frames) -> tuple[LightCurves, int]:
    """Extract light curves from frames as `extract_files` does; also return the number of pairs in a step."""
    channel, flat = one.channel, frames.reshape(len(frames), -1)
    pixels, times = sampled_pixels(channel, one.calibration.dead), len(read_frame_times(one.raw, channel))
    reads = np.ascontiguousarray(flat[:, pixels].T)
    checks = check_reads(reads, is_central(channel)[pixels], channel, one.adc, times, Path(channel.name))
    pairs = len(checks.left_out)
    length = int(step_edges(pairs, Steps().airs if channel is AIRS else Steps().fgs1)[1])
    hours = read_pair_times(one.raw, channel, pairs)
    visit = Visit(channel, np.empty((0, 2, channel.rows, channel.columns), np.uint16), hours, one.calibration, one.adc)
    histories = enumerate(np.ascontiguousarray(flat.T))
    return extract_checked(histories, checks, visit, length, Options(), PSF), length


def depths(curves: Mapping[str, tuple[LightCurves, int]], star: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Fit a planet; depth and standard deviation of FGS1 and of the mean over AIRS bins."""
    fgs1, airs = curves["FGS1"], curves["AIRS-CH0"]
    white, bins = white_features(*fgs1, 0), bin_features(airs[0], fgs1[0], airs[1], 0)
    fit = fit_planet(blocks_of({"fgs1_white": white, "airs_bins": bins}), star)
    covariance = np.diag(fit.noise_variance) + fit.nuisance @ fit.nuisance.T
    weights = {"FGS1": np.eye(283)[0], "AIRS": np.append(0, np.full(282, 1 / 282))}
    return {name: (float(w @ fit.depth), float(np.sqrt(w @ covariance @ w))) for name, w in weights.items()}


# --- Damages: each returns frames and says what it did ---


def some_pairs(rng: np.random.Generator, frames: Frames, most: float = 0.12) -> np.ndarray:
    """Choose pairs: one, a block or scattered ones; at the start, at the end or anywhere."""
    pairs = len(frames) // 2
    count = int(rng.choice([1, 3, max(1, int(rng.uniform(0.02, most) * pairs))]))
    if rng.random() < 0.3:
        return np.sort(rng.choice(pairs, count, replace=False))
    start = int(rng.choice([0, pairs - count, rng.integers(pairs - count + 1)], p=[0.1, 0.1, 0.8]))
    return start + np.arange(count)


def some_reads(rng: np.random.Generator, frames: Frames) -> np.ndarray:
    """Choose both reads, or only one, of some pairs."""
    pairs, which = some_pairs(rng, frames), rng.integers(3)
    return np.sort(np.concatenate([2 * pairs + kind for kind in ((0, 1), (0,), (1,))[which]]))


def drop(rng: np.random.Generator, frames: Frames) -> Frames:
    """Lose one or several frames in a row."""
    count = int(rng.choice([1, 1, 2, 3, 7]))
    start = int(rng.integers(len(frames) - count))
    return np.delete(frames, np.arange(start, start + count), axis=0)


def drop_two(rng: np.random.Generator, frames: Frames) -> Frames:
    """Lose two frames at different places."""
    return np.delete(frames, rng.choice(len(frames), 2, replace=False), axis=0)


def double(rng: np.random.Generator, frames: Frames) -> Frames:
    """Write one frame, or one pair, twice."""
    start, count = int(rng.integers(1, len(frames) // 2 - 2)) * 2, int(rng.choice([1, 2]))
    return np.insert(frames, start + count, frames[start : start + count], axis=0)


def repeat(rng: np.random.Generator, frames: Frames) -> Frames:
    """Freeze the read-out: a frame or a pair is repeated over the following ones."""
    chosen, lag, frames = some_pairs(rng, frames), int(rng.choice([1, 2])), frames.copy()
    first = max(2 * int(chosen[0]), 2)
    stop = min(first + 2 * len(chosen), len(frames))
    for n in range(first, stop):
        frames[n] = frames[n - lag]
    return frames


def fill(rng: np.random.Generator, frames: Frames, value: int) -> Frames:
    """Fill whole frames, or some of their rows or columns, with a value."""
    chosen, frames, part = some_reads(rng, frames), frames.copy(), rng.random()
    rows, columns = frames.shape[1:]
    if part < 0.5:
        frames[chosen] = value
    elif part < 0.8:
        first = int(rng.integers(rows))
        frames[chosen, first : first + int(rng.integers(1, rows))] = value
    else:
        first = int(rng.integers(columns))
        frames[chosen, :, first : first + int(rng.integers(1, columns))] = value
    return frames


def empty(rng: np.random.Generator, frames: Frames) -> Frames:
    """Lose the content of frames."""
    return fill(rng, frames, 0)


def saturate(rng: np.random.Generator, frames: Frames) -> Frames:
    """Set frames to the end of the converter's scale."""
    return fill(rng, frames, 65535)


def shift(rng: np.random.Generator, frames: Frames) -> Frames:
    """Shift frames by rows, columns or words."""
    chosen, frames, size = some_reads(rng, frames), frames.copy(), int(rng.choice([-9, -2, -1, 1, 2, 9]))
    axis = int(rng.integers(3))
    if axis < 2:
        frames[chosen] = np.roll(frames[chosen], size, axis=1 + axis)
    else:  # words are lost from some place on
        flat = frames[chosen].reshape(len(chosen), -1)
        place = int(rng.integers(flat.shape[1] // 2))
        flat[:, place:] = np.roll(flat[:, place:], size, axis=1)
        frames[chosen] = flat.reshape(-1, *frames.shape[1:])
    return frames


def exchange(rng: np.random.Generator, frames: Frames) -> Frames:
    """Exchange the reads of some pairs, or of all."""
    pairs = np.arange(len(frames) // 2) if rng.random() < 0.3 else some_pairs(rng, frames)
    frames = frames.copy()
    frames[np.concatenate([2 * pairs, 2 * pairs + 1])] = frames[np.concatenate([2 * pairs + 1, 2 * pairs])]
    return frames


def truncate(rng: np.random.Generator, frames: Frames) -> Frames:
    """End the file early."""
    return frames[: len(frames) - int(rng.integers(1, len(frames) // 3))]


DAMAGES: dict[str, Callable[[np.random.Generator, Frames], Frames]] = {
    function.__name__: function
    for function in (drop, drop_two, double, repeat, empty, saturate, shift, exchange, truncate)
}


def spoil_star(rng: np.random.Generator, star: pd.DataFrame) -> pd.DataFrame:
    """Give one value of a star's row in another unit, as NaN, or as zero."""
    name, change = [
        ("P", 24.0),
        ("P", 86400.0),
        ("i", np.pi / 180),
        ("sma", 0.006),
        ("sma", 215.0),
        ("Rs", 6.957e8),
        ("Ms", 1047.0),
        ("sma", np.nan),
        ("P", 0.0),
        ("i", np.nan),
    ][rng.integers(10)]
    return star.assign(**{name: star[name] * change})


def star_of(raw: RawFolder, star: pd.DataFrame, planet: int) -> dict[str, float]:
    """Read a star's row back from a table, with its checks."""
    with tempfile.TemporaryDirectory() as folder:
        star.to_csv(Path(folder) / "train_star_info.csv")
        return RawFolder(Path(folder)).star_info("train", [planet]).loc[planet].to_dict()


# --- Cases ---


@dataclass(frozen=True)
class Outcome:
    """Outcome of one damaged planet."""

    damage: str
    planet: int
    result: str  # right, wide, wrong, refused or traceback
    about: str


class Planets:
    """Planets of a raw folder with their clean depths, made when they are needed."""

    def __init__(self, raw: RawFolder, count: int) -> None:
        self.raw, self.planets = raw, raw.planets_on_disk("train")[:count]
        self.truth, self.stars = raw.labels(self.planets), raw.star_info("train", self.planets)

    @cache  # noqa: B019
    def clean(self, planet: int) -> tuple[dict[str, Recorded], dict[str, tuple[LightCurves, int]], dict]:
        """Frames, light curves and depths of an undamaged planet."""
        recorded = {name: record(self.raw, planet, channel) for name, channel in CHANNELS.items()}
        curves = {name: light_curves(one, one.frames) for name, one in recorded.items()}
        return recorded, curves, depths(curves, self.stars.loc[planet].to_dict())

    def judge(self, planet: int, found: Mapping[str, tuple[float, float]]) -> tuple[str, str]:
        """Compare depths with the truth and with the clean standard deviations."""
        truth, clean = self.truth.loc[planet].to_numpy(), self.clean(planet)[2]
        right = {"FGS1": truth[0], "AIRS": truth[1:].mean()}
        worst, text = "right", []
        for name, (depth, sigma) in found.items():
            off, wide = abs(depth - right[name]) / sigma, sigma / clean[name][1]
            text.append(f"{name} {1e6 * (depth - right[name]):+.0f} +- {1e6 * sigma:.0f} ppm")
            if wide >= WIDENED:
                worst = "wide" if worst == "right" else worst
            elif off > CONFIDENT_SIGMA or not np.isfinite(depth + sigma):
                worst = "wrong"
        return worst, ", ".join(text)


def run_case(planets: Planets, seed: int, number: int) -> Outcome:
    """Damage a planet and fit it."""
    rng = np.random.default_rng([seed, number])
    planet = int(planets.planets[rng.integers(len(planets.planets))])
    damage = str(rng.choice([*DAMAGES, "star"]))
    recorded, curves, _ = planets.clean(planet)
    star = planets.stars.loc[[planet]]
    try:
        if damage == "star":
            found = depths(curves, star_of(planets.raw, spoil_star(rng, star), planet))
        else:
            one = recorded[str(rng.choice([*recorded]))]
            damage = f"{damage} {one.channel.name.split('-')[0]}"
            made = light_curves(one, DAMAGES[damage.split()[0]](rng, one.frames))
            found = depths(curves | {one.channel.name: made}, star.loc[planet].to_dict())
    except UserError as error:
        return Outcome(damage, planet, "refused", str(error))
    except Exception:
        return Outcome(damage, planet, "traceback", traceback.format_exc())
    return Outcome(damage, planet, *planets.judge(planet, found))


def run_cases(raw: Path, planets: int, cases: range, seed: int) -> list[Outcome]:
    """Run cases one after the other; each number gives the same case."""
    few, found = Planets(RawFolder(raw), planets), list[Outcome]()
    for number in cases:
        found.append(run_case(few, seed, number))
        print(f"\r{number + 1 - cases.start}/{len(cases)} ", end="", file=sys.stderr, flush=True)
    return found


def table(found: list[Outcome]) -> str:
    """Count outcomes by damage."""
    counts = Counter((one.damage, one.result) for one in found)
    results = ("right", "wide", "refused", "wrong", "traceback")
    lines = [f"{'damage':18}" + "".join(f"{name:>10}" for name in results)]
    for damage in sorted({one.damage for one in found}):
        lines.append(f"{damage:18}" + "".join(f"{counts[damage, name]:10}" for name in results))
    return "\n".join(lines)


def main() -> None:
    """Print the table of outcomes, the bad cases and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, required=True, help="raw folder with labelled planets")
    for option, default in (("--planets", 20), ("--cases", 200), ("--first", 0), ("--seed", 1)):
        parser.add_argument(option, type=int, default=default)
    args = parser.parse_args()
    found = run_cases(args.raw, args.planets, range(args.first, args.first + args.cases), args.seed)
    print("\n" + table(found))
    for number, one in enumerate(found, args.first):
        if one.result in ("wrong", "traceback"):
            print(f"case {number}: {one.damage}, planet {one.planet}: {one.result}: {one.about}")
    print(json.dumps(Counter(one.result for one in found)))


if __name__ == "__main__":
    main()
