"""One door to everything that methods need made before their first step."""

from collections.abc import Callable, Sequence
from typing import Any

from potstill.assets.networks import obtain_networks
from potstill.assets.records import obtain_record
from potstill.core import AssetSpec, Augmentation, NetworkFactory, Source
from potstill.execution import Executor

__all__ = ["obtain"]


def obtain(
    specs: Sequence[AssetSpec],
    train: Source,
    make: NetworkFactory,
    augmentation: Callable[[str], Augmentation],
    *,
    executor: Executor | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[dict[str, Any], float]:
    """What ``specs`` ask for, by name, and the seconds of computing that went into it, now or in an earlier run.

    Args:
        train, make: the data and the architecture, of those that name no other.
        augmentation: an augmentation by name.
        executor: where networks are trained; results do not depend on it.
        progress: called with what is made, how many are there, how many there will be.

    Raises:
        PotstillError: a network did not stay finite, or a recipe names one that cannot be made.
    """
    made: dict[str, Any] = {}
    total = 0.0
    for spec in specs:
        augment = augmentation(str(spec.recipe.get("augment", "none")) if train.input.kind == "image" else "none")
        one = obtain_networks if spec.kind == "networks" else obtain_record
        made[spec.name], seconds = one(spec, train, make, augment, executor=executor, progress=progress)
        total += seconds
    return made, total
