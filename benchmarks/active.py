"""Active learning on forged pictures: labels that each acquisition needs, beside random. No faces but bundled ones.

    python benchmarks/active.py                      # ≈ 10 minutes of one core; writes results/active.json

**The task.** Is a crop of ``--side`` pixels as it was, or was a patch of another picture spliced into it? Crops come
from the colour photographs that scikit-image and scikit-learn ship. Half of them get a patch (an ellipse of two to
seven tenths of the side) of another photograph: enlarged, blended over about a pixel at its rim, and shifted to the
mean colour of what it covers, so that neither colour nor a hard edge gives it away. A learner sees log energies of
high-pass filters in cells of 4 × 4 pixels, a usual first step of detectors of forgeries.

**The split** is by photograph: for each seed ``--held`` of them, with all crops and all patches that they give, are
test alone. What a split of crops at random would have said is printed as ``leaky``: that is not a measure of anything
but of the leak.
"""

import argparse
import json
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from machine import machine
from PIL import Image
from torch import Tensor

from potstill.active import ACQUISITIONS, label_cost
from potstill.active.learning import LabelingSchedule, Learner
from potstill.data import TensorSource
from potstill.reports.label_curves import draw_label_curves
from potstill.rng import generator

PHOTOGRAPHS = {
    "astronaut": ("skimage.data", "astronaut.png"),
    "coffee": ("skimage.data", "coffee.png"),
    "cat": ("skimage.data", "chelsea.png"),
    "rocket": ("skimage.data", "rocket.jpg"),
    "retina": ("skimage.data", "retina.jpg"),
    "tissue": ("skimage.data", "ihc.png"),
    "galaxies": ("skimage.data", "hubble_deep_field.jpg"),
    "motorcycle": ("skimage.data", "motorcycle_left.png"),
    "temple": ("sklearn.datasets.images", "china.jpg"),
    "flower": ("sklearn.datasets.images", "flower.jpg"),
}


def photographs(longest: int) -> dict[str, Tensor]:
    """Each (3, h, w) in [0, 1], its longer side at most ``longest``."""
    found = {}
    for name, (package, file) in PHOTOGRAPHS.items():
        with files(package).joinpath(file).open("rb") as stream, Image.open(stream) as picture:
            picture = picture.convert("RGB")
            picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
            found[name] = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255
    return found


def below(limit: int, rng: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=rng))


def cut(picture: Tensor, side: int, rng: torch.Generator) -> Tensor:
    top, left = below(picture.shape[1] - side + 1, rng), below(picture.shape[2] - side + 1, rng)
    return picture[:, top : top + side, left : left + side]


def spliced(host: Tensor, donor: Tensor, rng: torch.Generator) -> Tensor:
    """``host`` with an ellipse of ``donor`` (both (3, s, s)), blended at the rim and of the host's mean colour there.

    The donor is enlarged first, as forgers do to make a patch fit: its middle, by 1.3 to 2.3 times.
    """
    side = host.shape[1]
    u = torch.rand(5, generator=rng)
    part = round(side / (1.3 + float(u[4])))
    edge = (side - part) // 2
    donor = donor[None, :, edge : edge + part, edge : edge + part]
    donor = F.interpolate(donor, (side, side), mode="bicubic", align_corners=False)[0]
    radii = side * (0.2 + 0.15 * u[:2])
    centre = radii + (side - 2 * radii) * u[2:4]
    axis = torch.arange(side) + 0.5
    distance = (((axis[:, None] - centre[0]) / radii[0]) ** 2 + ((axis[None] - centre[1]) / radii[1]) ** 2).sqrt()
    mask = ((1 - distance) * radii.min() + 0.5).clamp(0, 1)
    weight = mask / mask.sum()
    shift = (weight * (host - donor)).sum((1, 2), keepdim=True)
    return (mask * (donor + shift) + (1 - mask) * host).clamp(0, 1)


def crops(pictures: list[Tensor], n: int, side: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The ``traces`` of n crops, and 1 where forged. Hosts and donors are different pictures of the list."""
    x, y = torch.empty(n, 3, side, side), torch.arange(n) % 2
    for i in range(n):
        host, donor = torch.randperm(len(pictures), generator=rng)[:2].tolist()
        x[i] = cut(pictures[host], side, rng)
        if y[i]:
            x[i] = spliced(x[i], cut(pictures[donor], side, rng), rng)
    return traces(x), y


def traces(x: Tensor) -> Tensor:
    """Log energy of three high-pass filters in cells of 4 × 4 pixels, (n, 3, s/4, s/4): what an enlarged patch lacks.

    The filters are second differences across, down and of both (a Laplacian's), as detectors of forgeries begin.
    """
    across = x[..., 1:-1, :-2] - 2 * x[..., 1:-1, 1:-1] + x[..., 1:-1, 2:]
    down = x[..., :-2, 1:-1] - 2 * x[..., 1:-1, 1:-1] + x[..., 2:, 1:-1]
    mixed = x[..., :-2, :-2] + x[..., 2:, 2:] - x[..., :-2, 2:] - x[..., 2:, :-2]
    energy = torch.stack([d.square().mean(1) for d in (across, down, mixed)], 1)
    cells = F.avg_pool2d(F.pad(energy, (1, 1, 1, 1), mode="replicate"), 4)
    return (cells + 1e-6).log()


def source(x: Tensor, y: Tensor) -> TensorSource:
    return TensorSource.make(x, y, classes=["as it was", "forged"], name="forged pictures", kind="image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=int, default=3000)
    parser.add_argument("--test", type=int, default=1500)
    parser.add_argument("--held", type=int, default=3)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--longest", type=int, default=512)
    parser.add_argument("--acquire", nargs="+", default=["entropy", "badge", "core-set"], choices=ACQUISITIONS)
    parser.add_argument("--network", default="convnet-d1-w16")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--per-round", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("results/active.json"))
    parser.add_argument("--image", type=Path, default=Path("docs/img/active.svg"))
    options = parser.parse_args()
    began = time.perf_counter()
    pictures = photographs(options.longest)
    names = list(pictures)
    splits = {}

    def parts(seed: int) -> tuple[TensorSource, TensorSource]:
        rng = generator(seed, "photographs")
        order = torch.randperm(len(names), generator=rng).tolist()
        held, kept = order[: options.held], order[options.held :]
        splits[seed] = sorted(names[i] for i in held)
        pool = source(*crops([pictures[names[i]] for i in kept], options.pool, options.side, rng))
        test = source(*crops([pictures[names[i]] for i in held], options.test, options.side, rng))
        return pool, test

    learner = Learner(network=options.network, steps=options.steps, batch=options.batch, lr=options.lr)
    result = label_cost(
        parts, options.acquire, schedule=LabelingSchedule(rounds=options.rounds, per_round=options.per_round),
        learner=learner,
        seeds=options.seeds,
        progress=lambda what, done, total: print(f"{time.perf_counter() - began:6.0f} s  {done}/{total}  {what}"),
    )  # fmt: skip
    leaky = []
    for seed in range(options.seeds):
        rng = generator(seed, "leaky")
        x, y = crops(list(pictures.values()), options.pool + options.test, options.side, rng)
        pool, test = source(x[: options.pool], y[: options.pool]), source(x[options.pool :], y[options.pool :])
        one = label_cost(
            lambda s, p=pool, t=test: (p, t),
            ["random"],
            schedule=LabelingSchedule(rounds=1, per_round=1),
            learner=learner,
            seeds=1,
            seed=seed,
        )
        leaky.append(one["full"]["mean"])
    for curve in result["curves"].values():
        for run in curve["runs"]:  # the indices can be made again, and are long
            del run["index"], run["classes"]
    said = {
        **result, "held": splits, "leaky": leaky, "seconds": round(time.perf_counter() - began), "machine": machine(),
        "settings": {k: v for k, v in vars(options).items() if k not in ("out", "image")},
    }  # fmt: skip
    options.out.write_text(json.dumps(said, indent=1) + "\n")
    options.image.write_text(draw_label_curves(result, "Forged pictures: accuracy against labels"))
    full = result["full"]
    print(f"all {result['pool']:,} labels: {full['mean']:.3f} {full['ci95']}; leaky {np.mean(leaky):.3f}")
    for name, curve in result["curves"].items():
        cost, saved, higher = curve["needed"], curve["saved"], curve["over_random"]
        print(
            f"{name:<10} at {result['labels'][-1]} labels {curve['accuracy'][-1]['mean']:.3f}; labels needed "
            f"{cost['mean']:.0f} {cost['ci95']} ({cost['at_least']} never); saved {saved['mean']:.0f} {saved['ci95']}; "
            f"curve over random {higher['mean']:+.4f} {higher['ci95']}"
        )


if __name__ == "__main__":
    main()
