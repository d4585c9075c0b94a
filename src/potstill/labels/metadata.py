"""Metadata of label files: the JSON behind ``labels`` in their header, validated on reading.

A file holds rows (`LabelMetadata`), or the teacher that gives them (`TeacherMetadata`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from potstill.augment.imported_views import ImportedViews
from potstill.augment.view_schedule import ViewSchedule
from potstill.core import InputSpec
from potstill.dataset_file.files import parse_json
from potstill.errors import PotstillError, unknown_name
from potstill.labels.codec import LabelCodec

__all__ = [
    "FORMAT", "TEACHER_BITS", "TEACHER_FORMAT", "FileMetadata", "LabelMetadata", "Statistics", "TeacherMetadata",
    "parse_description",
]  # fmt: skip

Statistics: TypeAlias = Literal["running", "batch"]
"""BatchNorm statistics that a teacher labels with: running ones of its training, or those of each labelled batch."""

FORMAT = "potstill-labels/2"
TEACHER_FORMAT = "potstill-teacher/1"
TEACHER_BITS = {"uint8": 8, "uint4": 4}
_COUNTED = "philox4x32-10"
_MOST = 2**48
"""Largest plausible number of bytes; more is not a label file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMetadata:
    """Metadata shared by files of rows and of teachers: labelled inputs, views, teachers.

    Attributes:
        classes: names in label order.
        items: inputs that were labelled.
        content_hash: of those inputs.
        networks: name of each teacher, and the hash of its parameters.
        version: of potstill, that wrote it.
        statistics: of the teachers' BatchNorms.
        batch: how many views share them, where they are the batch's.
    """

    classes: tuple[str, ...]
    items: int
    content_hash: str
    networks: tuple[tuple[str, str], ...]
    version: str
    statistics: Statistics = "running"
    batch: int | None = None

    def _check(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise PotstillError("class names must differ from one another, but some are given twice; rename them")
        if (self.statistics == "batch") != (self.batch is not None):
            raise PotstillError(
                f"statistics are running, or batch with its size, not {self.statistics!r:.60} with batch {self.batch!r}"
            )
        for name, value in (("items", self.items), ("batch", 1 if self.batch is None else self.batch)):
            _at_least_one(name, value)

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

    def _batch_json(self) -> dict[str, Any]:
        return {"statistics": self.statistics, "batch": self.batch} if self.statistics == "batch" else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMetadata(FileMetadata):
    """Metadata of a file of label rows.

    Attributes:
        epochs: stored ones: the pool.
        coding: how rows are stored.
        views: how what was labelled is made of the inputs.
    """

    epochs: int
    coding: LabelCodec
    views: ViewSchedule | ImportedViews

    def __post_init__(self) -> None:
        if self.coding.classes != len(self.classes):
            raise PotstillError(f"labels of {self.coding.classes} classes need as many names, not {len(self.classes)}")
        self._check()
        _at_least_one("epochs", self.epochs)
        if self.items * self.epochs * self.coding.bytes_per_row() >= _MOST:
            raise PotstillError(f"{self.epochs} epochs of {self.items} items are too many; store fewer")

    def to_json(self) -> dict[str, Any]:
        """Return the metadata as JSON values."""
        recorded = isinstance(self.views, ImportedViews)
        views = self.views.to_json()
        return {
            "format": FORMAT,
            "classes": list(self.classes),
            "items": self.items,
            "content_hash": self.content_hash,
            "epochs": self.epochs,
            "top_k": self.coding.top_k,
            "dtype": self.coding.dtype,
            "temperature": float(self.coding.temperature),
            "level": self.coding.level,
            "views": {"kind": "recorded" if recorded else _COUNTED, **views},
            "networks": [{"name": name, "hash": digest} for name, digest in self.networks],
            "version": self.version,
            **self._batch_json(),
        }

    @classmethod
    def read(cls, path: Path, metadata: Mapping[str, str]) -> "LabelMetadata":
        """Read and check the metadata of a file of rows.

        Raises:
            PotstillError: they are not those of a store of labels, or of a newer one: one line.
        """
        description, kind = parse_description(path, metadata)
        if kind == TEACHER_FORMAT:
            raise PotstillError(f"{path}: a teacher that labels, not rows; open it with open_labels")
        try:
            return cls._parsed(description)
        except PotstillError as error:
            raise PotstillError(f"{path}: {error}") from error

    @classmethod
    def _parsed(cls, raw: Mapping[str, Any]) -> "LabelMetadata":
        classes = names(raw, "classes")
        views = dict(take_field(raw, "views", dict))
        kind = views.pop("kind", None)
        if kind not in ("recorded", _COUNTED):
            raise PotstillError(f"its views are of kind {kind!r:.60}, which is not known; update potstill")
        return cls(
            classes=classes,
            items=take_field(raw, "items", int),
            content_hash=take_field(raw, "content_hash", str),
            epochs=take_field(raw, "epochs", int),
            coding=LabelCodec(
                classes=len(classes), top_k=take_field(raw, "top_k", int), dtype=take_field(raw, "dtype", str),
                temperature=take_field(raw, "temperature", float), level=take_field(raw, "level", bool),
            ),
            views=ImportedViews.from_json(views) if kind == "recorded" else ViewSchedule.from_json(views),
            networks=tuple((take_field(n, "name", str), take_field(n, "hash", str)) for n in networks(raw)),
            version=take_field(raw, "version", str),
            statistics=statistics(raw),
            batch=take_field(raw, "batch", int) if "batch" in raw else None,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherMetadata(FileMetadata):
    """Metadata of a stored teacher.

    Attributes:
        dtype: of its weights, "uint8" or "uint4".
        input: what it eats.
        layouts: of each network the hash of its tensors' names and shapes.
        views: how what it labels is made of the inputs, in any epoch.
    """

    dtype: str
    input: InputSpec
    layouts: tuple[str, ...]
    views: ViewSchedule

    def __post_init__(self) -> None:
        self._check()
        if self.dtype not in TEACHER_BITS:
            raise unknown_name("type of a teacher's weights", self.dtype, tuple(TEACHER_BITS))
        if len(self.layouts) != len(self.networks) or not self.networks:
            raise PotstillError(f"{len(self.networks)} networks need as many layouts, and at least one; check them")
        if self.input.kind not in ("image", "table") or not all(0 < n < 2**31 for n in self.input.shape):
            raise PotstillError(f"no network labels inputs of {self.input.kind!r:.60} and {self.input.shape!r:.60}")

    def to_json(self) -> dict[str, Any]:
        """Return the metadata as JSON values."""
        return {
            "format": TEACHER_FORMAT,
            "classes": list(self.classes),
            "items": self.items,
            "content_hash": self.content_hash,
            "dtype": self.dtype,
            "input": {"kind": self.input.kind, "shape": list(self.input.shape)},
            "views": {"kind": _COUNTED, **self.views.to_json()},
            "networks": [
                {"name": name, "hash": digest, "layout": layout}
                for (name, digest), layout in zip(self.networks, self.layouts, strict=True)
            ],
            "version": self.version,
            **self._batch_json(),
        }

    @classmethod
    def read(cls, path: Path, metadata: Mapping[str, str]) -> "TeacherMetadata":
        """Read and check the metadata of a stored teacher.

        Raises:
            PotstillError: they are not those of a stored teacher, or of a newer one: one line.
        """
        raw, kind = parse_description(path, metadata)
        try:
            if kind != TEACHER_FORMAT:
                raise PotstillError("rows of labels, not a teacher; open it with open_labels")
            shape, views = (
                take_field(given := take_field(raw, "input", dict), "shape", list),
                dict(take_field(raw, "views", dict)),
            )
            if views.pop("kind", None) != _COUNTED:
                raise PotstillError("its views are of a kind that is not known; update potstill")
            if not all(type(n) is int for n in shape) or not 1 <= len(shape) <= 8:
                raise PotstillError(f"its inputs must have a shape, not {shape!r:.60}; get the file again")
            return cls(
                classes=names(raw, "classes"), items=take_field(raw, "items", int),
                content_hash=take_field(raw, "content_hash", str), dtype=take_field(raw, "dtype", str),
                input=InputSpec(kind=take_field(given, "kind", str), shape=tuple(shape)),
                views=ViewSchedule.from_json(views),
                networks=tuple((take_field(n, "name", str), take_field(n, "hash", str)) for n in networks(raw)),
                layouts=tuple(take_field(n, "layout", str) for n in networks(raw)),
                version=take_field(raw, "version", str),
                statistics=statistics(raw), batch=take_field(raw, "batch", int) if "batch" in raw else None,
            )  # fmt: skip
        except PotstillError as error:
            raise PotstillError(f"{path}: {error}") from error


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


def names(description: Mapping[str, Any], what: str) -> tuple[str, ...]:
    value = take_field(description, what, list)
    if not all(isinstance(v, str) for v in value):
        raise PotstillError(f"its {what} must be names; get the file again")
    return tuple(value)


def networks(description: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = take_field(description, "networks", list)
    if not all(isinstance(n, dict) for n in entries):
        raise PotstillError("its networks must be objects; get the file again")
    return entries


def statistics(description: Mapping[str, Any]) -> Statistics:
    value = description.get("statistics", "running")
    if value not in get_args(Statistics):
        raise PotstillError(f"its statistics are {value!r:.60}, which are not known; update potstill")
    checked: Statistics = value
    return checked


def _at_least_one(name: str, value: int) -> None:
    if not 1 <= value < 2**31:
        raise PotstillError(f"a store needs at least one of {name}, but it has {value}; check the number")


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
