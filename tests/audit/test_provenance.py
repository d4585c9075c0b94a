"""Keyed marks: what is written, what a key finds, and what it does not."""

import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import potstill
from potstill.api.sign import new_key
from potstill.audit.provenance import audit_provenance, mark, read_secret
from potstill.audit.provenance.carrier import Features, null_scores, read_features, score, signs
from potstill.audit.provenance.model import load_model, query_of, score_model, score_outputs
from potstill.audit.provenance.run import threshold
from potstill.cli.main import main
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.nn import factory

KEY = b"a key of the tests"


@pytest.fixture(scope="module")
def pictures() -> Distilled:
    return potstill.distill("mnist-5k", "random", ipc=10, codec="uint8", progress=None)


@pytest.fixture(scope="module")
def marked(pictures: Distilled) -> Distilled:
    return mark(pictures, KEY).distilled


@pytest.fixture(scope="module")
def rows() -> Distilled:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = np.concatenate([rng.normal(size=(200, 6)) + y[:, None], y[:, None]], 1)
    return potstill.distill((x.astype(np.float32), y), "random", ipc=40, progress=None)


def test_signs_are_bits_of_a_known_hash() -> None:
    secret = read_secret(KEY)
    assert secret == hashlib.sha256(b"potstill/mark/1\0" + KEY).digest()
    bits = hashlib.shake_256(b"potstill/mark/1\0" + secret + b"class/0/seven").digest(2)
    expected = [1 - 2 * (byte >> (7 - n) & 1) for byte in bits for n in range(8)]
    assert signs(secret, "class/0/seven", 11).tolist() == expected[:11]
    assert signs(secret, "class/0/seven", 11).tolist() == [1, 1, 1, 1, -1, -1, 1, 1, 1, -1, -1]


def test_secrets_of_a_file_and_of_its_bytes_are_one(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY + b"\r\n")
    assert read_secret(tmp_path / "key") == read_secret(KEY)
    public = new_key(tmp_path / "owner.pem")
    (tmp_path / "short").write_bytes(b"fifteen bytes..")
    (tmp_path / "long").write_bytes(bytes(100_500))
    for path, said in {
        public: "this is a public key", tmp_path / "short": "16 to 100,000 bytes is required, but this has 15",
        tmp_path / "none": "no such key", tmp_path: "cannot be read",
    }.items():  # fmt: skip
        with pytest.raises(PotstillError, match=said) as error:
            read_secret(path)
        assert "\n" not in str(error.value)


def naive_score(features: Features, secret: bytes) -> float:
    """z by class, a number at a time."""
    x = features.values.double().numpy()
    n, d = x.shape
    x = x - x.mean(0) * n / (n + len(features.classes))
    squares, ring = (x**2).mean(0), features.marked.ring.numpy()
    power = np.array([squares[ring == r].mean() for r in ring])
    x = x / np.maximum(power, 1e-3 * squares.mean())
    inner = norm = 0.0
    for c, name in enumerate(features.classes):
        of = x[features.labels.numpy() == c].sum(0)
        pattern = signs(secret, f"class/0/{name}", d).numpy()
        inner += sum(a * b for a, b in zip(of, pattern, strict=True))
        norm += sum(a * a for a in of)
    return inner / math.sqrt(norm)


def test_the_score_is_a_normed_sum_over_classes(marked: Distilled) -> None:
    features, secret = read_features(marked), read_secret(KEY)
    assert score(features, secret, "class") == pytest.approx(naive_score(features, secret), rel=1e-9)
    few = features.subset(torch.tensor([3, 50, 51]))
    assert score(few, secret, "class") == pytest.approx(naive_score(few, secret), rel=1e-9)


@pytest.mark.parametrize("which", ["pictures", "marked", "rows"])
def test_scores_of_unmarked_keys_are_standard_normal(which: str, request: pytest.FixtureRequest) -> None:
    features = read_features(request.getfixturevalue(which))
    for carrier in features.carriers:
        null = torch.tensor(null_scores(features, 0, 400, carrier), dtype=torch.float64)
        assert abs(float(null.mean())) < 4 / 20
        assert float(null.std()) == pytest.approx(1, abs=4 / math.sqrt(800))
        assert float(null.max()) < 4.5


def test_a_mark_is_found_by_its_key_alone_and_changes_inputs_alone(pictures: Distilled) -> None:
    found = mark(pictures, KEY)
    after = found.distilled
    assert found.carrier == "class"
    assert found.score > 8
    assert score(read_features(after), read_secret(KEY), "class") == pytest.approx(found.score)
    assert score(read_features(after), read_secret(b"another key of the tests"), "class") < 4
    assert score(read_features(pictures), read_secret(KEY), "class") < 4
    change = after.inputs - pictures.inputs
    assert found.change == pytest.approx(float(change.square().mean().sqrt()))
    assert found.relative == pytest.approx(found.change / float(pictures.inputs.std()))
    assert found.relative <= 0.1
    assert found.largest == pytest.approx(float(change.abs().max()))
    assert bool((change[pictures.inputs == 0] == 0).all())  # the background stays plain
    assert torch.equal(after.labels, pictures.labels)
    assert after.metadata["codec"]["name"] == "uint8"
    assert after.metadata["mark"] == {"format": "potstill/mark/1", "carrier": "class", "strength": 0.1}
    assert not after.is_selection
    assert pictures.is_selection


def test_the_same_key_makes_the_same_bytes_and_the_file_reads_back(pictures: Distilled, tmp_path: Path) -> None:
    for name in ("a", "b"):
        mark(pictures, KEY).distilled.save(tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    read = potstill.load(tmp_path / "a.safetensors")
    assert score(read_features(read), read_secret(KEY), "class") > 8
    pictures.save(tmp_path / "unmarked.safetensors")
    with pytest.raises(PotstillError, match="holds the set of another run"):
        mark(pictures, KEY).distilled.save(tmp_path / "unmarked.safetensors")


@pytest.mark.parametrize("codec", ["float32", "exact", "uint4", "uint2", "cosine:positions=100,width=0.1"])
def test_a_mark_survives_the_codec_of_its_set(codec: str) -> None:
    found = mark(potstill.distill("mnist-5k", "random", ipc=10, codec=codec, progress=None), KEY)
    assert found.score > 5
    assert found.relative <= 0.2
    assert found.distilled.metadata["codec"]["name"] == codec
    if codec == "exact":  # still 8 bits
        assert torch.equal((found.distilled.inputs * 255).round() / 255, found.distilled.inputs)


def test_a_payload_is_marked_through_its_decoder() -> None:
    small = potstill.distill(
        "mnist-5k", "dm", ipc=3, steps=2, parametrization="tiles", network="convnet-w8-d1", codec="uint8", progress=None
    )  # fmt: skip
    found = mark(small, KEY)
    assert found.score > 5
    assert found.distilled.payload.keys() == small.payload.keys()
    assert found.distilled.inputs.shape == small.inputs.shape
    assert found.relative <= 0.2


def test_rows_are_moved_to_a_keyed_grid(rows: Distilled) -> None:
    found = mark(rows, KEY)
    assert (found.carrier, found.distilled.metadata["mark"]["strength"]) == ("lattice", 0.06)
    assert found.score > 8
    assert found.relative <= 0.06 + 1e-6
    assert torch.equal(found.distilled.inputs[:, 6], rows.inputs[:, 6])  # 0 and 1: codes
    secret, features = read_secret(KEY), read_features(rows)
    assert features.values.shape[1] == 6
    moved = features.values + features.to_lattice(secret)
    for value, label, column in ((0, 0, 0), (17, int(features.labels[17]), 4)):
        x = float(features.values[value, column])
        cell = math.floor(x)
        table = signs(secret, f"lattice/{features.classes[label]}", 6 * 32).reshape(6, 16, 2)
        first, second = table[column, cell % 16].tolist()
        offset = {(1, 1): 1, (-1, 1): 3, (-1, -1): 5, (1, -1): 7}[(first, second)] / 8
        points = [cell + 0.25 * (n + offset) for n in range(4)]
        assert float(moved[value, column]) == pytest.approx(min(points, key=lambda p: abs(p - x)), abs=1e-5)


def test_what_cannot_be_marked_is_refused_in_a_line(rows: Distilled, pictures: Distilled) -> None:
    x = np.arange(80, dtype=np.float32).reshape(40, 2) % 2
    codes = potstill.distill((x, np.arange(40) % 2), "random", ipc=10, progress=None)
    coarse = potstill.distill("mnist-5k", "random", ipc=1, codec="cosine", progress=None)
    joined = potstill.concat([pictures, pictures])
    for small, said in (
        (codes, "columns with more than 10 distinct values"), (coarse, "written by cosine, leave no room for a mark"),
        (joined, "mark the sets that it was joined from"),
    ):  # fmt: skip
        with pytest.raises(PotstillError, match=said) as error:
            mark(small, KEY)
        assert "\n" not in str(error.value)
    for strength in (0, -1, 1.5, math.nan):
        with pytest.raises(PotstillError, match="must be above 0 and at most 1"):
            mark(rows, KEY, strength=strength)


def test_words_carry_no_mark(tmp_path: Path) -> None:
    lines = "\n".join(f"{'good fine nice' if n % 2 else 'bad poor sad'} word{n % 7},{n % 2}" for n in range(40))
    (tmp_path / "t.csv").write_text(f"text,label\n{lines}\n")
    small = potstill.distill(tmp_path / "t.csv", "random", ipc=2, progress=None)
    if small.input.parts or not small.inputs.is_floating_point():
        with pytest.raises(PotstillError, match="a mark needs real values to change"):
            mark(small, KEY)
    else:
        with pytest.raises(PotstillError, match="a mark needs columns"):
            mark(small, KEY)


class _Learned(nn.Module):
    """A linear map whose output of a class rises along the pattern of this class, by so much."""

    def __init__(self, small: Distilled, amount: float) -> None:
        super().__init__()
        features, secret = read_features(small), read_secret(KEY)
        d = features.values.shape[1]
        pattern = torch.stack([signs(secret, f"class/0/{name}", d) for name in features.classes])
        weight = features.marked.to_inputs(pattern).flatten(1)
        rng = torch.Generator().manual_seed(0)
        noise = torch.randn(weight.shape, generator=rng) * weight.std()
        self.linear = nn.Linear(weight.shape[1], len(weight))
        self.linear.weight = nn.Parameter(amount * weight + noise)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


def test_a_model_that_learned_the_pattern_is_recognised(pictures: Distilled) -> None:
    features, secret = read_features(pictures), read_secret(KEY)
    for amount, least, most in ((0.3, 8, 30), (0.0, -4, 4), (-0.3, -30, -8)):
        z, null = score_model(_Learned(pictures, amount), pictures, features, secret, 50, 0)
        assert least < z < most
        assert abs(sum(null) / len(null)) < 4 / math.sqrt(50)
    wrong = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    with pytest.raises(PotstillError, match="a model with 10 outputs is required"):
        score_model(wrong, pictures, features, secret, 10, 0)


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_a_model_is_recognised_by_its_outputs_alone(kind: str, pictures: Distilled) -> None:
    features, secret = read_features(pictures), read_secret(KEY)
    asked = []
    for amount, least, most in ((0.3, 8, 30), (0.0, -4, 4), (-0.3, -30, -8)):
        model = _Learned(pictures, amount)

        def ask(x: Tensor, model: nn.Module = model) -> Tensor:
            asked.append((len(x), float(x.min()), float(x.max())))
            with torch.no_grad():
                logits = model(pictures.normalization.apply(x))
            return logits.softmax(1) if kind == "probabilities" else logits

        z, null = score_outputs(ask, pictures, features, secret, 50, 0, queries=4600)
        assert least < z < most
        assert abs(sum(null) / len(null)) < 4 / math.sqrt(50)
        # inside of the range of pixels, a linear map has the same slope as its gradient, but where pixels are clamped
        assert z == pytest.approx(score_model(model, pictures, features, secret, 1, 0)[0], abs=2.5)
    assert min(low for _, low, _ in asked) >= 0
    assert max(high for *_, high in asked) <= 1
    assert sum(n for n, *_ in asked) <= 3 * 4600


def test_few_queries_ask_for_some_of_the_coefficients(pictures: Distilled) -> None:
    features, secret = read_features(pictures), read_secret(KEY)
    asked: list[int] = []

    def ask(x: Tensor) -> Tensor:
        asked.append(len(x))
        return query_of(_Learned(pictures, 0.3), pictures)(x)

    z, _ = score_outputs(ask, pictures, features, secret, 1, 0, queries=100)
    assert sum(asked) == 100
    assert 2 < z < 15  # of 50 of 230 coefficients
    with pytest.raises(PotstillError, match="at least 20 queries are required, but `queries=19`"):
        score_outputs(ask, pictures, features, secret, 1, 0, queries=19)
    for bad in (lambda x: torch.zeros(len(x), 3), lambda x: torch.full((len(x), 10), math.nan)):
        with pytest.raises(PotstillError, match="a model with 10 finite outputs for each picture is required"):
            score_outputs(bad, pictures, features, secret, 1, 0)


def test_a_service_is_a_function_of_a_file(
    pictures: Distilled, marked: Distilled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    audit = audit_provenance(marked, KEY, model=query_of(_Learned(pictures, 0.3), pictures), progress=None)
    found = audit.values["models"]["the model"][0]
    assert found["by"] == "outputs"
    assert found["trained_on_it"]
    assert "The model was trained on it" in audit.sentence
    assert [row[1] for row in audit.tables[-1].rows] == ["outputs"]
    (tmp_path / "key").write_bytes(KEY)
    marked.save("marked.safetensors")
    (tmp_path / "service.py").write_text(
        "import torch\n\n\ndef ask(x):\n    return torch.full((len(x), 10), 0.1) + 0.0 * x.flatten(1)[:, :10]\n\n\n"
        "class Asker:\n    pass\n"
    )
    words = ["audit", "provenance", "marked.safetensors", "--key", "key", "--queries", "500", "--model"]
    assert main([*words, "service.py:ask", "--json"]) == 0
    held = json.loads(capsys.readouterr().out)["values"]["models"]["the model"][0]
    assert (held["score"], held["trained_on_it"]) == (0.0, False)
    assert main([*words, "service.py:Asker"]) == 1
    assert "service.py:Asker: a function from pictures to outputs is required" in capsys.readouterr().err
    assert main([*words, "none.py:ask"]) == 1
    assert "none.py: no such file" in capsys.readouterr().err


def test_weights_of_another_network_are_one_line(pictures: Distilled, rows: Distilled, tmp_path: Path) -> None:
    expected = factory("mlp-w8", pictures.input, 10, "cpu", normalization=pictures.normalization)(3).state_dict()
    save_file(dict(expected), tmp_path / "w.safetensors")
    found = load_model(tmp_path / "w.safetensors", "mlp-w8", pictures)
    assert all(torch.equal(t, expected[name]) for name, t in found.state_dict().items())
    for network in ("mlp-w16", "convnet-w8"):
        with pytest.raises(PotstillError, match=f"weights of network {network}.* are required"):
            load_model(tmp_path / "w.safetensors", network, pictures)
    with pytest.raises(PotstillError, match="models learn marks of pictures in classes alone"):
        audit_provenance(rows, KEY, model=nn.Linear(7, 2), progress=None)


def test_the_audit_says_who_marked_it_and_how_many_items_prove_it(pictures: Distilled, marked: Distilled) -> None:
    audit = audit_provenance(marked, KEY, model=_Learned(pictures, 0.3), progress=None)
    values = audit.values
    assert values["marked"]
    assert values["carrier"] == "class"
    assert values["p"] == pytest.approx(1 / 1001)
    assert values["bound"] == pytest.approx(2 * math.exp(-(values["score"] ** 2) / 2))
    limit = threshold(2)
    assert limit == pytest.approx(3.2905, abs=1e-3)
    assert values["null"]["false_positives"] <= 5
    curve = values["curve"]["rows"]
    assert [row["items"] for row in curve] == [1, 2, 5, 10, 20, 50, 100]
    assert curve[-1]["score"] == pytest.approx(values["score"])
    assert curve[0]["recognised"] < 0.5 < curve[-1]["recognised"] == 1
    assert all(row["auroc"] == pytest.approx(1 - row["miss"]) for row in curve)
    assert values["curve"]["proves"] in (10, 20, 50)
    (tested,) = values["models"]["the model"]
    assert tested["by"] == "gradients"
    assert tested["trained_on_it"]
    assert tested["outputs"]["trained_on_it"]
    assert [row[1] for row in audit.tables[-1].rows] == ["gradients", "outputs"]
    assert "The owner of this key marked the set" in audit.sentence
    other = audit_provenance(marked, b"another key of the tests", progress=None)
    assert not other.values["marked"]
    assert other.values["curve"] is None
    assert other.sentence.startswith("No mark of this key is shown")
    json.dumps(audit.to_json(), allow_nan=False)


def test_an_audit_needs_keys_students_and_updates(pictures: Distilled) -> None:
    with pytest.raises(PotstillError, match=r"a rate of 0.1 % needs at least 1,000 unmarked keys, but `keys=999`"):
        audit_provenance(pictures, KEY, keys=999, progress=None)
    with pytest.raises(PotstillError, match="at least 1 student and 1 update are required"):
        audit_provenance(pictures, KEY, students=0, progress=None)


@pytest.mark.slow
def test_students_of_the_set_are_recognised_and_others_are_not(marked: Distilled) -> None:
    audit = audit_provenance(marked, KEY, data="mnist-5k", network="mlp-w64", students=3, progress=None)
    models = audit.values["models"]
    assert all(one["trained_on_it"] for one in models["students of the set"])
    assert not any(one["trained_on_it"] for one in models["students of as many random"])


def test_the_commands_mark_audit_and_show_it(
    pictures: Distilled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page").mkdir()
    new_key(tmp_path / "owner.pem")
    pictures.save("small.safetensors")
    words = ["mark", "small.safetensors", "--key", "owner.pem", "--out", "page/m.safetensors"]
    assert main(words) == 0
    assert "marked by class: the key's score is" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0  # the same thing made again
    found = json.loads(capsys.readouterr().out)
    assert found["carrier"] == "class"
    shutil.copy("small.safetensors", "other.safetensors")
    assert main([*words[:-1], "other.safetensors"]) == 1
    assert "holds the set of another run" in capsys.readouterr().err
    assert main(["audit", "provenance", "page/m.safetensors", "--key", "owner.pem", "--out", "page/m.audit.json"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The owner of this key marked the set" in said
    assert main(["report", "page", "--out", "page.html", "--quiet"]) == 0
    assert "The owner of this key marked the set" in Path("page.html").read_text()
    for words in (
        ["mark", "small.safetensors", "--out", "n.safetensors"],
        ["audit", "provenance", "small.safetensors"],
    ):
        assert main(words) == 2
    assert main(["audit", "provenance", "small.safetensors", "--key", "none.pem"]) == 1
