"""Puts light curves of your own where the chain's first two stages would have put theirs, so that it goes on from them.

FEATURES holds airs_bins_<planet>.npz and fgs1_white_<planet>.npz (what is in them: nbs/core/contracts.ipynb). Without
variance, it is estimated from the scatter of each light curve; without visit, all steps are of one visit. RAW holds the
challenge's tables and no frames: train_star_info.csv and, for labels, train.csv; test_star_info.csv. A planet is of the
split whose star table names it.

Run: python tools/adopt_features.py FEATURES RAW RUN
     spectramind run --raw RAW --run-dir RUN --from 02_transit
"""

import sys
import warnings
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np

from spectramind_nb.chapters.features import group_folds
from spectramind_nb.core.contracts import SCHEMAS, check_arrays, load_arrays, read_table, write_npz
from spectramind_nb.core.errors import ContractError, UserError
from spectramind_nb.core.files import run_folder, write_json
from spectramind_nb.detector.corrections import Options
from spectramind_nb.detector.extraction import Recipe, Steps
from spectramind_nb.pipeline.provenance import hash_artifacts, utc_now

KINDS = ("airs_bins", "fgs1_white")
FOLDS, SEED = 5, 1337
DONE = {"variance": "estimated from the scatter", "visit": "taken as one visit"}  # for what a file may lack


def scatter_variance(flux: np.ndarray) -> np.ndarray:
    """Variance of light curves (T, ...) from differences of neighbouring steps; NaN where flux is NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a bin without any value
        change = np.diff(flux.astype(float), axis=0)
        sigma = 1.4826 * np.nanmedian(np.abs(change - np.nanmedian(change, axis=0)), axis=0) / np.sqrt(2)
    return np.where(np.isfinite(flux), sigma**2, np.nan).astype(np.float32)


def completed(path: Path, kind: str) -> tuple[dict[str, np.ndarray], set[str]]:
    """Read the arrays of a file, checked against its schema, and the names of those that it lacks and are made here.

    Numbers of other types are converted. Raises `ContractError`.
    """
    if not path.exists():
        raise ContractError(path, "file", "is missing", "each planet has an airs_bins and a fgs1_white file")
    arrays = load_arrays(path, "write it again")
    for name in SCHEMAS[kind].keys() & arrays.keys() - {"visit"}:
        if arrays[name].dtype.kind in "fiu":
            arrays[name] = arrays[name].astype(SCHEMAS[kind][name].dtype)
    lacks = DONE.keys() - arrays.keys()
    flux = arrays.get("flux", np.zeros(0, np.float32))
    if "visit" in lacks:
        arrays["visit"] = np.zeros(flux.shape[:1], np.int8)
    check_arrays(path, kind, arrays | ({"variance": flux} if "variance" in lacks else {}))
    if "visit" in lacks and (np.diff(arrays["time"]) <= 0).any():
        raise ContractError(path, "time", "doesn't rise, and there is no visit", "add visit (int8), a number per step")
    if "variance" in lacks:
        arrays["variance"] = np.empty_like(flux)
        for visit in np.unique(arrays["visit"]):
            steps = arrays["visit"] == visit
            arrays["variance"][steps] = scatter_variance(flux[steps])
        if not (arrays["variance"][np.isfinite(flux)] > 0).all():
            raise ContractError(path, "variance", "is missing, and flux has no scatter to estimate it from", "add it")
    return arrays, lacks


def planets_of(features: Path) -> list[int]:
    """Planets with both files, each checked against its schema; says what they lack. Raises `ContractError`."""
    planets = sorted(int(path.stem.rsplit("_", 1)[1]) for path in features.glob("airs_bins_*.npz"))
    if not planets:
        raise ContractError(features, "airs_bins_<planet>.npz", "there are none", "name the folder that holds them")
    lacking: Counter[str] = Counter()
    for planet in planets:
        for kind in KINDS:
            lacking.update(completed(features / f"{kind}_{planet}.npz", kind)[1])
    for name, count in sorted(lacking.items()):
        print(f"no {name} in {count} files: {DONE[name]}")
    return planets


def split_planets(planets: list[int], raw: Path) -> dict[str, list[int]]:
    """Planets of each split, by the star tables; makes the folders that a split consists of. Raises `ContractError`."""
    chosen = {}
    for split in ("train", "test"):
        table = raw / f"{split}_star_info.csv"
        known = set(read_table(table, ("sma", "i", "P")).index) if table.is_file() else set()
        chosen[split] = [planet for planet in planets if planet in known]
        for planet in chosen[split]:
            (raw / split / str(planet)).mkdir(parents=True, exist_ok=True)
    if strangers := sorted(set(planets) - set(chosen["train"]) - set(chosen["test"])):
        raise ContractError(raw, "star tables", f"planet {strangers[0]} is in none", "add its row, or remove its files")
    return chosen


def finish(folder: Path) -> None:
    """A manifest that takes what lies in a stage's folder as its result."""
    now = utc_now()
    facts = {"stage": folder.name, "status": "ok", "parameters": {"adopted": True}, "started": now, "finished": now}
    write_json(folder / "manifest.json", {**facts, "artifacts": hash_artifacts(folder), "duration_s": 0.0})


def main(features: Path, raw: Path, run: Path) -> None:
    """Write both stages. Raises `ContractError`."""
    planets = planets_of(features)
    chosen = split_planets(planets, raw)
    calibration, extraction = (run / stage / "artifacts" for stage in ("00_calibration", "01_features"))
    write_json(calibration / "plan.json", {"planets": chosen, "options": asdict(Options())})
    there = run_folder(run, "data/features")
    there.mkdir(parents=True, exist_ok=True)
    for planet in planets:
        for kind in KINDS:
            name = f"{kind}_{planet}.npz"
            write_npz(there / name, kind, **completed(features / name, kind)[0])
    recipe = asdict(Recipe(Steps(), Options()))  # how spectramind predict would treat frames of other planets
    folds = {"folds": FOLDS, "recipe": recipe, "fold_of_planet": group_folds(chosen["train"], FOLDS, SEED)}
    write_json(run_folder(run, "data/splits") / "groupkfold.json", folds)
    write_json(extraction / "timing.json", {"seconds_per_planet": 0.0})
    for artifacts in (calibration, extraction):
        write_json(artifacts / "failed.json", {})
        finish(artifacts.parent)
    print(f"{len(chosen['train'])} training and {len(chosen['test'])} test planets")
    print(f"next: spectramind run --raw {raw} --run-dir {run} --from 02_transit")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    try:
        main(*map(Path, sys.argv[1:]))
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
