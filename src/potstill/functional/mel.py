"""Log-mel spectrograms of sounds."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from potstill._util.mel import FLOOR, MelScale

__all__ = ["log_mel", "mel_power"]


def mel_power(sound: Float[Tensor, "*n samples"], scale: MelScale) -> Float[Tensor, "*n mels frames"]:
    """Return the power of a sound in the bands of a scale, window by window; 1 is that of a sine at full scale.

    The first window is centred on the first sample, and beyond the ends there is silence. Differentiable.

    Args:
        sound: samples in [−1, 1], of the scale's rate; a sound shorter than a window is filled up.
        scale: bands and windows.

    Returns:
        One frame for each ``scale.hop`` samples that have begun; the lowest band first.

    Examples:
        >>> scale = MelScale(rate=8000, mels=32)
        >>> tone = torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 8000)
        >>> power = mel_power(tone, scale)
        >>> power.shape, int(power[:, 20].argmax())
        (torch.Size([32, 63]), 14)
    """
    w, hop = scale.window, scale.hop
    frames = max(1, -(-sound.shape[-1] // hop))
    padded = functional.pad(sound, (w // 2, frames * hop + w // 2 - sound.shape[-1]))
    window = torch.hann_window(w, dtype=sound.dtype, device=sound.device)
    spectra = torch.stft(padded, w, hop, window=window, center=False, return_complex=True)[..., :frames]
    full = w * float(window.square().sum()) / 4  # the energy of a sine at full scale, over its frequencies
    power = spectra.abs().square() / full
    filters = torch.from_numpy(scale.filters()).to(power)
    return filters @ power


def log_mel(power: Float[Tensor, "*n mels frames"]) -> Float[Tensor, "*n mels frames"]:
    """Return powers of bands as values in [0, 1], the highest band first: 80 dB below a sine at full scale is 0.

    Args:
        power: powers of `mel_power`.
    """
    decibels = 10 * power.clamp_min(1e-20).log10()
    return (1 + decibels / FLOOR).clamp(0, 1).flip(-2)
