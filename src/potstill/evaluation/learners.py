"""Built-in learners: scikit-learn's linear models and forests, and ridge regression in closed form."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor

from potstill.augment.mix import label_rows
from potstill.core import InputSpec, Normalization, Task
from potstill.core.nested import iter_batches
from potstill.errors import PotstillError
from potstill.evaluation.estimators import Predictor
from potstill.functional.kernels import FullyConnected, concat_embeddings
from potstill.functional.label_simplex import to_scores
from potstill.functional.ridge import ridge_weights, solve
from potstill.kinds import get_kind
from potstill.nn import default_network_name, factory
from potstill.nn.pretrained import is_backbone
from potstill.rng import derive_seed, generator
from potstill.tasks import Classification

__all__ = [
    "BuiltIn", "Forest", "KrrNtk", "LinearModel", "Nngp", "Ridge", "RidgeFeatures", "ScikitLearn", "predictions",
    "training_rows",
]  # fmt: skip

_CHUNK = 500
"""Samples per pass through a feature network."""


@dataclass(frozen=True, kw_only=True)
class BuiltIn:
    """Abstract: attributes of a learner of classes and real values that is fitted once."""

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression", "forecast")
    draws: ClassVar[Any] = False

    def _require_least(self, **least: float) -> None:
        """Check the lower bound of each named setting."""
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise PotstillError(f"{self.name}: {name} must be at least {bound}, not {getattr(self, name)}")


class ScikitLearn(BuiltIn):
    """Abstract: learner whose estimator is scikit-learn's."""

    @abstractmethod
    def estimator(self, classes: bool, seed: int, rows: int, outputs: int) -> Any:
        """Return the unfitted estimator.

        Args:
            classes: it is to tell classes, numbered from 0 without gaps; else real values.
            rows: training samples.
            outputs: real values of a sample; 1 of classes.
        """

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        classes = isinstance(task, Classification)
        rows, targets, counts = training_rows(x, y, weights, classes)
        if classes:
            numbers, targets = np.unique(targets, return_inverse=True)  # a set may lack classes
            if len(numbers) == 1:
                return lambda inputs: torch.full((len(inputs),), int(numbers[0]))
        elif targets.ndim == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        model = self.estimator(classes, seed, len(rows), 1 if targets.ndim == 1 else targets.shape[1])
        model.fit(rows, targets, sample_weight=counts)

        def predict(inputs: Tensor) -> Tensor:
            found = np.ascontiguousarray(model.predict(_matrix(inputs)))
            if classes:
                return torch.from_numpy(numbers[found]).long()
            return torch.from_numpy(found).float().reshape(len(found), -1)

        return predict


@dataclass(frozen=True, kw_only=True)
class LinearModel(ScikitLearn):
    """scikit-learn's ``LogisticRegression`` or ``Ridge``, with its defaults."""

    name: ClassVar[str] = "linear-model"
    strength: float = 1.0
    """``C`` of the one, ``alpha`` of the other: scikit-learn's defaults."""

    def estimator(self, classes: bool, seed: int, rows: int, outputs: int) -> Any:
        from sklearn.linear_model import LogisticRegression
        from sklearn.linear_model import Ridge as LinearRidge

        return LogisticRegression(C=self.strength, max_iter=1000) if classes else LinearRidge(alpha=self.strength)


@dataclass(frozen=True, kw_only=True)
class Forest(ScikitLearn):
    """scikit-learn's ``RandomForestClassifier`` or ``RandomForestRegressor``, with its defaults."""

    name: ClassVar[str] = "forest"
    draws: ClassVar[Any] = True
    trees: int = 100
    """scikit-learn's default."""

    def estimator(self, classes: bool, seed: int, rows: int, outputs: int) -> Any:
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        kind = RandomForestClassifier if classes else RandomForestRegressor
        return kind(n_estimators=self.trees, random_state=seed % 2**32)


@dataclass(frozen=True, kw_only=True)
class Ridge(BuiltIn):
    """Ridge regression by one Cholesky decomposition in float64, on inputs standardised by the training samples; of
    classes on one-hot rows.

    With d inputs it solves (XᵀX/n + λ·I) W = XᵀY/n, λ = ``penalty`` · trace(XᵀX/n)/d, or its dual with fewer samples
    than inputs.
    """

    name: ClassVar[str] = "ridge"
    real_rows: ClassVar[bool] = True
    penalty: float = 0.01
    """Relative to the mean variance of the inputs. Ours."""

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        targets = F.one_hot(y.long(), task.outputs) if isinstance(task, Classification) and y.ndim == 1 else y
        a, b = x.detach().flatten(1).double(), targets.detach().double()
        share = (torch.ones_like(a[:, 0]) if weights is None else weights.to(a))[:, None]
        share = share / share.sum()
        mean, centre = (share * a).sum(0), (share * b).sum(0)
        spread = (share * (a - mean).square()).sum(0).sqrt()
        spread = torch.where(spread > 1e-9, spread, torch.ones_like(spread))
        root = share.sqrt()
        a, b = root * (a - mean) / spread, root * (b - centre)
        n, d = a.shape
        penalty = self.penalty * max(float(a.square().sum()) / d, 1e-12)
        square = a @ a.T if n < d else a.T @ a
        lower = torch.linalg.cholesky(square + penalty * torch.eye(len(square), dtype=a.dtype, device=a.device))
        w = a.T @ torch.cholesky_solve(b, lower) if n < d else torch.cholesky_solve(a.T @ b, lower)
        return lambda inputs: predictions(((inputs.flatten(1).to(w) - mean) / spread) @ w + centre, task)


@dataclass(frozen=True, kw_only=True)
class RidgeFeatures(BuiltIn):
    """Ridge regression in closed form, in float64, on the features before a network's classifier: of a pretrained
    backbone, or of untrained networks, whose products are a random-feature kernel (arXiv:2210.12067). Classes are
    fitted as scores, one-hot rows less 1/k. With weights it minimises the weighted squares.

    Raises:
        PotstillError: a setting out of its range.
    """

    name: ClassVar[str] = "ridge-features"
    real_rows: ClassVar[bool] = True
    network: str = ""
    """Its name; empty: ``convnet-nonorm`` for images, else ``mlp``."""
    count: int = 1
    """Number of untrained networks side by side, each with other parameters."""
    ridge: float = 1e-6
    """λ divided by the mean squared length of the features."""

    def __post_init__(self) -> None:
        self._require_least(count=1, ridge=0)

    @property
    def draws(self) -> bool:
        return not is_backbone(self.network)

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        spec = InputSpec(kind="image" if x.ndim == 4 else "table", shape=tuple(x.shape[1:]))
        return self.fit_with_input(x, y, weights, task, seed, spec, None)

    def fit_with_input(
        self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int, input: InputSpec,
        normalization: Normalization | None,
    ) -> Predictor:  # fmt: skip
        """As ``fit``, for inputs that are known: a backbone sees its inputs without their normalization."""
        name = self.network or ("convnet-nonorm" if get_kind(input).augmentable else default_network_name(input))
        make = factory(name, input, task.outputs, x.device, normalization=normalization)
        alike = 1 if is_backbone(name) else self.count
        nets = [make(derive_seed(seed, "features", n)).eval() for n in range(alike)]

        def features(inputs: Tensor) -> Tensor:
            with torch.no_grad():
                return torch.cat([concat_embeddings(nets, some).double() for some in iter_batches(inputs, _CHUNK)])

        rows, (targets, mean) = features(x.detach()), _centred_targets(y, weights, task)
        root = torch.ones_like(rows[:, :1]) if weights is None else weights.to(rows).sqrt()[:, None]
        w = ridge_weights(root * rows, root * targets, self.ridge)
        return lambda inputs: predictions(features(inputs) @ w + mean, task)


@dataclass(frozen=True, kw_only=True)
class KrrNtk(BuiltIn):
    """Kernel ridge regression with the neural tangent kernel of a wide network, depth=1 (arXiv:1806.07572).

    The network is fully connected with ReLU (`potstill.functional.kernels`); KIP distils for this learner and tests
    with it. In closed form, in float64. Classes are fitted as scores, one-hot rows less 1/k; real values as differences
    from their mean. With weights it minimises the weighted squares.

    Raises:
        PotstillError: a setting out of its range.
    """

    name: ClassVar[str] = "krr-ntk"
    kind: ClassVar[Literal["ntk", "nngp"]] = "ntk"
    real_rows: ClassVar[bool] = True
    depth: int = 1
    """Hidden layers, as in KIP's demonstration (FC1)."""
    ridge: float = 1e-6
    """λ over the mean of the kernel's diagonal: KIP's, and FRePo's."""
    most: int = 4000
    """Maximum number of samples used, drawn by the seed: the kernel matrix is quadratic in it."""

    def __post_init__(self) -> None:
        self._require_least(depth=0, ridge=0, most=1)

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        kernel, n = FullyConnected(depth=self.depth, kind=self.kind), len(x)
        if n > self.most:
            at = torch.randperm(n, generator=generator(seed, "kernel"))[: self.most].sort().values.to(x.device)
            x, y, weights = x[at], y[at], None if weights is None else weights[at]
        rows, (targets, mean) = x.detach().flatten(1).double(), _centred_targets(y, weights, task)
        root = torch.ones_like(rows[:, 0]) if weights is None else weights.to(rows).sqrt()
        k = root[:, None] * kernel(rows, rows) * root
        alpha = root[:, None] * solve(k, root[:, None] * targets, self.ridge)
        return lambda inputs: predictions(kernel(inputs.flatten(1).double(), rows) @ alpha + mean, task)


@dataclass(frozen=True, kw_only=True)
class Nngp(KrrNtk):
    """Kernel ridge regression with the covariance of a wide network's initial outputs, depth=1 (arXiv:1711.00165): what
    training its last layer alone learns. Otherwise as `KrrNtk`.
    """

    name: ClassVar[str] = "nngp"
    kind: ClassVar[Literal["ntk", "nngp"]] = "nngp"


def _matrix(x: Tensor) -> Float[np.ndarray, "n d"]:
    """Return inputs (n, …) as rows (n, d), float64."""
    return np.asarray(x.detach().cpu().flatten(1).double().numpy())


def training_rows(
    x: Tensor, y: Tensor, weights: Tensor | None, classes: bool
) -> tuple[Float[np.ndarray, "m d"], Num[np.ndarray, "m ..."], Float[np.ndarray, " m"] | None]:
    """Return rows, targets and weights for scikit-learn.

    Rows of class probabilities become one sample for each class with a positive one, weighted by it.

    Args:
        x: inputs (n, …).
        y: int64 classes (n,), rows (n, k) of probabilities, or real values (n, t).
        weights: of each sample (n,), or ``None``: all equal.
        classes: ``y`` are classes or rows of probabilities.
    """
    y = y.detach().cpu()
    counts = None if weights is None else weights.detach().cpu().double()
    if classes and y.ndim == 2:
        sample, label = torch.where(y > 0)
        part = y[sample, label].double()
        counts = part if counts is None else part * counts[sample]
        return _matrix(x)[sample.numpy()], label.numpy(), counts.numpy()
    targets = y.numpy() if classes else y.double().numpy()
    return _matrix(x), targets, None if counts is None else counts.numpy()


def _centred_targets(y: Tensor, weights: Tensor | None, task: Task) -> tuple[Float[Tensor, "n t"], Float[Tensor, " t"]]:
    """Return float64 scores of classes and zeros, or differences of real values from their weighted mean, and that."""
    if isinstance(task, Classification):
        made = to_scores(label_rows(y.detach(), task.outputs, torch.float64))
        return made, torch.zeros_like(made[0])
    values = y.detach().double().reshape(len(y), -1)
    share = torch.ones_like(values[:, :1]) if weights is None else weights.to(values)[:, None]
    mean = (share * values).sum(0) / share.sum()
    return values - mean, mean


def predictions(outputs: Float[Tensor, "n t"], task: Task) -> Tensor:
    """Return the likeliest class of each row (n,), or float32 values (n, t)."""
    return outputs.argmax(1) if isinstance(task, Classification) else outputs.float()
