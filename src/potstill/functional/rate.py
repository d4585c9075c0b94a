r"""Coded bits of quantized values, estimated so that gradients can lower them.

Whole numbers q of one group have the two-sided geometric density of mean magnitude m, the discrete kin of Laplace's:

.. math::
    P(q) = \frac{1 - \theta}{1 + \theta} \theta^{|q|}, \qquad \theta = \frac{m}{1 + \sqrt{1 + m^2}}

At the m of the values, the most likely one, n of them take ``n h(m)`` bits, h the density's entropy. So the rate is a
function of the mean magnitude alone, with slope :math:`-\log_2 \theta` by each magnitude: an L1 penalty whose weight
adapts to the group, as in an adaptive coder. Rounding has no gradient. That of the mean magnitude under uniform noise
(Ballé, Laparra, Simoncelli, arXiv:1611.01704, section 3) stands for it, in closed form: no draw is needed, so equal
values give equal bits.
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["geometric_bits", "group_bits", "noisy_magnitude", "picture_bits"]

_LEAST = 0.5
"""Magnitude added to each group, as of one value more: no group's rate is 0, and no slope infinite."""


def noisy_magnitude(v: Tensor) -> Tensor:
    """Return the mean of ``|v + u|`` over u uniform in [−½, ½]: ``|v|``, or ``v² + ¼`` where that is below ½."""
    size = v.abs()
    return torch.where(size < 0.5, v.square() + 0.25, size)


def geometric_bits(m: Tensor) -> Tensor:
    """Return the entropy, in bits, of the two-sided geometric density of mean magnitude ``m`` > 0."""
    root = (1 + m.square()).sqrt()
    theta = m / (1 + root)
    return -(((1 - theta) / (1 + theta)).log2() + m * theta.log2())


def group_bits(v: Float[Tensor, "n ..."], prediction: Tensor | None = None) -> Float[Tensor, ""]:
    """Return the bits of ``round(v)``, rounded forwards, with the gradient of noise backwards.

    Args:
        v: values in steps of their quantizer. Each place after the first axis is a group, over which m is taken; of one
            axis all values are one group.
        prediction: values subtracted beforehand, as wide as ``v``, themselves rounded.

    Returns:
        Bits of all values, a scalar: without a file's header, and with about what an adaptive coder pays to learn m.
    """
    if v.numel() == 0:
        return v.sum()
    smooth = v if prediction is None else v - prediction
    whole = v.detach().round() if prediction is None else v.detach().round() - prediction.detach().round()
    size = noisy_magnitude(smooth)
    size = whole.abs() + (size - size.detach())
    size = size.reshape(len(v), -1) if v.ndim > 1 else size[:, None]
    m = (size.sum(0) + _LEAST) / (len(size) + 1)
    return len(size) * geometric_bits(m).sum()


def picture_bits(v: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Return the bits of ``round(v)`` for pictures, each pixel predicted by the mean of its left and upper neighbours.

    At the borders the one neighbour predicts; the first pixel is predicted as 0. Channels are groups.

    Args:
        v: values in steps of their quantizer.
    """
    if v.numel() == 0:
        return v.sum()
    q = v + (v.round() - v).detach()
    left, above = torch.zeros_like(q), torch.zeros_like(q)
    left[..., 1:], above[..., 1:, :] = q[..., :-1], q[..., :-1, :]
    known = torch.full(v.shape[-2:], 0.5, dtype=v.dtype, device=v.device)
    known[0], known[:, 0] = 1.0, 1.0
    channels = [t.transpose(0, 1).reshape(v.shape[1], -1).T for t in (v, known * (left + above))]
    return group_bits(*channels)
