"""Sets of texts: descriptions of Debian packages, to be told apart by their section.

    python benchmarks/text.py [--ipc 1,5,10] [--seeds 3] [--students 3]
    python benchmarks/text.py --with-encoder        # results/text_encoder.json
    python benchmarks/text.py --short               # results/text_short.json: text-cnn, and vectors of tokens
    python benchmarks/text.py --show

The package index of the machine is read (``apt-cache dumpavail``): the twelve largest sections but those that name a
role (libs, libdevel, doc, devel), and each description once. Every cell is a file under ``--folder``, from which an
interrupted run goes on; the summary goes to ``results/text.json``. Nothing is chosen on the test part: methods have
their presets, learners their defaults, and ``real`` searches on held-out training texts.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

import potstill
from potstill.codecs.texts import Texts
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.data.train_test_overlap import text_key
from potstill.dataset_file import Contents, Distilled, Encoding, Provenance, Schema, build
from potstill.dataset_file.text_io import charged_bytes, texts_at
from potstill.evaluation.statistics import paired_difference, summary
from potstill.parametrize.nearest_text import NearestText

ROLES = ("libs", "libdevel", "doc", "devel")
INSIDE = {"parametrization": "nearest-text"}
SCORES = {"labels": "scores"}
ROWS: dict[str, dict[str, Any]] = {
    "random": {"method": "random"},
    "k-center": {"method": "k-center"},
    "herding": {"method": "herding"},
    "medoids": {"method": "k-means"},
    "dm, vectors": {"method": "dm"},
    "dm, nearest text afterwards": {"of": "dm, vectors"},
    "dm, text in the loop": {"method": "dm", **INSIDE},
    "frepo, vectors": {"method": "frepo"},
    "frepo, text in the loop": {"method": "frepo", **INSIDE},
    "kip, vectors": {"method": "kip", **SCORES},
    "kip, nearest text afterwards": {"of": "kip, vectors"},
    "kip, text in the loop": {"method": "kip", **SCORES, **INSIDE},
    "real, in the bytes of kip in the loop": {"method": "real", "bytes_of": "kip, text in the loop"},
    "real texts, in the bytes of kip in the loop": {
        "method": "real", "codec": "texts", "bytes_of": "kip, text in the loop"
    },
    "medoids, in the bytes of kip in the loop": {
        "method": "k-means", "balance": "equal", "bytes_of": "kip, text in the loop"
    },
}  # fmt: skip
"""Rows: how the set is made. The last ones have the bytes of another."""
LEARNERS = {"krr-ntk": 1, "linear-model": 1, "mlp": 3, "tfidf": 1, "text-cnn": 3}
"""Learners, and students where they draw."""
OF_TEXTS = ("tfidf", "text-cnn")
"""Learners that read texts."""
SHORT: dict[str, dict[str, Any]] = {
    "latent": {
        "rows": (
            "random", "medoids", "kip, text in the loop", "real texts, in the bytes of kip in the loop",
            "medoids, in the bytes of kip in the loop",
        ),
        "learners": ("linear-model", "tfidf", "text-cnn"),
        "ipc": 10,
    },
    "tokens": {
        "rows": (
            "random", "medoids", "frepo, vectors", "kip, text in the loop", "real, in the bytes of kip in the loop",
            "real texts, in the bytes of kip in the loop", "medoids, in the bytes of kip in the loop",
        ),
        "learners": ("linear-model", "mlp", "tfidf"),
        "ipc": 1,
    },
}  # fmt: skip
"""Rows, learners and texts per class of the short tables, by representation."""
ALL = "all data"
RIVALS = (
    "real, in the bytes of kip in the loop", "real texts, in the bytes of kip in the loop",
    "medoids, in the bytes of kip in the loop", "medoids", "random",
)  # fmt: skip


def descriptions() -> tuple[list[str], list[str]]:
    """Return texts and sections of the machine's package index."""
    listed = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    sections: dict[str, str] = {}
    for block in listed.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1].isalpha() and ": " in line)
        if "Section" in fields and fields.get("Description"):
            sections.setdefault(fields["Description"], fields["Section"].rpartition("/")[2])
    once = {text_key(text): text for text in sorted(sections, reverse=True)}.values()
    counts = Counter(sections[text] for text in once)
    kept = [name for name, _ in counts.most_common() if name not in ROLES][:12]
    texts = sorted(text for text in once if sections[text] in kept)
    return texts, [sections[text] for text in texts]


def nearest(small: Distilled, splits: Splits) -> Distilled:
    """Return the nearest real texts of a set of vectors, each of the class of its label, with the set's labels."""
    train = splits.train
    payload = {"inputs": small.model_space(), "classes": small.hard_labels}
    index = NearestText().bind(train).nearest(payload)
    contents = Contents(
        inputs=train.raw(index), labels=small.labels, scores=small.scores, captions=tuple(texts_at(train, index)),
        encoder=train.encoder,
    )  # fmt: skip
    schema = Schema(classes=train.classes, input=train.input, normalization=train.normalization)
    source = {"name": train.name, "samples": len(train), "hash": train.content_hash}
    provenance = Provenance(method=small.metadata["method"], ipc=small.metadata["ipc"], source=source)
    return build(contents, schema, provenance, Encoding(codec=Texts()))


def make(name: str, splits: Splits, ipc: int, seed: int, folder: Path, cells: Mapping[str, Any]) -> Distilled:
    """Return the set of a row, and keep it for rows that are made of it."""
    path, row = folder / f"{ipc}-{seed}-{name.replace(' ', '_')}.safetensors", dict(ROWS[name])
    if path.exists():
        return potstill.load(path)
    if "of" in row:
        small = nearest(make(row["of"], splits, ipc, seed, folder, cells), splits)
    else:
        size = {"bytes": cells[row.pop("bytes_of")]["bytes"]} if "bytes_of" in row else {"ipc": ipc}
        small = potstill.distill(splits, seed=seed, progress=None, device="cpu", executor="serial", **size, **row)
    small.save(path)
    return small


def score(small: Distilled, splits: Splits, learner: str, students: int, seed: int) -> float | None:
    """Return the mean test accuracy of a learner; ``None``: it reads texts, and the set has none."""
    if learner in OF_TEXTS and not small.captions:
        return None
    return potstill.evaluate(
        small, splits, networks=learner, seeds=students, seed=seed, baselines=False, full=False, progress=None,
        executor="serial", robust_scores=False, device="cpu",
    ).accuracy  # fmt: skip


def cell(
    splits: Splits, name: str, ipc: int, seed: int, args: argparse.Namespace, cells: Mapping[str, Any],
    learners: Sequence[str],
) -> Any:  # fmt: skip
    """Return one row of one seed, from its file or measured anew."""
    path = args.folder / f"{ipc}-{seed}-{name.replace(' ', '_')}.json"
    if path.exists():
        return json.loads(path.read_text())
    started = time.monotonic()
    small = make(name, splits, ipc, seed, args.folder, cells)
    made = time.monotonic() - started
    scores = {
        learner: score(small, splits, learner, args.students if LEARNERS[learner] > 1 else 1, seed)
        for learner in learners
    }
    found = {
        "bytes": charged_bytes(small.metadata["bytes"]), "parts": small.metadata["bytes"], "items": len(small),
        "codec": small.metadata["codec"]["name"], "scores": {n: s for n, s in scores.items() if s is not None},
        "seconds": round(made, 1),
    }  # fmt: skip
    path.write_text(json.dumps(found))
    return found


def full(splits: Splits, args: argparse.Namespace, learners: Sequence[str]) -> dict[str, float]:
    """Return the accuracy of each learner on all training texts."""
    path = args.folder / "full.json"
    if not path.exists():
        small = potstill.distill(splits, "random", ipc=1, seed=0, progress=None)
        found = {}
        for learner in learners:
            card = potstill.evaluate(
                small, splits, networks=learner, seeds=1, baselines=False, progress=None, executor="serial",
                device="cpu",
            ).to_dict()  # fmt: skip
            found[learner] = card["full"]["mean"]
        path.write_text(json.dumps(found))
    return dict(json.loads(path.read_text()))


def with_encoder(splits: Splits, args: argparse.Namespace) -> dict[str, Any]:
    """Return random real texts in the bytes of the encoder alone: as many as a set of vectors cannot do without.

    The texts are coded as sets of texts are (codec ``texts``), and a reader needs no encoder for them.
    """
    stored = potstill.distill(splits, "random", ipc=1, seed=0, progress=None).metadata["bytes"]
    size = int(stored["encoder"])
    found: list[dict[str, Any]] = []
    for seed in range(args.seeds):
        small = potstill.distill(
            splits, "random", bytes=size, codec="texts", seed=seed, progress=None, device="cpu", executor="serial"
        )
        accuracy = score(small, splits, "tfidf", 1, seed)
        assert accuracy is not None
        found.append({"items": len(small), "bytes": charged_bytes(small.metadata["bytes"]), "tfidf": accuracy})
        print(found[-1], flush=True)
    return {
        "machine": machine(), "encoder": size, "train": len(splits.train), "seeds": args.seeds,
        "items": sum(c["items"] for c in found) / len(found), "bytes": sum(c["bytes"] for c in found) / len(found),
        "tfidf": part([c["tfidf"] for c in found]),
    }  # fmt: skip


def part(values: list[float]) -> dict[str, Any]:
    """Return mean and interval of accuracies."""
    found = summary(values)
    ends = found["ci95"]
    return found | {"ci95": None if ends is None else [max(0.0, ends[0]), min(1.0, ends[1])]}


def measure_part(
    splits: Splits, ipc: int, names: Sequence[str], learners: Sequence[str], args: argparse.Namespace
) -> dict[str, Any]:
    """Return the rows of one number of texts per class, and paired differences."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in range(args.seeds):
        cells: dict[str, Any] = {}
        for name in names:
            cells[name] = cell(splits, name, ipc, seed, args, cells, learners)
            found[name].append(cells[name])
            print(ipc, seed, name, cells[name], flush=True)
    rows = [
        {
            "row": name, "bytes": sum(c["bytes"] for c in of) / len(of), "items": of[0]["items"],
            "codecs": sorted({c["codec"] for c in of}), "seconds": sum(c["seconds"] for c in of) / len(of),
            "scores": {
                n: part([c["scores"][n] for c in of])
                for n in of[0]["scores"]
                if all(n in c["scores"] for c in of)
            },
        }
        for name, of in found.items()
    ]  # fmt: skip
    pairs = [
        {"row": row, "other": other, "learner": learner, "difference": paired_difference(
            [c["scores"][learner] for c in found[row]], [c["scores"][learner] for c in found[other]]
        )}
        for row in ("kip, text in the loop", "frepo, vectors", "dm, vectors") if row in found
        for other in RIVALS if other in found
        for learner in learners if learner != "krr-ntk"
        if all(learner in c["scores"] for name in (row, other) for c in found[name])
    ]  # fmt: skip
    return {"ipc": ipc, "rows": rows, "pairs": pairs}


def short(data: tuple[list[str], list[str]], args: argparse.Namespace) -> dict[str, Any]:
    """Return the short tables: another learner of texts, and another representation."""
    parts, folder = [], args.folder
    for representation, of in SHORT.items():
        args.folder = folder / f"short-{representation}"
        args.folder.mkdir(parents=True, exist_ok=True)
        splits = potstill.load_data(data, representation=representation)
        assert isinstance(splits.train, TensorSource)
        assert splits.train.encoder is not None
        assert splits.test is not None
        tests = len(splits.test)
        one = measure_part(splits, of["ipc"], of["rows"], of["learners"], args)
        sizes = potstill.distill(splits, "random", ipc=1, seed=0, progress=None).metadata["bytes"]
        parts.append({
            "representation": splits.train.encoder.name, "encoder": sizes["encoder"],
            "full": full(splits, args, of["learners"]), **one,
        })  # fmt: skip
    return {
        "settings": {"seeds": args.seeds, "students": args.students}, "machine": machine(), "train": len(splits.train),
        "test": tests, "classes": list(splits.train.classes), "texts": digest(data), "parts": parts,
    }  # fmt: skip


def digest(data: tuple[list[str], list[str]]) -> str:
    """Return the hash of texts and labels."""
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    print(f"{result['train']:,} training and {result['test']:,} test texts in {len(result['classes'])} classes")
    for block in result["parts"]:
        every = block.get("full") or result["full"]
        names = [n for n in LEARNERS if any(n in row["scores"] for row in block["rows"])]
        print(
            f"\n{block['ipc']} per class {block.get('representation', '')}\n{'':40}{'bytes':>8}"
            + "".join(f"{n:>20}" for n in names)
        )
        for row in block["rows"]:
            shown = []
            for name in names:
                found = row["scores"].get(name)
                text = "" if found is None else f"{100 * found['mean']:.1f}"
                text += f" ({100 * found['std']:.1f})" if found and found["std"] is not None else ""
                shown.append(f"{text:>20}")
            print(f"{row['row']:40}{row['bytes']:8,.0f}" + "".join(shown))
        for pair in block["pairs"]:
            gap = pair["difference"]
            ends = "" if gap["ci95"] is None else " [{:+.1f}, {:+.1f}]".format(*(100 * e for e in gap["ci95"]))
            print(f"  {pair['learner']}: {pair['row']} minus {pair['other']}: {100 * gap['mean']:+.1f}{ends}")
        print(f"{ALL:48}" + "".join(f"{100 * every[n]:20.1f}" for n in names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ipc", default="1,5,10")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/text"))
    parser.add_argument("--out", type=Path, default=Path("results/text.json"))
    parser.add_argument("--with-encoder", action="store_true", help="measure real texts in the encoder's bytes alone")
    parser.add_argument(
        "--short", action="store_true", help="measure text-cnn at 10 per class, and vectors of tokens at 1"
    )
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    out = args.out.with_name("text_short.json") if args.short else args.out
    if args.show:
        show(json.loads(out.read_text()))
        return
    args.ipc = [int(n) for n in args.ipc.split(",")]
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    data = descriptions()
    if args.short:
        result = short(data, args)
        out.write_text(json.dumps(result, indent=1) + "\n")
        show(result)
        return
    splits = potstill.load_data(data)
    assert splits.test is not None
    print(splits, flush=True)
    if args.with_encoder:
        result = with_encoder(splits, args)
        args.out.with_name("text_encoder.json").write_text(json.dumps(result, indent=1) + "\n")
        print(result)
        return
    every = full(splits, args, list(LEARNERS))
    parts = [measure_part(splits, ipc, list(ROWS), list(LEARNERS), args) for ipc in args.ipc]
    result = {
        "settings": {"seeds": args.seeds, "students": args.students, "learners": LEARNERS},
        "machine": machine(), "train": len(splits.train), "test": len(splits.test),
        "classes": list(splits.train.classes), "texts": digest(data), "full": every, "parts": parts,
    }  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
