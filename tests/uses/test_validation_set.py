"""Learned validation sets: spaces, ranking of unseen hyperparameters, resuming, files, the proxy, and refusals."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from potstill.cli.main import main
from potstill.core import InputSpec, Splits
from potstill.data import TensorSource
from potstill.dataset_file import load
from potstill.errors import NonFiniteError, PotstillError
from potstill.functional.hyper_gradients import ConjugateGradients
from potstill.nn import factory
from potstill.uses.search import Calibrated, parse_proxy, product, search
from potstill.uses.search.training import Rows
from potstill.uses.search.validation_set import (
    Choice,
    LogRange,
    Plan,
    Space,
    calibrate,
    learn_validation_rows,
    linear_problem,
    losses,
    minimize,
    network_problem,
)

SPACE = Space((LogRange(name="decay", low=0.01, high=1.0, count=2), Choice(name="network", options=("a", "b", "c"))))
QUICK = Plan(points=4, steps=5, solver=ConjugateGradients(steps=10, damping=1e-2))


def draw(n: int, seed: int, d: int = 8, classes: int = 3) -> Rows:
    """Return samples whose class shifts one feature of each pair; the first features are the loudest."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    x = torch.randn(n, d, generator=rng, dtype=torch.float64) * torch.linspace(2, 0.5, d, dtype=torch.float64)
    x[torch.arange(n), y] += 1.0
    return Rows(x=x, y=y)


def ridge(**options: Any) -> Any:
    problem = linear_problem(torch.arange(8) // 2, 3, (1e-3, 3.0))
    small, train, held_out, initial = draw(12, 1), draw(200, 2), draw(150, 3), draw(9, 4)
    plan = Plan(points=12, steps=options.pop("steps", 150))
    learned = learn_validation_rows(problem, small, train, held_out, initial, plan, seed=0, **options)
    return problem, small, train, held_out, initial, learned


def pictures(per_class: int = 30, seed: int = 0) -> TensorSource:
    """Return pictures of 4 × 4 whose class is the row that is bright."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(3).repeat(per_class)
    x = torch.randint(0, 150, (len(y), 1, 4, 4), generator=rng, dtype=torch.uint8)
    x[torch.arange(len(y)), 0, y] += 50
    return TensorSource.make(x, y.tolist(), classes=["0", "1", "2"], name="rows")


DATA = Splits(train=pictures(), test=pictures(seed=1))


def test_a_space_encodes_what_it_decodes() -> None:
    at = SPACE.encode({"decay": [0.1, 0.5], "network": "b"})
    values = SPACE.decode(at)
    assert values["decay"].tolist() == pytest.approx([0.1, 0.5])
    assert int(values["network"].argmax()) == 1
    assert float(values["network"].max()) > 0.99
    assert SPACE.decode(SPACE.centre)["decay"].tolist() == pytest.approx([0.1, 0.1])
    assert SPACE.decode(SPACE.centre)["network"].tolist() == pytest.approx([1 / 3] * 3)
    assert (SPACE.size, SPACE.directions) == (5, 4)


def test_points_are_drawn_from_the_box_and_beyond_it_on_demand() -> None:
    low, high = SPACE.box
    inside = SPACE.sample(200, torch.Generator().manual_seed(0))
    assert bool(((inside >= low) & (inside <= high)).all())
    shifted = SPACE.sample(200, torch.Generator().manual_seed(0), shift=1.0)
    assert torch.allclose(shifted, inside + (high - low))
    wide = SPACE.sample(200, torch.Generator().manual_seed(0), scale=2.0)
    assert bool((wide < low).any())
    assert bool((wide > high).any())


def test_unseen_settings_rank_as_on_the_real_data() -> None:
    problem, small, train, held_out, initial, learned = ridge()
    assert learned.distances[-1] < 0.05 * learned.distances[0]
    unseen = problem.space.sample(40, torch.Generator().manual_seed(9))
    truth = losses(problem, train, [held_out], unseen)[:, 0]
    scores = losses(problem, small, [learned.rows, initial, held_out], unseen)
    calibrated, random, whole = (float(spearmanr(scores[:, n], truth)[0]) for n in range(3))
    assert calibrated > 0.8
    assert calibrated > random
    assert calibrated > whole
    assert torch.equal(learned.rows.y, initial.y)


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    expected = ridge()[-1]
    for stop in (("hyper-gradients of the real data", 7), ("validation set", 120)):
        path, calls = tmp_path / f"{stop[1]}.checkpoint", list[int]()

        def interrupt(name: str, done: int, total: int, stop: Any = stop) -> None:
            if (name, done) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ridge(checkpoint=path, progress=interrupt)
        assert path.exists()
        found = ridge(checkpoint=path, progress=lambda name, done, total, calls=calls: calls.append(done))[-1]
        assert torch.equal(found.rows.x, expected.rows.x)
        assert found.distances == expected.distances
        assert len(calls) < 12 + 150
        assert not path.exists()


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    def interrupt(name: str, done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ridge(checkpoint=tmp_path / "a", progress=interrupt)
    with pytest.raises(PotstillError, match="checkpoint of another configuration"):
        ridge(checkpoint=tmp_path / "a", steps=7)


def test_logistic_training_is_at_a_minimum_and_ridge_is_the_closed_form() -> None:
    rows = draw(60, 5)
    for loss in ("ridge", "logistic"):
        problem = linear_problem(torch.arange(8) // 2, 3, (1e-2, 1.0), loss)  # type: ignore[arg-type]
        values = problem.space.decode(problem.space.centre)
        theta = minimize(problem, values, rows, problem.start).requires_grad_()
        (slope,) = torch.autograd.grad(problem.train_loss(theta, values, rows), theta)
        assert float(slope.norm()) < 1e-7


def test_a_mixture_with_one_option_is_that_network() -> None:
    spec = InputSpec(kind="image", shape=(1, 4, 4))
    built = {name: factory(name, spec, 3)(n).double() for n, name in enumerate(("linear", "mlp-w4"))}
    views = {"same": lambda x: x, "turned": lambda x: x.flip(-1)}
    problem = network_problem(built, decay=(1e-3, 1.0), views=views)
    x, y = torch.rand(5, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    one_hot = torch.tensor([0.0, 1.0], dtype=torch.float64)
    values = {"decay": torch.tensor([0.2], dtype=torch.float64), "network": one_hot, "view": one_hot}
    expected = nn.functional.cross_entropy(built["mlp-w4"](x), y)
    rows = Rows(x=x, y=y)
    assert float(problem.validation_loss(problem.start, values, rows)) == pytest.approx(float(expected.detach()))
    turned = nn.functional.cross_entropy(built["mlp-w4"](x.flip(-1)), y) + 0.1 * problem.start.square().sum()
    assert float(problem.train_loss(problem.start, values, rows)) == pytest.approx(float(turned.detach()))


def test_a_pair_is_two_files_that_rank_settings(tmp_path: Path) -> None:
    pair = calibrate(DATA, ["linear", "mlp-w4"], decay=(1e-3, 1.0), ipc=3, plan=QUICK)
    assert (len(pair.train), len(pair.validation)) == (9, 6)
    assert pair.problem.space.parts[0].count == 4  # the layers of both networks
    settings = [{"decay": d, "network": n} for d in (1e-3, 1.0) for n in ("linear", "mlp-w4")]
    found = pair.losses(settings)
    assert len(set(found)) == 4
    again = calibrate(DATA, ["linear", "mlp-w4"], decay=(1e-3, 1.0), ipc=3, plan=QUICK)
    assert again.losses(settings) == found
    pair.validation.save(tmp_path / "validation.safetensors")
    read = load(tmp_path / "validation.safetensors")
    assert torch.equal(read.inputs, pair.validation.inputs)
    assert read.metadata["config"]["part"] == "validation"
    with pytest.raises(PotstillError, match="values are needed of decay, network, but lr is not in both"):
        pair.losses([{"decay": 0.1, "network": "linear", "lr": 0.1}])


def test_the_test_part_is_not_read() -> None:
    alone = calibrate(Splits(train=DATA.train, test=None), ["mlp-w4"], ipc=3, plan=QUICK)
    both = calibrate(DATA, ["mlp-w4"], ipc=3, plan=QUICK)
    assert torch.equal(alone.validation.inputs, both.validation.inputs)


def test_the_proxy_of_a_search_is_resumed_and_charged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = product(["linear", "mlp-w2", "mlp-w4"])
    given: dict[str, Any] = {
        "proxy": Calibrated(ipc=3, points=2, steps=2),
        "updates": 10,
        "batch": 8,
        "executor": "serial",
    }
    first = search(DATA, candidates, out=tmp_path / "out", **given)
    row = first["rows"][0]
    assert row["kind"] == "Calibrated"
    assert row["making"]["seconds"] > 0
    assert max(row["scores"]) < 0
    assert row["operations"] > row["making"]["operations"] > 0
    assert first["rows"][1]["name"] == "early stopping, equal compute"
    assert first["rows"][1]["operations"] == pytest.approx(row["operations"], rel=0.1)

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("made again")

    monkeypatch.setattr("potstill.uses.search.validation_set.candidates.calibrate_sources", fail)
    assert search(DATA, candidates, out=tmp_path / "out", **given) == first


def test_the_proxy_is_named_hcdc() -> None:
    assert parse_proxy("hcdc", ipc=4, steps=7) == Calibrated(ipc=4, steps=7)
    with pytest.raises(PotstillError, match="leave soft labels out"):
        parse_proxy("hcdc", soft=True)


def normed() -> dict[str, Any]:
    """Return a network with running statistics."""
    return {"a": factory("convnet-d1-w2-batch-avg", InputSpec(kind="image", shape=(1, 4, 4)), 3)(0)}


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: LogRange(name="lr", low=0, high=1), "lr has 0 to 1 and 1"),
    (lambda: LogRange(name="lr", low=2, high=1), "lr has 2 to 1 and 1"),
    (lambda: Choice(name="n", options=("a",)), "a choice needs two different options or more, but n has 'a'"),
    (lambda: Choice(name="n", options=("a", "a")), "but n has 'a, a'"),
    (lambda: Space(()), "but has none"),
    (lambda: Space((LogRange(name="a", low=1, high=2),) * 2), "different names, but has a, a"),
    (lambda: SPACE.encode({"decay": 0.1}), "values are needed of decay, network, but network is not in both"),
    (lambda: SPACE.encode({"decay": [0.1], "network": "a"}), "decay must be 2 positive numbers, not [0.1]"),
    (lambda: SPACE.encode({"decay": -1.0, "network": "a"}), "decay must be 2 positive numbers, not -1.0"),
    (lambda: SPACE.encode({"decay": 0.1, "network": "d"}), "network must be one of a, b, c, not 'd'"),
    (lambda: Plan(points=0), "needs 1 point or more, 0 steps or more and a positive rate, not 0, 600 and 0.02"),
    (lambda: Plan(lr=-1), "not 40, 600 and -1"),
    (lambda: network_problem(normed(), decay=(0.1, 1.0)), "network a has running statistics"),
    (lambda: calibrate(DATA, ["linear"]), "of which 1 alone has but a sign; tune two numbers or more"),
    (lambda: calibrate(DATA, ["linear", "mlp-w4"], decay=0.1), "of which 1 alone has but a sign"),
    (lambda: calibrate(DATA, ["linear"], decay=0.1), "but has none"),
    (lambda: calibrate(DATA, ["mlp-w4"], plan=Plan(points=10**6)), "but at most 50,000,000 are allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[m[:50] for _, m in REFUSED])
def test_bad_input_is_refused_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(PotstillError, match=re.escape(message)) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_training_that_diverges_is_refused() -> None:
    problem = linear_problem(torch.arange(8), 3, (1e-2, 1.0), "logistic")
    rows = Rows(x=torch.full((6, 8), torch.inf, dtype=torch.float64), y=torch.arange(6) % 3)
    with pytest.raises(NonFiniteError, match="training at a sampled setting diverged"):
        minimize(problem, problem.space.decode(problem.space.centre), rows, problem.start)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--networks", "linear,mlp-w2,mlp-w4", "--lr", "0.01,0.1"], "candidates differ in lr"),
        (["--networks", "linear,mlp-w2,mlp-w4", "--weight-decay", "0,0.1"], "candidates differ in weight_decay"),
        (["--networks", "linear,mlp-w2"], "needs three networks or more, not 2"),
        (["--networks", "linear,mlp-w2,convnet-d1-w2-batch-avg"], "has running statistics"),
        (["--networks", "linear,mlp-w2,mlp-w4", "--soft-labels"], "leave soft labels out"),
    ],
)
def test_the_command_line_says_what_the_proxy_cannot_rank(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    line = [
        "use",
        "search",
        "digits",
        "--proxy",
        "hcdc",
        "--updates",
        "2",
        "--executor",
        "serial",
        "--out",
        str(tmp_path / "out"),
        *options,
    ]
    assert main([*line, "--quiet"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_the_command_line_ranks_networks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Calibrated(ipc=3, points=2, steps=2)  # the usual points make the baselines of equal compute long
    monkeypatch.setattr("potstill.uses.search.parse_proxy", lambda *_, **__: quick)
    pixels, y = pictures().inputs.flatten(1), pictures().labels
    lines = [",".join([*(f"p{n}" for n in range(16)), "row"])]
    lines += [",".join([*map(str, x.tolist()), f"row {c}"]) for x, c in zip(pixels, y.tolist(), strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    line = ["use", "search", str(tmp_path / "rows.csv"), "--label", "row", "--networks", "linear,mlp-w2,mlp-w4"]
    line += ["--proxy", "hcdc", "--ipc", "3", "--distill-steps", "2", "--updates", "5", "--executor", "serial"]
    assert main([*line, "--out", str(tmp_path / "out"), "--quiet"]) == 0
    result = json.loads((tmp_path / "out" / "search.json").read_text())
    assert result["settings"]["proxy"] == "hcdc"
    assert "hcdc" in capsys.readouterr().out
    assert result["rows"][0]["best"] in {"linear", "mlp-w2", "mlp-w4"}
