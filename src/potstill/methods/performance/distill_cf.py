r"""Distill-CF: fake users for an autoencoder in closed form (Sachdeva et al., NeurIPS 2022, arXiv:2206.02626), eq. 6.

.. math::
    \min_{S} \; E_{u} \big\lVert y_u - k(u, S) \, (K_{SS} + \lambda I)^{-1} Y_S \big\rVert^2

Fake users S are lists of items: rows of zeros and ones, drawn inside the loop with Gumbel noise
(`potstill.parametrize.multi_hot`), by which the gradient passes straight through. The autoencoder is infinite-AE
(`potstill.functional.autoencoder`), whose answer has a formula, so that nothing is trained. With parametrization
``pixels`` fake users are rows of real numbers.

The program (noveens/distill_cf) draws 200 items of each of 500 users at a temperature of 10, with a penalty on the
number of items, and rows as they are. Here lists have the length that the loss gives them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from potstill.core import MethodInfo, Network, Presets, Problem, StepCost
from potstill.core.nested import single_tensor
from potstill.data.real_data import RealData
from potstill.functional.autoencoder import SparseRows, reconstruction_loss
from potstill.functional.kernels import FullyConnected
from potstill.functional.param_groups import ParamGroup, ParamGroups, strip_prefix
from potstill.functional.sampling import sample_distinct
from potstill.methods.engine import (
    EngineMethod,
    Init,
    JointObjective,
    LossAndGrads,
    MatchingEngine,
    MatchingState,
    NetworkSource,
    ObjectiveInputs,
)
from potstill.methods.performance._ridge import NoNetworks
from potstill.methods.performance._values import cosine_decay
from potstill.rng import generator

__all__ = ["DistillCF"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Users:
    """Real users of a step."""

    net: Network
    """Stands for the network that others have."""
    rows: SparseRows


@final
@dataclass(frozen=True, kw_only=True)
class _Reconstruction(JointObjective[_Users]):
    """Reconstruct real users by ridge regression on fake ones."""

    kernel: FullyConnected
    batch_real: int
    ridge: float

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, _Users]:
        net = networks.draw_networks(problem, state, rng)[0]
        if state.cached:
            return state, _Users(net=net, rows=SparseRows.of_tensors(state.cached))
        rows = self._rows(problem, sample_distinct(len(problem.train), self.batch_real, rng))
        if self.batch_real >= len(problem.train):  # every step has the same users
            state = replace(state, cached=rows.to_tensors())
        return state, _Users(net=net, rows=rows)

    def _rows(self, problem: Problem, index: Tensor) -> SparseRows:
        return SparseRows.of(single_tensor(RealData.of(problem).batch(index).x, "distill-cf"))

    def loss_and_grads(
        self, problem: Problem, state: MatchingState, block: _Users, view: ObjectiveInputs
    ) -> LossAndGrads:
        rows = view["inputs"].detach().clone().requires_grad_()
        with torch.enable_grad():
            loss = reconstruction_loss(block.rows, rows, self.ridge, self.kernel)
        (slope,) = torch.autograd.grad(loss, (rows,))
        return float(loss.detach()), {"inputs": slope}

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        index = sample_distinct(len(problem.train), self.batch_real, generator(0, "plan"))
        x = problem.decode(strip_prefix("payload/", state.params.value)).detach()

        def ready(_: int) -> Callable[[], object]:
            net = networks.draw_networks(problem, state, generator(0, "plan"))[0]
            block = _Users(net=net, rows=self._rows(problem, index))
            return lambda: self.loss_and_grads(problem, state, block, {"inputs": x})[0]

        return (StepCost(what="ridge regression", samples=len(index), size=len(index), ready=ready, real=True),)


@dataclass(frozen=True, kw_only=True)
class DistillCF(EngineMethod[MatchingState]):
    """Users from whose lists of items an autoencoder in closed form reconstructs the real ones."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Infinite Recommendation Networks: A Data-Centric Approach", paper="arXiv:2206.02626", year=2022,
        family="performance", kinds=("ratings",), tasks=("recommendation",),
        use_when="Take it for interactions of users with items, where a few made lists stand for all users.",
        avoid_when="Avoid it where the file may have the bytes of many real users: lists of real users cost few.",
        related=("kip", "most-active", "random"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {},
        "good": {"iterations": 1500, "parametrization": "multi-hot:fade=1500"},
    }
    state_type: ClassVar[type] = MatchingState

    iterations: int = 600
    """Steps (distill_cf, hyper_params.py: 500)."""
    lr: float = 0.04
    """Learning rate of Adam (lr 0.04); it falls to 0 along half a cosine. That is ours."""
    batch_real: int = 2000
    """Real users of a step, at most."""
    ridge: float = 0.3
    """ρ, over the mean of the kernel's diagonal. Ours; learners choose their own on validation interactions."""
    depth: int = 1
    """Hidden layers of the kernel's network (depth 1)."""
    init_from: Init = "real"
    """Initial users: random real ones."""
    parametrization: str = "multi-hot"
    """Lists of items; ``pixels``: rows of real numbers."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        def rules(state: MatchingState, last: bool) -> ParamGroups:
            return {"payload/": ParamGroup(lr=self.lr * cosine_decay(state, self.iterations, 0), optimizer="adamw")}

        return MatchingEngine(
            objective=_Reconstruction(
                kernel=FullyConnected(depth=self.depth), batch_real=self.batch_real, ridge=self.ridge
            ),
            networks=NoNetworks(), param_groups=rules, iterations=self.iterations, steps=self.iterations,
            initial=self.init_from, labels="hard",
        )  # fmt: skip
