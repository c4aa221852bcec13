"""Pairwise masks that cancel in the sum (Bonawitz et al., CCS 2017), from well-kept primitives only.

A hospital hides its integers under one mask of its own and one per partner; partners' masks cancel. Keys come from
X25519, signed by Ed25519 identities; mask streams from ChaCha20 under HKDF-SHA-256; and secrets that a drop-out would
take along are split by Shamir's scheme and travel sealed with ChaCha20-Poly1305. All sums are modulo 2^64. Secrets are
of 128 bits, X25519's own strength: one share in Shamir's field then carries a whole one.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from medtl_core.errors import PrivacyError

Ints = NDArray[np.int64]

#: Bytes of a secret and of each share of it, of a key, of a signature, and of a parcel: two shares and a tag.
SECRET, KEY, SIGNATURE, PARCEL = 16, 32, 64, 48


@dataclass(frozen=True)
class Secrets:
    """What one hospital draws for one sum; it never leaves the hospital whole.

    Attributes:
        seal: of the keys that parcels are sealed with.
        pair: of the pairwise masks.
        own: of the hospital's own mask.
    """

    seal: bytes
    pair: bytes
    own: bytes


def fresh_secrets() -> Secrets:
    """Returns new secrets from the operating system."""
    return Secrets(os.urandom(SECRET), os.urandom(SECRET), os.urandom(SECRET))


def derived(material: bytes, purpose: str) -> bytes:
    """Returns a 32-byte key for one purpose (HKDF, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=KEY, salt=None, info=purpose.encode()).derive(material)


def public_key(secret: bytes) -> bytes:
    """Returns the X25519 public key (RFC 7748) of the private one that is derived from a secret."""
    return _private(secret).public_key().public_bytes_raw()


def commitment(secret: bytes) -> bytes:
    """Returns what binds a hospital to the secret of its own mask, and tells nothing of it."""
    return derived(secret, "commitment")


def signed(identity: bytes, message: bytes) -> bytes:
    """Returns the Ed25519 signature of a message under a private identity key (RFC 8032)."""
    return Ed25519PrivateKey.from_private_bytes(identity).sign(message)


def identity_public(identity: bytes) -> bytes:
    """Returns the public part of an Ed25519 identity key."""
    return Ed25519PrivateKey.from_private_bytes(identity).public_key().public_bytes_raw()


def check_signature(public: bytes, signature: bytes, message: bytes, site: str) -> None:
    """Refuses keys that their owner did not sign.

    Raises:
        PrivacyError: the signature is not valid.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise PrivacyError(f"the keys of {site!r} are not signed by its identity; nothing is masked") from error


def agreed_key(secret: bytes, public: bytes, purpose: str) -> bytes:
    """Returns the 32-byte key two hospitals share for one purpose: X25519, then HKDF.

    Raises:
        PrivacyError: the other's key is not one.
    """
    try:
        shared = _private(secret).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise PrivacyError("a partner's public key is not valid; nothing is masked") from error
    return derived(shared, purpose)


def stream(key: bytes, size: int) -> Ints:
    """Returns int64 numbers, uniform modulo 2^64, that only holders of the key know; each key is used once."""
    return np.frombuffer(Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(8 * size)), "<i8")


def seal(key: bytes, content: bytes) -> bytes:
    """Returns content encrypted and authenticated under a key that is used for this parcel only."""
    return ChaCha20Poly1305(key).encrypt(bytes(12), content, None)


def unseal(key: bytes, parcel: bytes) -> bytes:
    """Returns the content of a parcel.

    Raises:
        PrivacyError: it was changed on its way, or is for another hospital.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), parcel, None)
    except InvalidTag as error:
        raise PrivacyError("a partner's sealed share was changed on its way") from error


def split(secret: bytes, threshold: int, holders: int) -> list[bytes]:
    """Returns one share a holder; any `threshold` of them give the secret, fewer tell nothing (Shamir 1979).

    Example:
        >>> shares = split(b"s" * 16, 2, 3)
        >>> joined({0: shares[0], 2: shares[2]})[:4]
        b'ssss'
    """
    return [share for _, share in sorted(Shamir.split(threshold, holders, secret, False))]


def joined(shares: Mapping[int, bytes]) -> bytes:
    """Returns the secret of shares by holder, from 0; with shares of different secrets, noise."""
    return bytes(Shamir.combine([(holder + 1, share) for holder, share in sorted(shares.items())], False))


def masked(values: Ints, me: int, keys: Mapping[int, bytes], own: bytes) -> Ints:
    """Returns values [n] plus this hospital's own mask, plus the pairwise masks of partners, modulo 2^64.

    Args:
        values: int64 [n].
        me: this hospital's place among all.
        keys: pairwise mask key by partner's place.
        own: secret of the own mask.
    """
    total = values.view(np.uint64) + stream(derived(own, "own"), len(values)).view(np.uint64)
    for place, key in keys.items():
        mask = stream(key, len(values)).view(np.uint64)
        total = total + mask if me < place else total - mask
    return total.view(np.int64)


def unmasked(total: Ints, own: Sequence[bytes], left: Mapping[int, Mapping[int, bytes]]) -> Ints:
    """Returns the sum of the survivors' values from the sum of their masked ones.

    Args:
        total: int64 [n], modulo 2^64.
        own: secrets of the survivors' own masks.
        left: drop-out's place -> survivor's place -> their pairwise key, whose masks did not cancel.
    """
    clear = total.view(np.uint64)
    for secret in own:
        clear = clear - stream(derived(secret, "own"), len(total)).view(np.uint64)
    for gone, partners in left.items():
        for place, key in partners.items():
            mask = stream(key, len(total)).view(np.uint64)
            clear = clear - mask if place < gone else clear + mask
    return clear.view(np.int64)


def to_words(content: bytes) -> Ints:
    """Returns bytes, a multiple of 8, as the int64 numbers that travel."""
    return np.frombuffer(content, "<i8").astype(np.int64)


def to_bytes(words: Ints) -> bytes:
    """Returns the bytes of such numbers."""
    return np.ascontiguousarray(words, "<i8").tobytes()


def _private(secret: bytes) -> X25519PrivateKey:

    return X25519PrivateKey.from_private_bytes(derived(secret, "x25519"))
