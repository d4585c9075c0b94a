"""Pages of the families of methods: what they share, and a table of their methods."""

from typing import Any

from potstill.api.listing import list_methods
from tools.docs.generated_page import GeneratedPage
from tools.docs.method_pictures import file_of
from tools.docs.parts import table
from tools.docs.registry import FAMILIES, MENU, traits, with_links

__all__ = ["family_page", "family_pages"]

ABOUT = {
    "selection": (
        "These methods choose from your samples and change nothing in them. You can look up each item, send it back "
        "as a file and use it with any program. They take seconds to minutes, and every set that is made has to beat "
        "them. `potstill score` scores a data set once, and `--scores` selects from it at any size. [Which suits "
        "what](../benchmarks/selection.md) has the measured table."
    ),
    "gradient": (
        "These methods make samples on which a network gets the gradients that real samples give it. A step "
        "differentiates through a gradient, so steps are dear: plan hours or a GPU. In a minute "
        "[distributions](distribution.md) go further."
    ),
    "distribution": (
        "These methods make samples whose features lie where those of the real samples lie, in many networks. No "
        "gradient of a gradient is needed, so a step is one pass forward and back. They are the first choice for new "
        "samples."
    ),
    "decoupled": (
        "Train a [teacher](../reference/glossary.md) on the real data once, make pictures that it takes for real "
        "ones, and let it label them. These methods were made for large pictures of many classes, and their labels do "
        "most of the work. Compare them with real samples under the same labels: [whose code are made "
        "pictures](../benchmarks/labels.md) does."
    ),
    "trajectory": (
        "These methods make samples on which a student, starting at some point of an "
        "[expert's](../reference/glossary.md) training, ends where the expert is some epochs later. Experts are "
        "trained first, once, and stay in the cache; `--experts` reads published replay buffers. A step goes back "
        "through a student's training exactly, in the memory of one of its steps. Protocols `mtt` and `datm` train at "
        "the rate that is learned with the set."
    ),
    "performance": (
        "These methods lower the loss of a learner on real samples after it was trained on the set. Some unroll a "
        "student's training (`dd`, `ld`, `remember`, `rat-bptt`, `at-bptt`). Others have the learner's solution in "
        "closed form (`kip`, `frepo`, `rfad`, `rcig`); their labels can be scores (`--labels scores`), real numbers "
        "in which a hard label is one-hot − 1/k."
    ),
    "generative": (
        "These methods sample a class-conditional diffusion model: a small one that is trained on your data in a "
        "minute, or your own. Pictures are stored as pictures, so that a reader needs no model. Compare them with "
        "`diffusion-samples`, which does nothing more, and with real pictures in the same bytes: [sets from a "
        "diffusion model](../guides/diffusion.md) has both."
    ),
}
"""Text at the top of each family's page."""


def family_pages() -> list[GeneratedPage]:
    """Return a page for each family that has methods."""
    rows = list_methods(outside=False)
    return [
        GeneratedPage(f"methods/{name}.md", MENU[name], ("Methods",), family_page(name, mine))
        for name in FAMILIES
        if (mine := [row for row in rows if row["family"] == name])
    ]


def family_page(name: str, rows: list[dict[str, Any]]) -> str:
    """Return the Markdown of a family: a paragraph, and a table of its methods."""
    cells: list[list[object]] = []
    for row in rows:
        found = traits(row)
        link = f"[`{row['name']}`](../method/{file_of(row['name'])}.md)"
        when = with_links(row["use_when"], "../method/")
        cells.append(
            [link, row["summary"], when, found["labels"], found["works on"], found["trains first"]]
        )  # fmt: skip
    head: list[object] = ["method", "what it does", "when", "labels", "works on", "trains first"]
    words = {"gradient": "gradient matching", "distribution": "distribution matching, feature matching",
             "trajectory": "trajectory matching", "performance": "unrolling, bilevel"}  # fmt: skip
    head_matter = f"---\ntags: [{words[name]}]\nsearch:\n  boost: 3.5\n---\n\n" if name in words else ""
    return (
        f"{head_matter}# {FAMILIES[name]}\n\n{ABOUT[name]}\n\n{table(head, cells)}\n\n"
        "Next: [all methods](index.md) · [choose a method](../guides/choose-a-method.md) · "
        "[write your own](../extend/method.md)\n"
    )
