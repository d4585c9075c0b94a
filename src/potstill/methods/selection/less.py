r"""LESS: samples whose gradients point where those of a target set do.

Xia et al., "LESS: Selecting Influential Data for Targeted Instruction Tuning", ICML 2024, arXiv:2402.04333, section 4.

.. math::
    s(z) = \max_g \sum_{i=1}^{N} \bar\eta_i \; \frac{1}{\lvert D_g \rvert} \sum_{z' \in D_g}
        \cos\big(\Pi \, \Gamma(z; \theta_i), \Pi \, \nabla \ell(z'; \theta_i)\big)

θ_i is a network after epoch i of a short training by Adam on a part of the data, η_i the mean learning rate of that
epoch, Γ the direction in which Adam would move by the sample's gradient, Π a random projection, D_g a group of the
target: a class. The program (github.com/princeton-nlp/LESS) is followed; it fine-tunes a language model by LoRA with a
dense projection to 8,192 numbers, here all parameters of the problem's network are projected (`SignProjection`).

``target`` names the data to select for: a file, a folder or a known name, with classes that the data have, too, of
which a few samples are enough (the paper: 1 to 20 of each group). Texts become vectors by the data's own encoder.
Without it, the target is a random part of the data themselves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.core import MethodInfo, PositiveFloat, Presets, Problem, Source
from potstill.data import TensorSource, load
from potstill.data.real_data import RealData
from potstill.data.table import TABLE_SUFFIXES
from potstill.errors import PotstillError
from potstill.functional.optim import adaptive_step, zeros
from potstill.functional.target_influence import (
    SignProjection,
    adam_updates,
    flat_parameters,
    group_cosines,
    sample_gradients,
    scores_in_turn,
)
from potstill.functional.train import copy_parameters, gradients
from potstill.methods.engine import require_tensor
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._score import Pool, ScoreSelection
from potstill.rng import derive_seed, generator

__all__ = ["LESS"]

CHUNK, OWN_TARGET = 256, 500
"""Samples of a pass; and of a target that is a part of the data (a tenth at most)."""


class Checkpoint(NamedTuple):
    """The network after an epoch of the short training."""

    params: Mapping[str, Tensor]
    first: Mapping[str, Tensor]
    """First moments of Adam."""
    second: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    rate: float
    """Mean learning rate of the epoch."""


@dataclass(frozen=True, kw_only=True)
class LESS(ScoreSelection):
    """Real samples whose gradients point where those of a target set do."""

    info: ClassVar[MethodInfo] = selection_info(
        "LESS: selecting influential data for a target",
        "arXiv:2402.04333",
        2024,
        tasks=("classification", "regression"),
        use_when="Take it where few samples show what counts, and the data hold much else.",
        avoid_when="Avoid it without a target; and try the nearest samples of each label first, which were level here.",
        related=("grad-match", "glister", "k-center"),
    )

    presets: ClassVar[Presets] = {
        "quick": {"across": "turns", "pool": "global", "warm_up": 1.0},
        "good": {"across": "turns", "pool": "global", "warm_up": 1.0},
    }  # fmt: skip

    target: str = ""
    """Data to select for: a file, a folder or a known name; empty: a random tenth of the data themselves."""
    groups: Literal["class", "none"] = "class"
    """Groups of the target, of which a sample counts by the one that it helps most: its classes, or none."""
    across: Literal["max", "turns"] = "max"
    """``max``, as published: the score of a sample is that of its best group, so that one group may take most.
    ``turns``: the groups take their best samples in turn. Ours, for few samples."""
    pool: Pool = "class"
    """Pool of the selection: ``class``, or as published ``global``, the best of all samples of whatever classes."""
    warm_up: PositiveFloat = 0.2
    """Fraction of the data that the network learns first, above 0 (the paper: 0.05 of 270,000)."""
    epochs: int = 4
    """Epochs of that training; each one's network counts (the paper: 4)."""
    lr: PositiveFloat = 1e-3
    """Learning rate of Adam at first, which falls along a line to 0. Ours, for a whole network."""
    batch: int = 32
    """Samples of an update."""
    projection: int = 4096
    """Numbers of a projected gradient (the paper: 8,192)."""
    preconditioned: bool = True
    """Training samples count by the direction of Adam; otherwise by their gradients, as target samples do."""
    network: str = "convnet"
    """The network."""

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        total = self.influence(problem)
        return {"less": total.max(1).values if self.across == "max" else scores_in_turn(total)}

    def influence(self, problem: Problem) -> Float[Tensor, "n g"]:
        """Return the score of every sample for every group of the target."""
        target = self.target_source(problem)
        by_class = self.groups == "class" and bool(target.classes)
        groups = torch.unique(target.labels, return_inverse=True)[1] if by_class else torch.zeros_like(target.labels)
        total: Tensor | float = 0.0
        for number, point in enumerate(self.checkpoints(problem)):
            count = sum(p.numel() for p in point.params.values())
            rng = generator(derive_seed(0, "less"), "projection", number)
            project = SignProjection.draw(count, self.projection, rng)
            aim = torch.cat(list(self._rows(problem, target, point, project, False)))
            rows = self._rows(problem, problem.train, point, project, self.preconditioned)
            total = total + point.rate * torch.cat([group_cosines(some, aim, groups).cpu() for some in rows])
        assert isinstance(total, Tensor)
        return total

    def _rows(
        self, problem: Problem, source: Source, point: Checkpoint, project: SignProjection, adam: bool
    ) -> Iterator[Tensor]:
        """Yield projected gradients (b, d) of all samples of a source, in order."""
        network, first, second = problem.network(0).eval(), flat_parameters(point.first), flat_parameters(point.second)
        for at in torch.split(torch.arange(len(source)), CHUNK):
            batch = source.fetch(at)
            assert batch.y is not None
            x = require_tensor(batch.x)
            for rows in sample_gradients(network, point.params, point.buffers, x, batch.y, problem.task.loss):
                yield project(adam_updates(rows, first, second) if adam else rows)

    def checkpoints(self, problem: Problem) -> Iterator[Checkpoint]:
        """Yield the network after each epoch of the short training."""
        rng, n = generator(derive_seed(0, "less"), "warm-up"), len(problem.train)
        part = torch.randperm(n, generator=rng)[: max(1, min(n, round(self.warm_up * n)))]
        network = problem.network(derive_seed(0, "less", "network")).train()
        params: dict[str, Tensor] = copy_parameters(network)
        first, second = zeros(params), zeros(params)
        buffers = {name: b.detach().clone() for name, b in network.named_buffers()}
        per_epoch = -(-len(part) // self.batch)
        step, steps = 0, per_epoch * self.epochs
        for _ in range(self.epochs):
            order, rates = part[torch.randperm(len(part), generator=rng)], []
            for at in torch.split(order, self.batch):
                batch = RealData.of(problem).batch(at)
                assert batch.y is not None
                rates.append(self.lr * (1 - step / steps))
                found = gradients(network, params, batch.x, batch.y, buffers=buffers, criterion=problem.task.loss)
                slopes = dict(zip(params, found, strict=True))
                params, first, second = adaptive_step("adamw", params, slopes, first, second, step, lr=rates[-1])
                step += 1
            yield Checkpoint(params, first, second, {n: b.clone() for n, b in buffers.items()}, sum(rates) / len(rates))

    def other_data(self, problem: Problem) -> Mapping[str, str]:
        return {"target": self.target_source(problem).content_hash} if self.target else {}

    def target_source(self, problem: Problem) -> Source:
        """Return the target samples as the problem's networks see them, with its classes.

        Raises:
            PotstillError: other inputs or other classes than the data's.
        """
        train: Any = problem.train
        if not self.target:
            rng = generator(derive_seed(0, "less"), "target")
            part = torch.randperm(len(train), generator=rng)[: max(1, min(OWN_TARGET, len(train) // 10))]
            return cast("Source", train.subset(part))
        is_table = Path(self.target).suffix.lower() in TABLE_SUFFIXES
        label = train.label_column[0] if is_table and getattr(train, "label_column", None) else None
        size = tuple(train.input.shape[1:]) if train.input.kind == "image" else None
        task = None if train.classes else problem.task.name
        target = load(self.target, label=label, size=size, test_fraction=0, task=task, stream=False).train
        if not isinstance(target, TensorSource):
            raise PotstillError(f"less: the target {self.target} must be in memory; give fewer samples")
        if (encoder := getattr(train, "encoder", None)) is not None and target.encoder is not None:
            target = target.encoded_by(encoder)
        if target.input.shape != train.input.shape or target.input.columns != train.input.columns:
            raise PotstillError(
                f"less: inputs of the target {target.name} are {target.input.shape}, those of {train.name} "
                f"{train.input.shape}; give a target with the same columns or channels"
            )
        if train.classes:
            if missing := [name for name in target.classes if name not in train.classes]:
                raise PotstillError(
                    f"less: {train.name} has no class {missing[0]!r} of the target {target.name}; give a target whose "
                    "classes the data have"
                )
            numbers = torch.tensor([train.classes.index(name) for name in target.classes])
            target = replace(target, labels=numbers[target.labels], classes=train.classes)
        return cast("Source", replace(target, normalization=train.normalization, task=train.task).to(train.device))
