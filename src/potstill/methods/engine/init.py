"""Initial inputs and labels: random real samples, those nearest to k-means centres, noise, or an `InitStrategy`."""

import math
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, Network, Problem, Space
from potstill.data.real_data import RealData
from potstill.errors import PotstillError
from potstill.functional.coreset import k_means_medoids
from potstill.functional.features import embed_real
from potstill.rng import class_generators, draw_seed

__all__ = [
    "Init", "InitStrategy", "central_samples", "central_samples_of_class", "hard_labels", "has_classes",
    "initial_inputs", "initial_logits", "initial_samples", "initial_scores", "overlay_initial", "require_tensor",
]  # fmt: skip

Init: TypeAlias = Literal["real", "noise", "k-means"]

CONFIDENCE = 0.9
"""Initial probability of a learned label's own class. Ours."""

K_MEANS_ITERATIONS = 20
"""Iterations of k-means for initial samples. Ours."""


@runtime_checkable
class InitStrategy(Protocol):
    """A method's own choice of initial real samples and soft labels."""

    def select_samples(self, problem: Problem, counts: tuple[int, ...], rng: Generator, /) -> tuple[Tensor, ...]:
        """Return indices of so many real samples of each class, in label order."""
        ...

    def initial_logits(self, problem: Problem, x: Inputs, /) -> Tensor:
        """Return initial logits (n, k) of learned labels for the decoded inputs, which are in model space."""
        ...


def has_classes(problem: Problem) -> bool:
    """Return True if the task is classification."""
    return problem.task.name == "classification"


def require_tensor(x: Inputs) -> Tensor:
    """Return an input that is one tensor.

    Raises:
        PotstillError: the input has several tensors by name.
    """
    if not isinstance(x, Tensor):
        raise PotstillError(f"matching needs inputs of one tensor, but these have {', '.join(x)}; join them into one")
    return x


def central_samples_of_class(
    problem: Problem, net: Network, index: Tensor, n: int, rng: Generator, iterations: int
) -> Tensor:
    """Return the samples of a class nearest to ``n`` k-means centres of its embeddings; all if it has no more."""
    if len(index) <= n:
        return index
    parts = [embed_real(net, RealData.of(problem).batch(some).x) for some in torch.split(index, 2048)]
    return index[k_means_medoids(torch.cat(parts), n, rng, iterations).cpu()]


def central_samples(problem: Problem, net: Network, counts: tuple[int, ...], rng: Generator) -> tuple[Tensor, ...]:
    """Return, for each class, so many samples nearest to the k-means centres of ``net``'s embeddings."""
    return tuple(
        central_samples_of_class(problem, net, index, n, g, K_MEANS_ITERATIONS)
        for index, n, g in zip(problem.class_indices, counts, class_generators(rng, problem.class_names), strict=True)
    )


def initial_inputs(
    problem: Problem, how: Init, rng: Generator, space: Space = "model", seed: int | None = None
) -> Tensor:
    """Return initial inputs of one tensor; see `initial_samples`."""
    return require_tensor(initial_samples(problem, how, rng, space, seed)[0])


def initial_samples(
    problem: Problem, how: Init | InitStrategy, rng: Generator, space: Space = "model", seed: int | None = None
) -> tuple[Inputs, Tensor | None]:
    """Return initial decoded inputs: random real samples of each class, those nearest to k-means centres, noise, or
    those that an `InitStrategy` selects.

    The centres are those of embeddings in an untrained network, made from ``seed`` or from one that is drawn (DREAM).
    Noise is standard normal in model space; in data units its quarter about one half, clamped to [0, 1] (IDC's).
    Inputs that the problem starts from take their rows; where they are all rows, nothing is drawn.

    Returns:
        The inputs, and the targets of the real samples that they are, where those are no classes.

    Raises:
        PotstillError: a class has fewer samples than a start from real ones needs, or there are no classes, and noise
            would have no targets.
    """
    if problem.initial is not None and problem.initial_rows is None:
        return _given_inputs(problem, problem.initial, space), None
    x, targets = _draw_samples(problem, how, rng, space, seed)
    return overlay_initial(problem, require_tensor(x), space) if problem.initial is not None else x, targets


def overlay_initial(problem: Problem, x: Tensor, space: Space = "model") -> Tensor:
    """Return inputs ``x`` of all rows with those that the problem starts from in their rows."""
    if problem.initial is None:
        return x
    given = _given_inputs(problem, problem.initial, space)
    return given if problem.initial_rows is None else x.index_copy(0, problem.initial_rows.to(x.device), given)


def _given_inputs(problem: Problem, x: Tensor, space: Space) -> Tensor:
    x = x.to(problem.train.device)
    return x if space == "data" else problem.train.normalization.apply(x)


def _draw_samples(
    problem: Problem, how: Init | InitStrategy, rng: Generator, space: Space, seed: int | None
) -> tuple[Inputs, Tensor | None]:
    """Return inputs of all rows as the method initializes them, and targets that are no classes."""
    if how == "noise" and not has_classes(problem):
        raise PotstillError(
            f"noise has no {problem.task.name} targets; start from real samples: init_from='real' or 'k-means'"
        )
    sizes, shape = problem.sizes, problem.train.input.shape
    if how == "noise":
        generators = class_generators(rng, problem.class_names)
        x = torch.cat([torch.randn(size, *shape, generator=g) for size, g in zip(sizes, generators, strict=True)])
        return ((x / 4 + 0.5).clamp(0, 1) if space == "data" else x).to(problem.train.device), None
    # A class must have as many samples as its budget holds; where they decode to more inputs, samples come again.
    counts = tuple(
        min(size, max(n, len(i))) for n, size, i in zip(problem.counts, sizes, problem.class_indices, strict=True)
    )
    real = RealData.of(problem)
    chosen = real.draw_exactly(counts, rng)
    if isinstance(how, InitStrategy):
        chosen = how.select_samples(problem, counts, rng)
    elif how == "k-means":
        net = problem.network(draw_seed(rng) if seed is None else seed).eval().requires_grad_(False)
        chosen = central_samples(problem, net, counts, rng)
    index = torch.cat([i[torch.arange(size) % len(i)] for i, size in zip(chosen, sizes, strict=True)])
    batch = real.batch(index)
    return real.raw(index) if space == "data" else batch.x, None if has_classes(problem) else batch.y


def hard_labels(problem: Problem) -> Tensor:
    """Return the class of every decoded input, int64, on the CPU."""
    return torch.repeat_interleave(torch.arange(problem.num_classes), torch.tensor(problem.sizes))


def initial_logits(problem: Problem) -> Tensor:
    """Return logits (n, k) that give each input's own class probability `CONFIDENCE` and the others equal shares."""
    k = problem.num_classes
    height = math.log(CONFIDENCE * (k - 1) / (1 - CONFIDENCE))
    return height * torch.nn.functional.one_hot(hard_labels(problem), k).float()


def initial_scores(problem: Problem) -> Tensor:
    """Return hard labels as real values (n, k): one-hot − 1/k."""
    k = problem.num_classes
    return torch.nn.functional.one_hot(hard_labels(problem), k).float() - 1 / k
