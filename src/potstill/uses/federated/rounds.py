"""Ways of more than one set of each client: rounds around the server's weights, and labels of an ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.augment.mix import join_labels, label_rows
from potstill.core import NetworkWeights
from potstill.errors import PotstillError
from potstill.rng import derive_seed, generator
from potstill.uses.continual.learner import Learner
from potstill.uses.federated.messages import Client, DistilledSets, Message, Sends, SetWay
from potstill.uses.federated.models import Ensemble, check_one_network, send_weights, train_on_sets

__all__ = ["EnsembleLabels", "Exchange", "ExchangeWay", "FedDM", "send_once"]


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Inputs and labels that the server trains on in the end, and the messages behind them."""

    x: Float[Tensor, "n ..."]
    """Inputs in model space."""
    y: Tensor
    """Classes (n,), or rows over all classes (n, k)."""
    senders: tuple[int, ...]
    """Positions of the clients that sent sets, one for each message."""
    messages: tuple[Message, ...]
    """Their messages, of all rounds."""
    up: int
    """Bytes from all clients to the server."""
    down: int
    """Bytes from the server to all clients."""


@runtime_checkable
class ExchangeWay(Protocol):
    """A way in which the server trains on sets, for which clients and server exchange more than these."""

    @property
    def name(self) -> str: ...
    @property
    def sends(self) -> Sends: ...

    def exchange(
        self, clients: Sequence[Client], networks: Sequence[str], learner: Learner, seed: int, /
    ) -> Exchange:  # fmt: skip
        """Return what the server trains on.

        Args:
            clients: their samples, and the bytes of their sets.
            networks: network of each client.
            learner: settings of training.
            seed: of weights and batches.

        Raises:
            PotstillError: no client has the samples or the bytes for a set.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class FedDM:
    """Rounds of distilled sets, each matched around the server's weights (FedDM, Xiong et al. 2023, arXiv:2207.09653).

    In the first round clients match in random networks of the same architecture, as ``dm`` does. Before each further
    one the server trains on all sets so far and sends its weights. Clients match features in copies of these with
    noise, and send a further set. A client's bytes are divided among the rounds. Inputs start from noise, where the
    published ones start from real samples.
    """

    name: str = "feddm:3"
    rounds: int = 3
    sets: DistilledSets = field(default_factory=lambda: DistilledSets(name="dm", method="dm"))
    copies: int = 4
    """Copies of the weights, of which each step matches in one."""
    radius: float = 0.1
    """Standard deviation of the noise, as a part of the root mean square of each tensor."""
    codec: str = "uint8"
    """Codec of the changes of weights."""

    sends: Sends = "distilled inputs"

    def exchange(
        self, clients: Sequence[Client], networks: Sequence[str], learner: Learner, seed: int, /
    ) -> Exchange:  # fmt: skip
        check_one_network(self.name, networks, "sends weights to all clients")
        like, sets = clients[0].source, replace(self.sets, network=networks[0])
        held = replace(learner, network=networks[0]).factory(like, len(like.classes))(derive_seed(seed, "server"))
        weights = {name: value.detach().clone() for name, value in held.state_dict().items()}
        senders, messages, down = list[int](), list[Message](), 0
        for number in range(self.rounds):
            around: list[NetworkWeights] = []
            if number and messages:
                x, y = _joined(messages, len(like.classes))
                trained = train_on_sets(learner, networks[0], x, y, like, derive_seed(seed, "student"))
                weights, size = send_weights(trained.state_dict(), weights, self.codec)
                down += size * len(clients)
                trained.load_state_dict(weights)
                around = self._copies(trained, derive_seed(seed, "copies", number))
            for n, client in enumerate(clients):
                part = replace(client, byte_budget=client.byte_budget // self.rounds)
                if number:
                    part = replace(part, seed=derive_seed(client.seed, "round", number))
                if (message := sets.distil(part, around)) is not None:
                    senders.append(n)
                    messages.append(message)
        return _exchange(self.name, senders, messages, len(like.classes), down=down)

    def _copies(self, network: torch.nn.Module, seed: int) -> list[NetworkWeights]:
        """Return copies of a network whose parameters have noise."""
        copies = []
        for n in range(self.copies):
            rng = generator(seed, n)
            noisy = {}
            for name, p in network.named_parameters():
                noise = torch.randn(p.shape, generator=rng).to(p)
                noisy[name] = p.detach() + self.radius * p.detach().square().mean().sqrt() * noise
            buffers = {name: b.detach().clone() for name, b in network.named_buffers()}
            copies.append(NetworkWeights(seed=derive_seed(seed, n), parameters=noisy, buffers=buffers))
        return copies


@dataclass(frozen=True, kw_only=True)
class EnsembleLabels:
    """Sets of a way whose labels are in part predictions of all clients' models, weighted as in `Ensemble`.

    Each client sends its set, one model, and its numbers of samples by class.
    """

    name: str = "ensemble-labels"
    sets: SetWay = field(default_factory=lambda: DistilledSets(name="dm", method="dm"))
    models: Ensemble = field(default_factory=Ensemble)
    share: float = 0.5
    """Part of the ensemble in a label; the rest is the class that the input was made for."""

    sends: Sends = "sets and models"

    def exchange(
        self, clients: Sequence[Client], networks: Sequence[str], learner: Learner, seed: int, /
    ) -> Exchange:  # fmt: skip
        k = len(clients[0].source.classes)
        sent = send_once(self.sets, clients)
        mixed, size = self.models.mix(clients, networks, learner, sent.x, derive_seed(seed, "models"))
        rows = mixed / mixed.sum(1, keepdim=True).clamp(min=1e-12)
        made = label_rows(sent.y, k, rows.dtype)
        return replace(sent, y=(1 - self.share) * made + self.share * rows, up=sent.up + size)


def send_once(way: SetWay, clients: Sequence[Client]) -> Exchange:
    """Return what the server has after one message of each client.

    Raises:
        PotstillError: no client has the samples or the bytes for one.
    """
    sent = [(n, message) for n, client in enumerate(clients) if (message := way.message(client)) is not None]
    return _exchange(way.name, [n for n, _ in sent], [m for _, m in sent], len(clients[0].source.classes))


def _exchange(name: str, senders: Sequence[int], messages: Sequence[Message], k: int, down: int = 0) -> Exchange:
    if not messages:
        raise PotstillError(f"way {name} sends nothing: no client has the samples or the bytes for it; give more bytes")
    x, y = _joined(messages, k)
    up = sum(m.bytes for m in messages)
    return Exchange(x=x, y=y, senders=tuple(senders), messages=tuple(messages), up=up, down=down)


def _joined(messages: Sequence[Message], k: int) -> tuple[Tensor, Tensor]:
    return torch.cat([m.x for m in messages]), join_labels([m.y for m in messages], k)
