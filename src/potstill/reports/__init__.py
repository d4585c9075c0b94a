"""Pages and tables made of results: JSON, cards and a few pictures. Nothing here imports torch."""

from potstill.reports.collect import collect, read_set
from potstill.reports.law import law_plot
from potstill.reports.page import Entry, Gallery, render, write
from potstill.reports.snapshots import Film, film_beside

__all__ = ["Entry", "Film", "Gallery", "collect", "film_beside", "law_plot", "read_set", "render", "write"]
