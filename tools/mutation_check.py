"""Plant small faults in copies of the package, one at a time, and list which fast tests catch them.

    python tools/mutation_check.py [--jobs 2] [--only 3,17]

For each fault, plain pytest runs the test files named for it, up to the first failure. That test counts only if it
passes without the fault. The command prints a Markdown table and, as the last line, the counts as JSON. It exits with 1
if more than two faults survive.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT, PACKAGE = Path(__file__).resolve().parents[1], "spectramind_nb"
MOST_SURVIVORS, MOST_SECONDS = 2, 180.0  # of all faults; of one fault's tests
NOT_COPIED = shutil.ignore_patterns(".git", "runs", "_docs", ".*_cache", ".hypothesis")
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """A text of a module, a faulty one in its place, and the tests/test_*.py that should catch it, golden ones last."""

    file: str
    before: str
    after: str
    kind: str
    tests: str


# fmt: off
MUTANTS = (
    Mutant("core/metric.py", "r.mean(axis=0), weights=BIN_WEIGHTS", "r.mean(axis=0)", "no weights", "training"),
    Mutant("transits/light_curve.py", "1 - u1 - 1.5 * u2", "1 - u1 + 1.5 * u2", "sign", "transit"),
    Mutant("transits/limb_darkening.py", "* 0.6**0.5 / 2", "* 0.6**0.5", "unit", "transit"),
    Mutant("transits/normal_equations.py", "shared - np.tensordot", "shared + np.tensordot", "sign", "transit"),
    Mutant("transits/systematics.py", "s * t**i * w**j", "s * t**j * w**i", "axis", "systematics"),
    Mutant("core/instrument.py", "slice(39, 321)", "slice(38, 320)", "off-by-one", "features"),
    Mutant("detector/raw.py", "pairs, 2).mean(axis=1)", "pairs, 2)[:, 0]", "mean of reads", "simulator_light_curves"),
    Mutant("core/contracts.py", "isnan(data) | np.isnan(variance)", "isnan(data)", "dropped mask", "contracts"),
    Mutant("detector/streaming.py", "high - low - dark", "high - low + dark", "sign", "one_pass"),
    Mutant("prior/posterior.py", "+ 0.5 * determinant", "- 0.5 * determinant", "sign", "training"),
    Mutant("simulator/population.py", "(Ms * P**2)", "(Ms * P)", "power", "simulator"),
    Mutant("simulator/light_curves.py", "- delay_h", "+ delay_h", "sign", "simulator_light_curves golden"),
    Mutant("simulator/frames.py", "y * m[1] + x * m[2]", "x * m[1] + y * m[2]", "axis", "simulator golden"),
    Mutant("simulator/atmosphere.py", "HAZE_SPAN_BAR[0] * 1e5", "HAZE_SPAN_BAR[0]", "unit", "simulator_spectra"),
    Mutant("core/versions.py", "name, 0) != VERSIONS", "name, 0) < VERSIONS", "comparison", "golden"),
    Mutant("network/selective_scan.py", "* before[j] *", "* h[j] *", "off-by-one in time", "selective_scan"),
    Mutant("network/graph_attention.py", "wanted[e - first] - mean", "wanted[e - first]", "dropped term", "graph"),
    Mutant("detector/photometry.py", "weight * ~pairs.mask", "weight * (pairs.mask >= 0)", "dropped mask", "features"),
    Mutant("detector/extraction.py", "length / used**2", "length / used", "power", "features"),
    Mutant("detector/corrections.py", "part / flat**2) for part in", "part / flat) for part in", "power", "variance"),
    Mutant("transits/model.py", "np.radians(options.inclination_scatter_deg)", "options.inclination_scatter_deg",
           "unit", "transit golden"),
    Mutant("transits/fit_report.py", "np.sqrt(np.maximum(variances, 0))", "np.maximum(variances, 0)", "power",
           "transit"),
    Mutant("uncertainty/sigma_factors.py", "+ 2 * m * s *", "- 2 * m * s *", "sign", "training"),
    Mutant("uncertainty/calibration.py", "(1 + self.widening", "(1 - self.widening", "sign", "uncertainty"),
    Mutant("uncertainty/corel.py", "math.ceil((planets + 1) *", "math.ceil(planets *", "off-by-one", "uncertainty"),
    Mutant("network/model.py", "(heard + OUTLIER_ODDS", "(1 + OUTLIER_ODDS", "dropped factor", "network"),
    Mutant("network/mamba.py", "[fitted] / (1 + drift)", "[fitted] / (1 - drift)", "sign", "mamba"),
    Mutant("prior/wavelength_graph.py", "shown[:, 1], shown[:, 0]", "shown[:, 0], shown[:, 1]", "order", "graph"),
    Mutant("rules/losses.py", "judged = valid[:, :-2] & valid", "judged = valid", "dropped mask", "symbolic"),
    Mutant("figures/scores.py", "(flux - model) * 1e6", "(flux - model) * 1e3", "unit", "figures"),
)
# fmt: on


def check_places() -> None:
    """Exit unless each text to replace occurs exactly once in its module."""
    for number, mutant in enumerate(MUTANTS, 1):
        if (count := (ROOT / PACKAGE / mutant.file).read_text(encoding="utf-8").count(mutant.before)) != 1:
            raise SystemExit(f"fault {number}: {mutant.file} contains {mutant.before!r} {count} times, expected once")


def copy_checkout(copy: Path) -> Path:
    """Copy what tests need, with numba's caches; without the limit on a test's time, which compiling would exceed."""
    shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
    Path(f"{copy}-tmp").mkdir()
    conftest = copy / "tests/conftest.py"
    text = conftest.read_text(encoding="utf-8")
    conftest.write_text(re.sub(r"(?m)^MOST_SECONDS = [\d.]+", "MOST_SECONDS = 1e9", text), encoding="utf-8")
    return copy


def failed_tests(checkout: Path, tests: list[str], *options: str) -> list[str]:
    """Run tests in a copy and return those that fail. Raises `RuntimeError` or `TimeoutExpired` without a result."""
    command = [sys.executable, "-m", "pytest", "-n0", "--tb=no", "-p", "no:cacheprovider", *options, *tests]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "TMPDIR": f"{checkout}-tmp", "COLUMNS": "300"}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=MOST_SECONDS)
    failed = FAILED.findall(done.stdout)
    if done.returncode not in (0, 1, 2) or bool(failed) != bool(done.returncode):
        raise RuntimeError(f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-300:]}")
    return failed


def try_mutant(number: int, whole: Path, copies: "Queue[Path]") -> str:
    """Plant a fault in a free copy of the `whole` checkout; return the test that catches it, or why none does."""
    mutant, checkout, start = MUTANTS[number - 1], copies.get(), time.monotonic()
    shutil.rmtree(checkout / PACKAGE)
    shutil.copytree(whole / PACKAGE, checkout / PACKAGE)
    path = checkout / PACKAGE / mutant.file
    path.write_text(path.read_text(encoding="utf-8").replace(mutant.before, mutant.after), encoding="utf-8")
    tests = [f"tests/test_{name}.py" for name in mutant.tests.split()]
    try:
        result = (failed_tests(checkout, tests, "-x") or ["survived"])[0]
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        result = " ".join(f"no result: {error}".split())
    copies.put(checkout)
    print(f"{number} {mutant.file}: {result} ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)
    return result


def main(jobs: int, numbers: list[int]) -> int:
    """Plant the faults of these numbers and print the table."""
    check_places()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(jobs) as pool:
        whole, copies = copy_checkout(Path(scratch) / "whole"), Queue[Path]()
        for job in range(jobs):
            copies.put(copy_checkout(Path(scratch) / f"copy{job}"))
        results = dict(zip(numbers, pool.map(lambda n: try_mutant(n, whole, copies), numbers), strict=True))
        catching = sorted({test for test in results.values() if test.startswith("tests/")})
        broken = failed_tests(whole, catching) if catching else []
    print("| no. | file | fault | caught by |\n|---|---|---|---|")
    for number, test in results.items():
        mutant = MUTANTS[number - 1]
        fault = f"{mutant.kind}: `{mutant.before}` -> `{mutant.after}`".replace("|", r"\|")
        note = " (fails without the fault too)" if test in broken else ""
        print(f"| {number} | {mutant.file} | {fault} | {test.removeprefix('tests/')}{note} |")
    caught = sum(test in catching and test not in broken for test in results.values())
    print(json.dumps({"planted": len(results), "caught": caught}))
    return int(len(results) - caught > MOST_SURVIVORS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1, help="scratch copies that run tests at the same time")
    parser.add_argument("--only", type=lambda text: [int(n) for n in text.split(",")], help="faults, such as 3,17")
    chosen = parser.parse_args()
    raise SystemExit(main(chosen.jobs, chosen.only or list(range(1, len(MUTANTS) + 1))))
