"""The autoencoder in closed form against its formula, row by row, and its gradient against differences."""

import torch

from potstill.execution.step_memory import peak_bytes
from potstill.functional.autoencoder import (
    SparseRows,
    autoencoder_targets,
    autoencoder_weights,
    reconstruction_loss,
    row_kernel,
    row_lengths,
)
from potstill.functional.kernels import FullyConnected

KERNEL = FullyConnected(depth=1)


def users(n, d, seed, density=0.4):
    rows = (torch.rand(n, d, generator=torch.Generator().manual_seed(seed)) < density).double()
    rows[:, seed % d] = 1
    return rows


def plain_loss(real, synthetic, ridge):
    """Return the loss with every matrix made whole, and the kernel of unit rows times the root of their width."""

    def unit(rows):
        return rows / rows.norm(dim=1, keepdim=True) * rows.shape[1] ** 0.5

    a, b = unit(real), unit(synthetic)
    k_ss = KERNEL(b, b)
    y = synthetic / synthetic.norm(dim=1, keepdim=True).sqrt()
    shift = ridge * k_ss.diagonal().mean() * torch.eye(len(b), dtype=torch.float64)
    answers = KERNEL(a, b) @ torch.linalg.solve(k_ss + shift, y)
    return (answers - real / real.norm(dim=1, keepdim=True).sqrt()).square().sum(1).mean()


def test_the_loss_equals_its_formula():
    real, synthetic = users(30, 17, 0), users(5, 17, 1) + 0.1
    found = reconstruction_loss(SparseRows.of(real), synthetic, 0.3, KERNEL)
    torch.testing.assert_close(found, plain_loss(real, synthetic, 0.3))


def test_the_gradient_equals_that_of_the_formula():
    real = users(30, 17, 2)
    first, second = ((users(5, 17, 3) + 0.2).requires_grad_() for _ in range(2))
    reconstruction_loss(SparseRows.of(real), first, 0.1, KERNEL).backward()
    plain_loss(real, second, 0.1).backward()
    torch.testing.assert_close(first.grad, second.grad)
    assert float(first.grad.abs().max()) > 1e-3


def test_weights_reconstruct_rows_without_a_ridge():
    rows = users(6, 20, 4)
    lengths = row_lengths(rows)
    answers = row_kernel(rows @ rows.T, lengths, lengths, KERNEL) @ autoencoder_weights(rows, 1e-10, KERNEL)
    torch.testing.assert_close(answers, autoencoder_targets(rows), atol=1e-6, rtol=1e-6)


def test_sparse_rows_are_made_of_their_tensors_again():
    rows = SparseRows.of(users(9, 11, 5))
    again = SparseRows.of_tensors(rows.to_tensors())
    assert torch.equal(again.rows.to_dense(), rows.rows.to_dense())
    assert torch.equal(again.columns.to_dense(), rows.rows.to_dense().T)
    assert torch.equal(again.lengths, rows.lengths)


def test_memory_of_sparse_rows_is_counted():
    real = users(40, 50, 6)
    peak, kept = peak_bytes(lambda: SparseRows.of(real))
    ones = int(real.sum())
    assert kept >= 2 * 16 * ones  # values and positions, twice
    assert peak >= kept


def test_a_row_of_zeros_is_no_error():
    synthetic = torch.zeros(3, 8, dtype=torch.float64)
    synthetic[0, 1] = synthetic[1, 2] = 1
    assert bool(torch.isfinite(reconstruction_loss(SparseRows.of(users(5, 8, 7)), synthetic, 0.1, KERNEL)))
