r"""WMDD: Dataset Distillation via the Wasserstein Metric (Liu et al., ICCV 2025, arXiv:2311.18531).

.. math::
    b_c = \arg\min_b W_2^2\Big( \tfrac{1}{|T_c|} \sum_{x \in T_c} \delta_{h(x)}, \,
        \tfrac{1}{m} \sum_{i=1}^m \delta_{b_i} \Big), \qquad
    \min_{X_c} \; \lVert h(A(X_c)) - b_c \rVert_2 + r \sum_l w_l R_l(X_c, T_c)

h is the embedding before a trained network's classifier, and b_c the Wasserstein barycentre of a class's real
embeddings with as many atoms as the class has items, found once, before the first step. Item i of a class is drawn to
atom i: one plain L2 norm over the batch, not squared, takes the place of the cross-entropy. R is LPLD's: the batch's
BatchNorm statistics against those of the class.

The barycentre is POT's (``pip install 'potstill[wmdd]'``), with equal weights; published are learned weights as an
option. Its atoms begin at random real embeddings, so that none begins far off; in the published code they begin at
draws from a normal distribution.
"""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from potstill.core import MethodInfo, Presets, Problem
from potstill.errors import PotstillError
from potstill.functional.statistics import LayerStatistics, l2_norm
from potstill.methods.decoupled._recover import Recovery, RecoverySettings
from potstill.methods.decoupled._state import Composition, IterationContext, RecoverState, WeightedTeacher
from potstill.methods.decoupled._statistics import ClassStatistics
from potstill.methods.decoupled._teachers import StatisticsRules, TeacherConfig, TeacherNetwork
from potstill.methods.engine import EngineMethod
from potstill.rng import class_generators

__all__ = ["WMDD", "barycentre"]


def check_solver() -> None:
    """Raise a PotstillError if POT is not installed."""
    if importlib.util.find_spec("ot") is None:
        raise PotstillError("barycentres need POT, which is not installed; pip install 'potstill[wmdd]'")


def barycentre(
    points: Float[Tensor, "n d"], first: Float[Tensor, "m d"], iterations: int = 100, tolerance: float = 1e-7
) -> Float[Tensor, "m d"]:
    """Return the m equally weighted points nearest to equally weighted ``points`` in Wasserstein-2 distance.

    A free-support barycentre of one measure (Cuturi and Doucet, arXiv:1310.4375, algorithm 2 without the weights):
    alternates the best transport plan and a move of every atom to the mean of what it receives; a local minimum.

    Args:
        points: the measure.
        first: initial atoms.
        iterations: maximum number of moves, at least 1.
        tolerance: stop when the squared distance that all atoms move is below this.

    Raises:
        PotstillError: POT is not installed.
    """
    check_solver()
    ot: Any = importlib.import_module("ot")
    measure, start = (t.detach().cpu().double().numpy() for t in (points, first))
    weights = [ot.unif(len(measure))]
    atoms = ot.lp.free_support_barycenter([measure], weights, start, numItermax=iterations, stopThr=tolerance)
    return torch.from_numpy(atoms).to(points)


@dataclass(frozen=True, kw_only=True)
class BarycentreTarget:
    """Distance of each item's embedding from its atom of the barycentre."""

    name: ClassVar[str] = "features"

    iterations: int

    def real_statistics(
        self, problem: Problem, members: Sequence[TeacherNetwork], rng: Generator
    ) -> Mapping[str, Tensor]:
        atoms: dict[str, Tensor] = {}
        for number, member in enumerate(members):
            rows = []
            generators = class_generators(rng, problem.class_names)
            for index, m, g in zip(problem.class_indices, problem.sizes, generators, strict=True):
                h = member.embed_samples(problem.train, index)[1]
                first = torch.randperm(len(h), generator=g)[torch.arange(m) % len(h)]
                rows.append(barycentre(h, h[first.to(h.device)], self.iterations))
            atoms[f"atoms/{number}"] = torch.cat(rows)
        return atoms

    def loss(
        self, context: IterationContext, teacher: WeightedTeacher, view: Tensor, rules: StatisticsRules
    ) -> tuple[Tensor, LayerStatistics]:
        _, h, statistics = teacher.member.forward_with_features(view, rules)
        atoms = context.state.real[f"atoms/{teacher.number}"][context.items.to(h.device)]
        return l2_norm(h - atoms), statistics


@dataclass(frozen=True, kw_only=True)
class WMDD(RecoverySettings, TeacherConfig, EngineMethod[RecoverState]):
    """Pictures whose embeddings are the Wasserstein barycentre of each class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Distillation via the Wasserstein Metric", paper="arXiv:2311.18531", year=2025,
        family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 300, "batch": 100, "temperature": 20},
        class_independence="deletion",
        use_when="Take it for large pictures where each class has several modes: each item is drawn to its own point "
        "of the class.",
        avoid_when="Avoid it without the extra potstill[wmdd], and for other labellers: students lost most, of all "
        "presets, where another teacher labelled.",
        related=("lpld", "sre2l", "dm"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "teacher_epochs": 10, "iterations": 200},
        "good": {"teacher_epochs": 20, "iterations": 300},
    }

    iterations: int = 2000
    """Steps per batch (run.sh)."""
    lr: float = 0.25
    """Learning rate (there; 0.1 for Tiny-ImageNet)."""
    r_bn: float = 0.01
    """r: weight of the statistics (there; 1 for Tiny-ImageNet, and to be tuned)."""
    barycentre_iterations: int = 100
    """Maximum number of moves of the atoms (POT's default, as there)."""
    composition: Composition = "class"
    """A batch holds the items of one class."""

    def build_engine(self, problem: Problem) -> Recovery:
        check_solver()  # before teachers are trained
        target = BarycentreTarget(iterations=self.barycentre_iterations)
        match = ClassStatistics(first=self.first_layer)
        return replace(self.recovery(problem, self.labeller()), target=target, match=match)
