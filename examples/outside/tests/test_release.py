"""Sums of real samples pass ``release``: two clients that share sums make the joint set, and noise changes it."""

import torch
from potstill_counts.release import GaussianNoise, fit_together

from potstill.methods.distribution.dm import DM
from potstill.methods.engine import fit
from potstill.rng import generator
from potstill.testing import toy_source

METHOD = DM(iterations=5, init_from="noise", batch_real=99, augment="none", network="convnet-d1-w8")


def test_two_clients_that_share_sums_make_the_joint_set() -> None:
    source = toy_source()
    first = torch.arange(len(source)) % 3 == 0
    clients = [source.subset(torch.where(part)[0]) for part in (first, ~first)]
    joint = fit(METHOD, source, ipc=2, seed=4).payload["inputs"]
    one, other = (r.payload["inputs"] for r in fit_together(METHOD, clients, ipc=2, seed=4))
    assert torch.equal(one, other)
    torch.testing.assert_close(one, joint, rtol=1e-3, atol=1e-4)  # sums are added in another order
    alone = fit(METHOD, clients[0], ipc=2, seed=4).payload["inputs"]
    assert float((alone - joint).norm()) > 10 * float((one - joint).norm())


def test_noise_on_the_sums_is_seen_by_the_method() -> None:
    noise = GaussianNoise(std=5.0, rng=generator(0))
    noisy = fit(METHOD, toy_source(), ipc=2, seed=4, release=noise).payload["inputs"]
    assert noise.queries == 5 * 4  # one sum of each class in each step
    assert not torch.allclose(noisy, fit(METHOD, toy_source(), ipc=2, seed=4).payload["inputs"])
