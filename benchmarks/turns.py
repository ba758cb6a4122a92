"""Contenders that take turns at the same work, forward and backward, so that a busy machine slows them all."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
from torch import Tensor

Contender = tuple[Callable[[], Tensor], Sequence[Tensor]]  # what computes an output, and whose gradients are asked for


def timed(contender: Contender) -> tuple[float, list[Tensor]]:
    """Seconds of one pass forward and back, its output and its gradients."""
    forward, wanted = contender

    def wait() -> None:
        if wanted[0].is_cuda:
            torch.cuda.synchronize()

    wait()
    start = time.perf_counter()
    y = forward()
    found = [y, *torch.autograd.grad(y.square().mean(), list(wanted))]
    wait()
    return time.perf_counter() - start, [value.detach() for value in found]


def take_turns(contenders: Mapping[str, Contender], reference: str, repeats: int) -> dict[str, float]:
    """Median seconds of each, after a first turn that compiles and touches memory; prints how far each one's output and
    gradients are from the reference's, and the times beside those of the first.
    """
    expected = timed(contenders[reference])[1]
    for name, contender in contenders.items():
        found = timed(contender)[1]
        off = max(float((x - y).abs().max() / y.abs().max()) for x, y in zip(found, expected, strict=True))
        print(f"{name}: differs from {reference} by at most {off:.1e} of the largest value")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            seconds[name].append(timed(contender)[0])
    middle = {name: median(values) for name, values in seconds.items()}
    first = next(iter(middle.values()))
    for name, value in middle.items():
        print(f"{name:10s} {value:8.4f} s   {value / first:6.1f} x {next(iter(middle))}")
    return middle
