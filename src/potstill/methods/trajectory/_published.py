"""Published settings of trajectory matching, with their sources.

Keys are (classes, items per class): 10 is CIFAR-10, 100 CIFAR-100, 200 Tiny-ImageNet, 1000 ImageNet-1K.
``benchmarks/fidelity_functions.py`` compares the tables with the configs and commands of checkouts.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from potstill.methods.engine import PublishedRun, Settings
from potstill.methods.trajectory._values import Published

Rows: TypeAlias = Mapping[tuple[int, int], Sequence[float | int | str | None]]


def _runs(source: str, fields: str, rows: Rows, **same: float | int) -> dict[tuple[int, int], PublishedRun]:
    """Return the runs of a table with one column for each field, ``None`` or nothing where a run does not name it."""
    names, runs = fields.split(), dict[tuple[int, int], PublishedRun]()
    for (classes, ipc), row in rows.items():
        settings: Settings = {n: value for n, value in zip(names, row, strict=False) if value is not None} | same
        data = {10: "CIFAR-10", 100: "CIFAR-100", 200: "TinyImageNet"}.get(classes, "")
        runs[classes, ipc] = PublishedRun(settings=settings, source=source.format(data=data, ipc=ipc))
    return runs


_COLUMNS = "student_steps expert_epochs max_start_epoch lr lr_lr lr_student "

_MTT = _runs("GeorgeCazenavette/mtt-distillation@50dccea readme.md, hyper-parameters", _COLUMNS + "batch", {
    (10, 1): (50, 2, 2, 100.0, 1e-7, 0.01),
    (10, 10): (30, 2, 20, 100.0, 1e-5, 1e-3),
    (10, 50): (30, 2, 40, 1000.0, 1e-5, 1e-3),
    (100, 1): (20, 3, 20, 1000.0, 1e-5, 0.01),
    (100, 10): (20, 2, 20, 1000.0, 1e-5, 0.01),
    (100, 50): (80, 2, 40, 1000.0, 1e-5, 0.01, 125),
    (200, 1): (10, 2, 10, 1e4, 1e-4, 0.01),
    (200, 10): (20, 2, 40, 1e4, 1e-4, 0.01, 200),
    (200, 50): (20, 2, 40, 1e4, 1e-4, 0.01, 300),
})  # fmt: skip
MTT: Published = _MTT

_HALVED = "justincui03/tesla@488842e README.md, commands; lr halved (see TESLA)"
TESLA: Published = _MTT | _runs(_HALVED, _COLUMNS + "batch", {
    (10, 1): (50, 2, 5, 500.0, 1e-7, 0.01),
    (100, 50): (80, 2, 40, 500.0, 1e-5, 0.01, 125),
    (1000, 1): (10, 3, 10, 5000.0, 1e-4, 0.01, 100),
})  # fmt: skip
"""MTT's settings where TESLA's README has no command."""

_VL = "princetonvisualai/multimodal_dataset_distillation@c696fd6 README.md, Flickr30k"
VL_DISTILL: Published = _runs(_VL, _COLUMNS + "batch", {(1, 100): (8, 1, 2, 1000.0, 1e-2, 0.1, 100)})
"""Pairs have no classes: the first number is 1, the second the pairs."""
_LORS = "silicx/LoRS_Distill@8a712af sh/distill_flickr_lors_{ipc}.sh"
LORS: Published = _runs(_LORS, _COLUMNS + "batch rank alpha lr_labels", {
    (1, 100): (8, 1, 2, 100.0, 1e-2, 0.1, 20, 10, 3.0, 10.0),
    (1, 200): (8, 1, 2, 1000.0, 1e-2, 0.1, 20, 5, 1.0, 10.0),
    (1, 500): (8, 1, 3, 1000.0, 1e-2, 0.1, 40, 20, 0.01, 100.0),
})  # fmt: skip
"""The scripts store one pair fewer, to pay for the similarity."""

_FIGURE = "AngusDujw/FTD-distillation@711532a docs/parameters.png"
FTD: Published = _runs(_FIGURE, _COLUMNS + "ema_decay gsam_alpha batch", {
    (10, 1): (50, 2, 2, 100.0, 1e-7, 0.01, 0.9999, 0.3),
    (10, 10): (30, 2, 20, 100.0, 1e-5, 1e-3, 0.9995, 0.3),
    (10, 50): (30, 2, 40, 1000.0, 1e-5, 0.01, 0.999, 1.0),
    (100, 1): (40, 3, 20, 1000.0, 1e-5, 0.01, 0.9995, 1.0),
    (100, 10): (20, 2, 40, 1000.0, 1e-5, 0.01, 0.9995, 1.0),
    (100, 50): (80, 2, 40, 1000.0, 1e-5, 0.01, 0.999, 1.0, 1000),
    (200, 1): (30, 2, 10, 1e4, 1e-4, 0.01, 0.999, 1.0),
    (200, 10): (20, 2, 40, 1e4, 1e-4, 0.01, 0.999, 1.0, 500),
})  # fmt: skip

_ALIGNED = (
    "student_steps expert_epochs min_start_epoch initial_start_epoch max_start_epoch expansion_end threshold batch "
    "lr lr_labels lr_lr init_from label_experts"
)
DATM: Published = _runs("NUS-HPC-AI-Lab/DATM@97ae510 configs/{data}/ConvIN/IPC{ipc}.yaml", _ALIGNED, {
    (10, 1): (80, 2, None, None, 4, None, 1.1, None, 100.0, 5.0, 1e-7),
    (10, 10): (80, 2, None, 10, 20, 1000, 1.0, None, 100.0, 2.0, 1e-5),
    (10, 50): (80, 2, None, 20, 40, 2000, 1.0, None, 1000.0, 2.0, 1e-5),
    (10, 500): (40, 2, 40, None, 60, None, 1.0, 1000, 50.0, 10.0, 1e-5),
    (10, 1000): (100, 2, 40, None, 60, None, 1.0, 1000, 50.0, 10.0, 1e-5),
    (100, 1): (40, 3, None, 10, 20, 1000, 1.0, None, 1000.0, 10.0, 1e-5),
    (100, 10): (80, 2, None, 30, 50, 2000, 1.0, 1000, 1000.0, 10.0, 1e-5),
    (100, 50): (80, 2, 20, None, 70, None, 1.0, 1000, 1000.0, 10.0, 1e-5, "real", 1),
    (100, 100): (80, 2, 30, None, 70, None, 1.0, 1000, 50.0, 10.0, 1e-5),
    (200, 1): (40, 2, None, 15, 20, 2000, 1.0, None, 1e4, 10.0, 1e-4),
    (200, 10): (40, 2, 10, None, 50, None, 1.0, 500, 100.0, 10.0, 1e-4),
    (200, 50): (20, 2, 40, None, 70, None, 1.0, 1000, 100.0, 10.0, 1e-4),
}, lr_student=0.01)  # fmt: skip

_DROP = {(10, 1): 0.0, (10, 50): 0.25, (100, 50): 0.0}
_OTHER: Mapping[tuple[int, int], Settings] = {
    (10, 50): {"expert_epochs": 3},
    (10, 500): {"initial_start_epoch": 60, "max_start_epoch": 70, "expansion_end": 2000},
    (100, 1): {"initial_start_epoch": 20, "max_start_epoch": 30},
}
"""Values of PAD's configs that differ from DATM's."""

PAD: Published = {
    run: PublishedRun(
        settings={**published.settings, **_OTHER.get(run, {}), "drop_ratio": _DROP.get(run, 0.5)},
        source=published.source.replace("DATM@97ae510", "PAD@2a4bc91"),
    )
    for run, published in DATM.items()
}

_TABLE = "NiaLiu/ATT@eec3176 figures/table.png; iterations, batch and decay: README.md, commands"
ATT: Published = _runs(_TABLE, _COLUMNS + "iterations ema_decay batch", {
    (10, 1): (80, 4, 2, 100.0, 1e-7, 0.01, 6000, 0.9999),
    (10, 10): (30, 2, 20, 1e4, 1e-4, 0.01, 60_000, 0.9999),
    (10, 50): (50, 2, 40, 100.0, 1e-5, 1e-3, 1_000_000, 0.999),
    (100, 1): (50, 4, 20, 500.0, 1e-5, 0.01, 3000, 0.9995),
    (100, 10): (20, 2, 40, 1000.0, 1e-5, 0.01, 200_000, 0.9995),
    (100, 50): (80, 2, 40, 1000.0, 1e-5, 0.01, 100_000, 0.999, 1200),
    (200, 1): (30, 2, 10, 1e4, 1e-4, 0.01, 10_000, 0.999),
    (200, 10): (20, 2, 40, 1e4, 1e-5, 1e-4, 80_000, 0.999),
})  # fmt: skip
"""The README's commands for Tiny-ImageNet are comments in it; at 10 per class they have another lr_lr (1e-6) and
lr_student (1e-3) than the figure."""

FORECAST_RUNS: Published = {
    (1, 1): PublishedRun(
        settings={
            "student_steps": 20, "expert_epochs": 2, "max_start_epoch": 4, "batch": 64, "lr": 0.1, "lr_student": 3e-4,
            "lr_lr": 0.0,
        },
        source="RafaDD/CondTSF@8e7c31c distill.py, defaults",
    )
}  # fmt: skip
"""CondTSF's, for forecasts."""
