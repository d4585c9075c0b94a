"""Settings that papers leave to a table by data and budget, of methods whose tables others begin with.

A run is (classes, items per class); what a field means stands in `potstill.methods.trajectory._values`.
"""

from potstill.methods.trajectory._values import Published

__all__ = ["DATM", "MTT"]

_SMALL = {"lr_rate": 1e-5, "lr_student": 0.01}
_TINY = {"lr_rate": 1e-4, "lr_student": 0.01, "lr": 1e4}

MTT: Published = {
    (10, 1): {"student_steps": 50, "ahead": 2, "start_until": 2, "lr": 100.0, "lr_rate": 1e-7, "lr_student": 0.01},
    (10, 10): {"student_steps": 30, "ahead": 2, "start_until": 20, "lr": 100.0, "lr_rate": 1e-5, "lr_student": 1e-3},
    (10, 50): {"student_steps": 30, "ahead": 2, "start_until": 40, "lr": 1000.0, "lr_rate": 1e-5, "lr_student": 1e-3},
    (100, 1): {"student_steps": 20, "ahead": 3, "start_until": 20, "lr": 1000.0, **_SMALL},
    (100, 10): {"student_steps": 20, "ahead": 2, "start_until": 20, "lr": 1000.0, **_SMALL},
    (100, 50): {"student_steps": 80, "ahead": 2, "start_until": 40, "lr": 1000.0, "batch": 125, **_SMALL},
    (200, 1): {"student_steps": 10, "ahead": 2, "start_until": 10, **_TINY},
    (200, 10): {"student_steps": 20, "ahead": 2, "start_until": 40, "batch": 200, **_TINY},
    (200, 50): {"student_steps": 20, "ahead": 2, "start_until": 40, "batch": 300, **_TINY},
}
"""CIFAR-10, CIFAR-100 and Tiny-ImageNet at 1, 10 and 50 per class (the README's table and its scripts)."""

_LARGE = {"lr": 50.0, "lr_labels": 10.0, "start_from": 40, "start_until": 60, "batch": 1000, "lr_rate": 1e-5}
_HUNDRED = {"lr": 1000.0, "lr_labels": 10.0, "lr_rate": 1e-5}
_THIN = {"lr_labels": 10.0, "lr_rate": 1e-4}
_ALL = {"ahead": 2, "threshold": 1.0, "lr_student": 0.01}

DATM: Published = {
    (10, 1): {
        **_ALL, "student_steps": 80, "lr": 100.0, "lr_labels": 5.0, "threshold": 1.1, "start_until": 4, "lr_rate": 1e-7,
    },
    (10, 10): {
        **_ALL, "student_steps": 80, "lr": 100.0, "lr_labels": 2.0, "start_first": 10, "start_until": 20,
        "expansion": 1000, "lr_rate": 1e-5,
    },
    (10, 50): {
        **_ALL, "student_steps": 80, "lr": 1000.0, "lr_labels": 2.0, "start_first": 20, "start_until": 40,
        "expansion": 2000, "lr_rate": 1e-5,
    },
    (10, 500): {**_ALL, "student_steps": 40, **_LARGE},
    (10, 1000): {**_ALL, "student_steps": 100, **_LARGE},
    (100, 1): {
        **_ALL, "student_steps": 40, "ahead": 3, "start_first": 10, "start_until": 20, "expansion": 1000, **_HUNDRED,
    },
    (100, 10): {
        **_ALL, "student_steps": 80, "start_first": 30, "start_until": 50, "expansion": 2000, "batch": 1000, **_HUNDRED,
    },
    (100, 50): {**_ALL, "student_steps": 80, "start_from": 20, "start_until": 70, "batch": 1000, **_HUNDRED},
    (100, 100): {
        **_ALL, "student_steps": 80, "start_from": 30, "start_until": 70, "batch": 1000, **_HUNDRED, "lr": 50.0,
    },
    (200, 1): {
        **_ALL, "student_steps": 40, "lr": 1e4, "start_first": 15, "start_until": 20, "expansion": 1000, **_THIN,
    },
    (200, 10): {**_ALL, "student_steps": 40, "lr": 100.0, "start_from": 10, "start_until": 50, "batch": 500, **_THIN},
    (200, 50): {**_ALL, "student_steps": 20, "lr": 100.0, "start_from": 40, "start_until": 70, "batch": 1000, **_THIN},
}  # fmt: skip
"""The repository's configs: CIFAR-10, CIFAR-100 and Tiny-ImageNet. Where one says no value here, its neighbour's."""
