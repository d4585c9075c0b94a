"""A long series, for ``--task forecast``: windows that share its storage, and the values that follow each."""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.core import Batch, InputSpec, Normalization, Splits
from potstill.data.arrays import to_array
from potstill.data.frames import tables_of
from potstill.data.reading import Reading
from potstill.data.table import once, read_csv, read_parquet
from potstill.errors import PotstillError, unknown
from potstill.tasks import Forecast
from potstill.tasks.regression import scaled

__all__ = ["SeriesSource", "read_series"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesSource:
    """Windows of one series (a ``core.Source``): inputs (v, window), targets (v·horizon,), cut out when fetched.

    Legend: T points in time, v variables, n windows. The series is held once, however many windows there are.
    """

    name: str
    series: Float[Tensor, "T v"]
    """In its own units."""
    starts: Int[Tensor, " n"]
    """Where each window begins."""
    task: Forecast
    normalization: Normalization
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole = self.task.window + self.task.horizon
        if len(self.starts) == 0 or int(self.starts.max()) + whole > len(self.series):
            raise PotstillError(
                f"{self.name}: a window and what follows it take {whole} points in time, but there are "
                f"{len(self.series)}; ask for less with --task forecast:window=W,horizon=H"
            )

    @property
    def input(self) -> InputSpec:
        variables = self.task.variables
        return InputSpec(
            kind="series", shape=(len(variables), self.task.window), units="values", mirrored=False, columns=variables
        )  # fmt: skip

    @property
    def device(self) -> torch.device:
        return self.series.device

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """All windows are drawn from one group."""
        return torch.zeros(len(self.starts), dtype=torch.int64)

    @cached_property
    def targets(self) -> Float[Tensor, "n t"]:
        """The values after each window, variable by variable."""
        return self._cut(torch.arange(len(self)))[:, :, self.task.window :].flatten(1).cpu()

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the series, of where windows begin, and of their lengths."""
        said = [self.task.window, self.task.horizon, list(self.task.variables), len(self)]
        digest = hashlib.sha256(json.dumps(said).encode())
        for tensor in (self.series, self.starts):
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.starts)

    def _cut(self, index: Tensor) -> Float[Tensor, "m v w"]:
        whole = self.series.unfold(0, self.task.window + self.task.horizon, 1)  # a view: nothing is copied
        return whole[self.starts[index.cpu()].to(self.device)]

    def raw(self, index: Int[Tensor, " m"], /) -> Float[Tensor, "m v w"]:
        """The windows at ``index``, in the series' own units."""
        return self._cut(index)[:, :, : self.task.window]

    def fetch(self, index: Int[Tensor, " m"], /) -> Batch:
        """The windows at ``index``, normalised, and the values that follow, in their own units."""
        cut, w = self._cut(index), self.task.window
        return Batch(self.normalization.apply(cut[:, :, :w]), cut[:, :, w:].flatten(1))

    def subset(self, index: Int[Tensor, " m"], /) -> "SeriesSource":
        """The windows at ``index``, in the same series."""
        return replace(self, starts=self.starts[index.cpu()])

    def cut(self, fraction: float) -> tuple["SeriesSource", "SeriesSource"]:
        """The windows before and those after a point in time; none of the second has a value of the first in it.

        Args:
            fraction: of the time that the windows cover, for the second part, in (0, 1).

        Raises:
            PotstillError: one of the parts would be empty.
        """
        whole = self.task.window + self.task.horizon
        first, last = int(self.starts.min()), int(self.starts.max()) + whole
        border = last - round((last - first) * fraction)
        before, after = self.starts + whole <= border, self.starts >= border
        if not bool(before.any()) or not bool(after.any()):
            raise PotstillError(
                f"{self.name}: {fraction:.0%} of {last - first} points in time hold no window of {whole}; give a "
                "larger part, or ask for less with --task forecast:window=W,horizon=H"
            )
        return self.subset(torch.where(before)[0]), self.subset(torch.where(after)[0])

    def to(self, device: torch.device | str, /) -> "SeriesSource":
        return replace(self, series=self.series.to(device), normalization=self.normalization.to(device))

    def __repr__(self) -> str:
        t = self.task
        return (
            f"{self.name}: {len(self):,} windows of {len(t.variables)}×{t.window} values, {t.horizon} to come, "
            f"of a series of {len(self.series):,}"
        )


def read_series(task: Forecast, data: object, asked: Reading) -> Splits:
    """A series in a table (a row for each point in time, a column for each variable), or as an array (T,) or (T, v).

    The last part of the time is the test split; no window lies on both sides. Mean and deviation are the training
    part's. Columns that hold no numbers (dates) are left out.

    Args:
        task: window and horizon; ``variables`` are filled in.
        data: a CSV or Parquet file, a data frame, or an array; of an ``.npz`` the array ``x``.
        asked: ``label`` names the one column to forecast by itself; ``missing``: ``impute`` fills a gap with the value
            before it.

    Raises:
        PotstillError: it is none of these, values are missing, or it is too short for the windows.
    """
    if min(task.window, task.horizon) < 1:
        raise PotstillError(f"window and horizon must be at least 1, but they are {task.window} and {task.horizon}")
    name, values, variables, notes = _values(data, asked)
    if not 0 < asked.test_fraction < 1:
        raise PotstillError(f"of a series a part is kept for the test, but the fraction is {asked.test_fraction}")
    whole, first = task.window + task.horizon, np.argmax(np.isfinite(values), axis=0).max()
    if len(values) < whole:
        raise PotstillError(
            f"{name}: a window and what follows it take {whole} points in time, but there are {len(values)}; ask for "
            "less with --task forecast:window=W,horizon=H"
        )
    if (holes := int((~np.isfinite(values)).sum())) != 0:
        if asked.missing != "impute":
            raise PotstillError(
                f"{name}: {holes} values are missing; --missing impute fills each with the value before it"
            )
        for t in range(1, len(values)):  # forwards only: nothing is filled from what comes later
            values[t] = np.where(np.isfinite(values[t]), values[t], values[t - 1])
        values = values[first:]
        notes.append(f"{name}: {holes} missing values were filled with the value before them")
    series = torch.from_numpy(values.astype(np.float32))
    plain = Normalization(torch.zeros(len(variables)), torch.ones(len(variables)))
    every = SeriesSource(
        name=name, series=series, starts=torch.arange(len(series) - whole + 1),
        task=replace(task, variables=variables), normalization=plain,
    )  # fmt: skip
    train, test = every.cut(asked.test_fraction)
    mean, std = scaled(series[: int(train.starts.max()) + whole])
    fitted = replace(every.task, mean=mean, std=std)
    normalization = Normalization(torch.tensor(mean), torch.tensor(std))
    notes.append(
        f"{name}: the last {asked.test_fraction:.0%} of the time is the test part; no window lies on both sides"
    )
    made = [replace(part, task=fitted, normalization=normalization).to(asked.device) for part in (train, test)]
    return Splits(train=made[0], test=made[1], notes=tuple(notes))


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _forwards(times: npt.NDArray[np.int64], what: str) -> list[str]:
    """
    Returns:
        What is said of times (T,) of which a few lie before the one above them, as where a clock is set back.

    Raises:
        PotstillError: more than one in a hundred do: then the last rows are not the last in time.
    """
    back = np.flatnonzero(np.diff(times) < 0)
    if 100 * back.size > len(times):
        raise PotstillError(
            f"{what}: the time goes back after {back.size:,} of {len(times):,} rows, first after row {back[0] + 1}; "
            "sort the rows by time, the earliest first"
        )
    return [f"{what}: the time goes back after {back.size:,} of {len(times):,} rows"] if back.size else []


def _values(data: object, asked: Reading) -> tuple[str, npt.NDArray[np.float64], tuple[str, ...], list[str]]:
    """Name, values (T, v) with NaN where they are missing, names of variables, notes."""
    table, name = None, "series"
    if isinstance(data, str | Path):
        path = Path(data)
        suffix, name = path.suffix.lower(), path.name
        if not path.is_file():
            raise PotstillError(f"{data}: no such file; a series is read from a csv, parquet or npz file")
        if suffix == ".npz":
            from potstill.data.objects import read_npz_arrays

            data = read_npz_arrays(path).get("x")
        elif suffix in (".csv", ".tsv", ".parquet", ".pq"):
            table = read_csv(path) if suffix in (".csv", ".tsv") else read_parquet(path)
        else:
            raise PotstillError(f"{data}: a series is read from a csv, parquet or npz file")
    elif (tables := tables_of(data, None)) is not None:
        table = tables.parts[0]
    if table is None:
        if data is None:
            raise PotstillError(f"{name}: needs an array x, (T,) or (T, variables)")
        found = to_array(data, name)
        if found.dtype.kind not in "biuf" or found.ndim not in (1, 2):
            raise PotstillError(f"{name}: a series is (T,) or (T, variables) of numbers, not {found.dtype}")
        array = found.reshape(len(found), -1).astype(np.float64)
        return name, array, tuple(f"variable {i + 1}" for i in range(array.shape[1])), []
    once(table, name)
    numeric = [f.name for f in table.schema if _is_number(f.type)]
    if asked.label is not None and asked.label not in numeric:
        raise PotstillError(f"{name}: {unknown('column of numbers', asked.label, numeric)}")
    chosen = [asked.label] if asked.label is not None else [c for c in numeric if c and not c.startswith("Unnamed: ")]
    if not chosen:
        raise PotstillError(f"{name}: no column holds numbers; a series needs one")
    left = [c for c in table.column_names if c not in chosen]
    columns = [
        table.column(c).combine_chunks().cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
        for c in chosen
    ]
    notes = [f"{name}: columns {', '.join(map(repr, left))} were not read"] if left else []
    times = [f.name for f in table.schema if f.name and (pa.types.is_timestamp(f.type) or pa.types.is_date(f.type))]
    if times:
        moments = table.column(times[0]).combine_chunks().drop_null()
        counted = moments.cast(pa.int32() if pa.types.is_date32(moments.type) else pa.int64())  # in units of its own
        notes += _forwards(counted.to_numpy().astype(np.int64), f"{name}: column {times[0]!r}")
    elif getattr(getattr(getattr(data, "index", None), "dtype", None), "kind", "") == "M":
        notes += _forwards(np.asarray(data.index).astype(np.int64), f"{name}: its index")  # type: ignore[attr-defined]
    return name, np.stack(columns, 1).astype(np.float64), tuple(chosen), notes
