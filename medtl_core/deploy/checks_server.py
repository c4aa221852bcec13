"""What may be wrong on the way to the coordinator: address, certificates, proxies, clocks, versions, membership.

The way is tried as Flower's node will go it: the same library, the same proxy variables, the same root certificate.
"""

import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtl_core.deploy.check import Check, CheckResult, Subject
from medtl_core.deploy.enrolment import FAILURES, EnrolmentError, failure_of, pinned
from medtl_core.deploy.invitation import host_port
from medtl_core.deploy.membership import Membership
from medtl_core.deploy.versions import differing
from medtl_core.errors import ConfigError
from medtl_core.privacy.hospital import Server
from medtl_core.privacy.hospital_file import HOSPITAL

if TYPE_CHECKING:
    import httpx
    from cryptography.x509 import Certificate

#: Seconds to wait for the server.
_PATIENCE = 10.0
#: Seconds by which this machine's clock may go before and behind the server's: Flower signs the time of every message,
#: and a server takes a signature that is at most 5 s early and 305 s late.
_AHEAD, _BEHIND = 4.0, 290.0
#: A certificate that ends sooner is worth a word.
_SOON = timedelta(days=14)
_ASK = "ask the coordinator for a new invitation, and take it in: medtl site init DIR --invitation FILE"
_CLOCK = "set this machine's clock (chrony or systemd-timesyncd keep it)"


def _address(subject: Subject) -> Iterator[CheckResult]:
    """An address that is none, and certificates that cannot be used."""
    if subject.hospital is None:
        return
    server, path = subject.hospital.server, subject.folder / HOSPITAL
    if not server.address:
        yield CheckResult(f"{path} names no server", "write its address, HOST:PORT, into [server]", "fatal")
        return
    try:
        host_port(server.address)
    except ConfigError as error:
        yield CheckResult.of(error, "write HOST:PORT", "fatal")
    if not server.insecure:
        yield from _root(server, path)


def _root(server: Server, path: Path) -> Iterator[CheckResult]:
    """The root certificate: not there, unreadable, or out of its time."""
    place = Path(server.certificate) if server.certificate else None
    if place is None or not place.is_file():
        gone = f" ({place} is gone)" if place else ""
        what = f"{path} [server]: certificate must name the file of the server's root certificate (PEM){gone}"
        yield CheckResult(what, f"put it there, or {_ASK}", "fatal")
        return
    try:
        from cryptography import x509

        roots = x509.load_pem_x509_certificates(place.read_bytes())
        pinned(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        yield CheckResult(f"{place} is no certificate in PEM form", f"put the right file there, or {_ASK}", "fatal")
        return
    if all(now_invalid(root) for root in roots):
        yield CheckResult(f"the root certificate {place} {now_invalid(roots[0])}", f"{_CLOCK}; if it is right, {_ASK}")
    elif roots[0].not_valid_after_utc - datetime.now(UTC) < _SOON:
        yield CheckResult(f"the root certificate {place} ends on {roots[0].not_valid_after_utc:%Y-%m-%d}", _ASK, "note")


def now_invalid(certificate: "Certificate") -> str:
    """Returns in words why a certificate does not hold at this machine's time; "" = it does."""
    now, first, last = datetime.now(UTC), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < first:
        return f"is valid from {first:%Y-%m-%d %H:%M} UTC only, and this machine's clock says {now:%Y-%m-%d %H:%M}"
    return f"expired on {last:%Y-%m-%d %H:%M} UTC; this machine's clock says {now:%Y-%m-%d %H:%M}" if now > last else ""


def _way(subject: Subject) -> Iterator[CheckResult]:
    """Whether the server answers, is the right one, keeps the same time, and runs versions that fit."""
    import httpx

    server = subject.hospital.server if subject.hospital else Server()
    try:
        host, port = host_port(server.address)
        context = None if server.insecure else pinned(Path(server.certificate).read_text(encoding="utf-8"))
    except (ConfigError, OSError, ValueError):
        return  # told elsewhere
    proxy = _proxy(host, "http" if server.insecure else "https")
    try:
        answer, ahead = _asked(server, context)
    except httpx.TransportError as error:
        if proxy:
            yield _swallowed(server, context, proxy, host)
        else:
            yield _why(error, server.address, host, port)
        return
    if proxy:
        yield CheckResult(f"the connection goes through {proxy}", "", "note")
    if context is not None and (shown := _certificate(host, port)) and not proxy:
        left = shown.not_valid_after_utc - datetime.now(UTC)
        if left < _SOON:
            what = f"the certificate at {server.address} ends on {shown.not_valid_after_utc:%Y-%m-%d}"
            yield CheckResult(what, "tell the coordinator", "note")
    yield from _clocks(ahead, server.address)
    yield from _versions(answer, subject)


def _asked(server: Server, context: ssl.SSLContext | None, *, straight: bool = False) -> "tuple[httpx.Response, float]":
    """The answer to a question for the server's health, and by how many seconds this clock is ahead of its Date."""
    import httpx

    scheme, verify = ("http", True) if context is None else ("https", context)
    with httpx.Client(verify=verify, timeout=_PATIENCE, trust_env=not straight) as client:
        started = time.time()
        answer = client.get(f"{scheme}://{server.address}/health")
        middle = (started + time.time()) / 2
    try:
        there = parsedate_to_datetime(answer.headers["date"]).timestamp() + 0.5  # it counts whole seconds
    except (KeyError, ValueError):
        return answer, 0.0
    return answer, middle - there


def _proxy(host: str, scheme: str) -> str:
    """The proxy variable that a connection would go through, and what it names but for passwords; "" = none."""
    proxies = urllib.request.getproxies()
    kind = next((kind for kind in (scheme, "all") if proxies.get(kind)), "")
    if not kind or urllib.request.proxy_bypass(host):
        return ""
    return f"{kind}_proxy={proxies[kind].rpartition('@')[2]}"


def _swallowed(server: Server, context: ssl.SSLContext | None, proxy: str, host: str) -> CheckResult:
    import httpx

    try:
        _asked(server, context, straight=True)
    except httpx.TransportError as error:
        why = failure_of(error)
        cause = f"{server.address} is reached neither through {proxy} nor past it ({why})"
        return CheckResult(
            cause, "ask the network's people to let this machine reach that port, and the coordinator if it is up"
        )
    cure = f"add {host} to no_proxy and NO_PROXY where medtl site run is started"
    return CheckResult(
        f"the proxy variable {proxy} swallows the connection to {server.address}, which works without", cure
    )


def _why(error: Exception, address: str, host: str, port: int) -> CheckResult:
    """What a failed connection met, as exactly as can be told."""
    import httpx

    reason = failure_of(error)
    shown = _certificate(host, port) if reason in ("stale", "wrong-name") else None
    if reason == "stale" and shown is not None:
        why = now_invalid(shown) or "or its root is not valid at this machine's time"
        return CheckResult(
            f"the certificate at {address} {why}", f"{_CLOCK}; if it is right, the coordinator needs a new one"
        )
    if reason == "wrong-name" and shown is not None:
        return CheckResult(
            f"the certificate at {address} was made for {_names(shown)}, not for {host}",
            "write one of these names into [server] address, or ask the coordinator for the address in it",
        )
    if reason == "unreachable":
        try:
            socket.getaddrinfo(host, port)
        except OSError:
            cure = "is it spelt right, and does this network's name server know it? Ask its people, or the coordinator"
            return CheckResult(f"the name {host} is not known here", cure)
        if isinstance(error, httpx.TimeoutException):
            cure = f"a firewall drops it: ask the network's people to let this machine reach {address}, outbound TCP"
            return CheckResult(f"nothing came back from {address} within {_PATIENCE:g} s", cure)
    cause, _, cure = FAILURES[reason].format(address=address).partition(": ")
    return CheckResult(
        cause, cure or "ask the coordinator which server answers there, and compare its root certificate"
    )


def _certificate(host: str, port: int) -> "Certificate | None":
    """What certificate a server shows, whatever it is worth."""
    from cryptography import x509

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is looked at, and not trusted
    try:
        with (
            socket.create_connection((host, port), timeout=_PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
    except (OSError, ValueError):
        return None


def _names(certificate: "Certificate") -> str:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "no name"
    return ", ".join(str(name.value) for name in names)


def _clocks(ahead: float, address: str) -> Iterator[CheckResult]:
    if not -_BEHIND < ahead < _AHEAD:
        side = "ahead of" if ahead > 0 else "behind"
        cause = f"this machine's clock is {abs(ahead):.0f} s {side} that of {address}, which will refuse its messages"
        yield CheckResult(cause, f"{_CLOCK}; or ask the coordinator to set its own")


def _versions(answer: "httpx.Response", subject: Subject) -> Iterator[CheckResult]:
    try:
        said: Any = answer.json()
    except ValueError:
        said = None
    if isinstance(said, dict):
        for name, there, here in differing(said):
            yield CheckResult(
                f"the coordinator runs {name} {there}, and this hospital {here}",
                f"install the same version here: pip install {name}=={there}" * (name in ("medtl", "flwr"))
                or f"agree with the coordinator on one version of {name}",
            )
    elif subject.hospital and Membership.of(subject.hospital):
        yield CheckResult(
            f"{subject.hospital.server.address} answered as no coordinator of medtl does ({answer.status_code})",
            "is the address right? Ask the coordinator, and whoever runs a proxy on the way",
        )


def _registration(subject: Subject) -> Iterator[CheckResult]:
    """Whether the coordinator knows the node's key; where it has not been asked yet, it is asked now."""
    membership = Membership.of(subject.hospital) if subject.hospital else None
    if membership is None:
        if subject.hospital and not subject.hospital.server.key and not subject.hospital.server.insecure:
            yield CheckResult(
                "no key by which the server knows this node; a server that asks for one refuses it", "", "note"
            )
        return
    if not membership.enrolled and membership.invitation.expired():
        yield CheckResult(
            f"the invitation expired on {membership.invitation.expires:%Y-%m-%d}, and nobody has used it", _ASK
        )
        return
    try:
        membership.enrol()
        there = membership.standing()
    except EnrolmentError as error:
        if error.reason not in FAILURES:
            yield CheckResult.of(error, _ASK, "fault")
        elif not membership.enrolled:
            yield CheckResult(
                "the hospital is not enrolled yet: the coordinator cannot be reached", "see the other faults"
            )
        return
    yield from _clocks((datetime.now(UTC) - there).total_seconds(), membership.hospital.server.address)


CHECKS = (
    Check("address", _address, quick=True),
    Check("server", _way, seconds=40.0),
    Check("registration", _registration, seconds=45.0),
)
