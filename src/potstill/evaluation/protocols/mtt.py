"""``mtt``: how MTT, FTD, TESLA and ATT were measured (arXiv:2203.11932; evaluate_synset and distill.py of the code).

As ``dsa``: 1001 epochs of SGD with momentum 0.9 and weight decay 5e-4 in batches of 256, after epoch index 501 a tenth
of the rate and a new optimiser, per-sample DSA augmentation, last epoch, 5 networks. The rate is the one that was
**learned with the set**, which its card says; sets without one, and the baselines, have 0.01, at which it begins.

The published tables keep the best of the sets that one run of the distillation passed through (every 100 iterations),
by their accuracy on the test data. That is a choice among sets and no part of measuring one: it is not made here, so a
number under this protocol is not optimistic, and stands below a table's by what that choice gave. CIFAR is published
with ZCA whitening: give ``--zca`` where the set is made; its file then holds the whitening, and students and test data
are seen through it. FTD measures the moving average of its pictures: that is what its sets are.
"""

from potstill.evaluation.protocol import Case, ModelSelection, Protocol, Recipe

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="mtt",
    version=1,
    paper="arXiv:2203.11932",
    summary="MTT's recipe: 1001 epochs of SGD at the rate learned with the set, DSA augmentation, last epoch",
    students=5,
    cases=(Case(mirrored=False, augment="dsa-noflip"),),
    recipe=Recipe(
        epochs=1000,
        extra_epoch=True,
        schedule="drop",
        augment="dsa",
    ),
    selection=ModelSelection(
        lr_of_set=True,
    ),
)
