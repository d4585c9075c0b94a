"""The file that holds the parts of an audit, and its section on the page."""

import json
from pathlib import Path

import pytest

import potstill
from potstill.audit import Audit, AuditTable, check_audit_output, write_audit
from potstill.errors import PotstillError
from potstill.reports.audit import audit_section, describe_audit


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audit") / "small.safetensors"
    potstill.distill("digits", "random", ipc=1, progress=None).save(path)
    return path


def _audit(part: str, sentence: str) -> Audit:
    table = AuditTable(caption="Of <b>classes</b>", head=["class", "score"], rows=[["<i>one</i>", "0.5"]])
    return Audit(part=part, sentence=sentence, tables=[table], notes=["a note"], values={"auc": 0.5}, seconds=1.5)


def test_parts_of_one_set_join_in_one_file(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.audit.json"
    write_audit(out, small, _audit("privacy", "first"))
    write_audit(out, small, _audit("fairness", "second"), command="potstill audit fairness")
    write_audit(out, small, _audit("privacy", "again"))
    held = json.loads(out.read_text())
    assert {name: part["sentence"] for name, part in held["parts"].items()} == {
        "privacy": "again",
        "fairness": "second",
    }
    assert held["parts"]["fairness"]["command"] == "potstill audit fairness"
    assert held["parts"]["privacy"]["values"] == {"auc": 0.5}


def test_an_audit_of_another_set_is_not_mixed_in(small: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other.safetensors", tmp_path / "small.audit.json"
    potstill.distill("digits", "random", ipc=2, progress=None).save(other)
    write_audit(out, small, _audit("privacy", "first"))
    with pytest.raises(PotstillError, match="holds the audit of another set"):
        check_audit_output(out, other)
    check_audit_output(out, small)
    write_audit(out, other, _audit("fairness", "second"))
    assert list(json.loads(out.read_text())["parts"]) == ["fairness"]


def test_a_file_that_is_no_audit_stays(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.audit.json"
    out.write_text('{"thesis": 1}')
    with pytest.raises(PotstillError, match="is no audit of a set"):
        check_audit_output(out, small)
    check_audit_output(out, small, force=True)


def test_text_of_data_is_escaped_on_the_page(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.audit.json"
    write_audit(out, small, _audit("privacy", "<script>alert(1)</script>"))
    held = json.loads(out.read_text())
    page = "".join(map(str, audit_section(held, "small")))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<i>one</i>" not in page
    assert "<td>2 s</td>" in page
    held["parts"]["<b>x</b>"] = held["parts"]["privacy"] | {"versions": {"potstill": "<i>1</i>"}, "date": "<u>"}
    held["left_out"] = {"fairness": "<script>2</script>"}
    metadata = {"classes": ["a"], "input": {"kind": "image"}}
    page = "".join(map(str, audit_section(held, "<a>'", metadata)))
    assert not any(word in page for word in ("<script>", "<u>", "<i>1", "<a>", "<b>x"))
    assert "&lt;script&gt;2" in page


def test_a_damaged_part_is_left_out() -> None:
    part = {"sentence": "yes", "tables": [{"head": ["a"], "rows": [["1", "2"], "no", ["3"]]}, 5], "notes": "none"}
    text, table = describe_audit(part)
    assert text == "yes"
    assert not isinstance(table, str)
    assert list(table.rows) == [["3"]]
    assert audit_section({"parts": [1]}) == []


def test_a_report_shows_the_audit_of_its_set(small: Path, tmp_path: Path) -> None:
    from potstill.cli.main import main

    write_audit(small.with_name("small.audit.json"), small, _audit("privacy", "copies were found"))
    assert main(["report", str(small.parent), "--out", str(tmp_path / "page.html"), "--quiet"]) == 0
    assert "copies were found" in (tmp_path / "page.html").read_text()
