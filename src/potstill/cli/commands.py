"""The commands' options: one frozen dataclass each, from which tyro derives the command line. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from tyro.conf import Positional, UseAppendAction, arg

from potstill.cli.values import Amounts, Bytes, Integers, Names, Seconds, Size, Spelled

__all__ = [
    "COMMANDS",
    "Active",
    "Cache",
    "Command",
    "Common",
    "Compare",
    "Completion",
    "Csod",
    "DataCommand",
    "DataOptions",
    "Distill",
    "Evaluate",
    "Export",
    "Import",
    "Inspect",
    "ListMethods",
    "Listing",
    "Making",
    "Plan",
    "Rebuild",
    "Report",
    "Scaling",
    "Score",
    "Study",
    "Verify",
]

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Data = Annotated[Positional[str], arg(metavar="DATA")]
File = Annotated[Positional[Path], arg(metavar="FILE.safetensors")]


def _unset(metavar: str) -> object:
    """Help of an option that may be left out: its value's name, and no ``(default: None)``."""
    return arg(metavar=metavar, help_behavior_hint="")


Flag = Annotated[bool, arg(help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every command takes."""

    json: Flag = False
    """One JSON document on stdout and nothing else there."""
    quiet: Flag = False
    """No progress and no notes on stderr."""
    debug: Flag = False
    """Show where an error was raised."""
    limit: Annotated[UseAppendAction[tuple[str, ...]], _unset("NAME=VALUE")] = ()
    """Read files beyond one of the limits that guard this machine, or fewer: pixels=200000000, archive_bytes=4TB; may
    be given several times. Every refusal names its limit."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What every command that reads real data takes."""

    data_root: Annotated[Path | None, _unset("DIR")] = None
    """Where the standard files of known names lie (else $POTSTILL_DATA)."""
    label: Annotated[str | None, _unset("COLUMN")] = None
    """The label column of a table."""
    task: Annotated[str | None, _unset("NAME")] = None
    """What is to be learned, if not classes: regression, forecast:window=96,horizon=24, or retrieval."""
    size: Annotated[Size | None, _unset("HxW")] = None
    """Resize pictures to this height and width: 32 or 32x48."""
    skip_bad: Flag = False
    """Leave out files that cannot be read instead of stopping at the first."""
    stream: Flag = False
    """Read and decode pictures as they are needed. Of itself where they would fill more than half of the memory."""
    missing: Annotated[Literal["impute", "drop", "refuse"] | None, _unset("impute|drop|refuse")] = None
    """Missing values of a table: fill them by the training part, leave their rows out, or stop (the default)."""
    series: Annotated[str | None, _unset("COLUMN")] = None
    """The column that says which of several series a row belongs to, for --task forecast."""
    mirror: Annotated[Literal["yes", "no"] | None, _unset("yes|no")] = None
    """Whether a mirrored picture is still of its class (else: known digits are not, all others are)."""
    duplicates: Annotated[Literal["exact", "near", "together"] | None, _unset("exact|near|together")] = None
    """Test samples that are in training, too: count exact copies (of streamed data only if asked), or near ones as
    well; together: a split that is drawn keeps copies on one side."""
    group: Annotated[str | None, _unset("COLUMN|REGEX|parent")] = None
    """Related samples (frames of a clip, pictures of a patient) that a drawn split keeps on one side: a column of a
    table; of files, parent (the folder of each) or a regular expression on the path of each; an array of an .npz."""
    check_cache: Flag = False
    """Of a folder that was decoded before: compare the files' contents, not only their names, sizes and times."""
    split_seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of the split into training and test parts, where the data bring none. Keep it the same for one data set."""
    test_fraction: Annotated[float, arg(metavar="F")] = 0.2
    """Size of that test part."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command's own options, and the common ones."""

    common: Common = Common()


@dataclass(frozen=True, kw_only=True)
class DataCommand(Command):
    """A command that reads real data."""

    reading: DataOptions = DataOptions()


@dataclass(frozen=True, kw_only=True)
class Force:
    """What every command takes that writes a file."""

    force: Flag = False
    """Replace a file that is there, even if it is not the same thing made again: never one that the command reads."""


@dataclass(frozen=True, kw_only=True)
class Making(DataCommand):
    """What says how a set is made: the options of `distill` that `plan` shares."""

    data: Data
    """The real data."""
    method: Annotated[str, arg(metavar="NAME")] = "dm"
    """How: one of `potstill methods`, or auto: chosen on training data that are held out, within --time-limit."""
    ipc: Annotated[int | None, _unset("N")] = None
    """How much: stored items per class."""
    items: Annotated[int | None, _unset("N")] = None
    """How much, instead: stored items in all."""
    bytes: Annotated[Bytes | None, _unset("20kB")] = None
    """How much, instead: stored bytes in all (B, kB, MB, KiB, MiB)."""
    balance: Annotated[Literal["natural", "equal"] | None, _unset("natural|equal")] = None
    """How --items and --bytes are shared out: in proportion to the classes' samples, or as many of each. (default:
    natural; with --ipc equal)"""
    effort: Annotated[Literal["quick", "good", "published"] | None, _unset("quick|good|published")] = None
    """How many steps: minutes on a laptop, about an hour, or what the paper says. A number that `potstill methods NAME`
    shows, never a clock; options that are given win. (default: quick; published with --steps or --recipe)"""
    recipe: Annotated[Path | None, _unset("R.yaml")] = None
    """Options from a file, by their names, or of a recipe that comes with Potstill (dm); the command line wins."""
    steps: Annotated[int | None, _unset("N")] = None
    """Stop after this many steps."""
    time_limit: Annotated[Seconds | None, _unset("10m")] = None
    """Stop after this much time (s, m, h), preparation counted, and keep what there is."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Decides everything that is drawn."""
    network: Annotated[str | None, _unset("NAME")] = None
    """The network to distil with: one of `potstill networks`."""
    parametrization: Annotated[str | None, _unset("NAME")] = None
    """What is stored and optimised: one of `potstill parametrizations`."""
    labels: Annotated[str | None, _unset("NAME")] = None
    """Which labels the file holds: hard (classes), learned (rows that are optimised too), soft (a teacher's)."""
    augment: Annotated[str | None, _unset("NAME")] = None
    """Augmentation while distilling: one of `potstill augmentations`."""
    zca: Annotated[str | None, _unset("mtt|frepo|kip")] = None
    """Whiten the inputs first, as one of these papers does, and distil there."""
    store: Annotated[str | None, _unset("NAME")] = None
    """How values are written: float32, float16, uint8, uint4, uint2 …, or auto: the fewest bits that cost no accuracy
    that can be told on a part of the training data. (default: auto; chosen samples as they are; with --bytes uint4)"""
    device: Annotated[Device, arg(metavar="auto|cpu|cuda")] = "auto"
    """Where to compute."""
    executor: Annotated[str | None, _unset("serial|processes|ray")] = None
    """Where independent jobs run: one after another, in a process for each core (or processes:workers=4), or as tasks
    of Ray. (default: what is faster)"""
    address: Annotated[str | None, _unset("HOST:PORT")] = None
    """With --executor ray: the cluster (auto: the one that this machine is part of), if not this machine alone."""


@dataclass(frozen=True, kw_only=True)
class Distill(Force, Making):
    """Make a small training set out of DATA.

    DATA is a bundled name (digits, mnist-5k), a known name (cifar10), a folder of pictures, an .npz, .csv or .parquet
    file, hub:NAME, or WebDataset shards; `potstill data` lists them. The method's own settings are options too
    (--method NAME --help lists them).
    """

    out: Annotated[Path, arg(metavar="FILE.safetensors")]
    """The file to write. A run's checkpoint lies beside it until the run is finished."""
    resume: Flag = False
    """Go on from the checkpoint of an interrupted run; start where there is none, and do nothing where this command has
    finished before."""
    resume_anyway: Flag = False
    """Go on also where other versions or kernels made the checkpoint: the bits are then those of neither, and the set's
    card says so."""
    checkpoint_every: Annotated[Seconds, arg(metavar="60s")] = 60.0  # type: ignore[assignment]
    """Time between checkpoints."""
    scores: Annotated[Path | None, _unset("SCORES.parquet")] = None
    """Select by these numbers, as `potstill score` writes them, instead of making them."""
    experts: Annotated[tuple[Path, ...], arg(metavar="PATH ...", help_behavior_hint="")] = ()
    """Match these expert trajectories, instead of training them: files that an earlier run kept, published replay
    buffers (replay_buffer_0.pt), or folders of them."""
    log: Annotated[tuple[str, ...], arg(metavar="NAME:PLACE ...", help_behavior_hint="")] = ()
    """Where settings, numbers of steps and the result also go: tensorboard:DIR, wandb:PROJECT, mlflow:EXPERIMENT."""
    film: Flag = False
    """Also keep some inputs at a few steps, in FILE.safetensors.film (a megabyte at most): report shows them."""
    class_shards: Annotated[int | None, _unset("K")] = None
    """Make the classes in K groups, each a job of the executor that goes on by itself where it is interrupted: for
    methods that can (dm, m3d, rded, sre2l, …; else it is refused)."""


@dataclass(frozen=True, kw_only=True)
class Plan(Making):
    """Say what `potstill distill` with the same options would cost, without running it.

    First the time and the memory at its peak: some steps are run for that. Then the parts that were chosen, the size of
    the set, the steps, the real samples that each reads, and networks that must be trained first. The method's own
    settings are options too (--method NAME --help lists them).
    """

    measure: Annotated[int | None, _unset("K")] = None
    """Run so many steps, after one that is not timed, to say how long all take; 0: none (else as many as 5 s hold)."""
    details: Flag = False
    """Also say what passes a network in each step, and the memory term by term. --json always has both."""
    on: Annotated[str | None, _unset("MACHINES")] = None
    """Say it of machines that are not here: nodes=4,gpus=8,memory=80GB,flops=312T,bandwidth=100Gbit (and efficiency,
    link, disk, cores, price), or a YAML file of these. DATA may then be like:imagenet-1k, like:imagenet-21k or
    like:samples=50000,classes=10,shape=3x32x32, and need not be here. Labels and students are counted too."""
    experts: Annotated[tuple[Path, ...], arg(metavar="PATH ...", help_behavior_hint="")] = ()
    """Match these expert trajectories, instead of training them: files that an earlier run kept, published replay
    buffers (replay_buffer_0.pt), or folders of them."""
    students: Annotated[str | None, _unset("PROTOCOL")] = None
    """With --on: whose labels and students (else of the method's protocol, if it has one, or sre2l)."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Force, DataCommand):
    """Measure how well models train on a distilled set: train on it under a protocol, score on the real test split.

    The same is done with real samples in the same bytes, random and chosen, stored as serves them best; with as many
    random samples; and with the full data. The protocol's own settings are options too (--protocol NAME --help lists
    them); changing one changes the fingerprint.
    """

    file: File
    """The distilled set."""
    data: Annotated[str, arg(metavar="DATA")]
    """The real data that it was made of."""
    protocol: Annotated[str, arg(metavar="NAME")] = "potstill"
    """How to measure: one of `potstill protocols`."""
    network: Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint="")] = ()
    """The networks to train on it; more than one also says how well the set carries over."""
    quick: Flag = False
    """A shortened protocol, to look at a set and not to report it: 3 students, at most 100 epochs or 60 updates, no
    robust scores, no full data, few ways to store real samples, and with labels that are classes none with soft labels.
    The scorecard says so and its fingerprint differs."""
    seeds: Annotated[int | None, _unset("K")] = None
    """How many independent trainings (else as many as the protocol says)."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """The first of those seeds."""
    no_baselines: Flag = False
    """Do not measure the baselines."""
    no_full: Flag = False
    """Do not measure training on the full data."""
    no_robust_scores: Flag = False
    """Do not measure hlr, ior, lrs and ars."""
    no_weights: Flag = False
    """Train on all samples alike, also where the set has weights."""
    stored: Annotated[Path | None, _unset("LABELS.safetensors")] = None
    """A teacher's labels of this set, as `potstill label` writes them."""
    side_by_side: Annotated[int | None, _unset("S")] = None
    """How many students to train as one network (else 32 on a GPU, 1 on a CPU)."""
    out: Annotated[Path | None, _unset("scorecard.json")] = None
    """Also write the scorecard here."""
    device: Annotated[Device, arg(metavar="auto|cpu|cuda")] = "auto"
    """Where to compute."""
    executor: Annotated[str | None, _unset("serial|processes|ray")] = None
    """Where independent jobs run: one after another, in a process for each core (or processes:workers=4), or as tasks
    of Ray. (default: what is faster)"""
    address: Annotated[str | None, _unset("HOST:PORT")] = None
    """With --executor ray: the cluster (auto: the one that this machine is part of), if not this machine alone."""


@dataclass(frozen=True, kw_only=True)
class Label(Force, DataCommand):
    """Store a teacher's labels of a distilled set, of every view that students will see, or the teacher itself.

    `potstill evaluate --stored` then reads the file. An interrupted command goes on when it is given again, and ends
    with the same bytes. The protocol's own settings are options too (--protocol NAME --help lists them).
    """

    file: File
    """The distilled set."""
    data: Annotated[str, arg(metavar="DATA")]
    """The real data that it was made of: what teachers were, or are, trained on."""
    out: Annotated[Path, arg(metavar="LABELS.safetensors")]
    """The file to write."""
    protocol: Annotated[str, arg(metavar="NAME")] = "sre2l"
    """For which students: one of `potstill protocols` in which a teacher labels."""
    network: Annotated[str | None, _unset("NAME")] = None
    """The students' network; the teacher has it where neither the set nor the protocol says another."""
    store_as: Annotated[Literal["rows", "teacher", "auto"], arg(metavar="rows|teacher|auto")] = "rows"
    """The labels; the teacher itself, who labels again when asked; or what takes fewer bytes."""
    top_k: Annotated[int | None, _unset("K")] = None
    """Classes of each label to keep (else all)."""
    dtype: Annotated[Literal["float16", "uint8", "uint4"] | None, _unset("float16|uint8|uint4")] = None
    """How each number is stored (else float16 for labels, uint8 for a teacher)."""
    pool: Annotated[int | None, _unset("E")] = None
    """Epochs to store, where fewer than are trained (else all)."""
    fkd: Annotated[Path | None, _unset("FOLDER")] = None
    """Store the labels in this folder, as FKD and SRe2L publish them, of this set (its pictures sorted by class): with
    their own crops, and nothing is trained."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Decides the views."""
    device: Annotated[Device, arg(metavar="auto|cpu|cuda")] = "auto"
    """Where to compute."""
    executor: Annotated[str | None, _unset("serial|processes|ray")] = None
    """Where independent jobs run: one after another, in a process for each core (or processes:workers=4), or as tasks
    of Ray. (default: what is faster)"""
    address: Annotated[str | None, _unset("HOST:PORT")] = None
    """With --executor ray: the cluster (auto: the one that this machine is part of), if not this machine alone."""


@dataclass(frozen=True, kw_only=True)
class Score(Force, DataCommand):
    """Give every training sample of DATA numbers, by several methods, in one file that can be sorted.

    Networks are trained once and what they say is kept, for all methods and later runs. `potstill distill --scores`
    then selects at any budget at once.
    """

    data: Data
    """The real data."""
    methods: Names
    """Which scores, with commas between them: methods such as forgetting,aum,cartography."""
    out: Annotated[Path, arg(metavar="SCORES.parquet")]
    """The file to write: one row per sample."""
    network: Annotated[str | None, _unset("NAME")] = None
    """The network that is trained: one of `potstill networks`."""
    epochs: Annotated[int | None, _unset("N")] = None
    """Epochs of the training that is recorded, in place of the methods' own."""
    runs: Annotated[int | None, _unset("K")] = None
    """Independent trainings, in place of the methods' own."""
    map: Annotated[Path | None, _unset("MAP.svg")] = None
    """Also draw the data map of cartography, which must be among the methods."""
    device: Annotated[Device, arg(metavar="auto|cpu|cuda")] = "auto"
    """Where to compute."""
    executor: Annotated[str | None, _unset("serial|processes|ray")] = None
    """Where independent jobs run: one after another, in a process for each core (or processes:workers=4), or as tasks
    of Ray. (default: what is faster)"""
    address: Annotated[str | None, _unset("HOST:PORT")] = None
    """With --executor ray: the cluster (auto: the one that this machine is part of), if not this machine alone."""


@dataclass(frozen=True, kw_only=True)
class Compare(DataCommand):
    """Run several methods on DATA at several sizes and measure each: a leaderboard that says what is better, and what
    only looks so.

    The same command again goes on where an interrupted one stopped: cells that are finished are read, not run; a larger
    grid takes over those of a smaller one. The protocol's own settings are options too (--protocol NAME --help lists
    them).
    """

    data: Data
    """The real data."""
    methods: Names
    """Which methods, with commas between them."""
    ipc: Annotated[Integers | None, _unset("N,…")] = None
    """Which sizes: stored items per class, with commas between them."""
    items: Annotated[Integers | None, _unset("N,…")] = None
    """Or in all, where there are no classes."""
    bytes: Annotated[Amounts | None, _unset("20kB,…")] = None
    """Which sizes, beside or in place of these: stored bytes in all."""
    balance: Annotated[Literal["natural", "equal"] | None, _unset("natural|equal")] = None
    """How --items and --bytes are shared out between classes, as for distill. (default: natural)"""
    sets: Annotated[int, arg(metavar="N")] = 1
    """How many sets of each, with the seeds S, S+1, …: methods are told apart over sets, so three or more for that."""
    parametrizations: Annotated[Spelled | None, _unset("NAME,…")] = None
    """What is stored and optimised, each in turn: of `potstill parametrizations`. (default: the methods' own)"""
    stores: Annotated[Spelled | None, _unset("NAME,…")] = None
    """How values are written, each in turn: of `potstill stores`. (default: as distill does)"""
    grid: Annotated[Path | None, _unset("GRID.yaml")] = None
    """Any of these options from a file, by their names; the command line wins."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The folder for the distilled sets, their scorecards and leaderboard.json."""
    effort: Annotated[Literal["quick", "good", "published"] | None, _unset("quick|good|published")] = None
    """How hard each method tries, as for distill. (default: quick)"""
    time_limit: Annotated[Seconds | None, _unset("10m")] = None
    """Time for each distillation (s, m, h)."""
    seeds: Annotated[int | None, _unset("K")] = None
    """How many independent trainings on each set."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Decides everything that is drawn."""
    protocol: Annotated[str, arg(metavar="NAME")] = "potstill"
    """How to measure: one of `potstill protocols`."""
    protocols: Annotated[Names | None, _unset("NAME,…")] = None
    """Or several of them."""
    network: Annotated[str | None, _unset("NAME")] = None
    """The network to distil and to measure with."""
    film: Flag = False
    """Also keep some pictures of each set at a few steps, beside it: the page shows how they became what they are."""
    set: Annotated[UseAppendAction[tuple[str, ...]], _unset("METHOD.FIELD=VALUE")] = ()
    """An option of one of the methods, such as dm.iterations=500, or of one of the protocols, such as
    protocol:dc.epochs=50; may be given several times."""
    device: Annotated[Device, arg(metavar="auto|cpu|cuda")] = "auto"
    """Where to compute."""
    executor: Annotated[str | None, _unset("serial|processes|ray")] = None
    """Where independent jobs run: one after another, in a process for each core (or processes:workers=4), or as tasks
    of Ray. (default: what is faster)"""
    address: Annotated[str | None, _unset("HOST:PORT")] = None
    """With --executor ray: the cluster (auto: the one that this machine is part of), if not this machine alone."""


@dataclass(frozen=True, kw_only=True)
class Study(Force, DataCommand):
    """Write the report card of a distilled set: what students learn from it besides their score.

    Parts, cheap ones first: nearest (the nearest real sample of each item, and copies), labeller (whether networks of
    real data read the items), calibration, mixing (the set beside real samples), agreement (with networks of real data
    that were stopped early), curvature of the loss, influence (students without each item). What each will take is said
    before it runs. Nothing is chosen by what is found.
    """

    file: File
    """The distilled set."""
    data: Annotated[str, arg(metavar="DATA")]
    """The real data that it was made of."""
    parts: Annotated[Names | None, _unset("A,B,C")] = None
    """Which parts, with commas between them (else all)."""
    plan: Flag = False
    """Only say what it will take."""
    on: Annotated[Literal["test", "validation"] | None, _unset("test|validation")] = None
    """Which real samples students are asked about; validation is a fifth of the training part, which the set may have
    been made of. (default: test, where there is one)"""
    students: Annotated[int | None, _unset("K")] = None
    """Students of each training set (else 3)."""
    steps: Annotated[int | None, _unset("N")] = None
    """Updates of every student (else 180)."""
    lr: Annotated[float | None, _unset("R")] = None
    """Their learning rate (else that which was learned with the set, or 0.03)."""
    real: Annotated[Integers | None, _unset("N,…")] = None
    """For mixing: real samples per class that are added (else 1,5,20)."""
    stops: Annotated[Integers | None, _unset("N,…")] = None
    """For agreement and labeller: updates after which networks of real data are looked at (else 1,3,10,30,100,300)."""
    groups: Annotated[int | None, _unset("N")] = None
    """For influence: items that are left out one by one, at most; of larger sets groups of a class (else 100)."""
    network: Annotated[str | None, _unset("NAME")] = None
    """The students' network (else that which the set was made with)."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Decides everything that is drawn."""
    out: Annotated[Path | None, _unset("SET.study.json")] = None
    """Also write the report card here; beside the set, `potstill report` shows it."""
    device: Annotated[Device, arg(metavar="auto|cpu|cuda")] = "auto"
    """Where to compute."""
    executor: Annotated[str | None, _unset("serial|processes|ray")] = None
    """Where independent jobs run: one after another, in a process for each core (or processes:workers=4), or as tasks
    of Ray. (default: what is faster)"""
    address: Annotated[str | None, _unset("HOST:PORT")] = None
    """With --executor ray: the cluster (auto: the one that this machine is part of), if not this machine alone."""


@dataclass(frozen=True, kw_only=True)
class Scaling(DataCommand):
    """Measure what a teacher's soft labels buy in data, over budgets and stops of the teacher, and fit a law to it.

    Teacher and students see training data alone: a part of them is held out to measure on, and the test part is not
    read. The same command again goes on where an interrupted one stopped.
    """

    data: Data
    """The real data."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The folder for scaling.json and the plot scaling.svg."""
    ipc: Integers = (1, 2, 5, 10, 20, 50)
    """Budgets: real samples per class, four or more, with commas between them."""
    stops: Integers = (2, 5, 10, 20, 50)
    """Epochs after which the teacher is stopped, with commas between them."""
    sets: Annotated[int, arg(metavar="K")] = 5
    """Draws of real samples; intervals are over them."""
    steps: Annotated[int, arg(metavar="N")] = 200
    """Updates of each student."""
    batch: Annotated[int, arg(metavar="N")] = 64
    """Samples in each of them, at most."""
    lr: Annotated[float, arg(metavar="F")] = 0.03
    """The students' learning rate."""
    validation: Annotated[float, arg(metavar="F")] = 0.2
    """Part of the training data to hold out and measure on, at most 4,000 samples."""
    network: Annotated[str | None, _unset("NAME")] = None
    """The network of teacher and students."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Decides everything that is drawn."""
    device: Annotated[Device, arg(metavar="auto|cpu|cuda")] = "auto"
    """Where to compute."""
    executor: Annotated[str | None, _unset("serial|processes|ray")] = None
    """Where independent jobs run: one after another, in a process for each core (or processes:workers=4), or as tasks
    of Ray. (default: what is faster)"""
    address: Annotated[str | None, _unset("HOST:PORT")] = None
    """With --executor ray: the cluster (auto: the one that this machine is part of), if not this machine alone."""


@dataclass(frozen=True, kw_only=True)
class Active(Force, DataCommand):
    """What labels would cost: active learning on DATA, whose labels are asked for a few at a time.

    A learner is trained anew after each round, and the next samples are those that it would learn most from. Random
    choice runs beside it, and training on all labels. To label data of your own, call `potstill.active.learning`.
    """

    data: Data
    """The real data, with labels: only those asked for are read, but for the accuracy on all of them."""
    acquire: Annotated[Names, arg(metavar="NAME,...")] = ("margin",)
    """How to choose: random, least-confidence, entropy, margin, badge, core-set, with commas between them."""
    rounds: Annotated[int, arg(metavar="R")] = 10
    """Rounds after the start."""
    per_round: Annotated[int, arg(metavar="B")] = 20
    """Labels asked for in each round."""
    start: Annotated[int | None, _unset("N")] = None
    """Random samples asked for first (else as many as in a round)."""
    candidates: Annotated[int | None, _unset("N")] = None
    """A round looks at so many random samples of the pool (else at all)."""
    fraction: Annotated[float, arg(metavar="F")] = 0.95
    """Labels are counted until so much of the full accuracy is reached."""
    network: Annotated[str | None, _unset("NAME")] = None
    """The learner's network: one of `potstill networks`."""
    steps: Annotated[int, arg(metavar="N")] = 200
    """The learner's updates in each round."""
    batch: Annotated[int, arg(metavar="N")] = 64
    """Samples of an update."""
    lr: Annotated[float, arg(metavar="LR")] = 0.01
    """Its learning rate."""
    seeds: Annotated[int, arg(metavar="K")] = 5
    """How many independent runs of each."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """The first of them."""
    out: Annotated[Path | None, _unset("active.json")] = None
    """Also write the result here."""
    plot: Annotated[Path | None, _unset("active.svg")] = None
    """Draw accuracy against labels into this file."""
    device: Annotated[Device, arg(metavar="auto|cpu|cuda")] = "auto"
    """Where to compute."""


@dataclass(frozen=True, kw_only=True)
class Csod(Force, Command):
    """Choose images of a detection data set whose boxes stand for those of the others, class by class (CSOD).

    ANNOTATIONS is COCO's .json file or a folder of VOC's .xml files; the choice is written as COCO's JSON.
    """

    annotations: Annotated[Positional[Path], arg(metavar="ANNOTATIONS")]
    """The boxes."""
    n: Annotated[int, arg(metavar="N")]
    """How many images to keep."""
    out: Annotated[Path, arg(metavar="SUBSET.json")]
    """The file to write: annotations of the chosen images, their indices, and the hash of the whole set."""
    images: Annotated[Path | None, _unset("DIR")] = None
    """The folder of the pictures (else the annotations' own, or VOC's JPEGImages)."""
    redundancy: Annotated[float, arg(metavar="L")] = 1.0
    """λ: how much an image that is like those chosen already counts against itself."""
    crop: Annotated[int, arg(metavar="PX")] = 8
    """Boxes are compared as crops resized to so many pixels a side."""


@dataclass(frozen=True, kw_only=True)
class Report(Force, DataCommand):
    """Make one page, readable offline, of scorecards, leaderboards and distilled sets.

    Of the folder of a comparison it is the page of the whole question: accuracy against bytes and time, a leaderboard
    that sorts and filters, pictures side by side.
    """

    paths: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR|FILE ...", help_behavior_hint="(at least one)")]
    """Folders to look through, or single files."""
    out: Annotated[Path, arg(metavar="page.html")]
    """The page to write."""
    data: Annotated[str | None, _unset("DATA")] = None
    """Of a comparison: its real data, to show the nearest real picture beside each distilled one."""


@dataclass(frozen=True, kw_only=True)
class View(DataCommand):
    """Serve the page of a comparison on this machine while it runs; the page loads itself again as cells are done.

    Only this machine reaches it (127.0.0.1), and nothing but the page is served. Ctrl-C ends it.
    """

    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """The folder of the comparison."""
    port: Annotated[int, arg(metavar="N")] = 8620
    """Where: http://127.0.0.1:N/; 0 takes any port that is free."""
    data: Annotated[str | None, _unset("DATA")] = None
    """Its real data, to show the nearest real picture beside each distilled one."""


@dataclass(frozen=True, kw_only=True)
class Inspect(Command):
    """Say what is in a distilled set: its card, its tensors and their sizes."""

    file: File
    """The distilled set."""


@dataclass(frozen=True, kw_only=True)
class Verify(Command):
    """Say what files are and whether they are whole: read all of each, hold it against its hash, and run nothing in it.

    Of a folder: every file in it and below that Potstill writes. Exit status 1 where one is not whole.
    """

    paths: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR|FILE ...", help_behavior_hint="(at least one)")]
    """Files, or folders to look through."""


@dataclass(frozen=True, kw_only=True)
class Cache(Command):
    """List, verify or prune what is kept so that it need not be made again (in $POTSTILL_CACHE).

    Only files that Potstill keeps there are deleted, none that a running process has in use. What a run lacks later it
    makes again.
    """

    what: Annotated[
        Positional[Literal["list", "verify", "prune"]], arg(metavar="list|verify|prune", help_behavior_hint="")
    ] = "list"
    """What to do."""
    kind: Annotated[str | None, _unset("KIND")] = None
    """prune: only this kind, as list names it."""
    unused: Annotated[int | None, _unset("DAYS")] = None
    """prune: what nobody used for so many days."""
    at_most: Annotated[Bytes | None, _unset("5GB")] = None
    """prune: until no more is left, what was used longest ago first."""
    damaged: Flag = False
    """prune: what is not whole."""


@dataclass(frozen=True, kw_only=True)
class Export(Force, DataCommand):
    """Write a distilled set in a form that other programs read.

    hf is a folder that Hugging Face's datasets.load_dataset reads, with a card and a program that trains on it. Of a
    selection also: files, the chosen pictures of a folder; hf with --data, the chosen rows as they are there; and
    indices, the set without its inputs, which `potstill rebuild` puts together again.
    """

    file: File
    """The distilled set."""
    to: Annotated[
        Literal["png", "npz", "parquet", "csv", "webdataset", "files", "hf", "indices"],
        arg(metavar="png|npz|parquet|csv|webdataset|files|hf|indices"),
    ]
    """The form."""
    out: Annotated[Path, arg(metavar="PATH")]
    """Where to: a folder for png, webdataset, files and hf, a file for the others."""
    data: Annotated[str | None, _unset("DATA")] = None
    """For files, and for hf of a selection's original rows: the real data that it was made of."""
    link: Annotated[Literal["copy", "hard", "symbolic"], arg(metavar="copy|hard|symbolic")] = "copy"
    """For files: copy them, or link to the originals."""
    license: Annotated[str | None, _unset("ID")] = None
    """For hf: what others may do with the set, as the Hub names it (cc-by-4.0); usually as its source says."""


@dataclass(frozen=True, kw_only=True)
class Import(Force, DataCommand):
    """Read a set that another program released, and write it as a set of Potstill. Nothing in its files is run.

    dc: res_*.pt of DC, DSA, DM; mtt: images_best.pt with labels_best.pt; datm: with lr_best.pt as well; idc: data.pt;
    ncfm: data_N.pt; folder: pictures in a folder for each class (SRe2L, RDED, EDC); dilm: texts, dataset_N.json.
    Tensors that were normalised or whitened are led back to pixels: say by what, with --mean and --std, --known or
    --data.
    """

    path: Annotated[Positional[Path], arg(metavar="PATH")]
    """The file, or the folder that it lies in."""
    out: Annotated[Path, arg(metavar="SET.safetensors")]
    """The set to write."""
    format: Annotated[
        Literal["dc", "mtt", "datm", "idc", "ncfm", "folder", "dilm"] | None, _unset("dc|mtt|datm|idc|ncfm|folder|dilm")
    ] = None
    """Who wrote it (else as its files are named)."""
    known: Annotated[str | None, _unset("NAME")] = None
    """The data's known name, for published constants and class names: cifar10, mnist, …; they are not read."""
    data: Annotated[str | None, _unset("DATA")] = None
    """The real data that it was made of: read for class names, hash and constants."""
    mean: Annotated[tuple[float, ...] | None, _unset("M ...")] = None
    """What was subtracted from each channel."""
    std: Annotated[tuple[float, ...] | None, _unset("S ...")] = None
    """What each channel was then divided by."""
    zca: Annotated[Literal["mtt", "frepo"] | None, _unset("mtt|frepo")] = None
    """The tensors are whitened as these papers do; needs --data, which the whitening is fitted on."""
    factor: Annotated[int | None, _unset("F")] = None
    """Of idc and ncfm: pictures along a side of each stored one (else what the path says, as in factor2)."""
    run: Annotated[int | None, _unset("N")] = None
    """Of dc: which of the file's experiments; of dilm: which of the folder's files; from 0 (else the last)."""
    lr: Annotated[float | None, _unset("LR")] = None
    """The learning rate that was learned with it, where no file has it."""
    method: Annotated[str | None, _unset("NAME")] = None
    """What made it (else as the files are named)."""


@dataclass(frozen=True, kw_only=True)
class Rebuild(Force, DataCommand):
    """Put a selection that was stored as indices together with its data again: the same set, to the last bit."""

    file: File
    """The indices, as `potstill export --to indices` writes them."""
    data: Annotated[str, arg(metavar="DATA")]
    """The real data that the selection was made of."""
    out: Annotated[Path, arg(metavar="SET.safetensors")]
    """The set to write."""


@dataclass(frozen=True, kw_only=True)
class Listing(Command):
    """List what there is."""


@dataclass(frozen=True, kw_only=True)
class ListMethods(Listing):
    """List the ways to distil; with names, those alone, with all of their options."""

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="[NAME ...]", help_behavior_hint="")] = ()
    """Methods whose options are wanted, with their defaults and what they mean."""


@dataclass(frozen=True, kw_only=True)
class Completion(Command):
    """Print what makes a shell complete commands, options, and names of methods, networks and so on at the Tab key.

    bash: `potstill completion bash > ~/.local/share/bash-completion/completions/potstill`. zsh: into a file `_potstill`
    in a folder of $fpath. fish: into ~/.config/fish/completions/potstill.fish. Then open a new shell.
    """

    shell: Annotated[Positional[Literal["bash", "zsh", "fish"]], arg(metavar="bash|zsh|fish")]
    """The shell."""


COMMANDS: dict[str, tuple[type[Command], str]] = {
    "distill": (Distill, "make a small training set out of a large one"),
    "plan": (Plan, "what a distillation would cost: steps, memory, size, before it starts"),
    "evaluate": (Evaluate, "measure how well models train on a distilled set, and on its baselines"),
    "label": (Label, "a teacher's labels for every epoch and crop of a set, in one file"),
    "score": (Score, "numbers of every sample, to sort and to select by, in one parquet file"),
    "compare": (Compare, "a leaderboard of several methods on your own data"),
    "scaling": (Scaling, "what a soft label buys in data, as a law with its interval"),
    "study": (Study, "the report card of a set: what its students are like, which items matter, what is a copy"),
    "active": (Active, "what labels cost: accuracy against labels, chosen actively and at random"),
    "csod": (Csod, "a coreset of images with boxes: COCO's or VOC's annotations to a subset of them"),
    "report": (Report, "one page of scorecards, leaderboards and pictures"),
    "view": (View, "the page of a comparison, live on this machine while it runs"),
    "inspect": (Inspect, "what is in a distilled set"),
    "verify": (Verify, "what files are, and whether they are whole"),
    "export": (Export, "a distilled set as png, npz, parquet, webdataset or for Hugging Face; a selection as files"),
    "import": (Import, "a set that DC, DM, MTT, DATM, IDC, SRe2L or RDED released, as a set of Potstill"),
    "rebuild": (Rebuild, "a selection's indices and its data as a set again"),
    "methods": (ListMethods, "list the ways to distil, or the options of those that are named"),
    "protocols": (Listing, "list the ways to measure"),
    "networks": (Listing, "list the networks"),
    "data": (Listing, "list the data that are known by name, and the forms of your own"),
    "parametrizations": (Listing, "list what can be stored and optimised"),
    "augmentations": (Listing, "list the augmentations"),
    "stores": (Listing, "list how values can be written"),
    "cache": (Cache, "list, verify or prune what is kept so that it need not be made again"),
    "completion": (Completion, "what makes bash, zsh or fish complete all this"),
}
"""Every command: its options and one line about it."""
