"""Pages of the commands: one for each, out of its help and a stored run, and an index."""

import shlex
from collections.abc import Iterable

import potstill
from potstill.cli.commands import COMMAND_GROUPS, COMMANDS, command_class, find_command
from potstill.cli.help import CommandHelp, OptionGroup, OptionHelp, command_help
from tools.docs.command_examples import EXAMPLES, NOT_RUN, stored_examples
from tools.docs.generated_page import GeneratedPage, title_of
from tools.docs.parts import table

__all__ = ["GUIDES", "command_of", "command_page", "command_pages", "example_of", "page_of"]

MENU = ("Reference", "Commands")
LONGEST = 14
"""Lines of output that a page shows; the rest is an ellipsis."""
FUNCTIONS = {"import": "import_set"}
"""Functions of `potstill` that are named otherwise than their command."""
GUIDES: dict[str, tuple[str, ...]] = {
    "distill": ("guides/choose-a-method.md", "guides/budgets.md", "guides/resume.md", "guides/private-sets.md"),
    "plan": ("guides/costs.md",),
    "evaluate": ("explanation/accuracy.md", "reference/protocols.md"),
    "label": ("guides/soft-labels.md",),
    "score": ("guides/selection.md",),
    "compare": ("learn/first-comparison.md", "guides/choose-a-method.md"),
    "scaling": ("guides/soft-labels.md", "benchmarks/scaling.md"),
    "resample": ("guides/generator-as-set.md",),
    "use search": ("guides/search.md",),
    "use continual": ("guides/continual.md",),
    "use federated": ("guides/federated.md",),
    "use deletion": ("guides/deletion.md",),
    "use edge": ("guides/edge.md",),
    "use control": ("guides/control.md",),
    "use augmentation": ("guides/augmentation.md",),
    "use transfer": ("guides/representations.md",),
    "use instructions": ("guides/instructions.md",),
    "audit": ("guides/audit.md",),
    "audit privacy": ("guides/audit-privacy.md", "explanation/limitations.md"),
    "audit fairness": ("guides/fairness.md",),
    "audit screening": ("guides/medicine.md",),
    "audit robustness": ("guides/robustness.md",),
    "audit poisoning": ("guides/poisoning.md",),
    "sign": ("guides/provenance.md",),
    "mark": ("guides/provenance.md",),
    "audit provenance": ("guides/provenance.md",),
    "diagnose": ("guides/share.md",),
    "active-learning": ("guides/selection.md",),
    "select-detection": ("guides/selection.md",),
    "report": ("learn/first-comparison.md", "guides/share.md"),
    "serve": ("learn/first-comparison.md",),
    "inspect": ("reference/file-format.md",),
    "verify": ("guides/share.md", "guides/provenance.md"),
    "export": ("guides/share.md",),
    "import": ("guides/share.md",),
    "materialize": ("guides/selection.md",),
    "methods": ("methods/index.md", "guides/choose-a-method.md"),
    "protocols": ("reference/protocols.md", "explanation/accuracy.md"),
    "networks": ("reference/networks.md", "guides/networks.md"),
    "data": ("reference/data.md", "guides/load-data.md"),
    "kinds": ("reference/kinds.md", "extend/kind-of-data.md"),
    "tasks": ("reference/tasks.md",),
    "parametrizations": ("reference/parametrizations.md",),
    "augmentations": ("reference/augmentations.md",),
    "codecs": ("reference/codecs.md", "guides/budgets.md"),
    "cache": ("guides/resume.md",),
    "completion": ("learn/installation.md",),
    "demo": ("learn/installation.md",),
}
"""Pages that a reader of a command's page reads next."""
MORE: dict[str, tuple[str, ...]] = {
    "verify": (
        "## What it says",
        table(
            ["line", "what it means"],
            [
                ["`whole      small.safetensors: distilled set, …`", "every tensor is as it was written"],
                [
                    "`whole      …  (it says no hash)`",
                    "it can be read, but has no hash to compare with: a stranger may have changed it",
                ],
                [
                    "`NOT WHOLE  …: damaged: its content is not the one that was written (sha256)`",
                    "some bytes were changed",
                ],
                [
                    "`NOT WHOLE  …: unreadable: cut off or damaged (its tensors need 419 bytes, the file has 359)`",
                    "a download or a copy ended early",
                ],
                ["`NOT WHOLE  …: unreadable: not a safetensors file`", "it is no distilled set at all"],
            ],
        ),
        "A hash finds damage. It is no signature: who changes a file on purpose can change its hash, too. "
        "[`potstill sign`](sign.md) signs a file, and `--key` compares the signer.",
    ),
    "evaluate": (
        "## What takes the time",
        "Every row of the scorecard is trained: the students of this set, those of each baseline, the teacher of "
        "`random-soft`, and one network on all data.",
        table(
            ["to leave out", "give"],
            [
                ["everything but a first look", "`--quick`: another fingerprint, not to be reported"],
                ["the baselines, and the teacher of `random-soft`", "`--no-baselines`"],
                [
                    "the network on all data",
                    "`--no-full`; the teacher of `random-soft` still trains on them, for 200 steps",
                ],
                ["the scores `lrs` and `ars`, and their students", "`--no-robust-scores`"],
                ["some of the students", "`--seeds 2`: the same fingerprint, a wider interval"],
            ],
        ),
        "`--augment NAME` sets the augmentation of the students, in place of the [protocol's](../protocols.md); "
        "`--augment` of `distill` is another one, for the run that makes a set.",
    ),
}
"""Sections of a command's page beside its help."""
TRAINING = (
    "distill", "evaluate", "label", "score", "compare", "scaling", "diagnose", "active-learning", "use search",
    "use continual", "use federated", "use deletion", "use edge", "use control", "use augmentation",
    "use transfer", "use instructions",
    "audit", "audit privacy", "audit fairness", "audit screening", "audit robustness", "audit poisoning",
    "audit provenance",
)  # fmt: skip
"""Commands that train networks."""
STATUSES: list[list[object]] = [
    [0, "done"],
    [1, "failed, also diverged: one line on stderr says what was required, what was found and what to change"],
    [2, "misuse: the command line cannot be understood"],
    [130, "interrupted: the last line on stderr resumes it"],
]


def command_pages() -> list[GeneratedPage]:
    """Return the index of the commands, and a page for each."""
    return [
        GeneratedPage("reference/commands/index.md", "Commands", MENU, _index()),
        *(
            GeneratedPage(
                f"reference/commands/{page_of(name)}.md", name, (*MENU, group), command_page(command_help(name))
            )
            for group, names in COMMAND_GROUPS.items()
            for name in names
        ),
    ]


def page_of(name: str) -> str:
    """Return the file name of a command's page, without its ending."""
    return name.replace(" ", "-")


def command_of(line: str) -> str:
    """Return the command of a line, of one word or of two."""
    return find_command(shlex.split(line)[1:])[0]


def _index() -> str:
    lines = [
        "# Commands",
        "```text\npotstill COMMAND … [--json] [--quiet] [--debug] [--limit NAME=VALUE] [--help]\n```",
        "`potstill COMMAND --help` explains a command, and `--help --all` every option of it. Results go to stdout, "
        "progress and notes to stderr. `--json` prints one JSON document on stdout and nothing else there. No command "
        "writes over what it reads.",
    ]
    for group, names in COMMAND_GROUPS.items():
        rows: list[list[object]] = [[f"[`{name}`]({page_of(name)}.md)", COMMANDS[name]] for name in names]
        lines += [f"## {group}", table(["command", "what it does"], rows)]
    lines += [
        "## Exit status",
        table(["status", "meaning"], STATUSES),
        "## Environment",
        table(["variable", "what it sets"], [
            ["`POTSTILL_DATA`", "folder of the standard files of known data, in place of `--data-root`"],
            ["`POTSTILL_CACHE`", "folder of the cache: trained networks, trajectories, decoded files"],
            ["`POTSTILL_WORKERS`", "number of processes for independent jobs"],
            ["`POTSTILL_NATIVE`", "`0`: compile no kernels"],
            ["`NO_COLOR`", "no colours on a terminal"],
        ]),
    ]  # fmt: skip
    return "\n\n".join(lines) + "\n"


def command_page(help: CommandHelp) -> str:
    """Return the Markdown of one command."""
    name = help.name
    lines = [
        f"# potstill {name}",
        *help.paragraphs,
        f"```bash\n{help.usage}\n```",
        "## Example",
        *_example(name),
        "## Options",
    ]
    first = [*help.arguments, *help.main]
    lines.append(_options(first) if first else "It has no options of its own.")
    if help.part is not None:
        where = "[its page](../../methods/index.md)" if help.part == "method" else "[its page](../protocols.md)"
        lines.append(
            f"The {help.part}'s own fields are options, too: {where} explains them, and "
            f"`potstill {name} --{help.part} NAME --help` lists them."
        )
    lines += [_folded(group) for group in help.groups]
    lines += [*MORE.get(name, ()), *_files(name), "## JSON", _json(name)]
    lines += [
        "## Exit status",
        "0: done. 1: failed, with one line on stderr. 2: misuse. 130: interrupted. "
        "[All commands](index.md#exit-status) share them.",
        "## See also",
        "\n".join(f"- {link}" for link in _related(help)),
    ]
    return "\n\n".join(lines) + "\n"


def example_of(name: str) -> str:
    """Return the line that the page of a command shows."""
    run = (line for line in EXAMPLES if command_of(line) == name)
    return NOT_RUN.get(name) or next(run)


def _example(name: str) -> list[str]:
    line = example_of(name)
    stored = stored_examples().get(line)
    if stored is None:
        return [f"```bash\n{line}\n```"]
    printed = stored["output"].rstrip().splitlines()
    shown = printed if len(printed) <= LONGEST else [*printed[: LONGEST - 1], "…"]
    example = f"```bash\n{line}\n```\n\n```text\n" + "\n".join(shown) + "\n```"
    small = "The example is small, so that it ends in seconds; its numbers say nothing about the method."
    return [example, small] if name in TRAINING else [example]


def _options(options: Iterable[OptionHelp]) -> str:
    rows: list[list[object]] = []
    for o in options:
        spelled = o.spelled.replace("|", "&#124;<wbr>")  # a bar would end the cell
        required = " **Required.**" if o.is_required and o.flag.startswith("--") else ""
        rows.append([f"<code>{spelled}</code>", o.about + required, "" if o.default is None else f"`{o.default}`"])
    return table(["option", "what it does", "default"], rows)


def _folded(group: OptionGroup) -> str:
    body = "\n".join(f"    {line}" for line in _options(group.options).splitlines())
    return f'??? note "{group.title}"\n\n{body}'


def _files(name: str) -> list[str]:
    outputs = command_class(name).outputs
    if not outputs:
        return []
    rows: list[list[object]] = [
        [f"`--{option.replace('_', '-')}`", "a folder" if not suffixes else ", ".join(f"`{s}`" for s in suffixes)]
        for option, suffixes in outputs.items()
    ]
    return ["## Files", table(["option", "what is written"], rows)]


def _json(name: str) -> str:
    keys = next((found["keys"] for line, found in stored_examples().items()
                 if command_of(line) == name and found["keys"]), [])  # fmt: skip
    if not keys:
        return "`--json` prints one document on stdout."
    listed = ", ".join(f"`{key}`" for key in keys)
    about = " The keys of a set are explained in [File format](../file-format.md)." if name == "distill" else ""
    return f"`--json` prints one document on stdout, with the keys {listed}.{about}"


def _related(help: CommandHelp) -> list[str]:
    """Return links to the function, to guides, and to the commands under the same heading."""
    function = FUNCTIONS.get(help.name, help.name.replace(" ", "_"))
    links = [f"In Python: [`potstill.{function}`](../python/{function}.md)"] if function in potstill.__all__ else []
    links += [f"[{title}](../../{place})" for place in GUIDES[help.name] if (title := title_of(place))]
    others = [other for other in COMMAND_GROUPS[help.heading] if other != help.name]
    return [*links, "Other commands: " + ", ".join(f"[`{other}`]({page_of(other)}.md)" for other in others)]
