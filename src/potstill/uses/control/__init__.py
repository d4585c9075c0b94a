"""Behaviour distillation: a few pairs of a state and an action from which a policy learns to act in a simulator."""

from potstill.uses.control.environment import Environment
from potstill.uses.control.logs import Log, read_log
from potstill.uses.control.offline import distil_log
from potstill.uses.control.policies import Cloning, PolicyShape
from potstill.uses.control.run import control
from potstill.uses.control.search import Evolution

__all__ = ["Cloning", "Environment", "Evolution", "Log", "PolicyShape", "control", "distil_log", "read_log"]
