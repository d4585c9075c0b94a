"""``potstill import``."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from potstill._util.progress import ProgressReporter
from potstill.cli.checks import check_exists
from potstill.cli.command import Answer, DataCommand, ForceOption, Parsed, optional
from potstill.cli.reading import data_words, load_data, set_summary

__all__ = ["Import"]


@dataclass(frozen=True, kw_only=True)
class Import(ForceOption, DataCommand):
    """Read a set that another program released, and write it as a set of Potstill. Nothing in its files is run.

    dc: res_*.pt of DC, DSA, DM; mtt: images_best.pt with labels_best.pt; datm: with lr_best.pt as well; idc: data.pt;
    ncfm: data_N.pt; folder: images in a folder for each class (SRe2L, RDED, EDC); dilm: texts, dataset_N.json;
    graphslim: nodes of a graph, feat_*.pt with label_*.pt, and adj_*.pt.
    Normalised or whitened tensors are converted back to pixels by --mean and --std, --known or --data.
    """

    path: Annotated[Positional[Path], arg(metavar="PATH")]
    """The file, or the folder that it lies in."""
    out: Annotated[Path, arg(metavar="SET.safetensors")]
    """The set to write."""
    format: Annotated[
        Literal["dc", "mtt", "datm", "idc", "ncfm", "folder", "dilm", "graphslim"] | None,
        optional("dc|mtt|datm|idc|ncfm|folder|dilm|graphslim"),
    ] = None
    """Format of the files (else by their names)."""
    known: Annotated[str | None, optional("NAME")] = None
    """Known name of the data, for published constants and class names: cifar10, mnist, …; they are not read."""
    data: Annotated[str | None, optional("DATA")] = None
    """The real data that it was made of: read for class names, hash and constants; texts for their vectors."""
    mean: Annotated[tuple[float, ...] | None, optional("M ...")] = None
    """Mean of each channel that was subtracted."""
    std: Annotated[tuple[float, ...] | None, optional("S ...")] = None
    """Standard deviation that each channel was then divided by."""
    zca: Annotated[Literal["mtt", "frepo"] | None, optional("mtt|frepo")] = None
    """The tensors are whitened as in these papers; needs --data, on which the whitening is fitted."""
    factor: Annotated[int | None, optional("F")] = None
    """For idc and ncfm: images along a side of each stored one (else from the path, as in factor2)."""
    run: Annotated[int | None, optional("N")] = None
    """For dc: index of the experiment in the file; for dilm: of the file in the folder; from 0 (else the last)."""
    lr: Annotated[float | None, optional("LR")] = None
    """Learning rate that was learned with the set, where no file has it."""
    method: Annotated[str | None, optional("NAME")] = None
    """Method that made the set (else by the names of the files)."""

    main_options: ClassVar[tuple[str, ...]] = (
        "out", "format", "known", "data", "mean", "std", "zca", "method", "force",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"One format": ("factor", "run", "lr")}
    examples: ClassVar[tuple[str, ...]] = (
        "potstill import res_DC_CIFAR10_ConvNet_10ipc.pt --known cifar10 --out dc.safetensors",
    )
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": (".safetensors",)}

    def check(self) -> None:
        check_exists([self.path])

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill._util.outputs import check_output
        from potstill.dataset_file.replacing import is_set_file
        from potstill.interop.import_set import import_set
        from potstill.interop.texts import describe_classes

        check_output(self.out, force=self.force or is_set_file(self.out))
        small = import_set(
            self.path, self.format, known=self.known,
            data=None if self.data is None else load_data(parsed, self.data, progress), mean=self.mean,
            std=self.std, zca=self.zca, factor=self.factor, run=-1 if self.run is None else self.run,
            lr=self.lr, method=self.method, size=self.reading.size,
        )  # fmt: skip
        small.files = (*small.files, str(self.path))
        small.save(self.out, force=self.force)
        following = ["potstill", "evaluate", str(self.out), "--data", self.data or self.known or "DATA"]
        following += data_words(self.reading)
        hint = f"Measure it: {shlex.join(following)}"
        if small.input.kind == "texts":
            hint = "Its texts are captions in Python (docs/guides/share.md); give their --data, too, to measure it"
        elif small.input.kind == "text":
            hint = f"{describe_classes(small.classes)}\n{hint}"
        return Answer(
            {"path": str(self.out), "items": len(small), **small.metadata},
            f"{self.out}: {set_summary(small.metadata, len(small), self.out)}\n{hint}",
        )
