"""``arrow``: a folder that Hugging Face's ``Dataset.save_to_disk`` wrote, read in batches by pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from fedmosaic.data.readers.arrow import class_names, library, rows, told
from fedmosaic.data.record_files import Entry
from fedmosaic.errors import DataError


class ArrowFolder:
    """Folders with a ``state.json`` that lists Arrow files."""

    name = "arrow"

    @classmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Return whether the folder has such a file. See :meth:`Reader.recognises`."""
        return path.is_dir() and (path / "state.json").is_file()

    @classmethod
    def entries(cls, path: Path) -> Iterator[Entry]:
        """Yield the rows of all files in order. See :meth:`Reader.entries`."""
        ipc = library("ipc", path)
        try:
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            names = [Path(file["filename"]).name for file in state["_data_files"]]
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{path / 'state.json'} lists no Arrow files ({error}); save the dataset again") from error
        if state.get("_indices_data_files"):
            raise DataError(f"{path}: rows are chosen by an index; save it again after dataset.flatten_indices()")
        number = 0
        for name in names:
            where = path / name
            with told(where, "Arrow file"), where.open("rb") as file, ipc.open_stream(file) as table:
                for entry in rows(where, iter(table), class_names(table.schema), start=number):
                    yield entry
                    number += 1
