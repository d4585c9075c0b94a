"""``rded``: how RDED was measured on small pictures (arXiv:2312.03526; argument.py, validation of the published code).

300 epochs of AdamW (rate 1e-3, weight decay 0.01 on tensors of more than one axis only); batch 10, 50 or 100 from 1, 10
or 50 pictures per class on, twice that from 100 classes on, and never more than the set has; flips; every batch mixed
by CutMix. The teacher labels the mixed batch; divergence at temperature 20 without T². The rate is set every epoch
along **half** of a cosine's fall: (1 + cos(πe/2E))/2, so that it ends at half of where it began.

**Optimistic**: the best of the looks at the test data in the last fifth of the epochs counts (every ten epochs);
``select="last"`` gives the last.

Left out: for sets whose pictures hold several crops the code also shuffles patches and crops
(``augment="patches"`` does that for 2×2); its extra pass of the student in training mode, which only logs an accuracy
but moves BatchNorm's running statistics a second time; other rates for other students (ConvNet on CIFAR-100 0.002 and
batch 25, AlexNet and transformers 1e-4, VGG 5e-4, MobileNet 0.0025, EfficientNet 0.002). The teacher is trained as for
``sre2l-cifar``; the publication's were made by its authors.
"""

from potstill.evaluation.protocol import ModelSelection, Protocol, Recipe, Teaching

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="rded",
    version=1,
    paper="arXiv:2312.03526",
    summary="RDED's recipe: a teacher labels every CutMix batch, KL at T = 20, half a cosine, best late epoch on test",
    optimistic=True,
    students=3,
    network="resnet18-batch",
    recipe=Recipe(
        lr=(0.001,),
        optimizer="adamw",
        weight_decay=0.01,
        decay="matrices",
        batch=100,
        batch_by_ipc=((1, 10), (10, 50), (50, 100)),
        epochs=300,
        schedule="half-cosine",
        rate_per="epoch",
        augment="flip",
        mix="cutmix",
        mix_prob=1.0,
    ),
    teaching=Teaching(
        labels="teacher",
        loss="kl",
        temperature=20.0,
    ),
    selection=ModelSelection(
        select="best-on-test",
        test_every=10,
        test_from=0.8,
    ),
)
