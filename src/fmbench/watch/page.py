"""The server of a watch's page: on which address, and who may see it."""

from __future__ import annotations

import hmac
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fmbench.watch.events import Messages
from fmbench.watch.shown import Shown

PATIENCE = 10.0
"""Seconds that a browser may take for a request."""
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'"
)
"""A page asks for nothing outside, even if something in it did."""


class Page:
    """Serves a page from threads of its own; nothing that happens there stops watching.

    Args:
        address: HOST:PORT.
        token: what a request must carry as ?token=…; needed unless the host is of this machine.
        shown: what is served.
        tell: says a line about an answer that failed.

    Raises:
        ValueError: no such address, one that is in use, or one of the network without a token.

    Attributes:
        address: the address that is served, `http://HOST:PORT/`.
    """

    def __init__(self, address: str, token: str | None, shown: Shown, tell: Messages) -> None:
        host, port = _parsed(address)
        self._token, self._shown = token, shown
        self._local = _is_local(host)
        if not self._local and not token:
            raise ValueError(
                f"--page {address} can be reached from the network: give --page_token SECRET, which"
                f" a browser then adds to the address (?token=SECRET), or --page 127.0.0.1:{port}"
            )
        try:
            self._server = _Server(host, port, self, tell)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"--page {address}: {why}; choose another port") from None
        port, shown_host = self._server.server_port, f"[{host}]" if ":" in host else host
        self.address = f"http://{shown_host}:{port}/"
        names = {shown_host.lower(), "localhost", "127.0.0.1"}
        self._hosts = {f"{name}:{port}" for name in names} | (names if port == 80 else set())
        threading.Thread(target=self._server.serve_forever, daemon=True, name="page").start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a GET: the page, its changing part, or a picture of an alarm."""
        asked = urlsplit(request.path)
        given = parse_qs(asked.query).get("token", [""])[0]
        if self._token and not hmac.compare_digest(given.encode(), self._token.encode()):
            _send(request, HTTPStatus.FORBIDDEN, b"?token=... is missing or wrong", "text/plain")
            return
        # Another site whose name leads to this machine must not read the page.
        if self._local and (request.headers.get("Host") or "").lower() not in self._hosts:
            _send(request, HTTPStatus.FORBIDDEN, b"another host's name", "text/plain")
            return
        if asked.path in ("/", "/now"):
            template = "watch.html" if asked.path == "/" else "now.html"
            body = self._shown.html(template).encode()
            _send(request, HTTPStatus.OK, body, "text/html; charset=utf-8")
            return
        image = self._shown.image(asked.path.removeprefix("/"))
        if image is None:
            _send(request, HTTPStatus.NOT_FOUND, b"no such page", "text/plain")
        else:
            _send(request, HTTPStatus.OK, image, "image/png", keep="private, max-age=600")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, page: Page, tell: Messages) -> None:
        self._tell = tell
        if ":" in host:
            self.address_family = socket.AF_INET6

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            timeout = PATIENCE

            def do_GET(self) -> None:
                page.answer(self)

            def log_message(self, *_: object) -> None:
                """Nothing: standard error is for people."""

        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        """Without the look-up of the host's name in HTTPServer, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A line instead of a traceback; none where the browser has gone."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self._tell.once("page", f"page: {type(error).__name__}: {error}; watching goes on")


def _parsed(address: str) -> tuple[str, int]:
    """HOST:PORT.

    Raises:
        ValueError: it is not.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"--page {address}: expected HOST:PORT, such as 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _send(
    request: BaseHTTPRequestHandler,
    status: HTTPStatus,
    body: bytes,
    kind: str,
    keep: str = "no-store",
) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.send_header("Cache-Control", keep)
    request.send_header("Content-Security-Policy", POLICY)
    request.send_header("X-Content-Type-Options", "nosniff")
    request.send_header("Referrer-Policy", "no-referrer")
    request.end_headers()
    request.wfile.write(body)
