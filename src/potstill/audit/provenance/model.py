"""Was a model trained on a marked set? Its gradients answer without the set's being shown to anybody.

A model that learned from pictures with one pattern for each class has learned the pattern: its output of a class rises
along it. The test takes the mean gradient of each class's output by the inputs, and scores it as the inputs of a set
are. For a key that marked nothing that the model saw, z has mean 0 and variance 1, whatever the model is.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from potstill._util.input_limits import limits
from potstill.audit.provenance.carrier import Features, null_scores, score
from potstill.core.nested import num_samples
from potstill.dataset_file import Distilled, read_tensors
from potstill.errors import PotstillError
from potstill.nn import factory

__all__ = ["ModelScore", "load_model", "score_model"]

_PROBES = 256
"""Largest number of items whose gradients are taken."""
_POWER = 1.0
ModelScore = tuple[float, list[float]]
"""z of the key, and of keys that marked nothing."""


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
    if "class" not in features.carriers:
        raise PotstillError("models learn marks of pictures in classes alone; this set has none, so leave `model=` out")
    rows = _gradients(network, small, len(features.classes))
    learned = features.of_inputs(rows, torch.arange(len(features.classes)))
    own = score(learned, secret, "class", centre=False, power=_POWER)
    return own, null_scores(learned, seed, keys, "class", centre=False, power=_POWER)


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
