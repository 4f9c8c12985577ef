"""The protocol of readers, and finding the one for a path."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Protocol

from fedmosaic.data.record_files import Entry
from fedmosaic.errors import DataError
from fedmosaic.registry import READERS

_HEAD = 4096  # bytes that decide
_WIDE = (
    *((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32")),
    *((codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"), (b"{\x00", "UTF-16"), (b"[\x00", "UTF-16")),
)


class Reader(Protocol):
    """A form of files or folders; registered as a class, see :mod:`fedmosaic.registry`.

    Attributes:
        name: as ``fedmosaic data check`` shows it.
    """

    name: ClassVar[str]

    @classmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Return whether a path has this form.

        Args:
            path: a file or a folder.
            head: the file's first bytes; empty for a folder.
        """
        ...

    @classmethod
    def entries(cls, path: Path) -> Iterator[Entry]:
        """Yield the records one by one; those that cannot be decoded with their fault.

        Args:
            path: what was recognised.

        Raises:
            DataError: it cannot be read at all.
        """
        ...


def reader_of(path: Path) -> type[Reader]:
    """Return the reader of a file or folder, going by its content.

    Args:
        path: the file or folder.

    Raises:
        DataError: it is missing, empty, or has a form that no reader knows.
    """
    try:
        with path.open("rb") if path.is_file() else _Nothing() as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file and its rights") from error
    if not path.exists():
        raise DataError(f"{path} is missing; check the path")
    if path.is_file() and not head.strip():
        raise DataError(f"{path}: the file is empty; expected records")
    if wide := next((name for mark, name in _WIDE if head.startswith(mark)), ""):
        raise DataError(f"{path}: seems to be {wide}; save it as UTF-8")
    readers: list[type[Reader]] = READERS.load_all()
    for reader in readers:
        if reader.recognises(path, head):
            return reader
    what = "folder" if path.is_dir() else "file" if path.is_file() else "pipe, socket or device"
    raise DataError(
        f"{path}: a {what} of no known form; known are {', '.join(reader.name for reader in readers)} (docs/data.md)"
    )


class _Nothing:
    """What a folder has in place of a file's content."""

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, _: int) -> bytes:
        return b""
