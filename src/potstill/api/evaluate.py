"""Measure a set on the real test split, beside its baselines at equal bytes."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from potstill._util.progress import ProgressReporter
from potstill.core import registry
from potstill.dataset_file import Distilled
from potstill.errors import PotstillWarning
from potstill.evaluation import Protocol, Scorecard, describe_data_mismatch
from potstill.evaluation import evaluate as measure
from potstill.evaluation.horizons import cut_for_set, cut_for_task
from potstill.execution import Executor, resolve_executor
from potstill.execution.memory import keep_freed_memory
from potstill.labels.teacher_file import open_labels
from potstill.nn import CustomNetwork, parse_network
from potstill.runs.arguments import CountCallback, count_callback, parse_baselines, progress_context
from potstill.runs.load_data import load_set_and_splits
from potstill.tasks import Task

__all__ = ["evaluate"]


def evaluate(
    distilled: Distilled | str | Path,
    data: Any,
    *,
    task: str | Task | None = None,
    protocol: str | Protocol = "potstill",
    networks: Sequence[str | CustomNetwork | Callable[..., Any]]
    | str
    | CustomNetwork
    | Callable[..., Any]
    | None = None,
    quick: bool = False,
    seeds: int | None = None,
    seed: int = 0,
    baselines: bool | Sequence[str] | str = True,
    full: bool = True,
    robust_scores: bool = True,
    stored: str | Path | None = None,
    weights: bool = True,
    decoder: Literal["counted", "shared"] = "counted",
    side_by_side: int | None = None,
    executor: Executor | str | None = None,
    device: str = "auto",
    progress: CountCallback = "auto",
    **overrides: Any,
) -> Scorecard:
    """Measure a distilled set against the real test split, beside its baselines at equal stored bytes.

    Args:
        distilled: a set, or the path of one, also of a file with the indices of a selection alone.
        data: the data that it was made of: anything `potstill.load_data` takes, read with the options in the set's
            metadata; or what it returned, with a test split.
        task: of forecasts another horizon, or other windows, to measure: ``forecast:horizon=6`` (the set, its baselines
            and all training data are cut alike). Default: the data's, which is the set's own where they are read here.
        protocol: a registered name (``potstill protocols`` lists them), or a `potstill.Protocol`.
        networks: students, one or several; the first is the headline, the others make the cross-architecture table.
            Names of networks, or of learners that are none (``linear-model``, ``forest``, ``ridge``, the closed forms
            ``krr-ntk``, ``nngp``, ``ridge-features``), classes and functions that make a ``torch.nn.Module``, or
            ``file.py:Net``. Default: the protocol's, else the network that the set was made with, unless that is a
            network of its maker's own.
        quick: shorten the protocol, to look at a set and not to report it (`potstill.Protocol.quick`): few students and
            epochs, no robust scores and no reference on the full data. Arguments that you give win over it.
        seeds: students per network, at least 1. Default: the protocol's number. The fingerprint stays the protocol's;
            ``n`` of the scorecard says how many there were.
        seed: seed of every draw: students, baselines, splits.
        baselines: measure real samples of the same stored bytes, random and selected (of pictures with texts:
            ``prototypes``). False saves their time. Names:
            measure these too, beside the default ones. ``model`` is a small quantised network in the same bytes,
            trained on all training data: what to ship where nothing has to be trained. ``arima`` and ``ets``, of
            forecasts: statsmodels' models fitted to the whole training series.
        full: measure a student of the full training data as a reference. False saves that time. The baseline
            random-soft trains its teacher on these data all the same; ``baselines=False`` leaves it out, too.
        robust_scores: compute the scores that compare with the full data and random samples at equal labels (``hlr``,
            ``ior``, ``lrs``, ``ars``). False saves their time.
        stored: file of a teacher's labels of this set, or of the teacher itself, as `potstill.label` writes it.
            Default: labels are computed here.
        weights: train with the set's weights where it has any; False: all samples count alike.
        decoder: bytes of what the set decodes by and its file lacks, such as a generator: ``counted``, so that real
            samples get as many more; or ``shared``, where readers have it already (docs/guides/generators.md).
        side_by_side: largest number of students trained as one network. Default: 32 on a GPU and 1 on a CPU.
        executor: where students and teachers are trained, as for `potstill.distill`. Default: as many processes as
            help.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: callback ``progress(name, done, total)``; ``auto``: show it on stderr; ``None``: silent.
        **overrides: fields of the protocol, e.g. ``epochs=100``; the fingerprint then differs.

    Returns:
        The scorecard: score with its interval, baselines, cost. ``print`` shows it as a table.

    Raises:
        PotstillError: the set does not fit the data, or there is no test split.

    Warns:
        PotstillWarning: the set was not made of this training data, so that it may hold samples that it is tested on.

    Examples:
        >>> small = potstill.distill("digits", "herding", ipc=1, progress=None)
        >>> score = potstill.evaluate(
        ...     small, "digits", networks="linear-model", seeds=1, baselines=False, full=False, progress=None,
        ...     robust_scores=False,
        ... )
        >>> 0 < score.accuracy < 1
        True
    """
    keep_freed_memory()
    several = [networks] if isinstance(networks, str | CustomNetwork) or callable(networks) else networks or ()
    extra = parse_baselines(baselines)
    small, splits = load_set_and_splits(distilled, data, device)
    chosen = registry.resolve("protocols", protocol) if isinstance(protocol, str) else protocol
    chosen = chosen.quick() if quick else chosen
    chosen = chosen.override(**overrides) if overrides else chosen
    if (doubt := describe_data_mismatch(small.metadata, cut_for_set(splits, small))) is not None:
        warnings.warn(doubt, PotstillWarning, stacklevel=2)
    small, splits = cut_for_task(small, splits, task)
    with progress_context(progress) as watcher:
        shown = progress == "auto" or isinstance(progress, ProgressReporter)  # else nobody would see a forecast
        watcher.begin("evaluation", _less(quick, full))
        return measure(
            small,
            splits,
            protocol=chosen,
            networks=[found for found in map(parse_network, several) if found is not None],
            seeds=seeds,
            seed=seed,
            baselines=baselines is not False,
            model="model" in extra,
            yardsticks=[name for name in extra if name != "model"],
            full=full and not quick,
            robust_scores=robust_scores and not quick,
            stored=None if stored is None else open_labels(stored),
            weights=weights,
            decoder=decoder,
            side_by_side=side_by_side,
            executor=resolve_executor(executor),
            progress=count_callback(progress, watcher),
            expect=(lambda s: watcher.expect("evaluation", s, "evaluation")) if shown else None,
        )


def _less(quick: bool, full: bool) -> str:
    """Return the arguments that shorten an evaluation, without those that were given."""
    if quick:
        return "a narrower network, such as convnet-w32"
    return "`quick=True`, `seeds=K` or `full=False`" if full else "`quick=True` or `seeds=K`"
