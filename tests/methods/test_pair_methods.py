"""VL-Distill and LoRS: the objective against a loop written by hand, and what is learned and stored beside pairs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

import potstill
from potstill.core import Network, NetworkFactory, NetworkWeights, Problem, Splits
from potstill.errors import PotstillError
from potstill.functional.features import joint_rows
from potstill.functional.param_groups import init_params
from potstill.functional.train import copy_parameters
from potstill.methods.engine import FixedNetworks, MatchingState
from potstill.methods.engine.joint_pairs import PrototypeInit
from potstill.methods.selection.prototypes import Prototypes
from potstill.methods.trajectory._objective import STUDENT_LR, Block, TrajectoryDistance, tower_parameters
from potstill.methods.trajectory._parts import LastStep, RelativeDistance, StartEpochs
from potstill.methods.trajectory.lors import LoRS, SimilarityRows
from potstill.methods.trajectory.vl_distill import VLDistill
from potstill.nn import factory
from potstill.rng import generator
from potstill.tasks.similarity import low_rank_similarity, split_similarity
from potstill.testing import check_method, toy_problem
from potstill.testing.toy import pairs_source

STATE = MatchingState(params=init_params({}, {}))
SMALL: dict[str, Any] = {
    "student_steps": 3, "expert_epochs": 1, "max_start_epoch": 2, "train_epochs": 3, "num_experts": 1, "iterations": 2,
    "lr": 1.0, "lr_lr": 1e-3, "lr_student": 0.1, "batch": 0, "expert_batch": 16,
}  # fmt: skip
OF_SIMILARITY: dict[str, Any] = {**SMALL, "rank": 2, "alpha": 3.0, "lr_labels": 1.0}


@dataclass(frozen=True)
class Line:
    """An expert that goes along a line."""

    make: NetworkFactory
    seed: int = 3
    epochs: int = 4

    def at(self, epoch: int) -> dict[str, Tensor]:
        rng = generator(self.seed, "line")
        first = copy_parameters(self.make(self.seed))
        return {n: p + epoch * 0.05 * torch.randn(p.shape, generator=rng) for n, p in first.items()}

    def trained(self, epoch: int) -> NetworkWeights:
        return NetworkWeights(seed=self.seed, parameters=self.at(epoch), buffers={}, epoch=epoch)


def problem_of(vectors: bool = True) -> Problem:
    problem = toy_problem(ipc=6, source=pairs_source(vectors=vectors))
    return replace(problem, assets={"experts": (Line(problem.network),)})


def objective(**changes: Any) -> TrajectoryDistance:
    return TrajectoryDistance(**{
        "student_steps": 3, "expert_epochs": 2, "start_epochs": StartEpochs(low=0, initial_high=2, high=2),
        "distance": RelativeDistance(), "stop_rule": LastStep(), "batch": 4, "per_tower": True, **changes,
    })  # fmt: skip


def doubled(problem: Problem, of: TrajectoryDistance, rank: int) -> tuple[Block, dict[str, Tensor]]:
    """A block and what it looks at, in float64."""
    _, block = of.prepare(problem, FixedNetworks(), STATE, generator(1))
    wide = {n: {m: t.double() for m, t in getattr(block, n).items()} for n in ("start", "target")}
    rng = generator(2)
    seen = {
        "inputs/image": torch.randn(6, 1, 8, 8, generator=rng, dtype=torch.float64),
        "inputs/text": torch.randn(6, 4, generator=rng, dtype=torch.float64),
        STUDENT_LR: torch.tensor([0.05, 0.2], dtype=torch.float64),
    }
    if rank:
        rows = torch.cat([torch.ones(6, 1), 0.3 * torch.randn(6, 2 * rank, generator=rng)], 1)
        seen["labels"] = rows.double()
    else:
        seen["labels/targets"] = torch.arange(6)
    return replace(block, **wide), seen  # type: ignore[arg-type]


def student_loss_by_hand(out: Tensor, rows: Tensor | None, alpha: float, rank: int) -> Tensor:
    """The losses as the papers write them, for pairs that differ."""
    a, b = (F.normalize(t, dim=1) for t in out.chunk(2, 1))
    logits = a @ b.T / 0.07
    if rows is None:
        right = torch.arange(len(logits))
        return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    s = torch.diag(rows[:, 0]) + rows[:, 1 : 1 + rank] @ rows[:, 1 + rank :].T * alpha / rank
    p = logits.sigmoid()
    each = -s * (p + 1e-6).log() - (1 - s) * (1 - p + 1e-6).log()
    sides = [each[mask].sum() / (mask.sum().double() + 1e-6) for mask in (s > 0.5, s <= 0.5)]
    return (sides[0] + sides[1]) / 2


def by_hand(block: Block, seen: Mapping[str, Tensor], alpha: float, rank: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The whole unroll in one graph: both encoders with their own rate, and their own distance."""
    moved = {n: t.clone().requires_grad_() for n, t in seen.items() if t.is_floating_point()}
    text = {n for n in block.start if n.startswith(("vectors.", "classifier.second."))}
    theta = {n: p.clone().requires_grad_() for n, p in block.start.items()}
    for rows in block.rows:
        x = {"image": moved["inputs/image"][rows], "text": moved["inputs/text"][rows]}
        similarity = moved["labels"][rows] if rank else None
        loss = student_loss_by_hand(functional_call(block.net, theta, (x,)), similarity, alpha, rank)
        grads = dict(zip(theta, torch.autograd.grad(loss, tuple(theta.values()), create_graph=True), strict=True))
        theta = {n: p - moved[STUDENT_LR][int(n in text)] * grads[n] for n, p in theta.items()}
    total = torch.zeros((), dtype=torch.float64)
    for names in (set(theta) - text, text):
        left = sum((theta[n] - block.target[n]).square().sum() for n in names)
        total = total + left / sum((block.start[n] - block.target[n]).square().sum() for n in names)
    return total.detach(), dict(zip(moved, torch.autograd.grad(total, tuple(moved.values())), strict=True))


@pytest.mark.parametrize("mode", ["replay", "full"])
@pytest.mark.parametrize("rank", [0, 2])
def test_the_objective_is_the_loop_written_by_hand(mode: Any, rank: int) -> None:
    problem, alpha = problem_of(), 3.0
    criterion = None
    if rank:
        rows = SimilarityRows(rank=rank, alpha=alpha)
        criterion = lambda output, y: rows.loss(problem.task, output, y)  # noqa: E731
    of = objective(mode=mode, criterion=criterion)
    block, seen = doubled(problem, of, rank)
    loss, slopes = of.loss_and_grads(problem, STATE, block, seen)
    wanted, by = by_hand(block, seen, alpha, rank)
    assert loss == pytest.approx(float(wanted), rel=1e-12)
    assert set(slopes) == set(by)
    for name, slope in slopes.items():
        torch.testing.assert_close(slope, by[name], rtol=1e-8, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences() -> None:
    problem, rows = problem_of(), SimilarityRows(rank=2, alpha=1.0)
    of = objective(criterion=lambda output, y: rows.loss(problem.task, output, y))
    block, seen = doubled(problem, of, 2)
    _, slopes = of.loss_and_grads(problem, STATE, block, seen)
    rng = generator(7)
    for name, value in seen.items():
        way = torch.randn(value.shape, generator=rng, dtype=torch.float64)
        ahead, behind = (
            of.loss_and_grads(problem, STATE, block, {**seen, name: value + s * 1e-6 * way})[0] for s in (1, -1)
        )
        assert (ahead - behind) / 2e-6 == pytest.approx(float((slopes[name] * way).sum()), rel=1e-4, abs=1e-9)


def test_the_approximate_gradient_is_the_released_formula() -> None:
    """Of each encoder 2 (β (θ* − θ_0) + β² Σ g) · g_i / ‖θ_0 − θ*‖², in which weights are constants."""
    problem, rank = problem_of(), 2
    rows = SimilarityRows(rank=rank, alpha=3.0)
    of = objective(mode="tesla", criterion=lambda output, y: rows.loss(problem.task, output, y))
    block, seen = doubled(problem, of, rank)
    _, slopes = of.loss_and_grads(problem, STATE, block, seen)
    moved = {n: t.clone().requires_grad_() for n, t in seen.items()}
    towers = tower_parameters(block.net)
    rate = dict(zip(towers, seen[STUDENT_LR], strict=True))
    thetas, grads = [dict(block.start)], list[dict[str, Tensor]]()

    def gradients(i: int, theta: Mapping[str, Tensor], graph: bool) -> dict[str, Tensor]:
        at = block.rows[i]
        free = {n: t.detach().requires_grad_() for n, t in theta.items()}
        x = {"image": moved["inputs/image"][at], "text": moved["inputs/text"][at]}
        loss = student_loss_by_hand(functional_call(block.net, free, (x,)), moved["labels"][at], 3.0, rank)
        found = torch.autograd.grad(loss, tuple(free.values()), create_graph=graph)
        return dict(zip(free, found, strict=True))

    for i in range(3):
        grads.append({n: g.detach() for n, g in gradients(i, thetas[-1], False).items()})
        thetas.append({n: t - rate[next(w for w in towers if n in w)] * grads[-1][n] for n, t in thetas[-1].items()})
    total = torch.zeros((), dtype=torch.float64)
    for i in range(3):
        g = gradients(i, thetas[i], True)
        for tower in towers:
            way = sum((block.start[n] - block.target[n]).square().sum() for n in tower)
            for n in tower:
                ahead = rate[tower] * (block.target[n] - block.start[n])
                ahead = ahead + rate[tower] ** 2 * sum(one[n] for one in grads)
                total = total + 2 * (ahead.detach() * g[n]).sum() / way
    names = ("inputs/image", "inputs/text", "labels")
    for name, slope in zip(names, torch.autograd.grad(total, [moved[n] for n in names]), strict=True):
        torch.testing.assert_close(slopes[name], slope, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("method", [VLDistill(**SMALL), LoRS(**OF_SIMILARITY)])
@pytest.mark.parametrize("vectors", [True, False])
def test_methods_of_pairs_keep_the_contract(method: Any, vectors: bool) -> None:
    check_method(method, source=pairs_source(vectors=vectors), steps=2)


def test_both_views_and_both_rates_move() -> None:
    source = pairs_source(vectors=True)
    small = potstill.distill(source, VLDistill(**{**SMALL, "lr": 5.0}), items=6, codec="float32", progress=None)
    rates = small.learned["student/lr/towers"]
    assert rates.shape == (2,)
    assert float(rates[0]) == small.metadata["training"]["learned_lr"]
    assert rates[0] != rates[1]
    texts = source.raw(torch.arange(len(source)))["text"]
    assert float(torch.cdist(small.inputs["text"], texts).min()) > 0  # none is a real one any more
    assert small.labels.dtype == torch.int64


def test_words_stay_those_of_real_texts_and_pictures_move() -> None:
    source = pairs_source()
    small = potstill.distill(source, VLDistill(**{**SMALL, "lr": 5.0}), items=6, codec="float32", progress=None)
    assert small.inputs["text/values"].dtype == torch.int64
    assert small.learned["student/lr/towers"].shape == (2,)


def test_a_similarity_is_learned_stored_read_and_trained_on(tmp_path: Path) -> None:
    source = pairs_source(vectors=True)
    splits = Splits(train=source, test=pairs_source(20, vectors=True))
    small = potstill.distill(splits, LoRS(**OF_SIMILARITY), items=6, progress=None)
    small.save(tmp_path / "pairs.safetensors")
    again = potstill.load(tmp_path / "pairs.safetensors")
    assert torch.equal(again.labels, small.labels)
    assert small.labels.shape == (6, 5)
    assert small.metadata["codec"]["tensors"]["labels"]["bits"] == 8  # as many as soft labels have
    assert small.metadata["bytes"]["labels"] < 6 * 5 * 4
    assert not torch.equal(small.labels[:, 0], torch.ones(6))  # the diagonal is learned, too
    assert float(small.labels[:, 3:].abs().max()) > 0  # and the right factor, which began as 0
    card = potstill.evaluate(again, splits, seeds=2, steps=20, baselines=False, robust_scores=False, progress=None)
    assert 0 < card.to_dict()["score"]["mean"] <= 1
    assert set(card.to_dict()["metrics"]) == {f"{way}@{k}" for way in ("ir", "tr") for k in (1, 5, 10)}


def test_sets_with_a_similarity_join_and_no_others() -> None:
    splits = Splits(train=pairs_source(vectors=True), test=None)
    parts = [
        potstill.distill(splits, LoRS(**OF_SIMILARITY), items=n, seed=n, codec="float32", progress=None) for n in (4, 6)
    ]
    both = potstill.concat(parts)
    assert both.labels.shape == (10, 1 + 2 * 4)
    whole = low_rank_similarity(*split_similarity(both.labels))
    for at, part in ((slice(0, 4), parts[0]), (slice(4, 10), parts[1])):
        torch.testing.assert_close(whole[at, at], low_rank_similarity(*split_similarity(part.labels)))
    assert float(whole[:4, 4:].abs().max()) == 0
    real = potstill.distill(splits, "random", items=4, codec="float32", progress=None)
    with pytest.raises(PotstillError, match="pairs with a learned similarity are joined with such pairs alone"):
        potstill.concat([parts[0], real])


def test_an_untouched_similarity_is_the_identity() -> None:
    rows = SimilarityRows(rank=3, alpha=2.0)
    first = rows.initial(torch.arange(4), generator(0))
    exported = rows.export(first)
    diagonal, left, right = exported[:, 0], exported[:, 1:4], exported[:, 4:]
    assert torch.equal(torch.diag(diagonal) + left @ right.T, torch.eye(4))
    moved = first.clone()
    moved[:, 4:] = 0.5
    torch.testing.assert_close(rows.export(moved)[:, 4:], torch.full((4, 3), 0.5 * 2 / 3))


def test_towers_are_all_parameters_once() -> None:
    source = pairs_source(vectors=True)
    net = factory("towers-w4", source.input, 16)(0)
    picture, text = tower_parameters(net)
    assert set(picture) | set(text) == {n for n, _ in net.named_parameters()}
    assert {n.split(".")[0] for n in text} == {"vectors", "classifier"}
    with torch.no_grad():  # a change of one tower leaves the other's embedding
        x = source.fetch(torch.arange(4)).x
        before = net(x)
        for n, p in net.named_parameters():
            if n in text:
                p.add_(0.1)
        after = net(x)
    assert torch.equal(before[:, :8], after[:, :8])
    assert not torch.equal(before[:, 8:], after[:, 8:])


def test_towers_that_leave_a_parameter_out_are_refused() -> None:
    class Half(Network):
        towers = (("first.weight",), ("second.weight",))

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2)

        def embed(self, x: Any) -> Tensor:
            return self.first(x)

    with pytest.raises(PotstillError, match="3 parameters and towers of 1 and 1; correct towers"):
        tower_parameters(Half())


def test_methods_of_pairs_refuse_other_data_and_no_rank() -> None:
    with pytest.raises(PotstillError, match="vl-distill does retrieval, but"):
        potstill.distill("digits", "vl-distill", ipc=1, progress=None)
    with pytest.raises(PotstillError, match="rank must be at least 1, but it is 0"):
        potstill.distill(pairs_source(), LoRS(**{**OF_SIMILARITY, "rank": 0}), items=6, progress=None)


# --- prototypes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", [True, False])
def test_prototypes_keep_the_contract(vectors: bool) -> None:
    check_method(Prototypes(iterations=3), source=pairs_source(vectors=vectors))


def test_both_views_of_a_joint_row_weigh_equally() -> None:
    problem = problem_of()
    batch = problem.train.fetch(torch.arange(20)).x
    spec = problem.train.input
    rows = joint_rows([batch], spec)
    assert rows.shape == (20, 64 + 4)
    for view in (rows[:, :64], rows[:, 64:]):
        assert float(view.square().sum(1).mean()) == pytest.approx(1, abs=1e-5)
        assert float(view.mean(0).abs().max()) < 1e-5
    torch.testing.assert_close(joint_rows([batch], spec, 2.0)[:, 64:], 2 * rows[:, 64:])
    in_parts = [problem.train.fetch(torch.arange(a, a + 10)).x for a in (0, 10)]
    torch.testing.assert_close(joint_rows(in_parts, spec), rows)


def test_means_are_those_of_the_clusters_pairs() -> None:
    splits = Splits(train=pairs_source(vectors=True), test=None)
    small = potstill.distill(splits, Prototypes(keep="mean"), items=40, codec="float32", progress=None)
    x = splits.train.raw(torch.arange(40))
    real = torch.cat([x["image"].flatten(1), x["text"]], 1)
    made = torch.cat([small.inputs["image"].flatten(1), small.inputs["text"]], 1)
    assert (
        torch.cdist(made, real, compute_mode="donot_use_mm_for_euclid_dist").min(1).values.max() < 1e-4
    )  # a cluster for each pair: its mean is the pair
    one = potstill.distill(splits, Prototypes(keep="mean"), items=1, codec="float32", progress=None)
    torch.testing.assert_close(one.inputs["image"][0], x["image"].mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one.inputs["text"][0], x["text"].mean(0), atol=1e-5, rtol=1e-5)


def test_medoids_are_real_pairs_of_unlike_rows() -> None:
    source = pairs_source(vectors=True)
    small = potstill.distill(source, "prototypes", items=8, progress=None)
    assert small.is_selection
    texts = {text.split()[0] for text in small.captions}
    assert len(texts) >= 6  # of eight rows; the words tell them apart


def test_means_of_words_are_refused() -> None:
    with pytest.raises(PotstillError, match='text of toy-pairs is words; read it with `representation="latent"`'):
        potstill.distill(pairs_source(), Prototypes(keep="mean"), items=4, progress=None)


def test_sets_begin_at_prototypes_where_init_is_k_means() -> None:
    problem = problem_of()
    (chosen,) = PrototypeInit().select_samples(problem, (6,), generator(4))
    assert len(set(chosen.tolist())) == 6
    assert torch.equal(chosen, PrototypeInit().select_samples(problem, (6,), generator(4))[0])
    method = VLDistill(**{**SMALL, "lr": 0.0, "init_from": "k-means"})
    splits = Splits(train=pairs_source(vectors=True), test=None)
    small = potstill.distill(splits, method, items=6, codec="float32", progress=None)
    real = splits.train.raw(torch.arange(40))["image"].flatten(1)
    gaps = torch.cdist(small.inputs["image"].flatten(1), real, compute_mode="donot_use_mm_for_euclid_dist")
    assert float(gaps.min(1).values.max()) < 1e-4  # real pairs
    assert len({text.split()[0] for text in small.nearest_texts}) >= 5  # of eight rows
    with pytest.raises(PotstillError, match="pairs have no classes to learn labels of"):
        PrototypeInit().initial_logits(problem, problem.train.fetch(torch.arange(2)).x)
