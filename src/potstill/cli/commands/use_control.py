"""``potstill use control``."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import Positional, arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, Command, Misuse, Parsed, optional
from potstill.cli.option_types import Names
from potstill.cli.text import Block, Table

__all__ = ["UseControl"]


@dataclass(frozen=True, kw_only=True)
class UseControl(Command):
    """Distil a behaviour: find a few pairs of a state and an action from which any policy learns to act in a simulator.

    Needs Gymnasium: pip install 'potstill[control]'. Random pairs, pairs of a trained policy and the policy itself are
    measured alike. The same command again resumes where an interrupted one stopped.
    """

    environment: Annotated[Positional[str], arg(metavar="ENVIRONMENT")]
    """Id of a Gymnasium simulator, such as CartPole-v1."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The folder for pairs-SEED.safetensors, control.json, the page control.html and a file for each row."""
    items: Annotated[int, arg(metavar="N")] = 2
    """Pairs of the set."""
    set: Annotated[Path | None, optional("SET.safetensors")] = None
    """Measure this set in place of one that is sought."""
    log: Annotated[Path | None, optional("FILE")] = None
    """Logged episodes (.npz, .parquet, .hdf5): pairs are sought by these alone, without the simulator."""
    best: Annotated[float, arg(metavar="X")] = 0.1
    """Fraction of the logged episodes, those with the highest returns, that pairs are sought by."""
    policies: Names = ("mlp:32", "mlp:128", "mlp:64-64", "linear")
    """Networks that imitate every set: linear, mlp:32, mlp:64-64. Pairs are sought for the first."""
    generations: Annotated[int, arg(metavar="N")] = 100
    """Generations of the evolution strategy."""
    sets: Annotated[int, arg(metavar="N")] = 1
    """Sets, each of a seed of its own; intervals are over them if there are several."""
    students: Annotated[int, arg(metavar="N")] = 10
    """Policies of each kind that imitate a set."""
    episodes: Annotated[int, arg(metavar="N")] = 5
    """Episodes of each policy."""
    population: Annotated[int, arg(metavar="N")] = 32
    """Candidates of a generation."""
    sigma: Annotated[float, arg(metavar="X")] = 0.5
    """Standard deviation of the perturbations, in standard deviations of a state."""
    updates: Annotated[int, arg(metavar="N")] = 100
    """Updates of a policy that imitates."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """The first seed."""

    main_options: ClassVar[tuple[str, ...]] = (
        "environment", "out", "items", "set", "log", "policies", "generations", "sets", "students", "episodes",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Search": ("best", "population", "sigma", "updates", "seed")
    }
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ()}

    def check(self) -> None:
        if self.log is not None and self.set is not None:
            raise Misuse("one of --set and --log can be given; a log has its own rows")

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.uses.control import Cloning, Evolution, control, distil_log

        names = [f.name for f in fields(Evolution) if hasattr(self, f.name) and f.name != "episodes"]
        common: dict[str, Any] = {
            "out": self.out, "items": self.items, "policies": self.policies, "sets": self.sets,
            "students": self.students, "episodes": self.episodes, "seed": self.seed,
            "evolution": replace(Evolution(), **{name: getattr(self, name) for name in names}),
            "cloning": Cloning(updates=self.updates), "progress": progress.report_count,
        }  # fmt: skip
        if self.log is not None:
            result = distil_log(self.environment, self.log, best=self.best, **common)
        else:
            result = control(self.environment, distilled=self.set, **common)
        text = [*control_blocks(result), f"Page: {self.out / 'control.html'}"]
        return Answer({**result, "command": parsed.line}, text)


def control_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Return a control run as text: a table and what it shows."""
    from potstill.reports.control import cells_of, head_of

    return [
        f"{result['environment']}: mean returns of {result['settings']['students']} policies of a kind",
        Table(head_of(result), [cells_of(one, result) for one in result["rows"]]), "", *result["sentences"],
    ]  # fmt: skip
