"""``score``: numbers of every sample by several methods, in one file that a selection at any budget reads."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from potstill._util.outputs import check_output
from potstill._util.progress import Callback
from potstill.augment.names import named_augmentation
from potstill.core import Asset, Method, ScoringMethod, Source, registry
from potstill.dataset_file.scores import MethodScores, Scores, other_scores, write_scores
from potstill.errors import PotstillError, unknown_name
from potstill.execution import Executor, resolve_executor
from potstill.execution.memory import keep_freed_memory
from potstill.functional.duplicates import Digests
from potstill.functional.training_dynamics import Cartography, regions
from potstill.nn import CustomNetwork
from potstill.pretraining import build_assets
from potstill.runs.load_data import as_splits, pick_device
from potstill.runs.resolve import ResolvedRun, resolve_run
from potstill.runs.spec import RunSpec

__all__ = ["duplicates", "score", "scored_methods"]

REGIONS = ("easy", "ambiguous", "hard")


def scored_methods() -> tuple[str, ...]:
    """The registered methods that give every sample a number."""
    return tuple(name for name in registry.names("methods") if _scores(registry.resolve("methods", name)))


def _scores(kind: Any) -> bool:
    """Tell whether the class follows the protocol `ScoringMethod`, by its members, as no value is there yet."""
    return hasattr(kind, "columns") and hasattr(kind, "selection_fields")


def score(
    data: Any,
    methods: Sequence[str | Method[Any]] | str | Method[Any],
    out: str | Path | None = None,
    *,
    force: bool = False,
    network: str | CustomNetwork | Callable[..., Any] | None = None,
    device: str = "auto",
    executor: Executor | str | None = None,
    progress: Callback | None = None,
    **options: Any,
) -> Scores:
    """Score every training sample by several methods, to sort and to select by.

    Trainings are recorded once, cached, and shared: by all methods whose training is the same, and by later runs.

    Args:
        data: anything `potstill.load_data` takes or returns. Only the training split is read.
        methods: registered names of methods that score (`potstill.api.score.scored_methods`), ``file.py:Class``, or
            such methods as values; one or several.
        out: the parquet file to write. Default: none.
        force: replace what is there; without it, scores of the same data by a subset of these methods are replaced.
        network: network that is trained. Default: the methods' own.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: where networks are trained, as for `potstill.distill`. Default: as many processes as help.
        progress: callback ``progress(name, done, total)``. Default: silent.
        **options: fields of the methods, e.g. ``record_epochs``; each goes to the methods that have it.

    Returns:
        The scores: ``methods`` has for each method its ``columns``, float32 (n,) by name, and its settings.

    Raises:
        PotstillError: a method scores no samples, no method has such an option, or the file cannot be written.

    Examples:
        >>> scores = potstill.score(
        ...     "digits", "el2n", "scores.parquet", runs=1, record_epochs=1, epoch=1, network="convnet-w8-d1"
        ... )
        >>> {name: tuple(column.shape) for name, column in scores.methods["el2n"].columns.items()}
        {'el2n': (1438,)}
    """
    keep_freed_memory()
    runner = resolve_executor(executor)
    if out is not None:
        check_output(out, suffixes=(".parquet",), reads=[data, network], force=True)
    several = [methods] if isinstance(methods, str | Method) else methods
    kinds = {name: _kind(name) for name in dict.fromkeys(several)}
    if not kinds:
        raise PotstillError(f"at least one method is needed; there are {', '.join(scored_methods())}")
    fields = {name: {f.name for f in dataclasses.fields(kind)} for name, kind in kinds.items()}
    for option in options:
        if not any(option in has for has in fields.values()):
            raise unknown_name("option", option, set().union(*fields.values()))
    splits = as_splits(data, pick_device(device))
    train = splits.train
    every: dict[str, tuple[ResolvedRun, ScoringMethod, tuple[Asset, ...]]] = {}
    for name in kinds:  # all of them before any work: what does not fit is refused before the first training
        preset = "published" if isinstance(name, str) else None
        fields_of_method = {o: v for o, v in options.items() if o in fields[name]}
        settled = resolve_run(
            RunSpec(splits, name, ipc=1, network=network, device=device, preset=preset, options=fields_of_method)
        )
        assert isinstance(settled.method, ScoringMethod)
        every[settled.name] = settled, settled.method, settled.method.assets(settled.problem)
    if out is not None:
        check_output(
            out, reads=[splits], force=force, found=lambda at: other_scores(at, every, splits.train.content_hash)
        )
    result: dict[str, MethodScores] = {}
    for name, (settled, made, specs) in every.items():
        begun, problem = time.monotonic(), settled.problem
        assets, _ = build_assets(
            specs, train, problem.network, lambda n: named_augmentation(n, train),
            executor=runner, progress=None if progress is None else partial(_named, progress, name),
        )  # fmt: skip
        columns = made.columns(dataclasses.replace(problem, assets=assets))
        config = dataclasses.asdict(settled.method)  # type: ignore[call-overload]
        result[name] = MethodScores(
            columns={n: values.detach().cpu().float() for n, values in columns.items()},
            config={n: value for n, value in config.items() if n not in made.selection_fields},
            seconds=round(time.monotonic() - begun, 3),
        )
    scores = Scores(
        source=train.name, content_hash=train.content_hash, labels=train.labels, classes=train.classes, methods=result,
        names=getattr(train, "names", ()), first_duplicate=duplicates(train), region=_regions(result),
    )  # fmt: skip
    if out is not None:
        write_scores(scores, Path(out), force=True)
    return scores


def _named(progress: Callback, name: str, _: str, done: int, total: int) -> None:
    progress(name, done, total)


def _kind(name: str | Method[Any]) -> Any:
    kind = registry.get_method_class(name) if isinstance(name, str) else type(name)
    if not _scores(kind):
        raise PotstillError(f"method {name} gives samples no numbers; those that do are {', '.join(scored_methods())}")
    return kind


def _regions(result: Mapping[str, MethodScores]) -> list[str]:
    if "cartography" not in result:
        return []
    columns = result["cartography"].columns
    where = regions(Cartography(columns["confidence"], columns["variability"], columns["correctness"]))
    return [REGIONS[r] for r in where.tolist()]


def duplicates(source: Source) -> Int[Tensor, " n"]:
    """The index of the first sample whose inputs are the same, bit for bit: its own, where none is before it.

    Raises:
        PotstillError: inputs are not one tensor.
    """
    found = Digests(len(source))
    for at in torch.split(torch.arange(len(source)), 1024):
        inputs = source.raw(at)
        if not isinstance(inputs, Tensor):
            raise PotstillError(f"duplicates are found among inputs of one tensor, but these have {', '.join(inputs)}")
        found.add(at, inputs)
    return found.first_positions()
