"""Use the built site as a reader does: searches and their first hits, pages at three widths, axe, links.

    make docs && python benchmarks/site.py search --site build/site [--out results/site.json]
    python benchmarks/site.py look  --site build/site --pictures DIR [--pages index learn/pictures …]
    python benchmarks/site.py axe   --site build/site
    python benchmarks/site.py links --site build/site

``search`` types each query into the site's own search box and notes the first hit; a query counts as answered where
that hit is one of the pages named in `QUERIES`. ``look`` writes screenshots at 1440, 768 and 390 pixels in light and at
1440 in dark, and names pages wider than the window. ``axe`` runs axe-core on the same pages. ``links`` follows every
link and fragment of every page inside the site, and every picture. All four exit with 1 where something is wrong.
"""

import argparse
import functools
import http.server
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

QUERIES = {
    "quickstart": ("learn/pictures/", "learn/tables/"),
    "getting started": ("learn/", ""),
    "install": ("learn/installation/",),
    "pip install": ("learn/installation/",),
    "tutorial": ("learn/", "examples/"),
    "own data": ("guides/load-data/",),
    "custom dataset": ("guides/load-data/",),
    "csv": ("guides/load-data/", "learn/tables/"),
    "pandas": ("guides/load-data/", "learn/tables/", "examples/"),
    "image folder": ("guides/load-data/", "learn/pictures/"),
    "huggingface": ("guides/load-data/", "guides/share/"),
    "scikit-learn": ("learn/tables/", "guides/integrations/", "examples/"),
    "imagenet": ("guides/large-data/", "reference/recipes/", "benchmarks/", "guides/load-data/"),
    "out of memory": ("guides/troubleshooting/", "guides/large-data/", "guides/costs/"),
    "compression": ("guides/budgets/", "explanation/bytes/", "reference/codecs/", "benchmarks/"),
    "quantization": ("guides/budgets/", "reference/codecs/", "explanation/bytes/", "benchmarks/"),
    "images per class": ("guides/budgets/", "reference/glossary/"),
    "ipc": ("guides/budgets/", "reference/glossary/"),
    "which method": ("guides/choose-a-method/",),
    "best method": ("guides/choose-a-method/", "benchmarks/"),
    "automl": ("guides/automatic/",),
    "soft labels": ("guides/soft-labels/",),
    "knowledge distillation": ("guides/soft-labels/", "benchmarks/"),
    "coreset": ("guides/selection/", "methods/selection/", "benchmarks/selection/"),
    "active learning": ("guides/selection/", "reference/commands/active-learning/"),
    "resume": ("guides/resume/",),
    "checkpoint": ("guides/resume/",),
    "cluster": ("guides/resume/",),
    "gpu": ("guides/costs/", "learn/installation/", "guides/resume/"),
    "how long does it take": ("guides/costs/", "reference/commands/plan/"),
    "tensorboard": ("guides/integrations/",),
    "optuna": ("guides/integrations/", "examples/"),
    "export": ("guides/share/", "reference/commands/export/", "reference/python/export/"),
    "privacy": ("explanation/limitations/",),
    "troubleshooting": ("guides/troubleshooting/",),
    "error": ("guides/troubleshooting/",),
    "custom network": ("guides/networks/", "examples/"),
    "add a method": ("extend/method/",),
    "gradient matching": ("method/dc/", "methods/gradient/"),
    "cuda out of memory": ("guides/troubleshooting/", "guides/costs/", "guides/large-data/"),
    "png": ("guides/share/", "reference/commands/export/"),
    "random forest": ("learn/tables/",),
    "imbalance": ("guides/troubleshooting/", "guides/load-data/"),
    "rare class": ("guides/troubleshooting/",),
    "accuracy below paper": ("guides/troubleshooting/",),
    "time long": ("guides/costs/", "guides/troubleshooting/"),
    "own dataset": ("guides/load-data/",),
    "bibtex": ("method/", "methods/", "reference/cite/"),
    "DSA augmentation evaluation": ("reference/augmentations/",),
    "MTT expert trajectories": ("method/mtt/", "methods/trajectory/"),
    "soft labels size": ("guides/soft-labels/",),
    "published numbers MTT": ("method/mtt/",),
    "cite potstill": ("reference/cite/",),
    "citation": ("reference/cite/",),
    "licence": ("reference/cite/",),
    "reproduce": ("explanation/accuracy/",),
    "published protocol": ("explanation/accuracy/", "reference/protocols/"),
}
"""What people type, and where the answer is: beginnings of addresses, the best first."""
PAGES = (
    "", "learn/installation", "learn/pictures", "learn/tables", "guides/load-data", "guides/choose-a-method",
    "guides/troubleshooting", "methods", "method/dm", "reference/commands/distill", "reference/python/load_data",
    "benchmarks/bytes",
)  # fmt: skip
WIDTHS = (1440, 768, 390)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine and yield its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def search(browser: Browser, address: str, _: argparse.Namespace) -> tuple[list[object], int]:
    """Type every query, and compare the first hit's address."""
    page = browser.new_page()
    rows: list[object] = []
    wrong = 0
    for query, wanted in QUERIES.items():
        page.goto(f"{address}?q={quote(query)}")
        page.wait_for_selector(".md-search-result__meta:has-text('document')", state="attached", timeout=30_000)
        page.wait_for_timeout(250)
        hits = page.eval_on_selector_all(".md-search-result__item > a", "found => found.map(a => a.href)")
        first = [urlsplit(hit).path.lstrip("/") for hit in hits]
        answered = bool(first) and any(first[0] == at if at == "" else first[0].startswith(at) for at in wanted)
        rank = next((n for n, hit in enumerate(first, 1) if any(at and hit.startswith(at) for at in wanted)), None)
        wrong += not answered
        rows.append({"query": query, "first": first[0] if first else None, "answered": answered, "rank": rank})
        print(f"{'ok ' if answered else '-- '} {query:26} {first[0] if first else 'nothing':44} rank {rank}")
    print(f"{len(rows) - wrong} of {len(rows)} first hits are the page wanted")
    return rows, wrong


def look(browser: Browser, address: str, options: argparse.Namespace) -> tuple[list[object], int]:
    """Write screenshots and name pages that are wider than the window."""
    options.pictures.mkdir(parents=True, exist_ok=True)
    rows: list[object] = []
    for width, scheme in [*((width, "light") for width in WIDTHS), (1440, "dark")]:
        context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
        page = context.new_page()
        for name in options.pages:
            opened(page, address, name)
            over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            file = options.pictures / f"{name.replace('/', '-') or 'home'}-{width}-{scheme}.png"
            page.screenshot(path=str(file), full_page=False)
            if over > 0:
                rows.append({"page": name, "width": width, "over": over})
                print(f"{name} is {over} px wider than {width}")
        context.close()
    print(f"{len(options.pages)} pages at {WIDTHS}: {len(rows)} too wide; pictures in {options.pictures}")
    return rows, len(rows)


def opened(page: Page, address: str, name: str) -> None:
    """Open a page of the site."""
    answer = page.goto(f"{address}{name}/" if name else address)
    if answer is None or not answer.ok:
        sys.exit(f"{name}: no such page in the site")


def axe(browser: Browser, address: str, options: argparse.Namespace) -> tuple[list[object], int]:
    """Run axe-core on each page, in light and dark."""
    from axe_playwright_python.sync_playwright import Axe

    rows: list[object] = []
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        for name in options.pages:
            opened(page, address, name)
            for fault in Axe().run(page).response["violations"]:
                where = [node["target"] for node in fault["nodes"]][:3]
                rows.append({"page": name, "scheme": scheme, "rule": fault["id"], "n": len(fault["nodes"])})
                print(f"{name or 'home'} ({scheme}): {fault['id']}: {fault['help']} ({len(fault['nodes'])}) {where}")
        context.close()
    print(f"{len(options.pages)} pages in light and dark: {len(rows)} rules broken")
    return rows, len(rows)


class _Anchors(HTMLParser):
    """Links and targets of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.targets: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.targets |= {found[key] for key in ("id", "name") if key in found}
        self.links += [found[key] for key in ("href", "src") if key in found]


def links(site: Path) -> tuple[list[object], int]:
    """Follow every link inside the site, fragments too."""
    pages = {file.relative_to(site).as_posix(): _Anchors(file.read_text("utf-8")) for file in site.rglob("*.html")}
    rows: list[object] = []
    seen = 0
    for name, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:|//", link) or name == "404.html":
                continue
            seen += 1
            path, fragment = urlsplit(urljoin(f"/{name}", link)).path, unquote(urlsplit(link).fragment)
            target = unquote(path).lstrip("/")
            target = f"{target}index.html" if target == "" or target.endswith("/") else target
            there = target in pages or (site / target).is_file()
            if not there or (fragment and target in pages and fragment not in pages[target].targets):
                rows.append({"page": name, "link": link})
                print(f"{name}: {link}")
    print(f"{seen:,} links of {len(pages)} pages: {len(rows)} lead nowhere")
    return rows, len(rows)


def main() -> int:
    """Run one of the four and return 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["search", "look", "axe", "links"])
    parser.add_argument("--site", type=Path, default=Path("build/site"))
    parser.add_argument("--out", type=Path, help="JSON of what was found")
    parser.add_argument("--pictures", type=Path, default=Path("build/pictures"))
    parser.add_argument("--pages", nargs="*", default=PAGES)
    options = parser.parse_args()
    if options.what == "links":
        rows, wrong = links(options.site)
    else:
        with served(options.site) as address, sync_playwright() as play:
            browser = play.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
            rows, wrong = {"search": search, "look": look, "axe": axe}[options.what](browser, address, options)
            browser.close()
    if options.out:
        options.out.write_text(json.dumps({options.what: rows}, indent=1) + "\n", "utf-8")
    return 1 if wrong else 0


def _chromium() -> str | None:
    import shutil

    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


if __name__ == "__main__":
    sys.exit(main())
