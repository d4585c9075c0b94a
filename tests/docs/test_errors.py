"""The list of all error messages: read from the source, in the words that a user sees."""

import ast
from pathlib import Path

import pytest

from tools.docs.errors import error_messages, message_text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("'no data'", "no data"),
        ("f'{path}: no such file'", "{path}: no such file"),
        ('f\'{n} row{"" if n == 1 else "s"}\'', "{n} row[s]"),
        ("'a ' + ('b' if one else 'c')", "a [b | c]"),
        ("str(unknown_name('method', name, known))", "unknown method '{name}'; did you mean …?"),
        ("message", "{message}"),
    ],
)
def test_a_message_is_read_as_it_is_written(source: str, text: str) -> None:
    assert message_text(ast.parse(source, mode="eval").body) == text


def test_errors_of_subclasses_stand_in_the_list_with_their_places(tmp_path: Path) -> None:
    (folder := tmp_path / "src" / "potstill" / "data").mkdir(parents=True)
    (folder / "a.py").write_text(
        "class Mine(PotstillError): ...\nraise Mine('too large; give less')\nraise OSError('not ours')\n"
        "raise PotstillError(f'{path}: {unknown_name(\"column\", c, known)}') from None\n"
    )
    assert [(m.group, m.place, m.error, m.text) for m in error_messages(tmp_path)] == [
        ("data", "src/potstill/data/a.py:2", "Mine", "too large; give less"),
        ("data", "src/potstill/data/a.py:4", "PotstillError", "{path}: unknown column '{c}'; did you mean …?"),
    ]
