r"""The objective of RCIG: a learner that fits the set by a linearised network, differentiated at its solution.

The learner's outputs are ``J(x) ω + h(x) W``: the network made linear in its parameters, and a head on its features.
The head has a closed form for any ω (`potstill.functional.ridge`), so that what is left to be solved is linear in ω:

.. math::
    (J_S^\top A^{-1} J_S + I)\, \omega = J_S^\top A^{-1} y_S, \qquad A = K_{SS} + \lambda I

The loss on real samples depends on the set directly, at ω, and through ω: with g its slope by ω and v the solution of
the same system for g, that part of its slope is ``∂/∂S ⟨J_S v, A⁻¹(y_S − J_S ω)⟩``. RCIG's program solves for v in the
last layer's weights as well, in which the learner is not fitted (`InverseHessian`); there J_S has those columns too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, final

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, Network, Problem, StepCost
from potstill.core.nested import iter_batches, named_tensors
from potstill.functional.param_groups import strip_prefix
from potstill.functional.ridge import solve
from potstill.functional.sampling import sample_distinct
from potstill.methods.engine import (
    LOGITS,
    SCORES,
    TARGETS,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    ObjectiveInputs,
    Update,
    augment_function,
    inputs_of_view,
    named_inputs,
)
from potstill.methods.performance._linearize import Linearised, conjugate_gradients
from potstill.methods.performance._ridge import PASS, TEMPERATURE, Fit, fit_loss, margin, targets_of_set, wanted
from potstill.rng import draw_seed, generator

__all__ = ["ImplicitRidge", "InverseHessian"]

InverseHessian: TypeAlias = Literal["exact", "released"]
"""``exact``: the system for v is over the parameters that ω has, all but the last layer's weights, so that the slope is
that of the fitted learner. ``released``: over those weights too, as RCIG's program has it, though ω has none of them
and the learner is not at a minimum in them: a slope that is not the loss's."""


@dataclass(frozen=True, kw_only=True)
class Real:
    """What the moves of one step have in common."""

    net: Network
    omega: object
    """The augmentation that all share."""
    x: Inputs
    """Real samples, augmented."""
    y: Tensor
    """Their targets as the task has them."""
    targets: Tensor
    """As the learner has them, float64 (n, t)."""


@final
@dataclass(frozen=True, kw_only=True)
class ImplicitRidge:
    """Fit real samples by a linearised network and a head that were fitted to what is stored."""

    batch_real: int
    ridge: float
    """λ over the number of items."""
    fit: Fit
    inner: int
    """Steps of conjugate gradients towards ω, from zero."""
    backward: int
    """Steps of them towards v."""
    margin: bool = True
    """A learned label's largest number is to stay 1/(2k) above the next."""
    clip: bool = True
    """Whether the slope through ω is at most as long as the direct one, of inputs and labels each."""
    inverse_hessian: InverseHessian = "exact"
    """The parameters of the system for v."""

    def init_memory(self, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
        return {}

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Real]:
        state = replace(state, block_seed=draw_seed(rng))
        drawn = generator(state.block_seed, "block")
        return state, self._block(problem, networks, state, drawn)

    def _block(self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator) -> Real:
        net = networks.draw_networks(problem, state, rng)[0]
        omega = problem.augment.draw(1, problem.train.input.shape, rng)
        index = sample_distinct(len(problem.train), self.batch_real, rng)
        batch = problem.train.fetch(index)
        y = batch.y if batch.y is not None else problem.train.labels[index]
        x = augment_function(problem)(batch.x, omega)
        return Real(net=net, omega=omega, x=x, y=y, targets=wanted(problem, y))

    def updates(self, problem: Problem, state: MatchingState, block: Real) -> Iterator[Update]:
        probable = LOGITS in state.params.value

        def fitted(classes: list[int], seen: ObjectiveInputs) -> LossAndGrads:
            return self.fitted(problem, block, seen, probable)

        yield Update("loss", fitted, [list(range(problem.num_classes))])

    def finish_step(self, problem: Problem, state: MatchingState, block: Real) -> MatchingState:
        return state

    def fitted(self, problem: Problem, block: Real, seen: ObjectiveInputs, probable: bool) -> LossAndGrads:
        """The loss on the block's real samples, and its whole slope; ``probable``: labels are rows that sum to 1."""
        moving = {n: t for n, t in seen.items() if t.is_floating_point() and n != TARGETS}
        leaves = {n: t.detach().clone().requires_grad_() for n, t in moving.items()}
        ends = tuple(leaves.values())
        with torch.enable_grad():
            S = inputs_of_view({**seen, **leaves})
            set_ = Linearised(block.net, augment_function(problem)(S, block.omega), self._taken)
            y = targets_of_set(problem, leaves, seen, probable)
            h = set_.features.double()
            eye = torch.eye(len(h), dtype=h.dtype, device=h.device)
            a = h @ h.T + self.ridge * len(h) * eye
            inverse = solve(a.detach(), eye, 0.0)

            def system(v: Mapping[str, Tensor]) -> dict[str, Tensor]:
                return {n: t + v[n] for n, t in set_.pull(inverse @ set_.push(v).double()).items()}

            # ω is zero in the last layer, whose weights have a closed form
            omega = conjugate_gradients(
                lambda v: _body(system(v)), _body(set_.pull(inverse @ y.detach())), self.inner
            )  # fmt: skip
            found = set_.push(omega, graph=True)
            weights = solve(a, y - found.double(), 0.0)
            real, outputs = self._real(block, omega)
            outputs = outputs.double().requires_grad_()
            answers = outputs + (real.double() @ h.T) @ weights
            loss = fit_loss(problem, self.fit, answers, block.targets, block.y, leaves)
            whole = loss - margin(problem, leaves, y, 0.5 / problem.num_classes) if self.margin else loss
            *direct, by_outputs, by_found = torch.autograd.grad(
                whole, (*ends, outputs, found), retain_graph=True, allow_unused=True
            )
            g = self._pulled(block, by_outputs)
            if by_found is not None:
                g = {n: t + g[n] for n, t in set_.pull(by_found).items()}
            v = conjugate_gradients(system, g, self.backward)
            through = (set_.push(v, graph=True).double() * weights).sum()
            implicit = torch.autograd.grad(through, ends, allow_unused=True)
        slopes = {n: d + self._short(i, d) for n, d, i in zip(leaves, direct, implicit, strict=True) if d is not None}
        return float(whole.detach()), slopes

    def _taken(self, name: str) -> bool:
        """Whether a parameter is in the system for v."""
        return self.inverse_hessian == "released" or in_body(name)

    def _short(self, implicit: Tensor | None, direct: Tensor) -> Tensor:
        if implicit is None:
            return torch.zeros_like(direct)
        long = float(implicit.norm())
        return implicit * min(1.0, float(direct.norm()) / long) if self.clip and long > 0 else implicit

    def _real(self, block: Real, omega: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features and outputs of real samples."""
        made = [Linearised(block.net, some, self._taken) for some in iter_batches(block.x, _part(block.x))]
        return torch.cat([m.features.detach() for m in made]), torch.cat([m.push(omega) for m in made])

    def _pulled(self, block: Real, r: Tensor) -> dict[str, Tensor]:
        """``Jᵀ r`` of real samples."""
        total: dict[str, Tensor] = {}
        for some, part in zip(iter_batches(block.x, _part(block.x)), torch.split(r, _part(block.x)), strict=True):
            found = Linearised(block.net, some, self._taken).pull(part)
            total = {n: t + total[n] if total else t for n, t in found.items()}
        return total

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        held = state.params.value
        seen = {n: t.detach() for n, t in named_inputs(problem.decode(strip_prefix("payload/", held))).items()}
        n = len(next(iter(seen.values())))
        if learned := sorted({LOGITS, SCORES} & held.keys()):
            seen["labels"] = torch.zeros_like(held[learned[0]])
        seen |= {name: held[name] for name in (TARGETS, TEMPERATURE) if name in held}

        def whole(_: int) -> Callable[[], object]:
            block = self._block(problem, networks, state, generator(0, "plan"))
            return lambda: self.fitted(problem, block, seen, LOGITS in held)[0]

        many = min(self.batch_real, len(problem.train))
        return (
            StepCost(
                what="implicit gradients", real=True, samples=many + n, size=many + n, ready=whole, when="descent"
            ),
        )


def in_body(name: str) -> bool:
    """Whether a parameter is one that the model is linear in: all but the head's weights, which have a closed form."""
    return not (name.startswith("classifier.") and name.endswith("weight"))


def _body(v: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A tangent with zeros in place of the head's weights."""
    return {n: t if in_body(n) else torch.zeros_like(t) for n, t in v.items()}


def _part(x: Inputs) -> int:
    """Samples of a pass."""
    numbers = max(t[0].numel() for t in named_tensors(x).values())
    return max(1, PASS // max(1, numbers))
