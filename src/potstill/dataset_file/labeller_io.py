"""The labeller of a set: a small network in its file that labels views of its inputs, and the views.

A few inputs with classes teach little. A network of a kilobyte that was trained on all data knows more, but only of
inputs that it is shown. So the file holds both: students learn the network's answers for crops, flips and mixes of
the inputs, as in FKD (Shen & Xing, arXiv:2112.01528), whose labels are stored row by row and take more bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.augment.view_schedule import ViewSchedule
from potstill.codecs import compress_encoded, decode, encode_ints
from potstill.core import Encoded, InputSpec
from potstill.core.nested import iter_batches
from potstill.errors import PotstillError
from potstill.kinds import get_kind
from potstill.nn.quantized_model import ModelSpec, PackedModel, unpack_network

__all__ = [
    "LABELLER",
    "StoredLabeller",
    "labeller_parts",
    "labeller_to_json",
    "pop_labeller",
    "usual_samples",
    "usual_views",
]

LABELLER = "labeller"
"""Part of the bytes, key of the metadata, and first word of the tensors' names."""
SAMPLES, LEAST_SAMPLES, MOST_SAMPLES = 20_000, 1000, 1_000_000
"""Views that students get by default, of large pictures at least, and at most."""
VALUES = 1 << 26
"""Values of the views that students get by default, at most: 256 MiB in float32."""
_PARTS = ("ranges", "channels", "weights")
_DESCRIPTION = "description"
_CHUNK = 500


def usual_views(input: InputSpec, seed: int = 0) -> ViewSchedule:
    """Return the views of pictures: crops of half their area or more, flips where these keep the class, and CutMix of
    half of them; or of rows of a table: mixes of two, value by value (mixup)."""
    if get_kind(input).mixes:
        return ViewSchedule(seed=seed, scale=None, flip=0.0, mix="mixup", mix_prob=1.0)
    flip = 0.5 if input.horizontal_flip else 0.0
    return ViewSchedule(seed=seed, scale=(0.5, 1.0), flip=flip, mix="cutmix", mix_prob=0.5)


def usual_samples(input: InputSpec) -> int:
    """Return the views that students get by default: fewer of large pictures, whose views take more memory."""
    return max(LEAST_SAMPLES, min(SAMPLES, VALUES // input.num_values))


@dataclass(frozen=True, kw_only=True)
class StoredLabeller:
    """A stored network and the views that it labels."""

    packed: PackedModel
    views: ViewSchedule
    samples: int = field(default_factory=lambda: SAMPLES)
    """Views that students get."""

    def describe(self) -> str:
        """Return its architecture in words: ``ConvNet, width 6, 4 bits a weight``."""
        return str(ModelSpec.from_bytes(self.packed.description))

    def network(self, shape: tuple[int, ...], classes: int) -> torch.nn.Module:
        """Return the network: inputs in model space to logits (n, classes).

        Raises:
            PotstillError: its tensors do not fit such inputs and classes.
        """
        return unpack_network(self.packed, shape, classes)

    def label(
        self, inputs: Float[Tensor, "n *input"], classes: int, samples: int | None = None
    ) -> tuple[Float[Tensor, "m *input"], Float[Tensor, "m k"]]:
        """Return views of the inputs and the network's probabilities for them.

        Every input has the same number of views, give or take one; views of one number are one epoch of the schedule.

        Args:
            inputs: of the set, in model space.
            classes: k.
            samples: m; default: as stored. Never fewer than the inputs.

        Returns:
            Views in model space, and rows that sum to 1.
        """
        network = self.network(tuple(inputs.shape[1:]), classes).to(inputs.device)
        n, wanted = len(inputs), max(len(inputs), self.samples if samples is None else samples)
        epochs = [torch.arange(min(n, wanted - first)) for first in range(0, wanted, n)]
        x = torch.cat([self.views.view(inputs, epoch, index) for epoch, index in enumerate(epochs)])
        with torch.no_grad():
            y = torch.cat([network(some).softmax(1) for some in iter_batches(x, _CHUNK)])
        return x, y


def labeller_parts(labeller: StoredLabeller | None) -> dict[str, Encoded]:
    """Return the encoded tensors by their names in the file; none where there is no labeller."""
    if labeller is None:
        return {}
    description = encode_ints(torch.tensor(list(labeller.packed.description)))
    coded = {name: compress_encoded(getattr(labeller.packed, name)) for name in _PARTS}
    return {f"{LABELLER}/{name}": part for name, part in {_DESCRIPTION: description, **coded}.items()}


def labeller_to_json(labeller: StoredLabeller | None) -> dict[str, Any]:
    """Return the metadata of the labeller: number of views, and their settings that are not the defaults of
    `ViewSchedule`; empty where there is none."""
    if labeller is None:
        return {}
    usual = ViewSchedule().to_json()
    views = {name: value for name, value in labeller.views.to_json().items() if value != usual[name]}
    return {LABELLER: {"views": views, "samples": labeller.samples}}


def pop_labeller(encoded: dict[str, Encoded], metadata: Mapping[str, Any]) -> StoredLabeller | None:
    """Remove the labeller's tensors and return it; ``None``: the set has none.

    Raises:
        PotstillError: it is damaged, or for other inputs than those of the set.
    """
    names = (_DESCRIPTION, *_PARTS)
    held = {name: encoded.pop(f"{LABELLER}/{name}") for name in names if f"{LABELLER}/{name}" in encoded}
    described = metadata.get(LABELLER)
    if described is None and not held:
        return None
    if set(held) != set(names) or not isinstance(described, Mapping):
        raise PotstillError(
            f"a labeller needs the tensors {', '.join(names)} and its metadata, but it has {sorted(held)}; get the "
            "file again"
        )
    samples, views = described.get("samples"), described.get("views")
    if type(samples) is not int or not 1 <= samples <= MOST_SAMPLES or not isinstance(views, Mapping):
        raise PotstillError(f"its labeller has no views, or not 1 to {MOST_SAMPLES:,} of them; get the file again")
    codes = decode(held.pop(_DESCRIPTION)).flatten()
    if codes.numel() > 64 or bool(((codes < 0) | (codes > 255)).any()):
        raise PotstillError("its labeller's description must be a few bytes; get the file again")
    packed = PackedModel(description=bytes(codes.tolist()), **held)
    schedule = ViewSchedule.from_json({**ViewSchedule().to_json(), **views})
    labeller = StoredLabeller(packed=packed, views=schedule, samples=samples)
    _check_labelled(metadata["input"]["kind"], labeller, tuple(metadata["input"]["shape"]), len(metadata["classes"]))
    return labeller


def _check_labelled(kind: str, labeller: StoredLabeller, shape: tuple[int, ...], classes: int) -> None:
    """Check that a labeller is for inputs of such a shape and so many classes.

    Raises:
        PotstillError: it is not.
    """
    of = get_kind(kind)
    if not ((of.augmentable and len(shape) == 3) or (of.mixes and len(shape) == 1)) or classes < 2:
        raise PotstillError(
            f"a labeller is for pictures or rows with classes, but these are {kind[:40]} {list(shape)}; leave it out"
        )
    if len(shape) == 1 and labeller.views.needs_images:
        raise PotstillError("a labeller's views of rows are mixes alone, but its file asks for crops; get it again")
    if labeller.views.size is not None:
        raise PotstillError("a labeller's views have the size of the pictures; leave size out")
    labeller.network(shape, classes)
