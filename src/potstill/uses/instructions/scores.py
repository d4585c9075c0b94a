"""Orders of a pool for a target: by gradients (LESS), by words (BM25, TF-IDF), by states of the model, at random.

Every function returns positions of the pool, the best first.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.data.text_encoder import TOKENS
from potstill.functional.target_influence import (
    SignProjection,
    adam_updates,
    flat_parameters,
    group_cosines,
    sample_gradients,
    scores_in_turn,
)
from potstill.rng import generator
from potstill.uses.instructions.language_models import LanguageModel, Snapshot, token_loss, train
from potstill.uses.instructions.settings import Settings
from potstill.uses.instructions.vocabulary import PAD, Encoded

__all__ = ["bm25", "bm25_scores", "less_scores", "match_lengths", "nearest_states", "tfidf"]

_CHUNK, _GRADIENTS = 64, 16
"""Pairs of a pass, and of one with a gradient each: small blocks of memory are used again."""
_K1, _B = 1.5, 0.75
"""Constants of BM25, as its usual programs have them."""


def _in_turn(values: Float[Tensor, "n m"]) -> Int[Tensor, " n"]:
    """Return an order in which target samples take their best in turn."""
    return scores_in_turn(values).argsort(descending=True, stable=True)


def _counts(texts: Sequence[str], queries: Sequence[str]) -> tuple[Any, Any]:
    """Return word counts of both, as sparse matrices over the words of the texts."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(token_pattern=TOKENS, vocabulary=sorted({w for t in texts for w in _words(t)}) or ["-"])
    return counter.transform(texts).astype(np.float64), counter.transform(queries).astype(np.float64)


def _words(text: str) -> list[str]:
    return re.findall(TOKENS, text.lower())


def bm25_scores(texts: Sequence[str], queries: Sequence[str]) -> Float[Tensor, "n m"]:
    r"""Return BM25 of each text for each query, whose words count once.

    .. math:: \sum_{w \in q} \ln\Big(1 + \frac{n - n_w + 1/2}{n_w + 1/2}\Big)
        \frac{f_w (k_1 + 1)}{f_w + k_1 (1 - b + b\, l / \bar l)}

    f counts a word in the text, l the words of the text, n texts, n_w those with the word; k₁ = 1.5, b = 0.75.
    """
    counts, asked = _counts(texts, queries)
    present = np.asarray((counts > 0).sum(0)).ravel()
    idf = np.log(1 + (counts.shape[0] - present + 0.5) / (present + 0.5))
    length = np.asarray(counts.sum(1)).ravel()
    norm = _K1 * (1 - _B + _B * length / max(length.mean(), 1e-12))
    weights = counts.tocsr()
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(weights.indptr))
    weights.data = weights.data * (_K1 + 1) / (weights.data + norm[rows]) * idf[weights.indices]
    return torch.from_numpy(np.asarray((weights @ (asked > 0).astype(np.float64).T).todense()))


def bm25(texts: Sequence[str], queries: Sequence[str]) -> Int[Tensor, " n"]:
    """Return the order of BM25; target samples take their best in turn."""
    return _in_turn(bm25_scores(texts, queries))


def tfidf(texts: Sequence[str], queries: Sequence[str]) -> Int[Tensor, " n"]:
    """Return the order of cosines of TF-IDF; target samples take their best in turn."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=TOKENS)
    try:
        rows = vectorizer.fit_transform(texts)
    except ValueError:  # no words at all
        return torch.arange(len(texts))
    cosines = np.asarray((rows @ vectorizer.transform(queries).T).todense())
    return _in_turn(torch.from_numpy(cosines))


def nearest_states(model: LanguageModel, pool: Encoded, target: Encoded) -> Int[Tensor, " n"]:
    """Return the order of cosines of mean states of the model; target samples take their best in turn."""

    def states(pairs: Encoded) -> Tensor:
        found = []
        with torch.no_grad():
            for at in torch.split(torch.arange(len(pairs)), _CHUNK):
                some = pairs.rows(at)
                here = (some.inputs != PAD)[:, :, None]
                found.append((model.states(some.inputs) * here).sum(1) / here.sum(1))
        return torch.cat(found)

    own, aim = states(pool), states(target)
    middle = own.mean(0)
    return _in_turn(F.normalize(own - middle, dim=1) @ F.normalize(aim - middle, dim=1).T)


def match_lengths(sizes: Sequence[int], selected: Int[Tensor, " m"], rng: Generator) -> Int[Tensor, " m"]:
    """Return random positions whose sizes are those of the selected ones, each of the nearest few that are free.

    Args:
        sizes: bytes of every sample.
        selected: positions whose sizes are matched.
        rng: draws.
    """
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    values = np.array([sizes[i] for i in order])
    taken, found = np.zeros(len(sizes), dtype=bool), []
    for i in selected[torch.randperm(len(selected), generator=rng)].tolist():
        at = int(np.searchsorted(values, sizes[i]))
        free = sorted(np.flatnonzero(~taken).tolist(), key=lambda k: abs(int(values[k]) - sizes[i]) * len(sizes)
                      + abs(k - at))[:20]  # fmt: skip
        k = free[int(torch.randint(len(free), (1,), generator=rng))]
        taken[k] = True
        found.append(order[k])
    return torch.tensor(found, dtype=torch.int64)


def less_scores(
    model: LanguageModel, pool: Encoded, target: Encoded, groups: Int[Tensor, " m"], settings: Settings, seed: int,
    progress: Callable[[str, int, int], object],
) -> Float[Tensor, " n"]:  # fmt: skip
    """Return the scores of LESS (arXiv:2402.04333, section 4), by all parameters of a small model.

    The sum over epochs of the warm-up of its mean learning rate times the mean cosine of a sample's projected direction
    of Adam with the projected gradients of a group of the target; the best group counts.

    Args:
        model: trained on plain texts; is changed.
        pool: samples to choose from.
        target: samples of the target.
        groups: number of each one's group, from 0.
        settings: of the warm-up.
        seed: of every draw.
        progress: callback of what is done and of its numbers.
    """
    rng = generator(seed, "instructions", "warm-up")
    part = torch.randperm(len(pool), generator=rng)[: max(1, round(settings.warm_up * len(pool)))]
    every = -(-len(part) // settings.batch)
    shots = train(
        model, pool.rows(part), every * settings.epochs, settings, rng, every=every,
        progress=lambda done, total: progress("warm-up", done, total),
    )  # fmt: skip
    total = torch.zeros(len(pool), int(groups.max()) + 1)
    for number, shot in enumerate(shots):
        count = sum(p.numel() for p in shot.params.values())
        project = SignProjection.draw(count, settings.projection, generator(seed, "instructions", "projection", number))
        aim = _project(model, target, shot, project, False, lambda *_: None)
        step = number * len(pool)
        rows = _project(
            model, pool, shot, project, True,
            lambda done, step=step: progress("gradients", step + done, len(shots) * len(pool)),  # type: ignore[misc]
        )  # fmt: skip
        total += shot.rate * group_cosines(rows, aim, groups)
    return total.max(1).values


def _project(
    model: LanguageModel, pairs: Encoded, shot: Snapshot, project: SignProjection, adam: bool,
    progress: Callable[[int], object],
) -> Float[Tensor, "n d"]:  # fmt: skip
    """Return the projected gradients of all pairs, in order."""
    first, second = flat_parameters(shot.first), flat_parameters(shot.second)
    found = torch.zeros(len(pairs), project.size)
    order = (pairs.inputs != PAD).sum(1).argsort(stable=True)  # pairs of one length have no padding
    done = 0
    for at in torch.split(order, _GRADIENTS):
        some = pairs.rows(at)
        rows = [
            project(adam_updates(part, first, second) if adam else part)
            for part in sample_gradients(model, shot.params, {}, some.inputs, some.targets, token_loss)
        ]
        found[at] = torch.cat(rows)
        done += len(at)
        progress(done)
    return found
