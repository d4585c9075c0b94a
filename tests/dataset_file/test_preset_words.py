"""The words for a run's preset: what differs from it is said beside its name."""

from typing import Any

import pytest

import potstill
from potstill._util.preset_words import describe_preset, recipe_name
from potstill.core import Splits
from potstill.dataset_file import describe, inspect
from potstill.testing import toy_source

DATA = Splits(train=toy_source("image"), test=None)


def lines(small: Any) -> dict[str, str]:
    return {line[:12].strip(): line[12:] for line in describe(inspect(small)).splitlines() if line[:1] != " "}


def test_a_changed_run_is_not_called_published() -> None:
    small = potstill.distill(
        DATA, "dm", ipc=1, preset="published", iterations=2, network="convnet-d1-w4", batch_real=4, progress=None
    )
    assert lines(small)["settings"] == "published, but batch_real 4, iterations 2, network convnet-d1-w4"
    assert lines(small)["network"].startswith("convnet-d1-w4")
    assert "scorecard" in lines(small)["accuracy"]
    assert "recipe" not in lines(small)


def test_parts_that_follow_the_data_and_defaults_are_no_change() -> None:
    small = potstill.distill(DATA, "herding", ipc=1, progress=None)
    assert small.metadata["preset"] == {"name": "quick", "fields": {}}
    assert lines(small)["settings"] == "quick"


def test_a_run_that_ended_early_says_so() -> None:
    small = potstill.distill(DATA, "dm", ipc=1, steps=1, network="convnet-d1-w4", batch_real=4, progress=None)
    assert lines(small)["settings"] == "published, but batch_real 4, network convnet-d1-w4, ended at step 1"


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        (None, "given"), ("published", "given"), ({"name": 3}, "given"), ({"name": "good"}, "good"),
        ({"name": "good", "changed": "lr"}, "good"), ({"name": "good", "changed": [1, "momentum"]}, "good"),
        ({"name": "good", "changed": ["lr", "init"]}, "good, but lr 0.5, init noise"),
    ],
)  # fmt: skip
def test_words_of_metadata_that_a_stranger_wrote(preset: object, words: str) -> None:
    assert describe_preset(preset, {"lr": 0.5, "init": "noise"}) == words


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("potstill distill digits --recipe dm --out a.safetensors", "dm"),
        ("potstill distill --recipe=my.yaml", "my.yaml"), ("potstill distill digits", None),
        ("potstill --recipe", None), ("potstill 'open", None), (None, None), (7, None),
    ],
)  # fmt: skip
def test_the_recipe_is_read_from_the_command(command: object, name: str | None) -> None:
    assert recipe_name(command) == name
