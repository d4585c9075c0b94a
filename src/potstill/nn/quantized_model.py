"""Small quantised networks: their architecture in five bytes, their training layers, and their stored form.

Weights are whole multiples of one step for each output channel. With b bits the codes go from −L to L, where
L = 2^(b − 1) − 1: three, seven, fifteen or 255 levels. Batch norms are folded into a gain and a shift for each channel,
which are stored in 8 bits within a range for each layer: the gain by its logarithm.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn

from potstill.codecs import compress_encoded, decode, encoded_bytes
from potstill.codecs.exact import encode_ints
from potstill.core import Encoded
from potstill.errors import PotstillError

__all__ = ["Family", "ModelSpec", "PackedModel", "QuantizedLayer", "QuantizedNetwork", "pack_network", "unpack_network"]

Family: TypeAlias = Literal["linear", "mlp", "mlp-2", "separable", "conv", "pyramid"]
"""A linear layer; one or two hidden layers; a ConvNet of three strided convolutions: depthwise-separable, dense, or
dense with twice the channels from each to the next."""
_FAMILIES = get_args(Family)
_HEADER = struct.Struct("<BBHB")
_BITS = (2, 3, 4, 8)
_GRIDS = {"separable": 2, "conv": 4, "pyramid": 4}
"""Side of the grid to which a ConvNet's last features are averaged."""
_CODES = 255
"""Largest code of a gain or a shift."""
_TINY = 1e-6
"""Lower clamp of a step and of a gain."""
_CLIPS = torch.linspace(0.3, 1.0, 15)
"""Parts of a channel's largest weight that are tried as the end of its range."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Architecture of a small network, apart from the shapes of inputs and outputs."""

    family: Family
    bits: int
    """Bits of a weight: 2, 3, 4 or 8."""
    width: int = 0
    """Hidden units, or channels of the first convolution; 0 for ``linear``."""
    side: int = 0
    """Side to which pictures are averaged first; 0: as they are."""

    def to_bytes(self) -> bytes:
        """Return the stored description."""
        return _HEADER.pack(_FAMILIES.index(self.family), self.bits, self.width, self.side)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ModelSpec":
        """Return the architecture of a stored description.

        Raises:
            PotstillError: it is none.
        """
        if len(data) != _HEADER.size or data[0] >= len(_FAMILIES) or data[1] not in _BITS:
            raise PotstillError(
                f"a network's description must be {_HEADER.size} bytes with a known family and 2, 3, 4 or 8 bits, not "
                f"{data[:8].hex()}; write it again"
            )
        family, bits, width, side = _HEADER.unpack(data)
        return cls(family=_FAMILIES[family], bits=bits, width=width, side=side)

    def __str__(self) -> str:
        """``separable network of width 12, 4 bits``."""
        kinds = {
            "linear": "linear model", "mlp": "MLP", "mlp-2": "MLP of two hidden layers",
            "separable": "separable ConvNet", "conv": "ConvNet", "pyramid": "widening ConvNet",
        }  # fmt: skip
        size = [f"width {self.width}"] if self.width else []
        size += [f"{self.side}×{self.side} pixels"] if self.side else []
        return ", ".join([kinds[self.family], *size, f"{self.bits} bits a weight"])


class QuantizedLayer(nn.Module):
    """A convolution or a linear layer with one step for each output channel, and a norm or a bias.

    Args:
        shape: of the weight (out, in) or (out, in / groups, k, k).
        bits: of a weight.
        norm: a batch norm follows, and a relu; else a bias.
        stride, groups: of a convolution, which is padded by half of its kernel.
    """

    def __init__(self, shape: tuple[int, ...], bits: int, *, norm: bool, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.weight, self.step = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.ones(shape[0]))
        self.levels, self.stride, self.groups, self.relu = (1 << (bits - 1)) - 1, stride, groups, norm
        self.norm: nn.Module | None = None
        self.bias: nn.Parameter | None = None
        if norm:
            self.norm = nn.BatchNorm1d(shape[0]) if len(shape) == 2 else nn.BatchNorm2d(shape[0])
        else:
            self.bias = nn.Parameter(torch.zeros(shape[0]))
        self.is_quantizing = False

    def initialise(self, rng: Generator) -> None:
        """Draw the weights."""
        with torch.no_grad():
            drawn = torch.randn(self.weight.shape, generator=rng) * (2 / self.weight[0].numel()) ** 0.5
            self.weight.copy_(drawn)

    def start_quantizing(self) -> None:
        """Fit each channel's step to its weights by squared error; from here on the layer computes with codes."""
        with torch.no_grad():
            rows = self.weight.flatten(1)
            steps = rows.abs().amax(1).clamp_min(_TINY) * _CLIPS.to(rows)[:, None] / self.levels
            read = steps[..., None] * (rows / steps[..., None]).round().clamp(-self.levels, self.levels)
            best = (read - rows).square().sum(2).argmin(0)
            self.step.copy_(steps.gather(0, best[None])[0])
        self.is_quantizing = True

    def codes(self) -> Int64[Tensor, "..."]:
        """Return the weights' codes, −L … L."""
        return (self.weight / self._steps()).round().clamp(-self.levels, self.levels).long()

    def _steps(self) -> Tensor:
        return self.step.abs().clamp_min(_TINY).reshape(-1, *[1] * (self.weight.ndim - 1))

    def _used_weight(self) -> Tensor:
        """Return the weights, rounded straight-through where the layer quantises; steps get LSQ's gradient."""
        if not self.is_quantizing:
            return self.weight
        steps = self._steps()
        v = (self.weight / steps).clamp(-self.levels, self.levels)
        return steps * (v + (v.round() - v).detach())

    def forward(self, x: Tensor) -> Tensor:
        w = self._used_weight()
        if w.ndim == 2:
            y = F.linear(x, w, self.bias)
        else:
            y = F.conv2d(x, w, self.bias, self.stride, w.shape[-1] // 2, groups=self.groups)
        y = y if self.norm is None else self.norm(y)
        return y.relu() if self.relu else y

    def folded(self) -> tuple[Int64[Tensor, "..."], Float[Tensor, " c"], Float[Tensor, " c"]]:
        """Return codes, and the gain (> 0) and shift of each channel: the layer is ``gain · codes ∗ x + shift``."""
        with torch.no_grad():
            codes, gain = self.codes(), self.step.abs().clamp_min(_TINY)
            if isinstance(self.norm, nn.BatchNorm1d | nn.BatchNorm2d):
                mean, var = self.norm.running_mean, self.norm.running_var
                assert mean is not None
                assert var is not None
                slope = self.norm.weight / (var + self.norm.eps).sqrt()
                shift = self.norm.bias - mean * slope
                sign = torch.where(slope < 0, -1, 1)
                codes = codes * sign.reshape(-1, *[1] * (codes.ndim - 1))
                return codes, (gain * slope.abs()).clamp_min(_TINY), shift
            assert self.bias is not None
            return codes, gain, self.bias.detach()

    def load_folded(self, codes: Tensor, gain: Tensor, shift: Tensor) -> None:
        """Become the layer that `folded` returned, without a norm."""
        with torch.no_grad():
            self.weight.copy_(codes * gain.reshape(-1, *[1] * (codes.ndim - 1)))
        self.norm, self.bias, self.is_quantizing = None, nn.Parameter(shift.clone()), False


class QuantizedNetwork(nn.Module):
    """The network of a `ModelSpec`.

    Args:
        spec: the architecture.
        shape: of an input.
        outputs: width of the output.
    """

    def __init__(self, spec: ModelSpec, shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        bits, w = spec.bits, spec.width
        self.spec, self.side = spec, spec.side
        if spec.side:
            shape = (*shape[:-2], spec.side, spec.side)
        d = math.prod(shape)
        layers: list[nn.Module]
        if spec.family in _GRIDS:
            strided = min(shape[1:]) >= 16
            widths = (w, 2 * w, 4 * w) if spec.family == "pyramid" else (w, w, w)
            widths = (w, 2 * w, 2 * w) if spec.family == "separable" else widths
            last = -(-min(shape[1:]) // (8 if strided else 4))
            grid = min(_GRIDS[spec.family], last)
            layers = [QuantizedLayer((w, shape[0], 3, 3), bits, norm=True, stride=2 if strided else 1)]
            for c_in, c_out in pairwise(widths):
                layers += _block(c_in, c_out, bits, spec.family == "separable")
            features = widths[-1] * grid * grid
            layers += [nn.AdaptiveAvgPool2d(grid), nn.Flatten(), QuantizedLayer((outputs, features), bits, norm=False)]
        else:
            hidden = [w] * {"linear": 0, "mlp": 1, "mlp-2": 2}[spec.family]
            sizes = [d, *hidden]
            layers = [nn.Flatten()]
            layers += [QuantizedLayer((b, a), bits, norm=True) for a, b in zip(sizes, hidden, strict=False)]
            layers += [QuantizedLayer((outputs, sizes[-1]), bits, norm=False)]
        self.layers = nn.Sequential(*layers)

    @property
    def quantized_layers(self) -> list[QuantizedLayer]:
        return [layer for layer in self.layers if isinstance(layer, QuantizedLayer)]

    def initialise(self, rng: Generator) -> None:
        """Draw all weights."""
        for layer in self.quantized_layers:
            layer.initialise(rng)

    def start_quantizing(self) -> None:
        """Compute with codes from here on."""
        for layer in self.quantized_layers:
            layer.start_quantizing()

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, self.side) if self.side else x
        x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x  # the faster kernels
        y: Tensor = self.layers(x)
        return y


def _block(c_in: int, c_out: int, bits: int, separable: bool) -> list[nn.Module]:
    """Return layers that halve the side."""
    if not separable:
        return [QuantizedLayer((c_out, c_in, 3, 3), bits, norm=True, stride=2)]
    return [
        QuantizedLayer((c_in, 1, 3, 3), bits, norm=True, stride=2, groups=c_in),
        QuantizedLayer((c_out, c_in, 1, 1), bits, norm=True),
    ]


@dataclass(frozen=True, kw_only=True)
class PackedModel:
    """A network as it is stored."""

    description: bytes
    """`ModelSpec.to_bytes`."""
    ranges: Encoded
    """Lowest value and step of the gains' logarithms and of the shifts of each layer (layers, 4), float16."""
    channels: Encoded
    """Codes of gains and shifts of all layers, 8 bits."""
    weights: Encoded
    """Codes of all weights, plus L."""

    @property
    def bytes(self) -> int:
        """Stored bytes, entropy-coded."""
        parts = (self.ranges, self.channels, self.weights)
        return len(self.description) + sum(encoded_bytes(compress_encoded(part)) for part in parts)

    def to_dict(self) -> Mapping[str, Any]:
        """Return the bytes of each part."""
        named = {"scales": self.channels, "ranges": self.ranges, "weights": self.weights}
        return {
            "description": len(self.description),
            **{n: encoded_bytes(compress_encoded(t)) for n, t in named.items()},
        }


def pack_network(network: QuantizedNetwork) -> PackedModel:
    """Encode a trained network."""
    ranges, channels, weights = [], [], []
    for layer in network.quantized_layers:
        codes, gain, shift = layer.folded()
        weights.append(codes.flatten().cpu() + layer.levels)
        for values in (gain.log2(), shift):
            values = values.detach().cpu().double()
            low = values.min().half().double()
            step = ((values.max() - low).clamp_min(0) / _CODES).half().double()
            step = step if step > 0 else torch.ones_like(step)
            ranges += [low, step]
            channels.append(((values - low) / step).round().clamp(0, _CODES).long())
    return PackedModel(
        description=network.spec.to_bytes(), channels=encode_ints(torch.cat(channels)),
        weights=encode_ints(torch.cat(weights)),
        ranges=Encoded({"": torch.stack(ranges).half()}, {"codec": "float", "shape": [len(ranges)], "bits": 16}),
    )  # fmt: skip


def unpack_network(packed: PackedModel, shape: tuple[int, ...], outputs: int) -> QuantizedNetwork:
    """Return the network of a stored form, ready to predict, on the CPU.

    Raises:
        PotstillError: the parts do not fit each other.
    """
    spec = ModelSpec.from_bytes(packed.description)
    with torch.device("meta"):  # a description of a few bytes may be of a network that no memory holds
        layers = QuantizedNetwork(spec, shape, outputs).quantized_layers
    ranges, channels, weights = (decode(part) for part in (packed.ranges, packed.channels, packed.weights))
    expected = [4 * len(layers), 2 * sum(len(t.weight) for t in layers), sum(t.weight.numel() for t in layers)]
    if [ranges.numel(), channels.numel(), weights.numel()] != expected:
        raise PotstillError(
            f"a network of this description needs {expected[2]:,} weights and {expected[1]:,} scales, but there are "
            f"{weights.numel():,} and {channels.numel():,}; write it again"
        )
    network = QuantizedNetwork(spec, shape, outputs)
    at_channel = at_weight = 0
    for n, layer in enumerate(network.quantized_layers):
        count, size = len(layer.weight), layer.weight.numel()
        low_gain, step_gain, low_shift, step_shift = ranges[4 * n : 4 * n + 4].float()
        gains, shifts = channels[at_channel : at_channel + 2 * count].float().reshape(2, count)
        codes = weights[at_weight : at_weight + size].reshape(layer.weight.shape).float() - layer.levels
        layer.load_folded(codes, torch.exp2(low_gain + step_gain * gains), low_shift + step_shift * shifts)
        at_channel, at_weight = at_channel + 2 * count, at_weight + size
    return network.eval()
