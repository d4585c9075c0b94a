"""Published settings of trajectory matching, with their sources.

Keys are (classes, items per class): 10 is CIFAR-10, 100 CIFAR-100, 200 Tiny-ImageNet, 1000 ImageNet-1K.
``benchmarks/fidelity_functions.py`` compares the tables with the configs and commands of checkouts.
"""

from collections.abc import Mapping

from potstill.methods.engine import PublishedRun, Settings
from potstill.methods.trajectory._values import Published

__all__ = ["ATT", "DATM", "FTD", "MTT", "PAD", "TESLA"]

_SMALL = {"lr_lr": 1e-5, "lr_student": 0.01}
_TINY = {"lr_lr": 1e-4, "lr_student": 0.01, "lr": 1e4}


def _from(source: str, runs: Mapping[tuple[int, int], Settings]) -> dict[tuple[int, int], PublishedRun]:
    return {run: PublishedRun(settings=settings, source=source) for run, settings in runs.items()}


_MTT = _from("GeorgeCazenavette/mtt-distillation@50dccea readme.md, hyper-parameters", {
    (10, 1): {
        "student_steps": 50, "expert_epochs": 2, "max_start_epoch": 2, "lr": 100.0, "lr_lr": 1e-7, "lr_student": 0.01,
    },
    (10, 10): {
        "student_steps": 30, "expert_epochs": 2, "max_start_epoch": 20, "lr": 100.0, "lr_lr": 1e-5, "lr_student": 1e-3,
    },
    (10, 50): {
        "student_steps": 30, "expert_epochs": 2, "max_start_epoch": 40, "lr": 1000.0, "lr_lr": 1e-5, "lr_student": 1e-3,
    },
    (100, 1): {"student_steps": 20, "expert_epochs": 3, "max_start_epoch": 20, "lr": 1000.0, **_SMALL},
    (100, 10): {"student_steps": 20, "expert_epochs": 2, "max_start_epoch": 20, "lr": 1000.0, **_SMALL},
    (100, 50): {"student_steps": 80, "expert_epochs": 2, "max_start_epoch": 40, "lr": 1000.0, "batch": 125, **_SMALL},
    (200, 1): {"student_steps": 10, "expert_epochs": 2, "max_start_epoch": 10, **_TINY},
    (200, 10): {"student_steps": 20, "expert_epochs": 2, "max_start_epoch": 40, "batch": 200, **_TINY},
    (200, 50): {"student_steps": 20, "expert_epochs": 2, "max_start_epoch": 40, "batch": 300, **_TINY},
})  # fmt: skip
MTT: Published = _MTT

TESLA: Published = _MTT | _from("justincui03/tesla@488842e README.md, commands; lr halved (see TESLA)", {
    (10, 1): {
        "student_steps": 50, "expert_epochs": 2, "max_start_epoch": 5, "lr": 500.0, "lr_lr": 1e-7, "lr_student": 0.01,
    },
    (100, 50): {**MTT[100, 50].settings, "lr": 500.0},
    (1000, 1): {
        "student_steps": 10, "expert_epochs": 3, "max_start_epoch": 10, "lr": 5000.0, "lr_lr": 1e-4, "lr_student": 0.01,
        "batch": 100,
    },
})  # fmt: skip
"""MTT's settings where TESLA's README has no command."""

_THOUSAND = {"lr": 1000.0, "gsam_alpha": 1.0, **_SMALL}

FTD: Published = _from("AngusDujw/FTD-distillation@711532a docs/parameters.png", {
    (10, 1): {
        "student_steps": 50, "expert_epochs": 2, "max_start_epoch": 2, "lr": 100.0, "lr_lr": 1e-7, "lr_student": 0.01,
        "gsam_alpha": 0.3, "ema_decay": 0.9999,
    },
    (10, 10): {
        "student_steps": 30, "expert_epochs": 2, "max_start_epoch": 20, "lr": 100.0, "lr_lr": 1e-5, "lr_student": 1e-3,
        "gsam_alpha": 0.3, "ema_decay": 0.9995,
    },
    (10, 50): {"student_steps": 30, "expert_epochs": 2, "max_start_epoch": 40, "ema_decay": 0.999, **_THOUSAND},
    (100, 1): {"student_steps": 40, "expert_epochs": 3, "max_start_epoch": 20, "ema_decay": 0.9995, **_THOUSAND},
    (100, 10): {"student_steps": 20, "expert_epochs": 2, "max_start_epoch": 40, "ema_decay": 0.9995, **_THOUSAND},
    (100, 50): {
        "student_steps": 80, "expert_epochs": 2, "max_start_epoch": 40, "batch": 1000, "ema_decay": 0.999, **_THOUSAND,
    },
    (200, 1): {
        "student_steps": 30, "expert_epochs": 2, "max_start_epoch": 10, "ema_decay": 0.999, "gsam_alpha": 1.0, **_TINY,
    },
    (200, 10): {
        "student_steps": 20, "expert_epochs": 2, "max_start_epoch": 40, "batch": 500, "ema_decay": 0.999,
        "gsam_alpha": 1.0, **_TINY,
    },
})  # fmt: skip

_LARGE = {"lr": 50.0, "lr_labels": 10.0, "min_start_epoch": 40, "max_start_epoch": 60, "batch": 1000, "lr_lr": 1e-5}
_HUNDRED = {"lr": 1000.0, "lr_labels": 10.0, "lr_lr": 1e-5}
_THIN = {"lr_labels": 10.0, "lr_lr": 1e-4}
_ALL = {"expert_epochs": 2, "threshold": 1.0, "lr_student": 0.01}
_REAL: Settings = {"init_from": "real", "label_experts": 1}


def _configs(repository: str, runs: Mapping[tuple[int, int], Settings]) -> Published:
    """Return the runs of a repository with one config file for each."""
    names = {10: "CIFAR-10", 100: "CIFAR-100", 200: "TinyImageNet"}
    return {
        (classes, ipc): PublishedRun(
            settings=settings, source=f"{repository} configs/{names[classes]}/ConvIN/IPC{ipc}.yaml"
        )
        for (classes, ipc), settings in runs.items()
    }


DATM: Published = _configs("NUS-HPC-AI-Lab/DATM@97ae510", {
    (10, 1): {
        **_ALL, "student_steps": 80, "lr": 100.0, "lr_labels": 5.0, "threshold": 1.1, "max_start_epoch": 4,
        "lr_lr": 1e-7,
    },
    (10, 10): {
        **_ALL, "student_steps": 80, "lr": 100.0, "lr_labels": 2.0, "initial_start_epoch": 10, "max_start_epoch": 20,
        "expansion_end": 1000, "lr_lr": 1e-5,
    },
    (10, 50): {
        **_ALL, "student_steps": 80, "lr": 1000.0, "lr_labels": 2.0, "initial_start_epoch": 20, "max_start_epoch": 40,
        "expansion_end": 2000, "lr_lr": 1e-5,
    },
    (10, 500): {**_ALL, "student_steps": 40, **_LARGE},
    (10, 1000): {**_ALL, "student_steps": 100, **_LARGE},
    (100, 1): {
        **_ALL, "student_steps": 40, "expert_epochs": 3, "initial_start_epoch": 10, "max_start_epoch": 20,
        "expansion_end": 1000, **_HUNDRED,
    },
    (100, 10): {
        **_ALL, "student_steps": 80, "initial_start_epoch": 30, "max_start_epoch": 50, "expansion_end": 2000,
        "batch": 1000, **_HUNDRED,
    },
    (100, 50): {
        **_ALL, "student_steps": 80, "min_start_epoch": 20, "max_start_epoch": 70, "batch": 1000, **_HUNDRED, **_REAL,
    },
    (100, 100): {
        **_ALL, "student_steps": 80, "min_start_epoch": 30, "max_start_epoch": 70, "batch": 1000, **_HUNDRED,
        "lr": 50.0,
    },
    (200, 1): {
        **_ALL, "student_steps": 40, "lr": 1e4, "initial_start_epoch": 15, "max_start_epoch": 20,
        "expansion_end": 2000, **_THIN,
    },
    (200, 10): {
        **_ALL, "student_steps": 40, "lr": 100.0, "min_start_epoch": 10, "max_start_epoch": 50, "batch": 500, **_THIN,
    },
    (200, 50): {
        **_ALL, "student_steps": 20, "lr": 100.0, "min_start_epoch": 40, "max_start_epoch": 70, "batch": 1000, **_THIN,
    },
})  # fmt: skip

_DROP = {(10, 1): 0.0, (10, 50): 0.25, (100, 50): 0.0}
_OTHER: Mapping[tuple[int, int], Settings] = {
    (10, 50): {"expert_epochs": 3},
    (10, 500): {"initial_start_epoch": 60, "max_start_epoch": 70, "expansion_end": 2000},
    (100, 1): {"initial_start_epoch": 20, "max_start_epoch": 30},
}
"""Values of PAD's configs that differ from DATM's."""

PAD: Published = _configs("NUS-HPC-AI-Lab/PAD@2a4bc91", {
    run: {**published.settings, **_OTHER.get(run, {}), "drop_ratio": _DROP.get(run, 0.5)} for run,
    published in DATM.items()
})  # fmt: skip

_TABLE = "NiaLiu/ATT@eec3176 figures/table.png; iterations, batch and decay: README.md, commands"

ATT: Published = _from(_TABLE, {
    (10, 1): {
        "student_steps": 80, "expert_epochs": 4, "max_start_epoch": 2, "lr": 100.0, "lr_lr": 1e-7, "lr_student": 0.01,
        "iterations": 6000, "ema_decay": 0.9999,
    },
    (10, 10): {
        "student_steps": 30, "expert_epochs": 2, "max_start_epoch": 20, "lr": 1e4, "lr_lr": 1e-4, "lr_student": 0.01,
        "iterations": 60_000, "ema_decay": 0.9999,
    },
    (10, 50): {
        "student_steps": 50, "expert_epochs": 2, "max_start_epoch": 40, "lr": 100.0, "lr_lr": 1e-5, "lr_student": 1e-3,
        "iterations": 1_000_000, "ema_decay": 0.999,
    },
    (100, 1): {
        "student_steps": 50, "expert_epochs": 4, "max_start_epoch": 20, "lr": 500.0, **_SMALL, "iterations": 3000,
        "ema_decay": 0.9995,
    },
    (100, 10): {
        "student_steps": 20, "expert_epochs": 2, "max_start_epoch": 40, "lr": 1000.0, **_SMALL, "iterations": 200_000,
        "ema_decay": 0.9995,
    },
    (100, 50): {
        "student_steps": 80, "expert_epochs": 2, "max_start_epoch": 40, "lr": 1000.0, "batch": 1200, **_SMALL,
        "iterations": 100_000, "ema_decay": 0.999,
    },
    (200, 1): {
        "student_steps": 30, "expert_epochs": 2, "max_start_epoch": 10, **_TINY, "iterations": 10_000,
        "ema_decay": 0.999,
    },
    (200, 10): {
        "student_steps": 20, "expert_epochs": 2, "max_start_epoch": 40, "lr": 1e4, "lr_lr": 1e-5, "lr_student": 1e-4,
        "iterations": 80_000, "ema_decay": 0.999,
    },
})  # fmt: skip
"""The README's commands for Tiny-ImageNet are comments in it; at 10 per class they have another lr_lr (1e-6) and
lr_student (1e-3) than the figure."""
