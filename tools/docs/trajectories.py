"""The table of expert trajectories: what an epoch takes, what keeping snapshots costs."""

import json
from pathlib import Path

from tools.docs.parts import table

__all__ = ["experts"]

_WORK = {
    "epoch": "an epoch of training, and its snapshot",
    "epoch and test": "the same, beside what `buffer.py` does (it also tests after each epoch)",
}


def experts(root: Path) -> str:
    """What benchmarks/experts.py measured."""
    path = root / "results" / "experts.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = [
        [
            _WORK[r["what"]], *(f"{r['seconds'][side]['median']:.1f}" for side in ("ours", "published")),
            f"{r['published_over_ours']:.1f}×", r["n"],
        ]
        for r in made["rows"]
    ]  # fmt: skip
    m, e = made["machine"], made["error"]
    speed = table(["of an expert", "ours, s", "published code, s", "faster", "n"], rows) + (
        f"\n\n{made['network']}, {made['samples']:,} samples of `{made['data']}`, batches of {made['batch']}, DSA, one "
        f"thread, seconds of the processor, medians of interleaved runs; {m['processor']}, torch {m['torch']}."
    )
    kept: list[list[object]] = [
        [name, *(f"{100 * said[part]:.3g}" for part in ("median", "max"))] for name, said in e["forms"].items()
    ]
    form = table(["what is kept of a later snapshot", "error, % (median)", "largest"], kept) + (
        f"\n\nThe norm of the error over the norm of what two more epochs move, over the snapshots of {e['epochs']} "
        f"epochs of `{e['network']}`. The first form is what is kept: {e['bytes'] / 1e6:.1f} MB an expert, where "
        f"float32 is {e['float32'] / 1e6:.1f} MB."
    )
    together: list[list[object]] = [
        [r["network"], r["experts"], f"{r['seconds']['alone']:.2f}", f"{r['seconds']['stacked']:.2f}", r["n"]]
        for r in made["together"]["rows"]
    ]
    side = table(["network", "experts", "one after the other, s", "as one network, s", "n"], together) + (
        "\n\nGradients of a batch for each expert, one thread of a CPU: experts are not trained side by side there."
    )
    return f"{speed}\n\n{form}\n\n{side}"
