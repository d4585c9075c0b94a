"""Execute a resolved run: prepare its assets, run its steps, and build the distilled set."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.formatting import format_duration, format_estimate_words
from potstill._util.preset_words import describe_preset
from potstill._util.progress import Callback, ProgressReporter
from potstill._util.time_limit import TimeLimit
from potstill.codecs import Exact, Float, Uniform, decode, format_codec
from potstill.codecs.patches import Patches
from potstill.core import (
    Codec,
    Problem,
    ReplacesPayload,
    Result,
    Selection,
    Synthetic,
)
from potstill.core.nested import to_device
from potstill.data import column_metadata
from potstill.dataset_file import Contents, Distilled, Encoding, Provenance, Schema, build
from potstill.dataset_file.output import SetOutput
from potstill.dataset_file.replacing import hash_run
from potstill.dataset_file.shared_decoders import cache_decoder, hash_tensors
from potstill.dataset_file.text_io import charged_bytes
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import Candidate, Pair, choose_fewest_bits, estimate_search_seconds
from potstill.execution import Executor, resolve_executor
from potstill.execution.memory import return_freed_memory
from potstill.parametrize.multi_hot import MultiHot
from potstill.parametrize.nearest_text import NearestText
from potstill.parametrize.quantization_aware import QuantizationAware
from potstill.parametrize.rows import Rows
from potstill.pretraining import build_assets, estimate_time, required_assets
from potstill.pretraining.build import asset_context, hash_asset
from potstill.rng import generator
from potstill.runs.arguments import advise_shorter_run
from potstill.runs.budget import can_lose_inputs, coarsen_to_fit
from potstill.runs.class_shards import ShardedRun
from potstill.runs.coded_samples import largest_class, write_within
from potstill.runs.loggers import call_both, logging_context
from potstill.runs.loop import CheckpointOptions, LoopLimits, LoopResult, run_loop
from potstill.runs.presets import preset_metadata
from potstill.runs.real_texts import nearest_captions, nearest_text_contents, selected_contents, selected_windows
from potstill.runs.resolve import ResolvedRun, run_identity
from potstill.runs.set_parts import describe_assets, refine_patches
from potstill.runs.snapshots import SnapshotRecorder
from potstill.runs.spec import RunIO, RunLimits
from potstill.runs.stored_network import coarsen_tensors, trim_to_fit

__all__ = ["execute"]

_BITS_TRIED = (8, 6, 5, 4, 3, 2)
"""Bits that codec ``auto`` tries, from many to few."""
_PROVIDED: Mapping[str, Any] = {"given": True, "labels": False, "recipe": {}}
"""Metadata of assets that the user provided: they cannot be made again, so that they label no student."""
_MIN_TRIAL_STEPS = 20
"""Steps below which a run is shorter than the search for its bits."""
_WRITING, _SEARCHING = 0.02, 0.3
"""Fractions of a time limit that the steps leave: to write the set, and at most to search for its bits."""


def execute(
    run: ResolvedRun,
    limits: RunLimits,
    io: RunIO,
    reporter: ProgressReporter,
    *,
    output: SetOutput | None = None,
    keep_checkpoint: bool = False,
) -> Distilled:
    """Prepare, run and build a set. Errors as for `potstill.distill`.

    Args:
        limits: the time limit is of everything since its clock started: preparation, steps, and writing.
        io: ``snapshots``, ``checkpoint``, callbacks and loggers are used; writing to ``out`` is the caller's.
        reporter: shows what comes and how long it will take.
        output: where the set will be written; what is there is checked as soon as it is known what the run is of.
        keep_checkpoint: write the checkpoint also where the steps are reached.
    """
    with logging_context(io.log, lambda: _settings(run), reporter.warn) as (log_step, log_result):
        if log_step is not None:
            shown: Callable[[Any], None] = io.progress if callable(io.progress) else reporter
            io = dataclasses.replace(io, progress=call_both(shown, log_step))
        small = _Execution(run, limits, io, reporter).distil(output, keep_checkpoint)
        card = small.metadata
        log_result({
            "items": len(small), "bytes": card["bytes"]["total"], "seconds": card["cost"]["seconds"],
            "outcome": card["outcome"]["kind"],
        })  # fmt: skip
    return small


def _settings(run: ResolvedRun) -> dict[str, Any]:
    """Return what loggers are told before the first step."""
    train = run.problem.train
    fields: Mapping[str, Any] = dataclasses.asdict(run.method)  # type: ignore[call-overload]
    preset = preset_metadata(run.method, run.preset, run.changed)
    return {
        "method": run.name, "data": train.name, "data.hash": train.content_hash, "seed": run.seed,
        "items": sum(run.problem.counts), "preset": describe_preset(preset, fields),
        **{f"config.{name}": value for name, value in fields.items()},
    }  # fmt: skip


@dataclass(frozen=True)
class _Execution:
    """One execution of a run."""

    run: ResolvedRun
    limits: RunLimits
    io: RunIO
    reporter: ProgressReporter

    @cached_property
    def clock(self) -> TimeLimit | None:
        return self.limits.clock

    @cached_property
    def executor(self) -> Executor | None:
        return resolve_executor(self.io.executor)

    @cached_property
    def identity(self) -> dict[str, Any]:
        return run_identity(self.run)

    @property
    def count(self) -> Callback:
        return self.io.preparing or self.reporter.report_count

    def distil(self, output: SetOutput | None, keep_checkpoint: bool) -> Distilled:
        run, reporter, limit = self.run, self.reporter, self.clock
        for note in run.adjustments if reporter.command_line else ():  # before the work, which may take long
            reporter.note(note)
        started = time.monotonic()
        if run.scores is not None:
            self.identity["scores"] = hash_tensors(run.scores.columns_for(run.name, run.problem.train))
        if not run.provided_assets and (existing := self._existing(output)) is not None:
            return existing
        problem, preparation_seconds = self._prepare()
        spent = time.monotonic() - started if limit is None else limit.elapsed
        for name in run.provided_assets:
            self.identity[name] = hash_asset(problem.assets[name])
        if run.provided_assets and (existing := self._existing(output)) is not None:
            return existing
        metadata = self._run_metadata()
        decoders = {asset.name: problem.assets[asset.name] for asset in problem.decoder_assets}
        if decoders:
            self.identity["decoder"] = {name: hash_tensors(tensors) for name, tensors in decoders.items()}
            for tensors in decoders.values():
                self._cache_decoder(tensors)
        result = self._run_steps(problem, spent, keep_checkpoint)
        small = _SetBuilder(self, problem, result, metadata, round(preparation_seconds, 3)).build()
        if limit is not None and limit.exceeded:
            parts = {"before the first step": spent, f"{result.outcome.step:,} steps": result.seconds}
            parts["after the last"] = limit.elapsed - sum(parts.values())
            spans = ", ".join(f"{format_duration(max(0.0, seconds))} {name}" for name, seconds in parts.items())
            took, most = format_duration(limit.elapsed), format_duration(limit.seconds)
            reporter.warn(f"this took {took}, over the limit of {most}: {spans}")
        small.files = run.files
        return small

    def _existing(self, output: SetOutput | None) -> Distilled | None:
        """Return the set of this run where it lies at the output and was asked for."""
        return None if output is None else output.load_existing(self._run_metadata(), self.reporter.warn)

    def _run_metadata(self) -> dict[str, Any]:
        """Return the set's metadata of its run, and the hash by which the same run is recognised."""
        run, problem, identity = self.run, self.run.problem, self.identity
        limits = {"steps": self.limits.steps, "time_limit": None if self.clock is None else self.clock.seconds}
        codec = None if run.codec is None else format_codec(run.codec)
        on_card = ("initial", "own_files", "planned_bytes", "real_weights", "regularizer")
        return {
            "method": run.name, "config": identity["config"], "seed": identity["seed"],
            "ipc": max(problem.sizes) if problem.value_budget else problem.ipc,  # bytes buy inputs, not stored items
            "network": problem.network.name, "limits": limits, "source": {"hash": problem.train.content_hash},
            "run_digest": hash_run(
                identity, {"limits": limits, "class_shards": run.class_shards, "store": codec}
            ),
            "balance": run.balance,
            **({} if run.class_shards is None else {"class_shards": run.class_shards}),
            **{name: identity[name] for name in on_card if name in identity},
        }  # fmt: skip

    def _prepare(self) -> tuple[Problem, float]:
        """Return the problem with the assets that the method and the parametrization ask for, and their seconds."""
        run, problem, limit, reporter = self.run, self.run.problem, self.clock, self.reporter
        stored: dict[str, Any] = {}
        spent, wanted = 0.0, problem.decoder_assets
        if run.scores is not None:
            stored = {"scores": run.scores.columns_for(run.name, problem.train)}
            spent = run.scores.methods[run.name].seconds
        else:
            wanted = required_assets(run.method, problem)
        if not wanted:
            return problem.with_assets({**problem.assets, **stored}), spent
        started = time.monotonic()
        advice = advise_shorter_run(run.preset, run.method, prepares=True)
        reporter.begin("preparation", advice)
        augmentation = asset_context(problem).augmentation
        to_make = [asset for asset in wanted if asset.name not in run.provided_assets]
        forecasts = estimate_time(to_make, problem.train, problem.network, augmentation, self.executor)
        seconds = sum(f.seconds for f in forecasts)
        names = " and ".join(map(str, forecasts))
        if limit is not None and seconds > limit.remaining:
            raise PotstillError(
                f"{run.name} begins with {names}: {format_estimate_words(seconds)} on this machine, more than the time "
                f"limit of {format_duration(limit.seconds)}; ask for {advice}, or a longer time limit"
            )
        for f in forecasts:
            reporter.expect(f.name, f.seconds, f"{run.name} begins with {f}")
        assets, seconds = build_assets(
            wanted, problem.train, problem.network, augmentation, executor=self.executor, provided=run.provided_assets,
            progress=self.count,
        )  # fmt: skip
        if limit is not None and not limit.remaining:
            took, most = format_duration(time.monotonic() - started), format_duration(limit.seconds)
            raise PotstillError(
                f"{names} took {took}, the rest of the limit of {most}; they are stored, so the same command goes on "
                "from there"
            )
        return problem.with_assets({**stored, **assets}), spent + seconds

    def _cache_decoder(self, tensors: Mapping[str, Tensor]) -> None:
        """Keep what a set decodes by where a reader looks for it."""
        try:
            cache_decoder(tensors)
        except PotstillError as error:
            self.reporter.warn(
                f"what the set decodes by could not be kept, so reading it will need decoder=FILE: {error}"
            )

    def _run_steps(self, problem: Problem, spent: float, keep_checkpoint: bool) -> LoopResult[Any]:
        run, io, reporter = self.run, self.io, self.reporter
        recorder = None
        if io.snapshots is not None:
            recorder = SnapshotRecorder(
                Path(io.snapshots), run.method, problem, self.identity, resume=bool(io.resume), warn=reporter.warn
            )
        reporter.begin(run.name, advise_shorter_run(run.preset, run.method, prepares=False))
        checkpoint = None
        if io.checkpoint_path is not None:
            checkpoint = CheckpointOptions(
                path=io.checkpoint_path, every=self.limits.checkpoint_seconds, resume=bool(io.resume),
                force=io.resume == "force", keep=keep_checkpoint,
            )  # fmt: skip
        elif io.resume:
            raise PotstillError(
                "there is no unfinished run to resume, as no checkpoint was given; give it, or leave resume out"
            )
        result: LoopResult[Any]
        if run.class_shards is not None:
            sharded = ShardedRun(
                name=run.name, method=run.method, problem=problem, shards=run.class_shards, seed=run.seed,
                identity=self.identity, steps=self.limits.steps, checkpoint=checkpoint,
            )  # fmt: skip
            result = sharded.run(self.executor, self.count)
        else:
            limits = LoopLimits(
                steps=self.limits.steps, seconds=None if self.clock is None else self.clock.seconds, spent=spent,
                reserved=self._reserved_seconds(problem),
            )  # fmt: skip
            result = run_loop(
                run.method, problem, rng=generator(run.seed, "distill", run.name), identity=self.identity,
                limits=limits, checkpoint=checkpoint, progress=io.progress if callable(io.progress) else reporter,
                on_step=recorder,
            )  # fmt: skip
        if recorder is not None:
            recorder.last(result.outcome.step, result.state)
        return result

    def _reserved_seconds(self, problem: Problem) -> float:
        """Return the seconds of the time limit for what comes after the last step.

        Where not even the shortest search for bits fits into its fraction, the steps get that fraction, too.
        """
        if self.clock is None:
            return 0.0
        search = 0.0
        if self.run.codec is None:
            least, most = estimate_search_seconds(problem.train, problem.network, sum(problem.sizes))
            fraction = _SEARCHING * self.clock.seconds
            search = min(most, fraction) if least <= fraction else 0.0
        return _WRITING * self.clock.seconds + search


@dataclass(frozen=True)
class _SetBuilder:
    """Builds the distilled set from the last state: decoded, in data units, with metadata, written by the codec."""

    execution: _Execution
    problem: Problem
    loop: LoopResult[Any]
    metadata: Mapping[str, Any]
    preparation_seconds: float

    @cached_property
    def result(self) -> Result:
        return_freed_memory()  # the set is made in large pieces, which do not fit what steps have left behind
        result = self.execution.run.method.result(self.problem, self.loop.state)
        stored = self.problem.parametrization
        if isinstance(result, Synthetic) and isinstance(stored, ReplacesPayload):
            return dataclasses.replace(result, payload=stored.stored_payload(result.payload))
        return result

    def build(self) -> Distilled:
        run, reporter = self.execution.run, self.execution.reporter
        contents = self._contents()
        if run.codec is None:
            reporter.begin("storing")
            small = self._with_fewest_bits(contents)
            if "time limit" in (why := small.record.get("codec", {}).get("auto", {}).get("why", "")):
                reporter.note(f"the set is written as uint8: {why}; `codec=uint4` or a longer limit may halve it")
            return small
        try:
            whole = not contents[0].payload and not contents[1].encoded and can_lose_inputs(run.codec)
            if run.max_bytes is not None and (contents[0].index is not None or whole):
                write = partial(self._write_contents, contents[1], run.codec)
                train, counts = self.problem.train, self.problem.sizes
                return write_within(run.max_bytes, contents[0], train, write, reporter.note, counts)
            return self._within_budget(self._write(contents, run.codec), run.codec)
        except PotstillError as error:  # the steps are made: what this codec cannot write is kept as it is
            name = format_codec(run.codec)
            reporter.warn(f"the set is written as float32, because {name} cannot hold it: {error}")
            encoding = dataclasses.replace(contents[1], encoded={})
            return self._write((contents[0], encoding), Float(), {"instead_of": name, "why": str(error)})

    def _within_budget(self, small: Distilled, codec: Codec) -> Distilled:
        """Return the set in no more bytes than the budget's, where its codec can be coarser."""
        most, note = self.execution.run.max_bytes, self.execution.reporter.note
        if self.problem.starts_alone and isinstance(codec, Uniform) and isinstance(self.result, Synthetic):
            whole, values = self._contents(), self.result.payload
            return trim_to_fit(
                small, codec, most, lambda bits: self._write(coarsen_tensors(*whole, values, bits), codec), note
            )

        def write(codec: Codec) -> Distilled:
            rounding = self.problem.parametrization
            if isinstance(rounding, QuantizationAware):
                rounding = dataclasses.replace(rounding, codec=codec)
            coarse = dataclasses.replace(self, problem=dataclasses.replace(self.problem, parametrization=rounding))
            return coarse._write(coarse._contents(), codec)

        return coarsen_to_fit(small, codec, most, write, note)

    def _write_contents(self, encoding: Encoding, codec: Codec, contents: Contents) -> Distilled:
        return self._write((contents, encoding), codec)

    def _contents(self) -> tuple[Contents, Encoding]:
        """Return the tensors of the set, and how its payload is encoded and decoded."""
        result, problem, train = self.result, self.problem, self.problem.train
        if isinstance(result, Selection):
            return selected_contents(result, train, self.execution.run.codec), Encoding()
        if isinstance(real := problem.parametrization, NearestText):
            return nearest_text_contents(result, real, train), Encoding()
        with torch.no_grad():
            decoded = problem.decode(result.payload)
        inputs = decoded if result.space == "data" else train.normalization.invert(decoded)
        inputs = real.stored(inputs) if isinstance(real, Rows) else inputs
        inputs = real.stored(result.payload) if isinstance(real, MultiHot) else inputs
        payload, encoding = self._payload(result, decoded)
        if encoding.decoder is not None:
            provided = self.execution.run.provided_assets
            decoder = {**encoding.decoder, **describe_assets(problem.parametrization, problem, provided)}
            decoder |= {"counted": True} if self.execution.run.count_decoder else {}
            encoding = dataclasses.replace(encoding, decoder=decoder)
        labels = result.labels.detach().cpu()
        contents = Contents(
            inputs=to_device(inputs, "cpu"), labels=labels, payload=payload, learned=result.extra_parameters,
            scores=labels if result.centred_labels else None, encoder=getattr(train, "encoder", None),
        )  # fmt: skip
        return contents, encoding

    def _payload(self, result: Synthetic, decoded: Any) -> tuple[Mapping[str, Tensor], Encoding]:
        """Return the payload and its encoding; both empty for pixels, which are stored as inputs."""
        spelled = self.metadata["config"].get("parametrization") or "pixels"
        rounding, codec = self.problem.parametrization, self.execution.run.codec
        if (spelled == "pixels" or isinstance(rounding, MultiHot | Rows)) and not isinstance(
            rounding, QuantizationAware
        ):
            if not isinstance(codec, Patches) or not codec.refine:
                return {}, Encoding()
            refined = refine_patches(codec, decoded, result.space, self.problem, self.execution.run.seed)
            refined_as = {"parametrization": spelled, "space": "model"}
            return {"inputs": decode(refined)}, Encoding(encoded={"inputs": refined}, decoder=refined_as)
        payload = {n: t.detach().cpu() for n, t in result.payload.items()}
        decoder: dict[str, Any] = {"parametrization": spelled, "space": result.space}
        if self.problem.target_decoder is not None:
            decoder["targets"] = True
        if isinstance(rounding, QuantizationAware):
            encoded = rounding.encode_payload(payload)
            return rounding.quantized_payload(payload), Encoding(encoded=encoded, decoder=decoder)
        return payload, Encoding(decoder=decoder)

    def _write(
        self, values: tuple[Contents, Encoding], codec: Codec, metadata: Mapping[str, Any] | None = None
    ) -> Distilled:
        run, problem, loop, train = self.execution.run, self.problem, self.loop, self.problem.train
        from_metadata = (
            "balance", "initial", "limits", "class_shards", "own_files", "planned_bytes", "run_digest", "real_weights",
            "regularizer",
        )  # fmt: skip
        extra: dict[str, Any] = {
            "network": problem.network.name,
            "reading": dict(run.reading),
            "history": list(loop.history),
            "command": self.execution.io.command,
            "preset": preset_metadata(run.method, run.preset, run.changed),
            **{name: self.metadata[name] for name in from_metadata if name in self.metadata},
            **self._asset_metadata,
            **({"resumed_with_others": list(loop.changes)} if loop.changes else {}),
            "codec": {**(metadata or {}), **describe_assets(codec, problem)},
            "nearest_texts": nearest_captions(values[0], train),
        }
        contents, encoding = selected_windows(*values, train, codec)
        provenance = Provenance(
            method=run.name,
            config=dict(self.metadata["config"]),
            seed=run.seed,
            ipc=self.metadata["ipc"] if run.max_bytes is None else largest_class(contents, train, self.metadata["ipc"]),
            training=dict(run.method.info.training),
            source={"name": train.name, "samples": len(train), "hash": train.content_hash, "notes": list(run.notes)}
            | column_metadata(train),
            outcome=dataclasses.asdict(loop.outcome),
            cost={
                "seconds": round(loop.seconds, 3),
                "preparation_seconds": self.preparation_seconds,
                "steps": loop.outcome.step,
                "peak_memory": loop.peak_memory,
                "device": str(train.device),
            },
            extra=extra,
        )
        schema = Schema(classes=train.classes, input=train.input, normalization=train.normalization, task=problem.task)
        assets = {asset.name: to_device(problem.assets[asset.name], "cpu") for asset in problem.decoder_assets}
        encoding = dataclasses.replace(encoding, codec=codec, assets=assets)
        return build(contents, schema, provenance, encoding)

    @cached_property
    def _asset_metadata(self) -> dict[str, list[Mapping[str, Any]]]:
        """Metadata of the problem's assets: lists by name, such as ``teachers``."""
        entries: dict[str, list[Mapping[str, Any]]] = {}
        for asset in required_assets(self.execution.run.method, self.execution.run.problem):
            if asset.name in self.problem.assets:
                provided = _PROVIDED if asset.name in self.execution.run.provided_assets else {}
                on_card = asset.provenance(self.problem.assets[asset.name], asset_context(self.problem))
                for name, entry in on_card.items():
                    entries.setdefault(name, []).append({**entry, **provided})
        return entries

    def _with_fewest_bits(self, contents: tuple[Contents, Encoding]) -> Distilled:
        """Return the set in the fewest bits whose loss on a part of the training data cannot be told from none."""
        execution, problem, steps = self.execution, self.problem, self.loop.outcome.step
        is_selection = isinstance(self.result, Selection)
        exact = Exact() if is_selection else Float()
        if steps < _MIN_TRIAL_STEPS and not is_selection:
            why = f"not tried, as a run of {steps} steps is shorter than the trial"
            return self._write(contents, Uniform(bits=8), {"auto": {"chosen": "uint8", "why": why, "tried": []}})
        codecs = {format_codec(codec): codec for codec in (Uniform(bits=bits) for bits in _BITS_TRIED)}
        whole, device = self._write(contents, exact), problem.train.device

        def students_see(small: Distilled) -> tuple[Tensor, Tensor]:
            return small.model_space().to(device), small.labels.to(device)

        def pair(name: str) -> tuple[Pair, int]:
            small = self._write(contents, codecs[name])
            return students_see(small), charged_bytes(small.metadata["bytes"])

        limit = execution.clock
        chosen, said = choose_fewest_bits(
            students_see(whole), [Candidate(name=name, load=partial(pair, name)) for name in codecs], problem.train,
            problem.network, seed=execution.run.seed,
            weights=None if whole.sample_weight is None else whole.sample_weight.to(device), made_of=whole.index,
            executor=execution.executor, progress=execution.count,
            seconds=None if limit is None else (1 - _WRITING) * limit.remaining,
        )  # fmt: skip
        return self._write(contents, exact if chosen is None else codecs[chosen.name], {"auto": said})
