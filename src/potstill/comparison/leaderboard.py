"""``leaderboard.json``: the cells that are there, as rows with what can be told from them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from potstill._util.card import size_without_encoder
from potstill.comparison.cells import Cell, Measure, Result
from potstill.comparison.models import ModelCell
from potstill.comparison.verdicts import BySet, against, compare_pairs, over_sets, tested
from potstill.core import Splits
from potstill.evaluation.model_baseline import MODEL
from potstill.evaluation.samples import SampleScores
from potstill.evaluation.statistics import count_answers, holm_correction, summary
from potstill.runs.loop import versions
from potstill.tasks.metric import Metric
from potstill.verdicts import judge_leaderboard

__all__ = ["FAIR", "build_leaderboard"]

FAIR = (
    "random stands here for as many real samples, at their own bytes; the fair comparison is at equal bytes, which "
    "evaluate makes for each set"
)
"""Remark of a leaderboard on its baseline."""
FAIR_BYTES = "at a size in bytes, random stands for the real samples that fit into them"

FAIR_MODEL = "model is no set but a network of no more bytes"
FAIR_MODEL_ITEMS = f"{FAIR_MODEL}; at a size in items, than the smallest set of that size"

_LARGE = ("curve", "test_samples")
"""Parts of a scorecard that stay in its own file."""

_Row: TypeAlias = dict[str, Any]
Models: TypeAlias = Sequence[tuple[ModelCell, Result]]
"""Models of the same bytes with their measurements, or why there is none."""
_Cards: TypeAlias = Mapping[int, Mapping[str, Any]]
"""The scorecards of a row, by the number of the set."""


@dataclass(frozen=True)
class _MeasuredSet:
    """One set of a row, measured under the row's protocol."""

    cell: Cell
    measure: Measure
    result: Result


def build_leaderboard(
    cells: Sequence[Cell], collected: Iterable[Sequence[Result]], splits: Splits, sets: int,
    models: Models | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The leaderboard of the cells that are made so far, the first of ``cells``.

    Args:
        made: of each cell that is done the scorecards, one for each protocol.
        sets: of each row, when all is done.
        models: those measured so far; ``None``: no such baseline was requested.
    """
    done = list(collected)
    entries: dict[str, list[_MeasuredSet]] = {}
    for cell, results in zip(cells, done, strict=False):
        for measure, result in zip(cell.shared.measures, results, strict=True):
            entries.setdefault(f"{cell.row}@{measure.name}", []).append(_MeasuredSet(cell, measure, result))
    cards = {key: {o.cell.repeat: o.result for o in of if not isinstance(o.result, str)} for key, of in entries.items()}
    rows = [_row(key, of, cards[key]) for key, of in entries.items()]
    metric = Metric.from_scorecard(next((card for of in cards.values() for card in of.values()), None))
    samples = len(splits.test or ())
    scores = {key: {at: _values(card) for at, card in of.items()} for key, of in cards.items() if of}
    single = {key: _single(of, "this set") for key, of in cards.items()}
    for row in rows:
        if not (of := cards[row["id"]]):
            continue
        row["score"] = _summed(scores[row["id"]], sets, metric, samples, single[row["id"]])
        if (gap := _difference(row, rows, of, scores, sets, metric, samples, single)) is not None:
            row["difference"] = gap
    sizes = list(dict.fromkeys((cell.unit, cell.amount) for cell in cells))
    units, protocols = [unit for unit, _ in sizes], [measure.name for measure in cells[0].shared.measures]

    def order(row: _Row) -> tuple[int, int, int, float]:
        mean = math.inf if "score" not in row else -metric.sign * row["score"]["mean"]
        return units.index(row["unit"]), row["amount"], protocols.index(row["protocol"]), mean

    rows.sort(key=order)
    tests, verdicts = compare_pairs(rows, scores, sets, metric, samples, single)
    fair = [*([FAIR] if set(units) - {"bytes"} else []), *([FAIR_BYTES] if "bytes" in units else [])]
    model_rows = [] if models is None else _model_rows(models, cells, rows, scores, sets, metric, samples, single)
    if models is not None:
        fair.append(FAIR_MODEL_ITEMS if set(units) - {"bytes"} else FAIR_MODEL)
    of_models = 0 if models is None else sets * len(sizes) * len(protocols)
    models_done = sum(len(row["cells"]) for row in model_rows)
    board = {
        "source": splits.train.name, "protocol": protocols[0], "protocols": protocols, "sets": sets,
        "fair": "; ".join(fair), "metric": metric.to_dict, "rows": rows, "test": tested(sets), "tests": tests,
        "verdicts": verdicts, "done": len(done) * len(protocols) + models_done,
        "total": len(cells) * len(protocols) + of_models,
        "complete": len(done) == len(cells) and models_done == of_models, "versions": versions(),
        **({} if models is None else {"models": model_rows}),
    }  # fmt: skip
    return {**board, "verdict": judge_leaderboard(board).to_dict()}


def _model_rows(
    models: Models, cells: Sequence[Cell], rows: Sequence[_Row], scores: Mapping[str, Mapping[int, Sequence[float]]],
    sets: int, metric: Metric, samples: int, single: Mapping[str, BySet],
) -> list[_Row]:  # fmt: skip
    """Return a row for the model of each size and protocol, with the differences of the size's sets from it."""
    model_rows: list[_Row] = []
    for unit, amount in dict.fromkeys((cell.unit, cell.amount) for cell, _ in models):
        for measure in cells[0].shared.measures:
            of = [
                (cell, card) for cell, card in models
                if (cell.unit, cell.amount, cell.students) == (unit, amount, measure.students)
            ]  # fmt: skip
            if not of:
                continue
            cards = {cell.repeat: card for cell, card in of if not isinstance(card, str)}
            row: _Row = {
                "id": f"{MODEL}-{unit}{amount}@{measure.name}", "method": MODEL, "unit": unit, "amount": amount,
                "protocol": measure.name, "byte_budget": of[0][0].byte_budget,
                "cells": [_of_model(cell, card) for cell, card in of],
            }  # fmt: skip
            if not cards:
                model_rows.append(row | {"error": next(card for _, card in of if isinstance(card, str))})
                continue
            values, its_single = {at: card["values"] for at, card in cards.items()}, _single(cards, MODEL)
            beside = [r for r in rows if r["id"] in scores and _where(r) == (unit, amount, measure.name)]
            gaps = [
                against(scores[r["id"]], values, sets, metric, samples, (single[r["id"]], its_single)) for r in beside
            ]
            corrected = holm_correction([gap["p"] for gap in gaps])
            for rival, p in zip(beside, corrected, strict=True):
                if rival["method"] == "random" and "difference" not in row:
                    sides = its_single, single[rival["id"]]
                    gap = against(values, scores[rival["id"]], sets, metric, samples, sides)
                    row["difference"] = {**gap, "p_holm": p, "over": rival["id"]}
            model_rows.append(row | {
                "network": next(iter(cards.values()))["network"],
                "networks": list(dict.fromkeys(card["network"] for card in cards.values())),
                "bytes": max(card["bytes"] for card in cards.values()),
                "seconds": _mean_of([card["seconds"] for card in cards.values()]),
                "score": _summed(values, sets, metric, samples, its_single),
                "differences": [
                    {"row": r["id"], **gap, "p_holm": p} for r, gap, p in zip(beside, gaps, corrected, strict=True)
                ],
            })  # fmt: skip
    return model_rows


def _where(row: Mapping[str, Any]) -> tuple[str, int, str]:
    return row["unit"], row["amount"], row["protocol"]


def _of_model(cell: ModelCell, card: Result) -> dict[str, Any]:
    """Return the entry of one model in its row."""
    about = {"set": cell.repeat, "seed": cell.seed}
    if isinstance(card, str):
        return about | {"error": card}
    return about | {
        "file": cell.file.name, "score": card["score"]["mean"], "students": card["values"], "bytes": card["bytes"],
        "network": card["network"], "seconds": card["seconds"],
    }  # fmt: skip


def _row(key: str, of: Sequence[_MeasuredSet], cards: _Cards) -> _Row:
    """A row without its scores."""
    first = next((one for one in of if not isinstance(one.result, str)), of[0])
    cell = first.cell
    row: _Row = {
        "id": key, "method": cell.method, "unit": cell.unit, "amount": cell.amount, "protocol": first.measure.name,
        "parametrization": cell.parametrization, "requested_codec": cell.codec, "cells": [_of_set(one) for one in of],
    }  # fmt: skip
    if cell.unit != "bytes":
        row["ipc"] = cell.amount
    if isinstance(first.result, str):
        return row | {"error": first.result}
    about, held = first.result.get("set", {}), first.result.get("bytes", {})
    if cell.unit == "bytes" and isinstance(ipc := about.get("ipc"), int | float):
        row["ipc"] = ipc
    return row | {
        "file": cell.file.name, "scorecard": {name: v for name, v in first.result.items() if name not in _LARGE},
        "items": about.get("items"), "codec": about.get("codec"), "bytes": size_without_encoder(held),
        "seconds": _mean_of([_making_seconds(card) for card in cards.values()]),
        "evaluate_seconds": _mean_of([card.get("cost", {}).get("seconds") for card in cards.values()]),
    }  # fmt: skip


def _of_set(one: _MeasuredSet) -> dict[str, Any]:
    """Return the entry of one set in its row."""
    about = {"set": one.cell.repeat, "seed": one.cell.seed}
    if isinstance(card := one.result, str):
        return about | {"error": card}
    return about | {
        "file": one.cell.file.name, "scorecard": one.cell.scorecard_path(one.measure).name,
        "score": card["score"]["mean"], "students": _values(card),
        "bytes": size_without_encoder(card.get("bytes", {})), "items": card.get("set", {}).get("items"),
        "seconds": _making_seconds(card), "evaluate_seconds": card.get("cost", {}).get("seconds"),
        "outcome": card.get("outcome", {}).get("kind"),
    }  # fmt: skip


def _making_seconds(card: Mapping[str, Any]) -> float | None:
    """Return the seconds of distilling, preparation included."""
    cost = card.get("making") or {}
    return None if "seconds" not in cost else float(cost["seconds"]) + float(cost.get("preparation_seconds") or 0.0)


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 3) if known else None


def _values(card: Mapping[str, Any]) -> list[float]:
    """Return the score of each student."""
    return [float(value) for value in card["score"]["values"]]


def _single(cards: _Cards, name: str) -> dict[int, SampleScores]:
    """By the number of the set the scores of single test samples of the set itself or of a baseline, where they are
    kept."""
    found = {at: SampleScores.from_dict((card.get("test_samples") or {}).get(name)) for at, card in cards.items()}
    return {at: scores for at, scores in found.items() if scores is not None}


def _summed(
    values: Mapping[int, Sequence[float]], sets: int, metric: Metric, samples: int, single: BySet
) -> dict[str, Any]:
    """A row's score with its interval: over sets where there are several, else over the students of the one set."""
    answers = count_answers(metric, samples)
    if sets < 2:
        at, of = next(iter(values.items()))
        score = summary(of, answers, metric.low, samples=single.get(at))
    else:
        means, matrix = [sum(of) / len(of) for of in values.values()], over_sets(single, list(values))
        known = None if matrix is None else SampleScores.from_matrix(matrix)
        score = summary(means, answers, metric.low, samples=known)
    return metric.to_dict | score | {"over": "students" if sets < 2 else "sets"}


def _difference(
    row: _Row, rows: Sequence[_Row], cards: _Cards, scores: Mapping[str, Mapping[int, Sequence[float]]],
    sets: int, metric: Metric, samples: int, single: Mapping[str, BySet],
) -> dict[str, Any] | None:  # fmt: skip
    """A row less ``random``: real samples with this set's labeller, where the scorecards have such, else the row of
    ``random`` of this size and protocol, stored alike where there is one."""
    of = scores[row["id"]]
    own = {at: card["baselines"]["random"] for at, card in cards.items() if card.get("difference", {}).get("random")}
    if own:
        theirs = {at: b["values"] for at, b in own.items()}
        found = against(of, theirs, sets, metric, samples, (single[row["id"]], _single(cards, "random")))
        return {**found, **(cards[0]["difference"]["random"] if sets < 2 else {}), "over": None}
    if row["method"] == "random":
        return None
    same = [
        other for other in rows
        if other["method"] == "random" and other["id"] in scores
        and all(other[name] == row[name] for name in ("unit", "amount", "protocol"))
    ]  # fmt: skip
    if not same:
        return None
    rival = next((other for other in same if other["requested_codec"] == row["requested_codec"]), same[0])
    known = single[row["id"]], single[rival["id"]]
    return {**against(of, scores[rival["id"]], sets, metric, samples, known), "over": rival["id"]}
