"""Sets with a labeller: a network in the file that labels views of the inputs."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import potstill
from potstill.augment.view_schedule import ViewSchedule
from potstill.automl.network_labels import add_labeller, parse_network_labels
from potstill.core import Splits
from potstill.dataset_file.concat import concat
from potstill.dataset_file.labeller_io import LABELLER, StoredLabeller, usual_samples, usual_views
from potstill.dataset_file.load import validated_set
from potstill.errors import PotstillError
from potstill.evaluation.model_baseline import ModelJob
from potstill.evaluation.training_sets import TrainingSet
from potstill.nn.quantized_model import ModelSpec, QuantizedNetwork, pack_network, unpack_network

ONE_THREAD = {"progress": None, "device": "cpu", "executor": "serial"}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return potstill.load_data("digits")


@pytest.fixture(scope="module")
def labeller(splits: Splits) -> StoredLabeller:
    spec = ModelSpec(family="conv", bits=3, width=4)
    packed = ModelJob(train=splits.train, spec=spec, seed=0, steps=60)()
    return StoredLabeller(packed=packed, views=usual_views(splits.train.input, seed=7), samples=50)


@pytest.fixture(scope="module")
def plain(splits: Splits) -> potstill.Distilled:
    return potstill.distill(splits, "random", ipc=2, codec="uint2", **ONE_THREAD)


@pytest.fixture(scope="module")
def small(plain: potstill.Distilled, labeller: StoredLabeller) -> potstill.Distilled:
    return add_labeller(plain, labeller)


def test_views_and_labels_are_those_of_the_schedule_and_the_network_one_by_one(
    small: potstill.Distilled, labeller: StoredLabeller
) -> None:
    x, y = small.training_samples()
    network = unpack_network(labeller.packed, (1, 8, 8), 10)
    inputs = small.model_space()
    assert x.shape == (50, 1, 8, 8)
    for number in (0, 19, 20, 49):  # of 20 inputs: the first and the last of an epoch, and the last of all
        epoch, item = divmod(number, 20)
        view = labeller.views.view(inputs, epoch, torch.tensor([item]))
        torch.testing.assert_close(x[number], view[0], rtol=0, atol=0)
        with torch.no_grad():
            torch.testing.assert_close(y[number], network(view).softmax(1)[0], rtol=1e-5, atol=1e-6)


def test_a_file_gives_every_reader_the_same_views_and_its_bytes_are_counted(
    tmp_path: Path, plain: potstill.Distilled, small: potstill.Distilled, labeller: StoredLabeller
) -> None:
    small.save(tmp_path / "small.safetensors")
    read = potstill.load(tmp_path / "small.safetensors")
    for one, other in zip(read.training_samples(), small.training_samples(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    before, after = plain.metadata["bytes"], read.metadata["bytes"]
    assert after["labeller"] == sum(t.numel() * t.element_size() for n, t in read.tensors.items() if "labeller/" in n)
    assert abs(after["labeller"] - labeller.packed.bytes) <= 16
    assert after["total"] == before["total"] + after["labeller"]
    assert read.labeller is not None
    assert read.labeller.views == labeller.views
    assert read.metadata["run_digest"] != plain.metadata["run_digest"]


def test_what_the_network_took_is_in_the_cost(plain: potstill.Distilled, labeller: StoredLabeller) -> None:
    made = add_labeller(plain, labeller, seconds=5.0)
    assert made.metadata["cost"]["seconds"] == plain.metadata["cost"]["seconds"] + 5


def test_fewer_views_than_inputs_are_never_given(small: potstill.Distilled) -> None:
    assert len(small.training_samples(3)[1]) == 20
    assert len(small.training_samples(41)[1]) == 41
    assert small.count_training_samples() == len(small.training_samples()[1]) == 50


def test_a_set_without_a_labeller_gives_its_inputs_and_labels(plain: potstill.Distilled) -> None:
    x, y = plain.training_samples()
    torch.testing.assert_close(x, plain.model_space(), rtol=0, atol=0)
    assert y.dtype == torch.int64
    assert plain.labeller is None


def test_students_learn_views_as_they_are_but_a_teachers_labels_of_the_inputs(small: potstill.Distilled) -> None:
    x = small.model_space()
    own = TrainingSet.of_distilled(small, x, 1, weights=None, stored_labels=None)
    assert own.is_augmented
    assert own.items == 50
    asked = TrainingSet.of_distilled(small, x, 1, weights=None, stored_labels=None, own_labels=False)
    assert not asked.is_augmented
    assert asked.items == 20


def test_an_evaluation_augments_no_views(small: potstill.Distilled, splits: Splits) -> None:
    card = potstill.evaluate(
        small, splits, networks="convnet-d1-w8", seeds=1, baselines=False, full=False, robust_scores=False,
        steps=(20,), lr=(0.03,), least_epochs=0, **ONE_THREAD,
    ).to_dict()  # fmt: skip
    assert card["chosen"]["augment"] == "none"


@pytest.mark.parametrize(("views", "updates"), [(5120, 2 * 20), (20_000, 2 * 20), (512, 2 * 2)])
def test_more_views_than_5000_are_no_longer_pass(
    plain: potstill.Distilled, labeller: StoredLabeller, splits: Splits, views: int, updates: int
) -> None:
    many = add_labeller(plain, dataclasses.replace(labeller, samples=views))
    card = potstill.evaluate(
        many, splits, networks="linear", seeds=1, baselines=False, full=False, robust_scores=False,
        steps=(1,), lr=(0.03,), least_epochs=2, batch=256, **ONE_THREAD,
    ).to_dict()  # fmt: skip
    assert card["chosen"]["steps"] == updates  # two passes of at most 5,000 views in batches of 256


def test_large_pictures_have_fewer_views_by_default(splits: Splits) -> None:
    assert usual_samples(splits.train.input) == 20_000
    assert usual_samples(dataclasses.replace(splits.train.input, shape=(3, 64, 64))) == 5461  # 64 million values
    assert usual_samples(dataclasses.replace(splits.train.input, shape=(3, 512, 512))) == 1000


@pytest.mark.parametrize("lost", ["description", "ranges", "channels", "weights"])
def test_a_labeller_without_a_tensor_is_refused(small: potstill.Distilled, lost: str) -> None:
    tensors = {n: t for n, t in small.tensors.items() if not n.startswith(f"{LABELLER}/{lost}")}
    described = {n: d for n, d in small.metadata["codec"]["tensors"].items() if n != f"{LABELLER}/{lost}"}
    metadata = {**small.metadata, "codec": {**small.metadata["codec"], "tensors": described}}
    with pytest.raises(PotstillError, match="a labeller needs the tensors"):
        validated_set(Path("x"), metadata, tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 10**9}, "not 1 to 1,000,000"),
        ({"samples": True}, "not 1 to 1,000,000"),
        ({"views": None}, "has no views"),
        ({"views": {"mix": "blend"}}, "blend"),
        ({"views": {"seed": "1"}}, "wrong kind"),
    ],
)
def test_damaged_metadata_of_a_labeller_are_refused(
    small: potstill.Distilled, change: dict[str, object], message: str
) -> None:
    metadata = {**small.metadata, LABELLER: {**small.metadata[LABELLER], **change}}
    with pytest.raises(PotstillError, match=message):
        validated_set(Path("x"), metadata, dict(small.tensors))


def test_a_description_of_a_network_that_no_memory_holds_is_refused(
    plain: potstill.Distilled, labeller: StoredLabeller
) -> None:
    huge = ModelSpec(family="mlp-2", bits=3, width=65_535)
    packed = dataclasses.replace(labeller.packed, description=huge.to_bytes())
    with pytest.raises(PotstillError, match="needs 4,29"):
        add_labeller(plain, dataclasses.replace(labeller, packed=packed))


def test_a_network_of_other_classes_is_refused(
    plain: potstill.Distilled, labeller: StoredLabeller, splits: Splits
) -> None:
    other = unpack_network(labeller.packed, (1, 8, 8), 10)

    network = QuantizedNetwork(other.spec, (1, 8, 8), 3)
    network.initialise(torch.Generator().manual_seed(0))
    with pytest.raises(PotstillError, match="a network of this description needs"):
        add_labeller(plain, dataclasses.replace(labeller, packed=pack_network(network.eval())))


def test_exports_have_the_views_and_indices_have_the_network(tmp_path: Path, small: potstill.Distilled) -> None:
    x, y = small.training_samples()
    held = np.load(potstill.export(small, "npz", tmp_path / "views.npz"))
    assert held["x"].shape == (50, 1, 8, 8)
    np.testing.assert_allclose(held["y"], y.numpy(), atol=1e-6)
    np.testing.assert_allclose(held["x"], small.normalization.invert(x).numpy(), atol=1e-5)
    again = potstill.materialize(potstill.export(small, "indices", tmp_path / "indices.safetensors"), "digits")
    for one, other in zip(again.training_samples(), (x, y), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(PotstillError, match="a network that labels views"):
        potstill.export(small, "files", tmp_path / "files", data="digits")


def test_sets_with_a_labeller_are_not_joined(plain: potstill.Distilled, small: potstill.Distilled) -> None:
    with pytest.raises(PotstillError, match="with a labeller cannot be joined"):
        concat([plain, small])


def test_crops_are_for_pictures_and_no_labeller_for_numbers(tmp_path: Path, labeller: StoredLabeller) -> None:
    rows = "\n".join(f"{n},{n % 7},{'ab'[n % 2]}" for n in range(40))
    (tmp_path / "table.csv").write_text(f"one,two,kind\n{rows}\n")
    table = potstill.distill(
        potstill.load_data(tmp_path / "table.csv", label="kind"), "random", ipc=2, **ONE_THREAD
    )  # fmt: skip
    with pytest.raises(PotstillError, match="views of rows are mixes alone, but its file asks for crops"):
        add_labeller(table, labeller)
    numbers = potstill.load_data(tmp_path / "table.csv", label="two", task="regression")
    with pytest.raises(PotstillError, match=r"for pictures or rows with classes, but these are table \[3\]"):
        add_labeller(potstill.distill(numbers, "random", items=4, **ONE_THREAD), labeller)


def test_usual_views_flip_only_where_mirror_images_keep_their_class(splits: Splits) -> None:
    assert usual_views(splits.train.input).flip == 0
    assert usual_views(dataclasses.replace(splits.train.input, horizontal_flip=True)).flip == 0.5
    assert usual_views(splits.train.input) == ViewSchedule(scale=(0.5, 1.0), flip=0.0, mix="cutmix", mix_prob=0.5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [("network:width=3", "width"), ("network:bytes=some", "must be int"), ("network:samples=-1", "from 0 to")],
)
def test_settings_that_do_not_exist_or_are_out_of_range_are_refused(labels: str, message: str) -> None:
    with pytest.raises(PotstillError, match=message):
        parse_network_labels(labels)


def test_other_labels_are_no_network() -> None:
    assert parse_network_labels(None) is None
    assert parse_network_labels("learned") is None
