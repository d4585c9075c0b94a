"""Picture of docs/explanation/architecture.md: layers, the flow of a sample and of an option, read from the code.

Layers and who stands in them come from the import rules in pyproject.toml. A flow is a list of stops (``module:name``);
where one is not defined as it is said, nothing is drawn: no picture can be out of date.
"""

import ast
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

__all__ = ["Stop", "draw", "flows", "layers", "listed"]

SAMPLE = (
    ("potstill.runs.load_data:load_data", "a folder, a table, a series becomes a source"),
    ("potstill.data.in_memory:TensorSource.fetch", "a batch is normalised when it is asked for"),
    ("potstill.methods.engine.init:initial_inputs", "a method takes its first values from it"),
    ("potstill.runs.loop:run_loop", "the one loop makes the steps"),
    ("potstill.core:Synthetic", "what was learned, as a payload"),
    ("potstill.runs.runner:execute", "decoded, and written as the codec says"),
    ("potstill.dataset_file.dataset:Distilled", "a set, and its file"),
    ("potstill.evaluation.evaluate:evaluate", "fresh students learn it"),
    ("potstill.tasks.task:Task.score", "their answers are scored on real test data"),
    ("potstill.evaluation.scorecard:Scorecard", "beside the same bytes of real samples"),
    ("potstill.reports.page:render", "and a page shows all of it"),
)
"""Where one sample goes."""

OPTION = (
    ("potstill.cli.main:main", "--lr 5 on the command line"),
    ("potstill.cli.parsing:parse", "a method's fields are options"),
    ("potstill.api.distill:distill", "handed over by name"),
    ("potstill.core.registry:make_method", "checked, and a field of a frozen dataclass"),
    ("potstill.methods.engine.matching:MatchingEngine", "read by the parts of the engine that steps"),
    ("potstill._util.card:card_to_header", "and written into the file"),
)
"""Where one option goes: the learning rate of a method."""


@dataclass(frozen=True)
class Stop:
    """A place that a flow passes."""

    module: str
    name: str
    says: str

    @property
    def room(self) -> str:
        """The package or module under ``potstill`` that it stands in."""
        return self.module.split(".")[1]


def layers(root: Path) -> list[list[str]]:
    """Names by layer, the highest first."""
    rules = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    said = next(rule for rule in rules if rule["type"] == "layers")["layers"]
    return [[name.strip() for name in re.split("[|:]", layer)] for layer in said]


def _path(root: Path, module: str) -> Path:
    base = root / "src" / Path(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _defined(tree: ast.Module, name: str) -> bool:
    body: Sequence[ast.stmt] = tree.body
    for part in name.split("."):
        found = next((n for n in body if getattr(n, "name", None) == part), None)
        if found is None:
            return any(isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == part for n in body)
        body = getattr(found, "body", [])
    return True


def flows(root: Path) -> dict[str, list[Stop]]:
    """Both flows.

    Raises:
        ValueError: a stop is not where it is said to be.
    """
    made: dict[str, list[Stop]] = {}
    for flow, stops in (("sample", SAMPLE), ("option", OPTION)):
        made[flow] = []
        for where, says in stops:
            module, _, name = where.partition(":")
            path = _path(root, module)
            files = path.parent.glob("*.py") if path.name == "__init__.py" else [path]
            if not any(f.is_file() and _defined(ast.parse(f.read_text(encoding="utf-8")), name) for f in files):
                raise ValueError(f"the flow of a {flow} passes {where}, which is not there; correct {__file__}")
            made[flow].append(Stop(module, name, says))
    return made


WIDTH, BAND, LEFT, NOTE = 1180, 62, 16, 400
COLOURS = {"sample": "#0b6e99", "option": "#b3541e"}


def draw(root: Path) -> str:
    """The picture, an SVG."""
    bands, passed = layers(root), flows(root)
    rooms: dict[str, tuple[float, float, float]] = {}
    parts: list[str] = []
    wide = WIDTH - NOTE - 2 * LEFT
    for row, names in enumerate(bands):
        y = 44 + row * BAND
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{wide}" height="{BAND - 8}" rx="6" fill="#8882" />')
        sizes = [max(60.0, len(n) * 9.0 + 30) for n in names]
        gap = (wide - sum(sizes)) / (len(names) + 1)
        x = LEFT + gap
        for name, size in zip(names, sizes, strict=True):
            rooms[name] = (x, y, size)
            parts.append(
                f'<rect x="{x:.0f}" y="{y + 7}" width="{size:.0f}" height="{BAND - 22}" rx="4" fill="var(--room)" '
                f'stroke="#8888"/><text x="{x + size / 2:.0f}" y="{y + 23}" text-anchor="middle">{escape(name)}</text>'
            )
            x += size + gap
    y = 60
    counts: dict[str, int] = {}
    for flow, stops in passed.items():
        points, colour = [], COLOURS[flow]
        parts.append(f'<text x="{WIDTH - NOTE + 20}" y="{y}" fill="{colour}" class="head">One {flow}</text>')
        y += 24
        for number, stop in enumerate(stops, 1):
            x, top, size = rooms[stop.room]
            seen = counts[stop.room] = counts.get(stop.room, 0) + 1
            points.append((x + min(size - 10, 10 + 20 * (seen - 1)), top + BAND - 15))
            mark = f"{number}" if flow == "sample" else "abcdefghij"[number - 1]
            cx, cy = points[-1]
            for at_x, at_y in ((cx, cy), (WIDTH - NOTE + 28.0, y - 4.0)):
                parts.append(
                    f'<circle cx="{at_x:.0f}" cy="{at_y:.0f}" r="9" fill="{colour}"/><text x="{at_x:.0f}" '
                    f'y="{at_y + 4:.0f}" text-anchor="middle" class="mark">{mark}</text>'
                )
            parts.append(
                f'<text x="{WIDTH - NOTE + 44}" y="{y}">{escape(stop.says)}</text><text x="{WIDTH - NOTE + 44}" '
                f'y="{y + 14}" class="small">{escape(stop.module.removeprefix("potstill."))}.{escape(stop.name)}</text>'
            )
            y += 36
        line = " ".join(f"{px:.0f},{py:.0f}" for px, py in points)
        parts.insert(
            0, f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" opacity="0.45"/>'
        )  # fmt: skip
        y += 14
    height = max(44 + BAND * len(bands), y) + 12
    style = (
        "text{font:13px sans-serif;fill:currentColor}.small{font-size:10.5px;opacity:.7}.head{font-weight:bold;"
        "font-size:15px}.mark{fill:#fff;font-size:11px}svg{color:#222;background:#fff;--room:#fff}"
        "@media(prefers-color-scheme:dark){svg{color:#ddd;background:#1b1b1b;--room:#2a2a2a}}"
    )
    title = "Layers of the code, and the flow of one sample and of one option through them"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"><title>{title}</title>'
        f"<style>{style}</style>"
        f'<text x="{LEFT}" y="28" class="head">Who may use whom: each layer those below it</text>{"".join(parts)}'
        "</svg>\n"
    )


def listed(root: Path) -> str:
    """Both flows as lists, for who cannot see the picture."""
    lines: list[str] = []
    for flow, stops in flows(root).items():
        lines += [f"**One {flow}**", ""]
        lines += [f"{n}. `{s.module}.{s.name}`: {s.says}" for n, s in enumerate(stops, 1)]
        lines.append("")
    return "\n".join(lines).rstrip()
