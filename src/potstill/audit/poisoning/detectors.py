"""Detectors of poison as plain functions of features, labels and networks' answers.

Each returns one score per class, higher where the class looks poisoned, and `None` for a class that has too few items.
Spectral signatures: Tran, Li and Madry 2018, arXiv:1811.00636. Activation clustering: Chen et al. 2018,
arXiv:1811.03728. The anomaly index is that of Neural Cleanse (Wang et al. 2019). Influence (Koh and Liang 2017,
arXiv:1703.04730) is exact here, as it is that of a ridge regression.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from potstill.functional.distances import pairwise_squared

__all__ = [
    "LEAST", "anomaly_index", "disagreement", "foreign_neighbours", "mean_by_class", "ridge_harm", "silhouettes",
    "spectral_scores", "spectral_shares", "two_means",
]  # fmt: skip

LEAST = 5
"""Items of a class below which its spread is not looked at."""
DIMENSIONS = 10
"""Principal components that activations are reduced to before they are clustered."""
_CONSISTENT = 1.4826
"""Factor that makes the median absolute deviation a standard deviation of normal values."""
_ROUNDS = 50
_RIDGE = 0.1
"""Ridge of the regression whose influences are taken, in mean squared norms of a row; ours."""


def anomaly_index(values: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """Return how far each value lies below the median, in median absolute deviations made standard deviations.

    Values above the median get 0. Without any deviation all are 0.
    """
    values = values.double()
    centre = values.quantile(0.5)
    spread = _CONSISTENT * (values - centre).abs().quantile(0.5)
    return torch.zeros_like(values) if spread == 0 else ((centre - values) / spread).clamp(min=0)


def spectral_scores(features: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " n"], float]:
    """Return each row's squared projection on the first singular direction, and the share of variance along it.

    The rows are of one class and are centred here.
    """
    centred = features.double() - features.double().mean(0)
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    total = float(values.square().sum())
    scores = (centred @ directions[0]).square()
    return scores, 0.0 if total <= 0 else float(values[0].square()) / total


def spectral_shares(features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int) -> list[float | None]:
    """Return for each class the share of its variance along its first singular direction."""
    return [
        spectral_scores(features[labels == c])[1] if int((labels == c).sum()) >= LEAST else None for c in range(classes)
    ]


def two_means(x: Float[Tensor, "n d"]) -> Bool[Tensor, " n"]:
    """Return the members of the smaller of two clusters.

    2-means from a split by the sign of the first principal component, and from the pair of rows that are farthest
    apart; the one of the smaller sum of squares. Nothing is drawn.
    """
    x = x.double()
    distances = pairwise_squared(x, x)
    a, b = divmod(int(distances.argmax()), len(x))
    centred = x - x.mean(0)
    along = centred @ torch.linalg.svd(centred, full_matrices=False)[2][0]
    best: Tensor = along > 0
    least = float("inf")
    for member in (along > 0, distances[:, b] < distances[:, a]):
        for _ in range(_ROUNDS):
            if not 0 < int(member.sum()) < len(x):
                break
            centres = torch.stack([x[~member].mean(0), x[member].mean(0)])
            moved: Tensor = pairwise_squared(x, centres).argmin(1) == 1
            if torch.equal(moved, member):
                break
            member = moved
        if not 0 < int(member.sum()) < len(x):
            continue
        parts = (x[member], x[~member])
        error = sum(float((part - part.mean(0)).square().sum()) for part in parts)
        if error < least:
            best, least = member, error
    return best if int(best.sum()) * 2 <= len(x) else ~best


def _silhouette(x: Float[Tensor, "n d"], member: Bool[Tensor, " n"]) -> float:
    """Return the mean silhouette of two clusters; a cluster of one row has silhouette 0."""
    distances = pairwise_squared(x.double(), x.double()).clamp(min=0).sqrt()
    sizes = torch.stack([(~member).sum(), member.sum()]).double()
    sums = torch.stack([distances[:, ~member].sum(1), distances[:, member].sum(1)], 1)
    own, other = member.long(), 1 - member.long()
    rows = torch.arange(len(x))
    inside = sums[rows, own] / (sizes[own] - 1).clamp(min=1)
    outside = sums[rows, other] / sizes[other]
    largest = torch.maximum(inside, outside)
    values = torch.where((sizes[own] > 1) & (largest > 0), (outside - inside) / largest.clamp(min=1e-300), 0.0)
    return float(values.mean())


def silhouettes(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int
) -> tuple[list[float | None], list[Int[Tensor, " m"]]]:
    """Return for each class the silhouette of two clusters of its features, and the items of the smaller cluster."""
    scores: list[float | None] = []
    small: list[Tensor] = []
    for c in range(classes):
        at = torch.where(labels == c)[0]
        if len(at) < LEAST:
            scores.append(None)
            small.append(at[:0])
            continue
        x = features[at].double()
        x = x - x.mean(0)
        x = x @ torch.linalg.svd(x, full_matrices=False)[2][:DIMENSIONS].T
        if float(x.square().sum()) == 0:
            scores.append(0.0)
            small.append(at[:0])
            continue
        member = two_means(x)
        scores.append(_silhouette(x, member))
        small.append(at[member])
    return scores, small


def mean_by_class(values: Float[Tensor, " n"], labels: Int[Tensor, " n"], classes: int) -> list[float | None]:
    """Return the mean of the items of each class, `None` of a class without any."""
    return [float(values[labels == c].double().mean()) if bool((labels == c).any()) else None for c in range(classes)]


def disagreement(
    logits: Sequence[Float[Tensor, "n k"]], labels: Int[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Return one minus the mean probability that networks give to each item's label, and their answer."""
    probability = torch.stack([one.double().softmax(1) for one in logits]).mean(0)
    return 1 - probability[torch.arange(len(labels)), labels], probability.argmax(1)


def foreign_neighbours(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], trusted: Float[Tensor, "m d"],
    trusted_labels: Int[Tensor, " m"], k: int,
) -> Float[Tensor, " n"]:  # fmt: skip
    """Return which share of each item's ``k`` nearest trusted samples are of another class."""
    nearest = pairwise_squared(features.double(), trusted.double()).topk(min(k, len(trusted)), largest=False).indices
    return (trusted_labels[nearest] != labels[:, None]).double().mean(1)


def ridge_harm(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], trusted: Float[Tensor, "m d"],
    trusted_labels: Int[Tensor, " m"], classes: int,
) -> Float[Tensor, " n"]:  # fmt: skip
    """Return what each item adds to the squared error on trusted samples: n times its influence, over the error.

    Ridge regression of one-hot labels on features and a constant, fitted to all items, and without each of them. With
    K = ΦΦᵀ + λI, α = K⁻¹Y, residuals G = Φ_t Φᵀ α − Y_t of trusted samples and q_i the column i of Φ_t Φᵀ K⁻¹, leaving
    item i out changes the predictions by −q_i α_i / K⁻¹_ii, so that no second fit is needed. Above 0, an item harms.
    """
    rows, tested = (torch.cat([x.double(), x.new_ones(len(x), 1).double()], 1) for x in (features, trusted))
    targets, wanted = (
        torch.nn.functional.one_hot(y.cpu(), classes).double() for y in (labels, trusted_labels)
    )  # fmt: skip
    kernel = rows @ rows.T
    kernel = kernel + _RIDGE * float(kernel.diagonal().mean()) * torch.eye(len(rows), dtype=torch.float64)
    inverse = torch.linalg.inv(kernel)
    moves = (inverse @ targets) / inverse.diagonal()[:, None]
    along = tested @ rows.T @ inverse
    residuals = along @ targets - wanted
    saved = 2 * ((along.T @ residuals) * moves).sum(1) - along.square().sum(0) * moves.square().sum(1)
    harm: Tensor = len(rows) * saved / residuals.square().sum().clamp(min=1e-300)
    return harm
