"""Learners of users' lists of items: three autoencoders that score every item from the items that a user met.

Each chooses its strength on the training users' validation interactions, never on tested ones
(`potstill.data.interactions`); what a user met is not recommended again.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from potstill.core import Task
from potstill.errors import PotstillError
from potstill.evaluation.estimators import Predictor
from potstill.evaluation.student import assign_gradients
from potstill.functional.autoencoder import autoencoder_weights, row_kernel, row_lengths
from potstill.functional.kernels import FullyConnected
from potstill.nn.init import build_network
from potstill.rng import generator

__all__ = ["ItemRidge", "MultAutoencoder", "NtkAutoencoder"]

Quality: TypeAlias = Callable[[Predictor], float]
"""Score of a predictor on validation interactions; the higher, the better."""

_RIDGES = (1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
_PENALTIES = (1.0, 10.0, 50.0, 200.0, 1000.0)


@dataclass(frozen=True, kw_only=True)
class _RatingLearner:
    """Common part of learners of users."""

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]] = ("recommendation",)
    draws: ClassVar[Any] = False

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        """Refuse rows without validation interactions.

        Raises:
            PotstillError: always.
        """
        raise PotstillError(f"{self.name} learns users of interactions, and these data are none; choose linear-model")

    def fit_users(self, rows: Float[Tensor, "n d"], quality: Quality, seed: int) -> Predictor:
        """Return the candidate of the best quality; of equal ones the first."""
        best, found = -1.0, None
        for predict in self.candidates(rows, seed):
            if (score := quality(predict)) > best:
                best, found = score, predict
        assert found is not None  # there are candidates
        return found

    @abstractmethod
    def candidates(self, rows: Float[Tensor, "n d"], seed: int) -> Iterator[Predictor]:
        """Yield predictors, each of which gives scores of all items (m, d) for rows (m, d)."""


@dataclass(frozen=True, kw_only=True)
class NtkAutoencoder(_RatingLearner):
    """infinite-AE: kernel ridge regression of rows on themselves with the kernel of a wide network of one hidden layer
    (arXiv:2206.02626). In closed form, in float64; the ridge is chosen among seven."""

    name: ClassVar[str] = "ntk-autoencoder"
    depth: int = 1
    """Hidden layers."""
    most: int = 4000
    """Maximum number of users, the first: the kernel matrix is quadratic in it."""

    def candidates(self, rows: Float[Tensor, "n d"], seed: int) -> Iterator[Predictor]:
        kernel, rows = FullyConnected(depth=self.depth), rows[: self.most].double()
        lengths = row_lengths(rows)

        def scores(weights: Tensor, queries: Tensor) -> Tensor:
            return row_kernel(queries.double() @ rows.T, row_lengths(queries), lengths, kernel) @ weights

        for ridge in _RIDGES:
            yield partial(scores, autoencoder_weights(rows, ridge, kernel))


@dataclass(frozen=True, kw_only=True)
class ItemRidge(_RatingLearner):
    r"""EASE: linear regression of items on all other items (Steck, WWW 2019, arXiv:1905.03375), in closed form.

    With G = XᵀX and P = (G + λI)⁻¹ the weights of items i ≠ j are -P_ij / P_jj, and an item has none for itself. The
    penalty is chosen among five, over the number of users to scale it: λ = ``penalty`` · n / 1000, 0.1 at least.
    """

    name: ClassVar[str] = "item-ridge"

    def candidates(self, rows: Float[Tensor, "n d"], seed: int) -> Iterator[Predictor]:
        x = rows.double()
        n, d = x.shape
        for penalty in _PENALTIES:
            ridge = max(0.1, penalty * n / 1000)
            if n < d:  # Woodbury: a matrix of users is inverted in place of one of items
                inner = torch.linalg.solve(x @ x.T + ridge * torch.eye(n, dtype=x.dtype, device=x.device), x)
                inverse = (torch.eye(d, dtype=x.dtype, device=x.device) - x.T @ inner) / ridge
            else:
                inverse = torch.linalg.inv(x.T @ x + ridge * torch.eye(d, dtype=x.dtype, device=x.device))
            weights = -inverse / inverse.diagonal()
            weights.fill_diagonal_(0.0)
            yield partial(_times, weights)


def _times(weights: Tensor, queries: Tensor) -> Tensor:
    return queries.double() @ weights


class _Autoencoder(nn.Module):
    """Rows of unit length to a hidden layer of tanh, to logits of items."""

    def __init__(self, items: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(items, hidden), nn.Linear(hidden, items)

    def forward(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        logits: Tensor = self.second(torch.tanh(self.first(F.normalize(rows, dim=1))))
        return logits


@dataclass(frozen=True, kw_only=True)
class MultAutoencoder(_RatingLearner):
    """Mult-DAE: a network of one hidden layer that reconstructs rows from parts of them, with a multinomial likelihood
    (Liang et al., WWW 2018, arXiv:1802.05814). The number of updates is chosen among four.

    Raises:
        PotstillError: a setting out of its range.
    """

    name: ClassVar[str] = "mult-autoencoder"
    draws: ClassVar[Any] = True
    hidden: int = 200
    """Hidden units (200)."""
    lr: float = 1e-3
    """Learning rate of Adam (1e-3)."""
    dropout: float = 0.5
    """Fraction of a user's items that an update leaves out (keep_prob 0.5)."""
    batch: int = 500
    """Users of an update (batch_size 500)."""
    steps: tuple[int, ...] = (50, 100, 200, 400)
    """Numbers of updates that are compared. Ours."""

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.batch < 1 or not 0 <= self.dropout < 1:
            raise PotstillError(
                "mult-autoencoder: hidden and batch must be at least 1, and dropout at least 0 and below 1, but they "
                f"are {self.hidden}, {self.batch} and {self.dropout}"
            )

    def candidates(self, rows: Float[Tensor, "n d"], seed: int) -> Iterator[Predictor]:
        rng = generator(seed, self.name)
        rows = rows.float()
        make: Any = partial(_Autoencoder, rows.shape[1], self.hidden)
        network = build_network(make, rows.device, rng)
        parameters = list(network.parameters())
        moves = torch.optim.Adam(parameters, lr=self.lr, fused=True)
        marks: Sequence[int] = sorted(self.steps)
        for step in range(1, marks[-1] + 1):
            at = torch.randperm(len(rows), generator=rng)[: self.batch].to(rows.device)
            shown = rows[at] * (torch.rand(rows[at].shape, generator=rng) >= self.dropout).to(rows)
            loss = -(F.log_softmax(network(shown), 1) * rows[at].clamp_min(0)).sum(1).mean()
            assign_gradients(parameters, torch.autograd.grad(loss, parameters))
            moves.step()
            if step in marks:
                state = {name: t.detach().clone() for name, t in network.state_dict().items()}
                yield partial(self._scores, rows.shape[1], state)

    def _scores(self, items: int, state: dict[str, Tensor], queries: Tensor) -> Tensor:
        with torch.device("meta"):
            network = _Autoencoder(items, self.hidden)
        with torch.no_grad():
            logits: Tensor = torch.func.functional_call(network, state, (queries.float(),))
        return logits
