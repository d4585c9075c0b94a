"""``potstill``: our honest default, made to be affordable.

Learning rate and length are chosen for every set, its baselines too, on a validation part of the *training* data; then
at least five fresh networks are trained and the last step counts. Test data are read once, at the end.
"""

from potstill.evaluation.protocol import Case, ModelSelection, Protocol, Recipe

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    name="potstill",
    version=1,
    paper="Potstill",
    summary="rate and length chosen on validation data cut from train, cosine, last step, 5 networks",
    students=5,
    cases=(Case(mirrored=False, augment="dsa-noflip"),),
    recipe=Recipe(
        lr=(0.01, 0.03, 0.1),
        steps=(60, 180),
        least_epochs=20,
        schedule="cosine",
        augment="dsa",
    ),
    selection=ModelSelection(
        validation=0.2,
    ),
)
