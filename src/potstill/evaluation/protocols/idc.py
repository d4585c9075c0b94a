"""``idc``: how IDC was measured (arXiv:2205.14959; argument.py, train.py and test.py of the published code).

SGD at 0.01 with momentum 0.9 and weight decay 5e-4, batch 64, 1000 epochs; the rate falls to a fifth after 2/3 and
again after 5/6 of the epochs, and momentum goes on. Every batch is flipped, recoloured and cropped, scaled or
rotated, each sample on its own (digits are not flipped); then, with probability 1/2, it is mixed by CutMix with an
even share. The cutout of the published strategy is struck out wherever CutMix is used.

**Optimistic**: the code looks at the test data after each quarter of the epochs and prints the best of the four
beside the last; here the best counts. ``select="last"`` gives the last. The student is IDC's ConvNet (depth 3, width
128, instance norm), our ``convnet``. Sets of several formations are decoded before they are trained on.

What the code does besides, and a protocol here cannot tell, as it knows the data and not how the set is stored:

- MNIST at a factor above 1 and SVHN at factor 1 with one picture per class are trained on without CutMix
  (``mix="none"``); that SVHN keeps cutout.
- From 50 pictures per class on, at a factor above 1, the DenseNet of the cross-architecture table is trained for 400
  epochs.
- ImageNet (224 pixels, ResNetAP-10) has other augmentation (random resized crops, flips, colour jitter, PCA noise),
  CutMix on every batch, and E epochs by the number of decoded pictures per class: 1: 3000, up to 10: 2000, up to 50:
  1500, up to 200: 1000, up to 500: 500, else 300, with 100 classes 2/3 of that, rounded down to hundreds, and then at
  rate 0.1, weight decay 1e-4 and batch 128. That recipe is not offered.

Published: the README evaluates 1 distilled set × 3 networks.
"""

from potstill.evaluation.protocol import Case, ModelSelection, Protocol, Recipe

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="idc",
    version=1,
    paper="arXiv:2205.14959",
    summary="IDC's recipe: 1000 epochs of SGD with IDC's augmentation and CutMix, best of 4 epochs on test",
    optimistic=True,
    students=3,
    published_runs="1 distilled set x 3 networks",
    cases=(Case(mirrored=False, augment="idc-eval-noflip"),),
    recipe=Recipe(
        batch=64,
        epochs=1000,
        schedule="steps",
        milestones=(2 / 3, 5 / 6),
        drop_factor=0.2,
        reset_momentum=False,
        augment="idc-eval",
        mix="cutmix",
    ),
    selection=ModelSelection(
        select="best-on-test",
        test_every=250,
    ),
)
