"""What a run makes, seen while it makes it: some of its pictures at a few of its steps, in a small file beside the set.

Pictures are kept before the first step, after steps 1, 2, 4, 8 … and after the last one. Of these the first and the
latest stay, ``MOST`` in all, so that a run of any length keeps as much. No generator is drawn from: the set has the
same bits with and without.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from potstill.core import Method, Problem, Source, Synthetic
from potstill.errors import PotstillError
from potstill.storage import read_tensors, write_tensors

__all__ = ["MOST", "Film", "check_film", "picked"]

FORMAT = "potstill-film/1"
MOST = 9
"""Stages that are kept of a run."""
_CLASSES, _EACH, _SIDE, _BYTES = 12, 3, 64, 128 * 1024
"""Classes, pictures of each, pixels of a side, and bytes of a stage, at most."""


class Film:
    """Keeps pictures of one run in ``path``, written anew at every stage.

    Args:
        path: the file.
        method, problem: what is run, which `check_film` has passed.
        identity: what decides the bits of the run: what another run has left in the file is not gone on with.
        resume: the run goes on from a checkpoint; stages that are there stay.
        warn: told, if no pictures can be had or written; the run goes on.
    """

    def __init__(
        self, path: Path, method: Method[Any], problem: Problem, identity: Mapping[str, Any], *, resume: bool,
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._path, self._method, self._problem, self._warn = path, method, problem, warn
        self._key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        self._which: Int[Tensor, " n"] | None = None
        self._labels = torch.zeros(0, dtype=torch.int64)
        self._held: dict[int, Tensor] = {}
        self._over = False
        if resume:
            self._read()

    def __call__(self, step: int, state: Any) -> None:
        """The run is at ``state`` after ``step`` steps: keep it, if it is a stage."""
        if step & (step - 1) == 0:
            self._keep(step, state)

    def last(self, step: int, state: Any) -> None:
        """The run has ended there."""
        if step not in self._held:
            self._keep(step, state)
        if not self._held and not self._over:
            self._end("its method shows no pictures before it ends")

    def _keep(self, step: int, state: Any) -> None:
        if self._over:
            return
        try:
            with torch.no_grad():
                shown = self._pictures(state)
        except Exception:  # what is half made cannot always be read; pictures are worth no run
            return
        if shown is None:
            return
        self._held = {at: x for at, x in self._held.items() if at < step} | {step: shown}
        if len(self._held) > MOST:
            del self._held[sorted(self._held)[1]]
        try:
            self._write()
        except PotstillError as error:
            self._end(str(error))

    def _end(self, why: str) -> None:
        self._over = True
        self._warn(f"no film of the pictures in {self._path.name}: {why}")

    def _pictures(self, state: Any) -> Tensor | None:
        """uint8 (n, c, h, w); ``None`` where there is nothing to see as yet."""
        problem = self._problem
        made = self._method.result(problem, state)
        if not isinstance(made, Synthetic):
            return None
        x = problem.decode(made.payload)
        if self._which is None:
            hard = _classes(problem, made.labels.detach().cpu(), len(x))
            height, width = (min(_SIDE, side) for side in x.shape[2:])
            self._which = picked(hard, min(3, x.shape[1]) * height * width)
            self._labels = hard[self._which]
        if len(x) <= int(self._which.max()):
            return None  # a selection that is under way holds fewer
        some = x[self._which.to(x.device)].detach()
        some = problem.train.normalization.invert(some) if made.space == "model" else some
        some = some[:, :1] if some.shape[1] < 3 else some[:, :3]
        if max(some.shape[2:]) > _SIDE:
            some = adaptive_avg_pool2d(some, (min(_SIDE, some.shape[2]), min(_SIDE, some.shape[3])))
        levels: Tensor = (some.float().nan_to_num(0.0).clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        return levels

    def _write(self) -> None:
        steps = sorted(self._held)
        said = {"format": FORMAT, "key": self._key, "steps": steps, "classes": list(self._problem.train.classes)}
        assert self._which is not None
        tensors = {f"stage/{n}": self._held[step] for n, step in enumerate(steps)}
        tensors |= {"labels": self._labels, "index": self._which}
        write_tensors(self._path, tensors, {"film": json.dumps(said)})

    def _read(self) -> None:
        """What an earlier part of the run has kept, if it is there and whole."""
        try:
            tensors, metadata = read_tensors(self._path, 64 * 2**20)
            said = json.loads(metadata["film"])
            if (said["format"], said["key"]) == (FORMAT, self._key):
                self._held = {int(step): tensors[f"stage/{n}"] for n, step in enumerate(said["steps"])}
                self._which, self._labels = tensors["index"], tensors["labels"]
        except (PotstillError, KeyError, ValueError, TypeError):
            self._held, self._which = {}, None


def _classes(problem: Problem, labels: Tensor, n: int) -> Int[Tensor, " n"]:
    """The class that each picture is made for, whatever a soft label takes it for; 0 where there are no classes."""
    if not problem.train.classes:
        return torch.zeros(n, dtype=torch.int64)
    if sum(problem.sizes) == n:  # they lie class by class
        return torch.arange(len(problem.sizes)).repeat_interleave(torch.tensor(problem.sizes))
    return labels.argmax(1) if labels.ndim == 2 else labels.long()


def check_film(name: str, method: Method[Any], source: Source) -> None:
    """Check that a run has pictures that change.

    Raises:
        PotstillError: the method of that name chooses real samples, or the data are no pictures.
    """
    if source.input.kind != "image" or source.input.parts:
        raise PotstillError(f"a film is of pictures, but {source.name} is {source.input.kind} data; leave film out")
    if method.info.selects:
        raise PotstillError(f"a film is of pictures that change, but {name} chooses real samples; leave film out")


def picked(labels: Int[Tensor, " n"], values: int) -> Int[Tensor, " m"]:
    """Which pictures are kept: of up to 12 classes up to 3 each, the first of every class before the second.

    Args:
        labels: the class of each picture.
        values: of one picture; 128 KiB of them are kept, and one picture at least.
    """
    classes = sorted(set(labels.tolist()))[:_CLASSES]
    each = _EACH if len(classes) > 1 else _CLASSES
    held = [(labels == c).nonzero()[:each, 0].tolist() for c in classes]
    turns = [(turn, c, of[turn]) for c, of in enumerate(held) for turn in range(len(of))]
    kept = sorted(turns)[: max(1, _BYTES // max(1, values))]
    return torch.tensor([at for _, _, at in sorted(kept, key=lambda one: (one[1], one[0]))])
