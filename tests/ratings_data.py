"""Small interactions for tests: three groups of users, each with items of its own."""

import csv
import random
from pathlib import Path


def shop_rows(users: int = 60, items: int = 36, seed: int = 0) -> list[list[object]]:
    """Return rows user, item, rating, timestamp, title: 9 items of a user are of its group, 3 of others."""
    draw = random.Random(seed)
    rows: list[list[object]] = []
    for user in range(users):
        own = [i for i in range(items) if i % 3 == user % 3]
        others = [i for i in range(items) if i % 3 != user % 3]
        met = draw.sample(own, 9) + draw.sample(others, 3)
        draw.shuffle(met)
        rows += [[f"u{user}", f"i{i}", 1 + (i + user) % 5, 1000 + 10 * t, f"Thing <{i}>"] for t, i in enumerate(met)]
    return rows


def write_shop(path: Path, head: tuple[str, ...] = ("user", "item", "rating", "timestamp", "title")) -> Path:
    """Write `shop_rows` as CSV, with the first columns that ``head`` names."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(row[: len(head)] for row in shop_rows())
    return path
