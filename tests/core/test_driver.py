"""The loop: budgets, checkpoints, resume to the same bits, signals, the non-finite guard."""

import itertools
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Generator, Tensor

import potstill
from potstill.core import Method, MethodInfo, Metrics, Problem, Synthetic
from potstill.dataset_file import describe, inspect, write_checkpoint
from potstill.errors import NonFiniteError, PotstillError, PotstillWarning
from potstill.methods.distribution.dm import DM
from potstill.rng import generator
from potstill.runs import loop as driver
from potstill.runs.loop import CheckpointOptions, Interrupted, LoopLimits, Progress, run_loop
from potstill.testing import toy_problem


@dataclass(frozen=True, kw_only=True)
class WalkState:
    x: Tensor
    steps: int


@dataclass(frozen=True, kw_only=True)
class Walk(Method[WalkState]):
    """A random walk that can be told to break."""

    info: ClassVar[MethodInfo] = MethodInfo(title="Walk", paper="none", year=2026, family="distribution")
    state_type: ClassVar[type] = WalkState
    length: int = 10
    nan_metric_at: int = -1
    nan_state_at: int = -1
    raises_at: int = -1
    signal_at: int = -1

    def init(self, problem: Problem, rng: Generator) -> WalkState:
        return WalkState(x=torch.zeros(len(problem.train.classes) * problem.ipc, *problem.train.input.shape), steps=0)

    def step(self, problem: Problem, state: WalkState, rng: Generator) -> tuple[WalkState, Metrics]:
        x = state.x + torch.randn(state.x.shape, generator=rng)
        n = state.steps + 1
        if n == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if n == self.nan_state_at:
            x = x / 0
        if n == self.raises_at:
            raise NonFiniteError("inner step 7 of 9 made weights that are not finite")
        return WalkState(x=x, steps=n), {"loss": float("nan") if n == self.nan_metric_at else 1.0 / n}

    def done(self, problem: Problem, state: WalkState) -> bool:
        return state.steps >= self.length

    def result(self, problem: Problem, state: WalkState) -> Synthetic:
        return Synthetic(payload={"inputs": state.x}, labels=torch.arange(4).repeat_interleave(problem.ipc))

    def num_steps(self, problem: Problem) -> int:
        return self.length


def go(method: Method, problem: Problem | None = None, seed: int = 1, **options):  # type: ignore[no-untyped-def, type-arg]
    return run_loop(
        method, problem or toy_problem(), rng=generator(seed), identity={"method": repr(method)}, **values(**options)
    )


def values(checkpoint: Path | None = None, **options: Any) -> dict[str, Any]:
    """Arguments of the loop, of which some are fields of its values."""
    limits = {name: options.pop(name) for name in ("steps", "seconds", "spent") if name in options}
    saved = {name: options.pop(name) for name in ("every", "resume", "force") if name in options}
    found = {**options, "limits": LoopLimits(**limits)}
    return found if checkpoint is None else {**found, "checkpoint": CheckpointOptions(path=checkpoint, **saved)}


def test_a_run_finishes_and_says_so() -> None:
    seen: list[Progress] = []
    done = go(Walk(), progress=seen.append)
    assert done.outcome.kind == "finished"
    assert [p.step for p in seen] == list(range(1, 11))
    assert {p.total for p in seen} == {10}
    assert [h["step"] for h in done.history] == list(range(1, 11))
    assert done.history[1]["loss"] == 0.5
    assert done.peak_memory > 1_000_000


def test_steps_stop_a_run() -> None:
    done = go(Walk(), steps=4)
    assert (done.outcome.kind, done.outcome.step, done.state.steps) == ("steps reached", 4, 4)


def test_a_time_limit_stops_a_run_after_the_step_under_way() -> None:
    done = go(Walk(length=10**9), seconds=0.05)
    assert done.outcome.kind == "time limit reached"
    assert done.outcome.step == done.state.steps >= 1
    assert go(Walk(), seconds=0.0).outcome.step == 0
    assert go(Walk(), seconds=60.0, spent=60.0).outcome.step == 0  # what went before the first step counts


@pytest.mark.parametrize(
    ("method", "what"),
    [
        (Walk(nan_metric_at=4), "loss is nan"),
        (Walk(nan_state_at=4), "x holds NaN or infinity"),
        (Walk(raises_at=4), "inner step 7 of 9 made weights that are not finite; the state of step 3 is kept"),
    ],
)
def test_a_value_that_is_not_finite_stops_the_run_at_the_last_finite_state(method: Walk, what: str) -> None:
    done = go(method)
    assert done.outcome.kind == "not finite"
    assert f"step 4: {what}" in done.outcome.message
    assert done.state.steps == done.outcome.step == 3
    assert torch.equal(done.state.x, go(Walk(), steps=3).state.x)


def test_a_signal_keeps_the_run_and_resume_ends_with_the_same_bits(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    handler = signal.getsignal(signal.SIGTERM)
    # The identity is that of the plain walk: the planted signal is not part of the configuration.
    with pytest.raises(Interrupted, match="after step 3") as stopped:
        run_loop(Walk(signal_at=3), toy_problem(), rng=generator(1), identity={"m": 1}, **values(checkpoint))
    assert stopped.value.checkpoint == checkpoint
    assert signal.getsignal(signal.SIGTERM) == handler
    resumed = run_loop(Walk(), toy_problem(), rng=generator(99), identity={"m": 1}, **values(checkpoint, resume=True))
    whole = go(Walk())
    assert torch.equal(resumed.state.x, whole.state.x)
    assert [h["step"] for h in resumed.history] == [h["step"] for h in whole.history]
    assert [h["loss"] for h in resumed.history] == [h["loss"] for h in whole.history]


def test_a_real_method_resumes_to_the_same_bits(tmp_path: Path) -> None:
    method, checkpoint = DM(iterations=6, batch_real=5), tmp_path / "dm.checkpoint"
    problem = toy_problem(method)
    whole = go(method, problem)
    go(method, problem, steps=2, checkpoint=checkpoint, every=0.0)
    resumed = go(method, problem, seed=77, checkpoint=checkpoint, resume=True)
    assert torch.equal(resumed.state.params.value["payload/inputs"], whole.state.params.value["payload/inputs"])
    assert torch.equal(resumed.state.params.exp_avg["payload/inputs"], whole.state.params.exp_avg["payload/inputs"])


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "walk.checkpoint"
    go(Walk(), steps=2, checkpoint=checkpoint, every=0.0)
    with pytest.raises(PotstillError, match=r"another configuration.*method"):
        go(Walk(length=11), checkpoint=checkpoint, resume=True)


@pytest.mark.parametrize(
    "other",
    [{"processor": "AVX9"}, {"kernels": "none"}, {"kernels": "winograd-1 blocks-2"}, {"torch": "9"}, {"potstill": "9"}],
)
def test_a_checkpoint_that_was_computed_otherwise_goes_on_only_when_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, str]
) -> None:
    checkpoint = tmp_path / "walk.checkpoint"
    go(Walk(), steps=2, checkpoint=checkpoint, every=0.0)
    here = driver.versions()
    monkeypatch.setattr(driver, "versions", lambda: {**here, **other})
    with pytest.raises(PotstillError) as caught:
        go(Walk(), checkpoint=checkpoint, resume=True)
    ((name, there),) = other.items()
    assert f"{name} was {here[name]!r} and now is {there!r}" in str(caught.value)
    assert '`resume="force"`' in str(caught.value)
    on = go(Walk(), steps=4, checkpoint=checkpoint, every=0.0, resume=True, force=True)
    assert on.changes == ({"step": 2, "versions": here},)
    assert go(Walk(), checkpoint=checkpoint, resume=True).changes == on.changes  # it is not forgotten


def test_the_card_says_that_a_run_went_on_with_other_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(20, 1, 4, 4, generator=generator(0)).numpy()
    given: dict[str, Any] = {"method": "k-means", "ipc": 1, "progress": None, "checkpoint": tmp_path / "c"}
    whole = potstill.distill((x, [0, 1] * 10), **given)
    assert "resumed_with_others" not in whole.metadata
    assert whole.metadata["limits"] == {"steps": None, "time_limit": None}
    potstill.distill((x, [0, 1] * 10), steps=1, checkpoint_every=0.0, **given)
    here = driver.versions()
    monkeypatch.setattr(driver, "versions", lambda: {**here, "kernels": "others"})
    with pytest.raises(PotstillError, match=r"kernels was .* and now is 'others'"):
        potstill.distill((x, [0, 1] * 10), resume=True, **given)
    small = potstill.distill((x, [0, 1] * 10), resume="force", **given)
    assert small.metadata["resumed_with_others"] == [{"step": 1, "versions": here}]
    shown = describe(inspect(small.save(tmp_path / "a.safetensors")))
    assert "resumed     after step 1, until there made with " in shown
    assert f"potstill {here['potstill']}" in shown


def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tmp_path / "walk.checkpoint"
    with monkeypatch.context() as earlier:
        earlier.setattr(driver, "versions", dict)
        go(Walk(), steps=2, checkpoint=checkpoint, every=0.0)
    assert go(Walk(), checkpoint=checkpoint, resume=True).changes == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": "9"}, {"seconds": None}, {"stride": 0}, {"stride": [1]}, {"history": {"a": 1}}, {"history": [3]},
        {"changes": 7},
    ],
)  # fmt: skip
def test_a_checkpoint_whose_meta_is_of_another_kind_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    method, checkpoint = Walk(), tmp_path / "walk.checkpoint"
    state, meta = (
        WalkState(x=torch.zeros(4, 1), steps=1),
        {"seconds": 1.0, "stride": 1, "history": [], "changes": [], "spent": 0.0, **wrong},
    )
    write_checkpoint(
        checkpoint, state=state, rng_state=generator(0).get_state(), step=1, identity={"method": repr(method)},
        meta=meta,
    )  # fmt: skip
    with pytest.raises(PotstillError, match="an incomplete checkpoint"):
        go(method, checkpoint=checkpoint, resume=True)


def test_two_runs_on_one_checkpoint_do_not_happen(tmp_path: Path) -> None:
    checkpoint = tmp_path / "walk.checkpoint"

    def again(p: Progress) -> None:
        with pytest.raises(PotstillError, match=rf"checkpoint: another run \(process {os.getpid()}\) is writing it"):
            go(Walk(), checkpoint=checkpoint)

    go(Walk(length=2), checkpoint=checkpoint, progress=again)
    assert list(tmp_path.iterdir()) == []


def test_resume_needs_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match="no unfinished run to resume"):
        go(Walk(), checkpoint=tmp_path / "none", resume=True)


def test_the_history_stays_bounded_and_spread() -> None:
    done = go(Walk(length=3000))
    steps = [h["step"] for h in done.history]
    assert len(steps) <= 512
    gaps = {b - a for a, b in itertools.pairwise(steps)}
    assert len(gaps) == 1
    assert steps[-1] > 2980


def test_the_state_that_is_kept_is_a_value() -> None:
    done = go(Walk(), steps=2)
    with pytest.raises(AttributeError):
        done.state.steps = 5
    assert replace(done.state, steps=5).steps == 5


def _flipped(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 16
    path.write_bytes(raw)


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(tmp_path: Path) -> None:
    checkpoint, older = tmp_path / "walk.checkpoint", tmp_path / "walk.checkpoint.before"
    go(Walk(), steps=3, checkpoint=checkpoint, every=0.0)
    assert older.exists()
    good = older.read_bytes()
    _flipped(checkpoint)
    with pytest.warns(PotstillWarning, match=r"damaged.*; the run resumes from the checkpoint before it, of step 2"):
        on = go(Walk(), steps=4, checkpoint=checkpoint, every=0.0, resume=True)
    assert on.outcome.step == 4
    # what was damaged does not take the place of what was good
    assert older.read_bytes() != good  # step 4 kept step 3, which this run wrote
    resumed = go(Walk(), checkpoint=checkpoint, resume=True)
    assert torch.equal(resumed.state.x, go(Walk()).state.x)
    _flipped(checkpoint)
    _flipped(older)
    with pytest.raises(PotstillError, match="damaged"):
        go(Walk(), checkpoint=checkpoint, resume=True)


def test_the_first_checkpoint_after_a_damaged_one_leaves_the_good_one(tmp_path: Path) -> None:
    checkpoint, older = tmp_path / "walk.checkpoint", tmp_path / "walk.checkpoint.before"
    go(Walk(), steps=3, checkpoint=checkpoint, every=0.0)
    good = older.read_bytes()
    _flipped(checkpoint)
    with pytest.warns(PotstillWarning):
        go(Walk(), steps=3, checkpoint=checkpoint, every=0.0, resume=True)
    assert older.read_bytes() == good
    assert checkpoint.read_bytes() != good
