"""Draws keyed by class name: a sample less in one class leaves the others, and classes run apart join to the whole."""

import dataclasses
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.core import Method, Problem, Selection, Source, Splits
from potstill.core.registry import get_method_class, names
from potstill.rng import generator
from potstill.testing import toy_problem, toy_source

SMALL: dict[str, Any] = {
    "pretrained_networks": 2, "pretrain_epochs": 1, "teacher_epochs": 1, "num_experts": 1, "train_epochs": 1,
    "record_epochs": 3, "trajectory": 3, "runs": 2, "window": 3, "swing": 0, "checkpoints": 2, "epoch": 2,
    "iterations": 4, "batch_real": 6, "samples": 4, "crops": 2, "diffusion_updates": 3, "autoencoder_epochs": 1,
}  # fmt: skip
"""Settings that shorten a method where it has them."""
ALL = names("methods", outside=False)
DELETION = [n for n in ALL if get_method_class(n).info.class_independence != "none"]
SEPARATE = [n for n in ALL if get_method_class(n).info.class_independence == "separate"]
STEPS = 6


def shortened(name: str) -> Method[Any]:
    fields = {f.name for f in dataclasses.fields(get_method_class(name))}
    return get_method_class(name)(**{k: v for k, v in SMALL.items() if k in fields})


def run(method: Method[Any], problem: Problem) -> Any:
    rng = generator(3)
    state = method.init(problem, rng)
    for _ in range(max(STEPS, problem.num_classes + 1)):
        if method.done(problem, state):
            break
        state, _ = method.step(problem, state, rng)
    return method.result(problem, state)


def items(problem: Problem, result: Any) -> list[tuple[Tensor, ...]]:
    """Inputs, and weights if there are any, of each class's items."""
    if not isinstance(result, Selection):
        return [(part,) for part in problem.decode(result.payload).detach().split(list(problem.sizes))]
    found = [problem.train.raw(result.index)] + ([] if result.weights is None else [result.weights])
    y = problem.train.labels[result.index]
    return [tuple(t[y == c] for t in found) for c in range(problem.num_classes)]  # type: ignore[index]


def same(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", DELETION)
@pytest.mark.parametrize("gone", [15, 21])
def test_a_sample_less_in_one_class_leaves_the_items_of_the_others(name: str, gone: int) -> None:
    method, source = shortened(name), toy_source(per_class=14)
    problem = toy_problem(method, source=source)
    method = method.resolve_defaults(problem)[0]
    kept = torch.tensor([i for i in range(len(source)) if i != gone])
    part = replace(problem, train=source.subset(kept))  # type: ignore[attr-defined]  # the networks stay
    if hasattr(method, "columns"):  # scores stay, too
        columns = method.columns(problem)
        part = part.with_assets({**problem.assets, "scores": {n: t[kept] for n, t in columns.items()}})
        problem = problem.with_assets({**problem.assets, "scores": columns})
    before, after = items(problem, run(method, problem)), items(part, run(method, part))
    assert [same(before[c], after[c]) for c in (0, 2, 3)] == [True] * 3


@pytest.mark.parametrize("name", SEPARATE)
def test_classes_run_apart_and_joined_have_the_bits_of_the_joint_run(name: str) -> None:
    source, method = toy_source(per_class=14), shortened(name)
    network = None if method.info.is_selection else "convnet-d1-w8"

    def distilled(train: Source) -> Any:
        data = Splits(train=train, test=None)
        return potstill.distill(data, method, ipc=2, seed=5, network=network, codec="float32", progress=None)

    def alone(c: int) -> Source:  # with the normalization of all
        index = torch.where(source.labels == c)[0]
        part: Any = source.subset(index)  # type: ignore[attr-defined]
        alone: Source = replace(part, labels=torch.zeros_like(part.labels), classes=(source.classes[c],))
        return alone

    whole, parts = distilled(source), [distilled(alone(c)) for c in range(len(source.classes))]
    joined = potstill.concat(parts)
    assert torch.equal(joined.inputs, whole.inputs)
    assert torch.equal(joined.labels, whole.labels)
    assert joined.classes == whole.classes


def test_these_are_the_methods_with_neither_property() -> None:
    """Networks train on the set, batches are of all classes, or a loss joins these."""
    together = set(ALL) - set(DELETION)
    assert {"dc", "dsa", "idc", "mtt", "idm", "cafe", "frepo", "edc", "stratified"} <= together
