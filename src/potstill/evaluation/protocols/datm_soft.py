"""``datm-soft``: how DATM was measured (arXiv:2310.05773; evaluate_synset and evaluation.py of the published code).

As ``dsa`` in batches of 128: 1001 epochs of SGD with momentum 0.9 and weight decay 5e-4, after epoch index 501 a tenth
of the rate and a new optimiser, per-sample DSA augmentation, last epoch. Labels are the set's own rows, in a soft
cross-entropy; a set of classes is trained on as such. The rate is the one that was **learned with the set**, which its
card says; sets without one, and the baselines, have 0.01, at which DATM's rate begins.

The published tables keep the best of the sets that one run of the distillation passed through, by their accuracy on the
test data, which is not part of measuring a set. CIFAR is published with ZCA whitening: give ``--zca`` where the set is
made. The published configurations test one network, the code's default is five.
"""

from potstill.evaluation.protocol import Case, ModelSelection, Protocol, Recipe

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="datm-soft",
    version=1,
    paper="arXiv:2310.05773",
    summary="DATM's recipe: 1001 epochs of SGD at the rate learned with the set, soft labels, DSA, last epoch",
    students=5,
    published_runs="1 distilled set x 1 network",
    cases=(Case(mirrored=False, augment="dsa-noflip"),),
    recipe=Recipe(
        batch=128,
        epochs=1000,
        extra_epoch=True,
        schedule="drop",
        augment="dsa",
    ),
    selection=ModelSelection(
        lr_of_set=True,
    ),
)
