"""``dc``: how DC was measured (arXiv:2006.05929; evaluate_synset and main.py of the published code).

SGD at 0.01 with momentum 0.9 and weight decay 5e-4, batch 256, 301 epochs; after epoch index 151 the rate falls to a
tenth and the optimiser is new. No augmentation, with two exceptions that train for 1001 epochs: MNIST (each sample is
cropped, scaled or rotated) and the ConvNet with batch norm (each is cropped or gets noise). The last epoch counts.
Published: 5 distilled sets × 20 networks.
"""

from potstill.evaluation.protocol import Case, Protocol, Recipe

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="dc",
    version=1,
    paper="arXiv:2006.05929",
    summary="DC's recipe: 301 epochs of SGD, no augmentation (MNIST: DC's own, 1001 epochs), last epoch",
    students=20,
    published_runs="5 distilled sets x 20 networks",
    cases=(
        Case(networks="convnet-*batch*", epochs=1000, augment="dc-batch-norm"),
        Case(sources=("mnist", "mnist-5k"), epochs=1000, augment="dc"),
    ),
    recipe=Recipe(
        epochs=300,
        extra_epoch=True,
        schedule="drop",
    ),
)
