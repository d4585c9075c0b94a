"""Choices among images with many boxes: features per image and class, greedy cover less redundancy. No n × n matrix."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from potstill.errors import PotstillError

__all__ = ["ImageClass", "csod", "image_class_means"]


class ImageClass(NamedTuple):
    """One row for every image and class that has a box in it, sorted by image, then class."""

    features: Float[Tensor, "r d"]
    image: Int[Tensor, " r"]
    label: Int[Tensor, " r"]


def image_class_means(
    boxes: Float[Tensor, "m d"], image: Int[Tensor, " m"], label: Int[Tensor, " m"]
) -> ImageClass:  # fmt: skip
    """The mean feature ``p_ic`` of the boxes of class c in image i (CSOD, arXiv:2404.09161, section 3).

    Args:
        boxes: features of the boxes.
        image, label: of each box, from 0.
    """
    k = int(label.max()) + 1 if len(label) else 1
    keys, place = torch.unique(image * k + label, return_inverse=True)
    total = torch.zeros(len(keys), boxes.shape[1], dtype=boxes.dtype).index_add_(0, place, boxes)
    return ImageClass(total / torch.bincount(place, minlength=len(keys))[:, None], keys // k, keys % k)


def csod(rows: ImageClass, m: int, redundancy: float = 1.0) -> Int[Tensor, " m"]:
    r"""Coreset selection for object detection (Lee et al., CVPRW 2024, arXiv:2404.09161).

    The classes take turns. In its turn class c takes the image i, not yet taken, with the largest

    .. math::
        \sum_{k \in T_c \setminus S_c} \cos(p_{ic}, p_{kc}) - \lambda \sum_{j \in S_c} \cos(p_{ic}, p_{jc})

    where T_c are the images with a box of class c and S_c those of them that are taken; an image that is taken counts
    for all its classes. It is the greedy maximum of
    ``Σ_{j∈S} Σ_{k∈T} cos − (1 + λ)/2 Σ_{j,j'∈S} cos`` within each class. Sums of unit vectors stand for the sums of
    cosines, so a turn costs O(|T_c| d). Ties go to the first image.

    Args:
        rows: from `image_class_means`.
        m: how many images.
        redundancy: λ ≥ 0, the weight of what is taken already.

    Returns:
        Distinct images in the order of choice; every prefix is the choice for a smaller ``m``.

    Raises:
        PotstillError: ``m`` is not in 1…(images with a box), or λ is below 0.
    """
    images = torch.unique(rows.image)
    if not 1 <= m <= len(images):
        raise PotstillError(f"1 to {len(images):,} images with boxes can be chosen, but {m:,} are asked for")
    if not redundancy >= 0:
        raise PotstillError(f"the weight of redundancy must be at least 0, but it is {redundancy}")
    unit = F.normalize(rows.features.double(), dim=1)
    members = [(rows.label == c).nonzero().flatten() for c in torch.unique(rows.label)]
    own = [unit[at] for at in members]
    left = [u.sum(0) for u in own]
    """Sums of the unit vectors that are not taken, by class."""
    kept = [torch.zeros_like(total) for total in left]
    free = [torch.ones(len(at), dtype=torch.bool) for at in members]
    order: list[int] = []
    while len(order) < m:
        for c, at in enumerate(members):
            if len(order) == m:
                break
            if not bool(free[c].any()):
                continue
            score = own[c] @ (left[c] - redundancy * kept[c])
            image = int(rows.image[at[score.masked_fill(~free[c], -torch.inf).argmax()]])
            order.append(image)
            for other, places in enumerate(members):
                for i in (rows.image[places] == image).nonzero().flatten().tolist():
                    free[other][i] = False
                    left[other] = left[other] - own[other][i]
                    kept[other] = kept[other] + own[other][i]
    return torch.tensor(order)
