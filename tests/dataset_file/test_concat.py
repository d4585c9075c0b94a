"""Joined sets: inputs, bytes, codecs and provenance of each are kept, and what does not fit is refused in a line."""

from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill.codecs import parse_codec
from potstill.core import InputSpec, Normalization
from potstill.dataset_file import Distilled, write_indices
from potstill.errors import PotstillError
from tests.build_set import build_set


def make(classes: tuple[str, ...] = ("a", "b"), n: int = 4, seed: int = 0, **given: Any) -> Distilled:
    rng = torch.Generator().manual_seed(seed)
    fields: dict[str, Any] = {
        "method": "dm", "seed": seed, "ipc": n // len(classes), "classes": classes,
        "input": InputSpec(kind="image", shape=(1, 4, 4)),
        "normalization": Normalization(torch.full((1,), 0.3), torch.full((1,), 0.5)),
        "source": {"name": "toy", "samples": 48, "hash": "ff"},
    }  # fmt: skip
    labels = given.pop("labels", torch.arange(n) % len(classes))
    return build_set(torch.rand(n, 1, 4, 4, generator=rng), labels, **(fields | given))


def reloaded(small: Distilled, tmp_path: Path) -> Distilled:
    return potstill.load(small.save(tmp_path / "joined.safetensors", force=True))


def test_sets_of_other_classes_join(tmp_path: Path) -> None:
    first, second = make(("a", "b")), make(("c", "a"), seed=1, codec=parse_codec("uint4"))
    joined = reloaded(potstill.concat([first, second]), tmp_path)
    assert joined.classes == ("a", "b", "c")
    assert joined.labels.tolist() == [0, 1, 0, 1, 2, 0, 2, 0]
    assert torch.equal(joined.inputs, torch.cat([first.inputs, second.inputs]))
    assert [part["codec"] for part in joined.metadata["parts"]] == ["float32", "uint4"]
    assert [part["seed"] for part in joined.metadata["parts"]] == [0, 1]
    size = joined.metadata["bytes"]
    assert size["inputs"] == sum(s.metadata["bytes"]["inputs"] for s in (first, second))
    assert size["total"] == sum(t.numel() * t.element_size() for t in joined.tensors.values())
    assert joined.metadata["ipc"] == 4


def test_a_joined_set_joins_with_more_items_of_the_same_classes(tmp_path: Path) -> None:
    sets = [make(n=n, seed=n) for n in (2, 4, 6)]
    joined = reloaded(potstill.concat([potstill.concat(sets[:2]), sets[2]]), tmp_path)
    assert torch.equal(joined.inputs, torch.cat([s.inputs for s in sets]))
    assert joined.metadata["classes"] == ["a", "b"]
    assert len(joined.metadata["decoder"]["parts"]) == 3


def test_parametrized_and_selected_sets_join(tmp_path: Path) -> None:
    given: dict[str, Any] = {"network": "mlp-w8", "seed": 0, "progress": None}
    made = potstill.distill("digits", "dm", ipc=1, steps=1, parametrization="tiles", codec="uint8", **given)
    chosen = potstill.distill("digits", "random", ipc=2, **given)
    joined = reloaded(potstill.concat([made, chosen]), tmp_path)
    assert torch.equal(joined.inputs, torch.cat([made.inputs, chosen.inputs]))
    assert joined.index is None
    assert joined.metadata["cost"]["device"] == made.metadata["cost"]["device"]
    both = potstill.concat([chosen, chosen])
    assert chosen.index is not None
    assert both.index is not None
    assert torch.equal(both.index, chosen.index.repeat(2))
    with pytest.raises(PotstillError, match="joined set has no indices alone"):
        write_indices(both, tmp_path / "index.safetensors")


def test_soft_labels_weights_and_captions_join() -> None:
    rows = torch.rand(4, 2, generator=torch.Generator().manual_seed(2)).softmax(1)
    soft = make(labels=rows, weights=torch.tensor([1.0, 2.0, 3.0, 2.0]))
    hard = make(("b", "c"), n=2, captions=("x", "y"))
    joined = potstill.concat([soft, hard])
    assert torch.equal(joined.labels[:4, :2], soft.labels)
    assert joined.labels[4:].tolist() == [[0, 1, 0], [0, 0, 1]]
    assert joined.weights is not None
    assert joined.weights.tolist() == [0.5, 1.0, 1.5, 1.0, 1.0, 1.0]
    assert joined.captions == ("", "", "", "", "x", "y")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"input": InputSpec(kind="image", shape=(1, 4, 4), units="other")}, "different inputs cannot be joined"),
        ({"normalization": Normalization(torch.zeros(1), torch.ones(1))}, "different normalization cannot be joined"),
        ({"labels": torch.full((4, 2), 0.1), "scores": True}, "scores are joined with scores"),
        ({"payload": {"x": torch.ones(2)}}, "no parametrization decodes"),
    ],
)
def test_what_does_not_fit_is_refused(other: dict[str, Any], message: str) -> None:
    with pytest.raises(PotstillError, match=message) as error:
        potstill.concat([make(), make(**other)])
    assert "\n" not in str(error.value)
    with pytest.raises(PotstillError, match="at least one set"):
        potstill.concat([])


def test_another_normalization_is_given() -> None:
    first, second = make(), make(normalization=Normalization(torch.zeros(1), torch.ones(1)))
    joined = potstill.concat([first, second], normalization=first.normalization)
    assert torch.equal(joined.inputs, torch.cat([first.inputs, second.inputs]))
    assert torch.equal(joined.model_space()[:4], first.model_space())
