"""Dual encoder for pairs of an image and a text: a ConvNet, and the mean of word vectors or a projection.

Where texts are vectors of a frozen encoder, as VL-Distill's are, the text's encoder is a trainable projection. The
shape of CLIP (Radford et al., arXiv:2103.00020, figure 1) at a size for a CPU; depth and width are ours.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from potstill.core import InputSpec, Network
from potstill.core.nested import OFFSETS, VALUES
from potstill.errors import PotstillError
from potstill.nn.convnet import ConvNet, default_depth

__all__ = ["DualEncoder", "SplitFeatures", "TwoTowers"]

_WORD = 64
"""Dimensions of a word vector. Ours."""


@runtime_checkable
class TwoTowers(Protocol):
    """Network with an encoder for each of two views, whose output has both embeddings side by side."""

    @property
    def towers(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the parameters of the first and of the second view's encoder."""
        ...


@runtime_checkable
class SplitFeatures(Protocol):
    """Network whose ``embed`` returns the features of two encoders side by side."""

    @property
    def feature_widths(self) -> tuple[int, int]:
        """Numbers of features of the first and of the second view."""
        ...


class _Words(nn.Module):
    """Mean of the vectors of each sample's words, twice differentiable."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))

    def initialise(self, rng: Generator) -> None:
        """Draw standard normal vectors, as torch's embeddings."""
        with torch.no_grad():
            self.weight.normal_(generator=rng)

    def forward(self, values: Tensor, offsets: Tensor) -> Tensor:
        n = len(offsets)
        lengths = torch.diff(offsets, append=offsets.new_tensor([len(values)]))
        owner = torch.arange(n, device=offsets.device).repeat_interleave(lengths)
        # a product with one-hot rows would be exact too; index_add is its sparse form
        summed = self.weight.new_zeros(n, self.weight.shape[1]).index_add(0, owner, self.weight[values])
        return summed / lengths.clamp_min(1).unsqueeze(1)


class _Vectors(nn.Module):
    """Projection of text vectors with a residual branch: VL-Distill's (arXiv:2308.07545, networks.py) without its
    dropout and its norm."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(size, width)
        self.branch = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.projection(x)
        out: Tensor = h + self.branch(nn.functional.gelu(h))
        return out


class _Heads(nn.Module):
    """One linear layer for each encoder, on its part of the features."""

    def __init__(self, widths: tuple[int, int], outputs: int) -> None:
        super().__init__()
        self.widths = widths
        self.first = nn.Linear(widths[0], outputs // 2)
        self.second = nn.Linear(widths[1], outputs // 2)

    def forward(self, h: Tensor) -> Tensor:
        a, b = torch.split(h, list(self.widths), 1)
        return torch.cat([self.first(a), self.second(b)], 1)


class DualEncoder(Network):
    """``forward`` returns both embeddings side by side (n, outputs); ``embed`` the inputs of the linear layers."""

    def __init__(self, spec: InputSpec, outputs: int, *, width: int = 32) -> None:
        """
        Raises:
            PotstillError: the inputs are not one picture and one text.
        """
        super().__init__()
        kinds = [part.kind for _, part in spec.parts]
        if sorted(kinds) not in (["image", "text"], ["image", "words"]) or outputs % 2:
            found = " and ".join(kinds) or spec.kind
            raise PotstillError(f"network towers takes pairs of a picture and a text, but these inputs are {found}")
        parts = {part.kind: (name, part) for name, part in spec.parts}
        self.image, picture = parts["image"]
        self.text, texts = parts["words"] if "words" in parts else parts["text"]
        c, h, w = picture.shape
        self.picture_first = kinds[0] == "image"
        self.pictures = ConvNet((c, h, w), 1, depth=default_depth(min(h, w)), width=width)
        self.words: _Words | None = _Words(texts.levels[0], _WORD) if "words" in parts else None
        self.vectors: _Vectors | None = None if "words" in parts else _Vectors(texts.shape[0], _WORD)
        with torch.device("meta"):
            features = ConvNet((c, h, w), 1, depth=default_depth(min(h, w)), width=width).classifier
        assert isinstance(features, nn.Linear)
        of_picture = features.in_features
        self.pictures.classifier = nn.Identity()
        self.classifier = _Heads((of_picture, _WORD) if self.picture_first else (_WORD, of_picture), outputs)

    def embed(self, x: dict[str, Tensor]) -> Tensor:
        a = self.pictures.embed(x[self.image])
        if self.vectors is not None:
            b = self.vectors(x[self.text])
        else:
            assert self.words is not None
            b = self.words(x[self.text + VALUES], x[self.text + OFFSETS])
        return torch.cat([a, b] if self.picture_first else [b, a], 1)

    @property
    def feature_widths(self) -> tuple[int, int]:
        """Numbers of features of the first and of the second view."""
        heads = self.classifier
        assert isinstance(heads, _Heads)
        return heads.widths

    @property
    def towers(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the parameters of the first and of the second view's encoder."""
        head = ("classifier.first.", "classifier.second.")
        of_picture = ("pictures.", head[0] if self.picture_first else head[1])
        names = [n for n, _ in self.named_parameters()]
        picture = tuple(n for n in names if n.startswith(of_picture))
        text = tuple(n for n in names if not n.startswith(of_picture))
        return (picture, text) if self.picture_first else (text, picture)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.classifier(self.embed(x))
        return out
