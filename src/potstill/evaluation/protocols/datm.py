"""``datm``: DATM, PAD and EDF by their published configurations (arXiv:2310.05773; distill/DATM.py, configs/).

The same training as ``datm-soft``: 1001 epochs of SGD in batches of 128 at the rate learned with the set (0.01 where
there is none), soft cross-entropy with the set's own rows, DSA augmentation, last epoch. What differs is how many
networks are trained on a set: the configurations test **one** (``num_eval: 1``), ``datm-soft`` five, the default of the
code. A number here stands for what a published table has and says little of its spread: report ``datm-soft``.

The published tables keep the best of the sets that a run passed through (every 500 iterations) by their accuracy on the
test data: a choice among sets that is not made here (see ``mtt``), and which with one network is the more optimistic.
"""

from dataclasses import replace

from potstill.evaluation.protocols.datm_soft import PROTOCOL as SOFT

__all__ = ["PROTOCOL"]

PROTOCOL = replace(
    SOFT,
    name="datm",
    version=1,
    summary="DATM's configurations: as datm-soft, on one network as the published tables have it",
    students=1,
)
