"""What the tests of ranks run under torchrun: each prints one JSON document at rank 0."""

import json
import os
import signal
import sys
import time
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import potstill
from potstill._util.input_limits import limited, limits
from potstill.core import Splits
from potstill.errors import PotstillError
from potstill.execution import Ranks
from potstill.execution import run_on_ranks as together_on_first
from potstill.functional.microbatch import PureForward, forward_backward, share_batches
from potstill.functional.train import copy_parameters, train_step
from potstill.testing import toy_source

RNG = torch.Generator().manual_seed(3)


def net(norm: nn.Module | None = None) -> nn.Module:
    made = nn.Sequential(
        nn.Conv2d(3, 5, 3), norm or nn.GroupNorm(5, 5), nn.ReLU(), nn.Flatten(), nn.Linear(80, 4)
    ).double()  # fmt: skip
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn(p.shape, generator=RNG, dtype=torch.float64) * 0.3)
    return made


X = torch.randn(11, 3, 6, 6, generator=RNG, dtype=torch.float64)
Y = torch.randint(4, (11,), generator=RNG)


def contrast(outputs: Tensor) -> Tensor:
    """A loss in which every sample meets every other."""
    z = F.normalize(outputs, dim=1)
    return F.cross_entropy(z @ z.T / 0.2, (torch.arange(len(z)) + 1) % len(z))


def gradients(ranks: Ranks) -> dict[str, Any]:
    """How far steps over ranks are from those of one, of three norms and for a loss of the whole batch."""
    found: dict[str, Any] = {}
    for name, norm in (
        ("group", None), ("batch", nn.BatchNorm2d(5)), ("cumulative", nn.BatchNorm2d(5, momentum=None)),
    ):  # fmt: skip
        network = net(norm)
        step = partial(
            train_step, network, copy_parameters(network), None, X, Y, lr=0.1, momentum=0.9, weight_decay=0.01
        )  # fmt: skip
        two, again = step(), step()
        with share_batches(None):
            one = step()
        found[f"{name} again"] = all(torch.equal(again.velocity[n], v) for n, v in two.velocity.items())
        gaps = [float((two.velocity[n] - v).norm() / v.norm()) for n, v in one.velocity.items() if v.norm() > 1e-12]
        gaps += [float((two.buffers[n] - b).double().norm() / b.double().norm()) for n, b in one.buffers.items()]
        found[name] = max(*gaps, abs(float(two.loss - one.loss)), float((two.logits - one.logits).abs().max()))
    network = net()
    plain = PureForward(parameters=dict(network.named_parameters()), buffers={})
    asked = (network, network, list(network.parameters()), X, contrast, plain)
    two = forward_backward(*asked)
    with share_batches(None):
        one = forward_backward(*asked)
    found["contrast"] = max(
        float((a - b).norm() / b.norm()) for a, b in zip(two[2], one[2], strict=True) if b.norm() > 1e-12
    )
    found["networks sent"] = ranks._next
    return found


def failing(outputs: Tensor) -> Tensor:
    raise PotstillError("no loss of these")


def mistakes(ranks: Ranks) -> dict[str, Any]:
    """A loss that cannot be taken and a job that fails leave the ranks as they were."""
    network, said = net(), []
    plain = PureForward(parameters=dict(network.named_parameters()), buffers={})
    try:
        forward_backward(network, network, list(network.parameters()), X, failing, plain)
    except PotstillError as error:
        said.append(str(error))
    try:
        list(ranks.map(int, ["1", "2", "three"]))
    except ValueError as error:
        said.append(str(error))
    with limited(pixels=1234):
        held = list(ranks.map(pixels_allowed, [0, 1]))
    return {"said": said, "after": list(ranks.map(abs, [-1, -2, -3])), "few": list(ranks.map(abs, [-4])), "held": held}


def pixels_allowed(_: int) -> int:
    return limits().pixels


def distilled(ranks: Ranks) -> dict[str, Any]:
    """A set whose experts were trained by the ranks, and a student of it, beside those of one process."""
    data = Splits(train=toy_source("image"), test=toy_source("image"))
    options: dict[str, Any] = {
        "ipc": 1, "steps": 2, "network": "convnet-d1-w4", "device": "cpu", "progress": None, "num_experts": 3,
        "train_epochs": 2, "student_steps": 2, "expert_batch": 16,
    }  # fmt: skip
    small = potstill.distill(data, "mtt", **options)
    asked: dict[str, Any] = {
        "networks": ["convnet-d1-w4"],
        "seeds": 1,
        "baselines": False,
        "full": False,
        "robust_scores": False,
    }
    score = potstill.evaluate(small, data, **asked).to_dict()["accuracy"]["values"]
    with share_batches(None):
        alone = potstill.distill(data, "mtt", executor="serial", **options)
        again = potstill.evaluate(small, data, executor="serial", **asked).to_dict()["accuracy"]["values"]
    return {"same": bool(torch.equal(small.inputs, alone.inputs)), "scores": [score, again]}


def together(ranks: Ranks) -> dict[str, Any]:
    """All of these, as processes take seconds to start."""
    return {"gradients": gradients(ranks), "mistakes": mistakes(ranks), "distilled": distilled(ranks)}


def die(job: int) -> int:
    if int(os.environ["RANK"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def killed(ranks: Ranks) -> dict[str, Any]:
    """What rank 0 says when another is gone."""
    try:
        list(ranks.map(die, [1, 2]))
    except PotstillError as error:
        print(json.dumps({"said": str(error)}), flush=True)
        os._exit(3)
    return {}


def after_a_while() -> str:
    """Rank 0 alone at work, longer than the group that was there waits."""
    time.sleep(5)
    return "after 5 s"


def patient() -> dict[str, Any] | None:
    """Ranks in a process group that another program began, which is still there afterwards."""
    dist.init_process_group("gloo", timeout=timedelta(seconds=2))
    done = together_on_first(after_a_while)
    held = {"done": done, "still": dist.is_initialized()}
    dist.destroy_process_group()
    return held if done else None


if __name__ == "__main__":
    torch.set_num_threads(1)
    import ranked  # as a module: what only the main script knows is not sent

    if sys.argv[1] == "patient":
        if (found := patient()) is not None:
            print(json.dumps(found), flush=True)
        sys.exit()
    with Ranks(min_samples=1) as everyone:
        print(json.dumps(getattr(ranked, sys.argv[1])(everyone)), flush=True)
