"""Description of a cluster for planning: devices, speed and links."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from potstill._util.formatting import parse_size
from potstill.errors import PotstillError, suggestion

__all__ = ["Cluster", "parse_cluster"]

MOST = 1_000_000
"""Most devices or nodes; more is a typing error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Cluster of equal nodes with equal devices; rates are per second."""

    nodes: int = 1
    gpus: int = 1
    """Devices per node."""
    memory: int
    """Bytes of a device."""
    flops: float
    """Peak floating-point operations of a device, from the data sheet, in the type of the computation."""
    efficiency: float = 0.35
    """Fraction of the peak that training reaches; an assumption unless it is given."""
    bandwidth: float | None = None
    """Bytes between two nodes; required for several nodes."""
    link: float = 50e9
    """Bytes between two devices of a node."""
    disk: float = 1e9
    """Bytes that a node reads from storage."""
    cores: int = 8
    """CPU cores per device, which decode images."""
    price: float | None = None
    """Price of a device for an hour, in any currency."""
    specified: tuple[str, ...] = ()
    """Fields that were given; others are assumed."""

    @property
    def devices(self) -> int:
        """Devices of all nodes."""
        return self.nodes * self.gpus

    @property
    def rate(self) -> float:
        """Operations that a device is assumed to make."""
        return self.flops * self.efficiency


def _parse_int(text: str) -> int:
    if not re.fullmatch(r"\d{1,7}", text) or not 1 <= int(text) <= MOST:
        raise ValueError(f"a whole number from 1 to {MOST:,}")
    return int(text)


def _parse_positive(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?(e\d{1,2})?", text) or not 0 < float(text) < math.inf:
        raise ValueError("a number above 0")
    return float(text)


def _parse_fraction(text: str) -> float:
    if not (value := _parse_positive(text)) <= 1:
        raise ValueError("a part above 0 and at most 1, such as 0.35")
    return value


def _parse_bytes(text: str, example: str = "a size such as 80GB") -> int:
    try:
        size = parse_size(text)
    except ValueError:
        size = 0
    if size <= 0:
        raise ValueError(example)
    return size


def _parse_rate(text: str) -> float:
    """Parse bytes a second: ``100Gbit``, ``12GB`` or ``2GB/s``."""
    text = re.sub(r"(/s|ps)$", "", text)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([MGT])bit", text)
    if match is None or float(match[1]) == 0:
        return float(_parse_bytes(text, "a rate such as 100Gbit or 12GB (a second)"))
    return float(match[1]) * {"M": 1e6, "G": 1e9, "T": 1e12}[match[2]] / 8


def _parse_flops(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d{1,2})?)([GTP]?)(?:FLOPS?(?:/s)?)?", text, re.IGNORECASE)
    value = 0.0 if match is None else float(match[1]) * {"": 1.0, "G": 1e9, "T": 1e12, "P": 1e15}[match[2].upper()]
    if not 1e6 <= value < 1e21:
        raise ValueError("operations a second such as 312T or 1e15")
    return value


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "nodes": _parse_int, "gpus": _parse_int, "memory": _parse_bytes, "flops": _parse_flops,
    "efficiency": _parse_fraction, "bandwidth": _parse_rate, "link": _parse_rate, "disk": _parse_rate,
    "cores": _parse_int, "price": _parse_positive,
}  # fmt: skip


def parse_cluster(spelled: str) -> Cluster:
    """Parse ``nodes=4,gpus=8,memory=80GB,flops=312T,bandwidth=100Gbit``, or a YAML file of such entries.

    Raises:
        PotstillError: an entry is unknown, duplicate, missing or not readable.
    """
    if Path(spelled).suffix in (".yaml", ".yml"):
        return _build(_read_file(Path(spelled)), spelled)
    entries: dict[str, str] = {}
    for part in spelled.split(","):
        name, sign, value = part.partition("=")
        name = name.strip()
        if not sign:
            raise PotstillError(
                f"machines are described as nodes=4,gpus=8,memory=80GB,flops=312T,bandwidth=100Gbit or by a YAML file, "
                f"but {part[:40]!r} has no '='"
            )
        if name in entries:
            raise PotstillError(f"the machines' {name[:40]!r} is given twice; keep one")
        entries[name] = value.strip()
    return _build(entries, "the machines")


def _read_file(path: Path) -> dict[str, str]:
    from potstill._util.safe_yaml import read_yaml  # only where there is a file

    hint = "write one 'nodes: 4' a line" if path.is_file() else "give a YAML file, or nodes=4,…"
    found = read_yaml(path, "the machines", hint)
    if not isinstance(found, dict):
        raise PotstillError(f"{path}: machines are a mapping, found {type(found).__name__}; write 'nodes: 4'")
    if odd := next((n for n, v in found.items() if isinstance(v, dict | list | bool) or v is None), None):
        raise PotstillError(
            f"{path}: {str(odd)[:40]!r} is a number or a size, such as 4 or 80GB, not {found[odd]!r:.40}"
        )
    return {str(name): _to_text(value) for name, value in found.items()}


def _to_text(value: object) -> str:
    """Return a YAML value as text; YAML reads 312e12 as a number or as text."""
    return f"{value:.12g}".replace("e+", "e") if isinstance(value, float) else str(value)


def _build(entries: Mapping[str, str], where: str) -> Cluster:
    values: dict[str, Any] = {}
    for name, text in entries.items():
        if name not in _PARSERS:
            raise PotstillError(
                f"{where}: no entry is called {name[:40]!r}; {suggestion(name[:40], _PARSERS, 'there are')}"
            )
        try:
            values[name] = _PARSERS[name](text)
        except (ValueError, OverflowError) as error:
            raise PotstillError(f"{where}: {name} must be {error}, not {text[:40]!r}") from None
    needed = [f.name for f in fields(Cluster) if f.name in ("memory", "flops") and f.name not in values]
    if values.get("nodes", 1) > 1 and "bandwidth" not in values:
        needed.append("bandwidth")
    if needed:
        example = {"memory": "80GB", "flops": "312T", "bandwidth": "100Gbit"}[needed[0]]
        raise PotstillError(f"{where}: {needed[0]} is missing; add {needed[0]}={example}")
    return Cluster(**values, specified=tuple(values))
