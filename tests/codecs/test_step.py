"""Whole steps: their codes, what is rounded while a set is made, the price of bits, and size budgets that hold."""

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import potstill
from potstill.codecs import decode, encoded_bytes, format_codec, parse_codec
from potstill.codecs.bitstream import compress_encoded
from potstill.codecs.size_estimate import PlannedBits, estimate_bytes
from potstill.codecs.step import Step
from potstill.core import Encoded
from potstill.core.registry import make_method
from potstill.errors import PotstillError
from potstill.functional.rate import group_bits
from potstill.parametrize.quantization_aware import QuantizationAware, SupportsFakeQuantize, SupportsRate
from potstill.parametrize.shared_frequency import SharedFrequency
from potstill.rng import generator
from potstill.runs.loop import CheckpointOptions, LoopLimits, run_loop
from potstill.testing import toy_problem


@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=40), st.floats(1e-3, 1e3))
@settings(max_examples=80, deadline=None)
def test_any_values_come_back_within_half_a_step(values: list[float], size: float) -> None:
    x = torch.tensor(values)
    codec = Step(width=size)
    back = decode(codec.pack(x))
    assert torch.equal(back, codec.fake_quantize(x))
    reach = size * ((1 << 15) - 1)
    near = x.clamp(-reach, reach)
    assert back.shape == x.shape
    assert bool(((back - near).abs() <= 0.5001 * size + 1e-6 * near.abs()).all())
    assert torch.equal(decode(codec.pack(back)), back)


def test_codes_are_the_known_ones() -> None:
    packed = Step(width=1.5).pack(torch.tensor([[0.0, 1.6, -1.4, 4.0, 0.7]]))
    assert packed.metadata == {"codec": "step", "shape": [1, 5], "bits": 3, "least": -1}
    assert packed.tensors[""].tolist() == [1 + (2 << 3) + ((0 << 6) & 0xFF), (0 >> 2) + (4 << 1) + (1 << 4)]
    assert packed.tensors[".step"].tolist() == [1.5]
    assert decode(packed).tolist() == [[0.0, 1.5, -1.5, 4.5, 0.0]]


def test_streams_have_about_the_bits_that_a_price_is_put_on() -> None:
    """Within a tenth of the estimate, far below packed codes, and the same values."""
    x = torch.randn(160, 1, 64, generator=generator(1)) * torch.linspace(4, 0.3, 64)
    packed = Step(width=1.0).pack(x)
    coded = compress_encoded(packed, [16] * 10)
    assert torch.equal(decode(coded), decode(packed))
    assert encoded_bytes(coded) < 0.75 * encoded_bytes(packed)
    assert 8 * encoded_bytes(coded) == pytest.approx(float(Step(width=1.0).code_bits(x)), rel=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"least": "3"}, "least must be a whole number"), ({"bits": 17}, "bits must be"), ({"shape": [9]}, "codes of")],
)
def test_damage_is_refused(change: dict[str, object], message: str) -> None:
    packed = Step(width=1.0).pack(torch.randn(4, 5, generator=generator(0)))
    with pytest.raises(PotstillError, match=message):
        decode(Encoded(packed.tensors, {**packed.metadata, **change}))
    with pytest.raises(PotstillError, match="step tensor is missing"):
        decode(Encoded({"": packed.tensors[""]}, packed.metadata))


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("step:width=0", "width and bits must be above 0"), ("step:labels=17", "labels must be from 1 to 16"),
        ("step:rate=-1", "rate must be at least 0"), ("step:adapt=true", "above 0 where it adapts"),
        ("uint4:rate=-1", "rate must be at least 0"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(spelled: str, message: str) -> None:
    with pytest.raises(PotstillError, match=message):
        parse_codec(spelled)


def test_it_is_what_budgets_and_runs_ask_for() -> None:
    codec = parse_codec("step:width=1.5,rate=0.001")
    assert format_codec(codec) == "step:width=1.5,rate=0.001"
    assert isinstance(codec, SupportsFakeQuantize)
    assert isinstance(codec, SupportsRate)
    assert isinstance(codec, PlannedBits)
    assert estimate_bytes(codec, (100, 64)) == 2000 + 4
    assert isinstance(parse_codec("uint4"), SupportsRate)
    x = torch.randn(50, 1, 8, generator=generator(0))
    assert torch.equal(codec.code_bits(x), group_bits(x / 1.5))


def aware(spelled: str) -> QuantizationAware:
    return QuantizationAware(inner=SharedFrequency(positions=16), codec=parse_codec(spelled))


def run(spelled: str, steps: int) -> tuple[float, dict[str, Tensor]]:
    """Bits a value after so many steps, and the payload."""
    options = {"iterations": steps, "lr": 0.05, "optimizer": "adamw", "batch_real": 8, "network": "convnet-d1-w8"}
    _, method = make_method("frepo", options)
    problem = dataclasses.replace(toy_problem(method, ipc=4), parametrization=aware(spelled))
    rng = torch.Generator().manual_seed(0)
    state = method.init(problem, rng)
    for _ in range(steps):
        state, _ = method.step(problem, state, rng)
    payload = dict(method.result(problem, state).payload)  # type: ignore[union-attr]
    bits = aware("step:width=0.5,rate=1").bits_per_value(payload)
    return float(bits), payload


def test_a_price_lowers_the_bits_and_is_no_part_of_the_set() -> None:
    free, payload = run("step:width=0.5", 40)
    cheap, _ = run("step:width=0.5,rate=0.01", 40)
    dear, _ = run("step:width=0.5,rate=1", 40)
    assert dear < cheap < free
    assert payload.keys() == {"coefficients", "decoder/positions"}
    adapted, payload = run("step:width=0.5,rate=0.01,adapt=true,bits=1", 40)
    assert payload["range/price"].dtype == torch.int64
    assert int(payload["range/price"]) > 0
    assert aware("step").encode_payload(payload).keys() == {"coefficients", "decoder/positions"}
    assert adapted < cheap


def test_the_gradient_is_the_objectives_and_the_prices() -> None:
    """One step of SGD: the difference that the price makes is the rate times the bits' gradient."""
    _, method = make_method("dm", {"iterations": 1, "lr": 1.0, "batch_real": 8, "network": "convnet-d1-w8"})
    moved = []
    for spelled in ("step:width=0.5", "step:width=0.5,rate=0.3"):
        problem = dataclasses.replace(toy_problem(method, ipc=4), parametrization=aware(spelled))
        rng = torch.Generator().manual_seed(0)
        before = method.init(problem, rng)
        moved.append(method.step(problem, before, rng)[0].params.value["payload/coefficients"])
    first = before.params.value["payload/coefficients"].clone().requires_grad_()
    (slope,) = torch.autograd.grad(group_bits(first / 0.5) / first.numel(), first)
    torch.testing.assert_close(moved[0] - moved[1], 0.3 * slope, atol=1e-6, rtol=1e-4)


def made(tmp_path: Path, codec: str) -> potstill.Distilled:
    small = potstill.distill(
        "digits", "frepo", bytes=1200, preset="quick", parametrization="shared-frequency:positions=16",
        network="convnet-d1-w8", progress=None, device="cpu", codec=codec, steps=12,
    )  # fmt: skip
    small.save(tmp_path / "a.safetensors")
    return potstill.load(tmp_path / "a.safetensors")


def test_a_budget_holds_whatever_was_planned(tmp_path: Path) -> None:
    """Bits are planned too low, so that the step has to grow: by sizes alone."""
    small = made(tmp_path, "step:width=0.05,bits=3")
    assert small.metadata["bytes"]["total"] <= 1200
    written = parse_codec(small.metadata["codec"]["name"])
    assert isinstance(written, Step)
    assert written.width > 0.05
    assert len(small) > 30


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    """The adaptive price is a part of the state."""
    options = {"iterations": 10, "lr": 0.05, "optimizer": "adamw", "batch_real": 8, "network": "convnet-d1-w8"}
    _, method = make_method("frepo", options)
    rounding = aware("step:width=0.5,bits=1,rate=0.01,adapt=true")
    problem = dataclasses.replace(toy_problem(method, ipc=4), parametrization=rounding)

    def payload(steps: int, checkpoint: CheckpointOptions | None = None) -> dict[str, Tensor]:
        limits, rng = LoopLimits(steps=steps), torch.Generator().manual_seed(0)
        loop = run_loop(method, problem, rng=rng, identity={}, limits=limits, checkpoint=checkpoint)
        return dict(method.result(problem, loop.state).payload)  # type: ignore[union-attr]

    def kept(resume: bool) -> CheckpointOptions:
        return CheckpointOptions(path=tmp_path / "c", every=1e9, resume=resume, force=False, keep=True)

    half = payload(4, kept(resume=False))
    whole, again = payload(10), payload(10, kept(resume=True))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[n], again[n]) for n in whole)
    assert int(half["range/price"]) != int(whole["range/price"])
