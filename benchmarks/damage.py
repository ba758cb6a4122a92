"""Damage the files of small planets at random, and count confident wrong depths.

    python benchmarks/damage.py --raw runs/demo/raw --cases 300

Each case copies one training planet and damages it. A third of the cases lose, double, repeat, empty, saturate, shift
or exchange some reads; a third change a whole part of a visit: its order, its place on the detector, its level, its
star; the others damage calibration files or the star's row. The planet is then checked, extracted and fitted as a run
does it. A depth is a confident wrong number if its error exceeds 5 of its own standard deviations while these are less
than 8 times those of the undamaged planet. The last line is JSON.
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
import pyarrow as pa
import pyarrow.parquet as pq

from spectramind_nb.core.errors import UserError
from spectramind_nb.core.files import run_folder
from spectramind_nb.core.instrument import AIRS, CHANNELS, FGS1, Channel
from spectramind_nb.detector.extraction import extract_planet
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.detector.signal_files import open_signal, read_frames
from spectramind_nb.pipeline.selection import check_planet, check_rows
from spectramind_nb.transits.fit_file import fit_to_file, read_fit
from spectramind_nb.transits.fit_priors import FitOptions

CONFIDENT_SIGMA, WIDENED = 5.0, 8.0  # of its own sigma; times the clean sigma
Frames = np.ndarray  # ADU, uint16, (frames, rows, columns)
Depths = dict[str, tuple[float, float]]  # depth and standard deviation, of FGS1 and of the mean over AIRS bins


def frames_of(path: Path, channel: Channel) -> Frames:
    """Read all frames of a signal file."""
    return read_frames(open_signal(path, channel)).reshape(-1, channel.rows, channel.columns)


def write_frames(path: Path, frames: Frames) -> None:
    """Write frames as a signal file in place of the one that is there."""
    flat = frames.reshape(len(frames), -1)
    table = pa.table({f"column_{k}": flat[:, k] for k in range(flat.shape[1])})
    path.unlink()
    pq.write_table(table, path, use_dictionary=False, write_statistics=False, compression="lz4")


def depths(raw: RawFolder, planet: int, out: Path) -> Depths:
    """Check, extract and fit a training planet as a run does it."""
    for failure in check_rows(raw, {"train": [planet]}):
        raise UserError(failure.problem)
    check_planet(("train", planet), raw)
    extract_planet(("train", planet), raw, run_folder(out, "data/features"))
    fit_to_file(("train", planet), out, {"train": raw.star_info("train", [planet])}, FitOptions())
    fit = read_fit(out, planet)
    covariance = np.diag(fit["noise_variance"]) + fit["nuisance"] @ fit["nuisance"].T
    weights = {"FGS1": np.eye(283)[0], "AIRS": np.append(0, np.full(282, 1 / 282))}
    return {name: (float(w @ fit["depth"]), float(np.sqrt(w @ covariance @ w))) for name, w in weights.items()}


# --- Damages of some reads: each returns frames and says what it did ---


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


# --- Damages of a whole part of a visit ---


def some_part(rng: np.random.Generator, frames: Frames) -> slice:
    """Choose an end, a stretch or the whole of a visit, in pairs."""
    pairs, size = len(frames) // 2, float(rng.choice([0.25, 0.5, 0.8]))
    begin = {0: 0.0, 1: 1 - size, 2: float(rng.uniform(0, 1 - size))}
    first, last = (begin[k := int(rng.integers(3))], begin[k] + size) if rng.random() < 0.8 else (0.0, 1.0)
    return slice(2 * int(first * pairs), 2 * int(last * pairs))


def reorder(rng: np.random.Generator, frames: Frames) -> Frames:
    """Exchange the halves or two stretches of a visit, or reverse its pairs."""
    pairs = frames[: len(frames) // 2 * 2].reshape(-1, 2, *frames.shape[1:])
    kind, cut = int(rng.integers(3)), int(rng.uniform(0.2, 0.8) * len(pairs))
    if kind == 2:
        return pairs[::-1].reshape(-1, *frames.shape[1:])
    if kind == 1:
        a, b, c, d = np.sort(rng.choice(len(pairs), 4, replace=False))
        parts = [pairs[:a], pairs[c:d], pairs[b:c], pairs[a:b], pairs[d:]]
    else:
        parts = [pairs[cut:], pairs[:cut]]
    return np.concatenate(parts).reshape(-1, *frames.shape[1:])


def displace(rng: np.random.Generator, frames: Frames) -> Frames:
    """Move the pixels of a part by rows or columns."""
    part, frames = some_part(rng, frames), frames.copy()
    move = int(rng.choice([-12, -3, -1, 1, 2, 5, 12]))
    frames[part] = np.roll(frames[part], move if rng.random() < 0.7 else int(np.sign(move)), 1 + int(rng.integers(2)))
    return frames


def lift(rng: np.random.Generator, frames: Frames) -> Frames:
    """Add a pedestal to all reads of a part, or to its second reads."""
    part, level = some_part(rng, frames), float(rng.choice([1, 3, 10, 30, 100, 1000]))
    lifted = frames.astype(np.float32)
    lifted[part][int(rng.integers(2)) :: int(rng.integers(1, 3))] += level
    return np.clip(np.round(lifted), 0, 65535).astype(np.uint16)


def magnify(rng: np.random.Generator, frames: Frames) -> Frames:
    """Multiply the readings of a part, as after a change of the gain."""
    part, scaled = some_part(rng, frames), frames.astype(np.float32)
    scaled[part] *= float(rng.choice([0.5, 0.9, 0.99, 1.01, 1.1, 2.0]))
    return np.clip(np.round(scaled), 0, 65535).astype(np.uint16)


def clip(rng: np.random.Generator, frames: Frames) -> Frames:
    """Cut readings off, or set one bit in some columns."""
    part, frames = some_part(rng, frames), frames.copy()
    if rng.random() < 0.5:
        return np.minimum(frames, np.uint16(rng.uniform(0.4, 0.95) * np.percentile(frames[1::2], 99.9)))
    first = int(rng.integers(frames.shape[2] - 4))
    frames[part, :, first : first + int(rng.integers(1, 5))] |= np.uint16(1 << int(rng.integers(6, 16)))
    return frames


def replace(rng: np.random.Generator, frames: Frames, other: Frames) -> Frames:
    """Put frames of another star in the place of a part."""
    count = min(len(frames), len(other))
    part, frames = some_part(rng, frames[:count]), frames[:count].copy()
    frames[part] = other[part]
    return frames


# --- Damages of calibration files ---

SETS = ("flat", "dark", "read", "dead", "linear_corr")


def turned(rng: np.random.Generator, table: pd.DataFrame) -> pd.DataFrame:
    """Reverse or roll the rows or the columns of a table, or transpose it."""
    values, kind = table.to_numpy(), int(rng.integers(4))
    if kind == 3 and values.shape[0] == values.shape[1]:
        return pd.DataFrame(values.T, columns=table.columns)
    axis = int(rng.integers(2))
    values = np.flip(values, axis) if kind == 0 else np.roll(values, int(rng.choice([-10, -1, 1, 3])), axis)
    return pd.DataFrame(values, columns=table.columns)


def rescaled(rng: np.random.Generator, table: pd.DataFrame) -> pd.DataFrame:
    """Multiply or divide a table by a constant, change its sign, invert it, or fill it."""
    values, kind = table.to_numpy(), int(rng.integers(4))
    if values.dtype == bool:
        return pd.DataFrame([~values, values & False, values | True][kind % 3], columns=table.columns)
    with np.errstate(all="ignore"):
        scale = float(rng.choice([0.001, 0.01, 0.5, 2, 10, 100, 3600]))
        changed = [values * scale, -values, 1 / values, np.full_like(values, rng.choice([0.0, 1.0]))][kind]
    return pd.DataFrame(changed, columns=table.columns)


def holed(rng: np.random.Generator, table: pd.DataFrame) -> pd.DataFrame:
    """Fill a pixel, a row, a column or a block with a value."""
    values, shape = table.to_numpy().copy(), table.shape
    row, column = int(rng.integers(shape[0])), int(rng.integers(shape[1]))
    rows, columns = [(row, column), (row, slice(None)), (slice(None), column), (slice(row), slice(column))][
        rng.integers(4)
    ]
    values[rows, columns] = True if values.dtype == bool else rng.choice([np.nan, 0.0, -1.0, 1e6, np.inf])
    return pd.DataFrame(values, columns=table.columns)


def spoil_calibration(rng: np.random.Generator, folder: Path, others: list[Path]) -> str:
    """Damage a calibration set; `others` are those of the other channel and of another planet."""
    name, second = (str(one) for one in rng.choice(SETS, 2, replace=False))
    path, kind = folder / f"{name}.parquet", int(rng.integers(7))
    content = path.read_bytes()
    if kind < 3:
        table = pq.read_table(path).to_pandas()
        change = (turned, rescaled, holed)[kind]
        path.unlink()
        change(rng, table).to_parquet(path, index=False)
        return f"{name} {change.__name__}"
    if kind == 3:  # two files exchanged
        other = folder / f"{second}.parquet"
        swapped = other.read_bytes()
        for target, new in ((path, swapped), (other, content)):
            target.unlink()
            target.write_bytes(new)
        return f"{name} and {second} exchanged"
    path.unlink()
    if kind == 4:  # a file that ends early, or is empty
        path.write_bytes(content[: int(rng.choice([0, len(content) // 2, len(content) - 1]))])
        return f"{name} cut"
    if kind == 5:
        return f"{name} removed"
    path.write_bytes((others[int(rng.integers(len(others)))] / path.name).read_bytes())
    return f"{name} of another detector"


# --- Damages of a star's row ---


def spoil_star(rng: np.random.Generator, star: pd.DataFrame, planet: int) -> pd.DataFrame:
    """Give one value of a star's row in another unit, as NaN or as zero; or an orbit that is wrong but possible."""
    star, row = star.copy(), star["planet_id"] == planet
    if rng.random() < 0.5:
        a, impact = star.loc[row, "sma"] * rng.uniform(0.8, 1.3), rng.uniform(0, 0.9)
        star.loc[row, "sma"], star.loc[row, "i"] = a, np.degrees(np.arccos(impact / a))
        star.loc[row, "P"] *= rng.uniform(0.7, 1.4)
        return star
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
    star.loc[row, name] *= change
    return star


# --- Cases ---

READS = (drop, drop_two, double, repeat, empty, saturate, shift, exchange, truncate)
PARTS = (reorder, displace, lift, magnify, clip, replace)


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
        self.truth = raw.labels(self.planets)

    @cache  # noqa: B019
    def clean(self, planet: int) -> Depths:
        """Depths of an undamaged planet."""
        with tempfile.TemporaryDirectory() as folder:
            return depths(self.raw, planet, Path(folder))

    def copy(self, planet: int, root: Path) -> RawFolder:
        """Copy a planet and all tables, as links."""
        for path in [*self.raw.root.glob("*.*"), *(self.raw.root / "train" / str(planet)).rglob("*.*")]:
            if path.is_file():
                new = root / path.relative_to(self.raw.root)
                new.parent.mkdir(parents=True, exist_ok=True)
                new.symlink_to(path.resolve())
        return RawFolder(root)

    def judge(self, planet: int, found: Mapping[str, tuple[float, float]]) -> tuple[str, str]:
        """Compare depths with the truth and with the clean standard deviations."""
        truth, clean = self.truth.loc[planet].to_numpy(), self.clean(planet)
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


def spoil(rng: np.random.Generator, copied: RawFolder, planet: int, whole: RawFolder, other: int) -> str:
    """Damage the copy of a planet; return what was done. `whole` holds all planets, among them `other`."""
    channel = (FGS1, AIRS)[rng.integers(2)]
    place, beside = (one / "train" / str(n) for one, n in ((copied.root, planet), (whole.root, other)))
    signal, calibration = f"{channel.name}_signal_0.parquet", "{}_calibration_0"
    kind, short = rng.choice(["reads", "part", "calibration", "star"], p=[0.3, 0.3, 0.2, 0.2]), channel.name[:4]
    if kind == "star":
        path = copied.root / "train_star_info.csv"
        table = pd.read_csv(path)
        path.unlink()
        spoil_star(rng, table, planet).to_csv(path, index=False)
        return "star"
    if kind == "calibration":
        names = [(beside, channel.name), (place, next(name for name in CHANNELS if name != channel.name))]
        others = [folder / calibration.format(name) for folder, name in names]
        return f"calibration {short} {spoil_calibration(rng, place / calibration.format(channel.name), others)}"
    function: Callable = (READS if kind == "reads" else PARTS)[rng.integers(len(READS if kind == "reads" else PARTS))]
    more = [frames_of(beside / signal, channel)] if function is replace else []
    write_frames(place / signal, function(rng, frames_of(place / signal, channel), *more))
    return f"{function.__name__} {short}"


def run_case(planets: Planets, seed: int, number: int) -> Outcome:
    """Damage a planet and fit it."""
    rng = np.random.default_rng([seed, number])
    planet, other = (int(one) for one in rng.choice(planets.planets, 2, replace=False))
    with tempfile.TemporaryDirectory() as folder:
        copied = planets.copy(planet, Path(folder) / "raw")
        damage = spoil(rng, copied, planet, planets.raw, other)
        try:
            found = depths(copied, planet, Path(folder) / "out")
        except UserError as error:
            return Outcome(damage, planet, "refused", str(error).replace(f"{folder}/", ""))
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
    names = [" ".join(one.damage.split()[:2]) for one in found]
    counts = Counter(zip(names, (one.result for one in found), strict=True))
    results = ("right", "wide", "refused", "wrong", "traceback")
    lines = [f"{'damage':18}" + "".join(f"{name:>10}" for name in results)]
    for damage in sorted({*names}):
        lines.append(f"{damage:18}" + "".join(f"{counts[damage, name]:10}" for name in results))
    return "\n".join(lines)


def main() -> None:
    """Print the table of outcomes, the bad cases and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, required=True, help="raw folder with labelled planets")
    for option, default in (("--planets", 20), ("--cases", 300), ("--first", 0), ("--seed", 1)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--all", action="store_true", help="print every case, not just the bad ones")
    args = parser.parse_args()
    found = run_cases(args.raw, args.planets, range(args.first, args.first + args.cases), args.seed)
    print("\n" + table(found))
    for number, one in enumerate(found, args.first):
        if args.all or one.result in ("wrong", "traceback"):
            print(f"case {number}: {one.damage}, planet {one.planet}: {one.result}: {one.about}")
    print(json.dumps(Counter(one.result for one in found)))


if __name__ == "__main__":
    main()
