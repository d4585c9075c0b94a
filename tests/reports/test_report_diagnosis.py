"""A set's report card on its page: what was found stands there, as text, and a folder is enough to find it."""

import json

import pytest

from potstill.reports import collect, render
from potstill.reports.diagnosis import diagnosis_section, is_study

STUDY = {
    "format": "potstill/study/1",
    "file": "petals.safetensors",
    "set": {"method": "dm", "ipc": 1, "seed": 0},
    "network": "convnet",
    "asked": {"part": "test", "samples": 40},
    "recipe": {"students": 2, "steps": 10},
    "left_out": {"agreement": "it is about classes"},
    "parts": {
        "nearest": {
            "exact": 1, "near": 0, "selected": False, "test": {"exact": 2, "near": 3},
            "items": [
                {"item": 4, "class": "<b>rose</b>", "sample": 17, "sample_class": "tulip", "distance": 0.25,
                 "relative": 0.5, "copy": "near"},
            ],
        },
        "mixing": {
            "per": "class", "metric": {"metric": "accuracy", "direction": "higher", "unit": "fraction"},
            "curve": [
                {"k": 0, "with_set": {"mean": 0.731}, "real_instead": {"mean": 0.6},
                 "difference": {"mean": 0.131, "ci95": [0.1, 0.16]}},
            ],
        },
        "influence": {"helps": 1, "harms": 0, "items": [{"items": [4], "class": "tulip", "loss": 0.5, "told": True}]},
    },
}  # fmt: skip


def test_what_was_found_is_on_the_page_and_text_of_data_is_escaped(tmp_path):
    (tmp_path / "petals.study.json").write_text(json.dumps(STUDY))
    entries = collect([tmp_path])
    page = render(entries, title="petals", command="potstill report .")
    for said in ("Report card", "73.1%", "+13.1", "+10.0 to +16.0", "40 samples of the test part", "2 exact, 3 near"):
        assert said in page
    assert "&lt;b&gt;rose" in page
    assert "<b>rose" not in page
    assert "Left out: agreement, as it is about classes." in page


@pytest.mark.parametrize("value", [None, [], {"format": "potstill/3"}, {"accuracy": {"mean": 0.5}}])
def test_other_json_is_no_report_card(value):
    assert not is_study(value)


def test_a_card_of_nothing_and_a_broken_one_are_still_a_section():
    assert diagnosis_section(None) is None
    assert diagnosis_section({"parts": {"mixing": {"curve": "x"}, "nearest": 3, "agreement": {"peak": None}}})
