"""Contract checks of evaluation protocols."""

import dataclasses
import itertools
import json

import torch
from torch import Tensor

from potstill.augment.mix import label_rows as as_rows
from potstill.core import InputSpec, Network, NetworkFactory, NetworkWeights
from potstill.core.registry import names, resolve
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.distilled_training import Teachers
from potstill.evaluation.protocol import Case, Protocol
from potstill.evaluation.student import StudentJob, train
from potstill.evaluation.vmap_students import fit_stacked
from potstill.functional.label_simplex import to_scores
from potstill.functional.train import copy_parameters
from potstill.nn import factory
from potstill.testing.common import ContractError, no_side_effects, require, same_bits, to_tuples
from potstill.testing.toy import toy_source

__all__ = ["check_protocol"]


def check_protocol(protocol: Protocol | str, *, epochs: int = 2) -> None:
    """Check a protocol: as a value, for images and tables, and with a tiny student of each.

    Args:
        protocol: a protocol, or a registered name.
        epochs: epochs of the students, instead of the protocol's own; at least 1.

    Raises:
        ContractError: a promise is broken.
    """
    checked: Protocol = resolve("protocols", protocol) if isinstance(protocol, str) else protocol
    require(isinstance(checked, Protocol), f"a protocol must be a Protocol, not {type(checked).__name__}")
    require(bool(checked.name and checked.paper and checked.summary), "a protocol must say name, paper and summary")
    values = json.loads(
        json.dumps(checked.flat_fields() | {"cases": [*map(dataclasses.asdict, checked.cases)]}, default=repr)
    )
    cases = tuple(Case(**to_tuples(case)) for case in values["cases"])
    try:
        again = checked.change(**to_tuples(values) | {"cases": cases})
        shorter = checked.override(epochs=epochs)
        if checked.network is not None and checked.network not in names("learners"):
            factory(checked.network, InputSpec(kind="image", shape=(3, 32, 32)), 10)
    except PotstillError as error:
        raise ContractError(f"a protocol's fields must be in their ranges, but: {error}") from error
    require(again == checked, f"a protocol's fields must survive JSON, but {values} does not")
    more = checked.recipe.batch + 1
    changed = {checked.change(batch=more), checked.override(batch=more)}
    prints = [checked.fingerprint(), checked.fingerprint(), again.fingerprint()]
    require(len(set(prints)) == 1, f"a protocol must have one fingerprint, also when it is read again, not {prints}")
    require(
        prints[0] not in {p.fingerprint() for p in changed},
        "another batch must give another fingerprint: numbers of two recipes would be put into one table",
    )
    sources = dict.fromkeys(["toy", *itertools.chain.from_iterable(case.sources for case in checked.cases)])
    for kind, name, mirrored in itertools.product(("image", "table"), sources, (True, False)):
        _check_student(shorter, kind, name, mirrored, trained=name == "toy" and mirrored)


def _check_student(protocol: Protocol, kind: str, name: str, mirrored: bool, trained: bool) -> None:
    """Check the protocol for data of that kind and name; with ``trained``, also a student."""
    source = toy_source(kind)
    assert isinstance(source, TensorSource)
    source = dataclasses.replace(source, input=dataclasses.replace(source.input, horizontal_flip=mirrored))
    make = factory("convnet-d1-w8" if kind == "image" else "mlp", source.input, len(source.classes))
    with no_side_effects("a protocol"):
        said, again = (protocol.resolve(name, make.name, source.input) for _ in range(2))
    require(said == again, "resolve must say the same at every call")
    require(
        not said.cases and (said.recipe.epochs is None) != (not said.recipe.steps),
        "resolve must leave one length and no cases",
    )
    plain = said.recipe.augment == said.recipe.mix == "none"
    require(kind == "image" or plain, f"only pictures are augmented and mixed, but {name} as a {kind} is")
    try:
        augment = student_augmentation(said.recipe.augment, source)
    except PotstillError as error:
        raise ContractError(f"the augmentation for {name} must be registered, but: {error}") from error
    if not trained:
        return
    batch = source.fetch(torch.arange(0, len(source), 5))
    assert isinstance(batch.x, Tensor)
    assert batch.y is not None
    x, y = batch.x.clone(), batch.y.clone()
    if said.teaching.loss == "squared":
        y = to_scores(as_rows(y, len(source.classes), torch.float32))
    kept, teachers = y.clone(), None
    if said.teaching.labels == "teacher":
        network = make(5)
        theta, buffers = copy_parameters(network), {n: b.clone() for n, b in network.named_buffers()}
        teachers = Teachers(make=make, trained=(NetworkWeights(seed=5, parameters=theta, buffers=buffers),))
    job = StudentJob(
        make=make, x=x, y=y, protocol=said, lr=said.recipe.lr[0], steps=None, augment=augment, seed=3,
        teachers=teachers, normalization=source.normalization,
    )  # fmt: skip
    with no_side_effects("a student's training"):
        one, two = train(job).state_dict(), train(job).state_dict()
    require(same_bits(one, two), "a student trained twice with one seed must have the same bits")
    require(torch.equal(x, batch.x) and torch.equal(y, kept), "training must not write into the set")
    require(
        not same_bits(one, train(dataclasses.replace(job, seed=4)).state_dict()),
        "another seed must give another student",
    )
    if teachers is None and said.recipe.adversary == "none":
        exact = dataclasses.replace(job, make=_Double(make), x=x.double(), y=y.double() if y.is_floating_point() else y)
        alone, beside = train(exact).state_dict(), fit_stacked([dataclasses.replace(exact, seed=4), exact]).state
        require(
            all(torch.allclose(beside[n][1], t, rtol=1e-6, atol=2e-8) for n, t in alone.items()),
            "side by side with another a student must learn what it learns alone",
        )


@dataclasses.dataclass(frozen=True)
class _Double:
    """Factory whose networks are in float64, where rounding does not matter."""

    make: NetworkFactory

    @property
    def name(self) -> str:
        return self.make.name

    @property
    def device(self) -> torch.device:
        return self.make.device

    def __call__(self, seed: int, /) -> Network:
        return self.make(seed).double()
