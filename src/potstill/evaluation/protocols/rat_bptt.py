"""``rat-bptt``: how RaT-BPTT and AT-BPTT were measured (arXiv:2311.07025; test and init_train of framework/base.py).

Adam at 1e-3, constant, without weight decay, on cross-entropy, in batches of 100 (10 per class of 10, as the README's
command has it); for a batch either mirror images or rotations by up to 15°, each sample on its own. Pictures that may
not be mirrored are rotated only. 3,000 updates, 8 networks; learned labels are rows in a soft cross-entropy.

**Optimistic**: the code tests after 300, 600, 1,000 and 3,000 updates and reports the length that is best on the test
data. ``select="last"`` gives the last. The code takes the length whose mean over the networks is best; here each
network counts with its own best, which is at least as much, by little where networks agree.

What differs: the code draws each batch with as many of every class; here a pass goes through the whole set in a random
order, so that batches of sets of more than 100 items are of equal numbers on average only. Looks are after the pass in
which those updates lie. From 100 classes on the code takes one per class: ``batch=100`` is that. The student is the
ConvNet of depth 3, width 128, with instance norm; ZCA whitening of the KIP family comes with the set (``--zca kip``).
"""

from potstill.evaluation.protocol import ModelSelection, Protocol, Recipe

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="rat-bptt",
    version=1,
    paper="arXiv:2311.07025",
    summary="RaT-BPTT's recipe: 3000 updates of Adam with flips or rotations, best of four lengths on test",
    optimistic=True,
    students=8,
    recipe=Recipe(
        lr=(0.001,),
        optimizer="adam",
        weight_decay=0.0,
        batch=100,
        steps=(3000,),
        schedule="constant",
        augment="flip-rotate",
    ),
    selection=ModelSelection(
        select="best-on-test",
        test_at=(300, 600, 1000, 3000),
    ),
)
