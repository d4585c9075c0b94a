"""Values, tables and the sentence of a robustness audit."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from potstill.audit.result import AuditTable
from potstill.audit.robustness.attacks import LARGE, Attack, AttackSettings, eps_text
from potstill.audit.robustness.corruptions import CORRUPTIONS
from potstill.audit.robustness.outliers import SCORES
from potstill.evaluation.samples import SampleScores
from potstill.evaluation.statistics import paired_difference, summary

if TYPE_CHECKING:
    from potstill.audit.robustness.run import StudentResult

__all__ = ["notes", "result_values", "sentence", "tables"]

NAMES = ("set", "random", "all data")
"""Training sets, in the order of columns."""
BEATEN, LEFT = 0.02, 0.05
"""Accuracy by which another attack may beat PGD, and that PGD may leave at a radius of 0.5."""


def result_values(
    results: Mapping[str, Sequence["StudentResult"]], labels: Tensor, settings: AttackSettings
) -> dict[str, Any]:
    """Return the results as JSON values."""

    def accuracies(right: Callable[["StudentResult"], Tensor]) -> dict[str, Any]:
        return _accuracies({name: [right(student) for student in results[name]] for name in NAMES})

    def scalars(value: Callable[["StudentResult"], float]) -> dict[str, Any]:
        return _scalars({name: [value(student) for student in results[name]] for name in NAMES})

    def strongest(student: "StudentResult") -> Tensor:
        return torch.stack([student.attacks[attack] for attack in settings.strongest]).all(0)

    tested = (*settings.white_box, *settings.further, settings.large)
    attacks = {attack: accuracies(lambda student, a=attack: student.attacks[a]) for attack in dict.fromkeys(tested)}  # type: ignore[misc]
    outliers = list(dict.fromkeys(of for of, _ in results["set"][0].auroc))
    return {
        "n": len(results["set"]), "clean": accuracies(lambda student: student.clean),
        "attacks": [{"attack": a.name, "norm": a.norm, "eps": a.eps, **part} for a, part in attacks.items()],
        "strongest": {"norm": "linf", "eps": settings.largest, **accuracies(strongest)},
        "kept": scalars(lambda student: float(strongest(student).sum()) / max(1, int(student.clean.sum()))),
        "masking": {name: _masking(attacks, settings, name) for name in NAMES},
        "corruptions": {
            **{name: accuracies(lambda student, c=name: student.corruptions[c]) for name in CORRUPTIONS},  # type: ignore[misc]
            "mean": scalars(
                lambda student: sum(float(right.double().mean()) for right in student.corruptions.values())
                / len(student.corruptions)
            ),
        },
        "ece": scalars(lambda student: student.ece),
        "ood": [
            {"outliers": of, "score": score, **scalars(lambda student, key=(of, score): student.auroc[key])}  # type: ignore[misc]
            for of in outliers for score in SCORES
        ],
    }  # fmt: skip


def _accuracies(right: Mapping[str, Sequence[Tensor]]) -> dict[str, Any]:
    """Return accuracies by training set, and those of the set minus the others, for new test pictures and students."""
    matrices = {name: torch.stack(list(of)).double().numpy() for name, of in right.items()}
    means = {name: matrix.mean(1).tolist() for name, matrix in matrices.items()}
    n = matrices["set"].shape[1]
    part: dict[str, Any] = {
        name: summary(means[name], n, 0.0, samples=SampleScores.from_matrix(matrix))
        for name, matrix in matrices.items()
    }
    part["difference"] = {
        other: paired_difference(
            means["set"], means[other], n, samples=SampleScores.from_matrix(matrices["set"] - matrices[other])
        )
        for other in NAMES[1:]
    }  # fmt: skip
    return part


def _scalars(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return values in [0, 1] by training set, and their differences, over students on these test pictures."""
    part: dict[str, Any] = {}
    for name, of in values.items():
        one = summary(of, low=0.0)
        part[name] = one | {"ci95": None if one["ci95"] is None else [one["ci95"][0], min(1.0, one["ci95"][1])]}
    part["difference"] = {other: paired_difference(values["set"], values[other]) for other in NAMES[1:]}
    return part


def _masking(attacks: Mapping[Attack, Mapping[str, Any]], settings: AttackSettings, name: str) -> dict[str, Any]:
    """Return what beats PGD at the largest radius, and what PGD leaves at a radius of 0.5."""
    pgd = attacks[Attack("pgd", "linf", settings.largest)][name]["mean"]
    left = attacks[settings.large][name]["mean"]
    beaten = [a.name for a in settings.strongest if attacks[a][name]["mean"] < pgd - BEATEN]
    return {"beaten_by": beaten, "left_at_large": left, "passed": not beaten and left <= LEFT}


def sentence(values: Mapping[str, Any], settings: AttackSettings) -> str:
    """Return the answer: set against as many random real samples under attack, beside accuracy without one."""
    part, clean, kept = values["strongest"], values["clean"], values["kept"]
    gap = part["difference"]["random"]
    side = 0 if gap["ci95"] is None else 1 if gap["ci95"][0] > 0 else -1 if gap["ci95"][1] < 0 else 0
    verdict = {
        1: "Students of the set are more robust than those of as many random real samples",
        -1: "Students of the set are less robust than those of as many random real samples",
        0: "Under attack, students of the set are not told apart from those of as many random real samples",
    }[side]  # fmt: skip
    said = (
        f"{verdict}: at L∞ {eps_text(settings.largest)}, {_points(part['set'])} % of the answers are right under "
        f"each of {len(settings.strongest)} attacks, and {_points(part['random'])} % "
        f"({_signed(gap)} points); without attack it is {_points(clean['set'])} and {_points(clean['random'])} % "
        f"({_signed(clean['difference']['random'])}). Of the right answers {_points(kept['set'])} and "
        f"{_points(kept['random'])} % stay right, after training on all data {_points(kept['all data'])} %."
    )
    failed = [name for name in NAMES if not values["masking"][name]["passed"]]
    if failed:
        said += f" The check for masked gradients fails for students of {_of(failed)}: {_reasons(values, failed[0])}."
    return said


def _of(names: Sequence[str]) -> str:
    words = {"set": "the set", "random": "as many real samples", "all data": "all data"}
    return " and of ".join(words[name] for name in names)


def _reasons(values: Mapping[str, Any], name: str) -> str:
    masking = values["masking"][name]
    reasons = [] if masking["left_at_large"] <= LEFT else [
        f"PGD leaves {100 * masking['left_at_large']:.1f} % at a radius of {LARGE:g}"
    ]  # fmt: skip
    if masking["beaten_by"]:
        reasons.append(f"PGD is beaten by {' and '.join(masking['beaten_by'])}")
    return " and ".join(reasons) + ", so that PGD alone says too much"


def tables(values: Mapping[str, Any], settings: AttackSettings) -> list[AuditTable]:
    """Return the tables."""
    head = ["the set", "as many random", "all data", "set minus random"]
    by_attack = {Attack(part["attack"], part["norm"], part["eps"]): part for part in values["attacks"]}
    largest = eps_text(settings.largest)
    attacked = [_row("none", values["clean"]), *(_row(a.text, by_attack[a]) for a in settings.white_box)]
    attacked += [
        _row(f"all {len(settings.strongest)}, L∞ {largest}", values["strongest"]),
        _row("right answers that stay right", values["kept"]),
    ]
    checks = [_row(a.text, by_attack[a]) for a in (*settings.further, settings.large)]
    checks.append(["passed", *("yes" if values["masking"][name]["passed"] else "no" for name in NAMES), ""])
    corrupted = [_row(name, part) for name, part in values["corruptions"].items()]
    known = [_row("calibration error (ECE)", values["ece"])]
    known += [_row(f"AUROC of {part['score']}, {part['outliers']}", part) for part in values["ood"]]
    return [
        AuditTable(caption="Accuracy in percent under attack", head=["attack", *head], rows=attacked),
        AuditTable(caption="Checks for masked gradients: accuracy in percent", head=["attack", *head], rows=checks),
        AuditTable(caption="Accuracy in percent on corrupted pictures", head=["corruption", *head], rows=corrupted),
        AuditTable(caption="Calibration and outliers, in percent", head=["", *head], rows=known),
    ]


def notes(
    values: Mapping[str, Any], settings: AttackSettings, samples: int, outliers: Mapping[str, int], diverged: int,
    full_steps: int, steps: int, adversary: str = "none",
) -> list[str]:  # fmt: skip
    """Return limits of the numbers."""
    said = [
        f"Intervals of 95 % are over {values['n']} students; of accuracies they hold for new test pictures, too, of "
        f"shares, calibration and AUROC on these {samples:,}. Differences are paired. All are of one set.",
        f"PGD: {settings.steps} steps; random search: {settings.queries} queries. Radii are in units of pixels in "
        "[0, 1]. Other attacks may find more; no number here is a guarantee.",
        f"Students of all data had {full_steps:,} updates, the others {steps:,}.",
        "Outliers: " + ", ".join(f"{name} ({n:,})" for name, n in outliers.items()) + ".",
    ]
    if adversary != "none":
        said.append(f"All students were trained on adversarial examples ({adversary}).")
    if diverged:
        said.append(f"{diverged} students diverged in a training set and were left out of all.")
    return said


def _row(name: str, part: Mapping[str, Any]) -> list[str]:
    return [name, *(_interval(part[of]) for of in NAMES), _signed(part["difference"]["random"])]


def _points(value: Mapping[str, Any]) -> str:
    return f"{100 * value['mean']:.1f}"


def _interval(value: Mapping[str, Any]) -> str:
    ends = value["ci95"]
    return _points(value) if ends is None else f"{_points(value)} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def _signed(value: Mapping[str, Any]) -> str:
    mean, *ends = (round(100 * end, 1) + 0.0 for end in (value["mean"], *(value["ci95"] or ())))  # 0.0: no −0
    return f"{mean:+.1f}" if not ends else f"{mean:+.1f} [{ends[0]:+.1f}, {ends[1]:+.1f}]"
