"""A hospital in a federation: what it makes of its invitation, and whether the coordinator knows its key.

In the hospital's own folder lie the invitation (with a token that is worth nothing once it has let this key in), the
root certificate of the coordinator, the node's private key, which never leaves the folder, and a note of the enrolment.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from medtl_core.deploy.enrolment import EnrolmentError, ask_standing, enrol
from medtl_core.deploy.invitation import Invitation, read_invitation
from medtl_core.errors import ConfigError, MedtlError
from medtl_core.privacy.hospital import Hospital, Server
from medtl_core.privacy.identity import public_identity
from medtl_core.store import to_json, write_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

#: Files in the hospital's folder.
INVITATION, CA, NODE_KEY, ENROLLED = "invitation.toml", "ca.pem", "node.key", "enrolled.json"
#: Failures on the way to a coordinator that pass by themselves.
PASSING = ("unreachable", "proxy")
#: Seconds between two tries to enrol.
_PAUSE = 15.0
_LOG = logging.getLogger("medtl")


def server_of(invitation: Invitation) -> Server:
    """Returns where an invited hospital's node connects to; the files lie in its folder."""
    return Server(invitation.address, certificate=CA, key=NODE_KEY)


def accept(folder: Path, invitation: Invitation, hospital: Hospital) -> None:
    """Keeps an invitation and its certificate in a hospital's folder, and draws the node's key if there is none.

    A hospital that is invited again, to the same address, keeps its rules, its keys and its ledger.

    Raises:
        ConfigError: the invitation is another hospital's, or leads elsewhere than the folder says, or a file cannot be
            written.
    """
    if invitation.hospital != hospital.name:
        raise ConfigError(f"the invitation is for {invitation.hospital!r}, and {folder} is {hospital.name!r}'s")
    server, wanted = hospital.server, server_of(invitation)
    if (server.address, server.insecure) != (wanted.address, False) or Path(server.certificate).name != CA:
        raise ConfigError(
            f"the invitation leads to {invitation.address}; write into [server] of {folder / 'hospital.toml'}: "
            f'address = "{wanted.address}", certificate = "{CA}", key = "{NODE_KEY}", insecure = false; then again'
        )
    try:
        if not (folder / NODE_KEY).exists():
            write_bytes(folder / NODE_KEY, _fresh_key(), mode=0o600, new=True)
        write_bytes(folder / CA, invitation.ca.encode(), mode=0o600)
        write_bytes(folder / INVITATION, invitation.text().encode(), mode=0o600)
        (folder / ENROLLED).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"the invitation cannot be kept in {folder} ({error.strerror})") from error


def _fresh_key() -> bytes:
    """An ECDSA key on P-384, drawn from the operating system, in the form in which Flower reads one."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def node_key(path: Path) -> "EllipticCurvePrivateKey":
    """Returns the private key by which Flower knows a node.

    Raises:
        ConfigError: the file is not there, or holds no such key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        key = load_ssh_private_key(path.read_bytes(), None)
    except OSError as error:
        raise ConfigError(f"there is no key {path}; put it back from a copy, or ask for a new invitation") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ConfigError(
            f"{path} is no private key by which Flower knows a node; put the right one back from a copy (by hand one "
            "is made by ssh-keygen -t ecdsa -b 384, without a password)"
        )
    return key


def public_pem(key: "EllipticCurvePrivateKey") -> str:
    """Returns the public half of a node's key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@dataclass(frozen=True)
class Membership:
    """A hospital that was invited.

    Attributes:
        hospital: as its folder says.
        invitation: it keeps.
    """

    hospital: Hospital
    invitation: Invitation

    @classmethod
    def of(cls, hospital: Hospital) -> "Membership | None":
        """Returns the membership of a hospital; None = it was not invited: its operator has registered its key.

        Raises:
            ConfigError: the invitation cannot be read.
        """
        path = hospital.folder / INVITATION
        return cls(hospital, read_invitation(path)) if path.exists() else None

    @property
    def enrolled(self) -> bool:
        """Whether the coordinator has taken this very key for this very invitation."""
        with suppress(OSError, ValueError, MedtlError):
            noted = json.loads((self.hospital.folder / ENROLLED).read_text(encoding="utf-8"))
            return bool(noted["of"] == self._mark())
        return False

    def enrol(self) -> None:
        """Brings the public keys to the coordinator, unless that was done.

        Raises:
            EnrolmentError: it refused, or could not be reached.
            MedtlError: a key cannot be read.
        """
        if self.enrolled:
            return
        folder, key = self.hospital.folder, node_key(Path(self.hospital.server.key))
        answer = enrol(self.invitation, public_pem(key), public_identity(folder))
        noted = {"federation": self.invitation.federation, "node": answer.node, "of": self._mark(), "at": time.time()}
        with suppress(OSError):  # then it enrols again, which is harmless
            write_bytes(folder / ENROLLED, to_json(noted).encode(), mode=0o600)

    def standing(self, told: str = "") -> datetime:
        """Returns the coordinator's time, once it has said that it knows this hospital's key; `told` is passed on.

        Raises:
            EnrolmentError: it does not, has revoked it, or could not be reached.
            ConfigError: the key cannot be read.
        """
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        key = node_key(Path(self.hospital.server.key))
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        server = self.hospital.server
        ca = Path(server.certificate).read_text(encoding="utf-8")
        return ask_standing(server.address, ca, self.hospital.name, plain, told)

    def wait(self, pause: Callable[[float], object] = time.sleep) -> None:
        """Enrols, and waits for a coordinator that cannot be reached yet.

        Raises:
            EnrolmentError: it refused, or is not the one of the invitation.
        """
        said = ""
        while True:
            try:
                return self.enrol()
            except EnrolmentError as error:
                if error.reason not in PASSING:
                    raise
                if said != error.reason:
                    _LOG.warning("not enrolled yet: %s; it goes on trying", error)
                said = error.reason
            pause(_PAUSE)

    def _mark(self) -> str:
        key = public_pem(node_key(Path(self.hospital.server.key)))
        return hashlib.sha256(f"{key}{self.invitation.text()}".encode()).hexdigest()
