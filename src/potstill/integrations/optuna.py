"""Optuna's face of a set: settings of your own training are tried on the small set, which takes seconds.

Nothing here needs Optuna itself: `Objective` is called with a trial and returns a number.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from potstill.core import Source, Splits
from potstill.data.subset import SourceView
from potstill.dataset_file import Distilled, load
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import held_out_indices
from potstill.evaluation.fitting import check_compatible
from potstill.runs.load_data import as_splits, pick_device
from potstill.tasks import Classification, get_targets, get_task

__all__ = ["Objective"]


class Objective:
    """Objective of an Optuna study: the score on real samples of what ``fit`` trained on the small set.

    The test part is never touched. Of ``data`` with splits, the judges are samples of the training part: the set was
    made of them, so that scores flatter, all settings alike. Where that is not enough, hold a part out before the set
    is made and give that part, a source, as ``data``.

    Attributes:
        direction: ``maximize`` or ``minimize``, for ``optuna.create_study``.

    Args:
        small: a set, or its path.
        data: anything ``load_data`` takes, what it returned, or one source to judge with.
        fit: called with the trial and the set; returns what predicts: a ``torch.nn.Module`` or a function of inputs
            (n, …), normalised as the set's are, that returns classes (n,) or scores (n, k), as a tensor or an array.
        samples: judge with at most about so many.
        seed: decides which.
    """

    def __init__(
        self,
        small: Distilled | str | Path,
        data: Any,
        fit: Callable[[Any, Distilled], Any],
        *,
        samples: int = 2000,
        seed: int = 0,
    ) -> None:
        """
        Raises:
            PotstillError: the set or the data cannot be read, or they are of other shapes.
        """
        self._small, self._fit = small if isinstance(small, Distilled) else load(small), fit
        alone = isinstance(data, Source) and not isinstance(data, Splits)
        source: Source = data.to("cpu") if alone else as_splits(data, pick_device("cpu")).train
        check_compatible(self._small, source)
        index = held_out_indices(source, seed, max_samples=samples)
        batch = SourceView.of(source, self._small.normalization).fetch(index)
        self._x, self._y = batch.x, get_targets(source)[index].cpu()
        self._task = get_task(source)
        self.direction = "maximize" if self._task.metric.sign > 0 else "minimize"

    def __call__(self, trial: Any) -> float:
        """The score of what ``fit`` makes with a trial's settings.

        Raises:
            PotstillError: it predicts something else than one answer for each sample.
        """
        model = self._fit(trial, self._small)
        if isinstance(model, nn.Module):
            model.eval()
        with torch.no_grad():
            said = model(self._x)
        answers: Tensor = (said if isinstance(said, Tensor) else torch.from_numpy(np.asarray(said))).cpu()
        if isinstance(self._task, Classification) and answers.ndim == 2:
            answers = answers.argmax(1)
        if len(answers) != len(self._y) or (isinstance(self._task, Classification) and answers.ndim != 1):
            raise PotstillError(
                f"what fit returns must answer {len(self._y)} inputs with classes (n,) or scores (n, k), but it "
                f"answers {tuple(answers.shape)}"
            )
        return self._task.score(answers, self._y)
