"""Selections as artefacts: indices alone and back, files of a folder, rows of a Hugging Face set."""

import io
import json
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

import potstill
from potstill.cli.main import main
from potstill.dataset_file import is_index_file, load


def picture(rng, mean):
    return Image.fromarray((rng.random((8, 8, 3)) * 100 + mean).astype(np.uint8))


@pytest.fixture
def photos(tmp_path):
    """Two classes of ten PNG and JPEG files, some in a folder below their class."""
    rng = np.random.default_rng(0)
    for c, name in enumerate(("rose", "tulip")):
        for n in range(10):
            folder = tmp_path / "photos" / name / ("below" if n % 3 == 0 else "")
            folder.mkdir(parents=True, exist_ok=True)
            picture(rng, 60 + 60 * c).save(folder / (f"{n:02}.png" if n % 2 else f"{n:02}.jpg"))
    return tmp_path / "photos"


def chosen(data, method="herding", ipc=3, **reading):
    return potstill.distill(potstill.load_data(data, **reading), method, ipc=ipc)


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() or p.is_symlink()}


@pytest.mark.parametrize("link", ["copy", "hard", "symbolic"])
def test_files_of_a_folder_are_the_chosen_ones(photos, tmp_path, link):
    small = chosen(photos)
    out = potstill.export(small, "files", tmp_path / "out", data=photos, link=link)
    files = names(out) - {"selection.json"}
    assert len(files) == 6
    for file in files:
        original = photos / file
        assert (out / file).read_bytes() == original.read_bytes()
        assert (out / file).is_symlink() == (link == "symbolic")
        assert (original.stat().st_nlink > 1) == (link == "hard")
    said = json.loads((out / "selection.json").read_text())
    assert said["index"] == small.index.tolist()
    assert set(said["files"]) == files
    # each file, read again, is the input that the set holds
    for file, x in zip(said["files"], small.inputs, strict=True):
        pixels = torch.from_numpy(np.array(Image.open(out / file).convert("RGB"))).permute(2, 0, 1) / 255
        assert torch.equal(pixels, x)
    again = potstill.load_data(out, test_fraction=0)
    assert again.train.classes == small.classes
    assert torch.equal(again.train.labels.sort().values, small.labels.sort().values)


def test_files_below_train_go_below_their_class(photos, tmp_path):
    split = tmp_path / "split"
    split.mkdir()
    photos.rename(split / "train")
    (split / "test").symlink_to(split / "train")
    out = potstill.export(chosen(split), "files", tmp_path / "out", data=split)
    assert {p.name for p in out.iterdir()} == {"rose", "tulip", "selection.json"}
    assert all((split / "train" / f).is_file() for f in names(out) - {"selection.json"})


def test_a_broken_file_that_was_left_out_does_not_shift_the_others(photos, tmp_path):
    (photos / "rose" / "00a.png").write_bytes(b"no picture")
    small = chosen(photos, skip_bad=True, test_fraction=0)
    out = potstill.export(small, "files", tmp_path / "out", data=photos, skip_bad=True, test_fraction=0)
    said = json.loads((out / "selection.json").read_text())
    for file, x in zip(said["files"], small.inputs, strict=True):
        pixels = torch.from_numpy(np.array(Image.open(out / file).convert("RGB"))).permute(2, 0, 1) / 255
        assert torch.equal(pixels, x)


def test_other_data_are_refused_with_both_hashes(photos, tmp_path):
    small = chosen(photos)
    picture(np.random.default_rng(9), 0).save(photos / "rose" / "01.png")
    found = potstill.load_data(photos).train.content_hash
    for to in ("files", "hf"):
        with pytest.raises(potstill.PotstillError) as refused:
            potstill.export(small, to, tmp_path / "out", data=photos)
        assert small.metadata["source"]["hash"] in str(refused.value)
        assert found in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_selection_of_streamed_pictures_reads_them_streamed_again(photos, tmp_path):
    small = potstill.distill(potstill.load_data(photos, stream=True), "random", ipc=2)
    assert small.metadata["source"]["hash"].startswith("encoded:")
    out = potstill.export(small, "files", tmp_path / "out", data=photos)
    assert len(names(out)) == 5


def test_shards_give_their_pictures_as_files(tmp_path):
    rng = np.random.default_rng(1)
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for n in range(12):
            for ending, content in (("png", b""), ("cls", str(n % 2).encode())):
                if ending == "png":
                    buffer = io.BytesIO()
                    picture(rng, 50).save(buffer, "PNG")
                    content = buffer.getvalue()
                info = tarfile.TarInfo(f"{n:04}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    data = str(tmp_path / "set.tar")
    small = chosen(data, ipc=2)
    out = potstill.export(small, "files", tmp_path / "out", data=data)
    said = json.loads((out / "selection.json").read_text())
    for file, x in zip(said["files"], small.inputs, strict=True):
        assert torch.equal(torch.from_numpy(np.array(Image.open(out / file))).permute(2, 0, 1) / 255, x)
    with pytest.raises(potstill.PotstillError, match="none can be linked"):
        potstill.export(small, "files", tmp_path / "linked", data=data, link="hard")


@pytest.fixture
def saved(tmp_path):
    """A Hugging Face set on disk with a column that potstill does not read."""
    rng = np.random.default_rng(2)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"]), "note": datasets.Value("string")}
    )
    rows = {
        "image": [picture(rng, 40 + 50 * (n % 2)) for n in range(16)],
        "label": [n % 2 for n in range(16)],
        "note": [f"row {n}" for n in range(16)],
    }
    data = datasets.Dataset.from_dict(rows, features=features)
    data.save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_rows_of_a_hugging_face_set_keep_all_their_columns(saved, tmp_path):
    small = chosen(saved, ipc=3)
    out = potstill.export(small, "hf", tmp_path / "subset", data=saved)
    subset = datasets.load_from_disk(str(out))
    whole = datasets.load_from_disk(str(saved))
    assert len(subset) == 6
    assert subset.features == whole.features
    for row, x, y in zip(subset, small.inputs, small.labels, strict=True):
        assert torch.equal(torch.from_numpy(np.array(row["image"])).permute(2, 0, 1) / 255, x)
        assert row["label"] == y
        assert np.array_equal(np.array(whole[int(row["note"][4:])]["image"]), np.array(row["image"]))


def test_a_folder_becomes_rows_with_the_files_own_bytes_and_soft_labels(photos, tmp_path):
    small = potstill.distill(photos, "random-soft", ipc=2, network="convnet-d1-w4", teacher_steps=2)
    subset = datasets.load_from_disk(str(potstill.export(small, "hf", tmp_path / "subset", data=photos)))
    assert subset.features["label"].names == ["rose", "tulip"]
    assert np.allclose(subset["soft_label"], small.labels.numpy())
    for row, x in zip(subset, small.inputs, strict=True):
        assert torch.equal(torch.from_numpy(np.array(row["image"].convert("RGB"))).permute(2, 0, 1) / 255, x)


def test_rows_of_a_table(tmp_path):
    rng = np.random.default_rng(3)
    lines = ["a,b,kind", *(f"{rng.normal():.4f},{rng.normal():.4f},{'xy'[n % 2]}" for n in range(20))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    small = chosen(tmp_path / "t.csv", label="kind", ipc=2)
    out = potstill.export(small, "hf", tmp_path / "rows", data=tmp_path / "t.csv", label="kind")
    subset = datasets.load_from_disk(str(out))
    assert np.allclose(np.stack([subset["a"], subset["b"]], 1), small.inputs.numpy(), atol=1e-6)
    assert [small.classes[y] for y in small.labels] == list(subset["kind"])
    with pytest.raises(potstill.PotstillError, match="pictures and sounds, but this set holds rows"):
        potstill.export(small, "files", tmp_path / "files", data=tmp_path / "t.csv", label="kind")


@pytest.mark.parametrize("method", ["herding", "random-soft"])
@pytest.mark.parametrize("zca", [None, "mtt"])
def test_indices_and_data_make_the_same_file_again(tmp_path, method, zca):
    options = {"teacher_steps": 2, "network": "mlp"} if method == "random-soft" else {}
    small = potstill.distill("digits", method, ipc=2, zca=zca, **options)
    whole, light = small.save(tmp_path / "whole.safetensors"), tmp_path / "light.safetensors"
    potstill.export(small, "indices", light)
    assert is_index_file(light)
    assert not is_index_file(whole)
    if zca is None:
        assert light.stat().st_size < whole.stat().st_size
    again = potstill.materialize(light, "digits")
    assert again.save(tmp_path / "again.safetensors").read_bytes() == whole.read_bytes()
    with pytest.raises(potstill.PotstillError, match="potstill materialize FILE"):
        load(light)
    with pytest.raises(potstill.PotstillError, match=r"with hash [0-9a-f]{64}, but .* has hash [0-9a-f]{64}"):
        potstill.materialize(light, "digits", split_seed=1)


def test_indices_are_evaluated_with_the_data_that_an_evaluation_needs_anyway(tmp_path):
    small = potstill.distill("digits", "random", ipc=1)
    potstill.export(small, "indices", tmp_path / "light.safetensors")
    options = {"networks": ["mlp"], "seeds": 1, "baselines": False, "full": False, "robust_scores": False, "epochs": 3}
    light, whole = (potstill.evaluate(s, "digits", **options) for s in (tmp_path / "light.safetensors", small))
    assert light.to_dict()["accuracy"] == whole.to_dict()["accuracy"]


def test_what_was_not_chosen_has_no_indices_and_no_files(tmp_path):
    made = potstill.distill("digits", "dm", ipc=1, steps=1, network="convnet-d1-w4")
    assert not made.is_selection
    for to in ("indices", "files", "hf"):
        with pytest.raises(potstill.PotstillError, match="were made by dm, not"):
            potstill.export(made, to, tmp_path / "out", data="digits")
    chosen = potstill.distill("digits", "random", items=10)
    with pytest.raises(potstill.PotstillError, match="give data"):
        potstill.export(chosen, "files", tmp_path / "out")


def test_a_hostile_file_of_indices_is_refused(tmp_path):
    from potstill._util.card import parse_card
    from potstill.codecs import decode, encode_ints
    from potstill.core import Encoded
    from potstill.dataset_file import read_tensors, write_tensors

    potstill.export(potstill.distill("digits", "random", ipc=1), "indices", tmp_path / "light.safetensors")
    tensors, metadata = read_tensors(tmp_path / "light.safetensors", 2**20)
    card = parse_card(metadata)
    said = card["codec"]["tensors"]["index"]
    index = decode(Encoded({"": tensors["index"]}, said))
    many, turned = encode_ints(index + 10**6), encode_ints(index.flip(0))
    for bad, description, message in (
        (many.tensors[""], many.metadata, "is not among"),
        (tensors["index"], {**said, "least": -2000}, "index"),
        (tensors["index"].float(), said, "index"),
        (tensors["index"], None, "index"),
        (turned.tensors[""], turned.metadata, "the samples have hash"),
    ):
        tensors_said = {**card["codec"]["tensors"], "index": description}
        edited = {**card, "codec": {**card["codec"], "tensors": tensors_said}}
        write_tensors(tmp_path / "bad.safetensors", {"index": bad}, {"card": json.dumps(edited)})
        with pytest.raises(potstill.PotstillError, match=message):
            potstill.materialize(tmp_path / "bad.safetensors", "digits")


def test_the_commands(photos, tmp_path, capsys):
    def run(*words):
        status = main([*map(str, words), "--quiet", "--json"])
        shown = capsys.readouterr()
        return status, json.loads(shown.out) if status == 0 else shown.err

    small, light, again = (tmp_path / f"{n}.safetensors" for n in ("small", "light", "again"))
    assert run("distill", photos, "--method", "herding", "--ipc", 2, "--size", 8, "--out", small)[0] == 0
    status, said = run("export", small, "--to", "files", "--data", photos, "--size", 8, "--out", tmp_path / "files")
    assert (status, said["items"]) == (0, 4)
    assert run("inspect", small)[1]["kind"] == "selection"
    assert run("export", small, "--to", "indices", "--out", light)[0] == 0
    assert run("materialize", light, "--data", photos, "--size", 8, "--out", again)[0] == 0
    assert again.read_bytes() == small.read_bytes()
    status, error = run("export", small, "--to", "files", "--data", photos, "--size", 4, "--out", tmp_path / "no")
    assert status == 1
    assert error.count("hash") == 2
    assert run("export", small, "--to", "files", "--out", tmp_path / "no")[0] == 2
    assert run("export", small, "--to", "npz", "--license", "mit", "--out", tmp_path / "no.npz")[0] == 2
    assert run("export", small, "--to", "npz", "--data", photos, "--out", tmp_path / "no.npz")[0] == 2
