from itertools import combinations, product
from typing import Any

import pytest
from covering import covering

AXES = (tuple("abcdefg"), (1, 2, 3), ("x", "y"))


def chosen(strength: int) -> list[tuple[Any, ...]]:
    return [p.values for p in covering(product(*AXES), strength) if not p.marks]


def test_no_case_is_lost_and_each_is_there_once() -> None:
    assert [p.values for p in covering(product(*AXES))] == list(product(*AXES))


@pytest.mark.parametrize(("strength", "most"), [(1, 7), (2, 24)])
def test_few_cases_have_every_value_and_every_pair_of_values(strength: int, most: int) -> None:
    held = {part for case in chosen(strength) for part in combinations(enumerate(case), strength)}
    assert held == {part for case in product(*AXES) for part in combinations(enumerate(case), strength)}
    assert len(chosen(strength)) <= most


def test_values_of_a_short_list_are_met_alike_often() -> None:
    counts = [sum(case[1] == value for case in chosen(1)) for value in AXES[1]]
    assert max(counts) - min(counts) <= 1


def test_cases_that_are_no_product_are_covered_too() -> None:
    cases = [("dm", "momentum"), ("dc", "momentum"), ("idc", "momentum"), ("idc", "cutmix")]
    assert {p.values for p in covering(cases) if not p.marks} >= {("dm", "momentum"), ("idc", "cutmix")}
