"""The page of a comparison, served to this machine alone while the run goes on."""

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from potstill.comparison.page_data import ComparisonFolder
from potstill.errors import PotstillError
from potstill.reports.comparison_page import render_waiting
from potstill.reports.comparison_page.page import content_policy

__all__ = ["PORT", "Server", "serve"]

PORT = 8620
_HOST = "127.0.0.1"


class Server(ThreadingHTTPServer):
    """Serves ``/`` and ``/version`` on 127.0.0.1, both made in memory: no path that is asked for is read.

    A request that names another host is refused, so that no page elsewhere reaches it under a name of its own.
    """

    daemon_threads = True

    def __init__(self, folder: ComparisonFolder, port: int, command: str) -> None:
        self._folder, self._command = folder, command
        self._lock, self._kept = threading.Lock(), ("", "")
        super().__init__((_HOST, port), _Handler)

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.server_port}/"

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(f"{name}:{self.server_port}" for name in (_HOST, "localhost"))

    def version(self) -> str:
        """The version of the files as they are now."""
        return self._folder.version()

    def page(self) -> str:
        """As of now. Where a file is half there, what was shown before, or what is missing."""
        with self._lock:
            version = self._folder.version()
            if version != self._kept[0]:
                try:
                    made = self._folder.page(self._command, version)
                except PotstillError as error:
                    made = render_waiting(self._folder.path.name, str(error), version)
                self._kept = (version, made)
            return self._kept[1]


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "Potstill", ""

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            self._answer(HTTPStatus.FORBIDDEN, "This page answers to 127.0.0.1 only.\n", "text/plain")
        elif self.path == "/":
            self._answer(HTTPStatus.OK, self.server.page(), "text/html")
        elif self.path == "/version":
            self._answer(HTTPStatus.OK, self.server.version(), "text/plain")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "Only the page is here: /\n", "text/plain")

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, held in (
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", content_policy(live=True) + "; frame-ancestors 'none'"),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, held)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody needs a line for each request."""


def serve(
    folder: str | Path,
    *,
    port: int = PORT,
    data: Any = None,
    command: str | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the page of a comparison on 127.0.0.1 until interrupted; an open page loads itself again as cells are done.

    Args:
        folder: where `compare` writes; it may be empty as yet.
        port: 0 takes any that is free.
        data: the training data, as for `report`.
        command: what the page says it was made by.
        ready: called with the address once it can be opened.

    Raises:
        PotstillError: there is no such folder, or the port cannot be had.
    """
    path = Path(folder)
    if not path.is_dir():
        raise PotstillError(f"{path}: a folder is needed, the `out=` of a comparison; check the path")
    if not 0 <= port <= 65535:
        raise PotstillError(f"`port=` must be from 0 to 65535, not {port}")
    try:
        server = Server(ComparisonFolder(path, data), port, command or f"potstill serve {path}")
    except OSError as error:
        raise PotstillError(
            f"port {port} cannot be had ({error.strerror or error}); choose another `port=`, or 0 for any"
        ) from error
    with server:
        if ready is not None:
            ready(server.url)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return
