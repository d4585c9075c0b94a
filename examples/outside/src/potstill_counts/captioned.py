"""A network for pictures with texts: inputs of several tensors by name, of which the words are ragged."""

from typing import Any

import torch
from torch import Tensor, nn

from potstill.core.nested import padded


class Captioned(nn.Module):
    """``spec`` is the `potstill.core.InputSpec`, whose parts are a picture and words; ``classes`` the width of both."""

    def __init__(self, spec: Any, classes: int) -> None:
        super().__init__()
        kinds = {part.kind: (name, part) for name, part in spec.parts}
        (self.image, picture), (self.text, words) = kinds["image"], kinds["words"]
        self.see = nn.Sequential(nn.Conv2d(picture.shape[0], 8, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(4))
        self.read = nn.Embedding(words.levels[0], 16)
        self.of_picture = nn.Linear(8 * 16, classes // 2)
        self.of_text = nn.Linear(16, classes // 2)

    def embed(self, x: dict[str, Tensor]) -> Tensor:
        """Return the features of the picture beside those of the text (n, 144)."""
        words, mask = padded(x, self.text)
        mean = (self.read(words) * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        return torch.cat([self.see(x[self.image]).flatten(1), mean], 1)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Return both embeddings side by side (n, classes)."""
        picture, text = torch.split(self.embed(x), [8 * 16, 16], 1)
        return torch.cat([self.of_picture(picture), self.of_text(text)], 1)
