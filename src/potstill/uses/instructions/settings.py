"""Settings of the small language models, of LESS and of what learns a selection."""

from dataclasses import dataclass, fields

from potstill.errors import PotstillError

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of models and training; all are ours but where a source stands.

    Raises:
        PotstillError: one is out of its range.
    """

    words: int = 2048
    """Pieces of the vocabulary beside the 256 bytes, at most."""
    length: int = 96
    """Pieces of a prompt with its response that models read, at most."""
    width: int = 64
    """Numbers of a piece inside the model."""
    layers: int = 2
    """Blocks of the transformer."""
    base_updates: int = 1000
    """Updates on plain texts before all else."""
    warm_up: float = 0.05
    """Fraction of the pool on which LESS trains first (arXiv:2402.04333, section 4.1)."""
    epochs: int = 4
    """Epochs of that training; the gradients of each one's model count (the paper: 4)."""
    projection: int = 8192
    """Numbers of a projected gradient (the paper: 8,192)."""
    updates: int = 100
    """Updates of a model that learns a selection."""
    batch: int = 16
    """Pairs of an update."""
    lr: float = 1e-3
    """First learning rate of AdamW, which falls along a line to 0."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("warm_up", "lr"):
                if not 0 < value <= 1:
                    raise PotstillError(f"{field.name} must be above 0 and at most 1, not {value}; change it")
            elif isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
                raise PotstillError(f"{field.name} must be a whole number from 1 to 1,000,000, not {value}; change it")
        if self.length < 8 or self.width % 4:
            raise PotstillError(
                f"length must be at least 8 and width a multiple of 4, not {self.length} and {self.width}; change them"
            )
