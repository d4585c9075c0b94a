"""Vision transformer (Dosovitskiy et al., arXiv:2010.11929) for small images; its size is ours."""

import math

import torch
from torch import Generator, Tensor, nn

from potstill.core import Network
from potstill.errors import PotstillError
from potstill.nn.init import initialise

__all__ = ["ViT"]


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        # Written out: the fused kernels of scaled_dot_product_attention cannot be differentiated twice.
        weights = (q @ k.transpose(-2, -1) / math.sqrt(d // self.heads)).softmax(-1)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).reshape(n, t, d))
        return mixed


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), _Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class _Positions(nn.Module):
    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(1, tokens, dim))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


class ViT(Network):
    """``depth`` layers of ``dim``, mean pooling; the patch is the largest of 16, 8, 4, 2 that leaves 16 tokens."""

    def __init__(
        self, shape: tuple[int, int, int], num_classes: int, *, dim: int = 192, depth: int = 6, heads: int = 3
    ) -> None:
        super().__init__()
        c, h, w = shape
        patch = next((p for p in (16, 8, 4, 2) if (h // p) * (w // p) >= 16), None)
        if patch is None:
            raise PotstillError(f"vit needs pictures of at least 8×8, but these are {h}×{w}; choose convnet or mlp")
        # What a patch does not cover is left out, as a strided convolution does.
        self.patch = nn.Conv2d(c, dim, patch, stride=patch)
        self.positions = _Positions((h // patch) * (w // patch), dim)
        self.layers = nn.Sequential(*(_Layer(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, num_classes)

    def initialise(self, rng: Generator) -> None:
        """Draw weights and positions from a truncated normal (std 0.02), the patch convolution as any; biases are 0."""
        initialise(self.patch, rng)
        nn.init.trunc_normal_(self.positions.table, std=0.02, generator=rng)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=rng)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def embed(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        features: Tensor = self.norm(self.layers(self.positions(tokens))).mean(1)
        return features

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits
