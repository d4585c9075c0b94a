"""The result of all cells: a row for each way and policy, differences from the set, and what they show."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.evaluation.statistics import difference, paired_difference, summary

__all__ = ["LABELS", "LOGGED", "conclude", "conclude_log"]

LABELS = {
    "set": "set", "random-pairs": "random pairs", "random-search": "best of random pairs",
    "policy-pairs": "pairs of a trained policy", "more-policy-pairs": "16 times as many of these",
    "policy": "the trained policy", "linear-policy": "a linear policy", "random-actions": "random actions",
}  # fmt: skip
"""Rows in order, with what they are called."""
LOGGED = {
    "set": "set", "random-logged": "random logged steps", "random-best": "random steps of the best episodes",
    "k-means": "medoids of the best episodes", "random-search": "best of random steps",
    "more-best": "16 times as many steps of the best", "clone-best": "cloning the best episodes",
    "clone-all": "cloning all of the log", "random-actions": "random actions",
}  # fmt: skip
"""Rows of a distillation of logged episodes."""
LOGGED_PAIRS = ("random-logged", "random-best", "k-means", "random-search")
PAIRS = ("random-pairs", "random-search", "policy-pairs")
"""Baselines with as many pairs."""
MODELS = ("policy", "linear-policy")


def conclude(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``rows``, a ``verdict`` and ``sentences`` of a result."""
    policies = result["settings"]["policies"]
    rows = _rows(result, LABELS)
    return {"rows": rows, **_verdict({row["name"]: row for row in rows}, policies[0])}


def conclude_log(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``rows``, a ``verdict`` and ``sentences`` of a distillation of logged episodes."""
    first, log = result["settings"]["policies"][0], result["log"]
    rows = _rows(result, LOGGED)
    by_name = {row["name"]: row for row in rows}
    opening, kind, beside = _beside_pairs(by_name, first, LOGGED_PAIRS)
    clone = max((by_name["clone-best"], by_name["clone-all"]), key=lambda r: r["returns"][first]["mean"])
    side = _side(clone["difference"])
    told = {
        "ahead": "better than", "behind": "worse than", "untested": "beside", "not told apart": "not told apart from",
    }  # fmt: skip
    sentences = [
        f"{log['name']}: {log['episodes']:,} episodes with a mean return of {log['mean_return']:.1f}, the best "
        f"{result['settings']['best']:.0%} of them {log['best_return']:.1f}.",
        opening, beside,
        f"{clone['label'].capitalize()} ({clone['items']:,} steps, {clone['bytes']:,} bytes) gives {first} "
        f"{clone['returns'][first]['mean']:.1f}: the set is {told[side]} it, {_points(clone['difference'])}.",
    ]  # fmt: skip
    return {"rows": rows, "verdict": {"kind": kind, "clone": side}, "sentences": sentences}


def _rows(result: Mapping[str, Any], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return rows, each but the first with its difference from that."""
    policies = result["settings"]["policies"]
    rows = [_row(result["cells"], name, policies, labels) for name in labels]
    base, first = rows[0], policies[0]
    for row in rows[1:]:
        policy = first if first in row["returns"] else next(iter(row["returns"]))
        row["difference"] = _difference(base["returns"][first], row["returns"][policy], base["n"] > 1)
    return rows


def _row(
    cells: Sequence[Mapping[str, Any]], name: str, policies: Sequence[str], labels: Mapping[str, str]
) -> dict[str, Any]:
    own = [c for c in cells if c["name"] == name]
    names = [p for p in policies if p in own[0]["returns"]] or list(own[0]["returns"])
    returns = {}
    for policy in names:
        students = [c["returns"][policy] for c in own]
        returns[policy] = summary([sum(s) / len(s) for s in students] if len(own) > 1 else students[0])
    row = {
        "name": name,
        "label": labels[name],
        "n": len(own),
        "returns": returns,
        "bytes": max(c["bytes"] for c in own),
    }
    if "items" in own[0]:
        row["items"] = own[0]["items"]
    if "steps" in own[0]:
        row["steps"] = round(sum(c["steps"] for c in own) / len(own))
    return row | {"seconds": round(sum(c["seconds"] for c in own) / len(own), 1)}


def _difference(a: Mapping[str, Any], b: Mapping[str, Any], by_set: bool) -> dict[str, Any]:
    """Return the difference with its interval: paired by seed if there are several sets, else over students."""
    return paired_difference(a["values"], b["values"]) if by_set else difference(a["values"], b["values"])


def _verdict(rows: Mapping[str, Mapping[str, Any]], policy: str) -> dict[str, Any]:
    opening, kind, beside = _beside_pairs(rows, policy, PAIRS)
    sentences = [opening, beside]
    model = max((rows[n] for n in MODELS), key=lambda r: _only(r)["mean"])
    model_kind = _side(model["difference"])
    sentences.append(
        f"{model['label'].capitalize()} of {model['bytes']:,} weights, evolved as long, has "
        f"{_only(model)['mean']:.1f}: "
        + (
            "the set is better even where one policy is enough."
            if model_kind == "ahead"
            else "where one policy is enough, keep that; a set trains policies of any form."
        )
    )
    return {"verdict": {"kind": kind, "model": model_kind}, "sentences": sentences}


def _beside_pairs(
    rows: Mapping[str, Mapping[str, Any]], policy: str, names: Sequence[str]
) -> tuple[str, str, str]:  # fmt: skip
    """Return a sentence on the set, its side of the best baseline with as many pairs, and a sentence on that."""
    base = rows["set"]
    mine = base["returns"][policy]["mean"]
    count = f"{base['items']} pair{'' if base['items'] == 1 else 's'}"
    over = [f"{p} {base['returns'][p]['mean']:.1f}" for p in base["returns"] if p != policy]
    opening = f"{count} in {base['bytes']:,} bytes teach {policy} a return of {mine:.1f}" + (
        f" (policies never seen: {', '.join(over)})." if over else "."
    )
    best = max((rows[n] for n in names), key=lambda r: r["returns"][policy]["mean"])
    kind = _side(best["difference"])
    named = f"the best other way to as many pairs ({best['label']}, {best['returns'][policy]['mean']:.1f})"
    told = {
        "ahead": f"They beat {named}", "behind": f"They are behind {named}", "untested": f"Beside {named} they have",
        "not told apart": f"They are not told apart from {named}",
    }  # fmt: skip
    return opening, kind, f"{told[kind]}: {_points(best['difference'])}."


def _only(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(iter(row["returns"].values()))


def _side(gap: Mapping[str, Any]) -> str:
    """Return on which side of a baseline the set is: ``ahead``, ``behind``, ``not told apart`` or ``untested``."""
    ci = gap["ci95"]
    if ci is None:
        return "untested"
    return "ahead" if ci[0] > 0 else "behind" if ci[1] < 0 else "not told apart"


def _points(gap: Mapping[str, Any]) -> str:
    ci: Sequence[float] | None = gap["ci95"]
    return f"{gap['mean']:+.1f}" + ("" if ci is None else f" (95% interval {ci[0]:+.1f} to {ci[1]:+.1f})")
