"""Contents of selections, also of windows of a series, and of vectors that decode to the nearest real text."""

from dataclasses import replace

from potstill.codecs.texts import Texts
from potstill.core import Codec, Selection, Source, Synthetic
from potstill.core.nested import named_tensors, to_device
from potstill.data.text_encoder import text_part
from potstill.dataset_file.series_io import selected_series
from potstill.dataset_file.text_io import has_texts, nearest_texts, texts_at
from potstill.dataset_file.values import Contents, Encoding
from potstill.parametrize.nearest_text import NearestText
from potstill.tasks import get_targets

__all__ = ["nearest_captions", "nearest_text_contents", "selected_contents", "selected_windows"]


def selected_contents(result: Selection, train: Source, codec: Codec | None) -> Contents:
    """Return selected samples with their labels, and their texts where the data have some."""
    index, texts = result.index.cpu(), _selected_texts(train, codec)
    labels = get_targets(train)[index] if result.soft_labels is None else result.soft_labels
    return Contents(
        inputs=to_device(train.raw(index), "cpu"), labels=labels.detach().cpu(), index=index, weights=result.weights,
        captions=tuple(texts[i] for i in index.tolist()) if texts else (), encoder=getattr(train, "encoder", None),
    )  # fmt: skip


def _selected_texts(train: Source, codec: Codec | None) -> tuple[str, ...]:
    """Return the texts of the source; none for texts that are written as their vectors."""
    if has_texts(train) and not isinstance(codec, Texts):
        return ()
    texts: tuple[str, ...] = getattr(train, "texts", ())
    return texts


def nearest_captions(contents: Contents, train: Source) -> list[str]:
    """Return the real caption nearest to each learned text of pairs, for people; empty where there are none."""
    part = text_part(train.input)
    if not part or contents.index is not None or not getattr(train, "texts", ()) or contents.inputs is None:
        return []
    return texts_at(train, nearest_texts(train, named_tensors(contents.inputs)[part]))


def selected_windows(contents: Contents, encoding: Encoding, train: Source, codec: Codec) -> tuple[Contents, Encoding]:
    """Return contents and encoding with selected windows of a series as the points that they share; others as they
    are."""
    if contents.index is None or (windows := selected_series(train, contents.index, codec)) is None:
        return contents, encoding
    return replace(contents, payload=windows[0]), replace(encoding, decoder=windows[1])


def nearest_text_contents(result: Synthetic, decoder: NearestText, train: Source) -> Contents:
    """Return the real texts that a payload decodes to, with its labels."""
    index, labels = decoder.nearest(result.payload).cpu(), result.labels.detach().cpu()
    return Contents(
        inputs=to_device(train.raw(index), "cpu"), labels=labels, captions=tuple(texts_at(train, index)),
        learned=result.extra_parameters, scores=labels if result.centred_labels else None,
        encoder=getattr(train, "encoder", None),
    )  # fmt: skip
