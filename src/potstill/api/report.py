"""One page about what was made and measured."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill._util.outputs import REPLACE_HINT, check_not_input, check_suffix, describe_foreign_page
from potstill.comparison.image_arrays import load_arrays
from potstill.comparison.page_data import ComparisonFolder, is_comparison
from potstill.errors import PotstillError
from potstill.reports import collect, render, write

__all__ = ["report"]


def report(paths: Sequence[str | Path] | str | Path, out: str | Path, *, data: Any = None, force: bool = False) -> Path:
    """Write one self-contained page about sets, scorecards or a folder of them.

    Of one folder that `potstill.compare` wrote, it is the page of the whole comparison: the cost of each method, a
    leaderboard that sorts and filters, and images side by side.

    Args:
        paths: files or folders of results, one or several.
        out: the page, ``….html``.
        data: the training data of a comparison, as `potstill.load_data` takes or returns them: the page then shows the
            nearest real image beside each distilled one. Default: none.
        force: replace what is there, even if it is no page of Potstill's.

    Returns:
        The path of the page.

    Raises:
        PotstillError: there is nothing to report, the data are others than the sets were made of, or ``out`` cannot be
            written.

    Examples:
        >>> small = potstill.distill("digits", "herding", ipc=1, out="small.safetensors", progress=None)
        >>> potstill.report("small.safetensors", "small.html").name
        'small.html'
    """
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    check_suffix(Path(out), (".html", ".htm"))
    check_not_input(Path(out), [*map(Path, several), data])
    if not force and Path(out).is_file() and (other := describe_foreign_page(Path(out))):
        raise PotstillError(f"{out}: {other}; {REPLACE_HINT}")
    given = ["--data", data] if isinstance(data, str) else []
    command = shlex.join(["potstill", "report", *map(str, several), *given, "--out", str(out)])
    if len(several) == 1 and is_comparison(Path(several[0])):
        write(ComparisonFolder(Path(several[0]), data).page(command), Path(out))
        return Path(out)
    if data is not None:
        raise PotstillError(
            f"{shlex.join(map(str, several))}: data are of use for one folder that potstill compare wrote, with its "
            "leaderboard.json; give that folder, or leave `data=` out"
        )
    entries = collect([Path(p) for p in several], load_arrays)
    title = entries[0].name if len(entries) == 1 else Path(several[0]).resolve().name
    write(render(entries, title=title, command=command), Path(out))
    return Path(out)
