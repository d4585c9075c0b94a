"""Captions of sequences: keywords by synonyms, and scores against sets counted by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import PotstillError
from potstill.evaluation.sequence_captions import find_keywords, keyword_scores, score_sequence_captions

ANIMALS = {"dog": ["puppy", "hounds"], "bear": [], "polar bear": ["ice bear"], "cat": ["kitten"]}
SETS = st.lists(st.tuples(st.frozensets(st.sampled_from("abcde")), st.frozensets(st.sampled_from("abcde"), min_size=1)),
                min_size=1, max_size=5)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "keywords"),
    [
        ("A Puppy, and two hounds!", {"dog"}),
        ("A polar bear", {"polar bear"}),
        ("An ice-bear meets a bear", {"polar bear", "bear"}),
        ("concatenate the dogma", set()),  # whole words alone
        ("", set()),
    ],
)
def test_words_are_counted_by_their_keyword(text: str, keywords: set[str]) -> None:
    assert find_keywords(text, ANIMALS) == keywords


def test_known_scores() -> None:
    answers = [{"dog", "cat", "bear"}, set()]
    references = [{"dog", "cat", "bird", "fish"}, {"dog"}]
    scores = keyword_scores(answers, references)
    assert scores.recall == (2 / 4 + 0) / 2
    assert scores.precision == (2 / 3 + 0) / 2
    assert scores.f1 == pytest.approx((4 / 7 + 0) / 2)  # 2 · 2 hits of 3 + 4 keywords
    assert scores.sequences == 2


@given(SETS)
def test_f1_is_the_share_of_common_keywords(pairs: list[tuple[frozenset[str], frozenset[str]]]) -> None:
    scores = keyword_scores([a for a, _ in pairs], [r for _, r in pairs])
    dice = [2 * len(a & r) / (len(a) + len(r)) for a, r in pairs]
    assert scores.f1 == pytest.approx(sum(dice) / len(dice))
    assert 0 <= scores.f1 <= max(scores.recall, scores.precision) <= 1
    assert keyword_scores([r for _, r in pairs], [r for _, r in pairs]).f1 == 1


def test_captions_of_objects_and_behaviours() -> None:
    scores = score_sequence_captions(
        ["A puppy runs, then sleeps.", "Nothing."], ["The dog runs and barks at a cat.", "A field."],
        objects=ANIMALS, behaviours={"run": ["runs"], "bark": ["barks"], "sleep": ["sleeps"]},
    )  # fmt: skip
    assert scores["objects"].recall == 0.5
    assert scores["objects"].precision == 1
    assert scores["objects"].sequences == 1  # the field names no animal
    assert (scores["behaviours"].recall, scores["behaviours"].precision) == (0.5, 0.5)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(PotstillError, match="'kitten' is listed for 'cat' and for 'kitten'; leave it in one of them"):
        find_keywords("", {**ANIMALS, "kitten": []})
    with pytest.raises(PotstillError, match="each sequence has one answer, but 2 have 1"):
        keyword_scores([set()], [{"a"}, {"b"}])
    with pytest.raises(PotstillError, match="no reference names a keyword"):
        keyword_scores([{"a"}], [set()])
