"""Run a method in Python without the driver: no files, checkpoints, limits or codecs."""

from dataclasses import replace
from typing import Any

from potstill.augment.names import named_augmentation
from potstill.core import Method, Problem, Release, Result, Source
from potstill.core.registry import make_method
from potstill.kinds import get_kind
from potstill.nn import default_network_name, factory_for
from potstill.parametrize.named_inputs import parse_parametrization, supports_input
from potstill.pretraining import build_assets, required_assets
from potstill.rng import generator
from potstill.tasks import get_task

__all__ = ["build_problem", "fit"]


def build_problem(method: Method[Any], source: Source, ipc: int) -> Problem:
    """Return the problem of a method on training data, without its assets.

    Network, augmentation and parametrization are the method's; on data other than images the default network of the
    data, no augmentation, and ``pixels`` take the place of parts that only suit images.

    Args:
        method: the method.
        source: training data.
        ipc: items per class, at least 1.

    Raises:
        PotstillError: a part does not exist or does not suit the data.
    """
    spec, image = source.input, get_kind(source.input).augmentable
    network = getattr(method, "network", None) or "convnet"
    augment = getattr(method, "augment", None) if image else None
    parametrization = getattr(method, "parametrization", None) or "pixels"
    return Problem(
        train=source, counts=(ipc,) * max(1, len(source.classes)),
        network=factory_for(default_network_name(spec, get_task(source)) if network == "convnet" else network, source),
        augment=named_augmentation(augment or "none", source),
        parametrization=parse_parametrization(parametrization if supports_input(parametrization, spec) else "pixels",
            spec),
    )  # fmt: skip


def fit(method: Method[Any], source: Source, *, ipc: int = 1, seed: int = 0, release: Release | None = None) -> Result:
    """Run a method on training data until it is done.

    The payload has the bits of ``potstill.distill(source, method, ipc=ipc, seed=seed)`` before a codec rounds it.

    Args:
        method: the method, with all fields.
        source: training data; its test split, if any, is never seen.
        ipc: items per class, at least 1.
        seed: seed of every draw.
        release: function of a query and this machine's sum that returns the sum that the method sees, such as one with
            noise or of all clients (`potstill.core.Release`).

    Returns:
        The distilled inputs and labels; `potstill.core.Synthetic` of methods that optimise them.

    Raises:
        PotstillError: a part of the method does not suit the data, or its defaults do not resolve.
    """
    problem = replace(build_problem(method, source, ipc), release=release)
    method = method.resolve_defaults(problem)[0]
    assets, _ = build_assets(
        required_assets(method, problem), source, problem.network, lambda name: named_augmentation(name, source)
    )
    problem = problem.with_assets(assets)
    rng = generator(seed, "distill", make_method(method, {})[0])
    state = method.init(problem, rng)
    while not method.done(problem, state):
        state, _ = method.step(problem, state, rng)
    return method.result(problem, state)
