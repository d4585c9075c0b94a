"""Products with a Jacobian against the Jacobian itself, and a linear system against its inverse."""

import pytest
import torch
from torch import Tensor

from potstill.core import InputSpec
from potstill.functional.linear_solvers import conjugate_gradients
from potstill.methods.performance._implicit import Linearised
from potstill.nn import factory


@pytest.mark.parametrize("name", ["convnet-d1-w4", "convnet-d2-w4-swish-nonorm"])
def test_pushes_and_pulls_are_products_with_the_jacobian(name: str) -> None:
    net = factory(name, InputSpec(kind="image", shape=(1, 8, 8)), 3)(0).double()
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4, 1, 8, 8, generator=g, dtype=torch.float64, requires_grad=True)
    at = Linearised(net, x, lambda n: n != "classifier.weight")
    assert set(at.theta) == {n for n, _ in net.named_parameters()} - {"classifier.weight"}
    assert torch.equal(at.outputs, net(x))
    assert torch.equal(at.features, net.embed(x))
    rows = [torch.autograd.grad(o, tuple(at.theta.values()), retain_graph=True) for o in at.outputs.flatten()]
    jacobian = torch.stack([torch.cat([t.flatten() for t in row]) for row in rows])
    omega = {n: torch.randn(p.shape, generator=g, dtype=torch.float64) for n, p in at.theta.items()}
    flat = torch.cat([t.flatten() for t in omega.values()])
    assert torch.allclose(at.push(omega).flatten(), jacobian @ flat)
    r = torch.randn(4, 3, generator=g, dtype=torch.float64)
    pulled = at.pull(r)
    assert torch.allclose(torch.cat([t.flatten() for t in pulled.values()]), jacobian.T @ r.flatten())

    def pushed(x: Tensor) -> Tensor:
        return Linearised(net, x, lambda n: n != "classifier.weight").push(omega, graph=True)

    assert torch.autograd.gradcheck(pushed, (x,), eps=1e-7, atol=1e-4)


def test_conjugate_gradients_solve_a_system_in_as_many_steps_as_it_has_eigenvalues() -> None:
    g = torch.Generator().manual_seed(0)
    root = torch.randn(7, 3, generator=g, dtype=torch.float64)
    m = root @ root.T + torch.eye(7, dtype=torch.float64)  # four different eigenvalues
    b = torch.randn(7, generator=g, dtype=torch.float64)

    def product(v: dict[str, Tensor]) -> dict[str, Tensor]:
        flat = m @ torch.cat([v["a"], v["b"]])
        return {"a": flat[:2], "b": flat[2:]}

    asked = {"a": b[:2], "b": b[2:]}
    found = conjugate_gradients(product, asked, 4, small=0.0)
    assert torch.allclose(torch.cat([found["a"], found["b"]]), torch.linalg.solve(m, b))
    assert all((t == 0).all() for t in conjugate_gradients(product, asked, 0).values())
    none = {n: torch.zeros_like(t) for n, t in asked.items()}
    assert all((t == 0).all() for t in conjugate_gradients(product, none, 5).values())
