"""How long the stages after the fits take with the challenge's 1,100 planets; last line JSON.

    python benchmarks/stages.py --run runs/example [--planets 1100] [--test-planets 100] [--last 05_symbolic]

Copies of a finished run's light curves and fits get new numbers, and depths of their own: those of simulated spectra
with noise as each fit states it. The stages 03 to 09 then run one by one, each in a kernel of its own, as
`spectramind run` runs them, with the settings of that run. Seconds are those of the manifest; CPU seconds hold the
start of the kernel too, and tell a slow stage from a busy machine. No stage may take more than a minute.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pandas as pd

from dashboard import new_ids, widened
from spectramind_nb.chapters.features import group_folds
from spectramind_nb.core.contracts import load_arrays, write_npz
from spectramind_nb.core.files import run_folder, write_json
from spectramind_nb.detector.raw import WAVELENGTH_COLUMNS
from spectramind_nb.pipeline.chain import run_chain
from spectramind_nb.pipeline.provenance import hash_artifacts
from spectramind_nb.pipeline.stages import find_stages, rerun_settings
from spectramind_nb.simulator.data_sets import draw_planets

MOST_SECONDS, SEED = 60.0, 7
SIMULATED = 200  # spectra; further ones are these times a random factor
LEARNED_FROM = ("00_calibration", "01_features", "02_transit")


def given_spectra(run: Path, planets: list[int], rng: np.random.Generator) -> pd.DataFrame:
    """Give each planet a simulated spectrum, with an error in its fit as the fit states it; return the spectra."""
    simulated = [planet.spectrum for planet in draw_planets(SEED, "train", min(SIMULATED, len(planets))).values()]
    drawn = [simulated[k % len(simulated)] * rng.uniform(0.7, 1.3) for k in range(len(planets))]
    for planet, spectrum in zip(planets, drawn, strict=True):
        path = run_folder(run, "outputs/fits") / f"transit_{planet}.npz"
        fit = load_arrays(path, "finish the run")
        white = np.sqrt(fit["noise_variance"]) * rng.standard_normal(len(spectrum))
        path.unlink()  # a link to another planet's
        depth = spectrum + white + fit["nuisance"] @ rng.standard_normal(fit["nuisance"].shape[1])
        write_npz(path, "transit", **{**fit, "depth": depth})
    return pd.DataFrame(drawn, index=pd.Index(planets, name="planet_id"), columns=list(WAVELENGTH_COLUMNS))


def wide_run(source: Path, run: Path, counts: dict[str, int]) -> None:
    """Make a run with so many planets of each split that has completed stage 02."""
    plan_file = "00_calibration/artifacts/plan.json"
    plan = json.loads((source / plan_file).read_text())
    every = [planet for own in plan["planets"].values() for planet in own]
    most = max(counts[split] * len(every) // len(own) + 1 for split, own in plan["planets"].items())
    widened(source, run, most + len(every))
    ids = new_ids(every, most + len(every))
    chosen = {split: [new for old in own for new in ids[old]] for split, own in plan["planets"].items()}
    chosen = {
        split: sorted(own)[:: max(1, len(own) // counts[split])][: counts[split]] for split, own in chosen.items()
    }
    for path in run.glob("0[3-9]_*"):
        shutil.rmtree(path)
    rng = np.random.default_rng(SEED)
    for split, name in (("train", "train.csv"), ("test", "truth.csv")):
        given_spectra(run, chosen[split], rng).to_csv(run / "raw" / name)
        for path in (run / "raw" / split).iterdir():
            if int(path.name) not in chosen[split]:
                path.unlink()
    write_json(run / plan_file, {**plan, "planets": chosen})
    folds = run_folder(run, "data/splits") / "groupkfold.json"
    known = json.loads(folds.read_text())
    write_json(folds, {**known, "fold_of_planet": group_folds(chosen["train"], known["folds"], SEED)})
    for stage in LEARNED_FROM:
        manifest = json.loads((source / stage / "manifest.json").read_text())
        write_json(run / stage / "manifest.json", {**manifest, "artifacts": hash_artifacts(run / stage)})


def cpu_seconds() -> float:
    """Return the processor time of ended child processes, such as kernels."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def time_stages(source: Path, run: Path, last: str) -> dict[str, Any]:
    """Run the stages one by one and print a line for each."""
    cfg, figures = rerun_settings(source, {"data.raw": str(run / "raw")})[0], dict[str, Any]()
    print(f"{'stage':<16}{'seconds':>9}{'of a minute':>13}{'CPU seconds':>13}{'peak GB':>9}", flush=True)
    for stage in find_stages(run)[len(LEARNED_FROM) :]:
        if last and stage.name > last:
            break
        before = cpu_seconds()
        (done,) = run_chain(cfg, run, first=stage.name, last=stage.name)
        cpu, seconds = cpu_seconds() - before, float(done.manifest["duration_s"])
        peak = float(done.manifest["peak_bytes"] or 0) / 1e9
        print(f"{stage.name:<16}{seconds:>9.1f}{seconds / MOST_SECONDS:>13.2f}{cpu:>13.1f}{peak:>9.2f}", flush=True)
        figures |= {f"{stage.name}_s": round(seconds, 1), f"{stage.name}_cpu_s": round(cpu, 1)}
    return figures


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/example"), help="a finished run")
    parser.add_argument("--planets", type=int, default=1100, help="training planets")
    parser.add_argument("--test-planets", type=int, default=100)
    parser.add_argument("--last", default="", help="last stage to time")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.run.resolve().parent) as folder:
        run = Path(folder) / "wide"
        wide_run(args.run.resolve(), run, {"train": args.planets, "test": args.test_planets})
        figures = time_stages(args.run.resolve(), run, args.last)
    figures["slowest_of_a_minute"] = round(
        max(v for k, v in figures.items() if not k.endswith("cpu_s")) / MOST_SECONDS, 2
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
