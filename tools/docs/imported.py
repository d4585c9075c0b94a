"""Sets that DM's published code made, measured there and here: benchmarks/imported.py."""

import json
from pathlib import Path

from tools.docs.parts import table

__all__ = ["imported"]


def imported(root: Path) -> str:
    """A row for each case: both means, and the difference."""
    path = root / "results" / "imported.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    shown: list[list[object]] = []
    for case in held["cases"]:
        both = [f"{100 * case[side]['mean']:.2f} ± {100 * case[side]['std']:.2f}" for side in ("theirs", "ours")]
        d, (low, high) = case["difference"], case["difference"]["ci95"]
        gap = f"{100 * d['mean']:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
        shown.append([f"`{case['network']}`", case["ipc"], *both, gap])
    first = held["cases"][0]
    batch = first["batch_real"]
    said = (
        f"Test accuracy in percent, mean ± standard deviation of {first['ours']['n']} students of one set each; "
        "difference with the 95 % interval of Welch's t. DM's published code, unchanged, made the set of "
        f"`photo-patches` in {first['iterations']} iterations of {batch} real samples of each class (its own defaults: "
        f"20,000 of 256) and trained students for {first['epochs']} epochs (its own: 1,000), as protocol `dsa` does "
        "here on the same test pictures; torchvision was stood in for. Images differ from those in the file by at most "
        f"{max(case['largest_difference_of_inputs'] for case in held['cases']):.1g}. {held['machine']['processor']}, "
        f"torch {held['machine']['torch']}. `benchmarks/imported.py`"
    )
    return f"{table(['network', 'per class', 'their code', 'imported here', 'difference'], shown)}\n\n{said}"
