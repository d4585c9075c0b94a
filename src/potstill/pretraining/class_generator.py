r"""Generator of pictures of each class as an asset: the decoder of an autoencoder, and where each class's latents lie.

The autoencoder is `potstill.pretraining.generator`'s, with a prior N(p_c, 1) for each class whose mean is learned, so
that latents of different classes come apart. Latents of a class c are then drawn from the Gaussian whose moments are
those of all posteriors of its pictures:

.. math::
    z = m_c + L_c \epsilon, \quad m_c = \mathrm{mean}_i \, \mu_i, \quad
    L_c L_c^\top = \mathrm{cov}_i \, \mu_i + \mathrm{diag}(\mathrm{mean}_i \, \sigma_i^2)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from potstill._util.cache_dir import cache_dir
from potstill.core import AssetContext, Payload
from potstill.core.nested import iter_batches
from potstill.errors import PotstillError
from potstill.pretraining.cache_keys import cache_key
from potstill.pretraining.generator import Autoencoder, FitAutoencoder, encode_images

__all__ = ["ClassGenerator", "FitClassGenerator", "draw_latents", "gaussian_of_posteriors"]

_MEAN, _FACTOR = "decoder/mean", "decoder/factor"
_PRIOR = "encoder/prior"
_JITTER = 1e-6
"""Added to the diagonal of a covariance, so that its root exists."""


def gaussian_of_posteriors(
    means: Float[Tensor, "n d"], log_variances: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, " m"]]:
    """Return the mean of a mixture of n Gaussians and the root of its covariance.

    Args:
        means: their means.
        log_variances: logarithms of their variances, diagonal.

    Returns:
        The mean, and the rows of the lower triangular Cholesky factor, m = d (d + 1) / 2 numbers.
    """
    d = means.shape[1]
    centred = (means - means.mean(0)).double()
    covariance = centred.T @ centred / len(means) + torch.diag(log_variances.double().exp().mean(0) + _JITTER)
    row, column = torch.tril_indices(d, d)
    return means.mean(0), torch.linalg.cholesky(covariance)[row, column].to(means)


def draw_latents(
    mean: Float[Tensor, "k d"], factor: Float[Tensor, "k m"], noise: Float[Tensor, "k n d"]
) -> Float[Tensor, "k n d"]:
    """Return n latents of each class: its mean, and its factor times standard normal noise."""
    k, d = mean.shape
    row, column = torch.tril_indices(d, d, device=mean.device)
    lower = mean.new_zeros(k, d, d).index_put((torch.arange(k, device=mean.device)[:, None], row, column), factor)
    return mean[:, None] + torch.einsum("kij,knj->kni", lower, noise)


@dataclass(frozen=True, kw_only=True)
class FitClassGenerator(FitAutoencoder):
    """Job that trains the autoencoder and fits a Gaussian to the latents of each class."""

    @property
    def path(self) -> Path:
        """Cache file."""
        recipe = {"dim": self.dim, "width": self.width, "epochs": self.epochs, "kl": self.kl, "seed": self.seed}
        what = {"data": self.train.content_hash, **recipe, "classes": 2}
        return cache_dir() / "generators" / f"{cache_key(what, self.machine, self.train.device)}.safetensors"

    def initial_weights(self, rng: Generator) -> dict[str, Tensor]:
        """Return the weights that training starts from, with the priors' means."""
        means = torch.randn(len(self.train.classes), self.dim, generator=rng)
        return {**super().initial_weights(rng), _PRIOR: means}

    def centres(self, weights: Payload, index: Tensor) -> Tensor:
        """Return the prior's mean of each sample's class."""
        return weights[_PRIOR][self.train.labels[index.to(self.train.labels.device)].to(weights[_PRIOR].device)]

    def compute(self) -> dict[str, Tensor]:
        """Return the decoder's weights, and mean and factor of each class's latents.

        Raises:
            PotstillError: training did not stay finite.
        """
        weights = super().compute()
        labels, moments = self.train.labels.cpu(), []
        for c in range(len(self.train.classes)):
            rows = torch.where(labels == c)[0]
            posteriors = [
                encode_images(torch.as_tensor(self.train.raw(at)).float().cpu().clamp(0, 1), weights)
                for at in iter_batches(rows[: self._images], 500)
            ]
            means, variances = (torch.cat(part) for part in zip(*posteriors, strict=True))
            moments.append(gaussian_of_posteriors(means, variances))
        decoder = {n: t for n, t in weights.items() if n.startswith("decoder/")}
        means, factors = (torch.stack(part).contiguous() for part in zip(*moments, strict=True))
        return decoder | {_MEAN: means, _FACTOR: factors}


@dataclass(frozen=True, kw_only=True)
class ClassGenerator(Autoencoder):
    """Asset ``class-generator``: a decoder and the latents of each class (an `potstill.core.Asset`)."""

    name: str = "class-generator"

    def jobs(self, ground: AssetContext) -> tuple[FitAutoencoder, ...]:
        """Return its one job.

        Raises:
            PotstillError: the inputs are no pictures with values in [0, 1].
        """
        (job,) = super().jobs(ground)
        return (FitClassGenerator(**{f.name: getattr(job, f.name) for f in fields(job)}),)

    def placeholder(self, jobs: Sequence[FitAutoencoder]) -> Payload:
        """Return an untrained decoder with standard normal latents."""
        k, d = len(jobs[0].train.classes), self.dim
        eye = torch.eye(d)[tuple(torch.tril_indices(d, d))]
        weights = {n: t for n, t in super().placeholder(jobs).items() if n.startswith("decoder/")}
        return weights | {_MEAN: torch.zeros(k, d), _FACTOR: eye.repeat(k, 1)}

    def adopt(self, value: Any, ground: AssetContext) -> Payload:
        """Refuse generators of other makes, which know no classes.

        Raises:
            PotstillError: always.
        """
        raise PotstillError("a set that holds its generator starts from one that is trained here; leave the file out")

    def provenance(self, value: Payload, ground: AssetContext) -> Mapping[str, Mapping[str, Any]]:
        """Return nothing: the file holds it."""
        return {}
