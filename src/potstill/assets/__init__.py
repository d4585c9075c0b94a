"""Expensive inputs of methods, made once and kept by their content: trained networks."""

from potstill.assets.networks import TrainNetwork, jobs_of, kept_part, obtain

__all__ = ["TrainNetwork", "jobs_of", "kept_part", "obtain"]
