r"""Zero-shot classification by the texts of classes: CLIP (arXiv:2103.00020) and classification by descriptions
(Menon and Vondrick, arXiv:2210.07183, equation 1).

.. math:: s(x, c) = \frac{1}{|D_c|} \sum_{d \in D_c} \cos(v(x), u(d))

A class with one text D_c, its name, is CLIP's; with several, which describe it, their mean similarity counts.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["balanced_accuracy", "class_similarities"]


def class_similarities(
    pictures: Float[Tensor, "n d"], texts: Float[Tensor, "m d"], owner: Int[Tensor, " m"]
) -> Float[Tensor, "n k"]:
    """Return the mean cosine of each picture with the texts of each class.

    Args:
        pictures, texts: embeddings of any length above 0.
        owner: class of each text, in [0, k), each with at least one.

    Raises:
        ValueError: a class has no text.
    """
    counts = torch.bincount(owner)
    if not len(owner) or int(counts.min()) < 1:
        raise ValueError("every class needs at least one text")
    cosines = F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    sums = cosines.new_zeros(len(pictures), len(counts)).index_add(1, owner, cosines)
    return sums / counts


def balanced_accuracy(similarities: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """Return the mean of the classes' accuracies, over classes that have pictures; ties go to the first class."""
    right = (similarities.argmax(1) == labels).double()
    counts = torch.bincount(labels, minlength=similarities.shape[1])
    hits = torch.bincount(labels, right, minlength=similarities.shape[1])
    return float((hits / counts)[counts > 0].mean())
