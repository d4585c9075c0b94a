"""``no-distillation``: how random pictures with soft labels were measured (arXiv:2406.10485; softlabel/ of the code).

3001 epochs of SGD (rate 0.01, momentum 0.9, weight decay 5e-4), batch 256; the rate is times 0.3 after each quarter of
3000 epochs, so a fourth time for the epoch beyond. Per-sample DSA augmentation; cross-entropy with the set's own rows,
at the temperature that they have (1 as published). Sets of ``random-soft`` are what it was made for.

**Optimistic**: the code tests every 200 epochs and after the last, and reports the best; ``select="last"`` gives the
last. Its looks come one epoch later than ours.

Tiny-ImageNet is published with 1000 epochs, and at a rate of 0.1 from 10 pictures per class on; ImageNet-1K with AdamW
at 1e-3 to 5e-3 along a cosine; CIFAR-10 with ZCA whitening. Override these.
"""

from potstill.evaluation.protocol import Case, ModelSelection, Protocol, Recipe

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="no-distillation",
    version=1,
    paper="arXiv:2406.10485",
    summary="Random pictures' recipe: 3001 epochs of SGD on soft labels with DSA, best of 16 epochs on test",
    optimistic=True,
    students=5,
    cases=(
        Case(sources=("tiny-imagenet", "tiny-imagenet-200", "tinyimagenet"), epochs=1000),
        Case(mirrored=False, augment="dsa-noflip"),
    ),
    recipe=Recipe(
        epochs=3000,
        extra_epoch=True,
        schedule="steps",
        milestones=(0.25, 0.5, 0.75, 1.0),
        drop_factor=0.3,
        reset_momentum=False,
        augment="dsa",
    ),
    selection=ModelSelection(
        select="best-on-test",
        test_every=200,
    ),
)
