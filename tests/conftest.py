import importlib.util
import os
from collections import Counter
from pathlib import Path
from typing import Any

import jaxtyping
import pytest

from tests.rotating import describe_third

os.environ["POTSTILL_OUTSIDE"] = "0"  # what is tested is Potstill, whatever other packages add to it on this machine

FEW = 6
_made: Counter[tuple[str, str]] = Counter()
_jaxtyped = jaxtyping.jaxtyped


def _checked(function: Any = None, *, typechecker: Any) -> Any:
    """What the import hook decorates everything with, but of a function inside a function only the first few.

    Each call of the outer one makes another, and to decorate it takes longer than a step of a small network: it was
    half of the time of all tests that train.
    """
    if function is None:
        return lambda one: _checked(one, typechecker=typechecker)
    if "<locals>" in getattr(function, "__qualname__", ""):
        name = (function.__module__, function.__qualname__)
        _made[name] += 1
        if _made[name] > FEW:
            return function
    return _jaxtyped(function, typechecker=typechecker)


jaxtyping.jaxtyped = _checked


def _modules_with_shapes() -> list[str]:
    """Modules whose annotations name shapes. To check the calls of all others, whose types mypy checks, took a third of
    the time of all tests."""
    places = importlib.util.find_spec("potstill").submodule_search_locations  # type: ignore[union-attr]
    folder = Path(next(iter(places or [])))
    paths = [p.relative_to(folder.parent).with_suffix("") for p in sorted(folder.rglob("*.py")) if _has_shapes(p)]
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def _has_shapes(path: Path) -> bool:
    return "from jaxtyping import" in path.read_text(encoding="utf-8")


CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
jaxtyping.install_import_hook(_modules_with_shapes(), CHECKER)


def pytest_report_header(config: pytest.Config) -> str:
    """Which third of the notebooks is run, where others are left out."""
    if not config.option.markexpr:
        return ""
    return describe_third("notebooks", importlib.import_module("tools.docs.gallery").GALLERY)


SHORT = {"ROUNDS": (1, 2), "QUICK_ROUNDS": (1,), "SHARED_CODECS": 1}
TRIAL_STEPS = 4


@pytest.fixture(autouse=True)
def _short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codecs of baselines are tried by few students and shortly: how well is another test's business."""
    space = importlib.import_module("potstill.evaluation.real_set_space")
    for name, value in SHORT.items():
        monkeypatch.setattr(space, name, value)
    baselines = importlib.import_module("potstill.evaluation.byte_matched_baselines")
    monkeypatch.setattr(baselines, "TRIAL_STEPS", TRIAL_STEPS)
    for module in ("byte_matched_baselines", "evaluate"):
        monkeypatch.setattr(importlib.import_module(f"potstill.evaluation.{module}"), "TRIAL_PASSES", 0)
