"""Compare Potstill's functions with the published code of DC, DSA and DM on the same inputs.

    python benchmarks/fidelity_functions.py --published CHECKOUT [--out results/fidelity/functions.json]

CHECKOUT is a clone of VICO-UoE/DatasetCondensation. Its utils.py and networks.py are imported from there; torchvision
and the module that SciPy has removed are replaced by stand-ins: what is compared needs no more of them than a rotation.
Every case runs in float32 and float64. An error is the largest absolute difference over the largest published value.
Exit status 1 if an error is above its target.
"""

# ruff: noqa: NPY002 (the published code draws from the global generators, so its draws are repeated from there)

import argparse
import importlib
import json
import platform
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import scipy.ndimage
import torch
from torch import Tensor, nn

from potstill.augment import dc, siamese
from potstill.functional.distribution import group_means, mean_embedding_gap, mean_gap
from potstill.functional.gradient import distance
from potstill.functional.train import gradients, parameters
from potstill.rng import generator

TARGETS = {"float32": 1e-5, "float64": 1e-10}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
SHAPES = ((3, 32, 32), (1, 28, 28), (3, 24, 40))
SEEDS = range(5)


class _Torch(types.ModuleType):
    """torch with another meaning of ``torch.float``: the published code rounds to it here and there."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__("torch")
        self.float = dtype

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def load(checkout: Path) -> tuple[types.ModuleType, types.ModuleType]:
    """The published utils and networks."""
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "scipy.ndimage.interpolation"):
        sys.modules[name] = types.ModuleType(name)
    for name in ("datasets", "transforms"):
        setattr(sys.modules["torchvision"], name, sys.modules[f"torchvision.{name}"])
    sys.modules["scipy.ndimage.interpolation"].rotate = scipy.ndimage.rotate  # type: ignore[attr-defined]
    sys.path.insert(0, str(checkout))
    try:
        return importlib.import_module("utils"), importlib.import_module("networks")
    finally:
        sys.path.remove(str(checkout))


@contextmanager
def precision(utils: types.ModuleType, dtype: torch.dtype) -> Iterator[None]:
    """Run the published code in ``dtype`` throughout."""
    before, torch_before = torch.get_default_dtype(), utils.torch
    torch.set_default_dtype(dtype)
    utils.torch = _Torch(dtype)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        utils.torch = torch_before  # type: ignore[attr-defined]


def error(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes differ: {tuple(ours.shape)} and {tuple(theirs.shape)}")
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-300))


def normal(dtype: torch.dtype, *shape: int, path: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, "fidelity", path), dtype=torch.float64).to(dtype)


def published_draws(group: str, x: Tensor, seed: int, shared: bool) -> siamese.Drawn:
    """What DiffAugment draws in mode S of one group: from ``seed`` on if siamese, else after that global seed."""
    n, h, w = len(x), x.shape[2], x.shape[3]
    latest = seed

    def reseed() -> None:
        nonlocal latest
        if shared:
            torch.manual_seed(latest)
            latest += 1

    def uniform() -> Tensor:
        reseed()
        return torch.rand(n)

    def integer(low: int, high: int) -> Tensor:
        reseed()
        return torch.randint(low, high, size=[n, 1, 1]).flatten()

    torch.manual_seed(seed)
    reseed()
    torch.randint(0, 1, size=(1,))  # the choice among one group
    match group:
        case "color":
            values = {"brightness": uniform() - 0.5, "saturation": uniform() * 2.0, "contrast": uniform() + 0.5}
        case "crop":
            y, z = int(h * 0.125 + 0.5), int(w * 0.125 + 0.5)
            values = {"crop_y": integer(-y, y + 1), "crop_x": integer(-z, z + 1)}
        case "cutout":
            y, z = int(h * 0.5 + 0.5), int(w * 0.5 + 0.5)
            values = {"cutout_y": integer(0, h + (1 - y % 2)), "cutout_x": integer(0, w + (1 - z % 2))}
        case "flip":
            values = {"flip": uniform() < 0.5}
        case "scale":
            values = {name: uniform() * (1.2 - 1 / 1.2) + 1 / 1.2 for name in ("scale_x", "scale_y")}
        case _:
            values = {"angle": (uniform() - 0.5) * 2 * 15.0 / 180 * float(np.pi)}
    if shared:
        values = {name: value[:1] for name, value in values.items()}
    return siamese.Drawn((group,), values, 1 if shared else n)


def compare_augmentation(utils: types.ModuleType, group: str, shared: bool, dtype: torch.dtype) -> float:
    worst, changed = 0.0, False
    for shape in SHAPES:
        x = normal(dtype, 6, *shape, path="pictures")
        weight = normal(dtype, 6, *shape, path="weight")
        for s in SEEDS:
            seed = 1000 + 7 * s
            drawn = published_draws(group, x, seed, shared)
            torch.manual_seed(0 if shared else seed)
            mine, yours = x.clone().requires_grad_(), x.clone().requires_grad_()
            theirs = utils.DiffAugment(yours, group, seed=seed if shared else -1, param=utils.ParamDiffAug())
            ours = siamese.dsa().apply(mine, drawn)
            (slope,) = torch.autograd.grad((ours * weight).sum(), mine)
            (expected,) = torch.autograd.grad((theirs * weight).sum(), yours)
            worst = max(worst, error(ours, theirs), error(slope, expected))
            changed |= not torch.equal(theirs, x)
    if not changed:
        raise ValueError(f"no draw of {group} changed a picture: nothing was compared")
    return worst


def compare_dc_augmentation(utils: types.ModuleType, operation: str, dtype: torch.dtype) -> float:
    spec = dc.PerSample(strategy=(operation,))
    worst = 0.0
    for shape in SHAPES[:2]:
        x = normal(dtype, 6, *shape, path="pictures")
        n, zeros = len(x), torch.zeros(len(x), dtype=torch.int64)
        for s in SEEDS:
            options = {"crop": 4, "scale": 0.2, "rotate": 45, "noise": 0.001, "strategy": operation}
            np.random.seed(s)
            torch.manual_seed(s)
            theirs = utils.augment(x.clone(), options, device="cpu")
            np.random.seed(s)
            torch.manual_seed(s)
            crop, size, angle, noise = zeros.repeat(2, 1).T.clone(), zeros.repeat(2, 1).T + 1, zeros.clone(), None
            if operation == "noise":
                noise = torch.stack([torch.randn(shape) for _ in range(n)])
            for i in range(n):
                np.random.permutation([operation])
                if operation == "crop":
                    crop[i] = torch.tensor([np.random.permutation(8)[0], np.random.permutation(8)[0]])
                elif operation == "scale":
                    size[i] = torch.tensor([int(np.random.uniform(0.8, 1.2) * shape[1]) for _ in range(2)])
                elif operation == "rotate":
                    angle[i] = np.random.randint(-45, 45)
            ours = spec.apply(x, dc.Drawn(zeros, crop, size, angle, noise))
            worst = max(worst, error(ours, theirs))
    return worst


def convnet(networks: types.ModuleType, dtype: torch.dtype) -> nn.Module:
    """The published ConvNet-D3-W128-instance-avg, 3 × 32 × 32, 10 classes, the same weights in both precisions."""
    net: nn.Module = networks.ConvNet(3, 10, 128, 3, "relu", "instancenorm", "avgpooling", im_size=(32, 32))
    with torch.no_grad():
        for name, p in net.named_parameters():
            scale = p[0].numel() ** -0.5 if p.ndim > 1 else 0.1
            p.copy_(normal(dtype, *p.shape, path=name) * scale + (1.0 if name.endswith("1.weight") else 0.0))
    return net.to(dtype)


def compare_distance(utils: types.ModuleType, networks: types.ModuleType, name: str, dtype: torch.dtype) -> float:
    shapes = [tuple(p.shape) for p in convnet(networks, dtype).parameters()] + [(6, 5, 4)]
    real = [normal(dtype, *shape, path=f"real{i}") for i, shape in enumerate(shapes)]
    real[0][0] = 0.0  # a dead row
    mine, yours = ([normal(dtype, *s, path=f"syn{i}").requires_grad_() for i, s in enumerate(shapes)] for _ in range(2))
    theirs = utils.match_loss(yours, real, types.SimpleNamespace(device="cpu", dis_metric=name))
    ours = distance(name)(mine, real)
    expected = torch.autograd.grad(theirs, yours, allow_unused=True)
    made = torch.autograd.grad(ours, mine, allow_unused=True)
    if [e is None for e in expected] != [m is None for m in made]:
        raise ValueError("the two distances read different parameters")
    pairs = [(m, e) for m, e in zip(made, expected, strict=True) if m is not None and e is not None]
    return max(error(ours, theirs), *(error(m, e) for m, e in pairs))


def compare_dc(utils: types.ModuleType, networks: types.ModuleType, dtype: torch.dtype, group: str | None) -> float:
    """DC's or DSA's loss of three classes, and its gradient to the synthetic pictures."""
    net = convnet(networks, dtype)
    net_parameters = list(net.parameters())
    criterion = nn.CrossEntropyLoss()
    params = parameters(net)
    yours, mine = (normal(dtype, 6, 3, 32, 32, path="synthetic").requires_grad_() for _ in range(2))
    theirs, ours = torch.zeros(()), torch.zeros(())
    for c in range(3):
        real = normal(dtype, 16, 3, 32, 32, path=f"class{c}")
        y_real, y_syn = torch.full((16,), c), torch.full((2,), c)
        a, b, seed = real, yours[2 * c : 2 * c + 2], 50 + c
        if group is not None:
            a = utils.DiffAugment(a, group, seed=seed, param=utils.ParamDiffAug())
            b = utils.DiffAugment(b, group, seed=seed, param=utils.ParamDiffAug())
        g_real = [g.detach().clone() for g in torch.autograd.grad(criterion(net(a), y_real), net_parameters)]
        g_syn = torch.autograd.grad(criterion(net(b), y_syn), net_parameters, create_graph=True)
        theirs = theirs + utils.match_loss(g_syn, g_real, types.SimpleNamespace(device="cpu", dis_metric="ours"))

        a, b = real, mine[2 * c : 2 * c + 2]
        if group is not None:
            drawn = published_draws(group, real, seed, True)
            a, b = siamese.dsa().apply(a, drawn), siamese.dsa().apply(b, drawn)
        made = gradients(net, params, b, y_syn, create_graph=True)
        ours = ours + distance("ours")(made, gradients(net, params, a, y_real))
    (expected,), (slope,) = torch.autograd.grad(theirs, yours), torch.autograd.grad(ours, mine)
    return max(error(ours, theirs), error(slope, expected))


def compare_dm(utils: types.ModuleType, networks: types.ModuleType, dtype: torch.dtype) -> float:
    """DM's loss of three classes with colour augmentation, and its gradient, both per class and in one batch."""
    net = convnet(networks, dtype).requires_grad_(False)
    real = [normal(dtype, 16, 3, 32, 32, path=f"class{c}") for c in range(3)]
    drawn = [published_draws("color", real[c], 50 + c, True) for c in range(3)]
    yours = normal(dtype, 6, 3, 32, 32, path="synthetic").requires_grad_()
    theirs = torch.zeros(())
    for c in range(3):
        a = utils.DiffAugment(real[c], "color", seed=50 + c, param=utils.ParamDiffAug())
        b = utils.DiffAugment(yours[2 * c : 2 * c + 2], "color", seed=50 + c, param=utils.ParamDiffAug())
        theirs = theirs + torch.sum((torch.mean(net.embed(a).detach(), dim=0) - torch.mean(net.embed(b), dim=0)) ** 2)
    (expected,) = torch.autograd.grad(theirs, yours)
    worst = 0.0
    for grouped in (False, True):
        mine = normal(dtype, 6, 3, 32, 32, path="synthetic").requires_grad_()
        A = siamese.dsa().apply
        parts = [(A(real[c], drawn[c]), A(mine[2 * c : 2 * c + 2], drawn[c])) for c in range(3)]
        if grouped:
            means = [
                group_means(net.embed(torch.cat(side)), [len(s) for s in side]) for side in zip(*parts, strict=True)
            ]
            ours = mean_gap(means[0], means[1])
        else:
            ours = torch.stack([mean_embedding_gap(net.embed(a), net.embed(b)) for a, b in parts]).sum()
        (slope,) = torch.autograd.grad(ours, mine)
        worst = max(worst, error(ours, theirs), error(slope, expected))
    return worst


def cases(utils: types.ModuleType, networks: types.ModuleType) -> dict[str, tuple[str, Callable[[torch.dtype], float]]]:
    """Name → (what goes in, the comparison)."""
    made: dict[str, tuple[str, Callable[[torch.dtype], float]]] = {}
    shapes = ", ".join("×".join(map(str, s)) for s in SHAPES)
    for name in ("ours", "mse", "cos"):
        made[f"match_loss {name}, value and slope"] = (
            "normal gradients shaped as ConvNet-D3-W128's (3×32×32, 10 classes) and one 6×5×4; one real row zero",
            lambda dtype, name=name: compare_distance(utils, networks, name, dtype),
        )
    for group in siamese.GROUPS:
        for shared in (True, False):
            made[f"DiffAugment {group}, {'siamese' if shared else 'per sample'}, value and slope"] = (
                f"6 normal pictures of each of {shapes}; {len(SEEDS)} draws each",
                lambda dtype, group=group, shared=shared: compare_augmentation(utils, group, shared, dtype),
            )
    for operation in dc.OPERATIONS:
        made[f"augment (DC's own) {operation}"] = (
            f"6 normal pictures of each of 3×32×32, 1×28×28; {len(SEEDS)} draws each",
            lambda dtype, operation=operation: compare_dc_augmentation(utils, operation, dtype),
        )
    net = "published ConvNet-D3-W128, normal weights; 3 classes, 16 real and 2 synthetic normal pictures each, 3×32×32"
    made["DC loss and its gradient to the pictures"] = (net, lambda dtype: compare_dc(utils, networks, dtype, None))
    for group in ("color", "rotate"):
        made[f"DSA loss and its gradient to the pictures, {group}"] = (
            net,
            lambda dtype, group=group: compare_dc(utils, networks, dtype, group),
        )
    made["DM loss and its gradient to the pictures, color"] = (net, lambda dtype: compare_dm(utils, networks, dtype))
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, required=True, help="checkout of VICO-UoE/DatasetCondensation")
    parser.add_argument("--out", type=Path, default=Path("results/fidelity/functions.json"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # the published code calls torch in ways that it warns about since
    torch.set_num_threads(1)
    utils, networks = load(args.published)
    rows = []
    for name, (inputs, compare) in cases(utils, networks).items():
        row: dict[str, Any] = {"function": name, "inputs": inputs}
        for kind, dtype in DTYPES.items():
            with precision(utils, dtype):
                row[kind] = compare(dtype)
        row["within_target"] = all(row[kind] <= target for kind, target in TARGETS.items())
        rows.append(row)
        print(
            f"{name:<62} {row['float32']:.1e} {row['float64']:.1e}  {'ok' if row['within_target'] else 'ABOVE TARGET'}"
        )
    commit = subprocess.run(
        ["git", "-C", str(args.published), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    document = {
        "what": "largest absolute difference over the largest published value, same inputs, weights and draws",
        "published": {"repository": "VICO-UoE/DatasetCondensation", "commit": commit},
        "targets": TARGETS,
        "device": "cpu, 1 thread",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "rows": rows,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return 0 if all(row["within_target"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
