"""The views of a set with a labeller as a set of their own, for programs that read inputs and labels."""

from potstill.dataset_file.build import build
from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.values import Contents, Provenance, Schema
from potstill.errors import PotstillError

__all__ = ["views_as_set"]


def views_as_set(distilled: Distilled, samples: int | None = None) -> Distilled:
    """Return a set whose inputs are the views of another, with the labeller's probabilities as labels.

    Args:
        distilled: a set with a labeller.
        samples: number of views. Default: as its file says.

    Raises:
        PotstillError: it has no labeller.
    """
    if distilled.labeller is None:
        raise PotstillError("only a set with a labeller has views; make one with labels='network'")
    x, y = distilled.training_samples(samples)
    about = distilled.metadata
    made = build(
        Contents(inputs=distilled.normalization.invert(x), labels=y),
        Schema(
            classes=distilled.classes, input=distilled.input, normalization=distilled.normalization, task=distilled.task
        ),
        Provenance(
            method=about["method"], config=about["config"], seed=about["seed"], ipc=-(-len(y) // len(about["classes"])),
            source=about["source"], outcome=about["outcome"], cost=about["cost"],
        ),
    )  # fmt: skip
    made.record = distilled.record
    made.files = (*distilled.files, *([str(distilled.path)] if distilled.path else []))
    return made
