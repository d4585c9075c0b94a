"""Targets move with their pictures, or their pictures do not move: masks of real digits."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import potstill
from potstill.augment.geometry import fit_to_task
from potstill.augment.names import describe_dropped, fit_to_source
from potstill.augment.siamese import Siamese
from potstill.core import Augmentation, Network, Splits, registry
from potstill.data import TensorSource
from potstill.evaluation.augmentation import omitted_augmentations, student_augmentation
from potstill.evaluation.student import StudentJob, fit, train
from potstill.evaluation.vmap_students import fit_stacked, group_jobs
from potstill.nn import factory
from potstill.tasks import Classification, Metric, Movement, Regression, move_maps

MOVING = ("dsa", "rrc", "pad-crop", "patches", "flip-rotate", "dc")


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Targets (n, 64): where there is ink. It does not say what becomes of them when pixels move."""

    @property
    def name(self) -> str:
        return "masks"

    @property
    def metric(self) -> Metric:
        return Metric(name="iou", direction="higher", unit="fraction", high=1.0)

    @property
    def unit(self) -> str:
        return "item"

    @property
    def outputs(self) -> int:
        return 64

    def loss(self, output: Tensor, y: Tensor, /) -> Tensor:
        return F.binary_cross_entropy_with_logits(output, y.to(output))

    def predict(self, output: Tensor, /) -> Tensor:
        return (output > 0).float()

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        both, either = answers.minimum(y).sum(1), answers.maximum(y).sum(1)
        return float((both / either.clamp_min(1)).double().mean())

    def chance_score(self, y: Tensor, /) -> float:
        return 0.0


@dataclass(frozen=True, kw_only=True)
class MovedMasks(Masks):
    """The same; they move along."""

    def move_targets(self, y: Tensor, movement: Movement, /) -> Tensor:
        return move_maps(y.reshape(len(y), *movement.size).long(), movement).flatten(1).to(y)


def source(task: object, part: str = "train", noise: float = 0.0) -> TensorSource:
    """Real digits of two shades, mirrored as one likes, and their masks."""
    real = getattr(potstill.load_data("digits"), part)
    x = real.raw(torch.arange(120))
    assert isinstance(x, Tensor)
    mask = (x > 0.4).float()
    seen = (mask + noise * torch.randn(mask.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    made = TensorSource.make(seen, torch.zeros(len(x), dtype=torch.int64), name="inked", kind="image")
    return dataclasses.replace(made, classes=(), task=task, targets=mask.flatten(1))


class Seen(Network):
    """A network whose output is its input, so that a loss sees the augmented picture beside the target."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Flatten()
        self.scale = nn.Parameter(torch.ones(()))

    def embed(self, x: Tensor) -> Tensor:
        return x.flatten(1) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x)


class SeenFactory:
    name, device = "seen", torch.device("cpu")

    def __call__(self, seed: int, /) -> Network:
        return Seen()


def drawn_by(name: str, task: object) -> Augmentation:
    """Students' augmentation of that name; of ``dsa`` what moves, as colours and squares hide where ink is."""
    real = source(task)
    if name == "dsa":
        return fit_to_source(Siamese(strategy=("crop", "flip", "scale", "rotate")), real, moves_targets=True)
    return student_augmentation(name, real)


def batches(task: Masks, name: str, students: int = 1) -> list[tuple[Tensor, Tensor]]:
    """What the loss of students sees of each batch: pictures with 1 where there is ink, and targets."""
    found: list[tuple[Tensor, Tensor]] = []

    @dataclass(frozen=True)
    class Looking(type(task)):  # type: ignore[misc]
        def loss(self, output: Tensor, y: Tensor, /) -> Tensor:
            if students == 1:
                found.append((output.detach().clone(), y.clone()))
            return ((output > 0.5) != (y > 0.5)).sum() + 0 * output.sum()

    looking = Looking()
    real = source(looking)
    x = real.raw(torch.arange(len(real)))
    protocol = (
        registry.resolve("protocols", "dsa")
        .override(epochs=12, batch=32, weight_decay=0.0)
        .resolve("inked", "seen", real.input)
    )
    job = StudentJob(
        make=SeenFactory(), x=x, y=real.targets, protocol=protocol, lr=0.01, steps=None,
        augment=drawn_by(name, looking), seed=3, task=looking,
    )  # fmt: skip
    fit(SeenFactory()(0), job)
    return found


@pytest.mark.parametrize("name", MOVING)
def test_pictures_of_a_task_that_does_not_say_stay_where_their_masks_are(name: str) -> None:
    seen = batches(Masks(), name)
    assert len(seen) == 13 * 4
    for picture, mask in seen:
        assert torch.equal(picture > 0.5, mask > 0.5)


@pytest.mark.parametrize("name", MOVING)
def test_masks_move_by_the_same_draw_pixel_by_pixel(name: str) -> None:
    seen = batches(MovedMasks(), name)
    real = source(Masks()).targets
    assert real is not None
    for picture, mask in seen:
        assert torch.equal(picture > 0.5, mask > 0.5)
    known = {tuple(row) for row in real.int().tolist()}
    moved = sum(tuple(row) not in known for _, mask in seen for row in mask.int().tolist())
    # by how much DC moves is not said, so there masks and pictures stay
    assert (moved == 0) if name == "dc" else (moved > 100)


def test_several_students_at_once_move_their_masks_as_each_alone() -> None:
    task = MovedMasks()
    real = source(task)
    protocol = registry.resolve("protocols", "dsa").override(epochs=3, batch=32).resolve("inked", "mlp", real.input)
    job = StudentJob(
        make=factory("mlp-w16", real.input, 64), x=real.raw(torch.arange(len(real))), y=real.targets,
        protocol=protocol, lr=0.1, steps=None, augment=drawn_by("dsa", task), seed=3, task=task,
    )  # fmt: skip
    jobs = [job, dataclasses.replace(job, seed=4)]
    assert len(list(group_jobs(jobs, 2))) == 1
    stack = fit_stacked(jobs)
    for n, one in enumerate(jobs):
        alone = train(one)
        for name, value in alone.named_parameters():
            torch.testing.assert_close(stack.state[name][n], value.detach(), atol=1e-4, rtol=1e-3)


def test_what_is_left_out_is_said_by_distill_evaluate_and_the_card() -> None:
    splits = Splits(train=source(Masks()), test=source(Masks(), "test"))
    small = potstill.distill(splits, "dm", items=10, steps=2, network="mlp-w16", augment="dsa", progress=None)
    said = "augmentation dsa without shift, flip, scale, rotate, which move pixels: task masks does not say"
    assert [n for n in small.notes if n.startswith(said)]
    protocol = registry.resolve("protocols", "potstill").override(steps=2, lr=0.01, least_epochs=0)
    card = potstill.evaluate(
        small, splits, protocol=protocol, networks="mlp-w16", seeds=2, baselines=False, full=False, progress=None
    )
    assert [line for line in card.to_dict()["chosen"]["left_out"] if line.startswith(said)]
    assert f"students trained with {said}" in str(card)


def test_masks_that_move_are_said_to_in_a_method_only() -> None:
    splits = Splits(train=source(MovedMasks()), test=source(MovedMasks(), "test"))
    small = potstill.distill(splits, "dm", items=10, steps=1, network="mlp-w16", augment="dsa", progress=None)
    assert [n for n in small.notes if "move along where students are trained, and not in a method" in n]
    protocol = registry.resolve("protocols", "potstill").override(steps=2, lr=0.01, least_epochs=0)
    card = potstill.evaluate(
        small, splits, protocol=protocol, networks="mlp-w16", seeds=1, baselines=False, full=False, progress=None
    )
    assert "left_out" not in card.to_dict()["chosen"]


def test_pictures_of_a_task_that_does_not_say_are_not_mixed_either() -> None:
    protocol = registry.resolve("protocols", "idc")
    assert protocol.recipe.mix == "cutmix"
    said = omitted_augmentations(protocol.recipe.augment, protocol, source(Masks()))
    assert said[-1] == (
        "cutmix left out, which mixes pictures: task masks does not say what becomes of its targets then"
    )
    splits = Splits(train=source(Masks()), test=source(Masks(), "test"))
    small = potstill.distill(splits, "random", items=10, progress=None)
    short = protocol.override(epochs=2)
    card = potstill.evaluate(
        small, splits, protocol=short, networks="mlp-w16", seeds=1, baselines=False, full=False, progress=None
    )
    assert len(card.to_dict()["chosen"]["left_out"]) == 2


@pytest.mark.parametrize(("targets", "wrong"), [(("age",), ()), (("x", "y"), Siamese().geometric)])
def test_one_real_target_stays_right_and_several_may_be_places(
    targets: tuple[str, ...], wrong: tuple[str, ...]
) -> None:
    task = Regression(targets=targets, mean=(0.0,) * len(targets), std=(1.0,) * len(targets))
    assert fit_to_task(Siamese(), task, moves_targets=True)[1] == wrong
    assert fit_to_task(Siamese(), Classification(k=3), moves_targets=False) == (Siamese(), ())


def test_an_augmentation_that_does_not_say_what_it_is_is_left_out() -> None:
    class Outside:
        def draw(self, n: int, shape: tuple[int, ...], rng: torch.Generator, /) -> None: ...

        def apply(self, x: Tensor, params: None, /) -> Tensor:
            return x.flip(3)

    made, wrong = fit_to_task(Outside(), Masks(), moves_targets=True)
    assert (made, wrong) == (Siamese(strategy=()), ("*",))
    assert fit_to_task(Outside(), Classification(k=3), moves_targets=True)[1] == ()
    said = describe_dropped("outside", Outside(), source(Masks()))
    assert said == (
        "augmentation outside left out, which may move pixels: task masks does not say what becomes of its targets then"
    )
