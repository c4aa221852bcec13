"""Who is invited, who has enrolled with which key, and who was revoked: one file in the coordinator's folder.

It holds no secret: of a token only its SHA-256.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medtl_core.deploy.enrolment import REFUSALS, EnrolmentError
from medtl_core.deploy.invitation import Invitation
from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.store import locked, read_json, to_json, write_bytes
from medtl_core.values import site_name

#: The file's name.
ROSTER = "hospitals.json"
_VERSION = 1
_IDENTITY = re.compile(r"[0-9a-f]{64}")
#: A request to enrol is larger than this only if it is none.
_LONGEST_KEY = 1000


@dataclass(frozen=True)
class Member:
    """One hospital as the coordinator knows it.

    Attributes:
        token: SHA-256, hex, of its invitation's token.
        expires: of the invitation, ISO, UTC.
        key: public key (PEM) of its node; "" = not enrolled.
        identity: its public identity key, hex.
        enrolled, revoked: when, ISO, UTC; "" = not.
    """

    name: str
    token: str
    expires: str
    key: str = ""
    identity: str = ""
    enrolled: str = ""
    revoked: str = ""

    @property
    def registered(self) -> bool:
        """Whether its key opens the port."""
        return bool(self.key) and not self.revoked


@dataclass(frozen=True)
class Members:
    """All hospitals, by name; every change gives a new one."""

    members: Mapping[str, Member] = field(default_factory=dict)

    def invited(self, invitation: Invitation) -> "Members":
        """Returns the roster with a fresh invitation; a key that the hospital has stays good until another enrols."""
        old = self.members.get(invitation.hospital)
        expires = invitation.expires.astimezone(UTC).isoformat()
        fresh = Member(invitation.hospital, hashed(invitation.token), expires)
        if old is not None and old.registered:
            fresh = replace(fresh, key=old.key, identity=old.identity)
        return self._with(fresh)

    def enrolled(self, name: str, token: str, key: str, identity: str, now: datetime) -> "Members":
        """Returns the roster with a hospital's keys.

        Raises:
            EnrolmentError: the token is unknown, used for another key, expired, revoked or another hospital's, or the
                key is; or they are no keys.
        """
        member = next((one for one in self.members.values() if one.token == hashed(token)), None)
        if member is None:
            raise refusal("unknown-token", name)
        if member.revoked:
            raise refusal("revoked", name)
        if member.name != name:
            raise refusal("other-name", name)
        key = checked_key(key)
        if not _IDENTITY.fullmatch(identity):
            raise refusal("malformed", name)
        if member.enrolled:
            if (member.key, member.identity) != (key, identity):
                raise refusal("used-token", name)
            return self
        if now >= datetime.fromisoformat(member.expires):
            raise refusal("expired", name)
        if any(one.key == key or one.identity == identity for one in self.members.values() if one.name != name):
            raise refusal("known-key", name)
        return self._with(replace(member, key=key, identity=identity, enrolled=now.isoformat(timespec="seconds")))

    def revoked(self, name: str, now: datetime) -> "Members":
        """Returns the roster in which a hospital's key and invitation open nothing any more.

        Raises:
            ConfigError: nobody of that name was invited.
        """
        return self._with(replace(self.member(name), revoked=now.isoformat(timespec="seconds")))

    def member(self, name: str) -> Member:
        """Returns one hospital.

        Raises:
            ConfigError: nobody of that name was invited; suggests the nearest.
        """
        if name not in self.members:
            hint = did_you_mean(name, self.members) if self.members else "nobody has been invited"
            raise ConfigError(f"no hospital {name!r} was invited; {hint}")
        return self.members[name]

    def holder(self, key: str) -> Member:
        """Returns the hospital that a public key (PEM) belongs to.

        Raises:
            EnrolmentError: nobody has enrolled it, or its hospital was revoked.
        """
        for one in self.members.values():
            if one.key and one.key == key:
                if one.revoked:
                    raise refusal("revoked", one.name)
                return one
        raise refusal("unregistered", "the hospital")

    def _with(self, member: Member) -> "Members":
        return Members(dict(sorted({**self.members, member.name: member}.items())))


def refusal(reason: str, name: str) -> EnrolmentError:
    """Returns the error for a reason of `REFUSALS`."""
    return EnrolmentError(reason, REFUSALS[reason].format(name=name))


def hashed(token: str) -> str:
    """Returns the form in which a token is stored."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def checked_key(text: str) -> str:
    """Returns a node's public key in one form: PEM of SubjectPublicKeyInfo.

    Raises:
        EnrolmentError: it is no ECDSA key on P-384.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_public_key(text[:_LONGEST_KEY].encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise refusal("malformed", "the hospital") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise refusal("malformed", "the hospital")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def read_roster(folder: Path) -> Members:
    """Returns the roster of a coordinator's folder.

    Raises:
        RunError: its file is missing or no JSON.
        ConfigError: it holds something else.
    """
    path = folder / ROSTER
    stored = read_json(path)
    try:
        if stored["version"] != _VERSION:
            raise ConfigError(f"{path} was written by another version of medtl; install that one")
        return Members({name: _member(name, row) for name, row in stored["hospitals"].items()})
    except (LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged; put the newest copy back") from error


def _member(name: str, row: Mapping[str, Any]) -> Member:
    words = {one.name: row[one.name] for one in fields(Member)}
    if words["name"] != site_name(name) or not all(isinstance(word, str) for word in words.values()):
        raise TypeError(name)
    return Member(**words)


def write_roster(folder: Path, roster: Members) -> None:
    """Writes the roster, whole or not at all."""
    stored = {"version": _VERSION, "hospitals": {name: asdict(one) for name, one in roster.members.items()}}
    write_bytes(folder / ROSTER, to_json(stored).encode(), mode=0o600)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    with locked(folder / f".{ROSTER}.lock"):
        yield


def change_roster(folder: Path, change: Callable[[Members], Members]) -> Members:
    """Changes the roster in the file, one process at a time, and returns the new one."""
    with _turn(folder):
        old = read_roster(folder)
        new = change(old)
        if new != old:
            write_roster(folder, new)
    return new
