"""Signatures of files: what is signed, who may have signed it, and every way in which that is not so."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

import potstill
from potstill.api.sign import new_key
from potstill.cli.main import main
from potstill.dataset_file import signature as module
from potstill.dataset_file.signature import check_signature, parse_public_key, read_private_key, signature_path
from potstill.errors import PotstillError

PEM = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets, two keys, and the signature of the first set by the first key."""
    place = tmp_path_factory.mktemp("made")
    for method in ("herding", "random"):
        potstill.distill("digits", method, ipc=1, progress=None).save(place / f"{method}.safetensors")
    (place / "owner.pem").write_bytes(Ed25519PrivateKey.from_private_bytes(bytes(range(32))).private_bytes(*PEM))
    new_key(place / "other.pem")
    potstill.sign(place / "herding.safetensors", place / "owner.pem")
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "here")
    return tmp_path / "here"


PUBLIC = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
"""Of the private key whose bytes are 0 to 31, by RFC 8032."""


def test_the_signature_is_of_purpose_and_manifest_and_anyone_can_check_it(made: Path) -> None:
    file = made / "herding.safetensors"
    held = json.loads(signature_path(file).read_text())
    content = file.read_bytes()
    manifest = held["manifest"]
    assert manifest["sha256"] == hashlib.sha256(content).hexdigest()
    assert (manifest["bytes"], manifest["file"], manifest["public_key"]) == (len(content), file.name, PUBLIC)
    assert manifest["set"]["source"]["name"] == "digits"
    signed = b"potstill/signature/1\n" + json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    assert held["signature"] == key.sign(signed).hex()
    key.public_key().verify(bytes.fromhex(held["signature"]), signed)


def test_the_signature_of_fixed_bytes_is_fixed(tmp_path: Path) -> None:
    file, key = tmp_path / "fixed.safetensors", tmp_path / "key.pem"
    file.write_bytes(b"eight by")
    key.write_bytes(Ed25519PrivateKey.from_private_bytes(bytes(range(32))).private_bytes(*PEM))
    module.sign_file(file, key)
    held = json.loads(signature_path(file).read_text())
    assert held["signature"] == (
        "ad1c322bed4681d4cd474b50fc6ffb50d391251b62820fbd14e5df6367c24dc4"
        "8ce7a086ba85d2da2768e65be7f5a507604634c9d704fd49661398a895646208"
    )


def test_a_new_key_is_for_its_owner_alone_and_never_replaced(tmp_path: Path) -> None:
    public = new_key(tmp_path / "mine.pem")
    assert stat.S_IMODE(os.stat(tmp_path / "mine.pem").st_mode) == 0o600
    secret = (tmp_path / "mine.pem").read_bytes()
    assert public == tmp_path / "mine.pub.pem"
    assert parse_public_key(public) == parse_public_key(parse_public_key(public))
    for name in ("mine.pem", "mine"):
        with pytest.raises(PotstillError, match="keys are never replaced"):
            new_key(tmp_path / name)
    assert (tmp_path / "mine.pem").read_bytes() == secret
    assert not (tmp_path / "mine").exists()
    with pytest.raises(PotstillError, match="cannot be written"):
        new_key(tmp_path / "none" / "mine.pem")


def test_a_signed_set_is_verified_by_the_key_and_by_its_digits(place: Path) -> None:
    file = place / "herding.safetensors"
    public = read_private_key(place / "owner.pem").public_key()
    (place / "owner.pub.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for key in (place / "owner.pub.pem", PUBLIC, PUBLIC.upper()):
        (verdict,) = potstill.verify(file, key=key)
        assert (verdict.problem, verdict.signed_by) == ("", PUBLIC)
    assert potstill.verify(file)[0].signed_by == PUBLIC
    moved = place / "moved.safetensors"
    shutil.copy(file, moved)
    shutil.copy(signature_path(file), signature_path(moved))
    assert potstill.verify(moved, key=PUBLIC)[0].problem == ""


def test_in_a_folder_each_set_must_be_signed_but_not_its_record(place: Path) -> None:
    problems = {Path(v.path).name: v.problem for v in potstill.verify(place, key=PUBLIC)}
    assert problems.pop("random.safetensors").startswith("not signed: there is no random.safetensors.sig.json")
    assert {"herding.history.json", "herding.safetensors", "herding.safetensors.sig.json"} <= problems.keys()
    assert not any(problems.values())
    assert potstill.verify(place / "herding.history.json", key=PUBLIC)[0].problem.startswith("not signed")
    assert not any(v.problem for v in potstill.verify(place))


def _edit(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        held = json.loads(path.read_text())
        change(held)
        path.write_text(json.dumps(held))

    return edit


def _forge(held: dict) -> None:
    """Put another key's signature over the manifest, which still names the owner."""
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    signed = b"potstill/signature/1\n" + json.dumps(held["manifest"], sort_keys=True, separators=(",", ":")).encode()
    held["signature"] = other.sign(signed).hex()


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (lambda path: path.write_text(""), "no whole signature (not JSON that is whole"),
    "list": (lambda path: path.write_text("[]"), "no whole signature (it holds no manifest)"),
    "twice": (lambda path: path.write_text('{"format": 1, "format": 1}'), "a name occurs twice"),
    "format": (_edit(lambda held: held.update(format="potstill/signature/9")), "its format is 'potstill/signature/9'"),
    "key length": (_edit(lambda held: held["manifest"].update(public_key="ab")), "must have 64 hexadecimal digits"),
    "no bytes": (_edit(lambda held: held["manifest"].pop("bytes")), "its manifest lacks a valid 'bytes'"),
    "true": (_edit(lambda held: held["manifest"].update(bytes=True)), "its manifest lacks a valid 'bytes'"),
    "short": (_edit(lambda held: held.update(signature="00")), "its signature must have 128 hexadecimal digits"),
    "null": (_edit(lambda held: held.update(signature=None)), "its signature must have 128 hexadecimal digits"),
    "algorithm": (_edit(lambda held: held["manifest"].update(algorithm="none")), "its algorithm is 'none'"),
    "method": (_edit(lambda held: held["manifest"]["set"].update(method="dm")), "damaged or forged"),
    "hash": (_edit(lambda held: held["manifest"].update(sha256="0" * 64)), "damaged or forged"),
    "added": (_edit(lambda held: held["manifest"].update(more=1)), "damaged or forged"),
    "forged": (_edit(_forge), "damaged or forged"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_signature_is_one_line(case: str, place: Path) -> None:
    file = place / "herding.safetensors"
    damage, said = DAMAGE[case]
    damage(signature_path(file))
    for key in (PUBLIC, None):
        (verdict,) = potstill.verify(file, key=key)
        assert said in verdict.problem
        assert "\n" not in verdict.problem


def test_another_file_and_another_key_are_told_apart(place: Path) -> None:
    first, second = place / "herding.safetensors", place / "random.safetensors"
    shutil.copy(signature_path(first), signature_path(second))
    assert "the signature of another file or an earlier one" in potstill.verify(second, key=PUBLIC)[0].problem
    other = parse_public_key(place / "other.pub.pem")
    assert f"signed by key {PUBLIC[:16]}…, but {other[:16]}…" in potstill.verify(first, key=other)[0].problem
    with pytest.raises(PotstillError, match="holds a signature by another key"):
        potstill.sign(first, place / "other.pem")
    before = signature_path(first).read_bytes()
    potstill.sign(first, place / "owner.pem")  # by the same key: the same bytes
    assert signature_path(first).read_bytes() == before
    potstill.sign(first, place / "other.pem", force=True)
    assert potstill.verify(first, key=other)[0].problem == ""
    first.unlink()
    assert "is not beside it" in potstill.verify(signature_path(first))[0].problem


def test_keys_of_another_kind_are_one_line(place: Path) -> None:
    big, small = rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256R1())
    cases: dict[str, tuple[bytes, str]] = {
        "rsa.pem": (big.private_bytes(*PEM), "an Ed25519 key is required, but this is one of RSA with 1,024 bits"),
        "ec.pem": (small.private_bytes(*PEM), "one of ECDSA|one of EllipticCurve|one of EC"),
        "text.pem": (b"hello", "holds no whole private key in PEM"),
        "cut.pem": ((place / "owner.pem").read_bytes()[:80], "holds no whole private key in PEM"),
        "public.pem": ((place / "other.pub.pem").read_bytes(), "but this is a public one"),
        "locked.pem": (
            read_private_key(place / "owner.pem").private_bytes(*PEM[:2], BestAvailableEncryption(b"word")),
            "this one has a passphrase",
        ),
        "ssh.pem": (
            read_private_key(place / "owner.pem").private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
            "this is one of OpenSSH",
        ),
    }
    for name, (content, said) in cases.items():
        (place / name).write_bytes(content)
        with pytest.raises(PotstillError, match=said) as error:
            potstill.sign(place / "random.safetensors", place / name)
        assert "\n" not in str(error.value)
    assert not signature_path(place / "random.safetensors").exists()
    (place / "rsa.pub.pem").write_bytes(big.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for key, said in {
        place / "rsa.pub.pem": "an Ed25519 key is required", place / "other.pem": "this is a private one",
        "abcd": "has 64 digits, but `key=` has 4", place / "none.pem": "no such key",
        place / "text.pem": "no whole public",
        place: "cannot be read",
    }.items():  # fmt: skip
        with pytest.raises(PotstillError, match=said):
            potstill.verify(place / "herding.safetensors", key=key)


def test_only_whole_files_of_potstill_are_signed(place: Path) -> None:
    (place / "notes.txt").write_text("mine")
    content = (place / "random.safetensors").read_bytes()
    (place / "cut.safetensors").write_bytes(content[:-9])
    for name, said in {
        "notes.txt": "not a file that Potstill writes", "cut.safetensors": "cut off or damaged", ".": "a folder",
        "none": "one file to sign is required",
    }.items():  # fmt: skip
        with pytest.raises(PotstillError, match=said):
            potstill.sign(place / name, place / "owner.pem")
    (place / "random.safetensors.sig.json").write_text("{}")
    with pytest.raises(PotstillError, match="is there already, and is no signature"):
        potstill.sign(place / "random.safetensors", place / "owner.pem")


def test_without_the_package_the_hash_alone_is_compared(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = place / "herding.safetensors"
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    found = check_signature(file)
    assert found is not None
    assert not found.checked
    (verdict,) = potstill.verify(file)
    assert (verdict.signed_by, verdict.problem) == ("", "")
    assert potstill.verify(signature_path(file))[0].about.endswith(", not checked")
    shutil.copy(signature_path(file), place / "random.safetensors.sig.json")
    assert "another file" in potstill.verify(place / "random.safetensors")[0].problem


def test_the_commands_make_a_key_sign_and_verify(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main(["sign", "random.safetensors", "--new-key", "new.pem", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["signatures"] == ["random.safetensors.sig.json"]
    assert found["digits"] == parse_public_key(place / found["public_key"])
    assert main(["verify", "random.safetensors", "--key", "new.pub.pem"]) == 0
    assert f"signed by {found['digits'][:16]}…\n" in capsys.readouterr().out
    assert main(["verify", "random.safetensors"]) == 0
    assert "which nobody compared: give --key" in capsys.readouterr().out
    assert main(["verify", "random.safetensors", "--key", "other.pub.pem"]) == 1
    assert "signed by key" in capsys.readouterr().out
    for words in (["sign"], ["sign", "random.safetensors"], ["sign", "--key", "new.pem"],
                  ["sign", "random.safetensors", "--key", "new.pem", "--new-key", "b.pem"]):  # fmt: skip
        assert main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["sign", "none.safetensors", "--new-key", "b.pem"]) == 1
    assert not (place / "b.pem").exists()
