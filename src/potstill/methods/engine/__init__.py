"""Public engine of matching methods: parts to build a method from, and the loop that runs it.

A method is a frozen dataclass of its paper's values; `EngineMethod.build_engine` puts the parts together: an objective,
a source of networks, parameter groups, and the initial samples. A whole method that matches the mean embeddings of
classes in untrained networks::

    from dataclasses import dataclass
    from typing import ClassVar

    from potstill.core import MethodInfo
    from potstill.functional.param_groups import ParamGroup
    from potstill.methods.engine import (
        EngineMethod, FixedNetworks, LossObjective, MatchingEngine, MatchingState, default_param_groups,
    )

    def mean_gap(net, real, synthetic):
        (x, y), (s, t) = real, synthetic
        gaps = [net.embed(x[y == c]).mean(0) - net.embed(s[t == c]).mean(0) for c in t.unique()]
        return sum(gap.square().sum() for gap in gaps)

    @dataclass(frozen=True, kw_only=True)
    class MeanGap(EngineMethod[MatchingState]):
        'Match the mean embedding of every class.'

        info: ClassVar[MethodInfo] = MethodInfo(
            title="Mean gap", paper="this page", year=2026, family="distribution", kinds=("*",)
        )
        state_type: ClassVar[type] = MatchingState
        iterations: int = 100
        lr: float = 1.0

        def build_engine(self, problem):
            groups = default_param_groups(ParamGroup(lr=self.lr), lr_labels=0.0)
            return MatchingEngine(
                objective=LossObjective(loss=mean_gap, batch_real=32), networks=FixedNetworks(),
                param_groups=lambda state, last: groups, iterations=self.iterations, steps=self.iterations,
                initial="real", labels="hard",
            )

``MeanGap().fit(source, ipc=10)`` runs it in Python; ``potstill.distill(data, MeanGap(), ipc=10)`` also writes the file.
"""

from potstill.methods.engine.base import Engine, EngineMethod
from potstill.methods.engine.fit import build_problem, fit
from potstill.methods.engine.init import (
    Init,
    InitStrategy,
    central_samples,
    central_samples_of_class,
    hard_labels,
    has_classes,
    initial_inputs,
    initial_logits,
    initial_samples,
    overlay_initial,
    require_tensor,
)
from potstill.methods.engine.loss_objective import LabelledInputs, LossObjective
from potstill.methods.engine.matching import (
    MatchingEngine,
    apply_update,
    augment_function,
    decode_inputs,
    default_param_groups,
    idc_learning_rate,
    payload_bounds,
)
from potstill.methods.engine.networks import (
    EmbedderKind,
    FixedNetworks,
    get_trained_networks,
    load_network,
    new_pool_member,
)
from potstill.methods.engine.objective import (
    LOGITS,
    SCORES,
    TARGETS,
    JointObjective,
    Labels,
    LearnedTargets,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    Objective,
    ObjectiveInputs,
    PoolMember,
    ShardablePart,
    StaticNetworks,
    Update,
    inputs_of_view,
    named_inputs,
)
from potstill.methods.engine.published import (
    AUTO,
    Auto,
    PublishedRun,
    Settings,
    SettingsBySize,
    nearest_settings,
    teacher_factory,
    usable_networks,
)
from potstill.methods.engine.regularized import (
    Regularized,
    SupportsRegularizer,
    TrainedBlock,
    UnsuitedPart,
    regularizer_obstacle,
)
from potstill.methods.engine.unrolling import (
    choose_mode_by_memory,
    differentiate_student,
    gradient_mode,
    objective_mode,
)

__all__ = [
    "AUTO", "LOGITS", "SCORES", "TARGETS", "Auto", "EmbedderKind", "Engine", "EngineMethod", "FixedNetworks",
    "Init", "InitStrategy", "JointObjective", "LabelledInputs", "Labels", "LearnedTargets", "LossAndGrads",
    "LossObjective", "MatchingEngine", "MatchingState", "NetworkSource", "Objective", "ObjectiveInputs",
    "PoolMember", "PublishedRun", "Regularized", "Settings", "SettingsBySize", "ShardablePart", "StaticNetworks",
    "SupportsRegularizer", "TrainedBlock", "UnsuitedPart", "Update", "apply_update", "augment_function",
    "build_problem", "central_samples", "central_samples_of_class", "choose_mode_by_memory", "decode_inputs",
    "default_param_groups", "differentiate_student", "fit", "get_trained_networks", "gradient_mode", "hard_labels",
    "has_classes", "idc_learning_rate", "initial_inputs", "initial_logits", "initial_samples", "inputs_of_view",
    "load_network", "named_inputs", "nearest_settings", "new_pool_member", "objective_mode", "overlay_initial",
    "payload_bounds", "regularizer_obstacle", "require_tensor", "teacher_factory", "usable_networks",
]  # fmt: skip
