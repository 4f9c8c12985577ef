"""``csv``: tables as text, with commas, semicolons or tabs; the first line names the columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from fedmosaic.data.record_files import Entry
from fedmosaic.data.texts import quoted
from fedmosaic.errors import DataError

_SIGNS = ("\t", ",", ";")
_LONGEST_CELL = 64 * 2**20  # characters; an image may stand in a cell


class Delimited:
    """UTF-8 text whose first line has one of the signs between at least two names."""

    name = "csv"

    @classmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Return whether the first line names columns. See :meth:`Reader.recognises`."""
        first = head.removeprefix(b"\xef\xbb\xbf").lstrip().splitlines()[:1]
        return (
            bool(first)
            and b"\x00" not in head
            and first[0][:1] not in b"{[<"
            and bool(_sign(first[0].decode("utf-8", "replace")))
        )

    @classmethod
    def entries(cls, path: Path) -> Iterator[Entry]:
        """Yield the rows; empty cells are None. See :meth:`Reader.entries`."""
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            sign = _sign(file.readline())
            file.seek(0)
            rows = csv.reader(file, delimiter=sign, strict=True)
            names = [name.strip() for name in next(rows, [])]
            if "" in names or len(set(names)) < len(names):
                raise DataError(
                    f"{path}: the first line is {quoted(names)}; expected a name of its own for each column"
                )
            number = -1
            try:
                for number, row in enumerate(row for row in rows if row):
                    place = f"record {number} (line {rows.line_num})"
                    if len(row) == len(names):
                        yield Entry(place, {name: cell or None for name, cell in zip(names, row, strict=True)})
                    else:
                        yield Entry(place, None, f"it has {len(row)} cells, the first line names {len(names)}")
            except csv.Error as error:
                fault = f"no valid row ({error}); what follows cannot be read: check the quotes"
                yield Entry(f"record {number + 1} (line {rows.line_num})", None, fault)


def _sign(line: str) -> str:
    """Return the sign that a line has most; empty if it has none."""
    best = max(_SIGNS, key=line.count)
    return best if best in line else ""
