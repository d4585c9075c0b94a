r"""SRe2L++: SRe2L that begins with real mosaics (the baseline of Cui et al., CV-DD, arXiv:2501.07575).

.. math::
    X_0 = \text{mosaics of realistic crops}, \qquad
    \min_X \; \ell(f_\theta(A(X)), y) + r \Big( 10\, R_0 + \sum_{l \ge 1} R_l \Big)

The objective is SRe2L's; only the beginning differs: mosaics as RDED makes them, of crops in the middle of the
teacher's ranking. Published labels are given with the batch statistics of crops: for a set's own labels
`potstill.methods.decoupled.cv_dd` has that as an option, for a protocol's ``teacher_statistics="batch"`` says it.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from potstill.core import MethodInfo, Presets, Problem
from potstill.methods.decoupled._recover import EngineMethod, Recovering, RecoverState, Recovery, Taught

__all__ = ["SRe2LPlus"]


@dataclass(frozen=True, kw_only=True)
class SRe2LPlus(Recovering, Taught, EngineMethod[RecoverState]):
    """SRe2L that begins with mosaics of real crops."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="SRe2L++, of Dataset Distillation via Committee Voting",
        paper="arXiv:2501.07575",
        year=2025,
        family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 300, "batch": 16, "temperature": 20},
    )
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "epochs_trained": 10, "iterations": 400},
        "good": {"epochs_trained": 20, "iterations": 500},
    }

    iterations: int = 4000
    """Steps of each batch (recover.py of CV-DD)."""
    lr: float = 0.25
    """Learning rate (there)."""
    r_bn: float = 0.01
    """Weight of the statistics (there)."""
    init_from: Literal["noise", "real", "mosaic"] = "mosaic"
    """Begin with mosaics."""
    start_rank: Literal["lowest", "medium"] = "medium"
    """Of crops in the middle of the ranking (there)."""

    def build_engine(self, problem: Problem) -> Recovery:
        return self.recovery(problem, self.labeller())
