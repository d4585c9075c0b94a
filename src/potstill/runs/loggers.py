"""Loggers: TensorBoard, Weights & Biases, MLflow, or any object with the same three methods.

A logger is told the settings before the first step, the numbers of steps, and what came of it. Each is imported when it
is asked for. One that fails at its start stops the run before any work; one that fails later is left out, as hours of
work are worth more than their curve.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeAlias, runtime_checkable

from potstill.errors import PotstillError, unknown_name
from potstill.runs.loop import Progress

__all__ = [
    "LOGGERS",
    "LogOption",
    "Logger",
    "MLflow",
    "TensorBoard",
    "WandB",
    "call_both",
    "logging_context",
    "parse_loggers",
]

POINTS = 1000
"""About so many steps of a run are told, evenly spread, and the last one."""


@runtime_checkable
class Logger(Protocol):
    """Protocol of a logger."""

    def start(self, settings: Mapping[str, Any]) -> None:
        """Before the first step: what was asked for, flat (``method``, ``data``, ``config.iterations`` …)."""

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """After a step, counted from 1: its numbers, and ``seconds`` of computing until then."""

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """After the run: items, bytes, seconds, how it ended; ``None``: it was broken off."""


LogOption: TypeAlias = Logger | str | Sequence[Logger | str] | None
"""One logger or several: values, or texts such as ``tensorboard:runs/one``."""


def _needed(name: str, extra: str, package: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PotstillError(
            f"a log for {extra} needs the package {package}; pip install 'potstill[{extra}]', or leave it out"
        ) from error


class TensorBoard:
    """Event files in a folder, which ``tensorboard --logdir`` shows."""

    def __init__(self, folder: str = "runs") -> None:
        made = _needed("torch.utils.tensorboard", "tensorboard", "tensorboard")
        self._writer = made.SummaryWriter(log_dir=str(Path(folder).expanduser()))

    def start(self, settings: Mapping[str, Any]) -> None:
        rows = "\n".join(f"| {key} | {_cell(value)} |" for key, value in settings.items())
        self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}")

    def record(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(f"distill/{key}", value, step)

    def finish(self, result: Mapping[str, Any] | None) -> None:
        for key, value in (result or {}).items():
            if isinstance(value, int | float):
                self._writer.add_scalar(f"result/{key}", value)
            else:
                self._writer.add_text(f"result/{key}", _cell(value))
        self._writer.close()


class WandB:
    """A run of a project of Weights & Biases; ``WANDB_MODE=offline`` keeps it on this machine."""

    def __init__(self, project: str = "potstill") -> None:
        self._module, self._project = _needed("wandb", "wandb", "wandb"), project

    def start(self, settings: Mapping[str, Any]) -> None:
        self._run = self._module.init(project=self._project, config=dict(settings), job_type="distill")

    def record(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({f"distill/{key}": value for key, value in values.items()}, step=step)

    def finish(self, result: Mapping[str, Any] | None) -> None:
        self._run.summary.update(dict(result or {}))
        self._run.finish(exit_code=0 if result is not None else 1)


class MLflow:
    """A run of an experiment of MLflow, where ``MLFLOW_TRACKING_URI`` says."""

    def __init__(self, experiment: str = "potstill") -> None:
        self._module, self._experiment = _needed("mlflow", "mlflow", "mlflow"), experiment

    def start(self, settings: Mapping[str, Any]) -> None:
        # A client, not mlflow.start_run: that one belongs to the program that calls us.
        self._client = self._module.MlflowClient()
        held = self._client.get_experiment_by_name(self._experiment)
        number = self._client.create_experiment(self._experiment) if held is None else held.experiment_id
        self._run = self._client.create_run(number).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._run, key, str(value)[:500])

    def record(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._client.log_metric(self._run, f"distill/{key}", float(value), step=step)

    def finish(self, result: Mapping[str, Any] | None) -> None:
        for key, value in (result or {}).items():
            if isinstance(value, int | float):
                self._client.log_metric(self._run, f"result/{key}", float(value))
            else:
                self._client.set_tag(self._run, f"result.{key}", str(value))
        self._client.set_terminated(self._run, "FINISHED" if result is not None else "FAILED")


LOGGERS: dict[str, Callable[[str], Logger] | Callable[[], Logger]] = {
    "tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow,
}  # fmt: skip
"""By their names; what follows the colon is the folder, the project or the experiment."""


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def parse_loggers(log: Any) -> tuple[Logger, ...]:
    """The loggers that ``log`` says.

    Raises:
        PotstillError: there is none of that name, its package is missing, or a value is no logger.
    """
    asked = () if log is None else log if isinstance(log, Sequence) and not isinstance(log, str) else (log,)
    results: list[Logger] = []
    for one in asked:
        if isinstance(one, str):
            name, _, where = one.partition(":")
            if name not in LOGGERS:
                raise unknown_name("logger", name, list(LOGGERS))
            make: Any = LOGGERS[name]
            with _one_line(name):
                results.append(make(where) if where else make())
        elif isinstance(one, Logger):
            results.append(one)
        else:
            raise PotstillError(
                f"log: a logger has start, record and finish, but a {type(one).__name__} was given; give one, or "
                f"{', '.join(LOGGERS)} with a place, such as tensorboard:runs"
            )
    return tuple(results)


class _LoggerGroup:
    """Tells loggers of one run; those that fail are left out, and ``warn`` hears it once."""

    def __init__(self, loggers: Sequence[Logger], warn: Callable[[str], None]) -> None:
        self._loggers, self._warn, self._last = list(loggers), warn, -1
        self._late: Progress | None = None

    def start(self, settings: Mapping[str, Any]) -> None:
        for logger in self._loggers:
            with _one_line(type(logger).__name__):
                logger.start(settings)

    def __call__(self, event: Progress) -> None:
        apart = max(1, (event.total or 0) // POINTS)
        self._late = event
        if event.step % apart == 0 or event.step == event.total:
            self._record(event)

    def _record(self, event: Progress) -> None:
        self._late = None
        values = {name: float(value) for name, value in event.metrics.items()} | {"seconds": event.seconds}
        self._each(lambda logger: logger.record(event.step, values))

    def finish(self, result: Mapping[str, Any] | None) -> None:
        if self._late is not None:  # a budget may end a run between two points
            self._record(self._late)
        self._each(lambda logger: logger.finish(result))

    def _each(self, tell: Callable[[Logger], None]) -> None:
        for logger in list(self._loggers):
            try:
                tell(logger)
            except Exception as error:  # whatever another library breaks in: the run is worth more
                self._loggers.remove(logger)
                self._warn(f"the log of {type(logger).__name__} ends here: {_first(error)}")


@contextlib.contextmanager
def _one_line(name: str) -> Iterator[None]:
    try:
        yield
    except PotstillError:
        raise
    except Exception as error:
        raise PotstillError(f"the log of {name} cannot be begun: {_first(error)}; check its place") from error


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@contextlib.contextmanager
def logging_context(
    log: LogOption, settings: Callable[[], Mapping[str, Any]], warn: Callable[[str], None]
) -> Iterator[tuple[Callable[[Progress], None] | None, Callable[[Mapping[str, Any]], None]]]:
    """Yield the step callback of the loggers (``None``: no logger) and the callback of the result.

    Raises:
        PotstillError: a logger cannot be begun.
    """
    loggers = parse_loggers(log)
    if not loggers:
        yield None, lambda result: None
        return
    told = _LoggerGroup(loggers, warn)
    told.start(settings())
    ended: list[Mapping[str, Any]] = []
    try:
        yield told, ended.append
    finally:
        told.finish(ended[0] if ended else None)


def call_both(first: Callable[[Any], None], second: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a callback that calls one after the other."""

    def call(event: Any) -> None:
        first(event)
        second(event)

    return call
