"""Figures for papers: every function takes arrays, and returns the axes that it drew on, labelled."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectramind_nb import figures, training, transit, uncertainty
from spectramind_nb.lib.instrument import wavelengths

RNG = np.random.default_rng(0)
UM, STEPS = wavelengths(), np.linspace(0, 7, 60)
COUNTS, EDGES = RNG.integers(1, 9, 10), np.linspace(0, 1, 11)
DEPTH, SIGMA = 0.01 + 1e-4 * RNG.normal(size=283), np.full(283, 1e-4)
WHITE = {"channel": np.repeat([0, 1], 60), "visit": np.zeros(120), "time": np.tile(STEPS, 2)}
WHITE |= {name: 1 + 1e-4 * RNG.normal(size=120) for name in ("white_flux", "white_model", "white_drift")}
PULLS = RNG.normal(size=(30, 283))
ON_AXES: dict[str, Any] = {
    "plot_spectrum_bands": (UM, {"H2O": [[60, 90], [120, 150]], "CO": [[30, 40]]}, {"seam": [0, 1], "nonneg": [9]}),
    "plot_shap": ({"fitted depth": 9.0, "scale height": 1.0},),
    "plot_frame": (RNG.normal(size=(32, 100)), [10, 22]),
    "plot_pointing": (STEPS, RNG.normal(size=60), np.where(STEPS < 1, np.nan, 0.1)),
    "plot_coverage": (["all", "FGS1"], np.array([0.9, 0.8]), np.array([0.7, 0.6]), np.array([1.0, 0.9])),
    "plot_quantiles": (UM, np.ones(283), np.full(283, np.inf), 0.1),
    "plot_pulls": (EDGES, COUNTS, COUNTS, "pit"),
    "plot_strangers": (EDGES[1:], COUNTS, COUNTS, "distance"),
    "plot_runtime": (["00_calibration", "01_features"], np.array([3.0, 4.0])),
    "plot_run_scores": ({"1f00c0de": {"neural": 0.5}, "bf26c31f": {"neural": 0.6}},),
    "plot_residual_spectrum": (STEPS[1:], RNG.gamma(6, 1 / 6, (9, 59)), {"wheel": 3.0}),
}


def labelled(axes: Sequence[Axes]) -> bool:
    """Whether all hold something, and both directions are told of; neighbours share their labels."""
    return all(ax.has_data() for ax in axes) and all(
        any(map(told, axes)) for told in (Axes.get_xlabel, Axes.get_ylabel)
    )


def test_every_figure_of_the_chapter_is_tried() -> None:
    assert {name for name in figures.__all__ if name.startswith("plot_")} == {*ON_AXES, "plot_light_curve"}
    assert all(inspect.signature(getattr(figures, name)).return_annotation is Axes for name in ON_AXES)


@pytest.mark.parametrize("name", ON_AXES)
def test_a_figure_returns_its_axes(name: str) -> None:
    ax = Figure().subplots()
    assert getattr(figures, name)(ax, *ON_AXES[name]) is ax
    ax.figure.canvas.draw()
    labels = [text.get_text() for text in (*ax.get_xticklabels(), *ax.get_yticklabels())]
    told = bool(ax.get_xlabel()) or any("1f00c0de" in label for label in labels)  # a heat map's rows are its runs
    assert told and ax.has_data()


def test_figures_of_several_axes_return_them_all() -> None:
    pair = Figure().subplots(2, 1)
    assert figures.plot_light_curve(pair, STEPS, 1 + STEPS / 1e4, np.ones(60), np.ones(60), "FGS1") is pair
    assert labelled(pair)
    drawn = [
        (Figure(), transit.plot_white, (WHITE,)),
        (Figure(), transit.plot_depths, (DEPTH, SIGMA**2, 1e-5 * np.ones((283, 2)), DEPTH)),
        (Figure(), training.plot_spectrum, (DEPTH, DEPTH, SIGMA, DEPTH)),
        (Figure(), uncertainty.plot_calibration, (2 * PULLS, PULLS)),
    ]
    for figure, draw, arrays in drawn:
        assert labelled(found := draw(figure, *arrays)) and {*found} == {*figure.axes}, draw.__name__
