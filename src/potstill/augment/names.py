"""Augmentations by name, suited to given data."""

from potstill.augment.geometry import fit_to_task
from potstill.augment.per_frame import for_frames
from potstill.core import Augmentation, InputSpec, Source, registry
from potstill.kinds import get_kind
from potstill.tasks import MovableTargets, get_task

__all__ = ["augmentation_name", "describe_dropped", "fit_to_source", "load_augmentation", "named_augmentation"]

_NOFLIP = {
    "dsa": "dsa-noflip", "idc-eval": "idc-eval-noflip", "flip": "none", "rrc": "rrc-noflip",
    "pad-crop": "pad-crop-noflip", "patches": "patches-noflip", "cim": "cim-noflip", "flip-rotate": "rotate",
}  # fmt: skip


def augmentation_name(name: str, input: InputSpec) -> str:
    """Return ``name``, or its variant without flip if images must not be flipped (``InputSpec.mirrored``).

    As the published DSA commands and IDC's code for MNIST and SVHN.
    """
    return name if input.horizontal_flip else _NOFLIP.get(name, name)


def load_augmentation(name: str, source: Source) -> Augmentation:
    """Return the registered augmentation, without flip if images must not be flipped, and by frame for clips.

    Raises:
        PotstillError: the name is unknown.
    """
    augmentation: Augmentation = registry.resolve("augmentations", augmentation_name(name, source.input))()
    return for_frames(augmentation, source.input)


def named_augmentation(name: str, source: Source, *, moves_targets: bool = False) -> Augmentation:
    """Return the registered augmentation without flips and operations that would make targets wrong.

    See `potstill.augment.geometry.fit_to_task`.

    Args:
        moves_targets: True if the caller moves targets along.

    Raises:
        PotstillError: the name is unknown.
    """
    return fit_to_source(load_augmentation(name, source), source, moves_targets=moves_targets)


def fit_to_source(augment: Augmentation, source: Source, *, moves_targets: bool = False) -> Augmentation:
    """Return the augmentation without operations that make the source's targets wrong."""
    return fit_to_task(augment, get_task(source), moves_targets=moves_targets)[0]


def describe_dropped(name: str, augment: Augmentation, source: Source, *, moves_targets: bool = False) -> str | None:
    """Describe in one line what `fit_to_source` drops from the augmentation of that name; ``None`` for nothing."""
    task = get_task(source)
    wrong = fit_to_task(augment, task, moves_targets=moves_targets)[1]
    if not wrong or not get_kind(source.input).augmentable:
        return None
    why = f"task {task.name} does not say what becomes of its targets then"
    if isinstance(task, MovableTargets) and moves_targets:
        why = f"the targets of task {task.name} must move along, and this augmentation does not say by how much"
    elif isinstance(task, MovableTargets):
        why = f"targets of task {task.name} move along where students are trained, and not in a method"
    if wrong == ("*",):
        return f"augmentation {name} left out, which may move pixels: {why}"
    return f"augmentation {name} without {', '.join(wrong)}, which move pixels: {why}"
