import pytest

import potstill
from potstill._util.formatting import describe_codec


@pytest.mark.parametrize(
    ("spelled", "per_class", "said"),
    [
        ("exact", None, "as they are"),
        ("uint4", 8, "8 per class, 4 bits"),
        ("uint1", 1200, "1,200 per class, 1 bit"),
        ("float16", None, "16-bit floats"),
        ("half", 3, "3 per class, 4 bits, half size"),
        ("half:bits=1,factor=4", None, "1 bit, 1/4 of the size"),
        ("mosaic:kind=webp", 2, "2 per class, one WebP of all"),
        ("mosaic:kind=avif,quality=5", None, "one AVIF of all"),
        ("palette:colours=4", None, "palette:colours=4"),
        (None, 2, "2 per class"),
        (None, None, ""),
    ],
)
def test_how_values_are_stored_is_said_in_words(spelled: str | None, per_class: int | None, said: str) -> None:
    assert describe_codec(spelled, per_class) == said


@pytest.mark.parametrize(("method", "parametrization"), [("frepo", "frequency:kept=64"), ("dm", "memory")])
def test_a_budget_in_bytes_is_kept_where_whole_numbers_are_stored_beside_values(
    method: str, parametrization: str
) -> None:
    small = potstill.distill(
        "mnist-5k", method=method, bytes=3930, parametrization=parametrization, codec="uint4", steps=0, progress=None,
        executor="serial",
    )  # fmt: skip
    assert 1500 < small.metadata["bytes"]["total"] <= 3930  # planned by the codes before they are coded
