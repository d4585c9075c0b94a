"""``datadam``: how DataDAM was measured (arXiv:2310.00093; main_DataDAM.py and utils.py of the published code).

As ``dsa``, with batch 64 and 1801 epochs: SGD at 0.01 with momentum 0.9 and weight decay 5e-4, after epoch index 901
the rate falls to a tenth and the optimiser is new; DSA's augmentation with parameters for each sample; the last
epoch counts.

**The student has batch norm**: the published code builds its ``ConvNet`` with batch norm whatever the default norm
says, so this protocol trains ``convnet-batch`` unless another network is asked for. Numbers beside those of ``dsa``
differ by norm and length, not by the set alone. The published ConvNet has depth 3; ours goes by the picture's size
(3 at 32).

The code flips digits too unless told otherwise; here, as under ``dsa``, they are not flipped. It also prints the
best of the sets that one distillation passes through, by test accuracy; that is no choice of this protocol's, which
measures the set that it is given. Published: 1 distilled set × 10 networks.
"""

from potstill.evaluation.protocol import Case, Protocol, Recipe

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="datadam",
    version=1,
    paper="arXiv:2310.00093",
    summary="DataDAM's recipe: 1801 epochs of SGD on a ConvNet with batch norm, DSA augmentation, last epoch",
    students=10,
    published_runs="1 distilled set x 10 networks",
    network="convnet-batch",
    cases=(Case(mirrored=False, augment="dsa-noflip"),),
    recipe=Recipe(
        batch=64,
        epochs=1800,
        extra_epoch=True,
        schedule="drop",
        augment="dsa",
    ),
)
