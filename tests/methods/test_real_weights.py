"""Weights of the real samples that methods draw: barycentres, densities, the same draws without them, and refusals."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import potstill
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.data.attributes import Attribute
from potstill.data.real_data import RealData
from potstill.errors import PotstillError
from potstill.functional.class_weights import density_weights, group_weights
from potstill.functional.sampling import class_indices, random_per_class, weighted_per_class
from potstill.rng import generator
from potstill.runs.real_weights import RealWeights, parse_real_weights
from potstill.testing.common import toy_problem


def pictures(shares: tuple[int, ...] = (36, 4), classes: int = 2) -> TensorSource:
    """Return pictures of 8 × 8 whose lower half is bright in the second group, of so many samples a group."""
    rng, per_class = torch.Generator().manual_seed(0), sum(shares)
    y = torch.arange(classes).repeat_interleave(per_class)
    codes = torch.repeat_interleave(torch.arange(len(shares)), torch.tensor(shares)).repeat(classes)
    x = torch.randint(0, 40, (len(y), 1, 8, 8), generator=rng, dtype=torch.uint8)
    x[torch.arange(len(y)), 0, y] += 150
    x[codes == 1, :, 5:] += 90
    made = TensorSource.make(x, y.tolist(), classes=[str(c) for c in range(classes)], name="rows")
    return replace(made, attribute=Attribute(codes, tuple(f"v{g}" for g in range(len(shares)))))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_the_weighted_mean_of_a_class_is_the_barycentre_of_its_groups(samples: list[tuple[int, int]]) -> None:
    labels, groups = (torch.tensor(column) for column in zip(*samples, strict=True))
    rows = torch.randn(len(labels), 3, generator=generator(0), dtype=torch.float64)
    by_class = class_indices(labels, 3)
    weights = group_weights(by_class, groups)
    for at in by_class:
        if not len(at):
            continue
        means = torch.stack([rows[at][groups[at] == g].mean(0) for g in groups[at].unique()])
        assert math.isclose(float(weights[at].sum()), 1.0)
        assert torch.allclose(weights[at] @ rows[at], means.mean(0))
        # FairDD's gradient in a synthetic mean s is G times that of the barycentre
        s = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        (by_group,) = torch.autograd.grad((means - s).square().sum(), s)
        s2 = s.detach().clone().requires_grad_()
        (by_centre,) = torch.autograd.grad((weights[at] @ rows[at] - s2).square().sum(), s2)
        assert torch.allclose(by_group, len(means) * by_centre)


def test_distant_groups_get_equal_weight_by_density_without_being_told() -> None:
    source = pictures()
    rows = torch.randn(80, 4, generator=generator(1)) * 1e-3 + 5 * source.attribute.codes[:, None]  # type: ignore[union-attr]
    by_class = class_indices(source.labels, 2)
    # the median distance lies within the large group here, so that a kernel of some of it is wide enough
    weights = density_weights(rows, by_class, 3.0, generator(2))
    expected = group_weights(by_class, source.attribute.codes)  # type: ignore[union-attr]
    assert torch.allclose(weights, expected, rtol=0.1)
    assert torch.allclose(
        density_weights(rows, by_class, 1e6, generator(2)), torch.full((80,), 1 / 40, dtype=torch.float64)
    )
    same = density_weights(torch.ones(80, 4), by_class, 0.5, generator(2))
    assert torch.allclose(same, torch.full((80,), 1 / 40, dtype=torch.float64))


def test_draws_follow_the_weights_and_distinct_ones_do_not_repeat() -> None:
    source = pictures()
    by_class = dict(zip("ab", class_indices(source.labels, 2), strict=True))
    codes, weights = source.attribute.codes, group_weights(tuple(by_class.values()), source.attribute.codes)  # type: ignore[union-attr]
    drawn = weighted_per_class(by_class, weights, (4000, 4000), generator(0), distinct=False)
    for index, name in zip(drawn, "ab", strict=True):
        assert set(index.tolist()) <= set(by_class[name].tolist())
        assert abs(float((codes[index] == 1).double().mean()) - 0.5) < 0.04  # five standard errors
    uniform = random_per_class(by_class, (8, 8), generator(0))
    rare = 0
    for seed in range(200):
        for index in weighted_per_class(by_class, weights, (4, 4), generator(seed), distinct=True):
            assert len(index.unique()) == 4
            rare += int((codes[index] == 1).sum())
    assert 0.3 < rare / 1600 < 0.5  # below one half, as the four rare samples run out
    assert len(uniform[0].unique()) == 8
    with pytest.raises(PotstillError, match="41 distinct samples of every class are required, but class 'a' has 40"):
        weighted_per_class(by_class, weights, (41, 1), generator(0), distinct=True)


def test_draws_of_a_class_do_not_depend_on_the_others() -> None:
    problem = replace(toy_problem(), real_weights=torch.rand(48, dtype=torch.float64, generator=generator(3)) + 0.1)
    real = RealData.of(problem)
    one = replace(real, by_class={name: real.by_class[name] for name in list(real.by_class)[1:2]})
    assert torch.equal(one.draw(5, generator(7))[0], real.draw(5, generator(7))[1])
    assert torch.equal(one.draw_exactly([3], generator(7))[0], real.draw_exactly([3] * 4, generator(7))[1])


def test_uniform_weights_are_the_run_without_them() -> None:
    splits = Splits(train=pictures(), test=None)
    given = {"ipc": 2, "steps": 2, "network": "convnet-w8-d1", "codec": "float32", "progress": None}
    plain, named = (potstill.distill(splits, "dm", **given, **more) for more in ({}, {"real_weights": "uniform"}))
    assert torch.equal(plain.inputs, named.inputs)  # type: ignore[arg-type]
    assert plain.metadata["run_digest"] == named.metadata["run_digest"]
    assert "real_weights" not in plain.metadata
    others = [
        potstill.distill(splits, "dm", **given, real_weights=rule)
        for rule in ("attribute", "density:steps=0", "density:steps=2", "density:steps=2,bandwidth=2")
    ]
    assert len({small.metadata["run_digest"] for small in (plain, *others)}) == 5
    assert others[0].metadata["real_weights"]["effective_samples"] == [14.4, 14.4]  # 1 / (1/4 (1/36 + 1/4))
    again = potstill.distill(splits, "dm", **given, real_weights="density:steps=2")
    assert torch.equal(again.inputs, others[2].inputs)  # type: ignore[arg-type]


def test_a_random_set_by_attribute_has_both_values() -> None:
    source = pictures((96, 4))
    small = potstill.distill(Splits(train=source, test=None), "random", ipc=8, real_weights="attribute", progress=None)
    bright = small.inputs[:, 0, 5:].mean((1, 2)) > 0.3  # type: ignore[call-overload]
    assert 4 <= int(bright.sum()) <= 8  # of 16, and 4 of 100 in the data; there are four in each class


def test_rules_are_read_as_they_are_written() -> None:
    assert parse_real_weights(None) == parse_real_weights("uniform") == RealWeights()
    assert str(parse_real_weights("density:bandwidth=0.25")) == "density:bandwidth=0.25,steps=100"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("sex", "unknown real_weights 'sex'|no real_weights 'sex'"),
        ("density:width=1", "density has no setting 'width'; it has bandwidth, steps"),
        ("attribute:steps=1", "attribute has no setting 'steps'; it has none"),
        ("density:steps=much", "steps must be a number, not 'much'; write steps=NUMBER"),
        ("density:bandwidth=0", "the bandwidth must be above 0 and the steps at least 0"),
        ("density:bandwidth=nan", "the bandwidth must be above 0"),
        ("density:steps=-1", "the steps at least 0"),
    ],
)
def test_other_rules_are_refused(rule: str, words: str) -> None:
    with pytest.raises(PotstillError, match=words):
        potstill.distill("digits", "dm", ipc=1, real_weights=rule, progress=None)


def test_methods_that_draw_nothing_by_class_and_data_without_an_attribute_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    splits = Splits(train=pictures(), test=None)
    for method in ("herding", "dream", "mtt", "idc"):
        with pytest.raises(PotstillError, match=f"method {method} draws no random real samples of each class"):
            potstill.distill(splits, method, ipc=1, real_weights="attribute", progress=None)
    line = ["distill", "digits", "--method", "dm", "--ipc", "1", "--real-weights", "attribute"]
    assert main([*line, "--out", str(tmp_path / "a.safetensors"), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "needs an attribute of each sample, but digits was read without one; read it with --attribute" in said
    assert said.count("\n") == 1
