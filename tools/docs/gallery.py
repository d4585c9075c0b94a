"""The notebooks of ``examples/`` as pages of the site, and the command that runs them anew.

    python -m tools.docs.gallery [NAME …]

runs notebooks, each in a kernel and a temporary folder of its own, and stores their outputs in them with a hash of the
code that made these. `gallery_pages` makes a page of each; as a hook of MkDocs (``mkdocs.yml``) this adds the figures,
the files to download, the cards of the gallery and links to the reference.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbformat import NotebookNode
from PIL import Image

from tools.docs.generated_page import GeneratedPage

__all__ = [
    "EXAMPLES", "GALLERY", "LARGEST", "PATHS", "clean", "execute", "gallery_pages", "hash_code", "on_files",
    "on_page_markdown", "pictures", "read", "render",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
GALLERY = (
    "pictures", "table", "medicine", "series", "series_classes", "texts", "graphs", "graph_classes", "recommendation",
    "control", "simulations", "pairs", "own_network", "own_method", "labels", "pretraining", "search", "continual",
    "federated", "deletion", "edge", "augmentation", "share", "trust",
)  # fmt: skip
"""All notebooks, in the order of the gallery."""
LARGEST = 300_000
"""Bytes of a notebook with its outputs, at most."""
CARDS = "<!-- cards -->"
"""Where the gallery's cards stand on docs/examples/index.md."""
THUMBNAIL = 480
"""Width of a card's picture in pixels."""
API = re.compile(r"\bpotstill\.([A-Za-z_]+)\b|from (potstill\.[a-z_.]+) import ([A-Za-z_, ]+)")
PATHS = re.compile(r"/(?:home|root|Users|work|tmp|var)/\S*")
VARIES = re.compile(r"(\d+) in [\d.]+ (?:ms|s|min)\b|<style scoped>.*?</style>\s*", re.DOTALL)
"""Time of the steps in the table of a set, and what pandas writes beside a frame."""
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=600).execute()
nbformat.write(notebook, sys.argv[2])
"""


def read(name: str) -> NotebookNode:
    """Return a notebook of ``examples/``."""
    return nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)


def hash_code(notebook: NotebookNode) -> str:
    """Return the hash of all code cells, by which stored outputs are known to be of this code."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def execute(path: Path, folder: Path) -> NotebookNode:
    """Run a notebook in a kernel of its own and return it with its outputs.

    Args:
        path: of the notebook; the kernel runs in its folder.
        folder: empty folder for temporary files, the cache and the kernel's own files.

    Raises:
        RuntimeError: a cell fails; the text ends with its traceback.
    """
    places = {"TMPDIR": "tmp", "IPYTHONDIR": "ipython", "JUPYTER_RUNTIME_DIR": "run", "POTSTILL_CACHE": "cache"}
    for place in places.values():
        (folder / place).mkdir()
    made = folder / path.name
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(path), str(made)],
        cwd=path.parent, capture_output=True, text=True, check=False,
        env={
            **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1",
            "POTSTILL_OUTSIDE": "0", **{name: str(folder / place) for name, place in places.items()},
        },
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return nbformat.read(made, as_version=4)


def store(name: str) -> None:
    """Run a notebook and keep its outputs, without what would differ at each run."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(EXAMPLES / f"{name}.ipynb", Path(folder))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = join([output for output in map(clean, cell.outputs) if output is not None])
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"}, potstill={"code": hash_code(notebook)},
    )  # fmt: skip
    nbformat.write(notebook, EXAMPLES / f"{name}.ipynb")


def clean(output: NotebookNode) -> NotebookNode | None:
    """Return an output as it is kept; ``None`` of progress on stderr, which is shown while this runs."""
    if output.output_type == "stream":
        if output.name == "stderr":
            print(ANSI.sub("", output.text), file=sys.stderr, end="")
            return None
        output.text = ANSI.sub("", output.text)
        return output
    if output.output_type in ("execute_result", "display_data"):
        kept = {"image/png", "text/html"} & set(output.data) or {"text/plain"}
        output.data = NotebookNode({kind: VARIES.sub(r"\1", output.data[kind]) for kind in sorted(kept)})
        output.metadata = NotebookNode()
        if output.output_type == "execute_result":
            output.execution_count = None
    return output


def join(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Return outputs with text that was printed in one go as one output."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def pictures(notebook: NotebookNode) -> Iterator[tuple[int, bytes]]:
    """Yield the number of the cell and the PNG of each figure."""
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                yield number, base64.b64decode(png)


def render(name: str, notebook: NotebookNode) -> str:
    """Return a notebook as Markdown of the page ``examples/NAME.md``."""
    title, *cells = notebook.cells
    heading, _, about = title.source.partition("\n")
    shown = [
        heading,
        f'[Download the notebook]({name}.ipynb){{ .md-button download="{name}.ipynb" }}',
        link_pages(about.strip()),
    ]
    for number, cell in enumerate(cells, start=1):
        if cell.cell_type == "markdown":
            shown.append(link_pages(cell.source))
            continue
        shown.append(f"```python\n{cell.source}\n```")
        shown += [text for output in cell.outputs if (text := render_output(name, number, cell, output))]
    return "\n\n".join(shown) + "\n"


def render_output(name: str, number: int, cell: NotebookNode, output: NotebookNode) -> str:
    """Return an output as Markdown: a figure, a table, or text as it was printed."""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![{cell.metadata.get('alt', '')}]({name}-{number}.png)"
    if "text/html" in data:
        return f'<div class="notebook-output" tabindex="0">{" ".join(data["text/html"].split())}</div>'
    text = output.get("text") or data.get("text/plain", "")
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""


def link_pages(text: str) -> str:
    """Return Markdown of a notebook with links to ``docs/`` and other notebooks as links of a page of the site."""
    return re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", text.replace("](../docs/", "](../"))


def about(notebook: NotebookNode) -> tuple[str, str]:
    """Return title and first paragraph of a notebook."""
    heading, _, rest = notebook.cells[0].source.partition("\n")
    return heading.removeprefix("# "), " ".join(rest.strip().split("\n\n")[0].split())


def cards() -> str:
    """Return a card for each notebook: its last figure, its title, its first paragraph."""
    shown = []
    for name in GALLERY:
        title, summary = about(read(name))
        plain = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", summary)
        shown.append(
            f"-   [![]({name}-thumbnail.png){{ loading=lazy }}]({name}.md){{ tabindex=-1 aria-hidden=true }}\n\n"
            f"    **[{title}]({name}.md)**\n\n    {plain}"
        )
    return '<div class="grid cards gallery" markdown>\n\n' + "\n\n".join(shown) + "\n\n</div>"


def thumbnail(png: bytes) -> bytes:
    """Return a figure at the width of a card."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    made = io.BytesIO()
    picture.quantize(128).save(made, "PNG", optimize=True)
    return made.getvalue()


def gallery_pages() -> list[GeneratedPage]:
    """Return a page for each notebook."""
    notebooks = {name: read(name) for name in GALLERY}
    return [
        GeneratedPage(f"examples/{name}.md", about(notebook)[0], ("Learn", "Examples"), render(name, notebook))
        for name, notebook in notebooks.items()
    ]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the figures, and the notebooks and what they read, to download."""
    for name in GALLERY:
        figures = list(pictures(read(name)))
        for number, png in figures:
            files.append(File.generated(config, f"examples/{name}-{number}.png", content=png))
        files.append(File.generated(config, f"examples/{name}-thumbnail.png", content=thumbnail(figures[-1][1])))
    for path in sorted([*EXAMPLES.glob("*.ipynb"), *EXAMPLES.glob("*.py")]):
        files.append(File.generated(config, f"examples/{path.name}", content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the cards on the gallery, and on a notebook's page links to the reference of what it uses."""
    name = Path(page.file.src_uri).stem
    if page.file.src_uri == "examples/index.md":
        return markdown.replace(CARDS, cards())
    if page.file.src_uri != f"examples/{name}.md" or name not in GALLERY:
        return markdown
    places = {one: f"reference/python/{one.rpartition('.')[2]}.md" for one in public_names(read(name))}
    links = [f"[`{one}`](../{at})" for one, at in sorted(places.items()) if files.get_file_from_path(at) is not None]
    return f"{markdown}\nReference: {', '.join(links)}.\n" if links else markdown


def public_names(notebook: NotebookNode) -> set[str]:
    """Return the public functions and classes that a notebook names."""
    found = set()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for name, module, members in API.findall(cell.source):
                found |= {f"{module}.{one.strip()}" for one in members.split(",")} if module else {f"potstill.{name}"}
    return found


def main() -> None:
    """Run notebooks anew and store their outputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=GALLERY, metavar="NAME")
    for name in parser.parse_args().names:
        store(name)
        path = EXAMPLES / f"{name}.ipynb"
        found = PATHS.findall(path.read_text(encoding="utf-8"))
        print(
            f"{name}: {path.stat().st_size:,} bytes"
            + (f", but it tells paths of this machine: {found}" if found else "")
        )


if __name__ == "__main__":
    main()
