"""What is understood of a file or folder of own data, and what cannot be used of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedmosaic.data.files import FilesBenchmark, Understood
from fedmosaic.data.sample import Task
from fedmosaic.errors import DataError


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was understood of the files of one name.

    Attributes:
        name: of the files.
        understood: readers, formats, records.
        tasks: in the files; none if they cannot be used at all.
    """

    name: str
    understood: Understood
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class DataReport:
    """What was understood of a file or folder.

    Attributes:
        files: by name.
        problems: one line each, with file and record.
        notes: what is no problem but should be known.
        benchmark: the data, without what cannot be used.
    """

    files: tuple[FileReport, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    benchmark: FilesBenchmark


def check_data(path: Path, *, columns: Mapping[str, str] | None = None) -> DataReport:
    """Read all records of a file or folder, decode all images, and return what was understood and what was not.

    Args:
        path: the file or folder.
        columns: what question, answer, ... are called in the data.

    Raises:
        DataError: there are no data at all.
        SettingsError: a column has no meaning.
    """
    benchmark = FilesBenchmark(path, skip_bad=True, columns=columns)
    files, stops = [], []
    for name in benchmark.file_names():
        tasks: tuple[Task, ...] = ()
        try:
            tasks = tuple(benchmark.tasks_of(name).values())
        except DataError as error:
            stops.append(str(error))
        files.append(FileReport(name, benchmark.understood.get(name, Understood()), tasks))
    return DataReport(tuple(files), (*benchmark.skipped, *stops), tuple(benchmark.notes), benchmark)
