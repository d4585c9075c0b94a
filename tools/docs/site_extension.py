"""Pages of the contracts for parts from other packages, one for each group of entry points, and of their checks."""

import importlib

from tools.docs.generated_page import GeneratedPage
from tools.docs.parts import table
from tools.docs.site_python import summary

__all__ = ["CONTRACTS", "extension_pages"]

MENU = ("Reference", "Extension")
CONTRACTS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "method": (
        "methods",
        ("core.Method", "core.MethodInfo", "core.Problem", "core.Selection", "core.Synthetic", "core.ScoringMethod",
         "core.StepCost"),
        "check_method",
    ),
    "parametrization": (
        "parametrizations", ("core.Parametrization", "core.RequiresAssets", "core.DecodeContext"),
        "check_parametrization",
    ),
    "codec": ("codecs", ("core.Codec", "core.ContextCodec", "core.Encoded"), ""),
    "augmentation": (
        "augmentations", ("core.Augmentation", "core.GeometricAugmentation", "core.TargetMovingAugmentation"),
        "check_augmentation",
    ),
    "network": ("networks", ("core.Network", "core.NetworkFactory", "nn.CustomNetwork"), "check_network"),
    "kind": ("kinds", ("kinds.Kind",), ""),
    "source": ("loaders", ("core.Source", "core.Batch", "core.InputSpec", "core.Normalization"), "check_source"),
    "task": ("tasks", ("tasks.Task", "tasks.Metric", "tasks.RaggedTask"), "check_task"),
    "protocol": ("protocols", ("evaluation.Protocol",), "check_protocol"),
    "executor": ("executors", ("execution.Executor",), ""),
}  # fmt: skip
"""For each page: the group of entry points, the classes of the contract, and the check in `potstill.testing`."""


def extension_pages() -> list[GeneratedPage]:
    """Return an index of the groups of entry points, a page for each contract, and one of the checks."""
    rows: list[list[object]] = [
        [
            f"`potstill.{group}`",
            f"[{name}]({name}.md)",
            f"[`{check}`](testing.md#potstill.testing.{check})" if check else "",
        ]
        for name, (group, _, check) in CONTRACTS.items()
    ]
    index = "\n\n".join([
        "# Extension",
        "A package adds parts by entry points. Each group has a contract, and `potstill.testing` has a check for most. "
        "[Write a method](../../extend/method.md) and [Write a kind of data](../../extend/kind-of-data.md) lead "
        "through an example.",
        table(["entry points", "contract", "check"], rows),
    ])  # fmt: skip
    pages = [GeneratedPage("reference/extension/index.md", "Extension", MENU, index + "\n")]
    for name, (group, classes, check) in CONTRACTS.items():
        pages.append(
            GeneratedPage(f"reference/extension/{name}.md", name.capitalize(), MENU, _page(name, group, classes, check))
        )
    return [*pages, GeneratedPage("reference/extension/testing.md", "Checks", MENU, _checks())]


def _page(name: str, group: str, classes: tuple[str, ...], check: str) -> str:
    tested = f" [`potstill.testing.{check}`](testing.md#potstill.testing.{check}) checks it." if check else ""
    lines = [f"# {name.capitalize()}", f"Contract of the entry points `potstill.{group}`.{tested}"]
    return (
        "\n\n".join([*lines, *(f"::: {_path(dotted)}\n    options:\n      heading_level: 2" for dotted in classes)])
        + "\n"
    )


def _path(dotted: str) -> str:
    """Return the full name of a class, in the module that defines it."""
    module, _, name = dotted.rpartition(".")
    found = getattr(importlib.import_module(f"potstill.{module}"), name)
    return f"{getattr(found, '__module__', f'potstill.{module}')}.{name}"


def _checks() -> str:
    testing = importlib.import_module("potstill.testing")
    names = [name for name in testing.__all__ if name != "ContractError"]
    rows: list[list[object]] = [[f"[`{n}`](#potstill.testing.{n})", summary(getattr(testing, n))] for n in names]
    shown = [f"::: potstill.testing.{name}\n    options:\n      heading_level: 2" for name in [*names, "ContractError"]]
    lead = "Checks for parts that you write. The tests of Potstill run them on everything that is registered."
    return "\n\n".join(["# Checks", lead, table(["check", "what it does"], rows), *shown]) + "\n"
