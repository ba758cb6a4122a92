"""Graph attention against torch-geometric's own layer, and the graph over wavelengths."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.nn import GATv2Conv

from spectramind_nb.core.instrument import N_BINS, wavelengths
from spectramind_nb.network.graph import AirsEncoder
from spectramind_nb.network.graph_attention import SharedGATv2
from spectramind_nb.prior.wavelength_graph import Topology, molecule_strengths, spectral_graph, topology_of


def random_topology(nodes: int, more: int, seed: int) -> Topology:
    rng, own = np.random.default_rng(seed), np.arange(nodes)
    pairs = np.unique(np.concatenate([rng.integers(0, nodes, (more, 2)), np.column_stack([own, own])]), axis=0)
    return topology_of(*rng.permutation(pairs).T, nodes)[0]


@pytest.mark.parametrize("engine", ["plain", "compiled"])
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(1, 20), st.integers(0, 60), st.integers(1, 3), st.integers(0, 9))
def test_numbers_and_gradients_are_the_librarys(
    engine: str, batch: int, nodes: int, more: int, heads: int, seed: int
) -> None:
    torch.manual_seed(seed)
    topology = random_topology(nodes, more, seed)
    ours, stock = SharedGATv2(5, 4, heads, 3, engine), GATv2Conv(5, 4, heads, edge_dim=3, add_self_loops=False)
    torch.nn.init.normal_(stock.bias)
    ours.load_state_dict(stock.state_dict())
    x, edges = torch.randn(batch, nodes, 5, requires_grad=True), torch.randn(len(topology.source), 3)
    index = torch.tensor([topology.source.tolist(), topology.target.tolist()])
    large = torch.cat([index + nodes * planet for planet in range(batch)], dim=1)

    def outcome(y: Tensor, share: Tensor, layer: torch.nn.Module) -> list[Tensor]:
        loss = (y**2).sum() + (share**3).sum()
        return [y, share, *torch.autograd.grad(loss, [x, *dict(sorted(layer.named_parameters())).values()])]

    y, share = ours(x, edges, topology)
    z, (_, theirs) = stock(x.flatten(0, 1), large, edges.repeat(batch, 1), return_attention_weights=True)
    expected = outcome(z.unflatten(0, (batch, nodes)), theirs.unflatten(0, (batch, len(edges))), stock)
    for found, value in zip(outcome(y, share, ours), expected, strict=True):
        assert (found - value).abs().max() <= 1e-5 * value.abs().max() + 1e-6


def test_a_node_without_neighbours_is_refused() -> None:
    with pytest.raises(ValueError, match="nodes 0 to 2 needs one"):
        topology_of(np.array([0, 1]), np.array([0, 1]), 3)


def test_molecules_mark_their_bands() -> None:
    (names, strength), um = molecule_strengths(), wavelengths()
    bands = {"H2O": (2.5, 2.9), "CO2": (2.65, 2.85), "CH4": (3.2, 3.45), "CO": (2.3, 2.45)}
    for name, (low, high) in bands.items():
        inside = (um > low) & (um < high)
        column = strength[1:, names.index(name)]
        assert column[inside[1:]].mean() > 2 * column[~inside[1:]].mean(), name
    assert strength.min() >= 0 and strength.max() <= 1


def test_edges_are_what_they_are_called() -> None:
    graph, (names, strength) = spectral_graph(), molecule_strengths()
    source, target = graph.topology.source, graph.topology.target
    edges = set(zip(source.tolist(), target.tolist(), graph.kind.tolist(), strict=True))
    assert len(edges) == len(source) and all((j, i, kind) in edges for i, j, kind in edges)
    assert ((graph.kind == "self") == (source == target)).all() and (graph.kind == "self").sum() == N_BINS
    seam = (source == 0) != (target == 0)
    assert ((graph.kind == "seam") == seam).all() and (graph.features[:, 3] == seam).all()
    for name in names:
        of_molecule = graph.kind == name
        assert (strength[source[of_molecule], names.index(name)] > 0.5).all()
        assert (
            graph.features[of_molecule, 1] == strength[target[of_molecule], names.index(name)].astype(np.float32)
        ).all()
    assert np.allclose(graph.features[:, 0], (wavelengths()[source] - wavelengths()[target]).astype(np.float32))


def test_kinds_of_edges_can_be_left_out() -> None:
    names, _ = molecule_strengths()
    assert set(spectral_graph(("lambda", "seam")).kind) == {"self", *names}
    assert set(spectral_graph(("molecules",)).kind) == {"self", "lambda", "seam"}
    assert set(spectral_graph(("lambda", "seam", "molecules")).kind) == {"self"}
    with pytest.raises(ValueError, match="water is none of molecules, lambda"):
        spectral_graph(("water",))


def test_planets_of_a_batch_do_not_influence_each_other() -> None:
    torch.manual_seed(0)
    encoder, nodes = AirsEncoder(6, 16, layers=2).eval(), torch.randn(3, N_BINS, 6)
    untrained, *_ = encoder(nodes)
    for layer in encoder.layers:
        torch.nn.init.ones_(layer.gain)
    latent, latents, shares = encoder(nodes)
    alone, *_ = encoder(nodes[1:2])
    assert latent.shape == (3, 16) and latents.shape == (3, N_BINS, 16) and len(shares) == 2
    assert torch.allclose(latent[1:2], alone, atol=1e-6) and not torch.allclose(latent, untrained, atol=1e-2)
    assert torch.allclose(shares[0].sum(1), torch.full((3, 4), float(N_BINS)), rtol=1e-4)
