"""Croissant 1.1 metadata (JSON-LD) of a published set, with its vocabulary for responsible AI.

Made from the set's metadata and the schema of its rows alone: nothing about consent, demographics or maintenance.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from potstill._util.html import plain_line
from potstill._util.privacy_words import describe_privacy, privacy_claim
from potstill.dataset_file.dataset import Distilled

__all__ = ["croissant"]

_VALUES = {"float32": "sc:Float", "int64": "sc:Integer", "string": "sc:Text"}
_CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "arrayShape": "cr:arrayShape", "citeAs": "cr:citeAs",
    "column": "cr:column", "conformsTo": "dct:conformsTo", "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"}, "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileObject": "cr:fileObject", "fileProperty": "cr:fileProperty", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isArray": "cr:isArray", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "name": {"@container": "@language"}, "parentField": "cr:parentField",
    "path": "cr:path", "prov": "http://www.w3.org/ns/prov#", "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "samplingRate": "cr:samplingRate", "sc": "https://schema.org/",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip


def croissant(
    distilled: Distilled, columns: Mapping[str, Mapping[str, Any]], files: Mapping[str, bytes], license: str | None
) -> dict[str, Any]:
    """Return the JSON-LD of a set in files.

    Args:
        columns: Hugging Face features of the rows by name (``{"dtype": "float32", "_type": "Value"}``).
        files: content by path, the Parquet file of the rows first.
        license: identifier of the licence; ``None``: not stated.
    """
    card, n = distilled.metadata, len(distilled)
    source, method = plain_line(card["source"].get("name")), plain_line(card["method"])
    chosen = distilled.is_selection
    made = f"{n:,} real samples of {source}, chosen by" if chosen else f"{n:,} synthetic inputs, made of {source} by"
    version = str(card["versions"].get("potstill", "?"))
    (rows, *_) = files
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": f"{source} distilled by {method}",
        "description": f"{made} {method}, to train on in place of its {card['source'].get('samples', 0):,} samples.",
        "version": "1.0.0",
        "keywords": ["dataset distillation", "coreset" if chosen else "synthetic"],
        **({} if license is None else {"license": license}),
        "prov:wasDerivedFrom": {
            "@type": "prov:Entity", "prov:label": source, "sc:identifier": plain_line(card["source"].get("hash")),
        },
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": f"{method}, seed {card['seed']}",
            "sc:description": json.dumps(card["config"], sort_keys=True),
            "prov:wasAssociatedWith": {"@type": "prov:SoftwareAgent", "prov:label": f"potstill {version}"},
        },
        **_responsible_ai(distilled, source, method),
        "distribution": [_file(path, content) for path, content in files.items()],
        "recordSet": [*_classes(distilled.classes), _record_set(rows, columns, distilled)],
    }  # fmt: skip


def _responsible_ai(distilled: Distilled, source: str, method: str) -> dict[str, Any]:
    """Return the fields of the RAI vocabulary that the metadata answer."""
    card = distilled.metadata
    n = card["normalization"]
    if distilled.is_selection:
        collected = f"Samples of {source}, chosen by {method}; what holds for how that was collected holds here."
        sensitive = f"Whatever {source} holds of persons: these are samples of it."
    else:
        collected = f"Inputs optimised or computed by {method} from {source}; none was observed."
        sensitive = f"What {source} holds of persons may show in it; no privacy is promised."
        if privacy_claim(card) is not None:
            sensitive = f"Differential privacy of one record of {source}: {plain_line(describe_privacy(card))}."
    prepared = f"Inputs are in data units ({plain_line(distilled.input.units)})."
    if not distilled.input.parts:
        mean, std = _format_values(n["mean"]), _format_values(n["std"])
        prepared += f" Students were shown (x - mean) / std with mean {mean} and std {std}"
        prepared += ", then whitened." if n["whitening"] else "."
    labels = (
        "classes of the source" if not distilled.has_soft_labels else "rows of probabilities, of a network or learned"
    )
    return {
        "rai:dataCollection": collected,
        "rai:dataCollectionType": ["Secondary Data Analysis" if distilled.is_selection else "Software Collection"],
        "rai:dataPreprocessingProtocol": [prepared],
        "rai:dataAnnotationProtocol": f"Labels are {labels if distilled.is_classification else 'targets of the task'}.",
        "rai:dataUseCases": [f"Training models of the task of {source} on few rows; not testing, nor its statistics."],
        "rai:dataLimitations": [
            f"Made for students of the network {plain_line(card.get('network', 'not said'))}; others may learn less of "
            "it. As many bytes of real samples may serve as well: potstill evaluate measures it."
        ],
        "rai:dataBiases": [f"Those of {source}; rare cases are the first that so few rows leave out."],
        "rai:personalSensitiveInformation": [sensitive],
    }


def _format_values(values: Sequence[float]) -> str:
    return ", ".join(f"{v:.6g}" for v in values[:8]) + (", …" if len(values) > 8 else "")


def _file(path: str, content: bytes) -> dict[str, Any]:
    kind = "application/x-parquet" if path.endswith(".parquet") else "application/octet-stream"
    return {
        "@type": "cr:FileObject", "@id": path, "name": path, "contentUrl": path, "contentSize": f"{len(content)} B",
        "encodingFormat": kind, "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip


def _classes(classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the enumeration of class names; empty where there are no classes."""
    if not classes:
        return []
    fields = [
        {"@type": "cr:Field", "@id": f"classes/{name}", "name": f"classes/{name}", "dataType": kind}
        for name, kind in (("number", "sc:Integer"), ("name", "sc:Text"))
    ]
    data = [{"classes/number": c, "classes/name": plain_line(name)} for c, name in enumerate(classes)]
    return [
        {
            "@type": "cr:RecordSet", "@id": "classes", "name": "classes", "dataType": "sc:Enumeration",
            "key": {"@id": "classes/number"}, "field": fields, "data": data,
        }
    ]  # fmt: skip


def _record_set(rows: str, columns: Mapping[str, Mapping[str, Any]], distilled: Distilled) -> dict[str, Any]:
    descriptions = {
        "input": "What is learned from, in data units.", "image": "The input as people see it, in 8 bits.",
        "label": "The class, or the likeliest of soft_label.", "soft_label": "Probabilities of the classes.",
        "weight": "A factor of the row's loss, in the method's own units.", "target": "What is to be predicted.",
    }  # fmt: skip
    ids: list[str] = []
    for n, name in enumerate(columns):  # an @id is a part of a URL
        safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
        ids.append(safe if safe == name and safe not in ids else f"{n}_{safe}")
    fields = [
        _field(rows, id, name, column, descriptions.get(name, "A value of the input."))
        for id, (name, column) in zip(ids, columns.items(), strict=True)
    ]
    return {
        "@type": "cr:RecordSet", "@id": "train", "name": "train", "field": fields,
        "description": f"The {len(distilled):,} rows to train on.",
    }  # fmt: skip


def _field(rows: str, id: str, name: str, column: Mapping[str, Any], description: str) -> dict[str, Any]:
    kind = column.get("_type", "Value")
    source: dict[str, Any] = {"fileObject": {"@id": rows}, "extract": {"column": name}}
    shaped: dict[str, Any] = {}
    value = "sc:Integer" if kind == "ClassLabel" else _VALUES.get(str(column.get("dtype")), "sc:Text")
    if kind == "Image":
        value, source["transform"] = "sc:ImageObject", {"jsonPath": "bytes"}
    elif kind == "Sequence":
        value, shaped = _VALUES[column["feature"]["dtype"]], {"isArray": True, "arrayShape": "-1"}
    elif kind.startswith("Array"):
        shaped = {"isArray": True, "arrayShape": ",".join(map(str, column["shape"]))}
    return {
        "@type": "cr:Field", "@id": f"train/{id}", "name": f"train/{plain_line(name)}", "description": description,
        "dataType": value, **shaped, "source": source,
    }  # fmt: skip
