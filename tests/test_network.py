"""The network: it starts at the Gaussian prediction, handles missing inputs, exports unchanged, and learns."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_chain import spectramind
from safetensors import safe_open
from safetensors.torch import save_file

from spectramind_nb.core.errors import ContractError, UserError
from spectramind_nb.core.files import network_file
from spectramind_nb.core.instrument import N_AIRS_BINS, N_BINS
from spectramind_nb.core.versions import VERSIONS, versions_in
from spectramind_nb.network.decoders import FUSIONS, HEADS, Fusion, MuDecoder, ResidualFlow, pinball
from spectramind_nb.network.examples import Noise, Spectra, examples_of_fit, spoil
from spectramind_nb.network.mamba import FGS1_CHANNELS
from spectramind_nb.network.model import (
    OUTLIER_ODDS,
    SHIFT_FACTOR,
    Inputs,
    NetworkOptions,
    NetworkOutput,
    SpectralNetwork,
    Start,
    apply_corrections,
    learn_scaling,
    network_inputs,
    network_of,
    place_of,
    run_network,
    saved_bytes,
    training_memory,
)
from spectramind_nb.network.trainer import (
    TrainingData,
    TrainOptions,
    gaussian_losses,
    half_precision,
    likelihood_loss,
    train_network,
    training_data,
)
from spectramind_nb.network.weights import (
    SINGLE,
    Exported,
    Weights,
    example_inputs,
    export_onnx,
    export_torchscript,
    read_network,
    restamp,
    write_network,
)
from spectramind_nb.prior.learning import learn_prior
from spectramind_nb.prior.posterior import Combined
from spectramind_nb.simulator.population import physics

PLANETS, STEPS = 12, 128
SMALL = NetworkOptions(
    fgs1_width=8,
    fgs1_layers=1,
    airs_width=16,
    airs_layers=1,
    airs_heads=2,
    hidden=24,
    dropout=0.0,
    fgs1_dropout=0.0,
    airs_dropout=0.0,
)


def made_up(planets: int = PLANETS, seed: int = 0) -> tuple[Start, np.ndarray]:
    """Gaussian predictions, and spectra near them."""
    rng = np.random.default_rng(seed)
    truth = 0.01 + 2e-5 * np.cumsum(rng.normal(size=(planets, N_BINS)), axis=1)
    ones, each = np.ones(planets), np.ones((planets, N_AIRS_BINS))
    combined = Combined(
        truth + 5e-5 * rng.normal(size=truth.shape),
        4e-9 * ones,
        1e-9 * ones,
        2e-9 * each,
        1e-10 * rng.normal(size=each.shape),
        -900 * ones,
        kinds := rng.dirichlet(np.ones(3), planets),
        kinds[:, 2],
    )
    depth, place = truth + 1e-4 * rng.normal(size=truth.shape), rng.normal(size=(planets, 3))
    return Start(depth, np.full(truth.shape, 1e-8), 2e-9 * ones, combined, rng.normal(-9, 0.3, planets), place), truth


START, TRUTH = made_up()
SCALING = learn_scaling(START, TRUTH)
CURVES_FGS1 = np.random.default_rng(1).normal(size=(PLANETS, STEPS, len(FGS1_CHANNELS))).astype(np.float32)
INPUTS = network_inputs(START, SCALING, CURVES_FGS1)


def network(options: NetworkOptions = SMALL, stirred: float = 0.0) -> SpectralNetwork:
    """A new one, or one whose parameters have all been moved, as if it were trained."""
    torch.manual_seed(0)
    made = network_of(options, SCALING).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(stirred * torch.randn_like(parameter))
    return made


def outcome(of: SpectralNetwork, inputs: Inputs = INPUTS) -> NetworkOutput:
    (found,) = run_network(of, inputs, batch=1000)
    return found


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("head", HEADS)
def test_an_untrained_network_gives_the_gaussian_prediction(fusion: str, head: str) -> None:
    combined = apply_corrections(
        START.combined, run_network(network(replace(SMALL, fusion=fusion, head=head)), INPUTS, batch=5)
    )
    for name in ("mean", "fgs1_variance", "mean_variance", "shape_variance", "cross"):
        ours, theirs = getattr(combined, name), getattr(START.combined, name)
        assert np.allclose(ours, theirs, rtol=3e-3, atol=1e-12), name


def test_an_outlying_planet_keeps_the_gaussian_prediction() -> None:
    kinds = np.tile([0.25, 0.25, 0.5], (PLANETS, 1))
    kinds[0], kinds[1] = [0, 0, 1], [0.5, 0.5, 0]
    combined, found = replace(START.combined, kinds=kinds, unknown=kinds[:, 2]), outcome(network(stirred=0.05))
    after = apply_corrections(combined, [found])
    moved = (after.mean - combined.mean) / found.shift.numpy()
    for planet, believed in enumerate([0, SHIFT_FACTOR, SHIFT_FACTOR / (1 + OUTLIER_ODDS)]):
        assert np.allclose(moved[planet], believed, rtol=1e-3, atol=1e-6)
    widened = np.log(after.mean_variance / combined.mean_variance) / 2
    full = np.log(found.mean_std.numpy() / np.sqrt(combined.mean_variance))
    assert np.allclose(widened, (1 - kinds[:, 2]) * full, atol=1e-5) and abs(full).max() > 0.01


@pytest.mark.parametrize("changes", [{"fusion": "none"}, {"head": "none"}, {"without": ("none",)}])
def test_unknown_kinds_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="none"):
        network(replace(SMALL, **changes))  # type: ignore[arg-type]


def test_every_parameter_learns() -> None:
    made = network(replace(SMALL, fusion="cross_attend", head="flow"), stirred=0.02)
    found = made(INPUTS)
    (found.shift / INPUTS.std).square().mean().add(found.sigma.log().mean()).backward()
    idle = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not {*idle} - {"no_fgs1", "airs.layers.0.attention.bias"}, idle


def test_missing_inputs_change_nothing_else() -> None:
    unknown = replace(START, log_scale=np.full(PLANETS, np.nan), place=np.full((PLANETS, 3), np.nan))
    fgs1 = CURVES_FGS1.copy()
    fgs1[::2] = np.nan
    made = network(stirred=0.05)
    found, none = outcome(made, network_inputs(unknown, SCALING, fgs1)), outcome(made, network_inputs(unknown, SCALING))
    assert torch.isfinite(found.shift).all() and torch.allclose(
        found.shift[::2], none.shift[::2], rtol=1e-4, atol=1e-10
    )
    assert not torch.allclose(found.shift[1::2], none.shift[1::2], rtol=1e-2, atol=1e-10)
    place = place_of({"Ts": np.array([5000.0, np.nan])}, np.array([0.01, 0.01]))
    assert np.isnan(place).all()


def test_planets_do_not_influence_each_other() -> None:
    made = network(stirred=0.05)
    alone = outcome(made, Inputs(*(x[3:4] for x in INPUTS)))
    assert torch.allclose(alone.shift[0], outcome(made).shift[3], rtol=1e-4, atol=1e-9)


def test_memory_grows_with_the_batch_as_estimated() -> None:
    made, batch = network(replace(SMALL, airs_width=32, airs_layers=2)), Inputs(*(x[:6] for x in INPUTS))
    foretold = training_memory(made, Inputs(*(x[:1] for x in INPUTS)), 6)
    weights = 5 * 4 * sum(p.numel() for p in made.parameters())
    assert foretold == pytest.approx(weights + saved_bytes(made, batch), rel=0.03)
    assert foretold > weights + 4 * 6 * 2 * N_BINS * 32


@pytest.mark.parametrize("head", HEADS)
def test_torchscript_says_the_same(tmp_path: Path, head: str) -> None:
    made = network(replace(SMALL, head=head, fusion="cross_attend"), stirred=0.05)
    two = Inputs(*(x[:2] for x in INPUTS))
    script = torch.jit.load(str(export_torchscript(Exported(made), two, tmp_path / "network.pt")))
    expected = outcome(made)
    for found, theirs in zip(script(*INPUTS), (expected.shift, expected.sigma), strict=True):
        assert torch.allclose(found, theirs, rtol=1e-3, atol=1e-8)


def test_the_command_exports_what_predicts(tmp_path: Path) -> None:
    """For more planets than the export was traced with; another format or name is refused."""
    out = tmp_path / "mine.pt"
    done = spectramind("export", "--format", "torchscript", "--steps", "30", "--out", str(out))
    assert done.exit_code == 0 and "output differs by " in done.output
    weights = read_network(network_file("laptop"))
    inputs, evidence = example_inputs(weights, 5, 30), weights.evidence
    assert evidence is not None
    figures = evidence.mean + evidence.std * torch.linspace(-2, 2, 5)[:, None]
    (expected,) = run_network(weights.network, inputs)
    shift, sigma, *own = torch.jit.load(str(out))(*inputs, figures)
    assert torch.allclose(shift, expected.shift, rtol=1e-4, atol=1e-9) and torch.allclose(sigma, expected.sigma)
    with torch.inference_mode():
        theirs = evidence.eval()(figures)
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-6) for one, other in zip(own, theirs, strict=True))
    assert theirs[0].abs().max() > 0.01  # the second network has something to say
    assert "known are torchscript, onnx" in spectramind("export", "--format", "pickle").stderr
    assert "let it end in .onnx" in spectramind("export", "--format", "onnx", "--out", str(out)).stderr


@pytest.mark.parametrize(("fusion", "head"), zip(FUSIONS, HEADS, strict=True))
@pytest.mark.slow
def test_onnx_says_the_same(tmp_path: Path, fusion: str, head: str) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime comes with the dev extra")
    made = network(replace(SMALL, fusion=fusion, head=head), stirred=0.05)
    path = export_onnx(Exported(made), Inputs(*(x[:2] for x in INPUTS)), tmp_path / "network.onnx")
    session = runtime.InferenceSession(str(path))
    given = {name: value.numpy() for name, value in zip(Inputs._fields, INPUTS, strict=True)}
    expected = outcome(made)
    for found, theirs in zip(session.run(None, given), (expected.shift, expected.sigma), strict=True):
        assert np.allclose(found, theirs.numpy(), rtol=1e-3, atol=1e-8)


# --- Decoders ----------------------------------------------------------------------------------------------------


def test_looking_back_finds_the_stretch_that_is_asked_for() -> None:
    torch.manual_seed(0)
    fusion, steps = Fusion("cross_attend", 8, 4, 3, 16), torch.zeros(2, STEPS, 8)
    with torch.no_grad():
        fusion.tell.weight.copy_(torch.cat([torch.eye(8), torch.eye(8)]))
        fusion.tell.bias.zero_()
        fusion.ask.weight.zero_()
        fusion.ask.bias.copy_(40 * torch.eye(8)[5])
    steps[1, 60:62, 5] = 3.0
    found = fusion.look_back(steps, torch.zeros(2, 7)).detach()
    assert found[0].abs().max() == 0 and float(found[1, 5]) == pytest.approx(3.0, rel=1e-3)


def test_coarser_sums_are_smooth() -> None:
    torch.manual_seed(0)
    decoder = MuDecoder((64, 32, 283), 8, 4)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter)
    move, mean, sums = decoder(torch.randn(3, 8), torch.randn(3, N_BINS, 4))
    assert move.shape == (3, N_BINS) and mean.shape == (3,) and [s.shape for s in sums] == [(3, N_AIRS_BINS)] * 2
    bends = [(total.diff(n=2, dim=1).abs() > 1e-3).sum(dim=1).max() for total in sums]
    assert bends[0] <= 2 * 32 < bends[1] <= 2 * (32 + 64)


def test_a_flow_is_a_density_with_these_moments() -> None:
    torch.manual_seed(0)
    flow, fused = ResidualFlow(4), torch.randn(3, 4)
    at_first = flow.log_density(fused, torch.linspace(-4, 4, 9).expand(3, -1))
    assert torch.allclose(at_first, torch.distributions.Normal(0.0, 1.0).log_prob(torch.linspace(-4, 4, 9)), atol=1e-4)
    torch.nn.init.normal_(flow.knots.weight, std=0.3)
    grid = torch.linspace(-9, 9, 6001).expand(3, -1)
    density = flow.log_density(fused, grid).exp() * (grid[0, 1] - grid[0, 0])
    mean = (density * grid).sum(1)
    std = (density * (grid - mean[:, None]) ** 2).sum(1).sqrt()
    assert torch.allclose(density.sum(1), torch.ones(3), atol=1e-3)
    for found, expected in zip(flow.moments(fused), (mean, std), strict=True):
        assert torch.allclose(found, expected, rtol=0.03, atol=0.01)


@pytest.mark.slow
def test_the_pinball_loss_is_least_at_the_percentiles() -> None:
    pulls = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 200_000))).float()
    grid = torch.linspace(-2, 2, 401)
    loss = torch.stack(
        [pinball(torch.full((1, 1, 3), float(q)).expand(1, pulls.shape[1], 3), pulls).mean() for q in grid]
    )
    alone = [float(grid[pinball_at(level, pulls, grid).argmin()]) for level in (0.1, 0.5, 0.9)]
    assert np.allclose(alone, [-1.2816, 0, 1.2816], atol=0.03) and loss.argmin() == pytest.approx(200, abs=3)


def pinball_at(level: float, pulls: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """The same loss of one percentile, written out."""
    miss = pulls - grid[:, None]
    return torch.where(miss > 0, level * miss, (level - 1) * miss).mean(1)


# --- Pairs -------------------------------------------------------------------------------------------------------


def bank(count: int = 60) -> Spectra:
    """Made-up spectra."""
    rng = np.random.default_rng(2)
    about = 1e-4 * np.cumsum(rng.normal(size=(count, N_BINS)), axis=1) / 10
    about -= about[:, 1:].mean(axis=1, keepdims=True)
    return Spectra(about, np.full(count, 0.01), rng.normal(-9, 0.2, count), rng.normal(size=(count, 3)))


def test_errors_of_pairs_are_those_of_the_fit() -> None:
    prior = learn_prior(bank().about + 0.01 + 1e-4 * np.arange(60)[:, None])
    rng = np.random.default_rng(3)
    noise = Noise(
        np.full((1, N_BINS), 1e-9), 2e-5 * rng.normal(size=(1, N_BINS, 2)), np.array([0.01]), np.array([-9.0])
    )
    pairs = examples_of_fit(rng, bank(), noise, prior, 0, 1500, spoiled=0.0)
    error, nuisance = pairs.start.depth - pairs.truth, noise.nuisance[0]
    expected = np.diag(noise.noise_variance[0]) + nuisance @ nuisance.T
    white = np.linalg.solve(np.linalg.cholesky(expected), error.T)
    z = (np.cov(white) - np.eye(N_BINS)) * np.sqrt(1500 / (1 + np.eye(N_BINS)))
    assert 0.98 < z.std() < 1.02 and abs(z.mean()) < 0.02
    assert np.allclose(pairs.start.variance, np.diag(expected)) and np.isclose(
        pairs.start.level_variance[0], expected[1:, 1:].mean()
    )


def test_only_a_share_is_spoiled() -> None:
    own = bank(4000)
    spoiled = spoil(np.random.default_rng(4), own, bank(), 0.3)
    shape = (spoiled.about != own.about).any(axis=1)
    place = (spoiled.place != own.place).any(axis=1)
    assert not (shape & place).any() and (shape | place).mean() == pytest.approx(0.3, abs=0.03)
    assert shape.mean() == pytest.approx(0.3 * 0.875, abs=0.03) and np.isfinite(spoiled.about).all()
    assert np.array_equal(spoil(np.random.default_rng(4), own, bank(), 0.0).about, own.about)


# --- Training ----------------------------------------------------------------------------------------------------


def source(epoch: int, count: int = 96) -> TrainingData:
    """Errors that follow from what the network sees: the first planet's number gives their sign."""
    start, _ = made_up(count, seed=10 + epoch)
    data = training_data(start, start.combined.mean, SCALING)
    return data._replace(error=2 * data.inputs.std * torch.tanh(data.inputs.planet[:, :1]))


OPTIONS = TrainOptions(epochs=4, batch=16, lr=5e-3, average=0.9)
PLAIN = replace(SMALL, fgs1_layers=0)


def test_it_learns_what_can_be_learned() -> None:
    made = network(PLAIN)
    progress = train_network(made, source, 96, source(90), replace(OPTIONS, epochs=8))
    assert progress.held_out[-1] < -0.5 and progress.best == int(np.argmin(progress.held_out)) + 1
    held_out = source(91)
    shift = outcome(made, held_out.inputs).shift
    assert float(((held_out.error - shift) / held_out.inputs.std).square().mean()) < 1.0


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_of_an_untrained_network_is_the_gaussian_predictors(head: str) -> None:
    """Zero, whatever the head."""
    error = torch.from_numpy(TRUTH - START.combined.mean).float()
    made = network(replace(SMALL, head=head))
    _, before = gaussian_losses(INPUTS, error)
    assert torch.allclose(likelihood_loss(made, made(INPUTS), error), before, atol=5e-3)


def test_a_cut_run_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    options, path = replace(OPTIONS, epochs=3), tmp_path / "checkpoint.pt"
    dropped = replace(PLAIN, dropout=0.2)
    whole = network(dropped)
    expected = train_network(whole, source, 96, source(90), options)

    def cut(epoch: int) -> TrainingData:
        if epoch == 2:
            raise KeyboardInterrupt
        return source(epoch)

    with pytest.raises(KeyboardInterrupt):
        train_network(network(dropped), cut, 96, source(90), options, checkpoint=path)
    resumed = network(dropped, stirred=1.0)
    found = train_network(resumed, source, 96, source(90), options, checkpoint=path)
    assert found.loss == expected.loss and found.held_out == expected.held_out
    assert all(
        torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True)
    )
    with pytest.raises(UserError, match="another network or plan"):
        train_network(network(dropped), source, 96, source(90), replace(options, lr=1e-4), checkpoint=path)
    with pytest.raises(UserError, match="more pairs"):
        train_network(network(dropped), source, 8, source(90), options)


def test_a_batch_without_finite_loss_is_left_out_and_an_epoch_ends_training() -> None:
    def spoiled(count: int) -> Callable[[int], TrainingData]:
        def data(epoch: int) -> TrainingData:
            drawn = source(epoch)
            drawn.error[:count] = torch.nan
            return drawn

        return data

    made = network(PLAIN)
    progress = train_network(made, spoiled(1), 96, source(90), OPTIONS)
    assert np.isfinite(progress.loss + progress.held_out).all() and progress.best > 0
    assert all(value.isfinite().all() for value in made.state_dict().values())
    with pytest.raises(UserError, match=r"loss of training is not finite in epoch 1. Fix: train.amp=false"):
        train_network(network(PLAIN), spoiled(96), 96, source(90), OPTIONS)
    with pytest.raises(UserError, match="loss of held-out planets is not finite"):
        train_network(network(PLAIN), source, 96, spoiled(96)(1), OPTIONS)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04half", b"\x00" * 99, b"no archive"])
def test_a_damaged_checkpoint_is_named(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(damage)
    with pytest.raises(ContractError, match=r"checkpoint.pt: checkpoint: can't be read.*Fix: remove it"):
        train_network(network(PLAIN), source, 96, source(90), OPTIONS, checkpoint=tmp_path / "checkpoint.pt")


def test_it_stops_early_where_nothing_is_gained() -> None:
    def noise(epoch: int) -> TrainingData:
        data = source(epoch)
        return data._replace(error=data.inputs.std * torch.randn_like(data.error))

    progress = train_network(network(PLAIN), noise, 96, noise(90), replace(OPTIONS, epochs=30, lr=0.05, patience=2))
    assert progress.epoch < 30 and progress.epoch == progress.best + 2


KILLED = """
import os, signal, sys, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads({threads})
from pathlib import Path
import test_network as t
kill = lambda progress, seconds: os.kill(os.getpid(), signal.SIGKILL)
made = t.network(t.replace(t.PLAIN, dropout=0.2))
t.train_network(made, t.source, 96, t.source(90), t.replace(t.OPTIONS, epochs=3), Path({path!r}), kill)
"""


@pytest.mark.slow
def test_a_killed_process_goes_on_where_it_was(tmp_path: Path) -> None:
    dropped, options, path = replace(PLAIN, dropout=0.2), replace(OPTIONS, epochs=3), tmp_path / "checkpoint.pt"
    script = KILLED.format(tests=str(Path(__file__).parent), threads=torch.get_num_threads(), path=str(path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert torch.load(path, weights_only=True)["progress"]["epoch"] == 1
    whole, resumed = network(dropped), network(dropped, stirred=1.0)
    expected = train_network(whole, source, 96, source(90), options)
    found = train_network(resumed, source, 96, source(90), options, checkpoint=path)
    assert found == expected
    assert all(map(torch.equal, resumed.state_dict().values(), whole.state_dict().values()))


def with_curves(epoch: int) -> TrainingData:
    """The same, with light curves."""
    data = source(epoch, 48)
    fgs1 = torch.from_numpy(np.random.default_rng(epoch).normal(size=(48, STEPS, len(FGS1_CHANNELS)))).float()
    return data._replace(inputs=data.inputs._replace(fgs1=fgs1))


def test_half_precision_learns_the_same() -> None:
    options = replace(OPTIONS, epochs=2)
    found = [
        train_network(network(), with_curves, 48, with_curves(90), replace(options, amp=amp)) for amp in (False, True)
    ]
    assert np.allclose(found[0].held_out, found[1].held_out, rtol=0.05, atol=0.02) and np.isfinite(found[1].loss).all()


def test_half_precision_is_what_the_gpu_has(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, found = torch.device("cuda"), []
    for supported in (lambda including_emulation=True: including_emulation, lambda: True):  # a T4; an older torch
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
        found.append(half_precision(cuda))
    assert found == [torch.float16, torch.bfloat16] and half_precision(torch.device("cpu")) == torch.bfloat16


# --- Weights -----------------------------------------------------------------------------------------------------


def test_weights_come_back_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    made = network(replace(SMALL, without=("seam",)), stirred=0.05)
    weights = Weights(made, SCALING, learn_prior(TRUTH), physics())
    path = write_network(tmp_path / "network.safetensors", weights)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode, "others may read it, as any file"
    again = read_network(path)
    assert again.about == weights.about and torch.equal(outcome(again.network).shift, outcome(made).shift)
    single = {name: getattr(weights.prior, name).astype(np.float32) for name in SINGLE}
    for ours, theirs in ((again.scaling, SCALING), (again.prior, replace(weights.prior, **single))):
        assert all(np.array_equal(value, getattr(theirs, k)) for k, value in vars(ours).items() if "star" not in k)
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"}", 8) + len(whole) // 2] ^= 64  # one bit of an array
    path.write_bytes(whole)
    with pytest.raises(ContractError, match="checksum: is that of other arrays"):
        read_network(path)
    write_network(path, replace(weights, scaling=replace(SCALING, unit=float("nan"))))
    with pytest.raises(ContractError, match=r"scaling\.unit: holds numbers that are not finite"):
        read_network(path)
    path.write_bytes(whole[:200])
    for bad, words in ((path, "not a readable network"), (tmp_path / "none.safetensors", "is missing")):
        with pytest.raises(ContractError, match=words):
            read_network(bad)


def change(path: Path, facts: dict[str, str], scale: float = 1.0) -> None:
    """Change entries of a file of weights, and its recorded output."""
    with safe_open(path, "pt") as archive:
        arrays, about = {name: archive.get_tensor(name) for name in archive.keys()}, archive.metadata()  # noqa: SIM118
    save_file(arrays | {"reference.output": arrays["reference.output"] * scale}, path, about | facts)


def test_weights_of_another_version_are_refused_and_can_be_stamped_again(tmp_path: Path) -> None:
    weights = Weights(network(stirred=0.05), SCALING, learn_prior(TRUTH), {"seed": "3"} | physics())
    path = write_network(tmp_path / "mine.safetensors", weights)
    for name in ("inputs", "edges", "network", "prior", "simulator"):
        write_network(path, weights)
        change(path, {f"{name}_version": "9"})
        with pytest.raises(ContractError, match=rf"the file has {name} 9, this code has {name} {VERSIONS[name]}\. Fix"):
            read_network(path)
    with pytest.raises(ContractError, match="--accept-simulator"):
        restamp(path)
    unknown = write_network(tmp_path / "old.safetensors", replace(weights, about={"simulator": "0"}))
    for use in (read_network, restamp):
        with pytest.raises(ContractError, match="the file has simulator 0"):
            use(unknown)
    restamp(path, accept_simulator=True)
    change(path, {"inputs_version": "9"})
    assert f"inputs {VERSIONS['inputs']}" in restamp(path) and read_network(path).about == weights.about
    assert torch.equal(outcome(read_network(path).network).shift, outcome(weights.network).shift)
    change(path, {"inputs_version": "9"}, 1 + 1e-5)
    before = path.read_bytes()
    with pytest.raises(ContractError, match=r"reference.output: differs by up to 1\.0e-05"):
        restamp(path)
    assert path.read_bytes() == before


def test_the_shipped_weights_are_of_this_simulator() -> None:
    path = network_file("laptop")
    weights = read_network(path)
    assert versions_in(weights.about) == {"simulator": VERSIONS["simulator"]}, "train them again: see their model card"
    assert {*json.loads(weights.about["factors"])} == {"gaussian", "neural"} and path.stat().st_size < 10e6
