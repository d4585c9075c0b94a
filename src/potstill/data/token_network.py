"""Word vectors learned by a small network without labels, and the cache of them.

For the words p of a text, a set K drawn from p (each word with probability 1/2), word vectors E, weights idf and a last
layer W, b: x = Σ_{w in K} idf_w E_w, h = x / |x|, and the loss is the cross entropy of softmax(10 W h + b) with the
uniform distribution over p. h, the vector before the last layer, is that of the text; of new texts K is all words.
Ours, after fastText (arXiv:1607.01759), which learns labels. Labels are not read here: the encoder is not charged to a
set, and one that had learned them would hold what the set is measured by.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from potstill._util.atomic_write import temporary_path
from potstill._util.cache import make_cache_folder
from potstill._util.cache_dir import cache_dir
from potstill._util.progress import Callback
from potstill.errors import PotstillError
from potstill.rng import generator

__all__ = ["MOST_WORK", "TokenNetwork", "is_intact", "token_loss"]

MOST_WORK = 1 << 33
"""Products words · numbers · updates of a training, at most: about ten minutes of one core, 32 times the default."""
SHARPNESS = 10.0
"""Factor of the last layer's outputs, as h has length 1."""
_VERSION = 1
_REPORT = 50


def token_loss(
    vectors: Float[Tensor, "v d"], layer: Float[Tensor, "v d"], bias: Float[Tensor, " v"], idf: Float[Tensor, " v"],
    words: Bool[Tensor, "b v"], input_words: Bool[Tensor, "b v"],
) -> Float[Tensor, ""]:  # fmt: skip
    """Return the cross entropy of a text's words, predicted from those of them that are inputs.

    Args:
        vectors: of words.
        layer: weights of the last layer.
        bias: of the last layer.
        idf: weights of words.
        words: of each text.
        input_words: those of them that the network sees.
    """
    hidden = F.normalize((input_words * idf) @ vectors, dim=1)
    targets = words.to(vectors.dtype) / words.sum(1, keepdim=True)
    return F.cross_entropy(SHARPNESS * hidden @ layer.T + bias, targets)


@dataclass(frozen=True, kw_only=True)
class TokenNetwork:
    """Settings of the training."""

    size: int
    """Numbers of a vector."""
    updates: int
    batch: int = 128
    """Texts of an update. Ours."""
    lr: float = 1e-2
    """Learning rate of Adam, which falls to zero along a line. Ours."""

    def fit(
        self, counts: Any, idf: Float32[Tensor, " v"], progress: Callback | None = None
    ) -> Float32[Tensor, "v d"]:  # fmt: skip
        """Return word vectors, from the cache if these counts were learned before.

        Args:
            counts: sparse matrix (texts, words) of counts.
            idf: weights of words.
            progress: callback ``progress("word vectors", done, total)``.

        Raises:
            PotstillError: the training would take longer than `MOST_WORK` allows.
        """
        words = counts.shape[1]
        if (work := words * self.size * self.updates) > MOST_WORK:
            raise PotstillError(
                f"representation tokens: {words:,} words in {self.size:,} numbers for {self.updates:,} updates are "
                f"{work / MOST_WORK:.1f} times the work that is done at most (about ten minutes); lower one of them"
            )
        counts = counts.tocsr()
        counts.sort_indices()
        path = self._path(counts, idf)
        shape = (words, self.size)
        if (found := _read(path, shape)) is None:
            found = self._train(counts, idf, progress)
            _write(path, found)
        return found

    def _train(self, counts: Any, idf: Float32[Tensor, " v"], progress: Callback | None) -> Float32[Tensor, "v d"]:
        rng, words = generator(0, "tokens"), counts.shape[1]
        starts = torch.from_numpy(counts.indptr.astype(np.int64))
        columns = torch.from_numpy(counts.indices.astype(np.int64))
        with_words = torch.where(starts.diff() > 0)[0]
        frequency = (torch.bincount(columns, minlength=words).float() + 1).log()
        vectors, layer = (0.1 * torch.randn(2, words, self.size, generator=rng)).unbind()
        params = (vectors.clone(), layer.clone(), frequency - frequency.mean())
        optimizer = torch.optim.Adam([p.requires_grad_() for p in params], lr=self.lr)
        for update in range(self.updates):
            at = with_words[torch.randint(len(with_words), (self.batch,), generator=rng)]
            present, input_words = _draw(starts, columns, at, words, rng)
            for group in optimizer.param_groups:
                group["lr"] = self.lr * (1 - update / self.updates)
            optimizer.zero_grad()
            token_loss(*params, idf, present, input_words).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if progress is not None and ((update + 1) % _REPORT == 0 or update + 1 == self.updates):
                progress("word vectors", update + 1, self.updates)
        return params[0].detach()

    def _path(self, counts: Any, idf: Float32[Tensor, " v"]) -> Path:
        settings = [_VERSION, self.size, self.updates, self.batch, self.lr, counts.shape, torch.__version__]
        digest = hashlib.sha256(repr(settings).encode())
        for array in (counts.indptr.astype(np.int64), counts.indices.astype(np.int64), idf.numpy()):
            digest.update(array.tobytes())
        return cache_dir() / "encoders" / f"{digest.hexdigest()}.safetensors"


def _draw(
    starts: Int[Tensor, " n1"], columns: Int[Tensor, " nnz"], at: Int[Tensor, " b"], words: int, rng: torch.Generator
) -> tuple[Bool[Tensor, "b v"], Bool[Tensor, "b v"]]:
    """Return the words of some texts, and those of them that are inputs."""
    lengths = starts[at + 1] - starts[at]
    row = torch.repeat_interleave(torch.arange(len(at)), lengths)
    within = torch.arange(len(row)) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    column = columns[starts[at][row] + within]
    present, input_words = torch.zeros(2, len(at), words, dtype=torch.bool)
    present[row, column] = True
    input_words[row, column] = torch.rand(len(row), generator=rng) < 0.5
    return present, input_words


def is_intact(path: Path) -> bool:
    """Return True if a file of word vectors in the cache is whole."""
    return _read(path) is not None


def _read(path: Path, shape: Sequence[int] | None = None) -> Float32[Tensor, "v d"] | None:
    with suppress(SafetensorError, OSError, ValueError, KeyError):
        with safe_open(path, framework="pt") as opened:
            vectors: Tensor = opened.get_tensor("vectors")
            digest = (opened.metadata() or {})["word vectors"]
        is_fit = vectors.ndim == 2 and (shape is None or tuple(vectors.shape) == tuple(shape))
        if vectors.dtype == torch.float32 and is_fit and digest == _digest(vectors):
            return vectors
    return None


def _write(path: Path, vectors: Float32[Tensor, "v d"]) -> None:
    """Write vectors to the cache. Failures (a full disk) are ignored: they are in memory."""
    part = temporary_path(path)
    with suppress(OSError, SafetensorError):
        make_cache_folder(path.parent)
        save_file({"vectors": vectors.contiguous()}, part, metadata={"word vectors": _digest(vectors)})
        os.replace(part, path)
    with suppress(OSError):
        part.unlink()


def _digest(vectors: Float32[Tensor, "v d"]) -> str:
    return hashlib.sha256(vectors.contiguous().numpy().tobytes()).hexdigest()
