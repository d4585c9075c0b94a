"""Logged episodes: states, actions and rewards that somebody's policies left, read from files as people have them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet
import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill._util.input_limits import check_limit
from potstill._util.optional import import_optional
from potstill.data.error_text import reason
from potstill.data.python_objects import read_npz_arrays
from potstill.errors import PotstillError
from potstill.uses.control.environment import Environment

__all__ = ["Log", "read_log"]

_NAMES: Mapping[str, tuple[str, ...]] = {
    "states": ("observations", "observation", "obs", "states", "state"),
    "actions": ("actions", "action"),
    "rewards": ("rewards", "reward"),
    "ends": ("terminals", "terminations", "terminated", "terminal", "dones", "done"),
    "cuts": ("timeouts", "truncations", "truncated", "truncation", "timeout"),
    "episodes": ("episodes", "episode", "episode_id", "episode_ids"),
}
"""Names of arrays and columns, such as those of D4RL, of Minari and of Stable-Baselines3."""
_SUFFIXES = (".npz", ".parquet", ".hdf5", ".h5")


@dataclass(frozen=True, kw_only=True)
class Log:
    """Steps of logged episodes, in order."""

    name: str
    states: Float[Tensor, "n d"]
    actions: Tensor
    """Numbers of discrete actions from 0 (n,), or actions in [−1, 1] (n, a)."""
    rewards: Float[Tensor, " n"]
    episodes: Int[Tensor, " n"]
    """Number of each step's episode, from 0."""

    def __len__(self) -> int:
        return len(self.states)

    @property
    def returns(self) -> Float[Tensor, " e"]:
        """Sum of rewards of each episode."""
        count = int(self.episodes.max()) + 1
        return torch.zeros(count, dtype=torch.float64).index_add_(0, self.episodes, self.rewards.double()).float()

    def best(self, fraction: float) -> "Log":
        """Return the steps of the episodes with the highest returns.

        Args:
            fraction: of the episodes, above 0; one at least.
        """
        returns = self.returns
        count = max(1, round(fraction * len(returns)))
        kept = torch.zeros(len(returns), dtype=torch.bool)
        kept[returns.argsort(descending=True, stable=True)[:count]] = True
        rows = kept[self.episodes]
        again = torch.unique(self.episodes[rows], return_inverse=True)[1]
        return Log(
            name=self.name, states=self.states[rows], actions=self.actions[rows], rewards=self.rewards[rows],
            episodes=again,
        )  # fmt: skip


def read_log(data: str | Path | Mapping[str, Any], env: Environment) -> Log:
    """Read logged episodes of a simulator.

    Arrays are ``observations`` (n, d), ``actions`` (n) or (n, a), ``rewards`` (n), and what ends an episode:
    ``terminals`` and ``timeouts`` (n), or ``episode``, its number (n).

    Args:
        data: an ``.npz``, ``.parquet``, ``.hdf5`` or ``.h5`` file, or arrays by name. Columns of a Parquet file hold
            lists, or single numbers as in ``state0``, ``state1``.
        env: the simulator; states and actions must be its own.

    Raises:
        PotstillError: the file cannot be read, an array is not there or of another shape, or a number is not finite.
    """
    if isinstance(data, Mapping):
        name, arrays = "log", {str(key): np.asarray(value) for key, value in data.items()}
    else:
        path = Path(data).expanduser()
        name, arrays = path.name, _read_file(path)
    parts = {part: _find(arrays, part) for part in _NAMES}
    for part in ("states", "actions", "rewards"):
        if parts[part] is None:
            raise PotstillError(
                f"{name}: arrays observations, actions and rewards are required, and {_NAMES[part][0]} is not there "
                f"({', '.join(sorted(arrays)[:8])}); rename one"
            )
    if parts["ends"] is None and parts["cuts"] is None and parts["episodes"] is None:
        raise PotstillError(f"{name}: no array tells where an episode ends; add terminals, timeouts or episode")
    n = len(parts["rewards"]) if parts["rewards"] is not None else 0
    for part, array in parts.items():
        if array is not None and (len(array) != n or not n):
            raise PotstillError(
                f"{name}: all arrays must have one row for each step, but {part} have {len(array):,} and rewards "
                f"{n:,}; correct them"
            )
        if array is not None and (array.dtype.kind not in "biuf" or not np.isfinite(array.astype(np.float64)).all()):
            raise PotstillError(f"{name}: {part} must be finite numbers; correct them")
    states, rewards = np.asarray(parts["states"]), np.asarray(parts["rewards"])
    if states.reshape(n, -1).shape[1] != env.state_size:
        raise PotstillError(
            f"{name}: a state of {env.name} has {env.state_size} numbers, but those of the log have "
            f"{states.reshape(n, -1).shape[1]}; give a log of this simulator"
        )
    return Log(
        name=name, states=torch.from_numpy(states.reshape(n, -1).astype(np.float32)),
        actions=_actions(np.asarray(parts["actions"]), env, name),
        rewards=torch.from_numpy(rewards.reshape(n).astype(np.float32)), episodes=_episodes(parts, n),
    )  # fmt: skip


def _find(arrays: Mapping[str, npt.NDArray[Any]], part: str) -> npt.NDArray[Any] | None:
    by_name = {name.lower(): array for name, array in arrays.items()}
    for known in _NAMES[part]:
        if known in by_name:
            return by_name[known]
        if part in ("states", "actions") and f"{known}0" in by_name:
            columns: list[npt.NDArray[Any]] = []
            while f"{known}{len(columns)}" in by_name:
                columns.append(by_name[f"{known}{len(columns)}"])
            return np.stack(columns, 1)
    return None


def _episodes(parts: Mapping[str, npt.NDArray[Any] | None], n: int) -> Int[Tensor, " n"]:
    """Return the number of each step's episode; without numbers, one begins behind each end."""
    if (told := parts["episodes"]) is not None:
        return torch.from_numpy(np.unique(told.reshape(n), return_inverse=True)[1].reshape(n).astype(np.int64))
    ended = np.zeros(n, dtype=bool)
    for part in ("ends", "cuts"):
        if (array := parts[part]) is not None:
            ended |= array.reshape(n).astype(bool)
    return torch.from_numpy(np.concatenate([[0], np.cumsum(ended[:-1])]).astype(np.int64))


def _actions(actions: npt.NDArray[Any], env: Environment, name: str) -> Tensor:
    n = len(actions)
    if env.discrete:
        flat = actions.reshape(n, -1)
        if flat.shape[1] != 1 or (flat != np.rint(flat)).any():
            raise PotstillError(f"{name}: actions of {env.name} are whole numbers, one for each step; give such a log")
        numbers = torch.from_numpy(flat[:, 0].astype(np.int64)) - env.first_action
        if int(numbers.min()) < 0 or int(numbers.max()) >= env.action_size:
            last, first = env.first_action + env.action_size - 1, env.first_action
            raise PotstillError(
                f"{name}: actions of {env.name} are from {first} to {last}, but the log has "
                f"{int(numbers.min()) + first} to {int(numbers.max()) + first}; give a log of this simulator"
            )
        return numbers
    rows = actions.reshape(n, -1)
    if rows.shape[1] != env.action_size:
        raise PotstillError(
            f"{name}: an action of {env.name} has {env.action_size} numbers, but those of the log have "
            f"{rows.shape[1]}; give a log of this simulator"
        )
    low, high = torch.tensor(env.low), torch.tensor(env.high)
    return ((torch.from_numpy(rows.astype(np.float32)) - low) / (high - low) * 2 - 1).clamp(-1, 1)


def _read_file(path: Path) -> dict[str, npt.NDArray[Any]]:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise PotstillError(f"{path}: a log is a file of {', '.join(_SUFFIXES)}; save it as one of these")
    if not path.is_file():
        raise PotstillError(f"{path}: there is no such file; check the path")
    if suffix == ".npz":
        return read_npz_arrays(path)
    if suffix == ".parquet":
        try:
            table = pyarrow.parquet.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise PotstillError(f"{path}: cannot be read as Parquet ({reason(error)}); save it again") from None
        return {name: _column(table.column(name), name, path) for name in table.column_names}
    h5py = import_optional("h5py", f"{path}: a log in HDF5", "control")
    known = {name for names in _NAMES.values() for name in names}
    try:
        with h5py.File(path, "r") as file:
            found = {}
            for name, value in file.items():
                if name.lower() in known and isinstance(value, h5py.Dataset):
                    check_limit("cells", int(value.size), str(path))
                    found[name] = np.asarray(value)
            return found
    except OSError as error:
        raise PotstillError(f"{path}: cannot be read as HDF5 ({reason(error)}); save it again") from None


def _column(values: Any, name: str, path: Path) -> npt.NDArray[Any]:
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        rows = values.to_pylist()
        if len({len(row) if row is not None else -1 for row in rows}) != 1:
            raise PotstillError(f"{path}: lists of column {name!r} must have one length; correct them")
        return np.asarray(rows)
    return np.asarray(values.to_numpy(zero_copy_only=False)) if hasattr(values, "to_numpy") else np.asarray(values)
