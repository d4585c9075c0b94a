"""Influence of training samples on a target by the cosines of projected gradients, as LESS measures it.

Xia et al., "LESS: Selecting Influential Data for Targeted Instruction Tuning", ICML 2024, arXiv:2402.04333. Legend: n
training samples, m target samples, g groups of these, p parameters, d numbers of a projected gradient.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.func import functional_call, grad, vmap

from potstill.functional.train import Criterion

__all__ = [
    "SignProjection", "adam_updates", "flat_parameters", "group_cosines", "sample_gradients", "scores_in_turn",
]  # fmt: skip

_NUMBERS = 1 << 24
"""Gradient entries held at a time: 64 MiB in float32."""


def flat_parameters(params: Mapping[str, Tensor]) -> Float[Tensor, " p"]:
    """Return all parameters, or moments of them, as one row, in the order of their names."""
    return torch.cat([params[name].flatten() for name in params])


def sample_gradients(
    network: nn.Module, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor], x: Tensor, y: Tensor,
    criterion: Criterion,
) -> Iterator[Float[Tensor, "b p"]]:  # fmt: skip
    """Yield the gradients of single samples by all parameters, as `flat_parameters` orders them, some rows at a time.

    Args:
        network: architecture and mode; one with BatchNorm must be in evaluation mode.
        params: every parameter by name.
        buffers: running statistics by name.
        x: inputs in model space (n, …).
        y: targets (n, …).
        criterion: the task's loss, a mean over samples.
    """
    theta = {name: p.detach() for name, p in params.items()}

    def loss(theta: dict[str, Tensor], one: Tensor, target: Tensor) -> Tensor:
        return criterion(functional_call(network, {**theta, **buffers}, (one[None],)), target[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    size = max(1, _NUMBERS // sum(p.numel() for p in theta.values()))
    for some, targets in zip(torch.split(x, size), torch.split(y, size), strict=True):
        found = each(theta, some, targets)
        yield torch.cat([found[name].flatten(1) for name in theta], 1)


def adam_updates(
    gradients: Float[Tensor, "n p"], first: Float[Tensor, " p"], second: Float[Tensor, " p"],
    betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
) -> Float[Tensor, "n p"]:  # fmt: skip
    """Return the direction in which Adam would move by each gradient: ``m / √(v + eps)`` after it.

    As the released program has it (collect_grad_reps.py): moments without correction of their bias, eps in the root.

    Args:
        gradients: one row for each sample.
        first, second: moments before.
        betas: decay rates of the moments.
        eps: added to the second moment.
    """
    m = betas[0] * first + (1 - betas[0]) * gradients
    v = betas[1] * second + (1 - betas[1]) * gradients.square()
    return m / (v + eps).sqrt()


@dataclass(frozen=True, kw_only=True)
class SignProjection:
    """Random linear map that keeps inner products on average: every entry goes, with a random sign, into one of d sums.

    A dense matrix of signs, as published, has the same mean and nearly the same variance, but p · d entries.
    """

    place: Int[Tensor, " p"]
    sign: Float[Tensor, " p"]
    size: int
    """d."""

    @classmethod
    def draw(cls, count: int, size: int, rng: Generator) -> "SignProjection":
        """Draw the map of ``count`` entries to ``size`` numbers; where these are not fewer, it only changes signs."""
        place = torch.arange(count) if count <= size else torch.randint(size, (count,), generator=rng)
        sign = torch.randint(0, 2, (count,), generator=rng).float() * 2 - 1
        return cls(place=place, sign=sign, size=min(count, size))

    def __call__(self, rows: Float[Tensor, "n p"]) -> Float[Tensor, "n d"]:
        """Return the projected rows."""
        place, sign = self.place.to(rows.device), self.sign.to(rows)
        return rows.new_zeros(len(rows), self.size).index_add_(1, place, rows * sign)


def group_cosines(
    rows: Float[Tensor, "n d"], target: Float[Tensor, "m d"], groups: Int[Tensor, " m"]
) -> Float[Tensor, "n g"]:
    """Return the mean cosine of each row with the target rows of each group; that with a row of zeros is 0.

    Args:
        rows: of training samples.
        target: of target samples.
        groups: number of each one's group, 0 to g − 1, none of them empty.
    """
    count = int(groups.max()) + 1
    unit = F.normalize(target, dim=1)
    sums = unit.new_zeros(count, unit.shape[1]).index_add_(0, groups.to(unit.device), unit)
    sizes = torch.bincount(groups, minlength=count).to(unit)
    return F.normalize(rows, dim=1) @ (sums / sizes[:, None]).T


def scores_in_turn(values: Float[Tensor, "n g"]) -> Float[Tensor, " n"]:
    """Return scores whose largest ones are those that groups take in turn: each its best sample, then its next.

    A sample that is the best of several groups counts for the first of them alone.

    Args:
        values: of each sample for each group; more is better.

    Examples:
        >>> import torch
        >>> scores_in_turn(torch.tensor([[3.0, 0.0], [2.0, 1.0], [1.0, 2.0]])).argsort(descending=True).tolist()
        [0, 2, 1]
    """
    ranks = values.argsort(dim=0, descending=True, stable=True).argsort(dim=0)  # a group's best sample has 0
    best = ranks.min(1)
    return -best.values.float() - best.indices / (values.shape[1] + 1)
