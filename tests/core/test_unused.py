"""Nothing stands in the library for tests alone."""

import ast
import re
from pathlib import Path

import potstill

ROOT = Path(__file__).resolve().parents[2]
FOR_OTHERS = ("integrations", "testing")
"""Packages whose public names are for people."""
OF_TASKS = ("tasks/geometry.py: move_boxes",)
"""What a task from outside names: none of this package's has boxes."""
PUBLIC = (
    "evaluation/sequence_captions.py: score_sequence_captions",
    "execution/ranks.py: run_on_ranks",
    "methods/engine/loss_objective.py: LossObjective",
    "uses/augmentation/adapt.py: AdaptedAugmentation",
    "uses/augmentation/adapt.py: as_upstream",
    "uses/search/studies.py: optuna_objective",
    "uses/search/validation_set/pair.py: calibrate",
    "uses/search/studies.py: ray_trainable",
)  # fmt: skip
"""For people: scores of captions (docs/guides/image-text.md), work on ranks that Ray Train starts, an objective from a
loss, a study of Optuna and a trial of Ray Tune (docs/guides/search.md), an adapted augmentation, and one of Potstill as
an upstream one (docs/guides/augmentation.md), a learned validation set (docs/guides/validation-set.md)."""
COMPUTED = ("api/listing.py: list_",)
"""Read by a name that is put together: ``potstill networks`` asks for ``list_networks``."""


def _loaded(tree: ast.Module, imports: bool) -> set[str]:
    """Names that a file reads; those that a package's ``__init__`` only hands on are not read by it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif imports and isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
    return found


def unused(sources: dict[str, str], others: dict[str, str]) -> list[str]:
    """Functions, classes and constants at the top of a file that no file reads and no string ``module:name`` names."""
    trees = {path: ast.parse(text) for path, text in sources.items()}
    read = {name for path, tree in trees.items() for name in _loaded(tree, not path.endswith("__init__.py"))}
    read |= {name for text in others.values() for name in _loaded(ast.parse(text), True)}
    for text in sources.values():
        read |= set(re.findall(r'[a-z_.]+:(\w+)"', text))  # what a registry names
        read |= set(re.findall(r"potstill[\w.]* import (\w+)", text))  # what a program handed to a new process imports
    found = []
    for path, tree in trees.items():
        for node in tree.body:
            named = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            if isinstance(node, ast.Assign):
                named = [target.id for target in node.targets if isinstance(target, ast.Name)]
            found += [f"{path}: {n}" for n in named if n not in read and not n.startswith("__")]
    return sorted(found)


def test_what_nobody_reads_is_found() -> None:
    text = (
        "def used(): ...\ndef alone(): return used()\nclass Named: ...\nLONE = 1\nHOME = {'a': \"b.c:Named\"}\nHOME\n"
    )
    assert unused({"a.py": text, "__init__.py": "from a import alone"}, {}) == ["a.py: LONE", "a.py: alone"]
    assert unused({"a.py": text}, {"b.py": "from a import LONE, alone"}) == []


def test_every_function_class_and_constant_is_read_by_something_beside_tests() -> None:
    own = {str(p.relative_to(ROOT)): p.read_text() for p in (ROOT / "src" / "potstill").rglob("*.py")}
    measuring = {str(p): p.read_text() for p in (ROOT / "benchmarks").rglob("*.py")}
    public = tuple(f": {name}" for name in potstill.__all__)
    left = [
        name for name in unused(own, measuring)
        if not name.endswith(public) and name.split("/")[2] not in FOR_OTHERS
        and not any(c in name for c in (*PUBLIC, *COMPUTED, *OF_TASKS))
    ]  # fmt: skip
    assert left == []
