r"""Prediction of a run's peak memory on the CPU, from byte counts.

.. math::
    peak = \max\big(loading,\; \textstyle\sum always + (1 + SPARE) \cdot \max moments\big)

``always`` is held for the whole run: the process with the data, the index of real samples by class, trained networks,
the state. ``moments`` come one after the other: passes of real and synthetic samples, training of networks, the update,
a checkpoint, the result. The C library keeps what one moment frees for the next (`potstill.execution.memory`), so the
largest counts, plus a part of it, since freed blocks do not always fit. Only the data and 8 bytes per sample grow with
the number of real samples.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = ["MemoryEstimate", "MemoryInputs", "PartMemory", "Term", "predict_memory"]

SPARE = 1 / 3
"""Part of the largest moment that the C library holds in freed blocks that do not fit; measured between a fifth and
three quarters (``benchmarks/scaling.py``)."""

FETCHED = 3
"""Copies of an input while it is read: in data units, centred and divided, normalised and augmented."""
SORTED = 16
"""Bytes per real sample while they are sorted by class, beyond the index."""
WRITTEN = 3
"""Copies of a file while it is written: tensor bytes, all of them as one, and as a Python object."""
MADE = 4
"""Copies of the decoded inputs while the result is made: decoded, in data units, in model space, and one in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartMemory:
    """Peak memory of a part of a step: ``fixed + each · at_once`` bytes."""

    name: str
    each: int
    """Bytes per class in a pass."""
    fixed: int
    """Bytes that do not depend on the classes."""
    at_once: int
    """Classes per pass."""
    result_bytes: int = 0
    """Bytes of its results, held for the rest of the step or longer."""
    joined: bool = False
    """True where several results are concatenated, so that they exist twice for a moment."""
    fetched: int = 0
    """Bytes of the real inputs of a pass."""
    when: Literal["before", "descent", "after"] = "before"
    """``descent``: decoded inputs and their graph are alive. ``after``: the payload exists twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryInputs:
    """Inputs of the formula, in bytes unless stated otherwise."""

    resident: int
    """Process with data and libraries loaded."""
    loading: int
    """Process at the peak of loading."""
    samples: int
    """Number of real samples."""
    networks: int
    """Trained networks of the method."""
    state: int
    """Tensors of the state."""
    moving: int
    """Values that the optimiser updates."""
    moments: int
    """Velocity or moments of the optimiser."""
    decoded: int
    """Decoded inputs."""
    graph: int
    """Decoded inputs with the graph of their decoding; 0 where the payload is the inputs."""
    stored: int
    """The file."""
    parts: tuple[PartMemory, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """Summand: name, bytes and explanation."""

    name: str
    bytes: int
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Formula with its numbers, in bytes."""

    loading: int
    always: tuple[Term, ...]
    moments: tuple[Term, ...]
    """Moments in the order of a run, one at a time."""

    @property
    def largest(self) -> Term:
        """Largest moment."""
        return max(self.moments, key=lambda term: term.bytes)

    @property
    def spare(self) -> Term:
        """Freed memory that the C library holds at that moment."""
        largest = self.largest
        return Term("kept by the C library", round(SPARE * largest.bytes), f"{SPARE:.2g} × {largest.name}")

    @property
    def peak(self) -> int:
        """Predicted peak."""
        return max(self.loading, sum(term.bytes for term in self.always) + self.largest.bytes + self.spare.bytes)


def predict_memory(c: MemoryInputs) -> MemoryEstimate:
    """Return the formula of the module's docstring with these numbers."""
    results = [p for p in c.parts if p.result_bytes]
    always = (
        Term("process", c.resident, "measured with the data loaded and the libraries in use"),
        Term("index of the real samples", 8 * c.samples, f"8 × {c.samples:,} samples"),
        Term("trained networks", c.networks, "parameters and buffers"),
        Term("state", c.state, "what is stored, its velocity or moments, the networks of the method"),
        *(Term(f"results of {p.name}", p.result_bytes, "as long as a step, or longer") for p in results),
    )
    around = {"before": 0, "descent": c.graph, "after": c.moving + c.moments}
    moments = [Term("sorting by class", SORTED * c.samples, f"{SORTED} × {c.samples:,} samples")]
    for p in c.parts:
        if p.fetched:
            moments.append(Term(f"fetching {p.name}", FETCHED * p.fetched, f"{FETCHED} × {p.fetched:,}"))
        if p.result_bytes and p.joined:
            moments.append(Term(f"joining results of {p.name}", p.result_bytes, "once more"))
        moments.append(_moment(p, around[p.when]))
    if c.moving:
        how = (
            f"decoding {c.graph:,} + slopes {c.decoded:,} + gradient, step and new values 3 × {c.moving:,} + new "
            f"velocity or moments {c.moments:,}"
        )
        moments.append(Term("move", c.graph + c.decoded + 3 * c.moving + c.moments, how))
    moments.append(Term("checkpoint", WRITTEN * c.state, f"{WRITTEN} × state {c.state:,}"))
    moments.append(Term("result", MADE * c.decoded, f"{MADE} × decoded inputs {c.decoded:,}"))
    # By then the state is gone.
    how = f"inputs in both units 2 × {c.decoded:,} + {WRITTEN} × file {c.stored:,} − state {c.state:,}"
    moments.append(Term("writing", max(0, 2 * c.decoded + WRITTEN * c.stored - c.state), how))
    return MemoryEstimate(loading=c.loading, always=always, moments=tuple(moments))


def _moment(p: PartMemory, around: int) -> Term:
    how = f"{p.at_once:,} × {p.each:,}" + (f" + {p.fixed:,}" if p.fixed else "")
    if around:
        how += f" + {'decoding' if p.when == 'descent' else 'what has moved'} {around:,}"
    return Term(p.name, p.fixed + p.each * p.at_once + around, how)
