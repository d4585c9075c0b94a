"""An unfinished run in one file: state, generator, step, and what it must be continued with.

Two things must be the same for a run to end with the bits that it would have had: its configuration, and what computes
it. Another configuration is another run, and never continued. Another version of torch, of Potstill or of the kernels,
or another kind of processor, computes the same run with other rounding: the end is worth as much, but is not the bits
that either computes. So that is refused unless it is asked for, and then the set's card says at which step it happened.
Refusing is the default because what a seed promises here is bits, and a difference that nobody was told of cannot be
found later.
"""

import contextlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from potstill.dataset_file.files import read_metadata, read_tensors, write_tensors
from potstill.dataset_file.state import pack_state, unpack_state
from potstill.errors import PotstillError, PotstillWarning

__all__ = [
    "Checkpoint",
    "differences",
    "drop_checkpoint",
    "previous_path",
    "read_checkpoint",
    "read_identity",
    "write_checkpoint",
]

S = TypeVar("S")
FORMAT = "potstill-checkpoint/2"
MAX_BYTES = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Generic[S]):
    """What a run continues from."""

    state: S
    rng_state: Tensor
    step: int
    meta: Mapping[str, Any]
    versions: Mapping[str, Any] | None = None
    """What computed it until here, where that is not what computes now and it was asked to go on all the same."""
    is_previous: bool = False
    """It is the one before, as the newest is damaged."""


def previous_path(path: Path) -> Path:
    """Where the checkpoint before the one at ``path`` is kept."""
    return path.with_name(f"{path.name}.before")


def drop_checkpoint(path: Path) -> None:
    """Remove the checkpoint and the one before it, where they are; or the checkpoints in a folder of them, and it."""
    if path.is_dir() and not path.is_symlink():
        for one in path.glob("*.checkpoint*"):
            one.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is in it, which stays
            path.rmdir()
        return
    for one in (path, previous_path(path)):
        one.unlink(missing_ok=True)


def write_checkpoint(
    path: Path,
    *,
    state: Any,
    rng_state: Tensor,
    step: int,
    identity: Mapping[str, Any],
    meta: Mapping[str, Any],
    versions: Mapping[str, Any] | None = None,
    keep_previous: bool = True,
) -> None:
    """Write a checkpoint, atomically. The one that was there is kept as the one before.

    Args:
        identity: the configuration: JSON values by name. Only a run with an equal one may continue.
        meta: JSON values that the loop keeps (elapsed time, history).
        versions: what computes the run.
        keep: not where what is at ``path`` is known to be damaged; then the one before it stays.

    Raises:
        PotstillError: it cannot be written; an older checkpoint at ``path`` stays as it was.
        TypeError: the state, ``identity`` or ``meta`` holds what cannot be stored.
    """
    tensors, structure = pack_state(state)
    # Not sorted: mappings come back in their order.
    content: dict[str, Any] = {"format": FORMAT, "step": step, "identity": identity, "meta": meta}
    content |= {"versions": versions or {}, "structure": structure}
    named = {f"state/{name}": tensor for name, tensor in tensors.items()}
    second = _named_twice(path) if keep_previous else None
    try:
        write_tensors(path, {**named, "rng": rng_state}, {"checkpoint": json.dumps(content)})
    except BaseException:
        if second is not None:
            second.unlink(missing_ok=True)
        raise
    if second is not None:
        os.replace(second, previous_path(path))


def _named_twice(path: Path) -> Path | None:
    """A second name of the file that is there, so that at no moment there is none; ``None`` where there is no file, or
    the file system has no second names: then the newest is the only one."""
    part = path.with_name(f"{path.name}.before.part")
    try:
        part.unlink(missing_ok=True)
        os.link(path, part, follow_symlinks=False)
    except OSError:
        return None
    return part


def read_checkpoint(
    path: Path,
    state_type: type[S],
    identity: Mapping[str, Any],
    *,
    versions: Mapping[str, Any] | None = None,
    ignore_versions: bool = False,
) -> Checkpoint[S]:
    """Read a checkpoint back, every tensor on the device where it was.

    Args:
        versions: what computes now; checkpoints of earlier versions do not say what computed them, and are read.
        anyway: read it though something else computed it.

    Where the file is damaged, the one before it is read, which a `PotstillWarning` says.

    Raises:
        PotstillError: both files are damaged, or it was made with another configuration, or by something else; the
            message says what differs.
    """
    tensors, content, older = _newest(path, identity)
    differing = differences(content["identity"], identity)
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise PotstillError(
            f"{path}: checkpoint of another configuration: {'; '.join(differing[:3])}{more}; repeat its command or "
            "begin anew"
        )
    computed = content.get("versions") or None
    if computed is not None and versions is not None:
        other = differences(computed, versions)
        if other and not ignore_versions:
            raise PotstillError(
                f"{path}: computed otherwise than here: {'; '.join(other)}; going on would end in bits that neither "
                "has: go on where it began, begin anew, or resume all the same, `resume_anyway=True`, which the card "
                "then says"
            )
        computed = computed if other else None
    rng_state = tensors.pop("rng")
    try:
        named = {n.removeprefix("state/"): t for n, t in tensors.items()}
        state = unpack_state(state_type, named, content["structure"])
    except (AttributeError, KeyError, NameError, RuntimeError, TypeError, ValueError) as error:
        # A damaged structure breaks in any of these ways; so does a state whose class has changed.
        said = " ".join(str(error).split())[:200]
        raise PotstillError(f"{path}: a checkpoint of another version of the method ({said}); start anew") from error
    return Checkpoint(
        state=state, rng_state=rng_state, step=content["step"], meta=content["meta"], versions=computed,
        is_previous=older
    )  # fmt: skip


def _newest(path: Path, identity: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any], bool]:
    """Tensors and content of the checkpoint, or of this run's one before where it is damaged, which is said."""
    try:
        return *_whole(path), False
    except PotstillError as damaged:
        if not previous_path(path).exists():
            raise
        try:
            tensors, content = _whole(previous_path(path))
        except PotstillError:
            raise damaged from None
        if differences(content["identity"], identity):  # of a run that was here before
            raise
        warnings.warn(
            f"{damaged}; the run goes on from the checkpoint before it, of step {content['step']:,}",
            PotstillWarning, stacklevel=3,
        )  # fmt: skip
        return tensors, content, True


def _whole(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What is in one file, if all of it is.

    Raises:
        PotstillError: it is damaged, or no checkpoint.
    """
    tensors, metadata = read_tensors(path, MAX_BYTES)
    content = _content(path, metadata)
    if (rng := tensors.get("rng")) is None or rng.dtype is not torch.uint8:
        raise PotstillError(f"{path}: not a whole checkpoint (it lacks the generator); start anew without resume")
    return tensors, content


def read_identity(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration of a checkpoint and the versions that computed it; nothing else is read.

    Raises:
        PotstillError: the file is damaged, or is no checkpoint.
    """
    try:
        content = _content(path, read_metadata(path, MAX_BYTES))
    except PotstillError:
        if not previous_path(path).exists():
            raise
        content = _content(path, read_metadata(previous_path(path), MAX_BYTES))
    return dict(content["identity"]), dict(content.get("versions", {}))


def _content(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        content = json.loads(metadata.get("checkpoint", ""))
    except (ValueError, RecursionError) as error:
        raise PotstillError(f"{path}: not a checkpoint of Potstill; start anew without resume") from error
    if not isinstance(content, dict) or "format" not in content:
        raise PotstillError(f"{path}: not a checkpoint of Potstill; start anew without resume")
    if content["format"] != FORMAT:
        written = str(content["format"])[:40]
        raise PotstillError(f"{path}: a checkpoint of format {written!r}, but {FORMAT!r} is read; start anew")
    kinds = {"step": int, "identity": dict, "meta": dict, "structure": dict}
    wrong = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    if not isinstance(content.get("versions", {}), dict):
        wrong.append("versions")
    if wrong or content["step"] < 0 or isinstance(content["step"], bool):
        name = wrong[0] if wrong else "step"
        raise PotstillError(f"{path}: not a whole checkpoint (its {name} is damaged); start anew without resume")
    return content


def differences(stored: Any, wanted: Any) -> list[str]:
    """What differs between JSON values, as ``name was … and now is …``, nested names joined by dots.

    Args:
        wanted: tuples count as lists.
    """
    return _differences(stored, json.loads(json.dumps(wanted)), "")


def _differences(stored: Any, wanted: Any, path: str) -> list[str]:
    if isinstance(stored, dict) and isinstance(wanted, dict):
        names = sorted(stored.keys() | wanted.keys())
        return [d for n in names for d in _differences(stored.get(n), wanted.get(n), f"{path}.{n}" if path else n)]
    return [] if stored == wanted else [f"{path} was {_short(stored)} and now is {_short(wanted)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 90 else f"{text[:87]}…"
