"""What a release needs is there and agrees with itself. ``make wheel-check`` tries the wheel itself."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from potstill.cli.recipe import read_recipe
from potstill.errors import PotstillError

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_citation_file_is_of_this_version():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= found.keys()  # what version 1.2.0 requires
    assert (found["cff-version"], found["type"]) == ("1.2.0", "software")
    assert all(
        {"name"} <= author.keys() or {"family-names", "given-names"} <= author.keys() for author in found["authors"]
    )
    assert found["version"] == PROJECT["project"]["version"]
    assert found["license"] == PROJECT["project"]["license"]


def test_a_recipe_that_comes_with_the_package_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_recipe(Path("dm")) == read_recipe(Path("recipes/dm.yaml")) == read_recipe(ROOT / "recipes/dm.yaml")
    Path("dm").write_text("method: dc\n")
    assert read_recipe(Path("dm")) == {"method": "dc"}  # a file of one's own comes first
    with pytest.raises(PotstillError, match=r"no-such\.yaml: cannot read the recipe"):
        read_recipe(Path("recipes/no-such.yaml"))


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_an_image_installs_the_wheel_with_what_is_pinned_and_runs_as_a_user(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "constraints.txt" in text
    assert "--editable" not in text
    assert re.search(r"^USER potstill$", text, re.MULTILINE)
    assert ("whl/cpu" in text) == (name == "Dockerfile")
