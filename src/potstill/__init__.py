"""Potstill: turn a large training set into a small one that trains models nearly as well, and say honestly how well."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill._util.input_limits import limited
    from potstill.api.compare import compare
    from potstill.api.diagnose import diagnose
    from potstill.api.distill import distill, run
    from potstill.api.evaluate import evaluate
    from potstill.api.export import export, materialize
    from potstill.api.label import label
    from potstill.api.report import report
    from potstill.api.scaling import scaling
    from potstill.api.score import score
    from potstill.api.sign import sign
    from potstill.api.verify import verify
    from potstill.core import Budget, Splits
    from potstill.data import TensorSource, holdout
    from potstill.dataset_file import Distilled, concat, inspect, load, resample
    from potstill.dataset_file.scores import Scores
    from potstill.errors import PotstillError, PotstillWarning
    from potstill.evaluation import Protocol, Scorecard
    from potstill.interop.import_set import import_set
    from potstill.planning.plan import Plan, plan
    from potstill.runs.load_data import load_data
    from potstill.runs.loop import Interrupted, Progress
    from potstill.runs.spec import RunIO, RunLimits, RunSpec

__version__ = "0.1.0"

_HOMES = {
    "Budget": "potstill.core",
    "Distilled": "potstill.dataset_file",
    "Interrupted": "potstill.runs.loop",
    "PotstillError": "potstill.errors",
    "PotstillWarning": "potstill.errors",
    "Plan": "potstill.planning.plan",
    "Progress": "potstill.runs.loop",
    "Protocol": "potstill.evaluation",
    "RunIO": "potstill.runs.spec",
    "RunLimits": "potstill.runs.spec",
    "RunSpec": "potstill.runs.spec",
    "Scorecard": "potstill.evaluation",
    "Scores": "potstill.dataset_file.scores",
    "Splits": "potstill.core",
    "TensorSource": "potstill.data",
    "compare": "potstill.api.compare",
    "concat": "potstill.dataset_file",
    "diagnose": "potstill.api.diagnose",
    "distill": "potstill.api.distill",
    "evaluate": "potstill.api.evaluate",
    "export": "potstill.api.export",
    "holdout": "potstill.data",
    "import_set": "potstill.interop.import_set",
    "inspect": "potstill.dataset_file",
    "label": "potstill.api.label",
    "limited": "potstill._util.input_limits",
    "load": "potstill.dataset_file",
    "load_data": "potstill.runs.load_data",
    "materialize": "potstill.api.export",
    "plan": "potstill.planning.plan",
    "report": "potstill.api.report",
    "resample": "potstill.dataset_file",
    "run": "potstill.api.distill",
    "scaling": "potstill.api.scaling",
    "score": "potstill.api.score",
    "sign": "potstill.api.sign",
    "verify": "potstill.api.verify",
}

__all__ = [
    "Budget",
    "Distilled",
    "Interrupted",
    "Plan",
    "PotstillError",
    "PotstillWarning",
    "Progress",
    "Protocol",
    "RunIO",
    "RunLimits",
    "RunSpec",
    "Scorecard",
    "Scores",
    "Splits",
    "TensorSource",
    "compare",
    "concat",
    "diagnose",
    "distill",
    "evaluate",
    "export",
    "holdout",
    "import_set",
    "inspect",
    "label",
    "limited",
    "load",
    "load_data",
    "materialize",
    "plan",
    "report",
    "resample",
    "run",
    "scaling",
    "score",
    "sign",
    "verify",
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
