"""Networks trained without labels, and the vectors that they give samples: targets of `potstill.load_data`.

A network is trained by Barlow Twins (`potstill.functional.self_supervised`) on two augmented views of each picture, and
cached as other trained networks are. The representation of a picture is where the network's features of it
lie along their leading directions in the training data (their principal components).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from potstill._util.progress import Callback
from potstill.augment.names import load_augmentation
from potstill.core import AssetContext, Network, NetworkFactory, Source
from potstill.core.nested import single_tensor
from potstill.core.registry import with_settings
from potstill.data.iterate import map_samples, prefetch
from potstill.errors import PotstillError
from potstill.execution import Executor
from potstill.functional.self_supervised import barlow_twins_loss
from potstill.functional.train import train_step
from potstill.kinds import get_kind
from potstill.labels.teacher import Teacher
from potstill.nn import factory
from potstill.pretraining.build import build_assets
from potstill.pretraining.networks import TrainedNetworks, TrainNetwork, training_jobs

__all__ = ["Encoder", "Representations", "TrainSelfSupervised", "fit_encoder", "parse_representations"]

_UPDATES = 400
"""Updates of a teacher by default, about. Ours."""
_MOST = 10_000
"""Samples that the directions are fitted on, at most: they and the mean are of the first ones."""
_CHUNK = 256
"""Samples of a pass through a teacher."""


@dataclass(frozen=True, kw_only=True)
class Representations:
    """Settings of a self-supervised teacher and of the vectors that it gives: ``representations:size=32,epochs=10``.

    Raises:
        PotstillError: a number is out of its range.
    """

    size: int = 32
    """Numbers of a vector."""
    epochs: int = 0
    """Passes over the training data; 0: about 400 updates, one pass at least."""
    network: str = "convnet-w64"
    """The teacher's network."""
    augment: str = "rrc"
    """Augmentation that makes the views; its flips are left out where a mirrored picture is another one."""
    outputs: int = 128
    """Outputs of the network, by which it is trained; they are not the vectors."""
    batch: int = 256
    """Pictures of an update."""
    lr: float = 0.1
    """Learning rate of SGD with momentum 0.9, along a cosine to zero."""
    weight_decay: float = 1e-5
    off_diagonal: float = 0.0051
    """Weight of correlations between different outputs."""

    def __post_init__(self) -> None:
        counts = {"size": self.size, "outputs": self.outputs, "batch": self.batch - 1, "epochs": self.epochs + 1}
        if low := [name for name, value in counts.items() if value < 1]:
            least = {"batch": 2, "epochs": 0}.get(low[0], 1)
            raise PotstillError(
                f"targets representations: {low[0]} must be at least {least}, not {getattr(self, low[0])}; change it"
            )
        if not 0 < self.lr < float("inf") or not self.weight_decay >= 0 or not self.off_diagonal >= 0:
            raise PotstillError(
                f"targets representations: lr must be above 0, weight_decay and off_diagonal at least 0, not "
                f"{self.lr}, {self.weight_decay} and {self.off_diagonal}; change them"
            )

    def recipe(self, train: Source) -> dict[str, float | int | str]:
        """Return the recipe of `TrainSelfSupervised` for these data."""
        batches = max(1, len(train) // self.batch)
        return {
            "network": self.network, "epochs": self.epochs or max(1, round(_UPDATES / batches)), "batch": self.batch,
            "lr": self.lr, "momentum": 0.9, "weight_decay": self.weight_decay, "schedule": "cosine",
            "augment": self.augment, "outputs": self.outputs, "off_diagonal": self.off_diagonal,
        }  # fmt: skip


def parse_representations(spelled: str) -> Representations:
    """Return the settings in ``representations`` or ``representations:size=32,epochs=10``.

    Raises:
        PotstillError: it is another word, or there is no such setting or value.
    """
    name, _, settings = spelled.partition(":")
    if name != "representations":
        raise PotstillError(
            f"targets must be representations (with settings: representations:size=32), a file of vectors (.npy), an "
            f"array or a function, not {spelled!r}; change them"
        )
    parsed: Representations = with_settings("targets representations", Representations, settings)
    return parsed


@dataclass(frozen=True, kw_only=True)
class TrainSelfSupervised(TrainNetwork):
    """Training job of one network without labels: Barlow Twins on two views of every sample."""

    called: ClassVar[str] = "self-supervised network"

    def _pass(self, net: nn.Module, teacher: Teacher, order: Tensor, rng: Generator, lr: float) -> Teacher:
        recipe, shape = self.full_recipe, self.train.input.shape
        weight, outputs = float(recipe["off_diagonal"]), int(recipe["outputs"])

        def criterion(answers: Tensor, _: Tensor) -> Tensor:
            first, second = answers.chunk(2)
            return barlow_twins_loss(first, second, weight) / outputs

        parts = [part for part in torch.split(order, int(recipe["batch"])) if len(part) > 1]
        for fetched in prefetch(self.train, parts):
            x = single_tensor(fetched.x, "a view of a picture")
            views = torch.cat([self.augment.apply(x, self.augment.draw(len(x), shape, rng)) for _ in range(2)])
            step = train_step(
                net, teacher.params, teacher.velocity, views, views.new_zeros(len(views)), lr=lr,
                momentum=float(recipe["momentum"]), weight_decay=float(recipe["weight_decay"]),
                buffers=teacher.buffers, criterion=criterion,
            )  # fmt: skip
            teacher = Teacher(
                params=step.params, velocity=step.velocity, buffers=step.buffers, step=teacher.step + 1,
                num_seen=teacher.num_seen + len(x),
            )  # fmt: skip
        return teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class _Teacher(TrainedNetworks):
    """Asset of one self-supervised network."""

    def jobs(self, ground: AssetContext) -> tuple[TrainSelfSupervised, ...]:
        outputs = int(self.recipe["outputs"])
        make = _network(str(self.recipe["network"]), ground.train, outputs)
        ground = AssetContext(train=ground.train, network=make, augmentation=ground.augmentation)
        recipe = {name: value for name, value in self.recipe.items() if name != "network"}
        return training_jobs(TrainSelfSupervised, ground, self.count, recipe)


def _network(name: str, train: Source, outputs: int) -> NetworkFactory:
    return factory(name, train.input, outputs, train.device, normalization=train.normalization)


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """A trained network and the directions of its features: pictures to vectors."""

    network: Network
    """In evaluation mode."""
    mean: Float[Tensor, " f"]
    """Mean of the features."""
    directions: Float[Tensor, "f d"]
    """Leading directions of the features, orthonormal columns, most variance first."""

    def __call__(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n d"]:
        """Return the vectors of inputs in model space."""
        with torch.no_grad():
            features = self.network.embed(x)
        return (features - self.mean) @ self.directions

    def encode(self, source: Source) -> Float[Tensor, "n d"]:
        """Return the vectors of all samples of a source, float32 on the CPU."""
        return map_samples(source, torch.arange(len(source)), _CHUNK, lambda batch: self(_one(batch.x)).cpu())


def _one(x: Any) -> Tensor:
    return single_tensor(x, "a self-supervised teacher")


def fit_encoder(
    train: Source, settings: Representations, *, executor: Executor | None = None, progress: Callback | None = None
) -> Encoder:
    """Train a network without labels, or take it from the cache, and fit the directions of its features.

    Args:
        train: pictures; labels are not read.
        settings: of the teacher and the vectors.
        executor: where the network is trained.
        progress: called with what is made, how many are there, how many there will be.

    Raises:
        PotstillError: inputs are no pictures, there are fewer than two, or features fewer than a vector has numbers.
    """
    if not get_kind(train.input).augmentable:
        raise PotstillError(
            f"{train.name}: a self-supervised teacher learns from augmented pictures, but these are of kind "
            f"{train.input.kind}; give vectors of your own as an array or a function"
        )
    if len(train) < 2:
        raise PotstillError(f"{train.name}: a self-supervised teacher needs two pictures or more; give more")
    make = _network(settings.network, train, settings.outputs)
    asset = _Teacher(name="self-supervised teacher", count=1, recipe=settings.recipe(train))
    made, _ = build_assets(
        [asset], train, make, lambda name: load_augmentation(name, train), executor=executor, progress=progress
    )
    weights = made[asset.name][0]
    network = make(weights.seed)
    network.load_state_dict({**weights.parameters, **weights.buffers})
    network.eval().requires_grad_(False)
    features = map_samples(
        train, torch.arange(min(len(train), _MOST)), _CHUNK, lambda batch: network.embed(_one(batch.x)).detach()
    )
    if features.shape[1] < settings.size:
        raise PotstillError(
            f"targets representations: {settings.network} has {features.shape[1]} features, fewer than size="
            f"{settings.size}; lower size"
        )
    mean = features.double().mean(0)
    centred = features.double() - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    directions = vectors.flip(1)[:, : settings.size]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    directions = directions * torch.where(largest < 0, -1.0, 1.0)  # an eigenvector has no sign of its own
    return Encoder(network=network, mean=mean.float(), directions=directions.float().contiguous())
