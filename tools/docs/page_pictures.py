"""Pictures of pages of results: the demonstration's, and a comparison's with a table of docs/learn/first-comparison.md.

    potstill compare digits --methods random,k-means,herding,dm,frepo --ipc 1,2,5,10 --repeats 3 --seeds 2 \
        --network convnet-d2-w32 --steps 150 --set dm.iterations=100 --set frepo.iterations=100 --out board
    potstill report board --data digits --out page.html
    make demo
    python -m tools.docs.page_pictures page.html --report demo/report.html

Needs the extra ``test`` and a Chromium (POTSTILL_BROWSER, or one on PATH).
"""

import argparse
import os
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).resolve().parents[2] / "docs"
BEGIN, END = "<!-- page:begin -->", "<!-- page:end -->"
SHAPES = {
    "page-light": (1280, 1720, "light"),
    "page-dark": (1280, 1720, "dark"),
    "page-phone": (390, 1500, "light"),
    "report": (1280, 860, "light"),
}
"""Width, height and colours by picture; ``report`` is the demonstration's page."""


def table(page: Page) -> str:
    """What the page says first, as Markdown."""
    rows = page.get_by_role("region", name="In short").locator("tr").all()
    lines = ["| " + " | ".join(" ".join(cell.split()) for cell in row.inner_text().split("\t")) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * (lines[0].count("|") - 1), *lines[1:]])


def main() -> None:
    """Write the pictures to docs/img, and the table into docs/learn/first-comparison.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="page of the comparison")
    parser.add_argument("--report", type=Path, help="page of the demonstration")
    arguments = parser.parse_args()
    found = os.environ.get("POTSTILL_BROWSER") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for name, (width, height, colours) in SHAPES.items():
            source = arguments.report if name == "report" else arguments.page
            if source is None:
                continue
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme="dark" if colours == "dark" else "light"
            )
            page = context.new_page()
            page.goto(source.resolve().as_uri())
            target = HERE / "img" / f"{name}.png"
            page.screenshot(path=target)
            # few colours, so that a picture is small
            Image.open(target).convert("RGB").quantize(128).save(target, optimize=True)
            print(f"{target.name}: {target.stat().st_size / 1000:.0f} kB")
            if name == "page-light":
                shown = HERE / "learn" / "first-comparison.md"
                before, _, rest = shown.read_text(encoding="utf-8").partition(BEGIN)
                after = rest.partition(END)[2]
                shown.write_text(f"{before}{BEGIN}\n{table(page)}\n{END}{after}", encoding="utf-8")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
