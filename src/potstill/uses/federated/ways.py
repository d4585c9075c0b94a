"""Ways by name: ``real@uint1``, ``averages``, ``dm+averages``, ``feddm:3``, ``fedavg:20``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from potstill.codecs import parse_codec
from potstill.core.registry import get_method_class, names
from potstill.errors import PotstillError, suggestion
from potstill.uses.federated.messages import Averages, DistilledSets, RealSets, SetWay
from potstill.uses.federated.models import Ensemble, FedAvg, ModelWay, NoMessages
from potstill.uses.federated.rounds import EnsembleLabels, ExchangeWay, FedDM

__all__ = ["DEFAULT_WAYS", "Way", "parse_way"]

Way = SetWay | ExchangeWay | ModelWay
DEFAULT_WAYS = ("averages", "dm+averages", "real", "fedavg:1:3", "fedavg:20", "ensemble", "alone")
"""Ways that a run compares if none are named."""
_NAMED: Mapping[str, Way] = {
    "real": RealSets(), "averages": Averages(), "fedavg": FedAvg(), "fedprox": FedAvg(name="fedprox", proximal=0.01),
    "ensemble": Ensemble(), "equal-ensemble": Ensemble(name="equal-ensemble", weighted=False), "alone": NoMessages(),
}  # fmt: skip
_FEDD3 = "kip"
"""Method of ``fedd3``: kernel ridge regression on each client (Song et al. 2023, arXiv:2208.11311)."""


def parse_way(text: str, *, codec: str | None = None, **options: Any) -> Way:
    """Return a way by its name.

    Args:
        text: ``real``, ``averages``, ``ensemble``, ``equal-ensemble``, ``alone``, ``fedavg:ROUNDS[:EPOCHS]``;
            ``fedprox`` so; a method, from noise; a method with ``+averages``, from averages; ``fedd3``;
            ``feddm:ROUNDS``; or ``ensemble-labels[:WAY]``, where WAY sends sets. ``@CODEC`` fixes the codec.
        codec: of distilled sets without one of their own.
        options: fields of `DistilledSets` for all methods.

    Raises:
        PotstillError: there is no such way.
    """
    front, _, own = text.partition("@")
    name, _, number = front.partition(":")
    if own:
        parse_codec(own)
    if (way := _NAMED.get(name)) is not None:
        changed: dict[str, Any] = {"name": text, **({"codec": own} if own else {})}
        if isinstance(way, NoMessages) and own:
            raise PotstillError(f"way {text!r}: nothing is sent, so it has no codec; leave @{own} out")
        if number:
            numbers = number.split(":")
            if not isinstance(way, FedAvg) or len(numbers) > 2 or not all(n.isdigit() and int(n) > 0 for n in numbers):
                raise PotstillError(
                    f"way {text!r}: write fedavg:ROUNDS or fedavg:ROUNDS:EPOCHS, such as fedavg:20, or fedprox so"
                )
            changed |= dict(zip(("rounds", "epochs"), map(int, numbers), strict=False))
        return replace(way, **changed)  # type: ignore[type-var]
    shared = {"codec": own or codec, **options}
    if name == "fedd3" and not number:
        return DistilledSets(name=text, method=_FEDD3, **shared)
    if name == "feddm":
        if not number.isdigit() or int(number) < 1:
            raise PotstillError(f"way {text!r}: write feddm:ROUNDS, such as feddm:3")
        return FedDM(name=text, rounds=int(number), sets=DistilledSets(name="dm", method="dm", **shared))
    if name == "ensemble-labels":
        inner = parse_way(f"{number or 'dm'}{f'@{own}' if own else ''}", codec=codec, **options)
        if not isinstance(inner, SetWay):
            raise PotstillError(f"way {text!r}: an ensemble labels the sets of one message; write ensemble-labels:dm")
        return EnsembleLabels(name=text, sets=inner)
    method, plus, start = front.partition("+")
    if method not in names("methods") or (plus and start != "averages"):
        every = [*_NAMED, "fedd3", "feddm", "ensemble-labels", *names("methods")]
        raise PotstillError(f"no way {text!r}; {suggestion(method, every, 'ways and methods')}")
    if get_method_class(method).info.is_selection:
        raise PotstillError(f"way {text!r}: method {method} sends real samples; take real, or a method that distils")
    return DistilledSets(name=text, method=method, start=Averages() if plus else None, **shared)
