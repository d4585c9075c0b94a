"""What is optimised and how it decodes to inputs."""

from potstill.parametrize.pixels import Pixels

__all__ = ["Pixels"]
