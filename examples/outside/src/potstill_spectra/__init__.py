"""Spectra with classes: a kind of input, its loader, network and augmentation, each named in pyproject.toml."""
