"""The public verbs: load data, distil, evaluate. They tie the parts together and hold no arithmetic."""

import dataclasses
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill import registry
from potstill.amounts import amounts, rounding, writing
from potstill.asked import Counting, Watching, asked_amounts, asked_effort, kept, renamed, watched
from potstill.augment.named import augmentation_name, named_augmentation
from potstill.augment.zca import fit_normalization
from potstill.core import (
    Budget,
    Effort,
    Method,
    Parametrization,
    Problem,
    Scored,
    Source,
    Splits,
    Store,
)
from potstill.data import TensorSource
from potstill.data import load as load_splits
from potstill.errors import PotstillError, PotstillWarning
from potstill.evaluation import Protocol, Scorecard, not_made_of
from potstill.evaluation import evaluate as measure
from potstill.execution.memory import keep_freed_memory, return_freed_memory
from potstill.nn import OwnFactory, OwnNetwork, factory, given
from potstill.registry import make_method
from potstill.reports import collect, render, write
from potstill.running import Settled, identity_of, run_settled
from potstill.storage import Distilled, holds_indices, load, rebuild
from potstill.storage.scores import Scores, read_scores
from potstill.supervise.teacher_store import open_labels
from potstill.watch import Watcher

__all__ = [
    "Settled",
    "as_splits",
    "default_network",
    "distill",
    "evaluate",
    "identity_of",
    "load_data",
    "pick_device",
    "report",
    "settle",
]

AXES = ("network", "augment", "parametrization", "labels")
"""The fields of a method that name a part, and that have an option of their own."""


def pick_device(device: str) -> torch.device:
    """``auto`` is the first GPU if there is one.

    Raises:
        PotstillError: the device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise PotstillError(f"device {device!r} was asked for, but torch finds no GPU; use device auto or cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise PotstillError(f"device must be auto, cpu or cuda, not {device!r}") from error


def load_data(
    data: object,
    *,
    label: str | None = None,
    data_root: str | Path | None = None,
    split_seed: int = 0,
    test_fraction: float = 0.2,
    size: int | tuple[int, int] | None = None,
    skip_bad: bool = False,
    stream: bool | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Splits:
    """Real data as sources: a training split, a test split, and notes on what was decided.

    Args:
        data_root: where the files of known names are; else ``$POTSTILL_DATA``, else the system's folders.
        split_seed: draws the test split where the data has none. Keep it the same for one data set.
        data, label, test_fraction, size, skip_bad, stream, device, options: as for `potstill.data.load`.

    Raises:
        PotstillError: with one line on what was required, what was found and what to change.
    """
    old = {"seed": "split_seed", "root": "data_root"}
    drawn, root = renamed(options, old, split_seed=split_seed or None, data_root=data_root)
    return load_splits(
        data, label=label, root=root, seed=drawn or 0, test_fraction=test_fraction, size=size, skip_bad=skip_bad,
        stream=stream, device=device, **options,
    )  # fmt: skip


def as_splits(data: Any, device: torch.device) -> Splits:
    """``data`` as splits on ``device``: what ``load_data`` takes, or what it returned."""
    splits = data if isinstance(data, Splits) else load_data(data)
    test = None if splits.test is None else splits.test.to(device)
    return Splits(train=splits.train.to(device), test=test, notes=splits.notes)


def default_network(source: Source) -> str:
    """The network used where none is named: the field's ConvNet for pictures, an MLP for anything flat."""
    return "convnet" if source.input.kind == "image" else "mlp"


def _with_axes(name: str, method: Method[Any], source: Source, asked: Mapping[str, str | None]) -> Method[Any]:
    """The method with the parts that were asked for; defaults that only suit pictures give way for other data."""
    fields: Mapping[str, Any] = dataclasses.asdict(method)  # type: ignore[call-overload]
    changes: dict[str, str] = {}
    for axis, value in asked.items():
        if axis in fields:
            if value is not None:
                made = make_method(method, {axis: value})[1]  # checks the choice where the method names its choices
                changes[axis] = getattr(made, axis)
        elif axis == "labels" and value in (None, "soft" if method.info.soft else "hard"):
            continue
        elif axis != "network" and value is not None:
            raise PotstillError(f"method {name} has no {axis} to choose, but {value!r} was asked for; leave it out")
    if "network" in fields and asked.get("network") is None:
        chosen = fields["network"]
        changes["network"] = default_network(source) if chosen == "convnet" else chosen
    if "augment" in fields:
        chosen = asked.get("augment") or (fields["augment"] if source.input.kind == "image" else "none")
        changes["augment"] = augmentation_name(chosen, source.input)
    return dataclasses.replace(method, **changes)  # type: ignore[type-var]


def distill(
    data: Any,
    method: str | Method[Any] = "dm",
    *,
    ipc: int | None = None,
    items: int | None = None,
    bytes: int | str | None = None,
    effort: str | None = None,
    seed: int = 0,
    steps: int | None = None,
    budget: str | float | Budget | None = None,
    network: str | OwnNetwork | Callable[..., Any] | None = None,
    parametrization: str | None = None,
    labels: str | None = None,
    augment: str | None = None,
    zca: str | None = None,
    store: str | Store | None = None,
    device: str = "auto",
    checkpoint: Path | None = None,
    resume: bool = False,
    resume_anyway: bool = False,
    checkpoint_every: float = 60.0,
    progress: Watching = "auto",
    preparing: Callable[[str, int, int], None] | None = None,
    command: str | None = None,
    scores: Scores | str | Path | None = None,
    **options: Any,
) -> Distilled:
    """Make a distilled set of ``data``.

    Args:
        data: anything ``load_data`` takes, or what it returned. Only the training split is touched.
        method: a registered name, or a method as a value, e.g. ``DM(iterations=500)``.
        ipc: items per class; or ``items`` in all; or stored ``bytes``, as a number or text: ``20kB``.
        effort: how many steps a method that is named makes: ``quick`` (minutes on a laptop), ``good`` (about an hour)
            or ``published`` (what its paper says). Each is a number of steps that `potstill methods NAME` shows, so
            the same seed gives the same bits. Options that are given win over it. Default: ``quick``; ``published``
            where ``steps`` or ``budget`` says when to stop. A method that is a value is run as it is.
        seed: decides every draw. The same seed gives the same bits on the CPU.
        steps: stop after this many steps of the driver.
        budget: stop after this much time, in seconds or as text: ``10m``. What is prepared before the first step
            (networks trained on the data) counts.
        network, parametrization, labels, augment: parts, in place of the method's own. A network may also be a class or
            function of your own that makes a ``torch.nn.Module``, or ``file.py:Net`` (docs/own-networks.md).
        zca: whiten the inputs as ``mtt``, ``frepo`` or ``kip`` do; the transform is stored with the set.
        store: how values are written (docs/storage.md): ``float32``, ``float16``, ``uint8``, ``uint4``, ``uint2`` …, or
            ``auto``: the fewest bits that cost no accuracy that can be told on a part of the training data. ``auto`` is
            the default for sets that are made. Samples that are chosen keep their own precision by default, and a
            budget in ``bytes`` is one of 4 bits a value (8 where the parametrization is no picture). A set of 1 bit
            is rounded while it is made, straight through; of more bits where ``uint2:aware=true`` is said.
        device: ``auto``, ``cpu`` or ``cuda``.
        checkpoint: where the unfinished run is kept; with it SIGINT and SIGTERM end the run after the step under way.
        resume: continue the run in ``checkpoint``.
        resume_anyway: continue it also where other versions or kernels computed it until there; the card says so.
        checkpoint_every: seconds between checkpoints.
        progress: called after every step; ``auto``: show on stderr how far it is and how long it will take, as a bar
            on a terminal and as a line every ten seconds elsewhere; ``None``: show nothing.
        preparing: called while what the method needs is made before the first step (networks trained on the data):
            what, how many are there, how many there will be.
        command: what a person would type to repeat this; kept on the card.
        scores: select by these numbers, as `potstill.score` made them, instead of making them: with its settings.
        **options: fields of the method.

    Raises:
        PotstillError: something asked for does not exist, does not fit together or does not suit the data; or what
            must be prepared does not fit into the budget.
        Interrupted: a signal came; ``checkpoint`` holds the run.
    """
    keep, seconds = asked_amounts(ipc, items, bytes, budget, options)
    if steps is not None and (not isinstance(steps, int) or steps < 0):
        raise PotstillError(
            f"steps must be a whole number of at least 0, but they are {steps!r}; leave them out for all that there are"
        )
    hard = asked_effort(effort, method, steps, seconds)
    if (table := read_scores(scores) if isinstance(scores, str | Path) else scores) is not None:
        network, augment, options = _as_scored(table, method, network, augment, zca, options)
    settled = settle(
        data, method, ipc=None, budget=keep, network=network, parametrization=parametrization, labels=labels,
        augment=augment, zca=zca, store=store, device=device, effort=hard, **options,
    )  # fmt: skip
    with watched(progress) as watcher:
        return run_settled(
            settled, watcher, seconds, seed=seed, steps=steps, zca=zca, checkpoint=checkpoint,
            resume=resume or resume_anyway, anyway=resume_anyway, checkpoint_every=checkpoint_every,
            progress=progress if callable(progress) else watcher, preparing=preparing or watcher.count,
            command=command, table=table,
        )  # fmt: skip


def _as_scored(
    table: Scores, method: str | Method[Any], network: Any, augment: str | None, zca: str | None,
    options: Mapping[str, Any],
) -> tuple[Any, str | None, dict[str, Any]]:  # fmt: skip
    """The choices with which scores were made, where nothing else was asked for: network, augmentation, options.

    Raises:
        PotstillError: the method does not select by scores or has none here, or something else was asked for.
    """
    name, made = make_method(method, {})
    if not isinstance(made, Scored):
        raise PotstillError(f"method {name} does not select by scores; leave the scores out, or choose one that does")
    if name not in table.methods:
        raise PotstillError(
            f"these scores are of {', '.join(table.methods)}, not of {name}; choose one of them, or make them with "
            f"potstill score --methods {name}"
        )
    if zca is not None:
        raise PotstillError("scores are made on inputs that are not whitened; leave zca out")
    config, own = table.methods[name].config, given(network)
    network = str(own) if isinstance(own, OwnNetwork) else network
    asked = {"network": network, "augment": augment, **options}
    if not isinstance(method, str):
        asked |= {n: getattr(made, n) for n in config if n not in AXES and n not in options}
    for option, value in asked.items():
        if value is not None and option in config and value != config[option]:
            raise PotstillError(
                f"these scores were made with {option} {config[option]!r}, but {value!r} is asked for; leave it out, "
                "or score anew"
            )
    said = {n: value for n, value in config.items() if n not in AXES}
    trained = own if isinstance(own, OwnNetwork) else config.get("network", network)
    return trained, config.get("augment", augment), {**said, **options}


def settle(
    data: Any,
    method: str | Method[Any],
    *,
    ipc: int | None,
    budget: Budget | None,
    network: str | OwnNetwork | Callable[..., Any] | None,
    parametrization: str | None,
    labels: str | None,
    augment: str | None,
    zca: str | None,
    device: str,
    store: str | Store | None = None,
    effort: Effort | None = None,
    **options: Any,
) -> Settled:
    """All choices of a run, checked, before any work: what `distill` begins with. Arguments and errors as there."""
    keep_freed_memory()
    own = given(network)
    splits = as_splits(data, pick_device(device))
    return_freed_memory()
    train = splits.train
    name, base = make_method(method, options, effort)
    made = _with_axes(
        name,
        base,
        train,
        {
            "network": None if own is None else str(own),
            "augment": augment,
            "parametrization": parametrization,
            "labels": labels,
        },
    )
    info = made.info
    if "*" not in info.kinds and train.input.kind not in info.kinds:
        raise PotstillError(
            f"method {name} works on {' and '.join(info.kinds)} data, but this is {train.input.kind} data"
        )
    if zca is not None:
        train = _whitened(train, zca)
    wanted = kept(ipc=ipc, budget=budget)
    parts = {axis: getattr(made, axis, None) for axis in ("augment", "parametrization")}
    decoder: Parametrization = registry.part("parametrizations", parts["parametrization"] or "pixels")
    soft = info.soft or getattr(made, "labels", "hard") != "hard"
    few = train.raw(torch.arange(min(len(train), 8)))
    if not isinstance(few, Tensor):
        raise PotstillError(f"only inputs of one tensor can be stored, but these have {', '.join(few)}")
    written, limit = writing(store, wanted, decoder, info.selects, few.cpu())
    make = factory(
        own or getattr(made, "network", None) or default_network(train), train.input, len(train.classes), train.device
    )
    if info.family in ("gradient", "trajectory") and isinstance(make, OwnFactory) and make.once_only is not None:
        raise PotstillError(
            f"method {name} differentiates gradients, but those of network {make.name} cannot be ({make.once_only}); "
            "choose dm, or another network"
        )
    chosen: tuple[str, ...] = ()
    if (usual := getattr(base, "network", None)) != (used := getattr(made, "network", None)) and own is None:
        chosen += (
            f"network {used}: {usual}, which {name} has by default, takes pictures, and this is a {train.input.kind}",
        )
    problem = Problem(
        train=train,
        counts=(1,) * len(train.classes),
        network=make,
        augment=named_augmentation(parts["augment"] or "none", train),
        parametrization=decoder,
    )
    counts, numbers = amounts(problem, wanted, limit, info, soft)
    rounds = rounding(decoder, written, info.selects)
    problem = dataclasses.replace(problem, counts=counts, numbers=numbers, parametrization=rounds)
    if not info.selects:
        decoder.sizes(problem.held, train.input.shape)  # a budget that holds nothing is refused before all the work
    made, said = made.settled(problem)
    return Settled(
        name=name, method=made, problem=problem, read=splits.notes, chosen=(*chosen, *said), effort=effort,
        store=written,
    )  # fmt: skip


def _whitened(train: Source, family: str) -> Source:
    """The source with a whitening fitted on all its inputs in place of its normalization."""
    inputs = train.raw(torch.arange(len(train))) if isinstance(train, TensorSource) else None
    if not isinstance(inputs, Tensor) or not isinstance(train, TensorSource):
        raise PotstillError("whitening needs inputs of one tensor that are held in memory; leave zca out for these")
    return dataclasses.replace(train, normalization=fit_normalization(inputs, family))


def evaluate(
    distilled: Distilled | str | Path,
    data: Any,
    *,
    protocol: str | Protocol = "potstill",
    network: Sequence[str | OwnNetwork | Callable[..., Any]] | str | OwnNetwork | Callable[..., Any] | None = None,
    quick: bool = False,
    seeds: int | None = None,
    seed: int = 0,
    baselines: bool = True,
    full: bool = True,
    robust_scores: bool = True,
    stored: str | Path | None = None,
    weights: bool = True,
    side_by_side: int | None = None,
    device: str = "auto",
    progress: Counting = "auto",
    **overrides: Any,
) -> Scorecard:
    """Measure a distilled set against the real test split, beside its baselines at equal stored bytes.

    Args:
        distilled: a set, or the path of one, also of one that holds the indices of a selection alone.
        data: what it was made of: anything ``load_data`` takes, or what it returned, with a test split.
        protocol: a registered name, or a protocol as a value.
        network: which students, one or several; the first is the headline, the others make the cross-architecture
            table. Names, or classes and functions of your own that make a ``torch.nn.Module``, or ``file.py:Net``. By
            default the protocol's, else the one that the set was made with, unless that is its maker's own.
        quick: a shorter protocol that says so, to look at a set and not to report it (`Protocol.quick`): few students
            and epochs, no robust scores and no reference on the full data. What is given besides wins over it.
        seeds: students per network.
        baselines, full, robust_scores: leave these out to be done sooner.
        stored: a file of a teacher's labels of this set, or of the teacher itself, as `label` writes it.
        weights: train with the set's weights where it has any; ``False``: all samples alike.
        side_by_side: students trained as one network, at most; by default 32 on a GPU and 1 on a CPU.
        progress: called with what is being trained, how much is done, and of how much; ``auto``: show it on stderr;
            ``None``: show nothing.
        **overrides: fields of the protocol's recipe, e.g. ``epochs=100``; the fingerprint then differs.

    Raises:
        PotstillError: the set does not fit the data, or there is no test split.

    Warns:
        PotstillWarning: the set was not made of this training data, so that it may hold samples that it is tested on.
    """
    keep_freed_memory()
    (asked,) = renamed(overrides, {"networks": "network"}, network=network)
    several = [asked] if isinstance(asked, str | OwnNetwork) or callable(asked) else asked or ()
    indices = Path(distilled) if isinstance(distilled, str | Path) and holds_indices(Path(distilled)) else None
    small = load(distilled) if isinstance(distilled, str | Path) and indices is None else distilled
    splits = as_splits(data, pick_device(device))
    if indices is not None:
        small = rebuild(indices, splits.train)
    assert isinstance(small, Distilled)
    chosen = registry.resolve("protocols", protocol) if isinstance(protocol, str) else protocol
    chosen = chosen.quick() if quick else chosen
    chosen = chosen.override(**overrides) if overrides else chosen
    if (doubt := not_made_of(small.card["source"], splits.train)) is not None:
        warnings.warn(doubt, PotstillWarning, stacklevel=2)
    with watched(progress) as watcher:
        shown = progress == "auto" or isinstance(progress, Watcher)  # else nobody would see a forecast
        watcher.begin("evaluation", "--quick, --seeds K or --no-full" if watcher.line else "quick=True or seeds=K")
        return measure(
            small,
            splits,
            protocol=chosen,
            networks=[found for found in map(given, several) if found is not None],
            seeds=seeds,
            seed=seed,
            baselines=baselines,
            full=full and not quick,
            robust_scores=robust_scores and not quick,
            stored=None if stored is None else open_labels(stored),
            weights=weights,
            side_by_side=side_by_side,
            progress=progress if callable(progress) and not isinstance(progress, Watcher) else watcher.count,
            expect=(lambda s: watcher.expect("evaluation", s, "evaluation")) if shown else None,
        )


def report(paths: Sequence[str | Path] | str | Path, out: str | Path) -> Path:
    """Write one self-contained page about sets, scorecards or a folder of them.

    Args:
        paths: files or folders of results.
        out: the page, ``….html``.

    Raises:
        PotstillError: nothing to report there, or ``out`` cannot be written.
    """
    several = [paths] if isinstance(paths, str | Path) else paths
    entries = collect([Path(p) for p in several], _arrays)
    title = entries[0].name if len(entries) == 1 else Path(several[0]).resolve().name
    command = shlex.join(["potstill", "report", *map(str, several), "--out", str(out)])
    write(render(entries, title=title, command=command), Path(out))
    return Path(out)


def _arrays(path: Path) -> Mapping[str, Any]:
    """What a page shows of a set, for pages know no torch."""
    small = load(path)
    held = {"inputs": small.inputs, "labels": small.labels, "weights": small.weights, "index": small.index}
    return {name: tensor.numpy() for name, tensor in held.items() if tensor is not None}
