"""Contracts that every layer above shares, and the registry of parts by name.

Names are imported at first use, so that the registry is read without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill.core.assets import Asset, AssetContext, AssetJob
    from potstill.core.bounds import Bounds, NonNegativeInt, PositiveFloat, UnitFloat
    from potstill.core.data import (
        Batch,
        DecodeContext,
        Inputs,
        InputSpec,
        Metrics,
        Normalization,
        Payload,
        Release,
        SampleSum,
        SeriesData,
        Source,
        Space,
        Splits,
        Whitening,
    )  # fmt: skip
    from potstill.core.method import (
        ClassShardable,
        Family,
        Method,
        MethodInfo,
        Preset,
        Presets,
        ReadsOtherData,
        Result,
        ScoringMethod,
        Selection,
        StepCost,
        Synthetic,
        label_mode,
    )  # fmt: skip
    from potstill.core.parts import (
        Augmentation,
        Codec,
        ContextCodec,
        Encoded,
        GeometricAugmentation,
        Layered,
        Network,
        NetworkFactory,
        NetworkWeights,
        Regularizer,
        TargetMovingAugmentation,
    )  # fmt: skip
    from potstill.core.problem import (
        BindsToData,
        Budget,
        ClassSeparable,
        FixedSpace,
        FollowsUpdates,
        Parametrization,
        PlannedPayload,
        Problem,
        ReplacesPayload,
        RequiresAssets,
        Resamplable,
        SetsLearningRate,
        StartsFromAssets,
        TargetDecoder,
    )  # fmt: skip
    from potstill.tasks import Metric, Task

__all__ = [
    "Asset", "AssetContext", "AssetJob", "Augmentation", "Batch", "BindsToData", "Bounds", "Budget", "ClassSeparable",
    "ClassShardable", "Codec", "ContextCodec", "DecodeContext", "Encoded", "Family", "FixedSpace", "FollowsUpdates",
    "GeometricAugmentation", "InputSpec", "Inputs", "Layered", "Method", "MethodInfo", "Metric", "Metrics", "Network",
    "NetworkFactory", "NetworkWeights", "NonNegativeInt", "Normalization", "Parametrization", "Payload",
    "PlannedPayload", "PositiveFloat", "Preset", "Presets", "Problem", "ReadsOtherData", "Regularizer", "Release",
    "ReplacesPayload", "RequiresAssets", "Resamplable", "Result", "SampleSum", "ScoringMethod", "Selection",
    "SeriesData", "SetsLearningRate", "Source", "Space", "Splits", "StartsFromAssets", "StepCost", "Synthetic",
    "TargetDecoder", "TargetMovingAugmentation", "Task", "UnitFloat", "Whitening", "label_mode",
]  # fmt: skip

_MODULES = ("core.bounds", "core.data", "core.parts", "core.assets", "core.problem", "core.method", "tasks")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            if name in (found := importlib.import_module(f"potstill.{module}")).__all__:
                globals()[name] = getattr(found, name)
                return globals()[name]
    raise AttributeError(f"module 'potstill.core' has no attribute {name!r}")
