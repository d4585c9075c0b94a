"""WebDataset shards: tar files whose members share a key, ``KEY.png`` and ``KEY.cls``."""

import itertools
import os
import re
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from potstill._util.input_limits import check_limit, limit_hint, limits
from potstill.data.error_text import reason
from potstill.data.groups import match_file_groups
from potstill.data.limits import UnpackBudget
from potstill.data.pictures import SUFFIXES
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawSplits, decode_labelled
from potstill.errors import PotstillError

__all__ = [
    "check_new_member", "expand_braces", "find_picture", "is_shards", "list_shards", "member_extension", "parse_cls",
    "read_shards", "sample_key", "shards_name",
]  # fmt: skip

T = TypeVar("T")
_BRACES = re.compile(r"\{(\d++)\.\.(\d++)\}|\{([^{},]*+,[^{}]*+)\}")  # nothing is tried twice, however long it is


def expand_braces(pattern: str) -> Iterator[str]:
    """Yield every name that the ``{000..099}`` ranges and ``{a,b}`` lists in ``pattern`` stand for, in order.

    Raises:
        PotstillError: it has more pairs of braces, or longer numbers in them, than names of files need.
    """
    check_limit("braces", len(_BRACES.findall(pattern)), f"{pattern[:80]} …")
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    first, last, listed = match.groups()
    if listed is not None:
        choices: Iterable[str] = listed.split(",")
    else:
        check_limit("brace_digits", max(len(first), len(last)), f"{pattern[:80]} …")
        if int(first) > int(last):
            raise PotstillError(f"{pattern[:80]}: {{{first}..{last}}} counts down, which names no shard; turn it round")
        width = len(first) if first.startswith("0") or len(first) == len(last) else 0
        choices = (str(i).zfill(width) for i in range(int(first), int(last) + 1))
    for c in choices:
        yield from expand_braces(pattern[: match.start()] + c + pattern[match.end() :])


def is_shards(data: str | Path) -> bool:
    """Return True if ``data`` names shards: a tar file, or a pattern of several."""
    if isinstance(data, Path):
        return data.name.endswith((".tar", ".tar.gz"))
    inner = data[data.find("{") + 1 : max(data.rfind("}"), 0)] if "{" in data else ""
    return ".." in inner or "," in inner or data.endswith((".tar", ".tar.gz"))


def sample_key(folder: str, file: str) -> str:
    """Return the sample that a member belongs to: its name up to the first dot of the file's, as in WebDataset."""
    key = file.partition(".")[0]
    return f"{folder}/{key}" if folder else key


def member_extension(file: str) -> str:
    """Return the rest of a member's name after the key, in lower case."""
    return file.partition(".")[2].lower()


def list_shards(pattern: str) -> list[Path]:
    """Return the files that ``pattern`` names.

    Raises:
        PotstillError: one is not there, or too many are named.
    """
    most = limits().shards
    names = list(itertools.islice(expand_braces(pattern), most + 1))
    if len(names) > most:
        raise PotstillError(f"{pattern}: names more than {most:,} shards; {limit_hint('shards')}")
    shards = [Path(p).expanduser() for p in names]
    if lacking := [s for s in shards if not os.path.isfile(s)]:
        raise PotstillError(
            f"{lacking[0]}: no such shard ({len(lacking)} of {len(shards)} that {pattern} names are missing)"
        )
    return shards


def shards_name(pattern: str, shards: list[Path]) -> str:
    """Return the dataset name of shards."""
    first = shards[0].parent.joinpath(Path(pattern).name).name
    return re.sub(r"[-_.]?\{.*?\}", "", first).removesuffix(".gz").removesuffix(".tar") or "shards"


def check_new_member(shard: Path, member: str, extension: str, files: Collection[str]) -> None:
    """Refuse a second file of one extension in the sample that ``member`` belongs to."""
    if extension in files:
        raise PotstillError(
            f"{shard}: two files are the {extension or 'file without an ending'} of one sample, the second is "
            f"{member}; give each sample its own name"
        )


def find_picture(shard: Path, key: str, files: Mapping[str, T]) -> T:
    """Return the picture among a sample's files by extension.

    Raises:
        PotstillError: there is none, or no class beside it.
    """
    picture = next((files[e] for e in sorted(files) if f".{e.rpartition('.')[2]}" in SUFFIXES), None)
    if picture is None:
        raise PotstillError(f"{shard}: sample {key!r} has no picture, only {', '.join(sorted(files))}")
    if "cls" not in files:
        raise PotstillError(f"{shard}: sample {key!r} has no {key}.cls; write its class there")
    return picture


def parse_cls(texts: list[str]) -> list[int] | list[str]:
    """Return labels of ``.cls`` files: numbers if all are written as such; ``00`` is a name."""
    return [int(t) for t in texts] if all(re.fullmatch(r"-?[1-9][0-9]*|0", t) for t in texts) else texts


def _samples(shard: Path) -> dict[str, dict[str, bytes]]:
    """Return key → extension → content of a shard."""
    samples: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(shard) as tar:
            unpacked = UnpackBudget(shard)
            for member in tar:
                unpacked.add(member.size if member.isfile() else 0)
                folder, _, file = member.name.rpartition("/")
                if not member.isfile() or file.startswith("."):
                    continue
                content = tar.extractfile(member)
                if content is not None:
                    files = samples.setdefault(sample_key(folder, file), {})
                    check_new_member(shard, member.name, member_extension(file), files)
                    files[member_extension(file)] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise PotstillError(f"{shard}: not a readable tar file ({reason(error)}); make the shard again") from None
    return samples


def read_shards(pattern: str, options: ReadOptions) -> RawSplits:
    """Read all shards that ``pattern`` names into memory, samples sorted by key within a shard.

    Args:
        pattern: a ``.tar`` file, or several: ``train-{000..099}.tar``.
        options: ``size``, ``skip_bad`` and ``group`` (a text is matched with samples' keys) are used.

    Raises:
        PotstillError: a shard is missing or broken, a sample has no picture or no ``.cls``, no samples at all.
    """
    shards = list_shards(pattern)
    items: list[tuple[str, bytes]] = []
    labels: list[str] = []
    keys: list[str] = []
    for shard in shards:
        for key, files in sorted(_samples(shard).items()):
            items.append((f"{shard}:{key}", find_picture(shard, key, files)))
            keys.append(key)
            labels.append(files["cls"].decode("utf-8", errors="replace").strip())
    if not items:
        raise PotstillError(f"{pattern}: there are no samples in {len(shards)} shards; give shards of pictures")
    name = shards_name(pattern, shards)
    parts = decode_labelled(items, [parse_cls(labels)], name, options)
    if not isinstance(options.group, str):
        return parts
    groups = match_file_groups(options.group, keys, name)[parts.train.places]
    return replace(parts, train=replace(parts.train, groups=groups))
