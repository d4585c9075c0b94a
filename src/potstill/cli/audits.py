"""Shared by the commands ``potstill audit PART``: options, the file of audits, and the text."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from tyro.conf import arg

from potstill._util.audit_settings import AuditSettings
from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, Command, DeviceOption, ForceOption, Parsed, SetArgument, optional
from potstill.cli.text import Block, Table, filled

if TYPE_CHECKING:
    from potstill.audit import Audit

__all__ = ["AuditCommand", "audit_text"]

SettingsT = TypeVar("SettingsT", bound=AuditSettings)


@dataclass(frozen=True, kw_only=True)
class AuditCommand(ForceOption, DeviceOption, Command):
    """Base of the commands that audit one set."""

    file: SetArgument
    """The set."""
    out: Annotated[Path | None, optional("SET.audit.json")] = None
    """Also write the result into this file, beside other parts; beside the set, `potstill report` shows it."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of every draw."""

    outputs: ClassVar[dict[str, tuple[str, ...]]] = {"out": ("audit.json",)}

    def inputs(self) -> tuple[object, ...]:
        """Return what is read beside the set, and may not be written over."""
        return ()

    def settings_as(self, kind: type[SettingsT]) -> SettingsT:
        """Return the options that are fields of ``kind``, the settings of a part."""
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})

    def measure(self, parsed: Parsed, progress: ProgressReporter) -> "Audit":
        """Run the part."""
        raise NotImplementedError

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.audit import check_audit_output, write_audit

        if self.out is not None:
            check_audit_output(self.out, self.file, reads=self.inputs(), force=self.force)
        audit = self.measure(parsed, progress)
        if self.out is not None:
            write_audit(self.out, self.file, audit, command=parsed.line)
        value: dict[str, Any] = {"part": audit.part, "file": str(self.file), "command": parsed.line, **audit.to_json()}
        return Answer(value, audit_text(audit))


def audit_text(audit: "Audit") -> list[Block]:
    """Return a part as text: its answer, tables below their captions, notes."""
    lines: list[Block] = list(filled(audit.sentence))
    for found in audit.tables:
        plain = "\n".join(f"  {line}" for line in Table(found.head, found.rows).plain.split("\n"))
        lines += ["", f"{found.caption}:", Table(found.head, found.rows)._replace(plain_form=plain)]
    return [*lines, *(line for note in audit.notes for line in ["", *filled(note)])]
