"""Augmentation of students: a protocol's augmentation, without what would make the task's targets wrong."""

from collections.abc import Callable, Mapping

from potstill.augment.dc import dc, dc_batch_norm
from potstill.augment.frepo import frepo, frepo_noflip
from potstill.augment.geometry import can_mix_targets
from potstill.augment.names import describe_dropped, fit_to_source, load_augmentation
from potstill.augment.per_frame import for_frames
from potstill.core import Augmentation, Source
from potstill.evaluation.protocol import Protocol
from potstill.tasks import get_task

__all__ = ["omitted_augmentations", "student_augmentation"]

_PUBLISHED: Mapping[str, Callable[[], Augmentation]] = {
    "dc": dc, "dc-batch-norm": dc_batch_norm, "frepo": frepo, "frepo-noflip": frepo_noflip,
}  # fmt: skip
"""Augmentations for protocols only: not (twice) differentiable, so no method may name them."""


def _named(name: str, source: Source) -> Augmentation:
    return for_frames(_PUBLISHED[name](), source.input) if name in _PUBLISHED else load_augmentation(name, source)


def student_augmentation(name: str, source: Source) -> Augmentation:
    """Return a protocol's augmentation ``name`` as it applies to ``source``.

    Digits are not flipped, and pixels are moved only where the task's targets stay valid or move along
    (`potstill.evaluation.student.fit` moves them).

    Raises:
        PotstillError: there is no such name.
    """
    return fit_to_source(_named(name, source), source, moves_targets=True)


def omitted_augmentations(name: str, protocol: Protocol, source: Source) -> list[str]:
    """Return a line for each part of the augmentation ``name`` and of the protocol's mix that ``source`` rules out."""
    said = describe_dropped(name, _named(name, source), source, moves_targets=True)
    lines = [] if said is None else [said]
    if protocol.recipe.mix != "none" and not can_mix_targets(task := get_task(source)):
        lines.append(
            f"{protocol.recipe.mix} left out, which mixes pictures: task {task.name} does not say what becomes of its "
            "targets then"
        )
    return lines
