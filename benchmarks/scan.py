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
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from turns import take_turns, timed

from spectramind_nb.network.selective_scan import engine_for, scan_loop, selective_scan

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


def peak_mb(x: Tensor) -> float:
    """Most memory so far, in MB."""
    if x.is_cuda:
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
    timed((partial(selective_scan, *small), small))  # compiles
    given = inputs_of(a.batch, a.steps, a.channels, a.states, a.device)
    before = peak_mb(given[0])
    timed((partial(selective_scan, *given), given))
    used = peak_mb(given[0]) - before

    scans: dict[str, Scan] = {"ours": selective_scan, "loop": scan_loop, "mambapy": mambapy_scan}
    if given[0].is_cuda:
        scans["doubling"] = partial(selective_scan, engine="doubling")
    print(f"engine {engine_for(given[0])} on {a.device}, {torch.get_num_threads()} threads, {a.repeats} turns")
    middle = take_turns({name: (partial(scan, *given), given) for name, scan in scans.items()}, "loop", a.repeats)
    figures = {f"times_faster_than_{name}": round(middle[name] / middle["ours"], 2) for name in scans if name != "ours"}
    print(json.dumps(figures | {"peak_mb": round(used, 1)}))


if __name__ == "__main__":
    main()
