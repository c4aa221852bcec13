"""An invitation: the file by which a coordinator lets one hospital into its federation.

It travels by another way than the network it opens: encrypted mail, or a stick. It holds the root certificate that the
coordinator's own descends from, so that a hospital trusts no public authority, and a token that lets one key in, once.
"""

import hashlib
import json
import re
import secrets
import ssl
import tomllib
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from medtl_core.errors import ConfigError
from medtl_core.store import write_bytes
from medtl_core.values import site_name

#: Version of the file's form.
VERSION = 1
_TABLE = "invitation"
#: 256 bits in base64url.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Invitation:
    """What a hospital is told, and what it must keep secret until it has enrolled: the token.

    Attributes:
        federation: its name.
        address: HOST:PORT of the coordinator's one open port.
        hospital: by which the federation will know the one invited.
        token: 256 random bits in base64url; good for one key.
        expires: until when.
        ca: root certificate (PEM) that the coordinator's own must descend from.
        sha256: hex, of that certificate's DER form; a person can compare it over the telephone.
    """

    federation: str
    address: str
    hospital: str
    token: str
    expires: datetime
    ca: str
    sha256: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "hospital", site_name(self.hospital))
        host_port(self.address)
        if not _TOKEN.fullmatch(self.token):
            raise ConfigError(
                "the invitation's token is not one: 43 letters, digits, - and _; ask for a new invitation"
            )
        if self.expires.tzinfo is None:
            raise ConfigError("the invitation's time of expiry names no time zone; ask for a new invitation")
        if self.sha256 != fingerprint_of(self.ca):
            raise ConfigError("the invitation's certificate is not the one its sha256 names; ask for a new invitation")

    def expired(self, now: datetime | None = None) -> bool:
        """Returns whether its time is over, by this machine's clock."""
        return (now or datetime.now(UTC)) >= self.expires

    def write(self, path: Path) -> None:
        """Writes the file, its owner's alone to read, and never over another.

        Raises:
            ConfigError: there is a file, or it cannot be written.
        """
        try:
            write_bytes(path, self.text().encode(), mode=0o600, new=True)
        except FileExistsError as error:
            raise ConfigError(f"{path} is there already and is not written over; name another with --out") from error
        except OSError as error:
            raise ConfigError(f"the invitation {path} cannot be written ({error.strerror})") from error

    def text(self) -> str:
        """Returns what the file says, as TOML."""
        moment = self.expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        words = ("federation", "address", "hospital", "token")
        lines = [f"{word} = {json.dumps(getattr(self, word), ensure_ascii=False)}" for word in words]
        return "\n".join(
            [
                "# Lets one hospital into a federation, once: keep it secret, and hand it over by another way than the",
                "# network. At the hospital: medtl site init DIR --invitation FILE --data DATA",
                f"[{_TABLE}]",
                f"version = {VERSION}",
                *lines,
                f"expires = {moment}",
                f'ca = """\n{self.ca.strip()}\n"""',
                f'sha256 = "{self.sha256}"',
                "",
            ]
        )


def read_invitation(path: Path) -> Invitation:
    """Returns the invitation in a file.

    Raises:
        ConfigError: it cannot be read, is none, or is of another version; says which word is wrong.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig")).get(_TABLE)
    except OSError as error:
        raise ConfigError(f"the invitation {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no invitation, or was damaged on its way: {error}") from error
    if not isinstance(table, dict):
        raise ConfigError(f"{path} is no invitation: it lacks [{_TABLE}]")
    if table.pop("version", None) != VERSION:
        raise ConfigError(f"{path} is an invitation of another version of medtl; install the coordinator's version")
    kinds = {field.name: datetime if field.name == "expires" else str for field in fields(Invitation)}
    for word, kind in kinds.items():
        if not isinstance(table.get(word), kind):
            raise ConfigError(f"{path} lacks {word!r}, or it is no {kind.__name__}; ask for a new invitation")
    if unknown := table.keys() - kinds.keys():
        raise ConfigError(f"{path} has an unknown word {min(unknown)!r}; install the coordinator's version of medtl")
    return Invitation(**table)


def invite(federation: str, address: str, hospital: str, expires: datetime, ca: str) -> Invitation:
    """Returns a new invitation with a token drawn from the operating system; `ca` is a certificate in PEM."""
    whole = expires.replace(microsecond=0)
    return Invitation(federation, address, hospital, secrets.token_urlsafe(32), whole, ca, fingerprint_of(ca))


def fingerprint_of(certificate: str) -> str:
    """Returns the SHA-256, in hex, of the first certificate in a PEM text.

    Raises:
        ConfigError: there is none.
    """
    try:
        start = certificate.index(ssl.PEM_HEADER)
        end = certificate.index(ssl.PEM_FOOTER, start) + len(ssl.PEM_FOOTER)
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate[start:end])).hexdigest()
    except ValueError as error:
        raise ConfigError("that is no certificate in PEM form; name the file that the authority gave out") from error


def host_port(address: str) -> tuple[str, int]:
    """Returns host (IPv6 without brackets) and port of an address HOST:PORT.

    Raises:
        ConfigError: it is none.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ConfigError(f"{address!r} is no address; write HOST:PORT, for instance fl.example.org:8443")
    return match["host"].strip("[]"), int(match["port"])
