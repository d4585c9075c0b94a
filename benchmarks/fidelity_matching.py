"""Comparisons with the released code of trajectory and performance matching; run by fidelity_functions.py.

Settings are read from configs, commands and defaults of a checkout and counted where ours differ. Steps are made by the
statements of the released loops. RCIG's functions are run as they are, by JAX on a network that both sides have; its
systems are solved densely on their side, by conjugate gradients on ours. A window of RaT-BPTT is differentiated by
``higher``, with eps taken out of its Adam: ``higher`` adds it before it corrects the bias, ours and torch's after.
"""

import ast
import functools
import hashlib
import importlib
import re
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from fidelity_parts import SEEN, error, normal, published, run_statements
from torch import Tensor, nn
from torch.func import functional_call

from potstill.augment.named import named_augmentation
from potstill.core import Network
from potstill.functional.optim import adabelief
from potstill.functional.train import loss as loss_of
from potstill.functional.train import parameters
from potstill.functional.unroll import Inner, begin, last, slopes, train
from potstill.methods.performance import _implicit
from potstill.methods.performance._implicit import ImplicitRidge, Real
from potstill.methods.performance._ridge import TEMPERATURE
from potstill.methods.trajectory._trajectory import RATE, Block, Span, TrajectoryEnds
from potstill.methods.trajectory.att import ATT
from potstill.methods.trajectory.datm import DATM
from potstill.methods.trajectory.ftd import FTD
from potstill.methods.trajectory.pad import PAD
from potstill.nn.convnet import ConvNet
from potstill.registry import resolve
from potstill.rng import generator
from potstill.testing import toy_problem, toy_source

__all__ = ["REPOSITORIES", "families"]

REPOSITORIES = {
    "datm": "NUS-HPC-AI-Lab/DATM", "pad": "NUS-HPC-AI-Lab/PAD", "att": "NiaLiu/ATT",
    "ftd": "AngusDujw/FTD-distillation", "remember": "princetonvisualai/RememberThePast-DatasetDistillation",
    "rcig": "yolky/RCIG",
    "optax": "google-deepmind/optax", "rat": "fengyzpku/Simple_Dataset_Distillation",
}  # fmt: skip

Compare = Callable[[types.ModuleType, types.ModuleType, Path, torch.dtype], float]


# --- settings ---------------------------------------------------------------------------------------------------------


def settled(method: Any, classes: int, ipc: int) -> Any:
    """A method with the settings of the published run for so much data."""
    return method.settled(types.SimpleNamespace(num_classes=classes, ipc=ipc, train=range(50_000)))[0]


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any], what: str) -> int:
    """How many values differ; each is printed."""
    wrong = [n for n, value in theirs.items() if ours[n] != value]
    for name in wrong:
        print(f"{what}: {name} is {ours[name]!r} here and {theirs[name]!r} there")
    return len(wrong)


def plain_yaml(text: str) -> dict[str, Any]:
    """The flat configs of these repositories."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        name, colon, value = line.partition("#")[0].partition(":")
        if colon and value.strip() and not name.startswith((" ", "\t")):
            try:
                found[name.strip()] = ast.literal_eval(value.strip())
            except (ValueError, SyntaxError):
                said = value.strip()
                found[name.strip()] = {"true": True, "false": False}.get(said.lower(), said)
    return found


def compare_configs(at: Path, kind: type[Any], drop: bool) -> float:
    """DATM's and PAD's: one config a run. What one leaves out is the default of utils/cfg.py: it grows the span."""
    names, wrong, seen = {"CIFAR-10": 10, "CIFAR-100": 100, "TinyImageNet": 200}, 0, 0
    for folder, classes in names.items():
        for file in sorted((at / "configs" / folder / "ConvIN").glob("IPC*.yaml")):
            said = plain_yaml(file.read_text())
            ipc, grows = int(file.stem.removeprefix("IPC")), said.get("Sequential_Generation", True)
            until = said["max_start_epoch"]
            real = said["pix_init"] == "real"
            theirs = {
                "student_steps": said["syn_steps"], "ahead": said["expert_epochs"], "lr": said["lr_img"],
                "lr_student": said["lr_teacher"], "lr_rate": float(said["lr_lr"]), "lr_labels": said["lr_y"],
                "momentum_labels": said["Momentum_y"], "threshold": said["threshold"], "iterations": said["Iteration"],
                "batch": said["batch_syn"] if said["batch_syn"] < classes * ipc else 0,
                "start_from": said["min_start_epoch"], "start_until": until,
                "start_first": said["current_max_start_epoch"] if grows else until,
                "expansion": said["expansion_end_epoch"] if grows else 0,
                "start": "real" if real else "right", "label_experts": 1 if real else 0,
            } | ({"drop": said["loss_ratio"]} if drop else {})  # fmt: skip
            made = settled(kind(), classes, ipc)
            ours = {n: getattr(made, n) for n in theirs}
            ours["batch"] = ours["batch"] if ours["batch"] < classes * ipc else 0  # all of them
            wrong += differing(ours, theirs, f"{kind.__name__} {file.parent.parent.name} {file.stem}")
            seen += 1
    if seen != 12:
        raise ValueError(f"{at} has {seen} configs where 12 were read")
    return float(wrong)


def commands(text: str, program: str) -> Iterator[dict[str, str]]:
    """The options of every command of a program in a text."""
    for line in re.sub(r"\\\s*\n", " ", text).splitlines():
        if program in line:
            yield dict(re.findall(r"--(\w+)[= ](\S+)", line))


DATA = {"CIFAR10": 10, "CIFAR100": 100, "Tiny": 200}
OPTIONS = {
    "syn_steps": "student_steps", "expert_epochs": "ahead", "max_start_epoch": "start_until", "lr_img": "lr",
    "lr_lr": "lr_rate", "lr_teacher": "lr_student", "ema_decay": "average", "Iteration": "iterations",
    "batch_syn": "batch",
}  # fmt: skip


def compare_commands(kind: type[Any], text: str, program: str, apart: Mapping[tuple[int, int], set[str]]) -> float:
    """A README's or a script's; ``apart``: options of a run that a figure says otherwise, which is followed."""
    wrong, seen = 0, 0
    for said in commands(text, program):
        if said.get("dataset") not in DATA or "eval_mode" in said:
            continue
        run = DATA[said["dataset"]], int(said["ipc"])
        made = settled(kind(), *run)
        theirs = {
            ours: float(said[n]) for n, ours in OPTIONS.items() if n in said and n not in apart.get(run, set())
        }  # fmt: skip
        wrong += differing({n: float(getattr(made, n)) for n in theirs}, theirs, f"{kind.__name__} {run}")
        seen += 1
    if not seen:
        raise ValueError(f"no command of {program} was found")
    return float(wrong)


def figure(file: Path, sha256: str) -> float:
    """Whether a figure is the one that was read by eye into the table."""
    return float(not hashlib.sha256(file.read_bytes()).hexdigest().startswith(sha256))


def compare_att_settings(at: Path) -> float:
    readme = (at / "README.md").read_text()
    experts = re.search(r"--batch_train', type=int, default=(\d+)", (at / "buffer_ATT.py").read_text())
    assert experts is not None
    wrong = differing({"batch_trained": ATT().batch_trained}, {"batch_trained": int(experts[1])}, "ATT")
    # its commands for Tiny-ImageNet are comments; at 10 per class two of its values differ from the figure's
    apart = {(200, 10): {"lr_lr", "lr_teacher"}}
    return wrong + compare_commands(ATT, readme, "distill_ATT.py", apart) + figure(
        at / "figures" / "table.png", "ca1f0968023faa56"
    )  # fmt: skip


def compare_ftd_settings(at: Path) -> float:
    script, readme = ((at / name).read_text() for name in ("distill/run_distill.sh", "Readme.md"))
    return (
        compare_commands(FTD, script, "distill_FTD.py", {}) + compare_commands(FTD, readme, "distill_FTD.py", {})
        + figure(at / "docs" / "parameters.png", "bd68232df799dd96")
    )  # fmt: skip


def compare_remember(at: Path) -> float:
    """The protocol against configs, the trainer's batch and the optimiser that is made."""
    said = (at / "configs" / "compressors_bptt_interventions.yml").read_text()
    parts = {m[1]: plain_yaml(re.sub(r"(?m)^  ", "", m[2])) for m in re.finditer(r"(?m)^(\w+):\n((?:  .*\n)+)", said)}
    optimiser, evaluation = parts["backbone_optim"], parts["evaluation"]
    batch = re.search(r"get_dataloader\(self.compressor, batch_size=(\d+)\)", (at / "tools" / "trainer.py").read_text())
    sgd = re.search(r"optim\.SGD\((.*)\)", (at / "utils" / "optimizer_utils.py").read_text())
    constant = "no_scheduler=True" in (at / "tools" / "evaluator.py").read_text()
    assert batch is not None
    assert sgd is not None
    protocol = resolve("protocols", "remember")
    recipe = protocol.recipe
    return float(differing(
        {
            "lr": recipe.lr, "momentum": recipe.momentum, "decay": recipe.weight_decay, "epochs": recipe.epochs,
            "optimizer": recipe.optimizer, "students": protocol.students, "batch": recipe.batch,
            "schedule": recipe.schedule,
        },
        {
            "lr": (optimiser["lr"],), "momentum": optimiser["momentum"],
            "decay": optimiser["weight_decay"] if "weight_decay" in sgd[1] else 0.0,
            "epochs": evaluation["train_epoch"], "optimizer": optimiser["optimizer"].lower(),
            "students": evaluation["num_eval"], "batch": int(batch[1]),
            "schedule": "constant" if constant else "?",
        },
        "remember",
    ))  # fmt: skip


# --- steps of trajectory matching -------------------------------------------------------------------------------------


def run_loop(file: Path, head: str, space: dict[str, Any]) -> None:
    """Run the one loop of a file that begins so."""
    text = file.read_text()
    found = [
        n for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.For) and (ast.get_source_segment(text, n) or "").startswith(head)
    ]  # fmt: skip
    if len(found) != 1:
        raise ValueError(f"{file} has {len(found)} loops {head!r}")
    exec(compile(ast.Module(list(found), []), str(file), "exec"), space)


def compare_step(
    networks: types.ModuleType, file: Path, dtype: torch.dtype, *, drop: float | None, nearest: bool
) -> float:
    """One step's loss and its gradients by pictures, labels and the student's rate; 3 inner steps on 20 pictures."""
    net = networks.ConvNet(3, 10, 32, 3, "relu", "instancenorm", "avgpooling", im_size=(32, 32)).to(dtype)
    own = ConvNet((3, 32, 32), 10, width=32).to(dtype)
    start = {
        n: normal(dtype, *p.shape, path=f"start {n}") * 0.1 + (1.0 if n.endswith("1.weight") else 0.0)
        for n, p in net.named_parameters()
    }
    target = {n: p + 0.01 * normal(dtype, *p.shape, path=f"target {n}") for n, p in start.items()}
    sizes = [p.numel() for p in start.values()]

    def student(x: Tensor, flat_param: Tensor) -> Tensor:
        parts = torch.split(flat_param, sizes)
        named = {n: part.reshape(p.shape) for (n, p), part in zip(start.items(), parts, strict=True)}
        made: Tensor = functional_call(net, named, (x,))
        return made

    def flat(named: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([p.flatten() for p in named.values()])

    soft = drop is not None
    x, y = (normal(dtype, 20, *s, path=f"step {s}").requires_grad_() for s in ((3, 32, 32), (10,)))
    rate = torch.tensor(0.01, dtype=dtype, requires_grad=True)
    hard = torch.arange(10).repeat_interleave(2)
    args = types.SimpleNamespace(
        syn_steps=3, batch_syn=20, texture=False, dsa=False, no_aug=True, distributed=False, device="cpu",
        loss_ratio=drop or 0.0, loss_threshold_low=0.0,
    )  # fmt: skip
    criterion: Any = nn.CrossEntropyLoss()
    if soft:
        criterion = published(file, "SoftCrossEntropy", dtype=dtype)["SoftCrossEntropy"]
    space: dict[str, Any] = {
        "torch": torch, "args": args, "syn_images": x, "y_hat": y if soft else hard, "indices_chunks": [],
        "student_net": student, "criterion": criterion, "syn_lr": rate, "starting_params": flat(start),
        "student_params": [flat(start).requires_grad_(True)], "target_params": flat(target),
        "current_index": 0, "current_L_loss": 1e30, "num_params": sum(sizes), "DiffAugment": None,
    }  # fmt: skip
    run_loop(file, "for step in range(args.syn_steps):", space)
    heads = ("param_loss = torch", "param_dist = torch", "param_loss +=", "param_dist +=", "param_loss /=",
             "param_dist /=", "param_losses =", "param_dists =", "_, loss_indices =", "grand_loss =",
             "if args.loss_threshold_low")  # fmt: skip
    run_statements(file, lambda text: text.startswith(heads), space)
    theirs = space["grand_loss"]
    leaves = [x, rate, *([y] if soft else [])]
    expected = torch.autograd.grad(theirs, leaves)

    problem = toy_problem(source=toy_source(classes=10, per_class=2), ipc=2)
    problem = type(problem)(**{**problem.__dict__, "augment": named_augmentation("none", problem.train)})
    objective = TrajectoryEnds(
        steps=3, ahead=1, span=Span(low=0, first=1, last=1), drop=drop or 0.0, nearest=nearest, mode="replay"
    )  # fmt: skip
    drawn = problem.augment.draw(20, (3, 32, 32), generator(0))
    block = Block(net=own, start=start, target=target, rows=(torch.arange(20),) * 3, omega=(drawn,) * 3)
    logits = y.detach().clone().requires_grad_()
    rows = logits.softmax(1)
    seen = {"inputs": x.detach(), RATE: rate.detach()} | ({"labels": rows.detach()} if soft else {})
    loss, made = objective.compared(problem, block, seen)
    pairs = [
        (torch.tensor(loss, dtype=torch.float64), theirs),
        (made["inputs"], expected[0]),
        (made[RATE], expected[1]),
    ]
    if soft:
        pairs.append((torch.autograd.grad(rows, logits, made["labels"])[0], expected[2]))
    SEEN.extend((a.detach(), b.detach()) for a, b in pairs)
    return max(error(a, b) for a, b in pairs)


# --- RCIG -------------------------------------------------------------------------------------------------------------


class Smooth(Network):
    """One hidden layer of tanh: what both sides can write in a line."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, width)
        self.classifier = nn.Linear(width, classes)

    def embed(self, x: Any) -> Tensor:
        return self.hidden(x.flatten(1)).tanh()

    def forward(self, x: Any) -> Tensor:
        made: Tensor = self.classifier(self.embed(x))
        return made


@contextmanager
def wide_jax(dtype: torch.dtype) -> Iterator[Any]:
    jax = importlib.import_module("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", dtype == torch.float64)
    try:
        yield jax
    finally:
        jax.config.update("jax_enable_x64", before)


def compare_rcig(at: Path, dtype: torch.dtype) -> float:
    """The loss and its whole gradient (released inverse Hessian, not cut) by pictures, labels and temperature."""
    k, n, m, d, width = 4, 4, 12, 8, 6
    net = Smooth(d, width, k)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(normal(torch.float32, *p.shape, path=f"rcig {name}") * 0.5)
    net = net.to(dtype)
    X, T = normal(dtype, n, d, path="set"), normal(dtype, m, d, path="real")
    y = torch.eye(k, dtype=dtype) - 1 / k + 0.03 * normal(dtype, n, k, path="labels")
    classes = torch.arange(m) % k
    rows = F.one_hot(classes, k).to(dtype) - 1 / k
    tau, ridge = 0.7, 0.05
    with wide_jax(dtype) as jax:
        jnp = jax.numpy
        real = jnp.float64 if dtype == torch.float64 else jnp.float32

        class Numpy(types.ModuleType):
            """jax.numpy whose float32 is the precision of the case: the losses are cast to it."""

            float32 = real

            def __getattr__(self, name: str) -> Any:
                return getattr(jnp, name)

        class Plain(types.ModuleType):
            """JAX without compilation, whose check of names today's version has and that of the code had not."""

            jit = staticmethod(lambda function, **_: function)

            def __getattr__(self, name: str) -> Any:
                return getattr(jax, name)

        def array(t: Tensor) -> Any:
            return jnp.asarray(t.detach().numpy(), dtype=real)

        base = {name: array(p) for name, p in net.named_parameters()}

        def both(params: Any, x: Any) -> Any:
            h = jnp.tanh(x @ params["hidden.weight"].T + params["hidden.bias"])
            return h @ params["classifier.weight"].T + params["classifier.bias"], h

        def apply(variables: Any, x: Any, **_: Any) -> Any:
            held = variables["params"]
            primal, dual = jax.jvp(functools.partial(both, x=x), (held["base_params"],), (held["tangent_params"],))
            return primal, dual, None

        utils = types.SimpleNamespace()
        names = ("get_krr_loss", "get_krr_loss_gd", "get_dot_product", "sum_tree", "sum_reduce")
        space = published(
            at / "algorithms.py", *names, dtype=dtype, jax=Plain("jax"), jnp=Numpy("jnp"), functools=functools,
            utils=utils,
            optax=types.SimpleNamespace(
                softmax_cross_entropy=lambda z, rows: -(rows * jax.nn.log_softmax(z)).sum(-1)
            ),
        )  # fmt: skip
        utils._multiply = lambda a, b: jax.tree_util.tree_map(lambda s, t: s * t, a, b)
        leaf = {"x": array(X), "y": array(y), "tau": jnp.asarray(tau, dtype=real)}
        l2, order = ridge * n, list(base)

        def tangent(v: Any) -> Any:
            parts, first = {}, 0
            for name in order:
                size = base[name].size
                parts[name] = v[first : first + size].reshape(base[name].shape)
                first += size
            return {"base_params": base, "tangent_params": parts}

        def inner(v: Any, S: Any) -> Any:
            return space["get_krr_loss_gd"](
                tangent(v), types.SimpleNamespace(apply_fn=apply), S["x"], S["y"], None, None, has_bn=False, l2=l2
            )[0]  # fmt: skip

        def outer(v: Any, S: Any) -> Any:
            return space["get_krr_loss"](
                tangent(v), S, lambda variables: (variables["params"]["x"], variables["params"]["y"],
                                                  variables["params"]["tau"]),
                array(T), array(rows), apply, has_bn=False, l2=l2,
            )[0]  # fmt: skip

        with jax.disable_jit():
            total = sum(base[name].size for name in order)
            body = jnp.concatenate([jnp.full(base[name].size, name != "classifier.weight") for name in order])
            at_body = jnp.nonzero(body)[0]
            zero = jnp.zeros(total, dtype=real)
            hessian = jax.jacfwd(jax.grad(inner))(zero, leaf)
            slope = jax.grad(inner)(zero, leaf)
            solved = jnp.linalg.solve(hessian[at_body][:, at_body], -slope[at_body])
            omega = zero.at[at_body].set(solved)
            value, (by_omega, direct) = jax.value_and_grad(outer, argnums=(0, 1))(omega, leaf)
            v = jnp.linalg.solve(hessian, by_omega)
            implicit = jax.grad(lambda S: -jnp.vdot(v, jax.grad(inner)(omega, S)))(leaf)
            theirs = {
                name: torch.from_numpy(np.asarray(direct[name] + implicit[name]).copy()) for name in leaf
            }  # fmt: skip
            loss_theirs = torch.tensor(float(value), dtype=torch.float64)

    problem = toy_problem(source=toy_source(classes=k, per_class=3), ipc=1)
    problem = type(problem)(**{**problem.__dict__, "augment": named_augmentation("none", problem.train)})
    drawn = problem.augment.draw(1, (d,), generator(0))
    block = Real(net=net, omega=drawn, x=T, y=classes, targets=rows.double())
    objective = ImplicitRidge(
        batch_real=m, ridge=ridge, fit="platt", inner=400, backward=400, clip=False, inverse_hessian="released"
    )  # fmt: skip
    exactly = functools.partial(_implicit.conjugate_gradients, small=1e-30)
    with patch.object(_implicit, "conjugate_gradients", exactly):
        seen = {"inputs": X, "labels": y, TEMPERATURE: torch.tensor(tau, dtype=dtype).exp()}
        loss, made = objective.fitted(problem, block, seen, False)
    mine = [made["inputs"], made["labels"], made[TEMPERATURE] * torch.tensor(tau, dtype=dtype).exp()]
    pairs = list(zip(mine, (theirs["x"], theirs["y"], theirs["tau"]), strict=True))
    pairs.append((torch.tensor(loss, dtype=torch.float64), loss_theirs))
    SEEN.extend((a.detach().double(), b.double()) for a, b in pairs)
    return max(error(a, b.reshape(a.shape)) for a, b in pairs)


def compare_adabelief(at: Path, dtype: torch.dtype) -> float:
    """Ten steps of optax's scale_by_belief, of the version that RCIG's time had."""
    file = next(f for f in (at / "optax" / "_src" / "transform.py", at / "_src" / "transform.py") if f.exists())
    with wide_jax(dtype) as jax:
        jnp = jax.numpy
        real = jnp.float64 if dtype == torch.float64 else jnp.float32
        anything = types.SimpleNamespace(
            GradientTransformation=lambda first, step: (first, step), Updates=Any, OptState=Any, Array=Any,
            safe_int32_increment=lambda c: c + 1, abs_sq=lambda x: x * x,
        )  # fmt: skip
        typing = importlib.import_module("typing")
        known = {n: getattr(typing, n) for n in ("Any", "NamedTuple", "Optional", "Union")}
        names = ("scale_by_belief", "ScaleByBeliefState", "update_moment", "update_moment_per_elem_norm",
                 "bias_correction")  # fmt: skip
        space = published(
            file, *reversed(names), dtype=dtype, jax=jax, jnp=jnp, base=anything, chex=anything, numerics=anything,
            functools=functools, **known,
        )  # fmt: skip
        first, step = space["scale_by_belief"]()
        p, grads = normal(dtype, 30, path="p"), [normal(dtype, 30, path=f"g{i}") for i in range(10)]
        theirs = jnp.asarray(p.numpy(), dtype=real)
        state = first(theirs)
        for g in grads:
            update, state = step(jnp.asarray(g.numpy(), dtype=real), state, theirs)
            theirs = theirs - 0.003 * update
        expected = torch.tensor([float(value) for value in theirs], dtype=torch.float64)
    ours, m, s = ({"p": t} for t in (p, torch.zeros_like(p), torch.zeros_like(p)))
    for count, g in enumerate(grads):
        ours, m, s = adabelief(ours, {"p": g}, m, s, count, lr=0.003, about="old mean")
    SEEN.append((ours["p"].double(), expected))
    return error(ours["p"], expected)


# --- RaT-BPTT ---------------------------------------------------------------------------------------------------------


def compare_window(networks: types.ModuleType, at: Path, dtype: torch.dtype, optimizer: str) -> float:
    """The loss after a burn-in of 2 and a window of 3 steps on 20 pictures, and its gradient by them.

    The networks have no norm: before one, the slopes of biases are rounding around zero, which Adam makes into steps.
    Adam is compared in float64 alone: without eps, float32 has no digits of the slope of m/√v at the least gradients.
    """
    if optimizer == "Adam":
        dtype = torch.float64
        torch.set_default_dtype(dtype)  # `precision` of fidelity_functions.py sets it back
    higher = importlib.import_module("higher")
    net = networks.ConvNet(3, 10, 32, 3, "relu", "none", "avgpooling", im_size=(32, 32)).to(dtype)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(normal(dtype, *p.shape, path=f"rat {name}") * p[0].numel() ** -0.5)
    own = ConvNet((3, 32, 32), 10, width=32, norm="none").to(dtype)
    own.load_state_dict(net.state_dict())
    x, T = normal(dtype, 20, 3, 32, 32, path="rat set"), normal(dtype, 30, 3, 32, 32, path="rat real")
    y, classes, lr = torch.arange(10).repeat_interleave(2), torch.arange(30) % 10, 0.001

    class Two(nn.Module):
        """Outputs and something beside them, as the released networks return."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = networks.ConvNet(3, 10, 32, 3, "relu", "none", "avgpooling", im_size=(32, 32)).to(dtype)
            self.inner.load_state_dict(net.state_dict())

        def forward(self, some: Tensor) -> tuple[Tensor, None]:
            return self.inner(some), None

    eps = 1e-30
    moving = types.SimpleNamespace(SGD=torch.optim.SGD, Adam=functools.partial(torch.optim.Adam, eps=eps))
    random = importlib.import_module("random")
    made = published(
        at / "framework" / "distill_higher.py", "Distill", dtype=dtype, optim=moving, higher=higher, random=random,
        get_arch=lambda *_: Two(), np=np,
    )["Distill"]  # fmt: skip
    with (
        patch.object(Tensor, "cuda", lambda self, *_, **__: self),
        patch.object(nn.Module, "cuda", lambda self, *_, **__: self),
    ):
        model = made(
            None, y, "convnet", 3, lr, 1, 2, 2, num_classes=10, task_sampler_nc=10, inner_optim=optimizer,
            syn_intervention=lambda some, **_: some, real_intervention=lambda some, **_: some, cctype=2,
        )  # fmt: skip
        model.to(dtype)
        model.data.weight.data = x.flatten(1).clone()
        model.curriculum, model.dd_type = 2, "curriculum"
        output, _ = model(T)
        theirs = F.cross_entropy(output, classes)
        (expected,) = torch.autograd.grad(theirs, model.data.weight)
    adam = Inner(optimizer="adam", eps=eps)
    inner = adam if optimizer == "Adam" else Inner(momentum=0.9, weight_decay=5e-4)

    def loss(theta: Mapping[str, Tensor], seen: Mapping[str, Tensor], step: int) -> Tensor:
        return loss_of(own, theta, seen["x"], y)

    def outer(theta: Mapping[str, Tensor]) -> Tensor:
        return loss_of(own, theta, T, classes)

    seen = {"x": x}
    burnt = last(loss, begin(parameters(own), inner), seen, lr, inner, range(2))
    found = slopes(loss, train(loss, burnt, seen, lr, inner, range(2, 5)), seen, lr, inner, outer)
    pairs = [
        (torch.tensor(found.loss, dtype=torch.float64), theirs), (found.leaves["x"], expected.reshape(x.shape)),
    ]  # fmt: skip
    SEEN.extend((a.detach(), b.detach()) for a, b in pairs)
    return max(error(a, b) for a, b in pairs)


# --- all --------------------------------------------------------------------------------------------------------------


def families() -> list[tuple[str, str, str, Compare]]:
    """Whose code, name, what goes in, the comparison."""
    step = "width-32 ConvNets, 20 normal pictures of 10 classes, 3 inner steps, no augmentation"
    made: list[tuple[str, str, str, Compare]] = [
        ("datm", "DATM settings that differ from its 12 configs (a count)", "configs/*/ConvIN/IPC*.yaml",
         lambda u, n, at, dtype: compare_configs(at, DATM, False)),
        ("pad", "PAD settings that differ from its 12 configs (a count)", "configs/*/ConvIN/IPC*.yaml",
         lambda u, n, at, dtype: compare_configs(at, PAD, True)),
        ("att", "ATT settings that differ from its commands, or another figure (a count)",
         "README.md, buffer_ATT.py, figures/table.png", lambda u, n, at, dtype: compare_att_settings(at)),
        ("ftd", "FTD settings that differ from its commands, or another figure (a count)",
         "distill/run_distill.sh, Readme.md, docs/parameters.png", lambda u, n, at, dtype: compare_ftd_settings(at)),
        ("remember", "protocol remember: settings that differ from its program (a count)",
         "configs/compressors_bptt_interventions.yml, tools/, utils/", lambda u, n, at, dtype: compare_remember(at)),
        ("datm", "DATM step: loss, and its gradient by pictures, labels and rate", step,
         lambda u, n, at, dtype: compare_step(n, at / "distill" / "DATM.py", dtype, drop=0.0, nearest=False)),
        ("att", "ATT step: loss, and its gradient by pictures and rate", step,
         lambda u, n, at, dtype: compare_step(n, at / "distill_ATT.py", dtype, drop=None, nearest=True)),
        ("ftd", "FTD step: loss, and its gradient by pictures and rate", step,
         lambda u, n, at, dtype: compare_step(n, at / "distill" / "distill_FTD.py", dtype, drop=None, nearest=False)),
        ("rcig", "RCIG: loss and whole gradient, released inverse Hessian", "one hidden layer of 6, 4 of 12, 4 classes",
         lambda u, n, at, dtype: compare_rcig(at, dtype)),
        ("optax", "AdaBelief about the old mean (scale_by_belief of optax 0.1.4)", "10 steps of 30 numbers",
         lambda u, n, at, dtype: compare_adabelief(at, dtype)),
    ]  # fmt: skip
    for drop in (0.25, 0.5):
        made.append((
            "pad", f"PAD step, {drop:g} of the parameters left out: loss and its gradients", step,
            lambda u, n, at, dtype, drop=drop: compare_step(
                n, at / "distill" / "PAD.py", dtype, drop=drop, nearest=False
            ),
        ))  # fmt: skip
    for optimizer in ("SGD", "Adam"):
        made.append((
            "rat", f"RaT-BPTT window by {optimizer}{' without eps, in float64' if optimizer == 'Adam' else ''}",
            step.replace("ConvNets", "ConvNets without norm").replace("3 inner", "2 + 3 inner"),
            lambda u, n, at, dtype, optimizer=optimizer: compare_window(n, at, dtype, optimizer),
        ))  # fmt: skip
    return made
