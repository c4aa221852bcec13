"""The status page of a hospital on its own machine: loopback alone, read only."""

from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from medtl_core.deploy.status import page

_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class _Handler(BaseHTTPRequestHandler):
    """Answers `GET /` and nothing else, and that to a browser that names this machine: no foreign site can read it."""

    server_version, sys_version = "medtl", ""

    def __init__(self, folder: Path, *rest: Any) -> None:
        self._folder = folder
        super().__init__(*rest)

    def do_GET(self) -> None:
        """Answers a browser."""
        port = self.connection.getsockname()[1]
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self.send_error(403)
        elif self.path != "/":
            self.send_error(404)
        else:
            content = page(self._folder).encode()
            self.send_response(200)
            for name, value in {**_HEADERS, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *said: Any) -> None:
        """Says nothing: the hospital's log is about its runs."""


def page_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Returns the server of a hospital's page, which listens already; `serve_forever` answers.

    Raises:
        OSError: the port is taken.
    """
    return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, folder))


def serve_page(folder: Path, port: int) -> int:
    """Serves the page until the process ends."""
    with page_server(folder, port) as server:
        server.serve_forever()
    return 0
