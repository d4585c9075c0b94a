"""The resampler: imbalanced-learn's convention, scikit-learn's checks, pipelines."""

import numpy as np
import pandas as pd
import pytest
from imblearn.pipeline import Pipeline
from imblearn.utils import estimator_checks as imblearn_checks
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import potstill
from potstill.integrations.sklearn import Distiller, ResamplingError

NOT_APPLICABLE = {
    "check_array_api_input": "runs only where SCIPY_ARRAY_API is set before SciPy is imported",
    "check_do_not_raise_errors_in_init_or_set_params": "beartype, under which tests alone run, raises in __init__",
    "check_samplers_pandas_sparse": "potstill's sources are dense tensors; sparse input is refused with a TypeError",
}
"""The checks that Distiller does not pass, and why."""

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.SkipTestWarning", "ignore:A column-vector y was passed"
)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[:300], y[:300]


def test_it_passes_the_checks_of_scikit_learn():
    found = check_estimator(Distiller("k-means", ipc=1), on_fail=None)
    assert len(found) > 30
    missed = {row["check_name"]: row["exception"] for row in found if row["status"] != "passed"}
    assert set(missed) <= set(NOT_APPLICABLE), missed
    raised = missed.pop("check_do_not_raise_errors_in_init_or_set_params", None)
    assert raised is None or type(raised).__name__ == "TypeCheckError"


@pytest.mark.parametrize("method", ["herding", "dm"])
def test_it_passes_the_checks_of_imbalanced_learn(method):
    sampler = Distiller(method, ipc=2, steps=1)
    ran = []
    for check in imblearn_checks._yield_sampler_checks(sampler):
        if check.__name__ not in NOT_APPLICABLE:
            check("Distiller", sampler)
            ran.append(check.__name__)
    assert len(ran) >= 13


def test_a_selection_is_rows_of_the_input(iris):
    X, y = iris
    sampler = Distiller("herding", ipc=4)
    small, labels = sampler.fit_resample(X, y)
    assert np.array_equal(small, X[sampler.sample_indices_])
    assert np.array_equal(labels, y[sampler.sample_indices_])
    assert sampler.sampling_strategy_ == {0: 4, 1: 4, 2: 4}
    again = Distiller("herding", ipc=4).fit_resample(X, y)[0]
    assert np.array_equal(small, again)


def test_it_keeps_what_the_command_line_would_keep(iris):
    X, y = iris
    sampler = Distiller("k-center", n=9, seed=3)
    sampler.fit_resample(X, y)
    same = potstill.distill(potstill.load_data((X, y), test_fraction=0), "k-center", items=9, seed=3)
    assert np.array_equal(sampler.sample_indices_, same.index.numpy())
    assert sampler.distilled_.card["source"]["hash"] == same.card["source"]["hash"]


def test_synthetic_samples_have_no_indices_and_the_units_of_the_input(iris):
    X, y = iris
    sampler = Distiller("dm", ipc=2, steps=3)
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    small, labels = sampler.fit_resample(frame, pd.Series(y, name="kind"))
    assert not hasattr(sampler, "sample_indices_")
    assert list(small.columns) == ["a", "b", "c", "d"]
    assert labels.name == "kind"
    assert small.shape == (6, 4)
    assert 3 < small["a"].mean() < 8  # sepals in centimetres, not in standard deviations
    sampler.set_params(method="random").fit_resample(X, y)
    assert hasattr(sampler, "sample_indices_")
    sampler.set_params(method="dm").fit_resample(X, y)
    assert not hasattr(sampler, "sample_indices_")


def test_soft_labels_stand_beside_the_classes(iris):
    X, y = iris
    sampler = Distiller("random-soft", ipc=2, options={"teacher_steps": 5})
    _, labels = sampler.fit_resample(X, y)
    assert sampler.soft_labels_.shape == (6, 3)
    assert np.array_equal(labels, sampler.soft_labels_.argmax(1))


@pytest.mark.parametrize("layout", ["flat", "grey", "channels last", "channels first"])
def test_pictures_keep_their_layout_and_their_range(digits, layout):
    flat, y = digits
    shapes = {"flat": (8, 8), "grey": (8, 8), "channels last": (8, 8, 3), "channels first": (3, 8, 8)}
    pictures = flat.reshape(-1, 8, 8)
    if layout != "grey":
        X = {
            "flat": flat,
            "channels last": np.repeat(pictures[..., None], 3, axis=3),
            "channels first": np.repeat(pictures[:, None], 3, axis=1),
        }[layout]
    else:
        X = pictures
    sampler = Distiller("k-means", ipc=1, shape=shapes[layout], options={"keep": "centroid"})
    small, labels = sampler.fit_resample(X, y)
    assert small.shape == (10, *X.shape[1:])
    assert labels.tolist() == list(range(10))
    assert sampler.distilled_.input.kind == "image"
    assert not hasattr(sampler, "sample_indices_")
    of_class = np.stack([X[y == c].mean(0) for c in range(10)])  # one centroid of a class is its mean
    assert np.allclose(small, of_class, atol=1e-4)
    chosen = Distiller("random", ipc=1, shape=shapes[layout])
    kept, _ = chosen.fit_resample(X, y)
    assert np.array_equal(kept, X[chosen.sample_indices_])


def test_labels_may_be_texts(iris):
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    _, labels = Distiller("random", ipc=2).fit_resample(X, names)
    assert labels.tolist() == ["setosa"] * 2 + ["versicolor"] * 2 + ["virginica"] * 2


@pytest.mark.parametrize("estimator", [LogisticRegression(max_iter=500), KNeighborsClassifier(3)])
def test_it_stands_in_a_pipeline_before_any_estimator(iris, estimator):
    X, y = iris
    pipeline = Pipeline([("scale", StandardScaler()), ("distil", Distiller("k-means", ipc=5)), ("learn", estimator)])
    pipeline.fit(X, y)
    assert pipeline.score(X, y) > 0.85
    assert len(pipeline.predict(X)) == len(X)  # nothing is resampled at prediction


def test_its_settings_can_be_searched(iris):
    X, y = iris
    pipeline = Pipeline([("distil", Distiller("k-means", ipc=1)), ("learn", KNeighborsClassifier(1))])
    search = GridSearchCV(pipeline, {"distil__ipc": [1, 8], "distil__method": ["random", "k-means"]}, cv=3).fit(X, y)
    assert search.best_params_["distil__ipc"] == 8


def test_parameters_and_clones():
    sampler = Distiller("dm", ipc=3, options={"iterations": 7})
    assert clone(sampler).get_params() == sampler.get_params()
    assert sampler.set_params(ipc=5).ipc == 5


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (Distiller("herdin"), "did you mean herding"),
        (Distiller("herding", ipc=51), "at least 51 samples of every class"),
        (Distiller("herding", ipc=0), "ipc must be a whole number of samples, at least 1, but it is 0"),
        (Distiller("herding", n=2), "at least one item of each of 3 classes"),
        (Distiller("dm", options={"iteration": 3}), "unknown option 'iteration'"),
        (Distiller("random", shape=(2, 3)), "6 values of a picture"),
        (Distiller("rded"), "works on image data"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(iris, sampler, message):
    with pytest.raises(ResamplingError, match=message) as refused:
        sampler.fit_resample(*iris)
    assert isinstance(refused.value, ValueError | potstill.PotstillError)
    assert "\n" not in str(refused.value)


def test_a_frame_of_mixed_columns_says_what_to_do():
    frame = pd.DataFrame({"a": range(8), "colour": ["red", "blue"] * 4, "when": pd.date_range("2021-01-01", periods=8)})
    with pytest.raises(ResamplingError, match=r"these columns do not: 'colour', 'when'; encode them .*OneHotEncoder"):
        Distiller(ipc=1).fit_resample(frame, [0, 1] * 4)
    with pytest.raises(ValueError, match="contains NaN"):
        Distiller(ipc=1).fit_resample(frame[["a"]].assign(b=np.nan), [0, 1] * 4)


def test_weights_of_the_samples_are_beside_them(iris):
    x, y = iris
    sampler = Distiller("craig", ipc=5, options={"epochs_recorded": 2})
    small, labels = sampler.fit_resample(x, y)
    weight = sampler.sample_weight_
    assert weight.dtype == np.float32
    assert weight.mean() == pytest.approx(1)
    raw = sampler.distilled_.weights.numpy()
    np.testing.assert_allclose(weight, raw / raw.mean(), rtol=1e-6)
    assert [raw[labels == c].sum() for c in range(3)] == [50, 50, 50]  # each sample of a class is in one cluster
    weighed = LogisticRegression(max_iter=500).fit(small, labels, sample_weight=weight)
    assert not np.allclose(weighed.coef_, LogisticRegression(max_iter=500).fit(small, labels).coef_)
    sampler.set_params(method="herding", options=None).fit_resample(x, y)
    assert sampler.sample_weight_.tolist() == [1.0] * 15
