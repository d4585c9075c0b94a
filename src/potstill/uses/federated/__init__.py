"""Federated learning: what clients send to a server in one message or in rounds, by accuracy and bytes."""

from potstill.uses.continual.learner import Learner
from potstill.uses.federated.messages import Averages, Client, DistilledSets, Message, RealSets, make_clients
from potstill.uses.federated.models import Ensemble, FedAvg, ModelAnswer, NoMessages
from potstill.uses.federated.partition import (
    Partition,
    dirichlet_partition,
    group_partition,
    read_partition,
    size_partition,
    write_partition,
)
from potstill.uses.federated.rounds import EnsembleLabels, FedDM
from potstill.uses.federated.run import federated
from potstill.uses.federated.ways import parse_way
from potstill.uses.federated.wire import Collected, collect, decode_message, encode_message, merge_messages

__all__ = [
    "Averages", "Client", "Collected", "DistilledSets", "Ensemble", "EnsembleLabels", "FedAvg", "FedDM", "Learner",
    "Message", "ModelAnswer", "NoMessages", "Partition", "RealSets", "collect", "decode_message", "dirichlet_partition",
    "encode_message", "federated", "group_partition", "make_clients", "merge_messages", "parse_way", "read_partition",
    "size_partition", "write_partition",
]  # fmt: skip
