r"""DATM: Difficulty-Aligned Trajectory Matching (Guo et al., ICLR 2024): later trajectories for larger sets.

.. math:: t \sim U\{t_{\min}, \dots, u_k - 1\}, \qquad u_k = u_0 + (u_{\text{end}} - u_0)\, k / K, \qquad
    y = \mathrm{softmax}\Big(\tfrac{1}{|E_x|} \sum_{e \in E_x} f_e(x)\Big) \text{ at first, then learned}

A student's stretch begins at an epoch from a range that depends on the size of the set and whose end grows over K
steps. Sets begin as real samples that experts classify rightly, with labels from E_x, the experts that do (from all,
where none does: there the released program divides 0 by 0). A step whose loss is above a threshold is skipped. Experts
are FTD's, of 100 epochs. Data are whitened (``--zca mtt``).
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import Efforts, MethodInfo, Problem
from potstill.methods._engine import Engineered
from potstill.methods._matching import Labels, Matching, MatchState
from potstill.methods._published import BY_DATA, ByData
from potstill.methods.trajectory._values import Published, Started, TrajectoryValues, following

__all__ = ["DATM", "RUNS"]

_LARGE = {"lr": 50.0, "lr_labels": 10.0, "start_from": 40, "start_until": 60, "batch": 1000, "lr_rate": 1e-5}
_HUNDRED = {"lr": 1000.0, "lr_labels": 10.0, "lr_rate": 1e-5}
_TINY = {"lr_labels": 10.0, "lr_rate": 1e-4}
_ALL = {"ahead": 2, "threshold": 1.0, "lr_student": 0.01}

RUNS: Published = {
    (10, 1): {
        **_ALL, "student_steps": 80, "lr": 100.0, "lr_labels": 5.0, "threshold": 1.1, "start_until": 4, "lr_rate": 1e-7,
    },
    (10, 10): {
        **_ALL, "student_steps": 80, "lr": 100.0, "lr_labels": 2.0, "start_first": 10, "start_until": 20,
        "expansion": 1000, "lr_rate": 1e-5,
    },
    (10, 50): {
        **_ALL, "student_steps": 80, "lr": 1000.0, "lr_labels": 2.0, "start_first": 20, "start_until": 40,
        "expansion": 2000, "lr_rate": 1e-5,
    },
    (10, 500): {**_ALL, "student_steps": 40, **_LARGE},
    (10, 1000): {**_ALL, "student_steps": 100, **_LARGE},
    (100, 1): {
        **_ALL, "student_steps": 40, "ahead": 3, "start_first": 10, "start_until": 20, "expansion": 1000, **_HUNDRED,
    },
    (100, 10): {
        **_ALL, "student_steps": 80, "start_first": 30, "start_until": 50, "expansion": 2000, "batch": 1000, **_HUNDRED,
    },
    (100, 50): {**_ALL, "student_steps": 80, "start_from": 20, "start_until": 70, "batch": 1000, **_HUNDRED},
    (100, 100): {
        **_ALL, "student_steps": 80, "start_from": 30, "start_until": 70, "batch": 1000, **_HUNDRED, "lr": 50.0,
    },
    (200, 1): {
        **_ALL, "student_steps": 40, "lr": 1e4, "start_first": 15, "start_until": 20, "expansion": 1000, **_TINY,
    },
    (200, 10): {**_ALL, "student_steps": 40, "lr": 100.0, "start_from": 10, "start_until": 50, "batch": 500, **_TINY},
    (200, 50): {**_ALL, "student_steps": 20, "lr": 100.0, "start_from": 40, "start_until": 70, "batch": 1000, **_TINY},
}  # fmt: skip
"""The repository's configs: CIFAR-10, CIFAR-100 and Tiny-ImageNet. Where one says no value here, its neighbour's."""


@dataclass(frozen=True, kw_only=True)
class DATM(TrajectoryValues, Engineered[MatchState]):
    """Walk students along stretches that are as hard as the set is large, with learned labels."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching",
        paper="arXiv:2310.05773",
        year=2024,
        family="trajectory",
        kinds=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
    )
    efforts: ClassVar[Efforts] = {
        "quick": {
            "networks_trained": 3,
            "epochs_trained": 8,
            "iterations": 150,
            "lr": 1000.0,
            "lr_rate": 1e-5,
            "student_steps": 15,
            "expansion": 50,
        },
        "good": {"networks_trained": 10, "epochs_trained": 40, "iterations": 1000, "expansion": 300},
    }
    published: ClassVar[Published] = RUNS

    iterations: int = 10_000
    """Steps (configs, Iteration)."""
    threshold: ByData[float] = BY_DATA
    """Steps with a larger loss are skipped (configs, threshold); 0: none."""
    labels: Labels = "learned"
    """Labels are learned; they begin as the mean logits of the experts that are right."""
    start: Started = "right"
    """Start from samples that experts classify rightly (configs, pix_init)."""
    flat: bool = True
    """Train experts towards flat minima (buffer_FTD.py)."""
    epochs_trained: int = 100
    """Epochs of each expert."""

    def engine(self, problem: Problem) -> Matching:
        return following(self, problem)
