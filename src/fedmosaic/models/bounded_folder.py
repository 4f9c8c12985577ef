"""Tensors in a folder of bounded size, for caches only.

Room is made by what was last used before this process began. When all is in use nothing more is kept: to drop what will
be used again soonest, as a pass over too many files would, is worse than to keep a part of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock
from torch import Tensor

from fedmosaic.errors import RunError
from fedmosaic.io import load_tensors, save_tensors

_SUFFIX = ".safetensors"
_LOOK_AGAIN = 64  # files; other processes write, too
_HEADER = 1024  # bytes of a file beside its tensors


class BoundedFolder:
    """Safetensors files by name, used by several processes at once.

    Files are complete or absent. Each process looks now and then at what all have written, so that the bound holds up
    to a few files of each other one.

    Args:
        folder: is made if it does not exist; its files below folders count, too.
        most: bytes.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder = folder
        self.most = most
        folder.mkdir(parents=True, exist_ok=True)
        self._began = time.time_ns()
        self._writes = 0
        self._size = sum(size for _, size, _ in self._files())

    def has(self, name: str) -> bool:
        """Return whether there is a file.

        Args:
            name: may have a folder in front.
        """
        return self._path(name).exists()

    def get(self, name: str) -> dict[str, Tensor] | None:
        """Return the tensors of a file, which counts as used; None if there is none, or a damaged one.

        Args:
            name: may have a folder in front.
        """
        path = self._path(name)
        try:
            now = time.time_ns()  # the system's own stamp may be a little earlier
            os.utime(path, ns=(now, now))
            return load_tensors(path)
        except FileNotFoundError:
            return None
        except (RunError, OSError):  # a full disk, a crash; or it has just made room
            with suppress(OSError):
                path.unlink()
            return None

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write a file, if there is room for it or some can be made.

        Args:
            name: may have a folder in front.
            tensors: by name.

        Raises:
            OSError: it cannot be written.
        """
        size = _HEADER + sum(tensor.nbytes for tensor in tensors.values())
        self._writes += 1
        if self._size + size > self.most or self._writes % _LOOK_AGAIN == 0:
            self._make_room(size)
        if self._size + size <= self.most:
            save_tensors(self._path(name), tensors)
            self._size += size

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"

    def _make_room(self, size: int) -> None:
        with FileLock(self.folder / "lock"):
            files = sorted(self._files())  # by the time of their last use
            self._size = sum(each for _, each, _ in files)
            for used, each, path in files:
                if self._size + size <= self.most or used >= self._began:
                    break
                with suppress(OSError):
                    path.unlink()
                self._size -= each

    def _files(self) -> list[tuple[int, int, Path]]:
        """Return time of last use (ns), size and path of all files."""
        found = []
        for path in self.folder.rglob(f"*{_SUFFIX}"):
            with suppress(OSError):
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, path))
        return found
