"""Contract checks of networks, augmentations and parametrizations."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from potstill.core import (
    Augmentation,
    ClassSeparable,
    InputSpec,
    Network,
    NetworkFactory,
    Parametrization,
    Problem,
)
from potstill.core.nested import named_tensors, random_inputs, tree_map
from potstill.evaluation.vmap_students import StackedStudents
from potstill.nn import is_stackable
from potstill.rng import generator
from potstill.testing.common import no_side_effects, open_assets, require, same_bits, toy_problem
from potstill.testing.toy import toy_source

__all__ = ["check_augmentation", "check_network", "check_parametrization", "rows_violation"]


def check_network(
    make: NetworkFactory,
    shape: tuple[int, ...] | InputSpec,
    num_classes: int,
    *,
    per_pixel: bool = False,
    coarse: bool = False,
) -> None:
    """Check a network factory: equal seeds give equal networks, which embed, classify and differentiate twice.

    Args:
        make: factory.
        shape: shape of one input, or its `InputSpec`, which inputs of several tensors by name need.
        num_classes: k, the width of the logits.
        per_pixel: logits are of each pixel of a picture, (n, k, h, w).
        coarse: with ``per_pixel``: of a map that may be coarser, (n, k, r, s).

    Raises:
        ContractError: a promise is broken.
    """
    with no_side_effects("a network factory"):
        a, b, c = make(1), make(1), make(2)
    require(isinstance(a, Network), "a factory must make a core.Network")
    pairs = list(zip(a.parameters(), b.parameters(), strict=True))
    require(all(torch.equal(p, q) for p, q in pairs), "the same seed must give the same weights")
    require(
        any(not torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True)), "seeds must differ"
    )
    spec = shape if isinstance(shape, InputSpec) else InputSpec(kind="any", shape=shape)
    x = tree_map(lambda t: t.requires_grad_(t.is_floating_point()), random_inputs(spec, 3, generator(3)))
    a.eval()
    logits, features = a(x), a.embed(x)
    wanted = (3, num_classes, *(spec.shape[1:] if per_pixel else ()))
    fits = logits.ndim == 4 and logits.shape[:2] == wanted[:2] if coarse else tuple(logits.shape) == wanted
    require(fits, f"logits must be {wanted}, not {tuple(logits.shape)}")
    require(features.ndim == 2, f"embed must return flattened features, not {tuple(features.shape)}")
    grads = torch.autograd.grad(logits.logsumexp(1).sum(), tuple(a.parameters()), create_graph=True)
    total = torch.stack([g.square().sum() for g in grads]).sum()
    real = [t for t in named_tensors(x).values() if t.requires_grad]
    second = torch.autograd.grad(total, real)
    require(
        all(bool(torch.isfinite(s).all()) for s in second),
        "the gradient's gradient with respect to the input must be finite",
    )
    if is_stackable(make) and isinstance(x, Tensor):  # those of other packages are trained one by one
        a, c = a.double(), c.double().eval()
        alone = a(x.double())
        own = torch.autograd.grad(alone.logsumexp(1).sum(), tuple(a.parameters()))
        stack = StackedStudents([a, c])
        both = stack(x.detach().double().unsqueeze(0), training=False)
        beside = torch.autograd.grad(both[0].logsumexp(1).sum(), tuple(stack.parameters.values()))
        close = all(torch.allclose(g, h[0], rtol=1e-6, atol=1e-9) for g, h in zip(own, beside, strict=True))
        require(
            close and torch.allclose(both[0], alone, rtol=1e-6, atol=1e-9),
            "side by side with another (torch.func.vmap) a network must give what it gives alone, and its gradients",
        )


def check_augmentation(augment: Augmentation, shape: tuple[int, ...] = (3, 12, 12)) -> None:
    """Check an augmentation: no state, seeded, differentiable, same shape, and equal for batches that share
    parameters.

    Args:
        augment: augmentation.
        shape: shape of one sample, such as (c, h, w) of an image.

    Raises:
        ContractError: a promise is broken.
    """
    x = torch.rand(4, *shape, generator=generator(1))
    kept = x.clone()
    for seed in range(12):
        with no_side_effects("an augmentation"):
            params = augment.draw(1, shape, generator(seed))
            y, z = augment.apply(x, params), augment.apply(x[:2], augment.draw(1, shape, generator(seed)))
        require(torch.equal(x, kept), "apply must not write into its input")
        require(y.shape == x.shape, f"the shape must stay {tuple(x.shape)}, not {tuple(y.shape)}")
        require(torch.allclose(y[:2], z, atol=1e-6), "parameters drawn for one sample must be shared by any batch")
        each = augment.apply(x, augment.draw(4, shape, generator(seed)))
        require(each.shape == x.shape, "parameters drawn for n samples must apply to n samples")
        leaf = x.clone().requires_grad_()
        grad = torch.autograd.grad(augment.apply(leaf, params).square().sum(), leaf)[0]
        require(bool(torch.isfinite(grad).all()), "an augmentation must be differentiable in its input")


def check_parametrization(make: Callable[[], Parametrization], side: int = 16) -> None:
    """Check a parametrization on a toy problem of square grey images.

    Args:
        make: returns the parametrization.
        side: height and width of the images.

    Raises:
        ContractError: a promise is broken.
    """
    p, source = make(), toy_source("image", side=side)
    shape = source.input.shape
    problem = dataclasses.replace(toy_problem(ipc=4), train=source, parametrization=p)
    k, sizes = problem.num_classes, problem.sizes
    require(len(sizes) == k and min(sizes) >= 1, "sizes must give every class at least one input")
    wide = dataclasses.replace(problem, counts=(8,) * k).sizes
    require(all(b >= a for a, b in zip(sizes, wide, strict=True)), "a larger budget must not give fewer inputs")
    x = torch.rand(sum(sizes), *shape, generator=generator(2))
    if needed := (*problem.decoder_assets, *problem.init_assets):
        problem, twice = open_assets(problem, needed), open_assets(problem, needed)
        made = [dict(problem.assets[asset.name]) for asset in needed]
        require(
            all(isinstance(t, Tensor) for m in made for t in m.values()), "what it needs must open to named tensors"
        )
        require(
            all(same_bits(m, dict(twice.assets[asset.name])) for m, asset in zip(made, needed, strict=True)),
            "what it needs must have the same bits each time it is made",
        )
    with no_side_effects("a parametrization"):
        payload, again = (p.encode(x, problem, generator(3)) for _ in range(2))
        decoded = problem.decode(payload)
    require(same_bits(dict(payload), dict(again)), "the same seed must encode to the same bits")
    require(decoded.shape == x.shape, f"decode(encode(x)) must have the shape {tuple(x.shape)}")
    require(bool(torch.isfinite(decoded).all()), "decoded inputs must be finite")
    stored = sum(t.numel() * t.element_size() for t in payload.values())
    allowed = 4 * sum(problem.counts) * math.prod(shape)
    require(stored <= allowed, f"a payload must keep to the budget of {allowed:,} bytes, but it has {stored:,}")
    leaves = {n: t.detach().clone().requires_grad_() for n, t in payload.items() if t.is_floating_point()}
    require(bool(leaves), "a payload needs a floating tensor to optimise")
    again_decoded = problem.decode({**payload, **leaves})
    grads = torch.autograd.grad(again_decoded.square().sum(), tuple(leaves.values()), allow_unused=True)
    require(
        all(g is not None and float(g.abs().sum()) > 0 for g in grads),
        "gradients must reach every floating tensor of the payload",
    )
    if isinstance(p, ClassSeparable):
        require((wrong := rows_violation(p, payload, problem, problem.decode)) is None, wrong or "")


def rows_violation(p: ClassSeparable, payload: Any, problem: Problem, decode: Callable[[Any], Any]) -> str | None:
    """Return the promise that a `ClassSeparable` parametrization breaks, or ``None``."""
    k, sizes = problem.num_classes, problem.sizes
    floating = {n: t for n, t in payload.items() if t.is_floating_point()}
    seen = {n: torch.zeros(len(t), dtype=torch.int64) for n, t in floating.items()}
    before = decode(payload)
    for c in range(k):
        rows = p.class_rows(payload, sizes, range(c, c + 1))
        if rows.keys() != floating.keys():
            return f"rows() must name every floating tensor of the payload, {', '.join(floating)}"
        for n, mine in rows.items():
            seen[n][mine] += 1
        changed = {n: t.clone() for n, t in payload.items()}
        for n, mine in rows.items():
            changed[n][mine] += 1.0
        other = (decode(changed) != before).flatten(1).any(1)
        own = slice(sum(sizes[:c]), sum(sizes[: c + 1]))
        if not bool(other[own].all()) or int(other.sum()) != sizes[c]:
            return f"rows() of class {c} must change all inputs of that class and no other"
    if any(bool((count != 1).any()) for count in seen.values()):
        return "rows() must give every row to exactly one class"
    return None
