"""Methods of the decoupled family as the toy problem's pictures settle them."""

from typing import Any, TypeVar

from potstill.core import Method
from potstill.testing import toy_problem

M = TypeVar("M", bound=Method[Any])


def at_toy(method: M) -> M:
    """With what it leaves to the data: the settings for four classes of 8×8 pictures."""
    return method.settled(toy_problem())[0]
