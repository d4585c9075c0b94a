"""``potstill use search``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataArgument, DataCommand, Flag, JobOptions, Misuse, Parsed, optional
from potstill.cli.option_types import Integers, Names
from potstill.cli.reading import load_data
from potstill.cli.text import Block, Table

__all__ = ["UseSearch"]


@dataclass(frozen=True, kw_only=True)
class UseSearch(JobOptions, DataCommand):
    """Find the best network or training setting for DATA, on a held-out part of the training data.

    Successive halving on the real data ranks the candidates. With --proxy, a small set or a score without training
    ranks them, and early stopping and random samples stand beside it at equal total compute. The same command again
    resumes where an interrupted one stopped.
    """

    data: DataArgument
    """The real data, with classes."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The folder for search.json, the page search.html and a file for each training."""
    networks: Annotated[Names | None, optional("NAME,...")] = None
    """Networks to compare (else ConvNets of all norms, activations and poolings, or MLPs for other data)."""
    candidates: Annotated[int | None, optional("N")] = None
    """Candidates to draw from all combinations (else 24 without --networks, all with it)."""
    widths: Annotated[Integers, arg(metavar="N,...")] = (8, 16, 32)
    """Widths of the networks, where none are named; 32,64,128,256 are the published ones."""
    depths: Annotated[Integers, arg(metavar="N,...")] = (1, 2, 3)
    """Depths of the ConvNets, where none are named; 1,2,3,4 are the published ones."""
    lr: Annotated[Names, arg(metavar="LR,...")] = ("0.002",)
    """Learning rates to combine with each network."""
    weight_decay: Annotated[Names, arg(metavar="F,...")] = ("0",)
    """Weight decays to combine."""
    augment: Annotated[Names, arg(metavar="NAME,...")] = ("none",)
    """Augmentations to combine."""
    proxy: Annotated[str | None, optional("NAME|FILE")] = None
    """Ranking by something else than training on real data: a set (FILE.safetensors), a method that makes one,
    hcdc (networks on a learned validation set), random:50, k-means:10 (each with @CODEC), grad-norm, operations or
    early."""
    ipc: Annotated[int, arg(metavar="N")] = 10
    """Items of each class of a method's set."""
    soft_labels: Flag = False
    """Give a method's set the soft labels of a teacher."""
    distill_steps: Annotated[int | None, optional("N")] = None
    """Largest number of steps of a method (else as many as --share allows)."""
    share: Annotated[float, arg(metavar="F")] = 0.5
    """Part of the proxy's compute that a method without --distill-steps may take."""
    updates: Annotated[int, arg(metavar="N")] = 300
    """Updates of a candidate: in the last round of halving, or on the proxy."""
    batch: Annotated[int, arg(metavar="N")] = 64
    """Samples of an update, at most."""
    validation: Annotated[float, arg(metavar="F")] = 0.2
    """Fraction of the training data that decides, at most 2,000 samples."""
    truth: Annotated[Path | None, optional("FILE")] = None
    """JSON or CSV with the true accuracy of every candidate by name, to measure the ranking."""
    train_all: Flag = False
    """Train all candidates fully, and measure the ranking against their test accuracy."""
    train_best: Flag = False
    """Train the best candidate fully, and report its test accuracy."""
    full_updates: Annotated[int | None, optional("N")] = None
    """Updates of full training (else ten times --updates)."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of everything random."""

    main_options: ClassVar[tuple[str, ...]] = (
        "out", "networks", "candidates", "lr", "weight_decay", "proxy", "updates", "train_all", "train_best", "seed",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Space": ("widths", "depths", "augment"),
        "Proxy": ("ipc", "soft_labels", "distill_steps", "share"),
        "Training": ("batch", "validation", "truth", "full_updates"),
    }
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ()}

    def check(self) -> None:
        _numbers(self.lr, "--lr")
        _numbers(self.weight_decay, "--weight-decay")
        if self.truth is not None and self.train_all:
            raise Misuse("--truth gives what --train-all measures; give one of them")
        if self.candidates is not None and self.candidates < 2:
            raise Misuse(f"--candidates must be at least 2, not {self.candidates}")

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.uses.search import default_networks, draw_candidates, parse_proxy, product, search

        splits = load_data(parsed, self.data, progress)
        networks = self.networks or default_networks(splits.train.input, self.widths, self.depths)
        space = product(
            networks, lr=_numbers(self.lr, "--lr"), weight_decay=_numbers(self.weight_decay, "--weight-decay"),
            augment=self.augment,
        )  # fmt: skip
        count = self.candidates or (None if self.networks else 24)
        arguments = self.arguments_for(search)
        arguments["candidates"] = draw_candidates(space, count, self.seed)
        if self.proxy is not None:
            arguments["proxy"] = parse_proxy(
                self.proxy, ipc=self.ipc, soft=self.soft_labels, steps=self.distill_steps
            )  # fmt: skip
        result = search(splits, progress=progress.report_count, **arguments)
        text = [*search_blocks(result), f"Page: {self.out / 'search.html'}"]
        return Answer({**result, "command": parsed.line}, text)


def _numbers(texts: Names, option: str) -> list[float]:
    try:
        return [float(text) for text in texts]
    except ValueError:
        raise Misuse(f"{option} needs numbers with commas between them, not {','.join(texts)!r}") from None


def search_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Return a search as text: the best candidates, rankings beside each other, and sentences."""
    from potstill.reports.search import interval, score

    main, rows, truth = result["rows"][0], result["rows"], result["truth"]
    names = [c["name"] for c in result["candidates"]]
    order = sorted(range(len(names)), key=lambda n: -main["scores"][n])[:5]
    shown = main.get("accuracies", main["scores"])
    best = [
        [names[n], score(main, shown[n]), *([f"{100 * truth[n]:.1f}%"] if truth else [])] for n in order
    ]  # fmt: skip
    head = ["ranking", "best", "updates", "operations", "seconds"]
    cells = [
        [r["name"], r["best"], f"{r['updates']:,}", f"{r['operations']:.2g}", f"{r['seconds']:.1f}",
         *([interval(r["tau"]), f"{100 * r['regret']:.2f}"] if truth else [])]
        for r in rows
    ]  # fmt: skip
    return [
        f"{result['source']}: {len(names)} candidates, the best by {main['name']}, scored on "
        f"{result['validation_samples']:,} held-out samples",
        Table(["candidate", "score", *(["truth"] if truth else [])], best), "",
        Table([*head, *(["tau [95%]", "regret"] if truth else [])], cells), "",
        *result["sentences"], *result["warnings"],
    ]  # fmt: skip
