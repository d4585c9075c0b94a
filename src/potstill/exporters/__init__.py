"""Exporters of a distilled set: arrays, images, tables, Hugging Face, Croissant."""

from potstill.exporters.formats import export
from potstill.exporters.graphslim import to_geometric
from potstill.exporters.hugging_face import push_to_hub, to_hf
from potstill.exporters.images import contact_sheet
from potstill.exporters.table_rows import to_pandas

__all__ = ["contact_sheet", "export", "push_to_hub", "to_geometric", "to_hf", "to_pandas"]
