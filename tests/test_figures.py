"""Figures draw the arrays that they are given: values, units, error bars, labels, and nothing else."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Polygon, Rectangle, StepPatch
from scipy.stats import binom, norm

from spectramind_nb.chapters import training, transit, uncertainty
from spectramind_nb.core.instrument import wavelengths
from spectramind_nb.figures import calibration
from spectramind_nb.figures import scores as figures
from spectramind_nb.figures.latents import plot_map
from spectramind_nb.network.attributions import plot_attribution, plot_wavelengths

RNG = np.random.default_rng(0)
UM, HOURS = wavelengths(), np.linspace(0, 7, 60)
EDGES, COUNTS, OTHER = np.linspace(-1, 1, 11), RNG.integers(1, 9, 10), RNG.integers(1, 9, 10)
DEPTH, SIGMA, TRUTH = 0.01 + 1e-4 * RNG.normal(size=283), RNG.uniform(1e-4, 3e-4, 283), np.linspace(0.011, 0.009, 283)
BINS = [RNG.uniform(size=283) for _ in range(2)]
STARS = [RNG.uniform(1, 5, 20) for _ in range(3)]
FLUX, MODEL, DRIFT = (1 + 1e-4 * RNG.normal(size=60) for _ in range(3))
FRAME, POWER = RNG.normal(size=(32, 100)), RNG.gamma(6, 1 / 6, (9, 59))
JITTER, RINGED = np.where(HOURS < 1, np.nan, 0.1 + HOURS), np.arange(20) % 3 == 0


def flat(y: float) -> list[Any]:
    """A horizontal line over the width of the axes."""
    return [[0, 1], [y, y]]


def upright(x: float) -> list[Any]:
    return [[x, x], [0, 1]]


def band(collection: PolyCollection) -> np.ndarray:
    """x, lower and upper edge of what `fill_between` drew, from its outline: up along the lower edge, and back."""
    outline = collection.get_paths()[0].vertices[:-1]
    half = len(outline) // 2
    return np.array([*outline[1:half].T, outline[half + 1 :][::-1, 1]])


def content(ax: Axes) -> dict[str, list[Any]]:
    """What axes show, kind by kind, in data coordinates; kinds that are not there are left out."""
    ax.get_figure(root=True).canvas.draw()
    shown: dict[str, list[Any]] = {"lines": [line.get_data() for line in ax.lines]}
    for kind, keep, data in (
        ("points", PathCollection, lambda c: np.array(c.get_offsets()).T),
        ("segments", LineCollection, lambda c: np.array(c.get_segments())),
        ("bands", PolyCollection, band),
        ("meshes", QuadMesh, lambda c: np.ma.filled(c.get_array(), np.nan)),
    ):
        shown[kind] = [data(c) for c in ax.collections if isinstance(c, keep)]
    shown["images"] = [[image.get_array(), *image.get_clim()] for image in ax.images]
    shown["bars"] = [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in ax.patches if type(p) is Rectangle]
    shown["stairs"] = [tuple(p.get_data()) for p in ax.patches if isinstance(p, StepPatch)]
    shown["outlines"] = [p.get_xy().T for p in ax.patches if isinstance(p, Polygon)]
    shown["texts"] = [(text.get_text(), *text.get_position()) for text in ax.texts]
    legend = ax.get_legend()
    shown["legend"] = [text.get_text() for text in legend.get_texts()] if legend else []
    return {kind: found for kind, found in shown.items() if found}


def same(found: Any, expected: Any) -> bool:
    """Whether nested sequences of numbers and words are equal, numbers to rounding."""
    if isinstance(expected, str | None):
        return bool(found == expected)
    try:
        expected_numbers, numbers = np.asarray(expected, float), np.asarray(found, float)
    except (ValueError, TypeError):
        return len(found) == len(expected) and all(map(same, found, expected))
    if numbers.shape != expected_numbers.shape:
        return False
    return bool(np.allclose(numbers, expected_numbers, rtol=1e-9, atol=1e-12, equal_nan=True))


def check(ax: Axes, xlabel: str, ylabel: str, **expected: list[Any]) -> None:
    """Axes have these labels, and show this and no more; `xticks`, `yticks` and `scales` are compared where given."""
    ticks = {"xticks": ax.get_xticklabels, "yticks": ax.get_yticklabels}
    assert (ax.get_xlabel(), ax.get_ylabel()) == (xlabel, ylabel)
    shown = content(ax)
    for name, labels in ticks.items():
        if name in expected:
            assert [label.get_text() for label in labels()] == expected.pop(name)
    assert [ax.get_xscale(), ax.get_yscale()] == expected.pop("scales", ["linear", "linear"])
    assert shown.keys() == expected.keys()
    for kind, wanted in expected.items():
        assert len(shown[kind]) == len(wanted), kind
        for number, (found, one) in enumerate(zip(shown[kind], wanted, strict=True)):
            assert same(found, one), f"{kind} {number}: {found} is not {one}"


def density(counts: np.ndarray, width: float) -> np.ndarray:
    return counts / counts.sum() / width


GRID, UNIT = np.linspace(-1, 1, 200), np.linspace(0, 1, 11)
MANY = 20 * COUNTS
CHANCE = [np.full(10, binom.ppf(level, MANY.sum(), 0.1) / MANY.sum() / 0.1) for level in (0.025, 0.975)]
SMOOTH = [np.quantile(POWER, level, axis=0) for level in (0.05, 0.5, 0.95)]
MOVED, BY_WAVELENGTH = plot_wavelengths(), np.argsort(UM[1:]) + 1
SHAP = [[[MOVED[k], values[k]] for k in (BY_WAVELENGTH, [0])] for values in BINS]  # AIRS as a line, FGS1 as a point

# Arguments after the axes, labels of x and y, and what is to be seen.
ON_AXES: dict[str, tuple[Callable[..., Axes], tuple[Any, ...], str, str, dict[str, list[Any]]]] = {
    "spectrum bands": (
        figures.plot_spectrum_bands,
        (UM, {"H2O": [[60, 90], [120, 150]], "CO": [[30, 40]]}, {"seam": [0, 1], "nonneg": [9]}),
        "wavelength (µm)",
        "",
        {
            "lines": [
                [UM[[60, 90]], [1.04, 1.04]],
                [UM[[120, 150]], [1.04, 1.04]],
                [UM[[30, 40]], [1.095, 1.095]],
                [UM[[0, 1]], [0.03, 0.03]],
                [UM[[9]], [0.09]],
            ],
            "texts": [["H2O", 1.01, 1.04], ["CO", 1.01, 1.095], ["seam", 1.01, 0.03], ["nonneg", 1.01, 0.09]],
        },
    ),
    "shap": (
        figures.plot_shap,
        ({"fitted depth": 9.0, "star": 0.5, "scale height": 1.0},),
        "mean |SHAP| (ppm)",
        "inputs",
        {
            "bars": [(0, -0.35, 0.5, 0.7), (0, 0.65, 1.0, 0.7), (0, 1.65, 9.0, 0.7)],
            "yticks": ["star", "scale height", "fitted depth"],
        },
    ),
    "frame": (
        figures.plot_frame,
        (FRAME, [10, 22]),
        "column",
        "row",
        {"images": [[FRAME, *np.percentile(FRAME, [1, 99.5])]], "lines": [flat(9.5), flat(22.5)]},
    ),
    "pointing": (
        figures.plot_pointing,
        (HOURS, 3 + HOURS, JITTER),
        "time (h)",
        "centroid (px)",
        {"lines": [[HOURS, HOURS - HOURS.mean()], [HOURS, JITTER - np.nanmean(JITTER)]], "legend": ["x", "y"]},
    ),
    "coverage": (
        figures.plot_coverage,
        (["all", "FGS1"], np.array([0.9, 0.8]), np.array([0.7, 0.6]), np.array([1.0, 0.95])),
        "fraction of truths inside",
        "",
        {
            "lines": [[[0.9, 0.8], [1, 0]], upright(0.9)],
            "segments": [[[[0.7, 1], [1, 1]], [[0.6, 0], [0.95, 0]]]],
            "yticks": ["all", "FGS1"],
        },
    ),
    "quantiles": (
        figures.plot_quantiles,
        (UM, *BINS, 0.1),
        "wavelength (µm)",
        "quantile (sigma)",
        {
            "lines": [[UM[1:], BINS[1][1:]], [UM[1:], BINS[0][1:]], flat(1.6448536269514722)],
            "legend": ["each bin alone", "pooled", "a Gaussian's"],
        },
    ),
    "pulls, z": (
        figures.plot_residual_histogram,
        (EDGES, OTHER, COUNTS, "z"),
        "(truth - mu) / sigma",
        "density",
        {
            "stairs": [(density(OTHER, 0.2), EDGES, 0), (density(COUNTS, 0.2), EDGES, 0)],
            "lines": [[GRID, norm.pdf(GRID)]],
            "legend": ["before calibration", "after"],
        },
    ),
    "pulls, pit": (
        figures.plot_residual_histogram,
        (UNIT, OTHER, MANY, "pit"),
        "probability integral transform",
        "density",
        {
            "stairs": [(density(OTHER, 0.1), UNIT, 0), (density(MANY, 0.1), UNIT, 0), (CHANCE[1], UNIT, CHANCE[0])],
            "legend": ["before calibration", "after"],
        },
    ),
    "outliers": (
        figures.plot_outliers,
        (*STARS, "distance of residuals"),
        "distance of residuals",
        "error / sigma",
        {"points": [[STARS[0], STARS[1] / STARS[2]]], "lines": [flat(1)], "scales": ["linear", "log"]},
    ),
    "runtime": (
        figures.plot_runtime,
        (["00_calibration", "01_features"], np.array([3.0, 4.0])),
        "wall time (s)",
        "",
        {"bars": [(0, 0.65, 3, 0.7), (0, -0.35, 4, 0.7)], "yticks": ["00_calibration", "01_features"]},
    ),
    "run scores": (
        figures.plot_run_scores,
        ({"1f00c0de": {"neural": 0.5, "gaussian": 0.25}, "bf26c31f": {"neural": 0.6}},),
        "",
        "",
        {
            "meshes": [[[0.5, 0.25], [0.6, np.nan]]],
            "texts": [["0.500", 0.5, 0.5], ["0.250", 1.5, 0.5], ["0.600", 0.5, 1.5]],
            "xticks": ["neural", "gaussian"],
            "yticks": ["1f00c0de", "bf26c31f"],
        },
    ),
    "residual spectrum": (
        figures.plot_residual_spectrum,
        (HOURS[1:], POWER, {"wheel": 3.0}),
        "frequency (mHz)",
        "power (1 = white)",
        {
            "lines": [[HOURS[1:], SMOOTH[1]], flat(1), upright(3)],
            "bands": [[HOURS[1:], SMOOTH[0], SMOOTH[2]]],
            "scales": ["log", "log"],
        },
    ),
    "map": (
        plot_map,
        (np.column_stack(STARS[:2]), STARS[2], "lg (scatter / noise)", RINGED),
        "",
        "",
        {"points": [STARS[:2], [STARS[0][RINGED], STARS[1][RINGED]]], "xticks": [], "yticks": []},
    ),
    "attribution": (
        plot_attribution,
        (MOVED, {"mean": BINS[0], "slope": BINS[1]}),
        "wavelength (µm), FGS1 moved",
        "SHAP (ppm)",
        {"lines": [*SHAP[0], *SHAP[1], flat(0)], "legend": ["mean", "slope"]},
    ),
}


def test_every_figure_of_the_chapter_is_tried() -> None:
    tried = {draw.__name__ for draw, *_ in ON_AXES.values()} | {"plot_light_curve"}
    assert {name for name in figures.__all__ if name.startswith("plot_")} <= tried


@pytest.mark.parametrize("name", ON_AXES)
def test_a_figure_shows_its_arrays(name: str) -> None:
    draw, arrays, xlabel, ylabel, expected = ON_AXES[name]
    ax = Figure().subplots()
    assert draw(ax, *arrays) is ax
    if name == "residual spectrum":  # its text stands at the top, wherever that is
        assert [text.get_text() for text in ax.texts] == ["wheel"] and ax.texts[0].get_position()[0] == 3
        ax.texts[0].remove()
    check(ax, xlabel, ylabel, **expected)


@pytest.mark.parametrize(
    ("name", "label"), [("frame", "ADU"), ("run scores", "score"), ("map", "lg (scatter / noise)")]
)
def test_colours_have_a_labelled_bar(name: str, label: str) -> None:
    draw, arrays, *_ = ON_AXES[name]
    figure = Figure()
    ax = draw(figure.subplots(), *arrays)
    (bar,) = set(figure.axes) - {ax}
    assert bar.get_ylabel() == label
    if name == "map":
        assert same(ax.collections[0].get_array(), arrays[1])


def test_light_curve() -> None:
    pair = Figure().subplots(2, 1)
    assert figures.plot_light_curve(pair, HOURS, FLUX, MODEL, DRIFT, "FGS1") is pair
    lines = [[HOURS, FLUX], [HOURS, MODEL], [HOURS, DRIFT]]
    check(pair[0], "", "relative flux", lines=lines, legend=["model", "drift"])
    check(pair[1], "time (h)", "residual (ppm)", lines=[[HOURS, 1e6 * (FLUX - MODEL)], flat(0)])
    assert pair[0].get_title() == "FGS1"


def returned(draw: Callable[..., Sequence[Axes]], *arrays: Any) -> list[Axes]:
    """Axes that a function draws on, of an empty figure; they are all that the figure has."""
    figure: Figure | SubFigure = Figure()
    axes = list(draw(figure, *arrays))
    assert set(axes) == set(figure.axes)
    return axes


def test_white_light_of_a_visit() -> None:
    white = {"channel": np.repeat([0, 1, 0, 1], 60), "visit": np.repeat([0, 1], 120), "time": np.tile(HOURS, 4)}
    white |= {name: 1 + 1e-4 * RNG.normal(size=240) for name in ("white_flux", "white_model", "white_drift")}
    axes = returned(transit.plot_white, white, 1)
    allan = axes.pop()
    expected = []
    for channel, (top, middle, bottom) in enumerate((axes[:3], axes[3:])):
        flux, model, drift = (white[f"white_{name}"].reshape(4, 60)[2 + channel] for name in ("flux", "model", "drift"))
        rest = 1e6 * (flux - model)
        units = ("relative flux", "drift\n(ppm)", "residual\n(ppm)") if channel == 0 else ("", "", "")
        check(top, "", units[0], lines=[[HOURS, flux], [HOURS, model]])
        check(middle, "", units[1], lines=[[HOURS, 1e6 * drift]])
        check(bottom, "time (h)", units[2], lines=[[HOURS, rest], flat(0)])
        assert top.get_title() == ("FGS1", "AIRS white")[channel]
        steps = np.array([1, 2, 3, 4, 5, 6, 7, 8, 10])  # spread evenly in their logarithm
        means = [[rest[k : k + n].mean() for k in range(0, 60 - n + 1, n)] for n in steps]
        minutes, scatter = steps * 60 * 7 / 59, np.std(rest)
        expected += [[minutes, [np.std(part) for part in means]], [minutes, scatter / np.sqrt(steps)]]
    check(allan, "span (min)", "residual (ppm)", lines=expected, scales=["log", "log"])


def error_bars(um: np.ndarray, depth: np.ndarray, sigma: np.ndarray) -> list[Any]:
    """Segments in ppm of vertical 1 sigma bars."""
    return [[[x, 1e6 * (y - s)], [x, 1e6 * (y + s)]] for x, y, s in zip(um, depth, sigma, strict=True)]


def test_depths_have_both_error_bars() -> None:
    nuisance = np.column_stack([SIGMA, 2 * SIGMA])
    total = np.sqrt(SIGMA**2 + SIGMA**2 + 4 * SIGMA**2)
    fgs1, airs = returned(transit.plot_depths, DEPTH, SIGMA**2, nuisance, TRUTH)
    check(
        fgs1,
        "FGS1",
        "transit depth (ppm)",
        lines=[[[UM[0]], [1e6 * y]] for y in (DEPTH[0], DEPTH[0], TRUTH[0])],
        segments=[error_bars(UM[:1], DEPTH[:1], total[:1]), error_bars(UM[:1], DEPTH[:1], SIGMA[:1])],
    )
    means = []
    for some in np.array_split(np.arange(1, 283), 24):
        weight = SIGMA[some] ** -2 / (SIGMA[some] ** -2).sum()
        correlated = [(weight @ nuisance[some, k]) ** 2 for k in range(2)]
        sigma = np.sqrt(1 / (SIGMA[some] ** -2).sum() + sum(correlated))
        means.append((UM[some].mean(), weight @ DEPTH[some], sigma))
    x, y, sigma = np.array(means).T
    parts = [(UM[1:], DEPTH[1:], total[1:]), (UM[1:], DEPTH[1:], SIGMA[1:]), (x, y, sigma)]
    lines = [[um, 1e6 * depth] for um, depth, _ in parts]
    lines.insert(2, [UM[1:], 1e6 * TRUTH[1:]])
    segments = [error_bars(*part) for part in parts]
    legend = ["truth", "means of 12 bins"]
    check(airs, "wavelength (µm)", "", lines=lines, segments=segments, legend=legend)


def test_predicted_spectrum_has_its_band() -> None:
    fgs1, airs = returned(training.plot_spectrum, DEPTH, TRUTH, SIGMA, TRUTH + 1e-4)
    ends = np.array([0.6, 0.8])
    for ax, some, x, labels in (
        (fgs1, slice(0, 1), ends, ("FGS1", "transit depth (ppm)")),
        (airs, slice(1, None), UM[1:], ("wavelength (µm)", "")),
    ):
        low, mu, high, truth = (
            1e6 * part[some] * np.ones(len(x)) for part in (TRUTH - SIGMA, TRUTH, TRUTH + SIGMA, TRUTH + 1e-4)
        )
        legend = {"legend": ["fitted", "predicted", "truth"]} if ax is airs else {}
        lines = [[UM[some], 1e6 * DEPTH[some]], [x, mu], [x, truth]]
        check(ax, *labels, lines=lines, bands=[[x, low, high]], **legend)


def test_calibration_figure_counts_what_lies_inside() -> None:
    before, after = 2 * RNG.normal(size=(30, 283)), RNG.normal(size=(30, 283))
    histogram, curve, bins = returned(uncertainty.plot_calibration, before, after)
    edges, levels = np.linspace(-4, 4, 33), np.linspace(0.05, 0.99, 30)
    outlines = []
    for values in (after[:, 1:], after[:, 0]):
        heights = np.histogram(values, edges, density=True)[0]
        outlines.append([np.repeat(edges, 2), [0, *np.repeat(heights, 2), 0]])
    check(
        histogram,
        "z = (truth - mu) / sigma",
        "density",
        outlines=outlines,
        lines=[[edges, norm.pdf(edges)]],
        legend=["AIRS", "FGS1"],
    )
    inside = [[(np.abs(z) <= norm.ppf(0.5 + level / 2)).mean() for level in levels] for z in (before, after)]
    diagonal = [[0, 1], [0, 1]]
    lines = [*([levels, share] for share in inside), diagonal]
    check(curve, "stated probability", "fraction inside", lines=lines, legend=["before", "after"])
    shares = [(np.abs(z[:, 1:]) <= 1.6448536269514722).mean(axis=0) for z in (before, after)]
    lines = [*([UM[1:], share] for share in shares), flat(0.9)]
    check(bins, "wavelength (µm)", "fraction inside 90%", lines=lines)


def test_coverage_and_residuals_of_groups_are_drawn() -> None:
    """A row of the heat map for each group but single bins; boxes of quartiles, whiskers of 90%."""
    columns = {name: [0.5, 0.8, 0.9] for name in calibration.COVERAGES} | {"sigma": [0.6, 0.7, 0.95]}
    table = pd.DataFrame({"group": ["all", "band H2O", "bin 3"], **columns})
    ax = calibration.plot_coverage_groups(Figure().subplots(), table)
    values = [[0.5, 0.6, 0.5], [0.8, 0.7, 0.8]]
    texts = [[f"{values[k][j]:.2f}", j + 0.5, k + 0.5] for k in (0, 1) for j in (0, 1, 2)]
    names = [*calibration.COVERAGES.values()]
    check(ax, "", "", meshes=[values], texts=texts, xticks=names, yticks=["all", "band H2O"])
    residuals = {"FGS1": RNG.normal(size=30), "AIRS": RNG.normal(size=(30, 5))}
    ax = calibration.plot_residual_boxes(Figure().subplots(), residuals)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["FGS1", "AIRS"]
    lines = [np.asarray(line.get_xdata(), float) for line in ax.lines]
    for k, values in enumerate(residuals.values()):  # matplotlib draws whiskers, caps, and the median of each box
        low, high = np.quantile(values, [0.05, 0.95])
        assert lines[5 * k][1] >= low and lines[5 * k + 1][1] <= high
        assert np.isclose(lines[5 * k + 4][0], np.median(values))
