"""The result of all rankings: agreement with the truth, what each costs, and sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.uses.search.ranking import TOP, break_even, kendall_tau, regret, spearman_top, tau_difference

__all__ = ["conclude"]

WARNING = (
    "Short runs favour shallow and narrow networks and cannot see weight decay: settings that only pay in "
    "long training are ranked too low by every proxy here."
)


def conclude(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``rows`` with their best candidate and, where there is a truth, their agreement with it; ``best``,
    ``break_even``, ``sentences`` and ``warnings``.
    """
    names, truth = [c["name"] for c in result["candidates"]], result["truth"]
    rows = [_row(row, names, truth) for row in result["rows"]]
    main = rows[0]
    for row in rows[1:]:
        if truth is not None:
            row["difference"] = tau_difference([main["scores"]], [row["scores"]], truth)
    summary: dict[str, Any] = {"rows": rows, "best": main["best"]}
    if truth is not None and main["kind"] != "halving":
        summary["break_even"] = _break_even(rows, len(names))
    return {**summary, "sentences": _sentences(result, summary), "warnings": _warnings(result)}


def _row(row: Mapping[str, Any], names: Sequence[str], truth: Sequence[float] | None) -> dict[str, Any]:
    scores = row["scores"]
    at = max(range(len(scores)), key=lambda n: scores[n])
    made = {**row, "best": names[at], "constant": len(set(scores)) < 2}
    if truth is None:
        return made
    return {
        **made, "tau": kendall_tau([scores], truth), "regret": regret(scores, truth),
        "top": [t for k in TOP if (t := spearman_top(scores, truth, k)) is not None],
    }  # fmt: skip


def _break_even(rows: Sequence[Mapping[str, Any]], n: int) -> dict[str, Any]:
    main = rows[0]
    early = sorted(
        (r["operations"] / n, r["tau"]["value"] or 0.0) for r in rows if r["name"].startswith("early stopping")
    )  # fmt: skip
    making = main["making"]["operations"]
    return break_even(main["tau"]["value"] or 0.0, making, (main["operations"] - making) / n, early, n)


def _sentences(result: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    main, rows = summary["rows"][0], summary["rows"]
    n = len(result["candidates"])
    said = [
        f"The best by {main['name']} is {main['best']}, of {n} candidates, in "
        f"{main['operations']:.2g} operations ({main['seconds']:.1f} s)."
    ]
    if main["making"]["seconds"]:
        part = main["making"]["operations"] / main["operations"]
        said.append(f"Making the set took {main['making']['seconds']:.1f} s, {100 * part:.0f} % of that compute.")
    if result["truth"] is None:
        if len(rows) > 1:
            same = [r["name"] for r in rows[1:] if r["best"] == main["best"]]
            said.append(
                f"The same is the best by: {', '.join(same)}." if same else "It is the best by no other ranking here."
            )
            said.append("Which ranking is right, only full training of the candidates can say.")
    else:
        said.append(f"Regret of the choice: {100 * main['regret']:.2f} points.")
        rival = next((r for r in rows if r["name"] == "early stopping, equal compute"), None)
        if rival is not None and rival["difference"]["ci95"] is not None:
            low, high = rival["difference"]["ci95"]
            ends = f"(difference of tau, 95% interval {low:+.2f} to {high:+.2f}, paired over candidates)"
            verb = (
                "ranks better than" if low > 0 else
                "ranks worse than" if high < 0 else "is not told apart from"
            )  # fmt: skip
            said.append(f"At equal total compute, {main['name']} {verb} early stopping on all data {ends}.")
        if "break_even" in summary:
            said.append(f"The set pays {summary['break_even']['text']}.")
    if (full := result["full"]) is not None:
        said.append(
            f"Trained fully, {full['name']} has {100 * full['accuracy']:.1f} % on {full['test_samples']:,} test "
            "samples."
        )
    return said


def _warnings(result: Mapping[str, Any]) -> list[str]:
    summary = [WARNING]
    if left := result["left_out"]:
        summary.append(f"{len(left)} candidates do not take these data: {left[0]['reason']}")
    if str(result["settings"]["proxy"]).endswith(".safetensors"):
        summary.append("The set may have been made of the samples that decide, which flatters all candidates alike.")
    return summary
