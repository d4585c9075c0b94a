"""Selection of instructions: pieces, losses, orders by loops, reading, budgets, resume, and the command."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from covering import covering
from safetensors.torch import save

from potstill.cli.main import main
from potstill.errors import PotstillError
from potstill.functional.target_influence import flat_parameters
from potstill.uses.instructions import Settings, read_records, select_instructions
from potstill.uses.instructions.language_models import (
    FORMS,
    Form,
    bits_per_byte,
    new_model,
    token_loss,
    train,
)
from potstill.uses.instructions.scores import bm25, bm25_scores, less_scores, match_lengths, tfidf
from potstill.uses.instructions.summary import WAYS
from potstill.uses.instructions.vocabulary import SEPARATOR, Vocabulary

SMALL = Settings(words=60, length=16, width=16, layers=1, base_updates=12, warm_up=0.5, updates=6, batch=4, epochs=2)
ANIMALS = ("the cat sat on the mat", "a cat and a dog ran", "the dog sat on a cat")
SUMS = ("one plus one is two", "two plus one is three", "one plus three is four")


def rows(count: int = 12) -> list[dict[str, Any]]:
    return [
        {
            "instruction": f"{'animal' if n % 2 else 'sum'} {n}",
            "output": (ANIMALS if n % 2 else SUMS)[n // 2 % 3],
            "id": n,
        }
        for n in range(count)
    ]


def write(path: Path, some: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in some) + "\n")
    return path


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.fit([*ANIMALS, *SUMS], 60)


@pytest.mark.parametrize("text", ["the cat", "Ünïcode  \n\t x_y 3.14", "", "🙂 one", "\ud800 alone"])
def test_every_text_can_be_written(vocabulary: Vocabulary, text: str) -> None:
    wanted = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    assert vocabulary.decode(vocabulary.encode(text)) == wanted
    assert sum(vocabulary.encode_pairs([""], [text], 200).widths.flatten().tolist()) == len(
        text.encode("utf-8", "surrogatepass")
    )


def test_only_responses_are_learned(vocabulary: Vocabulary) -> None:
    pair = vocabulary.encode_pairs(["the cat"], ["sat on"], 50)
    prompt = vocabulary.encode("the cat")
    assert pair.inputs[0, : len(prompt) + 1].tolist() == [*prompt, SEPARATOR]
    learned = pair.targets[0] >= 0
    assert vocabulary.decode(pair.targets[0][learned].tolist()) == "sat on"
    assert int(learned.sum()) == len(vocabulary.encode("sat on")) + 1  # and its end
    whole = vocabulary.encode_pairs(["the cat"], ["sat on"], 50, learn_prompts=True)
    assert int((whole.targets >= 0).sum()) == len(prompt) + 1 + len(vocabulary.encode("sat on"))
    cut = vocabulary.encode_pairs(["the cat " * 20], ["sat on " * 20], 16)
    assert cut.inputs.shape == (1, 16)
    assert int((cut.targets >= 0).sum()) == 16 - 8


@pytest.mark.parametrize("form", FORMS)
def test_models_are_causal_and_ignore_what_is_behind_the_end(vocabulary: Vocabulary, form: Form) -> None:
    model = new_model(form, len(vocabulary), SMALL, 0)
    pairs = vocabulary.encode_pairs(["the cat", "one"], ["sat", "plus one is two"], 16)
    scores = model(pairs.inputs)
    changed = pairs.inputs.clone()
    changed[:, 5:] = 7
    torch.testing.assert_close(model(changed)[:, :5], scores[:, :5])
    alone = pairs.rows(torch.tensor([0]))
    assert alone.inputs.shape[1] < pairs.inputs.shape[1]
    torch.testing.assert_close(model(alone.inputs)[0], scores[0, : alone.inputs.shape[1]])


def test_the_loss_and_the_bits_by_loops(vocabulary: Vocabulary) -> None:
    model = new_model("transformer", len(vocabulary), SMALL, 0)
    pairs = vocabulary.encode_pairs(["the cat", "one"], ["sat", "plus one is two"], 16)
    scores = model(pairs.inputs).detach()
    each = [
        float(F.cross_entropy(scores[n, t][None], pairs.targets[n, t][None]))
        for n in range(2)
        for t in range(pairs.inputs.shape[1])
        if pairs.targets[n, t] >= 0
    ]
    assert float(token_loss(scores, pairs.targets)) == pytest.approx(sum(each) / len(each), rel=1e-5)
    assert bits_per_byte(model, pairs) == pytest.approx(sum(each) / math.log(2) / len("satplus one is two"), rel=1e-5)


def test_training_is_what_torch_does_and_keeps_moments(vocabulary: Vocabulary) -> None:
    pairs = vocabulary.encode_pairs([""] * 3, ANIMALS, 16)
    model, same = (new_model("transformer", len(vocabulary), SMALL, 0).double() for _ in range(2))
    shots = train(model, pairs, 4, SMALL, torch.Generator().manual_seed(0), every=2)
    optimizer = torch.optim.AdamW(same.parameters(), lr=1.0, weight_decay=0.01)
    for step in range(4):  # a batch of all, in whatever order
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / 4)
        loss = token_loss(same(pairs.inputs), pairs.targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(same.parameters(), 1.0)
        optimizer.step()
    for name, value in same.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-3, atol=1e-5)
    assert [shot.rate for shot in shots] == pytest.approx([1e-3 * (1 + 0.75) / 2, 1e-3 * (0.5 + 0.25) / 2])
    name, first = next(iter(same.named_parameters()))
    torch.testing.assert_close(shots[1].second[name], optimizer.state[first]["exp_avg_sq"], rtol=1e-3, atol=1e-9)


def test_less_by_a_loop_over_samples(vocabulary: Vocabulary) -> None:
    """With a projection that is none, scores are cosines of whole gradients, sample by sample."""
    pool = vocabulary.encode_pairs([""] * 6, [*ANIMALS, *SUMS], 16)
    target = vocabulary.encode_pairs(["", ""], ["two cat", "is one"], 16)
    settings = Settings(**{**vars_of(SMALL), "projection": 1_000_000})
    model = new_model("transformer", len(vocabulary), settings, 0)
    groups = torch.tensor([0, 1])
    got = less_scores(model, pool, target, groups, settings, 5, lambda *_: None)

    from potstill.rng import generator

    model = new_model("transformer", len(vocabulary), settings, 0)
    rng = generator(5, "instructions", "warm-up")
    part = torch.randperm(6, generator=rng)[:3]
    shots = train(model, pool.rows(part), 2, settings, rng, every=1)
    wanted = torch.zeros(6, 2)
    for shot in shots:
        model.load_state_dict(dict(shot.params))

        def slope(pairs: Any, n: int) -> torch.Tensor:
            one = pairs.rows(torch.tensor([n]))
            found = torch.autograd.grad(token_loss(model(one.inputs), one.targets), list(model.parameters()))
            return torch.cat([g.flatten() for g in found])

        for n in range(6):
            g = slope(pool, n)
            m, v = 0.9 * flat_parameters(shot.first) + 0.1 * g, 0.999 * flat_parameters(shot.second) + 0.001 * g**2
            for t in range(2):
                wanted[n, t] += shot.rate * F.cosine_similarity(m / (v + 1e-8).sqrt(), slope(target, t), dim=0)
    torch.testing.assert_close(got, wanted.max(1).values, rtol=1e-3, atol=1e-7)


def vars_of(settings: Settings) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(settings)


def test_bm25_by_a_loop() -> None:
    texts, queries = ["the cat sat", "cat cat dog", "one two three four"], ["cat dog dog", "nothing known"]
    words = [t.split() for t in texts]
    mean = sum(map(len, words)) / 3
    got = bm25_scores(texts, queries)
    for n, own in enumerate(words):
        score = 0.0
        for w in ("cat", "dog"):
            among = sum(w in other for other in words)
            f = own.count(w)
            score += math.log(1 + (3 - among + 0.5) / (among + 0.5)) * f * 2.5 / (
                f + 1.5 * (0.25 + 0.75 * len(own) / mean)
            )  # fmt: skip
        assert float(got[n, 0]) == pytest.approx(score)
    assert got[:, 1].tolist() == [0.0] * 3
    assert bm25(texts, queries)[0] == 1


def test_words_choose_the_like(vocabulary: Vocabulary) -> None:
    assert set(tfidf([*ANIMALS, *SUMS], ["the cat and the dog"])[:3].tolist()) == {0, 1, 2}
    assert tfidf(["! !", "?"], ["."]).tolist() == [0, 1]


def test_lengths_are_matched() -> None:
    rng = torch.Generator().manual_seed(0)
    sizes = [10] * 40 + [100] * 40
    found = match_lengths(sizes, torch.tensor([0, 1, 50]), rng)
    assert len(set(found.tolist())) == 3
    assert sorted(sizes[i] for i in found.tolist()) == [10, 10, 100]
    assert sorted(match_lengths([1, 2, 3], torch.arange(3), rng).tolist()) == [0, 1, 2]


def forms_of_data(tmp_path: Path) -> dict[str, object]:
    import datasets
    import pandas as pd

    table = pa.Table.from_pylist(rows(4))
    pq.write_table(table, tmp_path / "a.parquet")
    pd.DataFrame(rows(4)).to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "a.json").write_text(json.dumps(rows(4)))
    return {
        "jsonl": write(tmp_path / "a.jsonl", rows(4)), "json": tmp_path / "a.json", "csv": tmp_path / "a.csv",
        "parquet": tmp_path / "a.parquet", "list": rows(4), "frame": pd.DataFrame(rows(4)), "arrow": table,
        "datasets": datasets.Dataset.from_list(rows(4)),
    }  # fmt: skip


def test_every_form_of_data_is_read_alike(tmp_path: Path) -> None:
    read = {name: read_records(data) for name, data in forms_of_data(tmp_path).items()}
    for one in read.values():
        assert one.prompts == tuple(row["instruction"] for row in rows(4))
        assert one.responses == tuple(row["output"] for row in rows(4))
        assert [row["id"] for row in one.rows] == [0, 1, 2, 3]


def test_known_columns_contexts_and_talks() -> None:
    context = read_records(
        [{"instruction": "Sum.", "input": "1 1", "output": "2"}, {"instruction": "Go", "output": "x"}]
    )
    assert context.prompts == ("Sum.\n1 1", "Go")
    talk = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    more = [*talk, {"from": "human", "value": "Q2"}, {"from": "gpt", "value": "A2"}, {"role": "user", "content": "no"}]
    both = read_records([{"messages": talk}, {"messages": more}])
    assert both.prompts == ("S\nQ", "S\nQ\nA\nQ2")
    assert both.responses == ("A", "A2")
    assert read_records([{"text": "alone"}]).prompts == ("",)
    named = read_records([{"a": "q", "b": 3}], prompt="a", response="b")
    assert (named.prompts, named.responses) == (("q",), ("3",))


@pytest.mark.parametrize(
    ("data", "options", "match"),
    [
        ([], {}, "at least one row"),
        ([{"a": "x", "b": "y"}], {}, "no pair of its columns is known"),
        ([{"a": "x", "b": "y"}], {"response": "c"}, "has no column 'c'"),
        ([{"a": "x", "b": "y"}], {"prompt": "a"}, "must be named beside"),
        ([{"prompt": "x", "completion": "  "}], {}, "every response is empty"),
        ([{"prompt": "x", "completion": ["y"]}], {}, "must hold texts"),
        ([{"messages": [{"role": "user"}]}], {}, "without a role and a content"),
        (3, {}, "not from a int"),
        ("none.jsonl", {}, "cannot be read"),
        ("none.txt", {}, "is required; save it"),
    ],
)
def test_other_data_are_refused_in_one_line(data: Any, options: dict[str, str], match: str) -> None:
    with pytest.raises(PotstillError, match=match) as error:
        read_records(data, **options)
    assert "\n" not in str(error.value)


def test_broken_json_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": \n')
    with pytest.raises(PotstillError, match="line 2 is no JSON"):
        read_records(path)
    path.write_text("[1, 2]\n")
    with pytest.raises(PotstillError, match="line 1 must hold a JSON object"):
        read_records(path)


def chosen(out: Path) -> list[int]:
    return [json.loads(line)["id"] for line in (out / "selected.jsonl").read_text().splitlines()]


def test_a_whole_selection_resumes_and_repeats(tmp_path: Path) -> None:
    common: dict[str, Any] = {"test": rows(4), "items": 3, "students": 2, "settings": SMALL}
    first = select_instructions(rows(), rows(4)[:2], out=tmp_path / "a", **common)
    assert [row["name"] for row in first["rows"]] == list(WAYS)
    assert chosen(tmp_path / "a") == first["chosen"]
    assert len(set(first["chosen"])) == 3
    by_name = {row["name"]: row for row in first["rows"]}
    assert {row["items"] for name, row in by_name.items() if name not in ("none", "target", "all")} == {3}
    assert by_name["all"]["items"] == 12
    assert all(len(row["bits"]["recurrent"]["values"]) == 2 for name, row in by_name.items() if name != "none")
    assert any("test samples, too" in note for note in first["notes"])
    (tmp_path / "a" / "cells" / "bm25.json").unlink()
    again = select_instructions(rows(), rows(4)[:2], out=tmp_path / "a", **common)
    for result in (first, again):
        for cell in result["cells"]:
            cell.pop("seconds")
    assert again == first
    other = select_instructions(rows(), rows(4)[:2], out=tmp_path / "b", **common)
    assert other["rows"] == first["rows"]
    with pytest.raises(PotstillError, match="other settings or data"):
        select_instructions(rows(), rows(4)[:2], out=tmp_path / "a", **common | {"items": 4})
    (tmp_path / "a" / "cells" / "bm25.json").unlink()
    models = list((tmp_path / "a" / "cells").glob("*.safetensors"))
    for content in (b"", save({"other": torch.zeros(2)})):  # cut off, and of another network
        for path in models:
            path.write_bytes(content)
        with pytest.raises(PotstillError, match=r"\.safetensors: holds no model of these settings; remove it$"):
            select_instructions(rows(), rows(4)[:2], out=tmp_path / "a", **common)


@pytest.mark.parametrize("way", covering([(w,) for w in ("less", "bm25", "tfidf", "states", "random", "lengths")], 3))
def test_sizes_hold_for_every_way(tmp_path: Path, way: str) -> None:
    way = way if isinstance(way, str) else way[0]
    result = select_instructions(rows(), rows(4)[:2], out=tmp_path, size=100, way=way, settings=SMALL)
    assert 0 < result["bytes"] <= 100
    kept = [rows()[n] for n in result["chosen"]]
    assert result["bytes"] == sum(len(row["instruction"] + row["output"]) for row in kept)
    assert result["rows"] == []
    assert "Nothing was measured" in result["sentences"][0]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"items": 3, "size": 9}, "one of items and size"),
        ({}, "one of items and size"),
        ({"items": 30}, "30 samples are requested"),
        ({"items": 0}, "at least 1"),
        ({"items": 2, "way": "best"}, "unknown way of choosing"),
        ({"items": 2, "group": "kind"}, "must have the column 'kind'"),
        ({"size": 3}, "hold no sample"),
    ],
)
def test_misuse_is_refused(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    options = {"way": "random"} | options
    with pytest.raises(PotstillError, match=match):
        select_instructions(rows(), rows(2), out=tmp_path, settings=SMALL, **options)


def test_settings_are_checked() -> None:
    for wrong in ({"length": 4}, {"width": 30}, {"warm_up": 0.0}, {"updates": 0}):
        with pytest.raises(PotstillError, match="change"):
            Settings(**wrong)  # type: ignore[arg-type]


def test_the_command_writes_rows_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("pool.jsonl"), [row | {"more": [1, {"ä": None}]} for row in rows()])
    write(Path("target.jsonl"), rows(2))
    write(Path("test.jsonl"), rows(4)[2:])
    words = (
        "use instructions pool.jsonl --target target.jsonl --test test.jsonl --items 2 --out out --students 2 "
        "--words 60 --length 16 --width 16 --layers 1 --base-updates 5 --updates 3 --way bm25"
    )
    assert main(words.split()) == 0
    said = capsys.readouterr()
    assert "nearest by TF-IDF" in said.out
    assert "chosen by BM25" in said.out
    first = json.loads(Path("out/selected.jsonl").read_text().splitlines()[0])
    assert first["more"] == [1, {"ä": None}]
    assert main([*words.split(), "--base", "none.jsonl"]) == 1
    assert capsys.readouterr().err.count("\n") >= 1
