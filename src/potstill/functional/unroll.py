"""A student's training as a function of what it is trained on, and the gradients of where it ends.

A student's state s (weights, and the optimiser's moments) takes N steps ``s_{i+1} = U(s_i, x, β)``, where x are the
leaves (inputs, labels, whatever a loss looks at) and β is the learning rate; ``outer`` says how good ``θ_N`` is. Three
ways to its gradients by x, β and θ_0:

- ``full``: one graph of all steps. Exact; memory grows with N.
- ``replay``: the states are kept, and one step after the other is made anew, from the last to the first, with the
  graph of this step alone. With λ the gradient by s_{i+1}, one vector-Jacobian product gives

  .. math:: (λ_i,\\; ∂x,\\; ∂β) = λ_{i+1}^{\\top} \\frac{∂U(s_i, x, β)}{∂(s_i, x, β)}, \\qquad λ_N = ∇outer(θ_N)

  which is what ``full`` computes, in the memory of one step (reverse-mode differentiation with recomputing; Maclaurin
  et al., arXiv:1502.03492, do so for SGD). About a third more arithmetic than ``full``: the first pass.
- ``tesla``: the approximation of Cui et al. (TESLA, arXiv:2211.10586, equations 5 to 9): λ stays ``∇outer(θ_N)``, as if
  θ_i did not depend on the steps before. For plain SGD alone. With their outer loss ‖θ_N − θ*‖² / ‖θ_0 − θ*‖² it is
  their formula with its factor 2 (where their program repeats a tuple instead, and so computes half of it).

A loss must give the same value for the same arguments: what it draws, it draws by the number of the step.
"""

import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import IO, Literal, NamedTuple, TypeAlias, final, overload

import torch
from torch import Tensor

from potstill.errors import NonFiniteError, PotstillError
from potstill.functional.optim import sgd_tensor

__all__ = [
    "MAX_BYTES_IN_MEMORY", "InnerOptimizer", "Loss", "Mode", "Outer", "StudentState", "StudentTrace", "UnrolledGrads",
    "init_student", "run_steps", "start_trace", "train_student", "unrolled_grads",
]  # fmt: skip

Loss: TypeAlias = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], int], Tensor]
"""Scalar loss of the student as a function of (θ, leaves, step number)."""

Outer: TypeAlias = Callable[[Mapping[str, Tensor]], Tensor]
"""Scalar function of the final weights."""

Mode: TypeAlias = Literal["replay", "full", "tesla"]

MAX_BYTES_IN_MEMORY = 16 * 2**20
"""Maximum bytes of a trace in memory; a longer one is written to a temporary file. Ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerOptimizer:
    """The student's optimiser: ``torch.optim.SGD`` (dampening 0, no Nesterov) or ``torch.optim.Adam``.

    Raises:
        PotstillError: a value out of its range.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.0
    """Momentum of SGD, in [0, 1)."""
    weight_decay: float = 0.0
    """Added to the gradient as ``weight_decay · θ``, in both."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of Adam's moments."""
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "adam"):
            raise PotstillError(f"the inner optimiser must be sgd or adam, but it is {self.optimizer!r}")
        if not 0 <= self.momentum < 1 or not all(0 <= b < 1 for b in self.betas):
            raise PotstillError(
                f"momentum and betas must be in [0, 1), but they are {self.momentum:g} and {self.betas}; "
                "0.9 and (0.9, 0.999) are usual"
            )
        if self.optimizer == "adam" and self.momentum:
            raise PotstillError(f"adam takes no momentum, but it is {self.momentum:g}; set betas instead")
        if self.weight_decay < 0 or self.eps <= 0:
            raise PotstillError(
                f"weight_decay must be at least 0 and eps above 0, but they are {self.weight_decay:g} and {self.eps:g}"
            )

    @property
    def num_moments(self) -> int:
        """Number of moment tensors of the weights' size."""
        return 2 if self.optimizer == "adam" else int(self.momentum > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentState:
    """Weights and optimizer state of a student between two steps."""

    theta: Mapping[str, Tensor]
    exp_avg: Mapping[str, Tensor] = field(default_factory=dict)
    """SGD's momentum buffer, or Adam's first moment; else empty."""
    exp_avg_sq: Mapping[str, Tensor] = field(default_factory=dict)
    """Adam's second moment; else empty."""
    num_steps: int = 0
    """Steps made with this optimiser."""


class UnrolledGrads(NamedTuple):
    """The outer loss and its gradients."""

    loss: float
    leaves: dict[str, Tensor]
    """Gradients by every floating leaf; zeros where no step uses it."""
    lr: Tensor
    """Gradient by the learning rate, of its shape."""
    theta: dict[str, Tensor]
    """Gradients by the initial weights."""


@dataclass(frozen=True, slots=True)
class _FlatState:
    """A state as one vector for the weights and one for each moment."""

    parts: tuple[Tensor, ...]
    """Weights, then `Inner.moments` moments, each (p,)."""
    num_steps: int


@dataclass(frozen=True, slots=True)
class _StateLayout:
    """Names and shapes of the tensors in a flat state."""

    shapes: Mapping[str, torch.Size]
    moments: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, state: StudentState, inner: InnerOptimizer) -> "_StateLayout":
        if not state.theta:
            raise ValueError("a state has no weights")
        kinds = {(t.dtype, t.device) for t in state.theta.values()}
        if len(kinds) > 1:
            raise ValueError(f"weights must be of one dtype on one device, but they are {sorted(map(str, kinds))}")
        carried = (state.exp_avg, state.exp_avg_sq)
        if any(set(m) != (set(state.theta) if i < inner.num_moments else set()) for i, m in enumerate(carried)):
            raise ValueError(f"the state was not begun for {inner}; init_student(theta, inner) makes one that is")
        ((dtype, device),) = kinds
        return cls({n: t.shape for n, t in state.theta.items()}, inner.num_moments, dtype, device)

    @property
    def size(self) -> int:
        return sum(map(prod, self.shapes.values()))

    def flatten(self, state: StudentState) -> _FlatState:
        found = (state.theta, state.exp_avg, state.exp_avg_sq)[: 1 + self.moments]
        return _FlatState(
            tuple(torch.cat([m[n].detach().reshape(-1) for n in self.shapes]) for m in found), state.num_steps
        )

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        pieces = torch.split(vector, [prod(s) for s in self.shapes.values()])
        return {n: t.view(s) for t, (n, s) in zip(pieces, self.shapes.items(), strict=True)}

    def to_state(self, flat: _FlatState) -> StudentState:
        theta, *moments = (self.unflatten(t) for t in flat.parts)
        first, second = (*moments, {}, {})[:2]
        return StudentState(theta=theta, exp_avg=first, exp_avg_sq=second, num_steps=flat.num_steps)


@final
class StudentTrace(Sequence[StudentState]):
    """All states of a training, from before the first step to after the last.

    An item is a fresh `State`; ``trail[i]`` is that after i steps.
    """

    def __init__(self, form: _StateLayout, steps: range, count: int, limit: int, states: int) -> None:
        self.steps = steps
        """Step numbers, as the loss gets them."""
        self._form, self._count, self._stored = form, count, 0
        self._file: IO[bytes] | None = None
        self._each = (1 + form.moments) * form.size * torch.empty((), dtype=form.dtype).element_size()
        self._memory: Tensor | None = None
        if self._each * states <= limit:
            # At once: pieces between the graphs of the steps would leave holes in the heap.
            shape = states, 1 + form.moments, form.size
            self._memory = torch.empty(shape, dtype=form.dtype, device=form.device)

    def __len__(self) -> int:
        """Number of states: steps + 1, or 1 for `start_trace`."""
        return self._stored

    @property
    def on_disk(self) -> bool:
        """True if the states are in a temporary file."""
        return self._memory is None

    @overload
    def __getitem__(self, index: int) -> StudentState: ...
    @overload
    def __getitem__(self, index: slice) -> list[StudentState]: ...
    def __getitem__(self, index: int | slice) -> StudentState | list[StudentState]:
        found = range(self._stored)[index]
        if isinstance(found, range):
            return [self[i] for i in found]
        flat = self.flat_state(found)
        return self._form.to_state(_FlatState(tuple(t.clone() for t in flat.parts), flat.num_steps))

    def __iter__(self) -> Iterator[StudentState]:
        return (self[i] for i in range(self._stored))

    def flat_state(self, index: int) -> _FlatState:
        """Return the flat state after ``index`` steps; read-only."""
        if self._memory is not None:
            return _FlatState(self._memory[index].unbind(), self._count + index)
        assert self._file is not None, "a state is there"
        whole = torch.empty(1 + self._form.moments, self._form.size, dtype=self._form.dtype)
        self._file.seek(index * self._each)
        read = self._file.readinto(whole.view(-1).view(torch.uint8).numpy().data)  # type: ignore[attr-defined]
        if read != self._each:
            raise PotstillError(
                f"the temporary file of a training's states is cut off after {read:,} of {self._each:,} bytes; free "
                "space in the temporary folder (TMPDIR) and run again"
            )
        return _FlatState(tuple(whole.to(self._form.device).unbind()), self._count + index)

    def append(self, flat: _FlatState) -> None:
        """Append a state."""
        if self._memory is not None:
            for place, part in zip(self._memory[self._stored], flat.parts, strict=True):
                place.copy_(part)
        else:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (closed when the trail goes)
                weakref.finalize(self, self._file.close)
            try:
                self._file.seek(self._stored * self._each)
                for part in flat.parts:
                    left = part.detach().cpu().contiguous().view(torch.uint8).numpy().data
                    while left:
                        left = left[self._file.write(left) :]
            except OSError as error:
                raise PotstillError(
                    f"a training of {len(self.steps)} steps keeps {self._each * (len(self.steps) + 1):,} bytes in the "
                    f"temporary folder, but it cannot be written ({error.strerror}); set TMPDIR to a folder with room"
                ) from error
        self._stored += 1


def init_student(theta: Mapping[str, Tensor], inner: InnerOptimizer) -> StudentState:
    """Return a student with copies of these weights that has made no step."""
    zeros = [{n: torch.zeros_like(t) for n, t in theta.items()} for _ in range(inner.num_moments)]
    first, second = (*zeros, {}, {})[:2]
    return StudentState(theta={n: t.detach().clone() for n, t in theta.items()}, exp_avg=first, exp_avg_sq=second)


def start_trace(state: StudentState, steps: range) -> StudentTrace:
    """Return a trace with the first state alone, as mode ``full`` needs it."""
    moments = bool(state.exp_avg) + bool(state.exp_avg_sq)
    some = next(iter(state.theta.values()))
    form = _StateLayout({n: t.shape for n, t in state.theta.items()}, moments, some.dtype, some.device)
    trail = StudentTrace(form, steps, state.num_steps, limit=2**63, states=1)
    trail.append(form.flatten(state))
    return trail


def run_steps(
    loss: Loss, state: StudentState, leaves: Mapping[str, Tensor], lr: float | Tensor, inner: InnerOptimizer,
    steps: range,
) -> StudentState:  # fmt: skip
    """Return the state after ``steps`` (a burn-in), as `train_student` without the states between.

    Raises:
        NonFiniteError: the loss or a weight is not finite.
    """
    form = _StateLayout.of(state, inner)
    flat = form.flatten(state)
    for after in _Training(form, loss, leaves, _lr_tensor(lr, form), inner).states(flat, steps):
        flat = after
    return form.to_state(flat)


def train_student(
    loss: Loss, state: StudentState, leaves: Mapping[str, Tensor], lr: float | Tensor, inner: InnerOptimizer,
    steps: range, *, limit: int = MAX_BYTES_IN_MEMORY,
) -> StudentTrace:  # fmt: skip
    """Train a student and return all its states.

    Args:
        loss: its loss; called once for each of ``steps``.
        state: as `init_student` made it, or as another training left it.
        leaves: what the loss looks at, by name.
        lr: the learning rate: a number, a scalar tensor, or one rate (p,) for each weight in the order of ``theta``.
        steps: their numbers, as the loss gets them.
        limit: bytes of states that stay in memory; more of them all lie in an unnamed temporary file, which takes the
            same bits, so that memory does not grow with the number of steps.

    Raises:
        NonFiniteError: the loss or a weight is not finite; the step is named.
    """
    form = _StateLayout.of(state, inner)
    trail = StudentTrace(form, steps, state.num_steps, limit, len(steps) + 1)
    first = form.flatten(state)
    trail.append(first)
    for flat in _Training(form, loss, leaves, _lr_tensor(lr, form), inner).states(first, steps):
        trail.append(flat)
    return trail


def unrolled_grads(
    loss: Loss, trail: StudentTrace, leaves: Mapping[str, Tensor], lr: float | Tensor, inner: InnerOptimizer,
    outer: Outer, mode: Mode = "replay", until: int | None = None,
) -> UnrolledGrads:  # fmt: skip
    """Return the gradients of ``outer`` at the end of a training by its leaves, learning rate and initial weights.

    Args:
        loss, leaves, lr, inner: those that the trail was made with.
        trail: returned by `train_student`; for ``full`` that of `start_trace` suffices.
        outer: of the weights after ``until`` steps.
        mode: see the module docstring.
        until: how many steps count; all of them if it is ``None``.

    Raises:
        NonFiniteError: a value on the way is not finite; the step is named.
        PotstillError: ``tesla`` is asked of another optimiser than plain SGD.
        ValueError: the trail is shorter than ``until``.
    """
    n = len(trail.steps) if until is None else until
    if not 0 <= n <= len(trail.steps) or (mode != "full" and n >= len(trail)):
        raise ValueError(f"a trail of {len(trail) - 1} steps was given, but the gradients of {n} are wanted")
    if mode == "tesla" and (inner.optimizer != "sgd" or inner.momentum or inner.weight_decay):
        settings = f"momentum {inner.momentum:g}" if inner.optimizer == "sgd" else f"betas {inner.betas}"
        raise PotstillError(
            "tesla approximates SGD without momentum and weight decay, but the student has "
            f"{inner.optimizer} with {settings} and weight decay {inner.weight_decay:g}; "
            "use mode replay, which is exact"
        )
    training = _Training(trail._form, loss, leaves, _lr_tensor(lr, trail._form).requires_grad_(), inner)
    if mode == "full":
        return training.grads_in_one_graph(trail, outer, n)
    return training.grads_step_by_step(trail, outer, n, through=mode == "replay")


@dataclass(frozen=True, slots=True)
class _Training:
    """Values that all steps of a training share; ``beta`` is the learning rate."""

    form: _StateLayout
    loss: Loss
    leaves: Mapping[str, Tensor]
    beta: Tensor
    inner: InnerOptimizer

    def states(self, flat: _FlatState, steps: range) -> Iterator[_FlatState]:
        """Yield the states after each of ``steps``, without a graph."""
        still, flags = {name: t.detach() for name, t in self.leaves.items()}, list[Tensor]()
        for step in steps:
            theta = {name: t.requires_grad_() for name, t in self.form.unflatten(flat.parts[0].detach()).items()}
            with torch.enable_grad():
                value = self.loss(theta, still, step)
                g = _concat_grads(torch.autograd.grad(value, tuple(theta.values()), allow_unused=True), theta)
            with torch.no_grad():
                flat = self.updated(flat, g)
                flags.append(_all_finite(value, flat.parts[0]))
            yield flat
        _check_finite(flags, steps, "the student's loss or weights", self._rate)

    @property
    def _rate(self) -> float:
        """Largest learning rate, for messages."""
        return float(self.beta.detach().max())

    def grads_in_one_graph(self, trail: StudentTrace, outer: Outer, n: int) -> UnrolledGrads:
        form, x = self.form, _require_grad(self.leaves)
        flat = trail.flat_state(0)
        flat = replace(flat, parts=tuple(t.detach().requires_grad_() for t in flat.parts))
        first, flags = flat.parts[0], list[Tensor]()
        with torch.enable_grad():
            for step in trail.steps[:n]:
                theta = form.unflatten(flat.parts[0])
                value = self.loss(theta, {**self.leaves, **x}, step)
                grads = torch.autograd.grad(value, tuple(theta.values()), create_graph=True, allow_unused=True)
                flat = self.updated(flat, _concat_grads(grads, theta))
                flags.append(_all_finite(value, flat.parts[0]))
            _check_finite(flags, trail.steps[:n], "the student's loss or weights", self._rate)
            value = outer(form.unflatten(flat.parts[0]))
            wanted = (first, self.beta, *x.values())
            found = torch.autograd.grad(value, wanted, allow_unused=True)
        by_theta, by_lr, *by_leaves = (
            torch.zeros_like(t) if g is None else g for g, t in zip(found, wanted, strict=True)
        )
        if not bool(_all_finite(*by_leaves, by_theta, by_lr)):
            raise NonFiniteError(
                f"the gradients through {n} steps are not finite; use mode replay, which says at which step, or fewer "
                "steps"
            )
        leaves = dict(zip(x, by_leaves, strict=True))
        return UnrolledGrads(float(value.detach()), leaves, by_lr, form.unflatten(by_theta))

    def grads_step_by_step(self, trail: StudentTrace, outer: Outer, n: int, through: bool) -> UnrolledGrads:
        """Return the gradients step by step from the end; ``through=False`` takes weights as constants (TESLA)."""
        end = trail.flat_state(n).parts[0].detach().requires_grad_()
        with torch.enable_grad():
            value = outer(self.form.unflatten(end))
            (found,) = torch.autograd.grad(value, (end,), allow_unused=True)
        cotangents = (torch.zeros_like(end) if found is None else found, *(torch.zeros_like(end),) * self.form.moments)
        sums = {name: torch.zeros_like(t) for name, t in _require_grad(self.leaves).items()}
        by_lr, flags = torch.zeros_like(self.beta), [_all_finite(value, *cotangents)]
        for i in reversed(range(n)):
            cotangents, of_lr, of_leaves = self.step_vjp(trail.flat_state(i), trail.steps[i], cotangents, through)
            for name, slope in of_leaves.items():
                sums[name] += slope
            by_lr = by_lr + of_lr
            flags.append(_all_finite(of_lr, *cotangents, *of_leaves.values()))
        before = [trail.steps[i] for i in reversed(range(n))]
        _check_finite(flags, ["the outer loss", *before], "the gradient on the way back", self._rate)
        return UnrolledGrads(float(value.detach()), sums, by_lr, self.form.unflatten(cotangents[0]))

    def step_vjp(
        self, flat: _FlatState, step: int, cotangents: tuple[Tensor, ...], through: bool
    ) -> tuple[tuple[Tensor, ...], Tensor, dict[str, Tensor]]:
        """Return one step's vector-Jacobian product by the state before it, the rate and the leaves."""
        x = _require_grad(self.leaves)
        theta = {name: t.requires_grad_() for name, t in self.form.unflatten(flat.parts[0].detach()).items()}
        with torch.enable_grad():
            value = self.loss(theta, {**self.leaves, **x}, step)
            grads = torch.autograd.grad(value, tuple(theta.values()), create_graph=True, allow_unused=True)
            # The update's own product, on vectors: the network's graph begins where the gradient does.
            g = _concat_grads(grads, theta).detach().requires_grad_()
            parts = tuple(t.detach().requires_grad_() for t in flat.parts)
            made = self.updated(replace(flat, parts=parts), g).parts
            of_g, of_lr, *of_parts = torch.autograd.grad(made, (g, self.beta, *parts), cotangents)
        slopes = zip(grads, self.form.unflatten(of_g).values(), strict=True)
        carrying = [(t, c) for t, c in slopes if t is not None and t.requires_grad]
        wanted = (*(theta.values() if through else ()), *x.values())
        results: Sequence[Tensor | None] = [None] * len(wanted)
        if carrying and wanted:
            outputs, given = zip(*carrying, strict=True)
            results = torch.autograd.grad(outputs, wanted, given, allow_unused=True)
        if through:
            of_parts[0] = of_parts[0] + _concat_grads(results[: len(theta)], theta)
        by_leaves = dict(zip(x, results[len(wanted) - len(x) :], strict=True))
        return tuple(of_parts), of_lr, {name: t for name, t in by_leaves.items() if t is not None}

    def updated(self, flat: _FlatState, g: Tensor) -> _FlatState:
        """Return the state after an update, differentiable by its parts, ``g`` and the learning rate."""
        inner, count = self.inner, flat.num_steps + 1
        if inner.optimizer == "sgd":
            theta, *moments = flat.parts
            before = moments[0] if moments else None
            settings = {"momentum": inner.momentum, "weight_decay": inner.weight_decay}
            after = sgd_tensor(theta, g, before, lr=self.beta, **settings)
            return _FlatState(after[: len(flat.parts)], count)
        theta, first, second = flat.parts
        g = torch.add(g, theta, alpha=inner.weight_decay) if inner.weight_decay else g
        b1, b2 = inner.betas
        m = torch.lerp(first, g, 1 - b1)
        v = torch.addcmul(second * b2, g, g, value=1 - b2)
        root = _safe_sqrt(v) / (1 - b2**count) ** 0.5 + inner.eps
        return _FlatState((theta - (self.beta / (1 - b1**count)) * (m / root), m, v), count)


def _safe_sqrt(v: Tensor) -> Tensor:
    """√v with slope 0 at 0, where v = 0 means that no gradient was ever there: m is 0 too, and the update's slope by m
    alone is the true one."""
    zero = v == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, v).sqrt())


def _concat_grads(grads: Sequence[Tensor | None], like: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([
        torch.zeros_like(t).reshape(-1) if g is None else g.reshape(-1)
        for g, t in zip(grads, like.values(), strict=True)
    ])  # fmt: skip


def _require_grad(leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.detach().requires_grad_() for n, t in leaves.items() if t.is_floating_point()}


def _lr_tensor(lr: float | Tensor, form: _StateLayout) -> Tensor:
    rate = torch.as_tensor(lr, dtype=form.dtype, device=form.device).detach()
    return rate.reshape((form.size,) if rate.numel() > 1 else ()).clone()


def _all_finite(*values: Tensor) -> Tensor:
    """Return a boolean tensor: all values are finite. The GPU is not waited for."""
    with torch.no_grad():
        flags = [v.detach().isfinite().all() for v in values]
        return torch.stack([flag.to(flags[0].device) for flag in flags]).all()  # a learning rate lies on the CPU


def _check_finite(flags: Sequence[Tensor], steps: Sequence[int | str], what: str, lr: float) -> None:
    if not flags:
        return
    well = torch.stack(list(flags))
    if bool(well.all()):
        return
    step = steps[int(well.int().argmin())]
    where = step if isinstance(step, str) else f"inner step {step}"
    raise NonFiniteError(
        f"{what} must be finite, but at {where} it is not (learning rate {lr:g}); take a smaller learning rate, or "
        "fewer steps"
    )
