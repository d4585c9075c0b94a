"""What the command line takes, Python takes: paths as text, sizes as text, methods by name, by file and as values."""

import importlib
import inspect
import pickle
import pkgutil
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
import potstill.api
from potstill.cli.main import main
from potstill.comparison.cells import stem_of
from potstill.comparison.grid import _label
from potstill.core.registry import resolve
from potstill.errors import PotstillError
from potstill.evaluation import Protocol
from potstill.methods import DM, Random

PARTS = ("arrays", "auto", "board", "comparing", "released", "texts")
"""Modules of ``potstill.api`` that hold parts of `import_set`, `distill`, `report` and `compare`."""


def public() -> list[tuple[str, Callable[..., Any]]]:
    """The functions of ``potstill`` and of the modules of ``potstill.api``, but for parts of others."""
    found: dict[str, Any] = {name: getattr(potstill, name) for name in potstill.__all__}
    for module in pkgutil.walk_packages(potstill.api.__path__, "potstill.api."):
        if module.name.split(".")[2] in PARTS:
            continue
        home = importlib.import_module(module.name)
        found |= {f"{module.name}.{name}": getattr(home, name) for name in getattr(home, "__all__", ())}
    return [(name, value) for name, value in sorted(found.items()) if inspect.isfunction(value)]


def alternatives(hint: Any) -> set[Any]:
    """What an annotation lets through, unions opened and what they hold looked into."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return set().union(*(alternatives(one) for one in typing.get_args(hint)))
    return {hint}


PATHS = [
    (name, function, parameter) for name, function in public()
    for parameter, hint in typing.get_type_hints(function).items()
    if parameter != "return" and Path in alternatives(hint)
]  # fmt: skip


def test_there_are_paths_to_look_at() -> None:
    assert {("compare", "out"), ("distill", "checkpoint"), ("export", "path")} <= {(n, p) for n, _, p in PATHS}


@pytest.mark.parametrize(
    ("name", "function", "parameter"), PATHS, ids=[f"{name}-{parameter}" for name, _, parameter in PATHS]
)
def test_a_path_may_be_a_text(name: str, function: Callable[..., Any], parameter: str) -> None:
    assert str in alternatives(typing.get_type_hints(function)[parameter])


@dataclass(frozen=True, kw_only=True)
class Mine(Random):
    """A method of somebody's own, with a setting."""

    strength: float = 1.0


def data() -> Any:
    x = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(1)).numpy()
    return potstill.load_data((x, [0, 1] * 30))


QUICK: dict[str, Any] = {"network": "mlp", "seeds": 2, "steps": 4, "lr": 0.01}


@pytest.mark.parametrize("kind", [str, Path])
def test_compare_takes_a_folder_as_text(tmp_path: Path, kind: Callable[[Path], Any]) -> None:
    found = potstill.compare(data(), "random", 1, out=kind(tmp_path / "board"), **QUICK)
    assert [row["method"] for row in found["rows"]] == ["random"]
    assert (tmp_path / "board/leaderboard.json").is_file()


def test_methods_are_names_and_values_side_by_side(tmp_path: Path) -> None:
    asked = [Mine(), Mine(strength=2.0), "dm", DM(iterations=5), DM(iterations=5)]
    found = potstill.compare(
        data(), asked, 1, out=str(tmp_path), **QUICK, options={"dm": {"iterations": 2}}, preset="good"
    )
    assert {row["method"] for row in found["rows"]} == {
        "random", "Mine()", "Mine(strength=2.0)", "dm", "DM(iterations=5)"
    }  # fmt: skip
    assert not [row for row in found["rows"] if "error" in row]
    made = {row["method"]: potstill.load(tmp_path / row["file"]).metadata for row in found["rows"]}
    assert made["DM(iterations=5)"]["config"]["iterations"] == 5
    assert made["dm"]["config"]["iterations"] == 2
    assert made["Mine(strength=2.0)"]["config"]["strength"] == 2.0
    # the same call reads what is there; another value of that name is another file
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    potstill.compare(data(), asked[:4], 1, out=str(tmp_path), **QUICK, options={"dm": {"iterations": 2}}, preset="good")
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}


def test_two_classes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first, second = Mine, dataclass(frozen=True, kw_only=True)(type("Mine", (Random,), {"__module__": __name__}))
    found = potstill.compare(data(), [first(), second()], 1, out=tmp_path, **QUICK)
    assert {row["method"] for row in found["rows"]} == {"random", "Mine()", "Mine()-2"}


def test_a_value_with_many_settings_has_a_name_that_a_file_can_have() -> None:
    many = f"Mine({', '.join(f'setting_{n}={n}' for n in range(40))})"
    assert len(stem_of(many, "ipc", 1, None, None, 0)) < 120
    assert stem_of(many, "ipc", 1, None, None, 0) != stem_of(f"{many[:-1]}0)", "ipc", 1, None, None, 0)
    assert stem_of("DM(iterations=5)", "ipc", 10, None, None, 1) == "DM_iterations_5-ipc10-set1"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Mine, r"methods are names, file.py:Class, or values such as DM.*give a value, Mine\(\)"),
        (3, "methods are names, file.py:Class, or values such as DM.*, not 3"),
        (DM(iterations=0), "iterations must be at least 1"),
    ],
)  # fmt: skip
def test_what_is_no_method_is_one_line(given: Any, said: str) -> None:
    with pytest.raises(PotstillError, match=said) as raised:
        _label(given)
    assert "\n" not in str(raised.value)


def test_the_command_line_names_a_file_beside_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom potstill.methods import Random\n\n\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Mine(Random):\n    pass\n"
    )
    words = ["compare", "digits", "--methods", f"{tmp_path / 'mine.py'}:Mine,random", "--ipc", "1", "--network", "mlp"]
    assert main([*words, "--seeds", "2", "--steps", "4", "--lr", "0.01", "--out", str(tmp_path / "b"), "--quiet"]) == 0
    assert (tmp_path / "b/mine-Mine-ipc1.safetensors").is_file()
    assert "mine.py:Mine" in capsys.readouterr().out


def test_protocols_and_axes_are_one_or_several(tmp_path: Path) -> None:
    fast = replace(resolve("protocols", "potstill"), name="fast").change(steps=(3,), lr=(0.01,))
    found = potstill.compare(
        data(), "random", 1, out=str(tmp_path), network="mlp", seeds=2, protocol=fast, codecs="uint8"
    )
    assert (found["protocols"], [row["requested_codec"] for row in found["rows"]]) == (["fast"], ["uint8"])


def test_a_set_is_exported_from_its_path(tmp_path: Path) -> None:
    small = potstill.distill(data(), Random(), bytes="1kB", progress=None)
    small.save(str(tmp_path / "s.safetensors"))
    potstill.export(str(tmp_path / "s.safetensors"), "npz", str(tmp_path / "s.npz"))
    assert (tmp_path / "s.npz").is_file()


def test_times_may_be_texts_everywhere(tmp_path: Path) -> None:
    small = potstill.distill(
        data(), "dm", ipc=1, time_limit="10m", steps=1, checkpoint=str(tmp_path / "c"), checkpoint_every="60s",
        progress=None,
    )  # fmt: skip
    assert len(small) == 2
    with pytest.raises(PotstillError, match="checkpoint_every"):
        potstill.distill(data(), "dm", ipc=1, checkpoint_every="soon", progress=None)


def test_scores_take_one_name_and_values(tmp_path: Path) -> None:
    kind = resolve("methods", "el2n")
    for methods in ("el2n", [kind()]):
        found = potstill.score(data(), methods, str(tmp_path / "s.parquet"), network="mlp", record_epochs=3, runs=1)
        assert list(found.methods) == ["el2n"]
    assert isinstance(pickle.dumps(kind()), bytes)
    assert Protocol is type(resolve("protocols", "potstill"))
