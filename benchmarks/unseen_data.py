"""Data that the schedule of the automatic choice was not made on, as the files that `benchmarks/auto.py` reads.

    apt-get install r-cran-mlbench r-cran-kernlab && pip install rdata statsmodels scikit-image
    npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz
    python benchmarks/unseen_data.py --out unseen [--r-library /usr/lib/R/site-library] [--emoji package]

Pictures in colour (photo patches), three tables with classes (Satellite, Vehicle of mlbench, spam of kernlab), a table
of real values (diabetes of scikit-learn), a series (monthly carbon dioxide of statsmodels) and pairs (emoji and names).
`mnist-5k` needs no file.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from photo_patches import photo_patches
from sklearn.datasets import load_diabetes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--r-library", type=Path, default=Path("/usr/lib/R/site-library"))
    parser.add_argument("--emoji", type=Path, help="the unpacked npm package; without it the pairs are left out")
    args = parser.parse_args()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    for name, package, label in (("Satellite", "mlbench", "classes"), ("Vehicle", "mlbench", "Class"),
                                 ("spam", "kernlab", "type")):  # fmt: skip
        table(args.r_library / package / "data" / f"{name}.rda", name, label).to_csv(
            out / f"{name.lower()}.csv", index=False
        )
    load_diabetes(as_frame=True).frame.to_csv(out / "diabetes.csv", index=False)
    co2().to_csv(out / "co2.csv", index=False)
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
    print(f"{len(list(out.iterdir()))} entries in {out}")


def table(path: Path, name: str, label: str) -> pd.DataFrame:
    """A data frame of R, its classes as words."""
    import rdata

    frame: pd.DataFrame = rdata.read_rda(path)[name]
    return frame.assign(**{label: frame[label].astype(str).str.strip()})


def co2() -> pd.DataFrame:
    """Weekly carbon dioxide at Mauna Loa as means of months, without the gaps."""
    from statsmodels.datasets import co2 as data

    values = data.load_pandas().data["co2"].resample("MS").mean().interpolate()
    return pd.DataFrame({"month": values.index.strftime("%Y-%m-%d"), "co2": values.to_numpy()})


if __name__ == "__main__":
    main()
