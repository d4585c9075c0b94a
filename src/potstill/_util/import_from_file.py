"""Classes and functions from a user's file, spelled ``file.py:Name``.

Naming a file runs it, so only what a user types or passes is used here, never a name from a file's metadata.
"""

import functools
import hashlib
import importlib.util
import inspect
import linecache
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from potstill.errors import PotstillError, unknown_name

__all__ = ["FileReference", "is_file_reference", "source_digests"]


_DIGEST = "__potstill_sha256__"
"""Attribute of a module loaded here: SHA-256 of the text that was run."""


def is_file_reference(spelled: str) -> bool:
    """Return True if ``spelled`` names a Python file rather than a registered name."""
    return re.search(r"\.py(:|$)", spelled) is not None


@dataclass(frozen=True, slots=True)
class FileReference:
    """Attribute of a file, as a picklable value; another process runs the file again."""

    path: str
    """Absolute path."""
    name: str
    digest: str
    """SHA-256 of the file, by which other processes check that theirs is the same."""

    def __str__(self) -> str:
        """Return file name and attribute without the folder, as metadata have it."""
        return f"{Path(self.path).name}:{self.name}"

    @classmethod
    def read(cls, spelled: str) -> "FileReference":
        """Parse ``FILE.py:NAME``.

        Raises:
            PotstillError: it is written otherwise, or there is no such file.
        """
        file, _, name = spelled.rpartition(":")
        if not file.endswith(".py") or not name.isidentifier():
            raise PotstillError(f"{spelled}: say which class or function of the file to use: FILE.py:NAME")
        path = Path(file).expanduser().absolute()
        return cls(str(path), name, hashlib.sha256(_text(path)).hexdigest())

    def load(self) -> Any:
        """Return the attribute. The file is run once per process.

        Raises:
            PotstillError: the file is gone or changed, fails when it is run, or has no such attribute.
        """
        module = _module(self)
        if not hasattr(module, self.name):
            own = [
                n
                for n, v in vars(module).items()
                if (inspect.isclass(v) or inspect.isfunction(v)) and v.__module__ == module.__name__
            ]
            raise PotstillError(f"{self.path}: {unknown_name('class or function', self.name, own)}")
        return getattr(module, self.name)


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PotstillError(f"{path}: a file of Python is needed, but it cannot be read ({error.strerror})") from error


def _module(of: FileReference) -> ModuleType:
    path = Path(of.path)
    name = f"{path.stem}_{of.digest[:12]}"  # another content is another module: a notebook may change its file
    if name in sys.modules:
        return sys.modules[name]
    text = _text(path)
    if hashlib.sha256(text).hexdigest() != of.digest:
        raise PotstillError(f"{path}: it was changed after the run began; start again")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last, so that what it stands beside takes nobody's name
    linecache.checkcache(str(path))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    setattr(module, _DIGEST, of.digest)
    sys.modules[name] = module
    try:
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
    except Exception as error:  # whatever the user's own file breaks in: its line is what helps
        del sys.modules[name]
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else "?"
        said = error.msg if isinstance(error, SyntaxError) else str(error).split("\n")[0]
        raise PotstillError(f"{path}:{line}: {type(error).__name__}: {said}") from error
    return module


def source_digests(things: Iterable[object]) -> dict[str, str]:
    """Return the SHA-256 of each user file that parts of a run come from, by file name.

    A part is the user's own if its class or function is defined outside Potstill and installed packages. Modules in or
    below that file's folder that it uses count as well. What was typed into a notebook has no file; there it is the
    text of the class.

    Args:
        things: objects, classes or functions, such as method, network, source or task.
    """
    digests: dict[str, str] = {}
    for thing in things:
        kind = _kind(thing)
        module = sys.modules.get(str(kind.__module__))
        if module is None or _is_installed(module):
            continue
        if (file := getattr(module, "__file__", None)) is None:
            digests |= _text_digest(kind)
            continue
        for own in _used(module, Path(file).parent):
            _note(digests, own)
    return dict(sorted(digests.items()))


def _kind(thing: object) -> Any:
    """Return the class or function that defines the behaviour of ``thing``."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    return thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)


def _note(digests: dict[str, str], module: ModuleType) -> None:
    path = Path(str(module.__file__))
    digest = getattr(module, _DIGEST, None) or hashlib.sha256(_text(path)).hexdigest()
    name, more = path.name, 2
    while digests.get(name, digest) != digest:  # two files of one name in two folders
        name, more = f"{path.name} ({more})", more + 1
    digests[name] = digest


def _is_installed(module: ModuleType) -> bool:
    """Return True for modules of Potstill, Python or an installed package."""
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ != "__main__"
    path = Path(file).resolve()
    if path.is_relative_to(Path(__file__).resolve().parents[1]):
        return True
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(path.is_relative_to(folder) for folder in folders if folder is not None)


def _used(module: ModuleType, folder: Path) -> Iterator[ModuleType]:
    """Yield the module and the modules of the folder that its names come from, each once."""
    waiting, done = [module], set[str]()
    while waiting:
        one = waiting.pop()
        if one.__name__ in done:
            continue
        done.add(one.__name__)
        yield one
        for value in list(vars(one).values()):
            other = value if isinstance(value, ModuleType) else sys.modules.get(str(_kind(value).__module__))
            file = getattr(other, "__file__", None)
            if (
                other is not None
                and file is not None
                and Path(file).is_relative_to(folder)
                and not _is_installed(other)
            ):
                waiting.append(other)


def _text_digest(kind: Any) -> dict[str, str]:
    try:
        text = inspect.getsource(kind)
    except (OSError, TypeError):  # typed at a prompt that keeps nothing
        return {}
    return {f"{getattr(kind, '__qualname__', 'own')} (no file)": hashlib.sha256(text.encode()).hexdigest()}
