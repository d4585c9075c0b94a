"""Compare Potstill's functions with the published code of the matching methods on the same inputs.

    python benchmarks/fidelity_functions.py --published CHECKOUT [--out results/fidelity/functions.json]
        [--idc CHECKOUT] [--ncfm CHECKOUT] [--datadam CHECKOUT] [--cafe CHECKOUT] [--dsdm CHECKOUT]
        [--dance CHECKOUT] [--idm CHECKOUT]

The first CHECKOUT is a clone of VICO-UoE/DatasetCondensation. Its utils.py and networks.py are imported from there;
torchvision and the module that SciPy has removed are replaced by stand-ins: what is compared needs no more of them than
a rotation. Of the others, each optional, single functions, classes and statements are taken out of the files and run:
those files import what is not needed here, and some of their losses stand in the midst of a main function.
Every case runs in float32 and float64. An error is the largest absolute difference over the largest published value.

Wherever a network is part of it, the published side runs the published ConvNet-D3-W128 and ours the shipped one with
the same weights, as a user gets it: in float32 with the compiled kernels, second derivatives too, in float64 without
(the kernels are for float32). Each row says how often its float32 run called them (``kernels``). They add in another
order and by other products (docs/adr/0005), so their rows have a target of their own, `KERNELS`.

Exit status 1 if an error is above its target. Where two float32 results differ by more, but ours is no farther from the
published float64 than the published float32 is, the row says that it is the rounding of the published expression, and
the exit status is not changed.
"""

# ruff: noqa: NPY002 (the published code draws from the global generators, so its draws are repeated from there)

import argparse
import ast
import contextlib
import importlib
import io
import json
import math
import platform
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import scipy
import scipy.ndimage
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill import native
from potstill.augment import dc, siamese
from potstill.core import DecodeContext, InputSpec
from potstill.functional.distribution import (
    characteristic_function,
    class_means,
    mean_gap,
    membership,
)
from potstill.functional.gradient import convolutional, distance
from potstill.functional.train import copy_parameters, gradients
from potstill.methods.distribution._statistics import MEANS, DistributionObjective, Views, class_mean_cross_entropy
from potstill.methods.distribution.cafe import CAFE
from potstill.methods.distribution.dance import DANCE
from potstill.methods.distribution.datadam import DataDAM
from potstill.methods.distribution.dsdm import DSDM
from potstill.methods.distribution.idm import IDM
from potstill.methods.distribution.ncfm import NCFM
from potstill.nn import fused_norm_relu_pool, gemm_relu_pool, winograd
from potstill.nn.convnet import ConvNet
from potstill.parametrize.tiles import Tiles
from potstill.rng import generator

TARGETS = {"float32": 1e-5, "float64": 1e-10}
KERNELS = 1e-4
"""The float32 target of a row that runs by the kernels: products of transformed numbers, of which each loses some two
bits more than torch's, through three layers and up to two derivatives."""
SAME_DRAWS = 1e-2
"""Beyond it the published float32 is not the float64 one rounded: global generators draw other numbers in each."""
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


def published_draws(group: str, x: Tensor, seed: int, shared: bool) -> siamese.SiameseParams:
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
    return siamese.SiameseParams((group,), values, 1 if shared else n)


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
            ours = spec.apply(x, dc.DCParams(zeros, crop, size, angle, noise))
            worst = max(worst, error(ours, theirs))
    return worst


def convnet(networks: types.ModuleType, dtype: torch.dtype) -> nn.Module:
    """The published ConvNet-D3-W128-instance-avg, 3 × 32 × 32, 10 classes, the same weights in both precisions."""
    return weighted(networks.ConvNet(3, 10, 128, 3, "relu", "instancenorm", "avgpooling", im_size=(32, 32)), dtype)


def weighted(net: nn.Module, dtype: torch.dtype) -> nn.Module:
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
    own = ours_of(net)
    params = copy_parameters(own)
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
        made = gradients(own, params, b, y_syn, create_graph=True)
        ours = ours + distance("ours")(made, gradients(own, params, a, y_real))
    return worst(ours, mine, theirs, yours)


def before_norm(name: str) -> bool:
    """Whether it is the bias of a convolution: in blocks of four layers the first."""
    _, layer, what = name.split(".")
    return what == "bias" and int(layer) % 4 == 0


def compare_network(
    networks: types.ModuleType, dtype: torch.dtype, shape: tuple[int, int, int], width: int, n: int
) -> float:
    """Logits, gradients by weights and pictures, and the gradient by the pictures of the weights' gradient's norm."""
    theirs_net = networks.ConvNet(shape[0], 10, width, 3, "relu", "instancenorm", "avgpooling", im_size=shape[1:])
    net = weighted(theirs_net, dtype)
    own = ours_of(net, shape, width)
    y = torch.arange(n) % 10
    sides = []
    for model in (own, net):
        x = normal(dtype, n, *shape, path="pictures").requires_grad_()
        named = {k: p.detach().clone().requires_grad_() for k, p in sorted(model.named_parameters())}
        held = list(named.values())
        logits = torch.func.functional_call(model, named, (x,))
        loss = F.cross_entropy(logits, y)
        first = torch.autograd.grad(loss, [*held, x], create_graph=True)
        norm = torch.stack([g.square().sum() for g in first[:-1]]).sum()
        second = torch.autograd.grad(norm, [*held, x])
        # the bias before a norm has no effect: its slopes are rounding around zero
        kept = [at for at, k in enumerate([*named, "pictures"]) if not (k.startswith("features") and before_norm(k))]
        sides.append([logits, *(first[at] for at in kept), *(second[at] for at in kept)])
    SEEN.extend((a.detach(), b.detach()) for a, b in zip(*sides, strict=True))
    return max(error(a, b) for a, b in zip(*sides, strict=True))


def compare_dm(utils: types.ModuleType, networks: types.ModuleType, dtype: torch.dtype) -> float:
    """DM's loss of three classes with colour augmentation, and its gradient, both per class and in one batch."""
    net = convnet(networks, dtype).requires_grad_(False)
    own = ours_of(net)
    real = [normal(dtype, 16, 3, 32, 32, path=f"class{c}") for c in range(3)]
    drawn = [published_draws("color", real[c], 50 + c, True) for c in range(3)]
    yours = normal(dtype, 6, 3, 32, 32, path="synthetic").requires_grad_()
    theirs = torch.zeros(())
    for c in range(3):
        a = utils.DiffAugment(real[c], "color", seed=50 + c, param=utils.ParamDiffAug())
        b = utils.DiffAugment(yours[2 * c : 2 * c + 2], "color", seed=50 + c, param=utils.ParamDiffAug())
        theirs = theirs + torch.sum((torch.mean(net.embed(a).detach(), dim=0) - torch.mean(net.embed(b), dim=0)) ** 2)
    found = 0.0
    for grouped in (False, True):
        mine = normal(dtype, 6, 3, 32, 32, path="synthetic").requires_grad_()
        A = siamese.dsa().apply
        parts = [(A(real[c], drawn[c]), A(mine[2 * c : 2 * c + 2], drawn[c])) for c in range(3)]
        if grouped:
            sides = [
                class_means(membership([len(x) for x in side], side[0]), own.embed(torch.cat(side)))
                for side in zip(*parts, strict=True)
            ]
            ours = mean_gap(sides[0], sides[1])
        else:
            ours = torch.stack([mean_gap(own.embed(a).mean(0), own.embed(b).mean(0)) for a, b in parts]).sum()
        found = max(found, worst(ours, mine, theirs, yours))
    return found


# --- published code that cannot be imported ---------------------------------------------------------------------------

Compare = Callable[[types.ModuleType, types.ModuleType, Path, torch.dtype], float]


def published(file: Path, *names: str, dtype: torch.dtype, **known: Any) -> dict[str, Any]:
    """Functions and classes of a file by name, nested ones too, with torch and what is ``known`` around them."""
    space: dict[str, Any] = {"torch": _Torch(dtype), "nn": nn, "F": F, "np": np, "ceil": math.ceil, **known}
    tree = ast.parse(file.read_text())
    found = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name in names}
    if missing := set(names) - set(found):
        raise ValueError(f"{file} has no {', '.join(sorted(missing))}")
    exec(compile(ast.Module([found[n] for n in names], []), str(file), "exec"), space)
    return space


def run_statements(file: Path, wanted: Callable[[str], bool], space: dict[str, Any]) -> int:
    """Run the statements of a file, in their order, whose source is ``wanted``; says how many."""
    text = file.read_text()
    chosen = [
        n for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.Assign | ast.AugAssign | ast.If) and wanted(ast.get_source_segment(text, n) or "")
    ]  # fmt: skip
    chosen.sort(key=lambda n: n.lineno)
    exec(compile(ast.Module(list(chosen), []), str(file), "exec"), space)
    return len(chosen)


def ours_of(net: nn.Module, shape: tuple[int, int, int] = (3, 32, 32), width: int = 128) -> ConvNet:
    """Potstill's network with the weights of the published one, whose names of parameters are the same."""
    made = ConvNet(shape, 10, width=width).to(next(net.parameters()))
    made.load_state_dict(net.state_dict())
    return made.requires_grad_(False)


def pictures(dtype: torch.dtype, classes: int, real: int, syn: int) -> tuple[Tensor, Tensor, Tensor]:
    """Real ones, and twice the same synthetic ones as leaves."""
    made = normal(dtype, classes * real, 3, 32, 32, path="real pictures")
    made = made + normal(dtype, classes, 3, 1, 1, path="place of a class").repeat_interleave(real, 0)
    leaves = [normal(dtype, classes * syn, 3, 32, 32, path="synthetic").requires_grad_() for _ in range(2)]
    return made, leaves[0], leaves[1]


def views(net: ConvNet, x: Tensor, classes: int, needs_layers: bool = False) -> Views:
    *layers, features = net.activations(x) if needs_layers else (net.embed(x),)
    weights = membership([len(x) // classes] * classes, x)
    return Views(features=features, layers=tuple(layers), weights=weights, classes=tuple(range(classes)))


def ours_gap(
    measure: DistributionObjective | DataDAM | CAFE,
    net: ConvNet,
    real: Tensor,
    syn: Tensor,
    classes: int,
    needs_layers: bool = False,
) -> Tensor:
    with torch.no_grad():
        kept = measure.statistics(views(net, real, classes, needs_layers), {}, generator(0))
    return measure.gap(kept, views(net, syn, classes, needs_layers), {})


SEEN: list[tuple[Tensor, Tensor]] = []
"""What `worst` was called with: ours and the published, values and slopes. Of one case in one precision."""


def worst(ours: Tensor, mine: Tensor, theirs: Tensor, yours: Tensor) -> float:
    """Of the value, and of its slope by the leaves."""
    (slope,), (expected,) = torch.autograd.grad(ours, mine), torch.autograd.grad(theirs, yours, retain_graph=True)
    pairs = [(ours.detach(), theirs.detach()), (slope, expected)]
    SEEN.extend(pairs)
    return max(error(a, b) for a, b in pairs)


def by_class(x: Tensor, classes: int) -> tuple[Tensor, ...]:
    return torch.split(x, len(x) // classes)


def compare_idc(
    utils: types.ModuleType, networks: types.ModuleType, at: Path, dtype: torch.dtype, metric: Any
) -> float:
    space = published(at / "condense.py", "dist", "add_loss", "matchloss", dtype=dtype)
    args = types.SimpleNamespace(match="grad", metric=metric, bias=False, fc=False)
    net = convnet(networks, dtype)
    own = ours_of(net)
    params = copy_parameters(own)
    real, yours, mine = pictures(dtype, 3, 15, 3)
    theirs, ours = torch.zeros(()), torch.zeros(())
    for c in range(3):
        (a, b, m) = (by_class(x, 3)[c] for x in (real, yours, mine))
        y_a, y_b = torch.full((15,), c), torch.full((3,), c)
        theirs = theirs + space["matchloss"](args, a, b, y_a, y_b, net)
        made = gradients(own, params, m, y_b, create_graph=True)
        ours = ours + convolutional(metric)(made, gradients(own, params, a, y_a))
    return worst(ours, mine, theirs, yours)


def compare_tiles(
    utils: types.ModuleType, networks: types.ModuleType, at: Path, dtype: torch.dtype, mode: Any, factor: int,
    stored: int, side: int,
) -> float:  # fmt: skip
    space = published(at / "condense.py", "Synthesizer", dtype=dtype)
    args = types.SimpleNamespace(ipc=stored, factor=factor, decode_type=mode)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = space["Synthesizer"](args, 3, 3, side, side, device="cpu")
    yours, mine = (normal(dtype, 3 * stored, 3, side, side, path="stored").requires_grad_() for _ in range(2))
    target = torch.zeros(stored, dtype=torch.int64)
    expected = torch.cat([theirs.decode(x, target)[0] for x in by_class(yours, 3)])
    payload = {"inputs/0": mine.reshape(3, stored, 3, side, side)}
    made = Tiles(factor=factor, mode=mode).decode(
        payload, DecodeContext(input=InputSpec(kind="image", shape=(3, side, side)))
    )
    weight = normal(dtype, *expected.shape, path="weight")
    return max(error(made, expected), worst((made * weight).sum(), mine, (expected * weight).sum(), yours))


def compare_idm_tiles(utils: types.ModuleType, networks: types.ModuleType, at: Path, dtype: torch.dtype) -> float:
    space = published(at / "dc_utils.py", "number_sign_augment", dtype=dtype)
    yours, mine = (normal(dtype, 5, 3, 32, 32, path="stored").requires_grad_() for _ in range(2))
    expected = space["number_sign_augment"](yours, torch.zeros(5, dtype=torch.int64))[0]
    # IDM counts cells column by column; the order of a class's samples decides nothing
    expected = expected.reshape(2, 2, 5, 3, 32, 32).transpose(0, 1).flatten(0, 2)
    made = Tiles().decode({"inputs/0": mine[None]}, DecodeContext(input=InputSpec(kind="image", shape=(3, 32, 32))))
    weight = normal(dtype, *expected.shape, path="weight")
    return max(error(made, expected), worst((made * weight).sum(), mine, (expected * weight).sum(), yours))


def compare_ncfm(
    utils: types.ModuleType, networks: types.ModuleType, at: Path, dtype: torch.dtype, alpha: float, beta: float
) -> float:
    names = ("calculate_norm", "calculate_imag", "calculate_real", "CFLossFunc", "match_loss")
    space = published(at / "NCFM" / "NCFM.py", *names, dtype=dtype)
    net = convnet(networks, dtype).requires_grad_(False)
    args = types.SimpleNamespace(cf_loss_func=space["CFLossFunc"](alpha, beta), device="cpu")
    t = normal(dtype, 256, 2048, path="frequencies")
    real, yours, mine = pictures(dtype, 3, 15, 3)
    theirs = torch.zeros(())
    for a, b in zip(by_class(real, 3), by_class(yours, 3), strict=True):
        theirs = theirs + space["match_loss"](a, b, lambda x, **_: (None, net.embed(x)), lambda _: t, args)
    own, method = ours_of(net), NCFM(alpha=alpha, beta=beta)
    seen = views(own, real, 3)
    re, im = characteristic_function(F.normalize(seen.features, dim=1), t, seen.weights)
    ours = method.gap({"re": re, "im": im, "shared/t": t}, views(own, mine, 3), {})
    return worst(ours, mine, theirs, yours)


def compare_sampling_network(
    utils: types.ModuleType, networks: types.ModuleType, at: Path, dtype: torch.dtype
) -> float:
    net = published(at / "NCFM" / "SampleNet.py", "SampleNet", dtype=dtype)["SampleNet"](24, 512)
    memory: dict[str, Tensor] = {}
    for layer in range(3):
        linear, norm = net.t_layers_list[3 * layer], net.t_layers_list[3 * layer + 1]
        for name, p in zip(
            ("weight", "bias", "scale", "shift"), (*linear.parameters(), *norm.parameters()), strict=True
        ):
            p.data.add_(normal(dtype, *p.shape, path=f"{layer}.{name}"), alpha=0.3)
            memory[f"psi/{layer}.{name}"] = p
    torch.manual_seed(5)
    net("cpu")
    theirs, ours = net._t, frequencies(memory, 24, 512, torch.Generator().manual_seed(5))
    weight = normal(dtype, 512, 24, path="weight")
    expected = torch.autograd.grad((theirs * weight).sum(), list(memory.values()))
    made = torch.autograd.grad((ours * weight).sum(), list(memory.values()))
    # the bias before a norm has no effect: both slopes are rounding around zero
    pairs = [(m, e) for n, m, e in zip(memory, made, expected, strict=True) if not n.endswith("bias")]
    return max(error(ours, theirs), *(error(m, e) for m, e in pairs))


def compare_datadam(
    utils: types.ModuleType, networks: types.ModuleType, at: Path, dtype: torch.dtype, power: float
) -> float:
    args = types.SimpleNamespace(batch_real=15, ipc=3)
    attend = published(at / "utils.py", "get_attention", dtype=dtype)["get_attention"]
    gap = published(at / "main_DataDAM.py", "error", dtype=dtype, num_classes=3, args=args)["error"]
    net = convnet(networks, dtype).requires_grad_(False)
    real, yours, mine = pictures(dtype, 3, 15, 3)
    sides: list[list[Tensor]] = []
    for x in (real, yours):
        kept: list[Tensor] = []
        hooks = [
            m.register_forward_hook(lambda m, i, o, kept=kept: kept.append(o.clone()))
            for m in net.modules() if isinstance(m, nn.ReLU)
        ]  # fmt: skip
        kept.append(net.embed(x))
        for hook in hooks:
            hook.remove()
        sides.append(kept)
    theirs = 100 * 0.01 * gap(sides[0][-1], sides[1][-1], err_type="MSE_B")
    for a, b in zip(sides[0][:-2], sides[1][:-2], strict=True):
        theirs = theirs + 100 * gap(*(attend(f, param=1, exp=power, norm="l2") for f in (a, b)), err_type="MSE_B")
    return worst(ours_gap(DataDAM(power=power), ours_of(net), real, mine, 3, needs_layers=True), mine, theirs, yours)


def compare_cafe(utils: types.ModuleType, networks: types.ModuleType, at: Path, dtype: torch.dtype) -> float:
    net = convnet(networks, dtype).requires_grad_(False)
    theirs_net = published(at / "networks.py", "ConvNet", dtype=dtype)["ConvNet"](
        3, 10, 128, 3, "relu", "instancenorm", "avgpooling", (32, 32)
    )
    theirs_net.to(dtype).load_state_dict(net.state_dict())
    real, yours, mine = pictures(dtype, 10, 6, 2)
    space = published(at / "distill.py", "criterion_middle", dtype=dtype)
    weights = {"fourth_weight": 0.1, "third_weight": 0.1, "second_weight": 1.0, "first_weight": 1.0}
    space |= {
        "args": types.SimpleNamespace(**weights, inner_weight=0.01), "num_classes": 10,
        "criterion_sum": nn.CrossEntropyLoss(reduction="sum"),
        "lab_real_gather": torch.arange(10).repeat_interleave(6),
        "real_features": theirs_net(real)[1], "syn_features": theirs_net(yours)[1],
    }  # fmt: skip
    names = ("loss_middle", "last_real_feature", "last_syn_feature", "output", "loss_output")
    if run_statements(at / "distill.py", lambda text: text.split(" = ")[0] in names, space) != 6:
        raise ValueError("distill.py is not the file that was read")
    theirs = space["loss_middle"] + space["loss_output"]
    return worst(ours_gap(CAFE(), ours_of(net), real, mine, 10, needs_layers=True), mine, theirs, yours)


def compare_idm(utils: types.ModuleType, networks: types.ModuleType, at: Path, dtype: torch.dtype) -> float:
    """The statements of the class loop; accuracy 62.5 %, weight 0.5."""
    net = convnet(networks, dtype).requires_grad_(False)
    real, yours, mine = pictures(dtype, 3, 15, 3)
    meter = types.SimpleNamespace(n=8, value=lambda: [62.5])
    args = types.SimpleNamespace(syn_ce=True, ipc=10, aug=True, aug_num=1, ce_weight=0.5)
    theirs = torch.zeros(())
    for c in range(3):
        b = by_class(yours, 3)[c]
        space: dict[str, Any] = {
            "torch": torch, "F": F, "args": args, "net_acc": meter, "c": c, "loss_c": torch.zeros(()),
            "syn_ce_loss": 0, "output_real": net.embed(by_class(real, 3)[c]), "output_syn": net.embed(b),
            "logits_syn": net(b), "lab_syn": torch.full((3,), c),
        }  # fmt: skip
        made = run_statements(
            at / "IDM_cifar10.py", lambda text: text.startswith(("loss_c += torch.sum", "if args.syn_ce:")), space
        )
        if made != 2:
            raise ValueError("IDM_cifar10.py is not the file that was read")
        theirs = theirs + space["loss_c"]
    own, method = ours_of(net), IDM()
    seen = views(own, mine, 3)
    ours = ours_gap(MEANS, own, real, mine, 3) + method.ce * 62.5 * class_mean_cross_entropy(
        own.classifier(seen.features), torch.arange(3).repeat_interleave(3), (3, 3, 3)
    )
    return worst(ours, mine, theirs, yours)


def compare_dance(utils: types.ModuleType, networks: types.ModuleType, at: Path, dtype: torch.dtype) -> float:
    space = published(at / "DANCE.py", "innerloss", "interloss", dtype=dtype)
    net = convnet(networks, dtype).requires_grad_(False)
    own = ours_of(net)
    real, yours, mine = pictures(dtype, 3, 15, 3)
    both, inner, inter = (
        lambda x, return_features: (net(x), net.embed(x)) if return_features else net(x),
        *[torch.zeros(())] * 2,
    )
    for c, (a, b) in enumerate(zip(by_class(real, 3), by_class(yours, 3), strict=True)):
        inner = inner + space["innerloss"](a, b, both)
        inter = inter + space["interloss"](b, torch.full((3,), c), both)
    calibration = DANCE().calibration * class_mean_cross_entropy(
        own(mine), torch.arange(3).repeat_interleave(3), (3, 3, 3)
    )
    return max(worst(ours_gap(MEANS, own, real, mine, 3), mine, inner, yours), worst(calibration, mine, inter, yours))


def compare_dsdm(
    utils: types.ModuleType, networks: types.ModuleType, at: Path, dtype: torch.dtype, history: bool
) -> float:
    space = published(at / "DSDM.py", "dist", "add_loss", "matchloss", dtype=dtype)
    args = types.SimpleNamespace(metric="mse", cov_weight=50.0, h_p_weight=0.2, idx_from=0, idx_to=-1)
    net = convnet(networks, dtype).requires_grad_(False)
    model = types.SimpleNamespace(get_feature=lambda x, *_: ([net.features(x)], None))
    real, yours, mine = pictures(dtype, 3, 15, 3)
    h = normal(dtype, 3, 128, 4, 4, path="history")
    theirs = torch.zeros(())
    for c, (a, b) in enumerate(zip(by_class(real, 3), by_class(yours, 3), strict=True)):
        theirs = theirs + space["matchloss"](args, a, b, model, h_p=h[c] if history else None)
    method, own = DSDM(), ours_of(net)
    memory = {"h": h.flatten(1), "step": torch.tensor(2001)} if history else {}
    kept = method.statistics(views(own, real, 3), {}, generator(0))
    return worst(method.gap(kept, views(own, mine, 3), memory), mine, theirs, yours)


REPOSITORIES = {
    "idc": "snu-mllab/Efficient-Dataset-Condensation", "ncfm": "gszfwsb/NCFM", "datadam": "DataDistillation/DataDAM",
    "cafe": "kaiwang960112/CAFE", "dsdm": "Li-Hongcheng/DSDM", "dance": "Hansong-Zhang/DANCE", "idm": "uitrbn/IDM",
}  # fmt: skip


def others() -> list[tuple[str, str, str, Compare]]:
    """Whose code, name, what goes in, the comparison."""
    net = "published ConvNet-D3-W128, normal weights (ours: Potstill's, the same weights); {} classes, {} real and {} "
    net += "synthetic normal pictures each, 3×32×32"
    three = net.format(3, 15, 3)
    made: list[tuple[str, str, str, Compare]] = []
    for metric in ("mse", "l1"):
        made.append((
            "idc", f"IDC matchloss {metric} and its gradient to the pictures", net.format(3, 15, 3),
            lambda *a, metric=metric: compare_idc(*a, metric),
        ))  # fmt: skip
    for mode, factor, stored, side in (
        ("single", 2, 5, 32),
        ("single", 3, 4, 28),
        ("multi", 2, 3, 32),
        ("bound", 3, 20, 32),
    ):
        made.append((
            "idc", f"IDC Synthesizer.decode {mode} {factor}, {side} pixels, value and slope",
            f"{stored} normal pictures of each of 3 classes, 3×{side}×{side}",
            lambda *a, rest=(mode, factor, stored, side): compare_tiles(*a, *rest),
        ))  # fmt: skip
    for alpha, beta in ((0.5, 0.5), (0.2, 0.8)):
        made.append((
            "ncfm", f"NCFM match_loss with given t, α = {alpha}, β = {beta}, and its gradient", f"{three}; 256 t",
            lambda *a, rest=(alpha, beta): compare_ncfm(*a, *rest),
        ))  # fmt: skip
    made.append(("ncfm", "NCFM SampleNet, value and slope", "24 features, 512 t, one seed", compare_sampling_network))
    for power in (1, 4):
        made.append((
            "datadam", f"DataDAM loss (get_attention, MSE_B), p = {power}, and its gradient", net.format(3, 15, 3),
            lambda *a, power=power: compare_datadam(*a, float(power)),
        ))  # fmt: skip
    made.append(("cafe", "CAFE loss_middle + loss_output and its gradient", net.format(10, 6, 2), compare_cafe))
    for history in (False, True):
        made.append((
            "dsdm", f"DSDM matchloss{' with history' if history else ''} and its gradient", three,
            lambda *a, history=history: compare_dsdm(*a, history),
        ))  # fmt: skip
    made.append(("dance", "DANCE innerloss and interloss and their gradients", three, compare_dance))
    made.append(("idm", "IDM loss_c with its cross-entropy and its gradient", three, compare_idm))
    made.append(("idm", "IDM number_sign_augment, value and slope", "5 normal pictures, 3×32×32", compare_idm_tiles))
    return made


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
    net = "published ConvNet-D3-W128, normal weights (ours: Potstill's, the same weights); 3 classes, 16 real and 2 "
    net += "synthetic normal pictures each, 3×32×32"
    for shape, width, n in (((3, 32, 32), 128, 32), ((1, 28, 28), 128, 32), ((3, 32, 32), 32, 32)):
        size = "×".join(map(str, shape))
        made[f"ConvNet-D3-W{width}, {size}: logits, first and second derivatives"] = (
            f"{n} normal pictures, normal weights; cross-entropy, by weights and pictures; the squared norm of the "
            "gradient by the weights, by both again",
            lambda dtype, shape=shape, width=width, n=n: compare_network(networks, dtype, shape, width, n),
        )
    made["DC loss and its gradient to the pictures"] = (net, lambda dtype: compare_dc(utils, networks, dtype, None))
    for group in ("color", "rotate"):
        made[f"DSA loss and its gradient to the pictures, {group}"] = (
            net,
            lambda dtype, group=group: compare_dc(utils, networks, dtype, group),
        )
    made["DM loss and its gradient to the pictures, color"] = (net, lambda dtype: compare_dm(utils, networks, dtype))
    return made


@contextmanager
def counted() -> Iterator[list[str]]:
    """The calls of compiled kernels."""
    calls: list[str] = []

    def watched(library: str, function: str, *arguments: Any) -> int | None:
        calls.append(function)
        return native.run(library, function, *arguments)

    with contextlib.ExitStack() as stack:
        for module in (fused_norm_relu_pool, gemm_relu_pool, winograd):
            stack.enter_context(patch.object(module, "run", watched))
        yield calls


def commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def verdict(row: dict[str, Any]) -> str:
    if row["within_target"]:
        return "ok"
    if not row.get("within_published_rounding"):
        return "ABOVE TARGET"
    return (
        f"published rounding: from float64 published {row['published_float32_from_published_float64']:.1e}, "
        f"ours {row['float32_from_published_float64']:.1e}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, required=True, help="checkout of VICO-UoE/DatasetCondensation")
    parser.add_argument("--out", type=Path, default=Path("results/fidelity/functions.json"))
    for name, repository in REPOSITORIES.items():
        parser.add_argument(f"--{name}", type=Path, help=f"checkout of {repository}")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # the published code calls torch in ways that it warns about since
    torch.set_num_threads(1)
    utils, networks = load(args.published)
    checkouts = {name: getattr(args, name) for name in REPOSITORIES if getattr(args, name) is not None}
    todo: list[tuple[str, str, str, Callable[[torch.dtype], float]]] = [
        ("VICO-UoE/DatasetCondensation", name, *rest) for name, rest in cases(utils, networks).items()
    ]
    for whose, name, inputs, compare in others():
        if whose in checkouts:
            at = checkouts[whose]
            todo.append((
                REPOSITORIES[whose], name, inputs,
                lambda dtype, compare=compare, at=at: compare(utils, networks, at, dtype),
            ))  # fmt: skip
    rows = []
    for repository, name, inputs, run in todo:
        row: dict[str, Any] = {"function": name, "published": repository, "inputs": inputs}
        seen = {}
        for kind, dtype in DTYPES.items():
            SEEN.clear()
            with precision(utils, dtype), counted() as calls:
                row[kind] = run(dtype)
            seen[kind] = list(SEEN)
            if kind == "float32":
                row["kernels"] = len(calls)
        row["target"] = KERNELS if row["kernels"] else TARGETS["float32"]
        row["within_target"] = row["float32"] <= row["target"] and row["float64"] <= TARGETS["float64"]
        if row["float32"] > TARGETS["float32"] and seen["float32"]:
            pairs = list(zip(seen["float32"], seen["float64"], strict=True))
            row["published_float32_from_published_float64"] = max(error(low[1], high[1]) for low, high in pairs)
            row["float32_from_published_float64"] = max(error(low[0], high[1]) for low, high in pairs)
            row["within_published_rounding"] = row["float64"] <= TARGETS["float64"] and (
                row["float32_from_published_float64"] <= row["published_float32_from_published_float64"] <= SAME_DRAWS
            )
        rows.append(row)
        print(f"{name:<78} {row['float32']:.1e} {row['float64']:.1e}  {verdict(row)}")
    document = {
        "what": "largest absolute difference over the largest published value, same inputs, weights and draws",
        "published": {"repository": "VICO-UoE/DatasetCondensation", "commit": commit(args.published)},
        "others": {REPOSITORIES[name]: commit(at) for name, at in checkouts.items()},
        "targets": TARGETS | {"float32 by kernels": KERNELS},
        "kernels": native.loaded_kernels(),
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
    return 0 if all(verdict(row) != "ABOVE TARGET" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
