"""Point clouds with classes: a kind of input, its loader, networks, augmentation and a parametrization that turns."""
