"""Models of clients: weights that are averaged over rounds, or an ensemble that is weighted by classes.

Weights travel as changes of the weights before, rounded to few bits and arithmetic-coded, and both sides go on with
what is decoded.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from potstill.codecs import compress_encoded, decode, encoded_bytes, parse_codec
from potstill.core import Augmentation, NetworkFactory
from potstill.core.nested import single_tensor
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.evaluation import Protocol as Recipe
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.student import TEST_CHUNK, StudentJob, make_optimizer, train
from potstill.rng import derive_seed, generator
from potstill.uses.continual.learner import Learner
from potstill.uses.federated.messages import Client, Sends

__all__ = [
    "Ensemble",
    "FedAvg",
    "ModelAnswer",
    "ModelWay",
    "NoMessages",
    "check_one_network",
    "predict_probabilities",
    "send_weights",
    "train_local",
    "train_on_sets",
]

State = Mapping[str, Tensor]
COUNT_BYTES = 2
"""Bytes of a number of samples that a client sends for each class."""


@dataclass(frozen=True, kw_only=True)
class ModelAnswer:
    """Predictions of the server after the models came, and the bytes of the messages."""

    probabilities: tuple[Float[Tensor, "n k"], ...]
    """Probabilities of the test inputs: by one model, or by one for each client."""
    up: int
    """Bytes from all clients to the server."""
    down: int
    """Bytes from the server to all clients before the server has its model."""


@runtime_checkable
class ModelWay(Protocol):
    """A way in which clients train models."""

    @property
    def name(self) -> str: ...
    @property
    def sends(self) -> Sends: ...

    def answer(
        self, clients: Sequence[Client], networks: Sequence[str], learner: Learner, test: TensorSource, seed: int, /
    ) -> ModelAnswer:
        """Train on all clients, and predict the test data.

        Args:
            clients: their samples.
            networks: network of each client.
            learner: settings of training.
            test: inputs to predict.
            seed: of first weights and batches.

        Raises:
            PotstillError: clients have different networks, whose weights cannot be averaged.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class FedAvg:
    """Federated averaging (McMahan et al. 2017, arXiv:1602.05629), or FedProx (Li et al. 2020, arXiv:1812.06127).

    In each round every client trains from the server's weights, and the server takes the mean by numbers of samples.
    """

    name: str = "fedavg"
    rounds: int = 1
    epochs: int = 1
    """Passes of a client over its samples in a round."""
    lr: float = 0.01
    """First learning rate of a client in a round; larger ones averaged worse where classes are skewed."""
    proximal: float = 0.0
    """FedProx's μ: the loss has μ/2 times the squared distance from the server's weights."""
    codec: str = "uint8"
    """Codec of the changes of weights."""

    sends: Sends = "models"

    def answer(
        self, clients: Sequence[Client], networks: Sequence[str], learner: Learner, test: TensorSource, seed: int, /
    ) -> ModelAnswer:
        check_one_network(self.name, networks, "averages weights")
        make, recipe, augment = _training(learner, networks[0], clients[0].source)
        network = make(derive_seed(seed, "network"))
        server = {name: value.clone() for name, value in network.state_dict().items()}
        total = sum(len(c.source) for c in clients)
        up = down = 0
        for number in range(self.rounds):
            mean = {name: torch.zeros_like(value) for name, value in server.items() if value.is_floating_point()}
            for n, client in enumerate(clients):
                network.load_state_dict(server)
                steps = self.epochs * math.ceil(len(client.source) / learner.batch)
                train_local(
                    network, client.source, recipe, augment, self.lr, steps,
                    derive_seed(seed, "client", n, "round", number), self.proximal,
                )  # fmt: skip
                sent, size = send_weights(network.state_dict(), server, self.codec)
                up += size
                for name, value in mean.items():
                    value.add_(sent[name], alpha=len(client.source) / total)
            new = {**server, **mean}
            if number + 1 < self.rounds:
                new, size = send_weights(new, server, self.codec)
                down += size * len(clients)
            server = dict(new)
        network.load_state_dict(server)
        return ModelAnswer(probabilities=(predict_probabilities(network, test),), up=up, down=down)


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """One model of each client, of any network, after the learner's updates.

    A client's probability of a class counts by its part of the samples of that class.
    """

    name: str = "ensemble"
    weighted: bool = True
    """Weight a client's probability of a class by its part of the samples of that class; else all clients equally."""
    codec: str = "uint8"

    sends: Sends = "models"

    def answer(
        self, clients: Sequence[Client], networks: Sequence[str], learner: Learner, test: TensorSource, seed: int, /
    ) -> ModelAnswer:
        mixed, up = self.mix(clients, networks, learner, test, seed)
        return ModelAnswer(probabilities=(mixed,), up=up, down=0)

    def mix(
        self, clients: Sequence[Client], networks: Sequence[str], learner: Learner,
        inputs: TensorSource | Float[Tensor, "n ..."], seed: int,
    ) -> tuple[Float[Tensor, "n k"], int]:  # fmt: skip
        """Return the weighted sum of all clients' probabilities of some inputs, and the bytes of their models.

        Args:
            clients, networks, learner, seed: as for `answer`.
            inputs: a source, or inputs in model space.
        """
        k = len(clients[0].source.classes)
        counts = torch.stack([torch.bincount(c.source.labels, minlength=k) for c in clients]).double()
        weights = counts / counts.sum(0).clamp(min=1)
        if not self.weighted:
            weights = torch.full_like(weights, 1 / len(clients))
        mixed, up = torch.zeros(len(inputs), k), 0
        for n, (client, name) in enumerate(zip(clients, networks, strict=True)):
            network, size = _local_model(client, name, learner, self.codec, derive_seed(seed, n))
            mixed += predict_probabilities(network, inputs) * weights[n].float()
            up += size + (COUNT_BYTES * k if self.weighted else 0)
        return mixed, up


@dataclass(frozen=True, kw_only=True)
class NoMessages:
    """Nothing is sent: each client has a model of its own samples."""

    name: str = "alone"

    sends: Sends = "models"

    def answer(
        self, clients: Sequence[Client], networks: Sequence[str], learner: Learner, test: TensorSource, seed: int, /
    ) -> ModelAnswer:
        every = tuple(
            predict_probabilities(_local_model(c, name, learner, None, derive_seed(seed, n))[0], test)
            for n, (c, name) in enumerate(zip(clients, networks, strict=True))
        )
        return ModelAnswer(probabilities=every, up=0, down=0)


def train_on_sets(
    learner: Learner, network: str, x: Float[Tensor, "n ..."], y: Tensor, like: TensorSource, seed: int
) -> nn.Module:
    """Return a fresh network that was trained on sets alone.

    Args:
        learner: settings of training.
        network: its name.
        x: inputs in model space.
        y: classes (n,), or rows over them.
        like: data with the classes, inputs and normalization of the sets.
        seed: of network and batches.
    """
    make, recipe, augment = _training(learner, network, like)
    return train(
        StudentJob(
            make=make, x=x, y=y.to(x.device), protocol=recipe, lr=learner.lr, steps=learner.steps, augment=augment,
            seed=seed,
        )
    )  # fmt: skip


def check_one_network(name: str, networks: Sequence[str], why: str) -> None:
    """Check that all clients have the same network.

    Raises:
        PotstillError: they have several.
    """
    if len(set(networks)) > 1:
        raise PotstillError(
            f"{name} {why}, so clients need the same network, but they have "
            f"{', '.join(dict.fromkeys(networks))}; give one network, or let clients send sets"
        )


def train_local(
    network: nn.Module, source: TensorSource, recipe: Recipe, augment: Augmentation, lr: float, steps: int, seed: int,
    proximal: float = 0.0,
) -> None:  # fmt: skip
    """Train a network on a client's samples in place, at a learning rate that falls along a cosine to zero.

    Args:
        network: trained from the weights that it has.
        source: the samples.
        recipe: optimizer, batch and weight decay.
        augment: of each batch.
        lr: first learning rate.
        steps: updates, in passes over the samples in new orders.
        seed: of order and augmentation.
        proximal: weight of half the squared distance from the first weights.
    """
    rng = generator(seed, "samples")
    parameters = list(network.parameters())
    anchors = [p.detach().clone() for p in parameters] if proximal else []
    moves = make_optimizer(recipe, parameters, lr)
    order: list[Tensor] = []
    network.train()
    for step in range(steps):
        order = order or list(torch.split(torch.randperm(len(source), generator=rng), recipe.recipe.batch))
        for group in moves.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        index = order.pop()
        x = single_tensor(source.fetch(index).x, "a client")
        x = augment.apply(x, augment.draw(len(x), tuple(source.input.shape), rng))
        loss = F.cross_entropy(network(x), source.labels[index].to(x.device))
        if proximal:
            distances = [(p - a).square().sum() for p, a in zip(parameters, anchors, strict=True)]
            loss = loss + proximal / 2 * torch.stack(distances).sum()
        moves.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        moves.step()


def send_weights(weights: State, server: State, codec: str) -> tuple[dict[str, Tensor], int]:
    """Return weights as the other side decodes them, and the bytes of the message.

    Args:
        weights: to send.
        server: weights that both sides have; changes of these are sent.
        codec: of the changes, tensor by tensor. Whole numbers, such as a count of batches, are not sent.
    """
    made, size = dict(server), 0
    packer = parse_codec(codec)
    for name, value in weights.items():
        if not value.is_floating_point():
            continue
        encoded = compress_encoded(packer.pack((value - server[name]).cpu().reshape(1, -1)), ())
        size += encoded_bytes(encoded)
        made[name] = server[name] + decode(encoded).reshape(value.shape).to(value)
    return made, size


def predict_probabilities(
    network: nn.Module, inputs: TensorSource | Float[Tensor, "n ..."]
) -> Float[Tensor, "n k"]:  # fmt: skip
    """Return the probabilities of all inputs, on the CPU; equal ones where the network is not finite.

    Args:
        network: to predict with.
        inputs: a source, or inputs in model space.
    """
    network.eval()
    with torch.no_grad():
        parts = torch.split(torch.arange(len(inputs)), TEST_CHUNK)
        batches = (
            inputs[part] if isinstance(inputs, Tensor) else single_tensor(inputs.fetch(part).x, "a prediction")
            for part in parts
        )  # fmt: skip
        logits = torch.cat([network(batch).cpu() for batch in batches])
    return torch.nan_to_num(logits.softmax(1), nan=1 / logits.shape[1])


def _local_model(
    client: Client, network: str, learner: Learner, codec: str | None, seed: int
) -> tuple[nn.Module, int]:  # fmt: skip
    """Return a client's model as decoded from its message, and the bytes of that."""
    make, recipe, augment = _training(learner, network, client.source)
    model = make(derive_seed(seed, "network"))
    first = {name: value.clone() for name, value in model.state_dict().items()}
    train_local(model, client.source, recipe, augment, learner.lr, learner.steps, seed)
    if codec is None:
        return model, 0
    sent, size = send_weights(model.state_dict(), first, codec)
    model.load_state_dict(sent)
    return model, size


def _training(learner: Learner, network: str, source: TensorSource) -> tuple[NetworkFactory, Recipe, Augmentation]:
    """Return networks, settings and augmentation for all classes."""
    make = replace(learner, network=network).factory(source, len(source.classes))
    recipe = learner.protocol(source, make.name)
    return make, recipe, student_augmentation(recipe.recipe.augment, source)
