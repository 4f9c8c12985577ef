"""Pictures that stand in records: a few in memory, all further ones in a file that vanishes with the process."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

IN_MEMORY = 256 * 2**20
"""Bytes of the pictures that are kept in memory."""


class EmbeddedStore:
    """Contents by key. Those beyond :data:`IN_MEMORY` lie in a nameless file in a folder, or the system's for such."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._held: dict[str, bytes] = {}
        self._places: dict[str, tuple[int, int]] = {}  # where it begins, and its length
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._lock = threading.Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._held or key in self._places

    def __iter__(self) -> Iterator[str]:
        yield from (*self._held, *self._places)

    def __len__(self) -> int:
        return len(self._held) + len(self._places)

    def __setitem__(self, key: str, content: bytes) -> None:
        if self._bytes + len(content) <= IN_MEMORY:
            self._bytes += len(content)
            self._held[key] = content
            return
        with self._lock:
            if self._file is None:
                if self.folder is not None:
                    self.folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - open as long as this is
            place = self._file.seek(0, 2)
            self._file.write(content)
            self._places[key] = (place, len(content))

    def __getitem__(self, key: str) -> bytes:
        if key in self._held:
            return self._held[key]
        place, length = self._places[key]
        with self._lock:
            assert self._file is not None
            self._file.seek(place)
            return self._file.read(length)
