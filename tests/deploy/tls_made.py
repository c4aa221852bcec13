"""Certificates of every kind, and a coordinator's port as far as one hospital sees it, with real TLS on loopback."""

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()


def made(
    name: str,
    issuer: Pair | None = None,
    names: tuple[str, ...] = (),
    first: timedelta = -DAY,
    last: timedelta = DAY * 90,
) -> Pair:
    """A certificate that its issuer signs, or one that signs itself as a root; valid between two moments from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + first)
        .not_valid_after(now + last)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        known = [x509.IPAddress(ip_address(one)) if one[0].isdigit() else x509.DNSName(one) for one in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(known), critical=False)
    return Pair(key, builder.sign((issuer.key if issuer else key), hashes.SHA256()))


@dataclass
class Port:
    """What answers at a coordinator's port, and what it was asked.

    Attributes:
        answers: status and words by path.
        ahead: seconds by which its clock is ahead.
        asked: the bodies it got, by path.
    """

    answers: dict[str, tuple[int, Any]] = field(default_factory=lambda: {"/health": (200, {"status": "ok"})})
    ahead: float = 0.0
    asked: dict[str, list[bytes]] = field(default_factory=dict)
    address: str = ""

    def answer(self, path: str) -> tuple[int, Any]:
        status, words = self.answers.get(path, (404, "<html>"))
        if path == "/standing" and status == 200:
            words = {**words, "time": (datetime.now(UTC) + timedelta(seconds=self.ahead)).isoformat()}
        return status, words


@contextmanager
def opened(port: Port, folder: Path, pair: Pair | None, host: str = "127.0.0.1") -> Iterator[Port]:
    """Opens a port on loopback meanwhile; without a certificate it speaks no TLS."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            port.asked.setdefault(path, []).append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            status, words = port.answer(path)
            content = words.encode() if isinstance(words, str) else json.dumps(words).encode()
            self.send_response_only(status)
            self.send_header("Date", formatdate(time.time() + port.ahead, usegmt=True))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *said: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        def handle_error(self, *said: Any) -> None: ...

    with Server((host, 0), Handler) as server:
        port.address = f"{host}:{server.server_address[1]}"
        if pair is not None:
            path = folder / f"server-{server.server_address[1]}.pem"
            secret = pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
            path.write_text(secret + pair.pem, encoding="utf-8")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(path)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield port
        finally:
            server.shutdown()
            thread.join()


def granted(**more: Any) -> Mapping[str, tuple[int, Any]]:
    """The answers of a coordinator that lets the hospital in."""
    return {
        "/health": (200, {"status": "ok", **more}),
        "/enrol": (200, {"node": "7"}),
        "/standing": (200, {"hospital": "north"}),
    }
