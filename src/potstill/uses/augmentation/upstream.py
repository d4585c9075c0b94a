"""The augmentation that is adapted: by name, from a user's file or as a value, always as a function of a batch."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, cast

import torch
from torch import Generator, Tensor

from potstill._util.import_from_file import FileReference, is_file_reference, source_digests
from potstill.augment.names import augmentation_name, load_augmentation
from potstill.core import Augmentation, Source, registry
from potstill.errors import PotstillError
from potstill.kinds import get_kind

__all__ = ["CheckedUpstream", "Upstream", "as_upstream", "resolve_upstream"]

Upstream: TypeAlias = Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]
"""An augmentation: inputs and labels (classes, or rows) of a batch, and a generator, to inputs and labels."""


@dataclass(frozen=True)
class _DrawAndApply:
    """An `Augmentation` as a function of a batch; labels stay."""

    augmentation: Augmentation

    def __call__(self, x: Tensor, y: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
        return self.augmentation.apply(x, self.augmentation.draw(len(x), tuple(x.shape[1:]), rng)), y


def as_upstream(augmentation: Augmentation) -> Upstream:
    """Return one of Potstill's augmentations (`potstill.augment.names.load_augmentation`) as an upstream one."""
    return _DrawAndApply(augmentation)


@dataclass(frozen=True)
class CheckedUpstream:
    """An augmentation of a user as a function of a batch, whose outputs are checked.

    As a value it says where the augmentation comes from, so that other processes make it again.
    """

    origin: str | FileReference | Augmentation | Upstream
    """A registered name, an attribute of a file, or the augmentation itself."""
    classes: int
    """Number of classes of the data."""

    @property
    def name(self) -> str:
        """Name in results and messages."""
        if isinstance(self.origin, str | FileReference):
            return str(self.origin)
        return str(getattr(self.origin, "__qualname__", type(self.origin).__qualname__))

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that says which augmentation it is, as JSON values: name, settings and hashes of files."""
        if isinstance(self.origin, str):
            return {"name": self.name}
        if isinstance(self.origin, FileReference):
            return {"name": self.name, "files": source_digests([self.origin.load()])}
        settings = {} if inspect.isroutine(self.origin) else {"settings": repr(self.origin)}
        return {"name": self.name, "files": source_digests([self.origin]), **settings}

    @cached_property
    def function(self) -> Upstream:
        """The augmentation as a function.

        Raises:
            PotstillError: it is none, or its file fails.
        """
        if isinstance(self.origin, str):
            return as_upstream(registry.resolve("augmentations", self.origin)())
        return _to_function(self.origin.load() if isinstance(self.origin, FileReference) else self.origin, self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        return CheckedUpstream, (self.origin, self.classes)

    def __call__(self, x: Tensor, y: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
        """Return augmented inputs and their labels.

        Raises:
            PotstillError: the augmentation fails, or returns no such batch.
        """
        try:
            returned: Any = self.function(x, y, rng)
        except PotstillError:
            raise
        except Exception as error:  # whatever the user's own code raises
            reason = (str(error).split("\n")[0] or "no message")[:200]
            raise PotstillError(
                f"augmentation {self.name} fails on inputs of shape {tuple(x.shape)}: {type(error).__name__}: "
                f"{reason}; change it"
            ) from error
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            raise self._refuse("must return inputs and labels", f"a {type(returned).__name__}")
        inputs, labels = returned
        if not isinstance(inputs, Tensor) or not isinstance(labels, Tensor):
            raise self._refuse("must return tensors", f"{type(inputs).__name__} and {type(labels).__name__}")
        if inputs.shape[1:] != x.shape[1:] or len(inputs) != len(labels) or len(inputs) == 0:
            raise self._refuse(
                f"must return inputs (n, {', '.join(map(str, x.shape[1:]))}) and as many labels",
                f"{tuple(inputs.shape)} and {tuple(labels.shape)}",
            )
        if not inputs.is_floating_point() or not bool(torch.isfinite(inputs).all()):
            raise self._refuse("must return inputs that are finite floats", f"other values of {inputs.dtype}")
        self._check_labels(labels)
        return inputs, labels

    def _check_labels(self, labels: Tensor) -> None:
        if labels.is_floating_point():
            sound = labels.ndim == 2 and labels.shape[1] == self.classes and bool(torch.isfinite(labels).all())
        else:
            sound = labels.ndim == 1 and 0 <= int(labels.min()) <= int(labels.max()) < self.classes
        if not sound:
            raise self._refuse(
                f"must return labels as whole numbers below {self.classes}, or as rows (n, {self.classes})",
                f"{tuple(labels.shape)} of {labels.dtype}",
            )

    def _refuse(self, required: str, returned: str) -> PotstillError:
        return PotstillError(f"augmentation {self.name} {required}, but it returned {returned}; change it")


def resolve_upstream(augment: str | Augmentation | Upstream | type, source: Source) -> CheckedUpstream:
    """Return an augmentation as it applies to ``source``.

    Args:
        augment: a registered name (without flips where images must not be flipped); ``FILE.py:NAME``, a function of
            inputs, labels and a generator, or a class with ``draw`` and ``apply``; or one of these as a value.
        source: training data.

    Raises:
        PotstillError: there is no such name or file, it is no augmentation, or it is of pictures and the data are not.
    """
    classes = len(source.classes)
    if augment == "":
        raise PotstillError("augment is empty; give one of `potstill augmentations`, or FILE.py:NAME")
    if isinstance(augment, str) and is_file_reference(augment):
        made = CheckedUpstream(FileReference.read(augment), classes)
    elif isinstance(augment, str):
        load_augmentation(augment, source)  # raises for unknown names
        if augment != "none" and not get_kind(source.input).augmentable:
            raise PotstillError(
                f"augmentation {augment} is of pictures, but {source.name} has {source.input.kind} data; give a "
                "function of your own: FILE.py:NAME"
            )
        made = CheckedUpstream(augmentation_name(augment, source.input), classes)
    else:
        made = CheckedUpstream(cast("Any", augment), classes)
    made.function  # noqa: B018 - refuses what is none, before any work
    return made


def _to_function(value: Any, name: str) -> Upstream:
    """Return what a user gave as a function of a batch."""
    made = value() if inspect.isclass(value) and _takes(value, 0) else value
    if not inspect.isclass(made) and isinstance(made, Augmentation):
        return as_upstream(made)
    if not inspect.isclass(made) and callable(made):
        if _takes(made, 3):
            return cast("Upstream", made)
        if _takes(made, 0) and isinstance(again := made(), Augmentation):
            return as_upstream(again)
    raise PotstillError(
        f"augmentation {name} must be a function of inputs, labels and a torch.Generator, or a class with draw and "
        f"apply, but this {type(value).__name__} is neither; write def {name.rpartition(':')[2]}(x, y, rng)"
    )


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Return True if a function can be called with so many positional arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True
