"""Strict reading of JSON from strangers."""

import json
from typing import Any

from potstill._util.input_limits import limit_hint, limits

__all__ = ["parse_json"]


def parse_json(text: str | bytes) -> Any:
    """Parse strict JSON: no NaN, no name twice, limited nesting, no whole number beyond a float.

    Raises:
        ValueError: the text is not such JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON number")

    def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a name occurs twice")
        return dict(pairs)

    def parse_int(digits: str) -> int:
        if len(digits) > limits().json_digits:  # beyond a float: printing or comparing it would fail
            raise ValueError(f"a whole number of {len(digits):,} digits; {limit_hint('json_digits')}")
        return int(digits)

    try:
        parsed = json.loads(text, parse_constant=refuse, parse_int=parse_int, object_pairs_hook=to_dict)
    except RecursionError as error:
        raise ValueError(f"nested too deeply; {limit_hint('json_depth')}") from error
    level, depth = [parsed], 0
    while level := [
        inner
        for outer in level
        if isinstance(outer, dict | list)
        for inner in (outer.values() if isinstance(outer, dict) else outer)
    ]:
        if (depth := depth + 1) > limits().json_depth:
            raise ValueError(f"nested {depth:,} levels deep or more; {limit_hint('json_depth')}")
    return parsed
