"""What is printed and what a notebook shows: short, and no text of the data's can do anything."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import potstill
from potstill.core import Splits
from potstill.evaluation import Scorecard

EVIL = "<script>alert(1)</script>\x1b[2J\u202e"


@pytest.fixture
def data() -> Splits:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (60, 9, 7, 3), dtype=np.uint8), np.arange(60) % 12
    return _named(potstill.load_data((x, y)))


def _named(splits: Splits) -> Splits:
    from dataclasses import replace

    classes = (EVIL, *(f"c{n}" for n in range(1, 12)))
    train, test = (replace(part, name=EVIL, classes=classes) for part in (splits.train, splits.test))  # type: ignore
    return Splits(train=train, test=test, notes=(f"{EVIL}: split",))


def harmless(shown: str) -> None:
    """No tag but ours, no control characters, no other source of pictures."""
    assert "<script" not in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert {t.lower() for t in re.findall(r"<\s*/?\s*([A-Za-z]+)", shown)} <= {
        "div", "i", "b", "table", "thead", "tbody", "tr", "td", "th", "bdi", "span", "img",
    }  # fmt: skip
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', shown))


def test_data_are_a_line_for_each_part(data: Splits, tmp_path: Path) -> None:
    lines = str(data).splitlines()
    assert len(lines) == 3
    assert "48 pictures of 3×9×7 in 12 classes" in lines[0]
    assert lines[0].startswith("train: <script>alert(1)</script>\\x1b[2J\\u202e: ")
    assert "12 pictures of 3×9×7" in lines[1]
    assert all(len(line) < 200 and line.isprintable() for line in lines)
    assert repr(data.train) in lines[0]
    table = potstill.load_data((np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 2))
    assert "32 rows of 5 columns in 2 classes ('0', '1')" in repr(table.train)
    for c in "ab":
        (tmp_path / c).mkdir()
        for n in range(4):
            Image.new("L", (8, 8), n).save(tmp_path / c / f"{n}.png")
    streamed = potstill.load_data(tmp_path, stream=True, device="cpu")
    assert "6 pictures of 1×8×8 in 2 classes ('a', 'b')" in repr(streamed.train)
    assert "<img" not in streamed._repr_html_()  # that would read files


def test_a_notebook_shows_data_with_their_first_pictures(data: Splits) -> None:
    shown = data._repr_html_()
    harmless(shown)
    assert shown.count("<img") == 10 * 4 + 10  # ten classes of train, of four samples, and of test, of one
    assert "12 classes" in shown
    assert "and 2 more" in shown
    assert "split" in shown


def test_a_notebook_shows_a_set(data: Splits) -> None:
    small = potstill.distill(data, "random", ipc=3)
    shown = small._repr_html_()
    harmless(shown)
    assert shown.count("<img") == 30
    assert "36 of 3×9×7 in 12 classes" in shown
    assert len(shown) < 60_000
    row = potstill.load_data((np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 2))
    harmless(potstill.distill(row, "random", ipc=3)._repr_html_())


def card(**changes: Any) -> Scorecard:
    accuracy = {"mean": 0.5, "std": 0.1, "ci95": [0.4, 0.6], "n": 5}
    difference = {"mean": 0.1, "ci95": [-0.1, 0.3]}
    content = {
        "protocol": "dc", "protocol_version": 1, "fingerprint": "f", "network": "net", "n": 5, "optimistic": False,
        "score": accuracy, "accuracy": accuracy, "baselines": {
            "random": {**accuracy, "bytes": 990, "items": 40, "codec": "half:bits=1", "per_class": 20},
            "random-items": {**accuracy, "bytes": 4000, "items": 3, "codec": "exact", "per_class": 2},
        }, "full": None, "left_out": {"herding": "it does not fit"},
        "difference": {"random": difference}, "scores": {"hlr": None}, "bytes": {"total": 1000}, "diverged": 0,
        "networks": {"net": accuracy, EVIL: accuracy},
        "set": {"method": "dm", "source": EVIL, "items": 3, "codec": "uint4"},
    }  # fmt: skip
    return Scorecard(content=content | changes)


def test_a_scorecard_is_its_table_wherever_it_is_shown() -> None:
    score = card()
    assert repr(score) == str(score)
    assert all(line.isprintable() for line in str(score).splitlines())
    assert "this set           50.0%     40.0 to 60.0   5       3       1,000  4 bits" in str(score)
    assert "random             50.0%     40.0 to 60.0   5      40         990  20 per class, 1 bit, half size" in str(
        score
    )
    assert "random-items       50.0%     40.0 to 60.0   5       3       4,000  as they are" in str(score)
    assert "fair: random takes no more bytes than this set" in str(score)
    assert "herding was left out: it does not fit" in str(score)
    shown = score._repr_html_()
    harmless(shown)
    assert shown.count("<tr>") == 4
    assert "over random: +10.0 points" in shown
    assert "40.0 to 60.0" in shown


def test_pictures_are_drawn_as_they_are() -> None:
    from potstill._util.notebook_repr import inline_image

    x = torch.rand(3, 5, 4).numpy()
    x[0, 0, 0] = np.nan
    made = inline_image(x, EVIL, 40, 64)
    harmless(made)
    assert 'width="32" height="40"' in made
    assert 'width="13" height="64"' in inline_image(np.zeros((1, 300, 60), np.float32), "", 40, 64)
