"""Messages as bytes: what a client hands to its network, and what a server makes of the answers of all.

A message is the file of a distilled set, without what a server has no use for: seconds, seeds and the hash of the data.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.augment.mix import join_labels
from potstill.codecs import encode_classes
from potstill.codecs.exact import Float as ExactFloat
from potstill.core import Source
from potstill.dataset_file import Distilled, Schema, concat, load
from potstill.dataset_file.load import validated_set
from potstill.dataset_file.normalization import is_same, to_float32
from potstill.dataset_file.packed_tensors import set_file
from potstill.dataset_file.payload_io import bytes_by_part
from potstill.errors import PotstillError
from potstill.uses.federated.messages import Message, as_message

__all__ = ["Collected", "collect", "decode_message", "encode_message", "merge_messages"]

_LEAST = "least_members"
_SENT = (
    "format", "method", "ipc", "classes", "task", "input", "normalization", "codec", "decoder", "bytes", "labels",
    "space", "versions",
)  # fmt: skip
"""Metadata that travel; of the rest, only empty values that the format requires."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The joined set of all clients that answered, and who did not."""

    merged: Distilled
    """All sets joined, over all classes, in the order of the clients' numbers."""
    x: Float[Tensor, "n ..."]
    """Its inputs in model space."""
    y: Tensor
    """Classes (n,), or rows over them where a client sent rows."""
    answered: tuple[int, ...]
    """Clients whose sets are in it."""
    silent: tuple[int, ...]
    """Clients that answered, but had too few samples or bytes for a set."""
    missing: tuple[int, ...]
    """Clients that did not answer."""
    refused: Mapping[int, str]
    """Clients whose message was damaged or of other data, and why."""
    uncovered: tuple[str, ...]
    """Classes of which no client sent an input."""
    up: int
    """Bytes of all messages as they travelled."""

    @property
    def summary(self) -> str:
        """One sentence: who answered, who did not, and which classes no input stands for."""
        total = len(self.answered) + len(self.silent) + len(self.missing) + len(self.refused)
        said = [f"{len(self.answered)} of {total} clients sent {len(self.x):,} inputs in {self.up:,} bytes"]
        for clients, words in ((self.silent, "had too little to send"), (self.missing, "did not answer")):
            if clients:
                said.append(f"client{'' if len(clients) == 1 else 's'} {', '.join(map(str, clients))} {words}")
        said += [f"client {client} was refused ({reason})" for client, reason in self.refused.items()]
        k = len(self.merged.classes)
        lacking = f", none of {', '.join(self.uncovered)}" if self.uncovered else ""
        return "; ".join([*said, f"inputs of {k - len(self.uncovered)} of {k} classes{lacking}"])


def encode_message(message: Message | None) -> bytes:
    """Return a message as bytes to send, a safetensors file; no bytes for ``None``, which says that there is no set.

    Raises:
        PotstillError: the message has no coded set.
    """
    if message is None:
        return b""
    if (coded := message.coded) is None:
        raise PotstillError("a message travels as its coded set, but this one has none; give `coded`, a Distilled")
    metadata = {name: coded.metadata[name] for name in _SENT if name in coded.metadata}
    metadata |= {"config": {}, "seed": 0, "training": {}, "source": {"name": "clients"}, "outcome": {}, "cost": {}}
    if message.least_members is not None:
        metadata[_LEAST] = message.least_members
    return b"".join(set_file(Path("the message"), coded.tensors, metadata)[1])


def decode_message(content: bytes, like: Source | Schema) -> Message | None:
    """Return the message of bytes that `encode_message` returned; ``None`` where the client had no set to send.

    Nothing in the bytes is trusted or run: they are checked as the file of a set from anybody.

    Args:
        content: the bytes.
        like: data with the classes, inputs and normalization that all clients share.

    Raises:
        PotstillError: they are damaged, no message, or of other data.
    """
    if not content:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "message"
        path.write_bytes(content)
        try:
            coded = load(path)
            _ = coded.record
        except PotstillError as error:
            reason = str(error).removeprefix(f"{path}: ").replace("get the file again", "let it be sent again")
            raise PotstillError(f"a message cannot be read: {reason}") from error
    coded.path = None
    least = coded.metadata.get(_LEAST)
    if least is not None and (type(least) is not int or least < 1):
        raise PotstillError("a message must say how many samples stand behind an input, 1 or more; send it again")
    strange = [name for name in coded.classes if name not in like.classes]
    if not coded.is_classification or strange:
        what = f"class {strange[0]!r}" if strange else f"task {coded.metadata['task']['name']!r}"
        raise PotstillError(f"a message has {what}, which the server's data have not; agree on the classes first")
    if coded.input != like.input:
        raise PotstillError("a message has inputs of other shape or kind than the server's data; agree on them first")
    if not is_same(coded.normalization, to_float32(like.normalization)):
        raise PotstillError("a message has another normalization than the server's data; agree on one first")
    return as_message(coded, [like.classes.index(name) for name in coded.classes], len(like.classes), least)


def merge_messages(messages: Sequence[Message], classes: Sequence[str]) -> Distilled:
    """Return the sets of messages as one, over all classes in their order; its inputs have the bits of the messages.

    Args:
        messages: one at least, each with a coded set.
        classes: names of all classes.

    Raises:
        PotstillError: there is no message, or one has no coded set.
    """
    if not messages:
        raise PotstillError("no client sent a set, so there is nothing to join; give more bytes or clients")
    sets = []
    for message in messages:
        if message.coded is None:
            raise PotstillError("a message is joined as its coded set, but one has none; give `coded`, a Distilled")
        sets.append(_over_all(message.coded, message.y, classes))
    return concat(sets)


def collect(answers: Mapping[int, bytes], like: Source | Schema, clients: Sequence[int] = ()) -> Collected:
    """Return what a server has of the answers of its clients, in the order of their numbers.

    A damaged message, one of other data, or a client that does not answer stops nothing: the result says so.

    Args:
        answers: bytes of `encode_message` by the number of the client.
        like: data with the classes, inputs and normalization that all clients share.
        clients: numbers of all clients that should answer. Default: those that did.

    Raises:
        PotstillError: not one set arrived whole.
    """
    messages: dict[int, Message] = {}
    silent, refused = [], {}
    for number in sorted(answers):
        try:
            message = decode_message(answers[number], like)
        except PotstillError as error:
            refused[number] = str(error)
            continue
        if message is None:
            silent.append(number)
        else:
            messages[number] = message
    missing = tuple(n for n in sorted(clients) if n not in answers)
    if not messages:
        why = next(iter(refused.values()), f"{len(silent)} had too little to send, {len(missing)} did not answer")
        raise PotstillError(f"no client sent a set that can be used: {why}")
    sent = list(messages.values())
    merged = merge_messages(sent, like.classes)
    y = join_labels([m.y for m in sent], len(like.classes))
    hard = y if y.ndim == 1 else y.argmax(1)
    present = set(hard.tolist())
    return Collected(
        merged=merged, x=torch.cat([m.x for m in sent]), y=y, answered=tuple(messages), silent=tuple(silent),
        missing=missing, refused=refused, up=sum(map(len, answers.values())),
        uncovered=tuple(name for c, name in enumerate(like.classes) if c not in present),
    )  # fmt: skip


def _over_all(coded: Distilled, y: Tensor, classes: Sequence[str]) -> Distilled:
    """Return a set with the same encoded inputs, whose labels are over all classes."""
    labels = encode_classes(y.cpu(), len(classes)) if y.ndim == 1 else ExactFloat().pack(y.cpu().float())
    tensors = {
        name: t for name, t in coded.tensors.items() if name.partition(".")[0] not in ("labels", "scores", "index")
    } | {f"labels{suffix}": t for suffix, t in labels.tensors.items()}  # fmt: skip
    described = {n: d for n, d in coded.metadata["codec"]["tensors"].items() if n not in ("labels", "scores", "index")}
    metadata: dict[str, Any] = {name: value for name, value in coded.metadata.items() if name not in ("labels", _LEAST)}
    metadata |= {
        "classes": list(classes), "task": {**metadata["task"], "k": len(classes)}, "bytes": bytes_by_part(tensors),
        "codec": {**metadata["codec"], "tensors": described | {"labels": dict(labels.metadata)}},
    }  # fmt: skip
    return validated_set(Path("a client's set"), metadata, tensors)
