"""``file.py:Name``: a class or function of a file of the user's own.

To name a file is to run it, so only what a person types or passes may come here: never a name that was read from a set,
a scorecard or a recipe of labels.
"""

import hashlib
import importlib.util
import inspect
import linecache
import re
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from potstill.errors import PotstillError, unknown

__all__ = ["OwnFile", "names_file"]


def names_file(spelled: str) -> bool:
    """Whether ``spelled`` means a file of Python rather than a registered name."""
    return re.search(r"\.py(:|$)", spelled) is not None


@dataclass(frozen=True, slots=True)
class OwnFile:
    """An attribute of a file, as a value that another process can be given: there the file is run again."""

    path: str
    """Absolute."""
    name: str
    digest: str
    """SHA-256 of the file, so that another process has the same or says that it has not."""

    def __str__(self) -> str:
        """As it is called on cards, which are read on other machines: without its folder."""
        return f"{Path(self.path).name}:{self.name}"

    @classmethod
    def read(cls, spelled: str) -> "OwnFile":
        """What ``spelled`` means.

        Raises:
            PotstillError: it is not ``FILE.py:NAME``, or there is no such file.
        """
        file, _, name = spelled.rpartition(":")
        if not file.endswith(".py") or not name.isidentifier():
            raise PotstillError(f"{spelled}: say which class of the file is meant: FILE.py:NAME")
        path = Path(file).expanduser().absolute()
        return cls(str(path), name, hashlib.sha256(_text(path)).hexdigest())

    def load(self) -> Any:
        """The attribute. The file is run once in a process.

        Raises:
            PotstillError: the file is gone or was changed, fails when it is run, or has no such attribute.
        """
        module = _module(self)
        if not hasattr(module, self.name):
            own = [n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == module.__name__]
            raise PotstillError(f"{self.path}: {unknown('class', self.name, own)}")
        return getattr(module, self.name)


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PotstillError(f"{path}: a file of Python is needed, but it cannot be read ({error.strerror})") from error


def _module(of: OwnFile) -> ModuleType:
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
