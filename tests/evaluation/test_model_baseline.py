from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import potstill
from potstill.core import Splits
from potstill.errors import PotstillError
from potstill.evaluation import model_baseline
from potstill.evaluation.model_baseline import ModelJob, candidate_specs
from potstill.nn.quantized_model import (
    ModelSpec,
    PackedModel,
    QuantizedLayer,
    QuantizedNetwork,
    pack_network,
    unpack_network,
)
from potstill.rng import generator
from potstill.verdicts import judge_scorecard
from tests.evaluation.conftest import MakeSet


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_baseline, "STEPS", 60)


def _trained(spec: ModelSpec, shape: tuple[int, ...], outputs: int) -> QuantizedNetwork:
    """A network some steps away from where it starts, its norms included."""
    rng = generator(0, "network")
    network = QuantizedNetwork(spec, shape, outputs)
    network.initialise(rng)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for step in range(6):
        if step == 3:
            network.start_quantizing()
        x, y = torch.randn(16, *shape, generator=rng), torch.randint(outputs, (16,), generator=rng)
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.eval()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("family", ["linear", "mlp", "mlp-2", "separable", "conv", "pyramid"])
def test_the_network_read_back_computes_the_same(family: Any, bits: int) -> None:
    shape = (5,) if family.startswith("mlp-") else (2, 12, 12)
    network = _trained(ModelSpec(family=family, bits=bits, width=0 if family == "linear" else 6), shape, outputs=3)
    x = torch.randn(40, *shape, generator=generator(1, "x"))
    read = unpack_network(pack_network(network), shape, 3)
    with torch.no_grad():
        exact, found = network(x), read(x)
    # gains and shifts have 8 bits, weights lose nothing
    assert (exact - found).abs().max() < 0.05 * exact.abs().max()
    for one, other in zip(network.quantized_layers, read.quantized_layers, strict=True):
        codes, gain, _ = one.folded()
        assert int(codes.abs().max()) <= (1 << (bits - 1)) - 1
        rows = other.weight.flatten(1) / gain[:, None]
        torch.testing.assert_close(rows, codes.flatten(1).float(), rtol=0.05, atol=1e-6)


def test_a_description_takes_five_bytes_and_comes_back() -> None:
    spec = ModelSpec(family="separable", bits=4, width=300, side=14)
    assert len(spec.to_bytes()) == 5
    assert ModelSpec.from_bytes(spec.to_bytes()) == spec
    for damaged in (b"", b"\x09\x04\x01\x00\x00", b"\x00\x05\x01\x00\x00"):
        with pytest.raises(PotstillError, match="description must be 5 bytes"):
            ModelSpec.from_bytes(damaged)


def test_parts_of_another_network_are_refused() -> None:
    packed = pack_network(_trained(ModelSpec(family="mlp", bits=4, width=3), (4,), 2))
    other = replace(packed, description=ModelSpec(family="mlp", bits=4, width=5).to_bytes())
    assert isinstance(other, PackedModel)
    with pytest.raises(PotstillError, match="needs 30 weights and 14 scales, but there are 18 and 10"):
        unpack_network(other, (4,), 2)


def test_steps_fit_the_weights_and_rounding_passes_gradients() -> None:
    layer = QuantizedLayer((2, 4), 2, norm=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -1.0, 0.1, 0.9], [0.2, 0.0, -0.2, 0.2]]))
    layer.start_quantizing()
    assert layer.codes().tolist() == [[1, -1, 0, 1], [1, 0, -1, 1]]
    x = torch.eye(4, dtype=torch.float64)
    (layer(x) * torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)[:, None]).sum().backward()
    assert layer.weight.grad is not None
    assert layer.step.grad is not None
    assert bool((layer.weight.grad[1] > 0).all())  # nothing of it is beyond its range
    # q − v of each weight, in steps: here of 0.9 alone and 0.1 in the first channel
    v = layer.weight.detach()[0] / layer.step.detach()[0]
    slopes = torch.where(v.abs() > 1, v.sign(), v.round() - v) * torch.arange(1, 5)
    torch.testing.assert_close(layer.step.grad[0], slopes.sum())


def test_candidates_fit_and_are_the_widest(pictures: Splits) -> None:
    for budget in (100, 400, 3000):
        for spec in candidate_specs(pictures.train.input, 4, budget):
            network = QuantizedNetwork(spec, pictures.train.input.shape, 4)
            network.initialise(generator(0, "widest"))
            network.start_quantizing()
            assert pack_network(network.eval()).bytes <= budget, spec
    assert candidate_specs(pictures.train.input, 4, 10) == ()


def test_the_same_seed_gives_the_same_bytes(pictures: Splits) -> None:
    job = ModelJob(
        train=pictures.train, spec=ModelSpec(family="mlp", bits=4, width=4), seed=3, steps=8, augment="pad-crop"
    )
    one, other = job(), job()
    assert torch.equal(one.weights.tensors[""], other.weights.tensors[""])
    assert torch.equal(one.channels.tensors[""], other.channels.tensors[""])


@pytest.mark.parametrize("kind", ["pictures", "table"])
def test_a_model_is_a_row_beside_the_others(kind: str, make_set: MakeSet, request: pytest.FixtureRequest) -> None:
    splits: Splits = request.getfixturevalue(kind)
    small = make_set(splits, ipc=4)
    score = potstill.evaluate(
        small, splits, networks="convnet-d1-w4" if kind == "pictures" else "mlp", seeds=2, quick=True,
        baselines=["model"], progress=None, epochs=2,
    )  # fmt: skip
    content = score.to_dict()
    model = content["baselines"]["model"]
    assert {"random", "model"} <= content["baselines"].keys()
    assert model["bytes"] <= content["bytes"]["total"]
    assert model["bytes"] == sum(model["parts"].values())
    assert model["score"]["n"] == 2
    assert "over model" in str(score)
    assert "model is no set but a network" in str(score)
    assert len(model["tried"]) > 1


def test_no_room_or_another_task_is_said_in_a_line(pictures: Splits, make_set: MakeSet) -> None:
    small = make_set(pictures, ipc=1)
    small.metadata["bytes"] = {"total": 9, "inputs": 9}
    score = potstill.evaluate(
        small, pictures, networks="convnet-d1-w4", seeds=1, quick=True, baselines="model", progress=None, epochs=1
    )
    assert score.to_dict()["left_out"]["model"] == "no network of the ladder fits into 9 bytes"


def test_an_unknown_name_is_refused(pictures: Splits, make_set: MakeSet) -> None:
    with pytest.raises(PotstillError, match="unknown baseline 'models'"):
        potstill.evaluate(make_set(pictures), pictures, baselines=["models"], progress=None)


def _scorecard(model: float, ci95: list[float]) -> dict[str, Any]:
    random = {"mean": 0.6, "difference": {"mean": 0.1, "ci95": [0.05, 0.15]}, "bytes": 900, "items": 40}
    return {
        "score": {"mean": 0.7}, "bytes": {"total": 1000}, "set": {"items": 10, "source": "digits", "method": "dm"},
        "baselines": {
            "random": random,
            "model": {"mean": model, "bytes": 950, "difference": {"mean": 0.7 - model, "ci95": ci95}},
        },
    }  # fmt: skip


def test_a_model_that_is_ahead_is_the_last_word() -> None:
    verdict = judge_scorecard(_scorecard(0.81, [-0.15, -0.07]))
    assert (verdict.kind, verdict.against) == ("better", "random")  # of sets, it is the better
    assert verdict.lines()[-1].endswith(
        "A network of the same bytes (950 bytes) reaches 81.0% accuracy: a set is worth it only if you must train."
    )


def test_a_model_that_is_not_ahead_changes_nothing() -> None:
    behind = judge_scorecard(_scorecard(0.69, [-0.05, 0.07]))
    alone = _scorecard(0.69, [0, 0])
    del alone["baselines"]["model"]
    assert behind == judge_scorecard(alone)
