"""An augmentation by name, for given data."""

from potstill.augment.geometry import fit_to_task
from potstill.core import Augmentation, InputSpec, Source, registry
from potstill.kinds import get_kind
from potstill.tasks import MovableTargets, get_task

__all__ = ["augmentation_name", "describe_dropped", "fit_to_source", "load_augmentation", "named_augmentation"]

_NOFLIP = {
    "dsa": "dsa-noflip", "idc-eval": "idc-eval-noflip", "flip": "none", "rrc": "rrc-noflip",
    "pad-crop": "pad-crop-noflip", "patches": "patches-noflip", "cim": "cim-noflip", "flip-rotate": "rotate",
}  # fmt: skip


def augmentation_name(name: str, input: InputSpec) -> str:
    """``name``, or its variant without flip where a mirrored picture is another sign (``InputSpec.mirrored``).

    The published DSA commands leave flip out for MNIST and SVHN, and so does IDC's code.
    """
    return name if input.horizontal_flip else _NOFLIP.get(name, name)


def load_augmentation(name: str, source: Source) -> Augmentation:
    """The registered augmentation as it is, but without flip where the pictures must not be mirrored.

    Raises:
        PotstillError: there is no such name.
    """
    made: Augmentation = registry.resolve("augmentations", augmentation_name(name, source.input))()
    return made


def named_augmentation(name: str, source: Source, *, moves_targets: bool = False) -> Augmentation:
    """The registered augmentation, without flip where the pictures must not be mirrored, and without what moves pixels
    where the task's targets would be wrong then (`potstill.augment.geometry.suited`).

    Args:
        moves_targets: who applies it moves targets along.

    Raises:
        PotstillError: there is no such name.
    """
    return fit_to_source(load_augmentation(name, source), source, moves_targets=moves_targets)


def fit_to_source(augment: Augmentation, source: Source, *, moves_targets: bool = False) -> Augmentation:
    """The augmentation without what would make the source's targets wrong."""
    return fit_to_task(augment, get_task(source), moves_targets=moves_targets)[0]


def describe_dropped(name: str, augment: Augmentation, source: Source, *, moves_targets: bool = False) -> str | None:
    """What `fitting` leaves out of the augmentation of that name, in one line; ``None`` where it is nothing."""
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
