"""A small graph with classes for tests: groups of nodes with words of their own, linked mostly among themselves."""

import numpy as np


def block_graph(each: int = 40, classes: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Return features, edges, labels and masks: per class 8 nodes train, 6 choose, 12 test."""
    draw = np.random.default_rng(seed)
    n = each * classes
    labels = np.repeat(np.arange(classes), each)
    chance = np.where(labels[:, None] == labels[None, :], 0.15, 0.01)
    edges = np.stack(np.nonzero(np.triu(draw.random((n, n)) < chance, 1)))
    own = np.arange(classes * 8) // 8 == labels[:, None]
    features = (draw.random((n, classes * 8)) < np.where(own, 0.3, 0.12)).astype(np.float32)
    features[features.sum(1) == 0, 0] = 1
    place = np.concatenate([draw.permutation(each) for _ in range(classes)])
    return {
        "features": features, "edge_index": edges, "labels": labels, "train_mask": place < 8,
        "val_mask": (place >= 8) & (place < 14), "test_mask": (place >= 14) & (place < 26),
    }  # fmt: skip
