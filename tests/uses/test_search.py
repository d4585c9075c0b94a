"""Search: spaces, agreement of rankings, equal compute, resuming, studies, and refusals in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.tree import DecisionTreeClassifier

import potstill
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.nn import factory
from potstill.uses.search import (
    Candidate,
    Made,
    RealSet,
    SetFile,
    TrainingFree,
    break_even,
    convnet_grid,
    draw_candidates,
    halving_rounds,
    kendall_tau,
    optuna_objective,
    parse_proxy,
    product,
    ray_trainable,
    regret,
    search,
    search_estimators,
    spearman_top,
    studies,
    tau_difference,
)

NETWORKS = ("mlp-w2", "mlp-w8", "mlp-w32", "linear")


def pictures(per_class: int = 40, seed: int = 0, shuffled: bool = False, classes: int = 4) -> TensorSource:
    """Return pictures of 8 × 8 whose class is the row that is bright."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(classes).repeat(per_class)
    x = torch.randint(0, 120, (len(y), 1, 8, 8), generator=rng, dtype=torch.uint8)
    x[torch.arange(len(y)), 0, y] += 60
    given = y[torch.randperm(len(y), generator=rng)] if shuffled else y
    return TensorSource.make(x, given.tolist(), classes=[str(c) for c in range(classes)], name="rows")


def splits(**test: Any) -> Splits:
    return Splits(train=pictures(), test=pictures(per_class=10, seed=1, **test))


def run(out: Path, data: Any = None, candidates: Any = NETWORKS, **options: Any) -> dict[str, Any]:
    """Return a search of a second."""
    given = {"updates": 20, "batch": 16, "executor": "serial"}
    return search(data or splits(), candidates, out=out, **{**given, **options})


def small_set() -> potstill.Distilled:
    return potstill.distill(splits(), "dm", ipc=2, steps=3, network="mlp-w8", progress=None, device="cpu")


def row(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(r for r in result["rows"] if r["name"] == name)


def test_the_grid_is_the_published_one_and_every_name_is_a_network() -> None:
    grid = convnet_grid()
    assert len(set(grid)) == len(grid) == 720
    spec = potstill.load_data("digits").train.input
    for name in convnet_grid(widths=(4,), depths=(1,)):
        assert factory(name, spec, 10).name == name


def test_a_product_has_each_combination_once_and_a_draw_depends_on_its_seed() -> None:
    space = product(["mlp-w8", "linear"], lr=(1e-3, 1e-2), weight_decay=(0.0, 0.1))
    assert len({c.name for c in space}) == len(space) == 8
    assert space[0].name == "mlp-w8 lr=0.001"
    one, again, other = (draw_candidates(space, 4, seed) for seed in (0, 0, 1))
    assert one == again != other
    assert draw_candidates(space, 99, 0) == space


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: product(["linear", "linear"]), "candidate 'linear' is given twice"),
        (lambda: product(["linear"], lr=[0.0]), "a learning rate must be a number above 0, not 0.0"),
        (lambda: product(["linear"], weight_decay=[-1.0]), "a weight decay must be a number of at least 0"),
        (lambda: parse_proxy("random"), "proxy 'random' needs a number of samples of each class: random:50"),
        (lambda: parse_proxy("dmm"), "no proxy 'dmm'"),
        (lambda: parse_proxy("glister"), "method glister selects real samples"),
    ],
)
def test_bad_spaces_and_proxies_are_refused_in_one_line(make: Any, message: str) -> None:
    with pytest.raises(PotstillError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("random:50", RealSet(per_class=50)),
        ("k-means:10", RealSet(per_class=10, selection="k-means")),
        ("random:200@half:bits=1", RealSet(per_class=200, codec="half:bits=1")),
        ("a/b.safetensors", SetFile(path="a/b.safetensors")),
        ("dm", Made(method="dm")),
        ("operations", TrainingFree(name="operations")),
    ],
)
def test_a_proxy_is_named_in_one_word(text: str, proxy: Any) -> None:
    assert parse_proxy(text) == proxy


def test_tau_and_spearman_are_those_of_scipy_with_ties() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 12, 30).astype(float)
    scores = truth + rng.integers(-4, 5, 30)
    found = kendall_tau([scores.tolist()], truth.tolist())
    assert found["value"] == pytest.approx(scipy.stats.kendalltau(scores, truth).statistic)
    assert found["ci95"][0] < found["value"] < found["ci95"][1]
    best = np.argsort(-truth, kind="stable")[:10]
    top = spearman_top(scores.tolist(), truth.tolist(), 10)
    assert top is not None
    assert top["value"] == pytest.approx(scipy.stats.spearmanr(scores[best], truth[best]).statistic)
    assert spearman_top([1.0, 2.0], [1.0, 2.0], 5) is None


def test_a_constant_ranking_has_no_tau_and_regret_is_that_of_the_pick() -> None:
    assert kendall_tau([[1.0, 1.0, 1.0]], [1.0, 2.0, 3.0]) == {"value": None, "ci95": None}
    assert regret([0.1, 0.9, 0.9], [0.8, 0.5, 0.9]) == pytest.approx(0.4)


def test_a_difference_of_tau_is_paired() -> None:
    truth = [float(n) for n in range(20)]
    noisy = [v + (7 if n % 3 == 0 else 0) for n, v in enumerate(truth)]
    assert tau_difference([noisy], [noisy], truth) == {"value": 0.0, "ci95": [0.0, 0.0]}
    gap = tau_difference([truth], [noisy], truth)
    assert gap["ci95"][0] > 0
    both = kendall_tau([truth, noisy], truth)["value"]
    assert both == pytest.approx((1 + kendall_tau([noisy], truth)["value"]) / 2)


@pytest.mark.parametrize(
    ("tau", "early", "candidates"),
    [
        (0.6, [(10.0, 0.7), (20.0, 0.8)], None),  # as good in no more updates: never
        (0.75, [(10.0, 0.7), (20.0, 0.8)], 20),  # early stopping needs 15 a candidate, the set 10 and 100 to make
        (0.9, [(10.0, 0.7), (20.0, 0.8)], 40),  # early stopping did not reach it
    ],
)
def test_a_set_pays_where_early_stopping_costs_more(tau: float, early: Any, candidates: int | None) -> None:
    assert break_even(tau, 100.0, 10.0, early, 40)["candidates"] == candidates


def test_rounds_of_halving_end_with_few_candidates_and_all_updates() -> None:
    rounds = [(r.candidates, r.updates) for r in halving_rounds(24, 300)]
    assert rounds == [(24, 33), (8, 100), (3, 300)]
    assert [(r.candidates, r.updates) for r in halving_rounds(24, 4)] == [(24, 4)]
    assert [(r.candidates, r.updates) for r in halving_rounds(2, 30)] == [(2, 30)]


def test_halving_picks_a_network_that_learns_and_the_page_names_it(tmp_path: Path) -> None:
    found = run(tmp_path, candidates=("mlp-w1", "mlp-w64", "linear", "mlp-w2", "mlp-w3"), updates=60)
    assert found["best"] in ("mlp-w64", "linear")
    first, last = found["rows"][0]["rounds"][0], found["rows"][0]["rounds"][-1]
    assert (first["candidates"], last["updates"]) == (5, 60)
    assert found["rows"][0]["operations"] > 0
    assert found["best"] in (tmp_path / "search.html").read_text()
    assert json.loads((tmp_path / "search.json").read_text())["best"] == found["best"]


def test_nothing_is_chosen_on_the_test_part(tmp_path: Path) -> None:
    usual, other = run(tmp_path / "a"), run(tmp_path / "b", splits(shuffled=True))
    assert [r["scores"] for r in usual["rows"]] == [r["scores"] for r in other["rows"]]


def test_a_second_run_reads_every_training_and_other_settings_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Made(method="dm", ipc=2, steps=2, network="mlp-w8", soft=True, teacher_steps=5)
    first = run(tmp_path, proxy=proxy)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("potstill.uses.search.cells.train_candidate", fail)
    monkeypatch.setattr("potstill.uses.search.proxy.run", fail)
    assert run(tmp_path, proxy=proxy) == first
    with pytest.raises(PotstillError, match="was measured with other settings or data; choose another folder"):
        run(tmp_path, proxy=proxy, batch=8)


def test_baselines_cost_what_the_proxy_costs_with_its_making(tmp_path: Path) -> None:
    proxy = Made(method="dm", ipc=2, steps=60, network="mlp-w8")  # long beside the search, also on a busy machine
    found = run(tmp_path, proxy=proxy, train_all=True, full_updates=40)
    main, early = found["rows"][0], row(found, "early stopping, equal compute")
    same = row(found, "early stopping, same updates")
    assert main["making"]["seconds"] > 0
    one = same["operations"] / same["updates"]
    assert early["operations"] == pytest.approx(main["operations"], abs=one)
    assert early["updates"] > same["updates"] == main["updates"] == 20
    assert row(found, "random:50, equal compute")["updates"] == early["updates"]
    assert main["operations"] == pytest.approx(main["making"]["operations"] + one * 20 * 8 / 16)  # batches of 8
    assert found["truth"] is not None
    assert found["full"]["accuracy"] == found["truth"][NETWORKS.index(found["best"])]
    assert all(r["regret"] >= 0 for r in found["rows"])
    assert "candidates" in found["break_even"]
    assert any("short runs favour shallow and narrow" in text.lower() for text in found["warnings"])


def test_a_file_is_charged_for_what_it_says_that_it_took(tmp_path: Path) -> None:
    small = small_set()
    small.save(tmp_path / "small.safetensors")
    found = run(tmp_path / "out", proxy=str(tmp_path / "small.safetensors"))
    assert found["rows"][0]["making"]["seconds"] == pytest.approx(small.metadata["cost"]["seconds"], abs=1e-3)
    assert any("made of the samples that decide" in text for text in found["warnings"])


def test_operations_rank_by_size_and_cost_nothing(tmp_path: Path) -> None:
    found = run(tmp_path, proxy="operations")
    assert found["best"] == "mlp-w32"
    assert found["rows"][0]["operations"] == 0
    assert row(found, "early stopping, equal compute")["updates"] == 1


def test_the_norm_of_the_gradient_is_a_ranking(tmp_path: Path) -> None:
    found = run(tmp_path, proxy="grad-norm")
    scores = found["rows"][0]["scores"]
    assert len(set(scores)) == len(NETWORKS)
    assert min(scores) > 0


def test_real_samples_in_few_bits_are_those_of_their_file() -> None:
    train = pictures()
    exact, coded = (RealSet(per_class=5, codec=codec).make(train, 0) for codec in ("exact", "uint2"))
    assert exact.rows.x.shape == coded.rows.x.shape == (20, 1, 8, 8)
    assert torch.equal(exact.rows.y, coded.rows.y)
    assert len(coded.rows.x.unique()) <= 4 < len(exact.rows.x.unique())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": ("linear",)}, "needs two candidates or more, but 1 of 1 fit; give more"),
        ({"candidates": ("linear", "convnet-d9")}, "needs two candidates or more, but 1 of 2 fit; network convnet"),
        ({"candidates": product(["linear"], lr=(1e-12, 2e-12))}, "the ranking by successive halving is constant"),
        ({"truth": {"linear": 0.5}}, "truth: has no accuracy of candidate 'mlp-w2'; add it"),
        ({"truth": dict.fromkeys(NETWORKS, 0.5)}, "truth: all 4 candidates have the same accuracy"),
        ({"updates": 0}, "updates must be a whole number of at least 1, not 0"),
        ({"share": 1.0}, "validation and share must be between 0 and 1"),
        (
            {"data": Splits(train=pictures(), test=None), "train_best": True},
            "full training is measured on a test split",
        ),
        ({"data": Splits(train=pictures(classes=1), test=None)}, "the samples that decide must be of two classes"),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PotstillError, match=message) as error:
        run(tmp_path, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_the_truth_is_read_from_a_file(tmp_path: Path, suffix: str) -> None:
    truth = {name: 0.5 + 0.1 * n for n, name in enumerate(NETWORKS)}
    path = tmp_path / f"truth.{suffix}"
    lines = "".join(f"{name},{value}\n" for name, value in truth.items())
    path.write_text(json.dumps(truth) if suffix == "json" else lines)
    found = run(tmp_path / "out", truth=path)
    assert found["truth"] == pytest.approx(list(truth.values()))
    assert found["rows"][0]["regret"] == pytest.approx(0.8 - truth[found["best"]])
    path.write_text("{")
    with pytest.raises(PotstillError, match=r"truth\.\w+: "):
        run(tmp_path / "out", truth=path)


def test_an_optuna_study_trains_on_the_set_and_finalists_on_real_data() -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def suggest(trial: Any) -> Candidate:
        return Candidate(network="mlp-w16", lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True))

    objective = optuna_objective(splits(), small_set(), suggest, updates=15, batch=16, device="cpu")
    study = optuna.create_study(direction=objective.direction, sampler=optuna.samplers.RandomSampler(seed=0))
    with pytest.raises(PotstillError, match="has no finished trial of this objective"):
        objective.finalists(study)
    study.optimize(objective, n_trials=4)
    found = objective.finalists(study, count=2, updates=30)
    assert len(found) == 2
    assert found[0].real >= found[1].real
    assert {one.small for one in found} == set(sorted((t.value for t in study.trials), reverse=True)[:2])


def test_a_trainable_of_ray_reports_the_accuracy_on_held_out_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[dict[str, float]] = []

    class Tune:
        report = staticmethod(reports.append)

    monkeypatch.setattr(studies, "import_optional", lambda name, *_: Tune if name == "ray.tune" else None)
    trainable = ray_trainable(
        splits(), small_set(), lambda config: Candidate(network="mlp-w16", lr=config["lr"]), updates=15, device="cpu"
    )
    trainable({"lr": 0.01})
    assert [0 <= report["accuracy"] <= 1 for report in reports] == [True]


def test_estimators_of_a_table_are_searched_by_halving_and_beside_a_set() -> None:
    tree, grid = DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 4, 8], "min_samples_leaf": [1, 20]}
    found = search_estimators("digits", tree, grid, train_all=True)
    assert found["best"]["max_depth"] == 8
    assert found["rows"][0]["regret"] < 0.1
    small = potstill.distill("digits", "dm", ipc=10, steps=2, network="mlp-w8", progress=None, device="cpu")
    rows = search_estimators("digits", tree, grid, small=small)["rows"]
    assert [r["name"] for r in rows] == ["set", "random, as many", "random, equal seconds"]
    assert rows[0]["samples"] == 100 <= rows[2]["samples"]
    assert rows[0]["seconds"] > rows[0]["making"] > 0
    with pytest.raises(PotstillError, match="needs two candidates or more, but the grid has 1"):
        search_estimators("digits", tree, {"max_depth": [1]})
    with pytest.raises(PotstillError, match="the ranking by successive halving is constant"):
        search_estimators("digits", tree, {"max_depth": [30, 31]})


def test_the_command_prints_json_and_refuses_numbers_that_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["use", "search", "digits", "--networks", "mlp-w2,mlp-w32", "--updates", "20", "--executor", "serial"]
    assert main([*words, "--out", str(tmp_path / "out"), "--lr", "0.001,0.01", "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["candidates"]) == 4
    assert result["best"].startswith("mlp-w32")
    assert main([*words, "--out", str(tmp_path / "out"), "--lr", "fast", "--quiet"]) == 2
    assert "--lr needs numbers with commas between them, not 'fast'" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_find_the_same(tmp_path: Path) -> None:
    serial = run(tmp_path / "a")
    found = run(tmp_path / "b", executor="processes:workers=2")
    assert [r["scores"] for r in serial["rows"]] == [r["scores"] for r in found["rows"]]
