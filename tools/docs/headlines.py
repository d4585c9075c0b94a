"""Openings of the pages docs/benchmarks: the answer in three sentences, with numbers from results/.

Each function raises ValueError where a comparison that it states is not what the results say.
"""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from tools.docs import frontier
from tools.docs.choice import measured_grid, separable
from tools.docs.chosen import fair_gaps, repeated_gaps
from tools.docs.strong import SIZES, longest_cells

__all__ = ["OPENINGS", "opening"]

Sentences = tuple[str, ...]


def opening(root: Path, name: str) -> str:
    """Return the paragraph that opens a page: its answer first."""
    first, *rest = OPENINGS[name](root)
    return " ".join([f"**{first}**", *rest])


def _held(root: Path, name: str) -> Any:
    return json.loads((root / "results" / name).read_text(encoding="utf-8"))


def _true(holds: bool, claim: str) -> None:
    if not holds:
        raise ValueError(f"results/ do not say so any more: {claim}")


def _p(accuracy: dict[str, Any]) -> str:
    return f"{100 * accuracy['mean']:.1f} %"


def _points(value: dict[str, Any]) -> str:
    """A difference of fractions in points, with its interval."""
    low, high = value["ci95"]
    return f"{100 * value['mean']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def strong(root: Path) -> Sentences:
    cells = {key: longest_cells(root, *key) for key in SIZES}
    one, digit = cells["fashion-mnist", 1], cells["mnist", 1]
    best = SIZES["fashion-mnist", 1]
    _true(0 < best - 100 * one["ours"]["accuracy"]["mean"] < 1, "an hour ends within a point below the best published")
    _true(one["ours"]["accuracy"]["mean"] > one["two bits"]["accuracy"]["mean"], "ours leads at one a class")
    _true(digit["ours"]["accuracy"]["mean"] < digit["two bits"]["accuracy"]["mean"], "two bits lead on MNIST")
    later = [c for (_, n), c in cells.items() if n > 1]
    _true(
        all(c["ours"]["accuracy"]["mean"] < c["two bits"]["accuracy"]["mean"] for c in later), "two bits lead from ten"
    )
    _true(one["ours"]["seconds_asked"] == 3600, "an hour")
    return (
        f"An hour of one CPU core distils Fashion-MNIST to {_p(one['ours']['accuracy'])} in the bytes of one float32 "
        f"picture per class; the best published figure is {best:.1f} %.",
        f"Real pictures in 2 bits, in the same true bytes, give {_p(one['two bits']['accuracy'])} there, and "
        f"{_p(digit['two bits']['accuracy'])} on MNIST, where distilling gives {_p(digit['ours']['accuracy'])}.",
        "From ten pictures per class on, real pictures in 2 bits have the higher mean on both.",
    )


def bytes_(root: Path) -> Sentences:
    rows = [row for row in frontier.measured_rows(root) if row["k"] is not None]
    of = {row["budget"]: row for row in rows if row["data"] == "fashion-mnist"}
    made, real, model = (100 * fmean(v) for v in (of[4000]["made"]["accuracy"], of[4000]["real"],
                                                  of[4000]["model"]["accuracy"]))  # fmt: skip
    _true(model > made > real, "a model is ahead of the distilled set, and that of real samples")
    _true(
        0.8 < of[16000]["k"]["low"] < of[16000]["k"]["high"] < 1.5, "at 16 kB sets and real samples are near each other"
    )
    _true(of[40000]["k"]["high"] < 1, "at 40 kB real samples are ahead")
    ks = [f"{frontier.multiple(of[size]['k'])} at {size / 1000:g} kB" for size in (1000, 4000, 16000, 40000)]
    return (
        f"At 4 kB of Fashion-MNIST a distilled set has {made:.1f} %, the best coded real samples {real:.1f} %, and a "
        f"model in few bits, which needs no set, {model:.1f} %.",
        f"For the accuracy of a distilled set, real samples need k times its bytes: {', '.join(ks)}.",
        "A set had a minute of one core, and a generator half a minute before; at 16 kB both are near each other, and "
        "at 40 kB real samples are ahead.",
    )


def labels(root: Path) -> Sentences:
    held = _held(root, "labels.json")
    cells = {(c.get("top_k"), c.get("dtype"), c.get("pool")): c for c in held["accuracy"]["cells"]}
    few, whole, one = (cells[10, "float16", pool] for pool in (4, 80, 1))
    low, high = few["less_than_all"]["ci95"]
    _true(low < 0 < high, "four epochs are not told from eighty")
    _true(one["less_than_all"]["ci95"][1] < 0, "one epoch is below")
    teacher = held["imagenet"]["rows"][0]
    full = held["imagenet"]["published_bytes"]
    return (
        f"Storing labels for 4 of 80 epochs costs no accuracy that can be told, at "
        f"1/{whole['bytes'] / few['bytes']:.0f} of the bytes: {_points(few['less_than_all'])}.",
        f"Labels of one epoch cost {_points(one['less_than_all'])} (Fashion-MNIST, five sets).",
        f"For ImageNet-1K a teacher in 8 bits takes {teacher['bytes'] / 2**20:.1f} MiB, the published folder of labels "
        f"{full / 2**30:.1f} GiB; accuracy there is unknown.",
    )


def scaling(root: Path) -> Sentences:
    worth = {}
    for name in ("fashion-mnist", "mnist-5k"):
        worth[name] = {w["ipc"]: w for w in _held(root, f"knowledge/{name}/scaling.json")["worth"]}
    fashion, digits = worth["fashion-mnist"][10], worth["mnist-5k"][10]
    ones = [w[1] for w in worth.values()]
    _true(all(w["low"] is None and w["high"] > 1 for w in ones), "nothing is shown at one per class")
    _true(digits["high"] is None, "the interval on MNIST-5k is open")
    _true(fashion["stop"] < digits["stop"], "the best stop differs")
    return (
        f"Ten soft-labelled pictures per class are worth {fashion['value']:.1f} hard-labelled ones on Fashion-MNIST "
        f"[{fashion['low']:.1f}, {fashion['high']:.1f}], and {digits['value']:.1f} on MNIST-5k "
        f"[{digits['low']:.1f}, over 20].",
        "At one picture per class no gain is shown on either.",
        f"The best teacher was the one of {fashion['stop']} epoch on Fashion-MNIST, and of {digits['stop']} epochs on "
        "MNIST-5k.",
    )


def selection(root: Path) -> Sentences:
    names = ("digits-table", "fashion-mnist")
    right, wrong = ([_held(root, f"pruning/{name}-{noise}.json")["cells"] for name in names] for noise in ("0", "0.2"))
    cover = [
        c[f"{m} 0.1"]["over_random"] for c in right for m in ("herding", "k-means", "k-median", "facility-location")
    ]
    hard = [c[f"{m} 0.1"]["over_random"] for c in right for m in ("el2n", "grand", "entropy", "margin")]
    _true(all(v["ci95"][0] > 0 for v in cover), "coverage is above random at a tenth")
    _true(all(v["ci95"][1] < 0 for v in hard), "the hardest are below random at a tenth")
    kept = [c["el2n 0.1"]["wrong"] for c in wrong]
    _true(min(kept) > 0.95, "el2n keeps more than 95 % wrong labels")
    clean = [c[f"{m} 0.1"] for c in wrong for m in ("ccs", "graph-cut", "aum")]
    _true(all(c["over_random"]["ci95"][0] > 0 and c["wrong"] < 0.1 for c in clean), "three keep few wrong labels")
    lead = [100 * c["over_random"]["mean"] for c in clean]
    most = [v["over_random"]["mean"] for c in right for k, v in c.items() if k.endswith(" 0.6") and "over_random" in v]
    return (
        f"With a tenth kept and right labels, choices that cover the data beat random by "
        f"{100 * min(v['mean'] for v in cover):.0f} to {100 * max(v['mean'] for v in cover):.0f} points; choices of "
        f"hard samples lose {-100 * max(v['mean'] for v in hard):.0f} to {-100 * min(v['mean'] for v in hard):.0f}.",
        f"With a fifth of the labels wrong, `ccs`, `graph-cut` and `aum` keep under 10 % wrong ones and gain "
        f"{min(lead):.0f} to {max(lead):.0f} points; `el2n` keeps over 95 % wrong ones.",
        f"With 60 % kept and right labels, no method gains more than {100 * max(most):.1f} points or loses more than "
        f"{-100 * min(most):.1f}.",
    )


def speed(root: Path) -> Sentences:
    rows = _held(root, "speed.json")["rows"]
    plain = [r["published_over_ours"] for r in rows if r["what"] != "dm-reuse"]
    several = [r["published_over_ours"] for r in rows if r["what"] == "dm-reuse"]
    _true(min(plain) > 1, "every step is faster")
    same = _held(root, "amortised.json")["difference"]
    _true(same["ci95"][0] < 0 < same["ci95"][1], "eight steps with one network are not told from one")
    return (
        f"On a CPU, steps are {min(plain):.1f} to {max(plain):.1f} times as fast as in the published programs, with "
        "the same network and batch.",
        f"A DM step is {min(several):.0f} times as fast where eight share a network; the sets are not told apart.",
        "No figure on this page is from a GPU.",
    )


def robustness(root: Path) -> Sentences:
    held, fuzz = _held(root, "faults.json"), _held(root, "fuzz.json")
    parts = [held[part] for part in ("errors", "full", "kills")]
    total, same = (sum(part[key] for part in parts) for key in ("faults", "same"))
    _true(total == same and not sum(part["lost"] for part in parts), "all faults end in the same bits")
    _true(held["bits"]["noticed"] == held["bits"]["files"], "each turned bit is noticed")
    return (
        f"After each of {total} failed writes, full disks and kills, the same command again ended with the bits of an "
        "undisturbed run.",
        f"`potstill verify` noticed the one turned bit in each of {held['bits']['files']} files.",
        f"Of {fuzz['tried'] / 1e6:.1f} million damaged inputs, {fuzz['found']} kinds ended in neither a result nor one "
        "line; each has a test.",
    )


def published(root: Path) -> Sentences:
    files = sorted((root / "results" / "published_grid").glob("*.json"))
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    ours = [c for c in cells if c["published"] and c["method"] in ("dc", "dsa", "dm")]
    gaps = [100 * c["accuracy"]["mean"] - c["published"]["percent"] for c in ours]
    level = [c for c, gap in zip(ours, gaps, strict=True) if gap > 0]
    _true(all(c["ipc"] == 1 and c["data"] == "fashion-mnist" for c in level), "only at one a class of Fashion-MNIST")
    rows = _held(root, "time_to_accuracy.json")["rows"]
    tiles = rows["fashion-mnist, dm --steps-per-network 8 --parametrization tiles, 2700 s"]
    low, high = tiles["accuracy"]["ci95"]
    _true(low > 0.835 + 0.003 and high > 0.846 - 0.003, "tiles are above DM and level with DSA")
    return (
        f"Of {len(ours)} short runs of `dc`, `dsa` and `dm`, most of 150 seconds, {len(level)} reach the published "
        "accuracy, both at one picture per class of Fashion-MNIST.",
        f"The other {len(ours) - len(level)} end {-max(g for g in gaps if g <= 0):.1f} to {-min(gaps):.1f} points "
        "below.",
        f"In 45 minutes `dm` over tiles reaches {_p(tiles['accuracy'])} [{100 * low:.1f}, {100 * high:.1f}] on "
        "Fashion-MNIST at ten per class, above the 83.5 % that is published for DM.",
    )


def choice(root: Path) -> Sentences:
    cells, real = measured_grid(root)
    near, least, up, down = separable(cells, real)
    best = max(cells, key=lambda at: float(cells[at]["accuracy"]["mean"]))
    _true(best == ("m3d", "pixels") and up == 1, "one cell leads real samples")
    floor = max(float(r["accuracy"]["mean"]) for r in real.values())
    return (
        f"With forty seconds a set, {up} of {len(cells)} pairs of objective and parametrization beats k-means, the "
        f"best real samples: `m3d` over `pixels`, {_p(cells[best]['accuracy'])} against {100 * floor:.1f} %.",
        f"It cannot be told from {len(near)} other pairs, and {down} pairs are below k-means.",
        f"Means that differ by less than {least:.1f} points are not told apart here.",
    )


def automatic(root: Path) -> Sentences:
    gaps = repeated_gaps(root)
    means = [whole["mean"] for _, _, whole in gaps]
    every = [100 * gap.mean for _, several, _ in gaps for gap in several]
    worse = sum(gap.low > 0 for _, several, _ in gaps for gap in several)
    fair = fair_gaps(root)
    return (
        f"In a tenth of the time, `--method auto` ends {min(means):.1f} to {max(means):.1f} points behind the best of "
        "a full grid.",
        f"Single choices are {-min(every):.1f} points ahead to {max(every):.1f} behind; {worse} of {len(every)} are "
        "significantly worse.",
        f"Where other samples pick the grid's best, the mean gap is {min(fair):.1f} to {max(fair):.1f} points.",
    )


def codecs(root: Path) -> Sentences:
    rows = _held(root, "stores.json")["rows"]
    bits = [f"uint{n}" for n in (8, 4, 3, 2, 1)]
    _true(all(rows[name]["loss"]["ci95"][0] < 0 < rows[name]["loss"]["ci95"][1] for name in bits), "no loss is shown")
    told = [name for name, row in rows.items() if row["loss"]["ci95"] and row["loss"]["ci95"][0] > 0]
    _true(told == ["apot:bits=3", "uint1:aware=true", "uint1:aware=true,learned=true"], f"what loses: {told}")
    loss = _held(root, "store_loss.json")["rows"]
    _true(all(r["loss"]["ci95"][0] < 0 < r["loss"]["ci95"][1] for r in loss.values()), "auto loses nothing shown")
    largest = max(100 * rows[name]["loss"]["mean"] for name in told)
    return (
        f"Writing a set of digits in 8, 4, 3, 2 or 1 bits loses no accuracy that three sets can tell, from "
        f"{rows['uint8']['bytes']:,} bytes down to {rows['uint1']['bytes']:,}.",
        f"{len(told)} of {len(rows) - 1} codecs are shown to lose, {largest:.1f} points at most; two of them make the "
        "set for one bit.",
        f"`--codec auto` loses nothing that can be told over {len(loss)} parametrizations.",
    )


def data(root: Path) -> Sentences:
    own = _held(root, "own_data.json")["rows"]
    gains = [100 * row["difference"]["mean"] for row in own]
    _true(all(row["difference"]["ci95"][0] > 0 for row in own), "distilled is above random")
    ratio = _held(root, "decoded.json")["ratio"]
    runs = _held(root, "streaming.json")["runs"].values()
    peaks = [r["peak"] / 2**20 for r in runs]
    return (
        f"One distilled picture per class beats random ones of the same bytes by {min(gains):.0f} to "
        f"{max(gains):.0f} points on folders of digits, whatever the size of the files.",
        f"Loading a folder again takes 1/{ratio['next']:.0f} of the core seconds, as decoded pictures are kept.",
        f"Streaming {max(r['pictures'] for r in runs):,} pictures peaks at {min(peaks):.0f} to {max(peaks):.0f} MiB.",
    )


def recipes(root: Path) -> Sentences:
    rows = _held(root, "recipes.json")["rows"]
    order = sorted(rows, key=lambda name: -float(rows[name]["accuracy"]["mean"]))
    count = len({path.stem for path in (root / "recipes").glob("*.yaml")} - {"demo"})
    _true(order[0] == "dm", "dm leads")
    return (
        f"In the bytes of one picture per class, `dm.yaml` scores highest of {len(rows)} measured recipes: "
        f"{_p(rows['dm']['accuracy'])} on MNIST-5k, before `{order[1]}.yaml` with {_p(rows[order[1]]['accuracy'])}.",
        f"It takes {rows['dm']['core_seconds']:.0f} seconds of a core, a selection about "
        f"{fmean(rows[n]['core_seconds'] for n in ('herding', 'k-means', 'k-median')):.0f}.",
        f"The other {count - len(rows)} recipes have no score here.",
    )


OPENINGS: dict[str, Callable[[Path], Sentences]] = {
    "strong": strong, "bytes": bytes_, "labels": labels, "scaling": scaling, "selection": selection, "choice": choice,
    "automatic": automatic, "codecs": codecs, "data": data, "robustness": robustness, "speed": speed,
    "published": published, "recipes": recipes,
}  # fmt: skip
"""What opens each page, by its name."""
