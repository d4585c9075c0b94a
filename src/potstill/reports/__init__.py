"""HTML pages and plots of results: JSON, metadata and a few images. Nothing here imports torch."""

from potstill.reports.collect import collect, read_set
from potstill.reports.law import draw_law
from potstill.reports.page import Entry, Gallery, render, write
from potstill.reports.snapshots import Snapshots, load_snapshots

__all__ = ["Entry", "Gallery", "Snapshots", "collect", "draw_law", "load_snapshots", "read_set", "render", "write"]
