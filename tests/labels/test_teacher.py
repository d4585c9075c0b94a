import pytest
import torch
from torch import Tensor, nn

from potstill.core import Batch, InputSpec, Normalization
from potstill.errors import PotstillError
from potstill.functional.train import cross_entropy
from potstill.labels.teacher import SGD, fresh_teacher, soft_labels, teacher_step, train_teacher
from potstill.rng import generator


class Blobs:
    """Three separable clouds in six dimensions, and a record of what was fetched."""

    name = "blobs"
    classes = ("a", "b", "c")
    input = InputSpec(kind="table", shape=(6,))
    device = torch.device("cpu")
    content_hash = "0"

    def __init__(self, labelled: bool = True) -> None:
        self.normalization = Normalization(torch.zeros(6), torch.ones(6))
        self.labelled = labelled
        self.fetched: list[list[int]] = []
        self.labels = torch.arange(60) % 3
        self.x = torch.randn(60, 6, generator=generator(1, "x")) * 0.5
        self.x[:, :3] += 3 * nn.functional.one_hot(self.labels, 3)

    def __len__(self) -> int:
        return 60

    def fetch(self, index: Tensor, /) -> Batch:
        self.fetched.append(index.tolist())
        return Batch(self.x[index], self.labels[index] if self.labelled else None)

    def raw(self, index: Tensor, /) -> Tensor:
        return self.x[index]

    def to(self, device: object, /) -> "Blobs":
        return self


class Scale:
    """An augmentation that shows in the result: every sample is multiplied by its own factor."""

    def draw(self, n: int, shape: tuple[int, ...], rng: torch.Generator, /) -> Tensor:
        return torch.rand(n, generator=rng)

    def apply(self, x: Tensor, params: Tensor, /) -> Tensor:
        return x * params[:, None]


def network(norm: bool = False) -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 3), *([nn.BatchNorm1d(3)] if norm else []))
    with torch.no_grad():
        net[0].weight.copy_(torch.randn(3, 6, generator=generator(0, "w")) * 0.1)
        net[0].bias.zero_()
    return net


def test_a_step_equals_sgd_of_torch_on_the_same_draw() -> None:
    blobs, net = Blobs(), network()
    teacher = fresh_teacher(net)
    rng = generator(3, "t")
    for _ in range(3):
        teacher, _ = teacher_step(net, teacher, blobs, rng, SGD(batch=8, lr=0.1, momentum=0.9, weight_decay=0.01))
    twin = network()
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for index in blobs.fetched:
        assert len(index) == 8
        optimizer.zero_grad()
        cross_entropy(twin(blobs.x[index]), blobs.labels[index]).backward()
        optimizer.step()
    assert teacher.step == 3
    for name, p in twin.named_parameters():
        # torch's own optimiser is another kernel: three steps are a few roundings of values below 1
        torch.testing.assert_close(teacher.params[name], p, rtol=1e-5, atol=1e-6)


def test_the_network_and_the_old_teacher_stay_as_they_were() -> None:
    net = network(norm=True)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    first = fresh_teacher(net)
    kept = {n: t.clone() for n, t in {**first.params, **first.buffers, **first.velocity}.items()}
    second, _ = teacher_step(net, first, Blobs(), generator(0), SGD(batch=16))
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())
    assert all(torch.equal(kept[n], t) for n, t in {**first.params, **first.buffers, **first.velocity}.items())
    assert int(second.buffers["1.num_batches_tracked"]) == 1
    assert not torch.equal(second.buffers["1.running_mean"], first.buffers["1.running_mean"])


def test_training_repeats_bit_for_bit_and_learns() -> None:
    blobs = Blobs()
    one = train_teacher(network(), blobs, generator(5), 60, SGD(lr=0.1))
    two = train_teacher(network(), blobs, generator(5), 60, SGD(lr=0.1))
    other = train_teacher(network(), blobs, generator(6), 60, SGD(lr=0.1))
    assert all(torch.equal(p, two.params[n]) for n, p in one.params.items())
    assert not torch.equal(one.params["0.weight"], other.params["0.weight"])
    rows = soft_labels(network(), one, blobs.x)
    assert float((rows.argmax(1) == blobs.labels).float().mean()) > 0.95


def test_an_augmentation_is_drawn_for_every_sample() -> None:
    net, blobs = network(), Blobs()
    plain, _ = teacher_step(net, fresh_teacher(net), blobs, generator(0), SGD(batch=8))
    scaled, _ = teacher_step(net, fresh_teacher(net), blobs, generator(0), SGD(batch=8), augment=Scale())
    assert blobs.fetched[0] == blobs.fetched[1]
    assert not torch.equal(plain.params["0.weight"], scaled.params["0.weight"])


def test_rows_sum_to_one_soften_with_temperature_and_use_running_statistics() -> None:
    net, blobs = network(norm=True), Blobs()
    teacher = train_teacher(net, blobs, generator(5), 20, SGD(lr=0.1))
    sharp, soft = (soft_labels(net, teacher, blobs.x, t) for t in (0.5, 4.0))
    assert torch.allclose(sharp.sum(1), torch.ones(60))
    assert float(sharp.max(1).values.mean()) > float(soft.max(1).values.mean())
    # alone or among others a sample gets the same row: no statistics of the batch
    assert torch.allclose(soft_labels(net, teacher, blobs.x[:1]), soft_labels(net, teacher, blobs.x)[:1], atol=1e-6)
    assert torch.allclose(soft_labels(net, teacher, blobs.x, chunk=7), soft_labels(net, teacher, blobs.x), atol=1e-6)
    assert net.training


def test_bad_input_is_refused_in_one_line() -> None:
    net = network()
    with pytest.raises(PotstillError, match=r"temperature must be above 0.*0\.0"):
        soft_labels(net, fresh_teacher(net), torch.zeros(1, 6), 0.0)
    with pytest.raises(PotstillError, match="blobs has none"):
        teacher_step(net, fresh_teacher(net), Blobs(labelled=False), generator(0))
