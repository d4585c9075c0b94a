"""``edc``: how EDC was measured on ImageNet-1K (arXiv:2404.13733; Branch_full_ImageNet_1k/train of the published code).

300 epochs of AdamW (rate 1e-3, weight decay 0.01 on tensors of more than one axis only), batch 100. The rate is set
every epoch along **half** of a cosine's fall ("smoothing", --st 2): (1 + cos(πe/2E))/2, which ends at half of where it
began. Each picture's quarters are shuffled, then it is cropped (50 to 100 %) and perhaps mirrored; every batch is mixed
by CutMix. The loss is the squared error of the logits from a committee's mean logits, plus 0.025 of the cross-entropy
with the set's own classes, which are not mixed. What is tested is a moving average of the weights that keeps 0.99 at
every update.

**Optimistic**: tested every 30 epochs, the best counts; ``select="last"`` gives the last.

Where the released code does not do what the paper says, the paper counts: its option ``--ls-type cos`` is overwritten
by a line that falls to half of the rate; and its average is of parameters only, tested with the BatchNorm statistics of
the last weights, where here those are averaged with them. The published committee is ResNet-18, MobileNetV2,
EfficientNet-B0 and ShuffleNetV2; ours is of networks that Potstill brings. Labels are asked for, not stored. CIFAR is
published with other settings: SGD at 0.1 (momentum 0.875, weight decay 5e-4), batch 50, 1000 epochs, RandAugment and no
shuffled quarters, and from five sixths of the epochs on a line to zero.
"""

from potstill.evaluation.protocol import ModelSelection, Protocol, Recipe, Teaching

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="edc",
    version=1,
    paper="arXiv:2404.13733",
    summary="EDC's ImageNet recipe: a committee's logits, MSE, half a cosine, averaged weights, best epoch on test",
    optimistic=True,
    students=3,
    network="resnet18-batch",
    recipe=Recipe(
        lr=(0.001,),
        optimizer="adamw",
        weight_decay=0.01,
        decay="matrices",
        batch=100,
        epochs=300,
        schedule="half-cosine",
        rate_per="epoch",
        ema=0.99,
        augment="patches",
        mix="cutmix",
        mix_prob=1.0,
    ),
    teaching=Teaching(
        labels="teacher",
        loss="mse",
        hard_weight=0.025,
        teacher="resnet18-batch",
        committee=("convnet-batch", "vgg11-batch", "alexnet-batch"),
    ),
    selection=ModelSelection(
        select="best-on-test",
        test_every=30,
    ),
)
