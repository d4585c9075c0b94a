"""Seeds of `tests/fuzz/targets.py`, changed by hypothesis in a fixed way: a line of ours, or nothing."""

import struct
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill import load_data
from potstill.data.shards import expand_braces, is_shards
from potstill.dataset_file.scores import read_scores
from potstill.errors import PotstillError
from potstill.interop.import_set import import_set
from tests.fuzz.targets import TARGETS, fitted, unsealed, wrong

TIMES = 40
TOKENS = [
    b"", b"\0", b"\xff\xff\xff\xff", b"-1", b"9" * 400, b"1e999", b"nan", b"null", b"{}", b"[]", b'""', b"true", b"\n",
    b"&a [*a]", b"{0..9}", struct.pack("<Q", 2**63), b"\xed\xa0\x80", b",", b":", b"'", b"\xef\xbb\xbf",
]  # fmt: skip
edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 12), st.sampled_from(TOKENS)), min_size=1, max_size=4
)
_kept: dict[str, list[bytes]] = {}


def seeds(name: str) -> list[bytes]:
    if name not in _kept:
        with tempfile.TemporaryDirectory() as folder:
            _kept[name] = TARGETS[name].seeds(Path(folder))
    return _kept[name]


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_written_is_read(name: str, tmp_path: Path) -> None:
    for seed in seeds(name):
        TARGETS[name].read(seed, tmp_path)


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=TIMES, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data(), changes=edits, fit=st.booleans())
def test_damaged_bytes_end_in_a_line_or_in_nothing(
    name: str, data: st.DataObject, changes: list[tuple[float, int, bytes]], fit: bool, tmp_path: Path
) -> None:
    content = data.draw(st.sampled_from(seeds(name)))
    for where, length, token in changes:
        at = int(where * len(content))
        content = content[:at] + token + content[at + length :]
    content = fitted(content) if fit and TARGETS[name].fitted else content
    assert wrong(TARGETS[name], content, tmp_path) == ""


def test_a_header_is_fitted_again() -> None:
    """Or all changes of it would end at its length."""
    whole = seeds("set")[1]
    (length,) = struct.unpack("<Q", whole[:8])
    longer = fitted(whole.replace(b"toy", b"toyyy"))
    assert struct.unpack("<Q", longer[:8]) == (length + 2,)
    assert unsealed(longer) == longer


@pytest.mark.parametrize("end", ["csv", "parquet"])
@pytest.mark.parametrize("at", ["name", "value"])
def test_tables_in_another_encoding_are_refused_in_a_line(end: str, at: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{end}"
    whole = seeds(end)[0]
    old, new = (b"a", b"\xe9") if at == "name" else (b"x", b"\xe9")
    path.write_bytes(whole.replace(b'"a"', b'"\xe9"', 1) if (end, at) == ("csv", "name") else whole.replace(old, new))
    with pytest.raises(PotstillError, match=r"UTF-?8|Parquet") as caught:
        load_data(path, label="label")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{" + "," * 2**15, "{" * 2**15, "{" + "1" * 2**15, "{0.." * 2**13])
def test_a_pattern_that_no_brace_closes_takes_no_time(text: str) -> None:
    """Commas by the thousand were split at each of them, each time to the end: hours."""
    assert list(expand_braces(text)) == [text]
    assert not is_shards(text)


def test_a_range_that_counts_down_is_refused() -> None:
    """It names nothing, and beside a long one it did so for hours."""
    with pytest.raises(PotstillError, match="counts down"):
        list(expand_braces("x-{0..999999999999}-{2..1}.tar"))


def test_scores_with_a_name_in_another_encoding_too(tmp_path: Path) -> None:
    (tmp_path / "s.parquet").write_bytes(seeds("scores")[0].replace(b"el2n", b"el2\xe9"))
    with pytest.raises(PotstillError):
        read_scores(tmp_path / "s.parquet")


def test_a_label_does_not_ask_for_the_names_of_billions_of_classes(tmp_path: Path) -> None:
    """As a bit that had fallen over in a released set did, until memory was full."""
    path = tmp_path / "i.pt"
    images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.save({"data": [[images, torch.tensor([0, 2**30])]], "accs_all_exps": {}}, path)
    with pytest.raises(PotstillError, match="limit classes is 1,048,576"):
        import_set(path, mean=[0.0], std=[1.0])
