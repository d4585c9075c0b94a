"""Learners: estimators that a protocol fits in place of a network, such as scikit-learn's or closed forms.

A protocol's recipe (epochs, rates, batches, augmentation) does not apply to them: they are fitted once for each seed
if they are stochastic, else once.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.core import Batch, Inputs, InputSpec, NetworkFactory, Normalization, Problem, Source, Task, registry
from potstill.core.nested import single_tensor
from potstill.data.graph import NodeGraph
from potstill.data.interactions import Interactions
from potstill.data.iterate import map_samples
from potstill.errors import PotstillError
from potstill.evaluation.set_graph import SetGraph
from potstill.functional.graph import normalized_adjacency
from potstill.kinds import get_kind
from potstill.nn import default_network_name, factory_for
from potstill.rng import generator
from potstill.tasks import Recommendation, get_targets, get_task

__all__ = [
    "FitsNodes", "FitsTexts", "FitsUsers", "FitsWithInput", "HasTrialLearner", "Learner", "LearnerFactory", "Predictor",
    "TrainingNodes", "default_student", "is_learner_name", "make_learner", "require_learner",
    "student_of",
]  # fmt: skip

Predictor: TypeAlias = Callable[[Tensor], Tensor]
"""Maps inputs in model space (n, …) to the answers that the task's ``score`` takes: int64 classes (n,), or real values
(n, t) in the targets' own units.
"""
_CHUNK = 4096
"""Samples per prediction call."""
_CHOOSING_USERS = 2000
"""Maximum number of users whose validation interactions choose."""


@runtime_checkable
class Learner(Protocol):
    """Interface of a learner: a frozen dataclass whose fields are its settings (JSON values)."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that it can learn."""
        ...

    @property
    def draws(self) -> bool:
        """True if the seed can change the predictor. Else it is fitted once and no spread is reported."""
        ...

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int, /) -> Predictor:
        """Fit on inputs in model space (n, …) and the task's targets (n, …).

        Args:
            y: int64 classes (n,), or rows (n, k) of probabilities. A learner with ``real_rows = True`` gets scores +
            1/k
                for a set with scores: rows in the same units that need not be probabilities.
            weights: sample weights (n,), mean 1; ``None``: all equal.
            seed: of all draws; torch's and NumPy's global generators are not touched.
        """
        ...


@runtime_checkable
class FitsWithInput(Protocol):
    """A `Learner` that also needs the input spec, e.g. to run a network before itself."""

    def fit_with_input(
        self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int, input: InputSpec,
        normalization: Normalization, /,
    ) -> Predictor:  # fmt: skip
        """Fit like `Learner.fit`, given the input spec and normalization."""
        ...


@runtime_checkable
class FitsTexts(Protocol):
    """A `Learner` that reads real texts in place of their vectors."""

    def fit_texts(
        self, texts: Sequence[str], y: Tensor, weights: Tensor | None, task: Task, seed: int, /
    ) -> Callable[[Sequence[str]], Tensor]:
        """Fit like `Learner.fit`, given texts; what is returned maps texts to answers (n, …)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingNodes:
    """Nodes that a learner trains on. Legend: n nodes, d features, m nodes with a label."""

    x: Float[Tensor, "n d"]
    """Features in data units."""
    y: Tensor
    """Classes (m,) or rows (m, k) of probabilities."""
    weights: Float[Tensor, " m"] | None = None
    adjacency: Tensor | None = None
    """Normalised adjacency (n, n); ``None``: each node has a loop alone."""
    labelled: Int[Tensor, " m"] | None = None
    """Nodes that have a label; ``None``: all."""

    def to_device(self, device: torch.device) -> "TrainingNodes":
        """Return the nodes on a device."""

        def moved(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device)

        return TrainingNodes(
            x=self.x.to(device), y=self.y.to(device), weights=moved(self.weights), adjacency=moved(self.adjacency),
            labelled=moved(self.labelled),
        )  # fmt: skip


@runtime_checkable
class HasTrialLearner(Protocol):
    """An expensive `Learner`, which names a cheap one that chooses among many candidate sets."""

    def for_trials(self) -> Learner:
        """Return the cheap learner."""
        ...


@runtime_checkable
class FitsNodes(Protocol):
    """A `Learner` that is tested on the original graph."""

    def fit_nodes(
        self, training: TrainingNodes, task: Task, seed: int, graph: NodeGraph, test_nodes: Tensor, /
    ) -> Tensor:
        """Fit like `Learner.fit`, and return the answers for the graph's nodes ``test_nodes`` (k,)."""
        ...


@runtime_checkable
class FitsUsers(Protocol):
    """A `Learner` of users' lists of items, which chooses its settings on validation interactions."""

    def fit_users(self, rows: Tensor, quality: Callable[[Predictor], float], seed: int, /) -> Predictor:
        """Fit on rows (n, d), and return a function from rows (m, d) to scores of all items (m, d).

        Args:
            quality: score of such a function on validation interactions; the higher, the better.
        """
        ...


@dataclass(frozen=True, slots=True)
class LearnerFactory:
    """A learner in place of a network factory: fitted instead of trained."""

    learner: Learner
    name: str
    """The spec as given, with its settings."""
    device: torch.device

    def __call__(self, seed: int, /) -> NoReturn:
        raise PotstillError(
            f"{self.name} is not a network, and a network is needed here; name one, such as convnet or mlp"
        )

    def for_trials(self) -> "LearnerFactory":
        """Return the learner that chooses among many candidate sets: a cheap one if this one names it, else itself."""
        if not isinstance(self.learner, HasTrialLearner):
            return self
        learner = self.learner.for_trials()
        return LearnerFactory(learner, learner.name, self.device)

    @property
    def settings(self) -> dict[str, Any]:
        """Name, settings and ``draws`` for the scorecard."""
        settings: Mapping[str, Any] = dataclasses.asdict(self.learner)  # type: ignore[call-overload]
        return {"name": self.learner.name, "settings": settings, "draws": self.learner.draws}

    def fit_predict(
        self, source: Source, x: Inputs, y: Tensor, weights: Tensor | None, seed: int, texts: Sequence[str] = (),
        edges: SetGraph | None = None,
    ) -> Tensor:  # fmt: skip
        """Fit on ``x`` and ``y`` and return the answers for all samples of ``source`` (n, …), on the CPU.

        Args:
            texts: real texts of the inputs, for a learner that reads texts.
            edges: nodes with edges between them, for a learner of nodes; ``None``: ``x`` without edges.

        Raises:
            PotstillError: the learner reads texts, and there are none.
        """
        if isinstance(self.learner, FitsTexts):
            test_texts: tuple[str, ...] = getattr(source, "texts", ())
            if not texts or not test_texts:
                whose = "these inputs are numbers alone" if test_texts else f"{source.name} has none"
                raise PotstillError(
                    f"{self.name} learns from real texts, but {whose}; make the set by a selection or with "
                    "parametrization nearest-text, or choose another learner, such as linear-model"
                )
            answers = self.learner.fit_texts(texts, y, weights, get_task(source), seed)
            return answers(test_texts).cpu()
        whole, task = single_tensor(x, f"learner {self.name}"), get_task(source)
        if isinstance(self.learner, FitsNodes):
            graph, test_nodes = self._graph(source)
            nodes = TrainingNodes(x=source.normalization.invert(whole), y=y, weights=weights)
            if edges is not None:
                nodes = replace(nodes, x=edges.features, adjacency=edges.adjacency)
            return self.learner.fit_nodes(nodes, task, seed, graph, test_nodes).cpu()
        if isinstance(self.learner, FitsUsers):
            return self._recommend(source, task, whole, seed)
        if isinstance(self.learner, FitsWithInput):
            predict = self.learner.fit_with_input(whole, y, weights, task, seed, source.input, source.normalization)
        else:
            predict = self.learner.fit(whole, y, weights, task, seed)

        def answered(batch: Batch) -> Tensor:
            return predict(single_tensor(batch.x, f"learner {self.name}")).cpu()

        return map_samples(source, torch.arange(len(source)), _CHUNK, answered)

    def fit_all(self, train: Source, test: Source, seed: int) -> Tensor:
        """Fit on all training samples and return the answers for all samples of ``test`` (n, …), on the CPU.

        A learner of nodes trains on the original graph.
        """
        targets = get_targets(train)
        if isinstance(self.learner, FitsNodes):
            graph, test_nodes = self._graph(test)
            nodes = self._graph(train)[1]
            training = TrainingNodes(x=graph.features, y=targets, adjacency=graph.adjacency, labelled=nodes)
            if graph.representation.inductive:
                among = normalized_adjacency(graph.training_edges(nodes), len(nodes))
                training = TrainingNodes(x=graph.features[nodes], y=targets, adjacency=among)
            return self.learner.fit_nodes(training, get_task(test), seed, graph, test_nodes).cpu()
        every = train.fetch(torch.arange(len(train)))
        return self.fit_predict(test, every.x, targets, None, seed, getattr(train, "texts", ()))

    def _recommend(self, source: Source, task: Task, rows: Tensor, seed: int) -> Tensor:
        """Fit on rows of users and return what is recommended to the users of ``source`` (n, 21), on the CPU.

        Choices are made on validation interactions; where those are what is scored, on those of other users.
        """
        assert isinstance(self.learner, FitsUsers)
        interactions: Interactions | None = getattr(source, "interactions", None)
        users: Tensor | None = getattr(source, "places", None)
        if interactions is None or users is None or not isinstance(task, Recommendation):
            raise PotstillError(
                f"{self.name} learns users of interactions, and {source.name} has none; choose another learner"
            )
        device = source.device
        choosing = torch.ones(len(interactions.train), dtype=torch.bool)
        if interactions.test is None and len(users) < len(choosing):
            choosing[users] = False
        judges = torch.where(choosing)[0]
        order = torch.randperm(len(judges), generator=generator(seed, "choosing"))
        judges = judges[order[:_CHOOSING_USERS].sort().values]

        def answers(of: Interactions, some: Tensor, predict: Predictor) -> Tensor:
            parts = []
            for at in torch.split(some, _CHUNK):
                met = of.met(at)
                scores = predict(met.to(device).float()).cpu()
                parts.append(task.answers(scores, met, of.held_out(at)))
            return torch.cat(parts)

        def quality(predict: Predictor) -> float:
            return task.score(answers(interactions.for_choices, judges, predict), judges)

        predict = self.learner.fit_users(source.normalization.invert(rows), quality, seed)
        return answers(interactions, users, predict)

    def _graph(self, source: Source) -> tuple[NodeGraph, Tensor]:
        """Return the graph of a source of nodes, and which nodes its samples are."""
        graph, places = getattr(source, "graph", None), getattr(source, "places", None)
        if graph is None or places is None:
            raise PotstillError(
                f"{self.name} learns nodes of a graph, and {source.name} has none; choose another learner, such as "
                "linear-model"
            )
        return graph, places


def default_student(train: Source, network: str | None = None) -> NetworkFactory:
    """Return what sets of such data are measured with where nothing is named: the learner of the kind, or its network.

    Args:
        network: a network that is named, for kinds without a learner.
    """
    if learner := get_kind(train.input).learner:
        return make_learner(learner, train)
    return factory_for(network or default_network_name(train.input, get_task(train)), train)


def student_of(train: Source, problem: Problem) -> NetworkFactory:
    """Return what a run's set is measured with: the learner of the kind, or the run's network."""
    return make_learner(learner, train) if (learner := get_kind(train.input).learner) else problem.network


def require_learner(names: Sequence[object], train: Source) -> None:
    """Check that users are measured with learners.

    Raises:
        PotstillError: the data are users, and a name is that of a network.
    """
    kind = get_kind(train.input)
    if kind.learner and not all(map(is_learner_name, names)):
        task = get_task(train).name
        others = [name for name in registry.names("learners") if task in registry.resolve("learners", name).tasks]
        raise PotstillError(
            f"networks do not train on {kind.noun} of {train.name}, whose targets are their inputs; choose a learner: "
            f"{', '.join(others)}"
        )


def is_learner_name(name: object) -> bool:
    """Return True for a registered learner's name, with or without settings."""
    return isinstance(name, str) and name.partition(":")[0] in registry.targets("learners")


def make_learner(spec: str, train: Source) -> LearnerFactory:
    """Return the learner ``NAME`` or ``NAME:setting=value,…`` for these data.

    Raises:
        PotstillError: it cannot learn their task, or the inputs are named.
    """
    learner, task = registry.create("learners", spec), get_task(train)
    if task.name not in learner.tasks:
        raise PotstillError(f"{spec} learns {', '.join(learner.tasks)}, but the task is {task.name}; choose another")
    if train.input.parts:
        names = ", ".join(name for name, _ in train.input.parts)
        raise PotstillError(f"{spec} needs inputs of one tensor, but these have {names}; choose a network for them")
    return LearnerFactory(learner, spec, train.device)
