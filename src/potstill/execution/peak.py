"""The memory that a distillation takes at its peak on the CPU: a formula of bytes, and nothing else.

.. math::
    peak = \\max\\big(loading,\\; \\textstyle\\sum always + (1 + SPARE) \\cdot \\max moments\\big)

``always`` is held as long as the run lasts: the process with the data loaded, the index of the real samples by class,
trained networks, the state. ``moments`` come one after the other: a pass of real samples, a pass of synthetic ones, the
network's training, the move of what is stored, a checkpoint, the result. The C library keeps what one moment frees for
the next (`potstill.execution.memory`), so the largest counts, and a part of it once more, because freed pieces do not
always fit what comes. No term grows with the number of real samples but the data themselves and 8 bytes for each.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = ["MemoryEstimate", "MemoryInputs", "PartMemory", "Term", "predict_memory"]

SPARE = 1 / 3
"""Share of the largest moment that the C library holds beyond what is alive (freed pieces that do not fit), from less
than a fifth to three quarters. Measured: ``benchmarks/scaling.py``."""

FETCHED = 3
"""Copies of an input while it is fetched: in data units, centred and divided, or normalised and augmented."""
SORTED = 16
"""Bytes for each real sample while they are sorted by class, beyond the index that is kept."""
WRITTEN = 3
"""Copies of what is written while it is: each tensor's bytes, all of them as one, and that as a Python object."""
MADE = 4
"""Copies of the decoded inputs while the set is made of the last state: decoded, in data units, in model space, and one
while they are computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartMemory:
    """What a part of a step holds at its peak: ``fixed + each · at_once`` bytes."""

    name: str
    each: int
    """Bytes that each class adds that is passed at once."""
    fixed: int
    """Bytes whatever their number."""
    at_once: int
    """Classes that are passed at once."""
    result_bytes: int = 0
    """Bytes of its results, which are held while the step goes on, or longer."""
    joined: bool = False
    """Whether they are made of several and put together, and so are there twice for a moment."""
    fetched: int = 0
    """Bytes of the real inputs that are passed at once."""
    when: Literal["before", "descent", "after"] = "before"
    """``descent``: decoded inputs and their graph are alive. ``after``: what is stored is there twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryInputs:
    """What the formula takes, in bytes where nothing else is said."""

    resident: int
    """Of the process with the data loaded and the libraries in use."""
    loading: int
    """Of the process at the peak of loading the data."""
    samples: int
    """Number of real samples."""
    networks: int
    """Of the trained networks that the method holds."""
    state: int
    """Of the tensors of the state."""
    moving: int
    """Of the stored values that the optimiser moves."""
    moments: int
    """Of its velocity or moments."""
    decoded: int
    """Of the inputs that the stored values decode to."""
    graph: int
    """Of the decoded inputs with the graph of their decoding; 0 where what is stored are the inputs."""
    stored: int
    """Of the file."""
    parts: tuple[PartMemory, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A summand: bytes, of what, and how they come about."""

    name: str
    bytes: int
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """The formula with its numbers, in bytes."""

    loading: int
    always: tuple[Term, ...]
    moments: tuple[Term, ...]
    """In the order of a run. One at a time."""

    @property
    def largest(self) -> Term:
        """The moment that decides."""
        return max(self.moments, key=lambda term: term.bytes)

    @property
    def spare(self) -> Term:
        """What the C library holds beyond what is alive at that moment."""
        largest = self.largest
        return Term(
            name="kept by the C library",
            bytes=round(SPARE * largest.bytes),
            explanation=f"{SPARE:.2g} × {largest.name}",
        )

    @property
    def peak(self) -> int:
        """The prediction."""
        return max(self.loading, sum(term.bytes for term in self.always) + self.largest.bytes + self.spare.bytes)


def predict_memory(c: MemoryInputs) -> MemoryEstimate:
    """The formula of the module's text for these counts. Pure: equal counts, equal terms."""
    always = (
        Term(name="process", bytes=c.resident, explanation="measured with the data loaded and the libraries in use"),
        Term(name="index of the real samples", bytes=8 * c.samples, explanation=f"8 × {c.samples:,} samples"),
        Term(name="trained networks", bytes=c.networks, explanation="parameters and buffers"),
        Term(
            name="state",
            bytes=c.state,
            explanation="what is stored, its velocity or moments, the networks of the method",
        ),
        *(
            Term(name=f"results of {p.name}", bytes=p.result_bytes, explanation="as long as a step, or longer")
            for p in c.parts
            if p.result_bytes
        ),
    )
    around = {"before": 0, "descent": c.graph, "after": c.moving + c.moments}
    moments = [Term(name="sorting by class", bytes=SORTED * c.samples, explanation=f"{SORTED} × {c.samples:,} samples")]
    for p in c.parts:
        if p.fetched:
            moments.append(
                Term(name=f"fetching {p.name}", bytes=FETCHED * p.fetched, explanation=f"{FETCHED} × {p.fetched:,}")
            )
        if p.result_bytes and p.joined:
            moments.append(Term(name=f"joining results of {p.name}", bytes=p.result_bytes, explanation="once more"))
        moments.append(_moment(p, around[p.when]))
    if c.moving:
        moments.append(
            Term(
                name="move",
                bytes=c.graph + c.decoded + 3 * c.moving + c.moments,
                explanation=f"decoding {c.graph:,} + slopes {c.decoded:,} + "
                f"gradient, step and new values 3 × {c.moving:,} "
                f"+ new velocity or moments {c.moments:,}",
            )
        )
    moments.append(Term(name="checkpoint", bytes=WRITTEN * c.state, explanation=f"{WRITTEN} × state {c.state:,}"))
    moments.append(Term(name="result", bytes=MADE * c.decoded, explanation=f"{MADE} × decoded inputs {c.decoded:,}"))
    # By then the state is gone.
    writing = max(0, 2 * c.decoded + WRITTEN * c.stored - c.state)
    how = f"inputs in both units 2 × {c.decoded:,} + {WRITTEN} × file {c.stored:,} − state {c.state:,}"
    moments.append(Term(name="writing", bytes=writing, explanation=how))
    return MemoryEstimate(loading=c.loading, always=always, moments=tuple(moments))


def _moment(p: PartMemory, around: int) -> Term:
    how = f"{p.at_once:,} × {p.each:,}" + (f" + {p.fixed:,}" if p.fixed else "")
    if around:
        how += f" + {'decoding' if p.when == 'descent' else 'what has moved'} {around:,}"
    return Term(name=p.name, bytes=p.fixed + p.each * p.at_once + around, explanation=how)
