"""The centre-point network: its maps, its names, and what takes boxes."""

import pytest
import torch
from torch import Tensor, nn

from potstill.core import InputSpec, NetworkFactory
from potstill.errors import PotstillError
from potstill.nn import default_network_name, factory
from potstill.nn.custom import CustomNetwork
from potstill.tasks import ObjectDetection
from potstill.testing import check_network


def made(name: object, shape: tuple[int, ...] = (3, 20, 26)) -> NetworkFactory:
    spec = InputSpec(kind="image", shape=shape)
    return factory(name, spec, 6, per_pixel=True, coarse=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["centernet-w8", "centernet-d1-w4", "centernet-d3-w8", "unet-w4"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 13, 27)])
def test_it_keeps_the_contract_also_on_odd_sizes(name: str, shape: tuple[int, ...]) -> None:
    check_network(made(name, shape), shape, 6, per_pixel=True, coarse=True)


def test_the_map_is_a_quarter_of_the_size_and_names_say_depth_and_width() -> None:
    assert made("centernet").name == "centernet-d2-w16"
    assert made("centernet", (1, 8, 8)).name == "centernet-d1-w16"
    with torch.no_grad():
        assert made("centernet")(0)(torch.zeros(2, 3, 20, 26)).shape == (2, 6, 5, 7)
    assert sum(p.numel() for p in made("centernet", (3, 16, 16))(0).parameters()) == 24_006


def test_other_networks_are_refused_for_boxes_and_it_is_refused_for_others() -> None:
    picture = InputSpec(kind="image", shape=(3, 16, 16))
    with pytest.raises(PotstillError, match=r"boxes need one for each place; take centernet, unet or fcn2d"):
        made("convnet")
    with pytest.raises(PotstillError, match=r"coarser map, and this task needs one for each pixel; take unet or fcn2d"):
        factory("centernet", picture, 3, per_pixel=True)
    with pytest.raises(PotstillError, match=r"these data have no masks and no boxes; take another, such as convnet"):
        factory("centernet", picture, 3)
    assert default_network_name(picture, ObjectDetection(labels=("a",))) == "centernet"


class Own(nn.Module):
    def __init__(self, shape: tuple[int, int, int], classes: int, flat: bool = False) -> None:
        super().__init__()
        self.conv, self.flat = nn.Conv2d(shape[0], classes, 4, 4), flat

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y.flatten(1) if self.flat else y


def test_ones_own_network_gives_a_map_of_any_size() -> None:
    assert made(CustomNetwork(Own)).device == torch.device("cpu")

    class Flat(Own):
        def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
            super().__init__(shape, classes, flat=True)

    with pytest.raises(PotstillError, match="6 logits for each place of a map"):
        made(CustomNetwork(Flat))
