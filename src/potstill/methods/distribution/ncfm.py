r"""NCFM: Dataset Distillation with Neural Characteristic Function Matching (Wang et al., CVPR 2025, arXiv:2502.20653).

.. math::
    \min_S \max_\psi \; \gamma \sum_c E_{t \sim p_\psi} \sqrt{\alpha\, (|\Phi_{T_c}(t)| - |\Phi_{S_c}(t)|)^2
      + 2 \beta\, |\Phi_{T_c}(t)| |\Phi_{S_c}(t)|\, (1 - \cos(a_{T_c}(t) - a_{S_c}(t)))}, \qquad
    \Phi(t) = E\, e^{i \langle t, h \rangle}

h are embeddings of unit length in a network between its beginning and its end of training (as in DANCE), Φ = |Φ|e^{ia}
their empirical characteristic function at frequencies t. The released configurations draw t from a normal distribution
and leave the maximisation out; ``sampler=True`` adds the network ψ that makes t from noise and climbs the same loss.

All classes of a step share one draw of t, where the released code draws for each: the expectation is the same. Its
sampling network climbs before the set moves, ours after it has; and with it a second schedule, meant for that network,
halves the set's rate once more at each plateau (Condenser.py), which is not done here.

The release takes a step of AdamW after every class, in matching and again in calibration. Where all classes move at
once, rate and decay both grow with √k: the moves are as long (AdamW divides by the root of a second moment that is
mostly zeros when classes take turns), and they shrink what is stored as far as k turns do: over 20,000 steps to 0.82
with 10 classes and to 0.135 with 100, while no plateau halves the rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.core import Efforts, MethodInfo, Network, Problem
from potstill.functional.distribution import amplitude_phase_gap, characteristic
from potstill.functional.optim import sgd
from potstill.methods._matching import Rule, Start
from potstill.methods.distribution._statistics import Block, FeatureState, Memory, Statistics, Views, padded, unpadded
from potstill.methods.distribution._trained import InTrained
from potstill.rng import draw_seed, generator

__all__ = ["NCFM"]

NOISE_REPEATS = 16
"""Each noise vector of the sampling network serves so many frequencies (SampleNet.py)."""


@dataclass(frozen=True, kw_only=True)
class NCFM(InTrained):
    """Match the characteristic function of the embeddings of every class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Distillation with Neural Characteristic Function: A Minmax Perspective",
        paper="arXiv:2502.20653",
        year=2025,
        family="distribution",
        kinds=("*",),
        training={"lr": 0.001, "augmentation": "dsa", "epochs": 2000},
    )
    efforts: ClassVar[Efforts] = {
        "quick": {"iterations": 300, "reuse": 8, "batch_real": 128, "networks_trained": 2, "epochs_trained": 5},
        "good": {"iterations": 4_000, "reuse": 8, "batch_real": 256, "networks_trained": 5, "epochs_trained": 20},
    }

    may_be_zero: ClassVar[tuple[str, ...]] = ("epochs_trained", "patience")

    iterations: int = 20_000
    """Steps (config/ipc10/cifar10.yaml, niter)."""
    lr: float = 1e-3
    """Learning rate of AdamW (lr_img × lr_scale_adam there); one step for all classes takes √k times that (updates)."""
    weight_decay: float = 5e-4
    """Of AdamW, at a turn of one class (weight_decay there); one step for all classes decays with √k times that."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """What moves the stored values (optimizer there: sgd for CIFAR-100 at 10 items, with lr 0.01 and without decay)."""
    momentum: float = 0.5
    """Of SGD (mom_img): the sampling network's, and that of the stored values where SGD moves them."""
    frequencies: int = 4096
    """Number of t where they are normal (num_freqs)."""
    frequencies_sampler: int = 64
    """Number of t where a network makes them (SampleNet.py, t_batchsize), of a sixteenth as many noises."""
    alpha: float = 0.5
    """Weight of the amplitude."""
    beta: float = 0.5
    """Weight of the phase."""
    scale: float = 300.0
    """γ (NCFM.py, match_loss)."""
    sampler: bool = False
    """Whether a network makes t, and climbs the loss. The released configurations say no."""
    lr_sampler: float = 1e-3
    """Its learning rate (lr_sampling_net); its SGD has no decay (utils/utils.py, get_optimizer)."""
    patience: int = 500
    """Steps without a better loss after which the learning rate is halved; 0: at the first that is not better."""
    batch_real: int = 1024
    """Real samples per class and step (batch_real)."""
    networks_trained: int = 20
    """Networks that were trained before (num_premodel)."""
    epochs_trained: int = 60
    """Passes that each was trained for (pertrain_epochs); 0 leaves them untrained."""
    batch_trained: int = 128
    """Batch of that training (batch_size)."""
    schedule_trained: Literal["steps", "cosine", "constant"] = "steps"
    """Its rate falls in steps (pretrain_script.py)."""
    augment_training: str = "idc"
    """Per-sample augmentation of that training."""
    embedders: Literal["fresh", "trained", "between"] = "between"
    """Match between the beginning and the end."""
    calibration: float = 1.0
    """Weight of the calibration step (calib_weight); 0 leaves it out."""
    updates: Literal["all", "class"] = "all"
    """One step for all classes, or one after each, as published."""
    start: Start = "real"
    """Start from random real samples (init mix)."""
    lr_labels: float = 1e-2
    """Learning rate of the labels' logits, where they are learned. Ours."""
    augment: str = "idc"
    """Siamese augmentation: color, crop and cutout (aug_type)."""
    network: str = "convnet"
    """Network that embeds."""
    parametrization: str = "tiles"
    """What is optimised (factor 2)."""

    def init(self, problem: Problem, rng: Generator) -> FeatureState:
        state = super().init(problem, rng)
        # the greatest number, not infinity: a state holds finite numbers only
        plateau = {"best": torch.tensor(3.4e38), "waited": torch.tensor(0), "scale": torch.tensor(1.0)}
        made = {} if not self.sampler else _sampling_network(problem.network(draw_seed(rng)), problem, rng)
        return replace(state, memory={**plateau, **made})

    def rule(self, problem: Problem, iteration: int) -> Rule:
        if self.optimizer == "sgd":
            return super().rule(problem, iteration)
        turns = problem.num_classes if self.updates == "all" else 1
        return Rule(
            lr=self.lr * turns**0.5, weight_decay=self.weight_decay * turns**0.5, lr_labels=self.lr_labels,
            space="data", clamp=True,
        )  # fmt: skip

    def factor(self, state: FeatureState) -> float:
        return float(state.memory["scale"])

    def statistics(self, real: Views, memory: Memory, rng: Generator) -> Statistics:
        h = F.normalize(real.features, dim=1)
        seed = draw_seed(rng)
        t = _frequencies(memory, h.shape[1], self._count, generator(seed)).to(h)
        re, im = characteristic(h, t, real.weights)
        kept = {"re": re, "im": im, "shared/t": t}
        if self.sampler:  # the maximisation needs Φ_T as a function of t
            kept["h"], kept["sizes"] = padded([h[w > 0] for w in real.weights])
            kept["shared/seed"] = torch.tensor(seed)
        return kept

    def gap(self, real: Statistics, syn: Views, memory: Memory) -> Tensor:
        h = F.normalize(syn.features, dim=1)
        phi = characteristic(h, real["shared/t"], syn.weights)
        return self.scale * amplitude_phase_gap((real["re"], real["im"]), phi, self.alpha, self.beta)

    def after(self, problem: Problem, state: FeatureState, net: Network, block: Block, rng: Generator) -> FeatureState:
        memory = dict(state.memory)
        better = state.loss < float(memory["best"]) * (1 - 1e-4)  # the threshold of torch's ReduceLROnPlateau
        memory["best"] = torch.tensor(state.loss) if better else memory["best"]
        memory["waited"] = torch.tensor(0) if better else memory["waited"] + 1
        if int(memory["waited"]) > self.patience:
            memory |= {"scale": memory["scale"] / 2, "waited": torch.tensor(0)}
        if self.sampler:
            memory |= self._climbed(memory, self.synthetic_views(problem, state, net, block.draws), block.real)
        return replace(state, memory=memory)

    @property
    def _count(self) -> int:
        """Number of t."""
        return self.frequencies_sampler if self.sampler else self.frequencies

    def _climbed(self, memory: Memory, syn: Views, real: Statistics) -> Mapping[str, Tensor]:
        """The sampling network after one step up the loss."""
        names = [n for n in memory if n.startswith("psi/")]
        psi = {n: memory[n].detach().requires_grad_() for n in names}
        with torch.enable_grad():
            rng = generator(int(real["shared/seed"]))
            t = _frequencies({**memory, **psi}, syn.features.shape[1], self._count, rng).to(syn.features)
            phi = characteristic(F.normalize(syn.features, dim=1), t, syn.weights)
            parts = [
                characteristic(h, t, h.new_full((1, len(h)), 1 / len(h)))
                for h in unpadded(real["h"], real["sizes"])
            ]  # fmt: skip
            target = (torch.cat([re for re, _ in parts]), torch.cat([im for _, im in parts]))
            loss = self.scale * amplitude_phase_gap(target, phi, self.alpha, self.beta)
            up = [-g for g in torch.autograd.grad(loss, list(psi.values()))]
        velocity = {n: memory["speed/" + n] for n in names}
        after, speed = sgd(
            {n: memory[n] for n in names}, dict(zip(names, up, strict=True)), velocity, lr=self.lr_sampler,
            momentum=self.momentum,
        )  # fmt: skip
        return {**after, **{"speed/" + n: v for n, v in speed.items()}}


def _sampling_network(net: Network, problem: Problem, rng: Generator) -> dict[str, Tensor]:
    """Three linear layers of the embedding's width, each with a batch norm, as torch first makes them."""
    x = problem.train.fetch(torch.tensor([0])).x
    assert isinstance(x, Tensor)
    with torch.no_grad():
        d = net.embed(torch.cat([x, x])).shape[1]
    made: dict[str, Tensor] = {}
    for layer in range(3):
        bound = d**-0.5
        made[f"psi/{layer}.weight"] = (torch.rand(d, d, generator=rng) * 2 - 1) * bound
        made[f"psi/{layer}.bias"] = (torch.rand(d, generator=rng) * 2 - 1) * bound
        made[f"psi/{layer}.scale"], made[f"psi/{layer}.shift"] = torch.ones(d), torch.zeros(d)
    made = {n: p.to(problem.train.device) for n, p in made.items()}
    return {**made, **{"speed/" + n: torch.zeros_like(p) for n, p in made.items()}}


def _frequencies(memory: Memory, d: int, count: int, rng: Generator) -> Tensor:
    """t (count, d): standard normal, or what the sampling network makes of noise."""
    if "psi/0.weight" not in memory:
        return torch.randn(count, d, generator=rng)
    a = torch.randn(max(2, count // NOISE_REPEATS), d, generator=rng).to(memory["psi/0.weight"])
    for layer in range(3):
        p = [memory[f"psi/{layer}.{part}"] for part in ("weight", "bias", "scale", "shift")]
        a = F.batch_norm(F.linear(a, p[0], p[1]), None, None, p[2], p[3], training=True)
        a = F.leaky_relu(a, 0.2) if layer < 2 else a.tanh()
    return a.repeat(-(-count // len(a)), 1)[:count]
