"""Zero-shot classification by students of a set of pairs: by names of classes, by descriptions, by random words.

Names stand in CLIP's template (arXiv:2103.00020). Descriptions are the user's, such as a language model writes them;
their similarities are averaged (arXiv:2210.07183). Random words in place of each description are the control
(WaffleCLIP, arXiv:2306.07282): what they gain as well is not due to what descriptions say. Here they are words of the
training texts, as many as the description has, the same for all classes and others for each student.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from potstill.core import Inputs, Source
from potstill.core.nested import named_tensors, to_device
from potstill.data.attributes import get_attribute
from potstill.data.pairs import encode_texts
from potstill.data.text_encoder import text_part
from potstill.diagnostics.bench import Bench, Condition, network_outputs
from potstill.errors import PotstillError
from potstill.evaluation.statistics import difference, paired_difference, summary
from potstill.evaluation.student import StudentJob, train
from potstill.functional.zero_shot import balanced_accuracy, class_similarities
from potstill.rng import generator
from potstill.tasks import Retrieval, get_targets

__all__ = [
    "ClassDescriptions", "check_descriptions", "class_texts", "conditions", "encode_prompts", "measure_zero_shot",
    "obstacle",
]  # fmt: skip

TEMPLATE = "a picture of {}"
"""Text of a class by its name, as CLIP's."""

ClassDescriptions: TypeAlias = Mapping[str, Sequence[str]]
"""Descriptions of each class by its name."""


def conditions(bench: Bench) -> list[Condition]:
    """Return the training conditions, whose students are trained for this part alone."""
    pairs = (bench.distilled_condition(), bench.random_condition())
    return [Condition(name=f"{c.name}, zero-shot", items=c.items, data_for=c.data_for) for c in pairs]


def obstacle(bench: Bench) -> str | None:
    """Return why the pictures cannot be classified; ``None``: they can."""
    if not isinstance(bench.task, Retrieval):
        return f"it is about pictures with texts, but the task is {bench.task.name}"
    if get_attribute(bench.eval_source) is None:
        return "no class of each picture was read; name the column that has it with `attribute=`"
    return None


def check_descriptions(value: object, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return descriptions by class in the order of ``names``.

    Raises:
        PotstillError: they are not a list of texts for each class, or of other classes.
    """
    if not isinstance(value, Mapping):
        raise PotstillError(f"descriptions are an object of lists by class, but this is {type(value).__name__}")
    if unknown := sorted(set(value) - set(names)):
        raise PotstillError(f"descriptions of {unknown[0]!r}, but the classes are {', '.join(names)}; remove them")
    checked: dict[str, tuple[str, ...]] = {}
    for name in names:
        texts = value.get(name)
        if not isinstance(texts, list | tuple) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
            raise PotstillError(f"class {name!r} needs a list of at least one description; add it")
        checked[name] = tuple(texts)
    return checked


def class_texts(
    names: Sequence[str], descriptions: ClassDescriptions | None = None, random: Sequence[Sequence[str]] | None = None
) -> tuple[list[str], Tensor]:
    """Return the texts of all classes, and the class of each.

    Args:
        names: of the classes.
        descriptions: by class; ``None``: each class has its name in the template alone.
        random: words that take the place of a class's first description, of its second, and so on.
    """
    texts, owner = list[str](), list[int]()
    for c, name in enumerate(names):
        base = TEMPLATE.format(" ".join(re.findall(r"\w+", name)).lower())
        several = [""] if descriptions is None else descriptions[name]
        for j, text in enumerate(several):
            if random is not None:
                text = " ".join(random[j][: len(text.split())])
            texts.append(f"{base}, {text}" if text else base)
            owner.append(c)
    return texts, torch.tensor(owner)


def measure_zero_shot(bench: Bench, descriptions: ClassDescriptions | None) -> dict[str, Any]:
    """Return the balanced accuracies of students of the set and of as many random pairs, by each kind of texts."""
    attribute = get_attribute(bench.eval_source)
    assert attribute is not None  # or there is an obstacle
    names = attribute.values
    checked = None if descriptions is None else check_descriptions(descriptions, names)
    y = get_targets(bench.eval_source)
    first = torch.tensor(
        [int((y == number).nonzero()[0]) for number in torch.unique(y)]
    )  # a picture with several texts
    labels = attribute.codes[first]
    kinds = ("names", "descriptions", "random words") if checked else ("names",)
    accuracies: dict[str, dict[str, list[float]]] = {}
    for condition, name in zip(conditions(bench), ("set", "random"), strict=True):
        texts = [_texts_of(bench, names, checked, student) for student in range(bench.students)]
        jobs = [bench.job(condition.data_for(n), n) for n in range(bench.students)]
        work = [(job, [encode_prompts(bench.real, t) for t, _ in of]) for job, of in zip(jobs, texts, strict=True)]
        embedded = bench.run(f"students of {condition.name}", partial(_embed, bench.eval_source, first), work)
        values: dict[str, list[float]] = {kind: [] for kind in kinds}
        for result, of in zip(embedded, texts, strict=True):
            for at, kind in enumerate(kinds):
                score = 1 / len(names)  # of a student that diverged
                if result is not None:
                    score = balanced_accuracy(class_similarities(result[0], result[1][at], of[at][1]), labels)
                values[kind].append(score)
        accuracies[name] = values
    by_kind = accuracies["set"]
    return {
        "classes": list(names), "pictures": len(labels), "chance": 1 / len(names),
        "template": TEMPLATE, "texts": 0 if checked is None else sum(map(len, checked.values())),
        **{name: {kind: summary(v, low=0.0) for kind, v in values.items()} for name, values in accuracies.items()},
        "difference": {
            "set over random": difference(accuracies["set"]["names"], accuracies["random"]["names"]),
            **({
                f"descriptions over {kind}": paired_difference(by_kind["descriptions"], by_kind[kind])
                for kind in ("names", "random words")
            } if checked else {}),
        },
    }  # fmt: skip


def encode_prompts(source: Source, texts: Sequence[str]) -> Inputs:
    """Return texts as inputs of a source of pairs, in model space, each with an empty picture.

    Raises:
        PotstillError: the source has vectors whose encoder is unknown.
    """
    raw = named_tensors(source.raw(torch.tensor([0])))
    part = text_part(source.input)
    if not part:
        words = next(name for name, spec in source.input.parts if spec.kind == "words")
        encoded = encode_texts(texts, words)
    elif (encoder := getattr(source, "encoder", None)) is not None:
        encoded = {part: encoder.encode(texts)}
    else:
        raise PotstillError(f"{source.name} has vectors of texts but no encoder; read it with `representation=`")
    pictures = {name for name, spec in source.input.parts if spec.kind == "image"}
    blank = {n: t.new_zeros(len(texts), *t.shape[1:]) for n, t in raw.items() if n in pictures}
    inputs: Inputs = source.normalization.apply(to_device({**blank, **encoded}, source.device))
    return inputs


def _texts_of(
    bench: Bench, names: Sequence[str], descriptions: Mapping[str, tuple[str, ...]] | None, student: int
) -> list[tuple[list[str], Tensor]]:
    """Return the texts of each kind for a student, with their classes."""
    texts = [class_texts(names)]
    if descriptions is not None:
        random = _random_words(bench, descriptions, student)
        texts += [class_texts(names, descriptions), class_texts(names, descriptions, random)]
    return texts


def _random_words(bench: Bench, descriptions: ClassDescriptions, student: int) -> list[list[str]]:
    """Draw words of the training texts in place of each class's first description, of its second, and so on."""
    texts: tuple[str, ...] = getattr(bench.real, "texts", ())
    vocabulary = sorted({word for text in texts for word in re.findall(r"\w+", text.lower())}) or ["x"]
    rng = generator(bench.seed, "study", "random words", student)
    longest = max(len(text.split()) for several in descriptions.values() for text in several)
    many = max(map(len, descriptions.values()))
    drawn = torch.randint(len(vocabulary), (many, longest), generator=rng).tolist()
    return [[vocabulary[i] for i in row] for row in drawn]


def _embed(source: Source, first: Tensor, work: tuple[StudentJob, list[Inputs]]) -> tuple[Tensor, list[Tensor]] | None:
    """Return embeddings of the pictures at ``first`` and of the texts; ``None``: the student diverged."""
    job, prompts = work
    network = train(job)
    if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
        return None
    views = [name for name, _ in source.input.parts]
    image = next(at for at, (_, spec) in enumerate(source.input.parts) if spec.kind == "image")
    assert len(views) == 2
    pictures = network_outputs(network, source)[first].chunk(2, 1)[image]
    with torch.no_grad():
        texts = [network(x).float().cpu().chunk(2, 1)[1 - image] for x in prompts]
    return pictures, texts
