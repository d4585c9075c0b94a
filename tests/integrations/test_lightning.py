"""Lightning trains on a set from its file, and validates and tests on real data."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import potstill
from potstill.core import Splits
from potstill.errors import PotstillError, PotstillWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Lightning's own, of how Python finds packages
    import lightning

    from potstill.integrations.lightning import DistilledData


class Linear(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def _right(self, batch: tuple[Tensor, Tensor], name: str) -> None:
        right = (self.net(batch[0]).argmax(1) == batch[1]).float().mean()
        self.log(name, right, batch_size=len(batch[1]))

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        self._right(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        self._right(batch, "test")

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(scope="module")
def digits() -> Splits:
    return potstill.load_data("digits")


@pytest.fixture(scope="module")
def file(digits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = potstill.distill(digits, "herding", ipc=5, progress=None)
    return small.save(tmp_path_factory.mktemp("sets") / "small.safetensors")


@pytest.mark.filterwarnings("ignore")  # Lightning's, of workers and devices
def test_a_trainer_fits_validates_and_tests(digits: Splits, file: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Linear()
    trainer = lightning.Trainer(
        max_epochs=20, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    held = DistilledData(file, digits, batch_size=16)
    trainer.fit(model, datamodule=held)
    assert float(trainer.callback_metrics["val"]) > 0.7
    (said,) = trainer.test(model, datamodule=held, verbose=False)
    assert said["test"] > 0.7
    # What Lightning saw is the whole test part, under the set's normalization.
    assert digits.test is not None
    x = potstill.load(file).normalization.apply(digits.test.raw(torch.arange(len(digits.test))))
    right = (model.net.cpu()(x).argmax(1) == digits.test.labels).float().mean()
    assert said["test"] == pytest.approx(float(right), abs=1e-6)


def test_what_is_validated_with_is_training_data(digits: Splits, file: Path) -> None:
    held = DistilledData(file, digits, validation=0.2, real_batch_size=100)
    batches = list(held.val_dataloader())
    seen = torch.cat([x for x, _ in batches])
    small = potstill.load(file)
    train = small.normalization.apply(digits.train.raw(torch.arange(len(digits.train)))).flatten(1)
    assert abs(len(seen) - 0.2 * len(train)) <= 10
    assert {tuple(row) for row in seen.flatten(1).tolist()} <= {tuple(row) for row in train.tolist()}
    assert {len(x) for x, _ in batches[:-1]} == {100}


def test_one_seed_gives_one_order_and_epochs_differ(file: Path) -> None:
    first, second = (DistilledData(file, batch_size=50, seed=3).train_dataloader() for _ in range(2))
    (a,), (b,) = list(first), list(second)
    assert a[0].equal(b[0])
    (again,) = list(first)
    assert not again[0].equal(a[0])
    assert again[0].sum() == pytest.approx(float(a[0].sum()), rel=1e-4)


def test_weights_come_along(file: Path) -> None:
    x, y, weight = next(iter(DistilledData(file, weighted=True).train_dataloader()))
    assert (len(x), len(y)) == (50, 50)
    assert float(weight.mean()) == pytest.approx(1.0)


def test_without_data_there_is_nothing_to_validate_or_test_with(file: Path) -> None:
    held = DistilledData(file)
    assert held.val_dataloader() == []
    with pytest.raises(PotstillError, match="no test part"):
        held.test_dataloader()


def test_other_data_are_refused_and_another_split_is_said(file: Path) -> None:
    with pytest.raises(PotstillError, match="give the data that the set was made of"):
        DistilledData(file, "mnist-5k")
    with pytest.warns(PotstillWarning, match="not made of this training data"):
        DistilledData(file, "digits", split_seed=1)
