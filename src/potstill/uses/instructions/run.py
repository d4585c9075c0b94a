"""`select_instructions`: prompts with responses for a target, and what models learn from them."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from potstill._util.outputs import check_not_input
from potstill._util.progress import Callback
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError, unknown_name
from potstill.execution.executor import torch_threads
from potstill.rng import derive_seed, generator
from potstill.uses.cell_files import read_json, write_json
from potstill.uses.instructions.language_models import FORMS, Form, LanguageModel, bits_per_byte, new_model, train
from potstill.uses.instructions.records import Records, read_records
from potstill.uses.instructions.scores import bm25, less_scores, match_lengths, nearest_states, tfidf
from potstill.uses.instructions.settings import Settings
from potstill.uses.instructions.summary import CHOOSING, WAYS, conclude
from potstill.uses.instructions.vocabulary import Encoded, Vocabulary

__all__ = ["WAYS", "select_instructions"]

VERSION = 1
"""Version of the files. It is raised when what is measured changes."""
_MOST_TARGET = 1000


def select_instructions(
    pool: object,
    target: object,
    *,
    out: str | Path,
    items: int | None = None,
    size: int | None = None,
    test: object = None,
    base: object = None,
    way: str = "less",
    prompt: str | None = None,
    response: str | None = None,
    group: str | None = None,
    students: int = 3,
    settings: Settings | None = None,
    seed: int = 0,
    progress: Callback | None = None,
) -> dict[str, Any]:
    """Select prompts with responses that help a target, by gradients of a small language model that is trained here.

    LESS (Xia et al., ICML 2024, arXiv:2402.04333) with a small transformer in place of a large model: see
    `potstill.uses.instructions.scores.less_scores`. With ``test``, models learn this selection, and others in as many
    samples (or bytes): random ones, random ones of the same lengths, the nearest to the target by BM25, by TF-IDF and
    by the model's states, and all of the pool. Every one begins as the same model of plain texts, learns the target's
    samples, too, and has as many updates.

    ``out`` gets ``selected.jsonl``, the chosen rows with all their columns, the best first; ``instructions.json``, the
    result with positions in the pool; and files from which the same call continues where one was interrupted.

    Args:
        pool: prompts with responses to choose from, as for `read_records`.
        target: a few samples of what models shall become good at.
        out: folder of the results, made if it is not there.
        items: samples to choose; or
        size: UTF-8 bytes of all chosen prompts and responses, at most.
        test: other samples of the target. Default: none, and nothing is measured.
        base: texts on which the model is trained before all else. Default: those of the pool.
        way: what chooses: ``less``, ``bm25``, ``tfidf``, ``states``, ``random`` or ``lengths``.
        prompt, response: columns, where they are not known ones.
        group: column of the target, each of whose values is a task of its own: a sample counts by the one that it helps
            most.
        students: models of each form that learn a selection.
        settings: of models and training.
        seed: of every draw.
        progress: callback ``progress(name, done, total)``. Default: silent.

    Returns:
        The content of ``instructions.json``.

    Raises:
        PotstillError: data cannot be read, a number is out of its range, or ``out`` holds other measurements.
    """
    if way not in CHOOSING:
        raise unknown_name("way of choosing", way, CHOOSING)
    if (items is None) == (size is None):
        raise PotstillError("one of items and size must be given, and not both; change that")
    for name, value in {"items": items, "size": size, "students": students}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise PotstillError(f"{name} must be a whole number of at least 1, not {value}; change it")
    folder = Path(out)
    check_not_input(folder, [one for one in (pool, target, test, base) if one is not None], folder=True)
    read = {
        name: read_records(data, prompt=prompt, response=response)
        for name, data in {"pool": pool, "target": target, "test": test, "base": base}.items()
        if data is not None
    }  # fmt: skip
    notes = [note for one in read.values() for note in one.notes] + _check(read, items)
    chosen_settings = settings or Settings()
    common: dict[str, Any] = {
        "version": VERSION, **{name: one.digest for name, one in read.items()}, "items": items, "size": size,
        "group": group, "seed": seed, **asdict(chosen_settings),
    }  # fmt: skip
    runner = _Runner(
        read=read, groups=_groups(read["target"], group), items=items, size=size, settings=chosen_settings, seed=seed,
        folder=folder, common=common, say=progress or (lambda *_: None),
    )  # fmt: skip
    cells = []
    with torch_threads(1):
        chosen = runner.choose(way)
        if "test" in read:
            for number, name in enumerate(WAYS):
                runner.say("rows", number, len(WAYS))
                cells.append(runner.cell(name, students))
            runner.say("rows", len(WAYS), len(WAYS))
    records = read["pool"]
    result: dict[str, Any] = {
        "settings": common, "pool": records.name, "target": read["target"].name, "samples": len(records),
        "target_samples": len(read["target"]), "test_samples": len(read["test"]) if "test" in read else 0,
        "way": way, "items": len(chosen), "bytes": runner.bytes_of(chosen), "students": students, "notes": notes,
        "chosen": [records.places[i] for i in chosen.tolist()], "cells": cells,
    }  # fmt: skip
    result |= conclude(result)
    lines = [json.dumps(records.rows[i], ensure_ascii=False, default=str) for i in chosen.tolist()]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "selected.jsonl", ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass"))
    write_json(folder / "instructions.json", result)
    return result


def _check(read: Mapping[str, Records], items: int | None) -> list[str]:
    """Return notes on samples that stand in several parts."""
    pool, target = read["pool"], read["target"]
    if items is not None and items > len(pool):
        raise PotstillError(f"{pool.name}: {items:,} samples are requested, but it has {len(pool):,}; ask for fewer")
    if len(target) > _MOST_TARGET:
        raise PotstillError(
            f"{target.name}: a target of at most {_MOST_TARGET:,} samples is required, not {len(target):,}; give a part"
        )
    notes = []
    if "test" in read:
        test = set(zip(read["test"].prompts, read["test"].responses, strict=True))
        for name in ("pool", "target", "base"):
            if name in read:
                found = sum(both in test for both in zip(read[name].prompts, read[name].responses, strict=True))
                if found:
                    notes.append(
                        f"{read[name].name}: {found:,} of its samples are test samples, too, so that the measured "
                        "numbers are better than those of new samples"
                    )
    return notes


def _groups(target: Records, group: str | None) -> Int[Tensor, " m"]:
    if group is None:
        return torch.zeros(len(target), dtype=torch.int64)
    if not all(group in row for row in target.rows):
        raise PotstillError(f"{target.name}: every row must have the column {group!r} of `group=`; name another")
    names = [str(row[group]) for row in target.rows]
    number = {name: n for n, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([number[name] for name in names])


@dataclass(frozen=True, kw_only=True)
class _Runner:
    """Chooses and measures; what several ways need is made once."""

    read: Mapping[str, Records]
    groups: Int[Tensor, " m"]
    items: int | None
    size: int | None
    settings: Settings
    seed: int
    folder: Path
    common: Mapping[str, Any]
    say: Callback

    @cached_property
    def base_records(self) -> Records:
        return self.read.get("base", self.read["pool"])

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.fit(self.base_records.texts(), self.settings.words)

    def encoded(self, name: str) -> Encoded:
        """Return a part as pieces."""
        one = self.read[name]
        return self.vocabulary.encode_pairs(one.prompts, one.responses, self.settings.length)

    @cached_property
    def pool(self) -> Encoded:
        return self.encoded("pool")

    @cached_property
    def target(self) -> Encoded:
        return self.encoded("target")

    @cached_property
    def test(self) -> Encoded:
        return self.encoded("test")

    def model(self, form: Form) -> LanguageModel:
        """Return a model of plain texts, from its file where that is there."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file, save

        model = new_model(form, len(self.vocabulary), self.settings, self.seed)
        names = ("words", "length", "width", "layers", "base_updates", "batch", "lr", "seed")
        key = {name: self.common[name] for name in names} | {"base": self.base_records.digest, "version": VERSION}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        path = self.folder / "cells" / f"{form}-{digest}.safetensors"
        if path.exists():
            try:
                model.load_state_dict(load_file(path))
            except (SafetensorError, RuntimeError, OSError):  # damaged, or of other names or shapes
                raise PotstillError(f"{path}: holds no model of these settings; remove it") from None
            return model.eval()
        one = self.base_records
        texts = self.vocabulary.encode_pairs(one.prompts, one.responses, self.settings.length, learn_prompts=True)
        rng = generator(self.seed, "instructions", "base", form)
        train(
            model, texts, self.settings.base_updates, self.settings, rng,
            progress=lambda done, total: self.say(f"{form} on plain texts", done, total),
        )  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, save({n: p.detach().clone() for n, p in model.state_dict().items()}))
        return model

    def bytes_of(self, positions: Int[Tensor, " m"]) -> int:
        """Return the UTF-8 bytes of samples of the pool."""
        sizes = self.read["pool"].sizes()
        return sum(sizes[i] for i in positions.tolist())

    def _filled(self, order: Int[Tensor, " n"]) -> Int[Tensor, " m"]:
        """Return the first of an order that the budget allows; of a size, whatever still fits."""
        if self.items is not None:
            return order[: self.items]
        sizes, left, within = self.read["pool"].sizes(), self.size or 0, []
        for i in order.tolist():
            if sizes[i] <= left:
                within.append(i)
                left -= sizes[i]
        if not within:
            raise PotstillError(f"{self.size:,} bytes hold no sample of {self.read['pool'].name}; give more")
        return torch.tensor(within)

    def choose(self, way: str) -> Int[Tensor, " m"]:
        """Return the positions that a way chooses, the best first; from its file where that is there."""
        path = self.folder / "cells" / f"chosen-{way}.json"
        if (kept := read_json(path, self.common, "selection of instructions")) is not None:
            return torch.tensor(kept["chosen"], dtype=torch.int64)
        rng = generator(self.seed, "instructions", "choice", way)
        texts, aims = self.read["pool"].texts(), self.read["target"].texts()
        ways: Mapping[str, Callable[[], Tensor]] = {
            "random": lambda: self._filled(torch.randperm(len(texts), generator=rng)),
            "lengths": lambda: match_lengths(self.read["pool"].sizes(), self.choose("less"), rng),
            "bm25": lambda: self._filled(bm25(texts, aims)), "tfidf": lambda: self._filled(tfidf(texts, aims)),
            "states": lambda: self._filled(nearest_states(self.model(FORMS[0]), self.pool, self.target)),
            "less": lambda: self._filled(self._less()),
        }  # fmt: skip
        chosen = ways[way]()
        write_json(path, {"settings": self.common, "chosen": chosen.tolist()})
        return chosen

    def _less(self) -> Int[Tensor, " n"]:
        scores = less_scores(
            self.model(FORMS[0]), self.pool, self.target, self.groups, self.settings, self.seed, self.say
        )
        return scores.argsort(descending=True, stable=True)

    def cell(self, way: str, students: int) -> dict[str, Any]:
        """Return the bits of each student by its form, from a file where that is there."""
        path = self.folder / "cells" / f"{way}.json"
        settings = {**self.common, "row": way, "students": students}
        cell = read_json(path, settings, "selection of instructions")
        if cell is None:
            started = time.monotonic()
            cell = {"name": way, **self._measure(way, students)}
            cell["seconds"] = round(time.monotonic() - started, 1)
            write_json(path, {"settings": settings, **cell})
        return {name: value for name, value in cell.items() if name != "settings"}

    def _measure(self, way: str, students: int) -> dict[str, Any]:
        everything = torch.arange(len(self.pool))
        chosen = (
            torch.zeros(0, dtype=torch.int64) if way in ("none", "target")
            else everything if way == "all" else self.choose(way)
        )  # fmt: skip
        entry = {"items": len(chosen), "bytes": self.bytes_of(chosen)}
        if way == "none":
            return entry | {"bits": {form: [bits_per_byte(self.model(form), self.test)] for form in FORMS}}
        pairs = _join(self.pool.rows(chosen), self.target) if len(chosen) else self.target
        bits: dict[str, list[float]] = {}
        for form in FORMS:
            for number in range(students):
                model = self.model(form)
                rng = generator(derive_seed(self.seed, "instructions", "student", number), "order")
                train(model, pairs, self.settings.updates, self.settings, rng)
                bits.setdefault(form, []).append(round(bits_per_byte(model, self.test), 6))
        return entry | {"bits": bits}


def _join(first: Encoded, second: Encoded) -> Encoded:
    """Return the pairs of both."""
    longest = max(first.inputs.shape[1], second.inputs.shape[1])

    def both(a: Tensor, b: Tensor, fill: float) -> Tensor:
        return torch.cat([torch.nn.functional.pad(part, (0, longest - part.shape[1]), value=fill) for part in (a, b)])

    return Encoded(
        inputs=both(first.inputs, second.inputs, 0), targets=both(first.targets, second.targets, -1),
        widths=both(first.widths, second.widths, 0),
    )  # fmt: skip
