"""Sets of users: benchmarks/ratings.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import interval, table

__all__ = ["rating_findings", "ratings"]

_TITLES = {"ml-100k": "MovieLens-100k", "msweb": "MSWeb", "jester": "Jester"}
_LISTS, _REALS = "distill-cf, lists", "distill-cf, real numbers"


def ratings(root: Path) -> str:
    """A table for each set of interactions, a row for each way to make users."""
    path = root / "results" / "ratings.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    s = held["settings"]
    about = [
        f"nDCG@10 in percent, of {s['users']} users, or of as many as the bytes of another row hold.",
        "A row is of as many sets, each of another seed, as its column says, with the 95 % interval (Student's t)",
        "of their mean where they are several. One split; of each user 20 % are tested and 10 % choose, drawn at",
        "random. Real numbers have 8 bits; what is blank was not measured.",
        "Bytes are of lists or values, coded. MovieLens-100k is from the wheel recbole 1.2.1, MSWeb and Jester (5,000",
        f"users) from the R package recommenderlab 1.0.7. {held['machine']['processor']}, one thread, torch",
        f"{held['machine']['torch']}. `benchmarks/ratings.py`",
    ]
    return "\n\n".join([*(_block(part, s["learners"]) for part in held["data"] if part["rows"]), " ".join(about)])


def _block(part: Mapping[str, Any], learners: list[str]) -> str:
    head: list[object] = ["set", "sets", "users", "bytes", *learners, "coverage"]
    rows: list[list[object]] = [
        [
            row["row"], row["scores"][learners[0]]["nDCG@10"]["n"], f"{row['items']:,.0f}",
            f"{row['bytes']:,.0f}" if row["bytes"] else "",
            *(_score(row["scores"][n]["nDCG@10"]) for n in learners),
            f"{100 * row['scores'][learners[0]]['coverage']['mean']:.0f}",
        ]
        for row in part["rows"]
    ]  # fmt: skip
    rows.append([
        "all users", "", f"{part['users']:,}", "",
        *(f"{100 * part['all'][n]['nDCG@10']:.1f}" if n in part["all"] else "" for n in learners),
        f"{100 * part['all'][learners[0]]['coverage']:.0f}" if learners[0] in part["all"] else "",
    ])  # fmt: skip
    popular = part["popular"]
    rows.append(["popular items", "", "", "", f"{100 * popular['nDCG@10']:.1f}", *("" for _ in learners[1:]),
                 f"{100 * popular['coverage']:.0f}"])  # fmt: skip
    title = f"**{_TITLES[part['data']]}: {part['users']:,} users, {part['items']:,} items**"
    return f"{title}\n\n{table(head, rows)}"


def _score(of: Mapping[str, Any]) -> str:
    return interval(of, 100, ".1f") if of["n"] > 1 else f"{100 * of['mean']:.1f}"


def rating_findings(root: Path) -> str:
    """What lists, real numbers and real users give under the first learner, a line for each set of interactions."""
    path = root / "results" / "ratings.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    first, lines = held["settings"]["learners"][0], []
    for part in (part for part in held["data"] if part["rows"]):
        rows = {row["row"]: row for row in part["rows"]}
        words = [
            f"{name} {100 * rows[row]['scores'][first]['nDCG@10']['mean']:.1f} % ({rows[row]['bytes']:,.0f} bytes)"
            for name, row in (
                ("lists", _LISTS), ("real numbers", _REALS), ("random users in the bytes of lists",
                "random, bytes of lists"), ("medoids in these", "k-means, bytes of lists"),
                ("random users in the bytes of real numbers", "random, bytes of real numbers"),
            )
            if row in rows
        ]  # fmt: skip
        popular = 100 * part["popular"]["nDCG@10"]
        whole = f"{100 * part['all'][first]['nDCG@10']:.1f} %" if first in part["all"] else "not measured"
        gaps = [
            pair["difference"] for pair in part["pairs"]
            if (pair["row"], pair["other"], pair["learner"]) == (_LISTS, _REALS, first)
        ]  # fmt: skip
        gap = "".join(f" Lists less real numbers: {interval(each, 100, '+.1f')} points." for each in gaps)
        lines.append(
            f"- **{_TITLES[part['data']]}.** {', '.join(words)}; all users {whole}, popular items {popular:.1f} %.{gap}"
        )
    return "\n".join([f"nDCG@10 of `{first}`, {held['settings']['users']} fake users:", "", *lines])
