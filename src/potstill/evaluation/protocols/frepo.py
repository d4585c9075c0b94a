"""``frepo``: how FRePo and RCIG were measured (arXiv:2206.00719; script/eval.py and proto_evaluate of the code).

Adam at 3e-4 without weight decay; the rate rises from 0 over 500 updates, then falls along a cosine to a hundredth. As
many updates as the set has items for: 1,000 for 10, 2,000 for 100, 20,000 for 200, 5,000 for 400 and 500, 10,000 for
1,000, 40,000 for 2,000 and 5,000; the code knows no other numbers, here a set takes those of the last that it reaches.
Batches of all items, at most 500. **The loss is a squared error** between outputs and scores, the learned labels as
they are; a class is one-hot − 1/k. FRePo's own augmentation: one of flip, color, crop, rotate, translate and cutout for
a batch; without flip for MNIST and Fashion-MNIST, and here for all that may not be mirrored. 5 networks, last update.

The code keeps the sets of a distillation that did best on the test data; that is a choice among sets and no part of
measuring one (see ``mtt``), so this protocol is not optimistic. RCIG's program trains the same way, and with
cross-entropy at a learned temperature beside it, which is not offered.

What differs: the code takes its batches in the order of the set, which matters above 500 items only; here they are
drawn anew in each pass. The loss is the mean over classes too, which Adam does not see. The published network has 128,
256 and 512 channels and no norm; here it is the network the set was made with. ZCA whitening is the set's own.
"""

from potstill.evaluation.protocol import Case, Protocol, Recipe, Teaching

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="frepo",
    version=1,
    paper="arXiv:2206.00719",
    summary="FRePo's recipe: Adam on a squared error from scores, updates by the number of items, last update",
    students=5,
    cases=(
        Case(sources=("fashion-mnist",), augment="frepo-noflip"),
        Case(mirrored=False, augment="frepo-noflip"),
    ),
    recipe=Recipe(
        lr=(3e-4,),
        optimizer="adam",
        weight_decay=0.0,
        batch=500,
        steps=(1000,),
        steps_by_items=(
            (10, 1000), (100, 2000), (200, 20_000), (400, 5000), (500, 5000), (1000, 10_000), (2000, 40_000),
        ),
        warm_up=500,
        lowest=0.01,
        augment="frepo",
    ),
    teaching=Teaching(
        loss="squared",
    ),
)  # fmt: skip
