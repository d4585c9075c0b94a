"""Selection of instructions for a target: prompts with responses, chosen by gradients of a small language model."""

from potstill.uses.instructions.records import Records, read_records
from potstill.uses.instructions.run import WAYS, select_instructions
from potstill.uses.instructions.settings import Settings

__all__ = ["WAYS", "Records", "Settings", "read_records", "select_instructions"]
