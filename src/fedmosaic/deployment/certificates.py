"""The federation's own certificate authority, and the server's certificate."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedmosaic.deployment.keys import write_private
from fedmosaic.errors import SettingsError

AUTHORITY_KEY, AUTHORITY = "ca.key", "ca.crt"
SERVER_KEY, SERVER = "server.key", "server.crt"

_AUTHORITY_DAYS = 3650
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CLOCKS_DIFFER = datetime.timedelta(hours=1)


def new_authority(folder: Path) -> Path:
    """Make the authority: a key that signs server certificates, and the certificate that every node trusts.

    Args:
        folder: gets both; the key is needed again only to renew a server's certificate.

    Returns:
        The certificate's file.

    Raises:
        SettingsError: the folder has a key already.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedmosaic federation")])
    certificate = (
        _certificate(name, name, key.public_key(), days=_AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA384())
    )
    write_private(folder / AUTHORITY_KEY, _pem(key))
    (folder / AUTHORITY).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return folder / AUTHORITY


def renew_server_certificate(authority: Path, server: Path, *, host: str, days: int) -> datetime.datetime:
    """Sign a certificate for the server's key, which is made if it is not there; it is good on loopback, too.

    Args:
        authority: the folder that :func:`new_authority` made.
        server: the server's folder; gets the certificate, and the key in ``keys/``.
        host: name or IP address under which nodes reach the server.
        days: how long it is valid.

    Returns:
        When it expires, in UTC.

    Raises:
        SettingsError: the authority or the server's key cannot be read.
    """
    signer = _read_key(authority / AUTHORITY_KEY)
    issuer = x509.load_pem_x509_certificate(_read(authority / AUTHORITY))
    path = server / "keys" / SERVER_KEY
    if not path.exists():
        write_private(path, _pem(ec.generate_private_key(ec.SECP384R1())))
    key = _read_key(path)
    names = x509.SubjectAlternativeName([_name(each) for each in dict.fromkeys((host, *_LOOPBACK))])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    certificate = (
        _certificate(subject, issuer.subject, key.public_key(), days=days)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA384())
    )
    (server / SERVER).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate.not_valid_after_utc


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int
) -> x509.CertificateBuilder:
    """Return what all certificates have in common."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except ValueError:
        raise SettingsError(f"{path} holds no private key; it was made by fedmosaic deploy init") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SettingsError(f"{path} holds a key of another kind than fedmosaic deploy init makes")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); fedmosaic deploy init makes it") from None
