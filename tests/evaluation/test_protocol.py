import dataclasses

import pytest

from potstill import registry
from potstill.errors import PotstillError
from potstill.evaluation.protocol import Case, Protocol
from potstill.evaluation.protocols.dc import PROTOCOL as DC
from potstill.evaluation.protocols.dsa import PROTOCOL as DSA
from potstill.evaluation.protocols.potstill import PROTOCOL as POTSTILL

CONVNET = "convnet-d3-w128-instance-avg"

FROZEN = {"potstill": "f4b5116346efc403", "dc": "bb8284ac73e84c3b", "dsa": "815c0463059588ae"}
"""A change here is a change of what every earlier number means: it needs a new version and a changelog entry."""


@pytest.mark.parametrize("name", sorted(FROZEN))
def test_what_a_protocol_says_is_frozen(name: str) -> None:
    protocol = registry.resolve("protocols", name)
    assert protocol.name == name
    assert (protocol.version, protocol.fingerprint()) == (1, FROZEN[name])


def test_every_field_is_part_of_the_fingerprint() -> None:
    changed = {
        "name": "x", "version": 2, "paper": "x", "summary": "x", "optimistic": True, "students": 6,
        "published_runs": "x", "lr": (0.02,), "momentum": 0.8, "weight_decay": 0.0, "batch": 128, "epochs": 9,
        "extra_epoch": False, "least_epochs": 3, "schedule": "cosine", "drop_factor": 0.2, "reset_momentum": False,
        "augment": "dsa", "cases": (Case(epochs=3),), "validation": 0.1, "validation_students": 1,
        "validation_most": 10,
    }  # fmt: skip
    assert {f.name for f in dataclasses.fields(Protocol)} == changed.keys() | {"steps"}
    prints = {dataclasses.replace(DC, **{field: value}).fingerprint() for field, value in changed.items()}
    prints |= {dataclasses.replace(DC, epochs=None, steps=(5,)).fingerprint(), DC.fingerprint()}
    assert len(prints) == len(changed) + 2


@pytest.mark.parametrize("published", [DC, DSA])
def test_the_published_recipe(published: Protocol) -> None:
    assert (published.lr, published.momentum, published.weight_decay, published.batch) == ((0.01,), 0.9, 5e-4, 256)
    assert (published.schedule, published.drop_factor, published.reset_momentum) == ("drop", 0.1, True)
    assert published.extra_epoch
    assert published.students == 20
    assert not published.optimistic


@pytest.mark.parametrize(
    ("protocol", "source", "network", "epochs", "augment"),
    [
        (DC, "cifar10", CONVNET, 300, "none"),
        (DC, "digits", CONVNET, 300, "none"),
        (DC, "mnist", CONVNET, 1000, "dc"),
        (DC, "mnist-5k", "mlp-w128", 1000, "dc"),
        (DC, "cifar10", "convnet-d3-w128-batch-avg", 1000, "dc-batch-norm"),
        (DC, "mnist", "convnet-d3-w128-batch-avg", 1000, "dc-batch-norm"),
        (DC, "cifar10", "resnet18-batch", 300, "none"),
        (DSA, "cifar10", CONVNET, 1000, "dsa"),
        (DSA, "fashion-mnist", CONVNET, 1000, "dsa"),
        (DSA, "mnist", CONVNET, 1000, "dsa-noflip"),
        (DSA, "svhn", CONVNET, 1000, "dsa-noflip"),
        (POTSTILL, "digits", CONVNET, None, "dsa-noflip"),
        (POTSTILL, "photos", CONVNET, None, "dsa"),
    ],
)
def test_length_and_augmentation_depend_on_data_and_network_as_published(
    protocol: Protocol, source: str, network: str, epochs: int | None, augment: str
) -> None:
    found = protocol.resolve(source, network, "image")
    assert (found.epochs, found.augment) == (epochs, augment)
    assert protocol.resolve(source, network, "table").augment == "none"


def test_an_override_changes_the_fingerprint_and_nothing_else() -> None:
    shorter = DSA.override(epochs=20)
    assert shorter.fingerprint() != DSA.fingerprint()
    assert dataclasses.replace(shorter, epochs=1000) == DSA
    assert DSA.epochs == 1000


def test_epochs_and_steps_take_each_others_place() -> None:
    by_epochs = POTSTILL.override(epochs=20)
    assert (by_epochs.epochs, by_epochs.steps) == (20, ())
    by_steps = DSA.override(steps=50)
    assert (by_steps.epochs, by_steps.steps) == (None, (50,))
    assert POTSTILL.override(lr=0.02).lr == (0.02,)
    assert POTSTILL.override(lr=[0.02, 0.04]).lr == (0.02, 0.04)


def test_an_override_also_holds_where_the_publication_makes_an_exception() -> None:
    assert DC.override(epochs=20).resolve("mnist", CONVNET, "image").epochs == 20
    assert DC.override(epochs=20).resolve("mnist", CONVNET, "image").augment == "dc"
    assert DC.override(steps=20).resolve("mnist", CONVNET, "image").steps == (20,)
    assert DSA.override(augment="none").resolve("mnist", CONVNET, "image").augment == "none"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "did you mean epochs"),
        ({"name": "mine"}, "unknown option 'name'"),
        ({"cases": ()}, "unknown option 'cases'"),
        ({"epochs": 0}, r"epochs must be whole numbers of at least 1, but it is \(0,\)"),
        ({"epochs": 2.5}, "epochs must be whole"),
        ({"epochs": "many"}, "epochs must be whole"),
        ({"lr": -1.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"batch": True}, "batch must be a whole number"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ({"schedule": "cosin"}, "schedule must be drop or cosine"),
        ({"epochs": 5, "steps": (5,)}, "say the length once"),
        ({"lr": (0.1, 0.2)}, "a choice needs validation data"),
    ],
)
def test_a_bad_override_is_refused_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(PotstillError, match=message) as caught:
        DSA.override(**changes)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("protocol dsa: ")
