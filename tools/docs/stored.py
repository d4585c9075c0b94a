"""Tables of what bytes buy (benchmarks/bytes.py), and of what storing in few bits loses."""

import json
from pathlib import Path
from typing import Any

from potstill.evaluation.statistics import difference
from tools.docs.parts import interval, mean_and_half, table

__all__ = ["ahead", "bytes_of_data", "codecs", "each_store", "store_loss"]

_NAMES = {
    "fashion-mnist": "Fashion-MNIST",
    "photo-patches": "photo-patches",
    "letters": "letters",
    "mnist-5k": "MNIST-5k",
}
_REAL = ("random", "herding", "k-means", "centroids")


def _found(root: Path) -> dict[str, dict[str, Any]]:
    """Results by data set, in the order of the pages."""
    paths = {name: root / "results" / f"bytes-{name}.json" for name in _NAMES}
    return {name: json.loads(p.read_text(encoding="utf-8")) for name, p in paths.items() if p.exists()}


def _budgets(found: dict[str, Any]) -> dict[int, dict[str, dict[str, Any]]]:
    """Rows of each budget, by side."""
    made: dict[int, dict[str, dict[str, Any]]] = {}
    for row in found["cells"].values():
        made.setdefault(row["budget"], {})[row["side"]] = row
    return dict(sorted(made.items()))


def _rival(sides: dict[str, dict[str, Any]], names: tuple[str, ...] = _REAL) -> dict[str, Any]:
    """The side of real samples that is best on validation data."""
    return max((sides[n] for n in names if n in sides), key=lambda r: float(r["validation"]))


def _against(one: dict[str, Any], *others: dict[str, Any]) -> str:
    """The difference to the first of the others, bold where that to each of them lies above zero."""
    gaps = [difference(one["accuracy"]["values"], other["accuracy"]["values"]) for other in others]
    if gaps[0]["ci95"] is None:
        return f"{100 * gaps[0]['mean']:+.1f}"
    said = interval(gaps[0], 100, "+.1f")
    return f"**{said}**" if all(gap["ci95"] is not None and gap["ci95"][0] > 0 for gap in gaps) else said


def _size(budget: int) -> str:
    return f"{budget / 1024:g} kB"


def bytes_of_data(root: Path) -> str:
    """Accuracy of every side at every budget."""
    rows: list[list[object]] = []
    for name, found in _found(root).items():
        for budget, sides in _budgets(found).items():
            shown = [mean_and_half(sides[n]["accuracy"]) if n in sides else "—" for n in (*_REAL, "distilled")]
            others = [sides[n] for n in _REAL if n in sides]
            gap = _against(sides["distilled"], _rival(sides), *others) if "distilled" in sides else "—"
            rows.append([_NAMES[name], _size(budget), *shown, gap])
        if "full" in found:
            full = found["full"]
            said = f"all {full['items']:,}: {100 * full['accuracy']['mean']:.1f}"
            rows.append([_NAMES[name], f"{full['bytes'] / 1024:,.0f} kB", said, *["—"] * 5])
    if not rows:
        return "Nothing has been measured yet."
    return table(["data", "budget", "random", "herding", "k-means", "centres", "distilled", "lead"], rows)


def ahead(root: Path) -> str:
    """Distilled sets less each rival."""
    rows: list[list[object]] = []
    for name, found in _found(root).items():
        for budget, sides in _budgets(found).items():
            if "distilled" in sides:
                gaps = [_against(sides["distilled"], sides[n]) if n in sides else "—" for n in _REAL]
                rows.append([_NAMES[name], _size(budget), *gaps])
    if not rows:
        return "Nothing has been measured yet."
    return table(["data", "budget", "− random", "− herding", "− k-means", "− centres"], rows)


def _codec(row: dict[str, Any]) -> str:
    name, _, spelled = row["codec"].partition(":")
    settings = dict(part.split("=") for part in spelled.split(",") if part)
    bits = settings.get("bits", name.removeprefix("uint"))
    named = "lossless" if name == "exact" else f"{bits} bit{'s' * (bits != '1')}"
    size = {"half": {"2": ", half size", "4": ", quarter size"}[settings.get("factor", "2")]}.get(name, "")
    return named + size + ", rounded while it is made" * ("aware" in settings)


def codecs(root: Path) -> str:
    """What was chosen on validation data."""
    rows: list[list[object]] = []
    for name, found in _found(root).items():
        for budget, sides in _budgets(found).items():
            shown: list[object] = []
            for side in (*_REAL, "distilled"):
                row = sides.get(side)
                if row is None:
                    shown.append("—")
                    continue
                what = "" if side != "distilled" else f"`{row['maker']}` over `{row['over']}`, "
                shown.append(f"{what}{row['bytes']['items']:,} in {_codec(row)}")
            rows.append([_NAMES[name], _size(budget), *shown])
    if not rows:
        return "Nothing has been measured yet."
    return table(["data", "budget", "random", "herding", "k-means", "centres", "distilled"], rows)


def store_loss(root: Path) -> str:
    """What ``--codec auto`` loses against float32, by parametrization, and for soft labels."""
    path = root / "results" / "store_loss.json"
    found = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else {}
    if not found:
        return "Nothing has been measured yet."
    rows: list[list[object]] = [
        [
            f"`{name}`", row["n"], mean_and_half(row["float32"]), mean_and_half(row["stored"]),
            interval(row["loss"], 100, "+.2f"), ", ".join(row["stores"]), f"{row['bytes']:,}",
            f"1/{1 / row['ratio']:.1f}",
        ]
        for name, row in found.items()
    ]  # fmt: skip
    head: list[object] = [
        "what is stored", "sets", "float32, %", "`--codec auto`, %", "float32 − auto, points", "chosen", "bytes",
        "of float32",
    ]  # fmt: skip
    return table(head, rows)


def each_store(root: Path) -> str:
    """What each store loses against float32 (benchmarks/stores.py), after the fact and while the set is made."""
    path = root / "results" / "stores.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not found:
        return "Nothing has been measured yet."
    rows: list[list[object]] = [
        [
            f"`{name}`", f"{row['bytes']:,}", f"{row['coded']:,}", mean_and_half(row["accuracy"]),
            "" if name == "float32" else interval(row["loss"], 100, "+.1f"),
            "—" if row["error"] is None else f"{row['error'] ** 0.5:.3f}",
        ]
        for name, row in found["rows"].items()
    ]  # fmt: skip
    method, student, settings = found["method"], found["student"], found["settings"]
    sets = max(row["accuracy"]["n"] for row in found["rows"].values())
    said = (
        f"`{method['name']}` over pixels on {found['data']}, {method['ipc']} per class, {settings['steps']} steps with "
        f"`{method['network']}`; {sets} sets, {settings['students']} students each ({student['updates']} updates). "
        "Accuracy is on test pictures; the loss is float32 less this store, in points, paired by set. Both have 95 % "
        "intervals of Student's t over sets, which are wide where there are few. The error is the root of the mean "
        "square, of a pixel from 0 to 1; sets that were made for their bits are sets of their own and have none."
    )
    head: list[object] = ["store", "bytes", "entropy-coded", "accuracy, %", "loss, points", "error"]
    return f"{table(head, rows)}\n\n{said}"
