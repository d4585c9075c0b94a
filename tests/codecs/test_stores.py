"""Every store writes what the codecs read: no loss where none is allowed, at most half a step elsewhere."""

import json
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill.codecs import (
    decode,
    encode_classes,
    encode_ints,
    encode_probabilities,
    encoded_bytes,
    format_codec,
    parse_codec,
)
from potstill.codecs.exact import Float
from potstill.codecs.size_estimate import FixedSize, estimate_bytes
from potstill.codecs.uniform import Uniform, choose_range_axis
from potstill.core import Codec, ContextCodec, Encoded, registry
from potstill.errors import PotstillError
from potstill.functional.quantize import fit_range, quantize, straight_through
from potstill.rng import generator

PICTURES = torch.rand(12, 3, 10, 7, generator=generator(0, "stores")) * 3 - 1
NAMES = ("float32", "float16", "exact", *(f"uint{b}" for b in (1, 2, 3, 4, 5, 8, 12, 16)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(12, 3, 10, 7), (252, 10), (2520,), (4, 63, 10), (2, 3, 2, 3, 10, 7)])
def test_a_stored_tensor_is_read_with_its_shape(name: str, shape: tuple[int, ...]) -> None:
    x = PICTURES.reshape(shape)
    kept = parse_codec(name).pack(x)
    back = decode(kept)
    assert back.shape == shape
    assert back.dtype == torch.float32
    assert encoded_bytes(kept) == sum(t.numel() * t.element_size() for t in kept.tensors.values())
    if name in ("float32", "exact"):
        assert torch.equal(back, x)
    else:
        bits = int(name.lstrip("uintfloa"))
        worst = float((back - x).abs().max())
        assert worst <= (2e-3 if name == "float16" else 4.1 / (2**bits - 1))
    assert decode(kept).equal(back)
    assert format_codec(parse_codec(name)) == name


def test_bytes_are_bits() -> None:
    for bits in (1, 2, 4, 8):
        kept = parse_codec(f"uint{bits}").pack(torch.rand(100, 1, 28, 28, generator=generator(1, "bits")))
        assert len(kept.tensors[""]) == 100 * 28 * 28 * bits // 8
        ranges = encoded_bytes(kept) - len(kept.tensors[""])
        assert 0 < ranges <= 0.05 * len(kept.tensors[""])


@pytest.mark.parametrize(("parts", "bits"), [(1, 1), (2, 2), (3, 2), (15, 4), (16, 5), (64, 7), (255, 8), (65535, 16)])
def test_pixels_keep_their_own_precision(parts: int, bits: int) -> None:
    q = torch.randint(0, parts + 1, (9, 1, 8, 8), generator=generator(parts, "grid"))
    q[0, 0, 0, :2] = torch.tensor([parts, min(1, parts)])
    x = q.float() / parts
    kept = parse_codec("exact").pack(x)
    assert torch.equal(decode(kept), x)
    assert kept.metadata["bits"] <= bits
    assert len(kept.tensors[""]) <= -(-9 * 64 * bits // 8)


@settings(deadline=None)
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40), st.integers(1, 30))
def test_exact_loses_nothing(values: list[float], times: int) -> None:
    x = torch.tensor(values * times).reshape(-1, 1)
    kept = parse_codec("exact").pack(x)
    back = decode(kept)
    assert torch.equal(back, x)
    assert torch.equal(torch.signbit(back), torch.signbit(x))
    assert encoded_bytes(kept) <= 4 * x.numel()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(0, 1000), st.booleans())
def test_the_fit_is_no_worse_than_the_ends(bits: int, seed: int, grouped: bool) -> None:
    x = torch.randn(6, 40, generator=generator(seed, "fit")) ** 3
    axis = 0 if grouped else None
    low, step = fit_range(x, bits, axis)
    q = quantize(x, low, step, bits)
    assert int(q.min()) >= 0
    assert int(q.max()) < 2**bits
    over = (1,) if grouped else (0, 1)
    a, b = x.amin(over, keepdim=True), x.amax(over, keepdim=True)
    plain = (b - a) / (2**bits - 1)
    by_ends = a + plain * quantize(x, a, plain, bits)
    assert float((low + step * q - x).square().sum()) <= float((by_ends - x).square().sum()) * (1 + 1e-4)  # in float32


def test_codes_and_gradients_by_hand() -> None:
    low, step = torch.zeros(1), torch.ones(1)
    assert quantize(torch.tensor([-1.0, 0, 2]), low, step, 2).tolist() == [0, 0, 2]
    x = torch.tensor([-0.9, 0.3, 9.0], dtype=torch.float64, requires_grad=True)
    s = torch.tensor([0.25], dtype=torch.float64, requires_grad=True)
    made = straight_through(x, torch.zeros(1, dtype=torch.float64), s, 4)
    assert made.tolist() == [0, 0.25, 3.75]
    gx, gs = torch.autograd.grad(made.sum(), (x, s))
    assert gx.tolist() == [0, 1, 0]
    assert gs.item() == pytest.approx((1 - 1.2) + 15)  # inside: q − x / s = −0.2; above: Q


def test_a_constant_group_stays_what_it_is() -> None:
    x = torch.cat([torch.full((1, 400), 0.5), torch.rand(1, 400, generator=generator(2, "c"))])
    back = decode(Uniform(bits=4).pack(x))
    assert torch.equal(back[0], x[0])


def test_ranges_lie_where_they_cost_little() -> None:
    assert choose_range_axis((100, 1, 28, 28), 4) == 0
    assert choose_range_axis((100, 3, 2, 2), 2) == 1
    assert choose_range_axis((20, 3, 2, 2), 2) is None
    assert choose_range_axis((20, 30), 4) is None
    assert choose_range_axis((10, 5, 3, 32, 32), 4) == 0


@settings(deadline=None)
@given(st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=50))
def test_whole_numbers_come_back(values: list[int]) -> None:
    x = torch.tensor(values)
    kept = encode_ints(x)
    assert torch.equal(decode(kept), x)
    assert encoded_bytes(kept) <= 4 * len(values) + 2


@settings(deadline=None)
@given(st.lists(st.integers(0, 149), min_size=1, max_size=400), st.booleans())
def test_classes_come_back(labels: list[int], sort: bool) -> None:
    y = torch.tensor(sorted(labels) if sort else labels)
    kept = encode_classes(y, 150)
    assert torch.equal(decode(kept), y)
    assert encoded_bytes(kept) <= len(labels) + 1


def test_sorted_classes_take_a_byte_for_each_class() -> None:
    assert encoded_bytes(encode_classes(torch.arange(10).repeat_interleave(40), 10)) == 10
    assert encoded_bytes(encode_classes(torch.arange(10).repeat_interleave(300), 10)) == 20


@settings(deadline=None)
@given(st.integers(1, 15), st.integers(2, 30), st.integers(0, 99))
def test_rows_stay_rows(bits: int, k: int, seed: int) -> None:
    rows = (torch.randn(7, k, generator=generator(seed, "rows")) * 3).softmax(1)
    back = decode(encode_probabilities(rows, bits))
    assert torch.allclose(back.sum(1), torch.ones(7), atol=1e-5)
    assert bool((back >= 0).all())
    assert float((back - rows).abs().max()) <= (k + 1) / (2**bits - 1)
    assert torch.equal(decode(encode_probabilities(rows, 32)), rows)


def taken(made: Codec, x: Tensor) -> Encoded | None:
    try:
        return made.pack(x)
    except PotstillError:
        return None


@pytest.mark.parametrize("shape", [(12, 1, 10, 7), (4, 3, 9, 12), (1, 3, 8, 8), (2, 2, 1, 6, 5), (30, 6), (40,)])
# Those that write by a context have tests of their own: tests/parametrize/test_basis.py; texts are no numbers.
@pytest.mark.parametrize(
    "name", [n for n in registry.names("codecs") if not isinstance(parse_codec(n), ContextCodec) and n != "texts"]
)
def test_every_registered_store_keeps_the_contract(name: str, shape: tuple[int, ...]) -> None:
    """What is packed is read: as JSON says it, the same each time, close to what it was; or it says what it takes."""
    made = parse_codec(name)
    assert parse_codec(format_codec(made)) == made
    assert 1 <= made.label_bits <= 32
    h, w = shape[-2:] if len(shape) > 1 else (shape[0], 1)
    smooth = torch.rand(math.prod(shape[:-2]) or 1, 1, 3, 3, generator=generator(len(shape), "contract"))
    x = torch.nn.functional.interpolate(smooth, size=(h, w), mode="bilinear").flatten()[: math.prod(shape)]
    x = x.repeat(-(-math.prod(shape) // len(x)))[: math.prod(shape)].reshape(shape)
    kept = taken(made, x)
    if kept is None:
        is_picture = len(shape) == 4 and shape[-3] in (1, 3)
        assert not is_picture or name == "columns", "pictures are taken by every store but that of tables"
        with pytest.raises(PotstillError, match=rf"needs? .*{re.escape(str(list(shape)))}"):
            made.pack(x)
        return
    assert all(t.is_contiguous() and t.device.type == "cpu" for t in kept.tensors.values())
    assert kept.metadata["shape"] == list(shape)
    assert json.loads(json.dumps(kept.metadata)) == kept.metadata
    again = made.pack(x.clone())
    assert again.metadata == kept.metadata
    assert all(torch.equal(t, again.tensors[suffix]) for suffix, t in kept.tensors.items())
    back = decode(kept)
    assert back.shape == shape
    assert back.dtype == torch.float32
    assert bool(torch.isfinite(back).all())
    assert float((back - x).square().mean()) <= 0.05
    if isinstance(made, Float | Uniform | FixedSize):
        assert estimate_bytes(made, shape) == encoded_bytes(kept)
    if hasattr(made, "rounded"):  # what distillation sees is what is read, to the last bit
        leaf = x.clone().requires_grad_()
        rounded = made.rounded(leaf)
        assert torch.equal(rounded, back)
        (slope,) = torch.autograd.grad(rounded.sum(), leaf)
        assert bool(torch.isfinite(slope).all())
        assert float(slope.abs().sum()) > 0


def broken(change: dict[str, object], tensors: dict[str, Tensor] | None = None) -> Encoded:
    kept = parse_codec("uint4").pack(PICTURES)
    return Encoded({**kept.tensors, **(tensors or {})}, {**kept.metadata, **change})


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (broken({"codec": "pickle"}), "its codec is 'pickle'"),
        (broken({"codec": ["uniform"]}), "upgrade"),
        (broken({"bits": 5}), "need 1575 bytes"),
        (broken({"bits": True}), "its bits must be"),
        (broken({"bits": 99}), "its bits must be"),
        (broken({"shape": [2**40, 2**40]}), "refused"),
        (broken({"shape": "12"}), "list of whole numbers"),
        (broken({"axis": 4}), "its axis must be"),
        (broken({"axis": 1}), "which its codec does not write"),
        (broken({}, {".low": torch.zeros(12, dtype=torch.int64)}), "torch.int64"),
        (broken({"codec": "levels"}), "is missing"),
        (broken({"codec": "levels"}, {".levels": torch.zeros(2)}), "more levels than the 2"),
        (broken({"codec": "rows"}), "its rows must"),
        (Encoded({"": torch.tensor([3, -1])}, {"codec": "runs", "shape": [2]}), "which its codec does not write"),
        (Encoded({"": torch.tensor([3], dtype=torch.uint8)}, {"codec": "runs", "shape": [2]}), "sum to 2"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(bad: Encoded, said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        decode(bad)


@pytest.mark.parametrize(
    ("spelled", "said"),
    [("uint0", "bits must be"), ("uint17", "bits must be"), ("float8", "16 or 32 bits"), ("zip", "codec"),
     ("uint4:q=1", "q")],
)  # fmt: skip
def test_a_store_that_is_none_is_refused(spelled: str, said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        parse_codec(spelled)


def test_half_the_size_is_a_quarter_of_the_codes() -> None:
    x = torch.rand(40, 1, 28, 28, generator=generator(5, "half"))
    for bits in (1, 4, 8):
        kept = parse_codec(f"half:bits={bits}").pack(x)
        small = parse_codec(f"uint{bits}").pack(torch.nn.functional.avg_pool2d(x, 2))
        assert encoded_bytes(kept) == encoded_bytes(small)
        assert len(kept.tensors[""]) == 40 * 196 * bits // 8
        expected = torch.nn.functional.interpolate(decode(small), size=(28, 28), mode="bilinear")
        torch.testing.assert_close(decode(kept), expected, atol=1e-5, rtol=0)
    assert encoded_bytes(parse_codec("half:bits=16,factor=4").pack(x)) == 40 * 49 * 2
    with pytest.raises(PotstillError, match=r"half needs pictures .* \[30, 7\]"):
        parse_codec("half").pack(torch.rand(30, 7))


SMALL = parse_codec("half:bits=4").pack(torch.rand(2, 1, 8, 8, generator=generator(6, "half")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": [2, 1, 800, 8]}, "may grow, by up to"),
        ({"shape": [2, 1, 3, 8]}, "may grow"),
        ({"shape": [2, 2, 8, 8]}, "may grow"),
        ({"shape": [2, 8, 8]}, "must describe the smaller"),
        ({"within": "uint4"}, "must describe the smaller"),
        ({"within": {"codec": "small", "shape": [2, 1, 4, 4]}}, "must describe the smaller"),
        ({"within": {**SMALL.metadata["within"], "bits": 2}}, "need 8 bytes"),
        ({"within": {"shape": [2, 1, 4, 4]}}, "its codec is 'None'"),
    ],
)  # fmt: skip
def test_a_smaller_picture_that_is_none_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        decode(Encoded(SMALL.tensors, {**SMALL.metadata, **change}))


@pytest.mark.parametrize("spelled", ["half:bits=9", "half:factor=0", "half:factor=17", "half:labels=0"])
def test_half_out_of_its_range_is_refused(spelled: str) -> None:
    with pytest.raises(PotstillError, match="must be from 1"):
        parse_codec(spelled)


def test_ranges_learn_with_gradients_of_learned_steps() -> None:
    """By hand: the gradient of a level is scaled by 1 / √(n · Q), and goes to both ends as the span does."""
    made = Uniform(bits=2)
    x = torch.tensor([-0.6, 0.9, 1.2, 9.0], requires_grad=True)
    ranges = {"low": torch.zeros(1, requires_grad=True), "high": torch.full((1,), 3.0, requires_grad=True)}
    back = made.fake_quantize_with_ranges(x, ranges)
    assert back.tolist() == [0, 1, 1, 3]
    assert torch.equal(decode(made.pack_with_ranges(x, ranges)), back)
    gx, low, high = torch.autograd.grad(back.sum(), (x, ranges["low"], ranges["high"]))
    assert gx.tolist() == [0, 1, 1, 0]
    scale, by_step = 1 / math.sqrt(4 * 3), 0.1 - 0.2 + 3
    assert high.item() == pytest.approx(scale * by_step / 3, rel=1e-5)
    assert low.item() == pytest.approx(scale * (2 - by_step / 3), rel=1e-5)


@pytest.mark.parametrize("shape", [(37, 1, 5, 3), (100,), (23, 4)])
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_a_tensor_that_is_rounded_in_parts_is_the_same(
    shape: tuple[int, ...], bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(shape, generator=generator(bits, "parts"))
    whole = Uniform(bits=bits).pack(x)
    monkeypatch.setattr("potstill.codecs.uniform._CHUNK", 64)
    parts = Uniform(bits=bits).pack(x)
    assert all(torch.equal(t, parts.tensors[n]) for n, t in whole.tensors.items())
