"""One suite over everything that is registered: an entry is a promise that it passes."""

import dataclasses
import math
import typing
from functools import partial
from itertools import product

import pytest
import torch
from covering import covering

import potstill
from potstill.codecs import parse_codec
from potstill.core import InputSpec, Method, NetworkWeights, Splits, Synthetic, registry
from potstill.core.bounds import Bounds, bounds_of
from potstill.core.nested import named_tensors
from potstill.core.registry import make_method
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.evaluation.protocol import Protocol
from potstill.methods.engine import MatchingState
from potstill.nn import catalogue, factory
from potstill.parametrize.quantization_aware import QuantizationAware
from potstill.rng import generator
from potstill.runs.loop import LoopLimits, run_loop
from potstill.tasks import Regression, get_task
from potstill.testing import (
    ContractError,
    check_augmentation,
    check_method,
    check_network,
    check_parametrization,
    check_protocol,
    check_source,
    toy_problem,
    toy_source,
    uneven_source,
)
from potstill.testing.toy import boxes_source, masks_source, pairs_source, windows_source

SMALL = {
    "pretrained_networks": 2,
    "num_teachers": 2,
    "pretrain_epochs": 1,
    "teacher_epochs": 1,
    "num_experts": 2,
    "train_epochs": 1,
    "frequencies": 32,
    "frequencies_sampler": 32,
    "pool_initial": 2,
    "pool_size": 2,
    "max_age": 3,
    "num_networks": 2,
    "pool_steps": 2,
    "data_train": 24,
    "iterations": 4,
    "batch_real": 6,
    "outer": 2,
    "inner": 2,
    "solver_steps": 2,
    "teacher_steps": 4,
    "batch": 6,
    "committee": "convnet-d1-w4-batch",
    "samples": 4,
    "crops": 2,
    "ascent": 2,
    "round_iterations": 2,
    "record_epochs": 3,
    "trajectory": 3,
    "runs": 2,
    "window": 3,
    "checkpoints": 2,
    "epoch": 2,
    "max_epochs": 12,
    "total": 5,
    "swing": 1,
    "inner_steps": 3,
    "diffusion_updates": 3,
    "diffusion_width": 8,
    "latent_dim": 4,
    "autoencoder_width": 3,
    "autoencoder_epochs": 1,
    "sampling_steps": 4,
    "student_steps": 3,
    "observer_epochs": 2,
    "objects": 4,
}
"""Settings that shorten a method where it has them; the promise itself does not depend on them."""


def small(name: str, **changes: object):
    fields = {f.name for f in dataclasses.fields(registry.resolve("methods", name))}
    return make_method(name, {k: v for k, v in {**SMALL, **changes}.items() if k in fields})[1]


OF_USERS = {"distill-cf", "most-active"}
"""Methods of users with lists of items: tests/api/test_rating_sets.py."""
OF_MASKS, OF_PAIRS, OF_BOXES, OF_SERIES = (
    tuple(n for n in registry.names("methods") if registry.resolve("methods", n).info.tasks == (task,))
    for task in ("segmentation", "retrieval", "detection", "forecast")
)


@pytest.mark.parametrize("kind", ["image", "table"])
@pytest.mark.parametrize("name", registry.names("methods"))
def test_method_keeps_the_contract(name: str, kind: str) -> None:
    method = small(name)
    if {"*", kind} & set(method.info.kinds) and {"*", "classification"} & set(method.info.tasks):
        check_method(method, steps=5, kind=kind)
        return
    with pytest.raises(PotstillError, match=f"works on .* data, but this is {kind} data|does .*, but toy is"):
        potstill.distill(Splits(train=toy_source(kind), test=None), method, ipc=1, steps=1)


@pytest.mark.parametrize("name", OF_MASKS)
def test_a_method_of_masks_keeps_the_contract(name: str) -> None:
    check_method(small(name), source=masks_source())


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("name", OF_PAIRS)
def test_a_method_of_pairs_keeps_the_contract(name: str, vectors: bool) -> None:
    check_method(small(name), source=pairs_source(vectors=vectors), steps=2)


@pytest.mark.parametrize("name", OF_SERIES)
def test_a_method_of_series_keeps_the_contract(name: str) -> None:
    check_method(small(name), steps=4, source=windows_source())


@pytest.mark.parametrize("name", OF_BOXES)
def test_a_method_of_boxes_keeps_the_contract(name: str) -> None:
    check_method(small(name), steps=5, source=boxes_source())


@pytest.mark.parametrize("name", registry.names("methods", outside=False))
def test_a_method_of_the_tree_says_when_to_take_it_and_when_not(name: str) -> None:
    info = registry.resolve("methods", name).info
    for said in (info.use_when, info.avoid_when):
        assert said[:1].isupper(), said
        assert said.endswith("."), said
        assert ". " not in said.removesuffix("."), f"one sentence, not two: {said}"
    assert info.related
    assert name not in info.related
    assert set(info.related) <= set(registry.names("methods", outside=False))


def test_no_two_methods_are_described_alike() -> None:
    infos = [registry.resolve("methods", name).info for name in registry.names("methods", outside=False)]
    said = [sentence for info in infos for sentence in (info.use_when, info.avoid_when)]
    assert len(set(said)) == len(said)


def real_table() -> TensorSource:
    """Rows whose target is real."""
    rows = toy_source("table").raw(torch.arange(48))
    assert isinstance(rows, torch.Tensor)
    target = rows.sum(1, keepdim=True)
    made = TensorSource.make(rows, torch.zeros(48, dtype=torch.int64), name="toy-real", kind="table")
    return dataclasses.replace(made, classes=(), task=Regression(targets=("y",)).fit(target), targets=target)


OTHER_KINDS = {"table": toy_source("table"), "real": real_table(), "series": windows_source()}
OWN_STORED = ("dance", "dream", "dsdm", "idc", "idm", "m3d", "ncfm", "remember")
"""Methods whose own parametrization stores pictures."""


def test_the_methods_whose_own_parametrization_stores_pictures() -> None:
    kinds = {n: registry.resolve("methods", n) for n in registry.names("methods")}
    own = [n for n, kind in kinds.items() if getattr(kind, "parametrization", "pixels") != "pixels"]
    assert tuple(sorted(n for n in own if "*" in kinds[n].info.kinds)) == OWN_STORED


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("name", registry.names("methods"))
def test_a_method_of_other_data_than_pictures_runs_without_a_parametrization_being_named(name: str, kind: str) -> None:
    source = OTHER_KINDS[kind]
    info, method = registry.resolve("methods", name).info, small(name)
    suits = {"*", source.input.kind} & set(info.kinds) and {"*", get_task(source).name} & set(info.tasks)
    options = {f.name: getattr(method, f.name) for f in dataclasses.fields(method) if f.name in SMALL}
    if not suits:
        with pytest.raises(PotstillError, match=r"data, but this is|does .* but .* is"):
            potstill.distill(Splits(train=source, test=None), name, items=8, steps=1, progress=None)
        return
    amount = {"ipc": 2} if source.classes else {"items": 4}
    made = potstill.distill(
        Splits(train=source, test=None), name, **amount, steps=1, codec="float32", progress=None, **options
    )
    assert len(made) == (2 * len(source.classes) or 4)
    if name in OWN_STORED:
        assert made.metadata["config"]["parametrization"] == "pixels"
        own = registry.resolve("methods", name).parametrization
        note = f"parametrization pixels (inputs as they are): {own}, which {name} has by default, stores pictures, and "
        assert [n for n in made.notes if n.startswith(note)], made.notes


@pytest.mark.parametrize("name", OWN_STORED)
def test_a_parametrization_that_is_asked_for_and_stores_pictures_is_refused_for_a_table(name: str) -> None:
    own = registry.resolve("methods", name).parametrization
    with pytest.raises(PotstillError, match=f"parametrization {own} needs images"):
        potstill.distill(Splits(train=toy_source("table"), test=None), name, ipc=2, parametrization=own, progress=None)


def test_a_method_that_is_a_value_gives_way_as_its_name_does_unless_it_says_another() -> None:
    table = Splits(train=toy_source("table"), test=None)
    made = potstill.distill(table, small("idc"), ipc=2, steps=1, progress=None)
    assert made.metadata["config"]["parametrization"] == "pixels"
    with pytest.raises(PotstillError, match="parametrization tiles needs images"):
        potstill.distill(table, small("idc", parametrization="tiles:factor=3"), ipc=2, steps=1, progress=None)


OF_NO_CLASSES = {*OF_USERS, *OF_MASKS, *OF_PAIRS, *OF_BOXES, *OF_SERIES}


@pytest.mark.parametrize("name", [n for n in registry.names("methods") if n not in OF_NO_CLASSES])
def test_method_keeps_the_contract_on_very_unequal_classes_of_colour_pictures_that_are_not_square(name: str) -> None:
    source = uneven_source()
    sizes = torch.bincount(source.labels).tolist()
    assert (source.input.shape, sizes) == ((3, 8, 12), [7, 40, 150])
    check_method(small(name, batch_real=48, batch_train=32), steps=2, source=source, ipc=3)


def counts(name: str) -> list[str]:
    """The fields of a method that are whole numbers, or may be left to it."""
    kind = registry.resolve("methods", name)
    hints = {f.name: typing.get_type_hints(kind)[f.name] for f in dataclasses.fields(kind)}
    return [n for n, hint in hints.items() if hint in (int, int | None)]


def bounded(name: str, bounds: Bounds) -> set[str]:
    """The fields of a method whose type has these bounds."""
    kind = registry.resolve("methods", name)
    hints = typing.get_type_hints(kind, include_extras=True)
    return {f.name for f in dataclasses.fields(kind) if bounds_of(hints[f.name]) == bounds}


def may_be_zero(name: str) -> set[str]:
    return bounded(name, Bounds(0)) & set(counts(name))


def runs_two_steps(method: Method) -> None:
    problem = toy_problem(method)
    done = run_loop(
        method.resolve_defaults(problem)[0], problem, rng=generator(3), identity={}, limits=LoopLimits(steps=2)
    )
    selects = method.info.tasks == ("retrieval",) and method.info.is_selection  # one step selects all pairs
    assert (done.outcome.kind, done.outcome.step) == (("finished", 1) if selects else ("steps reached", 2))


@pytest.mark.parametrize(("name", "field"), [(n, field) for n in registry.names("methods") for field in counts(n)])
def test_a_count_of_zero_works_or_is_refused_by_its_name(name: str, field: str) -> None:
    kind = registry.resolve("methods", name)
    if field in may_be_zero(name):
        runs_two_steps(small(name, **{field: 0}))
        return
    sentence = f"method {name}: {field} must be at least 1, but it is 0; change it"
    for method, options in ((name, {field: 0}), (kind(**{field: 0}), {})):
        with pytest.raises(PotstillError) as refused:
            make_method(method, options)
        assert str(refused.value) == sentence


def test_the_counts_that_may_be_zero() -> None:
    admitted = {n: may_be_zero(n) for n in registry.names("methods")}
    recovered = {
        n: {"pad", "jitter", "teacher_epochs"}
        for n in ("sre2l", "cda", "sre2l++", "g-vbsm", "edc", "fadrm", "delt", "dwa", "lpld", "wmdd", "ufc")
    }
    in_trained = {n: {"pretrain_epochs"} for n in ("dm", "cafe", "datadam", "m3d", "dance", "covmatch")}
    assert {n: fields for n, fields in admitted.items() if fields} == {
        **in_trained,
        "k-means": {"iterations"},
        "k-median": {"iterations"},
        "prototypes": {"iterations"},
        "dc": {"inner"},
        "dsa": {"inner"},
        "idc": {"max_synthetic", "data_train"},
        "dream": {"max_synthetic", "data_train"},
        "idm": {"pretrain_epochs", "pool_trained", "forget_every"},
        "ncfm": {"pretrain_epochs", "patience"},
        "dsdm": {"pretrain_epochs", "history_from"},
        "dd": {"students"},
        "remember": {"students"},
        "rat-bptt": {"students", "min_burn_in"},
        "at-bptt": {"students", "swing"},
        **{
            n: {"batch", "min_updates_per_epoch"}
            for n in ("mtt", "tesla", "ftd", "att", "condtsf", "hdt", "vl-distill", "lors")
        },
        **{
            n: {"batch", "min_start_epoch", "expansion_end", "min_updates_per_epoch", "label_experts"}
            for n in ("datm", "pad")
        },
        "rded": {"teacher_epochs"},
        "cim": {"teacher_epochs"},
        "dq": {"teacher_epochs"},
        "kip": {"depth"},
        **{n: {"autoencoder_epochs", "teacher_epochs"} for n in ("d4m", "minimax", "diffusion-samples")},
        "mgd3": {"autoencoder_epochs", "teacher_epochs", "stop"},
        "cv-dd": {"pad", "jitter", "teacher_epochs", "label_batch"},
        **recovered,
    }


FRACTIONS = [(n, field) for n in registry.names("methods") for field in sorted(bounded(n, Bounds(0, 1)))]


@pytest.mark.parametrize(("name", "field"), covering(FRACTIONS))
def test_a_fraction_works_from_0_to_1(name: str, field: str) -> None:
    for value in (0, 1):
        runs_two_steps(small(name, **{field: value}))


@pytest.mark.parametrize(("name", "field"), FRACTIONS)
def test_a_fraction_is_refused_beyond_0_and_1(name: str, field: str) -> None:
    for value in (2.0, -0.5, math.nan):
        with pytest.raises(PotstillError) as refused:
            make_method(name, {field: value})
        assert str(refused.value) == f"method {name}: {field} must be from 0 to 1, but it is {value!r}; change it"


def test_the_fractions() -> None:
    assert {("idc", "cutmix"), ("dream", "cutmix"), ("dsdm", "smoothing"), ("cafe", "lambda_1")} < set(FRACTIONS)
    with_momentum = {n for n in registry.names("methods") if hasattr(registry.resolve("methods", n), "momentum")}
    assert {(n, "momentum") for n in with_momentum} < set(FRACTIONS)


POSITIVE = [(n, field) for n in registry.names("methods") for field in sorted(bounded(n, Bounds(0, above=True)))]


@pytest.mark.parametrize(("name", "field"), POSITIVE)
def test_what_is_divided_by_is_refused_at_zero_before_anything_is_trained(name: str, field: str) -> None:
    kind = registry.resolve("methods", name)
    for value in (0, 0.0, -1.0, math.nan):
        for method, options in ((name, {field: value}), (kind(**{field: value}), {})):
            with pytest.raises(PotstillError) as refused:
                make_method(method, options)
            assert str(refused.value) == f"method {name}: {field} must be above 0, but it is {value!r}; change it"
    assert getattr(make_method(name, {field: 0.5})[1], field) == 0.5


def test_every_temperature_must_be_above_zero() -> None:
    with_temperature = {n for n in registry.names("methods") if hasattr(registry.resolve("methods", n), "temperature")}
    assert {(n, "temperature") for n in with_temperature} <= set(POSITIVE)
    assert ("g-vbsm", "tau") in POSITIVE


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Bounded(registry.resolve("methods", "dm")):  # type: ignore[misc]
    """Fields of an outside method."""

    extra: int = 0
    below: int = -1
    maybe: int | None = None
    either: int | str = 1
    word: int | typing.Literal["auto"] = 1
    pair: tuple[int, int] = (0, 0)
    rate: float = 0.5


def test_bounds_follow_the_annotation_and_the_default() -> None:
    made = _Bounded()
    assert make_method(made, {})[1] == made
    assert make_method(made, {"maybe": 1, "either": "all", "rate": 0, "below": 0})[1].either == "all"
    assert make_method(made, {"word": "auto"})[1].word == "auto"
    for option, value, said in (
        ("extra", -1, "extra must be at least 0, but it is -1"),
        ("below", -2, "below must be at least -1, but it is -2"),
        ("maybe", 0, "maybe must be at least 1, but it is 0"),
        ("maybe", "one", "maybe must be int, not 'one'"),
        ("maybe", True, "maybe must be int, not True"),
        ("word", 0, "word must be at least 1, but it is 0"),
        ("word", "soon", "word must be int or auto, not 'soon'"),
        ("extra", None, "extra must be int, not None"),
        ("extra", 1.5, "extra must be int, not 1.5"),
        ("rate", -1, "rate must be at least 0, but it is -1"),
        ("rate", math.nan, "rate must be at least 0, but it is nan"),
        ("rate", "fast", "rate must be float, not 'fast'"),
        ("init_from", "cold", "init_from must be one of real, noise, k-means, not 'cold'"),
    ):
        for method, options in ((made, {option: value}), (dataclasses.replace(made, **{option: value}), {})):
            with pytest.raises(PotstillError, match=f"^method _Bounded: {said}"):
                make_method(method, options)


MATCHING = (
    "dc", "dsa", "idc", "dream", "lgm", "dm", "cafe", "idm", "datadam", "m3d", "ncfm", "dance", "dsdm", "dd",
    "remember", "rat-bptt", "at-bptt",
)  # fmt: skip


@pytest.mark.parametrize("name", MATCHING)
def test_labels_can_be_learned_with_every_objective(name: str) -> None:
    method = small(name, labels="learned", lr_labels=0.5)
    check_method(method, steps=3)
    problem = toy_problem(method)
    rng = torch.Generator().manual_seed(0)
    state = method.init(problem, rng)
    before = method.result(problem, state).labels
    assert before.argmax(1).tolist() == torch.arange(4).repeat_interleave(len(before) // 4).tolist()
    after = method.result(problem, method.step(problem, state, rng)[0]).labels
    assert not torch.equal(before, after)


STORED = (
    "tiles", "memory:bases=2", "frequency:kept=16", "shared-frequency:positions=16",
    "hallucinator:styles=2,width=1", "field:warmup=2", "compensators:count=2", "small:factor=3", "motion:frames=4",
)  # fmt: skip


@pytest.mark.parametrize(("name", "spelled"), covering(product(MATCHING, STORED)))
def test_every_objective_works_over_every_parametrization(name: str, spelled: str) -> None:
    method = small(name, parametrization=spelled, optimizer="adamw", lr=1e-3)
    source = toy_source("image", side=16, classes=2)
    problem = dataclasses.replace(toy_problem(method, ipc=4), counts=(4, 3), train=source)
    problem = dataclasses.replace(problem, network=factory("convnet-d1-w8", source.input, 2), assets={})
    if method.assets(problem):
        net = problem.network(5)
        theta = {n: p.detach() for n, p in net.named_parameters()}
        problem = dataclasses.replace(
            problem, assets={"networks": (NetworkWeights(seed=5, parameters=theta, buffers={}),)}
        )
    rng = torch.Generator().manual_seed(0)
    state = method.init(problem, rng)
    before = method.result(problem, state)
    assert isinstance(before, Synthetic)
    after = method.result(problem, method.step(problem, state, rng)[0])
    assert isinstance(after, Synthetic)
    to_device = problem.decode(after.payload)
    assert to_device.shape == (sum(problem.sizes), 1, 16, 16)
    assert torch.isfinite(to_device).all()
    assert not torch.equal(to_device, problem.decode(before.payload))
    for part, tensor in before.payload.items():
        assert tensor.is_floating_point() or torch.equal(tensor, after.payload[part])


MAKING = [
    n for n in registry.names("methods")
    if n not in OF_USERS and not registry.resolve("methods", n).info.is_selection
]  # fmt: skip


@pytest.mark.parametrize("name", MAKING)
def test_every_method_that_makes_a_set_can_be_rounded_while_it_does(name: str) -> None:
    method = small(name)
    problem = toy_problem(method, ipc=4)
    wrapped = QuantizationAware(inner=problem.parametrization, codec=parse_codec("uint2"))
    method = method.resolve_defaults(problem)[0]
    problem = dataclasses.replace(problem, parametrization=wrapped)
    rng = torch.Generator().manual_seed(0)
    state, _ = method.step(problem, method.init(problem, rng), rng)
    result = method.result(problem, state)
    assert isinstance(result, Synthetic)
    with torch.no_grad():
        decoded = problem.decode(result.payload)
    again = named_tensors(wrapped.inner.decode(wrapped.quantized_payload(result.payload), problem.context))
    for part, x in named_tensors(decoded).items():
        assert torch.isfinite(x).all()
        assert torch.equal(x, again[part])


@pytest.mark.parametrize(
    "name", sorted({n for n in MAKING if registry.resolve("methods", n).state_type is MatchingState} - {"ld"})
)
def test_every_method_of_the_engine_pays_the_price_of_bits(name: str) -> None:
    """It moves the samples, and the same seed gives the same bits."""
    method = small(name)
    made = []
    for spelled in ("uint2:aware=true", "uint2:rate=1000", "uint2:rate=1000"):
        problem = toy_problem(method, ipc=4)
        method = method.resolve_defaults(problem)[0]
        wrapped = QuantizationAware(inner=problem.parametrization, codec=parse_codec(spelled))
        problem = dataclasses.replace(problem, parametrization=wrapped)
        rng = torch.Generator().manual_seed(0)
        state, metrics = method.step(problem, method.init(problem, rng), rng)
        assert all(math.isfinite(v) for v in metrics.values())
        made.append(method.result(problem, state).payload)
    floating = [n for n, t in made[0].items() if t.is_floating_point()]
    assert any(not torch.equal(made[0][n], made[1][n]) for n in floating)
    assert all(torch.equal(made[1][n], made[2][n]) for n in made[1])


@pytest.mark.parametrize("name", [n for n in MATCHING if n in ("dm", "idm", "datadam", "m3d", "ncfm", "dance", "dsdm")])
def test_real_statistics_can_be_reused(name: str) -> None:
    method = small(name, steps_per_network=2)
    check_method(method, steps=4)


@pytest.mark.parametrize("name", ["dc", "dsa", "dm"])
def test_method_keeps_the_contract_with_batch_norm(name: str) -> None:
    method = small(name)
    problem = toy_problem(method, network="convnet-d1-w8-batch")
    rng = torch.Generator().manual_seed(0)
    state = method.init(problem, rng)
    for _ in range(3):
        state, metrics = method.step(problem, state, rng)
        assert all(torch.isfinite(torch.tensor(v)) for v in metrics.values())


@pytest.mark.parametrize("name", registry.names("augmentations"))
def test_augmentation_keeps_the_contract(name: str) -> None:
    augment = registry.resolve("augmentations", name)()
    for shape in ((3, 12, 12), (1, 9, 14)) if name != "series" else ((3, 12), (1, 9)):
        check_augmentation(augment, shape)


OF_DATA = {"learned-graph", "multi-hot", "nearest-text", "rows", "series", "shapelets"}
"""Parametrizations of nodes, users, texts, tables and series: test_learned_graph.py, test_multi_hot.py,
test_nearest_text.py, test_rows.py, test_series.py, test_shapelets.py."""


@pytest.mark.parametrize("name", [n for n in registry.names("parametrizations") if n not in OF_DATA])
def test_parametrization_keeps_the_contract(name: str) -> None:
    spelled = {"motion": "motion:frames=4"}.get(name, name)  # nine frames do not fill sixteen pixels
    check_parametrization(partial(registry.create, "parametrizations", spelled))


@pytest.mark.parametrize("name", ["convnet", "convnet-d2-w8-swish-batch-max", "mlp", "lenet", "resnet18", "vit-tiny"])
def test_network_keeps_the_contract(name: str) -> None:
    spec = InputSpec(kind="image", shape=(3, 32, 32))
    check_network(factory(name, spec, 5), spec.shape, 5)


def test_the_catalogue_names_networks_that_can_be_made() -> None:
    assert {"convnet", "mlp", "lenet", "alexnet", "vgg11", "resnet18", "vit-tiny"} <= {e.name for e in catalogue()}


@pytest.mark.parametrize("kind", ["image", "table"])
def test_source_keeps_the_contract(kind: str) -> None:
    check_source(toy_source(kind))


def test_protocols_are_registered_under_their_own_name() -> None:
    for name in registry.names("protocols"):
        assert registry.resolve("protocols", name).name == name


@pytest.mark.parametrize("name", registry.names("protocols"))
def test_protocol_keeps_the_contract(name: str) -> None:
    check_protocol(name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _BrokenProtocol(Protocol):
    """A protocol with one planted defect, which is its summary."""

    def fingerprint(self) -> str:
        if self.summary == "batch is left out":
            return self.change(batch=1, summary="").fingerprint()
        if self.summary == "unstable":
            return str(id(self))
        return super().fingerprint()

    def resolve(self, source, network, input):  # type: ignore[no-untyped-def]
        if self.summary == "global":
            torch.randn(1)
        found = super().resolve(source, network, input)
        if self.summary == "tables too":
            return found.change(augment=self.recipe.augment)
        if self.summary == "clock":
            import time

            return found.change(momentum=time.time() % 97 / 97)
        if self.summary == "cases stay":
            return dataclasses.replace(found, cases=self.cases)
        return found


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("", "name, paper and summary"),
        ("batch is left out", "another fingerprint"),
        ("unstable", "one fingerprint"),
        ("global", "global generator"),
        ("tables too", "only pictures"),
        ("clock", "same at every call"),
        ("cases stay", "no cases"),
    ],
)
def test_check_protocol_finds_a_planted_defect(defect: str, sentence: str) -> None:
    with pytest.raises(ContractError, match=sentence):
        check_protocol(_broken(defect))


def _broken(defect: str, **changes: object) -> _BrokenProtocol:
    given = registry.resolve("protocols", "dsa")
    fields = {f.name: getattr(given, f.name) for f in dataclasses.fields(given)}
    return _BrokenProtocol(**fields).change(summary=defect, **changes)


def test_check_protocol_passes_without_a_defect_and_names_what_cannot_be_resolved() -> None:
    check_protocol(_broken("none"))
    with pytest.raises(ContractError, match="must be registered, but: unknown augmentation 'dsaa'"):
        check_protocol(_broken("none", augment="dsaa"))
    with pytest.raises(ContractError, match="in their ranges, but: unknown network 'convnot'"):
        check_protocol(_broken("none", network="convnot"))
    wrong = _broken("none")
    object.__setattr__(wrong.recipe, "momentum", 1.5)
    with pytest.raises(ContractError, match=r"momentum must be in \[0, 1\)"):
        check_protocol(wrong)


def _shifted(state: MatchingState, by: float) -> MatchingState:
    held = {n: t + by for n, t in state.params.value.items()}
    return dataclasses.replace(state, params=dataclasses.replace(state.params, value=held))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Broken(registry.resolve("methods", "dm")):  # type: ignore[misc]
    """DM with one planted defect."""

    defect: str = "none"

    def step(self, problem, state, rng):  # type: ignore[no-untyped-def]
        if self.defect == "global":
            torch.randn(1)
        if self.defect == "in place":
            state.params.value["payload/inputs"].mul_(0.5)
        following, metrics = super().step(problem, state, rng)
        if self.defect == "hidden state":
            self.__dict__.setdefault("_seen", []).append(1)
            shift = 1e-3 * len(self.__dict__["_seen"])
            following = _shifted(following, shift)
        if self.defect == "clock":
            import time

            following = _shifted(following, time.time() % 97)
        return following, metrics

    def result(self, problem, state):  # type: ignore[no-untyped-def]
        made = super().result(problem, state)
        if self.defect == "labels":
            return dataclasses.replace(made, labels=torch.zeros_like(made.labels))
        return made


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("global", "global generator"),
        ("in place", "in place"),
        ("hidden state", "same bits"),
        ("clock", "same bits"),
        ("labels", "budget"),
    ],
)
def test_check_method_finds_a_planted_defect(defect: str, sentence: str) -> None:
    with pytest.raises(ContractError, match=sentence):
        check_method(_Broken(iterations=4, batch_real=6, defect=defect))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Taken(registry.resolve("methods", "dm")):  # type: ignore[misc]
    """A field that the verb ``distill`` has for itself."""

    steps: int = 3


def test_check_method_finds_a_field_that_distill_would_swallow() -> None:
    with pytest.raises(ContractError, match="name of an option of distill"):
        check_method(_Taken(iterations=2, batch_real=4))


def test_check_method_passes_without_a_defect() -> None:
    check_method(_Broken(iterations=4, batch_real=6))
