"""The coordinator's own authority and the certificate of its port, made here or brought.

An authority of its own vouches for one server and nothing else, so hospitals need trust nobody but the coordinator
whose invitation they hold. Keys are ECDSA on P-384; they stay in the coordinator's folder, its owner's alone to read.
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from medtl_core.errors import ConfigError

#: How long an authority and a server's certificate are good for, and when the latter is made anew.
_AUTHORITY, _SERVER, RENEWED = timedelta(days=3650), timedelta(days=397), timedelta(days=60)
#: Clocks of hospitals may be this much behind.
_SLACK = timedelta(hours=24)


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


def new_authority(name: str) -> Pair:
    """Returns a new authority for a federation."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = _subject(f"{name}, authority")
    builder = _builder(subject, subject, key.public_key(), _AUTHORITY)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=False, vouches=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return _pair(builder.sign(key, hashes.SHA384()), key)


def new_server(authority: Pair, host: str) -> Pair:
    """Returns a new certificate for the server at a host, vouched for by the authority.

    Args:
        authority: from `new_authority`.
        host: name or IP address by which hospitals reach the server; a server on this machine gets all its names.
    """
    root = x509.load_pem_x509_certificate(authority.certificate)
    signer = _private(authority.key)
    key = ec.generate_private_key(ec.SECP384R1())
    names = [host, *(name for name in ("127.0.0.1", "::1", "localhost") if is_local(host) and name != host)]
    builder = _builder(_subject(host), root.subject, key.public_key(), _SERVER)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=True, vouches=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    known = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(known, critical=False)
    return _pair(builder.sign(signer, hashes.SHA384()), key)


def check_server(pair: Pair, authority: bytes, host: str) -> datetime:
    """Returns until when a server's certificate is good.

    Raises:
        ConfigError: it is not in time, not for that host, not vouched for by that authority (PEM), or the key is
            another's.
    """
    try:
        certificate, root = x509.load_pem_x509_certificate(pair.certificate), x509.load_pem_x509_certificate(authority)
        key = serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError) as error:
        raise ConfigError("certificate, key and authority must be PEM files, the key without a passphrase") from error
    if _public(key) != _public(certificate):
        raise ConfigError("the key does not belong to the certificate; name the one it was made with")
    now = datetime.now(UTC)
    for one, what in ((certificate, "server's"), (root, "authority's")):
        if not one.not_valid_before_utc <= now <= one.not_valid_after_utc:
            raise ConfigError(
                f"the {what} certificate is good from {one.not_valid_before_utc:%Y-%m-%d} to "
                f"{one.not_valid_after_utc:%Y-%m-%d}, and today is {now:%Y-%m-%d}; bring a new one, or set the clock"
            )
    if not _names(certificate, host):
        raise ConfigError(
            f"the server's certificate does not name {host}; hospitals would refuse it: bring one that does"
        )
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature) as error:
        chained = pair.certificate.count(b"BEGIN CERTIFICATE") > 1  # the rest of the chain is OpenSSL's to check
        if not chained:
            raise ConfigError(
                "the server's certificate was not made by that authority; name its own with --ca"
            ) from error
    return certificate.not_valid_after_utc


def is_local(host: str) -> bool:
    """Returns whether a host is this machine by its loopback name or address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, good: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _SLACK).not_valid_after(now + good)


def _usage(*, signs: bool, vouches: bool) -> x509.KeyUsage:
    return x509.KeyUsage(signs, False, False, False, False, vouches, vouches, False, False)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names(certificate: x509.Certificate, host: str) -> bool:
    try:
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    addresses = [str(address) for address in held.get_values_for_type(x509.IPAddress)]
    names = [name.lower() for name in held.get_values_for_type(x509.DNSName)]
    return host in addresses or host.lower() in names or f"*.{host.lower().partition('.')[2]}" in names


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError("the authority's key is no ECDSA key; put back the one that `medtl coordinator init` made")
    return key


def _public(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.DER, form))


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def read_pair(certificate: Path, key: Path) -> Pair:
    """Returns the pair in two files.

    Raises:
        ConfigError: one cannot be read.
    """
    try:
        return Pair(certificate.read_bytes(), key.read_bytes())
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read ({error.strerror})") from error
