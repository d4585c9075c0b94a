"""``potstill use deletion``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tyro.conf import Positional, arg

from potstill._util.progress import ProgressReporter
from potstill.cli.checks import check_exists
from potstill.cli.command import Answer, DataCommand, Flag, ForceOption, JobOptions, Misuse, Parsed, optional
from potstill.cli.reading import load_data
from potstill.cli.text import Block, Table

if TYPE_CHECKING:
    from potstill.core import Splits
    from potstill.uses.deletion import Update

__all__ = ["UseDeletion"]


@dataclass(frozen=True, kw_only=True)
class UseDeletion(ForceOption, JobOptions, DataCommand):
    """Delete records from a set exactly, or extend it: only items that depend on them are made again.

    --make makes a set for it, each class and part of its records by itself. --delete and --delete-names write a new set
    with the bits of one that never saw the records; --add writes one with new records and classes. The same command
    again resumes where an interrupted one stopped.
    """

    file: Annotated[Positional[Path | None], arg(metavar="SET.safetensors", help_behavior_hint="")] = None
    """The set, as --make writes it; left out with --make."""
    data: Annotated[str, arg(metavar="DATA")]
    """The real data that the set is made of, with the records to delete."""
    out: Annotated[Path, arg(metavar="NEW.safetensors")]
    """The set to write."""
    delete: Annotated[str | None, optional("ROWS|FILE")] = None
    """Records to delete: rows of the training split from 0 (3,17,100-120), or a file of them."""
    delete_names: Annotated[str | None, optional("NAMES|FILE")] = None
    """Records to delete by the names of their files, or patterns: train/cat/1.png or '*/person7/*', or a file of
    them."""
    add: Annotated[str | None, optional("DATA2")] = None
    """New records, of classes of the set or of new ones."""
    make: Annotated[str | None, optional("METHOD")] = None
    """Make a set for deletion by this method: dm, m3d, datadam, or a selection such as herding or random."""
    verify: Flag = False
    """Make the whole new set from scratch, too, and compare hashes and seconds."""
    membership: Flag = False
    """Test by held-out records whether the deleted ones look like members, before and after."""
    warm_steps: Annotated[int | None, optional("N")] = None
    """With --add: units with new records go on from their own items for so many steps, instead of from scratch."""
    ipc: Annotated[int | None, optional("N")] = None
    """With --make: items per class."""
    parts: Annotated[int | None, optional("N")] = None
    """With --make: parts that each class's records are divided into (groups of --group stay whole), each with its own
    items. (default: 1)"""
    codec: Annotated[str | None, optional("NAME")] = None
    """With --make: codec of the items. (default: uint8)"""
    preset: Annotated[str | None, optional("NAME")] = None
    """With --make: preset of the method."""
    parametrization: Annotated[str | None, optional("NAME")] = None
    """With --make: parametrization of the items."""
    network: Annotated[str | None, optional("NAME")] = None
    """With --make: network to distil with."""
    steps: Annotated[int | None, optional("N")] = None
    """With --make: largest number of steps of a unit."""
    seed: Annotated[int | None, optional("S")] = None
    """With --make: seed of every draw. (default: 0)"""

    main_options: ClassVar[tuple[str, ...]] = (
        "data", "out", "delete", "delete_names", "add", "make", "ipc", "parts", "verify", "membership",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "With --make": ("codec", "preset", "parametrization", "network", "steps", "seed"),
        "With --add": ("warm_steps",),
    }
    examples: ClassVar[tuple[str, ...]] = (
        "potstill use deletion --data photos --make dm --ipc 10 --out set.safetensors",
        "potstill use deletion set.safetensors --data photos --delete-names '*/person7/*' --out new.safetensors",
    )
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": (".safetensors",)}

    def check(self) -> None:
        asked = [n for n in ("make", "delete", "delete_names", "add") if getattr(self, n) is not None]
        spelled = "--make METHOD, --delete ROWS, --delete-names NAMES or --add DATA2"
        if len(asked) != 1:
            both = " and ".join(f"--{name.replace('_', '-')}" for name in asked)
            raise Misuse(f"use deletion: say one thing to do: {spelled}, not {both or 'none'}")
        if (self.make is None) == (self.file is None):
            advice = "name the set to change" if self.make is None else "with --make no set is read, so leave it out"
            raise Misuse(f"use deletion: {advice}")
        if self.make is None:
            settings = ("ipc", "parts", "codec", "preset", "parametrization", "network", "steps", "seed")
            if extra := next((n for n in settings if getattr(self, n) is not None), None):
                raise Misuse(f"--{extra} is part of the set's recipe, so it goes with --make alone")
        elif self.ipc is None:
            raise Misuse("--make needs the items per class: --ipc N")
        if self.warm_steps is not None and self.add is None:
            raise Misuse("--warm-steps is for units with new records, so it goes with --add alone")
        if self.membership and asked[0] in ("make", "add"):
            raise Misuse("--membership tests deleted records, so it goes with --delete or --delete-names")
        check_exists(() if self.file is None else (self.file,))

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.uses.deletion import make_again, make_deletable

        if self.make is not None:
            splits = load_data(parsed, self.data, progress)
            options = {} if self.parametrization is None else {"parametrization": self.parametrization}
            settings = {**self.arguments_for(make_deletable), **options, "progress": progress.report_count}
            update = make_deletable(splits, self.make, **settings)
            result: dict[str, Any] = {}
            lines: list[Block] = [f"{self._written(update)}: {len(update.units)} units in {update.seconds:.1f} s"]
        else:
            update, result, lines = self._change(parsed, progress)
        failure = None
        if self.verify:
            again = make_again(update, executor=self.executor_spec, progress=progress.report_count)
            equal = again.hash == update.hash
            result["verify"] = {"equal": equal, "seconds": round(again.seconds, 3), "hash": again.hash}
            word = "equal" if equal else "NOT EQUAL"
            lines.append(f"Made from scratch in {again.seconds:.1f} s: {word}, bit by bit")
            if not equal:
                failure = (
                    f"{self.out}: differs from the set that is made from scratch of the same records"
                    + ("" if update.exact else ", as some of its units went on from earlier items")
                    + "; make it from scratch with --make"
                )
        return Answer({"path": str(self.out), **update.report(), **result}, lines, failure)

    def _written(self, update: "Update") -> str:
        small = update.distilled
        return f"{self.out}: {len(small)} items, {small.metadata['bytes']['total']:,} bytes, hash {update.hash[:16]}"

    def _change(self, parsed: Parsed, progress: ProgressReporter) -> "tuple[Update, dict[str, Any], list[Block]]":
        """Delete or add records."""
        from potstill.dataset_file import load
        from potstill.uses.deletion import delete_records, extend, named_rows, numbered_rows, training_records

        assert self.file is not None
        before = load(self.file)
        splits: Splits = load_data(parsed, self.data, progress, before.metadata)
        how: dict[str, Any] = {
            "out": self.out, "force": self.force, "device": self.device, "executor": self.executor_spec,
            "progress": progress.report_count,
        }  # fmt: skip
        if self.add is not None:
            update = extend(
                before, splits, load_data(parsed, self.add, progress, before.metadata), warm_steps=self.warm_steps,
                **how,
            )  # fmt: skip
            return update, {}, [self._written(update), _work(update)]
        train = training_records(splits)
        rows = (
            named_rows(train, self.delete_names) if self.delete_names is not None
            else numbered_rows(train, self.delete or "")
        )  # fmt: skip
        update = delete_records(before, splits, rows, **how)
        result: dict[str, Any] = {"deleted": len(rows)}
        lines: list[Block] = [self._written(update), f"{len(rows):,} records deleted. {_work(update)}"]
        if self.membership:
            scores = self._test(before, update, splits, train.subset(rows))
            result["membership"] = scores
            lines += _membership_table(scores)
        return update, result, lines

    def _test(self, before: Any, update: "Update", splits: "Splits", deleted: Any) -> dict[str, Any]:
        from potstill.data import TensorSource
        from potstill.errors import PotstillError
        from potstill.uses.deletion import membership

        if not isinstance(test := splits.test, TensorSource):
            raise PotstillError(f"{splits.train.name}: a membership test needs held-out records; give a test part")
        return {
            when: {name: score.to_json() for name, score in membership(small, deleted, test).items()}
            for when, small in (("before", before), ("after", update.distilled))
        }


def _work(update: "Update") -> str:
    """Return what was made again, and how long that took."""
    n, made = len(update.units), len(update.remade)
    names = ", ".join(update.classes[:8]) + (", …" if len(update.classes) > 8 else "")
    where = f", of class{'' if len(update.classes) == 1 else 'es'} {names}" if made else ""
    return (
        f"{made} of {n} units made{where}: {update.seconds:.2f} s; all units took {update.seconds_of_all:.2f} s when "
        "they were made"
    )


def _membership_table(scores: Mapping[str, Any]) -> list[Block]:
    rows = []
    for name in scores["before"]:
        cells = [scores[when][name] for when in ("before", "after")]
        rows.append(
            [name, *(f"{c['auc']:.3f} [{c['ci95'][0]:.3f}, {c['ci95'][1]:.3f}], {c['verdict']}" for c in cells)]
        )
    first = next(iter(scores["before"].values()))
    return [
        f"Membership test, AUC within classes with 95% intervals, {first['deleted']:,} deleted and "
        f"{first['held_out']:,} held-out records (0.5: not distinguished)",
        Table(["by", "before", "after"], rows),
    ]
