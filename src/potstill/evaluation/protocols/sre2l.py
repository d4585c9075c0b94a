"""``sre2l``: how SRe2L was measured on ImageNet-1K (arXiv:2306.13092; validate/train_FKD of the published code).

300 epochs of AdamW (rate 1e-3, weight decay 0.01 on tensors of more than one axis only), batch 1024, the rate set every
epoch along a cosine to zero; each picture cropped (8 to 100 % of its area), perhaps mirrored, every batch mixed by
CutMix with an even share. The teacher labels what results; the loss is the divergence of the softmaxes at temperature
20, **without** the factor T² (in the published code that line is commented out).

**Optimistic**: the code tests every ten epochs and reports the best; ``select="last"`` gives the last.

The published program stores the teacher's logits in half precision for every epoch and crop beforehand; here the
teacher answers as the batch is made, which gives the same labels without the rounding. Its gradient accumulation (two
half batches) is one batch here. The teacher of the publication is torchvision's; here one is trained on the training
data by the recipe that the same repository gives for CIFAR (SGD 0.1, momentum 0.9, weight decay 5e-4, cosine, 200
epochs, batch 128). It has the student's architecture, ResNet-18 with BatchNorm, whose stem is that for small pictures.
"""

from potstill.evaluation.protocol import ModelSelection, Protocol, Recipe, Teaching

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="sre2l",
    version=1,
    paper="arXiv:2306.13092",
    summary="SRe2L's ImageNet recipe: a teacher labels every CutMix batch, KL at T = 20, best epoch on test",
    optimistic=True,
    students=3,
    network="resnet18-batch",
    recipe=Recipe(
        lr=(0.001,),
        optimizer="adamw",
        weight_decay=0.01,
        decay="matrices",
        batch=1024,
        epochs=300,
        schedule="cosine",
        rate_per="epoch",
        augment="rrc",
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
    ),
)
