"""Pretraining: what is hidden stays hidden, and both objectives learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.network.mamba import FGS1_CHANNELS
from spectramind_nb.network.model import Inputs, NetworkOptions, Scaling, SpectralNetwork, network_of
from spectramind_nb.network.pretraining import SHOWN, Contrast, MaskedAutoencoder, hidden_bins, hidden_steps
from spectramind_nb.network.trainer import TrainingData, TrainOptions, train_network

PLANETS, STEPS, NUMBERS = 24, 128, 5
SCALING = Scaling(1.0, np.zeros((2, N_BINS)), np.zeros(NUMBERS), np.ones(NUMBERS), np.zeros(6), np.ones(6))
SMALL = NetworkOptions(
    fgs1_width=8,
    fgs1_layers=1,
    airs_width=16,
    airs_layers=1,
    airs_heads=2,
    hidden=24,
    dropout=0,
    fgs1_dropout=0,
    airs_dropout=0,
)


def made(options: NetworkOptions = SMALL) -> SpectralNetwork:
    torch.manual_seed(0)
    network = network_of(options, SCALING)
    for layer in network.airs.layers:
        torch.nn.init.ones_(layer.get_parameter("gain"))
    return network


def made_up() -> Inputs:
    """Spectra of one bump each, and light curves that each planet's own frequency tells apart."""
    rng = np.random.default_rng(3)
    bins, steps = np.arange(N_BINS), np.arange(STEPS)
    nodes = 0.1 * rng.normal(size=(PLANETS, N_BINS, 6))
    nodes[..., :SHOWN] += 2 * np.exp(-0.5 * ((bins - rng.uniform(0, N_BINS, (PLANETS, 1))) / 60) ** 2)[..., None]
    fgs1 = 0.1 * rng.normal(size=(PLANETS, STEPS, len(FGS1_CHANNELS)))
    fgs1[..., 0] = np.abs(steps - 64) < 30
    fgs1[..., 1:4] += np.sin(steps[:, None] * rng.uniform(0.05, 0.5, (PLANETS, 1, 3)))
    arrays = nodes, np.zeros((PLANETS, NUMBERS)), np.ones((PLANETS, N_BINS)), np.ones(PLANETS), nodes[:, 1:, 0], fgs1
    return Inputs(*(torch.from_numpy(x).float() for x in arrays))


INPUTS = made_up()
NOTHING = torch.zeros(PLANETS, N_BINS)
DATA = TrainingData(INPUTS, NOTHING, NOTHING.double(), NOTHING[:, 0])


def test_whole_features_are_masked() -> None:
    bins = hidden_bins(400, torch.Generator().manual_seed(0))
    assert bins.any(dim=1).all() and bins.float().mean() < 0.4
    steps = hidden_steps(INPUTS.fgs1[..., 0], torch.Generator().manual_seed(0))
    assert not steps[:, :30].any() and 0.3 < steps[:, 40:90].float().mean() < 0.7


@pytest.mark.parametrize("part", ["nodes", "fgs1"])
def test_masked_inputs_do_not_reach_the_network(part: str) -> None:
    """If the guess doesn't depend on what is hidden, the error is a parabola in it, of curvature one."""
    masked = MaskedAutoencoder(made()).eval()
    values = INPUTS.nodes if part == "nodes" else INPUTS.fgs1
    draw = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    if part == "nodes":
        gone, fill = hidden_bins(PLANETS, draw()), masked.fill_spectrum
        moved = [torch.cat([c * gone[..., None] + values[..., :SHOWN], values[..., SHOWN:]], -1) for c in (-1, 0, 1)]
    else:
        gone, fill = hidden_steps(values[..., 0], draw()), masked.fill_curve
        shift = torch.nn.functional.pad(gone[..., None].float().expand(-1, -1, len(FGS1_CHANNELS) - 2), (1, 1))
        moved = [values + c * shift for c in (-1, 0, 1)]
    below, middle, above = (float(fill(x, draw()).detach()) for x in moved)
    share = 1.0 if part == "nodes" else (len(FGS1_CHANNELS) - 2) / (len(FGS1_CHANNELS) - 1)
    assert below + above - 2 * middle == pytest.approx(2 * share, rel=1e-3)


@pytest.mark.slow
def test_error_bars_of_what_is_filled_in_are_learned() -> None:
    """Half of the planets are noise of 1, half of .1, and a number that stays visible says which."""
    rng = np.random.default_rng(5)
    noise = np.where(np.arange(120) % 2, 1.0, 0.1)[:, None, None]
    nodes = np.concatenate([noise * rng.normal(size=(120, N_BINS, SHOWN)), np.broadcast_to(noise, (120, N_BINS, 3))], 2)
    inputs = Inputs(torch.from_numpy(nodes).float(), *(x.repeat(5, *[1] * (x.ndim - 1)) for x in INPUTS[1:]))
    nothing = torch.zeros(120, N_BINS)
    inputs = inputs._replace(fgs1=inputs.fgs1[:, :1] * torch.nan)
    data = TrainingData(inputs, nothing, nothing.double(), nothing[:, 0])
    network = made(replace(SMALL, log_sigma=True))
    masked, how = MaskedAutoencoder(network), TrainOptions(epochs=12, batch=12, lr=1e-2, average=0.9)
    train_network(network, lambda _: data, 120, data, how, objective=masked)
    expected = np.log([0.1, 1.0]).mean() + 0.5  # the entropy, less the same constant
    assert float(masked.eval()(data).detach()) == pytest.approx(expected, abs=0.1)


def test_a_view_holds_only_its_own_half() -> None:
    contrast = Contrast(made()).eval()
    half = torch.arange(STEPS) % 4 < 2
    changed = INPUTS.fgs1.clone()
    changed[:, ~half, 1:] += 1
    assert torch.allclose(contrast.look(INPUTS.fgs1, half), contrast.look(changed, half), atol=1e-6)
    assert not torch.allclose(contrast.look(INPUTS.fgs1, ~half), contrast.look(changed, ~half), atol=1e-2)


@pytest.mark.parametrize("kind", [MaskedAutoencoder, Contrast])
def test_both_learn_and_leave_the_network(kind: type[MaskedAutoencoder] | type[Contrast]) -> None:
    network = made()
    objective = kind(network)
    with torch.no_grad():
        before = float(objective.eval()(DATA))
    options = TrainOptions(epochs=12, batch=8, lr=1e-2, average=0.8)
    found = train_network(network, lambda _: DATA, PLANETS, DATA, options, objective=objective)
    assert min(found.held_out) < 0.7 * before
    assert objective.network is network and torch.isfinite(network(INPUTS).shift).all()


def test_without_fgs1_layers() -> None:
    with pytest.raises(ValueError, match="fgs1_layers of at least 1"):
        Contrast(made(NetworkOptions(fgs1_layers=0, airs_width=16, airs_layers=1)))
    none = DATA._replace(inputs=INPUTS._replace(fgs1=torch.full((PLANETS, 1, len(FGS1_CHANNELS)), np.nan)))
    assert float(Contrast(made())(none).detach()) == 0.0
    assert torch.isfinite(MaskedAutoencoder(made()).eval()(none))
