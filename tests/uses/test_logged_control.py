"""Pairs from logged episodes: every form of a log, episodes and returns by loops, scores, whole runs, bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

import potstill
from potstill.cli.main import main
from potstill.errors import PotstillError
from potstill.reports.control import cells_of
from potstill.rng import generator
from potstill.uses.control import Cloning, Evolution, PolicyShape, distil_log, read_log
from potstill.uses.control.environment import open_environment, state_statistics
from potstill.uses.control.offline import LogSearch
from potstill.uses.control.policies import clone
from potstill.uses.control.search import PairSearch, Trainer
from potstill.uses.control.summary import LOGGED

h5py = pytest.importorskip("h5py")
pytest.importorskip("gymnasium")
QUICK: dict[str, Any] = {
    "evolution": Evolution(generations=2, population=4, episodes=1, check_every=1, check_episodes=2),
    "cloning": Cloning(updates=5), "students": 2, "episodes": 1, "policies": ("mlp:4", "linear"),
}  # fmt: skip


def arrays(lengths: tuple[int, ...] = (3, 5, 2, 6), action: Any = None) -> dict[str, Any]:
    """A log of CartPole whose last episode is cut, and not ended."""
    n, rng = sum(lengths), np.random.default_rng(0)
    ends = np.zeros(n, dtype=bool)
    ends[np.cumsum(lengths)[:-1] - 1] = True
    return {
        "observations": rng.normal(size=(n, 4)).astype(np.float32),
        "actions": rng.integers(0, 2, n) if action is None else action, "rewards": np.ones(n), "terminals": ends,
        "timeouts": np.arange(n) == n - 1,
    }  # fmt: skip


def forms(folder: Path) -> dict[str, Any]:
    log = arrays()
    np.savez(folder / "a.npz", **log)
    with h5py.File(folder / "a.hdf5", "w") as file:
        for name, value in log.items():
            file[name] = value
        file["infos/qpos"] = np.zeros(3)
    lists = {n: v.tolist() for n, v in log.items()}
    pq.write_table(pa.table(lists), folder / "lists.parquet")
    columns = {f"obs{i}": log["observations"][:, i] for i in range(4)}
    number = np.repeat(np.arange(4), (3, 5, 2, 6))
    pq.write_table(pa.table(columns | {"action": log["actions"], "reward": log["rewards"], "episode": number}),
                   folder / "columns.parquet")  # fmt: skip
    return {
        "npz": folder / "a.npz", "hdf5": folder / "a.hdf5", "lists": folder / "lists.parquet",
        "columns": folder / "columns.parquet", "arrays": log,
    }  # fmt: skip


def test_every_form_of_a_log_is_read_alike(tmp_path: Path) -> None:
    env, wanted = open_environment("CartPole-v1"), arrays()
    for data in forms(tmp_path).values():
        log = read_log(data, env)
        assert torch.equal(log.states, torch.from_numpy(wanted["observations"]))
        assert log.actions.tolist() == wanted["actions"].tolist()
        assert log.episodes.tolist() == [0] * 3 + [1] * 5 + [2] * 2 + [3] * 6
        assert log.returns.tolist() == [3, 5, 2, 6]


def test_the_best_episodes_are_those_of_the_highest_returns() -> None:
    log = read_log(arrays(), open_environment("CartPole-v1"))
    assert log.best(0.5).returns.tolist() == [5, 6]
    assert log.best(0.01).returns.tolist() == [6]
    assert torch.equal(log.best(0.01).states, log.states[10:])
    assert torch.equal(log.best(1.0).states, log.states)


def test_actions_in_a_range_become_units() -> None:
    env = open_environment("Pendulum-v1")
    log = arrays() | {"observations": np.zeros((16, 3)), "actions": np.linspace(-2, 2, 16)[:, None]}
    actions = read_log(log, env).actions
    assert actions.shape == (16, 1)
    assert actions[0] == -1
    assert actions[-1] == 1


@pytest.mark.parametrize("discrete", [True, False])
def test_scores_are_losses_of_policies_one_by_one(discrete: bool) -> None:
    env = open_environment("CartPole-v1" if discrete else "Pendulum-v1")
    rng = generator(0, "x")
    states = torch.randn(40, env.state_size, generator=rng)
    actions = torch.randint(2, (40,), generator=rng) if discrete else torch.rand(40, 1, generator=rng) * 2 - 1
    mean, std = state_statistics(states)
    trainer = Trainer(environment=env, shape=PolicyShape((3,)), mean=mean, std=std, cloning=Cloning(updates=4))
    search = LogSearch(
        pairs=PairSearch(trainer=trainer, items=2), states=trainer.normalise(states), actions=actions
    )  # fmt: skip
    rows = torch.stack([search.start(generator(n, "r")) for n in range(3)])
    got, steps = search.scores(rows, 2, generator(1, "s"))
    assert steps == 0
    again = generator(1, "s")
    weights = trainer.draw(2, again)
    at = torch.randint(40, (256,), generator=again)
    for n in range(3):
        own_states, own_actions = search.pairs.pairs(rows[n : n + 1])
        losses = []
        for k in range(2):
            one = {name: w[k : k + 1] for name, w in weights.items()}
            learned = clone(trainer.shape, one, own_states, own_actions, trainer.cloning)
            out = trainer.shape(learned, search.states[at][None])[0]
            losses.append(F.cross_entropy(out, actions[at]) if discrete else F.mse_loss(out, actions[at]))
        assert float(got[n]) == pytest.approx(-float(sum(losses)) / 2, rel=1e-4)


def test_a_search_starts_at_logged_steps_with_actions_in_turn() -> None:
    log = read_log(arrays(), open_environment("CartPole-v1"))
    mean, std = state_statistics(log.states)
    trainer = Trainer(
        environment=open_environment("CartPole-v1"), shape=PolicyShape(()), mean=mean, std=std, cloning=Cloning()
    )  # fmt: skip
    search = LogSearch(
        pairs=PairSearch(trainer=trainer, items=4), states=trainer.normalise(log.states), actions=log.actions
    )  # fmt: skip
    assert log.actions[search.draw(4, generator(0, "d"))].tolist() == [0, 1, 0, 1]
    alone = LogSearch(pairs=search.pairs, states=search.states, actions=torch.ones_like(log.actions))
    assert len(alone.draw(4, generator(0, "d"))) == 4  # an action that no step has


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCarContinuous-v0"])
def test_a_run_is_whole_and_the_same_again(tmp_path: Path, name: str) -> None:
    env = open_environment(name)
    log = arrays() if env.discrete else arrays() | {
        "observations": np.random.default_rng(1).normal(size=(16, 2)), "actions": np.linspace(-1, 1, 16),
    }  # fmt: skip
    result = distil_log(env, log, out=tmp_path / "a", sets=2, items=2, best=0.5, **QUICK)
    assert [row["name"] for row in result["rows"]] == list(LOGGED)
    page = (tmp_path / "a" / "control.html").read_text()
    assert all(cell in page for row in result["rows"] for cell in cells_of(row, result))
    assert "no choice sees the simulator" in page
    small = potstill.load(tmp_path / "a" / "pairs-0.safetensors")
    assert len(small) == 2
    again = distil_log(env, log, out=tmp_path / "b", sets=2, items=2, best=0.5, **QUICK)
    for one, other in zip(result["cells"], again["cells"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
        assert one["steps"] == 0
    cells = {c["name"]: c for c in result["cells"] if c["seed"] == 0}
    assert (cells["clone-all"]["items"], cells["clone-best"]["items"]) == (16, 11)
    assert cells["clone-all"]["bytes"] == 4 * 16 * (env.state_size + 1)
    assert cells["more-best"]["items"] == 32
    with pytest.raises(PotstillError, match="other settings or data"):
        distil_log(env, log, out=tmp_path / "a", items=2, best=0.25, **QUICK)


def test_pairs_of_a_log_of_good_episodes_balance_the_pole(tmp_path: Path) -> None:
    """A log of a policy that pushes towards the side to which the pole falls, among one that does not."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(2000, 4)).astype(np.float32) * np.array([0.5, 0.5, 0.1, 0.5], np.float32)
    good = (3 * states[:, 2] + states[:, 3] > 0).astype(np.int64)
    actions = np.where(np.arange(2000) < 1000, good, 1 - good)
    log = {
        "observations": states, "actions": actions, "rewards": np.where(np.arange(2000) < 1000, 1.0, 0.1),
        "episode": np.arange(2000) // 100,
    }  # fmt: skip
    evolution = Evolution(generations=12, population=16, episodes=2)
    result = distil_log(
        "CartPole-v1", log, out=tmp_path, items=4, best=0.5, evolution=evolution, students=4, episodes=3,
        policies=("mlp:16",),
    )  # fmt: skip
    mean = {row["name"]: row["returns"].get("mlp:16", {}).get("mean") for row in result["rows"]}
    assert mean["clone-best"] > 150
    assert mean["set"] > 100
    assert mean["clone-all"] < mean["clone-best"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rewards": None}, "rewards is not there"),
        ({"terminals": None, "timeouts": None}, "no array tells where an episode ends"),
        ({"rewards": np.ones(3)}, "one row for each step"),
        ({"rewards": np.full(16, np.nan)}, "finite numbers"),
        ({"observations": np.zeros((16, 3))}, "a state of CartPole-v1 has 4 numbers, but those of the log have 3"),
        ({"actions": np.full(16, 2)}, "are from 0 to 1, but the log has 2 to 2"),
        ({"actions": np.full(16, 0.5)}, "whole numbers"),
        ({"actions": np.array(["left"] * 16)}, "finite numbers"),
    ],
)
def test_other_logs_are_refused_in_one_line(change: dict[str, Any], match: str) -> None:
    log = {name: value for name, value in (arrays() | change).items() if value is not None}
    with pytest.raises(PotstillError, match=match) as error:
        read_log(log, open_environment("CartPole-v1"))
    assert "\n" not in str(error.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    env = open_environment("CartPole-v1")
    for name in ("a.hdf5", "a.npz", "a.parquet"):
        (tmp_path / name).write_bytes(b"anything")
        with pytest.raises(PotstillError, match=f"{name}: "):
            read_log(tmp_path / name, env)
    with pytest.raises(PotstillError, match="a log is a file of"):
        read_log(tmp_path / "a.pkl", env)
    with pytest.raises(PotstillError, match="no such file"):
        read_log(tmp_path / "none.npz", env)
    with pytest.raises(PotstillError, match="best must be a fraction"):
        distil_log(env, arrays(), out=tmp_path / "o", best=0.0)


def test_hdf5_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"anything")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(PotstillError, match=r"pip install 'potstill\[control\]'"):
        read_log(tmp_path / "a.h5", open_environment("CartPole-v1"))


def test_the_command_reads_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("log.npz", **arrays())
    words = ["use", "control", "CartPole-v1", "--log", "log.npz", "--out", "o", "--best", "0.5", "--generations", "1"]
    words += ["--population", "2", "--students", "2", "--episodes", "1", "--updates", "2"]
    assert main(words) == 0
    assert "cloning the best episodes" in capsys.readouterr().out
    assert json.loads(Path("o/control.json").read_text())["log"]["episodes"] == 4
    assert main([*words, "--set", "o/pairs-0.safetensors"]) == 2
    assert "one of --set and --log" in capsys.readouterr().err
