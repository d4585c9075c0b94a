"""Barycentres: where the answer is known, and against assignments by scipy."""

import importlib.util

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from potstill.errors import PotstillError
from potstill.methods.decoupled.wmdd import barycentre
from potstill.rng import generator


def test_one_atom_is_the_mean_and_equal_points_are_their_own_barycentre() -> None:
    points = torch.randn(9, 3, generator=generator(0))
    torch.testing.assert_close(barycentre(points, points[:1]), points.mean(0, keepdim=True))
    same = points[:1].expand(7, -1)
    torch.testing.assert_close(barycentre(same, torch.zeros(3, 3)), same[:3])


def test_as_many_atoms_as_points_are_the_points() -> None:
    points = torch.randn(5, 2, generator=generator(1))
    found = barycentre(points, torch.randn(5, 2, generator=generator(2)))
    torch.testing.assert_close(found[found[:, 0].argsort()], points[points[:, 0].argsort()])


def test_atoms_are_means_of_equally_many_points_as_an_assignment_gives_them() -> None:
    points = torch.randn(12, 2, generator=generator(3)).double()
    first = points[:4] + 0.1
    atoms = first.clone()
    for _ in range(50):  # every atom is three places
        cost = torch.cdist(points, atoms.repeat_interleave(3, 0)).square()
        place = torch.from_numpy(linear_sum_assignment(cost.numpy())[1])
        atoms = torch.stack([points[place // 3 == i].mean(0) for i in range(4)])
    torch.testing.assert_close(barycentre(points, first), atoms)
    # and where the number does not divide, weights are split but the means' mean stays
    torch.testing.assert_close(barycentre(points, points[:5]).mean(0), points.mean(0))


def test_type_and_repetition() -> None:
    points = torch.randn(8, 3, generator=generator(4))
    found = barycentre(points, points[:3])
    assert found.dtype == torch.float32
    assert torch.equal(found, barycentre(points, points[:3]))
    assert float(found.sum()) == pytest.approx(-1.1248345, rel=1e-5)


def test_a_missing_solver_is_said_in_one_line_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PotstillError, match=r"POT, which is not installed; pip install 'potstill\[wmdd\]'") as error:
        barycentre(torch.zeros(2, 2), torch.zeros(1, 2))
    assert "\n" not in str(error.value)
