"""Latents: a generator as an asset, every method over its latents, and files that decode by it alone."""

import dataclasses
import math
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.core import DecodeContext, Payload, Splits
from potstill.dataset_file import read_tensors, write_tensors
from potstill.dataset_file.shared_decoders import hash_tensors, reader_tensors
from potstill.errors import PotstillError
from potstill.planning.plan import plan
from potstill.pretraining import latents as latents_module
from potstill.pretraining.generator import (
    Autoencoder,
    FitAutoencoder,
    activation_shape,
    decode_latents,
    elbo_loss,
    encode_images,
    generator_shapes,
)
from potstill.pretraining.latents import Latents
from potstill.rng import generator
from potstill.testing import check_parametrization, toy_problem, toy_source

SOURCE = toy_source("image", side=10)
DATA = Splits(train=SOURCE, test=None)
SMALL = "latents:dim=4,width=3,epochs=2"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fit(epochs: int = 2, kl: float = 0.3, seed: int = 0) -> dict[str, Tensor]:
    return FitAutoencoder(train=SOURCE, dim=4, width=3, epochs=epochs, kl=kl, seed=seed).compute()


def double(weights: Payload) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in weights.items()}


def made(**more: Any) -> potstill.Distilled:
    asked: dict[str, Any] = {"ipc": 1, "network": "convnet-d1-w4", "codec": "float32", "steps": 3, **more}
    return potstill.distill(DATA, asked.pop("method", "dm"), **{"parametrization": SMALL, **asked})


GOLDEN, GOLDEN_ENCODED = (0.7449228, 0.8048887), -0.0693478
"""Mean and one pixel of a decoded picture, and the sum of a code, of an untrained generator."""

# --- the generator ----------------------------------------------------------------------------------------------------


def naive_convolution(x: list[Any], weights: Payload, layer: str, h: int, w: int) -> list[Any]:
    """3×3, zeros around it, over lists [c][y][x] enlarged to h × w by repeating."""
    weight, bias = weights[f"{layer}/weight"].tolist(), weights[f"{layer}/bias"].tolist()
    big = [[[p[y * len(p) // h][i * len(p[0]) // w] for i in range(w)] for y in range(h)] for p in x]

    def at(c: int, y: int, i: int) -> float:
        return float(big[c][y][i]) if 0 <= y < h and 0 <= i < w else 0.0

    return [
        [
            [
                b + sum(
                    k[c][u][v] * at(c, y + u - 1, i + v - 1)
                    for c in range(len(x)) for u in range(3) for v in range(3)
                )
                for i in range(w)
            ]
            for y in range(h)
        ]
        for k, b in zip(weight, bias, strict=True)
    ]  # fmt: skip


def naive_decode(z: list[float], weights: Payload, shape: tuple[int, int, int], width: int) -> list[Any]:
    _, h, w = shape
    half = (math.ceil(h / 2), math.ceil(w / 2))
    quarter = (math.ceil(half[0] / 2), math.ceil(half[1] / 2))
    first, bias = weights["decoder/1/weight"].tolist(), weights["decoder/1/bias"].tolist()
    flat = [max(0.0, b + sum(a * v for a, v in zip(row, z, strict=True))) for row, b in zip(first, bias, strict=True)]
    area = quarter[0] * quarter[1]
    x = [
        [[flat[c * area + y * quarter[1] + i] for i in range(quarter[1])] for y in range(quarter[0])]
        for c in range(2 * width)
    ]
    x = [[[max(0.0, v) for v in row] for row in p] for p in naive_convolution(x, weights, "decoder/2", *half)]
    return [
        [[1 / (1 + math.exp(-v)) for v in row] for row in p] for p in naive_convolution(x, weights, "decoder/3", h, w)
    ]


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 7, 5)])
def test_decoding_is_what_the_formula_says(shape: tuple[int, int, int]) -> None:
    rng = generator(1)
    sizes = generator_shapes(shape, 3, 2)
    weights = {n: torch.randn(s, generator=rng, dtype=torch.float64) / 2 for n, s in sizes.items()}
    weights["range"] = torch.tensor([0.0, 1.0]).double()
    z = torch.randn(2, 3, generator=rng, dtype=torch.float64)
    decoded = decode_latents(z, weights, 0, shape)
    expected = torch.tensor([naive_decode(row, weights, shape, 2) for row in z.tolist()]).double()
    torch.testing.assert_close(decoded, expected, atol=1e-7, rtol=0)


def test_golden_numbers_of_an_untrained_generator() -> None:
    weights = fit(epochs=0)
    assert {n: tuple(t.shape) for n, t in weights.items()} == generator_shapes((1, 10, 10), 4, 3)
    decoded = decode_latents(torch.ones(1, 4), weights, 0, (1, 10, 10))
    assert (float(decoded.mean()), float(decoded[0, 0, 4, 4])) == pytest.approx(GOLDEN, abs=1e-5)
    mean, log_variance = encode_images(torch.full((1, 1, 10, 10), 0.5), weights)
    assert float(mean.sum() + log_variance.sum()) == pytest.approx(GOLDEN_ENCODED, abs=1e-4)


def test_the_loss_is_what_the_formula_says() -> None:
    weights, x = double(fit(epochs=0)), SOURCE.raw(torch.arange(3)).double()
    noise = torch.randn(3, 4, generator=generator(2)).double()
    mean, log_variance = encode_images(x, weights)
    total = 0.0
    for n in range(3):
        z = mean[n] + (log_variance[n] / 2).exp() * noise[n]
        p = decode_latents(z[None], weights, 0, (1, 10, 10))[0]
        total -= float((x[n] * p.log() + (1 - x[n]) * (1 - p).log()).sum())
        total += 0.5 * 0.7 * float((mean[n] ** 2 + log_variance[n].exp() - 1 - log_variance[n]).sum())
    assert float(elbo_loss(x, noise, weights, 0.7)) == pytest.approx(total / 3, rel=1e-6)


def test_training_reconstructs_better_and_repeats_bit_for_bit() -> None:
    digits = potstill.load_data("digits").train
    x = torch.as_tensor(digits.raw(torch.arange(200)))
    weights = FitAutoencoder(train=digits, dim=8, width=8, epochs=8, kl=0.3).compute()
    decoded = decode_latents(encode_images(x, weights)[0], weights, 0, (1, 8, 8))
    assert float((decoded - x).square().mean()) < 0.7 * float((x - x.mean(0)).square().mean()), "than the mean picture"
    assert hash_tensors(fit()) == hash_tensors(fit())
    assert hash_tensors(fit()) != hash_tensors(fit(seed=1))


def test_training_that_does_not_stay_finite_is_refused() -> None:
    with pytest.raises(PotstillError, match=r"did not stay finite with kl=1e\+39; lower kl"):
        fit(kl=1e39)


# --- the parametrization ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("init", ["real", "noise"])
def test_the_parametrization_keeps_the_contract(layer: int, init: str) -> None:
    check_parametrization(lambda: Latents(dim=4, width=3, epochs=1, layer=layer, init=init))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_gradients_are_right(layer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents_module, "_CHUNK", 2)
    context = DecodeContext(input=toy_source("image", side=5).input, assets={"generator": double(untrained((1, 5, 5)))})
    latents = torch.randn(3, *activation_shape((1, 5, 5), 3, 2, layer), generator=generator(5)).double()
    decode = Latents(dim=3, width=2, layer=layer).decode

    def decoded(z: Tensor) -> Tensor:
        return decode({"latents": z}, context)

    assert torch.autograd.gradcheck(decoded, latents.requires_grad_())
    if layer == 0:
        assert torch.autograd.gradgradcheck(decoded, latents)


def untrained(shape: tuple[int, int, int]) -> dict[str, Tensor]:
    rng = generator(3)
    weights = {n: torch.randn(s, generator=rng) / 2 for n, s in generator_shapes(shape, 3, 2).items()}
    return weights | {"range": torch.tensor([0.0, 1.0])}


@pytest.mark.parametrize("layer", [0, 1])
def test_two_passes_have_the_gradients_of_one_and_hold_no_graph(layer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents_module, "_CHUNK", 3)
    weights = double(fit())
    problem = dataclasses.replace(toy_problem(), train=SOURCE)
    context = dataclasses.replace(problem.context, assets={"generator": weights})
    z = torch.randn(10, *activation_shape((1, 10, 10), 4, 3, layer), generator=generator(4)).double().requires_grad_()
    slope = torch.randn(10, 1, 10, 10, generator=generator(6)).double()
    held = {"one": 0, "two": 0}

    def gradient(passes: str, decoded: Any) -> Tensor:
        def count(t: Tensor) -> Tensor:
            held[passes] += t.numel()
            return t

        with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            x = decoded()
        return torch.autograd.grad(x, z, slope)[0]

    normalization = SOURCE.normalization
    one = gradient("one", lambda: normalization.apply(decode_latents(z, weights, layer, (1, 10, 10))))
    two = gradient("two", lambda: Latents(dim=4, width=3, layer=layer).decode({"latents": z}, context))
    assert float((one - two).abs().max()) < 1e-9
    assert held["two"] < held["one"] / 10


def test_inversion_starts_nearer_to_the_samples() -> None:
    weights = fit(epochs=5)
    problem = dataclasses.replace(toy_problem(), train=SOURCE, parametrization=Latents(dim=4, width=3))
    problem = problem.with_assets({"generator": weights})
    x = SOURCE.fetch(torch.arange(6)).x

    def error(inversion: int) -> float:
        decoder = Latents(dim=4, width=3, inversion=inversion)
        return float((decoder.decode(decoder.encode(x, problem, generator(0)), problem.context) - x).square().mean())

    assert error(30) < error(0)


# --- sets -------------------------------------------------------------------------------------------------------------


def in_data_units(small: potstill.Distilled, weights: Payload) -> Tensor:
    return decode_latents(small.payload["latents"], weights, 0, SOURCE.input.shape)


def test_a_set_decodes_by_the_cache_or_by_a_file_and_by_no_other(cache: Path, tmp_path: Path) -> None:
    small, weights = made(), fit()
    assert tuple(small.payload["latents"].shape) == (4 * 25, 4)
    decoder = small.metadata["decoder"]
    recipe = {"dim": 4, "width": 3, "epochs": 2, "kl": 0.3, "seed": 0}
    assert decoder["assets"] == [{"name": "generator", "recipe": recipe, "hash": hash_tensors(reader_tensors(weights))}]
    assert decoder["bytes"] == sum(4 * t.numel() for t in reader_tensors(weights).values())
    path = small.save(tmp_path / "small.safetensors")
    assert torch.equal(potstill.load(path).inputs, small.inputs)
    (whole,), (part,) = (list((cache / folder).glob("*.safetensors")) for folder in ("generators", "decoders"))
    files = [shutil.copy(file, tmp_path / f"{file.parent.name}.safetensors") for file in (whole, part)]
    assert "encoder/1/weight" in read_tensors(Path(files[0]), 1 << 20)[0]
    assert "encoder/1/weight" not in read_tensors(Path(files[1]), 1 << 20)[0]
    shutil.rmtree(cache)
    alone = potstill.load(path)
    with pytest.raises(PotstillError, match=r"it decodes by the asset 'generator' of hash .*decoder=FILE") as told:
        _ = alone.inputs
    assert "\n" not in str(told.value)
    for file in files:  # with the encoder, too: readers leave it out
        assert torch.equal(potstill.load(path, decoder=file).inputs, small.inputs)
    other = tmp_path / "other.safetensors"
    write_tensors(other, fit(seed=1), {})
    with pytest.raises(PotstillError, match="get that one"):
        potstill.load(path, decoder=other)


METHODS: dict[str, dict[str, Any]] = {
    "dm": {}, "dc": {"ipc": 1}, "idm": {}, "lgm": {}, "cim": {"preset": "quick", "network": "convnet-d1-w4-batch"},
    "sre2l": {"preset": "quick", "network": "convnet-d1-w4-batch", "labels": "hard", "teacher_epochs": 1},
    "frepo": {"preset": "quick"}, "kip": {"preset": "quick"}, "dd": {"preset": "quick"},
    "mtt": {"preset": "quick", "num_experts": 1, "train_epochs": 2},
}  # fmt: skip
"""One or more of each family; idm, lgm and cim optimise in data units, the others in model space."""


@pytest.mark.parametrize("method", METHODS)
def test_every_family_optimises_latents_in_the_right_units(method: str) -> None:
    start = made(method=method, steps=0, **METHODS[method])
    small = made(method=method, steps=2, **METHODS[method])
    assert not torch.equal(small.payload["latents"], start.payload["latents"])
    assert small.metadata["decoder"]["space"] == "model"
    torch.testing.assert_close(small.inputs, in_data_units(small, fit()), atol=1e-5, rtol=0)


def test_whitened_pictures_are_decoded_in_their_units_and_one_that_cannot_be_undone_is_refused() -> None:
    small = made(zca="mtt", steps=1)
    torch.testing.assert_close(small.inputs, in_data_units(small, fit()), atol=1e-3, rtol=0)
    assert len(made(zca="kip", steps=1, parametrization=f"{SMALL},init=noise")) == 100
    with pytest.raises(PotstillError, match=r"gives each unit norm cannot be undone; .*init=noise"):
        made(zca="kip")


def test_the_start_is_the_encoding_of_real_samples() -> None:
    small = made(steps=0)
    x = SOURCE.raw(torch.arange(len(SOURCE)))
    codes = encode_images(x, fit())[0]
    nearest = torch.cdist(small.payload["latents"], codes).min(1).values
    assert float(nearest.max()) < 1e-3


def test_few_bits_resume_and_a_budget_in_bytes(tmp_path: Path) -> None:
    for codec in ("uint8", "uint4", "uint4:aware=true"):
        small = made(codec=codec)
        path = small.save(tmp_path / "small.safetensors", force=True)
        assert torch.equal(potstill.load(path).inputs, small.inputs)
    checkpoint = tmp_path / "run.checkpoint"
    made(steps=2, checkpoint=checkpoint, checkpoint_every=0)
    assert torch.equal(made(checkpoint=checkpoint, resume=True).inputs, made().inputs)
    assert made(codec="uint4", ipc=None, bytes=500).metadata["bytes"]["total"] <= 500
    torch.testing.assert_close(made(class_shards=2).inputs, made().inputs, atol=1e-5, rtol=0)


def test_a_plan_counts_it() -> None:
    said = plan(DATA, "dm", ipc=1, parametrization=SMALL, network="convnet-d1-w4", profile_steps=0)
    assert [(n.name, n.count, n.cached, n.recipe["epochs"]) for n in said.networks] == [("generator", 1, 0, 2)]
    assert (said.inputs, said.bytes["inputs"]) == (100, 100 * 4 + 4 * 4)


# --- a generator that is given ----------------------------------------------------------------------------------------


def test_a_given_generator_takes_the_place_of_a_trained_one(cache: Path, tmp_path: Path) -> None:
    path, weights = tmp_path / "mine.safetensors", fit(seed=7)
    write_tensors(path, weights, {})
    small = made(generator=path)
    assert not (cache / "generators").exists(), "none is trained"
    (entry,) = small.metadata["decoder"]["assets"]
    assert (entry["given"], entry["recipe"]) == (True, {})
    torch.testing.assert_close(small.inputs, in_data_units(small, weights), atol=1e-5, rtol=0)
    assert torch.equal(made(generator=weights).inputs, small.inputs)
    assert small.metadata["run_digest"] != made().metadata["run_digest"]
    bare = reader_tensors(weights)
    assert len(made(generator=bare, parametrization=f"{SMALL},init=noise")) == 100
    with pytest.raises(PotstillError, match="has no encoder; start from draws with init=noise"):
        made(generator=bare)
    with pytest.raises(PotstillError, match="dm asks for no generator, but one is given; leave generator out"):
        made(generator=path, parametrization="pixels")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decoder/1/weight": torch.zeros(54, 5)}, r"'decoder/1/weight' must be \[54, 4\] for dim=4.*it is \[54, 5\]"),
        ({"decoder/2/bias": None}, "'decoder/2/bias' must be .*there is none; give a file of this architecture"),
        ({"encoder/2/bias": None}, "'encoder/2/bias' must be"),
        ({"synthesis/b4/weight": torch.zeros(1)}, "has a tensor 'synthesis/b4/weight', which this architecture lacks"),
        ({"range": torch.tensor([-1.0, 1.0])}, "range must be the pictures', 0 to 1, but it is -1 to 1"),
        ({"decoder/3/bias": torch.tensor([math.nan])}, "must be finite"),
    ],
)  # fmt: skip
def test_a_generator_that_does_not_fit_is_refused_in_one_line(change: dict[str, Any], words: str) -> None:
    weights = {n: t for n, t in {**fit(), **change}.items() if t is not None}
    with pytest.raises(PotstillError, match=words) as told:
        made(generator=weights)
    assert "\n" not in str(told.value)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "generator.pt"
    for write in (lambda: torch.save(fit(), path), lambda: path.write_bytes(pickle.dumps({"decoder": 1}))):
        write()
        with pytest.raises(PotstillError) as told:
            made(generator=path)
        assert str(path) in str(told.value)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("dim=0", "dim and width must be at least 1"), ("layer=3", "layer must be 0, 1 or 2, not 3"),
        ("init=zero", "init must be real or noise, not 'zero'"), ("kl=-1", "at least 0"),
        ("dim=101", "one picture has 101 numbers, but the budget leaves 100 to a class; raise it or lower dim"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(settings: str, words: str) -> None:
    with pytest.raises(PotstillError, match=words):
        made(parametrization=f"latents:{settings}")


def test_other_data_and_a_missing_generator_are_refused() -> None:
    table = Splits(train=toy_source("table"), test=None)
    with pytest.raises(PotstillError, match="latents"):
        potstill.distill(table, "dm", ipc=1, parametrization="latents")
    with pytest.raises(PotstillError, match="decode by a generator, but it is not at hand"):
        Latents().decode({"latents": torch.zeros(1, 16)}, DecodeContext(input=SOURCE.input))
    assert Autoencoder(dim=4, width=3, epochs=0, kl=1.0).describe_work(()) == "drawing an untrained generator"
