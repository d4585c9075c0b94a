"""``potstill export``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataCommand, ForceOption, Misuse, Parsed, SetArgument, optional
from potstill.cli.reading import load_data
from potstill.cli.text import plural

__all__ = ["Export"]

_SUFFIXES = {
    "npz": (".npz",), "parquet": (".parquet", ".pq"), "indices": (".safetensors",), "c-header": (".h",),
    "npz-integers": (".npz",),
}  # fmt: skip
_INTEGERS = ("c-header", "npz-integers")


@dataclass(frozen=True, kw_only=True)
class Export(ForceOption, DataCommand):
    """Write a distilled set in a form that other programs read.

    hf is a folder that Hugging Face's datasets.load_dataset reads, with a dataset card and a program that trains on it.
    coco and yolo are pictures with boxes, wav is sounds to listen to, graphslim nodes of a graph for GraphSlim. Of a
    selection also: files, the selected images or sounds of a folder; hf with --data, the selected rows as they are
    there; and indices, the set without its inputs, which `potstill materialize` puts together again. c-header and
    npz-integers are for devices without Python: inputs of 8 or 4 bits.
    """

    file: SetArgument
    """The distilled set."""
    to: Annotated[
        Literal[
            "png",
            "coco",
            "yolo",
            "npz",
            "parquet",
            "csv",
            "jsonl",
            "webdataset",
            "wav",
            "graphslim",
            "files",
            "hf",
            "indices",
            "c-header",
            "npz-integers",
        ],
        arg(
            metavar="png|coco|yolo|npz|parquet|csv|jsonl|webdataset|wav|graphslim|files|hf|indices|c-header|npz-integers"
        ),
    ]
    """The form."""
    out: Annotated[Path, arg(metavar="PATH")]
    """The folder (png, coco, yolo, webdataset, wav, graphslim, files, hf) or file (the others) to write."""
    data: Annotated[str | None, optional("DATA")] = None
    """For files, and for hf of a selection's original rows: the real data that it was made of."""
    link: Annotated[Literal["copy", "hard", "symbolic"], arg(metavar="copy|hard|symbolic")] = "copy"
    """For files: copy them, or link to the originals."""
    license: Annotated[str | None, optional("ID")] = None
    """For hf: licence of the set, as the Hub names it (cc-by-4.0); usually that of its source."""
    bits: Annotated[Literal[8, 4] | None, optional("8|4")] = None
    """For c-header and npz-integers: bits of an input value (else 8)."""

    examples: ClassVar[tuple[str, ...]] = ("potstill export small.safetensors --to png --out pictures",)
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ()}

    def output_suffixes(self) -> Mapping[str, tuple[str, ...]]:
        return {"out": _SUFFIXES.get(self.to, ())}

    def check(self) -> None:
        if self.to != "hf" and (self.data is None) == (self.to == "files"):
            needs = "needs the data that the selection was made of: --data DATA"
            raise Misuse(f"export: --to {self.to} {needs if self.data is None else 'needs no --data; leave it out'}")
        if self.license is not None and (self.to != "hf" or self.data is not None):
            raise Misuse("export: --license stands on the card of --to hf without --data; leave it out")

        if self.bits is not None and self.to not in _INTEGERS:
            raise Misuse(f"export: --bits is of --to {' and '.join(_INTEGERS)}; leave it out")

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.api.export import export, export_selection
        from potstill.dataset_file import load, require_selection

        small = load(self.file)
        if self.data is None:
            written = export(small, self.to, self.out, license=self.license, bits=self.bits, force=self.force)
        else:
            require_selection(small, f"an export to {self.to}")
            splits = load_data(parsed, self.data, progress, small.metadata, selected=True)
            written = export_selection(
                small, self.to, self.out, self.data, splits.train, link=self.link,
                label=splits.reading.get("label"), skip_bad=splits.reading.get("skip_bad", False),
            )  # fmt: skip
        items = len(small) if self.to == "indices" else small.count_training_samples()
        value = {"path": str(written), "to": self.to, "items": items}
        return Answer(value, f"{written}: {plural(items, 'item' if small.labeller is None else 'labelled view')}")
