"""Potstill: turn a large training set into a small one that trains models nearly as well, and say honestly how well."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill.api import distill, evaluate, load_data, report
    from potstill.comparison import compare
    from potstill.core import Budget, Splits
    from potstill.data import TensorSource
    from potstill.driver import Interrupted, Progress
    from potstill.errors import PotstillError
    from potstill.evaluation import Protocol, Scorecard
    from potstill.knowledge import scaling
    from potstill.labelling import label
    from potstill.planning import plan
    from potstill.scoring import score
    from potstill.selections import export, rebuild
    from potstill.storage import Distilled, inspect, load

__version__ = "0.1.0"

_HOMES = {
    "Budget": "potstill.core",
    "Distilled": "potstill.storage",
    "Interrupted": "potstill.driver",
    "PotstillError": "potstill.errors",
    "Progress": "potstill.driver",
    "Protocol": "potstill.evaluation",
    "Scorecard": "potstill.evaluation",
    "Splits": "potstill.core",
    "TensorSource": "potstill.data",
    "compare": "potstill.comparison",
    "distill": "potstill.api",
    "evaluate": "potstill.api",
    "export": "potstill.selections",
    "inspect": "potstill.storage",
    "label": "potstill.labelling",
    "load": "potstill.storage",
    "load_data": "potstill.api",
    "plan": "potstill.planning",
    "rebuild": "potstill.selections",
    "report": "potstill.api",
    "scaling": "potstill.knowledge",
    "score": "potstill.scoring",
}

__all__ = [
    "Budget",
    "Distilled",
    "Interrupted",
    "PotstillError",
    "Progress",
    "Protocol",
    "Scorecard",
    "Splits",
    "TensorSource",
    "compare",
    "distill",
    "evaluate",
    "export",
    "inspect",
    "label",
    "load",
    "load_data",
    "plan",
    "rebuild",
    "report",
    "scaling",
    "score",
]


def __getattr__(name: str) -> Any:
    # Imported when first asked for: torch takes seconds to start, and ``potstill --help`` does not need it.
    if name not in _HOMES:
        raise AttributeError(f"module 'potstill' has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    globals()[name] = getattr(home, name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(__all__)
