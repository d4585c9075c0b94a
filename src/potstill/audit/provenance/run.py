"""``audit_provenance``: was this set marked by a key, how many items prove it, and do models give it away?"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from scipy.special import ndtr, ndtri  # type: ignore[import-untyped]
from torch import nn

from potstill._util.audit_settings import ProvenanceSettings, with_changes
from potstill.audit.provenance.carrier import Carrier, Features, null_scores, read_features, read_secret, score
from potstill.audit.provenance.model import (
    ModelScore,
    Query,
    open_model,
    query_of,
    score_model,
    score_outputs,
)
from potstill.audit.result import Audit, AuditTable
from potstill.dataset_file import Distilled, load
from potstill.diagnostics import make_bench
from potstill.diagnostics.bench import Bench, Condition
from potstill.errors import PotstillError
from potstill.evaluation.fitting import network_from_metadata
from potstill.evaluation.student import train
from potstill.execution.memory import keep_freed_memory
from potstill.functional.sampling import sample_distinct
from potstill.nn import CustomNetwork, default_network_name, parse_network
from potstill.rng import generator
from potstill.runs.arguments import CountCallback, count_callback, progress_context
from potstill.runs.load_data import load_set_and_splits

__all__ = ["audit_provenance", "threshold"]

_RATE = 0.001
"""False-positive rate of a decision."""
_DRAWS = 100
"""Subsets of the set of each size."""
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_PROVEN = 0.95
"""Share of the subsets that must be recognised for a number of items to prove the origin."""


def threshold(carriers: int) -> float:
    """Return the lowest score of a key that counts as the marker: a standard normal score passes it in 0.1 %.

    Args:
        carriers: kinds of mark that are looked for; the rate is shared out among them.
    """
    return -float(ndtri(_RATE / carriers))


def audit_provenance(
    distilled: Distilled | str | Path,
    key: str | Path | bytes,
    settings: ProvenanceSettings = ProvenanceSettings(),  # a frozen value
    *,
    data: Any = None,
    model: str | Path | nn.Module | Query | None = None,
    network: str | CustomNetwork | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: CountCallback = "auto",
    **changes: Any,
) -> Audit:
    """Test if the owner of a key marked a set, or a set that a model was trained on.

    A z-test over the whole set, at a false-positive rate of 0.1 %: how many of the unmarked keys pass it is counted,
    and Hoeffding's bound of the probability holds for any set. Subsets of the set say how many items are enough.

    Args:
        distilled: a set, anybody's, or its path.
        key: the secret that the mark was made with, as for `potstill.audit.provenance.read_secret`.
        settings: numbers of unmarked keys, of students and their updates, and of queries.
        data: the real data, as `potstill.load_data` takes them, or splits: students of the set and of as many random
            real samples are tested too. Default: no students.
        model: a model to test, in evaluation mode: a module that takes the set's inputs in model space, or a
            safetensors file with the weights of ``network``. Of any other function, such as one that asks a service,
            the outputs alone are used: it takes pictures (n, c, h, w) in data units, clamped to their range, and
            returns logits or probabilities (n, classes). ``FILE.py:NAME`` takes either from a file.
        network: network of the students and of a model's file. Default: the one that the set was made with.
        seed: seed of every draw.
        device: ``auto``, ``cpu`` or ``cuda``, of the students.
        progress: callback ``progress(name, done, total)``; ``auto``: show it on stderr; ``None``: silent.
        changes: fields of ``settings`` by name, in place of theirs.

    Returns:
        The part ``provenance`` of an audit. ``values`` has ``score``, ``p``, ``bound``, ``null``, ``curve``, and
        ``models`` where there are any.

    Raises:
        PotstillError: the set has no values that can carry a mark, the key is no secret, there are too few keys,
            or the model does not fit the set.

    Examples:
        >>> small = potstill.distill("digits", "random", ipc=10, progress=None)
        >>> from potstill.audit.provenance import audit_provenance, mark
        >>> key = b"sixteen bytes at least"
        >>> [audit_provenance(s, key, progress=None).values["marked"] for s in (small, mark(small, key).distilled)]
        [False, True]
    """
    started = time.monotonic()
    keep_freed_memory()
    settings = with_changes(settings, changes)
    secret = read_secret(key)
    small = distilled if isinstance(distilled, Distilled) else load(distilled)
    features = read_features(small)
    with progress_context(progress) as watcher:
        report = count_callback(progress, watcher)
        values = _set_values(features, secret, settings.keys, seed)
        values["curve"] = _curve(features, secret, values["carrier"], seed) if values["marked"] else None
        models: dict[str, list[_Tested]] = {}
        test = _Test(small=small, features=features, secret=secret, settings=settings, seed=seed)
        if model is not None:
            models["the model"] = [test(open_model(model, lambda: _name(network, small), small))]
        if data is not None:
            bench_set, splits = load_set_and_splits(small, data, device)
            bench = make_bench(
                bench_set, splits, network=parse_network(network), students=settings.students, steps=settings.steps,
                seed=seed,
            )  # fmt: skip
            conditions = (bench.distilled_condition(), bench.random_condition())
            for n, condition in enumerate(conditions):
                label = ("students of the set", "students of as many random")[n]
                models[label] = _students(bench, condition, test, report)
    values["models"] = {name: [_model_values(one) for one in scores] for name, scores in models.items()}
    return Audit(
        part="provenance", sentence=_sentence(values), tables=_tables(values), notes=_notes(values, features),
        settings={**asdict(settings), "seed": seed, "rate": _RATE},
        values=values, seconds=time.monotonic() - started,
    )  # fmt: skip


def _name(network: str | CustomNetwork | None, small: Distilled) -> str:
    name = network or network_from_metadata(small) or default_network_name(small.input)
    if not isinstance(name, str):
        raise PotstillError("a file of weights is of a network with a name; give its name, or the model itself")
    return name


def _set_values(features: Features, secret: bytes, keys: int, seed: int) -> dict[str, Any]:
    """Return the key's scores, the unmarked keys', and what follows."""
    own = {carrier: score(features, secret, carrier) for carrier in features.carriers}
    null = {carrier: null_scores(features, seed, keys, carrier) for carrier in features.carriers}
    largest = [max(row) for row in zip(*null.values(), strict=True)]
    carrier: Carrier = max(own, key=lambda name: own[name])
    z, limit = own[carrier], threshold(len(own))
    every = torch.tensor([z for of in null.values() for z in of])
    return {
        "marked": z >= limit, "carrier": carrier, "score": z, "scores": own, "threshold": limit,
        "p": (1 + sum(other >= z for other in largest)) / (1 + keys), "bound": _bound(z, len(own)),
        "null": {
            "n": keys, "mean": float(every.mean()), "std": float(every.std()), "max": max(largest),
            "false_positives": sum(other >= limit for other in largest),
        },
    }  # fmt: skip


def _bound(z: float, carriers: int) -> float:
    """Return Hoeffding's bound of the probability of such a score for a key that made no mark."""
    return min(1.0, carriers * math.exp(-(max(z, 0.0) ** 2) / 2))


def _curve(features: Features, secret: bytes, carrier: Carrier, seed: int) -> dict[str, Any]:
    """Return by number of items how many subsets are recognised, the AUROC, and its exponent."""
    n, limit = len(features.values), threshold(len(features.carriers))
    rows = []
    for size in [*(s for s in _SIZES if s < n), n]:
        rng = generator(seed, "subsets", size)
        draws = 1 if size == n else _DRAWS
        scores = torch.tensor(
            [score(features.subset(sample_distinct(n, size, rng)), secret, carrier) for _ in range(draws)],
            dtype=torch.float64,
        )
        miss = float(torch.from_numpy(ndtr(-scores.numpy())).mean())
        rows.append({
            "items": size, "subsets": draws, "score": float(scores.mean()), "auroc": 1 - miss, "miss": miss,
            "recognised": float((scores >= limit).double().mean()),
        })  # fmt: skip
    useful = [(row["items"], -math.log(2 * row["miss"])) for row in rows if 1e-12 < row["miss"] < 0.5]
    squares = sum(items**2 for items, _ in useful)
    enough = [row["items"] for row in rows if row["recognised"] >= _PROVEN]
    return {
        "rows": rows, "exponent": sum(items * rate for items, rate in useful) / squares if squares else None,
        "proves": min(enough, default=None),
    }  # fmt: skip


class _Tested(NamedTuple):
    """Scores of one model, ``None`` of a test that needs more than the model gives."""

    gradients: ModelScore | None
    outputs: ModelScore


@dataclass(frozen=True, kw_only=True)
class _Test:
    """Both tests of a model."""

    small: Distilled
    features: Features
    secret: bytes
    settings: ProvenanceSettings
    seed: int

    def __call__(self, model: nn.Module | Query) -> _Tested:
        of = (self.small, self.features, self.secret, self.settings.keys, self.seed)
        queries = self.settings.queries
        if isinstance(model, nn.Module):
            asked = score_outputs(query_of(model, self.small), *of, queries=queries)
            return _Tested(score_model(model, *of), asked)
        return _Tested(None, score_outputs(model, *of, queries=queries))


def _students(bench: Bench, condition: Condition, test: _Test, report: Any) -> list[_Tested]:
    scores = []
    for n in range(bench.students):
        network = train(bench.job(condition.data_for(n), n)).cpu()
        report(f"students of {condition.name}", n + 1, bench.students)
        if all(bool(torch.isfinite(p).all()) for p in network.parameters()):
            scores.append(test(network))
    return scores


def _model_values(tested: _Tested) -> dict[str, Any]:
    """Return the better informed test's values, and those by the outputs alone."""
    outputs = _score_values(tested.outputs)
    of = outputs if tested.gradients is None else _score_values(tested.gradients)
    return of | {"by": "outputs" if tested.gradients is None else "gradients", "outputs": outputs}


def _score_values(scores: ModelScore) -> dict[str, Any]:
    z, null = scores
    limit = threshold(1)
    return {
        "score": z, "trained_on_it": z >= limit, "p": (1 + sum(other >= z for other in null)) / (1 + len(null)),
        "bound": _bound(z, 1), "false_positives": sum(other >= limit for other in null), "null_max": max(null),
        "null_std": float(torch.tensor(null).std()),
    }  # fmt: skip


def _sentence(values: dict[str, Any]) -> str:
    null, z = values["null"], values["score"]
    rate = f"{null['false_positives']:,} of {null['n']:,} unmarked keys pass {values['threshold']:.2f}"
    if not values["marked"]:
        said = f"No mark of this key is shown: its score is {z:.1f} (p = {values['p']:.2g}), and {rate}."
    else:
        said = (
            f"The owner of this key marked the set: its score is {z:.1f} by {values['carrier']}, p ≤ "
            f"{values['bound']:.1g} by Hoeffding's bound, and {rate}."
        )
        proves = values["curve"]["proves"]
        said += f" {proves:,} of its items prove it." if proves else ""
    for name, scores in values["models"].items():
        caught = sum(one["trained_on_it"] for one in scores)
        if name == "the model" and scores:
            answer = "was trained on it" if caught else "is not shown to be trained on it"
            said += f" The model {answer}: score {scores[0]['score']:.1f} by its {scores[0]['by']}, p ≤ "
            said += f"{scores[0]['bound']:.1g}."
        else:
            asked = sum(one["outputs"]["trained_on_it"] for one in scores)
            said += f" Of {name}, {caught} of {len(scores)} are recognised, by their outputs alone {asked}."
    return said


def _tables(values: dict[str, Any]) -> list[AuditTable]:
    tables = []
    if values["curve"] is not None:
        curve = [
            [f"{row['items']:,}", f"{row['subsets']:,}", f"{row['score']:.1f}", f"{row['auroc']:.3f}",
             f"{100 * row['recognised']:.0f} %"]
            for row in values["curve"]["rows"]
        ]  # fmt: skip
        tables.append(
            AuditTable(
                caption="Items that are enough: random subsets of the set",
                head=["items", "subsets", "mean score", "AUROC", "recognised"], rows=curve,
            )
        )  # fmt: skip
    rows = [
        [f"{name} ({n + 1})" if len(scores) > 1 else name, by, f"{of['score']:.1f}", f"{of['p']:.2g}",
         f"{of['bound']:.1g}", "yes" if of["trained_on_it"] else "not shown"]
        for name, scores in values["models"].items() for n, one in enumerate(scores)
        for by, of in (("gradients", one), ("outputs", one["outputs"])) if by == "outputs" or one["by"] == by
    ]  # fmt: skip
    if rows:
        tables.append(
            AuditTable(
                caption="Models: does the output of a class rise along its pattern?",
                head=["model", "by its", "score", "p by rank", "p by bound", "trained on it"], rows=rows,
            )
        )  # fmt: skip
    return tables


def _notes(values: dict[str, Any], features: Features) -> Sequence[str]:
    null, curve = values["null"], values["curve"]
    kinds = " and ".join(f"{z:.1f} by {carrier}" for carrier, z in values["scores"].items())
    notes = [
        f"Scores of the key: {kinds}. Those of {null['n']:,} unmarked keys have mean {null['mean']:.2f}, standard "
        f"deviation {null['std']:.2f} and maximum {null['max']:.1f}. A key counts from {values['threshold']:.2f} on, "
        f"which {100 * _RATE:g} % of unmarked keys reach if their scores are standard normal.",
    ]
    if curve is not None and curve["exponent"] is not None:
        notes.append(
            f"The AUROC of n items is about 1 − ½ exp(−{curve['exponent']:.2g} n): the exponent is fitted to the "
            "table, against a standard normal score of unmarked keys."
        )
    if "class" not in features.carriers:
        notes.append("A mark by item or by lattice is learned by no model, so models cannot be tested by it.")
    elif values["marked"] and values["carrier"] == "item" and values["models"]:
        notes.append("The set is marked by item, which no model learns.")
    notes.append(
        "A mark proves that its key touched the inputs, not who made the set first: a second owner can add a mark."
    )
    return notes
