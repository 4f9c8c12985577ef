"""Opening files that others made, and telling their contents apart."""

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

_QUIET = 2_000_000_000  # nanoseconds; no file system counts time more coarsely
_LONG = 200  # characters; longer names are cut where an error repeats them
_SHOWN = 60

_Stamp = tuple[int, int, int, int, int]


def open_file(path: Path, name: str) -> BufferedReader:
    """Open a file for reading.

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


def shown(name: str) -> str:
    """Return a name as errors repeat it: quoted, and cut where it is very long (as a picture in a path's place is)."""
    return repr(name) if len(name) <= _LONG else f"{name[:_SHOWN]!r}... ({len(name):,} characters)"


def digest_of(content: bytes) -> str:
    """Return the digest (32 hexadecimal digits) of some bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def files_below(root: Path) -> Iterator[str]:
    """Yield the paths of all files below a folder; links are followed, but no folder is entered twice."""
    entered: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        entered.add(os.path.realpath(folder))
        below[:] = [name for name in below if os.path.realpath(Path(folder, name)) not in entered]
        yield from (f"{folder}/{name}" for name in files)


class ContentDigests:
    """Digests of files' bytes, whatever the files are called; each file is read once, and again when it changed.

    That a file did not change is believed only where the system vouches for it: same device, inode, size, time of
    writing *and time of change*, which ``cp -p``, ``touch -r`` or rsync cannot set. A time within two seconds of now
    proves nothing (the next write could get the same), and nor does one on a file system that keeps no time of change
    and shows the time of writing in its place, in whole hundredths of a second (FAT, most remote mounts), or on
    Windows, where it is the time of creation: such a file is read again whenever it is asked about.
    """

    def __init__(self) -> None:
        self._known: dict[_Stamp, str] = {}
        self._note: Path | None = None

    def remember(self, note: Path) -> None:
        """Know what an earlier process noted, and note what this one finds: numbers only, no names.

        Args:
            note: a file; it need not exist, and where it cannot be written nothing is kept.
        """
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            self._note = note
            self._known |= _noted(note.read_text(encoding="ascii", errors="replace"))

    def of(self, path: Path, name: str) -> str:
        """Return the digest (32 hexadecimal digits) of a file.

        Args:
            path: where it is; symbolic links are followed.
            name: what an error calls it.

        Raises:
            DataError: as :func:`open_file`.
        """
        with suppress(OSError, ValueError):  # what is wrong with it is told when it is opened
            if (known := self._known.get(_stamp(path))) is not None:
                return known
        with open_file(path, name) as file:
            stamp = _stamp(file.fileno())
            lasting = _vouched_for(stamp)  # asked before reading: a write may happen meanwhile
            try:
                digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            except OSError as error:
                raise DataError(f"{name} cannot be read ({error.strerror or error}); copy it again") from None
        if lasting:
            self._keep(stamp, digest)
        return digest

    def _keep(self, stamp: _Stamp, digest: str) -> None:
        self._known[stamp] = digest
        if self._note is not None:
            with suppress(OSError), self._note.open("a", encoding="ascii") as file:
                file.write(" ".join([*map(str, stamp), digest]) + "\n")


def _noted(text: str) -> dict[_Stamp, str]:
    """Read a note's lines; one that was cut off by a crash is left out, with the one that was written behind it."""
    lines = (line.split(" ") for line in text.splitlines())
    whole = (line for line in lines if len(line) == 6 and len(line[5]) == 32 and all(map(str.isdecimal, line[:5])))
    return {(int(a), int(b), int(c), int(d), int(e)): digest for a, b, c, d, e, digest in whole}


def _stamp(file: Path | int) -> _Stamp:
    status = os.stat(file)  # noqa: PTH116 - of an open file, too
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _vouched_for(stamp: _Stamp) -> bool:
    """Return whether any later change of a file must show in its stamp."""
    *_, written, changed = stamp
    real = os.name == "posix" and (written != changed or changed % 10_000_000 != 0)
    return real and changed + _QUIET < time.time_ns()
