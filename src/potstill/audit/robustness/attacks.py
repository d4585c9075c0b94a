"""Right answers of one student under every attack."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from potstill.audit.robustness.autoattack import auto_attack
from potstill.core import Normalization
from potstill.evaluation.student import TEST_CHUNK
from potstill.functional.adversarial import Ball, Forward, fgsm, margins, pgd, square_search
from potstill.rng import derive_seed, generator

__all__ = ["LARGE", "Attack", "AttackSettings", "answers", "attack_student", "eps_text", "forward_of", "transferred"]

LARGE = 0.5
"""Radius (L∞) at which every picture can be turned to grey, so that hardly an answer may stay right."""


class Attack(NamedTuple):
    """An attack and its radius."""

    name: str
    """``fgsm``, ``pgd``, ``pgd-margin``, ``square``, ``transfer`` or ``autoattack``."""
    norm: Literal["linf", "l2"]
    eps: float

    @property
    def text(self) -> str:
        """Words for a table."""
        words = {
            "fgsm": "FGSM", "pgd": "PGD", "pgd-margin": "PGD on the margin", "square": "random search",
            "transfer": "transfer", "autoattack": "AutoAttack",
        }  # fmt: skip
        return f"{words[self.name]}, {'L∞' if self.norm == 'linf' else 'L2'} {eps_text(self.eps)}"


def eps_text(eps: float) -> str:
    """Return a radius as parts of 255 where it is a whole number of them."""
    parts = 255 * eps
    return f"{round(parts)}/255" if abs(parts - round(parts)) < 1e-6 else f"{eps:g}"


@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """Radii and lengths of the attacks."""

    eps: tuple[float, ...]
    """Radii of L∞."""
    eps_l2: tuple[float, ...]
    steps: int
    """Steps of PGD."""
    queries: int
    """Forward passes of random search."""
    seed: int
    autoattack: bool = False
    """AutoAttack too, at every radius of L∞."""

    @property
    def largest(self) -> float:
        """Largest radius of L∞, at which the further attacks run."""
        return max(self.eps)

    @property
    def white_box(self) -> tuple[Attack, ...]:
        """FGSM and PGD at every radius, and AutoAttack, a part of which sees no gradient."""
        balls = [("linf", eps) for eps in sorted(self.eps)] + [("l2", eps) for eps in sorted(self.eps_l2)]
        return tuple(
            Attack(name, norm, eps)  # type: ignore[arg-type]
            for norm, eps in balls
            for name in ("fgsm", "pgd", *(["autoattack"] if self.autoattack and norm == "linf" else []))
        )

    @property
    def further(self) -> tuple[Attack, ...]:
        """Attacks at the largest radius that do not depend on the cross-entropy's gradient alone."""
        return tuple(Attack(name, "linf", self.largest) for name in ("pgd-margin", "square", "transfer"))

    @property
    def strongest(self) -> tuple[Attack, ...]:
        """All attacks at the largest radius of L∞."""
        return (*(a for a in self.white_box if (a.norm, a.eps) == ("linf", self.largest)), *self.further)

    @property
    def large(self) -> Attack:
        """PGD at a radius that should leave no right answer."""
        return Attack("pgd", "linf", LARGE)


def forward_of(network: nn.Module, normalization: Normalization) -> Forward:
    """Return the logits of a network as a function of pictures in [0, 1]."""
    network = network.eval().requires_grad_(False)

    def forward(x: Tensor) -> Tensor:
        logits: Tensor = network(normalization.apply(x))
        return logits.float()

    return forward


def answers(forward: Forward, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    """Return the logits of all pictures, on the CPU."""
    with torch.no_grad():
        return torch.cat([forward(part).cpu() for part in torch.split(x, TEST_CHUNK)])


def _examples(
    attack: Attack, forward: Forward, x: Tensor, y: Tensor, settings: AttackSettings, student: int, classes: int
) -> Float[Tensor, "n c h w"]:
    rng = generator(settings.seed, "robustness", attack.name, attack.norm, f"{attack.eps:.9g}", student)
    ball = Ball(attack.norm, attack.eps)
    make: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
        "fgsm": lambda x, y: fgsm(forward, x, y, ball),
        "pgd": lambda x, y: pgd(forward, x, y, ball, steps=settings.steps, rng=rng),
        "pgd-margin": lambda x, y: pgd(forward, x, y, ball, steps=settings.steps, rng=rng, loss=margins),
        "autoattack": lambda x, y: auto_attack(
            forward, x, y, attack.eps, classes=classes, seed=derive_seed(settings.seed, "robustness", "auto", student)
        ),
        "square": lambda x, y: square_search(forward, x, y, attack.eps, queries=settings.queries, rng=rng),
    }
    parts = zip(torch.split(x, TEST_CHUNK), torch.split(y, TEST_CHUNK), strict=True)
    return torch.cat([make[attack.name](a, b) for a, b in parts])


def attack_student(
    forward: Forward, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], settings: AttackSettings, student: int
) -> Iterator[tuple[Attack, Bool[Tensor, " n"], Float[Tensor, "n c h w"]]]:
    """Yield each attack but transfer, the answers that are right without and with it, and its pictures.

    Args:
        x: pictures in [0, 1], on the student's device.
        y: classes, on the CPU.
        student: its number, which keys the draws: students of all training sets get the same ones.
    """
    logits = answers(forward, x)
    clean, classes = logits.argmax(1) == y, logits.shape[1]
    for attack in (*settings.white_box, *settings.further, settings.large):
        if attack.name != "transfer":
            examples = _examples(attack, forward, x, y.to(x.device), settings, student, classes)
            yield attack, clean & (answers(forward, examples).argmax(1) == y), examples


def transferred(
    forward: Forward, examples: Mapping[str, Float[Tensor, "n c h w"]], name: str, y: Int[Tensor, " n"]
) -> Bool[Tensor, " n"]:
    """Return which answers are right for the pictures made against each student of the other training sets."""
    right = [answers(forward, made).argmax(1) == y for other, made in examples.items() if other != name]
    return torch.stack(right).all(0)
