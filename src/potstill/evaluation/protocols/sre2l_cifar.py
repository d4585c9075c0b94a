"""``sre2l-cifar``: how SRe2L was measured on CIFAR (arXiv:2306.13092; relabel_cifar.py of the published code).

400 epochs of AdamW (rate 1e-3, weight decay 0.01), batch 128, cosine to zero; shifts by up to four pixels and flips;
every batch mixed by MixUp (Beta(0.8, 0.8)). The teacher labels the mixed batch; divergence at temperature 30 without
T². The last epoch counts. An answer of the authors in the repository's issues speaks of 800 epochs for the paper's
table; the file says 400.

The teacher's BatchNorms go by the statistics of the batch that it labels, as the program never puts it into evaluation
mode (relabel_cifar.py:85-92, 138; DWA's validation_cifar.py:152-158, 206 does the same). Version 1 of this protocol
labelled with those of the teacher's training: ``teacher_statistics="running"``.

Teacher and student are ResNet-18 with BatchNorm and a stem for small pictures; the teacher is trained as the
repository does (SGD 0.1, momentum 0.9, weight decay 5e-4, cosine, 200 epochs, batch 128, shifts and flips).
"""

from potstill.evaluation.protocol import Protocol, Recipe, Teaching

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="sre2l-cifar",
    version=2,
    paper="arXiv:2306.13092",
    summary="SRe2L's recipe for small pictures: a teacher labels MixUp batches by their statistics, KL at T = 30",
    students=3,
    network="resnet18-batch",
    recipe=Recipe(
        lr=(0.001,),
        optimizer="adamw",
        weight_decay=0.01,
        batch=128,
        epochs=400,
        schedule="cosine",
        rate_per="epoch",
        augment="pad-crop",
        mix="mixup",
        mix_prob=1.0,
        mix_beta=0.8,
    ),
    teaching=Teaching(
        labels="teacher",
        loss="kl",
        temperature=30.0,
        teacher_statistics="batch",
    ),
)
