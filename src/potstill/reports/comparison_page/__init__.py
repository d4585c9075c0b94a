"""Comparison page: every method at every size, its cost, and the conclusions."""

from potstill.reports.comparison_page.board import Board, Row, read_board
from potstill.reports.comparison_page.image_wall import NearestReal
from potstill.reports.comparison_page.page import render_board, render_waiting
from potstill.reports.comparison_page.pca_map import PcaMap, RealProjection

__all__ = ["Board", "NearestReal", "PcaMap", "RealProjection", "Row", "read_board", "render_board", "render_waiting"]
