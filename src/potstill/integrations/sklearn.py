"""scikit-learn's face of distillation: a resampler by imbalanced-learn's convention, ``fit_resample(X, y)``.

It stands in an ``imblearn.pipeline.Pipeline`` before any estimator: the estimator is then fitted on the small set, and
predicts on data as they come. imbalanced-learn itself is not needed for anything else.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, OneToOneFeatureMixin
from sklearn.utils import InputTags, Tags, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from potstill.core import Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.inputs import only
from potstill.registry import make_method
from potstill.storage import Distilled
from potstill.verbs.distill import distill

__all__ = ["Distiller", "ResamplingError"]

Array = npt.NDArray[Any]


class ResamplingError(PotstillError, ValueError):
    """What cannot be distilled. A ``ValueError`` as well, because that is what scikit-learn's callers expect."""


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


class Distiller(OneToOneFeatureMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Replaces a training set by a small one, chosen from it or made of it, by any of Potstill's methods.

    Args:
        method: a name of `potstill methods`.
        ipc: samples of each class to keep.
        n: samples in all to keep; where it is given, ``ipc`` does not count. Each class gets an equal share.
        network: the network to distil with; ``None``: the method's own, or one that suits the data.
        seed: decides every draw: equal arguments give equal results.
        shape: of one picture, (h, w), (c, h, w) or (h, w, c), where the rows of ``X`` are flattened pictures or ``X``
            is an array of pictures; ``None``: the rows are a table's.
        steps: stop after so many steps.
        time_limit: stop after so much time: seconds, or text such as ``10m``.
        effort: ``quick``, ``good`` or ``published``, as for `potstill.distill`.
        device: ``auto``, ``cpu`` or ``cuda``.
        options: settings of the method by name, e.g. ``{"iterations": 500}``; also ``augment``, ``parametrization``
            and ``labels``.

    Attributes:
        sample_indices_: int64, rows of ``X`` that were kept, of a method that selects; else there is no such attribute.
        sample_weight_: float32 (m,), mean 1: how much each kept sample counts, as CRAIG and GRAD-MATCH say it; all 1 of
            a method without weights. ``estimator.fit(X, y, sample_weight=distiller.sample_weight_)`` uses them; a
            pipeline, which hands over X and y alone, does not.
        soft_labels_: float32 (m, k), of a method whose labels are rows; ``y`` then has the likeliest classes.
        sampling_strategy_: samples kept by class, as imbalanced-learn has it.
        classes_: the distinct labels, sorted.
        distilled_: the set with its card; ``distilled_.save("small.safetensors")`` writes it.
    """

    def __init__(
        self,
        method: str = "k-means",
        *,
        ipc: int = 10,
        n: int | None = None,
        network: Any = None,
        seed: int = 0,
        shape: tuple[int, ...] | None = None,
        steps: int | None = None,
        time_limit: str | float | None = None,
        effort: str | None = None,
        device: str = "auto",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.ipc = ipc
        self.n = n
        self.network = network
        self.seed = seed
        self.shape = shape
        self.steps = steps
        self.time_limit = time_limit
        self.effort = effort
        self.device = device
        self.options = options

    def fit(self, X: Any, y: Any) -> "Distiller":
        """Check the data and remember the classes and columns. Nothing is distilled: that is ``fit_resample``.

        Raises:
            ValueError: labels that are no classes, or inputs that are no finite numbers.
        """
        self._checked(X, y)
        return self

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        """The small set.

        Args:
            X: (n, d) numbers, an array or a data frame; or pictures as ``shape`` says.
            y: n classes: numbers or texts, as an array, a series, a column, or one-hot rows.

        Returns:
            ``X`` and ``y`` of the small set, of the same types and units as what was given. What was selected is a copy
            of the rows; what was made of integers is float. By convention there are these two and no weights: those are
            in ``sample_weight_`` afterwards.

        Raises:
            ValueError: labels that are no classes, or inputs that are no finite numbers.
            ResamplingError: there is no such method, it does not suit the data, or a class has too few samples.
        """
        values, codes = self._checked(X, y)
        shape = None if self.shape is None else tuple(self.shape)
        try:
            inputs = values if shape is None else values.reshape(len(values), *shape)
            kind = "table" if shape is None else "image"
            names = [str(c) for c in self.classes_]
            source = TensorSource.make(inputs, codes, classes=names, name="arrays", kind=kind)
            made = distill(
                Splits(train=source, test=None),
                self.method,
                **self._kept(),
                effort=self.effort,
                seed=self.seed,
                network=self.network,
                steps=self.steps,
                time_limit=self.time_limit,
                device=self.device,
                progress=None,
                **dict(self.options or {}),
            )
        except PotstillError as error:
            raise ResamplingError(str(error)) from error
        kept = made.hard_labels.numpy()
        self.distilled_ = made
        self.sampling_strategy_ = {c: int((kept == i).sum()) for i, c in enumerate(self.classes_.tolist())}
        for name in ("sample_indices_", "soft_labels_"):  # of a run before, by another method
            self.__dict__.pop(name, None)
        weight = made.sample_weight
        self.sample_weight_ = np.ones(len(made), np.float32) if weight is None else weight.numpy()
        if made.labels.ndim == 2:
            self.soft_labels_ = made.labels.numpy()
        if made.index is not None:
            self.sample_indices_ = made.index.numpy()
            return _rows(X, self.sample_indices_), _as_given(y, self.classes_, kept)
        return self._made(X, values, made, source), _as_given(y, self.classes_, kept)

    def _kept(self) -> dict[str, Any]:
        name, amount = ("ipc", self.ipc) if self.n is None else ("n", self.n)
        if isinstance(amount, bool) or not isinstance(amount, int | np.integer) or amount < 1:
            raise PotstillError(f"{name} must be a whole number of samples, at least 1, but it is {amount!r}")
        return {"ipc" if self.n is None else "items": int(amount)}

    def _checked(self, X: Any, y: Any) -> tuple[Array, Array]:
        """Inputs (n, d) and the number of each sample's class (n,)."""
        shape = None if self.shape is None else tuple(self.shape)
        if shape is not None and getattr(X, "ndim", 2) > 2:
            if tuple(X.shape[1:]) != shape:
                raise ResamplingError(f"shape says pictures of {shape}, but X has pictures of {tuple(X.shape[1:])}")
            X = np.asarray(X).reshape(len(X), -1)
        if not hasattr(y, "ndim") and y is not None:
            y = np.asarray(y)
        rows = y is not None and y.ndim == 2 and y.shape[1] > 1  # one-hot
        try:
            X, y = validate_data(self, X, y, multi_output=rows, dtype="numeric", ensure_min_samples=2)
        except ValueError as error:
            if others := _no_numbers(X):
                shown = ", ".join(map(repr, others[:5])) + (", …" if len(others) > 5 else "")
                raise ResamplingError(
                    f"X must hold numbers, but these columns do not: {shown}; encode them before this step, as "
                    "make_column_transformer((OneHotEncoder(), [...]), remainder='passthrough') does, or give the "
                    "frame to potstill.load_data((X, y)), which encodes categories, booleans and dates"
                ) from error
            raise
        if shape is not None and math.prod(shape) != X.shape[1]:
            raise ResamplingError(
                f"shape says {math.prod(shape):,} values of a picture {shape}, but X has {X.shape[1]:,} columns"
            )
        if rows:
            if not (np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all()):
                raise ResamplingError(
                    f"y has {y.shape[1]} columns that are not one-hot rows; give one class per sample"
                )
            y = y.argmax(1)
        check_classification_targets(y)
        self.classes_, codes = np.unique(column_or_1d(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ResamplingError(f"at least two classes are needed, but y has 1 class, {self.classes_[0]!r}")
        return X, codes

    def _made(self, X: Any, values: Array, made: Distilled, source: TensorSource) -> Any:
        """Synthetic inputs in the units, the layout and, where they can hold them, the dtype of ``X``."""
        x = made.inputs.numpy()
        if self.shape is not None:
            last = len(self.shape) == 3 and tuple(self.shape) != source.input.shape
            x = np.moveaxis(x, 1, -1) if last else x
            if source.input.units == "pixels in [0,1]" and (high := float(values.max())) > 1:
                x = x * (65535 if only(source.inputs, "a resampler").is_floating_point() and high > 255 else 255)
        dtype = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
        flat: Array = x.reshape(len(x), -1).astype(dtype)
        if getattr(X, "ndim", 2) > 2:
            return flat.reshape(len(x), *X.shape[1:])
        if isinstance(X, list):
            return flat.tolist()
        return type(X)(flat, columns=X.columns) if hasattr(X, "iloc") else flat

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags = _InputTags(**{f.name: getattr(tags.input_tags, f.name) for f in fields(tags.input_tags)})
        parts = {f.name: getattr(tags, f.name) for f in fields(tags)}
        return _Tags(**parts, sampler_tags=_SamplerTags(sample_indices=self._selects()))

    def _selects(self) -> bool:
        """Whether the method keeps real samples: what imbalanced-learn's tag says."""
        try:
            info = make_method(self.method, self.options or {})[1].info
        except (PotstillError, TypeError):  # tags are asked of estimators that are not valid, too
            return False
        return info.selects and (self.options or {}).get("keep") != "centroid"


def _no_numbers(X: Any) -> list[str]:
    """The columns of a data frame that hold no numbers."""
    dtypes = getattr(X, "dtypes", None)
    if dtypes is None or not hasattr(X, "iloc"):
        return []
    return [str(name) for name, dtype in dtypes.items() if getattr(dtype, "kind", "O") not in "biuf"]


def _rows(X: Any, index: Array) -> Any:
    if hasattr(X, "iloc"):
        return X.iloc[index]
    return [X[i] for i in index] if isinstance(X, list) else np.asarray(X)[index]


def _as_given(y: Any, classes: Array, kept: Array) -> Any:
    """Labels of the small set, as those that were given: a list, a series, a frame, one-hot rows."""
    if getattr(y, "ndim", 1) == 2 and y.shape[1] > 1:
        rows = np.eye(y.shape[1], dtype=np.asarray(y).dtype)[kept]
        return type(y)(rows, columns=y.columns) if hasattr(y, "iloc") else rows
    labels = classes[kept]
    if isinstance(y, list):
        return labels.tolist()
    if hasattr(y, "iloc"):
        return type(y)(labels, columns=y.columns) if y.ndim == 2 else type(y)(labels, name=y.name)
    return labels
