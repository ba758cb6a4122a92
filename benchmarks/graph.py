"""How fast graph attention is over the wavelengths' graph, forward and backward, against torch-geometric's own batching
with the same parameters; last line JSON.

    python benchmarks/graph.py [--planets 32] [--layers 4] [--width 48] [--heads 4] [--repeats 5] [--device cpu]

The stock form makes one large graph of a batch, as torch-geometric's data loader does; making it is not timed. Both
take turns, and the median counts.
"""

import argparse
import json

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv
from turns import take_turns

from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.network.graph_attention import SharedGATv2
from spectramind_nb.prior.wavelength_graph import spectral_graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"planets": 32, "layers": 4, "width": 48, "heads": 4, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    a = parser.parse_args()
    torch.manual_seed(1)
    graph, features = spectral_graph(), a.width * a.heads
    edges = torch.from_numpy(graph.features).to(a.device)
    ours = nn.ModuleList(SharedGATv2(features, a.width, a.heads, edges.shape[1]) for _ in range(a.layers)).to(a.device)
    stock = nn.ModuleList(
        GATv2Conv(features, a.width, a.heads, edge_dim=edges.shape[1], add_self_loops=False) for _ in range(a.layers)
    ).to(a.device)
    stock.load_state_dict(ours.state_dict())
    x = torch.randn(a.planets, N_BINS, features, device=a.device)
    index = torch.tensor([graph.topology.source.tolist(), graph.topology.target.tolist()], device=a.device)
    large = torch.cat([index + N_BINS * planet for planet in range(a.planets)], dim=1)
    repeated = edges.repeat(a.planets, 1)

    def by_array() -> Tensor:
        h = x
        for layer in ours:
            h = torch.relu(layer(h, edges, graph.topology)[0])
        return h

    def by_large_graph() -> Tensor:
        h = x.flatten(0, 1)
        for layer in stock:
            h = torch.relu(layer(h, large, repeated))
        return h.unflatten(0, x.shape[:2])

    contenders = {"ours": (by_array, [*ours.parameters()]), "pyg": (by_large_graph, [*stock.parameters()])}
    print(f"{a.planets} planets, {len(edges)} edges, {a.layers} layers of {features} on {a.device}")
    middle = take_turns(contenders, "pyg", a.repeats)
    print(json.dumps({"times_faster_than_pyg_batch": round(middle["pyg"] / middle["ours"], 2)}))


if __name__ == "__main__":
    main()
