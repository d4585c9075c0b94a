"""Students that a teacher labels as they train: every batch, after augmentation and mixing.

The teacher is asked as the batch is made, or its answers are read from a label file that was written before
(`potstill.labels.label_file`), or a teacher in such a file is asked (`potstill.labels.teacher_file`); the file's views
then replace the protocol's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from potstill._util.progress import Callback
from potstill.augment.crop import Crops, PadCrop
from potstill.augment.mix import CutMix, Mix, MixUp
from potstill.augment.per_frame import PerFrame
from potstill.augment.view_schedule import ViewSchedule
from potstill.core import Augmentation, NetworkFactory, NetworkWeights, Source
from potstill.errors import PotstillError
from potstill.evaluation.protocol import Protocol
from potstill.execution import Executor
from potstill.labels.losses import kl
from potstill.labels.metadata import Statistics
from potstill.labels.teacher_file import Labels
from potstill.labels.write import LabelTeacher, teacher_logits
from potstill.nn import factory_for
from potstill.pretraining import TrainedNetworks, build_assets

__all__ = [
    "Teachers", "check_stored_labels", "make_mix", "make_views", "stored_label_loss", "teacher_loss", "train_teachers",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Teachers:
    """Trained networks whose mean logits are the labels. It can be sent to another process."""

    make: NetworkFactory
    trained: tuple[NetworkWeights, ...]
    others: "tuple[Teachers, ...]" = ()
    """Teachers of other architectures."""

    def networks(self) -> list[nn.Module]:
        """Return the networks in evaluation mode."""
        networks: list[nn.Module] = []
        for each in self.trained:
            network = self.make(each.seed)
            network.load_state_dict({**each.parameters, **each.buffers})
            networks.append(network.eval().requires_grad_(False))
        return [*networks, *(network for other in self.others for network in other.networks())]

    def experts(self, classes: tuple[str, ...]) -> list[LabelTeacher]:
        """Return the networks with their name and the class order that each was trained on.

        Args:
            classes: class order of teachers that do not store their own.
        """
        own = [
            LabelTeacher(name=self.make.name, network=network, classes=each.classes or classes)
            for each, network in zip(self.trained, replace(self, others=()).networks(), strict=True)
        ]
        return [*own, *(expert for other in self.others for expert in other.experts(classes))]

    def logits_function(self, statistics: Statistics = "running") -> Callable[[Tensor], Tensor]:
        """Return a function from inputs to mean logits (n, k), without a graph.

        Args:
            statistics: of the networks' BatchNorms, as for `potstill.labels.write.mean_logits`.
        """
        networks = self.networks()

        def label(x: Tensor) -> Tensor:
            return torch.stack([teacher_logits(network, x, statistics) for network in networks]).mean(0)

        return label

    @property
    def bytes(self) -> int:
        """Size of all parameters and buffers in bytes."""
        kept = [t for each in self.trained for part in (each.parameters, each.buffers) for t in part.values()]
        return sum(t.numel() * t.element_size() for t in kept) + sum(other.bytes for other in self.others)


def train_teachers(
    protocol: Protocol,
    train: Source,
    make: NetworkFactory,
    augmentation: Callable[[str], Augmentation],
    progress: Callback | None = None,
    executor: Executor | None = None,
) -> Teachers:
    """Return the protocol's teachers, trained on ``train`` or from the cache. They depend on no evaluation seed.

    Args:
        make: architecture of all teachers but the protocol's committee.
        executor: runs their training.
    """
    said = protocol.teaching
    recipe: dict[str, float | int | str] = {
        "epochs": said.teacher_epochs, "batch": said.teacher_batch, "lr": said.teacher_lr, "momentum": 0.9,
        "weight_decay": said.teacher_weight_decay, "augment": said.teacher_augment, "schedule": "cosine",
    }  # fmt: skip
    spec = TrainedNetworks(name="teachers", count=said.teachers, recipe=recipe)
    others = [factory_for(name, train) for name in said.committee]
    specs = [
        TrainedNetworks(name=f"teachers/{n}", count=1, recipe={**recipe, "network": other.name})
        for n, other in enumerate(others)
    ]
    made, _ = build_assets([spec, *specs], train, make, augmentation, executor=executor, progress=progress)
    further = (Teachers(make=other, trained=tuple(made[f"teachers/{n}"])) for n, other in enumerate(others))
    return Teachers(make=make, trained=tuple(made["teachers"]), others=tuple(further))


def teacher_loss(
    p: Protocol, teacher: Float[Tensor, "n k"], y: Tensor, weight: Float[Tensor, " n"] | None,
    logits: Float[Tensor, "n k"],
) -> Tensor:  # fmt: skip
    """Return a student's loss on the teacher's logits, plus the protocol's share of cross-entropy on the labels ``y``.

    Args:
        weight: multiplies each sample's loss before the mean.
    """
    target = (teacher / p.teaching.temperature).softmax(1) if p.teaching.loss == "kl" else teacher
    return _target_loss(p, logits, target, y, weight)


def _target_loss(p: Protocol, logits: Tensor, target: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
    """Return the loss on a teacher's probabilities or logits, plus ``hard_weight`` times the cross-entropy on the set's
    own labels (soft ones by their class)."""
    t = p.teaching
    if t.loss == "kl":
        loss = kl(logits, target, temperature=t.temperature, t_squared=t.t_squared, weight=weight)
    elif weight is None:
        loss = F.mse_loss(logits, target)
    else:
        loss = ((logits - target).square().mean(1) * weight).mean()
    if not t.hard_weight:
        return loss
    y = y if y.ndim == 1 else y.argmax(1)
    if weight is None:
        return loss + t.hard_weight * F.cross_entropy(logits, y)
    return loss + t.hard_weight * (F.cross_entropy(logits, y, reduction="none") * weight).mean()


def stored_label_loss(
    p: Protocol, student: Callable[[Tensor], Tensor], store: Labels, x: Tensor, y: Tensor, epoch: int,
    index: Tensor, weights: Float[Tensor, " n"] | None = None,
) -> Tensor:  # fmt: skip
    """Return the loss on the stored views of the items at ``index`` that training epoch ``epoch`` sees.

    Args:
        weights: of all items; a mixed view has its items' weights in the shares of the mix.

    Raises:
        PotstillError: the label file lacks what the protocol's loss needs.
    """
    view, target = store.batch_of(x, epoch, index, p.teaching.temperature if p.teaching.loss == "kl" else None)
    logits = student(view)
    weight = None
    if weights is not None:
        weight = store.mixed(weights, store.stored_epoch(epoch), index, tuple(view.shape[1:]))
    return _target_loss(p, logits, target.to(view.device), y[index.to(y.device)], weight)


def check_stored_labels(p: Protocol, store: Labels) -> None:
    """Refuse labels that teachers gave with other BatchNorm statistics than the protocol prescribes.

    Raises:
        PotstillError: the protocol uses the set's own labels, or the statistics differ.
    """
    if p.teaching.labels != "teacher":
        raise PotstillError(
            f"protocol {p.name} trains on the set's own labels, but stored ones were given; leave them out, or choose "
            "a protocol in which a teacher labels"
        )
    found = store.about.statistics
    if isinstance(store.about.views, ViewSchedule) and found != p.teaching.teacher_statistics:
        raise PotstillError(
            f"protocol {p.name} has labels by a teacher's {p.teaching.teacher_statistics} statistics, but these were "
            f'made by {found} ones; label again, or say `teacher_statistics="{found}"`'
        )


def make_views(p: Protocol, augment: Augmentation, seed: int) -> ViewSchedule:
    """Return the protocol's augmentation and mix as views that are recomputed from a seed.

    Raises:
        PotstillError: the protocol has no teacher, or its augmentation is not made of crops and flips.
    """
    if p.teaching.labels != "teacher":
        raise PotstillError(
            f"labels are stored for protocols in which a teacher labels, but {p.name} takes the set's own; choose "
            "sre2l or rded"
        )
    if isinstance(augment, PerFrame):
        raise PotstillError(
            f"views that are stored move whole pictures, but protocol {p.name} moves each frame of a clip; choose a "
            'representation of one frame such as "mean", or say `augment="none"`'
        )
    if p.recipe.augment != "none" and not isinstance(augment, Crops | PadCrop):
        raise PotstillError(
            f"views that are stored are crops, shifts and flips, but protocol {p.name} has augmentation "
            f"{p.recipe.augment!r}; choose rrc, pad-crop, patches, flip or none"
        )
    scale, ratio, pad, cells = None, (3 / 4, 4 / 3), 0, 1
    if isinstance(augment, PadCrop):
        pad = augment.pad
    elif isinstance(augment, Crops):
        cells = augment.patches
        if (augment.scale, augment.ratio) != ((1.0, 1.0), (1.0, 1.0)):
            scale, ratio = augment.scale, augment.ratio
    return ViewSchedule(
        seed=seed, scale=scale, ratio=ratio, flip=augment.flip if isinstance(augment, Crops | PadCrop) else 0.0,
        mix=p.recipe.mix, mix_beta=p.recipe.mix_beta, mix_prob=p.recipe.mix_prob if p.recipe.mix != "none" else 0.0,
        patches=cells, pad=pad,
    )  # fmt: skip


def make_mix(p: Protocol) -> Mix | None:
    """Return the protocol's batch mixing, or ``None``."""
    if p.recipe.mix == "none":
        return None
    return (CutMix if p.recipe.mix == "cutmix" else MixUp)(alpha=p.recipe.mix_beta, prob=p.recipe.mix_prob)
