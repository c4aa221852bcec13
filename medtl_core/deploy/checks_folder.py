"""What may be wrong with a hospital's own folder: its file, who may read it, keys, ledger, and the disk under it."""

import math
import os
import pwd
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from medtl_core.deploy.check import Check, CheckResult, Subject
from medtl_core.deploy.membership import INVITATION, NODE_KEY, node_key
from medtl_core.errors import ConfigError, MedtlError, PrivacyError
from medtl_core.flower.node.presence import FLOWER, last_process, running
from medtl_core.privacy.accounting import epsilon, mu_for
from medtl_core.privacy.hospital import Hospital, Server, read_hospital
from medtl_core.privacy.hospital_file import HOSPITAL, checked, kinds_of, read_toml
from medtl_core.privacy.identity import IDENTITY, deployed_peers, kept_key
from medtl_core.privacy.journal import read_journal
from medtl_core.privacy.ledger import LEDGER, SITE_KEY
from medtl_core.privacy.ledger_report import Balance, balance
from medtl_core.privacy.plan import GaussianEvent
from medtl_core.privacy.policy import Policy, deployed_policy

#: Bytes that must be free where the hospital writes.
_FREE = 2**30
#: A budget of which less than this share is left pays for no run worth its noise.
_LEFT = 0.02
_REPAIR = "correct that word; docs/privacy.md and docs/deploy.md say what each means"


def read_subject(folder: Path, page: int = 0) -> Subject:
    """Returns a hospital's folder to be looked at, however much of it can be read; every fault of its file is named.

    A file that is in order is read as `medtl site run` reads it.
    """
    try:
        return Subject(folder, read_hospital(folder), _table(folder), page=page)
    except MedtlError as error:
        first = CheckResult.of(error, "put the newest copy back")
    table = _table(folder)
    found = {str(first): first}
    words, more = _readable(folder, table)
    for one in more:
        found.setdefault(str(one), one)
    hospital = None
    with suppress(MedtlError):
        hospital = Hospital(folder, **words) if {"name", "data"} <= words.keys() else None
    return Subject(folder, hospital, table, tuple(found.values()), page)


def _table(folder: Path) -> Mapping[str, Any]:
    try:
        return read_toml(folder / HOSPITAL, ConfigError)
    except MedtlError:
        return {}


def _readable(folder: Path, table: Mapping[str, Any]) -> tuple[dict[str, Any], list[CheckResult]]:
    """What a file with faults says all the same, and each fault, word by word."""
    path, found = folder / HOSPITAL, list[CheckResult]()
    plain = {field.name: str for field in fields(Hospital) if field.name not in ("folder", "server", "policy", "peers")}
    tables = {name: table.get(name, {}) for name in ("server", "policy", "peers")}
    words: dict[str, Any] = _each(plain, {key: table[key] for key in table.keys() - tables.keys()}, str(path), found)
    for name, record in (("server", Server), ("policy", Policy)):
        said = _each(kinds_of(record), tables[name], f"{path} [{name}]", found)
        with _noted(found):
            words[name] = record(**said)
    with _noted(found):
        deployed_policy(tables["policy"] if isinstance(tables["policy"], dict) else {}, f"{path} [policy]")
    peers = tables["peers"] if isinstance(tables["peers"], dict) else {}
    for peer, key in peers.items():
        with _noted(found):
            words["peers"] = {**words.get("peers", {}), **deployed_peers({peer: key}, f"{path} [peers]")}
    server = words.get("server", Server())
    places = {name: str(folder.absolute() / value) for name in ("certificate", "key") if (value := vars(server)[name])}
    words["server"] = Server(**{**vars(server), **places})
    return words, found


def _each(kinds: Mapping[str, type], values: Any, where: str, found: list[CheckResult]) -> dict[str, Any]:
    """The values that are known and of the right type; the others are told."""
    good: dict[str, Any] = {}
    if not isinstance(values, dict):
        found.append(CheckResult(f"{where} is no table", _REPAIR, "fatal"))
        return good
    for key, value in values.items():
        with _noted(found):
            good |= checked(kinds, {key: value}, where, ConfigError)
    return good


@contextmanager
def _noted(found: list[CheckResult]) -> Iterator[None]:
    """Goes on after an error of medtl, and tells it."""
    try:
        yield
    except MedtlError as error:
        found.append(CheckResult.of(error, _REPAIR))


def _file(subject: Subject) -> Iterator[CheckResult]:
    yield from subject.found


def _permissions(subject: Subject) -> Iterator[CheckResult]:
    """Secrets that others may read, and a folder that is another user's."""
    folder = subject.folder
    if not folder.is_dir():
        return
    names = (IDENTITY, SITE_KEY, NODE_KEY, INVITATION, LEDGER)
    secret = [folder / name for name in names] + sorted((folder / LEDGER).glob("*.json*"))
    if subject.hospital is not None and subject.hospital.server.key:
        secret.append(Path(subject.hospital.server.key))
    for path in dict.fromkeys(secret):
        with suppress(FileNotFoundError):
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                yield CheckResult(
                    f"{path} can be read by others than its owner", f"chmod {mode & 0o700:o} {path}", "fatal"
                )
    for path in (folder, folder / HOSPITAL):
        owner = path.stat().st_uid if path.exists() else os.geteuid()
        if owner != os.geteuid():
            yield CheckResult(
                f"{path} belongs to {_user(owner)}, and this is {_user(os.geteuid())}",
                f"run medtl as {_user(owner)}, or give the folder to the one who runs it (chown -R)",
            )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _keys(subject: Subject) -> Iterator[CheckResult]:
    """Keys that are gone, cut, or of another kind."""
    for name, what in ((IDENTITY, "identity key"), (SITE_KEY, "site key")):
        if (subject.folder / name).is_file():
            try:
                kept_key(subject.folder / name, what)
            except PrivacyError as error:
                yield CheckResult.of(error, "put it back from a copy")
    key = subject.hospital.server.key if subject.hospital else ""
    if not key:
        return
    try:
        node_key(Path(key))
    except ConfigError as error:
        yield CheckResult.of(error, "put it back from a copy")


def _ledger(subject: Subject) -> Iterator[CheckResult]:
    """A ledger that is damaged or shortened."""
    if subject.hospital is not None and subject.hospital.ledger.is_dir():
        try:
            read_journal(subject.hospital.ledger)
        except PrivacyError as error:
            yield CheckResult.of(error, "restore it from backup")


def _budget(subject: Subject) -> Iterator[CheckResult]:
    """A ledger that can pay no more."""
    hospital = subject.hospital
    if hospital is None or any(_ledger(subject)) or not hospital.ledger.is_dir():
        return
    account = balance(hospital.ledger, hospital.policy)
    rules, left = hospital.policy, left_of(account)
    raising = (
        f"medtl ledger raise {subject.folder} --epsilon E --reason WHO-AND-WHY, if the hospital wants to spend more"
    )
    said = f"epsilon {account.spent:.3g} of {account.budget:.3g} is spent"
    asked = min(rules.max_epsilon, account.budget)
    if left < _LEFT * account.budget:
        yield CheckResult(f"the ledger cannot pay for another private run: {said}", raising)
    elif account.reserved >= rules.max_releases:
        yield CheckResult(
            f"the ledger cannot pay for another private run: max_releases = {rules.max_releases} are used up",
            "raise max_releases in [policy], if the hospital wants to release more",
        )
    elif left >= asked * (1 - 1e-6):
        yield CheckResult(
            f"the ledger can pay for a run of epsilon {asked:.3g}, all that the policy allows: {said}", "", "note"
        )
    else:
        yield CheckResult(
            f"{said}; a new run may ask for {left:.3g} at most, and the same run again costs nothing", "", "note"
        )


def left_of(account: Balance) -> float:
    """Returns the largest epsilon that a new run may have, all of it spent, within what a ledger allows."""
    spent = mu_for(account.spent, account.delta) if account.spent else 0.0
    left = mu_for(account.budget, account.delta) ** 2 - spent**2
    return epsilon([GaussianEvent(1.0 / math.sqrt(left))], account.delta) if left > 1e-9 else 0.0


def _disk(subject: Subject) -> Iterator[CheckResult]:
    """Disks that are full, or cannot be written."""
    hospital = subject.hospital
    if hospital is None or not subject.folder.is_dir():
        return
    places = {"folder": subject.folder, **({} if hospital.cache == "off" else {"cache": Path(hospital.cache)})}
    for what, place in places.items():
        there = next(parent for parent in (place, *place.parents) if parent.exists())
        if why := _unwritable(there):
            cure = "make it writable for who runs medtl" + (", or name another place in `cache`" * (what == "cache"))
            yield CheckResult(
                f"the {what} {place} cannot be written ({why})", cure, "fatal" if what == "folder" else "fault"
            )
            continue
        free = shutil.disk_usage(there).free
        if free < _FREE:
            yield CheckResult(
                f"only {free / 2**20:.0f} MiB are free at {there}, where the {what} lies",
                f"free {_FREE / 2**30:.0f} GiB there, or put the {what} on another disk",
            )


def _unwritable(folder: Path) -> str:
    """Why a file cannot be made in a folder; "" = it can."""
    probe = folder / f".medtl-{secrets.token_hex(6)}"
    try:
        with os.fdopen(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(bytes(2**16))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with suppress(OSError):
            probe.unlink()
    return ""


def _process(subject: Subject) -> Iterator[CheckResult]:
    """Whether the hospital runs already, or ended without a word."""
    home = subject.folder / FLOWER
    pid, left = running(home), last_process(home)
    if pid:
        yield CheckResult(f"the hospital takes part already (process {pid})", "", "note")
    elif left:
        yield CheckResult(f"process {left} of this hospital ended without a word; it can start again", "", "note")


CHECKS = (
    Check("file", _file, quick=True, always=True),
    Check("permissions", _permissions, quick=True, always=True),
    Check("keys", _keys, quick=True, always=True),
    Check("ledger", _ledger, quick=True),
    Check("budget", _budget),
    Check("disk", _disk, quick=True),
    Check("process", _process),
)
