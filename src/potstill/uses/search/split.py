"""The part of the training data that decides in a search."""

from potstill.core import Source
from potstill.data import SourceView, stratify
from potstill.data.groups import get_groups
from potstill.errors import PotstillError
from potstill.rng import derive_seed
from potstill.tasks import Classification, get_task

__all__ = ["split_training"]


def split_training(train: Source, fraction: float, seed: int) -> tuple[Source, Source]:
    """Return the samples that candidates are trained on, and those that decide."""
    if not isinstance(get_task(train), Classification) or train.input.parts:
        raise PotstillError(
            f"a search needs data with classes and inputs of one tensor, but {train.name} has task "
            f"{get_task(train).name} and {train.input.kind} inputs; give others"
        )
    part = min(fraction, 2000 / max(1, len(train)))
    kept, held = stratify(train.labels, part, derive_seed(seed, "search") % 2**31, get_groups(train))
    if len(set(train.labels[held].tolist())) < 2:
        raise PotstillError(
            f"{train.name}: the samples that decide must be of two classes or more, but {len(held)} of them are of "
            f"{len(set(train.labels[held].tolist()))}; give more data or a larger part"
        )
    views = (SourceView(source=train, normalization=train.normalization, index=at) for at in (kept, held))
    first, second = (
        train.subset(view.index) if hasattr(train, "subset") else view for view in views
    )  # fmt: skip
    return first, second
