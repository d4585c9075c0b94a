"""Data that the schedule of the automatic choice was not made on, as the files that `benchmarks/auto.py` reads.

    apt-get install r-cran-mlbench r-cran-kernlab && pip install rdata statsmodels scikit-image
    npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz
    python benchmarks/unseen_data.py --out unseen [--r-library /usr/lib/R/site-library] [--emoji package]
        [--stamps /usr/share/tuxpaint/stamps]

**The first eight**: pictures in colour (photo patches), three tables with classes (Satellite, Vehicle of mlbench, spam
of kernlab), a table of real values (diabetes of scikit-learn), a series (monthly carbon dioxide of statsmodels) and
pairs (emoji and names). `mnist-5k` needs no file. What the schedule lost on them was looked into, and mended.

**The second eight** were written down here, with their bytes, before ``auto`` saw any of them (`SECOND`): tables with
classes (Vowel, DNA, PimaIndiansDiabetes of mlbench), a table of real values (BostonHousing of mlbench), a series (the
square roots of the sunspots of each month, of R), grey pictures (the first forty glyphs of `benchmarks/glyphs.py`),
pictures in colour (emoji with their categories, 32 pixels wide) and pairs (stamps and captions of
`benchmarks/stamps.py`).
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from glyphs import glyphs
from photo_patches import photo_patches
from PIL import Image
from sklearn.datasets import load_diabetes

SECOND = {
    "vowel.csv": "--label Class --bytes 1000", "dna.csv": "--label Class --bytes 2000",
    "pimaindiansdiabetes.csv": "--label diabetes --bytes 500",
    "bostonhousing.csv": "--label medv --task regression --bytes 500",
    "sunspots.csv": "--label sunspots --task forecast --bytes 1000",
    "glyphs.npz": "--bytes 4000", "emoji-kinds.npz": "--bytes 8000", "stamps": "--task retrieval --bytes 40000",
}  # fmt: skip
"""Files of the second eight and their options of ``benchmarks/auto.py``."""
CLASSES, EACH = 40, 60
"""Classes of glyphs, and pictures of each."""
SIDE = 32
"""Pixels of a side of emoji with categories."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--r-library", type=Path, default=Path("/usr/lib/R/site-library"))
    parser.add_argument("--emoji", type=Path, help="the unpacked npm package; without it the pairs are left out")
    parser.add_argument("--stamps", type=Path, help="the stamps of Tux Paint; without them these pairs are left out")
    args = parser.parse_args()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    for name, package, label in (("Satellite", "mlbench", "classes"), ("Vehicle", "mlbench", "Class"),
                                 ("spam", "kernlab", "type"), ("Vowel", "mlbench", "Class"),
                                 ("DNA", "mlbench", "Class"), ("PimaIndiansDiabetes", "mlbench", "diabetes"),
                                 ("BostonHousing", "mlbench", None)):  # fmt: skip
        table(args.r_library / package / "data" / f"{name}.rda", name, label).to_csv(
            out / f"{name.lower()}.csv", index=False
        )
    load_diabetes(as_frame=True).frame.to_csv(out / "diabetes.csv", index=False)
    co2().to_csv(out / "co2.csv", index=False)
    sunspots().to_csv(out / "sunspots.csv", index=False)
    made, _ = glyphs(train=EACH, test=1)
    first = torch.where(made.labels < CLASSES)[0]
    np.savez(out / "glyphs.npz", x_train=made.raw(first).numpy(), y_train=made.labels[first].numpy())
    splits = photo_patches(500, 100)
    assert splits.test is not None
    arrays = {}
    for name, part in {"train": splits.train, "test": splits.test}.items():
        pixels = part.raw(torch.arange(len(part)))
        assert isinstance(pixels, torch.Tensor)
        arrays[f"x_{name}"] = (255 * pixels).round().to(torch.uint8).numpy()
        arrays[f"y_{name}"] = part.labels.numpy()
    np.savez(out / "photo-patches.npz", **arrays)
    if args.emoji is not None:
        script = Path(__file__).with_name("emoji.py")
        subprocess.run([sys.executable, script, args.emoji, "--out", out / "emoji"], check=True)
        pictures, labels = emoji_kinds(out / "emoji")
        np.savez(out / "emoji-kinds.npz", x_train=pictures, y_train=labels)
    if args.stamps is not None:
        script = Path(__file__).with_name("stamps.py")
        subprocess.run([sys.executable, script, args.stamps, "--out", out / "stamps"], check=True)
    print(f"{len(list(out.iterdir()))} entries in {out}")


def table(path: Path, name: str, label: str | None) -> pd.DataFrame:
    """A data frame of R, its classes as words."""
    import rdata

    frame: pd.DataFrame = rdata.read_rda(path)[name]
    if label is None:
        return frame
    return frame.assign(**{label: frame[label].astype(str).str.strip()})


def co2() -> pd.DataFrame:
    """Weekly carbon dioxide at Mauna Loa as means of months, without the gaps."""
    from statsmodels.datasets import co2 as data

    values = data.load_pandas().data["co2"].resample("MS").mean().interpolate()
    return pd.DataFrame({"month": values.index.strftime("%Y-%m-%d"), "co2": values.to_numpy()})


def sunspots() -> pd.DataFrame:
    """Square roots of the monthly sunspot numbers of R."""
    asked = "d <- datasets::sunspot.month; cat(as.numeric(d))"
    said = subprocess.run(["Rscript", "-e", asked], check=True, capture_output=True, text=True).stdout
    values = np.sqrt(np.array([float(word) for word in said.split()]))
    months = pd.date_range("1749-01-01", periods=len(values), freq="MS", unit="s")
    return pd.DataFrame({"month": months.strftime("%Y-%m-%d"), "sunspots": values.round(3)})


def emoji_kinds(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Emoji on white, uint8 (n, 3, side, side), and the numbers of their categories."""
    rows = pd.read_csv(folder / "metadata.csv")
    pictures = []
    for name in rows["file_name"]:
        with Image.open(folder / name) as opened:
            whole = opened.convert("RGBA")
        white = Image.new("RGBA", whole.size, "white")
        small = Image.alpha_composite(white, whole).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
        pictures.append(np.asarray(small).transpose(2, 0, 1))
    return np.stack(pictures), rows["class"].astype("category").cat.codes.to_numpy().astype(np.int64)


if __name__ == "__main__":
    main()
