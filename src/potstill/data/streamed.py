"""The streaming source: labels and an index in memory, images decoded when they are fetched."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from potstill.core import Batch, InputSpec, Normalization
from potstill.data.attributes import Attribute, select_attribute
from potstill.data.columns import batch_columns
from potstill.data.in_memory import normalize_inplace, to_data_units
from potstill.data.pictures import BadPictureError, decode_image, silence_pillow
from potstill.data.readers import FileReader, Reader, content_digest
from potstill.data.repr import describe_source, source_html
from potstill.errors import PotstillError

__all__ = ["StreamSource", "num_decode_threads", "start_decoding"]

_TASK = 32
"""Images that a thread decodes per task."""


def num_decode_threads() -> int:
    """Return the number of decoding threads: ``$POTSTILL_WORKERS``, else torch's number of threads.

    Pillow lets other threads run while it decodes, resizes and converts. What is left, Python's own part, is small for
    photographs (``benchmarks/streaming.py`` says how small), so threads are enough and nothing is copied between
    processes.

    Raises:
        PotstillError: the variable holds no number above 0.
    """
    setting = os.environ.get("POTSTILL_WORKERS", "")
    if setting and not (setting.isdecimal() and int(setting) > 0):
        raise PotstillError(f"POTSTILL_WORKERS must be a whole number above 0, not {setting!r}; leave it unset for all")
    return int(setting) if setting else torch.get_num_threads()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="potstill-decode")


def _decode(
    reader: Reader, places: Sequence[int], out: npt.NDArray[np.uint8], bad: dict[int, str] | None
) -> None:  # fmt: skip
    """Decode the images at ``places`` into ``out`` (m, c, h, w)."""
    size = (out.shape[2], out.shape[3])
    with silence_pillow():
        for i, (place, content) in enumerate(zip(places, reader.read(places), strict=True)):
            try:
                x, _ = decode_image(content, size)
            except BadPictureError as error:
                if bad is None:
                    raise PotstillError(
                        f"{reader.where(place)}: {error}; `skip_bad=True` leaves such files out"
                    ) from None
                bad[place] = str(error)
                continue
            out[i] = x.transpose(2, 0, 1)[: out.shape[1]]


def start_decoding(
    reader: Reader, places: Int[Tensor, " m"], shape: tuple[int, ...], bad: dict[int, str] | None = None
) -> Callable[[], UInt8[Tensor, "m c h w"]]:
    """Start decoding the images at ``places``, ascending, and return a function that waits for them.

    With one thread, decoding happens when that function is called.

    Args:
        shape: (c, h, w); with c = 1 the first channel is kept.
        bad: where broken pictures are noted by place, with the reason; ``None``: they raise.
    """
    threads = num_decode_threads()
    listed: list[int] = places.tolist()
    out = np.empty((len(listed), *shape), dtype=np.uint8)
    if threads == 1:

        def decode_now() -> Tensor:
            for i in range(0, len(listed), _TASK):
                _decode(reader, listed[i : i + _TASK], out[i : i + _TASK], bad)
            return torch.from_numpy(out)

        return decode_now
    step = max(1, min(_TASK, -(-len(listed) // threads)))
    tasks: list[Future[None]] = [
        _pool(threads).submit(copy_context().run, _decode, reader, listed[i : i + step], out[i : i + step], bad)
        for i in range(0, len(listed), step)
    ]

    def wait() -> Tensor:
        try:
            for task in tasks:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
        return torch.from_numpy(out)

    return wait


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamSource:
    """Images of one split on disk (a ``core.Source``): labels and an index in memory.

    A fetch reads in the order of the disk, whatever the order of its index. There is no cache beside the system's own
    of files: over data larger than memory a random draw would nearly always miss it.

    Legend: n samples, c h w a picture.
    """

    name: str
    input: InputSpec
    classes: tuple[str, ...]
    """Class names in label order."""
    normalization: Normalization
    reader: Reader
    places: Int[Tensor, " n"]
    """Position of each sample in the reader."""
    labels: Int[Tensor, " n"]
    """int64 in [0, number of classes), on the CPU."""
    groups: Int[Tensor, " n"] | None = None
    """Group number of each sample; ``None``: no groups."""
    attribute: Attribute | None = None
    """Attribute of each sample; ``None``: read without one."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Device of fetched batches."""
    hash_cache: dict[str, str] = field(default_factory=dict, repr=False)
    """The content hash once computed, shared by copies with another normalization or device."""

    def __post_init__(self) -> None:
        if len(self.places) != len(self.labels):
            raise PotstillError(
                f"{self.name}: {len(self.places)} pictures but {len(self.labels)} labels; give one each"
            )

    @property
    def content_hash(self) -> str:
        """Return ``encoded:`` and the SHA-256 of spec, class names, labels and encoded image bytes.

        The pictures are read once for it and not decoded, so it is another hash than that of the same data in memory.
        """
        if "hash" not in self.hash_cache:
            spec = [self.input.kind, self.input.shape, self.input.units, self.classes, len(self)]
            digest_ = hashlib.sha256(json.dumps(spec).encode())
            digest_.update(self.labels.contiguous().numpy().data)
            digest_.update(content_digest(self.reader, (int(p) for p in self.places)))
            self.hash_cache["hash"] = f"encoded:{digest_.hexdigest()}"
        return self.hash_cache["hash"]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the file of each sample; empty if images are not files."""
        if not isinstance(self.reader, FileReader):
            return ()
        return tuple(self.reader.name(place) for place in self.places.tolist())

    def __repr__(self) -> str:
        return describe_source(self)

    def _repr_html_(self) -> str:
        return source_html(self, pictures=False)

    def __len__(self) -> int:
        return len(self.labels)

    def start_fetch(self, index: Int[Tensor, " m"], /) -> Callable[[], Batch]:
        """Start decoding the samples at ``index``, and return a function that waits for the batch."""
        at, wait = index.cpu(), self._start_raw(index)

        def finish() -> Batch:
            x = normalize_inplace(wait(), self.normalization)
            return Batch(x, self.labels[at].to(self.device), batch_columns(self, at, self.device))

        return finish

    def fetch(self, index: Int[Tensor, " m"], /) -> Batch:
        """Return the samples at ``index``: inputs in model space, int64 labels, and columns, on ``device``.

        Raises:
            PotstillError: a picture is broken or no longer there; it is named.
        """
        return self.start_fetch(index)()

    def _start_raw(self, index: Tensor) -> Callable[[], Tensor]:
        """Start decoding each image at ``index`` once, in the order of the disk."""
        once, place = torch.unique(self.places[index.cpu()], return_inverse=True)
        wait = start_decoding(self.reader, once, self.input.shape)

        def finish() -> Tensor:
            decoded = wait()
            if not torch.equal(place, torch.arange(len(decoded))):
                decoded = decoded.index_select(0, place)
            return to_data_units(decoded.to(self.device))

        return finish

    def raw(self, index: Int[Tensor, " m"], /) -> Tensor:
        """Return the inputs at ``index`` in data units (float32; pixels in [0, 1]), on ``device``."""
        return self._start_raw(index)()

    def to(self, device: torch.device | str, /) -> "StreamSource":
        """Return the same source with batches on ``device``."""
        return replace(self, device=torch.device(device), normalization=self.normalization.to(device))

    def subset(self, index: Int[Tensor, " m"], /) -> "StreamSource":
        """Return the samples at ``index`` as a source with the same classes and normalization."""
        index = index.cpu()
        groups = None if self.groups is None else self.groups[index]
        return replace(
            self, places=self.places[index], labels=self.labels[index], groups=groups, hash_cache={},
            attribute=select_attribute(self.attribute, index),
        )  # fmt: skip
