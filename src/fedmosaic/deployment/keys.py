"""Keys of nodes, and files that hold secrets."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedmosaic.errors import SettingsError

_SECRET_BYTES = 32


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, from its first byte on.

    Args:
        path: the file; its folder is made, for the owner only, if it does not exist.
        data: its content.

    Raises:
        SettingsError: the file exists; a key is never overwritten.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise SettingsError(f"{path} exists; a key is never overwritten: move it away first") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def new_secret() -> bytes:
    """Return 32 random bytes in hexadecimal digits: what a SuperExec shows to be given a task."""
    return secrets.token_hex(_SECRET_BYTES).encode()


def new_node_key(path: Path) -> str:
    """Make a node's key; it is written in OpenSSH's format, as ``ssh-keygen -t ecdsa -b 384`` does.

    Args:
        path: of the private key.

    Returns:
        The public key, in the same format.

    Raises:
        SettingsError: the file exists.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    write_private(path, private)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode()


def read_public_key(path: Path) -> str:
    """Return a node's public key, in OpenSSH's format without a comment.

    Args:
        path: a file that ``ssh-keygen -t ecdsa -b 384`` or :func:`new_node_key` wrote.

    Raises:
        SettingsError: there is none, or it is a key that Flower does not take.
    """
    try:
        line = path.read_text()
        parse_public_key(line)
    except OSError as error:
        raise SettingsError(f"public key {path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise SettingsError(f"public key {path}: {error}; make one by ssh-keygen -t ecdsa -b 384") from None
    return " ".join(line.split()[:2])


def parse_public_key(line: str) -> bytes:
    """Return a public key as Flower registers and shows it: X.509's SubjectPublicKeyInfo, in PEM.

    Args:
        line: in OpenSSH's format.

    Raises:
        ValueError: says what it is instead of a key on one of NIST's curves.
    """
    if "PRIVATE KEY" in line:
        raise ValueError("this is a private key, which stays where it was made; give the one that ends in .pub")
    try:
        key = serialization.load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("it is no public key in OpenSSH's format") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("it is a key of another kind than ECDSA")
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
