"""Snapshots of a run: some of its inputs at a few of its steps, in a small file beside the set.

Inputs (pictures, rows of numbers, windows of a series) are kept before the first step, after steps 1, 2, 4, 8 … and
after the last one. Of these the first and the latest stay, ``MOST`` in all, so that a run of any length keeps as much.
No generator is drawn from: the set has the same bits with and without.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from potstill.core import Method, Problem, Source, Synthetic
from potstill.dataset_file import read_tensors, write_tensors
from potstill.errors import PotstillError
from potstill.kinds import get_kind

__all__ = ["MOST", "SnapshotRecorder", "check_snapshots", "select_inputs"]

FORMAT = "potstill-film/1"
MOST = 9
"""Stages that are kept of a run."""
_CLASSES, _EACH, _SIDE, _BYTES = 12, 3, 64, 128 * 1024
"""Classes, inputs of each, pixels of a side, and bytes of a stage, at most."""
_NOUNS = {"image": "pictures", "table": "rows", "series": "windows", "sound": "sounds"}
_AXES = {"image": (3,), "table": (1,), "series": (1, 2), "sound": (3,)}
"""Kinds of data that the page can draw, and how many axes an input then has."""


class SnapshotRecorder:
    """Keeps inputs of one run in ``path``, written anew at every stage.

    Args:
        path: the file.
        method, problem: what is run, which `check_snapshots` has passed.
        identity: what decides the bits of the run: what another run has left in the file is not gone on with.
        resume: the run goes on from a checkpoint; stages that are there stay.
        warn: told, if no inputs can be had or written; the run goes on.
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
        self._over, self._noun = False, _NOUNS[problem.train.input.kind]
        self._pixels = get_kind(problem.train.input).augmentable
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
            self._end(f"its method shows no {self._noun} before it ends")

    def _keep(self, step: int, state: Any) -> None:
        if self._over:
            return
        try:
            with torch.no_grad():
                shown = self._shown(state)
        except Exception:  # what is half made cannot always be read; snapshots are worth no run
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
        self._warn(f"no snapshots of the {self._noun} in {self._path.name}: {why}")

    def _shown(self, state: Any) -> Tensor | None:
        """Return images as uint8 (n, c, h, w), else float32 in the data's units; ``None``: nothing to show yet."""
        problem = self._problem
        made = self._method.result(problem, state)
        if not isinstance(made, Synthetic):
            return None
        x = problem.decode(made.payload)
        if self._which is None:
            hard = _classes(problem, made.labels.detach().cpu(), len(x))
            self._which = select_inputs(hard, _bytes(x))
            self._labels = hard[self._which]
        if len(x) <= int(self._which.max()):
            return None  # a selection that is under way holds fewer
        some = x[self._which.to(x.device)].detach()
        some = problem.train.normalization.invert(some) if made.space == "model" else some
        return _levels(some) if self._pixels else some.float().nan_to_num(0.0).cpu().contiguous()

    def _write(self) -> None:
        steps = sorted(self._held)
        train = self._problem.train
        said = {"format": FORMAT, "key": self._key, "steps": steps, "classes": list(train.classes)}
        said |= {"columns": list(train.input.columns)} if not self._pixels else {}
        assert self._which is not None
        tensors = {f"stage/{n}": self._held[step] for n, step in enumerate(steps)}
        tensors |= {"labels": self._labels, "index": self._which}
        write_tensors(self._path, tensors, {"film": json.dumps(said)})

    def _read(self) -> None:
        """Read the stages that an earlier part of the run kept, if the file is intact."""
        try:
            tensors, metadata = read_tensors(self._path, 64 * 2**20)
            said = json.loads(metadata["film"])
            if (said["format"], said["key"]) == (FORMAT, self._key):
                self._held = {int(step): tensors[f"stage/{n}"] for n, step in enumerate(said["steps"])}
                self._which, self._labels = tensors["index"], tensors["labels"]
        except (PotstillError, KeyError, ValueError, TypeError):
            self._held, self._which = {}, None


def _classes(problem: Problem, labels: Tensor, n: int) -> Int[Tensor, " n"]:
    """The class that each input is made for, whatever a soft label takes it for; 0 where there are no classes."""
    if not problem.train.classes:
        return torch.zeros(n, dtype=torch.int64)
    if sum(problem.sizes) == n:  # they lie class by class
        return torch.arange(len(problem.sizes)).repeat_interleave(torch.tensor(problem.sizes))
    return labels.argmax(1) if labels.ndim == 2 else labels.long()


def _bytes(x: Tensor) -> int:
    """Return the bytes of one input in a stage."""
    if x.ndim != 4:
        return 4 * x[0].numel()
    return min(3, x.shape[1]) * min(_SIDE, x.shape[2]) * min(_SIDE, x.shape[3])


def _levels(some: Float[Tensor, "n c h w"]) -> UInt8[Tensor, "n k y x"]:
    """One or three channels, of at most 64 pixels a side."""
    some = some[:, :1] if some.shape[1] < 3 else some[:, :3]
    if max(some.shape[2:]) > _SIDE:
        some = adaptive_avg_pool2d(some, (min(_SIDE, some.shape[2]), min(_SIDE, some.shape[3])))
    return (some.float().nan_to_num(0.0).clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def check_snapshots(name: str, method: Method[Any], source: Source) -> None:
    """Check that a run has inputs that change, and that a page can draw them.

    Raises:
        PotstillError: the method of that name chooses real samples, or the data are of another kind.
    """
    kind = source.input.kind
    if len(source.input.shape) not in _AXES.get(kind, ()):
        raise PotstillError(
            f"snapshots are of pictures, rows or windows of a series, but {source.name} is {kind} data of "
            f"shape {list(source.input.shape)}; leave snapshots out"
        )
    if method.info.is_selection:
        raise PotstillError(
            f"snapshots are of inputs that change, but {name} chooses real samples; leave snapshots out"
        )


def select_inputs(labels: Int[Tensor, " n"], values: int) -> Int[Tensor, " m"]:
    """Which inputs are kept: of up to 12 classes up to 3 each, the first of every class before the second.

    Args:
        labels: the class of each input.
        values: bytes of one input; 128 KiB are kept, and one input at least.
    """
    classes = sorted(set(labels.tolist()))[:_CLASSES]
    each = _EACH if len(classes) > 1 else _CLASSES
    held = [(labels == c).nonzero()[:each, 0].tolist() for c in classes]
    turns = [(turn, c, of[turn]) for c, of in enumerate(held) for turn in range(len(of))]
    kept = sorted(turns)[: max(1, _BYTES // max(1, values))]
    return torch.tensor([at for _, _, at in sorted(kept, key=lambda one: (one[1], one[0]))])
