"""The parts of a run: those that are asked for, and what a method's own give way to where they do not fit the data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from potstill.augment.names import augmentation_name, describe_dropped, load_augmentation
from potstill.core import InputSpec, Method, Source
from potstill.core.registry import make_method
from potstill.errors import PotstillError
from potstill.kinds import get_kind
from potstill.nn import default_network_name
from potstill.nn.pretrained import is_backbone
from potstill.parametrize._shared import ReducedResolution
from potstill.parametrize.named_inputs import parse_parametrization, supports_input

__all__ = ["PARTS", "apply_parts", "default_network", "default_parametrization", "describe_omitted_augmentations"]

PARTS = ("network", "augment", "parametrization", "labels")
"""The fields of a method that name a part, and that have an option of their own."""


def default_network(source: Source) -> str:
    """The network used where none is named."""
    return default_network_name(source.input)


def apply_parts(name: str, method: Method[Any], source: Source, asked: Mapping[str, str | None]) -> Method[Any]:
    """The method with the parts that were asked for; defaults that only suit pictures give way for other data."""
    fields: Mapping[str, Any] = dataclasses.asdict(method)  # type: ignore[call-overload]
    changes: dict[str, str] = {}
    for axis, value in asked.items():
        if axis in fields:
            if value is not None:
                made = make_method(method, {axis: value})[1]  # checks the choice where the method names its choices
                changes[axis] = getattr(made, axis)
        elif axis == "labels" and value in (None, "soft" if method.info.soft_labels else "hard"):
            continue
        elif axis != "network" and value is not None:
            raise PotstillError(f"method {name} has no {axis} to choose, but {value!r} was asked for; leave it out")
    if "network" in fields and asked.get("network") is None:
        chosen = fields["network"]
        # a frozen backbone takes pictures, too; one that a value names beside its class's default is asked for
        backbone = (
            chosen == _defaults(method)["network"] and is_backbone(chosen) and not get_kind(source.input).augmentable
        )
        changes["network"] = default_network(source) if chosen == "convnet" or backbone else chosen
    if "augment" in fields:
        chosen = asked.get("augment") or (fields["augment"] if get_kind(source.input).augmentable else "none")
        changes["augment"] = augmentation_name(chosen, source.input)
    return dataclasses.replace(method, **changes)  # type: ignore[type-var]


def default_parametrization(
    name: str, method: Method[Any], train: Source, named: bool
) -> tuple[Method[Any], tuple[str, ...]]:
    """The method with inputs stored as they are, and that this was done, where its own parametrization stores another
    kind of input, or where its own tiles or bases would have too few pixels.

    Args:
        named: the method was given by its name. One that is a value keeps what differs from its class's default, and
            small tiles.
    """
    own = getattr(method, "parametrization", None)
    if own is None or not (named or own == _defaults(method)["parametrization"]):
        return method, ()
    if not supports_input(own, train.input):
        said = (
            f"parametrization pixels (inputs as they are): {own}, which {name} has by default, stores pictures, and "
            f"this is {_kind(train.input)}"
        )
        return dataclasses.replace(method, parametrization="pixels"), (said,)  # type: ignore[type-var]
    shape = train.input.shape
    if (
        not named
        or not get_kind(train.input).augmentable
        or not isinstance(small := parse_parametrization(own, train.input), ReducedResolution)
    ):
        return method, ()
    if min(cell := small.stored_size(shape)) >= small.min_side:
        return method, ()
    said = (
        f"parametrization pixels: {own}, which {name} has by default, would keep pictures of {shape[1]} × {shape[2]} "
        f"pixels in cells of {cell[0]} × {cell[1]}, which costs more than the samples that it adds bring"
    )
    return dataclasses.replace(method, parametrization="pixels"), (said,)  # type: ignore[type-var]


def describe_omitted_augmentations(method: Method[Any], train: Source) -> tuple[str, ...]:
    """What the method's augmentations go without, as the task's targets would be wrong, in lines."""
    fields: Mapping[str, Any] = dataclasses.asdict(method)  # type: ignore[call-overload]
    names = dict.fromkeys(str(value) for field, value in fields.items() if field.startswith("augment"))
    said = (describe_dropped(name, load_augmentation(name, train), train) for name in names)
    return tuple(line for line in said if line is not None)


def _defaults(method: Method[Any]) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(method)}  # type: ignore[arg-type]


def _kind(input: InputSpec) -> str:
    return "a series" if input.kind == "series" else f"a {input.kind}"
