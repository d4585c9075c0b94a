"""The commands, one module each: options and code together. Only the module of the command at hand is imported."""

import importlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from potstill.cli.command import Command

__all__ = ["COMMANDS", "COMMAND_GROUPS", "command_class", "find_command"]

_GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Try it": {
        "demo": ("demo:Demo", "distil bundled digits, look at the result and make a page of it, in about 3 minutes"),
    },
    "Make a set": {
        "distill": ("distill:Distill", "make a small training set out of a large one"),
        "plan": ("plan:Plan", "estimate time, memory and size of a distillation before it starts"),
        "label": ("label:Label", "store a teacher's soft labels for every epoch and crop of a set"),
        "score": ("score:Score", "score every sample, to sort and to select by, in one parquet file"),
        "select-detection": ("select_detection:SelectDetection", "select a coreset of images with boxes (COCO, VOC)"),
        "import": ("import_set:Import", "read a set released by DC, DM, MTT, DATM, IDC, SRe2L or RDED"),
        "resample": ("resample:Resample", "draw other items, more or fewer, from a set that is a generator"),
        "materialize": ("materialize:Materialize", "turn the indices of a selection and its data into a set"),
    },
    "Measure it": {
        "evaluate": ("evaluate:Evaluate", "measure how well models train on a distilled set, and on its baselines"),
        "compare": ("compare:Compare", "rank several methods on your own data in a leaderboard"),
        "scaling": ("scaling:Scaling", "measure how much data a soft label replaces, as a law with its interval"),
        "diagnose": ("diagnose:Diagnose", "report copies, calibration, influence and more of a distilled set"),
        "active-learning": ("active_learning:ActiveLearning", "measure accuracy against the number of labels"),
    },
    "Put it to use": {
        "use search": (
            "use_search:UseSearch",
            "find the best network or setting by successive halving, or by a small set beside baselines",
        ),
        "use continual": (
            "use_continual:UseContinual",
            "measure memories of a continual learner at equal bytes: coded real samples, raw ones, distilled sets",
        ),
        "use federated": (
            "use_federated:UseFederated",
            "measure what clients that share no samples can send to a server: sets or models, by accuracy and bytes",
        ),
        "use deletion": (
            "use_deletion:UseDeletion",
            "delete records from a set exactly, or add some: only items that depend on them are made again",
        ),
        "use edge": (
            "use_edge:UseEdge",
            "train on a small device: a C header of few bits, a trainer in C, and baselines of the same bytes",
        ),
        "use control": (
            "use_control:UseControl",
            "distil a behaviour: a few pairs of a state and an action, found by returns in a simulator",
        ),
        "use augmentation": (
            "use_augmentation:UseAugmentation",
            "correct an augmentation's labels by validation data (SAFLEX), beside training on these data, too",
        ),
        "use transfer": (
            "use_transfer:UseTransfer",
            "pre-train on a small set of vectors, then fine-tune with few labels of other data, beside baselines",
        ),
        "use instructions": (
            "use_instructions:UseInstructions",
            "select prompts with responses for a target by gradients of a small language model (LESS), beside rivals",
        ),
    },
    "Trust it": {
        "audit": ("audit:AuditSet", "audit a set: run every part that applies, cheapest first"),
        "audit privacy": (
            "audit_privacy:AuditPrivacy",
            "measure what a set gives away of its records: copies, membership, and a lower bound of ε",
        ),
        "audit fairness": (
            "audit_fairness:AuditFairness",
            "measure whom a set serves badly, and if it amplifies a bias of the data",
        ),
        "audit screening": (
            "audit_screening:AuditScreening",
            "measure how well a set's students find one class: AUROC, and sensitivity at a fixed specificity",
        ),
        "audit robustness": (
            "audit_robustness:AuditRobustness",
            "measure what attacks, corruptions and outliers leave of the accuracy of a set's students",
        ),
        "audit poisoning": (
            "audit_poisoning:AuditPoisoning",
            "look for a trigger or wrong labels that somebody put into a set, or into the data it was made of",
        ),
        "audit provenance": (
            "audit_provenance:AuditProvenance",
            "test if a key marked a set, how many items prove it, and if a model was trained on it",
        ),
        "mark": ("mark:Mark", "add a keyed mark to a set, by which its owner can prove where it comes from"),
        "sign": ("sign:Sign", "sign files by a key, so that others can verify whom they are from"),
    },
    "Look at it and share it": {
        "report": ("report:Report", "make one page of scorecards, leaderboards and images"),
        "serve": ("report:Serve", "serve the page of a comparison on this machine while it runs"),
        "inspect": ("inspect:Inspect", "show metadata, tensors and sizes of a distilled set"),
        "verify": ("verify:Verify", "check that files of Potstill are complete and unchanged"),
        "export": (
            "export:Export",
            "write a set as png, npz, parquet, webdataset, C or for Hugging Face; a selection as files",
        ),
    },
    "List the choices": {
        "methods": ("listings:Methods", "list the methods, or the options of those named"),
        "protocols": ("listings:Protocols", "list the evaluation protocols"),
        "networks": ("listings:Networks", "list the networks"),
        "data": ("listings:Data", "list the known data sets, and the forms of your own"),
        "kinds": ("listings:Kinds", "list the kinds of input"),
        "tasks": ("listings:Tasks", "list the tasks"),
        "parametrizations": ("listings:Parametrizations", "list what can be stored and optimised"),
        "augmentations": ("listings:Augmentations", "list the augmentations"),
        "codecs": ("listings:Codecs", "list the ways to write values"),
    },
    "Set up": {
        "cache": ("verify:Cache", "list, verify or prune cached networks, trajectories and decoded files"),
        "completion": ("completion:Completion", "print a completion script for bash, zsh or fish"),
    },
}
_TARGETS = {name: target for group in _GROUPS.values() for name, (target, _) in group.items()}
COMMAND_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType({title: (*group,) for title, group in _GROUPS.items()})
"""Names of the commands, by the heading under which ``potstill --help`` lists them."""
COMMANDS: Mapping[str, str] = MappingProxyType(
    {name: about for group in _GROUPS.values() for name, (_, about) in group.items()}
)
"""One line about each command, by its name, of one word or of two."""


def find_command(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the command that a line begins with, of one word or of two, and the words after it.

    Raises:
        ValueError: there is none; the message has the nearest.
    """
    from potstill.errors import closest_names, suggestion

    pair, first = " ".join(words[:2]), words[0]
    if len(words) > 1 and " " not in first and pair in COMMANDS:
        return pair, words[2:]
    seconds = [name.partition(" ")[2] for name in COMMANDS if name.startswith(f"{first} ")]
    if first in COMMANDS and " " not in first:
        named = words[1] if len(words) > 1 and words[1].isalpha() else ""
        if seconds and closest_names(named, seconds):
            raise ValueError(f"no command {pair!r}; {suggestion(named, seconds, f'after {first} there are')}")
        return first, words[1:]
    if seconds and (len(words) < 2 or words[1].startswith("-")):
        raise ValueError(f"{first} needs a second word: {', '.join(seconds)}")
    if seconds:
        raise ValueError(f"no command {pair!r}; {suggestion(words[1], seconds, f'after {first} there are')}")
    if first[:1] == "-":
        raise ValueError(
            f"options stand after the command, but {first!r} comes first; {suggestion(first, COMMANDS, 'commands')}"
        )
    raise ValueError(f"no command {first!r}; {suggestion(first, COMMANDS, 'commands')}")


def command_class(name: str) -> "type[Command]":
    """Return the class of the command ``name``."""
    module, _, attribute = _TARGETS[name].partition(":")
    result: type[Command] = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    return result
