"""``label``: a teacher's labels of a distilled set, for every epoch and crop, written once and read by students.

Or those that others have published of it, in the layout of FKD (`potstill.labels.fkd`).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from potstill._util.outputs import check_output
from potstill._util.progress import Callback
from potstill.augment.view_schedule import ViewSchedule
from potstill.core import NetworkFactory, Source, registry
from potstill.dataset_file import Distilled, load
from potstill.errors import PotstillError, PotstillWarning, unknown_name
from potstill.evaluation import Protocol
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.distilled_training import make_views
from potstill.evaluation.evaluate import normalize_like
from potstill.evaluation.fitting import check_compatible, network_from_metadata
from potstill.evaluation.teacher_labels import labeller_names, resolve_labeller
from potstill.execution import Executor, resolve_executor
from potstill.execution.memory import keep_freed_memory
from potstill.labels.fkd import import_fkd
from potstill.labels.label_file import LabelFile, hash_inputs, label_file_bytes
from potstill.labels.metadata import TEACHER_BITS
from potstill.labels.teacher_file import Labels, teacher_file_bytes, write_teacher
from potstill.labels.write import RowSettings, WriteSettings, resolve_pool, write_labels
from potstill.nn import CustomNetwork, default_network_name, factory, parse_network
from potstill.runs.load_data import as_splits, pick_device

__all__ = ["label", "label_bytes"]


@dataclass(frozen=True, kw_only=True)
class _Task:
    """Everything that is known before teachers are trained."""

    small: Distilled
    source: Source
    protocol: Protocol
    make: NetworkFactory
    views: ViewSchedule
    epochs: int

    @property
    def networks(self) -> list[str]:
        """Names of the teachers."""
        return labeller_names(self.protocol, self.small, self.source, self.make)

    def row_settings(self, top_k: int | None, dtype: str | None) -> RowSettings:
        """Return how each label is stored."""
        teaching = self.protocol.teaching
        return RowSettings(
            top_k=top_k, dtype=dtype or "float16", temperature=teaching.temperature, level=teaching.loss == "mse"
        )

    def bytes(self, pool: int | None, top_k: int | None, dtype: str | None) -> dict[str, int]:
        """Return the bytes of rows and, where it can be stored, of the teacher."""
        classes, row = self.source.classes, self.row_settings(top_k, dtype)
        rows = label_file_bytes(
            len(self.small), classes, resolve_pool(self.epochs, pool), top_k, row.dtype, level=row.level,
        )  # fmt: skip
        try:
            kind = teacher_type(dtype)
            return {"rows": rows, "teacher": teacher_file_bytes(self.networks, self.source.input, len(classes), kind)}
        except PotstillError:  # a network of the user's own, which no file can build
            return {"rows": rows}


def teacher_type(dtype: str | None) -> str:
    """Return the type of a teacher's weights that are stored beside rows of ``dtype``."""
    return dtype if dtype in TEACHER_BITS else "uint8"


def label(
    distilled: Distilled | str | Path,
    data: Any,
    out: str | Path,
    *,
    protocol: str | Protocol = "sre2l",
    network: str | CustomNetwork | Callable[..., Any] | None = None,
    store_as: str = "rows",
    pool: int | None = None,
    top_k: int | None = None,
    dtype: str | None = None,
    fkd: str | Path | None = None,
    force: bool = False,
    seed: int = 0,
    device: str = "auto",
    executor: Executor | str | None = None,
    progress: Callback | None = None,
    **overrides: Any,
) -> Labels:
    """Store a teacher's soft labels of every view of a set that a protocol's students will see, or the teacher itself.

    Killed at any moment and called again with the same arguments, it continues and ends with the same bytes.

    Args:
        distilled: a set, or the path of one.
        data: the data that it was made of: anything `potstill.load_data` takes or returns. Teachers are trained on the
            training split, or taken from the cache. They are those that made the set, unless the protocol names others
            (`potstill.evaluation.teacher_labels`).
        out: the file of labels.
        protocol: a protocol in which a teacher labels, by name or as a value; it fixes the teachers, the views, the
            epochs and the temperature.
        network: the student that will be trained; the teacher has its architecture where the protocol names no other.
            Default: the network that the set was made with.
        store_as: ``rows`` of labels (`potstill.labels.label_file`), the ``teacher`` with its weights in few bits, which
            labels again on request (`potstill.labels.teacher_file`), or ``auto``: the smaller of both.
        pool: for rows: epochs to store, fewer than are trained (`potstill.labels.label_file`). Default: all epochs.
        top_k: for rows: classes of each row to store, the most likely ones. Default: all.
        dtype: type of the stored numbers: ``float16``, ``uint8`` or ``uint4`` for rows (default: ``float16``),
            ``uint8`` or ``uint4`` for a teacher (default: ``uint8``).
        fkd: folder of published labels of this very set (``epoch_0``, ``epoch_1``, …, as SRe2L writes them), which are
            stored in place of new ones, with their own crops; nothing is trained, and no code of it is run. Its views
            have the size of the images, and its images the order of the set, which is that of an export's files.
            Default: none.
        force: replace what is at ``out``, if it is not these labels or a part of them.
        seed: seed of the views.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: where teachers are trained, as for `potstill.distill`. Default: as many processes as help.
        progress: callback ``progress(name, done, total)``. Default: silent.
        **overrides: fields of the protocol.

    Returns:
        The labels, which students read: `potstill.evaluate` takes their file as ``stored``.

    Raises:
        PotstillError: the protocol's labels are the set's own, its views cannot be stored, the set does not fit, the
            teacher cannot be stored in such a file; or the folder is incomplete or of another set.

    Examples:
        >>> small = potstill.distill("digits", "random", ipc=1, progress=None)
        >>> labels = potstill.label(
        ...     small, "digits", "small.labels", network="convnet-w16-d2", epochs=2, teacher_epochs=10
        ... )
        >>> pathlib.Path("small.labels").exists()
        True
    """
    keep_freed_memory()
    runner = resolve_executor(executor)
    # What cannot be written is found before teachers are trained.
    check_output(out, reads=[distilled, data, network, fkd], force=True)
    task = _task(distilled, data, protocol, network, seed, device, overrides)
    if store_as not in (known := ("rows", "teacher", "auto")):
        raise unknown_name("way to store labels", store_as, known)
    small, seen, said = task.small, task.source, task.protocol
    x = small.model_space()
    assert isinstance(x, Tensor)
    if fkd is not None:
        return _published(task, x, Path(fkd), Path(out), store_as, pool, top_k, dtype, force, progress)
    if store_as == "teacher":
        _check_teacher(task, pool, top_k, dtype)
    sizes = task.bytes(pool, top_k, dtype)
    if store_as == "auto":
        store_as = "teacher" if sizes.get("teacher", sizes["rows"]) < sizes["rows"] else "rows"
    x = x.to(seen.device)
    shared = (
        said.for_set_size(len(x), len(seen.classes)).recipe.batch
        if said.teaching.teacher_statistics == "batch"
        else 256
    )
    labeller = resolve_labeller(said, small, seen, task.make, lambda n: student_augmentation(n, seen), progress, runner)
    if labeller.warning is not None:
        warnings.warn(labeller.warning, PotstillWarning, stacklevel=2)
    assert labeller.teachers is not None
    experts = labeller.teachers.experts(seen.classes)
    if store_as == "teacher":
        return write_teacher(
            out, experts, x, task.views, classes=seen.classes, input=seen.input, dtype=teacher_type(dtype),
            settings=WriteSettings(statistics=said.teaching.teacher_statistics, batch=shared, replace=force),
        )  # fmt: skip
    return write_labels(
        out, experts, x, task.views, classes=seen.classes,
        epochs=task.epochs, pool=pool,
        rows=task.row_settings(top_k, dtype),
        settings=WriteSettings(
            statistics=said.teaching.teacher_statistics, batch=shared, replace=force,
            progress=None if progress is None else lambda done, total: progress("labels", done, total),
        ),
    )  # fmt: skip


def _published(
    task: _Task, x: Tensor, folder: Path, out: Path, store_as: str, epochs: int | None, top_k: int | None,
    dtype: str | None, force: bool, progress: Callback | None,
) -> LabelFile:  # fmt: skip
    if store_as != "rows" or x.ndim != 4:
        raise PotstillError("published labels are rows of pictures; leave `store_as=` out, and give a set of pictures")
    picture = (x.shape[2], x.shape[3])
    return import_fkd(
        folder, out, classes=task.source.classes, items=len(x), picture=picture, size=picture,
        epochs=epochs,
        rows=task.row_settings(top_k, dtype),
        settings=WriteSettings(
            inputs_hash=hash_inputs(x), replace=force,
            progress=None if progress is None else lambda done, total: progress("labels", done, total),
        ),
    )  # fmt: skip


def label_bytes(
    distilled: Distilled | str | Path,
    data: Any,
    *,
    protocol: str | Protocol = "sre2l",
    network: str | CustomNetwork | Callable[..., Any] | None = None,
    pool: int | None = None,
    top_k: int | None = None,
    dtype: str | None = None,
    device: str = "auto",
    **overrides: Any,
) -> dict[str, int]:
    """Bytes that `label` would store as ``rows`` and as ``teacher``, to the byte, without training anything.

    A teacher that no file can build, which is one of the user's own code, has no entry. Arguments as for `label`.
    """
    return _task(distilled, data, protocol, network, 0, device, overrides).bytes(pool, top_k, dtype)


def _task(
    distilled: Distilled | str | Path, data: Any, protocol: str | Protocol,
    network: str | CustomNetwork | Callable[..., Any] | None, seed: int, device: str, overrides: dict[str, Any],
) -> _Task:  # fmt: skip
    small = load(distilled) if isinstance(distilled, str | Path) else distilled
    resolved: Protocol = registry.resolve("protocols", protocol) if isinstance(protocol, str) else protocol
    resolved = resolved.override(**overrides) if overrides else resolved
    train = as_splits(data, pick_device(device), small.metadata).train
    check_compatible(small, train)
    seen = normalize_like(train, small)
    name = (
        parse_network(network) or resolved.network or network_from_metadata(small) or default_network_name(seen.input)
    )
    make = factory(name, seen.input, len(seen.classes), seen.device, normalization=seen.normalization)
    said = resolved.resolve(seen.name, make.name, seen.input)
    views = make_views(said, student_augmentation(said.recipe.augment, seen), seed)
    epochs = (said.recipe.epochs or 0) + said.recipe.extra_epoch
    return _Task(small=small, source=seen, protocol=said, make=make, views=views, epochs=epochs)


def _check_teacher(task: _Task, pool: int | None, top_k: int | None, dtype: str | None) -> None:
    """Refuse settings that a stored teacher does not have, and teachers that no file can build."""
    if pool is not None or top_k is not None:
        raise PotstillError(
            "a stored teacher labels every epoch and all classes, but pool or top_k was given; leave them out, or "
            "store rows"
        )
    if dtype is not None and dtype not in TEACHER_BITS:
        raise unknown_name("type of a teacher's weights", dtype, tuple(TEACHER_BITS))
    teacher_file_bytes(task.networks, task.source.input, len(task.source.classes))
