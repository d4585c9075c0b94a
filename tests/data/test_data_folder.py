"""Folders of real picture files, made here."""

import io
import os
import tarfile

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from picture_files import encoded, noise, put
from PIL import Image, PngImagePlugin

from potstill._util.input_limits import limited
from potstill.data import load
from potstill.errors import PotstillError


def simple(root, classes=("ant", "bee"), n=5, content=None):
    for k, name in enumerate(classes):
        for i in range(n):
            put(root / name / f"{i}.png", content or encoded((40 * k, 10 * i, 200)))
    return root


def test_class_folders_are_split_by_seed(tmp_path):
    root = simple(tmp_path / "bugs", n=10)
    s = load(str(root), seed=5)
    assert s.train.name == "bugs"
    assert s.train.classes == ("ant", "bee")
    assert s.train.input.shape == (3, 6, 8)
    assert (len(s.train), len(s.test)) == (16, 4)
    assert "bugs: no test split found; 4 of 20 samples (20% of each class) were drawn as test with seed 5" in s.notes
    assert load(root, seed=5).train.content_hash == s.train.content_hash
    assert load(root, seed=6).train.content_hash != s.train.content_hash
    whole = load(root, test_fraction=0)
    assert whole.train.inputs[10:, 0, 0, 0].tolist() == [40] * 10
    assert whole.train.inputs[:10, 1, 0, 0].tolist() == [10 * i for i in range(10)]


def test_train_and_test_folders_with_nested_ones_and_other_files(tmp_path):
    simple(tmp_path / "train")
    simple(tmp_path / "test", n=2, content=encoded((1, 2, 3)))
    put(tmp_path / "train/ant/deep/er/9.PNG", encoded((255, 0, 0)))
    for junk in ("README.md", ".DS_Store", "._1.png", "Thumbs.db", ".hidden/2.png", "__MACOSX/3.png"):
        put(tmp_path / "train/ant" / junk, b"not a picture")
    put(tmp_path / "notes/x.png", encoded((0, 0, 0)))
    s = load(tmp_path, horizontal_flip=True)
    assert (len(s.train), len(s.test)) == (11, 4)
    assert s.train.labels.bincount().tolist() == [6, 5]
    assert s.notes == (
        f"{tmp_path.name}: not read: notes/",
        f"{tmp_path.name}: 1 files that are no pictures were not read",
        f"{tmp_path.name}: skipped as hidden or the system's own: .hidden/, Thumbs.db, __MACOSX/, hidden pictures",
    )
    assert s.test.normalization is s.train.normalization


@pytest.mark.parametrize("stream", [False, True])
def test_thumbnails_and_folders_of_systems_are_no_data(tmp_path, stream):
    """A copy from a network drive: its thumbnails doubled every picture, and its own folders became classes."""
    root = simple(tmp_path / "bugs", n=10)
    for junk in ("lost+found", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "#recycle"):
        put(root / junk / "1.png", encoded((1, 2, 3)))
    for kind in ("ant", "bee"):
        for i in range(10):
            put(root / kind / "@eaDir" / f"{i}.png" / "SYNOPHOTO_THUMB_M.png", encoded((1, 2, 3)))
        put(root / kind / ".thumbnails" / "1.png", encoded((1, 2, 3)))
        put(root / kind / "deep/__pycache__" / "x.png", encoded((1, 2, 3)))
    s = load(root, stream=stream)
    assert s.train.classes == ("ant", "bee")
    assert (len(s.train), len(s.test)) == (16, 4)
    assert [n for n in s.notes if "skipped" in n] == [
        "bugs: skipped as hidden or the system's own: #recycle/, $RECYCLE.BIN/, .thumbnails/ (2), @eaDir/ (3), "
        "System Volume Information/, …"
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_one_name_in_two_forms_of_unicode_is_one_class(tmp_path, stream):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    for i in range(4):
        put(tmp_path / "train" / "tea" / f"{i}.png", encoded((i, 0, 0)))
        put(tmp_path / "train" / (composed, decomposed)[i % 2] / f"{i}.png", encoded((i, 1, 0)))
        put(tmp_path / "test" / ("tea", decomposed)[i % 2] / f"{i}.png", encoded((i, 2, 0)))
    s = load(tmp_path, stream=stream)
    assert s.train.classes == (composed, "tea")
    assert s.train.labels.bincount().tolist() == [4, 4]
    assert s.test.labels.bincount().tolist() == [2, 2]
    assert (
        f"{tmp_path.name}: 2 folders of train/ are called 'café' in different forms of Unicode; they are read as "
        in ("".join(s.notes))
    )


def test_validation_stands_in_for_test(tmp_path):
    simple(tmp_path / "train")
    simple(tmp_path / "val", n=1)
    s = load(tmp_path, horizontal_flip=True)
    assert len(s.test) == 2
    assert "there is no test/, so val/ is the test split" in s.notes[0]


def test_a_class_may_be_called_train(tmp_path):
    s = load(simple(tmp_path, ("bus", "car", "train")))
    assert s.train.classes == ("bus", "car", "train")


def test_numbered_classes_sort_as_numbers(tmp_path):
    s = load(simple(tmp_path, [str(i) for i in range(11)], n=2))
    assert s.train.classes == tuple(str(i) for i in range(11))


def test_links_are_followed_and_circles_end(tmp_path):
    root = simple(tmp_path / "root")
    simple(tmp_path / "elsewhere", ("cat",))
    os.symlink(tmp_path / "elsewhere/cat", root / "cat")
    os.symlink(root / "ant", root / "ant/again")
    s = load(root, test_fraction=0)
    assert s.train.classes == ("ant", "bee", "cat")
    assert s.train.labels.bincount().tolist() == [5, 5, 5]


def one(tmp_path, content, name="x.png", **options):
    """The first picture of a folder that holds ``content`` beside a coloured picture of the same size."""
    put(tmp_path / "a" / name, content)
    put(tmp_path / "b/y.png", encoded((1, 2, 3)))
    s = load(tmp_path, test_fraction=0, horizontal_flip=True, **options)
    return s.train.inputs[0].permute(1, 2, 0), s.notes


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded((10, 20, 30)), (10, 20, 30)),
        (encoded(77, mode="L"), (77, 77, 77)),
        (encoded(1, mode="1"), (255, 255, 255)),
        (encoded((100, 0), mode="LA"), (255, 255, 255)),
        (encoded((200, 0, 0, 0), mode="RGBA"), (255, 255, 255)),
        (encoded((0, 0, 0, 51), mode="RGBA"), (204, 204, 204)),
        (encoded((9, 8, 7), transparency=(9, 8, 7)), (255, 255, 255)),
        (encoded(40 * 257, mode="I;16"), (40, 40, 40)),
        (encoded(65535, mode="I", form="TIFF"), (255, 255, 255)),
        (encoded(0.2, mode="F", form="TIFF"), (51, 51, 51)),
        (encoded((0, 255, 255, 0), mode="CMYK", form="TIFF"), (255, 0, 0)),
        (encoded((5, 6, 7), form="BMP"), (5, 6, 7)),
        (encoded((5, 6, 7), form="WEBP", lossless=True), (5, 6, 7)),
        (encoded((5, 6, 7), form="PPM"), (5, 6, 7)),
    ],
)
def test_modes(tmp_path, content, expected):
    x, _ = one(tmp_path, content)
    assert x.shape == (6, 8, 3)
    assert torch.equal(x, torch.tensor(expected, dtype=torch.uint8).expand(6, 8, 3))


def test_cmyk_jpeg(tmp_path):
    x, _ = one(tmp_path, encoded((0, 255, 255, 0), mode="CMYK", form="JPEG"), "x.jpg")
    assert (x.int() - torch.tensor([255, 0, 0])).abs().max() <= 3


def test_a_palette_with_transparency_is_put_on_white(tmp_path):
    image = Image.new("P", (8, 6), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((3, 2), 1)
    file = io.BytesIO()
    image.save(file, "GIF", transparency=0)
    x, notes = one(tmp_path, file.getvalue(), "x.gif")
    assert x[2, 3].tolist() == [40, 50, 60]
    assert x[0, 0].tolist() == [255, 255, 255]
    assert notes == (f"{tmp_path.name}: 1 pictures with transparency were put on white",)


ENDING = {
    "JPEG": "jpg", "PNG": "png", "PNG with XMP": "png", "PNG, the tag last": "png", "WEBP": "webp", "TIFF": "tiff",
}  # fmt: skip


def turned(shown, orientation, form):
    """A picture that is ``shown`` once it is turned as its tag says, as bytes."""
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: np.rot90(a, -1),
    }[orientation](shown)
    picture, file, exif = Image.fromarray(np.ascontiguousarray(stored)), io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    if form == "PNG with XMP":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", f'<x tiff:Orientation="{orientation}"/>')
        picture.save(file, "PNG", pnginfo=text)
        return file.getvalue()
    if form == "PNG, the tag last":
        picture.save(file, "PNG", exif=exif)
        chunks = chunks_of(file.getvalue())
        last = [c for c in chunks if c[4:8] == b"eXIf"]
        chunks = [c for c in chunks if c not in last]
        return b"".join([file.getvalue()[:8], *chunks[:-1], *last, chunks[-1]])
    more = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    picture.save(file, form, exif=exif, **more)
    return file.getvalue()


def chunks_of(png):
    at, found = 8, []
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        found.append(png[at:end])
        at = end
    return found


@pytest.mark.parametrize("form", list(ENDING))
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(tmp_path, orientation, form):
    shown = np.zeros((6, 8, 3), np.uint8)
    shown[:3, :4] = 250  # the bright corner is at the top left when shown as its tag says
    x, notes = one(tmp_path, turned(shown, orientation, form), f"x.{ENDING[form]}")
    assert x.shape == (6, 8, 3)
    assert notes == ()
    assert x[:2, :3].min() > 200
    assert x[:, 5:].max() < 50
    assert x[4:].max() < 50


@pytest.mark.parametrize("form", list(ENDING))
def test_every_reader_turns_a_picture_before_it_chooses_the_size(tmp_path, form):
    shown = np.zeros((16, 8, 3), np.uint8)
    shown[:4] = 250, 0, 0
    shown[12:] = 0, 0, 250
    content = turned(shown, 6, form)
    ending = ENDING[form]
    for name in ("ant", "bee"):
        for i in range(2):
            put(tmp_path / f"bugs/{name}/{i}.{ending}", content)
    with tarfile.open(tmp_path / "bugs.tar", "w") as tar:
        for i in range(4):
            for end, part in ((ending, content), ("cls", b"01"[i % 2 : i % 2 + 1])):
                member = tarfile.TarInfo(f"{i}.{end}")
                member.size = len(part)
                tar.addfile(member, io.BytesIO(part))
    rows = {"image": [content] * 4, "label": ["u", "v"] * 2}
    pq.write_table(pa.table(rows), tmp_path / "bugs.parquet")
    hugging = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    for data in (tmp_path / "bugs", tmp_path / "bugs.tar", tmp_path / "bugs.parquet", hugging):
        for stream in (False, True):
            x = load(data, test_fraction=0, stream=stream).train.raw(torch.arange(4))
            assert x.shape == (4, 3, 16, 8)
            assert x[:, 0, :3].min() > 0.8
            assert x[:, 2, 13:].min() > 0.8
            assert x[:, :, 6:10].max() < 0.2


def test_grey_folders_have_one_channel_even_if_stored_as_colour(tmp_path):
    simple(tmp_path, content=encoded((90, 90, 90)))
    put(tmp_path / "ant/16.png", encoded(90 * 257, mode="I;16"))
    assert load(tmp_path).train.input.shape == (1, 6, 8)
    put(tmp_path / "bee/colour.png", encoded((90, 90, 91)))
    assert load(tmp_path).train.input.shape == (3, 6, 8)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 20), (28, 20)], (20, 28)),
        ([(200, 300), (200, 300)], (64, 64)),
        ([(40, 50), (60, 33)], (32, 32)),
        ([(500, 70), (90, 900)], (64, 64)),
        ([(5, 9), (9, 5)], (8, 8)),
        ([(17, 20), (100, 100), (16, 16)], (16, 16)),
    ],
)
def test_the_common_size(tmp_path, sizes, expected):
    for i, size in enumerate(sizes):
        put(tmp_path / f"class{i}" / "x.png", noise(size, "PNG", i))
    s = load(tmp_path, test_fraction=0)
    assert s.train.input.shape == (3, *expected)
    assert any("resized to" in n for n in s.notes) == (len(set(sizes)) > 1 or max(sizes[0]) > 128)


def test_resizing_keeps_the_aspect_and_cuts_the_middle(tmp_path):
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 15:25] = (255, 0, 0)
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    x, _ = one(tmp_path, file.getvalue(), size=5)
    assert x.shape == (5, 5, 3)
    assert x[2, 2].tolist() == [255, 0, 0]
    put(tmp_path / "a/x.png", file.getvalue())
    assert load(tmp_path, size=(5, 20), test_fraction=0).train.input.shape == (3, 5, 20)


def test_a_large_photograph_reads_like_its_reduction(tmp_path):
    ramp = np.linspace(0, 255, 1600).astype(np.uint8)
    photo = np.stack([np.broadcast_to(ramp, (1200, 1600))] * 3, -1)
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=95)
    x, _ = one(tmp_path, file.getvalue(), "x.jpg", size=30)
    middle = ramp[200:1400].reshape(30, -1).mean(1)
    assert np.abs(x[15, :, 0].numpy() - middle).max() < 4


BROKEN = {
    "truncated.jpg": (noise()[:700], r"not an image \(truncated after 700 bytes\)"),
    "truncated.png": (noise(form="PNG")[:900], r"not an image \(truncated after 900 bytes\)"),
    "text.png": (b"this is no picture", r"not an image \(none of its 18 bytes make a known format\)"),
    "empty.jpg": (b"", r"not an image \(the file is empty\)"),
    "header.gif": (b"GIF89a\x08\0\x06\0\x80\0\0", "not an image"),
    "negative.tif": (encoded(-3.0, mode="F", form="TIFF"), r"its grey values go from -3 to -3; they must lie in 0 … 1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_is_named_or_left_out(tmp_path, name):
    content, reason = BROKEN[name]
    root = simple(tmp_path / "photos")
    put(root / "bee" / name, content)
    with pytest.raises(
        PotstillError, match=rf"photos/bee/{name}: {reason}.*; `skip_bad=True` leaves such files out$"
    ) as caught:
        load(root)
    assert "\n" not in str(caught.value)
    s = load(root, skip_bad=True, test_fraction=0)
    assert s.train.labels.bincount().tolist() == [5, 5]
    assert s.train.input.shape == (3, 6, 8), "the broken file has no say in the size"
    assert "1 damaged pictures left out" in s.notes[0]
    assert name in s.notes[0]


def test_the_message_of_the_design(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    simple(tmp_path / "photos", ("cat", "dog"), content=noise())
    put(tmp_path / "photos/cat/17.jpg", noise((90, 60))[:2113])
    with pytest.raises(PotstillError) as caught:
        load("photos/")
    assert str(caught.value) == (
        "photos/cat/17.jpg: not an image (truncated after 2,113 bytes); `skip_bad=True` leaves such files out"
    )


def test_decompression_bombs_are_refused_per_file(tmp_path, monkeypatch):
    root = simple(tmp_path)
    put(root / "ant/bomb.png", encoded((1, 2, 3), size=(400, 300)))
    for limit in (None, 100_000, 50_000):  # Pillow itself: silent, warns, raises
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with limited(pixels=100_000):
            with pytest.raises(
                PotstillError, match=r"bomb\.png: refused, it unpacks to more than 100,000 pixels; limit pixels is"
            ):
                load(root)
            assert len(load(root, skip_bad=True, test_fraction=0).train) == 10
        with limited(pixels=120_000):
            assert len(load(root, test_fraction=0).train) == 11
        assert limit == Image.MAX_IMAGE_PIXELS


def test_all_broken_is_an_error_even_when_skipping(tmp_path):
    simple(tmp_path, content=b"junk")
    with pytest.raises(PotstillError, match="none of 10 pictures can be read, the first is"):
        load(tmp_path, skip_bad=True)
    put(tmp_path / "bee/good.png", encoded((1, 2, 3)))
    with pytest.raises(PotstillError, match="class 'ant' has no samples in the training split"):
        load(tmp_path, skip_bad=True)


def test_layout_errors(tmp_path):
    def refuse(root, message):
        with pytest.raises(PotstillError, match=message) as caught:
            load(root)
        assert "\n" not in str(caught.value)

    empty = tmp_path / "empty"
    empty.mkdir()
    refuse(empty, "empty: there are no class folders and no pictures; put each picture in a folder named after")
    put(tmp_path / "loose/x.png", encoded(1, mode="L"))
    refuse(tmp_path / "loose", "loose: there are 1 pictures, but no class folders; put each")
    refuse(simple(tmp_path / "single", ("ant",)), "there is one class folder, ant/; at least two are needed")
    hollow = simple(tmp_path / "hollow")
    put(hollow / "cow/readme.txt", b"")
    refuse(hollow, "hollow/cow: this class folder has no pictures; add some or remove the folder")
    simple(tmp_path / "more/train")
    simple(tmp_path / "more/test", ("ant", "wasp"))
    refuse(tmp_path / "more", "more/test/wasp: train/ has no class 'wasp' \\(it has ant, bee\\)")
    simple(tmp_path / "half/test")
    refuse(tmp_path / "half", "half: holds test/ but no train/")
    simple(tmp_path / "bare/train")
    (tmp_path / "bare/test").mkdir()
    refuse(tmp_path / "bare", "bare/test: there are no class folders")
    refuse(tmp_path / "nowhere", "nowhere: no such file or folder")


def test_test_classes_may_be_fewer(tmp_path):
    simple(tmp_path / "train")
    simple(tmp_path / "test", ("bee",))
    s = load(tmp_path, horizontal_flip=True)
    assert s.test.labels.unique().tolist() == [1]
    assert "1 of 2 classes have no test samples" in s.notes[0]


def test_unbalanced_classes(tmp_path):
    simple(tmp_path, ("ant",), n=30)
    simple(tmp_path, ("bee",), n=2)
    s = load(tmp_path, horizontal_flip=True)
    assert s.train.labels.bincount().tolist() == [24, 1]
    assert s.test.labels.bincount().tolist() == [6, 1]
