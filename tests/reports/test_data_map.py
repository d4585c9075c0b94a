"""The data map: every region is drawn, many samples are thinned, and no name becomes markup."""

from xml.etree import ElementTree

from potstill.reports.data_map import MapPoint, draw_data_map

SVG = "{http://www.w3.org/2000/svg}"


def point(n: int, region: str, label: str = "cat: 1") -> MapPoint:
    return MapPoint(variability=n % 5 / 10, confidence=n % 7 / 7, region=region, label=label)


def marks(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [g for g in root.iter(f"{SVG}g") if g.get("class", "").endswith("mark")]


def test_regions_have_their_own_marks_and_counts() -> None:
    points = [point(n, ("easy", "ambiguous", "hard")[n % 3]) for n in range(31)]
    root = ElementTree.fromstring(draw_data_map(points, "digits"))
    assert len(marks(root)) == 31
    shapes = {g.get("class"): g.find(f"{SVG}path").get("d", "")[-4:] for g in marks(root)}  # type: ignore[union-attr]
    assert len(set(shapes.values())) == 3
    words = [t.text for t in root.iter(f"{SVG}text")]
    assert {"easy: 11", "ambiguous: 10", "hard: 10", "Data map of digits: 31 samples"} <= set(words)


def test_class_names_are_escaped() -> None:
    nasty = '<script>alert("x")</script>'
    text = draw_data_map([point(1, "easy", nasty), point(2, "hard", nasty)], nasty)
    assert "<script" not in text
    root = ElementTree.fromstring(text)
    assert [g.find(f"{SVG}title").text for g in marks(root)] == [nasty, nasty]  # type: ignore[union-attr]


def test_many_samples_are_thinned_evenly_and_it_is_said() -> None:
    points = [point(n, "easy") for n in range(9000)]
    text = draw_data_map(points, "many")
    root = ElementTree.fromstring(text)
    assert len(marks(root)) == 3000
    assert "9,000 samples, 3,000 of them drawn" in text
    assert "easy: 9,000" in text


def test_positions_follow_the_coordinates() -> None:
    text = draw_data_map([MapPoint(variability=0.0, confidence=1.0, region="hard", label="a")], "one")
    assert 'd="M57.0 57.0h6v6h-6z"' in text  # the corner of no spread and full confidence, 60, 60
