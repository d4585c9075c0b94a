"""Results on disk become entries: what belongs together, and what is refused."""

import json
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_samples import card, estimate, scorecard
from safetensors.numpy import load_file, save_file

from potstill import reports
from potstill.errors import PotstillError
from potstill.reports import Entry, Gallery, render


def collect(paths: Sequence[Path]) -> list[Entry]:
    return reports.collect(paths, load_file)


def read_set(path: Path) -> tuple[Mapping[str, Any], Gallery | None]:
    return reports.read_set(path, load_file)


def save(path: Path, g: Gallery, held: Mapping[str, Any] | None = None, **more: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"inputs": g.inputs, "labels": np.asarray(g.labels), **more}
    save_file(tensors, path, metadata={"card": json.dumps(held or card())})
    return path


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_a_set_and_its_scorecard(tmp_path: Path, digits: Gallery) -> None:
    path = save(tmp_path / "digits.safetensors", digits)
    write(tmp_path / "digits.scorecard.json", scorecard())
    beside = tmp_path / "digits.scorecard.json"
    for given in ([tmp_path], [path], [path, beside], [beside, path]):
        (entry,) = collect(given)
        assert entry.name == "digits"
        assert entry.card == card()
        assert entry.scorecard == scorecard()
        assert entry.gallery is not None
        np.testing.assert_array_equal(entry.gallery.inputs, digits.inputs)
        np.testing.assert_array_equal(entry.gallery.labels, digits.labels)
        assert entry.gallery.sizes == (10,) * 10
        assert not entry.gallery.real


def test_a_selection_says_that_its_samples_are_real(tmp_path: Path, digits: Gallery) -> None:
    path = save(tmp_path / "r.safetensors", digits, card(method="random"), index=np.arange(100))
    assert "100 pictures chosen from the 4,000 of mnist-5k." in render(collect([path]), title="t", command="c")


def test_weights_are_shown_over_the_mean_of_the_whole_set(tmp_path: Path, digits: Gallery) -> None:
    n = len(digits.inputs)
    weights = np.arange(1, n + 1, dtype=np.float32)
    save_file(
        {"inputs": digits.inputs, "labels": digits.labels, "weights": weights}, tmp_path / "w.safetensors",
        {"card": json.dumps(card())},
    )  # fmt: skip
    (entry,) = collect([tmp_path / "w.safetensors"])
    assert entry.gallery is not None
    assert entry.gallery.weights is not None
    np.testing.assert_allclose(entry.gallery.weights, weights / weights.mean())
    html = render([entry], title="t", command="c")
    assert f"×{weights[0] / weights.mean():.3g}</small>" in html
    assert html.count('class="weighed"') == n
    assert "The numbers are weights" in html
    rows = replace(entry.gallery, inputs=digits.inputs.reshape(n, -1)[:, :6])
    table = render([replace(entry, gallery=rows)], title="t", command="c")
    assert "weight</bdi>" in table
    assert f"×{weights[0] / weights.mean():.3g}</td>" in table
    plain = render([replace(entry, gallery=replace(entry.gallery, weights=None))], title="t", command="c")
    assert "weighed" not in plain.split("</style>")[1]
    for bad in (-weights, weights[:-1], weights * np.nan):
        save_file(
            {"inputs": digits.inputs, "labels": digits.labels, "weights": bad},
            tmp_path / "w.safetensors",
            {"card": json.dumps(card())},
        )
        with pytest.raises(PotstillError, match="weights must be one number ≥ 0 for each input"):
            collect([tmp_path / "w.safetensors"])


def test_only_what_is_shown_is_read_and_the_rest_is_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(2), [300, 40]))
    inputs = rng.random((340, 1, 4, 4), dtype=np.float32)
    rows = np.eye(2, dtype=np.float32)[labels]
    held = Gallery(inputs=inputs, labels=rows, classes=("a", "b"))
    (entry,) = collect([save(tmp_path / "s.safetensors", held, card(classes=["a", "b"]))])
    assert entry.gallery is not None
    assert entry.gallery.sizes == (300, 40)
    assert entry.items == 340
    assert len(entry.gallery.inputs) == 24
    np.testing.assert_array_equal(entry.gallery.inputs[:12], inputs[np.flatnonzero(labels == 0)[:12]])
    np.testing.assert_array_equal(entry.gallery.inputs[12:], inputs[np.flatnonzero(labels == 1)[:12]])


def test_half_precision_and_other_shapes(tmp_path: Path, digits: Gallery) -> None:
    half = Gallery(inputs=digits.inputs.astype(np.float16), labels=digits.labels, classes=digits.classes)
    _, gallery = read_set(save(tmp_path / "half.safetensors", half))
    assert gallery is not None
    assert gallery.inputs.dtype == np.float32
    series = Gallery(inputs=np.zeros((2, 3, 50), dtype=np.float32), labels=np.array([0, 1]), classes=("a", "b"))
    described = card(classes=["a", "b"], input={"kind": "series", "shape": [3, 50], "units": ""})
    _, gallery = read_set(save(tmp_path / "series.safetensors", series, described))
    assert gallery is None


def test_scorecards_find_their_sets(tmp_path: Path, digits: Gallery) -> None:
    save(tmp_path / "one.safetensors", digits, card(method="dm"))
    save(tmp_path / "two.safetensors", digits, card(method="dsa", ipc=10))
    write(tmp_path / "a-scorecard.json", scorecard(0.81) | {"file": "two.safetensors"})
    write(tmp_path / "b-scorecard.json", scorecard(0.82) | {"method": "dm", "ipc": 10})
    write(tmp_path / "c-scorecard.json", scorecard(0.83) | {"method": "kip"})
    found = {entry.name: (entry.scorecard or {})["accuracy"]["mean"] for entry in collect([tmp_path])}
    assert found == {"one": 0.82, "two": 0.81, "c-scorecard": 0.83}


def test_the_only_scorecard_belongs_to_the_only_set_of_its_folder(tmp_path: Path, digits: Gallery) -> None:
    for name, mean in (("a", 0.7), ("b", 0.8)):
        save(tmp_path / name / "small.safetensors", digits)
        write(tmp_path / name / "scorecard.json", scorecard(mean))
    assert [(e.scorecard or {})["accuracy"]["mean"] for e in collect([tmp_path])] == [0.7, 0.8]


def test_one_set_measured_twice_is_two_entries(tmp_path: Path, digits: Gallery) -> None:
    save(tmp_path / "s.safetensors", digits)
    write(tmp_path / "s.scorecard.json", scorecard())
    write(tmp_path / "dc-scorecard.json", scorecard(0.85, protocol="dc") | {"file": "s.safetensors"})
    names = [entry.name for entry in collect([tmp_path])]
    assert names == [
        "s · dc · convnet-d3-w128-instance-avg",
        "s · potstill · convnet-d3-w128-instance-avg",
    ]


def comparison(folder: Path, digits: Gallery) -> Path:
    """What compare leaves: sets, scorecards without baselines, and the leaderboard with measured differences."""
    rows: list[dict[str, Any]] = []
    for method, mean in (("dm", 0.8731), ("random", 0.7924)):
        score = scorecard(mean, baselines={}) | {"settings": {"method": method}}
        save(folder / f"{method}-ipc10.safetensors", digits, card(method=method))
        write(folder / f"{method}-ipc10.scorecard.json", score)
        rows.append({"method": method, "ipc": 10, "file": f"{method}-ipc10.safetensors", "scorecard": score})
    rows[0]["difference"] = {"mean": 0.0807, "ci95": [0.0701, 0.0913]}
    rows.append({"method": "dc", "ipc": 10, "error": "method dc works on image data"})
    return write(folder / "leaderboard.json", {"source": "mnist-5k", "protocol": "potstill", "rows": rows})


def test_a_comparison_gives_each_method_random_as_its_baseline(tmp_path: Path, digits: Gallery) -> None:
    comparison(tmp_path, digits)
    entries = {entry.name: entry for entry in collect([tmp_path])}
    assert set(entries) == {"dm-ipc10", "random-ipc10", "dc-10"}
    gap = entries["dm-ipc10"].gap("random-items")
    assert gap is not None
    assert (gap.mean, gap.low, gap.high) == (0.0807, 0.0701, 0.0913)
    assert set(entries["dm-ipc10"].baselines) == {"random-items"}  # of as many samples, not of as few bytes
    assert entries["dm-ipc10"].baselines["random-items"].mean == 0.7924
    assert entries["random-ipc10"].baselines == {}
    assert entries["dc-10"].outcome == ("failed", "method dc works on image data")
    assert all(entry.source == "mnist-5k" for entry in entries.values())
    html = render(list(entries.values()), title="t", command="c")
    assert "[+7.0 to +9.1]" in html
    assert "as many real samples, at their own bytes" in html


def test_a_leaderboard_alone_is_enough(tmp_path: Path, digits: Gallery) -> None:
    path = comparison(tmp_path, digits)
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    assert [entry.name for entry in collect([path])] == ["dm-10", "random-10", "dc-10"]


def test_other_files_of_a_folder_are_passed_over(tmp_path: Path, digits: Gallery) -> None:
    save(tmp_path / "s.safetensors", digits)
    save_file({"weight": np.zeros(3, dtype=np.float32)}, tmp_path / "network.safetensors")
    write(tmp_path / "settings.json", {"lr": 1})
    write(tmp_path / ".hidden.scorecard.json", 3)
    assert [entry.name for entry in collect([tmp_path])] == ["s"]
    with pytest.raises(PotstillError, match="holds no metadata"):
        collect([tmp_path / "network.safetensors"])
    with pytest.raises(PotstillError, match="neither a scorecard"):
        collect([tmp_path / "settings.json"])


def damaged(path: Path, how: str, digits: Gallery) -> None:
    """Write a file to ``path`` that is wrong in the way that ``how`` names."""
    whole = save(path, digits).read_bytes()
    tensors = {"inputs": digits.inputs, "labels": digits.labels}
    metadata = {"card": json.dumps(card())}
    if how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "text":
        path.write_text("not a set\n")
    elif how == "a header that lies":
        path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    elif how == "too few labels":
        save_file(tensors | {"labels": digits.labels[:7]}, path, metadata=metadata)
    elif how == "labels of no class":
        save_file(tensors | {"labels": digits.labels + 5}, path, metadata=metadata)
    elif how == "newer":
        save(path, digits, card(format="potstill/99"))
    elif how == "no labels":
        save_file({"inputs": digits.inputs}, path, metadata=metadata)
    elif how == "card cut":
        save_file(tensors, path, metadata={"card": "{"})
    elif how == "missing":
        path.unlink()
    elif how == "percent":
        write(path, scorecard(87.31))
    elif how == "no mean":
        write(path, {"accuracy": {"mean": None}})
    else:
        path.write_bytes(b"{\xff\n\n")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cut", "or cut short"),
        ("text", "not a safetensors file"),
        ("a header that lies", "not a safetensors file"),
        ("too few labels", "(7,) labels"),
        ("labels of no class", "outside its 10 classes"),
        ("newer", "its format is 'potstill/99'"),
        ("no labels", "labels"),
        ("card cut", "its metadata is not valid JSON"),
        ("missing", "no such file"),
        ("percent", "an accuracy must be a fraction in [0,1], but one is 87.31"),
        ("no mean", "has no mean"),
        ("bytes that are no JSON", "not valid JSON"),
    ],
)
def test_what_is_damaged_is_refused_in_one_line(tmp_path: Path, digits: Gallery, how: str, said: str) -> None:
    path = tmp_path / (
        "s.scorecard.json" if how in ("percent", "no mean", "bytes that are no JSON") else "s.safetensors"
    )
    damaged(path, how, digits)
    with pytest.raises(PotstillError) as caught:
        collect([path])
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match="no leaderboard"):
        collect([tmp_path])


def test_no_module_of_reports_needs_torch() -> None:
    """With torch made impossible to import, every module of reports still loads."""
    code = (
        "import sys, types, importlib, importlib.util; sys.modules['torch'] = None;"
        "spec = importlib.util.find_spec('potstill');"
        "root = types.ModuleType('potstill'); root.__path__ = list(spec.submodule_search_locations);"
        "sys.modules['potstill'] = root;"
        "[importlib.import_module('potstill.reports.' + m) for m in ('collect', 'page')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_estimate_of_one_run_has_no_interval(tmp_path: Path) -> None:
    path = write(tmp_path / "s.scorecard.json", scorecard(n=1, accuracy={"mean": 0.5, "std": 0.0, "ci95": [0.5, 0.5]}))
    (entry,) = collect([path])
    assert entry.score is not None
    assert entry.score.low is None
    assert estimate(0.5, 0.1)["n"] == 5


@pytest.mark.parametrize("row", ['{"method": "dm", "ipc": {"a": 2}}', '{"method": [1], "ipc": 1}', "1", "[1]"])
def test_a_leaderboard_whose_rows_are_of_other_kinds_is_refused(tmp_path: Path, row: str) -> None:
    board = tmp_path / "leaderboard.json"
    board.write_text(f'{{"rows": [{row}]}}')
    with pytest.raises(PotstillError, match="neither a scorecard"):
        collect([board])
