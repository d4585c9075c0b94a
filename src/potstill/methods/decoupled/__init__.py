"""Decoupled methods: pictures are made to please frozen teachers. A new one derives from `Recover`."""

from potstill.methods.decoupled._recover import Recover
from potstill.methods.decoupled._state import RecoverState
from potstill.methods.decoupled._teachers import Member, Taught

__all__ = ["Member", "Recover", "RecoverState", "Taught"]
