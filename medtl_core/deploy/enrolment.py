"""Enrolment: a hospital brings its public key to the coordinator's port, once, with the token of its invitation.

The private key never leaves the hospital. `POST https://ADDRESS/enrol` with JSON `{"hospital", "token", "key",
"identity"}` is answered 200 with `{"node": "..."}`, or 403 with `{"reason", "message"}`, where the reason is one of
`REFUSALS`. The same key with the same token is let in again, so that a lost answer costs nothing.

`GET https://ADDRESS/standing`, signed with that key, tells a hospital whether it is registered, and what time it is
there.
"""

import base64
import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from medtl_core.deploy.invitation import Invitation
from medtl_core.errors import MedtlError

#: Where a coordinator takes keys, and where it tells a hospital whether it is registered.
PATH, STANDING = "/enrol", "/standing"
#: Headers of a question about one's standing: the public key (PEM) and the signature of the time, both in base64, the
#: time in ISO form, and what the hospital tells of itself, which is signed too.
KEY, TIME, SIGNATURE, TELLING = "medtl-key", "medtl-time", "medtl-signature", "medtl-told"
#: Seconds that the coordinator has to answer.
_PATIENCE = 20.0
#: Why a coordinator lets a key not in, and what to do; `{name}` is the hospital's.
REFUSALS = {
    "unknown-token": "the coordinator knows no such token; is the invitation its newest? Ask for a new one",
    "used-token": "the invitation let another key in already; ask the coordinator for a new one, and who used it",
    "expired": "the invitation has expired; ask the coordinator for a new one",
    "revoked": "the coordinator has revoked {name}; ask it why",
    "other-name": "the invitation is for another hospital than {name}; use the one that names it",
    "known-key": "this key is another hospital's in this federation; make a folder with keys of its own",
    "unregistered": "the coordinator does not know this node's key; enrol {name} with its invitation",
    "replayed": "a signed request was sent a second time; something on the way repeats requests",
    "malformed": "the coordinator could not read the request; install the same version of medtl on both sides",
}
#: What may go wrong before the coordinator has said a word.
FAILURES = {
    "unreachable": "nothing answers at {address}: is the coordinator up, and may this machine reach that port?",
    "untrusted": "{address} shows a certificate that does not descend from the invitation's root: another server, or "
    "something on the way that opens TLS; enrol nothing there, and ask the coordinator",
    "wrong-name": "the certificate at {address} was made for another name; ask the coordinator for the address in it",
    "stale": "the certificate at {address} is not valid at this machine's time; compare the clocks, else the "
    "coordinator needs a new one",
    "no-tls": "what answers at {address} speaks no TLS: another service, or a proxy on the way",
    "proxy": "the proxy of this network did not let the connection to {address} through; allow it there, or put the "
    "host into no_proxy",
    "odd-answer": "{address} answered as no coordinator of medtl does; is the address right?",
}
#: OpenSSL's codes of faults in a certificate (x509_vfy.h).
_NAMES, _TIMES = (62, 64), (9, 10)


class EnrolmentError(MedtlError):
    """A hospital was not let in.

    Attributes:
        reason: a word of `REFUSALS`, the coordinator's, or of `FAILURES`, of the way to it.
    """

    public_text = "the site could not enrol"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Enrolled:
    """What the coordinator answered.

    Attributes:
        node: by which Flower will know the hospital.
    """

    node: str


def enrol(invitation: Invitation, public_key: str, identity: str) -> Enrolled:
    """Brings a hospital's public keys to the coordinator; repeating it with the same keys is harmless.

    Args:
        invitation: names the coordinator, the hospital, and holds the token.
        public_key: of the node, PEM (SubjectPublicKeyInfo) of an ECDSA key on P-384, as Flower wants it.
        identity: public identity key, hex; see `medtl_core.privacy.identity`.

    Raises:
        EnrolmentError: the coordinator refused, or could not be reached in the way the invitation says.
    """
    request = {
        "hospital": invitation.hospital,
        "token": invitation.token,
        "key": public_key,
        "identity": identity,
    }
    with _client(invitation.ca) as client:
        said = _asked(
            client.build_request("POST", _url(invitation.address, PATH), json=request), client, invitation.hospital
        )
    return Enrolled(str(said.get("node", "")))


def ask_standing(address: str, ca: str, hospital: str, private_key: bytes, told: str = "") -> datetime:
    """Returns the coordinator's time, once it has said that this hospital's key is registered under its name.

    Args:
        address: HOST:PORT of the coordinator.
        ca: root certificate (PEM) that the coordinator's own must descend from.
        hospital: by which the federation knows it.
        private_key: of the node: OpenSSH's form, as Flower reads it, or PKCS 8.
        told: what the hospital tells of itself, in base64.

    Raises:
        EnrolmentError: "unregistered", "revoked" or "other-name", or the coordinator could not be reached.
    """
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    ssh = b"OPENSSH" in private_key
    key = (serialization.load_ssh_private_key if ssh else serialization.load_pem_private_key)(private_key, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise EnrolmentError("malformed", "the node's private key is no ECDSA key; make a folder with keys of its own")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public, now = key.public_key().public_bytes(serialization.Encoding.PEM, form), datetime.now(UTC).isoformat()
    signature = key.sign(signed_words(hospital, now, told), ec.ECDSA(hashes.SHA256()))
    words = {KEY: base64.b64encode(public).decode(), TIME: now, SIGNATURE: base64.b64encode(signature).decode()}
    words |= {TELLING: told} if told else {}
    with _client(ca) as client:
        question = client.build_request("GET", _url(address, STANDING), headers=words, params={"hospital": hospital})
        said = _asked(question, client, hospital)
    try:
        return datetime.fromisoformat(str(said.get("time")))
    except ValueError as error:
        raise EnrolmentError("odd-answer", FAILURES["odd-answer"].format(address=address)) from error


def signed_words(hospital: str, time: str, told: str) -> bytes:
    """Returns what a hospital signs when it asks for its standing."""
    return f"medtl standing {hospital} {time}{' ' * bool(told)}{told}".encode()


def _client(ca: str) -> httpx.Client:
    return httpx.Client(verify=pinned(ca), timeout=_PATIENCE)


def _url(address: str, path: str) -> str:
    return f"https://{address}{path}"


def _asked(request: httpx.Request, client: httpx.Client, hospital: str) -> dict[str, Any]:
    """What the coordinator said to a request that it granted."""
    address = request.url.netloc.decode()
    try:
        answer = client.send(request)
    except httpx.TransportError as error:
        reason = failure_of(error)
        raise EnrolmentError(reason, FAILURES[reason].format(address=address)) from error
    said = _said(answer)
    if answer.status_code == httpx.codes.OK and said:
        return said
    refusal = str(said.get("reason"))
    if answer.status_code == httpx.codes.FORBIDDEN and refusal in REFUSALS:
        raise EnrolmentError(refusal, REFUSALS[refusal].format(name=hospital))
    raise EnrolmentError("odd-answer", FAILURES["odd-answer"].format(address=address))


def pinned(ca: str) -> ssl.SSLContext:
    """Returns a TLS context that trusts one root certificate (PEM) and no other, and checks the server's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca)
    return context


def failure_of(error: BaseException) -> str:
    """Returns the word of `FAILURES` for what a connection met on its way."""
    if isinstance(error, httpx.ProxyError):
        return "proxy"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                "wrong-name" if cause.verify_code in _NAMES else "stale" if cause.verify_code in _TIMES else "untrusted"
            )
        if isinstance(cause, ssl.SSLError):
            return "no-tls"
        cause = cause.__cause__ or cause.__context__
    return "odd-answer" if isinstance(error, httpx.RemoteProtocolError) else "unreachable"


def _said(answer: httpx.Response) -> dict[str, Any]:
    try:
        said = json.loads(answer.content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
