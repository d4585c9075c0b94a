"""Learners that read texts."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from potstill.errors import PotstillError
from potstill.evaluation.text_learners import TextCnn, Tfidf
from potstill.tasks import Classification
from tests.text_data import corpus

TASK = Classification(k=3)


def numbered(labels):
    return torch.tensor([sorted(set(labels)).index(y) for y in labels])


def test_tfidf_is_scikit_learns():
    texts, labels = corpus(10)
    y = numbered(labels)
    asked, _ = corpus(10, seed=1)
    found = Tfidf().fit_texts(texts, y, None, TASK, 0)(asked)
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    model = LogisticRegression(C=10.0, max_iter=1000).fit(vectorizer.fit_transform(texts), y.numpy())
    np.testing.assert_array_equal(found.numpy(), model.predict(vectorizer.transform(asked)))


def test_soft_labels_are_weighted_rows():
    texts, labels = corpus(10)
    y = numbered(labels)
    rows = torch.nn.functional.one_hot(y, 3).float()
    asked, _ = corpus(10, seed=1)
    hard = Tfidf().fit_texts(texts, y, None, TASK, 0)(asked)
    assert torch.equal(Tfidf().fit_texts(texts, rows, None, TASK, 0)(asked), hard)
    swapped = Tfidf().fit_texts(texts, rows.roll(1, 1), None, TASK, 0)(asked)
    assert torch.equal(swapped, (hard + 1) % 3)


def test_a_small_network_learns_and_repeats():
    texts, labels = corpus(20)
    asked, truth = corpus(20, seed=1)
    learner = TextCnn(steps=80)
    state = torch.random.get_rng_state()
    found = learner.fit_texts(texts, numbered(labels), torch.ones(60), TASK, 3)(asked)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (found == numbered(truth)).float().mean() > 0.8
    assert torch.equal(learner.fit_texts(texts, numbered(labels), None, TASK, 3)(asked), found)
    assert len(learner.fit_texts(["", "x"], torch.tensor([0, 1]), None, TASK, 0)([""])) == 1


def test_vectors_and_texts_without_words_are_refused():
    with pytest.raises(PotstillError, match="learns from real texts"):
        Tfidf().fit(torch.zeros(2, 3), torch.zeros(2), None, TASK, 0)
    with pytest.raises(PotstillError, match="words of two letters or more"):
        Tfidf().fit_texts(["1", "?"], torch.tensor([0, 1]), None, TASK, 0)
    with pytest.raises(PotstillError, match="steps must be at least 2"):
        TextCnn(steps=1)
