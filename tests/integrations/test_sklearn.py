"""The resampler: imbalanced-learn's convention, scikit-learn's checks, pipelines."""

import numpy as np
import pandas as pd
import pytest
from imblearn.pipeline import Pipeline
from imblearn.utils import estimator_checks as imblearn_checks
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import potstill
from potstill.exporters import to_pandas
from potstill.integrations.sklearn import Distiller, ResamplingError
from potstill.methods import DM

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
    sampler = Distiller("k-center", items=9, random_state=3)
    sampler.fit_resample(X, y)
    same = potstill.distill(potstill.load_data((X, y), test_fraction=0), "k-center", items=9, seed=3)
    assert np.array_equal(sampler.sample_indices_, same.index.numpy())
    assert sampler.distilled_.metadata["source"]["hash"] == same.metadata["source"]["hash"]


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
        (Distiller("herding", items=2), "at least one item of each of 3 classes"),
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


def mixed(n=24):
    """A column of every kind, named by more than texts."""
    i = np.arange(n)
    return pd.DataFrame(
        {
            "whole": i.astype("int16") % 7, "real": np.round(i / 3, 2), "new": i % 3 == 0,
            "town": pd.Categorical(np.where(i % 2, "Bern", "Zug"), categories=["Zug", "Bern", "Chur"], ordered=True),
            "day": pd.date_range("2021-01-01", periods=n), "word": np.where(i % 4, "a", "b"),
            "seven": i.astype("float32"), "code": pd.Categorical(i % 3 + 36),
        }
    )  # fmt: skip


Y = pd.Series(np.where(np.arange(24) % 4 < 2, "cat", "dog"), name="animal")


@pytest.mark.parametrize("method", ["random", "dm"])
def test_a_frame_of_mixed_columns_comes_back_as_it_was(method):
    frame = mixed().set_index(pd.Index(range(100, 124)))
    y = Y.set_axis(frame.index).astype("category")
    sampler = Distiller(method, ipc=2, options={"iterations": 3, "lr": 5.0} if method == "dm" else None)
    small, labels = sampler.fit_resample(frame, y)
    assert list(small.columns) == list(frame.columns)
    assert small.dtypes.to_dict() == frame.dtypes.to_dict()
    assert (labels.name, labels.dtype) == ("animal", y.dtype)
    assert labels.tolist() == ["cat"] * 2 + ["dog"] * 2
    assert list(sampler.classes_) == ["cat", "dog"]
    assert sampler.sampling_strategy_ == {"cat": 2, "dog": 2}
    assert set(small["town"]) <= {"Zug", "Bern"}
    assert (small["day"] == small["day"].dt.normalize()).all()
    assert sampler.n_features_in_ == 8
    if method == "random":
        pd.testing.assert_frame_equal(small, frame.iloc[sampler.sample_indices_])
        pd.testing.assert_series_equal(labels, y.iloc[sampler.sample_indices_])
    card = to_pandas(sampler.distilled_)
    assert card["animal"].tolist() == labels.tolist()


@pytest.mark.parametrize("method", ["random", "dm"])
def test_a_frame_of_polars_comes_back_as_it_was(method):
    import polars as pl

    frame = pl.from_pandas(mixed().drop(columns=["town", "code"]).rename(columns=str)).with_columns(
        town=pl.Series(["Zug", "Bern"] * 12, dtype=pl.Enum(["Chur", "Bern", "Zug"]))
    )
    y = pl.Series("animal", Y.tolist())
    small, labels = Distiller(method, ipc=2, options={"iterations": 2} if method == "dm" else None).fit_resample(
        frame, y
    )
    assert small.schema == frame.schema
    assert (labels.name, labels.dtype, labels.to_list()) == ("animal", pl.String, ["cat"] * 2 + ["dog"] * 2)


def test_labels_that_sort_otherwise_as_numbers_keep_their_samples():
    y = np.where(np.arange(24) % 2, "10", "9")
    sampler = Distiller("random", ipc=3)
    small, labels = sampler.fit_resample(mixed(), y)
    assert labels.tolist() == y[sampler.sample_indices_].tolist()
    assert len(small) == 6
    soft = Distiller("random-soft", ipc=3, options={"teacher_steps": 200})
    _, labels = soft.fit_resample(mixed().assign(real=np.arange(24) % 2 * 10.0), y)
    assert labels.tolist() == soft.classes_[soft.soft_labels_.argmax(1)].tolist()


@pytest.mark.parametrize("method", ["random", "dm"])
def test_missing_cells_are_filled_dropped_or_refused(method):
    frame = mixed().assign(real=np.where(np.arange(24) % 5, np.arange(24), np.nan))
    frame["word"] = frame["word"].where(np.arange(24) % 3 > 0)
    with pytest.raises(ResamplingError, match="column 'real' is empty"):
        Distiller(method, ipc=2, steps=1).fit_resample(frame, Y)
    small, _ = Distiller(method, ipc=2, missing="impute", steps=1).fit_resample(frame, Y)
    assert small["real"].notna().all() == (method == "dm") or method == "random"
    sampler = Distiller(method, ipc=2, missing="drop", steps=1)
    small, labels = sampler.fit_resample(frame, Y)
    assert small.notna().all(axis=None)
    if method == "random":
        pd.testing.assert_frame_equal(small, frame.iloc[sampler.sample_indices_])
        assert labels.tolist() == Y.iloc[sampler.sample_indices_].tolist()


def test_missing_values_of_an_array():
    X = np.arange(48.0).reshape(24, 2)
    X[3, 0] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        Distiller(ipc=1).fit_resample(X, Y)
    small, labels = Distiller("dm", ipc=2, missing="impute", steps=1).fit_resample(X, Y.to_numpy())
    assert small.shape == (4, 2)
    assert np.isfinite(small).all()
    assert labels.tolist() == ["cat"] * 2 + ["dog"] * 2


@pytest.mark.parametrize("method", ["random", "dm", "k-means"])
@pytest.mark.parametrize("kind", ["array", "frame", "several"])
def test_real_values(method, kind):
    X, y = load_diabetes(return_X_y=True, as_frame=kind == "frame")
    X, y = X[:80], y[:80]
    if kind == "several":
        y = np.stack([y, -y], axis=1)
    elif kind == "frame":
        y = y.astype("int32")
    sampler = Distiller(method, items=12, task="regression", options={"iterations": 2} if method == "dm" else None)
    small, targets = sampler.fit_resample(X, y)
    assert (len(small), len(targets), np.ndim(targets)) == (12, 12, np.ndim(y))
    assert not hasattr(sampler, "classes_")
    if kind == "frame":
        assert (targets.name, targets.dtype) == (y.name, y.dtype)
    assert np.min(np.abs(np.asarray(targets))) >= 25
    assert np.max(np.abs(np.asarray(targets))) <= 346
    if method != "dm":
        assert np.array_equal(np.asarray(targets), np.asarray(y)[sampler.sample_indices_])
    assert Ridge().fit(small, targets).predict(X).shape == np.shape(y)


def test_real_values_as_classes_say_what_to_do():
    with pytest.raises(ResamplingError, match=r'Unknown label type: continuous.*say `task="regression"`') as raised:
        Distiller(ipc=1).fit_resample(np.arange(20.0).reshape(10, 2), np.linspace(0, 1, 10))
    assert "\n" not in str(raised.value)
    with pytest.raises(ResamplingError, match="unknown task 'regresion'; did you mean regression"):
        Distiller(task="regresion").fit_resample(np.arange(20.0).reshape(10, 2), np.linspace(0, 1, 10))


def test_draws_are_those_of_scikit_learn(iris):
    def kept(**more):
        sampler = Distiller("random", ipc=3, **more)
        sampler.fit_resample(*iris)
        return sampler.sample_indices_.tolist()

    assert kept() == kept(random_state=None) == kept(random_state=0) == kept(random_state=np.int64(0))
    assert kept(random_state=1) != kept()
    assert kept(random_state=np.random.RandomState(5)) == kept(random_state=np.random.RandomState(5))
    state = np.random.RandomState(5)
    assert kept(random_state=state) != kept(random_state=state)  # one number is drawn at each call


def test_sizes_are_those_of_distill(iris):
    small, _ = Distiller("random", bytes="300B").fit_resample(*iris)
    assert 3 <= len(small) < 150
    assert len(Distiller("random").fit_resample(*iris)[0]) == 30
    with pytest.raises(ResamplingError, match="once: ipc"):
        Distiller("random", ipc=1, items=3).fit_resample(*iris)


def test_a_method_may_be_a_value(iris):
    small, _ = Distiller(DM(iterations=2), ipc=1).fit_resample(*iris)
    assert len(small) == 3


def test_a_frame_stands_in_a_pipeline_of_scikit_learn():
    steps = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["town", "word", "code"]), remainder="drop"
    )
    pipeline = Pipeline(
        [("distil", Distiller("dm", ipc=3, steps=2)), ("encode", steps), ("learn", LogisticRegression())]
    )
    assert len(pipeline.fit(mixed(), Y).predict(mixed())) == 24


def test_weights_of_the_samples_are_beside_them(iris):
    x, y = iris
    sampler = Distiller("craig", ipc=5, options={"record_epochs": 2})
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
