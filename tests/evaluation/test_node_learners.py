"""Learners of nodes, beside plain dense ones, and the graph that they are tested on."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from potstill.data import load
from potstill.errors import PotstillError
from potstill.evaluation.estimators import TrainingNodes, make_learner
from potstill.evaluation.node_learners import GAT, GCN, SGC, NodeMLP
from potstill.nn.init import build_network
from potstill.rng import generator
from potstill.tasks import get_targets, get_task
from tests.graph_data import block_graph


@pytest.fixture(scope="module")
def splits():
    return load(block_graph())


def all_nodes(splits):
    graph = splits.train.graph
    return TrainingNodes(
        x=graph.features, y=splits.train.labels, adjacency=graph.adjacency, labelled=splits.train.places
    )


def answers(learner, splits, nodes=None, seed=0):
    graph = splits.test.graph
    return learner.fit_nodes(nodes or all_nodes(splits), get_task(splits.test), seed, graph, splits.test.places)


def dense_gcn(splits, x, adjacency, rows, labelled, steps, seed):
    """Train a two-layer GCN as formulas say it, with dense matrices, and return the classes of test nodes."""
    graph = splits.train.graph
    network = build_network(lambda: GCN(hidden=8).network(graph.features.shape[1], 3), x.device, generator(seed, "gcn"))
    w1, b1, w2, b2 = (p.detach().clone().requires_grad_() for p in network.parameters())

    def logits(x, a):
        return a @ (a @ x @ w1.T + b1).relu() @ w2.T + b2

    whole = graph.adjacency.to_dense()
    best, kept = -1.0, None
    for step in range(steps):
        if step in (0, steps // 2):
            adam = torch.optim.Adam([w1, b1, w2, b2], lr=0.01 if step == 0 else 0.001, weight_decay=5e-4)
        adam.zero_grad()
        loss = -(F.log_softmax(logits(x, adjacency), 1)[labelled] * rows).sum(1).mean()
        loss.backward()
        adam.step()
        with torch.no_grad():
            said = logits(graph.features, whole).argmax(1)
        right = float((said[graph.validation] == graph.validation_labels).float().mean())
        if right > best:
            best, kept = right, said
    return kept[splits.test.places]


@pytest.mark.parametrize("on", ["graph", "set"])
def test_gcn_is_the_dense_one(splits, on):
    graph = splits.train.graph
    learner = GCN(hidden=8, steps=60, dropout=0.0, validate_every=1)
    if on == "graph":
        rows, labelled = F.one_hot(splits.train.labels, 3).float(), splits.train.places
        expected = dense_gcn(splits, graph.features, graph.adjacency.to_dense(), rows, labelled, 60, 3)
        assert torch.equal(answers(learner, splits, seed=3), expected)
    else:  # nodes without edges, soft labels
        x = graph.propagated[splits.train.places]
        rows = torch.softmax(torch.randn(len(x), 3, generator=torch.Generator().manual_seed(0)), 1)
        expected = dense_gcn(splits, x, torch.eye(len(x)), rows, torch.arange(len(x)), 60, 3)
        assert torch.equal(answers(learner, splits, TrainingNodes(x=x, y=rows), seed=3), expected)
    assert len(set(expected.tolist())) > 1


def test_attention_is_the_dense_one(splits):
    graph = splits.train.graph
    learner = GAT(hidden=6, heads=3)
    network = build_network(lambda: learner.network(24, 3), graph.features.device, generator(0, "gat"))
    has_edge = graph.adjacency.to_dense() > 0

    def layer(h, ends, heads):
        parts = []
        for part, (target, source) in zip(h.chunk(heads, 1), ends.reshape(2, heads, -1).transpose(0, 1), strict=True):
            score = F.leaky_relu((part @ target)[:, None] + (part @ source)[None, :], 0.2)
            parts.append(torch.softmax(score.masked_fill(~has_edge, -torch.inf), 1) @ part)
        return torch.cat(parts, 1)

    h = F.elu(layer(graph.features @ network.first.weight.T, network.ends.weight, 3) + network.first.bias)
    expected = layer(h @ network.second.weight.T, network.last_ends.weight, 1) + network.second.bias
    found = network(learner.view(graph.features, graph.adjacency, graph), lambda h: h)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("learner", [GCN(hidden=16), SGC(), GAT(hidden=16), NodeMLP(hidden=16)], ids=lambda x: x.name)
def test_every_learner_learns_and_repeats(splits, learner):
    learner = replace(learner, steps=150)
    state = torch.random.get_rng_state()
    found = answers(learner, splits)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(answers(learner, splits), found)
    right = float((found == get_targets(splits.test)).float().mean())
    assert right > (0.45 if learner.name == "node-mlp" else 0.85)


def test_edges_that_reach_test_nodes_count(splits):
    """The same set, asked on two graphs: what is said of test nodes follows their edges."""
    graph = block_graph()
    other = graph["edge_index"].copy()
    other = other[:, (graph["test_mask"][other]).sum(0) == 0]
    set_nodes = TrainingNodes(x=splits.train.graph.propagated[splits.train.places], y=splits.train.labels)
    cut = load(graph | {"edge_index": other})
    learner = GCN(hidden=16, steps=100)
    with_edges, without = answers(learner, splits, set_nodes), answers(learner, cut, set_nodes)
    truth = get_targets(splits.test)
    assert (with_edges == truth).float().mean() > (without == truth).float().mean() + 0.1
    mlp = NodeMLP(hidden=16, steps=100)
    assert torch.equal(answers(mlp, splits, set_nodes), answers(mlp, cut, set_nodes))


def test_a_set_is_read_in_data_units_and_a_full_reference_has_the_edges(splits):
    make = make_learner("gcn:hidden=16,steps=60", splits.train)
    batch = splits.train.fetch(torch.arange(len(splits.train)))
    learner = make.learner
    set_nodes = TrainingNodes(x=splits.train.graph.propagated[splits.train.places], y=splits.train.labels)
    assert torch.equal(make.fit_predict(splits.test, batch.x, splits.train.labels, None, 5),
                       answers(learner, splits, set_nodes, 5))  # fmt: skip
    assert torch.equal(make.fit_all(splits.train, splits.test, 5), answers(learner, splits, seed=5))
    inductive = load(block_graph(), representation="propagated:inductive=True")
    assert make.fit_all(inductive.train, inductive.test, 5).shape == (36,)


def test_validation_nodes_choose_and_test_nodes_do_not():
    """Labels of test nodes change no answer; those of validation nodes may."""
    graph = block_graph()
    labels = graph["labels"].copy()
    labels[graph["test_mask"]] = (labels[graph["test_mask"]] + 1) % 3
    a, b = load(graph), load(graph | {"labels": labels})
    assert torch.equal(answers(GCN(hidden=8, steps=40), a), answers(GCN(hidden=8, steps=40), b))
    labels = graph["labels"].copy()
    labels[graph["val_mask"]] = (labels[graph["val_mask"]] + 1) % 3
    c = load(graph | {"labels": labels})
    assert not torch.equal(answers(GCN(hidden=8, steps=40), a), answers(GCN(hidden=8, steps=40), c))


def test_trials_have_a_cheap_learner():
    assert GCN().for_trials() == GAT().for_trials() == SGC(steps=100, validate_every=20)
    assert NodeMLP(hidden=8).for_trials() == NodeMLP(hidden=8, steps=100, validate_every=20)


def test_other_data_and_wrong_settings_are_refused(splits):
    with pytest.raises(PotstillError, match="gcn learns nodes of a graph"):
        GCN().fit(torch.zeros(2, 3), torch.zeros(2), None, get_task(splits.train), 0)
    rows = load("digits")
    with pytest.raises(PotstillError, match=r"gcn learns nodes of a graph, and .* has none; choose another learner"):
        make_learner("gcn", rows.train).fit_predict(rows.test, torch.zeros(2, 64), torch.tensor([0, 1]), None, 0)
    with pytest.raises(PotstillError, match="gcn: steps must be at least 1, not 0"):
        GCN(steps=0)
    with pytest.raises(PotstillError, match="dropout must be at least 0 and below 1"):
        SGC(dropout=1.0)
    with pytest.raises(PotstillError, match="hidden 10 must be a multiple of heads, not of 3"):
        GAT(hidden=10, heads=3)
