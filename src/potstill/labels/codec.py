"""Codec of soft labels: how a row of logits is stored in few bytes, and what comes back.

**Stored.** Of a teacher's logits z over K classes the log-probabilities ``a_c = z_c − log Σ_j exp z_j``, in 16 or 8
bits each. A softmax at any temperature is the same for a as for z, and where the probability is, a is near 0, where
16-bit floats are finest: the error of ``p = exp a`` is at most ``p · |a| · 2**-11 ≤ 1.8e-4``, whatever the logits'
size. Of k < K classes the k largest are kept, in label order and with their indices, and one more number b, which each
of the other R = K − k classes gets:

    b = T₀ · (log Σ_{c not kept} exp(a_c / T₀) − log R)

It is needed: ``1 − Σ p`` of the kept ones, which are rounded, says little about the logarithm of a small rest, and at
temperature 20 that logarithm is what counts.

**Decoded.** ``softmax(ã / T)`` with ã = a on the kept classes and b on all others.

* At T = T₀ the kept classes get exactly the teacher's probabilities, and each other one, exactly, its mean over them:
  of all rows with those kept values it is the one of most entropy.
* At any T, ratios among kept classes are exact. What is approximate is the mass of the rest: with T > T₀ it is at least
  the teacher's and with T < T₀ at most, by Jensen's inequality. So write with the temperature that students train with.
* All of it up to rounding. With k = K nothing else is lost, and no index is stored.

**8 and 4 bits**: ``a ≈ top − step · q``, q in 0…255 or 0…15, with ``top`` and ``step`` as 16-bit floats for each row,
so each ã is off by at most about step / 2: a 510th or a 30th of the row's range. Two codes of 4 bits share a byte, the
first in its low half.

**Indices** are increasing, so they are stored in about ``log2(K / k) + 2`` bits each
(`potstill.labels.delta_coding`): 10 of 1,000 in 11 bytes.

**Level**: the log-sum-exp of z, one more 16-bit float, from which the logits come back; MSE and GIFT need them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from potstill.errors import PotstillError, unknown_name
from potstill.labels.delta_coding import increasing_bytes, pack_increasing, unpack_increasing

__all__ = ["CodedRows", "LabelCodec"]

CodedRows: TypeAlias = dict[str, NDArray[Any]]
"""Fields of rows by name: ``values``, and where there is one ``index``, ``scale``, ``level``."""

_LEAST = -60_000.0
_BITS = {"float16": 16, "uint8": 8, "uint4": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCodec:
    """Settings of how label rows are stored.

    Attributes:
        classes: K, at least 2.
        top_k: k, in 1…K.
        dtype: "float16", or "uint8" for 8 bits, "uint4" for 4.
        temperature: T₀, above 0.
        level: keep the log-sum-exp.

    Raises:
        PotstillError: one of them is out of its range.
    """

    classes: int
    top_k: int
    dtype: str = "float16"
    temperature: float = 1.0
    level: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.classes < 2**31:
            raise PotstillError(f"labels need at least 2 classes, but there are {self.classes}; name more")
        if not 1 <= self.top_k <= self.classes:
            raise PotstillError(f"top_k must be in 1…{self.classes} (the classes), but it is {self.top_k}; change it")
        if self.dtype not in _BITS:
            raise unknown_name("type of labels", self.dtype, tuple(_BITS))
        if not 0 < self.temperature < float("inf"):
            raise PotstillError(f"a temperature must be above 0, but it is {self.temperature:g}; 20 is usual")

    def fields(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return each field's type (safetensors' name) and the shape of one row."""
        partial = self.top_k < self.classes
        numbers = self.top_k + partial
        fields: dict[str, tuple[str, tuple[int, ...]]] = {
            "values": ("F16", (numbers,)) if self.dtype == "float16" else ("U8", (-(-numbers * self._bits // 8),))
        }
        if partial:
            fields["index"] = ("U8", (increasing_bytes(self.top_k, self.classes),))
        if self.dtype != "float16":
            fields["scale"] = ("F16", (2,))
        if self.level:
            fields["level"] = ("F16", ())
        return fields

    @property
    def _bits(self) -> int:
        return _BITS[self.dtype]

    def encode(self, logits: Float[Tensor, "m k"]) -> CodedRows:
        """Encode rows of finite logits, on any device, as the stored fields.

        Raises:
            PotstillError: a level is beyond what 16 bits hold.
        """
        z = logits.detach().double()
        total = z.logsumexp(1)
        a = z - total[:, None]
        rows: CodedRows = {}
        if self.top_k < self.classes:
            kept = _largest(a, self.top_k)
            rest = a.masked_fill(kept, -torch.inf) / self.temperature
            even = self.temperature * (rest.logsumexp(1) - math.log(self.classes - self.top_k))
            order = kept.nonzero()[:, 1].reshape(-1, self.top_k)
            a = torch.cat([a.gather(1, order), even[:, None]], 1)
            rows["index"] = pack_increasing(order.cpu().numpy(), self.classes)
        values = a.clamp_min(_LEAST).cpu().numpy()
        if self.dtype == "float16":
            rows["values"] = values.astype(np.float16)
        else:
            rows |= _quantize(values, self._bits)
        if self.level:
            if float(total.abs().max()) > -_LEAST:
                raise PotstillError(
                    f"logits must be within ±60,000 to be stored with their level, but one row is at "
                    f"{float(total.abs().max()):,.0f}; store without level"
                )
            rows["level"] = total.cpu().numpy().astype(np.float16)
        return rows

    def decode(self, stored: Mapping[str, NDArray[Any]]) -> Float[Tensor, "m k"]:
        """Decode ã of all classes, in label order, as float32.

        Raises:
            PotstillError: an index names no class, or a value is not finite: the file is damaged.
        """
        values = self._stored_values(stored)
        if self.top_k < self.classes:
            index = torch.from_numpy(unpack_increasing(stored["index"], self.top_k, self.classes))
            values = values[:, -1:].repeat(1, self.classes).scatter_(1, index, values[:, :-1])
        if not bool(torch.isfinite(values).all()):
            raise PotstillError("a label is not finite; get the file again")
        return values

    def _stored_values(self, stored: Mapping[str, NDArray[Any]]) -> Float[Tensor, "m n"]:
        """Return the stored numbers: of the kept classes in label order and, unless all are kept, of each other one."""
        values = stored["values"]
        if self.dtype == "uint4":
            count = self.top_k + (self.top_k < self.classes)
            values = np.stack([values & 15, values >> 4], 2).reshape(len(values), -1)[:, :count]
        numbers = torch.from_numpy(values.astype(np.float32))
        if self.dtype != "float16":
            top, step = torch.from_numpy(stored["scale"].astype(np.float32)).unbind(1)
            numbers = top[:, None] - step[:, None] * numbers
        return numbers

    def kept_mass(self, stored: Mapping[str, NDArray[Any]], temperature: float) -> Float[Tensor, " m"]:
        """Return the total probability of each row's kept classes at ``temperature``."""
        values = self._stored_values(stored) / temperature
        if self.top_k == self.classes:
            return torch.ones(len(values))
        rest = values[:, -1:] + math.log(self.classes - self.top_k)
        return torch.cat([values[:, :-1], rest], 1).softmax(1)[:, :-1].sum(1)

    def rows(self, stored: Mapping[str, NDArray[Any]], temperature: float) -> Float[Tensor, "m k"]:
        """Return probabilities at ``temperature``: float32 rows that sum to 1."""
        if not 0 < temperature < float("inf"):
            raise PotstillError(f"a temperature must be above 0, but it is {temperature:g}; 1 leaves rows as they are")
        return (self.decode(stored) / temperature).softmax(1)

    def logits(self, stored: Mapping[str, NDArray[Any]]) -> Float[Tensor, "m k"]:
        """Return the teacher's logits, float32; classes that were not kept share one value.

        Raises:
            PotstillError: the level was not stored.
        """
        if not self.level:
            raise PotstillError(
                "logits come back from labels stored with their level, but these have none; write them with level=True"
            )
        return self.decode(stored) + torch.from_numpy(stored["level"].astype(np.float32))[:, None]

    def bytes_per_row(self) -> int:
        """Return the stored bytes of one label."""
        sizes = {"U8": 1, "F16": 2}
        return sum(sizes[kind] * int(np.prod(shape)) for kind, shape in self.fields().values())


def _largest(a: Float[Tensor, "m k"], top_k: int) -> Bool[Tensor, "m k"]:
    """Return a mask of the ``top_k`` largest of each row; of equals at the edge the first, on every machine."""
    edge = a.topk(top_k, dim=1).values[:, -1:]
    above, equal = a > edge, a == edge
    return above | (equal & (equal.cumsum(1) <= top_k - above.sum(1, keepdim=True)))


def _quantize(values: NDArray[np.float64], bits: int) -> CodedRows:
    most = 2**bits - 1
    top = values.max(1).astype(np.float16)
    span = np.maximum(top - values.min(1), 0.0)
    step = (span / most).astype(np.float16)
    step = np.where(step.astype(np.float64) * most < span, np.nextafter(step, np.float16(np.inf)), step)
    wide = step.astype(np.float64)[:, None]
    q = np.divide(top.astype(np.float64)[:, None] - values, wide, out=np.zeros_like(values), where=wide > 0)
    codes = np.rint(q).clip(0, most).astype(np.uint8)
    if bits == 4:
        codes = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
        codes = codes[:, ::2] | codes[:, 1::2] << 4
    return {"values": codes, "scale": np.stack([top, step], 1)}
