"""What people do with the parts of distillation beside distilling."""

from potstill.applications.active import ACQUISITIONS, Acquisition, ActiveRun, Round, active
from potstill.applications.boxes import select_images
from potstill.applications.label_cost import label_cost

__all__ = ["ACQUISITIONS", "Acquisition", "ActiveRun", "Round", "active", "label_cost", "select_images"]
