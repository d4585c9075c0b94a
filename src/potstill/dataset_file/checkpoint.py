"""Checkpoint of an unfinished run: state, generator, step, configuration and versions in one file.

A run resumes only with the same configuration. Other versions (torch, Potstill, kernels, processor) compute it with
other rounding: the result is as good, but has other bits. As a seed promises bits, that is refused unless it is
forced, and then the metadata of the set say at which step it happened.
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
    """State that a run resumes from."""

    state: S
    rng_state: Tensor
    step: int
    meta: Mapping[str, Any]
    versions: Mapping[str, Any] | None = None
    """Versions that computed it so far, where they differ from the current ones."""
    is_previous: bool = False
    """True for the previous checkpoint, read because the newest is damaged."""


def previous_path(path: Path) -> Path:
    """Return the path of the checkpoint before the one at ``path``."""
    return path.with_name(f"{path.name}.before")


def drop_checkpoint(path: Path) -> None:
    """Remove a checkpoint and the previous one, or a folder of checkpoints."""
    if path.is_dir() and not path.is_symlink():
        for file in path.glob("*.checkpoint*"):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other files in it stay
            path.rmdir()
        return
    for file in (path, previous_path(path)):
        file.unlink(missing_ok=True)


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
    """Write a checkpoint atomically, and keep the one that was there as the previous one.

    Args:
        identity: configuration, JSON values by name; only a run with an equal one may resume.
        meta: JSON values of the loop (elapsed time, history).
        versions: versions that compute the run.
        keep: ``False`` where the file at ``path`` is known to be damaged; the previous one stays then.

    Raises:
        PotstillError: it cannot be written; a checkpoint at ``path`` stays as it was.
        TypeError: state, ``identity`` or ``meta`` hold a value that cannot be stored.
    """
    tensors, structure = pack_state(state)
    # Not sorted: mappings come back in their order.
    content: dict[str, Any] = {"format": FORMAT, "step": step, "identity": identity, "meta": meta}
    content |= {"versions": versions or {}, "structure": structure}
    named = {f"state/{name}": tensor for name, tensor in tensors.items()}
    link = _link_existing(path) if keep_previous else None
    try:
        write_tensors(path, {**named, "rng": rng_state}, {"checkpoint": json.dumps(content)})
    except BaseException:
        if link is not None:
            link.unlink(missing_ok=True)
        raise
    if link is not None:
        os.replace(link, previous_path(path))


def _link_existing(path: Path) -> Path | None:
    """Return a hard link to the file at ``path``; ``None``: there is no file, or the file system has no links."""
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
    """Read a checkpoint, every tensor on the device where it was; a damaged file gives way to the previous one.

    Args:
        versions: current versions; ``None``: any.
        ignore_versions: resume even if other versions computed it.

    Raises:
        PotstillError: both files are damaged, or configuration or versions differ; the message says in what.
    """
    tensors, content, is_previous = _read_newest(path, identity)
    differing = differences(content["identity"], identity)
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise PotstillError(
            f"{path}: checkpoint of another configuration: {'; '.join(differing[:3])}{more}; repeat its command or "
            "start again"
        )
    computed = content.get("versions") or None
    if computed is not None and versions is not None:
        other = differences(computed, versions)
        if other and not ignore_versions:
            raise PotstillError(
                f"{path}: computed by other versions: {'; '.join(other)}; resuming gives bits that neither computes: "
                'resume where it began, start again, or force it with `resume="force"`'
            )
        computed = computed if other else None
    rng_state = tensors.pop("rng")
    try:
        named = {n.removeprefix("state/"): t for n, t in tensors.items()}
        state = unpack_state(state_type, named, content["structure"])
    except (AttributeError, KeyError, NameError, RuntimeError, TypeError, ValueError) as error:
        # A damaged structure breaks in any of these ways; so does a state whose class has changed.
        line = " ".join(str(error).split())[:200]
        raise PotstillError(f"{path}: a checkpoint of another version of the method ({line}); start again") from error
    return Checkpoint(
        state=state, rng_state=rng_state, step=content["step"], meta=content["meta"], versions=computed,
        is_previous=is_previous
    )  # fmt: skip


def _read_newest(path: Path, identity: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any], bool]:
    """Return tensors and content of the checkpoint, or with a warning of this run's previous one if it is damaged."""
    try:
        return *_read_complete(path), False
    except PotstillError as damaged:
        if not previous_path(path).exists():
            raise
        try:
            tensors, content = _read_complete(previous_path(path))
        except PotstillError:
            raise damaged from None
        if differences(content["identity"], identity):
            raise
        warnings.warn(
            f"{damaged}; the run resumes from the checkpoint before it, of step {content['step']:,}",
            PotstillWarning, stacklevel=3,
        )  # fmt: skip
        return tensors, content, True


def _read_complete(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, metadata = read_tensors(path, MAX_BYTES)
    content = _parse_content(path, metadata)
    if (rng := tensors.get("rng")) is None or rng.dtype is not torch.uint8:
        raise PotstillError(f"{path}: an incomplete checkpoint (it lacks the generator); start again without resume")
    return tensors, content


def read_identity(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return configuration and versions of a checkpoint, from its header alone.

    Raises:
        PotstillError: the file is damaged, or is no checkpoint.
    """
    try:
        content = _parse_content(path, read_metadata(path, MAX_BYTES))
    except PotstillError:
        if not previous_path(path).exists():
            raise
        content = _parse_content(path, read_metadata(previous_path(path), MAX_BYTES))
    return dict(content["identity"]), dict(content.get("versions", {}))


def _parse_content(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        content = json.loads(metadata.get("checkpoint", ""))
    except (ValueError, RecursionError) as error:
        raise PotstillError(f"{path}: not a checkpoint of Potstill; start again without resume") from error
    if not isinstance(content, dict) or "format" not in content:
        raise PotstillError(f"{path}: not a checkpoint of Potstill; start again without resume")
    if content["format"] != FORMAT:
        written = str(content["format"])[:40]
        raise PotstillError(f"{path}: a checkpoint of format {written!r}, but {FORMAT!r} is read; start again")
    kinds = {"step": int, "identity": dict, "meta": dict, "structure": dict}
    invalid = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    if not isinstance(content.get("versions", {}), dict):
        invalid.append("versions")
    if invalid or content["step"] < 0 or isinstance(content["step"], bool):
        name = invalid[0] if invalid else "step"
        raise PotstillError(f"{path}: an incomplete checkpoint (its {name} is damaged); start again without resume")
    return content


def differences(stored: Any, requested: Any) -> list[str]:
    """Return differences of JSON values, as ``name was … and now is …``, nested names joined by dots.

    Args:
        wanted: tuples count as lists.
    """
    return _differences(stored, json.loads(json.dumps(requested)), "")


def _differences(stored: Any, current: Any, path: str) -> list[str]:
    if isinstance(stored, dict) and isinstance(current, dict):
        names = sorted(stored.keys() | current.keys())
        return [d for n in names for d in _differences(stored.get(n), current.get(n), f"{path}.{n}" if path else n)]
    return [] if stored == current else [f"{path} was {_short(stored)} and now is {_short(current)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 90 else f"{text[:87]}…"
