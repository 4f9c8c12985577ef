"""A file's checksum, kept in the file itself: what a disk has changed or cut off is noticed before it is used.

It stands near the file's beginning as the JSON entry ``"checksum": "32 hex digits"``, which both a JSON object and the
header of a safetensors file can hold, and is that of the file with zeros in its place. Files without one are of
versions that wrote none.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from fedmosaic.errors import RunError

BLANK = "0" * 32
"""Stands where :func:`sealed` puts the checksum."""

NAME = "checksum"
"""Of the entry."""

_ENTRY = re.compile(rb'"checksum": ?"([0-9a-f]{32})"')
_BEGINNING = 4096
_CHUNK = 2**20


def sealed(data: bytes) -> bytes:
    """Return a file's content with its checksum.

    Args:
        data: with the entry in its first 4 KiB, still blank.
    """
    entry = _ENTRY.search(data, 0, _BEGINNING)
    assert entry is not None
    digest = hashlib.blake2b(data, digest_size=16).hexdigest().encode()
    return data[: entry.start(1)] + digest + data[entry.end(1) :]


def check(path: Path, *, advice: str) -> None:
    """Compare a file with its checksum; one without is not compared.

    Args:
        path: the file.
        advice: what to do if it is damaged; ends the error message.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_BEGINNING)
            entry = _ENTRY.search(head)
            if entry is None:
                return
            digest = hashlib.blake2b(head[: entry.start(1)] + BLANK.encode() + head[entry.end(1) :], digest_size=16)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        raise RunError(f"{path} is missing; {advice}") from None
    if digest.hexdigest().encode() != entry[1]:
        raise RunError(f"{path} is damaged (its checksum is wrong); {advice}")
