"""``potstill label``."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataCommand, ForceOption, JobOptions, Parsed, SetArgument, optional
from potstill.cli.reading import load_data
from potstill.cli.text import plural

if TYPE_CHECKING:
    from potstill.labels.label_file import LabelFile

__all__ = ["Label"]

_LOW_MASS = 0.5
"""Probability below which the stored classes of each label are too few to stand for the teacher's answer."""


@dataclass(frozen=True, kw_only=True)
class Label(ForceOption, JobOptions, DataCommand):
    """Store a teacher's soft labels of a distilled set for every view that students will see, or the teacher itself.

    `potstill evaluate --stored` then reads the file. An interrupted command resumes when it is given again, and ends
    with the same bytes. The protocol's own settings are options too (--protocol NAME --help lists them).
    """

    file: SetArgument
    """The distilled set."""
    data: Annotated[str, arg(metavar="DATA")]
    """The real data that it was made of, on which teachers are trained."""
    out: Annotated[Path, arg(metavar="LABELS.safetensors")]
    """The file to write."""
    protocol: Annotated[str, arg(metavar="NAME")] = "sre2l"
    """Protocol of the students: one of `potstill protocols` in which a teacher labels."""
    network: Annotated[str | None, optional("NAME")] = None
    """The students' network; the teacher has it where neither the set nor the protocol names another."""
    store_as: Annotated[Literal["rows", "teacher", "auto"], arg(metavar="rows|teacher|auto")] = "rows"
    """Store the labels; the teacher itself, which labels on demand; or what takes fewer bytes."""
    top_k: Annotated[int | None, optional("K")] = None
    """Classes of each label to store (else all)."""
    dtype: Annotated[Literal["float16", "uint8", "uint4"] | None, optional("float16|uint8|uint4")] = None
    """Type of each stored number (else float16 for labels, uint8 for a teacher)."""
    pool: Annotated[int | None, optional("E")] = None
    """Epochs to store, where fewer than are trained (else all)."""
    fkd: Annotated[Path | None, optional("FOLDER")] = None
    """Store the labels in this folder, as FKD and SRe2L publish them, of this set (its images sorted by class): with
    their own crops, and nothing is trained."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of the views."""

    options_of: ClassVar[Literal["method", "protocol"] | None] = "protocol"
    main_options: ClassVar[tuple[str, ...]] = (
        "data", "out", "protocol", "network", "store_as", "top_k", "dtype", "pool", "fkd", "seed",
    )  # fmt: skip
    examples: ClassVar[tuple[str, ...]] = ("potstill label small.safetensors --data photos/ --out labels.safetensors",)
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": (".safetensors",)}

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.api.label import label, label_bytes
        from potstill.dataset_file import load
        from potstill.labels.label_file import LabelFile

        small = load(self.file)
        splits = load_data(parsed, self.data, progress, small.metadata)
        keywords: dict[str, Any] = {
            "protocol": self.protocol, "network": self.network, "pool": self.pool, "top_k": self.top_k,
            "dtype": self.dtype, "device": self.device, **parsed.options,
        }  # fmt: skip
        sizes = label_bytes(small, splits, **keywords) if self.fkd is None else {}
        labels = label(
            small, splits, self.out, store_as=self.store_as, fkd=self.fkd, force=self.force, seed=self.seed,
            executor=self.executor_spec, progress=progress.report_count, **keywords,
        )  # fmt: skip
        metadata = labels.about.to_json()
        value = {
            "path": str(self.out), "bytes": labels.nbytes, "file_bytes": labels.file_bytes, "bytes_as": sizes,
            "command": parsed.line, **metadata,
        }  # fmt: skip
        if isinstance(labels, LabelFile):
            value["kept_mass"] = labels.kept_mass()
            text = _rows_text(labels, sizes)
        else:
            text = (
                f"the teacher itself, {labels.nbytes:,} bytes, {metadata['dtype']}: it labels whenever it is asked "
                f"(rows would take {sizes['rows']:,} bytes)"
            )
        network = "" if self.network is None else f" --network {shlex.quote(self.network)}"
        return Answer(
            value,
            f"{self.out}: {text}\nMeasure with them: potstill evaluate {shlex.quote(str(self.file))} --data "
            f"{shlex.quote(self.data)} --protocol {self.protocol}{network} --stored {shlex.quote(str(self.out))}",
        )


def _rows_text(labels: "LabelFile", sizes: Mapping[str, int]) -> str:
    about = labels.about
    each = labels.nbytes / (about.epochs * about.items)
    text = (
        f"labels of {plural(about.items, 'item')} in {about.epochs:,} epochs, {labels.nbytes:,} bytes "
        f"({each:.1f} a label)"
    )
    coding = about.coding
    if coding.top_k < coding.classes:
        mass = labels.kept_mass()
        text += (
            f"; those kept, {coding.top_k:,} of {coding.classes:,} classes, have {100 * mass:.2g} % of the "
            f"probability at temperature {coding.temperature:g}"
        )
        if mass < _LOW_MASS:
            text += ", and the rest is stored as even: keep more, or train at a lower temperature"
    if (teacher := sizes.get("teacher")) is not None and teacher < labels.nbytes:
        text += (
            f"\nSmaller: the teacher itself, {teacher:,} bytes ({labels.nbytes / teacher:.1f} times less) and nothing "
            "left out: --store-as teacher"
        )
    return text
