"""``potstill distill``, and the options that it shares with ``plan``."""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from potstill._util.formatting import format_duration
from potstill._util.progress import ProgressReporter
from potstill.cli.command import (
    Answer,
    DataArgument,
    DataCommand,
    Flag,
    ForceOption,
    JobOptions,
    Misuse,
    Parsed,
    optional,
)  # fmt: skip
from potstill.cli.option_types import Bytes, Seconds
from potstill.cli.options import option_fields
from potstill.cli.reading import data_words, load_data, set_summary

__all__ = ["Distill", "RunOptions"]

OF_ONE_METHOD = frozenset({
    "steps", "preset", "parametrization", "labels", "augment", "zca", "real_weights", "regularizer", "scores",
    "networks", "initial", "init", "experts", "generator", "count_decoder", "log", "snapshots", "class_shards",
    "checkpoint_every", "profile_steps", "private",
})  # fmt: skip
"""Options that go with a named method, and not with ``auto``."""
OF_AUTO = frozenset({"candidates", "validation", "students", "confirm", "student_steps", "baselines", "model_steps"})
"""Options of ``auto``."""
MIN_DIFFERENCE = 2.0
"""Seconds by which the whole command must take longer than its steps for both to be printed."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(JobOptions, DataCommand):
    """Options that say how a set is made."""

    data: DataArgument
    """The real data."""
    method: Annotated[str, arg(metavar="NAME")] = "dm"
    """Method: one of `potstill methods`, or auto: selected on a held-out split of the training data, within
    --time-limit. (distill: auto by default, but dm with an option of one method)"""
    ipc: Annotated[int | None, optional("N")] = None
    """Size budget: items per class."""
    items: Annotated[int | None, optional("N")] = None
    """Size budget, instead: items in all."""
    bytes: Annotated[Bytes | None, optional("20kB")] = None
    """Size budget, instead: bytes in all (B, kB, MB, KiB, MiB)."""
    planned_bytes: Annotated[int | None, optional("N")] = None
    """Plan the inputs of a synthetic set by so many bytes, as if values were not entropy coded; what is then too large
    is stored coarser. (default: as many as fill --bytes, by short runs)"""
    count_decoder: Flag = False
    """Count what the set decodes by, such as a generator, against --bytes. (default: only what is in its file)"""
    balance: Annotated[Literal["natural", "equal"] | None, optional("natural|equal")] = None
    """Share --items and --bytes in proportion to the classes' samples, or equally. (default: natural; with --ipc
    equal)"""
    preset: Annotated[Literal["quick", "good", "published"] | None, optional("quick|good|published")] = None
    """Number of steps: minutes on a laptop, about an hour, or as in the paper; `potstill methods NAME` shows it. Given
    options win. (default: quick; published with --steps or --recipe)"""
    recipe: Annotated[Path | None, optional("R.yaml")] = None
    """Options from a file, by their names, or of a recipe that comes with Potstill (dm); the command line wins."""
    steps: Annotated[int | None, optional("N")] = None
    """Stop after this many steps."""
    time_limit: Annotated[Seconds | None, optional("10m")] = None
    """Stop after this much time (s, m, h), preparation included, and write the state of then."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of everything random."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network to distil with: one of `potstill networks`."""
    parametrization: Annotated[str | None, optional("NAME")] = None
    """Form in which inputs are stored and optimised: one of `potstill parametrizations`."""
    labels: Annotated[str | None, optional("NAME")] = None
    """Labels in the file: hard (classes), learned (rows that are optimised too), soft (a teacher's), network (a small
    network in the file labels views of pictures or rows; network:bytes=900,steps=2000)."""
    augment: Annotated[str | None, optional("NAME")] = None
    """Augmentation while distilling: one of `potstill augmentations`."""
    initial: Annotated[Path | None, optional("FILE")] = None
    """Start from the inputs of this distilled set; classes go by name, and what it lacks the method initializes. --init
    FILE.safetensors is the same."""
    generator: Annotated[Path | None, optional("FILE")] = None
    """Take this generator, instead of the one that --parametrization latents or a method such as mgd3 trains; its
    settings must be those of the file."""
    zca: Annotated[str | None, optional("mtt|frepo|kip")] = None
    """Whiten the inputs first, as one of these papers does, and distil the whitened ones."""
    real_weights: Annotated[str | None, optional("NAME")] = None
    """Draws of real samples in a class, where the method draws them: uniform (the default), attribute (every value of
    --attribute equally often) or density:bandwidth=0.5 (those with few near ones more often)."""
    regularizer: Annotated[str | None, optional("NAME")] = None
    """Term added to the method's objective: curvature:weight=1,h=3, so that students change less under attack (GUARD).
    (default: none)"""
    codec: Annotated[str | None, optional("NAME")] = None
    """Codec of the values: float32, float16, uint8, uint4, uint2 …, or auto: the fewest bits without a measurable loss
    of accuracy on a held-out split. (default: auto; exact for selected samples; uint4 with --bytes)"""

    options_of: ClassVar[Literal["method", "protocol"] | None] = "method"
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Size": ("ipc", "items", "bytes", "planned_bytes", "count_decoder", "balance"),
        "Steps and time": ("preset", "steps", "time_limit", "profile_steps", "checkpoint_every"),
        "Method and its parts": (
            "method", "recipe", "network", "parametrization", "labels", "augment", "zca", "real_weights",
            "regularizer", "codec", "seed",
        ),
        "Results of earlier runs": ("initial", "scores", "experts", "generator"),
        "Logs and pictures": ("log", "snapshots"),
        "Privacy": ("private",),
        "Machine": ("class_shards",),
    }  # fmt: skip

    @classmethod
    def expand_words(cls, words: Sequence[str]) -> Sequence[str]:
        """Write ``--init FILE.safetensors``, a set in place of the name of an init, as ``--initial``; add ``--method
        random`` where a network in the file labels, and neither a method nor a recipe is named."""
        expanded = list(words)
        named = any(word.partition("=")[0] in ("--method", "--recipe") for word in words)
        if not named and _has_network_labels(words):
            expanded += ["--method", "random"]
        for i, (word, following) in enumerate(zip(words, [*words[1:], ""], strict=True)):
            flag, equals, value = word.partition("=")
            if flag == "--init" and (value or following).endswith(".safetensors"):
                expanded[i] = f"--initial{equals}{value}"
        return expanded

    def check(self) -> None:
        name = type(self).__name__.lower()
        budgets = [(unit, n) for unit in ("ipc", "items", "bytes") if (n := getattr(self, unit)) is not None]
        if len(budgets) != 1:
            raise Misuse(f"{name}: say once how much to keep: --ipc N (items per class), --items N or --bytes N")
        ((unit, amount),) = budgets
        if amount < 1:
            raise Misuse(f"{name}: --{unit} must be at least 1, but it is {amount}")

    def keywords(self, parsed: Parsed) -> dict[str, Any]:
        """Return the keywords that `potstill.distill` and `potstill.plan` share."""
        from potstill._util.time_limit import TimeLimit

        budget = {unit: int(n) for unit in ("ipc", "items", "bytes") if (n := getattr(self, unit)) is not None}
        names = (
            "planned_bytes",
            "balance",
            "seed",
            "steps",
            "network",
            "parametrization",
            "labels",
            "augment",
            "zca",
            "real_weights",
            "regularizer",
            "initial",
            "generator",
            "count_decoder",
            "device",
        )
        return {
            **budget,
            **{name: getattr(self, name) for name in names},
            "codec": self.codec,
            # auto has no preset of its own and refuses one that is asked for
            "preset": self.preset if self.method == "auto" else parsed.preset,
            "time_limit": None if self.time_limit is None else TimeLimit(float(self.time_limit), parsed.started),
            "executor": self.executor_spec,
            **parsed.options,
        }


@dataclass(frozen=True, kw_only=True)
class Distill(ForceOption, RunOptions):
    """Make a small training set out of DATA.

    DATA is a bundled name (digits, mnist-5k), a known name (cifar10), a folder of images, an .npz, .csv or .parquet
    file, hub:NAME, or WebDataset shards; `potstill data` lists them. The method's own settings are options too
    (--method NAME --help lists them).
    """

    out: Annotated[Path, arg(metavar="FILE.safetensors")]
    """The file to write. A checkpoint of the run lies beside it until the run is finished."""
    resume: Annotated[Literal["yes", "force"] | None, optional("[force]")] = None
    """Resume an interrupted run from its checkpoint; start where there is none, and do nothing where this command has
    finished before. force: also from a checkpoint of other versions or kernels; the set then has the bits of neither,
    and its metadata say so."""
    checkpoint_every: Annotated[Seconds, arg(metavar="60s")] = 60.0  # type: ignore[assignment]
    """Time between checkpoints."""
    scores: Annotated[Path | None, optional("SCORES.parquet")] = None
    """Select by these scores, as `potstill score` writes them, instead of computing them."""
    experts: Annotated[tuple[Path, ...], arg(metavar="PATH ...", help_behavior_hint="")] = ()
    """Match these expert trajectories, instead of training them: files of an earlier run, published replay buffers
    (replay_buffer_0.pt), or folders of them."""
    log: Annotated[tuple[str, ...], arg(metavar="NAME:PLACE ...", help_behavior_hint="")] = ()
    """Log settings, metrics and the result also here: tensorboard:DIR, wandb:PROJECT, mlflow:EXPERIMENT."""
    snapshots: Flag = False
    """Save some inputs at a few steps, too, in FILE.safetensors.film (a megabyte at most): report shows them."""
    class_shards: Annotated[int | None, optional("K")] = None
    """Make the classes in K groups, each a job of the executor with a checkpoint of its own: for methods that allow it
    (dm, m3d, rded, sre2l, …; else it is refused)."""
    private: Annotated[str | None, optional("epsilon=1,delta=1e-5")] = None
    """Make a set with formal privacy: real data are seen as sums with noise alone, within this ε and δ. More settings:
    cells=10, labeller=0.6, steps=40, public=FACTS.json."""

    main_options: ClassVar[tuple[str, ...]] = (
        "out", "ipc", "bytes", "method", "preset", "time_limit", "network", "codec", "seed", "resume",
    )  # fmt: skip
    examples: ClassVar[tuple[str, ...]] = (
        "potstill distill photos/ --ipc 10 --out small.safetensors",
        "potstill distill photos/ --bytes 20kB --method auto --time-limit 10m --out small.safetensors",
        "potstill distill table.csv --label species --ipc 20 --out small.safetensors",
    )
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": (".safetensors",)}

    @classmethod
    def _with_method(cls, words: Sequence[str]) -> Sequence[str]:
        """Add ``--method auto`` where neither a method nor an option of one method is given."""
        flags = [word.partition("=")[0] for word in words if word.startswith("-")]
        names = {flag.removeprefix("--").replace("-", "_") for flag in flags}
        known = {field.flag for field in option_fields(cls)}
        known |= {f"--{name.replace('_', '-')}" for name in OF_AUTO}
        named = {"method", "recipe"} | OF_ONE_METHOD
        is_auto = not named & names and all(flag.replace("_", "-") in known for flag in flags)
        return [*words, "--method", "auto"] if is_auto else words

    @classmethod
    def expand_words(cls, words: Sequence[str]) -> Sequence[str]:
        """Write ``--resume [force]`` with its value, too, so that a word after it is not taken for one."""
        words, expanded = super().expand_words(cls._with_method(words)), []
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if word == "--resume":
                expanded.append(f"--resume={'force' if following == 'force' else 'yes'}")
            elif word != "force" or expanded[-1:] != ["--resume=force"]:
                expanded.append(word)
        return expanded

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill._util.outputs import check_output
        from potstill.api.distill import distill
        from potstill.dataset_file import drop_checkpoint
        from potstill.dataset_file.replacing import describe_conflict, is_set_file
        from potstill.private.options import parse_private

        parse_private(self.private)  # before the data are read
        checkpoint, snapshots = Path(f"{self.out}.checkpoint"), Path(f"{self.out}.film")
        if self.out.exists() and not is_set_file(self.out):  # a set is compared when it is known what this one will be
            check_output(self.out, force=self.force, found=lambda at: describe_conflict(at, {}))
        splits = load_data(parsed, self.data, progress)
        if self.resume and not checkpoint.exists() and not self.out.exists():
            progress.note("there is no unfinished run to resume; this run starts afresh")
        if checkpoint.exists() and not self.resume:
            progress.note(f"{checkpoint} holds an interrupted run; this run starts afresh and will replace it")
        progress.begin(self.method)
        keywords = self.keywords(parsed)
        if self.private is not None:
            keywords["preset"] = self.preset  # private sets have none, and refuse one that is given
        small = distill(
            splits, self.method, out=self.out, force=self.force, checkpoint=checkpoint,
            resume="force" if self.resume == "force" else self.resume is not None,
            checkpoint_every=self.checkpoint_every, progress=progress, command=parsed.line, scores=self.scores,
            experts=self.experts or None, log=self.log or None, snapshots=snapshots if self.snapshots else None,
            class_shards=self.class_shards, private=self.private, **keywords,
        )  # fmt: skip
        card = small.metadata
        seconds = time.monotonic() - parsed.started
        value = {"path": str(self.out), "items": len(small), "seconds_in_all": round(seconds, 3), **small.to_dict()}
        text = f"{self.out}: {set_summary(card, len(small), self.out)}, made by {card['method']}"
        if small.path is not None:
            progress.note(f"{self.out}: this command has finished before; nothing was done")
            return Answer(value, f"{text}, was there")
        drop_checkpoint(checkpoint)
        if not self.snapshots:
            snapshots.unlink(missing_ok=True)  # of the set that was here before
        outcome = card["outcome"]
        following = ["potstill", "evaluate", str(self.out), "--data", self.data]
        following += data_words(self.reading, from_set=True)
        if self.network is not None:
            following += ["--network", self.network]
        text = (
            f"{text}\n{outcome['message']}, in {format_duration(card['cost']['seconds'])} on {card['cost']['device']}"
            f"{_time_in_all(seconds, card['cost']['seconds'])}\nMeasure it: {shlex.join(following)}"
        )
        if (choice := small.choice) is not None:
            from potstill.automl.result import describe_choice

            text = f"{describe_choice(choice)}\n{text}"
        failure = None
        if outcome["kind"] == "not finite":
            failure = f"{self.method} diverged: {outcome['message']} (in {self.out})"
        return Answer(value, text, failure)


def _time_in_all(seconds: float, steps_seconds: float) -> str:
    """Return the time of the whole command where the steps took 2 s less: ``; 50 s in all, with loading …``."""
    if seconds - steps_seconds < MIN_DIFFERENCE:
        return ""
    return f"; {format_duration(seconds)} in all, with loading, the choice of bits and writing"


def _has_network_labels(words: Sequence[str]) -> bool:
    """Return whether the words say ``--labels network``, with settings or without."""
    said = [word.removeprefix("--labels=") for word in words if word.startswith("--labels=")]
    said += [following for word, following in pairwise(words) if word == "--labels"]
    return any(value.partition(":")[0] == "network" for value in said)
