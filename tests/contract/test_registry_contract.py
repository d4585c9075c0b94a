"""One suite over everything that is registered: an entry is a promise that it passes."""

import dataclasses

import pytest
import torch

from potstill import registry
from potstill.core import InputSpec
from potstill.nn import catalogue, factory
from potstill.registry import make_method
from potstill.testing import (
    ContractError,
    check_augmentation,
    check_method,
    check_network,
    check_parametrization,
    check_source,
    toy_problem,
    toy_source,
)

SMALL = {"iterations": 4, "batch_real": 6, "outer": 2, "inner": 2, "teacher_steps": 4, "batch": 6}
"""Settings that shorten a method where it has them; the promise itself does not depend on them."""


def small(name: str, **changes: object):
    fields = {f.name for f in dataclasses.fields(registry.resolve("methods", name))}
    return make_method(name, {k: v for k, v in {**SMALL, **changes}.items() if k in fields})[1]


@pytest.mark.parametrize("kind", ["image", "table"])
@pytest.mark.parametrize("name", registry.names("methods"))
def test_method_keeps_the_contract(name: str, kind: str) -> None:
    check_method(small(name), steps=5, kind=kind)


@pytest.mark.parametrize("name", ["dc", "dsa", "dm"])
def test_method_keeps_the_contract_with_batch_norm(name: str) -> None:
    method = small(name)
    problem = toy_problem(method, network="convnet-d1-w8-batch")
    rng = torch.Generator().manual_seed(0)
    state = method.init(problem, rng)
    for _ in range(3):
        state, metrics = method.step(problem, state, rng)
        assert all(torch.isfinite(torch.tensor(v)) for v in metrics.values())


@pytest.mark.parametrize("name", registry.names("augmentations"))
def test_augmentation_keeps_the_contract(name: str) -> None:
    augment = registry.resolve("augmentations", name)()
    check_augmentation(augment, (3, 12, 12))
    check_augmentation(augment, (1, 9, 14))


@pytest.mark.parametrize("name", registry.names("parametrizations"))
def test_parametrization_keeps_the_contract(name: str) -> None:
    check_parametrization(registry.resolve("parametrizations", name))


@pytest.mark.parametrize("name", ["convnet", "convnet-d2-w8-swish-batch-max", "mlp", "lenet", "resnet18", "vit-tiny"])
def test_network_keeps_the_contract(name: str) -> None:
    spec = InputSpec(kind="image", shape=(3, 32, 32))
    check_network(factory(name, spec, 5), spec.shape, 5)


def test_the_catalogue_names_networks_that_can_be_made() -> None:
    assert {"convnet", "mlp", "lenet", "alexnet", "vgg11", "resnet18", "vit-tiny"} <= {e.name for e in catalogue()}


@pytest.mark.parametrize("kind", ["image", "table"])
def test_source_keeps_the_contract(kind: str) -> None:
    check_source(toy_source(kind))


def test_protocols_are_registered_under_their_own_name() -> None:
    for name in registry.names("protocols"):
        assert registry.resolve("protocols", name).name == name


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Broken(registry.resolve("methods", "dm")):  # type: ignore[misc]
    """DM with one planted defect."""

    defect: str = "none"

    def step(self, problem, state, rng):  # type: ignore[no-untyped-def]
        if self.defect == "global":
            torch.randn(1)
        if self.defect == "in place":
            state.payload["inputs"].mul_(0.5)
        following, metrics = super().step(problem, state, rng)
        if self.defect == "hidden state":
            self.__dict__.setdefault("_seen", []).append(1)
            shift = 1e-3 * len(self.__dict__["_seen"])
            payload = {n: t + shift for n, t in following.payload.items()}
            following = dataclasses.replace(following, payload=payload)
        if self.defect == "clock":
            import time

            payload = {n: t + (time.time() % 97) for n, t in following.payload.items()}
            following = dataclasses.replace(following, payload=payload)
        return following, metrics

    def result(self, problem, state):  # type: ignore[no-untyped-def]
        made = super().result(problem, state)
        if self.defect == "labels":
            return dataclasses.replace(made, labels=torch.zeros_like(made.labels))
        return made


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("global", "global generator"),
        ("in place", "in place"),
        ("hidden state", "same bits"),
        ("clock", "same bits"),
        ("labels", "budget"),
    ],
)
def test_check_method_finds_a_planted_defect(defect: str, sentence: str) -> None:
    with pytest.raises(ContractError, match=sentence):
        check_method(_Broken(iterations=4, batch_real=6, defect=defect))


def test_check_method_passes_without_a_defect() -> None:
    check_method(_Broken(iterations=4, batch_real=6))
