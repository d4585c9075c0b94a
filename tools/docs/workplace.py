"""Folders and files that the pages speak of, made of real data that scikit-learn brings."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_iris, load_sample_image

__all__ = ["make_workplace"]


def make_workplace(folder: Path) -> None:
    """Write ``photos/`` (pieces of two photographs), ``flowers.csv`` (iris) and ``flow.csv`` (an hourly series)."""
    for name, file in (("temple", "china.jpg"), ("flower", "flower.jpg")):
        (folder / "photos" / name).mkdir(parents=True)
        photograph = load_sample_image(file)
        for n in range(40):
            y, x = divmod(n, 10)
            piece = photograph[64 * y + 64 : 64 * y + 128, 64 * x : 64 * x + 64]
            Image.fromarray(piece).resize((8, 8)).save(folder / "photos" / name / f"{n:02}.png")
    iris = load_iris()
    rows = [f"{row[2]},{row[3]},{iris.target_names[label]}" for row, label in zip(iris.data, iris.target, strict=True)]
    (folder / "flowers.csv").write_text("\n".join(["length,width,species", *rows]) + "\n", encoding="utf-8")
    hours = np.datetime64("2024-01-01T00:00") + np.arange(600) * np.timedelta64(1, "h")
    flow = 40 + 10 * np.sin(np.arange(600) * 2 * np.pi / 24) + np.random.default_rng(0).normal(0, 2, 600)
    series = [f"{hour},{value:.2f}" for hour, value in zip(hours, flow, strict=True)]
    (folder / "flow.csv").write_text("\n".join(["hour,flow", *series]) + "\n", encoding="utf-8")
