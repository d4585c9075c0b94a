"""What DANCE, NCFM and DSDM share: values in data units, classes in turn where one likes, and the calibration step."""

from torch import Generator, Tensor

from potstill.core import Network, Problem, Space
from potstill.errors import PotstillError
from potstill.methods._matching import Rule
from potstill.methods._networks import between
from potstill.methods.distribution._base import FeatureMatching
from potstill.methods.distribution._statistics import FeatureState, class_means_of_cross_entropy

__all__ = ["InTrained"]


class InTrained(FeatureMatching):
    """Abstract: matching in trained networks, which may calibrate too.

    What is stored holds values in data units and is kept in [0, 1], as in these publications; they clamp once in an
    iteration, here it is done after every move.
    """

    calibration: float
    updates: str

    def init(self, problem: Problem, rng: Generator) -> FeatureState:
        if self.calibration and self.embedders == "fresh":
            raise PotstillError(
                "calibration asks a trained network, but embedders is 'fresh'; choose trained or between, "
                "or set calibration to 0"
            )
        return super().init(problem, rng)

    @property
    def space(self) -> Space:
        return "data"

    def classwise(self) -> bool:
        return self.updates == "class"

    def rule(self, problem: Problem, iteration: int) -> Rule:
        return Rule(lr=self.lr, momentum=self.momentum, lr_labels=self.lr_labels, space="data", clamp=True)

    def networks(self, problem: Problem, state: FeatureState, rng: Generator) -> tuple[Network, Network | None]:
        net, chosen = self.embedder(problem, rng)
        return net, between(problem, chosen, 0.0) if self.calibration and chosen is not None else None

    def calibrate(self, logits: Tensor, y: Tensor, sizes: tuple[int, ...]) -> Tensor:
        return self.calibration * class_means_of_cross_entropy(logits, y, sizes)
