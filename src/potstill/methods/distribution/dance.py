r"""DANCE: Dual-View Distribution Alignment for Dataset Condensation (Zhang et al., IJCAI 2024, arXiv:2406.01063).

.. math::
    L_{in} = \sum_c \Big\lVert E_{T_c}\, \psi_{\theta_l}(A_\omega(x)) - E_{S_c}\, \psi_{\theta_l}(A_\omega(s))
             \Big\rVert^2, \quad \theta_l = l\,\theta_0 + (1 - l)\,\theta_{end}, \quad l \sim U(0, 1); \qquad
    L_{cal} = \sum_c E_{S_c}\, \ell(f_{\theta_{end}}(A_\omega(s)), c)

Each step draws one of several trained networks, matches in a point between its beginning and its end (the "middle
encoder"), then moves the set once down the trained network's own loss (the inter-class view).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from potstill.core import MethodInfo, NonNegativeInt, Presets, Problem, UnitFloat
from potstill.functional.param_groups import ParamGroup
from potstill.methods.distribution._statistics import MEANS
from potstill.methods.distribution._values import FeatureMatchingFields, match_in_trained_networks
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState

__all__ = ["DANCE"]


@dataclass(frozen=True, kw_only=True)
class DANCE(FeatureMatchingFields, EngineMethod[MatchingState]):
    """Match means in networks between untrained and trained, and calibrate the classes."""

    info: ClassVar[MethodInfo] = MethodInfo(
        draws_by_class=True,
        title="Dual-View Distribution Alignment for Dataset Condensation", paper="arXiv:2406.01063", year=2024,
        family="distribution", kinds=("*",), training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
        class_independence="deletion",
        use_when="Take it where you have GPU hours and can train its networks long: matching between start and end "
        "of training is its point.",
        avoid_when="Avoid its quick preset: after a few epochs it was below dm, and over fields it broke down.",
        related=("ncfm", "dm", "idm"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 300, "steps_per_network": 8, "pretrained_networks": 2, "pretrain_epochs": 5},
        "good": {"iterations": 4_000, "steps_per_network": 8, "pretrained_networks": 5, "pretrain_epochs": 20},
    }

    iterations: int = 10_000
    """Steps (arguments/reproduce_condense.py, niter)."""
    lr: float = 0.01
    """Learning rate for one stored item per class; it grows with them (lr_img = 0.01 × ipc there)."""
    momentum: UnitFloat = 0.5
    """Momentum (arg_condense.py, --mom_img)."""
    batch_real: int = 128
    """Real samples per class and step (--batch_real)."""
    pretrained_networks: int = 5
    """Pretrained networks (arg_condense.py, --num_premodel: the README's commands train 20, and match in
    the first five)."""
    pretrain_epochs: NonNegativeInt = 60
    """Training epochs of each (reproduce_pretrain.py; 80 for ImageNet's subsets); 0 leaves them untrained."""
    pretrain_batch: int = 64
    """Batch size of that training (arg_pretrain.py, --batch_real)."""
    pretrain_schedule: Literal["steps", "cosine", "constant"] = "steps"
    """Its rate falls in steps (pretrain.py)."""
    pretrain_augment: str = "idc"
    """Per-sample augmentation of that training."""
    embedders: Literal["fresh", "trained", "between"] = "between"
    """Match between the beginning and the end, not at the end."""
    calibration: float = 1.0
    """Weight of the calibration step; 0 leaves it out."""
    updates: Literal["all", "class"] = "all"
    """One step for all classes, or one per class, as published; the same with SGD."""
    augment: str = "idc"
    """Siamese augmentation: color, crop and cutout (reproduce_condense.py, aug_type)."""
    parametrization: str = "tiles"
    """Stored and optimised representation (--factor 2)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        payload = ParamGroup(lr=self.lr * problem.ipc, momentum=self.momentum)
        return match_in_trained_networks(
            self, problem, MEANS, payload=payload, calibration=self.calibration, updates=self.updates
        )
