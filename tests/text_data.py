"""A small corpus with classes for tests: made of word lists, the same every time."""

import random

WORDS = {
    "cooking": "soup bread salt oven butter flour sugar pan stew pepper onion garlic recipe bake boil",
    "sailing": "mast sail wind harbour anchor keel rope deck tide wave captain crew storm port hull",
    "gardening": "soil seed rose lawn spade hedge compost tulip weed prune pot shade bloom root fence",
}
FILLER = "the a with some very old new little good under over near and then"


def corpus(each: int = 40, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return texts of eight words, three to five of their class, and their labels."""
    draw = random.Random(seed)
    texts, labels = [], []
    for _ in range(each):
        for name, words in WORDS.items():
            own = draw.sample(words.split(), draw.randint(3, 5))
            rest = [draw.choice(FILLER.split()) for _ in range(8 - len(own))]
            both = own + rest
            draw.shuffle(both)
            texts.append(" ".join(both))
            labels.append(name)
    return texts, labels
