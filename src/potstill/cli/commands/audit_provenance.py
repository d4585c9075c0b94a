"""``potstill audit provenance``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import arg

from potstill._util.audit_settings import ProvenanceSettings
from potstill._util.import_from_file import is_file_reference
from potstill._util.progress import ProgressReporter
from potstill.cli.audits import AuditCommand
from potstill.cli.checks import check_exists
from potstill.cli.command import DataCommand, Parsed, optional
from potstill.cli.reading import load_set_and_data

if TYPE_CHECKING:
    from potstill.audit import Audit

__all__ = ["AuditProvenance"]


@dataclass(frozen=True, kw_only=True)
class AuditProvenance(ProvenanceSettings, AuditCommand, DataCommand):
    """Test if a key marked a set, anybody's, how many of its items prove it, and if a model was trained on it.

    A z-test over the whole set; how many of 1,000 keys that marked nothing pass it, too, is counted.
    Of pictures with a mark by class, models that were trained on the set give it away: --model tests one, and --data
    students of the set beside students of random real samples.
    """

    key: Annotated[Path, arg(metavar="KEY")]
    """File with the secret that the mark was made with."""
    data: Annotated[str | None, optional("DATA")] = None
    """Real data, to train students as well."""
    model: Annotated[str | None, optional("WEIGHTS.safetensors|FILE.py:NAME")] = None
    """A model that may have been trained on this set: weights of --network, or your function that asks a service and
    returns its outputs."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network of the model and of the students (else the one that the set was made with)."""

    main_options: ClassVar[tuple[str, ...]] = (
        "key", "out", "model", "network", "data", "students", "seed", "device",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"Details": ("keys", "steps", "queries")}
    examples: ClassVar[tuple[str, ...]] = (
        "potstill audit provenance marked.safetensors --key owner.pem --out marked.audit.json",
        "potstill audit provenance marked.safetensors --key owner.pem --model weights.safetensors --network convnet",
        "potstill audit provenance marked.safetensors --key owner.pem --model service.py:ask",
    )

    def inputs(self) -> tuple[object, ...]:
        return (self.key, *(one for one in (self.data, _file_of(self.model)) if one is not None))

    def check(self) -> None:
        check_exists([self.key, *([] if self.model is None else [_file_of(self.model)])])

    def measure(self, parsed: Parsed, progress: ProgressReporter) -> "Audit":
        from potstill.audit.provenance import audit_provenance
        from potstill.dataset_file import load

        small, splits = load(self.file), None
        if self.data is not None:
            _, _, splits = load_set_and_data(parsed, self.file, self.data, progress)
        return audit_provenance(
            small, self.key, self.settings_as(ProvenanceSettings), data=splits, model=self.model,
            network=self.network, seed=self.seed, device=self.device, progress=progress.report_count,
        )  # fmt: skip


def _file_of(model: str | None) -> Path | None:
    """Return the file of a model."""
    if model is None:
        return None
    return Path(model.rpartition(":")[0] if is_file_reference(model) and ":" in model else model)
