"""Frozen teachers: one network, several with other seeds, or a committee of architectures; and the labels they give.

Every teacher is an asset: trained once on the training source, kept, shared by all methods that ask for the same.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from potstill.core import Asset, Network, NetworkFactory, NetworkWeights, Problem, Source, StepCost
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
)
from potstill.pretraining import TrainedNetworks

__all__ = ["CHUNK", "Labeller", "Member", "Rules", "Taught", "Teachers", "of_member"]

T = TypeVar("T", bound="Taught")

Rules: TypeAlias = Mapping[type[nn.Module], Callable[[Tensor], Mapping[str, Tensor]]]
"""What is taken from the inputs of which layers."""

CHUNK = 256
"""Samples of one pass where nothing is differentiated."""


@lru_cache(maxsize=8)
def _made(make: Hashable) -> Network:
    return cast(NetworkFactory, make)(0).eval().requires_grad_(False)


def _architecture(make: NetworkFactory) -> Network:
    """Layers only: its own weights are never used, so that one serves every teacher of the kind."""
    return _made(cast(Hashable, make))


@dataclass(frozen=True)
class Member:
    """A trained network as a function. ``network`` is in evaluation mode and gives the layers only."""

    network: Network
    weights: Mapping[str, Tensor]
    """Parameters and buffers by name."""

    def running(self) -> dict[str, dict[str, Tensor]]:
        """The running mean and variance of every BatchNorm by its name, in module order."""
        return {
            name: {"mean": self.weights[f"{name}.running_mean"], "var": self.weights[f"{name}.running_var"]}
            for name, module in self.network.named_modules()
            if isinstance(module, nn.BatchNorm2d)
        }

    def logits(self, x: Tensor) -> Tensor:
        """Of inputs in model space (n, …), without a graph."""
        with torch.no_grad():
            return torch.cat([functional_call(self.network, dict(self.weights), (p,)) for p in torch.split(x, CHUNK)])

    def seen(self, x: Tensor, rules: Rules | None = None) -> tuple[Tensor, Tensor, dict[str, dict[str, Tensor]]]:
        """Logits and embeddings (n, d) of inputs in model space, and what ``rules`` take of the layers on the way."""
        head, rules = self.network.classifier, rules or {}
        name = next(n for n, m in self.network.named_modules() if m is head)
        logits, found = record_statistics(self.network, self.weights, x, {**rules, type(head): lambda a: {"input": a}})
        layers = {n: s for n, s in found.items() if isinstance(self.network.get_submodule(n), tuple(rules))}
        return logits, found[name]["input"], layers

    def embedded(self, source: Source, index: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and embeddings of real samples, without a graph, in one pass over them."""
        with torch.no_grad():
            both = map_samples(source, index, CHUNK, lambda batch: torch.cat(self.seen(require_tensor(batch.x))[:2], 1))
        k = len(source.classes)
        return both[:, :k], both[:, k:]


@dataclass(frozen=True, kw_only=True)
class Teachers:
    """The trained networks that a method asks, as a value: which they are, and how they are trained."""

    count: int = 1
    """Those of the problem's own architecture."""
    committee: tuple[str, ...] = ()
    """The names of further networks, one teacher of each."""
    recipe: Mapping[str, float | int | str]
    matched: bool = True
    """Whether statistics of BatchNorms are matched, so that the problem's own architecture must have some."""

    def architectures(self, problem: Problem) -> list[tuple[str, NetworkFactory, int]]:
        """The name of the asset, the factory and the number of teachers, for each architecture.

        Raises:
            PotstillError: a name of the committee is not known, stands there twice, or cannot eat such inputs.
        """
        names = self.committee
        if twice := next((n for i, n in enumerate(names) if n in names[:i]), None):
            raise PotstillError(f"a committee has each network once, but {twice} stands there twice; drop one")
        made = [teacher_factory(n, problem) for n in names]
        further: list[tuple[str, NetworkFactory, int]] = [(f"networks/{f.name}", f, 1) for f in made]
        return [("networks", problem.network, self.count), *further]

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        """What must be trained, or be there already.

        Raises:
            PotstillError: as `architectures`; or BatchNorms are matched, and there are none.
        """
        specs = []
        for name, make, count in self.architectures(problem):
            has = any(isinstance(m, nn.BatchNorm2d) for m in _architecture(make).modules())
            if self.matched and name == "networks" and not has:
                raise PotstillError(
                    f"this method matches the statistics of BatchNorm layers, but network {make.name} has none; "
                    "choose one that has, e.g. convnet-batch or resnet18-batch"
                )
            own = {} if name == "networks" else {"network": make.name}
            recipe = {**self.recipe, **own}
            specs.append(TrainedNetworks(name=name, count=count, recipe=recipe, labels=True))
        return tuple(specs)

    def members(self, problem: Problem) -> tuple[Member, ...]:
        """Every teacher: those of the problem's architecture first, then the committee's in its order.

        Raises:
            PotstillError: they have not been made, or are of another architecture.
        """
        found: list[Member] = []
        for name, make, count in self.architectures(problem):
            trained: tuple[NetworkWeights, ...] = tuple(problem.assets.get(name, ()))
            if len(trained) < count:
                raise PotstillError(
                    f"this method needs {count} trained {make.name}, but the problem has {len(trained)} in "
                    f"assets[{name!r}]; run it through potstill.distill, or make them with potstill.pretraining"
                )
            network = _architecture(make)
            shapes = {n: t.shape for n, t in (*network.named_parameters(), *network.named_buffers())}
            for one in trained[:count]:
                weights = {**one.parameters, **one.buffers}
                if {n: t.shape for n, t in weights.items()} != shapes:
                    raise PotstillError(f"the networks in assets[{name!r}] are not {make.name}; make them anew")
                found.append(Member(network, weights))
        return tuple(found)


def of_member(member: Member, x: Tensor, problem: Problem) -> Tensor:
    """A teacher's own logits, (n, k)."""
    return member.logits(x)


@dataclass(frozen=True, kw_only=True)
class Labeller:
    """What a result's inputs are labelled with, by the teachers that made them."""

    teachers: Teachers
    soft: bool = True
    """A row per input, or its class."""
    temperature: float = 1.0
    votes: tuple[float, ...] = ()
    """What each teacher's logits weigh; they sum to 1. None: all the same."""
    logits: Callable[[Member, Tensor, Problem], Tensor] = of_member
    """Of a teacher, for all inputs in model space."""

    def rows(self, problem: Problem, x: Tensor) -> Tensor:
        """Soft labels (n, k) of inputs in model space: the softmax of the teachers' mean logits."""
        members = self.teachers.members(problem)
        votes = self.votes or (1 / len(members),) * len(members)
        voices = zip(members, votes, strict=True)
        logits = torch.stack([vote * self.logits(member, x, problem) for member, vote in voices]).sum(0)
        return (logits / self.temperature).softmax(1)

    def labels(self, problem: Problem, x: Tensor) -> Tensor:
        """Of the decoded inputs of a result, in model space."""
        return self.rows(problem, x) if self.soft else hard_labels(problem)

    def part(self, problem: Problem) -> StepCost:
        """A pass of the labels that the result is given, for a plan."""
        size = min(CHUNK, sum(problem.sizes))

        def label() -> None:
            self.rows(problem, torch.zeros(size, *problem.train.input.shape, device=problem.train.device))

        return StepCost(what="labels of the result", samples=0, size=size, ready=lambda _: label)


@dataclass(frozen=True, kw_only=True)
class Taught:
    """The settings of teachers and of the labels that they give.

    The published labels of this family are many: one row per epoch and crop. A row per input is what a set of pictures
    can hold by itself.
    """

    positive: ClassVar[tuple[str, ...]] = ("temperature",)
    published: ClassVar[SettingsBySize] = {}
    """The settings of programs that are published for data of several sizes, of those fields that are `AUTO`."""
    usual: ClassVar[tuple[str, ...]] = ()
    """The further teachers where ``committee`` is left to the data: those of these that can take them."""

    labels: Literal["hard", "soft"] = "soft"
    """One row of the teacher's per input, or its class. Published are rows per epoch and crop, of which one row is the
    nearest that a set can hold."""
    temperature: float = 1.0
    """The rows are softmax(logits / temperature); above 0. Ours: published students and teachers share one of 20."""
    network: str = "resnet18-batch"
    """The teacher's architecture (published: ResNet-18). It needs BatchNorm."""
    networks_trained: int = 1
    """Teachers of that architecture, with other seeds."""
    committee: str = ""
    """Further teachers: their networks' names, with commas between. Those without BatchNorm classify, and have no
    such statistics to match."""
    epochs_trained: int = 50
    """Passes that each was trained for; 0 leaves them untrained (SRe2L for Tiny-ImageNet; 200 for CIFAR)."""
    batch_trained: int = 128
    """Samples per step of that training (squeeze_cifar.py)."""
    lr_trained: float = 0.1
    """Its learning rate (squeeze_cifar.py), of SGD with momentum 0.9 and weight decay 5e-4."""
    schedule_trained: Literal["cosine", "steps", "constant"] = "cosine"
    """How that rate falls (squeeze_cifar.py)."""
    augment_training: str = "dsa"
    """Per-sample augmentation of that training. Ours: published are crops and flips."""

    def resolve_defaults(self: T, problem: Problem) -> tuple[T, tuple[str, ...]]:
        """With what is left to the data, and a line for each thing that they do not admit."""
        left = self._left()
        nearby = nearest_settings(self.published, problem.train.input, problem.num_classes) if self.published else {}
        changes: dict[str, Any] = {name: value for name, value in nearby.items() if name in left}
        said: list[str] = []
        if "committee" in left:
            kept, said = usable_networks(self.usual, problem)
            changes["committee"] = ",".join(kept)
        return replace(self, **changes), tuple(said)

    def _left(self) -> list[str]:
        """Fields that are still left to the data."""
        return [f.name for f in fields(self) if f.default is None and getattr(self, f.name) is None]

    def teachers(self, matched: bool = True) -> Teachers:
        """The teachers as a value; ``matched``: whether the statistics of their BatchNorms are.

        Raises:
            PotstillError: fields are still left to the data.
        """
        if left := self._left():
            what = f"{type(self).__name__} leaves {left[0]} to the data"
            raise PotstillError(f"{what}; take method.resolve_defaults(problem)[0], or give {left[0]}")
        recipe: dict[str, float | int | str] = {
            "epochs": self.epochs_trained, "batch": self.batch_trained, "lr": self.lr_trained, "momentum": 0.9,
            "weight_decay": 5e-4, "schedule": self.schedule_trained, "augment": self.augment_training,
        }  # fmt: skip
        names = (name.strip() for name in self.committee.split(","))
        return Teachers(
            count=self.networks_trained, committee=tuple(n for n in names if n), recipe=recipe, matched=matched
        )

    def labeller(self) -> Labeller:
        """What they label with."""
        return Labeller(teachers=self.teachers(), soft=self.labels == "soft", temperature=self.temperature)
