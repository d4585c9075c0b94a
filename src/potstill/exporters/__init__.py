"""Distilled sets in other formats: arrays, images, tables, Hugging Face, Croissant."""

from potstill.exporters.formats import export
from potstill.exporters.images import sheet

__all__ = ["export", "sheet"]
