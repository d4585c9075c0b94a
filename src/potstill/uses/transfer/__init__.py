"""A network pre-trained on a small set of vectors, and fine-tuned with few labels of other data."""

from potstill.uses.transfer.learner import FewLabels, Learner, Recipe, probe_accuracy
from potstill.uses.transfer.run import measure_transfer
from potstill.uses.transfer.summary import NAMES, conclude, describe_labels

__all__ = [
    "NAMES",
    "FewLabels",
    "Learner",
    "Recipe",
    "conclude",
    "describe_labels",
    "measure_transfer",
    "probe_accuracy",
]
