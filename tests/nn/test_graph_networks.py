"""Networks of whole graphs: a naive computation, the numbering of nodes, and room that is empty."""

import pytest
import torch

import potstill
from potstill.cli.main import main
from potstill.data import load
from potstill.errors import PotstillError
from potstill.evaluation.graph_learners import graph_counts
from potstill.nn import factory
from potstill.nn.graph_networks import GIN, GraphGCN
from tests.graph_set_data import write_tu


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return load(write_tu(tmp_path_factory.mktemp("graphs") / "SHAPES", each=20))


def shuffled(x, order):
    n = x.shape[1]
    upper = x[..., x.shape[2] - n :]
    whole = upper + torch.triu(upper, 1).transpose(1, 2)
    moved = torch.triu(whole[:, order][:, :, order])
    return torch.cat([x[:, order, : x.shape[2] - n], moved], 2)


@pytest.mark.parametrize("make", [GIN, GraphGCN])
def test_numbering_and_empty_room_change_nothing_but_the_divisor(shapes, make):
    torch.manual_seed(0)
    x = shapes.train.inputs[:10]
    network = make((8, 10), 3).eval()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network.embed(shuffled(x, order)), network.embed(x), atol=1e-5, rtol=1e-4)
    wide = torch.zeros(10, 16, 2 + 16)
    wide[:, :8, :2], wide[:, :8, 2:10] = x[..., :2], x[..., 2:]
    other = make((16, 18), 3).eval()
    other.load_state_dict(network.state_dict())
    factor = 2 if make is GIN else 1
    torch.testing.assert_close(factor * other.embed(wide), network.embed(x), atol=1e-5, rtol=1e-4)


def test_a_layer_is_sums_over_neighbours(shapes):
    torch.manual_seed(0)
    x = shapes.train.inputs[3]
    network = GIN((8, 10), 3, depth=1, width=4).eval()
    there = int(x[:, 2:].diagonal().sum())
    whole = torch.triu(x[:, 2:]) + torch.triu(x[:, 2:], 1).T
    total = torch.zeros(4)
    for i in range(there):
        heard = sum(x[j, :2] for j in range(there) if whole[i, j])
        total += network.norms[0](network.layers[0](heard)).relu()
    expected = torch.cat([x[:there, :2].sum(0), total]) / 8
    torch.testing.assert_close(network.embed(x[None])[0], expected, atol=1e-5, rtol=1e-4)


def test_gradients_reach_edges_that_are_beyond_their_range(shapes):
    x = (3 * shapes.train.inputs[:2] - 1).requires_grad_()
    torch.manual_seed(0)
    network = GIN((8, 10), 3)
    (gradient,) = torch.autograd.grad(network(x).square().sum(), x)
    upper = torch.triu(torch.ones(8, 8)) > 0
    assert bool(gradient.isfinite().all())
    assert float(gradient[..., 2:][:, upper].abs().max()) > 0
    assert not gradient[..., 2:][:, ~upper].any()


def test_counts_are_those_of_a_star():
    star = torch.zeros(1, 6, 1 + 6)
    star[0, :5, 0] = 1
    star[0, 0, 1:6] = 1
    star[0, range(5), range(1, 6)] = 1
    nodes, edges, *rest = graph_counts(star, 3)[0].tolist()
    assert (nodes, edges) == (5, 4)
    assert rest == [0, 4, 0, 1, 5, 8]  # degrees 0 to 3 and more, the sum of the feature, and over both ends of edges
    torch.testing.assert_close(graph_counts(star * 0.9, 3)[0, :6], graph_counts(star, 3)[0, :6])


def test_graphs_from_files_to_a_page(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tu(tmp_path / "SHAPES", each=20)
    assert main(["distill", "SHAPES", "--method", "dm", "--ipc", "1", "--steps", "3", "--codec", "uint8", "--out",
                 "small.safetensors"]) == 0  # fmt: skip
    assert "3 graphs of 8×10 in 3 classes" in capsys.readouterr().out
    evaluate = ["evaluate", "small.safetensors", "--data", "SHAPES", "--network", "graph-forest", "gin-w8-d2",
                "--seeds", "1", "--quick", "--no-baselines", "--json"]  # fmt: skip
    assert main(evaluate) == 0
    assert '"graph-forest"' in capsys.readouterr().out
    assert main(["report", "small.safetensors", "--out", "page.html"]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("graph 1 of class") == 3
    assert "Sample of class" not in page  # the curves of series
    again = potstill.distill("SHAPES", "herding", ipc=2, progress=None)
    card = potstill.evaluate(again, "SHAPES", networks="graph-forest", seeds=2, baselines=False, progress=None)
    full = card.to_dict()
    assert full["full"]["mean"] > 0.9
    assert full["accuracy"]["mean"] > 0.6


def test_other_inputs_and_other_networks_are_refused(shapes):
    with pytest.raises(PotstillError, match="network gin takes graphs, but inputs are image data"):
        factory("gin", load("digits").train.input, 10)
    with pytest.raises(PotstillError, match="graph-forest learns from graphs"):
        potstill.evaluate(
            potstill.distill("digits", "random", ipc=1, progress=None), "digits", networks="graph-forest", progress=None
        )
    with pytest.raises(ValueError, match="more columns than rows"):
        GIN((4, 4), 2)
