"""Students that read a teacher's labels from a file: against a plain loop, and what evaluation refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.api.label import label_bytes
from potstill.augment.crop import Crops, PadCrop, patches
from potstill.augment.siamese import dsa, none
from potstill.core import Splits, registry
from potstill.errors import PotstillError
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.distilled_training import make_views, stored_label_loss, teacher_loss, train_teachers
from potstill.evaluation.protocols import DSA, EDC, RDED, SRE2L, SRE2L_CIFAR
from potstill.evaluation.student import StudentJob, train
from potstill.labels.label_file import LabelFile
from potstill.labels.teacher_file import TeacherFile
from potstill.nn import factory
from potstill.rng import derive_seed, generator

NETWORK = "convnet-d1-w8-batch"
SHORT: dict[str, Any] = {"epochs": 4, "teacher_epochs": 2, "teacher_lr": 0.05, "batch": 3, "lr": 0.01}


@pytest.fixture
def labelled(pictures: Splits, make_set: Any, tmp_path: Path) -> tuple[Any, Any]:
    small = make_set(pictures)
    return small, potstill.label(
        small, pictures, tmp_path / "x.labels", protocol="sre2l", network=NETWORK, pool=3, seed=4, **SHORT
    )


def test_students_equal_a_plain_loop_over_the_file(pictures: Splits, labelled: Any) -> None:
    small, store = labelled
    protocol = SRE2L.override(**SHORT, select="last")
    x = small.model_space()
    assert isinstance(x, Tensor)
    make = factory(NETWORK, pictures.train.input, 4)
    given = StudentJob(
        make=make, x=x, y=small.labels, protocol=protocol, lr=0.01, steps=None, augment=none(), seed=7,
        stored_labels=store,
    )  # fmt: skip
    mine = train(given)
    net, rng = make(derive_seed(7, "network")).train(), generator(7, "samples")
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1]},
        {"params": [p for p in net.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.01, fused=True)
    for epoch in range(4):
        for group in optimiser.param_groups:
            group["lr"] = 0.01 * (1 + float(torch.cos(torch.tensor(torch.pi * epoch / 4, dtype=torch.float64)))) / 2
        stored = epoch if epoch < 3 else store.stored_epoch(3)  # a fourth epoch goes through the three again
        for at in torch.randperm(len(x), generator=rng).split(3):
            p = store.decode(stored, at, 20.0)
            q = (net(store.view(x, stored, at)) / 20).log_softmax(1)
            loss = (p * (p.log() - q)).sum() / len(at)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert 0 <= store.stored_epoch(3) < 3
    for (name, a), b in zip(mine.named_parameters(), net.parameters(), strict=True):
        if not name.endswith("0.bias"):  # a bias before a BatchNorm: Adam blows up what rounding leaves of a zero
            assert torch.allclose(a, b, rtol=1e-3, atol=1e-4), name


@pytest.mark.slow
def test_an_evaluation_reads_them_and_says_what_they_take(pictures: Splits, labelled: Any) -> None:
    small, store = labelled
    settings: dict[str, Any] = {
        "protocol": SRE2L.override(**SHORT, test_every=2), "networks": [NETWORK], "seeds": 2, "full": False,
    }  # fmt: skip
    score = potstill.evaluate(small, pictures, stored=store.path, **settings).to_dict()
    assert score["bytes"]["stored_labels"] == store.nbytes
    assert set(score["baselines"]) == {"random", "herding", "random-items", "real"}
    asked = potstill.evaluate(small, pictures, **settings).to_dict()
    assert asked["accuracy"] != score["accuracy"]  # other views
    assert asked["baselines"]["random"]["mean"] == score["baselines"]["random"]["mean"]  # random sets ask the teacher


def test_labels_of_another_set_or_for_other_students_are_refused(
    pictures: Splits, labelled: Any, make_set: Any
) -> None:
    small, store = labelled
    with pytest.raises(PotstillError, match="protocol dsa trains on the set's own labels"):
        potstill.evaluate(small, pictures, protocol="dsa", stored=store.path)
    with pytest.raises(PotstillError, match="inputs"):
        potstill.evaluate(make_set(pictures, 3), pictures, protocol="sre2l", networks=[NETWORK], stored=store.path)
    with pytest.raises(PotstillError, match="none"):
        potstill.evaluate(small, pictures, protocol="sre2l", stored=store.path.parent / "none")


def test_the_statistics_that_labelled_are_those_that_the_protocol_says(
    pictures: Splits, labelled: Any, tmp_path: Path
) -> None:
    small, store = labelled
    assert store.about.statistics == "running"
    settings: dict[str, Any] = SHORT | {"networks": [NETWORK], "seeds": 1, "full": False, "baselines": False}
    with pytest.raises(PotstillError, match=r"sre2l-cifar has labels by .* batch statistics, but .* by running ones"):
        potstill.evaluate(small, pictures, protocol="sre2l-cifar", stored=store.path, **settings)
    made = potstill.label(small, pictures, tmp_path / "b", protocol="sre2l-cifar", network=NETWORK, **SHORT)
    assert (made.about.statistics, made.about.batch) == ("batch", 3)
    assert LabelFile(made.path).about == made.about
    potstill.evaluate(small, pictures, protocol="sre2l-cifar", stored=made.path, **settings)
    with pytest.raises(PotstillError, match=r"sre2l has labels by .* running statistics, but .* by batch ones"):
        potstill.evaluate(small, pictures, protocol="sre2l", stored=made.path, **settings)
    potstill.evaluate(small, pictures, protocol="sre2l", stored=made.path, teacher_statistics="batch", **settings)


def test_views_say_what_the_protocol_says() -> None:
    made = make_views(SRE2L, Crops(), 5)
    assert (made.seed, made.scale, made.ratio, made.flip) == (5, (0.08, 1.0), (3 / 4, 4 / 3), 0.5)
    assert (made.mix, made.mix_beta, made.mix_prob) == ("cutmix", 1.0, 1.0)
    whole = make_views(RDED, Crops(scale=(1.0, 1.0), ratio=(1.0, 1.0)), 0)
    assert (whole.scale, whole.flip) == (None, 0.5)
    assert make_views(RDED.override(augment="none", mix="none"), none(), 0).mix_prob == 0
    with pytest.raises(PotstillError, match="dsa takes the set's own; choose sre2l or rded"):
        make_views(DSA, Crops(), 0)
    moved = make_views(SRE2L_CIFAR, PadCrop(), 0)
    assert (moved.scale, moved.pad, moved.flip) == (None, 4, 0.5)
    assert (make_views(EDC, patches(), 0).patches, make_views(EDC, patches(), 0).scale) == (2, (0.5, 1.0))
    with pytest.raises(PotstillError, match="'dsa'; choose rrc, pad-crop, patches, flip or none"):
        make_views(SRE2L.override(augment="dsa"), dsa(), 0)


@pytest.mark.parametrize(
    ("protocol", "dtype", "more"),
    [("sre2l", "uint8", {}), ("sre2l", "uint4", {"loss": "mse", "committee": ("mlp-w8",)}), ("sre2l-cifar", None, {})],
)
def test_students_learn_of_a_stored_teacher(
    pictures: Splits, make_set: Any, tmp_path: Path, protocol: str, dtype: str | None, more: dict[str, Any]
) -> None:
    small, told = make_set(pictures), []
    short = SHORT | more
    sizes = label_bytes(small, pictures, protocol=protocol, network=NETWORK, dtype=dtype, **short)
    store = potstill.label(
        small, pictures, tmp_path / "t", protocol=protocol, network=NETWORK, seed=4, store_as="teacher", dtype=dtype,
        progress=lambda what, done, total: told.append(what), **short,
    )  # fmt: skip
    assert isinstance(store, TeacherFile)
    assert (store.nbytes, len(store.about.networks)) == (sizes["teacher"], 1 + len(more.get("committee", ())))
    settings: dict[str, Any] = short | {"networks": [NETWORK], "seeds": 2, "full": False, "baselines": False}
    scores = [
        potstill.evaluate(small, pictures, protocol=protocol, stored=store.path, **settings).to_dict() for _ in range(2)
    ]
    assert scores[0]["bytes"]["stored_labels"] == store.nbytes
    assert scores[0]["accuracy"] == scores[1]["accuracy"]
    # The student's loss is that of the teacher's own answers to these views, but for their rounding.
    p, x = registry.resolve("protocols", protocol).override(**short), small.model_space()
    teachers = train_teachers(
        p, pictures.train, factory(NETWORK, pictures.train.input, 4), lambda n: student_augmentation(n, pictures.train)
    )
    student = factory(NETWORK, pictures.train.input, 4)(3).eval()
    index = torch.arange(4)
    view = store.view(x, 2, index)
    answers = teachers.logits_function(p.teaching.teacher_statistics)(view)
    wanted = teacher_loss(p, answers, small.labels[index], None, student(view))
    found = stored_label_loss(p, student, store, x, small.labels, 2, index)
    torch.testing.assert_close(found, wanted, rtol=0.3 if dtype == "uint4" else 0.05, atol=1e-3)


def test_what_takes_fewer_bytes_is_stored_if_asked(pictures: Splits, make_set: Any, tmp_path: Path) -> None:
    small = make_set(pictures)
    settings: dict[str, Any] = {"protocol": "sre2l", "network": NETWORK, **SHORT}
    kinds = set()
    for n, (dtype, epochs) in enumerate((("uint8", 2), ("uint8", 400), ("uint4", 400))):
        given = settings | {"epochs": epochs, "dtype": dtype}
        sizes = label_bytes(small, pictures, **given)
        store = potstill.label(small, pictures, tmp_path / str(n), store_as="auto", **given)
        assert store.nbytes == min(sizes.values())
        kinds.add(type(store))
    assert kinds == {LabelFile, TeacherFile}


class Own(torch.nn.Module):
    """A network that no file can build."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(int(torch.tensor(shape).prod()), classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


def test_what_a_stored_teacher_cannot_be_is_refused_before_any_is_trained(
    pictures: Splits, make_set: Any, tmp_path: Path
) -> None:
    small = make_set(pictures)
    settings: dict[str, Any] = {"protocol": "sre2l", "network": NETWORK, "store_as": "teacher", **SHORT}
    for wrong, said in (
        ({"pool": 2}, "labels every epoch and all classes"),
        ({"top_k": 2}, "labels every epoch and all classes"),
        ({"dtype": "float16"}, "uint8"),
        ({"store_as": "logits"}, "rows"),
        ({"network": Own}, "potstill's own networks, but"),
    ):
        with pytest.raises(PotstillError, match=said):
            potstill.label(
                small, pictures, tmp_path / "x", **settings | wrong, progress=lambda *_: pytest.fail("trained in vain")
            )
    given = {k: v for k, v in settings.items() if k not in ("network", "store_as")}
    assert set(label_bytes(small, pictures, network=Own, **given)) == {"rows"}
    assert isinstance(potstill.label(small, pictures, tmp_path / "x", network=Own, store_as="auto", **given), LabelFile)
