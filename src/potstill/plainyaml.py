"""YAML from people and strangers: plain entries, no aliases, no key twice, a megabyte at most."""

from pathlib import Path
from typing import Any

import yaml

from potstill.errors import PotstillError

__all__ = ["MAX_BYTES", "read_yaml"]

MAX_BYTES = 2**20
"""What a person writes is kilobytes."""


class _Plain(yaml.SafeLoader):
    """Ten lines of aliases of aliases are a list of billions; and of two entries of one name YAML keeps the last."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="an alias (*name), which is not read", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value[:40]!r} stands there twice; keep one", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, what: str, hint: str) -> Any:
    """What the file holds.

    Args:
        what: what it should be, such as "the recipe".
        hint: what to do about it, such as "write one 'option: value' a line".

    Raises:
        PotstillError: it cannot be read, has over a megabyte, or is not plain YAML.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PotstillError(f"{path}: cannot read {what} (over a megabyte, where kilobytes are expected); {hint}")
        return yaml.load(path.read_text(encoding="utf-8"), _Plain)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PotstillError(f"{path}: cannot read {what} ({reason}); {hint}") from error
    except (RecursionError, ValueError) as error:  # no end of brackets; a date or number that there is not
        said = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise PotstillError(f"{path}: cannot read {what} ({said}); {hint}") from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        ours = f" ({problem})" if problem and ("alias" in problem or "twice" in problem) else ""
        raise PotstillError(f"{path}: not YAML{where}{ours}; {hint}") from error
