"""Joining sets of one kind: other classes, or more items."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill.codecs import decode, encode_classes, encode_ints, encode_probabilities
from potstill.codecs.exact import Float
from potstill.core import Encoded, Normalization
from potstill.core.nested import named_tensors
from potstill.data.text_encoder import text_part
from potstill.dataset_file.dataset import Distilled, format_shape
from potstill.dataset_file.load import validated_set
from potstill.dataset_file.normalization import is_same, normalization_to_json, to_float32
from potstill.dataset_file.payload_io import bytes_by_part
from potstill.dataset_file.shared_decoders import decoder_parts
from potstill.dataset_file.target_io import encode_targets
from potstill.dataset_file.text_io import ENCODER, encode_texts, encoder_tensors
from potstill.dataset_file.validate import LEARNED_LR, WHITENING
from potstill.errors import PotstillError
from potstill.functional.packing import MOST_BITS
from potstill.tasks import PackedTargets, Retrieval, concat_targets
from potstill.tasks.similarity import join_similarities

__all__ = ["concat", "split_joined"]

_PROVENANCE = (
    "method", "config", "seed", "ipc", "classes", "source", "outcome", "cost", "training", "bytes", "versions",
)  # fmt: skip
_COMMON = ("network", "reading", "balance")
"""Optional keys of the metadata that stay where all sets have the same."""


def concat(sets: Sequence[Distilled], *, normalization: Normalization | None = None) -> Distilled:
    """Join sets of one kind: of other classes, or with more items of the same classes.

    Each set has its encoded inputs unchanged, and so its codec, its decoder and their bytes; ``metadata["parts"]`` has
    the provenance of each. Classes are those of the first set, then new ones of the others. Weights are divided by
    their mean in each set. The index of a selection stays where all sets select from the same source.

    Args:
        sets: the sets, at least one.
        normalization: normalization of the joined set. Default: that of all sets, which must be the same.

    Returns:
        The joined set.

    Raises:
        PotstillError: the sets differ in task, inputs or normalization, or a payload has no decoder.

    Examples:
        >>> data = potstill.load_data("digits")
        >>> sets = [potstill.distill(data, "random", ipc=1, seed=seed, progress=None) for seed in (0, 1)]
        >>> len(potstill.concat(sets))
        20
    """
    sets = list(sets)
    if not sets:
        raise PotstillError("concat needs at least one set, but the list is empty; give some")
    first = sets[0]
    for other in sets[1:]:
        _check_compatible(first, other)
    joined_normalization = first.normalization if normalization is None else to_float32(normalization)
    encoded: dict[str, Encoded] = {}
    decoders: list[dict[str, Any]] = []
    as_texts = _are_texts(sets)
    for distilled in () if as_texts else sets:
        for decoder, payload in _payload_parts(distilled):
            needs_same = normalization is None or decoder["space"] == "model" or distilled.normalization.whitening
            if needs_same and not is_same(distilled.normalization, joined_normalization):
                raise PotstillError(
                    "sets of different normalization cannot be joined; give that of the joined set, as in "
                    "concat(sets, normalization=sets[0].normalization), where their inputs are in data units"
                )
            encoded |= {f"payload/{len(decoders)}/{name}": tensor for name, tensor in payload.items()}
            decoders.append(decoder)
    classes = tuple(dict.fromkeys(name for s in sets for name in s.classes))
    encoded |= _encode_labels(sets, classes) | _encode_extras(sets)
    tensors = {f"{name}{suffix}": t for name, part in encoded.items() for suffix, t in part.tensors.items()}
    if (w := joined_normalization.whitening) is not None:
        tensors |= {f"whitening/{name}": getattr(w, name) for name in WHITENING}
    tensors |= encoder_tensors(first.encoder)
    described = {name: dict(part.metadata) for name, part in encoded.items()}
    about = _join_metadata(sets, classes)
    metadata = {
        **about,
        "normalization": normalization_to_json(joined_normalization),
        **({ENCODER: first.metadata[ENCODER]} if ENCODER in first.metadata else {}),
        "codec": {"name": _common([s.metadata["codec"]["name"] for s in sets], "mixed"), "tensors": described},
        "decoder": None if as_texts else {"parts": decoders},
        "bytes": bytes_by_part(tensors, about),
    }
    joined = validated_set(Path("the joined set"), metadata, tensors)
    joined.record = _join_records(sets)
    joined.files = tuple(dict.fromkeys(file for s in sets for file in (*s.files, *([str(s.path)] if s.path else []))))
    return joined


def split_joined(distilled: Distilled) -> list[Distilled]:
    """Return the sets that `concat` joined, each with its encoded inputs and the classes of its own items.

    Provenance of all of them is that of the joined set; weights and tensors of a method are of no part alone.

    Raises:
        PotstillError: the set was not joined, or its labels are no classes.
    """
    described = distilled.metadata.get("decoder")
    if not isinstance(described, dict) or "parts" not in described:
        raise PotstillError("only a set that was joined from others has parts; this one was made as a whole")
    if not distilled.is_classification or distilled.has_soft_labels:
        raise PotstillError("only sets with classes as labels can be divided into the sets that they were joined from")
    parts, first = [], 0
    for decoder, payload in _payload_parts(distilled):
        items = decoder["items"]
        labels = distilled.labels[first : first + items]
        first += items
        own = torch.unique(labels)
        encoded = {f"payload/{name}": part for name, part in payload.items()}
        encoded["labels"] = encode_classes(torch.searchsorted(own, labels), len(own))
        tensors = {f"{name}{suffix}": t for name, part in encoded.items() for suffix, t in part.tensors.items()}
        if (w := distilled.normalization.whitening) is not None:
            tensors |= {f"whitening/{name}": getattr(w, name) for name in WHITENING}
        names = [distilled.classes[c] for c in own.tolist()]
        metadata = {
            **{name: value for name, value in distilled.metadata.items() if name != "parts"},
            "classes": names,
            "task": {**distilled.metadata["task"], "k": len(names)},
            "codec": {
                "name": distilled.metadata["codec"]["name"],
                "tensors": {name: dict(part.metadata) for name, part in encoded.items()},
            },
            "decoder": {name: value for name, value in decoder.items() if name != "items"},
            "bytes": bytes_by_part(tensors, {**distilled.metadata, "classes": names}),
        }
        parts.append(validated_set(Path("a part of the set"), metadata, tensors))
    return parts


def _check_compatible(first: Distilled, other: Distilled) -> None:
    task, other_task = ({**s.metadata["task"], "k": 0} for s in (first, other))
    if task != other_task:
        names = f"{first.metadata['task']['name']} and {other.metadata['task']['name']}"
        raise PotstillError(f"sets of different tasks cannot be joined: {names}, or of other settings")
    if first.input != other.input:
        kinds = " and ".join(f"{s.input.kind} {format_shape(s.input)} ({s.input.units})" for s in (first, other))
        raise PotstillError(f"sets of different inputs cannot be joined: {kinds}, or of other columns")
    if first.labeller is not None or other.labeller is not None:
        raise PotstillError(
            "a set with a labeller cannot be joined, as its network is of its own classes; make one set of all data, "
            "or leave labels network out"
        )
    if (first.scores is None) != (other.scores is None) or (
        first.scores is not None and first.classes != other.classes
    ):
        raise PotstillError("scores are joined with scores of the same classes alone; give such sets")


def _are_texts(sets: Sequence[Distilled]) -> bool:
    """Return whether all sets are written as texts.

    Raises:
        PotstillError: some are and others are not, or their encoders differ.
    """
    written = [s.metadata["codec"]["name"].partition(":")[0] == "texts" for s in sets]
    if any(s.encoder != sets[0].encoder or s.metadata.get(ENCODER) != sets[0].metadata.get(ENCODER) for s in sets):
        raise PotstillError("sets of texts with different encoders cannot be joined; make them of one training part")
    if any(written) and not all(written):
        raise PotstillError("a set of texts and one of vectors cannot be joined; write all with one codec")
    return all(written)


def _payload_parts(distilled: Distilled) -> Iterator[tuple[dict[str, Any], dict[str, Encoded]]]:
    """Yield the decoders of a set with their encoded payloads; stored inputs are a payload of ``pixels``."""
    metadata, n = distilled.metadata, len(distilled)
    encoded = {
        name: Encoded(
            {
                t.removeprefix(name): value
                for t, value in distilled.tensors.items()
                if t == name or t.startswith(f"{name}.")
            },
            description,
        )
        for name, description in metadata["codec"]["tensors"].items()
    }
    if distilled.payload:
        if metadata.get("decoder") is None:
            raise PotstillError("a payload that no parametrization decodes cannot be joined; export its inputs")
        for prefix, decoder, items in decoder_parts(metadata["decoder"], n):
            start = f"payload/{prefix}"
            payload = {name.removeprefix(start): e for name, e in encoded.items() if name.startswith(start)}
            own = {name: value for name, value in decoder.items() if name != "targets"}  # a joined file has them beside
            yield {**own, "items": items}, payload
        return
    if metadata["codec"].get("assets"):
        raise PotstillError("inputs that their codec decodes by an asset cannot be joined; write the set as float32")
    normalised = metadata["codec"].get("normalised", False)
    if normalised and (
        distilled.normalization.whitening is not None
        or (isinstance(normalised, list) and set(normalised) != set(distilled.normalization.parts))
    ):
        raise PotstillError("inputs in units of their own cannot be joined; write the set with codec float32")
    payload = {
        name.removeprefix("inputs/"): e for name, e in encoded.items() if name == "inputs" or name.startswith("inputs/")
    }
    if (text := text_part(distilled.input)) and text not in payload:  # its captions become vectors
        x = named_tensors(distilled.inputs)[text]
        payload[text] = Float().pack(distilled.normalization.parts[text].apply(x) if normalised else x)
    yield {"parametrization": "pixels", "space": "model" if normalised else "data", "items": n}, payload


def _encode_labels(sets: Sequence[Distilled], classes: Sequence[str]) -> dict[str, Encoded]:
    first = sets[0]
    if first.scores is not None:
        return {"scores": Float().pack(torch.cat([s.scores for s in sets if s.scores is not None]))}
    if first.has_ragged_targets:
        return encode_targets(concat_targets([s.labels for s in sets]), None, Float(), first.task)
    if isinstance(first.task, PackedTargets):
        return encode_targets(torch.cat([s.labels for s in sets]), None, Float(), first.task)
    if not first.is_classification:
        if any(s.labels.is_floating_point() != first.labels.is_floating_point() for s in sets):
            raise PotstillError("pairs with a learned similarity are joined with such pairs alone; give such sets")
        if isinstance(first.task, Retrieval) and first.labels.is_floating_point():
            return {"labels": Float().pack(join_similarities([s.labels for s in sets]))}
        if first.labels.is_floating_point():
            return {"labels": Float().pack(torch.cat([s.labels for s in sets]))}
        pairs, offset = [], 0
        for s in sets:  # numbers of pairs: those of the next set come after them
            pairs.append(s.labels + offset)
            offset += int(s.labels.max()) + 1
        return {"labels": encode_ints(torch.cat(pairs))}
    columns = [torch.tensor([classes.index(name) for name in s.classes]) for s in sets]
    if not any(s.has_soft_labels for s in sets):
        labels = torch.cat([c[s.labels] for s, c in zip(sets, columns, strict=True)])
        return {"labels": encode_classes(labels, len(classes))}
    rows = torch.cat([_to_rows(s, c, len(classes)) for s, c in zip(sets, columns, strict=True)])
    bits = max(s.metadata["codec"]["tensors"]["labels"].get("bits", 32) for s in sets if s.has_soft_labels)
    compact = encode_probabilities(rows, bits if bits <= MOST_BITS else 32)
    return {"labels": compact if torch.equal(decode(compact), rows) else Float().pack(rows)}


def _to_rows(distilled: Distilled, columns: Tensor, k: int) -> Tensor:
    """Return labels as probability rows (n, k) over the joined classes."""
    rows = torch.zeros(len(distilled), k)
    if distilled.has_soft_labels:
        rows[:, columns] = distilled.labels
    else:
        rows[torch.arange(len(distilled)), columns[distilled.labels]] = 1
    return rows


def _encode_extras(sets: Sequence[Distilled]) -> dict[str, Encoded]:
    """Encode index, weights, captions and learned tensors."""
    encoded: dict[str, Encoded] = {}
    index = [s.index for s in sets if s.index is not None]
    if len(index) == len(sets) and len({s.metadata["source"].get("hash") for s in sets}) == 1:
        encoded["index"] = encode_ints(torch.cat(index))
    if any(s.weights is not None for s in sets):
        weights = [torch.ones(len(s)) if s.sample_weight is None else s.sample_weight for s in sets]
        encoded["weights"] = Float().pack(torch.cat(weights))
    if any(s.captions for s in sets):
        encoded |= encode_texts([text for s in sets for text in (s.captions or ("",) * len(s))])
    for name, tensor in _common_learned(sets).items():
        encoded[f"learned/{name}"] = Float().pack(tensor)
    return encoded


def _common_learned(sets: Sequence[Distilled]) -> Mapping[str, Tensor]:
    return {
        name: tensor
        for name, tensor in sets[0].learned.items()
        if all(name in s.learned and torch.equal(s.learned[name], tensor) for s in sets)
    }


def _join_metadata(sets: Sequence[Distilled], classes: Sequence[str]) -> dict[str, Any]:
    first, cards = sets[0].metadata, [s.metadata for s in sets]
    hard = torch.cat([_joined_classes(s, classes) for s in sets])
    training = {name: v for name, v in first["training"].items() if all(c["training"].get(name) == v for c in cards)}
    if LEARNED_LR not in _common_learned(sets):
        training.pop("learned_lr", None)
    spaces = [card.get("space", "raw") for card in cards]
    hashes = [str(card["source"].get("hash")) for card in cards]
    devices = [card["cost"]["device"] for card in cards if "device" in card["cost"]]
    source = {
        "name": " + ".join(dict.fromkeys(str(card["source"].get("name")) for card in cards)),
        "samples": sum(card["source"].get("samples", 0) for card in cards),
        "hash": "joined:" + hashlib.sha256("\0".join(hashes).encode()).hexdigest(),
    }
    return {
        **{name: first[name] for name in _COMMON if name in first and all(c.get(name) == first[name] for c in cards)},
        **{name: first[name] for name in ("format", "input", "versions")},
        **({"labels": first["labels"]} if "labels" in first else {}),
        "method": "+".join(dict.fromkeys(card["method"] for card in cards)),
        "config": _common([card["config"] for card in cards], {}),
        "seed": first["seed"],
        "ipc": int(torch.bincount(hard).max()),
        "classes": list(classes),
        "task": {**first["task"], **({"k": len(classes)} if "k" in first["task"] else {})},
        "training": training,
        "source": first["source"] if len(set(hashes)) == 1 else source,
        "outcome": {"kind": "joined", "message": f"joined from {len(sets)} sets"},
        "cost": {
            name: sum(card["cost"].get(name, 0) for card in cards)
            for name in ("seconds", "steps")
            if all(name in card["cost"] for card in cards)
        }
        | ({"device": _common(devices, "mixed")} if len(devices) == len(cards) else {}),
        "space": _common(spaces, "unclamped" if "unclamped" in spaces else "raw"),
        "parts": [
            {name: s.metadata[name] for name in _PROVENANCE}
            | {"items": len(s), "codec": s.metadata["codec"]["name"], "selection": s.is_selection}
            for s in sets
        ],
    }


def _join_records(sets: Sequence[Distilled]) -> dict[str, Any]:
    """Return the notes of all sets, and the record of each."""
    notes = list(dict.fromkeys(note for s in sets for note in s.notes))
    records = [s.record for s in sets]
    return {**({"source": {"notes": notes}} if notes else {}), **({"records": records} if any(records) else {})}


def _joined_classes(distilled: Distilled, classes: Sequence[str]) -> Tensor:
    if not distilled.is_classification:
        return distilled.hard_labels
    return torch.tensor([classes.index(name) for name in distilled.classes])[distilled.hard_labels]


def _common(values: Sequence[Any], default: Any) -> Any:
    return values[0] if all(value == values[0] for value in values) else default
