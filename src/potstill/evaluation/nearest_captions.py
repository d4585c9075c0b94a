"""Learned texts of pairs read as the nearest real captions, and the score that this costs."""

from typing import Any

from potstill.core.nested import named_tensors, to_device
from potstill.data.text_encoder import text_part
from potstill.dataset_file import Distilled
from potstill.dataset_file.text_io import nearest_texts
from potstill.evaluation.measurement import EvaluationContext, Measurement, measure
from potstill.evaluation.statistics import count_answers, difference
from potstill.evaluation.training_sets import TrainingSet

__all__ = ["captions_entry"]


def captions_entry(
    context: EvaluationContext, distilled: Distilled, result: Measurement, own_set: TrainingSet
) -> dict[str, Any] | None:
    """Return the score of the set with the nearest real captions in place of its learned texts.

    ``None``: the set has no learned texts, or the data no texts. The captions are those of the training data nearest
    to each vector; students train as on the set itself.
    """
    part, train = text_part(distilled.input), context.train
    texts: tuple[str, ...] = getattr(train, "texts", ())
    if not part or distilled.captions or not texts:
        return None
    x = named_tensors(distilled.inputs)
    index = nearest_texts(train, x[part])
    real = named_tensors(train.raw(index))[part].cpu()
    inputs = train.normalization.apply(to_device({n: real if n == part else t for n, t in x.items()}, train.device))
    with_captions = TrainingSet(
        pairs=[(inputs, own_set.pairs[0][1])], bytes=own_set.bytes, lr=own_set.lr, weights=own_set.weights
    )
    measured = measure(context, "nearest captions", with_captions)
    gap = difference(
        result.values, measured.values, count_answers(context.task.metric, len(context.test)),
        samples=(result.samples, measured.samples),
    )  # fmt: skip
    return context.with_score(context.summarize(measured)) | {
        "captions": [texts[i] for i in index.tolist()], "difference": gap,
    }  # fmt: skip
