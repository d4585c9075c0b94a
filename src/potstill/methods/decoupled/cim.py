r"""CIM: Condensing Large-Scale Datasets Directly with Minimal Information Loss (Shang et al., ECCV 2026; code:
github.com/LINs-lab/CIM).

.. math::
    \min_{\delta} \; \sum_i \frac{1}{d} \big\lVert \varphi(A(r_i)) - \varphi(A(d_i(M + \delta))) \big\rVert_1

r_i are the real pictures of a class that a trained network finds easiest (lowest cross-entropy, whole pictures). M
holds them in a fraction of their size, f × f in a picture, and d_i cuts picture i out again and enlarges it
(parametrization ``tiles``). So each decoded picture has its own real one, and is to have its features φ: the
embedding, under the same augmentation A for both. Labels are the network's.

As published δ is moved by AdamW at a constant rate; torch's default decay, which shrinks δ by 2 % over all steps, is
left out. The published features are those of an inner layer for networks on large pictures, the embedding for
small ones. Mosaics are kept as numbers and are not cut off at black and white.

One step moves the mosaics of all classes, which do not depend on each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Asset, Method, MethodInfo, Metrics, Presets, Problem, StepCost, Synthetic
from potstill.data.real_data import RealData
from potstill.functional.param_groups import ParamGroup, ParamGroups, ParamState, init_params, strip_prefix
from potstill.functional.sampling import sample_distinct
from potstill.methods.decoupled._realism import teacher_cross_entropy
from potstill.methods.decoupled._teachers import CHUNK, TeacherConfig, TeacherNetwork
from potstill.methods.engine import LossAndGrads, ObjectiveInputs, apply_update, require_tensor
from potstill.parametrize._shared import require_input_values
from potstill.rng import class_generators, generator

__all__ = ["CIM", "CIMState", "easiest_samples"]


@dataclass(frozen=True, kw_only=True)
class CIMState:
    params: ParamState
    index: Tensor
    """Real sample of every decoded image."""


def easiest_samples(
    problem: Problem, members: Sequence[TeacherNetwork], c: int, samples: int, rng: Generator
) -> Tensor:
    """Return indices (n,) of the real samples of class ``c`` that the teachers find easiest, n = ``problem.sizes[c]``.

    Of ``samples`` random ones, at least n; a class with fewer repeats them.
    """
    n = problem.sizes[c]
    index = problem.class_indices[c]
    index = index[sample_distinct(len(index), max(samples, n), rng)]
    scores = RealData.of(problem).map(
        index, CHUNK, lambda batch: teacher_cross_entropy(members, require_tensor(batch.x), c)
    )
    order = scores.argsort(stable=True).cpu()
    return index[order[torch.arange(n) % len(order)]]


@dataclass(frozen=True, kw_only=True)
class CIM(TeacherConfig, Method[CIMState]):
    """Mosaics of easy pictures that keep the features of each."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Condensing Large-Scale Datasets Directly with Minimal Information Loss",
        paper="ECCV 2026; github.com/LINs-lab/CIM", year=2026, family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 1000, "batch": 100, "loss": "mse"},
        class_independence="deletion",
        use_when="Take it for pictures where a teacher labels: it keeps real pixels in the bytes of fewer, and other "
        "networks read them.",
        avoid_when="Avoid it where each picture must be whole: a mosaic holds four at half their size, and shrunk "
        "random ones were level here.",
        related=("rded", "idc", "ufc"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "teacher_epochs": 10, "iterations": 100},
        "good": {"teacher_epochs": 20},
    }
    state_type: ClassVar[type] = CIMState

    iterations: int = 200
    """Steps (--niter there)."""
    lr: float = 0.01
    """Learning rate (condense.py)."""
    samples: int = 300
    """Real samples per class among which the easiest are selected (--mipc there)."""
    augment: str = "cim"
    """Augmentation of each pair: flip, crop and cutout (--dsa_strategy there)."""
    parametrization: str = "tiles"
    """Stored representation; images per stored one (--factor there, 2)."""

    @property
    def rules(self) -> ParamGroups:
        return {"payload/": ParamGroup(lr=self.lr, optimizer="adamw")}

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return self.teachers(needs_batch_norm=False).assets(problem)

    def init(self, problem: Problem, rng: Generator) -> CIMState:
        require_input_values(problem, "cim")
        members = self.teachers().load(problem)
        generators = class_generators(rng, problem.class_names)
        index = torch.cat([easiest_samples(problem, members, c, self.samples, g) for c, g in enumerate(generators)])
        real = RealData.of(problem)
        x = real.raw(index) if problem.payload_space("data") == "data" else real.batch(index).x
        stored = problem.parametrization.encode(require_tensor(x), problem, rng)
        params = init_params({f"payload/{n}": t for n, t in stored.items()}, self.rules)
        return CIMState(params=params, index=index)

    def step(self, problem: Problem, state: CIMState, rng: Generator) -> tuple[CIMState, Metrics]:
        members = self.teachers().load(problem)
        augmentation = problem.augment.draw(1, problem.train.input.shape, rng)

        def objective(stored: ObjectiveInputs) -> LossAndGrads:
            x, total, slopes = stored["inputs"], 0.0, list[Tensor]()
            train = RealData.of(problem)
            for part in torch.split(torch.arange(len(x)), CHUNK):
                real = problem.augment.apply(require_tensor(train.batch(state.index[part]).x), augmentation)
                with torch.enable_grad():
                    leaf = x[part.to(x.device)].requires_grad_()
                    view = problem.augment.apply(leaf, augmentation)
                    loss = torch.stack([feature_residual(member, real, view) for member in members]).mean()
                    slopes.append(torch.autograd.grad(loss, leaf)[0])
                total += float(loss.detach())
            return total, {"inputs": torch.cat(slopes)}

        params, loss = apply_update(problem, state.params, objective, self.rules, "data")
        return replace(state, params=params), {"residual": loss / len(state.index)}

    def done(self, problem: Problem, state: CIMState) -> bool:
        return state.params.num_steps >= self.iterations

    def result(self, problem: Problem, state: CIMState) -> Synthetic:
        payload = strip_prefix("payload/", state.params.value)
        with torch.no_grad():
            x = problem.decode(payload)
        if (space := problem.payload_space("data")) == "data":
            x = problem.train.normalization.apply(x)
        return Synthetic(payload=payload, labels=self.labeller().labels(problem, x), space=space)

    def num_steps(self, problem: Problem) -> int:
        return self.iterations

    def step_costs(self, problem: Problem, state: CIMState) -> tuple[StepCost, ...]:
        n = sum(problem.sizes)

        def match() -> object:
            return self.step(problem, state, generator(0, "plan"))[1]

        pairs = StepCost(what="real pictures and decoded ones", samples=2 * n, size=2 * n, ready=lambda _: match)
        return (pairs, self.labeller().step_cost(problem))


def feature_residual(member: TeacherNetwork, real: Tensor, decoded: Tensor) -> Tensor:
    """Return the sum over pairs (n, c, h, w) of the mean absolute difference of their embeddings."""
    with torch.no_grad():
        target = member.forward_with_features(real)[1]
    return (target - member.forward_with_features(decoded)[1]).abs().mean(1).sum()
