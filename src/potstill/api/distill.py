"""`potstill.distill`, and `potstill.run`, which takes the same choices as three values."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from potstill._util.time_limit import TimeLimit
from potstill.automl.auto import distil_automatically
from potstill.core import Codec, Method
from potstill.dataset_file import Distilled
from potstill.dataset_file.output import SetOutput
from potstill.dataset_file.replacing import check_side_file
from potstill.dataset_file.scores import Scores
from potstill.errors import PotstillError
from potstill.execution import Executor
from potstill.execution.memory import return_freed_memory
from potstill.runs.arguments import StepCallback, progress_context
from potstill.runs.loggers import LogOption
from potstill.runs.resolve import resolve_run
from potstill.runs.runner import execute
from potstill.runs.snapshots import check_snapshots
from potstill.runs.spec import NetworkOption, RunIO, RunLimits, RunSpec

__all__ = ["distill", "run"]

T = TypeVar("T")


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
    network: NetworkOption = None,
    parametrization: str | None = None,
    labels: str | None = None,
    augment: str | None = None,
    zca: str | None = None,
    codec: str | Codec | None = None,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    resume: bool | Literal["force"] = False,
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
    """Distil a small set from ``data``.

    The arguments are fields of `RunSpec`, `RunLimits` and `RunIO`, which `run` takes as values.

    Args:
        data: anything `potstill.load_data` takes, or what it returned. Only the training split is read.
        method: a registered name, or a method as a value, e.g. ``DM(iterations=500)``; or ``auto``: chosen on a part
            held out of the training data, within ``time_limit`` (docs/auto.md), with fields of
            `potstill.automl.candidates.AutoOptions` as options.
        ipc: items per class; or ``items`` in all; or stored ``bytes``, as a number or text: ``20kB``.
        balance: how ``items`` and ``bytes`` are divided among classes: ``natural``, in proportion to the classes'
            samples and at least one of each (default), or ``equal``.
        preset: fields of a method given by name: ``quick`` (minutes on a laptop), ``good`` (about an hour) or
            ``published`` (its paper's). Each is a number of steps that `potstill methods NAME` shows. Options that are
            given win over it. Default: ``quick``; ``published`` where ``steps`` is given.
        seed: seed of every draw. The same seed gives the same bits on the CPU.
        steps: stop after this many steps.
        time_limit: stop after this much time, in seconds or as text: ``10m``. Loading, preparation (networks trained
            first) and the search for bits of ``codec="auto"`` count; the search gets 30 % of it at most, and the set
            is written as uint8 where that is too little. It changes no other setting.
        network, parametrization, labels, augment: parts in place of the method's own. A network may also be a class or
            function that makes a ``torch.nn.Module``, or ``file.py:Net`` (docs/own-networks.md).
        zca: ZCA whitening of the inputs as in ``mtt``, ``frepo`` or ``kip``; it is stored with the set.
        codec: how values are written (docs/storage.md): ``float32``, ``float16``, ``uint8``, ``uint4``, ``uint2`` …, or
            ``auto``: the fewest bits that cost no measurable accuracy on a part of the training data. Default:
            ``auto``, but exact for selected samples, and 4 bits a value for a budget in ``bytes`` (8 where the
            parametrization is no image). A set of 1 bit is rounded while it is made, straight through; of more bits
            with ``uint2:aware=true``.
        device: ``auto``, ``cpu`` or ``cuda``.
        checkpoint: checkpoint file; with it SIGINT and SIGTERM end the run after the current step.
        resume: continue from ``checkpoint``; ``"force"``: also where other versions or kernels computed it until
            there, which the metadata say.
        checkpoint_every: time between checkpoints: seconds, or text such as ``60s``.
        progress: callback after every step; ``auto``: a bar on a terminal, else a line every ten seconds, on stderr;
            ``None``: silent.
        preparing: callback ``preparing(name, done, total)`` while prerequisites are made.
        command: the shell command that repeats this, for the metadata.
        scores: numbers that `potstill.score` made, to select by: with their settings.
        executor: where independent jobs run: ``serial``, ``processes``, ``ray`` or a `potstill.execution.Executor`.
            The bits do not depend on it. Default: as many processes as help.
        networks: trained networks in place of those that the method would train: values (`potstill.core.Trained`) or
            paths of cached ones.
        experts: expert trajectories in place of those that the method would train: cached files, published replay
            buffers (``replay_buffer_0.pt``), folders of either, or values (`potstill.pretraining.Trajectory`).
        initial: an earlier set, or its path, whose inputs the optimisation starts from. It has as many inputs of each
            class as this one will have.
        log: loggers of settings, metrics and result: ``tensorboard:DIR``, ``wandb:PROJECT``, ``mlflow:EXPERIMENT``, a
            `potstill.runs.loggers.Logger`, or several.
        snapshots: file for some inputs at a few steps, a megabyte at most, which `potstill.report` shows; it finds the
            one named as the set with ``.film`` appended. The set has the same bits.
        class_shards: distil the classes in so many groups, each a job of the executor with a checkpoint of its own in
            the folder ``checkpoint`` (docs/how-to.md). For methods whose objective is a sum over classes, whose bits
            then depend on the number of groups, in the order of sums; and for RDED and recoveries, whose bits do not.
        out: file that the set is also written to, ``….safetensors``. A set of this same run is replaced; with
            ``resume`` and without a checkpoint it is returned.
        force: replace what is at ``out``, but for a file that is read.
        **options: fields of the method.

    Raises:
        PotstillError: a choice does not exist, does not fit together with others or does not suit the data; or the
            preparation does not fit into the time limit.
        Interrupted: a signal came; ``checkpoint`` holds the run.
    """
    arguments = locals()
    return run(_select(RunSpec, arguments), _select(RunLimits, arguments), _select(RunIO, arguments))


def _select(kind: type[T], arguments: Mapping[str, Any]) -> T:
    """Return the dataclass with those of the arguments that are its fields."""
    return kind(**{field.name: arguments[field.name] for field in fields(kind)})  # type: ignore[arg-type]


def run(spec: RunSpec, limits: RunLimits | None = None, io: RunIO | None = None) -> Distilled:
    """Distil the set that ``spec`` says.

    Args:
        limits: when the run stops; default: when the method is done. A time limit starts now.
        io: callbacks, executor, and files; default: a progress bar on stderr.

    Raises:
        PotstillError: as for `distill`.
        Interrupted: a signal came; the checkpoint holds the run.
    """
    limits, io = (limits or RunLimits()).start(), io or RunIO()
    output = _plan_output(spec, io)
    checkpoint = io.checkpoint_path
    if output is not None and checkpoint is not None and not checkpoint.exists():
        io = replace(io, resume=False)  # there is nothing to resume: an existing set is the answer, or the run begins
    check_side_file(checkpoint, spec.inputs, "checkpoint")
    check_side_file(io.snapshots, spec.inputs, "film")
    with progress_context(io.progress) as reporter:
        if spec.method == "auto":
            return distil_automatically(spec, limits, io, reporter, output)
        _check_sharding(spec, limits, io)
        resolved = resolve_run(spec, limits)
        if io.snapshots is not None:
            check_snapshots(resolved.name, resolved.method, resolved.problem.train)
        if output is not None:
            output.check(resolved.files)
        small = execute(resolved, limits, io, reporter, output=output)
        if output is not None and small.path is None:
            return_freed_memory()  # the state is gone, and the file is written as one piece
            output.write(small)
        return small


def _plan_output(spec: RunSpec, io: RunIO) -> SetOutput | None:
    """Return where the set will be written, checked as far as it can be before the data are read."""
    if io.out is None:
        return None
    continues = io.checkpoint_path is not None and io.checkpoint_path.exists()
    output = SetOutput(path=Path(io.out), force=io.force, resume=bool(io.resume) and not continues)
    output.check(spec.inputs)
    return output


def _check_sharding(spec: RunSpec, limits: RunLimits, io: RunIO) -> None:
    """Check that checkpoint, time limit and snapshots fit the number of class shards.

    Raises:
        PotstillError: they do not.
    """
<<<<<<< HEAD
    checkpoint = io.checkpoint_path
    if spec.class_shards is None:
        if checkpoint is not None and checkpoint.is_dir():
=======
    problem, x, why = settled.problem, earlier.inputs, ""
    if not hasattr(settled.method, "init_from"):
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
>>>>>>> 3adea0a (engine: plain names; trajectory methods built of parts)
            raise PotstillError(
                f"{checkpoint}: a folder, as method auto or class shards leave when they are interrupted, but a "
                "checkpoint is a file; resume that run, or remove the folder"
            )
    elif limits.time_limit is not None or io.snapshots is not None:
        limit = io.snapshots is None
        raise PotstillError(
            f"class shards go on by themselves, so {'a time limit' if limit else 'snapshots'} cannot be kept over all "
            f"of them; {'say steps instead' if limit else 'leave snapshots out'}"
        )
<<<<<<< HEAD
=======
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
    if getattr(made, "init_from", None) == "noise" and not train.classes and "init_from" not in options:
        made = dataclasses.replace(made, init_from="real")  # type: ignore[type-var]
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
>>>>>>> 3adea0a (engine: plain names; trajectory methods built of parts)
