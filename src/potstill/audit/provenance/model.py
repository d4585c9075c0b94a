"""Was a model trained on a marked set? Its gradients, or its outputs alone, answer without the set's being published.

A model that learned from pictures with one pattern for each class has learned the pattern: its output of a class rises
along it, and its loss falls. The test takes the mean gradient of each class's output by the inputs, and scores it as
the inputs of a set are. For a key that marked nothing that the model saw, z has mean 0 and variance 1, whatever the
model is.

Of a model behind a service only outputs are seen. There the slope along each marked coefficient e is a difference of
two answers at each probe x, in the logarithm of the probability (the negative loss) of each class c::

    slope(c, e) = mean over x of [log p_c(x + s e) − log p_c(x − s e)] / 2s,   less the mean over classes

The queries do not depend on the key, so that one set of answers is scored for every key. After radioactive data
(Sablayrolles et al., arXiv:2002.00937), which compares losses with and without a mark.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from potstill._util.import_from_file import FileReference, is_file_reference
from potstill._util.input_limits import limits
from potstill.audit.provenance.carrier import Features, null_scores, score
from potstill.core.nested import num_samples
from potstill.dataset_file import Distilled, read_tensors
from potstill.errors import PotstillError
from potstill.kinds import get_kind
from potstill.nn import factory
from potstill.rng import generator

__all__ = ["QUERIES", "ModelScore", "Query", "load_model", "open_model", "query_of", "score_model", "score_outputs"]

_PROBES = 256
"""Largest number of items whose gradients are taken."""
_POWER = 1.0
QUERIES = 10_000
"""Largest number of pictures that go to a model whose outputs alone are seen."""
_STEP = 0.1
"""Change of a probe: root mean square over the standard deviation of the set's pixels."""
_CHUNK = 500
_TINY = 1e-30
Query = Callable[[Tensor], Tensor]
"""Function from pictures (n, c, h, w) in data units to logits or probabilities (n, classes)."""
ModelScore = tuple[float, list[float]]
"""z of the key, and of keys that marked nothing."""


def open_model(
    model: str | Path | nn.Module | Query, network: Callable[[], str], small: Distilled
) -> nn.Module | Query:  # fmt: skip
    """Return a module, or a function from pictures to outputs.

    Args:
        model: either of them, ``FILE.py:NAME``, or a file of weights.
        network: called for the name of the network that such weights are of.
        small: set whose inputs and classes the network takes.

    Raises:
        PotstillError: there is no such file, or what it names is no function.
    """
    if isinstance(model, nn.Module):
        return model
    if not isinstance(model, str | Path):
        found, name = model, "model"
    elif is_file_reference(str(model)):
        found, name = FileReference.read(str(model)).load(), str(model)
    else:
        return load_model(Path(model), network(), small)
    if isinstance(found, type) or not callable(found):
        raise PotstillError(
            f"{name}: a function from pictures to outputs is required, or a module, not {type(found).__name__} "
            f"{getattr(found, '__name__', '')}".rstrip()
            + "; name one"
        )
    return found


def load_model(path: Path, network: str, small: Distilled) -> nn.Module:
    """Return a network with the weights in a safetensors file.

    Args:
        path: tensors by the names of the network's parameters and buffers.
        network: name of the network.
        small: set whose inputs and classes the network takes.

    Raises:
        PotstillError: the file has other tensors than the network.
    """
    made = factory(network, small.input, len(small.classes), "cpu", normalization=small.normalization)(0)
    tensors, _ = read_tensors(path, limits().set_bytes)
    expected = made.state_dict()
    for name in sorted({*expected, *tensors}):
        shapes = [list(t[name].shape) if name in t else None for t in (expected, tensors)]
        if shapes[0] != shapes[1]:
            raise PotstillError(
                f"{path}: weights of network {network} are required, but {name[:80]!r} is {shapes[1] or 'missing'} "
                f"instead of {shapes[0] or 'none'}; name the model's `network=`"
            )
    made.load_state_dict(tensors)
    return made


def score_model(
    network: nn.Module, small: Distilled, features: Features, secret: bytes, keys: int, seed: int
) -> ModelScore:
    """Return z of a key for a model, and z of ``keys`` keys that marked nothing.

    Raises:
        PotstillError: the mark is of a kind that no model learns, or the model has other outputs than the set classes.
    """
    _check_carrier(features)
    rows = _gradients(network, small, len(features.classes))
    learned = features.of_inputs(rows, torch.arange(len(features.classes)))
    own = score(learned, secret, "class", centre=False, power=_POWER)
    return own, null_scores(learned, seed, keys, "class", centre=False, power=_POWER)


def _check_carrier(features: Features) -> None:
    if "class" not in features.carriers:
        raise PotstillError("models learn marks of pictures in classes alone; this set has none, so leave `model=` out")


def query_of(network: nn.Module, small: Distilled) -> Query:
    """Return the answers of a network to pictures in data units, as a service gives them."""
    network.eval()

    def ask(x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.as_tensor(network(small.normalization.apply(x))).softmax(1)

    return ask


def score_outputs(
    query: Query, small: Distilled, features: Features, secret: bytes, keys: int, seed: int, *, queries: int = QUERIES
) -> ModelScore:
    """Return z of a key for a model whose outputs alone are seen, and z of ``keys`` keys that marked nothing.

    Args:
        query: the model; pictures that go to it are in the set's value range.
        queries: largest number of pictures that go to it. With fewer than two for each marked coefficient, some
            coefficients are left out, drawn by ``seed``.

    Raises:
        PotstillError: the mark is of a kind that no model learns, the model has other outputs than the set classes, or
            there are fewer queries than classes.
    """
    _check_carrier(features)
    marked, classes = features.marked, len(features.classes)
    if queries < 2 * classes:
        raise PotstillError(f"at least {2 * classes} queries are required, but `queries={queries}`; give more")
    inputs = small.inputs
    assert isinstance(inputs, Tensor)
    d = features.values.shape[1]
    at = torch.randperm(d, generator=generator(seed, "coefficients that are asked for"))[: queries // 2]
    probes = min(len(inputs), _PROBES, max(1, queries // (2 * len(at))))
    chosen = torch.arange(probes) * len(inputs) // probes
    x = inputs[chosen].float()
    value_range = get_kind(marked.spec).value_range
    assert value_range is not None
    size = _STEP * float(inputs.std()) * x[0].numel() ** 0.5
    slopes = features.values.new_zeros(classes, d)
    for part in torch.split(at, max(1, _CHUNK // probes)):
        step = size * marked.to_inputs(torch.eye(d)[part])[:, None]
        above, below = (
            _log_probability(query((x + sign * step).flatten(0, 1).clamp(*value_range)), classes) for sign in (1, -1)
        )
        slopes[:, part] = (above - below).reshape(len(part), probes, classes).mean(1).T.to(slopes) / (2 * size)
    learned = replace(
        features, values=slopes, hashed=features.hashed[:1].expand(classes, -1), labels=torch.arange(classes)
    )
    own = score(learned, secret, "class", centre=False, power=_POWER)
    return own, null_scores(learned, seed, keys, "class", centre=False, power=_POWER)


def _log_probability(answers: Tensor, classes: int) -> Tensor:
    """Return logarithms of probabilities less their mean over classes, from logits or probabilities."""
    answers = torch.as_tensor(answers).detach().double().cpu()
    if answers.ndim != 2 or answers.shape[1] != classes or not bool(torch.isfinite(answers).all()):
        raise PotstillError(
            f"a model with {classes} finite outputs for each picture is required, but it gives {list(answers.shape)}"
        )
    if bool((answers >= 0).all()) and bool(((answers.sum(1) - 1).abs() < 1e-3).all()):
        answers = answers.clamp(min=_TINY).log()
    return answers - answers.mean(1, keepdim=True)


def _gradients(network: nn.Module, small: Distilled, classes: int) -> Tensor:
    """Return the mean gradient by the inputs of each class's output, less the mean of all outputs."""
    network.eval()
    inputs = small.inputs
    assert isinstance(inputs, Tensor)
    step = max(1, num_samples(inputs) // _PROBES)
    with torch.enable_grad():
        x = inputs[::step][:_PROBES].clone().requires_grad_(True)
        outputs = network(small.normalization.apply(x))
        if outputs.ndim != 2 or outputs.shape[1] != classes:
            raise PotstillError(f"a model with {classes} outputs is required, but it has {list(outputs.shape[1:])}")
        outputs = outputs - outputs.mean(1, keepdim=True)
        return torch.stack(
            [torch.autograd.grad(outputs[:, c].sum(), x, retain_graph=True)[0].mean(0) for c in range(classes)]
        )
