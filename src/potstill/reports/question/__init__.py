"""The page for a whole question: every method at every size, what each costs, and what may be said of them."""

from potstill.reports.question.among import Among, Real
from potstill.reports.question.board import Board, Row, read_board
from potstill.reports.question.page import render_board, waiting
from potstill.reports.question.walls import Near

__all__ = ["Among", "Board", "Near", "Real", "Row", "read_board", "render_board", "waiting"]
