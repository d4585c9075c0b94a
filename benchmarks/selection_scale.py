"""Selection from 10⁴, 10⁵ and 10⁶ embeddings of 512 numbers: time, peak memory and growth, beside other libraries.

    python benchmarks/selection_scale.py [--others PYTHON] [--only k-center …] [--sizes 10000 …] [--again]

Every case is a process of its own with one thread, which reads the embeddings from a file (not timed) and chooses 100
of them as one class. Peak memory is what the system says of the process when it has ended: the embeddings, which are
2 GB of the largest case, are part of it. A row is written as soon as it is made, and one that is there is not made
again.

``--others``: an interpreter that has scikit-learn, apricot-select and submodlib-py, whose rows are made in the same
run; a library that it lacks is left out, with a note. Their first call, on 200 rows, is not timed: two of them compile
then.

Growth: the slope of log processor seconds over log samples between the two largest sizes that were measured.
"""

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WIDTH, CHOSEN, NEIGHBOURS, ROUNDS = 512, 100, 10, 10
SIZES = (10**4, 10**5, 10**6)
LIMIT_SECONDS, LIMIT_BYTES = 60, 12 * 2**30
"""Processor seconds and bytes that another library may take; it is stopped there, and that is its result."""

ours: dict[str, tuple[str, int, Callable[[Any], Any]]] = {}
"""By name: a note, the largest size, and what is done with the embeddings."""
others: dict[str, tuple[str, int, Callable[[Any, Any], Any]]] = {}


def choice(name: str, note: str = "", most: int = SIZES[-1], where: Any = None) -> Any:
    def add(function: Any) -> Any:
        (ours if where is None else where)[name] = (note, most, function)
        return function

    return add


def rng() -> Any:
    from potstill.rng import generator

    return generator(0, "benchmark")


@choice("herding")
def herding(x: Any) -> Any:
    from potstill.functional.coreset import herding

    return herding(x, CHOSEN)


@choice("k-center")
def k_center(x: Any) -> Any:
    from potstill.functional.coreset import k_center

    return k_center(x, CHOSEN)


@choice("k-means", f"{ROUNDS} rounds")
def k_means(x: Any) -> Any:
    from potstill.functional.coreset import k_means, medoids

    return medoids(x, k_means(x, CHOSEN, rng(), ROUNDS)[0])


@choice("k-median", f"{ROUNDS} rounds")
def k_median(x: Any) -> Any:
    from potstill.functional.geometry import k_median

    return k_median(x, CHOSEN, rng(), ROUNDS)


def _graph(x: Any, search: Any) -> Any:
    from potstill.functional.geometry import graph_density
    from potstill.functional.neighbours import neighbours, symmetric_graph

    return graph_density(symmetric_graph(neighbours(x, NEIGHBOURS, search=search, rng=rng())), CHOSEN)


@choice("knn-graph", "l2, exact", SIZES[0])
def knn_graph(x: Any) -> Any:
    return _graph(x, "exact")


@choice("knn-graph (cells)", "l2")
def knn_graph_cells(x: Any) -> Any:
    return _graph(x, "cells")


@choice("knn-graph (faiss)", "l2", SIZES[1])
def knn_graph_faiss(x: Any) -> Any:
    return _graph(x, "faiss")


@choice("facility-location", "all similarities, lazy", SIZES[0])
def facility(x: Any) -> Any:
    from potstill.functional.submodular import facility_location

    return facility_location(x, CHOSEN)


@choice("facility-location (stochastic)", "all similarities", SIZES[0])
def facility_stochastic(x: Any) -> Any:
    from potstill.functional.submodular import facility_location

    return facility_location(x, CHOSEN, greedy="stochastic", rng=rng())


@choice("facility-location (neighbours)", f"{NEIGHBOURS} neighbours, cells")
def facility_sparse(x: Any) -> Any:
    from potstill.functional.neighbours import neighbours
    from potstill.functional.submodular import facility_location_sparse

    return facility_location_sparse(neighbours(x, NEIGHBOURS, search="cells", rng=rng()), CHOSEN)


@choice("graph-cut", "cosine")
def cut(x: Any) -> Any:
    from potstill.functional.submodular import graph_cut

    return graph_cut(x, CHOSEN)


@choice("contextual-diversity", f"{WIDTH} classes")
def diversity(x: Any) -> Any:
    from potstill.functional.geometry import divergence_center

    for part in x.split(4096):
        part.copy_(part.log_softmax(1))
    return divergence_center(x, CHOSEN)


@choice("moderate")
def middling(x: Any) -> Any:
    from potstill.functional.geometry import moderate

    return moderate(x, CHOSEN)


@choice("zcore", "20,000 draws, 400 of them together")
def coverage(x: Any) -> Any:
    from potstill.functional.geometry import zcore_scores

    return zcore_scores(x, rng(), samples=20_000, draws_per_tree=400).argsort(descending=True)[:CHOSEN]


@choice("near duplicates")
def near(x: Any) -> Any:
    from potstill.functional.duplicates import near_duplicates

    return near_duplicates(x).nonzero().flatten()[:CHOSEN]


# --- other libraries: the same work where they offer it; they know no torch -----------------------------------------


@choice("k-means: scikit-learn", f"{ROUNDS} rounds", where=others)
def sklearn_k_means(x: Any, n: int) -> Any:
    from sklearn.cluster import KMeans

    made = KMeans(min(n, CHOSEN), n_init=1, max_iter=ROUNDS, tol=0, random_state=0, algorithm="lloyd", copy_x=False)
    return [float(made.fit(x).inertia_)][:0]


@choice("knn-graph: scikit-learn", "the neighbours alone, exact", SIZES[1], others)
def sklearn_neighbours(x: Any, n: int) -> Any:
    from sklearn.neighbors import NearestNeighbors

    NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(x).kneighbors(x)
    return []


@choice("facility-location: apricot", "all similarities, lazy", SIZES[1], others)
def apricot_facility(x: Any, n: int) -> Any:
    from apricot import FacilityLocationSelection

    made = FacilityLocationSelection(min(n, CHOSEN), metric="cosine", optimizer="lazy", verbose=False)
    return made.fit(x).ranking.tolist()


@choice("graph-cut: apricot", "cosine", SIZES[1], others)
def apricot_cut(x: Any, n: int) -> Any:
    from apricot import GraphCutSelection

    made = GraphCutSelection(min(n, CHOSEN), metric="cosine", alpha=2.0, optimizer="lazy", verbose=False)
    return made.fit(x).ranking.tolist()


def _submodlib(made: Any, n: int) -> Any:
    return [i for i, _ in made.maximize(budget=min(n, CHOSEN), optimizer="LazyGreedy", show_progress=False)]


@choice("facility-location: submodlib", "all similarities, lazy", SIZES[0], others)
def submodlib_facility(x: Any, n: int) -> Any:
    from submodlib import FacilityLocationFunction

    return _submodlib(FacilityLocationFunction(n=len(x), mode="dense", data=x, metric="cosine"), n)


@choice("facility-location (neighbours): submodlib", f"{NEIGHBOURS} neighbours, exact", SIZES[0], others)
def submodlib_sparse(x: Any, n: int) -> Any:
    from submodlib import FacilityLocationFunction

    made = FacilityLocationFunction(n=len(x), mode="sparse", data=x, metric="euclidean", num_neighbors=NEIGHBOURS)
    return _submodlib(made, n)


@choice("graph-cut: submodlib", "cosine", SIZES[0], others)
def submodlib_cut(x: Any, n: int) -> Any:
    from submodlib import GraphCutFunction

    return _submodlib(GraphCutFunction(n=len(x), mode="dense", lambdaVal=2.0, data=x, metric="cosine"), n)


@choice("k-center: submodlib", "disparity min, which is its greedy rule", SIZES[0], others)
def submodlib_disparity(x: Any, n: int) -> Any:
    from submodlib import DisparityMinFunction

    made = DisparityMinFunction(n=len(x), mode="dense", data=x, metric="euclidean")
    return [i for i, _ in made.maximize(budget=min(n, CHOSEN), optimizer="NaiveGreedy", show_progress=False)]


NEEDS = {"scikit-learn": "sklearn", "apricot": "apricot", "submodlib": "submodlib"}


def make(path: Path, n: int) -> None:
    """Embeddings: 200 groups and noise with a spectrum that falls like one over the square root, written in chunks."""
    import numpy as np

    draw = np.random.Generator(np.random.PCG64(0))
    scale = (1 / np.sqrt(1 + np.arange(WIDTH) / 8)).astype(np.float32)
    centres = draw.standard_normal((200, WIDTH), dtype=np.float32) * scale
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, WIDTH))
    for begin in range(0, n, 2**15):
        rows = min(2**15, n - begin)
        x = draw.standard_normal((rows, WIDTH), dtype=np.float32) * (0.7 * scale)
        out[begin : begin + rows] = x + centres[draw.integers(0, 200, rows)]
    out.flush()


def work(name: str, path: str) -> dict[str, Any]:
    """One case, in this process."""
    import numpy as np

    foreign = name in others
    _, _, function = (others if foreign else ours)[name]
    if foreign:
        needed = NEEDS[name.split(": ")[1]]
        if importlib.util.find_spec(needed) is None:
            return {"failed": f"{needed} is not installed"}
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_SECONDS, LIMIT_SECONDS))
    x = np.load(path)
    if foreign:
        # numba compiles, and libraries import, at the first call
        try:
            function(np.ascontiguousarray(x[:200]), 20)
            begun, used = time.perf_counter(), time.process_time()
            chosen = function(x, CHOSEN)
        except (MemoryError, np.linalg.LinAlgError) as error:
            return {"failed": f"memory: {type(error).__name__}"}
    else:
        import torch

        torch.set_num_threads(1)
        rows = torch.from_numpy(x)
        function(rows[:300].clone())
        begun, used = time.perf_counter(), time.process_time()
        chosen = function(rows).tolist()
    return {"wall": time.perf_counter() - begun, "cpu": time.process_time() - used, "chosen": [int(i) for i in chosen]}


def measured(name: str, n: int, path: Path, python: str) -> dict[str, Any]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    words = [python, str(Path(__file__).resolve()), "--case", name, "--data", str(path)]
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, stdout=answer, stderr=said, env={**os.environ, **dict.fromkeys(names, "1")})
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        answer.seek(0)
        said.seek(0)
        lines, error = answer.read().decode().strip().splitlines(), said.read().decode().strip().splitlines()
    row = {"name": name, "samples": n, "peak": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)}
    if process.returncode == 0:
        return row | json.loads(lines[-1])
    if used.ru_utime + used.ru_stime > LIMIT_SECONDS - 1:
        return row | {"failed": f"more than {LIMIT_SECONDS} s"}
    return row | {"failed": f"ended with {process.returncode}: {error[-1] if error else ''}"[:200]}


def exponents(rows: list[dict[str, Any]]) -> dict[str, float]:
    found = {}
    for name in dict.fromkeys(r["name"] for r in rows):
        points = sorted((r["samples"], r["cpu"]) for r in rows if r["name"] == name and "cpu" in r)[-2:]
        if len(points) == 2:
            (a, s), (b, t) = points
            found[name] = math.log(t / s) / math.log(b / a)
    return found


def values(rows: list[dict[str, Any]], path: Path) -> dict[str, float]:
    """What choices by facility location are worth: the mean largest similarity (1 + cos)/2, of the smallest size."""
    import numpy as np
    import torch

    from potstill.functional.submodular import row_similarity

    k = row_similarity(torch.from_numpy(np.load(path)), "cosine")
    n = len(k.x)
    return {
        r["name"]: float(k.of(slice(0, n), torch.tensor(r["chosen"])).max(1).values.mean())
        for r in rows
        if r["name"].startswith("facility-location") and r["samples"] == n and r.get("chosen")
    }


def recall(path: Path, n: int) -> dict[str, float]:
    """The part of the exact neighbours of 500 rows that the approximate searches find."""
    import numpy as np
    import torch

    from potstill.functional.distances import pairwise_squared
    from potstill.functional.neighbours import neighbours

    x = torch.from_numpy(np.load(path))
    asked = torch.arange(0, n, n // 500)[:500]
    gaps = pairwise_squared(x, x[asked]).T.contiguous()
    gaps[torch.arange(500), asked] = math.inf
    exact = gaps.topk(NEIGHBOURS, largest=False).indices.tolist()
    found = {}
    for search in ("cells", "faiss"):
        if search == "faiss" and importlib.util.find_spec("faiss") is None:
            continue
        near = neighbours(x, NEIGHBOURS, search=search, rng=rng()).others[asked].tolist()  # type: ignore[arg-type]
        hits = sum(len(set(a) & set(b)) for a, b in zip(exact, near, strict=True))
        found[search] = hits / (500 * NEIGHBOURS)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", default=sys.executable, help="interpreter with the other libraries")
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--again", action="store_true", help="measure rows that are there already")
    parser.add_argument("--out", type=Path, default=Path("results/selection_scale.json"))
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(work(args.case, args.data)))
        return
    from machine import machine

    made = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {"rows": {}}
    made |= {"machine": machine(), "width": WIDTH, "chosen": CHOSEN, "limit_seconds": LIMIT_SECONDS}
    made["limit_bytes"] = LIMIT_BYTES

    def write() -> None:
        made["exponents"] = exponents(list(made["rows"].values()))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as folder:
        for n in args.sizes:
            path = Path(folder) / f"{n}.npy"
            # In a process of its own: on Linux a process starts with the peak of the one that it was started by.
            code = f"import selection_scale as s; from pathlib import Path; s.make(Path({str(path)!r}), {n})"
            subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
            for name, (note, most, _) in {**ours, **others}.items():
                key = f"{name}, {n}"
                if n > most or (args.only and name not in args.only) or (key in made["rows"] and not args.again):
                    continue
                row = measured(name, n, path, args.others if name in others else sys.executable)
                made["rows"][key] = {**row, "note": note, "ours": name in ours}
                print({k: v for k, v in made["rows"][key].items() if k != "chosen"}, flush=True)
                write()
            if n == SIZES[0]:
                made["values"] = values(list(made["rows"].values()), path)
            if n == SIZES[1] and ("recall" not in made or args.again):
                made["recall"] = recall(path, n)
            write()
            path.unlink()


if __name__ == "__main__":
    main()
