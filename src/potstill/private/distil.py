"""Make a private set: one release of the real data, and a run that sees the release alone."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from potstill._util.outputs import REPLACE_HINT
from potstill._util.progress import ProgressReporter
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.dataset_file import Distilled, load
from potstill.dataset_file.output import SetOutput
from potstill.dataset_file.replacing import read_metadata_unchecked
from potstill.errors import PotstillError
from potstill.private.accounting import Query
from potstill.private.covers import COVERS, check_run, check_source
from potstill.private.denoise import denoised_means
from potstill.private.matching import ASSET, PrivateMatching, PrivateValues
from potstill.private.options import PrivateOptions, parse_private
from potstill.private.public import PublicFacts, PublicRecords, public_facts
from potstill.private.release import (
    SPLIT,
    PrivateRelease,
    draw_release,
    plan_queries,
    read_release,
    request_of,
    write_release,
)
from potstill.runs.load_data import as_splits, pick_device
from potstill.runs.resolve import ResolvedRun, resolve_run
from potstill.runs.runner import execute
from potstill.runs.spec import RunIO, RunLimits, RunSpec

__all__ = ["METHOD", "distil_privately", "release_path"]

METHOD = "private"
"""Name of the method in the metadata."""


def release_path(checkpoint: Path) -> Path:
    """Return the file beside a checkpoint that keeps the release, so that it is never drawn again."""
    return checkpoint.with_name(f"{checkpoint.name}.release")


def distil_privately(
    spec: RunSpec, limits: RunLimits, io: RunIO, reporter: ProgressReporter, output: SetOutput | None
) -> Distilled:
    """Return a set with formal privacy.

    Args:
        spec: its ``private`` has ε and δ; choices that would touch real data otherwise are refused.
        limits: ``steps`` stops the matching, which costs no ε.
        io: with a checkpoint, the release lies beside it until the set is there.
        reporter: shows steps.
        output: where the set will also be written.

    Raises:
        PotstillError: a choice does not suit a private set, a fact is not public, or dp-accounting is not installed.
    """
    options = parse_private(spec.private)
    assert options is not None  # else the run is not private
    check_run(spec, limits, io)
    queries = plan_queries(options)  # the package that is missing is named before the data are read
    splits = as_splits(spec.data, pick_device("cpu"))
    records = public_facts(check_source(splits.train, splits.reading, options), options.public)
    request = request_of(options, records.facts, spec.seed, records.source.name)
    if (existing := _existing(output, request)) is not None:
        return existing
    release = _release(records, options, queries, spec, io, request)
    if io.checkpoint_path is not None and not io.checkpoint_path.exists():
        io = dataclasses.replace(io, resume=False)  # it was interrupted before its first checkpoint, or begins
    run = _resolved(spec, limits, records, release, splits)
    small = execute(run, limits, dataclasses.replace(io, log=None), reporter, output=output)
    _describe(small, release, records, options)
    if output is not None:
        output.write(small)
    if io.checkpoint_path is not None and output is not None:
        release_path(io.checkpoint_path).unlink(missing_ok=True)
    return small


def _existing(output: SetOutput | None, request: str) -> Distilled | None:
    """Return the set of the same choices where it lies at the output and is to be resumed; noise is not drawn again."""
    if output is None or not output.path.exists() or output.force:
        return None
    privacy = (read_metadata_unchecked(output.path) or {}).get("privacy")
    same = isinstance(privacy, dict) and privacy.get("request") == request
    if same and output.resume:
        return load(output.path)
    if output.resume or not same:
        raise PotstillError(f"{output.path}: holds the set of another run; {REPLACE_HINT}")
    raise PotstillError(
        f"{output.path}: holds a private set of these choices; another one would spend ε again, which adds to this "
        f"one's: keep it, or {REPLACE_HINT}"
    )


def _release(
    records: PublicRecords,
    options: PrivateOptions,
    queries: tuple[Query, ...],
    spec: RunSpec,
    io: RunIO,
    request: str,
) -> PrivateRelease:
    """Return the release beside the checkpoint of a run that is resumed, or a fresh one, written there first."""
    if io.checkpoint_path is None:
        return draw_release(records, options, spec.seed, queries)
    path = release_path(io.checkpoint_path)
    if path.exists():
        if not io.resume:
            raise PotstillError(
                f"{path}: the release of an interrupted run; drawing another would spend ε again: resume that run, or "
                "remove the file"
            )
        return read_release(path, request)
    release = draw_release(records, options, spec.seed, queries)
    write_release(path, release)
    return release


def _resolved(
    spec: RunSpec, limits: RunLimits, records: PublicRecords, release: PrivateRelease, splits: Splits
) -> ResolvedRun:
    """Return the run of the matching: its training split is what was released, so no real sample is in reach."""
    facts = records.facts
    means = denoised_means(release, facts)
    k, cells = means.shape[:2]
    released = TensorSource(
        name=records.source.name, input=facts.input, classes=facts.classes, normalization=facts.normalization,
        inputs=facts.unbound(means.flatten(0, 1)), labels=torch.arange(k).repeat_interleave(cells),
        columns=facts.columns, label_column=records.source.label_column,
    )  # fmt: skip
    own = dataclasses.replace(
        spec, data=Splits(train=released, test=None), method=PrivateMatching(), private=None, device="cpu",
        balance=None if spec.items is None else "equal",
        codec=spec.codec or ("uint8" if facts.input.kind == "image" else "float32"),
    )  # fmt: skip
    run = resolve_run(own, limits)
    values = PrivateValues(facts=facts, release=release, seed=spec.seed)
    return dataclasses.replace(
        run, name=METHOD, problem=run.problem.with_assets({ASSET: values}), files=splits.files, reading=splits.reading,
    )  # fmt: skip


def _describe(small: Distilled, release: PrivateRelease, records: PublicRecords, options: PrivateOptions) -> None:
    """Write into the metadata what is claimed, and take out what the accountant does not cover."""
    metadata, facts = small.metadata, records.facts
    source = metadata["source"]
    metadata["source"] = {n: v for n, v in source.items() if n != "hash"} | {"samples": release.records}
    metadata["cost"] = {n: v for n, v in metadata["cost"].items() if n != "peak_memory"}
    metadata["privacy"] = {
        "formal": True, **release.to_json(), "epsilon": options.epsilon, "accounted_epsilon": release.epsilon,
        "split": {
            "labeller": options.labeller, **{n: share * (1 - options.labeller) for n, share in SPLIT.items()},
        },
        "covers": [entry.to_json() for entry in COVERS], "public": _public_json(facts),
        "record": "one record of the training split as it was read; a person with several records is covered for each",
        "request": release.request,
    }  # fmt: skip


def _public_json(facts: PublicFacts) -> dict[str, Any]:
    ranges: dict[str, Any] = {}
    at = 0
    for column in facts.columns:
        ranges[column.name] = list(column.values) or [facts.low[at], facts.high[at]]
        at += len(column.names)
    return {
        "origin": facts.origin, "classes": list(facts.classes), "shape": list(facts.input.shape),
        **({"columns": ranges} if ranges else {}),
    }  # fmt: skip
