r"""The objective of RCIG: a learner that fits the set by a linearised network, differentiated at its solution.

The learner's outputs are ``J(x) ω + h(x) W``: the network made linear in its parameters, and a head on its features.
The head has a closed form for any ω (`potstill.functional.ridge`), so that what is left to be solved is linear in ω:

.. math::
    (J_S^\top A^{-1} J_S + I)\, \omega = J_S^\top A^{-1} y_S, \qquad A = K_{SS} + \lambda I

The loss on real samples depends on the set directly, at ω, and through ω: with g its slope by ω and v the solution of
the same system for g, that part of its slope is ``∂/∂S ⟨J_S v, A⁻¹(y_S − J_S ω)⟩``. RCIG's program solves for v in the
last layer's weights as well, in which the learner is not fitted (`InverseHessian`); there J_S has those columns too.

Products with the Jacobian J(x) of the outputs by the parameters need no forward mode: a pull ``Jᵀ r`` is linear in r,
so that its own pull is the push ``J ω``; both are recorded, to be differentiated by x.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias, final

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from potstill.core import Inputs, Network, Problem, StepCost
from potstill.core.nested import iter_batches, named_tensors
from potstill.data.real_data import RealData
from potstill.functional.linear_solvers import Tangent, conjugate_gradients
from potstill.functional.param_groups import strip_prefix
from potstill.functional.ridge import solve
from potstill.functional.sampling import sample_distinct
from potstill.methods.engine import (
    LOGITS,
    SCORES,
    TARGETS,
    JointObjective,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    ObjectiveInputs,
    augment_function,
    inputs_of_view,
    named_inputs,
)
from potstill.methods.performance._ridge import (
    NUMBERS_PER_PASS,
    TEMPERATURE,
    RidgeLoss,
    label_margin,
    regression_targets,
    ridge_loss,
    set_targets,
)
from potstill.rng import draw_seed, generator

__all__ = ["ImplicitRidge", "InverseHessian", "Linearised"]


class _Both(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Inputs) -> tuple[Tensor, Tensor]:
        h = self.network.embed(x)
        return h, self.network.classifier(h)


class Linearised:
    """A network made linear in its parameters, at some inputs: features, outputs, products with their Jacobian.

    Args:
        network: gives architecture, mode and parameters.
        x: inputs (n, …).
        is_selected: True for the names of parameters that the model is linear in.
    """

    def __init__(self, network: Network, x: Inputs, is_selected: Callable[[str], bool]) -> None:
        theta = {n: p.detach().requires_grad_() for n, p in network.named_parameters() if is_selected(n)}
        self.theta: Mapping[str, Tensor] = theta
        with torch.enable_grad():
            named = {f"network.{n}": p for n, p in theta.items()}
            self.features, self.outputs = functional_call(_Both(network), named, (x,))

    @cached_property
    def _transposed(self) -> tuple[Tensor, dict[str, Tensor]]:
        """A point of outputs, and its pull, which is recorded."""
        with torch.enable_grad():
            u = torch.zeros_like(self.outputs, requires_grad=True)
            return u, self._pull(u, graph=True)

    def _pull(self, r: Tensor, graph: bool) -> dict[str, Tensor]:
        found = torch.autograd.grad(
            self.outputs, tuple(self.theta.values()), r.to(self.outputs), create_graph=graph, retain_graph=True,
            allow_unused=True,
        )  # fmt: skip
        return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(self.theta.items(), found, strict=True)}

    def pull(self, r: Tensor) -> dict[str, Tensor]:
        """``Jᵀ r`` for r (n, k); no graph."""
        return self._pull(r, graph=False)

    def push(self, omega: Tangent, graph: bool = False) -> Tensor:
        """``J ω`` (n, k); ``graph``: differentiable by the inputs."""
        u, pulled = self._transposed
        with torch.enable_grad():
            along = torch.stack([(g * omega[n]).sum() for n, g in pulled.items()]).sum()
            (found,) = torch.autograd.grad(along, u, create_graph=graph, retain_graph=True)
        return found


InverseHessian: TypeAlias = Literal["exact", "released"]
"""``exact``: the system for v is over the parameters that ω has, all but the last layer's weights, so that the slope is
that of the fitted learner. ``released``: over those weights too, as RCIG's program has it, though ω has none of them
and the learner is not at a minimum in them: a slope that is not the loss's."""


@dataclass(frozen=True, kw_only=True)
class ImplicitBlock:
    """Network, augmentation and real samples of one step."""

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
class ImplicitRidge(JointObjective[ImplicitBlock]):
    """Fit real samples by a linearised network and a head that were fitted to what is stored."""

    batch_real: int
    ridge: float
    """λ over the number of items."""
    loss: RidgeLoss
    solver_steps: int
    """Steps of conjugate gradients towards ω, from zero."""
    backward_steps: int
    """Steps of them towards v."""
    use_margin: bool = True
    """A learned label's largest number is to stay 1/(2k) above the next."""
    clip: bool = True
    """Clip the gradient through ω to the norm of the direct one, for inputs and labels each."""
    inverse_hessian: InverseHessian = "exact"
    """The parameters of the system for v."""

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, ImplicitBlock]:
        state = replace(state, block_seed=draw_seed(rng))
        drawn = generator(state.block_seed, "block")
        return state, self._make_block(problem, networks, state, drawn)

    def _make_block(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> ImplicitBlock:
        net = networks.draw_networks(problem, state, rng)[0]
        omega = problem.augment.draw(1, problem.train.input.shape, rng)
        index = sample_distinct(len(problem.train), self.batch_real, rng)
        batch = RealData.of(problem).batch(index)
        y = batch.y if batch.y is not None else problem.train.labels[index]
        x = augment_function(problem)(batch.x, omega)
        return ImplicitBlock(net=net, omega=omega, x=x, y=y, targets=regression_targets(problem, y))

    def loss_and_grads(
        self, problem: Problem, state: MatchingState, block: ImplicitBlock, view: ObjectiveInputs
    ) -> LossAndGrads:
        """Return the loss on the block's real samples and its total gradient."""
        moving = {n: t for n, t in view.items() if t.is_floating_point() and n != TARGETS}
        leaves = {n: t.detach().clone().requires_grad_() for n, t in moving.items()}
        ends = tuple(leaves.values())
        with torch.enable_grad():
            S = inputs_of_view({**view, **leaves})
            set_ = Linearised(block.net, augment_function(problem)(S, block.omega), self._in_system)
            y = set_targets(problem, leaves, view, LOGITS in state.params.value)
            h = set_.features.double()
            eye = torch.eye(len(h), dtype=h.dtype, device=h.device)
            a = h @ h.T + self.ridge * len(h) * eye
            inverse = solve(a.detach(), eye, 0.0)

            def system(v: Mapping[str, Tensor]) -> dict[str, Tensor]:
                return {n: t + v[n] for n, t in set_.pull(inverse @ set_.push(v).double()).items()}

            # ω is zero in the last layer, whose weights have a closed form
            omega = conjugate_gradients(
                lambda v: _zero_head(system(v)), _zero_head(set_.pull(inverse @ y.detach())), self.solver_steps
            )  # fmt: skip
            found = set_.push(omega, graph=True)
            weights = solve(a, y - found.double(), 0.0)
            real, outputs = self._real_outputs(block, omega)
            outputs = outputs.double().requires_grad_()
            answers = outputs + (real.double() @ h.T) @ weights
            loss = ridge_loss(problem, self.loss, answers, block.targets, block.y, leaves)
            whole = loss - label_margin(problem, leaves, y, 0.5 / problem.num_classes) if self.use_margin else loss
            *direct, by_outputs, by_found = torch.autograd.grad(
                whole, (*ends, outputs, found), retain_graph=True, allow_unused=True
            )
            g = self._real_vjp(block, by_outputs)
            if by_found is not None:
                g = {n: t + g[n] for n, t in set_.pull(by_found).items()}
            v = conjugate_gradients(system, g, self.backward_steps)
            through = (set_.push(v, graph=True).double() * weights).sum()
            implicit = torch.autograd.grad(through, ends, allow_unused=True)
        slopes = {
            n: d + self._clip_implicit(i, d) for n, d, i in zip(leaves, direct, implicit, strict=True) if d is not None
        }
        return float(whole.detach()), slopes

    def _in_system(self, name: str) -> bool:
        """Return True for parameters in the linear system for v."""
        return self.inverse_hessian == "released" or is_body_parameter(name)

    def _clip_implicit(self, implicit: Tensor | None, direct: Tensor) -> Tensor:
        if implicit is None:
            return torch.zeros_like(direct)
        long = float(implicit.norm())
        return implicit * min(1.0, float(direct.norm()) / long) if self.clip and long > 0 else implicit

    def _real_outputs(self, block: ImplicitBlock, omega: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features and outputs of real samples."""
        made = [Linearised(block.net, some, self._in_system) for some in iter_batches(block.x, _chunk_size(block.x))]
        return torch.cat([m.features.detach() for m in made]), torch.cat([m.push(omega) for m in made])

    def _real_vjp(self, block: ImplicitBlock, r: Tensor) -> dict[str, Tensor]:
        """``Jᵀ r`` of real samples."""
        total: dict[str, Tensor] = {}
        for some, part in zip(
            iter_batches(block.x, _chunk_size(block.x)), torch.split(r, _chunk_size(block.x)), strict=True
        ):
            found = Linearised(block.net, some, self._in_system).pull(part)
            total = {n: t + total[n] if total else t for n, t in found.items()}
        return total

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        held = state.params.value
        view = {n: t.detach() for n, t in named_inputs(problem.decode(strip_prefix("payload/", held))).items()}
        n = len(next(iter(view.values())))
        if learned := sorted({LOGITS, SCORES} & held.keys()):
            view["labels"] = torch.zeros_like(held[learned[0]])
        elif (targets := problem.decode_targets(strip_prefix("payload/", held))) is not None:
            view["labels"] = targets.detach()
        view |= {name: held[name] for name in (TARGETS, TEMPERATURE) if name in held}

        def full_step(_: int) -> Callable[[], object]:
            block = self._make_block(problem, networks, state, generator(0, "plan"))
            return lambda: self.loss_and_grads(problem, state, block, view)[0]

        many = min(self.batch_real, len(problem.train))
        return (
            StepCost(
                what="implicit gradients", real=True, samples=many + n, size=many + n, ready=full_step, when="descent"
            ),
        )


def is_body_parameter(name: str) -> bool:
    """Return True for parameters that the model is linear in: all but the head's weights, which have a closed form."""
    return not (name.startswith("classifier.") and name.endswith("weight"))


def _zero_head(v: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A tangent with zeros in place of the head's weights."""
    return {n: t if is_body_parameter(n) else torch.zeros_like(t) for n, t in v.items()}


def _chunk_size(x: Inputs) -> int:
    """Samples of a pass."""
    numbers = max(t[0].numel() for t in named_tensors(x).values())
    return max(1, NUMBERS_PER_PASS // max(1, numbers))
