"""What clients send as bytes, what a server makes of it, and clients that drop out or are killed."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import potstill
from potstill.cli.main import main
from potstill.data import TensorSource
from potstill.dataset_file import Schema
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import baseline_order, pack_samples
from potstill.rng import generator
from potstill.uses.federated import (
    Averages,
    Client,
    EnsembleLabels,
    FedAvg,
    FedDM,
    Message,
    RealSets,
    collect,
    decode_message,
    dirichlet_partition,
    encode_message,
    make_clients,
    merge_messages,
    parse_way,
)
from potstill.uses.federated.models import train_on_sets
from tests.uses.test_federated import QUICK, clients, pictures, run

WAYS = ("averages", "real@uint2", "dm", "dm+averages", "fedd3", "frepo")


def made(name: str, **options: Any) -> Any:
    return parse_way(name, steps=2, network=None if name in ("fedd3",) else "convnet-w8-d1", **options)


def message(name: str, client: Client) -> Message:
    sent: Message | None = made(name).message(client)
    assert sent is not None
    return sent


# Bytes


@pytest.mark.parametrize("name", WAYS)
def test_a_message_arrives_with_the_same_bits(name: str) -> None:
    source = pictures(per_class=60)
    of_two = source.subset((source.labels % 2 == 1).nonzero().flatten())
    sent = message(name, Client(source=of_two, byte_budget=600, seed=0))
    content = encode_message(sent)
    got = decode_message(content, source)
    assert got is not None
    assert torch.equal(got.x, sent.x)
    assert torch.equal(got.y, sent.y)
    assert (got.bytes, got.codec, got.least_members) == (sent.bytes, sent.codec, sent.least_members)
    assert sent.bytes < len(content) < sent.bytes + 1200
    merged = merge_messages([got, got], source.classes)
    assert torch.equal(merged.model_space(), torch.cat([sent.x, sent.x]))
    assert torch.equal(merged.labels, torch.cat([sent.y, sent.y]).to(merged.labels.dtype))
    assert merged.classes == source.classes


def test_a_message_tells_a_server_nothing_of_its_run() -> None:
    client = clients(pictures(per_class=60), budget=600)[0]
    sent = message("dm", client)
    assert sent.coded is not None
    assert sent.coded.metadata["source"]["hash"]
    got = decode_message(encode_message(sent), client.source)
    assert got is not None
    assert got.coded is not None
    assert got.coded.metadata["source"] == {"name": "clients"}
    assert got.coded.metadata["cost"] == got.coded.metadata["config"] == {}


@pytest.mark.parametrize("codec", ["uint1", "uint4", "half:bits=4", "cosine:positions=16"])
def test_real_samples_are_coded_as_baselines_of_a_set_are(codec: str) -> None:
    source = pictures(per_class=60)
    sent = RealSets(codec=codec).message(Client(source=source, byte_budget=900, seed=0))
    assert sent is not None
    order = torch.cat(list(baseline_order(source, "random", 0, "message")))
    order = order[torch.randperm(len(order), generator=generator(0, "message"))][: len(sent.x)]
    order = order[source.labels[order].argsort(stable=True)]
    packed = pack_samples(source, [[order]], len(order), codec)
    assert torch.equal(packed.pairs[0][0], sent.x)  # type: ignore[arg-type]
    assert torch.equal(packed.pairs[0][1], sent.y)
    assert packed.bytes == sent.bytes


def test_rows_of_a_table_arrive_with_the_same_bits() -> None:
    rows = torch.randn(120, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 50.0, 3.0, 0.1])
    source = TensorSource.make(rows, (torch.arange(120) % 3).tolist(), name="t")
    parts = make_clients(source, dirichlet_partition(source, 3, 1.0, 0), 900, 0)
    sent = [m for c in parts if (m := Averages(codec="uint8", least=3).message(c)) is not None]
    done = collect({n: encode_message(m) for n, m in enumerate(sent)}, source)
    assert torch.equal(done.x, torch.cat([m.x for m in sent]))
    assert torch.allclose(done.merged.model_space(), done.x, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_damaged_message_is_refused(data: st.DataObject) -> None:
    source = pictures(per_class=30)
    content = bytearray(encode_message(RealSets().message(Client(source=source, byte_budget=300, seed=0))))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(1, len(content) - 1))]
    else:
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(PotstillError, match="a message cannot be read") as error:
        decode_message(bytes(content), source)
    assert "\n" not in str(error.value)
    assert "/tmp" not in str(error.value)


def test_a_message_of_other_data_is_refused() -> None:
    source = pictures(per_class=60)
    content = encode_message(Averages().message(Client(source=source, byte_budget=600, seed=0)))
    small = Schema(
        classes=source.classes, input=replace(source.input, shape=(1, 4, 4)), normalization=source.normalization
    )  # fmt: skip
    for other, match in (
        (replace(source, classes=("a", "b", "c", "d")), "class 'c0', which the server's data have not"),
        (replace(source, normalization=pictures(seed=5).normalization), "another normalization"),
        (small, "inputs of other shape or kind"),
    ):
        with pytest.raises(PotstillError, match=match):
            decode_message(content, other)


def test_a_message_without_a_coded_set_is_refused() -> None:
    sent = Averages().message(Client(source=pictures(per_class=60), byte_budget=600, seed=0))
    assert sent is not None
    bare = replace(sent, coded=None)
    with pytest.raises(PotstillError, match="a message travels as its coded set"):
        encode_message(bare)
    with pytest.raises(PotstillError, match="is joined as its coded set"):
        merge_messages([bare], ("c0", "c1", "c2", "c3"))
    with pytest.raises(PotstillError, match="nothing to join"):
        merge_messages([], ("c0",))


def test_a_server_goes_on_with_the_clients_that_answered() -> None:
    source = pictures(per_class=60)
    own = [source.subset((source.labels == c).nonzero().flatten()) for c in range(4)]
    sent = [encode_message(Averages().message(Client(source=s, byte_budget=300, seed=0))) for s in own]
    done = collect({5: b"", 3: sent[3], 2: sent[2][:-9], 0: sent[0]}, source, clients=range(6))
    assert (done.answered, done.silent, done.missing, list(done.refused)) == ((0, 3), (5,), (1, 4), [2])
    assert done.uncovered == ("c1", "c2")
    assert done.up == len(sent[0]) + len(sent[3]) + len(sent[2]) - 9
    assert done.y.unique().tolist() == [0, 3]
    assert done.merged.classes == source.classes
    assert done.summary.startswith("2 of 6 clients sent")
    assert "clients 1, 4 did not answer; client 2 was refused (a message cannot be read" in done.summary
    assert done.summary.endswith("inputs of 2 of 4 classes, none of c1, c2")
    with pytest.raises(PotstillError, match=r"no client sent a set that can be used: 1 had too little.* 2 did not"):
        collect({0: b""}, source, clients=range(3))
    with pytest.raises(PotstillError, match="no client sent a set that can be used: a message cannot be read"):
        collect({0: b"PK"}, source)


def test_a_joined_set_is_saved_and_trained_on(tmp_path: Path) -> None:
    source = pictures(per_class=60)
    parts = make_clients(source, dirichlet_partition(source, 3, 0.3, 0), 1500, 0)
    done = collect({n: encode_message(made("dm").message(c)) for n, c in enumerate(parts)}, source)
    small = potstill.load(done.merged.save(tmp_path / "joined.safetensors"))
    assert torch.equal(small.model_space(), done.x)
    network = train_on_sets(QUICK, "convnet-w8-d1", done.x, done.y, source, 0)
    assert all(bool(torch.isfinite(p).all()) for p in network.parameters())


# Rounds, and labels of an ensemble


def test_one_round_of_feddm_is_dm() -> None:
    few = clients(pictures(per_class=60), budget=700)
    one = FedDM(rounds=1, sets=made("dm")).exchange(few, ["convnet-w8-d1"] * 2, QUICK, 0)
    alone = [made("dm").message(c) for c in few]
    assert torch.equal(one.x, torch.cat([m.x for m in alone]))
    assert (one.up, one.down) == (sum(m.bytes for m in alone), 0)


def test_rounds_of_feddm_divide_the_bytes_and_send_weights_down() -> None:
    few = clients(pictures(per_class=60), budget=900)
    names = ["convnet-w8-d1"] * 2
    two, three = (FedDM(rounds=n, sets=made("dm")).exchange(few, names, QUICK, 0) for n in (2, 3))
    weights = sum(p.numel() for p in QUICK.factory(few[0].source, 4)(0).parameters())
    assert two.senders == (0, 1, 0, 1)
    assert 1200 < two.up <= 1800
    assert 0.5 * weights < two.down / 2 < 1.3 * weights  # one message down to each of two clients
    assert 1.5 * two.down < three.down < 2.5 * two.down
    assert all(m.bytes <= 450 for m in two.messages)
    assert not torch.equal(two.messages[0].x[:4], two.messages[2].x[:4])
    with pytest.raises(PotstillError, match="sends weights to all clients, so clients need the same network"):
        FedDM(rounds=2).exchange(few, ["convnet-w8-d1", "mlp-w16"], QUICK, 0)


def test_later_rounds_match_in_the_weights_that_were_sent() -> None:
    """Other weights of the server, another second set: what is matched are features of these weights."""
    few = clients(pictures(per_class=60), budget=900)
    names = ["convnet-w8-d1"] * 2
    way = FedDM(rounds=2, sets=made("dm"))
    short, long = (way.exchange(few, names, replace(QUICK, steps=n), 0) for n in (1, 60))
    assert torch.equal(short.messages[0].x, long.messages[0].x)
    assert not torch.equal(short.messages[2].x, long.messages[2].x)


def test_an_ensemble_labels_sets_and_its_models_are_charged() -> None:
    source = pictures(classes=2, per_class=60)
    own = [
        Client(source=source.subset((source.labels == c).nonzero().flatten()), byte_budget=400, seed=c) for c in (0, 1)
    ]
    sets = Averages(least=5)
    plain = [sets.message(c) for c in own]
    hard = torch.cat([m.y for m in plain if m is not None])
    got = EnsembleLabels(sets=sets, share=0.25).exchange(own, ["mlp-w16"] * 2, QUICK, 0)
    assert torch.allclose(got.y.sum(1), torch.ones(len(got.y)))
    assert torch.equal(got.y.argmax(1), hard)
    assert float(got.y.amax(1).min()) >= 0.75
    weights = sum(p.numel() for p in QUICK.factory(source, 2)(0).parameters())
    assert got.up > sum(m.bytes for m in plain if m is not None) + 2 * 4 + 0.5 * weights
    models = FedAvg(rounds=1).answer(own, ["convnet-w8-d1"] * 2, QUICK, source, 0)
    assert models.up > 0
    full = EnsembleLabels(sets=sets, share=1.0).exchange(own, ["mlp-w16"] * 2, QUICK, 0)
    assert not torch.equal(full.y, got.y)


def test_ways_of_several_messages_are_read_by_name() -> None:
    way = parse_way("feddm:4@uint2", steps=7)
    assert isinstance(way, FedDM)
    assert (way.rounds, way.sets.method, way.sets.codec, way.sets.steps) == (4, "dm", "uint2", 7)
    labelled = parse_way("ensemble-labels:averages@uint2")
    assert isinstance(labelled, EnsembleLabels)
    assert labelled.sets == Averages(name="averages@uint2", codec="uint2")
    assert parse_way("ensemble-labels").sets.method == "dm"  # type: ignore[union-attr]
    assert parse_way("fedd3").method == "kip"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("feddm", "write feddm:ROUNDS, such as feddm:3"),
        ("feddm:0", "write feddm:ROUNDS"),
        ("ensemble-labels:fedavg", "labels the sets of one message; write ensemble-labels:dm"),
        ("ensemble-labels:herding", "herding sends real samples"),
        ("fedd3:2", "no way 'fedd3:2'"),
        ("fedd4", "did you mean .*fedd3"),
    ],
)
def test_a_way_of_several_messages_that_is_no_such_is_refused(text: str, match: str) -> None:
    with pytest.raises(PotstillError, match=match):
        parse_way(text)


def test_a_run_has_rows_of_all_ways(tmp_path: Path) -> None:
    ways = ("dm", "feddm:2", "ensemble-labels", "fedavg:1")
    result = run(tmp_path / "f", ways=ways, bytes=1800, splits=1, distill_steps=2)
    cells = {c["way"]: c for c in result["cells"]}
    assert [c["bytes"] for c in cells.values()] == [1800, 1800, 1800, None]
    assert cells["feddm:2"]["down"] > 0
    assert cells["feddm:2"]["up"] <= 1800 < cells["ensemble-labels"]["up"]
    assert {w["name"]: w["sends"] for w in result["ways"]}["ensemble-labels"] == "sets and models"
    assert "ensemble-labels (" in result["sentences"][0]


# Clients that drop out, and processes that are killed


def test_clients_that_drop_out_are_named_with_the_classes_that_go(tmp_path: Path) -> None:
    whole = run(tmp_path / "a", alpha=0.05, ways=("averages", "fedavg:1"))
    result = run(tmp_path / "b", alpha=0.05, ways=("averages", "fedavg:1"), drop=2)
    dropped = result["dropped"]["alpha 0.05"]
    assert [len(d) for d in dropped] == [2, 2]
    for cell, other in zip(result["cells"], whole["cells"], strict=True):
        assert cell["up"] < other["up"]
        assert set(cell["covered"]) <= set(other["covered"])
    counts = result["clients"]["alpha 0.05"][0]
    left = [c for c in range(4) if any(row[c] for n, row in enumerate(counts) if n not in dropped[0])]
    assert result["cells"][1]["covered"] == left
    said = [s for s in result["sentences"] if "did not answer" in s]
    assert len(said) == 1
    assert "2 of 3 clients did not answer" in said[0]
    assert "did not answer" in (tmp_path / "b/federated.html").read_text()
    assert not any("did not answer" in s for s in whole["sentences"])
    with pytest.raises(PotstillError, match="was measured with other settings"):
        run(tmp_path / "b", alpha=0.05, ways=("averages", "fedavg:1"), drop=1)


@pytest.mark.parametrize("drop", [-1, 3])
def test_a_run_needs_one_client_that_answers(tmp_path: Path, drop: int) -> None:
    with pytest.raises(PotstillError, match=f"of 3 clients 0 to 2 can drop out, not {drop}"):
        run(tmp_path / "f", drop=drop)


def test_the_command_takes_clients_that_drop_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "use", "federated", "digits", "--out", str(tmp_path / "f"), "--ways", "averages", "--splits", "1",
        "--clients", "3", "--bytes", "2kB", "--updates", "5", "--networks", "convnet-w8-d1", "--drop",
    ]  # fmt: skip
    assert main([*words, "1"]) == 0
    assert "1 of 3 clients did not answer" in capsys.readouterr().out
    assert main([*words, "3"]) == 1
    assert "of 3 clients 0 to 2 can drop out, not 3" in capsys.readouterr().err


def test_the_command_makes_a_client_of_each_group(tmp_path: Path) -> None:
    rows = [f"{n % 7},{n % 5},{'ab'[n % 2]},{n // 20}" for n in range(80)]
    (tmp_path / "rows.csv").write_text("\n".join(["u,v,label,who", *rows]))
    words = [
        "use", "federated", str(tmp_path / "rows.csv"), "--label", "label", "--group", "who", "--partition", "groups",
        "--clients", "0", "--splits", "1", "--ways", "averages", "--bytes", "2kB", "--updates", "5", "--out",
        str(tmp_path / "f"), "--quiet",
    ]  # fmt: skip
    assert main(words) == 0
    assert len(json.loads((tmp_path / "f/federated.json").read_text())["clients"]["groups"][0]) >= 3


def killed_run(out: Path) -> dict[str, Any]:
    return run(out, ways=("averages", "real", "feddm:2", "fedavg:2"), distill_steps=2, bytes=1800, drop=1, splits=1)


def test_a_run_that_is_killed_between_cells_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from tests.uses.test_federated_wire import killed_run"
    command = [sys.executable, "-c", f"{code}; killed_run(Path(sys.argv[1]))", str(tmp_path / "k")]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    cells = tmp_path / "k/cells"
    while process.poll() is None and not list(cells.glob("*.json")):
        time.sleep(0.005)
    process.kill()
    process.wait()
    first = {path.name: path.read_bytes() for path in cells.glob("*.json")}
    assert first
    assert not (tmp_path / "k/federated.json").exists()
    again, whole = killed_run(tmp_path / "k"), killed_run(tmp_path / "whole")
    assert all((cells / name).read_bytes() == content for name, content in first.items())

    def timeless(result: dict[str, Any]) -> str:
        return json.dumps([{k: v for k, v in c.items() if k != "seconds"} for c in result["cells"]])

    assert timeless(again) == timeless(whole)
