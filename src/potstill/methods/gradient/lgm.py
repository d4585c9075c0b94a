r"""LGM: Dataset Distillation for Pre-Trained Self-Supervised Vision Models (Cazenavette, Torralba and Sitzmann, NeurIPS
2025, arXiv:2511.16674): linear gradient matching.

.. math::
    \min_S \; E_{W \sim \mathcal N(0, \sigma^2)} \Big[ 1 - \cos\big(
        \nabla_W \ell(W \phi(A(S)), y_S),\, \nabla_W \ell(W \phi(A(T)), y_T) \big) \Big],
    \qquad \nabla_W \ell = \tfrac{1}{n} \sum_i \big(\mathrm{softmax}(W \phi_i) - y_i\big) \phi_i^\top

φ is a backbone that was trained by others and stays as it is, W a linear classifier drawn anew at every step, ℓ the
cross-entropy, and A gives each of several views of a picture an augmentation of its own. The gradient of W and of its
bias is laid end to end, of all classes together. Students train a linear classifier on φ of the set.

As in the authors' program (distill_config.py, linear_gm.py), but for two things. Its pictures are a sum of levels of a
growing pyramid through a sigmoid; here it is what ``parametrization`` says, pixels, kept in [0, 1]. It draws noise of
mean 0.5, which also makes pictures brighter; that is ``noise_mean``.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from potstill.core import MethodInfo, Presets, Problem, Space, UnitFloat
from potstill.functional.param_groups import ParamGroup
from potstill.kinds import get_kind
from potstill.methods.engine import (
    EngineMethod,
    FixedNetworks,
    Init,
    Labels,
    MatchingEngine,
    MatchingState,
    default_param_groups,
    payload_bounds,
)
from potstill.methods.gradient._linear import LinearGradients, ViewTransform

__all__ = ["LGM"]

_FEW: dict[str, float | int | str] = {
    "views": 1, "batch_real": 256, "steps_per_network": 8, "init_from": "real", "noise": 0.0, "augment": "none",
}  # fmt: skip
"""Where steps are few: pictures as they are, of which crops of small ones tell little."""


@dataclass(frozen=True, kw_only=True)
class LGM(EngineMethod[MatchingState]):
    """Match the gradients of random linear classifiers on the features of a frozen backbone."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Distillation for Pre-Trained Self-Supervised Vision Models", paper="arXiv:2511.16674", year=2025,
        family="gradient", kinds=("*",),
        training={"optimizer": "adam", "lr": 0.001, "augmentation": "rrc", "epochs": 1000},
        use_when="Take it where students are linear classifiers on a pretrained backbone that you hold, at one "
        "picture a class.",
        avoid_when="Avoid it where networks are trained from scratch: its pictures speak to the backbone that they "
        "were made for.",
        related=("rfad", "dc", "frepo"),
    )  # fmt: skip
    state_type: ClassVar[type] = MatchingState
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 60, "lr": 0.01, **_FEW},
        "good": {"iterations": 600, "lr": 0.005, **_FEW},
    }

    iterations: int = 5000
    """Steps (distill_config.py, iterations)."""
    views: int = 10
    """Augmented views of each synthetic sample in a step (augs_per_batch)."""
    batch_real: int | None = None
    """Real samples in a step, of all classes; None: as many as views (linear_gm.py)."""
    steps_per_network: int = 1
    """Steps with one network and its features of real samples: more is faster, for batches that say more of a class.
    Every step has a classifier of its own. Ours; 1 as published."""
    init_from: Init = "noise"
    """Initial samples: noise (init_mode) or from real samples."""
    labels: Labels = "hard"
    """Learned labels join the optimisation. Ours; hard as published."""
    lr_labels: float = 0.1
    """Learning rate of the labels' logits, where they are learned. Ours."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """Optimizer of the stored values: Adam (pyramid.py); AdamW without decay is it."""
    lr: float = 2e-3
    """Learning rate (distill_config.py, lr)."""
    momentum: UnitFloat = 0.5
    """Momentum of SGD, where that moves them (pixels.py)."""
    spread: float = 0.01
    """Standard deviation of the classifier's weights; its bias is 0 (linear_classifier.py)."""
    noise: float = 0.2
    """Standard deviation of the noise that half of the views of pictures get, in pixels of [0, 1] (standard_aug.py)."""
    noise_mean: float = 0.5
    """Its mean (standard_aug.py)."""
    augment: str = "rrc"
    """Augmentation of every view on its own: a random resized crop, and a mirror where pictures may be mirrored."""
    network: str = "efficientnet-lite0"
    """Backbone whose features are classified; of the networks that are drawn afresh there is another at each step."""
    parametrization: str = "pixels"
    """Parametrization of the synthetic inputs."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        space: Space = "data" if get_kind(problem.train.input).value_range is not None else "model"
        rules = default_param_groups(
            ParamGroup(lr=self.lr, momentum=self.momentum, bounds=payload_bounds(problem)),
            self.lr_labels,
            self.optimizer,
        )
        return MatchingEngine(
            objective=LinearGradients(
                views_per_sample=self.views, batch_real=self.batch_real, steps_per_network=self.steps_per_network,
                spread=self.spread, space=space,
                view_transform=ViewTransform(noise_std=self.noise, noise_mean=self.noise_mean),
            ),
            networks=FixedNetworks(), param_groups=lambda state, last: rules, iterations=self.iterations,
            steps=self.iterations,
            initial=self.init_from, labels=self.labels, space=space,
        )  # fmt: skip
