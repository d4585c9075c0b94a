"""All parts of an audit in one command: which apply, their order and forecast, what is left out, and the page."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill._util.audit_parts import PARTS, audit_command, part_obstacle
from potstill.audit import Audit, write_audit, write_left_out
from potstill.audit import every as module
from potstill.audit.every import AuditPlan, audit_set, plan_audits
from potstill.cli.commands import COMMANDS, find_command
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.reports.audit import audit_section, verdict
from potstill.rng import generator


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("every") / "small.safetensors"
    options: dict[str, Any] = {"ipc": 2, "steps": 5, "network": "mlp-w8", "codec": "uint8", "progress": None}
    potstill.distill("digits", "dm", **options).save(path)
    return path


@pytest.fixture(scope="module")
def small(file: Path) -> Distilled:
    return potstill.load(file)


def test_parts_that_apply_cheapest_first(small: Distilled) -> None:
    plan = plan_audits(small, "digits")
    assert set(plan.seconds) == {"privacy", "robustness", "poisoning"}
    assert list(plan.seconds.values()) == sorted(plan.seconds.values())
    assert min(plan.seconds.values()) >= 1
    assert set(plan.left_out) == {"fairness", "screening", "provenance"}
    assert "`attribute=`" in plan.left_out["fairness"]
    assert plan_audits(small, "digits", parts=["provenance"], key=b"0" * 32).seconds == {"provenance": 1.0}
    with pytest.raises(PotstillError, match=r"privcy.*privacy"):
        plan_audits(small, "digits", parts=["privcy"])


def test_the_forecast_counts_updates_of_a_student(small: Distilled, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def timed(make: object, train: object, batch: int, *args: object, **more: object) -> float:
        asked.append(batch)
        return 0.01

    monkeypatch.setattr(module, "measure_step_seconds", timed)
    splits = potstill.load_data("digits", attribute=None)
    plan = plan_audits(small, splits, parts=["privacy", "robustness"])
    assert asked[0] == len(small)
    # 2 × 300 updates; 3 × (2 × 180 + 600) updates, and 3 × 3 students × 160 passes of 359 pictures in batches of 256
    assert plan.seconds["privacy"] == pytest.approx(1 + 600 * 0.01)
    passes = 9 * module.PASSES * 359 / asked[1]
    assert plan.seconds["robustness"] == pytest.approx(1 + 0.01 * (3 * 960 + passes))


def test_a_table_has_no_robustness() -> None:
    rows = TensorSource.make(torch.randn(60, 3, generator=generator(0)), [i % 2 for i in range(60)], name="rows")
    table = Splits(train=rows, test=None)
    small = potstill.distill(table, "random", ipc=2, progress=None)
    plan = plan_audits(small, table)
    assert not plan.seconds
    assert plan.left_out["robustness"] == "its inputs are no pictures"
    assert plan.left_out["poisoning"] == "its inputs are no pictures"
    assert plan.left_out["privacy"] == "the data have no test part"
    assert part_obstacle("privacy", {"classes": []}) == "the set has no classes"
    assert part_obstacle("robustness", {"classes": ["a"], "input": 5}) == "its inputs are no pictures"


def test_a_part_that_cannot_be_run_leaves_the_others(small: Distilled, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Audit(part="robustness", sentence="Held.", seconds=2.0)

    def refuse(*args: object, **options: object) -> Audit:
        raise PotstillError("too few records")

    monkeypatch.setattr(module, "audit_privacy", refuse)
    monkeypatch.setattr(module, "audit_robustness", lambda *args, **options: made)
    done: list[str] = []
    plan = AuditPlan(seconds={"privacy": 1.0, "robustness": 2.0}, left_out={"fairness": "no attribute"})
    audits = audit_set(small, "digits", plan=plan, progress=None, on_part=lambda audit: done.append(audit.part))
    assert audits.parts == {"robustness": made}
    assert audits.left_out == {"fairness": "no attribute", "privacy": "too few records"}
    assert done == ["robustness"]


def test_the_command_and_the_page(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.audit.json"
    (tmp_path / "small.safetensors").write_bytes(file.read_bytes())
    words = ["audit", str(tmp_path / "small.safetensors"), "--data", "digits", "--parts", "fairness,privacy"]
    assert main([*words, "--out", str(out), "--json"]) == 0
    shown = capsys.readouterr()
    value = json.loads(shown.out)
    assert list(value["parts"]) == ["privacy"]
    assert set(value["forecast"]) == {"privacy"}
    assert "fairness left out: the data were read without an attribute" in shown.err
    assert "in all" in shown.err
    held = json.loads(out.read_text())
    part = held["parts"]["privacy"]
    assert part["sentence"] == value["parts"]["privacy"]["sentence"]
    assert part["seconds"] > 0
    assert set(part["versions"]) == {"potstill", "torch"}
    assert part["date"].count("-") == 2
    assert set(held["left_out"]) == {"fairness"}
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path), "--out", str(page), "--quiet"]) == 0
    text = page.read_text()
    assert text.count(">Trust</h") == 1
    assert "potstill audit robustness small.safetensors --data DATA --out small.audit.json" in text
    assert "read them with --attribute" in text
    assert "The file claims: no formal privacy." in text
    capsys.readouterr()
    assert main([*words, "--quiet"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "Fairness: left out; the data were read without an attribute of each sample; read them with --attribute" in said
    )
    assert "Privacy (took " in said


def test_a_part_that_is_run_later_is_no_longer_left_out(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.audit.json"
    write_left_out(out, file, {"fairness": "why", "provenance": "no key"})
    write_audit(out, file, Audit(part="fairness", sentence="Fair."))
    held = json.loads(out.read_text())
    assert held["left_out"] == {"provenance": "no key"}
    write_left_out(out, file, {"fairness": "again"})
    assert json.loads(out.read_text())["left_out"] == {"provenance": "no key"}


def test_rows_of_the_section() -> None:
    metadata = {"classes": ["a"], "input": {"kind": "table"}}
    one = "".join(audit_section(None, "my set", metadata))
    assert "Not audited." in one
    assert "potstill audit &#x27;my set.safetensors&#x27; --data DATA" in one or "potstill audit 'my set.safeten" in one
    assert audit_section(None, "x") == []
    held = {"parts": {"robustness": {"sentence": "Held; and more. So.", "seconds": 65}, "own": {"sentence": "Yes."}}}
    page = "".join(audit_section(held, "small", metadata))
    assert page.count("not audited") == 4
    assert "does not apply: its inputs are no pictures" in page
    assert page.index("Robustness") < page.index("Own") < page.index("Privacy")
    assert "<td>1 min 5 s</td>" in page
    del held["parts"]["robustness"]
    assert "does not apply: its inputs are no pictures" in "".join(audit_section(held, "small", metadata))
    assert "not audited" not in "".join(audit_section(held, "small"))  # no set, so no command


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [("One. Two.", "One"), ("At 8.5 % it holds; so", "At 8.5 % it holds"), ("All.", "All"), ("", "")],
)
def test_verdicts(sentence: str, expected: str) -> None:
    assert verdict({"sentence": sentence}) == expected


def test_every_part_is_a_command_and_misspelled_ones_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert {f"audit {name}" for name in PARTS} <= set(COMMANDS)
    assert find_command(["audit", "small.safetensors"]) == ("audit", ["small.safetensors"])
    assert find_command(["audit", "privacy", "x"]) == ("audit privacy", ["x"])
    with pytest.raises(ValueError, match="no command 'audit privcy'; did you mean privacy"):
        find_command(["audit", "privcy", "x"])
    assert main(["audit", "elephant", "--data", "digits"]) == 2
    assert "neither a file nor a part" in capsys.readouterr().err
    assert audit_command("", "a b.safetensors").startswith("potstill audit 'a b.safetensors' --data DATA")
