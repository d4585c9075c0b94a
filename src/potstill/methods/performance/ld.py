r"""LD: Flexible Dataset Distillation: Learn Labels Instead of Images (Bohdal et al., 2020, arXiv:2006.08572).

.. math::
    \min_Y \; \ell_T\big(\theta - \alpha \nabla_\theta \ell(f_\theta(X_b), Y_b)\big)

Real pictures X stay as they are; their labels Y are learned, by second-order gradients (algorithm 1). Each step takes
one SGD step of the student on a batch b of them, asks real samples, and moves Y; then the student itself takes an Adam
step on the same batch, with the labels as they were. A student begins anew when the moving average of its error has not
fallen for so many steps (label_distillation_or2.py).
Two things differ: labels are a softmax of logits, where the program clamps rows to [0, 1] and divides by their sum; and
they begin at their pictures' classes (``engine.init.CONFIDENCE``), where the program's are uniform.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, final

import torch
from torch import Generator, Tensor

from potstill.core import MethodInfo, Network, Presets, Problem, Regularizer, StepCost
from potstill.functional.param_groups import ParamGroup, ParamGroups, strip_prefix
from potstill.functional.train import copy_parameters
from potstill.functional.unroll import (
    InnerOptimizer,
    StudentState,
    init_student,
    run_steps,
    train_student,
    unrolled_grads,
)
from potstill.methods.engine import (
    EngineMethod,
    FixedNetworks,
    Init,
    LossAndGrads,
    MatchingEngine,
    MatchingState,
    NetworkSource,
    ObjectiveInputs,
    Update,
)
from potstill.methods.performance._unrolled import RealBatch, Unrolling, real_loss, student_loss
from potstill.methods.performance._windows import AllSteps, RandomBatch
from potstill.rng import draw_seed

__all__ = ["LD", "OneStepAhead"]

STUDENT_OPTIMIZER = InnerOptimizer(optimizer="adam")


@dataclass(frozen=True, kw_only=True)
class _Block:
    net: Network
    seed: int
    """Seed of the next student."""
    batch: list[tuple[Tensor | None, object]]
    real: RealBatch
    outcomes: dict[str, float] = field(default_factory=dict)
    next_states: list[StudentState] = field(default_factory=list)
    """State of the student after its own step, which the update sets."""


@final
@dataclass(frozen=True, kw_only=True)
class OneStepAhead:
    """The loss on real samples one step of a student ahead, which trains along; only labels are asked for gradients."""

    unrolling: Unrolling
    """Unrolled window of one step."""
    lr_student: float
    patience: int

    def init_memory(self, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
        return self._new_student(problem, draw_seed(rng))

    def _new_student(self, problem: Problem, seed: int) -> dict[str, Tensor]:
        student = init_student(copy_parameters(problem.network(seed)), STUDENT_OPTIMIZER)
        lowest = torch.tensor(self.patience + 1.0)  # above any sum of errors; a state is finite
        return _to_memory(student) | {"errors": torch.zeros(0), "lowest": lowest, "since": torch.tensor(0)}

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, _Block]:
        net = networks.draw_networks(problem, state, rng)[0]
        batch = [self.unrolling.draw_batch(problem, 0, rng)]
        real = RealBatch.draw(problem, self.unrolling.batch_real, rng)
        return state, _Block(net=net, seed=draw_seed(rng), batch=batch, real=real)

    def updates(self, problem: Problem, state: MatchingState, block: _Block) -> Iterator[Update]:
        def gradient(classes: list[int], view: ObjectiveInputs) -> LossAndGrads:
            student, fixed = _from_memory(state.memory), {n: t for n, t in view.items() if n != "labels"}
            loss, leaves = student_loss(problem, block.net, block.batch, fixed), {"labels": view["labels"]}
            lr, inner = self.unrolling.lr, self.unrolling.inner
            trail = train_student(loss, init_student(student.theta, inner), leaves, lr, inner, range(1))
            made = unrolled_grads(
                loss, trail, leaves, lr, inner,
                real_loss(problem, block.net, block.real, block.outcomes, self.unrolling.regularizer),
            )  # fmt: skip
            block.next_states.append(run_steps(loss, student, leaves, self.lr_student, STUDENT_OPTIMIZER, range(1)))
            return made.loss, made.leaves

        yield Update("loss", gradient, [list(range(problem.num_classes))])

    def finish_step(self, problem: Problem, state: MatchingState, block: _Block) -> MatchingState:
        """Return the state with the student after its step, or a new one where its mean error has stopped falling."""
        error = torch.tensor([1 - block.outcomes["right"]])
        errors, held = torch.cat([state.memory["errors"], error])[-self.patience :], state.memory
        lowest, since = float(held["lowest"]), int(held["since"])
        if len(errors) == self.patience:
            since = 0 if float(errors.sum()) < lowest else since + 1
            lowest = min(lowest, float(errors.sum()))
        if since > self.patience:
            return replace(state, memory=self._new_student(problem, block.seed))
        known = {"errors": errors, "lowest": torch.tensor(lowest), "since": torch.tensor(since)}
        return replace(state, memory=_to_memory(block.next_states[-1]) | known)

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        return self.unrolling.step_costs(problem, networks, state)

    def regularized(self, regularizer: Regularizer) -> "OneStepAhead":
        return replace(self, unrolling=self.unrolling.regularized(regularizer))


def _to_memory(student: StudentState) -> dict[str, Tensor]:
    made = {"count": torch.tensor(student.num_steps)}
    for name in ("theta", "exp_avg", "exp_avg_sq"):
        made |= {f"{name}/{n}": t for n, t in getattr(student, name).items()}
    return made


def _from_memory(memory: Mapping[str, Tensor]) -> StudentState:
    return StudentState(
        theta=strip_prefix("theta/", memory), exp_avg=strip_prefix("exp_avg/", memory),
        exp_avg_sq=strip_prefix("exp_avg_sq/", memory),
        num_steps=int(memory["count"]),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LD(EngineMethod[MatchingState]):
    """Learn the labels of real pictures that stay as they are."""

    info: ClassVar[MethodInfo] = MethodInfo(
        draws_by_class=True,
        title="Flexible Dataset Distillation: Learn Labels Instead of Images", paper="arXiv:2006.08572", year=2020,
        family="performance", soft_labels=True, kinds=("*",), multi_input=True,
        training={"lr": 0.001, "optimizer": "adam", "augmentation": "none", "batch": 50},
        use_when="Take it where inputs must stay real samples and only their labels may be learned.",
        avoid_when="Avoid it where a teacher can label, as random-soft costs less, or where inputs may change, as "
        "frepo learns both.",
        related=("random-soft", "frepo", "dd"),
    )  # fmt: skip
    state_type: ClassVar[type] = MatchingState
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 600, "batch_real": 128, "init_from": "k-means", "lr_labels": 0.05},
        "good": {"iterations": 6_000, "batch_real": 256, "init_from": "k-means", "lr_labels": 0.02},
    }

    iterations: int = 19_600
    """Steps: 400 passes over 50,000 samples (experiment_configs, epochs)."""
    batch_real: int = 1024
    """Real samples of a step, balanced over classes (arg_extractor.py, --batch_size)."""
    init_from: Init = "real"
    """Initial samples: random real ones."""
    lr_labels: float = 0.01
    """Learning rate of the labels' logits, with Adam (published: Adam's 0.001 on rows)."""
    lr_net: float = 0.01
    """α: rate of the step that gradients go through (--inner_lr)."""
    lr_student: float = 0.001
    """Learning rate of the student itself, with Adam."""
    batch_inner: int = 50
    """Pictures in a step of the student (--inner_batch_size)."""
    patience: int = 50
    """Errors in the moving average, and steps that it may stand still (stats_gap: 50 for 100 pictures, 200 for
    more)."""
    labels: Literal["learned"] = "learned"
    """Soft labels are learned."""
    augment: str = "none"
    """Augmentation of the student's batches and of the real one."""
    network: str = "convnet"
    """Network of the students (published: LeNet for MNIST, AlexNet for CIFAR)."""
    parametrization: str = "pixels"
    """Parametrization of the images."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        rules: ParamGroups = {
            "payload/": ParamGroup(lr=0.0),
            "labels/": ParamGroup(lr=self.lr_labels, optimizer="adamw"),
        }
        unrolling = Unrolling(
            windows=AllSteps(steps=1), batches=RandomBatch(batch=self.batch_inner), inner=InnerOptimizer(),
            lr=self.lr_net, batch_real=self.batch_real,
        )  # fmt: skip
        return MatchingEngine(
            objective=OneStepAhead(unrolling=unrolling, lr_student=self.lr_student, patience=self.patience),
            networks=FixedNetworks(), param_groups=lambda state, last: rules, iterations=self.iterations,
            steps=self.iterations, initial=self.init_from, labels=self.labels,
        )  # fmt: skip
