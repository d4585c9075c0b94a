"""A network's numbers in few bits: sizes known beforehand, errors within half a step, and nothing else accepted."""

import pytest
import torch
from torch import Tensor, nn

from potstill.core import InputSpec
from potstill.errors import PotstillError
from potstill.labels.quantized_network import layout_hash, quantize_networks, restore_networks, tensor_sizes
from potstill.nn import build_on_meta, factory

SPEC = InputSpec(kind="image", shape=(3, 16, 16))
NAMES = ("convnet-d2-w8-batch", "convnet-d2-w8", "mlp-w16", "linear", "vit-tiny", "resnet18-batch")


def trained(name: str, seed: int = 0) -> nn.Module:
    """A network whose buffers are not those of a fresh one."""
    network = factory(name, SPEC, 7)(seed)
    network.train()(torch.randn(9, *SPEC.shape, generator=torch.Generator().manual_seed(seed)))
    return network.eval()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", [4, 8])
def test_what_comes_back_is_within_half_a_step(name: str, bits: int) -> None:
    network, fresh = trained(name), factory(name, SPEC, 7)(1).eval()
    tensors = quantize_networks([network], bits)
    sizes = tensor_sizes([build_on_meta(name, SPEC, 7)], bits)  # without values
    assert {n: (t.dtype, t.numel()) for n, t in tensors.items()} == sizes
    restore_networks([fresh], tensors, bits)
    params = dict(network.named_parameters())
    for key, found in fresh.state_dict().items():
        true = network.state_dict()[key]
        if not found.is_floating_point():
            continue
        if key not in params:
            assert torch.equal(found, true), key
        elif true.ndim < 2:
            torch.testing.assert_close(found, true, rtol=2**-11, atol=1e-7)
        else:
            error, rows = (found - true).flatten(1), true.flatten(1)
            step = (rows.amax(1) - rows.amin(1)) / (2**bits - 1)
            rounding = 2**-9 * rows.abs().amax(1)  # of the range, to 16 bits
            if bits == 8:
                assert bool((error.abs().amax(1) <= step / 2 + rounding).all()), key
            # at 4 bits the ends may be cut off, where that makes the sum of squares smaller
            assert bool((error.square().mean(1).sqrt() <= step * 0.4 + rounding).all()), key
    x = torch.randn(5, *SPEC.shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        gap = (fresh(x) - network(x)).abs().max() / network(x).abs().max()
    assert float(gap) < (0.05 if bits == 8 else 0.9)


def test_a_constant_channel_comes_back_exactly() -> None:
    network = nn.Linear(4, 3)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.5] * 4, [0.0] * 4, [1.0, 0.0, 1.0, 0.0]]))
    fresh = nn.Linear(4, 3)
    restore_networks([fresh], quantize_networks([network], 4), 4)
    assert torch.equal(fresh.weight[:2], network.weight[:2])
    torch.testing.assert_close(fresh.weight, network.weight, rtol=2**-11, atol=1e-6)


def test_several_networks_follow_one_another() -> None:
    both, fresh = [trained(NAMES[0], 0), trained(NAMES[2], 1)], [factory(n, SPEC, 7)(5) for n in (NAMES[0], NAMES[2])]
    restore_networks(fresh, quantize_networks(both, 8), 8)
    for network, alone in zip(fresh, both, strict=True):
        single = factory(NAMES[0] if network is fresh[0] else NAMES[2], SPEC, 7)(9)
        restore_networks([single], quantize_networks([alone], 8), 8)
        for a, b in zip(network.parameters(), single.parameters(), strict=True):
            assert torch.equal(a, b)


def test_other_tensors_are_refused() -> None:
    network = trained(NAMES[0])
    tensors = quantize_networks([network], 8)
    changes: dict[str, dict[str, Tensor]] = {
        "left out": {k: v for k, v in tensors.items() if k != "ranges"},
        "codes": tensors | {"codes": tensors["codes"][:-1]},
        "float32": tensors | {"vectors": tensors["vectors"].float()},
        "axes": tensors | {"statistics": tensors["statistics"].reshape(1, -1)},
        "extra": tensors | {"extra": torch.zeros(1)},
        "not finite": tensors | {"statistics": torch.full_like(tensors["statistics"], float("nan"))},
    }
    for said, changed in changes.items():
        with pytest.raises(PotstillError, match=said):
            restore_networks([factory(NAMES[0], SPEC, 7)(1)], changed, 8)
    with pytest.raises(PotstillError, match="codes"):
        restore_networks([factory(NAMES[0], SPEC, 7)(1)], tensors, 4)


def test_numbers_that_cannot_be_stored_are_refused() -> None:
    network = nn.Linear(2, 2)
    for value, said in ((float("inf"), "finite"), (1e9, "those of weight go up to 1,000,000,000; store rows")):
        with torch.no_grad():
            network.weight[0, 0] = value
        with pytest.raises(PotstillError, match=said):
            quantize_networks([network], 8)


def test_a_layout_is_of_names_and_shapes() -> None:
    hashes = [layout_hash(build_on_meta(name, SPEC, 7)) for name in NAMES]
    assert len(set(hashes)) == len(NAMES)
    assert [layout_hash(trained(name)) for name in NAMES[:4]] == hashes[:4]
    assert layout_hash(build_on_meta(NAMES[0], SPEC, 8)) != hashes[0]
