"""What a page says, told from its markup: no browser."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from question_samples import comparison
from report_samples import card, scorecard

from potstill.api.report import report
from potstill.reports import Gallery, render
from potstill.reports.collect import Entry
from potstill.reports.numbers import shorten
from potstill.reports.sections import _networks

LONG = (
    "dd begins with training 3 networks for 100,000 epochs: about 40 hours on this machine, more than the time limit "
    "of 10 min; ask for fewer `pretrained_networks=` or fewer `pretrain_epochs=`, or a longer limit <b>x</b>"
)  # fmt: skip


def names(score: dict[str, Any]) -> list[str]:
    found = _networks(Entry(name="s", card=card(), scorecard=score))
    return [] if found is None else re.findall(r'<th scope="row"><bdi>([^<]*)', "".join(found))


def test_the_network_that_was_measured_is_no_other_network() -> None:
    score = scorecard()
    first, *others = score["networks"]
    assert first == score["network"]
    assert names(score) == others
    assert names({**score, "networks": {first: score["networks"][first]}}) == []


def test_a_failure_fills_one_line_and_opens_to_the_whole(tmp_path: Path, digits: Gallery) -> None:
    folder = comparison(tmp_path, digits)
    held = json.loads((folder / "leaderboard.json").read_text())
    held["rows"][-1]["error"] = LONG
    (folder / "leaderboard.json").write_text(json.dumps(held))
    page = report(folder, tmp_path / "page.html").read_text()
    (cell,) = re.findall(r"<details[^>]*class=\"how\"[^>]*>.*?</details>", page, re.S)
    (short,) = re.findall(r"<summary>(.*?)</summary>", cell)
    assert short == "dd begins with training 3 networks for 100,000 epochs: about 40 hours on this …"
    assert len(short) <= 80
    assert "fewer `pretrain_epochs=`, or a longer limit &lt;b&gt;x" in cell


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("short", "short"),
        ("x.csv: no such file; check the path", "x.csv: no such file"),
        ("One. Two.", "One."),
        ("a\nb", "a b"),
        ("w" * 100, "w" * 78 + " …"),
        ("word " * 30, ("word " * 15).strip() + " …"),
    ],
)  # fmt: skip
def test_brief(text: str, said: str) -> None:
    assert shorten(text) == said
    assert len(said) <= 80


def test_a_network_in_the_file_that_labels_is_told_beside_the_size_and_the_baselines() -> None:
    plain = Entry(name="s", card=card(), scorecard=scorecard())
    labelled = dataclasses.replace(plain, card=card(bytes={"inputs": 900, "labeller": 1077, "total": 1977}))
    pages = [str(render([entry], title="s", command="c")) for entry in (plain, labelled)]
    assert "a network of 1,077 bytes that labels them" in pages[1]
    assert "its students learn views that its network labels, without further augmentation" in pages[1]
    assert "trained and tested alike" in pages[0]
    assert "a network of" not in pages[0]
