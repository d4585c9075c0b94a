"""Potstill: turn a large training set into a small one that trains models nearly as well, and say honestly how well."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill.core import Budget, Splits
    from potstill.data import TensorSource
    from potstill.driver import Interrupted, Progress
    from potstill.errors import PotstillError
    from potstill.evaluation import Protocol, Scorecard
    from potstill.storage import Distilled, inspect, load
    from potstill.verbs.compare import compare
    from potstill.verbs.distill import distill
    from potstill.verbs.evaluate import evaluate
    from potstill.verbs.export import export, rebuild
    from potstill.verbs.importing import import_set
    from potstill.verbs.label import label
    from potstill.verbs.load import load_data
    from potstill.verbs.plan import plan
    from potstill.verbs.report import report
    from potstill.verbs.scaling import scaling
    from potstill.verbs.score import score
    from potstill.verbs.study import study

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
    "compare": "potstill.verbs.compare",
    "distill": "potstill.verbs.distill",
    "evaluate": "potstill.verbs.evaluate",
    "export": "potstill.verbs.export",
    "import_set": "potstill.verbs.importing",
    "inspect": "potstill.storage",
    "label": "potstill.verbs.label",
    "load": "potstill.storage",
    "load_data": "potstill.verbs.load",
    "plan": "potstill.verbs.plan",
    "rebuild": "potstill.verbs.export",
    "report": "potstill.verbs.report",
    "scaling": "potstill.verbs.scaling",
    "score": "potstill.verbs.score",
    "study": "potstill.verbs.study",
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
    "import_set",
    "inspect",
    "label",
    "load",
    "load_data",
    "plan",
    "rebuild",
    "report",
    "scaling",
    "score",
    "study",
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
