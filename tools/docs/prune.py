"""Leave in results/*.json what the pages read: ``python -m tools.docs.prune``.

Tables and plots are rendered with JSON objects that record which keys are read; all other keys but the machine, the
settings and the command go. Files of one folder keep the same keys. Where a page would change, nothing is written.
"""

import json
from pathlib import Path
from typing import Any
from unittest import mock

from tools.docs import architecture, label_plot, render, unroll_plot

ALWAYS = {"machine", "settings", "command", "versions", "seed", "n", "args", "torch", "kernels"}


class Recorded(dict[str, Any]):
    """A dictionary that records the keys that are read."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)

    def __iter__(self) -> Any:
        self.read.update(super().keys())
        return super().__iter__()

    def items(self) -> Any:
        self.read.update(super().keys())
        return super().items()

    def values(self) -> Any:
        self.read.update(super().keys())
        return super().values()

    def keys(self) -> Any:
        self.read.update(super().keys())
        return super().keys()


def keys_read(value: Any) -> set[str]:
    """Return the keys that were read anywhere in ``value``."""
    if isinstance(value, Recorded):
        return value.read.union(*map(keys_read, dict.values(value)))
    return set().union(*map(keys_read, value)) if isinstance(value, list) else set()


def pruned(value: Any, read: set[str]) -> Any:
    """Return ``value`` without keys that are neither in ``read`` nor in `ALWAYS`; below the latter all stay."""
    if isinstance(value, dict):
        every = {k: v for k, v in dict.items(value) if k in read or k in ALWAYS}
        return {k: v if k in ALWAYS else pruned(v, read) for k, v in every.items()}
    return [pruned(v, read) for v in value] if isinstance(value, list) else value


def main(root: Path) -> None:
    """Render every page with recording objects, prune the results, and render again."""
    read: dict[Path, Any] = {}
    text_of, loads = Path.read_text, json.loads
    origin: dict[str, Path] = {}

    def read_text(path: Path, *args: Any, **kw: Any) -> str:
        text = text_of(path, *args, **kw)
        if path.suffix == ".json":
            origin[text] = path
        return text

    def recorded(text: Any, **kw: Any) -> Any:
        path = origin.get(text) if isinstance(text, str) else None
        if path is None:
            return loads(text, **kw)
        if path not in read:
            read[path] = loads(text, object_hook=Recorded)
        return read[path]

    def pages() -> dict[Path, str]:
        named = [root / "README.md", *sorted((root / "docs").glob("**/*.md"))]
        found = {path: render(text_of(path, encoding="utf-8"), root) for path in named}
        found[Path("architecture")] = architecture.draw(root)
        return found

    with mock.patch.object(Path, "read_text", read_text), mock.patch.object(json, "loads", recorded):
        before = pages()
        unroll_plot.draw(root / "results" / "unroll.json", root / "build" / "unroll.svg")
        label_plot.plot(json.loads((root / "results/labels.json").read_text())["accuracy"], root / "build/labels.svg")
    texts = {path: text_of(path, encoding="utf-8") for path in read}
    results = {path: value for path, value in read.items() if root / "results" in path.parents}
    for path, value in results.items():
        group = [v for p, v in results.items() if p == path or p.parent == path.parent != root / "results"]
        text = json.dumps(pruned(value, keys_read(group)), separators=(",", ":"), ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    after = pages()
    changed = [str(path) for path in before if before[path] != after[path]]
    if changed:
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        raise SystemExit(f"{', '.join(changed)} would change: the results are as they were")


if __name__ == "__main__":
    main(Path.cwd())
