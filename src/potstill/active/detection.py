"""Choice among the images of a detection data set: greedy cover less redundancy, by the features of their boxes."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from potstill.data.detection import BoxedImage, Detection, read_picture
from potstill.errors import PotstillError

__all__ = ["ImageClass", "box_crops", "csod", "image_class_means", "select_images"]


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
        raise PotstillError(f"1 to {len(images):,} images with boxes can be chosen, but {m:,} are requested")
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


def box_crops(picture: Float[Tensor, "c h w"], image: BoxedImage, size: int) -> Float[Tensor, "m c s s"]:
    """Return the crop of each box, resized with antialiasing to ``size`` × ``size``."""
    _, height, width = picture.shape
    crops = []
    for left, top, right, bottom in image.boxes.tolist():
        x0, y0 = min(max(int(left), 0), width - 1), min(max(int(top), 0), height - 1)
        x1, y1 = min(max(round(right), x0 + 1), width), min(max(round(bottom), y0 + 1), height)
        crop = picture[None, :, y0:y1, x0:x1]
        crops.append(F.interpolate(crop, (size, size), mode="bilinear", antialias=True, align_corners=False)[0])
    return torch.stack(crops) if crops else picture.new_zeros(0, picture.shape[0], size, size)


def select_images(
    data: Detection,
    m: int,
    *,
    redundancy: float = 1.0,
    size: int = 8,
    embed: Callable[[Tensor], Tensor] | None = None,
    picture: Callable[[BoxedImage], Tensor] = read_picture,
    progress: Callable[[int, int], None] | None = None,
) -> Int[Tensor, " m"]:
    """CSOD: images whose boxes, class by class, stand for the other images' and not for one another's.

    The paper's features are a trained detector's, pooled over each box. Here they are of the box's crop: ``embed`` may
    be any network's (a frozen backbone, say); without it the crop's pixels, less their mean.

    Args:
        data: images with boxes; those without are never chosen.
        m: how many.
        redundancy: λ ≥ 0.
        size: crops are resized to ``size`` × ``size``.
        embed: crops (b, 3, size, size) in [0, 1] to features (b, d).
        picture: how a picture is got.
        progress: called with how many images were read, of how many.

    Returns:
        Indices into ``data.images`` in the order of choice.

    Raises:
        PotstillError: fewer images have boxes, λ is below 0, or a picture cannot be read.
    """
    if size < 1:
        raise PotstillError(f"the size of crops must be at least 1, but it is {size}")
    features, owner = [], []
    for i, image in enumerate(data.images):
        if len(image.labels):
            crops = box_crops(picture(image), image, size)
            with torch.no_grad():
                rows = crops.flatten(1) if embed is None else embed(crops)
            features.append(rows - rows.mean(1, keepdim=True) if embed is None else rows)
            owner.append(torch.full((len(crops),), i))
        if progress is not None:
            progress(i + 1, len(data))
    if not features:
        raise PotstillError(f"{data.name}: no image has a box; there is nothing to choose by")
    labels = torch.cat([image.labels for image in data.images])
    return csod(image_class_means(torch.cat(features), torch.cat(owner), labels), m, redundancy)
