"""A deployed hospital: one folder, and in it `hospital.toml` with everything that the hospital decides by itself.

Nothing that stands there can come from a run: its name, its data, what lies on its disk, its server, its rules and whom
it trusts. `medtl site init` writes the folder once; one that was lost or is not mounted is never begun anew.
"""

import ipaddress
import json
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from medtl_core.errors import ConfigError, PrivacyError
from medtl_core.privacy.hospital_file import HOSPITAL, checked, is_deployed, kinds_of, read_toml
from medtl_core.privacy.identity import IDENTITY, PEERS, deployed_peers, kept_key, own_identity, trusted_peers
from medtl_core.privacy.journal import Journal, is_begun
from medtl_core.privacy.ledger import LEDGER, SITE_KEY
from medtl_core.privacy.policy import POLICY, Policy, deployed_policy, read_policy
from medtl_core.runtime import check_device
from medtl_core.store import write_bytes
from medtl_core.values import site_name

_WORDS = ("name", "data", "cache", "weights", "device")
_TABLES = ("server", "policy", "peers")


@dataclass(frozen=True)
class Server:
    """Where the hospital's node connects to.

    Attributes:
        address: HOST:PORT; "" = not named yet.
        certificate: file with the root certificate (PEM) that the server's own must descend from.
        key: file with the private key by which the server knows this node; "" = it asks for none.
        insecure: whether there is no TLS; on this machine only.
    """

    address: str = ""
    certificate: str = ""
    key: str = ""
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.insecure and (self.certificate or self.key):
            raise ConfigError("[server]: insecure = true goes without certificate and key; leave out one or the other")
        if self.insecure and self.address and not _is_loopback(self.address):
            raise ConfigError(
                f"[server]: insecure = true is for a server on this machine, and {self.address} is none; name the "
                "server's root certificate in its place"
            )


@dataclass(frozen=True)
class Hospital:
    """What a deployed hospital decides by itself. A path is absolute, or lies below `folder`.

    Attributes:
        folder: its own: ledger, keys, personal state.
        name: by which the federation knows it.
        data: folder or file of its cases.
        cache: folder of its features; "off" = none are kept.
        weights: as in `Settings`.
        device: what computes its features, as in `Settings`; no run says that.
        server: where its node connects to.
        policy: what it allows.
        peers: public identity keys of the hospitals it trusts, by name.
    """

    folder: Path
    name: str
    data: str
    cache: str = "cache"
    weights: str = ""
    device: str = "auto"
    server: Server = Server()
    policy: Policy = field(default_factory=Policy)
    peers: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder.absolute())
        object.__setattr__(self, "name", site_name(self.name))
        if not self.data:
            raise ConfigError(f"hospital {self.name!r} names no data; write `data`, the folder or file of its cases")
        check_device(self.device)
        for place in ("data", "weights", "cache"):
            value = getattr(self, place)
            if value and not (place == "cache" and value == "off"):
                object.__setattr__(self, place, str(self.folder / value))

    @property
    def ledger(self) -> Path:
        """Folder of the one ledger over all its runs."""
        return self.folder / LEDGER


def read_hospital(folder: Path) -> Hospital:
    """Returns the hospital of a folder that `initialise` has made.

    Raises:
        ConfigError: the folder or its file is missing, is not the owner's alone to write, or says something that cannot
            be used.
        PrivacyError: the rules or the peers cannot be used, rules stand in a second place, or ledger or keys are gone.
    """
    path = folder / HOSPITAL
    _check_place(folder)
    values = read_toml(path, ConfigError)
    tables = {name: values.pop(name, {}) for name in _TABLES}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {name!r} must be a table, [{name}]")
    words = checked(dict.fromkeys((*_WORDS, *_TABLES), str), values, str(path), ConfigError)
    if missing := {"name", "data"} - words.keys():
        raise ConfigError(f"{path} lacks {sorted(missing)[0]!r}; `medtl site init` writes it")
    server = checked(kinds_of(Server), tables["server"], f"{path} [server]", ConfigError)
    hospital = Hospital(
        folder,
        **words,
        server=Server(**_below(folder, server)),
        policy=deployed_policy(tables["policy"], f"{path} [policy]"),
        peers=deployed_peers(tables["peers"], f"{path} [peers]"),
    )
    _check_whole(hospital)
    return hospital


def initialise(hospital: Hospital) -> tuple[str, ...]:
    """Makes a hospital's folder, or that of an older medtl into one, and returns the names of old files taken over.

    Keys and ledger that are there stay. Rules of an older medtl, `POLICY` and `PEERS`, count as before: they are
    written into `hospital.toml`, and the old files renamed.

    Raises:
        ConfigError: the folder is initialised already, is a file, or cannot be written; or there are no data.
        PrivacyError: the old rules cannot be read, or the ledger that belongs to the folder's keys is gone.
    """
    folder = hospital.folder
    if is_deployed(folder):
        raise ConfigError(
            f"{folder / HOSPITAL} is there already and is not written over; edit it, or name a new folder"
        )
    if not Path(hospital.data).exists():
        raise ConfigError(f"the data {hospital.data} do not exist; name the folder or file of the hospital's cases")
    if os.path.lexists(folder / SITE_KEY) and not is_begun(hospital.ledger):
        raise _gone(folder, f"ledger {hospital.ledger}")
    old = tuple(name for name in (POLICY, PEERS) if os.path.lexists(folder / name))
    for name in old:
        if os.path.lexists(folder / f"{name}.old"):
            raise ConfigError(f"{folder} holds both {name} and {name}.old; keep the one whose rules count")
    hospital = replace(
        hospital, policy=read_policy(folder, hospital.policy), peers=trusted_peers(folder) or hospital.peers
    )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        with Journal(hospital.ledger) as journal:
            journal.begin()
        own_identity(folder)
        kept_key(folder / SITE_KEY, "site key")
        write_bytes(folder / HOSPITAL, _text(hospital).encode(), mode=0o600)
        for name in old:
            (folder / name).rename(folder / f"{name}.old")
    except OSError as error:
        raise ConfigError(f"the hospital's folder {folder} cannot be made ({error.strerror})") from error
    return old


def _check_place(folder: Path) -> None:
    """Refuses a folder that is not there, not initialised, or not its owner's alone to write."""
    path = folder / HOSPITAL
    if not path.is_file():
        what = f"{path} is not a file" if is_deployed(folder) else f"{folder} is no hospital's folder: no {HOSPITAL}"
        raise ConfigError(f"{what}; is it mounted, and spelt as it was? A new hospital begins with: medtl site init")
    try:
        modes = {place: stat.S_IMODE(place.stat().st_mode) for place in (folder, path)}
        names = [entry.name for entry in folder.iterdir()]
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read ({error.strerror})") from error
    for place, mode in modes.items():
        if mode & 0o022:
            remedy = f"chmod {mode & 0o700:o} {place}"
            raise ConfigError(f"{place} can be written by others than its owner; run: {remedy}")
    for name in names:
        if name.lower() in (HOSPITAL, POLICY, PEERS) and name != HOSPITAL:
            raise PrivacyError(f"{folder} holds {name} beside {HOSPITAL}, where alone rules count; take it away")


def _check_whole(hospital: Hospital) -> None:
    """Refuses a folder that has lost what `initialise` wrote: a fresh ledger would be a budget nobody granted."""
    for name in (IDENTITY, SITE_KEY):
        if not (hospital.folder / name).is_file():
            raise _gone(hospital.folder, name)
    if not is_begun(hospital.ledger):
        raise _gone(hospital.folder, f"ledger {hospital.ledger}")


def _gone(folder: Path, what: str) -> PrivacyError:
    return PrivacyError(
        f"the {what} of the hospital in {folder} is gone: not mounted, or deleted. Nothing is begun anew: put the "
        "newest copy back, or run medtl site init in a new folder"
    )


def _below(folder: Path, server: Mapping[str, Any]) -> dict[str, Any]:
    """The table with its paths absolute."""
    places = {name: str(folder.absolute() / server[name]) for name in ("certificate", "key") if server.get(name)}
    return {**server, **places}


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _text(hospital: Hospital) -> str:
    """What `hospital.toml` says; every rule stands in it, the default ones too."""
    lines = ["# What each rule means: docs/privacy.md of medtl. Relative paths begin at this folder."]
    below = f"{hospital.folder}/"
    lines += [f"{name} = {_toml(getattr(hospital, name).removeprefix(below))}" for name in _WORDS]
    for name in ("server", "policy"):
        table = getattr(hospital, name)
        lines += ["", f"[{name}]", *(f"{one.name} = {_toml(getattr(table, one.name))}" for one in fields(table))]
    peers = [f"{_toml(name)} = {_toml(key)}" for name, key in hospital.peers.items()]
    text = "\n".join([*lines, "", "[peers]", *peers]) + "\n"
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"a path of hospital {hospital.name!r} holds control characters; rename it") from error
    return text


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else repr(value)
