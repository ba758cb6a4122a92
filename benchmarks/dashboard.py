"""How large the dashboard of 1,100 planets is, and how fast a browser shows it, as a file and as it is served.

    python benchmarks/dashboard.py --run runs/demo [--planets 1100] [--chromium /usr/bin/chromium]

Copies of a finished run's planets, under new numbers and with a little noise, make a run of that many. Last line: JSON.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spectramind_nb.core.contracts import load_arrays
from spectramind_nb.dashboard.page import write_page

QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
WARM, CHANGES = 3, 30
NOT_COPIED = (".lock", "notebook.ipynb")
TABLES = ("train.csv", "truth.csv", "train_star_info.csv", "test_star_info.csv", "submission.csv", "quality.json")
TABLES += ("constraint_violation_log.json", "calibration_log.json")


def new_ids(old: list[int], count: int) -> dict[int, list[int]]:
    """New numbers of each planet, `count` in all."""
    shares = np.array_split(np.arange(count) + 10**6, len(old))
    return {planet: share.tolist() for planet, share in zip(old, shares, strict=True)}


def link(source: Path, target: Path) -> None:
    """The same file under another name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)


def tile_npz(path: Path, target: Path, ids: dict[int, list[int]], rng: np.random.Generator) -> None:
    """Arrays whose first or second axis is planets, repeated for the new numbers; spectra get a little noise."""
    arrays = load_arrays(path, "finish the run")
    key = "planet" if "planet" in arrays else "planet_id"
    known = arrays[key].tolist()
    rows = np.repeat(np.arange(len(known)), [len(ids[planet]) for planet in known])
    out = {key: np.concatenate([ids[planet] for planet in known]).astype(np.int64)}
    for name, array in arrays.items():
        axis = next((axis for axis, size in enumerate(array.shape[:2]) if size == len(known)), None)
        if name == key or axis is None:
            out.setdefault(name, array)
            continue
        wide = np.take(array, rows, axis)
        if wide.dtype.kind == "f":
            wide = wide * (1 + 1e-3 * rng.standard_normal(wide.shape)).astype(wide.dtype)
        out[name] = wide
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez(target, **out)


def tile_table(path: Path, target: Path, ids: dict[int, list[int]]) -> None:
    """A CSV table with a column planet_id, or a JSON list of records with a planet each, for the new numbers."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        records = json.loads(path.read_text())
        key = "planet" if "planet" in records[0] else "planet_id"
        wide = [{**record, key: new} for record in records for new in ids.get(record[key], [])]
        target.write_text(json.dumps(wide))
        return
    table = pd.read_csv(path)
    table["planet_id"] = table["planet_id"].map(lambda planet: ids.get(int(planet), []))
    table.explode("planet_id").dropna(subset="planet_id").to_csv(target, index=False)


def widened(run: Path, target: Path, planets: int) -> None:
    """A run of so many planets, made of another run's."""
    rng, plan = np.random.default_rng(0), json.loads((run / "00_calibration/artifacts/plan.json").read_text())
    every = [planet for split in plan["planets"].values() for planet in split]
    ids = new_ids(every, planets)
    splits = {split: [new for planet in own for new in ids[planet]] for split, own in plan["planets"].items()}
    for path in (path for path in sorted(run.rglob("*")) if path.is_file()):
        place, inside = target / path.relative_to(run), path.relative_to(run).parts
        number = path.stem.rpartition("_")[2]
        if path.name in NOT_COPIED or inside[:2] in (("raw", "train"), ("raw", "test")):
            continue
        if path.name in TABLES:
            tile_table(path, place, ids)
        elif path.suffix == ".npz" and number.isdigit() and int(number) in ids:
            for new in ids[int(number)]:
                link(path, place.with_name(path.name.replace(number, str(new))))
        elif path.suffix == ".npz" and {"planet", "planet_id"} & {*load_arrays(path, "")}:
            tile_npz(path, place, ids, rng)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    (target / "00_calibration/artifacts/plan.json").write_text(json.dumps({**plan, "planets": splits}))
    for split, own in plan["planets"].items():
        (target / "raw" / split).mkdir(parents=True, exist_ok=True)
        for planet in own:
            for new in ids[planet]:
                (target / "raw" / split / str(new)).symlink_to((run / "raw" / split / str(planet)).resolve())


@contextmanager
def serving(run: Path) -> Iterator[str]:
    """`spectramind diagnose serve` on a run; its address."""
    words = ["-c", "from spectramind_nb.cli.app import main; main()", "diagnose", "serve", "--port", "0"]
    process = subprocess.Popen([sys.executable, *words, "--run", str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://[\d.:]+", process.stdout.readline())
        assert found, "the server said nothing"
        yield found[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def planet_changes(tab: Any, address: str) -> list[float]:
    """Milliseconds from a key that asks for the next planet until it is drawn."""
    tab.goto(f"{address}#/planets")
    tab.locator("[data-testid=panel-planets] tbody a").first.click(timeout=120_000)
    tab.wait_for_selector("[data-testid=panel-spectrum][data-state=ready]", timeout=120_000)
    for _ in range(WARM + CHANGES):
        seen = tab.evaluate("performance.getEntriesByName('planet-change').length")
        tab.keyboard.press("j")
        tab.wait_for_function(f"performance.getEntriesByName('planet-change').length > {seen}")
        tab.wait_for_timeout(50)
    found = tab.evaluate("performance.getEntriesByName('planet-change').map(entry => entry.duration)")
    return [float(duration) for duration in found[-CHANGES:]]


def in_browser(page: Path, served: str, chromium: str) -> dict[str, float]:
    """Seconds to the first paint and the first view, milliseconds of a change of planet (median and slowest)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=[*QUIET])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(page.resolve().as_uri() + "#/overview")
        tab.wait_for_selector("[data-ready]")
        painted = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        viewed = tab.evaluate("performance.getEntriesByName('first-view')[0].startTime")
        changes = planet_changes(tab, page.resolve().as_uri())
        asked = planet_changes(browser.new_page(viewport={"width": 1280, "height": 900}), f"{served}/")
        browser.close()
    return {
        "first_paint_s": painted / 1000,
        "first_view_s": viewed / 1000,
        "planet_change_ms": float(np.median(changes)),
        "planet_change_slowest_ms": max(changes),
        "serve_planet_change_ms": float(np.median(asked)),
        "serve_planet_change_slowest_ms": max(asked),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a finished run with 08_diagnostics")
    parser.add_argument("--planets", type=int, default=1100)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.run.resolve().parent) as folder:
        run, page = Path(folder) / "wide", Path(folder) / "page.html"
        widened(args.run.resolve(), run, args.planets)
        start = time.perf_counter()
        write_page(run, page)
        found = {"page_mb": page.stat().st_size / 1e6, "written_s": time.perf_counter() - start}
        with serving(run) as address:
            found |= in_browser(page, address, args.chromium)
    for name, value in found.items():
        print(f"{name:<32}{value:.3g}")
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
