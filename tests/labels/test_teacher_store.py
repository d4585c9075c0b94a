"""A teacher in a file: it labels as the one that was stored does, and nothing is believed that the file says."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_samples import CLASSES, N, write_flat, write_teacher_flat
from torch import Tensor

from potstill.augment.view_schedule import ViewSchedule
from potstill.core import InputSpec
from potstill.errors import PotstillError
from potstill.labels.label_file import LabelFile, hash_inputs
from potstill.labels.teacher_file import TeacherFile, open_labels, teacher_file_bytes
from potstill.labels.write import LabelTeacher, mean_logits
from potstill.nn import factory
from potstill.rng import generator

SPEC = InputSpec(kind="image", shape=(2, 8, 8))
VIEWS, ALL = ViewSchedule(seed=5, mix_prob=0.7), torch.arange(N)
NAME = "convnet-d1-w8-batch-avg"


def pictures() -> Tensor:
    return torch.randn(N, *SPEC.shape, generator=generator(0, "pictures"))


def expert(name: str = NAME, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> LabelTeacher:
    network = factory(name, SPEC, len(classes))(seed)
    network.train()(torch.randn(64, *SPEC.shape, generator=generator(seed, "seen")) * 2 + 1)
    return LabelTeacher(name=name, network=network.eval(), classes=classes)


def write(path: Path, experts: list[LabelTeacher] | None = None, **settings: Any) -> TeacherFile:
    given: dict[str, Any] = {"classes": CLASSES, "input": SPEC} | settings
    return write_teacher_flat(path, experts or [expert()], pictures(), VIEWS, **given)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    write(made)
    return made


@pytest.mark.parametrize("dtype", ["uint8", "uint4"])
@pytest.mark.parametrize("statistics", ["running", "batch"])
@pytest.mark.parametrize("names", [[NAME], ["mlp-w8"], [NAME, "convnet-d1-w8-instance-avg"]])
def test_bytes_are_those_of_the_tensors_and_as_forecast(
    tmp_path: Path, dtype: str, statistics: Any, names: list[str]
) -> None:
    store = write(tmp_path / "a", [expert(n) for n in names], dtype=dtype, statistics=statistics, batch=7)
    tensors = safetensors.torch.load_file(tmp_path / "a").values()
    assert store.nbytes == sum(t.numel() * t.element_size() for t in tensors)
    assert store.nbytes == teacher_file_bytes(names, SPEC, len(CLASSES), dtype)
    assert store.file_bytes == (tmp_path / "a").stat().st_size > store.nbytes
    assert (store.about.statistics, store.about.batch) == (statistics, 7 if statistics == "batch" else None)


def test_it_labels_the_views_of_a_file_of_rows_as_the_teacher_does(tmp_path: Path, path: Path) -> None:
    teacher, store = expert(), open_labels(path)
    rows = write_flat(tmp_path / "rows", [teacher], pictures(), VIEWS, classes=CLASSES, epochs=3, level=True)
    assert isinstance(store, TeacherFile)
    assert isinstance(open_labels(tmp_path / "rows"), LabelFile)
    for epoch, index in ((0, ALL), (2, torch.tensor([7, 3, 3]))):
        x, labels = store.batch_of(pictures(), epoch, index, 4.0)
        other, wanted = rows.batch_of(pictures(), epoch, index, 4.0)
        assert torch.equal(x, other)
        torch.testing.assert_close(labels, wanted, rtol=0.02, atol=1e-3)
        _, logits = store.batch_of(pictures(), epoch, index, None)
        torch.testing.assert_close(logits, mean_logits([teacher], x), rtol=0.05, atol=0.02)
    beyond, _ = store.batch_of(pictures(), 7, ALL)  # no epoch is the last
    assert torch.equal(beyond, VIEWS.view(pictures(), 7, ALL))


def test_four_bits_are_coarser_than_eight(tmp_path: Path) -> None:
    x = VIEWS.view(pictures(), 0, ALL)
    true = mean_logits([expert()], x)
    gaps = [float((write(tmp_path / d, dtype=d).label(x) - true).abs().max()) for d in ("uint8", "uint4")]
    assert 0 < 4 * gaps[0] < gaps[1] < 0.3 * float(true.abs().max())


def test_by_the_statistics_of_a_batch_it_labels_as_a_network_in_train_mode(tmp_path: Path) -> None:
    store = write(tmp_path / "a", statistics="batch", batch=6)
    x, logits = store.batch_of(pictures(), 1, ALL[:6], None)
    torch.testing.assert_close(logits, mean_logits([expert()], x, "batch"), rtol=0.05, atol=0.05)
    assert not torch.allclose(logits, mean_logits([expert()], x), atol=0.1)


def test_weights_of_items_are_mixed_as_for_rows(tmp_path: Path, path: Path) -> None:
    rows = write_flat(tmp_path / "rows", [expert()], pictures(), VIEWS, classes=CLASSES, epochs=3)
    weights = torch.rand(N, generator=generator(3))
    assert torch.equal(TeacherFile(path).mixed(weights, 2, ALL, SPEC.shape), rows.mixed(weights, 2, ALL, SPEC.shape))


def test_the_same_again_is_left_alone_and_another_is_not_written_over(tmp_path: Path) -> None:
    first = write(tmp_path / "a").path.read_bytes()
    assert write(tmp_path / "a").path.read_bytes() == first
    for change in ({"dtype": "uint4"}, {"experts": [expert(seed=1)]}):
        with pytest.raises(PotstillError, match="another file is there"):
            write(tmp_path / "a", **change)
    assert (tmp_path / "a").read_bytes() == first
    assert write(tmp_path / "b").path.read_bytes() == first


def test_it_travels_and_is_noticed_when_it_changes(tmp_path: Path, path: Path) -> None:
    sent = pickle.loads(pickle.dumps(TeacherFile(path)))
    x = pictures()
    assert torch.equal(sent.label(x), TeacherFile(path).label(x))
    mine = write(tmp_path / "a")
    data = pickle.dumps(mine)
    mine.path.unlink()
    write(tmp_path / "a", dtype="uint4")
    with pytest.raises(PotstillError, match="became another file"):
        pickle.loads(data)


# What does not belong together


def test_other_sets_orders_and_teachers_are_refused(tmp_path: Path, path: Path) -> None:
    store, x = TeacherFile(path), pictures()
    store.check(CLASSES, hash_inputs(x))
    swapped = (CLASSES[1], CLASSES[0], *CLASSES[2:])
    with pytest.raises(PotstillError, match="same classes in the same order"):
        store.check(swapped, hash_inputs(x))
    with pytest.raises(PotstillError, match="label these data"):
        store.check(CLASSES, hash_inputs(x.flip(0)))
    with pytest.raises(PotstillError, match="labels of 20 items, but there are 19"):
        store.view(x[1:], 0, ALL[:3])
    for epoch, index, said in ((0, [20], "items 0…19"), (0, [-1], "items 0…19"), (-1, [0], "from 0")):
        with pytest.raises(PotstillError, match=said):
            store.view(x, epoch, torch.tensor(index))
    with pytest.raises(PotstillError, match=r"the teacher .* and the data must have the same classes"):
        write(tmp_path / "a", [expert(classes=swapped)])
    wrong = LabelTeacher(name="mlp-w8", network=expert().network, classes=CLASSES)
    with pytest.raises(PotstillError, match="'mlp-w8' names another network"):
        write(tmp_path / "a", [wrong])
    with pytest.raises(PotstillError, match="one of potstill's own networks, but 'Mine' is none"):
        write(tmp_path / "a", [LabelTeacher(name="Mine", network=expert().network, classes=CLASSES)])
    with pytest.raises(PotstillError, match="at least one"):
        write_teacher_flat(tmp_path / "a", [], x, VIEWS, classes=CLASSES, input=SPEC)
    with pytest.raises(PotstillError, match="float16"):
        write(tmp_path / "a", dtype="float16")
    assert not list(tmp_path.iterdir())


# Hostile files


def changed(path: Path, **said: Any) -> bytes:
    """The file with other entries in its description, and no hash that would tell."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["labels"]) | said
    header["__metadata__"] = {"labels": json.dumps(about)}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def network(**said: Any) -> dict[str, Any]:
    return {"networks": [{"name": NAME, "hash": "0", "layout": "0"} | said]}


HOSTILE: list[dict[str, Any]] = [
    {"items": 0}, {"items": True}, {"items": 2**40}, {"classes": list(CLASSES[:4])}, {"classes": ["same"] * 12},
    {"classes": [1] * 12}, {"classes": "twelve"}, {"dtype": "uint4"}, {"dtype": "float16"}, {"dtype": 8}, {"input": {}},
    {"input": {"kind": "image", "shape": [2, 12, 8]}}, {"input": {"kind": "image", "shape": [2**31, 2**31, 2**31]}},
    {"input": {"kind": "image", "shape": []}}, {"input": {"kind": "image", "shape": [True, 8, 8]}},
    {"input": {"kind": "waves", "shape": [2, 8, 8]}}, {"input": {"kind": "image", "shape": [2, 8]}},
    {"input": {"kind": "image", "shape": [2, -8, 8]}}, {"views": {}}, {"views": {"kind": "recorded"}},
    {"networks": []}, {"networks": [1]}, network(), network(name="mlp-w8"), network(name="convnet-w99999"),
    network(name="mlp-w99999"), network(name="vgg19"), network(name="timm:resnet18"), network(name="os.system"),
    network(name="../file.py:Net"), network(name=3), network(layout=None), {"format": "potstill-teacher/2"},
    {"format": "potstill-labels/2"}, {"format": 3}, {"statistics": "batch"}, {"statistics": "batch", "batch": 0},
    {"statistics": "none"}, {"batch": 6}, {"version": 1}, {"content_hash": None},
]  # fmt: skip


@pytest.mark.parametrize("said", HOSTILE, ids=lambda said: json.dumps(said)[:60])
def test_descriptions_that_contradict_the_file_are_refused(path: Path, tmp_path: Path, said: dict[str, Any]) -> None:
    (tmp_path / "changed").write_bytes(changed(path, **said))
    with pytest.raises(PotstillError) as refused:
        open_labels(tmp_path / "changed")
    assert "\n" not in str(refused.value)


def test_what_the_changes_above_start_from_is_accepted(path: Path, tmp_path: Path) -> None:
    (tmp_path / "changed").write_bytes(changed(path))
    assert open_labels(tmp_path / "changed").about == open_labels(path).about


def test_a_file_of_another_network_of_the_same_name_is_refused(path: Path, tmp_path: Path) -> None:
    """As if the network of that name had been changed since: its layout tells."""
    about = TeacherFile(path).about.to_json()
    other = about["networks"][0] | {"layout": "0" * 64}
    (tmp_path / "changed").write_bytes(changed(path, networks=[other]))
    with pytest.raises(PotstillError, match="laid out as those of convnet-d1-w8-batch-avg, but they are not"):
        TeacherFile(tmp_path / "changed")


def test_a_changed_number_is_damage(path: Path, tmp_path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    (tmp_path / "changed").write_bytes(bytes(content))
    with pytest.raises(PotstillError, match="damaged"):
        open_labels(tmp_path / "changed")


FUZZ = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.data())
@FUZZ
def test_cut_and_changed_files_are_refused_in_one_line(path: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.one_of(st.sampled_from(b'0123456789-.,:[]{}"e \\'), st.integers(0, 255)))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    if bytes(content) == path.read_bytes():
        return
    (tmp_path / "changed").write_bytes(bytes(content))
    with pytest.raises(PotstillError) as refused:
        open_labels(tmp_path / "changed")
    assert "\n" not in str(refused.value)


def test_pickles_and_other_kinds_are_refused(path: Path, tmp_path: Path) -> None:
    torch.save(expert().network.state_dict(), tmp_path / "state.pt")
    safetensors.torch.save_file(expert().network.state_dict(), tmp_path / "state.safetensors")
    for name, said in (("state.pt", "pickle"), ("state.safetensors", "not a store of labels")):
        with pytest.raises(PotstillError, match=said):
            open_labels(tmp_path / name)
    for place in (tmp_path, tmp_path / "missing", Path("/dev/null")):
        with pytest.raises(PotstillError):
            open_labels(place)
    with pytest.raises(PotstillError, match="not rows of labels, but a teacher"):
        LabelFile(path)
    rows = write_flat(tmp_path / "rows", [expert()], pictures(), VIEWS, classes=CLASSES, epochs=1)
    with pytest.raises(PotstillError, match="not a teacher, but rows of labels"):
        TeacherFile(rows.path)
