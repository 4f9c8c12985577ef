"""What readers of Arrow's tables share: the library, and columns that name classes by numbers."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedmosaic.data.record_files import Entry
from fedmosaic.errors import DataError


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


def rows(batches: Iterator[Any], names: Mapping[str, list[str]], *, start: int = 0) -> Iterator[Entry]:
    """Yield the rows of tables as records.

    Args:
        batches: pyarrow's record batches, read one by one.
        names: column -> names of its classes.
        start: number of the first row.
    """
    number = start
    for batch in batches:
        for row in batch.to_pylist():
            value = {key: _named(cell, names.get(key)) for key, cell in row.items()}
            yield Entry(f"record {number}", value)
            number += 1


def class_names(schema: Any) -> dict[str, list[str]]:
    """Return, for each column that Hugging Face's ``ClassLabel`` describes, the names of its classes.

    Args:
        schema: of a pyarrow table.
    """
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {key: kind["names"] for key, kind in features.items() if isinstance(kind, dict) and "names" in kind}


def _named(cell: object, names: list[str] | None) -> object:
    known = names is not None and isinstance(cell, int) and 0 <= cell < len(names)
    return names[cell] if names is not None and isinstance(cell, int) and known else cell
