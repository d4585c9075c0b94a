r"""GraNd: samples with the largest gradient early in training.

Paul et al., "Deep Learning on a Data Diet", NeurIPS 2021, arXiv:2107.07075, definition 2.1.

.. math::
    s(x, y) = \mathbb{E}_w \lVert \nabla_w \ell(p(w, x), y) \rVert_2

The expectation is over networks trained for a few epochs from different initial weights (the paper: ten); only those
epochs are trained, on the schedule of the whole training. The norm over all parameters is exact: per-sample gradients
(``torch.func``) in evaluation mode; ``gradients="last-layer"`` takes the classifier's part alone,
:math:`\lVert p - y \rVert \sqrt{\lVert h \rVert^2 + 1}`, at the cost of a forward pass. At initialisation the score
says nothing (Kirsch, arXiv:2303.14753), so the earliest epoch here is the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from potstill.core import Asset, MethodInfo, Problem
from potstill.data.real_data import RealData
from potstill.functional.gradient_norms import gradient_norms, last_layer_norms
from potstill.methods.engine import load_network, require_tensor
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import RecordScore, get_record
from potstill.pretraining.training_dynamics import check_snapshot_epoch, snapshot_epochs

__all__ = ["GraNd"]


CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class GraNd(RecordScore):
    """Real samples with the largest gradient early in training."""

    info: ClassVar[MethodInfo] = selection_info(
        "GraNd: gradient norm early in training",
        "arXiv:2107.07075",
        2021,
        class_independence="deletion",
        use_when="Take it as el2n, where the last layer's error is not enough and the gradient of all parameters may "
        "be paid for.",
        avoid_when="Never take it for small sets or noisy labels; el2n costs less and reached the same accuracy here.",
        related=("el2n", "craig", "pad"),
    )

    runs: int = 5
    """Independent trainings, over which the norm is averaged (the paper: 10)."""
    epoch: int = 2
    """Epoch after which the norm is taken, one of those whose network is saved: 1, 2, 5, 10, 20, … (the paper: 20 of
    200)."""
    gradients: Literal["full", "last-layer"] = "full"
    """Norm over all parameters, exactly, or over the classifier alone."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        if "scores" in problem.assets:
            return ()
        record = self.record_asset(until=self.epoch)
        check_snapshot_epoch(self.epoch, snapshot_epochs(self.record_epochs))
        return (record,)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        record = get_record(problem)
        total = torch.zeros(len(problem.train))
        for run in range(self.runs):
            weights = record.network(run, self.epoch)
            net = load_network(problem, weights.seed, weights.parameters, weights.buffers).eval()
            for at in torch.split(torch.arange(len(problem.train)), CHUNK):
                batch = RealData.of(problem).batch(at)
                assert batch.y is not None  # its record could not have been made
                x, y = require_tensor(batch.x), batch.y
                norms = gradient_norms(net, x, y) if self.gradients == "full" else last_layer_norms(net, x, y)
                total[at] += norms.cpu() / self.runs
        return {"grand": total}
