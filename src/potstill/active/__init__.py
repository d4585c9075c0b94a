"""Active learning: selection of samples to label, their cost, and selection of detection images."""

from potstill.active.detection import select_images
from potstill.active.label_cost import label_cost
from potstill.active.learning import ACQUISITIONS, Acquisition, ActiveRun, Round, active_learning

__all__ = ["ACQUISITIONS", "Acquisition", "ActiveRun", "Round", "active_learning", "label_cost", "select_images"]
