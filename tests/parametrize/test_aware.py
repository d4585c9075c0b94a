"""Rounding while a set is made: what is decoded is what a file will have, and gradients go straight through."""

import dataclasses
import math
from itertools import product

import pytest
import torch
from covering import covering
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problems import context, encoded, inputs, problem
from torch import Tensor

from potstill.codecs import decode, encoded_bytes, parse_codec
from potstill.core import Codec, DecodeContext, Parametrization, Payload, Synthetic
from potstill.core.registry import create, make_method
from potstill.errors import PotstillError
from potstill.functional.quantize import straight_through
from potstill.nn import factory
from potstill.parametrize.memory import Memory
from potstill.parametrize.pixels import Pixels
from potstill.parametrize.quantization_aware import QuantizationAware
from potstill.parametrize.tiles import Tiles
from potstill.rng import generator
from potstill.testing import toy_problem, toy_source

SPELLED = ("pixels", "tiles", "memory:bases=2", "small", "frequency:kept=16", "field:warmup=2", "compensators:count=2")
STORES = ("uint1", "uint2", "uint4", "uint8", "uint12", "apot:bits=2", "apot")


def aware(spelled: str, stored: str, learned: bool = False) -> QuantizationAware:
    return QuantizationAware(inner=create("parametrizations", spelled), codec=parse_codec(stored), learned=learned)


def reread(p: QuantizationAware, payload: Payload) -> Payload:
    return {name: decode(kept) for name, kept in p.encode_payload(payload).items()}


@pytest.mark.parametrize(
    ("spelled", "stored", "learned"), covering(product(SPELLED, STORES, [False, True]), strength=2)
)
def test_what_is_decoded_is_what_is_written(spelled: str, stored: str, learned: bool) -> None:
    """To the last bit, also after the payload and its levels have moved."""
    p = aware(spelled, stored, learned)
    prob = problem(p, (3, 12, 10), (1440, 1440))
    payload = dict(encoded(prob))
    rng = generator(3, "moved")
    for _ in range(2):
        with torch.no_grad():
            decoded = prob.decode(payload)
        kept = reread(p, payload)
        assert torch.equal(p.inner.decode(kept, context(3, 12, 10)), decoded)
        assert torch.equal(p.inner.decode(p.quantized_payload(payload), context(3, 12, 10)), decoded)
        assert kept.keys() == p.quantized_payload(payload).keys() == {n for n in payload if not n.startswith("range/")}
        leaves = {n: t.clone().requires_grad_() for n, t in payload.items() if t.is_floating_point()}
        assert torch.equal(prob.decode({**payload, **leaves}), decoded)
        for name, t in payload.items():
            if t.is_floating_point():
                payload[name] = t + 0.02 * t.abs().mean() * torch.randn(t.shape, generator=rng)
    names = [n for n in payload if n.startswith("range/")]
    assert len(names) == (2 * len([n for n, t in kept.items() if t.is_floating_point()]) if learned else 0)


@pytest.mark.parametrize(
    "stored", ["half:bits=2", "half:bits=16", "palette:colours=4", "palette:shared=true", "patches"]
)
@pytest.mark.parametrize("spelled", ["pixels", "tiles", "small"])
def test_stores_of_pictures_too(spelled: str, stored: str) -> None:
    for learned in (False, True)[: 1 if stored == "patches" else 2]:
        p = aware(spelled, stored, learned)
        prob = problem(p, (3, 12, 10), (1440, 1440))
        payload = dict(encoded(prob))
        for name, t in payload.items():
            payload[name] = t + 0.03 * torch.randn(t.shape, generator=generator(5, name))
        decoded = prob.decode(payload)
        assert torch.equal(p.inner.decode(reread(p, payload), context(3, 12, 10)), decoded)
        leaves = {n: t.requires_grad_() for n, t in payload.items()}
        found = torch.autograd.grad(prob.decode(leaves).square().sum(), tuple(leaves.values()))
        assert all(float(g.abs().sum()) > 0 for g in found)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("spelled", SPELLED)
def test_gradients_reach_everything(spelled: str, learned: bool) -> None:
    p = aware(spelled, "uint2", learned)
    prob = problem(p, (3, 12, 10), (1440, 1440))
    payload = encoded(prob)
    leaves = {n: t.clone().requires_grad_() for n, t in payload.items() if t.is_floating_point()}
    found = torch.autograd.grad(prob.decode({**payload, **leaves}).square().sum(), tuple(leaves.values()))
    for name, g in zip(leaves, found, strict=True):
        assert bool(torch.isfinite(g).all()), name
        # Compensators start at zero: there is no range to learn yet, and it follows them.
        assert float(g.abs().sum()) > 0 or name.startswith("range/decoder/compensators"), name


def test_what_starts_at_zero_is_not_held_there_by_its_learned_levels() -> None:
    p = aware("compensators:count=2", "uint2", learned=True)
    prob = problem(p, (3, 12, 10), (1440, 1440))
    payload = dict(encoded(prob))
    assert float(p.quantized_payload(payload)["decoder/compensators"].abs().sum()) == 0
    moved = torch.randn(payload["decoder/compensators"].shape, generator=generator(0, "moved"))
    kept = p.quantized_payload({**payload, "decoder/compensators": moved})["decoder/compensators"]
    assert float((kept - moved).square().mean()) < 0.2


def test_gradients_are_those_without_rounding_between_the_end_levels() -> None:
    inner = Pixels()
    prob = problem(QuantizationAware(inner=inner, codec=parse_codec("uint4")), (1, 6, 6), (72, 72))
    payload = encoded(prob)
    slope = torch.randn(4, 1, 6, 6, generator=generator(0, "slope"))
    x = payload["inputs"].clone().requires_grad_()
    (found,) = torch.autograd.grad((prob.decode({"inputs": x}) * slope).sum(), x)
    levels = parse_codec("uint4").fit_ranges(payload["inputs"])  # type: ignore[attr-defined]
    low, high = (levels[end].reshape(-1, *[1] * (x.ndim - 1)) for end in ("low", "high"))
    inside = (x.detach() >= low) & (x.detach() <= high)
    assert torch.equal(found, slope * inside)
    assert not inside.all()  # levels follow the values: if those beyond them moved too, both would run away


@given(st.integers(1, 8), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_straight_through_is_the_derivative_with_the_rounding_held(bits: int, seed: int) -> None:
    """Finite differences of ``l + s (clamp(v) + r)`` where r, what rounding adds, is held: outside of its jumps."""
    ends = (-0.5, (1 << bits) - 0.5)
    rng = generator(seed, "gradcheck")
    most = (1 << bits) - 1
    low = torch.randn(1, generator=rng).double()
    step = torch.rand(1, generator=rng).double() + 0.3
    v = (torch.rand(9, generator=rng).double() * (most + 4) - 2).round()
    v = v + torch.where((v < 0) | (v > most), 0.2 * v.sign(), (torch.rand(9, generator=rng).double() - 0.5) * 0.8)
    x = low + step * v
    held = ((x - low) / step).clamp(*ends)
    rest = held.round().clamp(0, most) - held
    leaves = tuple(t.clone().requires_grad_() for t in (x, low, step))
    assert torch.autograd.gradcheck(lambda a, b, c: b + c * (((a - b) / c).clamp(*ends) + rest), leaves)
    smooth = leaves[1] + leaves[2] * (((leaves[0] - leaves[1]) / leaves[2]).clamp(*ends) + rest)
    made = straight_through(*leaves, bits)
    torch.testing.assert_close(made, smooth)
    slope = torch.randn(9, generator=rng).double()
    for a, b in zip(
        torch.autograd.grad((made * slope).sum(), leaves),
        torch.autograd.grad((smooth * slope).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    q = made.detach().sub(low).div(step).round()
    inside = (v > -0.5) & (v < most + 0.5)
    by_step = torch.where(inside, q - v, q)
    torch.testing.assert_close(torch.autograd.grad((straight_through(*leaves, bits) * slope).sum(), leaves[2])[0],
                               (by_step * slope).sum()[None])  # fmt: skip


def test_learned_levels_find_what_they_are_asked_for() -> None:
    """Levels far off come to where the error is small: a clip that is too wide shrinks."""
    made = parse_codec("uint2")
    x = torch.rand(400, generator=generator(1, "learn"))
    low, high = torch.tensor([-1.0], requires_grad=True), torch.tensor([3.0], requires_grad=True)
    optimizer = torch.optim.Adam([low, high], lr=0.02)
    errors = []
    for _ in range(200):
        loss = (made.fake_quantize_with_ranges(x, {"low": low, "high": high}) - x).square().mean()  # type: ignore[attr-defined]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    best = float((made.fake_quantize(x) - x).square().mean())  # type: ignore[attr-defined]
    assert errors[0] > 10 * best
    assert errors[-1] < 1.2 * best


METHODS = ("dm", "dc")


@pytest.mark.parametrize(
    ("name", "spelled", "learned"),
    covering(product(METHODS, ["pixels", "tiles", "memory:bases=2", "small"], [False, True]), strength=2),
)
def test_methods_run_over_it_unchanged(name: str, spelled: str, learned: bool) -> None:
    _, method = make_method(name, {"iterations": 3, "optimizer": "adamw", "lr": 0.05, "batch_real": 8})
    source = toy_source("image", side=16, classes=2)
    p = aware(spelled, "uint2", learned)
    prob = dataclasses.replace(toy_problem(method), counts=(4, 3), train=source, parametrization=p)
    prob = dataclasses.replace(prob, network=factory("convnet-d1-w8", source.input, 2), assets={})
    rng = torch.Generator().manual_seed(0)
    state = method.init(prob, rng)
    first = method.result(prob, state)
    for _ in range(2):
        state, metrics = method.step(prob, state, rng)
        assert all(math.isfinite(v) for v in metrics.values())
    last = method.result(prob, state)
    assert isinstance(first, Synthetic)
    assert isinstance(last, Synthetic)
    assert not torch.equal(prob.decode(first.payload), prob.decode(last.payload))
    kept = p.encode_payload(last.payload)
    with torch.no_grad():
        assert torch.equal(
            p.inner.decode({n: decode(k) for n, k in kept.items()}, context(1, 16, 16)), prob.decode(last.payload)
        )
    moved = [n for n in last.payload if n.startswith("range/") and not torch.equal(last.payload[n], first.payload[n])]
    assert bool(moved) == learned
    assert sum(encoded_bytes(k) for k in kept.values()) <= 7 * 256 * 2 / 8 + 64


def test_it_says_what_its_inner_one_says() -> None:
    p = aware("tiles:factor=3", "uint4")
    assert p.bounded
    assert not aware("memory", "uint4").bounded
    assert p.sizes((784, 1568), (1, 28, 28)) == Tiles(factor=3).sizes((784, 1568), (1, 28, 28))
    with pytest.raises(PotstillError):
        p.sizes((10,), (1, 28, 28))


def test_positions_stay_whole() -> None:
    p = aware("frequency:kept=16", "uint4", learned=True)
    prob = problem(p, (1, 12, 10), (480, 480))
    payload = encoded(prob)
    assert torch.equal(p.quantized_payload(payload)["positions"], payload["positions"])
    assert p.quantized_payload(payload)["positions"].dtype == payload["positions"].dtype
    assert not any(n.startswith(("range/positions", "range/counts")) for n in payload)


def test_tensors_of_one_prefix_keep_their_own_levels() -> None:
    """``inputs/1`` and ``inputs/10`` are different tensors, and so are ``a`` and ``a/b``."""

    class Two:
        bounded = True

        def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
            return numbers

        def encode(self, x: Tensor, problem: object, rng: object, /) -> Payload:
            return {"a": x, "a/b": x * 10, "a/low": x * 100}

        def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
            return payload["a"] + payload["a/b"] + payload["a/low"]

    inner: Parametrization = Two()  # type: ignore[assignment]
    p = QuantizationAware(inner=inner, codec=parse_codec("uint8"), learned=True)
    prob = problem(p, (1, 4, 4), (1, 1))
    payload = p.encode(torch.rand(2, 1, 4, 4, generator=generator(0, "two")), prob, generator(0))
    assert len(payload) == 9
    kept = reread(p, payload)
    for name in ("a", "a/b", "a/low"):
        torch.testing.assert_close(kept[name], payload[name], rtol=0.02, atol=0.5)
    assert torch.equal(p.decode(payload, context(1, 4, 4)), sum(kept.values()))


@pytest.mark.parametrize(
    ("stored", "learned", "said"),
    [("exact", False, "cannot round"), ("exact", True, "cannot learn"), ("mosaic", False, "take uint1 to uint8")],
)
def test_stores_that_cannot_are_refused(stored: str, learned: bool, said: str) -> None:
    made: Codec = parse_codec(stored)
    with pytest.raises(PotstillError, match=said):
        QuantizationAware(inner=Memory(), codec=made, learned=learned)


def test_without_learned_levels_a_plain_payload_is_decoded_too() -> None:
    p = aware("pixels", "uint3", learned=True)
    prob = problem(p, (1, 5, 5), (50, 50))
    x = inputs(prob)
    assert torch.equal(p.decode({"inputs": x}, context(1, 5, 5)), decode(parse_codec("uint3").pack(x)))
