"""Sets whose targets are no classes: their task's loss trains, its metric scores, and its direction is read."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import potstill
from potstill.augment.siamese import none
from potstill.core import Batch, InputSpec, Network, Normalization, Splits
from potstill.data import SeriesSource, TensorSource
from potstill.data.in_memory import fit_normalization
from potstill.dataset_file import Contents, Distilled
from potstill.errors import PotstillError
from potstill.evaluation import evaluate, student
from potstill.evaluation.byte_matched_baselines import (
    BaselineContext,
    count_exact_bytes,
    max_items_per_class,
    pack_samples,
)
from potstill.evaluation.evaluate import normalize_like
from potstill.evaluation.protocols import POTSTILL as PROTOCOL
from potstill.evaluation.real_set_space import candidate_codecs
from potstill.evaluation.student import StudentJob, fit, predict, train_and_predict
from potstill.evaluation.vmap_students import fit_stacked, train_and_predict_stacked
from potstill.execution import Serial
from potstill.nn import factory
from potstill.rng import derive_seed, generator
from potstill.tasks import Forecast, Regression, Retrieval, get_task
from potstill.testing import check_source
from potstill.testing.toy import pairs_source

SHORT = PROTOCOL.override(steps=30, lr=0.02, least_epochs=0, students=2)


def rows(n: int, seed: int, name: str = "rows") -> TensorSource:
    """Rows of six columns whose target is a sum of two of them, about 100 with a deviation of about 14."""
    x = torch.randn(n, 6, generator=generator(seed, "rows"))
    y = 100 + 10 * (x[:, :1] + x[:, 1:2])
    return TensorSource(
        name=name, input=InputSpec(kind="table", shape=(6,), units="raw"), classes=(), inputs=x,
        normalization=fit_normalization(x), labels=torch.zeros(n, dtype=torch.int64), targets=y,
        task=Regression(targets=("price",)).fit(y),
    )  # fmt: skip


@pytest.fixture
def priced() -> Splits:
    train = rows(60, 1)
    test = rows(40, 2)
    return Splits(
        train=train,
        test=TensorSource(
            **{f: getattr(test, f) for f in ("name", "input", "classes", "inputs", "labels", "targets")},
            normalization=train.normalization,
            task=train.task,
        ),
    )


class Held(Distilled):
    """A set of the first samples of the training part that was never in a file."""

    def __init__(self, splits: Splits, room: int = 400, weights: Tensor | None = None) -> None:
        train = splits.train
        batch = train.fetch(torch.arange(8))
        assert batch.y is not None
        self.metadata = {
            "network": "mlp-w16", "method": "dm", "ipc": None, "seed": 0, "training": {}, "classes": [],
            "bytes": {"inputs": room, "labels": 0, "decoder": 0, "total": room},
            "source": {"name": train.name, "hash": train.content_hash},
        }  # fmt: skip
        self.record = {}
        self.normalization, self.spec = train.normalization, train.input
        self._model_space: Any = batch.x
        self._contents = Contents(inputs=train.raw(torch.arange(8)), labels=batch.y, weights=weights)

    @property
    def input(self) -> InputSpec:
        return self.spec


def measured(splits: Splits, **changes: Any) -> Any:
    fields: dict[str, Any] = {"protocol": SHORT, "networks": ["mlp-w16", "linear"], "executor": Serial()}
    return evaluate(Held(splits, **changes.pop("held", {})), splits, **(fields | changes))


def test_a_real_target_is_scored_in_its_unit_and_less_is_better(priced: Splits) -> None:
    card = measured(priced, baselines=True, full=True)
    said = card.to_dict()
    assert "accuracy" not in said
    assert "per_class" not in said
    assert list(said["baselines"]) == ["random", "random-items", "real"]
    every = [said, *said["baselines"].values(), said["full"], *said["networks"].values()]
    for part in every:
        score = part["score"]
        assert {"metric", "direction", "unit", "mean", "std", "ci95", "n"} <= score.keys()
        assert (score["metric"], score["direction"], score["unit"]) == ("rmse", "lower", "price")
        assert 0 < score["mean"] < 60
    assert said["full"]["mean"] < said["score"]["mean"], "all rows teach more than eight"
    gap = said["difference"]["random-items"]
    assert gap["mean"] == pytest.approx(said["score"]["mean"] - said["baselines"]["random-items"]["mean"])
    assert card.score == said["score"]["mean"]
    assert said["scores"]["ior"] == pytest.approx(said["difference"]["random"]["mean"])
    assert said["scores"]["lrs"] is None
    assert said["baselines"]["random"]["bytes"] <= 400
    with pytest.raises(PotstillError, match="no accuracy without classes"):
        _ = card.accuracy
    text = str(card)
    assert "rmse (price), less is better" in text
    assert "%" not in text.replace("95% interval", "")
    assert "points" not in text
    assert "of each class" not in text


def test_a_student_that_diverged_knows_no_more_than_the_mean(priced: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(student, "_finite", lambda network: False)
    said = measured(priced, baselines=False, full=False).to_dict()
    assert priced.test is not None
    task = get_task(priced.train)
    assert isinstance(priced.test, TensorSource)
    assert priced.test.targets is not None
    assert said["diverged"] == 2
    assert said["score"]["mean"] == pytest.approx(task.chance_score(priced.test.targets))
    assert said["score"]["mean"] > 5


def test_what_is_chosen_on_validation_data_has_the_lower_error(priced: Splits) -> None:
    several = SHORT.override(lr=[1e-6, 0.05])
    assert measured(priced, protocol=several, baselines=False, full=False).to_dict()["chosen"]["lr"] == 0.05
    far = SHORT.override(lr=[0.05, 1e-6])
    assert measured(priced, protocol=far, baselines=False, full=False).to_dict()["chosen"]["lr"] == 0.05


def test_the_best_epoch_is_the_one_of_the_lowest_error(priced: Splits) -> None:
    batch = priced.train.fetch(torch.arange(20))
    assert batch.y is not None
    assert priced.test is not None
    p = SHORT.override(epochs=6, select="best-on-test", test_every=1)
    jobs = [
        StudentJob(make=factory("mlp-w16", priced.train.input, 1), x=batch.x, y=batch.y, protocol=p, lr=lr, steps=None,
            augment=none(), seed=3, task=get_task(priced.train))
        for lr in (0.02, 0.02)
    ]  # fmt: skip
    said = train_and_predict(priced.test, jobs[0])
    assert said is not None
    targets = priced.test.targets  # type: ignore[attr-defined]
    task = get_task(priced.train)
    scores = []
    network = jobs[0].make(derive_seed(3, "network"))
    fit(network, jobs[0], lambda: scores.append(task.score(predict(network, priced.test), targets)) or network.train())  # type: ignore[arg-type,func-returns-value]
    assert task.score(said, targets) == pytest.approx(min(scores))
    beside = train_and_predict_stacked(priced.test, jobs)
    for one in beside:
        assert one is not None
        torch.testing.assert_close(one, said, rtol=1e-4, atol=1e-3)
    assert fit_stacked(jobs).parameters


def test_weights_are_refused_where_there_are_no_classes(priced: Splits) -> None:
    held = {"weights": torch.ones(8)}
    with pytest.raises(PotstillError, match="weights=False"):
        measured(priced, held=held, baselines=False, full=False)
    assert measured(priced, held=held, baselines=False, full=False, weights=False).score > 0


class Outside:
    """A source that keeps the contract and no more."""

    def __init__(self, inner: TensorSource) -> None:
        self.inner = inner
        self.name, self.input, self.classes = inner.name, inner.input, inner.classes
        self.normalization, self.labels, self.device = inner.normalization, inner.labels, inner.device
        self.content_hash = inner.content_hash

    def __len__(self) -> int:
        return len(self.inner)

    def fetch(self, index: Tensor, /) -> Batch:
        return self.inner.fetch(index)

    def raw(self, index: Tensor, /) -> Any:
        return self.inner.raw(index)

    def to(self, device: torch.device | str, /) -> "Outside":
        return Outside(self.inner.to(device))


def test_a_source_of_somebody_else_is_measured_as_one_of_ours(table: Splits, make_set: Any) -> None:
    outside = Splits(train=Outside(table.train), test=Outside(table.test))  # type: ignore[arg-type]
    for part in (outside.train, outside.test):
        check_source(part)
    p = PROTOCOL.override(steps=[1, 2], least_epochs=0, lr=0.01, students=2)
    ours, theirs = (
        evaluate(make_set(table), s, protocol=p, networks=["linear"], executor=Serial()).to_dict()
        for s in (table, outside)
    )
    for key in ("accuracy", "baselines", "full", "networks", "scores"):
        assert ours[key] == theirs[key]


def pairs(n: int) -> TensorSource:
    x = {
        "left": torch.randn(n, 4, generator=generator(0, "left")),
        "right/values": torch.arange(3 * n) % 7,
        "right/offsets": 3 * torch.arange(n),
    }
    spec = InputSpec(
        kind="pair", shape=(),
        parts=(
            ("left", InputSpec(kind="table", shape=(4,))), ("right", InputSpec(kind="words", shape=(), levels=(7,))),
        ),
    )  # fmt: skip
    return TensorSource(
        name="pairs", input=spec, classes=(), inputs=x, normalization=fit_normalization(x),
        labels=torch.zeros(n, dtype=torch.int64), targets=torch.arange(n),
        task=Retrieval(views=("left", "right"), width=3),
    )  # fmt: skip


class Towers(Network):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 3), nn.EmbeddingBag(7, 3)
        self.classifier = nn.Identity()

    def embed(self, x: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([self.left(x["left"]), self.right(x["right/values"], x["right/offsets"])], 1)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        return self.embed(x)


class MakeTowers:
    name, device = "towers", torch.device("cpu")

    def __call__(self, seed: int, /) -> Network:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Towers()


def test_a_student_learns_inputs_with_names() -> None:
    source = pairs(30)
    batch = source.fetch(torch.arange(20))
    assert batch.y is not None
    job = StudentJob(
        make=MakeTowers(), x=batch.x, y=batch.y, protocol=SHORT.override(batch=8), lr=0.1, steps=40, augment=none(),
        seed=1, task=source.task,
    )  # fmt: skip
    said = train_and_predict(source, job)
    assert said is not None
    assert said.shape == (30, 6)
    again = train_and_predict_stacked(source, [job])[0]
    assert again is not None
    assert torch.equal(said, again)


def test_real_samples_with_names_are_stored_exactly_and_within_the_bytes() -> None:
    source = pairs(30)
    assert candidate_codecs(source.input) == (("exact",),)
    order = [torch.randperm(30, generator=generator(0, "order"))]
    n = max_items_per_class(source, order, 200, "exact")
    assert 0 < n < 30
    made = pack_samples(source, [order], n, "exact")
    assert made.bytes <= 200
    assert made.items == n
    x, y = made.pair_for(0)
    expected = source.fetch(order[0][:n])
    assert not isinstance(x, Tensor)
    assert not isinstance(expected.x, Tensor)
    assert x.keys() == expected.x.keys()
    assert all(torch.equal(x[name], expected.x[name]) for name in x)
    assert expected.y is not None
    assert torch.equal(y, expected.y)
    assert count_exact_bytes(source) >= made.bytes


def test_choices_about_a_series_are_made_on_what_comes_later() -> None:
    source = SeriesSource(
        name="series", series=torch.randn(60, 2, generator=generator(0, "series")), starts=torch.arange(50),
        normalization=Normalization(torch.zeros(2), torch.ones(2)),
        task=Forecast(window=8, horizon=2, variables=("a", "b"), mean=(0.0, 0.0), std=(1.0, 1.0)),
    )  # fmt: skip
    held = Held(Splits(train=rows(9, 0), test=None))
    held.normalization = Normalization(torch.ones(2), torch.ones(2))
    seen = normalize_like(source, held)
    assert isinstance(seen, SeriesSource)
    torch.testing.assert_close(seen.fetch(torch.arange(2)).x, source.raw(torch.arange(2)) - 1)
    fit, later = BaselineContext(train=seen, byte_budget=100, make=MakeTowers(), seed=0).parts()
    assert isinstance(fit, SeriesSource)
    assert isinstance(later, SeriesSource)
    assert int(fit.starts.max()) + 8 + 2 <= int(later.starts.min())


def test_pairs_have_a_network_where_none_is_named() -> None:
    source = pairs_source()
    whole = Splits(train=source, test=source)
    small = potstill.distill(whole, "random", items=6, progress=None)
    given: dict[str, Any] = {"seeds": 1, "steps": 2, "lr": 0.01, "baselines": False, "full": False, "progress": None}
    assert potstill.evaluate(small, whole, **given).to_dict()["network"] == "towers-w32"
