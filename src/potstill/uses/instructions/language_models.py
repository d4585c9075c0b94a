"""Small causal language models: a transformer, and a recurrent network that never selects; training and loss."""

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from potstill.rng import derive_seed
from potstill.uses.instructions.settings import Settings
from potstill.uses.instructions.vocabulary import Encoded

__all__ = [
    "FORMS", "Form", "LanguageModel", "Recurrent", "Snapshot", "Transformer", "bits_per_byte", "new_model",
    "token_loss", "train",
]  # fmt: skip

Form = Literal["transformer", "recurrent"]
FORMS: tuple[Form, ...] = ("transformer", "recurrent")
"""Models that learn a selection; the first one's gradients choose, the second never saw it."""
_AT_ONCE = 64
_HEAD = 16
"""Numbers of an attention head."""


class LanguageModel(nn.Module):
    """Abstract: pieces (n, t) to scores of the next one (n, t, v); pieces are embedded and scored by one matrix."""

    def __init__(self, pieces: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(pieces, width)
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(width))

    def states(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n t d"]:
        """Return the state behind every piece."""
        raise NotImplementedError

    def forward(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n t v"]:
        """Return the scores of the next piece behind every piece."""
        return F.linear(self.states(tokens), self.embedding.weight)


class _Block(nn.Module):
    """Causal self-attention and a layer of units, each behind a norm and added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // _HEAD)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        n, t, d = x.shape
        q, k, v = (
            part.reshape(n, t, self.heads, -1).transpose(1, 2) for part in self.into(self.norm1(x)).split(d, dim=2)
        )
        ahead = torch.ones(t, t, dtype=torch.bool, device=x.device).triu(1)
        weights = (q @ k.transpose(2, 3) / math.sqrt(d // self.heads)).masked_fill(ahead, float("-inf")).softmax(3)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, t, d))
        added: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return added


class Transformer(LanguageModel):
    """A transformer with learned places."""

    def __init__(self, pieces: int, width: int, layers: int, length: int) -> None:
        super().__init__(pieces, width)
        self.places = nn.Embedding(length, width)
        nn.init.normal_(self.places.weight, std=1 / math.sqrt(width))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def states(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n t d"]:
        x = self.embedding(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        states: Tensor = self.norm(x)
        return states


class Recurrent(LanguageModel):
    """One layer of gated recurrent units."""

    def __init__(self, pieces: int, width: int) -> None:
        super().__init__(pieces, width)
        self.units = nn.GRU(width, 2 * width, batch_first=True)
        self.out = nn.Linear(2 * width, width)

    def states(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n t d"]:
        states: Tensor = self.out(self.units(self.embedding(tokens))[0])
        return states


def new_model(form: Form, pieces: int, settings: Settings, seed: int) -> LanguageModel:
    """Return an untrained model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "language model", form) % 2**63)
        if form == "recurrent":
            return Recurrent(pieces, settings.width)
        return Transformer(pieces, settings.width, settings.layers, settings.length)


def token_loss(scores: Float[Tensor, "n t v"], targets: Int[Tensor, "n t"]) -> Float[Tensor, ""]:
    """Return the mean of −ln p over pieces that are learned."""
    known = targets >= 0
    picked = scores.log_softmax(2).gather(2, targets.clamp(min=0)[:, :, None])[:, :, 0]
    return -(picked * known).sum() / known.sum().clamp(min=1)


class Snapshot(NamedTuple):
    """A model after an epoch, with the moments of Adam and the mean learning rate of the epoch."""

    params: Mapping[str, Tensor]
    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    rate: float


def train(
    model: LanguageModel, pairs: Encoded, updates: int, settings: Settings, rng: Generator, *,
    every: int = 0, progress: Callable[[int, int], object] | None = None,
) -> list[Snapshot]:  # fmt: skip
    """Train a model in place by AdamW, epoch by epoch in a new order.

    Args:
        model: is changed.
        pairs: what is learned.
        updates: their number; the learning rate falls along a line to 0.
        settings: batch and learning rate.
        rng: draws the orders.
        every: updates between two snapshots; 0: none.
        progress: callback of the numbers of finished and all updates.

    Returns:
        The snapshots, in order.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0.01)
    model.train()
    order, snapshots, rates = torch.zeros(0, dtype=torch.int64), [], []
    for step in range(updates):
        if len(order) < min(settings.batch, len(pairs)):
            order = torch.randperm(len(pairs), generator=rng)
        at, order = order[: settings.batch], order[settings.batch :]
        rates.append(settings.lr * (1 - step / updates))
        optimizer.param_groups[0]["lr"] = rates[-1]
        some = pairs.rows(at)
        loss = token_loss(model(some.inputs), some.targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if every and (step + 1) % every == 0:
            parts = dict(model.named_parameters())
            first, second = (
                {name: optimizer.state[p][moment].clone() for name, p in parts.items()}
                for moment in ("exp_avg", "exp_avg_sq")
            )
            snapshots.append(
                Snapshot({n: p.detach().clone() for n, p in parts.items()}, first, second, sum(rates) / len(rates))
            )
            rates = []
        if progress is not None:
            progress(step + 1, updates)
    model.eval()
    return snapshots


def bits_per_byte(model: LanguageModel, pairs: Encoded) -> float:
    """Return the bits that the model needs for a byte of the responses, their ends included."""
    bits, size = 0.0, 0.0
    order = (pairs.inputs != 0).sum(1).argsort(stable=True)
    with torch.no_grad():
        for at in torch.split(order, _AT_ONCE):
            some = pairs.rows(at)
            known = some.targets >= 0
            bits += float(token_loss(model(some.inputs), some.targets)) * int(known.sum()) / math.log(2)
            size += float(some.widths.sum())
    return bits / max(size, 1.0)
