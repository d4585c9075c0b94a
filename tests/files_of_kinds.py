"""A small file, as people have it, for every kind of input and each of its tasks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tests import graph_data, graph_set_data, ratings_data, series_data, sound_data, text_data

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """A file of one kind, and the options by which the command line reads it."""

    kind: str
    write: Callable[[Path], Path]
    options: tuple[str, ...] = ()

    @property
    def keywords(self) -> dict[str, str]:
        """The same options in Python."""
        return {
            name.removeprefix("--"): value for name, value in zip(self.options[::2], self.options[1::2], strict=True)
        }


def _mixed(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    size, form = rng.normal(50, 10, n), rng.choice(["round", "square", "long"], n)
    opened = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D")
    price = 3 * size + 40 * (form == "round") + 10 * rng.normal(size=n)
    return pd.DataFrame(
        {"size": size.round(2), "form": form, "rooms": rng.integers(1, 6, n), "opened": opened, "price": price.round(1),
         "rent": (price / 20 + rng.normal(size=n)).round(2)}
    )  # fmt: skip


def classes_of_rows(folder: Path) -> Path:
    frame = _mixed(90)
    frame["grade"] = np.array(["cheap", "middle", "dear"])[pd.qcut(frame["price"], 3, labels=False)]
    frame.drop(columns=["price", "rent"]).to_csv(folder / "flats.csv", index=False)
    return folder / "flats.csv"


def prices(folder: Path) -> Path:
    _mixed(90).drop(columns="rent").to_csv(folder / "prices.csv", index=False)
    return folder / "prices.csv"


def prices_and_rents(folder: Path) -> Path:
    _mixed(90).to_csv(folder / "both.csv", index=False)
    return folder / "both.csv"


def patients(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    age, marker = rng.normal(60, 10, 100), rng.normal(size=100)
    lasts, leaves = rng.exponential(np.exp(-0.08 * (age - 60) - marker)), rng.exponential(1.5, 100)
    ward = np.array(["north", "south"])[(marker > 0).astype(int)]
    days = np.ceil(1000 * np.minimum(lasts, leaves)).astype(int)
    frame = {"age": age.round(), "marker": marker.round(2), "ward": ward, "days": days, "died": lasts <= leaves}
    pd.DataFrame(frame).astype({"died": int}).to_csv(folder / "patients.csv", index=False)
    return folder / "patients.csv"


def loads(folder: Path) -> Path:
    values = series_data.seasonal(120, 2).round(3)
    days = pd.date_range("2021-01-01", periods=len(values)).strftime("%Y-%m-%d")
    pd.DataFrame({"date": days, "load": values[:, 0], "price": values[:, 1]}).to_csv(folder / "loads.csv", index=False)
    return folder / "loads.csv"


def gestures(folder: Path) -> Path:
    for part, seed in (("TRAIN", 0), ("TEST", 1)):
        x, y = series_data.classified(each=8, length=16, channels=2, seed=seed)
        lines = ["@problemName Gestures", "@timeStamps false", "@missing false", "@univariate false", "@dimensions 2",
                 "@equalLength true", "@seriesLength 16", "@classLabel true wave push turn", "@data"]  # fmt: skip
        for series, label in zip(x, y, strict=True):
            channels = [",".join(f"{v:.3f}" for v in channel) for channel in series]
            lines.append(":".join([*channels, ("wave", "push", "turn")[label]]))
        (folder / f"Gestures_{part}.ts").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "Gestures_TRAIN.ts"


def promoters(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("box", "none"):
        (folder / "dna" / name).mkdir(parents=True)
        lines = []
        for i in range(24):
            letters = rng.choice(list("ACGT"), 20)
            if name == "box":
                at = rng.integers(0, 14)
                letters[at : at + 6] = list("TATAAA")
            lines += [f">{name}{i}", "".join(letters)]
        (folder / "dna" / name / "all.fasta").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "dna"


def notes(folder: Path) -> Path:
    texts, labels = text_data.corpus(each=20)
    pd.DataFrame({"note": texts, "topic": labels}).to_csv(folder / "notes.csv", index=False)
    return folder / "notes.csv"


def pages(folder: Path) -> Path:
    np.savez(folder / "pages.npz", **graph_data.block_graph(each=30))
    return folder / "pages.npz"


def shapes(folder: Path) -> Path:
    return graph_set_data.write_tu(folder / "SHAPES", each=12)


def shop(folder: Path) -> Path:
    return ratings_data.write_shop(folder / "shop.csv")


def tones(folder: Path) -> Path:
    return sound_data.write_tones(folder / "tones", each=6)


def photos(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for c, name in enumerate(("dark", "light", "red")):
        (folder / "photos" / name).mkdir(parents=True)
        for n in range(8):
            pixels = rng.integers(60 * c, 60 * c + 120, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{n}.png")
    return folder / "photos"


def captions(folder: Path) -> Path:
    rng, lines = np.random.default_rng(0), ["file_name,text"]
    (folder / "pairs").mkdir()
    for n in range(40):
        c = n % 4
        pixels = rng.integers(0, 60, (8, 8, 3)).astype(np.uint8)
        pixels[:, :, c % 3] += 150
        if c == 3:
            pixels += 30
        Image.fromarray(pixels).save(folder / "pairs" / f"{n}.png")
        lines.append(f"{n}.png,{('a red', 'a green', 'a blue', 'a bright red')[c]} picture with number {n}")
    (folder / "pairs" / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "pairs"


CASES: dict[str, Case] = {
    "pictures": Case("image", photos),
    "rows with classes": Case("table", classes_of_rows, ("--label", "grade")),
    "rows with a value": Case("table", prices, ("--task", "regression", "--label", "price")),
    "rows with two values": Case("table", prices_and_rents, ("--task", "regression", "--label", "price,rent")),
    "rows of survival": Case("table", patients, ("--task", "survival:time=days,event=died")),
    "a series": Case("series", loads, ("--task", "forecast:window=8,horizon=4")),
    "series with classes": Case("signal", gestures),
    "sequences": Case("signal", promoters),
    "texts": Case("text", notes, ("--label", "topic")),
    "nodes": Case("node", pages),
    "graphs": Case("graph", shapes),
    "users": Case("ratings", shop, ("--kind", "ratings")),
    "sounds": Case("sound", tones, ("--representation", "log-mel:mels=16,seconds=0.1")),
    "pairs": Case("pair", captions, ("--task", "retrieval")),
}
