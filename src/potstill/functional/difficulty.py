"""Difficulty of samples from the answers of many models: item response theory and Glicko-2.

Legend: m models (subjects), n samples (items), t rating periods. Everything is in float64: the scale of a difficulty is
that of the models' ability, whose mean is 0 and standard deviation 1.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor

from potstill.errors import PotstillError

__all__ = ["ItemResponse", "Ratings", "evenly_spaced", "glicko2", "item_response", "rate_samples"]

_SCALE = 400 / math.log(10)
"""Glicko's points for one unit of Glicko-2's own scale: 173.7178."""
_NUMBERS = 1 << 22
"""Entries of a temporary tensor: 32 MiB in float64."""
_LEAST = 0.25
"""Minimum discrimination when a difficulty is computed."""


class ItemResponse(NamedTuple):
    """Parameters of the two-parameter model."""

    difficulty: Float[Tensor, " n"]
    """b, mean 0 over the samples: the ability with probability 1/2 of a right answer."""
    discrimination: Float[Tensor, " n"]
    """s: slope of that probability in ability; negative if better models fail more often."""
    ability: Float[Tensor, " m"]
    """a, on the scale of b."""


def item_response(right: Num[Tensor, "m n"], rounds: int = 50, nodes: int = 61) -> ItemResponse:
    """Fit ``P(right) = σ(s_i (a_m − b_i))`` by marginal maximum likelihood.

    EM (Bock and Aitkin, Psychometrika 46, 1981): abilities are standard normal, integrated out on evenly spaced points
    from −4 to 4. The M-step takes Newton steps in (s, c = −s b), where the problem is concave. Normal priors on s (mean
    1, deviation 1) and c (mean 0, deviation 3) keep items finite that all or no models get right; with few models the
    prior also draws s to 1, which stretches b.

    Args:
        right: 1 if the model was right, else 0.
        rounds: EM iterations.
        nodes: quadrature points.

    Raises:
        PotstillError: there are fewer than two models.
    """
    if len(right) < 2:
        raise PotstillError(f"item response theory needs at least 2 models, but there are {len(right)}; raise runs")
    theta = torch.linspace(-4, 4, nodes, dtype=torch.float64)
    log_w = (-theta.square() / 2).log_softmax(0)
    items = [r.double() for r in torch.split(right, max(1, _NUMBERS // nodes), dim=1)]
    parameters = [
        (torch.ones(r.shape[1], dtype=torch.float64), torch.zeros(r.shape[1], dtype=torch.float64)) for r in items
    ]
    posterior = log_w.expand(len(right), -1).exp()
    for _ in range(rounds):
        log_posterior = log_w.expand(len(right), -1)
        for r, (s, c) in zip(items, parameters, strict=True):
            z = s[:, None] * theta + c[:, None]
            log_posterior = log_posterior + r @ F.logsigmoid(z) + (1 - r) @ F.logsigmoid(-z)
        posterior = log_posterior.softmax(1)
        parameters = [
            _newton_steps(r.T @ posterior, posterior.sum(0), theta, *now)
            for r, now in zip(items, parameters, strict=True)
        ]
    s, c = (torch.cat(values) for values in zip(*parameters, strict=True))
    b = -c / s.clamp_min(_LEAST)
    return ItemResponse((b - b.mean()).float(), s.float(), (posterior @ theta - b.mean()).float())


def _newton_steps(successes: Tensor, count: Tensor, theta: Tensor, s: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Run the M-step for some items: ``successes`` (n, q) of ``count`` (q) models at abilities ``theta`` (q)."""
    for _ in range(3):
        p = torch.sigmoid(s[:, None] * theta + c[:, None])
        gap, curve = successes - count * p, count * p * (1 - p)
        g_s, g_c = (gap * theta).sum(1) - (s - 1), gap.sum(1) - c / 9
        h_ss, h_sc, h_cc = (curve * theta**2).sum(1) + 1, (curve * theta).sum(1), curve.sum(1) + 1 / 9
        det = h_ss * h_cc - h_sc**2
        s = s + ((h_cc * g_s - h_sc * g_c) / det).clamp(-1, 1)
        c = c + ((h_ss * g_c - h_sc * g_s) / det).clamp(-1, 1)
    return s, c


class Ratings(NamedTuple):
    """Glicko-2 ratings of players, on Glicko's scale (1500 is average)."""

    rating: Float[Tensor, " n"]
    deviation: Float[Tensor, " n"]
    volatility: Float[Tensor, " n"]


def glicko2(players: Ratings, opponents: Ratings, score: Num[Tensor, "n m"], tau: float = 0.5) -> Ratings:
    """Return ratings after a period in which each player met every opponent once (Glickman 2012, steps 2 to 8).

    Args:
        players: n ratings before the period.
        opponents: m ratings before the period.
        score: 1 if the player won, 0 if it lost, 1/2 for a draw.
        tau: constraint on the change of volatility.
    """
    mu, phi = (players.rating.double() - 1500) / _SCALE, players.deviation.double() / _SCALE
    mu_j, phi_j = (opponents.rating.double() - 1500) / _SCALE, opponents.deviation.double() / _SCALE
    g = 1 / (1 + 3 * phi_j**2 / math.pi**2).sqrt()
    expected = torch.sigmoid(g * (mu[:, None] - mu_j))
    v = 1 / (g**2 * expected * (1 - expected)).sum(1)
    gained = (g * (score.double() - expected)).sum(1)
    sigma = _volatility(players.volatility.double(), phi, v, v * gained, tau)
    phi = 1 / (1 / (phi**2 + sigma**2) + 1 / v).sqrt()
    return Ratings(_SCALE * (mu + phi**2 * gained) + 1500, _SCALE * phi, sigma)


def _volatility(sigma: Tensor, phi: Tensor, v: Tensor, delta: Tensor, tau: float) -> Tensor:
    """Solve step 5, the zero of Glickman's f, by the Illinois variant of regula falsi for all players at once."""
    a = (sigma**2).log()

    def f(x: Tensor) -> Tensor:
        e = x.exp()
        return e * (delta**2 - phi**2 - v - e) / (2 * (phi**2 + v + e) ** 2) - (x - a) / tau**2

    wide = delta**2 > phi**2 + v
    b = torch.where(wide, (delta**2 - phi**2 - v).clamp_min(1e-300).log(), a - tau)
    for _ in range(100):  # go down until f is not negative
        low = ~wide & (f(b) < 0)
        if not bool(low.any()):
            break
        b = torch.where(low, b - tau, b)
    x, y = a, b
    f_x, f_y = f(x), f(y)
    for _ in range(60):
        if bool(((y - x).abs() <= 1e-9).all()):
            break
        flat = f_y == f_x
        z = torch.where(flat, y, x + (x - y) * f_x / torch.where(flat, torch.ones_like(f_x), f_y - f_x))
        f_z = f(z)
        crossed = f_z * f_y <= 0
        x, f_x = torch.where(crossed, y, x), torch.where(crossed, f_y, f_x / 2)
        y, f_y = z, f_z
    return (x / 2).exp()


def rate_samples(right: Num[Tensor, "t m n"], tau: float = 0.5) -> Ratings:
    """Return ratings of samples that play against models; a sample wins if the model is wrong.

    All start at 1500 with deviation 350 and volatility 0.06. In a period every sample meets every model; both sides are
    rated from the ratings before it.

    Args:
        right: 1 if the model was right, by period.
        tau: see `glicko2`.
    """
    _, m, n = right.shape

    def fresh(count: int) -> Ratings:
        return Ratings(*(torch.full((count,), x, dtype=torch.float64) for x in (1500.0, 350.0, 0.06)))

    samples, models = fresh(n), fresh(m)
    for period in right:
        won = 1 - period.double()
        samples, models = glicko2(samples, models, won.T, tau), glicko2(models, samples, period, tau)
    return Ratings(samples.rating.float(), samples.deviation.float(), samples.volatility.float())


def evenly_spaced(series: Num[Tensor, "r e n"], count: int) -> Num[Tensor, "r c n"]:
    """Return ``count`` evenly spaced epochs of the second axis, the last included; all if there are fewer."""
    epochs = series.shape[1]
    count = min(count, epochs)
    return series[:, [round((i + 1) * epochs / count) - 1 for i in range(count)]]
