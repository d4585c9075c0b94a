"""Functions on inputs of one tensor or of several by name.

Every tensor has the samples along its first axis, but for ragged parts, such as words: ``NAME/values`` holds those of
all samples, one after the other, and ``NAME/offsets`` (n,) the start of each sample.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, InputSpec

__all__ = [
    "OFFSETS",
    "VALUES",
    "concat",
    "device_of",
    "flatten_rows",
    "index",
    "iter_batches",
    "named_tensors",
    "num_samples",
    "padded",
    "ragged_lengths",
    "random_inputs",
    "sample",
    "single_tensor",
    "split_sizes",
    "tensor_names",
    "to_device",
    "tree_map",
    "zeros_like_spec",
]

VALUES, OFFSETS = "/values", "/offsets"


def named_tensors(x: Inputs) -> Mapping[str, Tensor]:
    """Return the tensors by name; a single tensor has the name ``""``."""
    return {"": x} if isinstance(x, Tensor) else x


def tensor_names(spec: InputSpec) -> tuple[str, ...]:
    """Return the names of the tensors in order; empty for a single tensor."""
    return tuple(name + ending for name, part in spec.parts for ending in ((VALUES, OFFSETS) if part.ragged else ("",)))


def _same_form(like: Inputs, tensors: Mapping[str, Tensor]) -> Any:
    return tensors[""] if isinstance(like, Tensor) else dict(tensors)


def tree_map(f: Callable[[Tensor], Tensor], x: Inputs) -> Any:
    """Return ``f`` of every tensor."""
    return _same_form(x, {name: f(t) for name, t in named_tensors(x).items()})


def sample(x: Inputs, i: int) -> Any:
    """Return sample ``i`` without a batch axis; words get the name of their part alone."""
    if isinstance(x, Tensor):
        return x[i]
    taken = index(x, torch.tensor([i]))
    return {n.removesuffix(VALUES): t if n.endswith(VALUES) else t[0] for n, t in taken.items() if OFFSETS not in n}


def to_device(x: Inputs, device: torch.device | str) -> Any:
    """Return ``x`` on ``device``."""
    return tree_map(lambda t: t.to(device), x)


def single_tensor(x: Inputs, what: str) -> Tensor:
    """Return the tensor of an input that is one.

    Raises:
        ValueError: the input has several; the message names ``what``, which needs one.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"{what} needs inputs of one tensor, but these have {', '.join(x)}; join them into one")
    return x


def device_of(x: Inputs) -> torch.device:
    """Return the device of the inputs."""
    return next(iter(named_tensors(x).values())).device


def num_samples(x: Inputs) -> int:
    """Return the number of samples."""
    return next(len(t) for name, t in named_tensors(x).items() if not name.endswith(VALUES))


def index(x: Inputs, at: Tensor) -> Any:
    """Return the samples ``at`` (m,) int64, in that order; ``at`` may be on another device."""
    if isinstance(x, Tensor):
        return x.index_select(0, at.to(x.device))
    tensors: dict[str, Tensor] = {}
    for name, t in x.items():
        if name.endswith(VALUES):
            continue
        if not name.endswith(OFFSETS):
            tensors[name] = t.index_select(0, at.to(t.device))
            continue
        words = x[name.removesuffix(OFFSETS) + VALUES]
        at_here = at.to(t.device)
        starts, lengths = t[at_here], ragged_lengths(t, len(words))[at_here]
        begins = lengths.cumsum(0) - lengths
        within = torch.arange(int(lengths.sum()), device=t.device) - begins.repeat_interleave(lengths)
        tensors[name.removesuffix(OFFSETS) + VALUES] = words[starts.repeat_interleave(lengths) + within]
        tensors[name] = begins
    return tensors


def ragged_lengths(offsets: Tensor, total: int) -> Tensor:
    """Return the length of each sample (n,), of ``total`` words in all."""
    return torch.cat([offsets[1:], offsets.new_tensor([total])]) - offsets


def concat(parts: Sequence[Inputs]) -> Any:
    """Return several inputs with the same names, one after the other."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([p for p in parts if isinstance(p, Tensor)])
    tensors: dict[str, Tensor] = {}
    for name in first:
        several = [named_tensors(p)[name] for p in parts]
        if name.endswith(OFFSETS):
            before, shifted = 0, []
            for part, offsets in zip(parts, several, strict=True):
                shifted.append(offsets + before)
                before += len(named_tensors(part)[name.removesuffix(OFFSETS) + VALUES])
            several = shifted
        tensors[name] = torch.cat(several)
    return tensors


def flatten_rows(x: Inputs) -> Tensor:
    """Return every sample as a row (n, d) of float64; ragged parts are padded with -1 to the longest sample."""
    if isinstance(x, Tensor):
        return x.flatten(1).double()
    parts = []
    for name, t in x.items():
        if name.endswith(OFFSETS):
            words = x[name.removesuffix(OFFSETS) + VALUES]
            several = torch.split(words, ragged_lengths(t, len(words)).tolist())
            parts.append(
                torch.nn.utils.rnn.pad_sequence(list(several), batch_first=True, padding_value=-1).flatten(1).double()
            )
        elif not name.endswith(VALUES):
            parts.append(t.reshape(len(t), -1).double())
    return torch.cat(parts, 1)


def zeros_like_spec(spec: InputSpec, n: int, device: torch.device | str = "cpu") -> Any:
    """Return ``n`` inputs of zeros, of length one in each ragged part."""
    if not spec.parts:
        return torch.zeros(n, *spec.shape, device=device)
    tensors: dict[str, Tensor] = {}
    for name, part in spec.parts:
        if part.ragged:
            kind = torch.int64 if part.levels or part.kind == "words" else torch.float32
            tensors[name + VALUES] = torch.zeros(n, *part.shape[1:], dtype=kind, device=device)
            tensors[name + OFFSETS] = torch.arange(n, device=device)
        else:
            kind = torch.int64 if part.kind == "categories" else torch.float32
            tensors[name] = torch.zeros(n, *part.shape, dtype=kind, device=device)
    return tensors


def random_inputs(spec: InputSpec, n: int, rng: Generator) -> Any:
    """Return ``n`` random inputs: standard normal values, any codes, and one word or more in each part of words."""
    if not spec.parts:
        return torch.randn(n, *spec.shape, generator=rng)
    tensors: dict[str, Tensor] = {}
    for name, part in spec.parts:
        if part.ragged:
            lengths = 1 + torch.arange(n) % 3
            shape = (int(lengths.sum()), *part.shape[1:])
            if part.kind == "words":
                tensors[name + VALUES] = torch.randint(part.levels[0], shape, generator=rng)
            elif part.levels:  # 0, as codes may number the rows of another part
                tensors[name + VALUES] = torch.zeros(shape, dtype=torch.int64)
            else:
                tensors[name + VALUES] = torch.randn(shape, generator=rng)
            tensors[name + OFFSETS] = lengths.cumsum(0) - lengths
        elif part.kind == "categories":
            columns = [torch.randint(levels, (n,), generator=rng) for levels in part.levels]
            tensors[name] = torch.stack(columns, 1).reshape(n, *part.shape)
        else:
            tensors[name] = torch.randn(n, *part.shape, generator=rng)
    return tensors


def padded(x: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Return the words of part ``name`` as rows (n, longest), 0 after the last, and a mask that is True for words."""
    words, offsets = x[name + VALUES], x[name + OFFSETS]
    lengths = ragged_lengths(offsets, len(words))
    place = torch.arange(max(1, int(lengths.max()) if len(lengths) else 1), device=words.device)
    mask = place < lengths.unsqueeze(1)
    rows = words.new_zeros(mask.shape)
    rows[mask] = words
    return rows, mask


def split_sizes(x: Inputs, sizes: Sequence[int]) -> tuple[Any, ...]:
    """Split ``x`` into parts of the given sizes, which sum to its samples."""
    if isinstance(x, Tensor):
        return tuple(torch.split(x, list(sizes)))
    return tuple(index(x, at) for at in torch.split(torch.arange(num_samples(x)), list(sizes)))


def iter_batches(x: Inputs, size: int) -> Iterator[Any]:
    """Yield ``x`` in parts of ``size`` samples, in order."""
    if isinstance(x, Tensor):
        yield from torch.split(x, size)
        return
    for at in torch.split(torch.arange(num_samples(x)), size):
        yield index(x, at)
