"""`potstill.distill`, and `potstill.run`, which takes the same choices as three values."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from potstill._util.progress import Callback, ProgressReporter
from potstill._util.time_limit import TimeLimit
from potstill.automl.auto import default_method, distil_automatically
from potstill.automl.network_labels import distil_with_labeller, parse_network_labels
from potstill.automl.real import distil_real, is_searched
from potstill.core import Codec, Method
from potstill.dataset_file import Distilled
from potstill.dataset_file.output import SetOutput
from potstill.dataset_file.replacing import check_side_file
from potstill.dataset_file.scores import Scores
from potstill.errors import PotstillError
from potstill.execution import Executor
from potstill.execution.memory import return_freed_memory
from potstill.private.distil import distil_privately
from potstill.private.options import PrivateOption
from potstill.runs.arguments import StepCallback, progress_context
from potstill.runs.fill import fill_bytes
from potstill.runs.loggers import LogOption
from potstill.runs.resolve import resolve_run
from potstill.runs.runner import execute
from potstill.runs.snapshots import check_snapshots
from potstill.runs.spec import NetworkOption, RunIO, RunLimits, RunSpec

__all__ = ["distill", "run"]


def distill(
    data: Any,
    method: str | Method[Any] | None = None,
    *,
    ipc: int | None = None,
    items: int | None = None,
    bytes: int | str | None = None,
    planned_bytes: int | None = None,
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
    real_weights: str | None = None,
    regularizer: str | None = None,
    codec: str | Codec | None = None,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    resume: bool | Literal["force"] = False,
    checkpoint_every: str | float = 60.0,
    progress: StepCallback = "auto",
    preparing: Callback | None = None,
    command: str | None = None,
    scores: Scores | str | Path | None = None,
    executor: Executor | str | None = None,
    networks: Any = None,
    experts: Any = None,
    generator: Any = None,
    count_decoder: bool = False,
    initial: Distilled | str | Path | None = None,
    log: LogOption = None,
    snapshots: str | Path | None = None,
    class_shards: int | None = None,
    private: PrivateOption = None,
    out: str | Path | None = None,
    force: bool = False,
    **options: Any,
) -> Distilled:
    """Make a distilled set: a small training set that stands in for the training split of ``data``.

    The arguments are fields of `potstill.RunSpec`, `potstill.RunLimits` and `potstill.RunIO`, which `potstill.run`
    takes as values.

    Args:
        data: anything `potstill.load_data` takes or returns. Only the training split is read.
        method: a registered name (``potstill methods`` lists them), a method as a value, e.g. ``DM(iterations=500)``,
            or ``auto``: selected on a held-out split within ``time_limit``, with fields of
            `potstill.automl.candidates.AutoOptions` as options (docs/guides/automatic.md). Default: ``auto``, but
            ``dm`` where something of one method is given, such as ``steps``, ``preset`` or a method's option.
        ipc: size budget: items per class, at least 1. Give exactly one of ``ipc``, ``items`` and ``bytes``. Default:
            none.
        items: size budget: items in all. Default: none.
        bytes: size budget: stored bytes in all, labels counted: a number, or text such as ``20kB``. Default: none.
        planned_bytes: bytes that the inputs of a synthetic set are planned by, as if their values were not entropy
            coded; what is then too large is stored coarser or shortened. Default: as many as fill ``bytes``, found by
            short runs where these can tell (`potstill.runs.fill`).
        balance: division of ``items`` and ``bytes`` among classes: ``natural``, in proportion to the samples of each
            class and at least one of each (default), or ``equal``.
        preset: length of a method given by name: ``quick`` (minutes on a laptop), ``good`` (about an hour) or
            ``published`` (its paper's); ``potstill methods NAME`` shows the steps of each. Options that you give win
            over it. Default: ``quick``; ``published`` where ``steps`` is given.
        seed: seed of every draw. The same seed gives the same bits on the CPU.
        steps: largest number of steps, at least 0. Default: all steps of the method.
        time_limit: largest wall-clock time: seconds, or text such as ``10m``. Loading, preparation (networks trained
            first) and the search for bits of ``codec="auto"`` count. The search gets 30 % of it at most; the set is
            written as uint8 where that is too little. It changes no other setting. Default: none.
        network: network to distil with: a registered name, a class or function that makes a ``torch.nn.Module``, or
            ``file.py:Net`` (docs/guides/networks.md). Default: the method's, or the usual one for the data.
        parametrization: form in which inputs are stored and optimised: ``pixels``, ``tiles:factor=2``. Default: the
            method's.
        labels: labels in the file: ``hard``, ``soft`` (a teacher's), ``learned``, ``scores``, or
            ``network``: a small network in the file labels views of pictures or rows
            (``network:bytes=900,steps=2000,samples=20000``). Default: the method's.
        augment: augmentation while distilling; ``potstill augmentations`` lists the names. Default: the method's for
            images, none for other data.
        zca: ZCA whitening of the inputs as in ``mtt``, ``frepo`` or ``kip``; it is stored with the set. Default: none.
        real_weights: draws of real samples within a class, for methods that draw them: ``uniform``; ``attribute``:
            every value of the data's attribute equally often, so that a class's mean is the barycentre of its groups
            (COBRA); or ``density:bandwidth=0.5,steps=100``: samples with few near ones more often, by a kernel density
            estimate in features of a network trained for so many steps (docs/guides/fairness.md). Default: ``uniform``.
        regularizer: term that is added to the method's objective: ``curvature:weight=1,h=3`` lowers the curvature of
            losses along their gradient by the inputs, as GUARD does (docs/guides/robustness.md), or ``none``. Default:
            none.
        codec: codec of the values (docs/explanation/bytes.md): ``float32``, ``float16``, ``uint8``, ``uint4``, …, or
            ``auto``: the fewest bits that cost no measurable accuracy on a held-out split. A set of 1 bit is rounded
            while it is made, straight through; of more bits with ``uint2:aware=true``. Default: ``auto``, but exact for
            selected samples, and 4 bits a value for a budget in ``bytes`` (8 where the parametrization is no image).
        device: ``auto`` (the first GPU, if there is one), ``cpu`` or ``cuda``.
        checkpoint: checkpoint file, or a folder with ``class_shards`` and for ``auto``. With it SIGINT and SIGTERM end
            the run after the current step. Default: none.
        resume: True continues from ``checkpoint``; ``"force"`` also where other versions or kernels computed it until
            there, which the metadata state.
        checkpoint_every: time between checkpoints: seconds, or text such as ``60s``.
        progress: callback that gets a `potstill.Progress` after every step; ``auto``: a bar on a terminal, else a line
            every ten seconds, on stderr; ``None``: silent.
        preparing: callback ``preparing(name, done, total)`` while prerequisites are made. Default: none.
        command: shell command that repeats this run, for the metadata. Default: none.
        scores: scores that `potstill.score` wrote, to select by, with their settings. Default: computed here.
        executor: where independent jobs run: ``serial``, ``processes``, ``ray`` or a `potstill.execution.Executor`. The
            bits do not depend on it. Default: as many processes as help.
        networks: trained networks in place of those that the method would train: values, or paths of cached ones.
            Default: trained here or taken from the cache.
        experts: expert trajectories in place of those that the method would train: cached files, published replay
            buffers (``replay_buffer_0.pt``), folders of either, or values (`potstill.pretraining.Trajectory`). Default:
            trained here or taken from the cache.
        generator: generator in place of the one that parametrization ``latents`` or a method would train: a safetensors
            file, tensors by name, or a diffusion model as an object (docs/guides/generators.md). Default: trained here
            or taken from the cache.
        count_decoder: count what the set decodes by and its file lacks, such as a generator, against a budget in
            bytes. Default: the budget is of the file.
        initial: an earlier set, or its path, whose inputs the optimisation starts from. Its classes are matched by
            name. Of a class with more inputs than this set will have, the first are taken; inputs and classes that it
            lacks are initialized by the method. Notes count both. Default: none.
        log: loggers of settings, metrics and result: ``tensorboard:DIR``, ``wandb:PROJECT``, ``mlflow:EXPERIMENT``, a
            `potstill.runs.loggers.Logger`, or several. Default: none.
        snapshots: file for some inputs at a few steps, a megabyte at most, which `potstill.report` shows; it finds the
            one named as the set with ``.film`` appended. The set has the same bits. Default: none.
        class_shards: number of groups of classes that are distilled as separate jobs of the executor, each with a
            checkpoint of its own in the folder ``checkpoint`` (docs/guides/resume.md). For methods whose objective is a
            sum over classes, whose bits then depend on the number of groups, in the order of sums; and for RDED and
            recoveries, whose bits do not. Default: one job.
        private: formal privacy of the whole file: ``epsilon=1,delta=1e-5``, with ``cells``, ``labeller``, ``steps`` and
            ``public``; a mapping, or a `potstill.private.options.PrivateOptions` (docs/guides/private-sets.md). The
            data are seen as sums with noise alone, and options that would read them otherwise are refused. Default: no
            formal privacy.
        out: file that the set is also written to, ``….safetensors``. A set of this same run is replaced; with
            ``resume`` and without a checkpoint it is returned. Default: none.
        force: replace what is at ``out``, but never a file that is read.
        **options: fields of the method, e.g. ``iterations=500``.

    Returns:
        The distilled set: a torch ``Dataset`` of (input, label) with its metadata.

    Raises:
        PotstillError: a choice does not exist, does not fit together with others or does not suit the data; or the
            preparation does not fit into the time limit.
        Interrupted: a signal came; ``checkpoint`` holds the run.

    Examples:
        >>> small = potstill.distill("digits", "dm", ipc=1, steps=5, progress=None)
        >>> small
        Distilled(10 synthetic inputs of 'digits' by 'dm')
        >>> x, label = small[0]
        >>> tuple(x.shape), int(label)
        ((1, 8, 8), 0)
    """
    spec = RunSpec(
        data=data, method="dm" if method is None else method, ipc=ipc, items=items, bytes=bytes,
        planned_bytes=planned_bytes, balance=balance, preset=preset, seed=seed,
        network=network, parametrization=parametrization, labels=labels, augment=augment, zca=zca,
        real_weights=real_weights, regularizer=regularizer, codec=codec,
        device=device, scores=scores, networks=networks, experts=experts, generator=generator,
        count_decoder=count_decoder,
        initial=initial, class_shards=class_shards, private=private, options=options,
    )  # fmt: skip
    limits = RunLimits(
        steps=steps, time_limit=time_limit, checkpoint_every=checkpoint_every,
    )  # fmt: skip
    io = RunIO(
        progress=progress, preparing=preparing, log=log, executor=executor, checkpoint=checkpoint, resume=resume,
        snapshots=snapshots, out=out, force=force, command=command,
    )  # fmt: skip
    if method is None and private is None:
        spec = replace(spec, method=default_method(spec, limits, io))
    return run(spec, limits, io)


def run(spec: RunSpec, limits: RunLimits | None = None, io: RunIO | None = None) -> Distilled:
    """Make the distilled set that ``spec`` describes: `potstill.distill` with its arguments as three values.

    Args:
        spec: everything that decides the bits of the set.
        limits: when the run stops. A time limit starts now. Default: when the method is done.
        io: callbacks, executor and files. Default: a progress bar on stderr, no files.

    Returns:
        The distilled set.

    Raises:
        PotstillError: as for `potstill.distill`.
        Interrupted: a signal came; the checkpoint holds the run.

    Examples:
        >>> spec = potstill.RunSpec("digits", "herding", ipc=1)
        >>> small = potstill.run(spec, io=potstill.RunIO(progress=None))
        >>> len(small), small.is_selection
        (10, True)
    """
    limits, io = (limits or RunLimits()).start(), io or RunIO()
    output = _plan_output(spec, io)
    checkpoint = io.checkpoint_path
    if spec.private is None and output is not None and checkpoint is not None and not checkpoint.exists():
        io = replace(io, resume=False)  # there is nothing to resume: an existing set is the answer, or the run begins
    check_side_file(checkpoint, spec.inputs, "checkpoint")
    check_side_file(io.snapshots, spec.inputs, "film")
    with progress_context(io.progress) as reporter:
        if spec.private is not None:
            return distil_privately(spec, limits, io, reporter, output)
        if parse_network_labels(spec.labels) is not None:
            return distil_with_labeller(spec, limits, io, reporter, output, _make)
        return _make(spec, limits, io, reporter, output)


def _make(
    spec: RunSpec, limits: RunLimits, io: RunIO, reporter: ProgressReporter, output: SetOutput | None
) -> Distilled:
    """Make the set of a spec by its method, a search or a choice among methods."""
    if spec.method == "auto":
        return distil_automatically(spec, limits, io, reporter, output)
    if is_searched(spec.method, spec.options):
        return distil_real(spec, limits, io, reporter, output)
    _check_sharding(spec, limits, io)
    resolved = resolve_run(spec, limits)
    if io.snapshots is not None:
        check_snapshots(resolved.name, resolved.method, resolved.problem.train)
    if output is not None:
        output.check(resolved.files)
    resolved = fill_bytes(spec, resolved, limits, io, reporter)
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
    """Check that checkpoint, time limit and snapshots fit the number of class shards."""
    checkpoint = io.checkpoint_path
    if spec.class_shards is None:
        if checkpoint is not None and checkpoint.is_dir():
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
