"""The contracts that every layer above shares, the registry of parts by name, and nested inputs.

Names are imported when first asked for: the registry is read without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill.core.contracts import (
        Asset,
        AssetContext,
        AssetJob,
        Augmentation,
        Batch,
        Budget,
        ClassSeparable,
        ClassShardable,
        Codec,
        Encoded,
        Family,
        GeometricAugmentation,
        Inputs,
        InputSpec,
        Layered,
        Method,
        MethodInfo,
        Metric,
        Metrics,
        Network,
        NetworkFactory,
        NetworkWeights,
        Normalization,
        Parametrization,
        Payload,
        Preset,
        Presets,
        Problem,
        RequiresAssets,
        Result,
        ScoringMethod,
        Selection,
        Source,
        Space,
        Splits,
        StepCost,
        Synthetic,
        TargetMovingAugmentation,
        Task,
        Whitening,
        label_mode,
    )

__all__ = [
    "Asset",
    "AssetContext",
    "AssetJob",
    "Augmentation",
    "Batch",
    "Budget",
    "ClassSeparable",
    "ClassShardable",
    "Codec",
    "Encoded",
    "Family",
    "GeometricAugmentation",
    "InputSpec",
    "Inputs",
    "Layered",
    "Method",
    "MethodInfo",
    "Metric",
    "Metrics",
    "Network",
    "NetworkFactory",
    "NetworkWeights",
    "Normalization",
    "Parametrization",
    "Payload",
    "Preset",
    "Presets",
    "Problem",
    "RequiresAssets",
    "Result",
    "ScoringMethod",
    "Selection",
    "Source",
    "Space",
    "Splits",
    "StepCost",
    "Synthetic",
    "TargetMovingAugmentation",
    "Task",
    "Whitening",
    "label_mode",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'potstill.core' has no attribute {name!r}")
    globals()[name] = getattr(importlib.import_module("potstill.core.contracts"), name)
    return globals()[name]
