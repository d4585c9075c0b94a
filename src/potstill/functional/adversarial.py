"""Adversarial examples of classifiers, as pure functions of a forward pass on inputs in their own units, [0, 1].

FGSM: Goodfellow, Shlens and Szegedy, arXiv:1412.6572. PGD: Madry et al., arXiv:1706.06083, a random start and steps
along the steepest direction of the norm, each projected:

    x ← Π(x + α · d(∇_x ℓ(f(x), y))),    L∞: d(g) = sign(g),    L2: d(g) = g / ‖g‖₂

Random search without gradients: Andriushchenko et al., "Square Attack", arXiv:1912.00049, for L∞, with one window for
all samples of a batch at each query.

Legend: n samples, k classes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

__all__ = ["Ball", "Forward", "Loss", "cross_entropies", "fgsm", "input_gradient", "margins", "pgd", "square_search"]

Forward: TypeAlias = Callable[[Tensor], Tensor]
"""Logits (n, k) of inputs (n, …) in [0, 1]; normalization is part of it."""
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Loss of each sample (n,) from logits (n, k) and classes (n,); an attack raises it."""
_TINY = 1e-12


def cross_entropies(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the cross-entropy of each sample. Its gradient vanishes where a network is certain."""
    return F.cross_entropy(logits, y, reduction="none")


def margins(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the largest logit of another class less that of the class: above 0 where the answer is wrong."""
    own = logits.gather(1, y[:, None])[:, 0]
    return logits.scatter(1, y[:, None], -math.inf).amax(1) - own


@dataclass(frozen=True, slots=True)
class Ball:
    """Perturbations that an attack may choose from: a ball of a norm, within [``low``, ``high``]."""

    norm: Literal["linf", "l2"]
    eps: float
    """Radius, in units of the inputs."""
    low: float = 0.0
    high: float = 1.0

    def project(self, x: Float[Tensor, "n *d"], center: Float[Tensor, "n *d"]) -> Float[Tensor, "n *d"]:
        """Return the points of the ball around ``center`` nearest to ``x``, moved into [``low``, ``high``].

        The last move never leaves the ball, as the center is in that range.
        """
        if self.norm == "linf":
            return torch.minimum(torch.maximum(x, center - self.eps), center + self.eps).clamp(self.low, self.high)
        offset = x - center
        return (center + offset * (self.eps / _lengths(offset).clamp(min=_TINY)).clamp(max=1)).clamp(
            self.low, self.high
        )

    def direction(self, gradient: Float[Tensor, "n *d"]) -> Float[Tensor, "n *d"]:
        """Return the direction of length 1 in the norm along which a linear function rises fastest."""
        return gradient.sign() if self.norm == "linf" else gradient / _lengths(gradient).clamp(min=_TINY)

    def draw(self, center: Float[Tensor, "n *d"], rng: Generator) -> Float[Tensor, "n *d"]:
        """Draw points of the ball: uniform of L∞, of L2 a uniform direction and length."""
        if self.norm == "linf":
            offset = self.eps * (2 * torch.rand(center.shape, generator=rng, dtype=center.dtype) - 1)
        else:
            offset = self.eps * self.direction(torch.randn(center.shape, generator=rng, dtype=center.dtype))
            one_each = (len(center), *[1] * (center.ndim - 1))
            offset = offset * torch.rand(one_each, generator=rng, dtype=center.dtype)
        return self.project(center + offset.to(center.device), center)


def _lengths(x: Float[Tensor, "n *d"]) -> Tensor:
    """Return the L2 norm of each sample, shaped for its axes."""
    lengths: Tensor = torch.linalg.vector_norm(x, dim=list(range(1, x.ndim)), keepdim=True)
    return lengths


def input_gradient(
    forward: Forward, x: Float[Tensor, "n *d"], y: Tensor, loss: Loss = cross_entropies
) -> tuple[Float[Tensor, "n *d"], Float[Tensor, "n k"]]:
    """Return the gradient of the summed losses for the inputs, and the logits."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = forward(x)
        (gradient,) = torch.autograd.grad(loss(logits, y).sum(), x)
    return gradient, logits.detach()


def fgsm(
    forward: Forward, x: Float[Tensor, "n *d"], y: Tensor, ball: Ball, *, loss: Loss = cross_entropies
) -> Float[Tensor, "n *d"]:
    """Return the inputs after one step of length ε along the steepest direction of the loss."""
    gradient, _ = input_gradient(forward, x, y, loss)
    return ball.project(x + ball.eps * ball.direction(gradient), x)


def pgd(
    forward: Forward, x: Float[Tensor, "n *d"], y: Tensor, ball: Ball, *, steps: int,
    rng: Generator | None = None, loss: Loss = cross_entropies, step_size: float | None = None,
    keep_first: bool = True,
) -> Float[Tensor, "n *d"]:  # fmt: skip
    """Return for each sample the first point of projected gradient ascent that is wrong, else the last one.

    Args:
        y: classes (n,), or whatever the loss takes where ``keep_first`` is false.
        steps: number of steps, at least 1.
        rng: draws the start in the ball; ``None``: from ``x``.
        step_size: α; default 2.5 ε / steps, so that every point of the ball can be reached.
        keep_first: False: always the last point, as in training.
    """
    alpha = 2.5 * ball.eps / steps if step_size is None else step_size
    at = x if rng is None else ball.draw(x, rng)
    if not keep_first:
        for _ in range(steps):
            at = ball.project(at + alpha * ball.direction(input_gradient(forward, at, y, loss)[0]), x)
        return at
    found, wrong = at, torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for step in range(steps + 1):
        if step < steps:
            gradient, logits = input_gradient(forward, at, y, loss)
        else:
            with torch.no_grad():
                logits = forward(at)
        found = torch.where(_per_sample(wrong, x), found, at)
        wrong = wrong | (logits.argmax(1) != y)
        if step < steps:
            at = ball.project(at + alpha * ball.direction(gradient), x)
    return found


def square_search(
    forward: Forward, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], eps: float, *, queries: int, rng: Generator
) -> Float[Tensor, "n c h w"]:
    """Return pictures within ε (L∞) found by random search, without any gradient.

    It starts from vertical stripes of ±ε. Each query sets a square window to ±ε, a sign for each sample and channel,
    and stays where the margin rises. The window's share of the picture starts at 0.8 and is halved as in the paper,
    whose schedule is scaled to ``queries``.

    Args:
        queries: forward passes of each sample, at least 1.
        rng: draws stripes, windows and signs.
    """
    n, c, h, w = x.shape
    ball = Ball("linf", eps)

    def signs(*shape: int) -> Tensor:
        return (2.0 * torch.randint(2, shape, generator=rng) - 1).to(x)

    with torch.no_grad():
        best = ball.project(x + eps * signs(n, c, 1, w), x)
        height = margins(forward(best), y)
        for query in range(1, queries):
            side = math.sqrt(_window(query / queries) * h * w)
            tall, wide = (min(most, max(1, round(side))) for most in (h, w))
            top, left = (int(torch.randint(most - s + 1, (), generator=rng)) for most, s in ((h, tall), (w, wide)))
            rows, columns = slice(top, top + tall), slice(left, left + wide)
            tried = best.clone()
            tried[:, :, rows, columns] = (x[:, :, rows, columns] + eps * signs(n, c, 1, 1)).clamp(0, 1)
            here = margins(forward(tried), y)
            better = here > height
            best, height = torch.where(_per_sample(better, x), tried, best), torch.where(better, here, height)
    return best


def _window(done: float) -> float:
    """Return the share of a picture that a window covers after a part of the queries."""
    halvings = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
    return float(0.8 / 2 ** sum(done > at for at in halvings))


def _per_sample(value: Tensor, x: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (x.ndim - 1))
