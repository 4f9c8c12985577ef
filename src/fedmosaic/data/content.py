"""Opening users' files, and identifying them by the digest of their content."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from fedmosaic.errors import DataError

_CLOCK_RESOLUTION = 2_000_000_000  # nanoseconds; that of the coarsest file system
_LONG = 200  # characters; longer names are cut where an error repeats them
_KEPT = 60

_Stamp = tuple[int, int, int, int, int]


def open_file(path: Path, name: str) -> BufferedReader:
    """Open a file for reading and return it.

    Args:
        path: where it is; symbolic links are followed.
        name: what an error calls it.

    Raises:
        DataError: there is no such file, it is empty, no regular file, or must not be read.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise DataError(f"{name} is a folder; expected an image file")
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{name} is a pipe, socket or device; expected an image file")
        if status.st_size == 0:
            raise DataError(f"{name} is empty (0 bytes); replace the file or remove its record")
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{name} is not a file; add it or remove the record that uses it") from None
    except OSError as error:
        raise DataError(f"{name} cannot be read ({error.strerror or error}); mend that or remove its record") from None
    except ValueError as error:  # a NUL, half a surrogate pair
        raise DataError(f"{name} is no path of a file ({error}); expected one relative to the data folder") from None


def quoted(name: str) -> str:
    """Return a name as it stands in errors: quoted, and cut where it is very long (e.g. a data URI in place of a path).

    Args:
        name: a path or data URI.
    """
    return repr(name) if len(name) <= _LONG else f"{name[:_KEPT]!r}... ({len(name):,} characters)"


def digest_of(content: bytes) -> str:
    """Return the digest (32 hexadecimal digits) of some bytes.

    Args:
        content: the bytes.
    """
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def files_below(root: Path) -> Iterator[str]:
    """Yield the paths of all files below a folder; links are followed, but no folder is entered twice.

    Args:
        root: the folder.
    """
    entered: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        entered.add(os.path.realpath(folder))
        below[:] = [name for name in below if os.path.realpath(Path(folder, name)) not in entered]
        yield from (f"{folder}/{name}" for name in files)


class ContentDigests:
    """Digests of files' bytes, whatever their names; each file is read once, and again after a change.

    A file counts as unchanged only if device, inode, size, modification time *and change time* (which ``cp -p``,
    ``touch -r`` or rsync cannot set) are the same. Such a stamp is not reliable within two seconds of a change (the
    next write could get the same time), on a file system without change times, which repeats the modification time in
    whole hundredths of a second (FAT, most remote mounts), or on Windows, where the change time is the time of
    creation: there a file is read again at every call.
    """

    def __init__(self) -> None:
        self._known: dict[_Stamp, str] = {}
        self._cache: Path | None = None

    def remember(self, cache: Path) -> None:
        """Read a cache file of digests, and append new digests to it: numbers only, no names.

        Args:
            cache: the file; it need not exist, and where it cannot be written nothing is kept.
        """
        with suppress(OSError):
            cache.parent.mkdir(parents=True, exist_ok=True)
            self._cache = cache
            self._known |= _parse_cache(cache.read_text(encoding="ascii", errors="replace"))

    def of(self, path: Path, name: str) -> str:
        """Return the digest (32 hexadecimal digits) of a file.

        Args:
            path: where it is; symbolic links are followed.
            name: what an error calls it.

        Raises:
            DataError: as :func:`open_file`.
        """
        with suppress(OSError, ValueError):  # open_file below reports what is wrong
            if (known := self._known.get(_stamp(path))) is not None:
                return known
        with open_file(path, name) as file:
            stamp = _stamp(file.fileno())
            reliable = _is_reliable(stamp)  # before reading: a write may happen meanwhile
            try:
                digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            except OSError as error:
                raise DataError(f"{name} cannot be read ({error.strerror or error}); copy it again") from None
        if reliable:
            self._keep(stamp, digest)
        return digest

    def _keep(self, stamp: _Stamp, digest: str) -> None:
        self._known[stamp] = digest
        if self._cache is not None:
            with suppress(OSError), self._cache.open("a", encoding="ascii") as file:
                file.write(" ".join([*map(str, stamp), digest]) + "\n")


def _parse_cache(text: str) -> dict[_Stamp, str]:
    """Return the digests of a cache file; a line cut off by a crash is left out, with the one appended to it."""
    lines = (line.split(" ") for line in text.splitlines())
    whole = (line for line in lines if len(line) == 6 and len(line[5]) == 32 and all(map(str.isdecimal, line[:5])))
    return {(int(a), int(b), int(c), int(d), int(e)): digest for a, b, c, d, e, digest in whole}


def _stamp(file: Path | int) -> _Stamp:
    status = os.stat(file)  # noqa: PTH116 - of an open file, too
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_reliable(stamp: _Stamp) -> bool:
    """Return whether any later change of a file must change its stamp."""
    *_, written, changed = stamp
    real = os.name == "posix" and (written != changed or changed % 10_000_000 != 0)
    return real and changed + _CLOCK_RESOLUTION < time.time_ns()
