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

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.core import MethodInfo, NonNegativeInt, Presets, Problem, UnitFloat
from potstill.functional.distribution import amplitude_phase_gap, characteristic_function
from potstill.functional.param_groups import ParamGroup
from potstill.methods.distribution._sampling import ascend_sampler, init_sampler, sample_frequencies
from potstill.methods.distribution._statistics import (
    DistributionObjective,
    Memory,
    Statistics,
    Views,
    pad_parts,
    unpad_parts,
)
from potstill.methods.distribution._values import FeatureMatchingFields, match_in_trained_networks
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState
from potstill.rng import draw_seed, generator

__all__ = ["NCFM"]


@dataclass(frozen=True, kw_only=True)
class NCFM(FeatureMatchingFields, EngineMethod[MatchingState]):
    """Match the characteristic function of the embeddings of every class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        draws_by_class=True,
        title="Dataset Distillation with Neural Characteristic Function: A Minmax Perspective",
        paper="arXiv:2502.20653", year=2025, family="distribution", kinds=("*",),
        training={"lr": 0.001, "augmentation": "dsa", "epochs": 2000},
        use_when="Take it for ten items a class and more with ten minutes or a GPU: published results and ours are "
        "among the best of the family.",
        avoid_when="Avoid it for seconds, as networks are trained first, and on easy data with many bytes, where it "
        "added nothing to real samples.",
        related=("dance", "dm", "m3d"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {
            "iterations": 300, "steps_per_network": 8, "batch_real": 128, "pretrained_networks": 2,
            "pretrain_epochs": 5,
        },
        "good": {
            "iterations": 4_000, "steps_per_network": 8, "batch_real": 256, "pretrained_networks": 5,
            "pretrain_epochs": 20,
        },
    }  # fmt: skip

    iterations: int = 20_000
    """Steps (config/ipc10/cifar10.yaml, niter)."""
    lr: float = 1e-3
    """Learning rate of AdamW (lr_img × lr_scale_adam there); one step for all classes takes √k times that (updates)."""
    weight_decay: float = 5e-4
    """Weight decay of AdamW per class update (weight_decay there); one update for all classes uses √k times that."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """Optimiser of the stored values (optimizer there: sgd for CIFAR-100 at 10 items, with lr 0.01, no decay)."""
    momentum: UnitFloat = 0.5
    """Momentum of SGD (mom_img), for the sampling network and, with SGD, the stored values."""
    frequencies: int = 4096
    """Number of normal frequencies t (num_freqs)."""
    frequencies_sampler: int = 64
    """Number of t from the sampling network (SampleNet.py, t_batchsize), from a sixteenth as many noise vectors."""
    alpha: float = 0.5
    """Weight of the amplitude."""
    beta: float = 0.5
    """Weight of the phase."""
    scale: float = 300.0
    """γ (NCFM.py, match_loss)."""
    sampler: bool = False
    """Sample t by a network that maximises the loss; off in the released configurations."""
    lr_sampler: float = 1e-3
    """Its learning rate (lr_sampling_net); its SGD has no decay (utils/utils.py, get_optimizer)."""
    patience: NonNegativeInt = 500
    """Steps without a better loss after which the learning rate is halved; 0: at the first that is not better."""
    batch_real: int = 1024
    """Real samples per class and step (batch_real)."""
    pretrained_networks: int = 20
    """Pretrained networks (num_premodel)."""
    pretrain_epochs: NonNegativeInt = 60
    """Training epochs of each (pertrain_epochs); 0 leaves them untrained."""
    pretrain_batch: int = 128
    """Batch size of that training (batch_size)."""
    pretrain_schedule: Literal["steps", "cosine", "constant"] = "steps"
    """Its rate falls in steps (pretrain_script.py)."""
    pretrain_augment: str = "idc"
    """Per-sample augmentation of that training."""
    embedders: Literal["fresh", "trained", "between"] = "between"
    """Match between the beginning and the end."""
    calibration: float = 1.0
    """Weight of the calibration step (calib_weight); 0 leaves it out."""
    updates: Literal["all", "class"] = "all"
    """One step for all classes, or one after each, as published."""
    lr_labels: float = 1e-2
    """Learning rate of learned labels' logits. Ours."""
    augment: str = "idc"
    """Siamese augmentation: color, crop and cutout (aug_type)."""
    parametrization: str = "tiles"
    """Stored and optimised representation (factor 2)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        payload = ParamGroup(lr=self.lr, momentum=self.momentum)
        if self.optimizer == "adamw":
            turns = problem.num_classes if self.updates == "all" else 1
            payload = ParamGroup(lr=self.lr * turns**0.5, weight_decay=self.weight_decay * turns**0.5)
        measure = DistributionObjective(
            statistics=self.statistics, gap=self.gap, begin=self.begin, update_memory=self.update_memory
        )
        return match_in_trained_networks(
            self, problem, measure, payload=payload, calibration=self.calibration, updates=self.updates,
            factor=lambda state: float(state.memory.get("scale", 1.0)),
        )  # fmt: skip

    def statistics(self, real: Views, memory: Memory, rng: Generator) -> Statistics:
        h = F.normalize(real.features, dim=1)
        seed = draw_seed(rng)
        t = sample_frequencies(memory, h.shape[1], self._num_frequencies, generator(seed)).to(h)
        re, im = characteristic_function(h, t, real.weights)
        statistics = {"re": real.released("re", re), "im": real.released("im", im), "shared/t": t}
        if self.sampler:  # the maximisation needs Φ_T as a function of t
            statistics["h"], statistics["sizes"] = pad_parts([h[w > 0] for w in real.weights])
            statistics["shared/seed"] = torch.tensor(seed)
        return statistics

    def gap(self, real: Statistics, syn: Views, memory: Memory) -> Tensor:
        h = F.normalize(syn.features, dim=1)
        phi = characteristic_function(h, real["shared/t"], syn.weights)
        return self.scale * amplitude_phase_gap((real["re"], real["im"]), phi, self.alpha, self.beta)

    def begin(self, problem: Problem, rng: Generator) -> Memory:
        # the greatest number, not infinity: a state holds finite numbers only
        plateau = {"best": torch.tensor(3.4e38), "waited": torch.tensor(0), "scale": torch.tensor(1.0)}
        return plateau | (init_sampler(problem.network(draw_seed(rng)), problem, rng) if self.sampler else {})

    def update_memory(self, state: MatchingState, real: Statistics, views: Callable[[], Views]) -> Memory:
        memory = dict(state.memory)
        better = state.loss < float(memory["best"]) * (1 - 1e-4)  # the threshold of torch's ReduceLROnPlateau
        memory["best"] = torch.tensor(state.loss) if better else memory["best"]
        memory["waited"] = torch.tensor(0) if better else memory["waited"] + 1
        if int(memory["waited"]) > self.patience:
            memory |= {"scale": memory["scale"] / 2, "waited": torch.tensor(0)}
        if self.sampler:
            memory |= self._ascended_sampler(memory, views(), real)
        return memory

    @property
    def _num_frequencies(self) -> int:
        """Number of t."""
        return self.frequencies_sampler if self.sampler else self.frequencies

    def _ascended_sampler(self, memory: Memory, syn: Views, real: Statistics) -> Memory:
        """Return the sampling network after an ascent step."""

        def loss(psi: Memory) -> Tensor:
            rng = generator(int(real["shared/seed"]))
            t = sample_frequencies({**memory, **psi}, syn.features.shape[1], self._num_frequencies, rng).to(
                syn.features
            )
            phi = characteristic_function(F.normalize(syn.features, dim=1), t, syn.weights)
            parts = [
                characteristic_function(h, t, h.new_full((1, len(h)), 1 / len(h)))
                for h in unpad_parts(real["h"], real["sizes"])
            ]  # fmt: skip
            target = (torch.cat([re for re, _ in parts]), torch.cat([im for _, im in parts]))
            return self.scale * amplitude_phase_gap(target, phi, self.alpha, self.beta)

        return ascend_sampler(memory, loss, self.lr_sampler, self.momentum)
