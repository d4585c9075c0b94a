"""Networks with an answer for each pixel, and those that have one for a whole picture."""

import pytest
import torch
from torch import Tensor, nn

from potstill.core import InputSpec, NetworkFactory
from potstill.errors import PotstillError
from potstill.nn import default_network_name, factory
from potstill.nn.custom import CustomNetwork
from potstill.nn.pixel_networks import default_depth_2d
from potstill.tasks import Classification, Segmentation
from potstill.testing import check_network


def made(name: object, shape: tuple[int, ...] = (3, 20, 26)) -> NetworkFactory:
    return factory(name, InputSpec(kind="image", shape=shape), 4, per_pixel=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["unet-w8", "fcn2d-w8", "unet-d1-w4", "fcn2d-d3-w6"])
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 13, 27)])
def test_they_keep_the_contract_also_on_odd_sizes(name: str, shape: tuple[int, ...]) -> None:
    check_network(made(name, shape), shape, 4, per_pixel=True)


def test_names_say_depth_and_width_which_go_by_size() -> None:
    assert [default_depth_2d(side) for side in (4, 8, 16, 32, 64, 500)] == [1, 1, 2, 3, 3, 3]
    assert made("unet").name == "unet-d2-w16"
    assert made("fcn2d-d1").name == "fcn2d-d1-w32"
    assert sum(p.numel() for p in made("unet", (3, 16, 16))(0).parameters()) == 118_964


def test_a_unet_sees_the_pixel_itself_and_a_coarse_network_its_surroundings() -> None:
    """One bright pixel moves the logits of a U-Net most at its place; those of fcn2d change smoothly around it."""
    x = torch.zeros(1, 3, 32, 32)
    x[0, :, 15, 17] = 6.0
    for name, most in (("unet", 2), ("fcn2d", 12)):
        net = made(name, (3, 32, 32))(0).eval()
        with torch.no_grad():
            change = (net(x) - net(torch.zeros_like(x))).abs().sum(1)[0]
        row, column = divmod(int(change.argmax()), 32)
        assert abs(row - 15) <= most
        assert abs(column - 17) <= most


def test_a_network_is_refused_where_its_answers_are_of_another_form() -> None:
    picture = InputSpec(kind="image", shape=(3, 16, 16))
    with pytest.raises(PotstillError, match=r"convnet has one answer for a whole picture.* unet or fcn2d"):
        factory("convnet", picture, 3, per_pixel=True)
    with pytest.raises(PotstillError, match=r"unet has an answer for each pixel.*such as convnet"):
        factory("unet", picture, 3)
    with pytest.raises(PotstillError, match=r"halvings|shrinks"):
        made("unet-d9", (3, 16, 16))
    with pytest.raises(PotstillError, match="has no part 'batch'"):
        made("unet-batch")
    assert default_network_name(picture, Segmentation(labels=("a", "b"))) == "unet"
    assert default_network_name(picture, Classification(k=2)) == "convnet"


class Coarse(nn.Module):
    def __init__(self, shape: tuple[int, ...], classes: int, whole: bool = False) -> None:
        super().__init__()
        self.conv, self.whole = nn.Conv2d(shape[0], classes, 3, padding=1), whole

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.conv(x)
        return maps.mean((2, 3)) if self.whole else maps


def test_a_network_of_ones_own_answers_for_each_pixel() -> None:
    net = made(CustomNetwork(Coarse))(0)
    assert net(torch.zeros(2, 3, 20, 26)).shape == (2, 4, 20, 26)
    with pytest.raises(PotstillError, match=r"must give 4 logits for each pixel.*gives \(4, 4\)"):
        made(CustomNetwork(lambda shape, classes: Coarse(shape, classes, whole=True)))
