r"""A network made linear in its parameters at the ones that it has: ``f(x; ω) = J(x) ω``, and systems of such models.

J(x) is the Jacobian of the outputs by the parameters. Its products need no forward mode: a pull ``Jᵀ r`` is linear in
r, so that its own pull is the push ``J ω``; both are recorded, to be differentiated by x.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from potstill.core import Inputs, Network

__all__ = ["Linearised", "conjugate_gradients"]

Tangent: TypeAlias = Mapping[str, Tensor]
"""By the names of parameters."""


class _Both(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Inputs) -> tuple[Tensor, Tensor]:
        h = self.network.embed(x)
        return h, self.network.classifier(h)


class Linearised:
    """The network at some inputs: what it embeds, its outputs, and products with their Jacobian.

    Args:
        network: gives architecture, mode and parameters.
        x: inputs (n, …).
        taken: which parameters the model is linear in, by their names.
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


def conjugate_gradients(
    product: Callable[[Tangent], Tangent], b: Tangent, steps: int, small: float = 1e-10
) -> dict[str, Tensor]:
    """``M⁻¹ b`` for a symmetric positive definite M, after so many steps from zero, or when the rest is small.

    Args:
        product: M times a tangent.
        small: the part of ‖b‖² that is left, at which it ends.
    """
    x = {n: torch.zeros_like(t) for n, t in b.items()}
    rest = direction = dict(b)
    size = first = _dot(rest, rest)
    for _ in range(steps):
        if size <= small * first:
            break
        moved = product(direction)
        by = size / _dot(direction, moved)
        x = {n: x[n] + by * direction[n] for n in x}
        rest = {n: rest[n] - by * moved[n] for n in x}
        after = _dot(rest, rest)
        direction = {n: rest[n] + after / size * direction[n] for n in x}
        size = after
    return x


def _dot(a: Tangent, b: Tangent) -> float:
    return sum(float((t.double() * b[n].double()).sum()) for n, t in a.items())
