"""Read the strings below the fields of a dataclass, which Python itself does not keep."""

import dataclasses
import functools
import inspect
import re

__all__ = ["field_docs"]


def field_docs(kind: type) -> dict[str, str]:
    """Return the string below each field of a dataclass; of an inherited field, that of the class it is from."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            docs |= _docs_in(base)
    return docs


@functools.cache
def _docs_in(kind: type) -> dict[str, str]:
    """Return the strings in the source of a class, which takes milliseconds to read."""
    source = kind.__dict__.get("__source__") or inspect.getsource(kind)
    field = r"^    (\w+): [^\n]+\n(?:(?:        [^\n]*\n)+    [\])][^\n]*\n)?"  # an annotation may take several lines
    texts = re.findall(field + r'    """(.*?)"""', source, flags=re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()) for name, text in texts}
