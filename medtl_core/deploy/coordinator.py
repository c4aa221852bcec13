"""A coordinator's folder: `coordinator.toml`, its certificates, who is invited, and what runs leave behind."""

import json
import secrets
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

from medtl_core.deploy import certificate as certificates
from medtl_core.deploy.certificate import Pair, check_server, is_local, new_authority, new_server, read_pair
from medtl_core.deploy.invitation import Invitation, host_port, invite
from medtl_core.deploy.roster import ROSTER, Members, change_roster, write_roster
from medtl_core.errors import ConfigError
from medtl_core.privacy.hospital_file import checked, kinds_of, read_toml
from medtl_core.store import write_bytes
from medtl_core.values import site_name

#: Name of the file that makes a folder a coordinator's.
COORDINATOR = "coordinator.toml"
#: Files of the folder: the authority (root certificate and key), the port's certificate and key, the secret of this
#: machine's own calls, and the SuperLink's records.
CA, CA_KEY, CERTIFICATE, KEY, SECRET, DATABASE = (
    "ca.crt",
    "ca.key",
    "server.crt",
    "server.key",
    "secret",
    "superlink.db",
)


@dataclass(frozen=True)
class Words:
    """What `coordinator.toml` says.

    Attributes:
        name: of the federation.
        address: HOST:PORT by which hospitals reach the one open port.
        listen: HOST:PORT that it is opened at, where that is another place than `address` names; "" = the same port at
            every address of this machine, or on loopback where `address` is.
        local: port on loopback, for this machine's own commands and the status page.
        certificate, key, ca: files, PEM; relative ones begin at the folder.
    """

    name: str = ""
    address: str = ""
    listen: str = ""
    local: int = 0
    certificate: str = CERTIFICATE
    key: str = KEY
    ca: str = CA


@dataclass(frozen=True)
class Coordinator:
    """A federation's coordinator: its folder, and what its file says."""

    folder: Path
    words: Words

    @property
    def name(self) -> str:
        """Of the federation."""
        return self.words.name

    @property
    def local(self) -> str:
        """Address of the loopback port."""
        return f"127.0.0.1:{self.words.local}"

    @property
    def listen(self) -> tuple[str, int]:
        """Host and port that are opened to hospitals."""
        host, port = host_port(self.words.listen or self.words.address)
        return (host if self.words.listen or is_local(host) else "0.0.0.0"), port

    @property
    def runs(self) -> Path:
        """Folder of the runs' folders."""
        return self.folder / "runs"

    @property
    def state(self) -> Path:
        """What the server remembers of hospitals' ledgers and keys; one for all runs."""
        return self.folder / "state"

    @property
    def secret(self) -> bytes:
        """Who knows it is this machine's own process."""
        return (self.folder / SECRET).read_bytes()

    def place(self, word: str) -> Path:
        """Returns a file that `coordinator.toml` names."""
        return self.folder / str(getattr(self.words, word))

    @property
    def ca(self) -> str:
        """The root certificate, PEM."""
        return self.place("ca").read_text(encoding="utf-8")

    def certified(self) -> tuple[Pair, datetime]:
        """Returns certificate and key of the port, and until when they are good; one of its own is renewed in time.

        Raises:
            ConfigError: they cannot be used.
        """
        host, _ = host_port(self.words.address)
        own = self.folder / CA_KEY
        pair = read_pair(self.place("certificate"), self.place("key"))
        if own.is_file() and self.words.certificate == CERTIFICATE:
            with suppress(ConfigError):
                if check_server(pair, self.ca.encode(), host) - datetime.now(UTC) > certificates.RENEWED:
                    return pair, check_server(pair, self.ca.encode(), host)
            pair = new_server(read_pair(self.place("ca"), own), host)
            write_bytes(self.place("key"), pair.key, mode=0o600)
            write_bytes(self.place("certificate"), pair.certificate, mode=0o644)
        return pair, check_server(pair, self.ca.encode(), host)

    def invite(self, hospital: str, days: float) -> Invitation:
        """Returns a new invitation for a hospital, and writes into the roster that it was invited.

        Raises:
            ConfigError: the name cannot be one, or the days are none.
        """
        if not 0 < days <= 366:
            raise ConfigError(
                f"days={days:g}: an invitation is good for a day at least a fraction of, and a year at most"
            )
        expires = datetime.now(UTC) + timedelta(days=days)
        invitation = invite(self.name, self.words.address, site_name(hospital), expires, self.ca)
        change_roster(self.folder, lambda roster: roster.invited(invitation))
        return invitation


def initialise_coordinator(
    folder: Path, name: str, address: str, brought: tuple[Path, Path, Path] | None
) -> Coordinator:
    """Makes a coordinator's folder; nothing is ever written over.

    Args:
        folder: new or empty.
        name: of the federation.
        address: HOST:PORT by which hospitals will reach it.
        brought: certificate, key and authority's certificate, where they are not made here.

    Raises:
        ConfigError: the folder holds something, name or address cannot be used, or the certificates brought cannot.
    """
    host, port = host_port(address)
    words = {"name": site_name(name), "address": address, "local": free_port(port + 1)}
    if brought is not None:
        certificate, key, ca = (path.absolute() for path in brought)
        check_server(read_pair(certificate, key), _read(ca), host)
        words |= {"certificate": str(certificate), "key": str(key), "ca": str(ca)}
    coordinator = Coordinator(folder.absolute(), Words(**words))  # type: ignore[arg-type]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(folder.iterdir()):
            what = "is a coordinator's already" if (folder / COORDINATOR).exists() else "holds something"
            raise ConfigError(f"{folder} {what} and is not written over; name a new folder")
        folder.chmod(0o700)
        if brought is None:
            authority = new_authority(coordinator.name)
            pair = new_server(authority, host)
            for file, content in ((CA_KEY, authority.key), (KEY, pair.key)):
                write_bytes(folder / file, content, mode=0o600)
            for file, content in ((CA, authority.certificate), (CERTIFICATE, pair.certificate)):
                write_bytes(folder / file, content, mode=0o644)
        write_bytes(folder / SECRET, secrets.token_hex(32).encode(), mode=0o600)
        write_roster(folder, Members())
        write_bytes(folder / COORDINATOR, _text(coordinator.words).encode(), mode=0o600)
    except OSError as error:
        raise ConfigError(f"the coordinator's folder {folder} cannot be made ({error.strerror})") from error
    return coordinator


def read_coordinator(folder: Path) -> Coordinator:
    """Returns the coordinator of a folder that `initialise_coordinator` has made.

    Raises:
        ConfigError: the folder or a file of it is missing, others than its owner may write it or read its keys, or the
            file says something that cannot be used.
    """
    path = folder / COORDINATOR
    if not path.is_file():
        raise ConfigError(
            f"{folder} is no coordinator's folder: no {COORDINATOR}; make one with medtl coordinator init"
        )
    words = Words(**checked(kinds_of(Words), read_toml(path, ConfigError), str(path), ConfigError))
    coordinator = Coordinator(folder.absolute(), words)
    site_name(words.name)
    host_port(words.address)
    if words.listen:
        host_port(words.listen)
    if not 0 < words.local < 65536:
        raise ConfigError(f"{path}: local must be a port of this machine, 1 to 65535")
    for place in (
        folder / SECRET,
        folder / ROSTER,
        *(coordinator.place(word) for word in ("certificate", "key", "ca")),
    ):
        if not place.is_file():
            raise ConfigError(f"{place} is gone: not mounted, or deleted; put the newest copy back")
    for place, others in ((folder, 0o022), (path, 0o022), (folder / SECRET, 0o077), (coordinator.place("key"), 0o077)):
        mode = stat.S_IMODE(place.stat().st_mode)
        if mode & others:
            raise ConfigError(f"{place} is open to others than its owner; run: chmod {mode & 0o700:o} {place}")
    return coordinator


def free_port(wanted: int) -> int:
    """Returns the first port from the wanted one on at which nothing listens on loopback."""
    for port in range(wanted, wanted + 200):
        with socket.socket() as probe, suppress(OSError, OverflowError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ConfigError(f"no port from {wanted} on is free on this machine; end what listens there")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error


def _text(words: Words) -> str:
    lines = ["# A federation's coordinator; what each word means: docs/deploy.md of medtl."]
    lines += [f"{one.name} = {json.dumps(getattr(words, one.name), ensure_ascii=False)}" for one in fields(words)]
    return "\n".join(lines) + "\n"
