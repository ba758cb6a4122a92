"""The integrity report of a run: counts by planet and channel, the star table against the fit, and failed planets."""

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spectramind_nb.cli.report import integrity_lines
from spectramind_nb.core.contracts import write_npz
from spectramind_nb.core.errors import ContractError
from spectramind_nb.core.files import run_folder, write_json
from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.dashboard.planet_table import artifact_figures, unpredicted_planets
from spectramind_nb.dashboard.run_reader import Run
from spectramind_nb.pipeline.integrity import (
    ADDED,
    AVERAGED,
    CHARGES,
    LARGEST,
    integrity_report,
    write_integrity,
    write_predicted_integrity,
)
from spectramind_nb.transits.fit_priors import FitOptions

STAR = {"sma": 12.0, "i": 89.0, "P": 4.0, "Ts": 5500.0}


def visit_log(planet: int, channel: str, visit: int = 0, **figures: float) -> dict[str, Any]:
    """A record of `calibration_log.json` of 500 pairs, without a fault except for `figures`."""
    sound = dict.fromkeys((*ADDED, *AVERAGED, *LARGEST, *CHARGES), 0) | {"pairs": 500, "charge_ratio": 1.0}
    return {"planet": planet, "split": "train", "visit": visit, "channel": channel, **sound, **figures}


def write_fit_of(run: Path, planet: int, more: dict[str, Any] | None = None, **quality: float) -> None:
    shared = {"sma": 12.3, "b2": 0.06}
    record = {"shared": shared, "shared_std": {"sma": 0.2, "b2": 0.01}, "quality": quality, "star": STAR}
    record |= more or {}
    series, whole = np.zeros(4), np.zeros(4, np.int8)
    write_npz(
        run_folder(run, "outputs/fits") / f"transit_{planet}.npz",
        "transit",
        depth=np.full(N_BINS, 0.01),
        noise_variance=np.full(N_BINS, 1e-8),
        nuisance=np.zeros((N_BINS, 1)),
        parameters=np.array(json.dumps(record)),
        **dict.fromkeys(("time", "white_flux", "white_model", "white_drift"), series),
        **dict.fromkeys(("visit", "channel"), whole),
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of five planets: 1 sound, 2 with two damaged visits, 3 of an older version, 4 and 5 failed."""
    write_json(
        tmp_path / "00_calibration/artifacts/plan.json",
        {"planets": {"train": [1, 2], "test": [3, 4, 5]}, "options": {}},
    )
    older = {"planet": 3, "split": "test", "visit": 0, "channel": "AIRS-CH0", "pairs": 500, "cosmic_fraction": 1e-5}
    log = [
        visit_log(1, "FGS1"),
        visit_log(1, "AIRS-CH0", foreground_e_s=0.25),
        visit_log(2, "FGS1", pairs_lost=1, pairs_left_out=1, reads_missing=1),
        visit_log(2, "FGS1", 1, pairs_lost=2, pairs_left_out=5, pairs_frozen=3, pairs_exchanged=4),
        visit_log(2, "AIRS-CH0", foreground_e_s=0.2, dilution_error=1e-4, pairs_left_out=25),
        visit_log(2, "AIRS-CH0", 1, foreground_e_s=0.4, dilution_error=3e-4, pairs_left_out=75),
        older,
        visit_log(5, "FGS1", pairs_saturated=7),
    ]
    write_json(tmp_path / "01_features/artifacts/calibration_log.json", log)
    write_json(tmp_path / "01_features/artifacts/failed.json", {"4": {"split": "test", "problem": "200 pairs frozen"}})
    write_json(tmp_path / "02_transit/artifacts/failed.json", {"5": {"split": "test", "problem": "Rs: planet 5"}})
    write_json(tmp_path / "02_transit/artifacts/options.json", asdict(FitOptions(sma_scatter=0.05)))
    write_fit_of(tmp_path, 1)
    write_fit_of(tmp_path, 2, orbit_tension=6.2, sma_prior_widening=3.0, i_prior_widening=2.0)
    return tmp_path


def by_planet(run: Path) -> dict[int, dict[str, Any]]:
    return {record["planet"]: record for record in integrity_report(run)}


def test_every_planet_has_a_record_and_a_sound_one_has_no_fault(run: Path) -> None:
    report = by_planet(run)
    assert {planet: record["split"] for planet, record in report.items()} == {
        1: "train",
        2: "train",
        3: "test",
        4: "test",
        5: "test",
    }
    assert report[1]["failed"] is None
    for channel in report[1]["channels"].values():
        assert (channel["visits"], channel["pairs"]) == (1, 500)
        assert not any(channel[name] for name in ADDED if name != "pairs")


def test_counts_add_over_visits_and_levels_are_averaged(run: Path) -> None:
    fgs1, airs = (by_planet(run)[2]["channels"][name] for name in ("FGS1", "AIRS-CH0"))
    assert (fgs1["visits"], fgs1["pairs"], fgs1["pairs_left_out"]) == (2, 1000, 6)
    assert (fgs1["pairs_lost"], fgs1["pairs_frozen"], fgs1["pairs_exchanged"], fgs1["reads_missing"]) == (3, 3, 4, 1)
    assert airs["foreground_e_s"] == pytest.approx(0.3) and airs["dilution_error"] == 3e-4
    assert airs["pairs_lost"] == 0, "of its own channel alone"


def test_a_figure_that_an_older_log_lacks_is_null_and_others_stay(run: Path) -> None:
    channels = by_planet(run)[3]["channels"]
    assert [*channels] == ["AIRS-CH0"] and by_planet(run)[3]["orbit"] is None
    airs = channels["AIRS-CH0"]
    assert airs["pairs"] == 500 and airs["cosmic_fraction"] == 1e-5
    assert airs["pairs_lost"] is airs["foreground_e_s"] is airs["dilution_error"] is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_figure_that_is_no_number_in_one_visit_is_null(value: float | None, run: Path) -> None:
    log = [visit_log(1, "FGS1", foreground_e_s=0.2), visit_log(1, "FGS1", 1, foreground_e_s=value)]  # type: ignore[arg-type]
    write_json(run / "01_features/artifacts/calibration_log.json", log)
    written = write_integrity(run).read_text(encoding="utf-8")
    assert "NaN" not in written and "Infinity" not in written
    assert json.loads(written)[0]["channels"]["FGS1"]["foreground_e_s"] is None


def test_a_failed_planet_has_its_reason_and_what_was_counted_before(run: Path) -> None:
    report = by_planet(run)
    assert report[4]["failed"] == "200 pairs frozen" and report[4]["channels"] == {}
    assert report[5]["failed"] == "Rs: planet 5" and report[5]["channels"]["FGS1"]["pairs_saturated"] == 7
    assert report[4]["orbit"] is report[5]["orbit"] is None


def test_the_table_stands_beside_the_fit(run: Path) -> None:
    one, two = (by_planet(run)[planet]["orbit"] for planet in (1, 2))
    assert one["sma"] == {"table": 12.0, "table_error": pytest.approx(0.6), "fit": 12.3, "fit_error": 0.2}
    assert (
        one["b2"]["table"] == pytest.approx((12 * np.cos(np.radians(89))) ** 2, abs=0.02) and one["b2"]["fit"] == 0.06
    )
    assert one["orbit_tension"] is one["sma_prior_widening"] is one["table_sigma"] is None
    assert (two["orbit_tension"], two["sma_prior_widening"], two["i_prior_widening"]) == (6.2, 3.0, 2.0)
    assert two["sma"] == one["sma"], "the table's error is that before the widening"


def measured_orbit(sma: float, b2: float) -> dict[str, Any]:
    """Evidence of light curves that show a/Rs within .2 and b2 within .02."""
    known = np.zeros((10, 10))
    known[0, 0], known[1, 1] = 1 / 0.2**2, 1 / 0.02**2
    information = known @ np.array([sma, b2, *np.zeros(8)])
    return {"precision": known.tolist(), "information": information.tolist(), "drift": {}, "noise": {}, "jump": {}}


def test_rows_of_other_planets_are_told_by_many_fits(run: Path, tmp_path: Path) -> None:
    """One planet off its row is a planet's matter; a third of them is the table's."""
    stars = [{**STAR, "sma": sma, "i": i} for sma, i in ((9.0, 88.0), (14.0, 89.5), (11.0, 86.5), (16.0, 89.0))] * 3
    orbits = [measured_orbit(star["sma"], (star["sma"] * np.cos(np.radians(star["i"]))) ** 2) for star in stars]

    def lines(rows: list[dict[str, float]]) -> list[str]:
        for planet, (star, orbit) in enumerate(zip(rows, orbits, strict=True), start=100):
            write_fit_of(run, planet, {"star": star, "evidence": orbit})
        planets = [*range(100, 100 + len(rows))]
        return integrity_lines(write_predicted_integrity(tmp_path / "out.csv", run, planets, {}, FitOptions()))[1:]

    assert not lines(stars)
    assert not lines([stars[1], *stars[1:]])
    (line,) = lines(stars[1:] + stars[:1])
    assert "star table: 12 of 12 planets contradict sma and i of their rows by more than 4 standard deviations" in line
    assert line.endswith("check that each row stands beside its own planet_id")


def test_charges_that_do_not_fit_their_exposures_are_a_warning(run: Path) -> None:
    path = run / "01_features/artifacts/calibration_log.json"
    rows = json.loads(path.read_text())
    odd = [row | ({"charge_ratio": 0.992} if row["channel"] == "FGS1" and row["planet"] == 1 else {}) for row in rows]
    write_json(path, odd)
    (line,) = (line for line in integrity_lines(write_integrity(run)) if "first reads" in line)
    assert line.startswith("warning           FGS1: the first reads hold 0.9920 times the charge")
    assert "(planet 1)" in line


def test_a_damaged_fit_is_named(run: Path) -> None:
    path = run_folder(run, "outputs/fits") / "transit_1.npz"
    whole = path.read_bytes()
    arrays = dict(np.load(io.BytesIO(whole)))
    np.savez(path, **arrays | {"noise_variance": -arrays["noise_variance"]})
    with pytest.raises(ContractError, match="noise_variance: holds numbers that no fit gives"):
        write_integrity(run)
    path.write_bytes(b"PK no such thing")
    with pytest.raises(ContractError, match="transit_1"):
        write_integrity(run)
    assert not list(run.glob("09_submission/artifacts/*"))


def test_the_dashboard_shows_the_channel_with_most_losses(run: Path) -> None:
    write_integrity(run)
    shown = artifact_figures(Run(run), unpredicted_planets([1, 2, 3, 4], test=False))
    assert shown.loc[2, "reads_lost"] == pytest.approx(0.1) and shown.loc[2, "foreground_e_s"] == pytest.approx(0.3)
    assert shown.loc[1, "reads_lost"] == 0 and shown.loc[2, "orbit_tension"] == 6.2
    assert shown.loc[[3, 4], ["reads_lost", "foreground_e_s", "orbit_tension"]].isna().all(axis=None)


def test_predict_reports_its_planets_and_names_a_widened_prior(run: Path, tmp_path: Path) -> None:
    """As a run does: from the calibration logs and fits in the folder of a prediction."""
    for planet in (1, 2, 5):
        rows = json.loads((run / "01_features/artifacts/calibration_log.json").read_text())
        write_json(run / "logs" / f"{planet}.json", [row for row in rows if row["planet"] == planet])
    options, problems = FitOptions(sma_scatter=0.05), {4: "200 pairs frozen", 5: "Rs: planet 5"}
    path = write_predicted_integrity(tmp_path / "new" / "out.csv", run, [1, 2, 4, 5], problems, options)
    assert path == tmp_path / "new" / "integrity.json"
    known = by_planet(run)
    for record in json.loads(path.read_text()):
        assert record == known[record["planet"]] | {"split": "test"}
    _, line = integrity_lines(path)
    assert "planet 2: the light curves contradict the star's orbit by 6.2 standard deviations; its prior was" in line


def test_bins_without_data_are_in_the_report(run: Path) -> None:
    path = run_folder(run, "outputs/fits") / "transit_1.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["noise_variance"][[5, 7]] = 0.01
    write_npz(path, "transit", **arrays)
    report = by_planet(run)
    assert report[1]["dead_bins"] == [5, 7] and report[2]["dead_bins"] == [] and report[4]["dead_bins"] == []
