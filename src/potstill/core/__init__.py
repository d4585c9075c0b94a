"""The contracts that every layer above shares, the registry of parts by name, and nested inputs.

Names are imported when first asked for: the registry is read without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill.core.contracts import (
        Asset,
        AssetJob,
        Augmentation,
        Batch,
        Budget,
        Divisible,
        Effort,
        Efforts,
        Family,
        Geometric,
        Ground,
        Inputs,
        InputSpec,
        Layered,
        Method,
        MethodInfo,
        Metric,
        Metrics,
        Moving,
        Needs,
        Network,
        NetworkFactory,
        Normalization,
        Parametrization,
        Part,
        Payload,
        PerClass,
        Problem,
        Result,
        Scored,
        Selection,
        Source,
        Space,
        Splits,
        Store,
        Stored,
        Synthetic,
        Task,
        Trained,
        Whitening,
        labels_asked,
    )

__all__ = [
    "Asset",
    "AssetJob",
    "Augmentation",
    "Batch",
    "Budget",
    "Divisible",
    "Effort",
    "Efforts",
    "Family",
    "Geometric",
    "Ground",
    "InputSpec",
    "Inputs",
    "Layered",
    "Method",
    "MethodInfo",
    "Metric",
    "Metrics",
    "Moving",
    "Needs",
    "Network",
    "NetworkFactory",
    "Normalization",
    "Parametrization",
    "Part",
    "Payload",
    "PerClass",
    "Problem",
    "Result",
    "Scored",
    "Selection",
    "Source",
    "Space",
    "Splits",
    "Store",
    "Stored",
    "Synthetic",
    "Task",
    "Trained",
    "Whitening",
    "labels_asked",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'potstill.core' has no attribute {name!r}")
    globals()[name] = getattr(importlib.import_module("potstill.core.contracts"), name)
    return globals()[name]
