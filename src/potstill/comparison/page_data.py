"""Data of a comparison's page, re-read only where files changed."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from potstill.comparison.image_arrays import load_arrays
from potstill.comparison.pca_map import PcaProjection
from potstill.errors import PotstillError
from potstill.reports import Entry, Snapshots, load_snapshots, read_set
from potstill.reports.comparison_page import NearestReal, PcaMap, Row, read_board, render_board
from potstill.runs.load_data import load_as_made

__all__ = ["ComparisonFolder", "is_comparison"]

T = TypeVar("T")
_CHUNK = 512


def is_comparison(path: Path) -> bool:
    """Return True if ``path`` is a folder that `compare` wrote."""
    return path.is_dir() and (path / "leaderboard.json").is_file()


@dataclass(slots=True)
class ComparisonFolder:
    """Contents of the page of ``path``; sets and neighbours are cached while their files are unchanged.

    Attributes:
        path: output folder of `compare`.
        data: the training data, as `load_data` takes or returns them; without them no real neighbours are shown.
    """

    path: Path
    data: Any = None
    _cache: dict[tuple[str, Path], tuple[tuple[int, int], Any]] = field(default_factory=dict)
    _real: Any = None
    _directions: PcaProjection | None = None

    def version(self) -> str:
        """Return a digest that changes whenever the page would: names, times and sizes of results, names of running
        sets."""
        digest = hashlib.sha256()
        for file in sorted(self.path.glob("*")) if self.path.is_dir() else []:
            if file.name.endswith((".safetensors", ".json", ".film")):
                digest.update(f"{file.name}\0{_stamp(file)}\0".encode("utf-8", "surrogateescape"))
            elif file.name.endswith(".checkpoint"):
                digest.update(f"{file.name}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]

    def page(self, command: str, version: str | None = None) -> str:
        """Return the whole page.

        Raises:
            PotstillError: there is nothing of a comparison, a leaderboard is damaged, or the data are others than the
                sets were made of.
        """
        board = read_board(self.path, self._set)
        near = {row.id: near for row in board.rows if (near := self._nearest(row)) is not None}
        places = {row.id: at for row in board.rows if (at := self._places(row)) is not None}
        return render_board(
            board, title=f"{board.source}: {self.path.resolve().name}", command=command,
            nearest=None if self.data is None else near, snapshots=self._films(), version=version,
            pca_map=None if self._directions is None else PcaMap(real=self._directions.real, positions=places),
        )  # fmt: skip

    def _cached(self, file: Path, make: Callable[[Path], T]) -> T:
        """Return ``make(file)``, made again only where the file has changed."""
        key, stamp = (make.__name__, file), _stamp(file)
        if key not in self._cache or self._cache[key][0] != stamp:
            self._cache[key] = (stamp, make(file))
        content: T = self._cache[key][1]
        return content

    def _set(self, path: Path) -> Entry:
        return self._cached(path, _read_entry)

    def _films(self) -> dict[str, Snapshots | str]:
        """Return the snapshots by file name of the set; by its stem while the set is being made."""
        snapshots: dict[str, Snapshots | str] = {}
        for file in sorted(self.path.glob("*.safetensors.film")):
            path = file.with_suffix("")
            if (film := self._cached(file, _read_snapshots)) is not None:
                snapshots[path.name if path.is_file() else path.stem] = film
        return snapshots

    def _nearest(self, row: Row) -> NearestReal | None:
        if self.data is None or row.entry is None:
            return None
        return self._cached(self.path / row.file, self._find_nearest)

    def _find_nearest(self, path: Path) -> NearestReal | None:
        entry = self._set(path)
        g = entry.gallery
        if g is None or g.real or g.inputs.ndim != 4 or not g.classes or not len(g.inputs):
            return None
        train, labels = self._training(path, entry), torch.from_numpy(np.asarray(g.hard_labels))
        pictures, distances = _neighbours(train, torch.from_numpy(g.inputs), labels)
        return NearestReal(pictures=pictures, distances=distances)

    def _places(self, row: Row) -> np.ndarray | None:
        """Return the positions of a row's inputs among the real samples."""
        if self.data is None or row.entry is None or row.entry.gallery is None or not len(row.entry.gallery.inputs):
            return None
        train = self._training(self.path / row.file, row.entry)
        if self._directions is None:
            self._directions = PcaProjection.fit(train)
        return None if self._directions is None else self._directions.project(row.entry.gallery.inputs)

    def _training(self, path: Path, entry: Entry) -> Any:
        """Return the training data.

        Raises:
            PotstillError: they are others than the set in ``path`` was made of.
        """
        if self._real is None:
            self._real = load_as_made(entry.card, self.data)
        train = self._real.train
        made_of = entry.card_section("source").get("hash")
        if made_of is not None and made_of != train.content_hash:
            raise PotstillError(
                f"{path}: was made of other training data than {train.name}; give the data of the comparison, with the "
                "same reading options, or leave `data=` out"
            )
        return train


def _read_entry(path: Path) -> Entry:
    card, gallery = read_set(path, load_arrays)
    return Entry(name=path.stem, card=card, gallery=gallery)


def _read_snapshots(file: Path) -> Snapshots | str | None:
    """Return the snapshots in ``file``, or why they cannot be read."""
    try:
        return load_snapshots(file.with_suffix(""))
    except PotstillError as error:
        return str(error)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _neighbours(train: Any, shown: torch.Tensor, labels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each image (n, c, h, w), the nearest training image of its class and its root mean square
    distance."""
    real = train.labels.cpu()
    best = torch.full((len(shown),), torch.inf)
    found = shown.clone()
    for c in sorted(set(labels.tolist())):
        mine = (labels == c).nonzero()[:, 0]
        for index in (real == c).nonzero()[:, 0].split(_CHUNK):
            theirs = train.raw(index).cpu()
            if theirs.shape[1:] != shown.shape[1:]:
                raise PotstillError(
                    f"{train.name}: its pictures are {tuple(theirs.shape[1:])}, those of the set "
                    f"{tuple(shown.shape[1:])}; read the data as the comparison did (`size=(H, W)`)"
                )
            apart = torch.cdist(shown[mine].flatten(1), theirs.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
            least, which = apart.min(1)
            nearer = least < best[mine]
            best[mine[nearer]] = least[nearer]
            found[mine[nearer]] = theirs[which[nearer]]
    return found.numpy(), (best / shown[0].numel() ** 0.5).numpy()
