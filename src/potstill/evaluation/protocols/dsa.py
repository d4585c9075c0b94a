"""``dsa``: how DSA and DM were measured (arXiv:2102.08259, arXiv:2110.04181; evaluate_synset of the published code).

As ``dc``, with 1001 epochs and the siamese augmentation drawn for each sample on its own; digits are not flipped.
Published: 5 distilled sets × 20 networks.
"""

from potstill.evaluation.protocol import Case, Protocol, Recipe

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="dsa",
    version=1,
    paper="arXiv:2102.08259",
    summary="DSA's recipe: 1001 epochs of SGD with per-sample DSA augmentation, last epoch",
    students=20,
    published_runs="5 distilled sets x 20 networks",
    cases=(Case(mirrored=False, augment="dsa-noflip"),),
    recipe=Recipe(
        epochs=1000,
        extra_epoch=True,
        schedule="drop",
        augment="dsa",
    ),
)
