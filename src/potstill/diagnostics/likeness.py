"""Likeness of a set's items to real samples, in features of networks that learned real data.

Distances between distributions depend on how many samples there are, so that random real samples of the same number
and classes stand beside the set: a distance of the set says something by its difference to theirs alone.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.core import Inputs
from potstill.core.nested import iter_batches
from potstill.diagnostics.bench import Bench, TrainingData
from potstill.evaluation.statistics import paired_difference, summary
from potstill.evaluation.student import StudentJob, train
from potstill.functional.sample_quality import compare_manifolds, frechet_distance, kernel_distance

__all__ = ["count_networks", "features_of", "measure_likeness"]

NEIGHBOURS = 5
"""Neighbours that the ball of a sample reaches (Naeem et al., 2020)."""
_BATCH = 500


def count_networks(bench: Bench) -> int:
    """Return the number of networks that are trained on real data."""
    return bench.students


def measure_likeness(bench: Bench) -> dict[str, Any]:
    """Return distances and overlaps of the set, and of as many random training samples, to the samples that students
    predict.

    Features are those before the classifier of networks that learned all training data, one for each student; each
    network has a draw of its own of random samples.
    """
    jobs = [(bench.job(_every(bench), n), n) for n in range(count_networks(bench))]
    results = [one for one in bench.run("networks of real data", partial(_of_network, bench), jobs) if one is not None]
    document: dict[str, Any] = {
        "items": len(bench.distilled), "real": len(bench.eval_source), "part": bench.eval_split,
        "neighbours": NEIGHBOURS, "networks": len(results), "selected": bench.distilled.is_selection,
    }  # fmt: skip
    for name in ("set", "random"):
        metrics = results[0][name] if results else {}
        document[name] = {metric: summary([one[name][metric] for one in results]) for metric in metrics}
    of_set, of_random = (
        [one[name]["kernel"] for one in results if "kernel" in one[name]] for name in ("set", "random")
    )
    document["difference"] = paired_difference(of_set, of_random) if of_set and of_random else None
    return document


def _every(bench: Bench) -> TrainingData:
    batch = bench.real.fetch(torch.arange(len(bench.real)))
    assert batch.y is not None
    return TrainingData(x=batch.x, y=batch.y)


def _of_network(bench: Bench, task: tuple[StudentJob, int]) -> dict[str, Mapping[str, float]] | None:
    """Return the metrics in the features of one network; ``None`` if it diverged."""
    job, number = task
    network = train(job).eval()
    if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
        return None
    reference = features_of(network, bench.eval_source.fetch(torch.arange(len(bench.eval_source))).x)
    sides = {"set": bench.distilled_data.x, "random": bench.draw_real(number, bench.counts).x}
    return {name: _metrics(features_of(network, x), reference) for name, x in sides.items()}


def features_of(network: torch.nn.Module, x: Inputs) -> Float[Tensor, "n d"]:
    """Return the features before the classifier (n, d), float32 on the CPU."""
    embed: Any = network.embed
    with torch.no_grad():
        return torch.cat([embed(part).flatten(1).float().cpu() for part in iter_batches(x, _BATCH)])


def _metrics(few: Float[Tensor, "n d"], real: Float[Tensor, "m d"]) -> Mapping[str, float]:
    """Return the metrics of one set; of fewer than two items none."""
    if len(few) < 2 or len(real) <= NEIGHBOURS:
        return {}
    overlap = compare_manifolds(few, real, NEIGHBOURS, min(NEIGHBOURS, len(few) - 1))
    return {"frechet": frechet_distance(few, real), "kernel": kernel_distance(few, real), **asdict(overlap)}
