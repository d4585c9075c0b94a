r"""Adversarial training of students: each batch is replaced by examples made against the student as it is then.

Madry et al., arXiv:1706.06083, equation 2.1: :math:`\min_\theta E\, \max_{\lVert \delta \rVert_\infty \le \epsilon}
\ell(f_\theta(x + \delta), y)`, the maximum by PGD, or by FGSM (Goodfellow et al., arXiv:1412.6572), in evaluation mode.
Distilled pixels may lie outside of [0, 1], and so may examples: they are not clamped.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from potstill.core import Normalization, Source
from potstill.errors import PotstillError, unknown_name
from potstill.functional.adversarial import Ball, fgsm, pgd
from potstill.tasks import Classification, get_task

if TYPE_CHECKING:
    from potstill.evaluation.protocol import Protocol

__all__ = ["Adversary", "adversarial_batch", "check_adversary", "parse_adversary"]

_NAMES = ("none", "fgsm", "pgd")


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """Attack that makes a student's training examples.

    Attributes:
        attack: ``fgsm`` or ``pgd``.
        eps: radius of L∞, where pixels are in [0, 1].
        steps: steps of ``pgd`` from a random start, each of 2.5 ε / steps.
    """

    attack: Literal["fgsm", "pgd"]
    eps: float = 8 / 255
    steps: int = 7


def parse_adversary(spelled: str) -> Adversary | None:
    """Return the adversary that ``spelled`` names, such as ``pgd:eps=8/255,steps=7``; ``None`` for ``none``.

    Raises:
        PotstillError: there is no such attack or setting, or a number is out of its range.
    """
    name, _, settings = spelled.partition(":")
    if name not in _NAMES:
        raise unknown_name("adversary", name, _NAMES)
    known = {"none": (), "fgsm": ("eps",), "pgd": ("eps", "steps")}[name]
    eps, steps = 8 / 255, 7
    for setting in settings.split(",") if settings else ():
        key, _, text = setting.partition("=")
        if key not in known:
            raise PotstillError(f"adversary {name} has no setting {key!r}; it has {', '.join(known) or 'none'}")
        above, slash, below = text.partition("/")
        try:
            if key == "steps":
                steps = int(text)
            else:
                eps = float(above) / (float(below) if slash else 1.0)
        except (ValueError, ZeroDivisionError):
            raise PotstillError(f"adversary {name}: {key} must be a number, not {text!r}; write eps=8/255") from None
    if not 0 < eps <= 1 or steps < 1:
        raise PotstillError(
            f"adversary {name}: eps must be above 0 and at most 1 and steps at least 1, but they are {eps:g} and "
            f"{steps}; change them"
        )
    if name == "fgsm":
        return Adversary(attack="fgsm", eps=eps, steps=1)
    return Adversary(attack="pgd", eps=eps, steps=steps) if name == "pgd" else None


def check_adversary(protocol: "Protocol", source: Source) -> None:
    """Check that students of ``source`` can be trained by the protocol's adversary, if it has one.

    Raises:
        PotstillError: these are no pictures with classes, or they are whitened.
    """
    name = protocol.recipe.adversary
    if parse_adversary(name) is None:
        return
    why = None
    if source.input.kind != "image" or source.input.parts:
        why = f"{source.name} holds another kind than pictures"
    elif not isinstance(get_task(source), Classification):
        why = f"the task of {source.name} is no classification"
    elif source.normalization.whitening is not None:
        why = f"the pictures of {source.name} are whitened, so that a radius in pixels says nothing"
    if why is not None:
        raise PotstillError(f"adversary {name} moves pixels of pictures with classes, but {why}; leave it out")


def adversarial_batch(
    network: nn.Module, logits: Callable[[Tensor], Tensor], adversary: Adversary, normalization: Normalization,
    x: Tensor, y: Tensor, rng: Generator,
) -> Tensor:  # fmt: skip
    """Return examples against ``network`` in place of ``x``; it ends in training mode.

    Args:
        logits: its outputs of inputs in model space.
        x: inputs in model space (n, …).
        y: classes (n,), or rows (n, k).
        rng: draws the starts of PGD.
    """
    network.eval()
    ball = Ball("linf", adversary.eps, low=-math.inf, high=math.inf)
    center = normalization.invert(x)

    def forward(at: Tensor) -> Tensor:
        return logits(normalization.apply(at))

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs, y.to(outputs.dtype) if y.is_floating_point() else y, reduction="none")

    if adversary.attack == "fgsm":
        made = fgsm(forward, center, y, ball, loss=loss)
    else:
        made = pgd(forward, center, y, ball, steps=adversary.steps, rng=rng, loss=loss, keep_first=False)
    network.train()
    return normalization.apply(made).detach()
