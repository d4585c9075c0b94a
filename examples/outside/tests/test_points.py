"""Point clouds from outside: no order of points, turns, sorted features as SADM's program has them, and a whole run."""

from math import pi
from pathlib import Path

import numpy as np
import pytest
import torch
from potstill_points.augmentation import Turn
from potstill_points.kind import POINTS, draw_cloud
from potstill_points.loader import fit_to_sphere, read_points
from potstill_points.network import EdgeNet, PointNet, SortedPointNet
from potstill_points.turned import Turned, rotation
from shapes import SHAPES, write_shapes

import potstill
from potstill.core import DecodeContext, InputSpec
from potstill.data.read_options import ReadOptions
from potstill.errors import PotstillError
from potstill.kinds import get_kind
from potstill.nn import factory, parse_network
from potstill.rng import generator
from potstill.tasks import Classification
from potstill.testing import check_augmentation, check_network, check_source


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("clouds") / "shapes", 10)


def test_the_loader(folder: Path) -> None:
    splits = read_points(Classification(k=8), folder, ReadOptions())
    check_source(splits.train)
    assert splits.train.classes == SHAPES
    assert splits.train.input.shape == (3, 64)
    x = splits.train.raw(torch.arange(len(splits.train)))
    assert float((x.norm(dim=1).amax(1) - 1).abs().max()) < 1e-5
    assert float(x.mean(2).abs().max()) < 1e-5


def test_clouds_of_other_sizes_and_forms_and_what_is_no_cloud(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, n in (("a/1.npy", 20), ("a/2.npy", 12), ("b/1.npy", 30), ("b/2.npy", 40)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, rng.normal(size=(n, 3)))
    splits = read_points(Classification(k=2), tmp_path, ReadOptions(test_fraction=0.0))
    assert splits.train.input.shape == (3, 12)
    before = splits.train.raw(torch.arange(1))
    np.save(tmp_path / "b" / "3.npy", rng.normal(size=(50, 3)))
    assert torch.equal(
        read_points(Classification(k=2), tmp_path, ReadOptions(test_fraction=0.0)).train.raw(torch.arange(1)), before
    )
    for bad, text in (
        ("x y z\n", "three numbers for each point"),
        ("1 2\n" * 9, "three finite"),
        ("1 2 nan\n" * 9, "finite"),
    ):
        (tmp_path / "b" / "bad.xyz").write_text(bad)
        with pytest.raises(PotstillError, match=text) as error:
            read_points(Classification(k=2), tmp_path, ReadOptions())
        assert "\n" not in str(error.value)
    np.save(tmp_path / "b" / "bad.npy", np.array([{"a": 1}]), allow_pickle=True)
    (tmp_path / "b" / "bad.xyz").unlink()
    with pytest.raises(PotstillError, match="correct or remove it"):
        read_points(Classification(k=2), tmp_path, ReadOptions())
    with pytest.raises(PotstillError, match="at least two folders"):
        read_points(Classification(k=2), tmp_path / "a", ReadOptions())


@pytest.mark.parametrize("network", [PointNet, SortedPointNet, EdgeNet])
def test_no_network_sees_the_order_of_points(network: type) -> None:
    spec = InputSpec(kind="points", shape=(3, 20))
    check_network(factory(parse_network(network), spec, 4), spec.shape, 4)
    net = network((3, 20), 4).eval()
    x = torch.randn(5, 3, 20, generator=generator(0, "x"))
    order = torch.randperm(20, generator=generator(1, "order"))
    torch.testing.assert_close(net(x[:, :, order]), net(x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(net.embed(x[:, :, order]), net.embed(x), atol=1e-5, rtol=1e-4)


def test_dm_on_sorted_features_is_the_loss_of_the_published_program() -> None:
    net = SortedPointNet((3, 16), 4)
    real, made = torch.randn(9, 3, 16, generator=generator(0, "r")), torch.randn(4, 3, 16, generator=generator(0, "s"))
    ours = (net.embed(real).mean(0) - net.embed(made).mean(0)).square().sum()
    t, s = (torch.sort(net.points(x).detach(), dim=2, descending=True)[0].mean(0) for x in (real, made))
    loss = 0.2 * sum(float(((t[:, p] - s[:, p]) ** 2).sum()) for p in range(16)) / 16
    assert float(ours.detach()) == pytest.approx(loss, rel=1e-5)


def test_turns_are_about_x_then_y_then_z() -> None:
    quarter = pi / 2
    for angles, point, want in (
        ((quarter, 0, 0), (0, 1, 0), (0, 0, 1)), ((0, quarter, 0), (0, 0, 1), (1, 0, 0)),
        ((0, 0, quarter), (1, 0, 0), (0, 1, 0)), ((quarter, quarter, 0), (0, 1, 0), (1, 0, 0)),
    ):  # fmt: skip
        turned = rotation(torch.tensor([angles])) @ torch.tensor(point, dtype=torch.float32)
        torch.testing.assert_close(turned[0], torch.tensor(want, dtype=torch.float32), atol=1e-6, rtol=0)
    matrices = rotation(torch.randn(6, 3, dtype=torch.float64, generator=generator(0, "a")))
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3, dtype=torch.float64).expand(6, 3, 3))
    assert torch.autograd.gradcheck(rotation, (torch.randn(2, 3, dtype=torch.float64, requires_grad=True),))


def test_the_augmentation_turns_about_the_vertical_axis() -> None:
    check_augmentation(Turn(), (3, 20))
    x = torch.randn(4, 3, 20, generator=generator(0, "x"))
    augment = Turn(jitter=0.0)
    out = augment.apply(x, augment.draw(4, (3, 20), generator(1, "d")))
    torch.testing.assert_close(out[:, 1], x[:, 1])
    torch.testing.assert_close(out[:, [0, 2]].norm(dim=1), x[:, [0, 2]].norm(dim=1))
    assert not torch.allclose(out, x)


def test_a_parametrization_starts_at_the_clouds_and_is_paid() -> None:
    turned = Turned()
    assert turned.sizes((63 * 2, 63 * 3 + 5), (3, 20)) == (2, 3)
    with pytest.raises(PotstillError, match="a cloud takes 63 numbers"):
        turned.sizes((62,), (3, 20))
    with pytest.raises(PotstillError, match="three numbers"):
        Turned(units=(1.0,))
    x = torch.randn(4, 3, 20, generator=generator(0, "x"))
    payload = turned.encode(x, None, generator(0))  # type: ignore[arg-type]  # no problem is read
    context = DecodeContext(input=InputSpec(kind="points", shape=(3, 20)))
    assert torch.equal(turned.decode(payload, context), x)
    payload["angles"][:, 1] = 100.0  # 3.16 radians: half a turn
    torch.testing.assert_close(turned.decode(payload, context)[:, 1], x[:, 1])


def test_a_run_from_a_folder_to_a_page(folder: Path, tmp_path: Path) -> None:
    assert get_kind("points") is POINTS
    data = potstill.load_data(folder)  # the loader accepts the folder, so no kind is named
    small = potstill.distill(
        data, "dm", ipc=2, steps=3, network="sorted-point-net", parametrization="turned", progress=None
    )
    assert bool(small.payload["angles"].any())
    path = small.save(tmp_path / "small.safetensors")
    assert torch.equal(potstill.load(path).inputs, small.inputs)
    assert small._repr_html_().count("<svg") == 8
    assert "64 point clouds of 64 points in 8 classes" in repr(data.train)
    score = potstill.evaluate(
        small, data, networks=["point-net", "edge-net"], protocol="dc", epochs=30, seeds=1, baselines=False,
        full=False, robust_scores=False, progress=None,
    )  # fmt: skip
    assert score.score > 0.25  # twice chance
    assert "<circle" in draw_cloud(small.inputs[0].numpy(), "<b>")
    assert "<b>" not in str(draw_cloud(small.inputs[0].numpy(), "<b>"))


def test_a_cloud_of_one_place_stays_finite() -> None:
    assert not bool(fit_to_sphere(torch.ones(9, 3)).any())
