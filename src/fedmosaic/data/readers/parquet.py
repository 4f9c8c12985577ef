"""``parquet``: read in batches by pyarrow, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedmosaic.data.readers.arrow import class_names, library, rows
from fedmosaic.data.record_files import Entry
from fedmosaic.errors import DataError

_ROWS = 64  # read at a time; each may hold images


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
        try:
            with parquet.ParquetFile(path) as file:
                yield from rows(file.iter_batches(batch_size=_ROWS), class_names(file.schema_arrow))
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise DataError(f"{path}: no readable Parquet ({str(error).splitlines()[0]}); copy it again") from error
