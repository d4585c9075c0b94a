"""One function per command: call the API, and say what came of it as JSON and as text."""

from collections.abc import Callable

from potstill._util.progress import Watcher
from potstill.cli.parsing import Parsed
from potstill.cli.runners.completing import run_completion
from potstill.cli.runners.files import run_export, run_import, run_inspect, run_rebuild
from potstill.cli.runners.keeping import run_cache, run_verify
from potstill.cli.runners.listed import LISTINGS
from potstill.cli.runners.making import run_distill, run_plan
from potstill.cli.runners.measuring import run_compare, run_evaluate, run_label, run_report, run_scaling, run_view
from potstill.cli.runners.parts import Answer
from potstill.cli.runners.selecting import run_active, run_csod, run_score
from potstill.cli.runners.studying import run_study

__all__ = ["RUNNERS", "Answer"]

RUNNERS: dict[str, Callable[[Parsed, str, Watcher], Answer]] = {
    "distill": run_distill,
    "plan": run_plan,
    "evaluate": run_evaluate,
    "label": run_label,
    "score": run_score,
    "compare": run_compare,
    "scaling": run_scaling,
    "study": run_study,
    "active": run_active,
    "csod": run_csod,
    "report": run_report,
    "view": run_view,
    "inspect": run_inspect,
    "verify": run_verify,
    "export": run_export,
    "import": run_import,
    "rebuild": run_rebuild,
    **LISTINGS,
    "cache": run_cache,
    "completion": run_completion,
}
"""What each command does."""
