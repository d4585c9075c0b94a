"""Stored teachers: quantized networks in a safetensors file of format ``potstill-teacher/1``, without pickles and
code.

It labels each view as it is made, so no epoch is left out and no class dropped, in the bytes of the teacher alone
however many epochs and classes there are. Its networks are built by name, as a card's are, and get the numbers of
`potstill.labels.quantized_network`. Views are those of a file of rows with the same seed
(`potstill.labels.label_file`).
"""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

from potstill._util.outputs import REPLACE_HINT
from potstill.augment.integer_ops import FetchInputs
from potstill.augment.view_schedule import ViewSchedule
from potstill.core import InputSpec
from potstill.dataset_file.files import check_writable, read_metadata, read_tensors, write_tensors
from potstill.errors import PotstillError
from potstill.labels.label_file import LabelFile, StoredLabels, check_epoch_number, count_items, hash_inputs
from potstill.labels.metadata import TEACHER_BITS, TEACHER_FORMAT, TeacherMetadata, check_class_order, parse_description
from potstill.labels.quantized_network import layout_hash, quantize_networks, restore_networks, tensor_sizes
from potstill.labels.write import DEFAULT_WRITING, LabelTeacher, WriteSettings, hash_network, mean_logits
from potstill.nn import build_on_meta, factory

__all__ = ["Labels", "TeacherFile", "open_labels", "teacher_file_bytes", "write_teacher"]

_MOST = 2**36
"""Largest file in bytes that can be a teacher's."""


class TeacherFile(StoredLabels[TeacherMetadata]):
    """An open teacher file: networks in evaluation mode, built by name from the file, label any training epoch."""

    def __init__(self, path: str | Path) -> None:
        """Open a file; nothing of it is run or believed unchecked.

        Raises:
            PotstillError: the file is missing, damaged, foreign, of a newer format, or not of the networks that it
                names: one line.
        """
        path = Path(path)
        tensors, metadata = read_tensors(path, _MOST)
        about = TeacherMetadata.read(path, metadata)
        bits, spec, k = TEACHER_BITS[about.dtype], about.input, len(about.classes)
        try:
            outlines = [build_on_meta(name, spec, k) for name, _ in about.networks]
            for (name, _), outline, layout in zip(about.networks, outlines, about.layouts, strict=True):
                if layout_hash(outline) != layout:
                    raise PotstillError(
                        f"its tensors must be laid out as those of {name:.60}, but they are not; it is of another "
                        "network, or of another release of potstill"
                    )
            # Before memory is taken for networks that the file does not hold.
            wanted = {part: size for part, (_, size) in tensor_sizes(outlines, bits).items()}
            if wanted != (found := {part: t.numel() for part, t in tensors.items()}):
                raise PotstillError(f"its networks need tensors of {wanted}, but it holds {found!r:.200}; get it again")
            made = [factory(name, spec, k)(0) for name, _ in about.networks]
            restore_networks(made, tensors, bits)
        except PotstillError as error:
            raise PotstillError(f"{path}: {error}") from error
        self._experts = [
            LabelTeacher(name=name, network=network.eval().requires_grad_(False), classes=about.classes)
            for (name, _), network in zip(about.networks, made, strict=True)
        ]
        super().__init__(path, about, sum(t.nbytes for t in tensors.values()))

    def stored_epoch(self, epoch: int) -> int:
        check_epoch_number(epoch)
        return epoch

    def label(self, view: Tensor) -> Float[Tensor, "m k"]:
        """Return logits of inputs in model space, on their device, without a graph."""
        for expert in self._experts:
            expert.network.to(view.device)
        return mean_logits(self._experts, view, self.about.statistics)

    def batch_of(
        self, inputs: Tensor | FetchInputs, epoch: int, index: Int[Tensor, " m"], temperature: float | None = 1.0
    ) -> tuple[Tensor, Float[Tensor, "m k"]]:
        view = self.view(inputs, self.stored_epoch(epoch), index)
        logits = self.label(view)  # batch statistics are those of the views asked for at once
        return view, logits if temperature is None else (logits / temperature).softmax(1)


Labels: TypeAlias = LabelFile | TeacherFile
"""An open label file."""


def open_labels(path: str | Path) -> Labels:
    """Open a file of rows or of a teacher.

    Raises:
        PotstillError: it is neither: one line.
    """
    path = Path(path)
    if path.is_file() and parse_description(path, read_metadata(path, 2**48))[1] == TEACHER_FORMAT:
        return TeacherFile(path)
    return LabelFile(path)


def teacher_file_bytes(networks: Sequence[str], input: InputSpec, classes: int, dtype: str = "uint8") -> int:
    """Return the bytes that a stored teacher will have (`TeacherFile.nbytes`), before it is trained.

    Args:
        networks: names of its networks.
        input: what they eat.
        classes: how many.
        dtype: "uint8" or "uint4".

    Raises:
        PotstillError: a network cannot be built by its name alone.
    """
    sizes = tensor_sizes([build_on_meta(name, input, classes) for name in networks], TEACHER_BITS[dtype])
    return sum(kind.itemsize * count for kind, count in sizes.values())


def write_teacher(
    path: str | Path,
    teachers: Sequence[LabelTeacher],
    inputs: Tensor | FetchInputs,
    views: ViewSchedule,
    *,
    classes: Sequence[str],
    input: InputSpec,
    items: int | None = None,
    dtype: str = "uint8",
    settings: WriteSettings = DEFAULT_WRITING,
) -> TeacherFile:
    """Store teachers whose mean logits label the views of a set. Arguments as for `write_labels`, and:

    Args:
        input: what the networks eat: kind and shape of a view.
        dtype: of their weights, "uint8" or "uint4".

    Raises:
        PotstillError: a teacher's class order differs, a network is not what its name builds, a number is not finite,
            or another file is there: one line.
    """
    path, names = Path(path), tuple(classes)
    for expert in teachers:
        check_class_order(expert.classes, names, f"the teacher {expert.name!r}", "the data")
    n = count_items(inputs, items)
    about = TeacherMetadata(
        classes=names, items=n, content_hash=settings.inputs_hash or hash_inputs(inputs, n), dtype=dtype,
        input=InputSpec(kind=input.kind, shape=tuple(input.shape)), views=views,
        networks=tuple((expert.name, hash_network(expert.network)) for expert in teachers),
        layouts=tuple(layout_hash(expert.network) for expert in teachers), version=version("potstill"),
        statistics=settings.statistics, batch=settings.batch if settings.statistics == "batch" else None,
    )  # fmt: skip
    for expert, layout in zip(teachers, about.layouts, strict=True):
        if layout_hash(build_on_meta(expert.name, input, len(names))) != layout:
            raise PotstillError(
                f"a stored teacher is built by its name, but {expert.name!r} names another network than was given; "
                "name it rightly, or store rows"
            )
    check_writable(path)
    if path.exists():
        if _same(path, about):
            return TeacherFile(path)
        if not settings.replace:
            raise PotstillError(f"{path}: another file is there; {REPLACE_HINT}")
    description = json.dumps(about.to_json(), ensure_ascii=False, separators=(",", ":"))
    write_tensors(path, quantize_networks([e.network for e in teachers], TEACHER_BITS[dtype]), {"labels": description})
    return TeacherFile(path)


def _same(path: Path, about: TeacherMetadata) -> bool:
    try:
        return TeacherFile(path).about == about
    except PotstillError:
        return False
