"""Pieces of texts for a small language model: frequent words with the blank before them, and single bytes."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["END", "PAD", "SEPARATOR", "Encoded", "Vocabulary"]

PAD, END, SEPARATOR = 0, 1, 2
_BYTES = 3
"""Number of the first byte."""
_PIECES = re.compile(r" ?[^\W\d_]+| ?\d+|\s+|[^\w\s]|_")
_TWICE = 2


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Pairs as numbers of pieces, padded behind their ends."""

    inputs: Int[Tensor, "n t"]
    targets: Int[Tensor, "n t"]
    """Piece that follows each, or −1 where it is not learned: in prompts and behind the end."""
    widths: Float[Tensor, "n t"]
    """Bytes of the text that each target has."""

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, at: Int[Tensor, " m"]) -> "Encoded":
        """Return some pairs, no longer than the longest of them."""
        longest = max(1, int((self.inputs[at] != PAD).sum(1).max()))
        inputs, targets, widths = (part[at, :longest] for part in (self.inputs, self.targets, self.widths))
        return Encoded(inputs=inputs, targets=targets, widths=widths)


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Pieces by number: a pad, an end, a separator, the 256 bytes, then words. Every text can be written."""

    words: tuple[str, ...]

    @classmethod
    def fit(cls, texts: Iterable[str], size: int) -> "Vocabulary":
        """Return the vocabulary of the most frequent pieces.

        Args:
            texts: a text each.
            size: pieces beside the bytes, at most.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(piece for piece in _PIECES.findall(text) if len(piece.encode()) > 1)
        often = [piece for piece, n in counts.items() if n >= _TWICE]
        often.sort(key=lambda piece: (-counts[piece], piece))
        return cls(words=tuple(often[:size]))

    def __len__(self) -> int:
        return _BYTES + 256 + len(self.words)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {piece: _BYTES + 256 + n for n, piece in enumerate(self.words)}

    def _width(self, number: int) -> int:
        first = _BYTES + 256
        return 0 if number < _BYTES else 1 if number < first else len(self.words[number - first].encode())

    def encode(self, text: str) -> list[int]:
        """Return the pieces of a text by number."""
        numbers: list[int] = []
        at = 0
        for match in _PIECES.finditer(text):
            numbers += self._spell(text[at : match.start()])
            number = self._numbers.get(match[0])
            numbers += self._spell(match[0]) if number is None else [number]
            at = match.end()
        return numbers + self._spell(text[at:])

    def _spell(self, text: str) -> list[int]:
        return [_BYTES + byte for byte in text.encode("utf-8", "surrogatepass")]

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text of pieces; pads, ends and separators are left out."""
        first = _BYTES + 256
        parts = [
            bytes([n - _BYTES]) if n < first else self.words[n - first].encode("utf-8", "surrogatepass")
            for n in numbers
            if n >= _BYTES
        ]
        return b"".join(parts).decode("utf-8", "replace")

    def encode_pairs(
        self, prompts: Sequence[str], responses: Sequence[str], length: int, *, learn_prompts: bool = False
    ) -> Encoded:
        """Return prompts with their responses: ``prompt SEPARATOR response END``.

        A prompt keeps its last pieces, at most half of the length; a response its first ones.

        Args:
            prompts, responses: as many each; a prompt may be empty.
            length: pieces of a pair, at most.
            learn_prompts: prompts are learned, too.
        """
        rows = []
        for prompt, response in zip(prompts, responses, strict=True):
            before = [*self.encode(prompt)[-(length // 2) :], SEPARATOR]
            after = [*self.encode(response), END][: length + 1 - len(before)]
            rows.append((before, after))
        longest = max((len(a) + len(b) - 1 for a, b in rows), default=1)
        inputs = torch.full((len(rows), longest), PAD)
        targets, widths = torch.full((len(rows), longest), -1), torch.zeros(len(rows), longest)
        for n, (before, after) in enumerate(rows):
            whole = before + after
            inputs[n, : len(whole) - 1] = torch.tensor(whole[:-1])
            begin = 0 if learn_prompts else len(before) - 1
            targets[n, begin : len(whole) - 1] = torch.tensor(whole[begin + 1 :])
            widths[n, begin : len(whole) - 1] = torch.tensor([float(self._width(p)) for p in whole[begin + 1 :]])
        return Encoded(inputs=inputs, targets=targets, widths=widths)
