"""DD-Ranking's scores on fractions (arXiv:2505.13300): the images' own part, without labels and augmentation."""

import math

__all__ = ["ars", "hlr", "ior", "lrs"]


def hlr(full: float, hard: float) -> float:
    """Hard-label recovery: accuracy on the full data minus on the set with hard labels. Lower is better."""
    return full - hard


def ior(distilled: float, random: float) -> float:
    """Improvement over random real samples of the same size. Higher is better."""
    return distilled - random


def _squash(alpha: float) -> float:
    return (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))


def lrs(hlr: float, ior: float, w: float = 0.5) -> float:
    """Label-robust score in [0,1]: ``(e^α − e⁻¹)/(e − e⁻¹)``, ``α = w·IOR − (1−w)·HLR``; 0.269 where both are zero."""
    return _squash(w * ior - (1 - w) * hlr)


def ars(gain_with: float, gain_without: float, gamma: float = 0.5) -> float:
    """Augmentation-robust score in [0,1], from the gains over random with and without augmentation."""
    return _squash(gamma * gain_with + (1 - gamma) * gain_without)
