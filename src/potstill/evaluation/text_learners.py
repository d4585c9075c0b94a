"""Learners that read real texts: logistic regression on TF-IDF, and a small convolutional network."""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from potstill.augment.mix import label_rows
from potstill.core import Task
from potstill.data.text_encoder import TOKENS
from potstill.errors import PotstillError
from potstill.evaluation.estimators import Predictor
from potstill.evaluation.learners import training_rows
from potstill.rng import derive_seed, generator

__all__ = ["TextCnn", "Tfidf"]

_AT_ONCE = 512


class _ReadsTexts:
    """Common part of learners of texts."""

    name: ClassVar[str]

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        """Refuse vectors.

        Raises:
            PotstillError: always.
        """
        raise PotstillError(f"{self.name} learns from real texts, and not from their vectors; choose linear-model")


@dataclass(frozen=True, kw_only=True)
class Tfidf(_ReadsTexts):
    """scikit-learn's ``LogisticRegression`` on TF-IDF of words, whose vocabulary is that of the set's own texts."""

    name: ClassVar[str] = "tfidf"
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    draws: ClassVar[Any] = False
    strength: float = 10.0
    """``C`` of the regression: rows have length 1, for which scikit-learn's default of 1 is weak. Ours."""

    def fit_texts(
        self, texts: Sequence[str], y: Tensor, weights: Tensor | None, task: Task, seed: int
    ) -> Callable[[Sequence[str]], Tensor]:
        """Fit on real texts."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=TOKENS)
        try:
            rows = vectorizer.fit_transform(texts)
        except ValueError:
            raise PotstillError("tfidf needs words of two letters or more, and the set's texts have none") from None
        which, targets, counts = training_rows(torch.arange(len(texts))[:, None].float(), y, weights, True)
        model = LogisticRegression(C=self.strength, max_iter=1000)
        model.fit(rows[which[:, 0].astype(np.int64)], targets, sample_weight=counts)

        def predict(new_texts: Sequence[str]) -> Tensor:
            return torch.from_numpy(np.asarray(model.predict(vectorizer.transform(new_texts)))).long()

        return predict


class _Network(nn.Module):
    """Hashed words, one convolution of each width, the maximum over places, a linear layer."""

    def __init__(self, words: int, dim: int, outputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, dim, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, dim, width, padding=width // 2) for width in widths)
        self.head = nn.Linear(dim * len(widths), outputs)

    def forward(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n k"]:
        x = self.embedding(tokens).transpose(1, 2)
        pooled = [F.relu(layer(x)).amax(2) for layer in self.convolutions]
        out: Tensor = self.head(torch.cat(pooled, 1))
        return out


@dataclass(frozen=True, kw_only=True)
class TextCnn(_ReadsTexts):
    """A convolutional network over words (Kim, arXiv:1408.5882), trained from nothing; words are hashed.

    Raises:
        PotstillError: a setting out of its range.
    """

    name: ClassVar[str] = "text-cnn"
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    draws: ClassVar[Any] = True
    words: int = 8192
    """Cells that words are hashed to."""
    dim: int = 64
    """Numbers of a word, and filters of each width."""
    length: int = 128
    """Words of a text that are read, the first ones."""
    steps: int = 300
    """Updates."""
    lr: float = 2e-3
    """Learning rate of Adam."""
    batch: int = 64

    def __post_init__(self) -> None:
        for setting in ("words", "dim", "length", "steps", "batch"):
            if getattr(self, setting) < 2:
                raise PotstillError(f"{self.name}: {setting} must be at least 2, not {getattr(self, setting)}")

    def fit_texts(
        self, texts: Sequence[str], y: Tensor, weights: Tensor | None, task: Task, seed: int
    ) -> Callable[[Sequence[str]], Tensor]:
        """Train on real texts."""
        tokens, rows = self._tokens(texts), label_rows(y.detach().cpu(), task.outputs, torch.float32)
        share = torch.ones(len(rows)) if weights is None else weights.detach().cpu().float()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "text-cnn") % 2**63)
            network = _Network(self.words, self.dim, task.outputs, (1, 3, 5))
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        rng = generator(seed, "text-cnn", "batches")
        for _ in range(self.steps):
            at = torch.randint(len(rows), (min(self.batch, len(rows)),), generator=rng)
            some = tokens[at]
            some = some[:, : max(1, int((some > 0).sum(1).max()))]
            loss = -(F.log_softmax(network(some), 1) * rows[at]).sum(1)
            optimizer.zero_grad()
            (loss * share[at]).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        network.eval()

        def predict(new_texts: Sequence[str]) -> Tensor:
            with torch.no_grad():
                parts = [
                    network(self._tokens(new_texts[i : i + _AT_ONCE])).argmax(1)
                    for i in range(0, len(new_texts), _AT_ONCE)
                ]
            return torch.cat(parts)

        return predict

    def _tokens(self, texts: Sequence[str]) -> Int[Tensor, "n t"]:
        """Return word numbers from 1, and 0 behind the last word."""
        pattern = re.compile(TOKENS)
        rows = [
            [1 + zlib.crc32(word.encode()) % (self.words - 1) for word in pattern.findall(text.lower())[: self.length]]
            for text in texts
        ]
        longest = max(5, *map(len, rows)) if rows else 5
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int64)
