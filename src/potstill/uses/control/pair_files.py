"""Sets of pairs of a state and an action, as files of rows: states are columns, actions are classes or targets."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from potstill.core import InputSpec, Normalization
from potstill.dataset_file import Contents, Distilled, Provenance, Schema, build
from potstill.errors import PotstillError
from potstill.tasks import Regression
from potstill.uses.control.environment import Environment
from potstill.uses.control.search import Pairs, Trainer

__all__ = ["METHOD", "build_pairs", "read_pairs"]

METHOD = "behaviour"
"""Name of the method in the metadata."""


def build_pairs(
    pairs: Pairs, trainer: Trainer, config: Mapping[str, Any], seed: int, steps: int | None
) -> Distilled:  # fmt: skip
    """Return pairs as a set.

    Args:
        pairs: normalised states, and actions.
        trainer: has the simulator and the statistics of its states.
        config: settings for the metadata.
        seed: of the search.
        steps: of the simulator that it took; ``None``: none.
    """
    env = trainer.environment
    states = pairs.states * trainer.std + trainer.mean
    columns = tuple(f"state{n}" for n in range(env.state_size))
    names = () if not env.discrete else tuple(str(env.first_action + n) for n in range(env.action_size))
    task, labels = None, pairs.actions
    if not env.discrete:
        middle, half = _range(env)
        labels = pairs.actions.clamp(-1, 1) * half + middle
        task = Regression(
            targets=tuple(f"action{n}" for n in range(env.action_size)), mean=tuple(middle.tolist()),
            std=tuple(half.tolist()),
        )  # fmt: skip
    per_action = len(labels) if not env.discrete else int(torch.bincount(labels).max())
    return build(
        Contents(inputs=states, labels=labels),
        Schema(
            classes=names, task=task, normalization=Normalization(trainer.mean, trainer.std),
            input=InputSpec(
                kind="table", shape=(env.state_size,), units="as they are", horizontal_flip=False, columns=columns
            ),
        ),
        Provenance(
            method=METHOD, config=config, seed=seed, ipc=per_action,
            source={"name": env.name, "samples": 0, "simulator_steps": steps or 0},
        ),
    )  # fmt: skip


def read_pairs(small: Distilled, env: Environment) -> Pairs:
    """Return the pairs of a set for a simulator.

    Raises:
        PotstillError: states or actions are not those of the simulator.
    """
    inputs, labels = small.inputs, small.labels
    if not isinstance(inputs, Tensor) or tuple(inputs.shape[1:]) != (env.state_size,):
        found = "other inputs" if not isinstance(inputs, Tensor) else "×".join(map(str, inputs.shape[1:])) + " numbers"
        raise PotstillError(
            f"{env.name}: a state has {env.state_size} numbers, but the set has {found}; give a set of this simulator"
        )
    wanted = [str(env.first_action + n) for n in range(env.action_size)] if env.discrete else []
    if list(small.classes) != wanted or (not wanted and tuple(labels.shape[1:]) != (env.action_size,)):
        form = f"classes {', '.join(wanted)}" if wanted else f"{env.action_size} real targets"
        raise PotstillError(
            f"{env.name}: actions are {form}, and those of the set are others; give a set of this simulator"
        )
    normal = small.normalization
    states = (inputs - normal.mean) / normal.std
    if env.discrete:
        return Pairs(states=states, actions=labels.argmax(1) if small.has_soft_labels else labels)
    middle, half = _range(env)
    return Pairs(states=states, actions=((labels - middle) / half).clamp(-1, 1))


def _range(env: Environment) -> tuple[Tensor, Tensor]:
    """Return middle and half width of the range of each number of an action."""
    low, high = torch.tensor(env.low), torch.tensor(env.high)
    return (low + high) / 2, (high - low) / 2
