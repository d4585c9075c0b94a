"""How pages read: the measure itself, and the pages held to it."""

from tools import reading

PAGE = """---
tags: [one, two]
---
# A title that does not count

You make a set with `potstill distill photos/ --ipc 10`. It takes [minutes](guides/costs.md "a page"), not hours.

```bash
potstill distill photos/ --out small.safetensors  # no sentence at all
```

| a | table |
| --- | --- |
| with | cells |

- First item of three.
- Second.

??? note "Folded"

    What is folded counts. It is read, too.

    | a | table |
    | --- | --- |

<!-- made:begin -->
Made by a script. Not counted.
<!-- made:end -->
"""


def test_prose_is_what_a_reader_reads():
    said = reading.sentences(reading.prose(PAGE))
    assert said == [
        "You make a set with Code.",
        "It takes minutes, not hours.",
        "First item of three.",
        "Second.",
        "What is folded counts.",
        "It is read, too.",
    ]
    figures = reading.read(PAGE)
    assert (figures.words, figures.median) == (24, 4)


def test_a_long_page_of_long_sentences_is_refused():
    long = "One " + " ".join(["word"] * 18) + ". "
    assert reading.read(f"{long * 3}\n").problems == ["median sentence of 19 words, at most 18: split sentences"]
    assert any("at most 1200" in said for said in reading.read("Short words. " * 601).problems)
    assert any("CHANGELOG" in said for said in reading.read("The default was changed.\n").problems)


def test_a_point_inside_a_name_ends_no_sentence():
    assert reading.sentences("Open page.html in version 2.13 today. Then stop.") == [
        "Open page.html in version 2.13 today.",
        "Then stop.",
    ]
