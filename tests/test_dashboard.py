"""The dashboard: answers from a whole run, the page and the server that give them, and the page in a real browser."""

import base64
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace as replaced
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import given
from typer.testing import CliRunner

from spectramind_nb.cli.app import app as command
from spectramind_nb.core.contracts import write_npz
from spectramind_nb.core.metric import reference_of, score
from spectramind_nb.dashboard.page import WHOLE, api_responses, explained, quiet, template, worst_and_random, write_page
from spectramind_nb.dashboard.panels import scores
from spectramind_nb.dashboard.planet_panels import frames, planet_of
from spectramind_nb.dashboard.planet_table import planet_rows, planet_set
from spectramind_nb.dashboard.run_reader import Run, numbers, panel
from spectramind_nb.dashboard.schema import Panel, PlanetRow
from spectramind_nb.dashboard.server import app_of, make_app
from spectramind_nb.pipeline.selection import read_plan
from spectramind_nb.retrieval.posterior import read_retrieval, retrieval_arrays

ROOT = Path(__file__).parents[1]
NO_LOCK = shutil.ignore_patterns(".lock")  # one file by two names would be one lock


@pytest.fixture(scope="module")
def finished(example_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run of the chain on the example's planets. Never to be changed: tests that spoil files work on a copy."""
    folder = tmp_path_factory.mktemp("runs") / "example"  # a log of its own beside it
    return Run(Path(shutil.copytree(example_run, folder, copy_function=os.link, ignore=NO_LOCK)))


@pytest.fixture
def copy(finished: Run, tmp_path: Path) -> Run:
    """A run to spoil: hard links, so a file is replaced, never written into."""
    return Run(Path(shutil.copytree(finished.folder, tmp_path / "example", copy_function=os.link)))


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def whole(run: Run) -> dict[str, Panel[Any]]:
    return {name: panel(run, lambda build=build: build(run)) for name, build in WHOLE.items()}


def of_planet(run: Run, planet: int) -> dict[str, Panel[Any]]:
    rows = panel(run, lambda: planet_rows(run)).data or []
    found = planet_of(run, planet, next(row for row in rows if row.id == planet))
    own = {"frames": panel(run, lambda: frames(run, planet))}
    return {name: value for name, value in found if isinstance(value, Panel)} | own


def test_a_finished_run_fills_every_panel(finished: Run) -> None:
    assert not {name: found.missing for name, found in whole(finished).items() if name != "log" and found.missing}
    kinds = {row.id: row.planets for row in planet_rows(finished)}
    assert {kinds[planet] for planet in explained(finished)} == {"out of fold", "test"}
    for planet in explained(finished):
        assert not {name: found.missing for name, found in of_planet(finished, planet).items() if found.missing}
    other = next(planet for planet in kinds if planet not in explained(finished))
    for name in ("attribution", "retrieval"):
        assert of_planet(finished, other)[name].missing.command.endswith(" --shap 18")  # type: ignore[union-attr]


def test_a_retrieval_is_shown_as_its_file_has_it(finished: Run) -> None:
    planet = explained(finished)[0]
    posterior = read_retrieval(finished.folder / f"08_diagnostics/artifacts/retrieval_{planet}.npz")
    shown = of_planet(finished, planet)["retrieval"].data
    assert shown is not None and shown.valid == "under the simulator's chemistry"
    assert shown.reliable == posterior.reliable and shown.proposals == len(posterior.weight)
    low, median, high = posterior.quantiles("temperature_K", (0.16, 0.5, 0.84))
    temperature, water, *_ = shown.parameters
    assert (temperature.name, water.name) == ("temperature (K)", "log H2O")
    assert [temperature.low, temperature.median, temperature.high] == pytest.approx([low, median, high], rel=1e-3)
    assert all(sum(each.share) == pytest.approx(1, abs=2e-3) for each in shown.parameters)
    places = {(pair.x, pair.y) for pair in shown.pairs}
    assert places == {(x, y) for y in range(len(shown.parameters)) for x in range(y)}
    pair = np.array(next(pair.share for pair in shown.pairs if (pair.x, pair.y) == (0, 1)))
    assert pair.sum(axis=0) == pytest.approx(temperature.share, abs=5e-3), "a list for each bin of y"
    assert pair.sum(axis=1) == pytest.approx(water.share, abs=5e-3)
    assert len(shown.model_dump_json()) < 120_000, "sixty of them fit into a page"


def test_why_a_planet_was_not_retrieved_stands_in_its_panel(copy: Run) -> None:
    planet, other = two_planets(copy)
    path = copy.folder / "08_diagnostics/artifacts/retrievals.json"
    replace(path, json.dumps({str(planet): "star table: Mp: is missing"}).encode())
    found, unknown = (of_planet(copy, each)["retrieval"].missing for each in (planet, other))
    assert found is not None and found.what == "this planet can't be retrieved: star table: Mp: is missing"
    assert unknown is not None and unknown.what == "retrievals were made for 1 planet, not for this one"


def test_planets_own_scores_add_up_to_the_reports(finished: Run) -> None:
    rows = [row for row in planet_rows(finished) if row.planets == "test"]
    report = finished.json("09_submission", "report.json")
    told = next(r for r in report["rows"] if r["planets"] == "test" and r["predictor"] == report["predictor"])
    own = [row.score for row in rows if row.score is not None]
    assert len(own) == told["count"] and np.clip(np.mean(own), 0, 1) == pytest.approx(told["score"], abs=1e-5)
    errors = np.array([row.airs_mean_error_ppm for row in rows], float)
    assert np.sqrt((errors**2).mean()) == pytest.approx(told["airs_mean_ppm"], rel=1e-4)
    every = {(each.predictor, each.planets): each for each in scores(finished)}
    assert all(each.fgs1_cost is not None and each.airs_shape_cost is not None for each in every.values())
    found = every[told["predictor"], "test"]
    plain = planet_set(finished)
    truth, mu, sigma = (array[plain.test] for array in (plain.truth, plain.mu[plain.chosen], plain.sigma[plain.chosen]))
    better = np.hstack([truth[:, :1], mu[:, 1:]])
    reference = reference_of(plain.truth[~plain.test])
    assert found.fgs1_cost == pytest.approx(score(truth, better, sigma, reference) - told["score"], abs=1e-5)


# What each file costs: panels of the run and of a training planet, and, marked *, those of a test planet.
SPOILED = {
    "config.yaml": {"frames", "*frames"},
    "00_calibration/artifacts/plan.json": set(),
    "02_transit/artifacts/quality.json": set(),
    "06_training/artifacts/predictors.json": set(),
    "06_training/artifacts/out_of_fold.npz": {"spectrum"},
    "07_uncertainty/artifacts/temperature.json": {"calibration"},
    "07_uncertainty/artifacts/q_i.csv": {"calibration"},
    "07_uncertainty/artifacts/histograms.csv": {"calibration"},
    "07_uncertainty/artifacts/coverage.csv": {"calibration"},
    "08_diagnostics/artifacts/latents.npz": {"embedding"},
    "08_diagnostics/artifacts/attributions.npz": {"overlays", "attribution", "*attribution"},
    "08_diagnostics/artifacts/attention.npz": {"attention", "*attention"},
    "08_diagnostics/artifacts/influence.npz": {"overlays", "influence"},
    "08_diagnostics/artifacts/retrieval_{planet}.npz": {"retrieval"},
    "08_diagnostics/artifacts/retrievals.json": {"retrieval", "*retrieval"},
    "08_diagnostics/artifacts/constraint_violation_log.json": {"violations"},
    "08_diagnostics/artifacts/residual_spectra.npz": {"residuals", "periodograms", "*periodograms"},
    "09_submission/artifacts/report.json": {"runs"},
    "09_submission/artifacts/submission.prediction.npz": {"*spectrum"},
    "09_submission/artifacts/influence.npz": {"*influence"},
    "09_submission/artifacts/integrity.json": set(),
    "09_submission/artifacts/constraint_violation_log.json": {"*violations"},
    "01_features/artifacts/features/fgs1_white_{planet}.npz": {"pointing"},
    "02_transit/artifacts/fits/transit_{planet}.npz": {"light_curves"},
    "raw/train/{planet}/FGS1_signal_0.parquet": {"frames"},
    "raw/axis_info.parquet": {"frames", "*frames"},
}


def two_planets(run: Run) -> tuple[int, int]:
    """A training and a test planet that have SHAP values."""
    kinds = {row.id: row.planets for row in planet_rows(run) if row.id in explained(run)}
    return tuple(next(each for each, own in kinds.items() if own == kind) for kind in ("out of fold", "test"))  # type: ignore[return-value]


@pytest.mark.parametrize("how", ["missing", "corrupt"])
@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_artifact_costs_its_own_panels(name: str, how: str, copy: Run) -> None:
    planet, other = two_planets(copy)
    path = copy.folder / name.format(planet=planet)
    path.unlink()
    if how == "corrupt":
        path.write_bytes(b"PK\x03\x04 no such thing\n")
    found = whole(copy) | of_planet(copy, planet)
    found |= {f"*{panel_name}": each for panel_name, each in of_planet(copy, other).items()}
    empty = {panel_name: each.missing for panel_name, each in found.items() if each.missing and panel_name != "log"}
    assert {*empty} == SPOILED[name]
    for missing in empty.values():
        assert missing.command.startswith(("spectramind ", "put them back"))
        assert str(copy.folder) not in missing.what, "no folder of a machine in a page that travels"
    rows = {row.id: row for row in planet_rows(copy)}
    assert len(rows) == 18 and rows[planet].calibrated is (name != "config.yaml")
    assert rows[other].calibrated is not name.endswith(("temperature.json", "q_i.csv"))
    assert (rows[other].depth_ppm is None) is name.endswith("prediction.npz")


def spoiled_numbers(value: Any, rng: np.random.Generator) -> Any:
    """Replace one number in five of a JSON value by NaN or infinity."""
    if isinstance(value, dict):
        return {name: spoiled_numbers(own, rng) for name, own in value.items()}
    if isinstance(value, list):
        return [spoiled_numbers(own, rng) for own in value]
    return float(rng.choice([value, np.nan, np.inf], p=[0.8, 0.1, 0.1])) if isinstance(value, float) else value


def strictly(text: str) -> Any:
    """Read JSON as a browser does, which knows neither NaN nor infinity."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_numbers_that_are_not_finite_are_null_or_named(copy: Run, tmp_path: Path) -> None:
    """In a run full of NaN and infinity every response is a browser's JSON. A panel without data says why in a line."""
    rng = np.random.default_rng(0)
    for path in copy.folder.rglob("*.npz"):
        arrays = dict(np.load(path))
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                arrays[name] = np.where(rng.random(array.shape) < 0.2, np.nan, array).astype(array.dtype)
        path.unlink()
        np.savez(path, **arrays)
    for path in copy.folder.rglob("artifacts/*.json"):
        replace(path, json.dumps(spoiled_numbers(json.loads(path.read_text()), rng)).encode())
    client = TestClient(make_app(copy.folder), base_url="http://localhost")
    planet = read_plan(copy.folder)[0]["test"][0]
    names = [path.replace("{planet}", str(planet)) for path in client.get("/openapi.json").json()["paths"]]
    missing = [strictly(client.get(name).text).get("missing") for name in names if "{" not in name]
    words = [each["what"] for each in missing if each]
    assert any("is null, which stands for NaN and infinity, and" in what for what in words)
    assert max(map(len, words)) < 300 and not any("\n" in what for what in words)
    page = write_page(copy.folder, tmp_path / "page.html")
    held = embedded(page.read_text(encoding="utf-8"), strictly)
    assert held["api/residuals"]["missing"]["what"] in words


def test_a_run_that_was_cut_shows_what_it_has(copy: Run) -> None:
    planet, other = two_planets(copy)
    for stage in sorted(copy.folder.glob("0[5-9]_*")):
        shutil.rmtree(stage)
    rows = planet_rows(copy)
    assert len(rows) == 18 and all(row.depth_ppm is None and row.transit_h and row.teff_k for row in rows)
    for each, words in ((planet, "diagnose prepare --run"), (other, "run --run-dir")):
        found = of_planet(copy, each)
        assert {name for name, one in found.items() if one.data} == {"light_curves", "pointing", "frames"}
        assert found["spectrum"].missing.command.startswith(f"spectramind {words}")  # type: ignore[union-attr]


@pytest.mark.parametrize("content", [b"seed: [", b"- 7\n", b"\xff"])
def test_a_lost_configuration_is_written_again_by_the_command_that_is_told(content: bytes, copy: Run) -> None:
    path, planet = copy.folder / "config.yaml", two_planets(copy)[0]
    before = path.read_text()
    replace(path, content)
    missing = of_planet(copy, planet)["frames"].missing
    assert missing is not None and missing.what.startswith("config.yaml: ")
    assert missing.command == f"spectramind run --run-dir {copy.folder} --profile example"
    said = CliRunner().invoke(command, ["diagnose", "prepare", "--run", str(copy.folder)])
    assert said.exit_code == 2 and "config.yaml" in said.output and "Fix:" in said.output
    said = CliRunner().invoke(command, [*missing.command.split()[1:], "--to", "00_calibration"])
    assert said.exit_code == 0, said.output
    assert path.read_text() == before and of_planet(copy, planet)["frames"].data


def test_lines_are_made_anew_when_a_file_changes(copy: Run) -> None:
    first = planet_rows(copy)
    assert planet_rows(copy) is first
    path = copy.folder / "02_transit/artifacts/quality.json"
    content = path.read_text().replace('"transit_h"', '"no_longer"')
    replace(path, content.encode())
    assert {row.transit_h for row in planet_rows(copy)} == {None}


def test_a_line_of_the_log_that_is_no_event_costs_itself(copy: Run) -> None:
    good = {"ts": "2026-01-01T00:00:00Z", "cmd": "run", "status": "ok", "args": {"run": "x"}}
    lines = ["7", "[]", '"words"', '{"args": 3}', '{"cmd": {}}', "torn {", json.dumps(good), "null"]
    (copy.folder.parent / "events.jsonl").write_text("\n".join(lines))
    damaged, event = WHOLE["log"](copy)
    assert (event.cmd, event.args) == ("run", "run=x")
    assert (damaged.status, damaged.args) == ("warn", "7 lines of events.jsonl can't be read")


def test_prepare_mends_what_is_damaged(copy: Run) -> None:
    path = copy.folder / "08_diagnostics/artifacts/residual_spectra.npz"
    replace(path, b"damaged")
    assert panel(copy, lambda: WHOLE["residuals"](copy)).missing
    said = CliRunner().invoke(command, ["diagnose", "prepare", "--run", str(copy.folder)])
    assert said.exit_code == 0, said.output
    assert panel(copy, lambda: WHOLE["residuals"](copy)).data


# The page


def embedded(page: str, read: Callable[[str], Any] = json.loads) -> dict[str, Any]:
    found = re.findall(r'<script type="application/gzip" data-path="([^"]+)">([^<]*)</script>', page)
    return {path: read(gzip.decompress(base64.b64decode(text)).decode()) for path, text in found}


def test_the_page_holds_what_the_server_answers(finished: Run, tmp_path: Path) -> None:
    page = write_page(finished.folder, tmp_path / "page.html", detailed=3).read_text(encoding="utf-8")
    found, client = embedded(page), TestClient(make_app(finished.folder), base_url="http://localhost")
    rows = found["api/planets"]["data"]
    assert sum(row["detailed"] for row in rows) == 3 and len(rows) == 18
    short = [f"api/planets/{row['id']}" for row in rows if not row["detailed"]]
    for path in found.keys() - {"api/planets", *short, *(f"{path}/frames" for path in short)}:
        assert found[path] == client.get(f"/{path}").json()
    far, frames = found[short[0]], found[f"{short[0]}/frames"]
    assert far["spectrum"]["data"] and "spectramind diagnose serve" in frames["missing"]["command"]
    assert far["light_curves"]["missing"] == frames["missing"]
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page), "nothing comes from elsewhere"


def test_numbers_lose_nothing_that_can_be_seen() -> None:
    values = np.random.default_rng(0).normal(size=200) * 10.0 ** np.arange(-100, 100)
    assert np.allclose(np.array(numbers(values, 6), float), values, rtol=1e-5, atol=0)
    assert numbers([np.nan, np.inf, -np.inf, 0.0, -0.0]) == [None, None, None, 0, 0]


def test_the_worst_and_some_others_are_shown_closely() -> None:
    plain = {"planets": "test", "depth_ppm": 1.0, "sigma_ppm": 1.0, "signal_to_noise": 1.0}
    rows = [PlanetRow(id=k, score=k if k < 50 else None, unknown=k / 100, **plain) for k in range(100)]  # type: ignore[arg-type]
    chosen = worst_and_random(rows, 20)
    assert len(chosen) == 20 and {0, 1, 2, 3, 4, 95, 96, 97, 98, 99} <= chosen
    assert worst_and_random(rows, 20) == chosen and worst_and_random(rows[:5], 20) == {0, 1, 2, 3, 4}
    assert worst_and_random(rows, 0) == set()
    close = worst_and_random(rows, 20, [60, 61, 7, 1000])
    assert len(close) == 20 and {60, 61, 7, 0, 1, 2, 3, 4, 95, 96, 97, 98, 99} <= close
    assert worst_and_random(rows, 2, [60, 61, 7]) == {60, 61}


def test_planets_with_shap_values_are_shown_closely(finished: Run) -> None:
    few = explained(finished)
    for detailed in (len(few), len(few) + 1):
        rows = {path: answer for path, answer in api_responses(finished, detailed, quiet) if path == "planets"}
        close = {row.id for row in rows["planets"].data if row.detailed}  # type: ignore[attr-defined]
        assert len(close) == detailed and {*few} <= close


def test_the_page_is_written_by_the_command(finished: Run, tmp_path: Path) -> None:
    out = tmp_path / "deep/v1.html"
    said = CliRunner().invoke(command, ["diagnose", "dashboard", "--run", str(finished.folder), "--html", str(out)])
    assert said.exit_code == 0 and "page" in said.output and out.stat().st_size > 1e5
    (tmp_path / "empty").mkdir()
    for words in (["dashboard", "--html", str(tmp_path / "no.html")], ["serve"]):
        for name, problem in (("nowhere", "is missing"), ("empty", "is not a run")):
            said = CliRunner().invoke(command, ["diagnose", *words, "--run", str(tmp_path / name)])
            assert said.exit_code == 2 and problem in said.output and "Fix:" in said.output
    assert not (tmp_path / "no.html").exists()


# The server


@pytest.fixture(scope="module")
def client(finished: Run) -> TestClient:
    return TestClient(make_app(finished.folder), base_url="http://localhost")


def test_the_server_keeps_what_its_schema_promises(finished: Run) -> None:
    asked = set()
    schema = schemathesis.openapi.from_asgi("/openapi.json", make_app(finished.folder, ["testserver"]))
    for found in schema.get_all_operations():
        operation = found.ok()
        asked.add(operation.path)

        @given(case=operation.as_strategy())
        def keeps_it(case: Any) -> None:
            case.call_and_validate()

        keeps_it()
    of_planets = {"/api/planets/{planet}", "/api/planets/{planet}/frames"}
    assert {f"/api/{name}" for name in WHOLE} | {"/api/bands"} | of_planets == asked


def test_types_of_the_page_are_the_servers() -> None:
    made = app_of(Run(Path("run")), "").openapi()
    told = json.loads((ROOT / "dashboard/openapi.json").read_text(encoding="utf-8"))
    assert told["components"] == made["components"] and told["paths"] == made["paths"]


def test_unknown_planets_and_other_paths_are_refused(client: TestClient, finished: Run) -> None:
    gone = client.get("/api/planets/7")
    assert gone.status_code == 404 and gone.json()["detail"] == "planet 7 is not in example"
    for path in ("../config.yaml", "..%2f..%2fconfig.yaml", "%2e%2e/config.yaml", "%00", "1e3", "-1", "9" * 40):
        assert client.get(f"/api/planets/{path}").status_code in (404, 422)
    for path in ("/config.yaml", "/../config.yaml", "//etc/passwd", "/static/..%2f..%2fetc%2fpasswd"):
        assert client.get(path).status_code == 404
    assert client.post("/api/overview").status_code == 405
    assert client.get("/api/overview", headers={"host": "elsewhere.example"}).status_code == 400


def test_the_server_describes_itself_without_help_from_elsewhere(client: TestClient) -> None:
    docs = client.get("/docs").text
    assert all(path in docs for path in client.get("/openapi.json").json()["paths"]) and "http" not in docs
    assert client.get("/").text == template()


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The command, serving a run until a Ctrl-C; its address."""
    words = [sys.executable, "-c", "from spectramind_nb.cli.app import main; main()", "diagnose", "serve"]
    reset = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*words, "--run", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=reset,  # type: ignore[arg-type]
    )
    try:
        assert process.stdout is not None
        address = re.match(r"serving +(http://127\.0\.0\.1:[1-9]\d*) ", process.stdout.readline())
        assert address
        yield address[1]
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0 and not said


def test_the_server_is_local_and_ends_quietly(finished: Run) -> None:
    with serving(finished.folder) as address, urllib.request.urlopen(f"{address}/api/bands", timeout=30) as answer:
        assert len(json.load(answer)["wavelength_um"]) == 283


# In a browser

VIEWS = {
    "overview": ("score", "scores", "runtime", "rules", "run"),
    "planets": ("planets",),
    "latents": ("embedding",),
    "attribution": ("overlays", "features"),
    "residuals": ("residuals",),
    "calibration": ("temperatures", "coverage", "coverage-bins", "quantiles", "histograms"),
    "ood": ("ood", "ood-latent", "ood-scatter", "ood-table"),
    "runs": ("runs", "gll"),
    "log": ("log",),
}
OF_A_PLANET = ("spectrum", "light-curves", "frames", "pointing", "attention", "influence", "attribution")
OF_A_PLANET += ("periodograms", "violations", "retrieval")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOCAL = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install it to see the page")


@pytest.fixture(scope="module")
def page_file(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run's page, four of its planets in detail, with a log of commands."""
    event = {"ts": "2026-01-01T00:00:00Z", "cmd": "run", "status": "ok", "duration_ms": 90000, "run_id": "example"}
    (finished.folder.parent / "events.jsonl").write_text(json.dumps(event) + "\n")
    return write_page(finished.folder, tmp_path_factory.mktemp("page") / "page.html", detailed=4)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=[*LOCAL])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A tab of a page that is a file, so that it may ask for nothing."""
    with watched(browser) as tab:
        yield tab


@contextmanager
def watched(browser: Any, served_from: str = "") -> Iterator[Any]:
    """A tab in which nothing may go wrong unseen, nor be asked from elsewhere than its server."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, permissions=["clipboard-read"])
    tab, wrong = context.new_page(), list[str]()

    def elsewhere(url: str) -> bool:
        return url.startswith("http") and not (served_from and url.startswith(f"{served_from}/"))

    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    tab.on("request", lambda asked: wrong.append(asked.url) if elsewhere(asked.url) else None)
    yield tab
    context.close()
    assert not wrong


def show(tab: Any, page: Path, route: str, *panels: str, state: str = "ready") -> None:
    tab.goto(f"{page.as_uri()}#/{route}")
    for name in panels:
        tab.wait_for_selector(f"[data-testid=panel-{name}][data-state={state}]", timeout=10_000)


def worst_of(page: Path) -> int:
    """The planet with the lowest score, which is shown in detail."""
    rows = embedded(page.read_text(encoding="utf-8"))["api/planets"]["data"]
    return int(min((row for row in rows if row["planets"] == "out of fold"), key=lambda row: row["score"])["id"])


@in_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_every_view_shows_its_data(width: int, tab: Any, page_file: Path) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    for route, panels in VIEWS.items():
        show(tab, page_file, route, *panels)
        wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{route} is wider than {width} pixels"
    show(tab, page_file, f"planets/{worst_of(page_file)}", *OF_A_PLANET)
    assert "example" in tab.title()


@in_browser
def test_a_retrieval_that_is_not_reliable_says_so(tab: Any, copy: Run, tmp_path: Path) -> None:
    planet = two_planets(copy)[0]
    path = copy.folder / f"08_diagnostics/artifacts/retrieval_{planet}.npz"
    reliable = replaced(read_retrieval(path), effective=1500.0, excess=0.0)
    for effective, words in ((1500.0, "reliable"), (7.0, "not reliable")):
        path.unlink()
        arrays = retrieval_arrays(planet, replaced(reliable, effective=effective))
        write_npz(path, "retrieval", **arrays)
        page = write_page(copy.folder, tmp_path / f"{words}.html", detailed=4)
        show(tab, page, f"planets/{planet}", "retrieval")
        text = tab.get_by_test_id("panel-retrieval").inner_text()
        assert f"\n{words}\n" in f"\n{text}\n" and "under the simulator's chemistry" in text
        assert ("use the predicted spectrum" in text) is (words == "not reliable")
        assert "two thirds of the planets" in text and "log H₂O" in text.replace("Log", "log")


@in_browser
def test_what_is_missing_is_told_and_the_rest_stands(tab: Any, finished: Run, tmp_path: Path) -> None:
    bare = Run(tmp_path / "bare")
    (bare.folder / "06_training").mkdir(parents=True)
    page = write_page(bare.folder, tmp_path / "bare.html")
    for route in VIEWS:
        tab.goto(f"{page.as_uri()}#/{route}")
        tab.wait_for_selector("main [data-state=missing]")
        assert not tab.locator("main [data-state=error], main [data-state=loading]").count()
        assert tab.locator("main code").first.inner_text()


@in_browser
def test_a_damaged_part_of_the_page_costs_its_own_panel(tab: Any, page_file: Path, tmp_path: Path) -> None:
    text = page_file.read_text()
    damaged = re.sub(r'(data-path="api/residuals">)[^<]{40}', r"\1AAAA", text)
    page = tmp_path / "damaged.html"
    page.write_text(damaged)
    show(tab, page, "residuals", "residuals", state="error")
    show(tab, page, "calibration", "coverage")


@in_browser
def test_search_selection_and_links(tab: Any, page_file: Path) -> None:
    some, worst = embedded(page_file.read_text())["api/planets"]["data"][5]["id"], worst_of(page_file)
    show(tab, page_file, "planets", "planets")
    tab.keyboard.press("/")
    tab.keyboard.type(str(some))
    tab.get_by_role("link", name=str(some)).first.click()
    tab.wait_for_selector("[data-testid=panel-spectrum][data-state=ready]")
    assert tab.url.partition("#")[2].startswith(f"/planets/{some}")
    show(tab, page_file, "planets", "planets")
    show(tab, page_file, f"planets/{worst}", *OF_A_PLANET)
    tab.get_by_test_id("next-planet").click()
    tab.wait_for_function(f"!location.hash.includes('{worst}')")
    tab.go_back()
    tab.wait_for_function(f"location.hash.includes('{worst}')")
    tab.keyboard.press("j")
    tab.wait_for_function(f"!location.hash.includes('{worst}')")
    show(tab, page_file, "ood", "ood-table")
    tab.locator("[data-testid=panel-ood-table] a").first.click()
    tab.wait_for_selector("[data-testid=panel-spectrum][data-state=ready]")


@in_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_has_no_serious_accessibility_fault(theme: str, tab: Any, page_file: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    tab.emulate_media(color_scheme=theme, reduced_motion="reduce")
    for route, panels in {**VIEWS, f"planets/{worst_of(page_file)}": OF_A_PLANET}.items():
        show(tab, page_file, route, *panels)
        faults = Axe().run(tab).response["violations"]
        serious = {
            fault["id"]: fault["nodes"][0]["html"] for fault in faults if fault["impact"] in ("serious", "critical")
        }
        assert not serious, route


@in_browser
def test_a_server_feeds_the_same_page(browser: Any, finished: Run) -> None:
    with serving(finished.folder) as address, watched(browser, address) as tab:
        planet = explained(finished)[0]
        tab.goto(f"{address}/#/planets/{planet}")
        for name in OF_A_PLANET:
            tab.wait_for_selector(f"[data-testid=panel-{name}][data-state=ready]", timeout=10_000)


# In a browser: what a reader does


def where(tab: Any, place: str) -> None:
    tab.wait_for_function("place => location.hash.includes(place)", arg=place, timeout=10_000)


def click_some_point(tab: Any, panel: str) -> None:
    """Walk over a scatter plot until its cursor says that a point is near, then click."""
    canvas = tab.locator(f"[data-testid=panel-{panel}] canvas").first
    canvas.scroll_into_view_if_needed()
    at = canvas.evaluate(
        """async canvas => {
            const box = canvas.getBoundingClientRect();
            const step = () => new Promise(requestAnimationFrame);
            for (let y = 8; y < box.height; y += 24) for (let x = 8; x < box.width; x += 24) {
                const place = { clientX: box.left + x, clientY: box.top + y, bubbles: true, pointerType: "mouse" };
                canvas.dispatchEvent(new PointerEvent("pointermove", place));
                await step();
                if (canvas.style.cursor === "pointer") return { x, y };
            }
            return null;
        }"""
    )
    assert at, "no point found"
    canvas.click(position=at)


@in_browser
@pytest.mark.parametrize(("view", "panel"), [("latents", "embedding"), ("ood", "ood-scatter")])
def test_a_click_on_a_point_opens_its_planet(view: str, panel: str, tab: Any, page_file: Path) -> None:
    show(tab, page_file, view, panel)
    click_some_point(tab, panel)
    tab.wait_for_selector("[data-testid=panel-spectrum][data-state=ready]")
    planets = {row["id"] for row in embedded(page_file.read_text(encoding="utf-8"))["api/planets"]["data"]}
    assert int(tab.url.partition("#/planets/")[2].partition("?")[0]) in planets


@in_browser
def test_the_maps_are_coloured_by_what_is_chosen(tab: Any, page_file: Path) -> None:
    show(tab, page_file, "latents", "embedding")
    maps = tab.locator("[data-testid=panel-embedding] canvas").first
    pictures = []
    for chosen in ("planets", "score", "depth_ppm"):
        tab.get_by_label("Colour by").select_option(chosen)
        tab.wait_for_timeout(100)
        pictures.append(maps.evaluate("canvas => canvas.toDataURL()"))
    assert len({*pictures}) == 3
    assert "Depth (ppm)" in tab.locator("[data-testid=panel-embedding]").inner_text() and "colour=depth_ppm" in tab.url


@in_browser
def test_keys_step_through_planets_and_search(tab: Any, page_file: Path) -> None:
    show(tab, page_file, f"planets/{worst_of(page_file)}", "spectrum")
    seen = [tab.url]
    for key in ("j", "ArrowRight", "ArrowLeft", "k"):
        before = tab.evaluate("location.hash")
        tab.keyboard.press(key)
        tab.wait_for_function("before => location.hash !== before", arg=before)
        tab.wait_for_selector("[data-testid=panel-spectrum][data-state=ready]")
        seen.append(tab.url)
    assert seen[0] == seen[4] and seen[1] == seen[3] and len({*seen}) == 3
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.type") == "search"
    tab.keyboard.type("jk")
    assert tab.url.partition("?")[0] == seen[4], "in a field, keys are letters: the planet stays"
    assert tab.get_by_role("searchbox").input_value() == "jk"


@in_browser
def test_the_theme_is_the_readers(tab: Any, page_file: Path) -> None:
    tab.emulate_media(color_scheme="light")
    show(tab, page_file, "overview", "score")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(paper)
    tab.get_by_test_id("theme").click()
    dark = tab.evaluate(paper)
    assert dark != light and tab.get_by_test_id("theme").inner_text() == "Light theme"
    tab.reload()
    tab.wait_for_selector("[data-testid=panel-score][data-state=ready]")
    assert tab.evaluate(paper) == dark, "the choice is kept"


@in_browser
def test_a_planet_that_is_not_detailed_says_where_the_rest_is(tab: Any, page_file: Path) -> None:
    rows = embedded(page_file.read_text(encoding="utf-8"))["api/planets"]["data"]
    far = next(row["id"] for row in rows if not row["detailed"])
    show(tab, page_file, f"planets/{far}", "spectrum")
    show(tab, page_file, f"planets/{far}", "frames", "light-curves", "pointing", state="missing")
    assert "spectramind diagnose serve" in tab.locator("[data-testid=panel-frames] code").inner_text()
    assert not tab.locator("main [data-state=error], main [data-state=loading]").count()


def serious_faults(tab: Any) -> dict[str, str]:
    from axe_playwright_python.sync_playwright import Axe

    faults = Axe().run(tab).response["violations"]
    return {fault["id"]: fault["nodes"][0]["html"] for fault in faults if fault["impact"] in ("serious", "critical")}


@in_browser
def test_no_serious_accessibility_fault_on_a_phone(tab: Any, page_file: Path) -> None:
    tab.set_viewport_size({"width": 390, "height": 900})
    tab.emulate_media(reduced_motion="reduce")
    for route, panels in {**VIEWS, f"planets/{worst_of(page_file)}": OF_A_PLANET}.items():
        show(tab, page_file, route, *panels)
        assert not serious_faults(tab), route


@in_browser
def test_no_serious_accessibility_fault_in_an_empty_run(tab: Any, tmp_path: Path) -> None:
    (tmp_path / "bare/06_training").mkdir(parents=True)
    page = write_page(tmp_path / "bare", tmp_path / "bare.html")
    tab.emulate_media(reduced_motion="reduce")
    for width in (1280, 390):
        tab.set_viewport_size({"width": width, "height": 900})
        for route in VIEWS:
            tab.goto(f"{page.as_uri()}#/{route}")
            tab.wait_for_selector("main [data-state=missing]")
            assert not serious_faults(tab), f"{route}, {width}"
