"""Methods that say so match random real samples of each class, and only by weight."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_registry_contract import small

from potstill.core import Problem, registry
from potstill.rng import generator
from potstill.testing.common import toy_problem

DRAWING = sorted(n for n in registry.names("methods") if registry.get_method_class(n).info.draws_by_class)


class Recording:
    """A source that notes which samples were fetched."""

    def __init__(self, source: Any, fetched: set[int]) -> None:
        self.__dict__.update(source=source, fetched=fetched)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def fetch(self, index: torch.Tensor) -> Any:
        self.fetched.update(index.tolist())
        return self.source.fetch(index)

    def raw(self, index: torch.Tensor) -> Any:
        self.fetched.update(index.tolist())
        return self.source.raw(index)


def few(problem: Problem) -> set[int]:
    """Return the first five samples of each class."""
    return {int(i) for at in problem.class_indices for i in at[:5]}


@pytest.mark.parametrize("name", DRAWING)
def test_what_says_that_it_draws_by_class_matches_samples_of_weight_alone(name: str) -> None:
    method = small(name, init_from="real")
    problem = toy_problem(method)
    method = method.resolve_defaults(problem)[0]
    weights = torch.full((len(problem.train),), 1e-200, dtype=torch.float64)
    weights[list(few(problem))] = 1.0
    fetched: set[int] = set()
    problem = replace(problem, train=Recording(problem.train, fetched), real_weights=weights)  # type: ignore[arg-type]
    rng = generator(0)
    state = method.init(problem, rng)
    fetched.clear()  # a start may look at all samples for their k-means
    state, _ = method.step(problem, state, rng)
    if method.info.is_selection:
        fetched.update(method.result(problem, state).index.tolist())  # type: ignore[union-attr]
    assert fetched
    assert fetched <= few(problem)
