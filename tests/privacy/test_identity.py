"""A hospital's identity key is made once and stays; whom it trusts is read strictly."""

from pathlib import Path

import pytest

from medtl_core.errors import PrivacyError
from medtl_core.privacy import masking
from medtl_core.privacy.identity import IDENTITY, PEERS, own_identity, public_identity, trusted_peers


def test_the_key_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    home = tmp_path / "state"
    key = own_identity(home)
    assert own_identity(home) == key != own_identity(tmp_path / "other")
    assert public_identity(home) == masking.identity_public(key).hex() != key.hex()
    assert (home / IDENTITY).stat().st_mode & 0o077 == 0


def test_a_damaged_key_is_not_replaced_and_one_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / IDENTITY).write_bytes(b"short")
    for home in (tmp_path, tmp_path / IDENTITY / "below-a-file"):
        with pytest.raises(PrivacyError):
            own_identity(home)
    assert (tmp_path / IDENTITY).read_bytes() == b"short"


@pytest.mark.parametrize("text", ["{", "[]", '"north"', '{"north": 7}', '{"north": null}'])
def test_whom_it_trusts_is_read_strictly(tmp_path: Path, text: str) -> None:
    assert trusted_peers(tmp_path) is None
    (tmp_path / PEERS).write_text('{"north": "ab"}')
    assert trusted_peers(tmp_path) == {"north": "ab"}
    (tmp_path / PEERS).write_text(text)
    with pytest.raises(PrivacyError):
        trusted_peers(tmp_path)
