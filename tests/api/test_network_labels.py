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
    assert small.metadata["method"] == "real"
    assert small.is_selection
    assert 1000 < charged_bytes(small.metadata["bytes"]) <= 1200
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


def write_table(path: Path) -> Path:
    """Write a table of two classes that a line parts, with a column of words."""
    rows = []
    for n in range(240):
        one, two = (n * 37 % 101) / 10, (n * 53 % 97) / 10
        rows.append(f"{one},{two},{('red', 'green', 'blue')[n % 3]},{'ab'[one + two > 9]}")
    path.write_text("one,two,colour,kind\n" + "\n".join(rows) + "\n")
    return path


def test_rows_of_a_table_are_mixed_in_pairs_and_labelled(tmp_path: Path) -> None:
    data = potstill.load_data(write_table(tmp_path / "table.csv"), label="kind")
    small = potstill.distill(data, "random", bytes=1500, labels="network:steps=300,samples=500", **ONE_THREAD)
    assert small.labeller is not None
    assert charged_bytes(small.metadata["bytes"]) <= 1500
    x, y = small.training_samples()
    assert x.shape == (max(500, len(small)), small.input.num_values)
    rows = small.model_space()
    for view in x[:20]:  # each lies on the line between two rows
        gaps = torch.cdist(view[None], rows)[0]
        between = torch.cdist(rows, rows)
        off = (gaps[:, None] + gaps[None, :] - between) / between.clamp_min(1e-6)
        assert float(off.min()) < 1e-4
    network = small.labeller.network(small.input.shape, 2)
    with torch.no_grad():
        torch.testing.assert_close(network(x).softmax(1), y, rtol=1e-4, atol=1e-5)
    small.save(tmp_path / "small.safetensors")
    again = potstill.load(tmp_path / "small.safetensors").training_samples()
    assert torch.equal(again[0], x)
    assert torch.equal(again[1], y)


def test_a_forest_learns_mixes_too(tmp_path: Path) -> None:
    data = potstill.load_data(write_table(tmp_path / "table.csv"), label="kind")
    small = potstill.distill(data, "random", bytes=1500, labels="network:steps=300,samples=500", **ONE_THREAD)
    card = potstill.evaluate(
        small, data, networks="forest", seeds=2, baselines=False, full=False, **ONE_THREAD
    ).to_dict()  # fmt: skip
    assert card["accuracy"]["mean"] > 0.8


def test_numbers_have_no_network_that_labels(tmp_path: Path) -> None:
    data = potstill.load_data(write_table(tmp_path / "table.csv"), label="one", task="regression")
    with pytest.raises(
        PotstillError, match=r"views of pictures or rows with classes, but table\.csv is rows of task regression"
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
