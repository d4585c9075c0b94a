"""Custom networks: a class or function that returns a plain ``torch.nn.Module``, or ``file.py:Net``.

It is called without arguments, or with ``shape`` (of one input), ``classes`` (their number) and ``spec`` (the
`potstill.core.InputSpec`) if its signature takes them. Inputs of several tensors come as a mapping by name, and their
``shape`` is a mapping of the parts' shapes. Features are the result of its method ``embed`` if it has one, else the
input of the ``nn.Linear`` that runs last.
"""

import ast
import functools
import hashlib
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.parameter import is_lazy

from potstill._util.import_from_file import FileReference, is_file_reference
from potstill.core import Inputs, InputSpec, Network
from potstill.core.nested import device_of, named_tensors, random_inputs, tree_map, zeros_like_spec
from potstill.errors import PotstillError
from potstill.rng import derive_seed, generator

__all__ = ["CustomFactory", "CustomNetwork", "custom_factory", "parse_network"]

_OFFERED = ("shape", "classes", "spec")
_BREAKS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError, NameError)
"""Exceptions that a custom network's code may raise."""


@dataclass(frozen=True, slots=True)
class CustomNetwork:
    """A custom network's constructor as a comparable value, before the input is known."""

    source: Callable[..., Any] | FileReference

    @property
    def constructor(self) -> Callable[..., Any]:
        """Class or function that makes the network."""
        constructor = self.source.load() if isinstance(self.source, FileReference) else self.source
        _check_constructor(constructor)
        return cast("Callable[..., Any]", constructor)

    def __str__(self) -> str:
        if isinstance(self.source, FileReference):
            return str(self.source)
        bare = self.source.func if isinstance(self.source, functools.partial) else self.source
        return str(getattr(bare, "__qualname__", type(bare).__name__))


def _check_constructor(constructor: object) -> None:
    if isinstance(constructor, nn.Module) or not callable(constructor):
        raise PotstillError(
            "a network is a name, or a class or function that makes it again for every student, but a "
            f"{type(constructor).__name__} was given; give its class, or lambda: {type(constructor).__name__}(…)"
        )


def parse_network(network: object) -> str | CustomNetwork | None:
    """Return a registered name or ``None`` as it is, anything else as a `CustomNetwork`.

    For user input only: names from a file's metadata go to `potstill.nn.factory`, which runs no files.

    Raises:
        PotstillError: the file or its class does not exist, or makes no networks.
    """
    if (
        network is None
        or isinstance(network, CustomNetwork)
        or (isinstance(network, str) and not is_file_reference(network))
    ):
        return network
    if isinstance(network, str):
        own = CustomNetwork(FileReference.read(network))
        _ = own.constructor  # fail before anything else is computed
        return own
    _check_constructor(network)
    return CustomNetwork(cast("Callable[..., Any]", network))


class WrappedNetwork(Network):
    """Wraps a custom network as a `potstill.core.Network`."""

    def __init__(self, net: nn.Module, about: "CustomFactory") -> None:
        super().__init__()
        self.net, self.factory = net, about

    @property
    def classifier(self) -> nn.Module:  # type: ignore[override]  # a submodule of net, not registered twice
        """Last linear layer, applied to the features."""
        if self.factory.head is None or not self.factory.head_gives_logits:
            raise PotstillError(
                f"this method looks at the last layer, so logits must be an nn.Linear of the features, but those of "
                f"network {self.factory.name} are not; choose another method or network"
            )
        return self.net.get_submodule(self.factory.head)

    def embed(self, x: Inputs) -> Tensor:
        with self._seeded_draws(x):
            if self.factory.has_embed:
                features: Tensor = cast(Any, self.net).embed(x)
                return features.flatten(1)
            if self.factory.head is None:
                raise PotstillError(
                    f"network {self.factory.name} has no nn.Linear whose input could be its features, and no method "
                    "embed(x); give it one, or choose a method that needs no features"
                )
            head_inputs: list[Tensor] = []
            head = self.net.get_submodule(self.factory.head)
            hook = head.register_forward_pre_hook(lambda module, inputs: head_inputs.append(inputs[0]))
            try:
                self.net(x)
            finally:
                hook.remove()
        return head_inputs[-1].flatten(1)

    def forward(self, x: Inputs) -> Tensor:
        with self._seeded_draws(x):
            logits: Tensor = self.net(x)
        return logits

    @contextmanager
    def _seeded_draws(self, x: Inputs) -> Iterator[None]:
        """Seed the net's draws in training (dropout) by its input and weights; restores torch's global generators.

        Every step draws anew, and a repeated or resumed run draws the same.
        """
        if not (self.training and self.factory.is_stochastic):
            yield
            return
        device, last = device_of(x), next(reversed(list(self.net.parameters())))
        seed = derive_seed(*map(_bit_sum, named_tensors(x).values()), _bit_sum(last))
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.default_generator.manual_seed(seed)
            if devices:
                torch.cuda.manual_seed(seed)
            yield


class WrappedLayeredNetwork(WrappedNetwork):
    """Custom network with a method ``activations``."""

    def activations(self, x: Inputs) -> tuple[Tensor, ...]:
        """Return inner activations and features, as `potstill.core.Layered`."""
        with self._seeded_draws(x):
            return tuple(cast(Any, self.net).activations(x))


def _bit_sum(x: Tensor) -> int:
    """Return the sum of the bits of ``x``, exact in any order."""
    return int(x.detach().float().contiguous().view(torch.int32).sum(dtype=torch.int64))


@dataclass(frozen=True, kw_only=True)
class CustomFactory:
    """Makes fresh custom networks: ``factory(seed)``. See `custom_factory`."""

    name: str
    """``module:Class@`` and a hash of its layers, parameters and the source of its classes."""
    definition: CustomNetwork
    input: InputSpec
    num_classes: int
    device: torch.device
    head: str | None
    """Name of the linear layer that runs last."""
    head_gives_logits: bool
    """True if that layer's output on the features has the softmax of the logits."""
    has_embed: bool
    has_activations: bool
    is_stochastic: bool
    """True if it draws random numbers in training."""
    second_order_error: str | None
    """Error of differentiating gradients; ``None`` if there is none."""

    def __call__(self, seed: int, /) -> Network:
        """Return the network of ``seed`` on ``device``; the global generator is not used."""
        net = _build(self.definition, self.input, self.num_classes, seed)
        return (WrappedLayeredNetwork if self.has_activations else WrappedNetwork)(net, self).to(self.device)

    @functools.cached_property
    def can_stack(self) -> bool:
        """True if several networks can be trained as one by vmap, with the same results."""
        return _can_stack(self)


def _build(definition: CustomNetwork, spec: InputSpec, num_classes: int, seed: int) -> nn.Module:
    maker = definition.constructor
    try:
        parameters = inspect.signature(maker).parameters
    except (TypeError, ValueError):  # a class that is written in C
        parameters = {}  # type: ignore[assignment]
    shape = {name: part.shape for name, part in spec.parts} if spec.parts else tuple(spec.shape)
    values = {"shape": shape, "classes": num_classes, "spec": spec}
    needed = [
        n for n, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and n not in _OFFERED
    ]  # fmt: skip
    if needed:
        raise PotstillError(
            f"network {definition} needs {', '.join(needed)} to be made, but only shape, classes and spec are given; "
            f"give it a default, or a function: lambda: {str(definition).rpartition(':')[2]}({needed[0]}=…)"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "network"))
        try:
            net = maker(**{n: values[n] for n in _OFFERED if n in parameters})
        except _BREAKS as error:
            raise PotstillError(
                f"network {definition} cannot be made: {type(error).__name__}: {_first_line(error)}"
            ) from error
        if not isinstance(net, nn.Module):
            raise PotstillError(f"network {definition} must make a torch.nn.Module, but it made a {type(net).__name__}")
        if any(is_lazy(p) for p in (*net.parameters(), *net.buffers())):
            training = net.training
            with torch.no_grad():
                _forward(definition, net.eval(), zeros_like_spec(spec, 2))
            net.train(training)
    return net.train()


def _forward(definition: CustomNetwork, net: nn.Module, x: Inputs) -> Any:
    try:
        return net(x)
    except _BREAKS as error:
        shapes = {name: "×".join(map(str, t.shape[1:])) for name, t in named_tensors(x).items()}
        found = f"shape {shapes['']}" if isinstance(x, Tensor) else f"several tensors by name ({', '.join(shapes)})"
        raise PotstillError(
            f"network {definition} cannot take inputs of {found} "
            f"({_first_line(error)}); make it from the data's shape: def __init__(self, shape, classes)"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def custom_factory(
    definition: CustomNetwork,
    spec: InputSpec,
    num_classes: int,
    device: torch.device,
    *,
    per_pixel: bool = False,
    coarse: bool = False,
) -> CustomFactory:
    """Return the factory of a custom network after a check on four random inputs.

    Args:
        spec: inputs that it must take.
        num_classes: number of logits that it must return.
        device: device of its networks.
        per_pixel: its logits are of each pixel, (n, k, h, w).
        coarse: with ``per_pixel``: they may also be of a coarser map, (n, k, r, s).

    Raises:
        PotstillError: it cannot be made, does not take such inputs, returns no logits, has shared, frozen or unused
            parameters, or other initial weights from the same seed.
    """
    net, again = (_build(definition, spec, num_classes, 0) for _ in range(2))
    _check_parameters(definition, net, again)
    x = random_inputs(spec, 4, generator(0, "own network"))
    before, ran, given_to = tree_map(Tensor.clone, x), list[str](), dict[str, tuple[Tensor, Tensor]]()
    hooks = [_record_call(name, m, ran, given_to) for name, m in net.named_modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        logits = _forward(definition, net.eval(), x)
    for hook in hooks:
        hook.remove()
    _check_logits(definition, logits, num_classes, tuple(spec.shape[1:]) if per_pixel else (), coarse=coarse)
    if not all(torch.equal(t, named_tensors(before)[name]) for name, t in named_tensors(x).items()):
        raise PotstillError(f"network {definition} writes into its inputs; let its first operation not be in place")
    draws = _check_gradients(definition, net, x)
    _check_same_start(definition, net, again)
    head = ran[-1] if ran else None
    embeds = callable(getattr(net, "embed", None))
    plain = False
    if head is not None:
        features, out = given_to[head]
        with torch.no_grad():
            if embeds:
                features = cast(Any, net.eval()).embed(x).flatten(1)
                fits = features.shape[1] == given_to[head][0].shape[-1]
                out = net.get_submodule(head)(features) if fits else features
        plain = out.shape == logits.shape and features.ndim == 2 and torch.allclose(
            out.softmax(1), logits.softmax(1), rtol=1e-4, atol=1e-5
        )  # fmt: skip
    return CustomFactory(
        name=_network_name(definition, again), definition=definition, input=spec, num_classes=num_classes,
        device=device, head=head, head_gives_logits=plain, has_embed=embeds,
        has_activations=callable(getattr(net, "activations", None)), is_stochastic=draws,
        second_order_error=_second_order_error(again, x),
    )  # fmt: skip


def _record_call(name: str, module: nn.Module, call_order: list[str], calls: dict[str, tuple[Tensor, Tensor]]) -> Any:
    def look(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        call_order.append(name)
        calls[name] = inputs[0].clone(), output.clone()

    return module.register_forward_hook(look)


def _check_parameters(definition: CustomNetwork, net: nn.Module, twin: nn.Module) -> None:
    names = dict(net.named_parameters())
    if not names:
        raise PotstillError(f"network {definition} has no parameters to train; give it a layer that has")
    if net is twin or {p.data_ptr() for p in net.parameters()} & {p.data_ptr() for p in twin.parameters()}:
        raise PotstillError(f"network {definition} must be made again at every call, but it was the same one twice")
    shared = [n for n, _ in net.named_parameters(remove_duplicate=False) if n not in names]
    if shared:
        first = next(n for n, p in names.items() if p is net.get_parameter(shared[0]))
        raise PotstillError(
            f"network {definition} has one parameter under two names, {first} and {shared[0]}; parameters are trained "
            "by name: give each its own"
        )
    if frozen := [n for n, p in names.items() if not p.requires_grad]:
        raise PotstillError(
            f"network {definition} has parameters that are not trained, as {frozen[0]}; keep what stays as a buffer "
            "(register_buffer)"
        )
    if odd := [n for n, p in names.items() if p.dtype != torch.float32]:
        raise PotstillError(
            f"network {definition} must have parameters of float32, but {odd[0]} is {names[odd[0]].dtype}"
        )


def _check_logits(
    definition: CustomNetwork, logits: Any, num_classes: int, pixels: tuple[int, ...], *, coarse: bool
) -> None:
    if not isinstance(logits, Tensor):
        raise PotstillError(
            f"network {definition} must give one tensor of logits, but it gives a {type(logits).__name__}"
        )
    if coarse and not (logits.ndim == 4 and logits.shape[:2] == (4, num_classes)):
        raise PotstillError(
            f"network {definition} must give {num_classes} logits for each place of a map, shape "
            f"(4, {num_classes}, r, s) for four pictures, but it gives {tuple(logits.shape)}; let its last layer be a "
            "convolution"
        )
    if pixels and not coarse and logits.shape != (4, num_classes, *pixels):
        raise PotstillError(
            f"network {definition} must give {num_classes} logits for each pixel, shape "
            f"{(4, num_classes, *pixels)} for four pictures, but it gives {tuple(logits.shape)}; let its last layer be "
            "a convolution, enlarged to the picture's size"
        )
    if not pixels and logits.shape != (4, num_classes):
        shape = "×".join(map(str, logits.shape[1:])) or "no"
        raise PotstillError(
            f"network {definition} must give {num_classes} logits for each input, one for each class, but it gives "
            f"{shape}; make its last layer from the number of classes: def __init__(self, classes)"
        )
    if not bool(torch.isfinite(logits).all()):
        raise PotstillError(f"network {definition} gives logits that are not finite for standard normal inputs")
    if num_classes > 1 and float(logits.min()) >= 0 and float((logits.sum(1) - 1).abs().max()) < 1e-4:
        raise PotstillError(
            f"network {definition} gives probabilities that sum to 1, but logits are needed, as the loss has a "
            "softmax; drop the softmax at its end"
        )


def _check_gradients(definition: CustomNetwork, net: nn.Module, x: Inputs) -> bool:
    """Check that every parameter has a gradient; return True if the net draws random numbers in training.

    Raises:
        PotstillError: a parameter has no gradient.
    """
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        logits = _forward(definition, net.train(), x)
        drew = not torch.equal(before, torch.get_rng_state())
        try:
            slopes = torch.autograd.grad(logits.logsumexp(1).sum(), list(net.parameters()), allow_unused=True)
        except RuntimeError as error:
            raise PotstillError(f"network {definition} cannot be differentiated ({_first_line(error)})") from error
    if unused := [n for (n, _), s in zip(net.named_parameters(), slopes, strict=True) if s is None]:
        raise PotstillError(f"network {definition}: parameter {unused[0]} has no part in the logits; leave it out")
    return drew


def _check_same_start(definition: CustomNetwork, net: nn.Module, twin: nn.Module) -> None:
    for (name, a), b in zip(net.named_parameters(), twin.parameters(), strict=True):
        if a.shape != b.shape or not torch.equal(a, b):
            raise PotstillError(
                f"network {definition} starts otherwise each time from the same seed, as {name}; draw all weights with "
                "torch's global generator (torch.nn.init, torch.randn), which is seeded for it"
            )


def _second_order_error(net: nn.Module, x: Inputs) -> str | None:
    """Return torch's error of differentiating gradients by the inputs' real values, or ``None``."""
    leaf = tree_map(lambda t: t.clone().requires_grad_(t.is_floating_point()), x)
    leaves = [t for t in named_tensors(leaf).values() if t.requires_grad]
    if not leaves:
        return "its inputs have no real values"
    try:
        with torch.random.fork_rng(devices=[]):
            value = net.eval()(leaf).logsumexp(1).sum()
            slopes = torch.autograd.grad(value, list(net.parameters()), create_graph=True)
            torch.autograd.grad(torch.stack([s.square().sum() for s in slopes]).sum(), leaves)
    except RuntimeError as error:
        return _first_line(error)
    return None


def _network_name(definition: CustomNetwork, net: nn.Module) -> str:
    """Return class, module and a hash of the contents, which identifies the network."""
    kind = type(net)
    if kind.__module__.startswith("torch."):  # a function that puts layers together has the better name
        home = "" if isinstance(definition.source, FileReference) else str(getattr(definition.source, "__module__", ""))
        called = definition.source.name if isinstance(definition.source, FileReference) else str(definition)
    else:
        home, called = kind.__module__, kind.__qualname__
    if isinstance(definition.source, FileReference):
        home = re.split(r"[\\/]", definition.source.path)[-1].removesuffix(".py")
    kinds = {type(m) for m in net.modules() if not type(m).__module__.startswith("torch.")}
    shapes = [(n, list(t.shape), str(t.dtype)) for n, t in (*net.named_parameters(), *net.named_buffers())]
    said = re.sub(r"0x[0-9a-f]+", "", repr(net))
    texts = sorted(_class_source(k) for k in kinds)
    digest = hashlib.sha256(json.dumps([called, shapes, said, texts]).encode()).hexdigest()
    return f"{home}:{called.replace('<', '').replace('>', '')}@{digest[:8]}"


def _class_source(kind: type) -> str:
    """Return the source of a class without comments and layout, or its byte code."""
    try:
        return ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(kind))))
    except (OSError, TypeError, SyntaxError, IndentationError):  # typed in, not read from a file
        code = getattr(getattr(kind, "forward", None), "__code__", None)
        return "" if code is None else code.co_code.hex() + repr(code.co_names)


def _can_stack(factory: CustomFactory) -> bool:
    if factory.is_stochastic or factory.input.parts:
        return False
    nets = [factory(seed).double() for seed in (1, 2)]
    x = torch.randn(4, *factory.input.shape, generator=generator(1, "own network"), dtype=torch.float64).to(
        factory.device
    )
    alone = [net(x) for net in nets]
    try:
        parameters, buffers = stack_module_state([factory(seed).double() for seed in (1, 2)])
        both = vmap(lambda p, b: functional_call(nets[0], (p, b), (x,)))(parameters, buffers)
        torch.autograd.grad(both.logsumexp(2).sum(), list(parameters.values()))
    except (RuntimeError, ValueError, TypeError):
        return False
    return torch.allclose(both, torch.stack(alone), rtol=1e-6, atol=1e-9)
