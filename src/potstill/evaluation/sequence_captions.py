"""Scores of captions of ordered pictures by the objects and behaviours that they name (Mementos, arXiv:2401.10529).

Recall is the share of the reference's keywords that a caption names, precision the share of its own that the reference
has, F1 their harmonic mean; each is averaged over sequences. Words count by their keyword, of which they are synonyms.
The paper has a language model extract the keywords; here they are found by the user's lists, which may come from one.
"""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias

from potstill.errors import PotstillError

__all__ = ["KeywordScores", "Synonyms", "find_keywords", "keyword_scores", "score_sequence_captions"]

Synonyms: TypeAlias = Mapping[str, Sequence[str]]
"""Words and phrases by keyword, which also stands for itself."""


@dataclass(frozen=True, kw_only=True)
class KeywordScores:
    """Means over sequences, fractions."""

    recall: float
    precision: float
    f1: float
    sequences: int
    """Number of sequences whose reference has a keyword; others do not count."""


def find_keywords(text: str, synonyms: Synonyms) -> frozenset[str]:
    """Return the keywords that a text names, as whole words, whatever their case.

    Where phrases overlap, the longest counts: a "polar bear" is no "bear" unless it is listed there.

    Raises:
        PotstillError: a phrase is listed for two keywords.
    """
    keyword_of: dict[str, str] = {}
    for keyword, phrases in synonyms.items():
        for phrase in (keyword, *phrases):
            plain = " ".join(_words(phrase))
            if keyword_of.setdefault(plain, keyword) != keyword:
                raise PotstillError(
                    f"{phrase!r} is listed for {keyword_of[plain]!r} and for {keyword!r}; leave it in one of them"
                )
    longest = max((phrase.count(" ") + 1 for phrase in keyword_of), default=0)
    words, at, named = _words(text), 0, set[str]()
    while at < len(words):
        for size in range(min(longest, len(words) - at), 0, -1):
            if (phrase := " ".join(words[at : at + size])) in keyword_of:
                named.add(keyword_of[phrase])
                at += size - 1
                break
        at += 1
    return frozenset(named)


def keyword_scores(answers: Sequence[AbstractSet[str]], references: Sequence[AbstractSet[str]]) -> KeywordScores:
    """Return recall, precision and F1 of sets of keywords, averaged over sequences.

    A caption that names no keyword has precision 0.

    Raises:
        PotstillError: there are not as many answers as references, or no reference has a keyword.
    """
    if len(answers) != len(references):
        raise PotstillError(f"each sequence has one answer, but {len(references)} have {len(answers)}; give one each")
    pairs = [(a, r) for a, r in zip(answers, references, strict=True) if r]
    if not pairs:
        raise PotstillError("no reference names a keyword; give synonyms that occur in the references")
    recalls = [len(a & r) / len(r) for a, r in pairs]
    precisions = [len(a & r) / len(a) if a else 0.0 for a, r in pairs]
    f1s = [2 * p * r / (p + r) if p + r else 0.0 for p, r in zip(precisions, recalls, strict=True)]
    recall, precision, f1 = (sum(values) / len(pairs) for values in (recalls, precisions, f1s))
    return KeywordScores(recall=recall, precision=precision, f1=f1, sequences=len(pairs))


def score_sequence_captions(
    answers: Sequence[str], references: Sequence[str], *, objects: Synonyms, behaviours: Synonyms
) -> dict[str, KeywordScores]:
    """Return the scores of captions of sequences by ``objects`` and by ``behaviours``.

    Args:
        answers: a caption of each sequence of pictures.
        references: a right caption of each.
        objects: keywords of things, with their synonyms.
        behaviours: keywords of what happens, with their synonyms and forms, such as ``sit: sits, sitting, seated``.

    Raises:
        PotstillError: numbers of captions differ, no reference names a keyword, or a phrase is listed twice.

    Examples:
        >>> scores = score_sequence_captions(
        ...     ["A puppy sleeps."], ["A dog sits on a chair."],
        ...     objects={"dog": ["puppy"], "chair": []}, behaviours={"sit": ["sits"], "sleep": ["sleeps"]},
        ... )
        >>> scores["objects"].recall, scores["objects"].precision, scores["behaviours"].f1
        (0.5, 1.0, 0.0)
    """
    return {
        name: keyword_scores(
            [find_keywords(text, synonyms) for text in answers], [find_keywords(text, synonyms) for text in references]
        )
        for name, synonyms in (("objects", objects), ("behaviours", behaviours))
    }


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
