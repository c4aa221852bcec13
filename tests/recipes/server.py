"""A file server on loopback with a certificate of its own: HTTPS as a hospital's command meets it."""

import datetime
import ipaddress
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass
class FileServer:
    """What is served by path: content, where it is sent on to, once after how many bytes the connection breaks off.

    `token` is what every file needs; `asked` says path, range and authorization of every request.
    """

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    token: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def address(self, path: str, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.port}{path}"


def serve(state: FileServer, certificate: Path) -> ThreadingHTTPServer:
    """Returns a server that runs; `certificate` is written, for whoever shall trust it."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

        def do_GET(self) -> None:
            headers = (self.headers.get("Range", ""), self.headers.get("Authorization", ""))
            state.asked.append((self.path, *headers))
            if self.path in state.moved:
                self.send_response(302)
                self.send_header("Location", state.moved[self.path])
                self.end_headers()
                return
            code = 404 if self.path not in state.files else 401 if headers[1] != state.token else 200
            content = state.files.get(self.path, b"")
            begin = int(headers[0].removeprefix("bytes=").rstrip("-") or 0)
            if code == 200 and begin:
                code = 416 if begin >= len(content) else 206
            body = content[begin:] if code < 300 else b""
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cut.pop(self.path, len(body))])
            self.close_connection = True

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    hosts = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both = certificate.with_suffix(".key")
    both.write_bytes(certificate.read_bytes() + secret)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    state.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server
