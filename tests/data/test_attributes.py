"""An attribute of each sample is read in every form, lies on both sides of a split, and goes with its samples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from picture_files import encoded, put

import potstill
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import SourceView, TensorSource, holdout, load
from potstill.data.attributes import get_attribute
from potstill.data.biased import COLOURS, cmnist_dd
from potstill.data.read_options import check_read_options, merge_read_options
from potstill.errors import PotstillError


def rows() -> pd.DataFrame:
    """Return 80 rows whose column a tells the sex: 1 for f, 2 for m."""
    rng = np.random.default_rng(0)
    sex = np.array(["f", "m"])[rng.integers(0, 2, 80)]
    return pd.DataFrame(
        {"a": np.where(sex == "f", 1.0, 2.0), "b": rng.normal(size=80), "sex": sex, "label": ["x", "y"] * 40}
    )


def photos(root: Path, parts: tuple[str, ...] = ("",)) -> Path:
    """CLASS/SITE/FILE.png, where the level of red is the site's number times 100."""
    for part in parts:
        for k, kind in enumerate(("cat", "dog")):
            for site in range(2):
                for n in range(10):
                    put(root / part / kind / f"site{site}" / f"{n}.png", encoded((100 * site, 50 * k, n)))
    return root


def arrays() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    frame = rows()
    return frame[["a", "b"]].to_numpy(), (frame.label == "y").to_numpy().astype(int), frame.sex.to_numpy().astype(str)


def frame(tmp: Path) -> Splits:
    return load(rows(), attribute="sex")


def csv(tmp: Path) -> Splits:
    rows().to_csv(tmp / "x.csv", index=False)
    return load(tmp / "x.csv", attribute="sex:excluded")


def npz(tmp: Path) -> Splits:
    x, y, sex = arrays()
    np.savez(tmp / "x.npz", x=x, y=y, sex=sex)
    return load(tmp / "x.npz", attribute="sex")


def npz_with_test(tmp: Path) -> Splits:
    x, y, sex = arrays()
    given = {"x_train": x[:60], "y_train": y[:60], "x_test": x[60:], "y_test": y[60:]}
    np.savez(tmp / "y.npz", **given, sex=sex[:60], sex_test=sex[60:])
    return load(tmp / "y.npz", attribute="sex")


def array(tmp: Path) -> Splits:
    x, y, sex = arrays()
    return load((x, y), attribute=sex)


def source(tmp: Path) -> Splits:
    x, y, sex = arrays()
    return load(load((x, y), attribute=sex, test_fraction=0).train)


@pytest.mark.parametrize("form", [frame, csv, npz, npz_with_test, array, source], ids=lambda f: f.__name__)
def test_each_sample_has_its_own_attribute_on_both_sides(form: Callable[[Path], Splits], tmp_path: Path) -> None:
    splits = form(tmp_path)
    assert splits.test is not None
    for part in (splits.train, splits.test, *holdout(splits.train, 0.25, 3)):
        attribute = get_attribute(part)
        assert attribute is not None
        assert attribute.values == ("f", "m")
        assert set(attribute.codes.tolist()) == {0, 1}
        a = part.raw(torch.arange(len(part)))[:, 0]  # type: ignore[call-overload]
        assert torch.equal(a > a.mean(), attribute.codes == 1)
    at = torch.tensor([5, 0, 5])
    codes = get_attribute(splits.train).codes  # type: ignore[union-attr]
    assert torch.equal(splits.train.fetch(at).columns["attribute"], codes[at])
    view = SourceView.of(splits.train, splits.train.normalization).subset(at)
    assert torch.equal(get_attribute(view).codes, codes[at])  # type: ignore[union-attr]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("rule", ["parent", r"site(\d)"])
def test_files_have_theirs_by_folder_or_expression(stream: bool, rule: str, tmp_path: Path) -> None:
    splits = load(photos(tmp_path, ("train", "test")), attribute=rule, stream=stream)
    assert splits.test is not None
    for part in (splits.train, splits.test, holdout(splits.train, 0.5, 0)[1]):
        attribute = get_attribute(part)
        assert attribute is not None
        assert attribute.values == (("site0", "site1") if rule == "parent" else ("0", "1"))
        assert torch.equal(part.raw(torch.arange(len(part)))[:, 0, 0, 0] > 0.2, attribute.codes == 1)  # type: ignore[call-overload]


def test_a_column_stays_an_input_unless_it_is_excluded() -> None:
    inside, outside = load(rows(), attribute="sex"), load(rows(), attribute="sex:excluded")
    assert inside.train.content_hash == load(rows()).train.content_hash
    assert {c for c in inside.train.input.columns if c.startswith("sex")}
    assert not {c for c in outside.train.input.columns if c.startswith("sex")}
    assert any("`attribute=sex:excluded` leaves it out" in note for note in inside.notes)
    assert any("'sex' is the attribute and no input" in note for note in outside.notes)


def test_rows_that_are_dropped_take_their_attribute_along() -> None:
    table = rows()
    table.loc[::5, "b"] = np.nan
    splits = load(table, attribute="sex", missing="drop", test_fraction=0)
    assert len(splits.train) == 64
    assert torch.equal(
        splits.train.raw(torch.arange(64))[:, 0] == 2,  # type: ignore[call-overload]
        get_attribute(splits.train).codes == 1,  # type: ignore[union-attr]
    )


def hole(value: object) -> pd.DataFrame:
    table = rows().astype({"sex": object})
    table.loc[2, "sex"] = value
    return table


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (hole(None), {"attribute": "sex"}, "row 3, column 'sex' is empty, so its attribute is not known"),
        (hole(" "), {"attribute": "sex", "missing": "impute"}, "row 3, column 'sex' is empty"),
        (rows(), {"attribute": "hospital"}, "there is no column 'hospital' to take as attribute; it has a, b"),
        (rows(), {"attribute": "label"}, "column 'label' is the label, and cannot be the attribute"),
        (rows(), {"attribute": "sex", "group": "sex"}, "is the group, which a split keeps on one side, and cannot be"),
        (arrays()[:2], {"attribute": ["f"] * 3}, "3 attributes but 80 samples; give one attribute for each sample"),
        (arrays()[:2], {"attribute": [None] * 80}, "the attribute of sample 0 is missing; give each sample one"),
        (arrays()[:2], {"attribute": [*"m" * 79, ""]}, "the attribute of sample 79 is missing"),
        (dict(zip("xy", arrays(), strict=False)), {"attribute": "z"}, "there is no array 'z' to take as attribute"),
        ("digits", {"attribute": "parent"}, "digits has no column and no files that say an attribute; leave"),
        (rows(), {"attribute": "sex", "task": "regression", "label": "b"}, "an attribute is read of tables,"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_one_line(data: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(PotstillError) as caught:
        load(data, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_without_an_attribute_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match=r"`attribute=` '\(hospital' is not a regular expression"):
        load(photos(tmp_path), attribute="(hospital")
    with pytest.raises(PotstillError, match=r"`attribute=` 'site0' finds no attribute in .*20 of 40 files"):
        load(tmp_path, attribute="site0")


def test_a_source_with_another_number_of_attributes_is_refused() -> None:
    attribute = get_attribute(load(rows(), attribute="sex", test_fraction=0).train)
    x, y, _ = arrays()
    made = TensorSource.make(x[:10], y[:10])
    with pytest.raises(PotstillError, match="80 attributes but 10 labels"):
        TensorSource(**{**vars(made), "attribute": attribute})


def test_a_set_remembers_how_its_attribute_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows().to_csv(tmp_path / "x.csv", index=False)
    out = tmp_path / "s.safetensors"
    line = ["distill", str(tmp_path / "x.csv"), "--method", "random", "--ipc", "4", "--attribute", "sex"]
    assert main([*line, "--real-weights", "attribute", "--out", str(out)]) == 0
    card = potstill.load(out).metadata
    assert card["reading"]["attribute"] == "sex"
    assert card["real_weights"]["rule"] == "attribute"
    assert card["real_weights"]["values"] == ["f", "m"]
    assert merge_read_options(card, {})[0]["attribute"] == "sex"
    with pytest.raises(PotstillError, match="may search for very long"):
        check_read_options({"attribute": "(a+)+b"})
    assert merge_read_options({"reading": {"attribute": "(a+)+b"}}, {"attribute": "sex"})[0] == {"attribute": "sex"}


@pytest.mark.parametrize(("test", "own"), [("uniform", 0.1), ("anti-biased", 0.0), ("every", 0.1)])
def test_coloured_digits_have_the_ratio_and_the_colours(test: Any, own: float) -> None:
    splits = cmnist_dd("digits", ratio=0.8, severity=5, test=test)
    assert splits.test is not None
    for part, share in ((splits.train, 0.8), (splits.test, own)):
        attribute = get_attribute(part)
        assert attribute is not None
        for c in range(10):
            codes = attribute.codes[part.labels == c]
            counts = torch.bincount(codes, minlength=10)
            assert abs(int(counts[c]) - share * len(codes)) <= 0.5
            others = counts[torch.arange(10) != c]
            assert int(others.max() - others.min()) <= 1
        x = part.raw(torch.arange(len(part))).amax((2, 3))  # type: ignore[call-overload]
        palette = torch.tensor(list(COLOURS.values())) / 255
        nearest = torch.cdist(x / x.amax(1, keepdim=True), palette / palette.amax(1, keepdim=True)).argmin(1)
        assert float((nearest == attribute.codes).float().mean()) > 0.99
    grey = load("digits").test
    assert grey is not None
    assert len(splits.test) == len(grey) * (10 if test == "every" else 1)


def test_colours_depend_on_the_seed_alone() -> None:
    first, again, other = (cmnist_dd("digits", ratio=0.5, seed=seed).train.content_hash for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": (np.zeros((20, 8, 8, 3), np.uint8), [0, 1] * 10)}, "needs grey pictures of 2 to 10 classes"),
        ({"ratio": 1.2}, r"the ratio is in \[0, 1\] and the severity 1 to 5, not 1.2 and 1"),
        ({"severity": 6}, "not 0.5 and 6"),
        ({"test": "none"}, "the test part is uniform, anti-biased or every, not 'none'"),
    ],
)
def test_other_pictures_and_numbers_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PotstillError, match=words):
        cmnist_dd(**{"data": "digits", "ratio": 0.5, **options})


def test_pictures_without_a_test_part_are_refused() -> None:
    with pytest.raises(PotstillError, match="needs a test part, which digits has not"):
        cmnist_dd(Splits(train=load("digits").train, test=None), ratio=0.5)
