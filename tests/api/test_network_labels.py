"""`potstill.distill(…, labels="network")`: a network in the file labels views."""

from pathlib import Path

import pytest
import torch

import potstill
from potstill.automl import network_labels
from potstill.automl.labelled_codec import rank_codecs
from potstill.automl.result import describe_choice
from potstill.dataset_file.labeller_io import StoredLabeller, usual_views
from potstill.dataset_file.text_io import charged_bytes
from potstill.errors import PotstillError
from potstill.evaluation.model_baseline import ModelJob
from potstill.nn.quantized_model import ModelSpec

ONE_THREAD = {"progress": None, "device": "cpu", "executor": "serial"}
NETWORK = "network:steps=40,samples=60"


def test_set_and_network_are_in_the_budget_and_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    made = [
        potstill.distill("digits", "random", bytes=1500, codec="uint1", labels=NETWORK, seed=3, **ONE_THREAD)
        for _ in range(2)
    ]
    assert 1200 < charged_bytes(made[0].metadata["bytes"]) <= 1500
    assert made[0].metadata["bytes"]["labeller"] <= 600
    for name, tensor in made[0].tensors.items():
        assert torch.equal(tensor, made[1].tensors[name]), name
    x, y = made[0].training_samples()
    assert x.shape == (len(y), 1, 8, 8)
    assert len(y) == max(60, len(made[0]))
    torch.testing.assert_close(y.sum(1), torch.ones(len(y)))
    made[0].save(tmp_path / "small.safetensors")
    assert (tmp_path / "small.safetensors").stat().st_size < 1.05 * 1500 + 1500


def test_without_a_method_samples_are_real_and_in_the_codec_whose_student_is_best() -> None:
    small = potstill.distill("digits", bytes=1200, labels="network:steps=100", **ONE_THREAD)
    assert small.metadata["method"] == "random"
    assert small.choice is not None
    tried = small.choice["tried"]
    asked = {row["codec"]: row["accuracy"] for row in tried if "accuracy" in row}
    assert len(asked) == 3 < len(tried)  # the best in closed form alone have a student
    assert min(row["closed_form"] for row in tried if "accuracy" in row) >= max(
        row["closed_form"] for row in tried if "accuracy" not in row
    )
    assert small.metadata["codec"]["name"] == max(asked, key=lambda codec: asked[codec]) == tried[0]["codec"]
    assert "labels network" in describe_choice(small.choice)
    assert small.choice["text"].endswith("test data were not read.")


def test_codecs_fit_their_bytes_and_the_first_alone_is_tried_where_time_is_over() -> None:
    train = potstill.load_data("digits").train
    packed = ModelJob(train=train, spec=ModelSpec(family="linear", bits=4), seed=0, steps=50)()
    labeller = StoredLabeller(packed=packed, views=usual_views(train.input, seed=1))
    ranked = rank_codecs(train, labeller, 900, seed=0)
    sizes = {trial.codec: trial for trial in ranked}
    assert all(trial.bytes <= 900 and trial.items == 10 * trial.per_class for trial in ranked)
    assert sizes["uint1"].items > sizes["uint2"].items
    again = rank_codecs(train, labeller, 900, seed=0)
    assert again == ranked
    assert [trial.codec for trial in rank_codecs(train, labeller, 900, seed=0, is_late=lambda: True)] == ["uint2"]
    assert rank_codecs(train, labeller, 20, seed=0) == []  # nothing fits


def test_a_codec_that_is_named_is_not_chosen() -> None:
    small = potstill.distill("digits", bytes=1200, codec="uint4", labels="network:steps=10", **ONE_THREAD)
    assert small.choice is None
    assert small.metadata["codec"]["name"] == "uint4"


def test_a_method_that_optimises_makes_the_inputs_too() -> None:
    small = potstill.distill("digits", "frepo", ipc=1, steps=2, network="convnet-d1-w8", labels=NETWORK, **ONE_THREAD)
    assert small.labeller is not None
    assert small.scores is None  # which frepo would learn
    assert len(small) == 10
    assert not small.is_selection


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bytes": 500}, "needs at least 400 bytes"),
        ({"bytes": 1000, "labels": "network:bytes=1000"}, "fewer than the set"),
    ],
)
def test_bytes_that_are_too_few_for_both_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PotstillError, match=message):
        potstill.distill("digits", "random", **{"labels": NETWORK, **options}, **ONE_THREAD)  # type: ignore[arg-type]


def test_rows_of_a_table_have_no_views(tmp_path: Path) -> None:
    rows = "\n".join(f"{n},{n % 7},{'ab'[n % 2]}" for n in range(40))
    (tmp_path / "table.csv").write_text(f"one,two,kind\n{rows}\n")
    data = potstill.load_data(tmp_path / "table.csv", label="kind")
    with pytest.raises(
        PotstillError, match=r"views of pictures with classes, but table\.csv is rows of task classification"
    ):
        potstill.distill(data, "random", bytes=2000, labels=NETWORK, **ONE_THREAD)


def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    potstill.distill("digits", "random", ipc=1, out=path, **ONE_THREAD)
    before = path.read_bytes()
    with pytest.raises(PotstillError, match="force"):
        potstill.distill("digits", "random", ipc=1, labels=NETWORK, out=path, **ONE_THREAD)
    assert path.read_bytes() == before


def test_a_finished_set_of_the_same_run_is_returned_and_one_of_other_settings_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small.safetensors"
    made = potstill.distill("digits", "random", ipc=1, labels=NETWORK, out=path, **ONE_THREAD)
    monkeypatch.setattr(network_labels, "_trained", None)  # both end before a network is trained
    with pytest.raises(PotstillError, match="force"):
        potstill.distill("digits", "random", ipc=1, labels=f"{NETWORK},bytes=800", out=path, **ONE_THREAD)
    again = potstill.distill("digits", "random", ipc=1, labels=NETWORK, out=path, resume=True, **ONE_THREAD)
    assert again.metadata["run_digest"] == made.metadata["run_digest"]


def test_whitening_is_refused_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_labels, "_trained", None)
    with pytest.raises(PotstillError, match="leave zca out"):
        potstill.distill("digits", "dm", ipc=1, zca="mtt", labels=NETWORK, **ONE_THREAD)
