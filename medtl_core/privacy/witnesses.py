"""What a server remembers of hospitals: the last record of each one's ledger, and the identity key of its name.

So an older ledger that was put back is noticed, and a node that takes another hospital's name. It is no secret and no
safeguard against a server: it lets an honest one tell a hospital that its disk has forgotten.
"""

import fcntl
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from medtl_core.errors import PrivacyError, RunError
from medtl_core.store import read_json, to_json, write_bytes
from medtl_core.values import Witness

#: Whose a ledger is: the hospital's, for all its runs; or in a simulation one method's of one run.
HOSPITAL, METHOD = "hospital", "method"
#: The file in the server's folder, and the lock beside it.
FILE, _LOCK = "witnesses.json", "witnesses.lock"
#: The file beside it with the identity keys of names, of the form of a hospital's trusted peers: a person may write it.
KEYS = "peers.json"
#: The three values as they travel, either way.
_OWNER, _SEQ, _HASH = "witness-ledger", "witness-seq", "witness-hash"
#: More records than a ledger can have.
_MOST = 2**53


def as_values(witness: Witness) -> dict[str, str | int]:
    """Returns a witness as flat values for a message."""
    return {_OWNER: witness.ledger, _SEQ: witness.seq, _HASH: witness.hash}


def from_values(values: Mapping[str, object]) -> Witness | None:
    """Returns the witness among a message's values, or None if there is none.

    Raises:
        PrivacyError: it is not of the agreed form.

    Example:
        >>> from_values({"witness-ledger": "hospital", "witness-seq": 3, "witness-hash": "0" * 64}).seq
        3
    """
    owner, seq, shown = (values.get(name) for name in (_OWNER, _SEQ, _HASH))
    if owner is None and seq is None and shown is None:
        return None
    if owner not in (HOSPITAL, METHOD) or type(seq) is not int or not 0 < seq < _MOST:
        raise PrivacyError("a ledger's witness must say whose the ledger is and a record's number from 1")
    if not isinstance(shown, str) or not re.fullmatch("[0-9a-f]{64}", shown):
        raise PrivacyError("a ledger's witness must hold a record's hash of 64 hexadecimal digits")
    return Witness(str(owner), seq, shown)


@final
class Witnesses:
    """The last record every hospital showed of its ledger, which only ever goes forward, and its key, which stays.

    Guarantee:
        None about patients: a number of records, a hash that begins with a keyed one, a public key. Two servers of one
        folder never undo what the other wrote.
    """

    def __init__(self, folder: Path | None, agreement: str) -> None:
        """Reads what is remembered in the server's folder; None = remember only as long as this object lives.

        The agreement of the run names the ledgers of a simulation.

        Raises:
            PrivacyError: the folder cannot be written, or a file is damaged.
        """
        self._folder, self._run = folder, agreement[:16]
        self._seen: dict[str, Witness] = {}
        self._keys: dict[str, str] = {}
        self.save()

    def of(self, site: str, method: str) -> Witness | None:
        """Returns what the hospital's next answer must follow on, or None if nothing is remembered."""
        return self._seen.get(site) or self._seen.get(self._key(site, method, METHOD))

    def follows(self, site: str, method: str, shown: Witness) -> bool:
        """Remembers what a hospital has shown; False if it lies before what it showed earlier, or beside it."""
        key = self._key(site, method, shown.ledger)
        known = self._seen.get(key)
        if known is not None and (shown.seq < known.seq or (shown.seq == known.seq and shown.hash != known.hash)):
            return False
        self._seen[key] = shown
        return True

    def key_of(self, site: str) -> str | None:
        """Returns the public identity key that the hospital's name is bound to, or None."""
        return self._keys.get(site)

    def bind(self, site: str, key: str) -> None:
        """Binds a name to the first key that is heard under it."""
        self._keys.setdefault(site, key)

    def save(self) -> None:
        """Writes what is remembered to disk, joined with what another server wrote there meanwhile.

        Raises:
            PrivacyError: it cannot be written, or a file is damaged.
        """
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._join(self._folder / FILE)
                self._join_keys(self._folder)
            finally:
                os.close(lock)
        except OSError as error:
            why = f"what is remembered of hospitals' ledgers cannot be kept in {self._folder} ({error.strerror})"
            raise PrivacyError(f"{why}; make the folder writable, or name another with `state`") from error

    def _join(self, path: Path) -> None:
        written = _read(path)
        for key, other in written.items():
            mine = self._seen.get(key)
            if mine is None or mine.seq < other.seq:
                self._seen[key] = other
        if self._seen != written:
            content = {key: as_values(self._seen[key]) for key in sorted(self._seen)}
            write_bytes(path, to_json(content).encode(), mode=0o600)

    def _join_keys(self, folder: Path) -> None:
        from medtl_core.privacy.identity import trusted_peers

        written = trusted_peers(folder) or {}
        self._keys = {**self._keys, **written}
        if self._keys != written:
            write_bytes(folder / KEYS, to_json(dict(sorted(self._keys.items()))).encode(), mode=0o600)

    def _key(self, site: str, method: str, ledger: str) -> str:
        """A site's name holds no slash."""
        return site if ledger == HOSPITAL else f"{self._run}/{method}/{site}"


def _read(path: Path) -> dict[str, Witness]:
    if not path.is_file():
        return {}
    try:
        content: Any = read_json(path)
        found = {str(key): from_values(values) for key, values in content.items()}
        return {key: witness for key, witness in found.items() if witness is not None}
    except (AttributeError, PrivacyError, RunError) as error:
        why = f"{path} is damaged; put it back from a backup, or remove it to believe every hospital's ledger anew"
        raise PrivacyError(why) from error
