"""The notebooks in ``examples/`` hold the outputs of their code, and say what they show when they are run again.

``make test`` runs a third of them, another one each day (`tests.rotating`); ``make test-all`` runs all.
"""

import datetime
import io
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from PIL import Image

from potstill._util.import_from_file import FileReference
from potstill.core import label_mode
from potstill.testing import check_method
from tests.rotating import describe_third, rotating, third
from tools.docs.gallery import EXAMPLES, GALLERY, LARGEST, PATHS, clean, execute, hash_code, pictures, read, render

NUMBER = r"[+-]?\d+\.\d+"
CLAIMS = {
    "pictures": [r"this set +\d", r"random +\d", rf"This set .* the same bytes: {NUMBER} to {NUMBER} points"],
    "table": [r"column 'magnesium' is empty", r"\(15, 13\)", rf"random real rows lie {NUMBER} below the best"],
    "medicine": [
        r"random +\d+ patients, [89]\d\d bytes",
        r"random +(\d+) of \1 are near copies",
        rf"dm minus random patients: {NUMBER} points of sensitivity; near copies \d+",
        rf"dm minus all data: {NUMBER} to {NUMBER} points",
    ],
    "series": [r"forecasts that learn nothing: .*seasonal \(12\)", r"real windows win|the set wins|not told apart"],
    "series_classes": [
        r"133 series of 1×13",
        r"always the largest class|class by class",
        r"dm, minirocket\s+\d+\.\d%",
        "real curves win|the set wins|not told apart",
    ],
    "texts": [
        r"kip +[\d,]+ bytes, and [\d,]+ of the vectors' encoder",
        r"always the largest class \(arrays\)",
        rf"kip, tfidf, minus random: {NUMBER} to {NUMBER} points: (the set wins|not told apart)",
        rf"kip, linear-model, minus herding: {NUMBER} to {NUMBER} points: ",
    ],
    "graphs": [
        r"Graph with \d+ nodes",
        r"(?m)^linalg +.*lapack",
        rf"sgc +minus random +{NUMBER} to {NUMBER} points: (the set wins|not told apart)",
        rf"gcn +minus herding +{NUMBER} to {NUMBER} points: ",
    ],
    "graph_classes": [
        r"herding +15 graphs, \d+ bytes",
        rf"herding, graph-forest, minus random: {NUMBER} to {NUMBER} points: ",
        rf"dm, gin, minus random: {NUMBER} to {NUMBER} points: ",
        r"the bytes of this set hold \d+ random graphs",
    ],
    "simulations": [
        r"800 simulations, 24 outputs each",
        r"kip +24 simulations, [\d,]+ bytes",
        r"krr-ntk: (k-means|k-center|kip) has the least error, 0\.\d+ below random",
    ],
    "recommendation": [
        r"distill-cf +20 users, \d+ bytes",
        r"the popular items, which learn nothing",
        rf"ntk-autoencoder: fake minus random users {NUMBER} to {NUMBER} points: fake users win",
        rf"item-ridge: {NUMBER} points above popular items",
    ],
    "control": [
        "8 rows measured",
        r"(?s)best of random pairs.*?the trained policy.*?a linear policy",
        r"set minus random pairs: \+\d+ to \+\d+ steps: the set is better",
        r"set minus the trained policy: ",
    ],
    "pairs": [
        rf"chance 0\.061, this set 0\.(?!0[0-6])\d+, random pairs of the same bytes {NUMBER}",
        "better|worse|not",
    ],
    "own_network": [
        "passed",
        r"Net learns most from the set of \w+: 0\.\d+",
        r"mlp learns most from the set of \w+: 0",
    ],
    "own_method": ["passed", r"(?m)^lvq\.py:LVQ +0\.\d+", r"(?m)^random +0\.\d+", "random"],
    "labels": [
        r"labels take \d+\.\d to \d+\.\d times the bytes",
        r"the smallest form takes 1/(?!1 )\d+ of the largest",
    ],
    "pretraining": [
        r"20 pictures, vectors \(20, 8\), [\d,]+ bytes",
        rf"With 10 labels for each class of mnist-5k, pre-training on this set of digits changes accuracy by {NUMBER}",
        rf"Beside random pictures .* it is {NUMBER} points",
    ],
    "search": [r"dm +rank correlation 0\.\d+, regret \d+\.\d points", r"random +rank correlation 0\.\d+, regret"],
    "continual": [
        r"no memory +0\.[0-3]\d ",
        r"random, 2 bits +0\.[4-9]\d ",
        "the larger is that of the (codec|method)",
    ],
    "federated": [
        "all four ended with the same set",
        rf"one place {NUMBER} points, against each alone {NUMBER} points",
    ],
    "deletion": [
        "10 records deleted; made again: class 7, 1 of 10 units",
        "equal to a set made from scratch, bit by bit: True",
        r"a set of 100 of them +AUC 0\.[789]",
        "class 7 alone has changed: True",
        "samples give themselves away more than made items: True",
    ],
    "edge": [
        r"real-integers +\d+\.\d %",
        "POTSTILL_|#define",
        r"The set of [\d,]+ bytes trains a linear head to",
        "The C program is within|no C compiler",
    ],
    "augmentation": [
        r"raw +\d+\.\d %",
        r"adapted instead of as it is: [+-]\d",
        r"both halves without it, instead of adapted: [+-]\d",
        "best: both parts",
    ],
    "share": [r"distilled\.safetensors +\d", r"above \d of 5 random draws", "the set's inputs, number for number"],
    "trust": [
        r"damaged\.safetensors +damaged: ",
        r"program\.safetensors +a pickle",
        "fair: no warning, 0 copies of test samples",
        "leaky: warned, 20 copies of test samples",
    ],
}
"""What a notebook prints when it is through, in this order."""


def printed(notebook: NotebookNode) -> str:
    """Return the text of all outputs; of HTML without its tags."""
    data = [
        output.get("data", {"text/plain": output.get("text", "")})
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    ]
    texts = [kinds.get("text/plain") or re.sub(r"<[^>]+>", " ", kinds.get("text/html", "")) for kinds in data]
    return "".join(text if text.endswith("\n") else text + "\n" for text in texts)


def check_claims(name: str, notebook: NotebookNode) -> None:
    """Fail where a notebook does not print what it claims, in that order."""
    text, at = printed(notebook), 0
    for claim in CLAIMS[name]:
        found = re.compile(claim).search(text, at)
        assert found is not None, f"{claim!r} is not in\n{text[at:]}"
        at = found.end()


def test_there_are_no_others() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == set(CLAIMS) == set(GALLERY)
    listed = re.findall(r"\((\w+)\.ipynb\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"))
    assert listed == list(GALLERY)


@pytest.mark.parametrize("name", GALLERY)
def test_outputs_are_of_this_code_and_tell_nothing_of_a_machine(name: str) -> None:
    notebook, text = read(name), (EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8")
    nbformat.validate(notebook)
    stored = notebook.metadata.get("potstill", {}).get("code")
    assert stored == hash_code(notebook), f"run `python -m tools.docs.gallery {name}`"
    assert len(text) < LARGEST
    assert not PATHS.search(text)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert all(cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert not re.search(r"\d (ms|s|seconds|min|minutes)\b", printed(notebook))
    check_claims(name, notebook)


@pytest.mark.parametrize("name", GALLERY)
def test_a_notebook_says_what_it_takes_and_ends_with_what_was_found(name: str) -> None:
    first, *_, last = cells = read(name).cells
    assert first.source.startswith("# ")
    assert re.search(r"It takes .* two cores[ ,].*downloads nothing", first.source)
    found = next(n for n, cell in enumerate(cells) if cell.source.startswith("## What you found"))
    assert cells[found + 1].cell_type == "code"
    assert cells[found + 1].outputs
    links = re.findall(r"^- \[.+\]\((.+)\): ", last.source.partition("## Next\n")[2], re.MULTILINE)
    assert 2 <= len(links) <= 3
    assert all(
        (EXAMPLES / link).exists() for cell in cells for link in re.findall(r"\]\(((?!http)[^)#]+)", cell.source)
    )


@pytest.mark.parametrize("name", GALLERY)
def test_a_notebook_has_a_figure_and_each_figure_a_description(name: str) -> None:
    notebook = read(name)
    drawn = list(pictures(notebook))
    assert drawn
    for number, png in drawn:
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.width <= 1000
        assert len(notebook.cells[number].metadata["alt"]) > 20


@pytest.mark.parametrize("name", rotating(GALLERY))
def test_a_notebook_runs_and_finds_what_it_says(name: str, tmp_path: Path) -> None:
    before = {path.name for path in EXAMPLES.iterdir()} - {"__pycache__"}
    made = execute(EXAMPLES / f"{name}.ipynb", tmp_path)
    check_claims(name, made)
    assert {path.name for path in EXAMPLES.iterdir()} - {"__pycache__"} == before


def test_a_failing_notebook_is_told_with_its_traceback(tmp_path: Path) -> None:
    path = tmp_path / "wrong.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), path)
    (tmp_path / "files").mkdir()
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        execute(path, tmp_path / "files")


def test_every_third_is_met_in_three_days() -> None:
    days = [datetime.date(2026, 11, 24) + datetime.timedelta(days=n) for n in range(4)]
    thirds = [third(GALLERY, day) for day in days]
    assert sorted(thirds[0] + thirds[1] + thirds[2]) == sorted(GALLERY)
    assert thirds[3] == thirds[0]
    assert describe_third("notebooks", GALLERY).startswith("notebooks: third ")


def test_a_page_shows_code_output_and_figures() -> None:
    code = nbformat.v4.new_code_cell("print(1)", metadata={"alt": "a line"})
    code.outputs = [
        nbformat.v4.new_output("stream", text="1\n"),
        nbformat.v4.new_output("display_data", data={"image/png": "AAAA"}),
        nbformat.v4.new_output("display_data", data={"text/html": "<b>\n\n2</b>"}),
    ]
    about = nbformat.v4.new_markdown_cell("# Title\n\nSee [more](../docs/index.md) and [another](table.ipynb).")
    page = render("one", nbformat.v4.new_notebook(cells=[about, code]))
    assert page.startswith("# Title\n")
    assert "[more](../index.md) and [another](table.md)" in page
    assert "```python\nprint(1)\n```\n\n```text\n1\n```\n\n![a line](one-1.png)" in page
    assert "<b> 2</b></div>" in page


def test_what_differs_at_each_run_is_not_kept() -> None:
    assert clean(nbformat.v4.new_output("stream", name="stderr", text="10 %")) is None
    table = nbformat.v4.new_output(
        "display_data", data={"text/html": "<style scoped>a</style><td>60 in 1.2 s</td>", "text/plain": "60"}
    )
    kept = clean(table)
    assert kept is not None
    assert kept.data == {"text/html": "<td>60</td>"}
    code = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    other = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("2")])
    assert hash_code(code) != hash_code(other)


def test_a_helper_called_labels_asks_for_no_soft_labels() -> None:
    """It was taken for the field of that name, so that hard labels were said to break the contract."""
    kind = FileReference.read(f"{EXAMPLES / 'lvq.py'}:LVQ").load()
    assert label_mode(kind) == "hard"
    check_method(kind(iterations=2), steps=2, kind="table")
