"""``audit_robustness``: students of a set, of as many real samples and of all data, attacked and tested elsewhere."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill._util.audit_settings import RobustnessSettings, with_changes
from potstill.audit.result import Audit
from potstill.audit.robustness.attacks import (
    Attack,
    AttackSettings,
    answers,
    attack_student,
    forward_of,
    transferred,
)
from potstill.audit.robustness.autoattack import check_auto_attack
from potstill.audit.robustness.corruptions import CORRUPTIONS, corrupt
from potstill.audit.robustness.outliers import SCORES, auroc, shuffled_patches, uniform_noise
from potstill.audit.robustness.summary import notes, result_values, sentence, tables
from potstill.core import Source, Splits
from potstill.dataset_file import Distilled
from potstill.diagnostics import make_bench
from potstill.diagnostics.bench import Bench, Condition, TrainingData
from potstill.diagnostics.calibration import reliability
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import held_out_indices
from potstill.evaluation.student import train
from potstill.execution.memory import keep_freed_memory
from potstill.nn import CustomNetwork, parse_network
from potstill.rng import derive_seed, generator
from potstill.runs.arguments import CountCallback, count_callback, progress_context
from potstill.runs.load_data import as_splits, load_set_and_splits

__all__ = ["EPS", "EPS_L2", "StudentResult", "audit_robustness", "measure_students", "train_students"]

EPS, EPS_L2 = (2 / 255, 8 / 255), (0.5,)
"""Radii of L∞ and L2 that are usual for small pictures."""


def audit_robustness(
    distilled: Distilled | str | Path,
    data: Any,
    settings: RobustnessSettings = RobustnessSettings(),  # a frozen value
    *,
    eps: Sequence[float] = EPS,
    eps_l2: Sequence[float] = EPS_L2,
    ood: Any = None,
    network: str | CustomNetwork | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: CountCallback = "auto",
    **changes: Any,
) -> Audit:
    """Measure how much of the accuracy of a set's students is left under attack and on changed pictures.

    Students of three training sets meet the same test pictures: the set, as many random real samples with the same
    class shares (another draw for each student), and all training data. They are attacked by FGSM and PGD, and at the
    largest radius also by PGD on the margin of logits, by pictures made against students of the other training sets
    (transfer) and by random search. An answer counts as right under attack if it is right without one, too. Where one
    of the further attacks beats PGD, or PGD leaves right answers at a radius of 0.5, gradients are masked or PGD is too
    short, and the sentence says so. Beside the attacks: corruptions, the expected calibration error, and the AUROC of
    two scores that tell test pictures from outliers. Nothing is selected by the results.

    Args:
        distilled: a set, or its path.
        data: anything `potstill.load_data` takes or returns; the set's own reading options apply. Pictures.
        settings: attacks, number and training of the students.
        eps: radii of L∞ above 0 and at most 1, where pixels are in [0, 1].
        eps_l2: radii of L2, in the same units; may be empty.
        ood: data whose pictures belong to no class, of the same shape (their test part, if they have one). Default:
            uniform noise, and test pictures with shuffled patches.
        network: network of the students. Default: the one that the set was made with.
        seed: seed of every draw.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: callback ``progress(name, done, total)``; ``auto``: show it on stderr; ``None``: silent.
        changes: fields of ``settings`` by name, in place of theirs.

    Returns:
        The part ``robustness`` of an audit. ``values`` has ``clean``, ``attacks``, ``strongest``, ``kept``,
        ``masking``, ``corruptions``, ``ece`` and ``ood``.

    Raises:
        PotstillError: the data have no pictures, no classes or no test part, outliers have another shape, or a number
            is out of its range.

    Examples:
        >>> small = potstill.distill("digits", "random", ipc=1, progress=None)
        >>> from potstill.audit.robustness import audit_robustness
        >>> splits = potstill.load_data("digits")
        >>> audit = audit_robustness(small, splits, students=2, steps=5, full_steps=5, samples=50, progress=None)
        >>> sorted(audit.values["clean"])
        ['all data', 'random', 'set']
    """
    started = time.monotonic()
    keep_freed_memory()
    settings = with_changes(settings, changes)
    attacks = AttackSettings(
        eps=_radii("eps", eps, 1.0), eps_l2=_radii("eps_l2", eps_l2, math.inf), steps=settings.attack_steps,
        queries=settings.queries, seed=seed, autoattack=settings.autoattack,
    )  # fmt: skip
    if not attacks.eps:
        raise PotstillError("a robustness audit needs a radius of L∞ at least, but `eps=` is empty; give one")
    small, splits = load_set_and_splits(distilled, data, device)
    _check_data(splits)
    if settings.autoattack:
        check_auto_attack(len(splits.train.classes))
    strange = None if ood is None else _outliers(ood, splits.train, settings.samples, seed)
    bench = make_bench(
        small, splits, network=parse_network(network), eval_split="test", students=settings.students,
        steps=settings.steps, lr=settings.lr, seed=seed, most=settings.samples, adversary=settings.adversary,
    )  # fmt: skip
    x = _pictures(bench.eval_source, len(bench.eval_source))
    outliers = {
        "uniform noise": uniform_noise(x, generator(seed, "robustness", "noise")),
        "test pictures in shuffled patches": shuffled_patches(x, generator(seed, "robustness", "patches")),
    } if strange is None else strange  # fmt: skip
    with progress_context(progress) as watcher:
        bench = replace(bench, report=count_callback(progress, watcher))
        networks = train_students(bench, settings.full_steps)
        results = measure_students(bench, networks, x, attacks, outliers)
    values = result_values(results, bench.eval_source.labels, attacks)
    return Audit(
        part="robustness", sentence=sentence(values, attacks), tables=tables(values, attacks), values=values,
        notes=notes(values, attacks, len(x), {name: len(of) for name, of in outliers.items()},
                    settings.students - values["n"], settings.full_steps, settings.steps, settings.adversary),
        settings={
            **asdict(settings), "lr": bench.protocol.recipe.lr[0], "network": bench.make.name, "seed": seed,
            "test_samples": len(x), "eps": list(attacks.eps), "eps_l2": list(attacks.eps_l2),
            "outliers": {name: len(of) for name, of in outliers.items()},
        },
        seconds=time.monotonic() - started,
    )  # fmt: skip


def _radii(name: str, radii: Sequence[float], most: float) -> tuple[float, ...]:
    for radius in radii:
        if not 0 < radius <= most or math.isinf(radius):
            ends = "above 0 and at most 1" if most == 1 else "above 0 and finite"
            raise PotstillError(
                f"`{name}=` are radii {ends}, where pixels are in [0, 1], not {radius:g}; write 8/255 for 8 grey levels"
            )
    return tuple(sorted(set(radii)))


def _check_data(splits: Splits) -> None:
    train = splits.train
    if train.input.kind != "image" or train.input.parts:
        raise PotstillError(f"a robustness audit is of pictures, but {train.name} holds another kind, "
                            f"{train.input.kind or 'several inputs'}; give a set of pictures")  # fmt: skip
    if not train.classes:
        raise PotstillError(f"attacks are on the answers of classifiers, but {train.name} has no classes; give others")
    if splits.test is None:
        raise PotstillError(f"{train.name} has no test part, whose pictures are attacked; read it with one")


def _pictures(source: Source, most: int) -> Float[Tensor, "n c h w"]:
    """Return pictures in [0, 1], on the device of the source.

    Raises:
        PotstillError: some of their values are not in it.
    """
    x = source.raw(torch.arange(most))
    assert isinstance(x, Tensor)
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > 1:
        raise PotstillError(
            f"attacks move pixels within [0, 1], but those of {source.name} are between {low:g} and {high:g}; give "
            "pictures of 8 bits, or divide by the largest value"
        )
    return x


def _outliers(data: Any, train: Source, samples: int, seed: int) -> dict[str, Tensor]:
    """Return pictures of other data by their name."""
    splits = as_splits(data, train.device)
    source: Any = splits.train if splits.test is None else splits.test
    if source.input.kind != train.input.kind or source.input.shape != train.input.shape:
        raise PotstillError(
            f"outliers need the shape of the data, {'×'.join(map(str, train.input.shape))}, but `ood={source.name}` "
            f"has {'×'.join(map(str, source.input.shape)) or source.input.kind}; read it with `size=`, or give others"
        )
    if len(source) > samples:
        source = source.subset(held_out_indices(source, derive_seed(seed, "robustness", "ood"), max_samples=samples))
    return {source.name: _pictures(source, len(source))}


def train_students(bench: Bench, full_steps: int) -> dict[str, list[nn.Module]]:
    """Return the students of each training set, without the numbers of which one diverged.

    Raises:
        PotstillError: fewer than two are left.
    """
    every = bench.real.fetch(torch.arange(len(bench.real)))
    assert every.y is not None
    whole = TrainingData(x=every.x, y=every.y)
    full = replace(bench, protocol=bench.protocol.change(steps=(full_steps,)))
    conditions = (
        (bench, bench.distilled_condition()), (bench, bench.random_condition()),
        (full, Condition(name="all data", items=len(bench.real), data_for=lambda _: whole)),
    )  # fmt: skip
    trained: dict[str, list[nn.Module]] = {}
    for on, condition in conditions:
        jobs = [on.job(condition.data_for(n), n) for n in range(on.students)]
        trained[condition.name] = list(on.run(f"students of {condition.name}", train, jobs))
    complete = [n for n in range(bench.students) if all(_is_finite(of[n]) for of in trained.values())]
    if len(complete) < 2:
        raise PotstillError(
            f"{bench.students - len(complete)} of {bench.students} students diverged, and two have to remain; lower "
            "`lr=`"
        )
    return {name: [of[n] for n in complete] for name, of in trained.items()}


def _is_finite(network: nn.Module) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in network.parameters())


@dataclass(frozen=True, kw_only=True)
class StudentResult:
    """Right answers and scores of one student; tensors over test pictures, on the CPU."""

    clean: Tensor
    attacks: Mapping[Attack, Tensor]
    """True where an answer is right without and with the attack."""
    corruptions: Mapping[str, Tensor]
    ece: float
    auroc: Mapping[tuple[str, str], float]
    """AUROC by outliers and score."""


def measure_students(
    bench: Bench,
    networks: Mapping[str, Sequence[nn.Module]],
    x: Float[Tensor, "n c h w"],
    settings: AttackSettings,
    outliers: Mapping[str, Tensor],
) -> dict[str, list[StudentResult]]:
    """Return the results of every student, by training set.

    Args:
        networks: students by training set; those of one number share draws, and are attacked by each other's pictures.
        x: test pictures in [0, 1], of ``bench.eval_source``.
        outliers: pictures by name.
    """
    labels, normalization = bench.eval_source.labels, bench.eval_source.normalization
    changed = {name: corrupt(name, x, settings.seed) for name in CORRUPTIONS}
    source, (transfer,) = settings.strongest[1], (a for a in settings.further if a.name == "transfer")
    results: dict[str, list[StudentResult]] = {name: [] for name in networks}
    many = min(map(len, networks.values()))
    for n in range(many):
        forwards = {name: forward_of(of[n], normalization) for name, of in networks.items()}
        examples: dict[str, Tensor] = {}
        attacked: dict[str, dict[Attack, Tensor]] = {name: {} for name in networks}
        for done, (name, forward) in enumerate(forwards.items()):
            for attack, right, made in attack_student(forward, x, labels, settings, n):
                attacked[name][attack] = right
                if attack == source:
                    examples[name] = made
            bench.report("students attacked", n * len(networks) + done + 1, many * len(networks))
        for name, forward in forwards.items():
            logits = answers(forward, x)
            clean = logits.argmax(1) == labels
            attacked[name][transfer] = clean & transferred(forward, examples, name, labels)
            scores = {score: of(logits) for score, of in SCORES.items()}
            strange = {of: answers(forward, pictures) for of, pictures in outliers.items()}
            found = StudentResult(
                clean=clean, attacks=attacked[name], ece=reliability(logits.softmax(1), labels).ece,
                corruptions={c: answers(forward, pictures).argmax(1) == labels for c, pictures in changed.items()},
                auroc={(of, score): auroc(scores[score], SCORES[score](o))
                       for of, o in strange.items() for score in SCORES},
            )  # fmt: skip
            results[name].append(found)
    return results
