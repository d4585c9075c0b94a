"""Learned validation sets beside their rivals: benchmarks/uses/hcdc.py."""

import json
from pathlib import Path

from tools.docs.parts import interval, table

__all__ = ["hcdc"]


def hcdc(root: Path) -> str:
    """A row for each problem and way, one for each box beyond the sampled one, and how it was measured."""
    path = root / "results" / "uses" / "hcdc.json"
    if not path.exists():
        return "Nothing has been measured yet."
    result = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = []
    outside: list[list[object]] = []
    for case in result["cases"]:
        for row in case["rows"]:
            rows.append([
                case["name"], row["way"], interval(row["spearman"], 1, ".2f"), f"{row['test_loss']['mean']:.4f}",
                f"{row['seconds']['mean']:.1f}",
            ])  # fmt: skip
        for row in case["outside"]:
            outside.append([case["name"], row["box"], row["way"], interval(row["spearman"], 1, ".2f")])
    sizes = "; ".join(
        f"**{case['name']}**: {case['about']} ({case['train']} real training, {case['held_out']} validation and "
        f"{case['test']} test samples; {case['small']} small training and {case['validation']} validation samples; "
        f"{case['points']} sampled settings, {case['unseen']} unseen ones, {case['n']} seeds)"
        for case in result["cases"]
    )
    text = (
        f"{sizes}. Spearman: agreement of the ranking of unseen settings with the validation loss of training on all "
        "real data, mean over seeds with a 95% t interval. Test loss: of the chosen setting, trained on all real "
        "training data. Seconds: of one core, for making and for all unseen settings. "
        f"{result['machine']['processor']}, one thread, torch {result['machine']['torch']}. "
        "`benchmarks/uses/hcdc.py`"
    )
    return "\n\n".join([
        table(["problem", "ranked by", "Spearman", "test loss", "seconds"], rows),
        "Beyond the sampled range:",
        table(["problem", "range", "ranked by", "Spearman"], outside), text,
    ])  # fmt: skip
