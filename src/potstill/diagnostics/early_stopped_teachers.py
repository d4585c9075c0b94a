"""Networks trained on real data and stopped early: agreement with students of the set, and readability of its items."""

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.func import functional_call

from potstill.core import Inputs, NetworkFactory, Source
from potstill.core.nested import iter_batches
from potstill.diagnostics.bench import Bench, Condition, drop_diverged, network_outputs
from potstill.evaluation.statistics import difference
from potstill.functional.sampling import sample_distinct
from potstill.functional.train import copy_parameters, train_step
from potstill.rng import derive_seed, generator
from potstill.tasks import get_task

__all__ = ["BATCH", "STOPS", "conditions", "count_networks", "measure_agreement", "measure_readability"]

STOPS = (1, 3, 10, 30, 100, 300)
"""Default updates after which networks of real data are evaluated."""
BATCH, LR, MOMENTUM = 64, 0.01, 0.9
"""Training settings: plain SGD without augmentation at a constant rate."""
TIMES = (1, 2, 4)
"""Multiples of the set's items: sizes of the random real sets that are compared with."""


_Stops: TypeAlias = list[tuple[Tensor, Tensor]]
"""Outputs of one network after each stop, for the test samples and for the items of the set."""


def count_networks(bench: Bench) -> int:
    """Return the number of networks trained on real data."""
    return min(2, bench.students)


def conditions(bench: Bench) -> list[Condition]:
    """Return the training conditions of `measure_agreement`."""
    return [bench.distilled_condition(), *(bench.random_condition(times) for times in TIMES)]


def _outputs_at_stops(bench: Bench, stops: tuple[int, ...]) -> list[_Stops]:
    """Return every network's outputs at every stop; trained once for all diagnostics."""
    if stops not in bench.stopped_networks:
        walk = partial(_train_with_stops, bench.make, bench.real, stops, bench.distilled_data.x, bench.eval_source)
        seeds = [derive_seed(bench.seed, "study", "stopped", n) for n in range(count_networks(bench))]
        bench.stopped_networks[stops] = bench.run("networks of real data", walk, seeds)
    return bench.stopped_networks[stops]


def _train_with_stops(
    make: NetworkFactory, real: Source, stops: tuple[int, ...], x: Inputs, eval_source: Source, seed: int
) -> _Stops:
    """Train on real data and evaluate at each stop."""
    network = make(derive_seed(seed, "network")).train()
    rng, task = generator(seed, "samples"), get_task(real)
    theta, buffers = copy_parameters(network), {n: b.detach().clone() for n, b in network.named_buffers()}
    speed, done = None, 0
    outputs: _Stops = []
    for stop in stops:
        for _ in range(done, stop):
            batch = real.fetch(sample_distinct(len(real), BATCH, rng))
            assert batch.y is not None
            theta, speed, buffers, *_ = train_step(  # type: ignore[assignment]
                network, theta, speed, batch.x, batch.y, lr=LR, momentum=MOMENTUM, buffers=buffers,
                criterion=task.loss,
            )  # fmt: skip
        done = stop
        shell = _Fixed(network, {**theta, **buffers})
        with torch.no_grad():
            items = torch.cat([shell.eval()(part).float().cpu() for part in iter_batches(x, 500)])
        outputs.append((network_outputs(shell, eval_source), items))
        network.train()
    return outputs


class _Fixed(torch.nn.Module):
    """A network with fixed parameter values."""

    def __init__(self, network: torch.nn.Module, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.network, self.state = network, state

    def forward(self, x: Any) -> Tensor:
        outputs: Tensor = functional_call(self.network, self.state, (x,))
        return outputs


def _same(a: Tensor, b: Tensor) -> float:
    """Return the fraction of samples that two networks classify alike."""
    return float((a.argmax(1) == b.argmax(1)).double().mean())


def _each(students: Sequence[Tensor], others: Sequence[Tensor]) -> list[float]:
    """Return each student's mean agreement with ``others``, itself excluded."""
    pairs = [[_same(s, o) for o in others if o is not s] for s in students]
    return [sum(p) / len(p) for p in pairs if p]


def measure_agreement(bench: Bench, stops: tuple[int, ...]) -> dict[str, Any]:
    """Return the agreement of the set's students with networks of real data at every stop, and its peak.

    Networks of high accuracy agree for that reason alone. So two references are given: agreement with the stop whose
    accuracy is nearest to the students' own, and with networks of random real samples of the nearest accuracy.
    """
    own, labels = drop_diverged(bench.outputs(bench.distilled_condition())), bench.eval_source.labels
    stopped = _outputs_at_stops(bench, stops)

    def accuracy(outputs: Sequence[Tensor]) -> float:
        return sum(float((o.argmax(1) == labels).double().mean()) for o in outputs) / len(outputs)

    if not own:
        return {"curve": [], "accuracy": None, "peak": None, "early": None, "subset": None, "gap": None}
    mine, at_stop = accuracy(own), list[list[float]]()
    curve = list[dict[str, Any]]()
    for place, stop in enumerate(stops):
        networks = [one[place][0] for one in stopped]
        at_stop.append(_each(own, networks))
        curve.append(
            {"steps": stop, "epochs": stop * BATCH / len(bench.real), "accuracy": accuracy(networks),
             "agreement": bench.summarize(at_stop[-1])}
        )  # fmt: skip
    peak = max(range(len(stops)), key=lambda n: curve[n]["agreement"]["mean"])
    early = min(range(len(stops)), key=lambda n: abs(curve[n]["accuracy"] - mine))
    subsets = {lesson.items: drop_diverged(bench.outputs(lesson)) for lesson in conditions(bench)[1:]}
    subsets = {items: outputs for items, outputs in subsets.items() if outputs}
    results: dict[str, Any] = {
        "networks": len(stopped), "curve": curve, "accuracy": mine, "peak": curve[peak], "early": curve[early],
        "among": bench.summarize(_each(own, own)) if len(own) > 1 else None, "subset": None, "gap": None,
    }  # fmt: skip
    if subsets:
        items = min(subsets, key=lambda n: abs(accuracy(subsets[n]) - mine))
        theirs = _each(own, subsets[items])
        results["subset"] = {
            "items": items, "accuracy": accuracy(subsets[items]), "agreement": bench.summarize(theirs)
        }  # fmt: skip
        results["gap"] = difference(at_stop[early], theirs)
    return results


def measure_readability(bench: Bench, stops: tuple[int, ...]) -> dict[str, Any]:
    """Return the fraction of items that networks of real data classify as labelled, at the last stop and before."""
    stopped, labels, asked = _outputs_at_stops(bench, stops), bench.distilled.hard_labels, bench.eval_source.labels

    def right(outputs: Tensor, y: Tensor) -> float:
        return float((outputs.argmax(1) == y).double().mean())

    last = torch.stack([one[-1][1].argmax(1) for one in stopped])
    agree = (last == labels).double().mean(0)
    said = last.mode(0).values
    return {
        "networks": len(stopped), "steps": stops[-1],
        "agreement": bench.summarize([right(one[-1][1], labels) for one in stopped]) | {"items": len(labels)},
        "real": bench.summarize([right(one[-1][0], asked) for one in stopped]),
        "curve": [
            {"steps": stop, "items": sum(right(one[n][1], labels) for one in stopped) / len(stopped),
             "real": sum(right(one[n][0], asked) for one in stopped) / len(stopped)}
            for n, stop in enumerate(stops)
        ],
        "taken_for_another": [
            {"item": i, "class": bench.real.classes[int(labels[i])], "taken_for": bench.real.classes[int(said[i])]}
            for i in range(len(labels)) if float(agree[i]) < 0.5
        ],
    }  # fmt: skip
