"""What readers of Arrow's tables share: the library, its errors, bounds, and columns that name classes by numbers."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedmosaic.data.record_files import Entry
from fedmosaic.data.texts import quoted
from fedmosaic.errors import DataError

ROWS = 64
"""Made into Python's objects at a time; each may hold images."""

_MOST, _RATIO = 4 * 2**30, 200  # bytes that a file may unpack to, whatever its size, and times its size


def library(name: str, path: Path) -> Any:
    """Return a module of pyarrow.

    Args:
        name: below ``pyarrow``.
        path: what is to be read.

    Raises:
        DataError: pyarrow is not installed.
    """
    try:
        return importlib.import_module(f"pyarrow.{name}")
    except ModuleNotFoundError:
        raise DataError(f"{path} needs pyarrow, which is not installed: pip install 'fedmosaic[parquet]'") from None


@contextmanager
def told(path: Path, kind: str) -> Iterator[None]:
    """Turn pyarrow's errors into one line.

    Args:
        path: the file.
        kind: what it should be.

    Raises:
        DataError: in place of an error in the block.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # pyarrow raises its own, and what Python has for a case: ValueError, KeyError, ...
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path}: no readable {kind} ({reason}); copy it again") from error


def rows(path: Path, batches: Iterator[Any], names: Mapping[str, list[str]], *, start: int = 0) -> Iterator[Entry]:
    """Yield the rows of tables as records.

    Args:
        path: their file.
        batches: pyarrow's record batches, read one by one.
        names: column -> names of its classes.
        start: number of the first row.

    Raises:
        DataError: the file unpacks to far more than it holds.
    """
    number, unpacked, most = start, 0, max(_MOST, _RATIO * path.stat().st_size)
    for batch in batches:
        for first in range(0, batch.num_rows, ROWS):
            part = batch.slice(first, ROWS)
            found = part.to_pylist()
            # A column may hold numbers of the texts of a dictionary; the texts count as often as they stand there.
            texts = sum(len(cell) for row in found for cell in row.values() if isinstance(cell, str | bytes))
            unpacked += max(part.nbytes, texts)
            if unpacked > most:
                raise DataError(
                    f"{path}, record {number}: the file unpacks to more than {most:,} bytes, {_RATIO} times its size, "
                    "and may be made to fill the memory; write it anew without compression if it is what it should be"
                )
            for row in found:
                yield _entry(f"record {number}", row, names)
                number += 1


def class_names(schema: Any) -> dict[str, list[str]]:
    """Return, for each column that Hugging Face's ``ClassLabel`` describes, the names of its classes.

    Args:
        schema: of a pyarrow table.
    """
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        kinds = {key: kind["names"] for key, kind in features.items() if isinstance(kind, dict) and "names" in kind}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {key: names for key, names in kinds.items() if isinstance(names, list) and set(map(type, names)) == {str}}


def _entry(place: str, row: dict[str, Any], names: Mapping[str, list[str]]) -> Entry:
    """Return a row with the names of its classes; a number that stands for none, as -1 does, is its fault."""
    classes = {key: cell for key, cell in row.items() if key in names and isinstance(cell, int)}
    for key, cell in classes.items():
        if not 0 <= cell < len(names[key]):
            known = f"expected 0 to {len(names[key]) - 1}, for {quoted(names[key])}"
            return Entry(place, None, f"its {key!r} is {cell}, which is no class; {known}")
    return Entry(place, row | {key: names[key][cell] for key, cell in classes.items()})
