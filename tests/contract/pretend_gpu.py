"""A GPU that is not there, to find what would fail on one; a program of its own, because torch knows one such device.

    python tests/contract/pretend_gpu.py controls|methods|protocols|rest|sets|uses [SETTINGS [NAME ...]]
    POTSTILL_TEST_DEVICE=cuda python tests/contract/pretend_gpu.py methods '{}' dm frepo       # on a real one

Its tensors say that they are on the device ``pretend``. Their values lie on the CPU, where every operation is really
computed, but as on a GPU an operation refuses tensors of both devices (but for numbers, moves and indices of the CPU
into tensors of the device), a generator of the CPU draws nothing there, and numpy cannot see them. Printed is a JSON
object: what failed by name, and how far results are from the CPU's.

Backward passes stay in the thread that asks for them. Torch has one of its own for the device, and that may still be
letting go of the last tensors when the interpreter ends; these are Python's, so it would ask for the interpreter's
lock then, be ended inside a destructor, and take the process with it ("terminate called without an active exception").
"""

import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

REAL = os.environ.get("POTSTILL_TEST_DEVICE", "")
"""A device of torch, such as ``cuda``, to try everything on in place of the one that is not there."""
DEVICE = REAL or "pretend:0"
if not REAL:
    _setup_privateuseone_for_python_backend("pretend")
aten = torch.ops.aten
JOINS = {aten.cat, aten.stack}
"""What takes no number of the CPU beside tensors of the GPU."""
MOVES = {aten.copy_, aten._to_copy}
BY_INDEX = {aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_, aten._unsafe_index}


class MixedError(RuntimeError):
    """What a GPU would refuse."""


class OnGPU(Tensor):
    """A tensor of the device, and the tensor of the CPU that holds its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnGPU":
        made = Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=DEVICE,
        )  # fmt: skip
        made.inner = inner
        return made

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"OnGPU({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def _leaves(value: Any) -> Iterator[Any]:
    """What arguments hold, which are tuples, lists and a mapping. Torch's own functions for it take far longer."""
    if isinstance(value, tuple | list):
        for one in value:
            yield from _leaves(one)
    elif isinstance(value, dict):
        yield from _leaves(tuple(value.values()))
    else:
        yield value


def _inner(value: Any) -> Any:
    """Arguments with the tensors of the CPU in place of the device's."""
    if isinstance(value, OnGPU):
        return value.inner
    return type(value)(map(_inner, value)) if type(value) in (tuple, list) else value


THREADS: set[int] = set()
"""Those in which something was computed."""


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """``func`` as the device would do it."""
    THREADS.add(threading.get_ident())
    leaves = list(_leaves((args, kwargs)))
    tensors = [a for a in leaves if isinstance(a, Tensor)]
    there = any(isinstance(a, OnGPU) for a in tensors)
    to = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None
    packet, first = func.overloadpacket, bool(args) and isinstance(args[0], OnGPU)
    if any(isinstance(a, torch.Generator) for a in leaves):
        raise MixedError(f"{func}: a generator of the CPU for a tensor of the GPU")
    here = [a for a in tensors if not isinstance(a, OnGPU) and (a.ndim > 0 or packet in JOINS)]
    if there and here and not (packet in MOVES or (packet in BY_INDEX and first)):
        raise MixedError(f"{func}: tensors of two devices, of shapes {[tuple(a.shape) for a in tensors]}")
    plain_args, plain = _inner(args), {name: _inner(value) for name, value in kwargs.items()}
    if to == "pretend":
        plain["device"] = torch.device("cpu")
    made = func(*plain_args, **plain)
    if (packet is aten._to_copy and to == "cpu") or (not there and to != "pretend"):
        return made
    if packet is aten.copy_ and not first:
        return args[0]
    made = tree_map_only(Tensor, OnGPU, made)
    return return_and_correct_aliasing(func, args, kwargs, made) if there else made


class Pretend(TorchDispatchMode):
    """Inside, tensors can be made on the device. All else is slower there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        to = kwargs.get("device")
        asked = to is not None and torch.device(to).type == "pretend"
        if asked or any(isinstance(a, OnGPU) for a in _leaves((args, kwargs))):
            return compute(func, args, kwargs)
        return func(*args, **kwargs)


def _copied(source: Tensor, to: Tensor, *_: Any) -> Tensor:
    a, b = (t.inner if isinstance(t, OnGPU) else t for t in (source, to))
    b.copy_(a)
    return to


def _register() -> torch.library.Library:
    """What torch asks of a backend below the level at which a mode is asked."""
    library = torch.library.Library("aten", "IMPL")
    library.impl(
        "empty.memory_format", lambda size, dtype=None, **_: OnGPU(torch.empty(size, dtype=dtype)), "PrivateUse1"
    )
    library.impl(
        "empty_strided", lambda size, stride, dtype=None, **_: OnGPU(torch.empty_strided(size, stride, dtype=dtype)),
        "PrivateUse1",
    )  # fmt: skip
    library.impl("_copy_from", _copied, "PrivateUse1")
    return library


_LIBRARY = None if REAL else _register()


def _on_device() -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext() if REAL else Pretend()


def refused() -> Iterator[tuple[str, Callable[[], object]]]:
    """What a GPU refuses, by name: if one of these passes, the others prove nothing."""
    x, rng = torch.randn(4, 3), torch.Generator()
    y = x.to(DEVICE)
    yield "a sum", lambda: x + y
    yield "a product", lambda: y @ x.t()
    yield "a choice of rows", lambda: y.index_select(0, torch.tensor([1]))
    yield "a gather", lambda: y.gather(0, torch.zeros(1, 3, dtype=torch.int64))
    yield "an index of the GPU into the CPU", lambda: x[torch.tensor([1]).to(DEVICE)]
    yield "a concatenation", lambda: torch.cat([x, y])
    yield "a stack of numbers", lambda: torch.stack([x.sum(), y.sum()])
    yield "numpy", lambda: y.numpy()
    yield "a draw in place", lambda: y.uniform_(generator=rng)
    yield "a draw", lambda: torch.rand(3, device=DEVICE, generator=rng)
    yield "a permutation", lambda: torch.randperm(3, device=DEVICE, generator=rng)
    yield "a gradient", lambda: torch.autograd.grad((y.clone().requires_grad_() * x).sum(), y)


def allowed() -> Iterator[tuple[str, Callable[[], object]]]:
    """What it does not refuse."""
    x = torch.randn(4, 3)
    y = x.to(DEVICE).requires_grad_()
    yield "a number of the CPU", lambda: y * torch.tensor(2.0)
    yield "an index of the CPU", lambda: y[torch.tensor([1, 2])]
    yield "a move", lambda: (y.cpu() - x).abs().max()
    yield "a gradient", lambda: torch.autograd.grad((y @ y.t()).relu().sum(), y)[0].cpu()
    yield "a number", lambda: float(y.detach().sum())


def controls() -> dict[str, Any]:
    failures: dict[str, str] = {}
    with _on_device():
        for name, act in refused():
            with contextlib.suppress(MixedError, RuntimeError, TypeError):
                act()
                failures[name] = "was not refused"
        for name, act in allowed():
            _attempt(failures, name, act)
    if not REAL and {threading.get_ident()} != THREADS:
        failures["threads"] = f"tensors were in {len(THREADS)} threads"
    return {"failures": failures}


def _attempt(failures: dict[str, str], name: str, act: Callable[[], object]) -> Any:
    try:
        with _on_device():
            return act()
    except Exception:  # any failure is what is looked for; all are reported
        failures[name] = traceback.format_exc(limit=-6)
        return None


def _splits() -> Any:
    from potstill.core import Splits
    from potstill.data import holdout
    from potstill.testing import toy_source

    train, test = holdout(toy_source("image", per_class=30), 0.4, 3)
    return Splits(train=train, test=test)


def methods(settings: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Methods, here and there, from the same seed."""
    import potstill
    from potstill.core import registry
    from potstill.core.registry import make_method

    splits, failures, apart = _splits(), {}, {}
    for name in names:
        fields = {f.name for f in dataclasses.fields(registry.resolve("methods", name))}
        method = make_method(name, {k: v for k, v in settings.items() if k in fields})[1]
        network = "convnet-d1-w4-batch" if method.info.family == "decoupled" else "convnet-d1-w4"

        def made(device: str, method: Any = method, network: str = network) -> Tensor:
            small = potstill.distill(splits, method, ipc=2, steps=3, network=network, device=device)
            assert small.model_space().device.type == "cpu"  # what is kept is of no device
            return small.model_space()

        if (there := _attempt(failures, name, lambda made=made: made(DEVICE))) is not None:
            here = made("cpu")
            apart[name] = float((there - here).norm() / here.norm())
    return {"failures": failures, "apart": apart}


def protocols(names: Sequence[str]) -> dict[str, Any]:
    """Protocols, their students one by one and side by side; of two also baselines, which are trained alike."""
    import potstill
    from potstill.core import registry
    from potstill.evaluation import byte_matched_baselines, real_set_space, training_sets

    byte_matched_baselines.TRIAL_STEPS = 4
    real_set_space.ROUNDS = real_set_space.QUICK_ROUNDS = (1,)
    real_set_space.SHARED_CODECS = 1
    training_sets.TEACHER_STEPS = 15

    splits, failures, apart = _splits(), {}, {}
    network = "convnet-d1-w4-batch"
    small = potstill.distill(splits, "random", ipc=2)
    for name in names:
        protocol = registry.resolve("protocols", name)
        changes: dict[str, Any] = {"steps": 4} if protocol.recipe.steps else {"epochs": 3}
        if protocol.teaching.labels == "teacher":
            changes |= {"teacher_epochs": 1, "committee": (network,) if protocol.teaching.committee else ()}

        def measured(device: str, name: str = name, changes: Any = changes, **more: Any) -> float:
            score = potstill.evaluate(
                small, splits, protocol=name, networks=[network], seeds=2, full=False, robust_scores=False,
                baselines=name in ("dc", "sre2l"), device=device, **more, **changes,
            )  # fmt: skip
            return float(score.content["accuracy"]["mean"])

        beside = {} if protocol.teaching.labels == "teacher" else {"side_by_side": 2}
        there = _attempt(failures, name, lambda measured=measured, beside=beside: measured(DEVICE, **beside))
        if there is not None:
            apart[name] = abs(there - measured("cpu"))
    return {"failures": failures, "apart": apart}


def rest(settings: dict[str, Any]) -> dict[str, Any]:
    """Parametrizations, learned labels, stored labels, the full data, and an interrupted run that goes on."""
    import potstill
    from potstill.core.registry import make_method

    splits, failures = _splits(), {}
    folder = Path(tempfile.mkdtemp())

    def distil(name: str, device: str = DEVICE, steps: int = 2, **changes: Any) -> Any:
        known = {f.name for f in dataclasses.fields(make_method(name, {})[1])}
        own = {k: v for k, v in {**settings, **changes}.items() if k in known}
        more = {k: v for k, v in changes.items() if k not in known}
        method = make_method(name, own)[1]
        amount = {"ipc": 4} if "bytes" not in more else {}
        return potstill.distill(
            splits, method, steps=steps, network="convnet-d1-w4-batch", device=device, **amount, **more
        )  # fmt: skip

    for spelled in ("tiles", "memory", "frequency", "hallucinator", "field:width=4,warmup=3", "motion:frames=4"):
        for name in ("dm", "dsa")[: 1 + (spelled in ("memory", "field:width=4,warmup=3"))]:
            _attempt(
                failures, f"{name} over {spelled}",
                lambda name=name, spelled=spelled: distil(name, parametrization=spelled),
            )  # fmt: skip
    over_generator: dict[str, dict[str, Any]] = {
        "dm": {}, "frepo": {"batch_real": 24}, "rat-bptt": {"total": 4, "window": 2, "batch_real": 24},
        "mtt": {"num_experts": 1, "train_epochs": 2, "expert_epochs": 1, "max_start_epoch": 1, "student_steps": 2},
    }  # fmt: skip
    for name, fields in over_generator.items():
        _attempt(
            failures, f"{name} over generator",
            lambda name=name, fields=fields: distil(
                name, parametrization="generator:width=1,dim=2,epochs=1,samples=3", bytes=4000,
                codec="uint4:aware=true", **fields,
            ),
        )  # fmt: skip
    _attempt(failures, "learned labels", lambda: distil("dm", labels="learned", lr_labels=0.5))
    _attempt(failures, "steps_per_network", lambda: distil("dm", steps_per_network=3, steps=5))
    small = potstill.distill(splits, "random", ipc=2)
    given: dict[str, Any] = {"protocol": "sre2l", "device": DEVICE, "epochs": 2, "teacher_epochs": 1}
    network = "convnet-d1-w4-batch"
    _attempt(
        failures, "labels", lambda: potstill.label(small, splits, folder / "l.safetensors", network=network, **given)
    )  # fmt: skip
    _attempt(
        failures, "stored labels",
        lambda: potstill.evaluate(
            small, splits, networks=[network], seeds=1, stored=folder / "l.safetensors", robust_scores=False, **given
        ),
    )  # fmt: skip
    return {"failures": failures}


def sets() -> dict[str, Any]:
    """Sets under a budget in bytes: coded with a price for bits, chosen by trial, kept real, and a run that goes on."""
    import potstill

    splits, failures = _splits(), {}
    folder, network = Path(tempfile.mkdtemp()), "convnet-d1-w4"
    frepo: dict[str, Any] = {"batch_real": 24, "steps_per_network": 2, "optimizer": "adamw", "lr": 0.01}

    def distil(method: str = "frepo", steps: int = 120, **given: Any) -> Any:
        return potstill.distill(splits, method, bytes=600, steps=steps, network=network, device=DEVICE, **given)

    _attempt(failures, "coded with a price for bits", lambda: distil(
        parametrization="shared-frequency:positions=9", codec="step:width=1.2,rate=0.01", **frepo
    ))  # fmt: skip
    _attempt(
        failures, "halved pictures in two bits", lambda: distil("dm", codec="half:bits=2", steps=4, init_from="noise")
    )
    _attempt(failures, "real samples", lambda: distil("real", steps=0))
    _attempt(failures, "auto", lambda: potstill.distill(
        splits, "auto", bytes=600, network=network, device=DEVICE,
        candidates=("k-means%uint4", "dm:batch_real=6%uint4@2,4,6"), students=1, confirm=2, student_steps=5,
    ))  # fmt: skip

    def goes_on() -> None:
        path = folder / "goes-on.safetensors"

        def stop(event: Any) -> None:
            if event.step == 3:
                raise KeyboardInterrupt

        given: dict[str, Any] = {
            "ipc": 2, "steps": 6, "network": network, "device": DEVICE, "out": path, "checkpoint": folder / "state",
            "checkpoint_every": 0.0, "batch_real": 6, "outer": 2, "inner": 2,
        }  # fmt: skip
        with contextlib.suppress(KeyboardInterrupt):
            potstill.distill(splits, "dsa", progress=stop, **given)
        assert not path.exists(), "the run was not interrupted"
        potstill.distill(splits, "dsa", resume=True, **given)
        assert path.exists()

    _attempt(failures, "an interrupted run", goes_on)
    return {"failures": failures}


def uses() -> dict[str, Any]:
    """Each use of small sets, as short as it can be."""
    from potstill.uses.augmentation import compare_augmentation
    from potstill.uses.continual import Learner, continual
    from potstill.uses.deletion import delete_records, make_deletable
    from potstill.uses.federated import Learner as Client
    from potstill.uses.federated import federated
    from potstill.uses.search import parse_proxy, search

    splits, failures, folder = _splits(), {}, Path(tempfile.mkdtemp())
    network, given = "convnet-d1-w4", {"device": DEVICE, "executor": "serial"}
    names = (network, "convnet-d1-w8")
    _attempt(failures, "search by halving", lambda: search(splits, names, out=folder / "a", updates=8, **given))
    proxies = [
        parse_proxy(proxy, ipc=2, steps=3)
        for proxy in ("random:4", "random:4@half:bits=1", "k-means:3", "dm", "grad-norm", "operations", "early")
    ]  # fmt: skip
    for n, proxy in enumerate([*proxies, parse_proxy("dm", ipc=2, soft=True, steps=3)]):
        _attempt(failures, f"search by {proxy.name}", lambda n=n, proxy=proxy: search(
            splits, names, out=folder / f"p{n}", proxy=proxy, updates=8, full_updates=8, train_all=True, **given,
        ))  # fmt: skip
    _attempt(failures, "continual", lambda: continual(
        splits, out=folder / "c", methods=("dm", "remember"), bytes=900, orders=2,
        memories=("random@uint4", "coded", "raw", "herding@half:bits=1", "k-means@half:bits=1", "balanced"),
        classes_per_step=1, distill_steps=2, learner=Learner(network=network, steps=4), **given,
    ))  # fmt: skip
    _attempt(failures, "federated", lambda: federated(
        splits, out=folder / "f", ways=("real", "averages", "dm", "dm+averages", "feddm:2", "fedd3", "fedavg:2",
        "fedprox:2", "ensemble", "ensemble-labels", "alone"), clients=3, splits=1, alpha=10.0, bytes=1500,
        distill_steps=2, learner=Client(network=network, steps=4, batch=8), **given,
    ))  # fmt: skip

    def deleted() -> None:
        made = make_deletable(splits, ipc=2, steps=3, network=network, device=DEVICE)
        delete_records(made.distilled, splits, [0, 1], device=DEVICE)

    _attempt(failures, "deletion", deleted)
    _attempt(failures, "augmentation", lambda: compare_augmentation(
        splits, lambda x, y, rng: (x + 0.1 * torch.randn(x.shape, generator=rng).to(x.device), y), seeds=2, steps=3,
        batch=8, network=network, device=DEVICE,
    ))  # fmt: skip
    return {"failures": failures}


def main() -> None:
    os.environ["POTSTILL_CACHE"] = tempfile.mkdtemp()
    what, settings = sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    names = sys.argv[3:]
    torch.set_num_threads(1)
    with torch.autograd.set_multithreading_enabled(bool(REAL)):
        made = {
            "controls": controls, "methods": lambda: methods(settings, names), "protocols": lambda: protocols(names),
            "rest": lambda: rest(settings), "sets": sets, "uses": uses,
        }[what]()  # fmt: skip
    print(json.dumps(made))


if __name__ == "__main__":
    main()
