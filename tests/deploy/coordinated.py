"""A coordinator's two ports with real TLS on loopback, in this process, before a SuperLink that answers everything."""

import asyncio
import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from medtl_core.deploy.coordinator import Coordinator, initialise_coordinator
from medtl_core.deploy.enrolment import Enrolled, enrol, pinned
from medtl_core.deploy.gateway import Bell, Desk, Gateway
from medtl_core.deploy.invitation import Invitation
from medtl_core.deploy.overview import overview, page
from medtl_core.flower.processes.children import free_ports

SECRET = ("medtl-secret", b"the folder's")
KEYS = ("flwr-public-key", "flwr-signature")


@dataclass
class StubLink:
    """Says 200 to whatever passes, with what it was told to say, and remembers keys."""

    keys: dict[str, int] = field(default_factory=dict)
    says: bytes = b"passed"
    asked: list[str] = field(default_factory=list)

    def register(self, key: str, name: str) -> int:
        return self.keys.setdefault(key, 100 + len(self.keys))

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.says})


@dataclass
class Coordinated:
    coordinator: Coordinator
    link: StubLink
    gateway: Gateway
    bells: tuple[Bell, Bell]

    @property
    def address(self) -> str:
        return self.coordinator.words.address

    def invite(self, name: str = "north", days: float = 30.0) -> Invitation:
        return self.coordinator.invite(name, days)

    def joined(self, name: str = "north") -> tuple[Invitation, bytes, str]:
        """A hospital that has enrolled: its invitation, its private key and its public one."""
        invitation, (private, public) = self.invite(name), new_key()
        assert enrol(invitation, public, identity(name)) == Enrolled(str(self.link.keys[public]))
        return invitation, private, public

    def ask(
        self, path: str, headers: dict[str, str] | None = None, method: str = "POST", body: bytes = b""
    ) -> httpx.Response:
        with httpx.Client(verify=pinned(self.coordinator.ca), trust_env=False) as client:
            return client.request(method, f"https://{self.address}{path}", headers=headers, content=body)

    def desk(self, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> httpx.Response:
        with httpx.Client(trust_env=False) as client:
            return client.request(method, f"http://{self.coordinator.local}{path}", headers=headers)


def signed(public: str, signature: str) -> dict[str, str]:
    """The headers of a SuperNode's request, as far as the port looks at them."""
    return {KEYS[0]: base64.b64encode(public.encode()).decode(), KEYS[1]: signature}


def new_key(curve: ec.EllipticCurve | None = None) -> tuple[bytes, str]:
    key = ec.generate_private_key(curve or ec.SECP384R1())
    none, pem = serialization.NoEncryption(), serialization.Encoding.PEM
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key.private_bytes(pem, serialization.PrivateFormat.OpenSSH, none), public.decode()


def identity(name: str) -> str:
    return name.encode().hex().ljust(64, "0")[:64]


@contextmanager
def coordinated(folder: Path) -> Iterator[Coordinated]:
    (port,) = free_ports(1)
    coordinator = initialise_coordinator(folder / "coordinator", "Zwei Häuser", f"127.0.0.1:{port}", None)
    link, bells = StubLink(), (Bell(), Bell())
    gateway = Gateway(link, coordinator.folder, "/v1/fleet/", KEYS, bells)

    def pages(path: str) -> tuple[str, bytes] | None:
        text = page(overview(coordinator, gateway.contacts))
        return ("text/html; charset=utf-8", text.encode()) if path == "/" else None

    desk = Desk(link, "/v1/control/", SECRET, pages, bells)
    usual: dict[str, Any] = {"lifespan": "off", "log_level": "error", "ws": "none"}
    tls: dict[str, Any] = {"ssl_certfile": coordinator.place("certificate"), "ssl_keyfile": coordinator.place("key")}
    servers = [
        uvicorn.Server(uvicorn.Config(gateway, "127.0.0.1", port, **tls, **usual)),
        uvicorn.Server(uvicorn.Config(desk, "127.0.0.1", coordinator.words.local, **usual)),
    ]

    async def both() -> None:
        await asyncio.gather(*(server.serve() for server in servers))

    thread = threading.Thread(target=asyncio.run, args=(both(),))
    thread.start()
    try:
        while not all(server.started for server in servers):
            time.sleep(0.01)
        yield Coordinated(coordinator, link, gateway, bells)
    finally:
        for server in servers:
            server.should_exit = True
        thread.join()
