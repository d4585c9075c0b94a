"""What people do with the parts of distillation beside distilling."""

from potstill.active.detection import select_images
from potstill.active.label_cost import label_cost
from potstill.active.learning import ACQUISITIONS, Acquisition, ActiveRun, Round, active_learning

__all__ = ["ACQUISITIONS", "Acquisition", "ActiveRun", "Round", "active_learning", "label_cost", "select_images"]
