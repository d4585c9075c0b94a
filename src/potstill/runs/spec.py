"""A run as three values: what it makes, when it stops, and what it reads and writes on the way."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from potstill._util.progress import Callback
from potstill._util.time_limit import TimeLimit
from potstill.core import Budget, Codec, Method
from potstill.dataset_file import Distilled
from potstill.dataset_file.scores import Scores
from potstill.errors import PotstillError
from potstill.execution import Executor
from potstill.nn import CustomNetwork
from potstill.private.options import PrivateOption, parse_private
from potstill.runs.arguments import StepCallback, parse_duration, parse_preset, parse_size_budget, parse_time_limit
from potstill.runs.loggers import LogOption
from potstill.runs.real_weights import parse_real_weights
from potstill.runs.regularizer import parse_regularizer

__all__ = ["NetworkOption", "RunIO", "RunLimits", "RunSpec"]

NetworkOption: TypeAlias = str | CustomNetwork | Callable[..., Any] | None
"""A registered name, ``file.py:Net``, a class or function that makes a ``torch.nn.Module``; ``None``: a default."""


@dataclass(frozen=True, eq=False)
class RunSpec:
    """Everything that decides the bits of a set, but for when the run stops.

    The fields are the arguments of `potstill.distill` of the same names. They are checked here as far as that needs no
    data, and by `potstill.runs.resolve.resolve_run` against the data.

    Raises:
        PotstillError: no size budget or several, no such preset, or a preset for a method that is a value.

    Examples:
        >>> spec = potstill.RunSpec("digits", "dm", bytes="20kB", seed=1, options={"iterations": 100})
        >>> spec.size_budget.amount
        20000
    """

    data: Any
    """Anything `potstill.load_data` takes or returns. Only the training split is read."""
    method: str | Method[Any] = "dm"
    """A registered name, ``auto``, or a method as a value."""
    _: KW_ONLY
    ipc: int | None = None
    """Items per class; exactly one of ``ipc``, ``items`` and ``bytes`` is given."""
    items: int | None = None
    """Items in all."""
    bytes: int | str | None = None
    """Encoded bytes, a number or text such as ``20kB``."""
    planned_bytes: int | None = None
    """Bytes that the inputs are planned by, as if their values were not coded; ``None``: as many as fill ``bytes``."""
    balance: str | None = None
    """Division of ``items`` and ``bytes`` among classes: ``natural`` (default) or ``equal``."""
    preset: str | None = None
    """``quick``, ``good`` or ``published`` fields of a method given by name."""
    seed: int = 0
    """Seed of every draw."""
    network: NetworkOption = None
    """The network to distil with; ``None``: the method's, or the default for the data."""
    parametrization: str | None = None
    """Parametrization that is stored and optimised: ``pixels``, ``tiles:factor=2`` …; ``None``: the method's."""
    labels: str | None = None
    """``hard``, ``soft``, ``scores``, or ``network`` for a small network in the file; ``None``: the method's."""
    augment: str | None = None
    """The augmentation; ``None``: the method's for images, none for other data."""
    zca: str | None = None
    """ZCA whitening as in ``mtt``, ``frepo`` or ``kip``; ``None``: no whitening."""
    real_weights: str | None = None
    """Draws of real samples in each class: ``uniform``, ``attribute``, ``density:bandwidth=0.5``; ``None``: uniform."""
    regularizer: str | None = None
    """Term added to the method's objective: ``curvature:weight=1,h=3``, ``none``; ``None``: none."""
    codec: str | Codec | None = None
    """Codec of the values, such as ``uint8``; ``None``: chosen by method and budget."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    scores: Scores | str | Path | None = None
    """Scores that `potstill.score` made, to select by."""
    networks: Any = None
    """Trained networks in place of those that the method would train: values or paths."""
    experts: Any = None
    """Expert trajectories in place of those that the method would train: values, files or folders."""
    generator: Any = None
    """Generator in place of the one that parametrization ``latents`` or a method would train: tensors by name, a file,
    or, of a diffusion model, an object (`potstill.pretraining.diffusion.DiffusionModel`)."""
    count_decoder: bool = False
    """Count what the set decodes by, such as a generator, against a budget in bytes."""
    initial: Distilled | str | Path | None = None
    """A distilled set, or its path, whose inputs the optimisation starts from, matched by class name."""
    class_shards: int | None = None
    """Number of groups of classes that are distilled as separate jobs; ``None``: one job."""
    private: PrivateOption = None
    """ε, δ and more of a set with formal privacy, such as ``epsilon=1,delta=1e-5``; ``None``: no formal privacy."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the method by name."""

    def __post_init__(self) -> None:
        _ = self.size_budget
        if self.planned_bytes is not None and (self.bytes is None or self.planned_bytes < 1):
            raise PotstillError(
                f"planned_bytes must be at least 1 and go with a budget in bytes, but it is {self.planned_bytes}"
                f"{' without one' if self.bytes is None else ''}; leave it out"
            )
        if self.count_decoder and self.bytes is None:
            raise PotstillError("count_decoder goes with a budget in bytes, but there is none; leave it out")
        parse_real_weights(self.real_weights)
        parse_regularizer(self.regularizer)
        parse_private(self.private)
        if self.method != "auto":
            parse_preset(self.preset, self.method)

    @classmethod
    def from_options(cls, data: Any, method: str | Method[Any], options: Mapping[str, Any]) -> "RunSpec":
        """Return a spec from keywords: those that are fields of this class, and fields of the method.

        Args:
            data: anything `potstill.load_data` takes or returns.
            method: a registered name, or a method as a value.
            options: values by name.

        Returns:
            The spec.
        """
        names = {f.name for f in dataclasses.fields(cls)} - {"data", "method", "options"}
        own = {name: value for name, value in options.items() if name in names}
        return cls(data, method, **own, options={n: value for n, value in options.items() if n not in names})

    @property
    def size_budget(self) -> Budget:
        """The size budget, parsed."""
        return parse_size_budget(self.ipc, self.items, self.bytes, balance=self.balance)

    @property
    def inputs(self) -> tuple[Any, ...]:
        """All values that can name a file which the run reads, so that it is never written over."""
        results = (self.scores, self.experts, self.networks, self.generator, self.initial)
        return (self.data, self.method, self.network, *results)

    @property
    def provided_assets(self) -> dict[str, Any]:
        """Assets that are given in place of those that the method would make, by name."""
        given = {"networks": self.networks, "experts": self.experts, "generator": self.generator}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class RunLimits:
    """When a run stops, and how often it is saved.

    Raises:
        PotstillError: a negative number of steps, or no duration.

    Examples:
        >>> potstill.RunLimits(steps=1000, checkpoint_every="5m").checkpoint_seconds
        300.0
    """

    steps: int | None = None
    """Steps in all, resumed ones counted; ``None``: all steps of the method."""
    time_limit: str | float | TimeLimit | None = None
    """Wall-clock time of everything from loading to writing: seconds, text such as ``10m``, or a running limit."""
    checkpoint_every: str | float = 60.0
    """Time between checkpoints: seconds, or text such as ``60s``."""

    def __post_init__(self) -> None:
        if self.steps is not None and (not isinstance(self.steps, int) or self.steps < 0):
            raise PotstillError(
                f"steps must be a whole number of at least 0, but they are {self.steps!r}; leave them out for all that "
                "there are"
            )
        parse_time_limit(self.time_limit)
        parse_duration(self.checkpoint_every, "checkpoint_every")

    def start(self) -> "RunLimits":
        """Return these limits with the clock of the time limit started, unless it runs already."""
        return dataclasses.replace(self, time_limit=self.clock)

    @property
    def clock(self) -> TimeLimit | None:
        """The time limit; it starts now, unless `start` has started it."""
        return parse_time_limit(self.time_limit)

    @property
    def checkpoint_seconds(self) -> float:
        """Seconds between checkpoints."""
        return parse_duration(self.checkpoint_every, "checkpoint_every")


@dataclass(frozen=True, kw_only=True, eq=False)
class RunIO:
    """Callbacks, executor and files of a run. Nothing here changes the bits of the set.

    Raises:
        PotstillError: ``resume`` is none of its values.

    Examples:
        >>> potstill.RunIO(checkpoint="run.checkpoint", resume=True).checkpoint_path.name
        'run.checkpoint'
    """

    progress: StepCallback = "auto"
    """Called after every step; ``auto``: a progress bar on stderr; ``None``: silent."""
    preparing: Callback | None = None
    """``preparing(name, done, total)`` is called while prerequisites are made, such as expert trajectories."""
    log: LogOption = None
    """Loggers: ``tensorboard:DIR``, ``wandb:PROJECT``, ``mlflow:EXPERIMENT``, values, or several."""
    executor: Executor | str | None = None
    """Executor of independent jobs: ``serial``, ``processes``, ``ray`` or a value; ``None``: processes if useful."""
    checkpoint: str | Path | None = None
    """Checkpoint file, a folder with class shards and for ``auto``; with it SIGINT and SIGTERM save the run."""
    resume: bool | Literal["force"] = False
    """Continue from ``checkpoint``; ``"force"``: also from one that other versions or kernels wrote."""
    snapshots: str | Path | None = None
    """File for some of the inputs at a few steps, which `potstill.report` shows."""
    out: str | Path | None = None
    """File that the set is written to."""
    force: bool = False
    """Replace what is at ``out``."""
    command: str | None = None
    """The shell command of this run, for the set's metadata."""

    def __post_init__(self) -> None:
        if self.resume not in (True, False, "force"):
            raise PotstillError(f"resume must be True, False or 'force', not {self.resume!r}")

    @property
    def checkpoint_path(self) -> Path | None:
        """The checkpoint as a path."""
        return None if self.checkpoint is None else Path(self.checkpoint)
