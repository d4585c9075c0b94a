"""What is drawn as a claim: sentences, no comments of the page's tools."""

from tools.docs.claims import claims

PAGE = """# A page

Twelve samples are enough. No more.

<!-- output 1-7 -->
```text
7 of 9
```

<!-- a comment
over 2 lines --> Every set has a hash.
"""


def test_comments_are_not_drawn_and_lines_stay_right():
    found = [(claim.line, claim.sentence) for claim in claims(PAGE, "page.md")]
    assert found == [(3, "Twelve samples are enough."), (3, "No more."), (11, "Every set has a hash.")]
