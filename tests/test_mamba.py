"""The Mamba layer against an implementation of others, and what the encoder promises."""

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from spectramind_nb.network.mamba import FGS1_CHANNELS, MOST, Fgs1Encoder, Mamba, MambaLayer, fgs1_inputs
from spectramind_nb.network.selective_scan import ENGINES, selective_scan

STEPS = 60


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "mamba_ssm"])
def test_a_state_dict_loads_into_mambapy_and_back(engine: str) -> None:
    mambapy = pytest.importorskip("mambapy.mamba", reason="mambapy comes with the dev extra")
    torch.manual_seed(0)
    theirs = mambapy.MambaBlock(mambapy.MambaConfig(d_model=32, n_layers=1))
    ours = Mamba(32, engine=engine)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    given = [torch.randn(2, STEPS, 32, requires_grad=True) for _ in range(1)]

    def outcome(layer: torch.nn.Module) -> list[Tensor]:
        y = layer(given[0])
        return [y, *torch.autograd.grad((y**2).sum(), [given[0], *dict(sorted(layer.named_parameters())).values()])]

    for found, expected in zip(outcome(ours), outcome(theirs), strict=True):
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_kernel_of_the_authors_agrees() -> None:
    theirs = pytest.importorskip("mamba_ssm", reason="mamba-ssm comes with the gpu extra and needs CUDA")
    ours, x = Mamba(32).cuda(), torch.randn(2, 1024, 32).cuda()
    peer = theirs.Mamba(32).cuda()
    peer.load_state_dict(ours.state_dict())
    assert torch.allclose(ours(x), peer(x), rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def authors(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., torch.Tensor]:
    """The reference scan of mamba-ssm, built without CUDA into a folder of its own.

    The package imports its compiled kernels eagerly, so the function alone is taken from its file.
    """
    folder = tmp_path_factory.mktemp("mamba")
    words = ["install", "--quiet", "--no-build-isolation", "--no-deps", "--target", str(folder)]
    env = {**os.environ, "MAMBA_SKIP_CUDA_BUILD": "TRUE", "MAMBA_FORCE_BUILD": "TRUE"}
    call = [sys.executable, "-m", "pip", *words, "mamba-ssm>=2.2,<3", "einops"]
    built = subprocess.run(call, env=env, capture_output=True, text=True, check=False, timeout=600)
    path = folder / "mamba_ssm/ops/selective_scan_interface.py"
    if built.returncode or not path.is_file():
        pytest.skip(f"mamba-ssm can't be built here: {built.stderr.strip().splitlines()[-1:]}")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wanted = [node for node in tree.body if getattr(node, "name", "") == "selective_scan_ref"]
    sys.path.insert(0, str(folder))
    try:
        einops = importlib.import_module("einops")
    finally:
        sys.path.remove(str(folder))
    known = {"torch": torch, "F": torch.nn.functional, "rearrange": einops.rearrange, "repeat": einops.repeat}
    exec(compile(ast.Module(wanted, []), str(path), "exec"), known)
    return known["selective_scan_ref"]  # type: ignore[return-value]


@pytest.mark.slow
def test_the_reference_of_the_authors_agrees_on_the_cpu(authors: Callable[..., torch.Tensor]) -> None:
    """Of mamba-ssm: (batch, D, T), A (D, N), B and C (batch, N, T)."""
    torch.manual_seed(0)
    u, delta = torch.randn(2, 50, 6), torch.nn.functional.softplus(torch.randn(2, 50, 6))
    a, b, c = -torch.rand(6, 4), torch.randn(2, 50, 4), torch.randn(2, 50, 4)
    expected = authors(*(x.transpose(1, 2) for x in (u, delta)), a, *(x.transpose(1, 2) for x in (b, c)))
    for engine in ("loop", "doubling", "compiled"):
        assert torch.allclose(selective_scan(u, delta, a, b, c, engine).transpose(1, 2), expected, rtol=1e-4, atol=1e-5)


def test_time_turned_round_turns_both_directions_round() -> None:
    torch.manual_seed(0)
    layer, x = MambaLayer(16, bidir=True, dropout=0.0), torch.randn(2, STEPS, 16)
    assert layer.backward_in_time is not None
    turned = MambaLayer(16, bidir=True, dropout=0.0)
    turned.load_state_dict(layer.state_dict())
    turned.onward, turned.backward_in_time = turned.backward_in_time, turned.onward
    assert torch.allclose(turned(x.flip(1)).flip(1), layer(x), atol=1e-5)


def test_the_encoder_tells_in_from_out_of_transit() -> None:
    steps, shape = torch.zeros(1, STEPS, 2), torch.zeros(1, STEPS)
    steps[:, 20:40], shape[:, 20:40] = 3.0, 1.0
    within, without = Fgs1Encoder.in_and_out(steps, shape)
    assert torch.allclose(within, torch.tensor(3.0), rtol=1e-3) and without.abs().max() < 1e-6


def test_planets_of_a_batch_are_encoded_alone() -> None:
    torch.manual_seed(0)
    encoder, light = Fgs1Encoder(16, 2).eval(), torch.randn(3, STEPS, len(FGS1_CHANNELS))
    latent, every = encoder(light)
    assert latent.shape == (3, 16) and every.shape == (3, STEPS, 16)
    for k, (alone, steps) in enumerate(map(encoder, light.split(1))):
        assert torch.allclose(alone[0], latent[k], atol=1e-5) and torch.allclose(steps[0], every[k], atol=1e-5)
    assert not torch.allclose(latent[0], latent[1], atol=1e-3)


def white_and_fit(
    noise: float, visits: int = 2, half_h: float = 1.5
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    time = np.tile(np.linspace(0, 7.5, STEPS), visits)
    visit = np.repeat(np.arange(visits), STEPS)
    model = 1 - 0.01 * (np.abs(time - 3.75) < half_h)
    drift = 1e-3 * (time - 3.75)
    model /= np.median(model)  # as a run normalises light curves
    flux = model * (1 + drift) + noise * rng.normal(size=len(time))
    pointing = rng.normal(0, 0.1, (len(time), 2))
    white = {"time": time, "visit": visit, "centroid": pointing, "jitter": pointing}
    fit = {"visit": visit, "channel": np.zeros(len(time)), "white_flux": flux}
    return white, fit | {"white_model": model * (1 + drift), "white_drift": drift}


def test_inputs_are_of_order_one_whatever_the_noise() -> None:
    for noise in (1e-5, 1e-3):
        inputs = fgs1_inputs(*white_and_fit(noise), visit=1)
        assert inputs.shape == (STEPS, len(FGS1_CHANNELS)) and np.abs(inputs).max() <= MOST
        assert inputs[:, 1].std() == pytest.approx(1, abs=0.3) and set(inputs[:, 0]) == {0.0, 1.0}


@pytest.mark.parametrize("half_h", [0.3, 1.5, 2.5, 3.4])
def test_the_shape_is_relative_to_the_light_out_of_transit(half_h: float) -> None:
    white, fit = white_and_fit(1e-4, half_h=half_h)  # beyond 1.9 h the median lies in transit
    inside = np.abs(white["time"][:STEPS] - 3.75) < half_h
    assert fgs1_inputs(white, fit, visit=0)[:, 0] == pytest.approx(inside.astype(float), abs=1e-6)


def test_missing_pointing_is_no_news() -> None:
    white, fit = white_and_fit(1e-4)
    expected = fgs1_inputs(white, fit, visit=0)
    assert expected[:, 4:6].any(axis=0).all()
    expected[:, 4:6] = 0
    white["centroid"] = np.full_like(white["centroid"], np.nan)
    assert np.array_equal(fgs1_inputs(white, fit, visit=0), expected)
