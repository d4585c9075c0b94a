"""A comparison on a Ray cluster whose machines have networks of their own, which are cut while they work.

    sudo python benchmarks/partitions.py [--every 45] [--cut 40] [--sets 6]

Each machine is a network namespace of Linux with its own address, joined by a bridge: a head without cores and three
nodes of one core each, whose processes reach each other by that bridge alone. Every ``--every`` seconds one node is cut
off for ``--cut`` seconds. It is not killed: its worker goes on computing and writing to the common file system, while
the cluster gives its job to another. Then what is left there is ended and a new raylet begins. Nothing is told to
Potstill but ``--executor ray --address 10.77.0.1:6379``.

Compared with one process's comparison are all tensors of all sets and all accuracies, bit by bit.

Linux, root and iproute2 are needed. Results: results/partitions.json.
"""

import argparse
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
from pathlib import Path
from typing import Any

from cluster import content
from machine import machine

OUT = Path("results/partitions.json")
BRIDGE, NETWORK, PORT, NODES = "potstill0", "10.77.0", 6379, (2, 3, 4)
BIN = Path(sys.executable).parent
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
"""One thread a process; and no token, which Ray asks of networks that others could reach."""


def ran(*command: str, **given: Any) -> None:
    subprocess.run(command, check=True, **given)


def inside(n: int) -> list[str]:
    """What a command on machine ``n`` begins with."""
    return ["ip", "netns", "exec", f"potstill{n}"]


def networks() -> None:
    """A bridge, and a namespace for each machine."""
    ran("ip", "link", "add", BRIDGE, "type", "bridge")
    ran("ip", "link", "set", BRIDGE, "up")
    for n in (1, *NODES):
        ran("ip", "netns", "add", f"potstill{n}")
        ran("ip", "link", "add", f"pot{n}", "type", "veth", "peer", "name", "eth0", "netns", f"potstill{n}")
        ran("ip", "link", "set", f"pot{n}", "master", BRIDGE, "up")
        for rest in (["addr", "add", f"{NETWORK}.{n}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            ran("ip", "-n", f"potstill{n}", *rest)
        ran("ip", "-n", f"potstill{n}", "link", "set", "lo", "up")


def swept() -> None:
    """No process, no namespace, no bridge."""
    for n in (1, *NODES):
        _killed(n)
        subprocess.run(["ip", "netns", "del", f"potstill{n}"], capture_output=True, check=False)
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True, check=False)


def _killed(n: int) -> None:
    """All that runs on machine ``n``."""
    found = subprocess.run(["ip", "netns", "pids", f"potstill{n}"], capture_output=True, text=True, check=False).stdout
    for pid in map(int, found.split()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def begun(n: int, place: Path) -> None:
    """A raylet on machine ``n``; on the first, the head."""
    where = ["--head", f"--port={PORT}", "--include-dashboard=false"] if n == 1 else [f"--address={NETWORK}.1:{PORT}"]
    ran(
        *inside(n), str(BIN / "ray"), "start", *where, f"--node-ip-address={NETWORK}.{n}", f"--num-cpus={int(n > 1)}",
        *([f"--temp-dir={place}/ray"] if n == 1 else []), "--disable-usage-stats", "--object-store-memory=100000000",
        env=QUIET, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def command(out: Path, sets: int) -> list[str]:
    return [
        str(BIN / "potstill"), "compare", "digits", "--methods", "dm,dsa,k-means", "--ipc", "1,2,5",
        "--repeats", str(sets), "--network", "convnet-d1-w16", "--seeds", "2", "--preset", "quick", "--epochs", "60",
        "--set", "dm.iterations=150", "--set", "dsa.iterations=12", "--out", str(out),
    ]  # fmt: skip


def cut_off(running: "subprocess.Popen[bytes]", every: float, cut: float, place: Path) -> int:
    """Cuts until the comparison ends, and counts them."""
    rng, cuts = random.Random(0), 0
    while True:
        try:
            running.wait(every)
            return cuts
        except subprocess.TimeoutExpired:
            n, cuts = rng.choice(NODES), cuts + 1
        ran("ip", "link", "set", f"pot{n}", "down")
        time.sleep(cut)
        ran("ip", "link", "set", f"pot{n}", "up")
        time.sleep(5)
        _killed(n)
        begun(n, place)
        print(f"machine {n} was cut off for {cut:g} s and is back", flush=True)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=float, default=45.0)
    parser.add_argument("--cut", type=float, default=40.0)
    parser.add_argument("--sets", type=int, default=6)
    args = parser.parse_args(given)
    place = Path(tempfile.mkdtemp(prefix="pot", dir="/tmp"))  # short: paths of sockets hold a hundred characters
    try:
        start = time.monotonic()
        ran(*command(place / "here", args.sets), "--executor", "serial", env=QUIET, stdout=subprocess.DEVNULL)
        alone = time.monotonic() - start
        swept()
        networks()
        for n in (1, *NODES):
            begun(n, place)
        start = time.monotonic()
        with (place / "log").open("wb") as log:
            running = subprocess.Popen(
                [*inside(1), *command(place / "there", args.sets), "--executor", "ray:retries=50", "--address",
                 f"{NETWORK}.1:{PORT}"],
                env=QUIET, stdout=log, stderr=log,
            )  # fmt: skip
            cuts = cut_off(running, args.every, args.cut, place)
        said = (place / "log").read_text()
        print(said[-2000:])
        there = time.monotonic() - start
        a, b = content(place / "here"), content(place / "there")
        known = {p.name for p in (place / "here").rglob("*")}
        found = {
            "machine": machine(), "every": args.every, "cut": args.cut, "exit": running.returncode, "cuts": cuts,
            "files": len(a), "equal": a == b,
            "other_files": sorted(p.name for p in (place / "there").rglob("*") if p.is_file() and p.name not in known),
            "seconds_alone": round(alone, 1), "seconds_there": round(there, 1),
        }  # fmt: skip
        OUT.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps(found, indent=1))
    finally:
        swept()
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
