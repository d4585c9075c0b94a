"""``compare --grid``: a grid in a file is the same as its words on the command line."""

from pathlib import Path

import pytest

from potstill.cli.command import Misuse
from potstill.cli.option_types import parse_byte_counts, parse_specs
from potstill.cli.parsing import parse
from potstill.errors import PotstillError

GRID = """
methods:
  random:
  dm: {iterations: 7, batch-real: 16}
ipc: [1, 10]
bytes: [20kB]
repeats: 3
protocols:
  potstill:
  dc: {epochs: 5}
codecs: [uint4, "uint2:aware=true"]
network: mlp
"""
SAME = [
    *("--methods", "random,dm", "--set", "dm.iterations=7", "--set", "dm.batch_real=16", "--ipc", "1,10"),
    *("--bytes", "20kB", "--repeats", "3", "--protocols", "potstill,dc", "--set", "protocol:dc.epochs=5"),
    *("--codecs", "uint4,uint2:aware=true", "--network", "mlp"),
]
LINE = ["digits", "--out", "board"]


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    return path


def test_a_grid_is_its_words(grid: Path) -> None:
    here, there = parse("compare", [*LINE, "--grid", str(grid)]), parse("compare", [*LINE, *SAME])
    assert here.settings == there.settings == {
        "dm": {"iterations": 7, "batch_real": 16}, "protocol:dc": {"epochs": 5}
    }  # fmt: skip
    for name in ("methods", "ipc", "bytes", "repeats", "protocols", "codecs", "network"):
        assert getattr(here.command, name) == getattr(there.command, name)
    assert there.command.codecs == ("uint4", "uint2:aware=true")
    assert there.command.bytes == (20_000,)


def test_the_command_line_wins(grid: Path) -> None:
    more = ["--repeats", "1", "--items", "4", "--protocol", "dsa", "--set", "dm.iterations=9"]
    grid.write_text(GRID.replace("  dc: {epochs: 5}", "  dc:"))
    found = parse("compare", [*LINE, "--grid", str(grid), *more])
    command = found.command
    assert (command.repeats, command.ipc, command.items, command.bytes) == (1, None, (4,), None)
    assert (command.protocol, command.protocols) == ("dsa", None)
    assert found.settings["dm"]["iterations"] == 9


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("methods: [dm]\nseeds_: 3", "no option --seeds-"),
        ("methods: {dm: {iteration: 3}}", "did you mean iterations"),
        ("methods: [dm]\nset: {dm.iterations: many}", "cannot be 'many'"),
        ("methods: [dm]\nprotocols: {dc: {epochz: 3}}", "did you mean epochs"),
        ("methods: [herdin]", "did you mean herding"),
        ("methods: [dm]\nparametrizations: [tile]", "did you mean tiles"),
        ("- dm", "is a mapping"),
    ],
)
def test_what_a_grid_cannot_say_is_one_line(grid: Path, text: str, said: str) -> None:
    grid.write_text(text)
    with pytest.raises((Misuse, PotstillError), match=said) as error:
        parse("compare", [*LINE, "--ipc", "1", "--grid", str(grid)])
    assert "\n" not in str(error.value)


def test_one_protocol_or_several() -> None:
    with pytest.raises(Misuse, match="one of the two"):
        parse("compare", [*LINE, "--methods", "dm", "--ipc", "1", "--protocol", "dc", "--protocols", "dc,dsa"])


def test_commas_of_settings_part_nothing() -> None:
    assert parse_specs("tiles:factor=2,x=3,pixels,memory") == ("tiles:factor=2,x=3", "pixels", "memory")
    assert parse_byte_counts("20kB, 1MB") == (20_000, 1_000_000)
    for parse_it, wrong in (
        (parse_specs, "a,,b"),
        (parse_specs, "a,a"),
        (parse_byte_counts, "20 parsecs"),
        (parse_byte_counts, "1kB,1000"),
    ):
        with pytest.raises(ValueError, match="needed"):
            parse_it(wrong)
