"""Damaged and hostile bytes for every parser and loader: nothing but a line of ours may come of them.

    pip install atheris
    python -m tests.fuzz.targets [--targets npz,csv] [--seconds 40] [--resume]

Each of `TARGETS` takes bytes, as a file or as text, and reads them as the commands do. Whatever it makes of them is
fine but an error that is no `PotstillError` (or `ValueError`, where text is read), one of more than a line, or no end.
atheris (libFuzzer) changes seeds that this program writes, led by which lines of Potstill, zipfile, tarfile and yaml
are reached. Files of Potstill's are among them without their hashes, which would refuse every change at the door, and
after half of the changes the length before a header is set right again, and so are the checksums of archives, which
are packed after the change.

``tests/fuzz/test_fuzz.py`` does the same with changes by hypothesis. Result: results/fuzz.json.
"""

import argparse
import io
import json
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from tests.fuzz.kept_files import KEPT

OUT = Path("results/fuzz.json")
Read = Callable[[bytes, Path], Any]


@dataclass(frozen=True)
class Target:
    """What reads the bytes, and what it is tried with first."""

    read: Read
    seeds: Callable[[Path], list[bytes]]
    text: bool = False
    """Whether it reads text, of which it may say `ValueError`."""
    fitted: bool = False
    """Whether the bytes begin with the length of a header (safetensors)."""


def _into(name: str, read: Callable[[Path], Any]) -> Read:
    def of(content: bytes, folder: Path) -> Any:
        path = folder / name
        path.write_bytes(content)
        return read(path)

    return of


def _load(**more: Any) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        from potstill import load_data

        splits = load_data(path, **more)
        return splits.train.content_hash

    return read


def _text(read: Callable[[str], Any]) -> Read:
    return lambda content, folder: read(content.decode("utf-8", "surrogateescape"))


def _set(path: Path) -> Any:
    from potstill.dataset_file import load

    small = load(path, max_bytes=2**26)
    return small.inputs, small.labels, small.to_dict(), repr(small)


def _page(path: Path) -> Any:
    from potstill.api.report import report

    return report([path], path.with_suffix(".html"))


def _verify(path: Path) -> Any:
    from potstill.api.verify import verify_file

    return verify_file(path).to_dict()


def _zip_member(content: bytes, folder: Path) -> Any:
    """One array of an npz, with the checksum that zip wants."""
    import numpy as np

    path = folder / "m.npz"
    labels = io.BytesIO()
    np.save(labels, np.arange(8) % 2)
    with zipfile.ZipFile(path, "w") as archive:
        for part in ("train", "test"):
            archive.writestr(f"x_{part}.npy", content)
            archive.writestr(f"y_{part}.npy", labels.getvalue())
    return _load()(path)


def _picture(content: bytes, folder: Path) -> Any:
    import numpy as np
    from PIL import Image

    root = folder / "pictures"
    for part in ("train", "test"):
        for name in "ab":
            (root / part / name).mkdir(parents=True, exist_ok=True)
            if not (good := root / part / name / "good.png").exists():
                Image.fromarray(np.full((8, 8), 9, np.uint8)).save(good)
    (root / "train" / "a" / "x.png").write_bytes(content)
    return _load(size=8)(root)


def _tables() -> Any:
    import pyarrow as pa

    n = range(24)
    return pa.table({"a": [i * 0.5 for i in n], "b": ["xyz"[i % 3] for i in n], "label": [i % 2 for i in n]})


def _small_set(**more: Any) -> Any:
    import torch

    from potstill.core import InputSpec, Normalization
    from tests.build_set import build_set

    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return build_set(
        x, torch.arange(6) % 3, method="dm", config={"lr": 1.0}, seed=3, ipc=2, classes=("a", "b", "c"),
        input=InputSpec(kind="image", shape=(1, 4, 4)), normalization=Normalization(torch.zeros(1), torch.ones(1)),
        training={}, source={"name": "toy", "samples": 9, "hash": "0" * 64}, outcome={"kind": "finished"}, cost={},
        **more,
    )  # fmt: skip


def unsealed(content: bytes) -> bytes:
    """A safetensors file without its hash."""
    (length,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + length])
    head.get("__metadata__", {}).pop("sha256", None)
    text = json.dumps(head, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def fitted(content: bytes) -> bytes:
    """The same with the length of its header as it is: up to the last brace before the bytes of the values."""
    end = content.rfind(b"}}") + 2
    return content if end < 10 else struct.pack("<Q", end - 8) + content[8:end] + content[end:]


def _sets(folder: Path) -> list[bytes]:
    import torch

    from potstill import load_data
    from potstill.api.distill import distill

    _small_set().save(folder / "a.safetensors")
    data = load_data("digits")
    distill(data, method="random", ipc=1, seed=0).save(folder / "b.safetensors")
    _small_set(learned={str(n): torch.tensor(float(n)) for n in range(30)}).save(folder / "c.safetensors")  # packed
    found = [(folder / f"{name}.safetensors").read_bytes() for name in "abc"]
    return [found[0], *map(unsealed, found)]


def _checkpoints(folder: Path) -> list[bytes]:
    import torch

    from potstill.dataset_file import write_checkpoint

    path = folder / "c.checkpoint"
    write_checkpoint(
        path, state={"x": torch.zeros(9)}, rng_state=torch.Generator().get_state(), step=4, identity={"seed": 0},
        meta={"seconds": 1.0},
    )  # fmt: skip
    return [path.read_bytes(), unsealed(path.read_bytes())]


def _checkpoint(path: Path) -> Any:
    from potstill.dataset_file.checkpoint import read_identity

    return read_identity(path)


def _scored(folder: Path) -> list[bytes]:
    import torch

    from potstill.dataset_file.scores import MethodScores, Scores, write_scores

    zeros = torch.zeros(6)
    scores = Scores(
        source="toy", content_hash="0" * 64, classes=("a", "b"), labels=torch.arange(6) % 2,
        names=tuple(f"n{i}" for i in range(6)), first_duplicate=torch.arange(6),
        methods={"el2n": MethodScores(columns={"el2n": zeros}, config={}, seconds=1.0)},
    )  # fmt: skip
    write_scores(scores, folder / "s.parquet")
    return [(folder / "s.parquet").read_bytes()]


def _scores(path: Path) -> Any:
    from potstill.dataset_file.scores import read_scores

    return read_scores(path)


def _npz(folder: Path) -> list[bytes]:
    import numpy as np

    rng, found = np.random.default_rng(0), []
    for kind in ("uint8", "float32"):
        x, made = rng.integers(0, 9, (8, 4, 4)).astype(kind), io.BytesIO()
        np.savez(made, x_train=x, y_train=np.arange(8) % 2, x_test=x, y_test=np.arange(8) % 2)
        found.append(made.getvalue())
    return found


def _npy(folder: Path) -> list[bytes]:
    import numpy as np

    found = []
    for kind in ("uint8", "float64", ">i2", "bool"):
        made = io.BytesIO()
        np.save(made, np.arange(8 * 16).reshape(8, 4, 4).astype(kind))
        found.append(made.getvalue())
    return found


def _csv(folder: Path) -> list[bytes]:
    import pyarrow.csv

    pyarrow.csv.write_csv(_tables(), folder / "t.csv")
    text = (folder / "t.csv").read_bytes()
    return [text, text.replace(b",", b";"), text.replace(b"\n", b"\r\n")]


def _parquet(folder: Path) -> list[bytes]:
    import pyarrow.parquet

    pyarrow.parquet.write_table(_tables(), folder / "t.parquet", compression="none")
    return [(folder / "t.parquet").read_bytes()]


def _pictures(folder: Path) -> list[bytes]:
    import numpy as np
    from PIL import Image

    found = []
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        made = io.BytesIO()
        Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(made, form)
        found.append(made.getvalue())
    return found


def _tar(folder: Path) -> list[bytes]:
    picture, made = _pictures(folder)[0], io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for i in range(4):
            for name, content in ((f"{i}.png", picture), (f"{i}.cls", str(i % 2).encode())):
                about = tarfile.TarInfo(name)
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
    return [made.getvalue()]


def _recipe(path: Path) -> Any:
    from potstill.cli.recipe import read_recipe

    return read_recipe(path)


def _grid(path: Path) -> Any:
    from potstill.cli.commands.compare import grid_words

    return grid_words(path, [])


def _cluster(text: str) -> Any:
    from potstill.execution.cluster_spec import parse_cluster

    return parse_cluster(text)


def _cluster_file(path: Path) -> Any:
    from potstill.execution.cluster_spec import parse_cluster

    return parse_cluster(str(path))


def _units(text: str) -> None:
    from potstill._util import formatting as units
    from potstill.cli import option_types

    for read in (
        units.parse_duration,
        units.parse_size,
        option_types.parse_names,
        option_types.parse_integers,
        option_types.parse_specs,
        option_types.parse_image_size,
    ):
        try:
            read(text)
        except ValueError as error:
            if "\n" in str(error):
                raise RuntimeError("more than a line") from error


def _shards(text: str) -> None:
    from potstill.data.shards import expand_braces

    for n, _ in enumerate(expand_braces(text)):
        if n > 1000:
            return


def _imported(path: Path) -> Any:
    from potstill.interop.import_set import import_set

    return import_set(path, mean=[0.0], std=[1.0])


def _torch(folder: Path) -> list[bytes]:
    import torch

    made = io.BytesIO()
    torch.save({"data": [[torch.zeros(2, 1, 4, 4), torch.arange(2)]], "accs_all_exps": {}}, made)
    return [made.getvalue()]


def _detected(path: Path) -> Any:
    from potstill.data.detection import load_detection

    return load_detection(path, path.parent)


def _said(*texts: str) -> Callable[[Path], list[bytes]]:
    return lambda folder: [text.encode() for text in texts]


def _json(text: str) -> Any:
    from potstill.dataset_file.files import parse_json

    return parse_json(text)


_COCO = json.dumps({
    "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "iscrowd": 0}],
    "categories": [{"id": 1, "name": "a"}],
})  # fmt: skip
TARGETS: dict[str, Target] = {
    "set": Target(_into("a.safetensors", _set), _sets, fitted=True),
    "page": Target(_into("a.safetensors", _page), _sets, fitted=True),
    "verify": Target(_into("v.safetensors", _verify), lambda f: _sets(f) + _checkpoints(f), fitted=True),
    "checkpoint": Target(_into("c.checkpoint", _checkpoint), _checkpoints, fitted=True),
    "scores": Target(_into("s.parquet", _scores), _scored),
    "npz": Target(_into("x.npz", _load()), _npz),
    "npy": Target(_zip_member, _npy),
    "csv": Target(_into("t.csv", _load(label="label")), _csv),
    "parquet": Target(_into("t.parquet", _load(label="label")), _parquet),
    "picture": Target(_picture, _pictures),
    "tar": Target(_into("t.tar", _load()), _tar),
    "recipe": Target(_into("r.yaml", _recipe), _said("method: dm\nipc: 10\nlr: 1.5\nset: [a, b]\n")),
    "grid": Target(
        _into("g.yaml", _grid), _said("ipc: [1, 10]\nmethods: {random: , dm: {iterations: 500}}\nseeds: 3\n")
    ),
    "cluster": Target(_text(_cluster), _said("nodes=4,gpus=8,memory=80GB,flops=312T,bandwidth=100Gbit,price=2.5")),
    "cluster-file": Target(
        _into("k.yaml", _cluster_file), _said("nodes: 4\ngpus: 8\nmemory: 80GB\nflops: 312e12\nbandwidth: 100Gbit\n")
    ),
    "units": Target(_text(_units), _said("1h30m", "1.5 MiB", "tiles:factor=2,pixels", "32x48", "1,10,50"), text=True),
    "shards": Target(_text(_shards), _said("x-{000..099}.tar", "{a,b}-{1..2}.tar", "a{b{c,d}e..f}")),
    "json": Target(_text(_json), _said('{"a": [1, 2.5, null, "b"], "c": {"d": true}}'), text=True),
    "import": Target(_into("i.pt", _imported), _torch),
    "coco": Target(_into("d.json", _detected), _said(_COCO)),
    **{name: Target(_into(file, read), seeds, fitted=fit) for name, (file, read, seeds, fit) in KEPT.items()},
}


def wrong(target: Target, content: bytes, folder: Path) -> str:
    """What is wrong with how ``content`` was read; "" if nothing is."""
    from potstill.errors import PotstillError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(content, folder)
    except PotstillError as error:
        return "" if "\n" not in str(error) else f"more than a line: {error}"[:300]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if target.text and isinstance(error, ValueError):
            return ""
        last = [f for f in traceback.extract_tb(error.__traceback__) if "potstill" in f.filename][-1:]
        where = "".join(f"{Path(f.filename).name}:{f.lineno}" for f in last)
        return f"{type(error).__name__} at {where}: {str(error).replace(str(folder), 'FOLDER')}"[:300]
    return ""


def _fuzz(name: str, seconds: int, corpus: Path, found: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["potstill", "zipfile", "tarfile", "yaml"]):
        import tarfile  # noqa: F401
        import zipfile  # noqa: F401

        import yaml  # noqa: F401

    import torch

    torch.set_num_threads(1)
    target, folder, seen = TARGETS[name], Path(tempfile.mkdtemp(dir=found)), set[str]()
    for n, seed in enumerate(target.seeds(folder)):
        (corpus / f"seed{n}").write_bytes(seed)
        if problem := wrong(target, seed, folder):
            raise SystemExit(f"{name}: seed {n}: {problem}")

    def once(content: bytes) -> None:
        if problem := wrong(target, content, folder):
            key = re.sub(r"\d+", "0", problem)[:60]
            if key not in seen and len(seen) < 50:
                seen.add(key)
                (found / f"{name}-{len(seen)}.bin").write_bytes(content)
                (found / f"{name}-{len(seen)}.txt").write_text(problem)

    def changed(content: bytes, most: int, seed: int) -> bytes:
        made = bytes(atheris.Mutate(content, most))
        return fitted(made)[:most] if seed % 2 else made

    more = {"custom_mutator": changed} if target.fitted else {}
    atheris.Setup([sys.argv[0], str(corpus), f"-max_total_time={seconds}", "-timeout=30", "-rss_limit_mb=6000",
                   f"-artifact_prefix={found}/{name}-", "-print_final_stats=1", "-verbosity=1", "-seed=1",
                   f"-max_len={1 << 15}"], once, **more)  # fmt: skip
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=40, help="of each target")
    parser.add_argument("--found", type=Path, help="where what was found stays")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--resume", action="store_true", help="leave out the readers that OUT has already")
    args = parser.parse_args()
    if args.one:
        _fuzz(args.one[0], args.seconds, Path(args.one[1]), args.found)
        return
    rows = json.loads(args.out.read_text())["rows"] if args.resume and args.out.exists() else []
    for name in args.targets.split(","):
        if any(row["target"] == name for row in rows):
            continue
        with tempfile.TemporaryDirectory() as corpus, tempfile.TemporaryDirectory() as kept:
            found = args.found or Path(kept)
            found.mkdir(parents=True, exist_ok=True)
            begun = time.perf_counter()
            command = [sys.executable, "-m", "tests.fuzz.targets", "--one", name, corpus, "--found", str(found)]
            command += ["--seconds", str(args.seconds)]
            ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
            tried = re.search(r"number_of_executed_units:\s*(\d+)", ended.stderr)
            reached = re.findall(r"cov: (\d+)", ended.stderr)
            problems = [p.read_text() for p in sorted(found.glob(f"{name}-[0-9]*.txt"))]
            problems += [p.name for p in found.glob(f"{name}-*") if p.name[len(name) + 1 :].startswith(("t", "o", "c"))]
            if ended.returncode and not problems:
                problems.append(f"exit {ended.returncode}: {ended.stderr[-300:]}")
            rows.append({
                "target": name, "tried": int(tried[1]) if tried else 0, "reached": int(reached[-1]) if reached else 0,
                "seconds": round(time.perf_counter() - begun, 1), "found": problems,
            })  # fmt: skip
            print(rows[-1], flush=True)
            _write(args.out, rows)


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    total = {"tried": sum(r["tried"] for r in rows), "found": sum(len(r["found"]) for r in rows)}
    said = {"rows": rows, **total, "seconds": round(sum(r["seconds"] for r in rows)), "machine": machine()}
    beside = out.with_suffix(".part")
    beside.write_text(json.dumps(said, indent=1) + "\n")
    beside.replace(out)


if __name__ == "__main__":
    main()
