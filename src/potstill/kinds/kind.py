"""The value `Kind`, the built-in kinds and their look-up by name.

Packages add kinds under the entry point group ``potstill.kinds``, each a `Kind` by the name in ``InputSpec.kind``.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from potstill._util.graph_drawing import draw_graph
from potstill._util.html import Html
from potstill._util.notebook_repr import inline_image
from potstill.core import InputSpec, registry
from potstill.errors import PotstillError

__all__ = [
    "BUILT_IN",
    "GRAPH",
    "IMAGE",
    "NODE",
    "PAIR",
    "RATINGS",
    "SERIES",
    "SIGNAL",
    "SOUND",
    "TABLE",
    "TEXT",
    "TEXTS",
    "WAVES",
    "Kind",
    "get_kind",
    "is_of_kinds",
    "list_kinds",
]  # fmt: skip


def _size(spec: InputSpec, noun: str) -> str:
    """Return ``pictures of 3×32×32``."""
    return f"{noun} of {'×'.join(map(str, spec.shape))}"


def _columns(spec: InputSpec, noun: str) -> str:
    """Return ``rows of 6 columns``."""
    if len(spec.shape) != 1:
        return _size(spec, noun)
    return f"{noun} of {spec.shape[0]:,} column{'' if spec.shape[0] == 1 else 's'}"


def _numbers(spec: InputSpec, noun: str) -> str:
    """Return ``texts as 64 numbers``."""
    return f"{noun} as {math.prod(spec.shape):,} numbers"


def _features(spec: InputSpec, noun: str) -> str:
    """Return ``nodes of 1,433 features``."""
    return f"{noun} of {math.prod(spec.shape):,} features"


def _rooms(spec: InputSpec, noun: str) -> str:
    """Return ``graphs of up to 28 nodes``."""
    return f"{noun} of up to {spec.shape[0]:,} nodes"


def _items(spec: InputSpec, noun: str) -> str:
    """Return ``users over 1,682 items``."""
    return f"{noun} over {math.prod(spec.shape):,} items"


def _draw_image(x: Any, alt: str) -> Html:
    """Return an inline PNG of an image (c, h, w) with values in [0, 1]."""
    return inline_image(x, alt, 40, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Properties of one kind of input."""

    name: str
    """Value of ``InputSpec.kind``."""
    noun: str = "inputs"
    """Plural noun for samples."""
    axes: tuple[str, ...] = ()
    """Names of a sample's axes; empty where they vary."""
    augmentable: bool = False
    """True where image augmentations and mixing apply: samples are (channels, height, width)."""
    mixes: bool = False
    """True where a mix of two samples, value by value, may stand for a sample."""
    value_range: tuple[float, float] | None = None
    """Range of valid values in data units; ``None``: any."""
    network: str = "mlp"
    """Network where none is named."""
    learner: str = ""
    """Learner that a set is measured with where none is named; empty: the network."""
    augment: str = "none"
    """Augmentation of methods and students where image augmentations do not apply."""
    parametrization: str = "pixels"
    """Parametrization where none is named."""
    draw: Callable[[Any, str], Html] | None = None
    """Returns one sample (a NumPy array, and its text alternative) as `Html`, which `potstill.kinds.tag` makes;
    ``None``: samples are not drawn."""
    size: Callable[[InputSpec, str], str] = _size
    """Returns the size of inputs in words, from their spec and ``noun``."""

    def describe_size(self, spec: InputSpec) -> str:
        """Return the size of inputs in words, such as ``pictures of 3×32×32``."""
        if spec.parts:
            return f"inputs of {' and '.join(name for name, _ in spec.parts)}"
        return self.size(spec, self.noun)


IMAGE = Kind(
    name="image", noun="pictures", axes=("channels", "height", "width"), augmentable=True, value_range=(0.0, 1.0),
    network="convnet", draw=_draw_image,
)  # fmt: skip
"""Images with values in [0, 1]."""
TABLE = Kind(name="table", noun="rows", axes=("columns",), mixes=True, size=_columns)
"""Rows of a table, encoded as numbers."""
SERIES = Kind(name="series", noun="windows", axes=("variables", "time"))
"""Windows of a multivariate series."""
SIGNAL = Kind(name="signal", noun="series", axes=("channels", "time"))
"""Whole series with a class each. Their network is the MLP: through one whose norms forget the scale, `dm` and `dc`
learn series far beyond the data's range at their published rates."""
SOUND = Kind(
    name="sound", noun="sounds", axes=("channels", "bands", "time"), augmentable=True, value_range=(0.0, 1.0),
    network="convnet", draw=_draw_image,
)  # fmt: skip
"""Sounds as log-mel spectrograms with values in [0, 1], which networks take as pictures: `potstill.data.sounds` says
how they are made. They are never flipped."""
WAVES = Kind(name="waves", noun="waves", axes=("channels", "time"))
"""Sampled sound."""
TEXT = Kind(name="text", noun="texts", axes=("representation",), size=_numbers)
"""Texts, each as a vector of numbers: the representation that `potstill.data.text_encoder` makes."""
NODE = Kind(name="node", noun="nodes", axes=("features",), network="linear", size=_features)
"""Nodes of one graph, each as its propagated features: `potstill.data.graph` says how they are made."""
RATINGS = Kind(name="ratings", noun="users", axes=("items",), learner="ntk-autoencoder", size=_items)
"""Users, each as a row over all items, 1 where the user met an item: `potstill.data.ratings` says how they are read."""
GRAPH = Kind(
    name="graph", noun="graphs", axes=("nodes", "features and edges"), network="gin", draw=draw_graph, size=_rooms
)
"""Whole graphs, each as features and edges of its nodes: `potstill.data.graph_sets` says how they are read."""
TEXTS = Kind(name="texts", noun="texts")
"""Texts, as word numbers."""
PAIR = Kind(name="pair", noun="pairs", network="towers")
"""Pairs of an image and a text."""
BUILT_IN = (IMAGE, TABLE, SERIES, SIGNAL, SOUND, WAVES, TEXT, NODE, GRAPH, RATINGS, TEXTS, PAIR)
"""Kinds of this package."""


def get_kind(kind: str | InputSpec) -> Kind:
    """Return the kind of that name, or of inputs with that spec.

    A name that is not registered gives a `Kind` with the defaults: arrays of any shape.

    Raises:
        PotstillError: an installed package registers something else than a `Kind` under the name.
    """
    name = kind if isinstance(kind, str) else kind.kind
    if name not in registry.targets("kinds"):
        return Kind(name=name, noun=f"{name} inputs")
    found = registry.resolve("kinds", name)
    if not isinstance(found, Kind):
        raise PotstillError(f"kind {name} must be a potstill.kinds.Kind, not {type(found).__name__}; correct it")
    return found


def is_of_kinds(input: InputSpec, kinds: Iterable[str]) -> bool:
    """Return True if what is for these kinds takes such an input: its own kind, ``*`` for any, and what is for images
    takes all kinds that image augmentations apply to.

    Examples:
        >>> is_of_kinds(InputSpec(kind="sound", shape=(1, 32, 64)), ("image",))
        True
    """
    names = set(kinds)
    return bool({"*", input.kind} & names) or ("image" in names and get_kind(input).augmentable)


def list_kinds() -> list[Kind]:
    """Return all registered kinds, built-in ones first."""
    return [get_kind(name) for name in registry.names("kinds")]
