"""Accuracy with an augmentation, with the same one adapted by validation data, and with these data as training data."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.core import NetworkFactory, Splits
from potstill.core.nested import single_tensor
from potstill.data import TensorSource, holdout
from potstill.errors import PotstillError
from potstill.evaluation.statistics import paired_difference, summary
from potstill.evaluation.student import TEST_CHUNK
from potstill.nn import default_network_name, factory
from potstill.rng import derive_seed, generator
from potstill.runs.load_data import as_splits, pick_device
from potstill.uses.augmentation.adapt import AdaptedLoader, Upstream

__all__ = ["WAYS", "compare_augmentation"]

WAYS = ("none", "raw", "weights", "adapted", "both parts", "both parts, raw")
"""No augmentation; as it is; with weights alone; with weights and labels; trained on both parts without and with it."""


def compare_augmentation(
    data: Any, upstream: Upstream, *, validation: float = 0.5, seeds: int = 5, steps: int = 300, batch: int = 64,
    lr: float = 0.03, pull: float = 2.0, temperature: float = 0.25, network: str | None = None, seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Measure an augmentation as it is, adapted by a validation part, and beside training on that part, too.

    Args:
        data: anything `potstill.load_data` takes or returns, with classes and a test split. Nothing is chosen on that.
        upstream: the augmentation: inputs in model space and classes of a batch, and a generator, to inputs and labels.
        validation: part of the training data that adapts labels and weights.
        seeds: networks of each way, each with another validation part; intervals are over them.
        steps: updates of a network, SGD with momentum 0.9, the rate falling along a line to zero.
        batch: samples of an update.
        lr: first learning rate.
        pull, temperature: as for `potstill.functional.label_gains.adapted_labels`.
        network: of the learner. Default: the usual one for the data.
        seed: of the first network.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        ``rows``, one for each of `WAYS` with accuracies on the test data and, but for the first, the paired difference
        from it; ``zero``: the mean part of samples whose weight was 0; ``sentence``.

    Raises:
        PotstillError: the data have no test split or no classes, or the validation part has one class alone.
    """
    splits: Splits = as_splits(data, pick_device(device))
    if splits.test is None or not isinstance(splits.train, TensorSource) or len(splits.train.classes) < 2:
        raise PotstillError(
            f"{splits.train.name}: an augmentation is compared on data in memory with two classes or more and a test "
            "split; give such data"
        )
    if not 0 < validation < 1 or seeds < 1 or steps < 1:
        raise PotstillError(
            f"validation must lie between 0 and 1, seeds and steps be at least 1, not {validation:g}, {seeds} and "
            f"{steps}; change them"
        )
    source = splits.train
    make = factory(
        network or default_network_name(source.input), source.input, len(source.classes), source.device,
        normalization=source.normalization,
    )  # fmt: skip
    test = _pair(splits.test)
    values: dict[str, list[float]] = {way: [] for way in WAYS}
    zero: list[float] = []
    for number in range(seeds):
        own = derive_seed(seed, "augmentation", number)
        fit, held = (_pair(part) for part in holdout(source, validation, own % 2**31))
        if len(torch.unique(held[1])) < 2:
            raise PotstillError(
                f"{source.name}: the validation part has one class alone, so its gradient tells none apart; give more "
                "data"
            )
        both = tuple(torch.cat(pair) for pair in zip(fit, held, strict=True))
        for way in WAYS:
            trained_on = both if way.startswith("both") else fit
            changed = _plain if way in ("none", "both parts") else upstream
            adapted = (
                None
                if way not in ("weights", "adapted")
                else {"fixed": way == "weights", "pull": pull, "temperature": temperature, "validation": held}
            )
            net, share = _train(make, trained_on, changed, adapted, steps, batch, lr, own)  # type: ignore[arg-type]
            values[way].append(_accuracy(net, test))
            zero += [share] if way == "weights" else []
    rows = [
        {
            "way": way, "accuracy": summary(values[way]),
            **({} if way == "none" else {"difference": paired_difference(values[way], values["none"])}),
        }
        for way in WAYS
    ]  # fmt: skip
    return {
        "source": source.name, "samples": len(source), "validation": validation, "seeds": seeds, "network": make.name,
        "steps": steps, "rows": rows, "zero": sum(zero) / len(zero), "sentence": _say(values),
    }  # fmt: skip


def _accuracy(network: nn.Module, pair: tuple[Tensor, Tensor]) -> float:
    network.eval()
    right = 0
    with torch.no_grad():
        for at in torch.split(torch.arange(len(pair[1])), TEST_CHUNK):
            right += int((network(pair[0][at]).argmax(1) == pair[1][at]).sum())
    return right / len(pair[1])


def _plain(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return x, y


def _pair(source: Any) -> tuple[Tensor, Tensor]:
    x = single_tensor(source.fetch(torch.arange(len(source))).x, "an augmentation")
    return x, source.labels.to(x.device)


def _train(
    make: NetworkFactory, data: tuple[Tensor, Tensor], upstream: Upstream, adapted: Mapping[str, Any] | None,
    steps: int, batch: int, lr: float, seed: int,
) -> tuple[nn.Module, float]:  # fmt: skip
    """Return a trained network, and the mean part of samples of weight 0."""
    network = make(derive_seed(seed, "network"))
    rng = generator(seed, "samples")
    x, y = data
    moves = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)

    def batches() -> Any:
        for _ in range(steps):
            at = torch.randperm(len(x), generator=rng)[:batch].to(x.device)
            yield x[at], y[at]

    zero = 0.0
    network.train()
    loader: Any = (
        ((*upstream(bx, by, rng), None) for bx, by in batches())
        if adapted is None
        else AdaptedLoader(loader=batches(), network=network, upstream=upstream, rng=rng, **adapted)
    )
    for step, (inputs, labels, weights) in enumerate(loader):
        for group in moves.param_groups:
            group["lr"] = lr * (1 - step / steps)
        loss = F.cross_entropy(network(inputs), labels, reduction="none")
        if weights is not None:
            zero += float((weights == 0).double().mean()) / steps
            loss = loss * weights
        moves.zero_grad()
        loss.mean().backward()  # type: ignore[no-untyped-call]
        moves.step()
    return network, zero


def _say(values: Mapping[str, Sequence[float]]) -> str:
    """Return in one sentence whether the augmentation helps, whether adapting does, and the price beside both parts."""

    def against(a: str, b: str) -> str:
        gap = paired_difference(values[a], values[b])
        ci = gap["ci95"]
        size = f"{100 * gap['mean']:+.1f} points"
        return size if ci is None else f"{size} (95% interval {100 * ci[0]:+.1f} to {100 * ci[1]:+.1f})"

    return (
        f"The augmentation changes accuracy by {against('raw', 'none')}. With adapted weights and labels it is "
        f"{against('adapted', 'raw')} beside that, and {against('adapted', 'none')} beside none. Training on both "
        f"parts without augmentation is {against('both parts', 'adapted')} beside that."
    )
