"""``remember``: how Remember the Past was measured (arXiv:2206.02916; tools/evaluator.py and trainer.py of the code).

SGD at 0.01 with momentum 0.9 for 300 epochs, at a constant rate and without weight decay (configs, backbone_optim;
utils/optimizer_utils.py passes none), on cross-entropy, in batches of 640 (tools/trainer.py), each pass in an order of
its own. No augmentation, as the README's commands have it (``none``); a set that was made with flips and rotations is
trained with them there: ``augment="flip-rotate"``. 10 networks (configs, num_eval), last epoch.

The code looks at the test data every 200 steps of a distillation and its README says that with ``validation_ratio 0``,
as in its commands, it does so directly; that is a choice among sets and no part of measuring one (see ``mtt``), so this
protocol is not optimistic. The student is the ConvNet of depth 3, width 128, with instance norm.
"""

from potstill.evaluation.protocol import Protocol, Recipe

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="remember",
    version=1,
    paper="arXiv:2206.02916",
    summary="Remember the Past's recipe: 300 epochs of SGD without decay or augmentation, last epoch",
    students=10,
    recipe=Recipe(
        weight_decay=0.0,
        batch=640,
        epochs=300,
        schedule="constant",
        augment="none",
    ),
)
