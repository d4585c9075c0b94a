"""Learned edges between the nodes of a set, beside a network over written-out pairs, and their way to a file."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import potstill
from potstill.cli.main import main
from potstill.core import DecodeContext, InputSpec
from potstill.dataset_file import load
from potstill.errors import PotstillError
from potstill.evaluation.set_graph import graph_of_set
from potstill.functional.graph import dense_normalized_adjacency, pair_logits
from potstill.parametrize.learned_graph import EDGES, FEATURES, LearnedGraph, adjacency_of
from tests.graph_data import block_graph

CONTEXT = DecodeContext(input=InputSpec(kind="node", shape=(4,)))


def network(d=4, h=5, dtype=torch.float64):
    draw = torch.Generator().manual_seed(3)
    shapes = {"first": (h, 2 * d), "first_bias": (h,), "second": (h, h), "second_bias": (h,), "last": (h,),
              "last_bias": (1,), "scales": (2, h), "shifts": (2, h)}  # fmt: skip
    return {name: torch.randn(shape, generator=draw, dtype=dtype) for name, shape in shapes.items()}


def nodes(n=6, d=4, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(1), dtype=dtype)


def test_pairs_are_those_of_a_network_over_written_out_pairs():
    x, held = nodes(), network()
    n, h = len(x), held["first"].shape[0]
    layers = [nn.Linear(8, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Linear(h, h), nn.BatchNorm1d(h), nn.ReLU()]
    plain = nn.Sequential(*layers, nn.Linear(h, 1)).double()
    with torch.no_grad():
        for at, name in ((0, "first"), (3, "second"), (6, "last")):
            plain[at].weight.copy_(held[name].reshape(plain[at].weight.shape))
            plain[at].bias.copy_(held[f"{name}_bias"])
        for at, row in ((1, 0), (4, 1)):
            plain[at].weight.copy_(held["scales"][row])
            plain[at].bias.copy_(held["shifts"][row])
    pairs = torch.cat([x.repeat_interleave(n, 0), x.repeat(n, 1)], 1)
    torch.testing.assert_close(pair_logits(x, held), plain(pairs).reshape(n, n))


def test_gradients_of_pairs_and_of_the_normalisation():
    x, held = nodes(4), network(h=3)
    names = sorted(held)

    def f(x, *values):
        logits = pair_logits(x, dict(zip(names, values, strict=True)))
        weights = (0.5 * (logits + logits.T)).sigmoid()
        return dense_normalized_adjacency(weights - torch.diag(weights.diagonal())) @ x

    assert torch.autograd.gradcheck(f, (x.requires_grad_(), *(held[name].requires_grad_() for name in names)))


def test_two_nodes_by_hand():
    payload = {FEATURES: torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0]]), EDGES: torch.tensor([0.5])}
    a = np.array([[1.0, 0.5], [0.5, 1.0]]) / 1.5
    expected = np.linalg.matrix_power(a, 2) @ payload[FEATURES].numpy()
    np.testing.assert_allclose(LearnedGraph().decode(payload, CONTEXT).numpy(), expected, rtol=1e-6)


def test_stored_edges_decode_to_the_same_nodes_but_for_weak_ones():
    x = nodes(dtype=torch.float32)
    payload = {FEATURES: x, **{f"decoder/{name}": t.float() for name, t in network(dtype=torch.float32).items()}}
    all_kept, cut = LearnedGraph(threshold=0.0), LearnedGraph(threshold=0.5)
    stored = all_kept.stored_payload(payload)
    assert set(stored) == {FEATURES, EDGES}
    torch.testing.assert_close(all_kept.decode(stored, CONTEXT), all_kept.decode(payload, CONTEXT))
    adjacency = adjacency_of(stored)
    assert torch.equal(adjacency, adjacency.T)
    assert not adjacency.diagonal().any()
    strong = cut.stored_payload(payload)[EDGES]
    assert torch.equal(strong, torch.where(stored[EDGES] < 0.5, 0, stored[EDGES]))
    assert 0 < int((strong == 0).sum()) < len(strong)


def test_edges_are_paid_for_in_nodes():
    assert LearnedGraph().sizes((40, 40), (4,)) == (4, 4)  # 32 numbers, and 28 edges; 10 nodes would have 40 and 45
    with pytest.raises(PotstillError, match="one node has 4 numbers and edges to all others"):
        LearnedGraph().sizes((4, 4, 4), (4,))
    found = sum(LearnedGraph().sizes((11 * 1433,) * 7, (1433,)))
    assert found == 70
    assert found * 1433 + math.comb(found, 2) <= 77 * 1433
    with pytest.raises(PotstillError, match="at most 1,500 nodes"):
        LearnedGraph().sizes((1000 * 4, 1000 * 4), (4,))


def test_a_set_with_edges_is_made_stored_and_measured_on_the_original_graph(tmp_path):
    splits = potstill.load_data(block_graph())
    small = potstill.distill(
        splits, "dm", ipc=6, parametrization="learned-graph:hidden=8,threshold=0.02,start=-3", steps=60, codec="uint8",
        progress=None,
    )  # fmt: skip
    again = load(small.save(tmp_path / "s.safetensors"))
    graph = graph_of_set(again)
    assert graph is not None
    n = len(again)
    assert n < 18
    assert set(again.payload) == {FEATURES, EDGES}
    hops = graph.adjacency @ (graph.adjacency @ graph.features)
    torch.testing.assert_close(again.inputs, hops, atol=1e-5, rtol=1e-4)
    x, edges = (sum(t.nbytes for name, t in again.tensors.items() if f"payload/{part}" in name)
                for part in (FEATURES, EDGES))  # fmt: skip
    assert edges > 0
    assert again.metadata["bytes"]["total"] >= x + edges
    card = potstill.evaluate(
        again, splits, networks="gcn:hidden=16,steps=100", seeds=2, baselines=False, full=False, progress=None
    ).to_dict()  # fmt: skip
    assert card["accuracy"]["mean"] > 0.6
    same = potstill.distill(
        splits, "dm", ipc=6, parametrization="learned-graph:hidden=8,threshold=0.02,start=-3", steps=60, codec="uint8",
        progress=None,
    )  # fmt: skip
    assert torch.equal(same.inputs, small.inputs)


def test_edges_change_what_a_learner_of_nodes_learns():
    """The same features and labels, with and without edges between nodes of two classes."""
    from potstill.evaluation.estimators import make_learner
    from potstill.evaluation.set_graph import SetGraph
    from potstill.functional.graph import normalized_adjacency

    splits = potstill.load_data(block_graph())
    x, y = splits.train.graph.propagated[splits.train.places], splits.train.labels
    ends = torch.combinations(torch.arange(len(x))).T
    ends = ends[:, y[ends[0]] != y[ends[1]]]
    make = make_learner("gcn:hidden=16,steps=12", splits.train)

    def answers(weights):
        edges = SetGraph(features=x, adjacency=normalized_adjacency(ends, len(x), weights))
        return make.fit_predict(splits.test, splits.train.normalization.apply(x), y, None, 0, edges=edges)

    plain = make.fit_predict(splits.test, splits.train.normalization.apply(x), y, None, 0)
    assert torch.equal(answers(torch.zeros(ends.shape[1])), plain)
    assert not torch.equal(answers(torch.ones(ends.shape[1])), plain)


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ("digits", {}, "learned-graph is for nodes of a graph, but digits is image data; take pixels"),
        (None, {"parametrization": "learned-graph:hops=1"}, "give parametrization=learned-graph:hops=2"),
        (None, {"codec": "uint4:aware=True"}, "rounds while the set is made; take uint8"),
    ],
)
def test_what_it_is_not_for_is_one_line(data, settings, message):
    with pytest.raises(PotstillError, match=message):
        potstill.distill(
            data or block_graph(), "dc", ipc=6, steps=1, progress=None,
            **({"parametrization": "learned-graph"} | settings),
        )  # fmt: skip


@pytest.mark.parametrize(
    "changed", [{EDGES: torch.zeros(3)}, {EDGES: torch.tensor([2.0])}, {EDGES: torch.tensor([-0.5])}]
)
def test_edges_of_a_damaged_file_are_refused(changed):
    payload = {FEATURES: torch.ones(2, 4), EDGES: torch.tensor([0.5])} | changed
    with pytest.raises(PotstillError, match="get the file again"):
        adjacency_of(payload)


def test_the_command_line_makes_one(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("blocks.npz", **block_graph())
    arguments = ["distill", "blocks.npz", "--method", "dc", "--ipc", "6", "--parametrization", "learned-graph",
                 "--steps", "3", "--out", "small.safetensors"]  # fmt: skip
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "nodes of 24 in 3 classes" in said


def test_cosine_of_the_first_step_is_finite():
    """All weights equal at the start of an untrained network would leave no gradient."""
    x = nodes(dtype=torch.float32).requires_grad_()
    problemless = {f"decoder/{name}": t.float() for name, t in network(dtype=torch.float32).items()}
    out = LearnedGraph().decode({FEATURES: x, **problemless}, CONTEXT)
    (gradient,) = torch.autograd.grad(F.cross_entropy(out, torch.tensor([0, 1, 2, 3, 0, 1])), x)
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().max()) > 0
