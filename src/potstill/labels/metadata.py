"""Metadata of label files: the JSON behind ``labels`` in their header, validated on reading.

A file holds rows (`LabelMetadata`), or the teacher that gives them (`TeacherMetadata`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, get_args

from potstill.augment.imported_views import ImportedViews
from potstill.augment.view_schedule import ViewSchedule
from potstill.core import InputSpec
from potstill.dataset_file.files import parse_json
from potstill.errors import PotstillError, unknown_name
from potstill.kinds import is_of_kinds
from potstill.labels.codec import LabelCodec

__all__ = [
    "FORMAT", "TEACHER_BITS", "TEACHER_FORMAT", "FileMetadata", "LabelMetadata", "Statistics", "TeacherMetadata",
    "parse_description",
]  # fmt: skip

Statistics: TypeAlias = Literal["running", "batch"]
"""BatchNorm statistics that a teacher labels with: running ones of its training, or those of each labelled batch."""

F = TypeVar("F", bound="FileMetadata")
FORMAT = "potstill-labels/2"
TEACHER_FORMAT = "potstill-teacher/1"
TEACHER_BITS = {"uint8": 8, "uint4": 4}
_COUNTED = "philox4x32-10"
_MOST = 2**48
"""Largest plausible number of bytes; more is not a label file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMetadata(ABC):
    """Metadata shared by files of rows and of teachers: labelled inputs, views, teachers.

    Attributes:
        classes: names in label order.
        items: inputs that were labelled.
        content_hash: of those inputs.
        networks: name of each teacher, and the hash of its parameters.
        views: how what was labelled is made of the inputs.
        version: of potstill, that wrote it.
        statistics: of the teachers' BatchNorms.
        batch: how many views share them, where they are the batch's.
    """

    classes: tuple[str, ...]
    items: int
    content_hash: str
    networks: tuple[tuple[str, str], ...]
    views: ViewSchedule | ImportedViews
    version: str
    statistics: Statistics = "running"
    batch: int | None = None

    format: ClassVar[str]
    contents: ClassVar[str]
    """Contents of such a file, in errors."""

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise PotstillError("class names must differ from one another, but some are given twice; rename them")
        if (self.statistics == "batch") != (self.batch is not None):
            raise PotstillError(
                f"statistics are running, or batch with its size, not {self.statistics!r:.60} with batch {self.batch!r}"
            )
        for name, value in self._counts().items():
            if not 1 <= value < 2**31:
                raise PotstillError(f"a store needs at least one of {name}, but it has {value}; check the number")

    def _counts(self) -> dict[str, int]:
        return {"items": self.items, "batch": 1 if self.batch is None else self.batch}

    def check(self, classes: tuple[str, ...], content_hash: str) -> None:
        """Refuse these labels for data with other classes, another order of classes, or other inputs.

        Raises:
            PotstillError: they do not belong together; both orders are shown.
        """
        check_class_order(self.classes, classes, "the labels", "the data")
        if content_hash != self.content_hash:
            raise PotstillError(
                f"these labels are of inputs {self.content_hash[:12]}…, but the data are {content_hash[:12]}…; label "
                "these data, or give those that were labelled, in their order"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the metadata as JSON values."""
        kind = "recorded" if isinstance(self.views, ImportedViews) else _COUNTED
        common = {"classes": list(self.classes), "items": self.items, "content_hash": self.content_hash}
        batch = {"statistics": self.statistics, "batch": self.batch} if self.statistics == "batch" else {}
        return {
            "format": self.format, **common, **self._own_json(), "views": {"kind": kind, **self.views.to_json()},
            "networks": self._networks_json(), "version": self.version, **batch,
        }  # fmt: skip

    @abstractmethod
    def _own_json(self) -> dict[str, Any]:
        """Return the values that only such a file has."""

    def _networks_json(self) -> list[dict[str, str]]:
        return [{"name": name, "hash": digest} for name, digest in self.networks]

    @classmethod
    def read(cls: type[F], path: Path, metadata: Mapping[str, str]) -> F:
        """Read and check the metadata of a file of this kind.

        Raises:
            PotstillError: they are not those of such a file, or of a newer one: one line.
        """
        raw, kind = parse_description(path, metadata)
        try:
            if kind != cls.format:
                raise PotstillError(f"not {cls.contents}; open it with open_labels")
            classes, networks = _list_field(raw, "classes", str, "names"), _list_field(raw, "networks", dict, "objects")
            views = dict(take_field(raw, "views", dict))
            if (views_kind := views.pop("kind", None)) not in ("recorded", _COUNTED):
                raise PotstillError(f"its views are of kind {views_kind!r:.60}, which is not known; update potstill")
            if (statistics := raw.get("statistics", "running")) not in get_args(Statistics):
                raise PotstillError(f"its statistics are {statistics!r:.60}, which are not known; update potstill")
            return cls(
                classes=classes, items=take_field(raw, "items", int),
                content_hash=take_field(raw, "content_hash", str),
                networks=tuple((take_field(n, "name", str), take_field(n, "hash", str)) for n in networks),
                version=take_field(raw, "version", str), statistics=statistics,
                batch=take_field(raw, "batch", int) if "batch" in raw else None,
                views=(ImportedViews if views_kind == "recorded" else ViewSchedule).from_json(views),
                **cls._own_fields(raw, classes, networks),
            )  # fmt: skip
        except PotstillError as error:
            raise PotstillError(f"{path}: {error}") from error

    @classmethod
    @abstractmethod
    def _own_fields(
        cls, raw: Mapping[str, Any], classes: tuple[str, ...], networks: tuple[dict[str, Any], ...]
    ) -> dict[str, Any]:
        """Return the fields that only such a file has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMetadata(FileMetadata):
    """Metadata of a file of label rows.

    Attributes:
        epochs: stored ones: the pool.
        coding: how rows are stored.
    """

    format: ClassVar[str] = FORMAT
    contents: ClassVar[str] = "rows of labels, but a teacher"

    epochs: int
    coding: LabelCodec

    def __post_init__(self) -> None:
        FileMetadata.__post_init__(self)
        if self.coding.classes != len(self.classes):
            raise PotstillError(f"labels of {self.coding.classes} classes need as many names, not {len(self.classes)}")
        if self.items * self.epochs * self.coding.bytes_per_row() >= _MOST:
            raise PotstillError(f"{self.epochs} epochs of {self.items} items are too many; store fewer")

    def _counts(self) -> dict[str, int]:
        return {**FileMetadata._counts(self), "epochs": self.epochs}

    def _own_json(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs, "top_k": self.coding.top_k, "dtype": self.coding.dtype,
            "temperature": float(self.coding.temperature), "level": self.coding.level,
        }  # fmt: skip

    @classmethod
    def _own_fields(
        cls, raw: Mapping[str, Any], classes: tuple[str, ...], networks: tuple[dict[str, Any], ...]
    ) -> dict[str, Any]:
        kinds = {"top_k": int, "dtype": str, "temperature": float, "level": bool}
        coding = LabelCodec(classes=len(classes), **{name: take_field(raw, name, kind) for name, kind in kinds.items()})
        return {"epochs": take_field(raw, "epochs", int), "coding": coding}


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherMetadata(FileMetadata):
    """Metadata of a stored teacher, whose ``views`` are of any epoch.

    Attributes:
        dtype: of its weights, "uint8" or "uint4".
        input: what it eats.
        layouts: of each network the hash of its tensors' names and shapes.
    """

    format: ClassVar[str] = TEACHER_FORMAT
    contents: ClassVar[str] = "a teacher, but rows of labels"

    dtype: str
    input: InputSpec
    layouts: tuple[str, ...]

    def __post_init__(self) -> None:
        FileMetadata.__post_init__(self)
        if isinstance(self.views, ImportedViews):
            raise PotstillError("a stored teacher labels views of a schedule, not imported ones; store rows")
        if self.dtype not in TEACHER_BITS:
            raise unknown_name("type of a teacher's weights", self.dtype, tuple(TEACHER_BITS))
        if len(self.layouts) != len(self.networks) or not self.networks:
            raise PotstillError(f"{len(self.networks)} networks need as many layouts, and at least one; check them")
        if not is_of_kinds(self.input, ("image", "table")) or not all(0 < n < 2**31 for n in self.input.shape):
            raise PotstillError(f"no network labels inputs of {self.input.kind!r:.60} and {self.input.shape!r:.60}")

    def _own_json(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "input": {"kind": self.input.kind, "shape": list(self.input.shape)}}

    def _networks_json(self) -> list[dict[str, str]]:
        entries = FileMetadata._networks_json(self)
        return [{**entry, "layout": layout} for entry, layout in zip(entries, self.layouts, strict=True)]

    @classmethod
    def _own_fields(
        cls, raw: Mapping[str, Any], classes: tuple[str, ...], networks: tuple[dict[str, Any], ...]
    ) -> dict[str, Any]:
        given = take_field(raw, "input", dict)
        shape = take_field(given, "shape", list)
        if not all(type(n) is int for n in shape) or not 1 <= len(shape) <= 8:
            raise PotstillError(f"its inputs must have a shape, not {shape!r:.60}; get the file again")
        return {
            "dtype": take_field(raw, "dtype", str), "layouts": tuple(take_field(n, "layout", str) for n in networks),
            "input": InputSpec(kind=take_field(given, "kind", str), shape=tuple(shape)),
        }  # fmt: skip


def parse_description(path: Path, metadata: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """Parse the metadata of a label file, and return them with their format.

    Raises:
        PotstillError: it is none, or of a newer format: one line.
    """
    if "labels" not in metadata:
        raise PotstillError(f"{path}: not a store of labels; write one with potstill label")
    try:
        description = parse_json(metadata["labels"])
    except ValueError as error:
        raise PotstillError(f"{path}: its description is not JSON ({error}); get the file again") from error
    if not isinstance(description, dict) or not isinstance(description.get("format"), str):
        raise PotstillError(f"{path}: not a store of labels; write one with potstill label")
    if description["format"] not in (FORMAT, TEACHER_FORMAT):
        raise PotstillError(
            f"{path}: labels of format {description['format']!r:.60}, but {FORMAT!r} and {TEACHER_FORMAT!r} are read; "
            "update potstill"
        )
    return description, description["format"]


def take_field(description: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return a field of the metadata, which must be of type ``kind``.

    Raises:
        PotstillError: it is missing or of another.
    """
    # bool is a kind of int to Python, but not here
    if type(value := description.get(name)) is not kind:
        raise PotstillError(f"its {name} must be of type {kind.__name__}, not {value!r:.60}; get the file again")
    return value


def _list_field(description: Mapping[str, Any], name: str, kind: type, called: str) -> tuple[Any, ...]:
    values = take_field(description, name, list)
    if not all(isinstance(v, kind) for v in values):
        raise PotstillError(f"its {name} must be {called}; get the file again")
    return tuple(values)


def check_class_order(one: tuple[str, ...], other: tuple[str, ...], whose: str, whom: str) -> None:
    """Refuse two orders of classes that differ anywhere.

    Raises:
        PotstillError: they differ; the message shows where, and both.
    """
    if one == other:
        return
    shorter = min(len(one), len(other))
    place = next((i for i in range(shorter) if one[i] != other[i]), shorter)
    raise PotstillError(
        f"{whose} and {whom} must have the same classes in the same order, but they differ from class {place} on: "
        f"{_shown(one, place)} and {_shown(other, place)}; train the teacher on the data's order or reorder the data"
    )


def _shown(names: tuple[str, ...], place: int) -> str:
    first = max(0, place - 2) if len(names) > 12 else 0
    part = ", ".join(name[:30] for name in names[first : first + 12])
    return f"({'…, ' if first else ''}{part}{', …' if len(names) > first + 12 else ''})"
