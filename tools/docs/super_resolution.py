"""Super-resolution as regression of patches: benchmarks/super_resolution.py."""

import json
from pathlib import Path

from tools.docs.parts import interval, table

__all__ = ["super_resolution"]

_ROWS = {
    "random": "`random` pairs", "real": "`real`: best coded pairs", "derived": "patches in one JPEG, pairs derived",
    "dm": "`dm`",
}  # fmt: skip


def super_resolution(root: Path) -> str:
    """A row for each set, beside bicubic interpolation and all patches."""
    path = root / "results" / "super_resolution.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    head: list[object] = ["set", "patches", "bytes", "PSNR, dB"]
    rows: list[list[object]] = [["none: bicubic", "", "", f"{held['bicubic']:.2f}"]]
    rows += [
        [name, f"{of['items']:,.0f}", f"{of['bytes']:,.0f}", interval(of["psnr"], 1, ".2f")]
        for key, name in _ROWS.items() if (of := held["rows"].get(key))
    ]  # fmt: skip
    rows.append(["all patches", f"{held['patches']:,}", "", f"{held['all']:.2f}"])
    about = (
        "Grey patches of 16 × 16 from seven photographs of scikit-image and scikit-learn, enlarged to twice the size; "
        f"{held['test']} patches of three other photographs are for testing. PSNR of all test pixels (peak 1): means "
        f"of {held['seeds']} sets with 95 % intervals (Student's t), each the mean of {held['students']} students of "
        "three convolutions, 300 updates. `random` and `dm` have 8 bits a value; the quality of the JPEG "
        f"({held['quality']}) is chosen on a held-out photograph. {held['machine']['processor']}, torch "
        f"{held['machine']['torch']}. `benchmarks/super_resolution.py`"
    )
    return f"{table(head, rows)}\n\n{about}"
