"""Base classes of the commands, and what a command receives and returns. Imports no torch.

A command is a frozen dataclass in `potstill.cli.commands`: its fields are its options, `Command.check` refuses what is
wrong from the words alone, and `Command.execute` calls the Python API.
"""

import dataclasses
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from tyro.conf import Positional, UseAppendAction, arg

from potstill.cli.option_types import Names, Size
from potstill.cli.text import Block

if TYPE_CHECKING:
    from potstill._util.progress import ProgressReporter

__all__ = [
    "Answer", "Command", "CommonOptions", "DataArgument", "DataCommand", "DataOptions", "DeviceOption", "Flag",
    "ForceOption", "JobOptions", "Misuse", "Parsed", "SetArgument", "optional",
]  # fmt: skip


class Misuse(Exception):
    """The command line cannot be understood: exit status 2. The message is one line."""


class Answer(NamedTuple):
    """Result of a command: ``value`` is printed with ``--json``, else ``text``."""

    value: Any
    text: str | Sequence[Block]
    failure: str | None = None
    """Reason of a failure that comes with a result: the last line on stderr, and exit status 1."""


def optional(metavar: str) -> object:
    """Return the help of an option without a default: the name of its value, and no ``(default: None)``."""
    return arg(metavar=metavar, help_behavior_hint="")


Flag = Annotated[bool, arg(help_behavior_hint="")]
DataArgument = Annotated[Positional[str], arg(metavar="DATA")]
SetArgument = Annotated[Positional[Path], arg(metavar="FILE.safetensors")]


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """Options of every command."""

    json: Flag = False
    """Print one JSON document on stdout and nothing else there."""
    quiet: Flag = False
    """Print no progress and no notes on stderr."""
    debug: Flag = False
    """Print the traceback of an error."""
    limit: Annotated[UseAppendAction[tuple[str, ...]], optional("NAME=VALUE")] = ()
    """Change one of the limits that guard this machine against huge files: pixels=200000000, archive_bytes=4TB; may be
    given several times. Every refusal names its limit."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Base of all commands."""

    common: CommonOptions = CommonOptions()

    options_of: ClassVar[Literal["method", "protocol"] | None] = None
    """Kind of the part whose fields are options beside the command's: a method or a protocol."""
    main_options: ClassVar[tuple[str, ...]] = ()
    """Fields of the options that ``--help`` explains first, at most ten; none: all that are this command's alone."""
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Headings of ``--help --all`` for this command's other options, and the fields below each."""
    examples: ClassVar[tuple[str, ...]] = ()
    """Command lines at the end of ``--help``."""
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Suffixes of the files that the command writes, by the option that names them; none: it is a folder."""
    file_options: ClassVar[tuple[str, ...]] = ()
    """Options whose value may be ``FILE.py:NAME`` in place of a registered name, besides methods and networks."""

    def output_suffixes(self) -> Mapping[str, tuple[str, ...]]:
        """Return `outputs` where they depend on no other option."""
        return self.outputs

    def check(self) -> None:
        """Check options against each other, before anything is read.

        Raises:
            Misuse: options that do not go together.
            PotstillError: an input that does not exist.
        """

    def arguments_for(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Return the options that are arguments of ``function``, by name, without those that are left to its defaults.

        ``data`` has been read and is none of them.
        """
        names = inspect.signature(function).parameters.keys() - {"data"}
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name in names}
        values |= {"executor": self.executor_spec} if isinstance(self, JobOptions) else {}
        return {name: value for name, value in values.items() if value is not None}

    def execute(self, parsed: "Parsed", progress: "ProgressReporter") -> Answer:
        """Run the command."""
        raise NotImplementedError

    @classmethod
    def expand_words(cls, words: Sequence[str]) -> Sequence[str]:
        """Return the words of the command line as they are parsed.

        Raises:
            Misuse: words that do not go together.
        """
        return words

    def settings_by_name(self) -> Mapping[str, Mapping[str, Any]]:
        """Return options of several methods or protocols, by name and field.

        Raises:
            Misuse: an entry that names no option, or has a value of the wrong type.
        """
        return {}


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A command line after parsing."""

    name: str
    command: Any
    """The instance of a `Command`."""
    line: str
    """The command line, quoted for a shell."""
    options: Mapping[str, Any]
    """Options of the method or protocol that differ from the defaults."""
    settings: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Options of several methods and, as ``protocol:NAME``, of several protocols."""
    preset: str | None = None
    """Preset of a command that makes a set."""
    explicit: frozenset[str] = frozenset()
    """Names of the command's options that stand on the line or in the recipe."""
    started: float = dataclasses.field(default_factory=time.monotonic)
    """Time of parsing, by `time.monotonic`: a time limit counts from then on."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of every command that reads real data: the keywords of `potstill.load_data`."""

    data_root: Annotated[Path | None, optional("DIR")] = None
    """Folder of the standard files of known names (else $POTSTILL_DATA)."""
    label: Annotated[str | None, optional("COLUMN")] = None
    """Label column of a table; with --task regression several, with commas between them."""
    task: Annotated[str | None, optional("NAME")] = None
    """Task, if not classification: regression, forecast:window=96,horizon=24, retrieval, or multi-label. A set of
    forecasts is evaluated for another horizon with forecast:horizon=6."""
    targets: Annotated[str | None, optional("NAME|FILE.npy")] = None
    """Vectors in place of labels, which need not be there: representations (of a network that is trained here without
    labels; with settings: representations:size=32), or an array of them in a file."""
    size: Annotated[Size | None, optional("HxW")] = None
    """Resize images to this height and width: 32 or 32x48."""
    skip_bad: Flag = False
    """Skip files that cannot be read instead of stopping at the first."""
    stream: Flag = False
    """Read and decode images when they are needed. On by itself where they would fill more than half of the memory."""
    missing: Annotated[Literal["impute", "drop", "refuse"] | None, optional("impute|drop|refuse")] = None
    """Missing values of a table: impute them from the training part, drop their rows, or refuse (the default). Series
    with classes are imputed on lines between neighbours."""
    remove_columns: Annotated[Names | None, optional("COLUMN,…")] = None
    """Columns of a table that are not read, with commas between them: identifiers, names, what is known only later."""
    text: Annotated[str | None, optional("COLUMN")] = None
    """Column of a table that holds texts; else the only one of texts of several words."""
    representation: Annotated[str | None, optional("NAME")] = None
    """Vectors of texts, also those of pairs: latent:size=64,words=4096 (TF-IDF and its leading directions),
    tokens:size=64,updates=1000 (word vectors of a small network that learns the texts) or hashed:size=1024. Of series
    with classes how they become equally long: resample or pad; with settings: resample:length=100,scale=series. Of
    sounds log-mel:rate=16000,mels=32,seconds=1,level=peak,trim=40. Of clips thirds, dynamic, mean, middle or
    grid:frames=9."""
    series: Annotated[str | None, optional("COLUMN")] = None
    """Column that tells several series apart: to forecast (--task forecast), or each with a class (--label)."""
    kind: Annotated[str | None, optional("NAME")] = None
    """Kind of data, which chooses among several loaders, such as series for arrays of series; else as the data show."""
    horizontal_flip: Annotated[Literal["yes", "no"] | None, optional("yes|no")] = None
    """Say if a horizontally flipped image keeps its class (else: no for the known digits, yes for all others)."""
    duplicates: Annotated[Literal["exact", "near", "together"] | None, optional("exact|near|together")] = None
    """Test samples that are in training, too: count exact copies (of streamed data only on request), or near ones as
    well; together: a random split keeps copies on one side."""
    group: Annotated[str | None, optional("COLUMN|REGEX|parent")] = None
    """Related samples (frames of a clip, images of a patient) that a random split keeps on one side: a column of a
    table; of files, parent (the folder of each) or a regular expression on the path of each; an array of an .npz."""
    attribute: Annotated[str | None, optional("COLUMN|REGEX|parent")] = None
    """Sex, colour, hospital: an attribute of each sample, in the forms of --group, that has its values on both sides of
    a split. A column of a table stays an input; COLUMN:excluded leaves it out."""
    check_cache: Flag = False
    """For a folder that was decoded before: compare the files' contents, not only their names, sizes and times."""
    split_seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of the split into training and test parts, where the data bring none. Keep it the same for one data set."""
    test_fraction: Annotated[float, arg(metavar="F")] = 0.2
    """Fraction of the samples in that test part."""


@dataclass(frozen=True, kw_only=True)
class DataCommand(Command):
    """A command that reads real data."""

    reading: DataOptions = DataOptions()


@dataclass(frozen=True, kw_only=True)
class ForceOption:
    """Option of every command that writes a file."""

    force: Flag = False
    """Replace an existing file, even if it is not the same thing made again: never one that the command reads."""


@dataclass(frozen=True, kw_only=True)
class DeviceOption:
    """Option of every command that computes."""

    device: Annotated[Literal["auto", "cpu", "cuda"], arg(metavar="auto|cpu|cuda")] = "auto"
    """Device to compute on."""


@dataclass(frozen=True, kw_only=True)
class JobOptions(DeviceOption):
    """Options of every command with independent jobs."""

    executor: Annotated[str | None, optional("serial|processes|ray")] = None
    """Run independent jobs one after another, in a process for each core (or processes:workers=4), or as tasks of Ray.
    (default: what is faster)"""
    address: Annotated[str | None, optional("HOST:PORT")] = None
    """With --executor ray: the cluster (auto: the one that this machine is part of), if not this machine alone."""

    @property
    def executor_spec(self) -> str | None:
        """The executor with its address, as one word: ``ray:address=HOST:PORT``."""
        if self.executor is None or self.address is None:
            return self.executor
        return f"{self.executor}{',' if ':' in self.executor else ':'}address={self.address}"
