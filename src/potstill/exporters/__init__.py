"""Distilled sets in other formats: arrays, images, tables, Hugging Face, Croissant."""

from potstill.exporters.formats import export
from potstill.exporters.images import contact_sheet

__all__ = ["contact_sheet", "export"]
