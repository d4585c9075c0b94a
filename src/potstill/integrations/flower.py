"""Flower's face of federated sets: a client that sends one, and a strategy that joins all and trains on them.

It needs ``flwr``: ``pip install 'potstill[flower]'``, in an environment of its own, as Flower holds other versions of
common packages than new ones of other extras.
"""

from collections.abc import Callable, Iterable
from logging import INFO
from typing import Any

from torch import Tensor, nn

from potstill.core import Source
from potstill.dataset_file import Schema
from potstill.errors import PotstillError
from potstill.uses.federated.messages import Client, SetWay
from potstill.uses.federated.messages import Message as SentSet
from potstill.uses.federated.wire import Collected, collect, encode_message

try:
    from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import FedAvg
    from flwr.serverapp.strategy.strategy_utils import sample_nodes
    from flwr.supercore import log
except ImportError as error:
    raise PotstillError(
        "a Flower app needs the package flwr; pip install 'potstill[flower]' in an environment of its own"
    ) from error

__all__ = ["SetStrategy", "client_app", "reply_with_set"]

_RECORD, _SET, _CLIENT = "potstill", "set", "client"
"""Record of a reply, and its entries: the bytes of the set, and the client's number."""
_PARTITION = "partition-id"
"""Entry of a node's configuration that numbers its data."""


def reply_with_set(request: Message, sent: SentSet | None, client: int) -> Message:
    """Return the reply to a training message that carries a set.

    Args:
        request: message that the client got.
        sent: what the client sends, as ``way.message(…)`` returns it; ``None``: it has too little for a set.
        client: number of the client, such as ``context.node_config["partition-id"]``; sets are joined in this order.
    """
    record = ConfigRecord({_SET: encode_message(sent), _CLIENT: int(client)})
    return Message(content=RecordDict({_RECORD: record}), reply_to=request)


def client_app(load: Callable[[Context], Client], way: SetWay) -> ClientApp:
    """Return a client app that answers a request to train with a set of its data.

    Args:
        load: returns the client of a context: its samples, bytes and seed. It runs where the data are.
        way: how it makes the set, such as ``parse_way("dm")``.

    Returns:
        The app; add an ``@app.evaluate()`` of your own to measure the server's network on the clients.
    """
    app = ClientApp()

    @app.train()  # type: ignore[untyped-decorator]
    def train(request: Message, context: Context) -> Message:
        number = int(context.node_config.get(_PARTITION, context.node_id))
        return reply_with_set(request, way.message(load(context)), number)

    return app


class SetStrategy(FedAvg):
    """Strategy of one round: every client sends a set once, the server joins them and trains on the result.

    It takes the place of ``FedAvg`` in a server app: ``SetStrategy(data.test, train).start(grid, ArrayRecord(),
    num_rounds=1)`` returns the trained weights as Flower's arrays. Nothing is sent to clients but the request. A client
    that fails, is killed or does not answer in time, and one whose message is damaged, is left out.

    Attributes:
        collected: what arrived, with the joined set, missing clients and classes; ``None`` before the round.

    Args:
        like: data with the classes, inputs and normalization of all clients, such as the server's test data.
        train: trains a network on inputs in model space (n, …) and classes (n,) or rows over all classes (n, k); its
            weights become the arrays. Default: nothing is trained, and ``collected`` is the result.
        clients: numbers of all clients, to name those that do not answer. Default: from 0, one for each node, as
            partitions are numbered.
        **options: of Flower's ``FedAvg``, such as ``fraction_evaluate`` and ``min_available_nodes``.
    """

    def __init__(
        self,
        like: Source | Schema,
        train: Callable[[Tensor, Tensor], nn.Module] | None = None,
        *,
        clients: Iterable[int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.like, self.train = like, train
        self.collected: Collected | None = None
        self._clients = None if clients is None else tuple(clients)
        self._asked = 0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the requests, without weights.

        Raises:
            PotstillError: it is not the first round.
        """
        if server_round > 1:
            raise PotstillError(f"sets are sent in one round, but this is round {server_round}; give num_rounds=1")
        share = int(len(list(grid.get_node_ids())) * self.fraction_train)
        nodes, _ = sample_nodes(grid, self.min_available_nodes, max(share, self.min_train_nodes))
        self._asked = len(nodes)
        return list(self._construct_messages(RecordDict({self.configrecord_key: config}), nodes, MessageType.TRAIN))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Join the sets of the replies and train on them.

        Raises:
            PotstillError: not one set arrived whole.
        """
        valid, _ = self._check_and_log_replies(list(replies), is_train=True, validate=False)
        answers: dict[int, bytes] = {}
        for reply in valid:
            record = reply.content.config_records.get(_RECORD)
            content, number = (None, None) if record is None else (record.get(_SET), record.get(_CLIENT))
            if not isinstance(content, bytes) or not isinstance(number, int):
                raise PotstillError("a reply has no set; let clients answer with reply_with_set or client_app")
            if number in answers:
                raise PotstillError(f"two clients have number {number}; give each its own")
            answers[number] = content
        numbered = range(self._asked) if all(0 <= number < self._asked for number in answers) else ()
        done = self.collected = collect(answers, self.like, numbered if self._clients is None else self._clients)
        log(INFO, "%s", done.summary)
        covered = len(self.like.classes) - len(done.uncovered)
        missing = self._asked - len(answers)
        metrics = MetricRecord(
            {"inputs": len(done.x), "bytes": done.up, "clients": len(done.answered), "missing": missing,
             "refused": len(done.refused), "classes": covered}
        )  # fmt: skip
        if self.train is None:
            return None, metrics
        return ArrayRecord(self.train(done.x, done.y).state_dict()), metrics
