"""``kip``: how KIP's sets were measured (arXiv:2011.00050, arXiv:2107.13034; KIP.ipynb, nn_training.ipynb of the code).

For pictures where no network is named, the student is KIP's **own learner**: kernel ridge regression with the neural
tangent kernel of an infinitely wide fully connected network of one hidden layer (``krr-ntk``), λ = 1e-6 of the kernel's
mean diagonal, on scores. It is solved once and has no spread, and the recipe below does not concern it. The numbers of
the paper's tables are of convolutional kernels, which are not offered.

With ``--network`` a network is trained as the finite transfer of the paper is (nn_training.ipynb): SGD with momentum
0.9, batches of 100, 5,000 updates along a cosine to zero, a squared error from scores, weight decay 0.001, no
augmentation. Rate and weight decay were found by a grid search on validation data of 5,000 training samples, the rate
in parts of the largest stable one of a network's kernel; here the rate is chosen on as many, among five, and the decay
is the notebook's. Published: ConvNets of width 1,024 without norm, with ZCA of the KIP family (``--zca kip``); name the
network ``convnet-w1024-nonorm`` for it.
"""

from potstill.evaluation.protocol import ModelSelection, Protocol, Recipe, Teaching

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="kip",
    version=1,
    paper="arXiv:2011.00050",
    summary="KIP's recipe: its own kernel ridge regression; of networks, SGD on a squared error, rate by validation",
    students=5,
    network="krr-ntk",
    recipe=Recipe(
        lr=(0.003, 0.01, 0.03, 0.1, 0.3),
        weight_decay=0.001,
        batch=100,
        steps=(5000,),
    ),
    teaching=Teaching(
        loss="squared",
    ),
    selection=ModelSelection(
        validation=0.1,
        validation_most=5000,
    ),
)
