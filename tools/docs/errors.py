"""List every error message of ``src`` with its file and line, by the part of the package that raises it.

    python -m tools.docs.errors [--json] [WORD ...]

Messages are read from the source: an f-string's values stand in braces, of a choice between two texts both stand with a
bar between them. WORD keeps messages or places that contain it.
"""

import argparse
import ast
import functools
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["ErrorMessage", "error_messages", "main", "message_text"]

ROOT = Path(__file__).resolve().parents[2]
_BASES = {"PotstillError", "Misuse", "PotstillWarning"}
_BUILT_IN = {"ValueError", "TypeError"}
"""Of the standard library's errors those whose text a user reads: values that an option or keyword cannot have."""


@dataclass(frozen=True)
class ErrorMessage:
    """Message of one ``raise`` or warning."""

    group: str
    """Folder of ``src/potstill`` that raises it."""
    place: str
    """``path:line``."""
    error: str
    """Name of the class."""
    text: str


@functools.cache
def error_messages(root: Path = ROOT) -> tuple[ErrorMessage, ...]:
    """Return the messages of all errors and warnings, by group and place."""
    trees = {path: ast.parse(path.read_text("utf-8")) for path in sorted((root / "src" / "potstill").rglob("*.py"))}
    classes = _error_classes(list(trees.values())) | _BUILT_IN
    found: list[ErrorMessage] = []
    for path, tree in trees.items():
        relative = path.relative_to(root / "src" / "potstill")
        found += [
            ErrorMessage(
                group=relative.parts[0].removesuffix(".py"),
                place=f"{path.relative_to(root).as_posix()}:{call.lineno}",
                error=ast.unparse(call.func),
                text=message_text(call if ast.unparse(call.func) == "unknown_name" else call.args[0]),
            )
            for call in _calls(tree, classes)
        ]
    return tuple(found)


def _error_classes(trees: list[ast.Module]) -> set[str]:
    """Return the names of `PotstillError`, of its subclasses and of what makes one."""
    names = set(_BASES)
    while True:
        new = {
            node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
            if any(isinstance(base, ast.Name) and base.id in names for base in node.bases)
        }  # fmt: skip
        if new <= names:
            return names | {"unknown_name"}
        names |= new


def _calls(tree: ast.Module, classes: set[str]) -> Iterator[ast.Call]:
    """Yield calls of error classes with a message, by line."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    calls = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in classes]
    inner = {id(part) for call in calls for argument in call.args for part in ast.walk(argument)}
    yield from sorted((call for call in calls if id(call) not in inner), key=lambda call: call.lineno)


def message_text(node: ast.expr) -> str:
    """Return a message as it is written: constants as they are, values in braces."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(message_text(part) for part in parts)
        case ast.FormattedValue(value=value):
            return _value(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return message_text(left) + message_text(right)
        case ast.BinOp(left=left, op=ast.Mult()) if _has_text(left):
            return message_text(left)
        case ast.IfExp(body=body, orelse=orelse):
            return _either(message_text(body), message_text(orelse))
        case ast.Call(func=ast.Name(id="str"), args=[ast.Call() as inner]):
            return message_text(inner)
        case ast.Call(func=ast.Name(id="unknown_name"), args=[noun, name, *_]):
            return f"unknown {message_text(noun)} '{{{ast.unparse(name)}}}'; did you mean …?"
        case _:
            return "{" + ast.unparse(node) + "}"


def _value(node: ast.expr) -> str:
    nested = (isinstance(node, ast.IfExp | ast.BinOp) and _has_text(node)) or _is_unknown_name(node)
    return message_text(node) if nested else f"{{{ast.unparse(node)}}}"


def _has_text(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in ast.walk(node))


def _is_unknown_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "unknown_name"


def _either(first: str, second: str) -> str:
    """Return both texts with a bar between them, or one of them where the other is empty."""
    return f"[{first} | {second}]" if first and second else f"[{first or second}]"


def main(arguments: list[str] | None = None) -> int:
    """Print the messages, grouped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only messages or places that contain it")
    parser.add_argument("--json", action="store_true", help="print a JSON list of objects")
    options = parser.parse_args(arguments)
    messages = [
        m for m in error_messages() if all(word.lower() in f"{m.place} {m.text}".lower() for word in options.words)
    ]
    if options.json:
        print(json.dumps([asdict(message) for message in messages], indent=1, ensure_ascii=False))
        return 0
    for group in dict.fromkeys(message.group for message in messages):
        of_group = [message for message in messages if message.group == group]
        print(f"\n{group}: {len(of_group)} messages")
        for message in of_group:
            print(f"  {message.place} {message.error}\n      {message.text}")
    print(f"\n{len(messages)} messages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
