"""AutoAttack (Croce and Hein, arXiv:2003.01690) of the package torchattacks, which the extra ``attacks`` brings.

The package names torchvision as a dependency and imports nothing of it, so that it also works alone.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from potstill._util.optional import import_optional
from potstill.errors import PotstillError
from potstill.functional.adversarial import Forward

__all__ = ["MIN_CLASSES", "auto_attack", "check_auto_attack"]

MIN_CLASSES = 4
"""Classes that the targeted loss needs: it divides by the difference of the first, third and fourth logit."""


class _Model(nn.Module):
    """A forward pass as the module that the package asks for."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.function = forward
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)  # the package reads the device from it

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def check_auto_attack(classes: int) -> None:
    """Check before any work that AutoAttack can run.

    Raises:
        PotstillError: the package is missing, or there are too few classes.
    """
    if classes < MIN_CLASSES:
        raise PotstillError(
            f"AutoAttack needs at least {MIN_CLASSES} classes, but there are {classes}; leave `autoattack=` out"
        )
    import_optional("torchattacks", "AutoAttack", "attacks")


def auto_attack(
    forward: Forward, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], eps: float, *, classes: int, seed: int
) -> Float[Tensor, "n c h w"]:
    """Return pictures of the standard version: APGD, targeted APGD and FAB, and Square with 5,000 queries, L∞.

    Args:
        seed: seed of its draws; the global generator is as before afterwards.
    """
    package = import_optional("torchattacks", "AutoAttack", "attacks")
    model = _Model(forward).eval().to(x.device)
    attack = package.AutoAttack(model, norm="Linf", eps=eps, version="standard", n_classes=classes, seed=seed % 2**31)
    with torch.random.fork_rng([x.device] if x.is_cuda else []):
        examples: Tensor = attack(x, y)
    # its steps end a rounding error outside the ball
    return torch.minimum(torch.maximum(examples.detach(), x - eps), x + eps).clamp(0, 1)
