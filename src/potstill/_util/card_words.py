"""Dictionary that the metadata of files are compressed with: words of typical metadata.

It is frozen: with other bytes the files that were written before cannot be read.
"""

from functools import cache
from pathlib import Path

__all__ = ["card_words"]


@cache
def card_words() -> bytes:
    """Return the dictionary, UTF-8."""
    return Path(__file__).with_name("card_words.txt").read_bytes()
