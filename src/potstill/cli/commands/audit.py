"""``potstill audit``: all parts that apply."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import arg

from potstill._util.audit_parts import PARTS, audit_command
from potstill._util.formatting import format_duration, format_estimate, format_estimate_words
from potstill._util.progress import ProgressReporter
from potstill.cli.audits import AuditCommand
from potstill.cli.checks import check_exists
from potstill.cli.command import Answer, DataCommand, Misuse, Parsed, optional
from potstill.cli.option_types import Specs
from potstill.cli.reading import load_set_and_data
from potstill.cli.text import Block, filled
from potstill.errors import for_command_line

__all__ = ["AuditSet"]


@dataclass(frozen=True, kw_only=True)
class AuditSet(AuditCommand, DataCommand):
    """Audit a set: run the parts that apply, cheapest first, with a forecast before.

    Parts: privacy, fairness (with --attribute), screening (two classes), robustness and poisoning (pictures),
    provenance (with --key). Each is a command of its own, with more options and its tables: `potstill audit privacy
    --help`.
    """

    data: Annotated[str, arg(metavar="DATA")]
    """The real data that the set was made of, with a test part."""
    parts: Annotated[Specs | None, optional("NAME,...")] = None
    """Run these parts alone."""
    key: Annotated[Path | None, optional("KEY")] = None
    """File with the secret of a mark, for provenance."""

    main_options: ClassVar[tuple[str, ...]] = ("data", "out", "parts", "key", "seed", "device")
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    examples: ClassVar[tuple[str, ...]] = (
        "potstill audit small.safetensors --data photos/ --out small.audit.json",
        "potstill audit small.safetensors --data patients.csv --attribute sex --parts privacy,fairness",
    )

    def inputs(self) -> tuple[object, ...]:
        return (self.data, *([] if self.key is None else [self.key]))

    def check(self) -> None:
        if not self.file.suffix and not self.file.exists():
            raise Misuse(f"audit: {str(self.file)[:80]!r} is neither a file nor a part; parts are {', '.join(PARTS)}")
        check_exists([] if self.key is None else [self.key])

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.audit import Audit, check_audit_output, write_audit, write_left_out
        from potstill.audit.every import audit_set, plan_audits
        from potstill.runs.load_data import load_set_and_splits

        if self.out is not None:
            check_audit_output(self.out, self.file, reads=self.inputs(), force=self.force)
        given, _, read = load_set_and_data(parsed, self.file, self.data, progress)
        small, splits = load_set_and_splits(given, read, self.device)
        plan = plan_audits(small, splits, parts=self.parts, key=self.key, device=self.device)
        for name, why in plan.left_out.items():
            progress.note(f"{name} left out: {for_command_line(why)}")
        if plan.seconds:
            each = ", ".join(f"{name} {format_estimate(seconds)}" for name, seconds in plan.seconds.items())
            progress.note(f"{each}: {format_estimate_words(sum(plan.seconds.values()))} in all")

        def keep(audit: Audit) -> None:
            if self.out is not None:
                write_audit(self.out, self.file, audit, command=parsed.line)

        audits = audit_set(
            small, splits, key=self.key, seed=self.seed, device=self.device, progress=progress.report_count, plan=plan,
            on_part=keep,
        )  # fmt: skip
        if self.out is not None:
            write_left_out(self.out, self.file, audits.left_out)
        lines: list[Block] = []
        for name, audit in audits.parts.items():
            took = format_duration(audit.seconds)
            lines += [*([""] if lines else []), *filled(f"{name.capitalize()} (took {took}): {audit.sentence}")]
        for name, why in audits.left_out.items():
            line = f"{name.capitalize()}: left out; {for_command_line(why)}"
            lines += [*([""] if lines else []), *filled(line)]
        where = audit_command(next(iter(audits.parts), "privacy"), str(self.file)).partition(" --out")[0]
        shown = f"`{where}` prints tables" if self.out is None else f"Tables are in {self.out}"
        lines += ["", *filled(f"{shown}; `potstill report` shows an audit beside its set.")]
        value: dict[str, Any] = {
            "file": str(self.file), "command": parsed.line,
            "parts": {name: audit.to_json() for name, audit in audits.parts.items()},
            "left_out": dict(audits.left_out),
            "forecast": {name: round(seconds, 1) for name, seconds in plan.seconds.items()},
        }  # fmt: skip
        return Answer(value, lines)
