"""Retrieval: prior of the parameters, importance sampling against a known posterior, weights of the flow, bad input."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import kstest
from typer.testing import CliRunner

from spectramind_nb.chapters.diagnostics import retrieve_some
from spectramind_nb.cli.retrieve import retrievals
from spectramind_nb.core.contracts import read_npz, write_npz
from spectramind_nb.core.errors import ContractError
from spectramind_nb.core.extras import MissingExtra, install_command
from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.pipeline import planet_retrieval
from spectramind_nb.pipeline.planet_retrieval import retrieve_planet, show_retrieval
from spectramind_nb.retrieval.emulator import Emulator, measure_error
from spectramind_nb.retrieval.flow import (
    FlowExamples,
    Proposal,
    Retriever,
    Summary,
    log_prior_of,
    propose,
    read_retriever,
    summarise,
    train_proposal,
    write_retriever,
)
from spectramind_nb.retrieval.importance import (
    fit_levels,
    normalised_weights,
    retrieve,
    spectrum_or_fallback,
    weighted_moments,
)
from spectramind_nb.retrieval.parameters import (
    DIMENSIONS,
    FREE_PROBABILITY,
    RETRIEVED_GASES,
    hosts_of,
    scale_height_signal,
    unit_parameters,
    values_of,
)
from spectramind_nb.retrieval.posterior import RETRIEVED_NAMES, Retrieval, effective_size, weighted_quantiles
from spectramind_nb.simulator.atmosphere import draw_atmosphere
from spectramind_nb.simulator.population import draw_system, equilibrium_temperature
from spectramind_nb.transits.fit_priors import LearnedPriors

STAR = {"Ts": 5800.0, "sma": 10.0, "Mp": 0.5, "Rs": 1.0}


@pytest.fixture(scope="module")
def population() -> dict[str, np.ndarray]:
    """Parameters of 400 planets as the simulator draws them."""
    rng = np.random.default_rng(11)
    systems = [draw_system(rng) for _ in range(400)]
    rows = [draw_atmosphere(rng, equilibrium_temperature(s), s.Mp).summary() | vars(s) for s in systems]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def test_the_prior_is_that_of_the_simulator(population: dict[str, np.ndarray]) -> None:
    unit, free = unit_parameters(population, np.random.default_rng(0))
    for column in unit.T:
        assert kstest(column, "norm").pvalue > 1e-3
    assert abs(free.mean() - FREE_PROBABILITY) < 4 * (0.24 / len(free)) ** 0.5
    assert np.all(np.abs(np.corrcoef(unit[:, [0, 1, 6, 7, 8]].T) - np.eye(5)) < 0.2)


def test_values_come_back_from_unit_space(population: dict[str, np.ndarray]) -> None:
    unit, free = unit_parameters(population, np.random.default_rng(0))
    values = values_of(unit, free, hosts_of(population))
    np.testing.assert_allclose(
        np.exp(values[:, :2]), np.column_stack([population["temperature_K"], population["gamma"]])
    )
    gases = np.column_stack([population[f"log10_{gas}"] for gas in RETRIEVED_GASES])
    np.testing.assert_allclose(values[free, 2:6], gases[free], atol=1e-3)
    np.testing.assert_allclose(values[~free, 2], population["metallicity_dex"][~free])
    np.testing.assert_allclose(np.exp(values[~free, 3]), population["carbon_oxygen"][~free])
    np.testing.assert_allclose(10 ** values[:, 7], population["haze_um"], rtol=1e-4)


def test_a_scale_height_changes_the_depth_by_the_area_of_its_ring() -> None:
    planet, kelvin, depth = hosts_of(STAR), np.array([1200.0]), np.array([0.01])
    radius = 0.1 * 6.957e8
    height = 1.380649e-23 * 1200 / (2.3 * 1.66053907e-27 * 1.26687e17 * 0.5 / radius**2)
    ring = ((radius + height) ** 2 - radius**2) / radius**2
    assert scale_height_signal(kelvin, depth, planet)[0] == pytest.approx(ring, rel=0.02)


def linear_model(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Data of a linear model with a standard normal prior, its design, and the exact posterior."""
    design, noise = rng.normal(size=(12, 3)), 0.7
    data = design @ rng.normal(size=3) + noise * rng.normal(size=12)
    covariance = np.linalg.inv(np.eye(3) + design.T @ design / noise**2)
    return data, design, covariance @ design.T @ data / noise**2, covariance


def test_weighted_moments_agree_with_a_known_posterior() -> None:
    rng = np.random.default_rng(3)
    data, design, mean, covariance = linear_model(rng)
    centre, triangle = mean + 0.2, np.linalg.cholesky(3 * covariance)  # proposals: off centre and too wide
    draws = centre + rng.normal(size=(40_000, 3)) @ triangle.T
    away = np.linalg.solve(triangle, (draws - centre).T)
    log_proposal = -0.5 * (away**2).sum(axis=0)
    log_posterior = -0.5 * (draws**2).sum(axis=1) - 0.5 * ((data - draws @ design.T) ** 2).sum(axis=1) / 0.7**2
    weight = normalised_weights(log_posterior - log_proposal)
    found_mean, found_covariance = weighted_moments(weight, draws)
    std = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((found_mean - mean) / std, 0, atol=0.05)
    np.testing.assert_allclose(found_covariance / np.outer(std, std), covariance / np.outer(std, std), atol=0.05)
    low = weighted_quantiles(weight, draws[:, 0], np.array([0.159]))[0]
    assert (low - mean[0]) / std[0] == pytest.approx(-1, abs=0.07)
    assert 0.1 < effective_size(weight) / len(draws) < 0.7


def test_perfect_proposals_all_count() -> None:
    assert effective_size(normalised_weights(np.full(1234, -987.0))) == pytest.approx(1234)
    assert effective_size(normalised_weights(np.array([0.0, -np.inf, -800.0]))) == pytest.approx(1)
    with pytest.raises(ValueError, match="no proposal has a finite weight"):
        normalised_weights(np.array([-np.inf, np.nan]))


def test_the_level_is_integrated_exactly() -> None:
    """A grid of levels gives the same integral, up to the same constant for all curves."""
    rng = np.random.default_rng(4)
    curves, root = 1 + 0.02 * rng.normal(size=(3, 20)), 1e-4 * (np.eye(20) + 0.3)
    covariance, depth = root @ root.T, 0.01 * curves[0] + 1e-4 * rng.normal(size=20)
    found, grid = fit_levels(depth, covariance, curves), np.linspace(0.008, 0.012, 20_001)
    inverse, by_grid = np.linalg.inv(covariance), []
    for curve in curves:
        away = depth - grid[:, None] * curve
        log = -0.5 * np.einsum("gi,ij,gj->g", away, inverse, away)
        by_grid.append(log.max() + np.log(np.exp(log - log.max()).sum()))
    np.testing.assert_allclose(np.diff(found.log_likelihood), np.diff(by_grid), rtol=1e-3)


def a_retriever(signal: float = 1.0) -> Retriever:
    """A retriever whose shapes are a band that is the larger the more haze there is; its flow has learned nothing."""
    torch.manual_seed(5)
    emulator, band = Emulator(8), np.where(np.arange(N_BINS) < 100, 1.0, 0.0)
    band = band - band[1:].mean()
    for network in emulator.networks:
        network.input_std.fill_(1.0)
        network.centre.copy_(torch.from_numpy(signal * band))
        network.error_variance.fill_(1e-6)
        network.error_columns[:, 0].copy_(torch.from_numpy(1e-3 * band))
    summary = Summary.of_shapes(np.random.default_rng(5).normal(size=(60, N_BINS)))
    return Retriever(emulator, summary, Proposal(1, 8, 4), {"seed": "5"})


def test_the_retrieved_temperature_has_the_known_posterior() -> None:
    """Where the band's size is the temperature's scale height, the posterior follows by a sum over a grid."""
    retriever, planet, error = a_retriever(), hosts_of(STAR), 4e-5
    band = retriever.emulator.free.centre.double().numpy()
    kelvin, level = planet.equilibrium_K * np.linspace(0.85, 1.05, 2001)[:, None], np.full(2001, 0.012)
    curves = 1 + scale_height_signal(kelvin[:, 0], level, planet)[:, None] * band
    seen, covariance = (
        0.012 * curves[700] + error * np.random.default_rng(6).normal(size=N_BINS),
        error**2 * np.eye(N_BINS),
    )
    exact = normalised_weights(fit_levels(seen, covariance, curves).log_likelihood)
    mean, variance = weighted_moments(exact, kelvin)
    found = retrieve(retriever, seen, covariance, STAR, proposals=4000)
    column = found.values[:, [RETRIEVED_NAMES.index("temperature_K")]]
    found_mean, found_variance = weighted_moments(found.weight, column)
    error_of_mean = (variance[0, 0] / found.effective) ** 0.5
    assert abs(found_mean[0] - mean[0]) < 4 * error_of_mean
    assert found_variance[0, 0] == pytest.approx(variance[0, 0], rel=0.15)
    expected, _ = weighted_moments(exact, fit_levels(seen, covariance, curves).level[:, None] * curves)
    assert np.abs(found.mean - expected).max() < 0.3 * np.sqrt(np.diag(found.covariance)).min()
    assert found.reliable


def gaussian() -> Any:
    class Known:
        mean, covariance = np.full(N_BINS, 0.5), np.eye(N_BINS)

    return Known()


def test_an_unreliable_retrieval_falls_back() -> None:
    one = Retrieval(np.zeros((2, 1)), np.full(2, 0.5), np.zeros(N_BINS), np.eye(N_BINS), 500.0, 0.0, 0.0)
    assert spectrum_or_fallback(one, gaussian())[2] == "retrieval"
    for worse in (replace(one, effective=20.0), replace(one, excess=9.0)):
        mean, _, source = spectrum_or_fallback(worse, gaussian())
        assert source == "gaussian" and mean[0] == 0.5


def test_a_flow_learns_a_known_posterior() -> None:
    """Summary = parameter + noise, so the posterior of that parameter has half the prior's variance."""
    rng = np.random.default_rng(7)
    unit, free = rng.normal(size=(6000, DIMENSIONS)), rng.random(6000) < FREE_PROBABILITY
    proposal = Proposal(1, 16, 4)
    size = proposal.mean.shape[0]
    summary = np.zeros((6000, size))
    summary[:, 0] = unit[:, 0] + rng.normal(size=6000)
    trained = train_proposal(FlowExamples(summary, unit, free), 400, batch=256, proposal=proposal)
    seen = np.zeros(size)
    seen[0] = 2.0
    drawn = propose(trained, seen, 4000, seed=1)
    near = np.abs(drawn.unit[:, 0] - 1.0) < 3  # nine tenths are by the flow
    assert np.mean(drawn.unit[near, 0]) == pytest.approx(0.9, abs=0.12)
    weight = normalised_weights(drawn.log_prior - 0.5 * (2 - drawn.unit[:, 0]) ** 2 - drawn.log_density)
    mean, variance = weighted_moments(weight, drawn.unit[:, :1])
    assert mean[0] == pytest.approx(1, abs=0.06) and variance[0, 0] == pytest.approx(0.5, abs=0.06)
    assert effective_size(weight) > 2000


def test_proposals_have_the_density_that_they_state() -> None:
    """The mean of prior over proposal density is 1; the state of torch's generator is not changed."""
    retriever, state = a_retriever(), torch.random.get_rng_state()
    drawn = propose(retriever.proposal, np.zeros(len(retriever.proposal.mean)), 8000, seed=2)
    assert torch.equal(state, torch.random.get_rng_state())
    assert np.exp(drawn.log_prior - drawn.log_density).mean() == pytest.approx(1, abs=0.08)
    np.testing.assert_allclose(drawn.log_prior, log_prior_of(drawn.unit, drawn.free))


def test_summaries_ignore_what_noise_hides() -> None:
    summary, planet = a_retriever().summary, hosts_of(STAR)
    depth = np.full((1, N_BINS), 0.01)
    loud, quiet = (summarise(summary, depth, e**2 * np.eye(N_BINS), planet)[0] for e in (1.0, 1e-9))
    parts = len(summary.basis.T) - 1
    np.testing.assert_allclose(loud[:parts], 0, atol=1e-6)
    np.testing.assert_allclose(loud[parts : 2 * parts], 0, atol=1e-6)  # ln of a standard deviation of 1
    assert (quiet[parts : 2 * parts] < -5).all()


def test_weights_survive_writing_and_reading(tmp_path: Path) -> None:
    retriever = a_retriever()
    again = read_retriever(write_retriever(tmp_path / "r.safetensors", retriever))
    seen, covariance = np.full(N_BINS, 0.01), 1e-4**2 * np.eye(N_BINS)
    before, after = (retrieve(each, seen, covariance, STAR, 300) for each in (retriever, again))
    np.testing.assert_allclose(before.values, after.values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(before.weight, after.weight, rtol=1e-4)
    np.testing.assert_allclose(before.covariance, after.covariance, rtol=1e-4)
    assert again.about == {"seed": "5"}


@pytest.fixture
def run_with_a_fit(tmp_path: Path) -> Path:
    """A run folder that has nothing but the fit of planet 7."""
    artifacts = tmp_path / "run" / "02_transit" / "artifacts"
    (artifacts / "fits").mkdir(parents=True)
    record = {"shared": {}, "shared_std": {}, "quality": {}, "star": STAR}
    ripple = 1e-4 * (np.arange(N_BINS) % 2 - 0.5)  # of neighbouring bins
    arrays = {"depth": 0.012 + ripple, "noise_variance": np.full(N_BINS, 1e-8)}
    arrays["nuisance"] = np.zeros((N_BINS, 1))
    arrays |= {name: np.zeros(2) for name in ("white_flux", "white_model", "white_drift", "time")}
    arrays |= {name: np.zeros(2, np.int8) for name in ("channel", "visit")}
    write_npz(artifacts / "fits" / "transit_7.npz", "transit", parameters=np.array(json.dumps(record)), **arrays)
    return tmp_path / "run"


def test_the_command_writes_posterior_and_corner_plot(run_with_a_fit: Path, tmp_path: Path) -> None:
    weights, out = write_retriever(tmp_path / "r.safetensors", a_retriever(0.0)), tmp_path / "out"
    words = ["--run", str(run_with_a_fit), "--planet", "7", "--out", str(out), "--weights", str(weights)]
    result = CliRunner().invoke(retrievals, [*words, "--proposals", "400"])
    assert result.exit_code == 0, result.output
    assert "under the simulator's chemistry" in result.output and "effective size" in result.output
    arrays = read_npz(out / "retrieval_7.npz", "retrieval")
    assert json.loads(str(arrays["names"])) == list(RETRIEVED_NAMES)
    assert arrays["values"].shape == (400, len(RETRIEVED_NAMES))
    facts = json.loads(str(arrays["made"]))
    assert facts["planet"] == 7 and facts["valid"] == "under the simulator's chemistry"
    assert facts["effective"] == pytest.approx(effective_size(arrays["weight"]))
    np.testing.assert_allclose(arrays["mean"], 0.012, rtol=1e-3)
    assert (out / "retrieval_7.png").read_bytes()[:4] == b"\x89PNG"


def test_a_stage_retrieves_what_it_can_and_keeps_it(
    run_with_a_fit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, kept, read = tmp_path / "out", tmp_path / "kept", list[Path]()
    monkeypatch.setattr(planet_retrieval, "read_retriever", lambda path: (read.append(path), a_retriever(0.0))[1])
    first = retrieve_some(run_with_a_fit, out, [8, 7, 9], 1, kept)
    assert first[0].startswith("no retrieval of 8: ") and "planet 8: has no fit there" in first[0]
    assert {path.name for path in out.iterdir()} == {"retrieval_7.npz", "retrievals.json"} and len(read) == 1
    weight = read_npz(out / "retrieval_7.npz", "retrieval")["weight"]
    assert "planet 7, under the simulator's chemistry" in str(show_retrieval(out)._suptitle)  # type: ignore[union-attr]
    assert retrieve_some(run_with_a_fit, out, [7], 1, kept) == [] and len(read) == 1, "not computed again"
    assert np.array_equal(read_npz(out / "retrieval_7.npz", "retrieval")["weight"], weight)
    assert retrieve_some(run_with_a_fit, out, [], 1, kept) == [] and not [*out.iterdir()], "nothing of before stays"
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    (note,) = retrieve_some(run_with_a_fit, out, [7], 2, kept)
    assert note.startswith("no retrieval of 7: A retrieval needs zuko, which is not installed.")
    assert show_retrieval(out) == note.replace("no retrieval of 7", "no retrieval")


def test_depths_of_smoothed_light_curves_are_sharpened(run_with_a_fit: Path) -> None:
    def excess(learned: str) -> float:
        (run_with_a_fit / "02_transit" / "artifacts" / "options.json").write_text(learned)
        return retrieve_planet(run_with_a_fit, 7, a_retriever(0.0), 200).excess

    learned = LearnedPriors(0, 0.0, 0.01, 0.1, (), (), (), (), (), (0.1, 0.1))
    plain, smoothed = (json.dumps({"learned": asdict(replace(learned, line_shape=width))}) for width in (0.0, 1.0))
    assert excess(smoothed) == pytest.approx(excess(plain), abs=0.1)  # the same data in another form


def damaged(path: Path, how: str) -> Path:
    """A file of weights that can't be used."""
    if how == "text":
        path.write_text("nothing")
    elif how == "other":
        save_file({"a": torch.zeros(1)}, path)
    elif how == "lacks":
        write_retriever(path, a_retriever())
        retriever = read_retriever(path)
        tensors = {"summary.centre": torch.from_numpy(retriever.summary.centre)}
        save_file(tensors, path, {"format": "spectramind retriever 1", "sizes": "8 1 8 4"})
    return path


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "file: is missing"),
        ("text", "is not readable"),
        ("other", "format: is not spectramind retriever 1"),
        ("lacks", "weights: do not fit"),
    ],
)
def test_bad_weights_get_one_clear_error(tmp_path: Path, how: str, message: str) -> None:
    with pytest.raises(ContractError, match=message) as caught:
        read_retriever(damaged(tmp_path / "r.safetensors", how))
    assert "r.safetensors" in str(caught.value) and "train_retrieval.py" in str(caught.value)


BAD: list[tuple[Callable[[np.ndarray, np.ndarray, dict[str, float]], Any], str]] = [
    (lambda d, c, s: (d[:5], c, s), "depth and covariance: have shapes"),
    (lambda d, c, s: (d * np.nan, c, s), "is not finite"),
    (lambda d, c, s: (-d, c, s), "not above 0"),
    (lambda d, c, s: (d, -c, s), "covariance: is not positive definite"),
    (lambda d, c, s: (d, c, {k: v for k, v in s.items() if k != "Mp"}), "star table: Mp: is missing"),
    (lambda d, c, s: (d, c, {**s, "sma": float("nan")}), "star table: sma: is nan, not a positive number"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD, ids=[message[:20] for _, message in BAD])
def test_bad_input_gets_one_clear_error(spoil: Callable[..., Any], message: str) -> None:
    depth, covariance = np.full(N_BINS, 0.01), 1e-8 * np.eye(N_BINS)
    with pytest.raises(ContractError, match=message) as caught:
        retrieve(a_retriever(), *spoil(depth, covariance, STAR), 50)
    assert "Fix: " in str(caught.value)


def test_a_missing_package_gets_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("zuko", "zuko.flows"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match="A retrieval needs zuko, which is not installed") as caught:
        Proposal(1, 8, 4)
    assert str(caught.value).endswith(f"Fix: {install_command('explain')}")


def test_a_bank_without_a_parameter_is_refused(population: dict[str, np.ndarray]) -> None:
    with pytest.raises(ContractError, match="bank: gamma: is missing"):
        unit_parameters({name: v for name, v in population.items() if name != "gamma"}, np.random.default_rng(0))


def test_the_emulators_error_is_that_of_held_out_spectra(population: dict[str, np.ndarray]) -> None:
    emulator, rng = Emulator(8), np.random.default_rng(8)
    for network in emulator.networks:
        network.input_std.fill_(1.0)
    wave = np.sin(np.arange(N_BINS) / 20.0)
    wave = wave - wave[1:].mean()
    hosts, level = hosts_of(population), np.full(400, 0.012)
    signal = scale_height_signal(population["temperature_K"], level, hosts)
    size = 0.3 * rng.normal(size=400)
    spectra = level[:, None] * (1 + (signal * size)[:, None] * wave)
    error = measure_error(emulator, population, spectra)
    np.testing.assert_allclose(error, spectra - 0.012, atol=1e-8)
    variance = np.diag(emulator.free.error())
    expected = (size**2)[population["free_chemistry"] > 0.5].mean() * wave**2
    np.testing.assert_allclose(variance, expected, atol=1e-3)
