r"""DSA: Dataset Condensation with Differentiable Siamese Augmentation (Zhao and Bilen, ICML 2021, arXiv:2102.08259).

Equation 5:

.. math::
    \min_S \; D\big(\nabla_\theta L(A(S, \omega^S), \theta_t),\, \nabla_\theta L(A(T, \omega^T), \theta_t)\big),
    \qquad \omega^S = \omega^T

DC's gradient matching with one differentiable augmentation A drawn per class and shared by both batches. The network
trains on synthetic samples that are each augmented on their own.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from potstill.core import Efforts, MethodInfo
from potstill.methods._matching import Start
from potstill.methods.gradient._on_synthetic import OnSynthetic

__all__ = ["DSA"]


@dataclass(frozen=True, kw_only=True)
class DSA(OnSynthetic):
    """Match gradients under an augmentation that real and synthetic samples share."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Condensation with Differentiable Siamese Augmentation",
        paper="arXiv:2102.08259",
        year=2021,
        family="gradient",
        kinds=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
    )
    efforts: ClassVar[Efforts] = {
        "quick": {"iterations": 10, "batch_real": 64, "inner": 5},
        "good": {"iterations": 60, "batch_real": 128, "inner": 10},
    }

    augmented_training: ClassVar[bool] = True

    iterations: int = 1000
    """Networks, one after the other (main.py, --Iteration)."""
    lr: float = 0.1
    """Learning rate of the synthetic data (main.py, --lr_img)."""
    momentum: float = 0.5
    """Momentum of the synthetic data (main.py)."""
    lr_net: float = 0.01
    """Learning rate of the network (main.py, --lr_net)."""
    batch_real: int = 256
    """Real samples per class and step (main.py, --batch_real)."""
    batch_train: int = 256
    """Batch of the network's training on the synthetic data (main.py, --batch_train)."""
    outer: int | None = None
    """Updates per network; None: by items per class as published (utils.py, get_loops)."""
    inner: int | None = None
    """Epochs of the network after each update; None: by items per class as published; 0: it does not train."""
    metric: Literal["ours", "mse", "cos"] = "ours"
    """Distance of gradients (main.py, --dis_metric)."""
    start: Start = "real"
    """Start from random real samples (the repository's DSA commands) or from noise."""
    augment: str = "dsa"
    """Siamese augmentation (section 3.2 of the paper)."""
    network: str = "convnet"
    """Network whose gradients are matched."""
    parametrization: str = "pixels"
    """What is optimised."""
