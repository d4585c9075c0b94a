"""``potstill mark``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, Command, ForceOption, Parsed, SetArgument, optional
from potstill.cli.reading import set_summary

__all__ = ["Mark"]


@dataclass(frozen=True, kw_only=True)
class Mark(ForceOption, Command):
    """Add a keyed pattern to the inputs of a set: who has the key can prove later that it comes from here.

    Pictures, series, sound and rows with numeric columns can be marked. The set is written by its own codec, and what
    is read back is tested. `potstill audit provenance` finds the mark by the key, without the unmarked set.
    """

    file: SetArgument
    """The set."""
    key: Annotated[Path, arg(metavar="KEY")]
    """File with the secret, of 16 bytes at least: a private key as `potstill sign --new-key` makes it."""
    out: Annotated[Path, arg(metavar="SET.safetensors")]
    """The marked set to write."""
    strength: Annotated[float | None, optional("S")] = None
    """Root mean square of the change, over the standard deviation of the values. (default: the smallest of 0.06, 0.1,
    0.15 and 0.2 that is enough)"""

    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": (".safetensors",)}
    examples: ClassVar[tuple[str, ...]] = ("potstill mark small.safetensors --key owner.pem --out marked.safetensors",)

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill._util.outputs import check_output
        from potstill.audit.provenance import mark

        check_output(self.out, reads=[self.file, self.key], force=self.force or self.out.exists())
        found = mark(self.file, self.key, strength=self.strength)
        found.distilled.save(self.out, force=self.force)
        before, after = found.bytes
        summary = set_summary(found.distilled.metadata, len(found.distilled), self.out)
        lines = [
            f"{self.out}: {summary} ({after - before:+,})",
            f"marked by {found.carrier}: the key's score is {found.score:.1f}, values changed by {found.change:.3g} "
            f"({100 * found.relative:.1f} % of their standard deviation), at most {found.largest:.3g}",
            f"Test it: potstill audit provenance {self.out} --key {self.key}",
        ]
        return Answer({"path": str(self.out), **found.to_json()}, "\n".join(lines))
