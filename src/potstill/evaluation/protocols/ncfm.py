"""``ncfm``: how NCFM was measured (arXiv:2502.20653; condenser/evaluate.py and config/ of the published code).

AdamW at 0.001, batch 128, 2000 epochs; the rate is halved after each fifth of the epochs. The configuration's weight
decay of 5e-4 never reaches AdamW, which so has torch's default of 0.01. Augmentation and CutMix are IDC's (see
``idc``).

**Optimistic**: each network counts with its best epoch on the test data, which are looked at after every 100 epochs
and after the last. ``select="last"`` gives the last.

Tiny-ImageNet is published with 2000 epochs at 1, 300 at 10 and 40 at 50 pictures per class, looked at every 100, 50
and 5 epochs. A protocol knows the data and not the size: here Tiny-ImageNet has 300 and 50, override the others. The
student is the ConvNet with instance norm, of depth 3 (Tiny-ImageNet: 4, subsets of ImageNet at 128 pixels: 5), our
``convnet``. Several GPUs share a batch in the published code, and each then draws its own augmentation; here a batch
is one. Soft labels of a teacher, which the code offers as an option, come here with the set or not at all.
Published: 10 networks (ImageNet: 3) on one distilled set. No digits are published; they are not flipped.
"""

from potstill.evaluation.protocol import Case, ModelSelection, Protocol, Recipe

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="ncfm",
    version=1,
    paper="arXiv:2502.20653",
    summary="NCFM's recipe: 2000 epochs of AdamW with IDC's augmentation and CutMix, best of 20 epochs on test",
    optimistic=True,
    students=10,
    published_runs="1 distilled set x 10 networks",
    cases=(
        Case(sources=("tiny-imagenet", "tiny-imagenet-200", "tinyimagenet"), epochs=300, test_every=50),
        Case(mirrored=False, augment="idc-eval-noflip"),
    ),
    recipe=Recipe(
        lr=(0.001,),
        optimizer="adamw",
        weight_decay=0.01,
        batch=128,
        epochs=2000,
        schedule="steps",
        milestones=(0.2, 0.4, 0.6, 0.8),
        drop_factor=0.5,
        reset_momentum=False,
        augment="idc-eval",
        mix="cutmix",
    ),
    selection=ModelSelection(
        select="best-on-test",
        test_every=100,
    ),
)
