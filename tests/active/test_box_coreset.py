"""CSOD against its sums written out, and against every subset of eight images."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from potstill.active.detection import ImageClass, csod, image_class_means
from potstill.errors import PotstillError
from potstill.rng import generator


def scenes(n=50, k=4, d=5, seed=0):
    """Boxes of ``n`` images: up to four each, in ``k`` classes."""
    rng = generator(seed, "scenes")
    image = torch.repeat_interleave(torch.arange(n), torch.randint(1, 5, (n,), generator=rng))
    label = torch.randint(k, (len(image),), generator=rng)
    return torch.randn(len(image), d, generator=rng, dtype=torch.float64) + label[:, None], image, label


def naive_rows(features, image, label):
    return {
        (i, c): features[(image == i) & (label == c)].mean(0)
        for i, c in sorted(set(zip(image.tolist(), label.tolist(), strict=True)))
    }


def naive(rows, m, redundancy):
    classes = sorted({c for _, c in rows})
    taken = []
    while len(taken) < m:
        for c in classes:
            members = [i for i, d in rows if d == c]
            open_to = [i for i in members if i not in taken]
            if not open_to or len(taken) == m:
                continue

            def score(i, c=c, members=members):
                def cos(j):
                    return F.cosine_similarity(rows[i, c], rows[j, c], dim=0)

                left = sum(cos(j) for j in members if j not in taken)
                kept = sum(cos(j) for j in members if j in taken)
                return float(left - redundancy * kept)

            taken.append(max(open_to, key=lambda i: (round(score(i), 9), -i)))
    return taken


def test_means_of_an_image_and_a_class():
    features, image, label = scenes()
    rows, by_hand = image_class_means(features, image, label), naive_rows(features, image, label)
    assert list(zip(rows.image.tolist(), rows.label.tolist(), strict=True)) == list(by_hand)
    assert torch.allclose(rows.features, torch.stack(list(by_hand.values())))


@pytest.mark.parametrize("redundancy", [0.0, 0.5, 1.0, 2.0])
def test_it_is_the_published_rule(redundancy):
    boxes = scenes()
    chosen = csod(image_class_means(*boxes), 20, redundancy).tolist()
    assert chosen == naive(naive_rows(*boxes), 20, redundancy)
    assert csod(image_class_means(*boxes), 7, redundancy).tolist() == chosen[:7]


def objective(unit, subset, redundancy):
    s = unit[list(subset)].sum(0)
    return float(s @ unit.sum(0) - (1 + redundancy) / 2 * s @ s)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("redundancy", [0.5, 1.0])
def test_of_eight_images_of_one_class_each_pick_is_the_best_and_the_whole_is_near_the_best_subset(seed, redundancy):
    features = torch.rand(8, 4, generator=generator(seed, "eight"), dtype=torch.float64)
    unit = F.normalize(features, dim=1)
    chosen = csod(ImageClass(features, torch.arange(8), torch.zeros(8, dtype=torch.int64)), 3, redundancy).tolist()
    for t in range(3):
        before = chosen[:t]
        gains = {i: objective(unit, [*before, i], redundancy) for i in range(8) if i not in before}
        assert gains[chosen[t]] == pytest.approx(max(gains.values()))
    best = max(objective(unit, subset, redundancy) for subset in itertools.combinations(range(8), 3))
    assert objective(unit, chosen, redundancy) >= (1 - 1 / torch.e) * best
    assert objective(unit, chosen[:1], redundancy) == pytest.approx(
        max(objective(unit, [i], redundancy) for i in range(8))
    )


def test_redundancy_keeps_twins_apart():
    """Two groups of twins: without redundancy the larger group is taken twice, with it one of each."""
    features = torch.tensor([[1.0, 0.0]] * 5 + [[0.0, 1.0]] * 3)
    rows = ImageClass(features, torch.arange(8), torch.zeros(8, dtype=torch.int64))
    assert csod(rows, 2, 0.0).tolist() == [0, 1]
    assert csod(rows, 2, 2.0).tolist() == [0, 5]


@pytest.mark.parametrize(("m", "redundancy"), [(0, 1.0), (51, 1.0), (3, -1.0), (3, float("nan"))])
def test_what_cannot_be_is_refused(m, redundancy):
    with pytest.raises(PotstillError):
        csod(image_class_means(*scenes()), m, redundancy)
