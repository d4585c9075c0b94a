"""Class shards: the same set wherever and in whatever order they run, and whatever dies meanwhile."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import potstill
from potstill import load_data
from potstill.cli.main import main
from potstill.core import Batch, ClassShardable, Method, Network, Payload, Problem, Synthetic
from potstill.core.registry import make_method, resolve
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.execution import Processes, Serial
from potstill.methods.distribution import MatchingState
from potstill.methods.distribution.dm import DM
from potstill.parametrize.pixels import Pixels
from potstill.rng import generator
from potstill.runs.class_shards import shard_classes
from potstill.testing import ContractError, check_method, check_parametrization, toy_problem

SMALL: dict[str, Any] = {"network": "convnet-d1-w8", "codec": "float32", "progress": None, "ipc": 2, "steps": 6}


def made(**changes: Any) -> Distilled:
    return potstill.distill("digits", "dm", **{**SMALL, **changes})


def same(a: Distilled, b: Distilled) -> bool:
    return a.tensors.keys() == b.tensors.keys() and all(torch.equal(a.tensors[n], b.tensors[n]) for n in a.tensors)


@pytest.mark.parametrize(("classes", "shards"), [(7, 3), (10, 10), (5, 1), (7, 2)])
def test_every_class_is_in_one_group_and_groups_are_of_like_sizes(classes: int, shards: int) -> None:
    groups = shard_classes(classes, shards)
    assert [c for g in groups for c in g] == list(range(classes))
    assert len(groups) == shards
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


class Backwards:
    """Runs the last job first."""

    def map(self, fn: Callable[[Any], Any], jobs: Sequence[Any], /) -> Iterator[Any]:
        found = [next(Serial().map(fn, [job])) for job in reversed(jobs)]
        return iter(found[::-1])


def test_bits_do_not_depend_on_the_executor_the_workers_or_their_order(tmp_path: Path) -> None:
    here = made(class_shards=3, executor=Serial())
    with Processes(2) as two:
        there = made(class_shards=3, executor=two, checkpoint=tmp_path / "run")
    assert same(here, there)
    assert same(here, made(class_shards=3, executor=Backwards()))
    assert here.metadata["class_shards"] == 3
    assert here.metadata["outcome"]["message"] == "3 shards of classes: stopped after 6 steps, as asked"
    whole = made()
    assert here.hard_labels.tolist() == whole.hard_labels.tolist()
    sizes = [made.metadata["bytes"]["total"] for made in (here, whole)]
    assert abs(sizes[0] - sizes[1]) < 0.1 * sizes[1] + 50  # coding depends on the values
    assert here.history[-1]["loss"] == pytest.approx(whole.history[-1]["loss"], rel=1e-4)
    assert "class_shards" not in whole.metadata


class Doubled:
    """A source whose values are float64."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def fetch(self, index: Tensor) -> Batch:
        return dataclasses.replace(batch := self.source.fetch(index), x=batch.x.double())

    def raw(self, index: Tensor) -> Tensor:
        found: Tensor = self.source.raw(index).double()
        return found


class Precise:
    """A factory of float64 networks."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.name, self.device = inner, inner.name, inner.device

    def __call__(self, seed: int) -> Network:
        made: Network = self.inner(seed).double()
        return made


def walked(method: Method[Any], problem: Problem, steps: int) -> Any:
    rng = generator(0, "test")
    state = method.init(problem, rng)
    for _ in range(steps):
        state, _ = method.step(problem, state, rng)
    return state


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dm", {}), ("dm", {"steps_per_network": 2}), ("dm", {"parametrization": "small", "optimizer": "adamw",
        "lr": 0.01}),
        ("dm", {"parametrization": "tiles"}), ("m3d", {"parametrization": "pixels"}), ("datadam", {}),
        ("dance", {"pretrained_networks": 1, "pretrain_epochs": 1}),
    ],
)  # fmt: skip
def test_the_number_of_shards_changes_rounding_only(name: str, options: dict[str, Any]) -> None:
    method = make_method(name, {"batch_real": 8, **options})[1]
    problem = toy_problem(method)
    trained = problem.assets.get("networks", ())
    doubled = [
        dataclasses.replace(
            t, parameters={n: p.double() for n, p in t.parameters.items()},
            buffers={n: b.double() if b.is_floating_point() else b for n, b in t.buffers.items()},
        )
        for t in trained
    ]  # fmt: skip
    precise: Any = {"train": Doubled(problem.train), "network": Precise(problem.network)}
    problem = dataclasses.replace(problem, counts=(3, 1, 1, 2), assets={"networks": doubled}, **precise)
    assert isinstance(method, ClassShardable)
    assert method.shard_obstacle(problem) is None
    whole = method.result(problem, walked(method, problem, 2)).payload  # type: ignore[union-attr]
    start = method.result(problem, walked(method, problem, 0)).payload  # type: ignore[union-attr]
    for shards in (3, 4):
        parts = [
            (g, walked(method, dataclasses.replace(problem, shard=(g.start, g.stop)), 2))
            for g in shard_classes(4, shards)
        ]
        joined = method.result(problem, method.join_shards(problem, parts)).payload  # type: ignore[union-attr]
        for n, t in joined.items():
            assert t.dtype == torch.float64
            assert bool((t != start[n]).flatten(1).any(1).all())  # every row has moved
            torch.testing.assert_close(t, whole[n], rtol=0, atol=1e-9)


def quick(name: str, **changes: Any) -> Any:
    """A method of the decoupled family, as short as can be, with what it leaves to the data settled."""
    kind = resolve("methods", name)
    fields = {f.name for f in dataclasses.fields(kind)}
    given = {"teacher_epochs": 1, "iterations": 3, "committee": "", "factor": 1, **changes}
    return make_method(name, {n: v for n, v in given.items() if n in fields})[1].resolve_defaults(toy_problem())[0]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rded", {"samples": 6}), ("sre2l", {"batch": 2}),
        ("delt", {"batch": 3, "iterations": 4, "round_iterations": 2}),
        ("edc", {"batch": 2}), ("cv-dd", {"batch": 2}), ("ufc", {}), ("lpld", {"batch": 2}), ("fadrm", {"batch": 3}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("short", [False, True])
def test_batches_of_a_recovery_and_classes_of_rded_are_those_of_the_whole_run(
    name: str, options: dict[str, Any], short: bool
) -> None:
    method = quick(name, **options)
    problem = toy_problem(method) if name == "ufc" else dataclasses.replace(toy_problem(method), counts=(3, 1, 1, 2))
    assert isinstance(method, ClassShardable)
    assert method.shard_obstacle(problem) is None
    total = method.num_steps(problem)
    assert total is not None
    steps = max(1, total - total // 3) if short else total
    whole = method.result(problem, walked(method, problem, steps))
    start = method.result(problem, walked(method, problem, 0))
    assert isinstance(whole, Synthetic)
    assert isinstance(start, Synthetic)
    assert not torch.equal(problem.decode(whole.payload), problem.decode(start.payload))
    for shards in range(1, problem.num_classes + 1):
        ways = [(g, replaced(problem, g)) for g in shard_classes(problem.num_classes, shards)]
        parts = [(g, walked(method, one, steps)) for g, one in reversed(ways)][::-1]
        joined = method.result(problem, method.join_shards(problem, parts))
        assert isinstance(joined, Synthetic)
        assert all(torch.equal(t, whole.payload[n]) for n, t in joined.payload.items())
        assert torch.equal(tensor(joined.labels), tensor(whole.labels))


def replaced(problem: Problem, classes: range) -> Problem:
    return dataclasses.replace(problem, shard=(classes.start, classes.stop))


def tensor(labels: Any) -> Tensor:
    assert isinstance(labels, Tensor)
    return labels


def test_shards_of_a_recovery_share_its_batches_evenly_and_each_begins_none_of_the_others() -> None:
    method = quick("sre2l", batch=1)
    problem = toy_problem(method, ipc=3)  # 12 batches of 4 classes
    engine = method.build_engine(problem)
    begun: list[int] = []
    for shard in shard_classes(4, 3):
        rng, mine = generator(0, "test"), replaced(problem, shard)
        state, count = method.init(mine, rng), 0
        while not method.done(mine, state):
            state, metrics = method.step(mine, state, rng)
            count += bool(metrics)
        begun.append(count // engine.iterations)
    assert begun == [6, 3, 3]


@pytest.mark.slow
def test_a_recovery_in_shards_through_processes_is_that_of_one_run(tmp_path: Path) -> None:
    given: dict[str, Any] = {"teacher_epochs": 1, "iterations": 3, "batch": 4, "steps": None, "labels": "hard"}
    for method, more in (("sre2l", given), ("rded", {**given, "samples": 9})):
        more = {n: v for n, v in more.items() if method == "sre2l" or n not in ("iterations", "batch")}
        whole = potstill.distill("digits", method, **{**SMALL, "network": "convnet-d1-w8-batch", **more})
        with Processes(2) as two:
            parted = potstill.distill(
                "digits", method, class_shards=3, executor=two, checkpoint=tmp_path / method,
                **{**SMALL, "network": "convnet-d1-w8-batch", **more},
            )  # fmt: skip
        assert same(whole, parted)
        assert parted.metadata["outcome"]["kind"] == "finished"
        assert len(parted.history) == len(whole.history)
        assert parted.history[-1].keys() == whole.history[-1].keys()


@dataclasses.dataclass
class Mortal:
    """Jobs one of which is killed, once, when its second checkpoint is there."""

    fn: Any
    folder: str

    def __call__(self, n: int) -> Any:
        if n == 1 and not (mark := Path(self.folder, "killed")).exists():
            short = dataclasses.replace(self.fn, steps=3)
            short(n)  # leaves a checkpoint after 3 of 6 steps
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.fn(n)


@dataclasses.dataclass
class Killing:
    inner: Processes
    folder: str

    def map(self, fn: Callable[[Any], Any], jobs: Sequence[Any], /) -> Iterator[Any]:
        return self.inner.map(Mortal(fn, self.folder), jobs)


def test_a_killed_worker_loses_no_shard_that_was_done_and_the_bits_stay(tmp_path: Path) -> None:
    at, one = tmp_path / "run", made(class_shards=3, executor=Serial())
    with Processes(1) as inner, pytest.raises(PotstillError, match="ended with signal SIGKILL"):
        made(class_shards=3, executor=Killing(inner, str(tmp_path)), checkpoint=at)
    assert sorted(p.name for p in at.glob("*.checkpoint")) == ["0-of-3.checkpoint", "1-of-3.checkpoint"]
    before = (at / "0-of-3.checkpoint").stat().st_mtime_ns
    assert same(one, made(class_shards=3, executor=Serial(), checkpoint=at, resume=True))
    assert (at / "0-of-3.checkpoint").stat().st_mtime_ns == before  # not made again
    with pytest.raises(PotstillError, match="in other class shards"):
        made(class_shards=2, checkpoint=at, resume=True)
    assert same(one, made(class_shards=3, executor=Serial(), checkpoint=at))  # anew


@pytest.mark.parametrize(
    ("method", "changes", "said"),
    [
        ("dsa", {}, "its networks train along the way"),
        ("random", {}, "works on all classes at once"),
        ("ncfm", {}, "carries from step to step"),
        ("dm", {"labels": "learned"}, "labels are learned"),
        ("dm", {"network": "convnet-d1-w8-batch"}, "BatchNorm"),
        ("dm", {"parametrization": "hallucinator"}, "parametrization hallucinator shares"),
        ("dm", {"codec": "uint1"}, "parametrization quantization-aware shares"),
        ("sre2l", {"parametrization": "tiles", "teacher_epochs": 1}, "tiles shares what it stores between the batches"),
        ("dq", {"teacher_epochs": 1}, "works on all classes at once"),
        ("dm", {"class_shards": 11}, "from 1 to the 10 classes, but are 11"),
        ("dm", {"class_shards": 0}, "from 1 to the 10 classes, but are 0"),
        ("dm", {"time_limit": "10s"}, "say steps instead"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_one_line_before_any_work(
    method: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(PotstillError, match=said) as error:
        potstill.distill("digits", method, **{**SMALL, "class_shards": 2, **changes})
    assert "\n" not in str(error.value)


def test_classes_of_unequal_size_and_a_budget_in_items(tmp_path: Path) -> None:
    x, y = load_data("digits").train.raw(torch.arange(400)), load_data("digits").train.labels[:400]
    keep = y < 7
    np.savez(tmp_path / "seven.npz", x_train=x[keep].numpy(), y_train=y[keep].numpy(), x_test=x, y_test=y.clamp(max=6))
    given = {**SMALL, "ipc": None, "items": 9, "balance": "equal", "class_shards": 3}
    a = potstill.distill(tmp_path / "seven.npz", "dm", executor=Serial(), **given)
    assert torch.bincount(a.hard_labels).tolist() == [2, 2, 1, 1, 1, 1, 1]


def test_the_command_runs_shards_and_leaves_no_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.safetensors"
    line = ["distill", "digits", "--ipc", "1", "--steps", "2", "--network", "convnet-d1-w8", "--class-shards", "3"]
    assert main([*line, "--executor", "serial", "--codec", "float32", "--json", "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["class_shards"] == 3
    assert sorted(os.listdir(tmp_path)) == ["small.history.json", out.name]
    assert main([*line[:-1], "30", "--out", str(out)]) == 1
    assert "from 1 to the 10 classes" in capsys.readouterr().err


@dataclasses.dataclass(frozen=True, kw_only=True)
class Careless(DM):
    """Forgets all shards but the first."""

    def join_shards(self, problem: Problem, parts: Sequence[tuple[range, MatchingState]]) -> MatchingState:
        return super().join_shards(problem, parts[:1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shifted(Pixels):
    """Gives each class the next one's rows."""

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        found = super().class_rows(payload, sizes, classes)["inputs"]
        return {"inputs": slice(found.start + 1, found.stop + 1)}


def test_the_contract_finds_shards_that_are_lost_and_rows_of_another_class() -> None:
    with pytest.raises(ContractError, match="joined shards end elsewhere in inputs"):
        check_method(Careless(batch_real=8))
    with pytest.raises(ContractError, match="must change all inputs of that class and no other"):
        check_parametrization(Shifted)
