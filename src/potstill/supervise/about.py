"""What a file of labels says of itself: the JSON behind ``labels`` in its metadata, written and read with distrust."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from potstill.augment.recorded import Recorded
from potstill.augment.views import Views
from potstill.errors import PotstillError
from potstill.storage.files import parse_json
from potstill.supervise.coding import Coding

__all__ = ["FORMAT", "About", "Statistics"]

Statistics: TypeAlias = Literal["running", "batch"]
"""Those of a teacher's BatchNorms as it labels: of its training, or of what it labels at once."""

FORMAT = "potstill-labels/2"
_FIRST = "potstill-labels/1"
"""The same, but for indices that are not packed; it is still read."""
_MOST = 2**48
"""More of anything is no store of labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Everything about a store but its values.

    Attributes:
        classes: names in label order.
        items: inputs that were labelled.
        content_hash: of those inputs.
        epochs: stored ones: the pool.
        coding: how rows are stored.
        views: how what was labelled is made of the inputs.
        networks: name of each teacher, and the hash of its parameters.
        version: of potstill, that wrote it.
        statistics: of the teachers' BatchNorms.
        batch: how many views share them, where they are the batch's.
    """

    classes: tuple[str, ...]
    items: int
    content_hash: str
    epochs: int
    coding: Coding
    views: Views | Recorded
    networks: tuple[tuple[str, str], ...]
    version: str
    statistics: Statistics = "running"
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.coding.classes != len(self.classes):
            raise PotstillError(f"labels of {self.coding.classes} classes need as many names, not {len(self.classes)}")
        if len(set(self.classes)) != len(self.classes):
            raise PotstillError("class names must differ from one another, but some are given twice; rename them")
        if (self.statistics == "batch") != (self.batch is not None):
            raise PotstillError(
                f"statistics are running, or batch with its size, not {self.statistics!r:.60} with batch {self.batch!r}"
            )
        for name, value in (
            ("items", self.items),
            ("epochs", self.epochs),
            ("batch", 1 if self.batch is None else self.batch),
        ):
            if not 1 <= value < 2**31:
                raise PotstillError(f"a store needs at least one of {name}, but it has {value}; check the number")
        if self.items * self.epochs * self.coding.bytes_per_row() >= _MOST:
            raise PotstillError(f"{self.epochs} epochs of {self.items} items are too many; store fewer")

    def to_json(self) -> dict[str, Any]:
        """What stands in the file."""
        recorded = isinstance(self.views, Recorded)
        views = self.views.to_json()
        batch = {"statistics": self.statistics, "batch": self.batch} if self.statistics == "batch" else {}
        return {
            "format": FORMAT if self.coding.packed else _FIRST,
            "classes": list(self.classes),
            "items": self.items,
            "content_hash": self.content_hash,
            "epochs": self.epochs,
            "top_k": self.coding.top_k,
            "dtype": self.coding.dtype,
            "temperature": float(self.coding.temperature),
            "level": self.coding.level,
            "views": {"kind": "recorded" if recorded else "philox4x32-10", **views},
            "networks": [{"name": name, "hash": digest} for name, digest in self.networks],
            "version": self.version,
            **batch,
        }

    @classmethod
    def read(cls, path: Path, metadata: Mapping[str, str]) -> "About":
        """What a file's metadata say.

        Raises:
            PotstillError: they are not those of a store of labels, or of a newer one: one line.
        """
        if "labels" not in metadata:
            raise PotstillError(f"{path}: not a store of labels; write one with write_labels")
        try:
            said = parse_json(metadata["labels"])
        except ValueError as error:
            raise PotstillError(f"{path}: its description is not JSON ({error}); get the file again") from error
        if not isinstance(said, dict) or not isinstance(said.get("format"), str):
            raise PotstillError(f"{path}: not a store of labels; write one with write_labels")
        if said["format"] not in (FORMAT, _FIRST):
            raise PotstillError(
                f"{path}: labels of format {said['format']!r:.60}, but {FORMAT!r} is read; update potstill"
            )
        try:
            return cls._parsed(said)
        except PotstillError as error:
            raise PotstillError(f"{path}: {error}") from error

    @classmethod
    def _parsed(cls, said: Mapping[str, Any]) -> "About":
        def take(name: str, kind: type, of: Mapping[str, Any] = said) -> Any:
            # bool is a kind of int to Python, but not here
            if type(value := of.get(name)) is not kind:
                raise PotstillError(
                    f"its {name} must be of type {kind.__name__}, not {value!r:.60}; get the file again"
                )
            return value

        def names(value: list[Any], what: str) -> tuple[str, ...]:
            if not all(isinstance(v, str) for v in value):
                raise PotstillError(f"its {what} must be names; get the file again")
            return tuple(value)

        classes = names(take("classes", list), "classes")
        networks = take("networks", list)
        if not all(isinstance(n, dict) for n in networks):
            raise PotstillError("its networks must be objects; get the file again")
        views = dict(take("views", dict))
        kind = views.pop("kind", None)
        if kind not in ("recorded", "philox4x32-10"):
            raise PotstillError(f"its views are of kind {kind!r:.60}, which is not known; update potstill")
        statistics = said.get("statistics", "running")
        if statistics not in get_args(Statistics):
            raise PotstillError(f"its statistics are {statistics!r:.60}, which are not known; update potstill")
        return cls(
            classes=classes,
            items=take("items", int),
            content_hash=take("content_hash", str),
            epochs=take("epochs", int),
            coding=Coding(
                classes=len(classes), top_k=take("top_k", int), dtype=take("dtype", str),
                temperature=take("temperature", float), level=take("level", bool), packed=said["format"] == FORMAT,
            ),
            views=Recorded.from_json(views) if kind == "recorded" else Views.from_json(views),
            networks=tuple((take("name", str, n), take("hash", str, n)) for n in networks),
            version=take("version", str),
            statistics=statistics,
            batch=take("batch", int) if "batch" in said else None,
        )  # fmt: skip

    def check(self, classes: tuple[str, ...], content_hash: str) -> None:
        """Refuse these labels for data with other classes, another order of classes, or other inputs.

        Raises:
            PotstillError: they do not belong together; both orders are shown.
        """
        same_order(self.classes, classes, "the labels", "the data")
        if content_hash != self.content_hash:
            raise PotstillError(
                f"these labels are of inputs {self.content_hash[:12]}…, but the data are {content_hash[:12]}…; label "
                "these data, or give those that were labelled, in their order"
            )


def same_order(one: tuple[str, ...], other: tuple[str, ...], whose: str, whom: str) -> None:
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
