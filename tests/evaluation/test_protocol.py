import dataclasses
import json

import pytest

from potstill.core import InputSpec, registry
from potstill.errors import PotstillError
from potstill.evaluation.protocol import Case, ModelSelection, Protocol, Recipe, Teaching
from potstill.evaluation.protocols import CDA, DATADAM, DC, DSA, EDC, IDC, NCFM, POTSTILL, SRE2L
from potstill.evaluation.protocols import DATM_SOFT as DATM
from potstill.evaluation.protocols import NO_DISTILLATION as NODISTILL

CONVNET = "convnet-d3-w128-instance-avg"
IMAGE, TABLE = InputSpec(kind="image", shape=(1, 8, 8)), InputSpec(kind="table", shape=(8,))

FROZEN = {
    "potstill": "f4b5116346efc403", "dc": "bb8284ac73e84c3b", "dsa": "815c0463059588ae", "idc": "4efdea9c86f1d1a6",
    "ncfm": "2581c46e7b048631",
    "datadam": "a9dff05fc708fa67", "sre2l": "4d3e5557202dee82",
    "sre2l-cifar": "75f53b09f891efbe", "rded": "82b59c11192fdeb4",
    "cda": "3a5572e0ce0594d4", "edc": "0ff7106658f5c7fe", "datm-soft": "96fc830e69ca188e",
    "no-distillation": "ee03f814a346a278",
    "mtt": "bc8e105a3f0c902a", "datm": "dc28932ccb545a8e", "frepo": "f7d75a3907f857f3",
    "rat-bptt": "2e5057df46717088", "kip": "3abfdc31ecce0b70",
    "remember": "33a98e5465b329a0",
}  # fmt: skip
"""A change here is a change of what every earlier number means: it needs a new version and a changelog entry."""
VERSIONS = {"sre2l-cifar": 2}
"""Of those that are not the first."""


@pytest.mark.parametrize("name", sorted(FROZEN))
def test_what_a_protocol_says_is_frozen(name: str) -> None:
    protocol = registry.resolve("protocols", name)
    assert protocol.name == name
    assert (protocol.version, protocol.fingerprint()) == (VERSIONS.get(name, 1), FROZEN[name])


OVERRIDDEN = {
    "potstill": [
        "7a63af84480bb99d", "2f8c62846f9dc2d6", "16e037a36810db19", "8f92a7754546c7e8", "6e44a0369b9922c5",
        "f4b5116346efc403",
    ],
    "dc": [
        "d615a2b6af6ad358", "9ea1bd922561e19a", "b551da735563a4e6", "83f21e5340a3360b", "dcc920eab09fcf72",
        "bb8284ac73e84c3b",
    ],
    "dsa": [
        "31dde15739a4a988", "139fec5c93749077", "0c06d7750a6030e2", "7438a19907433e1a", "8acbbbbda7b04c1d",
        "815c0463059588ae",
    ],
    "idc": [
        "f94d015daac774e9", "075d03cdf34902ff", "9b84bca9c2c615a8", "8aeb940fc6aec7f0", "6cb7431efeb1fe08",
        "741cf92c7947ab55",
    ],
    "ncfm": [
        "2a1e50a84464a6e7", "8ed16c19b1974467", "316343b1e1b33224", "b892d9a4421f336c", "0275c3039a43def4",
        "a68170eae281a96c",
    ],
    "datadam": [
        "81c9622acb0e7092", "e2cceab2ec249280", "4bcd0370b2a64604", "37836ba7e9fae0e1", "6ac4a35e17a71298",
        "a9dff05fc708fa67",
    ],
    "sre2l": [
        "3526a43b71b3ec93", "c5604aa1a7700274", "1f0887629999cf6a", "e893e21e6bf0a953", "89e99f2eef0fe717",
        "ba32c51398d00b24", "723f90ee36cb6cea",
    ],
    "sre2l-cifar": [
        "960e5d26bc7a63a9", "2bedbd469a2872e4", "2ace74a1fa14f010", "08ae86774275f96f", "d5d814baf8af6622",
        "75f53b09f891efbe", "6711b57f0694d3ce",
    ],
    "rded": [
        "b322f33f70f1cf18", "4da921abd56e828c", "eaddb36541e17cb3", "c4ec90b3502b97dd", "d79a25f6f364b7fb",
        "d2e9a0a8a479d3ea", "57add1846c1a8d73",
    ],
    "cda": [
        "40ef20721d2a0889", "839d959806d974e5", "90c8001264ca9517", "27d0cbf11f4f014d", "201636c4684e014e",
        "631800a61fe2cb17", "f9903202fc36afa3",
    ],
    "edc": [
        "9315457b77dcdcb9", "0e475c9aefd5f48d", "516429d67164dfc7", "f1b54d8a78573c46", "4d75a06014cc4ca7",
        "eaddc548dc1556f3", "392831e14c75bd9e",
    ],
    "datm-soft": [
        "39567df5ce5f7317", "8dfad461bc73e75d", "72b25186dbf15af8", "e42c15310ab4626b", "ce29d1fa335445d2",
        "96fc830e69ca188e",
    ],
    "no-distillation": [
        "92eb75bd6907d51d", "8a6a7688a6654e7a", "7ad21e2444e374cc", "0a9b2a22a45f2754", "e4448cceaeeae8af",
        "7189a516d345f837",
    ],
    "mtt": [
        "7f2f2415159180ad", "1c055dc61e2c5578", "a7c4314871c811b0", "1905ac02699d1851", "c0565a66c2594e26",
        "bc8e105a3f0c902a",
    ],
    "datm": [
        "e55ca28590d33082", "4940041237ecff3f", "2a4a8a9f9b5ba909", "ff0ed05755ef9599", "7e81ac7bddbb3a85",
        "dc28932ccb545a8e",
    ],
    "frepo": [
        "e48e97c93eb04384", "67308531b6d53cd2", "a98ffb4f4de6ffcd", "77041aaf12de2295", "1889cb73db699f27",
        "f7d75a3907f857f3",
    ],
    "rat-bptt": [
        "43f84926cee4a5f6", "8c77fe1ec6e6c539", "76d3a711020dd784", "71329c51a89b8abf", "d88adf00efc13f92",
        "0e5d693610a80216",
    ],
    "kip": [
        "336da4b13177c5f8", "35da2d67c73cc9f2", "7fcf335b87923c14", "4590c198bf506c05", "0f5b43cccdd60249",
        "3abfdc31ecce0b70",
    ],
    "remember": [
        "792d36f63c90184a", "bf2c8ae582f0a849", "3c5ec7016c7a9ecf", "dd54b969868cd575", "b8f17bf2db3a90a5",
        "33a98e5465b329a0",
    ],
}  # fmt: skip
"""Fingerprints of what people ask for, in the order of `_asked`: they stand on scorecards, too."""


def _asked(protocol: Protocol) -> list[Protocol]:
    several = [
        protocol.override(epochs=20), protocol.override(steps=50), protocol.override(lr=[0.5], batch=7),
        protocol.override(augment="none", mix="mixup", mix_prob=0.25), protocol.quick(),
        protocol.override(select="last"),
    ]  # fmt: skip
    if protocol.teaching.labels == "teacher":
        several.append(protocol.override(teachers=3, temperature=2.5, teacher_epochs=9, precision="bfloat16"))
    return several


@pytest.mark.parametrize("name", sorted(FROZEN))
def test_what_an_override_says_is_frozen(name: str) -> None:
    assert [asked.fingerprint() for asked in _asked(registry.resolve("protocols", name))] == OVERRIDDEN[name]


def test_every_field_is_part_of_the_fingerprint() -> None:
    changed = {
        "name": "x", "version": 2, "paper": "x", "summary": "x", "optimistic": True, "students": 6,
        "published_runs": "x", "lr": (0.02,), "momentum": 0.8, "weight_decay": 0.0, "batch": 128, "epochs": 9,
        "extra_epoch": False, "least_epochs": 3, "schedule": "cosine", "drop_factor": 0.2, "reset_momentum": False,
        "augment": "dsa", "cases": (Case(epochs=3),), "validation": 0.1, "validation_students": 1,
        "validation_most": 10, "optimizer": "adamw", "milestones": (0.5,), "mix": "cutmix", "mix_prob": 0.4,
        "mix_beta": 2.0, "test_every": 7, "network": "mlp", "test_from": 0.5, "decay": "matrices", "rate_per": "epoch",
        "batch_by_ipc": ((1, 10),), "temperature": 4.0, "t_squared": True, "hard_weight": 0.1, "teacher": "mlp",
        "teachers": 2, "teacher_epochs": 3, "teacher_lr": 0.2, "teacher_batch": 9, "teacher_weight_decay": 0.0,
        "teacher_augment": "none", "committee": ("mlp",), "ema": 0.9, "lr_of_set": True,
        "precision": "bfloat16", "teacher_statistics": "batch", "shortened": True, "test_at": (3, 5),
        "adversary": "pgd",
    }  # fmt: skip
    together = {"steps", "select", "labels", "loss", "warm_up", "lowest", "steps_by_items"}  # each with another
    assert DC.flat_fields().keys() == changed.keys() | together
    taught = [DC.change(labels="teacher", loss=loss).fingerprint() for loss in ("kl", "mse")]
    assert len({*taught, DC.fingerprint()}) == 3
    prints = {DC.change(**{field: value}).fingerprint() for field, value in changed.items()}
    prints |= {DC.change(epochs=None, steps=(5,)).fingerprint(), DC.fingerprint()}
    prints.add(DC.change(cases=(Case(epochs=3, test_every=9),)).fingerprint())
    cosine = DC.change(schedule="cosine", epochs=None, steps=(9,))
    more = [{}, {"warm_up": 3}, {"lowest": 0.1}, {"steps_by_items": ((10, 5),)}, {"loss": "squared"}]
    prints |= {cosine.change(**fields).fingerprint() for fields in more}
    assert len(prints) == len(changed) + 3 + len(more)
    unselected = IDC.change(select="last")
    assert len({p.fingerprint() for p in (IDC, unselected, IDC.override(select="last"))}) == 3


@pytest.mark.parametrize("published", [DC, DSA])
def test_the_published_recipe(published: Protocol) -> None:
    assert (published.recipe.lr, published.recipe.momentum, published.recipe.weight_decay, published.recipe.batch) == (
        (0.01,),
        0.9,
        5e-4,
        256,
    )
    assert (published.recipe.schedule, published.recipe.drop_factor, published.recipe.reset_momentum) == (
        "drop",
        0.1,
        True,
    )
    assert published.recipe.extra_epoch
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
        (IDC, "cifar10", CONVNET, 1000, "idc-eval"),
        (IDC, "fashion-mnist", CONVNET, 1000, "idc-eval"),
        (IDC, "svhn", CONVNET, 1000, "idc-eval-noflip"),
        (NCFM, "cifar100", CONVNET, 2000, "idc-eval"),
        (NCFM, "tiny-imagenet", CONVNET, 300, "idc-eval"),
        (NCFM, "digits", CONVNET, 2000, "idc-eval-noflip"),
        (NODISTILL, "cifar10", CONVNET, 3000, "dsa"),
        (NODISTILL, "tiny-imagenet", CONVNET, 1000, "dsa"),
        (NODISTILL, "mnist", CONVNET, 3000, "dsa-noflip"),
        (DATM, "cifar100", CONVNET, 1000, "dsa"),
        (DATM, "svhn", CONVNET, 1000, "dsa-noflip"),
        (DATADAM, "cifar10", CONVNET, 1800, "dsa"),
        (DATADAM, "mnist", CONVNET, 1800, "dsa-noflip"),
        (POTSTILL, "digits", CONVNET, None, "dsa-noflip"),
        (POTSTILL, "photos", CONVNET, None, "dsa"),
    ],
)
def test_length_and_augmentation_depend_on_data_and_network_as_published(
    protocol: Protocol, source: str, network: str, epochs: int | None, augment: str
) -> None:
    spec = InputSpec(
        kind="image", shape=(1, 8, 8), horizontal_flip=source not in ("digits", "mnist", "mnist-5k", "svhn")
    )
    found = protocol.resolve(source, network, spec)
    assert (found.recipe.epochs, found.recipe.augment) == (epochs, augment)
    assert protocol.resolve(source, network, TABLE).recipe.augment == "none"
    other = protocol.resolve("somebody's own", network, spec).recipe.augment
    assert ("noflip" in other) == ("noflip" in augment), "the data decide, not their name"


def test_the_recipe_of_idc() -> None:
    assert (IDC.recipe.optimizer, IDC.recipe.lr, IDC.recipe.momentum, IDC.recipe.weight_decay, IDC.recipe.batch) == (
        "sgd",
        (0.01,),
        0.9,
        5e-4,
        64,
    )
    assert (IDC.recipe.schedule, IDC.recipe.milestones, IDC.recipe.drop_factor, IDC.recipe.reset_momentum) == (
        "steps",
        (2 / 3, 5 / 6),
        0.2,
        False,
    )
    assert (IDC.recipe.mix, IDC.recipe.mix_prob, IDC.recipe.mix_beta, IDC.recipe.extra_epoch) == (
        "cutmix",
        0.5,
        1.0,
        False,
    )
    assert (IDC.selection.select, IDC.selection.test_every, IDC.optimistic, IDC.students) == (
        "best-on-test",
        250,
        True,
        3,
    )


def test_the_recipe_of_ncfm() -> None:
    assert (NCFM.recipe.optimizer, NCFM.recipe.lr, NCFM.recipe.weight_decay, NCFM.recipe.batch) == (
        "adamw",
        (0.001,),
        0.01,
        128,
    )
    assert (NCFM.recipe.schedule, NCFM.recipe.milestones) == ("steps", (0.2, 0.4, 0.6, 0.8))
    assert (NCFM.recipe.drop_factor, NCFM.recipe.reset_momentum, NCFM.recipe.extra_epoch) == (0.5, False, False)
    assert (NCFM.recipe.mix, NCFM.recipe.mix_prob, NCFM.recipe.mix_beta) == ("cutmix", 0.5, 1.0)
    assert (NCFM.selection.select, NCFM.selection.test_every, NCFM.optimistic, NCFM.students) == (
        "best-on-test",
        100,
        True,
        10,
    )
    assert NCFM.resolve("tiny-imagenet", CONVNET, IMAGE).selection.test_every == 50
    assert NCFM.override(test_every=3).resolve("tiny-imagenet", CONVNET, IMAGE).selection.test_every == 3


def _differs(one: Protocol, other: Protocol) -> set[str]:
    return {name for name, value in one.flat_fields().items() if value != other.flat_fields()[name]}


def test_datadam_is_dsa_with_another_batch_length_and_network() -> None:
    named = {"name", "paper", "summary", "published_runs"}
    differs = _differs(DSA, DATADAM)
    assert differs - named == {"batch", "epochs", "network", "students"}
    assert (DATADAM.recipe.batch, DATADAM.recipe.epochs, DATADAM.network, DATADAM.students) == (
        64,
        1800,
        "convnet-batch",
        10,
    )
    assert (DATADAM.selection.select, DATADAM.optimistic) == ("last", False)


def test_cda_is_sre2l_in_small_batches() -> None:
    named = {"name", "paper", "summary"}
    differs = _differs(CDA, SRE2L)
    assert differs - named == {"batch"}
    assert (
        CDA.recipe.batch,
        CDA.teaching.temperature,
        CDA.teaching.t_squared,
        CDA.recipe.mix,
        CDA.recipe.mix_prob,
    ) == (128, 20.0, False, "cutmix", 1.0)


def test_datm_is_dsa_with_another_batch_and_the_rate_of_the_set() -> None:
    named = {"name", "paper", "summary", "published_runs"}
    differs = _differs(DATM, DSA)
    assert differs - named == {"batch", "students", "lr_of_set"}
    assert (DATM.recipe.batch, DATM.students, DATM.teaching.labels, DATM.optimistic) == (128, 5, "given", False)


def test_the_recipe_of_edc() -> None:
    assert (EDC.recipe.optimizer, EDC.recipe.lr, EDC.recipe.weight_decay, EDC.recipe.decay, EDC.recipe.batch) == (
        "adamw",
        (0.001,),
        0.01,
        "matrices",
        100,
    )
    assert (EDC.recipe.epochs, EDC.recipe.schedule, EDC.recipe.rate_per, EDC.recipe.ema) == (
        300,
        "half-cosine",
        "epoch",
        0.99,
    )
    assert (EDC.recipe.augment, EDC.recipe.mix, EDC.recipe.mix_prob) == ("patches", "cutmix", 1.0)
    assert (
        EDC.teaching.labels,
        EDC.teaching.loss,
        EDC.teaching.hard_weight,
        EDC.teaching.teachers + len(EDC.teaching.committee),
    ) == ("teacher", "mse", 0.025, 4)
    assert (EDC.selection.select, EDC.selection.test_every, EDC.optimistic) == ("best-on-test", 30, True)


def test_the_recipe_of_no_distillation() -> None:
    assert (
        NODISTILL.recipe.optimizer,
        NODISTILL.recipe.lr,
        NODISTILL.recipe.momentum,
        NODISTILL.recipe.weight_decay,
    ) == (
        "sgd",
        (0.01,),
        0.9,
        5e-4,
    )
    assert (NODISTILL.recipe.batch, NODISTILL.recipe.epochs, NODISTILL.recipe.extra_epoch) == (256, 3000, True)
    assert (NODISTILL.recipe.milestones, NODISTILL.recipe.drop_factor) == ((0.25, 0.5, 0.75, 1.0), 0.3)
    assert not NODISTILL.recipe.reset_momentum
    assert (NODISTILL.teaching.labels, NODISTILL.recipe.mix, NODISTILL.students) == ("given", "none", 5)
    assert (NODISTILL.selection.select, NODISTILL.selection.test_every, NODISTILL.optimistic) == (
        "best-on-test",
        200,
        True,
    )


def test_tables_are_not_mixed() -> None:
    assert IDC.resolve("x", "mlp-w128", TABLE).recipe.mix == "none"
    assert IDC.resolve("x", CONVNET, IMAGE).recipe.mix == "cutmix"


def test_whether_a_result_is_optimistic_follows_what_is_selected() -> None:
    assert not IDC.override(select="last").optimistic
    assert IDC.override(epochs=4).optimistic
    assert DC.override(select="best-on-test", test_every=5).optimistic
    for_another_reason = DC.change(optimistic=True)
    assert for_another_reason.override(select="last").optimistic
    with pytest.raises(PotstillError, match="optimistic must be true with best-on-test"):
        IDC.change(optimistic=False)
    with pytest.raises(PotstillError, match="unknown option 'optimistic'"):
        IDC.override(optimistic=False)


def test_an_override_changes_the_fingerprint_and_nothing_else() -> None:
    shorter = DSA.override(epochs=20)
    assert shorter.fingerprint() != DSA.fingerprint()
    assert shorter.change(epochs=1000) == DSA
    assert DSA.recipe.epochs == 1000


def test_epochs_and_steps_take_each_others_place() -> None:
    by_epochs = POTSTILL.override(epochs=20)
    assert (by_epochs.recipe.epochs, by_epochs.recipe.steps) == (20, ())
    by_steps = DSA.override(steps=50)
    assert (by_steps.recipe.epochs, by_steps.recipe.steps) == (None, (50,))
    assert POTSTILL.override(lr=0.02).recipe.lr == (0.02,)
    assert POTSTILL.override(lr=[0.02, 0.04]).recipe.lr == (0.02, 0.04)


def test_an_override_also_holds_where_the_publication_makes_an_exception() -> None:
    assert DC.override(epochs=20).resolve("mnist", CONVNET, IMAGE).recipe.epochs == 20
    assert DC.override(epochs=20).resolve("mnist", CONVNET, IMAGE).recipe.augment == "dc"
    assert DC.override(steps=20).resolve("mnist", CONVNET, IMAGE).recipe.steps == (20,)
    assert DSA.override(augment="none").resolve("mnist", CONVNET, IMAGE).recipe.augment == "none"


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
        ({"schedule": "cosin"}, "drop or cosine or half-cosine or steps or constant, but it is 'cosin'"),
        ({"optimizer": "lion"}, "optimizer must be sgd or adamw or adam"),
        ({"warm_up": 5}, "warm_up and lowest need schedule cosine, but it is 'drop'"),
        ({"lowest": 1.0, "schedule": "cosine"}, r"lowest must be in \[0, 1\)"),
        ({"warm_up": -1, "schedule": "cosine"}, "warm_up must be a whole number"),
        ({"warm_up": 5, "schedule": "cosine", "rate_per": "epoch"}, "warm_up needs rate_per step"),
        ({"steps_by_items": ((9, 5),)}, "steps_by_items needs steps"),
        ({"steps": 5, "steps_by_items": ((9, 5), (3, 2))}, "pairs of items and updates, fewest first"),
        ({"test_at": (5, 3)}, "test_at must be whole numbers of at least 1 that rise"),
        ({"test_at": 0}, "test_at must be whole numbers of at least 1 that rise"),
        ({"loss": "kl"}, "loss must be cross-entropy or squared with labels given, but it is 'kl'"),
        ({"labels": "teacher", "loss": "squared"}, "loss must be kl or mse with labels teacher"),
        ({"mix": "mixed"}, "mix must be none or cutmix or mixup"),
        ({"select": "best"}, "select must be last or best-on-test"),
        ({"select": "best-on-test"}, "test_every must be a whole number of at least 1, but it is 0"),
        ({"test_every": -1}, "test_every must be a whole number of at least 0"),
        ({"schedule": "steps"}, "milestones must be given for schedule steps"),
        ({"milestones": (0.5, 1.5)}, "milestones must be parts of the epochs between 0 and 1"),
        ({"milestones": (0.5, 1.0), "extra_epoch": False}, "milestones must be parts of the epochs between 0 and 1"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\)"),
        ({"committee": (3,)}, r"committee must be names, but it is \(3,\)"),
        ({"lr_of_set": 1}, "lr_of_set must be true or false"),
        ({"milestones": "half"}, "milestones must be parts"),
        ({"mix_prob": 1.5}, r"mix_prob must be in \[0, 1\]"),
        ({"mix_beta": 0.0}, "mix_beta must be above 0"),
        ({"network": "mlp"}, "unknown option 'network'"),
        ({"epochs": 5, "steps": (5,)}, "say the length once"),
        ({"lr": (0.1, 0.2)}, "a choice needs validation data"),
    ],
)
def test_a_bad_override_is_refused_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(PotstillError, match=message) as caught:
        DSA.override(**changes)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("protocol dsa: ")


def test_a_field_of_a_part_is_named_once_and_changed_alone() -> None:
    parts = [Protocol, Recipe, Teaching, ModelSelection]
    names = [f.name for part in parts for f in dataclasses.fields(part)]
    assert sorted(names) == sorted([*DSA.flat_fields(), "recipe", "teaching", "selection"])
    changed = DSA.change(epochs=7)
    assert (changed.recipe.epochs, changed.cases, changed.teaching, changed.selection) == (
        7, DSA.cases, DSA.teaching, DSA.selection,
    )  # fmt: skip
    assert DSA.change(**DSA.flat_fields()) == DSA
    with pytest.raises(PotstillError, match=r"protocol dsa: unknown field 'epoch'.*epochs"):
        DSA.change(epoch=7)


def test_a_part_refuses_what_is_out_of_range_by_itself() -> None:
    with pytest.raises(PotstillError, match=r"^momentum must be in \[0, 1\), but it is 1.5"):
        Recipe(epochs=1, momentum=1.5)
    with pytest.raises(PotstillError, match=r"^loss must be kl or mse with labels teacher"):
        Teaching(labels="teacher")
    with pytest.raises(PotstillError, match=r"^test_every must be a whole number of at least 1"):
        ModelSelection(select="best-on-test")


def test_late_fields_stand_in_the_canonical_form_where_they_are_not_their_default() -> None:
    said = json.loads(DC.canonical())
    assert said["momentum"] == 0.9
    assert "ema" not in said
    assert json.loads(DC.override(ema=0.5).canonical())["ema"] == 0.5
