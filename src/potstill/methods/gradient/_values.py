"""The values that methods of gradient matching share, and the engines that they build."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from potstill.core import NonNegativeInt, Problem, UnitFloat
from potstill.functional.gradient import convolutional, distance
from potstill.functional.param_groups import ParamGroup, ParamGroups
from potstill.methods.engine import (
    Init,
    Labels,
    MatchingEngine,
    MatchingState,
    default_param_groups,
    idc_learning_rate,
    payload_bounds,
)
from potstill.methods.gradient._gradients import GradientDistance, Sampler
from potstill.methods.gradient._training import OneByOne, OnReal, OnSynthetic

__all__ = ["RealValues", "SyntheticValues", "build_real_engine", "build_synthetic_engine", "published_loops"]

_LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


def published_loops(ipc: int) -> tuple[int, int]:
    """(outer, inner) loops by items per class: the published table (utils.py, get_loops).

    Other ipc, for which the published program exits, follow the trend: outer = ipc, inner = 500 / ipc, at most 50.
    """
    return _LOOPS.get(ipc, (ipc, min(50, max(1, 500 // ipc))))


@dataclass(frozen=True, kw_only=True)
class SyntheticValues:
    """Fields of DC and DSA, whose network trains on the synthetic samples. The defaults are DC's."""

    state_type: ClassVar[type] = MatchingState

    iterations: int = 1000
    """Networks, one after the other (main.py, --Iteration)."""
    batch_real: int = 256
    """Real samples per class and step (main.py, --batch_real)."""
    init_from: Init = "noise"
    """Initial samples: noise or from random real samples (main.py, --init)."""
    labels: Labels = "hard"
    """Learned labels join the optimisation. Ours; hard as published."""
    lr_labels: float = 0.1
    """Learning rate of the labels' logits, where they are learned. Ours."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimizer of the stored values. Parametrizations with network weights (``field``) need AdamW."""
    lr: float = 0.1
    """Learning rate of the synthetic data (main.py, --lr_img)."""
    momentum: UnitFloat = 0.5
    """Momentum of the synthetic data (main.py)."""
    lr_net: float = 0.01
    """Learning rate of the network (main.py, --lr_net)."""
    batch_train: int = 256
    """Batch of the network's training on the synthetic data (main.py, --batch_train)."""
    outer: int | None = None
    """Updates per network; None: by items per class as published (utils.py, get_loops)."""
    inner: NonNegativeInt | None = None
    """Epochs of the network after each update; None: by items per class as published; 0: it does not train."""
    metric: Literal["ours", "mse", "cos"] = "ours"
    """Distance of gradients; "ours" is the paper's row-wise cosine distance (main.py, --dis_metric)."""
    augment: str = "none"
    """Siamese augmentation of the matched batches; the paper of DC has none."""
    network: str = "convnet"
    """Network whose gradients are matched."""
    parametrization: str = "pixels"
    """Parametrization of the synthetic inputs."""


@dataclass(frozen=True, kw_only=True)
class RealValues:
    """Fields of IDC and DREAM, whose network trains on real samples. The defaults are IDC's.

    They are from IDC's repository (arXiv:2205.14959): argument.py, condense.py and misc/reproduce.py.
    """

    state_type: ClassVar[type] = MatchingState

    iterations: int = 2000
    """Networks, one after the other (argument.py, --niter)."""
    batch_real: int = 64
    """Real samples per class and update (--batch_real)."""
    init_from: Init = "real"
    """Initial samples: random real ones (--init mix)."""
    labels: Labels = "hard"
    """Learned labels join the optimisation. Ours; hard as published."""
    lr_labels: float = 0.1
    """Learning rate of the labels' logits, where they are learned. Ours."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimizer of the stored values. Parametrizations with network weights (``field``) need AdamW."""
    outer: int = 100
    """Updates with each (argument.py, --inner_loop)."""
    lr: float = 5e-3
    """Learning rate in data units, at ten stored items per class and pictures of ``lr_side``² (reproduce.py, --lr_img);
    it grows with the items and with the area (argument.py, tune_lr_img)."""
    lr_side: int = 32
    """Side of pictures, in pixels, that ``lr`` is meant for (tune_lr_img: 32, also for Fashion-MNIST; 28 for MNIST, 224
    for ImageNet)."""
    momentum: UnitFloat = 0.5
    """Momentum of what is stored (--mom_img)."""
    metric: Literal["mse", "l1"] = "mse"
    """D: squared or absolute differences, summed (--metric)."""
    max_synthetic: NonNegativeInt = 128
    """Decoded samples of a class that an update looks at (--batch_syn_max); 0 for all."""
    lr_net: float = 0.01
    """Learning rate of the network (--lr), with momentum 0.9 and weight decay 5e-4."""
    batch_train: int = 64
    """Batch of the network's training (condense.py: that of the real samples)."""
    data_train: NonNegativeInt = 2000
    """Real samples that it sees between two updates (--n_data: 2,000 for CIFAR, 500 for others); 0 for none."""
    cutmix: UnitFloat = 0.5
    """Probability of CutMix in a batch of that training (--mix_p)."""
    sampler: Sampler = "random"
    """Draw of real samples; ``k-means`` is DREAM's."""
    interval: int = 1
    """Updates that one draw serves."""
    updates: Literal["all", "class"] = "all"
    """One step for all classes, or one after each class, as published: with SGD the sum of all moves is the same."""
    augment: str = "idc"
    """Siamese augmentation: color, crop and cutout (--aug_type)."""
    network: str = "convnet"
    """Network whose gradients are matched."""
    parametrization: str = "tiles"
    """Parametrization of the synthetic inputs (--factor 2)."""


def build_synthetic_engine(method: SyntheticValues, problem: Problem, *, augmented: bool) -> MatchingEngine:
    """The engine of DC and DSA; ``augmented``: the network trains on augmented synthetic samples."""
    outer, inner = published_loops(problem.ipc)
    outer = outer if method.outer is None else method.outer
    inner = inner if method.inner is None else method.inner
    rules = default_param_groups(ParamGroup(lr=method.lr, momentum=method.momentum), method.lr_labels, method.optimizer)
    training = OnSynthetic(epochs=inner, batch=method.batch_train, lr=method.lr_net, augmented=augmented)
    return MatchingEngine(
        objective=GradientDistance(distance=distance(method.metric), batch_real=method.batch_real, space="model"),
        networks=OneByOne(updates=outer, training=training), param_groups=lambda state, last: rules,
        iterations=method.iterations, steps=method.iterations * outer, initial=method.init_from, labels=method.labels,
        init_from_first_network=True,
    )  # fmt: skip


def build_real_engine(method: RealValues, problem: Problem) -> MatchingEngine:
    """The engine of IDC and DREAM. What is stored is clamped at the last update with each network, as published."""
    payload = ParamGroup(lr=idc_learning_rate(problem, method.lr, method.lr_side), momentum=method.momentum)
    bounded = replace(payload, bounds=payload_bounds(problem))

    def rules(state: MatchingState, last: bool) -> ParamGroups:
        ends = last and state.block_steps + 1 >= method.outer
        return default_param_groups(bounded if ends else payload, method.lr_labels, method.optimizer)

    training = OnReal(samples=method.data_train, batch=method.batch_train, lr=method.lr_net, cutmix=method.cutmix)
    return MatchingEngine(
        objective=GradientDistance(
            distance=convolutional(method.metric), batch_real=method.batch_real, space="data",
            sampler=method.sampler, interval=method.interval, max_synthetic=method.max_synthetic,
            per_class_updates=method.updates == "class",
        ),
        networks=OneByOne(updates=method.outer, training=training), param_groups=rules, iterations=method.iterations,
        steps=method.iterations * method.outer, initial=method.init_from, labels=method.labels, space="data",
        init_from_first_network=True,
    )  # fmt: skip
