"""Methods, protocols and constants of this package, read from their source without their imports.

Importing a method imports torch, which takes seconds, and a misspelled option should not wait for that. Source files
are parsed; assignments and dataclasses without their methods are then executed one by one, as they are asked for, with
names of this package and of a few modules of the standard library. All else raises `Unreadable`, and the caller imports
the object instead.
"""

import ast
import builtins
import dataclasses
import functools
import importlib
from pathlib import Path
from typing import Any

import potstill

__all__ = ["Unreadable", "read_declaration", "read_keys"]

_ROOT = Path(potstill.__file__).parent
_IMPORTED = ("collections.abc", "dataclasses", "math", "pathlib", "typing", "potstill.core.bounds")
"""Modules without torch whose names are imported."""
_NOT_BASES = {"ABC", "Generic", "Protocol"}
"""Base classes without fields."""


class Unreadable(Exception):
    """A source cannot be executed without its imports."""


class _Module:
    """Names that a source file of this package binds at its top level, executed as they are asked for."""

    def __init__(self, name: str) -> None:
        relative = Path(*name.split(".")[1:])
        paths = (_ROOT / relative.with_suffix(".py"), _ROOT / relative / "__init__.py")
        path = next((p for p in paths if p.is_file()), None)
        if name.partition(".")[0] != "potstill" or path is None:
            raise Unreadable(f"{name} has no source here")
        self._name, self._text = name, path.read_text(encoding="utf-8")
        self._globals: dict[str, Any] = {"__name__": name}
        self._nodes: dict[str, ast.stmt] = {}
        self._imports: dict[str, tuple[str, str]] = {}
        self._index(ast.parse(self._text).body)

    def _index(self, body: list[ast.stmt]) -> None:
        for node in body:
            match node:
                case ast.ImportFrom(module=str(module), names=names, level=0):
                    self._imports |= {alias.asname or alias.name: (module, alias.name) for alias in names}
                case ast.Import(names=names):
                    self._imports |= {alias.asname or alias.name: (alias.name, "") for alias in names}
                case ast.ClassDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]):
                    self._nodes[name] = node
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self._nodes[name] = ast.copy_location(ast.Assign([node.target], value), node)
                case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=body, orelse=orelse):
                    self._index([*body, *orelse])  # names that a package imports lazily are declared in the body
                case _:
                    pass

    def expression(self, name: str) -> ast.expr | None:
        """Return the expression that is assigned to ``name``."""
        return getattr(self._nodes.get(name), "value", None)

    def __getattr__(self, name: str) -> Any:
        """Return the value of ``name`` in this module, or raise `Unreadable`."""
        if name not in self._globals:
            self._globals[name] = self._imported(name) if name in self._imports else self._executed(name)
        return self._globals[name]

    def _imported(self, name: str) -> Any:
        module, original = self._imports[name]
        if module in _IMPORTED:
            imported = importlib.import_module(module)
            return getattr(imported, original) if original else imported
        try:
            return getattr(_module(module), original)
        except Unreadable:
            return _module(f"{module}.{original}")

    def _executed(self, name: str) -> Any:
        node = self._nodes.get(name)
        if node is None:
            raise Unreadable(f"{self._name}: {name}")
        executed = _without_methods(node) if isinstance(node, ast.ClassDef) else node
        names = [n for n in ast.walk(executed) if isinstance(n, ast.Name)]
        bound = {n.id for n in names if isinstance(n.ctx, ast.Store)}
        try:
            for used in {n.id for n in names} - bound - vars(builtins).keys():
                getattr(self, used)
            module = ast.fix_missing_locations(ast.Module([executed], []))
            exec(compile(module, self._name, "exec"), self._globals)
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
            raise Unreadable(f"{self._name}, line {node.lineno}") from error
        value = self._globals[name]
        if isinstance(node, ast.ClassDef):
            value.__source__ = ast.get_source_segment(self._text, node)
            value.change = _change
        return value


@functools.cache
def _module(name: str) -> _Module:
    return _Module(name)


def _without_methods(node: ast.ClassDef) -> ast.ClassDef:
    """Return a class with its fields, its presets, and base classes that have some."""
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    decorators = [decorator for decorator in node.decorator_list if "dataclass" in ast.unparse(decorator)]
    return ast.copy_location(
        ast.ClassDef(
            name=node.name,
            bases=[base for base in bases if not (isinstance(base, ast.Name) and base.id in _NOT_BASES)],
            keywords=[],
            body=[statement for statement in node.body if _is_option(statement)] or [ast.Pass()],
            decorator_list=decorators,
        ),
        node,
    )


def _is_option(statement: ast.stmt) -> bool:
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
            return name == "presets" or "ClassVar" not in ast.unparse(annotation)
        case ast.Assign(targets=[ast.Name(id="presets")]):
            return True
        case _:
            return False


def _change(value: Any, **changes: Any) -> Any:
    """Return a value with other fields, those of its parts included, as `potstill.evaluation.Protocol.change` does."""
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    parts = {name: _change(part, **changes) for name, part in fields.items() if dataclasses.is_dataclass(part)}
    own = {name: new for name, new in changes.items() if name in fields}
    return dataclasses.replace(value, **parts | own)


def read_declaration(target: str) -> Any:
    """Return the value of ``module:name``: a constant, or a dataclass or an instance of one without its methods.

    Raises:
        Unreadable: it is not of this package, or cannot be executed without other packages.
    """
    module, _, name = target.partition(":")
    try:
        return getattr(_module(module), name)
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable(target) from error


def read_keys(target: str) -> list[Any]:
    """Return the keys of the mapping at ``module:name``, without its values.

    Raises:
        Unreadable: it is no mapping that is written out there, or a key is no constant.
    """
    module, _, name = target.partition(":")
    node = _module(module).expression(name)
    try:
        return [ast.literal_eval(key) for key in node.keys if key is not None]  # type: ignore[union-attr]
    except (AttributeError, ValueError) as error:
        raise Unreadable(target) from error
