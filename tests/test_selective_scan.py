"""The selective scan: every engine against the loop, in value and gradient; what it promises on odd shapes."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spectramind_nb.network.selective_scan import engine_for, exp_of_negative, scan_loop, selective_scan


def inputs_of(batch: int, steps: int, channels: int, states: int, seed: int = 0) -> list[Tensor]:
    made = torch.Generator().manual_seed(seed)
    u, b, c = (torch.randn(batch, steps, n, generator=made) for n in (channels, states, states))
    delta = torch.rand(batch, steps, channels, generator=made) ** 3
    a = -torch.logspace(-3, 1.5, channels * states)[torch.randperm(channels * states, generator=made)]
    return [x.requires_grad_() for x in (u, delta, a.reshape(channels, states), b, c)]


def with_gradients(inputs: list[Tensor], engine: str) -> list[Tensor]:
    y = selective_scan(*inputs, engine=engine)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    return [y, *torch.autograd.grad((y * weight).sum(), inputs, materialize_grads=True)]


@pytest.mark.parametrize("engine", ["compiled", "doubling"])
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(1, 70), st.integers(1, 70), st.integers(1, 17), st.integers(0, 9))
def test_engines_are_the_loop(engine: str, batch: int, steps: int, channels: int, states: int, seed: int) -> None:
    inputs = inputs_of(batch, steps, channels, states, seed)
    for found, expected in zip(with_gradients(inputs, engine), with_gradients(inputs, "loop"), strict=True):
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max() + 1e-12


def test_long_scans_agree_to_float32() -> None:
    inputs = inputs_of(2, 1125, 48, 16)
    for found, expected in zip(with_gradients(inputs, "compiled"), with_gradients(inputs, "loop"), strict=True):
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_loops_gradient_is_right() -> None:
    inputs = [x.detach().double().requires_grad_() for x in inputs_of(1, 5, 3, 2)]
    assert torch.autograd.gradcheck(scan_loop, inputs)


def test_the_exponential_is_accurate() -> None:
    for x in torch.linspace(-86, 0, 400):
        assert exp_of_negative(x.numpy()[()]) == pytest.approx(float(torch.exp(x.double())), rel=3e-7)


def test_half_precision_and_strides_go_through() -> None:
    inputs = inputs_of(2, 40, 40, 4)
    half = [x.detach().bfloat16().requires_grad_() for x in inputs]
    exact = with_gradients([x.detach().float().requires_grad_() for x in half], "loop")
    for found, expected in zip(with_gradients(half, "compiled"), exact, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found.float() - expected).abs().max() <= 0.02 * expected.abs().max()
    turned = [x.detach().transpose(0, 1).contiguous().transpose(0, 1) for x in inputs]
    assert torch.equal(selective_scan(*turned, engine="compiled"), selective_scan(*inputs, engine="compiled"))


def test_engine_by_place() -> None:
    u = torch.zeros(1, 2, 3)
    assert engine_for(u) == "compiled"
    assert engine_for(u.double()) == "doubling"
    with pytest.raises(ValueError, match="none of auto, mamba_ssm"):
        selective_scan(*inputs_of(1, 2, 3, 4), engine="fast")


def test_the_kernel_is_given_one_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        assert {x.dtype for x in (u, delta, b, c)} == {torch.bfloat16} and a.dtype == torch.float32
        assert [x.shape for x in (u, delta, a, b, c)] == [(1, 4, 6), (1, 4, 6), (4, 3), (1, 3, 6), (1, 3, 6)]
        return u

    monkeypatch.setitem(
        sys.modules, "mamba_ssm.ops.selective_scan_interface", SimpleNamespace(selective_scan_fn=kernel)
    )
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    u, *rest = inputs_of(1, 6, 4, 3)
    assert torch.equal(selective_scan(u.bfloat16(), *rest, engine="mamba_ssm"), u.bfloat16())
