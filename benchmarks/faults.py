"""Writes that fail, disks that are full and kills, for every command that writes, and bits that fall over.

    python benchmarks/faults.py [--parts errors,full,kills,bits] [--commands distill,label] [--points 50] [--kills 20]

Each command is run as a user types it (`potstill.cli.main`), on digits, in a process of its own with a fresh folder
and a fresh cache. Beneath the C library lies `faults.c`, which counts the calls that change files or folders (write,
pwrite, sendfile, fsync, ftruncate, fallocate, rename, link, mkdir, open of a new file) and lets one of them fail.

- ``errors``: each call in turn (at most ``--points`` of them, drawn) fails once with an I/O error.
- ``full``: from a call that is drawn on, every call that needs room fails with "No space left on device".
- ``kills``: SIGKILL, half of them at such a call and half at a random moment of the clock.

After each, the same command again (``distill`` with ``--resume``): it must end, and what it wrote must be what an
undisturbed run writes, leaf by leaf: all tensors bit for bit, all values of JSON and tables. Left out of that are those
leaves in which three undisturbed runs differ (seconds, dates), which are counted, all that is called seconds or
peak_memory, and the typed line, in which ``--resume`` stands. A run that was told of a fault must either end well with
that same result (``borne``, and of which calls) or say one line on stderr and exit 1; a traceback counts against it.

- ``bits``: one bit is turned in each of 300 files that those runs stored; `potstill verify` must notice.
- ``lost``: parts of files left beside the output after the second run.

Result: results/faults.json; with ``--commands`` the rows of the others stay as they are.
"""

import argparse
import contextlib
import ctypes
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OUT = Path("results/faults.json")
SMALL = ["--network", "convnet-d1-w4", "--executor", "serial", "--device", "cpu"]
MTT = [
    "--num-experts", "1", "--train-epochs", "2", "--max-start-epoch", "1", "--expert-epochs", "1", "--student-steps",
    "1",
]  # fmt: skip
COMMANDS: dict[str, list[str]] = {
    "distill": ["distill", "digits", "--method", "dm", "--ipc", "1", "--steps", "6", "--out", "a.safetensors",
                *SMALL],
    "experts": ["distill", "digits", "--method", "mtt", "--ipc", "1", "--steps", "1", *MTT, "--out", "e.safetensors",
                *SMALL],
    "select": ["distill", "digits", "--method", "random", "--ipc", "2", "--out", "r.safetensors"],
    "label": ["label", "given.safetensors", "--data", "digits", "--out", "l.safetensors", "--epochs", "2",
              "--teacher-epochs", "5", *SMALL],
    "evaluate": ["evaluate", "given.safetensors", "--data", "digits", "--seeds", "2", "--epochs", "2",
                 "--no-baselines", "--out", "card.json", *SMALL],
    "compare": ["compare", "digits", "--methods", "dm,random", "--ipc", "1", "--seeds", "1", "--out", "board",
                "--set", "dm.iterations=2", "--set", "protocol:potstill.epochs=2", *SMALL],
    "score": ["score", "digits", "--methods", "el2n", "--epochs", "3", "--runs", "1", "--out", "s.parquet", *SMALL],
    "npz": ["export", "given.safetensors", "--to", "npz", "--out", "x.npz"],
    "png": ["export", "given.safetensors", "--to", "png", "--out", "pictures"],
    "parquet": ["export", "given.safetensors", "--to", "parquet", "--out", "x.parquet"],
    "webdataset": ["export", "given.safetensors", "--to", "webdataset", "--out", "shards"],
    "hf": ["export", "given.safetensors", "--to", "hf", "--out", "hf"],
    "report": ["report", "given.safetensors", "--out", "page.html"],
}  # fmt: skip
COUNT, FAIL, FULL, KILL = 1, 2, 3, 4


@dataclass
class Ended:
    """What became of one run."""

    status: int
    """As the shell sees it; minus the signal."""
    calls: int = 0
    failed: int = 0
    first: str = ""
    """The call that failed first."""
    said: list[str] = field(default_factory=list)


def _child(words: Sequence[str], place: Path, how: int, at: int, pipe: int) -> None:
    from potstill.cli.main import entry

    os.chdir(place)
    os.environ["POTSTILL_CACHE"] = str(place / "cache")
    with open(place.with_suffix(".err"), "w+") as err, open(os.devnull, "w") as null:
        os.dup2(err.fileno(), 2)
        os.dup2(null.fileno(), 1)
    sys.argv = ["potstill", *words, "--quiet"]
    shim = ctypes.CDLL(None)
    status = 70
    shim.faults_arm(how, ctypes.c_long(at))
    try:
        entry()
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    shim.faults_first.restype = ctypes.c_char_p
    told = json.dumps([shim.faults_count(), shim.faults_failed(), shim.faults_first().decode()])
    shim.faults_arm(0, ctypes.c_long(0))
    sys.stderr.flush()
    os.write(pipe, told.encode())
    os._exit(status)


def run(words: Sequence[str], place: Path, how: int = COUNT, at: int = -1, after: float | None = None) -> Ended:
    """One command in a fork of this process, which has imported all and computed nothing."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            _child(words, place, how, at, writer)
        finally:
            os._exit(71)
    os.close(writer)
    if after is not None:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reader) as told:
        text = told.read()
    calls, failed, first = json.loads(text) if text else (0, 0, "")
    err = place.with_suffix(".err")
    said = err.read_text().splitlines() if err.exists() else []
    return Ended(os.waitstatus_to_exitcode(status), calls, failed, first, said)


def leaves(value: Any, name: str = "") -> dict[str, str]:
    """Every value of a document by its path in it."""
    if isinstance(value, dict):
        return {k: v for key, one in value.items() for k, v in leaves(one, f"{name}.{key}").items()}
    if isinstance(value, list):
        return {k: v for n, one in enumerate(value) for k, v in leaves(one, f"{name}.{n}").items()}
    with contextlib.suppress(ValueError):
        if isinstance(value, str) and value[:1] in "{[":
            return leaves(json.loads(value), name)
    return {name: repr(value)}


def content(place: Path) -> dict[str, str]:
    """All that a run wrote, but for its cache, taken apart."""
    import hashlib

    import pyarrow.parquet as pq
    import safetensors.numpy
    from safetensors import safe_open

    found: dict[str, str] = {}
    for path in sorted(p for p in place.rglob("*") if p.is_file()):
        name = str(path.relative_to(place))
        if name.startswith(("cache", "given")):
            continue
        if path.suffix == ".safetensors":
            for key, array in safetensors.numpy.load_file(path).items():
                said = hashlib.sha256(array.tobytes()).hexdigest()
                found[f"{name}:{key}"] = f"{array.dtype}{array.shape}{said}"
            with safe_open(path, "np") as file:
                about = dict(file.metadata() or {})
            about.pop("sha256", None)
            found |= {f"{name}:{key}": value for key, value in leaves(about).items()}
        elif path.suffix == ".json":
            found |= {f"{name}:{key}": value for key, value in leaves(json.loads(path.read_text())).items()}
        elif path.suffix == ".parquet":
            table = pq.read_table(path)
            about = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
            found |= {f"{name}:{key}": value for key, value in leaves(about).items()}
            found[name] = hashlib.sha256(repr(table.to_pydict()).encode()).hexdigest()
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@dataclass
class Tally:
    """One command under one kind of fault."""

    command: str
    part: str
    calls: int = 0
    faults: int = 0
    told: int = 0
    """Said one line and exited 1."""
    borne: int = 0
    """Ended well all the same."""
    borne_calls: dict[str, int] = field(default_factory=dict)
    """Which calls failed then."""
    killed: int = 0
    same: int = 0
    """The second run ended with what an undisturbed one writes."""
    not_compared: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)


def fresh(folder: Path, given: Path | None) -> Path:
    """An empty place for one run, with the set that it is given."""
    place = Path(tempfile.mkdtemp(dir=folder))
    if given is not None:
        shutil.copy(given, place / "given.safetensors")
    return place


def trial(
    tally: Tally, words: Sequence[str], folder: Path, given: Path | None, wanted: dict[str, str], free: set[str],
    how: int, at: int, after: float | None,
) -> None:  # fmt: skip
    """One fault, and the same command again."""
    place, where = fresh(folder, given), f"call {at}" if after is None else f"{after:.2f} s"
    first = run(words, place, how, at, after)
    tally.faults += 1
    if first.status == -signal.SIGKILL:
        tally.killed += 1
    elif first.status == 0:
        tally.borne += 1
        tally.borne_calls[first.first] = tally.borne_calls.get(first.first, 0) + 1
        found = content(place)
        if bad := [n for n in wanted.keys() | found.keys() if n not in free and wanted.get(n) != found.get(n)]:
            tally.wrong.append(f"{where}: ended well with other values: {sorted(bad)[:4]}")
    elif first.status == 1 and len(first.said) == 1 and first.said[0].startswith("potstill: "):
        tally.told += 1
        if "unexpected" in first.said[0]:
            tally.wrong.append(f"{where}: {first.said[0][:300]}")
    else:
        tally.wrong.append(f"{where}: exit {first.status}, {len(first.said)} lines: {' / '.join(first.said)[-400:]}")
    if first.status == 0 and words[0] == "export":  # which does not write over what is there
        tally.same += not bad
        shutil.rmtree(place)
        place.with_suffix(".err").unlink(missing_ok=True)
        return
    again = run([*words, "--resume"] if words[0] == "distill" else words, place)
    found = content(place) if again.status == 1 and words[0] == "export" else {}
    if found and all(wanted.get(n) == found.get(n) for n in wanted.keys() | found.keys() if n not in free):
        tally.same += 1  # it was whole before it was said or killed, and an export does not write over what is there
    elif again.status != 0:
        tally.wrong.append(f"{where}, again: exit {again.status}: {' / '.join(again.said)[-400:]}")
    else:
        found = content(place)
        parts = [n for n in found if n.endswith(".part") or ".checkpoint" in n.split(":")[0]]
        tally.lost += len(parts)
        bad = [n for n in wanted.keys() | found.keys() if n not in free and wanted.get(n) != found.get(n)]
        bad = [n for n in bad if n not in parts]
        if bad:
            tally.wrong.append(f"{where}, again: other values: {sorted(bad)[:4]}")
        else:
            tally.same += 1
    shutil.rmtree(place)
    place.with_suffix(".err").unlink(missing_ok=True)


def bits(folder: Path, count: int, rng: random.Random) -> dict[str, Any]:
    """One bit turned in each of ``count`` stored files, and whether ``verify`` sees it."""
    from potstill.api.verify import verify, verify_file

    sealed = [v for v in verify(folder) if v.sealed and not v.problem]
    noticed, kinds, missed = 0, dict[str, int](), []
    for n in range(count):
        one = sealed[n % len(sealed)]
        path = Path(one.path)
        whole = bytearray(path.read_bytes())
        at, bit = rng.randrange(len(whole)), rng.randrange(8)
        whole[at] ^= 1 << bit
        place = Path(tempfile.mkdtemp(dir=folder)) / path.name
        place.write_bytes(whole)
        if verify_file(place).problem:
            noticed += 1
        else:
            missed.append(f"{one.kind} {path.name}, byte {at} of {len(whole)}")
        kinds[one.kind] = kinds.get(one.kind, 0) + 1
        shutil.rmtree(place.parent)
    return {"files": count, "distinct": len(sealed), "noticed": noticed, "kinds": kinds, "missed": missed}


def measure(args: argparse.Namespace, folder: Path, result: dict[str, Any]) -> None:
    rng = random.Random(args.seed)
    first = fresh(folder, None)
    ended = run(COMMANDS["distill"], first)
    assert ended.status == 0, ended
    given = folder / "given.safetensors"
    shutil.copy(first / "a.safetensors", given)
    parts = args.parts.split(",")
    for name in args.commands.split(",") if args.commands else COMMANDS:
        words = COMMANDS[name]
        begun = time.perf_counter()
        places = [fresh(folder, given) for _ in range(3)]
        clean = [run(words, place) for place in places]
        if any(one.status for one in clean):
            print(name, "does not run:", clean[0].said)
            result["rows"].append(asdict(Tally(name, "clean", wrong=clean[0].said)))
            continue
        seconds = (time.perf_counter() - begun) / 3
        one, two, three = (content(place) for place in places)
        free = {n for n in one if n.endswith((".command", "seconds", "peak_memory"))} | {
            n for n in one.keys() | two.keys() | three.keys() if not one.get(n) == two.get(n) == three.get(n)
        }
        calls = clean[0].calls
        for part in ("errors", "full", "kills"):
            if part not in parts:
                continue
            tally = Tally(name, part, calls=calls, not_compared=len(free))
            for n in (
                range(args.kills) if part == "kills" else sorted(rng.sample(range(calls), min(calls, args.points)))
            ):
                if part == "kills":
                    after = rng.uniform(0, seconds) if n % 2 else None
                    at = rng.randrange(calls) if after is None else -1
                    trial(tally, words, folder, given, one, free, KILL if after is None else COUNT, at, after)
                else:
                    trial(tally, words, folder, given, one, free, FAIL if part == "errors" else FULL, n, None)
            result["rows"].append(asdict(tally))
            counts = {key: getattr(tally, key) for key in ("faults", "told", "borne", "killed", "same", "lost")}
            print(
                f"{name:11} {part:7} calls {calls:4} {counts} {tally.borne_calls} wrong {len(tally.wrong)}", flush=True
            )
            for wrong in tally.wrong[:3]:
                print("   ", wrong, flush=True)
    if "bits" in parts:
        result["bits"] = bits(folder, args.bits, rng)
        print(result["bits"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="errors,full,kills,bits")
    parser.add_argument("--commands", default="")
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--bits", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    if "FAULTS_SHIM" not in os.environ:  # again, with the library beneath
        with tempfile.TemporaryDirectory() as built:
            shim = Path(built) / "faults.so"
            subprocess.run(
                ["cc", "-shared", "-fPIC", "-O1", "-o", shim, Path(__file__).with_suffix(".c"), "-ldl"], check=True
            )
            told = {"LD_PRELOAD": str(shim), "FAULTS_SHIM": "1", "OMP_NUM_THREADS": "1"}
            sys.exit(subprocess.run([sys.executable, *sys.argv], env={**os.environ, **told}).returncode)
    import torch

    torch.set_num_threads(1)
    for module in ("potstill.cli.main", "potstill.cli.commands.distill", "potstill", "pyarrow.parquet", "PIL.Image",
                   "sklearn", "scipy.stats", "potstill.api.compare", "potstill.api.label", "potstill.api.score",
                   "potstill.api.verify", "potstill.reports.page", "torch._dynamo"):  # fmt: skip
        importlib.import_module(module)
    result: dict[str, Any] = {"rows": []}
    if args.commands and args.out.exists():  # the others' rows stay
        result = json.loads(args.out.read_text())
        result["rows"] = [row for row in result["rows"] if row["command"] not in args.commands.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        measure(args, Path(folder), result)
    rows = result["rows"]
    for part in ("errors", "full", "kills"):
        of = [row for row in rows if row["part"] == part]
        result[part] = {
            key: sum(row[key] for row in of) for key in ("faults", "told", "borne", "killed", "same", "lost")
        } | {"wrong": sum(len(row["wrong"]) for row in of), "commands": len(of)}
        print(part, result[part])
    from machine import machine

    result["machine"] = machine()
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
