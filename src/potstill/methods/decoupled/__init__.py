"""Decoupled methods: images are recovered from frozen teachers. A new method returns a `Recovery`: see `sre2l`."""

from potstill.methods.decoupled._recover import Recovery, RecoverySettings
from potstill.methods.decoupled._state import RecoverState
from potstill.methods.decoupled._teachers import Labeller, TeacherConfig, TeacherEnsemble, TeacherNetwork

__all__ = [
    "Labeller", "RecoverState", "Recovery", "RecoverySettings", "TeacherConfig", "TeacherEnsemble",
    "TeacherNetwork",
]  # fmt: skip
