"""``parquet``: read in batches by pyarrow, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedmosaic.data.readers.arrow import ROWS, class_names, library, rows, told
from fedmosaic.data.record_files import Entry

_AT_ONCE = 2**31  # bytes that rows may need at a time


class Parquet:
    """Files that begin with PAR1."""

    name = "parquet"

    @classmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Return whether the file begins as Parquet does. See :meth:`Reader.recognises`."""
        return head.startswith(b"PAR1")

    @classmethod
    def entries(cls, path: Path) -> Iterator[Entry]:
        """Yield the rows. See :meth:`Reader.entries`."""
        parquet = library("parquet", path)
        with told(path, "Parquet"), parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=_rows_at_once(file.metadata))
            yield from rows(path, batches, class_names(file.schema_arrow))


def _rows_at_once(metadata: Any) -> int:
    """Return so many rows that they fit into memory even if each repeats the longest value that there may be."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    longest = max((column.total_uncompressed_size for column in columns if column.has_dictionary_page), default=0)
    return int(min(ROWS, max(1, _AT_ONCE // max(1, longest))))
