"""Embeddings of many real samples, in passes of bounded size."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from potstill.core import Inputs, InputSpec, Network
from potstill.core.nested import OFFSETS, VALUES, iter_batches, named_tensors, num_samples, ragged_lengths
from potstill.errors import PotstillError

__all__ = ["embed_real", "input_rows", "joint_rows", "uses_batch_statistics"]

_PIXELS = 2**16
"""Input pixels per pass on the CPU: 64 images of 32×32; more gains nothing."""


def uses_batch_statistics(network: nn.Module) -> bool:
    """Return True if features depend on the batch: a BatchNorm is in training mode."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in network.modules())


def embed_real(network: Network, x: Inputs) -> Float[Tensor, "n d"]:
    """Return ``network.embed(x)`` without a graph, on the CPU in parts unless a BatchNorm uses batch statistics.

    Args:
        x: (n, …), or named tensors.
    """
    with torch.no_grad():
        pixels = max((t[0].numel() // t.shape[1] for t in named_tensors(x).values() if t.ndim > 2), default=1)
        part = max(1, _PIXELS // pixels)
        on_cpu = next(iter(named_tensors(x).values())).device.type == "cpu"
        if not on_cpu or num_samples(x) <= part or uses_batch_statistics(network):
            return network.embed(x)
        return torch.cat([network.embed(some) for some in iter_batches(x, part)])


def input_rows(x: Inputs, spec: InputSpec) -> Float[Tensor, "n d"]:
    """Return every input as one row for distances.

    Real values as they are; categories one-hot times 1 / √2, so that two that differ in a column have distance 1; words
    as counts with unit L2 norm.

    Args:
        x: inputs in model space (n, …), or named tensors.
    """
    if isinstance(x, Tensor):
        return x.flatten(1)
    rows: list[Tensor] = []
    for name, part in spec.parts:
        if part.kind == "categories":
            columns = zip(x[name].unbind(1), part.levels, strict=True)
            rows += [F.one_hot(codes, k).float() * 0.5**0.5 for codes, k in columns]
        elif part.kind != "words" and part.ragged:
            raise PotstillError(
                f"distances need inputs of one size, but {name!r} has any length; take random, or a method "
                "that embeds inputs by a network"
            )
        elif part.kind == "words":
            values, offsets = x[name + VALUES], x[name + OFFSETS]
            owner = torch.repeat_interleave(torch.arange(len(offsets)).to(values), ragged_lengths(offsets, len(values)))
            counts = torch.zeros(len(offsets), part.levels[0], device=values.device)
            counts.index_put_((owner, values), torch.ones((), device=values.device), accumulate=True)
            rows.append(F.normalize(counts, dim=1))
        else:
            rows.append(x[name].reshape(len(x[name]), -1))
    return torch.cat(rows, 1)


def joint_rows(batches: Sequence[Inputs], spec: InputSpec, text_weight: float = 1.0) -> Float[Tensor, "n d"]:
    """Return each pair as one row: every view centred and of mean squared length 1, texts times their weight.

    Args:
        batches: inputs of several tensors in model space.
        spec: their parts; words are counted.
        text_weight: weight of every part that is no picture.
    """
    views = []
    for name, part in spec.parts:
        view = torch.cat([_view(x, name, spec) for x in batches]).float()
        view = view - view.mean(0)
        size = view.square().sum(1).mean().sqrt().clamp(min=1e-12)
        views.append(view / size * (1.0 if part.kind == "image" else text_weight))
    return torch.cat(views, 1)


def _view(x: Inputs, name: str, spec: InputSpec) -> Tensor:
    """Return one part of named inputs as rows."""
    assert not isinstance(x, Tensor)
    alone = {n: t for n, t in x.items() if n.partition("/")[0] == name}
    parts = tuple((n, part) for n, part in spec.parts if n == name)
    return input_rows(alone, type(spec)(kind=spec.kind, shape=(), parts=parts))
