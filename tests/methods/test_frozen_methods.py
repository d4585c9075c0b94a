"""Methods on a frozen backbone through the public verbs: what it sees is pixels, and nothing of it is stored."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import potstill
from potstill.core import Splits
from potstill.core.registry import make_method
from potstill.nn import factory
from potstill.nn import pretrained as module
from potstill.rng import generator
from potstill.testing import toy_problem, toy_source


class Ranged(nn.Module):
    """A trunk that keeps the least and the largest value that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = [1.0, -1.0]

    def forward(self, x: Tensor) -> Tensor:
        self.ends = [min(self.ends[0], float(x.detach().min())), max(self.ends[1], float(x.detach().max()))]
        return nn.functional.adaptive_avg_pool2d(x, 3).flatten(1)


@pytest.fixture
def trunk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranged]:
    made = Ranged()
    half = (0.5, 0.5, 0.5)
    about = module.Backbone(title="t", paper="p", features=27, side=32, step=1, mean=half, std=half, load=lambda: made)
    monkeypatch.setitem(module.BACKBONES, "ranged", about)
    module._trunk.cache_clear()
    yield made
    module._trunk.cache_clear()


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("lgm", {"iterations": 3, "views": 2, "noise": 0.0}),
        ("lgm", {"iterations": 3, "views": 2, "noise": 0.0, "zca": "frepo", "augment": "none"}),
        ("dm", {"iterations": 2, "batch_real": 6, "augment": "none", "init_from": "real", "lr": 0.0}),
        ("herding", {"features": "untrained"}),
        ("frepo", {"iterations": 2, "pool_size": 1, "batch_real": 20, "lr": 0.0}),
        ("rfad", {"iterations": 2, "num_networks": 1, "batch_real": 20, "lr": 0.0}),
    ],
)
def test_the_backbone_sees_pixels_wherever_a_set_is_made_and_measured(
    method: str, settings: dict[str, object], trunk: Ranged, tmp_path: Path
) -> None:
    splits = Splits(train=toy_source(), test=toy_source())
    small = potstill.distill(splits, method, ipc=1, network="ranged", progress=None, **settings)  # type: ignore[arg-type]
    small.save(tmp_path / "set.safetensors")
    assert small.metadata["network"] == "ranged-r32"
    card = potstill.evaluate(
        tmp_path / "set.safetensors", splits, protocol="dc", epochs=2, seeds=1, baselines=False, progress=None
    )
    assert card.to_dict()["network"] == "ranged-r32"
    # [0, 1] is [-1, 1] to it; augmentations and whitening leave it by little
    assert -1.2 < trunk.ends[0] < -0.7
    assert 0.7 < trunk.ends[1] < 1.2


@pytest.mark.parametrize("method", ["frepo", "rfad"])
def test_closed_forms_on_its_features_come_nearer(method: str, trunk: Ranged) -> None:
    """A backbone does not change, so that the loss of one pool of it falls from step to step: a closed-form probe."""
    _, made = make_method(
        method,
        {
            "iterations": 12,
            "pool_size" if method == "frepo" else "num_networks": 1,
            "batch_real": 48,
            "lr": 0.02,
            "network": "ranged",
        },
    )
    source = toy_source()
    problem = dataclasses.replace(
        toy_problem(made), network=factory("ranged", source.input, 4, normalization=source.normalization)
    )
    state, rng, losses = made.init(problem, generator(0)), generator(1), list[float]()
    while not made.done(problem, state):
        state, shown = made.step(problem, state, rng)
        losses.append(shown["loss"])
    assert losses[-1] < 0.8 * losses[0]


def test_a_checkpoint_holds_nothing_of_it(trunk: Ranged) -> None:
    assert not any(isinstance(t, Tensor) and t.numel() > 4 * 27 for t in _made().state_dict().values())
    assert torch.equal(_made().classifier.weight, _made().classifier.weight)


def _made() -> module.FrozenBackbone:
    net = module.backbone_factory("ranged", toy_source().input, 4, torch.device("cpu"), None)(0)
    assert isinstance(net, module.FrozenBackbone)
    return net
