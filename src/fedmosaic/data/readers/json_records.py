"""``json``: JSON lines, which are streamed, or one JSON list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedmosaic.data.record_files import Entry, stream_records


class JsonRecords:
    """Text that begins with an object or a list."""

    name = "json"

    @classmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Return whether the first character is ``{`` or ``[``. See :meth:`Reader.recognises`."""
        return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")

    @classmethod
    def entries(cls, path: Path) -> Iterator[Entry]:
        """Yield the records. See :meth:`Reader.entries`."""
        yield from stream_records(path)
