"""scikit-learn's face of distillation: a resampler by imbalanced-learn's convention, ``fit_resample(X, y)``.

It stands in an ``imblearn.pipeline.Pipeline`` before any estimator: the estimator is then fitted on the small set, and
predicts on data as they come. imbalanced-learn itself is not needed for anything else. Frames of pandas and polars are
read as `potstill.load_data` reads them (dates, categories, booleans, missing cells), and frames come back.
"""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.base import BaseEstimator, OneToOneFeatureMixin
from sklearn.utils import InputTags, Tags, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from potstill.api.distill import run
from potstill.core import Splits
from potstill.core.nested import single_tensor
from potstill.core.registry import make_method
from potstill.data import TensorSource
from potstill.data.frames import is_frame
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError, unknown_name
from potstill.exporters.table_rows import source_table
from potstill.runs.load_data import load_data
from potstill.runs.spec import RunIO, RunLimits, RunSpec

__all__ = ["Distiller", "ResamplingError"]

_SHARED = ("balance", "preset", "network", "device")
"""Parameters that are fields of `RunSpec` of the same name."""

Array = npt.NDArray[Any]


class ResamplingError(PotstillError, ValueError):
    """An error of the resampler, also a ``ValueError``, as scikit-learn's callers expect."""


@dataclass
class _SamplerTags:
    """imbalanced-learn's tags of a sampler."""

    sample_indices: bool = False


@dataclass
class _InputTags(InputTags):  # type: ignore[misc]
    """scikit-learn's tags of the inputs with imbalanced-learn's beside them."""

    dataframe: bool = True


@dataclass
class _Tags(Tags):  # type: ignore[misc]
    """scikit-learn's tags of an estimator with imbalanced-learn's beside them."""

    sampler_tags: _SamplerTags = field(default_factory=_SamplerTags)


class _TrainingData(NamedTuple):
    """The training data as they were read."""

    source: TensorSource
    values: Array | None = None
    """The numbers (n, d) of an array; ``None`` of a frame."""
    order: Array | None = None
    """Index into ``classes_`` of each class of the source; ``None`` of real values."""


@dataclass(eq=False, repr=False)  # whose __init__ is what scikit-learn asks for
class Distiller(OneToOneFeatureMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Replaces a training set by a small one, chosen from it or made of it, by any of Potstill's methods.

    Args:
        method: a name of `potstill methods`, or a method as a value.
        ipc: samples of each class to keep; or ``items``, samples in all; or
            ``bytes``, what the set takes when it is saved: a number, or text such as ``20kB``. Default: ``ipc=10``,
            and ``items=100`` where there are no classes.
        balance: how ``items`` and ``bytes`` are shared out: ``natural``, in proportion to the classes' samples and one
            of each at least (the default), or ``equal``.
        random_state: decides every draw: an int, or a ``RandomState``, of which one number is drawn at each call.
            ``None`` is 0: the same arguments give the same result here, unlike elsewhere in scikit-learn.
        task: ``regression`` where ``y`` are real values; ``None``: classes.
        missing: cells without a value, of frames and of arrays with NaN: ``impute`` them (the median; of categories one
            of their own), ``drop`` their rows, or ``refuse`` them, as ``None`` does.
        network: the network to distil with; ``None``: the method's own, or one that suits the data.
        shape: of one picture, (h, w), (c, h, w) or (h, w, c), where the rows of ``X`` are flattened pictures or ``X``
            is an array of pictures; ``None``: the rows are a table's.
        steps: stop after so many steps.
        time_limit: stop after so much time: seconds, or text such as ``10m``.
        preset: ``quick``, ``good`` or ``published``, as for `potstill.distill`.
        device: ``auto``, ``cpu`` or ``cuda``.
        options: settings of the method by name, e.g. ``{"iterations": 500}``; also ``augment``, ``parametrization``
            and ``labels``.

    Attributes:
        sample_indices_: int64, rows of ``X`` that were kept, of a method that selects; else there is no such attribute.
        sample_weight_: float32 (m,), mean 1: how much each kept sample counts, as CRAIG and GRAD-MATCH say it; all 1 of
            a method without weights. ``estimator.fit(X, y, sample_weight=distiller.sample_weight_)`` uses them; a
            pipeline, which hands over X and y alone, does not.
        soft_labels_: float32 (m, k), of a method whose labels are rows, in the order of ``classes_``; ``y`` then has
            the likeliest classes.
        sampling_strategy_: samples kept by class, as imbalanced-learn has it; not of real values.
        classes_: the distinct labels, sorted; not of real values.
        distilled_: the set with its card; ``distilled_.save("small.safetensors")`` writes it.
    """

    method: Any = "k-means"
    _: KW_ONLY
    ipc: int | None = None
    items: int | None = None
    bytes: int | str | None = None
    balance: str | None = None
    random_state: Any = None
    task: str | None = None
    missing: str | None = None
    network: Any = None
    shape: tuple[int, ...] | None = None
    steps: int | None = None
    time_limit: str | float | None = None
    preset: str | None = None
    device: str = "auto"
    options: Mapping[str, Any] | None = None

    def fit(self, X: Any, y: Any) -> "Distiller":
        """Check the data and remember the classes and columns. Nothing is distilled: that is ``fit_resample``.

        Raises:
            ValueError: labels that are no classes, or inputs that cannot be read.
        """
        self._read(X, y)
        return self

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Return the small set.

        Args:
            X: (n, d) numbers; or a frame of numbers, dates, categories, texts and booleans; or pictures as ``shape``
                says.
            y: n classes: numbers or texts, as an array, a series, a column, or one-hot rows; or real values.

        Returns:
            ``X`` and ``y`` of the small set,
            of the same types and units as the training data. What was selected is a copy
            of the rows. What was made of a frame has its columns and their types (a category is the nearest one,
            numbers of a whole column are rounded); what was made of an array of integers is float. By convention there
            are these two and no weights: those are in ``sample_weight_`` afterwards.

        Raises:
            ValueError: labels that are no classes, or inputs that cannot be read.
            ResamplingError: there is no such method, it does not suit the data, or a class has too few samples.
        """
        seed = 0 if self.random_state is None else self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31 - 1)
        training = self._read(X, y)
        source = training.source
        try:
            shared = {f.name: getattr(self, f.name) for f in fields(RunSpec) if f.name in _SHARED}
            options = {**shared, **self._size_budget(), "seed": int(seed), **dict(self.options or {})}
            spec = RunSpec.from_options(Splits(train=source, test=None), self.method, options)
            distilled = run(spec, RunLimits(steps=self.steps, time_limit=self.time_limit), RunIO(progress=None))
            for name in ("sample_indices_", "soft_labels_", "sampling_strategy_"):  # of a run before
                self.__dict__.pop(name, None)
            self.distilled_ = distilled
            weight = distilled.sample_weight
            self.sample_weight_ = np.ones(len(distilled), np.float32) if weight is None else weight.numpy()
            if distilled.index is not None:
                at = distilled.index if source.places is None else source.places[distilled.index]
                self.sample_indices_ = at.numpy()
            return self._inputs(X, training, distilled), self._targets(y, distilled, training.order)
        except PotstillError as error:
            raise ResamplingError(str(error)) from error

    def _size_budget(self) -> dict[str, Any]:
        """Return the size budget as keywords."""
        given = {n: v for n in ("ipc", "items", "bytes") if (v := getattr(self, n)) is not None}
        if not given:
            return {"items": 100} if self._is_real else {"ipc": 10}
        for name, amount in given.items():
            if isinstance(amount, str) and name == "bytes":
                continue
            if isinstance(amount, bool) or not isinstance(amount, int | np.integer) or amount < 1:
                raise PotstillError(f"{name} must be a whole number of samples, at least 1, but it is {amount!r}")
            given[name] = int(amount)
        return given

    @property
    def _is_real(self) -> bool:
        """True if ``y`` are real values."""
        if self.task not in (None, "classification", "regression"):
            raise ResamplingError(str(unknown_name("task", str(self.task), ("classification", "regression"))))
        return self.task == "regression"

    def _read(self, X: Any, y: Any) -> _TrainingData:
        """Return the data as a source."""
        shape = None if self.shape is None else tuple(self.shape)
        is_real = self._is_real
        if y is not None and not hasattr(y, "ndim") and not is_frame(y):
            y = np.asarray(y)
        if shape is None and (is_frame(X) or self.missing is not None):
            return self._read_frame(X, y)
        if shape is not None and getattr(X, "ndim", 2) > 2:
            if tuple(X.shape[1:]) != shape:
                raise ResamplingError(f"shape says pictures of {shape}, but X has pictures of {tuple(X.shape[1:])}")
            X = np.asarray(X).reshape(len(X), -1)
        several = y is not None and getattr(y, "ndim", 1) == 2 and y.shape[1] > 1
        X, y = validate_data(
            self, X, y, multi_output=several, y_numeric=is_real, dtype="numeric", ensure_min_samples=2
        )  # fmt: skip
        if shape is not None and math.prod(shape) != X.shape[1]:
            raise ResamplingError(
                f"shape says {math.prod(shape):,} values of a picture {shape}, but X has {X.shape[1]:,} columns"
            )
        inputs = X if shape is None else X.reshape(len(X), *shape)
        try:
            if is_real:
                splits = load_data((inputs, y), task="regression", test_fraction=0)
                assert isinstance(splits.train, TensorSource)
                return _TrainingData(splits.train, X)
            codes = self._codes(y)
            names = [str(c) for c in self.classes_]
            kind = "table" if shape is None else "image"
            source = TensorSource.make(inputs, codes, classes=names, name="arrays", kind=kind)
            return _TrainingData(source, X, np.arange(len(names)))
        except PotstillError as error:
            raise ResamplingError(str(error)) from error

    def _read_frame(self, X: Any, y: Any) -> _TrainingData:
        """Return a frame, or an array with missing values, read column by column."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        frame = X
        if is_frame(X):
            validate_data(self, X, skip_check_array=True)
        else:
            numbers = validate_data(self, X, dtype="numeric", ensure_all_finite="allow-nan", ensure_min_samples=2)
            frame = pa.table({f"x{n}": numbers[:, n] for n in range(numbers.shape[1])})
        check_consistent_length(X, y)
        column = _column(y)
        codes = None
        if self._is_real:
            if getattr(column, "ndim", 1) == 2:
                raise ResamplingError("the rows of a frame have one target each, but y has several columns; give one")
        else:
            codes = self._codes(np.asarray(column))
            column = codes if getattr(column, "ndim", 1) == 2 else column
        try:
            splits = load_data(
                (frame, column), missing=self.missing, test_fraction=0, task="regression" if self._is_real else None
            )
        except PotstillError as error:
            raise ResamplingError(str(error)) from error
        source = splits.train
        assert isinstance(source, TensorSource)
        if codes is None:
            return _TrainingData(source)
        order = np.zeros(len(source.classes), dtype=np.int64)  # numbers that are texts are sorted as numbers there
        order[source.labels.numpy()] = codes if source.places is None else codes[source.places.numpy()]
        return _TrainingData(source, None, order)

    def _codes(self, y: Array) -> Array:
        """Return the number of each sample's class (n,), and set ``classes_``."""
        if y.ndim == 2 and y.shape[1] > 1:
            if not (np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all()):
                raise ResamplingError(
                    f"y has {y.shape[1]} columns that are not one-hot rows; give one class per sample"
                )
            y = y.argmax(1)
        try:
            check_classification_targets(y)
        except ValueError as error:
            raise ResamplingError(f'{str(error).rstrip(".")}; for real values say `task="regression"`') from error
        self.classes_, codes = np.unique(column_or_1d(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ResamplingError(f"at least two classes are needed, but y has 1 class, {self.classes_[0]!r}")
        return np.asarray(codes)

    def _inputs(self, X: Any, training: _TrainingData, distilled: Distilled) -> Any:
        """Inputs of the small set, in the units, the layout and the types of ``X``."""
        if distilled.index is not None:
            return _rows(X, self.sample_indices_)
        source, values = training.source, training.values
        if values is None:
            return _like(X, source_table(distilled), [column.name for column in source.columns])
        x = distilled.inputs.numpy()
        if self.shape is not None:
            last = len(self.shape) == 3 and tuple(self.shape) != source.input.shape
            x = np.moveaxis(x, 1, -1) if last else x
            if source.input.units == "pixels in [0,1]" and (high := float(values.max())) > 1:
                x = x * (
                    65535 if single_tensor(source.inputs, "a resampler").is_floating_point() and high > 255 else 255
                )
        dtype = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
        flat: Array = x.reshape(len(x), -1).astype(dtype)
        if getattr(X, "ndim", 2) > 2:
            return flat.reshape(len(x), *X.shape[1:])
        if isinstance(X, list):
            return flat.tolist()
        return type(X)(flat, columns=X.columns) if hasattr(X, "iloc") else flat

    def _targets(self, y: Any, distilled: Distilled, order: Array | None) -> Any:
        """Labels or real values of the small set, as those that were given."""
        index = getattr(self, "sample_indices_", None)
        if order is None:
            if index is not None:
                return _rows(y, index)
            found = distilled.labels.double().numpy() + np.array(getattr(distilled.task, "offset", ()) or 0.0)
            kind = np.asarray(y).dtype
            found = np.rint(found).astype(kind) if kind.kind in "iu" else found.astype(kind)
            return _wrapped(y, found if np.ndim(y) == 2 else found[:, 0], None)
        kept = order[distilled.hard_labels.numpy()]
        if distilled.labels.ndim == 2:
            self.soft_labels_ = distilled.labels.numpy()[:, np.argsort(order)]
        self.sampling_strategy_ = {c: int((kept == i).sum()) for i, c in enumerate(self.classes_.tolist())}
        if np.ndim(y) == 2 and np.shape(y)[1] > 1:
            return _wrapped(y, np.eye(np.shape(y)[1], dtype=np.asarray(y).dtype)[kept], index)
        return _wrapped(y, self.classes_[kept], index)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags = _InputTags(**{f.name: getattr(tags.input_tags, f.name) for f in fields(tags.input_tags)})
        parts = {f.name: getattr(tags, f.name) for f in fields(tags)}
        return _Tags(**parts, sampler_tags=_SamplerTags(sample_indices=self._selects()))

    def _selects(self) -> bool:
        """Tell whether the method keeps real samples, for imbalanced-learn's tag."""
        try:
            info = make_method(self.method, self.options or {})[1].info
        except (PotstillError, TypeError):  # tags are asked of estimators that are not valid, too
            return False
        return info.is_selection and (self.options or {}).get("keep") != "centroid"


def _column(y: Any) -> Any:
    """Labels or targets without what holds them: a frame of one column as that column."""
    if is_frame(y) and len(y.columns) == 1:
        return y.iloc[:, 0] if hasattr(y, "iloc") else y[y.columns[0]]
    if getattr(y, "ndim", 1) == 2 and y.shape[1] == 1 and not is_frame(y):
        return np.asarray(y)[:, 0]
    return y


def _rows(X: Any, index: Array) -> Any:
    """The rows at ``index`` of a frame, a series, a list or an array."""
    if hasattr(X, "iloc"):
        return X.iloc[index]
    if isinstance(X, list):
        return [X[i] for i in index]
    if isinstance(X, pa.Table):
        return X.take(index)
    return X[index] if is_frame(X) or _is_polars(X) else np.asarray(X)[index]


def _is_polars(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "polars"


def _wrapped(y: Any, values: Array, index: Array | None) -> Any:
    """``values`` in what ``y`` is: a list, a series, a frame; of pandas with the index of the rows that were kept."""
    if isinstance(y, list):
        return values.tolist()
    if hasattr(y, "iloc"):
        at = None if index is None else y.index[index]
        if y.ndim == 2:
            return type(y)(values, columns=y.columns, index=at).astype(y.dtypes.to_dict())
        return type(y)(values, name=y.name, index=at, dtype=y.dtype)
    if _is_polars(y):
        columns = {name: values.reshape(len(values), -1)[:, n] for n, name in enumerate(getattr(y, "columns", ()))}
        return type(y)(columns, schema=y.schema) if columns else type(y)(y.name, values.tolist(), dtype=y.dtype)
    return values


def _like(X: Any, table: pa.Table, names: list[str]) -> Any:
    """The columns of a table that are inputs, as what ``X`` is: its names, its types."""
    table = table.replace_schema_metadata(None).select(names)
    if hasattr(X, "iloc"):
        known = {str(column): column for column in X.columns}
        made = table.to_pandas().set_axis([known[name] for name in names], axis=1)
        return made.astype({known[name]: X.dtypes[known[name]] for name in names})
    if isinstance(X, pa.Table):
        return table.cast(pa.schema([X.schema.field(name) for name in names]))
    if _is_polars(X):
        import polars

        made = polars.DataFrame(table)
        return made.cast({name: X.schema[name] for name in names})
    values = np.stack([column.to_numpy() for column in table.columns], axis=1)
    return values.tolist() if isinstance(X, list) else values
