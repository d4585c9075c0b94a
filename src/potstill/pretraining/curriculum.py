"""PAD's curriculum: the samples of each expert epoch, from easy to hard.

Li et al., "Prioritize Alignment in Dataset Distillation", arXiv:2408.03360. Samples of each class are sorted by GraNd:
the norm of the last layer's gradient early in training, averaged over networks (as DeepCore has it, from which the
published orders are). The easiest 75 % are met first; that part grows to all by epoch 20; after epoch 40 the easiest
10 % are left out, after epoch 60 the easiest 20 %. Epochs count from 0, parts are of each class, rounded down, and a
class keeps one sample at least.
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill._util.cache import make_cache_folder
from potstill._util.cache_dir import cache_dir
from potstill.augment.siamese import none
from potstill.core import Batch, NetworkFactory, NetworkWeights, Source
from potstill.core.nested import single_tensor
from potstill.data.iterate import map_samples
from potstill.dataset_file import read_tensors, write_tensors
from potstill.errors import PotstillError
from potstill.functional.gradient_norms import last_layer_norms
from potstill.pretraining.networks import TrainNetwork

__all__ = ["PAD", "Curriculum", "DifficultyOrder"]

_CHUNK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """Share of each class, sorted from easy to hard, seen by each epoch."""

    begin: float = 0.75
    """Share seen by epoch 0; it grows linearly."""
    full_epoch: int = 20
    """Epoch from which all samples are seen."""
    drops: tuple[tuple[int, float], ...] = ((40, 0.1), (60, 0.2))
    """(epoch, share): after that epoch the easiest share is dropped."""

    def part(self, epoch: int) -> tuple[float, float]:
        """Return the first and last share of the sorted class seen by ``epoch``."""
        if epoch <= self.full_epoch:
            return 0.0, min(1.0, self.begin + (1 - self.begin) * epoch / max(1, self.full_epoch))
        return max((low for after, low in self.drops if epoch > after), default=0.0), 1.0

    def index(self, epoch: int, order: Int[Tensor, " n"], labels: Int[Tensor, " n"]) -> Int[Tensor, " m"]:
        """Return the samples of an epoch, ascending.

        Args:
            order: samples from easy to hard.
            labels: of all samples.
        """
        low, high = self.part(epoch)
        y = labels[order]
        pools = [order[y == c] for c in torch.unique(y).tolist()]
        kept = [p[min(int(low * len(p)), len(p) - 1) : max(1, int(high * len(p)))] for p in pools]
        return torch.cat(kept).sort().values


PAD = Curriculum()


@dataclass(frozen=True, kw_only=True)
class DifficultyOrder:
    """Order of a source's samples from easy to hard, by networks trained for it; cached."""

    train: Source
    make: NetworkFactory
    runs: int
    epochs: int
    batch: int

    def __post_init__(self) -> None:
        if not self.train.classes:
            raise PotstillError(f"a curriculum sorts each class, but {self.train.name} has none; use curriculum none")

    def trainings(self) -> tuple[TrainNetwork, ...]:
        """Return the training jobs of the scoring networks: SGD with momentum on plain images."""
        recipe: dict[str, float | int | str] = {
            "epochs": self.epochs, "batch": self.batch, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4,
            "schedule": "constant",
        }  # fmt: skip
        return tuple(
            TrainNetwork(train=self.train, make=self.make, augment=none(), recipe=recipe, number=n)
            for n in range(self.runs)
        )

    def path(self) -> Path:
        """Return the cache file of the scores."""
        description = json.dumps(["grand last layer", 1, *(job.path().name for job in self.trainings())])
        return cache_dir() / "orders" / f"{hashlib.sha256(description.encode()).hexdigest()}.safetensors"

    def remaining(self) -> float:
        """Samples that training its networks will still pass."""
        return 0.0 if self.path().exists() else sum(job.remaining() for job in self.trainings() if not job.is_cached())

    def scores(self) -> Float[Tensor, " n"]:
        """Return the mean norm of each sample's last-layer gradient."""
        path = self.path()
        with contextlib.suppress(PotstillError, KeyError):  # not there or not readable: it is made again
            found = read_tensors(path, 2**40)[0]["scores"]
            if found.shape == (len(self.train),):
                return found
        total = torch.zeros(len(self.train))
        for job in self.trainings():
            if (networks := job.load()) is None:
                built = job.build()
                networks = job.load() if built is None else built[0]
            assert networks is not None
            total += self._of(networks[0]) / self.runs
        with contextlib.suppress(OSError, PotstillError):  # a cache that cannot be written costs time, not the result
            make_cache_folder(path.parent)
            write_tensors(path, {"scores": total}, {})
        return total

    def _of(self, trained: NetworkWeights) -> Float[Tensor, " n"]:
        net = self.make(trained.seed).eval()
        net.load_state_dict({**trained.parameters, **trained.buffers})
        index = torch.arange(len(self.train))

        def norms(batch: Batch) -> Tensor:
            assert batch.y is not None  # the networks could not have been trained
            return last_layer_norms(net, single_tensor(batch.x, "a curriculum"), batch.y).cpu()

        return map_samples(self.train, index, _CHUNK, norms)

    def easy_first(self, index: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
        """Return the samples at ``index`` from easy to hard."""
        return index[self.scores()[index].argsort(stable=True)]
