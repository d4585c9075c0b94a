"""Which images of a detection data set to keep: `csod` over the features of their boxes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from potstill.active.box_coreset import csod, image_class_means
from potstill.data.detection import BoxedImage, Detection, read_picture
from potstill.errors import PotstillError

__all__ = ["box_crops", "select_images"]


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
