"""Student training: one network, one set, one recipe. Students are independent jobs.

`potstill.evaluation.vmap_students` trains several as one network, for devices that a small network leaves mostly idle.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.augment.geometry import can_mix_targets, move_targets
from potstill.augment.mix import label_rows
from potstill.core import Augmentation, Batch, Inputs, Network, NetworkFactory, Normalization, Source, Task
from potstill.core.nested import device_of, index, iter_batches, num_samples, single_tensor
from potstill.data.iterate import map_samples
from potstill.evaluation.adversarial_training import adversarial_batch, parse_adversary
from potstill.evaluation.distilled_training import Teachers, make_mix, stored_label_loss, teacher_loss
from potstill.evaluation.estimators import LearnerFactory
from potstill.evaluation.frozen_feature_cache import cached_features, classifier_and_features
from potstill.evaluation.protocol import Precision, Protocol
from potstill.evaluation.set_graph import SetGraph
from potstill.functional.microbatch import PureForward, forward_backward
from potstill.functional.train import Criterion, cross_entropy
from potstill.labels.teacher_file import Labels
from potstill.nn import FrozenBackbone
from potstill.rng import derive_seed, generator
from potstill.tasks import Classification, get_targets, get_task

__all__ = [
    "TEST_CHUNK", "EpochPlan", "StudentJob", "WeightAverage", "assign_gradients", "autocast_context", "fit",
    "iterate_epochs", "make_criterion", "make_optimizer", "predict", "squared_loss", "train", "train_and_predict",
    "training_lengths", "uses_scores", "weight_labels",
]  # fmt: skip

TEST_CHUNK = 500
"""Samples per prediction pass."""


@dataclass(frozen=True, kw_only=True)
class StudentJob:
    """Everything needed to train one student. It can be sent to another process."""

    make: NetworkFactory
    x: Inputs
    """Inputs in model space (n, …), or several with names."""
    y: Tensor
    """Targets in the task's form: int64 classes (n,) or float rows (n, k); scores where the protocol's loss uses
    them."""
    task: Task | None = None
    """Defines the loss; ``None``: cross-entropy of classes."""
    weights: Tensor | None = None
    """Loss weight of each sample (n,), mean 1; ``None``: all equal."""
    protocol: Protocol
    lr: float
    steps: int | None
    """Number of updates, for protocols that count them; ``None``: the protocol's epochs."""
    augment: Augmentation
    seed: int
    teachers: Teachers | None = None
    """Teachers that label every batch, where the protocol says so."""
    stored_labels: Labels | None = None
    """Labels that teachers wrote for this set before, used with the file's views instead of asking teachers."""
    normalization: Normalization | None = None
    """Normalization of ``x``, for protocols with an adversary."""
    texts: Sequence[str] = ()
    """Real texts of the inputs, for a learner that reads them."""
    edges: SetGraph | None = None
    """Nodes with edges between them, for a learner of nodes."""


def training_lengths(protocol: Protocol, n: int, steps: int | None) -> tuple[int, int, tuple[int, ...]]:
    """Return epochs, batches per epoch, and the epochs (from 0) that begin at a lower rate, for a set of ``n``.

    With ``steps``, the last epoch may be cut short. An epoch that is listed twice drops the rate twice, as in torch's
    MultiStepLR.
    """
    per_epoch = math.ceil(n / protocol.recipe.batch)
    if steps is not None:
        epochs = math.ceil(steps / per_epoch)
    else:
        epochs = (protocol.recipe.epochs or 0) + (1 if protocol.recipe.extra_epoch else 0)
    said = protocol.recipe.epochs or epochs
    drops: tuple[int, ...] = ()
    if protocol.recipe.schedule == "drop":
        drops = (said // 2 + 2,)  # after epoch number E//2+1
    elif protocol.recipe.schedule == "steps":
        # the small addend: 2/3 of 3 epochs must be 2, whatever is lost in rounding 2/3
        drops = tuple(math.floor(part * said + 1e-6) for part in protocol.recipe.milestones)
    return epochs, per_epoch, drops


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """The recipe's plan of one epoch."""

    lrs: tuple[float, ...]
    """Learning rate of each update: one per batch, or fewer in the last epoch."""
    new_optimizer: bool
    """The optimizer is recreated before this epoch."""
    evaluate_after: bool
    """The protocol tests the network after this epoch."""


def iterate_epochs(job: StudentJob) -> Iterator[EpochPlan]:
    """Yield the plan of each epoch of a job."""
    p = job.protocol
    epochs, per_epoch, drops = training_lengths(p, num_samples(job.x), job.steps)
    total = epochs * per_epoch if job.steps is None else job.steps
    lr, done = job.lr, 0
    for epoch in range(epochs):
        times = drops.count(epoch)
        lr *= p.recipe.drop_factor**times
        updates = range(done, min(done + per_epoch, total))
        rates = tuple(lr for _ in updates)
        if p.recipe.schedule in ("cosine", "half-cosine"):
            half, low = 1 if p.recipe.schedule == "cosine" else 2, p.recipe.lowest
            first = min(p.recipe.warm_up, total // 2)
            left = total - first
            parts = (
                max(0, update - first) / left if p.recipe.rate_per == "step" else epoch / epochs for update in updates
            )
            falls = ((1 - low) * 0.5 * (1 + math.cos(math.pi * part / half)) + low for part in parts)
            rates = tuple(lr * (u / first if u < first else fall) for u, fall in zip(updates, falls, strict=True))
        before, done = done, done + len(rates)
        looked_at = (epoch + 1) % max(1, p.selection.test_every) == 0 and epoch + 1 >= p.selection.test_from * epochs
        if p.selection.test_at:
            looked_at = any(before < update <= done for update in p.selection.test_at)
        yield EpochPlan(
            rates, new_optimizer=times > 0 and p.recipe.reset_momentum, evaluate_after=looked_at or epoch + 1 == epochs
        )


def autocast_context(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which networks compute in ``precision``."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)


def train(job: StudentJob) -> Network:
    """Train a fresh network. All draws come from ``job.seed``, in separate streams for network and samples."""
    network = job.make(derive_seed(job.seed, "network"))
    fit(network, job)
    return network


def fit(network: Network, job: StudentJob, on_evaluate: Callable[[], None] | None = None) -> None:
    """Train ``network`` in place; where the protocol averages weights, it ends as their average.

    As published: batches in a new random order each epoch (the last may be smaller), one augmentation parameter per
    sample, then optionally a mix of the batch and an adversary, the task's loss or a teacher's, and an optimizer step.
    With weights, a batch's loss is the mean over its samples of weight times loss (CRAIG's train_resnet.py:441): in the
    mean over batches the weighted loss of the set. A mix of two samples has their weights in its shares.

    Args:
        on_evaluate: called where the protocol tests; it must leave the weights as they are.
    """
    p = job.protocol
    if (p.teaching.labels == "teacher") != (job.teachers is not None or job.stored_labels is not None):
        raise ValueError(
            f"protocol {p.name} has labels {p.teaching.labels!r}, so a job has teachers then, and only then"
        )
    network.train()
    rng = generator(job.seed, "samples")
    n = num_samples(job.x)
    parameters = list(network.parameters())
    asked = None if job.stored_labels is not None else job.teachers
    mix = make_mix(p) if can_mix_targets(job.task) else None
    label = None if asked is None else asked.logits_function(p.teaching.teacher_statistics)
    adversary, attacked = parse_adversary(p.recipe.adversary), generator(job.seed, "adversary")
    if adversary is not None and (job.normalization is None or not isinstance(job.x, Tensor)):
        raise ValueError(f"protocol {p.name} has an adversary, so a job has one tensor and its normalization")
    classes = _classes(network, job) if mix is not None or job.weights is not None else 0
    given = label is None and job.stored_labels is None
    # cross-entropy is linear in its rows: there a weight multiplies the row, through any mix
    every_y = job.y
    squared = uses_scores(job)
    if job.weights is not None and given and not squared:
        every_y = weight_labels(job.y, job.weights, classes, single_tensor(job.x, "a weight").dtype)
    average = WeightAverage(network.state_dict(), p.recipe.ema)
    moves = make_optimizer(p, parameters, job.lr)

    criterion = make_criterion(job)
    answers: Callable[..., Tensor] = network
    with autocast_context(p.recipe.precision, device_of(job.x)):
        still = (
            classifier_and_features(network, job.x, job.augment)
            if mix is None and given and adversary is None
            else None
        )
    if still is not None:
        answers, job = still[0], replace(job, x=still[1])

    half = p.recipe.precision != "float32"
    # of a network whose body stands still only the head is passed, which is not worth a message
    plain = None if still is not None else PureForward(
        parameters=dict(network.named_parameters()), buffers=dict(network.named_buffers()), half=half
    )  # fmt: skip

    def logits(x: Inputs) -> Tensor:
        with autocast_context(p.recipe.precision, device_of(x)):
            made = answers(x)
        return made.to(x.dtype) if isinstance(x, Tensor) else made.float()

    for number, epoch in enumerate(iterate_epochs(job)):
        if epoch.new_optimizer:
            moves = make_optimizer(p, parameters, job.lr)
        for rate, batch in zip(epoch.lrs, torch.split(torch.randperm(n, generator=rng), p.recipe.batch), strict=False):
            for group in moves.param_groups:
                group["lr"] = rate
            if job.stored_labels is not None:
                x = single_tensor(job.x, "a stored label")
                loss = stored_label_loss(p, logits, job.stored_labels, x, job.y, number, batch, job.weights)
                gradients = torch.autograd.grad(loss, parameters)
            elif not isinstance(job.x, Tensor):  # with names: there is nothing that could augment or mix them
                own = partial(_swapped, criterion, job.y[batch])
                gradients = forward_backward(network, logits, parameters, index(job.x, batch), own, plain)[2]
            else:
                shape = tuple(job.x.shape[1:])
                params = job.augment.draw(len(batch), shape, rng)
                x, y = job.augment.apply(job.x[batch], params), every_y[batch]
                y = move_targets(job.task, job.augment, y, params, shape)
                weight = None if job.weights is None else job.weights[batch]
                if mix is not None:
                    drawn = mix.draw(len(batch), shape, rng)
                    x, mixed = mix.apply(x, y, drawn, classes)
                    y = y if label is not None else mixed  # a teacher says what a mix is; classes stay as they are
                    if weight is not None:
                        weight = drawn.share * weight + (1 - drawn.share) * weight[drawn.partner.to(weight.device)]
                if adversary is not None and job.normalization is not None:
                    x = adversarial_batch(network, logits, adversary, job.normalization, x, y, attacked)
                own = partial(_swapped, criterion, y)
                if label is not None:
                    own = partial(teacher_loss, p, label(x), y, weight)
                elif squared and weight is not None:
                    own = partial(_weighed_squares, weight, y)
                gradients = forward_backward(network, logits, parameters, x, own, plain)[2]
            assign_gradients(parameters, gradients)
            moves.step()
            average.update(network.state_dict())
        if on_evaluate is not None and epoch.evaluate_after:
            average.swap(network.state_dict())
            on_evaluate()
            average.swap(network.state_dict())
    average.swap(network.state_dict())


def _swapped(criterion: Criterion, y: Tensor, outputs: Tensor) -> Tensor:
    return criterion(outputs, y)


def _weighed_squares(weight: Tensor, y: Tensor, outputs: Tensor) -> Tensor:
    return (weight.to(outputs)[:, None] * 0.5 * (outputs - y.to(outputs)).square()).mean()


def uses_scores(job: StudentJob) -> bool:
    """Return True if outputs are compared with scores; ``y`` then holds float rows (n, k) of scores."""
    return job.protocol.teaching.loss == "squared" and (job.task is None or isinstance(job.task, Classification))


def squared_loss(outputs: Float[Tensor, "n k"], scores: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Return half the squared difference, the mean over samples and classes."""
    return 0.5 * (outputs - scores.to(outputs)).square().mean()


def make_criterion(job: StudentJob) -> Criterion:
    """Return the loss of outputs on the set's own labels."""
    if uses_scores(job):
        return squared_loss
    return cross_entropy if job.task is None else job.task.loss


def weight_labels(y: Tensor, weights: Tensor, classes: int, dtype: torch.dtype) -> Float[Tensor, "n k"]:
    """Return labels as rows times their sample's weight (n,): cross-entropy is linear in them."""
    return label_rows(y, classes, dtype) * weights.to(dtype)[:, None]


class WeightAverage:
    """Moving average of a network's parameters and of BatchNorm's statistics alike; of none with a decay of 0.

    Published code averages parameters only and tests them with the last statistics.
    """

    def __init__(self, state: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.averages = {n: t.detach().clone() for n, t in state.items()} if decay else {}

    def update(self, state: Mapping[str, Tensor]) -> None:
        """Move the average towards the network's current state."""
        for name, average in self.averages.items():
            if average.is_floating_point():
                average.lerp_(state[name], 1 - self.decay)
            else:
                average.copy_(state[name])  # a count of batches

    def swap(self, state: Mapping[str, Tensor]) -> None:
        """Exchange the average's values and the network's."""
        for name, average in self.averages.items():
            now = state[name].clone()
            state[name].copy_(average)
            average.copy_(now)


def make_optimizer(p: Protocol, every: Sequence[Tensor], lr: float, axes: int = 0) -> torch.optim.Optimizer:
    """Return the protocol's optimizer of the parameters ``every``, whose first ``axes`` axes index students."""
    parameters: list[dict[str, object]] = [{"params": list(every)}]
    if p.recipe.decay == "matrices":
        parameters = [
            {"params": [w for w in every if w.ndim - axes > 1]},
            {"params": [w for w in every if w.ndim - axes < 2], "weight_decay": 0.0},
        ]  # fmt: skip
    decay = p.recipe.weight_decay
    if p.recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=p.recipe.momentum, weight_decay=decay, fused=True)
    kind = torch.optim.Adam if p.recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=lr, weight_decay=decay, fused=True)


def assign_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Assign gradients in the parameters' memory layout, which torch's fused optimizers assume (2.13, on the CPU)."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        alike = gradient.stride() == parameter.stride()
        parameter.grad = gradient if alike else torch.empty_like(parameter).copy_(gradient)


def _classes(network: Network, job: StudentJob) -> int:
    """Return the width of the student's output."""
    with torch.no_grad():
        k = network.eval()(next(iter_batches(job.x, 1))).shape[1]
    network.train()
    return int(k)


def predict(network: torch.nn.Module, source: Source, precision: Precision = "float32") -> Tensor:
    """Return the task's answer for every sample (n, …), such as its likeliest class, in evaluation mode, on the CPU."""
    network.eval()
    task = get_task(source)

    def answered(batch: Batch) -> Tensor:
        with autocast_context(precision, device_of(batch.x)):
            return task.predict(network(batch.x)).cpu()

    with torch.no_grad():
        if isinstance(network, FrozenBackbone):
            with autocast_context(precision, source.device):
                features = cached_features(network, source, TEST_CHUNK, precision)
            if features is not None:
                features = features.to(network.classifier.weight.device)
                parts = torch.split(features, TEST_CHUNK)
                return torch.cat([task.predict(network.classifier(part)).cpu() for part in parts])
        return map_samples(source, torch.arange(len(source)), TEST_CHUNK, answered)


def train_and_predict(source: Source, job: StudentJob) -> Tensor | None:
    """Train one student and return its answers for ``source``; ``None`` if its weights are no longer finite.

    They are those of the last epoch, except under a ``best-on-test`` protocol: there, those of the tested epoch that is
    best on ``source`` itself.
    """
    if isinstance(job.make, LearnerFactory):
        return job.make.fit_predict(source, job.x, job.y, job.weights, job.seed, job.texts, job.edges)
    if job.protocol.selection.select == "best-on-test":
        return _best(source, job)
    network = train(job)
    return predict(network, source, job.protocol.recipe.precision) if _finite(network) else None


def _best(source: Source, job: StudentJob) -> Tensor | None:
    network = job.make(derive_seed(job.seed, "network"))
    task, targets = get_task(source), get_targets(source)
    best = math.nan
    best_answers: Tensor | None = None

    def look() -> None:
        nonlocal best, best_answers
        if _finite(network):
            predicted = predict(network, source, job.protocol.recipe.precision)
            score = task.score(predicted, targets)
            if best_answers is None or task.metric.better(score, best):  # the first of equals
                best, best_answers = score, predicted
        network.train()

    fit(network, job, look)
    return best_answers


def _finite(network: torch.nn.Module) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in network.parameters())
