"""Units of a set for deletion: the items of one class, made of one part of its records and of nothing else.

A record is in one unit. Its part follows from its content (or from the contents of its group), so that it stays where
it is when others are deleted. A unit is a run of its own, of one class: its bits depend on its records and the recipe
alone, and joined sets keep the encoded items of each unit unchanged.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from potstill.api.distill import run
from potstill.core import Method, Normalization, Splits, label_mode
from potstill.core.registry import make_method, names, resolve
from potstill.data import TensorSource
from potstill.data.groups import match_file_groups
from potstill.dataset_file import Distilled
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.pretraining import required_assets
from potstill.rng import derive_seed
from potstill.runs.resolve import resolve_run
from potstill.runs.spec import RunIO, RunLimits, RunSpec
from potstill.uses.deletion.records import record_digests

__all__ = ["KEYED", "Recipe", "Unit", "check_method", "content_hash", "plan_units", "run_unit", "settle_method"]

KEYED = "random"
"""Method whose samples are drawn by keys of the records here: those with the least keys of their unit. A record that is
not among them is in no unit, so that deleting it changes nothing."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the bits of a set for deletion, besides its records."""

    method: str
    config: Mapping[str, Any]
    """All fields of the method."""
    ipc: int
    """Items per class, over all parts."""
    codec: str
    seed: int
    network: str | None = None
    parts: int = 1
    """Parts that each class's records are divided into."""
    by_group: bool = False
    """Records of a group are in one part."""
    group: str | None = None
    """Rule that names the groups of files, as ``load_data(group=)``; ``None``: a group has no name."""
    steps: int | None = None
    """Largest number of steps of a unit; ``None``: those of the method."""

    @classmethod
    def of(cls, distilled: Distilled) -> "Recipe":
        """Return the recipe in a set's metadata.

        Raises:
            PotstillError: the set has none.
        """
        recipe = distilled.metadata.get("deletion", {}).get("recipe")
        if not isinstance(recipe, Mapping):
            raise PotstillError(
                f"{distilled.path or 'this set'} was not made for deletion: its items were made together, so that none "
                "can be made again alone; make one with potstill use deletion --make METHOD --data DATA --ipc N --out "
                "SET.safetensors"
            )
        try:
            return cls(**recipe)
        except TypeError as error:
            raise PotstillError(f"the set's recipe is of another version ({error}); make the set again") from error

    @property
    def items(self) -> int:
        """Items of a unit."""
        return self.ipc // self.parts

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def make_method(self) -> Method[Any]:
        """Return the method as a value."""
        kind = resolve("methods", self.method)
        hints = {n: tuple(v) if isinstance(v, list) else v for n, v in self.config.items()}
        method: Method[Any] = make_method(kind(**hints), {})[1]
        return method


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One class and one part of its records."""

    name: str
    """Name of the class."""
    part: int
    rows: Int[Tensor, " m"]
    """Its records, as rows of the training split, ascending."""
    source: TensorSource
    """Its records as a source of one class."""

    @property
    def key(self) -> tuple[str, int]:
        """Class and part."""
        return self.name, self.part

    @property
    def fingerprint(self) -> str:
        """Hash of its records."""
        return self.source.content_hash


def check_method(recipe: Recipe) -> None:
    """Check that the method makes each class by itself.

    Raises:
        PotstillError: it works on all classes at once, or its labels depend on all of them.
    """
    method = recipe.make_method()
    if method.info.class_independence != "separate":
        separate = [n for n in names("methods") if resolve("methods", n).info.class_independence == "separate"]
        raise PotstillError(
            f"{recipe.method} works on all classes at once, or by a network that is trained on all records, so that "
            f"every item depends on every record; deletion is exact for {', '.join(separate)}"
        )
    if (labels := label_mode(method)) != "hard":
        raise PotstillError(f"labels {labels!r} depend on all classes at once; deletion needs labels=hard")


def settle_method(recipe: Recipe, unit: Unit) -> Recipe:
    """Return the recipe with the method's defaults for these data filled in.

    Raises:
        PotstillError: the method needs something that is trained on all records, or does not suit the data.
    """
    resolved = resolve_run(_spec(recipe, unit, None))
    if wanted := required_assets(resolved.method, resolved.problem):
        raise PotstillError(
            f"{recipe.method} with these options needs {wanted[0].name}, which are trained on all records; deletion "
            "needs untrained networks, as in dm by default"
        )
    return replace(recipe, config=asdict(resolved.method))  # type: ignore[call-overload]


def plan_units(train: TensorSource, recipe: Recipe, normalization: Normalization) -> list[Unit]:
    """Return the units of these records, classes in label order.

    Args:
        train: the records.
        recipe: the recipe.
        normalization: of every unit, so that no record changes another's inputs.

    Raises:
        PotstillError: a unit would have fewer records than items.
    """
    keys = torch.zeros(len(train), dtype=torch.int64)
    if recipe.parts > 1 or recipe.method == KEYED:
        digests = record_digests(train, recipe.seed)
        keys = torch.tensor([int.from_bytes(d[:8], "big") >> 1 for d in digests], dtype=torch.int64)
    part_of = _parts(keys, train, recipe)
    normalization, units = normalization.to(train.device), []
    for c, name in enumerate(train.classes):
        of_class = train.labels == c
        for part in range(recipe.parts):
            rows = (of_class & (part_of == part)).nonzero().flatten()
            if len(rows) < recipe.items:
                raise _too_few(recipe, name, part, len(rows), int(of_class.sum()))
            if recipe.method == KEYED:
                rows = rows[keys[rows].argsort(stable=True)[: recipe.items]].sort().values
            source = replace(
                train.subset(rows), classes=(name,), labels=torch.zeros(len(rows), dtype=torch.int64),
                normalization=normalization, places=None, names=(), groups=None, attribute=None,
            )  # fmt: skip
            units.append(Unit(name=name, part=part, rows=rows, source=source))
    return units


def _parts(keys: Int[Tensor, " n"], train: TensorSource, recipe: Recipe) -> Int[Tensor, " n"]:
    """Return the part of each record: by its key, by the name of its group, or by the least key of its group."""
    parts = recipe.parts
    if recipe.group is not None:
        values = match_file_groups(recipe.group, train.names, train.name).tolist()
        part_of = {value: derive_seed(recipe.seed, "group", value) % parts for value in set(values)}
        return torch.tensor([part_of[value] for value in values], dtype=torch.int64)
    if recipe.by_group:
        groups = train.groups
        if groups is None:
            raise PotstillError(
                f"the parts of the set keep groups together, but {train.name} has none here; read it with the same "
                "group="
            )
        numbers = torch.unique(groups, return_inverse=True)[1]
        least = torch.full((int(numbers.max()) + 1,), 2**63 - 1, dtype=torch.int64)
        keys = least.scatter_reduce(0, numbers, keys, "amin")[numbers]
    return keys % parts


def _too_few(recipe: Recipe, name: str, part: int, records: int, of_class: int) -> PotstillError:
    if not of_class:
        return PotstillError(
            f"no record of class {name!r} is left, and a set without a class is another set; make it from data "
            "without the class"
        )
    where = f"part {part + 1} of {recipe.parts} of class {name!r}" if recipe.parts > 1 else f"class {name!r}"
    return PotstillError(
        f"{where} has {records} records for {recipe.items} items; make a set with fewer items"
        f"{' or fewer parts' if recipe.parts > 1 else ''}"
    )


def _spec(recipe: Recipe, unit: Unit, initial: Distilled | None) -> RunSpec:
    seed = recipe.seed if recipe.parts == 1 else derive_seed(recipe.seed, "part", unit.part)
    return RunSpec(
        Splits(train=unit.source, test=None), recipe.make_method(), ipc=recipe.items, seed=seed,
        network=recipe.network, codec=recipe.codec, device=str(unit.source.device), initial=initial,
    )  # fmt: skip


def run_unit(
    recipe: Recipe, unit: Unit, path: Path | None, *, initial: Distilled | None = None, steps: int | None = None
) -> Distilled:
    """Make the items of a unit.

    Args:
        recipe: the recipe.
        unit: the unit.
        path: file of its set, from which a later call takes it, and beside which an interrupted run continues;
            ``None``: none.
        initial: a set to start from, in place of the method's own start.
        steps: largest number of steps, in place of the recipe's.
    """
    io = RunIO(progress=None, executor="serial")
    if path is not None:
        io = replace(io, out=path, checkpoint=path.with_suffix(".checkpoint"), resume=True, force=True)
    return run(_spec(recipe, unit, initial), RunLimits(steps=recipe.steps if steps is None else steps), io)


def content_hash(distilled: Distilled) -> str:
    """Return a hash of what a set holds: encoded items, labels, their decoders, classes and normalization.

    Time, versions and the record of the run are no part of it.
    """
    card = distilled.metadata
    described = {name: card.get(name) for name in ("classes", "task", "input", "normalization", "codec", "decoder")}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    digest.update(hash_tensors(distilled.tensors).encode())
    return digest.hexdigest()
