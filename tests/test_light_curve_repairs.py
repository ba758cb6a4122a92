"""Light curves with impossible points and error bars: what is left out or replaced, what is refused, what is told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import uniform_filter1d
from test_your_light_curves import DEPTH, SIGMA, STAR, fitted, observed

from spectramind_nb.core.errors import ContractError
from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.transits import fit_results as results
from spectramind_nb.transits.light_curve_file import light_curves_of_channels, read_light_curves, write_light_curves
from spectramind_nb.transits.light_curve_formats import table_channels
from spectramind_nb.transits.light_curve_repairs import repaired
from spectramind_nb.transits.your_light_curves import check_depths, check_errors, fit_file

Arrays = dict[str, np.ndarray]
Spoil = Callable[[Arrays], object]


def arrays() -> Arrays:
    hours, flux, error = observed()
    return {"time": hours.copy(), "flux": flux.copy(), "flux_err": error.copy()}


def put(name: str, where: object, value: object) -> Spoil:
    return lambda table: table[name].__setitem__(where, value)


def times(name: str, where: object, factor: float) -> Spoil:
    return lambda table: table[name].__setitem__(where, table[name][where] * factor)


def relative(table: Arrays) -> None:
    """Divide the fluxes by their medians, and leave the errors in electrons."""
    table["flux"] = table["flux"] / np.median(table["flux"], axis=0)


def swap(table: Arrays) -> None:
    table["flux"], table["flux_err"] = table["flux_err"], table["flux"]


def read(table: Arrays):
    return light_curves_of_channels("a.csv", table_channels(Path("a.csv"), table, [*table], plain=True), STAR)


# What is done, the points that must be left out, and the errors and bins whose errors must be replaced.
REPAIRED: dict[str, tuple[Spoil, int, int, list[int]]] = {
    "nothing": (lambda table: None, 0, 0, []),
    "a point 1e6 times too high": (times("flux", (52, 7), 1e6), 1, 0, []),
    "a negative point": (times("flux", (52, 7), -1e6), 1, 0, []),
    "a point of FGS1": (times("flux", (52, 0), 1e6), 1, 0, []),
    "infinity": (put("flux", (52, 7), np.inf), 0, 0, []),
    "fill values": (put("flux", (slice(40, 50), 7), -999), 10, 0, []),
    "large fill values": (put("flux", (slice(40, 50), 7), 9.97e36), 10, 0, []),
    "points lower than in other bins": (times("flux", (slice(45, 55), 7), 0.8), 10, 0, []),
    "rows of zeros": (put("flux", slice(50, 55), 0), 5 * N_BINS, 0, []),
    "rows in another unit": (times("flux", slice(50, 55), 1e-6), 5 * N_BINS, 0, []),
    "rows repeated": (lambda t: t["flux"].__setitem__(slice(80, 95), t["flux"][79]), 15 * N_BINS, 0, []),
    "a gap filled by a line": (
        lambda t: t["flux"].__setitem__((slice(40, 55), 7), np.linspace(*t["flux"][[39, 55], 7], 17)[1:-1]),
        15,
        0,
        [],
    ),
    "a gap filled with the last value": (
        lambda t: t["flux"].__setitem__((slice(40, 55), 7), t["flux"][39, 7]),
        15,
        0,
        [],
    ),
    "a bin of zeros": (put("flux", (slice(None), 9), 0), 0, 0, []),
    "a constant bin": (put("flux", (slice(None), 9), 5.0), 0, 0, []),
    "an error of nearly zero": (times("flux_err", (40, 7), 1e-6), 0, 1, []),
    "an error of FGS1": (times("flux_err", (50, 0), 1e-6), 0, 1, []),
    "a row of errors": (times("flux_err", 5, 1e-4), 0, N_BINS, []),
    "an error of 1e30 for no value": (put("flux_err", (slice(40, 50), 7), 1e30), 0, 0, []),
    "a bin of small errors": (times("flux_err", (slice(None), 33), 1e-5), 0, 0, [33]),
    "a bin of large errors": (times("flux_err", (slice(None), 33), 1e5), 0, 0, [33]),
}


@pytest.mark.parametrize("case", REPAIRED)
def test_impossible_values_are_left_out_or_replaced_and_counted(case: str) -> None:
    spoil, points, errors, bins = REPAIRED[case]
    spoil(table := arrays())
    curves = read(table)
    assert (curves.repairs.points, curves.repairs.errors, curves.repairs.bins) == (points, errors, bins)
    clean = fitted()[0]
    for block, known in zip(curves.blocks, clean.blocks, strict=True):
        lost = np.zeros_like(block.flux, bool) if block.missing is None else block.missing
        live = ~lost.all(axis=0)
        kept = np.isin(known.time_h, block.time_h)
        apart = (block.flux / known.flux[kept])[:, live]
        apart = np.abs(apart / np.median(apart, axis=0) - 1) / np.sqrt(
            known.variance[live]
        )  # in spite of other medians
        assert apart[~lost[:, live]].max() < 0.01
        assert np.allclose(block.variance[live], known.variance[live], rtol=0.6, atol=0)
        assert np.allclose(block.time_weight, 1, rtol=0.2)


@pytest.mark.parametrize("case", ["rows of zeros", "a bin of small errors", "an error of FGS1"])
def test_depths_are_right_and_the_result_says_what_was_done(case: str, tmp_path: Path) -> None:
    REPAIRED[case][0](table := arrays())
    path = write_light_curves(tmp_path / "a.ecsv", table["time"], table["flux"], table["flux_err"], STAR)
    curves, fit = fit_file(path)
    off = (fit.depth - DEPTH) / np.sqrt(np.diag(fit.covariance))
    assert np.abs(off).max() < 4.5 and off[1:].std() < 1.15
    usual = np.sqrt(np.diag(fitted()[1].covariance))
    assert np.all(np.sqrt(np.diag(fit.covariance)) < 1.3 * usual)
    words = {"rows of zeros": f"or repeated: {5 * N_BINS}", "an error of FGS1": "took their place: 1"}
    told = results.warnings_of(results.result_of(fit, curves))
    assert any(words.get(case, "were set by their scatter: 1") in line for line in told)


REFUSED: dict[str, tuple[Spoil, str]] = {
    "half of the visit in another unit": (times("flux", slice(50, 75), 1e-6), "points of FGS1 of visit 0 are far from"),
    "rounded to few digits": (lambda t: t["flux"].round(-3, out=t["flux"]), "FGS1 of visit 0 has the same value in"),
    "whole numbers below 20": (lambda t: np.round(t["flux"] / 1e4, out=t["flux"]), "the same value in all steps"),
    "flux and errors exchanged": (swap, "the same value in all steps of 1 of 1 bin. Fix: give the star's light"),
    "cut off at the level out of transit": (
        lambda t: np.minimum(t["flux"], np.median(t["flux"][-20:], axis=0), out=t["flux"]),
        "of the steps, as if cut off there. Fix: give all fluxes as they were measured",
    ),
    "every bin the same": (
        lambda t: t["flux"].__setitem__((slice(None), slice(1, None)), t["flux"][:, [5]]),
        "281 bins repeat the light curve of the bin before",
    ),
    "a jump of FGS1": (
        times("flux", (slice(60, None), slice(0, 1)), 1.2),
        "FGS1 of visit 0 ends 1.20 times as bright as",
    ),
    "a jump of AIRS": (
        times("flux", (slice(60, None), slice(1, None)), 0.8),
        "AIRS of visit 0 ends 0.80 times as bright",
    ),
    "complex numbers": (lambda t: t.update(flux=t["flux"] * (1 + 0.5j)), "flux: holds complex numbers, not numbers"),
    "true and false": (lambda t: t.update(flux_err=t["flux_err"] > 0), "flux_err: holds true and false, not numbers"),
    "dates": (
        lambda t: t.update(time=np.datetime64("2030-01-01") + (3.6e6 * t["time"]).astype("timedelta64[ms]")),
        "time: holds dates, not numbers. Fix: give real numbers, times in hours",
    ),
    "two transits in a visit": (
        lambda t: t.update({n: np.concatenate([x, x + 124.8 * (n == "time")]) for n, x in t.items()}),
        "spans 132.225 h, more than 7.5 h, with a gap of 117 h after step 99. Fix: check the unit, number visits",
    ),
    "a visit twice": (
        lambda t: t.update({n: np.concatenate([x, x]) for n, x in t.items()} | {"visit": np.repeat([0, 1], 100)}),
        "visit: visit 1 repeats the fluxes of visit 0. Fix: give each visit once",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_light_curves_that_can_not_be_repaired_are_refused(case: str) -> None:
    spoil, said = REFUSED[case]
    spoil(table := arrays())
    with pytest.raises(ContractError) as caught:
        read(table)
    assert said in str(caught.value) and "\n" not in str(caught.value)


ERRORS: dict[str, Spoil] = {
    "percent": times("flux_err", slice(None), 100),
    "ppm": times("flux_err", slice(None), 1e6),
    "variances": lambda t: np.square(t["flux_err"], out=t["flux_err"]),
    "of another unit than the flux": relative,
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_in_another_unit_are_refused(case: str) -> None:
    check_errors("a.csv", results.errors_over_scatter(read(arrays()).blocks))
    ERRORS[case](table := arrays())
    with pytest.raises(ContractError, match=r"flux_err: .*stated errors are .* times the scatter"):
        check_errors("a.csv", results.errors_over_scatter(read(table).blocks))


def test_errors_of_another_unit_can_be_scaled(tmp_path: Path) -> None:
    table = arrays()
    ERRORS["percent"](table)
    path = write_light_curves(tmp_path / "a.ecsv", table["time"], table["flux"], table["flux_err"], STAR)
    _, fit = fit_file(path, scale_errors=True)
    assert np.allclose(fit.depth, fitted()[1].depth, atol=5e-5)


def test_smoothing_is_told_and_white_noise_is_not() -> None:
    assert 0.9 < results.noise_growth(read(arrays()).blocks) < 1.1
    table = arrays()
    table["flux"] = np.apply_along_axis(np.convolve, 0, table["flux"], np.full(5, 0.2), "valid")
    table = {"time": table["time"][2:-2], "flux": table["flux"], "flux_err": table["flux_err"][2:-2]}
    growth = results.noise_growth(read(table).blocks)
    assert growth == pytest.approx(np.sqrt(5), rel=0.1)
    told = results.misfit_warnings({"clipped_fraction": 0.0, "noise_growth": growth})
    assert len(told) == 1 and "as after smoothing" in told[0]


def without_trend(flux: np.ndarray, order: int) -> np.ndarray:
    steps = np.arange(len(flux))
    return flux - np.polynomial.polynomial.polyval(steps, np.polynomial.polynomial.polyfit(steps, flux, order)).T


FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "running mean of 1.1 hours": lambda flux: flux - uniform_filter1d(flux, 15, axis=0),
    "running mean of 3 hours": lambda flux: flux - uniform_filter1d(flux, 41, axis=0),
    "polynomial of order 5": lambda flux: without_trend(flux, 5),
    "differences": lambda flux: np.diff(flux, axis=0, prepend=flux[:1]),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_that_distorts_transits_is_told(name: str) -> None:
    """The light that the filter takes away is given back as a constant, so that nothing else is odd."""
    table = arrays()
    assert 0.9 < results.slow_noise(read(table).blocks) < 1.2
    table["flux"] = FILTERS[name](table["flux"]) + np.median(table["flux"], axis=0)
    slow = results.slow_noise(read(table).blocks)
    (told,) = results.misfit_warnings({"slow_noise": slow})
    assert "as after a high-pass filter, which distorts a transit too: give light curves without filter" in told


def test_a_line_fitted_outside_transit_is_no_such_filter() -> None:
    table = arrays()
    hours, flux = table["time"], table["flux"]
    line = np.polynomial.polynomial.polyfit(hours[outside := np.abs(hours - 3.9) > 1.5], flux[outside], 1)
    table["flux"] = flux / np.polynomial.polynomial.polyval(hours, line).T
    table["flux_err"] = table["flux_err"] / np.median(flux, axis=0)
    assert not results.misfit_warnings({"slow_noise": results.slow_noise(read(table).blocks)})


def test_smoothed_light_curves_get_wider_errors(tmp_path: Path) -> None:
    hours, flux, error = observed()
    smooth = np.apply_along_axis(np.convolve, 0, flux, np.full(5, 0.2), "valid")
    path = write_light_curves(tmp_path / "a.ecsv", hours[2:-2], smooth, error[2:-2], STAR)
    curves, fit = fit_file(path)
    wider = np.sqrt(fit.noise_variance / fitted()[1].noise_variance)
    assert 1.5 < np.median(wider) < 3
    assert abs(fit.depth[0] - DEPTH[0]) < 3 * np.sqrt(fit.covariance[0, 0])
    told = results.warnings_of(results.result_of(fit, curves))
    assert any("error bars were enlarged by that factor" in line for line in told)


def test_detector_columns_are_no_bins(tmp_path: Path) -> None:
    hours, flux, error = observed()
    columns = {"time": hours} | {f"flux_{k}": flux[:, k % N_BINS] for k in range(356)}
    columns |= {f"flux_err_{k}": error[:, k % N_BINS] for k in range(356)}
    with pytest.raises(ContractError, match="flux_283: is one of 356 columns, as of detector columns"):
        table_channels(Path("a.csv"), columns, [*columns], plain=True)


@pytest.mark.parametrize("word", ["--", "masked", "", "nan", "NULL"])
def test_words_for_no_value_cost_their_points(word: str, tmp_path: Path) -> None:
    table = arrays()
    columns = {f"{n}_{k}": table[n][:, k] for n in ("flux", "flux_err") for k in range(N_BINS)}
    frame = pd.DataFrame({"time": table["time"]} | columns)
    frame.loc[50:52, "flux_7"] = np.nan
    frame.to_csv(tmp_path / "a.csv", index=False, na_rep=word)
    lost = read_light_curves(tmp_path / "a.csv", STAR).blocks[1].missing
    assert lost is not None and np.argwhere(lost).tolist() == [[50, 6], [51, 6], [52, 6]]


def test_an_eccentric_orbit_is_told() -> None:
    curves, fit = fitted()
    told = results.warnings_of(results.result_of(fit, replace(curves, star={**STAR, "e": 0.5})))
    assert len(told) == 1 and "eccentricity is 0.5, and the model's orbit is circular" in told[0]


def test_flux_squared_or_on_a_pedestal_is_told() -> None:
    quality = {"orbit_tension": 10.0, "sma_prior_widening": 4.0, "i_prior_widening": 4.0, "clipped_fraction": 0.0}
    curves, fit = fitted()
    told = results.warnings_of(results.result_of(replace(fit, quality=fit.quality | quality), curves))
    assert any("check star and times, and that flux has no pedestal and is proportional to light" in x for x in told)


def test_a_sliver_and_light_curves_unlike_the_model_are_told() -> None:
    curves, fit = fitted()
    quality = {"impact": 1.29, "red_noise": 77.0}
    told = results.warnings_of(results.result_of(replace(fit, quality=fit.quality | quality), curves))
    assert any("only grazes the star's edge (impact parameter 1.29): don't use its depth" in x for x in told)
    assert any("what the model leaves over is 77 times the white noise" in x for x in told)
    usual = results.warnings_of(results.result_of(fit, curves))
    assert not any("grazes" in x or "leaves over" in x for x in usual)


def test_channels_of_two_planets_are_refused() -> None:
    _, fit = fitted()
    check_depths("a.csv", fit)
    other = replace(fit, depth=np.append(0.3 * fit.depth[0], fit.depth[1:]))
    with pytest.raises(ContractError, match=r"FGS1 shows a depth of 0\.0036 and AIRS of 0\.0121\. Fix"):
        check_depths("a.csv", other)


def test_a_brightening_is_no_transit(tmp_path: Path) -> None:
    hours, flux, error = observed()
    level = np.median(flux, axis=0)
    path = write_light_curves(tmp_path / "a.ecsv", hours, level * (2 - flux / level), error, STAR)
    curves, fit = fit_file(path)
    told = results.warnings_of(results.result_of(fit, curves))
    assert any("is it a transit?" in line or "don't follow a transit" in line for line in told)


def test_fgs1_of_another_planet_is_told() -> None:
    curves, fit = fitted()
    assert not results.warnings_of(results.result_of(fit, curves))
    fit.depth.setflags(write=True)
    other = results.result_of(fit, curves)
    other.__dict__["depth"] = np.append(0.3 * fit.depth[0], fit.depth[1:])
    assert any("are both of one planet?" in line for line in results.warnings_of(other))


def test_logarithms_without_a_depth_are_refused(tmp_path: Path) -> None:
    hours, flux, _ = observed()
    magnitudes = 10 - 2.5 * np.log10(flux / np.median(flux, axis=0))
    path = write_light_curves(tmp_path / "a.ecsv", hours, magnitudes, np.tile(1.086 * SIGMA, (len(hours), 1)), STAR)
    with pytest.raises(ContractError, match=r"shows (no|a) depth .*flux is proportional to light"):
        fit_file(path)


def test_a_channel_without_faults_is_unchanged() -> None:
    for channel in table_channels(Path("a.csv"), arrays(), [*arrays()], plain=True):
        better, done = repaired(Path("a.csv"), channel)
        assert np.array_equal(better.flux, channel.flux) and np.array_equal(better.variance, channel.variance)
        assert (done.points, done.errors, done.bins) == (0, 0, [])
