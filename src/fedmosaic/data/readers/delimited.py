"""``csv``: tables as text, with commas, semicolons or tabs; the first line names the columns."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from pathlib import Path

from fedmosaic.data.record_files import Entry
from fedmosaic.data.texts import quoted
from fedmosaic.errors import DataError

_HEAD = 4096  # characters that tell the sign
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SIGNS = ("\t", ",", ";")
_LONGEST_CELL = 64 * 2**20  # characters; an image may stand in a cell


class Delimited:
    """UTF-8 text whose first line has one of the signs between at least two names."""

    name = "csv"

    @classmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Return whether the first line names columns. See :meth:`Reader.recognises`."""
        first = head.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n").decode("utf-8", "replace")
        return first[:1] not in ("", "{", "[", "<") and "\x00" not in first and bool(_sign(first))

    @classmethod
    def entries(cls, path: Path) -> Iterator[Entry]:
        """Yield the rows; empty cells are None. See :meth:`Reader.entries`."""
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            sign = _sign(file.read(_HEAD).lstrip("\r\n"))
            file.seek(0)
            rows = csv.reader(file, delimiter=sign, strict=True)
            number = -1
            try:
                names = [name.strip() for name in next((row for row in rows if row), [])]
                if "" in names or len(set(names)) < len(names):
                    raise DataError(
                        f"{path}: the first line is {quoted(names)}; expected a name of its own for each column"
                    )
                for number, row in enumerate(row for row in rows if any(row)):
                    place = f"record {number} (line {rows.line_num})"
                    if len(row) == len(names):
                        yield Entry(place, {name: cell or None for name, cell in zip(names, row, strict=True)})
                    else:
                        yield Entry(place, None, f"it has {len(row)} cells, the first line names {len(names)}")
            except csv.Error as error:
                fault = f"no valid row ({error}); what follows cannot be read: check the quotes"
                yield Entry(f"record {number + 1} (line {rows.line_num})", None, fault)


def _sign(text: str) -> str:
    """Return the sign that the first line has most outside quotes; empty if it has none."""
    line = _QUOTED.sub("", text).splitlines()[:1]
    best = max(_SIGNS, key="".join(line).count)
    return best if line and best in line[0] else ""
