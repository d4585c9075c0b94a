"""YAML from untrusted files: no aliases, no duplicate keys, limited size and depth."""

from pathlib import Path
from typing import Any

import yaml

from potstill._util.input_limits import check_limit, limit_hint, limits
from potstill.errors import PotstillError

__all__ = ["read_yaml"]


class _Plain(yaml.SafeLoader):
    """YAML loader without aliases (ten lines of them can expand to billions) and without duplicate keys."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.depth > limits().yaml_depth:
            raise ValueError(f"{self.depth:,} levels or more; {limit_hint('yaml_depth')}")
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="an alias (*name), which is not read", problem_mark=mark)
        self.depth += 1
        made = super().compose_node(parent, index)
        self.depth -= 1
        return made

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value[:40]!r} stands there twice; keep one", problem_mark=key.start_mark
                )
            keys.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, what: str, hint: str) -> Any:
    """Return the content of a YAML file.

    Args:
        what: content in words, such as "the recipe".
        hint: what to do, such as "write one 'option: value' a line".

    Raises:
        PotstillError: it cannot be read, is beyond a limit, or is not plain YAML.
    """
    try:
        check_limit("yaml_bytes", path.stat().st_size, f"{path}: cannot read {what}")
        return yaml.load(path.read_text(encoding="utf-8"), _Plain)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PotstillError(f"{path}: cannot read {what} ({reason}); {hint}") from error
    except (RecursionError, ValueError) as error:  # no end of brackets; a date or number that there is not
        text = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise PotstillError(f"{path}: cannot read {what} ({text}); {hint}") from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        detail = f" ({problem})" if problem and ("alias" in problem or "twice" in problem) else ""
        raise PotstillError(f"{path}: not YAML{where}{detail}; {hint}") from error
