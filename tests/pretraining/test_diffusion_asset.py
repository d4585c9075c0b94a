"""The diffusion model: its loss, its training and cache, and what is refused of a person's own."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.core import AssetContext, Payload, Source
from potstill.data import TensorSource
from potstill.dataset_file import read_tensors, write_tensors
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.functional.diffusion import denoise_samples, linear_rates, sampling_times
from potstill.functional.optim import adaptive_step
from potstill.pretraining import diffusion as diffusion_module
from potstill.pretraining.build import hash_asset
from potstill.pretraining.diffusion import (
    Diffusion,
    DiffusionModel,
    FitDiffusion,
    LatentDiffusion,
    Objective,
    denoiser_loss,
)
from potstill.pretraining.generator import decode_latents, encode_images
from potstill.rng import generator
from potstill.tasks import Regression
from potstill.testing import toy_problem, toy_source

SOURCE = toy_source("image")
GOLDEN = 0.7633


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def small(**changes: Any) -> Diffusion:
    settings: dict[str, Any] = {"dim": 4, "width": 3, "epochs": 1, "hidden": 8, "updates": 6, "objective": "noise"}
    return Diffusion(**{**settings, **changes})


def ground(source: Source = SOURCE) -> AssetContext:
    problem = toy_problem(source=source)
    return AssetContext(train=source, network=problem.network, augmentation=lambda name: problem.augment)


def job(**changes: Any) -> FitDiffusion:
    return small(**changes).jobs(ground())[0]


def naive_network(x: list[float], time: float, label: int, weights: Payload) -> list[float]:
    """The denoiser of one latent, by lists."""
    w = {n.removeprefix("denoiser/"): t.double() for n, t in weights.items() if n.startswith("denoiser/")}

    def linear(values: Tensor, name: str) -> Tensor:
        return torch.stack([(row * values).sum() for row in w[f"{name}/weight"]]) + w[f"{name}/bias"]

    def norm(values: Tensor, name: str) -> Tensor:
        centred = values - values.mean()
        scaled = centred / (centred.square().mean() + 1e-5).sqrt()
        return scaled * w[f"{name}/norm/weight"] + w[f"{name}/norm/bias"]

    def silu(values: Tensor) -> Tensor:
        return values / (1 + (-values).exp())

    angles = [1000 * time * 10_000 ** (-k / 32) for k in range(32)]
    waves = torch.tensor(angles).double()
    given = linear(torch.cat([waves.cos(), waves.sin()]), "time") + w["class"][label]
    h = linear(torch.tensor(x).double(), "in")
    for i in range(3):
        h = h + linear(silu(linear(silu(norm(h, str(i)) + given), f"{i}/first")), f"{i}/second")
    return linear(norm(h, "out"), "out").tolist()


@pytest.mark.parametrize("objective", ["noise", "flow"])
def test_the_loss_is_what_the_formula_says(objective: Objective) -> None:
    weights = {n: torch.randn(t.shape, generator=generator(1)) / 3 for n, t in job().compute().items()}
    weights = {n: t.double() for n, t in weights.items()}
    z, y = torch.randn(3, 4, generator=generator(2)).double(), torch.tensor([0, 3, 1])
    loss, predicted = denoiser_loss(z, y, weights, objective, generator(5))
    rng = generator(5)
    noise, uniform = torch.randn(3, 4, generator=rng).double(), torch.rand(3, generator=rng)
    dropped = (torch.rand(3, generator=rng) < 0.1).tolist()
    total, rates = 0.0, linear_rates().double()
    for n in range(3):
        label = 4 if dropped[n] else int(y[n])
        if objective == "noise":
            t = int(uniform[n] * 1000)
            a, b = float(rates[t].sqrt()), float((1 - rates[t]).sqrt())
            x = a * z[n] + b * noise[n]
            out = torch.tensor(naive_network(x.tolist(), t / 1000, label, weights)).double()
            target, clean = noise[n], (x - b * out) / a
        else:
            s = float(uniform[n])
            x = (1 - s) * z[n] + s * noise[n]
            out = torch.tensor(naive_network(x.tolist(), s, label, weights)).double()
            target, clean = noise[n] - z[n], x - s * out
        total += float((target - out).square().sum()) / 12
        torch.testing.assert_close(predicted[n], clean, rtol=1e-4, atol=1e-4)
    assert float(loss) == pytest.approx(total, rel=1e-4)


def test_latents_are_standardised_and_decode_by_the_autoencoder() -> None:
    tensors = job().compute()
    model, x = LatentDiffusion(tensors), torch.as_tensor(SOURCE.raw(torch.arange(len(SOURCE)))).float()
    z = model.encode(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(4), atol=1e-3, rtol=0)
    plain = encode_images(x, tensors)[0]
    torch.testing.assert_close(model.decode(z), decode_latents(plain, tensors, 0, (1, 8, 8)), atol=1e-5, rtol=0)
    assert isinstance(model, DiffusionModel)
    assert model.fingerprint == hash_tensors(tensors) == hash_asset(model)


@pytest.mark.parametrize("objective", ["noise", "flow"])
def test_a_trained_model_samples_the_class_that_it_is_asked_for(objective: Objective) -> None:
    digits = potstill.load_data("digits").train
    asset = Diffusion(dim=8, width=8, epochs=6, hidden=64, updates=700, objective=objective)
    model = asset.open([asset.jobs(ground(digits))[0].compute()])
    means = torch.stack([model.encode(torch.as_tensor(digits.raw(i)).float()).mean(0) for i in _by_class(digits)])
    y = torch.arange(10).repeat_interleave(4)

    def predict(x: Tensor, t: int) -> Tensor:
        return model.eps(x, torch.full((40,), t), y)

    start = torch.randn(40, 8, generator=generator(3))
    with torch.no_grad():
        z = denoise_samples(start, predict, model.rates, sampling_times(20, 1000))
    assert (torch.cdist(z, means).argmin(1) == y).float().mean() > 0.5, "nearest class mean"
    assert (torch.cdist(start, means).argmin(1) == y).float().mean() < 0.4


def _by_class(source: Source) -> list[Tensor]:
    labels = torch.as_tensor(source.labels)
    return [torch.where(labels == c)[0] for c in range(len(source.classes))]


def test_training_repeats_bit_for_bit_and_its_settings_are_its_key() -> None:
    assert hash_tensors(job().compute()) == hash_tensors(job().compute())
    jobs = [job(), job(hidden=9), job(updates=7), job(objective="flow"), job(dim=5), job(epochs=2), job(width=4)]
    assert len({one.path for one in jobs}) == len(jobs)
    for one in jobs[1:4]:
        assert hash_tensors(one.compute()) != hash_tensors(job().compute())
    with torch.no_grad():
        loss, _ = denoiser_loss(torch.ones(8, 4), torch.zeros(8).long(), job().compute(), "noise", generator(1))
    assert float(loss) == pytest.approx(GOLDEN, abs=2e-3)


def test_an_interrupted_training_goes_on_with_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion_module, "_CHECKPOINT_EVERY", 2)
    whole, one = job().compute(), job()
    calls = 0
    real = adaptive_step

    def stops(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(diffusion_module, "adaptive_step", stops)
    with pytest.raises(KeyboardInterrupt):
        one.build()
    assert one.progress.exists()
    assert one.autoencoder.is_cached()
    assert not one.is_cached()
    assert one.build() is None
    assert calls == 8, "it goes on after update 4"
    assert not one.progress.exists()
    loaded = one.load()
    assert loaded is not None
    assert hash_tensors(loaded) == hash_tensors(whole)


def test_a_damaged_checkpoint_or_file_is_made_again() -> None:
    one = job()
    one.progress.parent.mkdir(parents=True)
    write_tensors(one.progress, {"rng": torch.zeros(3)}, {"update": "4"})
    one.build()
    assert hash_tensors(one.load() or {}) == hash_tensors(one.compute())
    one.path.write_bytes(one.path.read_bytes()[:-4])
    assert one.load() is None


def test_a_placeholder_has_the_shapes_of_a_trained_one() -> None:
    trained, placeholder = job().compute(), small().placeholder([job()]).tensors
    assert {n: t.shape for n, t in trained.items()} == {n: t.shape for n, t in placeholder.items()}
    run, units = job().estimate()
    run()
    assert units == pytest.approx(1 / 200)
    assert job().remaining() == 1.0


def no_classes() -> Source:
    """Pictures whose target is real."""
    pictures = torch.as_tensor(SOURCE.raw(torch.arange(48)))
    target = pictures.flatten(1).sum(1, keepdim=True)
    made = TensorSource.make(pictures, torch.zeros(48).long(), name="toy-real")
    return dataclasses.replace(made, classes=(), task=Regression(targets=("y",)).fit(target), targets=target)


def test_no_classes_and_no_pictures_are_refused() -> None:
    with pytest.raises(PotstillError, match=r"needs classes, but there are none; take dm"):
        small().jobs(ground(no_classes()))
    with pytest.raises(PotstillError, match="needs images"):
        small().jobs(ground(toy_source("table")))


# --- somebody's own ---------------------------------------------------------------------------------------------------


class Own:
    """A model of two times over pictures themselves."""

    fingerprint = "own-1"
    rates = torch.tensor([0.9, 0.1])

    def encode(self, x: Tensor, /) -> Tensor:
        return 2 * x - 1

    def decode(self, z: Tensor, /) -> Tensor:
        return ((z + 1) / 2).clamp(0, 1)

    def eps(self, x_t: Tensor, t: Tensor, y: Tensor, /) -> Tensor:
        return 0.1 * x_t


def test_a_file_or_an_object_is_taken(tmp_path: Path) -> None:
    tensors = job().compute()
    write_tensors(tmp_path / "own.safetensors", tensors, {})
    adopted = small().adopt(tmp_path / "own.safetensors", ground())
    assert adopted.fingerprint == hash_tensors(tensors)
    own = Own()
    assert small().adopt(own, ground()) is own
    assert hash_asset(own) == "own-1"
    assert read_tensors(tmp_path / "own.safetensors", 1 << 20)[0]["shape"].tolist() == [1, 8, 8]


def test_a_model_of_another_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    tensors = job().compute()
    cases: list[tuple[Any, str]] = [
        ({**tensors, "denoiser/class": torch.zeros(8, 8)}, r"'denoiser/class' must be \[5, 8\].*4 classes"),
        ({n: t for n, t in tensors.items() if n != "denoiser/in/bias"}, r"'denoiser/in/bias' .* there is none"),
        ({**tensors, "extra": torch.zeros(1)}, r"has a tensor 'extra'"),
        ({**tensors, "range": torch.tensor([-1.0, 1.0])}, r"range must be the pictures', 0 to 1"),
        ({**tensors, "latents/mean": torch.full((4,), torch.nan)}, r"must be finite"),
        ({**tensors, "objective": torch.tensor(1.0)}, r"trained for objective=noise"),
        (object(), r"an object with fingerprint, rates, encode, decode and eps, but it is a object"),
    ]
    for value, message in cases:
        with pytest.raises(PotstillError, match=message):
            small().adopt(value, ground())
    (tmp_path / "own.pt").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(PotstillError, match=r"own\.pt"):
        small().adopt(tmp_path / "own.pt", ground())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("decode", lambda self, z: z, r"pictures lie in the data's range, 0 to 1"),
        ("decode", lambda self, z: z[:, :, :4], r"decode \[1, 1, 8, 8\] as the pictures are"),
        ("eps", lambda self, x, t, y: x[:, 0], r"eps must return \[1, 1, 8, 8\] as encode does"),
        ("eps", lambda self, x, t, y: x / 0, r"eps must be finite"),
    ],
)
def test_an_object_is_tried_on_one_picture(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any, message: str
) -> None:
    monkeypatch.setattr(Own, name, value)
    with pytest.raises(PotstillError, match=message):
        small().adopt(Own(), ground())
