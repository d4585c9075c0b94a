"""Search spaces: candidates are a network with a learning rate, a weight decay and an augmentation."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from potstill.core import InputSpec
from potstill.errors import PotstillError
from potstill.kinds import get_kind
from potstill.nn import CustomNetwork, parse_network
from potstill.rng import generator

__all__ = [
    "ACTIVATIONS", "DEPTHS", "NORMS", "POOLINGS", "WIDTHS", "Candidate", "convnet_grid", "default_networks",
    "draw_candidates", "product",
]  # fmt: skip

WIDTHS, DEPTHS = (32, 64, 128, 256), (1, 2, 3, 4)
NORMS = ("nonorm", "batch", "layer", "instance", "group")
ACTIVATIONS = ("sigmoid", "relu", "leaky")
POOLINGS = ("nopool", "max", "avg")
LR, WEIGHT_DECAY, AUGMENT = 2e-3, 0.0, "none"

Network = str | CustomNetwork | Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network and the settings that it is trained with."""

    network: str | CustomNetwork
    lr: float = LR
    """Largest learning rate of AdamW, which falls along a cosine to zero."""
    weight_decay: float = WEIGHT_DECAY
    """Decoupled weight decay of AdamW."""
    augment: str = AUGMENT
    """Augmentation of the batches (`potstill augmentations` lists them)."""

    def __post_init__(self) -> None:
        if not 0 < self.lr < float("inf"):
            raise PotstillError(f"a learning rate must be a number above 0, not {self.lr}; change it")
        if not 0 <= self.weight_decay < float("inf"):
            raise PotstillError(f"a weight decay must be a number of at least 0, not {self.weight_decay}; change it")

    @property
    def name(self) -> str:
        """Name of the candidate: of its network, with the settings that are not the usual ones."""
        settings = (("lr", self.lr, LR), ("wd", self.weight_decay, WEIGHT_DECAY), ("augment", self.augment, AUGMENT))
        parts = [
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value, usual in settings if value != usual
        ]  # fmt: skip
        return " ".join([str(self.network), *parts])


def convnet_grid(
    *,
    widths: Sequence[int] = WIDTHS,
    depths: Sequence[int] = DEPTHS,
    norms: Sequence[str] = NORMS,
    activations: Sequence[str] = ACTIVATIONS,
    poolings: Sequence[str] = POOLINGS,
) -> tuple[str, ...]:
    """Return names of ConvNets of a grid; by default the published 720 (DC, arXiv:2006.05929)."""
    return tuple(
        "-".join(["convnet", f"d{d}", f"w{w}", *([a] if a != "relu" else []), n, p])
        for w, d, n, a, p in itertools.product(widths, depths, norms, activations, poolings)
    )


def product(
    networks: Sequence[Network],
    *,
    lr: Sequence[float] = (LR,),
    weight_decay: Sequence[float] = (WEIGHT_DECAY,),
    augment: Sequence[str] = (AUGMENT,),
) -> tuple[Candidate, ...]:
    """Return a candidate for each network with each learning rate, weight decay and augmentation.

    Raises:
        PotstillError: a network comes twice, or a setting is out of range.
    """
    parsed = [parse_network(n) for n in networks]
    found = [
        Candidate(network=n, lr=float(rate), weight_decay=float(decay), augment=a)
        for n, rate, decay, a in itertools.product(parsed, lr, weight_decay, augment) if n is not None
    ]  # fmt: skip
    listed = [c.name for c in found]
    if twice := next((name for name in listed if listed.count(name) > 1), None):
        raise PotstillError(f"candidate {twice!r} is given twice; give it once")
    return tuple(found)


def default_networks(
    input: InputSpec, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS
) -> tuple[str, ...]:  # fmt: skip
    """Return the networks of a search where none are named: ConvNets of the grid for images, else MLPs."""
    if get_kind(input).augmentable:
        return convnet_grid(widths=widths, depths=depths)
    return ("linear", *(f"mlp-w{w}" for w in widths))


def draw_candidates(candidates: Sequence[Candidate], count: int | None, seed: int) -> tuple[Candidate, ...]:
    """Return ``count`` of the candidates, drawn by ``seed``, in their order; all where there are no more."""
    if count is None or count >= len(candidates):
        return tuple(candidates)
    at = torch.randperm(len(candidates), generator=generator(seed, "candidates"))[:count]
    return tuple(candidates[i] for i in at.sort().values.tolist())
