"""Scores of training dynamics against numbers worked out by hand, and against plain loops."""

import itertools
import math

import pytest
import torch
from scipy.stats import spearmanr

from potstill.errors import PotstillError
from potstill.functional import training_dynamics
from potstill.functional.training_dynamics import Cartography

P = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]])
Y = torch.tensor([0, 2])


def test_what_a_prediction_says_by_hand() -> None:
    torch.testing.assert_close(training_dynamics.least_confidence(P), torch.tensor([0.3, 0.5]))
    by_hand = [-(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)), math.log(2)]
    torch.testing.assert_close(training_dynamics.entropy(P), torch.tensor(by_hand))
    torch.testing.assert_close(training_dynamics.top_two_gap(P), torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(
        training_dynamics.el2n(P, Y), torch.tensor([math.sqrt(0.09 + 0.04 + 0.01), math.sqrt(1.5)])
    )


def test_the_margin_leaves_the_own_class_out() -> None:
    z = torch.tensor([[3.0, 1.0, -2.0], [3.0, 1.0, -2.0]])
    assert training_dynamics.logit_margin(z, torch.tensor([0, 2])).tolist() == [2.0, -5.0]


def test_movement_adds_up_absolute_terms() -> None:
    q = torch.tensor([[0.5, 0.25, 0.25]])
    p = torch.tensor([[0.25, 0.5, 0.25]])
    by_hand = 0.25 * math.log(2) + 0.5 * math.log(2)  # of the first the sign is lost: it fell
    assert float(training_dynamics.movement(p.log(), q.log())) == pytest.approx(by_hand, abs=1e-6)
    assert float(training_dynamics.movement(q.log(), q.log())) == 0
    sure = torch.tensor([[1.0, 0.0]])
    assert float(training_dynamics.movement(sure.log(), sure.flip(1).log())) == pytest.approx(-math.log(1e-8), rel=1e-5)


def test_the_margin_of_probabilities_leaves_the_own_class_out() -> None:
    torch.testing.assert_close(training_dynamics.probability_margin(P, Y), torch.tensor([0.5, -0.5]))


def test_rank_correlation_is_spearmans() -> None:
    a, b = torch.randn(40, generator=torch.Generator().manual_seed(0)), torch.arange(40.0)
    assert training_dynamics.rank_correlation(a, b) == pytest.approx(float(spearmanr(a.numpy(), b.numpy()).statistic))
    assert training_dynamics.rank_correlation(b, b.exp()) == pytest.approx(1.0)
    assert training_dynamics.rank_correlation(b, -b) == pytest.approx(-1.0)
    assert training_dynamics.rank_correlation(torch.ones(40), b) == 0.0


def test_forgetting_counts_falls_and_never_learned_is_infinite() -> None:
    #            always  forgotten twice  learned late  never
    correct = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 0, 1, 0]])
    assert training_dynamics.forgetting(correct).tolist() == [0, 2, 0, math.inf]
    drawn = (torch.rand(9, 50, generator=torch.Generator().manual_seed(0)) < 0.3).to(torch.uint8)
    for i, found in enumerate(training_dynamics.forgetting(drawn).tolist()):
        column = drawn[:, i].tolist()
        falls = sum(a == 1 and b == 0 for a, b in itertools.pairwise(column))
        assert found == (falls if any(column) else math.inf)


def test_aum_is_the_mean_margin() -> None:
    assert training_dynamics.aum(torch.tensor([[1.0, -2.0], [3.0, -4.0]])).tolist() == [2.0, -3.0]


def test_cartography_by_hand_and_its_regions() -> None:
    probability = torch.tensor([[0.9, 0.1, 0.2], [0.9, 0.1, 0.8]])
    found = training_dynamics.cartography(probability, torch.tensor([[1, 0, 0], [1, 0, 1]]))
    torch.testing.assert_close(found.confidence, torch.tensor([0.9, 0.1, 0.5]))
    torch.testing.assert_close(found.variability, torch.tensor([0.0, 0.0, 0.3]))
    assert found.correctness.tolist() == [1.0, 0.0, 0.5]
    assert training_dynamics.regions(found).tolist() == [0, 2, 1]


def test_a_third_is_ambiguous() -> None:
    rng = torch.Generator().manual_seed(1)
    some = Cartography(torch.rand(90, generator=rng), torch.rand(90, generator=rng), torch.rand(90, generator=rng))
    found = training_dynamics.regions(some)
    assert int((found == 1).sum()) == 30
    assert float(some.variability[found == 1].min()) >= float(some.variability[found != 1].max())


def test_dynamic_uncertainty_against_a_loop() -> None:
    p = torch.rand(7, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = training_dynamics.dynamic_uncertainty(p, 3)
    for i in range(5):
        spreads = []
        for k in range(7 - 3):  # the windows that begin at 0 … T − J − 1
            window = p[k : k + 3, i].tolist()
            mean = sum(window) / 3
            spreads.append(math.sqrt(sum((x - mean) ** 2 for x in window) / 2))
        assert float(found[i]) == pytest.approx(sum(spreads) / len(spreads))
    alone = training_dynamics.dynamic_uncertainty(p, 7)
    torch.testing.assert_close(alone, p.std(0))


def published_tdds(p: list[list[list[float]]], window: int, decay: float) -> list[float]:
    """The score of each sample from its probabilities p[epoch][sample][class], in plain loops."""
    epochs, found = len(p), []
    for i in range(len(p[0])):
        score = 0.0
        for k in range(epochs - window + 1):
            moved = []
            for j in range(k, k + window - 1):  # J epochs are J − 1 differences
                pairs = zip(p[j + 1][i], p[j][i], strict=True)
                moved.append(sum(abs(a * (math.log(a + 1e-8) - math.log(b + 1e-8))) for a, b in pairs))
            mean = sum(moved) / len(moved)
            r = math.sqrt(sum((x - mean) ** 2 for x in moved))
            score += decay * (1 - decay) ** (epochs - window - k) * r
        found.append(score)
    return found


def test_tdds_is_what_the_released_code_does() -> None:
    p = torch.rand(8, 4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64).softmax(2)
    moved = torch.stack([training_dynamics.movement(now.log(), before.log()) for before, now in itertools.pairwise(p)])
    assert training_dynamics.tdds(moved, 4, 0.9).tolist() == pytest.approx(published_tdds(p.tolist(), 4, 0.9), rel=1e-9)
    assert training_dynamics.tdds(moved, 8, 0.3).tolist() == pytest.approx(published_tdds(p.tolist(), 8, 0.3), rel=1e-9)


def test_tdds_by_hand() -> None:
    moved = torch.tensor([[1.0], [3.0], [7.0]], dtype=torch.float64)  # four epochs
    assert float(training_dynamics.tdds(moved, 3, 0.9)) == pytest.approx(0.09 * math.sqrt(2) + 0.9 * math.sqrt(8))


@pytest.mark.parametrize("window", [1, 5])
def test_a_window_that_does_not_fit_is_refused(window: int) -> None:
    with pytest.raises(PotstillError, match=f"2 to 4 epochs.*but it has {window}"):
        training_dynamics.dynamic_uncertainty(torch.rand(4, 2), window)


@pytest.mark.parametrize("window", [2, 6])
def test_a_window_of_tdds_has_two_differences_and_fits(window: int) -> None:
    with pytest.raises(PotstillError, match=f"3 to 5 epochs.*but it has {window}"):
        training_dynamics.tdds(torch.rand(4, 2), window, 0.9)
