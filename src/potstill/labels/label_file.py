"""Soft labels for every epoch and crop in one file, read by memory map: a safetensors file of format
``potstill-labels/2`` without pickles.

Tensors, each (epochs, items, …): ``values``, ``index`` (unless all are kept), ``scale`` (8 or 4 bits), ``level``
(where asked for), as `potstill.labels.codec` says; for imported labels also the fields of
`potstill.augment.imported_views`. What each label's picture looks like is otherwise recomputed from the recipe of
views.

**The pool.** A store may hold fewer epochs than are trained (label pruning: LPLD, arXiv:2410.15919; with fewer bits and
classes LPQLD). Of P stored epochs, training epoch e < P reads epoch e; after that, the epochs are gone through in a new
random order each time: e reads the (e mod P)-th of the order that the seed of the views gives to round ⌊e / P⌋. So each
stored label is used as often as any other, up to one. LPLD draws whole batches from the pool; here views do not depend
on batches, so batches are as mixed as ever.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from potstill.augment.imported_views import ImportedViews
from potstill.augment.integer_ops import FetchInputs, MixPlan
from potstill.augment.view_schedule import ViewSchedule
from potstill.dataset_file.files import DIGEST, DIGEST_PLACEHOLDER
from potstill.dataset_file.memmap_safetensors import FileLayout, TensorField, open_memmap, plan_layout
from potstill.errors import PotstillError
from potstill.functional.counter_rng import random_permutation
from potstill.labels.codec import LabelCodec
from potstill.labels.metadata import FileMetadata, LabelMetadata
from potstill.rng import derive_seed

__all__ = [
    "LabelFile", "StoredLabels", "check_epoch_number", "count_items", "hash_inputs", "label_file_bytes",
    "plan_label_file",
]  # fmt: skip

M = TypeVar("M", bound=FileMetadata)


CHECKED = 2**28
"""Largest file that is checked against its hash when it is opened (a fraction of a second); larger ones by ``potstill
verify``."""


def plan_label_file(about: LabelMetadata) -> FileLayout:
    """Return the layout of the file that the metadata describe, to the byte."""
    rows = about.coding.fields() | (about.views.fields() if isinstance(about.views, ImportedViews) else {})
    fields = {n: TensorField(kind, (about.epochs, about.items, *shape)) for n, (kind, shape) in rows.items()}
    description = json.dumps(about.to_json(), ensure_ascii=False, separators=(",", ":"))
    return plan_layout(fields, {"labels": description, DIGEST: DIGEST_PLACEHOLDER})


def label_file_bytes(
    items: int, classes: Sequence[str] | int, epochs: int, top_k: int | None = None, dtype: str = "float16",
    *, level: bool = False,
) -> int:  # fmt: skip
    """Return the tensor bytes that a file will have, before anything is written (`LabelFile.nbytes`).

    Args:
        items: inputs of the set.
        classes: their names in label order, or only how many.
        epochs: stored ones (the pool, where there is one).
        top_k, dtype, level: as for `LabelCodec`; all classes if ``top_k`` is ``None``.
    """
    k = classes if isinstance(classes, int) else len(classes)
    return items * epochs * LabelCodec(classes=k, top_k=top_k or k, dtype=dtype, level=level).bytes_per_row()


def _is_small(path: Path) -> bool:
    try:
        return path.stat().st_size <= CHECKED
    except (OSError, ValueError):
        return False  # whoever reads it says what is wrong


def count_items(inputs: Tensor | FetchInputs, items: int | None) -> int:
    """Return the number of inputs: ``items`` where ``inputs`` is a function.

    Raises:
        PotstillError: it is not known, or there is none.
    """
    n = len(inputs) if isinstance(inputs, Tensor) else items
    if n is None or n < 1:
        raise PotstillError(f"labels need at least one item, but the number of items is {n}; give inputs, or items=n")
    return n


def hash_inputs(inputs: Tensor | FetchInputs, items: int | None = None, chunk: int = 256) -> str:
    """Return the SHA-256 of the inputs in their order: type, shape and bytes.

    Args:
        inputs: all of them (n, …), or a function from indices to inputs, which is called for ``chunk`` at a time.
        items: n, where ``inputs`` is a function.
    """
    n, digest = count_items(inputs, items), hashlib.sha256()
    for first in range(0, n, chunk):
        index = torch.arange(first, min(n, first + chunk))
        x = inputs[first : first + chunk] if isinstance(inputs, Tensor) else inputs(index)
        if first == 0:
            digest.update(json.dumps([str(x.dtype), n, *x.shape[1:]]).encode())
        digest.update(x.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class StoredLabels(ABC, Generic[M]):
    """An open file from which labels of any items of any training epoch come, in any order and number.

    It can be sent to other processes, which open the file for themselves.

    Attributes:
        path: of the file.
        about: what it says of itself.
        nbytes: of the tensors in the file.
        file_bytes: of the whole file, with its description.
    """

    def __init__(self, path: Path, about: M, nbytes: int) -> None:
        self.path, self.about, self.nbytes = path, about, nbytes
        self.file_bytes = path.stat().st_size

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (type(self), self.path, self.about)

    def __len__(self) -> int:
        return self.about.items

    def check(self, classes: Sequence[str], content_hash: str) -> None:
        """Refuse these labels for data with other classes, another order of classes, or other inputs.

        Args:
            classes: the data's, in label order.
            content_hash: of the inputs that training will see (`hash_inputs`).

        Raises:
            PotstillError: they do not belong together; both orders are shown.
        """
        self.about.check(tuple(classes), content_hash)

    def view(self, inputs: Tensor | FetchInputs, epoch: int, index: Int[Tensor, " m"]) -> Tensor:
        """Return the views that the teacher saw of the items at ``index`` in a stored epoch.

        Args:
            inputs: all items (n, …), or a function from indices to items; those that were labelled (`check`).

        Raises:
            PotstillError: there is no such epoch or item, or the inputs are not such as were labelled.
        """
        self._check(epoch, index)
        if isinstance(inputs, Tensor) and len(inputs) != len(self):
            raise PotstillError(
                f"{self.path}: labels of {len(self)} items, but there are {len(inputs)} inputs; give those"
            )
        views = self.about.views
        if isinstance(views, ViewSchedule):
            return views.view(inputs, epoch, index, len(self))
        return views.view(inputs, self._recorded_fields(epoch), index, len(self))

    def mixed(
        self, values: Float[Tensor, " n"], epoch: int, index: Int[Tensor, " m"], shape: tuple[int, ...]
    ) -> Float[Tensor, " m"]:
        """Mix ``values`` of the items as `view` mixes the items: each view's own and its partner's, in their shares.

        Args:
            values: a number of every item.
            epoch, index: as for `view`.
            shape: of a view (c, h, w).

        Raises:
            PotstillError: there is no such epoch or item.
        """
        self._check(epoch, index)
        views, index = self.about.views, index.cpu().long()
        if isinstance(views, ViewSchedule):
            mixes = views.mixes(epoch, index, len(self), shape)
        else:
            mixes = views.mixes(self._recorded_fields(epoch), index, len(self), shape)
        return _mix_values(values, index, mixes)

    @abstractmethod
    def stored_epoch(self, epoch: int) -> int:
        """Return the stored epoch that training epoch ``epoch`` reads.

        Raises:
            PotstillError: epochs are numbered from 0.
        """

    @abstractmethod
    def batch_of(
        self, inputs: Tensor | FetchInputs, epoch: int, index: Int[Tensor, " m"], temperature: float | None = 1.0
    ) -> tuple[Tensor, Float[Tensor, "m k"]]:
        """Return a training batch: the views of the items at ``index`` in training epoch ``epoch``, and their labels.

        Args:
            inputs: all items, or a function that fetches some.
            epoch: of training, from 0; those beyond the stored ones read the pool again. Hand it over with the index,
                not by an attribute of a dataset: a worker that lives for several epochs would not see that change.
            index: int64, any batch in any order.
            temperature: of the rows; ``None``: logits.

        Returns:
            Views (m, …) where the inputs are, and rows (m, k), those of a file of rows on the CPU.
        """

    def _recorded_fields(self, epoch: int) -> dict[str, NDArray[Any]]:
        """Return the fields of imported views of a stored epoch."""
        return {}

    def _check(self, epoch: int, index: Tensor) -> None:
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise PotstillError(
                f"{self.path}: items 0…{len(self) - 1} are stored, but {int(index.min())}…{int(index.max())} were "
                "needed; check the index"
            )


class LabelFile(StoredLabels[LabelMetadata]):
    """An open file of label rows, read by memory map: the system keeps one copy of what is read."""

    def __init__(self, path: str | Path) -> None:
        """Open a file; nothing of it is run or believed unchecked, and no value is read yet.

        Raises:
            PotstillError: the file is missing, cut off, foreign, of a newer format, or contradicts itself: one line.
        """
        path = Path(path)
        self._fields, metadata = open_memmap(path, check=_is_small(path))
        about = LabelMetadata.read(path, metadata)
        planned = plan_label_file(about)
        wanted = {name: (field.dtype, field.shape) for name, (_, field) in planned.fields.items()}
        found = {name: (array.dtype, array.shape) for name, array in self._fields.items()}
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                raise PotstillError(
                    f"{path}: {name[:40]!r} must be {_field_text(wanted.get(name))} by its description, but it is "
                    f"{_field_text(found.get(name))}; get the file again"
                )
        super().__init__(path, about, planned.tensor_bytes)

    def stored_epoch(self, epoch: int) -> int:
        check_epoch_number(epoch)
        turn, place = divmod(epoch, self.about.epochs)
        views = self.about.views
        return _order(views.seed if isinstance(views, ViewSchedule) else 0, self.about.epochs, turn)[place]

    def decode(self, epoch: int, index: Int[Tensor, " m"], temperature: float = 1.0) -> Float[Tensor, "m k"]:
        """Return the teacher's probabilities at ``temperature`` for the items at ``index`` in a stored epoch.

        Returns:
            float32 rows that sum to 1, in label order, on the CPU; see `potstill.labels.codec` for what is exact.

        Raises:
            PotstillError: there is no such epoch or item, or what is stored cannot be: the file is damaged.
        """
        return self.about.coding.rows(self._stored_rows(epoch, index), temperature)

    def logits(self, epoch: int, index: Int[Tensor, " m"]) -> Float[Tensor, "m k"]:
        """Return the teacher's logits, if they were stored with their level; otherwise as `decode`."""
        return self.about.coding.logits(self._stored_rows(epoch, index))

    def kept_mass(self, most: int = 1024) -> float:
        """Return the mean total probability of the kept classes at the file's temperature.

        Args:
            most: labels that are looked at, from the first.
        """
        index = torch.arange(min(most, len(self)))
        return float(self.about.coding.kept_mass(self._stored_rows(0, index), self.about.coding.temperature).mean())

    def batch_of(
        self, inputs: Tensor | FetchInputs, epoch: int, index: Int[Tensor, " m"], temperature: float | None = 1.0
    ) -> tuple[Tensor, Float[Tensor, "m k"]]:
        stored = self.stored_epoch(epoch)
        view = self.view(inputs, stored, index)
        return view, self.logits(stored, index) if temperature is None else self.decode(stored, index, temperature)

    def _recorded_fields(self, epoch: int) -> dict[str, NDArray[Any]]:
        return {name: values[epoch] for name, values in self._fields.items()}

    def _stored_rows(self, epoch: int, index: Tensor) -> dict[str, NDArray[Any]]:
        self._check(epoch, index)
        places = index.cpu().numpy()
        return {name: self._fields[name][epoch][places] for name in self.about.coding.fields()}

    def _check(self, epoch: int, index: Tensor) -> None:
        if not 0 <= epoch < self.about.epochs:
            raise PotstillError(
                f"{self.path}: epochs 0…{self.about.epochs - 1} are stored, but {epoch} was requested; stored_epoch "
                "says which one a training epoch reads"
            )
        super()._check(epoch, index)


def check_epoch_number(epoch: int) -> None:
    """Refuse a negative number of a training epoch."""
    if epoch < 0:
        raise PotstillError(f"epochs are numbered from 0, but epoch {epoch} was requested; check the number")


def _mix_values(values: Float[Tensor, " n"], index: Int[Tensor, " m"], mixes: MixPlan | None) -> Float[Tensor, " m"]:
    """Mix ``values`` of items in the shares of a mix: each view's own and its partner's."""
    values_of_views = values[index.to(values.device)]
    if mixes is None:
        return values_of_views
    share = mixes.share.to(values)
    return share * values_of_views + (1 - share) * values[mixes.partner.to(values.device)]


@lru_cache(maxsize=8)
def _order(seed: int, epochs: int, turn: int) -> tuple[int, ...]:
    return (
        tuple(range(epochs))
        if turn == 0
        else tuple(random_permutation(derive_seed(seed, "pool"), epochs, turn).tolist())
    )


def _reopened(kind: Callable[[Path], StoredLabels[Any]], path: Path, about: FileMetadata) -> StoredLabels[Any]:
    store = kind(path)
    if store.about != about:
        raise PotstillError(f"{path}: became another file while it was in use; begin again with the one that is there")
    return store


def _field_text(field: tuple[Any, tuple[int, ...]] | None) -> str:
    return "left out" if field is None else f"{field[0]} {list(field[1])!r:.80}"
