"""Curves with short shapes: by hand, exact where shapes cover a series, and refused where they do not fit."""

from typing import Any

import pytest
import torch

import potstill
from potstill.augment.names import named_augmentation
from potstill.core import DecodeContext, InputSpec, Problem
from potstill.errors import PotstillError
from potstill.nn import factory
from potstill.parametrize.shapelets import Shapelets
from tests.series_data import classified

CONTEXT = DecodeContext(input=InputSpec(kind="signal", shape=(2, 7)))


def by_hand(payload: dict[str, torch.Tensor], points: int) -> torch.Tensor:
    n, c, knots = payload["knots"].shape
    x = torch.zeros(n, c, points, dtype=payload["knots"].dtype)
    for i in range(n):
        for ch in range(c):
            for t in range(points):
                at = t * (knots - 1) / (points - 1)
                low = min(int(at), knots - 2)
                share = at - low
                x[i, ch, t] = (1 - share) * payload["knots"][i, ch, low] + share * payload["knots"][i, ch, low + 1]
            for k, place in enumerate(payload["places"][i].tolist()):
                for j in range(payload["shapes"].shape[3]):
                    x[i, ch, place + j] += payload["shapes"][i, k, ch, j]
    return x


def drawn(n: int = 3) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {
        "knots": torch.randn(n, 2, 3, generator=rng, dtype=torch.float64),
        "shapes": torch.randn(n, 2, 2, 3, generator=rng, dtype=torch.float64),
        "places": torch.tensor([[0, 2], [1, 4], [4, 4]][:n], dtype=torch.int16),
    }


def test_a_curve_and_shapes_are_drawn() -> None:
    form, payload = Shapelets(count=2, length=3, knots=3), drawn()
    torch.testing.assert_close(form.decode(payload, CONTEXT), by_hand(payload, 7))


def test_gradients_reach_knots_and_shapes() -> None:
    payload = drawn(2)
    leaves = [payload[n].requires_grad_() for n in ("knots", "shapes")]

    def decoded(knots: torch.Tensor, shapes: torch.Tensor) -> torch.Tensor:
        form = Shapelets(count=2, length=3, knots=3)
        return form.decode({"knots": knots, "shapes": shapes, "places": payload["places"]}, CONTEXT)

    assert torch.autograd.gradcheck(decoded, leaves)


def encoded(form: Shapelets, x: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
    splits = potstill.load_data(classified(each=4, length=x.shape[2]), kind="series", test_fraction=0)

    problem = Problem(
        train=splits.train, counts=(1,) * 3, network=factory("mlp", splits.train.input, 3),
        augment=named_augmentation("none", splits.train), parametrization=form,
    )  # fmt: skip
    payload = dict(form.encode(x, problem, torch.Generator()))
    return payload, form.decode(payload, DecodeContext(input=splits.train.input))


def test_shapes_that_cover_a_series_keep_it() -> None:
    x = torch.randn(5, 2, 12, generator=torch.Generator().manual_seed(1))
    payload, again = encoded(Shapelets(count=1, length=12, knots=4), x)
    torch.testing.assert_close(again, x, atol=1e-5, rtol=1e-5)
    assert payload["places"].tolist() == [[0]] * 5


def test_shapes_stand_where_a_curve_misses_most() -> None:
    time = torch.linspace(-1, 1, 40)
    x = time.expand(2, 2, 40).clone()
    x[0, :, 9:12] += 5
    x[0, :, 30] -= 3
    x[1, 0, 20:23] += 4
    payload, again = encoded(Shapelets(count=2, length=3, knots=2), x)
    assert abs(int(payload["places"][0, 0]) - 9) == 0
    assert 28 <= int(payload["places"][0, 1]) <= 30
    assert 20 in payload["places"][1].tolist()
    plain = (x - encoded(Shapelets(count=1, length=1, knots=2), x)[1]).square().mean()
    assert float((again - x).square().mean()) < 0.5 * float(plain)


@pytest.mark.parametrize("method", ["dm", "dc", "kip", "random"])
def test_sets_of_series_are_learned_through_them(method: str) -> None:
    splits = potstill.load_data(classified(each=20), kind="series")
    options: dict[str, Any] = {} if method == "random" else {"parametrization": "shapelets:count=2,length=6,knots=4"}
    small = potstill.distill(splits, method, ipc=2, steps=8, progress=None, **options)
    assert small.inputs.shape[1:] == (2, 32)
    if method == "random":
        return
    assert len(small) == 3 * 3  # two series of 64 values hold three of 32 and their places
    assert set(small.payload) == {"knots", "shapes", "places"}
    card = potstill.evaluate(
        small, splits, networks="neighbours:k=1", baselines=False, full=False, robust_scores=False, progress=None
    ).to_dict()
    assert card["score"]["mean"] > 0.3


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(PotstillError, match="count must be at least 1, length at least 0 and knots 0 or at least 2"):
        Shapelets(knots=1)
    with pytest.raises(PotstillError, match="shapes of 9 points and 2 knots do not fit into series of 7 points"):
        Shapelets(length=9).sizes((100,), (2, 7))
    with pytest.raises(PotstillError, match="one series takes 68 bytes, but the budget leaves 40 of a class"):
        Shapelets(count=2, length=3, knots=2).sizes((10,), (2, 7))
    with pytest.raises(PotstillError, match=r"inputs must be series \(channels, points\), not \(1, 8, 8\)"):
        Shapelets().sizes((100,), (1, 8, 8))
    with pytest.raises(PotstillError, match="shapelets: inputs must be series"):
        potstill.distill("digits", "dm", ipc=1, parametrization="shapelets", steps=1, progress=None)
