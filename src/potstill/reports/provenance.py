"""Sections of a page about storage, cost and provenance of one distilled set."""

from collections.abc import Callable, Mapping
from typing import Any

from potstill._util.card import shared_decoder_bytes
from potstill._util.html import Html, join_html, tag
from potstill._util.preset_words import describe_preset, recipe_name
from potstill._util.privacy_words import describe_coverage, describe_privacy
from potstill.reports.entry import Entry
from potstill.reports.figures import bar
from potstill.reports.numbers import format_count, format_duration, format_percent, format_size, to_number
from potstill.reports.tables import note, row, size_value, table

__all__ = ["commands", "provenance", "storage"]


_PARTS = {"index": "Positions in the real data", "captions": "Texts", "encoder": "Encoder of texts"}
"""Names of parts of a set that are not their keys."""


def storage(entry: Entry) -> list[Html] | None:
    held = entry.card_section("bytes") or entry.scorecard_section("bytes")
    cost = entry.card_section("cost")
    total = to_number(held.get("total"))
    out: list[Html] = []
    if total is not None:
        real, basis = _source_bytes(entry)
        rows = {
            _PARTS.get(key, key.capitalize()): to_number(size)
            for key, size in held.items()
            if key not in ("total", "names")
        }
        rows["Total"] = total
        rows["Names in its header, which real data need, too"] = to_number(held.get("names"))
        if shared := shared_decoder_bytes(entry.card):
            rows["What it decodes by, in a file of its own"] = float(shared)
            rows["Total with what it decodes by"] = total + shared
        if entry.file_bytes is not None:
            rows["The file, with its metadata"] = float(entry.file_bytes)
        rows[f"All real data ({basis})"] = real
        body = [
            row(name, size_value(size), class_="own" if name == "Total" else None)
            for name, size in rows.items()
            if size is not None
        ]
        out.append(tag("p", "Everything that training on the set needs, as stored.", class_="soft"))
        if shared:
            out.append(note(_compared(entry, shared)))
        if real is not None:
            smaller = f"The set takes {100 * total / real:.3g}% of the bytes of the real data ({basis})."
            out += [tag("div", bar(total / real, is_own=True, height=12), class_="stack"), note(smaller)]
        out.append(table("Stored bytes", ("Part", "Bytes"), body, narrow=True, of=entry.name))
    facts = {
        "Time": _written(cost.get("seconds"), format_duration),
        "Steps": _written(cost.get("steps"), format_count),
        "Peak memory": _written(cost.get("peak_memory"), format_size),
        "Device": str(cost.get("device") or ""),
        "Measuring took": _written(entry.scorecard_section("cost").get("seconds") or None, format_duration),
    }
    if listing := _list(facts):
        out.append(listing)
    return out or None


def _compared(entry: Entry, shared: int) -> str:
    """Return whether real samples were given the bytes of the decoder, too."""
    size = format_size(float(shared))
    if not entry.scorecard_section("shared_decoder"):
        return f"Other sets may share what it decodes by; a reader who lacks it needs {size} more."
    if entry.counts_decoder:
        return f"Real samples of the same bytes were given the {size} of what it decodes by, too."
    return (
        f"Real samples of the same bytes were given those of the set alone: readers are said to have the {size} of "
        "what it decodes by."
    )


def _written(number: object, write: Callable[[float | None], str]) -> str:
    return "" if number is None else write(to_number(number))


def _source_bytes(entry: Entry) -> tuple[float | None, str]:
    """Return bytes of the real data and their basis: as measured, or from the metadata, else images at 8 bits a
    value."""
    measured = entry.scorecard_section("full")
    if measured.get("bytes") and "codec" in measured:
        return to_number(measured["bytes"]), "as they are"
    if stored := to_number(entry.card_section("source").get("bytes")):
        return stored, "as stored"
    shape = entry.card_section("input").get("shape")
    if entry.noun != "pictures" or entry.samples is None or not isinstance(shape, list | tuple):
        return None, ""
    values = entry.samples
    for side in shape:
        values *= int(to_number(side) or 0)
    return (to_number(values), "8 bits a value") if values > 0 else (None, "")


def _list(facts: Mapping[str, str | Html]) -> Html | None:
    pairs = [join_html([tag("dt", key), tag("dd", shown)]) for key, shown in facts.items() if shown]
    return tag("dl", *pairs, class_="list") if pairs else None


def _inline(values: Mapping[str, Any]) -> Html:
    return tag("code", ", ".join(f"{key} = {held}" for key, held in values.items()))


def _labeller(entry: Entry) -> str | Html:
    """Return who labelled the set and its baselines, if a teacher did."""
    held = entry.scorecard_section("labeller")
    if not held.get("name"):
        return ""
    whose = {True: ", the set's own teacher", False: ", not the set's own teacher"}.get(held.get("own"), "")  # type: ignore[arg-type]
    known = [(to_number(held.get(key)), what) for key, what in (("agreement", "the set's"), ("agreement_real", "real"))]
    said = " and ".join(f"{format_percent(part)} of {what} inputs" for part, what in known if part is not None)
    hashes = held.get("hash")
    shown = " ".join(str(h)[:12] for h in (hashes if isinstance(hashes, list | tuple) else [hashes]) if h)
    takes = f"; it takes {said} for their classes" if said else ""
    return join_html([tag("bdi", str(held["name"])), " ", tag("code", shown), f"{whose}{takes}"])


def _settings(entry: Entry) -> str | Html:
    """Return the preset with what differs from it, and the recipe."""
    if not entry.card_section("preset"):
        return ""
    preset = describe_preset(entry.card["preset"], entry.card_section("config"), entry.card_section("outcome"))
    recipe = recipe_name(entry.card.get("command"))
    return tag("bdi", preset if recipe is None else f"{preset}; recipe {recipe}")


def provenance(entry: Entry) -> list[Html] | None:
    card, source, score = entry.card, entry.card_section("source"), entry.scorecard or {}
    kind, message = entry.outcome
    notes = source.get("notes")
    facts: dict[str, str | Html] = {
        "Real data": tag("bdi", entry.source) if entry.source else "",
        "Real samples": format_count(entry.samples) if entry.samples is not None else "",
        "Hash of the real data": tag("code", str(source["hash"])) if source.get("hash") else "",
        "Privacy": tag("bdi", describe_privacy(card)) if card else "",
        **{f"Privacy, {how}": tag("bdi", what) for how, what in describe_coverage(card).items()},
        "Notes of the loader": " ".join(map(str, notes)) if isinstance(notes, list | tuple) else "",
        "Method": tag("bdi", entry.method) if card.get("method") else "",
        "Settings": _settings(entry),
        "Options": _inline(entry.card_section("config")) if entry.card_section("config") else "",
        "Distilled with": tag("bdi", str(card.get("network") or "")) if card.get("network") else "",
        "Trained as": _inline(entry.card_section("training")) if entry.card_section("training") else "",
        "Seed": str(card["seed"]) if card.get("seed") is not None else "",
        "Outcome": f"{kind}: {message}" if message else kind,
        "Protocol": f"{score['protocol']} (version {score.get('protocol_version', '—')})"
        if score.get("protocol")
        else "",
        "Labels by": _labeller(entry),
        "Protocol fingerprint": tag("code", str(score["fingerprint"])) if score.get("fingerprint") else "",
        "Chosen for the students": _inline(score["chosen"]) if isinstance(score.get("chosen"), Mapping) else "",
        "Versions": ", ".join(f"{k} {v}" for k, v in entry.card_section("versions").items()),
        "File format": str(card.get("format") or ""),
    }
    listing = _list(facts)
    return [listing] if listing is not None else None


def commands(entry: Entry) -> list[Html] | None:
    commands = [entry.card.get("command"), (entry.scorecard or {}).get("command")]
    return [tag("pre", tag("code", str(command)), tabindex=0) for command in commands if command] or None
