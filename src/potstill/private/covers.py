"""Everything that a file can give away of the data, and how a private run deals with each.

A run that is not on this list's terms is refused before the data are touched, or has no claim.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from potstill.core import Source
from potstill.data import TensorSource
from potstill.data.attributes import get_attribute
from potstill.errors import PotstillError
from potstill.private.options import PrivateOptions
from potstill.runs.spec import RunIO, RunLimits, RunSpec
from potstill.tasks import Classification, get_task

__all__ = ["COVERS", "Covered", "check_run", "check_source"]


@dataclass(frozen=True, kw_only=True)
class Covered:
    """One thing that could depend on the data."""

    what: str
    how: Literal["inside ε", "public", "not done"]
    """``inside ε``: released with noise; ``public``: known or declared; ``not done``: refused, or never computed."""
    detail: str

    def to_json(self) -> dict[str, str]:
        """Return the entry as JSON values."""
        return {"what": self.what, "how": self.how, "detail": self.detail}


COVERS: Sequence[Covered] = (
    Covered(what="starts", how="inside ε", detail="noisy means of cells; no real sample is a start"),
    Covered(what="cells", how="inside ε", detail="every round of k-means is a release"),
    Covered(what="moments", how="inside ε", detail="noisy class sums of public features, clipped to norm 1"),
    Covered(what="class counts", how="inside ε", detail="noisy counts; the file has no exact number of records"),
    Covered(what="labels", how="inside ε", detail="the labeller's gradients are releases; its labels are made of them"),
    Covered(what="normalisation", how="public", detail="constants, or declared ranges"),
    Covered(what="class names", how="public", detail="known or declared"),
    Covered(what="sizes, columns, categories", how="public", detail="known or declared"),
    Covered(what="networks and features", how="public", detail="random, from the seed in the file"),
    Covered(what="split of the budget, clipping, steps, rates", how="public", detail="fixed before the data are read"),
    Covered(what="choices by trial", how="not done", detail="no auto, no search for bits, no time limit, no bytes"),
    Covered(what="assets of the data", how="not done", detail="no teachers, experts, scores or earlier sets"),
    Covered(what="weights and attributes", how="not done", detail="every record counts alike"),
    Covered(what="hash of the data", how="not done", detail="the file has none"),
)
"""The list, as it stands in files."""

_SPEC: Mapping[str, str] = {
    "bytes": "how many items fit is tried on data; give ipc or items",
    "planned_bytes": "it goes with bytes; give ipc or items",
    "balance": "classes have equally many items; leave it out",
    "preset": "presets are of methods; leave it out",
    "network": "the features are random networks of its own; leave it out",
    "parametrization": "inputs are stored as they are; leave it out",
    "labels": "the budget's share for the labeller decides them: `private=…,labeller=0` keeps hard ones",
    "augment": "it has none; leave it out",
    "zca": "whitening is fitted on all real data; leave it out",
    "real_weights": "weights of samples depend on others; leave it out",
    "regularizer": "its term is of losses of real samples, or of no method; leave it out",
    "scores": "scores are computed from the real data without noise; leave them out",
    "networks": "trained networks may have seen the data; leave them out",
    "experts": "trajectories are trained on the data without noise; leave them out",
    "initial": "an earlier set may give away real data; leave it out",
    "class_shards": "releases are of all classes together; leave it out",
    "options": "fields of a method do not apply; leave them out",
}
"""Choices of a run that a private one refuses, with the reason."""


def check_run(spec: RunSpec, limits: RunLimits, io: RunIO) -> None:
    """Check, before the data are read, that nothing would touch them outside of the budget.

    Raises:
        PotstillError: a choice needs the real data, or does not apply.
    """
    if spec.method != "dm":
        name = spec.method if isinstance(spec.method, str) else type(spec.method).__name__
        raise PotstillError(
            f"method {name} reads real data at every step, so its set could claim no ε; leave method out with `private`"
        )
    for name, why in _SPEC.items():
        if getattr(spec, name):
            raise PotstillError(f"a private set takes no {name}: {why}")
    if spec.device not in ("auto", "cpu"):
        raise PotstillError(f"a private set is made on the CPU, but device is {spec.device!r}; leave it out")
    if spec.codec == "auto":
        raise PotstillError(
            'a private set takes no `codec="auto"`: bits are tried on real data; name one, such as uint8'
        )
    if limits.time_limit is not None:
        raise PotstillError("a private set takes no time limit: when it stops would depend on the data; give steps")
    if io.snapshots is not None or io.log is not None:
        name = "snapshots" if io.snapshots is not None else "log"
        raise PotstillError(f"a private set takes no {name}; leave it out")


def check_source(train: Source, reading: Mapping[str, Any], options: PrivateOptions) -> TensorSource:
    """Return the training split, if its records can be released.

    Raises:
        PotstillError: it is streamed, has no classes, or was read in a way that looks at several records.
    """
    if not isinstance(train, TensorSource) or train.input.parts or train.input.kind not in ("image", "table"):
        kind = "streamed" if not isinstance(train, TensorSource) else f"{train.input.kind} data"
        raise PotstillError(
            f"a private set is made of pictures or rows in memory, but {train.name} is {kind}; give others"
        )
    if not isinstance(get_task(train), Classification):
        raise PotstillError(f"a private set has classes, but {train.name} is {get_task(train).name}; give classes")
    if get_attribute(train) is not None or train.weights is not None:
        raise PotstillError(f"a private set has no attribute or weights of records; read {train.name} without them")
    if reading.get("missing") == "impute":
        raise PotstillError('missing values would be filled from the data; read them with `missing="drop"`')
    if len(train) < 2 / min(1.0, options.epsilon):
        raise PotstillError(f"{train.name} has {len(train)} records, too few for any ε; give more")
    return train
