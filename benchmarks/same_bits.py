"""Same seed, same bits: twice in fresh processes, and after kill -9 at three random points.

    python benchmarks/same_bits.py [--method dm] [--steps 60] [--out results/same_bits.json]

Each run is a process of its own that writes a checkpoint after every step; a killed run is continued with ``resume``.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from machine import machine
from safetensors.numpy import load_file

from potstill.rng import generator


def digest(path: Path) -> str:
    """SHA-256 over the names and bytes of all tensors of a set (the card holds seconds, which differ)."""
    h = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        h.update(name.encode() + str(tensor.dtype).encode() + str(tensor.shape).encode() + tensor.tobytes())
    return h.hexdigest()


RUN = """
import sys
from pathlib import Path
import potstill
method, steps, out, seed, resume = sys.argv[1:]
small = potstill.distill(
    "digits", method, ipc=2, network="convnet-d2-w16", steps=int(steps), seed=int(seed),
    checkpoint=Path(out + ".checkpoint"), checkpoint_every=0.0, resume=resume == "yes",
)
small.save(out)
"""


def command(method: str, steps: int, out: Path, seed: int, resume: bool = False) -> list[str]:
    """One run in a process of its own, with a checkpoint after every step."""
    return [sys.executable, "-c", RUN, method, str(steps), str(out), str(seed), "yes" if resume else "no"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="dm,dc,dsa,random-soft")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("results/same_bits.json"))
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for method in args.methods.split(","):
            digests = []
            begun = time.monotonic()
            for repeat in range(2):
                out = Path(folder) / f"{method}-{repeat}.safetensors"
                subprocess.run(command(method, args.steps, out, 7), check=True, stdout=subprocess.DEVNULL)
                digests.append(digest(out))
            whole = (time.monotonic() - begun) / 2
            out = Path(folder) / f"{method}-killed.safetensors"
            checkpoint = Path(f"{out}.checkpoint")
            rng = generator(os.getpid())  # the points are meant to differ from run to run
            kills = []
            while len(kills) < 3:
                run = command(method, args.steps, out, 7, resume=checkpoint.exists())
                process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                # Wait for the first checkpoint of this part, then a random while, then kill.
                before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
                while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before):
                    time.sleep(0.005)
                time.sleep(float(torch.rand(1, generator=rng)) * 0.15 * whole / 3)
                if process.poll() is not None:
                    break
                process.send_signal(signal.SIGKILL)
                process.wait()
                with open(checkpoint, "rb") as f:
                    header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
                kills.append(int(json.loads(header["__metadata__"]["checkpoint"])["step"]))
            if not out.exists():
                last = command(method, args.steps, out, 7, resume=True)
                subprocess.run(last, check=True, stdout=subprocess.DEVNULL)
            digests.append(digest(out))
            same = len(set(digests)) == 1
            rows.append({"method": method, "killed_after_steps": kills, "same": same, "sha256": digests[0]})
            print(f"{method:12} killed after steps {kills}: {'same bits' if rows[-1]['same'] else 'DIFFERENT BITS'}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": machine(), "steps": args.steps, "rows": rows}, indent=1) + "\n")
    if not all(r["same"] for r in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
