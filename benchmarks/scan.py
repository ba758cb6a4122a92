"""How fast the selective scan is, forward and backward, against a loop over time and mambapy's parallel scan; last line
JSON. Needs the `dev` extra.

    python benchmarks/scan.py [--batch 4] [--steps 1024] [--channels 256] [--states 16] [--repeats 5] [--device cpu]

Scan against scan: the same inputs, states and output, no projections. Engines take turns, and the median counts. On a
GPU the engines of torch are compared with `mamba-ssm`'s kernel. Peak memory is that of the process while our engine
goes forward and backward, less what it held before; the inputs are not counted.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from spectramind_nb.lib.selective_scan import engine_for, scan_loop, selective_scan

Scan = Callable[..., Tensor]


def mambapy_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The scan of mambapy's MambaBlock: states by its parallel scan, then the sum over them."""
    from mambapy.pscan import pscan

    taken = delta[..., None] * b[:, :, None] * u[..., None]
    return (pscan(torch.exp(delta[..., None] * a), taken) @ c[..., None]).squeeze(3)


def inputs_of(batch: int, steps: int, channels: int, states: int, device: str) -> list[Tensor]:
    """Random inputs with the decay rates that Mamba starts from."""
    a = -torch.arange(1.0, states + 1).repeat(channels, 1)
    u, delta = torch.randn(batch, steps, channels), 0.1 * torch.rand(batch, steps, channels)
    given = (u, delta, a, torch.randn(batch, steps, states), torch.randn(batch, steps, states))
    return [x.to(device).requires_grad_() for x in given]


def once(scan: Scan, given: list[Tensor], weight: Tensor) -> tuple[float, list[Tensor]]:
    """Seconds of one pass forward and back, and what came out."""

    def wait() -> None:
        if weight.is_cuda:
            torch.cuda.synchronize()

    wait()
    start = time.perf_counter()
    y = scan(*given)
    found = [y, *torch.autograd.grad((y * weight).sum(), given)]
    wait()
    return time.perf_counter() - start, [x.detach() for x in found]


def peak_mb(weight: Tensor) -> float:
    """Most memory so far, in MB."""
    if weight.is_cuda:
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"batch": 4, "steps": 1024, "channels": 256, "states": 16, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    a = parser.parse_args()
    torch.manual_seed(1)
    small = inputs_of(1, 32, 32, a.states, a.device)
    once(selective_scan, small, torch.ones_like(small[0]))  # compiles
    given = inputs_of(a.batch, a.steps, a.channels, a.states, a.device)
    weight = torch.randn_like(given[0])
    before = peak_mb(weight)
    once(selective_scan, given, weight)
    used = peak_mb(weight) - before

    scans: dict[str, Scan] = {"ours": selective_scan, "loop": scan_loop, "mambapy": mambapy_scan}
    if weight.is_cuda:
        scans |= {"doubling": lambda *x: selective_scan(*x, engine="doubling")}
    seconds: dict[str, list[float]] = {name: [] for name in scans}
    reference = once(scan_loop, given, weight)[1]
    for turn in range(a.repeats + 1):
        for name, scan in scans.items():
            took, found = once(scan, given, weight)
            if turn:  # the first touches memory
                seconds[name].append(took)
            else:
                off = max(float((x - y).abs().max() / y.abs().max()) for x, y in zip(found, reference, strict=True))
                print(f"{name}: output and gradients differ from the loop by at most {off:.1e} of the largest value")
    middle = {name: median(values) for name, values in seconds.items()}
    print(f"engine {engine_for(weight)} on {a.device}, {torch.get_num_threads()} threads, {a.repeats} turns")
    for name, value in middle.items():
        print(f"{name:10s} {value:8.4f} s   {value / middle['ours']:6.1f} x ours")
    figures = {f"times_faster_than_{name}": round(middle[name] / middle["ours"], 2) for name in scans if name != "ours"}
    print(json.dumps(figures | {"peak_mb": round(used, 1)}))


if __name__ == "__main__":
    main()
