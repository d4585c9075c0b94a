"""Fields of registered methods and protocols, read from their source and not imported.

Importing a method imports torch, which takes seconds, and a misspelled option should not wait for that. Source files
are parsed, and requested names evaluated as far as they are made of constants, of other such names and
of ``typing``. Everything else raises `Unreadable`, and the caller imports the object instead.
"""

import ast
import dataclasses
import functools
import importlib
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import potstill

__all__ = ["DeclaredClass", "DeclaredField", "DeclaredValue", "Unreadable", "read_declaration", "read_keys"]

_ROOT = Path(potstill.__file__).parent
_IMPORTED = ("typing", "collections.abc", "math", "pathlib", "potstill.core.bounds")
"""Modules without torch whose names are imported."""
_BUILTINS: Mapping[str, Any] = {
    kind.__name__: kind for kind in (int, float, str, bool, bytes, tuple, dict, list, set, frozenset, object)
}
_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Pow: operator.pow, ast.BitOr: operator.or_,
}  # fmt: skip
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_,
}  # fmt: skip


class Unreadable(Exception):
    """A source cannot be evaluated without running it."""


class DeclaredField(NamedTuple):
    """A field of a dataclass."""

    name: str
    hint: Any
    """A type, or a `DeclaredClass`."""
    default: Any
    """``dataclasses.MISSING`` where there is none; a `DeclaredClass` where it is called for the default."""
    doc: str
    """The string below it."""


class DeclaredValue(NamedTuple):
    """An instance: ``Recipe(epochs=300)``."""

    kind: "DeclaredClass"
    explicit: Mapping[str, Any]
    """Values by field; a field of a part may stand beside the part."""

    def values(self) -> dict[str, Any]:
        """Return values by field, those that are not explicit by their defaults."""
        return {f.name: self.explicit.get(f.name, f.default) for f in self.kind.fields()}

    def flat(self) -> dict[str, Any]:
        """Return values by field, those of its parts in place of the parts."""
        values: dict[str, Any] = {}
        for name, value in self.values().items():
            part = DeclaredValue(value, {}) if isinstance(value, DeclaredClass) else value
            values |= part.flat() if isinstance(part, DeclaredValue) else {name: value}
        return values | {name: value for name, value in self.explicit.items() if name in values}


class _Module:
    """Names that a source file of this package binds at its top level."""

    def __init__(self, name: str) -> None:
        relative = Path(*name.split(".")[1:])
        paths = (_ROOT / relative.with_suffix(".py"), _ROOT / relative / "__init__.py")
        path = next((p for p in paths if p.is_file()), None)
        if name.partition(".")[0] != "potstill" or path is None:
            raise Unreadable(f"{name} has no source here")
        self.name = name
        self._bound: dict[str, ast.stmt | ast.alias] = {}
        self._from: dict[str, tuple[str, str]] = {}
        self._bind(ast.parse(path.read_bytes()).body)

    def _bind(self, body: list[ast.stmt]) -> None:
        for node in body:
            match node:
                case ast.ImportFrom(module=str(module), names=names, level=0):
                    self._from |= {alias.asname or alias.name: (module, alias.name) for alias in names}
                case ast.Import(names=names):
                    self._from |= {alias.asname: (alias.name, "") for alias in names if alias.asname}
                    self._from |= {alias.name: (alias.name, "") for alias in names if "." not in alias.name}
                case ast.ClassDef(name=name):
                    self._bound[name] = node
                case (
                    ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr())
                ):
                    self._bound[name] = node
                case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=body, orelse=orelse):
                    self._bind([*body, *orelse])  # names that a package imports lazily are declared in the body
                case _:
                    pass

    def expression(self, name: str) -> ast.expr | None:
        """Return the expression that is assigned to ``name``."""
        node = self._bound.get(name)
        return node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None

    def value(self, name: str) -> Any:
        """Return the value of ``name`` in this module.

        Raises:
            Unreadable: that cannot be evaluated.
        """
        node = self._bound.get(name)
        if isinstance(node, ast.ClassDef):
            return DeclaredClass(self, node)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            return self.evaluate(node.value)
        if name in self._from:
            module, original = self._from[name]
            if module.partition(".")[0] == "potstill" and module not in _IMPORTED:
                try:
                    return _module(module).value(original)
                except Unreadable:
                    return _module(f"{module}.{original}")
            if (module, original) == ("dataclasses", "replace"):
                return dataclasses.replace
            if module in _IMPORTED:
                imported = importlib.import_module(module)
                return getattr(imported, original) if original else imported
        if name in _BUILTINS:
            return _BUILTINS[name]
        raise Unreadable(f"{self.name}: {name}")

    def evaluate(self, node: ast.expr) -> Any:
        """
        Raises:
            Unreadable: the expression is none of those that are evaluated here.
        """
        try:
            return self._evaluate(node)
        except (TypeError, ValueError, ArithmeticError, KeyError, AttributeError, RecursionError) as error:
            raise Unreadable(f"{self.name}, line {node.lineno}") from error

    def _evaluate(self, node: ast.expr) -> Any:
        go = self.evaluate
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self.value(name)
            case ast.Tuple(elts=entries) | ast.List(elts=entries):
                entries_read = [v for e in entries for v in (go(e.value) if isinstance(e, ast.Starred) else [go(e)])]
                return tuple(entries_read) if isinstance(node, ast.Tuple) else entries_read
            case ast.Dict(keys=keys, values=values):
                mapping: dict[Any, Any] = {}
                for key, value in zip(keys, values, strict=True):
                    mapping |= dict(go(value)) if key is None else {go(key): go(value)}
                return mapping
            case ast.UnaryOp(op=op, operand=operand):
                return _UNARY[type(op)](go(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](go(left), go(right))
            case ast.Subscript(value=value, slice=index):
                return go(value)[go(index)]
            case ast.Attribute(value=ast.Name() as value, attr=name):
                owner = go(value)
                if isinstance(owner, _Module):
                    return owner.value(name)
                return owner.attribute(name) if isinstance(owner, DeclaredClass) else getattr(owner, name)
            case ast.Call(func=ast.Attribute(value=value, attr="change"), args=[], keywords=keywords):
                changed = go(value)
                if isinstance(changed, DeclaredValue):
                    return changed._replace(explicit={**changed.explicit, **self._keywords(keywords)})
            case ast.Call(func=func, args=args, keywords=keywords):
                called = go(func)
                if called is TypeVar or called is frozenset:
                    return called(*map(go, args))
                if isinstance(called, DeclaredClass) and not args:
                    return DeclaredValue(called, self._keywords(keywords))
                if called is dataclasses.replace and isinstance(whole := go(args[0]), DeclaredValue):
                    return whole._replace(explicit={**whole.explicit, **self._keywords(keywords)})
            case _:
                pass
        raise Unreadable(f"{self.name}, line {node.lineno}")

    def _keywords(self, keywords: list[ast.keyword]) -> dict[str, Any]:
        if any(k.arg is None for k in keywords):
            raise Unreadable(f"{self.name}, line {keywords[0].lineno}")
        return {str(k.arg): self.evaluate(k.value) for k in keywords}


@functools.cache
def _module(name: str) -> _Module:
    return _Module(name)


class DeclaredClass:
    """A dataclass of this package as its source declares it."""

    def __init__(self, module: _Module, node: ast.ClassDef) -> None:
        self._module, self._node = module, node

    @functools.cached_property
    def _order(self) -> "list[DeclaredClass]":
        """Itself and its base classes of this package, in the method resolution order."""
        return [
            declaration for kind in self._shell.__mro__ if (declaration := getattr(kind, "declared", None)) is not None
        ]

    @functools.cached_property
    def _shell(self) -> type:
        """An empty class with the same ancestors, so that Python orders them."""
        bases: list[type] = []
        for base in self._node.bases:
            try:
                base_class = self._module.evaluate(base.value if isinstance(base, ast.Subscript) else base)
            except Unreadable as error:
                name = base.value if isinstance(base, ast.Subscript) else base
                if isinstance(name, ast.Name) and name.id in ("ABC", "Generic", "Protocol"):
                    continue
                raise Unreadable(f"{self._module.name}: a base of {self._node.name}") from error
            if isinstance(base_class, DeclaredClass):
                bases.append(base_class._shell)
        return type(self._node.name, tuple(bases) or (_Shell,), {"declared": self})

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return the value that the class or the next of its ancestors assigns in its body.

        Raises:
            Unreadable: it cannot be evaluated.
        """
        for kind in self._order:
            for node in reversed(kind._node.body):
                match node:
                    case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                        return kind._module.evaluate(value)
                    case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                        return kind._module.evaluate(value)
                    case _:
                        pass
        return default

    def fields(self) -> list[DeclaredField]:
        """Return its fields in a dataclass's order, but for those that ``__init__`` does not take.

        Raises:
            Unreadable: a type or a default cannot be evaluated.
        """
        fields: dict[str, DeclaredField | None] = {}
        for kind in reversed(self._order):
            if not any("dataclass" in ast.unparse(decorator) for decorator in kind._node.decorator_list):
                continue
            body = kind._node.body
            for node, below in zip(body, [*body[1:], ast.Pass()], strict=True):
                match node:
                    case ast.AnnAssign(target=ast.Name(id=name)) if "ClassVar" not in ast.unparse(node.annotation):
                        fields[name] = kind._field(name, node, _text(below))
                    case _:
                        pass
        return [field for field in fields.values() if field is not None]

    def flat_fields(self) -> list[DeclaredField]:
        """Return its fields, those of its parts in place of the parts."""
        parts = [f.hint.flat_fields() if isinstance(f.hint, DeclaredClass) else [f] for f in self.fields()]
        return [field for part in parts for field in part]

    def _field(self, name: str, node: ast.AnnAssign, doc: str) -> DeclaredField | None:
        hint, value, module = self._module.evaluate(node.annotation), node.value, self._module
        match value:
            case None:
                return DeclaredField(name, hint, dataclasses.MISSING, doc)
            case ast.Call(func=ast.Name(id="field"), keywords=keywords):
                arguments = {str(k.arg): k.value for k in keywords}
                if "init" in arguments and module.evaluate(arguments["init"]) is False:
                    return None
                if "default_factory" in arguments:
                    factory = module.evaluate(arguments["default_factory"])
                    return DeclaredField(name, hint, factory if isinstance(factory, DeclaredClass) else factory(), doc)
                default = module.evaluate(arguments["default"]) if "default" in arguments else dataclasses.MISSING
                return DeclaredField(name, hint, default, doc)
            case _:
                return DeclaredField(name, hint, module.evaluate(value), doc)


def _text(node: ast.stmt) -> str:
    """Return the string that a statement consists of, on one line."""
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return " ".join(text.split())
        case _:
            return ""


class _Shell:
    """Ancestor of the empty classes, so that none is ``object`` alone."""


def read_declaration(target: str) -> Any:
    """Return the value of ``module:name``: a constant, a `DeclaredClass` or a `DeclaredValue`.

    Raises:
        Unreadable: it is not of this package, or cannot be evaluated.
    """
    module, _, name = target.partition(":")
    try:
        return _module(module).value(name)
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable(target) from error


def read_keys(target: str) -> list[Any]:
    """Return the keys of the mapping at ``module:name``, without its values.

    Raises:
        Unreadable: it is no mapping that is written out there, or a key cannot be evaluated.
    """
    name, _, attribute = target.partition(":")
    module = _module(name)
    node = module.expression(attribute)
    if not isinstance(node, ast.Dict):
        raise Unreadable(target)
    return [module.evaluate(key) for key in node.keys if key is not None]
