"""What is understood of a file or folder of own data, and what cannot be used of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmosaic.data.files import Fault, FilesBenchmark, Understood
from fedmosaic.data.sample import Task
from fedmosaic.errors import DataError

_NUMBER = re.compile(r"record (\d+)\b")


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
        problems: one line each, with file and record, or all records of a file that have the same.
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
    return DataReport(tuple(files), (*_together(benchmark.faults), *stops), tuple(benchmark.notes), benchmark)


def _together(faults: Sequence[Fault]) -> Iterator[str]:
    """Yield a line for each problem of a file, with all records that have it."""
    places: dict[tuple[Path, str], list[str]] = {}
    for fault in faults:
        places.setdefault((fault.path, fault.reason), []).append(fault.place)
    for (path, reason), found in places.items():
        more = f" and {len(found) - 1} more, {_ranges(found)}" if len(found) > 1 else ""
        yield f"{path}, {found[0]}{more}: {reason}"


def _ranges(places: Sequence[str]) -> str:
    """Return the numbers of records in short: 0-4, 7, 9-11; places without numbers as they are."""
    matches = [_NUMBER.match(place) for place in places]
    numbers = [int(match[1]) for match in matches if match]
    if len(numbers) < len(places):
        return ", ".join(places)
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return "records " + ", ".join("-".join(map(str, run)) for run in runs)
