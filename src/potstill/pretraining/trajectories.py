"""The asset of expert trajectories: which trainings it needs, and experts that a user gives instead."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from potstill.core import AssetContext, NetworkFactory, Source
from potstill.errors import PotstillError
from potstill.labels.metadata import check_class_order
from potstill.pretraining.expert_training import PUBLISHED, ExpertTraining
from potstill.pretraining.mtt_buffers import parse_buffer, read_replay_buffer
from potstill.pretraining.networks import describe_work, training_jobs
from potstill.pretraining.trajectory import PlaceholderReader, Trajectories, Trajectory, open_expert
from potstill.pretraining.trajectory_codec import Layout, layout_json

__all__ = ["ExpertTrajectories"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertTrajectories:
    """Asset of expert trajectories (an `potstill.core.Asset`): `Trajectories`."""

    name: str = "experts"
    """Experts given on the command line or as ``experts=`` replace the asset of this name."""
    count: int
    recipe: Mapping[str, float | int | str] = field(default_factory=dict)
    """Settings that differ from `PUBLISHED`; ``network`` names another architecture."""
    needed: int = 0
    """Least number of epochs that given experts must have; 0: as many as would be trained."""

    def jobs(self, ground: AssetContext) -> tuple[ExpertTraining, ...]:
        """Return a training for each expert.

        Raises:
            PotstillError: a setting is unknown or out of its range, or there is no such network.
        """
        return training_jobs(ExpertTraining, ground, self.count, {"augment": PUBLISHED["augment"], **self.recipe})

    def open(self, parts: Sequence[Trajectory]) -> Trajectories:
        """Return all experts, each read when asked for."""
        return Trajectories(tuple(parts))

    def placeholder(self, jobs: Sequence[ExpertTraining]) -> Trajectories:
        """Return untrained experts of the same size."""
        return Trajectories(tuple(
            Trajectory(
                seed=job.seed, epochs=job.epochs, layout=Layout.of(job.make(job.seed)), device=job.make.device,
                read=PlaceholderReader(job.make, job.seed), digest="", classes=job.train.classes,
            )
            for job in jobs
        ))  # fmt: skip

    def adopt(self, value: Any, ground: AssetContext) -> Trajectories:
        """Experts that somebody brings: files that an earlier run kept, published replay buffers
        (``replay_buffer_0.pt``), folders of either, or values (`Trajectory`).

        Raises:
            PotstillError: one is damaged, of another network, of other data or classes, or too short.
        """
        make, train, parts = self.jobs(ground)[0].make, ground.train, list[Trajectory]()
        for one in [value] if isinstance(value, str | Path | Trajectory) else list(value):
            parts += _read_experts(one, make, train)
        if not parts:
            raise PotstillError("experts are needed, but none are given; give one at least, or leave experts out")
        needed = self.needed or int(self.recipe.get("epochs", PUBLISHED["epochs"]))
        if (short := min(part.epochs for part in parts)) < needed:
            raise PotstillError(
                f"experts of {needed} epochs are needed, but one that is given has {short}; give longer ones, or "
                "match earlier epochs"
            )
        return Trajectories(tuple(parts))

    def describe_work(self, missing: Sequence[ExpertTraining]) -> str:
        """Describe the missing trainings."""
        return describe_work(len(missing), missing[0].epochs).replace("network", "expert")

    def provenance(self, value: Trajectories, ground: AssetContext) -> Mapping[str, Mapping[str, Any]]:
        """By architecture, recipe and content."""
        recipe = {name: v for name, v in self.recipe.items() if name != "network"}
        return {"experts": {
            "asset": self.name, "network": self.recipe.get("network", ground.network.name), "count": len(value),
            "epochs": value.epochs, "recipe": {**PUBLISHED, **recipe}, "hash": value.digest,
        }}  # fmt: skip


def _read_experts(one: Any, make: NetworkFactory, train: Source) -> list[Trajectory]:
    if isinstance(one, Trajectory):
        if layout_json(one.layout) != layout_json(Layout.of(make(0))):
            raise PotstillError(f"an expert that is given is not a {make.name}; give experts of that network")
        if one.classes:
            check_class_order(one.classes, train.classes, "an expert that is given", "the data")
        return [one]
    if not isinstance(one, str | Path):
        return parse_buffer([one], "experts that are given", make)
    path = Path(one)
    if path.is_dir():
        names = [p for p in path.iterdir() if p.suffix in (".pt", ".safetensors") and not p.name.startswith(".")]
        if not names:
            raise PotstillError(f"{path}: a folder without experts (.pt, .safetensors); give their folder or files")
        inside = sorted(names, key=lambda p: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", p.name)])
        return [part for file in inside for part in _read_experts(file, make, train)]
    if path.suffix == ".safetensors":
        return [open_expert(path, make, train)]
    return read_replay_buffer(path, make)
