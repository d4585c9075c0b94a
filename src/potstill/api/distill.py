"""Distil a set: all choices of a run are made and checked before any work, then it runs."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.outputs import input_files
from potstill._util.time_limit import TimeLimit
from potstill.api.load_data import as_splits, pick_device
from potstill.augment.names import named_augmentation
from potstill.augment.zca import fit_normalization
from potstill.core import (
    Budget,
    Codec,
    InputSpec,
    Method,
    MethodInfo,
    Network,
    NetworkFactory,
    Preset,
    Problem,
    ScoringMethod,
    Source,
    label_mode,
)
from potstill.core.nested import to_device
from potstill.core.registry import make_method
from potstill.data import TensorSource
from potstill.dataset_file import Distilled, load
from potstill.dataset_file.output import SetOutput
from potstill.dataset_file.replacing import check_side_file
from potstill.dataset_file.scores import Scores, read_scores
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.execution import Executor, resolve_executor
from potstill.execution.memory import keep_freed_memory, return_freed_memory
from potstill.nn import CustomFactory, CustomNetwork, factory, parse_network
from potstill.parametrize.named_inputs import parse_parametrization
from potstill.runs.arguments import (
    StepCallback,
    parse_amount_and_time,
    parse_duration,
    parse_preset,
    parse_size_budget,
    progress_context,
)
from potstill.runs.budget import allocate_budget, describe_proportions, quantization_aware, resolve_codec
from potstill.runs.class_shards import check_shards
from potstill.runs.loggers import LogOption, logging_context
from potstill.runs.parts import (
    PARTS,
    apply_parts,
    default_network,
    default_parametrization,
    describe_omitted_augmentations,
)
from potstill.runs.runner import ResolvedRun, execute, run_identity
from potstill.runs.snapshots import check_snapshots
from potstill.tasks import Classification, get_task

__all__ = ["PARTS", "ResolvedRun", "default_network", "distill", "resolve_run", "run_identity"]


def distill(
    data: Any,
    method: str | Method[Any] = "dm",
    *,
    ipc: int | None = None,
    items: int | None = None,
    bytes: int | str | None = None,
    balance: str | None = None,
    preset: str | None = None,
    seed: int = 0,
    steps: int | None = None,
    time_limit: str | float | TimeLimit | None = None,
    network: str | CustomNetwork | Callable[..., Any] | None = None,
    parametrization: str | None = None,
    labels: str | None = None,
    augment: str | None = None,
    zca: str | None = None,
    codec: str | Codec | None = None,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    resume: bool = False,
    resume_anyway: bool = False,
    checkpoint_every: str | float = 60.0,
    progress: StepCallback = "auto",
    preparing: Callable[[str, int, int], None] | None = None,
    command: str | None = None,
    scores: Scores | str | Path | None = None,
    executor: Executor | str | None = None,
    networks: Any = None,
    experts: Any = None,
    initial: Distilled | str | Path | None = None,
    log: LogOption = None,
    snapshots: str | Path | None = None,
    class_shards: int | None = None,
    out: str | Path | None = None,
    force: bool = False,
    **options: Any,
) -> Distilled:
    """Make a distilled set of ``data``.

    Args:
        data: anything ``load_data`` takes, or what it returned. Only the training split is touched.
        method: a registered name, or a method as a value, e.g. ``DM(iterations=500)``; or ``auto``: chosen on a part
            held out of the training data, within ``time_limit`` (docs/auto.md), with fields of
            `potstill.automl.candidates.AutoOptions` as options.
        ipc: items per class; or ``items`` in all; or stored ``bytes``, as a number or text: ``20kB``.
        balance: how ``items`` and ``bytes`` are shared out: ``natural``, in proportion to the classes' samples and one
            of each at least (the default), or ``equal``, as many of each class, as ``ipc`` is.
        effort: how many steps a method that is named makes: ``quick`` (minutes on a laptop), ``good`` (about an hour)
            or ``published`` (what its paper says). Each is a number of steps that `potstill methods NAME` shows, so
            the same seed gives the same bits. Options that are given win over it. Default: ``quick``; ``published``
            where ``steps`` says when to stop. A method that is a value is run as it is.
        seed: decides every draw. The same seed gives the same bits on the CPU.
        steps: stop after this many steps of the driver.
        time_limit: stop after this much time, in seconds or as text: ``10m``. All that is done counts: loading, what
            is prepared before the first step (networks trained on the data), the search for bits of ``store="auto"``,
            which gets 30 % of it at most, and uint8 where that is too little. It changes no other setting.
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
        checkpoint_every: time between checkpoints: seconds, or text such as ``60s``.
        progress: called after every step; ``auto``: show on stderr how far it is and how long it will take, as a bar
            on a terminal and as a line every ten seconds elsewhere; ``None``: show nothing.
        preparing: called while what the method needs is made before the first step (networks trained on the data):
            what, how many are there, how many there will be.
        command: what a person would type to repeat this; kept on the card.
        scores: select by these numbers, as `potstill.score` made them, instead of making them: with its settings.
        executor: where independent jobs run (networks that are trained first, students that choose the store):
            ``serial``, ``processes``, or an `potstill.execution.Executor`. The bits do not depend on it. Default: as
            many processes as help.
        networks: trained ones, in place of those that the method would have trained: values
            (`potstill.core.Trained`) or paths of kept ones.
        experts: expert trajectories, in place of those that the method would have trained: files that an earlier run
            kept, published replay buffers (``replay_buffer_0.pt``), folders of either, or values
            (`potstill.pretraining.Trajectory`).
        initial: an earlier set, or its path: what is optimised starts from its inputs, in place of the method's own
            start. It has as many inputs of each class as this one will have.
        log: where settings, the numbers of steps and the result also go: ``tensorboard:DIR``, ``wandb:PROJECT``,
            ``mlflow:EXPERIMENT``, a `potstill.runs.loggers.Logger`, or several.
        film: a file for some inputs at a few steps, which `report` shows: a megabyte at most. Named as the set with
            ``.film`` behind, it is found. The set has the same bits.
        class_shards: make the classes in so many groups, each a job of the executor with a checkpoint of its own in
            the folder ``checkpoint`` (docs/how-to.md). For methods whose objective is a sum over classes, whose bits
            then depend on how many groups there are, in the order of sums; and for RDED and recoveries, whose bits
            are those of the undivided run.
        out: file to which the set is also written, ``….safetensors``. What is there is looked at before any work: a set
            of this same run is replaced; with ``resume`` and without a checkpoint it is the answer.
        force: replace what is there, whatever it is, but for a file that is read.
        **options: fields of the method.

    Raises:
        PotstillError: something asked for does not exist, does not fit together or does not suit the data; or what
            must be prepared does not fit into the time limit.
        Interrupted: a signal came; ``checkpoint`` holds the run.
    """
    keep, seconds = parse_amount_and_time(ipc, items, bytes, time_limit, balance)
    reads = (data, method, network, scores, experts, networks, initial)
    output = _output(out, reads, force, resume or resume_anyway, checkpoint)
    if output is not None and checkpoint is not None and not Path(checkpoint).exists():
        resume = resume_anyway = False  # there is nothing to go on with: what is there is the answer, or it begins
    check_side_file(checkpoint, reads, "checkpoint")
    check_side_file(snapshots, reads, "film")
    if steps is not None and (not isinstance(steps, int) or steps < 0):
        raise PotstillError(
            f"steps must be a whole number of at least 0, but they are {steps!r}; leave them out for all that there are"
        )
    checkpoint = None if checkpoint is None else Path(checkpoint)
    every = parse_duration(checkpoint_every, "checkpoint_every")
    if method == "auto":
        from potstill.automl.auto import choose  # which makes its sets with this module

        _only_for_one(
            steps=steps, effort=preset, parametrization=parametrization, labels=labels, augment=augment, zca=zca,
            scores=scores, networks=networks, experts=experts, initial=initial, log=log, film=snapshots,
            class_shards=class_shards,
        )  # fmt: skip
        with progress_context(progress) as watcher:
            return choose(
                data, keep, seconds, watcher, options, seed=seed, network=network, store=codec, device=device,
                executor=resolve_executor(executor), command=command,
                progress=progress if callable(progress) and progress is not watcher else None,
                checkpoint=checkpoint, resume=resume or resume_anyway, anyway=resume_anyway, output=output,
            )  # fmt: skip
    if checkpoint is not None and class_shards is None and checkpoint.is_dir():
        raise PotstillError(
            f"{checkpoint}: a folder, as a choice of method auto or class shards leave under way, but a checkpoint is "
            "a file; resume that run, or remove the folder"
        )
    if class_shards is not None and (seconds is not None or snapshots is not None):
        raise PotstillError(
            f"class shards go on by themselves, so {'a time limit' if snapshots is None else 'a film'} cannot be kept "
            f"over all of them; {'say steps instead' if snapshots is None else 'leave film out'}"
        )
    hard = parse_preset(preset, method, steps)
    if (table := read_scores(scores) if isinstance(scores, str | Path) else scores) is not None:
        network, augment, options = _as_scored(table, method, network, augment, zca, options)
    settled = resolve_run(
        data, method, ipc=None, size_budget=keep, network=network, parametrization=parametrization, labels=labels,
        augment=augment, zca=zca, store=codec, device=device, effort=hard, **options,
    )  # fmt: skip
    if snapshots is not None:
        check_snapshots(settled.name, settled.method, settled.problem.train)
    if class_shards is not None:
        check_shards(settled.name, settled.method, settled.problem, class_shards)
    if initial is not None:
        settled = _from(settled, initial if isinstance(initial, Distilled) else load(initial))
    settled = dataclasses.replace(settled, files=(*settled.files, *input_files(reads)))
    if output is not None:
        output.check(settled.files)
    with (
        progress_context(progress) as watcher,
        logging_context(log, lambda: _settings(settled, seed), watcher.warn) as (told, ended),
    ):
        shown = progress if callable(progress) else watcher
        small = execute(
            settled, watcher, seconds, seed=seed, steps=steps, zca=zca, checkpoint=checkpoint,
            resume=resume or resume_anyway, anyway=resume_anyway, checkpoint_every=every,
            progress=shown if told is None else _both(shown, told), preparing=preparing or watcher.report_count,
            command=command, table=table, executor=resolve_executor(executor),
            film=None if snapshots is None else Path(snapshots), class_shards=class_shards, output=output,
            given={name: value for name, value in (("networks", networks), ("experts", experts)) if value is not None},
        )  # fmt: skip
        card = small.metadata
        ended({
            "items": len(small), "bytes": card["bytes"]["total"], "seconds": card["cost"]["seconds"],
            "outcome": card["outcome"]["kind"],
        })  # fmt: skip
        if output is not None and small.path is None:
            return_freed_memory()  # the state is gone, and the file is written as one piece
            output.write(small)
        return small


def _output(
    out: str | Path | None, reads: tuple[Any, ...], force: bool, resume: bool, checkpoint: str | Path | None
) -> SetOutput | None:
    """Return where the set will be written, checked as far as it can be before the data are read."""
    if out is None:
        return None
    going_on = checkpoint is not None and Path(checkpoint).exists()
    made = SetOutput(path=Path(out), force=force, resume=resume and not going_on)
    made.check(reads)
    return made


def _both(first: Callable[[Any], None], second: Callable[[Any], None]) -> Callable[[Any], None]:
    def tell(seen: Any) -> None:
        first(seen)
        second(seen)

    return tell


def _settings(settled: ResolvedRun, seed: int) -> dict[str, Any]:
    """What a log says of a run before its first step."""
    train = settled.problem.train
    fields: Mapping[str, Any] = dataclasses.asdict(settled.method)  # type: ignore[call-overload]
    said = {"method": settled.name, "data": train.name, "data.hash": train.content_hash, "seed": seed}
    said |= {"items": sum(settled.problem.counts), "effort": settled.effort or "given"}
    return {**said, **{f"config.{name}": value for name, value in fields.items()}}


def _only_for_one(**asked: Any) -> None:
    """
    Raises:
        PotstillError: something is asked for that goes with one method that is named.
    """
    if said := next((name for name, value in asked.items() if value is not None), None):
        raise PotstillError(
            f"auto chooses the method and what goes with it, but {said} was given; leave it out, name one method, or "
            "write it into candidates"
        )


def _from(settled: ResolvedRun, earlier: Distilled) -> ResolvedRun:
    """The run that starts from an earlier set's decoded inputs.

    Raises:
        PotstillError: the method has no start to choose, or the set is of other classes, shapes or counts.
    """
    problem, x, why = settled.problem, earlier.inputs, ""
    if not hasattr(settled.method, "start"):
        why = f"{settled.name} has no start to choose"
    elif not isinstance(x, Tensor) or not problem.train.classes or x.shape[1:] != problem.train.input.shape:
        why = f"its inputs are not the data's, of shape {problem.train.input.shape}"
    elif tuple(earlier.metadata["classes"]) != problem.train.classes:
        why = "its classes are not the data's"
    else:
        found = torch.bincount(earlier.hard_labels, minlength=problem.num_classes).tolist()
        if found != list(problem.sizes):
            why = f"it has {found} inputs of the classes, but this one will have {list(problem.sizes)}"
    if why or not isinstance(x, Tensor):
        raise PotstillError(f"a run cannot start from this set: {why}; leave initial out, or give one that fits")
    order = torch.argsort(earlier.hard_labels, stable=True)
    said = {"method": str(earlier.metadata["method"]), "hash": hash_tensors({"inputs": x, "labels": earlier.labels})}
    return dataclasses.replace(settled, problem=dataclasses.replace(problem, initial=x[order]), initial=said)


def _as_scored(
    table: Scores, method: str | Method[Any], network: Any, augment: str | None, zca: str | None,
    options: Mapping[str, Any],
) -> tuple[Any, str | None, dict[str, Any]]:  # fmt: skip
    """The choices with which scores were made, where nothing else was asked for: network, augmentation, options.

    Raises:
        PotstillError: the method does not select by scores or has none here, or something else was asked for.
    """
    name, made = make_method(method, {})
    if not isinstance(made, ScoringMethod):
        raise PotstillError(f"method {name} does not select by scores; leave the scores out, or choose one that does")
    if name not in table.methods:
        raise PotstillError(
            f"these scores are of {', '.join(table.methods)}, not of {name}; choose one of them, or make them with "
            f"potstill score --methods {name}"
        )
    if zca is not None:
        raise PotstillError("scores are made on inputs that are not whitened; leave zca out")
    config, own = table.methods[name].config, parse_network(network)
    network = str(own) if isinstance(own, CustomNetwork) else network
    asked = {"network": network, "augment": augment, **options}
    if not isinstance(method, str):
        asked |= {n: getattr(made, n) for n in config if n not in PARTS and n not in options}
    for option, value in asked.items():
        if value is not None and option in config and value != config[option]:
            raise PotstillError(
                f"these scores were made with {option} {config[option]!r}, but {value!r} is asked for; leave it out, "
                "or score anew"
            )
    said = {n: value for n, value in config.items() if n not in PARTS}
    trained = own if isinstance(own, CustomNetwork) else config.get("network", network)
    return trained, config.get("augment", augment), {**said, **options}


def resolve_run(
    data: Any,
    method: str | Method[Any],
    *,
    ipc: int | None,
    size_budget: Budget | None,
    network: str | CustomNetwork | Callable[..., Any] | None,
    parametrization: str | None,
    labels: str | None,
    augment: str | None,
    zca: str | None,
    device: str,
    store: str | Codec | None = None,
    effort: Preset | None = None,
    **options: Any,
) -> ResolvedRun:
    """All choices of a run, checked, before any work: what `distill` begins with. Arguments and errors as there."""
    keep_freed_memory()
    own = parse_network(network)
    splits = as_splits(data, pick_device(device))
    return_freed_memory()
    train = splits.train
    name, base = make_method(method, options, effort)
    axes = {"network": None if own is None else str(own), "augment": augment, "parametrization": parametrization}
    made = apply_parts(name, base, train, {**axes, "labels": labels})
    info, task = made.info, get_task(train)
    _check_suits(name, info, train)
    if "*" not in info.kinds and train.input.kind not in info.kinds:
        raise PotstillError(
            f"method {name} works on {' and '.join(info.kinds)} data, but this is {train.input.kind} data"
        )
    chosen: tuple[str, ...] = ()
    if parametrization is None:
        made, chosen = default_parametrization(name, made, train, named=isinstance(method, str))
    if zca is not None:
        train = _whitened(train, zca)
    wanted = parse_size_budget(ipc=ipc, budget=size_budget)
    if wanted.unit == "ipc" and not train.classes:
        raise PotstillError(
            f"{train.name} has no classes ({task.name}), so there are no items per class; say how many in all, with "
            f"`items={wanted.amount}`"
        )
    parts = {axis: getattr(made, axis, None) for axis in ("augment", "parametrization")}
    decoder = parse_parametrization(parts["parametrization"] or "pixels", train.input)
    soft = info.soft_labels or label_mode(made) != "hard"
    few = to_device(train.raw(torch.arange(min(len(train), 8))), "cpu")
    plain = isinstance(task, Classification) and isinstance(few, Tensor)
    written, limit = resolve_codec(store, wanted, decoder, info.is_selection, few, plain)
    asks = own or getattr(made, "network", None)
    make: NetworkFactory = Without(train.input, train.device)
    if asks is not None or not train.input.parts or default_network(train) != "mlp":
        asked = asks or default_network(train)
        make = factory(asked, train.input, task.outputs, train.device, normalization=train.normalization)
    if (
        info.family in ("gradient", "trajectory")
        and isinstance(make, CustomFactory)
        and make.second_order_error is not None
    ):
        raise PotstillError(
            f"method {name} differentiates gradients, but those of network {make.name} cannot be "
            f"({make.second_order_error}); choose dm, or another network"
        )
    if getattr(made, "start", None) == "noise" and not train.classes and "start" not in options:
        made = dataclasses.replace(made, start="real")  # type: ignore[type-var]
        chosen += (f"start real: noise, which {name} has by default, has no targets of {task.name}",)
    if (usual := getattr(base, "network", None)) != (used := getattr(made, "network", None)) and own is None:
        chosen += (
            f"network {used}: {usual}, which {name} has by default, takes pictures, and this is a {train.input.kind}",
        )
    chosen += describe_omitted_augmentations(made, train)
    problem = Problem(
        train=train,
        counts=(1,) * max(1, len(train.classes)),
        network=make,
        augment=named_augmentation(parts["augment"] or "none", train),
        parametrization=decoder,
    )
    counts, numbers = allocate_budget(problem, wanted, limit, info, soft, scores=label_mode(made) == "scores")
    rounds = quantization_aware(decoder, written, info.is_selection)
    problem = dataclasses.replace(problem, counts=counts, value_budget=numbers, parametrization=rounds)
    chosen += describe_proportions(wanted, problem, info)
    if not info.is_selection:
        decoder.sizes(
            problem.values_per_class, train.input.shape
        )  # a budget that holds nothing is refused before all the work
    made, said = made.resolve_defaults(problem)
    return ResolvedRun(
        name=name, method=made, problem=problem, read=splits.notes, reading=splits.reading, chosen=(*chosen, *said),
        effort=effort, store=written, balance=wanted.balance_name, files=splits.files,
    )  # fmt: skip


def _check_suits(name: str, info: MethodInfo, train: Source) -> None:
    """The method must do the source's task, and take inputs with names where it has such.

    Raises:
        PotstillError: it does not.
    """
    task = get_task(train)
    if not {"*", task.name} & set(info.tasks):
        raise PotstillError(
            f"method {name} does {' and '.join(info.tasks)}, but {train.name} is {task.name}; `potstill methods` says "
            "what each does"
        )
    if train.input.parts and not info.multi_input:
        names = ", ".join(part for part, _ in train.input.parts)
        raise PotstillError(
            f"method {name} takes inputs of one tensor, but those of {train.name} have names ({names}); `potstill "
            "methods` says which ones take such"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Without:
    """In place of a network where none is named for inputs with names."""

    input: InputSpec
    device: torch.device

    @property
    def name(self) -> str:
        return "none"

    def __call__(self, seed: int, /) -> Network:
        """
        Raises:
            PotstillError: always.
        """
        names = ", ".join(part for part, _ in self.input.parts)
        raise PotstillError(f"inputs with names ({names}) need a network of their own; name one with `network=`")


def _whitened(train: Source, family: str) -> Source:
    """The source with a whitening fitted on all its inputs in place of its normalization."""
    inputs = train.raw(torch.arange(len(train))) if isinstance(train, TensorSource) else None
    if not isinstance(inputs, Tensor) or not isinstance(train, TensorSource):
        raise PotstillError("whitening needs inputs of one tensor that are held in memory; leave zca out for these")
    return dataclasses.replace(train, normalization=fit_normalization(inputs, family))
