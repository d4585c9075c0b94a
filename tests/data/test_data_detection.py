"""Annotations of boxes: COCO and VOC, the same boxes from both, and what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from potstill.active import select_images
from potstill.active.detection import box_crops
from potstill.cli.main import main
from potstill.data.detection import load_detection, read_picture
from potstill.errors import PotstillError

BOXES = {0: [("cat", 2, 3, 8, 9)], 1: [("dog", 0, 0, 5, 4), ("cat", 10, 10, 20, 16)], 2: []}


def write_pictures(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in BOXES:
        Image.fromarray((rng.random((16, 20, 3)) * 255).astype(np.uint8)).save(folder / f"{i}.png")


def coco():
    ids = {"cat": 7, "dog": 90}
    return {
        "images": [{"id": 100 + i, "file_name": f"{i}.png", "height": 16, "width": 20, "licence": 3} for i in BOXES],
        "annotations": [
            {"id": n, "image_id": 100 + i, "category_id": ids[c], "bbox": [x, y, r - x, b - y], "segmentation": [n]}
            for n, (i, (c, x, y, r, b)) in enumerate((i, box) for i, boxes in BOXES.items() for box in boxes)
        ],
        "categories": [{"id": i, "name": c} for c, i in ids.items()],
    }


def voc(i, boxes, head=""):
    objects = "".join(
        f"<object><name>{c}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{r}</xmax><ymax>{b}</ymax>"
        "</bndbox></object>"
        for c, x, y, r, b in boxes
    )
    size = "<size><width>20</width><height>16</height><depth>3</depth></size>"
    return f"{head}<annotation><filename>{i}.png</filename>{size}{objects}</annotation>"


@pytest.fixture
def both(tmp_path):
    write_pictures(tmp_path / "coco")
    (tmp_path / "coco" / "boxes.json").write_text(json.dumps(coco()))
    write_pictures(tmp_path / "voc" / "JPEGImages")
    (tmp_path / "voc" / "Annotations").mkdir()
    for i, boxes in BOXES.items():
        (tmp_path / "voc" / "Annotations" / f"{i}.xml").write_text(voc(i, boxes))
    return tmp_path / "coco" / "boxes.json", tmp_path / "voc"


def test_both_formats_give_the_same_boxes(both):
    a, b = map(load_detection, both)
    assert a.classes == b.classes == ("cat", "dog")
    for i, boxes in BOXES.items():
        expected = torch.tensor([box[1:] for box in boxes], dtype=torch.float64).reshape(-1, 4)
        for data in (a, b):
            assert torch.equal(data.images[i].boxes, expected)
            assert [data.classes[y] for y in data.images[i].labels] == [box[0] for box in boxes]
            assert read_picture(data.images[i]).shape == (3, 16, 20)


def test_the_hash_knows_boxes_and_pixels(both):
    first = load_detection(both[0]).content_hash
    assert load_detection(both[0]).content_hash == first
    changed = coco()
    changed["annotations"][0]["bbox"][0] += 1
    both[0].write_text(json.dumps(changed))
    second = load_detection(both[0]).content_hash
    Image.new("RGB", (20, 16)).save(both[0].parent / "0.png")
    assert len({first, second, load_detection(both[0]).content_hash}) == 3


def test_crops_are_what_is_in_the_boxes(both):
    image = load_detection(both[0]).images[1]
    picture = read_picture(image)
    crops = box_crops(picture, image, 4)
    assert crops.shape == (2, 3, 4, 4)
    x = picture[None, :, 0:4, 0:5]
    assert torch.equal(crops[0], torch.nn.functional.interpolate(x, (4, 4), mode="bilinear", antialias=True)[0])


@pytest.mark.parametrize("which", [0, 1])
def test_the_command_writes_a_subset_that_is_read_back(both, tmp_path, which, capsys):
    out = both[0].parent / "subset.json"
    words = ["select-detection", str(both[which]), "--n", "1", "--crop", "3", "--out", str(out), "--json", "--quiet"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    whole = load_detection(both[which])
    (chosen,) = select_images(whole, 1, size=3).tolist()
    assert said["index"] == [chosen]
    assert said["source"]["hash"] == whole.content_hash
    subset = load_detection(out)
    assert subset.classes == whole.classes
    assert torch.equal(subset.images[0].boxes, whole.images[chosen].boxes)
    assert torch.equal(subset.images[0].labels, whole.images[chosen].labels)
    if which == 0:  # what potstill does not read is kept
        kept = json.loads(out.read_text())
        assert kept["images"][0]["licence"] == 3
        assert all("segmentation" in a for a in kept["annotations"])


def test_images_without_boxes_are_never_chosen_and_too_many_are_refused(both):
    data = load_detection(both[0])
    assert sorted(select_images(data, 2).tolist()) == [0, 1]
    with pytest.raises(PotstillError, match="1 to 2 images with boxes"):
        select_images(data, 3)


def change(path, value):
    def made():
        raw = coco()
        at = raw
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        return json.dumps(raw)

    return made


@pytest.mark.parametrize(
    "content",
    [
        lambda: "[" * 100_000,
        lambda: "{",
        lambda: "[]",
        lambda: '{"images": [], "annotations": [], "categories": []}',
        change(["images"], [3]),
        change(["images", 0, "file_name"], "../../etc/passwd"),
        change(["images", 0, "file_name"], "/etc/passwd"),
        change(["images", 0, "id"], 101),
        change(["images", 0, "id"], [1]),
        change(["images", 0, "height"], 0),
        change(["annotations", 0, "image_id"], 5),
        change(["annotations", 0, "image_id"], [5]),
        change(["annotations", 0, "category_id"], 5),
        change(["annotations", 0, "bbox"], [1, 2, 3]),
        change(["annotations", 0, "bbox"], [1, 2, -3, 4]),
        change(["annotations", 0, "bbox"], [1, 2, float("nan"), 4]),
        change(["categories", 0, "name"], None),
        change(["categories", 0, "id"], 90),
    ],
)
def test_malformed_json_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.json").write_text(content())
    with pytest.raises(PotstillError) as refused:
        load_detection(tmp_path / "a.json")
    assert "\n" not in str(refused.value)
    assert "a.json" in str(refused.value)


LAUGHS = '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;&b;">]>'


@pytest.mark.parametrize(
    "content",
    [
        lambda: "no xml",
        lambda: voc(0, BOXES[0], LAUGHS),
        lambda: '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        lambda: voc(0, BOXES[0], LAUGHS).encode("utf-16"),
        lambda: voc("../0", BOXES[0]),
        lambda: voc(0, BOXES[0]).replace("<xmin>3</xmin>", "<xmin>nan</xmin>"),
        lambda: voc(0, BOXES[0]).replace("<xmin>3</xmin>", ""),
        lambda: voc(0, BOXES[0]).replace("<xmin>3</xmin>", "<xmin>30</xmin>"),
        lambda: voc(0, BOXES[0]).replace("<width>20</width>", "<width>wide</width>"),
        lambda: '<?xml version="1.0" encoding="no-such"?>' + voc(0, BOXES[0]),
    ],
)
def test_malformed_and_malicious_xml_is_refused_in_one_line(tmp_path, content):
    made = content()
    (tmp_path / "0.xml").write_bytes(made if isinstance(made, bytes) else made.encode())
    with pytest.raises(PotstillError) as refused:
        load_detection(tmp_path)
    assert "\n" not in str(refused.value)


def test_pictures_that_do_not_fit_are_refused(both):
    Image.new("RGB", (5, 5)).save(both[0].parent / "0.png")
    with pytest.raises(PotstillError, match="is 5 × 5"):
        select_images(load_detection(both[0]), 1)
    (both[0].parent / "0.png").unlink()
    with pytest.raises(PotstillError, match="not an image"):
        select_images(load_detection(both[0]), 1)
    with pytest.raises(PotstillError, match="no such file or folder"):
        load_detection(both[0].parent / "none.json")
