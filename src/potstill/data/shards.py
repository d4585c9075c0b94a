"""WebDataset shards: tar files whose members come in groups that share a key, ``KEY.png`` and ``KEY.cls``."""

import re
import tarfile
from pathlib import Path

from potstill.core import InputSpec
from potstill.data.arrays import encode_labels
from potstill.data.pictures import SUFFIXES, gather
from potstill.data.reasons import reason
from potstill.data.splits import Parts
from potstill.errors import PotstillError

__all__ = ["expand", "read_shards"]

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")


def expand(pattern: str) -> list[str]:
    """Every name that the ``{000..099}`` ranges and ``{a,b}`` lists in ``pattern`` stand for, in order."""
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    first, last, listed = match.groups()
    if listed is not None:
        choices = listed.split(",")
    else:
        width = len(first) if first.startswith("0") or len(first) == len(last) else 0
        choices = [str(i).zfill(width) for i in range(int(first), int(last) + 1)]
    return [name for c in choices for name in expand(pattern[: match.start()] + c + pattern[match.end() :])]


def _samples(shard: Path) -> dict[str, dict[str, bytes]]:
    """Key → extension → content. A key ends at the first dot of the file name, as WebDataset has it."""
    samples: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                folder, _, file = member.name.rpartition("/")
                if not member.isfile() or file.startswith("."):
                    continue
                key, _, extension = file.partition(".")
                content = tar.extractfile(member)
                if content is not None:
                    samples.setdefault(f"{folder}/{key}" if folder else key, {})[extension.lower()] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise PotstillError(f"{shard}: not a readable tar file ({reason(error)}); make the shard anew") from None
    return samples


def read_shards(pattern: str, *, size: tuple[int, int] | None, skip_bad: bool) -> Parts:
    """Reads all shards that ``pattern`` names into memory, samples sorted by key within a shard.

    Args:
        pattern: a ``.tar`` file, or several: ``train-{000..099}.tar``.
        size: (height, width), or ``None``: see ``pictures.gather``.
        skip_bad: leave broken pictures out instead of raising.

    Raises:
        PotstillError: a shard is missing or broken, a sample has no picture or no ``.cls``, no samples at all.
    """
    shards = [Path(p).expanduser() for p in expand(pattern)]
    if lacking := [s for s in shards if not s.is_file()]:
        raise PotstillError(
            f"{lacking[0]}: no such shard ({len(lacking)} of {len(shards)} that {pattern} names are missing)"
        )
    items: list[tuple[str, bytes]] = []
    labels: list[str] = []
    for shard in shards:
        for key, files in sorted(_samples(shard).items()):
            picture = next((files[e] for e in sorted(files) if f".{e.rpartition('.')[2]}" in SUFFIXES), None)
            if picture is None:
                raise PotstillError(f"{shard}: sample {key!r} has no picture, only {', '.join(sorted(files))}")
            if "cls" not in files:
                raise PotstillError(f"{shard}: sample {key!r} has no {key}.cls; write its class there")
            items.append((f"{shard}:{key}", picture))
            labels.append(files["cls"].decode("utf-8", errors="replace").strip())
    if not items:
        raise PotstillError(f"{pattern}: there are no samples in {len(shards)} shards; give shards of pictures")
    name = re.sub(r"[-_.]?\{.*?\}", "", shards[0].parent.joinpath(Path(pattern).name).name).removesuffix(".tar")
    got = gather(items, size=size, skip_bad=skip_bad, name=name or "shards")
    texts = [labels[i] for i in got.kept]
    values = [int(t) for t in texts] if all(re.fullmatch(r"-?\d+", t) for t in texts) else texts
    y, _, classes, notes = encode_labels(values, None, name=name or "shards")
    spec = InputSpec(kind="image", shape=tuple(got.pixels.shape[1:]))
    return Parts(
        name=name or "shards",
        train=got.pixels,
        train_labels=y,
        spec=spec,
        classes=classes,
        notes=(*notes, *got.notes),
    )
