"""What the network sees: maps that repeat, distances that mean what they say, attributions that add up, files."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest
from test_predict import write_fitted_run

from spectramind_nb.chapters.training import train_run
from spectramind_nb.core.contracts import read_npz, write_npz
from spectramind_nb.core.errors import ContractError, UserError
from spectramind_nb.core.extras import MissingExtra
from spectramind_nb.core.files import network_file, run_folder
from spectramind_nb.dashboard.panels import step_map
from spectramind_nb.dashboard.run_reader import Absent, Run
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.figures.latents import strongest_edges
from spectramind_nb.network import attributions as explaining
from spectramind_nb.network import latents as chapter
from spectramind_nb.network.attributions import (
    INPUT_GROUPS,
    attributions,
    input_groups,
    output_rows,
    pieces_of,
    read_attributions,
    write_attributions,
)
from spectramind_nb.network.latents import LATENT_FILES, edges_of, read_attention, read_latents
from spectramind_nb.network.maps import tsne_map, umap_map
from spectramind_nb.network.model import Inputs, network_inputs, network_start, run_network
from spectramind_nb.network.weights import Weights, read_network
from spectramind_nb.pipeline import network_diagnostics
from spectramind_nb.pipeline.network_diagnostics import MapOptions, look_closely, some_to_explain
from spectramind_nb.pipeline.predictors import labelled_planets, predict_neural, read_fits
from spectramind_nb.prior.spectral_prior import groups_of
from spectramind_nb.uncertainty.out_of_distribution import latent_distance, residual_distance


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 16 labelled planets that predicts with the network that comes with the package."""
    found = tmp_path_factory.mktemp("home")
    write_fitted_run(found / "run", found / "raw")
    rng, names = np.random.default_rng(1), ("fgs1_noise_scale", "airs_noise_scale", "red_noise")
    for path in run_folder(found / "run", "outputs/fits").glob("*.npz"):
        quality = dict(zip(names, np.exp(rng.normal(size=3)).tolist(), strict=True))
        words = {"parameters": np.array(json.dumps({"quality": quality}))}
        write_npz(path, "transit", **{**read_npz(path, "transit"), **words})
    train_run(found / "run", found / "raw", "", 4, 1.0)
    return found


@pytest.fixture(scope="module")
def laptop() -> Weights:
    return read_network(network_file("laptop"))


@pytest.fixture(scope="module")
def found(home: Path, laptop: Weights) -> chapter.Latents:
    planets, _ = labelled_planets(home / "run", RawFolder(home / "raw"))
    return chapter.latents(laptop, read_fits(home / "run", planets), batch=5)


def cloud(planets: int, seed: int, columns: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(5, (planets, columns)) * np.linspace(2, 0.1, columns)


def test_latents_are_those_of_the_prediction(home: Path, laptop: Weights, found: chapter.Latents) -> None:
    fits = read_fits(home / "run", found.planet.tolist())
    whole = run_network(laptop.network, network_inputs(network_start(laptop.prior, fits), laptop.scaling))[0]
    assert np.allclose(found.fused, whole.fused, atol=1e-5) and not laptop.network.training
    assert np.array_equal(found.unknown, predict_neural(laptop, fits).unknown)
    edges = edges_of(laptop.network)
    assert found.attention.shape == (16, len(edges.pairs)) and {"lambda", "seam", "self", "H2O"} <= {*edges.kind}
    sums = [np.bincount(edges.pairs[:, 1], share) for share in found.attention]
    assert np.allclose(sums, 1, atol=1e-5)
    chosen = strongest_edges(edges, found.attention[0], 50)
    assert len(chosen) == 50 and "self" not in edges.kind[chosen] and (np.diff(found.attention[0][chosen]) >= 0).all()


@pytest.mark.slow  # umap-learn is compiled first
@pytest.mark.parametrize("planets", [5, 6, 24])
def test_maps_repeat(planets: int) -> None:
    points = cloud(planets, 1)
    points[:, 3] = 7.0  # a unit that never speaks
    for form in (umap_map, tsne_map):
        first = form(points, seed=3)
        assert first.shape == (planets, 2) and first.dtype == np.float32 and np.isfinite(first).all()
        assert np.array_equal(first, form(points, seed=3))


def test_too_few_planets_have_neither_map_nor_distance() -> None:
    for form in (umap_map, tsne_map):
        with pytest.raises(UserError, match=r"4 planets.*Fix: "):
            form(cloud(4, 0))
        with pytest.raises(UserError, match=r"all the same.*Fix: "):
            form(np.ones((9, 4)))
    with pytest.raises(UserError, match=r"4 training planets are too few.*Fix: "):
        latent_distance(cloud(9, 0), np.arange(9) < 4)
    with pytest.raises(UserError, match=r"no measure of their residuals.*Fix: "):
        residual_distance(pd.DataFrame({"impact": np.ones(9)}), np.arange(9) < 6)


@pytest.mark.parametrize("planets", [14, 40])
def test_planets_drawn_alike_are_uniformly_far(planets: int) -> None:
    training = np.arange(planets + 1) < planets
    alike = [latent_distance(cloud(planets + 1, seed), training) for seed in range(120)]
    assert kstest([one[-1] for one in alike], "uniform").pvalue > 0.01
    for one in alike:
        assert np.allclose(np.sort(one[:-1]), (np.arange(planets) + 0.5) / planets)
    far = cloud(planets + 1, 0)
    far[-1, -1] += 8  # along the direction in which planets differ least
    assert latent_distance(far, training)[-1] == pytest.approx(1 - 0.5 / (planets + 1))


def test_residual_distance_is_of_sizes() -> None:
    rng, training = np.random.default_rng(0), np.arange(60) < 40
    names = ["fgs1_noise_scale", "airs_noise_scale", "common_noise", "red_noise"]
    quality = pd.DataFrame(np.exp(rng.normal(size=(60, 4)) * [0.4, 0.01, 0.6, 0.8]), columns=names)
    quality["chi2"] = 1e5 * (1 + np.arange(60) % 2)  # counts visits
    quality.loc[59, "airs_noise_scale"] = 1.2
    first = residual_distance(quality, training)
    assert first[59] > 0.98 and 0.2 < first[40:59].mean() < 0.8
    assert np.allclose(first, residual_distance(1000 * quality, training), atol=1e-6)


def test_lines_are_cut_without_loss() -> None:
    own, others = torch.ones(1, 3), torch.tensor([[0.0, 2.0, 5.0], [1.0, 1.0, -1.0]])
    ends, starts = pieces_of(own, others, 4)
    assert ends.shape == starts.shape == (1, 8, 3)
    sign = torch.tensor([1.0, -1.0] * 4)[:, None]
    assert torch.allclose((sign * (ends - starts)[0]).view(2, 4, 3).sum(1), own - others)


@pytest.mark.slow
def test_attributions_add_up_and_repeat(laptop: Weights, found: chapter.Latents) -> None:
    training, state = np.arange(16) < 12, np.random.get_state()[1].copy()  # noqa: NPY002
    given = (laptop, found.inputs, found.planet, training)
    both = attributions(*given, found.planet[[13, 3]].tolist(), background=3)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert both.missed() < 0.1 and both.shap.shape == (5, 2, 283) and both.outputs == output_rows()[0]
    total = both.shap.sum(axis=2) + both.planet_shap
    assert np.allclose(both.group_shap.sum(axis=2), total, atol=1e-3 * np.abs(total).max())
    one = attributions(*given, [int(found.planet[3])], background=3)
    assert np.array_equal(one.shap[:, 0], both.shap[:, 1])
    shift = 1e6 * run_network(laptop.network, Inputs(*(x[[13]] for x in found.inputs)))[0].shift.numpy()[0]
    assert np.allclose(both.value[:, 0], output_rows()[1] @ shift, atol=1e-2)
    assert all(p.requires_grad for p in laptop.network.parameters())  # the caller's network is left as it was
    with pytest.raises(UserError, match=r"planet -1 is not among.*Fix: "):
        attributions(*given, [-1])
    with pytest.raises(UserError, match=r"no training planet.*Fix: "):
        attributions(*given[:3], np.zeros(16, bool))


def test_every_input_has_a_group(laptop: Weights) -> None:
    node, planet = input_groups(laptop)
    assert len(node) == len(laptop.scaling.node_mean) and len(planet) == len(laptop.scaling.planet_mean)
    assert {*node, *planet} == {*range(len(INPUT_GROUPS))}
    assert np.bincount(planet)[INPUT_GROUPS.index("kind of spectrum")] == groups_of(laptop.prior).max() + 2


def test_steps_of_light_curves_are_mapped_where_the_network_uses_them(
    home: Path, laptop: Weights, found: chapter.Latents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of planets with a curve, inside and outside of the transit; a run without them says what it lacks."""
    uses, curve = replace(laptop, about={"fgs1": "input"}), torch.zeros(16, 80, 9)
    curve[:, 15:25, 0] = -2.0
    curve[3] = torch.nan
    seen = replace(found, inputs=found.inputs._replace(fgs1=curve))
    assert chapter.step_latents(laptop, seen, found.planet.tolist()) is None
    steps = chapter.step_latents(uses, seen, found.planet[2:5].tolist())
    assert steps is not None and steps.planet.tolist() == np.repeat(found.planet[[2, 4]], 80).tolist()
    assert np.array_equal(steps.transit, np.tile(np.isin(np.arange(80), np.arange(15, 25)), 2))
    assert np.array_equal(steps.step, np.tile(np.arange(80), 2))
    with torch.no_grad():
        expected = uses.network.encode_fgs1(curve[[4]])[1].detach()
    assert np.allclose(steps.latent[80:], expected[0].numpy(), atol=1e-6)

    run = Run(tmp_path / "run")
    folder = run.folder / "08_diagnostics/artifacts"
    folder.mkdir(parents=True)
    with pytest.raises(Absent, match="does not use FGS1's light curve"):
        step_map(run)
    monkeypatch.setattr(network_diagnostics, "umap_map", lambda latent, seed, **_: latent[:, :2])
    given = (folder, uses, seen, found.planet[2:5].tolist(), MapOptions(), 0, print)
    network_diagnostics._map_steps(*given)
    shown = step_map(run)
    assert shown.planet == steps.planet.tolist() and np.allclose(shown.points, steps.latent[:, :2], rtol=1e-4)
    monkeypatch.setattr(network_diagnostics, "umap_map", lacks_umap)
    network_diagnostics._map_steps(*given)
    with pytest.raises(Absent, match="needs umap-learn"):
        step_map(run)


def lacks_umap(*_: Any, **__: Any) -> None:
    raise MissingExtra("The map by UMAP", "umap-learn", "explain")


@pytest.mark.slow
def test_a_run_is_looked_at(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        network_diagnostics, "umap_map", lambda latent, seed, **_: latent[:, :2]
    )  # compiles for long, tested above
    told = look_closely(home / "run", tmp_path, True, 1, tell=said.append)
    assert told["files"] == [*LATENT_FILES] and told["network"] and not told["notes"] and len(said) == 3
    (planet, edges, share), shap = read_attention(tmp_path), read_attributions(tmp_path)
    positions = read_latents(tmp_path)
    assert np.array_equal(planet, positions.planet) and positions.training.sum() == told["training"]
    assert positions.umap.shape == positions.tsne.shape == (len(planet), 2) and share.shape[1] == len(edges.kind)
    ranks = (np.arange(16) + 0.5) / 16  # all are training planets
    for distance in (positions.latent_distance, positions.residual_distance):
        assert np.allclose(np.sort(distance), ranks)
    assert len(shap.planet) == 1 and shap.missed() < 0.2
    light = look_closely(home / "run", tmp_path, False)
    assert light["files"] == [*LATENT_FILES[:2]] and read_latents(tmp_path).umap.shape == (0, 2)
    assert np.array_equal(read_latents(tmp_path).latent_distance, positions.latent_distance)

    record = run_folder(home / "run", "outputs/checkpoints") / "predictors.json"
    before = record.read_text()
    try:
        factors = {"gaussian": json.loads(before)["factors"]["gaussian"]}
        record.write_text(json.dumps({**json.loads(before), "chosen": "gaussian", "factors": factors}))
        plain = look_closely(home / "run", tmp_path)
    finally:
        record.write_text(before)
    assert "no latents" in plain["notes"][0] and plain["files"] == [LATENT_FILES[0]] and not plain["network"]
    without = read_latents(tmp_path)
    assert without.latent.shape == (16, 0) and np.isnan(without.latent_distance).all()
    assert np.array_equal(without.residual_distance, positions.residual_distance)


@pytest.mark.slow
def test_without_umap_and_shap_everything_else_is_made(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("umap", "shap"):
        monkeypatch.setitem(sys.modules, name, None)
    told = look_closely(home / "run", tmp_path, True, 1)
    assert told["files"] == [*LATENT_FILES[:2]]
    found = read_latents(tmp_path)
    assert found.umap.shape == (0, 2) and found.tsne.shape == (16, 2)
    hints = [note.rpartition("Fix: ")[2] for note in told["notes"]]
    assert hints == ["pip install 'spectramind_nb[explain]'"] * 2


@pytest.mark.slow
def test_what_takes_long_is_computed_once(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counter[str]()

    def count(name: str, form: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **words: counted.update([name]) or form(*args, **words)

    monkeypatch.setattr(network_diagnostics, "umap_map", count("umap", lambda latent, seed, **_: latent[:, :2] + seed))
    monkeypatch.setattr(network_diagnostics, "tsne_map", count("tsne", lambda latent, seed, **_: latent[:, 2:4]))
    monkeypatch.setattr(explaining, "explain_planet", count("shap", explaining.explain_planet))
    one, other = labelled_planets(home / "run", RawFolder(home / "raw"))[0][:2]

    def look(name: str, planets: list[int], seed: int = 0, perplexity: float = 30.0) -> Counter[str]:
        before = counted.copy()
        kept = {"options": MapOptions(perplexity=perplexity), "kept": tmp_path / "kept"}
        look_closely(home / "run", tmp_path / name, True, planets, seed, **kept)  # type: ignore[arg-type]
        return counted - before

    assert look("first", [one]) == {"umap": 1, "tsne": 1, "shap": 1}
    assert look("again", [one]) == {}
    for name in LATENT_FILES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert look("more", [other, one]) == {"shap": 1}
    both, alone = (read_attributions(tmp_path / name) for name in ("more", "first"))
    assert both.planet.tolist() == [other, one] and np.array_equal(both.shap[:, 1:], alone.shap)
    assert look("near", [one], perplexity=5.0) == {"umap": 1, "tsne": 1}
    for path in (tmp_path / "kept").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-100])
    assert look("damaged", [one], perplexity=5.0) == {"umap": 1, "tsne": 1, "shap": 1}
    assert look("seed", [], seed=1) == {"umap": 1, "tsne": 1}
    assert len([*(tmp_path / "kept").iterdir()]) == 2, "what is of no use any more is gone"


def test_damaged_files_say_so(laptop: Weights, found: chapter.Latents, tmp_path: Path) -> None:
    training = np.arange(16) < 12
    made = attributions(laptop, found.inputs, found.planet, training, [], background=2)
    assert made.shap.shape == (5, 0, 283)
    path = write_attributions(tmp_path, made)
    assert read_attributions(tmp_path).outputs == made.outputs
    write_attributions(tmp_path, replace(made, outputs=made.outputs[:2]))
    with pytest.raises(ContractError, match=r"outputs: doesn't name each of 5.*Fix: "):
        read_attributions(tmp_path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ContractError, match=r"can't be read.*Fix: "):
        read_attributions(tmp_path)
    with pytest.raises(ContractError, match=r"is missing.*Fix: "):
        read_attention(tmp_path)
    edges = edges_of(laptop.network)
    chapter.write_attention(tmp_path, found.planet, replace(edges, kind=edges.kind[:7]), found.attention)
    with pytest.raises(ContractError, match=r"kinds: doesn't name each of.*Fix: "):
        read_attention(tmp_path)
    with pytest.raises(ContractError, match=r"share: is .*Fix: "):
        chapter.write_attention(tmp_path, found.planet, edges, found.attention[:, :3])


def test_test_planets_are_explained_first() -> None:
    planets, training = np.arange(10), np.arange(10) < 6
    assert set(some_to_explain(planets, training, 3)) <= {6, 7, 8, 9}
    assert {6, 7, 8, 9} < set(some_to_explain(planets, training, 7))
    assert len(some_to_explain(planets, training, 99)) == 10
    assert some_to_explain(planets, training, [7, 2]) == [7, 2]
    assert some_to_explain(planets, training, 5, 1) == some_to_explain(planets, training, 5, 1)
