"""Networks of point clouds: PointNet (Qi et al., CVPR 2017, arXiv:1612.00593), small and without its input transform.

Every point goes through the same layers; the largest value of each channel over all points is the cloud's feature,
which no order of the points changes. Norms are over groups of channels (ours: published ones are over the batch).
"""

import torch
from torch import Tensor, nn


class PointNet(nn.Module):
    """``shape`` is (3, points) of one input; ``classes`` their number."""

    width = 64
    """Channels of the last layer of points."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        w = self.width
        self.points = nn.Sequential(
            nn.Conv1d(shape[0], w // 2, 1), nn.GroupNorm(4, w // 2), nn.ReLU(),
            nn.Conv1d(w // 2, w, 1), nn.GroupNorm(4, w), nn.ReLU(), nn.Conv1d(w, w, 1),
        )  # fmt: skip
        self.last = nn.Linear(w, classes)

    def embed(self, x: Tensor) -> Tensor:
        """Return the largest value of each channel (n, width) of clouds (n, 3, points)."""
        return self.points(x).amax(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes) of clouds (n, 3, points)."""
        return self.last(self.points(x).amax(2))


class SortedPointNet(PointNet):
    r"""`PointNet` whose features are all values of each channel in falling order: SADM's (arXiv:2503.22154).

    Its program minimises :math:`0.2 \, \tfrac1P \sum_p \sum_c (\bar t_{cp} - \bar s_{cp})^2` of the mean sorted
    features of real and synthetic clouds: method ``dm``'s squared distance of means, for features with this scale. The
    same point of different clouds means nothing, the same rank does.
    """

    share = 0.2
    """Weight of the sorted features (main.py)."""

    def embed(self, x: Tensor) -> Tensor:
        """Return sorted features (n, width · points)."""
        values = self.points(x).sort(dim=2, descending=True).values
        return (values * (self.share / x.shape[2]) ** 0.5).flatten(1)


class EdgeNet(nn.Module):
    """Another network, to ask whether a set transfers: features of edges to the nearest points, as DGCNN's first layer.

    Wang et al., arXiv:1801.07829: ``max_j h(x_i, x_j − x_i)`` over the eight nearest points j of each point i.
    """

    near, width = 8, 48

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        w = self.width
        self.edges = nn.Sequential(nn.Conv2d(2 * shape[0], w, 1), nn.GroupNorm(4, w), nn.LeakyReLU(0.2))
        self.points = nn.Sequential(nn.Conv1d(w, w, 1), nn.GroupNorm(4, w), nn.LeakyReLU(0.2))
        self.last = nn.Linear(2 * w, classes)

    def embed(self, x: Tensor) -> Tensor:
        """Return the largest and the mean value of each channel (n, 2 · width)."""
        near = min(self.near, x.shape[2] - 1)
        index = torch.cdist(x.transpose(1, 2), x.transpose(1, 2)).topk(near + 1, largest=False).indices[..., 1:]
        n, d, p = x.shape
        others = x.gather(2, index.reshape(n, 1, p * near).expand(-1, d, -1)).reshape(n, d, p, near)
        here = x.unsqueeze(3).expand(-1, -1, -1, near)
        values = self.points(self.edges(torch.cat([here, others - here], 1)).amax(3))
        return torch.cat([values.amax(2), values.mean(2)], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes) of clouds (n, 3, points)."""
        return self.last(self.embed(x))
