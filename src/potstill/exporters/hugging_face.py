"""A distilled set as a Hugging Face data set: a folder that ``datasets.load_dataset`` reads, or a repository of the
Hub.

``data/train-*.parquet`` has a row for each decoded input in data units, ``distilled.safetensors`` is the set itself
(with ``distilled.history.json``, the record of its run), ``README.md`` the dataset card with a program that trains on
the rows, ``croissant.json`` the same for machines.
"""

import html
import io
import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill._util.card import shared_decoder_bytes
from potstill._util.html import plain_line
from potstill._util.optional import import_optional
from potstill._util.outputs import history_path
from potstill._util.preset_words import describe_preset
from potstill._util.privacy_words import describe_privacy, privacy_claim
from potstill.dataset_file.dataset import Distilled, format_shape
from potstill.dataset_file.files import write_atomic
from potstill.dataset_file.folders import write_folder
from potstill.errors import PotstillError
from potstill.exporters.croissant import croissant
from potstill.exporters.formats import LABEL_COLUMNS, to_arrow
from potstill.exporters.paths import without_folders

__all__ = ["CROISSANT_FILE", "PARQUET_FILE", "SET_FILE", "push_to_hub", "to_hf"]

PARQUET_FILE = "data/train-00000-of-00001.parquet"
SET_FILE = "distilled.safetensors"
CROISSANT_FILE = "croissant.json"
_SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)  # fmt: skip
_TASKS = {
    ("classification", "image"): "image-classification", ("classification", "table"): "tabular-classification",
    ("classification", "sound"): "audio-classification",
    ("regression", "table"): "tabular-regression", ("forecast", "series"): "time-series-forecasting",
}  # fmt: skip


def to_hf(distilled: Distilled, path: str | Path, *, license: str | None = None) -> Path:
    """Write the set as a Hugging Face data set into a new folder, and return its path.

    Columns are those of ``export(distilled, "parquet", …)``, but inputs of several axes keep their shape: ``input``
    (float32, data units), for images also ``image`` (8 bits), ``label``, ``soft_label``, ``weight``.

    Args:
        license: an identifier of the Hub such as ``cc-by-4.0``, usually that of the source.

    Raises:
        PotstillError: the path is taken or cannot be written.
    """
    path = Path(path)
    rows = json.dumps(f"./{path.resolve().name}")
    place = _Place(rows, f'{rows[:-1]}/{SET_FILE}"')
    write_folder(path, lambda folder: _write_files(folder, distilled, license, place))
    return path


@dataclass(frozen=True)
class _Place:
    """Python expressions of the rows and of the set's file."""

    rows: str
    set_file: str


def push_to_hub(
    distilled: Distilled, repo: str, *, license: str | None = None, private: bool = True, token: str | None = None,
    api: Any = None,
) -> str:  # fmt: skip
    """Publish the folder of `to_hf` as the data set ``repo`` (``USER/NAME``) of the Hub, and return its address.

    Args:
        license: an identifier of the Hub; required for a public set.
        token: of the Hub; by default that of ``hf auth login``.
        api: client of the Hub; by default ``huggingface_hub.HfApi``.

    Raises:
        PotstillError: a public set has no licence, or the Hub refuses or cannot be reached.
    """
    if license is None and not private:
        raise PotstillError(
            f"{repo}: a public set needs a licence, usually that of the data it was made of; give one of the Hub's "
            "identifiers, such as license='cc-by-4.0', or private=True"
        )
    api = import_optional("huggingface_hub", "publishing to the Hub", "hub").HfApi(token=token) if api is None else api
    with tempfile.TemporaryDirectory() as room:
        name = json.dumps(repo)
        place = _Place(name, f'hf_hub_download({name}, "{SET_FILE}", repo_type="dataset")')
        write_folder(folder := Path(room, "set"), lambda new: _write_files(new, distilled, license, place))
        try:
            address = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repo, repo_type="dataset", folder_path=str(folder),
                commit_message=f"Add a set of {len(distilled):,} inputs, made by potstill",
            )  # fmt: skip
        except Exception as error:  # errors of the client and its libraries have no common class
            line = " ".join(str(error).split())[:200]
            raise PotstillError(
                f"{repo}: not published ({type(error).__name__}: {line}); see to its name, network and `hf auth login`"
            ) from error
    return str(address)


def _write_files(folder: Path, distilled: Distilled, license: str | None, place: _Place) -> None:
    import pyarrow.parquet as pq

    distilled = without_folders(distilled)
    table, buffer = to_arrow(distilled, shaped=True), io.BytesIO()
    pq.write_table(table, buffer)
    (folder / PARQUET_FILE).parent.mkdir()
    write_atomic(folder / PARQUET_FILE, buffer.getvalue())
    distilled.save(folder / SET_FILE)
    columns = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    written = [path for path in (folder / SET_FILE, history_path(folder / SET_FILE)) if path.exists()]
    files = {PARQUET_FILE: buffer.getvalue(), **{path.name: path.read_bytes() for path in written}}
    about = json.dumps(croissant(distilled, columns, files, license), indent=1)
    write_atomic(folder / CROISSANT_FILE, about.encode())
    page = f"---\n{_header(distilled, license)}---\n\n{_page(distilled, table.column_names, license, place)}"
    write_atomic(folder / "README.md", page.encode())


def _escape(value: object) -> str:
    """Escape text of a stranger for Markdown."""
    return re.sub(r"([\\`*_|~$\[\]])", r"\\\1", html.escape(plain_line(value), quote=False))


def _header(distilled: Distilled, license: str | None) -> str:
    """Return the YAML header of the dataset card."""
    import yaml  # only where a card is written

    card, n = distilled.metadata, len(distilled)
    kind = "coreset" if distilled.is_selection else "synthetic"
    header: dict[str, Any] = {
        "pretty_name": f"{plain_line(card['source'].get('name'))} distilled by {plain_line(card['method'])}"
    }
    if license is not None:
        header["license"] = license
    if (task := _TASKS.get((_task(card), distilled.input.kind))) is not None:
        header["task_categories"] = [task]
    header |= {
        "tags": ["dataset-distillation", kind, "potstill"],
        "size_categories": [next((word for most, word in _SIZES if n < most), "n>10M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    }
    return yaml.safe_dump(header, sort_keys=False, allow_unicode=False, width=120)


def _task(card: Mapping[str, Any]) -> str:
    return str(card.get("task", {"name": "classification"})["name"])


def _page(distilled: Distilled, columns: Sequence[str], license: str | None, place: _Place) -> str:
    card = distilled.metadata
    source, name = card["source"], _escape(card["source"].get("name"))
    method, n = _code(card["method"]), f"{len(distilled):,}"
    if distilled.is_selection:
        what, traces = f"{n} real samples, chosen from {name} by {method}", "its rows are samples of the source"
    else:
        what, traces = f"{n} synthetic inputs, made of {name} by {method}", "what it was made of may show in it"
    terms = "No licence is stated; that of the source holds." if license is None else f"Licence: {_escape(license)}."
    rows = "\n".join(f"| {head} | {value} |" for head, value in _facts(distilled))
    program = _program(distilled, columns, place)
    return f"""# {name}, distilled

{what}, to train on in place of the {source.get("samples", 0):,} that they stand for. {terms}

| | |
|---|---|
{rows}

## Train on it

{program}
`{SET_FILE}` is the same set with its whole card in one file: `potstill.load("{SET_FILE}")`, or `safetensors` alone.

## What not to believe

- It was made to train models of one kind on one task. Nothing says that it serves for another, for tests, or for
  statistics of the data that it was made of.
- {_privacy(card, traces)}
- Whatever is unfair or wrong in the source may be so here, and rare cases are the first that so few rows leave out.
- Compare it with as many bytes of real samples: `potstill evaluate {SET_FILE} --data DATA` does.
"""


def _privacy(card: Mapping[str, Any], traces: str) -> str:
    if privacy_claim(card) is None:
        return f"It promises no privacy: {traces}."
    return (
        f"It is differentially private with {_escape(describe_privacy(card))}; that covers the file, and no other use."
    )


def _facts(distilled: Distilled) -> Iterable[tuple[str, str]]:
    card, cost = distilled.metadata, distilled.metadata.get("cost", {})
    source, stored = card["source"], card.get("codec", {})
    yield (
        "Source",
        f"{_escape(source.get('name'))}, {source.get('samples', 0):,} samples, hash {_code(source.get('hash'))}",
    )
    yield "Method", f"{_code(card['method'])}, seed {card['seed']}"
    settings = ", ".join(f"{name} {json.dumps(value)}" for name, value in sorted(card["config"].items()))
    if card.get("preset"):
        yield "Preset", _escape(describe_preset(card["preset"], card["config"], card["outcome"]))
    yield "Settings", _escape(settings) or "none"
    yield "Inputs", f"{len(distilled):,} of {_escape(format_shape(distilled.input))} ({_escape(distilled.input.units)})"
    if distilled.is_classification:
        yield (
            "Classes",
            f"{len(distilled.classes):,}: {_escape(', '.join(distilled.classes[:20]))}"
            + (", …" if len(distilled.classes) > 20 else ""),
        )
        yield "Labels", "rows of probabilities" if distilled.has_soft_labels else "classes"
    else:
        yield "Task", _escape(_task(card))
    if distilled.weights is not None:
        yield "Weights", "a factor of each row's loss, in the method's own units"
    size = card["bytes"]
    parts = ", ".join(f"{name} {size[name]:,}" for name in ("inputs", "labels", "decoder") if size.get(name))
    yield "Bytes", f"{size['total']:,} ({parts}), as {_code(stored.get('name', 'float32'))}"
    if shared := shared_decoder_bytes(card):
        yield "Decoder", f"{shared:,} bytes more, in a file of its own that other sets may share"
    yield "Values", _escape(card.get("space", card["input"].get("units", "")))
    learned = card["training"].get("learned_lr")
    if learned is not None:
        yield "Learned rate", _escape(learned)
    yield "Trained with", _escape(", ".join(f"{n} {v}" for n, v in sorted(card["training"].items()))) or "not said"
    if {"steps", "seconds"} <= cost.keys():
        yield "Cost", f"{cost['steps']:,} steps, {cost['seconds']:,.1f} s on {_escape(cost.get('device', '?'))}"
    yield "Outcome", _escape(card["outcome"].get("message"))
    yield "Made with", _escape(", ".join(f"{n} {v}" for n, v in card["versions"].items()))
    for note in distilled.notes:
        yield "Note", _escape(note)


def _code(value: object) -> str:
    """Quote text of a stranger in backticks."""
    return "`" + plain_line(value).replace("`", "'").replace("|", "¦") + "`"


def _program(distilled: Distilled, columns: Sequence[str], place: _Place) -> str:
    """Return a program that trains on the folder without Potstill, as a block of code."""
    spec, soft = distilled.input, distilled.has_soft_labels
    load = f'rows = load_dataset({place.rows}, split="train").with_format("torch")'
    if spec.parts or not (distilled.is_classification or distilled.labels.numel() == len(distilled)):
        return f"```python\nfrom datasets import load_dataset\n\n{load}\n```\n\n"
    values = [name for name in columns if name not in LABEL_COLUMNS and name != "image"]
    if values == ["input"]:
        taken = 'rows["input"]' + ("" if _keeps_shape(distilled) else f".view(-1, {', '.join(map(str, spec.shape))})")
    else:
        taken = "torch.stack([rows[c] for c in columns], 1)"
    lines = ["import torch", "from datasets import load_dataset", ""]
    lines += [f"{load}[:]"]
    if values != ["input"]:
        lines += [f"columns = [c for c in rows if c not in {sorted(LABEL_COLUMNS | {'image'})}]"]
    lines += _prepare_lines(distilled, place)
    target = "soft_label" if soft else "label" if distilled.is_classification else "target"
    lines += [f'x, y = prepare({taken}), rows["{target}"]']
    layers = ["Flatten()", f"Linear({spec.num_values}, 128)", "ReLU()", f"Linear(128, {len(distilled.classes) or 1})"]
    lines += [
        f"model = torch.nn.Sequential({', '.join(f'torch.nn.{layer}' for layer in layers)})",
        "optimiser = torch.optim.Adam(model.parameters(), lr=0.01)",
        "for _ in range(200):",
    ]
    if distilled.is_classification:
        called = "torch.nn.functional.cross_entropy(model(x), y"
    else:
        called = "torch.nn.functional.mse_loss(model(x).squeeze(1), y"
    if distilled.weights is None:
        lines += [f"    loss = {called})"]
    else:
        lines += [f'    loss = ({called}, reduction="none") * rows["weight"]).sum() / rows["weight"].sum()']
    lines += ["    optimiser.zero_grad()", "    loss.backward()", "    optimiser.step()"]
    return (
        "```python\n"
        + "\n".join(lines)
        + "\n```\n\n`prepare` whatever the model is to answer, too: rows are in data units.\n"
    )


def _keeps_shape(distilled: Distilled) -> bool:
    return 2 <= len(distilled.input.shape) <= 5


def _prepare_lines(distilled: Distilled, place: _Place) -> list[str]:
    """Return the lines of a function ``prepare`` that normalises inputs as students see them."""
    n = distilled.normalization
    view = ", ".join(map(str, [-1, *[1] * (len(distilled.input.shape) - 1)]))
    mean, std = (f"torch.tensor({[round(float(v), 9) for v in values]}).view({view})" for values in (n.mean, n.std))
    if n.whitening is None:
        return [f"prepare = lambda x: (x - {mean}) / {std}"]
    return [
        *(["from huggingface_hub import hf_hub_download"] if place.set_file.startswith("hf_hub") else []),
        "from safetensors.torch import load_file",
        f"white = load_file({place.set_file})",
        "def prepare(x):",
        f"    u = ((x - {mean}) / {std}).flatten(1)",
        *(["    u = torch.nn.functional.normalize(u - u.mean(1, keepdim=True))"] if n.whitening.unit_norm else []),
        '    return ((u - white["whitening/mean"]) @ white["whitening/matrix"]).view(x.shape)',
    ]
