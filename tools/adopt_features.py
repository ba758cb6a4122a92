"""Puts light curves of your own where the chain's first two stages would have put theirs, so that it goes on from them.

FEATURES holds airs_bins_<planet>.npz and fgs1_white_<planet>.npz (what is in them: nbs/core/contracts.ipynb). RAW holds
the challenge's tables and no frames: train_star_info.csv and, for labels, train.csv; test_star_info.csv. A planet is of
the split whose star table names it.

Run: python tools/adopt_features.py FEATURES RAW RUN
     spectramind run --raw RAW --run-dir RUN --from 02_transit
"""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from spectramind_nb.chapters.features import group_folds
from spectramind_nb.core.contracts import read_npz, read_table
from spectramind_nb.core.errors import ContractError, UserError
from spectramind_nb.core.files import run_folder, write_json
from spectramind_nb.detector.corrections import Options
from spectramind_nb.detector.extraction import Recipe, Steps
from spectramind_nb.pipeline.provenance import hash_artifacts, utc_now

KINDS = ("airs_bins", "fgs1_white")
FOLDS, SEED = 5, 1337


def planets_of(features: Path) -> list[int]:
    """Planets with both files, each checked against its schema. Raises `ContractError`."""
    planets = sorted(int(path.stem.rsplit("_", 1)[1]) for path in features.glob("airs_bins_*.npz"))
    if not planets:
        raise ContractError(features, "airs_bins_<planet>.npz", "there are none", "name the folder that holds them")
    for planet in planets:
        for kind in KINDS:
            read_npz(features / f"{kind}_{planet}.npz", kind)
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
            shutil.copy(features / f"{kind}_{planet}.npz", there)
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
