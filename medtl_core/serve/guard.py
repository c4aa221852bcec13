"""Who may ask the service, and what every reply tells a browser: no other site, no other host, nothing kept."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from medtl_core.errors import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Of every reply: nothing inline, nothing from elsewhere, no frame around it, no form, nothing kept by a browser.
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(address: str) -> bool:
    """Returns whether an address is this machine's alone."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def hosts_of(address: str, names: Sequence[str], *, opened: bool) -> tuple[str, ...]:
    """Returns the names by which the service may be called, as they stand in a request's `Host` without the port.

    Args:
        address: on which it listens.
        names: further ones, of a machine that others reach.
        opened: whether the person said that others may reach it.

    Raises:
        ConfigError: others would reach it and nobody said so, or nobody said by which name.
    """
    if is_loopback(address):
        return (*_LOOPBACK, *names)
    if not opened:
        raise ConfigError(
            f"{address} can be reached from other machines, and the service asks for no password and encrypts nothing: "
            "whoever reaches it reads every answer. Leave --address out, or say --open-to-network"
        )
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return (address, *names)
    own = () if parsed.is_unspecified else (f"[{address}]" if parsed.version == 6 else address,)
    if not own and not names:
        raise ConfigError(f"{address} is every address of this machine; say the name people type with --name")
    return (*own, *names)


@final
@dataclass(frozen=True)
class Guard:
    """An ASGI layer that lets through what was asked of this very service by its own page or by a program.

    A page of another site that a browser has open cannot read answers: it is told from ours by `Origin` and
    `Sec-Fetch-Site`, and a name that was pointed at this machine afterwards (DNS rebinding) by `Host`.

    Attributes:
        app: what is guarded.
        hosts: names by which it may be called.
    """

    app: "ASGIApp"
    hosts: tuple[str, ...]

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal:
            await _refused(refusal, send)
            return

        async def told(message: "Message") -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_encoded(HEADERS)]
            await send(message)

        await self.app(scope, receive, told)

    def _refusal(self, scope: "Scope") -> str:
        """Why a request is not answered; "" = it is."""
        if scope["type"] != "http":
            return "only HTTP is spoken here"
        named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(named) != 1 or _bare(named[0]) not in {name.lower() for name in self.hosts}:
            return "the service is not known by that name (see --name)"
        told = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin = told.get(b"origin", "")
        if origin and origin.partition("://")[2].lower() != named[0].lower():
            return "asked by a page of another site"
        if scope["path"] != "/" and told.get(b"sec-fetch-site", "none") not in ("same-origin", "none"):
            return "asked by a page of another site"
        return ""


def _bare(host: str) -> str:
    """A `Host` without its port."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def _refused(why: str, send: "Send") -> None:
    body = f"refused: {why}\n".encode()
    headers = {**HEADERS, "content-type": "text/plain; charset=utf-8", "content-length": str(len(body))}
    await send({"type": "http.response.start", "status": 403, "headers": _encoded(headers)})
    await send({"type": "http.response.body", "body": body})
