"""Files of records: a JSON list, or JSON lines. Errors are attributed to single records."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fedmosaic.data.json_list import elements
from fedmosaic.data.texts import quoted
from fedmosaic.errors import DataError

_HEAD = 4096  # bytes that tell a list from lines
_LONGEST_LINE = 2**28  # bytes of a JSON line; a longer one is cut, which makes it a fault

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a file.

    Attributes:
        place: its position in the file, for errors.
        value: the decoded JSON; None where there is a fault.
        fault: why it cannot be decoded; empty if it can.
    """

    place: str
    value: object
    fault: str = ""


def read_records(path: Path) -> list[Entry]:
    """Return the records of a file: a JSON list or JSON lines, whatever the file's extension; UTF-8.

    A record that is no valid JSON, that repeats a key or that is nested too deeply is returned with its fault.

    Args:
        path: the file.

    Raises:
        DataError: the file is missing, not readable, not UTF-8 at all, or holds no records.
    """
    text = _text(path)
    if not text.strip():
        raise DataError(f"{path}: the file is empty; expected a JSON list of records, or one record a line")
    try:
        table = _parsed(text)
    except (ValueError, RecursionError):
        return list(_one_by_one(text))
    if isinstance(table, dict) and table.keys() & {"conversations", "messages"}:
        table = [table]  # JSON lines with a single line
    if not isinstance(table, list) or not table:
        length = len(table) if isinstance(table, (dict, list, str)) else 0
        raise DataError(
            f"{path}: expected a JSON list of records, or one record a line, found {type(table).__name__} "
            f"of length {length}"
        )
    return [Entry(f"record {i}", value) for i, value in enumerate(table)]


def stream_records(path: Path) -> Iterator[Entry]:
    """Yield the records of a file one by one, without holding the file.

    Args:
        path: the file.

    Raises:
        DataError: as :func:`read_records`.
    """
    if _begins_list(path):
        yield from _stream_list(path)
        return
    first = next(_read_lines(path), ("", ""))[1]
    entry = _entry("", first)
    if first.lstrip()[:1] != "{" or (entry.fault and not _ends_as_object(first)):
        yield from read_records(path)
        return
    for i, (where, line) in enumerate(_read_lines(path)):
        yield _entry(f"record {i}{where}", line)


def _begins_list(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file and its rights") from error
    return head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"["


def _stream_list(path: Path) -> Iterator[Entry]:
    """Yield the elements of a JSON list; from one that is damaged on, what :func:`read_records` makes of the file."""
    number = 0
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        left = elements(file, _unique_keys)
        while True:
            try:
                value = next(left)
            except StopIteration as stop:
                rest = stop.value
                break
            yield Entry(f"record {number}", value)
            number += 1
    if rest is None:
        yield from islice(read_records(path), number, None)
    elif rest:
        yield Entry(f"record {number}", None, f"after the list comes more text: {quoted(rest)}")


def _ends_as_object(line: str) -> bool:
    """Return whether a line that is no JSON was meant as a whole object, rather than begins one of several lines."""
    return line.rstrip().endswith("}")


def _read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield place and text of each line that is not empty."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors="surrogateescape")
                if text.strip():
                    yield f" (line {number})", text
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file and its rights") from error


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; each task needs a train and a test file of the same name") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file and its rights") from error
    encoding = json.detect_encoding(content)
    if not encoding.startswith("utf-8"):
        raise DataError(f"{path}: seems to be {encoding.upper()}, or damaged; save it as UTF-8")
    # A byte that is no UTF-8 becomes half of a surrogate pair, which the record that holds it is refused for.
    return content.decode("utf-8-sig", errors="surrogateescape")


def _parsed(text: str) -> object:
    return json.loads(text, object_pairs_hook=_unique_keys)


def _unique_keys(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Return an object; JSON's default would silently keep the last of two equal keys."""
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {quoted(next(key for key in keys if keys.count(key) > 1))} stands twice")
    return table


def _one_by_one(text: str) -> Iterator[Entry]:
    """Decode the records of a file that is no JSON as a whole one by one."""
    first, _, rest = text.lstrip().partition("\n")
    lines = not first.startswith("[") or (bool(rest.strip()) and not _entry("", first).fault)
    pieces = _lines(text) if lines else _elements(text)
    for i, (where, piece, fault) in enumerate(pieces):
        place = f"record {i}{where}"
        yield Entry(place, None, fault) if fault else _entry(place, piece)


def _entry(place: str, text: str) -> Entry:
    try:
        return Entry(place, _parsed(text))
    except RecursionError:
        return Entry(place, None, "it is nested too deeply; expected an object with 'conversations'")
    except ValueError as error:
        return Entry(place, None, f"not valid JSON ({error}); the file may be truncated: copy it again")


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield place, text and fault of each line that is not empty; only a line feed ends one."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f" (line {number})", line, ""


def _elements(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield place, text and fault of each element of a JSON list, found by its brackets and commas alone."""
    depth, start = 0, 0
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if mark in ("[", "{"):
            depth += 1
            start = token.end() if depth == 1 else start
        elif mark in ("]", "}"):
            depth -= 1
        if depth == 0 or (depth == 1 and mark == ","):
            fault = "" if mark in (",", "]") else f"the list ends with {mark}"
            yield "", text[start : token.start()], fault
            start = token.end()
        if depth == 0:
            break
    if depth:
        yield "", "", "the file ends before the list does, it is truncated: copy it again"
    elif text[start:].strip():
        yield "", "", f"after the list comes more text: {quoted(text[start:].strip())}"
