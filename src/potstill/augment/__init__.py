"""Augmentations as pure functions of drawn parameters, label mixes, and ZCA whitening."""
