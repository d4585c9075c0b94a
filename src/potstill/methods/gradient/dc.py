r"""DC: Dataset Condensation with Gradient Matching (Zhao, Mopuri, Bilen, ICLR 2021, arXiv:2006.05929), eq. 9-10.

.. math::
    \min_S \; E_{\theta_0 \sim P_{\theta_0}} \Big[ \sum_{t=0}^{T-1} \sum_c
        D\big(\nabla_\theta L^{S_c}(\theta_t),\, \nabla_\theta L^{T_c}(\theta_t)\big) \Big],
    \qquad \theta_{t+1} = \text{SGD}(L^S, \theta_t),
    \qquad D(A, B) = \sum_{\text{layers}} \sum_i \Big(1 - \frac{A_i \cdot B_i}{\lVert A_i \rVert \lVert B_i \rVert}\Big)

with one row A_i per output neuron, and T (outer) updates of S for each network θ.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from potstill.core import Efforts, MethodInfo
from potstill.methods._matching import Start
from potstill.methods.gradient._on_synthetic import OnSynthetic

__all__ = ["DC"]


@dataclass(frozen=True, kw_only=True)
class DC(OnSynthetic):
    """Match the gradients that real and synthetic samples of a class give a network."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Condensation with Gradient Matching",
        paper="arXiv:2006.05929",
        year=2021,
        family="gradient",
        kinds=("*",),
        training={"lr": 0.01, "augmentation": "none", "epochs": 300},
    )
    efforts: ClassVar[Efforts] = {
        "quick": {"iterations": 10, "batch_real": 64, "inner": 5, "start": "real"},
        "good": {"iterations": 60, "batch_real": 128, "inner": 10, "start": "real"},
    }

    # main.py mutes augmentation while DC's network trains, whatever the matching uses.
    augmented_training: ClassVar[bool] = False

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
    """Distance of gradients; "ours" is the paper's row-wise cosine distance (main.py, --dis_metric)."""
    start: Start = "noise"
    """Start from noise or from random real samples (main.py, --init)."""
    augment: str = "none"
    """Siamese augmentation of the matched batches; the paper has none."""
    network: str = "convnet"
    """Network whose gradients are matched."""
    parametrization: str = "pixels"
    """What is optimised."""
