"""Picture files for the tests of folders, shards and tables."""

import io

import numpy as np
from PIL import Image


def encoded(colour, size=(8, 6), mode="RGB", form="PNG", **options):
    """A picture of one colour, ``size`` is (width, height), as bytes."""
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, form, **options)
    return file.getvalue()


def noise(size=(40, 30), form="JPEG", seed=0):
    """A picture that compresses badly, as bytes."""
    file = io.BytesIO()
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(file, form)
    return file.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
