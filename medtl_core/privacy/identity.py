"""Who a hospital is to other hospitals: an Ed25519 key in its own folder, and the public keys of those it trusts."""

import json
import os
import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from medtl_core.errors import PrivacyError
from medtl_core.privacy import masking
from medtl_core.privacy.hospital_file import HOSPITAL, is_deployed, table_of
from medtl_core.store import write_bytes

#: File in the hospital's folder with its private identity key.
IDENTITY = "identity.key"
#: File in a simulated hospital's folder with the public identity keys of those it trusts, by name, as hex.
PEERS = "peers.json"
_KEY = re.compile(r"[0-9a-f]{64}")


def own_identity(home: Path) -> bytes:
    """Returns the private identity key in a hospital's folder; see `kept_key`."""
    return kept_key(home / IDENTITY, "identity key")


def kept_key(path: Path, what: str) -> bytes:
    """Returns the secret key of 32 bytes in a file, drawn from the operating system the first time.

    Of two processes that begin at once, one draws it, and both return that one.

    Raises:
        PrivacyError: it cannot be read or made, or is not a key.
    """
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError):
                write_bytes(path, os.urandom(masking.KEY), mode=0o600, new=True)
        key = path.read_bytes()
    except OSError as error:
        raise PrivacyError(f"the {what} {path} cannot be read or made ({error.strerror})") from error
    if len(key) != masking.KEY:
        raise PrivacyError(f"{path} is no {what} of {masking.KEY} bytes; put it back from a copy")
    return key


def public_identity(home: Path) -> str:
    """Returns the public identity key of a hospital's folder as hex: what others write into their `PEERS`."""
    return masking.identity_public(own_identity(home)).hex()


def trusted_peers(home: Path) -> Mapping[str, str] | None:
    """Returns the public identity keys a hospital trusts, by name; None if it has named none.

    A deployed hospital names them in its `hospital.toml`, a simulated one may have a file `PEERS`.

    Raises:
        PrivacyError: they cannot be read, or are no names and keys.
    """
    if is_deployed(home):
        return deployed_peers(table_of(home, "peers", PrivacyError), f"{home / HOSPITAL} [peers]") or None
    path = home / PEERS
    if not os.path.lexists(path):
        return None
    try:
        peers = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PrivacyError(f"{path} cannot be read; nothing is masked") from error
    if not isinstance(peers, dict) or not all(isinstance(key, str) for key in peers.values()):
        raise PrivacyError(f"{path} must be a JSON object of hospital names and their public keys; nothing is masked")
    return _composed(peers)


def deployed_peers(table: Mapping[str, Any], where: str) -> Mapping[str, str]:
    """Returns the peers in the table of a deployed hospital.

    Raises:
        PrivacyError: a value is no public key: 64 hexadecimal digits.
    """
    for name, key in table.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise PrivacyError(f"{where}: {name!r} must be a public key, the 64 digits `medtl site identity` prints")
    return _composed(table)


def _composed(peers: Mapping[str, str]) -> Mapping[str, str]:
    """The names as hospitals bear them: composed, however a person's keyboard or disk has written them."""
    return {unicodedata.normalize("NFC", name): key for name, key in peers.items()}
