"""Distilled sets in other formats: arrays, images, tables, Hugging Face, Croissant."""

from potstill.export.formats import export
from potstill.export.images import sheet

__all__ = ["export", "sheet"]
