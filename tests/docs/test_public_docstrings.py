"""Docstrings of the public names: complete, true to the signatures, and with examples that run."""

import dataclasses
import doctest
import inspect
import pathlib
import re

import numpy as np
import pytest
import torch

import potstill
from potstill._util.field_docs import field_docs

SECTION = r"^{}:\n((?:    .*\n|\n)+)"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FUNCTIONS = {name: value for name in potstill.__all__ if inspect.isfunction(value := getattr(potstill, name))}
CLASSES = {name: value for name in potstill.__all__ if inspect.isclass(value := getattr(potstill, name))}


def section(function, title):
    """The text of a section of a docstring, without its indent."""
    found = re.search(SECTION.format(title), (inspect.getdoc(function) or "") + "\n", re.MULTILINE)
    return "" if found is None else inspect.cleandoc(found[1])


def arguments(function):
    """The text about each argument in a docstring, by name."""
    parts = re.split(r"^(\*{0,2}\w+): ", section(function, "Args"), flags=re.MULTILINE)
    assert not parts[0].strip(), parts[0]
    return {name.lstrip("*"): " ".join(text.split()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def parameters(function):
    return {n: p for n, p in inspect.signature(function).parameters.items() if n not in ("self", "cls")}


def methods():
    """Public methods that a class of Potstill declares, with and without arguments."""
    for owner, cls in CLASSES.items():
        for name, value in vars(cls).items():
            function = getattr(value, "__func__", value)
            if not name.startswith("_") and inspect.isfunction(function):
                yield pytest.param(function, id=f"{owner}.{name}")


@pytest.mark.parametrize("function", [*(pytest.param(f, id=name) for name, f in FUNCTIONS.items()), *methods()])
def test_every_argument_is_explained_in_the_order_of_the_signature(function):
    assert list(arguments(function)) == list(parameters(function))
    returns = inspect.signature(function).return_annotation
    one_line = (inspect.getdoc(function) or "").startswith("Return ") and not parameters(function)
    assert one_line or section(function, "Returns") or returns is None


@pytest.mark.parametrize("function", [pytest.param(f, id=name) for name, f in FUNCTIONS.items()])
def test_errors_and_an_example_of_every_function_are_there(function):
    assert "PotstillError" in section(function, "Raises")
    assert ">>> " in section(function, "Examples")


@pytest.mark.parametrize("function", [*(pytest.param(f, id=name) for name, f in FUNCTIONS.items()), *methods()])
def test_what_an_absent_argument_means_is_told(function):
    """An argument that is None where it is left out says what then happens; others show their default themselves."""
    text = arguments(function)
    for name, parameter in parameters(function).items():
        if parameter.default is None:
            assert re.search(r"[Dd]efault|``None``|as for `potstill", text[name]), f"{name}: {text[name]}"
        for stated in re.findall(r"Default: ``([\w./-]+)``[.;]", text[name]):
            assert parameter.default in (None, stated), f"{name}: {stated}, but it is {parameter.default!r}"


@pytest.mark.parametrize("cls", [pytest.param(cls, id=name) for name, cls in CLASSES.items()])
def test_every_field_and_property_of_a_class_is_explained(cls):
    assert ">>> " in section(cls, "Examples")
    if dataclasses.is_dataclass(cls):
        docs = field_docs(cls)
        assert [f.name for f in dataclasses.fields(cls) if f.name != "_" and not docs.get(f.name)] == []
    assert [n for n, v in vars(cls).items() if isinstance(v, property) and n[0] != "_" and not inspect.getdoc(v)] == []


@pytest.mark.parametrize("name", [n for n in potstill.__all__ if not n.startswith("_")])
def test_examples_run_and_print_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"potstill": potstill, "np": np, "torch": torch, "pathlib": pathlib}
    text = inspect.getdoc(getattr(potstill, name))
    example = doctest.DocTestParser().get_doctest(text, names, f"potstill.{name}", None, None)
    torch.manual_seed(0)
    failures = []
    doctest.DocTestRunner(optionflags=FLAGS).run(example, out=failures.append)
    assert example.examples
    assert not failures, "".join(failures)
