"""Inputs with names, of which one part may have a parametrization of its own.

Parts of real values are optimised; codes and words stay as initialised. ``NAME=PARAMETRIZATION``, such as
``image=tiles:factor=2``, parametrizes one part, in a problem that has this part alone.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Int
from torch import Generator, Tensor

from potstill.codecs import largest_fitting
from potstill.core import (
    Batch,
    DecodeContext,
    Inputs,
    InputSpec,
    Normalization,
    Parametrization,
    Payload,
    Problem,
    RequiresAssets,
    Source,
    StartsFromAssets,
)
from potstill.core.nested import tensor_names
from potstill.core.registry import create
from potstill.errors import PotstillError
from potstill.kinds import get_kind, is_of_kinds
from potstill.parametrize.pixels import Pixels

__all__ = ["NamedInputs", "parse_named_inputs", "parse_parametrization", "supports_input"]

_SHARED = "decoder/"
_SHARES = 1 << 12
"""Steps in which the values of the parametrized part are chosen."""


def parse_parametrization(spelled: str, input: InputSpec) -> Parametrization:
    """Return the parametrization of a name with its settings; of inputs with names also ``NAME=PARAMETRIZATION``.

    Raises:
        PotstillError: as `potstill.core.registry.create` raises it, or there is no such part.
    """
    parametrization: Parametrization = (
        parse_named_inputs(spelled, input) if input.parts else create("parametrizations", spelled)
    )
    return parametrization


def supports_input(spelled: str, input: InputSpec) -> bool:
    """Return whether a parametrization, such as ``tiles:factor=2``, can store these inputs, or just one part of them.

    Raises:
        PotstillError: there is no such parametrization or setting.
    """
    kinds: tuple[str, ...] = getattr(create("parametrizations", spelled), "kinds", ("*",))
    if "*" in kinds:
        return True
    return sum(is_of_kinds(one, kinds) for one in (dict(input.parts).values() or (input,))) == 1


@dataclass(frozen=True, kw_only=True)
class NamedInputs:
    """Inputs with names.

    The payload: tensors of the parts by name; of ``part`` the payload of ``inner`` as ``PART/…`` and its shared tensors
    as
    ``decoder/PART/…``.
    """

    input: InputSpec
    part: str = ""
    """Part that is parametrized; empty: none."""
    inner: Parametrization = field(default_factory=Pixels)

    @property
    def stores_as_is(self) -> bool:
        """True where every part is stored as it is."""
        return not self.part

    @property
    def bounded(self) -> bool:
        """As the part's parametrization."""
        return self.inner.bounded

    @property
    def _spec(self) -> InputSpec:
        return dict(self.input.parts)[self.part]

    def _shares(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        """Return the values of each class for the part, so that the other parts of its inputs fit as well."""
        rest = self.input.num_values - self._spec.num_values

        def share(parts: int) -> tuple[int, ...]:
            return tuple(n * parts // _SHARES for n in numbers)

        def fits(parts: int) -> bool:
            try:
                sizes = self.inner.sizes(share(parts), self._spec.shape)
            except PotstillError:
                return True  # too little for one input: reported where sizes are used
            return all(m + s * rest <= n for m, s, n in zip(share(parts), sizes, numbers, strict=True))

        return share(largest_fitting(fits, _SHARES)) if rest else numbers

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the inputs of each class that its number of values allows; words cost none.

        Raises:
            PotstillError: a class gets no input, or no part has values to optimise.
        """
        if not any(not p.ragged and p.kind != "categories" for _, p in self.input.parts):
            raise PotstillError(
                "these inputs have no values to optimise, only codes, words or parts of any length; choose a selection"
            )
        if self.stores_as_is:
            return Pixels().sizes(numbers, (self.input.num_values,))
        return self.inner.sizes(self._shares(numbers), self._spec.shape)

    def encode(self, x: Any, problem: Problem, rng: Generator, /) -> Payload:
        """Return the payload of initial inputs with names."""
        if self.stores_as_is:
            return dict(x)
        alone = replace(
            problem, train=_Part(problem.train, self.part), value_budget=self._shares(problem.values_per_class),
            parametrization=self.inner,
        )  # fmt: skip
        made = self.inner.encode(x[self.part], alone, rng)
        return {n: t for n, t in x.items() if n != self.part} | {self._outer(n): t for n, t in made.items()}

    def decode(self, payload: Payload, context: DecodeContext, /) -> dict[str, Tensor]:
        """Return inputs by name, grouped by class, differentiable by every floating tensor."""
        if self.stores_as_is:
            return {name: payload[name] for name in tensor_names(self.input)}
        others = [n for n in tensor_names(self.input) if n != self.part]
        mine = {inner: t for n, t in payload.items() if n not in others and (inner := self._inner(n)) is not None}
        decoded = self.inner.decode(mine, replace(context, input=self._spec))
        made = {n: payload[n] for n in others} | {self.part: decoded}
        return {name: made[name] for name in tensor_names(self.input)}

    def _outer(self, name: str) -> str:
        return (
            f"{_SHARED}{self.part}/{name.removeprefix(_SHARED)}" if name.startswith(_SHARED) else f"{self.part}/{name}"
        )

    def _inner(self, name: str) -> str | None:
        for first, now in ((f"{_SHARED}{self.part}/", _SHARED), (f"{self.part}/", "")):
            if name.startswith(first):
                return now + name.removeprefix(first)
        return None


@dataclass(frozen=True)
class _Part:
    """Source of one part of another source's inputs."""

    source: Source
    part: str

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def input(self) -> InputSpec:
        return dict(self.source.input.parts)[self.part]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    @property
    def normalization(self) -> Normalization:
        return self.source.normalization.parts[self.part]

    @property
    def labels(self) -> Int[Tensor, " n"]:
        return self.source.labels

    @property
    def device(self) -> Any:
        return self.source.device

    @property
    def content_hash(self) -> str:
        return self.source.content_hash

    def __len__(self) -> int:
        return len(self.source)

    def fetch(self, index: Int[Tensor, " m"], /) -> Batch:
        batch = self.source.fetch(index)
        return replace(batch, x=self._of(batch.x))

    def raw(self, index: Int[Tensor, " m"], /) -> Inputs:
        return self._of(self.source.raw(index))

    def _of(self, x: Inputs) -> Tensor:
        assert not isinstance(x, Tensor)
        return x[self.part]

    def to(self, device: Any, /) -> "_Part":
        return _Part(self.source.to(device), self.part)


def parse_named_inputs(spelled: str, input: InputSpec) -> NamedInputs:
    """Return the parametrization of inputs with names: ``pixels``, ``PART=PARAMETRIZATION``, or a parametrization alone
    where one part is an image.

    Raises:
        PotstillError: there is no such part, not one image, or the parametrization requires assets.
    """
    first, equals, rest = spelled.partition("=")
    if equals and ":" not in first:
        known = [name for name, p in input.parts if not p.ragged and p.kind != "categories"]
        if first not in known:
            raise PotstillError(f"a part of values may have a parametrization, {' or '.join(known)}, but not {first!r}")
    elif spelled == "pixels":
        return NamedInputs(input=input)
    else:
        images = [name for name, p in input.parts if get_kind(p).augmentable]
        if len(images) != 1:
            raise PotstillError(
                f"these inputs have {len(images)} parts that are images; say which one has the parametrization, as "
                f"in {input.parts[0][0]}={spelled}"
            )
        first, rest = images[0], spelled
    inner: Parametrization = create("parametrizations", rest)
    if isinstance(inner, RequiresAssets | StartsFromAssets):
        raise PotstillError(
            f"parametrization {rest} requires assets of whole inputs, so {first!r} alone cannot have it; take another"
        )
    return NamedInputs(input=input) if isinstance(inner, Pixels) else NamedInputs(input=input, part=first, inner=inner)
