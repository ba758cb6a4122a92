"""Light curves of one's own: what is read, refused, written, and whether injected transits come back."""

import gzip
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.table import QTable, Table
from scipy.io import netcdf_file
from typer.testing import CliRunner

from spectramind_nb.cli import app as cli
from spectramind_nb.core.contracts import write_npz
from spectramind_nb.core.errors import ContractError, UserError
from spectramind_nb.core.files import run_folder
from spectramind_nb.core.instrument import N_BINS, wavelengths
from spectramind_nb.pipeline.provenance import event_faults, read_events
from spectramind_nb.prior.learning import learn_prior
from spectramind_nb.prior.spectral_prior import write_prior
from spectramind_nb.transits import fit_results as results
from spectramind_nb.transits import light_curve_file as curve_file
from spectramind_nb.transits import light_curve_formats as formats
from spectramind_nb.transits import your_light_curves as own
from spectramind_nb.transits.fit import fit_planet
from spectramind_nb.transits.fit_file import write_fit
from spectramind_nb.transits.fit_priors import FitOptions, limb_priors, orbit_priors, priors
from spectramind_nb.transits.fit_report import Fit
from spectramind_nb.transits.injection import (
    Injector,
    conclusion,
    draw_scene,
    flat_spectrum,
    injection_recovery,
    smooth_spectrum,
)
from spectramind_nb.transits.light_curve import Orbit, transit
from spectramind_nb.transits.model import blocks_of, make_block

STAR = {"sma": 10.5, "i": 88.5, "P": 5.2, "Ts": 5900.0}
SIGMA = np.concatenate([[2e-4], np.linspace(1e-3, 4e-3, N_BINS - 1)])
DEPTH = 0.012 + 2e-4 * np.sin(np.linspace(0, 7, N_BINS))


@cache
def observed(seed: int = 0, steps: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time (h), flux and its standard deviation of a short visit with drift, in electrons."""
    rng, hours = np.random.default_rng(seed), (np.arange(steps) + 0.5) * 7.5 / steps
    orbit = Orbit(3.9, 24 * STAR["P"], STAR["sma"], STAR["sma"] * float(np.cos(np.radians(STAR["i"]))))
    u1, u2 = (np.where(np.arange(N_BINS) == 0, fgs1, airs) for fgs1, airs in ((0.4, 0.12), (0.15, 0.10)))
    drift = 2e-4 * np.polynomial.chebyshev.chebval(2 * hours / 7.5 - 1, [0, *rng.uniform(-1, 1, 3)])
    level = 1e5 * np.linspace(1.5, 0.3, N_BINS)
    flux = transit(hours, orbit, DEPTH, u1, u2).flux * (1 + drift)[:, None] + rng.normal(size=(steps, N_BINS)) * SIGMA
    return hours, flux * level, np.tile(SIGMA * level, (steps, 1))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return curve_file.write_light_curves(tmp_path_factory.mktemp("mine") / "mine.ecsv", *observed(), STAR)


@pytest.fixture
def mine(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path))


@cache
def fitted() -> tuple[curve_file.ObservedLightCurves, Fit]:
    hours, flux, error = observed()
    bins = (slice(0, 1), slice(1, N_BINS))
    curves = curve_file.ObservedLightCurves(
        [make_block(0, b, hours, flux[:, b], error[:, b] ** 2) for b in bins], STAR, [0.0]
    )
    return curves, fit_planet(curves.blocks, STAR)


def same(one: Fit, other: Fit) -> None:
    assert np.array_equal(one.depth, other.depth) and np.array_equal(one.covariance, other.covariance)
    assert one.shared == other.shared and one.quality == other.quality


def test_a_table_comes_back_as_it_was_and_fits_as_its_blocks_do(mine: Path) -> None:
    curves, fit = own.fit_file(mine)
    known, alone = fitted()
    for block, other in zip(curves.blocks, known.blocks, strict=True):
        assert all(np.array_equal(getattr(block, name), value) for name, value in vars(other).items())
    assert curves.star == STAR and curves.left_out == 0
    same(fit, alone)
    pulls = (fit.depth - DEPTH) / np.sqrt(np.diag(fit.covariance))
    assert 0.85 < pulls[1:].std() < 1.15 and abs(pulls[0]) < 4


def test_low_points_that_were_removed_are_noticed(tmp_path: Path) -> None:
    hours, flux, error = observed()
    low = (flux - np.median(flux, axis=0)) / error < -3
    anywhere = np.random.default_rng(0).random(flux.shape) < 0.1
    for name, gone, noticed in (("clipped", low, True), ("anywhere", anywhere, False)):
        values = np.where(gone, np.nan, flux)
        path = curve_file.write_light_curves(tmp_path / f"{name}.ecsv", hours, values, error, STAR)
        lines = results.warnings_of(results.result_of(own.fit_file(path)[1], curve_file.read_light_curves(path)))
        assert any("are missing in transit than outside" in line for line in lines) == noticed


def test_a_plain_table_says_the_same(mine: Path, tmp_path: Path) -> None:
    hours, flux, error = observed()
    columns = {"time": hours} | {f"flux_{k}": flux[:, k] for k in range(N_BINS)}
    pd.DataFrame(columns | {f"flux_err_{k}": error[:, k] for k in range(N_BINS)}).to_csv(tmp_path / "a.csv")
    curves = curve_file.read_light_curves(mine)
    other = curve_file.read_light_curves(tmp_path / "a.csv", STAR)
    assert other.star == curves.star
    for block, its in zip(curves.blocks, other.blocks, strict=True):
        assert np.allclose(block.flux, its.flux, rtol=1e-12) and np.allclose(block.variance, its.variance)


def frame_of(visit: Any = None) -> pd.DataFrame:
    """The usual light curves as a plain table."""
    hours, flux, error = observed()
    columns = {"Time": hours} | ({} if visit is None else {"visit": visit})
    columns |= {f"flux_{k}": flux[:, k] for k in range(N_BINS)}
    return pd.DataFrame(columns | {f"flux_err_{k}": error[:, k] for k in range(N_BINS)})


def as_text(path: Path, form: str) -> None:
    table = frame_of("a" if form == "named visit" else None)
    separator = {"semicolons": ";", "decimal commas": ";", "tabs": "\t", "spaces": " ", "bars": "|"}.get(form, ",")
    text = table.to_csv(index=False, sep=separator, decimal="," if form == "decimal commas" else ".")
    text = f"# by hand\n#\n{text}" if form == "comments" else text
    text = text.replace("Time", "# Time", 1) if form == "header after #" else text
    content = text.encode({"UTF-16": "utf-16", "BOM": "utf-8-sig"}.get(form, "utf-8"))
    path.write_bytes(gzip.compress(content) if form == "gzip" else content)


FORMS = (
    "plain",
    "semicolons",
    "decimal commas",
    "tabs",
    "bars",
    "spaces",
    "comments",
    "header after #",
    "UTF-16",
    "BOM",
    "gzip",
)


@pytest.mark.parametrize("form", [*FORMS, "UTF-16", "named visit"])
def test_any_table_of_text_says_the_same(form: str, tmp_path: Path) -> None:
    as_text(tmp_path / "a.csv", form)
    found = curve_file.read_light_curves(tmp_path / "a.csv", STAR).blocks
    for block, known in zip(found, fitted()[0].blocks, strict=True):
        assert np.allclose(block.flux, known.flux, rtol=1e-12) and np.allclose(block.time_h, known.time_h)


def write_hdf5(path: Path, bins: int = N_BINS, **names: str) -> None:
    h5py = pytest.importorskip("h5py")
    hours, flux, error = observed()
    with h5py.File(path, "w") as file:
        file["time"] = 60_000.25 + hours / 24
        file["time"].attrs["time_units"] = "BMJD_TDB"
        file[names.get("flux", "data")], file["err"] = flux[:, :bins].T, error[:, :bins].T
        file["wavelength"] = wavelengths()[:bins]


@pytest.mark.parametrize("form", ["hdf5", "npz", "parquet", "fits"])
def test_files_of_arrays_say_the_same(form: str, tmp_path: Path) -> None:
    path, (hours, flux, error) = tmp_path / f"a.{form}", observed()
    if form == "hdf5":
        write_hdf5(path)
    elif form == "npz":
        np.savez(path, time=hours, flux=flux, flux_err=error)
    elif form == "parquet":
        frame_of().to_parquet(path)
    else:
        table = Table({"TIME": hours / 24, "FLUX": flux, "FLUX_ERR": error}, units={"TIME": "d"})
        table.write(path, format="fits")
    for block, known in zip(curve_file.read_light_curves(path, STAR).blocks, fitted()[0].blocks, strict=True):
        assert np.allclose(block.flux, known.flux, rtol=1e-9)


def test_an_hdf5_file_of_other_bins_is_described(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.h5", bins=40)
    with pytest.raises(ContractError, match=r"flux: has 40 bins from 0\.7 to 2\.28 um, not 283\. Fix: bin to"):
        curve_file.read_light_curves(tmp_path / "a.h5", STAR)
    write_hdf5(tmp_path / "b.h5", flux="spectra")
    with pytest.raises(ContractError, match=r"flux: is missing in this HDF5 file; it holds err \(283, 100\), spectra"):
        curve_file.read_light_curves(tmp_path / "b.h5", STAR)
    np.savez(tmp_path / "c.npz", t=np.zeros(3), f=np.zeros(3))
    with pytest.raises(ContractError, match="the arrays in it are t, f"):
        curve_file.read_light_curves(tmp_path / "c.npz", STAR)


def test_features_of_a_run_fit_as_in_the_run(tmp_path: Path) -> None:
    hours, flux, error = (a.astype(np.float32) for a in observed())
    light = (np.repeat(flux[:, 0], 3) * (1 + 1e-6 * np.arange(300))).astype(np.float32)
    fine = light, np.repeat(error[:, 0] ** 2, 3), (np.arange(300) + 0.5) * 7.5 / 300
    extra = {"centroid": np.zeros((300, 2), np.float32), "jitter": np.zeros((300, 2), np.float32)}
    white = {"flux": fine[0], "variance": fine[1], "time": fine[2], "visit": np.zeros(300, np.int8), **extra}
    bins = {"flux": flux, "variance": error**2, "time": hours.astype(float), "visit": np.zeros(100, np.int8)}
    bins["dilution"] = np.linspace(0, 1e-3, 2 * N_BINS, dtype=np.float32).reshape(1, N_BINS, 2)
    write_npz(tmp_path / "fgs1_white_7.npz", "fgs1_white", **white)
    write_npz(tmp_path / "airs_bins_7.npz", "airs_bins", **bins)
    there = blocks_of({"fgs1_white": white, "airs_bins": bins})
    for name in ("airs_bins_7.npz", "fgs1_white_7.npz"):
        found = curve_file.read_light_curves(tmp_path / name, STAR).blocks
        for block, other in zip(found, there, strict=True):
            assert all(np.array_equal(getattr(block, key), value) for key, value in vars(other).items())
    with pytest.raises(ContractError, match=r"star sma: is missing\. Fix: give --sma"):
        curve_file.read_light_curves(tmp_path / "airs_bins_7.npz")


def test_julian_dates_shift_nothing_but_mid_transit(tmp_path: Path) -> None:
    hours, flux, error = observed()
    start = 2_460_000.25
    table = Table({"time": start + hours / 24, "flux": flux, "flux_err": error}, meta={"star": STAR})
    table["time"].unit = "d"
    table.write(tmp_path / "jd.ecsv", format="ascii.ecsv")
    curves, fit = own.fit_file(tmp_path / "jd.ecsv")
    _, alone = fitted()
    result = results.result_of(fit, curves)
    assert np.allclose(fit.depth, alone.depth, atol=2e-6)
    assert result.shared["t0_h[0]"] - 24 * start == pytest.approx(alone.shared["t0_h[0]"], abs=1e-4)


def test_a_nan_costs_its_point_and_a_dead_bin_has_no_depth(tmp_path: Path) -> None:
    hours, flux, error = observed()
    holed, wide = flux.copy(), error.copy()
    holed[20, 5], wide[60, 100], wide[61, 0] = np.nan, np.inf, np.nan
    holed[30, 1:], holed[:, 50], holed[35:65, 80] = np.nan, np.nan, np.nan
    curves = curve_file.read_light_curves(curve_file.write_light_curves(tmp_path / "a.ecsv", hours, holed, wide, STAR))
    white, airs = curves.blocks
    assert curves.left_out == 2
    assert np.array_equal(white.time_h, np.delete(hours, 61)) and np.array_equal(airs.time_h, np.delete(hours, 30))
    fit, (_, alone) = fit_planet(curves.blocks, STAR), fitted()
    sigma, before, live = *(np.sqrt(np.diag(f.covariance)) for f in (fit, alone)), np.arange(N_BINS) != 50
    others = live & (np.arange(N_BINS) != 80)
    assert np.abs((fit.depth - alone.depth) / before)[others].max() < 1 and fit.dead_bins.tolist() == [50]
    assert np.allclose(sigma[others][1:], before[others][1:], rtol=0.1)
    inside, outside = 52, 48  # steps; a depth is the difference of two means, and 30 steps inside are missing
    grown = np.sqrt((1 / (inside - 30) + 1 / outside) / (1 / inside + 1 / outside))
    assert grown < sigma[80] / before[80] < 1.5 * grown
    result = results.result_of(fit, curves)
    lines = "\n".join(own.result_lines(result))
    assert "steps left out    2" in lines and "1 dead bin without a depth: 50" in lines
    paths = results.write_result(result, tmp_path / "out")
    table, posterior = Table.read(paths["spectrum"]), results.read_posterior(paths["posterior"])
    for depth in (table["depth"], table["depth_err"], posterior["depth"], np.diag(posterior["depth_covariance"])):
        assert np.array_equal(np.isnan(np.asarray(depth)), ~live)
    assert table.meta["warnings"] == ["1 dead bin without a depth: 50"]
    assert abs(result.airs_depth[0] - results.result_of(alone, fitted()[0]).airs_depth[0]) < 0.5 * result.airs_depth[1]


def with_star(**values: float) -> results.Result:
    """The result of the usual light curves with other values of the star."""
    curves, _ = fitted()
    star = {**STAR, **values}
    return results.result_of(fit_planet(curves.blocks, star), replace(curves, star=star))


def airs_z(result: results.Result) -> float:
    truth = np.average(DEPTH[1:], weights=1 / result.noise_variance[1:])
    return (result.airs_depth[0] - truth) / result.airs_depth[1]


def test_an_orbit_that_light_curves_contradict_is_told_and_freed(tmp_path: Path) -> None:
    result = with_star(i=90.0, i_err=0.12)
    (words,) = results.warnings_of(result)
    assert "contradict the star's orbit by" in words and result.quality["i_prior_widening"] >= 4
    assert abs(airs_z(result)) < 2 and 0.02 < result.shared["b2"] < 0.13
    table = Table.read(results.write_result(result, tmp_path)["spectrum"])
    assert table.meta["warnings"] == [words] and table.meta["quality"]["orbit_tension"] > 4
    assert f"warning           {words}" in own.result_lines(result)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [{"sma": 12.9}, {"sma": 9.0}, {"i": 86.0}, {"P": 6.5}])
def test_other_wrong_orbits_are_told_and_freed(wrong: dict[str, float]) -> None:
    result = with_star(**wrong)
    assert any("contradict the star's orbit" in words for words in results.warnings_of(result))
    assert abs(airs_z(result)) < 2.5
    assert abs(result.depth[0] - DEPTH[0]) < 3 * np.sqrt(result.covariance[0, 0])


def test_errors_of_the_orbit_set_its_prior() -> None:
    star = {**STAR, "sma_err": 0.5, "i_err": 0.4, "P_err": 0.26}
    prior = orbit_priors(star, FitOptions())
    assert prior["sma"] == pytest.approx((10.5, 10.5 * np.hypot(0.5 / 10.5, 0.26 / 5.2)))
    same_inclination = orbit_priors(STAR, replace(FitOptions(), inclination_scatter_deg=0.4))
    assert prior["b2"] == pytest.approx(same_inclination["b2"])
    assert orbit_priors(STAR, FitOptions())["sma"][1] == pytest.approx(0.015 * 10.5)


def test_an_error_of_the_temperature_widens_limb_darkening() -> None:
    wide, narrow = (limb_priors(5500.0, error) for error in (500.0, 0.0))
    assert wide["fgs1_u1"] == pytest.approx((narrow["fgs1_u1"][0], np.hypot(0.03, 0.05)))
    assert {name for name in wide if wide[name] != narrow[name]} == {"fgs1_u1", "fgs1_u2", "airs_u1"}
    shared = priors({**STAR, "Ts_err": 500.0}, [3.7], FitOptions())
    assert shared.std[shared.names.index("fgs1_u1")] == pytest.approx(wide["fgs1_u1"][1])


@pytest.mark.parametrize("own", [{}, {"i_err": 1.0}])
def test_a_wide_prior_is_no_contradiction(own: dict[str, float]) -> None:
    """The inclination is off by 1.5 degrees: four standard deviations, in the tail of what may happen."""
    result = with_star(i=90.0, **own)
    assert results.warnings_of(result) == [] and abs(airs_z(result)) < 2


def test_stated_errors_far_from_the_scatter_are_told_and_scaled(tmp_path: Path) -> None:
    hours, flux, error = observed()
    paths = [curve_file.write_light_curves(tmp_path / f"{k}.ecsv", hours, flux, k * error, STAR) for k in (10, 0.1)]
    curves, fit = own.fit_file(paths[0], scale_errors=True)
    _, alone = fitted()
    assert np.allclose(np.diag(fit.covariance)[1:], np.diag(alone.covariance)[1:], rtol=0.15)
    assert np.abs((fit.depth - alone.depth) / np.sqrt(np.diag(alone.covariance))).max() < 0.5
    assert results.warnings_of(results.result_of(fit, curves)) == []
    for path, said in zip(paths, ("stated errors are", "the scatter is"), strict=True):
        ratios = results.errors_over_scatter(curve_file.read_light_curves(path).blocks)
        told = results.noise_warnings({f"{name}_errors_over_scatter": x for name, x in ratios.items()})
        numbers = [float(re.findall(r" ([\d.]+) times", words)[0]) for words in told]
        assert all(said in words for words in told) and len(told) == 2, told
        assert np.allclose(numbers, 10, rtol=0.3), told


def test_a_bound_that_is_reached_and_no_transit_are_marked_in_the_files(tmp_path: Path) -> None:
    curves, fit = fitted()
    deep = results.result_of(replace(fit, depth=fit.depth + 0.28), curves)
    none = results.result_of(replace(fit, depth=0 * fit.depth), curves)
    edge = results.result_of(replace(fit, shared=fit.shared | {"sma": 40.0}), curves)
    for name, result, said in (
        ("deep", deep, "the depth reaches 0.25"),
        ("none", none, "no transit is seen"),
        ("edge", edge, "sma reaches its bound (2 to 40)"),
    ):
        paths = results.write_result(result, tmp_path / name)
        assert said in Table.read(paths["spectrum"]).meta["warnings"][0]
        with netcdf_file(str(paths["posterior"]), mmap=False) as file:
            assert said in file.warnings.decode()


def test_visits_are_told_apart(tmp_path: Path) -> None:
    (hours, flux, error), (_, again, _) = observed(), observed(1)
    visit = np.repeat([3, 5], len(hours))
    path = curve_file.write_light_curves(
        tmp_path / "two.ecsv", np.tile(hours, 2), np.vstack([flux, again]), np.vstack([error, error]), STAR, visit
    )
    curves = curve_file.read_light_curves(path)
    assert [block.visit for block in curves.blocks] == [0, 0, 1, 1] and curves.origin_h == [0, 0]
    assert np.array_equal(curves.blocks[2].flux, make_block(1, slice(0, 1), hours, again[:, :1], error[:, :1]).flux)


Change = Callable[[Table], Any]


def put(name: str, where: Any, value: float) -> Change:
    return lambda table: table[name].__setitem__(where, value)


def star(**values: Any) -> Change:
    return lambda table: table.meta["star"].update(values)


def unit(name: str, text: str | None) -> Change:
    return lambda table: setattr(table[name], "unit", text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.remove_column("time"), "time: column is missing"),
        (lambda t: t.remove_column("flux"), "flux: column is missing. Fix: give flux (283 values a row)"),
        (lambda t: t.remove_column("flux_err"), "flux_err: column is missing"),
        (lambda t: t.replace_column("flux", t["flux"][:, :100]), "flux: has shape (100, 100), not (steps, 283)"),
        (unit("time", None), "time: has no unit. Fix: give it a unit such as h"),
        (unit("time", "um"), "time: is in 'um', not in 'h'"),
        (unit("time", "d"), "more than 7.5 h, as if it were in hours. Fix: check the unit"),
        (lambda t: t.replace_column("time", t["time"] / 24), "spans 0.309 h, not more than 1 h, as if it were in days"),
        (lambda t: t.replace_column("time", t["time"] * 3600), "h, as if it were in seconds. Fix: check the unit"),
        (lambda t: t.replace_column("time", t["time"] * 60), "h, as if it were in minutes"),
        (lambda t: t.reverse(), "time: FGS1 of visit 0 falls after step 0"),
        (put("time", 50, 49.5 * 7.5 / 100), "time: FGS1 of visit 0 repeats a value after step 49"),
        (unit("flux", "mag"), "flux: is in 'mag', a logarithm of light, which is no unit of flux. Fix: give flux"),
        (unit("flux", "dex"), "magnitudes m with errors s are flux = 10**(-0.4 m), flux_err = 0.921 s flux"),
        (unit("flux", "h"), "flux: is in 'h', a time, which is no unit of flux"),
        (unit("flux", "K"), "flux: is in 'K', a temperature, which is no unit of flux"),
        (unit("flux", "electron"), "flux_err: has no unit. Fix: give it a unit such as electron"),
        (put("time", 50, 0.1), "time: FGS1 of visit 0 doesn't rise after step 49"),
        (put("time", 50, np.nan), "time: row 50 is not a number"),
        (put("flux", (slice(0, 60), 0), np.nan), "FGS1 has no value in 60 of 100 time steps"),
        (put("flux", (slice(0, 60), slice(1, None)), np.nan), "AIRS has no value in 60 of 100 time steps"),
        (put("flux", (slice(None), slice(1, 200)), np.nan), "AIRS has no values in 199 of 282 bins"),
        (lambda t: t["flux"].__setitem__((..., 7), -t["flux"][:, 7]), "AIRS of visit 0 has a median of -1.46e+05, not"),
        (put("flux_err", (3, 7), 0.0), "flux_err: is 0 in row 3, bin 7"),
        (put("flux_err", (3, 7), -2.0), "flux_err: is -2 in row 3, bin 7"),
        (lambda t: t.remove_rows(slice(30, None)), "has 30 usable steps, not 40 to 6000"),
        (lambda t: t.add_column(np.arange(100) / 2, name="visit"), "visit: holds a value that is not a whole number"),
        (lambda t: t.add_column(np.arange(100) // 20, name="visit"), "visit: 5 visits with FGS1 and 5 with AIRS"),
        (lambda t: t.meta.clear(), "is missing. Fix: give --"),
        (lambda t: t.meta["star"].pop("P"), "star P: is missing. Fix: give --period"),
        (lambda t: t.meta.update(star=3), "star: is no mapping"),
        (star(sma=0.05), "star sma: is 0.05, not a number from 2 to 40; it looks like AU. Fix: mend --sma"),
        (star(sma=10.5 * 1.2 * 695_700, Rs=1.2), "it looks like km. Fix: mend --sma"),
        (star(sma=19.0, Rs=1.8, Ms=1.2), "sma: is 2.55 times what Kepler's third law gives"),
        (star(P=124.8), "star P: is 124.8, and sma is 0.405 times what Kepler's third law gives"),
        (star(P=124.8), "it looks like hours. Fix: mend --period"),
        (star(P=449_280.0), "it looks like seconds. Fix: mend --period"),
        (star(P=0.01424), "it looks like years"),
        (star(i=1.5446), "it looks like radians or 90 degrees minus i. Fix: mend --i"),
        (star(i=0.02618), "it looks like the cosine of i"),
        (star(Rs=8.35e5), "star Rs: is 835000, not a number from 0.08 to 5; it looks like km"),
        (star(Ms=2.2e30), "star Ms: is 2.2e+30, not a number from 0.07 to 5; it looks like kg"),
        (star(sma_err=0.0), "star sma_err: is 0, not a standard deviation above zero"),
        (star(P_err=9.0), "star P_err: is 9, larger than P itself"),
        (star(i="edge-on"), "star i: is 'edge-on', not a number from 0 to 90"),
        (star(i=70.0), "star i: sma cos(i) is 3.59, so the planet passes beside its star"),
        (star(P=float("nan")), "star P: is nan"),
    ],
)
def test_what_can_not_be_fitted_is_one_line(change: Change, said: str, mine: Path) -> None:
    table = Table.read(mine)
    change(table)
    table.write(mine, format="ascii.ecsv", overwrite=True)
    with pytest.raises(ContractError) as caught:
        curve_file.read_light_curves(mine)
    assert said in str(caught.value) and str(mine) in str(caught.value) and "Fix: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("no.ecsv", None, "file: is missing"),
        ("a.npz", b"PK", "can't be read"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0" + bytes(600), "is an Excel workbook"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(600), "can't be read"),
        ("a.fits", b"SIMPLE  =                    T", "can't be read"),
        ("a.nc", b"CDF\x01" + bytes(600), "is a netCDF file of the classic format"),
        ("a.bin", bytes(range(256)), "is a binary file"),
        ("a.pkl", b"\x80\x04\x95" + bytes(60), "is a pickle"),
        ("b.h5", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        ("d.csv", b"time,flux_0,Flux_0\n1,2,3\n", "flux_0: column stands 2 times"),
        ("e.csv", b"bjd,flux_0\n1,2\n", "time: column is missing (the first columns are bjd, flux_0)"),
        ("airs_bins_7.npz", b"PK", "fgs1_white_7.npz: file: is missing"),
        ("a.ecsv", b"# %ECSV 1.0\n# ---\nnonsense\n1 2 3\n", "can't be read"),
        ("a.csv", b"time,flux_0\n1,2\n", "flux_1: column is missing"),
        ("b.csv", b"time\nnoon\n", "time: holds 'noon' in row 0, which is no number"),
        ("c.csv", b"", "can't be read"),
    ],
)
def test_a_file_that_is_none_is_one_line(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ContractError) as caught:
        curve_file.read_light_curves(tmp_path / name, STAR)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_files_hold_the_fit_with_its_units(tmp_path: Path) -> None:
    curves, fit = fitted()
    result = results.result_of(fit, curves)
    paths = results.write_result(result, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["posterior.nc", "spectrum.ecsv"]

    table = QTable.read(paths["spectrum"])
    assert table["wavelength"].unit == units.um and np.array_equal(table["wavelength"].value, wavelengths())
    assert np.array_equal(table["depth"], fit.depth)
    assert np.array_equal(table["depth_err"], np.sqrt(np.diag(fit.covariance)))
    assert np.array_equal(table["depth_err_white"], np.sqrt(fit.noise_variance))
    told = table.meta["parameters"]["t0_h[0]"]
    assert told == {"value": fit.shared["t0_h[0]"], "std": fit.shared_std["t0_h[0]"], "unit": "h"}
    assert table.meta["star"]["P"] == {"value": STAR["P"], "unit": "d"} and "made_by" in table.meta
    assert table.meta["quality"]["chi2"] == fit.quality["chi2"]

    found = results.read_posterior(paths["posterior"])
    assert np.array_equal(found["depth_covariance"], fit.covariance) and np.array_equal(found["depth"], fit.depth)
    assert found["parameter_name"].tolist() == list(fit.shared)
    assert np.array_equal(found["parameter_std"], list(fit.shared_std.values()))
    of = dict(zip(found["parameter_name"].tolist(), found["parameter_unit"].tolist(), strict=True))
    assert (of["t0_h[0]"], of["fgs1_delay_h[0]"], of["sma"], of["airs_shift_px[0,1]"]) == ("h", "h", "1", "pixel")
    with netcdf_file(str(paths["posterior"]), mmap=False) as file:
        assert file.dimensions == {"wavelength": 283, "wavelength_2": 283, "parameter": len(fit.shared), "text": 40}
        assert file.variables["depth_covariance"].units == b"1" and file.variables["wavelength"].units == b"um"
        assert file.quality_chi2 == fit.quality["chi2"] and file.star_sma == STAR["sma"]


def test_a_run_s_planet_is_exported_without_a_fit(tmp_path: Path) -> None:
    curves, fit = fitted()
    write_fit(run_folder(tmp_path, "outputs/fits") / "transit_7.npz", curves.blocks, fit, STAR)
    paths = results.export_fit(tmp_path, 7, tmp_path / "out")
    assert np.array_equal(results.read_posterior(paths["posterior"])["depth_covariance"], fit.covariance)
    assert Table.read(paths["spectrum"]).meta["star"]["sma"]["value"] == STAR["sma"]
    with pytest.raises(ContractError, match=r"planet 8: has no fit there\. Fix: choose one of the 1 there, such as 7"):
        results.export_fit(tmp_path, 8, tmp_path / "out")


# --- Injection ---------------------------------------------------------------------------------------------------


def test_an_injected_depth_comes_back() -> None:
    curves, fit = fitted()
    told: list[tuple[int, int]] = []
    table = injection_recovery(curves, fit, 3, 5, flat_spectrum(8000.0), tell=lambda *done: told.append(done))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert np.allclose(table["fgs1_injected_ppm"], 8000) and np.allclose(table["airs_injected_ppm"], 8000)
    assert np.abs(table["fgs1_pull"]).max() < 4 and np.abs(table["airs_pull"]).max() < 4
    assert np.all((table["bins_pull_rms"] > 0.85) & (table["bins_pull_rms"] < 1.15))
    assert len(set(table["t0_h"])) == 3 and table["t0_h"].unit == "h"
    again = injection_recovery(curves, fit, 2, 5, flat_spectrum(8000.0))
    assert np.array_equal(again["airs_recovered_ppm"], table["airs_recovered_ppm"][:2])  # a draw has a seed of its own


def test_the_fitted_transit_is_taken_out() -> None:
    """What goes back in where it was taken out leaves the light curves, but for the noise that is put back."""
    curves, fit = fitted()
    injector = Injector.of(curves, replace(fit, noise_variance=np.zeros(N_BINS)))
    blocks = injector.exchanged(np.random.default_rng(0), fit.shared, fit.depth)
    assert all(np.allclose(b.flux, a.flux, rtol=1e-12) for a, b in zip(curves.blocks, blocks, strict=True))
    for (curve, slope), model, drift in zip(injector.fitted, fit.models, fit.drifts, strict=True):
        level = model / curve / (1 + drift)
        rest = level / np.median(level, axis=0) - 1  # noise that bins share; the fit's model has it beside the transit
        dip = curve - curve.mean(axis=0)
        assert np.abs(rest).max() < (1.5e-4 if curve.shape[1] > 1 else SIGMA[0])  # FGS1's: a step's noise
        assert np.abs((dip * rest).sum(axis=0) / (dip**2).sum(axis=0)).max() < 0.02  # of the transit is left
        assert slope.shape == curve.shape and slope.min() < -0.9


def test_scenes_stay_within_the_visit_and_what_is_known() -> None:
    curves, fit = fitted()
    hours, drawn = fit.quality["duration_h"], np.random.default_rng(0)
    scenes = [draw_scene(drawn, curves, hours, FitOptions()) for _ in range(200)]
    t0 = np.array([scene["t0_h[0]"] for scene in scenes])
    assert t0.min() > hours / 2 + 0.5 and t0.max() < 7.5 - hours / 2 - 0.5 and np.ptp(t0) > 2
    sma = np.array([scene["sma"] for scene in scenes])
    assert sma.mean() == pytest.approx(STAR["sma"], rel=0.005) and sma.std() == pytest.approx(0.1575, rel=0.2)
    assert min(scene["b2"] for scene in scenes) >= 0
    smooth = smooth_spectrum(fit)
    assert smooth[0] == fit.depth[0] and np.abs(smooth - DEPTH)[1:].mean() < 1.5e-4


def test_the_conclusion_names_error_bars_that_are_too_small() -> None:
    row = {
        f"{name}_{what}": 100.0 for name in ("fgs1", "airs") for what in ("injected_ppm", "recovered_ppm", "err_ppm")
    }
    good = row | {"fgs1_pull": 0.5, "airs_pull": -1.0, "bins_pull_rms": 1.02}
    assert conclusion(Table([good] * 4))[-1] == "4 draws: depths come back within their error bars"
    assert (
        "AIRS mean, AIRS bins are too small" in conclusion(Table([good | {"airs_pull": 3, "bins_pull_rms": 1.3}]))[-1]
    )
    assert "wider than need be" in conclusion(Table([good | {"bins_pull_rms": 0.7}]))[-1]
    with pytest.raises(UserError, match="5e\\+06 is no depth"):
        flat_spectrum(5e6)


# --- From the command line ---------------------------------------------------------------------------------------


def test_commands_write_their_files_and_events(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mine.parent)
    run = lambda *words: CliRunner().invoke(cli.app, list(words), prog_name="spectramind")  # noqa: E731
    result = run("fit", "--light-curves", "mine.ecsv")
    assert result.exit_code == 0, result.output
    assert "AIRS mean depth" in result.stdout and "posterior         fit_mine/posterior.nc" in result.stdout
    assert np.array_equal(results.read_posterior("fit_mine/posterior.nc")["depth_covariance"], fitted()[1].covariance)

    result = run("inject", "--light-curves", "mine.ecsv", "--draws", "1", "--depth-ppm", "9000", "--out", "o")
    assert result.exit_code == 0 and "\n1 draw: " in result.stdout, result.output
    assert Table.read("o/injection.ecsv")["airs_injected_ppm"][0] == pytest.approx(9000)

    result = run("fit", "--light-curves", "mine.ecsv", "--sma", "60")
    assert result.exit_code == 2 and result.stderr.startswith("error: mine.ecsv: star sma: is 60, not")
    events = read_events(Path("runs/events.jsonl"))
    assert [(event["cmd"], event["status"]) for event in events] == [("fit", "ok"), ("inject", "ok"), ("fit", "fail")]
    assert not any(map(event_faults, events)) and events[0]["artifacts"][0] == "fit_mine/spectrum.ecsv"


def test_a_prior_adds_a_spectrum(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mine.parent)
    checkpoints, calibration = (run_folder("runs/a", f"outputs/{name}") for name in ("checkpoints", "calibration"))
    checkpoints.mkdir(parents=True), calibration.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shapes = np.sin(np.linspace(0, 7, N_BINS) * rng.uniform(0.5, 2, (12, 1)))
    write_prior(checkpoints / "spectral_prior.npz", learn_prior(rng.uniform(0.008, 0.02, (12, 1)) + 2e-4 * shapes))
    (checkpoints / "predictors.json").write_text('{"chosen": "gaussian", "factors": {"gaussian": {}}}')
    known = {"tau": {"gaussian": 1.0}, "planets": 0, "corel": False, "widening": 0.0, "alpha": 0.1}
    (calibration / "temperature.json").write_text(json.dumps(known))
    words = ("fit", "--light-curves", "mine.ecsv", "--prior", "runs/a")
    result = CliRunner().invoke(cli.app, list(words), prog_name="spectramind")
    assert result.exit_code == 0, result.output
    table, found = Table.read("fit_mine/spectrum.ecsv"), results.read_posterior("fit_mine/posterior.nc")
    assert np.array_equal(table["depth_with_prior"], found["depth_with_prior"])
    shape = lambda depth: (depth - DEPTH)[1:] - (depth - DEPTH)[1:].mean()  # noqa: E731
    assert shape(table["depth_with_prior"]).std() < 0.7 * shape(table["depth"]).std()
    assert np.all(table["depth_with_prior_err"] < 1.05 * table["depth_err"])


@pytest.mark.parametrize(
    ("rename", "there"),
    [(lambda k: f"{k:03d}", "flux_000 to flux_282"), (lambda k: f"{k + 1}", "flux_1 to flux_283")],
    ids=["padded", "from one"],
)
def test_columns_numbered_in_another_way_are_named(tmp_path: Path, rename: Callable[[int], str], there: str) -> None:
    hours, flux, error = observed()
    columns = {"time": hours} | {f"flux_{rename(k)}": flux[:, k] for k in range(N_BINS)}
    columns |= {f"flux_err_{rename(k)}": error[:, k] for k in range(N_BINS)}
    pd.DataFrame(columns).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ContractError, match=rf"flux_0: column is missing; similar ones are {there}\. Fix: give flux"):
        curve_file.read_light_curves(tmp_path / "a.csv", STAR)


# --- The order of bins, and light that is none ---------------------------------------------------------------------

TEXT_ORDER = np.array(sorted(range(N_BINS), key=str))
ORDERS = {
    "falling order": np.arange(N_BINS)[::-1],
    "order of wavelength": np.append(0, np.arange(N_BINS)[:0:-1]),
    "FGS1 were the last": np.roll(np.arange(N_BINS), -1),
    "names as text": TEXT_ORDER,
    "in no order": np.random.default_rng(5).permutation(N_BINS),
}


def write_as(kind: str, folder: Path, order: np.ndarray, relative: bool) -> Path:
    """Light curves with their bins in another order, as a file of a kind."""
    hours, flux, error = observed()
    level = np.median(flux, axis=0) if relative else 1.0
    flux, error = (flux / level)[:, order], (error / level)[:, order]
    path = folder / f"a.{kind}"
    columns = {f"{n}_{k}": m[:, k] for n, m in (("flux", flux), ("flux_err", error)) for k in range(N_BINS)}
    if kind == "ecsv":
        curve_file.write_light_curves(path, hours, flux, error, STAR)
    elif kind == "npz":
        np.savez(path, time=hours, flux=flux, flux_err=error)
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            for name, array in (("time", hours), ("flux", flux), ("flux_err", error)):
                file[name] = array
            file["time"].attrs["units"] = "h"
    elif kind == "parquet":
        pd.DataFrame({"time": hours} | columns).to_parquet(path)
    else:
        pd.DataFrame({"time": hours} | columns).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("relative", [False, True], ids=["electrons", "relative"])
@pytest.mark.parametrize("kind", ["csv", "ecsv", "h5", "npz", "parquet"])
@pytest.mark.parametrize("fault", ORDERS)
def test_bins_in_another_order_are_refused(kind: str, fault: str, relative: bool, tmp_path: Path) -> None:
    path = write_as(kind, tmp_path, ORDERS[fault], relative)
    with pytest.raises(ContractError) as caught:
        curve_file.read_light_curves(path, STAR)
    message = str(caught.value)
    assert fault in message and "flux_0 to flux_282" in message and "flux_0 is FGS1 (0.7 um)" in message
    curves = curve_file.read_light_curves(write_as(kind, tmp_path, np.arange(N_BINS), relative), STAR)
    assert len(curves.blocks) == 2


def columns_by_wavelength(path: Path, um: np.ndarray, flux: np.ndarray, error: np.ndarray, hours: np.ndarray) -> None:
    names = [f"{1e3 * value:.5g}" for value in um]
    columns = {"time": hours} | {f"flux_{n}": x for n, x in zip(names, flux.T, strict=True)}
    columns |= {f"flux_err_{n}": x for n, x in zip(names, error.T, strict=True)}
    pd.DataFrame(columns).to_csv(path, index=False)


@pytest.mark.parametrize("kind", ["csv", "h5", "npz"])
@pytest.mark.parametrize("fault", ORDERS)
def test_wavelengths_in_the_file_put_bins_in_order(kind: str, fault: str, tmp_path: Path) -> None:
    (hours, flux, error), order, path = observed(), ORDERS[fault], tmp_path / f"a.{kind}"
    um, arrays = wavelengths()[order], {"time": hours, "flux": flux[:, order], "flux_err": error[:, order]}
    if kind == "csv":
        columns_by_wavelength(path, um, arrays["flux"], arrays["flux_err"], hours)
    elif kind == "npz":
        np.savez(path, wavelength=1e-6 * um, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in (arrays | {"wavelength": um, "flux": arrays["flux"].T}).items():
                file[name] = array
            file["time"].attrs["units"] = "h"
    curves = curve_file.read_light_curves(path, STAR)
    for block, other in zip(curves.blocks, fitted()[0].blocks, strict=True):
        assert np.allclose(block.flux, other.flux, rtol=1e-9) and np.allclose(block.variance, other.variance)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda flux: 25 - 2.5 * np.log10(flux), "has a median of 12.6 and looks like magnitudes. Fix: give"),
        (np.log, "looks like a logarithm of light"),
        (np.log10, "looks like a logarithm of light"),
        (lambda flux: -2.5 * np.log10(flux / np.median(flux, axis=0)), "as magnitudes or differences"),
        (lambda flux: flux / np.median(flux, axis=0) - 1, "add 1 to relative differences"),
    ],
    ids=["magnitudes", "ln", "log10", "differential magnitudes", "differences"],
)
def test_numbers_that_are_no_light_are_refused(change: Callable[[np.ndarray], np.ndarray], said: str) -> None:
    hours, flux, error = observed()
    table = {"time": hours, "flux": change(flux), "flux_err": error / flux}
    with pytest.raises(ContractError) as caught:
        curve_file.light_curves_of_channels(
            "a.csv", formats.table_channels(Path("a.csv"), table, [*table], plain=True), STAR
        )
    assert said in str(caught.value) and "magnitudes m" in str(caught.value)
