"""How a distilled set is measured, to the last detail, as a value with a fingerprint."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from potstill.errors import PotstillError, unknown

__all__ = ["Protocol", "Schedule"]

Schedule = Literal["drop", "cosine"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every field is part of the fingerprint: two scorecards with the same one were measured alike."""

    name: str
    version: int
    paper: str
    """Who published it, and where the details were read."""
    summary: str
    optimistic: bool = False
    """Published with a choice (best epoch, learning rate) made on test data."""
    students: int = 5
    """Networks trained on the set."""
    published_runs: str = ""
    """Repeats of the publication, where they differ from ``students``."""
    lr: tuple[float, ...] = (0.01,)
    """Learning rate; of several, one is chosen on validation data."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 256
    epochs: int | None = None
    """Passes over the set; or ``steps``."""
    extra_epoch: bool = False
    """Train one epoch more than said, as ``for ep in range(Epoch+1)`` does."""
    steps: tuple[int, ...] = ()
    """Updates; of several, one is chosen on validation data."""
    schedule: Schedule = "cosine"
    """``drop``: after epoch number E//2+1 the rate is multiplied by ``drop_factor``. ``cosine``: to zero over all steps."""
    drop_factor: float = 0.1
    reset_momentum: bool = True
    """At the drop the optimiser is made anew, so its momentum starts from zero."""
    augment: str = "none"
    """Per-sample augmentation: a registered name, or ``dc`` (its own, for MNIST only)."""
    validation: float = 0.0
    """Part of the *training* data that choices are made on."""
    validation_students: int = 2
    validation_most: int = 1000
    """At most so many validation samples."""

    def fingerprint(self) -> str:
        """SHA-256 of all fields, 16 hex digits."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def override(self, **changes: Any) -> "Protocol":
        """This protocol with other fields; its fingerprint then differs.

        Raises:
            PotstillError: there is no such field, or it names the protocol.
        """
        fields = {f.name: f for f in dataclasses.fields(self)}
        for name, value in changes.items():
            if name not in fields or name in ("name", "version", "paper", "summary", "optimistic", "published_runs"):
                known = [n for n in fields if n not in ("name", "version", "paper", "summary", "optimistic")]
                raise PotstillError(f"protocol {self.name}: {unknown('option', name, known)}")
            if name in ("lr", "steps") and isinstance(value, int | float):
                changes[name] = (value,)
        if "steps" in changes and "epochs" not in changes:
            changes["epochs"] = None
        return dataclasses.replace(self, **changes)
