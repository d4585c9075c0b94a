"""Small generated data for contract checks; they say nothing about a method's quality."""

from typing import Any

import torch

from potstill.core import InputSpec, Source
from potstill.data import TensorSource
from potstill.data.in_memory import fit_normalization
from potstill.data.text_representations import Latent
from potstill.rng import generator
from potstill.tasks import Forecast, ObjectDetection, Regression, Retrieval, Segmentation, pad_targets

__all__ = [
    "boxes_source", "masks_source", "mixed_source", "pairs_source", "toy_source", "uneven_source", "windows_source",
]  # fmt: skip


def toy_source(kind: str = "image", *, per_class: int = 12, classes: int = 4, side: int = 8) -> Source:
    """Return ``classes`` × ``per_class`` samples: grey images (``side`` pixels) of noisy bars, or rows of six
    columns."""
    rng = generator(11, "toy", kind)
    labels = torch.arange(classes).repeat_interleave(per_class)
    if kind == "image":
        pictures = torch.rand(len(labels), 1, side, side, generator=rng) * 120
        for c in range(classes):
            first = c * side // classes
            pictures[labels == c, :, first : first + side // classes, :] += 120
        inputs = pictures.round().to(torch.uint8)
    else:
        inputs = torch.randn(len(labels), 6, generator=rng) + labels[:, None]
    return TensorSource.make(inputs, labels, classes=tuple(f"c{c}" for c in range(classes)), name="toy", kind=kind)


def uneven_source() -> Source:
    """Return data like a user's: classes of 7, 40 and 150 colour images that are wider (12 pixels) than high (8)."""
    sizes, (h, w) = torch.tensor([7, 40, 150]), (8, 12)
    rng = generator(11, "toy", "uneven")
    labels = torch.arange(len(sizes)).repeat_interleave(sizes)
    pictures = torch.rand(len(labels), 3, h, w, generator=rng) * 120
    for c in range(len(sizes)):
        pictures[labels == c, c, :, 4 * c : 4 * c + 4] += 120  # a bar of its own colour at a place of its own
    labels = labels[(order := torch.randperm(len(labels), generator=rng))]
    inputs = pictures[order].round().to(torch.uint8)
    classes = tuple(f"c{c}" for c in range(len(sizes)))
    return TensorSource.make(inputs, labels, classes=classes, name="toy-uneven", kind="image")


def masks_source(n: int = 48, *, side: int = 8) -> Source:
    """Return grey images with a bright and a dark rectangle, and masks with the class of each pixel; 255: none."""
    rng = generator(11, "toy", "masks")
    pictures = torch.rand(n, 1, side, side, generator=rng) * 60 + 90
    masks = torch.zeros(n, side, side, dtype=torch.uint8)
    for value, c in ((90, 1), (-90, 2)):
        top, left = torch.randint(0, side // 2, (2, n), generator=rng).tolist()
        for i, (a, b) in enumerate(zip(top, left, strict=True)):
            pictures[i, :, a : a + side // 2, b : b + side // 2] += value
            masks[i, a : a + side // 2, b : b + side // 2] = c
    masks[:, 0, 0] = 255
    inputs = pictures.clamp(0, 255).round().to(torch.uint8)
    return TensorSource(
        name="toy-masks", input=InputSpec(kind="image", shape=(1, side, side)), classes=(), inputs=inputs,
        normalization=fit_normalization(inputs), labels=torch.zeros(n, dtype=torch.int64), targets=masks,
        task=Segmentation(labels=("ground", "bright", "dark")),
    )  # fmt: skip


def boxes_source(n: int = 48, *, side: int = 16) -> Source:
    """Return grey images with a bright rectangle, of which every other has a dark one too, and their boxes."""
    rng = generator(11, "toy", "boxes")
    pictures = torch.rand(n, 1, side, side, generator=rng) * 60 + 90
    rows = []
    for i in range(n):
        boxes = []
        for c in range(1 + i % 2):
            w, h = (int(v) for v in torch.randint(4, 7, (2,), generator=rng))
            left = int(torch.randint(side // 2 - 6, (), generator=rng)) + c * side // 2
            top = int(torch.randint(side - h, (), generator=rng))
            pictures[i, :, top : top + h, left : left + w] += 90 - 180 * c
            boxes.append([left, top, left + w, top + h, c])
        rows.append(torch.tensor(boxes, dtype=torch.float32))
    inputs = pictures.clamp(0, 255).round().to(torch.uint8)
    return TensorSource(
        name="toy-boxes", input=InputSpec(kind="image", shape=(1, side, side)), classes=(), inputs=inputs,
        normalization=fit_normalization(inputs), labels=torch.zeros(n, dtype=torch.int64), targets=pad_targets(rows),
        task=ObjectDetection(labels=("bright", "dark"), size=(side, side)),
    )  # fmt: skip


def pairs_source(n: int = 40, *, side: int = 8, vectors: bool = False) -> Source:
    """Return images and texts without classes: a text names the bright row of its image; two samples per image.

    Args:
        vectors: texts are vectors of an encoder, and no words.
    """
    rng = generator(11, "toy", "pairs")
    pair = torch.arange(n) // 2
    texts: tuple[str, ...] = tuple(f"row {p % side} bright" + " again" * (p % 3) for p in pair.tolist())
    known = {"row": 0, "bright": 1, "again": 2}
    words = [[known.get(w, 3 + int(w) if w.isdigit() else 0) for w in text.split()] for text in texts]
    lengths = torch.tensor([len(w) for w in words])
    pictures = torch.rand(n, 1, side, side, generator=rng) * 100
    pictures[torch.arange(n), 0, pair % side] += 150
    image, text = InputSpec(kind="image", shape=(1, side, side)), InputSpec(kind="words", shape=(), levels=(3 + side,))
    inputs = {
        "image": pictures.round().to(torch.uint8), "text/values": torch.tensor([w for ws in words for w in ws]),
        "text/offsets": lengths.cumsum(0) - lengths,
    }  # fmt: skip
    encoder = None
    if vectors:
        texts = tuple(text.replace("row ", "row") for text in texts)  # words have two letters or more
        encoder = Latent(size=4).fit(texts)
        text, inputs = InputSpec(kind="text", shape=(4,)), {"image": inputs["image"], "text": encoder.encode(texts)}
    values = {name: x for name, x in inputs.items() if x.dtype != torch.int64}
    return TensorSource(
        name="toy-pairs", input=InputSpec(kind="pair", shape=(), parts=(("image", image), ("text", text))), classes=(),
        normalization=fit_normalization(values), inputs=inputs, encoder=encoder,
        labels=torch.zeros(n, dtype=torch.int64), task=Retrieval(views=("image", "text"), width=8), targets=pair,
        texts=texts,
    )  # fmt: skip


def mixed_source(n: int = 48, *, classes: bool = False) -> Source:
    """Return rows of three numbers and two columns of codes, with two classes or a real target."""
    rng = generator(11, "toy", "mixed")
    numbers = torch.randn(n, 3, generator=rng) * torch.tensor([1.0, 10.0, 0.1])
    codes = torch.stack([torch.arange(n) % 2, torch.arange(n) % 5], 1)
    target = numbers[:, :1] + codes[:, 1:].float()
    spec = InputSpec(
        kind="table", shape=(), units="columns",
        parts=(
            ("numbers", InputSpec(kind="table", shape=(3,), units="", columns=("a", "b", "c"))),
            ("codes", InputSpec(kind="categories", shape=(2,), units="", columns=("d", "e"), levels=(2, 5))),
        ),
    )  # fmt: skip
    real: dict[str, Any] = {"task": Regression(targets=("y",)).fit(target), "targets": target}
    return TensorSource(
        name="toy-mixed", input=spec, classes=("low", "high") if classes else (),
        inputs={"numbers": numbers, "codes": codes},
        normalization=fit_normalization({"numbers": numbers}),
        labels=(target[:, 0] > 2).long() if classes else torch.zeros(n, dtype=torch.int64),
        **({} if classes else real),
    )  # fmt: skip


def windows_source(n: int = 30) -> Source:
    """Return windows of eight values of two variables, with the next three as targets."""
    time = torch.arange(n + 11) / 3
    series = torch.stack([time.sin(), 5 + time.cos()])
    windows = series.unfold(1, 11, 1)[:, :n].permute(1, 0, 2).float()
    mean, std = series.mean(1), series.std(1, correction=0)
    past = windows[:, :, :8].contiguous()
    return TensorSource(
        name="toy-windows", input=InputSpec(kind="series", shape=(2, 8), units="", columns=("s", "c")), classes=(),
        normalization=fit_normalization(past), inputs=past, labels=torch.zeros(n, dtype=torch.int64),
        targets=windows[:, :, 8:].reshape(n, -1),
        task=Forecast(window=8, variables=("s", "c"), horizon=3, mean=tuple(mean.tolist()), std=tuple(std.tolist())),
    )  # fmt: skip
