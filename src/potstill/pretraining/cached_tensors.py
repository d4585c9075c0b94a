"""Job of an asset that is a few tensors: computed once, and cached in a file that says their hash."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from potstill._util.cache import make_cache_folder
from potstill.core import Payload
from potstill.dataset_file import read_tensors, write_tensors
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.pretraining.cache_keys import warn_other_machines

__all__ = ["CachedTensors"]


class CachedTensors(ABC):
    """Base of an `potstill.core.AssetJob` whose result is tensors by name."""

    called: ClassVar[str]
    """Plural noun of its result: ``principal directions``."""
    max_bytes: ClassVar[int]
    """Largest file that is read."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """Cache file."""

    @abstractmethod
    def compute(self) -> Payload:
        """Compute the tensors."""

    def is_cached(self) -> bool:
        """Return True if it seems to be in the cache."""
        return self.path.exists()

    def load(self) -> Payload | None:
        """Return it from the cache; ``None`` if it is missing or damaged."""
        try:
            tensors, metadata = read_tensors(self.path, self.max_bytes)
        except PotstillError:
            warn_other_machines(self.path, self.called)
            return None
        return tensors if metadata.get("hash") == hash_tensors(tensors) else None

    def build(self) -> tuple[Payload, str] | None:
        """Compute and cache it; if it cannot be cached, return it and the reason."""
        return self.write(self.compute())

    def write(self, tensors: Payload) -> tuple[Payload, str] | None:
        """Write tensors to the cache; if that fails, return them and the reason."""
        try:
            make_cache_folder(self.path.parent)
            write_tensors(self.path, tensors, {"hash": hash_tensors(tensors)})
        except (OSError, PotstillError) as error:
            return tensors, str(error)
        return None
