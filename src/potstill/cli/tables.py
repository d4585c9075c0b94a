"""The tables in the README and in docs/, made from the registry and from results/, so that none is kept by hand.

python -m potstill.cli.tables          write them
python -m potstill.cli.tables --check  say which are not current, and exit with 1
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from potstill.listings import list_methods, list_parametrizations, list_protocols
from potstill.reports import results_table

__all__ = ["main", "render"]


def _table(head: list[object], rows: list[list[object]]) -> str:
    rule: list[object] = ["---"] * len(head)
    lines = [head, rule, *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _paper(text: str) -> str:
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _methods(root: Path) -> str:
    rows: list[list[object]] = []
    for m in list_methods():
        kinds = "anything" if "*" in m["kinds"] else ", ".join(m["kinds"])
        keeps = ("real samples" if m["selects"] else "new samples") + (", soft labels" if m["soft"] else "")
        rows.append([f"`{m['name']}`", m["family"], m["summary"], keeps, kinds, _paper(m["paper"])])
    return _table(["method", "family", "what it does", "what it keeps", "works on", "paper"], rows)


def _options(root: Path) -> str:
    parts = []
    for m in list_methods():
        rows: list[list[object]] = [
            [f"`--{o['name'].replace('_', '-')}`", f"`{o['default']}`", o["help"]] for o in m["options"]
        ]
        about = f"{m['title']} ({m['year']}), {_paper(m['paper'])}. {m['summary']}"
        body = _table(["option", "default", "what it is"], rows) if rows else "It has no options."
        parts.append(f"### {m['name']}\n\n{about}\n\n{body}")
    return "\n\n".join(parts)


def _protocols(root: Path) -> str:
    rows: list[list[object]] = [
        [f"`{p['name']}`", p["version"], p["summary"], "yes" if p["optimistic"] else "no", _paper(p["paper"])]
        for p in list_protocols()
    ]
    return _table(["protocol", "version", "what it does", "optimistic", "paper"], rows)


def _parametrizations(root: Path) -> str:
    rows: list[list[object]] = []
    for p in list_parametrizations():
        settings = ", ".join(f"`{o['name']}={o['default']}`" for o in p["options"])
        rows.append([f"`{p['name']}`", p["summary"], settings or "none"])
    return _table(["parametrization", "what is stored", "settings"], rows)


_WORK = {
    "dm": "one DM step",
    "dm-reuse": "one DM step of eight with one network (`--reuse 8`)",
    "dsa": "one DSA step",
    "student": "five epochs of a student",
    "two-students": "five epochs of two students",
    "idc": "one IDC update",
    "ncfm": "one NCFM update",
}


def _speed(root: Path) -> str:
    path = root / "results" / "speed.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = [
        [
            _WORK[r["what"]],
            r["threads"], *(f"{r['seconds'][side]['median']:.2f}" for side in ("ours", "published")),
            f"{r['published_over_ours']:.1f}×", f"{r['ours_over_floor']:.1f}×", r["n"],
        ]
        for r in made["rows"]
    ]  # fmt: skip
    head: list[object] = ["what", "threads", "ours, s", "published code, s", "faster", "ours over the floor", "n"]
    m = made["machine"]
    about = (
        f"{made['network']}, {made['ipc']} items per class, {made['batch']} real samples per class, `mnist-5k`; "
        f"medians of interleaved runs; {m['processor']}, {m['cores']} cores shared with others, torch {m['torch']}. "
        "The floor: the operations of convolutions and classifier over the rate of a large matrix product, same run."
    )
    return _table(head, rows) + "\n\n" + about


def _own_data(root: Path) -> str:
    path = root / "results" / "own_data.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = []
    for r in made["rows"]:
        d, a, plain = r["difference"], r["accuracy"], r["random"]
        low, high = (100 * v for v in d["ci95"])
        rows.append([
            r["pictures"], "×".join(map(str, r["shape"])), f"{100 * a['mean']:.1f}", f"{100 * plain['mean']:.1f}",
            f"{100 * d['mean']:+.1f} [{low:+.1f}, {high:+.1f}]", a["n"],
        ])  # fmt: skip
    head: list[object] = [
        "side of the files, pixels",
        "read as",
        "distilled, %",
        "random, %",
        "difference, points",
        "n",
    ]
    sizes = ", ".join(str(n) for n in made["rows"][0]["classes"].values())
    return _table(head, rows) + f"\n\n`{made['method']}`; classes of {sizes} pictures; {made['machine']['processor']}."


def _recipes(root: Path) -> str:
    path = root / "results" / "recipes.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = [
        [
            f"`recipes/{name}.yaml`", f"{100 * r['accuracy']['mean']:.1f} ± {100 * r['accuracy']['std']:.1f}",
            r["accuracy"]["n"], f"{r['bytes']['total']:,}", r["inputs"], r["steps"], f"{r['seconds']:.0f}",
            f"{r['preparation_seconds']:.0f}",
        ]
        for name, r in sorted(made["rows"].items(), key=lambda item: -item[1]["accuracy"]["mean"])
    ]  # fmt: skip
    head: list[object] = ["recipe", "accuracy, %", "n", "bytes", "inputs", "steps", "seconds", "of training networks"]
    m = made["machine"]
    about = (
        f"Data `{made['data']}`, {made['network']}, protocol `potstill`; mean ± standard deviation over n networks on "
        f"one set. {m['processor']}, {m['cores']} cores shared with others, torch {m['torch']}."
    )
    return _table(head, rows) + "\n\n" + about


def _results(root: Path) -> str:
    rows: list[dict[str, Any]] = []
    for path in sorted((root / "results" / "published_grid").glob("*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        said = row.get("published")
        published = said and {"mean": said["percent"] / 100, "source": said["source"]}
        made = row["distillation"]
        how = f"{row['method']} ({made['steps']:,} steps)" if made["budget_s"] else row["method"]
        protocol = f"{row['protocol']}, {row['epochs']:,} epochs"
        rows.append({**row, "published": published, "method": how, "protocol": protocol})
    return results_table(rows).strip() if rows else "Nothing has been measured yet."


_BLOCKS: dict[str, Callable[[Path], str]] = {
    "methods": _methods,
    "options": _options,
    "own-data": _own_data,
    "parametrizations": _parametrizations,
    "protocols": _protocols,
    "recipes": _recipes,
    "results": _results,
    "speed": _speed,
}


def render(text: str, root: Path) -> str:
    """``text`` with everything between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` made anew."""
    for name, block in _BLOCKS.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if begin in text:
            before, rest = text.split(begin, 1)
            text = f"{before}{begin}\n{block(root)}\n{end}{rest.split(end, 1)[1]}"
    return text


def main(root: Path, *, check: bool) -> int:
    """Write the tables under ``root``, or say which are not current. Returns the exit status."""
    status = 0
    for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        old = path.read_text(encoding="utf-8")
        new = render(old, root)
        if new != old:
            status = 1
            sys.stdout.write(
                f"{path.relative_to(root)}: {'not current; run' if check else 'written by'} potstill.cli.tables\n"
            )
            if not check:
                path.write_text(new, encoding="utf-8")
    return status if check else 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd(), check="--check" in sys.argv))
