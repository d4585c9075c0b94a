"""Value of a set as an addition to real samples.

For each k a student learns the set and k real samples per class; another those k alone; a third those k and, in place
of the set, as many other real samples. If the set were as good as they are, the first and the third would be equal.
All students make the same number of updates.
"""

from typing import Any

from potstill.diagnostics.bench import Bench, Condition
from potstill.evaluation.statistics import count_answers, difference

__all__ = ["AMOUNTS", "conditions", "measure_mixing"]

AMOUNTS = (1, 5, 20)
"""Default numbers of added real samples per class."""


def _rows(bench: Bench, amounts: tuple[int, ...]) -> list[tuple[int, Condition, Condition | None, Condition]]:
    """For each k: the set and k real samples, these alone, and these with real ones in place of the set."""
    rows: list[tuple[int, Condition, Condition | None, Condition]] = [
        (0, bench.distilled_condition(), None, bench.random_condition())
    ]
    for k in amounts:
        added = [k] * len(bench.class_indices)
        items = sum(min(k, len(of)) for of in bench.class_indices)
        alone = Condition(name=f"{k} real", items=items, data_for=lambda n, a=added: bench.draw_real(n, a))  # type: ignore[misc]
        mixed = Condition(
            name=f"the set and {k} real", items=len(bench.distilled) + items,
            data_for=lambda n, a=added: bench.join(bench.distilled_data, bench.draw_real(n, a)),  # type: ignore[misc]
        )  # fmt: skip
        more = [min(k + c, len(of)) for c, of in zip(bench.counts, bench.class_indices, strict=True)]
        instead = Condition(
            name=f"random and {k} real",
            items=sum(more),
            data_for=lambda n, m=tuple(more): bench.draw_real(n, m),  # type: ignore[misc]
        )
        rows.append((k, mixed, alone, instead))
    return rows


def conditions(bench: Bench, amounts: tuple[int, ...]) -> list[Condition]:
    """Return the training conditions."""
    return [lesson for _, *three in _rows(bench, amounts) for lesson in three if lesson is not None]


def measure_mixing(bench: Bench, amounts: tuple[int, ...]) -> dict[str, Any]:
    """Return scores for each k in ``amounts``, and the set's less that of real samples in its place."""
    found, answers = [], count_answers(bench.task.metric, len(bench.eval_source))
    for k, mixed, alone, instead in _rows(bench, amounts):
        outputs = {
            name: bench.outputs(lesson)
            for name, lesson in (("with_set", mixed), ("real_alone", alone), ("real_instead", instead))
            if lesson is not None
        }
        values = {name: bench.scores(of) for name, of in outputs.items()}
        samples = {name: bench.sample_scores(of) for name, of in outputs.items()}
        found.append(
            {
                "k": k,
                "items": {"with_set": mixed.items, "real_alone": 0 if alone is None else alone.items,
                          "real_instead": instead.items},
                **{name: bench.summarize(of, samples[name]) for name, of in values.items()},
                "difference": difference(
                    values["with_set"], values["real_instead"], answers,
                    samples=(samples["with_set"], samples["real_instead"]),
                ),
            }
        )  # fmt: skip
    return {"per": "class" if bench.classes else "set", "metric": bench.task.metric.to_dict, "curve": found}
