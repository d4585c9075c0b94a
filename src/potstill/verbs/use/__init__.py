"""What people do with the parts of distillation beside distilling."""

from potstill.verbs.use.active import ACQUISITIONS, Acquisition, ActiveRun, Round, active
from potstill.verbs.use.boxes import select_images
from potstill.verbs.use.label_cost import label_cost

__all__ = ["ACQUISITIONS", "Acquisition", "ActiveRun", "Round", "active", "label_cost", "select_images"]
