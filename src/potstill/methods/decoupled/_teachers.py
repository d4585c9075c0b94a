"""Frozen teachers: one network, several seeds, or a committee of architectures; and the labels they give.

Every teacher is an asset: trained once on the training source, cached, and shared by methods with the same recipe.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from potstill.core import (
    Asset,
    Network,
    NetworkFactory,
    NetworkWeights,
    NonNegativeInt,
    PositiveFloat,
    Problem,
    Source,
    StepCost,
)
from potstill.data.iterate import map_samples
from potstill.errors import PotstillError
from potstill.functional.statistics import record_statistics
from potstill.methods.engine import (
    SettingsBySize,
    hard_labels,
    nearest_settings,
    require_tensor,
    teacher_factory,
    usable_networks,
)  # fmt: skip
from potstill.pretraining import TrainedNetworks

__all__ = [
    "CHUNK", "Labeller", "StatisticsRules", "TeacherConfig", "TeacherEnsemble", "TeacherNetwork", "teacher_logits",
]  # fmt: skip

T = TypeVar("T", bound="TeacherConfig")

StatisticsRules: TypeAlias = Mapping[type[nn.Module], Callable[[Tensor], Mapping[str, Tensor]]]
"""Functions from a layer's input to its statistics, by layer type."""

CHUNK = 256
"""Samples per pass without gradients."""


@lru_cache(maxsize=8)
def _build_layers(make: Hashable) -> Network:
    return cast(NetworkFactory, make)(0).eval().requires_grad_(False)


def _layers_only(make: NetworkFactory) -> Network:
    """Return a shared network of the architecture, whose own weights are never used."""
    return _build_layers(cast(Hashable, make))


@dataclass(frozen=True)
class TeacherNetwork:
    """A trained network as a function. ``network`` is in evaluation mode and provides the layers only."""

    network: Network
    weights: Mapping[str, Tensor]
    """Parameters and buffers by name."""

    def running_statistics(self) -> dict[str, dict[str, Tensor]]:
        """Return the running mean and variance of every BatchNorm by name, in module order."""
        return {
            name: {"mean": self.weights[f"{name}.running_mean"], "var": self.weights[f"{name}.running_var"]}
            for name, module in self.network.named_modules()
            if isinstance(module, nn.BatchNorm2d)
        }

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits of inputs in model space (n, …), without a graph."""
        with torch.no_grad():
            return torch.cat([functional_call(self.network, dict(self.weights), (p,)) for p in torch.split(x, CHUNK)])

    def forward_with_features(
        self, x: Tensor, rules: StatisticsRules | None = None
    ) -> tuple[Tensor, Tensor, dict[str, dict[str, Tensor]]]:
        """Return logits, embeddings (n, d) and layer statistics by ``rules`` of inputs in model space."""
        head, rules = self.network.classifier, rules or {}
        name = next(n for n, m in self.network.named_modules() if m is head)
        with_head: StatisticsRules = {**rules, type(head): lambda a: {"input": a}}
        logits, statistics = record_statistics(self.network, self.weights, x, with_head)
        layers = {n: s for n, s in statistics.items() if isinstance(self.network.get_submodule(n), tuple(rules))}
        return logits, statistics[name]["input"], layers

    def embed_samples(self, source: Source, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and embeddings of real samples, without a graph, in one pass over them."""

        def both(x: Tensor) -> Tensor:
            return torch.cat(self.forward_with_features(x)[:2], 1)

        with torch.no_grad():
            rows = map_samples(source, index, CHUNK, lambda batch: both(require_tensor(batch.x)))
        k = len(source.classes)
        return rows[:, :k], rows[:, k:]


@dataclass(frozen=True, kw_only=True)
class TeacherEnsemble:
    """The teachers of a method: their architectures and their training."""

    count: int = 1
    """Teachers of the problem's own architecture."""
    committee: tuple[str, ...] = ()
    """Names of further networks, one teacher each."""
    recipe: Mapping[str, float | int | str]
    needs_batch_norm: bool = True
    """True if BatchNorm statistics are matched, so that the problem's own architecture must have some."""

    def architectures(self, problem: Problem) -> list[tuple[str, NetworkFactory, int]]:
        """Return the name of the asset, the factory and the number of teachers, for each architecture.

        Raises:
            PotstillError: a network of the committee is unknown, repeated, or does not take such inputs.
        """
        names = self.committee
        if twice := next((n for i, n in enumerate(names) if n in names[:i]), None):
            raise PotstillError(f"a committee has each network once, but {twice} is listed twice; drop one")
        factories = [teacher_factory(n, problem) for n in names]
        further: list[tuple[str, NetworkFactory, int]] = [(f"networks/{f.name}", f, 1) for f in factories]
        return [("networks", problem.network, self.count), *further]

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        """Return the networks to train.

        Raises:
            PotstillError: as `architectures`; or BatchNorms are matched, and the network has none.
        """
        assets = []
        for name, make, count in self.architectures(problem):
            has_batch_norm = any(isinstance(m, nn.BatchNorm2d) for m in _layers_only(make).modules())
            if self.needs_batch_norm and name == "networks" and not has_batch_norm:
                raise PotstillError(
                    f"this method matches the statistics of BatchNorm layers, but network {make.name} has none; "
                    "choose one that has, e.g. convnet-batch or resnet18-batch"
                )
            recipe = {**self.recipe, **({} if name == "networks" else {"network": make.name})}
            assets.append(TrainedNetworks(name=name, count=count, recipe=recipe, labels=True))
        return tuple(assets)

    def load(self, problem: Problem) -> tuple[TeacherNetwork, ...]:
        """Return all teachers: those of the problem's architecture first, then the committee's in order.

        Raises:
            PotstillError: they have not been trained, or have another architecture.
        """
        members: list[TeacherNetwork] = []
        for name, make, count in self.architectures(problem):
            trained: tuple[NetworkWeights, ...] = tuple(problem.assets.get(name, ()))
            if len(trained) < count:
                raise PotstillError(
                    f"this method needs {count} trained {make.name}, but the problem has {len(trained)} in "
                    f"assets[{name!r}]; run it through potstill.distill, or make them with potstill.pretraining"
                )
            network = _layers_only(make)
            shapes = {n: t.shape for n, t in (*network.named_parameters(), *network.named_buffers())}
            for one in trained[:count]:
                weights = {**one.parameters, **one.buffers}
                if {n: t.shape for n, t in weights.items()} != shapes:
                    raise PotstillError(f"the networks in assets[{name!r}] are not {make.name}; train them again")
                members.append(TeacherNetwork(network, weights))
        return tuple(members)


def teacher_logits(member: TeacherNetwork, x: Tensor, problem: Problem) -> Tensor:
    """Return a teacher's logits (n, k)."""
    return member.logits(x)


@dataclass(frozen=True, kw_only=True)
class Labeller:
    """Labels of a result by the teachers that recovered it."""

    teachers: TeacherEnsemble
    soft: bool = True
    """Soft labels per input, or its class."""
    temperature: float = 1.0
    weights: tuple[float, ...] = ()
    """Weights of the teachers' logits, summing to 1; empty: equal weights."""
    logits: Callable[[TeacherNetwork, Tensor, Problem], Tensor] = teacher_logits
    """Function that returns a teacher's logits for all inputs in model space."""

    def soft_rows(self, problem: Problem, x: Tensor) -> Tensor:
        """Return soft labels (n, k) of inputs in model space: the softmax of the teachers' mean logits."""
        members = self.teachers.load(problem)
        weights = self.weights or (1 / len(members),) * len(members)
        weighted = zip(members, weights, strict=True)
        logits = torch.stack([weight * self.logits(member, x, problem) for member, weight in weighted]).sum(0)
        return (logits / self.temperature).softmax(1)

    def labels(self, problem: Problem, x: Tensor) -> Tensor:
        """Return the labels of a result's decoded inputs in model space."""
        return self.soft_rows(problem, x) if self.soft else hard_labels(problem)

    def step_cost(self, problem: Problem) -> StepCost:
        """Return the cost of a labelling pass, for a plan."""
        size = min(CHUNK, sum(problem.sizes))

        def label() -> None:
            self.soft_rows(problem, torch.zeros(size, *problem.train.input.shape, device=problem.train.device))

        return StepCost(what="labels of the result", samples=0, size=size, ready=lambda _: label)


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Fields of teachers and of their labels.

    The papers of this family publish one soft label per epoch and crop; a set by itself can hold one per input.
    """

    published: ClassVar[SettingsBySize] = {}
    """Published settings by data size, of fields whose default is `AUTO`."""
    default_committee: ClassVar[tuple[str, ...]] = ()
    """Further teachers if ``committee`` is AUTO: those of these that take the data."""

    labels: Literal["hard", "soft"] = "soft"
    """One soft label of the teacher's per input, or its class. Published are soft labels per epoch and crop."""
    temperature: PositiveFloat = 1.0
    """Soft labels are softmax(logits / temperature); above 0. Ours: published students and teachers share one of 20."""
    network: str = "resnet18-batch"
    """The teacher's architecture (published: ResNet-18). It needs BatchNorm."""
    num_teachers: int = 1
    """Teachers of that architecture, with other seeds."""
    committee: str = ""
    """Further teachers: network names separated by commas. Those without BatchNorm classify only."""
    teacher_epochs: NonNegativeInt = 50
    """Training epochs of each teacher; 0 leaves them untrained (SRe2L for Tiny-ImageNet; 200 for CIFAR)."""
    teacher_batch: int = 128
    """Samples per step of that training (squeeze_cifar.py)."""
    teacher_lr: float = 0.1
    """Initial learning rate (squeeze_cifar.py) of SGD with momentum 0.9 and weight decay 5e-4."""
    teacher_schedule: Literal["cosine", "steps", "constant"] = "cosine"
    """Learning rate schedule (squeeze_cifar.py)."""
    teacher_augment: str = "dsa"
    """Per-sample augmentation of that training. Ours: published are crops and flips."""

    def resolve_defaults(self: T, problem: Problem) -> tuple[T, tuple[str, ...]]:
        """Return the method with AUTO fields resolved, and a line for each teacher that cannot take the data."""
        unset = self._unset_fields()
        nearby = nearest_settings(self.published, problem.train.input, problem.num_classes) if self.published else {}
        changes: dict[str, Any] = {name: value for name, value in nearby.items() if name in unset}
        lines: list[str] = []
        if "committee" in unset:
            usable, lines = usable_networks(self.default_committee, problem)
            changes["committee"] = ",".join(usable)
        return replace(self, **changes), tuple(lines)

    def _unset_fields(self) -> list[str]:
        return [f.name for f in fields(self) if f.default is None and getattr(self, f.name) is None]

    def teachers(self, needs_batch_norm: bool = True) -> TeacherEnsemble:
        """Return the teachers; ``needs_batch_norm``: True if their BatchNorm statistics are matched.

        Raises:
            PotstillError: a field is still AUTO.
        """
        if unset := self._unset_fields():
            raise PotstillError(
                f"{type(self).__name__} leaves {unset[0]} to the data; take method.resolve_defaults(problem)[0], or "
                f"give {unset[0]}"
            )
        recipe: dict[str, float | int | str] = {
            "epochs": self.teacher_epochs, "batch": self.teacher_batch, "lr": self.teacher_lr, "momentum": 0.9,
            "weight_decay": 5e-4, "schedule": self.teacher_schedule, "augment": self.teacher_augment,
        }  # fmt: skip
        names = (name.strip() for name in self.committee.split(","))
        return TeacherEnsemble(
            count=self.num_teachers, committee=tuple(n for n in names if n), recipe=recipe,
            needs_batch_norm=needs_batch_norm,
        )  # fmt: skip

    def labeller(self) -> Labeller:
        """Return the labeller of the result."""
        return Labeller(teachers=self.teachers(), soft=self.labels == "soft", temperature=self.temperature)
