"""Learning tasks: one file each. Sources without a task have classes.

A task is a frozen dataclass of JSON values, so that metadata can hold it, registered by name in the group ``tasks``.
"""

import importlib
from typing import TYPE_CHECKING, Any

from potstill.tasks.metric import Metric

if TYPE_CHECKING:
    from potstill.tasks.box_precision import average_precision, box_overlaps
    from potstill.tasks.classification import Classification
    from potstill.tasks.detection import ObjectDetection, count_boxes
    from potstill.tasks.forecast import Forecast
    from potstill.tasks.geometry import (
        GEOMETRIC,
        InvariantTargets,
        MovableTargets,
        Movement,
        PartlyMovableTargets,
        invariant_operations,
        move_boxes,
        move_maps,
    )
    from potstill.tasks.multi_label import MultiLabel
    from potstill.tasks.pixel_regression import PixelRegression
    from potstill.tasks.ragged import (
        RaggedTask,
        concat_targets,
        is_ragged,
        join_targets,
        list_targets,
        pad_targets,
        split_targets,
        target_mask,
    )
    from potstill.tasks.recommendation import Recommendation
    from potstill.tasks.regression import Regression
    from potstill.tasks.retrieval import Retrieval
    from potstill.tasks.segmentation import IGNORED, Segmentation
    from potstill.tasks.survival import Survival
    from potstill.tasks.task import (
        CheckedTargets,
        CoarseMapTask,
        FittableTask,
        MultiMetricTask,
        PackedTargets,
        PixelTask,
        Task,
        get_targets,
        get_task,
        is_coarse,
    )

__all__ = [
    "GEOMETRIC", "IGNORED", "CheckedTargets", "Classification", "CoarseMapTask", "FittableTask", "Forecast",
    "InvariantTargets", "Metric", "MovableTargets", "Movement", "MultiLabel", "MultiMetricTask", "ObjectDetection",
    "PackedTargets", "PartlyMovableTargets", "PixelRegression", "PixelTask", "RaggedTask", "Recommendation",
    "Regression", "Retrieval", "Segmentation", "Survival", "Task", "average_precision", "box_overlaps",
    "concat_targets", "count_boxes", "get_targets", "get_task", "invariant_operations", "is_coarse", "is_ragged",
    "join_targets", "list_targets", "move_boxes", "move_maps", "pad_targets", "split_targets", "target_mask",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the module of a name when it is used first: pages need `Metric` without torch."""
    if name in __all__:
        modules = (
            "box_precision", "classification", "detection", "forecast", "geometry", "multi_label", "pixel_regression",
            "ragged",
            "recommendation", "regression",
            "retrieval", "segmentation", "survival", "task",
        )  # fmt: skip
        for module in modules:
            found = importlib.import_module(f"potstill.tasks.{module}")
            if name in found.__all__:
                return getattr(found, name)
    raise AttributeError(f"module 'potstill.tasks' has no attribute {name!r}")
