"""CondTSF's additive update against loops by hand, and the theorem that it is made for."""

import torch

from potstill.functional.blended_forecasts import blend_forecasts


def by_hand(points, forecasts, begins, share):
    moved = points.clone().tolist()
    for c in range(points.shape[0]):
        for number, begin in enumerate(begins):
            for t in range(forecasts.shape[-1]):
                for v in range(points.shape[2]):
                    old = moved[c][begin + t][v]
                    moved[c][begin + t][v] = (1 - share) * old + share * float(forecasts[c, number, v, t])
    return torch.tensor(moved, dtype=points.dtype)


def test_it_is_the_loop_written_by_hand() -> None:
    rng = torch.Generator().manual_seed(0)
    points = torch.randn(2, 12, 3, generator=rng, dtype=torch.float64)
    forecasts = torch.randn(2, 4, 3, 4, generator=rng, dtype=torch.float64)
    begins = [2, 4, 6, 8]
    before = points.clone()
    after = blend_forecasts(points, forecasts, begins, 0.3)
    torch.testing.assert_close(after, by_hand(points, forecasts, begins, 0.3))
    assert torch.equal(points, before)
    assert torch.equal(after[:, :2], points[:, :2])


def test_golden_number() -> None:
    points = torch.tensor([[[0.0], [0.0], [4.0], [8.0]]])
    forecasts = torch.tensor([[[[0.0, 4.0]], [[2.0, 2.0]]]])
    # first 4 → 2 and 8 → 6, then 2 → 2; the last forecast of point 3 alone would end beyond the series
    assert blend_forecasts(points, forecasts[:, :1], [2], 0.5).flatten().tolist() == [0, 0, 2, 6]
    assert blend_forecasts(points, forecasts, [2, 2], 0.5).flatten().tolist() == [0, 0, 2, 4]


def test_gradients() -> None:
    rng = torch.Generator().manual_seed(1)
    points = torch.randn(1, 8, 2, generator=rng, dtype=torch.float64, requires_grad=True)
    forecasts = torch.randn(1, 2, 2, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p, f: blend_forecasts(p, f, [3, 5], 0.2), (points, forecasts))


def test_the_value_term_shrinks_by_one_minus_beta() -> None:
    """One window: its error to the forecast is (1 − β) times as large after each update."""
    points, forecasts = torch.zeros(1, 6, 1), torch.full((1, 1, 1, 2), 10.0)
    errors = []
    for _ in range(3):
        points = blend_forecasts(points, forecasts, [4], 0.1)
        errors.append(float((points[0, 4:, 0] - 10).abs().sum()))
    torch.testing.assert_close(torch.tensor(errors), 20 * torch.tensor([0.9, 0.81, 0.729]))
