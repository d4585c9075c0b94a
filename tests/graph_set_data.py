"""A small set of graphs with classes: rings, stars and paths of several sizes, in the TU format or as objects."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch


def ring(n: int) -> list[tuple[int, int]]:
    return [(i, (i + 1) % n) for i in range(n)]


def star(n: int) -> list[tuple[int, int]]:
    return [(0, i) for i in range(1, n)]


def path(n: int) -> list[tuple[int, int]]:
    return [(i, i + 1) for i in range(n - 1)]


SHAPES = {0: ring, 1: star, 2: path}


def small_graphs(each: int = 12, seed: int = 0) -> list[tuple[int, list[tuple[int, int]], int]]:
    """Return nodes, edges and class of each graph, nodes in random order."""
    draw = np.random.default_rng(seed)
    found = []
    for label, shape in SHAPES.items():
        for _ in range(each):
            n = int(draw.integers(4, 9))
            name = draw.permutation(n)
            found.append((n, [(int(name[a]), int(name[b])) for a, b in shape(n)], label))
    return found


def objects(**settings: int) -> list[SimpleNamespace]:
    """Return objects with the attributes of PyTorch Geometric's ``Data``."""
    return [
        SimpleNamespace(
            x=torch.ones(n, 1), edge_index=torch.tensor(edges).T, y=torch.tensor([label]), num_nodes=n
        )
        for n, edges, label in small_graphs(**settings)
    ]  # fmt: skip


def write_tu(folder: Path, name: str = "SHAPES", **settings: int) -> Path:
    """Write the graphs in the TU format; labels of nodes are their numbers of edges, up to 2."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs, owner, labels, kinds, first = [], [], [], [], 1
    for number, (n, edges, label) in enumerate(small_graphs(**settings), 1):
        pairs += [(a + first, b + first) for edge in edges for a, b in (edge, edge[::-1])]
        owner += [number] * n
        labels.append(label)
        degree = np.bincount(np.array(edges).reshape(-1), minlength=n)
        kinds += np.minimum(degree, 2).tolist()
        first += n
    for part, rows in (("A", (f"{a}, {b}" for a, b in pairs)), ("graph_indicator", owner), ("graph_labels", labels),
                       ("node_labels", kinds)):  # fmt: skip
        (folder / f"{name}_{part}.txt").write_text("\n".join(map(str, rows)) + "\n", encoding="utf-8")
    return folder
