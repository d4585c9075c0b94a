"""Federated learning: what clients send to a server in one message or in rounds, by accuracy and bytes."""

from potstill.uses.continual.learner import Learner
from potstill.uses.federated.messages import Averages, Client, DistilledSets, Message, RealSets
from potstill.uses.federated.models import Ensemble, FedAvg, ModelAnswer, NoMessages
from potstill.uses.federated.partition import (
    Partition,
    dirichlet_partition,
    group_partition,
    read_partition,
    size_partition,
    write_partition,
)
from potstill.uses.federated.run import federated
from potstill.uses.federated.ways import parse_way

__all__ = [
    "Averages", "Client", "DistilledSets", "Ensemble", "FedAvg", "Learner", "Message", "ModelAnswer", "NoMessages",
    "Partition", "RealSets", "dirichlet_partition", "federated", "group_partition", "parse_way", "read_partition",
    "size_partition", "write_partition",
]  # fmt: skip
