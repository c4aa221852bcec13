"""Masks cancel, drop-outs are taken out exactly, nothing but the right key opens anything; identities stay."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.errors import PrivacyError
from medtl_core.privacy import masking
from medtl_core.privacy.identity import IDENTITY, PEERS, own_identity, public_identity, trusted_peers
from medtl_core.privacy.masking import Secrets, fresh_secrets

SIZE = 11


def pair_keys(people: list[Secrets], me: int, among: list[int]) -> dict[int, bytes]:
    public = [masking.public_key(one.pair) for one in people]
    return {place: masking.agreed_key(people[me].pair, public[place], "mask") for place in among if place != me}


def made(count: int, seed: int) -> tuple[list[Secrets], np.ndarray, np.ndarray]:
    people = [fresh_secrets() for _ in range(count)]
    values = np.random.default_rng(seed).integers(-(2**50), 2**50, (count, SIZE))
    everyone = list(range(count))
    sent = [masking.masked(values[me], me, pair_keys(people, me, everyone), people[me].own) for me in everyone]
    return people, values, np.stack(sent)


def total(rows: np.ndarray) -> np.ndarray:
    return rows.view(np.uint64).sum(axis=0, dtype=np.uint64).view(np.int64)


@settings(max_examples=15)
@given(st.integers(2, 6), st.integers(0, 99), st.booleans())
def test_masks_cancel_in_the_sum_of_those_who_stay(count: int, seed: int, complete: bool) -> None:
    people, values, sent = made(count, seed)
    gone = seed % count
    stayed = [place for place in range(count) if complete or place != gone]
    left = {} if complete else {gone: pair_keys(people, gone, stayed)}
    clear = masking.unmasked(total(sent[stayed]), [people[place].own for place in stayed], left)
    np.testing.assert_array_equal(clear, values[stayed].sum(axis=0))


def test_a_single_message_tells_nothing() -> None:
    """A masked vector is uniform modulo 2^64: its top bits do not depend on the values, nor on the size of them."""
    people = [fresh_secrets() for _ in range(3)]
    small, large = np.zeros(4000, np.int64), np.full(4000, 2**40)
    for values in (small, large):
        sent = masking.masked(values, 0, pair_keys(people, 0, [0, 1, 2]), people[0].own)
        top = np.bincount((sent.view(np.uint64) >> np.uint64(60)).astype(int), minlength=16)
        assert np.abs(top - 250).max() < 90
    # without the pairwise masks of the others nothing comes off
    sent = masking.masked(small, 0, pair_keys(people, 0, [0, 1, 2]), people[0].own)
    assert (masking.unmasked(sent, [people[0].own], {}) != small).all()


def test_any_threshold_of_shares_gives_the_secret_and_fewer_do_not() -> None:
    secret = bytes(range(16))
    shares = masking.split(secret, 3, 5)
    for chosen in ((0, 1, 2), (4, 2, 0), (1, 3, 4)):
        assert masking.joined({place: shares[place] for place in chosen}) == secret
    assert masking.joined({place: shares[place] for place in (0, 1)}) != secret
    assert len({*shares}) == 5
    assert masking.to_bytes(masking.to_words(secret)) == secret


def test_a_parcel_is_opened_by_its_reader_only_and_unchanged() -> None:
    a, b, c = (fresh_secrets() for _ in range(3))
    key = masking.agreed_key(a.seal, masking.public_key(b.seal), "parcel/1")
    assert key == masking.agreed_key(b.seal, masking.public_key(a.seal), "parcel/1")
    parcel = masking.seal(key, b"x" * 32)
    assert len(parcel) == masking.PARCEL
    assert masking.unseal(key, parcel) == b"x" * 32
    wrong = [
        (masking.agreed_key(c.seal, masking.public_key(a.seal), "parcel/1"), parcel),
        (masking.agreed_key(a.seal, masking.public_key(b.seal), "parcel/2"), parcel),
        (key, parcel[:-1] + bytes([parcel[-1] ^ 1])),
    ]
    for other, content in wrong:
        with pytest.raises(PrivacyError):
            masking.unseal(other, content)


def test_keys_that_their_owner_did_not_sign_are_refused() -> None:
    identity = bytes(range(32))
    public = masking.identity_public(identity)
    signature = masking.signed(identity, b"statement")
    masking.check_signature(public, signature, b"statement", "north")
    for message, signed in ((b"another", signature), (b"statement", bytes(64))):
        with pytest.raises(PrivacyError, match="north"):
            masking.check_signature(public, signed, message, "north")
    with pytest.raises(PrivacyError):
        masking.agreed_key(fresh_secrets().pair, bytes(32), "mask")


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
