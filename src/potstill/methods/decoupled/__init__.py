"""Decoupled methods: pictures are made to please frozen teachers. A new one says its `Recovery`: see `sre2l`."""

from potstill.methods.decoupled._recover import Recovering, Recovery
from potstill.methods.decoupled._state import RecoverState
from potstill.methods.decoupled._teachers import Labeller, Member, Taught, Teachers

__all__ = ["Labeller", "Member", "RecoverState", "Recovering", "Recovery", "Taught", "Teachers"]
