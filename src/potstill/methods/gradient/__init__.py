"""Gradient matching: `Gradients` is the objective; a method is its paper's values, and builds an engine of them."""

from potstill.methods.gradient._gradients import GradientDistance

__all__ = ["GradientDistance"]
