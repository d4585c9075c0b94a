"""Outputs on pages are those of the blocks above them (``python -m tools.docs.outputs`` makes them again)."""

from pathlib import Path

import pytest

from tools.docs.outputs import blocks, cut_lines, run_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("**/*.md"))

PAGE = """Text.

```python
for n in range(1, 6):
    print("line", n)
```

<!-- output 1,4- -->
```text
old
```

```python
print("again", n)
```

<!-- output -->
```text
```
"""


def test_a_page_gets_what_its_blocks_print():
    shown = [block.code for block in blocks(run_page(PAGE)) if block.is_output]
    assert shown == ["line 1\n…\nline 4\nline 5\n", "again 5\n"]


def test_a_command_that_is_run_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = "<!-- run -->\n```bash\npotstill codecs  # a list\n```\n\n<!-- output 1 -->\n```text\n```\n"
    head, rest = run_page(page).split("```text\n")[1].splitlines()[:2]
    assert head.split()[0] == "codec"
    assert rest == "…"


@pytest.mark.parametrize("chosen", ["", "1-2", "1-"])
def test_all_lines_are_shown_without_a_mark_of_what_is_left_out(chosen):
    assert cut_lines("a\nb  \n\n", chosen) == "a\nb\n"


def test_lines_to_the_end_follow_what_is_left_out():
    assert cut_lines("a\nb\nc\n", "2-") == "…\nb\nc\n"


def test_lines_that_are_not_printed_cannot_be_chosen():
    with pytest.raises(IndexError):
        cut_lines("a\nb\n", "3")


@pytest.mark.parametrize("page", [pytest.param(p, id=p.relative_to(ROOT).as_posix()) for p in PAGES])
def test_a_page_shows_outputs_of_what_is_run(page):
    last = False
    for block in blocks(page.read_text(encoding="utf-8")):
        assert last or not block.is_output, block.code
        last = block.is_run or (last and block.is_output)
