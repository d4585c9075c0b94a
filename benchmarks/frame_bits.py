"""The bits of everything that is registered, to lay two versions of Potstill beside each other.

    python benchmarks/frame_bits.py --out before.json                     # one side, of the code it runs on
    python benchmarks/frame_bits.py --out after.json --only 'method/dm/*,store/*'   # some rows of it
    python benchmarks/frame_bits.py --compare before.json after.json

One side is made on data of its own (arrays from a fixed seed; nothing of the source tree is read) in a few minutes on
one core: small sets by every method, parametrization and store, scores by every protocol, draws of every augmentation,
networks, labels, exports. Each row holds a few named values: digests (SHA-256) of tensors or files, a card's settings,
accuracies as they are. ``compare`` prints a table of all rows and ends with status 1 where one differs and
``results/frame_bits/reasons.json`` says no reason for it (a mapping from patterns of ``ROW`` or ``ROW:VALUE`` to text).
Settings that are new on a card are shown, and are no difference.

Sums are rounded otherwise by another processor's kernels, so both sides must come from one machine, one version of
torch and one compiler; ``computing`` in the file says which, and ``compare`` says where they are not the same. Whatever
changes in C gives the kernels another hash there.
"""

import argparse
import contextlib
import fnmatch
import hashlib
import importlib
import inspect
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine

Row = dict[str, Any]

SMALL: dict[str, Any] = {
    "pretrained_networks": 2, "num_teachers": 2, "pretrain_epochs": 1, "teacher_epochs": 1, "num_experts": 2,
    "train_epochs": 1, "frequencies": 32,
    "frequencies_sampler": 32, "pool_initial": 2,
    "pool_steps": 2, "data_train": 24, "iterations": 4, "batch_real": 6, "outer": 2, "inner": 2, "solver_steps": 2,
    "teacher_steps": 4,
    "batch": 6, "committee": "convnet-d1-w4-batch", "samples": 4, "crops": 2, "ascent": 2, "round_iterations": 2,
    "record_epochs": 3, "trajectory": 3, "runs": 2, "window": 3, "swing": 0, "checkpoints": 2, "epoch": 2,
    "max_epochs": 12,
}  # fmt: skip
"""Settings that shorten a method where it has them."""
MATCHING = ("dc", "dsa", "idc", "dream", "dm", "cafe", "idm", "datadam", "m3d", "ncfm", "dance", "dsdm")
DECODERS = (
    "pixels", "tiles", "memory:bases=2", "frequency:kept=16", "hallucinator:styles=2,width=1", "field:width=4,warmup=2",
    "compensators:count=2", "small:factor=3",
)  # fmt: skip
NETWORKS = (
    "convnet", "convnet-d1-w8", "convnet-d2-w8-swish-batch-max", "convnet-d2-w8-leaky-layer",
    "convnet-d1-w4-group-nopool", "convnet-d2-w8-sigmoid-nonorm", "mlp", "mlp-w16", "linear", "lenet", "alexnet",
    "alexnet-batch", "vgg11", "vgg11-batch", "resnet18", "resnet18-batch", "resnet18-ap", "vit-tiny",
)  # fmt: skip
BY_STEPS, BY_COMMITTEE = ("potstill",), ("edc",)
TAUGHT = ("sre2l", "sre2l-cifar", "rded", "cda", "edc")
"""Protocols whose students are trained for so many updates, and those in which a teacher, or several, label."""


# --- what a row is made of


def digest(*tensors: Any) -> str:
    """SHA-256 over types, shapes and bytes of tensors or arrays, its first 16 digits."""
    h = hashlib.sha256()
    for tensor in tensors:
        array = np.ascontiguousarray(tensor.detach().cpu().numpy() if isinstance(tensor, torch.Tensor) else tensor)
        h.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return h.hexdigest()[:16]


def of_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def of_file(path: Path) -> str:
    """Of the tensors in a safetensors file; its card holds seconds."""
    from safetensors.numpy import load_file

    held = load_file(path)
    return of_bytes("".join(name + digest(held[name]) for name in sorted(held)).encode())


def of_set(small: Any, folder: Path) -> Row:
    """Of a distilled set: what it decodes to, what its file holds, and its card's settings."""
    inputs = small.inputs
    row = {"inputs": digest(inputs), "labels": digest(small.labels)}
    for name in ("index", "weights"):
        if (held := getattr(small, name)) is not None:
            row[name] = digest(held)
    (folder / "set.safetensors").unlink(missing_ok=True)  # of another row, which a set does not replace
    row["file"] = of_file(small.save(folder / "set.safetensors"))
    card = small.metadata
    row["config"], row["bytes"], row["network"] = card["config"], card["bytes"], card.get("network")
    row["outcome"] = card["outcome"]["kind"]
    row["around"] = [round(float(v), 5) for v in (inputs.float().mean(), inputs.float().std())]
    return row


def of_score(card: Mapping[str, Any]) -> Row:
    """Of a scorecard: every student's accuracy, and what was chosen."""
    row = {k: card[k] for k in ("fingerprint", "protocol_version", "optimistic", "network", "chosen", "per_class")}
    row["accuracy"] = card["accuracy"]["values"]
    for name, rival in card["baselines"].items():
        row[f"baseline {name}"] = {k: rival.get(k) for k in ("values", "bytes", "items", "codec", "tried")}
    if card["full"] is not None:
        row["full"] = card["full"].get("values", card["full"]["mean"])
    if any(value is not None for value in card["scores"].values()):
        row["scores"] = card["scores"]
    return row


# --- the data


def pictures(sizes: Sequence[int], shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes of noisy bars: uint8 (n, h, w) or (n, h, w, 3), and labels, in a drawn order."""
    rng = np.random.default_rng(seed)
    channels, h, w = shape
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x = rng.integers(0, 150, (len(labels), h, w, channels))
    for c in range(len(sizes)):
        first = c * w // len(sizes)
        x[labels == c, :, first : first + w // len(sizes), c % channels] += 70
    return (x[..., 0] if channels == 1 else x).astype(np.uint8), labels


def rows(per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A table of six columns: float32 (n, 6)."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(4), per_class))
    return ((rng.integers(-40, 41, (len(labels), 6)) / 20) + labels[:, None] * 0.7).astype(np.float32), labels


class Data:
    """Sources by name, each read once, from files in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.read = folder, {}

    def path(self, name: str) -> Path:
        make: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {
            "grey": lambda seed: pictures((20, 20, 20, 20), (1, 8, 8), seed),
            "uneven": lambda seed: pictures((7, 40, 90), (3, 8, 12), seed),
            "grey16": lambda seed: pictures((12, 12), (1, 16, 16), seed),
            "colour16": lambda seed: pictures((9, 14, 30), (3, 16, 24), seed),
            "table": lambda seed: rows(25, seed),
        }
        if not (path := self.folder / f"{name}.npz").exists():
            (x, y), (x_test, y_test) = make[name](1), make[name](2)
            np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
        return path

    def __getitem__(self, name: str) -> Any:
        import potstill

        if name not in self.read:
            bundled = name in ("digits", "mnist-5k")
            self.read[name] = potstill.load_data(name if bundled else str(self.path(name)))
        return self.read[name]


def listed(what: str) -> list[dict[str, Any]]:
    """What the command line lists."""
    command = "codecs" if what == "stores" else what
    done = subprocess.run(
        [sys.executable, "-m", "potstill", command, "--json"], capture_output=True, text=True, check=True,
        env=os.environ | {"POTSTILL_OUTSIDE": "0"},
    )  # fmt: skip
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


# --- the rows


class Bench:
    """All rows of one side, by name; nothing is computed before a row is called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, Data(folder)
        self.methods = {m["name"]: m for m in listed("methods")}

    def distil(self, data: str, method: str, **changes: Any) -> Any:
        import potstill

        known = {option["name"] for option in self.methods[method]["options"]}
        settings = {k: v for k, v in SMALL.items() if k in known} | changes
        if not self.methods[method]["is_selection"]:
            settings = {"codec": "float32"} | settings
        if "network" not in settings and data != "table":
            settings["network"] = "convnet-d1-w8" + "-batch" * (self.methods[method]["family"] == "decoupled")
        return potstill.distill(self.data[data], method, progress=None, **{"steps": 3, "ipc": 2, "seed": 7} | settings)

    def made(self, *args: Any, **changes: Any) -> Row:
        return of_set(self.distil(*args, **changes), self.folder)

    def score(self, small: Any, data: str, protocol: str, **changes: Any) -> Row:
        import potstill

        given = {"seeds": 2, "full": False, "robust_scores": False, "baselines": False, "progress": None} | changes
        given["networks"] = given.pop("network", None)
        return of_score(potstill.evaluate(small, self.data[data], protocol=protocol, **given).to_dict())

    def all(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        for part in (
            self.lists, self.by_method, self.by_parametrization, self.by_store, self.by_axis, self.by_protocol,
            self.by_augmentation, self.by_network, self.by_file, self.by_verb,
        ):  # fmt: skip
            yield from part()

    def lists(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """What is listed: names, defaults of options, published fingerprints."""

        def options(entry: Mapping[str, Any]) -> Row:
            kept = ("family", "paper", "year", "selects", "soft", "unpublished", "weighs", "kinds", "efforts")
            defaults = {o["name"]: o["default"] for o in entry.get("options", ())}
            return {"options": defaults, **{k: entry[k] for k in kept if k in entry}}

        for name, entry in self.methods.items():
            yield f"list/method/{name}", lambda entry=entry: options(entry)
        for group in ("parametrizations", "stores", "augmentations", "networks", "data"):
            for entry in listed(group):
                yield f"list/{group[: -(group != 'data') or None]}/{entry['name']}", lambda entry=entry: options(entry)
        for entry in listed("protocols"):
            held = {k: entry[k] for k in ("version", "fingerprint", "optimistic", "paper")}
            yield f"list/protocol/{entry['name']}", lambda held=held: held

    def by_method(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Every method on grey pictures, on colour ones that are not square with uneven classes, and on a table."""
        for name, entry in self.methods.items():
            fields = {option["name"] for option in entry["options"]}
            if "*" in entry["kinds"] or "image" in entry["kinds"]:
                yield f"method/{name}/grey", lambda name=name: self.made("grey", name, steps=4)
                sizes = {k: v for k, v in {"batch_real": 48, "pool_batch": 32}.items() if k in fields}
                yield (
                    f"method/{name}/uneven",
                    lambda name=name, sizes=sizes: self.made("uneven", name, steps=2, ipc=3, **sizes),
                )
            if "*" in entry["kinds"] or "table" in entry["kinds"]:
                plain = {"parametrization": "pixels"} if "parametrization" in fields else {}  # tiles are of pictures
                yield f"method/{name}/table", lambda name=name, plain=plain: self.made("table", name, **plain)

    def by_parametrization(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        known = {decoder.partition(":")[0] for decoder in DECODERS}
        spelled = (*DECODERS, *(e["name"] for e in listed("parametrizations") if e["name"] not in known))
        more = {"ipc": 4, "optimizer": "adamw", "lr": 1e-3}
        for decoder in spelled:
            for name in ("dm", "dc"):
                yield (
                    f"parametrization/{decoder}/{name}",
                    lambda name=name, decoder=decoder: self.made("grey16", name, parametrization=decoder, **more),
                )
            coloured = decoder.replace("width=1", "width=3")
            yield (
                f"parametrization/{decoder}/dm/colour",
                lambda decoder=coloured: self.made("colour16", "dm", parametrization=decoder, **more),
            )
            yield (
                f"parametrization/{decoder}/dm/learned labels",
                lambda decoder=decoder: self.made("grey16", "dm", parametrization=decoder, labels="learned", **more),
            )
        for name in MATCHING:
            if name not in ("dm", "dc"):
                yield (
                    f"parametrization/tiles/{name}",
                    lambda name=name: self.made("grey16", name, parametrization="tiles", **more),
                )
            yield (
                f"labels/learned/{name}",
                lambda name=name: self.made("grey", name, labels="learned", lr_labels=0.5),
            )

    def by_store(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        names = [e["name"] for e in listed("stores") if e["name"] not in ("float", "uniform")]
        plain = ("float32", "float16", "uint1", "uint2", "uint4", "uint8", "uint12", "auto", *names)
        for name in (*plain, "uint2:aware=true", "uint1:aware=true,learned=true"):
            yield f"store/{name}/dm", lambda name=name: self.made("grey16", "dm", codec=name)
        for name in plain:
            if name != "auto":  # which is for sets that are made
                yield f"store/{name}/random", lambda name=name: self.made("colour16", "random", codec=name)
        yield "store/uint4/random-soft", lambda: self.made("grey", "random-soft", codec="uint4")
        yield "store/float16/tiles", lambda: self.made("grey16", "dm", codec="float16", parametrization="tiles")
        yield "store/auto/tried", lambda: self.made("grey", "dm", codec="auto", steps=150, iterations=150)

    def by_axis(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Budgets, seeds, starts, augmentations, whitening, effort, reuse, and a run that was interrupted."""
        yield "axis/ipc 1", lambda: self.made("grey", "dm", ipc=1)
        yield "axis/seed 8", lambda: self.made("grey", "dm", seed=8)
        for name in ("dm", "random", "herding"):
            yield f"axis/items/{name}", lambda name=name: self.made("uneven", name, ipc=None, items=13)
            yield f"axis/bytes/{name}", lambda name=name: self.made("uneven", name, ipc=None, bytes=3000, codec=None)
        for start in ("noise", "k-means"):
            yield f"axis/start {start}", lambda start=start: self.made("grey", "dm", init_from=start)
        for family in ("mtt", "frepo", "kip"):
            yield f"axis/zca {family}", lambda family=family: self.made("grey", "dm", zca=family)
        for name in ("none", "dsa-noflip", "idc", "cim", "flip", "rrc", "pad-crop", "patches"):
            yield f"axis/augment {name}", lambda name=name: self.made("grey", "dm", augment=name)
        yield "axis/reuse", lambda: self.made("grey", "dm", steps_per_network=3, steps=5)
        yield "axis/effort quick", lambda: self.made("grey", "dm", preset="quick", steps=2)
        for network in ("convnet", "convnet-d2-w16-batch", "mlp-w16", "lenet", "resnet18-batch"):
            yield (
                f"axis/network {network}",
                lambda network=network: self.made("colour16", "dm", network=network, steps=2),
            )
        for name in ("dm", "dc", "idc", "ncfm", "sre2l", "edc"):
            for data in ("digits", "mnist-5k"):
                yield (
                    f"axis/{data}/{name}",
                    lambda name=name, data=data: (
                        self.made(data, name, steps=2, ipc=1, batch_real=8)
                        if name in MATCHING
                        else self.made(data, name, steps=2, ipc=1)
                    ),
                )
        for name in ("dm", "dc", "idm", "idc", "sre2l", "random-soft"):
            yield f"axis/resumed/{name}", lambda name=name: self.resumed(name)

    def resumed(self, name: str) -> Row:
        kept = self.folder / f"{name}.checkpoint"
        self.distil("grey", name, steps=2, checkpoint=kept, checkpoint_every=0.0)
        if not kept.exists():
            return self.made("grey", name, steps=4)
        return self.made("grey", name, steps=4, checkpoint=kept, resume=True)

    def by_protocol(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        network = "convnet-d1-w4-batch"
        for entry in listed("protocols"):
            name = entry["name"]
            changes: dict[str, Any] = {"steps": 4} if name in BY_STEPS else {"epochs": 6}
            if taught := name in TAUGHT:
                changes |= {"teacher_epochs": 1} | ({"committee": (network,)} if name in BY_COMMITTEE else {})
            for data in ("grey", "uneven", "digits"):
                yield (
                    f"protocol/{name}/{data}",
                    lambda name=name, data=data, changes=changes: self.score(
                        self.distil(data, "random", ipc=3), data, name, network=[network], **changes
                    ),
                )
            if not taught:
                yield (
                    f"protocol/{name}/table",
                    lambda name=name, changes=changes: self.score(
                        self.distil("table", "random", ipc=3), "table", name, network=["mlp-w16"], **changes
                    ),
                )
                yield (
                    f"protocol/{name}/side by side",
                    lambda name=name, changes=changes: self.score(
                        self.distil("grey", "random", ipc=3), "grey", name, network=[network], side_by_side=2, **changes
                    ),
                )
        ours, few = {"steps": 6, "network": ["convnet-d1-w4"]}, {"epochs": 6, "network": ["convnet-d1-w4"]}
        yield (
            "protocol/potstill/with baselines",
            lambda: self.score(self.distil("grey", "dm"), "grey", "potstill", baselines=True, full=True, **ours),
        )
        yield (
            "protocol/dc/with baselines",
            lambda: self.score(self.distil("grey", "dm"), "grey", "dc", baselines=True, robust_scores=True, **few),
        )
        yield (
            "protocol/dsa/of weighted samples",
            lambda: self.score(self.distil("uneven", "craig"), "uneven", "dsa", **few),
        )
        yield (
            "protocol/dc/of learned labels",
            lambda: self.score(self.distil("grey", "dm", labels="learned"), "grey", "dc", **few),
        )
        yield (
            "protocol/dc/two networks",
            lambda: self.score(self.distil("grey", "dm"), "grey", "dc", epochs=3, network=["convnet-d1-w4", "mlp-w16"]),
        )

    def by_augmentation(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        from potstill.core import registry

        def drawn(name: str) -> Row:
            augment, row = registry.resolve("augmentations", name)(), {}
            for shape in ((3, 12, 12), (1, 9, 14)):
                x = torch.rand(6, *shape, generator=torch.Generator().manual_seed(1))
                out = augment.apply(x, augment.draw(6, shape, torch.Generator().manual_seed(2)))
                row["x".join(map(str, shape))] = digest(out)
            return row

        for entry in listed("augmentations"):
            yield f"augmentation/{entry['name']}", lambda name=entry["name"]: drawn(name)

    def by_network(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Initial parameters, outputs, embeddings, and the gradient of a loss."""
        from potstill.core import InputSpec
        from potstill.nn import factory

        def built(name: str, spec: Any) -> Row:
            make = factory(name, spec, 5)
            net, x = make(3), torch.rand(4, *spec.shape, generator=torch.Generator().manual_seed(1))
            theta = dict(net.named_parameters())
            row: Row = {"name": make.name, "parameters": digest(*(theta[n] for n in theta)), "names": list(theta)}
            loss = torch.nn.functional.cross_entropy(net(x), torch.tensor([0, 1, 2, 3]))
            row["gradient"] = digest(*torch.autograd.grad(loss, list(theta.values()), allow_unused=False))
            net.eval()
            with torch.no_grad():
                row["output"], row["embedding"] = digest(net(x)), digest(net.embed(x))
            return row

        for name in NETWORKS:
            spec = InputSpec(kind="image", shape=(3, 32, 32))
            yield f"network/{name}", lambda name=name, spec=spec: built(name, spec)
        for name in ("convnet-d1-w8", "resnet18", "lenet"):
            spec = InputSpec(kind="image", shape=(1, 28, 28))
            yield f"network/{name}/28x28", lambda name=name, spec=spec: built(name, spec)
        for name in ("mlp", "linear"):
            spec = InputSpec(kind="table", shape=(6,))
            yield f"network/{name}/table", lambda name=name, spec=spec: built(name, spec)

    def by_file(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Labels that a teacher wrote, sets read again, and exports."""
        import potstill

        network = "convnet-d1-w4-batch"

        def labelled(**how: Any) -> Row:
            small, out = self.distil("grey", "random", ipc=3), self.folder / "labels.safetensors"
            given: dict[str, Any] = {"protocol": "sre2l", "epochs": 2, "teacher_epochs": 1}
            potstill.label(small, self.data["grey"], out, network=network, **given, **how)
            row = {"file": of_file(out)}
            row |= self.score(small, "grey", network=[network], stored=out, **given)
            out.unlink()
            return row

        for spelled, how in (
            ("rows", {}), ("rows uint8", {"dtype": "uint8"}), ("rows top 2", {"top_k": 2}), ("pool", {"pool": 1}),
            ("teacher", {"store_as": "teacher"}),
        ):  # fmt: skip
            yield f"labels/written/{spelled}", lambda how=how: labelled(**how)

        def read_again(method: str, **changes: Any) -> Row:
            made = self.distil("grey16", method, **changes)
            (self.folder / "again.safetensors").unlink(missing_ok=True)
            path = made.save(self.folder / "again.safetensors")
            small = potstill.load(path)
            item, label = small[0]
            return of_set(small, self.folder) | {
                "model space": digest(small.model_space()),
                "item": digest(item, label),
            }

        yield "file/read again/dm", lambda: read_again("dm", codec="uint4")
        yield "file/read again/memory", lambda: read_again("dm", codec="uint8", parametrization="memory:bases=2")
        yield "file/read again/random", lambda: read_again("random")

        def exported(to: str, method: str) -> Row:
            small, out = self.distil("colour16", method), self.folder / f"export-{to}"
            potstill.export(small, to, out)
            files = sorted(p for p in out.rglob("*") if p.is_file()) if out.is_dir() else [out]
            return {str(p.relative_to(out)) if out.is_dir() else "file": _content(p) for p in files}

        for to in ("png", "npz", "parquet", "webdataset"):
            yield f"export/{to}/dm", lambda to=to: exported(to, "dm")
        yield "export/indices/herding", lambda: exported("indices", "herding")

        def rebuilt() -> Row:
            out = self.folder / "indices.out"
            potstill.export(self.distil("colour16", "herding"), "indices", out)
            return of_set(potstill.materialize(out, self.data["colour16"]), self.folder)

        yield "export/rebuilt", rebuilt

    def by_verb(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        import potstill

        scored = [n for n, m in self.methods.items() if m["family"] == "selection" and _gives_scores(n)]

        def scores(name: str) -> Row:
            known = {option["name"] for option in self.methods[name]["options"]}
            given = {k: v for k, v in SMALL.items() if k in known}
            network = {"network": "convnet-d1-w8"} if "network" in known else {}
            table = potstill.score(self.data["uneven"], [name], **network, **given)
            columns = table.columns_for(name, self.data["uneven"].train)
            return {column: digest(columns[column]) for column in sorted(columns)}

        for name in scored:
            yield f"score/{name}", lambda name=name: scores(name)

        def compared() -> Row:
            out = self.folder / "compared"
            board = potstill.compare(
                self.data["grey"], methods=["random", "dm"], ipc=[1, 2], seeds=2, out=out, protocol="dc", steps=2,
                network="convnet-d1-w4",
            )  # fmt: skip
            content = board if isinstance(board, Mapping) else json.loads((out / "leaderboard.json").read_text())
            return {"accuracies": _numbers(content, "accuracy")}

        yield "verb/compare", compared

        def active() -> Row:
            command = [
                "active-learning", str(self.data.path("grey")), "--acquire", "random,margin,badge", "--rounds", "2",
                "--seeds", "2", "--per-round", "4", "--steps", "5", "--network", "convnet-d1-w4", "--json", "--quiet",
            ]  # fmt: skip
            done = subprocess.run(
                [sys.executable, "-m", "potstill", *command], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(done.stderr.strip())
            return {"accuracies": _numbers(json.loads(done.stdout), "accuracy")}

        yield "verb/active", active

        def resampled() -> Row:
            for home in ("potstill.integrations.sklearn", "potstill.sklearn"):
                with contextlib.suppress(ModuleNotFoundError):
                    kind = importlib.import_module(home).Distiller
                    seeded = "random_state" if "random_state" in inspect.signature(kind).parameters else "seed"
                    made = kind(method="herding", ipc=2, **{seeded: 3})
                    held = np.load(self.data.path("table"))
                    return {"rows": digest(*made.fit_resample(held["x_train"], held["y_train"]))}
            raise RuntimeError("no Distiller")

        yield "verb/sklearn", resampled

        def planned() -> Row:
            plan = potstill.plan(self.data["grey"], "dm", ipc=2, steps=3, network="convnet-d1-w8", batch_real=6)
            content = plan if isinstance(plan, Mapping) else plan.to_dict()
            return {"keys": sorted(content)}

        yield "verb/plan", planned

        def scaled() -> Row:
            how: dict[str, Any] = {"ipc": (1, 2, 3, 4), "teacher_epochs": (1, 2), "repeats": 1, "steps": 3, "batch": 8}
            made = potstill.scaling(self.data["grey"], out=self.folder / "scaled", network="convnet-d1-w4", **how)
            return {"students": of_bytes(json.dumps(_numbers(made, "accuracy"), sort_keys=True).encode())}

        yield "verb/scaling", scaled


def _gives_scores(name: str) -> bool:
    from potstill.core import registry

    kind = registry.resolve("methods", name)
    return hasattr(kind, "columns") and hasattr(kind, "selection_fields")


def _content(path: Path) -> str:
    """Of a file that was exported; archives hold the time of day."""
    content = path.read_bytes()
    if content[:2] == b"PK":
        with np.load(path) as held:
            arrays = {name: held[name] for name in sorted(held.files) if held[name].dtype.kind not in "US"}  # no card
        return of_bytes("".join(name + digest(array) for name, array in arrays.items()).encode())
    if content[257:262] == b"ustar":
        import tarfile

        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            members = sorted((m for m in archive.getmembers() if m.isfile()), key=lambda m: m.name)
            return of_bytes(b"".join(m.name.encode() + archive.extractfile(m).read() for m in members))
    if content[:4] == b"PAR1":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        return of_bytes(json.dumps(table.to_pydict(), sort_keys=True, default=lambda b: b.hex()).encode())
    if path.suffix == ".json" or content[:1] == b"{":
        return of_bytes(json.dumps(_timeless(json.loads(content)), sort_keys=True).encode())
    if len(content) > 8 and content[8:9] == b"{":
        return of_file(path)
    return of_bytes(content)


def _timeless(value: Any) -> Any:
    """Without what differs from run to run."""
    left = {"seconds", "cost", "versions", "created", "peak_memory", "command", "history", "preparation_seconds"}
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in left}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def _numbers(value: Any, key: str, where: str = "") -> dict[str, Any]:
    """Every number or list of numbers under ``key`` in a JSON document, by its place."""
    found: dict[str, Any] = {}
    if isinstance(value, Mapping):
        for name, inner in value.items():
            place = f"{where}/{name}"
            if name == key:
                found[place] = inner.get("values", inner.get("mean")) if isinstance(inner, Mapping) else inner
            else:
                found |= _numbers(inner, key, place)
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            found |= _numbers(inner, key, f"{where}/{n}")
    return found


# --- both sides


def commit() -> str:
    """Of the code that runs, with a plus where something in it is not committed."""
    import potstill

    tree = Path(potstill.__file__).parent
    said = [
        subprocess.run(["git", "-C", str(tree), *words], capture_output=True, text=True, check=False).stdout.strip()
        for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--", str(tree)))
    ]
    return said[0] + "+" * bool(said[1])


def computing() -> dict[str, Any]:
    from potstill.native.build import computing as kernels

    return machine() | dict(kernels())


def one_side(out: Path, only: Sequence[str]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POTSTILL_OUTSIDE"] = "0"
        native = Path(os.environ.get("POTSTILL_CACHE") or Path.home() / ".cache" / "potstill") / "native"
        os.environ["POTSTILL_CACHE"] = str(cache := Path(folder, "cache"))
        if native.is_dir():  # what was compiled may be used again, what was trained may not
            cache.mkdir()
            (cache / "native").symlink_to(native)
        about = {"commit": commit(), "computing": computing(), "only": list(only)}
        bench, made = Bench(Path(folder)), {}
        begun = time.monotonic()
        spent: dict[str, float] = {}
        for name, row in bench.all():
            if only and not any(fnmatch.fnmatchcase(name, pattern) for pattern in only):
                continue
            start = time.process_time()
            try:
                made[name] = json.loads(json.dumps(row()))
            except Exception as error:  # a row that fails is one that differs
                made[name] = {"error": f"{type(error).__name__}: {error}".split("\n")[0]}
            kind = name.partition("/")[0]
            spent[kind] = spent.get(kind, 0.0) + time.process_time() - start
            if (took := time.process_time() - start) > 2:
                print(f"{name}: {took:.1f} s", file=sys.stderr)
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(made[name], sort_keys=True)}" for name in sorted(made))
    head = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in about.items())
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f'{{\n{head},\n "rows": {{\n{lines}\n }}\n}}\n')
    failed = {name: row["error"] for name, row in made.items() if "error" in row}
    parts = ", ".join(f"{k} {v:.0f}" for k, v in spent.items())
    print(
        f"{len(made)} rows in {time.monotonic() - begun:.0f} s ({parts}), {len(failed)} failed: {out}", file=sys.stderr
    )
    for name, error in failed.items():
        print(f"{name}: {error}", file=sys.stderr)


def differing(before: Row, after: Row) -> tuple[list[str], list[str]]:
    """Values that are not the same, as ``NAME`` or ``NAME.KEY``, and those that are new."""
    changed, new = [], []
    for name in before.keys() | after.keys():
        a, b = before.get(name), after.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            changed += [f"{name}.{k}" for k in a if k not in b or a[k] != b[k]]
            new += [f"{name}.{k}" for k in b if k not in a]
        elif name not in before:
            new.append(name)
        elif a != b:
            changed.append(name)
    return sorted(set(changed) - ({"around"} if "inputs" not in changed else set())), sorted(new)


def _ranged(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def compare(before: Path, after: Path, reasons: Mapping[str, str]) -> int:
    """Print the table; how many values differ without a reason."""
    a, b = (json.loads(path.read_text()) for path in (before, after))
    wanted = a["rows"].keys() | b["rows"].keys()
    if patterns := [*a["only"], *b["only"]]:
        wanted = {n for n in wanted if any(fnmatch.fnmatchcase(n, p) for p in patterns)}
    print(f"# Bits before ({a['commit']}) and after ({b['commit']})\n")
    if other := {
        k for k in a["computing"].keys() | b["computing"].keys() if a["computing"].get(k) != b["computing"].get(k)
    }:
        for key in sorted(other):
            print(f"Not computed alike: {key} {a['computing'].get(key)!r} before, {b['computing'].get(key)!r} after.\n")
    same: dict[str, list[int]] = {}
    lines, unexplained, used = [], 0, set()
    for name in sorted(wanted):
        kind = "/".join(name.split("/")[: 2 if name.startswith("list/") else 1])
        count = same.setdefault(kind, [0, 0])
        count[1] += 1
        one, two = a["rows"].get(name), b["rows"].get(name)
        if one is None:
            changed, new = [], ["the row"]
        elif two is None:
            changed, new = ["the row is gone"], []
        else:
            changed, new = differing(one, two)
        count[0] += not changed
        said, open_ = [], []
        for value in changed:
            found = [p for p in reasons if fnmatch.fnmatchcase(name, p) or fnmatch.fnmatchcase(f"{name}:{value}", p)]
            used |= set(found)
            said += [reasons[p] for p in found]
            open_ += [value] * (not found)
        unexplained += len(open_)
        if changed or new != []:
            how_far = ""
            if one and two and "around" in changed:
                how_far = f" (mean, deviation {one.get('around')} → {two.get('around')})"
            if two and "error" in two:
                how_far = f" ({two['error']})"
            reason = "; ".join(dict.fromkeys(said)) + ("**none**" if open_ else "")
            shown = _ranged([v for v in changed if v != "around"]) + how_far
            lines.append(f"| {name} | {shown or 'nothing'} | {_ranged(new)} | {reason} |")
    print("| rows | the same bits or score | of |\n|---|---|---|")
    for kind, (alike, count) in same.items():
        print(f"| {kind} | {alike} | {count} |")
    print(f"| all | {sum(v[0] for v in same.values())} | {sum(v[1] for v in same.values())} |\n")
    if lines:
        print("| row | what differs | what is new | why |\n|---|---|---|---|")
        print("\n".join(lines))
    if left := [p for p in reasons if p not in used]:
        print(f"\nReasons for rows that do not differ: {', '.join(left)}")
    if unexplained:
        print(f"\n{unexplained} values differ without a reason.")
    return unexplained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write one side here")
    parser.add_argument("--only", default="", help="patterns of rows, with commas between them")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    parser.add_argument("--reasons", type=Path, default=Path("results/frame_bits/reasons.json"))
    args = parser.parse_args()
    if args.out is not None:
        one_side(args.out, [p for p in args.only.split(",") if p])
    if args.compare is not None:
        reasons = json.loads(args.reasons.read_text()) if args.reasons.exists() else {}
        sys.exit(1 if compare(*args.compare, reasons) else 0)
    if args.out is None and args.compare is None:
        parser.error("--out or --compare is needed")


if __name__ == "__main__":
    main()
