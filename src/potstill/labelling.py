"""``label``: a teacher's labels of a distilled set, for every epoch and crop, written once and read by students."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from potstill import registry
from potstill.api import as_splits, default_network, pick_device
from potstill.evaluation import Protocol
from potstill.evaluation.evaluate import as_seen, carded_network, check_fit, student_augmentation
from potstill.evaluation.taught import teachers_of, views_of
from potstill.execution.memory import keep_freed_memory
from potstill.nn import OwnNetwork, factory, given
from potstill.storage import Distilled, check_writable, load
from potstill.supervise.store import LabelStore, forecast
from potstill.supervise.writer import pool_of, write_labels

__all__ = ["label"]


def label(
    distilled: Distilled | str | Path,
    data: Any,
    out: str | Path,
    *,
    protocol: str | Protocol = "sre2l",
    network: str | OwnNetwork | Callable[..., Any] | None = None,
    pool: int | None = None,
    top_k: int | None = None,
    dtype: str = "float16",
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
    **overrides: Any,
) -> LabelStore:
    """Write a teacher's labels of every view of a set that a protocol's students will see.

    Killed at any moment and called again with the same arguments, it goes on and ends with the same bytes.

    Args:
        distilled: a set, or the path of one.
        data: what it was made of; teachers are trained on its training split, or taken from the cache.
        out: the file of labels.
        protocol: one in which a teacher labels; it says the teachers, the views, the epochs and the temperature.
        network: the student that will be trained, whose architecture teachers have too where the protocol names none.
        pool: epochs to store, fewer than are trained; see `potstill.supervise.store`.
        top_k, dtype: classes of each row to keep (default: all), and ``float16``, ``uint8`` or ``uint4``.
        seed: decides the views.
        progress: called with what is done, how much of it, and of how much.
        **overrides: fields of the protocol.

    Raises:
        PotstillError: the protocol's labels are the set's own, its views cannot be stored, or the set does not fit.
    """
    keep_freed_memory()
    small = load(distilled) if isinstance(distilled, str | Path) else distilled
    chosen: Protocol = registry.resolve("protocols", protocol) if isinstance(protocol, str) else protocol
    chosen = chosen.override(**overrides) if overrides else chosen
    train = as_splits(data, pick_device(device)).train
    check_fit(small, train)
    seen = as_seen(train, small)
    name = given(network) or chosen.network or carded_network(small) or default_network(seen)
    make = factory(chosen.teacher or name, seen.input, len(seen.classes), seen.device)
    said = chosen.resolve(seen.name, factory(name, seen.input, len(seen.classes)).name, seen.input)
    views = views_of(said, student_augmentation(said.augment, seen), seed)
    epochs = (said.epochs or 0) + said.extra_epoch
    # What cannot be written is found before teachers are trained.
    check_writable(Path(out))
    forecast(len(small), seen.classes, pool_of(epochs, pool), top_k, dtype, temperature=said.temperature)
    x = small.model_space().to(seen.device)
    shared = said.sized(len(x), len(seen.classes)).batch if said.teacher_statistics == "batch" else 256
    teachers = teachers_of(said, seen, make, lambda n: student_augmentation(n, seen), progress)
    return write_labels(
        out, teachers.experts(seen.classes), x, views, classes=seen.classes,
        epochs=epochs, pool=pool, top_k=top_k, dtype=dtype,
        temperature=said.temperature, level=said.loss == "mse",
        statistics=said.teacher_statistics, batch=shared,
        progress=None if progress is None else lambda done, total: progress("labels", done, total),
    )  # fmt: skip
