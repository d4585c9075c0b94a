"""Likeness of sets to real samples: real ones are as like as random ones, noise is not, and what a page says."""

from typing import Any

import pytest
import torch

import potstill
from potstill.reports.diagnosis import describe_diagnosis

OPTIONS: dict[str, Any] = {"parts": ["likeness"], "students": 5, "steps": 40, "network": "mlp-w32", "progress": None}


@pytest.fixture(scope="module")
def splits() -> potstill.Splits:
    return potstill.load_data("digits")


def study(small: potstill.Distilled, splits: potstill.Splits) -> dict[str, Any]:
    found: dict[str, Any] = potstill.diagnose(small, splits, **OPTIONS)
    return found


def test_real_samples_are_as_like_as_random_ones_and_noise_is_not(splits: potstill.Splits) -> None:
    real = potstill.distill(splits, "random", ipc=5, seed=7, progress=None)
    part = study(real, splits)["parts"]["likeness"]
    low, high = part["difference"]["ci95"]
    assert low < 0 < high
    assert (part["items"], part["networks"], part["selected"]) == (50, 5, True)
    made = potstill.distill(
        splits, "dm", ipc=5, steps=1, init_from="noise", network="mlp-w32", codec="uint8", progress=None
    )
    noise = study(made, splits)
    part = noise["parts"]["likeness"]
    assert part["difference"]["ci95"][0] > 0
    assert part["set"]["frechet"]["mean"] > 2 * part["random"]["frechet"]["mean"]
    assert part["set"]["coverage"]["mean"] < part["random"]["coverage"]["mean"]
    text, table = describe_diagnosis(noise)[1:3]
    assert "Kernel distance of the set less that of random samples: +" in str(text)
    assert [row[0] for row in table.rows][:2] == ["Fréchet distance (FID)", "kernel distance (KID)"]  # type: ignore[union-attr]
    again = study(made, splits)["parts"]["likeness"]
    assert again == part


def test_one_item_has_no_distribution() -> None:
    x = torch.arange(60.0).reshape(30, 2)
    data = potstill.load_data((x.numpy(), x.sum(1).numpy()), task="regression")
    small = potstill.distill(data, "random", items=1, progress=None)
    found = potstill.diagnose(small, data, **OPTIONS)
    blocks = describe_diagnosis(found)
    assert any("needs two items at least" in str(block) for block in blocks)
