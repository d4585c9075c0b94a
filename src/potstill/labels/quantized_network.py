"""Network weights in 8 or 4 bits: four tensors, whose sizes the network's shapes alone decide.

* ``codes``: of every parameter with two axes or more (kernels, matrices) each value's code, one after another, packed
  as `potstill.functional.packing` says.
* ``ranges``: for each output channel (first axis) of those, the lowest level and the step, 16-bit floats: a value is
  ``low + step · code`` (`potstill.functional.quantize`: fitted by least squares at 4 bits).
* ``vectors``: parameters of one axis or none (biases, scales of norms) in 16-bit floats.
* ``statistics``: buffers (means and variances of BatchNorms) in 32-bit floats, as a variance may have any size. Whole
  numbers, which count batches, are left out: nothing that is evaluated reads them.

All go by the order of the network's state; several networks follow one another.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from potstill.errors import PotstillError
from potstill.functional.packing import pack_bits, packed_bytes, unpack_bits
from potstill.functional.quantize import fit_range, quantize

__all__ = ["layout_hash", "quantize_networks", "restore_networks", "tensor_sizes"]

_TYPES = {"codes": torch.uint8, "ranges": torch.float16, "vectors": torch.float16, "statistics": torch.float32}


def _state(network: nn.Module) -> list[tuple[str, str, Tensor]]:
    """Return part (``codes``, ``vectors`` or ``statistics``), name and tensor of all that is stored."""
    params = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    entries = []
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            part = "statistics" if name not in params else "codes" if tensor.ndim > 1 else "vectors"
            entries.append((part, name, tensor))
    return entries


def layout_hash(network: nn.Module) -> str:
    """Return the SHA-256 of the names and shapes of what is stored of a network, on any device including meta."""
    shapes = [[part, name, list(tensor.shape)] for part, name, tensor in _state(network)]
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()


def tensor_sizes(networks: Sequence[nn.Module], bits: int) -> dict[str, tuple[torch.dtype, int]]:
    """Return type and length of each non-empty tensor; the networks may be on the meta device."""
    state = [entry for network in networks for entry in _state(network)]

    def count(part: str) -> int:
        return sum(math.prod(tensor.shape) for kind, _, tensor in state if kind == part)

    ranges = sum(2 * tensor.shape[0] for kind, _, tensor in state if kind == "codes")
    sizes = {
        "codes": packed_bytes(count("codes"), bits), "ranges": ranges, "vectors": count("vectors"),
        "statistics": count("statistics"),
    }  # fmt: skip
    return {part: (_TYPES[part], size) for part, size in sizes.items() if size}


def quantize_networks(networks: Sequence[nn.Module], bits: int) -> dict[str, Tensor]:
    """Quantize trained networks to the four tensors.

    Raises:
        PotstillError: a number is not finite, or beyond what 16 bits hold.
    """
    parts: dict[str, list[Tensor]] = {part: [] for part in _TYPES}
    for network in networks:
        for part, name, tensor in _state(network):
            value = tensor.detach().cpu().float()
            if not bool(torch.isfinite(value).all()):
                raise PotstillError(f"a teacher's numbers must be finite, but those of {name} are not; train it again")
            if part != "codes":
                stored = value.flatten().to(_TYPES[part])
                parts[part].append(stored)
            else:
                low, step = (t.half() for t in fit_range(value, bits, 0))
                stored = torch.stack([low.flatten(), step.flatten()], 1).flatten()
                parts["ranges"].append(stored)
                parts["codes"].append(quantize(value, low.float(), step.float(), bits).flatten())
            if not bool(torch.isfinite(stored).all()):
                raise PotstillError(
                    f"a teacher's numbers must be such as 16 bits hold to be stored, but those of {name} go up to "
                    f"{float(value.abs().max()):,.0f}; store rows"
                )
    tensors = {part: torch.cat(pieces) for part, pieces in parts.items() if pieces}
    return {part: pack_bits(t, bits) if part == "codes" else t for part, t in tensors.items() if len(t)}


def restore_networks(networks: Sequence[nn.Module], tensors: Mapping[str, Tensor], bits: int) -> None:
    """Load stored tensors into networks.

    Args:
        networks: fresh ones of the shapes that were stored.
        tensors: of `tensor_sizes`.

    Raises:
        PotstillError: the tensors are of other networks, or a number is not finite.
    """
    wanted = tensor_sizes(networks, bits)
    found = {name: (t.dtype, t.numel() if t.ndim == 1 else -1) for name, t in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise PotstillError(
                f"{name[:40]!r} must be {_field_text(wanted.get(name))} for these networks, but it is "
                f"{_field_text(found.get(name))}; get the file again"
            )
    count = sum(tensor.numel() for net in networks for part, _, tensor in _state(net) if part == "codes")
    codes = unpack_bits(tensors["codes"], bits, count) if "codes" in tensors else torch.zeros(0, dtype=torch.int64)
    stored = {"codes": codes, **{part: tensors[part] for part in wanted if part != "codes"}}
    at = dict.fromkeys(_TYPES, 0)

    def next_of(part: str, count: int) -> Tensor:
        at[part] += count
        return stored[part][at[part] - count : at[part]].float()

    for network in networks:
        for part, name, tensor in _state(network):
            value = next_of(part, tensor.numel()).reshape(tensor.shape)
            if part == "codes":
                ranges = next_of("ranges", 2 * tensor.shape[0]).reshape(-1, 2, *[1] * (tensor.ndim - 1))
                value = ranges[:, 0] + ranges[:, 1] * value
            if not bool(torch.isfinite(value).all()):
                raise PotstillError(f"the teacher's {name[:80]} is not finite; get the file again")
            with torch.no_grad():
                tensor.copy_(value)


def _field_text(field: tuple[torch.dtype, int] | None) -> str:
    return "left out" if field is None else f"{field[1]:,} of {field[0]}" if field[1] >= 0 else "of more axes than one"
