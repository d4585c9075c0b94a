"""Vectors as targets: of a teacher trained without labels, of a function, of an array; data without labels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import potstill
from potstill.data import TensorSource
from potstill.data.read_options import check_read_options
from potstill.errors import PotstillError
from potstill.functional.features import embed_real
from potstill.pretraining.self_supervised import Representations, fit_encoder, parse_representations

SMALL = "representations:size=5,epochs=1,network=convnet-w4,batch=32,outputs=8"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pictures(n: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8), dtype=np.uint8)


def train_of(data: object, **options: object) -> TensorSource:
    train = potstill.load_data(data, **options).train  # type: ignore[arg-type]
    assert isinstance(train, TensorSource)
    return train


def test_a_teacher_reads_no_labels(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = pictures()
    first = train_of((x, np.arange(40) % 2), test_fraction=0, targets=SMALL)
    monkeypatch.setenv("POTSTILL_CACHE", str(cache) + "-2")
    other = train_of((x, np.arange(40) // 10), test_fraction=0, targets=SMALL)
    assert first.targets is not None
    assert other.targets is not None
    assert torch.equal(first.targets, other.targets)
    assert first.classes == ()
    assert first.targets.shape == (40, 5)


def test_the_teacher_is_cached_and_repeats_its_bits(cache: Path) -> None:
    first = train_of("digits", targets=SMALL).targets
    assert len(list((cache / "networks").glob("*.safetensors"))) == 1
    again = train_of("digits", targets=SMALL).targets
    assert first is not None
    assert again is not None
    assert torch.equal(first, again)


def test_vectors_are_the_principal_components_of_the_features() -> None:
    train = potstill.load_data(pictures(), test_fraction=0, targets=lambda x: x.flatten(1)[:, :1]).train
    encoder = fit_encoder(train, parse_representations(SMALL))
    x = train.fetch(torch.arange(40)).x
    assert isinstance(x, torch.Tensor)
    features = embed_real(encoder.network, x).double().numpy()
    centred = features - features.mean(0)
    _, values, rows = np.linalg.svd(centred, full_matrices=False)
    wanted = centred @ rows[:5].T
    got = encoder.encode(train).double().numpy()
    np.testing.assert_allclose(np.abs(got), np.abs(wanted), atol=1e-4)  # a direction has no sign of its own
    np.testing.assert_allclose(np.square(got).sum(0), values[:5] ** 2, rtol=1e-3)


def test_training_lowers_the_loss_on_other_views() -> None:
    from potstill.augment.names import load_augmentation
    from potstill.functional.self_supervised import barlow_twins_loss

    train = potstill.load_data("digits").train
    losses = []
    for lr in (1e-9, 0.1):
        encoder = fit_encoder(train, Representations(network="convnet-w8", epochs=3, batch=64, outputs=16, lr=lr))
        x = train.fetch(torch.arange(400)).x
        rng, augment = torch.Generator().manual_seed(5), load_augmentation("rrc", train)
        assert isinstance(x, torch.Tensor)
        views = [augment.apply(x, augment.draw(400, (1, 8, 8), rng)) for _ in range(2)]
        with torch.no_grad():
            losses.append(float(barlow_twins_loss(*(encoder.network(view) for view in views))))
    assert losses[1] < 0.8 * losses[0]


def test_a_function_gets_pixels_and_its_rows_are_the_targets() -> None:
    x = pictures()
    train = train_of(x, test_fraction=0, targets=lambda some: some[:, 0, 0, :3])
    assert train.targets is not None
    np.testing.assert_allclose(train.targets.numpy(), x[:, 0, :3] / 255, atol=1e-6)


def test_an_array_goes_by_the_order_of_the_data() -> None:
    x, rows = pictures(), np.arange(80, dtype=np.float32).reshape(40, 2)
    splits = potstill.load_data(x, targets=rows)
    for part in (splits.train, splits.test):
        assert isinstance(part, TensorSource)
        assert part.targets is not None
        assert part.places is not None
        np.testing.assert_array_equal(part.targets.numpy(), rows[part.places.numpy()])
    given = potstill.load_data({"x_train": x[:30], "x_test": x[30:]}, targets=rows)
    assert isinstance(given.train, TensorSource)
    assert isinstance(given.test, TensorSource)
    assert given.train.targets is not None
    assert given.test.targets is not None
    assert given.train.targets[0, 0] == 0
    assert given.test.targets[0, 0] == 60
    alone = potstill.load_data({"x_train": x[:30], "x_test": x[30:]}, targets=rows[:30])
    assert alone.test is None
    assert "no vectors for the test part" in alone.notes[-1]


def test_a_file_of_vectors_and_loose_pictures(tmp_path: Path) -> None:
    folder, x = tmp_path / "loose", pictures(12)
    folder.mkdir()
    for i, pixels in enumerate(x):
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    np.save(tmp_path / "v.npy", np.eye(12, dtype=np.float32))
    train = train_of(folder, test_fraction=0, targets=str(tmp_path / "v.npy"))
    assert len(train) == 12
    assert train.name == "loose"
    assert train.targets is not None
    assert torch.equal(train.targets, torch.eye(12))
    np.testing.assert_allclose(train.raw(torch.arange(12))[:, 0].numpy(), x / 255, atol=1e-6)
    np.savez(tmp_path / "x.npz", x=x)
    assert len(train_of(tmp_path / "x.npz", test_fraction=0, targets=np.ones((12, 1)))) == 12


def test_a_set_of_them_and_its_score_against_baselines(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=pictures(60))
    splits = potstill.load_data(path, targets=SMALL)
    small = potstill.distill(splits, "frepo", items=6, steps=1, network="convnet-w4", progress=None)
    assert small.metadata["reading"] == {"targets": SMALL}
    assert small.labels.shape == (6, 5)
    assert small.metadata["bytes"]["labels"] == 6 * 5 * 4
    card = potstill.evaluate(small, path, seeds=1, steps=(2,), lr=(0.01,), least_epochs=0, quick=True, full=False,
                             progress=None).content  # fmt: skip
    assert card["data"]["made_of_train"] is True
    assert card["baselines"]["random"]["bytes"] <= small.metadata["bytes"]["total"]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("vectors", "targets must be representations"),
        ("representations:depth=3", "unknown setting 'depth'"),
        ("representations:size=0", "size must be at least 1"),
        ("representations:batch=1", "batch must be at least 2"),
        ("representations:lr=0", "lr must be above 0"),
        ("representations:size=5000,epochs=1,network=convnet-w4", "fewer than size=5000"),
        (np.zeros((7, 2)), "7 vectors for"),
        (np.zeros(40), r"shape \(n, d\)"),
        (np.full((40, 2), np.nan), "must be finite"),
        ("missing.npy", "not a file of vectors"),
        (lambda x: x[0], "one row of real numbers"),
    ],
)
def test_bad_targets(targets: object, message: str) -> None:
    with pytest.raises(PotstillError, match=message):
        potstill.load_data(pictures(), targets=targets)


def test_other_refusals() -> None:
    with pytest.raises(PotstillError, match="leave `task=` or `targets=` out"):
        potstill.load_data("digits", task="regression", targets=SMALL)
    with pytest.raises(PotstillError, match="learns from augmented pictures"):
        potstill.load_data((np.random.default_rng(0).random((30, 4)), np.arange(30) % 3), targets=SMALL)
    with pytest.raises(PotstillError, match="no valid 'targets'"):
        check_read_options({"targets": "../secret.npy"})
    assert check_read_options({"targets": SMALL}) == {"targets": SMALL}
