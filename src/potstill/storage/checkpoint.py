"""An unfinished run in one file: state, generator, step, and what it must be continued with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from potstill.errors import PotstillError
from potstill.storage.files import read_tensors, write_tensors
from potstill.storage.state import pack, unpack

__all__ = ["Checkpoint", "read_checkpoint", "write_checkpoint"]

S = TypeVar("S")
FORMAT = "potstill-checkpoint/1"
MAX_BYTES = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Generic[S]):
    """What a run continues from."""

    state: S
    rng_state: Tensor
    step: int
    meta: Mapping[str, Any]


def write_checkpoint(
    path: Path,
    *,
    state: Any,
    rng_state: Tensor,
    step: int,
    identity: Mapping[str, Any],
    meta: Mapping[str, Any],
) -> None:
    """Write a checkpoint, atomically.

    Args:
        identity: the configuration: JSON values by name. Only a run with an equal one may continue.
        meta: JSON values that the loop keeps (elapsed time, history).
    """
    tensors, structure = pack(state)
    content = {"format": FORMAT, "step": step, "identity": identity, "meta": meta, "structure": structure}
    named = {f"state/{name}": tensor for name, tensor in tensors.items()}
    write_tensors(path, {**named, "rng": rng_state}, {"checkpoint": json.dumps(content, sort_keys=True)})


def read_checkpoint(path: Path, state_type: type[S], identity: Mapping[str, Any]) -> Checkpoint[S]:
    """Read a checkpoint back.

    Raises:
        PotstillError: the file is damaged, or was made with another configuration; the message says what differs.
    """
    tensors, metadata = read_tensors(path, MAX_BYTES)
    try:
        content = json.loads(metadata["checkpoint"])
        if content["format"] != FORMAT:
            raise PotstillError(
                f"{path}: a checkpoint of format {content['format']!r}, but {FORMAT} is read; start anew"
            )
        step, meta, stored = int(content["step"]), content["meta"], content["identity"]
    except (KeyError, ValueError, TypeError) as error:
        raise PotstillError(f"{path}: not a checkpoint of Potstill; start anew without resume") from error
    wanted = json.loads(json.dumps(identity))
    differing = _differences(stored, wanted)
    if differing:
        raise PotstillError(
            f"{path}: checkpoint of another configuration: {'; '.join(differing[:3])}; repeat its command or begin anew"
        )
    try:
        named = {n.removeprefix("state/"): t for n, t in tensors.items() if n.startswith("state/")}
        state = unpack(state_type, named, content["structure"])
        rng_state = tensors["rng"]
    except (KeyError, TypeError) as error:
        raise PotstillError(f"{path}: a checkpoint of another version of the method ({error}); start anew") from error
    return Checkpoint(state=state, rng_state=rng_state, step=step, meta=meta)


def _differences(stored: Any, wanted: Any, path: str = "") -> list[str]:
    """What differs, as ``name was … and now is …``, nested names joined by dots."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        names = sorted(stored.keys() | wanted.keys())
        return [d for n in names for d in _differences(stored.get(n), wanted.get(n), f"{path}.{n}" if path else n)]
    return [] if stored == wanted else [f"{path} was {stored!r} and now is {wanted!r}"]
