"""Cache keys: hashes of everything that decides the bits, the machine included.

The last bits of a training depend on torch, on the kind of processor, on kernels and on the device. So where several
machines share one cache, each finds what its own kind has made, and a shared folder changes no result. What others
made is not taken, and a line says that it is there.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from potstill.errors import PotstillWarning
from potstill.native import computing

__all__ = ["cache_key", "machine_fingerprint", "matches_key", "warn_other_machines"]

_ABOUT, _WHERE = 56, 16
"""Characters of a key for the recipe and for the machine."""


def machine_fingerprint() -> dict[str, str]:
    """Return what bits depend on beside a recipe: torch, processor, kernels. Jobs carry it to their workers."""
    return {"torch": torch.__version__, **computing()}


def cache_key(what: Mapping[str, Any], on: Mapping[str, str], device: torch.device) -> str:
    """Return a key for the bits of ``what`` (JSON values) computed on such a machine and device."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{_hash_json(what)[:_ABOUT]}{_hash_json({**on, 'device': card})[:_WHERE]}"


def matches_key(name: str, what: Mapping[str, Any]) -> bool:
    """Return True if ``name`` is a key of ``what``, made on any machine."""
    about = _hash_json(what)
    return len(name) == _ABOUT + _WHERE and name[:_ABOUT] == about[:_ABOUT]


def _hash_json(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def warn_other_machines(path: Path, work: str) -> None:
    """Warn if other machines have made what is missing at ``path``.

    Args:
        path: a name by `cache_key` in its folder.
        work: what it is, in the plural.
    """
    if path.exists():
        return
    alike = path.parent.glob(f"{path.name[:_ABOUT]}{'?' * _WHERE}{path.suffix}")
    if any(p.name != path.name for p in alike):
        warnings.warn(
            f"{work} that another kind of processor, device, kernel or torch made are in the cache, but their last "
            "bits may differ; they are trained again here, so that a shared cache changes no result",
            PotstillWarning, stacklevel=2,
        )  # fmt: skip
