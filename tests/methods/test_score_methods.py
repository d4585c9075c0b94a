"""Methods that select by scores: the numbers of their records, balance, files of scores, and wrong labels."""

import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import potstill
from potstill.api.score import duplicates, score, scored_methods
from potstill.core import Problem, ScoringMethod, Selection, Splits
from potstill.core.registry import make_method, resolve
from potstill.data import TensorSource, load
from potstill.dataset_file.scores import read_scores
from potstill.errors import PotstillError, PotstillWarning
from potstill.functional.gradient_norms import gradient_norms
from potstill.functional.training_dynamics import aum, tdds
from potstill.methods.selection._record import get_record
from potstill.methods.selection.aum import AUM
from potstill.methods.selection.dyn_unc import DynUnc
from potstill.methods.selection.el2n import EL2N
from potstill.methods.selection.forgetting import Forgetting
from potstill.methods.selection.glister import GLISTER
from potstill.methods.selection.grand import GraNd
from potstill.methods.selection.tdds import TDDS
from potstill.pretraining.training_dynamics import Record, Run
from potstill.rng import generator
from potstill.testing import toy_problem, toy_source

QUICK: dict[str, Any] = {
    "record_epochs": 4, "runs": 2, "window": 3, "checkpoints": 2, "epoch": 2, "trajectory": 4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))


def quick(name: str, **changes: Any) -> Any:
    fields = {f.name for f in dataclasses.fields(resolve("methods", name))}
    window = {"window": 2} if name == "dyn-unc" else {}
    return make_method(name, {n: v for n, v in {**QUICK, **window, **changes}.items() if n in fields})[1]


def chosen(method: Any, problem: Problem, seed: int = 0) -> list[int]:
    rng = generator(seed)
    state = method.init(problem, rng)
    while not method.done(problem, state):
        state, _ = method.step(problem, state, rng)
    result = method.result(problem, state)
    assert isinstance(result, Selection)
    return result.index.tolist()


def unbalanced() -> Splits:
    source = toy_source("image")
    assert isinstance(source, TensorSource)
    kept = torch.tensor([i for i in range(48) if i % 12 < (12, 9, 6, 3)[i // 12]])
    return Splits(train=source.subset(kept), test=None)


def test_which_methods_score() -> None:
    wanted = {"least-confidence", "entropy", "margin", "forgetting", "el2n", "grand", "aum", "cartography", "dyn-unc"}
    assert wanted | {"tdds", "ccs", "irt", "glicko"} <= set(scored_methods())
    assert all(isinstance(quick(name), ScoringMethod) for name in scored_methods())
    assert not isinstance(quick("dm"), ScoringMethod)


@pytest.mark.parametrize("name", ["least-confidence", "entropy", "margin", "forgetting", "el2n", "dyn-unc", "tdds"])
def test_the_hardest_of_each_class_are_kept_first(name: str) -> None:
    method = quick(name)
    problem = toy_problem(method, ipc=5)
    hardness = method.hardness(method.columns(problem))
    found = chosen(method, problem)
    for c, index in enumerate(problem.class_indices):
        mine = [i for i in found if i in set(index.tolist())]
        assert len(mine) == 5
        rest = [i for i in index.tolist() if i not in mine]
        assert min(float(hardness[i]) for i in mine) >= max(float(hardness[i]) for i in rest), c


def test_aum_keeps_the_largest_areas_and_ccs_leaves_the_hardest_out() -> None:
    method = quick("aum")
    problem = toy_problem(method, ipc=3)
    area = aum(get_record(problem).series("margin").flatten(0, 1))
    for c, index in enumerate(problem.class_indices):
        best = index[area[index].argsort(descending=True)[:3]].tolist()
        assert set(chosen(method, problem)[3 * c : 3 * c + 3]) == set(best)
    ccs = quick("ccs", cut=0.5)
    area = aum(get_record(problem).series("probability_margin").flatten(0, 1))
    torch.testing.assert_close(ccs.columns(problem)["ccs"], area)
    left = set(chosen(ccs, toy_problem(ccs, ipc=3)))
    for index in problem.class_indices:
        assert not left & set(index[area[index].argsort()[:6]].tolist())


def test_grand_is_the_mean_over_runs_of_the_exact_norm() -> None:
    method = quick("grand")
    problem = toy_problem(method)
    every = problem.train.fetch(torch.arange(48))
    assert isinstance(every.x, torch.Tensor)
    assert every.y is not None
    norms = []
    for run in range(2):
        trained = get_record(problem).network(run, 2)
        net = problem.network(trained.seed).eval()
        net.load_state_dict({**trained.parameters, **trained.buffers})
        norms.append(gradient_norms(net, every.x, every.y))
    torch.testing.assert_close(method.columns(problem)["grand"], (norms[0] + norms[1]) / 2)
    assert not torch.allclose(quick("grand", gradients="last-layer").columns(problem)["grand"], norms[0])


def test_early_scores_train_early_epochs_only() -> None:
    for method in (EL2N(record_epochs=50, epoch=5), GraNd(record_epochs=50, epoch=5)):
        (spec,) = method.assets(toy_problem())
        assert (spec.recipe["until"], spec.recipe["epochs"]) == (5, 50)


def test_tdds_looks_at_the_first_30_of_200_epochs() -> None:
    (spec,) = TDDS().assets(toy_problem())
    assert (spec.recipe["until"], spec.recipe["epochs"]) == (30, 200)
    method = quick("tdds", record_epochs=8, trajectory=4)
    problem = toy_problem(method)
    moved = get_record(problem).series("movement")[:, 1:4]
    torch.testing.assert_close(method.columns(problem)["tdds"], torch.stack([tdds(m, 3, 0.9) for m in moved]).mean(0))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "tdds",
            {"record_epochs": 10},
            "epochs up to 30 are needed, but record_epochs is 10; raise it to at least 30",
        ),
        ("tdds", {"trajectory": 8}, "3 to 8 epochs.*but it has 10"),
        ("dyn-unc", {"record_epochs": 9}, "2 to 9 epochs.*but it has 10"),
        ("cartography", {"record_epochs": 1}, "needs at least 2, but record_epochs is 1; raise record_epochs"),
        ("forgetting", {"record_epochs": 1}, "needs at least 2, but record_epochs is 1; raise record_epochs"),
        ("el2n", {"record_epochs": 2}, "epochs up to 3 are needed, but record_epochs is 2; raise it to at least 3"),
        ("grand", {"epoch": 3}, "networks are stored after epochs 1, 2, 5, 10, 20, 30, not after 3"),
    ],
)
def test_what_does_not_fit_the_epochs_is_refused_before_any_training(
    name: str, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    data, some = unbalanced(), {"network": "convnet-d1-w4"}
    with pytest.raises(PotstillError, match=said):
        potstill.distill(data, name, ipc=1, **some, **options)
    with pytest.raises(PotstillError, match=said):
        score(data, ["aum", name], **some, **options)
    with pytest.raises(PotstillError, match=said):
        potstill.plan(data, name, ipc=1, **some, **options)
    assert not list((tmp_path / "cache").rglob("rows-*"))


def with_record(method: Any, probability: torch.Tensor) -> Problem:
    """A problem whose record says this of the labels, epoch by epoch."""
    rows = tuple({"probability": p, "correct": (p > 0.5).to(torch.uint8)} for p in probability)
    return dataclasses.replace(toy_problem(method), assets={"record": Record(runs=(Run(rows=rows, networks={}),))})


@pytest.mark.parametrize("name", ["cartography", "dyn-unc"])
def test_a_training_that_is_too_short_for_swings_is_said(name: str) -> None:
    method = make_method(name, {"record_epochs": 12} | ({"window": 5} if name == "dyn-unc" else {}))[1]
    reached = torch.linspace(0.1, 0.9, 240)
    rising = torch.linspace(0.1, 1, 12)[:, None] * reached
    with pytest.warns(PotstillWarning, match=r"after 12 recorded epochs .*rank correlation 1.00.*record more epochs"):
        method.columns(with_record(method, rising))
    # learned after a third of the epochs; then the least sure of them swing
    learned = torch.linspace(0.1, 1, 4)[:, None] * 0.9 * torch.ones(240)
    swinging = torch.cat([learned, 0.9 - (1 - reached) * torch.tensor([0.0, 0.9] * 4)[:, None]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.columns(with_record(method, swinging))
        make_method("cartography", {"region": "easy"})[1].columns(with_record(method, rising))


def test_windows_that_hold_most_of_the_record_are_said() -> None:
    few, enough = DynUnc(record_epochs=12, window=10), DynUnc(record_epochs=20, window=10)
    many = dataclasses.replace(toy_problem(), train=toy_source("image", per_class=60))
    with pytest.warns(PotstillWarning, match="only 12 are recorded.*record 20 or more"):
        few.assets(many)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        enough.assets(many)


@pytest.mark.parametrize("region", ["ambiguous", "easy", "hard"])
def test_regions_of_the_map(region: str) -> None:
    method = quick("cartography", region=region)
    problem = toy_problem(method, ipc=4)
    columns = method.columns(problem)
    value = {"ambiguous": columns["variability"], "easy": columns["confidence"], "hard": -columns["confidence"]}[region]
    for c, index in enumerate(problem.class_indices):
        best = index[value[index].argsort(descending=True)[:4]].tolist()
        assert set(chosen(method, problem)[4 * c : 4 * c + 4]) == set(best)


def test_balance() -> None:
    data = unbalanced()

    def sizes(pool: str, items: int, **more: str) -> list[int]:
        method = Forgetting(pool=pool, **some)  # type: ignore[arg-type]
        small = potstill.distill(data, method, items=items, network="convnet-d1-w4", **more)  # type: ignore[arg-type]
        assert bool((small.labels.diff() >= 0).all())
        return torch.bincount(small.labels, minlength=4).tolist()

    some: dict[str, Any] = {"record_epochs": 3}
    assert sizes("class", 12) == [5, 4, 2, 1]  # natural: the budget's default
    assert sizes("class", 12, balance="equal") == [3, 3, 3, 3]
    assert sizes("proportional", 10) == [4, 3, 2, 1]
    assert sum(sizes("global", 10)) == 10
    assert sizes("global", 30) == [12, 9, 6, 3]
    with pytest.raises(PotstillError, match="31 samples are requested, but the data have 30"):
        sizes("global", 31)


def test_global_takes_the_hardest_of_all() -> None:
    method = quick("entropy", pool="global")
    problem = toy_problem(method, ipc=3)
    hardness = method.columns(problem)["entropy"]
    assert set(chosen(method, problem)) == set(hardness.argsort(descending=True)[:12].tolist())


# --- files of scores -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POTSTILL_CACHE", str(folder / "cache"))
        score(unbalanced(), scored_methods(), folder / "scores.parquet", network="convnet-d1-w4", **QUICK)
    return folder / "scores.parquet"


def test_a_selection_from_the_file_is_the_selection_without_it(table: Path) -> None:
    data = unbalanced()
    for name in scored_methods():
        fields = {f.name for f in dataclasses.fields(resolve("methods", name))}
        options = {n: v for n, v in QUICK.items() if n in fields}
        made = potstill.distill(  # scores are made with published settings
            data, name, ipc=2, seed=3, network="convnet-d1-w4", preset="published", **options
        )
        read = potstill.distill(data, name, ipc=2, seed=3, scores=table, preset="published")
        assert read.index is not None
        assert made.index is not None
        assert torch.equal(read.index, made.index), name
        assert read.metadata["config"] == made.metadata["config"]
        assert read.metadata["network"] == made.metadata["network"]


def test_the_file_can_be_sorted_and_shows_what_a_person_needs(table: Path, tmp_path: Path) -> None:
    data = unbalanced()
    rows = pq.read_table(table)
    assert rows.column_names[:3] == ["index", "label", "class"]
    assert {"duplicate", "duplicate_of", "region", "forgetting", "aum", "irt_difficulty"} <= set(rows.column_names)
    assert rows["class"].to_pylist() == [data.train.classes[y] for y in data.train.labels.tolist()]
    assert set(rows["region"].to_pylist()) <= {"easy", "ambiguous", "hard"}
    again = tmp_path / "sorted.parquet"
    pq.write_table(rows.sort_by([("aum", "descending"), ("index", "ascending")]), again)
    a, b = (potstill.distill(data, "aum", ipc=2, scores=p) for p in (table, again))
    assert torch.equal(a.inputs, b.inputs)
    assert not np.array_equal(pq.read_table(again)["index"].to_numpy(), rows["index"].to_numpy())


def test_a_file_of_other_data_is_refused_and_both_are_named(table: Path) -> None:
    other = toy_source("image", per_class=7)
    with pytest.raises(PotstillError) as refused:
        potstill.distill(Splits(train=other, test=None), "aum", ipc=1, scores=table)
    said = str(refused.value)
    assert unbalanced().train.content_hash[:12] in said
    assert other.content_hash[:12] in said
    assert "\n" not in said


def test_what_does_not_fit_the_file_is_refused(table: Path, tmp_path: Path) -> None:
    data = unbalanced()

    def fails(match: str, method: Any = "aum", **options: Any) -> None:
        with pytest.raises(PotstillError, match=match):
            potstill.distill(data, method, ipc=1, scores=table, **options)

    fails("method dm does not select by scores", "dm")
    fails("made with network 'convnet-d1-w4', but 'mlp' is requested", network="mlp")
    fails("made with record_epochs 4, but 9 is requested", record_epochs=9)
    fails("made with record_epochs 4, but 30 is requested", AUM())
    fails("not whitened", zca="mtt")
    assert potstill.distill(data, "aum", ipc=1, scores=table, record_epochs=4, cut=0.5).metadata["config"]["cut"] == 0.5
    few = tmp_path / "few.parquet"
    rows = pq.read_table(table)
    score(data, ["aum"], few, network="convnet-d1-w4", record_epochs=2)
    with pytest.raises(PotstillError, match=r"are of aum, not of entropy.*potstill score --methods entropy"):
        potstill.distill(data, "entropy", ipc=1, scores=few)
    for broken, said in (
        (rows.slice(0, 20), "damaged or changed"),
        (rows.replace_schema_metadata({}), "not a file of scores.*metadata"),
        (rows.drop_columns(["aum"]), "not a file of scores.*aum"),
    ):
        pq.write_table(broken, few)
        with pytest.raises(PotstillError, match=said):
            read_scores(few)
    few.write_bytes(b"PAR1 no")
    with pytest.raises(PotstillError, match="not a parquet file that can be read"):
        read_scores(few)
    with pytest.raises(PotstillError, match="no such file; make it with potstill score"):
        read_scores(tmp_path / "none.parquet")


def test_what_cannot_be_scored_is_refused() -> None:
    data = unbalanced()
    with pytest.raises(PotstillError, match=r"method dm gives samples no numbers; those that do are .*forgetting"):
        score(data, ["dm"])
    with pytest.raises(PotstillError, match="unknown option 'windw'; did you mean window"):
        score(data, ["dyn-unc"], windw=3)
    with pytest.raises(PotstillError, match="at least one method is needed"):
        score(data, [])


def test_never_learned_stays_infinite_in_the_file(tmp_path: Path) -> None:
    source = toy_source("image")
    assert isinstance(source, TensorSource)
    wrong = source.labels.clone()
    wrong[:2] = 3
    data = Splits(train=dataclasses.replace(source, labels=wrong), test=None)
    path = tmp_path / "scores.parquet"
    made = score(data, ["forgetting"], path, network="convnet-d1-w4", record_epochs=4, lr=0.02)
    column = made.methods["forgetting"].columns["forgetting"]
    assert math.inf in column.tolist()
    assert torch.equal(read_scores(path).methods["forgetting"].columns["forgetting"], column)


def test_duplicates_point_to_the_first() -> None:
    source = toy_source("image")
    assert isinstance(source, TensorSource)
    twice = source.subset(torch.tensor([0, 1, 0, 2, 1, 0]))
    assert duplicates(twice).tolist() == [0, 1, 0, 3, 1, 0]


def test_files_of_pictures_are_named(tmp_path: Path) -> None:
    from PIL import Image

    for c in "ab":
        (tmp_path / "photos" / c).mkdir(parents=True)
        for n in range(6):
            picture = np.random.default_rng(n + ord(c)).integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / "photos" / c / f"{n}.png")
    data = load(tmp_path / "photos", test_fraction=0.34)
    made = score(data, ["aum"], network="convnet-d1-w4", record_epochs=1)
    assert len(made.names) == len(data.train) == 8
    for i, name in enumerate(made.names):
        with Image.open(tmp_path / "photos" / name) as picture:
            stored = torch.from_numpy(np.array(picture)).float() / 255
        assert torch.equal(data.train.raw(torch.tensor([i]))[0, 0], stored)


# --- what they are good for ------------------------------------------------------------------------------------------


def test_wrong_labels_are_found_and_left_out() -> None:
    source = load("digits").train
    rng = torch.Generator().manual_seed(0)
    some = torch.randperm(len(source), generator=rng)[:600]
    clean = source.subset(some)
    wrong = torch.randperm(600, generator=rng)[:60]
    labels = clean.labels.clone()
    labels[wrong] = (labels[wrong] + 1 + torch.randint(0, 9, (60,), generator=rng)) % 10
    data = Splits(train=dataclasses.replace(clean, labels=labels), test=None)
    options: dict[str, Any] = {"network": "convnet-d1-w16", "record_epochs": 12, "batch": 32}
    made = score(data, ["aum"], **options)
    lowest = made.methods["aum"].columns["aum"].argsort()[:60]
    assert len(set(lowest.tolist()) & set(wrong.tolist())) > 40  # 6 by chance
    shares = {}
    for keep in ("hardest", "easiest"):
        index = potstill.distill(data, "aum", ipc=10, keep=keep, scores=made).index
        assert index is not None
        shares[keep] = len(set(index.tolist()) & set(wrong.tolist())) / 100
    assert shares["easiest"] == 0
    assert shares["hardest"] > 0.3


# --- gradients -------------------------------------------------------------------------------------------------------


def test_glister_takes_from_outside_what_it_validates_on_and_fills_up() -> None:
    from potstill.pretraining import training_part

    method = GLISTER(record_epochs=2, holdout=0.25)
    problem = toy_problem(method, ipc=9)
    assert set(chosen(method, problem)) == set(training_part(problem.train, 0.25).tolist())
    assert sorted(chosen(method, toy_problem(method, ipc=12))) == list(range(48))


def test_a_plan_says_which_trainings_are_missing() -> None:
    data = unbalanced()
    options: dict[str, Any] = {"ipc": 1, "network": "convnet-d1-w4", "record_epochs": 3, "epoch": 1, "runs": 2}
    before = potstill.plan(data, "el2n", **options)
    assert [(n.name, n.count, n.cached) for n in before.networks] == [("record", 2, 0)]
    assert before.memory is not None
    potstill.distill(data, "el2n", **options)
    assert [n.cached for n in potstill.plan(data, "el2n", **options).networks] == [2]
    assert [n.cached for n in potstill.plan(data, "el2n", **{**options, "epoch": 2}).networks] == [0]
