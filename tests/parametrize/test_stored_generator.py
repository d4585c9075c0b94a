"""The generator as the set: a decoder and the latents of each class, from which items are drawn."""

import copy
import dataclasses
import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.cli.main import main
from potstill.core import DecodeContext, Payload, Problem, Resamplable, Source, Splits, registry
from potstill.dataset_file import describe, write_tensors
from potstill.errors import PotstillError
from potstill.parametrize.named_inputs import parse_parametrization
from potstill.pretraining.build import asset_context
from potstill.pretraining.class_generator import draw_latents, gaussian_of_posteriors
from potstill.pretraining.generator import decode_latents
from potstill.pretraining.stored_generator import StoredGenerator
from potstill.rng import generator
from potstill.runs.loop import Interrupted
from potstill.tasks import Regression
from potstill.testing import check_parametrization, toy_problem, toy_source, uneven_source
from potstill.testing.toy import boxes_source, masks_source, pairs_source

SOURCE = toy_source("image", side=10)
DATA = Splits(train=SOURCE, test=None)
GOLDEN = 37.8946153
SMALL = "generator:samples=3,dim=2,width=1,epochs=1"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(**more: Any) -> potstill.Distilled:
    options: dict[str, Any] = {
        "ipc": 4, "network": "convnet-d1-w4", "codec": "uint8", "steps": 3, "parametrization": SMALL, **more,
    }  # fmt: skip
    return potstill.distill(DATA, "dm", **{"progress": None, **options})


def payload(k: int = 3, d: int = 2, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """A random decoder for pictures of one channel and 8 × 8, of width 1."""
    rng = generator(5)

    def some(*size: int) -> Tensor:
        return torch.randn(size, generator=rng, dtype=dtype)

    return {
        "decoder/1/weight": some(8, d), "decoder/1/bias": some(8), "decoder/2/weight": some(1, 2, 3, 3),
        "decoder/2/bias": some(1), "decoder/3/weight": some(1, 1, 3, 3), "decoder/3/bias": some(1),
        "decoder/mean": some(k, d), "decoder/factor": some(k, d * (d + 1) // 2),
        "draw": torch.tensor([7, 4]),
    }  # fmt: skip


CONTEXT = DecodeContext(input=toy_source("image").input, classes=("a", "b", "c"))


def test_moments_are_those_of_draws_from_all_posteriors() -> None:
    rng = generator(1)
    means = torch.randn(5, 3, generator=rng, dtype=torch.float64)
    log_variances = torch.randn(5, 3, generator=rng, dtype=torch.float64)
    mean, factor = gaussian_of_posteriors(means, log_variances)
    lower = torch.zeros(3, 3, dtype=torch.float64)
    lower[tuple(torch.tril_indices(3, 3))] = factor
    covariance = torch.zeros(3, 3, dtype=torch.float64)
    for m, v in zip(means, log_variances.exp(), strict=True):
        away = m - means.mean(0)
        covariance += (away[:, None] * away[None] + torch.diag(v)) / 5
    assert torch.allclose(mean, means.mean(0))
    assert torch.allclose(lower @ lower.T, covariance, atol=1e-5)
    drawn = draw_latents(mean[None], factor[None], torch.randn(1, 200_000, 3, generator=rng, dtype=torch.float64))[0]
    assert torch.allclose(torch.cov(drawn.T), covariance, atol=0.05)
    assert torch.allclose(drawn.mean(0), mean, atol=0.02)


def test_items_are_decoded_one_by_one_alike() -> None:
    """Golden: the sum of the third item."""
    part, values = StoredGenerator(samples=2, dim=2, width=1), payload()
    decoded = part.decode(values, CONTEXT)
    items = []
    for c, name in enumerate(CONTEXT.classes):
        noise = torch.randn(2, 2, generator=generator(7, "generator", 4, name)).double()
        factor = values["decoder/factor"][c]
        lower = torch.tensor([[factor[0], 0.0], [factor[1], factor[2]]], dtype=torch.float64)
        for epsilon in noise:
            z = values["decoder/mean"][c] + lower @ epsilon
            weights = {**values, "range": torch.tensor([0.0, 1.0], dtype=torch.float64)}
            items.append(decode_latents(z[None], weights, 0, (1, 8, 8))[0])
    assert torch.allclose(decoded, torch.stack(items), atol=1e-12)
    assert float(decoded[2].sum()) == pytest.approx(GOLDEN, abs=1e-5)


def test_gradients_are_right_by_every_floating_tensor() -> None:
    part, values = StoredGenerator(samples=2, dim=2, width=1), payload()
    names = [n for n, t in values.items() if t.is_floating_point()]

    def decode(*tensors: Tensor) -> Tensor:
        return part.decode({**values, **dict(zip(names, tensors, strict=True))}, CONTEXT)

    assert torch.autograd.gradcheck(decode, [values[n].requires_grad_() for n in names])


def test_draws_are_keyed_by_class_and_change_with_updates() -> None:
    part, values = StoredGenerator(samples=2, dim=2, width=1), payload()
    whole = part.decode(values, CONTEXT)
    alone = {**values, "decoder/mean": values["decoder/mean"][1:2], "decoder/factor": values["decoder/factor"][1:2]}
    one = part.decode(alone, DecodeContext(input=CONTEXT.input, classes=("b",)))
    assert torch.allclose(one, whole[2:4], atol=1e-12)
    later = part.decode({**values, **part.after_update(values)}, CONTEXT)
    assert not torch.allclose(later, whole)
    more = StoredGenerator(samples=5, dim=2, width=1).decode(values, CONTEXT)
    assert len(more) == 15


def test_it_keeps_the_contract_of_parametrizations() -> None:
    check_parametrization(lambda: StoredGenerator(samples=2, dim=2, epochs=1))
    assert isinstance(StoredGenerator(), Resamplable)


def count_numbers(dim: int, width: int) -> int:
    """Return the numbers that a generator of 4 classes of pictures of 10 × 10 has: three layers, means and factors."""
    first, second, third = 2 * width * 9 * (dim + 1), width * (2 * width * 9 + 1), width * 9 + 1
    return first + second + third + 4 * (dim + dim * (dim + 1) // 2)


@pytest.mark.parametrize("dim", [2, 0])
@pytest.mark.parametrize("ipc", [6, 16, 40])
def test_dim_and_width_are_those_that_fill_the_budget_most(ipc: int, dim: int) -> None:
    part, problem = StoredGenerator(dim=dim), toy_problem(ipc=ipc, source=SOURCE)
    sizes = {(d, w): count_numbers(d, w) for d in ((dim,) if dim else range(8, 19)) for w in range(1, 257)}
    total = sum(problem.counts) * 100
    fitting = {shape: n for shape, n in sizes.items() if n <= total}
    recipe = part.init_assets(problem)[0].recipe
    full = [shape for shape, n in fitting.items() if n >= 0.99 * max(fitting.values())]
    assert (recipe["dim"], recipe["width"]) == max(full)
    like = part.planned_payload(problem)
    assert sum(t.numel() for n, t in like.items() if n != "draw") == sizes[recipe["dim"], recipe["width"]]
    assert {n: t.shape for n, t in like.items()} == {n: t.shape for n, t in started(part, problem).items()}


def started(part: StoredGenerator, problem: Problem) -> Payload:
    """Return the payload that an untrained generator starts with."""
    (asset,) = dataclasses.replace(part, epochs=0).init_assets(problem)
    opened = {asset.name: asset.placeholder(asset.jobs(asset_context(problem)))}
    return part.encode(torch.zeros(1), problem.with_assets(opened), generator(0))


def test_too_small_budgets_and_too_wide_decoders_are_refused() -> None:
    with pytest.raises(PotstillError, match=r"a decoder of width 1 and the latents of 4 classes have .* numbers, but"):
        StoredGenerator(dim=64).sizes((10, 10, 10, 10), (1, 10, 10))
    with pytest.raises(PotstillError, match="lower width or dim, which is 2"):
        StoredGenerator(dim=2, width=200).sizes((100,) * 4, (1, 10, 10))


@pytest.mark.parametrize("wrong", ["samples=0", "dim=-1", "width=-1", "kl=-1.0", "lr=0"])
def test_settings_out_of_range_are_refused(wrong: str) -> None:
    with pytest.raises(PotstillError, match="generator: samples must be at least 1, dim, width"):
        registry.create("parametrizations", f"generator:{wrong}")


def valued_source() -> Source:
    """Return pictures with a real value each."""
    target = torch.linspace(0, 1, len(SOURCE))[:, None]
    none = torch.zeros(len(SOURCE), dtype=torch.int64)
    task = Regression(targets=("y",)).fit(target)
    return dataclasses.replace(SOURCE, classes=(), labels=none, task=task, targets=target)  # type: ignore[type-var]


@pytest.mark.parametrize("source", [valued_source(), masks_source(), boxes_source()], ids=lambda s: s.name)
def test_pictures_without_classes_are_refused(source: Source) -> None:
    with pytest.raises(PotstillError, match=r"generator draws pictures of classes, but the targets of .* are none"):
        potstill.distill(
            Splits(train=source, test=None), "dm", items=8, parametrization=SMALL, network="convnet-d1-w4", steps=1,
            progress=None,
        )  # fmt: skip
    problem = dataclasses.replace(toy_problem(ipc=4, source=source), parametrization=StoredGenerator(dim=2))
    with pytest.raises(PotstillError, match=r"the targets of .* are none"):
        assert problem.init_assets


def test_inputs_with_names_hold_no_generator() -> None:
    with pytest.raises(PotstillError, match="requires assets of whole inputs, so 'image' alone cannot have it"):
        parse_parametrization(f"image={SMALL}", pairs_source().input)


def test_the_noise_is_what_the_recipe_for_other_programs_says() -> None:
    part, values = StoredGenerator(samples=3, dim=2, width=1), payload(k=2)
    names = ("ähnlich, 1", 'a "b"')
    epsilon = []
    for name in names:
        text = f'[7, "generator", 4, {json.dumps(name)}]'
        number = int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "big") >> 1
        epsilon.append(torch.randn(3, 2, generator=torch.Generator().manual_seed(number)))
    z = draw_latents(values["decoder/mean"], values["decoder/factor"], torch.stack(epsilon).double()).flatten(0, 1)
    wanted = decode_latents(z, {**values, "range": torch.tensor([0.0, 1.0]).double()}, 0, (1, 8, 8))
    decoded = part.decode(values, DecodeContext(input=CONTEXT.input, classes=names))
    assert torch.allclose(decoded, wanted, atol=1e-12)


def test_metadata_say_which_items_are_drawn(tmp_path: Path) -> None:
    small = made()
    seed = int(small.payload["draw"][0])
    assert small.metadata["decoder"]["drawn"] == {"per_class": 3, "seed": seed, "draw": 3}
    many = potstill.resample(small, 40, seed=9)
    assert many.metadata["decoder"]["drawn"] == {"per_class": 40, "seed": 9, "draw": 0}
    both = potstill.concat([small, many])
    assert [part["drawn"]["seed"] for part in both.metadata["decoder"]["parts"]] == [seed, 9]
    assert "drawn" not in made(parametrization="small").metadata["decoder"]
    edited = copy.deepcopy(small.metadata)
    edited["decoder"]["drawn"]["seed"] += 1
    write_tensors(tmp_path / "edited.safetensors", small.tensors, {"card": json.dumps(edited)})
    with pytest.raises(PotstillError, match=r"its metadata say .* of its draw, but its payload says"):
        potstill.load(tmp_path / "edited.safetensors")


def test_inspect_says_which_items_are_drawn_and_the_size_of_the_file(tmp_path: Path) -> None:
    made().save(tmp_path / "set.safetensors")
    many = potstill.resample(potstill.load(tmp_path / "set.safetensors"), 40, seed=9)
    size = many.save(tmp_path / "many.safetensors").stat().st_size
    lines = describe(potstill.inspect(tmp_path / "many.safetensors")).splitlines()
    at = lines.index("drawn       40 of each class, by seed 9 and draw 0; potstill resample draws others")
    assert lines[at - 1].startswith("stored ")
    assert lines[at + 1].startswith(f"file        {size:,} bytes on disk")


def test_a_set_is_saved_and_read_without_the_asset(tmp_path: Path, cache: Path) -> None:
    small = made()
    assert len(small) == 12
    assert small.metadata["bytes"]["inputs"] < 20 < small.metadata["bytes"]["decoder"]
    assert "assets" not in small.metadata["decoder"]
    small.save(tmp_path / "set.safetensors")
    for file in cache.rglob("*.safetensors"):
        file.unlink()
    again = potstill.load(tmp_path / "set.safetensors")
    assert torch.equal(again.inputs, small.inputs)
    assert torch.equal(made().inputs, small.inputs)
    assert not torch.equal(made(seed=1).inputs, small.inputs)


BYTES: dict[str, Any] = {"ipc": None, "parametrization": "generator:samples=3,epochs=60", "codec": "uint4:aware=true"}


@pytest.mark.parametrize(("size", "codec"), [(3000, "uint4:aware=true"), (6000, "uint8")])
def test_a_budget_in_bytes_is_filled(size: int, codec: str) -> None:
    """Factors of so few pictures are nearly 0 off their diagonals, and take less than planned."""
    filled = made(**BYTES | {"bytes": size, "codec": codec})
    assert 0.88 * size <= filled.metadata["bytes"]["total"] <= size
    bits = {d["bits"] for d in described(filled).values() if d["codec"] == "uniform"}
    assert bits == {int(codec[4])}


def described(small: potstill.Distilled) -> dict[str, Any]:
    """Return the metadata of the encoded payload."""
    return {n: d for n, d in small.metadata["codec"]["tensors"].items() if n.startswith("payload/")}


def test_the_plan_is_of_the_set_that_distill_makes() -> None:
    few = {"network": "convnet-d1-w4", "parametrization": SMALL.replace(",dim=2,width=1", ""), "bytes": 4000}
    plan = potstill.plan(DATA, "dm", codec="uint4:aware=true", profile_steps=0, progress=None, **few)
    filled = made(**BYTES | {"bytes": 4000})
    assert plan.inputs == len(filled)
    assert 0.88 * 4000 <= filled.metadata["bytes"]["total"] <= plan.bytes["total"] <= 4000
    assert not any("packed" in note for note in plan.notes)


def test_planned_bytes_overrule_and_what_is_then_too_large_loses_bits_of_few_values(tmp_path: Path) -> None:
    filled = made(**BYTES | {"bytes": 4000})
    less, more = (made(**BYTES | {"bytes": 4000, "planned_bytes": n}) for n in (3000, 4400))
    sizes = [sum(t.numel() for t in small.payload.values()) for small in (less, filled, more)]
    assert sizes == sorted(set(sizes))
    assert less.metadata["bytes"]["total"] <= 3000
    assert 0.88 * 4000 < more.metadata["bytes"]["total"] <= 4000
    bits = {n: d["bits"] for n, d in described(more).items() if d["codec"] == "uniform"}
    assert sorted(set(bits.values())) == [3, 4]
    read = potstill.load(more.save(tmp_path / "more.safetensors"))
    assert torch.equal(read.inputs, more.inputs)


def test_far_too_large_sets_lose_more_bits() -> None:
    small = made(**BYTES | {"bytes": 3000, "planned_bytes": 6000})
    assert small.metadata["bytes"]["total"] <= 3000
    assert min(d["bits"] for d in described(small).values() if d["codec"] == "uniform") == 1


def test_training_moves_the_weights_and_not_the_start_alone() -> None:
    start, moved = made(steps=0, codec="float32"), made(codec="float32")
    for name in ("decoder/1/weight", "decoder/3/weight", "decoder/mean", "decoder/factor"):
        assert not torch.allclose(start.payload[name], moved.payload[name], atol=1e-4), name
    assert moved.payload["draw"].tolist() == [start.payload["draw"].tolist()[0], 3]


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    options: dict[str, Any] = {"codec": "uint4:aware=true", "checkpoint": tmp_path / "run.checkpoint"}
    whole = made(steps=4, codec="uint4:aware=true")

    def stop(progress: potstill.Progress) -> None:
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        made(steps=4, progress=stop, **options)
    resumed = made(steps=4, resume=True, **options)
    assert torch.equal(resumed.inputs, whole.inputs)


def test_unequal_classes_of_colour_pictures_get_equally_many() -> None:
    small = potstill.distill(
        Splits(train=uneven_source(), test=None), "dm", ipc=4, parametrization=SMALL, steps=1, progress=None,
        network="convnet-d1-w4",
    )  # fmt: skip
    assert torch.bincount(small.labels).tolist() == [3, 3, 3]
    assert small.inputs.shape == (9, 3, 8, 12)


def test_other_items_are_drawn_in_the_same_bytes(tmp_path: Path) -> None:
    small = made()
    many = potstill.resample(small, 40, seed=9)
    assert (len(many), many.metadata["ipc"], torch.bincount(many.labels).tolist()) == (160, 40, [40] * 4)
    assert abs(many.metadata["bytes"]["total"] - small.metadata["bytes"]["total"]) < 12
    weights = [n for n in small.payload if n != "draw"]
    assert all(torch.equal(many.payload[n], small.payload[n]) for n in weights)
    many.save(tmp_path / "many.safetensors")
    again = potstill.load(tmp_path / "many.safetensors")
    assert torch.equal(again.inputs, many.inputs)
    assert len(torch.unique(again.inputs.flatten(1), dim=0)) == 160
    assert torch.equal(potstill.resample(many, 40, seed=9).inputs, many.inputs)
    assert not torch.equal(potstill.resample(small, 40, seed=8).inputs, many.inputs)


@pytest.mark.parametrize("method", ["sre2l", "cim"])
def test_methods_that_optimise_pictures_alone_refuse_it(method: str) -> None:
    problem = toy_problem(ipc=4, source=SOURCE)
    problem = dataclasses.replace(problem, parametrization=StoredGenerator(samples=2, dim=2))
    kind = registry.resolve("methods", method)
    with pytest.raises(PotstillError, match="optimises pictures, but the parametrization stores a network's weights"):
        kind().resolve_defaults(problem)[0].init(problem, generator(0))


def test_what_stores_its_items_draws_no_others() -> None:
    real = potstill.distill(DATA, "random", ipc=1, progress=None)
    with pytest.raises(PotstillError, match="only a set that is a generator draws other items"):
        potstill.resample(real, 5)
    small = made()
    with pytest.raises(PotstillError, match="samples must be at least 1, but it is 0"):
        potstill.resample(small, 0)
    with pytest.raises(PotstillError, match="the seed of a draw must be from 0 to 65,535, but it is 65536"):
        potstill.resample(small, 2, seed=65536)


def test_a_file_whose_decoder_draws_more_than_its_labels_is_refused_before_it_decodes(tmp_path: Path) -> None:
    small = made()
    edited = copy.deepcopy(small.metadata)
    edited["decoder"]["parametrization"] = SMALL.replace("samples=3", "samples=1000")
    write_tensors(tmp_path / "edited.safetensors", small.tensors, {"card": json.dumps(edited)})
    with pytest.raises(PotstillError, match="its payload decodes to 4,000 items, but its labels are 12"):
        potstill.load(tmp_path / "edited.safetensors")


def test_the_command_draws_and_replaces_no_stranger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, out = tmp_path / "set.safetensors", tmp_path / "many.safetensors"
    made().save(small)
    out.write_bytes(b"somebody's")
    words = ["resample", str(small), "--ipc", "20", "--out", str(out), "--quiet"]
    assert main(words) == 1
    assert "replace it with --force" in capsys.readouterr().err
    assert main([*words, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 80
    assert main(words) == 0
    assert torch.equal(potstill.load(out).inputs, potstill.resample(potstill.load(small), 20).inputs)
    assert main(["resample", str(small), "--ipc", "20", "--out", str(small), "--force"]) == 1
    assert "set.safetensors" in capsys.readouterr().err
