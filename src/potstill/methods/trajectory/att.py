r"""ATT: Automatic Training Trajectories (Liu et al., ECCV 2024): compare the student where it comes nearest.

.. math:: L = \frac{\lVert \theta_{j} - \theta^* \rVert^2}{\lVert \theta_0 - \theta^* \rVert^2}, \qquad
    j = \arg\min_{1 \le i \le N} \lVert \theta_i - \theta^* \rVert_1

Otherwise it is MTT. What the student does after step j has no part in the loss. As in the program, experts train in
batches of 512 (buffer_ATT.py) and the set is a moving average, which it tests beside the last one: here it is the
result.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem, UnitFloat
from potstill.methods.engine import AUTO, Auto, EngineMethod, MatchingEngine, MatchingState
from potstill.methods.trajectory._parts import LastStep, NearestStep, TrajectoryParts
from potstill.methods.trajectory._published import ATT as RUNS
from potstill.methods.trajectory._values import GOOD, QUICK, Published, TrajectoryFields, build_trajectory_engine

__all__ = ["ATT"]


@dataclass(frozen=True, kw_only=True)
class ATT(TrajectoryFields, EngineMethod[MatchingState]):
    """Train students along experts' trajectories, and compare them where they come nearest."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Distillation by Automatic Training Trajectories", paper="arXiv:2407.14245", year=2024,
        family="trajectory", kinds=("*",), training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
        use_when="Take it in place of mtt where the number of student steps is hard to choose: it finds the nearest "
        "one itself.",
        avoid_when="Avoid it where every step of a student must count, and for minutes on a processor, where experts "
        "eat the time.",
        related=("mtt", "ftd", "datm"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {**QUICK, "expert_batch": 256, "ema_decay": 0.0},
        "good": {**GOOD, "expert_batch": 256, "ema_decay": 0.0},
    }  # fmt: skip
    published: ClassVar[Published] = RUNS

    iterations: Auto[int] = AUTO
    """Steps, 3,000 to 1,000,000 by run (README, --Iteration)."""
    ema_decay: Auto[UnitFloat] = AUTO
    """Decay of the moving average that is the result (README, --ema_decay); 0: the result is the last state."""
    expert_batch: int = 512
    """Batch of the experts' training (buffer_ATT.py, --batch_train)."""
    match_nearest: bool = True
    """Compare the student's step that comes nearest to the target; otherwise its last."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        stop_rule = NearestStep() if self.match_nearest else LastStep()
        return build_trajectory_engine(self, problem, TrajectoryParts(ema_decay=self.ema_decay, stop_rule=stop_rule))
